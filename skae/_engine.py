"""The training engine: a skorch net that slices its batches off tensors in memory.

The only module that imports skorch. It knows torch modules and tensors, no estimator and no unit.
"""

from __future__ import annotations

import copy
import math
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager
from functools import cached_property
from inspect import unwrap

import numpy as np
import torch
from joblib.parallel import get_active_backend
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import Subset, TensorDataset

from skae import _state as stored
from skae._distributed import ALONE, Stopped, is_shared, own_device
from skae.nn import complete, has_gaps, split_parameters

# Numbers of the rows, and rows, that an evaluation takes at once: bounds memory, and stays in the cache.
_EVALUATED_NUMBERS = 2**20
_EVALUATED_ROWS = 4096
# Epochs that the running average that held-out rows judge looks back over, and the most of these in a budget.
_LOOK_BACK = 10 / 3
_SHARE_OF_EPOCHS = 1 / 6
# How often training that diverged goes back to the best weights, and what part of the step it then takes.
_RETURNS = 3
_SMALLER = 1 / 10
# Where gradients are clipped, the largest norm over its running mean, and how far one step moves that mean.
_LARGEST_NORM, _NORM_SHARE = 4, 1 / 20
# Held by whoever has the global generators seeded: two fits in two threads wait for each other.
_GLOBAL_GENERATORS = threading.RLock()


def resolve_device(device):
    """The torch device that ``device`` names: "auto" is cuda where there is one, else the cpu.

    "accelerate" is the one that Accelerate gives this process.

    Raises
    ------
    ValueError
        If there is no such device on this machine.
    ImportError
        If it is left to Accelerate, which is not installed.
    """
    if is_shared(device):
        return own_device()
    if isinstance(device, str) and device == "auto":
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


def evaluation_batch(width):
    """Rows of so many numbers that an evaluation takes at once."""
    return max(1, min(_EVALUATED_ROWS, _EVALUATED_NUMBERS // width))


@contextmanager
def seeded_globals(seed, device):
    """Seed torch's global generators inside the block and put them back after it, for code that uses them."""
    # torch.manual_seed would seed every device there is, and only these are put back.
    with _GLOBAL_GENERATORS, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def torch_defaults():
    """Compute as torch does by default, whatever mode the caller is in.

    Gradients can be taken, nothing is cast, and what names no device is on the CPU.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        if torch.empty(0).device.type != "cpu":
            modes.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def no_gradients():
    """Compute as torch does by default, without gradients; let them be taken inside."""
    with torch_defaults(), torch.no_grad():
        yield


class Batches:
    """Batches cut from the tensors of a dataset, of sizes that differ by one row at most.

    Parameters
    ----------
    dataset : TensorDataset or Subset of one
        Inputs and targets; the two may be one tensor, which is then gathered once.
    batch_size : int
        The largest batch.
    generator : torch.Generator or None, default=None
        Source of a new order of rows each epoch; None keeps the order.
    noise : Tensor of shape (n_features,) or None, default=None
        Standard deviations of Gaussian noise added to the inputs, drawn from ``generator``.
    shared : bool, default=False
        Whether shuffled batches take the memory of the ones before, for a reader that is done with these: fresh
        memory for each costs about as much as the copy.
    """

    def __init__(self, dataset, batch_size, generator=None, noise=None, shared=False):
        self.dataset = dataset
        self.generator = generator
        self.noise = noise
        self.shared = shared
        self._memory = {}
        self.batch_size = batch_size
        self.n_batches = max(1, math.ceil(len(dataset) / batch_size))

    def __len__(self):
        return self.n_batches

    @cached_property
    def are_complete(self):
        """Whether rows are known to have no gaps, which costs a look at all of them."""
        dataset = self.dataset.dataset if isinstance(self.dataset, Subset) else self.dataset
        return not isinstance(dataset, RowsDataset) and not any(map(has_gaps, set(dataset.tensors)))

    def __iter__(self):
        if isinstance(self.dataset, StreamedDataset):
            yield from self._of_file()
            return
        subset = self.dataset.indices if isinstance(self.dataset, Subset) else None
        dataset = self.dataset if subset is None else self.dataset.dataset
        if isinstance(dataset, RowsDataset):
            yield from self._of_rows(dataset, subset)
            return
        inputs, targets = dataset.tensors
        if subset is None and self.generator is None:
            yield from zip(inputs.tensor_split(self.n_batches), targets.tensor_split(self.n_batches), strict=True)
            return
        order = subset
        if self.generator is not None:
            order = torch.randperm(len(self.dataset), generator=self.generator, device=inputs.device)
            order = order if subset is None else subset[order]
        yield from self._cut(inputs, targets, order.tensor_split(self.n_batches))

    def _cut(self, inputs, targets, batches):
        """Batches of tensors, given the indices of their rows."""
        for rows in batches:
            x = self._gather(inputs, rows, 0)
            target = x if targets is inputs else self._gather(targets, rows, 1)
            yield (x if self.noise is None else corrupt(x, self.noise, self.generator)), target

    def _of_rows(self, dataset, subset):
        """Batches of rows that no tensor holds."""
        order = torch.arange(len(self.dataset))
        if self.generator is not None:
            order = torch.randperm(len(order), generator=self.generator, device=self.generator.device)
        order = order.cpu() if subset is None else subset.cpu()[order.cpu()]
        for rows in order.tensor_split(self.n_batches):
            x, target = dataset[rows]
            yield (x if self.noise is None else corrupt(x, self.noise, self.generator)), target

    def _of_file(self):
        """Batches of rows in their order; or of rows that are read in blocks and shuffled, many at a time."""
        n_rows, n_batches = len(self.dataset), self.n_batches
        if self.generator is None:
            for i in range(n_batches):
                yield self.dataset[i * n_rows // n_batches : (i + 1) * n_rows // n_batches]
            return
        n_read, first, rest = 0, 0, None
        for slices in self.dataset.inputs.shuffled_blocks(lambda n: self._permutation(n).tolist()):
            inputs, targets = self.dataset.load(slices, rest)
            n_read += sum(part.stop - part.start for part in slices)
            last = ((n_read + 1) * n_batches - 1) // n_rows  # batches that end in what is read
            ends = [(i * n_rows) // n_batches - (first * n_rows) // n_batches for i in range(first + 1, last + 1)]
            *batches, left = self._permutation(len(inputs)).tensor_split(ends)
            yield from self._cut(inputs, targets, batches)
            first, rest = last, (inputs.index_select(0, left), targets.index_select(0, left))

    def _permutation(self, n):
        return torch.randperm(n, generator=self.generator, device=self.generator.device)

    def _gather(self, tensor, rows, slot):
        """Rows of a tensor; if batches share memory, in the place of the last ones."""
        if not self.shared:
            return tensor.index_select(0, rows)
        if slot not in self._memory:
            self._memory[slot] = tensor.new_empty((math.ceil(len(self.dataset) / self.n_batches), *tensor.shape[1:]))
        return torch.index_select(tensor, 0, rows, out=self._memory[slot][: len(rows)])


class RowsDataset(torch.utils.data.Dataset):
    """Inputs and targets that are made when they are asked for.

    Parameters
    ----------
    inputs, targets : array-like
        Indexed by arrays of ints, they give arrays.
    device : torch.device
    """

    def __init__(self, inputs, targets, device):
        self.inputs, self.targets, self.device = inputs, targets, device

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, rows):
        rows = rows.numpy(force=True) if isinstance(rows, torch.Tensor) else rows
        x = self._tensor(self.inputs[rows])
        return x, (x if self.targets is self.inputs else self._tensor(self.targets[rows]))

    def _tensor(self, rows):
        return torch.from_numpy(rows).to(self.device, torch.float32)


class StreamedDataset(RowsDataset):
    """Rows of a file, which are read in their order or in blocks."""

    def load(self, slices, rest=None):
        """Inputs and targets of these rows one after another, behind those that are left from before."""
        begin = 0 if rest is None else len(rest[0])
        n_rows = begin + sum(part.stop - part.start for part in slices)
        x = torch.empty((n_rows, self.inputs.shape[1]), dtype=torch.float32, device=self.device)
        target = x if self.targets is self.inputs else torch.empty_like(x)
        if rest is not None:
            x[:begin], target[:begin] = rest
        for part in slices:
            end = begin + part.stop - part.start
            x[begin:end] = self._tensor(self.inputs[part])
            if target is not x:
                target[begin:end] = self._tensor(self.targets[part])
            begin = end
        return x, target


def share_of(dataset, ranks):
    """The rows of a dataset that are this rank's: every so many-th, or of a file a part; all if there are too few."""
    n_rows, rank, size = len(dataset), ranks.rank, ranks.size
    if size == 1 or n_rows < size:
        return dataset
    if isinstance(dataset, StreamedDataset):
        part = slice(rank * n_rows // size, (rank + 1) * n_rows // size)
        inputs = dataset.inputs.part(part)
        targets = inputs if dataset.targets is dataset.inputs else dataset.targets.part(part)
        return StreamedDataset(inputs, targets, dataset.device)
    if isinstance(dataset, Subset):
        return Subset(dataset.dataset, dataset.indices[rank::size])
    device = dataset.device if isinstance(dataset, RowsDataset) else dataset.tensors[0].device
    return Subset(dataset, torch.arange(rank, n_rows, size, device=device))


def corrupt(x, noise, generator):
    """x plus Gaussian noise of the given standard deviation a column."""
    return x + noise * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def weights_of(module):
    """A copy of what the module has learnt and counted, for less time than it takes to copy a state_dict deeply."""
    return {
        name: value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for name, value in module.state_dict().items()
    }


class BestWeights:
    """The best weights so far, and for how many epochs nothing better came.

    Parameters
    ----------
    patience : int
        Epochs without an improvement of more than ``tol`` after which training is ``over``.
    tol : float
        Relative to the best loss.
    """

    def __init__(self, patience, tol):
        self.patience = patience
        self.tol = tol

    def begin(self, loss, weights):
        """Take the start as the best so far."""
        self.loss = self.start_loss = self._bar = loss if math.isfinite(loss) else math.inf
        self.weights = weights
        self._waited = 0

    def offer(self, loss, module):
        """Keep these weights if their loss is the lowest yet."""
        if loss < self.loss:
            self.loss = loss
            self.weights = weights_of(module)
        if loss < self._bar - self.tol * abs(self._bar) or math.isinf(self._bar):
            self._bar = loss
            self._waited = 0
        else:
            self._waited += 1

    def again(self):
        """The best weights, to go on from with the whole patience."""
        self._waited = 0
        return self.weights

    @property
    def over(self):
        return self._waited >= self.patience

    def get_state(self):
        """What `set_state` takes over."""
        return {name: value for name, value in vars(self).items() if name not in ("patience", "tol")}

    def set_state(self, state):
        vars(self).update(state)


class Adam(torch.optim.Adam):
    """torch's Adam, less the wrappers that turn torch's compiler off inside it.

    Nothing here is compiled, and the first call of such a wrapper imports the compiler: one to two seconds and 70 MB,
    more than a fit of a small table.

    Attributes
    ----------
    mean_norm : Tensor of shape () or None
        Running mean of the norm of all gradients together, from the first call of `clip_gradients` on.
    """

    mean_norm = None
    add_param_group = unwrap(torch.optim.Adam.add_param_group)
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))

    def state_dict(self):
        return unwrap(torch.optim.Adam.state_dict)(self) | {"mean_norm": self.mean_norm}

    def load_state_dict(self, state):
        unwrap(torch.optim.Adam.load_state_dict)(self, state)
        mean = state["mean_norm"]
        self.mean_norm = None if mean is None else mean.to(self.param_groups[0]["params"][0])

    def zero_grad(self, set_to_none=True):  # which is what it does
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def clip_gradients(self):
        """Clip gradients whose norm is far above its running mean; nothing here waits for the device."""
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        mean = norm if self.mean_norm is None else self.mean_norm
        mean = torch.where(mean > 0, mean, norm)  # after none at all, or one that was not finite
        clipped = norm.minimum(_LARGEST_NORM * mean)
        factor = torch.where(clipped < norm, clipped / norm, 1)
        for gradient in gradients:
            gradient.mul_(factor)
        self.mean_norm = mean.lerp(clipped, _NORM_SHARE)

    def forget(self):
        """Drop what earlier steps left."""
        self.state.clear()
        self.mean_norm = None


class Net(NeuralNet):
    """A skorch net for data in memory.

    It differs from `skorch.NeuralNet` in what costs time there: batches are slices, losses stay on the device until
    the epoch ends, and per-batch events fire only if there is a callback to hear them. ``history`` has
    ``train_loss``, ``valid_loss`` and ``dur`` of each epoch. The module rests in float64, so that a closed-form start
    stays exact, and trains in float32.

    Parameters
    ----------
    module : nn.Module
        In float64, at its start; its ``n_refinements`` says how many steps it takes in eval mode only.
    criterion : nn.Module
        (module output, target) -> scalar.
    width : int
        Numbers of a row, times draws, times copies that refinements hold: what decides how many rows an evaluation
        takes at once.
    alpha : float, default=0.0
        L2 penalty on the weights of the nonlinear part.
    relative : bool, default=False
        Whether gradients are those of the loss over its value at the start, for losses that have a unit.
    averaged : bool, default=False
        Whether held-out rows judge a running average of the weights, from the start on, and that is kept.
    clipped : bool, default=False
        Whether gradients whose norm is above four times its running mean are clipped to that (Pascanu, Mikolov and
        Bengio 2013, arXiv:1211.5063), for nets that now and then meet some that would throw them far.
    progress : str or None, default=None
        Title of a progress bar on stderr.
    uses_globals : bool, default=False
        Whether the module draws from torch's global generators, which the caller then seeds.
    draws : Tensor of shape (n_draws, 1, n_components) or None, default=None
        For a module that samples codes, called as ``module(x, noise)``: the noise of every evaluation. In training it
        is one fresh draw a row.
    **kwargs
        Parameters of `skorch.NeuralNet`.

    Attributes
    ----------
    outcome_ : "untrained", "budget", "patience", "callback", "interrupted" or "diverged"
        Why training ended: epochs used up, no improvement, a callback, Ctrl-C, a loss that is not finite.
    returns_ : int
        How often a loss that is not finite made training go back to the best weights, with a smaller step.
    """

    ranks = ALONE  # the processes that train this net: whoever trains it with others says so
    _default_callbacks = []
    prefixes_ = [*NeuralNet.prefixes_, "optimizer"]  # known to skorch, though built only when training asks

    def __init__(
        self,
        module,
        criterion,
        *,
        width,
        alpha=0.0,
        relative=False,
        averaged=False,
        clipped=False,
        progress=None,
        uses_globals=False,
        draws=None,
        **kwargs,
    ):
        self.width = width
        self.alpha = alpha
        self.relative = relative
        self.averaged = averaged
        self.clipped = clipped
        self.progress = progress
        self.uses_globals = uses_globals
        self.draws = draws
        super().__init__(
            module,
            criterion,
            iterator_train=Batches,
            iterator_train__shared=not kwargs.get("callbacks"),  # a callback may keep a batch
            iterator_valid=Batches,
            iterator_valid__batch_size=evaluation_batch(width),
            train_split=None,
            verbose=0,
            **kwargs,
        )

    # What estimators call.

    def train(self, rows, valid, epochs, best, checkpoint=None):
        """Train on a one-cycle schedule and end with the best weights.

        Parameters
        ----------
        rows, valid : datasets of tensors, or Subsets of one; valid may be None
            Without validation rows the last weights stay, unless training diverged.
        epochs : int
        best : BestWeights
            Offered the start first, then every epoch.
        checkpoint : Checkpoint or None, default=None
            What to go on from, and where to keep how far training came.
        """
        self.ranks.copy_first([*self.module_.parameters(), *self.module_.buffers()])
        start = weights_of(self.module_)
        rows, valid = self._shares(rows, valid)
        with self._in_float32(start):
            # Of a random start without held-out rows nobody asks the loss, and it costs a pass.
            asked = valid is not None or self.averaged or not epochs
            best.begin(self._start_loss(rows, valid) if asked else math.inf, start)
            self._set_gradient_scale(best.start_loss)
            if epochs and any(p.requires_grad for p in self.module_.parameters()):
                self._build_optimizer()
                n_steps = epochs * len(self._training_batches(rows))
                if not any(isinstance(callback, LRScheduler) for _, callback in self.callbacks_):
                    # A rise over 10 of 100 steps; torch cannot have one that ends after the first step.
                    rise = 0.1 if n_steps > 10 else 0.3
                    self.schedule_ = OneCycleLR(self.optimizer_, max_lr=self.lr, total_steps=n_steps, pct_start=rise)
                self._train_from(checkpoint, rows, valid=valid, epochs=epochs, best=best)
            best_is_kept = valid is not None or self.outcome_ in ("diverged", "untrained")
            if math.isinf(best.loss):  # no epoch ended in a finite loss
                if best_is_kept:
                    self.module_.load_state_dict(start)
                best.begin(self._start_loss(rows, valid), start)
        if best_is_kept:
            self.module_.load_state_dict(best.weights)
        self.optimizer_ = self.schedule_ = None

    def prepare_pass(self, seed, batch_size):
        """Seed the order of the rows, and the noise, of the next pass, and set its batches."""
        self.iterator_train__generator.manual_seed(seed)
        self.batch_size = batch_size

    def train_once(self, rows):
        """One pass over the rows at a constant learning rate; the optimiser goes on where the last pass left it."""
        self.ranks.copy_first([*self.module_.parameters(), *self.module_.buffers()])
        before = weights_of(self.module_)
        rows, _ = self._shares(rows, None)
        if not any(p.requires_grad for p in self.module_.parameters()):
            return
        with self._in_float32(before):
            if self.optimizer_ is None:
                if self.relative:
                    self._set_gradient_scale(self._start_loss(rows, None))
                self._build_optimizer()
            for group in self.optimizer_.param_groups:
                group["lr"] = self.lr
            self.partial_fit(rows, epochs=1)
        if self.outcome_ == "diverged":
            self.module_.load_state_dict(before)
            self.optimizer_ = None  # its averages are not finite

    def inference_module(self, dtype):
        """The module in eval mode, with weights of this dtype."""
        if dtype not in self._casts:
            self._casts[dtype] = copy.deepcopy(self.module_).to(dtype).requires_grad_(False)
        return self._casts[dtype].eval()

    def get_state(self):
        """Weights, optimiser and history as arrays and plain Python."""
        return {
            "weights": _to_arrays(self.module_.state_dict()),
            "optimizer": None if self.optimizer_ is None else _to_arrays(self.optimizer_.state_dict()),
            "gradient_scale": self._gradient_scale,
            "history": self.history.to_list(),
        }

    def set_state(self, state):
        """Take over what `get_state` gave, of a net of these weights."""
        self.module_.load_state_dict(_to_tensors(state["weights"]))
        self._gradient_scale = state["gradient_scale"]
        if (averages := _to_tensors(state["optimizer"])) is not None:
            self.module_.float()  # what the optimiser's averages are in
            self._build_optimizer()
            del averages["param_groups"]  # its rate and the like are as it was just built
            self.optimizer_.load_state_dict(self.optimizer_.state_dict() | averages)
            self.module_.double()
        for row in state["history"]:
            self.history_.append(row)
        return self

    # Steps of the above.

    def _train_from(self, checkpoint, rows, best, **loop):
        """Train from the start, or from where the checkpoint says that training came to."""
        if checkpoint is None:
            self.partial_fit(rows, best=best, **loop)
            return
        kept = checkpoint.take()
        if kept is not None:
            self.history_.extend(kept["history"])  # which callbacks look at when they begin
        if kept is not None and kept["outcome"]:
            self._take_up(kept, best)
            self.outcome_ = kept["outcome"]
            return
        self.partial_fit(rows, best=best, checkpoint=checkpoint, kept=kept, **loop)
        if self.outcome_ != "interrupted" and self.ranks.rank == 0:
            checkpoint.save(self._progress(best))

    def _progress(self, best, average=None):
        """All that training goes on from after an epoch, as arrays and plain Python."""
        return self.get_state() | {
            "outcome": None if self.outcome_ == "interrupted" else self.outcome_,
            "returns": self.returns_,
            "best": _to_arrays(best.get_state()),
            "average": _to_arrays(average),
            "schedules": [_numbers(schedule.state_dict()) for schedule in self._schedules()],
            "generators": [_to_arrays(generator.get_state()) for generator in self._generators()],
        }

    def _take_up(self, kept, best):
        """Take the weights of what `_progress` gave."""
        best.set_state(_to_tensors(kept["best"]))
        for weights in (best.weights, _to_tensors(kept["weights"])):
            try:
                self.module_.load_state_dict(weights)
            except RuntimeError as error:
                raise ValueError(
                    f"The checkpoint is of another net than the one that is built now ({error}). Bring back the "
                    "encoder and the decoder that it began with, or name another folder for a new fit."
                ) from error
            if kept["outcome"] != "diverged" and not self._weights_are_finite():
                raise ValueError("The checkpoint has weights that are not finite. Name another folder for a new fit.")
        self._gradient_scale = kept["gradient_scale"]
        self.returns_ = kept["returns"]

    def _go_on(self, kept, average):
        """Take what decides the next steps of what `_progress` gave."""
        optimizer = _to_tensors(kept["optimizer"])
        by_index = {int(index): moments for index, moments in optimizer["state"].items()}
        self.optimizer_.load_state_dict(optimizer | {"state": by_index})
        for schedule, numbers in zip(self._schedules(), kept["schedules"], strict=True):
            schedule.load_state_dict(numbers)
        for generator, state in zip(self._generators(), _to_tensors(kept["generators"]), strict=True):
            generator.set_state(state)
        for mean, seen in zip(average or (), _to_tensors(kept["average"]) or (), strict=True):
            mean.copy_(seen)

    def _schedules(self):
        """Torch's schedules of the rate: the one cycle, or those of callbacks."""
        own = [] if self.schedule_ is None else [self.schedule_]
        return own + [callback.lr_scheduler_ for _, callback in self.callbacks_ if isinstance(callback, LRScheduler)]

    def _generators(self):
        """Those that training draws from."""
        generators = [self.iterator_train__generator]
        if self.uses_globals:
            generators.append(torch.default_generator)
            if (device := torch.device(self.device)).type == "cuda":
                index = torch.cuda.current_device() if device.index is None else device.index
                generators.append(torch.cuda.default_generators[index])
        return generators

    def _go_back(self, best, average):
        """Train from the best weights on, with a smaller step and no memory of the steps that diverged."""
        self.returns_ += 1
        self.module_.load_state_dict(best.again())
        for mean, p in zip(average or (), self.module_.parameters(), strict=average is not None):
            mean.copy_(p.detach())
        self.optimizer_.forget()
        for group in self.optimizer_.param_groups:  # the last two are what a one-cycle schedule goes between
            for rate in {"lr", "initial_lr", "max_lr", "min_lr"} & group.keys():
                group[rate] *= _SMALLER

    def _output(self, x, training):
        """What the module makes of a batch."""
        if self.draws is None:
            return self.module_(x)
        if not training:
            return self.module_(x, self.draws.to(x.dtype))
        shape = (1, len(x), self.draws.shape[-1])
        noise = torch.randn(shape, generator=self._own_generator, device=x.device, dtype=x.dtype)
        return self.module_(x, noise)

    @contextmanager
    def _in_float32(self, weights):
        """Train in float32, rest in float64; these weights come back if anything is raised."""
        self.module_.float()
        try:
            with torch.enable_grad():
                yield
        except BaseException:
            self.module_.double().eval().load_state_dict(weights)
            raise
        finally:
            self._casts = {}
        self.module_.double().eval()

    def _build_optimizer(self):
        penalised, free = split_parameters(self.module_)
        if self.alpha:
            groups = [{"params": penalised, "weight_decay": self.alpha * self._gradient_scale}, {"params": free}]
        else:
            groups = [{"params": penalised + free}]  # one call a step
        self.optimizer_ = Adam([g for g in groups if g["params"]], lr=self.lr, fused=True)
        for group in self.optimizer_.param_groups:
            group["initial_lr"] = self.lr  # a scheduler that goes on in partial_fit asks for it

    def _set_gradient_scale(self, start_loss):
        """Let Adam, whose epsilon has a unit, see losses relative to the start's, if these are sizes.

        Rows have unit spread, and what a start leaves of them below float32's rounding is no size: over it, the squares
        of gradients would overflow.
        """
        if self.relative and 0 < start_loss < math.inf:
            self._gradient_scale = 1 / max(start_loss, torch.finfo(torch.float32).eps ** 2)

    def _start_loss(self, rows, valid):
        """The loss before the first step: that of held-out rows, or of training rows as training has it.

        The latter are unrefined, and of draws there are two, one the other mirrored: enough for a linear model.
        """
        shuffled = valid is None and self.iterator_train__noise is not None
        batches = self._training_batches(rows) if shuffled else self.get_iterator(rows if valid is None else valid)
        self._set_training(False)
        refinements, draws = self.module_.n_refinements, self.draws
        if valid is None:
            self.module_.n_refinements = 0
            self.draws = None if draws is None else draws[:: len(draws) // 2]
        try:
            with complete(batches.are_complete):
                total = sum(self.validation_step(b)["loss"].item() * len(b[0]) for b in batches)
            return self._mean(total, len(batches.dataset))
        finally:
            self.module_.n_refinements, self.draws = refinements, draws

    # What ranks do together; one alone agrees with itself.

    def _shares(self, rows, valid):
        """The rows of this rank; and a generator of its own, for an order and a noise that no other rank has.

        Each epoch it is seeded from the generator that all ranks have in the same state.
        """
        if len(rows) < self.ranks.size:
            raise ValueError(
                f"{len(rows)} rows cannot be shared by {self.ranks.size} processes. Start at most as many processes as "
                "there are rows."
            )
        if self.ranks.size > 1:
            self._own_generator = torch.Generator(self.iterator_train__generator.device)
            self._part_ways()
        return share_of(rows, self.ranks), None if valid is None else share_of(valid, self.ranks)

    def _part_ways(self):
        if self.ranks.size == 1:
            return
        common = self.iterator_train__generator
        seed = torch.randint(2**31 - 1, (), generator=common, device=common.device).item() + self.ranks.rank
        self._own_generator.manual_seed(seed)
        if self.uses_globals:
            for generator in self._generators()[1:]:
                generator.manual_seed(seed)

    def _training_batches(self, rows):
        """Batches of this rank's rows, as many as all ranks', of which each takes its share of every batch."""
        batches = self.get_iterator(rows, training=True)
        if self.ranks.size > 1:
            batches.generator = self._own_generator
            (n_rows,) = self.ranks.sums(len(rows))
            batches.n_batches = max(1, min(math.ceil(n_rows / batches.batch_size), int(n_rows) // self.ranks.size))
        return batches

    def _mean(self, total, n_rows):
        """Of what is summed over this rank's rows, the mean over those of all."""
        total, n_rows = self.ranks.sums(total, n_rows)
        return float(total) / n_rows

    def _average_gradients(self, n_rows):
        if self.ranks.size > 1:
            gradients = [p.grad for p in self.module_.parameters() if p.grad is not None]
            self.ranks.average(gradients, n_rows)

    def _average_buffers(self):
        """Let ranks agree on what their modules have counted, such as the statistics of batch normalisation."""
        if self.ranks.size > 1 and (buffers := list(self.module_.buffers())):
            means = [buffer.double() for buffer in buffers]  # in which those of equal numbers are exact
            self.ranks.average(means)
            for buffer, mean in zip(buffers, means, strict=True):
                buffer.copy_(mean)

    @contextmanager
    def _stopping_together(self):
        try:
            with self.ranks.stopping_together():
                yield
        except Stopped as stop:
            self.outcome_ = "callback" if stop.by_callback else "interrupted"
            raise

    @contextmanager
    def _in_place_of_weights(self, average, share):
        """Move the average this far towards the weights and put it in their place inside the block; None: leave them.

        At the rates of a one-cycle schedule weights wander around what they have learnt, and their average is nearer
        to it (Polyak and Juditsky 1992).
        """
        if average is None:
            yield
            return
        parameters = list(self.module_.parameters())
        newest = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for mean, p in zip(average, parameters, strict=True):
                p.copy_(mean.lerp_(p, share))
        try:
            yield
        finally:
            with torch.no_grad():
                for p, last in zip(parameters, newest, strict=True):
                    p.copy_(last)

    def _weights_are_finite(self):
        return bool(torch.stack([torch.isfinite(p).all() for p in self.module_.parameters()]).all())

    def _record_bests(self):
        """Whether this epoch's losses are the lowest yet, under the names that skorch's callbacks look for."""
        for name in ("train_loss", "valid_loss"):
            curve = [row[name] for row in self.history if name in row]
            if curve:
                finite = filter(math.isfinite, curve)
                self.history.record(name + "_best", curve[-1] <= min(finite, default=-math.inf))

    # skorch's hooks.

    def notify(self, method_name, **cb_kwargs):
        """Tell the callbacks; a KeyboardInterrupt out of one of them is its way to end training."""
        try:
            with complete(False):  # they may compute with other rows
                super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            self.outcome_ = "callback"
            self.ranks.stop()

    def initialize(self):
        self._casts = {}
        self.outcome_ = "untrained"
        self.returns_ = 0
        self.schedule_ = None
        self._gradient_scale = 1.0
        self._own_generator = self.iterator_train__generator
        return super().initialize()

    def initialize_module(self):
        super().initialize_module()
        self.module_.double().eval()
        return self

    def initialize_optimizer(self, triggered_directly=None):
        """Wait until training asks: a net that never trains should not pay for torch's optimisers."""
        self.optimizer_ = None
        return self

    def fit_loop(self, X, y=None, epochs=None, *, valid=None, best=None, checkpoint=None, kept=None, **fit_params):
        """Epochs over the dataset X until the budget or the patience is spent."""
        batches = self._training_batches(X)
        valid_batches = None if valid is None else self.get_iterator(valid, training=False)
        judged = "train_loss" if valid is None else "valid_loss"
        averaged = self.averaged and valid is not None
        average = [p.detach().clone() for p in self.module_.parameters()] if averaged else None
        newest = 1 / max(1, min(_LOOK_BACK, _SHARE_OF_EPOCHS * epochs))
        self.outcome_ = "interrupted"
        if kept is not None:  # now that callbacks have begun, whose schedules make a step of their own
            self._take_up(kept, best)
            self._go_on(kept, average)
        writes = checkpoint is not None and self.ranks.rank == 0
        if writes:
            checkpoint.save(self._progress(best, average), first=True)
        done = 0 if kept is None else len(self.history)
        title = self.progress if self.ranks.rank == 0 else None
        with self._stopping_together(), progress_bar(title, epochs, best, done) as tick:
            for epoch in range(done, epochs):
                self._part_ways()
                self.notify("on_epoch_begin", dataset_train=X, dataset_valid=valid)
                began = time.perf_counter()
                self.run_single_epoch(batches, True, "train", self.train_step)
                self._average_buffers()
                with self._in_place_of_weights(average, newest):
                    self.run_single_epoch(valid_batches, False, "valid", self.validation_step)
                    loss = self.history[-1, judged]
                    diverged = not (math.isfinite(loss) and self._weights_are_finite())
                    self._record_bests()
                    self.history.record("dur", time.perf_counter() - began)
                    if best is not None and not diverged:
                        best.offer(loss, self.module_)
                    self.notify("on_epoch_end", dataset_train=X, dataset_valid=valid)
                    self.ranks.sums()  # one of them may want to stop
                tick()
                if diverged and best is not None and self.returns_ < _RETURNS and epoch + 1 < epochs:
                    self._go_back(best, average)
                elif diverged or (best is not None and best.over):
                    self.outcome_ = "diverged" if diverged else "patience"
                    return self
                if writes and checkpoint.is_due():
                    checkpoint.save(self._progress(best, average))
        self.outcome_ = "budget"
        return self

    def get_dataset(self, X, y=None):
        """Rows as a dataset: what skorch's own ``forward`` and ``predict``, and callbacks that use them, ask for."""
        if isinstance(X, TensorDataset | RowsDataset | Subset):
            return X
        rows = torch.as_tensor(np.asarray(X), dtype=torch.float32, device=self.device)
        return TensorDataset(rows, rows)

    def evaluation_step(self, batch, training=False):
        self._set_training(training)
        with torch.set_grad_enabled(training):
            return _parts(self._output(batch[0].to(next(self.module_.parameters()).dtype), training))

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """One pass over the batches; their mean loss, weighted by rows, is recorded as ``<prefix>_loss``."""
        if iterator is None:
            return
        self._set_training(training)
        total = 0.0
        with complete(iterator.are_complete):
            for batch in iterator:
                if self.callbacks_:
                    self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch)
                total = total + step["loss"] * len(batch[0])
                if self.callbacks_:
                    self.history.record_batch(prefix + "_loss", step["loss"].item())
                    self.history.record_batch(prefix + "_batch_size", len(batch[0]))
                    self.notify("on_batch_end", batch=batch, training=training, **step)
        self.history.record(prefix + "_batch_count", len(iterator))
        self.history.record(prefix + "_loss", self._mean(total, len(iterator.dataset)))

    def train_step(self, batch, **fit_params):
        self.optimizer_.zero_grad(set_to_none=True)
        x, target = batch
        output = self._output(x, training=True)
        loss = self.criterion_(output, target)
        (loss if self._gradient_scale == 1 else loss * self._gradient_scale).backward()
        self._average_gradients(len(x))
        if self.clipped:
            self.optimizer_.clip_gradients()
        if self.callbacks_:
            self.notify(
                "on_grad_computed",
                named_parameters=list(self.get_all_learnable_params()),
                batch=batch,
                training=True,
            )
        self.optimizer_.step()
        if self.schedule_ is not None:
            self.schedule_.step()
        return {"loss": loss.detach(), "y_pred": _parts(output)}

    def validation_step(self, batch, **fit_params):
        x, target = batch
        with torch.no_grad():
            output = self._output(x, training=False)
            return {"loss": self.criterion_(output, target), "y_pred": _parts(output)}


def _parts(output):
    """What a module gives, less what it has not: skorch's callbacks know tensors only."""
    return tuple(part for part in output if part is not None)


def check_net_state(state, module):
    """Check what `Net.get_state` gave and a file kept, for the net of this module.

    Raises
    ------
    ValueError
        If names, shapes or dtypes are not this module's, or numbers are not finite.
    """
    if not isinstance(state, dict):
        raise stored.fault("net_", "is no dict")
    stored.check_weights(stored.get(state, "weights"), _to_arrays(module.state_dict()))
    stored.check_history(stored.get(state, "history"))
    stored.check_number(state, "gradient_scale", low=0)
    if stored.get(state, "optimizer") is not None:
        # In the order of the optimiser's groups, of which there may be one or two.
        penalised, free = split_parameters(module)
        stored.check_optimizer(state["optimizer"], [tuple(p.shape) for p in penalised + free])


@contextmanager
def progress_bar(title, epochs, best, done=0):
    """A bar on stderr that shows the best loss over the start's; yields the function that moves it.

    In a worker of joblib there is none: bars of fits side by side write over each other.
    """
    if title is None or get_active_backend()[0].nesting_level:
        yield lambda: None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets gets the terminal's bar, and need not be told
        from tqdm.auto import tqdm  # comes with skorch

    start = math.nan if best is None else best.start_loss
    with tqdm(total=epochs, initial=done, desc=title, unit="epoch") as bar:

        def tick():
            if best is not None and 0 < start < math.inf:
                bar.set_postfix_str(f"loss {best.loss / start:.3f} of the start's", refresh=False)
            bar.update()

        yield tick


def _numbers(state):
    """What changes of a schedule of torch; the rest its constructor sets."""
    return {name: value for name, value in state.items() if isinstance(value, int | float) or name == "_last_lr"}


def _to_arrays(state):
    """A state_dict with every tensor a NumPy array."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu().numpy().copy()
    if isinstance(state, dict):
        return {key: _to_arrays(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_to_arrays(value) for value in state]
    return state


def _to_tensors(state):
    """The inverse of `_to_arrays`."""
    if isinstance(state, np.ndarray | np.generic):
        return torch.as_tensor(np.array(state))
    if isinstance(state, dict):
        return {key: _to_tensors(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_to_tensors(value) for value in state]
    return state
