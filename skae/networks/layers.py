"""Dense layers and networks with initial weights from a generator, one for each level if there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}
# Maps the gradient by an output to that by the input; and a function that returns one with its output.
Pullback = Callable[[Tensor], Tensor]
Differentiable = Callable[[Tensor], tuple[Tensor, Pullback]]


def linear(n_in: int, n_out: int, generator: torch.Generator, fan_in: int | None = None) -> nn.Linear:
    """Build a linear layer, weights and bias uniform within +-1 / sqrt(n_in): torch's own initialisation.

    ``fan_in`` replaces n_in if some inputs are always zero.
    """
    layer = nn.Linear(n_in, n_out, device="meta")  # does not use the global generator
    initialise(layer, fan_in or n_in, generator)
    return layer


def initialise(layer: nn.Module, fan_in: int, generator: torch.Generator) -> None:
    """Replace the parameters of a layer on the meta device by values drawn from the generator."""
    bound = fan_in**-0.5
    for name, parameter in list(layer.named_parameters()):
        values = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        setattr(layer, name, nn.Parameter(values))


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute weight @ x + bias for each sample; with stacked weights, for the samples of each level."""
    if weight.ndim == 2:
        return nn.functional.linear(x, weight, bias)
    return torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)


def differentiable(module: nn.Module) -> Differentiable:
    """Return a module as a function that also returns how to map gradients back.

    Layers with a formula use it, which takes a third of the time of torch's autograd for one sample. A module may have
    a method ``differentiable``. The weights are those of the module now.
    """
    own: Callable[[Any], Differentiable] = getattr(type(module), "differentiable", _by_autograd)
    return _FORMULAS.get(type(module), own)(module)


def _by_autograd(module: nn.Module) -> Differentiable:
    def apply(x: Tensor) -> tuple[Tensor, Pullback]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            out = module(leaf).requires_grad_()  # it may not depend on x

        @torch.enable_grad()
        def back(gradient: Tensor) -> Tensor:  # of a sum: to pass a gradient makes torch import sympy
            return torch.autograd.grad((out * gradient).sum(), leaf, materialize_grads=True)[0]

        return out.detach(), back

    return apply


def _linear_map(layer: Any) -> Differentiable:
    weight, bias = layer.weight, layer.bias
    return lambda x: (affine(x, weight, bias), lambda gradient: gradient @ weight)


def _activation(function: Callable[[Tensor], Tensor], backward: Callable[[Tensor, Tensor], Tensor]) -> Any:
    return lambda layer: lambda x: (function(x), lambda gradient: backward(gradient, x))


class StackedLinear(nn.Module):
    """Linear layers of all levels, computed in one product.

    Shape
    -----
    (n_levels, n, n_in) -> (n_levels, n, n_out)
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.in_features, self.out_features = layers[0].in_features, layers[0].out_features
        self.weight = nn.Parameter(torch.stack([layer.weight for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias for layer in layers]))

    def at(self, level: int) -> nn.Linear:
        """Return the layer of one level, sharing these weights."""
        layer = nn.Linear(self.in_features, self.out_features, device="meta")
        layer.weight, layer.bias = nn.Parameter(self.weight[level]), nn.Parameter(self.bias[level])
        return layer

    def unpenalised(self) -> Iterator[nn.Parameter]:
        yield self.bias

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


def linear_at_levels(
    fan_ins: Sequence[int], n_in: int, n_out: int, generator: torch.Generator
) -> nn.Linear | StackedLinear:
    """Build a linear layer for each level; ``fan_ins`` are the numbers of inputs that are not always zero."""
    layers = [linear(n_in, n_out, generator, fan_in) for fan_in in fan_ins]
    return layers[0] if len(layers) == 1 else StackedLinear(layers)


class MLP(nn.Sequential):
    """Linear layers with an activation between any two.

    Parameters
    ----------
    widths : sequence of int
        Input, hidden and output widths.
    activation : str
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights.
    levels : sequence of int, default=()
        Number of inputs at each level that are not always zero; empty for a single network.
    gain : float, default=1.0
        Factor of the initial weights and biases of the first layer.

    Shape
    -----
    (n, widths[0]) -> (n, widths[-1]); with several levels these come before n.

    Examples
    --------
    >>> MLP([3, 8, 2], "relu", torch.Generator())
    MLP(
      (0): Linear(in_features=3, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str,
        generator: torch.Generator,
        levels: Sequence[int] = (),
        gain: float = 1.0,
    ) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            fan_ins = [n_in] * max(1, len(levels)) if layers or not levels else levels
            layers += [linear_at_levels(fan_ins, n_in, n_out, generator), ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])
        amplify(self[0], gain)

    def at(self, level: int) -> Headed:
        """Return the network of one level, sharing these weights."""
        layers: list[Any] = list(self)
        layers[::2] = [layer.at(level) for layer in layers[::2]]  # activations are in between
        return Headed(nn.Sequential(*layers[:-1]), layers[-1])

    def differentiable(self) -> Differentiable:
        layers = list(map(differentiable, self))

        def apply(x: Tensor) -> tuple[Tensor, Pullback]:
            backs = []
            for layer in layers:
                x, back = layer(x)
                backs.append(back)
            return x, lambda gradient: reduce(lambda g, back: back(g), reversed(backs), gradient)

        return apply

    def silence(self) -> None:
        """Set the last layer, and so the output, to zero."""
        set_to_zero(self[-1])


class Gated(nn.Module):
    """gate * module(x) with one gate per output, zero at the start, so that the initial correction is zero.

    Each level has its own gates; all levels share the module.

    Shape
    -----
    (n, n_in) -> (n, n_out); with several levels these come before n.
    """

    def __init__(self, module: nn.Module, n_out: int, n_levels: int = 1) -> None:
        super().__init__()
        self.module = module
        self.gate = nn.Parameter(torch.zeros((n_levels, n_out) if n_levels > 1 else n_out))

    def at(self, level: int) -> Gated:
        """Return the gated module of one level, sharing the module and these gates."""
        gated = Gated(self.module, self.gate.shape[-1])
        gated.gate = nn.Parameter(self.gate[level])
        return gated

    def silence(self) -> None:
        """Close the gates."""
        nn.init.zeros_(self.gate)

    def unpenalised(self) -> Iterator[nn.Parameter]:
        yield self.gate

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate if self.gate.ndim == 1 else self.gate.unsqueeze(-2)
        return gate * over_levels(self.module, x)


class Headed(nn.Sequential):
    """head(features(x)): a linear layer on top of a module of any width.

    With a `StackedLinear` head each level has its own head; all levels share the module.

    Shape
    -----
    (n, n_in) -> (n, head.out_features); with several levels these come before n.
    """

    def __init__(self, features: nn.Module, head: nn.Linear | StackedLinear) -> None:
        super().__init__(features, head)

    def at(self, level: int) -> Headed:
        """Return the network of one level, sharing the module and this head."""
        return Headed(self[0], self[1].at(level))  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        features, head = self
        return head(over_levels(features, x))

    def silence(self) -> None:
        """Set the head, and so the output, to zero."""
        set_to_zero(self[-1])


def over_levels(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a module to the samples of all levels: (..., n, n_in) -> (..., n, n_out)."""
    return module(x) if x.ndim == 2 else module(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


@torch.no_grad()
def amplify(layer: nn.Module, gain: float) -> None:
    """Multiply all parameters of a layer by a factor."""
    for parameter in layer.parameters():
        parameter.mul_(gain)


def set_to_zero(layer: nn.Module) -> None:
    """Set all parameters of a layer to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


# How layers of skae's own networks map gradients back; user's modules may have hooks and are left to autograd.
_FORMULAS: dict[Any, Any] = {
    nn.Linear: _linear_map,
    StackedLinear: _linear_map,
    nn.SiLU: _activation(nn.functional.silu, torch.ops.aten.silu_backward.default),
    nn.GELU: _activation(nn.functional.gelu, torch.ops.aten.gelu_backward.default),
}
