"""Importance sampling of codes: draws whose weights turn them into draws from the posterior."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Normal

from skae.networks.vae import SizedVAE


def weighted_draws(
    model: SizedVAE,
    inputs: Tensor,
    targets: Tensor,
    prior_gain: Callable[[Tensor], Tensor],
    n_draws: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw codes of one sample from q, from the standard normal and from one between them, ``n_draws`` of each.

    The last two cover what a narrow q leaves out (Hesterberg 1995).

    Parameters
    ----------
    model : SizedVAE
    inputs, targets : Tensor of shape (1, n_features + n_context) and (1, n_features)
        The sample as the network's input and as the likelihood's target, nan where it is not observed.
    prior_gain : callable
        Log-density of codes under the prior minus that under the standard normal.
    n_draws : int
    generator : torch.Generator

    Returns
    -------
    eta : Tensor of shape (3 n_draws, n_outputs)
        The decoder's output.
    log_weights : Tensor of shape (3 n_draws,)
        Log-density of sample and code, minus that of the code under the mixture of the three.
    """
    q = model.posterior(inputs)
    scales = torch.stack([(share * q.log_var / 2).exp() for share in (1, 0.5, 0)])
    proposal = Normal(torch.stack([q.mean, q.mean, torch.zeros_like(q.mean)]), scales)
    noise = torch.randn((3, n_draws, model.size), generator=generator, dtype=torch.float64).to(inputs)
    z = (proposal.loc + proposal.scale * noise).flatten(0, 1)
    log_density = proposal.log_prob(z).sum(2).logsumexp(0) - math.log(3)
    eta = model.vae.decode(model.vae.with_context(z, inputs.expand(len(z), -1)))
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(1) + prior_gain(z)
    return eta, model.likelihood(eta, targets) + log_prior - log_density


def draw_missing(
    model: SizedVAE,
    samples: Sequence[tuple[Tensor, Tensor]],
    log_weights: Sequence[float],
    prior_gain: Callable[[Tensor], Tensor],
    n_draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw the missing values of one sample given the others, from the network or from its defensive mixture.

    Parameters
    ----------
    model : SizedVAE
    samples : sequence of (inputs, targets)
        The sample with each context, as for `weighted_draws`.
    log_weights : sequence of float
        Log-probability of each context.
    prior_gain, n_draws, generator
        As for `weighted_draws`.

    Returns
    -------
    Tensor of shape (n_draws, n_features)
        On the CPU.
    """
    seen = samples[0][1].cpu().expand(n_draws, -1)
    likelihood, defensive = copy.deepcopy(model.likelihood).cpu(), copy.deepcopy(model.defensive)
    share = 0.0 if defensive is None else float(defensive.cpu().share)
    etas, of_codes, of_contexts, contexts = [], [], [], []
    for (inputs, targets), log_weight in zip(samples, log_weights, strict=True):
        eta, weights = weighted_draws(model, inputs, targets, prior_gain, n_draws, generator)
        etas.append(eta.cpu())
        of_codes.append(weights.cpu() + log_weight + math.log1p(-share) - math.log(len(weights)))
        contexts.append(inputs[:, seen.shape[1] :].cpu() if model.vae.n_context else None)
        if share:
            density = defensive.log_prob(seen[:1], contexts[-1])
            of_contexts.append(density + log_weight + math.log(share))
    all_weights = torch.cat(of_codes + of_contexts).nan_to_num(nan=-math.inf, neginf=-math.inf)
    if all_weights.max() == -math.inf:
        raise ValueError("The given values are so far from the training samples that their density is 0. Pass others.")
    chosen = all_weights.softmax(0).multinomial(n_draws, replacement=True, generator=generator)
    eta, n_codes = torch.cat(etas), sum(map(len, of_codes))
    drawn = likelihood.draw_missing(eta[chosen.clamp(max=n_codes - 1)], seen, generator)
    drawn = torch.where(seen.isnan(), drawn, seen)
    for k, context in enumerate(contexts):
        if len(rows := (chosen == n_codes + k).nonzero()[:, 0]):
            drawn[rows] = defensive.draw_missing(seen[:1], len(rows), generator, context)
    return drawn
