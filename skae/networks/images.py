"""Convolutional networks for samples that are flattened images."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skae.networks.layers import ACTIVATIONS, MLP, initialise, set_to_zero

# Pixels on a side of the patches that images are made of, and channels of the convolutions over these.
_PATCH, _CHANNELS = 4, 32


def _convolution(n_in: int, n_out: int, kernel_size: int, generator: torch.Generator) -> nn.Conv2d:
    """Build a convolution that keeps height and width, initialised as `linear` does it."""
    layer = nn.Conv2d(n_in, n_out, kernel_size, padding=kernel_size // 2, device="meta")
    initialise(layer, n_in * kernel_size**2, generator)
    return layer


def _grid_of(feature_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Count the patches of an image from top to bottom and from left to right, padded at its edges."""
    _, height, width = feature_shape
    return -(-height // _PATCH), -(-width // _PATCH)


class ImageEncoder(nn.Module):
    """Dense layers on a convolution of patches: flat images in, codes out.

    The image is cut into patches of 4 x 4 pixels, padded with zeros at its edges, whose values are the channels of a
    3 x 3 convolution; its 32 channels, of all patches, are the input of the dense layers.

    Parameters
    ----------
    feature_shape : tuple of int
        Channels, height and width of the image.
    widths : sequence of int
        Of the dense layers, the output last.
    activation : str
        A key of ``ACTIVATIONS``, after every layer but the last.
    generator : torch.Generator
        Source of the initial weights.

    Shape
    -----
    (n, channels * height * width) -> (n, widths[-1])
    """

    def __init__(
        self, feature_shape: tuple[int, int, int], widths: Sequence[int], activation: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.feature_shape = feature_shape
        channels, height, width = feature_shape
        n_down, n_across = _grid_of(feature_shape)
        self.features = nn.Sequential(
            nn.ZeroPad2d((0, -width % _PATCH, 0, -height % _PATCH)),
            nn.PixelUnshuffle(_PATCH),
            _convolution(channels * _PATCH**2, _CHANNELS, 3, generator),
            ACTIVATIONS[activation](),
            nn.Flatten(),
        )
        self.dense = MLP([_CHANNELS * n_down * n_across, *widths], activation, generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.features(x.reshape(-1, *self.feature_shape)))

    def silence(self) -> None:
        """Set the last layer, and so the output, to zero."""
        self.dense.silence()


class ImageDecoder(nn.Module):
    """Convolutions on the output of dense layers: codes in, flat images out.

    The dense layers end in 32 channels for each patch of 4 x 4 pixels. A 3 x 3 convolution mixes neighbouring patches,
    and a 1 x 1 convolution gives each patch its pixels (sub-pixel convolution, Shi et al. 2016, arXiv:1609.05158);
    pixels beyond the image's edge are cut off.

    Parameters
    ----------
    feature_shape : tuple of int
        Channels, height and width of the image.
    widths : sequence of int
        Of the dense layers, the input first.
    n_images : int
        Images of this shape that are decoded at once, such as a mean and a variance.
    activation, generator
        As for `ImageEncoder`.
    levels : sequence of int, default=()
        As for `MLP`: dense layers for each level, and convolutions that all levels share.

    Shape
    -----
    (n, widths[0]) -> (n, n_images * channels * height * width); with several levels these come before n.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        widths: Sequence[int],
        n_images: int,
        activation: str,
        generator: torch.Generator,
        levels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.feature_shape = feature_shape
        self.grid = _grid_of(feature_shape)
        n_features = _CHANNELS * self.grid[0] * self.grid[1]
        self.dense = MLP([*widths, n_features], activation, generator, levels)
        self.convolutions = nn.Sequential(
            ACTIVATIONS[activation](),
            _convolution(_CHANNELS, _CHANNELS, 3, generator),
            ACTIVATIONS[activation](),
            _convolution(_CHANNELS, n_images * feature_shape[0] * _PATCH**2, 1, generator),
            nn.PixelShuffle(_PATCH),
        )

    def at(self, level: int) -> ImageDecoder:
        """Return the decoder of one level, sharing these weights."""
        one = copy.copy(self)
        one._modules = self._modules | {"dense": self.dense.at(level)}
        return one

    def forward(self, z: Tensor) -> Tensor:
        features = self.dense(z).reshape(-1, _CHANNELS, *self.grid)
        _, height, width = self.feature_shape
        return self.convolutions(features)[..., :height, :width].reshape(*z.shape[:-1], -1)

    def silence(self) -> None:
        """Set the last layer, and so the output, to zero."""
        set_to_zero(self.convolutions[-2])
