"""Reconstruction losses: what a net's output means, and how far it is from a row.

A loss decides the output's *link*. With ``eta`` the decoder's output, the reconstruction is the inverse link of
``eta`` and the loss compares it with the row ``x``. Torch only: no numpy, no scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skae.nn import AutoencoderOutput, OrderedOutput, VAEOutput, gaussian_kl, has_gaps


def squared_error(eta: Tensor, x: Tensor, reduction: str = "none") -> Tensor:
    """(x - eta)^2."""
    return F.mse_loss(eta, x, reduction=reduction)


def absolute_error(eta: Tensor, x: Tensor, reduction: str = "none") -> Tensor:
    """|x - eta|."""
    return F.l1_loss(eta, x, reduction=reduction)


def huber(eta: Tensor, x: Tensor, reduction: str = "none") -> Tensor:
    """Squared error / 2 below a distance of 1, absolute error - 1/2 above (Huber 1964)."""
    return F.huber_loss(eta, x, reduction=reduction)


def log_loss(eta: Tensor, x: Tensor, reduction: str = "none") -> Tensor:
    """-x log p - (1 - x) log(1 - p), p = sigmoid(eta): the Bernoulli cross-entropy, in nats, for x in [0, 1]."""
    return F.binary_cross_entropy_with_logits(eta, x, reduction=reduction)


def poisson(eta: Tensor, x: Tensor, reduction: str = "none") -> Tensor:
    """x log(x / mu) - x + mu, mu = exp(eta): half the Poisson deviance, in nats, for x >= 0."""
    deviance = torch.special.xlogy(x, x) - x * eta - x + eta.exp()
    return deviance.mean() if reduction == "mean" else deviance


class Loss(NamedTuple):
    """One reconstruction loss.

    Attributes
    ----------
    entry : callable (eta, x, reduction="none" or "mean") -> Tensor
        The loss of each entry, or their mean at once, which costs half as much.
    inverse_link : callable Tensor -> Tensor
        From the decoder's output to the reconstruction.
    link : "identity", "logit" or "log"
        The inverse of ``inverse_link``, by name.
    degree : int
        The loss of ``c x`` and ``c eta`` is ``c ** degree`` times that of ``x`` and ``eta`` (0: not scaled).
    """

    entry: Callable[..., Tensor]
    inverse_link: Callable[[Tensor], Tensor]
    link: str
    degree: int


def _identity(eta: Tensor) -> Tensor:
    return eta


LOSSES = {
    "squared_error": Loss(squared_error, _identity, "identity", 2),
    "absolute_error": Loss(absolute_error, _identity, "identity", 1),
    "huber": Loss(huber, _identity, "identity", 2),
    "log_loss": Loss(log_loss, torch.sigmoid, "logit", 0),
    "poisson": Loss(poisson, torch.exp, "log", 0),
}


class ReconstructionObjective(nn.Module):
    r"""Mean loss of an entry that is not missing, plus an L1 penalty on the code in units of its own root mean square.

    .. math:: \frac{1}{n d} \sum_{ij} \ell(\eta_{ij}, x_{ij})
        + \lambda \sum_k \frac{\frac{1}{n} \sum_i |z_{ik}|}{\sqrt{\frac{1}{n} \sum_i z_{ik}^2}}

    A plain L1 norm would be met by small codes and a large decoder, with no zero in sight.

    Parameters
    ----------
    loss : Loss
    sparsity : float, default=0.0
        The weight :math:`\lambda`.
    varies : Tensor of shape (n_features,) or None, default=None
        1 for columns that count, 0 for those whose loss is zero whatever the output.

    Shape
    -----
    output: z (n, n_components), eta (n, n_features); x: (n, n_features), nan where missing; result: a scalar. Of an
    ordered net, eta (n_levels, n, n_features) and weight (n_levels, n, 1), what each row counts at each level.
    """

    varies: Tensor | None

    def __init__(self, loss: Loss, sparsity: float = 0.0, varies: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("varies", varies)
        self.loss = loss
        self.sparsity = sparsity

    def forward(self, output: AutoencoderOutput | OrderedOutput, x: Tensor) -> Tensor:
        objective = self._mean_loss(output, x)
        if has_gaps(objective):  # a gap goes through, and here is but one number to look at
            observed = ~x.isnan()
            share = observed.to(x).mean().clamp_min(1 / x.numel())  # rows may be nothing but gaps
            objective = self._mean_loss(output, torch.where(observed, x, 0), observed) / share
        if self.sparsity:
            size = output.z.square().mean(0).clamp_min(torch.finfo(output.z.dtype).tiny).sqrt()
            objective = objective + self.sparsity * (output.z.abs().mean(0) / size).sum()
        return objective

    def _mean_loss(
        self, output: AutoencoderOutput | OrderedOutput, x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Mean over entries, times what each counts."""
        weight = output.weight if isinstance(output, OrderedOutput) else None
        factors = [factor for factor in (self.varies, weight, observed) if factor is not None]
        if not factors:
            return self.loss.entry(output.eta, x, reduction="mean")
        entries = self.loss.entry(output.eta, x.expand_as(output.eta))
        for factor in factors:
            entries = entries * factor
        return entries.mean()


class NegativeELBO(nn.Module):
    r"""Minus the evidence lower bound, the mean of a row, in nats.

    .. math:: -\frac{1}{n} \sum_i \Big( \frac{1}{S} \sum_s \log p(x_i | z_{is})
        - \beta \, \mathrm{KL}(q(z | x_i) \,\|\, N(0, I)) \Big)

    Parameters
    ----------
    likelihood : nn.Module
        (eta, x) -> log-density of each row; the one of the net, so that it learns with it.
    beta : float, default=1.0
        Weight of the KL term (Higgins et al. 2017); 1 is the bound.
    defence : Defence or None, default=None
        What the bounds of rows become when they are judged, not trained on.

    Shape
    -----
    output: mean, log_var (n, n_components), eta (S, n, n_features); x: (n, n_features); result: a scalar.
    """

    def __init__(self, likelihood: nn.Module, beta: float = 1.0, defence: nn.Module | None = None) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.beta = beta
        self.defence = defence

    def bound(self, output: VAEOutput, x: Tensor) -> Tensor:
        """Of each row: (n,)."""
        log_likelihood = self.likelihood(output.eta, x).mean(0)
        kl = gaussian_kl(output.mean, output.log_var).sum(1)
        bound = log_likelihood - self.beta * kl
        if self.defence is not None and not self.training:
            bound = self.defence(bound, x, output.given)
        return bound

    def forward(self, output: VAEOutput, x: Tensor) -> Tensor:
        return -self.bound(output, x).mean()


class NestedNegativeELBO(nn.Module):
    """`NegativeELBO` of models of several sizes, their mean.

    Parameters
    ----------
    objectives : sequence of NegativeELBO
        Of the model of each size, from 1 on.

    Shape
    -----
    outputs: the parts of a `VAEOutput` for each model that counts, in a row; x: (n, n_features); result: a scalar.
    """

    def __init__(self, objectives: Sequence[NegativeELBO]) -> None:
        super().__init__()
        self.objectives = nn.ModuleList(objectives)

    def forward(self, outputs: Sequence[Tensor], x: Tensor) -> Tensor:
        n_parts = len(VAEOutput._fields) - 1  # nothing is given
        each = [VAEOutput(*outputs[i : i + n_parts]) for i in range(0, len(outputs), n_parts)]
        return torch.stack([self.objectives[output.mean.shape[1] - 1](output, x) for output in each]).mean()
