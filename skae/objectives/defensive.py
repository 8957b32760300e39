"""Defensive mixtures with simpler densities, under which no sample has a much higher density than under the mixture."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.linear.gaussian import diagonal_posterior, log_density_at, posterior_given_observed


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


class DefensiveMixture(nn.Module):
    r"""Mixture of a density with simpler models.

    .. math:: \log \big((1 - \varepsilon)\, p(x) + \varepsilon\, p_0(x)\big)

    Defensive mixture (Hesterberg 1995); a lower bound on log p(x) gives a lower bound on the log-density of the
    mixture. The buffer ``share`` is zero until the caller fills it. Subclasses define ``start_at``,
    ``begin_columns``, ``log_prob`` and ``draw``, and ``n_components``, the latent dimension of the simpler models.

    Shape
    -----
    bound: (n,), x: (n, n_features), context: (n, n_context) -> (n,);
    draw: z (n, n_components), context -> (n, n_features).
    """

    n_components: int
    share: Tensor
    value_kinds = {"share": "share"}

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.zeros(()))

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

    def forward(self, bound: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.logaddexp(torch.log1p(-self.share) + bound, self.share.log() + self.log_prob(x, context))


class LinearModels(DefensiveMixture):
    r"""Defensive mixture with linear Gaussian models, each with the same weight.

    .. math:: p_0(x) = \textstyle\frac1M \sum_m p_m(x)

    with p_m the density of x = W z + noise, z standard normal, noise N(0, diag psi), where W' psi^-1 W is diagonal.

    The context, of ``n_context`` columns, shifts samples by a linear map.
    """

    loadings: Tensor
    shift: Tensor
    noise: Tensor
    varies: Tensor
    value_kinds = DefensiveMixture.value_kinds | {"noise": "noise"}

    def __init__(self, n_models: int, n_features: int, n_components: int, n_context: int = 0) -> None:
        super().__init__()
        self.n_components = n_components
        self.register_buffer("loadings", torch.zeros(n_models, n_features, n_components))
        self.register_buffer("shift", torch.zeros(n_context, n_features))
        self.register_buffer("noise", torch.ones(n_models, n_features))
        self.register_buffer("varies", torch.ones(n_features))

    @torch.no_grad()
    def start_at(self, start: DefensiveStart) -> None:
        """Set the linear models with ``n_components`` components."""
        for name, value in start.linear_models(self.n_components)._asdict().items():
            self.get_buffer(name).copy_(value)
        self.share.zero_()

    def begin_columns(self, began: Tensor) -> None:
        self.varies[began] = 1

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x if context is None else x - context @ self.shift
        counted = self.varies
        if has_missing(x):  # precisions differ between samples, and are not diagonal
            codes = [posterior_given_observed(x, *model) for model in zip(self.loadings, self.noise, strict=True)]
            z = torch.stack([mean for mean, _ in codes])
            log_precision = 2 * torch.stack([factor.diagonal(dim1=1, dim2=2).log().sum(1) for _, factor in codes])
            counted, x = counted * ~x.isnan(), torch.where(x.isnan(), 0, x)
        else:
            weight, precision = diagonal_posterior(self.loadings, self.noise)
            z, log_precision = x @ weight, precision.log().sum(1, keepdim=True)
        densities = log_density_at(x - z @ self.loadings.mT, z, self.noise, log_precision, counted)
        return densities.logsumexp(0) - math.log(len(self.loadings))

    def draw(self, z: Tensor, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        model = torch.randint(len(self.loadings), (len(z),), generator=generator)
        noise = torch.randn((len(z), len(self.varies)), generator=generator, dtype=z.dtype)
        x = self.noise[model].sqrt() * noise
        for m, loadings in enumerate(self.loadings):
            x[model == m] += z[model == m] @ loadings.T
        return x if context is None else x + context @ self.shift
