"""Likelihood of real values."""

import math

import torch
from torch import Tensor, nn

from skae.linear.gaussian import NOISE_FLOOR
from skae.objectives.defensive import DefensiveMixture, LinearModels
from skae.objectives.likelihoods.base import Likelihood, Terms

# Least unit of distances from a constant, relative to the constant and absolute.
_ROUNDING, _LEAST_UNIT = 1e-7, 1e-150


class Gaussian(Likelihood):
    r"""Normal with mean and variance from the decoder's output.

    .. math:: \log p(x | \eta) = \sum_j -\tfrac12 \log(2 \pi \sigma_j^2) - \frac{(x_j - \mu_j)^2}{2 \sigma_j^2}

    The first half of eta is the mean. The second half changes the logarithm of the variance by at most ``RANGE`` in
    either direction, relative to a learned level of each column. ``floor`` is added to the variance, so that densities
    stay finite.

    Shape
    -----
    eta: (..., 2 n_features), x: (..., n_features) -> log_prob: (..., n_features).
    """

    n_parameters = 2
    is_conjugate = True
    RANGE = 3.0
    value_kinds = {"floor": "size"}
    floor: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.log_excess = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("floor", torch.full((n_features,), 1e-12))

    def start_at(self, noise: Tensor, variance: Tensor, scale: Tensor) -> None:
        """Start at this noise; training keeps it above a share of the variance, or half the start if that is less."""
        self._start_between(NOISE_FLOOR * variance, noise)

    def of_constants(self, value: Tensor, deviation: Tensor, n_samples: float, noise: Tensor | None = None) -> Terms:
        """Return a normal density with this noise or, without one, the square of a distance in a small unit.

        The unit is a hundredth of the smallest deviation of another column, or of the constant if that is less. It is
        at least 1e-7 of the constant, above the rounding of float32. The constant itself contributes 0.
        """
        zeros = torch.zeros_like(value)
        if noise is not None:
            return noise.rsqrt(), zeros, (2 * math.pi * noise).log() / 2
        smallest = torch.where(deviation > 0, deviation, torch.inf).amin().nan_to_num(posinf=1.0)
        size = value.abs()
        unit = torch.where(size > 0, torch.minimum(size, smallest), smallest) * NOISE_FLOOR**0.5
        return 1 / torch.maximum(unit, _ROUNDING * size).clamp_min(_LEAST_UNIT), zeros, zeros

    @torch.no_grad()
    def _start_between(self, floor: Tensor, variance: Tensor) -> None:
        """Start at this variance; training keeps it above the floor, or above half of the start if that is less."""
        floor = torch.minimum(floor, variance / 2)
        self.floor.copy_(floor)
        self.log_excess.copy_((variance - floor).log())

    def defensive(self, n_components: int, n_context: int) -> DefensiveMixture:
        return LinearModels(2, len(self.varies), n_components, n_context)

    def variance(self, eta: Tensor) -> Tensor:
        """Return the noise variance: (..., n_features)."""
        change = self.RANGE * torch.tanh(eta.chunk(2, -1)[1] / self.RANGE)
        return self.floor + (self.log_excess + change).exp()

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        variance = self.variance(eta)
        return -0.5 * ((x - self.mean(eta)).square() / variance + variance.log() + math.log(2 * math.pi))

    def statistics(self, x: Tensor) -> Tensor:
        return torch.cat([x.square(), x], dim=-1)

    def natural(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.mean(eta), self.variance(eta)
        offset = -0.5 * (mean.square() / variance + variance.log() + math.log(2 * math.pi))
        slopes = torch.cat([-0.5 * self.varies / variance, self.varies * mean / variance], dim=-1)
        return slopes, (self.varies * offset).sum(-1)

    def mean(self, eta: Tensor) -> Tensor:
        return eta.chunk(2, -1)[0]

    def squared_errors(self, eta: Tensor, x: Tensor) -> Tensor:
        return (self.mean(eta) - x).square()

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(eta)
        noise = torch.randn(mean.shape, generator=generator, dtype=eta.dtype, device=eta.device)
        return mean + self.variance(eta).sqrt() * noise


class IsotropicGaussian(Gaussian):
    r"""Normal with one noise variance for all columns in units of X, as in probabilistic PCA.

    .. math:: \log p(x | \mu) = -\tfrac{d}{2} \log(2 \pi \sigma^2) - \frac{\lVert x - \mu \rVert^2}{2 \sigma^2}

    eta is the mean. All squared errors have the same weight, so that training lowers the reconstruction error, too.

    Shape
    -----
    eta: (..., n_features), x: (..., n_features) -> log_prob: (..., n_features).
    """

    n_parameters = 1
    value_kinds = Gaussian.value_kinds | {"unit": "positive"}
    unit: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.log_excess = nn.Parameter(torch.zeros(()))
        self.register_buffer("unit", torch.ones(n_features))

    def start_at(self, noise: Tensor, variance: Tensor, scale: Tensor) -> None:
        """Start at the mean of this noise in units of X."""
        self.unit.copy_(1 / scale.square())
        counted = torch.where(self.varies.any(), self.varies, 1)
        noise, variance = ((counted * part / self.unit).sum() / counted.sum() for part in (noise, variance))
        self._start_between(NOISE_FLOOR * variance, noise)

    def begin_columns(self, began: Tensor, scale: Tensor) -> None:
        super().begin_columns(began, scale)
        self.unit[began] = 1 / scale[began].square()

    def variance(self, eta: Tensor) -> Tensor:
        return (self.unit * (self.floor + self.log_excess.exp())).expand_as(eta)

    def mean(self, eta: Tensor) -> Tensor:
        return eta
