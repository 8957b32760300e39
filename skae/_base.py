"""What the estimators share: the recipe of a fit, its fitted state, and the way of rows through the net.

A subclass says what its parameters are (`_check_parameters`), which space its net works in (`_link`, `_raw`), what the
net and its objective are (`_build_module`, `_start`, `_objective`), what noise its inputs get (`_noise`), how many
components rows decide on (`_set_size`) and what it tells of each (`_keep_leading`). All else is here, once.
"""

from __future__ import annotations

import copy
import math
import warnings
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from importlib import import_module
from numbers import Integral, Real

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state, gen_batches
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn
from torch.utils.data import Subset, TensorDataset

from skae import _state as stored
from skae import _validation as check
from skae._checkpoint import Checkpoint, differences, fingerprint, glimpse, plain
from skae._columns import first_text, library_of, unmasked
from skae._distributed import is_shared, joined
from skae._engine import (
    BestWeights,
    Net,
    RowsDataset,
    StreamedDataset,
    check_net_state,
    corrupt,
    evaluation_batch,
    no_gradients,
    resolve_device,
    seeded_globals,
    torch_defaults,
)
from skae._streaming import FileRows, LazyRows, SparseRows, blocks, is_streamed, some_of
from skae.nn import (
    ACTIVATIONS,
    MLP,
    Completion,
    CorrectedLinear,
    ImageDecoder,
    ImageEncoder,
    doubling_levels,
    ignore_second_half,
    linear,
    stacked_linear,
)
from skae.starts import (
    Frame,
    fit_frame,
    has_gaps,
    hide,
    n_components_for,
    n_filling,
    observed_normal,
    raw_frame,
)

# Fitted state that is not for users; forgotten with the rest when fit begins.
PRIVATE_STATE = (
    "_container", "_design", "_width", "_used", "_is_cut", "_frame", "_code_scale", "_code_rows", "_codes",
    "_code_density", "_normal_shares", "_seed", "_plan",
)  # fmt: skip
# Of a row, in the graph that a refinement differentiates.
_COPIES = 8
# Share of the rows behind validation_fraction="auto", and the most: further ones would hardly judge better.
_AUTO_FRACTION, _MOST_HELD_OUT = 0.1, 1000
# Encoder widths behind hidden_layer_sizes="auto": of rows, and of images, which get few features from a convolution.
_AUTO_WIDTHS, _AUTO_IMAGE_WIDTHS = (256, 128), (128, 256)
# How much faster an ordered net trains, whose epochs are fewer.
_ORDERED_RATE = 2
# n_components="auto": the principal components that a net begins with explain this share, and are so many at most.
_AUTO_SHARE, _MOST_COMPONENTS = 0.99, 64
# The most numbers that the start is computed from where rows are sparse: 256 MB.
_MOST_STARTING = 2**25
# Numbers of rows that have entries hidden to learn how to fill gaps; the fewest and the most rows.
_NUMBERS_ASKED, _ROWS_ASKED = 2**15, (50, 500)
# Rows that decide what sizes are worth.
MOST_SIZED = 1000


class BaseNetTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The fit recipe and the fitted state of skae's estimators."""

    @torch_defaults()
    def fit(self, X, y=None, *, X_val=None):
        """Fit the net, from its start to the weights that held-out rows favour.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows: at least two, and at least as many as components. Entries may be missing, as nan, but not all
            of a row or of a column. A `numpy.memmap` of more than 2^25 numbers is read in blocks, never as a whole; its
            start is that of a sample.
        y : array-like of shape (n_samples,), default=None
            Ignored, but for a model that is conditional on it.
        X_val : array-like of shape (n_validation, n_features), default=None
            Rows that choose the weights, in place of a random ``validation_fraction`` of X. Needs
            ``early_stopping=True``.

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
            If ``checkpoint`` cannot be written when training begins, or another fit keeps its state there now.
        RuntimeError
            If another of these processes is gone.
        """
        self._forget()
        self._check_parameters()
        ranks = joined(self.device)
        X = self._check_rows(X, reset=True, ensure_min_samples=2)
        X_val = self._check_validation_rows(X_val)
        given = self._given(X, y)
        self._draw_seed(ranks)
        self._check_ranks(ranks, X=X, y=given, X_val=X_val)
        with self._open_checkpoint(ranks, X=X, y=given, X_val=X_val) as checkpoint:
            frame, net, code_scale, standardised = self._initialize(X, X_val, given)
            net.ranks, (frame, code_scale) = ranks, ranks.of_first(lambda: (frame, code_scale))
            rows, held_out = self._split(X, X_val, standardised, frame, net)
            del standardised
            epochs, patience = self._budget()
            best = BestWeights(patience, self.tol)
            with self._training_scope(net):
                net.train(rows, held_out, epochs, best, checkpoint)
        self._store(net, frame, code_scale, rows, best, held_out)
        if has_gaps(X) and self._link() == "identity":
            self._normal_shares = ranks.of_first(lambda: self._shares_of_normal(X))
        self._warn(net, nothing_better=held_out is not None and best.loss == best.start_loss)
        return self

    def _takes_pieces(self):
        """Whether rows may come in pieces: none that are held out need decide the number of components."""
        if isinstance(self.n_components, Integral) or not isinstance(self.n_components, str | Real):
            return True
        raise AttributeError(
            f"n_components={self.n_components!r} is decided by rows held out, and partial_fit holds none out. Call "
            "fit, or set an integer."
        )

    @available_if(lambda self: self._takes_pieces())
    @torch_defaults()
    def partial_fit(self, X, y=None):
        """One pass over these rows, at a constant learning rate and without validation.

        The first call decides mean, scale and start. After `fit` it goes on from the fitted weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A batch of training rows; the first one needs more rows than components.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The estimator, one pass further.
        """
        self._check_parameters()
        if getattr(self, "_is_cut", False):
            raise ValueError(
                "The net is that of the estimator this one was truncated from. Call fit for one of its own."
            )
        first = not self.__sklearn_is_fitted__()
        if first:
            self._forget()
        elif changed := [name for name, value in self._new_design().items() if self._design[name] != value]:
            raise ValueError(
                f"{', '.join(changed)} changed since the net was built, and partial_fit goes on with that net. "
                "Set back what changed, or call fit."
            )
        ranks = joined(self.device)
        X = self._check_rows(X, reset=first, ensure_min_samples=2 if first else 1)
        self._check_ranks(ranks, X=X)
        if first and len(X) <= self._least_components():
            raise ValueError(
                f"The first call of partial_fit needs more rows than n_components={self.n_components}, but X has "
                f"{len(X)}: they decide mean, scale and start. Pass a larger first batch."
            )
        if first:
            self._draw_seed(ranks)
            frame, net, code_scale, standardised = self._initialize(X)
            frame, code_scale = ranks.of_first(lambda: (frame, code_scale))
        else:
            frame, net, code_scale, standardised = self._frame, self.net_, self._code_scale, _to_net(self._frame, X)
            net.prepare_pass(self._seed + self.n_iter_, _batch_size(self.batch_size, len(X)))
        net.ranks, net.lr = ranks, self.learning_rate_init
        rows = self._dataset(X, standardised, frame, net.device)
        with self._training_scope(net):
            net.train_once(rows)
        self._store(net, frame, code_scale, rows)
        self._warn(net)
        return self

    @torch_defaults()
    def truncate(self, n_components):
        """The estimator with fewer components: its codes are the first columns, and the net is shared.

        Parameters
        ----------
        n_components : int
            From 1 to ``n_components_``.

        Returns
        -------
        object
            Such an estimator, fitted. `fit` trains it anew; `partial_fit` is refused, since the net is not its own. A
            later `partial_fit` of the estimator it comes from changes its codes, too.

        Raises
        ------
        ValueError
            If the components are in no order. It takes ``ordered=True``, or to leave their number to `fit`.
        """
        check_is_fitted(self)
        if not self._design["ordered"]:
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
        vars(truncated).update(n_components=n_components, ordered=True, checkpoint=None)
        fitted = [name for name in vars(self) if name.endswith("_") or name in PRIVATE_STATE]
        vars(truncated).update({name: vars(self)[name] for name in fitted})
        truncated.n_components_, truncated._is_cut = n_components, True
        truncated._keep_leading(n_components)
        truncated._set_components(self.net_)
        return truncated

    def __sklearn_is_fitted__(self):
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        return tags

    @property
    def _n_features_out(self):
        return self.n_components_

    # Hooks of the recipe.

    def _check_parameters(self):
        """Check the parameters that all estimators share; a subclass adds its own."""
        check.check_widths("hidden_layer_sizes", self.hidden_layer_sizes)
        check.check_choice("activation", self.activation, ACTIVATIONS)
        check.check_real("alpha", self.alpha)
        check.check_factory("encoder", self.encoder)
        check.check_factory("decoder", self.decoder)
        check.check_feature_shape(self.feature_shape)
        if not (isinstance(self.batch_size, str) and self.batch_size == "auto"):
            check.check_integer("batch_size", self.batch_size, 1, extra=", or 'auto'")
        check.check_real("learning_rate_init", self.learning_rate_init, open_low=True)
        check.check_integer("max_iter", self.max_iter, 0)
        check.check_flag("early_stopping", self.early_stopping)
        if not (isinstance(self.validation_fraction, str) and self.validation_fraction == "auto"):
            fraction = self.validation_fraction
            check.check_real("validation_fraction", fraction, high=1.0, open_low=True, extra=", or 'auto'")
        check.check_integer("n_iter_no_change", self.n_iter_no_change, 1)
        check.check_real("tol", self.tol)
        check.check_folder("checkpoint", self.checkpoint)
        check.check_callbacks(self.callbacks)
        resolve_device(self.device)

    def _check_order(self):
        """Check that components can be in order, if they are to be."""
        check.check_flag("ordered", self.ordered)
        if self.start == "random" and (self.ordered or self._chooses_size()):
            raise ValueError(
                f"ordered={self.ordered} with n_components={self.n_components!r} asks for components in order, which a "
                f"start at random has not. Use start={self._linear_starts[0]!r}, or ordered=False and an integer."
            )

    def _new_design(self):
        """The parameters that decide what net is built and what it minimises, as they were when it was built."""
        names = ("n_components", "activation", "start", "encoder", "decoder", "alpha")
        design = {name: getattr(self, name) for name in names} | {"ordered": self.ordered or self._chooses_size()}
        design["feature_shape"] = check.check_feature_shape(self.feature_shape)
        widths = check.check_widths("hidden_layer_sizes", self.hidden_layer_sizes)
        if widths == "auto":
            widths = _AUTO_WIDTHS if self.feature_shape is None else _AUTO_IMAGE_WIDTHS
        return design | {"hidden_layer_sizes": widths}

    def _raw(self):
        """Whether rows go to the net as they are: to own modules that start at random."""
        return self._design["start"] == "random" and bool(self._design["encoder"] or self._design["decoder"])

    # Starts that are not random, the default first.
    _linear_starts = ()
    # Whether each column gets a scale of its own; one for all keeps PCA's geometry.
    _scale_per_column = False
    # Whether anything asks for the spread of raw columns.
    _needs_spread = True
    # Whether the loss has a unit, which gradients then are freed of.
    _relative_loss = False
    # The share of max_iter that an ordered net trains: its epochs cost more than others.
    _ordered_share = 1.0

    def _takes_sparse(self):
        """Whether X may be a sparse matrix; `_check_sparse_values` then checks it."""
        return False

    def _streams(self):
        """Whether rows in a large file are left there."""
        return True

    def _evaluation_draws(self, device):
        """The draws of codes that evaluations share, for a net that samples, or None."""

    def _refusal_of_text(self, column, value):
        """The message to who gives a column of categories or strings, with such a value, to a model of numbers."""
        return (
            f"{type(self).__name__} takes numbers, but column {column!r} of X has {value!r}. Encode such columns, for "
            "example with sklearn.preprocessing.OneHotEncoder, or use VAEGenerator(likelihood='auto'), which takes "
            "them as they are."
        )

    def _n_outputs(self, module):
        """Rows that an evaluation decodes for one."""
        return 1

    def _output_mean(self, module):
        """The function from what this module decodes to the mean of a row, before `Frame.from_net`."""
        raise NotImplementedError

    def _n_decoded(self, n_components):
        """How many numbers of a code of so many are decoded, the first ones."""
        return n_components

    def _set_size(self, net, rows):
        """Set ``n_components_``, and what else these rows, held out if any are, say about sizes."""
        self.n_components_ = self._width

    def _keep_leading(self, n_components):
        """Cut what is told by component, and tell anew what a smaller code changes."""

    def _linear_decoder(self, module):
        """The module whose linear path `components_` tells."""
        return module.decoder_of(self.n_components_) if self._design["ordered"] else module.decoder

    def _noise(self, frame):
        """Standard deviation a column of the noise on the net's inputs, or None."""

    def _given(self, X, y):
        """What the net is given beside these rows, (n_samples, n_given), or None."""

    def _hold_out(self, net, standardised, n_held_out, rng):
        """Indices of the rows that are held out."""
        return some_of(len(standardised), n_held_out, rng)

    # Steps of the recipe.

    def _chooses_size(self):
        """Whether the number of components is left to `fit`."""
        return not isinstance(self.n_components, Integral)

    def _budget(self):
        """Epochs at most, and epochs without an improvement after which training ends."""
        if not (self.ordered or self._chooses_size()):
            return int(self.max_iter), self.n_iter_no_change  # torch takes no number of NumPy's
        epochs = math.ceil(self._ordered_share * self.max_iter)
        return epochs, max(self.n_iter_no_change, epochs // 2)

    def _peak_rate(self):
        """Adam's largest step in `fit`."""
        return float(self.learning_rate_init) * (_ORDERED_RATE if self._design["ordered"] else 1)

    def _net_components(self, standardised):
        """Numbers in a code of the net, for these rows."""
        n_components = self._design["n_components"]
        if isinstance(n_components, Integral):
            return n_components
        if n_components == "auto":
            return min(n_components_for(standardised, _AUTO_SHARE), _MOST_COMPONENTS)
        return n_components_for(standardised, (1 + n_components) / 2)

    def _least_components(self):
        """How many components rows must at least allow."""
        return self.n_components if isinstance(self.n_components, Integral) else 1

    def _forget(self):
        """Drop what an earlier fit left, so that a fit that fails leaves an estimator that is not fitted."""
        for name in [name for name in vars(self) if name.endswith("_") or name in PRIVATE_STATE]:
            delattr(self, name)

    def _check_rows(self, X, *, reset=False, ensure_min_samples=1):
        if reset:
            library = library_of(X)
            self._container = (library, list(X.columns)) if library else None
        X = unmasked(X)
        options = {"dtype": check.FLOATS, "ensure_min_samples": ensure_min_samples, "ensure_all_finite": "allow-nan"}
        if is_streamed(X) and self._streams():
            return self._check_file(X, reset, options)
        try:
            X = validate_data(self, X, reset=reset, accept_sparse="csr" if self._takes_sparse() else False, **options)
        except ValueError as error:
            if not reset or (text := first_text(X)) is None:
                raise
            raise ValueError(self._refusal_of_text(*text)) from error
        if issparse(X):
            if not X.has_canonical_format:
                X = X.copy()
                X.sum_duplicates()
            self._check_sparse_values(X)
            return SparseRows(X)
        if reset and has_gaps(X):
            check.check_gaps(X, getattr(self, "feature_names_in_", None))
        self._check_values(X)
        return X

    def _check_file(self, X, reset, options):
        """Rows in a file, checked a block at a time: a check of all at once would copy them, or a mask of them."""
        validate_data(self, X[: options["ensure_min_samples"]], reset=reset, **options)
        del options["ensure_min_samples"]  # of a block
        rows = FileRows(X)
        for part in blocks(rows):
            block = check_array(rows[part], input_name="X", estimator=self, **options)
            rows.has_gaps = rows.has_gaps or has_gaps(block)
            self._check_values(block)
        if reset and rows.has_gaps:
            check.check_gaps(rows, getattr(self, "feature_names_in_", None))
        return rows

    def _check_validation_rows(self, X_val):
        if X_val is None:
            return None
        if not self.early_stopping:
            raise ValueError("X_val chooses the weights only with early_stopping=True. Set it, or leave X_val out.")
        X_val = self._check_rows(X_val)
        if isinstance(X_val, np.ndarray) and np.isnan(X_val).all():
            raise ValueError("In X_val every value is missing, and nothing can be chosen by that. Pass other rows.")
        return X_val

    def _draw_seed(self, ranks):
        """Take the one draw from ``random_state`` that all randomness of a fit comes from."""
        drawn = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._seed = ranks.of_first(lambda: drawn)

    def _identity(self, describe, data):
        """The parameters that decide a fit, and its data, in words."""
        names = stored.parameter_names(type(self))
        parameters = {name: getattr(self, name) for name in names if name not in ("checkpoint", "verbose")}
        if not (self.random_state is None or isinstance(self.random_state, Integral)):
            parameters["random_state"] = f"generator whose draw was {self._seed}"
        parameters["device"] = resolve_device(self.device).type
        identity = {"estimator": type(self).__name__} | {name: plain(value) for name, value in parameters.items()}
        return identity | {name: describe(rows) for name, rows in data.items()}

    def _check_ranks(self, ranks, **data):
        """Check that all processes of a fit are about to do the same."""
        if ranks.size == 1:
            return
        identities = ranks.all(self._identity(glimpse, data) | {"random_state": None})
        for rank, identity in enumerate(identities):
            if different := differences(identities[0], identity):
                raise ValueError(
                    f"Process {rank} of this fit was given another one than process 0: {different}. Give all the same "
                    "rows, of which each takes its share by itself, and the same parameters."
                )

    def _open_checkpoint(self, ranks, **data):
        """What a fit goes on from and keeps its state in, if anything; the seed is that of its beginning."""
        if self.checkpoint is None:
            return nullcontext()
        checkpoint = ranks.of_first(lambda: Checkpoint(self.checkpoint, self._identity(fingerprint, data), self._seed))
        self._seed = checkpoint.seed
        return checkpoint

    def _initialize(self, X, X_val=None, given=None):
        """The frame of X, the net at its start, the scale of its codes, and the rows as the net sees them.

        What the net is given beside these are the last columns of the latter.
        """
        if self._least_components() > len(X):
            raise ValueError(
                f"n_components={self.n_components} is more than the {len(X)} rows of X. Use at most as many "
                "components as rows."
            )
        self._design = self._new_design() | {"gaps": has_gaps(X) or (X_val is not None and has_gaps(X_val))}
        if self._design["feature_shape"] is not None:
            check.check_fits_columns(self._design["feature_shape"], X.shape[1])
        frame = (
            raw_frame(X, self._needs_spread)
            if self._raw()
            else fit_frame(X, self._link(), per_column=self._scale_per_column)
        )
        with np.errstate(over="ignore", under="ignore"):
            total = np.square(frame.scale, dtype=np.float64) * X.size
        if not (usual := (total > 0) & (total < np.inf)).all():
            spread = np.extract(~usual, frame.scale).max()
            raise ValueError(
                f"The spread of X, {spread:g}, is beyond what floating point can square. Rescale X by a constant."
            )
        standardised = _to_net(frame, X)
        if given is not None:
            standardised = np.hstack([standardised, given.astype(standardised.dtype)])
        complete, normal, n_columns = standardised, None, standardised.shape[1]
        if isinstance(standardised, LazyRows):  # what a closed form needs dense, a sample of rows
            most = X.at_once() if isinstance(X, FileRows) else _MOST_STARTING // X.shape[1]
            most = max(2 * self._least_components(), most, 2)
            complete = standardised[some_of(len(X), most, np.random.RandomState(self._seed))]
            if has_gaps(standardised):
                complete[0, np.isnan(complete).all(axis=0)] = 0  # of a column that is missing from the sample
        if has_gaps(standardised):
            rng = np.random.RandomState(self._seed)
            n_components = self.n_components if isinstance(self.n_components, Integral) else 1
            normal = observed_normal(complete, n_components, rng)
            complete = normal.draw(complete, rng)
        self._width = self._net_components(complete)
        self._normal_shares = np.zeros(self._width)
        module = self._build_module(X.shape[1]).double()
        code_scale, of_start = self._start(module, frame, complete, np.random.RandomState(self._seed))
        filling = (normal or of_start).leading(n_filling(self._width, n_columns))
        module.completion.start_at(*map(torch.from_numpy, filling))
        net = self._build_net(module, frame, len(X), resolve_device(self.device))
        return frame, net, code_scale, standardised

    def _build_net(self, module, frame, n_samples, device):
        noise, draws = self._noise(frame), self._evaluation_draws(device)
        return Net(
            module,
            self._objective(frame, module),
            width=len(frame.mean) * self._n_outputs(module) * (_COPIES if module.n_refinements else 1),
            draws=draws,
            alpha=self._design["alpha"],
            relative=self._relative_loss and self._design["start"] != "random",
            averaged=self._design["start"] != "random",
            clipped=self._design["feature_shape"] is not None and not self._design["ordered"],
            lr=self._peak_rate(),
            batch_size=_batch_size(self.batch_size, n_samples),
            iterator_train__generator=_generator(self._seed, device),
            iterator_train__noise=None if noise is None else torch.tensor(noise, dtype=torch.float32, device=device),
            callbacks=None if self.callbacks is None else clone(list(self.callbacks), safe=False),
            progress=type(self).__name__ if self.verbose else None,
            uses_globals=bool(self._design["encoder"] or self._design["decoder"]),
            device=device,
        ).initialize()

    def _encoder(self, n_features, n_out, generator):
        """The net's encoder and what fills gaps for it; where the training rows have gaps, our own is told of them."""
        masked = self._design["gaps"] and not self._design["encoder"]
        half = n_out, self._design["hidden_layer_sizes"], self._design["encoder"], generator, "encoder"
        encoder = self._coder(n_features * (2 if masked else 1), *half)
        if masked:
            ignore_second_half(encoder)
        return encoder, Completion(n_features, n_filling(self._width, n_features), masked)

    def _start_encoder(self, module, weight, bias, complete, input_unit, unit):
        """Let the encoder begin at this linear map of filled rows; it has yet to learn what gaps mean."""
        inputs = torch.from_numpy(np.stack([complete.min(axis=0), complete.max(axis=0)]))
        n_masked = inputs.shape[1] if module.completion.masked else 0
        inputs = torch.cat([inputs, torch.tensor([[0.0], [1.0]]).expand(2, n_masked)], dim=1)
        weight = nn.functional.pad(weight, (0, n_masked))
        input_unit = nn.functional.pad(input_unit, (0, n_masked), value=1)
        module.encoder.start_at(weight, bias, input_unit, unit, inputs)

    def _coder(self, n_in, n_out, widths, factory, generator, name, levels=()):
        """One half of the net: a linear path and its correction, or a user's own module alone if it takes raw rows.

        The correction is a user's own module, else a convolutional net if rows are images, else a dense one.

        With levels there is one for each; a user's own module then serves all.
        """
        path = stacked_linear(levels, n_in, n_out, generator) if levels else linear(n_in, n_out, generator)
        if factory is not None:
            own = self._own_correction(factory, n_in, n_out, generator, name, len(levels))
            return own if self._raw() else CorrectedLinear(path, own)
        shape, activation = self._design["feature_shape"], self._design["activation"]
        if shape is not None:
            if name == "encoder":
                seen = (n_in // math.prod(shape[1:]), *shape[1:])  # where rows were filled is an image, too
                return CorrectedLinear(path, ImageEncoder(seen, [*widths, n_out], activation, generator))
            n_images = n_out // math.prod(shape)
            return CorrectedLinear(path, ImageDecoder(shape, [n_in, *widths], n_images, activation, generator, levels))
        if not widths:
            return CorrectedLinear(path)
        return CorrectedLinear(path, MLP([n_in, *widths, n_out], activation, generator, levels))

    def _split(self, X, X_val, standardised, frame, net):
        """Training and validation rows as datasets; the latter None without early stopping."""
        if X_val is not None:
            held_out = self._dataset(X_val, _to_net(frame, X_val), frame, net.device)
            return self._dataset(X, standardised, frame, net.device), self._with_noise(held_out, frame)
        if not self.early_stopping:
            return self._dataset(X, standardised, frame, net.device), None
        n_held_out = _n_held_out(self.validation_fraction, len(X))
        drawn = self._hold_out(net, standardised, n_held_out, np.random.RandomState(self._seed))
        dataset = self._dataset(X, standardised, frame, net.device)
        if isinstance(X, FileRows):
            drawn.sort()
            rows = self._dataset(X.without(drawn), standardised.without(drawn), frame, net.device)
            return rows, self._with_noise(Subset(dataset, torch.from_numpy(drawn).to(net.device)), frame)
        parts = np.delete(np.arange(len(X)), drawn), drawn
        rows, held_out = (Subset(dataset, torch.from_numpy(part).to(net.device)) for part in parts)
        return rows, self._with_noise(held_out, frame)

    def _dataset(self, X, standardised, frame, device):
        """Inputs and targets on the device: one tensor where the net's output is in its input's units."""
        if isinstance(X, LazyRows):
            kind = StreamedDataset if isinstance(X, FileRows) else RowsDataset
            return kind(standardised, standardised if frame.link == "identity" else X, device)
        inputs = torch.from_numpy(standardised).to(device, torch.float32)
        if frame.link == "identity":
            return TensorDataset(inputs, inputs if inputs.shape[1] == X.shape[1] else inputs[:, : X.shape[1]])
        return TensorDataset(inputs, torch.tensor(X, dtype=torch.float32, device=device))

    def _with_noise(self, held_out, frame):
        """Held-out rows with one fixed draw of the noise that training rows get, so that both losses mean the same."""
        noise = self._noise(frame)
        if noise is None:
            return held_out
        inputs, targets = held_out[:]
        noise = torch.tensor(noise, dtype=torch.float32, device=inputs.device)
        return TensorDataset(corrupt(inputs, noise, _generator(self._seed, inputs.device)), targets)

    def _training_scope(self, net):
        """Users' own modules draw dropout from torch's global generators: seed these, and restore them after."""
        if self.encoder is None and self.decoder is None:
            return nullcontext()
        return seeded_globals(self._seed + len(net.history), net.device)

    def _store(self, net, frame, code_scale, rows, best=None, held_out=None):
        """Set the fitted attributes, the net last: it is what makes the estimator fitted."""
        self._frame, self._code_scale = frame, code_scale
        self.mean_ = frame.mean
        self._set_size(net, rows if held_out is None else held_out)
        epochs = [row for row in net.history if "dur" in row]  # one that was cut short has none
        self.n_iter_ = len(epochs)
        in_units = partial(self._in_units, frame=frame, shares=self._observed_shares(rows))
        self.loss_curve_ = [in_units(row["train_loss"]) for row in epochs]
        self.validation_loss_curve_ = self.best_loss_ = self.linear_loss_ = None
        if best is not None:
            if self.early_stopping:
                in_units = partial(self._in_units, frame=frame, shares=self._observed_shares(held_out))
                self.validation_loss_curve_ = [in_units(row["valid_loss"]) for row in epochs]
            finite = [loss for loss in self.loss_curve_ if np.isfinite(loss)]
            judged = self.early_stopping or not finite
            self.best_loss_ = in_units(best.loss) if judged else min(finite)
            if self._design["start"] != "random":
                self.linear_loss_ = in_units(best.start_loss)
        self._set_components(net)
        self.net_ = net

    def _set_components(self, net):
        decoder = self._linear_decoder(net.module_)
        if isinstance(decoder, CorrectedLinear):
            weight = decoder.linear_map()[0].numpy(force=True)[: len(self.mean_), : self.n_components_]
            self.components_ = (weight / self._code_scale[: weight.shape[1]]).T * self._output_unit(self._frame)

    def _warn(self, net, nothing_better=False):
        """At most one warning about how training ended; above are a subclass, `fit`, its decorator, and who called."""
        if net.outcome_ == "diverged":
            smaller = f", nor with steps made smaller {net.returns_} times" if net.returns_ else ""
            warnings.warn(
                f"The loss was no longer finite after {len(net.history)} epochs{smaller}, so {type(self).__name__} "
                "went back to the best weights before. Lower "
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
        elif nothing_better and self.n_iter_ > 0 and self.start != "random":
            warnings.warn(
                f"No epoch beat the linear start on the held-out rows, so this {type(self).__name__} is its linear "
                "start. More rows may help, or a lower learning_rate_init; or the data are linear and need no net.",
                ConvergenceWarning,
                stacklevel=5,
            )

    # Rows through the fitted net.

    def transform(self, X):
        """The codes of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            In float32 for float32 rows, else in float64.
        """
        check_is_fitted(self)
        return self._encode(self._check_rows(X))

    def inverse_transform(self, X):
        """The rows that codes stand for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes, as `transform` gives them.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            Rows in units of the training rows; in float32 for float32 codes, else in float64.
        """
        return self._decode(self._check_codes(X))

    def _check_codes(self, Z):
        check_is_fitted(self)
        Z = check_array(Z, dtype=check.FLOATS, input_name="X", estimator=self)
        check.check_code_width(self, Z.shape[1], self.n_components_)
        return Z

    def _encode(self, X):
        def encode(rows):
            codes = self._apply("encode", self._frame.to_net(rows))[:, : self.n_components_].numpy(force=True)
            return codes * self._code_scale[: self.n_components_].astype(rows.dtype)

        return self._map_rows(X, encode, self.n_components_, width=self.net_.width)

    def _decode(self, Z):
        def decode(codes):
            scale = self._code_scale[: codes.shape[1]].astype(codes.dtype)
            rows = self._inverse_link(self._apply("decode", codes / scale))
            return self._frame.from_net(rows.numpy(force=True))

        return self._map_rows(Z, decode, len(self._frame.mean))

    def _observed_shares(self, rows):
        """The share of entries that are not missing, of each column of the targets of a dataset, or one."""
        if not self._design["gaps"]:
            return 1.0
        if isinstance(rows, StreamedDataset):
            return sum((~rows[part][1].isnan()).sum(0) for part in blocks(rows.inputs)).numpy(force=True) / len(rows)
        return (~rows[:][1].isnan()).double().mean(0).numpy(force=True)

    def _in_container(self, rows, like=None):
        """Rows as what was fitted, an array or a DataFrame of that library and these names, indexed as ``like`` is."""
        if self._container is None:
            return rows
        library, names = self._container
        frame = import_module(library).DataFrame(dict(zip(names, rows.T, strict=True)))
        return frame.set_index(like.index) if library == library_of(like) == "pandas" else frame

    def _filled(self, X):
        """Rows whose gaps are filled: by the net, but for the normal model's share."""
        share, with_gaps = self._normal_shares[self.n_components_ - 1], np.flatnonzero(np.isnan(X).any(axis=1))
        filled = X.copy()
        if len(with_gaps):
            rows = X[with_gaps]
            means = self._filled_by_net(rows)
            filled[with_gaps] = means + share * (self._filled_by_normal(rows) - means) if share else means
        return filled

    def _filled_by_normal(self, X):
        """Rows whose gaps are filled as those of the encoder's are."""
        completion, device = self.net_.module_.completion, self.net_.device
        n_columns, n_components = completion.loadings.shape
        n_given = n_columns - X.shape[1]  # of which nothing is known

        def fill(rows):
            inputs = np.pad(self._frame.to_net(rows), [(0, 0), (0, n_given)], constant_values=np.nan)
            with no_gradients():
                complete = completion.fill(torch.from_numpy(inputs).to(device, torch.float64))
            complete = complete.numpy(force=True)[:, : X.shape[1]].astype(X.dtype)
            return np.where(np.isnan(rows), self._frame.from_net(complete), rows)

        return self._map_rows(X, fill, X.shape[1], width=max(n_columns, n_components**2))

    def _shares_of_normal(self, X):
        """The normal model's share in what gaps are filled with, for each size of codes; found for some of them."""
        shares = np.zeros(self._width)
        for size in doubling_levels(self.n_components_) if self._design["ordered"] else [self.n_components_]:
            model = self if size == self.n_components_ else self.truncate(size)
            shares[size - 1 :] = model._share_of_normal(X)
        return shares

    def _share_of_normal(self, X):
        """The share with the least squared error on entries, in standard deviations, that are hidden for it."""
        rng = np.random.RandomState(self._seed)
        rows = X[some_of(len(X), int(np.clip(_NUMBERS_ASKED // X.shape[1], *_ROWS_ASKED)), rng)]
        hidden = hide(rows, rng)
        seen = np.where(hidden, np.nan, rows)
        units = fit_frame(X, "identity", per_column=True).scale  # nets that take raw rows have no spread
        means = self._filled_by_net(seen)
        step, error = (((of - means) / units)[hidden] for of in (self._filled_by_normal(seen), rows))
        size = step @ step
        return float(np.clip(step @ error / size, 0, 1)) if size > 0 else 0.0

    def _map_rows(self, X, function, n_out, dtype=None, width=None):
        """``function`` of blocks of rows, stacked: memory is bounded, whatever the number of rows."""
        out = np.empty((len(X), n_out), dtype=dtype or X.dtype)
        for rows in gen_batches(len(X), evaluation_batch(width or self.n_features_in_)):
            out[rows] = function(X[rows])
        return out

    def _apply(self, method, rows):
        """A method of the fitted module on an array, in the array's precision."""
        with no_gradients():
            module = self.net_.inference_module(torch_dtype(rows))
            return getattr(module, method)(torch.from_numpy(np.ascontiguousarray(rows)).to(self.net_.device))

    # What a pickle holds.

    def __getstate__(self):
        """NumPy arrays and plain Python: the net goes as its weights, and is built again by `__setstate__`."""
        state = stored.with_version(super().__getstate__())
        if "net_" in state:
            state["net_"] = state["net_"].get_state()
            state["_frame"] = asdict(state["_frame"])
        return state

    @torch_defaults()
    def __setstate__(self, state):
        """Check all of the state before a net takes it in: it may come from a file that someone changed."""
        state = stored.without_version(state, type(self))
        stored.check_names(state, type(self))
        if "net_" not in state:
            super().__setstate__(state)
            return
        n_features = self._check_state(state)
        super().__setstate__(self._revived(state))
        try:
            module = self._build_module(n_features).double()
        except Exception as error:  # of an encoder or a decoder that is something else now
            raise stored.fault("the net", f"cannot be built: {error}") from error
        check_net_state(state["net_"], module)
        try:
            device = resolve_device("auto" if is_shared(self.device) else self.device)
        except ValueError:  # fitted on a device that this machine lacks
            device = torch.device("cpu")
        self.net_ = self._build_net(module, self._frame, 1, device).set_state(state["net_"])
        self._check_net()

    def _check_state(self, state):
        """Check fitted attributes, as `__getstate__` gives them; the number of the net's columns is returned."""
        design = stored.get(state, "_design")
        self._check_design(design, {name: stored.get(state, name) for name in stored.parameter_names(type(self))})
        raw = design["start"] == "random" and bool(design["encoder"] or design["decoder"])
        n = stored.check_frame(stored.get(state, "_frame"), self._link_of(state), raw, self._scale_per_column)
        width = stored.check_integer(state, "_width", 1)
        n_components = stored.check_integer(state, "n_components_", 1, width)
        stored.check_integer(state, "_seed", 0, 2**32 - 1)
        stored.check_integer(state, "n_iter_")
        stored.check_array(state, "_code_scale", (width + self._n_given(state),), low=0)
        stored.check_array(state, "_normal_shares", (width,), low=0, high=1)
        stored.check_array(state, "mean_", (n,))
        if "components_" in state:
            stored.check_array(state, "components_", (n_components, n))
        for name in ("best_loss_", "linear_loss_"):
            stored.check_number(state, name, optional=True)
        stored.check_numbers(state, "loss_curve_")
        stored.check_numbers(state, "validation_loss_curve_", optional=True)
        if "_is_cut" in state:
            stored.check_one_of(state, "_is_cut", [True, False])
        n_columns = stored.check_integer(state, "n_features_in_", 1)
        if n_columns != (n if state.get("_plan") is None else len(state["_plan"]["columns"])):
            raise stored.fault("n_features_in_", f"is {n_columns}, which is not the number of columns of the rest")
        stored.check_container(stored.get(state, "_container"), n_columns)
        if "feature_names_in_" in state:
            stored.check_array(state, "feature_names_in_", (n_columns,), object)
        if not (design["encoder"] and design["decoder"]):
            net = stored.get(state, "net_")
            weights = net.get("weights") if isinstance(net, dict) else None
            n_weights = sum(map(np.size, weights.values())) if isinstance(weights, dict) else 0
            stored.check_widths("hidden_layer_sizes", [n, *design["hidden_layer_sizes"], width], n_weights)
        return n

    def _check_design(self, design, parameters):
        """Check the parameters that the net was built by, and those it would now be built by, as `fit` checks them."""
        if not isinstance(design, dict) or not isinstance(design.get("gaps"), bool):
            raise stored.fault("_design", "is no dict that says whether there were gaps")
        probe = type(self).__new__(type(self))
        of_net = {name: value for name, value in design.items() if name in parameters}
        vars(probe).update(parameters | of_net | {"device": "cpu"})
        try:
            probe._check_parameters()
        except (ValueError, TypeError) as error:
            raise stored.fault("a parameter", f"is not one that fit takes ({error})") from error
        expected = probe._new_design() | {"gaps": design["gaps"]}
        if design.keys() != expected.keys() or design != expected:
            raise stored.fault("_design", "is not what its own values make of it")

    def _link_of(self, state):
        """The link that the frame of a state must have."""
        probe = type(self).__new__(type(self))
        vars(probe).update(_design=state["_design"], _plan=state.get("_plan"))
        return "identity" if probe._raw() else probe._link()

    def _n_given(self, state):
        """How many numbers the net of a state is given beside rows and codes."""
        return 0

    def _revived(self, state):
        """The state with objects in place of the dicts that they are saved as."""
        return state | {"_frame": Frame(**state["_frame"])}

    def _check_net(self):
        """Check that a typical row has a code, and a typical code a row, of finite numbers."""
        inputs = torch.from_numpy(self._frame.to_net(self._frame.mean[None])).to(self.net_.device)
        if not self._frame.raw:
            inputs = inputs + torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64).to(inputs)
        with no_gradients():
            codes = self.net_.module_.encode(inputs)
            rows = self.net_.module_.decode(codes)
            scaled = 100 * codes * torch.from_numpy(self._code_scale[: codes.shape[1]]).to(codes)  # of unusual rows
        if not (scaled.isfinite().all() and rows.isfinite().all()):
            raise stored.fault("the net", "makes numbers that are not finite of a typical row")


def _to_net(frame, X):
    """Rows as the net sees them; of lazy ones, what makes them that when they are asked for."""
    return X.through(frame.to_net) if isinstance(X, LazyRows) else frame.to_net(X)


def torch_dtype(X):
    """Torch's name for the precision of an array."""
    return torch.float32 if X.dtype == np.float32 else torch.float64


def _generator(seed, device):
    return torch.Generator(device).manual_seed(seed)


def _batch_size(batch_size, n_samples):
    """Rows a step: by default a twelfth of the rows, from 32 to 128, as a power of two."""
    if isinstance(batch_size, str):
        return int(2 ** np.clip(round(np.log2(n_samples / 12)), 5, 7))
    return int(batch_size)


def _n_held_out(fraction, n_samples):
    """Rows to hold out: at least one, and not all."""
    if isinstance(fraction, str):
        n = min(round(_AUTO_FRACTION * n_samples), _MOST_HELD_OUT)
    else:
        n = round(fraction * n_samples)
    return min(max(1, n), n_samples - 1)


def build_own(factory, n_in, n_out, generator, name, any_width=False):
    """A user's own module, its initial weights seeded and its output checked, and its width."""
    seed = int(generator.initial_seed())
    with seeded_globals(seed, torch.device("cpu")):
        try:
            module = factory(n_in, n_out)
        except TypeError as error:
            raise TypeError(f"{name} must be a callable (n_in, n_out) -> torch.nn.Module: {error}") from error
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name}({n_in}, {n_out}) must return a torch.nn.Module, got {type(module).__name__}.")
        module.float()  # torch's default dtype may be another
        try:
            with no_gradients():
                single = torch.randn(2, n_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
                double = single.double()
                out = module.eval()(single)  # lazy layers take their shape
                module = copy.deepcopy(module)  # which the user may keep
                copy.deepcopy(module).double().train()(double)
                works_in_place = single._version or double._version
        except Exception as error:  # whatever a user's code may raise
            raise ValueError(
                f"{name}({n_in}, {n_out}) cannot take rows of {n_in} columns, in float32 and in float64: {error}"
            ) from error
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"{name}({n_in}, {n_out}) must give a tensor, got {type(out).__name__}.")
    if out.ndim != 2 or len(out) != 2 or (out.shape[1] != n_out and not any_width):
        raise ValueError(
            f"{name}({n_in}, {n_out}) gives output of shape {tuple(out.shape)} for 2 rows; its width must be {n_out}, "
            f"not {out.shape[-1] if out.ndim else 'nothing'}."
        )
    if works_in_place:  # it must not reach the rows, which are its input and its target
        module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))
    return module, out.shape[1]
