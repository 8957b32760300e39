"""Missing values in front of an encoder: filled by the conditional mean of a linear Gaussian model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.linear.gaussian import LinearGaussian, posterior_given_observed

# Variances that float32 has, and whose inverses it has.
_FLOAT32 = 1e-37, 1e37


class Imputer(nn.Module):
    r"""Fills missing values with their conditional means under a linear Gaussian model.

    .. math:: x = \mu + W z + \epsilon, \quad z \sim N(0, I), \; \epsilon \sim N(0, \mathrm{diag}\, \psi)

    A code that is linear in the sample is then its own conditional mean under that model.

    Parameters
    ----------
    n_features, n_components : int
        Of the Gaussian model, which fills with zeros until `start_at`.
    masked : bool, default=False
        Whether the encoder is also given the mask of missing values, as that many further columns.

    Shape
    -----
    (n, n_features), nan where missing -> the encoder's output for (n, n_features or 2 n_features)
    """

    location: Tensor
    loadings: Tensor
    noise: Tensor
    value_kinds = {"noise": "positive"}

    def __init__(self, n_features: int, n_components: int, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked
        self.register_buffer("location", torch.zeros(n_features))
        self.register_buffer("loadings", torch.zeros(n_features, n_components))
        self.register_buffer("noise", torch.ones(n_features))

    def start_at(self, model: LinearGaussian) -> None:
        """Take this model, of as many components or fewer."""
        location, loadings, noise = (torch.from_numpy(part) for part in model)
        self.location.copy_(location)
        self.loadings.zero_()
        self.loadings[:, : loadings.shape[1]] = loadings
        self.noise.copy_(noise.clamp(*_FLOAT32))  # training is in that precision, and a posterior divides by this

    def fill(self, x: Tensor) -> Tensor:
        """Return samples without missing values."""
        if not has_missing(x):
            return x
        z, _ = posterior_given_observed(x - self.location, self.loadings, self.noise)
        return torch.where(x.isnan(), self.location + z @ self.loadings.mT, x)

    def forward(self, encoder: nn.Module, x: Tensor) -> Tensor:
        if self.masked:
            return encoder(torch.cat([self.fill(x), x.isnan().to(x)], dim=-1))
        out = encoder(x)
        # nan goes through any layer, and the output has fewer numbers to look through.
        return encoder(self.fill(x)) if has_missing(out) else out
