"""A density of codes: the Gaussian mixture that is likeliest on held-out codes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

# Numbers of components, and additions to the variances of each, among which held-out codes choose.
_N_COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
_WIDENINGS = (1e-3, 1e-2, 1e-1)
# The most samples whose codes a mixture is fitted to.
MAX_CODES = 5000
# One code in so many is held out.
_HELD_OUT = 5


def fit_mixture(codes: np.ndarray, seed: int, baseline: Callable | None = None) -> GaussianMixture | None:
    """Fit the mixture of full covariances under which a fifth of the codes, held out, is likeliest, to all codes.

    For each widening of the components their number is doubled for as long as that helps. Codes are expected to be
    standardised. The widening keeps components of few codes each from overfitting.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_components)
    seed : int
    baseline : callable, default=None
        Maps codes to their mean log-density under the density that the mixture is to improve on.

    Returns
    -------
    GaussianMixture or None
        None if the baseline is likelier.
    """
    if len(codes) < _HELD_OUT:  # too few to hold any out
        codes = np.repeat(codes, _HELD_OUT, axis=0)
    order = np.random.RandomState(seed).permutation(len(codes))
    held_out, rest = np.split(codes[order], [len(codes) // _HELD_OUT])

    def fitted(rows, widening, n):
        return GaussianMixture(n, reg_covar=widening, random_state=seed).fit(rows)

    best, chosen = (-np.inf, (_WIDENINGS[-1], 1)) if baseline is None else (baseline(held_out), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the best of several fits is wanted, not an optimum
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
    """Draw codes from a mixture, in random order: its own draws are sorted by component."""
    mixture = copy.copy(mixture).set_params(random_state=random_state)
    return random_state.permutation(mixture.sample(n_samples)[0])
