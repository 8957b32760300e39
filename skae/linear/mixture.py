"""Gaussian mixtures of codes and of samples, selected by their likelihood on held-out ones."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from scipy.linalg import block_diag
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

# Candidates for the number of components and for what is added to their variances after the fit.
_N_COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
_WIDENINGS = (0.0, 3e-3, 1e-2, 3e-2, 1e-1)
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

    def fit(self, samples: np.ndarray, seed: int) -> GaussianMixture:
        """Fit a mixture, with fewer components if there are less than two samples for each."""
        n = min(self.n_components, max(1, len(samples) // 2))
        samples = samples if len(samples) > 1 else np.repeat(samples, 2, axis=0)
        with warnings.catch_warnings(), config_context(array_api_dispatch=False):  # it would refuse k-means
            warnings.simplefilter("ignore", ConvergenceWarning)  # fits are compared, and need not converge
            fitted = GaussianMixture(n, reg_covar=_LEAST_WIDENING, random_state=seed).fit(samples)
        return _widened(fitted, self.widening)


def select_mixtures(
    samples: Sequence[np.ndarray], held_out: Sequence[np.ndarray], seed: int, least: float = -np.inf
) -> tuple[MixtureChoice, list[GaussianMixture]] | None:
    """Select mixtures with full covariances, one for each group of samples, by their likelihood on held-out ones.

    The number of components is doubled for as long as the likelihood increases, each time with the best widening.
    Samples should be standardised. The widening keeps components with few samples from overfitting.

    Parameters
    ----------
    samples, held_out : sequence of ndarray of shape (n_samples, n_features)
        Of each group; a group may have no held-out samples.
    seed : int
    least : float, default=-inf
        Mean log-density of a held-out sample that the mixtures have to exceed.

    Returns
    -------
    tuple of MixtureChoice and list of GaussianMixture, or None
        The choice, and its mixtures fitted to ``samples``. None if no mixtures exceed ``least``, or if a value of a
        sample is beyond 1e5: the widening would then be lost in rounding.
    """
    if not all((np.abs(group) < _FARTHEST).all() for group in (*samples, *held_out)):
        return None
    best, chosen, last, most = least, None, -np.inf, max(1, *(len(group) // 2 for group in samples))
    for n in (n for n in _N_COMPONENTS if n <= most):
        fitted, scores = [MixtureChoice(n, 0.0).fit(group, seed) for group in samples], []
        for widening in _WIDENINGS:
            widened = [_widened(mixture, widening) for mixture in fitted]
            pairs = [(m, group) for m, group in zip(widened, held_out, strict=True) if len(group)]
            scores.append((np.concatenate([m.score_samples(group) for m, group in pairs]).mean(), widened))
        score, k = max((score, k) for k, (score, _) in enumerate(scores))
        if score > best:
            best, chosen = score, (MixtureChoice(n, _WIDENINGS[k]), scores[k][1])
        if score <= last:
            break
        last = score
    return chosen


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
    order = np.random.RandomState(seed).permutation(len(codes))
    held_out, rest = np.split(codes[order], [len(codes) // _HELD_OUT])
    chosen = select_mixtures([rest], [held_out], seed, -np.inf if baseline is None else baseline(held_out))
    return None if chosen is None else chosen[0].fit(codes, seed)


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


def fit_mixtures(
    training: np.ndarray, held_out: np.ndarray, varies: np.ndarray, seed: int
) -> tuple[LinearMixture, LinearMixture] | None:
    """Fit mixtures of samples, one for each context, of the size that fits held-out samples best.

    Parameters
    ----------
    training, held_out : ndarray of shape (n, n_features + n_contexts)
        Complete samples and their one-hot encoded context.
    varies : ndarray of bool of shape (n_features,)
        Columns that vary; others are left out.
    seed : int

    Returns
    -------
    tuple of two LinearMixture, or None
        Of the training samples, and of all. None where `select_mixtures` has none.
    """
    rest, everything = _groups(held_out, varies), training[:, : len(varies)][:, varies]
    samples = [group if len(group) else everything for group in _groups(training, varies)]  # a class may be rare
    if (selected := select_mixtures(samples, rest, seed)) is None:
        return None
    choice, fitted = selected
    joined = [choice.fit(np.vstack(parts), seed) for parts in zip(samples, rest, strict=True)]
    return linear_mixture(fitted, varies), linear_mixture(joined, varies)


def _groups(samples: np.ndarray, varies: np.ndarray) -> list[np.ndarray]:
    """Return the varying columns of samples, one group for each context, or a single group without a context."""
    samples, context = np.split(samples, [len(varies)], axis=1)
    groups = [samples[of_context == 1] for of_context in context.T] or [samples]
    return [group[:, varies] for group in groups]
