"""Processes of a launcher that train one network together, each on its share of the samples.

Accelerate reports the processes and the device of each. Its data loaders and wrapped modules are not used, since
batches are slices of tensors here.
"""

import math
import os
import signal
import threading
from contextlib import contextmanager

import torch
from joblib.parallel import get_active_backend
from torch import distributed

from skae._torch import resolve_device

# Number of steps between checks whether a process wants to stop; a check also ends every pass over the samples.
_LISTENED_AFTER = 32


class SingleProcess:
    """A single process."""

    rank, size = 0, 1

    def sums(self, *numbers):
        """Return each number, summed over the processes."""
        return numbers

    def of_first(self, function):
        """Call the function in the first process only, and return its result, or raise its error, in all processes."""
        return function()

    def all(self, value):
        """Return the values of all processes, in their order."""
        return [value]

    def copy_first(self, module):
        """Set parameters and buffers of all processes to those of the first."""

    def average_gradients(self, module, n_samples):
        """Set gradients to their mean over the processes, weighted by the samples that each has."""

    def average_buffers(self, module):
        """Set buffers, such as the statistics of batch normalisation, to their mean over the processes."""

    def n_batches(self, n_samples, batch_size):
        """Return the number of batches of an epoch, the same in all processes, from this process's n_samples."""
        (n_all,) = self.sums(n_samples)
        return max(1, min(math.ceil(n_all / batch_size), int(n_all) // self.size))

    def stop(self):
        """End training in all processes, for a callback."""
        raise KeyboardInterrupt

    @contextmanager
    def stopping_together(self, net):
        """Make Ctrl-C or a callback in one process end training in all processes after the same step."""
        yield


class _Stopped(KeyboardInterrupt):
    """Raised to end training in all processes."""


class Processes(SingleProcess):
    """The processes of torch's process group.

    Parameters
    ----------
    device : torch.device
        Of this process.
    """

    def __init__(self, device):
        self.device = device
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._asked = [0.0, 0.0]  # whether to stop, by a signal and by a callback
        self._n_averaged = 0

    def sums(self, *numbers):
        total = torch.tensor([*map(float, numbers), *self._asked], dtype=torch.float64, device=self.device)
        _together(distributed.all_reduce, total)
        *sums, by_signal, by_callback = total.tolist()
        if by_signal or by_callback:
            self._asked = [0.0, 0.0]
            raise _Stopped("callback" if by_callback else "interrupted")
        return sums

    def of_first(self, function):
        result = [None, None]
        if self.rank == 0:
            try:
                found = function()
                # By the cpu: a process unpickles tensors on the device of the process that sent them.
                result[0] = found.cpu() if torch.is_tensor(found) else found
            except Exception as error:  # the others would wait for it
                result[1] = error
        _together(distributed.broadcast_object_list, result, device=self.device)
        if result[1] is not None:
            raise result[1]
        return result[0]

    def all(self, value):
        found = [None] * self.size
        _together(distributed.all_gather_object, found, value)
        return found

    def copy_first(self, module):
        for tensor in (*module.parameters(), *module.buffers()):
            values = tensor.detach().clone(memory_format=torch.contiguous_format)
            _together(distributed.broadcast, values, 0)
            tensor.detach().copy_(values)

    def average_gradients(self, module, n_samples):
        self._average([p.grad for p in module.parameters() if p.grad is not None], n_samples)

    def average_buffers(self, module):
        # Training does not change buffers in float64, which are exact.
        if buffers := [buffer for buffer in module.buffers() if buffer.dtype != torch.float64]:
            means = [buffer.double() for buffer in buffers]  # the mean of equal float32 values is exact in float64
            self._average(means)
            for buffer, mean in zip(buffers, means, strict=True):
                buffer.copy_(mean)

    def _average(self, tensors, n_samples=1):
        flat = torch.cat([*(tensor.flatten() for tensor in tensors), tensors[0].new_ones(1)]) * n_samples
        _together(distributed.all_reduce, flat)
        means = (flat[:-1] / flat[-1]).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))
        self._n_averaged += 1
        if self._n_averaged % _LISTENED_AFTER == 0:
            self.sums()

    def stop(self):
        """Request a stop: all processes stop at their next sum, which is the same step for all."""
        self._asked[1] = 1.0

    @contextmanager
    def stopping_together(self, net):
        def ask(*_):
            self._asked[0] = 1.0

        is_main = threading.current_thread() is threading.main_thread()  # only this one gets signals
        before = signal.signal(signal.SIGINT, ask) if is_main else None
        try:
            yield
        except _Stopped as stopped:
            net.outcome_ = str(stopped)
            raise
        finally:
            if is_main:
                signal.signal(signal.SIGINT, before)
            self._asked = [0.0, 0.0]


class Generators:
    """The random generators that training draws from.

    Parameters
    ----------
    common : torch.Generator
        Has the same state in all processes.
    device : torch.device
    processes : SingleProcess or Processes
    uses_globals : bool
        Whether the module draws from torch's global generators.

    Attributes
    ----------
    own : torch.Generator
        Source of the order of samples and of noise, different in each process; ``common`` if there is one process.
    """

    def __init__(self, common, device, processes, uses_globals):
        self.common, self.processes = common, processes
        self.own = common if processes.size == 1 else torch.Generator(common.device)
        self._globals = [torch.default_generator] if uses_globals else []
        if uses_globals and (device := torch.device(device)).type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self._globals.append(torch.cuda.default_generators[index])
        self.part_ways()

    def part_ways(self):
        """Seed the generators of each process from the common one: before training and at every epoch."""
        if self.processes.size == 1:
            return
        seed = torch.randint(2**31 - 1, (), generator=self.common, device=self.common.device).item()
        for generator in (self.own, *self._globals):
            generator.manual_seed(seed + self.processes.rank)

    def state_dict(self):
        return [generator.get_state() for generator in (self.common, *self._globals)]

    def load_state_dict(self, states):
        for generator, state in zip((self.common, *self._globals), states, strict=True):
            generator.set_state(state)

    def check(self, states):
        """Raise RuntimeError if one of these arrays is no state of a generator."""
        for generator, state in zip((self.common, *self._globals), states, strict=True):
            torch.Generator(generator.device).set_state(torch.from_numpy(state))


def _together(collective, *args, **kwargs):
    """Call a collective operation of torch; explain its error if another process does not respond."""
    try:
        collective(*args, **kwargs)
    except RuntimeError as error:
        raise RuntimeError(
            "Another process of this fit has ended, failed, or not responded within the timeout of the process group: "
            "see its output. Restart all processes; with checkpoint='folder' the fit resumes. "
            f"({str(error).splitlines()[0]})"
        ) from error


SINGLE_PROCESS = SingleProcess()


def join_processes(device):
    """Return the processes that share a fit: those of a launcher if the device is "accelerate", else this one.

    Raises
    ------
    ImportError
        If Accelerate is not installed.
    ValueError
        If Accelerate found one process although the launcher started several, or if fits run in parallel.
    """
    if not is_shared(device):
        return SINGLE_PROCESS
    state, n_launched = _state()
    if state.num_processes == 1 < n_launched:
        raise ValueError(
            f"WORLD_SIZE={n_launched} is the number of processes, but Accelerate was set up for this process alone, "
            "before the fit. Without GPUs create Accelerator(cpu=True), or let fit set it up."
        )
    return SINGLE_PROCESS if state.num_processes == 1 else Processes(state.device)


def is_shared(device):
    """Return whether Accelerate chooses the device."""
    return device == "accelerate"


def device_for(device):
    """Return the torch device that ``device`` names: "accelerate" is the one that Accelerate assigns to this process.

    Raises
    ------
    ValueError
        If there is no such device on this machine.
    ImportError
        If ``device`` is "accelerate" and Accelerate is not installed.
    """
    return torch.device(_state()[0].device) if is_shared(device) else resolve_device(device)


def _state():
    """Return Accelerate's state, and the number of processes that the launcher started."""
    n_launched = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ImportError("device='accelerate' needs accelerate: pip install accelerate, or use 'auto'.") from error
    if n_launched > 1 and get_active_backend()[0].nesting_level:
        raise ValueError(
            f"Parallel fits cannot all be shared by the {n_launched} processes, which would wait for each other in "
            "different fits. Search with n_jobs=1, or use device='auto'."
        )
    # Without a GPU Accelerate finds the processes only with cpu=True.
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=on_cpu or not torch.cuda.is_available()), n_launched
