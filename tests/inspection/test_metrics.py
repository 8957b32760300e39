"""Reconstruction error, as a number and as a scorer."""

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer, reconstruction_error, reconstruction_scorer


def test_reconstruction_error_is_one_number_for_all(digits):
    X = digits[:200]
    pca = PCA(3).fit(X)
    assert reconstruction_error(pca, X) == pytest.approx(
        reconstruction_error(AutoencoderTransformer(3, max_iter=0).fit(X), X)
    )
    pipeline = make_pipeline(StandardScaler(), PCA(64)).fit(X)
    assert reconstruction_error(pipeline, X) == pytest.approx(0, abs=1e-20)
    assert reconstruction_scorer(pca, X) == -reconstruction_error(pca, X)
    frame = pd.DataFrame(X)
    assert reconstruction_error(PCA(3).set_output(transform="pandas").fit(X), frame) == pytest.approx(
        reconstruction_error(pca, X)
    )
    unsigned = FunctionTransformer(inverse_func=lambda X: X + np.uint8(1)).fit(X)
    assert reconstruction_error(unsigned, X.astype(np.uint8)) == 1
    with pytest.raises(TypeError, match="Pipeline has no inverse_transform"):
        reconstruction_error(make_pipeline(PCA(3), KMeans(2, n_init=1)).fit(X), X)


def test_entries_that_are_missing_have_no_error(curve):
    hidden = np.random.RandomState(0).uniform(size=curve.shape) < 0.2
    constant = FunctionTransformer(inverse_func=lambda Z: np.ones(Z.shape)).fit(curve)
    error = reconstruction_error(constant, np.where(hidden, np.nan, curve))
    assert error == pytest.approx(np.mean((curve[~hidden] - 1) ** 2))


def test_encoded_text_is_measured_as_it_is_encoded():
    X = pd.DataFrame({"city": ["Oslo", "Rome", "Rome", "Bonn"], "kind": ["a", "b", "b", "b"]})
    pipeline = make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler(), PCA(1)).fit(X)
    encoded = pipeline[0].transform(X)
    assert reconstruction_error(pipeline, X) == pytest.approx(reconstruction_error(pipeline[1:], encoded))
    assert reconstruction_error(make_pipeline(CountVectorizer(), TruncatedSVD(1)).fit(X["city"]), X["city"]) > 0
    assert reconstruction_error(make_pipeline(OneHotEncoder()).fit(X[["kind"]] == "a"), X[["kind"]] == "a") == 0


def test_text_is_refused_by_the_name_of_its_column():
    X = pd.DataFrame({"x": [1.0, 2], "city": ["Oslo", "Rome"]})
    with pytest.raises(ValueError, match=r"takes numbers, but column 'city' of X has 'Oslo'"):
        reconstruction_error(StandardScaler(), X)
    with pytest.raises(ValueError, match=r"takes numbers, but column 'city' of X has 'Oslo'"):
        reconstruction_error(make_pipeline(OneHotEncoder()).fit(X), X)
