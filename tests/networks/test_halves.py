"""Encoders and decoders built from what is asked for: widths, images, masks, context, levels and own modules."""

import pytest
import torch
from network_cases import Function, normal, spec

from skae.networks.corrected import CorrectedLinear
from skae.networks.halves import build_own
from skae.networks.images import ImageDecoder, ImageEncoder
from skae.networks.layers import Gated, Headed, StackedLinear, linear_at_levels
from skae.networks.model import Pace


class Schedule:
    """A model that multiplies the initial weights of first layers by three."""

    @classmethod
    def pace(cls, of):
        return Pace(gain=3.0)


class Gates(Schedule):
    """A model that puts own modules behind gates."""

    takes_any_width = False

    @staticmethod
    def wrap_own(module, width, n_out, n_levels, generator):
        return Gated(module, n_out, n_levels)


class Heads(Schedule):
    """A model that puts heads on own modules of any width."""

    takes_any_width = True

    @staticmethod
    def wrap_own(module, width, n_out, n_levels, generator):
        return Headed(module, linear_at_levels([width] * n_levels, width, n_out, generator))


def layer(n_in, n_out):
    return torch.nn.Linear(n_in, n_out)


def narrow(n_in, n_out):
    return torch.nn.Linear(n_in, 3)


def halves(of, n_out=10, own=Gates):
    generator = torch.Generator().manual_seed(of.seed)
    return of.build_encoder(2 * of.n_components, generator, own), of.build_decoder(n_out, generator, own)


@pytest.mark.parametrize(
    ("parameters", "levels", "is_raw", "is_masked"),
    [
        ({}, (6,), False, True),
        ({"ordered": True}, (1, 2, 4, 6), False, True),
        ({"start": "random"}, (6,), False, True),
        ({"start": "random", "decoder": layer}, (6,), True, True),
        ({"start": "random", "encoder": layer}, (6,), True, False),
        ({"encoder": layer, "decoder": layer}, (6,), False, False),
    ],
)
def test_parameters_say_what_a_network_needs(parameters, levels, is_raw, is_masked):
    of = spec(n_components=6, has_missing=True, **parameters)
    assert (of.levels, of.is_raw, of.is_masked) == (levels, is_raw, is_masked)
    assert not spec(n_components=6, **parameters).is_masked


def widths(module):
    return [m.out_features for m in module.modules() if isinstance(m, torch.nn.Linear | StackedLinear)]


def test_the_decoder_has_the_widths_of_the_encoder_backwards():
    encoder, decoder = halves(spec())
    assert widths(encoder) == [4, 7, 6, 4]  # the path first
    assert widths(decoder) == [10, 6, 7, 10]
    encoder, decoder = halves(spec(hidden_layer_sizes=()))
    assert encoder.correction is decoder.correction is None
    encoder, decoder = halves(spec(n_features=8, feature_shape=(1, 2, 4), hidden_layer_sizes=()), n_out=16)
    assert widths(encoder) == [4, 4]
    assert isinstance(encoder.correction, ImageEncoder)
    assert isinstance(decoder.correction, ImageDecoder)
    assert decoder(torch.ones(3, 2)).shape == (3, 16)
    assert encoder(torch.ones(3, 8)).shape == (3, 4)


@pytest.mark.parametrize("parameters", [{}, {"ordered": True}, {"n_features": 8, "feature_shape": (1, 2, 4)}])
def test_first_layers_alone_start_at_larger_weights(parameters):
    kinds = torch.nn.Linear | torch.nn.Conv2d | StackedLinear
    for half in halves(spec(**parameters)):
        layers = [m for m in half.correction.modules() if isinstance(m, kinds)]
        fan_ins = [layer.weight[0].numel() if layer.weight.ndim == 4 else layer.in_features for layer in layers]
        largest = [float(layer.weight.detach().abs().max()) * n**0.5 for layer, n in zip(layers, fan_ins, strict=True)]
        assert 2 < largest[0] <= 3.001 * 2**0.5  # the first level of two has half of the inputs
        assert largest[1] <= 1.001


@pytest.mark.parametrize("has_missing", [False, True])
def test_context_and_a_mask_are_further_columns(has_missing):
    encoder, decoder = halves(spec(n_context=3, has_missing=has_missing))
    assert encoder.path.in_features == 8 * (1 + has_missing)
    assert decoder.path.in_features == 5
    own_encoder, _ = halves(spec(n_context=3, has_missing=has_missing, encoder=layer))
    assert own_encoder.path.in_features == 8  # own modules are given no mask


@pytest.mark.parametrize("widths", [(), (7,)])
def test_a_decoder_has_a_map_for_each_of_several_levels(widths):
    of = spec(n_components=4, n_context=3, hidden_layer_sizes=widths, ordered=True)
    encoder, decoder = halves(of)
    assert type(encoder.path) is torch.nn.Linear
    assert decoder.path.weight.shape == (3, 10, 7)
    largest = decoder.path.weight.detach().abs().amax((1, 2)) * torch.tensor([4, 5, 7]) ** 0.5
    assert ((largest > 0.8) & (largest <= 1)).all()  # by the columns that are ever nonzero
    assert decoder(torch.ones(3, 2, 7)).shape == (3, 2, 10)
    assert decoder.at(1)(torch.ones(2, 7)).shape == (2, 10)
    one, _ = halves(spec(n_components=1, ordered=True))[::-1]
    assert type(one.path) is torch.nn.Linear


@pytest.mark.parametrize("kind", ["none", "layers", "image"])
def test_an_ignored_mask_counts_for_nothing_and_the_other_columns_as_before(kind, generator):
    options = {
        "none": {"hidden_layer_sizes": ()},
        "layers": {"hidden_layer_sizes": (6, 5)},
        "image": {"hidden_layer_sizes": (6,), "feature_shape": (1, 4, 4)},
    }[kind]
    masked, _ = halves(spec(n_features=16, has_missing=True, **options), n_out=16)
    if kind == "image":
        options = options | {"feature_shape": (2, 4, 4)}
    plain, _ = halves(spec(n_features=32, **options), n_out=32)  # has the same initial weights
    x, zeros = normal(generator, 9, 16), torch.zeros(9, 16).double()
    masked, plain = masked.double(), plain.double()
    torch.testing.assert_close(masked(torch.cat([x, normal(generator, 9, 16)], 1)), plain(torch.cat([x, zeros], 1)))


def test_own_modules_correct_a_linear_map_or_are_the_network():
    encoder, decoder = halves(spec(encoder=layer, decoder=layer))
    for half in (encoder, decoder):
        assert isinstance(half, CorrectedLinear)
        assert isinstance(half.correction, Gated)
    encoder, decoder = halves(spec(encoder=layer, start="random"))
    assert isinstance(encoder, torch.nn.Linear)  # as it is, with no linear map beside
    assert isinstance(decoder, CorrectedLinear)
    encoder, _ = halves(spec(encoder=narrow, start="random"), own=Heads)
    assert isinstance(encoder, Headed)
    encoder, _ = halves(spec(encoder=narrow), own=Heads)
    assert isinstance(encoder, CorrectedLinear)
    assert (encoder.correction[1].in_features, encoder.correction[1].out_features) == (3, 4)
    of = spec(n_components=4, decoder=layer, ordered=True)
    assert halves(of)[1].correction.gate.shape == (3, 10)


def test_an_own_module_is_seeded_and_leaves_global_generators_alone(generator):
    before = torch.random.get_rng_state()
    one, two = (build_own(layer, 3, 2, torch.Generator().manual_seed(7), "encoder")[0] for _ in range(2))
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, build_own(layer, 3, 2, torch.Generator().manual_seed(8), "encoder")[0].weight)
    assert torch.equal(before, torch.random.get_rng_state())


class InPlace(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x.mul_(2))


def test_an_own_module_does_not_reach_the_samples():
    module, width = build_own(InPlace, 3, 2, torch.Generator(), "encoder")
    x = torch.ones(4, 3)
    module(x)
    assert (x == 1).all()
    assert width == 2


def twice(x):
    return x[:, :2].repeat(2, 1)


def raising(n_in, n_out):
    return torch.nn.Linear(n_in + 1, n_out)


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        (lambda: None, TypeError, r"encoder must be a callable \(n_in, n_out\)"),
        (lambda n_in, n_out: None, TypeError, "must return a torch.nn.Module, got NoneType"),
        (lambda n_in, n_out: torch.nn.Flatten(0), ValueError, r"gives output of shape .6,. for 2 samples.*LazyLinear"),
        (
            lambda n_in, n_out: torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Unflatten(1, (2, 1, 1))),
            ValueError,
            r"\(2, 2, 1, 1\) for 2 samples, not \(2, 2\)\. End it in torch\.nn\.Flatten\(\), which gives \(n, 2\)\.$",
        ),
        (
            lambda n_in, n_out: torch.nn.Unflatten(1, (3, 1)),
            ValueError,
            r"not \(2, 2\)\. End it in torch\.nn\.Flatten\(\), which gives \(n, 3\), and a layer of 2 outputs, such as",
        ),
        (
            lambda n_in, n_out: torch.nn.Linear(n_in, 5),
            ValueError,
            r"\(2, 5\) for 2 samples, not \(2, 2\)\. End it in a layer of 2 outputs, such as",
        ),
        (lambda n_in, n_out: torch.nn.LSTM(n_in, n_out), TypeError, "returns a tensor, got tuple"),
        (lambda n_in, n_out: Function(torch.sum), ValueError, r"shape \(\) for 2 samples, not \(2, 2\)"),
        (lambda n_in, n_out: Function(twice), ValueError, "gives output of shape .4, 2. for 2 samples"),
        (raising, ValueError, "cannot take samples of 3 columns, in float32 and in float64"),
    ],
)
def test_an_own_module_that_does_not_fit_is_named(factory, error, message):
    with pytest.raises(error, match=message):
        build_own(factory, 3, 2, torch.Generator(), "encoder")


def test_an_own_module_is_of_float32_and_a_copy():
    mine = torch.nn.Linear(3, 2).double()
    module, _ = build_own(lambda n_in, n_out: mine, 3, 2, torch.Generator(), "encoder")
    assert module.weight.dtype == torch.float32
    assert module is not mine


def test_an_own_module_may_have_any_width_under_a_head():
    _, width = build_own(lambda n_in, _: layer(n_in, 5), 3, 2, torch.Generator(), "encoder", any_width=True)
    assert width == 5
    with pytest.raises(
        ValueError, match=r"\(2, 3, 1\) for .* End it in torch\.nn\.Flatten\(\), which gives \(n, 3\)\.$"
    ):
        build_own(lambda n_in, _: torch.nn.Unflatten(1, (3, 1)), 3, 2, torch.Generator(), "encoder", any_width=True)
