"""Parts of the training loop: early stopping, averaging of weights, checkpoints and the progress bar."""

import copy
import math
import re
import warnings
from contextlib import contextmanager
from inspect import signature

import torch
from joblib.parallel import get_active_backend
from sklearn.base import _clone_parametrized, clone
from skorch.callbacks import LRScheduler, ProgressBar

from skae._torch import evaluation_batch_size
from skae.data.parameters import callback_list, is_left_out, left_out
from skae.training.checks import check_kept, check_parts, layers_of

# Window of the running average of the weights in epochs, and its largest share of all epochs. The average moves little
# in an epoch, so that only every third one is validated, unless the window is shorter.
_LOOK_BACK, _SHARE_OF_EPOCHS, _INTERVAL = 10 / 3, 1 / 6, 3
# Largest increase of the reconstruction error over the start's, as a share of the variance.
_LARGER_ERROR = 0.01
# Increase of the loss from which on training has diverged, relative to that of the start or, if that is less, to 1:
# losses of scaled samples are of this order.
_FAR = 1e8
# Settings of the optimiser that torch's schedules leave there, and expect if they begin in the middle.
_OF_SCHEDULES = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}
# Training samples that scale the steps of the refinement where there is no validation set.
_SCALING = 128
# How often training returns to the best weights after it diverged, and the factor on the learning rate then.
_RETURNS, _SMALLER = 3, 1 / 10


class BestWeights:
    """The best weights so far, and the number of epochs since they improved.

    The best weights have the lowest loss. If the net's criterion has a reconstruction error, weights do not count whose
    error exceeds that of the start by more than a hundredth of the variance.

    Parameters
    ----------
    patience : int
        Number of epochs without an improvement of more than ``tol`` after which training is ``over``.
    tol : float
        Smallest improvement that counts, relative to the best loss.
    """

    def __init__(self, patience, tol):
        self.patience, self.tol = patience, tol

    def begin(self, loss, weights, error=math.inf):
        """Set the start as the best so far, with its loss and its reconstruction error on the validation set."""
        self.start_error = error
        self.loss = self.start_loss = self._bar = loss if math.isfinite(loss) else math.inf
        self.weights = weights
        self._waited = 0

    def offer(self, loss, module, error=0.0):
        """Keep the module's weights if their loss is the lowest so far, and their error is not too large."""
        if loss < self.loss and error <= self.start_error + _LARGER_ERROR:
            self.loss = loss
            self.weights = weights_of(module)
        if loss < self._bar - self.tol * abs(self._bar) or math.isinf(self._bar):
            self._bar, self._waited = loss, 0

    def wait(self):
        """Count an epoch."""
        self._waited += 1

    def has_diverged(self, loss):
        """Return whether a loss is not finite, or so far above that of the start that training cannot return."""
        return not math.isfinite(loss) or loss - self.start_loss > _FAR * max(1.0, abs(self.start_loss))

    def go_back(self, net, average):
        """Return a diverged net to the best weights, with a smaller learning rate; False if too often."""
        if net.returns_ == _RETURNS:
            return False
        net.returns_ += 1
        net.module_.load_state_dict(self.weights)
        net.optimizer_.restart(_SMALLER)
        average.restart()
        self._waited = 0
        return True

    @property
    def over(self):
        return self._waited >= self.patience


class WeightAverage:
    """The running average of parameters, which is validated instead of them.

    At the high learning rates of a one-cycle schedule, weights fluctuate around an optimum, and their average is nearer
    to it (Polyak and Juditsky 1992).

    Parameters
    ----------
    values : Tensor of shape (n_values,)
        Parameters at their start, which is the initial average; empty for no averaging.
    n_epochs : int
        Number of epochs of training; the window of the average grows with it, up to a limit.
    """

    def __init__(self, values, n_epochs):
        self.values = values
        window = max(1, min(_LOOK_BACK, _SHARE_OF_EPOCHS * n_epochs)) if len(values) else 1
        self.share, self._every, self._n_epochs = 1 / window, _INTERVAL if window >= _INTERVAL else 1, n_epochs
        self.restart()

    def is_due(self, epoch):
        """Return whether the average is validated after this epoch; the first one, 0, and the last one are."""
        return epoch % self._every == 0 or epoch == self._n_epochs - 1

    def restart(self):
        """Reset the average to the current parameters."""
        self.mean = self.values.clone()

    def update(self):
        """Move the average towards the current parameters."""
        self.mean.lerp_(self.values, self.share)

    @contextmanager
    def in_place(self):
        """Replace the parameters by their average inside the block."""
        newest = self.values.clone()
        self.values.copy_(self.mean)
        try:
            yield
        finally:
            self.values.copy_(newest)

    def state_dict(self):
        return self.mean

    def load_state_dict(self, mean):
        self.mean.copy_(mean)


class Validation:
    """The validation set of a training, and training samples that are the landmarks of its codes.

    All processes use the same landmarks.

    Parameters
    ----------
    net : Net
    training : Samples
        Training samples of this process.
    samples : Samples or None, default=None
        The validation set; None if there is none.

    Attributes
    ----------
    batches : Batches or None
        Of ``samples``.
    losses : list of str
        Names of the losses of an epoch; the last one is that of the choice of weights.
    """

    def __init__(self, net, training, samples=None):
        self.samples, self.batches = samples, None if samples is None else net.get_iterator(samples)
        self._net, self._training = net, training
        self.losses = ["train_loss"] if samples is None else ["train_loss", "valid_loss"]
        n_landmarks = 0 if samples is None else net.module_.n_landmarks
        self._landmarks = self._draw(n_landmarks) if n_landmarks else None

    def _draw(self, n):
        """Return the inputs of at most n training samples."""
        net, training = self._net, self._training
        generator = torch.Generator().manual_seed(net.iterator_train__generator.initial_seed())
        n = min(n, evaluation_batch_size(training.inputs.shape[1]))
        drawn = torch.randperm(len(training), generator=generator)[:n]
        return net.processes.of_first(lambda: training[drawn][0]).to(net.device)

    def run(self):
        """Validate the current weights, with landmarks that these encode; return the reconstruction error."""
        if self._landmarks is not None:
            self._net.module_.eval().begin_validation(self._landmarks)
        return self._net.run_single_epoch(self.batches, False, "valid", self._net.validation_step)

    def repeat_loss(self):
        """Record the last epoch's validation loss again, for an epoch that is not validated."""
        self._net.history.record("valid_loss", self._net.history[-2, "valid_loss"])

    def choose_refinement(self, best):
        """Choose how codes are refined, if training has lowered the loss; Ctrl-C keeps the default."""
        if self._landmarks is None:
            return
        module, net = self._net.module_.eval(), self._net
        if best.loss == best.start_loss:
            module.reset_refinement()
            return
        module.load_state_dict(best.weights)
        try:
            best.loss = module.choose_refinement(self._landmarks, lambda: net.evaluate(self.batches)[0], best.loss)
        except KeyboardInterrupt:  # Ctrl-C keeps the best weights here, too
            module.reset_refinement()

    def scale_steps(self):
        """Scale the steps of refinement for the trained weights, where there is no validation set that does."""
        module = self._net.module_.eval()
        if self.samples is None and module.n_landmarks and self._net.outcome_ != "untrained":
            x = self._draw(_SCALING).to(next(module.parameters()).dtype)
            with torch.no_grad():
                module.scale_steps(module.imputer(module.encoder, x))


class Checkpointing:
    """The state of training, saved to a folder before the first epoch, at epochs when it is due, and at the end.

    Parameters
    ----------
    net : Net
    best : BestWeights
    checkpoint : Checkpoint or None
        None saves nothing.
    losses : sequence of str
        Names of the losses of an epoch.

    Raises
    ------
    ValueError
        If the state in the folder is none that this training could have.
    """

    def __init__(self, net, best, checkpoint=None, losses=("train_loss",)):
        self.net, self.best = net, best
        self._kept = None if checkpoint is None else checkpoint.take()
        self._given = checkpoint
        self._checkpoint = checkpoint if net.processes.rank == 0 else None  # only the first process writes
        if self._kept is not None:
            with checkpoint.explained():
                check_kept(self._kept, net.module_, vars(best), losses)
            net.history_.extend(self._kept["history"])  # callbacks read it when training begins
            groups = (self._kept["optimizer"] or {"param_groups": ()})["param_groups"]
            for group, kept in zip(net.optimizer_.param_groups, groups, strict=False):
                rates = {name: kept[name] for name in _OF_SCHEDULES & kept.keys()}
                group |= {name: rate for name, rate in rates.items() if type(rate) is float and 0 <= rate < math.inf}

    def has_ended(self):
        """Return whether the fit in the folder had ended; if so, restore it."""
        if self._kept is None or not self._kept["outcome"]:
            return False
        self._take_weights()
        self.net.outcome_ = self._kept["outcome"]
        return True

    def begin(self, average, epochs, n_batches):
        """Resume from the folder after callbacks have begun; return how many of the epochs are done."""
        net, kept, n_done = self.net, self._kept, 0
        self._parts = {"optimizer": net.optimizer_, "generators": net.generators_, "average": average}
        self._schedules = [net.schedule_] if net.schedule_ else [part.lr_scheduler_ for part in schedulers(net)]
        if kept is not None:
            n_steps = len(kept["history"]) * n_batches
            with self._given.explained():
                check_parts(kept, self._state(), net.generators_, epochs, n_steps)
            self._take_weights()
            for name, part in self._parts.items():
                part.load_state_dict(kept[name])
            self._kept, n_done = None, len(net.history)
            one_cycle = [{"last_epoch": n_steps, "_step_count": n_steps + 1}]
            schedules = one_cycle if net.schedule_ else kept["schedules"]
            for schedule, numbers in zip(self._schedules, schedules, strict=True):
                schedule.load_state_dict(schedule.state_dict() | numbers)
        self._save(first=True)
        return n_done

    def end_epoch(self):
        if self._checkpoint is not None and self._checkpoint.is_due():
            self._save()

    def end(self):
        """Save the final state, unless training was interrupted."""
        if self.net.outcome_ != "interrupted":
            self._save()

    def _save(self, first=False):
        if self._checkpoint is not None:
            self._checkpoint.save(self._state(), first=first)

    def _state(self):
        net, outcome = self.net, None if self.net.outcome_ == "interrupted" else self.net.outcome_
        state = {"weights": net.module_.state_dict(), "best": vars(self.best), "gradient_scale": net.gradient_scale_}
        state |= {"history": net.history.to_list(), "layers": layers_of(net.module_), "outcome": outcome}
        state |= {"returns": net.returns_, "schedules": [*map(_numbers, self._schedules)]}
        return state | {name: part.state_dict() for name, part in self._parts.items()}

    def _take_weights(self):
        kept = self._kept
        own = {name: getattr(self.best, name) for name in ("patience", "tol", "start_error")}
        vars(self.best).update(kept["best"] | own)
        self.net.module_.load_state_dict(kept["weights"])
        self.net.gradient_scale_, self.net.returns_ = kept["gradient_scale"], kept["returns"]


class NamedCallbacks:
    """Mixin of estimators with a parameter ``callbacks``: callbacks in pairs (name, callback) are parameters, too.

    Clones share callbacks that cannot be copied, such as those that hold a lock or an open file. Files and copies for
    other processes omit them; those of an unfitted estimator name them instead, and `fit` then raises an error.
    """

    def __sklearn_clone__(self):
        without = object.__new__(type(self))
        vars(without).update(vars(self) | {"callbacks": None})
        other = _clone_parametrized(without)
        items = callback_list(self.callbacks)
        is_single = not items or items[0] is self.callbacks
        other.callbacks = cloned(self.callbacks) if is_single else [*map(cloned, items)]
        return other

    def __getstate__(self):
        state = super().__getstate__()
        if omitted := [item for item in callback_list(self.callbacks) if not _can_be_copied(item)]:
            warnings.warn(
                f"The copy or file leaves out callbacks that cannot be copied: {omitted}. Set them again after "
                "loading. Until then an unfitted estimator, such as one in a worker process, cannot be fitted.",
                UserWarning,
                stacklevel=2,
            )
            items = [
                left_out(item) if any(item is other for other in omitted) else item
                for item in callback_list(self.callbacks)
            ]
            kept = items if "net_" not in state else [item for item in items if not is_left_out(item)]
            return state | {"callbacks": kept or None}
        return state

    def get_params(self, deep=True):
        """Return parameters, with ``deep`` also named callbacks and their settings.

        The callback of a pair (name, callback) is the parameter ``callbacks__name``, its settings are
        ``callbacks__name__setting``, as in skorch.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict
        """
        params = super().get_params(deep)
        for name, callback in _named(params.get("callbacks")).items() if deep else ():
            settings = {"": callback} | {f"__{key}": value for key, value in callback.get_params().items()}
            params |= {f"callbacks__{name}{key}": value for key, value in settings.items()}
        return params

    def set_params(self, **params):
        """Set parameters, also those of named callbacks, see `get_params`.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object
        """
        nested = {key: params.pop(key) for key in sorted(params) if key.startswith("callbacks__")}
        super().set_params(**params)
        for key, value in nested.items():
            name, _, setting = key.removeprefix("callbacks__").partition("__")
            named = _named(self.callbacks)
            if name not in named:
                raise ValueError(
                    f"callbacks has no callback named {name!r} (names: {sorted(named) or 'none'}), so {key} cannot be "
                    f"set. Pass pairs: callbacks=[({name!r}, callback), ...]."
                )
            if setting:
                named[name].set_params(**{setting: value})
            else:
                items = callback_list(self.callbacks)
                self.callbacks = [(name, value) if item == (name, named[name]) else item for item in items]
        return self


def _named(value):
    """Return the callbacks that a list holds as pairs (name, callback), by name; none if it is not such a list."""
    pairs = [item for item in callback_list(value) if isinstance(item, tuple) and len(item) == 2]
    return {name: one for name, one in pairs if hasattr(one, "get_params") and not isinstance(one, type)}


def cloned(callback):
    """Return a clone of a callback or pair (name, callback); one that cannot be copied, such as a writer, as it is."""
    try:
        return clone(callback, safe=False)
    except TypeError:  # it holds a lock or an open file
        return callback


def _can_be_copied(callback):
    try:
        copy.deepcopy(callback)
    except Exception:  # it may hold anything
        return False
    return True


def _have_bar(net):
    """Return whether one of the callbacks shows a progress bar."""
    return any(isinstance(callback, ProgressBar) for _, callback in net.callbacks_)


def explain(error, history):
    """Raise a callback's error with a remedy if it is about the loss of a validation set that does not exist."""
    if re.search(r"\bvalid_", str(error)) and history and "valid_loss" not in history[-1]:
        raise ValueError(
            f"A callback needs the loss of a validation set, and there is none ({error}). Use early_stopping=True, "
            "or let the callback monitor 'train_loss'."
        ) from error


def are_watching(net):
    """Return whether callbacks read the loss of each epoch and batch, and the weights that are validated."""
    return any(getattr(callback, "reads_training", True) for _, callback in net.callbacks_)


def schedulers(net):
    """Return the callbacks that set the learning rate."""
    return [callback for _, callback in net.callbacks_ if isinstance(callback, LRScheduler)]


def weights_of(module):
    """Return a copy of a module's state_dict, faster than by a deep copy."""
    values = module.state_dict().items()
    return {name: value.clone() if torch.is_tensor(value) else copy.deepcopy(value) for name, value in values}


def record_bests(history):
    """Record whether an epoch's losses are the lowest so far, under the names that skorch's callbacks use."""
    for name in ("train_loss", "valid_loss"):
        if curve := [row[name] for row in history if name in row]:
            history.record(name + "_best", curve[-1] <= min(filter(math.isfinite, curve), default=-math.inf))


@contextmanager
def progress_bar(net, n_epochs, best, n_done=0):
    """Show a progress bar on stderr with the best loss relative to the start's; yield the function that advances it.

    Workers of joblib show none, since bars of parallel fits would overwrite each other.
    """
    is_shown = net.progress is not None and net.processes.rank == 0 and not _have_bar(net)
    if not is_shown or get_active_backend()[0].nesting_level:
        yield lambda: None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets gets the terminal's bar, and no warning
        from tqdm.auto import tqdm  # comes with skorch

    with tqdm(total=n_epochs, initial=n_done, desc=net.progress, unit="epoch") as bar:

        def tick():
            if 0 < best.start_loss < math.inf:
                bar.set_postfix_str(f"loss {best.loss / best.start_loss:.3f} of the start's", refresh=False)
            bar.update()

        yield tick


def _numbers(schedule):
    """Return the part of a schedule's state that may change; the constructor sets the rest."""
    fixed = signature(type(schedule)).parameters.keys() - {"last_epoch"}
    numbers = {name: value for name, value in schedule.state_dict().items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if name not in fixed} | {"_last_lr": schedule.get_last_lr()}
