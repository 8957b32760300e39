"""The state of a fitted estimator in files: arrays and plain Python, checked when it is read."""

import math
from contextlib import suppress

import numpy as np
import torch

from skae._fit import check_size, network_parameters, new_net
from skae._torch import resolve_device, to_tensors
from skae.data.checks import check_classes
from skae.data.context import ClassContext, NoContext
from skae.networks.halves import NetworkSpec
from skae.persistence import state as stored
from skae.training.checks import check_net_state
from skae.training.distributed import is_shared

# Largest difference of outputs between machines and versions of torch, relative to the largest output.
_ROUNDING = 1e-4
_BUILT = {"parameters", "n_features", "n_context", "n_components", "has_missing", "seed", "is_truncated"}


def to_state(state):
    """Return the state of an estimator with arrays and plain Python in place of objects."""
    if "net_" not in state:  # if fit failed, it may have a table
        return {name: value for name, value in state.items() if name != "_table"}
    state = {name: value for name, value in state.items() if name not in state["_table"].attributes}
    return state | {"net_": state["net_"].get_state()} | {k: state[k].to_state() for k in ("_fitted", "_table")}


def restored(cls, state):
    """Check a state from `to_state` and return it with objects in place of their states."""
    kept = stored.get(state, "_fitted")
    built = _restored_built(kept)
    estimator = _probe(cls, state, built)
    table = _restored_table(estimator, stored.get(state, "_table"))
    stored.check_integer(kept["built"], "n_features", table.width, table.width)
    _check_attributes(state, table)
    _check_size(built, stored.get(state, "net_"), estimator._model_class)
    context = _restored_context(state, built.n_context)
    vars(estimator).update({name: state[name] for name in stored.parameter_names(cls) if name in state})
    net = _restored_net(estimator, built, table, stored.get(state, "net_"))
    fitted = cls._fitted_class(net, built, table, context, state["n_components_"])
    fitted.restore(kept, state)
    typical = net.module_.typical().numpy(force=True)
    if not np.isfinite(typical).all():
        raise stored.fault("the net", "has outputs that are not finite for a typical sample")
    attributes = {} if built.is_truncated else fitted.attributes()  # the network may have been trained since
    for name, value in attributes.items():
        if isinstance(value, np.ndarray) and not np.allclose(value, stored.get(state, name), rtol=1e-5, atol=0):
            raise stored.fault(name, "is not that of the net")
    if kept.get("typical") is not None:  # earlier files have none
        stored.check_array(kept, "typical", typical.shape)
        largest = min(np.abs(outputs).max() for outputs in (typical, kept["typical"]))
        if not np.allclose(kept["typical"], typical, rtol=0, atol=_ROUNDING * largest):
            what = "has other codes than when it was saved; own modules, too, must be those of the fit"
            raise stored.fault("the net", what)
    return state | table.attributes | {"_table": table, "net_": net, "_fitted": fitted}


def _restored_table(estimator, state):
    """Check and restore a table by the estimator's table of the same kind."""
    first, *others = estimator._tables()
    kind = str(state.get("kind")) if type(state) is dict else None
    return next((table for table in others if table.kind == kind), first).restore(state, stored.fault)


def _restored_built(kept):
    built = stored.get(kept, "built")
    stored.check_dict(built, "what the net was built from", _BUILT)
    stored.check_dict(built["parameters"], "what the net was built from")
    stored.check_integer(built, "n_context")
    stored.check_integer(built, "n_components", 1)
    stored.check_integer(built, "seed", 0, 2**32 - 1)
    for name in ("has_missing", "is_truncated"):
        stored.check_one_of(built, name, [True, False])
    return NetworkSpec(**built)


def _probe(cls, state, built):
    """Return an estimator with the parameters that its network was built from, after the checks of `fit`."""
    estimator = cls.__new__(cls)
    parameters = {name: stored.get(state, name) for name in stored.parameter_names(cls)}
    own = {name: value for name, value in built.parameters.items() if name in parameters}
    vars(estimator).update(parameters | own | {"device": "cpu"})
    try:
        estimator._check_parameters()
        check_size(built.n_components, built.n_features)
    except (ValueError, TypeError, RecursionError) as error:
        raise stored.fault("a parameter", f"is not one that fit takes ({error})") from error
    expected = network_parameters(estimator)
    if built.parameters.keys() != expected.keys() or built.parameters != expected:
        raise stored.fault("what the net was built from", "is inconsistent")
    return estimator


def _check_size(built, net_state, model_class):
    """Check that the file holds the weights of the network, so that no larger one is built."""
    weights = stored.get(net_state, "weights")
    stored.check_dict(weights, "the weights of the net")
    n_weights = sum(value.size for value in weights.values() if isinstance(value, np.ndarray))
    if (shape := built.parameters["feature_shape"]) is not None and math.prod(shape) != built.n_features:
        raise stored.fault("feature_shape", f"is {shape}, not the shape of {built.n_features} columns")
    if (least := model_class.least_weights(built)) > n_weights:
        what = f"asks for at least {least} weights, but the file has {n_weights} in all"
        raise stored.fault("what the net was built from", what)


def _restored_net(estimator, built, table, state):
    model_class = estimator._model_class
    try:
        scaler = model_class.scaler_of(built.n_features, table.links, built.is_raw)
        module = model_class.build(built, scaler, table).double()
    except Exception as error:  # a user's encoder or decoder may have changed
        raise stored.fault("the net", f"cannot be built: {error}") from error
    check_net_state(state, module)
    module.load_state_dict(to_tensors(state["weights"]))  # new_net reads noise and objective from it
    try:
        device = resolve_device("auto" if is_shared(estimator.device) else estimator.device)
    except ValueError:  # fitted on a device that this machine lacks
        device = torch.device("cpu")
    return new_net(estimator, module, built, 1, device).set_state(state)


def _check_attributes(state, table):
    """Check the fitted attributes that all estimators share."""
    n = table.width
    n_components = stored.check_integer(state, "n_components_", 1)
    stored.check_integer(state, "n_iter_")
    stored.check_array(state, "mean_", (n,))
    if "components_" in state:
        stored.check_array(state, "components_", (n_components, n))
    for name in ("best_loss_", "linear_loss_"):
        stored.check_number(state, name, optional=True)
    stored.check_numbers(state, "loss_curve_")
    stored.check_numbers(state, "validation_loss_curve_", optional=True)
    stored.check_one_of(state, "n_features_in_", [table.n_columns])
    if "feature_names_in_" in state:
        stored.check_array(state, "feature_names_in_", (table.n_columns,), object)
        if not all(isinstance(name, str) for name in state["feature_names_in_"]):
            raise stored.fault("feature_names_in_", "has a name that is no text")
    if (config := state.get("_sklearn_output_config")) is not None:
        stored.check_dict(config, "_sklearn_output_config", ("transform",))
        stored.check_one_of(config, "transform", ["default", "pandas", "polars"])


def _restored_context(state, n_context):
    """Check the classes of a conditional estimator and their counts, and return its context."""
    if n_context == 0:
        return NoContext()
    stored.check_array(state, "class_count_", (n_context,), low=0)
    stored.check_array(state, "class_prior_", (n_context,), low=0)
    classes, is_valid = stored.get(state, "classes_"), False
    with suppress(ValueError, TypeError):
        is_valid = np.array_equal(check_classes(classes, n_context)[0], classes)
    if not is_valid or stored.length_of(state, "classes_", 0) != n_context:
        raise stored.fault("classes_", "is no array of classes that fit takes, sorted, each once")
    if not np.isfinite(total := state["class_count_"].sum()) or total == 0:
        raise stored.fault("class_count_", f"sums to {total:g}")
    context = ClassContext(classes, state["class_count_"])
    if not np.allclose(state["class_prior_"], context.prior, rtol=1e-6):
        raise stored.fault("class_prior_", "is not the shares of class_count_")
    return context
