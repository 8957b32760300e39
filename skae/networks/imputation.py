"""Imputation of missing values in front of an encoder, by conditional means under a linear Gaussian model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.linear.gaussian import LEAST_IMPUTATION_NOISE, LinearGaussian, draw_missing, posterior_given_observed

# Range of variances that have an inverse in float32.
_FLOAT32 = 1e-37, 1e37


class Imputer(nn.Module):
    r"""Imputer of missing values by their conditional means under a linear Gaussian model.

    .. math:: x = \mu + W z + \epsilon, \quad z \sim N(0, I), \; \epsilon \sim N(0, \mathrm{diag}\, \psi)

    A code that is a linear function of the sample is then replaced by its conditional mean under that model.

    Parameters
    ----------
    n_features, n_components : int
        Size of the Gaussian model, which imputes zeros until `start_at` is called.
    masked : bool, default=False
        Whether the encoder also gets the mask of missing values, as ``n_features`` further columns.

    Shape
    -----
    (n, n_features), nan where missing -> the encoder's output for (n, n_features or 2 n_features)
    """

    location: Tensor
    loadings: Tensor
    noise: Tensor
    value_kinds = {"noise": "noise"}

    def __init__(self, n_features: int, n_components: int, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked
        self.register_buffer("location", torch.zeros(n_features))
        self.register_buffer("loadings", torch.zeros(n_features, n_components))
        self.register_buffer("noise", torch.ones(n_features))

    def start_at(self, model: LinearGaussian) -> None:
        """Set the Gaussian model, which may have fewer components."""
        location, loadings, noise = (torch.from_numpy(part) for part in model)
        self.location.copy_(location)
        self.loadings.zero_()
        self.loadings[:, : loadings.shape[1]] = loadings
        self.noise.copy_(noise.clamp(*_FLOAT32))  # training is in float32, and a posterior divides by it

    @torch.no_grad()
    def begin_columns(self, began: Tensor, x: Tensor, shares: Tensor) -> None:
        """Start at the ridge regression on codes for columns that were constant so far, from complete samples x.

        Sample i counts as shares[i] samples.
        """
        began, centred = nn.functional.pad(began, (0, x.shape[1] - len(began))), x - self.location
        weighted, identity = self.loadings / self.noise[:, None], torch.eye(self.loadings.shape[1]).to(x)
        z = torch.linalg.solve(identity + weighted.T @ self.loadings, weighted.T @ centred.T)
        maps = torch.linalg.solve((shares * z) @ z.T + identity, (shares * z) @ centred[:, began])
        parts = centred[:, began] - z.T @ maps, centred[:, began]
        rest, total = (shares @ part.square() / shares.sum() for part in parts)
        noise = torch.maximum(rest, LEAST_IMPUTATION_NOISE * total).clamp(*_FLOAT32)
        self.loadings[began], self.noise[began] = maps.T, noise

    def fill(self, x: Tensor) -> Tensor:
        """Return samples without missing values."""
        if not has_missing(x):
            return x
        z, _ = posterior_given_observed(x - self.location, self.loadings, self.noise)
        return torch.where(x.isnan(), self.location + z @ self.loadings.mT, x)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return samples with draws in place of missing values."""
        if not has_missing(x):
            return x
        return self.location + draw_missing(x - self.location, len(x), self.loadings, self.noise, generator)

    def forward(self, encoder: nn.Module, x: Tensor) -> Tensor:
        if self.masked:
            return encoder(torch.cat([self.fill(x), x.isnan().to(x)], dim=-1))
        out = encoder(x)
        # nan propagates through any layer, and the output has fewer values to search.
        return encoder(self.fill(x)) if has_missing(out) else out
