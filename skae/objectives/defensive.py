"""Defensive mixtures of a density with simpler ones: no sample has a much lower density than under these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.linear.gaussian import diagonal_posterior, draw_missing, log_density_at, posterior_given_observed
from skae.linear.mixture import LinearMixture

# Most steps of the EM algorithm for a weight of a mixture.
_EM_STEPS = 500


class ColumnMoments(NamedTuple):
    """Mean and variance of each column, and whether it varies, all (n_features,), from ``n_samples`` samples."""

    mean: Tensor
    variance: Tensor
    varies: Tensor
    n_samples: float


class LinearBaselines(NamedTuple):
    """Linear models of scaled samples.

    Attributes
    ----------
    loadings : Tensor of shape (n_models, n_features, n_components)
    noise : Tensor of shape (n_models, n_features)
        Noise variances.
    varies : Tensor of shape (n_features,)
        Whether a column varies.
    shift : Tensor of shape (n_context, n_features)
        Added to a sample for each column of the context.
    """

    loadings: Tensor
    noise: Tensor
    varies: Tensor
    shift: Tensor


class DefensiveStart(NamedTuple):
    """Statistics to which a defensive mixture is fitted, as functions, since each mixture needs only some of them.

    Attributes
    ----------
    columns : callable () -> ColumnMoments
        Moments of the columns as the likelihood sees them.
    sums : callable () -> array of shape (n_samples,)
        Sums of the training samples.
    linear_models : callable (n_components) -> LinearBaselines
    """

    columns: Callable[[], ColumnMoments]
    sums: Callable[[], Any]
    linear_models: Callable[[int], LinearBaselines]


class MixtureDensity(nn.Module):
    r"""Mixture of linear Gaussian models, whose weights depend on the context.

    .. math:: p(x | c) = \sum_m \pi_m(c)\, N(x; \mu_m, W_m W_m' + \mathrm{diag}\, \psi_m)

    where W' psi^-1 W is diagonal for each model.

    Parameters
    ----------
    n_models, n_features, n_components : int
    persistent : bool, default=True
        Whether the arrays are part of ``state_dict``.

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

    @classmethod
    def of(cls, mixture: LinearMixture) -> MixtureDensity:
        """Return a mixture that is no part of ``state_dict``, since its shapes depend on the samples."""
        module = cls(*mixture.loadings.shape, persistent=False)
        for name, part in mixture._asdict().items():
            module.register_buffer(name, torch.tensor(part), persistent=False)
        return module

    def arrays(self) -> LinearMixture:
        """Return the arrays of the mixture, for `of`."""
        return LinearMixture(*(self.get_buffer(name).double().numpy(force=True) for name in LinearMixture._fields))

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


def held_out_weight(gain: Tensor) -> Tensor:
    r"""Estimate the weight of one of two densities in their mixture from held-out samples, by EM.

    .. math:: w = \frac{1 + \sum_i r_i}{n + 2}, \quad r_i = \frac{w p(x_i)}{w p(x_i) + (1 - w) q(x_i)}

    It maximises the likelihood of these samples and of two more, one that only p and one that only q explains, as in
    the rule of succession. Without these it is stacking (Smyth and Wolpert 1999, Machine Learning 36, 59-83).

    Parameters
    ----------
    gain : Tensor of shape (n,)
        Log-density under p minus that under q.

    Returns
    -------
    Tensor
        The weight w of p, in float64.
    """
    gain, weight = gain.double().nan_to_num(nan=0.0), torch.tensor(0.5, dtype=torch.float64)
    for _ in range(_EM_STEPS):
        last, weight = weight, (1 + (gain + weight.logit()).sigmoid().sum()) / (len(gain) + 2)
        if weight == last:  # and so are all that would follow
            break
    return weight


class DefensiveMixture(nn.Module):
    r"""Mixture of a density with simpler models.

    .. math:: \log \big((1 - \varepsilon)\, p(x) + \varepsilon\, p_0(x)\big)

    Defensive mixture (Hesterberg 1995); a lower bound on log p(x) gives a lower bound on the log-density of the
    mixture. The buffer ``share`` is zero until the caller fills it. Subclasses define ``start_at``,
    ``begin_columns``, ``log_prob``, ``draw`` and ``draw_missing``, and ``n_components``, the latent dimension of the
    simpler models. One whose samples are real numbers may take a Gaussian mixture of the samples: it sets
    ``takes_mixture``, defines ``add_mixture``, and has the attributes ``varies`` and ``mixture`` of `LinearModels`.

    Shape
    -----
    bound: (n,), x: (n, n_features), context: (n, n_context) -> (n,);
    draw: z (n, n_components), context -> (n, n_features);
    draw_missing: x (1, n_features), context (1, n_context) -> (n, n_features).
    """

    n_components: int
    takes_mixture = False
    share: Tensor
    value_kinds = {"share": "share"}

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.zeros(()))

    @property
    def n_models(self) -> int:
        """Number of simpler models."""
        return 1

    @property
    def mixture_weight(self) -> float:
        """Weight of a Gaussian mixture of the samples in the density."""
        return 0.0

    def start_at(self, start: DefensiveStart) -> None:
        """Fit the simpler models, and reset the share to zero."""
        raise NotImplementedError

    def begin_columns(self, began: Tensor) -> None:
        """Add columns that were constant so far, a mask (n_features,), with the variance of scaled columns."""
        raise NotImplementedError

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density under the simpler models: (n,)."""
        raise NotImplementedError

    def draw(self, z: Tensor, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        """Draw a sample from the simpler models for each code, a standard normal draw."""
        raise NotImplementedError

    def draw_missing(self, x: Tensor, n: int, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        """Draw the missing values of one sample given the others, n times: (1, n_features) -> (n, n_features)."""
        raise NotImplementedError

    def forward(self, bound: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.logaddexp(torch.log1p(-self.share) + bound, self.share.log() + self.log_prob(x, context))


class LinearModels(DefensiveMixture):
    r"""Defensive mixture with linear Gaussian models, each with the same weight, and a Gaussian mixture of the samples.

    .. math:: p_0(x) = (1 - \rho) \textstyle\frac1M \sum_m p_m(x) + \rho\, p_{\text{mixture}}(x)

    Without a Gaussian mixture rho, the buffer ``mixture_share``, is zero. The context, of ``n_context`` columns, shifts
    samples of the linear models by a linear map, and selects the models of the Gaussian mixture.
    """

    shift: Tensor
    varies: Tensor
    mixture_share: Tensor
    takes_mixture = True
    value_kinds = DefensiveMixture.value_kinds | {"mixture_share": "share"}

    def __init__(self, n_models: int, n_features: int, n_components: int, n_context: int = 0) -> None:
        super().__init__()
        self.n_components = n_components
        self.linear = MixtureDensity(n_models, n_features, n_components)
        self.mixture = MixtureDensity(0, n_features, 0, persistent=False)
        self.register_buffer("shift", torch.zeros(n_context, n_features))
        self.register_buffer("varies", torch.ones(n_features))
        self.register_buffer("mixture_share", torch.zeros(()))

    @torch.no_grad()
    def start_at(self, start: DefensiveStart) -> None:
        """Set the linear models with ``n_components`` components."""
        parts = self.linear.loadings, self.linear.noise, self.varies, self.shift
        for part, value in zip(parts, start.linear_models(self.n_components), strict=True):
            part.copy_(value)
        self.share.zero_()

    @torch.no_grad()
    def add_mixture(self, mixture: MixtureDensity, gain: Tensor) -> None:
        """Add a Gaussian mixture of the samples, with the weight that held-out samples give it.

        ``gain`` (n,) is their log-density under it minus that under the mixture of the network with the linear models.
        """
        weight = held_out_weight(gain)
        share = 1 - (1 - weight) * (1 - self.share)
        self.mixture = mixture
        self.share.copy_(share)
        self.mixture_share.copy_(weight / share)

    @property
    def n_models(self) -> int:
        return len(self.linear) + len(self.mixture)

    @property
    def mixture_weight(self) -> float:
        return float(self.share * self.mixture_share)

    def begin_columns(self, began: Tensor) -> None:
        self.varies[began] = 1

    def _shift(self, context: Tensor | None) -> Tensor | float:
        """Return what the context adds to samples of the linear models."""
        return 0.0 if context is None else context @ self.shift

    def _densities(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the log-densities of the linear models and of the Gaussian mixture, if there is one: (1 or 2, n)."""
        linear = self.linear.log_prob(x - self._shift(context), self.varies)
        if not len(self.mixture):
            return linear[None]
        shares = torch.stack([1 - self.mixture_share, self.mixture_share])
        return shares.log()[:, None] + torch.stack([linear, self.mixture.log_prob(x, self.varies, context)])

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self._densities(x, context).logsumexp(0)

    def draw(self, z: Tensor, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        x = self.linear.draw(z, generator) + self._shift(context)
        if len(self.mixture):
            is_mixture = torch.rand(len(z), generator=generator, dtype=z.dtype) < self.mixture_share
            normal = torch.randn((len(z), self.mixture.loadings.shape[2]), generator=generator, dtype=z.dtype)
            x = torch.where(is_mixture[:, None], self.mixture.draw(normal, generator, context), x)
        return x

    def draw_missing(self, x: Tensor, n: int, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        shift, shares = self._shift(context), self._densities(x, context)[:, 0].softmax(0)
        drawn = shift + self.linear.draw_missing(x - shift, n, self.varies, generator)
        if len(self.mixture):
            is_linear = shares.multinomial(n, replacement=True, generator=generator)[:, None] == 0
            drawn = drawn.where(is_linear, self.mixture.draw_missing(x, n, self.varies, generator, context))
        return drawn.where(x.isnan(), x)
