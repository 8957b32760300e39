"""Likelihoods of zeros and ones, and of categories."""

import math
from collections.abc import Callable, Sequence
from typing import Self

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


class Categorical(Likelihood):
    r"""One category of several, as one-hot columns, with the decoder's output as their logits.

    .. math:: \log p(x | \eta) = \sum_k x_k \big(\eta_k - \log \sum_l e^{\eta_l}\big)

    Parameters
    ----------
    n_features : int
    sizes : sequence of int, default=None
        Number of columns of each variable, from left to right; None is one variable of all columns.

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features), the contribution of each column.
    """

    link = "log"
    support = "unit_interval"
    needs_table = True
    places: Tensor

    def __init__(self, n_features: int, sizes: Sequence[int] | None = None) -> None:
        super().__init__(n_features)
        self.sizes = [n_features] if sizes is None else list(sizes)
        alike: dict[int, list[Tensor]] = {}
        for block in torch.split(torch.arange(n_features), self.sizes):
            alike.setdefault(len(block).bit_length(), []).append(block)
        self.n_groups, slots = len(alike), []
        for group, blocks in enumerate(alike.values()):
            slots.append(nn.utils.rnn.pad_sequence(blocks, batch_first=True, padding_value=n_features))
            self.register_buffer(f"slots_{group}", slots[-1], persistent=False)
        places = torch.cat([of_group.flatten() for of_group in slots]).argsort()[:n_features]
        self.register_buffer("places", places, persistent=False)

    @classmethod
    def of_widths(cls, widths: Sequence[int]) -> Self:
        return cls(sum(widths), widths)

    def fresh(self) -> Likelihood:
        return self.of_widths(self.sizes)

    def _by_block(self, function: Callable[[Tensor], Tensor], eta: Tensor) -> Tensor:
        """Apply a function of blocks (..., n_blocks, size) to all columns (..., n_features).

        Blocks of similar sizes are stacked, padded to the largest of them.
        """
        eta = nn.functional.pad(eta, (0, 1), value=-math.inf)
        groups = (eta[..., self.get_buffer(f"slots_{group}")] for group in range(self.n_groups))
        return torch.cat([function(blocks).flatten(-2) for blocks in groups], -1)[..., self.places]

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        return x * self._by_block(lambda blocks: blocks.log_softmax(-1), eta)

    def mean(self, eta: Tensor) -> Tensor:
        return self._by_block(lambda blocks: blocks.softmax(-1), eta)

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        def one_hot(blocks: Tensor) -> Tensor:
            chances = blocks.softmax(-1).flatten(0, -2)
            drawn = chances.multinomial(1, generator=generator)
            return torch.zeros_like(chances).scatter_(1, drawn, 1.0).reshape(blocks.shape)

        return self._by_block(one_hot, eta)
