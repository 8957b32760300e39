"""Landmarks: codes of training samples, one of which is the first guess of a code where the encoder's is farther."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Landmarks(nn.Module):
    r"""Codes :math:`z_1, ..., z_L` of training samples, to search for the nearest decoded one.

    The distance of a sample x from a code is :math:`\sum_m w_m \lVert g_m(z) - x \rVert^2` over levels m. It differs
    by a term without z from :math:`\sum_m w_m \lVert g_m(z) \rVert^2 - 2 x^\top \sum_m w_m g_m(z)`, so that all
    distances are one matrix product.

    Parameters
    ----------
    n_components : int

    Attributes
    ----------
    codes : Tensor of shape (n_landmarks, n_components)
        Not scaled to units of X; at first there are none. They are no part of ``state_dict``, since their number is
        chosen at the end of a fit.

    Shape
    -----
    x (n, n_features) -> the codes of the nearest landmarks (n, n_components).
    """

    codes: Tensor

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(0, n_components), persistent=False)
        self._decoded: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return self.codes.shape[0]

    def keep(self, decode: Callable[[Tensor], Tensor], weights: Tensor) -> None:
        """Decode the landmarks once, in a copy of the network whose weights do not change any more."""
        self._decoded = self._decode(decode, weights)

    def forward(self, x: Tensor, decode: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
        """Return the code of the landmark nearest to each sample.

        ``decode`` maps codes (n, n_components) to samples (n_levels, n, n_features), ``weights`` is (n_levels, 1).
        """
        points, squares = self._decoded or self._decode(decode, weights)
        return self.codes[(x @ (2 * points.T) - squares).argmax(1)]

    @torch.no_grad()
    def _decode(self, decode: Callable[[Tensor], Tensor], weights: Tensor) -> tuple[Tensor, Tensor]:
        samples = decode(self.codes)
        weighted = weights.unsqueeze(-1) * samples
        return weighted.sum(0), (weighted * samples).sum((0, 2))
