"""Objectives of training: losses, likelihoods, priors and the evidence lower bound."""

from skae.objectives.defensive import ColumnMoments, DefensiveMixture, DefensiveStart, LinearBaselines
from skae.objectives.elbo import (
    NegativeELBO,
    ReconstructionObjective,
    ReconstructionOutput,
    VAEOutput,
    elbo,
    gaussian_kl,
)
from skae.objectives.likelihoods.base import Likelihood
from skae.objectives.likelihoods.registry import LIKELIHOODS, mixed_likelihood, register_likelihood
from skae.objectives.losses import LOSSES, Loss, mixed_loss, register_loss
from skae.objectives.mixtures import MixtureDensity
from skae.objectives.priors import PRIORS, MixturePrior, Prior, register_prior

# The registries, their base classes, and functions that add to them.
__all__ = ["LIKELIHOODS", "LOSSES", "PRIORS", "Likelihood", "Loss", "Prior"]
__all__ += ["register_likelihood", "register_loss", "register_prior"]
# Used by networks and estimators.
__all__ += ["NegativeELBO", "ReconstructionObjective", "ReconstructionOutput", "VAEOutput", "elbo", "gaussian_kl"]
__all__ += ["ColumnMoments", "DefensiveMixture", "DefensiveStart", "LinearBaselines", "MixtureDensity"]
__all__ += ["MixturePrior", "mixed_likelihood", "mixed_loss"]
