"""Density of codes: a Gaussian mixture, selected by its likelihood on held-out codes."""

import copy
import warnings
from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

# Candidates for the number of components and for the regularisation added to their variances.
_N_COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
_WIDENINGS = (1e-3, 1e-2, 1e-1)
# Most samples whose codes a mixture is fitted to.
MAX_CODES = 5000
# One in this many codes is held out.
_HELD_OUT = 5


def fit_mixture(codes: np.ndarray, seed: int, baseline: Callable | None = None) -> GaussianMixture | None:
    """Select a mixture with full covariances by its likelihood on a held-out fifth, and fit it to all codes.

    For each widening, a value added to the variances, the number of components is doubled for as long as the likelihood
    increases. Codes should be standardised. The widening keeps components with few codes from overfitting.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_components)
    seed : int
    baseline : callable, default=None
        Maps codes to their mean log-density under a baseline density.

    Returns
    -------
    GaussianMixture or None
        None if the baseline has a higher likelihood.
    """
    if len(codes) < _HELD_OUT:  # too few for a held-out fifth
        codes = np.repeat(codes, _HELD_OUT, axis=0)
    order = np.random.RandomState(seed).permutation(len(codes))
    held_out, rest = np.split(codes[order], [len(codes) // _HELD_OUT])

    def fitted(rows, widening, n):
        return GaussianMixture(n, reg_covar=widening, random_state=seed).fit(rows)

    best, chosen = (-np.inf, (_WIDENINGS[-1], 1)) if baseline is None else (baseline(held_out), None)
    with warnings.catch_warnings(), config_context(array_api_dispatch=False):  # it would refuse k-means
        warnings.simplefilter("ignore", ConvergenceWarning)  # fits are compared, and need not converge
        for widening in _WIDENINGS:
            last = -np.inf
            for n in (n for n in _N_COMPONENTS if n <= len(rest) // 2):
                try:
                    score = fitted(rest, widening, n).score(held_out)
                except ValueError:  # codes so far apart that the widening is lost in rounding
                    break
                if score > best:
                    best, chosen = score, (widening, n)
                if score <= last:
                    break
                last = score
        return None if chosen is None else fitted(codes, *chosen)


def draw_codes(mixture: GaussianMixture, n_samples: int, random_state: RandomState) -> np.ndarray:
    """Draw codes from a mixture, in random order, since `GaussianMixture.sample` sorts them by component."""
    mixture = copy.copy(mixture).set_params(random_state=random_state)
    return random_state.permutation(mixture.sample(n_samples)[0])
