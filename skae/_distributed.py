"""Processes that train one net together, each on its share of the rows, as a launcher started them.

Accelerate says which processes there are and on which device each computes; sums over them are torch's. Nothing else of
Accelerate is used: its loaders and wrapped modules are for loops that have loaders, and ours cuts batches off tensors.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

import torch
from joblib.parallel import get_active_backend
from torch import distributed

# Steps after which ranks ask each other whether to stop, as they do at the end of every pass over rows.
_LISTENED_AFTER = 32


class Alone:
    """One process, which agrees with itself."""

    rank, size = 0, 1

    def sums(self, *numbers):
        """Each number, summed over the ranks."""
        return numbers

    def of_first(self, function):
        """What the function returns, or raises, on the first rank, which is the only one that calls it."""
        return function()

    def all(self, value):
        """What each rank gave, in their order."""
        return [value]

    def copy_first(self, tensors):
        """Put the first rank's values in all ranks' tensors."""

    def average(self, tensors, n_rows=1):
        """Put in these tensors their mean over the ranks, weighted by the rows that each has."""

    def stop(self):
        """End training on all ranks, for a callback."""
        raise KeyboardInterrupt

    @contextmanager
    def stopping_together(self):
        """Let a Ctrl-C end training in one place on all ranks."""
        yield


class Stopped(KeyboardInterrupt):
    """What ends training on all ranks; ``by_callback`` says whose wish it was."""

    def __init__(self, by_callback):
        super().__init__()
        self.by_callback = by_callback


class Ranks(Alone):
    """The processes of torch's process group.

    Parameters
    ----------
    device : torch.device
        Of this process.
    """

    def __init__(self, device):
        self.device = device
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._asked = [0.0, 0.0]  # to stop, by a signal and by a callback
        self._n_averaged = 0

    def sums(self, *numbers):
        total = torch.tensor([*map(float, numbers), *self._asked], dtype=torch.float64, device=self.device)
        with _in_touch():
            distributed.all_reduce(total)
        *sums, by_signal, by_callback = total.tolist()
        if by_signal or by_callback:
            self._asked = [0.0, 0.0]
            raise Stopped(bool(by_callback))
        return sums

    def of_first(self, function):
        result = [None, None]
        if self.rank == 0:
            try:
                result[0] = function()
            except Exception as error:  # which the others would wait for
                result[1] = error
        with _in_touch():
            distributed.broadcast_object_list(result, device=self.device)
        if result[1] is not None:
            raise result[1]
        return result[0]

    def all(self, value):
        found = [None] * self.size
        with _in_touch():
            distributed.all_gather_object(found, value)
        return found

    def copy_first(self, tensors):
        for tensor in tensors:
            values = tensor.detach().clone(memory_format=torch.contiguous_format)
            with _in_touch():
                distributed.broadcast(values, 0)
            with torch.no_grad():
                tensor.copy_(values)

    def average(self, tensors, n_rows=1):
        flat = torch.cat([*(tensor.flatten() for tensor in tensors), tensors[0].new_ones(1)]) * n_rows
        with _in_touch():
            distributed.all_reduce(flat)
        means = (flat[:-1] / flat[-1]).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))
        self._n_averaged += 1
        if self._n_averaged % _LISTENED_AFTER == 0:
            self.sums()

    def stop(self):
        """Ask for it: all ranks stop where they next add something up, which is the same place for all."""
        self._asked[1] = 1.0

    @contextmanager
    def stopping_together(self):
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(*_):
            self._asked[0] = 1.0

        before = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self._asked = [0.0, 0.0]


@contextmanager
def _in_touch():
    """Say what it means that another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "Another process of this fit has ended, failed, or given no answer for as long as the process group waits: "
            "its own output says why. Start all of them anew; with checkpoint='folder' the fit then goes on. "
            f"({str(error).splitlines()[0]})"
        ) from error


ALONE = Alone()


def joined(device):
    """The processes that share a fit on this device: those of a launcher, if the device is "accelerate".

    Raises
    ------
    ImportError
        If Accelerate is not installed.
    ValueError
        If it takes this process for the only one, and the launcher does not, or if fits run side by side.
    """
    if not is_shared(device):
        return ALONE
    state, n_launched = _state(), _n_launched()
    if state.num_processes == 1 < n_launched:
        raise ValueError(
            f"WORLD_SIZE={n_launched} says how many processes there are, but Accelerate was set up for this one alone, "
            "before the fit. Without GPUs make it Accelerator(cpu=True), or leave it to the fit."
        )
    return ALONE if state.num_processes == 1 else Ranks(state.device)


def _n_launched():
    """How many processes the launcher says there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_shared(device):
    """Whether the device is left to Accelerate."""
    return isinstance(device, str) and device == "accelerate"


def own_device():
    """The device of this process, as Accelerate gives them out.

    Raises
    ------
    ImportError
        If Accelerate is not installed.
    """
    return torch.device(_state().device)


def _state():
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ImportError(
            "device='accelerate' needs the package accelerate, which is not installed. Install skae[distributed], or "
            "use device='auto'."
        ) from error
    if (n_launched := _n_launched()) > 1 and get_active_backend()[0].nesting_level:
        raise ValueError(
            f"Fits side by side cannot each be shared by all {n_launched} processes, which would wait for each other "
            "in different places. Search with n_jobs=1, or use device='auto'."
        )
    # Without a GPU it would see no processes, unless told that these are on the CPU.
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=on_cpu or not torch.cuda.is_available())
