"""A Gaussian mixture of the samples as part of a VAE's density."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from skae._torch import evaluation_batch_size
from skae.linear.mixture import WIDENINGS, LinearMixture, MixtureChoice, can_be_widened, linear_mixture, select_size
from skae.networks.vae import VAE, SizedVAE
from skae.objectives import MixtureDensity, NegativeELBO

# Most columns of a mixture: the number of its values grows with their square.
_MOST_COLUMNS = 100
# Most samples and components of a mixture. Beyond 5,000 and 64 their product with the columns squared is limited.
_MOST_SAMPLES, _LEAST_SAMPLES, _MOST_COMPONENTS, _LEAST_COMPONENTS, _MOST_PRODUCTS = 20000, 5000, 128, 64, 4e8


class Complete(NamedTuple):
    """Samples (n, n_features) whose missing values are drawn, and their context (n, n_context)."""

    x: Tensor
    context: Tensor

    def groups(self) -> list[Tensor]:
        """Return the samples of each context; all samples for one that has none, and without contexts."""
        of_context = [self.x[column == 1] for column in self.context.T]
        return [group if len(group) else self.x for group in of_context or [self.x]]


def _complete(vae: VAE, part: tuple[Tensor, Tensor], generator: torch.Generator) -> Complete:
    """Draw the missing values of inputs (n, n_features + n_context), for targets (n, n_features)."""
    inputs, targets = part
    drawn, context = vae.imputer.draw(inputs, generator).tensor_split([targets.shape[1]], dim=1)
    drawn = drawn if vae.scaler.is_identity else vae.scaler.inverse(drawn)
    return Complete(torch.where(targets.isnan(), drawn, targets), context)


def may_have_mixture(vae: VAE) -> bool:
    """Return whether a defensive mixture takes a mixture of the samples, and these have not too many columns."""
    defensive = _takers(vae)
    return bool(defensive) and 0 < int(defensive[0].varies.sum()) <= _MOST_COLUMNS


def most_samples(n_columns: int) -> int:
    """Return the most samples that a mixture of this many columns is fitted to."""
    n = int(_MOST_PRODUCTS / (_LEAST_COMPONENTS * n_columns**2))
    return max(_LEAST_SAMPLES, min(n, _MOST_SAMPLES))


def _most_components(samples: Complete, n_columns: int) -> int:
    n = int(_MOST_PRODUCTS / (len(samples.x) * n_columns**2))
    largest = max(map(len, samples.groups()))
    return min(max(_LEAST_COMPONENTS, n), _MOST_COMPONENTS, MixtureChoice.most_components(largest, n_columns))


@torch.no_grad()
def bounds(objective: NegativeELBO, model: SizedVAE, inputs: Tensor, targets: Tensor, at_once: int) -> Tensor:
    """Return the bound of each sample in evaluation, with the standard normal as prior: (n,).

    ``inputs`` (n, n_features + n_context) and ``targets`` (n, n_features) are taken in blocks of ``at_once`` samples.
    """
    noise = model.draws.to(inputs.device)
    blocks = zip(inputs.split(at_once), targets.split(at_once), strict=True)
    return torch.cat([objective.bound(model(x, noise), target) for x, target in blocks])


@torch.no_grad()
def add_mixture(
    vae: VAE,
    objective: NegativeELBO,
    training: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    at_once: int,
    seed: int,
) -> None:
    """Add a Gaussian mixture of the samples to the defensive mixtures that take one, if `may_have_mixture` is true.

    A conditional model has a mixture for each class. The size of the mixtures and their widening are selected by the
    likelihood of the held-out samples, which also choose the weight at each size of codes. Then they are fitted to all
    samples.

    Parameters
    ----------
    vae : VAE
        In eval mode, in float64.
    objective : NegativeELBO
        In eval mode.
    training, held_out : pair of Tensor
        The network's input (n, n_features + n_context) and the likelihood's targets (n, n_features), which the context
        may follow; nan where missing.
    at_once : int
        Samples of a block.
    seed : int
    """
    defensive, generator = _takers(vae), torch.Generator().manual_seed(seed)
    first = defensive[0]
    training, held_out = ((x.double(), target[:, : len(first.varies)].double()) for x, target in (training, held_out))
    rest, validation = (_complete(vae, part, generator) for part in (training, held_out))
    if not all(can_be_widened(part.x[:, first.varies.bool()].numpy(force=True)) for part in (rest, validation)):
        return

    def candidates(n: int) -> list[tuple[float, tuple[int, float, MixtureDensity]]]:
        fitted = _fitted(first, rest, n, seed)
        found = [(n, widening, fitted.widened(widening)) for widening in WIDENINGS]
        scores = [_log_densities(one[2], first, validation.x, validation.context).mean().item() for one in found]
        return list(zip(scores, found, strict=True))

    if (chosen := select_size(candidates, _most_components(rest, int(first.varies.sum())))) is None:
        return
    n, widening, of_training = chosen
    both = Complete(*(torch.cat(parts) for parts in zip(rest, validation, strict=True)))
    of_all = _fitted(first, both, n, seed).widened(widening)
    inputs, targets = held_out
    densities = _log_densities(of_training, first, targets, validation.context)
    for level, part in zip(vae.levels, defensive, strict=True):
        bound = bounds(objective, vae.at(level), inputs, targets, at_once)
        part.add_mixture(of_all, densities - bound)


def _fitted(defensive: Any, samples: Complete, n_components: int, seed: int) -> MixtureDensity:
    """Return a mixture for each context with this number of components, not widened."""
    varies = defensive.varies.bool()
    groups = [group[:, varies].numpy(force=True) for group in samples.groups()]
    mixtures = [MixtureChoice(n_components, 0.0).fit(group, seed) for group in groups]
    density = MixtureDensity(0, len(varies), 0, persistent=False).to(samples.x)
    return density.set_arrays(linear_mixture(mixtures, varies.numpy(force=True)))


def _log_densities(density: MixtureDensity, defensive: Any, x: Tensor, context: Tensor) -> Tensor:
    """Return the log-density of each sample, block by block: (n,)."""
    varies, size = defensive.varies.double(), evaluation_batch_size(len(density) * x.shape[1])
    blocks = zip(x.split(size), context.split(size), strict=True)
    return torch.cat([density.log_prob(part, varies, c if c.shape[1] else None) for part, c in blocks])


def mixture_of(vae: VAE) -> LinearMixture:
    """Return the mixture of the samples, without models if there is none."""
    defensive = _takers(vae)
    mixture = defensive[0].mixture if defensive else MixtureDensity(0, len(vae.scaler.mean), 0, persistent=False)
    return mixture.arrays()


def restore_mixture(vae: VAE, arrays: dict[str, Any]) -> None:
    """Set the arrays of the mixture of the samples, which all sizes of codes share."""
    for part in _takers(vae):
        part.mixture.set_arrays(LinearMixture(**arrays))


def _takers(vae: VAE) -> list[Any]:
    """Return the defensive mixtures that take a mixture of the samples."""
    return [part for part in vae.defensive if part.takes_mixture]
