"""Checks of samples, labels and codes. Each message states the value, the rule and a remedy."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing, assert_all_finite, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_sample_weight, _num_samples

from skae._torch import to_array

# Dtypes that samples keep; all others are cast to the first.
FLOATS = [np.float64, np.float32]
# Value of each parameter that accepts all finite numbers.
_WAYS_OUT = {"loss": "loss='squared_error'", "likelihood": "likelihood='gaussian'"}
# Tolerance at the ends of a range, for rounding of scalers.
_SLACK = 1e-6
# Weights of samples are scaled to be below this if some are not, or if all are below its inverse.
_LARGEST_WEIGHT = 1e15
# In training, weights below this share of the mean weight count as 0: float32 would not tell their samples from none,
# but scaled by the other samples they may be so far off that training diverges.
NEGLIGIBLE = 1e-6


class Support(NamedTuple):
    """The domain of a loss or a likelihood.

    Attributes
    ----------
    outside : callable
        Maps an array to a mask of the entries outside of the domain; missing values are not outside.
    needs : str
        Template of the error message: what is needed, and what X has instead. Its fields are ``low`` and ``high`` of X,
        ``column`` and ``entry`` of the first value outside, and ``negative``, a sentence about negative values.
    remedy : str
        What to do in training, before another loss or likelihood is named.
    new : str
        What to do with new samples.
    positive_only : bool
        Whether negative numbers are outside.
    """

    outside: Callable[[np.ndarray], np.ndarray]
    needs: str = ""
    remedy: str = "Use"
    new: str = "Such values are outside the domain of the training samples. Correct them, or drop these samples."
    positive_only: bool = False

    def check(self, X, parameter, value, is_training=True):
        """Check an array of samples for the ``parameter`` ("loss" or "likelihood") that has this ``value``."""
        if (outside := self.outside(X)).any():
            X, outside = to_array(X), to_array(outside)
            (row, column), low = np.argwhere(outside)[0], np.nanmin(X)
            negative = " Negative values in data passed to X." if low < 0 else ""
            found = {"low": low, "high": np.nanmax(X), "column": column, "entry": X[row, column], "negative": negative}
            remedy = f"{self.remedy} {_WAYS_OUT[parameter]}." if is_training else self.new
            raise ValueError(f"{parameter}={value!r} needs {self.needs.format(**found)} {remedy}")

    def check_sparse(self, X, parameter, value, is_training=True):
        """Check a CSR matrix: entries that are not stored are zero, and no value may be missing."""
        if np.isnan(X.data).any():
            raise ValueError("Sparse X contains NaN, but missing values need a dense array. Pass X.toarray().")
        outside = np.flatnonzero(self.outside(X.data))
        if len(outside):
            row = np.searchsorted(X.indptr, outside[0], side="right") - 1
            self.check(X[[row]].toarray(), parameter, value, is_training)


# By the ``support`` of losses and likelihoods.
SUPPORTS = {
    "real": Support(lambda X: np.False_),
    "unit_interval": Support(
        lambda X: (X < -_SLACK) | (X > 1 + _SLACK),
        "values in [0, 1], but X has values from {low:g} to {high:g}.",
        "Scale it, for example with sklearn.preprocessing.MinMaxScaler(clip=True), or use",
        "Scale new samples as the training samples; sklearn.preprocessing.MinMaxScaler(clip=True) keeps the range.",
    ),
    "non_negative": Support(
        lambda X: X < 0,
        "values of at least 0, but X has {low:g}: Negative values in data passed to X.",
        positive_only=True,
    ),
    "counts": Support(
        lambda X: ((X < 0) | (X.round() != X)) & (X == X),
        "counts, integers of at least 0, but column {column} of X has {entry:g}.{negative}",
        positive_only=True,
    ),
}


def check_classes(y, n_samples):
    """Return the sorted classes of training samples, and the index of each sample's class."""
    if y is None:
        raise ValueError("conditional=True requires y to be passed, but the target y is None. Pass classes as y.")
    y = column_or_1d(to_array(y), warn=True)
    check_consistent_length(np.empty(n_samples), y)
    try:
        assert_all_finite(y, input_name="y")
        kind = type_of_target(y, input_name="y") if len(y) else "binary"
    except TypeError:  # values cannot be compared
        kind = "unknown"
    if kind == "unknown":
        kinds = " and ".join(sorted({type(value).__name__ for value in y.tolist()}))
        raise ValueError(
            "Unknown label type: conditional=True needs classes in y that are all strings, or all numbers, and none of "
            f"which is missing, but y holds {kinds}. Drop samples without a class, and convert the others to strings."
        )
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: conditional=True needs classes in y, but y has numbers that are not whole, such as "
            f"{y[np.argmax(np.floor(y) != y)]:g}. Cut it into intervals, for example with "
            "sklearn.preprocessing.KBinsDiscretizer, or make it a column of X."
        )
    return np.unique(y, return_inverse=True)


def check_weights(sample_weight, X, ensure_min_samples=1, is_training=False):
    """Check the weights of samples X: return an array (n_samples,), or None if all are 1 or none are passed.

    In training negligible weights become 0; together they are at most ``NEGLIGIBLE`` of the sum.
    """
    if sample_weight is None:
        return None
    n_samples = np.empty((_num_samples(X), 0))  # X may be a tensor
    weights = _check_sample_weight(to_array(sample_weight), n_samples, dtype=np.float64, ensure_non_negative=True)
    largest = weights.max(initial=0.0)
    if largest > 0 and not 1 / _LARGEST_WEIGHT < largest < _LARGEST_WEIGHT:  # sums and squares could over- or underflow
        weights = weights * (max(1.0, min(largest, _LARGEST_WEIGHT)) / largest)
    if is_training:
        weights = without_negligible(weights)
    if (n_positive := np.count_nonzero(weights)) < ensure_min_samples:
        raise ValueError(
            f"sample_weight is positive for {n_positive} samples, but at least {ensure_min_samples} are needed. "
            f"Samples of weight 0 are left out, in training also those below {NEGLIGIBLE:g} of the mean weight."
        )
    return None if (weights == 1).all() else weights


def weighted_samples(X, sample_weight):
    """Return the samples of positive weight, and their weights after `check_weights`."""
    weights = check_weights(sample_weight, X)
    if weights is None or weights.all():
        return X, weights
    kept = np.flatnonzero(weights)
    return _safe_indexing(X.tocsr() if issparse(X) else X, kept), weights[kept]


def without_negligible(weights):
    """Return weights (n_samples,) with 0 for those that are negligible in training."""
    return np.where(weights * len(weights) < NEGLIGIBLE * weights.sum(), 0.0, weights)


def weighted_mean(values, sample_weight):
    """Return the mean of values (n_samples,) with these weights, as a float; those of weight 0 are left out."""
    weights = check_weights(sample_weight, values)
    if weights is None:
        return float(values.mean(dtype=np.float64))
    return float(np.average(values[weights > 0].astype(np.float64), weights=weights[weights > 0]))


def check_labels(y, classes, n_samples):
    """Return the index in ``classes`` of each of n_samples labels, or of one label for all samples."""
    labels = np.asarray(to_array(y))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = column_or_1d(labels, warn=True)
    if labels.ndim and labels.shape != (n_samples,):
        raise ValueError(f"y has shape {labels.shape}, but must be one class or one for each of {n_samples} samples.")
    if labels.dtype.kind == classes.dtype.kind == "M":
        labels = labels.astype(classes.dtype)  # the same unit
    labels, known = np.atleast_1d(labels).tolist(), classes.tolist()
    index = {label: k for k, label in enumerate(known)}  # NumPy would match "1" with 1
    for label in labels:
        if not isinstance(label, Hashable) or label not in index:
            raise ValueError(f"y has {label!r}, which is not a class of the training samples: {listed(known)}.")
    return np.broadcast_to([index[label] for label in labels], n_samples)


def check_code_width(estimator, n_columns, n_components):
    """Check that codes have ``n_components`` columns."""
    if n_columns != n_components:
        raise ValueError(
            f"X has {n_columns} columns, but the codes of this {type(estimator).__name__} have n_components_="
            f"{n_components}. Pass what transform returns."
        )


def listed(names):
    """Return a list of names for a message, at most 20."""
    first, others = ", ".join(map(repr, names[:20])), len(names) - 20
    return f"{first} and {others} others" if others > 0 else first
