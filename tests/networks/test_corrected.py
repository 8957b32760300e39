"""The linear start with its correction: exact at first, in units, within a range, and one for each level."""

import pytest
import torch
from network_cases import CORRECTIONS, autoencoder, fill_at_random, leveled, normal, unsilenced

from skae.networks.corrected import CorrectedLinear
from skae.networks.layers import ACTIVATIONS, MLP, Gated, linear, linear_at_levels
from skae.training.optim import split_parameters


def halves(generator, activation="gelu"):
    def half(n_in, n_out):
        return CorrectedLinear(linear(n_in, n_out, generator), MLP([n_in, 7, 6, n_out], activation, generator))

    return autoencoder(half(5, 2), half(2, 5), 5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_parameter_gets_a_gradient(activation, generator):
    net = halves(generator, activation)
    net(normal(generator, 40, 5)).eta.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_the_start_is_exactly_the_linear_map(generator):
    net = halves(generator)
    weight, bias = normal(generator, 2, 5), torch.tensor([1.0, -1.0]).double()
    net.encoder.start_at(weight, bias)
    x = normal(generator, 9, 5)
    torch.testing.assert_close(net.encode(x), x @ weight.T + bias, rtol=0, atol=0)


def test_the_last_layer_learns_from_the_first_step(generator):
    """A silenced correction is no dead end: its last layer has a gradient, and the others after one step."""
    net = halves(generator)
    net.decoder.start_at(torch.zeros(5, 2, dtype=torch.float64))
    step = torch.optim.SGD(net.parameters(), lr=0.1)
    x = normal(generator, 40, 5)
    for _ in range(2):
        step.zero_grad()
        (net(x).eta - x).square().sum().backward()
        last = net.decoder.correction[-1].weight.grad.abs().max()
        assert last > 0
        step.step()
    assert net.decoder.correction[0].weight.grad.abs().max() > 0


def test_beyond_its_range_a_map_continues_as_its_start(generator):
    bounds = torch.tensor([[-1.0] * 3, [2.0] * 3])
    layer = unsilenced(3, 2, generator, input_range=bounds)
    x = 5 * normal(generator, 50, 3)
    step = (x - x.clamp(-1, 2)) @ layer.start_weight.T
    torch.testing.assert_close(layer(x), layer(x.clamp(-1, 2)) + step)


def test_the_linear_map_is_the_map_without_its_correction(generator):
    layer = unsilenced(3, 2, generator, input_unit=torch.tensor([0.1, 1.0, 10.0]), unit=torch.tensor([2.0, 0.5]))
    layer.correction = None
    x = normal(generator, 50, 3)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, *layer.linear_map()))


def test_training_moves_a_map_in_units_of_its_inputs_and_outputs(generator):
    layer, weight, bias = unsilenced(3, 2, generator), normal(generator, 2, 3), normal(generator, 2)
    input_unit, unit = normal(generator, 3).exp(), normal(generator, 2).exp()
    for inputs, outputs in ((input_unit, unit), (3.0, 5.0)):
        layer.start_at(weight, bias, inputs, outputs, torch.tensor([[-1.0], [2.0]]))
        fill_at_random(layer, generator)
        x = 3 * torch.rand(9, 3, generator=generator, dtype=torch.float64) - 1
        expected = x @ weight.T + bias + outputs * (layer.path(x / inputs) + layer.correction(x / inputs))
        torch.testing.assert_close(layer(x), expected)


def test_a_new_start_leaves_nothing_of_the_last(generator):
    layer = unsilenced(3, 2, generator, input_unit=5.0, unit=7.0, bias=torch.ones(2))
    weight, x = normal(generator, 2, 3), normal(generator, 9, 3)
    layer.start_at(weight)
    assert torch.equal(layer(x), x @ weight.T)
    with torch.no_grad():
        layer.path.weight.fill_(1.0)
    torch.testing.assert_close(layer(x), x @ (weight + 1).T)


def test_a_start_is_no_part_of_a_graph(generator):
    layer = unsilenced(3, 2, generator)
    layer.start_at(normal(generator, 2, 3).requires_grad_())
    assert not any(buffer.requires_grad for buffer in layer.buffers())


def test_without_a_start_a_map_is_its_path_and_correction(generator):
    layer = CorrectedLinear(linear(3, 2, generator), MLP([3, 7, 2], "gelu", generator)).double()
    x = 100 * normal(generator, 9, 3)
    torch.testing.assert_close(layer(x), layer.path(x) + layer.correction(x))


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_a_level_is_one_map_of_all_and_shares_its_weights(correction, generator):
    layer, x = leveled(generator, correction), 2 * normal(generator, 3, 10, 4)
    start = x @ layer.start_weight.mT + layer.start_bias[:, None]
    torch.testing.assert_close(layer(x), start)
    together = fill_at_random(layer, generator)(x)
    assert ((together - start).abs().amax((1, 2)) > 0.1).all()
    for level in range(3):
        one = layer.at(level)
        torch.testing.assert_close(one(x[level]), together[level])
        for part, whole in zip(one.linear_map(), layer.linear_map(), strict=True):
            torch.testing.assert_close(part, whole[level])
    with torch.no_grad():
        for parameter in layer.at(1).parameters():
            parameter.zero_()
    torch.testing.assert_close(layer(x)[1], start[1])
    if correction in ("none", "layers"):  # others share a module
        torch.testing.assert_close(layer(x)[[0, 2]], together[[0, 2]])
    fill_at_random(layer, generator)
    layer.start_at(layer.start_weight, layer.start_bias)
    torch.testing.assert_close(layer(x), start)


def names_of(parameters, net):
    names = {id(p): name for name, p in net.named_parameters()}
    return {names[id(p)] for p in parameters}


def test_only_weights_of_the_nonlinear_part_are_penalised(generator):
    net = halves(generator)
    penalised, free = split_parameters(net)
    assert names_of(penalised, net) == {
        f"{half}.correction.{i}.weight" for half in ("encoder", "decoder") for i in (0, 2, 4)
    }
    assert len(penalised) + len(free) == len(list(net.parameters()))


def test_biases_and_gates_of_levels_are_not_penalised(generator):
    decoder = CorrectedLinear(linear_at_levels((1, 2), 2, 5, generator), MLP([2, 7, 5], "gelu", generator, (1, 2)))
    encoder = CorrectedLinear(linear(5, 2, generator), Gated(linear(5, 2, generator), 2, 3))
    net = autoencoder(encoder, decoder, 5, (1, 2))
    expected = {"decoder.correction.0.weight", "decoder.correction.2.weight", "encoder.correction.module.weight"}
    assert names_of(split_parameters(net)[0], net) == expected
    net.encoder.requires_grad_(False)
    assert names_of(split_parameters(net)[0], net) == {name for name in expected if "decoder" in name}
