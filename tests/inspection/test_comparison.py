"""The comparison: what is measured, and the verdicts on it."""

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array, csc_matrix, csr_array
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, FactorAnalysis, FastICA, TruncatedSVD
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from skae import AutoencoderTransformer, Comparison, VAEGenerator, compare, reconstruction_error
from skae.inspection.samples import TableCode, repeats, samples_of
from skae.inspection.targets import Prediction
from skae.inspection.verdicts import DensityQuestion, TimeQuestion, spoken

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

IRIS = load_iris(return_X_y=True)
IRIS[0][142, 0] += 0.05  # which repeats another sample
NARROW = {"hidden_layer_sizes": (32, 16), "max_iter": 5, "random_state": 0}  # in each process
QUICK = {"PCA": PCA(), "AutoencoderTransformer": AutoencoderTransformer(**NARROW)}


def test_every_cell_is_measured(comparison):
    results = pd.DataFrame(comparison.results)
    assert len(results) == 2 * 2 * 3
    assert results.drop(columns="log_likelihood").notna().all(axis=None)
    assert list(results) == [
        "estimator", "n_components", "fold", "error", "r2", "log_likelihood", "target_score", "fit_seconds",
        "transform_seconds",
    ]  # fmt: skip
    assert results.r2.between(0.5, 1).all()


def test_the_error_is_the_held_out_mean_squared_error(comparison):
    from sklearn.model_selection import StratifiedKFold

    X, y = IRIS
    train, test = next(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    pca = PCA(1).fit(X[train])
    error = ((X[test] - pca.inverse_transform(pca.transform(X[test]))) ** 2).mean()
    assert comparison.results["error"][0] == pytest.approx(error)
    r2 = 1 - error / ((X[test] - X[train].mean(axis=0)) ** 2).mean()
    assert comparison.results["r2"][0] == pytest.approx(r2)


def test_the_summary_has_a_row_a_cell_and_a_verdict_a_size(comparison):
    text = comparison.summary()
    assert text == str(comparison)
    assert text.count("  AutoencoderTransformer") == 2
    assert "accuracy" in text
    share = np.array(comparison.results["error"][3:6]) / comparison.results["error"][:3]
    assert f"At 1 component the error of the autoencoder is {100 * share.mean():.0f} % of PCA's (95 % interval" in text


def made_up(shares, densities=None):
    """A comparison of PCA and an autoencoder whose errors are these shares of PCA's; densities of PCA and a VAE."""
    n = len(shares)
    results = {
        "estimator": ["PCA"] * n + ["AutoencoderTransformer"] * n,
        "n_components": [3] * 2 * n,
        "fold": [*range(n), *range(n)],
        "error": [2.0] * n + [2 * share for share in shares],
        "r2": [0.5] * 2 * n,
        "log_likelihood": [np.nan] * 2 * n,
        "fit_seconds": [0.1] * n + [4.0] * n,
        "transform_seconds": [0.1] * 2 * n,
    }
    if densities:
        results["estimator"][n:] = ["VAEGenerator"] * n
        results["log_likelihood"] = [densities[0]] * n + [*densities[1]]
    return Comparison(results)


@pytest.mark.parametrize(
    ("shares", "interval", "verdict"),
    [
        ([0.5, 0.6, 0.55, 0.5, 0.6], "46 to 64", "the autoencoder, which at 3 components has 55 % of PCA's error"),
        ([1.0] * 5, "100 to 100", "no difference that these samples can show; stay with PCA."),
        ([1.2, 1.4, 1.3, 1.2, 1.4], "111 to 149", "stay with PCA."),
        ([0.8, 1.1, 0.8, 1.1, 0.9], "66 to 122", "no difference that these samples can show; stay with PCA."),
        ([0.981, 0.985, 0.983, 0.981, 0.985], "98 to 99", "a gain of less than 2 %; stay with PCA."),
        ([0.5, 0.7], "0 to 280", "no difference that these samples can show; stay with PCA."),
    ],
)
def test_the_verdict_stays_with_pca_where_nothing_is_gained(shares, interval, verdict):
    summary = made_up(shares).summary()
    assert f"is {100 * np.mean(shares):.0f} % of PCA's (95 % interval {interval} %)" in summary
    assert f"For reconstruction: {verdict}" in summary
    stays = "stay with PCA" in summary
    assert stays == (np.mean(shares) != 0.55)
    assert ("Time: a fit of the autoencoder at 3 components takes 4 s, one of PCA 0.1 s." in summary) != stays


@pytest.mark.parametrize("n_folds", [3, 10])
@pytest.mark.parametrize(("vae", "clear"), [((-3.0, -3.2), True), ((-4.0, -6.1), False), ((-9.0, -8.8), True)])
def test_the_verdict_on_densities_minds_the_spread(vae, clear, n_folds):
    vae = np.resize(vae, n_folds)
    comparison = made_up([0.9] * n_folds, (-5.0, vae))
    best = "PCA" if np.mean(vae) < -5 else "the VAE"
    assert f"is that of {best}, " in comparison.summary()
    lead = f"For densities and new samples: {best} with 3 components, {abs(np.mean(vae) + 5):.2f} nats a sample above"
    assert (lead in comparison.answer()) == clear
    assert ("For densities: no difference that these samples can show" in comparison.answer()) != clear
    assert ("): no difference that these samples can show." in comparison.verdicts()[-1]) != clear


def test_densities_are_compared_at_each_models_best_size():
    results = {key: value * 2 for key, value in made_up([0.9] * 4, (-30.0, [-20.0, -20.1] * 2)).results.items()}
    results["n_components"] = [2] * 8 + [16] * 8
    results["log_likelihood"][8:] = [-10.0] * 4 + [-12.0, -12.1] * 2
    answer = Comparison(results).answer()
    assert "For densities and new samples: PCA with 16 components, 2.05 nats a sample above the VAE with 16" in answer


def predicted(scores, baselines=(0.95, 0.5)):
    """A comparison of PCA and an autoencoder by accuracy over five folds, at the sizes 2 and 4."""
    comparison = made_up([0.5] * 5)
    results = {key: value * 2 for key, value in comparison.results.items()}
    results["n_components"] = [2] * 10 + [4] * 10
    noise = np.array([-0.02, -0.01, 0, 0.01, 0.02])
    results["target_score"] = np.concatenate(
        [score + noise * sign for score, sign in zip(scores, (1, -1, 1, -1), strict=True)]
    ).tolist()
    constant = {"all columns": baselines[0] + noise, "predicting the commonest class": baselines[1] - noise}
    return Comparison(results, prediction=Prediction(baselines=constant))


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((0.8, 0.7, 0.986, 0.913), "stay with PCA with 4 components, accuracy 0.986, which no other codes exceed."),
        ((0.6, 0.8, 0.7, 0.9), "the autoencoder with 4 components, accuracy 0.900, 0.200 above the best of PCA (95 %"),
        (
            (0.7, 0.72, 0.6, 0.6),
            "stay with PCA with 2 components, accuracy 0.700. The autoencoder with 2 components has 0.720, no "
            "difference that these samples can show",
        ),
    ],
)
def test_with_a_target_the_answer_begins_with_prediction(scores, said):
    first, second, third, *_ = predicted(scores).answer().splitlines()
    assert first.startswith(f"For prediction by logistic regression: {said}")
    assert re.match(
        r"The accuracy from these codes is .* (above|below) that from all columns, 0.950 .* above that of "
        r"predicting the commonest class, 0.500 ",
        second,
    )
    assert third.startswith("For reconstruction: the autoencoder")
    gain = scores[1] - scores[0]
    side = "above" if gain > 0 else "below"
    assert (
        f"At 2 components the accuracy from codes of the autoencoder is {abs(gain):.3f} {side} PCA's"
        in predicted(scores).summary()
    )


def test_codes_that_predict_no_better_than_a_constant_are_named():
    said = "These samples do not show that any codes here predict the target better than predicting the "
    said += "commonest class."
    assert said in predicted((0.51, 0.5, 0.5, 0.52)).answer()
    assert said not in predicted((0.7, 0.7, 0.7, 0.7)).answer()


def test_a_score_from_all_columns_within_noise_is_no_difference():
    said = r"from all columns, 0\.950 \(95 % interval [^)]*\), no difference that these samples can show. It "
    assert re.search(said, predicted((0.95, 0.7, 0.7, 0.7)).answer())
    assert not re.search(said, predicted((0.7, 0.7, 0.7, 0.7)).answer())


def test_the_headline_of_time_is_of_a_model_beside_the_reference():
    comparison = made_up([1.0] * 5)
    others = [name for name in comparison.names if name != "PCA"]
    comparison.results["fit_seconds"] = [0.5 if name == "PCA" else 3.0 for name in comparison.results["estimator"]]
    assert TimeQuestion(comparison).headline() == ("3 s", f"for a fit of {spoken(others[0])}; PCA takes 0.5 s")
    alone = compare(IRIS[0], n_components=[2], cv=2, estimators={"PCA": PCA()})
    assert TimeQuestion(alone).headline()[1] == "for a fit of PCA"


def test_baselines_are_of_the_folds_that_are_done():
    comparison = predicted((0.7, 0.7, 0.7, 0.7))
    comparison.prediction.baselines["all columns"] = np.array([0.8, 0.8, 0.8, 0.8, 0.8, 0.0, 0.0])
    assert "is 0.100 below that from all columns, 0.800" in comparison.answer()


def test_models_are_known_by_what_they_can_do_and_not_by_name():
    estimators = {"mine": VAEGenerator(max_iter=0), "FactorAnalysis": FactorAnalysis()}
    comparison = compare(IRIS[0], n_components=[2], cv=2, estimators=estimators)
    assert comparison.reference == "mine"
    assert "For reconstruction" not in comparison.answer()
    assert re.search("the highest log-likelihood is that of (mine|factor analysis)", comparison.summary())


def test_constant_columns_are_left_out_and_named():
    X = np.insert(IRIS[0], [1, 3], 7.0, axis=1)
    comparison = compare(X, n_components=[2], cv=2, estimators={"PCA": PCA(), "FactorAnalysis": FactorAnalysis()})
    plain = compare(IRIS[0], n_components=[2], cv=2, estimators={"PCA": PCA(), "FactorAnalysis": FactorAnalysis()})
    assert comparison.constant == [1, 4]
    assert "Left out: columns 1, 4 (counted from 0), constant" in comparison.summary()
    for column in ("error", "log_likelihood"):
        np.testing.assert_array_equal(comparison.results[column], plain.results[column])
    named = compare(pd.DataFrame(X, columns=list("abcdef")), n_components=[2], cv=2, estimators={"PCA": PCA()})
    assert "Left out: columns 'b', 'e', constant" in named.summary()


def test_a_pipelines_density_is_in_other_units_and_counts_as_none():
    estimators = {"scaled": make_pipeline(StandardScaler(), VAEGenerator(max_iter=0))}
    comparison = compare(IRIS[0], n_components=[2], cv=2, estimators=estimators)
    assert np.isnan(comparison.results["log_likelihood"]).all()


@pytest.mark.parametrize("estimators", [{}, [PCA()], {1: PCA()}])
def test_estimators_are_a_dict_of_names(estimators):
    with pytest.raises(TypeError, match="must be names, or a dict"):
        compare(IRIS[0], estimators=estimators)


def test_where_a_density_is_at_its_floor_none_are_compared(tmp_path):
    X = np.hstack([IRIS[0], IRIS[0]])
    estimators = {"FactorAnalysis": FactorAnalysis(tol=1e-8), "VAE": VAEGenerator(max_iter=0)}
    comparison = compare(X, n_components=[3], cv=2, estimators=estimators)
    assert np.isposinf(comparison.folds("log_likelihood", "FactorAnalysis", 3)).all()
    assert np.isfinite(comparison.folds("log_likelihood", "VAE", 3)).all()
    assert "No densities are compared at 3 components" in comparison.answer()
    assert "nats" not in comparison.summary()
    comparison.to_html(tmp_path / "report.html")
    assert "No densities" not in compare(IRIS[0], n_components=[2], cv=2, estimators=estimators).answer()


def test_a_density_is_at_its_floor_whatever_the_test_samples_are():
    X = np.random.RandomState(0).normal(size=(3, 50))  # a test fold has one sample
    comparison = compare(X, n_components=[2], cv=3, estimators={"PCA": PCA(), "FA": FactorAnalysis()})
    assert np.isposinf(comparison.results["log_likelihood"]).all()


def test_densities_that_are_beyond_all_measure_fit_into_the_table():
    results = {"estimator": ["VAE"] * 2, "n_components": [1] * 2, "fold": [0, 1], "error": [1.0] * 2, "r2": [0.5] * 2}
    results |= {"log_likelihood": [-1.6e19, -2e19], "fit_seconds": [1.0] * 2, "transform_seconds": [1.0] * 2}
    assert "-1.8e+19 +- 2e+18" in Comparison(results).summary()


def test_a_difference_of_rounding_is_no_lead():
    exact = {"estimator": ["PCA"] * 2 + ["VAE"] * 2, "n_components": [1] * 4, "fold": [0, 1] * 2, "error": [1.0] * 4}
    exact |= {"r2": [0.5] * 4, "log_likelihood": [-4.5, -4.3, -4.5 + 1e-15, -4.3 + 1e-15]}
    exact |= {"fit_seconds": [1.0] * 4, "transform_seconds": [1.0] * 4}
    assert "For densities: no difference that these samples can show" in Comparison(exact).answer()


@pytest.fixture
def mixed(curve):
    """A table with a category that follows a number, and missing values in both."""
    table = pd.DataFrame(curve[:120, :3], columns=list("abc"))
    table["sign"] = np.where(table["a"] > table["a"].median(), "up", "down")
    table["flag"] = table["b"] > 0
    table["flat"] = "same"
    table.loc[table.index[:9], "c"] = np.nan
    table.loc[table.index[5:12], "sign"] = None
    return table


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_tables_of_mixed_columns_with_missing_values_are_compared(mixed, library, tmp_path):
    table = mixed if library == "pandas" else pytest.importorskip("polars").from_pandas(mixed)
    estimators = QUICK | {"VAEGenerator": VAEGenerator(max_iter=2, random_state=0)}
    comparison = compare(table, mixed["a"] > 0, n_components=[2], cv=3, estimators=estimators)
    assert comparison.constant == [5]
    assert np.isfinite(comparison.results["error"]).all()
    assert max(comparison.results["error"]) < 1
    assert min(comparison.results["target_score"]) > 0.7
    assert "Those of categories are the share of wrong predictions." in comparison.answer()
    comparison.to_html(tmp_path / "report.html")


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_autoencoder_of_a_table_is_trained_for_the_errors_that_are_measured(mixed, library, tmp_path):
    """Integers have squared errors, whatever "auto" would take them for; the program of the report does the same."""
    table = mixed[["a", "sign"]].assign(n=np.random.RandomState(0).poisson(np.exp(mixed["a"])), flat=1)
    table = table if library == "pandas" else pytest.importorskip("polars").from_pandas(table)
    autoencoder = AutoencoderTransformer(max_iter=1, random_state=0)
    for loss in ("squared_error", "auto"):
        estimators = {"autoencoder": clone(autoencoder).set_params(loss=loss)}
        comparison = compare(table, n_components=[1], cv=2, estimators=estimators)
        used = comparison.examples["estimators"]["autoencoder"]
        assert used.loss == {"squared_error": {"n": "squared_error"}, "auto": "auto"}[loss]
        made = eval(repr(used), {"X": table, "AutoencoderTransformer": AutoencoderTransformer})
        expected = {
            "a": "squared_error",
            "sign": "cross_entropy",
            "n": "poisson" if loss == "auto" else "squared_error",
        }
        assert expected.items() <= made.set_params(n_components=1).fit(table).losses_.items()
    assert (
        compare(mixed, n_components=[1], cv=2, estimators=QUICK).examples["estimators"]["AutoencoderTransformer"].loss
        == "auto"
    )


def test_the_error_of_a_table_counts_each_column_alike(mixed):
    code = TableCode().fit(mixed[["a", "sign"]])
    guessed = mixed[["a", "sign"]].assign(a=lambda table: table["a"] + table["a"].std(ddof=0), sign="up")
    errors = code.errors(mixed[["a", "sign"]], guessed)
    np.testing.assert_allclose(errors[:, 0], 1)
    known = mixed["sign"].notna().to_numpy()
    np.testing.assert_array_equal(errors.mask[:, 1], ~known)
    np.testing.assert_allclose(errors[known, 1], mixed["sign"][known] != "up")
    decoded = code.inverse_transform(code.transform(mixed[["a", "sign"]]))
    pd.testing.assert_series_equal(decoded["sign"][known], mixed["sign"][known])
    np.testing.assert_allclose(decoded["a"], mixed["a"])


def test_one_sample_in_a_column_that_hardly_varies_is_not_all_of_the_error(mixed):
    table = mixed.assign(rare=0.001 * np.random.RandomState(0).normal(size=120))
    table.loc[7, "rare"] = 1000.0
    comparison = compare(table, n_components=[2], cv=3, estimators={"PCA": PCA()})
    assert max(comparison.results["error"]) < 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_missing_numbers_are_filled_only_for_estimators_that_do_not_take_them():
    X = IRIS[0].copy()
    X[::7, 1] = np.nan
    comparison = compare(X, n_components=[2], cv=2, estimators=QUICK)
    train, test = next(KFold(2, shuffle=True, random_state=0).split(X))
    observed = ~np.isnan(X[test])
    for name, fill in (("PCA", np.nanmean(X[train], axis=0)), ("AutoencoderTransformer", np.nan)):

        def filled(X, fill=fill):
            return np.where(np.isnan(X), fill, X)

        model = clone(QUICK[name]).set_params(n_components=2).fit(filled(X[train]))
        error = np.square(model.inverse_transform(model.transform(filled(X[test]))) - X[test])[observed].mean()
        assert comparison.folds("error", name, 2)[0] == pytest.approx(error)
    assert "get means in their place" in comparison.answer()
    assert "means" not in compare(IRIS[0], n_components=[2], cv=2, estimators={"PCA": PCA()}).answer()


def test_fewer_components_for_the_same_error_are_counted():
    results = {key: value * 2 for key, value in made_up([1.0, 1.0]).results.items()}
    results["n_components"] = [3] * 4 + [6] * 4
    results["error"] = [8.0, 8.0, 3.0, 3.0, 4.0, 4.0, 1.0, 1.0]
    said = "With 3 components it has 75 % of PCA's error with 6 (95 % interval 75 to 75 %)."
    assert said in Comparison(results).answer()
    results["error"][2] = 3.9  # on average less, but not certainly
    assert "of PCA's error with 6" not in Comparison(results).answer()
    results["error"][4:6] = [0.0, 0.0]
    assert "of PCA's error with 6" not in Comparison(results).answer()


def test_the_headline_of_densities_says_where_no_difference_is_shown():
    assert "no difference" in DensityQuestion(made_up([1.0] * 3, (-4.0, (-3.0, -4.9, -3.5)))).headline()[1]
    assert "no difference" not in DensityQuestion(made_up([1.0] * 3, (-4.0, (-3.0, -3.1, -3.0)))).headline()[1]


def test_a_numeric_target_is_predicted_by_regression(curve):
    comparison = compare(curve, curve[:, 0], n_components=[2], cv=2, estimators={"PCA": PCA()})
    assert "target R^2" in comparison.summary()
    assert min(comparison.results["target_score"]) > 0.5
    whole_numbers = np.argsort(np.argsort(curve[:, 0]))
    assert (
        compare(curve, whole_numbers, n_components=[2], cv=2, estimators={"PCA": PCA()}).prediction.label
        == "target R^2"
    )


@pytest.mark.parametrize(
    ("counts", "label", "constant"),
    [
        ((50, 50), "accuracy", 0.5),
        ((40, 30, 30), "accuracy", 0.4),
        ((80, 20), "ROC AUC", 0.5),
        ((60, 20, 20), "balanced accuracy", 1 / 3),
        ((98, 2), "balanced accuracy", 0.5),
    ],
)
def test_scores_of_skewed_classes_do_not_reward_the_commonest(counts, label, constant):
    y = np.repeat(list("abc")[: len(counts)], counts)
    X = np.random.RandomState(0).normal(size=(100, 4))
    X[:, 0] += 9 * (y == "a")
    comparison = compare(X, y, n_components=[1], cv=4, estimators={"PCA": PCA()})
    assert comparison.prediction.label == label
    everything, dummy = comparison.prediction.baselines.values()
    assert dummy.mean() == pytest.approx(constant, abs=0.25 if 2 in counts else 0.03)
    assert everything.mean() > dummy.mean()
    rare = "Classes with fewer samples than the 4 folds, so that some folds measure none of them: b (2)."
    assert (rare in comparison.answer()) == (2 in counts)


def test_classes_that_do_not_repeat_are_no_target():
    names = [f"n{i}" for i in range(150)]
    with pytest.raises(ValueError, match=r"y has 150 classes of one sample each, such as 'n0'"):
        compare(IRIS[0], names, n_components=[1], cv=2, estimators={"PCA": PCA()})


class Recall(PCA):
    """PCA whose reconstructions are exact for samples that it was fitted to, and zero otherwise."""

    def fit(self, X, y=None):
        self.seen_ = np.asarray(X)
        return super().fit(X)

    def transform(self, X):
        self.last_ = np.asarray(X)
        return super().transform(X)

    def inverse_transform(self, codes):
        known = (self.last_[:, None] == self.seen_).all(axis=2).any(axis=1)
        return np.where(known[:, None], self.last_, 0.0)


@pytest.mark.parametrize("y", [None, np.arange(150) // 50, np.arange(150) > 120, np.arange(150.0)])
def test_samples_with_equal_values_are_in_the_same_fold(y):
    X = np.vstack([IRIS[0], IRIS[0][::-1][:60]])
    y = y if y is None else np.concatenate([y, y[::-1][:60]])
    comparison = compare(X, y, n_components=[2], cv=3, estimators={"once": Recall(), "PCA": PCA()})
    assert min(comparison.folds("error", "once", 2)) > 10  # none is recalled
    said = "Samples that repeat another one, and are in its fold: 60 of 210."
    assert said in comparison.answer()


def with_text(X):
    return pd.DataFrame(X).assign(e=np.where(X[:, 0] > 5, "x", None))


@pytest.mark.parametrize("form", [pd.DataFrame, csr_array, with_text])
def test_equal_samples_are_known_in_all_kinds_of_samples(form):
    X = np.vstack([np.where(IRIS[0] > 0.3, IRIS[0], [[0.0], [-0.0]] * 75), IRIS[0][:9].clip(0.3) - 0.3])
    X[np.arange(0, 150, 2)] = X[np.arange(1, 150, 2)] + 0.0
    groups = samples_of(form(X)).groups()
    assert groups.max() == len(np.unique(X, axis=0)) - 1
    np.testing.assert_array_equal(groups[0:150:2], groups[1:150:2])
    assert not repeats(np.arange(9))


def test_sizes_that_do_not_reduce_are_left_out_and_named():
    comparison = compare(IRIS[0], n_components=[2, 4, 8], cv=2, estimators={"PCA": PCA()})
    assert comparison.skipped == [4, 8]
    assert "Left out: 4, 8 components" in comparison.summary()


def test_pipelines_and_transformers_without_an_inverse_have_their_row():
    class NoInverse(FastICA):
        inverse_transform = property()

    estimators = {"scaled": make_pipeline(StandardScaler(), PCA()), "one way": NoInverse(whiten="unit-variance")}
    comparison = compare(*IRIS, n_components=[2], cv=2, estimators=estimators)
    errors = comparison.results["error"]
    assert np.isfinite(errors[:2]).all()
    assert np.isnan(errors[2:]).all()
    assert np.isfinite(comparison.results["target_score"]).all()
    assert "one way" in comparison.summary()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"n_components": [4, 9]},
            r"None of the sizes \[4, 9\] is left: a size must be less than the number of columns of X, 4,",
        ),
        ({"n_components": [0]}, "n_components=0"),
        ({"X": np.ones((20, 5))}, "No column of X varies"),
        ({"X": np.full((20, 5), 1e308)}, "too large to be squared"),
        ({"cv": 1}, "cv=1 must be an integer of at least 2"),
        ({"cv": 1000}, "cv=1000 is more than the 150 samples"),
        ({"y": np.zeros(150)}, r"one class of y only; classes and their counts: 0.0 \(150\)"),
        ({"y": np.arange(150) == 0, "n_components": [2]}, r"one class of y only.*False \(149\), True \(1\)"),
        ({"y": np.zeros(149)}, "inconsistent numbers of samples"),
        ({"estimators": {"scale": StandardScaler()}}, r"estimators\['scale'\]=StandardScaler\(\) has no parameter"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"X": IRIS[0]} | arguments)


def test_densities_are_the_models_own_where_they_have_one():
    X = IRIS[0]
    estimators = {
        "PCA": PCA(),
        "FactorAnalysis": FactorAnalysis(),
        "VAEGenerator": VAEGenerator(max_iter=0),
        "AutoencoderTransformer": AutoencoderTransformer(max_iter=0),
    }
    comparison = compare(X, n_components=[2], cv=2, estimators=estimators)
    train, test = next(KFold(2, shuffle=True, random_state=0).split(X))
    for name in ("PCA", "FactorAnalysis", "VAEGenerator"):
        expected = clone(estimators[name]).set_params(n_components=2).fit(X[train]).score(X[test])
        assert comparison.folds("log_likelihood", name, 2)[0] == pytest.approx(expected, abs=1e-9)
    assert np.isnan(comparison.folds("log_likelihood", "AutoencoderTransformer", 2)).all()
    assert np.isnan(comparison.folds("error", "FactorAnalysis", 2)).all()


def test_the_defaults_are_four_models():
    comparison = compare(IRIS[0][:40], n_components=[1], cv=2)
    assert comparison.names == ["PCA", "FactorAnalysis", "AutoencoderTransformer", "VAEGenerator"]
    assert "of the VAE" in comparison.summary()


@pytest.mark.workers
def test_parallel_folds_give_the_same_numbers(comparison):
    again = compare(*IRIS, n_components=[1, 2], cv=3, estimators=QUICK, n_jobs=2)
    np.testing.assert_allclose(again.results["error"], comparison.results["error"], rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, bool, int])
def test_numbers_of_any_kind_are_compared(dtype):
    X = (100 * np.random.RandomState(0).normal(size=(300, 4)) * (1, 2, 3, 300)).clip(0, 6e4).astype(dtype)
    expected = compare(X.astype(float), n_components=[1], cv=2, estimators={"PCA": PCA()})
    found = compare(X, n_components=[1], cv=2, estimators={"PCA": PCA()})
    np.testing.assert_allclose(found.results["r2"], expected.results["r2"], rtol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_ordered_autoencoder_is_fitted_once_a_fold(digits):
    X = digits[:200]
    comparison = compare(
        X,
        n_components=[1, 2, 4],
        cv=2,
        estimators={"PCA": PCA(), "ordered": AutoencoderTransformer(ordered=True, max_iter=10, random_state=0)},
    )
    assert comparison.folds("error", "ordered", 4).shape == (2,)
    train, test = next(KFold(2, shuffle=True, random_state=0).split(X))
    kept = X[train].std(axis=0) > 0
    kept &= X[test].std(axis=0) > 0
    model = AutoencoderTransformer(4, ordered=True, max_iter=10, random_state=0).fit(X[train][:, kept])
    for size in (1, 2, 4):
        error = reconstruction_error(model.truncate(size), X[test][:, kept])
        assert comparison.folds("error", "ordered", size)[0] == pytest.approx(error, rel=1e-6)
    shares = [comparison.folds("fit_seconds", "ordered", size)[0] for size in (1, 2, 4)]
    assert shares[0] == shares[1] == shares[2]


def test_the_default_autoencoder_may_be_in_order():
    rows = np.random.RandomState(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="ordered=1 must be True or False"):
        compare(rows, n_components=[1], ordered=1)


@cache
def compared(form):
    """The comparison on irises in this form, with zeros and a constant column."""
    X, y = IRIS
    X = np.insert(np.where(X > 1, X, 0), 1, 2.0, axis=1)
    estimators = {
        "PCA": PCA(),
        "scaled": make_pipeline(MaxAbsScaler(), TruncatedSVD(random_state=0)),
        "AutoencoderTransformer": AutoencoderTransformer(ordered=True, max_iter=5, random_state=0),
        "VAEGenerator": VAEGenerator(max_iter=2, random_state=0),
    }
    return compare(form(X), y, n_components=[1, 2], cv=2, estimators=estimators)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("form", [csr_array, csc_matrix, coo_array])
def test_sparse_samples_have_the_measures_of_dense_ones(form):
    dense, sparse = compared(np.asarray), compared(form)
    assert sparse.constant == dense.constant == [1]
    for name in ("error", "r2", "target_score"):
        np.testing.assert_allclose(sparse.results[name], dense.results[name], rtol=1e-3, err_msg=name)
    densities = [comparison.folds("log_likelihood", "VAEGenerator", 2) for comparison in (dense, sparse)]
    np.testing.assert_allclose(*densities, rtol=1e-3)
    assert np.isnan(sparse.folds("log_likelihood", "PCA", 2)).all()
    assert not sparse.refusals


def test_estimators_that_do_not_take_sparse_samples_are_left_out_and_named(tmp_path):
    X, y = IRIS
    estimators = {"PCA": PCA(), "FactorAnalysis": FactorAnalysis(), "full": make_pipeline(MaxAbsScaler(), PCA())}
    estimators["full"][-1].svd_solver = "full"
    comparison = compare(csr_array(X), y, n_components=[1, 2], cv=2, estimators=estimators)
    assert comparison.names == ["PCA"]
    assert list(comparison.refusals) == ["FactorAnalysis", "full"]
    assert "Left out: factor analysis, which does not take sparse X: Sparse data was passed" in comparison.summary()
    comparison.to_html(tmp_path / "report.html", feature_shape=(2, 2))
    assert comparison.examples["rows"].shape == (10, 4)
    with pytest.raises(ValueError, match=r"No estimator takes sparse X.*FactorAnalysis.*toarray"):
        compare(csr_array(X), n_components=[1], cv=2, estimators={"FactorAnalysis": FactorAnalysis()})


def test_other_errors_of_type_are_raised():
    class Broken(PCA):
        def fit(self, X, y=None):
            raise TypeError("broken")

    with pytest.raises(TypeError, match="broken"):
        compare(IRIS[0], n_components=[1], cv=2, estimators={"PCA": Broken()})
