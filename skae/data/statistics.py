"""Statistics of columns, computed in blocks of samples; missing values are left out."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches

# Values of a block of samples, whose copies stay in the cache.
_BLOCK_NUMBERS = 2**17


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


def column_moments(rows, function=None):
    """Compute mean, standard deviation and constancy of each column.

    Samples are shifted by the first one before they are summed, so that a large offset costs no precision, and scaled
    by the largest entry after the shift, so that squares do not overflow or underflow.

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
    first, n_observed = _first_observed(rows)
    first = first if function is None else function(first[None])[0]
    shift, peaks = _shift(rows, first, n_observed, function)
    peak, squares = max(peaks.max(), np.finfo(np.float64).tiny), np.zeros(rows.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # a later check raises an error
        for shifted in _shifted(rows, first, shift, n_observed, function):
            shifted /= peak
            squares += np.einsum("ij,ij->j", shifted, shifted)
    constant = peaks == 0
    return Moments(first + shift, np.where(constant, 0, peak * np.sqrt(squares / n_observed)), constant)


def column_means(rows):
    """Compute the mean of each column, with one pass fewer than `column_moments`."""
    first, n_observed = _first_observed(rows)
    return first + _shift(rows, first, n_observed)[0]


def _blocks(rows):
    return gen_batches(len(rows), max(1, _BLOCK_NUMBERS // rows.shape[1]))


def _first_observed(rows):
    """Return the first observed entry of each column and the number of observed entries, both (n_features,)."""
    n_features = rows.shape[1]
    if not has_missing(rows):
        return rows[:1][0], np.full(n_features, len(rows))
    first, n_observed = np.full(n_features, np.nan, dtype=rows.dtype), 0
    for part in _blocks(rows):
        block = rows[part]
        observed = ~np.isnan(block)
        found = block[observed.argmax(axis=0), np.arange(n_features)]
        first, n_observed = np.where(np.isnan(first), found, first), n_observed + observed.sum(axis=0)
    return first, n_observed


def _shifted(rows, first, shift, n_observed, function):
    """Yield blocks of samples minus ``first`` and ``shift``, in float64, 0 where a value is missing."""
    for part in _blocks(rows):
        block = rows[part] if function is None else function(rows[part])
        shifted = np.subtract(block, first, dtype=np.float64)
        shifted -= shift
        if n_observed.min() < len(rows):
            shifted[np.isnan(shifted)] = 0
        yield shifted


def _shift(rows, first, n_observed, function=None):
    """Return the mean and the largest absolute value of each column, after ``first`` is subtracted."""
    total, peaks = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for shifted in _shifted(rows, first, 0.0, n_observed, function):
            total += shifted.sum(axis=0)
            np.maximum(peaks, np.abs(shifted, out=shifted).max(axis=0), out=peaks)
    return total / n_observed, peaks
