"""Checks of a saved estimator's state: names, types, shapes and ranges, before a network is built from it.

They are independent of estimators, which pass the expected values. An error names the faulty entry of the file.
"""

import math
import warnings
from contextlib import suppress
from numbers import Integral, Real
from reprlib import repr as shortened

import numpy as np
from numpy.lib import NumpyVersion
from sklearn import exceptions
from sklearn.mixture import GaussianMixture

from skae._version import __version__

# Types in files of skae's estimators that are not from Python, NumPy or scikit-learn.
TRUSTED_TYPES = [
    "skae._autoencoder.AutoencoderTransformer",
    "skae._imputer.ModelImputer",
    "skae._resampled.ResampledGenerator",
    "skae._search.LatentSizeCV",
    "skae._search.own_score",
    "skae._vae.VAEGenerator",
    "skae.inspection.metrics.reconstruction_scorer",
]

VERSION = "_skae_version"
_LARGEST = np.finfo(np.float64).max
# Of a mixture of scaled samples: the largest number, and a bound on noise variances, which fits keep above 1e-3.
_LARGEST_SCALED, _LEAST_NOISE = 1e9, 5e-4


class InconsistentVersionWarning(exceptions.InconsistentVersionWarning):
    """Warning about a file of a later version of skae; a filter for scikit-learn's warning of this name matches it."""

    def __str__(self):
        return (
            f"This {self.estimator_name} was saved by skae {self.original_sklearn_version} and is loaded by skae "
            f"{self.current_sklearn_version}, which may take it differently. Load it with the version that saved it or "
            "a later one, or fit it again."
        )


def with_version(state):
    """Return the state with the version of skae added."""
    return state | {VERSION: __version__}


def without_version(state, cls):
    """Return a copy of the state without the version, and warn if that is later or unknown.

    Files of earlier releases open with the same codes: tests/persistence/files has those of each.
    """
    check_dict(state, "the state")
    version = str(state.get(VERSION, "of unknown version"))
    if _is_later_or_unknown(version):
        names = {"estimator_name": cls.__name__, "current_sklearn_version": __version__}
        warnings.warn(InconsistentVersionWarning(**names, original_sklearn_version=version), stacklevel=3)
    return {name: value for name, value in state.items() if name != VERSION}


def _is_later_or_unknown(version):
    try:
        return NumpyVersion(version) > __version__
    except ValueError:
        return True


def fault(name, what):
    """Return the error for a faulty entry of a file; its attribute ``entry`` is the entry and what is wrong."""
    entry = f"{name} {what}"
    error = ValueError(
        f"The saved estimator is damaged or was changed: {entry}. Save it again, or fit it again and save that."
    )
    error.entry = entry
    return error


def parameter_names(cls):
    """Return the parameters of a class and of skae's class that it derives from; a subclass may have fewer."""
    return list(dict.fromkeys([*own_parameter_names(cls), *cls._get_param_names()]))


def own_parameter_names(cls):
    """Return the parameters of skae's class that a class is or derives from."""
    package = __name__.split(".")[0]
    return next(base for base in cls.__mro__ if base.__module__.split(".")[0] == package)._get_param_names()


def check_names(state, cls):
    """Check that the state has all parameters, and no name of a method."""
    parameters = parameter_names(cls)
    if missing := [name for name in cls._get_param_names() if name not in state]:
        raise fault(", ".join(missing), "is missing")
    for name in state:
        hidden = getattr(cls, name, None)
        if name not in parameters and (callable(hidden) or hasattr(hidden, "__get__")):
            raise fault(name, f"is the name of a method or property of {cls.__name__}")


def is_dict(value):
    """Return whether a value is a dict with strings as keys."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def check_dict(value, name, keys=None):
    """Check a dict with strings as keys; with ``keys``, these and no others."""
    if not is_dict(value):
        raise fault(name, f"is {shortened(value)}, not a dict with names as keys")
    if keys is not None and (wrong := sorted(value.keys() ^ keys)):
        raise fault(name, f"has entries missing, or too many: {', '.join(wrong[:3])}")


def get(state, name):
    """Return the entry of this name, or raise the error that it is missing."""
    if not is_dict(state) or name not in state:
        raise fault(name, "is missing")
    return state[name]


def check_integer(state, name, low=0, high=2**63):
    """Check and return an integer within bounds."""
    value = get(state, name)
    if not (_is_number(value, Integral) and low <= value <= high):
        raise fault(name, f"is {shortened(value)}, not an integer from {low} to {high}")
    return int(value)


def check_number(state, name, *, low=-math.inf, high=math.inf, optional=False):
    """Check a number within bounds that is not nan, or None if ``optional``."""
    value = get(state, name)
    if not (value is None and optional) and not (_is_number(value, Real) and low <= value <= high):
        raise fault(name, f"is {shortened(value)}, not a number{f' of at least {low:g}' if low > -math.inf else ''}")


def check_numbers(state, name, *, optional=False):
    """Check a list of numbers, or None if ``optional``."""
    values = get(state, name)
    if not (values is None and optional) and not (type(values) is list and all(_is_number(v, Real) for v in values)):
        raise fault(name, f"is {shortened(values)}, not a list of numbers")


def check_array(state, name, shape, dtype=np.float64, *, low=-math.inf, high=math.inf, but=0.0):
    """Check an array's shape and dtype, and that values are within bounds, and finite or equal to ``but``."""
    value, wanted = get(state, name), f"an array of {np.dtype(dtype)} and shape {tuple(shape)}"
    if not isinstance(value, np.ndarray):
        raise fault(name, f"is {type(value).__name__}, not {wanted}")
    if value.dtype != dtype or value.shape != tuple(shape):
        raise fault(name, f"is of {value.dtype} and shape {value.shape}, not {wanted}")
    if value.dtype.kind != "f":
        return
    if not (np.isfinite(value) | (value == but)).all():
        raise fault(name, "has numbers that are not finite")
    if value.size and value.min() < low:
        raise fault(name, f"has {value.min():g}, less than {low:g}")
    if value.size and value.max() > high:
        raise fault(name, f"has {value.max():g}, more than {high:g}")


def check_like(value, own, name):
    """Check that a value has the structure of ``own``: keys, lengths, shapes and types.

    Arrays are finite except where they equal ``own``. Numbers are finite unless those of ``own`` are not, and not
    negative unless those of ``own`` are.
    """
    if isinstance(own, dict):
        check_dict(value, name, own)
        for key, part in own.items():
            check_like(value[key], part, key)
    elif isinstance(own, list):
        if type(value) is not list or len(value) != len(own):
            raise fault(name, f"is {shortened(value)}, not a list of {len(own)}")
        for part, of_own in zip(value, own, strict=True):
            check_like(part, of_own, name)
    elif isinstance(own, np.ndarray):
        check_array({name: value}, name, own.shape, own.dtype, but=own)
    elif _is_number(own, Real) and _is_number(value, Real) and value == own:
        return  # also if it is infinite
    elif _is_number(own, Integral):
        check_integer({name: value}, name)
    elif _is_number(own, Real):
        low, high = (0 if own >= 0 else -_LARGEST, _LARGEST) if math.isfinite(own) else (-_LARGEST, math.inf)
        check_number({name: value}, name, low=low, high=high)
    else:
        check_one_of({name: value}, name, [own])


def length_of(state, name, axis):
    """Return the length of an array along an axis, or -1 if the entry is no such array."""
    shape = getattr(get(state, name), "shape", ())
    return shape[axis] if isinstance(shape, tuple) and len(shape) > axis else -1


def check_one_of(state, name, options):
    """Check that a value equals one of the options and has the same type."""
    value, is_known = get(state, name), False
    with suppress(ValueError):  # arrays in a dict cannot be compared
        is_known = any(type(value) is type(option) and value == option for option in options)
    if not is_known:
        raise fault(name, f"is {shortened(value)}, not one of {', '.join(map(repr, options))}")


def check_mixture(mixture, n_components):
    """Check a `GaussianMixture` of codes (n, n_components), or None."""
    if mixture is None:
        return
    if type(mixture) is not GaussianMixture:
        raise fault("the density of codes", f"is {type(mixture).__name__}, not GaussianMixture or None")
    state = vars(mixture)
    for name in mixture._get_param_names():
        get(state, name)
    check_one_of(state, "covariance_type", ["full"])
    n = check_integer(state, "n_components", 1)
    check_integer(state, "n_features_in_", n_components, n_components)
    check_array(state, "weights_", (n,), low=0)
    check_array(state, "means_", (n, n_components))
    for name in ("covariances_", "precisions_cholesky_"):
        check_array(state, name, (n, n_components, n_components))
    if not math.isclose(mixture.weights_.sum(), 1, rel_tol=1e-6):
        raise fault("weights_", f"of the density of codes sum to {mixture.weights_.sum():g}, not 1")
    factors = mixture.precisions_cholesky_
    with np.errstate(all="ignore"):
        whitened = factors.swapaxes(1, 2) @ mixture.covariances_ @ factors
    if not (np.allclose(whitened, np.eye(n_components), atol=1e-6) and (factors.diagonal(0, 1, 2) > 0).all()):
        raise fault("precisions_cholesky_", "of the density of codes are not those of its covariances_")


def check_linear_mixture(state, name, n_features, n_context):
    """Check the arrays of a `LinearMixture` of samples, which may have no models, and return them by name."""
    arrays = get(state, name)
    check_dict(arrays, name, ("weights", "means", "loadings", "noise"))
    n, n_components = length_of(arrays, "loadings", 0), length_of(arrays, "loadings", 2)
    check_array(arrays, "weights", (n_context if n and n_context else 1, n), low=0)
    check_array(arrays, "means", (n, n_features), low=-_LARGEST_SCALED, high=_LARGEST_SCALED)
    check_array(arrays, "loadings", (n, n_features, n_components), low=-_LARGEST_SCALED, high=_LARGEST_SCALED)
    check_array(arrays, "noise", (n, n_features), low=_LEAST_NOISE, high=_LARGEST_SCALED)
    if n and not np.allclose(arrays["weights"].sum(axis=1), 1):
        raise fault("weights", "of the mixture of samples do not sum to 1")
    return arrays


def _is_number(value, kind):
    """Return whether a value is a number of this kind, no bool, and no integer beyond 2**63."""
    return isinstance(value, kind) and type(value) is not bool and not (isinstance(value, int) and abs(value) > 2**63)
