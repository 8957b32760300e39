"""A density of codes: the Gaussian mixture that held-out codes favour."""

from __future__ import annotations

import copy
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

# Numbers of components, and what is added to the variances of each, that held-out codes choose from.
_COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
_WIDENINGS = (1e-3, 1e-2, 1e-1)
# The most rows whose codes a mixture learns from.
MOST_CODES = 5000
# The share of the codes held out is one in so many.
_HELD_OUT = 5


def code_density(codes, seed, rival=None):
    """The mixture of full covariances under which a fifth of the codes, held out, is likeliest, fitted to all codes.

    For each widening of the components their number is doubled for as long as that helps. Codes are expected
    standardised. Where components have few codes each, it is the widening that keeps them from learning these by heart.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_components)
    seed : int
    rival : callable, default=None
        From codes to their mean log-density under what the mixture stands in for.

    Returns
    -------
    GaussianMixture or None
        None if the rival is likelier.
    """
    if len(codes) < _HELD_OUT:  # too few to hold any out
        codes = np.repeat(codes, _HELD_OUT, axis=0)
    order = np.random.RandomState(seed).permutation(len(codes))
    held_out, rest = np.split(codes[order], [len(codes) // _HELD_OUT])

    def fitted(rows, widening, n):
        return GaussianMixture(n, reg_covar=widening, random_state=seed).fit(rows)

    best, chosen = (-np.inf, (_WIDENINGS[-1], 1)) if rival is None else (rival(held_out), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the best of some is asked for, no more
        for widening in _WIDENINGS:
            last = -np.inf
            for n in (n for n in _COMPONENTS if n <= len(rest) // 2):
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


def draw_codes(density, n_samples, random_state):
    """Codes from a mixture, in random order: it gives its own draws sorted by component."""
    density = copy.copy(density).set_params(random_state=random_state)
    return random_state.permutation(density.sample(n_samples)[0])
