"""Landmarks: encodings of training samples, one of which is the first guess where the encoder's is worse."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]


class Landmarks(nn.Module):
    r"""Encodings of training samples, of which the best one for a sample is found by a matrix product.

    How well landmark l explains a sample x has to be :math:`a_l^\top t(x) + b_l`, up to a term without l. With squared
    errors :math:`\sum_m w_m \lVert g_m(z_l) - x \rVert^2` over levels m, t(x) is x itself. With the log-density at
    the mean of a variational autoencoder, t(x) are the sufficient statistics of its likelihood.

    Parameters
    ----------
    width : int
        Number of columns of the encoder's output.

    Attributes
    ----------
    codes : Tensor of shape (n_landmarks, width)
        The encoder's output for the landmarks, or a refined one; at first there are none. They are no part of
        ``state_dict``, since their number is chosen at the end of a fit.

    Shape
    -----
    statistics (n, n_statistics) -> the best landmark of each sample, a row of ``codes``: (n, width), and how well it
    explains the sample: (n,), in float64, since it may be the small difference of large numbers.
    """

    codes: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(0, width), persistent=False)
        self._kept: dict[int, tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        return self.codes.shape[0]

    def prepare(self) -> None:
        """Compute terms once, in a copy of the network whose weights do not change any more."""
        self._kept = {}

    @torch.no_grad()
    def forward(self, statistics: Tensor, terms: Terms, size: int) -> tuple[Tensor, Tensor]:
        """Return the best landmark of each sample, and its sum.

        ``terms`` returns a (n_landmarks, n_statistics) and b (n_landmarks,) of codes cut to ``size`` components.
        """
        if self._kept is None:
            slopes, offsets = terms(self.codes)
        else:
            slopes, offsets = self._kept.get(size) or self._kept.setdefault(size, terms(self.codes))
        best = torch.addmm(offsets.to(statistics), statistics, slopes.to(statistics).T).argmax(1)
        return self.codes[best], (statistics.double() * slopes[best].double()).sum(1) + offsets[best].double()
