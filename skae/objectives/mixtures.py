"""Mixtures of linear Gaussian models."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.linear.gaussian import diagonal_posterior, draw_missing, log_density_at, posterior_given_observed
from skae.linear.mixture import LinearMixture


class MixtureDensity(nn.Module):
    r"""Mixture of linear Gaussian models, whose weights depend on the context.

    .. math:: p(x | c) = \sum_m \pi_m(c)\, N(x; \mu_m, W_m W_m' + \mathrm{diag}\, \psi_m)

    where W' psi^-1 W is diagonal for each model.

    Parameters
    ----------
    n_models, n_features, n_components : int
    persistent : bool, default=True
        Whether the arrays are part of ``state_dict``. They cannot be if their shapes depend on the samples.

    Attributes
    ----------
    weights : Tensor of shape (n_context, n_models)
        One row without a context.
    means : Tensor of shape (n_models, n_features)
    loadings : Tensor of shape (n_models, n_features, n_components)
    noise : Tensor of shape (n_models, n_features)
    """

    weights: Tensor
    means: Tensor
    loadings: Tensor
    noise: Tensor

    def __init__(self, n_models: int, n_features: int, n_components: int, *, persistent: bool = True) -> None:
        super().__init__()
        self.value_kinds = {"noise": "noise"} if persistent else {}
        self.register_buffer("weights", torch.full((1, n_models), 1 / max(1, n_models)), persistent)
        self.register_buffer("means", torch.zeros(n_models, n_features), persistent)
        self.register_buffer("loadings", torch.zeros(n_models, n_features, n_components), persistent)
        self.register_buffer("noise", torch.ones(n_models, n_features), persistent)

    def set_arrays(self, arrays: LinearMixture) -> Self:
        """Set the arrays, which are no part of ``state_dict``, and return the mixture."""
        for name, part in arrays._asdict().items():
            self.register_buffer(name, torch.tensor(part).to(self.means.device), persistent=False)
        return self

    def arrays(self) -> LinearMixture:
        """Return the arrays of the mixture, for `set_arrays`."""
        return LinearMixture(*(self.get_buffer(name).double().numpy(force=True) for name in LinearMixture._fields))

    def widened(self, widening: float) -> Self:
        """Return the mixture with ``widening`` added to the variances of its models."""
        other = copy.deepcopy(self)
        other.noise += widening
        return other

    def __len__(self) -> int:
        return len(self.means)

    def log_prob(self, x: Tensor, varies: Tensor, context: Tensor | None = None) -> Tensor:
        """Return log-densities over the observed values of columns that vary: (n, n_features) -> (n,).

        ``varies`` (n_features,) is 1 for columns that count, else 0; ``context`` is (n or 1, n_context).
        """
        return self._by_model(x, varies, context)[0].logsumexp(0)

    def _weights(self, context: Tensor | None) -> Tensor:
        return self.weights if context is None else context.to(self.weights) @ self.weights

    def _by_model(self, x: Tensor, varies: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weighted log-densities under the n models that these contexts use, and the numbers of these models."""
        weights = self._weights(context)
        models = (weights > 0).any(0).nonzero()[:, 0]
        loadings, noise = self.loadings[models], self.noise[models]
        counted, x = varies, x - self.means[models, None]
        if has_missing(x):  # precisions differ between samples, are not diagonal, and take much memory
            z, log_precision = x.new_empty(*x.shape[:2], loadings.shape[2]), x.new_empty(x.shape[:2])
            for m, of_model in enumerate(zip(x, loadings, noise, strict=True)):
                z[m], factor = posterior_given_observed(*of_model)
                log_precision[m] = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
            counted, x = counted * ~x.isnan(), torch.where(x.isnan(), 0, x)
        else:
            weight, precision = diagonal_posterior(loadings, noise)
            z, log_precision = x @ weight, precision.log().sum(1, keepdim=True)
        densities = log_density_at(x - z @ loadings.mT, z, noise, log_precision, counted)
        return densities + weights[:, models].log().T, models

    def draw(self, z: Tensor, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        """Draw a sample for each code, a standard normal draw: (n, n_components) -> (n, n_features)."""
        uniform = torch.rand((len(z), 1), generator=generator, dtype=z.dtype)
        model = (uniform >= self._weights(context).to(z).cumsum(1)[:, :-1]).sum(1)
        noise = torch.randn((len(z), self.means.shape[1]), generator=generator, dtype=z.dtype)
        x = self.means[model] + self.noise[model].sqrt() * noise
        for m in model.unique().tolist():
            x[model == m] += z[model == m] @ self.loadings[m].T
        return x

    def draw_missing(
        self, x: Tensor, n: int, varies: Tensor, generator: torch.Generator, context: Tensor | None = None
    ) -> Tensor:
        """Draw the missing values of one sample given the others, n times: (1, n_features) -> (n, n_features)."""
        (densities, models), drawn = self._by_model(x, varies, context), x.repeat(n, 1)
        chosen = models[densities[:, 0].softmax(0).multinomial(n, replacement=True, generator=generator)]
        for m in chosen.unique().tolist():
            rows, mean = chosen == m, self.means[m]
            values = mean + draw_missing(x - mean, int(rows.sum()), self.loadings[m], self.noise[m], generator)
            drawn[rows] = values.where(x.isnan(), x)
        return drawn
