"""What a file may say of a fitted estimator: names, types, shapes and ranges, checked before a net takes any of it in.

The checks know no estimator: these say what they expect. An error names what is wrong in the file.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import fields
from itertools import pairwise
from numbers import Integral, Real

import numpy as np
from sklearn import exceptions
from sklearn.mixture import GaussianMixture

from skae._columns import KINDS, Column
from skae._version import __version__

# What a file that skae's estimators are saved to may name beside plain Python, NumPy and scikit-learn.
TRUSTED_TYPES = [
    "skae._generator.VAEGenerator",
    "skae.inspection.metrics.reconstruction_scorer",
    "skae._search.AutoencoderTransformerCV",
    "skae._transformer.AutoencoderTransformer",
]

VERSION = "_skae_version"
_LARGEST_WEIGHT = np.finfo(np.float32).max
_LIBRARIES = ("pandas", "polars")
_FAMILIES = ("float", "integer", "boolean", "category")
_POLARS_TYPES = re.compile(r"U?Int\d+|Float\d+|Boolean|String|Categorical|Enum")


class InconsistentVersionWarning(exceptions.InconsistentVersionWarning):
    """A file of another version of skae; filters for scikit-learn's warning of this name take it too."""

    def __str__(self):
        return (
            f"This {self.estimator_name} was saved by skae {self.original_sklearn_version} and is loaded by skae "
            f"{self.current_sklearn_version}, which may take it differently. Load it with the version that saved it, "
            "or fit it again."
        )


def with_version(state):
    """The state, and which skae it is of."""
    return state | {VERSION: __version__}


def without_version(state, cls):
    """The state as `with_version` was given it, as a new dict; one of another version is warned about."""
    if not (isinstance(state, dict) and all(isinstance(name, str) for name in state)):
        raise fault("the state", "is no dict with names as keys")
    version = str(state.get(VERSION, "of unknown version"))
    if version != __version__:
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name=cls.__name__,
                current_sklearn_version=__version__,
                original_sklearn_version=version,
            ),
            stacklevel=3,
        )
    return {name: value for name, value in state.items() if name != VERSION}


def fault(name, what):
    """The error that something in a file is not what it should be."""
    return ValueError(
        f"The saved estimator is damaged or was changed: {name} {what}. Save it again, or fit it again and save that."
    )


def parameter_names(cls):
    """Parameters of this class, and of skae's that it derives from: it may set some of these by itself."""
    package = __name__.split(".")[0]
    own = next(base for base in cls.__mro__ if base.__module__.split(".")[0] == package)
    return list(dict.fromkeys([*own._get_param_names(), *cls._get_param_names()]))


def check_names(state, cls):
    """All parameters, and nothing that would hide a method."""
    parameters = parameter_names(cls)
    if missing := [name for name in cls._get_param_names() if name not in state]:
        raise fault(", ".join(missing), "is missing")
    for name in state:
        hidden = getattr(cls, name, None)
        if name not in parameters and (callable(hidden) or hasattr(hidden, "__get__")):
            raise fault(name, f"is the name of a method or property of {cls.__name__}")


def get(state, name):
    """What has this name."""
    if name not in state:
        raise fault(name, "is missing")
    return state[name]


def check_integer(state, name, low=0, high=2**63):
    value = get(state, name)
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        raise fault(name, f"is {_short(value)}, not an integer from {low} to {high}")
    return int(value)


def check_number(state, name, *, low=-math.inf, optional=False):
    """A number of at least ``low`` that is not nan, or None if ``optional``."""
    value = get(state, name)
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not value >= low:
        raise fault(name, f"is {_short(value)}, not a number{f' of at least {low:g}' if low > -math.inf else ''}")


def check_numbers(state, name, *, optional=False):
    """A list of numbers, or None if ``optional``."""
    values = get(state, name)
    if values is None and optional:
        return
    if not isinstance(values, list) or not all(isinstance(v, Real) for v in values):
        raise fault(name, f"is {_short(values)}, not a list of numbers")


def check_array(state, name, shape, dtype=np.float64, *, low=-math.inf, high=math.inf, allow="finite"):
    """An array of this shape and dtype, of numbers from ``low`` to ``high``; infinite ones, or nan too, if allowed."""
    value = get(state, name)
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != tuple(shape):
        found = f"of {value.dtype} and shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise fault(name, f"is {found}, not an array of {np.dtype(dtype)} and shape {tuple(shape)}")
    if value.dtype.kind != "f" or allow == "nan":
        return
    if np.isnan(value).any() if allow == "infinite" else not np.isfinite(value).all():
        raise fault(name, "has numbers that are not finite")
    if value.size and value.min() < low:
        raise fault(name, f"has {value.min():g}, less than {low:g}")
    if value.size and value.max() > high:
        raise fault(name, f"has {value.max():g}, more than {high:g}")


def length_of(state, name, axis):
    """How long an array is along an axis; -1, which no array is, if it is none."""
    value = get(state, name)
    return value.shape[axis] if isinstance(value, np.ndarray) and value.ndim > axis else -1


def check_one_of(state, name, options):
    value = get(state, name)
    if not any(type(value) is type(option) and value == option for option in options):
        raise fault(name, f"is {_short(value)}, not one of {', '.join(map(repr, options))}")


def check_widths(name, widths, n_weights):
    """Widths of layers whose weights could be among so many numbers: a net that is too large is not built."""
    for n_in, n_out in pairwise(widths):
        if n_in * n_out > n_weights:
            raise fault(name, f"asks for a layer from {n_in} to {n_out} numbers, but all weights are {n_weights}")


def check_frame(frame, link, raw, per_column):
    """The arrays of a `Frame`, all of one length, which is returned."""
    if not isinstance(frame, dict) or set(frame) != {"link", "mean", "location", "scale", "spread", "constant", "raw"}:
        raise fault("_frame", "must have a link, a mean, a location, a scale, a spread, a constant and a raw")
    check_one_of(frame, "link", [link])
    check_one_of(frame, "raw", [raw])
    if not isinstance(frame["mean"], np.ndarray) or frame["mean"].ndim != 1:
        raise fault("_frame's mean", "is no array of one dimension")
    n = len(frame["mean"])
    for name in ("mean", "location"):
        check_array(frame, name, (n,))
    check_array(frame, "spread", (n,), allow="nan" if raw else "finite", low=0)
    check_array(frame, "constant", (n,), bool)
    if per_column and not raw:
        check_array(frame, "scale", (n,))
    elif not isinstance(frame["scale"], Real):
        raise fault("_frame's scale", f"is {_short(frame['scale'])}, not a number")
    if not (np.isfinite(frame["scale"]).all() and np.greater(frame["scale"], 0).all()):
        raise fault("_frame's scale", "is not a positive number throughout")
    return n


def check_weights(weights, expected):
    """Weights of a net by name, against those of the net they are for, as arrays; none beyond float32's range.

    They have been trained in it, and are cast to it.
    """
    if not isinstance(weights, dict) or weights.keys() != expected.keys():
        found = set(weights) if isinstance(weights, dict) else set()
        wrong = sorted(map(str, found ^ set(expected)))
        raise fault("the net", f"has not the weights that its parameters ask for (as to {', '.join(wrong[:3])})")
    for name, array in expected.items():
        if isinstance(array, np.ndarray):
            ranges = name.endswith((".low", ".high"))  # unbounded ones are infinite
            ours = not name.startswith(("encoder.", "decoder."))  # where users' own modules are
            check_array(weights, name, array.shape, array.dtype, allow="infinite" if ranges else "finite")
            if not ranges and array.dtype.kind == "f" and np.abs(weights[name]).max(initial=0) > _LARGEST_WEIGHT:
                raise fault(name, f"has numbers beyond {_LARGEST_WEIGHT:.0e}")
            if ours and name.endswith(".noise") and not (weights[name] > 0).all():
                raise fault(name, "has variances that are not positive")
            if ours and name.endswith(".share") and not 0 <= weights[name] <= 1:
                raise fault(name, "is no share from 0 to 1")
        else:
            check_integer(weights, name)


def check_optimizer(state, shapes):
    """Averages of an optimiser, for parameters of these shapes."""
    moments = get(state, "state") if isinstance(state, dict) else None
    if not isinstance(moments, dict) or not moments.keys() <= set(range(len(shapes))):
        raise fault("the optimiser's state", f"is not told for {len(shapes)} parameters by their numbers")
    for index, of_parameter in moments.items():
        if not isinstance(of_parameter, dict) or set(of_parameter) != {"step", "exp_avg", "exp_avg_sq"}:
            raise fault(f"the optimiser's state of parameter {index}", "must have a step, an exp_avg and an exp_avg_sq")
        check_array(of_parameter, "step", (), np.float32, low=0)
        check_array(of_parameter, "exp_avg", shapes[index], np.float32)
        check_array(of_parameter, "exp_avg_sq", shapes[index], np.float32, low=0)
    if get(state, "mean_norm") is not None:
        check_array(state, "mean_norm", (), np.float32, low=0)


def check_history(history):
    if not isinstance(history, list) or not all(
        isinstance(row, dict) and all(isinstance(name, str) for name in row) and isinstance(row.get("batches"), list)
        for row in history
    ):
        raise fault("the history", "is no list of an epoch's records by name")


def check_container(value, n_features):
    """The library and the column names of a DataFrame, or None."""
    if value is None:
        return
    if not isinstance(value, tuple) or len(value) != 2 or value[0] not in _LIBRARIES or not isinstance(value[1], list):
        raise fault("_container", f"is {_short(value)}, not a library of {_LIBRARIES} and its columns")
    if len(value[1]) != n_features:
        raise fault("_container", f"names {len(value[1])} columns, not {n_features}")


def check_mixture(mixture, n_components):
    """A `GaussianMixture` of codes of so many numbers, or None."""
    if mixture is None:
        return
    if type(mixture) is not GaussianMixture:
        raise fault("the density of codes", f"is {type(mixture).__name__}, not GaussianMixture or None")
    state = vars(mixture)
    for name in mixture._get_param_names():
        get(state, name)
    check_one_of(state, "covariance_type", ["full"])
    n = check_integer(state, "n_components", 1)
    square = (n, n_components, n_components)
    check_array(state, "weights_", (n,), low=0)
    check_array(state, "means_", (n, n_components))
    for name in ("covariances_", "precisions_cholesky_"):
        check_array(state, name, square)
    if not math.isclose(mixture.weights_.sum(), 1, rel_tol=1e-6):
        raise fault("weights_", f"of the density of codes sum to {mixture.weights_.sum():g}, not 1")


def check_plan(plan):
    """A `Plan` of mixed columns as a dict of dicts, or None."""
    if plan is None:
        return
    if not isinstance(plan, dict) or set(plan) != {"library", "columns"} or not isinstance(plan["columns"], list):
        raise fault("_plan", "must have a library and a list of columns")
    check_one_of(plan, "library", [*_LIBRARIES, None])
    for column in plan["columns"]:
        _check_column(column, plan["library"])


_COLUMN = [
    "name",
    "likelihood",
    "family",
    "dtype",
    "low",
    "high",
    "categories",
    "declared",
    "ordered",
    "knots",
    "steps",
]


def _check_column(column, library):
    if not isinstance(column, dict) or set(column) != (names := {field.name for field in fields(Column)}):
        raise fault("a column of _plan", f"must have {', '.join(sorted(names))}")
    check_one_of(column, "likelihood", KINDS)
    check_one_of(column, "family", _FAMILIES)
    check_one_of(column, "ordered", [True, False])
    if not isinstance(column["dtype"], str) or (library == "polars" and not _POLARS_TYPES.fullmatch(column["dtype"])):
        raise fault("dtype", f"of a column is {_short(column['dtype'])}, which is none of {library}'s")
    check_number(column, "low")
    check_number(column, "high", low=column["low"])
    of_categories = column["likelihood"] == "categorical"
    for name in ("categories", "declared") if column["declared"] is not None else ("categories",):
        values = column[name]
        if not isinstance(values, list) or not all(_is_category(value, column["dtype"]) for value in values):
            raise fault(name, f"of a column is {_short(values)}, not a list of strings or numbers")
        if len(set(values)) != len(values) or (of_categories and not values):
            raise fault(name, f"of a column is {_short(values)}: each value must be there once")
    if of_categories and column["declared"] is not None and not set(column["categories"]) <= set(column["declared"]):
        raise fault("categories", "of a column are not among those that its dtype declares")
    for name in ("knots", "steps"):
        array = column[name]
        if not isinstance(array, np.ndarray) or array.ndim != 2:
            raise fault(name, "of a column is no array of two dimensions")
        n = array.shape[1]
        check_array(column, name, (2, n))
        wrong = (np.diff(array) < 0).any() or (name == "knots" and (np.diff(array) <= 0).any())
        if wrong or (column["likelihood"] == "gaussian" and n == 0):
            raise fault(name, "of a column do not rise")


def _is_category(value, dtype):
    """Whether this is a string, a number or, of a dtype of intervals, the two ends of one."""
    if dtype.startswith("interval"):
        return isinstance(value, tuple) and len(value) == 2 and all(isinstance(end, Real) for end in value)
    return isinstance(value, str | Real)


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
