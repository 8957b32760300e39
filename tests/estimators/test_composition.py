"""Standing where PCA stands: clones, pickles, pipelines, searches, column names, routed metadata."""

import copy
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import (
    AutoencoderTransformer,
    LatentSizeCV,
    VAEGenerator,
    reconstruction_scorer,
)
from skae.objectives import LIKELIHOODS, LOSSES

# Five epochs are few: some fits here end at their linear start and say so.
pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def coder(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, n_out))


KINDS = [AutoencoderTransformer, VAEGenerator]
both = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def quick(*args, **parameters):
    return AutoencoderTransformer(*args, **{"max_iter": 5, "random_state": 0} | parameters)


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def by_skops(model):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(model)
    untrusted = skops.get_untrusted_types(data=data)
    assert all(name.startswith("skae.") for name in untrusted), untrusted
    return skops.loads(data, trusted=untrusted)


@pytest.mark.parametrize("copied", [by_pickle, by_joblib, copy.deepcopy, by_skops], ids=lambda f: f.__name__)
@pytest.mark.parametrize("parameters", [{}, {"loss": "huber", "max_iter": 0}, {"encoder": coder, "decoder": coder}])
def test_a_copy_is_the_same_and_still_trainable(curve, copied, parameters):
    if copied is by_skops and "encoder" in parameters:
        parameters = {"hidden_layer_sizes": (4,)}  # functions of a user's are not skae's to trust
    model = quick(**parameters).fit(curve)
    twin = copied(model)
    np.testing.assert_array_equal(twin.transform(curve), model.transform(curve))
    assert twin.score(curve) == model.score(curve)
    assert twin.loss_curve_ == model.loss_curve_
    assert len(twin.net_.history) == len(model.net_.history)
    before = model.transform(curve)
    twin.partial_fit(curve)
    assert np.abs(twin.transform(curve) - before).max() > 0
    np.testing.assert_array_equal(model.transform(curve), before)


class Small(AutoencoderTransformer):
    """What users derive: a few parameters to choose, the others settled."""

    def __init__(self, width=8, random_state=None):
        super().__init__(3, hidden_layer_sizes=(width,), ordered=True, max_iter=2, random_state=random_state)
        self.width = width


class SmallSearch(LatentSizeCV):
    def __init__(self, n_components=(1, 2)):
        super().__init__(Small(width=4, random_state=0), n_components, cv=2)


@pytest.mark.parametrize("copied", [by_pickle, copy.deepcopy], ids=lambda f: f.__name__)
def test_a_class_with_parameters_of_its_own_is_copied_cut_and_kept(curve, copied, tmp_path):
    model = Small(random_state=0).fit(curve)
    np.testing.assert_array_equal(copied(model).transform(curve), model.transform(curve))
    np.testing.assert_array_equal(copied(model.truncate(2)).transform(curve), model.transform(curve)[:, :2])
    model.checkpoint = tmp_path
    model.fit(curve)
    other = Small(random_state=0)
    other.checkpoint, other.max_iter = tmp_path, 3
    with pytest.raises(ValueError, match="max_iter"):
        other.fit(curve)


def test_a_search_of_ones_own_has_the_parameters_that_it_settled(curve):
    search = by_pickle(SmallSearch().fit(curve))
    assert search.best_estimator_.hidden_layer_sizes == (4,)
    assert search.best_estimator_.n_components_ == search.best_params_["n_components"] == 2


def test_an_unfitted_estimator_pickles_too():
    assert by_pickle(quick(3)).n_components == 3


def test_a_model_from_a_device_that_is_not_here_loads_on_the_cpu(curve):
    model = quick().fit(curve)
    model.device = "cuda:77"
    np.testing.assert_array_equal(by_pickle(model).transform(curve), model.transform(curve))


@pytest.mark.parametrize("changed", [{"hidden_layer_sizes": (8,)}, {"loss": "poisson"}, {"start": "random"}])
def test_parameters_set_after_the_fit_wait_for_the_next(curve, changed):
    model = quick().fit(curve)
    Z, X_hat = model.transform(curve), model.inverse_transform(model.transform(curve))
    model.set_params(**changed)
    for twin in (model, by_pickle(model), copy.deepcopy(model)):
        np.testing.assert_array_equal(twin.transform(curve), Z)
        np.testing.assert_array_equal(twin.inverse_transform(Z), X_hat)


def test_float32_squares_do_not_overflow(curve):
    for unit in (1e20, 1, 1e-25):
        X = (curve * unit).astype(np.float32)
        assert quick(max_iter=0).fit(X).score(X) == pytest.approx(quick(max_iter=0).fit(curve).score(curve), abs=1e-4)


@both
def test_clone_keeps_every_parameter(kind):
    parameters = {name: object() for name in kind().get_params()} | {"callbacks": None}
    model = kind(**parameters)
    assert all(model.get_params()[name] is value for name, value in parameters.items())
    assert clone(kind(7, alpha=0.5)).get_params() == kind(7, alpha=0.5).get_params()


def test_clone_of_a_changed_estimator_is_changed_too():
    assert clone(quick(7, alpha=0.5)).get_params() == quick(7, alpha=0.5).get_params()


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("explained_variance_ratio_", "It is set by fit with ordered=True, or n_components='auto'"),
        ("explained_variance_", "The variances of codes are "),
        ("singular_values_", "They are the norms of "),
        ("noise_variance_", "VAEGenerator has one."),
        ("get_covariance", "VAEGenerator has one."),
        ("get_precision", "VAEGenerator has one."),
    ],
)
def test_attributes_that_only_pca_has_have_a_way_out(name, way_out, digits):
    assert hasattr(PCA(2).fit(digits), name)
    for model in (AutoencoderTransformer(), AutoencoderTransformer(max_iter=0).fit(digits)):
        assert not hasattr(model, name)
        with pytest.raises(
            AttributeError, match=f"^'AutoencoderTransformer' object has no attribute '{name}'. .*{way_out}"
        ):
            getattr(model, name)


def test_what_the_errors_say_of_pca_is_true(digits):
    pca, codes = PCA(4).fit(digits), AutoencoderTransformer(4, max_iter=0).fit_transform(digits)
    np.testing.assert_allclose(codes.var(axis=0, ddof=1), pca.explained_variance_)
    np.testing.assert_allclose(np.linalg.norm(codes - codes.mean(axis=0), axis=0), pca.singular_values_)


def test_a_scaler_behind_it_whitens_as_pca_does(digits):
    n_samples, white = len(digits), PCA(4, whiten=True).fit_transform(digits)
    codes = make_pipeline(AutoencoderTransformer(4, max_iter=0), StandardScaler()).fit_transform(digits)
    np.testing.assert_allclose(codes * np.sqrt((n_samples - 1) / n_samples), white, atol=1e-6)  # PCA divides by n - 1


def test_all_components_of_pca_are_as_many_as_columns():
    X = load_iris().data
    pca, model = PCA().fit(X), AutoencoderTransformer(X.shape[1], max_iter=0).fit(X)
    np.testing.assert_allclose(model.transform(X), pca.transform(X), atol=1e-6)


def test_an_attribute_that_fails_keeps_its_reason():
    model = AutoencoderTransformer("auto")
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError) as caught:
        model.partial_fit  # noqa: B018
    assert "partial_fit has none" in str(caught.value.__cause__)


@pytest.mark.workers
def test_one_grid_holds_pca_and_the_autoencoder(digits):
    X, y = digits[:120], np.arange(120) % 2
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("reduce", PCA()), ("classify", LogisticRegression(max_iter=500))]
    )
    narrow = {"hidden_layer_sizes": (32,)}  # in each process
    vae = VAEGenerator(max_iter=2, random_state=0, **narrow)
    grid = {"reduce": [PCA(), quick(max_iter=2, **narrow), vae], "reduce__n_components": [2, 8]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.cv_results_["params"]) == 6
    alone = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    np.testing.assert_allclose(alone.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"], atol=1e-3)


def test_a_grid_without_a_classifier_scores_by_reconstruction(digits):
    X = digits[:300]
    pipeline = Pipeline([("scale", StandardScaler()), ("reduce", PCA())])
    grid = {"reduce": [PCA(), quick(max_iter=2)], "reduce__n_components": [2, 8]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring=reconstruction_scorer).fit(X)
    assert search.best_score_ < 0
    assert search.best_params_["reduce__n_components"] == 8
    assert isinstance(search.best_estimator_["reduce"], AutoencoderTransformer)


def test_cross_val_score_of_a_pipeline_with_string_labels(digits):
    y = np.where(np.arange(200) % 2, "odd", "even")
    assert len(cross_val_score(make_pipeline(quick(4), LogisticRegression(max_iter=500)), digits[:200], y, cv=2)) == 2


def test_unions_and_column_transformers(curve):
    union = FeatureUnion([("pca", PCA(2)), ("autoencoder", quick(3))]).fit(curve)
    assert union.transform(curve).shape == (300, 5)
    columns = ColumnTransformer([("first", quick(1), [0, 1, 2]), ("rest", "passthrough", [3, 4])]).fit(curve)
    assert list(columns.get_feature_names_out()) == ["first__autoencodertransformer0", "rest__x3", "rest__x4"]


@pytest.mark.parametrize(("library", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_frames_in_and_out(curve, library, frame):
    names = ["a", "b", "c", "d", "e"]
    X = frame(dict(zip(names, curve.T, strict=True)))
    model = quick(2).set_output(transform=library).fit(X)
    assert list(model.feature_names_in_) == names
    Z = model.transform(X)
    assert isinstance(Z, frame)
    assert (
        list(Z.columns) == ["autoencodertransformer0", "autoencodertransformer1"] == list(model.get_feature_names_out())
    )
    X_hat = model.inverse_transform(Z)
    assert isinstance(X_hat, np.ndarray)
    np.testing.assert_allclose(X_hat, quick(2).fit(curve).inverse_transform(quick(2).fit(curve).transform(curve)))
    with pytest.raises(ValueError, match="feature names"):
        model.transform(X[["b", "a", "c", "d", "e"]])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_frame_of_a_class_of_its_own_is_a_frame(curve, frame):
    mine = type("Mine", (frame,), {"__module__": "mine"})
    X = mine(dict(zip("abcde", curve.T, strict=True)))
    assert isinstance(VAEGenerator(2, max_iter=1, random_state=0).fit(X).sample(3), frame)
    assert isinstance(VAEGenerator(2, likelihood="auto", max_iter=1, random_state=0).fit(X).sample(3), frame)


@both
def test_validation_rows_are_routed_and_transformed_on_the_way(curve, kind):
    train, held_out = curve[:200], curve[200:]
    model = kind(max_iter=5, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("reduce", clone(model).set_fit_request(X_val=True))],
            transform_input=["X_val"],
        )
        pipeline.fit(train, X_val=held_out)
    scaler = StandardScaler().fit(train)
    by_hand = model.fit(scaler.transform(train), X_val=scaler.transform(held_out))
    assert pipeline[-1].best_loss_ == by_hand.best_loss_


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(curve, kind, dtype):
    model = kind(max_iter=5, random_state=0).fit(curve.astype(dtype))
    Z = model.transform(curve.astype(dtype))
    assert Z.dtype == model.inverse_transform(Z).dtype == model.score_samples(curve.astype(dtype)).dtype == dtype
    assert model.transform((10 * curve).astype(int)).dtype == np.float64


def test_read_only_and_fortran_rows(curve):
    frozen = np.asfortranarray(curve)
    frozen.setflags(write=False)
    np.testing.assert_allclose(quick().fit(frozen).transform(frozen), quick().fit(curve).transform(curve), atol=1e-9)


@both
@pytest.mark.parametrize(
    "lie", [np.asfortranarray, lambda X: np.repeat(X, 2, axis=1)[:, ::2], lambda X: X[::-1].copy()[::-1]]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fits_do_not_depend_on_the_order_in_memory(curve, kind, lie, dtype):
    """Not even in the last bit: a checkpoint takes both for the same samples."""
    X, model = curve.astype(dtype), kind(2, max_iter=3, random_state=0)
    expected = clone(model).fit(X, X_val=X[:50])
    found = clone(model).fit(lie(X), X_val=lie(X[:50]))
    np.testing.assert_array_equal(found.transform(X), expected.transform(X))
    np.testing.assert_array_equal(found.transform(lie(X)), expected.transform(X))
    assert found.loss_curve_ == expected.loss_curve_


@pytest.mark.parametrize(
    "model",
    [
        *(AutoencoderTransformer(2, loss=loss) for loss in LOSSES),
        *(VAEGenerator(2, likelihood=likelihood) for likelihood in LIKELIHOODS),
        *(VAEGenerator(2, start=start) for start in ("pca", "random")),
        AutoencoderTransformer(2, start="random"),
        AutoencoderTransformer(2, ordered=True),
        AutoencoderTransformer(2, noise=0.1, sparsity=0.1),
        VAEGenerator(2, ordered=True),
        VAEGenerator(2, prior="mixture"),
        VAEGenerator(2, likelihood="auto"),
    ],
)
def test_numpy_may_raise_errors_of_floating_point(curve, model):
    """Underflow, for example, is harmless in a square or an exponential."""
    curve = curve[:80]
    name = model.get_params().get("loss", model.get_params().get("likelihood"))
    ranks = curve.argsort(axis=0).argsort(axis=0)
    X = {"log_loss": ranks / len(curve), "bernoulli": ranks % 2, "categorical": ranks % 3}.get(name, curve)
    X = np.round(np.exp(curve)) if name in ("poisson", "negative_binomial", "multinomial") else X * 1.0
    X[::7, 1] = np.nan if name != "multinomial" else X[::7, 1]
    with np.errstate(all="raise"):
        model = clone(model).set_params(max_iter=2, random_state=0).fit(X)
        for method in ("transform", "score", "score_samples", "impute", "log_likelihood"):
            if hasattr(model, method):
                getattr(model, method)(X)
        model.inverse_transform(model.transform(X))
        model.sample(5, random_state=0)
        pickle.loads(pickle.dumps(model)).partial_fit(X)
        assert set(np.geterr().values()) == {"raise"}


def test_inputs_are_not_changed(curve):
    X, Z = curve.copy(), np.ones((4, 2))
    for parameters in ({}, {"encoder": coder, "decoder": coder, "start": "random"}):
        model = quick(**parameters).fit(X)
        model.transform(X)
        model.score(X)
        model.inverse_transform(Z)
    np.testing.assert_array_equal(X, curve)
    np.testing.assert_array_equal(Z, np.ones((4, 2)))


def test_the_html_repr_names_the_estimator_and_its_parameters(curve):
    html = quick(3).fit(curve)._repr_html_()
    assert "AutoencoderTransformer" in html
    assert "n_components" in html
    assert repr(quick(3)) == "AutoencoderTransformer(max_iter=5, n_components=3, random_state=0)"


def test_results_do_not_depend_on_the_number_of_threads_beyond_rounding(curve):
    threads = torch.get_num_threads()
    try:
        codes = []
        for n in (1, 2):
            torch.set_num_threads(n)
            codes.append(quick(max_iter=1, batch_size=60).fit(curve[:120]).transform(curve))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-3)
