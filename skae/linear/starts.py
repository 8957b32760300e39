"""Linear models at which networks may start, by the values of the parameter ``start``."""

from skae.linear.factor_analysis import factor_analysis, likelier_start
from skae.linear.gaussian import NOISE_FLOOR
from skae.linear.pca import ordered_probabilistic_pca, pca_of_all_columns, pca_start


def _start_at_factor_analysis(X, scale, n_components, random_state, *, ordered, trains):
    if ordered:  # factors have no order
        return ordered_probabilistic_pca(X, n_components, NOISE_FLOOR, random_state)
    return (likelier_start if trains else factor_analysis)(X, scale, n_components, random_state)


def _start_at_pca(X, scale, n_components, random_state, *, ordered, trains):
    return pca_of_all_columns(X, scale, n_components, random_state)


# (X, n_components, random_state) -> PCAStart; None is random initialisation.
AUTOENCODER_STARTS = {"pca": pca_start, "random": None}
# (X, scale, n_components, random_state, *, ordered, trains) -> LinearGaussian. ``ordered`` is for ordered components,
# ``trains`` if training follows.
VAE_STARTS = {"factor_analysis": _start_at_factor_analysis, "pca": _start_at_pca, "random": None}
