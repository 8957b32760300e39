import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from skae.linear.gaussian import LinearGaussian, embed_columns, posterior_given_observed
from skae.linear.pca import probabilistic_pca


def covariance_of(model):
    return model.loadings @ model.loadings.T + np.diag(model.noise)


def diagonal_model(seed, location=0.0, n_features=6, n_components=3):
    rng = np.random.RandomState(seed)
    loadings, noise = rng.normal(size=(n_features, n_components)), rng.uniform(0.5, 2, size=n_features)
    model = embed_columns(loadings, noise, np.ones(n_features, dtype=bool), n_components)
    return model._replace(location=np.full(n_features, location))


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_posterior_and_its_factor_are_those_of_the_joint_normal_in_the_precision_of_x(seed):
    loadings, noise, x = normal(seed, 4, 2), normal(seed + 1, 4).exp(), normal(seed + 2, 3, 4)
    mean, factor = posterior_given_observed(x, loadings, noise)
    precision = torch.eye(2) + loadings.T @ (loadings / noise[:, None])
    torch.testing.assert_close(factor @ factor.mT, precision.expand(3, 2, 2))
    torch.testing.assert_close(mean, x @ torch.linalg.solve(loadings @ loadings.T + noise.diag(), loadings))
    parts = posterior_given_observed(x.float(), loadings.float(), noise.float())
    assert all(part.dtype == torch.float32 for part in parts)


def test_posterior_given_observed_entries_is_that_of_the_observed_columns(seed):
    loadings, x = normal(seed, 4, 2), normal(seed + 1, 1, 4)
    noise = torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64)
    expected = posterior_given_observed(x[:, :3], loadings[:3], noise[:3])
    x[0, 3] = torch.nan
    for found, part in zip(posterior_given_observed(x, loadings, noise), expected, strict=True):
        torch.testing.assert_close(found, part)


def test_codes_in_numpy_are_the_posterior_in_torch(seed):
    rng, model = np.random.RandomState(seed), diagonal_model(seed, location=2.0)
    X = np.where(rng.uniform(size=(20, 6)) < 0.4, np.nan, rng.normal(size=(20, 6)))
    centred, loadings, noise = map(torch.from_numpy, (X - model.location, model.loadings, model.noise))
    mean, factor = posterior_given_observed(centred, loadings, noise)
    for found, expected in zip(model.codes(X), (mean, torch.cholesky_inverse(factor)), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("location", [0.0, 1.5])
def test_posterior_and_density_are_those_of_the_joint_normal(location, seed):
    model, X = diagonal_model(seed, location), np.random.RandomState(seed + 1).normal(size=(7, 6))
    matrix, variance = model.posterior()
    np.testing.assert_allclose(matrix, np.linalg.solve(covariance_of(model), model.loadings).T)
    np.testing.assert_allclose(np.diag(variance), np.eye(3) - matrix @ model.loadings, atol=1e-12)
    joint = multivariate_normal(np.full(6, location), covariance_of(model))
    np.testing.assert_allclose(model.log_density(X), joint.logpdf(X))


def test_an_embedded_model_is_diagonal_with_the_strongest_component_first(seed):
    model = diagonal_model(seed)
    signal = (model.loadings / model.noise[:, None]).T @ model.loadings
    assert (np.diff(np.diag(signal)) < 0).all()
    np.testing.assert_allclose(signal, np.diag(np.diag(signal)), atol=1e-12)
    assert (model.loadings[np.abs(model.loadings).argmax(axis=0), np.arange(3)] > 0).all()


def test_columns_that_do_not_vary_are_embedded_without_loadings(seed):
    loadings, varying = np.random.RandomState(seed).normal(size=(3, 2)), np.array([True, False, True, True])
    model = embed_columns(loadings, np.array([0.5, 1.0, 2.0]), varying, 4)
    np.testing.assert_allclose((model.loadings @ model.loadings.T)[varying][:, varying], loadings @ loadings.T)
    assert model.loadings.shape == (4, 4)
    assert not model.loadings[1].any()
    assert not model.loadings[:, 2:].any()
    assert model.noise.tolist() == [0.5, 1, 1, 2]
    assert model.location.tolist() == [0] * 4


def test_the_sign_of_a_component_is_that_of_its_largest_loading(seed):
    every = np.ones(6, dtype=bool)
    loadings = np.random.RandomState(seed).normal(size=(6, 2))
    one, two = (embed_columns(sign * loadings, np.ones(6), every, 2) for sign in (1, -1))
    np.testing.assert_allclose(one.loadings, two.loadings)
    many = np.random.RandomState(seed).normal(size=(10, 6, 2))
    for loadings in (embed_columns(part, np.ones(6), every, 2).loadings for part in many):
        assert (loadings.max(axis=0) == np.abs(loadings).max(axis=0)).all()


def orthogonal_model(rng, lengths, noise):
    loadings = np.linalg.qr(rng.normal(size=(6, len(lengths))))[0] * lengths
    return LinearGaussian(np.zeros(6), loadings, np.full(6, noise))


def test_noise_is_gained_from_components(seed):
    model = orthogonal_model(np.random.RandomState(seed), [3, 2, 0.1], 1.0)
    noisier = model.noisier(1.5)
    np.testing.assert_allclose(noisier.noise, 1.5)
    lengths = np.square(noisier.loadings).sum(axis=0)
    np.testing.assert_allclose(lengths, [8.5, 3.5, 0], atol=1e-12)
    lengths = np.square(model.noisier(1.004).loadings).sum(axis=0)
    np.testing.assert_allclose(lengths, [8.996, 3.996, 0.006], atol=1e-12)


def test_the_posterior_of_a_smaller_model_follows_from_that_of_the_larger(seed):
    larger = orthogonal_model(np.random.RandomState(seed), [3, 2, 0.5, 0], 0.5)
    other = LinearGaussian(np.zeros(6), larger.loadings[:, :3] * [0.5, 0.8, 0.3], 1.7 * larger.noise)
    for size, smaller in ((2, larger.leading(2, 6)), (3, other), (4, larger.noisier(1.2))):
        ratio, gain = smaller.nearer_to_prior(larger)
        (matrix, variance), (before, variance_before) = smaller.posterior(), larger.posterior()
        np.testing.assert_allclose(matrix, ratio[:, None] * before[:size], atol=1e-12)
        np.testing.assert_allclose(gain, np.log(variance / variance_before[:size]), atol=1e-12)
    assert ratio[3] == 1


@pytest.mark.parametrize("size", [1, 3, 5])
def test_leading_components_are_probabilistic_pca_with_fewer(size, seed):
    rng = np.random.RandomState(seed)
    X, units = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 7)) + rng.normal(size=(200, 7)), rng.uniform(0.5, 2, 7)
    X[:, 3] = 0
    X -= X.mean(axis=0)
    most, few = (probabilistic_pca(X, units, k, None) for k in (5, size))
    leading = most.leading(size, 6)
    np.testing.assert_allclose(leading.loadings, few.loadings, atol=1e-9)
    np.testing.assert_allclose(leading.noise[X.any(axis=0)], few.noise[X.any(axis=0)])
    for part, expected in zip(few.leading(size, size), few, strict=True):
        np.testing.assert_allclose(part, expected)


def test_an_imputation_model_has_a_thousandth_of_noise_at_least(seed):
    model = diagonal_model(seed)
    for part, expected in zip(model.as_imputation_model(), model, strict=True):
        np.testing.assert_array_equal(part, expected)
    assert (model._replace(noise=0 * model.noise).as_imputation_model().noise == 1e-3).all()


def test_codes_are_those_of_the_normal_given_what_is_observed(seed):
    rng = np.random.RandomState(seed)
    model, X = diagonal_model(seed)._replace(location=rng.normal(size=6)), rng.normal(size=(5, 6))
    X[:, 1] = X[0] = np.nan
    there = [0, 2, 3, 4, 5]
    mean, covariance = model.codes(X)
    gain = np.linalg.solve(covariance_of(model)[there][:, there], model.loadings[there]).T
    np.testing.assert_allclose(mean[1:], (X - model.location)[1:, there] @ gain.T)
    np.testing.assert_allclose(covariance[1:], np.broadcast_to(np.eye(3) - gain @ model.loadings[there], (4, 3, 3)))
    np.testing.assert_allclose(mean[0], 0)
    np.testing.assert_allclose(covariance[0], np.eye(3), atol=1e-12)
    expected = model.expected(X)
    np.testing.assert_array_equal(expected[~np.isnan(X)], X[~np.isnan(X)])
    np.testing.assert_allclose(expected[1:, 1], (model.location + mean @ model.loadings.T)[1:, 1])
    np.testing.assert_allclose(expected[0], model.location)


def test_components_that_are_cut_become_noise(seed):
    model = diagonal_model(seed, location=1.0)
    cut = model.fold_into_noise(2)
    np.testing.assert_array_equal(cut.loadings, model.loadings[:, :2])
    np.testing.assert_allclose(np.diag(covariance_of(cut)), np.diag(covariance_of(model)))
    assert cut.location is model.location
    expected = np.diag(covariance_of(model)) - model.loadings[:, 0] ** 2
    np.testing.assert_allclose(model.fold_into_noise(1).noise, expected)


def test_missing_values_are_drawn_from_the_normal_given_the_rest_and_in_range(seed):
    model, rng = diagonal_model(seed, location=1.0), np.random.RandomState(seed)
    X = np.tile(rng.normal(size=6), (6000, 1))
    X[:, :2], X[0, :2], X[1, :2] = np.nan, 40, -40
    drawn = model.draw(X, rng)
    np.testing.assert_array_equal(drawn[:, 2:], X[:, 2:])
    covariance = covariance_of(model)
    gain = np.linalg.solve(covariance[2:, 2:], covariance[2:, :2]).T
    np.testing.assert_allclose(drawn[2:, :2].mean(axis=0), 1 + gain @ (X[0, 2:] - 1), atol=0.15)
    np.testing.assert_allclose(np.cov(drawn[2:, :2].T), covariance[:2, :2] - gain @ covariance[2:, :2], atol=0.25)
    X[0, :2], X[1, :2] = 0.01, -0.01
    assert np.abs(model.draw(X, rng)[:, :2]).max() == 0.01


def test_observed_entries_stay_as_they_are(seed):
    rng, model = np.random.RandomState(seed), diagonal_model(seed)
    X = rng.normal(size=(50, 6))
    incomplete = np.where(rng.uniform(size=X.shape) < 0.3, np.nan, X)
    drawn = model.as_imputation_model().draw(incomplete, rng)
    np.testing.assert_array_equal(drawn[~np.isnan(incomplete)], X[~np.isnan(incomplete)])
    assert not np.isnan(drawn).any()
