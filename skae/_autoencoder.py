"""The autoencoder as a scikit-learn transformer."""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, check_random_state

from skae._base import BaseNetTransformer
from skae._fit import chooses_size
from skae._fitted import MAX_SIZED, Fitted
from skae._torch import evaluation_batch_size, like_input, no_gradients, to_array
from skae.data import parameters as check
from skae.data.checks import SUPPORTS, check_weights
from skae.data.columns import kinds_in_own_units, kinds_of_losses
from skae.data.tables import ArrayTable, OneHotTable, TableEncoder
from skae.linear.mixture import MAX_CODES, draw_codes, fit_mixture
from skae.linear.starts import AUTOENCODER_STARTS
from skae.networks.autoencoder import Autoencoder
from skae.objectives import LOSSES
from skae.persistence import state as stored

# n_components="auto" stops where all further components together explain less than this share of the variance.
_LEAST_EXPLAINED = 0.01
# New samples are drawn like codes of so many training samples at least, and of fewer inputs than this beyond them.
_FEWEST_CODES, _MOST_INPUTS = 1000, 2**24
# What to use in place of attributes of PCA that are missing.
_NO_NOISE = "An autoencoder has no model of the noise; VAEGenerator has one."
_OF_PCA = {
    "explained_variance_ratio_": "It is set by fit with ordered=True, or n_components='auto' or a share.",
    "explained_variance_": "The variances of codes are transform(X).var(axis=0, ddof=1).",
    "singular_values_": "They are the norms of the centred columns of transform(X).",
} | dict.fromkeys(("noise_variance_", "get_covariance", "get_precision"), _NO_NOISE)


class FittedAutoencoder(Fitted):
    """A fitted autoencoder: codes, reconstruction errors, imputation and new samples."""

    corrects_imputation = True
    # Scaled training samples, their codes, and the mixture fitted to the codes; the latter two are computed on demand.
    _inputs = _codes = _mixture = explained = None

    def settle(self, estimator, training, held_out, best, before):
        training = training.unweighted()
        n_codes = min(MAX_CODES, max(_FEWEST_CODES, _MOST_INPUTS // self.built.n_features))
        drawn = np.random.RandomState(self.built.seed).permutation(len(training))[:n_codes]
        self._inputs = training[torch.from_numpy(drawn).to(self.net.device)][0]
        if self.built.is_ordered:
            self._choose_size(estimator.n_components, training if held_out is None else held_out.unweighted())

    def attributes(self):
        attributes = super().attributes()
        if self.explained is not None:
            attributes["explained_variance_ratio_"] = self.explained[: self.n_components]
        return attributes

    def truncated(self, n_components):
        other = super().truncated(n_components)
        other._mixture = None
        return other

    def _choose_size(self, asked, samples):
        """Choose the number of components, and how many of them each size decodes."""
        errors, total = self._errors_by_size(samples)
        # A size that is no better than a smaller one decodes only the components of the smaller one.
        best = np.array([int(errors[:size].argmin()) for size in range(1, len(errors) + 1)])
        self.model.decoded.copy_(torch.from_numpy(best + 1))
        explained = 1 - errors[best] / total if total else np.zeros(len(errors))
        if asked == "auto":
            enough = explained >= explained.max() - _LEAST_EXPLAINED
        else:
            enough = explained >= (asked if asked < 1 else np.inf)
        if enough.any():
            self.n_components = int(enough.argmax()) + 1
        self.explained = np.diff(explained, prepend=0)

    def _errors_by_size(self, samples):
        """Return the squared errors of codes cut to each size, and of the mean, summed over at most 1,000 samples."""
        model = self.model.eval()  # not a cast: those are cached, before `decoded` is set
        varies = ~model.scaler.constant
        mean = 0.0 if model.scaler.is_identity else model.scaler.mean
        errors, total = np.zeros(model.n_components), 0.0
        drawn = np.random.RandomState(self.built.seed).permutation(len(samples))[:MAX_SIZED]
        inputs, targets = samples[torch.from_numpy(drawn).to(self.net.device)]
        factor = varies / model.scaler.error_scale.square()
        at_once = evaluation_batch_size(self.net.width)
        for x, target in zip(inputs.split(at_once), targets.split(at_once), strict=True):
            with no_gradients():
                x, target = x.double(), target.double()
                z = model.encode(x)
                total += float(((target - mean).square() * factor).nansum())
                for size in range(1, len(errors) + 1):
                    rest = model.loss.inverse_link(model.decode(z[:, :size])) - target
                    errors[size - 1] += float((rest.square() * factor).nansum())
        return errors, total

    def fill_by_network(self, x):
        return torch.where(x.isnan(), self.decode(self.encode(x)), x)

    def squared_errors(self, rows):
        """Return the sum of squared errors of each sample's observed values, in float64: squares need its range."""
        return self._sums(rows, self._squares)

    def squared_distances(self, rows):
        """Return the sum of squared distances of each sample's observed values from the mean, as `squared_errors`."""

        def squares(module, x):
            return ((x - module.scaler.mean) / module.scaler.error_scale).square()

        return self._sums(rows, squares)

    def n_observed(self, rows):
        """Return the number of each sample's observed values."""
        return self._sums(rows, lambda _, x: ~x.isnan())

    def _sums(self, rows, function):
        """Return the sum over columns of a function of each sample, as an array in float64."""

        def sums(module, x):
            return function(module, x).double().nansum(1, keepdim=True)

        return to_array(self.map(rows, sums, 1, torch.float64, width=self.net.width)[:, 0])

    def _squares(self, module, x):
        """Return the squared error of each value, nan where missing, in float64."""
        residual = x - module.from_codes(module.to_codes(x, self.n_components))
        squares = (residual.double() / module.scaler.error_scale).square()
        return squares.nan_to_num(nan=np.inf, posinf=np.inf).masked_fill(x.isnan(), np.nan)  # nan after an overflow

    def feature_scores(self, rows):
        """Return minus the squared error of each column, nan where missing: (n, n_columns)."""
        places, least = self.table.places, float(np.finfo(rows.dtype).min)

        def scores(module, x):
            squares = self._squares(module, x)
            return -torch.stack([squares[:, place].sum(1) for place in places], 1).clamp_max(-least)

        return self.map(rows, scores, len(places), width=self.net.width)

    @no_gradients()
    def sample(self, n_samples, random_state):
        """Draw new samples: (n_samples, n_features)."""
        codes = self.codes()[:, : self.n_components]
        location, scale = codes.mean(axis=0), codes.std(axis=0)
        if self._mixture is None:
            self._mixture = fit_mixture((codes - location) / np.where(scale > 0, scale, 1), self.built.seed)
        drawn = location + draw_codes(self._mixture, n_samples, random_state) * scale
        return self.decode(drawn * self.model.code_scaler.scale[: self.n_components].numpy(force=True))

    def codes(self):
        """Return codes of at most 5,000 training samples, not scaled to units of X: (n, all components)."""
        inputs = self._inputs  # another thread may set it to None
        if self._codes is None:
            with no_gradients():
                codes = self.net.inference_module(torch.float32).encode(inputs)
            self._codes, self._inputs = codes.numpy(force=True).astype(np.float64), None
        return self._codes

    def to_state(self):
        return super().to_state() | {"codes": self.codes(), "explained": self.explained}

    def restore(self, kept, state):
        super().restore(kept, state)
        width = self.built.n_components
        largest = np.finfo(np.float32).max  # codes were computed in it
        stored.check_array(kept, "codes", (stored.length_of(kept, "codes", 0), width), low=-largest, high=largest)
        stored.check_integer(state, "n_components_", 1, width)
        self._codes = kept["codes"]
        if self.built.is_ordered:
            stored.check_array(kept, "explained", (width,))
            stored.check_array(state, "explained_variance_ratio_", (self.n_components,))
            self.explained = kept["explained"]


class AutoencoderTransformer(BaseNetTransformer):
    r"""Nonlinear PCA: an autoencoder that starts as PCA and is trained with early stopping.

    The code of a sample is ``z = A x + f(x)``, its reconstruction ``x^ = B z + g(z)``. A and B are PCA's and stay as
    they are. f and g are trained and start at zero, so that the autoencoder is PCA before the first epoch. `fit` keeps
    the weights with the lowest validation loss, those of the start included. `transform` refines the encoder's code, so
    that the decoded code is closer to the sample.

    Parameters
    ----------
    n_components : int, float or "auto", default=2
        Latent dimension.

        - int: at least 1, and at most the number of samples. If it exceeds the number of columns (an over-complete
          code), at most 1,000.
        - float in (0, 1): the fewest components that explain this share of the variance of the validation set. `fit`
          tries up to as many components as PCA needs for the share (1 + n_components) / 2 of the training samples. If
          these explain too little, all are kept, with a `ConvergenceWarning`.
        - "auto": the fewest components that explain at most 0.01 less of the variance of the validation set than the
          best number does. `fit` tries up to as many components as PCA needs for 99 % of the variance, at most 64.

        A float and "auto" imply ``ordered=True``.

    hidden_layer_sizes : "auto" or sequence of int, default="auto"
        Number of units of each hidden layer of the encoder; the decoder has them in reverse. At most 200 layers.

        - "auto": (192, 96) for fewer than 5,000 samples, unless components are ordered, the start is random or one
          half is your own; else (256, 128). With at least 20,000 samples and 257 to 4,096 columns it is
          (1000, 500, 250), unless components are ordered. With ``feature_shape`` it is (128, 256).
        - (): no hidden layer. The network is then linear within the range of the training samples.

        With ``feature_shape`` these layers lie between the convolutions and the code. Ignored for a half that is passed
        as ``encoder`` or ``decoder``.

    activation : {"silu", "gelu", "relu", "tanh", "elu", "logistic", "identity"}, default="silu"
        Activation after each hidden layer. The initial weights of the first layer fit "silu", see Notes.

    loss : str or mapping of columns to str, default="squared_error"
        Reconstruction loss. It also fixes the range of the reconstructions.

        - "squared_error", "absolute_error": for real numbers.
        - "huber": squared for errors up to the root mean square of the centred X, absolute for larger ones. The
          threshold is 1 if own modules get X unscaled.
        - "log_loss": Bernoulli cross-entropy for X in [0, 1]. Reconstructions are in (0, 1). The input of the network
          is the logit of X.
        - "poisson": half the Poisson deviance, for X >= 0. Reconstructions are positive. The input of the network is
          the logarithm of X.
        - "cross_entropy": for categories.
        - "auto": a loss for each column of a DataFrame of pandas or polars, by its dtype. Bools get "log_loss",
          categories and strings "cross_entropy". Integers of at least 0 whose variance is about their mean or more get
          "poisson", other integers 0 and 1 "log_loss". All other numbers get "squared_error" after standardisation.
        - mapping: the losses of some columns, by name or, for an array, by index. The other columns use "auto".

        With "squared_error", "absolute_error" and "huber", columns of text are one-hot encoded, and numbers keep their
        units. See Notes.

    start : {"pca", "random"}, default="pca"
        Weights before training.

        - "pca": the linear path is PCA and the nonlinear path is zero, see Notes. This is exactly PCA for
          "squared_error", "absolute_error" and "huber". For other losses it is PCA of logits or logarithms of X.
        - "random": random weights. Own modules then get X unscaled, and are the whole network.

    ordered : bool, default=False
        Whether the components are ordered by importance, as PCA's are. The first m columns of a code are then a code of
        m components, for every m, see `truncate`. There is a decoder for each of 1, 2, 4, ... and n_components
        components, and the error of each size is relative to PCA's. Since each epoch takes longer, training runs for
        two fifths of ``max_iter``. Needs ``start="pca"``. An own ``decoder`` is shared by all sizes and gets codes
        whose last columns are zero.

    noise : float, default=0.0
        Standard deviation of Gaussian noise that is added to the network's input in training and validation, in
        standard deviations of each column. With "log_loss" and "poisson" it is added after the logit or logarithm. The
        target has no noise.

    sparsity : float, default=0.0
        Weight of a scale-free L1 penalty on codes: the mean absolute value of each component over its root mean square,
        summed over components. It is added to the loss, which is a mean over the entries of the scaled X.

    alpha : float, default=0.0
        L2 penalty on the weights of the nonlinear path, see Notes. The linear path and biases have no penalty.

    encoder, decoder : callable (n_in, n_out) -> torch.nn.Module, default=None
        Builds your own half of the network. The encoder maps n_features to n_components columns, the decoder back.

        - ``start="pca"``: an encoder gets samples with centred and scaled columns, a decoder codes of unit variance,
          both clipped to the range of the training samples. The output is added to the linear path through a gate that
          starts at zero.
        - ``start="random"``: the module gets X unscaled and is the whole half. For "log_loss" and "poisson" the decoder
          returns logits or log-rates.

    feature_shape : tuple of int, default=None
        Channels, height and width of samples that are flattened images, such as (1, 28, 28). Height and width must be
        at least 8. The network is then convolutional; an own ``encoder`` or ``decoder`` replaces its half. Gradients
        are clipped to four times the running mean of their norm, unless components are ordered.

    handle_unknown : {"error", "ignore"}, default="error"
        What to do with a category that is not in the training samples: raise an error or treat it as missing. Only for
        DataFrames with text or categories.

    batch_size : "auto" or int, default="auto"
        Number of samples in a training step. "auto" is a power of two.

        - It is about a sixth of all samples, from 32 to 256.
        - It is about a twelfth, from 32 to 128, for images, ordered components, a random start and layers of more than
          512 units.
        - Above 20,000 samples the upper limit of 256 or 128 grows by the factor sqrt(n_samples / 20,000).

    learning_rate_init : "auto" or float, default="auto"
        Peak learning rate of Adam's one-cycle schedule in `fit`, and the constant learning rate of `partial_fit`.
        "auto" is 3e-3 in `partial_fit`. In `fit` it is the first of these that applies: 3e-3 with a random start, 6e-3
        with ordered components, 5e-3 for images, 3e-3 with a layer of more than 512 units, 8e-3 with one of more than
        192 units, else 1e-2.

    max_iter : "auto" or int, default="auto"
        Maximum number of epochs; with ordered components two fifths of it are run. "auto" is 120, 90 with a layer of
        more than 192 units, and 140 with one of more than 512. It is 100 with a random start, with ordered components
        and for images. Above 20,000 samples it is this number divided by sqrt(n_samples / 20,000). 0 leaves the network
        at its start.

    early_stopping : bool, default=True
        Whether to keep the weights with the lowest validation loss and to stop when it no longer improves. With a
        linear start, validation uses a running average of the weights over epochs. If False, the last weights are kept,
        training ends when the training loss stalls, and the linear start is never restored.

    validation_fraction : "auto" or float, default="auto"
        Share of the samples of X in the validation set, if `fit` gets no ``X_val``. "auto" is a tenth, at most 1,000
        samples. The linear start is fitted to all samples.

    n_iter_no_change : int, default=15
        Number of epochs without an improvement of more than ``tol`` after which training ends; with ordered components
        at least half of all epochs.

    tol : float, default=1e-4
        Smallest improvement that counts, relative to the best loss.

    checkpoint : str or path-like, default=None
        Folder to which `fit` saves its state: when training ends, and at the end of an epoch if ten seconds have passed
        since the last save. With the same folder, data and parameters, `fit` resumes from there and has the same
        result. A finished fit is restored. Other data or parameters raise an error. Each fit needs its own folder.
        `partial_fit` does not use it.

    callbacks : skorch callback or list of these, default=None
        Cloned if they can be copied, then notified of skorch's events. A pair (name, callback) makes the callback's
        settings parameters: ``callbacks__name__setting``. A `skorch.callbacks.LRScheduler` replaces the one-cycle
        schedule. At the end of an epoch callbacks see the weights that were validated. With a linear start and a
        validation set these are the running average; training continues from the weights that were averaged.

    device : "auto", str or torch.device, default="auto"
        Where to compute.

        - "auto": cuda if available, else the cpu.
        - "accelerate": the device that Accelerate assigns to this process. All processes of its launcher share one fit.
          Needs the package accelerate.

    verbose : int, default=0
        Show a progress bar on stderr if not 0; joblib's workers show none. skorch's callbacks print only then. If each
        column has its own loss, the losses are printed, too.

    random_state : int, RandomState instance or None, default=None
        Source of the validation set, the order of samples, initial weights and noise. An int gives the same fit each
        time. `sample` has its own ``random_state``.

    Attributes
    ----------
    n_components_ : int
        Latent dimension; with a share or "auto" the number that was chosen.

    components_ : ndarray of shape (n_components_, n_features_in_)
        The decoder's linear path: the change of a sample per unit of each component, in units of X (after the link, for
        "log_loss" and "poisson"). At ``max_iter=0`` these are PCA's. Absent if an own decoder is the whole decoder.

    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Increase of R^2 by each component, for the reconstruction of at most 1,000 samples of the validation set (of
        training samples, if there is none). The sum is the R^2 of all components. A component that improves the
        reconstruction only together with further ones has 0. Constant columns do not count. Only with
        ``ordered=True``, or if ``n_components`` is "auto" or a share.

    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training samples.

    net_ : skorch.NeuralNet
        The network, with skorch's ``module_`` and ``history``.

    n_iter_ : int
        Number of epochs run.

    loss_curve_ : list of float
        Training loss of each epoch: the mean over entries, in units of X squared for "squared_error" and "huber", in
        units of X for "absolute_error", in nats for "log_loss" and "poisson". Columns that are constant in the training
        samples count as zero. With ordered components the loss of each size is divided by PCA's loss on the training
        samples, except for "log_loss" and "poisson", and averaged over sizes.

    validation_loss_curve_ : list of float or None
        Validation loss of each epoch; None without early stopping and after `partial_fit`. Every third epoch is
        validated, and the others repeat the last loss. With callbacks, fewer than 18 epochs or a random start, each
        epoch is validated.

    best_loss_ : float or None
        Validation loss of the fitted network, see Notes; without early stopping, the lowest training loss. None after
        `partial_fit`.

    linear_loss_ : float or None
        Loss of the linear start on the same samples. None with ``start="random"`` and after `partial_fit`.

    losses_ : dict
        Loss of each column, by name. Only if each column has its own loss, or X had text.

    n_features_in_ : int
        Number of columns of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns. Only if X had column names that are all strings.

    See Also
    --------
    sklearn.decomposition.PCA : The linear start.
    VAEGenerator : A generative model with a density of samples.

    Notes
    -----
    **Network.** The code of a sample x is z = A x + f(x), and its reconstruction B z + g(z). A and B are the linear
    path; f and g, each a linear map and a multilayer perceptron, are the nonlinear path. The initial weights and
    biases of the first layer of f and g are torch's times a factor: 4 / sqrt(k / 2) for k components, between 1 and 4.
    For images, ordered components, a random start and layers of more than 512 units it is 1.7.

    **Objective.** Training minimises the mean of :math:`\ell(\hat x_{ij}, x_{ij})` over samples and columns of the
    scaled X, by Adam on a one-cycle schedule [2]_. X is centred and divided by a single scale, which keeps PCA's
    geometry. PCA is the best linear autoencoder [1]_.

    **Scales.** f and g are scaled by the residuals of PCA. Their inputs are clipped to the range of the training
    samples, so that reconstructions extrapolate linearly, as PCA's do. Codes have the units and the sign convention of
    `PCA.transform`. Codes and reconstructions are computed in the precision of their input; training runs in float32.

    **Refinement.** With ``start="pca"``, the default loss and neither noise nor sparsity, `transform` projects samples
    onto the curved surface of decoded codes, as PCA does onto a plane [3]_. In all other cases the code is the
    encoder's. The projection starts at the encoder's code or at the nearest landmark, whichever is nearer, and takes up
    to three gradient steps. The mean inverse curvature at codes of training samples scales them, and the secant method
    sets their lengths. Landmarks are codes of up to 512 training samples. At the end of `fit` the validation set
    chooses the number of steps and whether there are landmarks: the fastest choice whose loss is within 1 % of the
    lowest. Without a validation set, or if training has not improved on the start, there are three steps and no
    landmarks. During training the validation loss uses two steps and up to 128 landmarks. So ``best_loss_`` differs
    from ``validation_loss_curve_``, and may be less than all its values.

    **Ordered components.** The gradient steps of the refinement then lower the sum over sizes of the reconstruction
    errors, each relative to PCA's. In training, a quarter of the samples have codes cut to a size between those of two
    decoders (nested dropout [4]_). A size that is no better than a smaller one on the validation set decodes only the
    components of the smaller one.

    **A loss for each column.** With ``loss`` "auto", "cross_entropy" or a mapping, the start is factor analysis of
    mixed data [5]_: PCA of standardised columns and of indicators of the categories, each indicator divided by the root
    of its share. Bools count as two categories, and counts are standardised after a logarithm. At ``max_iter=0`` codes
    are the row coordinates of that analysis, up to sign. In `score` and `score_samples` the error of a number is
    divided by the column's standard deviation, that of a count by the root of the column's mean. Errors of bools and
    indicators are not scaled. Decoded numbers are within the range of the training samples, and whole if these were
    whole. ``components_`` and ``mean_`` have an entry for each encoded column: one for a number, a bool or a count, and
    one for each category.

    **Text with a single loss.** The start is PCA of the numbers in their own units and of indicators of the categories,
    as after a `sklearn.preprocessing.OneHotEncoder` of the text.

    **Missing values** are left out of the loss and the scores. Before the encoder they are replaced by their
    conditional means under a Gaussian model of all columns, estimated by EM from the observed values. If training
    samples had missing values, the encoder also gets the mask of missing values, and the start is PCA of samples whose
    missing values are drawn from that model. Without missing values in training, the start itself is the model. Own
    modules get samples without missing values.

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

    .. [5] Pages, J. (2004). Analyse factorielle de donnees mixtes. Revue de Statistique Appliquee 52(4), 93-111.

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
    >>> autoencoder.best_loss_ < 0.8 * autoencoder.linear_loss_  # PCA's error on the same validation set
    True
    """

    _starts = AUTOENCODER_STARTS
    _model_class = Autoencoder
    _fitted_class = FittedAutoencoder

    def __init__(
        self,
        n_components=2,
        *,
        hidden_layer_sizes="auto",
        activation="silu",
        loss="squared_error",
        start="pca",
        ordered=False,
        noise=0.0,
        sparsity=0.0,
        alpha=0.0,
        encoder=None,
        decoder=None,
        feature_shape=None,
        handle_unknown="error",
        batch_size="auto",
        learning_rate_init="auto",
        max_iter="auto",
        early_stopping=True,
        validation_fraction="auto",
        n_iter_no_change=15,
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
        self.handle_unknown = handle_unknown
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

    def __getattr__(self, name):
        """Raise the error for a missing attribute; if PCA has the attribute, the error names an alternative."""
        if hasattr(type(self), name):  # its own error has a reason
            return object.__getattribute__(self, name)
        way_out = f". {_OF_PCA[name]}" if name in _OF_PCA else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{way_out}")

    def score_samples(self, X):
        """Return the negative mean squared reconstruction error of each sample: outliers have low scores.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            In units of X squared, whatever the loss; without a unit if each column has its own loss, see Notes. 0 for
            samples with all values missing. Scores that overflow are the lowest finite number of the dtype of X.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> model = AutoencoderTransformer(2, max_iter=0).fit(X)
        >>> outlier = X[:1] + [[0, 9, 0, 0]]
        >>> bool(model.score_samples(outlier)[0] < model.score_samples(X).min())
        True
        """
        check_is_fitted(self)
        rows = self._open(X)
        errors = self._fitted.squared_errors(rows) / np.maximum(self._fitted.n_observed(rows), 1)
        return like_input(np.maximum(-errors, np.finfo(rows.dtype).min).astype(rows.dtype), X)

    def score_features(self, X):
        """Return the negative squared error of each value, to see which columns make a sample unusual.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            In units of X squared; without a unit if each column has its own loss. nan where a value is missing. The
            score of a category is the sum over its indicators. If all columns are numbers, the mean of a sample's
            scores is its `score_samples`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> model = AutoencoderTransformer(2, max_iter=0).fit(X)
        >>> outlier = X[:1] + [[0, 9, 0, 0]]
        >>> int(model.score_features(outlier)[0].argmin())
        1
        """
        check_is_fitted(self)
        rows = self._open(X)
        return like_input(self._fitted.feature_scores(rows), X)

    @no_gradients()
    def score(self, X, y=None, sample_weight=None):
        """Return the R^2 of the reconstruction over all entries, against the training mean.

        1 is perfect; 0 is as good as the mean of the training samples. On the training samples of a PCA, this R^2 is
        the sum of PCA's ``explained_variance_ratio_``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, at least 0; None for equal ones. Samples of weight 0 are left out.

        Returns
        -------
        float
            At most 1; nan if no value of X is observed.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> print(f"{AutoencoderTransformer(2, max_iter=0).fit(X).score(X):.3f}")
        0.978
        >>> print(f"{PCA(2).fit(X).explained_variance_ratio_.sum():.3f}")
        0.978
        """
        check_is_fitted(self)
        rows = self._open(X, weights=check_weights(sample_weight, X))
        unexplained = rows.weigh(self._fitted.squared_errors(rows)).sum()
        total = rows.weigh(self._fitted.squared_distances(rows)).sum()
        if total == 0:
            return float(unexplained == 0) if self._fitted.n_observed(rows).any() else np.nan
        return float(1 - unexplained / total)

    def impute(self, X):
        """Replace missing values by the reconstruction, averaged with the imputation of a Gaussian model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            nan where a value is missing. A sample without values is imputed by the means of the training samples.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or DataFrame
            The samples, observed values unchanged; a DataFrame of the same library if `fit` got one, with the index of
            X.

        Notes
        -----
        The Gaussian model is the one that replaces missing values before the encoder. It is used if training improved
        on the start or training samples had missing values, except with "log_loss" and "poisson". Its weight in the
        average is the same for all entries. With ordered components there is a weight for each of 1, 2, 4, ...
        components. `fit` hides entries of training samples and of the validation set, finds the weight of least squared
        error on each, and takes the larger one.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> X[0, 2] = np.nan  # it was 1.4
        >>> imputed = AutoencoderTransformer(2, max_iter=0, random_state=0).fit(X).impute(X)
        >>> print(f"{imputed[0, 2]:.1f}")
        1.5
        """
        check_is_fitted(self)
        rows = self._open(X)
        rows.check_imputable()
        return like_input(self._table.decode(self._fitted.fill(rows[:]), like=X), X)

    def sample(self, n_samples=1, *, random_state=None):
        """Draw new samples: decode draws from a Gaussian mixture fitted to codes of training samples.

        The first call fits the mixture (Ghosh et al. 2020, arXiv:1903.12436) to codes of at most 5,000 training
        samples. These are fewer above 3,355 columns, and of the last batch after `partial_fit`. The mixture has 1 to 64
        components with full covariances; 0.001 to 0.1 of the codes' variance is added to their variances. Both are
        chosen by the likelihood of a held-out fifth of the codes. New samples lie on the decoder's surface, without
        residual noise.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        random_state : int, RandomState instance or None, default=None
            An int gives the same samples at each call, None different ones.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            In units of X; a DataFrame of the same library and names of columns if `fit` got one.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> AutoencoderTransformer(2, max_iter=0).fit(load_iris().data).sample(3, random_state=0).shape
        (3, 4)
        """
        check_is_fitted(self)
        n_samples = check.check_integer("n_samples", n_samples, 1)
        seed = check_random_state(random_state).randint(2**31 - 1)
        return self._table.decode(self._fitted.sample(n_samples, np.random.RandomState(seed)))

    def _check_parameters(self):
        super()._check_parameters()
        check.check_n_components(self.n_components, takes_share=True)
        self._check_kinds("loss", LOSSES, LOSSES)
        check.check_real("noise", self.noise)
        check.check_real("sparsity", self.sparsity)

    def _tables(self):
        if check.is_by_column(self.loss, LOSSES):
            supports = {name: loss.support for name, loss in LOSSES.items()}
            return [TableEncoder(self.loss, self.handle_unknown, kinds_of_losses(supports))]
        loss = check.known(self.loss, LOSSES)
        refusal = f"loss={self.loss!r} takes numbers", "Use loss='auto', which chooses a loss for each column."
        arrays = ArrayTable("loss", self.loss, SUPPORTS[loss.support], link=loss.link, refusal=refusal)
        in_own_units = OneHotTable("auto", self.handle_unknown, kinds_in_own_units(self.loss))
        return [arrays, in_own_units] if loss.link == "identity" else [arrays]

    def _warn(self, net, no_gain=False):
        super()._warn(net, no_gain)
        explained = getattr(self, "explained_variance_ratio_", np.ones(1)).sum()
        if self.n_components != "auto" and chooses_size(self) and explained < self.n_components:
            warnings.warn(
                f"All {self.n_components_} components explain {explained:.3f} of the variance of the validation set, "
                f"less than n_components={self.n_components}. Set an integer, or pass more samples.",
                ConvergenceWarning,
                stacklevel=4,
            )
