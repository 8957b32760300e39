"""Likelihood of columns of different kinds."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from skae.objectives.defensive import DefensiveMixture
from skae.objectives.likelihoods.base import IndependentColumns, Likelihood, Terms
from skae.objectives.likelihoods.gaussian import Gaussian
from skae.objectives.mixtures import MixtureDensity


class Mixed(Likelihood):
    r"""Likelihood of columns with different likelihoods: the sum of their log-densities.

    In eta, as in all likelihoods, the entries to which the link applies come first, then the further entries of each
    part.

    Parameters
    ----------
    parts : sequence of Likelihood
        Likelihoods of the columns from left to right.

    Shape
    -----
    eta: (..., n_outputs), x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "mixed"
    parts: Sequence[Likelihood]

    def __init__(self, parts: Sequence[Likelihood]) -> None:
        widths = [len(part.varies) for part in parts]
        super().__init__(sum(widths))
        self.parts = nn.ModuleList(parts)  # type: ignore[assignment]
        self.widths = widths
        self.further = [part.n_outputs - width for part, width in zip(parts, widths, strict=True)]

    def fresh(self) -> Likelihood:
        return Mixed([part.fresh() for part in self.parts])

    @property
    def n_outputs(self) -> int:
        return sum(self.widths) + sum(self.further)

    def _columns(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Split tensors (..., n_features) by part."""
        return zip(*(torch.split(tensor, self.widths, -1) for tensor in tensors), strict=True)

    def _etas(self, eta: Tensor) -> Iterator[tuple[Likelihood, Tensor]]:
        """Yield each part and its entries of eta."""
        entries, n = torch.split(eta, [*self.widths, *self.further], -1), len(self.widths)
        for part, first, further in zip(self.parts, entries[:n], entries[n:], strict=True):
            yield part, torch.cat([first, further], -1) if further.shape[-1] else first

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        parts = zip(self._etas(eta), self._columns(x), strict=True)
        return torch.cat([part.log_prob(entries, *columns) for (part, entries), columns in parts], -1)

    def mean(self, eta: Tensor) -> Tensor:
        return torch.cat([part.mean(entries) for part, entries in self._etas(eta)], -1)

    def squared_errors(self, eta: Tensor, x: Tensor) -> Tensor:
        parts = zip(self._etas(eta), self._columns(x), strict=True)
        return torch.cat([part.squared_errors(entries, *columns) for (part, entries), columns in parts], -1)

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([part.draw(entries, generator) for part, entries in self._etas(eta)], -1)

    def start_at(self, noise: Tensor, variance: Tensor, scale: Tensor) -> None:
        for part, columns in zip(self.parts, self._columns(noise, variance, scale.expand_as(noise)), strict=True):
            part.start_at(*columns)

    def of_constants(self, value: Tensor, deviation: Tensor, n_samples: float, noise: Tensor | None = None) -> Terms:
        columns = zip(self.parts, self._columns(value, deviation), strict=True)
        densities = [part.of_constants(of_part[0], of_part[1], n_samples) for part, of_part in columns]
        rate, penalty, offset = (torch.cat(terms) for terms in zip(*densities, strict=True))
        return rate, penalty, offset

    def independent(self, mean: Tensor, variance: Tensor, n_samples: float) -> Tensor:
        moments = zip(self.parts, self._columns(mean, variance), strict=True)
        etas = [part.independent(of_part[0], of_part[1], n_samples) for part, of_part in moments]
        pairs = list(zip(etas, self.widths, strict=True))
        return torch.cat([eta[:width] for eta, width in pairs] + [eta[width:] for eta, width in pairs])

    def defensive(self, n_components: int, n_context: int) -> DefensiveMixture:
        is_normal = all(isinstance(part, Gaussian) for part in self.parts)
        mixture = MixtureDensity(0, len(self.varies), 0, persistent=False) if is_normal else None
        return IndependentColumns(self.fresh(), mixture)
