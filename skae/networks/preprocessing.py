"""Links and scalers: from samples in units of X to the input of a network, and from its output back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._torch import tensor_of
from skae.data.statistics import column_means, column_moments, observed_columns

# Shrinkage of samples towards the middle of their range before a link with infinite ends: logit gives +-2.9.
_SHRINKAGE = 0.1
# Relative distance up to which a value equals the constant of a column: a few roundings of float32.
EQUAL = 1e-6
# Added to a column's mean count, so that columns without counts keep a positive probability.
_LEAST_COUNT = 1e-4


def _identity(x: Tensor, scaler: Scaler) -> Tensor:
    return x


def _logit(x: Tensor, scaler: Scaler) -> Tensor:
    shrunk = _SHRINKAGE / 2 + (1 - _SHRINKAGE) * x
    return (shrunk / (1 - shrunk)).log()


def _log(x: Tensor, scaler: Scaler) -> Tensor:
    floor = torch.where(scaler.constant, 1.0, _SHRINKAGE * scaler.mean).to(x.dtype)
    return ((1 - _SHRINKAGE) * x + floor).log()


def _log_share(x: Tensor, scaler: Scaler) -> Tensor:
    """Compute log shares of counts in the sum of their sample; missing counts are assumed to have the mean share."""
    shares, missing = scaler.shares.to(x.dtype), x.isnan()
    total = torch.where(missing, 0.0, x).sum(1, keepdim=True)
    observed = torch.where(missing, 0.0, shares).sum(1, keepdim=True)
    of_sample = torch.where(total > 0, observed * x / torch.where(total > 0, total, 1.0), shares)
    return ((1 - _SHRINKAGE) * torch.where(missing, x, of_sample) + _SHRINKAGE * shares).log()


# Maps from units of X to the scale on which the linear path acts, by the ``link`` of losses and likelihoods.
LINKS: dict[str, Callable[[Tensor, Scaler], Tensor]] = {
    "identity": _identity,
    "logit": _logit,
    "log": _log,
    "share": _log_share,
    "indicator": _log,
}
# Scales of the errors of a column's values, where each column has its own scale: counts vary by the root of their mean.
_ERROR_SCALES: dict[str, Callable[[Scaler], Tensor]] = {
    "identity": lambda scaler: scaler.scale,
    "log": lambda scaler: scaler.mean.clamp_min(_LEAST_COUNT).sqrt(),
}


class NewColumns(NamedTuple):
    """Masks of the columns that begin to vary, and of those that have their first values: (n_features,)."""

    began: Tensor
    found: Tensor


class ExactModule(nn.Module):
    """A module whose buffers stay in float64 when the network around it is cast to float32."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ExactModule:
        exact = {name: buffer for name, buffer in self.named_buffers() if buffer.is_floating_point()}
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            setattr(self, name, buffer.to(self.get_buffer(name).device))
        return self


class Scaler(ExactModule):
    """Scaler from units of X to the network's input, and from its output back: (n, n_features), both ways.

    The network sees ``(link(x) - location) / scale``, with one scale for all columns, which keeps PCA's geometry, or
    one per column. Columns that are constant in the training samples are scaled to zero and inverted to the constant,
    those without values to 0, also if samples are raw.

    Parameters
    ----------
    n_features : int
    link : str or tuple of str
        A key of ``LINKS`` for all columns, or one for each.
    per_column : bool
        Whether each column has its own scale.
    is_raw : bool
        Whether samples are left unchanged, both ways.

    Attributes
    ----------
    mean : Tensor of shape (n_features,)
        Mean of the training samples, in units of X.
    location : Tensor of shape (n_features,)
        Mean of the linked training samples.
    scale : Tensor of shape () or (n_features,)
        Root mean square of the centred, linked entries, of all columns or of each; 1 for constant columns. For the link
        "share" it is the inverse root of the column's mean share, since the logarithm of a larger share is known more
        precisely. For the link "indicator" the variance of a scaled column is 1 minus the share of its category, as in
        factor analysis of mixed data (Pages 2004).
    spread : Tensor of shape (n_features,)
        Standard deviation of each linked column, in units of ``scale``.
    constant : Tensor of bool of shape (n_features,)
    observed : Tensor of bool of shape (n_features,)
        Whether a training sample had a value in the column; if not, the column is constant at 0.
    """

    mean: Tensor
    location: Tensor
    scale: Tensor
    spread: Tensor
    constant: Tensor
    observed: Tensor
    value_kinds = {"scale": "positive", "spread": "size"}

    def __init__(
        self,
        n_features: int,
        link: str | tuple[str, ...] = "identity",
        *,
        per_column: bool = False,
        is_raw: bool = False,
    ) -> None:
        super().__init__()
        self.link: str | tuple[str, ...] = "identity" if is_raw else link
        self.per_column, self.is_raw = per_column, is_raw
        zeros = torch.zeros(n_features, dtype=torch.float64)
        for name in ("mean", "location", "spread"):
            self.register_buffer(name, zeros.clone())
        one_scale = is_raw or not (per_column or self.link == "share")
        self.register_buffer("scale", torch.ones(() if one_scale else n_features, dtype=torch.float64))
        self.register_buffer("constant", torch.zeros(n_features, dtype=torch.bool))
        self.register_buffer("observed", torch.ones(n_features, dtype=torch.bool))

    def fit(self, rows: Any, *, with_spread: bool = True) -> Scaler:
        """Learn location and scale from a `RowSource`; ``with_spread=False`` skips the spread of raw samples.

        Raises
        ------
        ValueError
            If the square of the spread overflows or underflows.
        """
        self._set(observed=observed_columns(rows))
        if self.is_raw and not with_spread:
            self._set(mean=column_means(rows))
            return self
        moments = column_moments(rows)
        self._set(mean=moments.mean)
        if self.is_raw:
            self._set(spread=moments.deviation)
            return self
        constant = torch.from_numpy(moments.constant)
        self._set(constant=constant, location=moments.mean)
        deviation = torch.from_numpy(moments.deviation)
        if not self.is_identity:
            linked = column_moments(rows, on_blocks(self, Scaler.linked))
            self._set(location=linked.mean)
            deviation = torch.where(constant, 0.0, torch.from_numpy(linked.deviation))
        self._set_scale(deviation)
        self._check_scale(rows.size)
        return self

    def learn_columns(self, rows: Any) -> NewColumns:
        """Fit the columns that a `RowSource` has values of, if they had none so far, or were constant and differ in it.

        Their moments are those of the new samples and of one sample at the constants of columns that had values.
        """
        waiting = self.spread <= 0 if self.is_raw else self.constant
        if not (waiting.any() or (~self.observed).any()):
            return NewColumns(torch.zeros_like(waiting), torch.zeros_like(waiting))
        other = Scaler(len(waiting), self.link, per_column=self.per_column)
        seen = rows.with_sample(torch.where(self.observed, self.mean, torch.nan).numpy(force=True))
        other.fit(seen)
        x = tensor_of(seen[:-1]).to(waiting.device)  # a column may be missing entirely
        varies = torch.where(x.isnan(), -torch.inf, x).amax(0) > torch.where(x.isnan(), torch.inf, x).amin(0)
        deviation = other.to(waiting.device).spread * other.scale
        began = waiting & (varies | (deviation > EQUAL * other.location.abs()))
        found = other.observed & ~self.observed
        learned = found if self.is_raw else found | began
        for name in ("mean",) if self.is_raw else ("mean", "location", *(["scale"] if self.scale.ndim else [])):
            self.get_buffer(name)[learned] = other.get_buffer(name)[learned]
        self.spread[began] = (deviation / self.scale)[began]
        self.constant[began] = False
        self.observed[found] = True
        return NewColumns(began, found)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            self.get_buffer(name).copy_(torch.as_tensor(value))

    def _set_scale(self, deviation: Tensor) -> None:
        constant = self.constant
        if self.link == "share":
            scale = 1 / (len(constant) * self.shares).sqrt()
            self._set(scale=torch.where(constant, 1.0, scale), spread=torch.where(constant, 0.0, deviation / scale))
        elif self.per_column:
            is_indicator = torch.tensor([link == "indicator" for link in self._links])
            spread = torch.where(constant, 0.0, torch.where(is_indicator, (1 - self.mean).sqrt(), 1.0))
            self._set(scale=torch.where(constant, 1.0, deviation / spread), spread=spread)
        elif not constant.all():
            largest = deviation.max()
            scale = largest * (deviation[~constant] / largest).square().mean().sqrt()
            self._set(scale=scale, spread=deviation / scale)

    def _check_scale(self, size: int) -> None:
        total = self.scale.square() * size
        unusual = (total < torch.finfo(total.dtype).tiny) | (total == torch.inf)
        if unusual.any():
            column = int((torch.where(unusual, self.scale, -1.0) if self.scale.ndim else self.spread).argmax())
            spread = float((self.scale if self.scale.ndim else self.scale * self.spread)[column])
            raise ValueError(
                f"The standard deviation of column {column} of X is {spread:g}, whose square overflows or underflows. "
                "Rescale the column, or all of X, by a constant."
            )

    @property
    def _links(self) -> Sequence[str]:
        """The link of each column."""
        return [self.link] * len(self.mean) if isinstance(self.link, str) else self.link

    @property
    def unit(self) -> float:
        """The scale of all columns, 1 if each has its own."""
        return 1.0 if self.scale.ndim else float(self.scale)

    @property
    def error_scale(self) -> Tensor:
        """Scale of each column's errors, by which columns of different kinds are compared: () or (n_features,)."""
        if not self.scale.ndim or self.link == "share":
            return torch.ones_like(self.scale)
        scales = {link: _ERROR_SCALES.get(link, lambda scaler: torch.ones_like(scaler.mean))(self) for link in LINKS}
        of_columns = torch.stack([scales[link][column] for column, link in enumerate(self._links)])
        return torch.where(self.constant, 1.0, of_columns)

    @property
    def is_identity(self) -> bool:
        """Whether the network's output has the scale of its input, without another link."""
        return self.link == "identity"

    @property
    def shares(self) -> Tensor:
        """Share of each column in all counts, smoothed to be positive: (n_features,)."""
        smoothed = self.mean + _LEAST_COUNT
        return smoothed / smoothed.sum()

    @property
    def output_map(self) -> tuple[Tensor, Tensor]:
        """Scale and centre of the network's output, relative to its scaled input: 1 and 0 for the identity link."""
        if self.is_identity:
            return torch.ones_like(self.scale), torch.zeros_like(self.location)
        return self.scale, self.shares.log() if self.link == "share" else self.location

    @property
    def log_units(self) -> Tensor:
        """Difference of log-densities of scaled samples and in units of X, for each column: (n_features,)."""
        if not self.is_identity:
            return torch.zeros_like(self.mean)
        return torch.where(self.constant, 0.0, self.scale.log())

    def linked(self, x: Tensor) -> Tensor:
        """Apply the link, or each column its own."""
        if isinstance(self.link, str):
            return LINKS[self.link](x, self)
        linked = x
        for name in set(self.link) - {"identity"}:
            columns = torch.tensor([link == name for link in self.link], device=x.device)
            linked = torch.where(columns, LINKS[name](x, self), linked)
        return linked

    def forward(self, x: Tensor) -> Tensor:
        """Scale samples, in their precision."""
        if self.is_raw:
            return x
        scaled = (self.linked(x) - self.location.to(x.dtype)) / self.scale.to(x.dtype)
        return scaled.masked_fill_(self.constant, 0) if self.constant.any() else scaled

    def inverse(self, mean: Tensor) -> Tensor:
        """Return samples in units of X from the network's mean, which is after the inverse link."""
        if self.is_identity and not self.is_raw:
            mean = mean * self.scale.to(mean.dtype) + self.location.to(mean.dtype)
        # A constant column need not have a constant share.
        fixed = ~self.observed if self.is_raw or self.link == "share" else self.constant
        return torch.where(fixed, self.mean.to(mean.dtype), mean) if fixed.any() else mean


def on_blocks(scaler: Scaler, method: Callable[[Scaler, Tensor], Tensor]) -> Callable[[Any], Any]:
    """Return a method of a scaler as a function of blocks of samples, arrays or tensors, each where it is."""
    scaler = copy.deepcopy(scaler)

    def apply(block: Any) -> Any:
        x = tensor_of(block)
        with torch.no_grad():
            result = method(scaler.to(x.device), x)
        return result if torch.is_tensor(block) else result.numpy()

    return apply


class CodeScaler(ExactModule):
    """Scaler from codes of the network to codes in units of X: (n, k) -> (n, k), k up to n_components.

    Attributes
    ----------
    scale : Tensor of shape (n_components,)
    """

    scale: Tensor
    value_kinds = {"scale": "positive"}

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(n_components, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return z * self.scale[: z.shape[1]].to(z.dtype)

    def inverse(self, codes: Tensor) -> Tensor:
        """Return codes of the network from those in units of X."""
        return codes / self.scale[: codes.shape[1]].to(codes.dtype)
