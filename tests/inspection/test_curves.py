"""Figures: what is drawn is what was measured."""

import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderTransformer,
    AutoencoderTransformerCV,
    LatentSizeDisplay,
    LatentSpaceDisplay,
    LatentTraversalDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
    SampleDisplay,
    VAEGenerator,
    reconstruction_error,
)

mpl.use("agg")

SIZES = [2, 4, 8, 16]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows(digits):
    return digits[:150], digits[150:200]


@pytest.fixture(scope="module")
def ordered(rows):
    return AutoencoderTransformer(5, ordered=True, max_iter=3, random_state=0).fit(rows[0])


@pytest.fixture
def search():
    """What from_cv reads of an AutoencoderTransformerCV."""
    results = {
        "n_components": np.array(SIZES),
        "mean_test_error": np.array([9.0, 6.0, 4.0, 3.5]),
        "std_test_error": np.array([1.0, 0.8, 0.4, 0.6]),
        "mean_pca_error": np.array([12.0, 9.0, 6.0, 4.0]),
    }
    return SimpleNamespace(cv_results_=results, n_components_=8, n_splits_=4)


def tick_labels(display):
    display.figure_.canvas.draw()
    low, high = display.ax_.get_xlim()
    return [label.get_text() for label in display.ax_.get_xticklabels() if low <= label.get_position()[0] <= high]


def legend_labels(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_the_line_is_the_held_out_error_of_each_truncated_estimator(ordered, rows):
    display = LatentSizeDisplay.from_estimator(ordered, rows[1])
    np.testing.assert_array_equal(display.line_.get_xdata(), [1, 2, 3, 4, 5])
    expected = [reconstruction_error(ordered.truncate(size), rows[1]) for size in range(1, 6)]
    np.testing.assert_allclose(display.line_.get_ydata(), expected)
    assert display.chosen is display.pca_line_ is display.band_ is display.chosen_line_ is None
    assert legend_labels(display) == ["autoencoder"]


def test_pcas_line_is_that_of_a_pca_of_each_size(ordered, rows):
    display = LatentSizeDisplay.from_estimator(ordered, rows[1], X_train=rows[0])
    expected = [reconstruction_error(PCA(size, svd_solver="full").fit(rows[0]), rows[1]) for size in range(1, 6)]
    np.testing.assert_array_equal(display.pca_line_.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(display.pca_line_.get_ydata(), expected)
    assert legend_labels(display) == ["autoencoder", "PCA"]


def test_pcas_line_ends_where_pca_has_no_more_components(ordered, rows):
    display = LatentSizeDisplay.from_estimator(ordered, rows[1], X_train=rows[0][:3])
    np.testing.assert_array_equal(display.pca_line_.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(display.line_.get_xdata(), [1, 2, 3, 4, 5])


def test_tables_are_drawn_as_arrays_are(ordered, rows):
    from_arrays = LatentSizeDisplay.from_estimator(ordered, rows[1], X_train=rows[0])
    train, test = (pd.DataFrame(part, columns=[f"pixel{i}" for i in range(64)]) for part in rows)
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


def test_it_draws_where_it_is_told(ordered, rows, search):
    figure, axes = plt.subplots(1, 2)
    for ax, display in [
        (axes[0], LatentSizeDisplay.from_estimator(ordered, rows[1], ax=axes[0])),
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


def test_an_estimator_without_an_order_is_refused(rows):
    model = AutoencoderTransformer(2, max_iter=0, random_state=0).fit(rows[0])
    with pytest.raises(ValueError, match="ordered=True"):
        LatentSizeDisplay.from_estimator(model, rows[1])


def test_an_estimator_that_cannot_be_cut_is_refused(rows):
    with pytest.raises(TypeError, match=r"PCA has no truncate.*from_cv"):
        LatentSizeDisplay.from_estimator(PCA(2).fit(rows[0]), rows[1])


def test_an_estimator_that_is_not_fitted_is_refused(rows):
    with pytest.raises(NotFittedError):
        LatentSizeDisplay.from_estimator(AutoencoderTransformer(2, ordered=True), rows[1])


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'skae\[compare\]'"):
        LatentSizeDisplay(sizes=[1], errors=[1.0]).plot()


# Losses of epochs.


@pytest.fixture(scope="module")
def vae(digits):
    labels = np.arange(150) % 3
    model = VAEGenerator(3, conditional=True, max_iter=2, early_stopping=False, random_state=0)
    return model.fit(digits[:150], labels)


@pytest.fixture(scope="module")
def autoencoder(digits):
    return AutoencoderTransformer(3, feature_shape=(1, 8, 8), max_iter=8, random_state=0).fit(digits[:500])


def test_curves_are_the_estimators_and_the_best_epoch_is_the_one_kept(autoencoder):
    display = LossCurveDisplay.from_estimator(make_pipeline(autoencoder))
    np.testing.assert_array_equal(display.train_line_.get_xdata(), range(1, 9))
    np.testing.assert_array_equal(display.train_line_.get_ydata(), autoencoder.loss_curve_)
    np.testing.assert_array_equal(display.validation_line_.get_ydata(), autoencoder.validation_loss_curve_)
    assert set(display.start_line_.get_ydata()) == {autoencoder.linear_loss_}
    np.testing.assert_array_equal(display.best_point_.get_ydata(), [autoencoder.best_loss_])
    np.testing.assert_array_equal(display.best_point_.get_xdata(), [display.best_epoch])
    assert legend_labels(display) == [
        "training rows", "held-out rows", "linear start", f"best epoch: {display.best_epoch}",
    ]  # fmt: skip


def test_a_start_that_nothing_beat_is_the_best(vae):
    display = LossCurveDisplay(train_losses=[4.0, 3.0], validation_losses=[2.5, np.nan], start_loss=2.5).plot()
    assert display.best_epoch == 0
    np.testing.assert_array_equal(display.best_point_.get_xydata(), [[0, 2.5]])
    assert legend_labels(display)[-1] == "best: the start"
    assert LossCurveDisplay.from_estimator(vae).ax_.get_ylabel() == "loss (nats a row)"


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"early_stopping": False}, ["training rows", "linear start"]),
        ({"start": "random"}, ["training rows", "held-out rows", "best epoch: 2"]),
        ({"max_iter": 0}, ["training rows", "held-out rows", "linear start", "best: the start"]),
    ],
)
def test_what_a_fit_has_not_is_not_drawn(rows, options, labels):
    model = AutoencoderTransformer(2, **{"max_iter": 2, "random_state": 0} | options).fit(rows[0])
    assert legend_labels(LossCurveDisplay.from_estimator(model)) == labels


def test_losses_that_span_a_factor_of_four_stand_on_a_logarithmic_axis():
    assert LossCurveDisplay(train_losses=[9, 2]).plot().ax_.get_yscale() == "log"
    assert LossCurveDisplay(train_losses=[9, 3]).plot().ax_.get_yscale() == "linear"
    assert LossCurveDisplay(train_losses=[9, -2]).plot().ax_.get_yscale() == "linear"


# Codes.


def codes_of(n_components, n=60):
    return np.random.RandomState(0).normal(size=(n, n_components))


def test_two_components_are_a_scatter_of_the_codes_of_each_class(autoencoder, rows):
    labels = np.arange(50) % 3
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(rows[0]), rows[1], labels)
    codes = PCA(2).fit(rows[0]).transform(rows[1])
    for label, points in zip(range(3), display.scatters_, strict=True):
        np.testing.assert_allclose(points.get_offsets(), codes[labels == label])
    assert len({tuple(points.get_facecolor()[0]) for points in display.scatters_}) == 3
    assert legend_labels(display) == ["0", "1", "2"]
    assert display.colorbar_ is None


def test_as_many_classes_as_are_taken_look_different():
    y = np.arange(98) % 49
    display = LatentSpaceDisplay.from_predictions(codes_of(2, 98), [f"class {i}" for i in y])
    looks = {(tuple(p.get_facecolor()[0]), p.get_paths()[0].vertices.tobytes()) for p in display.scatters_}
    assert len(looks) == 49
    with pytest.raises(ValueError, match=r"y has 50 classes.*49"):
        LatentSpaceDisplay(codes=codes_of(2, 50), y=[f"class {i}" for i in range(50)])


@pytest.mark.parametrize("y", [np.arange(60), np.arange(60) % 3 + 0.5])
def test_values_have_a_scale_of_colours(y):
    display = LatentSpaceDisplay.from_predictions(codes_of(2), y)
    (points,) = display.scatters_
    np.testing.assert_array_equal(points.get_array(), y)
    assert display.colorbar_.mappable is points
    assert display.classes is display.legend_ is None


def test_one_component_is_a_histogram_stacked_by_class():
    codes, y = codes_of(1), np.arange(60) % 2
    display = LatentSpaceDisplay.from_predictions(codes, y)
    counts = [[bar.get_height() for bar in bars] for bars in display.histograms_]
    edges = np.histogram_bin_edges(codes, bins=30)
    np.testing.assert_array_equal(counts, [np.histogram(codes[y == i], edges)[0] for i in (0, 1)])
    np.testing.assert_array_equal([bar.get_y() for bar in display.histograms_[1]], counts[0])
    assert not display.scatters_


@pytest.mark.parametrize(("n_components", "n_shown"), [(3, 3), (4, 4), (6, 4)])
def test_more_components_are_a_pair_plot_of_the_first_four(n_components, n_shown):
    codes = codes_of(n_components)
    display = LatentSpaceDisplay.from_predictions(codes)
    assert display.axes_.shape == (n_shown, n_shown)
    assert len(display.histograms_) == n_shown
    pairs = [(i, j) for i in range(n_shown) for j in range(i)]
    for (i, j), points in zip(pairs, display.scatters_, strict=True):
        assert points.axes is display.axes_[i, j]
        np.testing.assert_array_equal(points.get_offsets(), codes[:, [j, i]])
    assert [ax.axison for ax in display.axes_.flat] == np.tri(n_shown, dtype=bool).ravel().tolist()
    assert display.axes_[-1, 0].get_xlabel() == "component 1"


def test_a_column_of_labels_of_a_table_is_taken():
    frame = pd.DataFrame(codes_of(2), columns=["a", "b"])
    display = LatentSpaceDisplay.from_predictions(frame, pd.Series(["x", "y$"] * 30))
    assert legend_labels(display) == ["x", r"y\$"]


# Rows.


@pytest.fixture(params=["autoencoder", "vae", "pipeline"])
def model(request, autoencoder, vae, digits):
    if request.param == "pipeline":
        options = {"max_iter": 2, "early_stopping": False, "random_state": 0}
        return make_pipeline(StandardScaler(), AutoencoderTransformer(3, **options)).fit(digits[:150])
    return {"autoencoder": autoencoder, "vae": vae}[request.param]


def test_originals_stand_above_reconstructions_and_these_tell_their_error(model, rows):
    display = ReconstructionDisplay.from_estimator(model, rows[1], n_rows=5, image_shape=(8, 8))
    back = model.inverse_transform(model.transform(rows[1][:5]))
    for i, expected in enumerate((rows[1][:5], back)):
        for image, row in zip(display.artists_[i], expected, strict=True):
            np.testing.assert_allclose(np.ravel(image.get_array()), row, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(display.errors, np.mean((rows[1][:5] - back) ** 2, axis=1), rtol=1e-5)
    assert [ax.get_title() for ax in display.axes_[1]] == [f"{error:.3g}" for error in display.errors]
    assert [line[0].get_ylabel() for line in display.axes_] == ["original", "reconstruction"]
    limits = {image.get_clim() for image in display.artists_.flat}
    assert limits == {(rows[1][:5].min(), rows[1][:5].max())}


def test_pcas_reconstructions_are_of_as_many_components_in_the_place_of_the_last_step(rows):
    scaled = make_pipeline(StandardScaler(), AutoencoderTransformer(3, max_iter=0)).fit(rows[0])
    display = ReconstructionDisplay.from_estimator(scaled, rows[1], X_train=rows[0])
    linear = make_pipeline(StandardScaler(), PCA(3, svd_solver="full")).fit(rows[0])
    expected = linear.inverse_transform(linear.transform(rows[1][:8]))
    np.testing.assert_allclose(display.X_pca, expected, atol=1e-6)
    np.testing.assert_allclose(display.pca_errors, np.mean((rows[1][:8] - expected) ** 2, axis=1), rtol=1e-6)
    assert display.axes_.shape == (3, 8)
    alone = ReconstructionDisplay.from_estimator(scaled[-1], rows[1], X_train=rows[0])
    np.testing.assert_allclose(alone.X_pca, PCA(3, svd_solver="full").fit(rows[0]).inverse_transform(
        PCA(3, svd_solver="full").fit(rows[0]).transform(rows[1][:8])), atol=1e-6)  # fmt: skip


def test_what_is_missing_has_no_error():
    X = np.array([[1.0, np.nan, 3.0], [1.0, 1.0, 1.0]])
    display = ReconstructionDisplay.from_predictions(X, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(display.errors, [1, 1])


def test_few_columns_are_bars_and_many_a_line():
    rows = np.random.RandomState(0).normal(size=(3, 31))
    few = SampleDisplay.from_predictions(rows[:, :30])
    for bars, row in zip(few.artists_[0], rows, strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in bars], row[:30])
    for line, row in zip(SampleDisplay.from_predictions(rows).artists_[0], rows, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), row)


def test_images_may_have_three_colours_or_one():
    rows = np.random.RandomState(0).uniform(size=(2, 3 * 4 * 5))
    image = SampleDisplay.from_predictions(rows, image_shape=(3, 4, 5)).artists_[0, 0].get_array()
    scaled = (rows - rows.min()) / (rows.max() - rows.min())
    np.testing.assert_allclose(np.moveaxis(image, -1, 0).ravel(), scaled[0])
    plain = SampleDisplay.from_predictions(rows, image_shape=(1, 6, 10)).artists_[0, 1].get_array()
    np.testing.assert_array_equal(plain.ravel(), rows[1])


def test_samples_are_the_estimators_line_by_line(model):
    display = SampleDisplay.from_estimator(model, 11, random_state=0, image_shape=(8, 8))
    if isinstance(model, Pipeline):
        expected = model[:-1].inverse_transform(model[-1].sample(11, random_state=0))
    else:
        expected = model.sample(11, random_state=0)
    assert display.axes_.shape == (2, 8)
    for image, row in zip(display.artists_.ravel()[:11], expected, strict=True):
        np.testing.assert_allclose(np.ravel(image.get_array()), row)
    assert list(display.artists_.ravel()[11:]) == [None] * 5
    assert not any(ax.axison for ax in display.axes_.ravel()[11:])


@pytest.mark.parametrize("y", [1, [0, 1, 2, 2]])
def test_samples_of_a_class_have_its_name(vae, y):
    display = SampleDisplay.from_estimator(vae, 4, y=y, noise=False, random_state=0)
    np.testing.assert_array_equal(display.samples, vae.sample(4, y=y, noise=False, random_state=0))
    assert [ax.get_title() for ax in display.axes_.flat] == [str(label) for label in np.broadcast_to(y, 4)]


def test_a_walk_changes_one_component_and_leaves_the_others_at_their_median(model, rows):
    display = LatentTraversalDisplay.from_estimator(model, rows[0], components=[2, 0], n_steps=5, image_shape=(8, 8))
    Z = model.transform(rows[0])
    for line, component in zip(display.artists_, (2, 0), strict=True):
        walk = np.tile(np.median(Z, axis=0), (5, 1))
        walk[:, component] = np.quantile(Z[:, component], [0.05, 0.275, 0.5, 0.725, 0.95])
        for image, row in zip(line, model.inverse_transform(walk), strict=True):
            np.testing.assert_allclose(np.ravel(image.get_array()), row, rtol=1e-4, atol=1e-4)
    assert [line[0].get_ylabel() for line in display.axes_] == ["component 3", "component 1"]
    assert display.axes_[0, 1].get_title() == f"{display.codes[0, 1]:.3g}"


def test_a_walk_shows_four_components_unless_told_otherwise(rows):
    many = AutoencoderTransformer(6, max_iter=0).fit(rows[0])
    np.testing.assert_array_equal(LatentTraversalDisplay.from_estimator(many, rows[0]).components, range(4))
    assert LatentTraversalDisplay.from_estimator(many, rows[0], components=5).axes_.shape == (1, 8)


def test_the_estimators_own_shape_of_images_is_taken(autoencoder, rows):
    for display in (
        ReconstructionDisplay.from_estimator(autoencoder, rows[1]),
        SampleDisplay.from_estimator(make_pipeline(StandardScaler().fit(rows[0]), autoencoder)),
        LatentTraversalDisplay.from_estimator(autoencoder, rows[1]),
    ):
        assert display.image_shape == (1, 8, 8)
        assert display.artists_[0, 0].get_array().shape == (8, 8)


# All of them.

FROM_MODEL = {
    "losses": lambda model, X, **ax: LossCurveDisplay.from_estimator(model, **ax),
    "codes": lambda model, X, **ax: LatentSpaceDisplay.from_estimator(model, X, **ax),
    "reconstructions": lambda model, X, **ax: ReconstructionDisplay.from_estimator(model, X, **ax),
    "samples": lambda model, X, **ax: SampleDisplay.from_estimator(model, **ax),
    "walks": lambda model, X, **ax: LatentTraversalDisplay.from_estimator(model, X, **ax),
}


@pytest.fixture(params=FROM_MODEL)
def draw(request):
    return FROM_MODEL[request.param]


def test_each_draws_where_it_is_told_or_in_one_new_figure(draw, autoencoder, rows):
    figure, axes = plt.subplots(1, 2)
    display = draw(autoencoder, rows[1], ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert display.plot() is display
    assert display.figure_ is not figure
    assert len(plt.get_fignums()) == 2
    for drawn in (figure, display.figure_):
        drawn.canvas.draw()


def test_each_draws_a_vae_and_a_search(draw, vae, digits):
    search = AutoencoderTransformerCV((1, 3), cv=2, max_iter=0, random_state=0).fit(digits[:100])
    for model in (vae, search):
        assert draw(model, digits[150:170]).figure_ is not None


def test_each_refuses_what_is_not_fitted_and_what_is_no_such_model(draw, rows):
    with pytest.raises(NotFittedError):
        draw(AutoencoderTransformer(), rows[1])
    with pytest.raises(TypeError, match=r"LinearRegression has no (?s:.*) Use an AutoencoderTransformer"):
        draw(LinearRegression().fit(rows[0], rows[0][:, 0]), rows[1])


def test_each_says_what_to_install(draw, autoencoder, rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'skae\[compare\]'"):
        draw(autoencoder, rows[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SampleDisplay(samples=np.ones((2, 6)), image_shape=(2, 4)), r"has 8 values, but samples have 6"),
        (lambda: SampleDisplay(samples=np.ones((2, 6)), image_shape=6), r"image_shape=6 must be a tuple of integers"),
        (
            lambda: SampleDisplay(samples=np.ones((2, 8)), image_shape=(2, 2, 2)),
            r"is not the shape of an image.*1 or 3 channels",
        ),
        (lambda: SampleDisplay(samples=np.ones((2, 6)), y=[1]), r"y has shape \(1,\) and there are 2 samples"),
        (lambda: SampleDisplay(samples=[["Oslo", 1]]), r"Only numeric columns can be drawn.*Oslo"),
        (lambda: ReconstructionDisplay(X=np.ones((2, 6)), X_reconstructed=np.ones((2, 5))), r"shape \(2, 5\) and X"),
        (lambda: LatentSpaceDisplay(codes=np.ones((2, 2)), y=[1, 2, 3]), "inconsistent numbers of samples"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_reason(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 3}, "components=3 must be .* from 0 to 2"),
        ({"components": []}, r"components=\[\] must be"),
        ({"components": 0.5}, "components=0.5 must be"),
        ({"n_steps": 1}, "n_steps=1 must be an integer of at least 2"),
    ],
)
def test_walks_that_lead_nowhere_are_refused(autoencoder, rows, options, message):
    with pytest.raises(ValueError, match=message):
        LatentTraversalDisplay.from_estimator(autoencoder, rows[1], **options)
