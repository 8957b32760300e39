"""A Gaussian mixture of the samples as part of a VAE's density."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skae._torch import evaluation_batch_size
from skae.linear.mixture import LinearMixture, fit_mixtures
from skae.networks.vae import VAE, SizedVAE
from skae.objectives import MixtureDensity, NegativeELBO

# Most columns of a mixture: the number of its values grows with their square.
_MOST_COLUMNS = 100


@torch.no_grad()
def bounds(objective: NegativeELBO, model: SizedVAE, inputs: Tensor, targets: Tensor, at_once: int) -> Tensor:
    """Return the bound of each sample in evaluation, with the standard normal as prior: (n,).

    ``inputs`` (n, n_features + n_context) and ``targets`` (n, n_features) are taken in blocks of ``at_once`` samples.
    """
    noise = model.draws.to(inputs.device)
    blocks = zip(inputs.split(at_once), targets.split(at_once), strict=True)
    return torch.cat([objective.bound(model(x, noise), target) for x, target in blocks])


@torch.no_grad()
def add_mixture(vae: VAE, objective: NegativeELBO, training: Tensor, held_out: Tensor, at_once: int, seed: int) -> None:
    """Add a Gaussian mixture of the samples to the defensive mixtures that take one.

    A conditional model has a mixture for each class. They are selected by their likelihood on the held-out samples,
    which also choose the weight at each size of codes. Then they are fitted to all samples. Missing values are drawn
    for the fit.

    Parameters
    ----------
    vae : VAE
        In eval mode, in float64.
    objective : NegativeELBO
        In eval mode.
    training, held_out : Tensor of shape (n, n_features + n_context)
        Scaled samples and their context, nan where missing.
    at_once : int
        Samples of a block.
    seed : int
    """
    defensive, generator = _takers(vae), torch.Generator().manual_seed(seed)
    varies = defensive[0].varies.bool() if defensive else torch.zeros(0)
    if not 0 < varies.sum() <= _MOST_COLUMNS:
        return
    samples = [vae.imputer.draw(x, generator).numpy(force=True) for x in (training, held_out)]
    mixtures = fit_mixtures(samples[0], samples[1], varies.numpy(force=True), seed)
    if mixtures is None:
        return
    of_training, of_all = (MixtureDensity.of(mixture).to(training.device) for mixture in mixtures)

    def density(block: Tensor) -> Tensor:
        x, context = block.tensor_split([len(varies)], dim=1)
        return of_training.log_prob(x, defensive[0].varies, context if vae.n_context else None)

    blocks = held_out.split(evaluation_batch_size(len(of_training) * len(varies)))
    densities = torch.cat([density(block) for block in blocks])
    for level, part in zip(vae.levels, defensive, strict=True):
        bound = bounds(objective, vae.at(level), held_out, held_out[:, : len(varies)], at_once)
        part.add_mixture(of_all, densities - bound)


def mixture_of(vae: VAE) -> LinearMixture:
    """Return the Gaussian mixture of the samples, without models if there is none."""
    defensive = _takers(vae)
    mixture = defensive[0].mixture if defensive else MixtureDensity(0, len(vae.scaler.mean), 0, persistent=False)
    return mixture.arrays()


def restore_mixture(vae: VAE, arrays: dict[str, Any]) -> None:
    """Set the arrays of the Gaussian mixture of the samples, which all sizes of codes share."""
    density = MixtureDensity.of(LinearMixture(**arrays)).to(vae.scaler.mean.device)
    for part in _takers(vae):
        part.mixture = density


def _takers(vae: VAE) -> list[Any]:
    """Return the defensive mixtures that take a Gaussian mixture of the samples."""
    return [part for part in vae.defensive if part.takes_mixture]
