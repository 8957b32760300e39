"""Encoders and decoders, built from an estimator's parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from skae._torch import no_gradients, seeded_globals
from skae.linear.missing import n_imputation_components
from skae.networks.corrected import CorrectedLinear
from skae.networks.images import ImageDecoder, ImageEncoder
from skae.networks.layers import MLP, linear_at_levels

Factory = Callable[[int, int], nn.Module]


def doubling_levels(n_components: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and n_components.

    Examples
    --------
    >>> doubling_levels(12)
    (1, 2, 4, 8, 12)
    """
    levels = [1]
    while 2 * levels[-1] < n_components:
        levels.append(2 * levels[-1])
    return tuple(levels) if n_components == 1 else (*levels, n_components)


@dataclass(frozen=True)
class NetworkSpec:
    """Specification from which a network is built.

    Attributes
    ----------
    parameters : dict
        The estimator's parameters that determine the network and its objective.
    n_features, n_context, n_components : int
        Columns of a sample as the network sees it, of its context and of a code.
    has_missing : bool
        Whether training or validation samples have missing values.
    seed : int
        Source of all randomness of the fit.
    is_truncated : bool, default=False
        Whether the estimator was truncated and shares the network of a larger one.
    """

    parameters: dict[str, Any]
    n_features: int
    n_context: int
    n_components: int
    has_missing: bool
    seed: int
    is_truncated: bool = False

    @property
    def is_random(self) -> bool:
        """Whether training starts at random weights."""
        return self.parameters["start"] == "random"

    @property
    def is_ordered(self) -> bool:
        """Whether the components are ordered."""
        return self.parameters["ordered"]

    @property
    def levels(self) -> tuple[int, ...]:
        """Sizes of codes that have a decoder each, increasing."""
        return doubling_levels(self.n_components) if self.is_ordered else (self.n_components,)

    @property
    def is_raw(self) -> bool:
        """Whether the network gets unscaled samples: with own modules and a random start."""
        return self.is_random and bool(self.parameters["encoder"] or self.parameters["decoder"])

    @property
    def is_masked(self) -> bool:
        """Whether skae's own encoder gets the mask of missing values."""
        return self.has_missing and self.parameters["encoder"] is None

    def least_weights(self) -> int:
        """Return a lower bound on the number of weights, which a file must have before the network is built."""
        hidden, shape, n = self.parameters["hidden_layer_sizes"], self.parameters["feature_shape"], self.n_components
        n_in = self.n_features // (shape[0] if shape else 1)
        n_halves = [self.parameters["encoder"], self.parameters["decoder"]].count(None)
        dense = sum(a * b for a, b in pairwise([n_in, *hidden, n])) if hidden or shape else 0
        n_columns = self.n_features + self.n_context
        path = (n_halves if self.is_raw else 2) * n_columns * n
        return n_halves * dense + path + n_columns * n_imputation_components(n, n_columns)

    def build_encoder(self, n_out: int, generator: torch.Generator, model: Any) -> nn.Module:
        """Build the encoder: (n, n_features + n_context, twice that with a mask) -> (n, n_out)."""
        n_in = (self.n_features + self.n_context) * (2 if self.is_masked else 1)
        widths, shape = [*self.parameters["hidden_layer_sizes"], n_out], self.parameters["feature_shape"]
        gain = model.pace(self).gain

        def correction(activation: str) -> nn.Module:
            if shape is None:
                return MLP([n_in, *widths], activation, generator, gain=gain)
            return ImageEncoder(shape, widths, activation, generator, 1 + self.is_masked, self.n_context, gain)

        encoder = self._build("encoder", n_in, n_out, (), generator, model, correction)
        if self.is_masked:
            _ignore_mask(encoder)
        return encoder

    def build_decoder(self, n_out: int, generator: torch.Generator, model: Any) -> nn.Module:
        """Build the decoder, one map for each of several levels: (n, n_components + n_context) -> (n, n_out)."""
        n_in = self.n_components + self.n_context
        levels = [level + self.n_context for level in self.levels] if len(self.levels) > 1 else []
        widths, shape = [n_in, *self.parameters["hidden_layer_sizes"][::-1]], self.parameters["feature_shape"]
        gain = model.pace(self).gain

        def correction(activation: str) -> nn.Module:
            if shape is None:
                return MLP([*widths, n_out], activation, generator, levels, gain)
            return ImageDecoder(shape, widths, n_out // self.n_features, activation, generator, levels, gain)

        return self._build("decoder", n_in, n_out, levels, generator, model, correction)

    def _build(
        self,
        name: str,
        n_in: int,
        n_out: int,
        levels: Sequence[int],
        generator: torch.Generator,
        model: Any,
        correction: Callable[[str], nn.Module],
    ) -> Any:
        """Build a linear path with a correction: the user's module, skae's, or none. A raw user's module has no path.

        The class of the model decides whether a module may have any width, and how it is added to the path.
        """
        path = linear_at_levels(levels or [n_in], n_in, n_out, generator)
        if (factory := self.parameters[name]) is not None:
            module, width = build_own(factory, n_in, n_out, generator, name, any_width=model.takes_any_width)
            if self.is_raw and not model.takes_any_width:
                return module
            wrapped = model.wrap_own(module, width, n_out, max(1, len(levels)), generator)
            return wrapped if self.is_raw else CorrectedLinear(path, wrapped)
        if self.parameters["hidden_layer_sizes"] or self.parameters["feature_shape"]:
            return CorrectedLinear(path, correction(self.parameters["activation"]))
        return CorrectedLinear(path)


@torch.no_grad()
def _ignore_mask(encoder: Any) -> None:
    """Set the initial weights of the second half of the inputs, the mask of missing values, to zero.

    Masks of columns without missing values are constant in training, so their weights stay zero.
    """
    correction = encoder.correction or nn.Identity()
    layers = [m for m in correction.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in (encoder.path, *layers[:1]):
        layer.weight[:, layer.weight.shape[1] // 2 :] = 0


def build_own(
    factory: Factory, n_in: int, n_out: int, generator: torch.Generator, name: str, *, any_width: bool = False
) -> tuple[nn.Module, int]:
    """Build a user's module with seeded initial weights and check its output; return it and its output width."""
    seed = int(generator.initial_seed())
    with seeded_globals(seed, torch.device("cpu")):
        try:
            module = factory(n_in, n_out)
        except TypeError as error:
            raise TypeError(f"{name} must be a callable (n_in, n_out) -> torch.nn.Module: {error}") from error
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name}({n_in}, {n_out}) must return a torch.nn.Module, got {type(module).__name__}.")
        try:
            module, out, works_in_place = _tried(module.float(), n_in, seed)  # torch's default dtype may be another
        except Exception as error:  # a user's code may raise anything
            raise ValueError(
                f"{name}({n_in}, {n_out}) cannot take samples of {n_in} columns, in float32 and in float64: {error}"
            ) from error
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}({n_in}, {n_out}) must build a module that returns a tensor, got {type(out).__name__}.")
    if out.ndim != 2 or len(out) != 2 or (out.shape[1] != n_out and not any_width):
        width = out.numel() // 2
        layers = [f"torch.nn.Flatten(), which gives (n, {width})"] if out.ndim > 2 else []
        if not layers or (width != n_out and not any_width):
            layers.append(f"a layer of {n_out} outputs, such as torch.nn.LazyLinear({n_out})")
        raise ValueError(
            f"{name}({n_in}, {n_out}) gives output of shape {tuple(out.shape)} for 2 samples, not (2, {n_out}). End it "
            f"in {', and '.join(layers)}."
        )
    if works_in_place:  # the samples are also the target
        module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))
    return module, out.shape[1]


def _tried(module: nn.Module, n_in: int, seed: int) -> tuple[nn.Module, object, bool]:
    """Run a module on two samples in both precisions; return a copy, its output and whether it modifies its input."""
    with no_gradients():
        single = torch.randn(2, n_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        double = single.double()
        out = module.eval()(single)  # lazy layers take their shape
        module = copy.deepcopy(module)  # the user may keep the original
        copy.deepcopy(module).double().train()(double)
        return module, out, bool(single._version or double._version)
