import pytest
import torch

from skae.likelihoods import Gaussian
from skae.losses import NegativeELBO
from skae.nn import (
    ACTIVATIONS,
    MLP,
    VAE,
    Autoencoder,
    Completion,
    CorrectedLinear,
    Gated,
    VAEOutput,
    fixed_draws,
    linear,
    project,
    split_parameters,
)


@pytest.fixture
def generator(seed):
    return torch.Generator().manual_seed(seed)


def autoencoder(generator, activation="gelu"):
    def coder(n_in, n_out):
        return CorrectedLinear(linear(n_in, n_out, generator), MLP([n_in, 7, 6, n_out], activation, generator))

    return Autoencoder(coder(5, 2), coder(2, 5), Completion(5, 4)).double()


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


def unsilenced(n_in, n_out, generator, **start):
    """A corrected linear map as training may leave it."""
    layer = CorrectedLinear(linear(n_in, n_out, generator), MLP([n_in, 7, n_out], "gelu", generator)).double()
    layer.start_at(torch.randn(n_out, n_in, dtype=torch.float64, generator=generator), **start)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return layer


def test_beyond_its_range_a_map_goes_on_as_its_start(generator):
    bounds = torch.tensor([[-1.0] * 3, [2.0] * 3])
    layer = unsilenced(3, 2, generator, input_range=bounds)
    x = 5 * torch.randn(50, 3, dtype=torch.float64, generator=generator)
    step = (x - x.clamp(-1, 2)) @ layer.start_weight.T
    torch.testing.assert_close(layer(x), layer(x.clamp(-1, 2)) + step)


def test_the_linear_map_is_the_map_without_its_correction(generator):
    layer = unsilenced(3, 2, generator, input_unit=torch.tensor([0.1, 1.0, 10.0]), unit=torch.tensor([2.0, 0.5]))
    layer.correction = None
    x = torch.randn(50, 3, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, *layer.linear_map()))


def test_a_linear_decoder_is_projected_on_in_one_step(generator):
    decoder = CorrectedLinear(linear(2, 5, generator)).double()
    basis = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64, generator=generator))[0]
    basis = basis * torch.tensor([3.0, 1e-5])  # of very different lengths, which float32 must bear
    decoder.start_at(basis)
    x, z = (torch.randn(30, n, dtype=torch.float64, generator=generator) for n in (5, 2))
    expected = x @ torch.linalg.pinv(basis).T
    torch.testing.assert_close(project(decoder, x, z * expected, 1), expected)
    single = project(decoder.float(), x.float(), (z * expected).float(), 1)
    torch.testing.assert_close(single[:, 0], expected[:, 0].float(), rtol=1e-3, atol=1e-3)


def test_no_row_is_projected_farther_away_and_each_by_itself(generator):
    decoder = unsilenced(2, 5, generator)
    x, z = (torch.randn(30, n, dtype=torch.float64, generator=generator) for n in (5, 2))
    nearer = project(decoder, x, z, 4)
    before, after = ((decoder(code) - x).square().sum(1) for code in (z, nearer))
    assert (after <= before).all()
    assert after.mean() < 0.8 * before.mean()
    torch.testing.assert_close(project(decoder, x[3:4], z[3:4], 4), nearer[3:4])


def vae(generator, decoder, n_refinements):
    encoder = unsilenced(5, 4, generator)
    return VAE(encoder, decoder, Gaussian(5).double(), Completion(5, 4), fixed_draws(16, 2), n_refinements).eval()


def test_refinement_raises_the_bound_and_stays_at_the_best(generator):
    net = vae(generator, unsilenced(2, 10, generator), 8)
    x = torch.randn(30, 5, dtype=torch.float64, generator=generator)

    def bounds(q):
        eta = net.decode((q.mean + (q.log_var / 2).exp() * net.draws).flatten(0, 1)).reshape(16, -1, 10)
        output = [VAEOutput(q.mean[[i]], q.log_var[[i]], None, eta[:, [i]]) for i in range(len(x))]
        return torch.stack([-NegativeELBO(net.likelihood)(o, x[[i]]) for i, o in enumerate(output)])

    guess, refined = bounds(net.guess(x)), bounds(net.posterior(x))
    assert (refined >= guess).all()
    assert refined.mean() > guess.mean() + 0.1
    assert torch.equal(net.train().posterior(x).mean, net.guess(x).mean)


def test_the_exact_posterior_of_a_linear_decoder_is_not_refined(generator):
    loadings = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64, generator=generator))[0] * torch.tensor([2, 0.5])
    decoder = CorrectedLinear(linear(2, 10, generator)).double()
    decoder.start_at(torch.cat([loadings, torch.zeros_like(loadings)]))
    net = vae(generator, decoder, 4)
    variance = 1 / (1 + loadings.square().sum(0))
    net.encoder.correction = None
    net.encoder.start_at(
        torch.cat([variance[:, None] * loadings.T, torch.zeros(2, 5)]), torch.cat([torch.zeros(2), variance.log()])
    )
    x = torch.randn(30, 5, dtype=torch.float64, generator=generator)
    for exact, refined in zip(net.guess(x), net.posterior(x), strict=True):
        torch.testing.assert_close(refined, exact, atol=1e-9, rtol=0)


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
