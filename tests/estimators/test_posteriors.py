"""Standard deviations of the VAE's posteriors: `transform(X, return_std=True)`."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_iris

from skae import VAEGenerator

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

IRIS, SPECIES = load_iris(return_X_y=True)
DIGITS = load_digits().data[:300]


@pytest.mark.parametrize("start", ["pca", "factor_analysis"])
def test_the_start_has_the_standard_deviations_of_the_linear_model(start):
    model = VAEGenerator(2, start=start, max_iter=0).fit(IRIS)
    codes, std = model.transform(IRIS, return_std=True)
    W = model.components_
    covariance = np.linalg.inv(np.eye(2) + W / model.noise_variance_ @ W.T)
    np.testing.assert_allclose(std, np.broadcast_to(np.sqrt(np.diag(covariance)), std.shape), rtol=1e-6)
    np.testing.assert_array_equal(codes, model.transform(IRIS))


def test_codes_are_those_of_transform_after_training():
    model = VAEGenerator(2, max_iter=5, random_state=0).fit(DIGITS)
    codes, std = model.transform(DIGITS.astype(np.float32), return_std=True)
    assert codes.dtype == std.dtype == np.float32
    np.testing.assert_array_equal(codes, model.transform(DIGITS.astype(np.float32)))
    assert (std > 0).all()
    assert (std < 1).mean() > 0.9


def test_a_sample_without_values_has_the_prior_as_posterior():
    X = DIGITS.copy()
    X[0] = np.nan
    model = VAEGenerator(2, max_iter=5, random_state=0).fit(X)
    codes, std = model.transform(X[:2], return_std=True)
    np.testing.assert_array_equal(codes[0], 0)
    np.testing.assert_array_equal(std[0], 1)
    assert (std[1] < 1).all()


@pytest.mark.parametrize("max_iter", [0, 5])
@pytest.mark.parametrize("n_components", [1, 2, 4])
def test_a_sample_without_values_has_the_prior_as_posterior_in_each_size(max_iter, n_components):
    model = VAEGenerator(4, ordered=True, max_iter=max_iter, random_state=0).fit(IRIS)
    model, X = model.truncate(n_components), np.full((1, 4), np.nan)
    codes, std = model.transform(X, return_std=True)
    np.testing.assert_array_equal(codes, 0)
    np.testing.assert_array_equal(std, 1)
    assert abs(model.score_samples(X)[0]) < 1e-10


@pytest.mark.parametrize("max_iter", [0, 40])
def test_the_density_of_no_values_is_one(max_iter):
    X = np.vstack([IRIS, np.full((1, 4), np.nan)])
    model = VAEGenerator(2, max_iter=max_iter, random_state=1).fit(IRIS)
    assert abs(model.score_samples(X)[-1]) < 0.01
    assert abs(model.log_likelihood(X)[-1]) < 0.01


def test_uncertain_classes_widen_the_posterior():
    model = VAEGenerator(2, conditional=True, max_iter=0).fit(IRIS, SPECIES)
    codes, std = model.transform(IRIS, return_std=True)
    np.testing.assert_allclose(codes, model.transform(IRIS), atol=1e-10)
    joint = np.stack([model.score_samples(IRIS, np.full(150, k)) for k in range(3)]) + np.log(1 / 3)
    weights = np.exp(joint - joint.max(axis=0))[:, :, None]
    weights /= weights.sum(axis=0)
    means = np.stack([model._fitted.encode_given(model._open(IRIS), value) for value in np.eye(3)])
    between = (weights * means**2).sum(axis=0) - (weights * means).sum(axis=0) ** 2
    assert between.max() > 0.01
    within = std[SPECIES == 0].min(axis=0)  # the same in all classes
    np.testing.assert_allclose(std**2, within**2 + between, rtol=1e-3)


def test_frames_of_codes_come_with_arrays():
    model = VAEGenerator(2, max_iter=0).fit(IRIS).set_output(transform="pandas")
    codes, std = model.transform(IRIS, return_std=True)
    assert isinstance(codes, pd.DataFrame)
    assert isinstance(std, np.ndarray)
    with pytest.raises(ValueError, match="return_std"):
        model.transform(IRIS, return_std="yes")


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.parametrize("classes", [None, SPECIES])
@pytest.mark.parametrize("size", [1e9, 1e100])
def test_far_samples_have_standard_deviations(classes, size):
    model = VAEGenerator(2, conditional=classes is not None, max_iter=0).fit(IRIS, classes)
    std = model.transform(IRIS[:1] * [[1], [size]], return_std=True)[1]
    if classes is None:
        np.testing.assert_allclose(std[1], std[0])
    assert (std[1] > 0.01).all()


def test_a_truncated_models_codes_with_their_deviations_are_its_codes():
    few = VAEGenerator(3, ordered=True, max_iter=3, random_state=0).fit(IRIS).truncate(2)
    codes, std = few.transform(IRIS, return_std=True)
    np.testing.assert_array_equal(codes, few.transform(IRIS))
    assert codes.shape == std.shape == (150, 2)
