"""The variational autoencoder as a scikit-learn density estimator."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from itertools import repeat

import numpy as np
import torch
from scipy.special import softmax
from sklearn.base import DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from skae import _state as stored
from skae import _validation as check
from skae._base import MOST_SIZED, BaseNetTransformer, build_own, torch_dtype
from skae._columns import KINDS, Column, Plan, fit_plan, library_of, unmasked
from skae._density import MOST_CODES, code_density, draw_codes
from skae._engine import evaluation_batch, no_gradients
from skae._streaming import FileRows, LazyRows, SparseRows, some_of
from skae.likelihoods import (
    LIKELIHOODS,
    Categorical,
    Defence,
    Gaussian,
    IndependentColumns,
    LinearModels,
    Mixed,
    Multinomial,
    NegativeBinomial,
)
from skae.losses import NegativeELBO, NestedNegativeELBO
from skae.nn import (
    VAE,
    Headed,
    OrderedVAE,
    Posterior,
    doubling_levels,
    fixed_draws,
    gaussian_kl,
    linear,
    sign_draws,
    stacked_linear,
)
from skae.starts import (
    factor_analysis_start,
    has_gaps,
    likelier_start,
    no_normal,
    normal_of,
    ordered_start,
    probabilistic_pca_start,
    rank_of,
    raw_frame,
)

# Draws a row in scores, or two for each component if that is more.
_SCORE_DRAWS = 64
# Draws of codes that fill a row's gaps.
_IMPUTATION_DRAWS = 100
# Steps from the encoder's posterior towards the best one of a row.
_REFINEMENTS = 2
# Training brings no noise variance under this share of its column's variance; a start that lies lower may stay.
_NOISE_FLOOR = 1e-4
# A component whose posterior is nearer to the prior than this, in nats a row, is not in use.
_ACTIVE = 0.01
# Codes beyond this count as this: the mixture takes no infinite ones.
_FAR = 1e100


class VAEGenerator(DensityMixin, BaseNetTransformer):
    r"""Nonlinear factor analysis: a variational autoencoder that starts as factor analysis and can be sampled.

    A row is drawn by drawing a code from a standard normal, decoding it and adding noise. The net starts as the linear
    model of that kind, factor analysis or probabilistic PCA, where its bound on the log-density is exact, and trains
    only as far as held-out rows favour it.

    Parameters
    ----------
    n_components : int or "auto", default=2
        Numbers in the code of a row, from 1 to the number of rows. "auto" implies ``ordered=True`` and keeps the
        components that are of use to held-out rows (to training rows, without early stopping): the fewest whose bound
        is within one standard error of the best of any number (paired by rows), of as many as PCA of the standardised
        columns takes for 99 % of the variance, 64 at most, and fewer than columns.

    likelihood : str or mapping of columns to str, default="gaussian"
        Density of an entry given the code. "gaussian" has a mean and a noise variance, both of which depend on the
        code; in the linear start a column's variance is the same for all. "bernoulli" is for X in
        [0, 1], of zeros and ones if its scores are to be probabilities; the net sees X after a logit. "poisson" and
        "negative_binomial" are for counts, which the net sees after a logarithm; the latter has a dispersion a column,
        for counts that vary more than a Poisson of the same mean. "multinomial" is for counts given their sum in a row,
        such as words of documents: what varies are their shares. New rows have sums of training rows. For these three
        X may be sparse, and is made dense a batch at a time; the start is then that of a sample, of 2^25 numbers.
        "categorical" is for categories. "auto" gives each column one by its dtype: floats "gaussian", bools
        "bernoulli", categories and strings "categorical", integers "negative_binomial" if they vary as counts do, else
        "bernoulli" if they are 0 and 1, else "gaussian". A mapping names those of some columns, by name or, of an
        array, by index; the others get "auto". The last three take DataFrames of pandas and polars, see Notes.

    handle_unknown : {"error", "ignore"}, default="error"
        What to do with a category that no training row has: refuse it or take it as missing.

    start : {"factor_analysis", "pca", "random"}, default="factor_analysis"
        "factor_analysis" starts at scikit-learn's `FactorAnalysis`, run to convergence (at probabilistic PCA above
        200 columns, where EM would take long, and with no more rows than columns, which it would learn by heart),
        "pca" at probabilistic PCA, whose density is `PCA.score`'s, "random" with random weights; own modules then get
        X as it is. On at most 1,000 rows, and unless ``max_iter=0``, "factor_analysis" is probabilistic PCA as well
        where cross-validation finds that likelier: few rows do not tell a noise for each column. With components in
        order it is probabilistic PCA of standardised columns, since factors have no order, of fewer components than
        columns and of a noise of at least 1e-4. With other
        likelihoods the start is that of the rows after the logit or logarithm: a good beginning, not an identity.

    ordered : bool, default=False
        Whether the first m numbers of a code are to be the code of a good model of m numbers, for every m: one fit for
        all sizes, see `truncate`. Training maximises the mean bound of 1, 2, 4, ... and n_components numbers, which
        have a decoder each and share the encoder. It has three tenths of ``max_iter`` epochs, at twice the rate, since
        each takes longer. Needs a linear start; features of an own ``decoder`` serve all sizes and get codes whose last
        numbers are zero.

    beta : float, default=1.0
        Weight of the KL term in training. Scores always have 1.

    conditional : bool, default=False
        Whether the model is one of the rows of each class, p(x | y), with the classes that `fit` gets as ``y``: to be
        sampled by class, see `sample`. Codes have the same prior in all classes, and tell what the class does not.
        Needs ``ordered=False``, an integer ``n_components``, dense rows, and no ``feature_shape``.

    prior : {"normal", "mixture"}, default="normal"
        Density of codes. Training always has the standard normal. "mixture" then puts in its place, in scores and
        samples, a Gaussian mixture fitted to codes of training rows: of 1 to 64 components, somewhat widened, as a
        fifth of these codes, held out, is likeliest. For rows in groups, which a normal density of codes runs
        together. Of no effect with ``max_iter=0``.

    hidden_layer_sizes : "auto" or sequence of int, default="auto"
        Widths of the encoder's hidden layers; the decoder's are the same backwards. "auto" is (256, 128), () a linear
        net. Of no effect on a side that is given as ``encoder`` or ``decoder``. With ``feature_shape`` they lie between
        convolutions, which stay with (), and the code; "auto" is (128, 256).

    activation : {"gelu", "relu", "tanh", "silu", "elu", "logistic", "identity"}, default="gelu"
        Activation after each hidden layer.

    alpha : float, default=0.0
        L2 penalty on the weights of the nonlinear part (linear path and biases are free).

    encoder, decoder : callable (n_in, n_out) -> torch.nn.Module, default=None
        Builds your own features of rows, or of codes: of any width, skae adds the layer that makes mean and variance of
        the code, or the likelihood's parameters, of them. With a linear start they get standardised rows, clipped to
        the range of the training rows, or codes, and what they give is added to the linear path, from zero on. With
        ``start="random"`` rows come as they are.

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
        Most epochs (three tenths of it with components in order). 0 leaves the net at its start: the linear model.

    early_stopping : bool, default=True
        Whether held-out rows choose the weights and end training; with a linear start these are a running average over
        epochs. If not, the last weights are kept, training ends when the training loss stalls, and there is no way back
        to the linear start.

    validation_fraction : "auto" or float, default="auto"
        Share of the rows of X held out, if no ``X_val`` is given to `fit`; "auto" is a tenth, 1,000 rows at
        most. They are one of each group of rows that the linear start fits about equally badly ("gaussian"), or any.
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
        Cloned, then notified of skorch's events. A `skorch.callbacks.LRScheduler` replaces the one-cycle schedule. At
        an epoch's end they see the weights that were judged; with a linear start and held-out rows training goes on
        from others, which that average is of.

    device : "auto", str or torch.device, default="auto"
        Where to compute. "auto" is cuda where there is one, else the cpu. "accelerate" is the device that Accelerate
        gives this process, and a fit is then shared by all processes of its launcher; it takes ``skae[distributed]``.

    verbose : int, default=0
        Show a progress bar on stderr if not 0; joblib's workers show none.

    random_state : int, RandomState instance or None, default=None
        Source of held-out rows, order of rows, initial weights and draws of codes in training. An int gives the same
        fit each time. `sample` has a seed of its own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted. Only with ``conditional=True``.

    class_prior_ : ndarray of shape (n_classes,)
        The share of each class among the training rows. Only with ``conditional=True``.

    n_components_ : int
        Numbers in a code; how many "auto" came to.

    components_ : ndarray of shape (n_components_, n_features_in_)
        The decoder's linear path: what a unit of each code adds to a row, in units of X (after the logit or
        logarithm, where the likelihood has one); the loadings at ``max_iter=0``. Missing if an own decoder is the whole
        decoder. Where columns have a likelihood each, this is of the columns that encode them: a "gaussian" one after
        its map to a normal one, and of a "categorical" one a column for each category, in the order of X.

    prior_ : GaussianMixture or None
        The density of codes with ``prior="mixture"``, if held-out codes are likelier under it than under the standard
        normal and training has changed the net; else None. `truncate` fits it anew, to the encoder's own q.
        `partial_fit` leaves it as it is.

    noise_variance_ : ndarray of shape (n_features_in_,)
        Noise variance of each column, the mean over the encoder's codes of training rows, in units of X squared; zero
        for constant columns. Only for "gaussian". This, and what is told of components, is of 5,000 rows at most.

    kl_per_component_ : ndarray of shape (n_components_,)
        How far the encoder's posterior of each component is from the standard normal, in nats, the mean over training
        rows.

    active_components_ : ndarray of shape (n_components_,)
        Whether each component is in use: its KL is above 0.01 nats.

    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows; where columns have a likelihood each, of the columns that encode them.

    net_ : skorch.NeuralNet
        The net; its ``module_`` and ``history`` are within reach.

    n_iter_ : int
        Epochs run.

    loss_curve_ : list of float
        Training loss of each epoch: minus the ELBO of a row (with ``beta``), in nats, in units of X. With components in
        order it is the mean over sizes.

    validation_loss_curve_ : list of float or None
        The same on held-out rows, but with the share of simpler models; None without early stopping and after
        `partial_fit`.

    best_loss_ : float or None
        Loss of the weights kept on the held-out rows, the lowest training loss without early stopping. None after
        `partial_fit`.

    linear_loss_ : float or None
        Loss of the linear start, with its share of simpler models, on the same rows. None with ``start="random"``
        and after `partial_fit`.

    n_features_in_ : int
        Number of columns of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X had names that are all strings.

    See Also
    --------
    AutoencoderTransformer : Codes and reconstructions without a density.
    sklearn.decomposition.FactorAnalysis : The linear start.

    Notes
    -----
    The evidence lower bound [1]_ of a row is

    .. math:: \mathrm{ELBO}(x) = E_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, N(0, I)) \le \log p(x)

    In scores the expectation is a mean over draws that are the same for all rows and have mean zero and identity
    covariance, so that it is exact for linear models: there the bound meets :math:`\log p(x)` [2]_. Losses of held-out
    rows, and the steps below, take fewer, of -1 and 1: 8 up to 8 components, twice as many up to 16, and so on.

    The encoder's q is a first guess. With a linear start, the Gaussian likelihood and ``beta=1``, each row's mean and
    variance then take two steps along the natural gradient of its bound, in codes and scores and on held-out rows [3]_.

    With ``prior="mixture"`` scores have :math:`E_{q(z|x)}[\log p(z) - \log q(z|x)]` with p(z) the mixture in place of
    minus the KL, over the same draws: as any q does, the same q gives a bound for this prior too. The mixture is fitted
    to one draw from q for each of 5,000 training rows at most [5]_. Losses, the choice of weights and codes are those
    of the standard normal.

    No net is right for every row. Where n held-out rows judge, densities and samples therefore leave a share of
    1 / (n + 2) to the linear models, half to the start and half to probabilistic PCA of standardised columns [4]_:
    by the rule of succession,
    how often a net that did well on n rows is expected to fail. A row then costs at most log(2 (n + 2)) nats more than
    under either. With other likelihoods the share is left to independent columns, whatever the class or the gaps: each
    at its mean, a negative binomial or normal one at its variance. A row costs at most
    log(n + 2) nats more than under these. This needs a linear start and ``beta=1``, and there is no share at
    ``max_iter=0``. Codes and reconstructions are the net's.

    With components in order there is a model of each size. Those of 1, 2, 4, ... and n_components numbers start as
    probabilistic PCA of so many; one between begins with the loadings of the next larger of these. Each refines its q,
    from the leading numbers of the shared one, by its own bound. Codes are those of the largest size, cut [6]_.

    Missing entries leave the bound, which is then one of the log-density of what is observed [7]_. For the encoder they
    are filled with what a normal model of all columns, estimated by EM from what is observed, expects given the rest of
    the row, so that a linear code is what that model expects it to be; if training rows had gaps it is told where. The
    start is that of rows filled by draws from that model. If they had none it is the start that fills.

    Each column is centred and divided by its standard deviation for the net; densities are told in X's units. Constant
    columns, and those observed only once, add nothing to a density and come back constant (from own modules that start
    at random, as these make them). Noise is kept from vanishing, since duplicated columns would make any density
    unbounded: a start's variance is at least 1e-6 of its column's ("pca": 1e-12; else, with components in order, 1e-4),
    and training brings none under 1e-4, a standard deviation of a hundredth of the column's, or under half its start if
    that is less. A code raises or lowers a variance by a factor of e^3, 20, at most.

    With ``conditional=True`` encoder and decoder are given the class, as a column for each that is 0 or 1, beside the
    row or the code [8]_; own modules, too. The linear start is that of rows less the mean of their class. A class that
    is not given is averaged over: the density of a row is :math:`\sum_y p(y) p(x|y)`, bounded by the bounds of p(x|y),
    which weigh the classes where its code or gaps are asked for. The linear models that have a share of the density are
    shifted by these means as well.

    Where columns have a likelihood each (``likelihood`` "auto", "categorical" or a mapping), a "gaussian" column is
    first made normal by a map that rises in at most 32 straight pieces, from quantiles of the training rows to those of
    a normal, and goes on straight beyond. Densities count its slope, and so stay in X's units; at a knot the slope is
    that on its right. On the way back a value of at least a fiftieth of the rows takes all scores that were its own.
    Rows that are returned have the columns, dtypes and categories of the training rows, and stay in their range;
    integers are whole. A missing value is missing in all columns that encode it; `impute` gives the likeliest category.
    A score has the log-probabilities of bools, counts and categories beside log-densities. There is no refinement of
    q.

    References
    ----------
    .. [1] Kingma, D. P. and Welling, M. (2014). Auto-encoding variational Bayes. arXiv:1312.6114

    .. [2] Lucas, J., Tucker, G., Grosse, R. and Norouzi, M. (2019). Don't blame the ELBO! A linear VAE perspective on
       posterior collapse. arXiv:1911.02469

    .. [3] Kim, Y., Wiseman, S., Miller, A., Sontag, D. and Rush, A. (2018). Semi-amortized variational autoencoders.
       arXiv:1802.02550

    .. [4] Hesterberg, T. (1995). Weighted average importance sampling and defensive mixture distributions.
       Technometrics, 37(2), 185-194.

    .. [5] Ghosh, P., Sajjadi, M. S. M., Vergari, A., Black, M. and Schoelkopf, B. (2020). From variational to
       deterministic autoencoders. arXiv:1903.12436

    .. [6] Rippel, O., Gelbart, M. A. and Adams, R. P. (2014). Learning ordered representations with nested dropout.
       arXiv:1402.0915

    .. [7] Mattei, P.-A. and Frellsen, J. (2019). MIWAE: deep generative modelling and imputation of incomplete data
       sets. arXiv:1812.02633

    .. [8] Sohn, K., Lee, H. and Yan, X. (2015). Learning structured output representation using deep conditional
       generative models. Advances in Neural Information Processing Systems 28.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.decomposition import FactorAnalysis
    >>> from skae import VAEGenerator
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> linear = VAEGenerator(n_components=2, max_iter=0).fit(X)
    >>> bool(linear.score(X) >= FactorAnalysis(2).fit(X).score(X))
    True
    >>> linear.sample(3, random_state=0).shape
    (3, 30)
    """

    _scale_per_column = True
    _linear_starts = ("factor_analysis", "pca")
    _ordered_share = 0.3  # with fewer epochs images lose a nat at small sizes, which autoencoders do not

    def __init__(
        self,
        n_components=2,
        *,
        likelihood="gaussian",
        handle_unknown="error",
        start="factor_analysis",
        ordered=False,
        beta=1.0,
        conditional=False,
        prior="normal",
        hidden_layer_sizes="auto",
        activation="gelu",
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
        self.likelihood = likelihood
        self.handle_unknown = handle_unknown
        self.start = start
        self.ordered = ordered
        self.beta = beta
        self.conditional = conditional
        self.prior = prior
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
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

    @no_gradients()
    def score_samples(self, X, y=None):
        """The ELBO of each row: a lower bound of its log-density, the share of simpler models included.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            With ``conditional=True`` the classes of the rows, for their densities in these; None for their densities
            whatever the class. Else ignored.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats, in units of X: comparable with `score_samples` of PCA, FactorAnalysis and GaussianMixture.
        """
        check_is_fitted(self)
        X = self._check_rows(X)
        return self._densities(X, self._score_draws(), self._bound, y)

    def _score_draws(self):
        return fixed_draws(max(_SCORE_DRAWS, 2 * self.n_components_), self.n_components_)

    def _bound(self, module, output, x, noise):
        """The ELBO of each row."""
        kl = gaussian_kl(output.mean, output.log_var).sum(1)
        return (module.likelihood(output.eta, x) + self._prior_gain(output.z)).mean(0) - kl

    def score(self, X, y=None):
        """The mean ELBO of the rows, in nats a row, in units of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            As in `score_samples`.

        Returns
        -------
        float
        """
        return float(self.score_samples(X, y).mean(dtype=np.float64))

    @no_gradients()
    def log_likelihood(self, X, n_draws=100, *, y=None):
        """The importance-weighted bound of each row's log-density: tighter than the ELBO, the more draws the tighter.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        n_draws : int, default=100
            Draws a row, the same for all rows and at every call.
        y : array-like of shape (n_samples,), default=None
            As in `score_samples`.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats, in units of X. In expectation over draws at least the ELBO and at most the log-density (Burda et
            al. 2016, arXiv:1509.00519).
        """
        check_is_fitted(self)
        X = self._check_rows(X)
        draws = self._normal_draws(check.check_integer("n_draws", n_draws, 1))

        def bound(module, output, x, noise):
            return self._log_weights(module, output, x, noise).logsumexp(0) - math.log(len(noise))

        return self._densities(X, draws, bound, y)

    def _normal_draws(self, n_draws):
        """Standard normal, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn((n_draws, 1, self.n_components_), generator=generator, dtype=torch.float64)

    def _log_weights(self, module, output, x, noise):
        """log p(x, z) - log q(z | x) of draws: (n_draws, n)."""
        log_ratio = 0.5 * (noise.square() + output.log_var - output.z.square()).sum(-1)  # log p(z) - log q(z | x)
        return module.likelihood(output.eta, x) + log_ratio + self._prior_gain(output.z)

    @no_gradients()
    def impute(self, X, *, n_draws=None, random_state=None):
        """Rows with their gaps filled by the model's mean given the rest of the row, or by draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, nan where missing.
        n_draws : int, default=None
            How many times to fill the rows, each with draws of their own, so that they vary as rows do and what is
            computed from each tells how much gaps leave open (multiple imputation). None fills once, with means.
        random_state : int, RandomState instance or None, default=None
            Source of the draws. An int gives the same ones each time.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or DataFrame, or a list of ``n_draws`` of these
            The rows, what was observed as it was; DataFrames of the library of the one that was fitted.

        Notes
        -----
        Codes are drawn from the encoder's q and weighted by p(x, z) / q(z | x), as Mattei and Frellsen (2019,
        arXiv:1812.02633) do it: 100 for each row, the share of simpler models left out. If `fit` was given rows with
        gaps and the likelihood is Gaussian, means are in part those of the normal model that fills rows for the
        encoder. Its share is one number (where components are in order, one for 1, 2, 4, ... of them), of least
        squared error on entries of training rows that `fit` hides for it.
        """
        check_is_fitted(self)
        rows = self._check_rows(X)
        if isinstance(rows, SparseRows):
            raise TypeError("In sparse rows no value is missing: there is nothing to impute. Pass a dense array.")
        rows = rows[:]
        if n_draws is None:
            return self._in_container(self._filled(rows), like=X)
        n_draws = check.check_integer("n_draws", n_draws, 1)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        return [self._in_container(self._filled_by_net(rows, generator), like=X) for _ in range(n_draws)]

    @no_gradients()
    def _filled_by_net(self, X, generator=None):
        """Rows whose gaps are filled by means, or by draws if there is a generator of these."""
        with_gaps, draws = np.flatnonzero(np.isnan(X).any(axis=1)), self._normal_draws(_IMPUTATION_DRAWS)
        if generator is not None:
            draws = torch.randn(draws.shape, generator=generator, dtype=torch.float64)
        module = self._model(self.net_, torch_dtype(X))
        likelihood = copy.deepcopy(module.likelihood).cpu()

        def fill(rows):
            etas, log_weights = [], []
            for given, log_share in self._unknown_classes():
                inputs, targets = self._net_rows(rows, given)
                noise = draws.to(inputs)
                output = module(inputs, noise)
                log_weights.append(self._log_weights(module, output, targets, noise).cpu() + log_share)
                etas.append(output.eta.cpu())
            weights, eta, x = torch.cat(log_weights).softmax(0), torch.cat(etas), targets.cpu()
            if generator is None:
                expected = torch.einsum("sn,snd->nd", weights.to(eta), likelihood.mean_of_gaps(eta, x))
            else:
                drawn = weights.T.multinomial(1, generator=generator)[:, 0]
                expected = likelihood.draw_gaps(eta[drawn, torch.arange(len(rows))], x, generator)
            return np.where(np.isnan(rows), self._frame.from_net(expected.numpy()), rows)

        filled = X.copy()
        if not len(with_gaps):
            return filled
        width = len(draws) * len(self._unknown_classes()) * X.shape[1]
        filled[with_gaps] = self._map_rows(X[with_gaps], fill, X.shape[1], width=width)
        return filled

    def _net_rows(self, rows, given=None):
        """Rows as the net sees them, all beside what is given, and as the likelihood does."""
        inputs = torch.from_numpy(self._frame.to_net(rows)).to(self.net_.device)
        targets = inputs if self._frame.link == "identity" else torch.tensor(rows, device=self.net_.device)
        if given is not None:
            inputs = torch.cat([inputs, torch.from_numpy(given).to(inputs).expand(len(inputs), -1)], dim=1)
        return inputs, targets

    def _beside_given(self, codes, given):
        return np.hstack([codes, np.broadcast_to(given.astype(codes.dtype), (len(codes), given.shape[-1]))])

    def _unknown_classes(self):
        """What the net is given for each class that a row may be of, and the logarithm of the class's share."""
        if not self._design["conditional"]:
            return [(None, 0.0)]
        return list(zip(np.eye(len(self.classes_)), np.log(self.class_prior_), strict=True))

    @no_gradients()
    def sample(self, n_samples=1, *, y=None, noise=True, random_state=None):
        """New rows.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        y : label or array-like of shape (n_samples,), default=None
            With ``conditional=True`` the class of all rows, or of each. None draws classes as often as training rows
            had them.
        noise : bool, default=True
            Whether to draw rows from the likelihood, and their share from simpler models; if not, the decoder's means
            are returned.
        random_state : int, RandomState instance or None, default=None
            An int gives the same rows each time, None others each time.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            In units of X; a DataFrame of the library and the column names of the one that was fitted.
        """
        check_is_fitted(self)
        n_samples = check.check_integer("n_samples", n_samples, 1)
        check.check_flag("noise", noise)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        if y is not None and not self._design["conditional"]:
            raise ValueError(f"sample(y={y!r}) needs a model of each class. Fit with conditional=True and classes y.")
        rng = np.random.RandomState(seed)
        if self.prior_ is None:
            codes = torch.randn((n_samples, self.n_components_), generator=generator, dtype=torch.float64).numpy()
        else:
            codes = draw_codes(self.prior_, n_samples, rng)
        if self._design["conditional"]:
            if y is None:
                labels = rng.choice(len(self.classes_), n_samples, p=self.class_prior_)
            else:
                labels = check.check_labels(y, self.classes_, n_samples)
            codes = self._beside_given(codes, np.eye(len(self.classes_))[labels])
        if not noise:
            return self._in_container(self._decode(codes))
        module = copy.deepcopy(self._model(self.net_, torch.float64)).cpu()
        defence = module.defence

        def draw(codes):
            rows = module.likelihood.draw(self._apply("decode", codes).cpu(), generator)
            if defence is not None:
                left = torch.rand(len(rows), generator=generator, dtype=torch.float32) < defence.share
                normal = torch.randn(codes.shape, generator=generator, dtype=torch.float64)
                given = torch.from_numpy(codes[:, self.n_components_ :])[left] if module.n_given else None
                # Theirs is no mixture, and may have fewer numbers.
                rows[left] = defence.draw(normal[left, : defence.n_components], generator, given)
            return self._frame.from_net(rows.numpy())

        return self._in_container(self._map_rows(codes, draw, len(self._frame.mean)))

    def _densities(self, X, draws, bound, y=None):
        """``bound`` of each row, given the net's output at these draws, in units of X: in its class, if known."""
        if not self._design["conditional"]:
            return self._densities_given(X, draws, bound)
        if y is None:
            return np.logaddexp.reduce(self._joint_densities(X, draws, bound), axis=0)
        labels, densities = check.check_labels(y, self.classes_, len(X)), np.empty(len(X), X.dtype)
        for label, (given, _) in enumerate(self._unknown_classes()):
            of_label = labels == label
            if of_label.any():
                densities[of_label] = self._densities_given(X[of_label], draws, bound, given)
        return densities

    def _joint_densities(self, X, draws, bound):
        """The same of each row and each class: (n_classes, n_samples)."""
        classes = self._unknown_classes()
        joint = [self._densities_given(X, draws, bound, given) + log_share for given, log_share in classes]
        return np.stack(joint, dtype=X.dtype)

    def _densities_given(self, X, draws, bound, given=None):
        """The same of rows that are all beside what is given."""
        module = self._model(self.net_, torch_dtype(X))
        log_units = self._log_units(self._frame)

        def densities(rows):
            inputs, targets = self._net_rows(rows, given)
            noise = draws.to(inputs)
            output = module(inputs, noise)
            densities = bound(module, output, targets, noise)
            if module.defence is not None:
                densities = module.defence(densities, targets, output.given)
            # Of a row so far off that the arithmetic overflows, the density is nothing.
            densities = densities.nan_to_num(nan=-math.inf, neginf=-math.inf).numpy(force=True)
            if self._plan is not None:
                jacobian = -self._plan.log_slopes(rows).sum(axis=1)
            else:
                jacobian = log_units.sum() if not has_gaps(rows) else ~np.isnan(rows) @ log_units
            return (densities - jacobian)[:, None]

        # Larger blocks than elsewhere: many draws leave few rows to a small one, and calls have a price too.
        return self._map_rows(X, densities, 1, width=-(-len(draws) * X.shape[1] // 4))[:, 0]

    def _model(self, net, dtype):
        """The VAE of ``n_components_`` numbers."""
        module = net.inference_module(dtype)
        return module.at(self.n_components_) if self._design["ordered"] else module

    def _prior_gain(self, z):
        """log p(z) of the mixture minus that of the standard normal, of draws (n_draws, n, n_components)."""
        if self.prior_ is None:
            return 0.0
        z = z.double().nan_to_num(_FAR, _FAR, -_FAR).clamp(-_FAR, _FAR)
        log_mixture = torch.from_numpy(self.prior_.score_samples(z.flatten(0, 1).numpy(force=True)))
        log_normal = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
        return log_mixture.reshape(z.shape[:2]).to(z.device) - log_normal

    def _fit_prior(self, net, rows):
        """The mixture that a draw of each training row's code is likeliest under; None if it is the standard normal."""
        module, generator = self._model(net, torch.float64), torch.Generator().manual_seed(self._seed)
        posteriors = (module.posterior(x.double()) for x in self._drawn_inputs(net, rows, net.width))
        return self._mixture(np.concatenate([self._drawn_codes(q, generator) for q in posteriors]))

    def _drawn_codes(self, q, generator):
        noise = torch.randn(q.mean.shape, generator=generator, dtype=torch.float64).to(q.mean)
        return (q.mean + (q.log_var / 2).exp() * noise).numpy(force=True)

    def _mixture(self, codes):
        """The mixture that these are likeliest under; None if it is the standard normal."""

        def standard_normal(codes):
            return -0.5 * (np.square(codes) + np.log(2 * np.pi)).sum(axis=1).mean()

        return code_density(codes, self._seed, standard_normal)

    # Hooks of the fit recipe.

    def _check_parameters(self):
        super()._check_parameters()
        check.check_n_components(self.n_components, takes_share=False)
        if isinstance(self.likelihood, Mapping):
            for column, likelihood in self.likelihood.items():
                check.check_choice(f"likelihood[{column!r}]", likelihood, (*KINDS, "auto"))
        else:
            check.check_choice("likelihood", self.likelihood, (*LIKELIHOODS, "auto"))
        check.check_choice("handle_unknown", self.handle_unknown, ("error", "ignore"))
        if self._takes_tables() and self.feature_shape is not None:
            raise ValueError(
                f"feature_shape={self.feature_shape!r} is of rows of pixels, and likelihood={self.likelihood!r} of "
                "columns of several kinds. Leave one of them at its default."
            )
        check.check_choice("start", self.start, (*self._linear_starts, "random"))
        self._check_order()
        check.check_real("beta", self.beta)
        check.check_flag("conditional", self.conditional)
        if self.conditional and (self.ordered or self._chooses_size() or self.feature_shape is not None):
            raise ValueError(
                f"conditional=True takes ordered=False, an integer n_components and feature_shape=None, got "
                f"ordered={self.ordered}, n_components={self.n_components!r} and feature_shape={self.feature_shape!r}."
            )
        check.check_choice("prior", self.prior, ("normal", "mixture"))

    def _takes_tables(self):
        """Whether columns have a likelihood each."""
        return _takes_tables(self.likelihood)

    def _given(self, X, y):
        """The class of each row, as columns of 0 and 1."""
        if not self.conditional:
            return None
        self.classes_, labels = check.check_classes(y, len(X))
        given = np.eye(len(self.classes_))[labels]
        self.class_prior_ = given.mean(axis=0)
        return given

    def _check_validation_rows(self, X_val):
        if X_val is not None and self.conditional:
            raise ValueError(
                "With conditional=True leave X_val out: no class of its rows is known, so rows of X are held out."
            )
        return super()._check_validation_rows(X_val)

    def _check_rows(self, X, *, reset=False, ensure_min_samples=1):
        """Rows as they come or, of a table whose columns have a likelihood each, as its plan encodes them."""
        if reset:
            self._plan = None
        if not (self._takes_tables() if reset else self._plan is not None):
            return super()._check_rows(X, reset=reset, ensure_min_samples=ensure_min_samples)
        self._container, dtype, enough = None, np.float64, {"ensure_min_samples": ensure_min_samples}
        X = given = unmasked(X)
        if library_of(X) is None and (reset or self._plan.library is None):
            X = self._check_array_of_numbers(X, reset=reset, **enough)
            dtype = X.dtype
        else:
            if library_of(X):
                check_array(np.broadcast_to(0.0, X.shape), estimator=self, **enough)
            else:
                X = check_array(X, dtype=object, ensure_all_finite=False, estimator=self, **enough)
            validate_data(self, X, reset=reset, skip_check_array=True)
        if reset:
            self._plan = fit_plan(X, self.likelihood, None if library_of(X) else np.asarray(given).dtype)
        rows = self._plan.encode(X, self.handle_unknown, dtype)
        if reset and has_gaps(rows):
            check.check_gaps(rows, self._plan.names)
        return rows

    def _check_array_of_numbers(self, X, **options):
        try:
            return validate_data(self, X, dtype=check.FLOATS, ensure_all_finite="allow-nan", **options)
        except ValueError as error:
            if "convert string" not in str(error):
                raise
            raise ValueError(
                f"{error}. An array is taken for numbers: pass strings and categories as a DataFrame."
            ) from error

    def _refusal_of_text(self, column, value):
        return (
            f"likelihood={self.likelihood!r} takes numbers, but column {column!r} of X has {value!r}. Use "
            "likelihood='auto', which gives each column of a DataFrame its own."
        )

    def _in_container(self, rows, like=None):
        return super()._in_container(rows, like) if self._plan is None else self._plan.decode(rows, like)

    @no_gradients()
    def _encode(self, X):
        if not self._design["conditional"]:
            return super()._encode(X)
        joint = self._joint_densities(X, self._score_draws(), self._bound)
        joint[:, joint.max(axis=0) == -np.inf] = 0  # of a row so far off that no class has made it
        codes = np.zeros((len(X), self.n_components_), X.dtype)
        for (given, _), probability in zip(self._unknown_classes(), softmax(joint, axis=0), strict=True):

            def encode(rows, given=given):
                module = self._model(self.net_, torch_dtype(rows))
                return module.encode(self._net_rows(rows, given)[0]).numpy(force=True)

            codes += probability[:, None] * self._map_rows(X, encode, self.n_components_, width=self.net_.width)
        return codes

    def inverse_transform(self, X, y=None):
        """The rows that codes stand for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes, as `transform` gives them.
        y : label or array-like of shape (n_samples,), default=None
            With ``conditional=True`` the class of all rows, or of each; None gives the mean over classes. Else ignored.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            Rows in units of the training rows; in float32 for float32 codes, else in float64. A DataFrame where columns
            have a likelihood each and one was fitted.
        """
        codes = self._check_codes(X)
        if not self._design["conditional"]:
            rows = self._decode(codes)
        elif y is None:
            shares = self.class_prior_.astype(codes.dtype)
            of_classes = (self._decode(self._beside_given(codes, given)) for given, _ in self._unknown_classes())
            rows = sum(share * of_class for share, of_class in zip(shares, of_classes, strict=True))
        else:
            labels = check.check_labels(y, self.classes_, len(codes))
            rows = self._decode(self._beside_given(codes, np.eye(len(self.classes_))[labels]))
        return rows if self._plan is None else self._plan.decode(rows)

    def __getstate__(self):
        state = super().__getstate__()
        return state | {"_plan": asdict(state["_plan"])} if state.get("_plan") else state

    def _check_state(self, state):
        stored.check_plan(stored.get(state, "_plan"))
        n = super()._check_state(state)
        likelihood, in_order = state["_design"]["likelihood"], state["_design"]["ordered"]
        width, n_components = state["_width"], state["n_components_"]
        if state["_plan"] is not None and _revived_plan(state["_plan"]).width != n:
            raise stored.fault("_plan", f"is not of {n} columns, as the net is")
        stored.check_mixture(stored.get(state, "prior_"), n_components)
        stored.check_array(state, "kl_per_component_", (n_components,))
        stored.check_array(state, "active_components_", (n_components,), bool)
        if likelihood == "gaussian":
            stored.check_array(state, "noise_variance_", (n,), low=0)
        if in_order:
            stored.check_array(state, "_codes", (2, stored.length_of(state, "_codes", 1), width))
        else:
            stored.check_one_of(state, "_codes", [None])
        return n

    def _link_of(self, state):
        takes_tables = _takes_tables(state["_design"]["likelihood"])
        if takes_tables != (state["_plan"] is not None):
            raise stored.fault("_plan", "does not go with the likelihood")
        return _revived_plan(state["_plan"]).links if takes_tables else super()._link_of(state)

    def _n_given(self, state):
        if not state["_design"]["conditional"]:
            return 0
        n = stored.length_of(state, "classes_", 0)
        if n < 1 or state["classes_"].ndim != 1 or not np.array_equal(np.unique(state["classes_"]), state["classes_"]):
            raise stored.fault("classes_", "is no array of classes, sorted, each once")
        stored.check_array(state, "class_prior_", (n,), low=0)
        if not math.isclose(state["class_prior_"].sum(), 1, rel_tol=1e-6):
            raise stored.fault("class_prior_", f"sums to {state['class_prior_'].sum():g}, not 1")
        return n

    def _check_net(self):
        if not self._design["conditional"]:
            super()._check_net()
            return
        codes = self._encode(self._frame.mean[None])
        rows = [self._decode(self._beside_given(codes, given)) for given, _ in self._unknown_classes()]
        if not (np.isfinite(codes).all() and np.isfinite(rows).all()):
            raise stored.fault("the net", "makes numbers that are not finite of a typical row")

    def _revived(self, state):
        state = super()._revived(state)
        return state if state["_plan"] is None else state | {"_plan": _revived_plan(state["_plan"])}

    def _check_values(self, X):
        likelihood = self._design["likelihood"] if hasattr(self, "_design") else self.likelihood
        if likelihood in check.COUNTS:
            check.check_counts(X, likelihood)
        else:
            check.check_range(X, "likelihood", likelihood)

    def _check_sparse_values(self, X):
        check.check_sparse_counts(X, self.likelihood)

    def _streams(self):
        return not self.conditional

    def _takes_sparse(self):
        return isinstance(self.likelihood, str) and self.likelihood in check.COUNTS and not self.conditional

    def _takes_pieces(self):
        if not self.conditional:
            return super()._takes_pieces()
        raise AttributeError("conditional=True needs all classes at once, and partial_fit gets pieces. Call fit.")

    def _new_design(self):
        own = {"likelihood": copy.copy(self.likelihood), "beta": self.beta, "conditional": self.conditional}
        return super()._new_design() | own

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.likelihood in check.COUNTS
        tags.input_tags.sparse = self._takes_sparse()
        tags.target_tags.required = self.conditional
        return tags

    def _link(self):
        return LIKELIHOODS[self._design["likelihood"]].link if self._plan is None else self._plan.links

    def _new_likelihood(self, n_features):
        if self._plan is None:
            return LIKELIHOODS[self._design["likelihood"]](n_features)
        return Mixed(
            [
                Categorical(sum(widths), widths) if kind == "categorical" else LIKELIHOODS[kind](len(widths))
                for kind, widths in self._plan.parts
            ]
        )

    def _inverse_link(self, eta):
        return self._output_mean(self.net_.inference_module(eta.dtype))(eta)

    def _output_mean(self, module):
        return (module.at(self.n_components_) if self._design["ordered"] else module).likelihood.mean

    def _objective(self, frame, module):
        beta = self._design["beta"]
        if not self._design["ordered"]:
            return NegativeELBO(module.likelihood, beta, module.defence)
        models = [module.at(size) for size in range(1, self._width + 1)]
        return NestedNegativeELBO([NegativeELBO(model.likelihood, beta, model.defence) for model in models])

    def _net_components(self, standardised):
        n_components = super()._net_components(standardised)
        if self._design["n_components"] != "auto":
            return n_components
        return max(1, min(n_components, *(n - 1 for n in standardised.shape)))  # or nothing were left to noise

    def _n_outputs(self, module):
        return len(sign_draws(self._width))

    def _evaluation_draws(self, device):
        return sign_draws(self._width).to(device)

    def _own_correction(self, factory, n_in, n_out, generator, name, n_levels):
        own, width = build_own(factory, n_in, n_out, generator, name, any_width=True)
        if n_levels:
            return Headed(own, stacked_linear([width] * n_levels, width, n_out, generator))
        return Headed(own, linear(width, n_out, generator))

    def _log_units(self, frame):
        """What a density of standardised rows loses by each column, in nats, when it is told in units of X."""
        if frame.link != "identity":
            return np.zeros(len(frame.mean))
        return np.where(frame.constant, 0, np.log(frame.scale))

    def _observed_shares(self, rows):
        """As ever; of a table, what a density gains on these rows when it is told in their units, by columns."""
        if self._plan is None:
            return super()._observed_shares(rows)
        return self._plan.log_slopes(rows[:][1].numpy(force=True)).mean(axis=0)

    def _in_units(self, loss, frame, shares):
        if self._plan is not None:
            return loss - float(shares.sum())
        return loss + float((shares * self._log_units(frame)).sum())

    def _output_unit(self, frame):
        return frame.scale if frame.link == "identity" else 1.0

    def _build_module(self, n_features):
        design, generator = self._design, torch.Generator().manual_seed(self._seed)
        n_components, widths, likelihood = self._width, design["hidden_layer_sizes"], self._new_likelihood(n_features)
        levels = doubling_levels(n_components) if design["ordered"] else ()
        n_given = len(self.classes_) if design["conditional"] else 0
        encoder, completion = self._encoder(n_features + n_given, 2 * n_components, generator)
        decoder = self._coder(
            n_components + n_given, likelihood.n_outputs, widths[::-1], design["decoder"], generator, "decoder", levels
        )
        begins_linear = design["start"] != "random" and design["beta"] == 1
        is_gaussian = design["likelihood"] == "gaussian"
        n_refinements = _REFINEMENTS if begins_linear and is_gaussian else 0
        if not begins_linear:
            defences = None
        elif is_gaussian:
            defences = [LinearModels(2, n_features, size, n_given) for size in levels or [n_components]]
        else:  # the same whatever the size
            defences = [IndependentColumns(self._new_likelihood(n_features))] * max(1, len(levels))
        if levels:
            likelihoods = [self._new_likelihood(n_features) for _ in range(n_components)]
            return OrderedVAE(encoder, decoder, levels, likelihoods, completion, n_refinements, defences)
        draws = self._evaluation_draws(torch.device("cpu"))
        defence = defences[0] if defences else None
        return VAE(encoder, decoder, likelihood, completion, draws, n_refinements, defence, n_given)

    def _start(self, module, frame, standardised, random_state):
        """Set the start's weights; codes have no unit but the prior's; and what would fill gaps is returned."""
        n_components, ordered = self._width, self._design["ordered"]
        sizes = range(1, n_components + 1) if ordered else [n_components]
        models = [module.at(size) if ordered else module for size in sizes]
        inputs, n_given = standardised, standardised.shape[1] - len(frame.mean)
        if n_given:
            standardised, class_means = _less_class_means(inputs, n_given)
        varies, variance = torch.from_numpy(frame.spread > 0), np.where(frame.spread > 0, frame.spread**2, 1)
        for model in models:
            model.likelihood.varies.copy_(varies)
        if self._design["start"] == "random":
            self._start_noise(module, frame, variance, variance)
            filling = no_normal(frame) if not n_given else normal_of(inputs, 0, random_state)
            return np.ones(n_components + n_given), filling
        linear_model = self._linear_model(frame, standardised, random_state)
        rank = rank_of(standardised)
        leading = [linear_model.leading(size, rank) if ordered else linear_model for size in sizes]
        for model, start in zip(models, leading, strict=True):
            self._start_noise(model, frame, start.noise, variance)
        weight, posterior_variance = (torch.from_numpy(part) for part in linear_model.posterior())
        bias = torch.cat([torch.zeros(n_components, dtype=torch.float64), posterior_variance.log()])
        loadings, filling = torch.from_numpy(linear_model.loadings), linear_model.normal()
        if n_given:  # a class adds its mean to rows, and codes are of what is left of them
            weight = torch.cat([weight, -weight @ torch.from_numpy(class_means.T)], dim=1)
            loadings = torch.cat([loadings, torch.from_numpy(class_means.T)], dim=1)
            filling = normal_of(inputs, n_components, random_state)
        ones = torch.ones(inputs.shape[1])
        self._start_encoder(module, torch.cat([weight, torch.zeros_like(weight)]), bias, inputs, ones, 1.0)
        if ordered:
            loadings = torch.zeros(len(module.levels), *loadings.shape, dtype=torch.float64)
            for of_level, level in zip(loadings, module.levels, strict=True):
                of_level[:, :level] = torch.from_numpy(leading[level - 1].loadings)
            for size, start in zip(sizes, leading, strict=True):
                module.begin_at(size, *map(torch.from_numpy, start.nearer_to_prior(linear_model)))
        if self._design["likelihood"] == "gaussian":
            module.decoder.start_at(torch.cat([loadings, torch.zeros_like(loadings)], dim=-2))
        else:  # the output is on the link's own scale
            scale, centre = torch.from_numpy(frame.scale), torch.from_numpy(frame.centre)
            n_further = models[0].likelihood.n_outputs - len(centre)
            loadings = nn.functional.pad(scale[:, None] * loadings, (0, 0, 0, n_further))
            module.decoder.start_at(loadings, nn.functional.pad(centre, (0, n_further)))
        if self.max_iter:
            shift = torch.from_numpy(class_means) if n_given else None
            self._start_linear_defences(module, linear_model, standardised, random_state, shift)
        return np.ones(n_components + n_given), filling

    def _linear_model(self, frame, standardised, random_state):
        """What the net starts at; with components in order one whose leading components are such a model too."""
        data = standardised, frame.scale, self._width, random_state
        if self._design["start"] == "pca":
            return probabilistic_pca_start(*data)
        if self._design["ordered"]:  # factors are in no order
            return ordered_start(standardised, self._width, _NOISE_FLOOR, random_state)
        return likelier_start(*data) if self.max_iter else factor_analysis_start(*data)

    def _start_linear_defences(self, module, linear_model, standardised, random_state, shift):
        """Let defences take the start and probabilistic PCA, of as many components as they have."""
        defences = [part for part in module.modules() if isinstance(part, LinearModels)]
        if not defences:
            return
        # In standard deviations: one noise in units of X would draw rows far off in columns of small ones.
        units = np.ones(standardised.shape[1])
        pca = probabilistic_pca_start(standardised, units, self._width, random_state)
        varies, rank = torch.from_numpy(standardised.any(axis=0)), rank_of(standardised)
        for defence in defences:
            size = defence.n_components
            models = [model if size == self._width else model.leading(size, rank) for model in (linear_model, pca)]
            loadings, noise = (torch.from_numpy(np.stack(parts)) for parts in zip(*models, strict=True))
            defence.start_at(loadings, noise, varies, shift)

    def _start_noise(self, model, frame, noise, variance):
        """Let a likelihood that learns a noise begin at this, and training keep a Gaussian's from vanishing."""
        if self._design["likelihood"] == "gaussian":
            model.likelihood.start_at(*map(torch.from_numpy, (noise, _NOISE_FLOOR * variance)))
        elif self._design["likelihood"] == "negative_binomial":  # of large counts, what their logarithms vary by
            model.likelihood.start_at(torch.from_numpy(noise * np.square(frame.scale)))
        elif self._plan is not None:
            ends = np.cumsum(model.likelihood.widths)
            for part, end in zip(model.likelihood.parts, ends, strict=True):
                of_part = slice(end - len(part.varies), end)
                if isinstance(part, Gaussian):
                    floor = _NOISE_FLOOR * variance[of_part]
                    part.start_at(torch.from_numpy(noise[of_part]), torch.from_numpy(floor))
                elif isinstance(part, NegativeBinomial):
                    scale = np.broadcast_to(frame.scale, noise.shape)[of_part]
                    part.start_at(torch.from_numpy(noise[of_part] * np.square(scale)))

    def _initialize(self, X, X_val=None, given=None):
        """As ever; and what rows tell before a link: columns by themselves, and sums for who is given these."""
        frame, net, code_scale, standardised = super()._initialize(X, X_val, given)
        for part in net.module_.modules():
            if isinstance(part, IndependentColumns) and self.max_iter:
                # Of other likelihoods the mean says how much rows vary.
                asks = self._plan is not None or self._design["likelihood"] == "negative_binomial"
                variance = np.square(raw_frame(X).spread) if asks else np.zeros_like(frame.mean)
                moments = frame.mean, variance, frame.spread > 0
                part.start_at(*(torch.from_numpy(moment).to(part.eta) for moment in moments), len(X))
            if isinstance(part, Multinomial):
                sums = X.sums() if isinstance(X, LazyRows) else np.nansum(X, axis=1)
                sums = np.quantile(sums, np.linspace(0, 1, part.N_SUMS), method="nearest")
                part.start_at(torch.from_numpy(sums))
        return frame, net, code_scale, standardised

    def _split(self, X, X_val, standardised, frame, net):
        """As ever; and a share of the density for simpler models, by the rule of succession.

        Of a net that describes n held-out rows well, one row in n + 2 is expected to be one that it does not.
        """
        rows, held_out = super()._split(X, X_val, standardised, frame, net)
        if held_out is not None and self.max_iter:
            for module in net.module_.modules():
                if isinstance(module, Defence):
                    module.share.fill_(1 / (len(held_out) + 2))
        return rows, held_out

    def _hold_out(self, net, standardised, n_held_out, rng):
        """One row of each group of rows that the start fits about equally badly.

        The worst rows decide a mean log-density, and a judge without its share of them would be a bad one.
        """
        if self._design["likelihood"] != "gaussian" or self._design["start"] == "random":
            return super()._hold_out(net, standardised, n_held_out, rng)
        if isinstance(standardised, FileRows):  # of a sample; any rows, if it would not do
            if n_held_out > standardised.at_once():
                return super()._hold_out(net, standardised, n_held_out, rng)
            rows = np.sort(some_of(len(standardised), standardised.at_once(), rng))
            return rows[self._hold_out(net, standardised[rows], n_held_out, rng)]
        module = net.module_.at(self._width) if self._design["ordered"] else net.module_
        misfit = np.empty(len(standardised))
        with torch.no_grad():
            (to_code, code), (to_row, row) = module.encoder.linear_map(), module.decoder.linear_map()
            to_code = to_code[:, : standardised.shape[1]]  # less the mask's
        for rows in gen_batches(len(standardised), evaluation_batch(standardised.shape[1])):
            x = torch.from_numpy(standardised[rows]).to(net.device, torch.float64)
            with torch.no_grad():
                z = (module.completion.fill(x) @ to_code.T + code)[:, : self._width]
                eta, x = module.beside_given(z, x) @ to_row.T + row, x[:, : len(module.likelihood.varies)]
                misfit[rows] = (z.square().sum(1) / 2 - module.likelihood(eta, x)).numpy(force=True)
        order = rng.permutation(len(misfit))  # chance decides among equals
        order = order[np.argsort(misfit[order], kind="stable")]
        return np.array([rng.choice(group) for group in np.array_split(order, n_held_out)])

    def _set_size(self, net, rows):
        super()._set_size(net, rows)
        if self.n_components == "auto":
            bounds = self._bounds_by_size(net, rows)
            short = bounds[:, [bounds.mean(axis=0).argmax()]] - bounds
            within = short.mean(axis=0) <= short.std(axis=0) / np.sqrt(len(short))
            self.n_components_ = int(within.argmax()) + 1

    def _bounds_by_size(self, net, rows):
        """Bounds of 1,000 of these rows at most, cut to each size, with the encoder's own q: (n_rows, n_sizes)."""
        drawn = some_of(len(rows), MOST_SIZED, np.random.RandomState(self._seed))
        inputs, targets = (part.double() for part in rows[torch.from_numpy(drawn).to(net.device)])
        at_once, bounds = evaluation_batch(net.width), []
        for size in range(1, self._width + 1):
            model, objective = net.module_.at(size), net.criterion_.objectives[size - 1].eval()
            model.n_refinements, noise = 0, sign_draws(size).to(net.device)
            with torch.no_grad():
                batches = zip(inputs.split(at_once), targets.split(at_once), strict=True)
                bounds.append(torch.cat([objective.bound(model(x, noise), target) for x, target in batches]))
        return torch.stack(bounds, dim=1).numpy(force=True)

    def _store(self, net, frame, code_scale, rows, best=None, held_out=None):
        super()._store(net, frame, code_scale, rows, best, held_out)
        if self._plan is not None:
            self.mean_ = frame.mean[self._plan.order]
        if best is None:  # partial_fit leaves the prior as it is
            self.prior_ = getattr(self, "prior_", None)
        else:
            back_at_start = (self.early_stopping or net.outcome_ == "diverged") and best.loss == best.start_loss
            mixed = self.prior == "mixture" and self.n_iter_ > 0 and not back_at_start
            self.prior_ = self._fit_prior(net, rows) if mixed else None
        width = 4 * len(frame.mean)  # numbers of a row in float64, and of its mean and variance
        self._describe_codes(net, self._guesses(net, self._drawn_inputs(net, rows, width)))
        self._codes = None
        if self._design["ordered"]:  # `truncate` asks for them
            drawn = self._drawn_inputs(net, rows, width)
            self._codes = torch.cat([guess for guess, _ in self._guesses(net, drawn)], dim=1).numpy(force=True)

    def _drawn_inputs(self, net, rows, width):
        """Batches of 5,000 of these rows at most, each row taking so many numbers."""
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self._seed))[:MOST_CODES]
        return (rows[part][0] for part in drawn.to(net.device).split(evaluation_batch(width)))

    def _guesses(self, net, batches):
        """Means and log-variances of the encoder's q of each batch, (2, n, n_components of the net); and the batch."""
        module = net.inference_module(torch.float64)
        for x in batches:
            with torch.no_grad():
                yield torch.stack(module.guess(x.double())), x.double()

    def _describe_codes(self, net, guesses):
        """Say, of these q, how far they are from the prior, and what noise is at their means."""
        model, n, kl, noise = self._model(net, torch.float64), 0, 0.0, 0.0
        for guess, x in guesses:
            with torch.no_grad():
                q = Posterior(*guess)
                q = model.leading(q) if self._design["ordered"] else q
                n, kl = n + len(q.mean), kl + gaussian_kl(*q).sum(0)
                if self._design["likelihood"] == "gaussian":
                    noise = noise + model.likelihood.variance(model.decode(model.beside_given(q.mean, x))).sum(0)
        self.kl_per_component_ = (kl / n).numpy(force=True)
        self.active_components_ = self.kl_per_component_ > _ACTIVE
        if self._design["likelihood"] == "gaussian":
            variance = (noise / n).numpy(force=True)
            self.noise_variance_ = np.where(self._frame.spread > 0, variance * self._frame.scale**2, 0)

    def _set_components(self, net):
        super()._set_components(net)
        if self._plan is not None and hasattr(self, "components_"):
            self.components_ = self.components_[:, self._plan.order]

    def _keep_leading(self, n_components):
        net, codes = self.net_, torch.from_numpy(self._codes).to(self.net_.device)
        self._describe_codes(net, zip(codes.split(evaluation_batch(net.width), dim=1), repeat(None)))
        if self.prior_ is not None:
            with torch.no_grad():
                q = self._model(net, torch.float64).leading(Posterior(*codes))
            self.prior_ = self._mixture(self._drawn_codes(q, torch.Generator().manual_seed(self._seed)))

    def _warn(self, net, nothing_better=False):
        if self.best_loss_ is None or self.active_components_.any() or net.outcome_ in ("diverged", "interrupted"):
            super()._warn(net, nothing_better)
            return
        if self.beta > 1:
            remedy = f"Lower beta={self.beta!r}"
        elif self._design["start"] == "random":
            remedy = "Start with start='factor_analysis'"
        else:
            remedy = "The columns of X may have nothing in common; if they have, lower beta or give more rows"
        warnings.warn(
            f"The posterior collapsed: no component of the code says anything about a row. {remedy}.",
            ConvergenceWarning,
            stacklevel=4,
        )


def _less_class_means(inputs, n_classes):
    """Rows less the mean of their class, the last columns of the inputs being classes; and these means."""
    rows, given = np.split(inputs, [inputs.shape[1] - n_classes], axis=1)
    given = given.astype(np.float64)
    means = (given.T @ rows) / given.sum(axis=0)[:, None]
    return (rows - given @ means).astype(rows.dtype), means


def _takes_tables(likelihood):
    return isinstance(likelihood, Mapping) or likelihood in ("auto", "categorical")


def _revived_plan(plan):
    """A `Plan` of the dict that it is saved as."""
    return Plan(plan["library"], [Column(**column) for column in plan["columns"]])
