"""What components are made of, and which columns make a sample unusual: `local_components` and `score_features`."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VAEGenerator

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

IRIS, SPECIES = load_iris(return_X_y=True)
DIGITS = load_digits().data[:200]


def finite_differences(model, X, step=1e-5):
    Z = model.transform(X)
    moves = step * np.eye(Z.shape[1])
    return np.stack([model.inverse_transform(Z + d) - model.inverse_transform(Z - d) for d in moves], 1) / (2 * step)


def test_local_components_of_the_start_are_those_of_pca():
    local = AutoencoderTransformer(3, max_iter=0).fit(IRIS).local_components(IRIS)
    assert local.shape == (150, 3, 4)
    expected = PCA(3).fit(IRIS).components_
    signs = np.sign((local[0] * expected).sum(axis=1))
    np.testing.assert_allclose(local, np.broadcast_to(signs[:, None] * expected, local.shape), atol=1e-10)


@pytest.mark.parametrize(
    ("model", "X", "y"),
    [
        (AutoencoderTransformer(2, max_iter=5, random_state=0), DIGITS, None),
        (AutoencoderTransformer(2, loss="poisson", max_iter=5, random_state=0), DIGITS, None),
        (
            AutoencoderTransformer(
                2, feature_shape=(1, 8, 8), hidden_layer_sizes=(128, 256), max_iter=2, random_state=0
            ),
            DIGITS,
            None,
        ),
        (VAEGenerator(2, max_iter=40, random_state=1), IRIS, None),
        (VAEGenerator(2, conditional=True, hidden_layer_sizes=(256, 128), max_iter=20, random_state=0), IRIS, SPECIES),
    ],
    ids=["autoencoder", "poisson", "images", "vae", "conditional"],
)
def test_local_components_are_derivatives_of_the_reconstruction(model, X, y):
    model.fit(X, y)
    np.testing.assert_allclose(model.local_components(X), finite_differences(model, X), atol=1e-6)


def test_local_components_of_a_truncated_model():
    model = AutoencoderTransformer(3, ordered=True, max_iter=20, random_state=0).fit(DIGITS).truncate(2)
    local = model.local_components(DIGITS)
    assert local.shape == (200, 2, 64)
    np.testing.assert_allclose(local, finite_differences(model, DIGITS), atol=1e-6)


def test_local_components_keep_the_precision_and_take_sparse_samples():
    model = AutoencoderTransformer(2, max_iter=5, random_state=0).fit(DIGITS)
    assert model.local_components(DIGITS.astype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(model.local_components(csr_matrix(DIGITS)), model.local_components(DIGITS))


def test_decoders_with_attention_have_local_components():
    def with_attention(n_in, n_out):
        layer = torch.nn.TransformerEncoderLayer(2, 1, 8, activation="gelu", batch_first=True)
        ends = torch.nn.Linear(n_in, 8), torch.nn.Linear(8, n_out)
        return torch.nn.Sequential(ends[0], torch.nn.Unflatten(1, (4, 2)), layer, torch.nn.Flatten(), ends[1])

    model = AutoencoderTransformer(2, decoder=with_attention, max_iter=2, start="random", random_state=1).fit(IRIS)
    np.testing.assert_allclose(model.local_components(IRIS), finite_differences(model, IRIS), atol=1e-6)


def test_categories_have_no_local_components():
    X = pd.DataFrame({"a": [0.0, 1, 2, 3, 5, 4], "b": list("xyxyxy")})
    with pytest.raises(ValueError, match="a category has no derivative"):
        AutoencoderTransformer(1, max_iter=0).fit(X).local_components(X)


def test_squared_errors_by_column_have_the_mean_of_score_samples():
    X = DIGITS.copy()
    X[0, 1] = X[3, 2] = np.nan
    model = AutoencoderTransformer(2, max_iter=5, random_state=0).fit(X)
    scores = model.score_features(X)
    np.testing.assert_array_equal(np.isnan(scores), np.isnan(X))
    np.testing.assert_allclose(np.nanmean(scores, axis=1), model.score_samples(X), rtol=1e-10)
    errors = (X - model.inverse_transform(model.transform(X))) ** 2
    np.testing.assert_allclose(scores, -errors, rtol=1e-8, atol=1e-12)


def test_the_score_of_a_category_is_that_of_its_indicators():
    # The table is encoded by two numbers and three indicators.
    X = pd.DataFrame({"a": np.arange(30.0), "b": list("xyz") * 10, "c": np.arange(30.0)})
    odd = X.iloc[:3].assign(c=[100.0, 1.0, 2.0])
    model = AutoencoderTransformer(2, max_iter=0).fit(X)
    scores = model.score_features(odd)
    assert scores.shape == (3, 3)
    assert scores[0].argmin() in (0, 2)
    np.testing.assert_allclose(scores.sum(axis=1) / model.score_samples(odd), 5, rtol=1e-10)


def exact(model, X):
    """Log-density of each value given the others, for a normal distribution: regression on the observed others."""
    covariance = model.components_.T @ model.components_ + np.diag(model.noise_variance_)
    scores = np.full(X.shape, np.nan)
    for i, j in zip(*np.nonzero(~np.isnan(X)), strict=True):
        others = np.setdiff1d(np.flatnonzero(~np.isnan(X[i])), [j])
        slopes = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, j])
        mean = model.mean_[j] + slopes @ (X[i] - model.mean_)[others]
        variance = covariance[j, j] - slopes @ covariance[others, j]
        scores[i, j] = -0.5 * ((X[i, j] - mean) ** 2 / variance + np.log(2 * np.pi * variance))
    return scores


@pytest.mark.parametrize("start", ["pca", "factor_analysis"])
def test_densities_given_the_others_are_exact_for_the_linear_start(start):
    X = load_iris().data[:, ::-1] * [1, 10, 0.1, 100]
    model = VAEGenerator(2, start=start, max_iter=0).fit(X)
    X[0, 1] = X[3, 2] = X[3, 0] = np.nan
    np.testing.assert_allclose(model.score_features(X), exact(model, X), rtol=1e-6, atol=1e-6)


def test_the_unusual_column_scores_lowest():
    model = VAEGenerator(2, max_iter=40, random_state=1).fit(IRIS)
    for column in range(4):
        odd = IRIS[:20].copy()
        odd[:, column] += 5 * IRIS[:, column].std()
        assert (model.score_features(odd).argmin(axis=1) == column).mean() > 0.9


@pytest.mark.usefixtures("exact_estimates")
def test_a_density_given_the_others_has_the_unit_of_its_column():
    scores = VAEGenerator(2, max_iter=0).fit(IRIS).score_features(IRIS)
    scaled = VAEGenerator(2, max_iter=0).fit(1000 * IRIS).score_features(1000 * IRIS)
    np.testing.assert_allclose(scaled, scores - np.log(1000), atol=1e-3)


def test_a_column_that_was_constant_has_its_own_score():
    X = np.column_stack([IRIS, np.full(len(IRIS), 7.0)])
    model = VAEGenerator(2, max_iter=0).fit(X)
    odd = X[:5].copy()
    odd[:, 4] = 8
    usual, unusual = model.score_features(X[:5]), model.score_features(odd)
    np.testing.assert_array_equal(unusual[:, :4], usual[:, :4])
    assert (unusual[:, 4] < usual[:, 4] - 10).all()
    odd[:, 4] = np.nan
    assert np.isnan(model.score_features(odd)[:, 4]).all()


def test_a_conditional_density_given_the_others_is_that_of_the_class():
    X = IRIS + 100 * SPECIES[:, None]  # no sample could be of another class
    model = VAEGenerator(2, conditional=True, max_iter=0).fit(X, SPECIES)
    mean = np.stack([X[k == SPECIES].mean(axis=0) for k in range(3)])
    centred = X - mean[SPECIES] + model.mean_
    np.testing.assert_allclose(model.score_features(X), exact(model, centred), atol=1e-4)


@pytest.mark.parametrize("likelihood", ["poisson", "auto", {"a": "gaussian"}])
def test_other_likelihoods_have_no_scores_of_columns(likelihood):
    model = VAEGenerator(2, likelihood=likelihood)
    assert not hasattr(model, "score_features")
    with pytest.raises(AttributeError, match="score_features"):
        model.score_features(IRIS)


@pytest.mark.parametrize("model", [AutoencoderTransformer(2, max_iter=0), VAEGenerator(2, max_iter=0)])
def test_values_too_large_for_the_arithmetic_have_the_lowest_scores(model):
    model.fit(1e-10 * IRIS)
    X = 1e-10 * IRIS[:3]
    X[0, 1], X[1, 1], X[1, 2] = 1e160, 1e300, np.nan
    scores = model.score_features(X)
    np.testing.assert_array_equal(np.isnan(scores), np.isnan(X))
    assert (scores[:2, 1] < -1e300).all()
    np.testing.assert_allclose(scores[2], model.score_features(X[2:])[0])
    assert (model.score_samples(X)[:2] < -1e300).all()
