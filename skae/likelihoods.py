"""Likelihoods of a row given its code: log-density, mean and draw of each. Torch only: no numpy, no scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skae.nn import given_observed, has_gaps


class Likelihood(nn.Module):
    """A density of rows given the decoder's output ``eta``; gaps, and columns that do not vary, count for nothing.

    Subclasses give ``link`` (whose inverse turns eta into the mean), ``log_prob`` of each entry, ``mean`` and ``draw``,
    and how many numbers of eta an entry takes: all first ones, then all second ones.
    """

    link: str
    n_parameters = 1
    varies: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("varies", torch.ones(n_features))

    @property
    def n_outputs(self) -> int:
        """Numbers of eta that a row takes."""
        return len(self.varies) * self.n_parameters

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def mean(self, eta: Tensor) -> Tensor:
        raise NotImplementedError

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def alone(self, mean: Tensor, variance: Tensor, n_rows: int) -> Tensor:
        """Begin as the density of columns that have nothing to do with each other; their eta is returned.

        ``mean`` and ``variance``, of shape (n_features,), are those of so many rows.
        """
        return _of_one_more(mean, n_rows).log()

    def mean_of_gaps(self, eta: Tensor, x: Tensor) -> Tensor:
        """What is expected where x is nan, given the rest of the row: its mean, as a rule."""
        return self.mean(eta)

    def draw_gaps(self, eta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of what x has nan for, given the rest of the row."""
        return self.draw(eta, generator)

    def forward(self, eta: Tensor, x: Tensor) -> Tensor:
        """Log-density of each row's entries that are not nan: (..., n_features) -> (...)."""
        counted = self.varies
        if has_gaps(x):
            counted = counted * ~x.isnan()
            x = torch.where(x.isnan(), 0, x)
        return (self.log_prob(eta, x) * counted).sum(-1)


def _of_one_more(mean: Tensor, n_rows: int) -> Tensor:
    """The mean with a row of halves beside so many: no count is impossible, and no share is 0 or 1."""
    return (n_rows * mean + 0.5) / (n_rows + 1)


class Gaussian(Likelihood):
    r"""Normal whose mean and variance are the decoder's output.

    .. math:: \log p(x | \eta) = \sum_j -\tfrac12 \log(2 \pi \sigma_j^2) - \frac{(x_j - \mu_j)^2}{2 \sigma_j^2}

    The first half of eta is the mean. The second half moves the logarithm of the variance around one level a column,
    which is learned, by at most ``RANGE`` either way. The variance is ``floor`` plus that, so densities stay finite.

    Shape
    -----
    eta: (..., 2 n_features), x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "identity"
    n_parameters = 2
    RANGE = 3.0
    floor: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.log_excess = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("floor", torch.full((n_features,), 1e-12))

    @torch.no_grad()
    def start_at(self, variance: Tensor, floor: Tensor) -> None:
        """Begin at this variance; training may not bring it under ``floor``, or half the start if that is less."""
        self.floor.copy_(torch.minimum(floor, variance / 2))
        self.log_excess.copy_((variance - self.floor).log())

    def alone(self, mean: Tensor, variance: Tensor, n_rows: int) -> Tensor:
        variance = torch.where(variance > 0, variance, 1)
        self.start_at(variance, variance)
        return torch.cat([mean, torch.zeros_like(mean)])

    def variance(self, eta: Tensor) -> Tensor:
        change = self.RANGE * torch.tanh(eta.chunk(2, -1)[1] / self.RANGE)
        return self.floor + (self.log_excess + change).exp()

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        variance = self.variance(eta)
        return -0.5 * ((x - self.mean(eta)).square() / variance + variance.log() + math.log(2 * math.pi))

    def mean(self, eta: Tensor) -> Tensor:
        return eta.chunk(2, -1)[0]

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(eta)
        noise = torch.randn(mean.shape, generator=generator, dtype=eta.dtype, device=eta.device)
        return mean + self.variance(eta).sqrt() * noise


class Bernoulli(Likelihood):
    r"""Bernoulli with the decoder's output as log-odds, for rows in [0, 1].

    .. math:: \log p(x | \eta) = \sum_j x_j \eta_j - \log(1 + e^{\eta_j})

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "logit"

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        return x * eta - nn.functional.softplus(eta)

    def alone(self, mean: Tensor, variance: Tensor, n_rows: int) -> Tensor:
        return _of_one_more(mean, n_rows).logit()

    def mean(self, eta: Tensor) -> Tensor:
        return torch.sigmoid(eta)

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(eta), generator=generator)


class Poisson(Likelihood):
    r"""Poisson with the decoder's output as the logarithm of its mean, for counts.

    .. math:: \log p(x | \eta) = \sum_j x_j \eta_j - e^{\eta_j} - \log x_j!

    Beyond ``LARGEST`` (e^40, 2e17) means do not grow.

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "log"
    LARGEST = 40.0

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        eta = eta.clamp(max=self.LARGEST)
        return x * eta - eta.exp() - torch.lgamma(x + 1)

    def mean(self, eta: Tensor) -> Tensor:
        return eta.clamp(max=self.LARGEST).exp()

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(eta), generator=generator)


class NegativeBinomial(Poisson):
    r"""Poisson whose mean has a gamma density: counts of a variance above their mean.

    .. math:: \log p(x | \eta) = \sum_j \log \frac{\Gamma(x_j + r_j)}{\Gamma(r_j)\, x_j!}
        + r_j \log \frac{r_j}{r_j + \mu_j} + x_j \log \frac{\mu_j}{r_j + \mu_j}, \quad \mu = e^\eta

    The variance is :math:`\mu + \mu^2 / r`, with a dispersion 1 / r for each column, which is learned, between e^-7 and
    e^5. Its logarithm is ``PACE`` times a parameter: Adam, whose steps have one size, takes it as much further a step.

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features).
    """

    RANGE = -7.0, 5.0
    PACE = 10.0

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.dispersion = nn.Parameter(torch.zeros(n_features))

    @torch.no_grad()
    def start_at(self, dispersion: Tensor) -> None:
        """Begin at this dispersion of each column."""
        self.dispersion.copy_(dispersion.log().clamp(*self.RANGE) / self.PACE)

    def alone(self, mean: Tensor, variance: Tensor, n_rows: int) -> Tensor:
        """With the dispersion that gives rows their variance: the method of moments."""
        mean = _of_one_more(mean, n_rows)
        self.start_at((variance - mean).clamp_min(0) / mean.square())
        return mean.log()

    @property
    def log_size(self) -> Tensor:
        """The logarithm of r."""
        return -(self.PACE * self.dispersion).clamp(*self.RANGE)

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        log_odds, size = eta.clamp(max=self.LARGEST) - self.log_size, self.log_size.exp()
        ways = torch.lgamma(x + size) - torch.lgamma(size) - torch.lgamma(x + 1)
        return ways + x * nn.functional.logsigmoid(log_odds) + size * nn.functional.logsigmoid(-log_odds)

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        size = self.log_size.exp().expand(eta.shape).contiguous()
        rate = self.mean(eta) * torch._standard_gamma(size, generator=generator) / size
        return torch.poisson(rate, generator=generator)


class Multinomial(Likelihood):
    r"""Counts of a row given their sum, with the softmax of the decoder's output as shares: words of a document.

    .. math:: \log p(x | \eta) = \log \frac{n!}{\prod_j x_j!} + \sum_j x_j \log \mathrm{softmax}(\eta)_j,
        \quad n = \sum_j x_j

    Where counts are missing the shares are those among the others. Rows are drawn with sums of training rows; their
    mean is that of a row of the mean sum.

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "share"
    N_SUMS = 100
    sums: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.register_buffer("sums", torch.ones(self.N_SUMS))

    @torch.no_grad()
    def start_at(self, sums: Tensor) -> None:
        """Draw rows of these ``N_SUMS`` sums, each as often."""
        self.sums.copy_(sums)

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        return x * eta.log_softmax(-1) - torch.lgamma(x + 1)

    def forward(self, eta: Tensor, x: Tensor) -> Tensor:
        if has_gaps(x):
            missing = x.isnan()
            eta, x = eta.masked_fill(missing, -1e30), torch.where(missing, 0, x)
        return self.log_prob(eta, x).sum(-1) + torch.lgamma(x.sum(-1) + 1)

    def mean(self, eta: Tensor) -> Tensor:
        return eta.softmax(-1) * self.sums.mean()

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        shares = eta.softmax(-1)
        rest = self.sums[torch.randint(len(self.sums), (len(eta),), generator=generator)].round()
        rows, left = torch.zeros_like(shares), torch.ones_like(rest)
        for column, share in zip(rows.T, shares.T, strict=True):
            column += torch.binomial(rest, (share / left).nan_to_num(0.0).clamp(0, 1), generator=generator)
            rest, left = rest - column, (left - share).clamp_min(0)
        rows[:, -1] += rest  # what rounding left
        return rows

    def mean_of_gaps(self, eta: Tensor, x: Tensor) -> Tensor:
        """So many that they have their share beside what is there."""
        shares = eta.softmax(-1)
        there = (shares * ~x.isnan()).sum(-1, keepdim=True)
        return x.nansum(-1, keepdim=True) * shares / there.clamp_min(torch.finfo(there.dtype).tiny)

    def draw_gaps(self, eta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Poisson draws of that mean."""
        return torch.poisson(self.mean_of_gaps(eta, x), generator=generator)


class Categorical(Likelihood):
    r"""One category of several, as columns of which one is 1, with the decoder's output as their logits.

    .. math:: \log p(x | \eta) = \sum_k x_k \big(\eta_k - \log \sum_l e^{\eta_l}\big)

    There may be several such blocks of columns, one after the other, of these ``sizes``; without sizes all are one.

    Shape
    -----
    eta, x: (..., n_features) -> log_prob: (..., n_features), of each column what it adds.
    """

    link = "log"
    places: Tensor

    def __init__(self, n_features: int, sizes: Sequence[int] | None = None) -> None:
        super().__init__(n_features)
        sizes = [n_features] if sizes is None else list(sizes)
        alike: dict[int, list[Tensor]] = {}
        for block in torch.split(torch.arange(n_features), sizes):
            alike.setdefault(len(block).bit_length(), []).append(block)
        self.n_groups, slots = len(alike), []
        for group, blocks in enumerate(alike.values()):
            slots.append(nn.utils.rnn.pad_sequence(blocks, batch_first=True, padding_value=n_features))
            self.register_buffer(f"slots_{group}", slots[-1], persistent=False)
        places = torch.cat([of_group.flatten() for of_group in slots]).argsort()[:n_features]
        self.register_buffer("places", places, persistent=False)

    def _of_blocks(self, function: Callable[[Tensor], Tensor], eta: Tensor) -> Tensor:
        """(..., n_features) -> (..., n_features), by a function of blocks (..., n_blocks, size).

        Blocks of like sizes go side by side, padded to the largest of them.
        """
        eta = nn.functional.pad(eta, (0, 1), value=-math.inf)
        groups = (eta[..., self.get_buffer(f"slots_{group}")] for group in range(self.n_groups))
        return torch.cat([function(blocks).flatten(-2) for blocks in groups], -1)[..., self.places]

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        return x * self._of_blocks(lambda blocks: blocks.log_softmax(-1), eta)

    def mean(self, eta: Tensor) -> Tensor:
        return self._of_blocks(lambda blocks: blocks.softmax(-1), eta)

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        def one_hot(blocks: Tensor) -> Tensor:
            chances = blocks.softmax(-1).flatten(0, -2)
            drawn = chances.multinomial(1, generator=generator)
            return torch.zeros_like(chances).scatter_(1, drawn, 1.0).reshape(blocks.shape)

        return self._of_blocks(one_hot, eta)


class Mixed(Likelihood):
    r"""Columns of several likelihoods: the sum of their log-densities.

    The first numbers of all columns come first in eta, as everywhere, then the second ones of parts that have such.

    Parameters
    ----------
    parts : sequence of Likelihood
        Of the columns from left to right.

    Shape
    -----
    eta: (..., n_outputs), x: (..., n_features) -> log_prob: (..., n_features).
    """

    link = "mixed"

    def __init__(self, parts: Sequence[Likelihood]) -> None:
        widths = [len(part.varies) for part in parts]
        super().__init__(sum(widths))
        self.parts = nn.ModuleList(parts)
        self.widths = widths
        self.further = [part.n_outputs - width for part, width in zip(parts, widths, strict=True)]

    @property
    def n_outputs(self) -> int:
        return sum(self.widths) + sum(self.further)

    def _split(self, eta: Tensor) -> list[tuple[Likelihood, Tensor]]:
        numbers = torch.split(eta, [*self.widths, *self.further], -1)
        pairs = zip(numbers[: len(self.widths)], numbers[len(self.widths) :], strict=True)
        both = (torch.cat(pair, -1) if pair[1].shape[-1] else pair[0] for pair in pairs)
        return list(zip(self.parts, both, strict=True))  # type: ignore[arg-type]

    def log_prob(self, eta: Tensor, x: Tensor) -> Tensor:
        columns = torch.split(x, self.widths, -1)
        pairs = zip(self._split(eta), columns, strict=True)
        return torch.cat([part.log_prob(numbers, entries) for (part, numbers), entries in pairs], -1)

    def mean(self, eta: Tensor) -> Tensor:
        return torch.cat([part.mean(numbers) for part, numbers in self._split(eta)], -1)

    def draw(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([part.draw(numbers, generator) for part, numbers in self._split(eta)], -1)

    def alone(self, mean: Tensor, variance: Tensor, n_rows: int) -> Tensor:
        moments = zip(torch.split(mean, self.widths), torch.split(variance, self.widths), strict=True)
        etas = [part.alone(*of_part, n_rows) for part, of_part in zip(self.parts, moments, strict=True)]  # type: ignore[operator]
        pairs = [(eta[:width], eta[width:]) for eta, width in zip(etas, self.widths, strict=True)]
        return torch.cat([half for halves in zip(*pairs, strict=True) for half in halves])


class Defence(nn.Module):
    r"""A density that leaves a share to simpler models, so that no row is much less likely than under these.

    .. math:: \log \big((1 - \varepsilon)\, p(x) + \varepsilon\, p_0(x)\big)

    A defensive mixture (Hesterberg 1995); a lower bound of log p(x) makes one of the whole. The share is zero until
    someone sets it. Subclasses give ``log_prob`` and ``draw``, and say how many numbers of a code draws take.

    Shape
    -----
    bound: (n,), x: (n, n_features), given: (n, n_given) -> (n,); draw: z (n, n_components), given -> (n, n_features).
    """

    n_components: int
    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.zeros(()))

    def log_prob(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def draw(self, z: Tensor, generator: torch.Generator, given: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def forward(self, bound: Tensor, x: Tensor, given: Tensor | None = None) -> Tensor:
        return torch.logaddexp(torch.log1p(-self.share) + bound, self.share.log() + self.log_prob(x, given))


class IndependentColumns(Defence):
    """The defence by columns that have nothing to do with each other, nor with what is given.

    Parameters
    ----------
    likelihood : Likelihood
        One of its own, which does not learn.
    """

    n_components = 0
    eta: Tensor

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood.requires_grad_(False)
        self.register_buffer("eta", torch.zeros(likelihood.n_outputs))

    @torch.no_grad()
    def start_at(self, mean: Tensor, variance: Tensor, varies: Tensor, n_rows: int) -> None:
        """Take columns of this mean and variance, of so many rows, without a share as yet."""
        self.likelihood.varies.copy_(varies)
        self.eta.copy_(self.likelihood.alone(mean, variance, n_rows))
        self.share.zero_()

    def log_prob(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        return self.likelihood(self.eta, x)

    def draw(self, z: Tensor, generator: torch.Generator, given: Tensor | None = None) -> Tensor:
        """As many rows as there are codes, of no numbers."""
        return self.likelihood.draw(self.eta.to(z).expand(len(z), -1), generator)


class LinearModels(Defence):
    r"""The defence by linear models, each as likely.

    .. math:: p_0(x) = \textstyle\frac1M \sum_m p_m(x)

    with p_m the density of x = W z + noise, z standard normal, noise N(0, diag psi). W' psi^-1 W must be diagonal; then
    the posterior of z has the mean :math:`\hat z = V W' \Psi^{-1} x` and the variances
    :math:`V = (I + W' \Psi^{-1} W)^{-1}`, and

    .. math:: \log p_m(x) = -\tfrac12 \Big( \sum_j \frac{(x - W \hat z)_j^2}{\psi_j} + \sum_k \hat z_k^2
        + \sum_j \log (2 \pi \psi_j) - \sum_k \log V_{kk} \Big)

    What is given, of ``n_given`` columns, shifts rows by a linear map.
    """

    loadings: Tensor
    shift: Tensor
    noise: Tensor
    varies: Tensor

    def __init__(self, n_models: int, n_features: int, n_components: int, n_given: int = 0) -> None:
        super().__init__()
        self.n_components = n_components
        self.register_buffer("loadings", torch.zeros(n_models, n_features, n_components))
        self.register_buffer("shift", torch.zeros(n_given, n_features))
        self.register_buffer("noise", torch.ones(n_models, n_features))
        self.register_buffer("varies", torch.ones(n_features))

    @torch.no_grad()
    def start_at(self, loadings: Tensor, noise: Tensor, varies: Tensor, shift: Tensor | None = None) -> None:
        """Take these models, without a share as yet."""
        self.loadings.copy_(loadings)
        if shift is not None:
            self.shift.copy_(shift)
        self.noise.copy_(noise)
        self.varies.copy_(varies)
        self.share.zero_()

    def log_prob(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """Log-density of rows, of what they are not lacking."""
        x = x if given is None else x - given @ self.shift
        counted = self.varies
        if has_gaps(x):  # precisions of rows differ, and are not diagonal
            codes = [given_observed(x, *model) for model in zip(self.loadings, self.noise, strict=True)]
            z = torch.stack([mean for mean, _ in codes])
            log_precision = 2 * torch.stack([factor.diagonal(dim1=1, dim2=2).log().sum(1) for _, factor in codes])
            counted, x = counted * ~x.isnan(), torch.where(x.isnan(), 0, x)
        else:
            weighted = self.loadings / self.noise[:, :, None]
            precision = 1 + (self.loadings * weighted).sum(1, keepdim=True)
            z, log_precision = x @ (weighted / precision), precision.log().sum(2)
        entries = (x - z @ self.loadings.mT).square() / self.noise[:, None] + (2 * math.pi * self.noise[:, None]).log()
        twice = (entries * counted).sum(2) + z.square().sum(2) + log_precision
        return (-0.5 * twice).logsumexp(0) - math.log(len(self.loadings))

    def draw(self, z: Tensor, generator: torch.Generator, given: Tensor | None = None) -> Tensor:
        """A row for each code."""
        model = torch.randint(len(self.loadings), (len(z),), generator=generator)
        noise = torch.randn((len(z), len(self.varies)), generator=generator, dtype=z.dtype)
        rows = self.noise[model].sqrt() * noise
        for m, loadings in enumerate(self.loadings):
            rows[model == m] += z[model == m] @ loadings.T
        return rows if given is None else rows + given @ self.shift


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "multinomial": Multinomial,
    "categorical": Categorical,
}
