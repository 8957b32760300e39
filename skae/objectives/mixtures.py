"""Mixtures of linear Gaussian models, alone or with independent columns of other likelihoods."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from skae._torch import evaluation_batch_size, has_missing
from skae.linear.gaussian import diagonal_posterior, draw_missing, log_density_at, posterior_given_observed
from skae.linear.mixture import LEAST_WIDENING, LinearMixture

# Most steps of the EM algorithm, and the gain of a step in nats a sample at which it ends: those of scikit-learn.
EM_STEPS, _LEAST_GAIN = 100, 1e-3
# Share of a weight that does not depend on the samples, so that none is 0.
_LEAST_WEIGHT = 1e-6


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
    etas : Tensor of shape (n_models, n_outputs)
        Parameters of other columns; none here.
    normal : Tensor of shape (n_features,)
        1 for columns of the Gaussian models, which are all here.
    """

    # Most steps of scikit-learn's EM algorithm, from which `refine` continues.
    n_start_steps = EM_STEPS
    weights: Tensor
    means: Tensor
    loadings: Tensor
    noise: Tensor
    etas: Tensor
    normal: Tensor

    def __init__(self, n_models: int, n_features: int, n_components: int, *, persistent: bool = True) -> None:
        super().__init__()
        self.value_kinds = {"noise": "noise"} if persistent else {}
        self.register_buffer("weights", torch.full((1, n_models), 1 / max(1, n_models)), persistent)
        self.register_buffer("means", torch.zeros(n_models, n_features), persistent)
        self.register_buffer("loadings", torch.zeros(n_models, n_features, n_components), persistent)
        self.register_buffer("noise", torch.ones(n_models, n_features), persistent)
        self.register_buffer("etas", torch.zeros(n_models, 0), persistent=False)
        self.register_buffer("normal", torch.ones(n_features), persistent=False)

    def set_arrays(self, arrays: LinearMixture) -> Self:
        """Set the arrays, which are no part of ``state_dict``, and return the mixture."""
        self._set_tensors([torch.tensor(part).to(self.normal.device) for part in arrays])
        return self

    def _set_tensors(self, tensors: Sequence[Tensor]) -> None:
        for name, part in zip(LinearMixture._fields, tensors, strict=True):
            self.register_buffer(name, part, persistent=False)

    def arrays(self) -> LinearMixture:
        """Return the arrays of the mixture, for `set_arrays`."""
        return LinearMixture(*(self.get_buffer(name).double().numpy(force=True) for name in LinearMixture._fields))

    def refine(self, start: Callable[[], Any], x: Tensor, varies: Tensor, context: Tensor) -> None:
        """Continue the EM algorithm on samples x (n, n_features), where it has not converged.

        ``start()`` returns the probability of each model given each sample, (n_models, n); ``context`` is of shape
        (n, n_context), or (n, 1) and all ones.
        """

    def widened(self, widening: float) -> Self:
        """Return the mixture with ``widening`` added to the variances of its models."""
        other = copy.deepcopy(self)
        other.noise += widening
        return other

    def begin_columns(self, began: Tensor) -> None:
        """Add columns that were constant so far, a mask (n_features,)."""

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
        return self._with_others(x, model, x.new_full(x.shape, torch.nan), generator)

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
        return self._with_others(drawn, chosen, x.expand(n, -1), generator)

    def _with_others(self, drawn: Tensor, model: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return samples drawn from these models with the columns of other likelihoods, given the values of x."""
        return drawn


class MixedDensity(MixtureDensity):
    r"""Mixture whose models have normal columns, and other columns that are independent given the model.

    .. math:: p(x | c) = \sum_m \pi_m(c)\, N(x_N; \mu_m, W_m W_m' + \mathrm{diag}\, \psi_m) \prod_j p_j(x_j; \eta_m)

    Parameters
    ----------
    n_features : int
    likelihood : Likelihood
        Of the other columns; not shared, and not trained. A learned noise level is the same in all models.
    others : sequence of int
        Numbers of these columns.
    """

    n_start_steps = 1

    def __init__(self, n_features: int, likelihood: Any, others: Sequence[int]) -> None:
        super().__init__(0, n_features, 0, persistent=False)
        self.likelihood, self.others = likelihood.requires_grad_(False), list(others)
        self.etas = self.etas.new_zeros(0, likelihood.n_outputs)
        self.normal[self.others] = 0

    def begin_columns(self, began: Tensor) -> None:
        self.likelihood.varies[began[self.others]] = 1

    def _by_model(self, x: Tensor, varies: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        normal = torch.where(self.normal == 1, x, 0)
        densities, models = super()._by_model(normal, varies * self.normal, context)
        return densities + self.likelihood.log_probs(self.etas[models], x[:, self.others]), models

    def _with_others(self, drawn: Tensor, model: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        others = x[:, self.others]
        values = self.likelihood.draw_missing(self.etas[model], others, generator)
        drawn[:, self.others] = values.where(others.isnan(), others)
        return drawn

    @torch.no_grad()
    def refine(self, start: Callable[[], Any], x: Tensor, varies: Tensor, context: Tensor) -> None:
        probabilities, last = torch.as_tensor(start()).to(x), -torch.inf
        self.likelihood.varies.copy_(varies[self.others])
        columns, others = (varies * self.normal).nonzero()[:, 0], x[:, self.others]
        for _ in range(EM_STEPS):
            weights = context.T @ probabilities.T + _LEAST_WEIGHT * self.weights
            models = _normal_models(probabilities, x[:, columns])
            etas = self._fitted_etas(probabilities, others)
            self._set_tensors(models.tensors(weights / weights.sum(1, keepdim=True), etas, columns, x.shape[1]))
            joint = models.log_probs(x[:, columns]) + (context @ self.weights).log().T
            blocks = others.split(evaluation_batch_size(etas.numel()))
            joint += torch.cat([self.likelihood.log_probs(etas, block) for block in blocks], 1)
            total = joint.logsumexp(0)
            if (mean := total.mean().item()) - last < _LEAST_GAIN:
                break
            last, probabilities = mean, (joint - total).exp()

    def _fitted_etas(self, probabilities: Tensor, x: Tensor) -> Tensor:
        """Fit the other columns of each model, and the noise level that all models share: -> (n_models, n_outputs)."""
        n, x = probabilities @ (~x.isnan()).to(x), x.nan_to_num(nan=0.0)
        mean, square = (probabilities @ part / n.clamp_min(_LEAST_WEIGHT) for part in (x, x.square()))
        shares = n / n.sum(0).clamp_min(_LEAST_WEIGHT)
        overall, within = ((shares * part).sum(0) for part in (mean, (square - mean.square()).clamp_min(0)))
        self.likelihood.independent(overall, within, n.sum(0).mean().item())
        return self.likelihood.eta_of_mean(mean, n)


class _NormalModels(NamedTuple):
    """Normal models of n columns: means (n_models, n), variances along the principal axes, and these as columns."""

    means: Tensor
    variances: Tensor
    axes: Tensor

    def log_probs(self, x: Tensor) -> Tensor:
        """Return the log-densities of samples (n_samples, n): (n_models, n_samples)."""
        constant = (2 * math.pi * self.variances).log().sum(1)
        models = zip(self.means, self.axes / self.variances.sqrt()[:, None], constant, strict=True)
        return torch.stack([-0.5 * (((x - mean) @ axes).square().sum(1) + log_size) for mean, axes, log_size in models])

    def tensors(self, weights: Tensor, etas: Tensor, columns: Tensor, n_features: int) -> Sequence[Tensor]:
        """Return the models of these columns as linear models of all columns, in the order of `LinearMixture`."""
        least = self.variances.amin(1, keepdim=True) if len(columns) else torch.ones_like(etas[:, :1])
        means, noise = etas.new_zeros(len(etas), n_features), etas.new_ones(len(etas), n_features)
        loadings = etas.new_zeros(len(etas), n_features, len(columns))
        means[:, columns], noise[:, columns] = self.means, least
        loadings[:, columns] = self.axes * (self.variances - least).sqrt()[:, None]
        return weights, means, loadings, noise, etas


def _normal_models(probabilities: Tensor, x: Tensor) -> _NormalModels:
    """Fit normal models to samples (n, n_columns) with these probabilities (n_models, n)."""
    n = probabilities.sum(1).clamp_min(_LEAST_WEIGHT)
    means, products = probabilities @ x / n[:, None], []
    for probability, mean in zip(probabilities, means, strict=True):
        centred = x - mean
        products.append((probability[:, None] * centred).T @ centred)
    widening = LEAST_WIDENING * torch.eye(x.shape[1]).to(x)
    return _NormalModels(means, *torch.linalg.eigh(torch.stack(products) / n[:, None, None] + widening))
