"""Checks of parameters and rows. Each message says the value, the rule and a way out."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable
from numbers import Integral, Real

import numpy as np
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target

from skae._streaming import blocks

FLOATS = [np.float64, np.float32]


def check_integer(name, value, low, *, extra=""):
    """An int of at least ``low``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name}={value!r} must be an integer of at least {low}{extra}.")
    return int(value)


def check_real(name, value, low=0.0, high=np.inf, *, open_low=False, extra=""):
    """A finite float in [low, high), or in (low, high) with ``open_low``."""
    inside = isinstance(value, Real) and not isinstance(value, bool | np.bool_) and low <= value < high
    if not inside or (open_low and value == low):
        left = "(" if open_low else "["
        raise ValueError(f"{name}={value!r} must be a number in {left}{low:g}, {high:g}){extra}.")
    return float(value)


def check_n_components(value, *, takes_share):
    """An integer of at least 1, "auto", or, where it is taken, a share in (0, 1)."""
    share = takes_share and isinstance(value, Real) and not isinstance(value, Integral) and 0 < value < 1
    whole = isinstance(value, Integral) and not isinstance(value, bool) and value >= 1
    if not (share or whole or (isinstance(value, str) and value == "auto")):
        raise ValueError(
            f"n_components={value!r} must be an integer of at least 1"
            f"{', a share of the variance to explain, in (0, 1)' if takes_share else ''}, or 'auto'."
        )
    return value


def check_sizes(name, value):
    """Integers of at least 1, sorted, each once."""
    sizes = sorted({check_integer(name, size, 1) for size in np.atleast_1d(np.asarray(value, object))})
    if not sizes:
        raise ValueError(f"{name}={value!r} must hold at least one integer.")
    return sizes


def check_choice(name, value, options):
    """One of the options."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}={value!r} is not known. Use one of {', '.join(map(repr, options))}.")
    return value


def check_flag(name, value):
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r} must be True or False.")
    return bool(value)


def check_widths(name, value):
    """A tuple of hidden widths: "auto" or integers of at least 1; () is a linear net."""
    if isinstance(value, str) and value == "auto":
        return value
    try:
        widths = (value,) if isinstance(value, Integral) else tuple(value)
        return tuple(check_integer(name, width, 1) for width in widths)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}={value!r} must be 'auto' or a sequence of integers of at least 1, such as (256, 128); "
            "() is a linear net."
        ) from error


def check_feature_shape(value):
    """None or three integers (channels, height, width), the latter two of at least 8."""
    if value is None:
        return value
    try:
        shape = tuple(check_integer("feature_shape", size, low) for size, low in zip(value, (1, 8, 8), strict=True))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"feature_shape={value!r} must be None or three integers (channels, height, width), height and width of at "
            "least 8, such as (1, 28, 28)."
        ) from error
    return shape


def check_fits_columns(feature_shape, n_columns):
    """As many columns as images of this shape have numbers."""
    n_numbers = math.prod(feature_shape)
    if n_numbers != n_columns:
        raise ValueError(
            f"feature_shape={feature_shape} is of images of {n_numbers} numbers, but X has {n_columns} columns. Rows "
            "must be images of this shape, flattened: X.reshape(len(X), -1) of an array (n, channels, height, width)."
        )


def check_factory(name, value):
    """None or a callable (n_in, n_out) -> torch.nn.Module, and not a module already built."""
    if value is None:
        return value
    if not callable(value) or (hasattr(value, "forward") and not isinstance(value, type)):
        raise TypeError(
            f"{name}={value!r} must be a callable (n_in, n_out) -> torch.nn.Module, not a module already built: each "
            "fit builds its own. For example lambda n_in, n_out: torch.nn.Linear(n_in, n_out)."
        )
    return value


def check_callbacks(value):
    """None or a list of skorch callbacks, of their classes, or of pairs (name, callback)."""
    items = [] if value is None else value if isinstance(value, list | tuple) else [value]
    for item in items:
        callback = item[1] if isinstance(item, tuple) and len(item) == 2 else item
        if not isinstance(value, list | tuple) or not hasattr(callback, "on_train_begin"):
            raise TypeError(
                f"callbacks={value!r} must be a list of skorch callbacks, such as [skorch.callbacks.EpochTimer()]."
            )


def check_folder(name, value):
    """None or a path."""
    if not (value is None or isinstance(value, str | os.PathLike)):
        raise TypeError(f"{name}={value!r} must be None or a folder, as a str or a pathlib.Path.")
    if value == "":
        raise ValueError(f"{name}='' names no folder. For the current one pass '.', for none None.")
    return value


def check_sparse_counts(X, value):
    """Counts in a CSR matrix, where one that is not there is zero and none is missing."""
    if np.isnan(X.data).any():
        raise ValueError("Sparse X contains NaN, but in sparse rows no value can be missing. Pass a dense array.")
    wrong = np.flatnonzero((X.data < 0) | (np.floor(X.data) != X.data))
    if len(wrong):
        check_counts(X[[np.searchsorted(X.indptr, wrong[0], side="right") - 1]].toarray(), value)


def check_gaps(X, names=None):
    """Rows and columns of which something is observed."""
    columns, rows = np.ones(X.shape[1], dtype=bool), []
    for block in blocks(X):
        missing = np.isnan(X[block])
        columns &= missing.all(axis=0)
        rows.append(block.start + np.flatnonzero(missing.all(axis=1)))
    ways_out = {"column": "Drop such columns, or fit on rows that have some.", "row": "Drop such rows before fitting."}
    for (kind, way_out), empty in zip(ways_out.items(), (np.flatnonzero(columns), np.concatenate(rows)), strict=True):
        if len(empty):
            name = f" ({names[empty[0]]!r})" if names is not None and kind == "column" else ""
            others = f", as in {len(empty) - 1} others," if len(empty) > 1 else ""
            raise ValueError(
                f"In {kind} {empty[0]}{name} of X{others} every value is missing, and nothing can be learnt from that. "
                f"{way_out}"
            )


COUNTS = ("poisson", "negative_binomial", "multinomial")


def check_counts(X, value):
    """Non-negative integers, which these likelihoods are defined on."""
    wrong = ((X < 0) | (np.floor(X) != X)) & ~np.isnan(X)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        negative = " Negative values in data passed to X." if (X < 0).any() else ""
        raise ValueError(
            f"likelihood={value!r} needs counts, integers of at least 0, but column {column} of X has "
            f"{X[row, column]:g}.{negative} Use likelihood='gaussian'."
        )


def check_range(X, parameter, value):
    """Rows that a loss or likelihood is defined on: [0, 1] for log_loss and bernoulli, no negative for poisson."""
    if value not in ("log_loss", "bernoulli", "poisson"):
        return
    low, high = np.nanmin(X), np.nanmax(X)
    otherwise = {"loss": "loss='squared_error'", "likelihood": "likelihood='gaussian'"}[parameter]
    # Scalers miss the ends of a range by a rounding error.
    slack = 1e-6
    if value in ("log_loss", "bernoulli") and (low < -slack or high > 1 + slack):
        raise ValueError(
            f"{parameter}={value!r} needs values in [0, 1], but X has values from {low:g} to {high:g}. Scale it, for "
            f"example with sklearn.preprocessing.MinMaxScaler(clip=True), or use {otherwise}."
        )
    if value == "poisson" and low < 0:
        raise ValueError(
            f"{parameter}={value!r} needs values of at least 0, but X has {low:g}: Negative values in data passed to X."
            f" Use {otherwise}."
        )


def check_classes(y, n_samples):
    """The classes of training rows, sorted, and the index of each row's."""
    if y is None:
        raise ValueError(
            "conditional=True requires y to be passed, but the target y is None: pass the class of each row."
        )
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


def some_of_names(names):
    """Names for a message, 20 at most."""
    listed, others = ", ".join(map(repr, names[:20])), len(names) - 20
    return f"{listed} and {others} others" if others > 0 else listed


def check_labels(y, classes, n_samples):
    """The index in ``classes`` of each of n_samples labels, or of one for all."""
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
            raise ValueError(
                f"y has {label!r}, which is not among the classes of the training rows. These are "
                f"{some_of_names(known)}."
            )
    return np.broadcast_to([index[label] for label in labels], n_samples)


def check_code_width(estimator, n_columns, n_components):
    """Codes of the width that the estimator makes."""
    if n_columns != n_components:
        raise ValueError(
            f"X has {n_columns} columns, but the codes of this {type(estimator).__name__} have n_components_="
            f"{n_components}. Pass what transform returns."
        )
