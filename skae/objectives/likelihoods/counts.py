"""Likelihoods of counts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.objectives.likelihoods.base import Likelihood, Terms, smoothed_mean


class Poisson(Likelihood):
    r"""Poisson with the decoder's output as the logarithm of its mean.

    .. math:: \log p(x | \eta) = \sum_j x_j \eta_j - e^{\eta_j} - \log x_j!

    Means are at most e^``LARGEST``, 2e17.

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "log"
    support = "counts"
    LARGEST = 40.0

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        eta = eta.clamp(max=self.LARGEST)
        return x * eta - eta.exp() - torch.lgamma(x + 1)

    def mean(self, eta: Tensor) -> Tensor:
        return eta.clamp(max=self.LARGEST).exp()

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(eta), generator=generator)


class NegativeBinomial(Poisson):
    r"""Negative binomial, a gamma mixture of Poisson densities: counts with a variance above their mean.

    .. math:: \log p(x | \eta) = \sum_j \log \frac{\Gamma(x_j + r_j)}{\Gamma(r_j)\, x_j!}
        + r_j \log \frac{r_j}{r_j + \mu_j} + x_j \log \frac{\mu_j}{r_j + \mu_j}, \quad \mu = e^\eta

    The variance is :math:`\mu + \mu^2 / r`. The dispersion 1 / r of each column is learned, between e^-7 and e^5. Its
    logarithm is ``PACE`` times a parameter, so that Adam changes it faster.

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features).
    """

    RANGE = -7.0, 5.0
    PACE = 10.0

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.dispersion = nn.Parameter(torch.zeros(n_features))

    @torch.no_grad()
    def start_at(self, noise: Tensor, variance: Tensor, scale: Tensor) -> None:
        """Start at the noise variance of the logarithms, which is the dispersion of large counts."""
        self.dispersion.copy_((noise * scale.square()).log().clamp(*self.RANGE) / self.PACE)

    def independent(self, mean: Tensor, variance: Tensor, n_samples: float) -> Tensor:
        """Set the dispersion by the method of moments, from the variance of the columns."""
        eta, mean = super().independent(mean, variance, n_samples), smoothed_mean(mean, n_samples)
        self.start_at((variance - mean).clamp_min(0) / mean.square(), variance, torch.ones_like(mean))
        return eta

    @property
    def log_size(self) -> Tensor:
        """The logarithm of r."""
        return -(self.PACE * self.dispersion).clamp(*self.RANGE)

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        log_odds, size = eta.clamp(max=self.LARGEST) - self.log_size, self.log_size.exp()
        ways = torch.lgamma(x + size) - torch.lgamma(size) - torch.lgamma(x + 1)
        return ways + x * nn.functional.logsigmoid(log_odds) + size * nn.functional.logsigmoid(-log_odds)

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        size = self.log_size.exp().expand(eta.shape).contiguous()
        rate = self.mean(eta) * torch._standard_gamma(size, generator=generator) / size
        return torch.poisson(rate, generator=generator)


class Multinomial(Likelihood):
    r"""Multinomial: counts conditional on their sum, with the softmax of the decoder's output as probabilities.

    .. math:: \log p(x | \eta) = \log \frac{n!}{\prod_j x_j!} + \sum_j x_j \log \mathrm{softmax}(\eta)_j,
        \quad n = \sum_j x_j

    If counts are missing, the probabilities are those among the observed columns. Samples are drawn with sums of
    training samples; the mean is that of a sample with the mean sum.

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "share"
    support = "counts"
    N_SUMS = 100
    sums: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.register_buffer("sums", torch.ones(self.N_SUMS))

    @torch.no_grad()
    def fit_sums(self, sums: Callable[[], Any]) -> None:
        """Set the sums of draws to ``N_SUMS`` quantiles of the sums of training samples, with equal probabilities."""
        ordered = torch.as_tensor(sums()).sort().values
        places = torch.linspace(0, len(ordered) - 1, self.N_SUMS, dtype=torch.float64)
        self.sums.copy_(ordered[places.round().long()])

    def of_constants(self, value: Tensor, deviation: Tensor, n_samples: float, noise: Tensor | None = None) -> Terms:
        """Return zeros, since the shares of all columns are in the density."""
        zeros = torch.zeros_like(value)
        return zeros, zeros, zeros

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        return x * eta.log_softmax(-1) - torch.lgamma(x + 1)

    def forward(self, eta: Tensor, x: Tensor) -> Tensor:
        if has_missing(x):
            missing = x.isnan()
            eta, x = eta.masked_fill(missing, -1e30), torch.where(missing, 0, x)
        return self.log_prob(eta, x).sum(-1) + torch.lgamma(x.sum(-1) + 1)

    def mean(self, eta: Tensor) -> Tensor:
        return eta.softmax(-1) * self.sums.mean()

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        shares = eta.softmax(-1)
        rest = self.sums[torch.randint(len(self.sums), (len(eta),), generator=generator)].round()
        x, left = torch.zeros_like(shares), torch.ones_like(rest)
        for column, share in zip(x.T, shares.T, strict=True):
            column += torch.binomial(rest, (share / left).nan_to_num(0.0).clamp(0, 1), generator=generator)
            rest, left = rest - column, (left - share).clamp_min(0)
        x[:, -1] += rest  # the remainder from rounding
        return x

    def mean_of_missing(self, eta: Tensor, x: Tensor) -> Tensor:
        """Return expected counts from the shares, relative to the observed counts, or the mean if all are missing."""
        shares = eta.softmax(-1)
        observed = (shares * ~x.isnan()).sum(-1, keepdim=True)
        total = x.nansum(-1, keepdim=True) / observed.clamp_min(torch.finfo(observed.dtype).tiny)
        return shares * torch.where(x.isnan().all(-1, keepdim=True), self.sums.mean(), total)

    def draw_missing(self, eta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draw Poisson counts with that mean."""
        return torch.poisson(self.mean_of_missing(eta, x), generator=generator)
