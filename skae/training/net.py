"""The training of a network: a skorch net whose batches are cut from datasets in memory or in files.

Only this folder of skae imports skorch. It handles torch modules and tensors, not estimators or units of X.
"""

from __future__ import annotations

import copy
import math
import time
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from skorch import NeuralNet
from skorch.utils import is_dataset

from skae._torch import evaluation_batch_size, known_complete, to_arrays, to_tensors
from skae.data.datasets import InMemorySamples
from skae.training import callbacks
from skae.training.batches import Batches
from skae.training.distributed import SINGLE_PROCESS, Generators
from skae.training.optim import build_optimizer, one_cycle


class Net(NeuralNet):
    """A skorch net for datasets whose batches are slices.

    It is faster than `skorch.NeuralNet`: batches are slices, losses stay on the device until the epoch ends, and
    per-batch events fire only if there are callbacks. ``history`` has ``train_loss``, ``valid_loss`` and ``dur`` of
    each epoch. If weights are averaged and no callback reads losses, only every third epoch is validated, and the
    others repeat the last ``valid_loss``. The module is kept in float64, so that a closed-form start stays exact, and
    is trained in float32.

    Parameters
    ----------
    module : nn.Module
        In float64, at its start. Its attribute ``n_refinements`` is the number of refinement steps in eval mode.
    criterion : nn.Module
        (module output, target, and weights if samples have these) -> scalar. Its method ``reconstruction_error``, if
        it has one, takes and returns the same: a share of the variance, which `BestWeights` limits.
    width : int
        Values per sample, times draws, times copies that refinements hold. It determines the batch size of evaluations.
    alpha : float
        L2 penalty on the weights of the nonlinear path.
    relative : bool
        Whether gradients are those of the loss divided by its value at the start, for losses that have a unit.
    averaged : bool
        Whether a running average of the weights, from the start on, is validated and kept.
    clipped : bool
        Whether gradients whose norm is above four times its running mean are clipped to that (Pascanu, Mikolov and
        Bengio 2013, arXiv:1211.5063), for networks with occasional very large gradients.
    progress : str or None
        Title of a progress bar on stderr.
    uses_globals : bool
        Whether the module draws from torch's global generators, which the caller then seeds.
    draws : Tensor of shape (n_draws, 1, n_components) or None
        Noise of all evaluations, for a module that samples codes; training uses one new draw for each sample.
    **kwargs
        Parameters of `skorch.NeuralNet`.

    Attributes
    ----------
    outcome_ : "untrained", "budget", "patience", "callback", "interrupted" or "diverged"
        Why training ended: epochs used up, no improvement, a callback, Ctrl-C, or divergence: a loss that is not
        finite, or far above that of the start.
    returns_ : int
        How often training diverged and returned to the best weights, with a smaller learning rate.
    gradient_scale_ : float
        Factor on the loss when gradients are computed.
    """

    processes = SINGLE_PROCESS  # set by a caller that trains with several processes
    _default_callbacks = []
    prefixes_ = [*NeuralNet.prefixes_, "optimizer"]  # known to skorch, but only built for training

    def __init__(
        self, module, criterion, *, width, alpha, relative, averaged, clipped, progress, uses_globals, draws, **kwargs
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
            iterator_train__reuse_memory=not kwargs.get("callbacks"),  # a callback may keep a batch
            iterator_valid=Batches,
            iterator_valid__batch_size=evaluation_batch_size(width),
            train_split=None,
            verbose=int(progress is not None),  # as callbacks read it
            **kwargs,
        )

    # Methods that estimators call.

    def train(self, samples, validation, epochs, best, checkpoint=None):
        """Train on a one-cycle schedule and restore the best weights.

        Parameters
        ----------
        samples : Samples
        validation : Samples or None
            None keeps the last weights, unless training diverged.
        epochs : int
        best : BestWeights
            Gets the weights of the start, then of every epoch.
        checkpoint : Checkpoint or None, default=None
            Checkpoint to resume from and to save to.
        """
        samples, validation = self._agree(samples, validation)
        held_out = callbacks.Validation(self, samples, validation)
        start = callbacks.weights_of(self.module_)
        with _in_float32(self, start):
            # The loss of a random start without a validation set is not needed, and it costs a pass.
            is_needed = validation is not None or self.averaged or not epochs
            loss, error = self._start_loss(samples, validation) if is_needed else (math.inf, math.inf)
            best.begin(loss, start, math.inf if validation is None else error)
            self._set_gradient_scale(best.start_loss)
            if epochs and _is_trainable(self.module_):
                self._build_optimizer()
                if not callbacks.schedulers(self):
                    self.schedule_ = one_cycle(self.optimizer_, self.lr, epochs * len(self._training_batches(samples)))
                checkpointing = callbacks.Checkpointing(self, best, checkpoint, held_out.losses)
                if not checkpointing.has_ended():
                    self.partial_fit(samples, epochs=epochs, validation=held_out, checkpointing=checkpointing)
                    checkpointing.end()
            best_is_kept = validation is not None or self.outcome_ in ("diverged", "untrained")
            if math.isinf(best.loss):  # no epoch ended in a finite loss
                if best_is_kept:
                    self.module_.load_state_dict(start)
                best.begin(self._start_loss(samples, validation)[0], start)
            held_out.choose_refinement(best)
        if best_is_kept:
            self.module_.load_state_dict(best.weights)
        held_out.scale_steps()
        self.optimizer_ = self.schedule_ = None

    def train_once(self, samples):
        """Make one pass at a constant learning rate; the optimiser keeps its state from the last pass."""
        samples, _ = self._agree(samples, None)
        before = callbacks.weights_of(self.module_)
        if not _is_trainable(self.module_):
            return
        with _in_float32(self, before):
            if self.optimizer_ is None:
                if self.relative:
                    self._set_gradient_scale(self._start_loss(samples, None)[0])
                self._build_optimizer()
            self.optimizer_.join()
            for group in self.optimizer_.param_groups:
                group["lr"] = self.lr
            best = callbacks.BestWeights(patience=1, tol=0.0)
            best.begin(math.inf, before)
            no_validation, checkpointing = callbacks.Validation(self, samples), callbacks.Checkpointing(self, best)
            self.partial_fit(samples, epochs=1, validation=no_validation, checkpointing=checkpointing)
            no_validation.scale_steps()
        if self.outcome_ == "diverged":
            self.module_.load_state_dict(before)
            self.optimizer_ = None  # its averages are not finite

    def inference_module(self, dtype):
        """Return the module in eval mode, with weights of this dtype."""
        if dtype not in self._casts:
            module = copy.deepcopy(self.module_).to(dtype).requires_grad_(False).eval()
            module.prepare()  # before other threads can see it
            self._casts.setdefault(dtype, module)
        return self._casts[dtype]

    def get_state(self):
        """Return weights, optimiser and history as arrays and plain Python."""
        return {
            "weights": to_arrays(self.module_.state_dict()),
            "optimizer": None if self.optimizer_ is None else to_arrays(self.optimizer_.state_dict()),
            "gradient_scale": self.gradient_scale_,
            "history": self.history.to_list(),
        }

    def set_state(self, state):
        """Restore the output of `get_state` of a net with the same module."""
        self.module_.load_state_dict(to_tensors(state["weights"]))
        self.gradient_scale_ = state["gradient_scale"]
        if (averages := to_tensors(state["optimizer"])) is not None:
            self.module_.float()  # the dtype of the optimiser's averages
            self._build_optimizer()
            del averages["param_groups"]  # keep the settings that it was just built with
            self.optimizer_.load_state_dict(self.optimizer_.state_dict() | averages)
            self.module_.double()
        self.history_.extend(state["history"])
        return self

    # skorch's hooks.

    def initialize(self):
        self._casts, self.schedule_, self.generator_ = {}, None, self.iterator_train__generator
        self.outcome_, self.returns_, self.gradient_scale_ = "untrained", 0, 1.0
        super().initialize()
        self.module_.double().eval()
        return self

    def initialize_optimizer(self, triggered_directly=None):
        """Leave the optimiser to `train`: importing torch's optimisers takes time."""
        self.optimizer_ = None
        return self

    def notify(self, method_name, **cb_kwargs):
        """Notify the callbacks; one of them may end training by a KeyboardInterrupt."""
        try:
            with known_complete(False):  # they may compute with other samples
                super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            self.outcome_ = "callback"
            self.processes.stop()
        except Exception as error:
            callbacks.explain(error, self.history)
            raise

    def fit_loop(self, X, y=None, epochs=None, *, validation, checkpointing, **fit_params):
        """Train on the samples X until the budget of epochs or the patience is exhausted."""
        is_averaged = self.averaged and validation.samples is not None
        values = self.optimizer_.values
        average = callbacks.WeightAverage(values if is_averaged else values[:0], epochs)
        batches, best, self.outcome_ = self._training_batches(X), checkpointing.best, "interrupted"
        n_done = checkpointing.begin(average, epochs, len(batches))
        with self.processes.stopping_together(self), callbacks.progress_bar(self, epochs, best, n_done) as tick:
            for epoch in range(n_done, epochs):
                best.wait()
                has_diverged = self._train_epoch(batches, validation, best, average, average.is_due(epoch) or best.over)
                tick()
                if has_diverged and (epoch + 1 == epochs or not best.go_back(self, average)):
                    self.outcome_ = "diverged"
                    return self
                if not has_diverged and best.over:
                    self.outcome_ = "patience"
                    return self
                checkpointing.end_epoch()
        self.outcome_ = "budget"
        return self

    def _train_epoch(self, batches, validation, best, average, is_due):
        """Train on all samples once and, if it is due, validate; return whether training has diverged."""
        datasets = {"dataset_train": batches.samples, "dataset_valid": validation.samples}
        self.generators_.part_ways()
        self.notify("on_epoch_begin", **datasets)
        began, validates = time.perf_counter(), is_due or callbacks.are_watching(self)
        self.run_single_epoch(batches, True, "train", self.train_step)
        self.processes.average_buffers(self.module_)
        average.update()
        with average.in_place() if validates else nullcontext():
            error = validation.run() if validates else validation.repeat_loss()
            loss = self.history[-1, validation.losses[-1]]
            losses = [self.history[-1, "train_loss"], *[loss] * is_due]  # a repeated loss is not of these weights
            is_finite = bool(self.optimizer_.values.sum().isfinite())  # one synchronisation with the device
            has_diverged = not is_finite or any(map(best.has_diverged, losses))
            callbacks.record_bests(self.history)
            self.history.record("dur", time.perf_counter() - began)
            if is_due and not has_diverged:
                best.offer(loss, self.module_, error)
            self.notify("on_epoch_end", **datasets)
            self.processes.sums()  # a process may have requested a stop
        return has_diverged

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Make one pass over the batches; record the mean loss of samples as ``<prefix>_loss``, return their error."""
        if iterator is None:
            return 0.0
        self._set_training(training)
        total, errors, is_watched = 0.0, 0.0, callbacks.are_watching(self)
        with known_complete(iterator.samples.is_complete):
            for batch in iterator:
                if is_watched:
                    self.notify("on_batch_begin", batch=batch[:2], training=training)
                step = step_fn(batch)
                total = total + step["loss"] * len(batch[0])
                errors = errors + step["error"] * len(batch[0])
                if is_watched:
                    self.history.record_batch(prefix + "_loss", step["loss"].item())
                    self.history.record_batch(prefix + "_batch_size", len(batch[0]))
                    self.notify("on_batch_end", batch=batch[:2], training=training, **step)
        self.history.record(prefix + "_batch_count", len(iterator))
        loss, error = self._means(total, errors, len(iterator.samples))
        self.history.record(prefix + "_loss", loss)
        return error

    def train_step(self, batch, **fit_params):
        self.optimizer_.zero_grad()
        loss, output = self._loss(*batch, training=True)
        (loss if self.gradient_scale_ == 1 else loss * self.gradient_scale_).backward()
        self.processes.average_gradients(self.module_, len(batch[0]))
        if self.clipped:
            self.optimizer_.clip_gradients()
        if callbacks.are_watching(self):
            parameters = list(self.get_all_learnable_params())
            self.notify("on_grad_computed", named_parameters=parameters, batch=batch[:2], training=True)
        self.optimizer_.step()
        if self.schedule_ is not None:
            self.schedule_.step()
        return {"loss": loss.detach(), "y_pred": _tensors_of(output), "error": 0.0}

    def validation_step(self, batch, **fit_params):
        with torch.no_grad():
            loss, output = self._loss(*batch)
            error = getattr(self.criterion_, "reconstruction_error", _no_error)(output, *batch[1:])
        return {"loss": loss, "y_pred": _tensors_of(output), "error": error}

    def get_dataset(self, X, y=None):
        """Return samples as a dataset, for skorch's ``forward`` and ``predict`` and callbacks that use them."""
        if is_dataset(X):
            return X
        inputs = torch.as_tensor(np.asarray(X), dtype=torch.float32, device=self.device)
        return InMemorySamples(inputs, inputs)

    def evaluation_step(self, batch, training=False):
        self._set_training(training)
        x = batch[0].to(next(self.module_.parameters()).dtype)
        with torch.set_grad_enabled(training):
            return _tensors_of(self._output(x, training))

    def predict_proba(self, X):
        """Return reconstructions, which skorch's `EpochScoring` compares with the targets: (n, n_features)."""
        return np.concatenate([self.module_.reconstructions(part).numpy(force=True) for part in self.forward_iter(X)])

    # Helpers.

    def _loss(self, x, target, *weights, training=False):
        """Return the loss of a batch, and the module's output."""
        output = self._output(x, training)
        return self.criterion_(output, target, *weights), output

    def _output(self, x, training):
        """Return the module's output: with new draws in training, else with the draws of all evaluations."""
        if self.draws is None:
            return self.module_(x)
        if not training:
            return self.module_(x, self.draws.to(x.dtype))
        shape = (1, len(x), self.draws.shape[-1])
        return self.module_(x, torch.randn(shape, generator=self.generator_, device=x.device, dtype=x.dtype))

    def _agree(self, samples, validation):
        """Give all processes the same weights; return this process's share of the samples."""
        if len(samples) < self.processes.size:
            raise ValueError(f"{len(samples)} samples are too few for {self.processes.size} processes. Start fewer.")
        self.processes.copy_first(self.module_)
        self.generators_ = Generators(self.iterator_train__generator, self.device, self.processes, self.uses_globals)
        self.generator_ = self.generators_.own
        share = self.processes.rank, self.processes.size
        return samples.share(*share), None if validation is None else validation.share(*share)

    def _build_optimizer(self):
        options = self.get_params_for("optimizer")
        self.optimizer_ = build_optimizer(self.module_, self.lr, self.alpha * self.gradient_scale_, **options)

    def _set_gradient_scale(self, start_loss):
        """Scale gradients by the loss of the start, since Adam's epsilon has a unit.

        Samples have unit spread. A start's loss below the rounding of float32 is raised to it, since the squares of
        gradients would overflow otherwise.
        """
        if self.relative and 0 < start_loss < math.inf:
            self.gradient_scale_ = 1 / max(start_loss, torch.finfo(torch.float32).eps ** 2)

    def _start_loss(self, samples, validation):
        """Return loss and error before the first step: of the validation set, or of training samples, unrefined."""
        self._set_training(False)
        if validation is not None:
            return self.evaluate(self.get_iterator(validation))
        is_noisy = self.iterator_train__noise is not None
        with _unrefined(self):
            return self.evaluate(self._training_batches(samples) if is_noisy else self.get_iterator(samples))

    def evaluate(self, batches):
        """Return the mean loss and the mean reconstruction error of the samples."""
        total, errors = 0.0, 0.0
        with known_complete(batches.samples.is_complete):
            for batch in batches:
                step = self.validation_step(batch)
                total += step["loss"].item() * len(batch[0])
                errors += step["error"].item() * len(batch[0])
        return self._means(total, errors, len(batches.samples))

    def _training_batches(self, samples):
        """Return batches of this process's samples, the same number as in all processes."""
        batches = self.get_iterator(samples, training=True)
        batches.generator = self.generator_
        batches.n_batches = self.processes.n_batches(len(samples), batches.batch_size)
        return batches

    def _means(self, total, errors, n_samples):
        """Return means over the samples of all processes; the arguments are sums over those of this process."""
        total, errors, n_samples = self.processes.sums(total, errors, n_samples)
        return float(total) / n_samples, float(errors) / n_samples


def snapshot(net):
    """Return a net for inference with a copy of the current weights."""
    other = copy.copy(net)
    other.module_, other._casts = copy.deepcopy(net.module_).double().eval(), {}
    return other


@contextmanager
def _in_float32(net, weights):
    """Convert the net's module to float32 inside the block, then to float64; after an error restore these weights."""
    net.module_.float()
    try:
        with torch.enable_grad():
            yield
    except BaseException:
        net.module_.double().load_state_dict(weights)
        raise
    finally:
        net.module_.double().eval()
        net._casts = {}


@contextmanager
def _unrefined(net):
    """Evaluate a net without steps of refinement and with one antithetic pair of draws inside the block.

    This is exact enough for a linear model.
    """
    refinements, draws = net.module_.n_refinements, net.draws
    net.module_.n_refinements = 0
    net.draws = None if draws is None else draws[:: len(draws) // 2]
    try:
        yield
    finally:
        net.module_.n_refinements, net.draws = refinements, draws


def _is_trainable(module):
    return any(p.requires_grad for p in module.parameters())


def _no_error(output, target, weights=None):
    return torch.zeros(())


def _tensors_of(output):
    """Return the tensors of a module's output as a flat tuple, as skorch's callbacks expect."""
    if output is None:
        return ()
    return (output,) if torch.is_tensor(output) else tuple(t for part in output for t in _tensors_of(part))
