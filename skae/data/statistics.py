"""Statistics of columns, weighted if samples have weights, computed in blocks; missing values are left out."""

from functools import singledispatch
from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches

# Values of a block of samples, whose copies stay in the cache.
_BLOCK_NUMBERS = 2**17
# Samples without weights are at most so many times as many as with weights.
_MOST_REPEATED = 8


class Moments(NamedTuple):
    """Mean, standard deviation and constancy of columns, in float64.

    Attributes
    ----------
    mean, deviation : ndarray of shape (n_features,)
        The deviation of a constant column is 0.
    constant : ndarray of bool of shape (n_features,)
    """

    mean: np.ndarray
    deviation: np.ndarray
    constant: np.ndarray


def has_missing(rows):
    """Return whether any entry is nan; a `RowSource` has the answer as an attribute."""
    if hasattr(rows, "has_missing"):
        return rows.has_missing
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isnan(rows.sum())) and bool(np.isnan(rows).any())


def n_effective(weights):
    """Return the number of samples that positive weights stand for: their sum, or their number if that is larger.

    A weight of 2 is a sample twice, and weights below 1 do not reduce the number of samples.
    """
    return max(len(weights), float(weights.sum()))


def n_unweighted(weights, n_features):
    """Return a number of samples without weights: those that the weights stand for, or fewer if these are many."""
    return min(round(n_effective(weights)), max(_MOST_REPEATED * len(weights), 2 * n_features))


def without_weights(X, weights):
    r"""Return samples without weights that have the mean and the covariance of weighted ones.

    They are :math:`1 m^\top + Q D V^\top` with m the weighted mean and :math:`U D V^\top` the singular value
    decomposition of the centred samples, each times the root of its weight. The columns of Q are cosines of increasing
    frequency, which are orthogonal and have mean zero.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    weights : ndarray of shape (n_samples,)
        Positive.

    Returns
    -------
    ndarray of shape (n, n_features)
        See `n_unweighted`.
    """
    mean, varies = np.average(X, axis=0, weights=weights), np.ptp(X, axis=0) > 0
    mean = np.where(varies, mean, X[0])
    n = n_unweighted(weights, X.shape[1])
    shares = weights * (n / weights.sum())
    centred = (X[:, varies] - mean[varies]) * np.sqrt(shares)[:, None]
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    k = min(len(lengths), n - 1)
    cosines = np.sqrt(2 / n) * np.cos(np.pi / n * np.outer(np.arange(n) + 0.5, np.arange(1, k + 1)))
    result = np.tile(mean, (n, 1))
    result[:, varies] += cosines @ (lengths[:k, None] * directions[:k])
    return result.astype(X.dtype)


def resampled(weights, n):
    """Return sorted indices of n samples in which each occurs in proportion to its weight, by systematic resampling.

    With n the sum of whole weights each occurs as often as its weight says.
    """
    ends = weights.cumsum()
    return np.searchsorted(ends, (np.arange(n) + 0.5) * (ends[-1] / n), side="right")


@singledispatch
def column_moments(rows, function=None):
    """Compute mean, standard deviation and constancy of each column.

    Samples are shifted by the first one before they are summed, so that a large offset costs no precision. After the
    shift they are scaled by the largest entry, so that squares do not overflow or underflow.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features), or a row source
        nan where a value is missing.
    function : callable, default=None
        Applied to each block before its moments are taken: (n, n_features) -> (n, n_features).

    Returns
    -------
    Moments
    """
    first, observed = _first_observed(rows)
    first = first if function is None else function(first[None])[0]
    shift, peaks = _shift(rows, first, observed, function)
    peak, squares = max(peaks.max(), np.finfo(np.float64).tiny), np.zeros(rows.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # a later check raises an error
        for part, shifted in _shifted(rows, first, shift, function):
            shifted /= peak
            squares += np.einsum("ij,ij->j", _weighted(rows, part, shifted), shifted)
    constant = peaks == 0
    return Moments(first + shift, np.where(constant, 0, peak * np.sqrt(squares / observed)), constant)


@singledispatch
def observed_columns(rows):
    """Return which columns have an observed value: (n_features,)."""
    if not has_missing(rows):
        return np.ones(rows.shape[1], dtype=bool)
    return np.any([~np.isnan(rows[part]).all(axis=0) for part in _blocks(rows)], axis=0)


@singledispatch
def column_means(rows):
    """Compute the mean of each column, with one pass fewer than `column_moments`."""
    first, observed = _first_observed(rows)
    return first + _shift(rows, first, observed)[0]


def _blocks(rows):
    return gen_batches(len(rows), max(1, _BLOCK_NUMBERS // rows.shape[1]))


def _first_observed(rows):
    """Return the first observed entry of each column and the weight of all observed ones, both (n_features,).

    Columns without observed entries have 0 and 1, so that they are constant at 0.
    """
    n_features, weights = rows.shape[1], _weights(rows)
    if not has_missing(rows):
        return rows[:1][0], np.full(n_features, len(rows) if weights is None else weights.sum())
    first, total = np.full(n_features, np.nan, dtype=rows.dtype), 0
    for part in _blocks(rows):
        block = rows[part]
        observed = ~np.isnan(block)
        found = block[observed.argmax(axis=0), np.arange(n_features)]
        first, total = np.where(np.isnan(first), found, first), total + _weighted(rows, part, observed).sum(axis=0)
    return np.where(np.isnan(first), 0, first), np.where(total > 0, total, 1)


def _weights(rows):
    """Return the weights of samples (n_samples,), or None if they are equal."""
    return getattr(rows, "weights", None)


def _weighted(rows, part, block):
    """Return the block of these samples times their weights."""
    weights = _weights(rows)
    return block if weights is None else weights[part, None] * block


def _shifted(rows, first, shift, function):
    """Yield slices and blocks of samples minus ``first`` and ``shift``, in float64, 0 where a value is missing."""
    is_incomplete = has_missing(rows)
    for part in _blocks(rows):
        block = rows[part] if function is None else function(rows[part])
        shifted = np.subtract(block, first, dtype=np.float64)
        shifted -= shift
        if is_incomplete:
            shifted[np.isnan(shifted)] = 0
        yield part, shifted


def _shift(rows, first, observed, function=None):
    """Return the mean and the largest absolute value of each column, after ``first`` is subtracted."""
    total, peaks = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for part, shifted in _shifted(rows, first, 0.0, function):
            total += _weighted(rows, part, shifted).sum(axis=0)
            np.maximum(peaks, np.abs(shifted, out=shifted).max(axis=0), out=peaks)
    return total / observed, peaks
