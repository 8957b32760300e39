"""Halves of a network, an encoder or a decoder, built from what a user asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skae._torch import no_gradients, seeded_globals
from skae.networks.corrected import CorrectedLinear
from skae.networks.images import ImageDecoder, ImageEncoder
from skae.networks.layers import MLP, linear_at_levels

Factory = Callable[[int, int], nn.Module]
# From a user's factory, the widths of its input and output, a generator and the number of levels.
OwnCorrection = Callable[[Factory, int, int, torch.Generator, str, int], nn.Module]


@dataclass(frozen=True)
class NetworkSpec:
    """What a network is built from.

    Attributes
    ----------
    n_features, n_components, n_context : int
        Columns of a sample as the network sees it, of a code and of the context.
    levels : tuple of int
        Sizes of codes that have a decoder each, increasing; ``(n_components,)`` if the components are in no order.
    widths : tuple of int
        The encoder's hidden widths; the decoder has them backwards.
    activation : str
    feature_shape : tuple of int or None
        Channels, height and width, if samples are images.
    encoder, decoder : callable (n_in, n_out) -> nn.Module, or None
        The user's own halves.
    is_ordered : bool
        Whether the components are in order.
    is_random : bool
        Whether the network starts at random and not at a linear model.
    has_missing : bool
        Whether the encoder is given a mask of missing values.
    seed : int
        Of the initial weights.
    """

    n_features: int
    n_components: int
    n_context: int
    levels: tuple[int, ...]
    widths: tuple[int, ...]
    activation: str
    feature_shape: tuple[int, int, int] | None
    encoder: Factory | None
    decoder: Factory | None
    is_ordered: bool
    is_random: bool
    has_missing: bool
    seed: int

    @property
    def is_raw(self) -> bool:
        """Whether samples reach the network unscaled: own modules that start at random."""
        return self.is_random and (self.encoder is not None or self.decoder is not None)

    @property
    def is_masked(self) -> bool:
        """Whether skae's own encoder is told which values are missing."""
        return self.has_missing and self.encoder is None

    def build_encoder(self, n_out: int, generator: torch.Generator, own: OwnCorrection) -> nn.Module:
        """Build the encoder: (n, n_features + n_context, twice that with a mask) -> (n, n_out)."""
        n_in = (self.n_features + self.n_context) * (2 if self.is_masked else 1)
        if self.encoder is not None:
            return self._with_own(self.encoder, n_in, n_out, generator, own, "encoder", ())
        path = linear_at_levels([n_in], n_in, n_out, generator)
        widths = [*self.widths, n_out]
        if self.feature_shape is not None:
            _, height, width = self.feature_shape
            seen = (n_in // (height * width), height, width)  # the mask is an image, too
            encoder = CorrectedLinear(path, ImageEncoder(seen, widths, self.activation, generator))
        elif self.widths:
            encoder = CorrectedLinear(path, MLP([n_in, *widths], self.activation, generator))
        else:
            encoder = CorrectedLinear(path)
        if self.is_masked:
            _ignore_mask(encoder)
        return encoder

    def build_decoder(self, n_out: int, generator: torch.Generator, own: OwnCorrection) -> nn.Module:
        """Build the decoder, one map for each of several levels: (n, n_components + n_context) -> (n, n_out)."""
        n_in = self.n_components + self.n_context
        levels = [level + self.n_context for level in self.levels] if len(self.levels) > 1 else []
        if self.decoder is not None:
            return self._with_own(self.decoder, n_in, n_out, generator, own, "decoder", levels)
        path = linear_at_levels(levels or [n_in], n_in, n_out, generator)
        widths = [n_in, *self.widths[::-1]]
        if self.feature_shape is not None:
            n_images = n_out // self.n_features
            return CorrectedLinear(
                path, ImageDecoder(self.feature_shape, widths, n_images, self.activation, generator, levels)
            )
        if not self.widths:
            return CorrectedLinear(path)
        return CorrectedLinear(path, MLP([*widths, n_out], self.activation, generator, levels))

    def _with_own(
        self,
        factory: Factory,
        n_in: int,
        n_out: int,
        generator: torch.Generator,
        own: OwnCorrection,
        name: str,
        levels: Sequence[int],
    ) -> nn.Module:
        path = linear_at_levels(levels or [n_in], n_in, n_out, generator)
        correction = own(factory, n_in, n_out, generator, name, max(1, len(levels)))
        return correction if self.is_raw else CorrectedLinear(path, correction)


@torch.no_grad()
def _ignore_mask(encoder: CorrectedLinear) -> None:
    """Set the initial weights of the second half of the inputs, the mask of missing values, to zero.

    Masks of columns without missing values never vary in training, and so never count.
    """
    correction = encoder.correction or nn.Identity()
    layers = [m for m in correction.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in (encoder.path, *layers[:1]):
        layer.weight[:, layer.weight.shape[1] // 2 :] = 0


def build_own(
    factory: Factory, n_in: int, n_out: int, generator: torch.Generator, name: str, *, any_width: bool = False
) -> tuple[nn.Module, int]:
    """Build a user's own module, its initial weights seeded and its output checked; return it and its width."""
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
        except Exception as error:  # whatever a user's code may raise
            raise ValueError(
                f"{name}({n_in}, {n_out}) cannot take rows of {n_in} columns, in float32 and in float64: {error}"
            ) from error
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}({n_in}, {n_out}) must give a tensor, got {type(out).__name__}.")
    if out.ndim != 2 or len(out) != 2 or (out.shape[1] != n_out and not any_width):
        raise ValueError(
            f"{name}({n_in}, {n_out}) gives output of shape {tuple(out.shape)} for 2 rows; its width must be {n_out}, "
            f"not {out.shape[-1] if out.ndim else 'nothing'}."
        )
    if works_in_place:  # it must not reach the samples, which are its input and its target
        module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))
    return module, out.shape[1]


def _tried(module: nn.Module, n_in: int, seed: int) -> tuple[nn.Module, object, bool]:
    """Run a module on two samples in both precisions; return a copy, its output and whether it changes its input."""
    with no_gradients():
        single = torch.randn(2, n_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        double = single.double()
        out = module.eval()(single)  # lazy layers take their shape
        module = copy.deepcopy(module)  # which the user may keep
        copy.deepcopy(module).double().train()(double)
        return module, out, bool(single._version or double._version)
