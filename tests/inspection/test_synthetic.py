"""Evaluation of synthetic samples: `evaluate_synthetic` and `SyntheticDisplay`."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from skae import SyntheticDisplay, evaluate_synthetic


def normal(seed, n=600, d=3):
    return np.random.RandomState(seed).normal(size=(n, d)) @ np.triu(np.ones((d, d)))


def mixed(seed, n=400):
    rng = np.random.RandomState(seed)
    height = rng.normal(170, 10, n)
    sex = np.where(rng.uniform(size=n) < 1 / (1 + np.exp(-(height - 170) / 4)), "m", "f")
    city = pd.Categorical(rng.choice(["Oslo", "Rome", "Bern"], n, p=[0.5, 0.3, 0.2]))
    frame = pd.DataFrame({"height": height, "city": city, "sex": sex})
    frame.loc[rng.uniform(size=n) < 0.1, "height"] = np.nan
    return frame


@pytest.mark.parametrize("table", [normal, mixed])
def test_samples_of_the_same_distribution_pass_for_real(table):
    figures = evaluate_synthetic(table(0), table(1), table(2))
    assert figures.c2st > 0.85
    assert max(figures.marginals.values()) < 0.12
    assert figures.correlations < 0.1
    assert min(figures.precision, figures.recall) > 0.85
    assert figures.copies <= figures.copies_of_holdout + 0.02
    assert abs(figures.closer_to_real - 0.5) < 0.06


def test_samples_of_another_distribution_do_not():
    figures = evaluate_synthetic(normal(0), normal(1) * [1, 1, 3], normal(2))
    assert figures.c2st < 0.6
    assert max(figures.marginals, key=figures.marginals.get) == 2
    assert figures.precision < 0.85 < figures.recall


def test_independent_columns_are_noticed_by_their_correlations():
    rng = np.random.RandomState(0)
    shuffled = np.column_stack([rng.permutation(column) for column in normal(1).T])
    figures = evaluate_synthetic(normal(0), shuffled, normal(2))
    assert max(figures.marginals.values()) < 0.1
    assert figures.correlations > 0.5


@pytest.mark.parametrize("table", [normal, mixed])
def test_copies_are_noticed(table):
    real = table(0)
    figures = evaluate_synthetic(real, real, table(2))
    assert figures.copies == 1
    assert figures.copies_of_holdout < 0.1
    assert figures.closer_to_real > 0.95


def test_samples_that_hug_the_training_samples_are_noticed():
    near = normal(0) + 0.01 * np.random.RandomState(1).normal(size=(600, 3))
    figures = evaluate_synthetic(normal(0), near, normal(2))
    assert figures.copies == 0
    assert figures.closer_to_real > 0.9


def test_a_memory_of_the_training_samples_is_no_merit():
    X = load_breast_cancer().data
    few = X[:100]
    memory = evaluate_synthetic(few, few[np.random.RandomState(0).choice(100, 300)], X[100:])
    assert memory.recall < 0.9


def test_marginals_are_kolmogorov_smirnov_and_total_variation():
    real, synthetic = mixed(0), mixed(1)
    synthetic["city"] = pd.Categorical(["Oslo"] * 300 + ["Rome"] * 100, categories=["Bern", "Oslo", "Rome"])
    figures = evaluate_synthetic(real, synthetic)
    expected = ks_2samp(real["height"].dropna(), synthetic["height"].dropna()).statistic
    assert figures.marginals["height"] == pytest.approx(expected)
    shares = real["city"].value_counts(normalize=True)
    distance = (abs(shares["Oslo"] - 0.75) + abs(shares["Rome"] - 0.25) + shares["Bern"]) / 2
    assert figures.marginals["city"] == pytest.approx(distance)


def test_a_model_trained_on_synthetic_samples_is_scored_on_real_ones():
    good = evaluate_synthetic(mixed(0), mixed(1), mixed(2), target="sex")
    assert good.score == "accuracy"
    assert abs(good.trained_on_synthetic - good.trained_on_real) < 0.08
    wrong = mixed(1)
    wrong["sex"] = wrong["sex"].to_numpy()[::-1]
    bad = evaluate_synthetic(mixed(0), wrong, mixed(2), target="sex")
    assert bad.trained_on_synthetic < bad.trained_on_real - 0.1
    assert bad.trained_on_real == good.trained_on_real


def test_numbers_are_predicted_by_regression():
    figures = evaluate_synthetic(normal(0), normal(1), normal(2), target=2)
    assert figures.score == "target R^2"
    assert figures.trained_on_synthetic == pytest.approx(figures.trained_on_real, abs=0.15)


def test_a_generator_of_one_class_alone_has_a_score():
    synthetic = mixed(1)
    synthetic["sex"] = "m"
    figures = evaluate_synthetic(mixed(0), synthetic, mixed(2), target="sex")
    assert 0.3 < figures.trained_on_synthetic < 0.7


def test_a_class_may_have_one_of_many_synthetic_samples():
    """From 10,001 samples on, gradient boosting stops early by a validation set that is stratified by classes."""
    X = np.random.RandomState(0).normal(size=(10_100, 1))
    synthetic = np.column_stack([X, X[:, 0] > X[:, 0].max() - 1e-9])
    real = np.column_stack([X, X[:, 0] > 1])[:300]
    figures = evaluate_synthetic(real, synthetic, real, target=1)
    assert figures.trained_on_synthetic < figures.trained_on_real


@pytest.mark.parametrize("kind", ["ROC AUC", "balanced accuracy"])
def test_a_generator_of_one_skewed_class_alone_is_as_good_as_chance(kind):
    limits = [182] if kind == "ROC AUC" else [160, 182]
    real, holdout = (mixed(seed).assign(size=lambda X: np.digitize(X["height"], limits)) for seed in (0, 2))
    figures = evaluate_synthetic(real, mixed(1).assign(size=0), holdout, target="size")
    assert figures.score == kind
    assert figures.trained_on_synthetic == pytest.approx(0.5 if kind == "ROC AUC" else 1 / 3)


def test_samples_without_a_target_or_of_unknown_classes_are_left_out():
    tables = [mixed(seed).convert_dtypes() for seed in range(3)]
    expected = evaluate_synthetic(*(X[10:] for X in tables), target="sex")
    for X, sex in zip(tables, (pd.NA, "unknown", "other"), strict=True):
        X.loc[:9, "sex"] = sex
    figures = evaluate_synthetic(*tables, target="sex")
    assert figures.trained_on_real == pytest.approx(expected.trained_on_real, abs=0.02)
    assert figures.trained_on_synthetic == pytest.approx(expected.trained_on_synthetic, abs=0.02)


def test_categories_that_are_numbers_are_classes():
    real, synthetic, holdout = (mixed(k, 75).assign(age=pd.Categorical(np.arange(75) % 25)) for k in range(3))
    assert evaluate_synthetic(real, synthetic, holdout, target="age").score == "accuracy"


def test_few_samples_are_told_apart():
    assert evaluate_synthetic(normal(0, 20), normal(1, 20) + 100).c2st < 0.2


def test_unknown_categories_are_at_a_distance():
    synthetic = mixed(1)
    synthetic["city"] = ["Paris"] * 100 + ["Oslo"] * 300
    shares = mixed(0)["city"].value_counts(normalize=True)
    distance = (0.25 + abs(shares["Oslo"] - 0.75) + shares["Rome"] + shares["Bern"]) / 2
    assert evaluate_synthetic(mixed(0), synthetic).marginals["city"] == pytest.approx(distance)
    assert SyntheticDisplay.from_samples(mixed(0), synthetic).distances["city"] == pytest.approx(distance)


def test_columns_without_values_are_compared():
    empty = np.full((600, 1), np.nan)
    real, synthetic, holdout = (np.hstack([normal(seed), empty]) for seed in range(3))
    figures = evaluate_synthetic(real, synthetic, holdout, target=0)
    assert figures.marginals[3] == 0
    assert figures.c2st > 0.85
    synthetic[:, 3] = normal(1)[:, 0]
    assert evaluate_synthetic(real, synthetic, holdout, target=0).marginals[3] == 1


def test_lists_and_integers_are_arrays():
    real, synthetic = (np.round(normal(seed, 50)) for seed in range(2))
    figures = evaluate_synthetic(real.tolist(), synthetic.astype(int))
    assert figures == evaluate_synthetic(real, synthetic)


def test_without_holdout_there_are_fewer_figures():
    figures = evaluate_synthetic(normal(0), normal(1))
    assert figures.closer_to_real is figures.trained_on_real is None
    assert "closer to real" not in str(figures)
    lines = str(figures).splitlines()
    assert [line[:22].strip() for line in lines][:2] == ["c2st", "marginals"]
    assert f"{figures.c2st:.3f}" in lines[0]


def test_results_repeat():
    assert evaluate_synthetic(normal(0), normal(1)) == evaluate_synthetic(normal(0), normal(1))


def test_xgboost_is_the_classifier_where_it_is_installed(monkeypatch):
    module = SimpleNamespace(XGBClassifier=lambda random_state: LogisticRegression(random_state=random_state))
    monkeypatch.setitem(sys.modules, "xgboost", module)
    monkeypatch.setattr("skae.inspection.synthetic.find_spec", lambda name: object())
    assert evaluate_synthetic(normal(0), normal(1)).classifier == "LogisticRegression"


def test_other_columns_and_a_target_without_holdout_are_errors():
    with pytest.raises(ValueError, match="synthetic with the columns of real"):
        evaluate_synthetic(normal(0), normal(1, d=4))
    with pytest.raises(ValueError, match="same name twice"):
        evaluate_synthetic(*[pd.DataFrame(normal(0), columns=list("aba"))] * 2)
    with pytest.raises(ValueError, match="at least 3 samples, and has 2"):
        evaluate_synthetic(normal(0), normal(1)[:2])
    with pytest.raises(ValueError, match="target=0 is the only column"):
        evaluate_synthetic(*[normal(0, d=1)] * 3, target=0)
    with pytest.raises(ValueError, match="of holdout, the target, has no value"):
        evaluate_synthetic(normal(0), normal(1), normal(2) * [1, 1, np.nan], target=2)
    classes = np.column_stack([normal(0)[:, 0], np.arange(600) % 2])
    with pytest.raises(ValueError, match="of synthetic, the target, has no class of real"):
        evaluate_synthetic(classes, classes + 0.1, classes, target=1)
    with pytest.raises(ValueError, match="needs holdout"):
        evaluate_synthetic(normal(0), normal(1), target=0)
    with pytest.raises(ValueError, match="'age' is no column"):
        evaluate_synthetic(mixed(0), mixed(1), mixed(2), target="age")


def test_the_display_draws_the_columns_that_differ_most():
    synthetic = mixed(1)
    synthetic["city"] = pd.Categorical(["Oslo"] * 400, categories=["Bern", "Oslo", "Rome"])
    display = SyntheticDisplay.from_samples(mixed(0), synthetic, most_columns=2)
    assert next(iter(display.shares)) == "city"
    labels, real, new = display.shares["city"]
    assert labels == ["Bern", "Oslo", "Rome"]
    np.testing.assert_allclose(new, [0, 1, 0])
    assert real.sum() == pytest.approx(1)
    assert display.axes_.shape == (1, 2)
