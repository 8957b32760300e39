"""Gaussian mixtures of codes and of samples, selected by their likelihood on held-out ones."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import RandomState
from scipy.linalg import block_diag
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

# Most components of a mixture of codes, and candidates for what is added to their variances after the fit.
_MOST_COMPONENTS = 64
WIDENINGS = (0.0, 3e-3, 1e-2, 3e-2, 1e-1)
# Added to variances in the fit.
_LEAST_WIDENING = 1e-3
# Most samples that a mixture is fitted to, and most that it is selected on.
MAX_CODES = 5000
# Beyond this value of a sample the least widening of its component is lost in rounding.
_FARTHEST = 1e5
# One in this many codes is held out.
_HELD_OUT = 5


class MixtureChoice(NamedTuple):
    """The number of components of a mixture and the widening, which is added to the variances of all of them."""

    n_components: int
    widening: float

    @staticmethod
    def most_components(n_samples: int, n_columns: int) -> int:
        """Return the number of components that have two samples each, and as many samples as columns.

        With fewer samples than columns a component's covariance is singular.
        """
        return max(1, n_samples // max(2, n_columns))

    def fit(self, samples: np.ndarray, seed: int) -> GaussianMixture:
        """Fit a mixture, with at most `most_components`."""
        n = min(self.n_components, self.most_components(*samples.shape))
        samples = samples if len(samples) > 1 else np.repeat(samples, 2, axis=0)
        with warnings.catch_warnings(), config_context(array_api_dispatch=False):  # it would refuse k-means
            warnings.simplefilter("ignore", ConvergenceWarning)  # fits are compared, and need not converge
            fitted = GaussianMixture(n, reg_covar=_LEAST_WIDENING, random_state=seed).fit(samples)
        return _widened(fitted, self.widening)


def select_size(candidates: Callable[[int], list[tuple[float, Any]]], most: int, least: float = -np.inf) -> Any:
    """Double the number of components for as long as the best score increases, and return the best candidate.

    Parameters
    ----------
    candidates : callable
        (number of components) -> pairs of a score and a candidate.
    most : int
        Most components.
    least : float, default=-inf
        Score that a candidate has to exceed.

    Returns
    -------
    candidate or None
        None if no candidate exceeds ``least``.
    """
    best, chosen, last, n = least, None, -np.inf, 1
    while n <= most:
        found = candidates(n)
        score, k = max((score, k) for k, (score, _) in enumerate(found))
        if score > best:
            best, chosen = score, found[k][1]
        if score <= last:
            break
        last, n = score, 2 * n
    return chosen


def select_mixture(
    samples: np.ndarray, held_out: np.ndarray, seed: int, least: float = -np.inf
) -> MixtureChoice | None:
    """Select a mixture with full covariances by its likelihood on held-out samples.

    The widening keeps components with few samples from overfitting.

    Parameters
    ----------
    samples, held_out : ndarray of shape (n_samples, n_features)
        Standardised.
    seed : int
    least : float, default=-inf
        Mean log-density of a held-out sample that the mixture has to exceed.

    Returns
    -------
    MixtureChoice or None
        None if no mixture exceeds ``least``, or if a value of a sample is beyond 1e5: the widening would then be lost
        in rounding.
    """
    if not all(map(can_be_widened, (samples, held_out))):
        return None

    def candidates(n: int) -> list[tuple[float, MixtureChoice]]:
        fitted = MixtureChoice(n, 0.0).fit(samples, seed)
        scores = [_widened(fitted, widening).score_samples(held_out).mean() for widening in WIDENINGS]
        return [(score, MixtureChoice(n, w)) for score, w in zip(scores, WIDENINGS, strict=True)]

    return select_size(candidates, min(_MOST_COMPONENTS, MixtureChoice.most_components(*samples.shape)), least)


def can_be_widened(samples: np.ndarray) -> bool:
    """Return whether no value is so large that a widening is lost in rounding."""
    return bool((np.abs(samples) < _FARTHEST).all())


def _widened(mixture: GaussianMixture, widening: float) -> GaussianMixture:
    """Return the mixture with ``widening`` added to the variances of its components."""
    mixture = copy.copy(mixture)
    mixture.covariances_ = mixture.covariances_ + widening * np.eye(mixture.means_.shape[1])
    factors = np.linalg.inv(np.linalg.cholesky(mixture.covariances_))
    mixture.precisions_cholesky_ = np.ascontiguousarray(factors.swapaxes(1, 2))
    mixture.precisions_ = factors.swapaxes(1, 2) @ factors
    return mixture


def fit_mixture(codes: np.ndarray, seed: int, baseline: Callable | None = None) -> GaussianMixture | None:
    """Select a mixture by its likelihood on a held-out fifth of codes, and fit it to all.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_components)
        Standardised.
    seed : int
    baseline : callable, default=None
        Maps codes to their mean log-density under a baseline density.

    Returns
    -------
    GaussianMixture or None
        None if the baseline has a higher likelihood, or if a code is beyond 1e5.
    """
    if len(codes) < _HELD_OUT:  # too few for a held-out fifth
        codes = np.repeat(codes, _HELD_OUT, axis=0)
    held_out, rest = np.split(np.random.RandomState(seed).permutation(codes), [len(codes) // _HELD_OUT])
    choice = select_mixture(rest, held_out, seed, -np.inf if baseline is None else baseline(held_out))
    return None if choice is None else choice.fit(codes, seed)


def draw_codes(mixture: GaussianMixture, n_samples: int, random_state: RandomState) -> np.ndarray:
    """Draw codes from a mixture, in random order, since `GaussianMixture.sample` sorts them by component."""
    mixture = copy.copy(mixture).set_params(random_state=random_state)
    return random_state.permutation(mixture.sample(n_samples)[0])


class LinearMixture(NamedTuple):
    r"""Mixture of the densities of mean + loadings @ z + noise, with a standard normal z.

    ``loadings' diag(1 / noise) loadings`` is diagonal for each component.

    Attributes
    ----------
    weights : ndarray of shape (n_contexts, n_models)
        Weights for each context, in one row if there is none.
    means : ndarray of shape (n_models, n_features)
    loadings : ndarray of shape (n_models, n_features, n_components)
    noise : ndarray of shape (n_models, n_features)
        Variances.
    """

    weights: np.ndarray
    means: np.ndarray
    loadings: np.ndarray
    noise: np.ndarray


def linear_mixture(mixtures: Sequence[GaussianMixture], varies: np.ndarray) -> LinearMixture:
    """Write mixtures of the varying columns, one for each context, as linear models of all columns.

    The noise variance of a component is the smallest eigenvalue of its covariance. Columns that do not vary have mean 0
    and noise 1.

    Parameters
    ----------
    mixtures : sequence of GaussianMixture
        Of n_varying columns, with full covariances.
    varies : ndarray of bool of shape (n_features,)

    Returns
    -------
    LinearMixture
        With the components of all mixtures; those of other contexts have weight 0.
    """
    variances, directions = np.linalg.eigh(np.concatenate([mixture.covariances_ for mixture in mixtures]))
    n, n_features = len(variances), len(varies)
    means, noise = np.zeros((n, n_features)), np.ones((n, n_features))
    loadings = np.zeros((n, n_features, np.count_nonzero(varies)))
    means[:, varies] = np.concatenate([mixture.means_ for mixture in mixtures])
    loadings[:, varies] = directions * np.sqrt(variances - variances[:, :1])[:, None]
    noise[:, varies] = variances[:, :1]
    return LinearMixture(block_diag(*(mixture.weights_[None] for mixture in mixtures)), means, loadings, noise)
