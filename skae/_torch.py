"""Devices, seeds and modes of torch: the settings of every computation of skae."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from torch import Tensor

# Most values and most samples of an evaluation batch: memory is bounded, and a batch stays in the cache.
_EVALUATED_NUMBERS = 2**20
_EVALUATED_SAMPLES = 4096
# Held while the global generators are seeded, so that fits in two threads wait for each other.
_GLOBAL_GENERATORS = threading.RLock()
_ARRAYS = (np.ndarray, np.generic)
_IS_COMPLETE = ContextVar("is_complete", default=False)
_IS_ASSUMED_MISSING = ContextVar("is_assumed_missing", default=False)


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device that ``device`` names: "auto" is cuda if there is one, else the cpu.

    Raises
    ------
    ValueError
        If there is no such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda compute in float32 and float64")
        torch.empty(0, device=resolved)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} is not usable on this machine ({str(error).splitlines()[0]}). "
            "Use device='auto', 'cpu' or 'accelerate'."
        ) from error
    return resolved


def to_array(X: Any) -> Any:
    """Return a tensor of any device as an array, and anything else as it is."""
    if not isinstance(X, Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


def like_input(result: Any, X: Any) -> Any:
    """Return a tensor on X's device if X is a tensor and scikit-learn dispatches to the array API, else an array."""
    is_dispatched = isinstance(X, Tensor) and get_config()["array_api_dispatch"]
    if torch.is_tensor(result):
        return result if is_dispatched else result.numpy(force=True)
    is_numeric = isinstance(result, np.ndarray) and result.dtype.kind in "biuf"
    return torch.from_numpy(result).to(X.device) if is_dispatched and is_numeric else result


def is_on_device(X: Any) -> bool:
    """Return whether X is a tensor that is not on the host."""
    return torch.is_tensor(X) and X.device.type != "cpu"


def device_of(X: Any) -> torch.device:
    """Return the device of samples: the host, unless they are a tensor or read from one."""
    return torch.device(getattr(X, "device", "cpu"))


def like_part(values: Any, part: Any) -> Any:
    """Return an array with the dtype of ``part``, as a tensor on its device if it is one."""
    return tensor_of(values).to(part) if torch.is_tensor(part) else values.astype(part.dtype)


def evaluation_batch_size(width: int) -> int:
    """Return the number of samples in an evaluation batch, if each sample holds ``width`` values."""
    return max(1, min(_EVALUATED_SAMPLES, _EVALUATED_NUMBERS // width))


@contextmanager
def seeded_globals(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it, for modules that use them."""
    # torch.manual_seed would seed all devices, but only these are restored.
    with _GLOBAL_GENERATORS, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute in torch's default modes, whatever mode the caller is in: gradients, no autocast, the cpu.

    An error mode of NumPy that raises becomes its default: underflow is ignored, for example.
    """
    raised = [kind for kind, mode in np.geterr().items() if mode == "raise"]
    usual: dict[str, Any] = {kind: "ignore" if kind == "under" else "warn" for kind in raised}
    with ExitStack() as modes:
        modes.enter_context(np.errstate(**usual))
        modes.enter_context(torch.inference_mode(False))
        if torch.empty(0).device.type != "cpu":
            modes.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def no_gradients() -> Iterator[None]:
    """Compute in torch's default modes without gradients; they can be enabled inside."""
    with torch_defaults(), torch.no_grad():
        yield


@contextmanager
def known_complete(is_complete: bool) -> Iterator[None]:
    """Skip the search for missing values inside the block if there are none, since it synchronises with the device."""
    token = _IS_COMPLETE.set(is_complete)
    try:
        yield
    finally:
        _IS_COMPLETE.reset(token)


@contextmanager
def assume_missing() -> Iterator[None]:
    """Assume inside the block, without a search, that values are missing: a traced module has no values yet."""
    token = _IS_ASSUMED_MISSING.set(True)
    try:
        yield
    finally:
        _IS_ASSUMED_MISSING.reset(token)


def has_missing(x: Tensor) -> bool:
    """Return whether any entry is nan."""
    return _IS_ASSUMED_MISSING.get() or (not _IS_COMPLETE.get() and bool(x.sum().isnan()))


def torch_dtype(array: Any) -> torch.dtype:
    """Return the torch dtype of an array or a tensor: float32, or float64 for all other dtypes."""
    return torch.float32 if array.dtype in (np.float32, torch.float32) else torch.float64


def tensor_of(array: Any) -> Tensor:
    """Return an array as a tensor, which shares its memory if that is contiguous and writeable; a tensor as it is."""
    return array if torch.is_tensor(array) else torch.from_numpy(np.require(array, requirements=("C", "W")))


def to_arrays(state: Any) -> Any:
    """Replace every tensor of a nested state by a NumPy array."""
    return map_leaves(state, lambda leaf: leaf.detach().cpu().numpy().copy() if torch.is_tensor(leaf) else leaf)


def to_tensors(state: Any) -> Any:
    """Replace every array of a nested state by a tensor: the inverse of `to_arrays`."""
    return map_leaves(state, lambda leaf: torch.as_tensor(np.array(leaf)) if isinstance(leaf, _ARRAYS) else leaf)


def map_leaves(state: Any, function: Callable[[Any], Any], key: Callable[[Any], Any] = lambda key: key) -> Any:
    """Apply a function to the leaves of nested mappings and sequences, and ``key`` to keys; return dicts and lists."""
    if isinstance(state, Mapping):
        return {key(name): map_leaves(value, function, key) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [map_leaves(value, function, key) for value in state]
    return function(state)
