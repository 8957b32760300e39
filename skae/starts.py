"""Closed forms a net starts from: the frame that centres and scales rows, and PCA as a pair of linear maps.

NumPy and scikit-learn only: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

# How far data are shrunk inside their range before a link with infinite ends: 0 and 1 become +-2.9 under logit.
_SHRINKAGE = 0.1
# Codes are scaled to unit variance inside the net, but never by more than this against the leading one.
_SMALLEST_CODE = 1e-4


@dataclass(frozen=True)
class Frame:
    """From rows in X's units to the net's input, and from its output back.

    The net sees ``(link(x) - location) / scale`` with one global scale, so that PCA's geometry is kept. Columns that
    are constant in the training rows are zero on the way in and come back constant.

    Attributes
    ----------
    link : "identity", "logit" or "log"
    mean : ndarray of shape (n_features,)
        Mean of the training rows, in X's units.
    location : ndarray of shape (n_features,)
        Mean of the linked training rows.
    scale : float
        Root mean square of the centred, linked entries; 1 where all is constant.
    spread : ndarray of shape (n_features,)
        Standard deviation of each linked column, in units of ``scale``.
    constant : ndarray of bool of shape (n_features,)
    """

    link: str
    mean: np.ndarray
    location: np.ndarray
    scale: float
    spread: np.ndarray
    constant: np.ndarray

    def to_net(self, X):
        """Standardised rows, in X's dtype; a new array."""
        linked = self._linked(X)
        centred = np.subtract(linked, self.location.astype(X.dtype), dtype=X.dtype)
        centred /= X.dtype.type(self.scale)
        centred[:, self.constant] = 0
        return centred

    def from_net(self, mean):
        """Rows in X's units from the net's output after the inverse link; a new array or ``mean`` changed."""
        if self.link == "identity":  # else the output is on the link's own scale
            mean *= mean.dtype.type(self.scale)
            mean += self.location.astype(mean.dtype)
        mean[:, self.constant] = self.mean[self.constant].astype(mean.dtype)
        return mean

    def _linked(self, X):
        if self.link == "logit":
            shrunk = _SHRINKAGE / 2 + (1 - _SHRINKAGE) * X
            return np.log(shrunk / (1 - shrunk))
        if self.link == "log":
            floor = np.where(self.constant, 1, _SHRINKAGE * self.mean).astype(X.dtype)
            return np.log((1 - _SHRINKAGE) * X + floor)
        return X


def raw_frame(X):
    """The frame that changes nothing, for nets that take rows as they are."""
    n_features = X.shape[1]
    mean, deviation, _ = _moments(X)
    return Frame(
        link="identity",
        mean=mean,
        location=np.zeros(n_features),
        scale=1.0,
        spread=deviation,
        constant=np.zeros(n_features, dtype=bool),
    )


def fit_frame(X, link):
    """The frame that centres and scales these rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    link : "identity", "logit" or "log"

    Returns
    -------
    Frame
    """
    mean, deviation, constant = _moments(X)
    frame = Frame(link, mean, mean, 1.0, deviation, constant)
    if link != "identity":
        location, deviation, _ = _moments(frame._linked(X))
        deviation[constant] = 0
        frame = replace(frame, location=location)
    if constant.all():
        return replace(frame, spread=deviation)
    largest = deviation.max()
    scale = float(largest * np.sqrt(np.square(deviation[~constant] / largest).mean()))
    return replace(frame, scale=scale, spread=deviation / scale)


def _moments(X):
    """Mean, standard deviation and constancy of each column, in float64 whatever X's dtype.

    Rows are shifted by the first one before they are summed, so that an offset of 1e9 costs no digits, and scaled by
    the largest entry left, so that squares neither overflow nor vanish.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by name, later
        shifted = np.subtract(X, X[0], dtype=np.float64)
        shift = shifted.mean(axis=0)
        mean = X[0] + shift
        shifted -= shift
        constant = X.max(axis=0) == X.min(axis=0)
        peak = max(np.abs(shifted).max(), np.finfo(np.float64).tiny)
        shifted /= peak
        deviation = peak * np.sqrt(np.einsum("ij,ij->j", shifted, shifted) / len(X))
    return mean, np.where(constant, 0, deviation), constant


class LinearStart(NamedTuple):
    """An encoder ``z = encoder @ x`` and a decoder ``x = decoder @ z`` on standardised rows.

    ``encoder`` (n_components, n_features), ``decoder`` (n_features, n_components); the codes have unit variance, and
    ``code_scale`` (n_components,) brings them back to the standardised rows' units.
    """

    encoder: np.ndarray
    decoder: np.ndarray
    code_scale: np.ndarray


def pca_start(X, n_components, random_state):
    """PCA of standardised rows, its codes scaled to unit variance.

    Components beyond the number that rows and columns allow (an over-complete code) get random encoder rows and zero
    decoder columns: they change no reconstruction until training makes use of them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Centred rows.
    n_components : int
    random_state : RandomState

    Returns
    -------
    LinearStart
    """
    rank = min(n_components, *X.shape)
    with np.errstate(invalid="ignore"):  # shares of a variance that is zero
        pca = PCA(rank, svd_solver=_solver(*X.shape), random_state=random_state).fit(X)
    deviation = np.sqrt(np.maximum(pca.explained_variance_, 0)).astype(np.float64)
    deviation = np.maximum(deviation, _SMALLEST_CODE * deviation[0])
    if deviation[0] == 0:
        deviation[:] = 1
    directions = pca.components_.astype(np.float64)

    n_extra = n_components - rank
    extra = random_state.normal(size=(n_extra, X.shape[1])) / np.sqrt(X.shape[1])
    return LinearStart(
        encoder=np.vstack([directions / deviation[:, None], extra]),
        decoder=np.hstack([directions.T * deviation, np.zeros((X.shape[1], n_extra))]),
        code_scale=np.concatenate([deviation, np.ones(n_extra)]),
    )


def _solver(n_samples, n_features):
    """An exact solver wherever one takes seconds at most; PCA's own choice is a random one much earlier."""
    cost = n_samples * n_features * min(n_samples, n_features)
    if cost <= 1e9:
        return "full"
    if n_features <= min(n_samples, 2000):
        return "covariance_eigh"
    return "full" if cost <= 2e10 else "randomized"
