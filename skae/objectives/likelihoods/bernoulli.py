"""Likelihood of zeros and ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skae.objectives.likelihoods.base import Likelihood


class Bernoulli(Likelihood):
    r"""Bernoulli with the decoder's output as log-odds, for samples in [0, 1].

    .. math:: \log p(x | \eta) = \sum_j x_j \eta_j - \log(1 + e^{\eta_j})

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "logit"
    support = "unit_interval"

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        return x * eta - nn.functional.softplus(eta)

    def mean(self, eta: Tensor) -> Tensor:
        return torch.sigmoid(eta)

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(eta), generator=generator)
