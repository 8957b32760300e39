"""The autoencoder as a scikit-learn transformer."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae import _state as stored
from skae import _validation as check
from skae._base import MOST_SIZED, BaseNetTransformer, build_own
from skae._density import MOST_CODES, code_density, draw_codes
from skae._engine import evaluation_batch, no_gradients
from skae._streaming import blocks, some_of
from skae.losses import LOSSES, ReconstructionObjective
from skae.nn import Autoencoder, Gated, OrderedAutoencoder, doubling_levels
from skae.starts import leading, no_normal, pca_start

# Steps from the encoder's code towards the nearest point of the decoder's surface.
_PROJECTIONS = 4
# What an error is told relative to, of the variance, at least: what is less weighs less.
_LEAST_LEFT = 1e-7
# "auto" keeps components as far as any explain more than this share.
_LITTLE = 0.01
# The least unit of training beside the scale of the data: rounding begins not far below.
_SMALLEST_UNIT = 1e-7


class AutoencoderTransformer(BaseNetTransformer):
    r"""Nonlinear PCA: an autoencoder that starts as PCA and trains only as far as held-out rows favour it.

    The net is ``z = A x + f(x)``, ``x^ = B z + g(z)``: A and B are PCA's, f and g what training adds, nothing at first,
    so before the first epoch the autoencoder is PCA. Held-out rows then choose the epoch whose weights are kept, the
    start included. A code is brought to where the decoder comes nearest to the row: the encoder makes the first guess.

    Parameters
    ----------
    n_components : int, float or "auto", default=2
        Numbers in the code of a row, from 1 to the number of rows. More than columns makes an over-complete code. A
        share in (0, 1) asks for the fewest that explain that share of the variance of held-out rows (or, with a
        `ConvergenceWarning`, for all that the net has: those with which PCA leaves half as much of the training rows).
        "auto" asks for the fewest after which all further ones, as many as PCA takes for 99 % and 64 at most, explain
        less than 0.01 more. Both imply ``ordered=True``.

    hidden_layer_sizes : "auto" or sequence of int, default="auto"
        Widths of the encoder's hidden layers; the decoder's are the same backwards. "auto" is (256, 128), () a linear
        net (in the range of the training rows). Of no effect on a side that is given as ``encoder`` or ``decoder``.
        With ``feature_shape`` they lie between convolutions, which stay with (), and the code; "auto" is (128, 256).

    activation : {"gelu", "relu", "tanh", "silu", "elu", "logistic", "identity"}, default="gelu"
        Activation after each hidden layer.

    loss : {"squared_error", "absolute_error", "huber", "log_loss", "poisson"}, default="squared_error"
        What training minimises, and with it the range of reconstructions. The first three give any real number.
        "huber" turns from squared to absolute at the root mean square of the centred X (at 1 where own modules get X
        as it is). "log_loss" is the Bernoulli
        cross-entropy for X in [0, 1] and gives numbers in (0, 1), "poisson" half the Poisson deviance for X >= 0 and
        gives positive numbers; with these the net, and so the code, sees X after a logit or a logarithm.

    start : {"pca", "random"}, default="pca"
        "pca" starts the linear path at PCA and the nonlinear path at zero: exactly PCA for "squared_error",
        "absolute_error" and "huber", PCA of the rows after the loss's link for the others. "random" starts all weights
        at random; own modules then get X as it is, and are the whole net.

    ordered : bool, default=False
        Whether the first m numbers of a code are to be a good code of m numbers, for every m, as PCA's are: one fit for
        all sizes, see `truncate`. There is a decoder for each of 1, 2, 4, ... and n_components numbers, and errors of a
        size count relative to PCA's at that size. Training has a fifth of ``max_iter`` epochs, at twice the rate,
        since each takes longer. Needs ``start="pca"``; an own ``decoder`` serves all sizes and gets codes whose last
        numbers are zero.

    noise : float, default=0.0
        Standard deviation of Gaussian noise added to each column of the net's input (X after the loss's link) in
        training and on held-out rows, in standard deviations of the column. The target stays clean.

    sparsity : float, default=0.0
        Weight, in the objective, of the mean absolute value of each component of the code over its root mean square,
        summed over components: a scale-free L1 penalty. The objective's other term is the mean loss of an entry of
        the standardised X.

    alpha : float, default=0.0
        L2 penalty on the weights of the nonlinear part (linear path and biases are free).

    encoder, decoder : callable (n_in, n_out) -> torch.nn.Module, default=None
        Builds your own half of the net. The encoder maps n_features to n_components columns, the decoder back. With
        ``start="pca"`` it gets rows with centred and scaled columns (the decoder: standardised codes), clipped to the
        range of the training rows, and its output is added to the linear path through a gate that starts at zero.
        With ``start="random"`` rows come as they are and nothing is added; for "log_loss" and "poisson" the decoder
        then returns logits or log-rates.

    feature_shape : tuple of int, default=None
        Channels, height and width of the images that rows are, flattened, such as (1, 28, 28); height and width of at
        least 8. The net is then convolutional, see ``hidden_layer_sizes``; an own ``encoder`` or ``decoder`` stands
        before it on its side. Gradients are clipped to four times the running mean of their norm, unless components
        are in order. None is a net for rows of any kind.

    batch_size : "auto" or int, default="auto"
        Rows a training step. "auto" is about a twelfth of the rows, from 32 to 128.

    learning_rate_init : float, default=3e-3
        Peak of the one-cycle schedule of Adam's step in `fit` (twice that with components in order), the constant step
        in `partial_fit`.

    max_iter : int, default=200
        Most epochs (a fifth of it with components in order). 0 leaves the net at its start.

    early_stopping : bool, default=True
        Whether held-out rows choose the weights and end training; with a linear start these are a running average over
        epochs. If not, the last weights are kept, training ends when the training loss stalls, and there is no way back
        to the linear start.

    validation_fraction : "auto" or float, default="auto"
        Share of the rows of X held out, if no ``X_val`` is given to `fit`; "auto" is a tenth, 1,000 rows at most.
        The linear start is fitted on all rows.

    n_iter_no_change : int, default=20
        Epochs without an improvement of more than ``tol`` after which training ends; with components in order half of
        all epochs, if that is more.

    tol : float, default=1e-4
        Relative to the best loss.

    checkpoint : str or path-like, default=None
        Folder that `fit` keeps its state in, at an epoch's end if ten seconds have passed since the last time, and when
        training ends. With the same folder, data and parameters `fit` goes on from there, to the same result; of a fit
        that had ended it gives the result. Other data or parameters are refused. A folder is for one fit. `partial_fit`
        has no use for it.

    callbacks : list of skorch callbacks, default=None
        Cloned, then notified of skorch's events. A `skorch.callbacks.LRScheduler` replaces the one-cycle schedule.
        Without callbacks, events of single batches cost nothing. At an epoch's end they see the weights that were
        judged; with a linear start and held-out rows training goes on from others, which that average is of.

    device : "auto", str or torch.device, default="auto"
        Where to compute. "auto" is cuda where there is one, else the cpu. "accelerate" is the device that Accelerate
        gives this process, and a fit is then shared by all processes of its launcher; it takes ``skae[distributed]``.

    verbose : int, default=0
        Show a progress bar on stderr if not 0; joblib's workers show none.

    random_state : int, RandomState instance or None, default=None
        Source of held-out rows, order of rows, initial weights and noise. An int gives the same fit each time.
        `sample` has a seed of its own.

    Attributes
    ----------
    n_components_ : int
        Numbers in a code; how many a share or "auto" came to.

    components_ : ndarray of shape (n_components_, n_features_in_)
        The decoder's linear path: what a unit of each code adds to a row, in units of X (after the link, for
        "log_loss" and "poisson"). PCA's at ``max_iter=0``. Missing if an own decoder is the whole decoder.

    explained_variance_ratio_ : ndarray of shape (n_components_,)
        What each component adds to the R^2 of the reconstruction of held-out rows (of training rows, if none were held
        out), 1,000 at most; their sum is the whole. Zero for a component that is of use with further ones only. Columns
        that are constant in the training rows do not count. Only with components in order.

    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows.

    net_ : skorch.NeuralNet
        The net; its ``module_`` and ``history`` are within reach.

    n_iter_ : int
        Epochs run.

    loss_curve_ : list of float
        Training loss of each epoch: the mean of an entry, in units of X squared for "squared_error" and "huber", in
        units of X for "absolute_error", in nats for "log_loss" and "poisson". Columns that are constant in the
        training rows count as zero. With components in order it is the mean over sizes of the loss over PCA's on the
        training rows, which has no unit (for "log_loss" and "poisson" the mean over sizes).

    validation_loss_curve_ : list of float or None
        The same on held-out rows; None without early stopping and after `partial_fit`.

    best_loss_ : float or None
        Loss of the weights kept on the held-out rows, the lowest training loss without early stopping. None after
        `partial_fit`.

    linear_loss_ : float or None
        Loss of the linear start on the same rows. None with ``start="random"`` and after `partial_fit`.

    n_features_in_ : int
        Number of columns of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X had names that are all strings.

    See Also
    --------
    sklearn.decomposition.PCA : The linear start.

    Notes
    -----
    Training minimises the mean of :math:`\ell(\hat x_{ij}, x_{ij})` over rows and columns of the standardised X, by
    Adam on a one-cycle schedule [2]_. X is centred, and divided by one number, so that PCA's geometry is kept. That
    PCA is the best linear autoencoder is due to [1]_.

    f and g are told in units of what PCA leaves unexplained, and see values clipped to the range of the training rows:
    beyond it reconstructions go on as PCA's do.

    With ``start="pca"``, the default loss and neither noise nor sparsity, `transform` takes four steps from the
    encoder's code towards the code whose decoded row is nearest to the given one: PCA's projection, on a curved surface
    [3]_. Held-out rows are judged by these codes too. In all other cases the encoder's code is the code.

    With components in order the same steps go to where the reconstructions of all sizes together are nearest, errors
    relative to PCA's. Training gives a quarter of the rows a size between two decoders' (nested dropout [4]_); a size
    that is no better than a smaller one on held-out rows decodes no more numbers than that.

    Missing entries leave the loss and the scores. For the encoder they are filled with what a normal model of all
    columns, estimated by EM from what is observed, expects given the rest of the row; if training rows had gaps it is
    told where. The start is PCA of rows filled by draws from that model; if they had none, it is the start that fills.
    Own modules get filled rows.

    Codes are in the units and have the sign convention of `PCA.transform`. Codes and reconstructions are computed in
    the precision of their input; training runs in float32.

    References
    ----------
    .. [1] Baldi, P. and Hornik, K. (1989). Neural networks and principal component analysis: learning from examples
       without local minima. Neural Networks 2(1), 53-58. doi:10.1016/0893-6080(89)90014-2

    .. [2] Smith, L. N. and Topin, N. (2019). Super-convergence: very fast training of neural networks using large
       learning rates. doi:10.1117/12.2520589

    .. [3] Hastie, T. and Stuetzle, W. (1989). Principal curves. Journal of the American Statistical Association
       84(406), 502-516. doi:10.1080/01621459.1989.10478797

    .. [4] Rippel, O., Gelbart, M. A. and Adams, R. P. (2014). Learning ordered representations with nested dropout.
       arXiv:1402.0915

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(n_components=8, max_iter=20, random_state=0).fit(X)
    >>> Z = autoencoder.transform(X)
    >>> Z.shape
    (1797, 8)
    >>> autoencoder.inverse_transform(Z).shape
    (1797, 64)
    >>> autoencoder.best_loss_ < 0.8 * autoencoder.linear_loss_  # PCA's error on the same held-out rows
    True
    """

    _linear_starts = ("pca",)
    _relative_loss = True
    _ordered_share = 0.2

    def __init__(
        self,
        n_components=2,
        *,
        hidden_layer_sizes="auto",
        activation="gelu",
        loss="squared_error",
        start="pca",
        ordered=False,
        noise=0.0,
        sparsity=0.0,
        alpha=0.0,
        encoder=None,
        decoder=None,
        feature_shape=None,
        batch_size="auto",
        learning_rate_init=3e-3,
        max_iter=200,
        early_stopping=True,
        validation_fraction="auto",
        n_iter_no_change=20,
        tol=1e-4,
        checkpoint=None,
        callbacks=None,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.start = start
        self.ordered = ordered
        self.noise = noise
        self.sparsity = sparsity
        self.alpha = alpha
        self.encoder = encoder
        self.decoder = decoder
        self.feature_shape = feature_shape
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def score_samples(self, X):
        """Minus the mean squared error of each row's reconstruction: higher is more like the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            In units of X squared, whatever the loss; of float32 rows at least the lowest number of float32, and 0 of a
            row of nothing but gaps.
        """
        check_is_fitted(self)
        X = self._check_rows(X)
        observed = self._map_rows(X, lambda rows: (~np.isnan(rows)).sum(axis=1, keepdims=True), 1, np.int64)[:, 0]
        return np.maximum(-self._squared_errors(X) / np.maximum(observed, 1), np.finfo(X.dtype).min).astype(X.dtype)

    def score(self, X, y=None):
        """R^2 of the reconstruction over all entries, against the training mean.

        1 is perfect, 0 no better than the mean of the training rows. On the training rows of a PCA this is the sum of
        its ``explained_variance_ratio_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        X = self._check_rows(X)
        unexplained = self._squared_errors(X).sum()
        total = sum(np.nansum(np.square(X[rows] - self.mean_, dtype=np.float64)) for rows in blocks(X))
        if total == 0:
            return float(unexplained == 0)
        return float(1 - unexplained / total)

    def _warn(self, net, nothing_better=False):
        super()._warn(net, nothing_better)
        reached = self.explained_variance_ratio_.sum() if self._design["ordered"] else 1.0
        if self.n_components != "auto" and self._chooses_size() and reached < self.n_components:
            warnings.warn(
                f"{self.n_components_} components explain {reached:.3f} of the variance of held-out rows, less than "
                f"n_components={self.n_components}: the net has no more. Set an integer, or give more rows.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def impute(self, X):
        """Rows with their gaps filled by the reconstruction, and in part by a normal model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, nan where missing.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or DataFrame
            The rows, what was observed as it was; a DataFrame of the library of the one that was fitted.

        Notes
        -----
        The normal model is the one that fills rows for the encoder. It has a part if `fit` was given rows with gaps and
        the loss is one of errors, not "log_loss" or "poisson". Its share is one number (where components are in order,
        one for 1, 2, 4, ... of them), of least squared error on entries of training rows that `fit` hides for it.
        """
        check_is_fitted(self)
        return self._in_container(self._filled(self._check_rows(X)[:]), like=X)

    def _filled_by_net(self, X):
        return np.where(np.isnan(X), self._decode(self._encode(X)), X)

    def sample(self, n_samples=1, *, random_state=None):
        """New rows: decoded draws from a Gaussian mixture that is fitted to codes of training rows.

        The mixture is chosen and fitted at the first call (Ghosh et al. 2020, arXiv:1903.12436): of 1 to 64 components,
        each widened by a tenth, a hundredth or a thousandth of the codes' variance, as a fifth of the codes, held out,
        is likeliest. The codes are those of 5,000 training rows at most, after `partial_fit` of the last batch. New
        rows lie on the decoder's surface: what it leaves of real rows, they lack.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState instance or None, default=None
            An int gives the same rows each time, None others each time.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            In units of X; a DataFrame of the library and the column names of the one that was fitted.
        """
        check_is_fitted(self)
        n_samples = check.check_integer("n_samples", n_samples, 1)
        seed = check_random_state(random_state).randint(2**31 - 1)
        mixture, location, scale = self._fitted_code_density()
        codes = draw_codes(mixture, n_samples, np.random.RandomState(seed))
        return self._in_container(self._decode((location + codes * scale) * self._code_scale[: self.n_components_]))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.loss == "poisson"
        return tags

    def __getstate__(self):
        state = super().__getstate__()
        if "net_" in state:  # codes in place of rows, and a mixture when it is asked for again
            state |= {"_codes": self._code_sample(), "_code_rows": None, "_code_density": None}
        return state

    def _check_state(self, state):
        n = super()._check_state(state)
        stored.check_array(state, "_codes", (stored.length_of(state, "_codes", 0), state["_width"]))
        for name in ("_code_rows", "_code_density"):
            stored.check_one_of(state, name, [None])
        if state["_design"]["ordered"]:
            sizes = stored.get(state, "_used")
            if not isinstance(sizes, list) or len(sizes) != state["_width"]:
                raise stored.fault("_used", "is no list with a number for each component")
            for size, used in enumerate(sizes, start=1):
                stored.check_integer({"_used": used}, "_used", 1, size)
            stored.check_array(state, "explained_variance_ratio_", (state["n_components_"],))
        return n

    def _code_sample(self):
        """Codes of training rows, as the net gives them."""
        rows = self._code_rows  # which another thread may drop
        if self._codes is None:
            with no_gradients():
                codes = self.net_.inference_module(torch.float32).encode(rows)
            self._codes, self._code_rows = codes.numpy(force=True).astype(np.float64), None
        return self._codes

    def _fitted_code_density(self):
        """The mixture of standardised codes, and the mean and standard deviation of the codes."""
        codes = self._code_sample()[:, : self.n_components_]
        location, scale = codes.mean(axis=0), codes.std(axis=0)
        if self._code_density is None:
            self._code_density = code_density((codes - location) / np.where(scale > 0, scale, 1), self._seed)
        return self._code_density, location, scale

    def _decode(self, Z):
        return super()._decode(Z[:, : self._n_decoded(Z.shape[1])])

    def _squared_errors(self, X):
        """Sum of squared errors of each row, less gaps, in float64 whatever X's dtype: squares need its range."""

        def residual(rows):
            squares = np.square(rows - self._decode(self._encode(rows)), dtype=np.float64)
            return np.nansum(squares, axis=1, keepdims=True)

        return self._map_rows(X, residual, 1, np.float64)[:, 0]

    # Hooks of the fit recipe.

    def _check_parameters(self):
        super()._check_parameters()
        check.check_n_components(self.n_components, takes_share=True)
        check.check_choice("loss", self.loss, LOSSES)
        check.check_choice("start", self.start, (*self._linear_starts, "random"))
        self._check_order()
        check.check_real("noise", self.noise)
        check.check_real("sparsity", self.sparsity)

    def _check_values(self, X):
        check.check_range(X, "loss", self._design["loss"] if hasattr(self, "_design") else self.loss)

    def _new_design(self):
        design = {"loss": self.loss, "noise": self.noise, "sparsity": self.sparsity}
        return super()._new_design() | design

    def _n_outputs(self, module):
        return len(module.levels) if self._design["ordered"] else 1

    def _keep_leading(self, n_components):
        self.explained_variance_ratio_ = self.explained_variance_ratio_[:n_components]
        self._code_density = None

    def _linear_decoder(self, module):
        if not self._design["ordered"]:
            return module.decoder
        return module.decoder_of(self._used[self.n_components_ - 1])

    def _set_size(self, net, rows):
        super()._set_size(net, rows)
        if not self._design["ordered"]:
            return
        errors, total = self._errors_by_size(net, rows)
        # A size that is no better than a smaller one decodes no more numbers than that.
        best = [int(errors[:size].argmin()) for size in range(1, self._width + 1)]
        self._used, errors = [i + 1 for i in best], errors[best]
        explained = 1 - errors / total if total else np.zeros(self._width)
        if self.n_components == "auto":
            enough = explained >= explained.max() - _LITTLE
        else:
            enough = explained >= (self.n_components if self._chooses_size() else np.inf)
        if enough.any():
            self.n_components_ = int(enough.argmax()) + 1
        self.explained_variance_ratio_ = np.diff(explained, prepend=0)[: self.n_components_]

    def _errors_by_size(self, net, rows):
        """Sums of squared errors of codes cut to each size, and of the mean, on 1,000 of these rows at most."""
        module = net.inference_module(torch.float64)
        varies = torch.from_numpy(~self._frame.constant).to(net.device)
        mean = 0.0 if self._frame.link == "identity" else torch.from_numpy(self._frame.mean).to(net.device)
        errors, total = np.zeros(self._width), 0.0
        drawn = some_of(len(rows), MOST_SIZED, np.random.RandomState(self._seed))
        inputs, targets = rows[torch.from_numpy(drawn).to(net.device)]
        rows_at_once = evaluation_batch(net.width)
        for x, target in zip(inputs.split(rows_at_once), targets.split(rows_at_once), strict=True):
            with no_gradients():
                x, target = x.double(), target.double()
                z = module.encode(x)
                total += float(((target - mean).square() * varies).nansum())
                for size in range(1, self._width + 1):
                    rest = self._inverse_link(module.decode(z[:, :size])) - target
                    errors[size - 1] += float((rest.square() * varies).nansum())
        return errors, total

    @property
    def _plain(self):
        """Whether training minimises the error of clean rows and nothing else."""
        return not (self._design["noise"] or self._design["sparsity"])

    @property
    def _needs_spread(self):
        return self._design["noise"] > 0

    @property
    def _fitted_loss(self):
        return LOSSES[self._design["loss"]]

    def _link(self):
        return self._fitted_loss.link

    def _inverse_link(self, eta):
        return self._fitted_loss.inverse_link(eta)

    def _output_mean(self, module):
        return self._fitted_loss.inverse_link

    def _n_decoded(self, n_components):
        return self._used[n_components - 1] if self._design["ordered"] else n_components

    def _noise(self, frame):
        return self._design["noise"] * frame.spread if self._design["noise"] else None

    def _objective(self, frame, module):
        varies = torch.from_numpy(~frame.constant).float() if frame.constant.any() else None
        return ReconstructionObjective(self._fitted_loss, self._design["sparsity"], varies)

    def _own_correction(self, factory, n_in, n_out, generator, name, n_levels):
        own, _ = build_own(factory, n_in, n_out, generator, name)
        return own if self._raw() else Gated(own, n_out, n_levels)

    def _in_units(self, loss, frame, shares):
        """A loss of standardised rows in units of X; of an ordered net, over PCA's, which has none."""
        if self._design["ordered"]:
            return loss
        return frame.scale**self._fitted_loss.degree * loss

    def _output_unit(self, frame):
        """What an output of 1 is in units of X (of linked X where the link is not the identity)."""
        return frame.scale if frame.link == "identity" else 1.0

    def _build_module(self, n_features):
        design, generator = self._design, torch.Generator().manual_seed(self._seed)
        n_components, widths = self._width, design["hidden_layer_sizes"]
        projected = self._plain and design["start"] == "pca" and design["loss"] == "squared_error"
        n_refinements = _PROJECTIONS if projected else 0
        encoder, completion = self._encoder(n_features, n_components, generator)
        levels = doubling_levels(n_components) if design["ordered"] else ()
        half = n_components, n_features, widths[::-1], design["decoder"], generator, "decoder"
        decoder = self._coder(*half, levels)
        if levels:
            return OrderedAutoencoder(encoder, decoder, levels, completion, n_refinements)
        return Autoencoder(encoder, decoder, completion, n_refinements)

    def _start(self, module, frame, standardised, random_state):
        """Set the start's weights; the scale of the codes in X's units is returned, and what would fill gaps."""
        if self._design["start"] == "random":
            return np.full(self._width, frame.scale), no_normal(frame)
        start = pca_start(standardised, self._width, random_state)
        scale, location = (1.0, 0.0 * frame.mean) if frame.link == "identity" else (frame.scale, frame.location)
        codes, bias = torch.from_numpy(start.code_range), torch.from_numpy(location)
        if self._design["ordered"]:
            spread, code, output = self._units_of_levels(module.levels, start, standardised, frame)
            kept = np.arange(self._width) < np.array(module.levels)[:, None]
            weight = torch.from_numpy(kept[:, None] * start.decoder * scale)
            module.weights.copy_(torch.from_numpy(self._weights_of_sizes(start, standardised)))
        else:
            spread, code, output = self._units(start, frame)
            weight = torch.from_numpy(start.decoder * scale)
        self._start_encoder(module, torch.from_numpy(start.encoder), None, standardised, spread, code)
        module.decoder.start_at(weight, bias, unit=output * scale, input_range=codes)
        return start.code_scale * frame.scale, start.normal(frame.spread)

    def _store(self, net, frame, code_scale, rows, best=None, held_out=None):
        super()._store(net, frame, code_scale, rows, best, held_out)
        drawn = some_of(len(rows), MOST_CODES, np.random.RandomState(self._seed))
        self._code_rows = rows[torch.from_numpy(drawn).to(net.device)][0]
        self._codes = self._code_density = None

    def _units_of_levels(self, levels, start, standardised, frame):
        """Those of the net's inputs, of each code at the first level that has it, and of outputs of each level."""
        codes, outputs = torch.empty(0), []
        for level in levels:
            spread, code, output = self._units(leading(start, standardised, level), frame)
            codes = torch.cat([codes, code[len(codes) :]])
            outputs.append(output)
        return spread, codes, torch.stack(outputs)

    def _weights_of_sizes(self, start, standardised):
        """What makes PCA's loss of each size count alike, or small sizes would drown the large ones."""
        total = np.square(standardised, dtype=np.float64).sum() / (len(standardised) - 1)
        left = np.maximum(total - np.cumsum(np.square(start.decoder).sum(axis=0)), _LEAST_LEFT * total)
        if total == 0:
            return np.ones(self._width)
        return (standardised.shape[1] / left) ** (self._fitted_loss.degree / 2)

    def _units(self, start, frame):
        """What training moves inputs of the encoder, codes and outputs of the decoder in: what PCA leaves of a row.

        Where PCA leaves little, a step that is small beside the data is large beside the error. Noise and sparsity
        give training more to do than that.
        """
        if not self._plain:
            return (torch.ones(n) for n in (len(start.residual), len(start.code_scale), len(start.residual)))
        typical = max(np.sqrt(np.square(start.residual).mean()), _SMALLEST_UNIT)
        spread = np.maximum(frame.spread, typical)
        code = np.minimum(1, typical * np.sqrt(len(start.residual)) / start.code_scale)
        output = np.maximum(start.residual, 1e-4 * typical)
        return (torch.from_numpy(unit) for unit in (spread, code, output))
