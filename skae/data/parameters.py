"""Checks of parameters. Each message states the value, the rule and a remedy."""

import math
import os
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np

_FLAGS = bool | np.bool_
# Begins the text that stands for a callback in an unfitted copy.
_LEFT_OUT = "left out: "
# What stands for values of PCA's n_components that these estimators do not have.
_OF_PCA = {
    "None": ". With None PCA keeps all components; pass the number of columns for that",
    "mle": ", which chooses the number like 'mle' of PCA",
}


def _require(is_right, name, value, rule, error=ValueError):
    """Raise an error with a parameter's value and rule if the value is not right."""
    if not is_right:
        raise error(f"{name}={value!r} must be {rule}.")


def _is_a(value, kind):
    """Return whether a value is a number of a kind; bools are not."""
    return isinstance(value, kind) and not isinstance(value, _FLAGS)


def _is_named(value, names):
    """Return whether a value is one of the names; values that are not strings may not be comparable."""
    return isinstance(value, str) and value in names


def _items(value):
    """Return a number or a sequence as a list."""
    return np.atleast_1d(np.asarray(value, dtype=object)).tolist()


def check_integer(name, value, low, *, extra=""):
    """Return an int of at least ``low``."""
    _require(_is_a(value, Integral) and value >= low, name, value, f"an integer of at least {low}{extra}")
    return int(value)


def check_real(name, value, low=0.0, high=np.inf, *, open_low=False, extra=""):
    """Return a finite float in [low, high), or in (low, high) with ``open_low``."""
    is_inside = _is_a(value, Real) and low <= value < high and not (open_low and value == low)
    _require(is_inside, name, value, f"a number in {'(' if open_low else '['}{low:g}, {high:g}){extra}")
    return float(value)


def is_auto(value):
    """Return whether a parameter is "auto"."""
    return _is_named(value, ["auto"])


def check_n_components(value, *, takes_share):
    """Return an integer of at least 1, "auto" or, with ``takes_share``, a share in (0, 1)."""
    is_number = _is_a(value, Real) and ((takes_share and 0 < value < 1) or (_is_a(value, Integral) and value >= 1))
    share = ", a share of the variance to explain, in (0, 1)" if takes_share else ""
    rule = f"an integer of at least 1{share}, or 'auto'{_OF_PCA.get(str(value), '')}"
    _require(is_number or is_auto(value), "n_components", value, rule)
    return value


def check_sizes(name, value):
    """Return integers of at least 1, sorted, each once."""
    sizes = sorted({check_integer(name, size, 1) for size in _items(value)})
    if not sizes:
        raise ValueError(f"{name}={value!r} must hold at least one integer.")
    return sizes


def check_choice(name, value, options):
    """Return one of the options."""
    if not _is_named(value, options):
        raise ValueError(f"{name}={value!r} is not known. Use one of {', '.join(map(repr, options))}.")
    return value


def is_by_column(value, registry):
    """Return whether a loss or likelihood is one for each column of a table."""
    return isinstance(value, Mapping) or is_auto(value) or known(value, registry).needs_table


def known(name, registry):
    """Return the entry of a registry, or its first one if the name is unknown, as tags need it before checks."""
    return registry[name if _is_named(name, registry) else next(iter(registry))]


def check_flag(name, value):
    """Return True or False."""
    _require(isinstance(value, _FLAGS), name, value, "True or False")
    return bool(value)


def check_widths(name, value):
    """Return at most 200 hidden widths as a tuple of integers of at least 1, or "auto"; () is a linear net."""
    if is_auto(value):
        return value
    rule = "'auto' or a sequence of at most 200 integers of at least 1, such as (256, 128); () is a linear net"
    widths = _items(value)
    are_widths = len(widths) <= 200 and all(_is_a(width, Integral) and width >= 1 for width in widths)
    _require(are_widths, name, value, rule)
    return tuple(map(int, widths))


def check_feature_shape(value):
    """Return None or three integers (channels, height, width), the latter two of at least 8."""
    if value is None:
        return None
    shape = _items(value)
    is_shape = len(shape) == 3 and all(_is_a(n, Integral) for n in shape) and shape[0] >= 1 and min(shape[1:]) >= 8
    rule = "None or three integers (channels, height, width), the latter two of at least 8, such as (1, 28, 28)"
    _require(is_shape, "feature_shape", value, rule)
    return tuple(map(int, shape))


def check_fits_columns(feature_shape, n_columns):
    """Check that samples have as many columns as images of this shape have values."""
    if (n_numbers := math.prod(feature_shape)) != n_columns:
        raise ValueError(
            f"feature_shape={feature_shape} is for images of {n_numbers} values, but X has {n_columns} columns. Pass "
            "images of this shape, flattened: X.reshape(len(X), -1) of an array (n, channels, height, width)."
        )


def check_factory(name, value):
    """Return None or a callable (n_in, n_out) -> torch.nn.Module, but not a module that is already built."""
    is_built = hasattr(value, "forward") and not isinstance(value, type)
    rule = (
        "a callable (n_in, n_out) -> torch.nn.Module, such as the class torch.nn.Linear or a function of yours, and "
        "not a module already built: each fit builds its own"
    )
    _require(value is None or (callable(value) and not is_built), name, value, rule, TypeError)
    return value


def check_callbacks(value):
    """Check that a value is None, a skorch callback, its class or a pair (name, callback), or a list of such.

    Returns
    -------
    list
    """
    found = callback_list(value)
    if lost := [item.removeprefix(_LEFT_OUT) for item in found if is_left_out(item)]:
        raise ValueError(
            f"callbacks holds {', '.join(lost)}, which cannot be copied, so this copy of the estimator has none. Fit "
            "it in one process, with n_jobs=1 or joblib.parallel_config(backend='threading'); or set callbacks again."
        )
    callbacks = [item[1] if isinstance(item, tuple) and len(item) == 2 else item for item in found]
    are_callbacks = all(hasattr(callback, "on_train_begin") for callback in callbacks)
    rule = "a skorch callback, such as skorch.callbacks.EpochTimer(), or a list of these"
    _require(are_callbacks, "callbacks", value, rule, TypeError)
    return found


def callback_list(value):
    """Return the callbacks of the parameter, which is None, a list, or a single one."""
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return [] if value is None else [*value] if isinstance(value, list | tuple) and not is_pair else [value]


def left_out(item):
    """Return what stands for a callback, or a pair (name, callback), that a copy leaves out: text, with its class."""
    return _LEFT_OUT + type(item[1] if isinstance(item, tuple) else item).__name__


def is_left_out(item):
    """Return whether an item of the parameter stands for a callback that was left out."""
    return isinstance(item, str) and item.startswith(_LEFT_OUT)


def check_folder(name, value):
    """Check that a value is None or a path."""
    is_path = isinstance(value, str | os.PathLike)
    _require(value is None or is_path, name, value, "None or a folder, as a str or a pathlib.Path", TypeError)
    if value == "" or (is_path and "\0" in str(value)):
        raise ValueError(f"{name}={value!r} names no folder. Pass '.' for the current folder, or None for no folder.")
