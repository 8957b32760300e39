"""Curves: what is drawn is what was measured."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skae import (
    AutoencoderTransformer,
    LatentSizeCV,
    LatentSizeDisplay,
    LossCurveDisplay,
    VAEGenerator,
    reconstruction_error,
)

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

SIZES = [2, 4, 8, 16]


@pytest.fixture
def search():
    """What from_cv reads of a LatentSizeCV."""
    results = {
        "param_n_components": np.ma.array(SIZES),
        "mean_test_error": np.array([9.0, 6.0, 4.0, 3.5]),
        "std_test_error": np.array([1.0, 0.8, 0.4, 0.6]),
        "mean_pca_error": np.array([12.0, 9.0, 6.0, 4.0]),
    }
    return SimpleNamespace(cv_results_=results, best_params_={"n_components": 8}, n_splits_=4)


def tick_labels(display):
    display.figure_.canvas.draw()
    low, high = display.ax_.get_xlim()
    return [label.get_text() for label in display.ax_.get_xticklabels() if low <= label.get_position()[0] <= high]


def legend_labels(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_the_line_is_the_held_out_error_of_each_truncated_estimator(ordered, split):
    display = LatentSizeDisplay.from_estimator(ordered, split[1])
    np.testing.assert_array_equal(display.line_.get_xdata(), [1, 2, 3, 4, 5])
    expected = [reconstruction_error(ordered.truncate(size), split[1]) for size in range(1, 6)]
    np.testing.assert_allclose(display.line_.get_ydata(), expected)
    assert display.chosen is display.pca_line_ is display.band_ is display.chosen_line_ is None
    assert legend_labels(display) == ["autoencoder"]


def test_pcas_line_is_that_of_a_pca_of_each_size(ordered, split):
    display = LatentSizeDisplay.from_estimator(ordered, split[1], X_train=split[0])
    expected = [reconstruction_error(PCA(size, svd_solver="full").fit(split[0]), split[1]) for size in range(1, 6)]
    np.testing.assert_array_equal(display.pca_line_.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(display.pca_line_.get_ydata(), expected)
    assert legend_labels(display) == ["autoencoder", "PCA"]


def test_pcas_line_ends_where_pca_has_no_more_components(ordered, split):
    display = LatentSizeDisplay.from_estimator(ordered, split[1], X_train=split[0][:3])
    np.testing.assert_array_equal(display.pca_line_.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(display.line_.get_xdata(), [1, 2, 3, 4, 5])


@pytest.mark.usefixtures("default_networks")
def test_tables_are_drawn_as_arrays_are(ordered, split):
    from_arrays = LatentSizeDisplay.from_estimator(ordered, split[1], X_train=split[0])
    train, test = (pd.DataFrame(part, columns=[f"pixel{i}" for i in range(64)]) for part in split)
    fitted = AutoencoderTransformer(5, ordered=True, max_iter=3, random_state=0).set_output(transform="pandas")
    display = LatentSizeDisplay.from_estimator(fitted.fit(train), test, X_train=train)
    np.testing.assert_allclose(display.errors, from_arrays.errors, rtol=1e-5)
    np.testing.assert_allclose(display.pca_errors, from_arrays.pca_errors)


def test_a_search_is_drawn_with_a_band_of_one_standard_error_and_its_choice(search):
    display = LatentSizeDisplay.from_cv(search)
    results = search.cv_results_
    np.testing.assert_array_equal(display.line_.get_xdata(), SIZES)
    np.testing.assert_array_equal(display.line_.get_ydata(), results["mean_test_error"])
    np.testing.assert_array_equal(display.pca_line_.get_xdata(), SIZES)
    np.testing.assert_array_equal(display.pca_line_.get_ydata(), results["mean_pca_error"])
    corners = {tuple(np.round(corner, 9)) for corner in display.band_.get_paths()[0].vertices}
    half = results["std_test_error"] / np.sqrt(3)  # of four folds, with the deviation that divides by three
    for size, low, high in zip(
        SIZES, results["mean_test_error"] - half, results["mean_test_error"] + half, strict=True
    ):
        assert {(size, round(low, 9)), (size, round(high, 9))} <= corners
    np.testing.assert_array_equal(display.chosen_line_.get_xdata(), [8, 8])
    assert legend_labels(display) == ["autoencoder", "± one standard error", "PCA", "chosen size: 8"]


def test_a_search_of_a_vae_is_drawn_by_its_loss():
    search = LatentSizeCV(VAEGenerator(max_iter=0), (1, 3), cv=2, refit=False).fit(load_iris().data[::3])
    display = LatentSizeDisplay.from_cv(search)
    np.testing.assert_array_equal(display.line_.get_ydata(), -search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(display.errors_std, search.cv_results_["std_test_score"])
    assert display.pca_line_ is None
    assert display.ax_.get_ylabel() == "held-out loss (negative score)"
    assert display.ax_.get_ylim()[0] != 0
    assert legend_labels(display)[0] == "VAE"


def test_the_display_holds_arrays():
    display = LatentSizeDisplay(sizes=[1, 2], errors=[2.0, 1.0], pca_errors=[3.0, 2.0], errors_std=(0.1, 0.2), chosen=2)
    for name in ("sizes", "errors", "pca_sizes", "pca_errors", "errors_std"):
        assert isinstance(getattr(display, name), np.ndarray), name
    np.testing.assert_array_equal(display.pca_sizes, [1, 2])
    bare = LatentSizeDisplay(sizes=[1, 2], errors=[2.0, 1.0])
    assert bare.pca_sizes is bare.pca_errors is bare.errors_std is bare.chosen is None


@pytest.mark.parametrize(
    ("sizes", "scale", "labels"),
    [
        ([3], "linear", ["3"]),
        ([1, 2, 3, 4], "linear", ["1", "2", "3", "4"]),
        ([2, 4, 8], "linear", ["2", "4", "8"]),
        ([1, 2, 5], "log", ["1", "2", "5"]),
        (range(1, 21), "log", ["1", "2", "4", "8", "16"]),
        (range(3, 65), "log", ["4", "8", "16", "32", "64"]),
    ],
)
def test_sizes_that_span_more_than_a_factor_of_four_stand_on_a_logarithmic_axis(sizes, scale, labels):
    display = LatentSizeDisplay(sizes=list(sizes), errors=[1 / size for size in sizes]).plot()
    assert display.ax_.get_xscale() == scale
    assert tick_labels(display) == labels


@pytest.mark.parametrize("errors", [[np.nan, np.nan], [np.inf, np.inf], [0.0, 0.0]])
def test_errors_without_a_scale_are_drawn(errors):
    assert LatentSizeDisplay(sizes=[1, 2], errors=errors).plot().ax_ is not None


def test_many_sizes_on_a_linear_axis_have_whole_ticks():
    display = LatentSizeDisplay(sizes=np.arange(10, 41), errors=np.ones(31)).plot()
    labels = tick_labels(display)
    assert 3 <= len(labels) <= 12
    assert all(label.isdigit() for label in labels)


def test_errors_stand_on_a_linear_axis_from_zero(search):
    display = LatentSizeDisplay.from_cv(search)
    assert display.ax_.get_yscale() == "linear"
    assert display.ax_.get_ylim()[0] == 0
    assert display.ax_.get_ylim()[1] > 12
    assert display.ax_.get_ylabel() == "held-out reconstruction error"


def test_the_two_lines_differ_in_colour_and_in_dashes(search):
    display = LatentSizeDisplay.from_cv(search)
    assert to_hex(display.line_.get_color()) == "#0072b2"
    assert to_hex(display.pca_line_.get_color()) == "#d55e00"
    assert display.line_.get_linestyle() == "-"
    assert display.pca_line_.get_linestyle() == "--"
    assert display.chosen_line_.get_linestyle() == ":"


def test_it_draws_where_it_is_told(ordered, split, search):
    figure, axes = plt.subplots(1, 2)
    for ax, display in [
        (axes[0], LatentSizeDisplay.from_estimator(ordered, split[1], ax=axes[0])),
        (axes[1], LatentSizeDisplay.from_cv(search, ax=axes[1])),
    ]:
        assert display.ax_ is display.line_.axes is ax
        assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]


def test_a_second_display_in_the_same_axes_is_seen_whole(search):
    display = LatentSizeDisplay.from_cv(search)
    higher = LatentSizeDisplay(sizes=SIZES, errors=[90.0, 60.0, 40.0, 35.0]).plot(display.ax_)
    assert higher.ax_.get_ylim()[0] == 0
    assert higher.ax_.get_ylim()[1] > 90


def test_plot_returns_the_display_and_draws_anew(search):
    display = LatentSizeDisplay.from_cv(search)
    first = display.ax_
    assert display.plot() is display
    assert display.ax_ is not first


def test_an_estimator_without_an_order_is_refused(split):
    model = AutoencoderTransformer(2, max_iter=0, random_state=0).fit(split[0])
    with pytest.raises(ValueError, match="ordered=True"):
        LatentSizeDisplay.from_estimator(model, split[1])


def test_an_estimator_that_cannot_be_cut_is_refused(split):
    with pytest.raises(TypeError, match=r"PCA has no truncate.*from_cv"):
        LatentSizeDisplay.from_estimator(PCA(2).fit(split[0]), split[1])


def test_an_estimator_that_is_not_fitted_is_refused(split):
    with pytest.raises(NotFittedError):
        LatentSizeDisplay.from_estimator(AutoencoderTransformer(2, ordered=True), split[1])


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        LatentSizeDisplay(sizes=[1], errors=[1.0]).plot()


def test_curves_are_the_estimators_and_the_best_epoch_is_the_one_kept(autoencoder):
    display = LossCurveDisplay.from_estimator(make_pipeline(autoencoder))
    np.testing.assert_array_equal(display.train_line_.get_xdata(), range(1, 9))
    np.testing.assert_array_equal(display.train_line_.get_ydata(), autoencoder.loss_curve_)
    np.testing.assert_array_equal(display.validation_line_.get_ydata(), autoencoder.validation_loss_curve_)
    assert set(display.start_line_.get_ydata()) == {autoencoder.linear_loss_}
    np.testing.assert_array_equal(display.best_point_.get_ydata(), [min(autoencoder.validation_loss_curve_)])
    np.testing.assert_array_equal(display.best_point_.get_xdata(), [display.best_epoch])
    assert legend_labels(display) == [
        "training set", "validation set", "linear start", f"best epoch: {display.best_epoch}",
    ]  # fmt: skip


def test_a_start_that_nothing_beat_is_the_best(vae):
    display = LossCurveDisplay(train_losses=[4.0, 3.0], validation_losses=[2.5, np.nan], start_loss=2.5).plot()
    assert display.best_epoch == 0
    np.testing.assert_array_equal(display.best_point_.get_xydata(), [[0, 2.5]])
    assert legend_labels(display)[-1] == "best: the start"
    assert LossCurveDisplay.from_estimator(vae).ax_.get_ylabel() == "loss (nats a sample)"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_of_a_search_the_best_estimator_is_drawn(curve):
    search = LatentSizeCV(VAEGenerator(max_iter=2, random_state=0), [1], cv=2).fit(curve)
    display = LossCurveDisplay.from_estimator(make_pipeline(search))
    assert display.ax_.get_ylabel() == "loss (nats a sample)"
    np.testing.assert_array_equal(display.train_line_.get_ydata(), search.best_estimator_.loss_curve_)


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"early_stopping": False}, ["training set", "linear start"]),
        ({"start": "random"}, ["training set", "validation set", "best epoch: 2"]),
        ({"max_iter": 0}, ["training set", "validation set", "linear start", "best: the start"]),
    ],
)
def test_what_a_fit_has_not_is_not_drawn(split, options, labels):
    model = AutoencoderTransformer(2, **{"max_iter": 2, "random_state": 0} | options).fit(split[0])
    assert legend_labels(LossCurveDisplay.from_estimator(model)) == labels


def test_losses_that_span_a_factor_of_four_stand_on_a_logarithmic_axis():
    assert LossCurveDisplay(train_losses=[9, 2]).plot().ax_.get_yscale() == "log"
    assert LossCurveDisplay(train_losses=[9, 3]).plot().ax_.get_yscale() == "linear"
    assert LossCurveDisplay(train_losses=[9, -2]).plot().ax_.get_yscale() == "linear"
