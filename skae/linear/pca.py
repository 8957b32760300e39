"""PCA as a pair of linear maps, and as a linear Gaussian model."""

from functools import singledispatch
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches

from skae.data.sparse import Centred
from skae.linear.gaussian import LEAST_IMPUTATION_NOISE, LinearGaussian, ProbabilisticPCA, embed_columns, rank_of

# Codes are scaled to unit variance, with standard deviations of at least this share of the leading one.
_SMALLEST_CODE = 1e-4
# Lower bound on the noise variance of probabilistic PCA, near rounding errors.
_SMALLEST_NOISE = 1e-12
# Samples of a block, to bound memory.
_BLOCK = 1024


class PCAStart(NamedTuple):
    """An encoder ``z = encoder @ x`` with codes of unit variance, and a decoder ``x = decoder @ z``.

    Attributes
    ----------
    encoder : ndarray of shape (n_components, n_features)
    decoder : ndarray of shape (n_features, n_components)
    code_scale : ndarray of shape (n_components,)
        Factors from codes to the scale of the principal components.
    residual : ndarray of shape (n_features,)
        Root mean square residual of PCA in each column.
    """

    encoder: np.ndarray
    decoder: np.ndarray
    code_scale: np.ndarray
    residual: np.ndarray

    def as_imputation_model(self, spread: np.ndarray) -> LinearGaussian:
        """Return the Gaussian imputation model for columns with these standard deviations (n_features,)."""
        noise = np.maximum(np.square(self.residual), LEAST_IMPUTATION_NOISE * np.square(spread))
        return LinearGaussian(np.zeros(len(noise)), self.decoder, np.where(spread > 0, noise, 1.0))


def pca_start(X: np.ndarray, n_components: int, random_state: RandomState) -> PCAStart:
    """Fit PCA to centred samples, an array or `Centred`, and scale its codes to unit variance.

    Components beyond the number that samples and columns allow (an over-complete code) get random encoder rows and zero
    decoder columns, so that they do not change reconstructions before training.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Centred samples.
    n_components : int
    random_state : RandomState

    Returns
    -------
    PCAStart
    """
    pca = _fit_pca(X, n_components, random_state)
    deviation = np.sqrt(pca.explained_variance_).astype(np.float64)
    deviation = np.maximum(deviation, _SMALLEST_CODE * deviation[0])
    if deviation[0] == 0:
        deviation[:] = 1

    n_extra = n_components - len(deviation)
    extra = random_state.normal(size=(n_extra, X.shape[1])) / np.sqrt(X.shape[1])
    encoder = np.vstack([pca.components_ / deviation[:, None], extra])
    decoder = np.hstack([pca.components_.T * deviation, np.zeros((X.shape[1], n_extra))])
    return PCAStart(encoder, decoder, np.append(deviation, np.ones(n_extra)), _residual(X, pca.components_))


def leading(start: PCAStart, X: np.ndarray, n_components: int) -> PCAStart:
    """Truncate PCA of the samples X to its first components."""
    directions = (start.decoder / start.code_scale)[:, :n_components].T.astype(X.dtype)
    k = slice(n_components)
    return PCAStart(start.encoder[k], start.decoder[:, k], start.code_scale[k], _residual(X, directions))


def n_components_for(X: np.ndarray, share: float) -> int:
    """Return the fewest principal components that explain more than this share of the variance of centred samples."""
    most = getattr(X, "most_components", min(X.shape))
    explained = np.cumsum(_fit_pca(X, most, None).explained_variance_ratio_)
    return min(int(np.searchsorted(explained, share, side="right")) + 1, len(explained))


def probabilistic_pca(X: np.ndarray, scale: np.ndarray, n_components: int, random_state: RandomState) -> LinearGaussian:
    """Fit probabilistic PCA (Tipping and Bishop 1999) to ``X * scale`` and scale the model back to X.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Centred samples.
    scale : ndarray of shape (n_features,)
        Factors after which all columns have the same noise.
    n_components : int
    random_state : RandomState

    Returns
    -------
    LinearGaussian
    """
    varying = X.any(axis=0)
    if not varying.any():
        return embed_columns(np.zeros((0, 0)), np.ones(0), varying, n_components)
    unit = scale[varying] / scale[varying].max(initial=1e-300)
    pca = _fit_pca(X[:, varying] * unit.astype(X.dtype), n_components, random_state)
    noise = float(pca.noise_variance_)
    lengths = np.sqrt(np.maximum(pca.explained_variance_ - noise, 0))
    loadings = pca.components_.T * lengths / unit[:, None]
    return embed_columns(loadings, np.maximum(noise / unit**2, _SMALLEST_NOISE), varying, n_components)


def pca_of_all_columns(
    X: np.ndarray, scale: np.ndarray, n_components: int, random_state: RandomState
) -> ProbabilisticPCA:
    """Fit the model of `PCA.score`, in which the noise of constant columns is that of the others.

    Parameters
    ----------
    X, scale, n_components, random_state
        As for `probabilistic_pca`; ``X * scale`` are the samples in their own units.

    Returns
    -------
    ProbabilisticPCA
    """
    model, varying = probabilistic_pca(X, scale, n_components, random_state), X.any(axis=0)
    n_directions = rank_of(X) - min(n_components, rank_of(X))  # of the noise
    if n_directions and not varying.all():
        model = model.noisier(n_directions / (min(X.shape) - n_components))
    return ProbabilisticPCA(*model)


def ordered_probabilistic_pca(
    X: np.ndarray, n_components: int, least_noise: float, random_state: RandomState
) -> LinearGaussian:
    """Fit probabilistic PCA to standardised samples, with a lower bound on the noise.

    At least one direction is left to noise, so that components beyond the others get zero loadings. The noise is at
    least ``least_noise``: otherwise truncated models would depend on the noise of a model that explains all variance.
    """
    most = min(rank_of(X), len(X) - 1) - 1
    model = probabilistic_pca(X, np.ones(X.shape[1]), max(1, min(n_components, most)), random_state)
    varying = X.any(axis=0)
    if varying.any():
        model = model.noisier(max(1.0, least_noise / model.noise[varying][0]))
    n_extra = n_components - model.loadings.shape[1]
    return model._replace(loadings=np.pad(model.loadings, ((0, 0), (0, n_extra))))


@singledispatch
def sum_of_squares(X):
    """Return the sum of squares of centred samples."""
    return np.square(X, dtype=np.float64).sum()


@singledispatch
def covariance(X):
    """Return the covariance of centred samples, divided by their number: (n_features, n_features)."""
    return X.T @ X / len(X)


@singledispatch
def _fit_pca(X, n_components, random_state):
    """Fit PCA with at most as many components as X allows, with an exact solver if that takes seconds."""
    rank = min(n_components, *X.shape)
    with np.errstate(invalid="ignore"):  # the explained share of zero variance
        return PCA(rank, svd_solver=_solver(*X.shape, rank), random_state=random_state).fit(X)


@singledispatch
def _residual(X, directions):
    """Return the root mean square of X (n_features,) off orthonormal directions (n_components, n_features)."""
    total = np.zeros(X.shape[1])
    for rows in gen_batches(len(X), _BLOCK):
        rest = X[rows] - X[rows] @ directions.T @ directions
        total += np.einsum("ij,ij->j", rest, rest, dtype=np.float64)
    return np.sqrt(total / len(X))


@sum_of_squares.register
def _(X: Centred):
    return X.squares().sum()


@covariance.register
def _(X: Centred):
    return X.gram() / len(X)


@_fit_pca.register
def _(X: Centred, n_components, random_state):
    return X.components(min(n_components, *X.shape), random_state)


@_residual.register
def _(X: Centred, directions):
    explained = np.square(directions.T) @ np.array([X.quadratic(direction) for direction in directions])
    return np.sqrt(np.maximum(X.squares() - explained, 0) / len(X))


def _solver(n_samples, n_features, n_components):
    """Return an exact solver if that takes seconds at most; "auto" would choose a randomized one for smaller X."""
    cost = n_samples * n_features * min(n_samples, n_features)
    if cost <= 1e9:
        return "full"
    if n_features <= min(n_samples, 2000):
        return "covariance_eigh"
    few = 5 * n_components < min(n_samples, n_features)  # otherwise "randomized" is neither faster nor close
    return "randomized" if cost > 5e9 and few else "full"
