"""The search for the latent size by cross-validation, with one ordered fit for each fold."""

import time
import warnings
from functools import wraps
from itertools import product

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples, check_is_fitted

from skae._autoencoder import AutoencoderTransformer
from skae._base import BaseNetTransformer
from skae._torch import to_array
from skae.data import parameters as check
from skae.data.checks import check_weights, without_negligible
from skae.data.dataframes import has_text
from skae.inspection.metrics import reconstruction_scorer, truncated_errors
from skae.persistence import state as stored


def _where_best_has(method):
    """Make a method available if the best estimator (before `fit`, the estimator) has one of this name."""

    def is_available(search):
        if not search.refit:
            raise AttributeError("refit=False leaves no best_estimator_, whose method this would call. Set refit=True.")
        return hasattr(vars(search).get("best_estimator_", search.estimator), method.__name__)

    return available_if(is_available)(method)


def _of_best(method):
    """Make a method call the best estimator's; it is available if the best estimator has one."""

    @wraps(method)
    def call(search, *args, **params):
        check_is_fitted(search)
        return getattr(search.best_estimator_, method.__name__)(*args, **params)

    return _where_best_has(call)


def _with_output_where_best_has(cls):
    """Make the methods that scikit-learn adds or wraps for `set_output` available if the best estimator has them."""
    for name in ("transform", "fit_transform", "get_feature_names_out"):
        setattr(cls, name, _where_best_has(getattr(cls, name)))
    return cls


@_with_output_where_best_has
class LatentSizeCV(ClassNamePrefixFeaturesOutMixin, MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Search for n_components by cross-validation, with one fit for each fold.

    In each fold a clone of the estimator with ordered components is fitted once, with the largest number of components,
    and truncated to the smaller ones. With ``start="random"``, where components have no order, there is a fit for each
    number. A clone with the chosen number is then fitted to all samples. Search over other parameters by
    `GridSearchCV`, which needs a fit for each number of components.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VAEGenerator
        The estimator whose ``n_components`` is chosen; the value that it has is ignored. Only the fit to all samples
        uses its ``ordered`` and ``checkpoint``.

    n_components : sequence of int, default=(2, 4, 8, 16)
        Numbers of components to choose from. Those above the number of training samples of a fold are left out, with a
        warning.

    cv : int, splitter or iterable, default=5
        As in `GridSearchCV`: an int is the number of folds, not shuffled, and stratified by y if the estimator is
        conditional.

    scoring : str, callable or None, default=None
        Score of a fitted estimator, the higher the better.

        - str: the name of a scorer of scikit-learn.
        - callable: (estimator, X, y=None) -> float.
        - None: the negative reconstruction error of an autoencoder (the R^2 of its `score` if X has columns of text);
          the mean ELBO of a VAE.

        The reconstruction error rarely grows with the number of components. So None chooses the largest number or one
        near it for an autoencoder, unless ``one_standard_error`` is set.

    one_standard_error : bool, default=False
        Whether to choose the fewest components whose mean score is within one standard error (over folds) of the best.

    refit : bool, default=True
        Whether to fit the estimator with the chosen number to all samples. All methods but `fit` need it.

    n_jobs : int or None, default=None
        Number of fits to run in parallel, as in `GridSearchCV`.

    Attributes
    ----------
    best_estimator_ : AutoencoderTransformer or VAEGenerator
        The estimator with the chosen number of components, fitted to all samples. Its fitted attributes, such as
        ``n_components_`` and ``loss_curve_``, are also attributes of the search. Only with ``refit=True``.

    best_params_ : dict
        The chosen number: ``{"n_components": number}``.

    best_index_ : int
        Index of the chosen number in the arrays of ``cv_results_``.

    best_score_ : float
        Mean score of the chosen number over folds.

    cv_results_ : dict
        An entry for each number of components, ascending, with the keys of `GridSearchCV`.

        - "params", "param_n_components", "rank_test_score".
        - "split0_test_score" and so on, "mean_test_score", "std_test_score".
        - "mean_fit_time", "mean_score_time" and their "std": in seconds. The numbers that share a fit have equal
          parts of its time.
        - "mean_test_error", "mean_pca_error" and their "std", for an autoencoder of numbers: the reconstruction errors
          of the fits and of PCA, in units of X squared. For PCA missing values are imputed by EM.

    n_splits_ : int
        Number of folds.

    refit_time_ : float
        Seconds that the fit to all samples took. Only with ``refit=True``.

    scorer_ : callable
        The scorer: (estimator, X, y) -> float.

    See Also
    --------
    AutoencoderTransformer : With a share or "auto" it chooses n_components by a single validation set.
    VAEGenerator : With "auto" it chooses n_components by a single validation set.
    LatentSizeDisplay : Draws the errors.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, LatentSizeCV
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(max_iter=10, random_state=0)
    >>> search = LatentSizeCV(autoencoder, (1, 2, 4), cv=3).fit(X[:300])
    >>> search.best_params_
    {'n_components': 4}
    >>> search.transform(X).shape
    (1797, 4)
    """

    def __init__(
        self,
        estimator,
        n_components=(2, 4, 8, 16),
        *,
        cv=5,
        scoring=None,
        one_standard_error=False,
        refit=True,
        n_jobs=None,
    ):
        self.estimator = estimator
        self.n_components = n_components
        self.cv = cv
        self.scoring = scoring
        self.one_standard_error = one_standard_error
        self.refit = refit
        self.n_jobs = n_jobs

    def fit(self, X, y=None, *, sample_weight=None, groups=None):
        """Choose the number of components, and fit the estimator with that number to all samples.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Training samples, as the estimator takes them.
        y : array-like of shape (n_samples,), default=None
            Passed to the splitter, to the fits and to ``scoring``: class labels, if the model is conditional.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, at least 0, in the fits and, if ``scoring`` is None, in the scores. None for equal
            ones.
        groups : array-like of shape (n_samples,), default=None
            Passed to a splitter that keeps the samples of a group together, such as `GroupKFold`.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        TypeError
            If the estimator is neither an `AutoencoderTransformer` nor a `VAEGenerator`.
        ValueError
            If all numbers of components exceed the training samples of a fold, or a score is nan.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, LatentSizeCV
        >>> X = load_iris().data
        >>> search = LatentSizeCV(AutoencoderTransformer(max_iter=0), (1, 2), cv=3).fit(X)
        >>> search.best_params_
        {'n_components': 2}
        """
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # so that after an error the search is not fitted
        sizes = self._check_parameters()
        weights = check_weights(sample_weight, X, 2)
        X, y, groups = indexable(to_array(X), to_array(y), to_array(groups))
        folds = self._folds(X, y, groups)
        sizes = self._allowed_sizes(sizes, folds, weights)
        scorer, data = self._scorer(X), (X, y, weights)
        can_order = self.estimator.start != "random"
        changes = {"checkpoint": None} | ({"ordered": True} if can_order else {})
        jobs = product(folds, [sizes] if can_order else [[size] for size in sizes])
        measured = Parallel(n_jobs=self.n_jobs)(
            delayed(_measure)(self._with_size(of_fit[-1], **changes), of_fit, scorer, data, *fold)
            for fold, of_fit in jobs
        )
        results = _results(sizes, measured)
        best = self._choice(results, len(folds))
        fitted = {"cv_results_": results, "best_index_": best, "best_params_": results["params"][best]}
        fitted |= {"best_score_": float(results["mean_test_score"][best]), "n_splits_": len(folds), "scorer_": scorer}
        if self.refit:
            began = time.perf_counter()
            X, y, weight = _part(data)
            fitted["best_estimator_"] = self._with_size(sizes[best]).fit(X, *y, **weight)
            fitted["refit_time_"] = time.perf_counter() - began
        vars(self).update(fitted)
        return self

    @_of_best
    def transform(self, X):
        """Encode samples by the best estimator.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            Codes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, LatentSizeCV
        >>> X = load_iris().data
        >>> search = LatentSizeCV(AutoencoderTransformer(max_iter=0), (1, 2), cv=3).fit(X)
        >>> search.transform(X).shape
        (150, 2)
        """

    @_of_best
    def inverse_transform(self, X, **params):
        """Transform codes back to the original space by the best estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes, as returned by `transform`.
        **params : dict
            Further arguments of the estimator's method.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            Samples in units of X.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, LatentSizeCV
        >>> X = load_iris().data
        >>> search = LatentSizeCV(AutoencoderTransformer(max_iter=0), (1, 2), cv=3).fit(X)
        >>> search.inverse_transform(search.transform(X)).shape
        (150, 4)
        """

    @_of_best
    def score(self, X, y=None, **params):
        """Return the score of the best estimator's method `score`, whatever ``scoring`` is.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            Class labels, if the model is conditional; otherwise ignored.
        **params : dict
            Further arguments of the estimator's method.

        Returns
        -------
        float
            R^2 of the reconstruction for an autoencoder; mean ELBO, in nats a sample, for a VAE.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, LatentSizeCV
        >>> X = load_iris().data
        >>> search = LatentSizeCV(AutoencoderTransformer(max_iter=0), (1, 2), cv=3).fit(X)
        >>> print(f"{search.score(X):.3f}")
        0.978
        """

    @_of_best
    def score_samples(self, X, **params):
        """Return the best estimator's score of each sample: outliers have low scores.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        **params : dict
            Further arguments of the estimator's method.

        Returns
        -------
        ndarray of shape (n_samples,)
            Negative mean squared error for an autoencoder; ELBO in nats for a VAE.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, LatentSizeCV
        >>> X = load_iris().data
        >>> search = LatentSizeCV(AutoencoderTransformer(max_iter=0), (1, 2), cv=3).fit(X)
        >>> search.score_samples(X).shape
        (150,)
        """

    @_of_best
    def log_likelihood(self, X, **params):
        """Return the bound of `VAEGenerator.log_likelihood` on each sample's log-density.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        **params : dict
            Further arguments of the estimator's method.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats, in units of X.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import VAEGenerator, LatentSizeCV
        >>> X = load_iris().data
        >>> search = LatentSizeCV(VAEGenerator(max_iter=0), (1, 2), cv=3).fit(X)
        >>> search.log_likelihood(X).shape
        (150,)
        """

    @_of_best
    def sample(self, n_samples=1, **params):
        """Draw new samples from the best estimator.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        **params : dict
            Further arguments of the estimator's method.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            In units of X.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, LatentSizeCV
        >>> X = load_iris().data
        >>> search = LatentSizeCV(AutoencoderTransformer(max_iter=0), (1, 2), cv=3).fit(X)
        >>> search.sample(3, random_state=0).shape
        (3, 4)
        """

    @_of_best
    def impute(self, X, **params):
        """Replace missing values by the best estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            nan where a value is missing.
        **params : dict
            Further arguments of the estimator's method.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or DataFrame, or a list of these
            The samples, observed values unchanged.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, LatentSizeCV
        >>> X = load_iris().data
        >>> search = LatentSizeCV(AutoencoderTransformer(max_iter=0), (1, 2), cv=3).fit(X)
        >>> X[0, 2] = np.nan
        >>> bool(np.isnan(search.impute(X)).any())
        False
        """

    @_of_best
    def exported_part(self, part):
        """Return the best estimator's module that `to_onnx` writes, and the columns of its input and its output.

        Parameters
        ----------
        part : {"encoder", "decoder", "autoencoder"}

        Returns
        -------
        module : torch.nn.Module
            (n, n_inputs) -> (n, n_outputs), both in float64.
        inputs, outputs : list of GraphColumn
        """

    def __getattr__(self, name):
        """Return a fitted attribute of the best estimator; the error for a missing one names the search."""
        if hasattr(type(self), name):  # its own error has a reason
            return object.__getattribute__(self, name)
        cause = None
        if name.endswith("_") and not name.startswith("_") and "best_estimator_" in vars(self):
            try:
                return getattr(self.best_estimator_, name)
            except AttributeError as error:
                cause = error
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from cause

    def __getstate__(self):
        return stored.with_version(super().__getstate__())

    def __setstate__(self, state):
        state = stored.without_version(state, type(self))
        stored.check_names(state, type(self))
        if is_fitted := any(name.endswith("_") for name in state):
            stored.check_dict(stored.get(state, "cv_results_"), "cv_results_")
            if not isinstance(state["estimator"], BaseNetTransformer):
                raise stored.fault("estimator", f"is no estimator of skae, but {type(state['estimator']).__name__}")
            stored.check_one_of(state, "refit", [True, False, np.True_, np.False_])
        if is_fitted and state["refit"]:
            best = stored.get(state, "best_estimator_")
            if not (isinstance(best, BaseNetTransformer) and best.__sklearn_is_fitted__()):
                raise stored.fault("best_estimator_", f"is no fitted estimator of skae, but {type(best).__name__}")
            stored.check_one_of(state, "best_params_", [{"n_components": best.n_components_}])
        super().__setstate__(state)

    def __sklearn_tags__(self):
        return get_tags(self.estimator)

    @property
    def _n_features_out(self):
        return self.n_components_

    def _check_parameters(self):
        """Check the parameters and return the sizes, sorted."""
        if not isinstance(self.estimator, BaseNetTransformer):
            raise TypeError(
                f"estimator={self.estimator!r} must be an AutoencoderTransformer or a VAEGenerator. In a Pipeline the "
                "search is a step; for other estimators use GridSearchCV."
            )
        check.check_flag("one_standard_error", self.one_standard_error)
        check.check_flag("refit", self.refit)
        return check.check_sizes("n_components", self.n_components)

    def _folds(self, X, y, groups):
        """Return the indices of the training and of the test samples of each fold."""
        is_conditional = get_tags(self.estimator).target_tags.required
        splitter, index = check_cv(self.cv, y, classifier=is_conditional), np.arange(_num_samples(X))
        folds = [(index[train], index[test]) for train, test in splitter.split(X, y, groups)]
        if not folds:
            raise ValueError(f"cv={self.cv!r} makes no fold. Pass a splitter with at least one.")
        return folds

    def _allowed_sizes(self, sizes, folds, weights):
        """Return the sizes that do not exceed the training samples of any fold, and name the others in a warning."""
        counted = (np.ones(len(i)) if weights is None else without_negligible(weights[i]) for i, _ in folds)
        n_samples = min(map(np.count_nonzero, counted))
        if beyond := [size for size in sizes if size > n_samples]:
            message = f"n_components={beyond} are more than the n_samples={n_samples} training samples of a fold"
            if beyond == sizes:
                raise ValueError(f"{message}. Use smaller ones, or fewer folds.")
            warnings.warn(f"{message}, and left out.", UserWarning, stacklevel=3)
        return [size for size in sizes if size <= n_samples]

    def _scorer(self, X):
        if self.scoring is not None:
            return check_scoring(self.estimator, self.scoring)
        return own_score if _is_density(self.estimator) or has_text(X) else reconstruction_scorer

    def _with_size(self, n_components, **changes):
        """Return a clone with another size; a subclass need not have these as parameters."""
        model = clone(self.estimator)
        vars(model).update(n_components=n_components, **changes)
        return model

    def _choice(self, results, n_folds):
        """Return the index of the chosen size."""
        mean, deviation = results["mean_test_score"], results["std_test_score"]
        best, slack = int(mean.argmax()), 0.0
        if self.one_standard_error and n_folds > 1:
            slack = deviation[best] / np.sqrt(n_folds - 1)  # the deviation divides by n_folds
        return int((mean >= mean[best] - slack).argmax())


def own_score(estimator, X, y=None, sample_weight=None):
    """Return the score of an estimator itself: the scorer of densities, and of text."""
    return estimator.score(X, y, sample_weight)


def _is_density(estimator):
    return get_tags(estimator).estimator_type == "density_estimator"


def pca_errors(sizes, X_train, X, train_weight=None, sample_weight=None):
    """Return PCA's reconstruction errors on X at each size, of one fit to X_train; it takes weights and sparse X."""
    pca = AutoencoderTransformer(sizes[-1], ordered=True, max_iter=0, hidden_layer_sizes=(), random_state=0)
    pca.fit(X_train, sample_weight=train_weight)
    return truncated_errors(pca, [pca.truncate(size) for size in sizes], X, sample_weight)


def _part(data, index=None):
    """Return samples, a list of their labels and a dict of their weights, which are empty if there are none."""
    if data[-1] is not None:  # samples of weight 0 may have labels or categories of their own
        index = np.arange(len(data[-1])) if index is None else index
        index = index[data[-1][index] > 0] if data[-1][index].any() else index
    X, y, weights = (None if part is None else _safe_indexing(part, index) for part in data)
    return X, [] if y is None else [y], {} if weights is None else {"sample_weight": weights}


def _measure(model, sizes, scorer, data, train, test):
    """Fit a model, and return its measures on the test samples truncated to each size."""
    (X_train, y_train, train_weight), (X, y, weight) = _part(data, train), _part(data, test)
    times = [time.perf_counter()]
    model.fit(X_train, *y_train, **train_weight)
    times.append(time.perf_counter())
    fits = [model.truncate(size) for size in sizes] if model.ordered else [model]
    errors = None if _is_density(model) or has_text(X) else truncated_errors(model, fits, X, **weight)
    if errors and scorer is reconstruction_scorer:
        scores = np.negative(errors)
    else:
        weight_of_score = weight if scorer in (own_score, reconstruction_scorer) else {}
        scores = [scorer(fit, X, *y, **weight_of_score) for fit in fits]
    times.append(time.perf_counter())
    shares = zip(("fit_time", "score_time"), np.diff(times) / len(sizes), strict=True)
    measures = {name: np.full(len(sizes), seconds) for name, seconds in shares} | {"test_score": scores}
    if errors:
        of_pca = pca_errors(sizes, X_train, X, train_weight.get("sample_weight"), **weight)
        measures |= {"test_error": errors, "pca_error": of_pca}
    return measures


def _results(sizes, measured):
    """Return ``cv_results_`` from the measures of all fits, folds one after the other."""
    results = {"param_n_components": np.array(sizes), "params": [{"n_components": n} for n in sizes]}
    for name in measured[0]:
        folds = np.concatenate([measures[name] for measures in measured]).reshape(-1, len(sizes))
        if name == "test_score":
            results |= {f"split{i}_test_score": scores for i, scores in enumerate(folds)}
        results |= {f"mean_{name}": folds.mean(axis=0), f"std_{name}": folds.std(axis=0)}
    if np.isnan(mean := results["mean_test_score"]).any():
        raise ValueError(f"scoring gave nan for n_components={np.array(sizes)[np.isnan(mean)].tolist()}.")
    return results | {"rank_test_score": rankdata(-mean, method="min").astype(np.int32)}
