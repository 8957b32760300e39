"""Reconstruction error of any estimator that transforms and inverts, as a number and as a scorer."""

import numpy as np
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_array, check_is_fitted

from skae.data.checks import check_weights, weighted_samples
from skae.data.dataframes import numbers_asked, unmasked

_ADVICE = "Use an AutoencoderTransformer, a VAEGenerator, or a Pipeline that ends in one."


def reconstruction_error(estimator, X, sample_weight=None):
    """Return the mean squared error of ``inverse_transform(transform(X))`` over the observed entries of X.

    Parameters
    ----------
    estimator : object
        Fitted, with ``transform`` and ``inverse_transform``: for example a PCA, an autoencoder, or a Pipeline of such.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Samples, nan where a value is missing. If X has text that the first steps of a Pipeline encode, the error is
        that of the encoded samples, such as the indicators of a OneHotEncoder.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples, at least 0; None for equal ones.

    Returns
    -------
    float
        Mean over the entries that are not missing, in units of X (or of the encoded samples) squared.

    Raises
    ------
    TypeError
        If the estimator has no ``transform`` or no ``inverse_transform``.
    ValueError
        If X has text that nothing encodes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skae import reconstruction_error
    >>> X, _ = load_iris(return_X_y=True)
    >>> round(reconstruction_error(PCA(2).fit(X), X), 4)
    0.0253
    """
    X, sample_weight = weighted_samples(X, sample_weight)
    estimator, X, observed = numeric_part(estimator, X)
    _check_has(estimator, ("transform", "inverse_transform"), "Each step of a Pipeline needs both methods.")
    return squared_error(observed, estimator.inverse_transform(estimator.transform(X)), sample_weight)


def numeric_part(estimator, X):
    """Leave out the first steps of a Pipeline, those that make numbers of X; return the others, X and its values."""
    try:
        return estimator, X, observed_values(X)
    except (TypeError, ValueError):
        if not isinstance(estimator, Pipeline) or len(estimator) == 1:
            raise
    return numeric_part(estimator[1:], estimator[:1].transform(X))


def observed_values(X):
    """Return numeric samples as a dense array, which is as large as their reconstruction, nan where missing."""
    options = {"ensure_all_finite": "allow-nan", "accept_sparse": True}
    X = numeric_array(X, "The reconstruction error takes numbers", **options)
    return X.toarray() if issparse(X) else X


def squared_error(X, X_hat, sample_weight=None):
    """Return the mean squared error over the entries of X that are not missing."""
    weights = check_weights(sample_weight, X)
    errors = np.square(np.subtract(X, X_hat, dtype=np.float64))
    if weights is None:
        return float(np.nanmean(errors))
    observed = ~np.isnan(errors)
    return float(weights @ np.where(observed, errors, 0).sum(axis=1) / (weights @ observed.sum(axis=1)))


def reconstruction_scorer(estimator, X, y=None, sample_weight=None):
    """Return the negative reconstruction error; pass this function as ``scoring``.

    Parameters
    ----------
    estimator : object
        Fitted, with ``transform`` and ``inverse_transform``.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Samples, nan where a value is missing.
    y : None
        Ignored.
    sample_weight : array-like of shape (n_samples,), default=None
        As in `reconstruction_error`.

    Returns
    -------
    float
        In units of X squared, at most 0: the higher, the better.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skae import reconstruction_scorer
    >>> X, _ = load_iris(return_X_y=True)
    >>> GridSearchCV(PCA(), {"n_components": [1, 2]}, scoring=reconstruction_scorer).fit(X).best_params_
    {'n_components': 2}
    """
    return -reconstruction_error(estimator, X, sample_weight)


def truncated_errors(estimator, fits, X, sample_weight=None):
    """Return the reconstruction errors of fits whose codes are the first columns of an estimator's."""
    codes, observed = np.asarray(estimator.transform(X)), observed_values(X)
    decoded = (fit.inverse_transform(codes[:, : fit.n_components_]) for fit in fits)
    return [squared_error(observed, X_hat, sample_weight) for X_hat in decoded]


def check_fitted(estimator, *names, advice=_ADVICE):
    """Check that an estimator is fitted, and raise TypeError if it lacks one of these methods or attributes."""
    check_is_fitted(estimator)
    _check_has(estimator, names, advice)


def _check_has(estimator, names, advice):
    if missing := [name for name in names if not hasattr(estimator, name)]:
        raise TypeError(f"{type(estimator).__name__} has no {' and no '.join(missing)}. {advice}")


def numeric_array(X, purpose, way_out="Pass the columns of numbers.", **options):
    """Check X with `check_array`; an error about text in a DataFrame names the purpose, the column and a way out."""
    X = unmasked(X)
    with numbers_asked(X, purpose, way_out):
        return check_array(X, **options)


def split_pipeline(estimator):
    """Return what comes before the last step of a Pipeline, and that step; of others the identity and the estimator.

    In place of a fitted search its best estimator is returned.
    """
    before, last = Pipeline([("identity", "passthrough")]), _best(estimator)
    if isinstance(last, Pipeline):
        before, last = last[:-1] if len(last) > 1 else before, last[-1]
    return before, _best(last)


def _best(estimator):
    return getattr(estimator, "best_estimator_", estimator)
