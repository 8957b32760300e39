"""Samples of a sparse matrix for closed-form fits: neither the matrix nor its centred copy is made dense."""

import copy
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from skae.data.statistics import n_unweighted

# Up to this number of columns, principal components are computed from a dense covariance matrix.
_SMALL = 2000
# Most components that are computed of a larger matrix to choose their number.
_MOST_CHOSEN = 256


class Components(NamedTuple):
    """Principal components, with the names and meanings of the attributes of `sklearn.decomposition.PCA`."""

    components_: np.ndarray
    explained_variance_: np.ndarray
    explained_variance_ratio_: np.ndarray
    noise_variance_: float


class Centred:
    """Centred samples that are not an array, with its methods that linear models use.

    These are shape, `any`, ``X[:, columns]`` and ``X * factors``. A subclass defines the latter two and `squares`,
    `quadratic`, `gram`, `times` and `transposed_times`.

    Attributes
    ----------
    varying : ndarray of bool of shape (n_features,)
    shape : tuple of int
        The number of samples that the weights stand for, and the number of features.
    held : tuple of int
        The shape of the matrix that holds the samples.
    """

    dtype = np.dtype(np.float64)

    def __len__(self):
        return self.shape[0]

    def any(self, axis):
        """Return which columns vary: (n_features,)."""
        return self.varying

    def astype(self, dtype):
        return self

    @property
    def most_components(self):
        """Most components that can be computed to choose their number."""
        return min(self.shape) if self.shape[1] <= _SMALL else min(_MOST_CHOSEN, *self.held)

    def components(self, n_components, random_state):
        """Return the leading principal components."""
        squares, directions = self._singular(n_components, random_state)
        directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])[:, None]
        n, total = len(self) - 1, self.squares().sum()
        n_left = min(self.shape) - len(squares)
        noise = max(total - squares.sum(), 0) / n / n_left if n_left else 0.0
        with np.errstate(invalid="ignore"):
            return Components(directions, squares / n, squares / total, noise)

    def _singular(self, n_components, random_state):
        """Return squared singular values, descending, and right singular vectors (n_components, n_features)."""
        if self.shape[1] <= _SMALL:
            return self._exact(n_components)
        centred = LinearOperator(self.held, self.times, self.transposed_times, dtype=np.float64)
        least, seed = min(self.held), 0 if random_state is None else random_state.randint(2**31 - 1)
        k = min(n_components, least - 1)
        if not self.squares().any():  # svds needs a matrix that is not zero
            return np.zeros(k), np.eye(k, self.shape[1])
        _, values, vectors = svds(centred, k, v0=np.random.RandomState(seed).uniform(-1, 1, size=least))
        order = np.argsort(-values)
        return np.square(values[order]), vectors[order]

    def _exact(self, n_components):
        values, vectors = np.linalg.eigh(self.gram())
        return np.maximum(values[::-1][:n_components], 0), vectors[:, ::-1][:, :n_components].T


class CentredSparse(Centred):
    """Samples of a sparse matrix minus the mean of their group, times the root of their weight.

    Parameters
    ----------
    matrix : CSR matrix of shape (n_samples, n_features)
    groups : ndarray of shape (n_samples, n_groups)
        One-hot encoded.
    weights : ndarray of shape (n_samples,) or None

    Attributes
    ----------
    means : ndarray of shape (n_groups, n_features)
        Zero for a group without samples.
    """

    def __init__(self, matrix, groups, weights):
        self.matrix, self.groups = matrix, groups
        n = len(groups) if weights is None else n_unweighted(weights, matrix.shape[1])
        self.weights = np.ones(n) if weights is None else weights * (n / weights.sum())
        self.totals = self.weights @ groups
        sums = (matrix.T @ (self.weights[:, None] * groups)).T
        self.means, self.shape = sums / np.where(self.totals > 0, self.totals, 1)[:, None], (n, matrix.shape[1])
        self.varying = (matrix.max(axis=0) - matrix.min(axis=0)).toarray().ravel() > 0

    def __getitem__(self, index):
        _, columns = index
        return self._replaced(self.matrix[:, columns], self.means[:, columns], self.varying[columns])

    def __mul__(self, factors):
        return self._replaced(self.matrix @ sparse.diags(factors), self.means * factors, self.varying)

    def _replaced(self, matrix, means, varying):
        other = copy.copy(self)
        other.matrix, other.means, other.varying = matrix.tocsr(), means, varying
        other.shape = len(self), matrix.shape[1]
        return other

    def squares(self):
        """Return the sum of squares of each column: (n_features,)."""
        total = self.matrix.multiply(self.matrix).T @ self.weights - self.totals @ np.square(self.means)
        return np.maximum(total, 0)

    def codes(self, direction):
        """Return the centred samples, without weights, projected on a direction (n_features,): (n_samples,)."""
        return self.matrix @ direction - self.groups @ (self.means @ direction)

    def quadratic(self, direction):
        """Return the weighted sum of squares of the projections on a direction."""
        return self.weights @ np.square(self.codes(direction))

    def gram(self):
        """Return the sums of products of columns: (n_features, n_features)."""
        products = (self.matrix.T @ sparse.diags(self.weights) @ self.matrix).toarray()
        return products - (self.means.T * self.totals) @ self.means

    @property
    def held(self):
        return self.matrix.shape

    def times(self, v):
        return np.sqrt(self.weights) * self.codes(v.ravel())

    def transposed_times(self, u):
        u = np.sqrt(self.weights) * u.ravel()
        return self.matrix.T @ u - self.means.T @ (self.groups.T @ u)


class SparseComplete:
    """Scaled samples of a sparse matrix and their context, with the methods of `ArrayRows` that starts use.

    Parameters
    ----------
    rows : SparseRows
        Their functions map equal values of a column to equal values.

    Attributes
    ----------
    zero : ndarray of shape (n_features,)
        The scaled value of a zero in each column, for samples that are not all zeros; 0 in a column without zeros.
    deviations : CSR matrix of shape (n_samples, n_features)
        The samples minus ``zero``.
    """

    def __init__(self, rows):
        context = rows.columns
        self.context = np.empty((len(rows), 0)) if context is None else context.astype(np.float64)
        self.weights = rows.weights
        rows = rows._with_columns(None)
        self.zero, of_nothing = rows.values_of_zero()
        source, data = rows.source, np.empty(rows.source.nnz)
        is_full = np.bincount(source.indices, minlength=len(self.zero)) == len(rows)
        self.zero[is_full] = 0  # no entry is one: a large offset would cost precision
        for part in rows.blocks():
            entries = slice(source.indptr[part.start], source.indptr[min(part.stop, len(rows))])
            sample = np.repeat(np.arange(part.stop - part.start), np.diff(source.indptr[part.start : part.stop + 1]))
            columns = source.indices[entries]
            data[entries] = rows[part][sample, columns] - self.zero[columns]
        self.deviations = sparse.csr_matrix((data, source.indices, source.indptr), shape=source.shape)
        if not np.allclose(of_nothing, self.zero):
            is_empty = sparse.csr_matrix((np.diff(source.indptr) == 0)[:, None], dtype=np.float64)
            self.deviations = self.deviations + is_empty @ sparse.csr_matrix(of_nothing - self.zero)

    def __len__(self):
        return self.deviations.shape[0]

    def unweighted(self):
        return CentredSparse(self._all(), np.ones((len(self), 1)), self.weights)

    def centred(self):
        X = self.unweighted()
        return X, X.means[0] + np.append(self.zero, np.zeros(self.context.shape[1]))

    def without_context_means(self, n_features):
        if not self.context.shape[1]:
            return self.unweighted(), np.zeros((0, n_features))
        X = CentredSparse(self.deviations, self.context, self.weights)
        return X, X.means + (X.totals > 0)[:, None] * self.zero

    def column_range(self):
        of_columns = np.stack([end(axis=0).toarray().ravel() for end in (self.deviations.min, self.deviations.max)])
        return np.hstack([of_columns + self.zero, np.stack([self.context.min(axis=0), self.context.max(axis=0)])])

    def range_along(self, directions):
        codes = self._all() @ directions.T + directions[:, : len(self.zero)] @ self.zero
        return np.stack([codes.min(axis=0), codes.max(axis=0)])

    def _all(self):
        return sparse.hstack([self.deviations, sparse.csr_matrix(self.context)], format="csr")
