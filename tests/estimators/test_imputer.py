"""Imputation as a step of a Pipeline, and columns without values."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, ModelImputer, VAEGenerator

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
COMPLETE, y = load_iris(return_X_y=True)
X = np.where(np.random.RandomState(0).uniform(size=COMPLETE.shape) < 0.2, np.nan, COMPLETE)
MODELS = [AutoencoderTransformer(max_iter=2, random_state=0), VAEGenerator(max_iter=2, random_state=0)]
both = pytest.mark.parametrize("model", MODELS, ids=["autoencoder", "vae"])


@both
def test_the_imputer_is_the_estimators_impute(model):
    imputer = ModelImputer(model)
    filled = imputer.fit_transform(X)
    np.testing.assert_array_equal(filled, clone(model).fit(X).impute(X))
    assert not hasattr(model, "n_features_in_")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(imputer)).transform(X), filled)
    missing = np.isnan(X)
    errors = [np.square(each - COMPLETE)[missing].mean() for each in (filled, SimpleImputer().fit_transform(X))]
    assert errors[0] < 0.5 * errors[1]


@both
def test_pipelines_search_over_the_imputer(model):
    pipe = make_pipeline(ModelImputer(model), PCA(2), LogisticRegression())
    search = GridSearchCV(pipe, {"modelimputer__estimator__n_components": [1, 2]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.8
    assert cross_val_score(pipe, X, y, cv=2, error_score="raise").min() > 0.8


@both
def test_names_and_frames_are_kept(model):
    frame = pd.DataFrame(X, columns=list("abcd"), index=np.arange(150) + 7)
    imputer = ModelImputer(model).fit(frame)
    assert imputer.get_feature_names_out().tolist() == list("abcd")
    filled = imputer.transform(frame)
    assert filled.columns.tolist() == list("abcd")
    assert filled.index.equals(frame.index)
    named = clone(imputer).set_output(transform="pandas").fit_transform(X)
    assert named.columns.tolist() == ["x0", "x1", "x2", "x3"]
    weighted = ModelImputer(model).fit(X, sample_weight=(y == 0) * 1.0)
    assert not np.allclose(weighted.transform(X), ModelImputer(model).fit_transform(X))


def test_an_estimator_that_cannot_impute_is_refused():
    with pytest.raises(TypeError, match=r"estimator=PCA\(\) has no method impute"):
        ModelImputer(PCA()).fit(X)


def test_names_that_are_missing_are_those_of_the_imputer():
    imputer = ModelImputer(clone(MODELS[0])).fit(X)
    with pytest.raises(AttributeError, match=r"^'ModelImputer' object has no attribute 'feature_names_in_'$"):
        imputer.feature_names_in_  # noqa: B018


EMPTY = np.column_stack([X, np.full(len(X), np.nan)])


@pytest.mark.parametrize(
    "model",
    [
        *MODELS,
        AutoencoderTransformer(ordered=True, max_iter=2),
        AutoencoderTransformer(loss="poisson", max_iter=2),
        AutoencoderTransformer(start="random", max_iter=2),
        VAEGenerator(start="pca", max_iter=2),
        VAEGenerator(likelihood="auto", max_iter=2),
        VAEGenerator(likelihood="poisson", max_iter=2),
    ],
    ids=str,
)
def test_a_column_without_values_is_filled_with_zeros(model):
    rows = np.round(EMPTY) if model.get_params().get("likelihood") == "poisson" else EMPTY
    model = clone(model).set_params(random_state=0)
    if isinstance(model, VAEGenerator):
        model.set_params(defensive="linear")  # a mixture of so few samples depends on the draws of missing values
    model.fit(rows)
    assert model.mean_[4] == 0
    assert (model.impute(rows)[:, 4] == 0).all()
    assert np.isfinite(model.score(rows))
    without = clone(model).fit(rows[:, :4])
    if model.start != "random":
        assert model.score(rows) == pytest.approx(without.score(rows[:, :4]), rel=0.2)
    varying = np.where(np.arange(5) == 4, np.round(COMPLETE[:, :1]), rows)
    assert np.ptp(model.partial_fit(varying).impute(rows)[:, 4]) > 0


def test_columns_without_values_of_a_table():
    frame = pd.DataFrame(X, columns=list("abcd")).assign(e=np.nan, f=pd.array([pd.NA] * 150, dtype="Int64"))
    model = VAEGenerator(likelihood="auto", max_iter=2, random_state=0).fit(frame)
    filled = model.impute(frame)
    assert filled.dtypes.equals(frame.dtypes)
    assert (filled[["e", "f"]] == 0).all(axis=None)
    assert model.sample(5).dtypes.equals(frame.dtypes)


def test_weights_are_routed_through_a_pipeline():
    rng = np.random.RandomState(0)
    X, weights = rng.normal(size=(60, 4)), np.arange(60) % 3
    X[::5, 1] = np.nan
    expected = (
        ModelImputer(AutoencoderTransformer(2, max_iter=0, random_state=0)).fit(X, sample_weight=weights).transform(X)
    )
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = AutoencoderTransformer(2, max_iter=0, random_state=0).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(ModelImputer(estimator), StandardScaler().set_fit_request(sample_weight=False))
        routed = pipeline.fit(X, sample_weight=weights)[0].transform(X)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            ModelImputer(AutoencoderTransformer(2)).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(routed, expected)
