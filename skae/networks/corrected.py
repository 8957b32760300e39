"""A linear start and a trained correction: the map that encoders and decoders are made of."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import reduce

import torch
from torch import Tensor, nn

from skae.networks.layers import Differentiable, Pullback, StackedLinear, affine, differentiable, set_to_zero

# Bound of a correction's inputs in float32, so that their squares do not overflow.
_LARGEST = 1e15


class CorrectedLinear(nn.Module):
    r"""A_0 x + b_0 + s * (W u + c + f(u)), u = clip(x) / r: a linear start and a trained correction.

    :math:`A_0` and :math:`b_0` are fixed; W and c, the linear ``path``, and f, the nonlinear ``correction``, are
    trained, starting at zero if there is a linear start. ``r`` is the unit of inputs, ``s`` that of outputs. The start
    sets both so that a step of the optimiser, which is equal for all weights, is equal relative to the residuals of the
    start. The inputs of the correction are clipped to the range of the training samples, beyond which the map is
    linear.

    With random initialisation :math:`A_0 = 0`, all units are 1 and there are no bounds.

    With a `StackedLinear` path there is one such map for each level. Each level has its own output units; ranges and
    input units are shared.

    Parameters
    ----------
    path : nn.Linear or StackedLinear
    correction : nn.Module or None
        A module with a method ``silence()``, which makes its output zero, and, with several levels, ``at(level)``,
        which returns the module of one level.

    Shape
    -----
    (n, n_in) -> (n, n_out); with several levels these come before n.
    """

    start_weight: Tensor
    start_bias: Tensor
    per_input: Tensor
    unit: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, path: nn.Linear | StackedLinear, correction: nn.Module | None = None) -> None:
        super().__init__()
        self.path = path
        self.correction = correction
        self.register_buffer("start_weight", torch.zeros_like(path.weight))
        self.register_buffer("start_bias", torch.zeros_like(path.bias))
        self.register_buffer("per_input", torch.ones(path.in_features))
        self.register_buffer("unit", torch.ones_like(path.bias))
        self.register_buffer("low", torch.full((path.in_features,), -torch.inf))
        self.register_buffer("high", torch.full((path.in_features,), torch.inf))

    @torch.no_grad()
    def start_at(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        input_unit: Tensor | float = 1.0,
        unit: Tensor | float = 1.0,
        input_range: Tensor | None = None,
    ) -> None:
        """Make this the linear map ``weight @ x + bias`` (bias zero if None), with these units and input range."""
        self.start_weight.copy_(weight)
        self.start_bias.zero_() if bias is None else self.start_bias.copy_(bias)
        self.per_input.copy_(1 / torch.as_tensor(input_unit, dtype=torch.float64))
        self.unit.copy_(torch.as_tensor(unit, dtype=torch.float64))
        if input_range is not None:
            self.low.copy_(input_range[0])
            self.high.copy_(input_range[1])
        set_to_zero(self.path)
        if self.correction is not None:
            self.correction.silence()  # type: ignore[operator]

    @torch.no_grad()
    def begin_inputs(self, began: Tensor, x: Tensor, spread: Tensor) -> None:
        """Set range and unit of input columns that were constant so far, from x (n, n_features)."""
        n = len(began)
        self.low[:n][began], self.high[:n][began] = x.amin(0)[began], x.amax(0)[began]
        self.per_input[:n][began] = (1 / spread[began]).clamp_max(self.per_input.max())

    def set_outputs(self, found: Tensor, bias: Tensor) -> None:
        """Set the bias of columns of the output that had no values so far, a mask (n_features,)."""
        n = len(found)
        self.start_bias[..., :n][..., found] = bias[found].to(self.start_bias)

    @torch.no_grad()
    def begin_outputs(self, began: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Add a linear map to columns of the output that were constant so far; their unit is that of the others."""
        n = len(began)
        self.start_weight[..., :n, :][..., began, :] += weight
        self.start_bias[..., :n][..., began] += bias
        units = self.unit[..., :n]
        units[..., began] = units[..., ~began].square().mean(-1, keepdim=True).sqrt().nan_to_num(nan=1.0)

    def linear_map(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the linear part, inside the input range."""
        weight = self.start_weight + self.unit.unsqueeze(-1) * self.path.weight * self.per_input
        return weight, self.start_bias + self.unit * self.path.bias

    def unpenalised(self) -> Iterator[nn.Parameter]:
        yield from self.path.parameters()

    def at(self, level: int) -> CorrectedLinear:
        """Return the map of one level, sharing these weights."""
        correction = None if self.correction is None else self.correction.at(level)  # type: ignore[operator]
        one = CorrectedLinear(self.path.at(level), correction)  # type: ignore[operator]
        one.start_weight, one.start_bias = self.start_weight[level], self.start_bias[level]
        one.per_input, one.unit, one.low, one.high = self.per_input, self.unit[level], self.low, self.high
        return one

    def trained_part_in_float32(self) -> CorrectedLinear:
        """Return a copy whose `forward` computes path and correction in float32, as in training, but not the start."""
        other = copy.deepcopy(self)
        other.low.clamp_(min=-_LARGEST)
        other.high.clamp_(max=_LARGEST)
        for part in (other.path, other.correction):
            if part is not None:
                part.float()
        return other

    def forward(self, x: Tensor) -> Tensor:
        u = (x.clamp(self.low, self.high) * self.per_input).to(self.path.weight.dtype)
        change = self.path(u) if self.correction is None else self.path(u) + self.correction(u)
        return self._changed(x, change)

    def _changed(self, x: Tensor, change: Tensor) -> Tensor:
        return affine(x, self.start_weight, self.start_bias) + self.unit.unsqueeze(-2) * change

    def differentiable(self) -> Differentiable:
        """Return the map with its gradients; beyond the range of the inputs those of the correction are zero."""
        parts = [differentiable(part) for part in (self.path, self.correction) if part is not None]
        low, high, per_input, unit = self.low, self.high, self.per_input, self.unit.unsqueeze(-2)

        def apply(x: Tensor) -> tuple[Tensor, Pullback]:
            inside = x.clamp(low, high)
            changes, backs = zip(*[part(inside * per_input) for part in parts], strict=True)

            def back(gradient: Tensor) -> Tensor:
                of_change = unit * gradient
                of_input = reduce(torch.add, [back(of_change) for back in backs]) * per_input
                return gradient @ self.start_weight + of_input.masked_fill(~(inside == x), 0)

            return self._changed(x, reduce(torch.add, changes)), back

        return apply
