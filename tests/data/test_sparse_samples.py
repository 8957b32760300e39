"""Closed-form statistics of sparse samples are those of dense ones."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from skae.data import sparse as module
from skae.data.rows import ArrayRows, SparseRows
from skae.data.sparse import CentredSparse, SparseComplete


def samples(seed, n=60, n_features=12):
    rng = np.random.RandomState(seed)
    X = rng.poisson(np.exp(rng.normal(size=(n, 2)) @ rng.normal(size=(2, n_features)) / 2 - 1)).astype(float)
    X[:, 3] = 0
    return X


def groups_of(seed, n=60):
    return np.eye(3)[np.random.RandomState(seed).randint(2, size=n)]  # the third has no samples


@pytest.fixture(params=[True, False], ids=["dense covariance", "Lanczos"])
def few(request, monkeypatch):
    """Shapes, and whether the columns are few enough for a dense covariance matrix."""
    monkeypatch.setattr(module, "_SMALL", 1000 if request.param else 4)
    return (60, 12) if request.param else (15, 30)


def test_components_are_those_of_pca(few, seed):
    X = samples(seed, *few)
    ours = CentredSparse(sparse.csr_matrix(X), np.ones((len(X), 1)), None).components(3, np.random.RandomState(0))
    pca = PCA(3, svd_solver="full").fit(X)
    for name in ours._fields:
        np.testing.assert_allclose(getattr(ours, name), getattr(pca, name), rtol=1e-8, atol=1e-10, err_msg=name)


def test_with_weights_they_are_those_of_repeated_samples(few, seed):
    X = samples(seed, *few)
    weights = np.random.RandomState(seed).randint(1, 4, size=len(X))
    ours = CentredSparse(sparse.csr_matrix(X), np.ones((len(X), 1)), weights).components(2, None)
    pca = PCA(2, svd_solver="full").fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(ours.components_, pca.components_, atol=1e-8)
    np.testing.assert_allclose(ours.explained_variance_, pca.explained_variance_)


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_squares_and_products_are_those_of_groups_minus_their_means(weighted, seed):
    X, groups = samples(seed), groups_of(seed)
    weights = np.random.RandomState(seed).randint(1, 4, size=60).astype(float) if weighted else None
    counted = np.ones(60) if weights is None else weights
    means = np.array(
        [np.average(X, axis=0, weights=counted * group) if group.any() else 0 * X[0] for group in groups.T]
    )
    rest = np.sqrt(counted)[:, None] * (X - groups @ means)
    ours = CentredSparse(sparse.csr_matrix(X), groups, weights)
    assert ours.shape == (counted.sum(), 12)
    np.testing.assert_allclose(ours.means, means)
    np.testing.assert_allclose(ours.gram(), rest.T @ rest, atol=1e-9)
    np.testing.assert_allclose(ours.squares(), np.square(rest).sum(axis=0), atol=1e-9)
    np.testing.assert_array_equal(ours.any(axis=0), X.any(axis=0))
    columns, factors = np.arange(12) % 2 == 0, np.linspace(1, 2, 6)
    np.testing.assert_allclose(
        (ours[:, columns] * factors).gram(), (rest[:, columns] * factors).T @ (rest[:, columns] * factors), atol=1e-9
    )


def logarithm(X):
    return np.log(X + np.arange(1.0, 1 + X.shape[1]))


@pytest.mark.parametrize("n_context", [0, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_complete_samples_are_those_of_an_array(n_context, weighted, seed):
    X, context = samples(seed), groups_of(seed)[:, :n_context]
    weights = np.random.RandomState(seed).randint(1, 4, size=60).astype(float) if weighted else None
    rows = SparseRows(sparse.csr_matrix(X)).weighted(weights).map(logarithm).with_columns(context)
    ours, dense = SparseComplete(rows), ArrayRows(np.hstack([logarithm(X), context]), weights)
    assert ours.deviations.nnz == (X != 0).sum()
    np.testing.assert_allclose(ours.column_range(), dense.column_range())
    directions = np.random.RandomState(seed).normal(size=(4, 12 + n_context))
    np.testing.assert_allclose(ours.range_along(directions), dense.range_along(directions))
    of_ours, location = ours.centred()
    of_dense, expected = dense.centred()
    np.testing.assert_allclose(location, expected)
    np.testing.assert_allclose(of_ours.gram(), of_dense.T @ of_dense, atol=1e-9)
    (of_ours, means), (of_dense, expected) = ours.without_context_means(12), dense.without_context_means(12)
    np.testing.assert_allclose(means, expected, atol=1e-12)
    centred = of_dense - of_dense.mean(axis=0)
    np.testing.assert_allclose(of_ours.gram(), centred.T @ centred, atol=1e-9)
    assert len(ours) == 60


def test_samples_of_zeros_alone_may_have_other_values(seed):
    """Such as shares of a sample's total."""

    def shares(X):
        total = X.sum(axis=1, keepdims=True)
        return np.log(np.where(total > 0, X / np.maximum(total, 1), 1 / X.shape[1]) + 0.1)

    X = samples(seed)
    X[7] = 0
    ours = SparseComplete(SparseRows(sparse.csr_matrix(X)).map(shares))
    np.testing.assert_allclose(ours.deviations.toarray() + ours.zero, shares(X))


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array])
def test_a_large_offset_costs_no_precision(container, seed):
    X = samples(seed)
    X[:, 4] += 1e9
    centred = X - X.mean(axis=0)
    ours = SparseComplete(SparseRows(container(X)).map(lambda block: block - X.mean(axis=0)))
    np.testing.assert_allclose(ours.unweighted().gram(), centred.T @ centred, atol=1e-4)


def test_equal_samples_have_components_without_variance(few):
    X = np.repeat(samples(0, *few)[:1], few[0], axis=0)
    found = CentredSparse(sparse.csr_matrix(X), np.ones((len(X), 1)), None).components(3, None)
    np.testing.assert_allclose(found.explained_variance_, np.zeros(3), atol=1e-12)
    np.testing.assert_allclose(found.components_ @ found.components_.T, np.eye(3), atol=1e-12)
