"""The linear Gaussian model: its posterior, its density, and what it expects of missing values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.utils import gen_batches
from torch import Tensor

# The least noise variance in training, and of an ordered start, over the column's variance.
NOISE_FLOOR = 1e-4
# The least noise variance of a model that imputes, over the column's variance.
LEAST_IMPUTATION_NOISE = 1e-3
# Samples whose posteriors are held at once: bounds memory.
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
    x, noise = x.double(), noise.double()  # P has ones beside inverses of little noise
    precision, shift = _information(torch.where(observed, x, 0), observed.to(x), loadings, noise)
    identity = torch.eye(loadings.shape[1], dtype=x.dtype, device=x.device)
    factor = torch.linalg.cholesky(precision + identity)
    mean = torch.cholesky_solve(shift[:, :, None], factor)[:, :, 0]
    return mean.to(dtype), factor.to(dtype)


def _information(x: Any, observed: Any, loadings: Any, noise: Any) -> tuple[Any, Any]:
    """P - I (n, k, k) and P times the posterior mean (n, k), of tensors or arrays alike.

    ``x`` and ``observed`` are (n, n_features), x zero where it is not observed; ``loadings`` (n_features, k), ``noise``
    (n_features,).
    """
    n_features, n_components = loadings.shape
    weighted = loadings / noise[:, None]
    products = (weighted[:, :, None] * loadings[:, None, :]).reshape(n_features, -1)
    return (observed @ products).reshape(-1, n_components, n_components), x @ weighted


def diagonal_posterior(loadings: Any, noise: Any) -> tuple[Any, Any]:
    r"""Compute the posterior of z in x = loadings @ z + noise, of tensors or arrays alike.

    .. math:: z \,|\, x \sim N(V W' \Psi^{-1} x, V), \quad V = (I + W' \Psi^{-1} W)^{-1}

    Parameters
    ----------
    loadings : Tensor or ndarray of shape (..., n_features, n_components)
        W' Psi^-1 W must be diagonal, and so V is.
    noise : Tensor or ndarray of shape (..., n_features)
        Variances.

    Returns
    -------
    weight : Tensor or ndarray of shape (..., n_features, n_components)
        Of the posterior mean ``x @ weight``.
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
        0 for entries that add nothing, else 1.

    Returns
    -------
    Tensor of shape (..., n)
    """
    noise = noise.unsqueeze(-2)
    entries = rest.square() / noise + (2 * math.pi * noise).log()
    return -0.5 * ((entries * counted).sum(-1) + z.square().sum(-1) + log_precision)


class LinearGaussian(NamedTuple):
    """The model x = location + loadings @ z + noise with a standard normal z.

    Factor analysis, or probabilistic PCA if all columns have the same noise. `posterior` and all that uses it need
    loadings that are rotated so that loadings' diag(1 / noise) loadings is diagonal, as `embed_columns` leaves them.

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
        """Cut probabilistic PCA of samples of this rank to its first components.

        The variance that the others explain is spread over the remaining directions: the maximum of the likelihood,
        as for any number of components.
        """
        cut = self._replace(loadings=self.loadings[:, :n_components])
        return cut.noisier(1 + self._signal()[n_components:].sum() / max(1, rank - n_components))

    def noisier(self, factor: float) -> LinearGaussian:
        """Multiply the noise by a factor; the variance of each component is reduced by as much as the noise gains."""
        signal = self._signal()
        kept = np.sqrt(np.maximum(signal - (factor - 1), 0) / np.where(signal > 0, signal, 1))
        return self._replace(loadings=self.loadings * kept, noise=self.noise * factor)

    def _signal(self) -> np.ndarray:
        """The variance of each component over the noise, (n_components,)."""
        return np.square(self.loadings / np.sqrt(self.noise)[:, None]).sum(axis=0)

    def nearer_to_prior(self, larger: LinearGaussian) -> tuple[np.ndarray, np.ndarray]:
        """Compare the posterior with that of the `leading` components of a larger model.

        The mean of z is w' x / noise times the variance, w a column of the loadings; columns and noise are those of
        the larger model times a number. A component without loadings stays as it is.

        Returns
        -------
        ratio : ndarray of shape (n_components,)
            Of the posterior means.
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
        """Bound the noise from below, for samples of columns with variance 1: the model may then impute."""
        return self._replace(noise=np.maximum(self.noise, LEAST_IMPUTATION_NOISE))

    def fold_into_noise(self, n_components: int) -> LinearGaussian:
        """Keep the first components; the variance that the others explain is added to the noise."""
        kept, rest = np.split(self.loadings, [n_components], axis=1)
        return self._replace(loadings=kept, noise=self.noise + np.square(rest).sum(axis=1))

    def codes(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (n, n_components) and covariance (n, n_components, n_components) of z given what is observed.

        In NumPy: with several threads on busy cores, torch takes ten times as long for many small matrices.
        """
        observed = ~np.isnan(X)
        precision, shift = _information(np.where(observed, X - self.location, 0), observed, self.loadings, self.noise)
        covariance = np.linalg.inv(np.eye(shift.shape[1]) + precision)
        return np.einsum("ikl,il->ik", covariance, shift), covariance

    def expected(self, X: np.ndarray) -> np.ndarray:
        """Return samples whose missing values are replaced by their conditional means."""
        return np.where(np.isnan(X), self.location + self.codes(X)[0] @ self.loadings.T, X)

    def draw(self, X: np.ndarray, random_state: RandomState) -> np.ndarray:
        """Return samples whose missing values are drawn given the observed ones, so that columns keep their variance.

        Draws are clipped to the observed range of their column.
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


def embed_columns(loadings: np.ndarray, noise: np.ndarray, varying: np.ndarray, n_components: int) -> LinearGaussian:
    """Extend a model of the varying columns to all columns, with a diagonal posterior, the strongest component first.

    Columns that do not vary get no loadings and a noise of 1; components beyond those of the model get no loadings.

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
