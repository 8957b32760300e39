"""The recipe of a fit, and the way of samples through the fitted network: what both estimators share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skae._fitted import Built, check_attributes, check_codes, check_context, check_fitted
from skae._torch import (
    evaluation_batch_size,
    resolve_device,
    seeded_globals,
    tensor_of,
    torch_defaults,
)
from skae.data import parameters as check
from skae.data.context import ClassContext, NoContext
from skae.linear.missing import fit_normal, n_imputation_components
from skae.linear.pca import n_components_for
from skae.networks.export import exported
from skae.networks.layers import ACTIVATIONS
from skae.persistence import state as stored
from skae.training.callbacks import BestWeights
from skae.training.checkpoint import Checkpoint, differences, fingerprint, glimpse, plain
from skae.training.distributed import device_for, is_shared, join_processes
from skae.training.net import Net, check_net_state

# Share of the samples behind validation_fraction="auto", and the most: more would hardly make a better choice.
_AUTO_FRACTION, _MAX_VALIDATION = 0.1, 1000
# Encoder widths behind hidden_layer_sizes="auto": of samples, and of images, which get few features from a convolution.
_AUTO_WIDTHS, _AUTO_IMAGE_WIDTHS = (256, 128), (128, 256)
# How much faster an ordered network trains, whose epochs are fewer.
_ORDERED_RATE = 2
# n_components="auto": the principal components that a network begins with explain this share, and are so many at most.
_AUTO_SHARE, _MAX_AUTO = 0.99, 64
# Parameters that decide how a network is trained and used, and not what it is.
_OF_TRAINING = {
    "batch_size", "callbacks", "checkpoint", "device", "early_stopping", "handle_unknown", "learning_rate_init",
    "max_iter", "n_iter_no_change", "prior", "random_state", "tol", "validation_fraction", "verbose",
}  # fmt: skip
# Copies of a sample in the graph that a refinement differentiates.
_COPIES = 8


class BaseNetTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The recipe of a fit and the fitted state of skae's estimators.

    A subclass documents its parameters and gives five hooks: ``_starts`` (linear models by name), ``_model_class`` (the
    network), ``_fitted_class`` (the fitted network), ``_check_parameters`` and ``_new_table``. Its public methods use
    ``_open``, which checks samples, and ``_fitted``.
    """

    @torch_defaults()
    def fit(self, X, y=None, *, X_val=None):
        """Fit the network, from its start to the weights with the lowest validation loss.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples: at least two, and at least as many as components. Entries may be missing, as nan, but not
            all of a sample or of a column. A `numpy.memmap` of more than 2^25 numbers is read in blocks, never as a
            whole; its start is that of a random sample of its rows.
        y : array-like of shape (n_samples,), default=None
            The classes of a conditional model; otherwise ignored.
        X_val : array-like of shape (n_validation, n_features), default=None
            Validation set, in place of a random ``validation_fraction`` of X. Needs ``early_stopping=True``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X does not fit, or ``checkpoint`` holds a fit of other data or parameters, or processes
            that train together (``device="accelerate"``) are given different ones.
        OSError
            If ``checkpoint`` cannot be written when training begins, or another fit uses it now.
        RuntimeError
            If another of these processes has ended.
        """
        self._forget()
        self._check_parameters()
        processes = join_processes(self.device)
        rows = self._open(X, reset=True, ensure_min_samples=2)
        validation, context = self._open_validation(X_val), self._learn_context(y, len(rows))
        data = {"X": rows, "y": context, "X_val": validation}
        with self._open_checkpoint(processes, self._draw_seed(processes), data) as (seed, checkpoint):
            net, built, inputs = self._start_net(rows, context, seed, validation)
            net.processes = processes
            training, held_out = self._split(net, built, rows, inputs, validation)
            epochs, patience = self._budget(net.module_.ordered_share)
            best = BestWeights(patience, self.tol)
            with self._training_scope(net, built):
                net.train(training, held_out, epochs, best, checkpoint)
        self._store(net, built, training, held_out, best)
        self._fitted.learn_imputation(rows, processes)
        self._warn(net, no_gain=held_out is not None and best.loss == best.start_loss)
        return self

    def _takes_batches(self):
        """Whether samples may come in batches: no validation set is needed to decide the number of components."""
        if self._is_conditional():
            raise AttributeError("conditional=True needs all classes at once, and partial_fit gets pieces. Call fit.")
        if isinstance(self.n_components, Integral) or not isinstance(self.n_components, str | Real):
            return True
        raise AttributeError(
            f"n_components={self.n_components!r} is decided by rows held out, and partial_fit holds none out. Call "
            "fit, or set an integer."
        )

    @available_if(lambda self: self._takes_batches())
    @torch_defaults()
    def partial_fit(self, X, y=None):
        """Make one pass over these samples, at a constant learning rate and without validation.

        The first call decides mean, scale and start. After `fit` it continues from the fitted weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A batch of training samples; the first one needs more samples than components.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The estimator, one pass further.
        """
        self._check_parameters()
        is_first = not self.__sklearn_is_fitted__()
        self._forget() if is_first else self._check_continues()
        processes = join_processes(self.device)
        rows = self._open(X, reset=is_first, ensure_min_samples=2 if is_first else 1)
        context = NoContext().encode(y, len(rows))
        if is_first:
            self._check_first_batch(rows)
            seed = self._draw_seed(processes)
            self._check_processes(processes, seed, X=rows)
            net, built, inputs = self._start_net(rows, context, seed)
        else:
            net, built = self.net_, self._fitted.built
            self._check_processes(processes, built.seed, X=rows)
            inputs = rows.map(partial(_scaled, net.module_.scaler))
            net.prepare_pass(built.seed + self.n_iter_, _batch_size(self.batch_size, len(rows)))
        net.processes, net.lr = processes, self.learning_rate_init
        samples = rows.samples(inputs, net.device, net.module_.scaler.is_identity)
        with self._training_scope(net, built):
            net.train_once(samples)
        self._store(net, built, samples)
        self._warn(net)
        return self

    def _check_continues(self):
        """Check that `partial_fit` may train the fitted network."""
        if self._fitted.built.is_truncated:
            raise ValueError(
                "The net is that of the estimator this one was truncated from. Call fit for one of its own."
            )
        built = self._fitted.built.parameters
        if changed := [name for name, value in self._parameters_of_network().items() if built[name] != value]:
            raise ValueError(
                f"{', '.join(changed)} changed since the net was built, and partial_fit goes on with that net. "
                "Set back what changed, or call fit."
            )

    def _check_first_batch(self, rows):
        if len(rows) <= self._least_components():
            raise ValueError(
                f"The first call of partial_fit needs more rows than n_components={self.n_components}, but X has "
                f"{len(rows)}: they decide mean, scale and start. Pass a larger first batch."
            )

    @torch_defaults()
    def truncate(self, n_components):
        """Return the estimator with fewer components: its codes are the first columns, and the network is shared.

        Parameters
        ----------
        n_components : int
            From 1 to ``n_components_``.

        Returns
        -------
        object
            Such an estimator, fitted. `fit` trains it anew; `partial_fit` is refused, since the network is not its own.
            A later `partial_fit` of the estimator it comes from changes its codes, too.

        Raises
        ------
        ValueError
            If the components are in no order. It takes ``ordered=True``, or to leave their number to `fit`.
        """
        check_is_fitted(self)
        if not self._fitted.built.is_ordered:
            raise ValueError(
                f"The components of this {type(self).__name__} are in no order, so none can be left out. Fit it with "
                "ordered=True."
            )
        n_components = check.check_integer("n_components", n_components, 1)
        if n_components > self.n_components_:
            raise ValueError(
                f"n_components={n_components} must be at most n_components_={self.n_components_}. Fit more components "
                "to cut to so many."
            )
        truncated = clone(self)
        vars(truncated).update({name: vars(self)[name] for name in self._fitted_names()})
        vars(truncated).update(n_components=n_components, ordered=True, checkpoint=None)
        truncated._fitted = self._fitted.truncated(n_components)
        vars(truncated).update(truncated._fitted.attributes())
        return truncated

    def __sklearn_is_fitted__(self):
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        table = self._new_table()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.input_tags.positive_only = table.support.positive_only
        tags.input_tags.sparse = table.accepts_sparse
        return tags

    @property
    def _n_features_out(self):
        return self.n_components_

    # Parameters.

    def _check_parameters(self):
        """Check the parameters that all estimators share; a subclass adds its own."""
        check.check_widths("hidden_layer_sizes", self.hidden_layer_sizes)
        check.check_choice("activation", self.activation, ACTIVATIONS)
        check.check_choice("start", self.start, self._starts)
        check.check_flag("ordered", self.ordered)
        check.check_real("alpha", self.alpha)
        check.check_factory("encoder", self.encoder)
        check.check_factory("decoder", self.decoder)
        check.check_feature_shape(self.feature_shape)
        if not check.is_auto(self.batch_size):
            check.check_integer("batch_size", self.batch_size, 1, extra=", or 'auto'")
        check.check_real("learning_rate_init", self.learning_rate_init, open_low=True)
        check.check_integer("max_iter", self.max_iter, 0)
        check.check_flag("early_stopping", self.early_stopping)
        if not check.is_auto(fraction := self.validation_fraction):
            check.check_real("validation_fraction", fraction, high=1.0, open_low=True, extra=", or 'auto'")
        check.check_integer("n_iter_no_change", self.n_iter_no_change, 1)
        check.check_real("tol", self.tol)
        check.check_folder("checkpoint", self.checkpoint)
        check.check_callbacks(self.callbacks)
        device_for(self.device)
        if self.start == "random" and self._is_ordered():
            raise ValueError(
                f"ordered={self.ordered} with n_components={self.n_components!r} asks for components in order, which a "
                f"start at random has not. Use start={next(iter(self._starts))!r}, or ordered=False and an integer."
            )

    def _parameters_of_network(self):
        """Return the parameters that decide what network is built and what it minimises."""
        names = [name for name in stored.parameter_names(type(self)) if name not in _OF_TRAINING]
        parameters = {name: getattr(self, name) for name in names} | {"ordered": self._is_ordered()}
        parameters = {name: dict(v) if isinstance(v, Mapping) else v for name, v in parameters.items()}
        parameters["feature_shape"] = check.check_feature_shape(self.feature_shape)
        widths = check.check_widths("hidden_layer_sizes", self.hidden_layer_sizes)
        if widths == "auto":
            widths = _AUTO_WIDTHS if self.feature_shape is None else _AUTO_IMAGE_WIDTHS
        return parameters | {"hidden_layer_sizes": widths}

    def _chooses_size(self):
        """Whether the number of components is left to `fit`."""
        return not isinstance(self.n_components, Integral)

    def _is_ordered(self):
        return bool(self.ordered or self._chooses_size())

    def _least_components(self):
        """Return how many components the samples must at least allow."""
        return 1 if self._chooses_size() else self.n_components

    def _budget(self, ordered_share):
        """Return the most epochs, and how many without an improvement end training."""
        if not self._is_ordered():
            return int(self.max_iter), self.n_iter_no_change  # torch takes no number of NumPy's
        epochs = math.ceil(ordered_share * self.max_iter)
        return epochs, max(self.n_iter_no_change, epochs // 2)

    def _n_components_of_net(self, inputs):
        """Return the number of components that the network has, from complete scaled samples."""
        if not self._chooses_size():
            return int(self.n_components)
        if self.n_components == "auto":
            n_components = min(n_components_for(inputs, _AUTO_SHARE), _MAX_AUTO)
            return self._model_class.at_most(n_components, inputs.shape)
        return n_components_for(inputs, (1 + self.n_components) / 2)

    # Data.

    def _forget(self):
        """Drop what an earlier fit left, so that a fit that fails leaves an estimator that is not fitted."""
        for name in self._fitted_names():
            delattr(self, name)

    def _fitted_names(self):
        return [name for name in vars(self) if name.endswith("_") or name in ("_table", "_fitted")]

    def _open(self, X, *, reset=False, ensure_min_samples=1):
        """Return checked samples as a source of rows, in the columns that the network sees."""
        if reset:
            self._table = self._new_table()
        return self._table.open(self, X, reset=reset, ensure_min_samples=ensure_min_samples)

    def _open_validation(self, X_val):
        if X_val is None:
            return None
        if not self.early_stopping:
            raise ValueError("X_val chooses the weights only with early_stopping=True. Set it, or leave X_val out.")
        if self._is_conditional():
            raise ValueError(
                "With conditional=True leave X_val out: no class of its rows is known, so rows of X are held out."
            )
        rows = self._open(X_val)
        if rows.is_empty():
            raise ValueError("In X_val every value is missing, and nothing can be chosen by that. Pass other rows.")
        return rows

    def _learn_context(self, y, n_samples):
        """Return the context of training samples, (n_samples, n_context)."""
        context = ClassContext.learn(y, n_samples) if self._is_conditional() else NoContext()
        vars(self).update(context.attributes)
        return context.encode(y, n_samples)

    def _is_conditional(self):
        return getattr(self, "conditional", False)

    def _draw_seed(self, processes):
        """Take the one draw from ``random_state`` that all randomness of a fit comes from."""
        drawn = int(check_random_state(self.random_state).randint(2**31 - 1))
        return processes.of_first(lambda: drawn)

    # What makes a fit the same fit: for checkpoints and processes.

    def _identity(self, describe, seed, data):
        """Describe the parameters that decide a fit, and its data."""
        names = stored.parameter_names(type(self))
        parameters = {name: getattr(self, name) for name in names if name not in ("checkpoint", "verbose")}
        if not (self.random_state is None or isinstance(self.random_state, Integral)):
            parameters["random_state"] = f"generator whose draw was {seed}"
        parameters["device"] = device_for(self.device).type
        identity = {"estimator": type(self).__name__} | {name: plain(value) for name, value in parameters.items()}
        return identity | {name: describe(rows) for name, rows in data.items()}

    def _check_processes(self, processes, seed, **data):
        """Check that all processes of a fit are about to do the same."""
        if processes.size == 1:
            return
        identities = processes.all(self._identity(glimpse, seed, data) | {"random_state": None})
        for rank, identity in enumerate(identities):
            if different := differences(identities[0], identity):
                raise ValueError(
                    f"Process {rank} of this fit was given another one than process 0: {different}. Give all the same "
                    "rows, of which each takes its share by itself, and the same parameters."
                )

    @contextmanager
    def _open_checkpoint(self, processes, seed, data):
        """Yield the seed of a fit, and the checkpoint that it resumes from and saves its state to, or None."""
        self._check_processes(processes, seed, **data)
        if self.checkpoint is None:
            yield seed, None
            return
        identity = partial(self._identity, fingerprint, seed, data)
        with processes.of_first(lambda: Checkpoint(self.checkpoint, identity(), seed)) as checkpoint:
            yield checkpoint.seed, checkpoint

    # Steps of the recipe.

    def _start_net(self, rows, context, seed, validation=None):
        """Build the network at its start; return it, what it was built from, and its inputs as a source of rows."""
        self._check_shape(rows)
        parameters = self._parameters_of_network()
        built = Built(
            parameters,
            rows.n_features,
            context.shape[1],
            n_components=0,
            has_missing=rows.has_missing or (validation is not None and validation.has_missing),
            seed=seed,
        )
        scaler = self._model_class.scaler_of(rows.n_features, self._table.links, built.is_raw)
        scaler.fit(rows, with_spread=bool(parameters.get("noise", True)))
        inputs = rows.map(partial(_scaled, scaler)).with_columns(context)
        complete, normal = self._complete(inputs, built)
        built = replace(built, n_components=self._n_components_of_net(complete))
        model = self._model_class.build(built.spec, parameters, scaler, self._table).double()
        start = self._starts[self.start]
        of_start = model.start(start, rows, complete, built.random_state(), trains=self.max_iter > 0)
        n_columns = built.n_features + built.n_context
        imputing = (normal or of_start).fold_into_noise(n_imputation_components(built.n_components, n_columns))
        model.imputer.start_at(imputing)
        return self._new_net(model, built, len(rows), device_for(self.device)), built, inputs

    def _check_shape(self, rows):
        if self._least_components() > len(rows):
            raise ValueError(
                f"n_components={self.n_components} is more than the {len(rows)} rows of X. Use at most as many "
                "components as rows."
            )
        if (shape := check.check_feature_shape(self.feature_shape)) is not None:
            check.check_fits_columns(shape, rows.n_features)

    def _complete(self, inputs, built):
        """Return samples for closed forms, dense and complete, and the model that their missing values came from."""
        complete = inputs.dense(max(2 * self._least_components(), 2), built.random_state())
        if not inputs.has_missing:
            return complete, None
        random_state = built.random_state()
        normal = fit_normal(complete, self._least_components(), random_state)
        return normal.draw(complete, random_state), normal

    def _new_net(self, model, built, n_samples, device):
        parameters, noise = built.parameters, model.input_noise
        draws = model.evaluation_draws
        return Net(
            model,
            model.objective(),
            width=built.n_features * model.n_evaluated * (_COPIES if model.n_refinements else 1),
            draws=None if draws is None else draws.to(device),
            alpha=parameters["alpha"],
            relative=model.has_unit and not built.is_random,
            averaged=not built.is_random,
            clipped=parameters["feature_shape"] is not None and not built.is_ordered,
            lr=float(self.learning_rate_init) * (_ORDERED_RATE if built.is_ordered else 1),
            batch_size=_batch_size(self.batch_size, n_samples),
            iterator_train__generator=_generator(built.seed, device),
            iterator_train__noise=None if noise is None else noise.to(device, torch.float32),
            callbacks=None if self.callbacks is None else clone(list(self.callbacks), safe=False),
            progress=type(self).__name__ if self.verbose else None,
            uses_globals=bool(parameters["encoder"] or parameters["decoder"]),
            device=device,
        ).initialize()

    def _split(self, net, built, rows, inputs, validation):
        """Return training and validation samples; the latter None without early stopping."""
        model, device = net.module_, net.device
        is_identity = model.scaler.is_identity
        if validation is not None:
            held_out = validation.samples(validation.map(partial(_scaled, model.scaler)), device, is_identity)
            training = rows.samples(inputs, device, is_identity)
        elif not self.early_stopping:
            return rows.samples(inputs, device, is_identity), None
        else:
            n_held_out = _n_held_out(self.validation_fraction, len(rows))
            index = _held_out(model, inputs, n_held_out, built.random_state(), device)
            training, held_out = rows.split_samples(inputs, index, device, is_identity)
        if self.max_iter:
            model.hold_out(len(held_out))
        if model.input_noise is not None:  # validation and training loss are to mean the same
            generator = _generator(built.seed, torch.device(device))
            held_out = held_out.with_noise(model.input_noise, generator)
        return training, held_out

    def _training_scope(self, net, built):
        """Seed torch's global generators, which users' own modules draw dropout from, and restore them after."""
        if self.encoder is None and self.decoder is None:
            return nullcontext()
        return seeded_globals(built.seed + len(net.history), torch.device(net.device))

    def _store(self, net, built, training, held_out=None, best=None):
        """Set the fitted attributes, the network last: it is what makes the estimator fitted."""
        before = vars(self).get("_fitted")
        context = ClassContext(self.classes_, self.class_prior_) if built.n_context else NoContext()
        fitted = self._fitted_class(net, built, self._table, context, built.n_components)
        fitted.settle(self, training, held_out, best, before)
        epochs = [row for row in net.history if "dur" in row]  # one that was cut short has none
        self.n_iter_ = len(epochs)
        in_units = fitted.units_of(training)
        self.loss_curve_ = [in_units(row["train_loss"]) for row in epochs]
        self.validation_loss_curve_ = self.best_loss_ = self.linear_loss_ = None
        if best is not None:
            if self.early_stopping:
                in_units = fitted.units_of(held_out)
                self.validation_loss_curve_ = [in_units(row["valid_loss"]) for row in epochs]
            finite = [loss for loss in self.loss_curve_ if np.isfinite(loss)]
            self.best_loss_ = in_units(best.loss) if self.early_stopping or not finite else min(finite)
            if not built.is_random:
                self.linear_loss_ = in_units(best.start_loss)
        vars(self).update(fitted.attributes())
        self._fitted, self.net_ = fitted, net

    def _warn(self, net, no_gain=False, stacklevel=5):
        """Warn at most once about how training ended; above are `fit`, its decorators, and the caller."""
        name = type(self).__name__
        if net.outcome_ == "diverged":
            smaller = f", nor with steps made smaller {net.returns_} times" if net.returns_ else ""
            warnings.warn(
                f"The loss was no longer finite after {len(net.history)} epochs{smaller}, so {name} went back to the "
                f"best weights before. Lower learning_rate_init={self.learning_rate_init!r} or scale X.",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )
        elif net.outcome_ == "interrupted":
            warnings.warn(
                f"Training was interrupted in epoch {len(net.history)}; the estimator is fitted with "
                f"{'the best' if self.early_stopping else 'the last'} weights so far.",
                UserWarning,
                stacklevel=stacklevel,
            )
        elif no_gain and self.n_iter_ > 0 and self.start != "random":
            warnings.warn(
                f"No epoch beat the linear start on the held-out rows, so this {name} is its linear start. More rows "
                "may help, or a lower learning_rate_init; or the data are linear and need no net.",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )

    # Samples through the fitted network.

    def transform(self, X):
        """Encode samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, in the units of the training samples.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            Codes, in float32 for float32 samples, else in float64.
        """
        check_is_fitted(self)
        return self._fitted.encode(self._open(X))

    def inverse_transform(self, X):
        """Transform codes back to the original space.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes, as `transform` gives them.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            Samples in units of X; in float32 for float32 codes, else in float64.
        """
        return self._fitted.decode(check_codes(self, X))

    def exported_part(self, part):
        """Return the module that `to_onnx` writes, and the columns of its input.

        Parameters
        ----------
        part : {"encoder", "decoder", "autoencoder"}

        Returns
        -------
        module : torch.nn.Module
            (n, n_columns) -> (n, n_out), both in float64.
        n_columns : int
        """
        check_is_fitted(self)
        self._fitted.check_exportable(type(self).__name__)
        return exported(part, self.net_.inference_module(torch.float32), self.n_components_)

    # What a pickle holds.

    def __getstate__(self):
        """Return NumPy arrays and plain Python: the network goes as its weights, and `__setstate__` builds it again."""
        state = stored.with_version(super().__getstate__())
        if "net_" in state:
            state |= {"net_": state["net_"].get_state(), "_fitted": state["_fitted"].to_state()}
            state["_table"] = state["_table"].to_state()
        return state

    @torch_defaults()
    def __setstate__(self, state):
        """Check all of the state before a network takes it in: it may come from a file that someone changed."""
        state = stored.without_version(state, type(self))
        stored.check_names(state, type(self))
        if "net_" in state:
            state = self._restored(state)
        super().__setstate__(state)

    def _restored(self, state):
        """Return the state of a fitted estimator with objects in place of their states, all checked."""
        kept = check_fitted(stored.get(state, "_fitted"))
        built = Built(**kept["built"])
        table = self._restored_table(built, state)
        check_attributes(state, table)
        stored.check_integer(kept["built"], "n_features", table.width, table.width)
        check_context(state, built.n_context)
        context = ClassContext(state["classes_"], state["class_prior_"]) if built.n_context else NoContext()
        super().__setstate__({name: state[name] for name in stored.parameter_names(type(self)) if name in state})
        net = self._restored_net(built, table, stored.get(state, "net_"))
        fitted = self._fitted_class(net, built, table, context, state["n_components_"])
        fitted.restore(kept, state)
        return state | {"_table": table, "net_": net, "_fitted": fitted}

    def _restored_table(self, built, state):
        """Return the table, after checking what the network was built from as `fit` checks its parameters."""
        probe = type(self).__new__(type(self))
        parameters = {name: stored.get(state, name) for name in stored.parameter_names(type(self))}
        own = {name: value for name, value in built.parameters.items() if name in parameters}
        vars(probe).update(parameters | own | {"device": "cpu"})
        try:
            probe._check_parameters()
        except (ValueError, TypeError) as error:
            raise stored.fault("a parameter", f"is not one that fit takes ({error})") from error
        expected = probe._parameters_of_network()
        if built.parameters.keys() != expected.keys() or built.parameters != expected:
            raise stored.fault("what the net was built from", "is not what its own values make of it")
        return probe._new_table().restore(stored.get(state, "_table"), stored.fault)

    def _restored_net(self, built, table, weights):
        if not (built.parameters["encoder"] and built.parameters["decoder"]):
            widths = [built.n_features, *built.parameters["hidden_layer_sizes"], built.n_components]
            stored.check_widths("hidden_layer_sizes", widths, stored.n_weights(weights))
        try:
            scaler = self._model_class.scaler_of(built.n_features, table.links, built.is_raw)
            module = self._model_class.build(built.spec, built.parameters, scaler, table).double()
        except Exception as error:  # of an encoder or a decoder that is something else now
            raise stored.fault("the net", f"cannot be built: {error}") from error
        check_net_state(weights, module)
        try:
            device = resolve_device("auto" if is_shared(self.device) else self.device)
        except ValueError:  # fitted on a device that this machine lacks
            device = torch.device("cpu")
        net = self._new_net(module, built, 1, device).set_state(weights)
        if not module.check_finite():
            raise stored.fault("the net", "makes numbers that are not finite of a typical row")
        return net


def _scaled(scaler, block):
    """Scale a block of samples, as an array."""
    with torch.no_grad():
        return scaler(tensor_of(block)).numpy()


def _generator(seed, device):
    return torch.Generator(device).manual_seed(seed)


def _batch_size(batch_size, n_samples):
    """Return the samples of a step: by default a twelfth of all, from 32 to 128, as a power of two."""
    if isinstance(batch_size, str):
        return int(2 ** np.clip(round(np.log2(n_samples / 12)), 5, 7))
    return int(batch_size)


def _n_held_out(fraction, n_samples):
    """Return how many samples to hold out: at least one, and not all."""
    if isinstance(fraction, str):
        n = min(round(_AUTO_FRACTION * n_samples), _MAX_VALIDATION)
    else:
        n = round(fraction * n_samples)
    return min(max(1, n), n_samples - 1)


def _held_out(model, inputs, n_held_out, random_state, device):
    """Return the indices of the validation set: any samples or, stratified, one of each group of similar misfit.

    The worst samples decide a mean log-density, and a validation set without its share of them would be a bad one.
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
