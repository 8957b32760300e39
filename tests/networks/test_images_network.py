"""Networks of flattened images: patches of four by four pixels, padded or cut at the edge."""

import pytest
import torch
from network_cases import normal

from skae.networks.images import ImageDecoder, ImageEncoder


def test_an_image_is_read_in_patches_of_four_by_four_with_zeros_over_its_edge(generator):
    encoder, x = ImageEncoder((2, 5, 7), [6, 3], "gelu", generator).double(), normal(generator, 4, 70)
    convolution, first = encoder.features[2], encoder.dense[0]
    assert convolution.weight.shape == (32, 32, 3, 3)
    padded = torch.zeros(4, 2, 8, 8).double()
    padded[:, :, :5, :7] = x.reshape(4, 2, 5, 7)
    patches = padded.reshape(4, 2, 2, 4, 2, 4).permute(0, 1, 3, 5, 2, 4).reshape(4, 32, 2, 2)
    seen = torch.nn.functional.gelu(convolution(patches)).flatten(1)
    torch.testing.assert_close(encoder(x), encoder.dense[2](torch.nn.functional.gelu(first(seen))))
    encoder.silence()
    assert not encoder(x).any()


def test_an_image_is_written_in_patches_and_cut_at_its_edge(generator):
    decoder, z = ImageDecoder((2, 5, 9), [3, 6], 2, "gelu", generator).double(), normal(generator, 4, 3)
    features = decoder.dense(z).reshape(4, 32, 2, 3)
    pixels = torch.nn.Sequential(*list(decoder.convolutions)[:-1])(features)
    whole = pixels.reshape(4, 4, 4, 4, 2, 3).permute(0, 1, 4, 2, 5, 3).reshape(4, 4, 8, 12)
    torch.testing.assert_close(decoder(z), whole[:, :, :5, :9].flatten(1))
    decoder.silence()
    assert not decoder(z).any()


def test_convolutions_keep_height_and_width(generator):
    convolutions = ImageDecoder((2, 5, 9), [3, 6], 2, "gelu", generator).convolutions
    for i, size in ((1, 3), (3, 1)):
        assert convolutions[i].kernel_size == (size, size)
        assert convolutions[i](torch.ones(4, 32, 7, 9)).shape[2:] == (7, 9)


@pytest.mark.parametrize(("side", "n_patches"), [(4, 1), (5, 2), (8, 2)])
def test_as_many_patches_as_cover_the_image(side, n_patches, generator):
    encoder = ImageEncoder((1, side, 4), [3], "gelu", generator)
    assert encoder.dense[0].in_features == 32 * n_patches
    assert ImageDecoder((1, side, 4), [3], 1, "gelu", generator)(torch.ones(2, 3)).shape == (2, 4 * side)
