"""Linear Gaussian models of samples with missing values, fitted by EM."""

from functools import partial
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.linalg import eigh

from skae._torch import to_array
from skae.data.rows import ArrayRows
from skae.data.statistics import column_moments, n_effective
from skae.linear.factor_analysis import MAX_FACTORED
from skae.linear.gaussian import LEAST_IMPUTATION_NOISE, LinearGaussian
from skae.linear.pca import probabilistic_pca

# Components of EM over codes (at least) and over missing values (unless the network has more), and the most of both.
_FEWEST_COMPONENTS, _MORE_COMPONENTS, _MAX_COMPONENTS = 10, 20, 32
# EM over codes: the tolerance on the mean change of log-noise, the most iterations and the most values.
_NOISE_TOLERANCE, _MAX_ROUNDS, _MAX_NUMBERS = 1e-3, 200, 2**20
# EM over missing values: the most values, the least noise variance, the weight of the prior of loadings, the tolerances
# on the root mean square change of imputed values and on the mean change of log-noise, and the most iterations.
_MAX_NUMBERS_MORE, _LEAST_NOISE_MORE, _PRIOR = 2**19, 1e-5, 0.1
_VALUE_TOLERANCE, _NOISE_TOLERANCE_MORE, _MAX_ROUNDS_MORE = 1e-3, 1e-2, 100
# Bounds on the share of entries that are hidden to compare models.
_HIDDEN = 0.05, 0.5


def mean_imputation(location: np.ndarray) -> LinearGaussian:
    """Return the model that imputes the constant location (n_features,)."""
    n_features = len(location)
    return LinearGaussian(location, np.zeros((n_features, 1)), np.ones(n_features))


def pca_imputation(complete: Any, n_components: int, random_state: RandomState | None) -> LinearGaussian:
    """Fit probabilistic PCA to complete samples as an imputation model; with 0 components it imputes means."""
    X, location = complete.centred()
    if not n_components:
        return mean_imputation(location)
    model = probabilistic_pca(X, np.ones(len(location)), n_components, random_state)
    return model.as_imputation_model()._replace(location=location)


def n_imputation_components(n_components: int, n_features: int) -> int:
    """Return the most components of the imputation model for a network with this latent dimension."""
    return max(1, min(max(n_components, _MORE_COMPONENTS), n_features - 1, _MAX_COMPONENTS))


def hide_entries(missing: np.ndarray, random_state: RandomState) -> np.ndarray:
    """Choose observed entries to hide, on which imputation models are compared.

    The share of hidden entries is that of missing ones, within bounds, a fifth if none is missing; no column is hidden
    entirely.

    Returns
    -------
    ndarray of bool of shape (n_samples, n_features)
    """
    hidden = ~missing & (random_state.uniform(size=missing.shape) < np.clip(missing.mean() or 0.2, *_HIDDEN))
    return hidden & ~(hidden | missing).all(axis=0)


def fit_normal(
    X: np.ndarray, n_components: int, random_state: RandomState, weights: np.ndarray | None = None
) -> LinearGaussian:
    """Fit a Gaussian imputation model to samples with missing values.

    It has few components, or more if these have a smaller error on hidden entries. It is fitted to a random subset of
    at most 2^20 values; the comparison and the fit of more components use at most 2^19 values.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n_samples, n_features)
        nan where a value is missing.
    n_components : int
        Latent dimension of the network.
    random_state : RandomState
    weights : ndarray of shape (n_samples,), default=None
        Positive weights of the samples; None for equal ones.

    Returns
    -------
    LinearGaussian
    """
    n_features, more = X.shape[1], n_imputation_components(n_components, X.shape[1])
    weights = np.ones(len(X)) if weights is None else weights * (n_effective(weights) / weights.sum())
    few = min(more, max(n_components, _FEWEST_COMPONENTS))
    most = _MAX_NUMBERS // max(n_features, (few + 1) ** 2)
    drawn = random_state.permutation(len(X))[: max(1, most)]
    X, weights = _without_empty_columns(to_array(X[drawn])), weights[drawn]
    centre, unit, _ = column_moments(ArrayRows(X, weights))
    unit = np.where(unit > 0, unit, 1)
    X = (X - centre) / unit
    fit = fit_few = partial(_em_over_codes, n_components=few)
    if n_features <= MAX_FACTORED:
        fit_more = partial(_em_over_missing, n_components=more)
        compared = _without_empty_columns(X[: max(1, _MAX_NUMBERS_MORE // (more + 1) ** 2)].copy())
        hidden, of_rows = hide_entries(np.isnan(compared), random_state), weights[: len(compared)]
        seen = np.where(hidden, np.nan, compared)
        rests = [each(seen, of_rows).expected(seen) - compared for each in (fit_few, fit_more)]
        errors = [(of_rows[:, None] * np.square(rest))[hidden].sum() for rest in rests]
        if errors[1] < errors[0]:
            fit, X, weights = fit_more, compared, of_rows
    model = fit(X, weights)
    return LinearGaussian(centre + model.location * unit, model.loadings * unit[:, None], model.noise * unit**2)


def _without_empty_columns(rows):
    """Set one value to zero in columns that are entirely missing, in place, and return the samples."""
    rows[0, np.isnan(rows).all(axis=0)] = 0
    return rows


def _em_over_codes(X, weights, n_components):
    r"""Fit by EM over codes, in time linear in columns (Rubin and Thayer 1982; Ilin and Raiko 2010).

    The loadings of each component have a normal prior with its own variance (Bishop 1999, "Bayesian PCA"), which
    removes components that few entries support.
    """
    n_features, observed = X.shape[1], ~np.isnan(X)
    entries, observed = np.where(observed, X, 0), weights[:, None] * observed
    squares, n_observed = (weights[:, None] * np.square(entries)).sum(axis=0), observed.sum(axis=0)
    _, lengths, directions = np.linalg.svd(np.sqrt(weights)[:, None] * entries, full_matrices=False)
    n_components = min(n_components, len(lengths))
    loadings = directions[:n_components].T * lengths[:n_components] / np.sqrt(weights.sum())
    entries = weights[:, None] * entries
    model = LinearGaussian(np.zeros(n_features), loadings, np.maximum(1 - np.square(loadings).sum(axis=1), 0.05))
    prior = np.zeros(n_components)
    for _ in range(_MAX_ROUNDS):
        # The moments of (z, 1) of each sample, and the normal equations of each column's regression on (z, 1).
        mean, covariance = model.codes(X)
        z = np.hstack([mean, np.ones((len(X), 1))])
        moments = np.einsum("ik,il->ikl", z, z)
        moments[:, :n_components, :n_components] += covariance
        gram = (observed.T @ moments.reshape(len(X), -1)).reshape(n_features, n_components + 1, n_components + 1)
        product = entries.T @ z
        ridge = np.diag(np.append(prior, 0)) * model.noise[:, None, None]
        maps = np.linalg.solve(gram + ridge + 1e-9 * np.eye(n_components + 1), product[:, :, None])[:, :, 0]
        rest = squares - 2 * np.einsum("jk,jk->j", maps, product)
        rest += np.einsum("jk,jkl,jl->j", maps, gram, maps)
        before, noise = model.noise, np.maximum(rest / n_observed, LEAST_IMPUTATION_NOISE)
        # Rescale codes to variance one (parameter-expanded EM, Liu et al. 1998).
        of_codes = np.average(moments[:, :-1, :-1], axis=0, weights=weights)
        loadings = maps[:, :n_components] @ np.linalg.cholesky(of_codes)
        prior = n_features / np.maximum(np.square(loadings).sum(axis=0), 1e-8)
        model = LinearGaussian(maps[:, n_components], loadings, noise)
        if np.abs(np.log(noise / before)).mean() < _NOISE_TOLERANCE:
            break
    return model


def _em_over_missing(X, weights, n_components):
    """Fit by EM over missing values, which converges fast for highly correlated columns, but is slow for many columns.

    Each iteration makes two steps of maximum likelihood factor analysis on the expected covariance of the samples: in
    each, the loadings given the noise, then the noise given the loadings.
    """
    missing, n_samples, root = np.isnan(X), weights.sum(), np.sqrt(weights)[:, None]
    n_missing, penalty = weights @ missing, _PRIOR * X.shape[1] / ((weights @ ~missing).mean())
    model = mean_imputation(np.zeros(X.shape[1]))._replace(noise=np.full(X.shape[1], 0.5))
    filled, noise = np.inf, np.ones(X.shape[1])
    for _ in range(_MAX_ROUNDS_MORE):
        before, (mean, spread) = filled, model.codes(X)
        filled = np.where(missing, model.location + mean @ model.loadings.T, X)
        moved, changed = np.square(filled - before).sum(), np.abs(np.log(model.noise / noise)).mean()
        if moved <= _VALUE_TOLERANCE**2 * missing.sum() and changed < _NOISE_TOLERANCE_MORE:
            break
        location = np.average(filled, axis=0, weights=weights)
        factor = model.loadings @ np.linalg.cholesky(spread) * (root * missing)[:, :, None]
        factor = factor.transpose(1, 0, 2).reshape(len(model.noise), -1)
        factor = np.hstack([(root * (filled - location)).T, factor])
        covariance = (factor @ factor.T + np.diag(n_missing * model.noise)) / n_samples
        noise = of_two = model.noise
        for _ in range(2):
            loadings, of_two = _factors(covariance, of_two, n_components, penalty)
        model = LinearGaussian(location, loadings, of_two)
    return model


def _factors(covariance, noise, n_components, penalty):
    r"""Return the maximum likelihood loadings of factor analysis given the noise, then the noise given the loadings.

    Relative to the noise, a component has squared length u along an eigenvector of the covariance with eigenvalue v. A
    normal prior with its own variance on each component costs w log u, with w the ``penalty``. The minimum of

    .. math:: \log(1 + u) + v / (1 + u) + w \log u

    other than that at 0 is a root of a quadratic equation. Without a root, the component vanishes.
    """
    n_features, unit = len(noise), np.sqrt(noise)
    largest = [max(0, n_features - n_components), n_features - 1]
    values, vectors = eigh(covariance / np.outer(unit, unit), subset_by_index=largest)
    half = (values - 1) / 2 - penalty
    root = half**2 - (1 + penalty) * penalty
    kept = (half > 0) & (root > 0)
    length = (half + np.sqrt(np.where(kept, root, 0)))[kept] / (1 + penalty)
    loadings = vectors[:, kept] * np.sqrt(length) * unit[:, None]
    if not kept.any():
        return np.zeros((n_features, 1)), np.maximum(np.diag(covariance), _LEAST_NOISE_MORE)
    to_codes = loadings / noise[:, None] / (1 + length)
    product = covariance @ to_codes
    moments = np.diag(1 / (1 + length)) + to_codes.T @ product
    rest = np.diag(covariance) - 2 * np.einsum("jk,jk->j", loadings, product)
    rest += np.einsum("jk,kl,jl->j", loadings, moments, loadings)
    return loadings, np.maximum(rest, _LEAST_NOISE_MORE)
