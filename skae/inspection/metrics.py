"""Reconstruction error of anything that transforms and inverts, as a number and as a scorer."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils import check_array

from skae._columns import numbers_asked, unmasked


def reconstruction_error(estimator, X):
    """Mean squared error of ``inverse_transform(transform(X))``, of the entries of X that are not missing.

    Parameters
    ----------
    estimator : object
        Fitted, with ``transform`` and ``inverse_transform``: a PCA, an autoencoder, a Pipeline of such.
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    float
        Mean over entries, in units of X squared.

    Raises
    ------
    TypeError
        If the estimator lacks one of the two methods.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skae import reconstruction_error
    >>> X, _ = load_iris(return_X_y=True)
    >>> round(reconstruction_error(PCA(2).fit(X), X), 4)
    0.0253
    """
    missing = [name for name in ("transform", "inverse_transform") if not hasattr(estimator, name)]
    if missing:
        raise TypeError(
            f"{type(estimator).__name__} has no {' and no '.join(missing)}, so it has no reconstruction error. "
            "Each step of a Pipeline needs both methods."
        )
    unmasked_X = unmasked(X)
    with numbers_asked(X, "A squared error is one of numbers"):
        numbers = check_array(unmasked_X, ensure_all_finite="allow-nan")
    X_hat = np.asarray(estimator.inverse_transform(estimator.transform(X)))
    return squared_error(numbers, X_hat)


def squared_error(X, X_hat):
    """Mean over the entries of X that are not missing."""
    return float(np.nanmean(np.square(np.subtract(X, X_hat, dtype=np.float64))))


def reconstruction_scorer(estimator, X, y=None):
    """Minus the reconstruction error, for ``scoring=``: higher is better.

    Parameters
    ----------
    estimator : object
        Fitted, with ``transform`` and ``inverse_transform``.
    X : array-like of shape (n_samples, n_features)
    y : None
        Ignored.

    Returns
    -------
    float
        In units of X squared.

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
    return -reconstruction_error(estimator, X)


def pca_errors_by_size(n_components, X_train, X):
    """PCA's errors on X with one component, two and so on: one fit to X_train, cut; nan if entries are missing."""
    X_train, X = (check_array(rows, ensure_all_finite="allow-nan") for rows in (X_train, X))
    n_components = min(n_components, *X_train.shape)
    if np.isnan(X_train).any() or np.isnan(X).any():
        return np.full(n_components, np.nan)
    pca = PCA(n_components, svd_solver="full").set_output(transform="default")
    with np.errstate(invalid="ignore"):  # shares of a variance that is zero
        pca.fit(X_train)
    codes, left = pca.transform(X), X - pca.mean_
    errors = []
    for code, direction in zip(codes.T, pca.components_, strict=True):
        left = left - np.outer(code, direction)
        errors.append(np.square(left, dtype=np.float64).mean())
    return np.array(errors)
