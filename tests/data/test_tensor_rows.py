"""Samples in a tensor have the statistics, and the linear starts, of the same samples in an array."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae.data import sparse
from skae.data.rows import ArrayRows
from skae.data.statistics import column_means, column_moments, observed_columns
from skae.data.tensors import TensorRows
from skae.linear.factor_analysis import factor_analysis, likelier_start
from skae.linear.pca import n_components_for, pca_start, probabilistic_pca, sum_of_squares
from skae.training.checkpoint import fingerprint, glimpse


def samples(seed, n=60, n_features=5):
    """Samples of large mean, with a constant column."""
    rng = np.random.RandomState(seed)
    X = 1e3 + rng.normal(size=(n, 3)) @ rng.normal(size=(3, n_features)) + 0.1 * rng.normal(size=(n, n_features))
    X[:, 1] = 7
    return X


def with_missing(X, seed):
    missing = np.random.RandomState(seed).uniform(size=X.shape) < 0.3
    missing[:, 3] = True
    return np.where(missing, np.nan, X)


def both(X, weights=None):
    return TensorRows(torch.from_numpy(X.copy()), weights), ArrayRows(X, weights)


@pytest.fixture(params=[False, True], ids=["equal", "weighted"])
def weights(request, seed):
    return np.random.RandomState(seed).uniform(0.5, 3, size=60) if request.param else None


@pytest.mark.parametrize("change", [None, lambda x: x**2], ids=["plain", "squares"])
@pytest.mark.parametrize("is_complete", [False, True])
def test_moments_are_those_of_arrays(is_complete, change, weights, seed, monkeypatch):
    monkeypatch.setattr("skae.data.tensors._BLOCK", 64)  # several blocks
    X = samples(seed) if is_complete else with_missing(samples(seed), seed)
    on_device, on_host = both(X, weights)
    for found, expected in zip(column_moments(on_device, change), column_moments(on_host, change), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(column_means(on_device), column_means(on_host))
    np.testing.assert_array_equal(observed_columns(on_device), observed_columns(on_host))
    np.testing.assert_allclose(on_device.sums(), on_host.sums())
    assert on_device.has_missing == on_host.has_missing == (not is_complete)


def test_rows_are_changed_as_those_of_arrays(weights, seed):
    X = with_missing(samples(seed), seed)
    pairs = [
        both(X, weights),
        [rows.with_columns(np.eye(60, 2)) for rows in both(X, weights)],
        [rows.with_sample(X[1] + 1) for rows in both(X, weights)],
        [rows.map(lambda x: 2 * x) for rows in both(X, weights)],
        [rows.weighted(np.arange(60) % 3 * 1.0) for rows in both(X)],
        [rows.dense(1, np.random.RandomState(0)) for rows in both(X, weights)],
    ]
    for on_device, on_host in pairs:
        assert isinstance(on_device, TensorRows)
        np.testing.assert_array_equal(on_device[:], on_host[:])
        np.testing.assert_array_equal(on_device[[3, 1]], on_host[[3, 1]])
        assert on_device.shape == on_host.shape
        np.testing.assert_array_equal(on_device.shares(), on_host.shares())


def test_checkpoints_know_a_tensor_by_its_values(weights, seed):
    on_device, on_host = both(samples(seed), weights)
    assert fingerprint(on_device) == fingerprint(on_host)
    assert glimpse(on_device) == glimpse(on_host)


@pytest.mark.parametrize("n_groups", [0, 3])
def test_starts_are_those_of_arrays(n_groups, weights, seed, monkeypatch):
    monkeypatch.setattr("skae.data.tensors._BLOCK", 64)
    X = samples(seed) - 1e3
    groups = np.eye(n_groups)[np.arange(60) % n_groups] if n_groups else np.zeros((60, 0))
    on_device, on_host = (rows.with_columns(groups) for rows in both(X, weights))
    (of_device, means), (of_host, expected) = (rows.without_context_means(5) for rows in (on_device, on_host))
    np.testing.assert_allclose(means, expected, atol=1e-9)
    assert of_device.shape == of_host.shape
    centred = of_host - of_host.mean(axis=0)
    random_state = np.random.RandomState(0)
    np.testing.assert_allclose(of_device.gram(), centred.T @ centred, atol=1e-6)
    np.testing.assert_allclose(sum_of_squares(of_device), np.square(centred).sum())
    for found, wanted in zip(*(pca_start(part, 2, random_state) for part in (of_device, centred)), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert n_components_for(of_device, 0.9) == n_components_for(centred, 0.9)
    scale = np.array([1.0, 1, 2, 1, 1])
    centred[:, 1] = 0
    for fit in (probabilistic_pca, factor_analysis):
        found, wanted = (fit(part, scale, 2, random_state) for part in (of_device, centred))
        for part, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(part, other, atol=1e-4)
    np.testing.assert_allclose(on_device.column_range(), on_host.column_range())
    directions = np.random.RandomState(seed).normal(size=(2, on_host.n_features))
    np.testing.assert_allclose(on_device.range_along(directions), on_host.range_along(directions))


def test_the_choice_of_a_start_is_that_of_arrays(seed):
    X = samples(seed) - 1e3
    X = np.ascontiguousarray((X - X.mean(axis=0))[:, [0, 2, 3, 4]])
    of_device, of_host = (rows.without_context_means(4)[0] for rows in both(X))
    models = [likelier_start(part, np.ones(4), 2, np.random.RandomState(0)) for part in (of_device, of_host)]
    for found, expected in zip(*models, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(200, 30), (20, 30)])
def test_components_of_many_columns_are_those_of_pca(shape, seed, monkeypatch):
    monkeypatch.setattr(sparse, "_SMALL", 10)
    X = np.random.RandomState(seed).normal(size=shape) * np.arange(1, 31)
    X -= X.mean(axis=0)
    centred, _ = TensorRows(torch.from_numpy(X)).centred()
    found, pca = centred.components(4, np.random.RandomState(0)), PCA(4, svd_solver="full").fit(X)
    np.testing.assert_allclose(found.components_, pca.components_, atol=1e-6)
    np.testing.assert_allclose(found.explained_variance_, pca.explained_variance_)
    np.testing.assert_allclose(found.noise_variance_, pca.noise_variance_)
