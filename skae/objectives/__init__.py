"""What training minimises: losses, likelihoods, priors and the bounds made of them."""

from skae.objectives.defensive import ColumnMoments, DefensiveMixture, DefensiveStart, LinearBaselines
from skae.objectives.elbo import NegativeELBO, ReconstructionObjective, gaussian_kl
from skae.objectives.likelihoods.base import Likelihood
from skae.objectives.likelihoods.gaussian import NOISE_FLOOR
from skae.objectives.likelihoods.registry import LIKELIHOODS, mixed_likelihood, register_likelihood
from skae.objectives.losses import LOSSES, Loss, register_loss
from skae.objectives.outputs import ReconstructionOutput, VAEOutput
from skae.objectives.priors import PRIORS, MixturePrior, Prior, register_prior

__all__ = [
    "LIKELIHOODS",
    "LOSSES",
    "NOISE_FLOOR",
    "PRIORS",
    "ColumnMoments",
    "DefensiveMixture",
    "DefensiveStart",
    "Likelihood",
    "LinearBaselines",
    "Loss",
    "MixturePrior",
    "NegativeELBO",
    "Prior",
    "ReconstructionObjective",
    "ReconstructionOutput",
    "VAEOutput",
    "gaussian_kl",
    "mixed_likelihood",
    "register_likelihood",
    "register_loss",
    "register_prior",
]
