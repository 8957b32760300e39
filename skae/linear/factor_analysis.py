"""Factor analysis, and the choice between it and probabilistic PCA."""

import warnings
from functools import singledispatch

import numpy as np
from numpy.random import RandomState
from scipy.linalg import helmert
from scipy.special import expit
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold

from skae.data.sparse import Centred
from skae.linear.gaussian import LinearGaussian, embed_columns
from skae.linear.pca import covariance, probabilistic_pca

# Lower bound on the noise variance over the column's variance: a vanishing one (a Heywood case) has infinite density.
_SMALLEST_NOISE = 1e-6
# Most columns for which EM is fast relative to training, and its tolerance in nats per sample.
MAX_FACTORED = 200
_TOLERANCE = 1e-6
# Comparison with probabilistic PCA: the most samples for which it is made, its folds, and the tolerance of EM.
_MAX_COMPARED = 1000
_FOLDS = 5
_ROUGH_TOLERANCE = 1e-4


def factor_analysis(X: np.ndarray, scale: np.ndarray, n_components: int, random_state: RandomState) -> LinearGaussian:
    """Fit factor analysis by scikit-learn's EM, run to convergence, or probabilistic PCA if EM is not suitable.

    EM takes long on many columns, and overfits with no more samples than columns.

    EM depends on the samples only through their covariance, so it is run on n_features + 1 samples with the same
    covariance. It converges to a local optimum, so it is run twice: from equal noise variances of X and of ``X *
    scale``.

    Parameters
    ----------
    X, scale, n_components, random_state
        As for `probabilistic_pca`; the columns of X have variance 1, or 0.

    Returns
    -------
    LinearGaussian
    """
    if not _can_be_factored(X):
        return probabilistic_pca(X, scale, n_components, random_state)
    return _factor_analysis(X, (np.ones(X.shape[1]), 1 / scale**2), n_components, _TOLERANCE)


def likelier_start(X: np.ndarray, scale: np.ndarray, n_components: int, random_state: RandomState) -> LinearGaussian:
    """Fit factor analysis, or probabilistic PCA if that has the higher density on held-out samples.

    Factor analysis has a noise variance for each column, which overfits with few samples. The two are compared by
    five-fold cross-validation if there are at most 1,000 samples. Each held-out sample has one vote, divided between
    the two by their densities, so that no single sample decides.

    Parameters
    ----------
    X, scale, n_components, random_state
        As for `factor_analysis`.

    Returns
    -------
    LinearGaussian
    """
    fewest = len(X) - -(-len(X) // _FOLDS)  # training samples of a fold
    if _FOLDS <= len(X) <= _MAX_COMPARED and n_components + 1 < fewest and _can_be_factored(X):
        samples, votes = getattr(X, "on_host", lambda: X)(), []
        for train, test in KFold(_FOLDS, shuffle=True, random_state=random_state).split(samples):
            mean = samples[train].mean(axis=0)
            rows, held_out = samples[train] - mean, samples[test] - mean
            rows[:, np.ptp(samples[train], axis=0) == 0] = 0
            if not rows.any():  # all training samples are equal
                continue
            factors = _factor_analysis(rows, [np.ones(X.shape[1])], n_components, _ROUGH_TOLERANCE)
            pca = probabilistic_pca(rows, scale, n_components, random_state)
            votes.append(expit(factors.log_density(held_out) - pca.log_density(held_out)))
        if np.concatenate(votes).mean() < 0.5:
            return probabilistic_pca(X, scale, n_components, random_state)
    return factor_analysis(X, scale, n_components, random_state)


def _can_be_factored(X):
    return 0 < int(X.any(axis=0).sum()) <= min(MAX_FACTORED, len(X) - 1)


def _factor_analysis(X, noises, n_components, tolerance):
    """Return the fit of highest likelihood from these initial noise variances; ``tolerance`` in nats per sample."""
    varying = X.any(axis=0)
    rows = _same_covariance(X[:, varying].astype(np.float64))
    fits = []
    for noise in noises:
        start, n = np.maximum(noise[varying], _SMALLEST_NOISE), min(n_components, rows.shape[1])
        model = FactorAnalysis(n, svd_method="lapack", noise_variance_init=start, tol=tolerance * len(rows))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a start need not be the optimum
            fits.append(model.fit(rows))
    best = max(fits, key=lambda fit: fit.loglike_[-1])
    return embed_columns(best.components_.T, np.maximum(best.noise_variance_, _SMALLEST_NOISE), varying, n_components)


@singledispatch
def _same_covariance(X):
    """Return at most n_features + 1 samples with mean zero and the covariance of the centred samples X."""
    n_samples, n_features = X.shape
    return X if n_samples <= n_features + 1 else _fewest(X)


@_same_covariance.register
def _fewest(X: Centred):
    n_features = X.shape[1]
    values, vectors = np.linalg.eigh(covariance(X))
    rows = (vectors * np.sqrt(np.maximum(values, 0) * (n_features + 1))).T
    return helmert(n_features + 1).T @ rows  # orthonormal columns, whose sums are 0
