"""Base class of likelihoods: the density of a sample given the decoder's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.objectives.defensive import DefensiveMixture, DefensiveStart
from skae.objectives.mixtures import MixtureDensity

# Rate, penalty and offset of the density of constant columns.
Terms = tuple[Tensor, Tensor, Tensor]
_LINKS: dict[str, Callable[[Tensor], Tensor]] = {"logit": torch.logit, "log": torch.log, "share": torch.log}


def smoothed_mean(mean: Tensor, n_samples: float) -> Tensor:
    """Return the mean with one more sample of values 1/2, so that no mean count is 0 and no share is 0 or 1."""
    return (n_samples * mean + 0.5) / (n_samples + 1)


class Likelihood(nn.Module):
    """Density of samples given the decoder's output ``eta``. Missing entries and constant columns do not count.

    Subclasses define ``log_prob``, ``mean`` and ``draw``. Those with a learned noise level also define ``start_at``,
    conjugate ones ``statistics`` and ``natural``.

    Parameters
    ----------
    n_features : int
        Number of columns.

    Attributes
    ----------
    link : "identity", "logit", "log" or "share"
        The inverse link maps the first ``n_features`` entries of eta to the mean.
    support : "real", "unit_interval", "non_negative" or "counts"
        Values that the density is defined on.
    n_parameters : int
        Number of entries of eta for each column. The first ``n_features`` entries are those to which the link applies.
        A linear start leaves the further ones at zero.
    needs_table : bool
        Whether X is a table whose columns are encoded first.
    is_conjugate : bool
        Whether the posterior of a linear decoder is normal, with noise variance ``variance(eta)``. Posteriors are then
        refined, from landmarks found by ``statistics`` and ``natural``. The validation set is stratified by how well
        the linear start fits each sample.
    varies : Tensor of shape (n_features,)
        1 for columns that count, 0 for constant ones.

    Notes
    -----
    ``likelihood(eta, x)`` is the log-density of each sample, (...), for eta (..., n_outputs) and x (..., n_features).

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import LIKELIHOODS
    >>> LIKELIHOODS["poisson"](2)(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([-2.])
    """

    link = "identity"
    support = "real"
    n_parameters = 1
    needs_table = False
    is_conjugate = False
    varies: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("varies", torch.ones(n_features))

    @classmethod
    def of_widths(cls, widths: Sequence[int]) -> Self:
        """Return a likelihood of variables with these numbers of columns."""
        return cls(sum(widths))

    def fresh(self) -> Likelihood:
        """Return a new likelihood of the same class and columns, before any start."""
        return type(self)(len(self.varies))

    @property
    def n_outputs(self) -> int:
        """Number of entries of eta."""
        return len(self.varies) * self.n_parameters

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of each entry: (..., n_features)."""
        raise NotImplementedError

    def mean(self, eta: Tensor) -> Tensor:
        """Return the mean: (..., n_features)."""
        raise NotImplementedError

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        """Draw samples: (..., n_features)."""
        raise NotImplementedError

    def squared_errors(self, eta: Tensor, x: Tensor) -> Tensor:
        """Return squared errors of the mean for entries whose variance is learned, nan for others: (..., n_features).

        A likelihood with a learned variance can gain density while its mean gets worse.
        """
        return torch.full_like(x, math.nan)

    def statistics(self, x: Tensor) -> Tensor:
        """Return the sufficient statistics of complete samples: (n, n_features) -> (n, n_statistics)."""
        raise NotImplementedError(f"{type(self).__name__} has is_conjugate=True, but does not define statistics.")

    def natural(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Return natural parameters (..., n_statistics) and an offset (...).

        The log-density is the scalar product of parameters and statistics, plus the offset.
        """
        raise NotImplementedError(f"{type(self).__name__} has is_conjugate=True, but does not define natural.")

    def mean_of_missing(self, eta: Tensor, x: Tensor) -> Tensor:
        """Return the mean of entries where x is nan, conditional on its observed entries."""
        return self.mean(eta)

    def draw_missing(self, eta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the entries where x is nan, conditional on its observed entries."""
        return self.draw(eta, generator)

    def start_at(self, noise: Tensor, variance: Tensor, scale: Tensor) -> None:
        """Start at the noise of the linear start.

        Parameters
        ----------
        noise, variance : Tensor of shape (n_features,)
            Noise variance and variance of the scaled columns.
        scale : Tensor broadcastable to (n_features,)
            Scale by which columns were divided.
        """

    def begin_columns(self, began: Tensor, scale: Tensor) -> None:
        """Count columns that begin to vary, a mask (n_features,), with the scale by which columns are divided now."""
        self.varies[began] = 1

    def fit_sums(self, sums: Callable[[], Any]) -> None:
        """Fit to the sums of training samples over columns, which ``sums()`` returns as an array (n_samples,)."""

    def independent(self, mean: Tensor, variance: Tensor, n_samples: float) -> Tensor:
        """Make this the density of independent columns, and return its eta.

        Parameters
        ----------
        mean, variance : Tensor of shape (n_features,)
            Moments of the columns, over ``n_samples`` samples.
        n_samples : int

        Returns
        -------
        Tensor of shape (n_outputs,)
        """
        variance = torch.where(variance > 0, variance, 1)
        self.start_at(variance, variance, torch.ones_like(variance))
        if self.link != "identity":
            mean = _LINKS[self.link](smoothed_mean(mean, n_samples))
        return nn.functional.pad(mean, (0, self.n_outputs - len(mean)))

    def of_constants(self, value: Tensor, deviation: Tensor, n_samples: float, noise: Tensor | None = None) -> Terms:
        """Return the density of columns that are constant in training: rate, penalty and offset of `ConstantColumns`.

        By default a value other than the constant has probability 1 / (n_samples + 2), by the rule of succession.

        Parameters
        ----------
        value, deviation : Tensor of shape (n_features,)
            The constants, and the standard deviations of all columns, in units of X.
        n_samples : int
        noise : Tensor of shape (n_features,) or None, default=None
            Noise variances of these columns in the linear start, if it has any.
        """
        zeros = torch.zeros_like(value)
        return zeros, torch.full_like(value, math.log(n_samples + 2)), zeros

    def defensive(self, n_components: int, n_context: int) -> DefensiveMixture:
        """Return a defensive mixture for a model with this latent dimension and number of columns of context."""
        return IndependentColumns(self.fresh())

    def forward(self, eta: Tensor, x: Tensor) -> Tensor:
        counted = self.varies
        if has_missing(x):
            counted, x = counted * ~x.isnan(), torch.where(x.isnan(), 0, x)
        return (self.log_prob(eta, x) * counted).sum(-1)


class IndependentColumns(DefensiveMixture):
    """Defensive mixture with independent columns, which do not depend on the context.

    Parameters
    ----------
    likelihood : Likelihood
        A likelihood that is not shared, and is not trained.
    mixture : MixtureDensity, default=None
        Mixture of the samples, without models yet, if the likelihood takes one.
    """

    n_components = 0
    eta: Tensor

    @property
    def varies(self) -> Tensor:
        return self.likelihood.varies

    def __init__(self, likelihood: Likelihood, mixture: MixtureDensity | None = None) -> None:
        none = MixtureDensity(0, len(likelihood.varies), 0, persistent=False)
        super().__init__(none if mixture is None else mixture, mixture is not None)
        self.likelihood = likelihood.requires_grad_(False)
        self.register_buffer("eta", torch.zeros(likelihood.n_outputs))

    @torch.no_grad()
    def start_at(self, start: DefensiveStart) -> None:
        """Fit to mean and variance of the columns."""
        mean, variance, varies, n_samples = start.columns()
        self.likelihood.varies.copy_(varies)
        self.likelihood.fit_sums(start.sums)
        self.eta.copy_(self.likelihood.independent(mean.to(self.eta), variance.to(self.eta), n_samples))
        self.share.zero_()

    def begin_columns(self, began: Tensor) -> None:
        self.likelihood.varies[began] = 1

    def log_prob_simple(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.likelihood(self.eta, x)

    def draw_simple(self, z: Tensor, generator: torch.Generator, context: Tensor | None) -> Tensor:
        return self.likelihood.draw(self.eta.to(z).expand(len(z), -1), generator)

    def draw_missing_simple(self, x: Tensor, n: int, generator: torch.Generator, context: Tensor | None) -> Tensor:
        return self.likelihood.draw_missing(self.eta.expand(n, -1), x.expand(n, -1), generator)
