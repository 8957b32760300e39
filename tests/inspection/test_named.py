"""Estimators by name, budgets, resumed and stopped comparisons."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import AutoencoderTransformer, VAEGenerator, compare
from skae.__main__ import main
from skae.inspection.named import BUDGETS, NAMED, Budget, named_estimators
from skae.training.limits import TimeLimit

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

X, Y = load_iris(return_X_y=True)
FITS = []


class Counted(PCA):
    """PCA that counts its fits, and is interrupted at one of them."""

    def __init__(self, n_components=None, stop=None):
        super().__init__(n_components)
        self.stop = stop

    def fit(self, X, y=None):
        FITS.append(len(X))
        if len(FITS) == self.stop:
            raise KeyboardInterrupt
        return super().fit(X)


@pytest.fixture(autouse=True)
def _none_counted():
    FITS.clear()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_methods_are_compared_by_name():
    names = [
        *(name for name in NAMED if name not in ("umap", "vae", "autoencoder")),
        "sklearn.decomposition.TruncatedSVD",
    ]
    comparison = compare(X, Y, n_components=[2], cv=2, estimators=names)
    assert comparison.names[-1] == "TruncatedSVD"
    with_errors = {name for name in comparison.names if np.isfinite(comparison.folds("error", name, 2)).all()}
    assert with_errors == set(comparison.names) - {"FactorAnalysis", "none"}
    np.testing.assert_allclose(
        comparison.folds("target_score", "none", 2), comparison.prediction.baselines["all columns"]
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("has_text", [False, True])
def test_other_methods_take_missing_values_and_categories(has_text):
    table = pd.DataFrame(X, columns=list("abcd"))
    table.iloc[::9, 2] = np.nan
    table = table.assign(kind=np.where(X[:, 0] > 6, "x", "y")) if has_text else table
    names = [name for name in NAMED if name not in ("umap", "vae", "autoencoder")]
    comparison = compare(table, Y, n_components=[2], cv=2, estimators=names)
    assert len(comparison.names) == len(names)
    assert min(comparison.results["target_score"]) > 0.5


@pytest.mark.filterwarnings("ignore")
def test_umap_is_compared_where_it_is_installed():
    pytest.importorskip("umap")
    comparison = compare(X, Y, n_components=[2], cv=2, estimators=["pca", "umap"])
    assert min(comparison.folds("target_score", "UMAP", 2)) > 0.8
    assert np.isnan(comparison.folds("error", "UMAP", 2)).all()


def test_names_are_known_or_how_to_have_them_is_said(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r"'tsne' is no estimator. Known are pca, factor-analysis"):
        named_estimators(["tsne"])
    with pytest.raises(TypeError, match="must be names, or a dict"):
        compare(X, estimators=[])
    with pytest.raises(SystemExit) as done:
        main(["compare", "--estimators", "pca", "umap"])
    assert done.value.code == 2
    assert "umap is not installed: pip install umap-learn" in capsys.readouterr().err


def test_the_autoencoder_by_name_may_be_ordered():
    comparison = compare(
        X[:60], n_components=[1, 2], cv=2, estimators=["pca", "autoencoder"], ordered=True, budget="fast"
    )
    seconds = [comparison.folds("fit_seconds", "AutoencoderTransformer", size) for size in (1, 2)]
    np.testing.assert_array_equal(*seconds)


@pytest.mark.parametrize("budget", ["quick", 0, "-3", "nan", [1]])
def test_budgets_are_names_or_seconds(budget):
    with pytest.raises(ValueError, match="must be 'fast', 'default', 'thorough' or a number of seconds"):
        Budget.of(budget)


def test_budgets_limit_rows_epochs_and_seconds():
    assert Budget.of(None) == Budget.of("thorough") == Budget()
    assert Budget.of("90") == BUDGETS["default"]._replace(seconds=90)
    pca, few, many = PCA(), AutoencoderTransformer(max_iter=5), VAEGenerator(callbacks=[])
    limit, clock = Budget(None, 60, 20).limit, TimeLimit(9.0)
    assert limit(pca, clock) is pca
    assert (limit(few, clock).max_iter, limit(many, clock).max_iter) == (5, 20)
    assert (limit(few, clock).callbacks.end, limit(few, None).callbacks, limit(many, clock).callbacks) == (9, None, [])
    piped = limit(make_pipeline(StandardScaler(), many), clock)[-1]
    assert (piped.max_iter, piped.callbacks) == (20, [])
    assert limit(make_pipeline(StandardScaler(), few), clock)[-1].callbacks.end == 9
    rows, labels, notes = Budget(40).draw(csc_matrix(X), Y)
    assert rows.shape == (40, 4)
    assert len(labels) == 40
    assert notes == ["A random sample of 40 of 150 rows was compared; the budget thorough takes all."]
    assert Budget(150).draw(X, None) == (X, None, [])


def test_networks_share_the_time_that_is_left(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1040.0)

    def limits(seconds, estimators, n_jobs):
        return [(clock.end, clock.least) for clock in Budget(seconds=seconds).clocks(estimators, 1000.0, n_jobs)]

    mixed = [VAEGenerator(), PCA(), make_pipeline(StandardScaler(), VAEGenerator()), VAEGenerator()]
    np.testing.assert_allclose(limits(100, mixed, 1), [(end, 40 / 3) for end in (1060, 1060, 1080, 1100)])
    np.testing.assert_allclose(limits(100, mixed[:1] * 4, 2), [(end, 20) for end in (1070, 1070, 1100, 1100)])
    assert limits(9, mixed, 1) == [(1040, 0)] * 4  # all of it is used
    assert Budget().clocks(mixed, 1000.0, 1) == [None] * 4


def test_training_has_some_time_in_any_case():
    limit = TimeLimit(0.0, 60.0)
    limit.on_train_begin(None)
    limit.on_epoch_end(None)
    limit.until_ = 0.0
    with pytest.raises(KeyboardInterrupt):
        limit.on_epoch_end(None)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fits_that_take_too_long_are_ended_and_counted():
    estimators = {"PCA": PCA(), "AE": AutoencoderTransformer(callbacks=TimeLimit(0.0), random_state=0)}
    comparison = compare(X, n_components=[2], cv=2, estimators=estimators)
    assert "The budget ended 2 of 4 fits early" in comparison.answer()
    assert not comparison.stopped


def test_a_comparison_goes_on_where_it_was_stopped(tmp_path):
    estimators = {"PCA": Counted(stop=7)}
    arguments = {"n_components": [1, 2], "cv": 4, "resume": tmp_path}
    stopped = compare(X, **arguments, estimators=estimators)
    assert stopped.stopped
    assert stopped.results["n_components"] == [1] * 4  # two folds of 2 components would be means of other samples
    said = "Stopped after 6 of 8 fits by Ctrl-C; only folds that are done count, and 2 components are left out."
    assert said in stopped.answer()
    stopped.to_html(tmp_path / "report.html")
    whole = compare(X, **arguments, estimators=estimators)
    assert len(FITS) == 7 + 2
    assert not whole.stopped
    assert whole.results["error"][:4] == stopped.results["error"]
    plain = compare(X, n_components=[1, 2], cv=4, estimators={"PCA": PCA()})
    np.testing.assert_array_equal(whole.results["error"], plain.results["error"])


def test_a_comparison_ends_when_the_budget_is_over_and_there_is_an_answer():
    stopped = compare(X, n_components=[1, 2], cv=4, estimators={"PCA": Counted()}, budget=1e-9)
    assert stopped.stopped
    assert stopped.results["fold"] == [0, 1]
    assert "Stopped after 2 of 8 fits at the end of the budget" in stopped.answer()
    assert not compare(X, n_components=[1], cv=2, estimators={"PCA": Counted()}, budget=1e-9).stopped


def test_a_comparison_that_is_stopped_at_once_has_no_answer():
    with pytest.raises(KeyboardInterrupt, match="before two folds of a size were done"):
        compare(X, n_components=[1], cv=4, estimators={"PCA": Counted(stop=2)})


class Interrupted(nn.Linear):
    """Encoder that Ctrl-C interrupts in training."""

    def forward(self, x):
        if self.training:
            raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.filterwarnings("ignore:Training was interrupted", "ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_that_was_interrupted_counts_as_not_done(tmp_path):
    estimators = {"PCA": PCA(), "AE": AutoencoderTransformer(encoder=Interrupted, max_iter=3, random_state=0)}
    with pytest.raises(KeyboardInterrupt):
        compare(X, n_components=[1], cv=4, estimators=estimators, resume=tmp_path)


def test_the_command_ends_with_3_if_it_was_stopped(monkeypatch, capsys):
    def stop(X, y, **options):
        return compare(X, y, n_components=[1], cv=4, estimators={"PCA": Counted(stop=options["cv"])})

    monkeypatch.setattr("skae.__main__.compare", stop)
    assert main(["compare", "--report", "none", "--cv", "4"]) == 3
    assert "Stopped after 3 of 4 fits" in capsys.readouterr().out
    FITS.clear()
    assert main(["compare", "--report", "none", "--cv", "2"]) == 3
    assert "skae: Stopped before two folds" in capsys.readouterr().err


def test_the_results_of_a_size_are_printed_when_it_is_done(capsys):
    compare(X, n_components=[1, 2], cv=2, estimators={"PCA": PCA()}, verbose=1)
    _, first, second = capsys.readouterr().err.split("components  estimator")
    assert re.search(r"\n1 +PCA +\d", first)
    assert re.search(r"\n2 +PCA +\d", second)
    assert "4/4" in second
