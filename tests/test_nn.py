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
    Headed,
    ImageDecoder,
    ImageEncoder,
    Levels,
    OrderedAutoencoder,
    OrderedVAE,
    Posterior,
    VAEOutput,
    complete,
    convolution,
    descend,
    fixed_draws,
    given_observed,
    ignore_second_half,
    linear,
    project,
    split_parameters,
    stacked_linear,
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
    lengths = torch.tensor([3.0, 1e-5], dtype=torch.float64)
    basis = basis * lengths  # of very different lengths, which float32 must bear
    decoder.start_at(basis)
    x = torch.randn(30, 5, dtype=torch.float64, generator=generator)
    expected = x @ torch.linalg.pinv(basis).T
    away = expected + 10 / lengths  # in every row so far that the step counts in full
    torch.testing.assert_close(project(decoder, x, away, 1), expected)
    single = project(decoder.float(), x.float(), away.float(), 1)
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
    assert gated.gate.shape == (2,)
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


def normal(generator, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda g: linear(100, 60, g), 100),
        (lambda g: linear(100, 60, g, 4), 4),
        (lambda g: convolution(3, 64, 5, g), 75),
    ],
)
def test_a_layer_starts_uniform_within_the_root_of_what_it_sees(layer, fan_in, generator):
    for parameter in layer(generator).parameters():
        scaled = parameter * fan_in**0.5
        assert -1 <= scaled.min() < -0.9
        assert 0.9 < scaled.max() <= 1


def test_a_convolution_keeps_height_and_width(generator):
    for size in (1, 3, 5):
        assert convolution(2, 3, size, generator)(torch.ones(4, 2, 7, 9)).shape == (4, 3, 7, 9)


LEVELS = 1, 2, 4


def two_dimensional(module):
    """A module that makes no sense of rows of several levels."""
    return torch.nn.Sequential(torch.nn.Unflatten(1, (1, 4)), torch.nn.Flatten(), module)


def leveled(generator, correction):
    """A map of three levels, as training may leave it, with units and a range."""
    corrections = {
        "none": lambda: None,
        "layers": lambda: MLP([4, 7, 5], "gelu", generator, LEVELS),
        "gate": lambda: Gated(MLP([4, 5], "gelu", generator), 5, 3),
        "head": lambda: Headed(two_dimensional(linear(4, 6, generator)), stacked_linear([6] * 3, 6, 5, generator)),
        "image": lambda: ImageDecoder((1, 1, 5), [4, 7], 1, "gelu", generator, LEVELS),
    }
    layer = CorrectedLinear(stacked_linear(LEVELS, 4, 5, generator), corrections[correction]()).double()
    unit, input_unit = normal(generator, 3, 5).exp(), normal(generator, 4).exp()
    layer.start_at(normal(generator, 3, 5, 4), normal(generator, 3, 5), input_unit, unit, torch.tensor([[-1.0], [2.0]]))
    return layer


@pytest.mark.parametrize("correction", ["none", "layers", "gate", "head", "image"])
def test_a_level_is_one_map_of_all_and_shares_its_weights(correction, generator):
    layer, x = leveled(generator, correction), 2 * normal(generator, 3, 10, 4)
    start = x @ layer.start_weight.mT + layer.start_bias[:, None]
    torch.testing.assert_close(layer(x), start)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    together = layer(x)
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
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    layer.start_at(layer.start_weight, layer.start_bias)
    torch.testing.assert_close(layer(x), start)


def test_layers_of_levels_start_by_what_each_sees(generator):
    net = MLP([64, 64, 3], "gelu", generator, levels=(1, 4, 64))
    for layer, seen in ((net[0], (1, 4, 64)), (net[2], (64, 64, 64))):
        largest = layer.weight.detach().abs().amax((1, 2)) * torch.tensor(seen) ** 0.5
        assert (largest > 0.9).all()
        assert (largest <= 1).all()


def test_a_new_start_leaves_nothing_of_the_last(generator):
    layer = unsilenced(3, 2, generator, input_unit=5.0, unit=7.0, bias=torch.ones(2))
    weight, x = normal(generator, 2, 3), normal(generator, 9, 3)
    layer.start_at(weight)
    assert torch.equal(layer(x), x @ weight.T)
    with torch.no_grad():
        layer.path.weight.fill_(1.0)
    torch.testing.assert_close(layer(x), x @ (weight + 1).T)


@pytest.mark.parametrize("kind", ["none", "layers", "image"])
def test_an_ignored_half_counts_for_nothing_and_the_other_as_before(kind, generator):
    corrections = {
        "none": lambda: None,
        "layers": lambda: MLP([32, 6, 5, 3], "gelu", generator),
        "image": lambda: ImageEncoder((2, 4, 4), [6, 3], "gelu", generator),
    }
    layer = CorrectedLinear(linear(32, 3, generator), corrections[kind]()).double()
    x, zeros = normal(generator, 9, 16), torch.zeros(9, 16).double()
    before = layer(torch.cat([x, zeros], 1))
    ignore_second_half(layer)
    torch.testing.assert_close(layer(torch.cat([x, normal(generator, 9, 16)], 1)), before)


def test_gaps_are_filled_with_their_conditional_mean(generator):
    model, location = Completion(4, 3).double(), normal(generator, 4)
    loadings, noise, x = normal(generator, 4, 2), normal(generator, 4).exp(), normal(generator, 5, 4)
    assert model.fill(x) is x
    x[:, 1] = torch.nan
    there = [0, 2, 3]
    assert torch.equal(model.fill(x), x.nan_to_num(0.0))
    model.start_at(normal(generator, 4), normal(generator, 4, 3), noise)
    model.start_at(location, loadings, noise)
    covariance = loadings @ loadings.T + noise.diag()
    gain = torch.linalg.solve(covariance[there][:, there], covariance[there, 1])
    torch.testing.assert_close(model.fill(x)[:, 1], location[1] + (x - location)[:, there] @ gain)
    assert torch.equal(model.fill(x)[:, there], x[:, there])


def test_an_encoder_is_told_of_gaps_if_masked_and_else_sees_filled_rows(generator):
    x = normal(generator, 5, 4)
    x[0, 1] = torch.nan
    rows, mask = x.nan_to_num(0.0), x.isnan().double()
    masked, plain, encoder = Completion(4, 2, True).double(), Completion(4, 2).double(), torch.nn.Identity()
    assert torch.equal(masked(encoder, x), torch.cat([rows, mask], 1))
    assert torch.equal(masked(encoder, rows), torch.cat([rows, 0 * mask], 1))
    assert torch.equal(plain.eval()(encoder, x), rows)
    with complete(True):  # nobody looks
        assert plain(encoder, x) is x
    assert torch.equal(plain(encoder, x), rows)


def test_a_posterior_and_its_factor_are_those_of_the_joint_normal_in_the_rows_precision(generator):
    loadings, noise, x = normal(generator, 4, 2), normal(generator, 4).exp(), normal(generator, 3, 4)
    mean, factor = given_observed(x, loadings, noise)
    precision = torch.eye(2) + loadings.T @ (loadings / noise[:, None])
    torch.testing.assert_close(factor @ factor.mT, precision.expand(3, 2, 2))
    torch.testing.assert_close(mean, x @ torch.linalg.solve(loadings @ loadings.T + noise.diag(), loadings))
    assert all(part.dtype == torch.float32 for part in given_observed(x.float(), loadings.float(), noise.float()))


def test_a_step_that_did_not_help_is_not_taken_and_a_quarter_next():
    """Ten times too far from 1 to 0, for the square and for what has no value below zero: steps of 1, 1/4, 1/16, ..."""

    def objective(p):
        return torch.stack([p[0, 0].square(), (p[1, 0].sqrt() - 0.1).square()])

    def after(n_steps):
        start = [torch.ones(2, 1, dtype=torch.float64, requires_grad=True)]
        (p,) = descend(objective, lambda p, _: [-10 * p[0]], start, n_steps, lambda value: 0.01 * value)
        assert not p.requires_grad
        return p[:, 0].tolist()

    assert after(0) == after(1) == after(2) == [1.0, 1.0]
    assert after(3) == [0.375, 0.375]
    assert after(4) == pytest.approx([0.375 * (1 - 10 * 1.2 / 16)] * 2)


def test_a_step_that_hardly_helped_is_taken_in_part():
    start = [torch.ones(1, 1, dtype=torch.float64)]
    one, two = (
        descend(lambda p: p.square().sum(1), lambda p, _: [-p[0]], start, n, lambda value: 2 * value)[0].item()
        for n in (1, 2)
    )
    assert one == 0.5  # the gain is half of what is worthwhile
    proposal, step = 0.5 - 0.5 * (0.25 + 1.2) / 2, (0.25 + 1.2) / 2
    taken = (0.5 - (0.5 - 0.5 * step) ** 2) / (2 * 0.5)
    assert two == pytest.approx(0.5 + taken * (proposal - 0.5))


def ordered_decoder(generator, n_out, n_parameters=1):
    """Linear, of levels 1, 2, 4: orthogonal columns of several lengths, the last of them zero."""
    lengths = torch.tensor([3.0, 0.1, 1.0, 0.0], dtype=torch.float64)
    basis = torch.linalg.qr(normal(generator, n_out, 4))[0] * lengths
    kept = (torch.arange(4) < torch.tensor(LEVELS)[:, None]).double()[:, None]
    rest = torch.zeros(3, n_out * (n_parameters - 1), 4).double()
    decoder = CorrectedLinear(stacked_linear(LEVELS, 4, n_out * n_parameters, generator)).double()
    decoder.start_at(torch.cat([basis * kept, rest], 1))
    return decoder, basis


def test_ordered_codes_are_brought_to_the_projection_in_one_step(generator):
    decoder, basis = ordered_decoder(generator, 6)
    encoder = linear(6, 4, generator).double()
    net = OrderedAutoencoder(encoder, decoder, LEVELS, Completion(6, 2), 1).double().eval()
    net.weights.copy_(torch.tensor([1.0, 3.0, 9.0, 0.5]))
    x = normal(generator, 20, 6)
    expected = torch.cat([x @ torch.linalg.pinv(basis[:, :3]).T, encoder(x)[:, 3:]], 1)
    torch.testing.assert_close(net.encode(x), expected)
    output = net(x)
    assert torch.equal(output.weight.expand(3, 20, 1)[:, 0, 0], net.weights[[0, 1, 3]])
    for level, size in enumerate(LEVELS):
        torch.testing.assert_close(output.eta[level], net.decode(output.z[:, :size]))
    net.n_refinements = 0
    assert torch.equal(net.encode(x), encoder(x))
    net.n_refinements = 1
    output = net.train()(x)
    assert torch.equal(output.z, encoder(x))
    assert torch.equal(output.weight[:, :5, 0], net.weights[torch.tensor([[1] * 5, [2] * 5, [3, 4, 4, 4, 3]]) - 1])
    torch.testing.assert_close(output.eta[2, 0], net.decode(output.z[:1, :3])[0])
    net(x[:5])
    assert net.n_rows_seen == 25
    torch.testing.assert_close(net(x[:4]).weight[2, :, 0], net.weights[[3, 3, 3, 2]])  # rows 25 to 28


def test_one_step_brings_means_and_variances_to_the_posterior(generator):
    """As far as a natural gradient does: means at once, and log-variances by 1 at most."""
    decoder = CorrectedLinear(linear(2, 10, generator)).double()
    loadings = torch.linalg.qr(normal(generator, 5, 2))[0] * torch.tensor([2, 0.5])
    decoder.start_at(torch.cat([loadings, torch.zeros_like(loadings)]))
    net, variance = vae(generator, decoder, 1), 1 / (1 + loadings.square().sum(0))
    net.encoder.correction, x = None, normal(generator, 30, 5)
    for away, then in ((0.0, 0.0), (0.5, 1.5 - torch.e**0.5), (3.0, 2.0)):
        bias = torch.cat([torch.full((2,), 0.7 * (away == 0)), variance.log() + away])
        net.encoder.start_at(torch.cat([variance[:, None] * loadings.T, torch.zeros(2, 5)]), bias)
        refined = net.posterior(x)
        torch.testing.assert_close(refined.mean, x @ loadings * variance)
        torch.testing.assert_close(refined.log_var, (variance.log() + then).expand(30, 2))


def ordered_vae(generator, n_refinements=0, defences=None):
    decoder, _ = ordered_decoder(generator, 6, n_parameters=2)
    likelihoods = [Gaussian(6).double() for _ in range(4)]
    encoder = unsilenced(6, 8, generator)
    net = OrderedVAE(encoder, decoder, LEVELS, likelihoods, Completion(6, 2), n_refinements, defences).double()
    for size in range(1, 5):
        net.begin_at(size, normal(generator, size).exp(), normal(generator, size))
    return net


def test_a_size_has_the_leading_numbers_of_one_posterior(generator):
    defences = [torch.nn.Identity() for _ in LEVELS]
    net, x = ordered_vae(generator, 3, defences), normal(generator, 20, 6)
    whole = net.guess(x)
    for size, level in ((1, 0), (2, 1), (3, 1), (4, 2)):
        model = net.at(size)
        mean, log_var = model.guess(x)
        torch.testing.assert_close(mean, whole.mean[:, :size] * net.shrinking[size - 1, :size])
        torch.testing.assert_close(log_var, whole.log_var[:, :size] + net.widening[size - 1, :size])
        torch.testing.assert_close(model.decode(mean), net.decode(mean))
        assert model.likelihood is net.likelihoods[size - 1]
        assert model.defence is defences[level]
        assert model.n_refinements == 3
        assert model.training
        assert not net.eval().at(size).training
        net.train()
    assert "defences" in dict(net.named_children())
    assert ordered_vae(generator).at(2).defence is None
    net.eval()
    torch.testing.assert_close(net.encode(x), net.at(4).encode(x))
    assert not torch.equal(net.encode(x), net.at(4).guess(x).mean)


def same(parts, outputs):
    for part, expected in zip(parts, (part for output in outputs for part in output[:4]), strict=True):
        torch.testing.assert_close(part, expected)


def test_each_level_is_trained_as_the_model_of_its_size(generator):
    net, x = ordered_vae(generator), normal(generator, 20, 6)
    fresh = OrderedVAE(net.encoder, net.decoder, LEVELS, list(net.likelihoods), Completion(6, 2))
    assert (fresh.shrinking == 1).all()
    assert not fresh.widening.any()
    for step, largest in enumerate((3, 4, 4, 4)):  # every fourth step cuts
        noise = normal(generator, 1, 20, 4)
        assert net.get_extra_state() == step
        same(net(x, noise), [net.at(size)(x, noise[..., :size]) for size in (largest, 2, 1)])
    net.eval()
    few, many = (normal(generator, n_draws, 20, 4) for n_draws in (2, 64))
    same(net(x, few), [net.at(size)(x, few[..., :size]) for size in (4, 2, 1)])
    same(net(x, many), [net.at(size)(x, net.at(size).draws) for size in (4, 2, 1)])
    net.n_refinements = 0
    assert all(part.dtype == torch.float32 for part in net.float()(x.float(), many.float()))
    net.set_extra_state(7)
    assert net.get_extra_state() == 7


def test_scales_of_levels_are_free(generator):
    net = ordered_vae(generator)
    net.decoder.correction = MLP([4, 7, 12], "gelu", generator, LEVELS).double()
    net.encoder.correction = Gated(linear(6, 8, generator), 8, 3)
    names = {id(p): name for name, p in net.named_parameters()}
    assert {"shrinking", "widening", "likelihoods.3.log_excess"} < set(names.values())
    penalised, free = split_parameters(net)
    expected = {"decoder.correction.0.weight", "decoder.correction.2.weight", "encoder.correction.module.weight"}
    assert {names[id(p)] for p in penalised} == expected
    assert {id(p) for p in free} == set(names) - {id(p) for p in penalised}
    net.encoder.requires_grad_(False)
    assert {names[id(p)] for p in split_parameters(net)[0]} == {name for name in expected if "decoder" in name}


def test_building_nets_of_images_and_levels_leaves_the_global_generator_alone(generator):
    before = torch.random.get_rng_state()
    ImageEncoder((2, 5, 7), [6, 3], "gelu", generator)
    ImageDecoder((2, 5, 9), [3, 6], 2, "gelu", generator, LEVELS).at(1)
    stacked_linear(LEVELS, 4, 5, generator).at(1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_single_level_is_a_level(generator):
    layer, x = stacked_linear([3], 3, 2, generator), torch.ones(1, 4, 3)
    torch.testing.assert_close(layer(x)[0], layer.at(0)(x[0]))


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


def test_training_moves_a_map_in_units_of_its_inputs_and_outputs(generator):
    layer, weight, bias = unsilenced(3, 2, generator), normal(generator, 2, 3), normal(generator, 2)
    input_unit, unit = normal(generator, 3).exp(), normal(generator, 2).exp()
    for inputs, outputs in ((input_unit, unit), (3.0, 5.0)):
        layer.start_at(weight, bias, inputs, outputs, torch.tensor([[-1.0], [2.0]]))
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, generator=generator)
        x = 3 * torch.rand(9, 3, generator=generator, dtype=torch.float64) - 1
        expected = x @ weight.T + bias + outputs * (layer.path(x / inputs) + layer.correction(x / inputs))
        torch.testing.assert_close(layer(x), expected)


def test_a_start_is_no_part_of_a_graph(generator):
    weight = normal(generator, 2, 3).requires_grad_()
    layer, model = unsilenced(3, 2, generator), Completion(2, 3).double()
    layer.start_at(weight)
    model.start_at(weight[:, 0], weight, weight[:, 1])
    assert not any(buffer.requires_grad for part in (layer, model) for buffer in part.buffers())


def test_a_component_without_a_start_stays_where_it_is(generator):
    decoder = unsilenced(2, 5, generator)
    decoder.start_weight[:, 1] = 0
    x, z = normal(generator, 30, 5), normal(generator, 30, 2)
    nearer = project(decoder, x, z, 4)
    assert torch.equal(nearer[:, 1], z[:, 1])
    assert (nearer[:, 0] != z[:, 0]).any()


def away_from_best(generator, n_rows=30):
    """A linear decoder of orthonormal columns, rows, their best codes, and codes that are 0.1 away from these."""
    decoder = CorrectedLinear(linear(2, 5, generator)).double()
    basis = torch.linalg.qr(normal(generator, 5, 2))[0]
    decoder.start_at(basis)
    x = 3 * normal(generator, n_rows, 5)
    return decoder, x, x @ basis, x @ basis + 0.1 * torch.nn.functional.normalize(normal(generator, n_rows, 2))


def test_a_hundredth_of_the_error_is_worth_a_full_step(generator):
    decoder, x, best, z = away_from_best(generator)
    error = (decoder(z) - x).square().sum(1, keepdim=True)
    taken = (0.01 / (0.01 * error)).clamp(max=1)
    assert (taken < 0.9).any()
    torch.testing.assert_close(project(decoder, x, z, 1), z + taken * (best - z))


def test_an_autoencoder_refines_codes_of_filled_rows_in_eval_mode_and_if_asked(generator):
    encoder, decoder, completion = unsilenced(5, 2, generator), unsilenced(2, 5, generator), Completion(5, 4).double()
    completion.start_at(normal(generator, 5), normal(generator, 5, 2), torch.ones(5))
    x = normal(generator, 9, 5)
    x[0, 1] = torch.nan
    filled = completion.fill(x)
    net = Autoencoder(encoder, decoder, completion, 3).eval()
    torch.testing.assert_close(net.encode(x), project(decoder, filled, encoder(filled), 3))
    assert not torch.equal(net.encode(x), encoder(filled))
    assert torch.equal(net.train().encode(filled), encoder(filled))
    assert torch.equal(Autoencoder(encoder, decoder, completion).eval().encode(filled), encoder(filled))


def test_every_fourth_row_is_cut_to_the_sizes_between_levels_in_turn():
    sizes = Levels(None, (1, 2, 4, 8)).trained_sizes(torch.arange(16))
    assert sizes.tolist() == [[1] * 16, [2] * 16, [3, 4, 4, 4] * 4, [k for cut in (7, 6, 5, 7) for k in (cut, 8, 8, 8)]]
    sizes = Levels(None, (1, 2, 4, 7)).trained_sizes(torch.arange(12))
    assert sizes[-1].tolist() == [k for cut in (6, 5, 6) for k in (cut, 7, 7, 7)]


def test_a_cut_code_is_decoded_as_the_code_it_leaves(generator):
    decoder = leveled(generator, "layers")
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    levels, z = Levels(decoder, LEVELS), normal(generator, 10, 4)
    for cut in ((1, 2, 3), LEVELS):
        outputs = levels.outputs(z, torch.tensor(cut)[:, None])
        for output, size in zip(outputs, cut, strict=True):
            torch.testing.assert_close(output, levels.decode(z[:, :size]))


def test_an_ordered_code_takes_a_gradient_step_of_all_levels_together(generator):
    decoder, basis = ordered_decoder(generator, 6)
    torch.nn.init.normal_(decoder.path.weight, std=0.01, generator=generator)
    encoder = linear(6, 4, generator).double()
    with torch.no_grad():  # near to what it is brought to, or the step would be too long
        encoder.weight[:3] = torch.linalg.pinv(basis[:, :3])
        encoder.bias.fill_(0.1)
    net = OrderedAutoencoder(encoder, decoder, LEVELS, Completion(6, 2), 1).double().eval()
    assert torch.equal(net.weights, torch.ones(4).double())
    weights = torch.tensor([1.0, 3.0, 9.0, 0.5]).double()
    net.weights.copy_(weights)
    x = normal(generator, 20, 6) * torch.logspace(-1, 1, 20)[:, None]

    def error(z):
        return sum(
            weight * (net.decode(z[:, :m]) - x).square().sum(1)
            for m, weight in zip(LEVELS, weights[[0, 1, 3]], strict=True)
        )

    z = encoder(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(error(z).sum(), z)
    lengths = decoder.start_weight.square().sum(1)
    curvature = sum(weight * length for weight, length in zip(weights[[0, 1, 3]], lengths, strict=True))
    step = torch.cat([-0.5 * gradient[:, :3] / curvature[:3], torch.zeros(20, 1)], 1)
    taken = ((error(z) - error(z + step)) / (0.01 * error(z))).clamp(0, 1)
    assert (taken == 1).any()
    assert ((taken > 0.01) & (taken < 0.99)).any()
    torch.testing.assert_close(net.encode(x), z + taken[:, None] * step)
    plain = OrderedAutoencoder(encoder, decoder, LEVELS, Completion(6, 2)).double().eval()
    assert torch.equal(plain.encode(x), encoder(x))


class Density(torch.nn.Module):
    """A likelihood that is a function."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.mark.parametrize("offset", [0, 3e13, -3e13])
def test_a_step_counts_in_full_from_a_hundredth_of_a_nat_or_what_rounding_leaves_of_it(offset, generator):
    net = vae(generator, torch.nn.Identity(), 1)
    best = torch.tensor([1.0, -2.0]).double()
    net.likelihood = Density(lambda z, x: -0.5 * (z - 2 * best).square().sum(-1) + offset)  # posterior N(best, 1/2)
    worthwhile = max(0.01, 16 * 2.0**-52 * abs(offset))
    away = torch.tensor([[(worthwhile / 2) ** 0.5, 0.0]]).double()  # whose gain is half of that
    net.guess = lambda x: Posterior(best + away, torch.full((1, 2), 0.5).double().log())
    way = (net.posterior(torch.zeros(1, 5).double()).mean[0, 0] - best[0]) / away[0, 0]
    assert way.item() == pytest.approx(0.5, abs=0.1 if offset else 1e-6)


def test_a_variance_grows_by_its_logarithms_one_a_step_at_most(generator):
    net = vae(generator, torch.nn.Identity(), 1)
    net.likelihood = Density(lambda z, x: 2 * z.square().sum(-1))
    net.guess = lambda x: Posterior(torch.ones(1, 2).double(), torch.zeros(1, 2).double())
    refined = net.posterior(torch.zeros(1, 5).double())
    torch.testing.assert_close(refined.log_var, torch.ones(1, 2).double())
    torch.testing.assert_close(refined.mean, torch.full((1, 2), 4.0).double())


def test_rows_of_float32_are_refined_in_float32(generator):
    net = vae(generator, unsilenced(2, 10, generator), 2)
    assert all(part.dtype == torch.float32 for part in net.float().posterior(normal(generator, 3, 5).float()))


def test_refinement_waits_to_be_asked(generator):
    encoder, decoder, x = unsilenced(5, 4, generator), unsilenced(2, 10, generator), normal(generator, 3, 5)
    net = VAE(encoder, decoder, Gaussian(5).double(), Completion(5, 4)).eval()
    assert torch.equal(net.encode(x), net.guess(x).mean)
    assert net.draws.numel() == 0
    ordered, x = ordered_vae(generator).eval(), normal(generator, 3, 6)
    fresh = OrderedVAE(ordered.encoder, ordered.decoder, LEVELS, list(ordered.likelihoods), ordered.completion).eval()
    assert torch.equal(fresh.double().encode(x), fresh.guess(x).mean)


def test_given_what_is_given_a_model_is_one_of_its_own(generator):
    encoder, decoder, likelihood = unsilenced(7, 4, generator), unsilenced(4, 10, generator), Gaussian(5).double()
    draws, noise = fixed_draws(16, 2), normal(generator, 3, 4, 2)
    net = VAE(encoder, decoder, likelihood, Completion(7, 4), draws, 3, None, 2).double().eval()
    x = normal(generator, 4, 7)
    output = net(x, noise)
    assert torch.equal(output.given, x[:, 5:])

    def beside(module, given):
        return Density(lambda part: module(torch.cat([part, given.expand(len(part), 2)], 1)))

    for i, given in enumerate(x[:, 5:]):
        parts = beside(encoder, given), beside(decoder, given)
        alone = VAE(*parts, likelihood, Completion(5, 4), draws, 3).eval()
        expected = alone(x[[i], :5], noise[:, [i]])
        assert expected.given is None
        for part, of_it in zip((output.mean, output.log_var), expected[:2], strict=True):
            torch.testing.assert_close(part[[i]], of_it)
        for part, of_it in zip((output.z, output.eta), expected[2:4], strict=True):
            torch.testing.assert_close(part[:, [i]], of_it)


def test_a_size_begins_nearer_to_the_prior_as_told_and_no_other(generator):
    net = OrderedVAE(linear(6, 8, generator), ordered_decoder(generator, 6)[0], LEVELS, [], Completion(6, 2))
    net.begin_at(3, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([4.0, 5.0, 6.0]))
    shrinking, widening = torch.ones(4, 4), torch.zeros(4, 4)
    shrinking[2, :3], widening[2, :3] = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([4.0, 5.0, 6.0])
    assert torch.equal(net.shrinking, shrinking)
    assert torch.equal(net.widening, widening)


def test_few_draws_have_variance_one_too():
    assert fixed_draws(16, 400).square().mean().item() == pytest.approx(1, abs=0.1)
