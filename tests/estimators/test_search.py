"""The search for the latent size, of both estimators."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from joblib import parallel_config
from scipy.sparse import csc_matrix, csr_array
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator, reconstruction_error, reconstruction_scorer

# Few epochs: some fits here end at their linear start and say so.
pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
WINE = StandardScaler().fit_transform(load_wine().data)
WIDTHS = {"hidden_layer_sizes": (32, 16)}  # in each process
quick = partial(AutoencoderTransformer, max_iter=20, random_state=0, **WIDTHS)
quick_vae = partial(VAEGenerator, max_iter=5, random_state=0, **WIDTHS)


def search(n_components=(1, 2, 4), *, cv=3, scoring=None, one_standard_error=False, n_jobs=None, **parameters):
    settings = {"cv": cv, "scoring": scoring, "one_standard_error": one_standard_error, "n_jobs": n_jobs}
    return LatentSizeCV(quick(**parameters), n_components, **settings)


@pytest.fixture(scope="module")
def fitted(digits):
    return search().fit(digits[:200])


@pytest.fixture(scope="module")
def of_vae():
    return LatentSizeCV(quick_vae(), (1, 2, 4), cv=3).fit(WINE)


def test_results_are_those_of_one_ordered_fit_a_fold(fitted, digits):
    X = digits[:200]
    errors, pca_errors = [], []
    for train, test in KFold(3).split(X):
        model = quick(4, ordered=True).fit(X[train])
        errors.append([reconstruction_error(model.truncate(size), X[test]) for size in (1, 2, 4)])
        pca_errors.append([reconstruction_error(PCA(size).fit(X[train]), X[test]) for size in (1, 2, 4)])
    results = fitted.cv_results_
    np.testing.assert_allclose(results["mean_test_error"], np.mean(errors, axis=0))
    np.testing.assert_allclose(results["std_test_error"], np.std(errors, axis=0))
    np.testing.assert_allclose(results["mean_pca_error"], np.mean(pca_errors, axis=0), rtol=1e-6)
    np.testing.assert_allclose(results["split1_test_score"], -np.array(errors[1]))
    np.testing.assert_array_equal(results["rank_test_score"], [3, 2, 1])
    assert fitted.n_splits_ == 3
    assert fitted.scorer_ is reconstruction_scorer


def test_scores_of_a_vae_are_mean_bounds_of_one_ordered_fit_a_fold(of_vae):
    scores = []
    for train, test in KFold(3).split(WINE):
        model = quick_vae(4, ordered=True).fit(WINE[train])
        scores.append([model.truncate(size).score(WINE[test]) for size in (1, 2, 4)])
    for fold, expected in enumerate(scores):
        np.testing.assert_allclose(of_vae.cv_results_[f"split{fold}_test_score"], expected)
    assert of_vae.best_score_ == of_vae.cv_results_["mean_test_score"].max()
    assert "mean_test_error" not in of_vae.cv_results_


@pytest.mark.parametrize("name", ["fitted", "of_vae"])
def test_results_have_the_names_and_types_of_a_grid_search(name, request):
    found = request.getfixturevalue(name)
    grid = GridSearchCV(PCA(), {"n_components": [1, 2, 4]}, cv=3).fit(WINE)
    for key, expected in grid.cv_results_.items():
        values = found.cv_results_[key]
        assert isinstance(expected, type(values)), key  # without a mask, since files hold plain arrays
        assert getattr(values, "dtype", None) == getattr(expected, "dtype", None), key
    assert found.cv_results_["params"] == grid.cv_results_["params"]
    np.testing.assert_array_equal(found.cv_results_["param_n_components"], [1, 2, 4])
    for attribute in ("best_params_", "best_index_", "best_score_", "n_splits_", "refit_time_"):
        assert type(getattr(found, attribute)) in (int, float, dict), attribute
    assert found.best_params_ == found.cv_results_["params"][found.best_index_]
    assert found.cv_results_["rank_test_score"][found.best_index_] == 1
    assert pd.DataFrame(found.cv_results_).shape[0] == 3


def test_the_chosen_size_is_fitted_for_itself(fitted, digits):
    assert fitted.best_params_["n_components"] == fitted.n_components_ == fitted.best_estimator_.n_components_ == 4
    assert not fitted.best_estimator_.ordered
    alone = quick(4).fit(digits[:200])
    np.testing.assert_array_equal(fitted.transform(digits), alone.transform(digits))
    np.testing.assert_array_equal(fitted.components_, alone.components_)
    assert fitted.score(digits) == alone.score(digits)
    np.testing.assert_array_equal(fitted.score_samples(digits), alone.score_samples(digits))
    Z = alone.transform(digits)
    np.testing.assert_array_equal(fitted.inverse_transform(Z), alone.inverse_transform(Z))
    np.testing.assert_array_equal(fitted.sample(2, random_state=0), alone.sample(2, random_state=0))
    gaps = np.where(digits[:5] > 12, np.nan, digits[:5])
    np.testing.assert_array_equal(fitted.impute(gaps), alone.impute(gaps))
    assert not hasattr(fitted, "log_likelihood")


def test_the_last_fit_is_ordered_if_the_estimator_is_and_alone_uses_its_checkpoint(curve, tmp_path):
    found = search((1, 2), ordered=True, max_iter=2, checkpoint=tmp_path).fit(curve)
    assert found.best_estimator_.ordered
    assert (tmp_path / "checkpoint.pt").exists()
    again = search((1, 2), ordered=True, max_iter=2, checkpoint=tmp_path).fit(curve)
    np.testing.assert_array_equal(again.transform(curve), found.transform(curve))


def test_methods_of_a_vae_are_available(of_vae):
    alone = quick_vae(of_vae.n_components_).fit(WINE)
    np.testing.assert_array_equal(of_vae.log_likelihood(WINE, n_draws=10), alone.log_likelihood(WINE, n_draws=10))
    assert of_vae.score(WINE) == alone.score(WINE)
    drawn = of_vae.sample(3, noise=False, random_state=0)
    np.testing.assert_array_equal(drawn, alone.sample(3, noise=False, random_state=0))


def test_components_without_order_have_a_fit_for_each_size(curve):
    found = search((1, 2), cv=2, max_iter=2, start="random").fit(curve)
    for fold, (train, test) in enumerate(KFold(2).split(curve)):
        models = [quick(size, max_iter=2, start="random").fit(curve[train]) for size in (1, 2)]
        errors = [reconstruction_error(model, curve[test]) for model in models]
        pca_errors = [reconstruction_error(PCA(size).fit(curve[train]), curve[test]) for size in (1, 2)]
        np.testing.assert_allclose(found.cv_results_[f"split{fold}_test_score"], np.negative(errors))
        if fold == 0:
            first = pca_errors
    np.testing.assert_allclose(found.cv_results_["mean_pca_error"], np.mean([first, pca_errors], axis=0), rtol=1e-6)


def test_attributes_that_are_missing_are_those_of_the_search(fitted):
    for name in ("nothing", "nothing_", "noise_variance_"):
        assert not hasattr(fitted, name)
        with pytest.raises(AttributeError, match=f"^'LatentSizeCV' object has no attribute '{name}'$"):
            getattr(fitted, name)


def test_without_refit_there_are_results_and_no_methods(curve):
    found = LatentSizeCV(quick(max_iter=0), (1, 2), cv=2, refit=False).fit(curve)
    assert found.best_params_ == {"n_components": 2}
    for search in (found, clone(found)):
        for name in ("best_estimator_", "refit_time_", "n_components_", "classes_"):
            assert not hasattr(search, name)
        of_best = [name for name, function in vars(LatentSizeCV).items() if hasattr(function, "check")]
        assert len(of_best) == 10
        for name in (*of_best, "set_output"):
            assert not hasattr(search, name), name
            assert hasattr(clone(found).set_params(refit=True), name) or name == "log_likelihood", name
    for name in ("transform", "fit_transform", "get_feature_names_out", "score"):
        with pytest.raises(AttributeError) as caught:
            getattr(found, name)(curve)
        assert "refit=False" in str(caught.value.__cause__)
    assert pickle.loads(pickle.dumps(found)).best_score_ == found.best_score_


def test_within_one_standard_error_the_smallest_size_is_taken():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(90, 1)) @ rng.normal(size=(1, 6)) + 0.3 * rng.normal(size=(90, 6))
    sizes = (1, 2, 3)

    def fewest(estimator, X, y=None):  # that all sizes meet equally well but for noise between folds
        return -abs(X[0, 0]) - 0.001 * (3 - estimator.n_components_)

    assert search(sizes, scoring=fewest, max_iter=0).fit(X).n_components_ == 3
    found = search(sizes, scoring=fewest, max_iter=0, one_standard_error=True).fit(X)
    assert found.n_components_ == 1
    assert (found.best_index_, found.best_score_) == (0, found.cv_results_["mean_test_score"][0])


def test_a_scorer_may_ask_for_labels(digits):
    seen = []

    def scorer(estimator, X, y):
        seen.append(y)
        return estimator.n_components_ == 2

    found = search(scoring=scorer, max_iter=0).fit(digits[:90], np.arange(90))
    assert found.n_components_ == 2
    assert "mean_test_error" in found.cv_results_
    np.testing.assert_array_equal(seen[0], np.arange(30))


def test_scoring_by_name_is_scikit_learns(curve):
    class Predicting(AutoencoderTransformer):
        def predict(self, X):
            return np.full(len(X), self.n_components_ % 2)

    found = LatentSizeCV(Predicting(max_iter=0), (1, 2), cv=2, scoring="accuracy").fit(curve, np.zeros(len(curve)))
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], [0, 1])


def test_a_conditional_model_gets_labels_and_stratified_folds():
    X, y = load_iris(return_X_y=True)
    y = np.array(["a", "b", "c"])[y]  # sorted: unshuffled folds would lack a class
    found = LatentSizeCV(quick_vae(conditional=True), (1, 2), cv=3).fit(X, y)
    np.testing.assert_array_equal(found.classes_, ["a", "b", "c"])
    assert found.score(X, y) == found.best_estimator_.score(X, y) > found.score(X)
    assert found.sample(2, y="b", random_state=0).shape == (2, 4)


def test_groups_are_kept_together(digits):
    groups, seen = np.arange(90) // 9, []

    class Listening(GroupKFold):
        def split(self, X, y=None, groups=None):
            for train, test in super().split(X, y, groups):
                seen.append((set(groups[train]), set(groups[test])))
                yield train, test

    found = search((1, 2), cv=Listening(3), max_iter=0)
    found.fit(digits[:90], groups=groups)
    assert len(seen) == 3
    assert all(not train & test for train, test in seen)
    with pytest.raises(ValueError, match="groups"):
        found.fit(digits[:90])


@pytest.mark.parametrize("estimator", [quick(max_iter=0), quick_vae(max_iter=0, start="pca")])
def test_weights_are_repeated_samples_in_fits_and_scores(estimator, curve):
    weights = np.random.RandomState(0).randint(3, size=len(curve))
    folds, index = list(KFold(2).split(curve)), np.repeat(np.arange(len(curve)), weights)
    repeated = [tuple(np.flatnonzero(np.isin(index, part)) for part in fold) for fold in folds]
    weighted = LatentSizeCV(estimator, (1, 2), cv=folds).fit(curve, sample_weight=weights)
    plain = LatentSizeCV(estimator, (1, 2), cv=repeated).fit(curve[index])
    for name in ("mean_test_score", "std_test_score", "mean_pca_error"):
        if name in plain.cv_results_:
            np.testing.assert_allclose(weighted.cv_results_[name], plain.cv_results_[name], rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(weighted.mean_, plain.mean_)


@pytest.mark.parametrize("form", [csr_array, csc_matrix])
@pytest.mark.parametrize("estimator", [quick(max_iter=2), quick_vae(max_iter=2)])
def test_sparse_samples_have_the_results_of_dense_ones(estimator, form):
    X = np.where(WINE > 0.5, WINE, 0)
    dense, sparse = (LatentSizeCV(estimator, (1, 2), cv=2).fit(samples) for samples in (X, form(X)))
    for name, values in dense.cv_results_.items():
        if name.startswith("mean_") and "time" not in name:
            np.testing.assert_allclose(sparse.cv_results_[name], values, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(sparse.transform(form(X)), dense.transform(X), rtol=1e-3, atol=1e-3)


def test_tensors_are_taken_as_arrays():
    X, y = load_iris(return_X_y=True)
    model = quick_vae(conditional=True, max_iter=0)
    of_array = LatentSizeCV(model, (1, 2), cv=2).fit(X, y, sample_weight=y + 1)
    tensors = torch.tensor(X), torch.tensor(y)
    of_tensor = LatentSizeCV(model, (1, 2), cv=2).fit(*tensors, sample_weight=tensors[1] + 1)
    assert of_tensor.best_score_ == of_array.best_score_
    np.testing.assert_array_equal(of_tensor.transform(tensors[0]), of_array.transform(X))


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_tables_of_mixed_columns_keep_their_types(library):
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(150)
    table = {"length": X[order, 0], "kind": np.array(["a", "b", "c"])[y[order]], "count": (5 * X[order, 2]).astype(int)}
    table = library(table)
    found = LatentSizeCV(quick_vae(likelihood="auto"), (1, 2), cv=2).fit(table)
    assert list(found.sample(3).dtypes)[2] == table.dtypes[2] if library is pl.DataFrame else "int64"
    assert set(np.asarray(found.sample(9)["kind"])) <= {"a", "b", "c"}
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()


def test_it_stands_in_a_pipeline_with_names(digits):
    X = pd.DataFrame(digits[:200]).add_prefix("pixel")
    pipeline = make_pipeline(StandardScaler(), search(max_iter=2)).set_output(transform="pandas").fit(X)
    assert list(pipeline.transform(X)) == [f"latentsizecv{i}" for i in range(4)]
    model = search(max_iter=2).fit(X)
    assert list(model.feature_names_in_) == list(X)
    assert list(model.sample(2)) == list(X)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(X.rename(columns={"pixel0": "other"}))


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.workers), "threading"])
def test_folds_side_by_side_change_nothing(fitted, digits, backend):
    with parallel_config(backend=backend):
        aside = search(n_jobs=2).fit(digits[:200])
    np.testing.assert_allclose(aside.cv_results_["mean_test_score"], fitted.cv_results_["mean_test_score"], rtol=1e-3)


@pytest.mark.parametrize("name", ["fitted", "of_vae"])
def test_it_can_be_pickled_and_cloned(name, request, digits):
    found = request.getfixturevalue(name)
    X = digits if name == "fitted" else WINE
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.transform(X), found.transform(X))
    assert not hasattr(clone(found), "best_estimator_")


def test_the_estimator_is_left_as_it_is(curve):
    model = quick(max_iter=0)
    search_of_it = LatentSizeCV(model, (1, 2), cv=2).fit(curve)
    assert search_of_it.estimator is model
    assert not hasattr(model, "net_")
    assert model.get_params() == quick(max_iter=0).get_params()


def test_sizes_beyond_the_samples_of_a_fold_are_left_out_with_a_warning():
    X = np.random.RandomState(0).normal(size=(12, 3))
    with pytest.warns(UserWarning, match=r"n_components=\[9, 16\] are more than the n_samples=8 .* left out"):
        model = search((1, 16, 2, 9), max_iter=0).fit(X)
    np.testing.assert_array_equal(model.cv_results_["param_n_components"], [1, 2])
    with pytest.warns(UserWarning, match=r"n_components=\[8\] are more than the n_samples=6 .* left out"):
        search((1, 8), max_iter=0).fit(X, sample_weight=[1] * 8 + [0, 0, 1, 1])
    with pytest.raises(ValueError, match="more than the n_samples=8 training samples"):
        search((16,)).fit(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": ()}, r"n_components=\(\) must hold at least one integer"),
        ({"n_components": (2, 0)}, "n_components=0 must be an integer"),
        ({"one_standard_error": 1}, "one_standard_error=1 must be True or False"),
        ({"refit": "error"}, "refit='error' must be True or False"),
        ({"estimator__start": "random", "estimator__ordered": True}, "ordered components"),
        ({"estimator__max_iter": -1}, "max_iter=-1"),
        ({"cv": 1}, "n_splits=1"),
        ({"cv": []}, r"cv=\[\] makes no fold"),
        ({"scoring": "no such name"}, "scoring"),
        ({"scoring": lambda estimator, X: np.nan}, r"scoring gave nan for n_components=\[1, 2, 4\]"),
    ],
)
def test_wrong_parameters_are_named(curve, parameters, message):
    with pytest.raises(ValueError, match=message):
        search(max_iter=0).set_params(**parameters).fit(curve)


@pytest.mark.parametrize("estimator", [PCA(), None, make_pipeline(StandardScaler(), AutoencoderTransformer())])
def test_other_estimators_are_refused(curve, estimator):
    with pytest.raises(TypeError, match="must be an AutoencoderTransformer or a VAEGenerator"):
        LatentSizeCV(estimator).fit(curve)


def test_a_fit_that_fails_leaves_nothing_fitted(curve):
    model = search(max_iter=0).fit(curve)
    with pytest.raises(ValueError, match="hold at least one"):
        model.set_params(n_components=[]).fit(curve)
    assert not hasattr(model, "components_")
    with pytest.raises(ValueError, match="n_splits=1"):
        model.set_params(n_components=[1], cv=1).fit(curve)
    with pytest.raises(NotFittedError):
        model.transform(curve)
