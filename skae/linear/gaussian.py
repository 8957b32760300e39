"""The linear Gaussian model: its posterior, its density, and conditional means and draws of missing values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.utils import gen_batches
from torch import Tensor

# Lower bound on the noise variance in training and in an ordered start, over the column's variance.
NOISE_FLOOR = 1e-4
# Lower bound on the noise variance of an imputation model, over the column's variance.
LEAST_IMPUTATION_NOISE = 1e-3
# Samples of a block, to bound memory.
_BLOCK = 1024


def posterior_given_observed(x: Tensor, loadings: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute the posterior of z in x = loadings @ z + noise, given the entries of x that are not nan.

    .. math:: z \,|\, x_o \sim N(P^{-1} W_o' \Psi_o^{-1} x_o, P^{-1}), \quad P = I + W_o' \Psi_o^{-1} W_o

    Parameters
    ----------
    x : Tensor of shape (n, n_features)
    loadings : Tensor of shape (n_features, n_components)
    noise : Tensor of shape (n_features,)
        Variances.

    Returns
    -------
    mean : Tensor of shape (n, n_components)
    factor : Tensor of shape (n, n_components, n_components)
        The lower Cholesky factor of P.
    """
    observed, dtype = ~x.isnan(), x.dtype
    x, noise = x.double(), noise.double()  # P adds 1 to inverses of small noise variances
    precision, shift = _information(torch.where(observed, x, 0), observed.to(x), loadings, noise)
    identity = torch.eye(loadings.shape[1], dtype=x.dtype, device=x.device)
    factor = torch.linalg.cholesky(precision + identity)
    mean = torch.cholesky_solve(shift[:, :, None], factor)[:, :, 0]
    return mean.to(dtype), factor.to(dtype)


def draw_missing(x: Tensor, n: int, loadings: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the entries of x = loadings @ z + noise that are nan given the others: (n, n_features).

    ``x`` (n or 1, n_features) are n samples, or one whose missing values are drawn n times.
    """
    mean, factor = posterior_given_observed(x, loadings, noise)
    normal = torch.randn((n, sum(loadings.shape), 1), generator=generator, dtype=x.dtype).to(x.device)
    normal, of_noise = normal.split([loadings.shape[1], len(loadings)], dim=1)
    z = mean + torch.linalg.solve_triangular(factor.mT, normal, upper=True)[:, :, 0]
    return torch.where(x.isnan(), z @ loadings.T + noise.sqrt() * of_noise[:, :, 0], x)


def log_density_given_others(x: Tensor, loadings: Tensor, noise: Tensor) -> Tensor:
    r"""Compute the log-density of each entry of x = loadings @ z + noise given the others, nan where x is.

    .. math:: x_j \,|\, x_{-j} \sim N(x_j - [K x]_j / K_{jj}, 1 / K_{jj}), \quad K = (W W' + \Psi)^{-1}

    This is equation 5.12 of Rasmussen and Williams (2006). Missing entries are left out of the others.

    Parameters
    ----------
    x : Tensor of shape (n, n_features)
    loadings : Tensor of shape (n, n_features, n_components)
    noise : Tensor of shape (n, n_features)
        Variances.

    Returns
    -------
    Tensor of shape (n, n_features)
    """
    is_missing, dtype = x.isnan(), x.dtype
    x, loadings, noise = x.nan_to_num(nan=0.0).double(), loadings.double(), noise.double()
    weight = torch.where(is_missing, 0.0, 1 / noise)
    weighted = weight[:, :, None] * loadings
    identity = torch.eye(loadings.shape[2], dtype=x.dtype, device=x.device)
    factor = torch.linalg.cholesky_ex(identity + weighted.mT @ loadings)[0]  # no error where one sample has overflowed
    gain = torch.cholesky_solve(weighted.mT, factor)
    projected = weight * x - (weighted @ (gain @ x[:, :, None])).squeeze(2)
    precision = weight - (weighted * gain.mT).sum(2)
    precision = torch.maximum(precision, torch.finfo(x.dtype).eps * weight)
    found = 0.5 * (precision.log() - projected.square() / precision - math.log(2 * math.pi))
    return found.masked_fill(is_missing, math.nan).to(dtype)


def _information(x: Any, observed: Any, loadings: Any, noise: Any) -> tuple[Any, Any]:
    """Return P - I (n, k, k) and P times the posterior mean (n, k), for tensors or arrays.

    ``x`` and ``observed`` are (n, n_features), x zero where it is not observed; ``loadings`` (n_features, k), ``noise``
    (n_features,).
    """
    n_features, n_components = loadings.shape
    weighted = loadings / noise[:, None]
    products = (weighted[:, :, None] * loadings[:, None, :]).reshape(n_features, -1)
    return (observed @ products).reshape(-1, n_components, n_components), x @ weighted


def diagonal_posterior(loadings: Any, noise: Any) -> tuple[Any, Any]:
    r"""Compute the posterior of z in x = loadings @ z + noise, for tensors or arrays.

    .. math:: z \,|\, x \sim N(V W' \Psi^{-1} x, V), \quad V = (I + W' \Psi^{-1} W)^{-1}

    Parameters
    ----------
    loadings : Tensor or ndarray of shape (..., n_features, n_components)
        W' Psi^-1 W must be diagonal; V is then diagonal as well.
    noise : Tensor or ndarray of shape (..., n_features)
        Variances.

    Returns
    -------
    weight : Tensor or ndarray of shape (..., n_features, n_components)
        Matrix of the posterior mean ``x @ weight``.
    precision : Tensor or ndarray of shape (..., n_components)
        The diagonal of the inverse of V.
    """
    weighted = loadings / noise[..., None]
    precision = 1 + (loadings * weighted).sum(-2)
    return weighted / precision[..., None, :], precision


def log_density_at(rest: Tensor, z: Tensor, noise: Tensor, log_precision: Tensor, counted: Any = 1.0) -> Tensor:
    r"""Compute the log-density of samples from the mean of the posterior of their codes, in nats.

    .. math:: \log p(x) = -\tfrac12 \Big( \sum_j \frac{(x - W \hat z)_j^2}{\psi_j} + \sum_k \hat z_k^2
        + \sum_j \log (2 \pi \psi_j) + \log |V^{-1}| \Big)

    Parameters
    ----------
    rest : Tensor of shape (..., n, n_features)
        The residuals of x.
    z : Tensor of shape (..., n, n_components)
    noise : Tensor of shape (..., n_features)
        Variances.
    log_precision : Tensor broadcastable to (..., n)
        The log-determinant of the inverse of V.
    counted : Tensor broadcastable to rest, default=1.0
        0 for entries that are left out, else 1.

    Returns
    -------
    Tensor of shape (..., n)
    """
    noise = noise.unsqueeze(-2)
    entries = rest.square() / noise + (2 * math.pi * noise).log()
    return -0.5 * ((entries * counted).sum(-1) + z.square().sum(-1) + log_precision)


def rank_of(X: np.ndarray) -> int:
    """Return the number of principal components of samples: the number of samples or of varying columns, if fewer."""
    return min(len(X), int(np.count_nonzero(X.any(axis=0))))


class LinearGaussian(NamedTuple):
    """The model x = location + loadings @ z + noise with a standard normal z.

    Factor analysis, or probabilistic PCA if all columns have the same noise. `posterior`, and methods that use it, need
    rotated loadings: loadings' diag(1 / noise) loadings must be diagonal, as `embed_columns` makes it.

    Attributes
    ----------
    location : ndarray of shape (n_features,)
    loadings : ndarray of shape (n_features, n_components)
    noise : ndarray of shape (n_features,)
        Variances.
    """

    location: np.ndarray
    loadings: np.ndarray
    noise: np.ndarray

    @property
    def has_constant_noise(self) -> bool:
        """Whether constant columns have the noise variance of the others, in units of X."""
        return False

    def rank(self, X: np.ndarray) -> int:
        """Return the number of directions of the samples X to which the model was fitted."""
        return rank_of(X)

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the matrix of the posterior mean (n_components, n_features) and the variances (n_components,)."""
        weight, precision = diagonal_posterior(self.loadings, self.noise)
        return weight.T, 1 / precision

    def log_density(self, X: np.ndarray) -> np.ndarray:
        """Return the log-density of complete samples, in nats: that of their residuals and of their posterior means."""
        weight, precision = diagonal_posterior(self.loadings, self.noise)
        centred = X - self.location
        codes = centred @ weight
        parts = centred - codes @ self.loadings.T, codes, self.noise, np.log(precision).sum(keepdims=True)
        return log_density_at(*map(torch.from_numpy, parts)).numpy()

    def leading(self, n_components: int, rank: int) -> LinearGaussian:
        """Truncate probabilistic PCA of samples of this rank to its first components.

        The variance of the others is spread evenly over the remaining directions, which maximises the likelihood.
        """
        cut = self._replace(loadings=self.loadings[:, :n_components])
        return cut.noisier(1 + self._signal()[n_components:].sum() / max(1, rank - n_components))

    def noisier(self, factor: float) -> LinearGaussian:
        """Multiply the noise by a factor, and reduce the variance of each component by the increase of the noise."""
        signal = self._signal()
        kept = np.sqrt(np.maximum(signal - (factor - 1), 0) / np.where(signal > 0, signal, 1))
        return self._replace(loadings=self.loadings * kept, noise=self.noise * factor)

    def _signal(self) -> np.ndarray:
        """Return the variance of each component over the noise, (n_components,)."""
        return np.square(self.loadings / np.sqrt(self.noise)[:, None]).sum(axis=0)

    def nearer_to_prior(self, larger: LinearGaussian) -> tuple[np.ndarray, np.ndarray]:
        """Compare the posterior with that of the `leading` components of a larger model.

        The posterior mean of z is w' x / noise times its variance, with w a column of the loadings. Columns and noise
        must be multiples of those of the larger model. Components without loadings are not changed.

        Returns
        -------
        ratio : ndarray of shape (n_components,)
            Ratio of the posterior means.
        gain : ndarray of shape (n_components,)
            Difference of the log-variances.
        """
        (_, variance), (_, variance_before) = self.posterior(), larger.posterior()
        n = self.loadings.shape[1]
        before = np.square(larger.loadings[:, :n]).sum(axis=0)
        ratio = np.sqrt(np.square(self.loadings).sum(axis=0) / np.where(before > 0, before, 1))
        ratio *= (larger.noise[0] / self.noise[0]) * variance / variance_before[:n]
        return np.where(before > 0, ratio, 1), np.log(variance / variance_before[:n])

    def as_imputation_model(self) -> LinearGaussian:
        """Return the model for imputation of columns with variance 1: its noise is bounded below."""
        return self._replace(noise=np.maximum(self.noise, LEAST_IMPUTATION_NOISE))

    def fold_into_noise(self, n_components: int) -> LinearGaussian:
        """Keep the first components, and add the variance of the others to the noise."""
        kept, rest = np.split(self.loadings, [n_components], axis=1)
        return self._replace(loadings=kept, noise=self.noise + np.square(rest).sum(axis=1))

    def codes(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (n, n_components) and covariance (n, n_components, n_components) of z given the observed values.

        It uses NumPy, since torch takes ten times as long for many small matrices, with several threads on busy cores.
        """
        observed = ~np.isnan(X)
        precision, shift = _information(np.where(observed, X - self.location, 0), observed, self.loadings, self.noise)
        covariance = np.linalg.inv(np.eye(shift.shape[1]) + precision)
        return np.einsum("ikl,il->ik", covariance, shift), covariance

    def expected(self, X: np.ndarray) -> np.ndarray:
        """Replace missing values by their conditional means: (n, n_features) -> (n, n_features)."""
        return np.where(np.isnan(X), self.location + self.codes(X)[0] @ self.loadings.T, X)

    def draw(self, X: np.ndarray, random_state: RandomState) -> np.ndarray:
        """Replace missing values by draws given the observed values, so that columns keep their variance.

        Draws are clipped to the observed range of the column.
        """
        filled, low, high = X.copy(), np.nanmin(X, axis=0), np.nanmax(X, axis=0)
        for rows in gen_batches(len(X), _BLOCK):
            mean, covariance = self.codes(X[rows])
            noise = random_state.normal(size=mean.shape)
            z = mean + np.einsum("ikl,il->ik", np.linalg.cholesky(covariance), noise)
            noise = random_state.normal(size=X[rows].shape) * np.sqrt(self.noise)
            drawn = np.clip(self.location + z @ self.loadings.T + noise, low, high)
            filled[rows] = np.where(np.isnan(X[rows]), drawn, X[rows])
        return filled

    @staticmethod
    def draw_on_device(x: Tensor, location: Tensor, loadings: Tensor, noise: Tensor, generator: Any) -> Tensor:
        """Replace missing values by draws given the observed values, as `draw`, in float64, but not clipped."""
        parts = [part.double() - location for part in x.split(_BLOCK)]
        drawn = [draw_missing(part, len(part), loadings, noise, generator) for part in parts]
        return location + torch.cat(drawn)


class ProbabilisticPCA(LinearGaussian):
    """Probabilistic PCA of all columns, the model of `PCA.score`: constant columns have the noise of the others."""

    @property
    def has_constant_noise(self) -> bool:
        return True

    def rank(self, X: np.ndarray) -> int:
        return min(X.shape)


def embed_columns(loadings: np.ndarray, noise: np.ndarray, varying: np.ndarray, n_components: int) -> LinearGaussian:
    """Extend a model of the varying columns to all, with a diagonal posterior and components sorted by strength.

    Constant columns get zero loadings and a noise of 1; components beyond those of the model get zero loadings.

    Parameters
    ----------
    loadings : ndarray of shape (n_varying, n)
    noise : ndarray of shape (n_varying,)
    varying : ndarray of bool of shape (n_features,)
    n_components : int
        At least n.

    Returns
    -------
    LinearGaussian
    """
    _, _, rotation = np.linalg.svd(loadings / np.sqrt(noise)[:, None], full_matrices=False)
    rotated = loadings @ rotation.T
    if rotated.size:
        rotated *= np.sign(rotated[np.abs(rotated).argmax(axis=0), np.arange(rotated.shape[1])])
    n = len(varying)
    model = LinearGaussian(np.zeros(n), np.zeros((n, n_components)), np.ones(n))
    model.loadings[varying, : rotated.shape[1]] = rotated
    model.noise[varying] = noise
    return model
