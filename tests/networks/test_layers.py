"""Layers: their initial weights, gates and heads, and how levels share what they are made of."""

import pytest
import torch
from network_cases import LEVELS, fill_at_random, normal

from skae.networks.corrected import CorrectedLinear
from skae.networks.images import ImageDecoder, ImageEncoder
from skae.networks.layers import (
    ACTIVATIONS,
    MLP,
    Gated,
    Headed,
    StackedLinear,
    differentiable,
    linear,
    linear_at_levels,
)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda g: linear(100, 60, g), 100),
        (lambda g: linear(100, 60, g, 4), 4),
        (lambda g: ImageEncoder((3, 8, 8), [1], "gelu", g).features[2], 3 * 16 * 9),
        (lambda g: ImageDecoder((3, 8, 8), [1], 1, "gelu", g).convolutions[1], 32 * 9),
        (lambda g: ImageDecoder((3, 8, 8), [1], 2, "gelu", g).convolutions[3], 32),
    ],
)
def test_weights_start_uniform_within_the_inverse_root_of_the_inputs(layer, fan_in, generator):
    for parameter in layer(generator).parameters():
        scaled, reached = parameter * fan_in**0.5, 0.9 if parameter.ndim > 1 else 0.5
        assert -1 <= scaled.min() < -reached
        assert reached < scaled.max() <= 1


def test_layers_of_levels_start_by_the_inputs_of_each(generator):
    net = MLP([64, 64, 3], "gelu", generator, levels=(1, 4, 64))
    for layer, seen in ((net[0], (1, 4, 64)), (net[2], (64, 64, 64))):
        largest = layer.weight.detach().abs().amax((1, 2)) * torch.tensor(seen) ** 0.5
        assert (largest > 0.9).all()
        assert (largest <= 1).all()


def test_layers_are_of_float32_whatever_torchs_default(generator):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    layer = linear(3, 2, generator)
    torch.set_default_dtype(before)
    assert layer.weight.dtype == layer.bias.dtype == torch.float32


def test_one_fan_in_is_a_plain_layer_and_several_are_one_for_each_level(generator):
    assert type(linear_at_levels([3], 3, 2, generator)) is torch.nn.Linear
    layer = linear_at_levels(LEVELS, 4, 5, generator)
    assert type(layer) is StackedLinear
    assert (layer.in_features, layer.out_features, len(layer.weight)) == (4, 5, 3)


def test_a_single_level_is_a_level(generator):
    layer, x = StackedLinear([linear(3, 2, generator)]), torch.ones(1, 4, 3)
    torch.testing.assert_close(layer(x)[0], layer.at(0)(x[0]))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dense_network_has_an_activation_between_any_two_layers(activation, generator):
    net, x = MLP([5, 7, 6, 2], activation, generator).double(), normal(generator, 9, 5)
    first, second, third = (layer for layer in net if isinstance(layer, torch.nn.Linear))
    function = ACTIVATIONS[activation]()
    torch.testing.assert_close(net(x), third(function(second(function(first(x))))))
    net.silence()
    assert not net(x).any()
    assert all(layer.weight.all() for layer in (first, second))


def test_a_closed_gate_passes_nothing_and_a_gradient(generator):
    gated = Gated(linear(3, 2, generator), 2)
    assert gated.gate.shape == (2,)
    out = gated(torch.ones(4, 3))
    assert not out.any()
    out.sum().backward()
    assert gated.gate.grad.abs().min() > 0


def test_gates_weigh_outputs_and_are_closed_by_silence(generator):
    gated, x = fill_at_random(Gated(linear(3, 2, generator), 2), generator), torch.ones(4, 3)
    torch.testing.assert_close(gated(x), gated.gate * gated.module(x))
    gated.silence()
    assert not gated(x).any()
    assert gated.module(x).any()


@pytest.mark.parametrize("n_levels", [2, 3])
def test_each_level_has_gates_of_its_own(n_levels, generator):
    gated = fill_at_random(Gated(linear(3, 2, generator), 2, n_levels), generator)
    x = torch.randn(n_levels, 4, 3, generator=generator)
    assert gated.gate.shape == (n_levels, 2)
    for level in range(n_levels):
        torch.testing.assert_close(gated(x)[level], gated.gate[level] * gated.module(x[level]))
        torch.testing.assert_close(gated.at(level)(x[level]), gated(x)[level])


def test_a_head_is_a_layer_on_a_module_of_any_width(generator):
    features, head = linear(3, 6, generator), linear(6, 2, generator)
    headed, x = Headed(features, head), torch.ones(4, 3)
    torch.testing.assert_close(headed(x), head(features(x)))
    headed.silence()
    assert not headed(x).any()
    assert features(x).any()


def test_building_layers_leaves_the_global_generator_alone(generator):
    before = torch.random.get_rng_state()
    MLP([5, 7, 2], "gelu", generator)
    linear_at_levels(LEVELS, 4, 5, generator).at(1)
    Gated(linear(3, 2, generator), 2, 3).at(1)
    ImageEncoder((2, 5, 7), [6, 3], "gelu", generator)
    ImageDecoder((2, 5, 9), [3, 6], 2, "gelu", generator, LEVELS).at(1)
    assert torch.equal(before, torch.random.get_rng_state())


def assert_gradients_of_autograd(module, x, generator):
    leaf = x.clone().requires_grad_()
    expected, (out, back) = module(leaf), differentiable(module)(x)
    gradient = torch.randn(out.shape, generator=generator, dtype=out.dtype)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(back(gradient), torch.autograd.grad(expected, leaf, gradient)[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("levels", [(), LEVELS])
@pytest.mark.parametrize("has_correction", [False, True])
def test_a_differentiable_map_has_the_gradients_of_autograd(activation, levels, has_correction, generator):
    correction = MLP([4, 6, 7, 5], activation, generator, levels) if has_correction else None
    net = CorrectedLinear(linear_at_levels(levels or [4], 4, 5, generator), correction).double()
    unit = net.unit.clone().uniform_(generator=generator)
    net.start_at(torch.ones_like(net.start_weight), None, 2.0, unit, torch.tensor([[-0.5] * 4, [0.5] * 4]))
    with torch.no_grad():  # the start has set the last layer to zero
        for parameter in net.parameters():
            parameter.uniform_(-1, 1, generator=generator)
    x = torch.randn((*map(len, [levels] if levels else []), 9, 4), generator=generator, dtype=torch.float64)
    assert (x.abs() > 0.5).any()  # the correction is constant there
    assert_gradients_of_autograd(net, x, generator)


def test_of_other_modules_autograd_has_the_gradients(generator):
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    assert_gradients_of_autograd(torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Softmax(1)), x, generator)


class Constant(torch.nn.Module):
    def forward(self, x):
        return torch.ones(len(x), 3).to(x)


def test_a_module_that_ignores_its_input_has_gradients_of_zero(generator):
    out, back = differentiable(Constant())(torch.randn(9, 4, generator=generator))
    assert torch.equal(out, torch.ones(9, 3))
    assert torch.equal(back(torch.ones(9, 3)), torch.zeros(9, 4))
