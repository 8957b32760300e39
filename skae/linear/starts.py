"""The linear models that networks may start at, by the name of the parameter ``start``."""

from __future__ import annotations

from skae.linear.factor_analysis import factor_analysis, likelier_start
from skae.linear.gaussian import NOISE_FLOOR
from skae.linear.pca import ordered_probabilistic_pca, pca_start, probabilistic_pca


def _start_at_factor_analysis(X, scale, n_components, random_state, *, ordered, trains):
    if ordered:  # factors are in no order
        return ordered_probabilistic_pca(X, n_components, NOISE_FLOOR, random_state)
    return (likelier_start if trains else factor_analysis)(X, scale, n_components, random_state)


def _start_at_pca(X, scale, n_components, random_state, *, ordered, trains):
    return probabilistic_pca(X, scale, n_components, random_state)


# (X, n_components, random_state) -> PCAStart; None is random initialisation.
AUTOENCODER_STARTS = {"pca": pca_start, "random": None}
# (X, scale, n_components, random_state, *, ordered, trains) -> LinearGaussian. ``ordered`` asks for components in
# order, ``trains`` says that the model is but the start of training.
VAE_STARTS = {"factor_analysis": _start_at_factor_analysis, "pca": _start_at_pca, "random": None}
