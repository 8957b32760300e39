"""One fit: from an estimator's parameters and samples to a trained network."""

import math
import sys
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state, gen_batches

from skae._torch import evaluation_batch_size, seeded_globals, tensor_of
from skae.data import parameters as check
from skae.linear.missing import fit_normal, n_imputation_components
from skae.linear.pca import n_components_for
from skae.networks.halves import NetworkSpec
from skae.networks.layers import ACTIVATIONS
from skae.networks.preprocessing import Scaler, on_blocks
from skae.persistence import state as stored
from skae.training.callbacks import BestWeights, cloned
from skae.training.checkpoint import Checkpoint, differences, fingerprint, glimpse, plain
from skae.training.distributed import device_for, join_processes
from skae.training.net import Net

# validation_fraction="auto": this share of the samples, and at most this many; more would hardly improve the choice.
_AUTO_FRACTION, _MAX_VALIDATION = 0.1, 1000
# n_components="auto": the network starts with as many components as PCA needs for this share, at most this many.
_AUTO_SHARE, _MAX_AUTO = 0.99, 64
# Most components, if columns are fewer.
_MOST_COMPONENTS = 1000
# Parameters that affect how a network is trained and used, but not what is built.
_OF_TRAINING = {
    "batch_size", "callbacks", "checkpoint", "defensive", "device", "early_stopping", "handle_unknown",
    "learning_rate_init", "max_iter", "n_iter_no_change", "prior", "random_state", "tol", "validation_fraction",
    "verbose",
}  # fmt: skip
# Copies of a sample in the gradients of a refinement, and of variances by draws.
_COPIES = 8


def check_parameters(estimator):
    """Check the parameters that all estimators share."""
    check.check_widths("hidden_layer_sizes", estimator.hidden_layer_sizes)
    check.check_choice("activation", estimator.activation, ACTIVATIONS)
    check.check_choice("start", estimator.start, estimator._starts)
    check.check_flag("ordered", estimator.ordered)
    check.check_real("alpha", estimator.alpha)
    check.check_factory("encoder", estimator.encoder)
    check.check_factory("decoder", estimator.decoder)
    check.check_feature_shape(estimator.feature_shape)
    if not check.is_auto(estimator.batch_size):
        check.check_integer("batch_size", estimator.batch_size, 1, extra=", or 'auto'")
    if not check.is_auto(estimator.learning_rate_init):
        check.check_real("learning_rate_init", estimator.learning_rate_init, open_low=True, extra=", or 'auto'")
    if not check.is_auto(estimator.max_iter):
        check.check_integer("max_iter", estimator.max_iter, 0, extra=", or 'auto'")
    check.check_flag("early_stopping", estimator.early_stopping)
    if not check.is_auto(fraction := estimator.validation_fraction):
        check.check_real("validation_fraction", fraction, high=1.0, open_low=True, extra=", or 'auto'")
    check.check_integer("n_iter_no_change", estimator.n_iter_no_change, 1)
    if not isinstance(estimator.verbose, bool | np.bool_):
        check.check_integer("verbose", estimator.verbose, 0, extra=", or a bool")
    check.check_real("tol", estimator.tol)
    check.check_folder("checkpoint", estimator.checkpoint)
    check.check_callbacks(estimator.callbacks)
    device_for(estimator.device)
    if estimator.start == "random" and is_ordered(estimator):
        raise ValueError(
            f"ordered={estimator.ordered} with n_components={estimator.n_components!r} needs ordered components, "
            f"which a random start does not have. Use start={next(iter(estimator._starts))!r}, or ordered=False and an "
            "integer."
        )


def check_size(n_components, n_columns):
    """Check that components are not too many for posteriors, whose time grows with their cube."""
    if n_components > max(_MOST_COMPONENTS, n_columns):
        raise ValueError(
            f"n_components={n_components} is more than {_MOST_COMPONENTS} and than the {n_columns} columns of X. Use "
            "fewer components."
        )


def network_parameters(estimator, auto_widths="auto"):
    """Return the parameters that decide what network is built and what it minimises, with these widths for "auto"."""
    names = [name for name in stored.own_parameter_names(type(estimator)) if name not in _OF_TRAINING]
    parameters = {name: getattr(estimator, name) for name in names} | {"ordered": is_ordered(estimator)}
    parameters = {name: dict(v) if isinstance(v, Mapping) else v for name, v in parameters.items()}
    parameters["feature_shape"] = check.check_feature_shape(estimator.feature_shape)
    widths = check.check_widths("hidden_layer_sizes", estimator.hidden_layer_sizes)
    return parameters | {"hidden_layer_sizes": auto_widths if widths == "auto" else widths}


def chooses_size(estimator):
    """Return whether `fit` chooses the number of components."""
    return not isinstance(estimator.n_components, Integral)


def is_ordered(estimator):
    """Return whether the components are ordered."""
    return bool(estimator.ordered or chooses_size(estimator))


class Fit:
    """One fit of an estimator: its samples, and the steps from a start to a trained network.

    Parameters
    ----------
    estimator : BaseNetTransformer
        With checked parameters.
    table : ArrayTable or TableEncoder
    rows : RowSource
        Training samples.
    context : NoContext or ClassContext
    labels : array-like of shape (n_samples,) or None
        Class labels, which ``context`` encodes.
    validation : RowSource or None, default=None
    seed : int or None, default=None
        Of the fit that is continued; None draws one from ``random_state``.

    Attributes
    ----------
    net : Net
    built : NetworkSpec
    training, held_out : Samples
        The latter is None if no samples are held out.
    validated : tuple of RowSource and ndarray, or None
        Samples, and the indices of those that are held out.
    best : BestWeights or None
        None if training was one pass.
    """

    held_out = validated = best = None

    def __init__(self, estimator, table, rows, context, labels=None, validation=None, seed=None):
        self.estimator, self.table, self.rows = estimator, table, rows
        self.context, self.validation = context, validation
        self.given = context.encode(labels, len(rows))
        self.processes, self.device = join_processes(estimator.device), device_for(estimator.device)
        if seed is None:
            drawn = int(check_random_state(estimator.random_state).randint(2**31 - 1))
            seed = self.processes.of_first(lambda: drawn)
        self.seed = seed

    # The identity of a fit, which checkpoints and processes compare.

    @contextmanager
    def checkpointed(self):
        """Yield the checkpoint that the fit resumes from and saves its state to, or None."""
        self.check_processes()
        folder = self.estimator.checkpoint
        if folder is None:
            yield None
            return
        with self.processes.of_first(lambda: Checkpoint(folder, self._identity(fingerprint), self.seed)) as checkpoint:
            self.seed = checkpoint.seed
            yield checkpoint

    def check_processes(self):
        """Check that all processes fit the same data with the same parameters."""
        if self.processes.size == 1:
            return
        identities = self.processes.all(self._identity(glimpse) | {"random_state": None})
        for rank, identity in enumerate(identities):
            if different := differences(identities[0], identity):
                raise ValueError(
                    f"Process {rank} was given other data or parameters than process 0: {different}. Pass the same "
                    "X and parameters to all processes; fit divides the samples among them."
                )

    def _identity(self, describe):
        """Describe the data and the parameters that determine the fit."""
        estimator, seed = self.estimator, self.estimator.random_state
        names = stored.parameter_names(type(estimator))
        parameters = {name: getattr(estimator, name) for name in names if name not in ("checkpoint", "verbose")}
        if not (seed is None or isinstance(seed, Integral)):
            parameters["random_state"] = f"generator whose draw was {self.seed}"
        parameters["device"] = self.device.type
        identity = {"estimator": type(estimator).__name__} | {name: plain(value) for name, value in parameters.items()}
        given = self.given if self.context.width else None
        data = {"X": self.rows, "y": given, "sample_weight": self.rows.weights, "X_val": self.validation}
        return identity | {name: describe(values) for name, values in data.items()}

    # Steps.

    def start(self):
        """Build the network and set its initial weights."""
        estimator, rows = self.estimator, self.rows
        least = self._check_shape()
        parameters = network_parameters(estimator)
        widths = estimator._model_class.auto_widths(parameters, len(rows), rows.n_features)
        parameters = network_parameters(estimator, widths)
        has_missing = rows.has_missing or (self.validation is not None and self.validation.has_missing)
        built = NetworkSpec(parameters, rows.n_features, self.context.width, 0, has_missing, self.seed)
        scaler = estimator._model_class.scaler_of(rows.n_features, self.table.links, built.is_raw)
        scaler.fit(rows, with_spread=bool(parameters.get("noise", True)))
        self.inputs = rows.map(on_blocks(scaler, Scaler.forward)).with_columns(self.given)
        complete, normal = self._complete(least)
        self.built = built = replace(built, n_components=self._n_components(complete))
        model = estimator._model_class.build(built, scaler, self.table).double()
        start = estimator._starts[estimator.start]
        of_start = model.start(start, rows, complete, np.random.RandomState(self.seed), trains=estimator.max_iter != 0)
        n_columns = built.n_features + built.n_context
        imputing = (normal or of_start).fold_into_noise(n_imputation_components(built.n_components, n_columns))
        model.imputer.start_at(imputing)
        self.net = new_net(estimator, model, built, len(rows), self.device)
        if estimator.verbose and self.table.description:
            print(f"{type(estimator).__name__}: {self.table.description}", file=sys.stderr)

    def _check_shape(self):
        """Check that X has enough samples and columns; return the smallest possible n_components."""
        least = 1 if chooses_size(self.estimator) else self.estimator.n_components
        if least > len(self.rows):
            raise ValueError(
                f"n_components={least} is more than the {len(self.rows)} samples of X. Use at most as many components "
                "as samples."
            )
        check_size(least, self.rows.n_features)
        if (shape := check.check_feature_shape(self.estimator.feature_shape)) is not None:
            check.check_fits_columns(shape, self.rows.n_features)
        return least

    def _complete(self, n_components):
        """Return samples for the linear start, missing values imputed, and the model that imputed them."""
        complete = self.inputs.complete(max(2 * n_components, 2), np.random.RandomState(self.seed))
        if not self.inputs.has_missing:
            return complete, None
        random_state = np.random.RandomState(self.seed)
        normal = fit_normal(complete.source, n_components, random_state, complete.weights)
        return complete.drawn(normal, random_state), normal

    def _n_components(self, complete):
        """Return the network's number of components; if it is chosen, by PCA of complete scaled samples."""
        asked = self.estimator.n_components
        if not chooses_size(self.estimator):
            return int(asked)
        X, _ = complete.without_context_means(self.rows.n_features)
        if asked == "auto":
            n_components = min(n_components_for(X, _AUTO_SHARE), _MAX_AUTO)
            return self.estimator._model_class.at_most(n_components, (len(complete), self.rows.n_features))
        return n_components_for(X, (1 + asked) / 2)

    def split(self):
        """Split the samples into a training set and a validation set."""
        model, rows, estimator = self.net.module_, self.rows, self.estimator
        is_identity, device = model.scaler.is_identity, self.net.device
        if self.validation is None and estimator.early_stopping:
            n_held_out = _n_held_out(estimator.validation_fraction, len(rows))
            index = _held_out(model, self.inputs, n_held_out, np.random.RandomState(self.seed), device)
            self.training, self.held_out = rows.split_samples(self.inputs, index, device, is_identity)
            self.validated = rows, index
        else:
            self.training = rows.samples(self.inputs, device, is_identity)
        if self.validation is not None:
            scaled = self.validation.map(on_blocks(model.scaler, Scaler.forward))
            self.held_out = self.validation.samples(scaled, device, is_identity)
            self.validated = self.validation, np.arange(len(self.validation))
        self.training = self.training.normalised()
        if self.held_out is None:
            return
        self.held_out = self.held_out.normalised()
        if estimator.max_iter:
            model.hold_out(len(self.held_out))
        if model.input_noise is not None:  # training and validation loss are then comparable
            generator = _generator(self.seed, torch.device(device))
            self.held_out = self.held_out.with_noise(model.input_noise, generator)

    @property
    def n_epochs(self):
        """Largest number of epochs."""
        pace, asked = self.net.module_.pace(self.built), self.estimator.max_iter
        return math.ceil(pace.epochs * int(pace.auto_epochs(len(self.rows)) if check.is_auto(asked) else asked))

    def train(self, checkpoint=None):
        """Train to the weights with the lowest validation loss."""
        estimator, epochs, patience = self.estimator, self.n_epochs, self.estimator.n_iter_no_change
        if is_ordered(estimator):
            patience = max(patience, epochs // 2)
        self.best = BestWeights(patience, estimator.tol)
        self.net.processes = self.processes
        with self._seeded():
            self.net.train(self.training, self.held_out, epochs, self.best, checkpoint)

    def resume(self, fitted):
        """Continue with a fitted network."""
        self.net, self.built = fitted.net, fitted.built
        model = self.net.module_
        new = model.scaler.learn_columns(self.rows)
        self.inputs = self.rows.map(on_blocks(model.scaler, Scaler.forward)).with_columns(self.given)
        if (new.began | new.found).any():
            rows = self.inputs.dense(1, np.random.RandomState(self.built.seed))
            x, shares = (tensor_of(part).to(self.net.device, torch.float64) for part in (rows.source, rows.shares()))
            model.begin_columns(new, x, shares)
            self.net.criterion_ = model.objective().to(self.net.device)
        n_done = len([row for row in self.net.history if "dur" in row])
        self.net.iterator_train__generator.manual_seed(self.built.seed + n_done)  # order of samples, noise
        self.net.batch_size = _batch_size(self.estimator.batch_size, model.pace(self.built), len(self.rows))

    def train_once(self):
        """Make one pass over the samples."""
        net, pace = self.net, self.net.module_.pace(self.built)
        net.processes, net.lr = self.processes, _rate(self.estimator, pace.later_rate)
        self.training = self.rows.samples(self.inputs, net.device, net.module_.scaler.is_identity).normalised()
        with self._seeded():
            net.train_once(self.training)

    def _seeded(self):
        """Seed torch's global generators, which users' own modules draw dropout from, and restore them afterwards."""
        if self.estimator.encoder is None and self.estimator.decoder is None:
            return nullcontext()
        return seeded_globals(self.built.seed + len(self.net.history), torch.device(self.net.device))

    @property
    def has_no_gain(self):
        """Whether no epoch was better than the start on the validation set."""
        return self.held_out is not None and self.best.loss == self.best.start_loss

    @property
    def is_trained(self):
        """Whether the weights differ from those of the start."""
        return len(self.net.history) > 0 and not self.has_no_gain

    def curves(self, fitted):
        """Return the fitted attributes that describe the training, by name."""
        early_stopping = self.estimator.early_stopping
        epochs = [row for row in self.net.history if "dur" in row]  # an interrupted epoch has no duration
        in_units = fitted.units_of(self.training)
        losses = [in_units(row["train_loss"]) for row in epochs]
        validated = best = linear = None
        if self.best is not None:
            if early_stopping:
                in_units = fitted.units_of(self.held_out)
                validated = [in_units(row["valid_loss"]) for row in epochs]
            finite = [loss for loss in losses if np.isfinite(loss)]
            best = in_units(self.best.loss) if early_stopping or not finite else min(finite)
            linear = None if self.built.is_random else in_units(self.best.start_loss)
        curves = {"n_iter_": len(epochs), "loss_curve_": losses, "validation_loss_curve_": validated}
        return curves | {"best_loss_": best, "linear_loss_": linear}


def new_net(estimator, model, built, n_samples, device):
    """Return the skorch net that trains a model, with an estimator's parameters."""
    parameters, noise, draws = built.parameters, model.input_noise, model.evaluation_draws
    pace = model.pace(built)
    return Net(
        model,
        model.objective(),
        width=max(built.n_features * model.n_evaluated * (_COPIES if model.n_refinements else 1), model.n_landmarks),
        draws=None if draws is None else draws.to(device),
        alpha=parameters["alpha"],
        relative=model.has_unit and not built.is_random,
        averaged=not built.is_random,
        clipped=parameters["feature_shape"] is not None and not built.is_ordered,
        lr=_rate(estimator, pace.rate),
        optimizer__betas=(0.9, pace.squares_decay),
        batch_size=_batch_size(estimator.batch_size, pace, n_samples),
        iterator_train__generator=_generator(built.seed, device),
        iterator_train__noise=None if noise is None else noise.to(device, torch.float32),
        callbacks=[*map(cloned, check.callback_list(estimator.callbacks))] or None,
        progress=type(estimator).__name__ if estimator.verbose else None,
        uses_globals=bool(parameters["encoder"] or parameters["decoder"]),
        device=device,
    ).initialize()


def _generator(seed, device):
    return torch.Generator(device).manual_seed(seed)


def _rate(estimator, default):
    rate = estimator.learning_rate_init
    return default if check.is_auto(rate) else float(rate)


def _batch_size(batch_size, pace, n_samples):
    return pace.auto_batch_size(n_samples) if check.is_auto(batch_size) else int(batch_size)


def _n_held_out(fraction, n_samples):
    """Return the size of the validation set: at least one sample, and not all."""
    if check.is_auto(fraction):
        n = min(round(_AUTO_FRACTION * n_samples), _MAX_VALIDATION)
    else:
        n = round(fraction * n_samples)
    return min(max(1, n), n_samples - 1)


def _held_out(model, inputs, n_held_out, random_state, device):
    """Return the indices of the validation set: a random subset or, if stratified, one of each group of similar misfit.

    The worst-fitted samples dominate a mean log-density, so the validation set needs its share of them.
    """
    if not model.is_stratified or n_held_out > inputs.most_at_once():
        return inputs.sample(n_held_out, random_state)
    index = inputs.searchable(random_state)
    candidates, misfit = inputs[index], np.empty(len(index))
    for block in gen_batches(len(index), evaluation_batch_size(inputs.n_features)):
        with torch.no_grad():
            x = tensor_of(candidates[block]).to(device, torch.float64)
            misfit[block] = model.misfit(x).numpy(force=True)
    order = random_state.permutation(len(misfit))  # chance decides among equals
    order = order[np.argsort(misfit[order], kind="stable")]
    return index[[random_state.choice(group) for group in np.array_split(order, n_held_out)]]
