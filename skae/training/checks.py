"""Checks of a net's state in the file of an estimator or in a checkpoint, before any of it is used."""

import copy
import re
from functools import partial

import numpy as np
import torch

from skae._torch import map_leaves
from skae.persistence import state as stored
from skae.training.optim import split_parameters

# Largest number of kind "size": its square is finite.
_LARGEST = np.float64(1e154)
# Largest ratio of a loading to the noise's standard deviation: a posterior is then computed without losing its prior.
_LARGEST_RATIO = 1e13**0.5
# Checks of the kinds of values, given a function from names of the same module to values, and messages for what fails.
_KINDS = {
    "positive": (lambda value, of: value > 0, "has numbers that are not positive"),
    "noise": (
        lambda value, of: (
            (value > 0) & (np.abs(of("loadings")).max(-1, initial=0) <= _LARGEST_RATIO * np.sqrt(np.abs(value)))
        ),
        "has numbers that are not positive, or tiny beside the loadings",
    ),
    "leading": (
        lambda value, of: (value >= 1) & (value <= 1 + np.arange(len(value))),
        "has a size of codes that is 0 or too large",
    ),
    "share": (lambda value, of: (value >= 0) & (value <= 1), "is no share from 0 to 1"),
    "size": (
        lambda value, of: (value >= 0) & (value <= _LARGEST),
        f"has negative numbers, or some beyond {_LARGEST:g}",
    ),
}
# How a training may have ended in a checkpoint; None if it has not.
OUTCOMES = (None, "budget", "patience", "callback", "diverged")


def check_net_state(state, module, losses=("train_loss",)):
    """Check a state of `Net.get_state` that was read from a file, for the net of this module.

    A module declares the kinds of some of its values in an attribute ``value_kinds``: {"noise": "positive"}.
    ``losses`` are the names of the losses that the history has for each epoch.

    Raises
    ------
    ValueError
        If names, shapes or dtypes differ from the module's, or values are not finite or not of their kind.
    """
    stored.check_dict(state, "net_")
    check_weights(stored.get(state, "weights"), module)
    _check_history(stored.get(state, "history"), losses)
    stored.check_number(state, "gradient_scale", low=0, high=np.finfo(np.float32).max)
    if stored.get(state, "optimizer") is not None:
        _check_optimizer(state["optimizer"], [sum(p.numel() for p in part) for part in split_parameters(module)])


def layers_of(module):
    """Return the layers of a module as text, without addresses of objects."""
    return re.sub(r" at 0x\w+", "", repr(module))


def check_kept(kept, module, best, losses):
    """Check a checkpoint's state, except for the parts that training builds when it begins; keep the own scalers."""
    stored.check_integer(kept, "returns")
    if stored.get(kept, "layers") != layers_of(module):
        raise stored.fault("the net", "has other layers")
    arrays = _as_arrays(kept)
    best_kept = stored.get(arrays, "best")
    stored.check_dict(best_kept, "best", best)
    for name in ("loss", "start_loss", "_bar"):
        stored.check_number(best_kept, name, low=np.finfo(float).min)
    stored.check_integer(best_kept, "_waited")
    is_start = best_kept["loss"] == best_kept["start_loss"]
    check_weights(best_kept["weights"], copy.deepcopy(module).double() if is_start else module)  # the start is exact
    if kept["outcome"] == "diverged":  # its last weights may not be finite
        kept["weights"], arrays["weights"] = kept["best"]["weights"], _as_arrays(module.state_dict())
    check_net_state(arrays, module, losses)
    for name, own in module.state_dict().items():
        if getattr(own, "dtype", None) == torch.float64:  # training does not change it
            kept["weights"][name] = kept["best"]["weights"][name] = own


def check_parts(kept, own, generators, epochs, n_steps):
    """Check the averages, generators, schedules and rates of a checkpoint; ``own`` is the state of a new training."""
    if len(kept["history"]) > epochs:
        raise stored.fault("the history", f"has {len(kept['history'])} epochs, more than the {epochs} of this fit")
    kept, own = _as_arrays(kept), _as_arrays(own)
    for name in ("average", "generators", "schedules"):
        stored.check_like(stored.get(kept, name), own[name], name)
    for numbers, of_own in zip(kept["schedules"], own["schedules"], strict=True):
        stored.check_integer(numbers, "last_epoch", 0, n_steps)
        for name in of_own.keys() - {"_last_lr"}:
            if 0 < of_own[name] < np.inf and numbers[name] <= 0:
                raise stored.fault(name, f"of a schedule is {numbers[name]}, not positive")
    groups = stored.get(kept["optimizer"], "param_groups")
    stored.check_like(groups, own["optimizer"]["param_groups"], "param_groups")
    for group in groups:
        if max(group["betas"]) >= 1:
            raise stored.fault("betas", f"are {group['betas']}, not less than 1")
    generators.check(kept["generators"])


def _as_arrays(state):
    """Return the tensors of a nested state as arrays without copies: shapes are not checked yet."""
    return map_leaves(state, lambda leaf: leaf.numpy(force=True) if torch.is_tensor(leaf) else leaf)


def check_weights(weights, module):
    """Check the arrays and other values of a module's ``state_dict``."""
    trained = copy.deepcopy(module).float().state_dict()
    stored.check_dict(weights, "the weights of the net", trained)
    is_raw = getattr(getattr(module, "scaler", None), "is_raw", False)  # samples that are not scaled may be large
    for name, own in _as_arrays(module.state_dict()).items():
        if isinstance(own, np.ndarray | int):  # modules of users may keep other values
            stored.check_like(weights[name], own, name)
        if getattr(own, "dtype", own) not in (np.float32, np.float64):
            continue
        largest = torch.finfo(trained[name].dtype).max
        if trained[name].dtype == torch.float32 and not is_raw:  # errors are squared in the precision of training
            largest = largest**0.5
        if (np.abs(weights[name][np.isfinite(weights[name])]) > largest).any():
            raise stored.fault(name, f"has numbers beyond {largest:.0e}")
    for prefix, part in module.named_modules():
        for name, kind in getattr(part, "value_kinds", {}).items():
            of, (fits, what) = partial(_value_of, weights, prefix), _KINDS[kind]
            if not fits(of(name), of).all():
                raise stored.fault(f"{prefix}.{name}".lstrip("."), what)


def _value_of(weights, prefix, name):
    return weights[f"{prefix}.{name}".lstrip(".")]


def _check_history(history, losses):
    are_lists = isinstance(history, list) and all(map(stored.is_dict, history))
    if not (are_lists and all(type(row.get("batches")) is list for row in history)):
        raise stored.fault("the history", "is no list of an epoch's records by name")
    for row in history:
        if "dur" in row and not all(type(row.get(name)) is float for name in ("dur", *losses)):
            raise stored.fault("the history", f"has an epoch without {', '.join(losses)} or its duration, as numbers")
        if any(type(row.get(name, 0.0)) is not float for name in ("train_loss", "valid_loss")):
            raise stored.fault("the history", "has a loss that is no number")
        if any(name.endswith("_batch_count") and type(row[name]) is not int for name in row):
            raise stored.fault("the history", "has a number of batches that is no integer")


def _check_optimizer(state, sizes):
    """Check the averages of Adam, for groups of parameters of these sizes, or for one of all."""
    stored.check_dict(state, "the optimiser's state", ("state", "param_groups", "mean_norm"))
    groups, moments = state["param_groups"], state["state"]
    if type(groups) is not list or not all(type(group) is dict for group in groups):
        raise stored.fault("param_groups", "is no list of dicts")
    sizes = sizes if len(groups) == len(sizes) else [sum(sizes)]
    if type(moments) is not dict or not all(type(i) is int and 0 <= i < len(sizes) for i in moments):
        raise stored.fault("the optimiser's state", f"has other keys than the indices of {len(sizes)} groups")
    for index, averages in moments.items():
        stored.check_dict(averages, f"the optimiser's state of group {index}", ("step", "exp_avg", "exp_avg_sq"))
        stored.check_array(averages, "step", (), np.float32, low=0)
        stored.check_array(averages, "exp_avg", (sizes[index],), np.float32)
        stored.check_array(averages, "exp_avg_sq", (sizes[index],), np.float32, low=0)
    if state["mean_norm"] is not None:
        stored.check_array(state, "mean_norm", (), np.float32, low=0)
