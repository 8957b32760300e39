"""Checks of samples, labels and codes. Each message says the value, the rule and a way out."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target

# Precisions that samples keep; all others become the first.
FLOATS = [np.float64, np.float32]
# What takes any finite numbers, by parameter.
_WAYS_OUT = {"loss": "loss='squared_error'", "likelihood": "likelihood='gaussian'"}
# By which scalers miss the ends of a range.
_SLACK = 1e-6


class Support(NamedTuple):
    """The numbers that a loss or a likelihood is defined on.

    Attributes
    ----------
    outside : callable
        From an array to a mask of the entries that lie outside; missing ones do not.
    needs : str
        What numbers those inside are, what X has instead, and what to do, to be filled in with the ``low`` and ``high``
        of X, the ``column`` and ``entry`` that come first outside, and what is to be said if there are negative ones.
    positive_only : bool
        Whether negative numbers lie outside.
    """

    outside: Callable[[np.ndarray], np.ndarray]
    needs: str = ""
    positive_only: bool = False

    def check(self, X, parameter, value):
        """Check an array of samples for the ``parameter`` ("loss" or "likelihood") that has this ``value``."""
        outside = self.outside(X)
        if outside.any():
            (row, column), low = np.argwhere(outside)[0], np.nanmin(X)
            negative = " Negative values in data passed to X." if low < 0 else ""
            found = {"low": low, "high": np.nanmax(X), "column": column, "entry": X[row, column], "negative": negative}
            raise ValueError(f"{parameter}={value!r} needs {self.needs.format(**found)} {_WAYS_OUT[parameter]}.")

    def check_sparse(self, X, parameter, value):
        """Check a CSR matrix, where an entry that is not there is zero and none is missing."""
        if np.isnan(X.data).any():
            raise ValueError("Sparse X contains NaN, but in sparse rows no value can be missing. Pass a dense array.")
        outside = np.flatnonzero(self.outside(X.data))
        if len(outside):
            row = np.searchsorted(X.indptr, outside[0], side="right") - 1
            self.check(X[[row]].toarray(), parameter, value)


# By the name that losses and likelihoods give.
SUPPORTS = {
    "real": Support(lambda X: np.False_),
    "unit_interval": Support(
        lambda X: (X < -_SLACK) | (X > 1 + _SLACK),
        "values in [0, 1], but X has values from {low:g} to {high:g}. Scale it, for example with "
        "sklearn.preprocessing.MinMaxScaler(clip=True), or use",
    ),
    "non_negative": Support(
        lambda X: X < 0,
        "values of at least 0, but X has {low:g}: Negative values in data passed to X. Use",
        positive_only=True,
    ),
    "counts": Support(
        lambda X: ((X < 0) | (np.floor(X) != X)) & ~np.isnan(X),
        "counts, integers of at least 0, but column {column} of X has {entry:g}.{negative} Use",
        positive_only=True,
    ),
}


def check_missing(rows, names=None):
    """Check that something is observed of each sample and of each column, which may have names."""
    columns, samples = np.ones(rows.shape[1], dtype=bool), []
    for block in rows.blocks():
        missing = np.isnan(rows[block])
        columns &= missing.all(axis=0)
        samples.append(block.start + np.flatnonzero(missing.all(axis=1)))
    for kind, empty, way_out in (
        ("column", np.flatnonzero(columns), "Drop such columns, or fit on rows that have some."),
        ("row", np.concatenate(samples), "Drop such rows before fitting."),
    ):
        if len(empty):
            name = f" ({names[empty[0]]!r})" if names is not None and kind == "column" else ""
            others = f", as in {len(empty) - 1} others," if len(empty) > 1 else ""
            raise ValueError(f"In {kind} {empty[0]}{name} of X{others} every value is missing. {way_out}")


def check_classes(y, n_samples):
    """Return the classes of training samples, sorted, and the index of each sample's."""
    if y is None:
        raise ValueError("conditional=True requires y to be passed, but the target y is None. Pass classes as y.")
    y = column_or_1d(y, warn=True)
    check_consistent_length(np.empty(n_samples), y)
    try:
        assert_all_finite(y, input_name="y")
        kind = type_of_target(y, input_name="y") if len(y) else "binary"
    except TypeError:  # of values that have no order, or no truth
        kind = "unknown"
    if kind == "unknown":
        kinds = " and ".join(sorted({type(value).__name__ for value in y.tolist()}))
        raise ValueError(
            "Unknown label type: conditional=True needs classes in y that are all strings, or all numbers, and none of "
            f"which is missing, but y holds {kinds}. Drop rows without a class, and make strings of the others."
        )
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: conditional=True needs classes in y, but y has numbers that are not whole, such as "
            f"{y[np.argmax(np.floor(y) != y)]:g}. Cut it into intervals, for example with "
            "sklearn.preprocessing.KBinsDiscretizer, or make it a column of X."
        )
    return np.unique(y, return_inverse=True)


def check_labels(y, classes, n_samples):
    """Return the index in ``classes`` of each of n_samples labels, or of one for all."""
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = column_or_1d(labels, warn=True)
    if labels.ndim and labels.shape != (n_samples,):
        raise ValueError(f"y has shape {labels.shape}, but must be one class or have one for each of {n_samples} rows.")
    if labels.dtype.kind == classes.dtype.kind == "M":
        labels = labels.astype(classes.dtype)  # of one unit
    labels, known = np.atleast_1d(labels).tolist(), classes.tolist()
    index = {label: k for k, label in enumerate(known)}  # NumPy would take "1" for 1
    for label in labels:
        if not isinstance(label, Hashable) or label not in index:
            raise ValueError(f"y has {label!r}, which is not among the classes of the training rows: {listed(known)}.")
    return np.broadcast_to([index[label] for label in labels], n_samples)


def check_code_width(estimator, n_columns, n_components):
    """Check that codes have the width that the estimator makes."""
    if n_columns != n_components:
        raise ValueError(
            f"X has {n_columns} columns, but the codes of this {type(estimator).__name__} have n_components_="
            f"{n_components}. Pass what transform returns."
        )


def listed(names):
    """Return names for a message, 20 at most."""
    first, others = ", ".join(map(repr, names[:20])), len(names) - 20
    return f"{first} and {others} others" if others > 0 else first
