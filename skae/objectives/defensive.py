"""Defensive mixtures of a density with simpler ones: no sample has a much lower density than under these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae.objectives.mixtures import MixtureDensity

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
    r"""Mixture of a density with simpler models, and with a mixture of the samples if the likelihood takes one.

    .. math::

        \log \big((1 - \varepsilon)\, p(x) + \varepsilon\, p_0(x)\big), \quad
        p_0(x) = (1 - \rho)\, p_{\text{simple}}(x) + \rho\, p_{\text{mixture}}(x)

    Defensive mixture (Hesterberg 1995); a lower bound on log p(x) gives a lower bound on the log-density of the
    mixture. Epsilon, the buffer ``share``, is zero until the caller fills it, and rho, ``mixture_share``, is zero
    without a mixture of the samples. Subclasses define ``start_at``, ``begin_columns``, ``log_prob_simple``,
    ``draw_simple`` and ``draw_missing_simple``, the buffer or property ``varies``, and ``n_simple``, the number of
    simple models.

    Parameters
    ----------
    mixture : MixtureDensity
        Without models.
    takes_mixture : bool, default=True
        Whether `add_mixture` may be called.

    Shape
    -----
    bound: (n,), x: (n, n_features), context: (n, n_context) -> (n,);
    draw: z (n, n_components), context -> (n, n_features);
    draw_missing: x (1, n_features), context (1, n_context) -> (n, n_features).
    """

    n_components: int
    n_simple = 1
    share: Tensor
    mixture_share: Tensor
    varies: Any
    value_kinds = {"share": "share", "mixture_share": "share"}

    def __init__(self, mixture: MixtureDensity, takes_mixture: bool = True) -> None:
        super().__init__()
        self.mixture, self.takes_mixture = mixture, takes_mixture
        self.register_buffer("share", torch.zeros(()))
        self.register_buffer("mixture_share", torch.zeros(()))

    def start_at(self, start: DefensiveStart) -> None:
        """Fit the simple models, and reset the share to zero."""
        raise NotImplementedError

    def begin_columns(self, began: Tensor) -> None:
        """Add columns that were constant so far, a mask (n_features,), with the variance of scaled columns."""
        raise NotImplementedError

    def log_prob_simple(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the log-density under the simple models: (n,)."""
        raise NotImplementedError

    def draw_simple(self, z: Tensor, generator: torch.Generator, context: Tensor | None) -> Tensor:
        """Draw a sample from the simple models for each code, a standard normal draw."""
        raise NotImplementedError

    def draw_missing_simple(self, x: Tensor, n: int, generator: torch.Generator, context: Tensor | None) -> Tensor:
        """Draw the missing values of one sample given the others, n times: (1, n_features) -> (n, n_features)."""
        raise NotImplementedError

    @torch.no_grad()
    def add_mixture(self, mixture: MixtureDensity, gain: Tensor) -> None:
        """Add a mixture of the samples, with the weight that held-out samples give it.

        ``gain`` (n,) is their log-density under it minus that under the network with the simple models.
        """
        weight = held_out_weight(gain)
        share = 1 - (1 - weight) * (1 - self.share)
        self.mixture = mixture
        self.share.copy_(share)
        self.mixture_share.copy_(weight / share)

    @property
    def n_models(self) -> int:
        """Number of simpler models."""
        return self.n_simple + len(self.mixture)

    @property
    def mixture_weight(self) -> float:
        """Weight of the mixture of the samples in the density."""
        return float(self.share * self.mixture_share)

    def _densities(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the log-densities of the simple models and of the mixture of the samples, if any: (1 or 2, n)."""
        simple = self.log_prob_simple(x, context)
        if not len(self.mixture):
            return simple[None]
        shares = torch.stack([1 - self.mixture_share, self.mixture_share])
        return shares.log()[:, None] + torch.stack([simple, self.mixture.log_prob(x, self.varies, context)])

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density under all simpler models: (n,)."""
        return self._densities(x, context).logsumexp(0)

    def draw(self, z: Tensor, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        """Draw a sample for each code, a standard normal draw."""
        x = self.draw_simple(z, generator, context)
        if len(self.mixture):
            is_mixture = torch.rand(len(z), generator=generator, dtype=z.dtype) < self.mixture_share
            normal = torch.randn((len(z), self.mixture.loadings.shape[2]), generator=generator, dtype=z.dtype)
            x = torch.where(is_mixture[:, None], self.mixture.draw(normal, generator, context), x)
        return x

    def draw_missing(self, x: Tensor, n: int, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        """Draw the missing values of one sample given the others, n times: (1, n_features) -> (n, n_features)."""
        shares = self._densities(x, context)[:, 0].softmax(0)
        drawn = self.draw_missing_simple(x, n, generator, context)
        if len(self.mixture):
            is_simple = shares.multinomial(n, replacement=True, generator=generator)[:, None] == 0
            drawn = drawn.where(is_simple, self.mixture.draw_missing(x, n, self.varies, generator, context))
        return drawn.where(x.isnan(), x)

    def forward(self, bound: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.logaddexp(torch.log1p(-self.share) + bound, self.share.log() + self.log_prob(x, context))


class LinearModels(DefensiveMixture):
    r"""Defensive mixture with linear Gaussian models, each with the same weight.

    .. math:: p_{\text{simple}}(x) = \textstyle\frac1M \sum_m p_m(x)

    The context, of ``n_context`` columns, shifts samples of the linear models by a linear map.
    """

    shift: Tensor

    def __init__(self, n_models: int, n_features: int, n_components: int, n_context: int = 0) -> None:
        super().__init__(MixtureDensity(0, n_features, 0, persistent=False))
        self.n_components, self.n_simple = n_components, n_models
        self.linear = MixtureDensity(n_models, n_features, n_components)
        self.register_buffer("shift", torch.zeros(n_context, n_features))
        self.register_buffer("varies", torch.ones(n_features))

    @torch.no_grad()
    def start_at(self, start: DefensiveStart) -> None:
        """Set the linear models with ``n_components`` components."""
        parts = self.linear.loadings, self.linear.noise, self.varies, self.shift
        for part, value in zip(parts, start.linear_models(self.n_components), strict=True):
            part.copy_(value)
        self.share.zero_()

    def begin_columns(self, began: Tensor) -> None:
        self.varies[began] = 1

    def _shift(self, context: Tensor | None) -> Tensor | float:
        """Return what the context adds to samples of the linear models."""
        return 0.0 if context is None else context @ self.shift

    def log_prob_simple(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.linear.log_prob(x - self._shift(context), self.varies)

    def draw_simple(self, z: Tensor, generator: torch.Generator, context: Tensor | None) -> Tensor:
        return self.linear.draw(z, generator) + self._shift(context)

    def draw_missing_simple(self, x: Tensor, n: int, generator: torch.Generator, context: Tensor | None) -> Tensor:
        shift = self._shift(context)
        return shift + self.linear.draw_missing(x - shift, n, self.varies, generator)
