import itertools

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skae.linear import pca
from skae.linear.pca import (
    leading,
    n_components_for,
    ordered_probabilistic_pca,
    pca_start,
    probabilistic_pca,
    rank_of,
)


def covariance_of(model):
    return model.loadings @ model.loadings.T + np.diag(model.noise)


def test_the_start_is_pca_with_codes_of_unit_variance(scaled_table):
    X = scaled_table - scaled_table.mean(axis=0)
    k = min(X.shape) // 2
    start = pca_start(X, k, np.random.RandomState(0))
    Z, fit = X @ start.encoder.T, PCA(k, svd_solver="full").fit(X)
    tolerance = 1e-6 * np.abs(X).max()
    np.testing.assert_allclose(Z * start.code_scale, fit.transform(X), atol=tolerance)
    np.testing.assert_allclose(Z @ start.decoder.T, fit.inverse_transform(fit.transform(X)), atol=tolerance)


def test_extra_components_change_no_reconstruction(seed):
    X = np.random.RandomState(seed).normal(size=(30, 3))
    X -= X.mean(axis=0)
    start = pca_start(X, 5, np.random.RandomState(seed))
    assert np.abs(X @ start.encoder.T).min(axis=0).shape == (5,)
    assert start.encoder[3:].any(axis=1).all()
    np.testing.assert_allclose(X @ start.encoder.T @ start.decoder.T, X, atol=1e-12)


def test_extra_components_are_of_size_one(seed):
    start = pca_start(np.eye(40) - 1 / 40, 1040, np.random.RandomState(seed))
    assert np.square(start.encoder[40:]).sum(axis=1).mean() == pytest.approx(1, abs=0.05)
    assert (start.code_scale[40:] == 1).all()


def test_a_start_has_its_residual(scaled_table):
    X = scaled_table - scaled_table.mean(axis=0)
    start = pca_start(X, 3, np.random.RandomState(0))
    Z = X @ start.encoder.T
    left, unit = X - Z @ start.decoder.T, np.abs(X).max()
    np.testing.assert_allclose(start.residual, np.sqrt(np.square(left).mean(axis=0)), atol=1e-9 * unit)
    largest = start.code_scale[0]
    np.testing.assert_allclose(Z.std(axis=0, ddof=1)[start.code_scale > 2e-4 * largest], 1, rtol=1e-6)
    assert (start.code_scale >= 1e-4 * largest).all()
    cut, dedicated = leading(start, X, 2), pca_start(X, 2, np.random.RandomState(0))
    for part, expected in zip(cut, dedicated, strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-9 * unit)


def test_codes_of_samples_on_a_line_are_not_scaled_up(seed):
    X = np.outer(np.random.RandomState(seed).normal(size=30), [1.0, 2.0, 3.0])
    start = pca_start(X - X.mean(axis=0), 2, np.random.RandomState(0))
    assert start.code_scale[1] == pytest.approx(1e-4 * start.code_scale[0])
    nothing = pca_start(np.zeros((5, 3)), 2, np.random.RandomState(0))
    assert (nothing.code_scale == 1).all()
    assert not nothing.residual.any()


def test_a_start_of_float32_is_in_float64(seed):
    X = np.random.RandomState(seed).normal(size=(30, 3)).astype(np.float32)
    start = pca_start(X - X.mean(axis=0), 2, np.random.RandomState(0))
    assert start.encoder.dtype == start.decoder.dtype == np.float64


def test_blocks_change_no_residual(seed, monkeypatch):
    X = np.random.RandomState(seed).normal(size=(40, 4))
    start = pca_start(X, 2, np.random.RandomState(0))
    monkeypatch.setattr(pca, "_BLOCK", 7)
    np.testing.assert_allclose(pca_start(X, 2, np.random.RandomState(0)).residual, start.residual)


def test_noise_that_imputes_is_the_residual_or_a_thousandth_of_the_variance(seed):
    X = np.random.RandomState(seed).normal(size=(50, 4)) * [3, 2, 1, 1e-6]
    X[:, 3] = 0
    start = pca_start(X - X.mean(axis=0), 2, np.random.RandomState(0))
    spread = X.std(axis=0)
    model = start.as_imputation_model(spread)
    np.testing.assert_allclose(model.noise[:3], np.maximum(start.residual**2, 1e-3 * spread**2)[:3])
    assert model.noise[3] == 1
    assert model.loadings is start.decoder
    assert model.location.tolist() == [0] * 4


@pytest.mark.parametrize(("share", "n"), [(0.4, 1), (0.5, 2), (0.6, 2), (0.625, 3), (0.9, 5), (1.0, 5)])
def test_a_share_of_the_variance_takes_the_fewest_components_that_explain_more(share, n):
    half = np.diag([4.0, 2.0, 2.0, 2.0, 2.0])  # shares of 1/2, and 1/8 four times
    assert n_components_for(np.vstack([half, -half]), share) == n


def test_a_share_is_exceeded_and_not_equalled():
    assert n_components_for(np.vstack([np.eye(2), -np.eye(2)]), 0.5) == 2
    assert n_components_for(np.zeros((5, 3)), 0.5) == 1


def test_scaled_pca_has_the_covariance_of_scaled_samples(seed):
    rng = np.random.RandomState(seed)
    X, unit = rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5)), rng.uniform(0.5, 2, size=5)
    X[:, 2] = 0
    X -= X.mean(axis=0)
    model, there = probabilistic_pca(X, unit, 2, None), [0, 1, 3, 4]
    expected = PCA(2).fit((X * unit)[:, there]).get_covariance() / np.outer(unit, unit)[there][:, there]
    np.testing.assert_allclose(covariance_of(model)[there][:, there], expected)
    assert model.noise[2] == 1
    assert not model.loadings[2].any()
    assert model.location.tolist() == [0] * 5
    tiny = probabilistic_pca(X, 1e-200 * unit, 2, None)
    np.testing.assert_allclose(covariance_of(tiny), covariance_of(model))
    assert not probabilistic_pca(1e-200 * X, unit, 2, None).loadings.any()  # too small for squares
    zeros = np.vstack([X, -X, 0 * X[:1]])
    assert probabilistic_pca(zeros, unit, 2, None).loadings[there].any(axis=1).all()
    nothing = probabilistic_pca(0 * X, unit, 2, None)
    assert (nothing.loadings.shape, nothing.loadings.any(), nothing.noise.tolist()) == ((5, 2), False, [1] * 5)
    assert (probabilistic_pca(X, unit, 4, None).noise >= 1e-12).all()


def test_ordered_pca_leaves_a_direction_and_some_noise(seed):
    X = np.random.RandomState(seed).normal(size=(50, 4)) * [3, 2, 1, 0]
    X -= X.mean(axis=0)
    assert rank_of(X) == 3
    assert rank_of(X[:2]) == 2
    model = ordered_probabilistic_pca(X, 6, 1e-3, None)
    assert model.loadings.shape == (4, 6)
    assert model.loadings.any(axis=0).tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(covariance_of(model)[:3, :3], PCA(2).fit(X[:, :3]).get_covariance())
    noisy = ordered_probabilistic_pca(X, 2, 1.7, None)
    np.testing.assert_allclose(noisy.noise, [1.7, 1.7, 1.7, 1.7 / model.noise[0]])
    along = model.loadings[:, :2]
    before, after = (along.T @ covariance_of(each) @ along for each in (model, noisy))
    np.testing.assert_allclose(after, before, atol=1e-9)
    for n_samples, n_components in ((3, 1), (4, 2)):
        few = ordered_probabilistic_pca(X[:n_samples] - X[:n_samples].mean(axis=0), 6, 1e-3, None)
        assert few.loadings.any(axis=0).sum() == n_components
    assert ordered_probabilistic_pca(X, 1, 1e-3, None).loadings.shape == (4, 1)
    X[0] = 0  # columns vary all the same
    assert rank_of(X) == 3
    np.testing.assert_array_equal(ordered_probabilistic_pca(X, 2, 1.7, None).noise[:3], 1.7)
    assert ordered_probabilistic_pca(0 * X, 2, 1e-3, None).loadings.shape == (4, 2)


def test_equal_directions_leave_no_negative_variance():
    for n, scale in itertools.product(range(3, 40), (0.3, 1e-3)):
        model = probabilistic_pca(np.vstack([np.eye(n), -np.eye(n)]) * scale, np.ones(n), 2, None)
        assert np.isfinite(model.loadings).all()


def test_one_component_and_wide_tables_have_starts(seed):
    X = np.random.RandomState(seed).normal(size=(5, 6))
    X -= X.mean(axis=0)
    assert pca_start(X, 1, np.random.RandomState(0)).code_scale.shape == (1,)


@pytest.mark.parametrize(
    ("shape", "n_components", "solver"),
    [
        ((1000, 1000), 10, "full"),
        ((1001, 1000), 10, "covariance_eigh"),
        ((10**7, 2000), 10, "covariance_eigh"),
        ((10**7, 2001), 10, "randomized"),
        ((1500, 3000), 100, "randomized"),
        ((1500, 3000), 300, "full"),
        ((1000, 4000), 10, "full"),
    ],
)
def test_solvers_are_exact_where_one_takes_seconds(shape, n_components, solver):
    assert pca._solver(*shape, n_components) == solver


def first_loadings(X, n_components, random_state):
    return probabilistic_pca(X, np.ones(100), n_components, random_state).loadings


def first_encoder(X, n_components, random_state):
    return pca_start(X, n_components, random_state).encoder


@pytest.mark.parametrize("fit", [first_encoder, first_loadings])
def test_a_start_is_exact_where_pcas_own_choice_is_random_and_draws_from_the_random_state(fit, seed, monkeypatch):
    X = np.random.RandomState(seed).normal(size=(600, 100))
    X -= X.mean(axis=0)
    found = fit(X, 1, np.random.RandomState(0)).reshape(-1)
    direction = np.linalg.svd(X, full_matrices=False)[2][0]
    assert abs(found @ direction) == pytest.approx(np.linalg.norm(found), rel=1e-9)
    monkeypatch.setattr(pca, "_solver", lambda *_: "randomized")
    one, two, other = (fit(X, 3, np.random.RandomState(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
