"""Base class of the estimators: the steps of a fit and the public methods."""

import warnings
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skae._fit import Fit, check_parameters, network_parameters
from skae._fitted import check_codes
from skae._restore import restored, to_state
from skae._torch import like_input, to_array, torch_defaults
from skae.data import parameters as check
from skae.data.checks import check_weights
from skae.data.context import ClassContext, NoContext
from skae.networks.export import exported
from skae.persistence import state as stored
from skae.training.callbacks import NamedCallbacks
from skae.training.net import snapshot
from skae.training.task_callbacks import CallbackSupportMixin, reported, with_callbacks


class BaseNetTransformer(
    CallbackSupportMixin, NamedCallbacks, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base class of skae's estimators: the steps of `fit` and the public methods.

    A subclass documents its parameters and defines five hooks: ``_starts`` (linear models by name), ``_model_class``
    (the network), ``_fitted_class`` (the fitted network), ``_check_parameters`` and ``_tables``. Public methods
    check samples with ``_open`` and delegate to ``_fitted``.
    """

    @torch_defaults()
    def fit(self, X, y=None, *, sample_weight=None, X_val=None):
        """Fit the network and keep the weights with the lowest validation loss.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Training samples: at least two, and at least as many as components. Missing values are nan. A sample
            without observed values is left out. A column without any is kept and filled with 0.

            - DataFrame: columns of text, categories or several kinds need a loss or likelihood that takes them; see the
              parameter.
            - sparse matrix: made dense one batch at a time. For the linear start it is made dense as a whole if it has
              at most 2^25 values, zeros included. Models with a loss or likelihood for each column do not take it.
            - `numpy.memmap` of more than 2^25 values: read in blocks, never as a whole. The linear start is fitted to a
              random subset of its samples.
        y : array-like of shape (n_samples,), default=None
            Class labels, if the model is conditional; otherwise ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, at least 0; None for equal ones. Samples of weight 0 are left out, and so are those
            whose weight is below 1e-6 of the mean weight. The linear start has weighted moments: at ``max_iter=0`` a
            weight of 2 is a sample twice. (With missing values this holds in distribution, since the start replaces
            them by draws.) Training minimises the weighted mean of the losses. There weights and repeated samples give
            similar results, not the same, since batches and validation set are random.
        X_val : array-like of shape (n_validation, n_features), default=None
            Validation set, in place of a random ``validation_fraction`` of X. Needs ``early_stopping=True``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X or a weight is invalid, if ``checkpoint`` holds another fit, or if processes
            that train together (``device="accelerate"``) get different data or parameters.
        TypeError
            If a parameter has the wrong type, or an own module cannot be built.
        OSError
            If ``checkpoint`` cannot be written when training begins, or another fit uses it now.
        RuntimeError
            If one of the other processes has ended.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skae import AutoencoderTransformer
        >>> X = load_digits().data
        >>> model = AutoencoderTransformer(4, max_iter=5, random_state=0).fit(X[:400], X_val=X[400:600])
        >>> model.best_loss_ <= model.linear_loss_
        True
        """
        self._forget()
        self._check_parameters()
        rows, y = self._open_training(X, y, sample_weight, reset=True, least=2)
        context = self._context_class().learn(y, len(rows), rows.weights)
        fit = Fit(self, self._table, rows, context, y, self._open_validation(X_val))
        with fit.checkpointed() as checkpoint:
            fit.start()
            fit.split()
            self._train(fit, checkpoint, X, y, sample_weight)
        self._store(fit, X)
        if rows.has_missing or (fit.is_trained and self._fitted_class.corrects_imputation):
            self._fitted.learn_imputation(rows, fit.validated, fit.processes)
        self._warn(fit.net, no_gain=fit.has_no_gain)
        return self

    @with_callbacks
    def _train(self, fit, checkpoint, *data):
        """Train, and report the epochs to scikit-learn's callbacks."""
        with reported(self, fit.net, fit.n_epochs, *data, lambda: self._attributes(fit, snapshot(fit.net))):
            fit.train(checkpoint)

    def _takes_batches(self):
        """Return True if samples may come in batches, or raise AttributeError: n_components needs a validation set."""
        if isinstance(self.n_components, Integral) or not isinstance(self.n_components, str | Real):
            return True
        raise AttributeError(
            f"n_components={self.n_components!r} is chosen on a validation set, and partial_fit has none. Call "
            "fit, or set an integer."
        )

    @available_if(lambda self: self._takes_batches())
    @torch_defaults()
    def partial_fit(self, X, y=None, *, classes=None, sample_weight=None):
        """Make one pass over these samples, at a constant learning rate and without validation.

        The first call fits the scaler and the linear start. After `fit`, training continues from the fitted weights.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            A batch of training samples; the first one needs more samples than components.
        y : array-like of shape (n_samples,), default=None
            Class labels, if the model is conditional; otherwise ignored.
        classes : array-like of shape (n_classes,), default=None
            All classes of a conditional model, at the first call; by default those of y. Otherwise ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples relative to the others of this batch; see `fit`.

        Returns
        -------
        self : object
            The estimator after this pass.

        Raises
        ------
        AttributeError
            If `fit` chooses ``n_components``, for which a validation set is needed.
        ValueError
            If the first batch has too few samples, or a parameter of the network has changed since.

        Notes
        -----
        A column of numbers that was constant so far is learned from the first batch in which it varies. Its mean and
        scale are those of this batch and one sample at the constant. Its reconstruction starts at a ridge regression on
        the codes. Both use the weights of the samples. A column that had no values so far is learned in the same way
        from the first batch that has some, without the sample at the constant.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from skae import AutoencoderTransformer
        >>> model = AutoencoderTransformer(4, random_state=0)
        >>> for batch in np.array_split(load_digits().data, 3):
        ...     model = model.partial_fit(batch)
        >>> model.n_iter_
        3
        """
        self._check_parameters()
        is_first = not self.__sklearn_is_fitted__()
        self._forget() if is_first else self._check_continues()
        rows, y = self._open_training(X, y, sample_weight, reset=is_first, least=2 if is_first else 1)
        if not len(rows):  # no sample of a later batch has a value
            return self
        if is_first and len(rows) <= self.n_components:
            raise ValueError(
                f"The first call of partial_fit needs more samples than n_components={self.n_components}, but X has "
                f"{len(rows)}: the scaler and the linear start are fitted to it. Pass a larger first batch."
            )
        if not is_first:
            rows = self._fitted.learn_columns(rows)
        if is_first:
            context = self._context_class().learn(y, len(rows), rows.weights, classes)
        else:
            context = self._fitted.context.updated(y, len(rows), rows.weights)
        fit = Fit(self, self._table, rows, context, y, seed=None if is_first else self._fitted.built.seed)
        fit.check_processes()
        fit.start() if is_first else fit.resume(self._fitted)
        fit.train_once()
        self._store(fit, X)
        self._warn(fit.net)
        return self

    def _check_continues(self):
        """Check that `partial_fit` may train the fitted network."""
        built = self._fitted.built
        if built.is_truncated:
            raise ValueError(
                "This estimator shares the network of the one it was truncated from, and cannot train it. Call fit "
                "to train a network of its own."
            )
        parameters = network_parameters(self, built.parameters["hidden_layer_sizes"])
        if changed := [name for name, value in parameters.items() if built.parameters[name] != value]:
            raise ValueError(
                f"{', '.join(changed)} changed since the network was built, and partial_fit continues with it. "
                "Restore the old value, or call fit."
            )

    @torch_defaults()
    def truncate(self, n_components):
        """Return a fitted estimator that keeps the first components and shares the network.

        Parameters
        ----------
        n_components : int
            From 1 to ``n_components_``.

        Returns
        -------
        object
            The truncated estimator. Its codes are the first columns of this estimator's codes. Its `fit` trains a new
            network; its `partial_fit` raises an error, since the network is shared. A later `partial_fit` of this
            estimator also changes the codes of the truncated one.

        Raises
        ------
        ValueError
            If the components are not ordered. They are with ``ordered=True``, or if `fit` chooses their number.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> model = AutoencoderTransformer(3, ordered=True, max_iter=0).fit(X)
        >>> model.truncate(2).transform(X).shape
        (150, 2)
        """
        check_is_fitted(self)
        if not self._fitted.built.is_ordered:
            raise ValueError(
                f"The components of this {type(self).__name__} are not ordered, so none can be left out. Fit it with "
                "ordered=True."
            )
        n_components = check.check_integer("n_components", n_components, 1)
        if n_components > self.n_components_:
            raise ValueError(
                f"n_components={n_components} must be at most n_components_={self.n_components_}. Fit it with more "
                "components."
            )
        truncated = clone(self)
        vars(truncated).update({name: vars(self)[name] for name in self._fitted_names()})
        vars(truncated).update(n_components=n_components, ordered=True, checkpoint=None)
        truncated._fitted = self._fitted.truncated(n_components)
        attributes = truncated._fitted.attributes()
        vars(truncated).update({name: like_input(value, self.mean_) for name, value in attributes.items()})
        return truncated

    def __sklearn_is_fitted__(self):
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        table = self._tables()[0]
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.input_tags.positive_only = table.support.positive_only
        tags.input_tags.sparse = table.accepts_sparse
        return tags

    @property
    def _n_features_out(self):
        return self.n_components_

    def _check_parameters(self):
        """Check the parameters that all estimators share; a subclass adds its own."""
        check_parameters(self)

    def _check_kinds(self, name, registry, of_columns):
        """Check the loss or likelihood: a name of a registry, "auto" or a mapping of columns to further names."""
        value = getattr(self, name)
        if isinstance(value, Mapping):
            for column, kind in value.items():
                check.check_choice(f"{name}[{column!r}]", kind, (*of_columns, "auto"))
        else:
            check.check_choice(name, value, (*registry, "auto"))
        check.check_choice("handle_unknown", self.handle_unknown, ("error", "ignore"))
        if self.feature_shape is not None and check.is_by_column(value, registry):
            raise ValueError(
                f"feature_shape={self.feature_shape!r} is for images, and {name}={value!r} for columns of different "
                "kinds. Leave one of them at its default."
            )

    def _forget(self):
        """Delete the attributes of an earlier fit, so that the estimator is not fitted if this fit fails."""
        for name in self._fitted_names():
            delattr(self, name)

    def _fitted_names(self):
        return [name for name in vars(self) if name.endswith("_") or name in ("_table", "_fitted")]

    def _is_conditional(self):
        return check.check_flag("conditional", getattr(self, "conditional", False))

    def _context_class(self):
        return ClassContext if self._is_conditional() else NoContext

    def _open(self, X, *, reset=False, **options):
        """Check samples and return them as a `RowSource` with the columns that the network sees."""
        if reset:
            *others, last = self._tables()
            self._table = next((table for table in others if table.takes(X)), last)
        return self._table.open(self, X, reset=reset, **options)

    def _open_training(self, X, y, sample_weight, *, least, reset):
        """Return weighted samples and their labels, without samples of weight 0 and those that have no value."""
        weights = check_weights(sample_weight, X, least, is_training=True)
        opened, y = self._open_labelled(X, y, weights, reset=reset, ensure_min_samples=least)
        rows, kept = opened.with_values()
        if reset and len(rows) < least:
            raise ValueError(
                f"X has values in {len(rows)} sample(s), but at least {least} are needed. Samples of which every value "
                "is missing are left out."
            )
        if y is not None and len(rows) < len(opened):
            check_consistent_length(np.empty(len(opened)), y)
            y = _safe_indexing(to_array(y), kept)
        return rows, y

    def _open_labelled(self, X, y, weights, **options):
        """Return samples with checked weights and their labels, without samples of weight 0."""
        rows = self._open(X, weights=weights, **options)
        if y is None or weights is None or np.ndim(y) == 0:
            return rows, y
        check_consistent_length(X, y)
        return rows, _safe_indexing(to_array(y), np.flatnonzero(weights))

    def _open_validation(self, X_val):
        if X_val is None:
            return None
        if not self.early_stopping:
            raise ValueError("X_val is used only with early_stopping=True. Set it, or leave X_val out.")
        if self._is_conditional():
            raise ValueError(
                "X_val has no class labels, so conditional=True cannot use it. Leave it out: fit then splits X."
            )
        rows, _ = self._open(X_val).with_values()
        if not len(rows):
            raise ValueError("Every value of X_val is missing, so it cannot be a validation set. Pass other samples.")
        return rows

    def _attributes(self, fit, net, before=None):
        """Return the fitted attributes of an estimator by name, for a net that may still be in training.

        ``net_`` is last, since it marks the estimator as fitted. ``before`` is the fitted network that is continued.
        """
        fitted = self._fitted_class(net, fit.built, fit.table, fit.context, fit.built.n_components)
        fitted.settle(self, fit.training, fit.held_out, fit.best, before)
        attributes = fit.context.attributes | fit.curves(fitted) | fitted.attributes()
        return attributes | {"_table": fit.table, "_fitted": fitted, "net_": net}

    def _store(self, fit, X):
        """Set the fitted attributes; arrays are tensors if X is one and scikit-learn dispatches to them."""
        attributes = self._attributes(fit, fit.net, vars(self).get("_fitted"))
        vars(self).update({name: like_input(value, X) for name, value in attributes.items()})

    def _warn(self, net, no_gain=False):
        """Warn at most once about how training ended. The stack above: a subclass, `fit`, its decorator, the caller."""
        name = type(self).__name__
        if net.outcome_ == "diverged":
            smaller = f", even after {net.returns_} reductions of the step size" if net.returns_ else ""
            warnings.warn(
                f"The loss was no longer finite, or far above that of the start, after {len(net.history)} epochs"
                f"{smaller}, so {name} keeps the best weights before that. Lower "
                f"learning_rate_init={self.learning_rate_init!r} or scale X.",
                ConvergenceWarning,
                stacklevel=5,
            )
        elif net.outcome_ == "interrupted":
            warnings.warn(
                f"Training was interrupted in epoch {len(net.history)}; the estimator is fitted with "
                f"{'the best' if self.early_stopping else 'the last'} weights so far.",
                UserWarning,
                stacklevel=5,
            )
        elif no_gain and self.n_iter_ > 0 and self.start != "random":
            warnings.warn(
                f"No epoch had a lower validation loss than the linear start, so {name} keeps that start. More "
                "samples or a lower learning_rate_init may help, or a linear model is enough for these data.",
                ConvergenceWarning,
                stacklevel=5,
            )

    # Encoding and decoding.

    def transform(self, X):
        """Encode samples.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Samples, in the units of the training samples.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            Codes, in float32 for float32 samples, else in float64.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> AutoencoderTransformer(2, max_iter=0).fit(X).transform(X).shape
        (150, 2)
        """
        check_is_fitted(self)
        return like_input(self._fitted.encode(self._open(X)), X)

    def inverse_transform(self, X):
        """Transform codes back to the original space.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes, as returned by `transform`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            Samples in units of X; in float32 for float32 codes, else in float64. A DataFrame if `fit` got one whose
            columns were encoded one by one (text, or a loss for each column). It has the index of X if that is a
            DataFrame, too.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> model = AutoencoderTransformer(2, max_iter=0).fit(X)
        >>> model.inverse_transform(model.transform(X)).shape
        (150, 4)
        """
        check_is_fitted(self)
        return like_input(self._table.decode_codes(self._fitted.decode(check_codes(self, X)), X), X)

    def local_components(self, X):
        """Return the components at each sample: the derivatives of its reconstruction with respect to its code.

        They are the change of each column per unit of one component, as ``components_`` of PCA are. For PCA, and at
        ``max_iter=0``, they are the same at all samples.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components_, n_features_in_)
            In units of X per unit of the code. The Jacobian of `inverse_transform` at ``transform(X)``; for a
            conditional model, its mean over the classes.

        Raises
        ------
        ValueError
            If each column has its own loss or likelihood, or X had text: categories have no derivative.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> model = AutoencoderTransformer(2, max_iter=0).fit(X)
        >>> bool(np.allclose(model.local_components(X), model.components_))
        True
        """
        check_is_fitted(self)
        rows = self._open(X)
        self._table.check_differentiable()
        return like_input(self._fitted.local_components(rows), X)

    def exported_part(self, part):
        """Return the module that `to_onnx` writes, and the columns of its input and its output.

        Parameters
        ----------
        part : {"encoder", "decoder", "autoencoder"}

        Returns
        -------
        module : torch.nn.Module
            (n, n_inputs) -> (n, n_outputs), both in float64.
        inputs, outputs : list of GraphColumn
        """
        check_is_fitted(self)
        check.check_choice("part", part, ("encoder", "decoder", "autoencoder"))
        module = self.net_.inference_module(torch.float32)
        return exported(part, module, self.n_components_, self._table, self._fitted.context)

    # Pickling.

    @torch_defaults()
    def __getstate__(self):
        """Return NumPy arrays and plain Python: the network is stored as weights, and `__setstate__` rebuilds it."""
        state = {name: to_array(value) for name, value in super().__getstate__().items() if name != "_skl_callbacks"}
        return to_state(stored.with_version(state))

    @torch_defaults()
    def __setstate__(self, state):
        """Check the whole state, which may come from an altered file, before a network is built from it."""
        state = stored.without_version(state, type(self))
        stored.check_names(state, type(self))
        super().__setstate__(restored(type(self), state) if "net_" in state else state)
