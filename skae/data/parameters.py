"""Checks of parameters. Each message says the value, the rule and a way out."""

from __future__ import annotations

import math
import os
from numbers import Integral, Real

import numpy as np

_FLAGS = bool | np.bool_


def check_integer(name, value, low, *, extra=""):
    """Return an int of at least ``low``."""
    if isinstance(value, _FLAGS) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name}={value!r} must be an integer of at least {low}{extra}.")
    return int(value)


def check_real(name, value, low=0.0, high=np.inf, *, open_low=False, extra=""):
    """Return a finite float in [low, high), or in (low, high) with ``open_low``."""
    inside = isinstance(value, Real) and not isinstance(value, _FLAGS) and low <= value < high
    if not inside or (open_low and value == low):
        left = "(" if open_low else "["
        raise ValueError(f"{name}={value!r} must be a number in {left}{low:g}, {high:g}){extra}.")
    return float(value)


def is_auto(value):
    """Return whether a parameter is left to `fit`."""
    return isinstance(value, str) and value == "auto"


def check_n_components(value, *, takes_share):
    """Return an integer of at least 1, "auto", or, where it is taken, a share in (0, 1)."""
    if isinstance(value, Integral):
        is_known = value >= 1 and value is not True
    else:
        is_known = is_auto(value) or (takes_share and isinstance(value, Real) and 0 < value < 1)
    if not is_known:
        share = ", a share of the variance to explain, in (0, 1)" if takes_share else ""
        raise ValueError(f"n_components={value!r} must be an integer of at least 1{share}, or 'auto'.")
    return value


def check_sizes(name, value):
    """Return integers of at least 1, sorted, each once."""
    sizes = sorted({check_integer(name, size, 1) for size in np.atleast_1d(np.asarray(value, object))})
    if not sizes:
        raise ValueError(f"{name}={value!r} must hold at least one integer.")
    return sizes


def check_choice(name, value, options):
    """Return one of the options."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}={value!r} is not known. Use one of {', '.join(map(repr, options))}.")
    return value


def known(name, registry):
    """Return what a registry has under a name, or its first entry: tags are asked for before parameters are checked."""
    return registry[name if isinstance(name, str) and name in registry else next(iter(registry))]


def check_flag(name, value):
    """Return True or False."""
    if not isinstance(value, _FLAGS):
        raise ValueError(f"{name}={value!r} must be True or False.")
    return bool(value)


def check_widths(name, value):
    """Return hidden widths as a tuple of integers of at least 1, or "auto"; () is a linear net."""
    if is_auto(value):
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
    """Return None or three integers (channels, height, width), the latter two of at least 8."""
    if value is None:
        return None
    try:
        return tuple(check_integer("feature_shape", n, low) for n, low in zip(value, (1, 8, 8), strict=True))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"feature_shape={value!r} must be None or three integers (channels, height, width), height and width of at "
            "least 8, such as (1, 28, 28)."
        ) from error


def check_fits_columns(feature_shape, n_columns):
    """Check that samples have as many columns as images of this shape have numbers."""
    n_numbers = math.prod(feature_shape)
    if n_numbers != n_columns:
        raise ValueError(
            f"feature_shape={feature_shape} is of images of {n_numbers} numbers, but X has {n_columns} columns. Rows "
            "must be images of this shape, flattened: X.reshape(len(X), -1) of an array (n, channels, height, width)."
        )


def check_factory(name, value):
    """Return None or a callable (n_in, n_out) -> torch.nn.Module, which is not a module already built."""
    if value is not None and (not callable(value) or (hasattr(value, "forward") and not isinstance(value, type))):
        raise TypeError(
            f"{name}={value!r} must be a callable (n_in, n_out) -> torch.nn.Module, not a module already built: each "
            "fit builds its own. For example lambda n_in, n_out: torch.nn.Linear(n_in, n_out)."
        )
    return value


def check_callbacks(value):
    """Check that this is None or a list of skorch callbacks, of their classes, or of pairs (name, callback)."""
    if value is None:
        return
    pairs = value if isinstance(value, list | tuple) else [None]
    callbacks = [item[1] if isinstance(item, tuple) and len(item) == 2 else item for item in pairs]
    if not all(hasattr(callback, "on_train_begin") for callback in callbacks):
        raise TypeError(
            f"callbacks={value!r} must be a list of skorch callbacks, such as [skorch.callbacks.EpochTimer()]."
        )


def check_folder(name, value):
    """Check that this is None or a path."""
    if not (value is None or isinstance(value, str | os.PathLike)):
        raise TypeError(f"{name}={value!r} must be None or a folder, as a str or a pathlib.Path.")
    if value == "":
        raise ValueError(f"{name}='' names no folder. For the current one pass '.', for none None.")
