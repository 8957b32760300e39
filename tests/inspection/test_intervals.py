"""Intervals of means over folds cover what they should, and verdicts hold on other folds."""

import re
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import KFold
from sklearn.preprocessing import scale

from skae import compare
from skae.inspection.intervals import corrected_interval


def scores_of_folds(rng, n_folds):
    """Scores whose errors have Nadeau and Bengio's correlation, 1 / n_folds, which folds get from shared samples."""
    shared, own = rng.normal(), rng.normal(size=n_folds)
    return np.sqrt(1 / n_folds) * shared + np.sqrt(1 - 1 / n_folds) * own


@pytest.mark.parametrize("n_folds", [3, 5, 10])
def test_intervals_of_simulated_tables_of_scores_cover_the_mean(n_folds):
    rng = np.random.RandomState(0)
    tables = [3 + scores_of_folds(rng, n_folds) for _ in range(200)]
    covered = np.mean([low <= 3 <= high for _, low, high in map(corrected_interval, tables)])
    assert 0.93 <= covered <= 0.97
    plain = [stats.ttest_1samp(table, 3).pvalue >= 0.05 for table in tables]
    assert np.mean(plain) < 0.9


def error_of_ridge(penalty, X, y, train, test):
    """Squared error of ridge regression, in closed form: scikit-learn's checks take longer than 2,000 small fits."""
    centre, level = X[train].mean(axis=0), y[train].mean()
    rows = X[train] - centre
    slopes = np.linalg.solve(rows.T @ rows + penalty * np.eye(rows.shape[1]), rows.T @ (y[train] - level))
    return np.square((X[test] - centre) @ slopes + level - y[test]).mean()


def test_intervals_of_linear_models_cover_the_difference_of_their_errors():
    rng = np.random.RandomState(0)
    folds = list(KFold(5, shuffle=True, random_state=0).split(np.zeros(60)))
    differences = []
    for _ in range(200):
        X = rng.normal(size=(60, 8))
        y = X[:, 0] + rng.normal(size=60)
        errors = [[error_of_ridge(penalty, X, y, *fold) for fold in folds] for penalty in (0, 20)]
        differences.append(np.subtract(*errors))
    truth = np.mean(differences)
    assert np.mean([low <= truth <= high for _, low, high in map(corrected_interval, differences)]) >= 0.93


def test_one_fold_shows_nothing():
    assert corrected_interval(np.array([2.0])) == (2.0, -np.inf, np.inf)


def claim(verdict):
    """Return the kind of a verdict, and whether the autoencoder is better (1) or worse (-1) by it, or neither."""
    low, high = map(float, re.search(r"interval ([-+.\d]+) to ([-+.\d]+)", verdict).groups())
    is_error = "the error of" in verdict
    return is_error, (1 - 2 * is_error) * ((low > 100 * is_error) - (high < 100 * is_error))


def unrelated(curve):
    """Samples on a curve, which the autoencoder reconstructs better, and targets from which codes are independent."""
    return curve, np.random.RandomState(0).normal(size=len(curve))


TABLES = {"wine": load_wine(return_X_y=True), "diabetes": load_diabetes(return_X_y=True)}


@pytest.mark.slow
@pytest.mark.parametrize("table", [*TABLES, "unrelated"])
def test_verdicts_are_reversed_at_most_once_on_fresh_splits(table, curve):
    X, y = TABLES.get(table) or unrelated(curve[:200])
    claims = Counter()
    for seed in range(20):
        order = np.random.RandomState(seed).permutation(len(X))
        found = compare(
            scale(X)[order], y[order], n_components=[2], estimators=["pca", "autoencoder"], budget="fast"
        ).verdicts()
        claims.update(map(claim, found))
    assert sum(claims.values()) == 2 * 20
    for is_error in (False, True):
        assert min(claims[is_error, -1], claims[is_error, 1]) <= 1
    assert claims[True, 1] >= (19 if table == "unrelated" else 11)
