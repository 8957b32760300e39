"""The density of columns that were constant in training."""

from __future__ import annotations

import torch
from torch import Tensor

from skae.networks.preprocessing import EQUAL, ExactModule


class ConstantColumns(ExactModule):
    r"""Log-density of the columns that were constant in training, which the network does not see.

    .. math:: -\sum_j \tfrac12 r_j^2 (x_j - c_j)^2 + p_j [x_j \neq c_j] + o_j

    All of r, p and o are 0 for columns that varied. Missing values are left out.

    Parameters
    ----------
    n_features : int

    Attributes
    ----------
    value, rate, penalty, offset : Tensor of shape (n_features,)
        The constants c in units of X, and r, p and o, see `Likelihood.of_constants`.

    Shape
    -----
    (n, n_features), in units of X -> (n,)
    """

    value: Tensor
    rate: Tensor
    penalty: Tensor
    offset: Tensor
    value_kinds = {"rate": "size", "penalty": "size"}

    def __init__(self, n_features: int) -> None:
        super().__init__()
        for name in ("value", "rate", "penalty", "offset"):
            self.register_buffer(name, torch.zeros(n_features, dtype=torch.float64))

    @torch.no_grad()
    def start_at(self, constant: Tensor, value: Tensor, rate: Tensor, penalty: Tensor, offset: Tensor) -> None:
        """Set the density of these constant columns, a mask (n_features,)."""
        for name, of_columns in (("value", value), ("rate", rate), ("penalty", penalty), ("offset", offset)):
            self.get_buffer(name)[constant] = of_columns.to(self.value)[constant]

    def forget(self, columns: Tensor) -> None:
        """Leave out these columns, a mask (n_features,)."""
        for buffer in self.buffers():
            buffer[columns] = 0

    @property
    def noise(self) -> Tensor:
        """Noise variance of each column, 0 where the density is not normal: (n_features,)."""
        return torch.where(self.offset != 0, self.rate.square().reciprocal(), 0)

    def forward(self, x: Tensor) -> Tensor:
        return self._entries(x)[1].sum(1)

    def by_column(self, x: Tensor) -> Tensor:
        """Return the log-density of each column, 0 for those that varied: (n, n_features)."""
        columns, entries = self._entries(x)
        return torch.zeros_like(x, dtype=torch.float64).index_copy(1, columns, entries)

    def _entries(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of the columns that were constant, and their log-densities."""
        columns = (self.rate + self.penalty).nonzero()[:, 0]
        x, value = x[:, columns].double(), self.value[columns]
        differs = (x - value).abs() > EQUAL * value.abs()
        entries = (self.rate[columns] * (x - value)).square() / 2 + self.penalty[columns] * differs
        return columns, -torch.where(x.isnan(), 0, entries + self.offset[columns])
