"""Convolutional networks for samples that are flattened images."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skae.networks.layers import ACTIVATIONS, MLP, amplify, initialise, set_to_zero

# Height and width of a patch in pixels, and channels of the convolutions over patches.
_PATCH, _CHANNELS = 4, 32


def _convolution(n_in: int, n_out: int, kernel_size: int, generator: torch.Generator) -> nn.Conv2d:
    """Build a convolution that keeps height and width, initialised as in `linear`."""
    layer = nn.Conv2d(n_in, n_out, kernel_size, padding=kernel_size // 2, device="meta")
    initialise(layer, n_in * kernel_size**2, generator)
    return layer


def _grid_of(feature_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the numbers of patches along height and width of an image that is padded at its edges."""
    _, height, width = feature_shape
    return -(-height // _PATCH), -(-width // _PATCH)


class ImageEncoder(nn.Module):
    """Encoder of flattened images: a convolution over patches, then dense layers.

    The image is padded with zeros and cut into patches of 4 x 4 pixels. The pixels of a patch are the input channels of
    a 3 x 3 convolution over patches. Its 32 output channels, of all patches, are the input of the dense layers.

    Parameters
    ----------
    feature_shape : tuple of int
        Channels, height and width of the image.
    widths : sequence of int
        Widths of the dense layers, the output last.
    activation : str
        A key of ``ACTIVATIONS``; the activation follows every layer but the last.
    generator : torch.Generator
        Source of the initial weights.
    n_images : int, default=1
        Number of images per sample: 2 if one is the mask of missing values.
    n_context : int, default=0
        Number of columns of context after each image, which the dense layers get.
    gain : float, default=1.0
        Factor of the initial weights and biases of the convolution.

    Shape
    -----
    (n, n_images * (channels * height * width + n_context)) -> (n, widths[-1])
    """

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        widths: Sequence[int],
        activation: str,
        generator: torch.Generator,
        n_images: int = 1,
        n_context: int = 0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        channels, height, width = feature_shape
        self.seen = n_images * channels, height, width
        self.parts = channels * height * width, n_context
        n_down, n_across = _grid_of(feature_shape)
        self.features = nn.Sequential(
            nn.ZeroPad2d((0, -width % _PATCH, 0, -height % _PATCH)),
            nn.PixelUnshuffle(_PATCH),
            _convolution(self.seen[0] * _PATCH**2, _CHANNELS, 3, generator),
            ACTIVATIONS[activation](),
            nn.Flatten(),
        )
        amplify(self.features[2], gain)
        n_features = _CHANNELS * n_down * n_across + n_images * n_context
        self.dense = MLP([n_features, *widths], activation, generator)

    def forward(self, x: Tensor) -> Tensor:
        if not self.parts[1]:
            return self.dense(self.features(x.reshape(x.shape[0], *self.seen)))
        images, context = x.unflatten(1, (-1, sum(self.parts))).split(self.parts, dim=2)
        features = self.features(images.reshape(images.shape[0], *self.seen))
        return self.dense(torch.cat([features, context.flatten(1)], dim=1))

    def silence(self) -> None:
        """Set the last layer, and so the output, to zero."""
        self.dense.silence()


class ImageDecoder(nn.Module):
    """Decoder to flattened images: dense layers, then convolutions over patches.

    The dense layers end in 32 channels for each patch of 4 x 4 pixels. A 3 x 3 convolution mixes neighbouring patches,
    and a 1 x 1 convolution computes the pixels of each patch (sub-pixel convolution, Shi et al. 2016,
    arXiv:1609.05158). Pixels beyond the image's edge are dropped.

    Parameters
    ----------
    feature_shape : tuple of int
        Channels, height and width of the image.
    widths : sequence of int
        Widths of the dense layers, the input first.
    n_images : int
        Number of images per sample, such as a mean and a variance.
    activation, generator
        As for `ImageEncoder`.
    levels : sequence of int, default=()
        As for `MLP`: each level has its own dense layers, and all levels share the convolutions.
    gain : float, default=1.0
        Factor of the initial weights and biases of the first dense layer.

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
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.feature_shape = feature_shape
        self.grid = _grid_of(feature_shape)
        n_features = _CHANNELS * self.grid[0] * self.grid[1]
        self.dense = MLP([*widths, n_features], activation, generator, levels, gain)
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
