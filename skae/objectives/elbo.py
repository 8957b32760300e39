"""The objectives of training, the evidence lower bound and the reconstruction loss, and their inputs."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.objectives.losses import Loss


class ReconstructionOutput(NamedTuple):
    """Output of an autoencoder.

    Attributes
    ----------
    z : Tensor of shape (n, n_components)
        Codes.
    eta : Tensor of shape (n, n_features) or (n_levels, n, n_features)
        Output of the decoder, before the inverse link.
    weight : Tensor broadcastable to eta, or None
        Weight of each level in the loss.
    """

    z: Tensor
    eta: Tensor
    weight: Tensor | None = None


class VAEOutput(NamedTuple):
    """Output of a variational autoencoder at one size.

    Attributes
    ----------
    mean, log_var : Tensor of shape (n, n_components)
        Parameters of the normal posterior q(z | x).
    z : Tensor of shape (n_draws, n, n_components)
        Draws from it.
    eta : Tensor of shape (n_draws, n, n_outputs)
        Output of the decoder at these draws.
    context : Tensor of shape (n, n_context) or None
        Context that the model is conditional on.
    at_mean : Tensor of shape (n, n_outputs) or None
        Output of the decoder at the mean of the posterior; None in training.
    """

    mean: Tensor
    log_var: Tensor
    z: Tensor
    eta: Tensor
    context: Tensor | None = None
    at_mean: Tensor | None = None


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(N(mean, diag exp(log_var)) || N(0, I)) by component, in nats: (mean^2 + var - log var - 1) / 2."""
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1)


def elbo(log_densities: Tensor, mean: Tensor, log_var: Tensor, beta: float = 1.0) -> Tensor:
    """Return the evidence lower bound of each sample, in nats: (n,).

    Parameters
    ----------
    log_densities : Tensor of shape (n_draws, n)
        Log-density of each sample given draws from its posterior.
    mean, log_var : Tensor of shape (n, n_components)
        Parameters of that posterior.
    beta : float, default=1.0
        Weight of the KL term.
    """
    return log_densities.mean(0) - beta * gaussian_kl(mean, log_var).sum(1)


class NegativeELBO(nn.Module):
    r"""Minus the evidence lower bound, its mean over samples and over the sizes of codes, in nats.

    .. math:: -\frac{1}{n} \sum_i \Big( \frac{1}{S} \sum_s \log p(x_i | z_{is})
        - \beta \, \mathrm{KL}(q(z | x_i) \,\|\, N(0, I)) \Big)

    Parameters
    ----------
    likelihoods : sequence of Likelihood
        Likelihoods of the models with 1, 2, 3, ... components, or one for all sizes. They are the network's, so that
        they are trained with it.
    beta : float, default=1.0
        Weight of the KL term (Higgins et al. 2017); 1 is the bound.
    defensive : sequence of DefensiveMixture, default=()
        Defensive mixtures of the same models, used in evaluation but not in training; empty for none.

    Shape
    -----
    outputs: for each size mean, log_var (n, n_components), eta (S, n, n_outputs), context (n, n_context) or None;
    x: (n, n_features), nan where missing; weights: (n,) with mean 1 over all samples, 1 by default; result: a scalar.
    """

    def __init__(
        self, likelihoods: Sequence[nn.Module], beta: float = 1.0, defensive: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__()
        self.likelihoods = nn.ModuleList(likelihoods)
        self.defensive = nn.ModuleList(defensive)
        self.beta = beta

    def bound(self, output: VAEOutput, x: Tensor) -> Tensor:
        """Return the bound of each sample under the model of the output's size: (n,)."""
        model = min(output.mean.shape[1], len(self.likelihoods)) - 1
        bound = elbo(self.likelihoods[model](output.eta, x), output.mean, output.log_var, self.beta)
        use_defensive = len(self.defensive) > 0 and not self.training
        return self.defensive[model](bound, x, output.context) if use_defensive else bound

    def forward(self, outputs: Sequence[VAEOutput], x: Tensor, weights: Tensor | float = 1.0) -> Tensor:
        return torch.stack([-(weights * self.bound(output, x)).mean() for output in outputs]).mean()

    def reconstruction_error(self, outputs: Sequence[VAEOutput], x: Tensor, weights: Tensor | float = 1.0) -> Tensor:
        """Return the mean squared error of entries with a learned variance, 0 without such entries: a scalar."""
        errors, weights = [], torch.as_tensor(weights).to(x).unsqueeze(-1)
        for output in outputs:
            likelihood: Any = self.likelihoods[min(output.mean.shape[1], len(self.likelihoods)) - 1]
            of_size = likelihood.squared_errors(output.at_mean, x)[:, likelihood.varies > 0]
            errors.append((weights * of_size).nansum() / (weights * ~of_size.isnan()).sum())
        return torch.stack(errors).nan_to_num(nan=0.0, posinf=math.inf).mean()


class ReconstructionObjective(nn.Module):
    r"""Mean loss of an observed entry, plus an L1 penalty on the code relative to its root mean square.

    .. math:: \frac{1}{n d} \sum_{ij} \ell(\eta_{ij}, x_{ij})
        + \lambda \sum_k \frac{\frac{1}{n} \sum_i |z_{ik}|}{\sqrt{\frac{1}{n} \sum_i z_{ik}^2}}

    A plain L1 norm could be lowered by small codes and a large decoder, without sparsity.

    Parameters
    ----------
    loss : Loss
    sparsity : float, default=0.0
        The weight :math:`\lambda`.
    varies : Tensor of shape (n_features,) or None, default=None
        1 for columns that count, 0 for columns whose loss is always zero.

    Shape
    -----
    output: z (n, n_components), eta (n, n_features) or (n_levels, n, n_features), weight broadcastable to eta or None;
    x: (n, n_features), nan where missing; weights: (n,) with mean 1 over all samples, or None; result: a scalar.
    """

    varies: Tensor | None

    def __init__(self, loss: Loss, sparsity: float = 0.0, varies: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("varies", varies)
        self.loss = loss
        self.sparsity = sparsity

    def forward(self, output: ReconstructionOutput, x: Tensor, weights: Tensor | None = None) -> Tensor:
        weights = None if weights is None else weights.unsqueeze(-1)
        objective = self._mean_loss(output, x, weights)
        if has_missing(objective):  # nan if x has any, and a single value to check
            observed = ~x.isnan()
            counted = observed.to(x) if weights is None else weights * observed
            share = counted.mean().clamp_min(1 / x.numel())  # all entries of a batch may be missing
            objective = self._mean_loss(output, torch.where(observed, x, 0), weights, observed) / share
        if self.sparsity:
            factor = 1.0 if weights is None else weights
            size = (factor * output.z.square()).mean(0).clamp_min(torch.finfo(output.z.dtype).tiny).sqrt()
            objective = objective + self.sparsity * ((factor * output.z.abs()).mean(0) / size).sum()
        return objective

    def _mean_loss(self, output: ReconstructionOutput, x: Tensor, *of_entries: Tensor | None) -> Tensor:
        """Return the mean over entries of the loss times all weights of the entry."""
        x = x.expand_as(output.eta)
        factors = [factor for factor in (self.varies, output.weight, *of_entries) if factor is not None]
        if not factors:
            return self.loss.entry(output.eta, x, reduction="mean")
        return reduce(torch.mul, factors, self.loss.entry(output.eta, x)).mean()
