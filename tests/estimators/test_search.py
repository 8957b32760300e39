"""The autoencoder that chooses its size by cross-validation."""

import pickle

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, AutoencoderTransformerCV, reconstruction_error


def search(n_components=(1, 2, 4), **parameters):
    return AutoencoderTransformerCV(n_components, **{"cv": 3, "max_iter": 20, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def fitted(digits):
    return search().fit(digits[:200])


def test_results_are_those_of_one_ordered_fit_a_fold(fitted, digits):
    X = digits[:200]
    errors, pca_errors = [], []
    for train, test in KFold(3).split(X):
        seed = fitted.best_estimator_.random_state
        model = AutoencoderTransformer(4, ordered=True, max_iter=20, random_state=seed).fit(X[train])
        errors.append([reconstruction_error(model.truncate(size), X[test]) for size in (1, 2, 4)])
        pca_errors.append([reconstruction_error(PCA(size).fit(X[train]), X[test]) for size in (1, 2, 4)])
    results = fitted.cv_results_
    np.testing.assert_array_equal(results["n_components"], [1, 2, 4])
    np.testing.assert_allclose(results["mean_test_error"], np.mean(errors, axis=0))
    np.testing.assert_allclose(results["std_test_error"], np.std(errors, axis=0))
    np.testing.assert_allclose(results["mean_pca_error"], np.mean(pca_errors, axis=0), rtol=1e-6)
    np.testing.assert_allclose(results["split1_test_score"], -np.array(errors[1]))
    np.testing.assert_array_equal(results["rank_test_score"], [3, 2, 1])
    assert fitted.n_splits_ == 3


def test_the_chosen_size_is_fitted_for_itself(fitted, digits):
    assert fitted.n_components_ == fitted.best_estimator_.n_components_ == 4
    assert not fitted.best_estimator_.ordered
    alone = AutoencoderTransformer(4, max_iter=20, random_state=fitted.best_estimator_.random_state).fit(digits[:200])
    np.testing.assert_array_equal(fitted.transform(digits), alone.transform(digits))
    np.testing.assert_array_equal(fitted.components_, alone.components_)
    assert fitted.score(digits) == alone.score(digits)
    np.testing.assert_array_equal(fitted.score_samples(digits), alone.score_samples(digits))
    Z = alone.transform(digits)
    np.testing.assert_array_equal(fitted.inverse_transform(Z), alone.inverse_transform(Z))
    np.testing.assert_array_equal(fitted.sample(2, random_state=0), alone.sample(2, random_state=0))
    gaps = np.where(digits[:5] > 12, np.nan, digits[:5])
    np.testing.assert_array_equal(fitted.impute(gaps), alone.impute(gaps))


def test_within_one_standard_error_the_smallest_size_is_taken():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(90, 1)) @ rng.normal(size=(1, 6)) + 0.3 * rng.normal(size=(90, 6))
    sizes = (1, 2, 3)

    def fewest(estimator, X, y=None):  # that all sizes meet equally well but for noise between folds
        return -abs(X[0, 0]) - 0.001 * (3 - estimator.n_components_)

    assert search(sizes, scoring=fewest, max_iter=0).fit(X).n_components_ == 3
    assert search(sizes, scoring=fewest, max_iter=0, one_standard_error=True).fit(X).n_components_ == 1


def test_a_scorer_may_ask_for_labels(digits):
    seen = []

    def scorer(estimator, X, y):
        seen.append(y)
        return estimator.n_components_ == 2

    assert search(scoring=scorer, max_iter=0).fit(digits[:90], np.arange(90)).n_components_ == 2
    np.testing.assert_array_equal(seen[0], np.arange(30))


def test_groups_are_kept_together(digits):
    groups, seen = np.arange(90) // 9, []

    class Listening(GroupKFold):
        def split(self, X, y=None, groups=None):
            for train, test in super().split(X, y, groups):
                seen.append((set(groups[train]), set(groups[test])))
                yield train, test

    search = AutoencoderTransformerCV((1, 2), cv=Listening(3), max_iter=0)
    search.fit(digits[:90], groups=groups)
    assert len(seen) == 3
    assert all(not train & test for train, test in seen)
    with pytest.raises(ValueError, match="groups"):
        search.fit(digits[:90])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_stands_in_a_pipeline_with_names(digits):
    X = pd.DataFrame(digits[:200]).add_prefix("pixel")
    pipeline = make_pipeline(StandardScaler(), search(max_iter=2)).set_output(transform="pandas").fit(X)
    assert list(pipeline.transform(X)) == [f"autoencodertransformercv{i}" for i in range(4)]
    model = search(max_iter=2).fit(X)
    assert list(model.feature_names_in_) == list(X)
    assert list(model.sample(2)) == list(X)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(X.rename(columns={"pixel0": "other"}))


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_folds_side_by_side_change_nothing(fitted, digits, backend):
    with parallel_config(backend=backend):
        aside = search(n_jobs=2).fit(digits[:200])
    np.testing.assert_allclose(aside.cv_results_["mean_test_score"], fitted.cv_results_["mean_test_score"], rtol=1e-3)


def test_it_can_be_pickled(fitted, digits):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(digits), fitted.transform(digits))


def test_sizes_beyond_the_rows_of_a_fold_are_left_out():
    X = np.random.RandomState(0).normal(size=(12, 3))
    model = search((1, 2, 16), max_iter=0).fit(X)
    np.testing.assert_array_equal(model.cv_results_["n_components"], [1, 2])
    with pytest.raises(ValueError, match="more than the n_samples=8 training samples"):
        search((16,)).fit(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": ()}, r"n_components=\(\) must hold at least one integer"),
        ({"n_components": (2, 0)}, "n_components=0 must be an integer"),
        ({"one_standard_error": 1}, "one_standard_error=1 must be True or False"),
        ({"start": "random"}, "ordered components"),
        ({"cv": 1}, "n_splits=1"),
        ({"cv": []}, r"cv=\[\] makes no fold"),
        ({"scoring": "r2"}, "scoring='r2' must be None or a callable"),
        ({"scoring": lambda estimator, X: np.nan}, "scoring gave nan"),
    ],
)
def test_wrong_parameters_are_named(curve, parameters, message):
    with pytest.raises(ValueError, match=message):
        search(**parameters).fit(curve)


def test_a_fit_that_fails_leaves_nothing_fitted(fitted, curve):
    model = search(max_iter=0).fit(curve)
    with pytest.raises(ValueError, match="hold at least one"):
        model.set_params(n_components=[]).fit(curve)
    assert not hasattr(model, "components_")
    with pytest.raises(ValueError, match="n_splits=1"):
        model.set_params(n_components=[1], cv=1).fit(curve)
    with pytest.raises(NotFittedError):
        model.transform(curve)
