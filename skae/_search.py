"""The autoencoder whose n_components is chosen by cross-validation, with one ordered fit for each fold."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, check_random_state, indexable
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from skae._autoencoder import AutoencoderTransformer
from skae.data import parameters as check
from skae.data.checks import FLOATS
from skae.data.dataframes import numbers_asked, unmasked
from skae.inspection.metrics import pca_errors_by_size, squared_error
from skae.persistence import state as stored
from skae.training.callbacks import NamedCallbacks


class AutoencoderTransformerCV(NamedCallbacks, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""An `AutoencoderTransformer` whose n_components is chosen by cross-validation, with one fit for each fold.

    In each fold an autoencoder with ordered components is fitted once, at the largest size, and truncated to the
    others. An autoencoder of the chosen size is then fitted to all samples.

    Parameters
    ----------
    n_components : sequence of int, default=(2, 4, 8, 16)
        Sizes to choose from. Sizes above the number of training samples of a fold are left out.

    cv : int, splitter or iterable, default=5
        As in scikit-learn: an int is the number of unshuffled folds.

    scoring : callable or None, default=None
        (estimator, X, y=None) -> score, higher is better, of a fitted `AutoencoderTransformer`; None is the negative
        reconstruction error. Since the error rarely grows with size, None chooses the largest size or one near it,
        unless ``one_standard_error`` is set.

    one_standard_error : bool, default=False
        Whether to choose the smallest size whose mean score is within one standard error (over folds) of the best.

    n_jobs : int or None, default=None
        Folds to fit in parallel, as in `sklearn.model_selection.GridSearchCV`.

    hidden_layer_sizes : "auto" or sequence of int, default="auto"
        As of `AutoencoderTransformer`.

    activation : {"gelu", "relu", "tanh", "silu", "elu", "logistic", "identity"}, default="gelu"
        As of `AutoencoderTransformer`.

    loss : {"squared_error", "absolute_error", "huber", "log_loss", "poisson"}, default="squared_error"
        As of `AutoencoderTransformer`.

    start : {"pca", "random"}, default="pca"
        As of `AutoencoderTransformer`, but "random" raises an error, since its components have no order.

    noise : float, default=0.0
        As of `AutoencoderTransformer`.

    sparsity : float, default=0.0
        As of `AutoencoderTransformer`.

    alpha : float, default=0.0
        As of `AutoencoderTransformer`.

    encoder : callable (n_in, n_out) -> torch.nn.Module, default=None
        As of `AutoencoderTransformer`.

    decoder : callable (n_in, n_out) -> torch.nn.Module, default=None
        As of `AutoencoderTransformer`.

    feature_shape : tuple of int, default=None
        As of `AutoencoderTransformer`.

    batch_size : "auto" or int, default="auto"
        As of `AutoencoderTransformer`.

    learning_rate_init : float, default=3e-3
        As of `AutoencoderTransformer`.

    max_iter : int, default=200
        As of `AutoencoderTransformer`.

    early_stopping : bool, default=True
        As of `AutoencoderTransformer`.

    validation_fraction : "auto" or float, default="auto"
        As of `AutoencoderTransformer`.

    n_iter_no_change : int, default=20
        As of `AutoencoderTransformer`.

    tol : float, default=1e-4
        As of `AutoencoderTransformer`.

    callbacks : list of skorch callbacks, default=None
        As of `AutoencoderTransformer`.

    device : "auto", str or torch.device, default="auto"
        As of `AutoencoderTransformer`.

    verbose : int, default=0
        As of `AutoencoderTransformer`.

    random_state : int, RandomState instance or None, default=None
        As of `AutoencoderTransformer`; one seed is drawn from it and used for all fits.

    Attributes
    ----------
    n_components_ : int
        The chosen size.

    best_estimator_ : AutoencoderTransformer
        The autoencoder of that size, fitted to all samples. Its fitted attributes, such as ``components_`` and
        ``loss_curve_``, are also available on the search.

    cv_results_ : dict of ndarray of shape (n_sizes,)
        "n_components"; "split0_test_score" and so on, "mean_test_score", "std_test_score", "rank_test_score";
        "mean_test_error", "std_test_error" and "mean_pca_error", the reconstruction errors of these fits and of PCA, in
        units of X squared.

    n_splits_ : int
        Number of folds.

    See Also
    --------
    AutoencoderTransformer : With a share or "auto" it chooses n_components by a single validation set.
    LatentSizeDisplay : Draws the errors.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformerCV
    >>> X, _ = load_digits(return_X_y=True)
    >>> search = AutoencoderTransformerCV((1, 2, 4), cv=3, max_iter=20, random_state=0).fit(X[:500])
    >>> search.n_components_
    4
    >>> search.transform(X).shape
    (1797, 4)
    """

    def __init__(
        self,
        n_components=(2, 4, 8, 16),
        *,
        cv=5,
        scoring=None,
        one_standard_error=False,
        n_jobs=None,
        hidden_layer_sizes="auto",
        activation="gelu",
        loss="squared_error",
        start="pca",
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
        callbacks=None,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.n_components = n_components
        self.cv = cv
        self.scoring = scoring
        self.one_standard_error = one_standard_error
        self.n_jobs = n_jobs
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.start = start
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
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X, y=None, *, groups=None):
        """Choose the size, and fit an autoencoder of that size to all samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,), default=None
            Passed to the splitter and to ``scoring``; the fits do not use it.
        groups : array-like of shape (n_samples,), default=None
            Passed to a splitter that keeps the samples of a group together, such as `GroupKFold`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # so that after an error the estimator is not fitted
        sizes = check.check_sizes("n_components", self.n_components)
        check.check_flag("one_standard_error", self.one_standard_error)
        if not (self.scoring is None or callable(self.scoring)):
            raise ValueError(f"scoring={self.scoring!r} must be None or a callable (estimator, X, y=None) -> score.")
        X = unmasked(X)
        with numbers_asked(X, "AutoencoderTransformerCV takes numbers"):
            X, samples = self._validated(X, ensure_min_samples=2)
        samples, y = indexable(samples, y)
        everything = np.arange(len(samples))
        folds = [(everything[train], everything[test]) for train, test in check_cv(self.cv).split(samples, y, groups)]
        sizes = self._allowed_sizes(sizes, folds)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        data = sizes, self.scoring, X, y, samples
        work = [delayed(_measure)(self._autoencoder(sizes[-1], seed, ordered=True), *data, *fold) for fold in folds]
        scores, errors, pca_errors = map(np.array, zip(*Parallel(n_jobs=self.n_jobs)(work), strict=True))
        self.n_components_ = self._choice(sizes, scores)
        self.n_splits_, self.cv_results_ = len(folds), _results(sizes, scores, errors, pca_errors)
        self.best_estimator_ = self._autoencoder(self.n_components_, seed).fit(X)
        return self

    def __getstate__(self):
        return stored.with_version(super().__getstate__())

    def __setstate__(self, state):
        state = stored.without_version(state, type(self))
        stored.check_names(state, type(self))
        if "best_estimator_" in state:
            best = state["best_estimator_"]
            if type(best) is not AutoencoderTransformer or not best.__sklearn_is_fitted__():
                raise stored.fault("best_estimator_", f"is no fitted AutoencoderTransformer, but {type(best).__name__}")
            for name in ("n_components_", "n_features_in_"):
                stored.check_one_of(state, name, [getattr(best, name)])
            stored.check_dict(stored.get(state, "cv_results_"), "cv_results_")
        super().__setstate__(state)

    def __sklearn_is_fitted__(self):
        return "best_estimator_" in vars(self)

    def transform(self, X):
        """Encode samples, as `AutoencoderTransformer.transform` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
        """
        return self._fitted().transform(self._checked(X))

    def inverse_transform(self, X):
        """Transform codes back to the original space.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
        """
        return self._fitted().inverse_transform(X)

    def score(self, X, y=None):
        """Return R^2 of the reconstruction, as `AutoencoderTransformer.score` does, independent of ``scoring``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        float
        """
        return self._fitted().score(self._checked(X))

    def score_samples(self, X):
        """Return the negative mean squared reconstruction error of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._fitted().score_samples(self._checked(X))

    def sample(self, n_samples=1, *, random_state=None):
        """Generate samples, as `AutoencoderTransformer.sample` does.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
        """
        return self._fitted().sample(n_samples, random_state=random_state)

    def impute(self, X):
        """Fill missing values by the reconstruction, as `AutoencoderTransformer.impute` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, nan where missing.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or DataFrame
        """
        return self._fitted().impute(self._checked(X))

    def exported_part(self, part):
        """Return the module that `to_onnx` writes, and the columns of its input, of the best estimator.

        Parameters
        ----------
        part : {"encoder", "decoder", "autoencoder"}

        Returns
        -------
        module : torch.nn.Module
            (n, n_columns) -> (n, n_out), both in float64.
        n_columns : int
        """
        return self._fitted().exported_part(part)

    def __getattr__(self, name):
        """Return fitted attributes of the best estimator."""
        if name.endswith("_") and not name.startswith("_") and "best_estimator_" in vars(self):
            return getattr(self.best_estimator_, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.positive_only = self.loss == "poisson"
        tags.input_tags.allow_nan = True
        return tags

    @property
    def _n_features_out(self):
        return self.n_components_

    def _fitted(self):
        check_is_fitted(self)
        return self.best_estimator_

    def _checked(self, X):
        return self._validated(unmasked(X), reset=False)[0]

    def _validated(self, X, **options):
        """Validate X; return a DataFrame as it is, which keeps names and dtypes, and X as an array."""
        samples = validate_data(self, X, dtype=FLOATS, ensure_all_finite="allow-nan", **options)
        return X if hasattr(X, "columns") else samples, samples

    def _autoencoder(self, n_components, seed, ordered=False):
        own = ("n_components", "cv", "scoring", "one_standard_error", "n_jobs", "random_state")
        names = AutoencoderTransformerCV._get_param_names()  # a subclass may set some of these itself
        parameters = {name: getattr(self, name) for name in names if name not in own}
        return AutoencoderTransformer(n_components, ordered=ordered, random_state=seed, **parameters)

    def _allowed_sizes(self, sizes, folds):
        """Return the sizes that do not exceed the training samples of any fold."""
        if not folds:
            raise ValueError(f"cv={self.cv!r} makes no fold.")
        n_samples = min(len(train) for train, _ in folds)
        allowed = [size for size in sizes if size <= n_samples]
        if not allowed:
            raise ValueError(
                f"n_components={self.n_components!r} are all more than the n_samples={n_samples} training samples of "
                "a fold. Use smaller ones, or fewer folds."
            )
        return allowed

    def _choice(self, sizes, scores):
        mean = scores.mean(axis=0)
        if np.isnan(mean).any():
            raise ValueError(f"scoring gave nan for n_components={np.array(sizes)[np.isnan(mean)].tolist()}.")
        best, slack = int(mean.argmax()), 0.0
        if self.one_standard_error and len(scores) > 1:
            slack = scores[:, best].std(ddof=1) / np.sqrt(len(scores))
        return sizes[int((mean >= mean[best] - slack).argmax())]


def _results(sizes, scores, errors, pca_errors):
    """Return ``cv_results_`` from arrays of shape (n_folds, n_sizes)."""
    mean = scores.mean(axis=0)
    return {
        "n_components": np.array(sizes),
        **{f"split{i}_test_score": fold for i, fold in enumerate(scores)},
        "mean_test_score": mean,
        "std_test_score": scores.std(axis=0),
        "rank_test_score": rankdata(-mean, method="min").astype(int),
        "mean_test_error": errors.mean(axis=0),
        "std_test_error": errors.std(axis=0),
        "mean_pca_error": pca_errors.mean(axis=0),
    }


def _measure(ordered, sizes, scoring, X, y, samples, train, test):
    """Return scores and errors of one ordered fit truncated to each size, and PCA's errors at these sizes."""
    ordered.fit(_safe_indexing(X, train))
    X_test = _safe_indexing(X, test)
    fits = [ordered.truncate(size) for size in sizes]
    codes = np.asarray(ordered.transform(X_test))  # those of a truncated fit are its first columns
    decoded = (fit.inverse_transform(codes[:, :size]) for fit, size in zip(fits, sizes, strict=True))
    errors = [squared_error(samples[test], X_hat) for X_hat in decoded]
    if scoring is None:
        scores = [-error for error in errors]
    else:
        y_test = [] if y is None else [_safe_indexing(y, test)]
        scores = [scoring(fit, X_test, *y_test) for fit in fits]
    pca_errors = pca_errors_by_size(sizes[-1], samples[train], samples[test])
    pca_errors = [pca_errors[min(size, len(pca_errors)) - 1] for size in sizes]  # PCA has at most n_features components
    return scores, errors, pca_errors
