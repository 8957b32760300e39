"""Generators whose samples are resampled so that they are closer to real ones."""

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted

from skae.data.checks import check_weights
from skae.data.columns import kinds_in_own_units
from skae.data.context import ClassContext, NoContext
from skae.data.dataframes import library_of, unmasked
from skae.data.parameters import check_flag, check_integer
from skae.data.tables import OneHotTable
from skae.persistence import state as stored

# Candidates that are drawn at once, and the least probability of a class.
_AT_ONCE, _LEAST = 50_000, 1e-6
# Patterns of missing values that each classifier sees of a drawn sample, if training samples have several.
_PATTERNS = 5
# Most trees of the default classifier, and the fewest samples for which it stops early.
_TREES, _LEAST_VALIDATED = 300, 50


class ResampledGenerator(MetaEstimatorMixin, BaseEstimator):
    """Generator whose samples a classifier resamples, so that they are harder to distinguish from real ones.

    Parameters
    ----------
    estimator : VAEGenerator or AutoencoderTransformer
        Estimator with a method `sample`. A clone of it is fitted.
    classifier : classifier, default=None
        Classifier with a method `predict_proba`, which distinguishes real from drawn samples. Clones of it are fitted.
        It gets categories as indicators, and nan for missing values. None is `HistGradientBoostingClassifier` with at
        most 300 trees and early stopping.
    n_rounds : int, default=3
        Number of classifiers. Each is fitted to samples that were resampled by the classifiers before it.
    n_candidates : int, default=25
        Number of samples that are drawn for each sample that is kept.
    random_state : int, RandomState instance or None, default=None
        Source of the draws in `fit`, and seed of the default classifier.

    Attributes
    ----------
    estimator_ : object
        The fitted clone of ``estimator``.
    classifiers_ : list of object
        The fitted classifiers.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns. Only if all are strings.

    See Also
    --------
    evaluate_synthetic : Measures how close new samples are to real ones.

    Notes
    -----
    The odds of a classifier that distinguishes real from drawn samples, as many of each, estimate the ratio of their
    densities. Of ``n_candidates`` samples that the estimator draws, one is kept, with a probability in proportion to
    this ratio: sampling-importance resampling by likelihood-free importance weights (Grover et al. 2019,
    arXiv:1906.09531). With several classifiers, their odds are multiplied.

    `score_samples` of the estimator is not the log-density of the resampled samples.

    If training samples have missing values, drawn samples get the same patterns of missing values, at random, before a
    classifier sees them. In `sample`, their odds are means over five patterns. Samples like those with missing values
    are thus kept as often as they occur in training. New samples are complete, unless ``missing=True``.

    To open a file of skops, trust `TRUSTED_TYPES` and the types of the classifiers, which
    ``skops.io.get_untrusted_types`` lists.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import train_test_split
    >>> from skae import ResampledGenerator, VAEGenerator, evaluate_synthetic
    >>> train, test = train_test_split(load_breast_cancer().data, test_size=0.5, random_state=0)
    >>> vae = VAEGenerator(4, max_iter=20, random_state=0)
    >>> model = ResampledGenerator(vae, random_state=0).fit(train)
    >>> for generator in (model.estimator_, model):
    ...     new = generator.sample(300, random_state=0)
    ...     print(f"{evaluate_synthetic(train, new, test).c2st:.1f}")
    0.4
    0.7
    """

    def __init__(self, estimator, classifier=None, *, n_rounds=3, n_candidates=25, random_state=None):
        self.estimator = estimator
        self.classifier = classifier
        self.n_rounds = n_rounds
        self.n_candidates = n_candidates
        self.random_state = random_state

    def fit(self, X, y=None, sample_weight=None):
        """Fit a clone of the estimator, and classifiers to its samples.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Training samples, nan where a value is missing.
        y : array-like of shape (n_samples,), default=None
            Classes, which an estimator with ``conditional=True`` needs. Classifiers get them as a further column.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of samples; None weights all alike. Samples of weight 0 are left out. Estimator and classifier need
            this parameter in `fit` only if weights differ from 1.

        Returns
        -------
        self : object
            The fitted generator.

        Raises
        ------
        TypeError
            If the estimator has no method `sample`, the classifier no `predict_proba`, or X is sparse.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, ResampledGenerator
        >>> model = ResampledGenerator(AutoencoderTransformer(2, max_iter=0), n_rounds=1, random_state=0)
        >>> len(model.fit(load_iris().data).classifiers_)
        1
        """
        if not hasattr(self.estimator, "sample"):
            raise TypeError(
                f"estimator={self.estimator!r} has no method sample. Use a VAEGenerator or an AutoencoderTransformer."
            )
        if issparse(X):
            raise TypeError("X is sparse, but classifiers of single values need a dense array. Use X.toarray().")
        if self.classifier is not None and not hasattr(self.classifier, "predict_proba"):
            raise TypeError(f"classifier={self.classifier!r} has no method predict_proba. Use a classifier with one.")
        n_rounds, random_state = check_integer("n_rounds", self.n_rounds, 1), check_random_state(self.random_state)
        check_integer("n_candidates", self.n_candidates, 1)
        X, y, weights = _weighted(X, y, check_weights(sample_weight, X, is_training=True))
        self.estimator_ = clone(self.estimator).fit(X, y, **_as_keyword(weights))
        self._table, self.classifiers_ = _new_table(), []
        real = self._table.open(self, X, reset=True)[:]
        n = len(real)
        real = np.hstack([real, self._context.encode(y, n)])
        self._missing = _patterns(np.isnan(real), weights)
        shares = None if weights is None else np.append(weights / weights.mean(), np.ones(n))
        for _ in range(n_rounds):
            blocks = self._resampled(n, None, random_state, {})
            drawn = np.vstack([np.hstack([self._table.encode(X), context]) for X, context in blocks])
            drawn = self._incomplete(drawn, random_state.uniform(size=n))
            classifier = self._unfitted(n, random_state)
            classifier.fit(self._observed(np.vstack([real, drawn])), np.repeat([1, 0], n), **_as_keyword(shares))
            self.classifiers_.append(classifier)
        return self

    def sample(self, n_samples=1, *, y=None, missing=False, random_state=None, **options):
        """Draw new samples.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        y : label or array-like of shape (n_samples,), default=None
            Class of all samples, or of each, for a conditional estimator. None draws classes with their frequencies in
            the training samples.
        missing : bool, default=False
            Whether new samples have missing values, as often as training samples have, and in similar samples.
        random_state : int, RandomState instance or None, default=None
            An int gives the same samples at each call, None different ones.
        **options : dict
            Passed to the estimator's `sample`, such as ``given``.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            As the estimator's `sample` returns them.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, ResampledGenerator
        >>> model = ResampledGenerator(AutoencoderTransformer(2, max_iter=0), n_rounds=1, random_state=0)
        >>> model.fit(load_iris().data).sample(3, random_state=0).shape
        (3, 4)
        """
        check_is_fitted(self)
        n_samples, random_state = check_integer("n_samples", n_samples, 1), check_random_state(random_state)
        if options.get("given") and self._context.width:
            raise ValueError("given does not work with a conditional estimator: classifiers need the classes.")
        missing, drawn = check_flag("missing", missing), self._resampled(n_samples, y, random_state, options)
        blocks = [self._with_missing(*block, random_state, options) if missing else block[0] for block in drawn]
        return library_of(blocks[0]).stacked(blocks)

    def _resampled(self, n_samples, y, random_state, options):
        """Yield blocks of resampled samples, and their encoded classes."""
        n_candidates = check_integer("n_candidates", self.n_candidates, 1) if self.classifiers_ else 1
        classes, at_once = self._context, max(1, _AT_ONCE // n_candidates)
        contexts = classes.draw(y, n_samples, random_state)
        for start in range(0, n_samples, at_once):
            context = contexts[start : start + at_once].repeat(n_candidates, axis=0)
            if classes.width:
                options = options | {"y": classes.classes[context.argmax(axis=1)]}
            X = unmasked(self.estimator_.sample(len(context), random_state=random_state, **options))
            log_odds = self._log_odds(np.hstack([self._table.encode(X), context]), random_state)
            kept = _drawn(log_odds, n_candidates, random_state)
            yield _safe_indexing(X, kept), context[kept]

    def _with_missing(self, X, context, random_state, options):
        """Return a block of samples with missing values, except in given columns.

        The pattern of a sample is drawn with a probability in proportion to its share of the training samples and to
        the odds that the last classifier gives the sample with it. The other classifiers' odds would count again how
        patterns depend on samples.
        """
        n_candidates = check_integer("n_candidates", self.n_candidates, 1)
        encoded = np.hstack([self._table.encode(X), context]).repeat(n_candidates, axis=0)
        encoded = self._incomplete(encoded, random_state.uniform(size=len(encoded)))
        encoded = encoded[_drawn(np.log(self._odds(self.classifiers_[-1], encoded)), n_candidates, random_state)]
        gone = np.column_stack([np.isnan(encoded[:, place]).any(axis=1) for place in self._table.places])
        is_given = np.isin(np.arange(gone.shape[1]), _places(X, options.get("given")))
        return library_of(X).without(X, gone & ~is_given)

    def _incomplete(self, samples, places):
        """Remove values from encoded samples, by patterns of training samples.

        The place of a sample in [0, 1) chooses its pattern. Each pattern has a part of this interval, as long as its
        share.
        """
        index = np.searchsorted(self._missing["ends"], places, side="right")
        return np.where(self._missing["patterns"][index], np.nan, samples)

    def _log_odds(self, samples, random_state):
        """Return the sum over classifiers of the log-odds that encoded samples are real: (n_samples,).

        Odds are means over patterns of missing values, which are drawn anew for each classifier.
        """
        log_odds, n_patterns = np.zeros(len(samples)), _PATTERNS if len(self._missing["ends"]) else 1
        for classifier in self.classifiers_:
            odds, places = 0.0, random_state.uniform(size=len(samples)) / n_patterns
            for start in np.arange(n_patterns) / n_patterns:
                odds += self._odds(classifier, self._incomplete(samples, start + places))
            log_odds += np.log(odds)
        return log_odds

    def _odds(self, classifier, samples):
        """Return the odds that encoded samples are real: (n_samples,)."""
        drawn, real = classifier.predict_proba(self._observed(samples)).clip(_LEAST).T
        return real / drawn

    def _observed(self, samples):
        """Return encoded samples with zeros in columns without any value in training, which classifiers may refuse."""
        return np.where(self._missing["patterns"].all(axis=0), 0.0, samples)

    @property
    def _context(self):
        """The classes of a conditional estimator."""
        if not hasattr(self.estimator_, "classes_"):
            return NoContext()
        return ClassContext(self.estimator_.classes_, self.estimator_.class_count_)

    def _unfitted(self, n_samples, random_state):
        """Return a classifier, which can stop early only if it has enough samples for validation."""
        if self.classifier is not None:
            return clone(self.classifier)
        seed, is_enough = int(random_state.randint(2**31 - 1)), n_samples >= _LEAST_VALIDATED
        return HistGradientBoostingClassifier(max_iter=_TREES, early_stopping=is_enough, random_state=seed)

    def __getstate__(self):
        state = stored.with_version(super().__getstate__())
        return state | {name: table.to_state() for name, table in state.items() if name == "_table"}

    def __setstate__(self, state):
        state = stored.without_version(state, type(self))
        stored.check_names(state, type(self))
        if "estimator_" in state:
            state["_table"] = _new_table().restore(stored.get(state, "_table"), stored.fault)
            _check_fitted(state)
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = get_tags(self.estimator).input_tags.allow_nan
        tags.target_tags.required = get_tags(self.estimator).target_tags.required
        return tags


def _places(X, given):
    """Return the indices of the columns of X whose values are given."""
    return [place for place, name in enumerate(library_of(X).names(X)) if name in (given or ())]


def _drawn(log_odds, n_candidates, random_state):
    """Return the index of one of each ``n_candidates`` candidates, drawn with a probability in proportion to its odds.

    The largest of the sums with Gumbel noise is at a candidate with this probability (Gumbel 1954).
    """
    sums = (log_odds + random_state.gumbel(size=len(log_odds))).reshape(-1, n_candidates)
    return np.arange(len(sums)) * n_candidates + sums.argmax(axis=1)


def _weighted(X, y, weights):
    """Return samples, their classes and checked weights, without samples of weight 0."""
    if weights is None:
        return X, y, None
    check_consistent_length(X, y)
    kept = np.flatnonzero(weights)
    return _safe_indexing(X, kept), None if y is None else _safe_indexing(y, kept), weights[kept]


def _patterns(is_missing, weights):
    """Return the patterns of missing values, and where in [0, 1) the share of each but the last one ends."""
    packed = [row.tobytes() for row in np.packbits(is_missing, axis=1)]  # much faster than rows of bools
    _, first, index = np.unique(packed, return_index=True, return_inverse=True)
    ends = np.bincount(index, weights).cumsum()
    return {"patterns": is_missing[first], "ends": ends[:-1] / ends[-1]}


def _as_keyword(weights):
    """Return the keywords of a fit with these weights, which it need not know if there are none."""
    return {} if weights is None else {"sample_weight": weights}


def _check_fitted(state):
    """Check the fitted attributes of a state, which may come from an altered file."""
    estimator, classifiers = state["estimator_"], stored.get(state, "classifiers_")
    if not hasattr(estimator, "sample"):
        raise stored.fault("estimator_", f"is {type(estimator).__name__}, which has no method sample")
    if type(classifiers) is not list or not all(hasattr(one, "predict_proba") for one in classifiers):
        raise stored.fault("classifiers_", "are not a list of classifiers with a method predict_proba")
    missing, width = stored.get(state, "_missing"), state["_table"].width + len(getattr(estimator, "classes_", ()))
    n_patterns = stored.length_of(missing, "patterns", 0)
    stored.check_array(missing, "patterns", (n_patterns, width), bool)
    stored.check_array(missing, "ends", (n_patterns - 1,), low=0, high=1)


def _new_table():
    """Return the encoder of samples for classifiers."""
    return OneHotTable("auto", "indicate", kinds_in_own_units("squared_error"))
