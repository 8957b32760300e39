import pytest
import torch

from skae.nn import ACTIVATIONS, MLP, Autoencoder, CorrectedLinear, Gated, linear, split_parameters


@pytest.fixture
def generator(seed):
    return torch.Generator().manual_seed(seed)


def autoencoder(generator, activation="gelu"):
    def coder(n_in, n_out):
        return CorrectedLinear(linear(n_in, n_out, generator), MLP([n_in, 7, 6, n_out], activation, generator))

    return Autoencoder(coder(5, 2), coder(2, 5)).double()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_parameter_gets_a_gradient(activation, generator):
    net = autoencoder(generator, activation)
    net(torch.randn(40, 5, dtype=torch.float64, generator=generator)).eta.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_the_start_is_exactly_the_linear_map(generator):
    net = autoencoder(generator)
    weight, bias = torch.randn(2, 5, dtype=torch.float64, generator=generator), torch.tensor([1.0, -1.0]).double()
    net.encoder.start_at(weight, bias)
    x = torch.randn(9, 5, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(net.encode(x), x @ weight.T + bias, rtol=0, atol=0)


def test_the_last_layer_learns_from_the_first_step(generator):
    """A silenced correction is no dead end: its last layer has a gradient, and the others after one step."""
    net = autoencoder(generator)
    net.decoder.start_at(torch.zeros(5, 2, dtype=torch.float64))
    step = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.randn(40, 5, dtype=torch.float64, generator=generator)
    for _ in range(2):
        step.zero_grad()
        (net(x).eta - x).square().sum().backward()
        last = net.decoder.correction[-1].weight.grad.abs().max()
        assert last > 0
        step.step()
    assert net.decoder.correction[0].weight.grad.abs().max() > 0


def test_a_closed_gate_passes_nothing_and_a_gradient(generator):
    gated = Gated(linear(3, 2, generator), 2)
    out = gated(torch.ones(4, 3))
    assert not out.any()
    out.sum().backward()
    assert gated.gate.grad.abs().min() > 0


def test_only_weights_of_the_nonlinear_part_are_penalised(generator):
    net = autoencoder(generator)
    penalised, free = split_parameters(net)
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)] for p in penalised} == {
        f"{half}.correction.{i}.weight" for half in ("encoder", "decoder") for i in (0, 2, 4)
    }
    assert len(penalised) + len(free) == len(names)


def test_building_a_net_leaves_the_global_generator_alone(generator):
    before = torch.random.get_rng_state()
    autoencoder(generator)
    assert torch.equal(before, torch.random.get_rng_state())


def test_same_generator_same_weights():
    one, two = (autoencoder(torch.Generator().manual_seed(3)).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
