"""The VAE: one size of codes or several, refined posteriors, context, and the start at a linear Gaussian model."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from network_cases import (
    LEVELS,
    Function,
    assert_same,
    fill_at_random,
    gaussian_vae,
    gradients,
    normal,
    ordered_decoder,
    spec,
    unsilenced,
)

from skae import VAEGenerator
from skae.data.rows import ArrayRows
from skae.linear.gaussian import LinearGaussian
from skae.linear.pca import rank_of
from skae.linear.starts import VAE_STARTS
from skae.networks.corrected import CorrectedLinear
from skae.networks.imputation import Imputer
from skae.networks.layers import MLP, Gated, Headed, StackedLinear, linear, linear_at_levels
from skae.networks.preprocessing import Scaler
from skae.networks.refinement import fixed_draws, sign_draws
from skae.networks.vae import VAE, Posterior
from skae.objectives import LIKELIHOODS, Likelihood, NegativeELBO, gaussian_kl
from skae.objectives.likelihoods.mixed import Mixed
from skae.training.optim import split_parameters

TABLE = SimpleNamespace(parts=None)


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_one_level_is_the_bound_of_one_posterior(is_training, beta, generator):
    net = gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator), beta=beta).train(is_training)
    x, noise = normal(generator, 9, 5), normal(generator, 1, 9, 2)
    (output,) = net(x, noise)
    mean, log_var = net.encoder(x).chunk(2, dim=1)
    z = mean + (log_var / 2).exp() * noise
    eta = net.decoder(z[0])[None]
    assert_same(output[:-1], (mean, log_var, z, eta, None))
    loss = net.objective().train(is_training)([output], x)
    likelihood = net.at(2).likelihood
    kl = 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum(1)
    expected = (beta * kl - likelihood(eta[0], x)).mean()
    torch.testing.assert_close(loss, expected)
    found, wanted = gradients(loss, net), gradients(expected, net)
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert found.keys() == wanted.keys() == trained
    assert not trained & {"shrinking", "widening"}
    torch.testing.assert_close(found, wanted)
    assert torch.equal(net.codes(x, 1), mean[:, :1])


def test_several_draws_are_decoded_each(generator):
    net = gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator)).eval()
    x, noise = normal(generator, 9, 5), normal(generator, 3, 9, 2)
    (output,) = net(x, noise)
    for z, eta in zip(output.z, output.eta, strict=True):
        torch.testing.assert_close(eta, net.decoder(z))
    bound = net.at(2).likelihood(output.eta, x).mean(0) - gaussian_kl(output.mean, output.log_var).sum(1)
    torch.testing.assert_close(net.objective().eval()([output], x), -bound.mean())


def test_every_parameter_gets_a_gradient(generator):
    parts = MLP([5, 8, 4], "tanh", generator), MLP([2, 8, 10], "tanh", generator)
    net = gaussian_vae(*parts)
    x = normal(generator, 30, 5)
    for draws in (fixed_draws(4, 2), sign_draws(2)):
        net.zero_grad()
        objective = NegativeELBO(list(net.likelihoods))
        objective([net.at(2)(x, draws)], x).backward()
        for name, parameter in net.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.abs().max() > 0, name


def test_refinement_raises_the_log_density_at_the_mean_and_keeps_the_variances(generator):
    net = gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator), n_refinements=8).eval()
    model, x = net.at(2), normal(generator, 30, 5)
    assert torch.equal(model.draws, sign_draws(2))

    def at_mean(q):
        return model.likelihood(net.decode(q.mean), x) - gaussian_kl(*q).sum(1)

    q = model.posterior(x)
    guess, refined = at_mean(net.guess(x)), at_mean(q)
    assert (refined >= guess).all()
    assert refined.mean() > guess.mean() + 0.1
    assert torch.equal(q.log_var, net.guess(x).log_var)
    torch.testing.assert_close(model.posterior(x[3:4]).mean, q.mean[3:4])
    assert_same(net.at(2, is_refined=False).posterior(x), net.guess(x))
    assert torch.equal(net.train().at(2).posterior(x).mean, net.guess(x).mean)


def linear_vae(generator, n_refinements):
    """A linear decoder with noise of 1, and what its posterior is made of."""
    loadings = torch.linalg.qr(normal(generator, 5, 2))[0] * torch.tensor([2, 0.5])
    decoder = CorrectedLinear(linear(2, 10, generator)).double()
    decoder.start_at(torch.cat([loadings, torch.zeros_like(loadings)]))
    net = gaussian_vae(CorrectedLinear(linear(5, 4, generator)), decoder, n_refinements=n_refinements).eval()
    return net, loadings, 1 / (1 + loadings.square().sum(0))


def test_the_exact_posterior_of_a_linear_decoder_is_not_refined(generator):
    net, loadings, variance = linear_vae(generator, 4)
    net.encoder.start_at(
        torch.cat([variance[:, None] * loadings.T, torch.zeros(2, 5)]), torch.cat([torch.zeros(2), variance.log()])
    )
    x = normal(generator, 30, 5)
    for exact, refined in zip(net.guess(x), net.at(2).posterior(x), strict=True):
        torch.testing.assert_close(refined, exact, atol=1e-9, rtol=0)


def test_one_step_brings_the_mean_to_that_of_the_posterior(generator):
    (net, loadings, variance), x = linear_vae(generator, 1), normal(generator, 30, 5)
    bias = torch.cat([torch.full((2,), 0.7), variance.log()])
    net.encoder.start_at(torch.cat([variance[:, None] * loadings.T, torch.zeros(2, 5)]), bias)
    refined = net.at(2).posterior(x)
    torch.testing.assert_close(refined.mean, x @ loadings * variance)
    torch.testing.assert_close(refined.log_var, variance.log().expand(30, 2))


def test_variances_of_an_incomplete_sample_are_those_of_what_is_observed(generator):
    """Of the best posterior without correlations, where the encoder has those of a complete sample."""
    (net, loadings, variance), x = linear_vae(generator, 1), normal(generator, 30, 5)
    bias = torch.cat([torch.zeros(2), variance.log()])
    net.encoder.start_at(torch.cat([variance[:, None] * loadings.T, torch.zeros(2, 5)]), bias)
    x[::2, [1, 4]] = torch.nan
    found = net.at(2).posterior(x).log_var
    of_rest = 1 / (1 + loadings[[0, 2, 3]].square().sum(0))
    torch.testing.assert_close(found[::2], of_rest.log().expand(15, 2))
    assert torch.equal(found[1::2], net.at(2).posterior(x[1::2]).log_var)
    assert torch.equal(net.train().at(2).posterior(x).log_var, net.guess(x).log_var)


def test_variances_of_an_incomplete_sample_change_only_where_that_raises_the_bound():
    """Of a density that is flat where q is, and steep around it: the curvature is 0 there."""
    density = Function(lambda z, x: -1000 * (z.abs() - x[:, :2]).clamp_min(0).square().sum(-1))
    net = gaussian_vae(torch.nn.Identity(), torch.nn.Identity(), n_refinements=1, likelihoods=[density]).eval()
    net.guess = lambda x: Posterior(torch.zeros(2, 2).double(), torch.full((2, 2), -5.0).double())
    half_width = torch.tensor([[0.5], [2.0]]).double().expand(2, 5).clone()
    half_width[:, 4] = torch.nan
    found = net.at(2).posterior(half_width).log_var
    assert torch.equal(found, torch.tensor([[-5.0, -5.0], [0.0, 0.0]]).double())


def test_variances_of_an_incomplete_sample_are_at_most_the_priors(generator):
    density = Function(lambda z, x: 2 * z.square().sum(-1))  # has no best posterior
    net = gaussian_vae(torch.nn.Identity(), torch.nn.Identity(), n_refinements=1, likelihoods=[density]).eval()
    net.guess = lambda x: Posterior(torch.ones(1, 2).double(), torch.full((1, 2), -3.0).double())
    refined = net.at(2).posterior(torch.tensor([[0.0, torch.nan, 0.0, 0.0, 0.0]]).double())
    assert torch.equal(refined.log_var, torch.zeros(1, 2).double())


@pytest.mark.parametrize("offset", [0, 3e13, -3e13])
def test_a_step_counts_in_full_from_a_hundredth_of_a_nat_or_what_rounding_leaves_of_it(offset, generator):
    best = torch.tensor([1.0, -2.0]).double()
    density = Function(lambda z, x: -0.5 * (z - 2 * best).square().sum(-1) + offset)  # posterior N(best, 1/2)
    net = gaussian_vae(torch.nn.Identity(), torch.nn.Identity(), n_refinements=1, likelihoods=[density]).eval()
    worthwhile = max(0.01, 16 * 2.0**-52 * abs(offset))
    away = torch.tensor([[(worthwhile / 2) ** 0.5, 0.0]]).double()  # whose gain is half of that
    net.guess = lambda x: Posterior(best + away, torch.full((1, 2), 0.5).double().log())
    way = (net.at(2).posterior(torch.zeros(1, 5).double()).mean[0, 0] - best[0]) / away[0, 0]
    assert way.item() == pytest.approx(0.5, abs=0.1 if offset else 1e-6)


def test_samples_of_float32_are_refined_in_float32(generator):
    net = gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator), n_refinements=2).eval()
    assert all(part.dtype == torch.float32 for part in net.float().at(2).posterior(normal(generator, 3, 5).float()))


def test_draws_are_decoded_in_float32_and_the_start_in_float64(generator):
    """Of a prepared copy: rounding is relative to the correction, which the start exceeds here by a million."""
    decoder = unsilenced(2, 10, generator)
    net = gaussian_vae(unsilenced(5, 4, generator), decoder, n_refinements=2).eval()
    decoder.start_weight.mul_(1e6)
    x, draws = normal(generator, 30, 5), normal(generator, 8, 1, 2)
    exact = net.at(2)(x, draws)
    net.prepare()
    rounded = net.at(2)(x, draws)
    assert torch.equal(rounded.mean, exact.mean)
    assert 0 < (rounded.eta - exact.eta).abs().max() < 1e-5
    net.guess = lambda x: Posterior(torch.full((30, 2), 1e40, dtype=torch.float64), torch.zeros(30, 2).double())
    assert net.at(2, is_refined=False)(x, draws).eta.isfinite().all()


def test_refinement_waits_to_be_asked(generator):
    net = gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator)).eval()
    x = normal(generator, 3, 5)
    assert torch.equal(net.codes(x, 2), net.guess(x).mean)
    ordered, x = ordered_vae(generator, changed=False).eval(), normal(generator, 3, 6)
    assert torch.equal(ordered.codes(x, 4), ordered.guess(x).mean)


def ordered_vae(generator, n_refinements=0, defensive=(), changed=True):
    """A VAE of levels 1, 2, 4, whose sizes have a posterior each."""
    decoder, _ = ordered_decoder(generator, 6, n_parameters=2)
    encoder = unsilenced(6, 8, generator)
    net = gaussian_vae(encoder, decoder, 6, LEVELS, n_refinements, defensive=defensive)
    with torch.no_grad():
        for size in range(1, 5) if changed else ():
            net.shrinking[size - 1, :size] = normal(generator, size).exp()
            net.widening[size - 1, :size] = normal(generator, size)
    return net


def test_an_evaluation_builds_the_decoder_of_each_level_once(generator, monkeypatch):
    net, x, built = ordered_vae(generator, 3).eval(), normal(generator, 20, 6), []
    decoder_of = type(net).decoder_of
    monkeypatch.setattr(type(net), "decoder_of", lambda self, size: built.append(size) or decoder_of(self, size))
    net(x, normal(generator, 4, 1, 4))
    assert sorted(built) == [*LEVELS]


def test_a_size_has_the_leading_components_of_one_posterior(generator):
    defensive = [torch.nn.Identity() for _ in LEVELS]
    net, x = ordered_vae(generator, 3, defensive), normal(generator, 20, 6)
    whole = net.guess(x)
    for size, level in ((1, 0), (2, 1), (3, 1), (4, 2)):
        model = net.at(size)
        mean, log_var = model.posterior(x)  # in training, without steps
        torch.testing.assert_close(mean, whole.mean[:, :size] * net.shrinking[size - 1, :size])
        torch.testing.assert_close(log_var, whole.log_var[:, :size] + net.widening[size - 1, :size])
        assert_same(model.leading(whole), (mean, log_var))
        assert model.likelihood is net.likelihoods[size - 1]
        assert model.defensive is defensive[level]
        assert model.n_refinements == 3
        assert net.at(size, is_refined=False).n_refinements == 0
        assert torch.equal(model.draws, sign_draws(size))
    assert "defensive" in dict(net.named_children())
    assert ordered_vae(generator).at(2).defensive is None
    net.eval()
    torch.testing.assert_close(net.codes(x, 4), net.at(4).posterior(x).mean)
    torch.testing.assert_close(net.codes(x, 2), net.at(4).posterior(x).mean[:, :2])
    assert not torch.equal(net.codes(x, 4), net.at(4, is_refined=False).posterior(x).mean)


def same(outputs, expected):
    """Compare outputs, but for the decoder's at the posterior mean, which training leaves out."""
    for output, other in zip(outputs, expected, strict=True):
        assert_same(output[:-1], other[:-1])


def test_the_output_at_the_mean_is_that_of_a_draw_without_noise(generator):
    net, x = ordered_vae(generator).eval(), normal(generator, 9, 6)
    for output in net(x, normal(generator, 2, 9, 4)):
        torch.testing.assert_close(output.at_mean, net.decode(output.mean))


def test_each_level_is_trained_as_the_model_of_its_size(generator):
    net, x = ordered_vae(generator), normal(generator, 20, 6)
    fresh = ordered_vae(generator, changed=False)
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
    outputs = net.float()(x.float(), many.float())
    assert all(part.dtype == torch.float32 for output in outputs for part in output[:4])
    net.set_extra_state(7)
    assert net.get_extra_state() == 7


def test_the_loss_of_several_levels_is_the_mean_of_theirs(generator):
    net, x, noise = ordered_vae(generator), normal(generator, 20, 6), normal(generator, 1, 20, 4)
    outputs = net.eval()(x, noise)
    each = [
        (gaussian_kl(o.mean, o.log_var).sum(1) - net.at(size).likelihood(o.eta[0], x)).mean()
        for o, size in zip(outputs, (4, 2, 1), strict=True)
    ]
    torch.testing.assert_close(net.objective().eval()(outputs, x), torch.stack(each).mean())


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


# Context.


def test_given_its_context_a_model_is_one_of_its_own(generator):
    encoder, decoder = unsilenced(7, 4, generator), unsilenced(4, 10, generator)
    likelihoods, noise = [LIKELIHOODS["gaussian"](5).double()], normal(generator, 3, 4, 2)
    net = gaussian_vae(encoder, decoder, n_refinements=3, n_context=2, likelihoods=likelihoods).eval()
    x = normal(generator, 4, 7)
    (output,) = net(x, noise)
    assert torch.equal(output.context, x[:, 5:])

    def of_context(module, context):
        return Function(lambda part: module(torch.cat([part, context.expand(len(part), 2)], 1)))

    for i, context in enumerate(x[:, 5:]):
        parts = of_context(encoder, context), of_context(decoder, context)
        alone = gaussian_vae(*parts, n_refinements=3, likelihoods=likelihoods).eval()
        (expected,) = alone(x[[i], :5], noise[:, [i]])
        assert expected.context is None
        for part, of_it in zip((output.mean, output.log_var), expected[:2], strict=True):
            torch.testing.assert_close(part[[i]], of_it)
        for part, of_it in zip((output.z, output.eta), expected[2:4], strict=True):
            torch.testing.assert_close(part[:, [i]], of_it)


@pytest.mark.parametrize("shape", [(4, 2), (2,)])
def test_context_reaches_encoder_and_decoder_in_units_of_x(shape, generator):
    """Of each sample, or one for all."""
    encoder, decoder = unsilenced(7, 4, generator), unsilenced(4, 10, generator)
    net, X, context = (
        gaussian_vae(encoder, decoder, n_context=2).eval(),
        normal(generator, 4, 5),
        normal(generator, *shape),
    )
    net.scaler.fit(ArrayRows(X.numpy()))
    each = context.expand(4, 2)
    x = torch.cat([net.scaler(X), each], 1)
    assert torch.equal(net.inputs(X, context), x)
    assert torch.equal(net.inputs(X), net.scaler(X))
    codes = net.to_codes(X, 2, context)
    torch.testing.assert_close(codes, encoder(x)[:, :2])
    decoded = decoder(torch.cat([codes, each], 1))[:, :5]
    torch.testing.assert_close(net.from_codes(codes, context), net.scaler.inverse(decoded))
    single = net.float().to_codes(X, 2, context)
    assert single.dtype == net.from_codes(single, context).dtype == torch.float64
    without = gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator)).eval()
    assert torch.equal(without.to_codes(X, 2, context), without.to_codes(X, 2))  # of which there is none


def test_levels_keep_the_context_of_codes_that_are_cut(generator):
    path = linear_at_levels([3, 4, 6], 6, 10, generator)
    decoder = fill_at_random(CorrectedLinear(path, MLP([6, 7, 10], "gelu", generator, LEVELS)).double(), generator)
    net = gaussian_vae(unsilenced(7, 8, generator), decoder, levels=LEVELS, n_context=2)
    x, z = normal(generator, 9, 7), normal(generator, 9, 4)
    joined = net.with_context(z, x)
    assert torch.equal(joined, torch.cat([z, x[:, 5:]], 1))
    outputs = net.outputs(joined, torch.tensor([[1], [2], [3]]))
    for level, size in enumerate((1, 2, 3)):
        code = torch.cat([z[:, :size], torch.zeros(9, 4 - size), x[:, 5:]], 1)
        torch.testing.assert_close(outputs[level], decoder.at(level)(code))
        torch.testing.assert_close(net.decode(torch.cat([z[:, :size], x[:, 5:]], 1)), outputs[level])
    noise = normal(generator, 1, 9, 4)
    same(net(x, noise), [net.at(size)(x, noise[..., :size]) for size in (3, 2, 1)])


def test_codes_of_every_context_are_checked(generator):
    def below(bound):
        return Function(lambda x: torch.where(x[:, 6:] <= bound, x[:, :4], torch.inf))

    decoder = Function(lambda z: torch.where(z[:, 2:3] <= 1, z.new_zeros(len(z), 10), torch.nan))
    assert gaussian_vae(below(1.0), decoder, n_context=2).eval().typical().isfinite().all()
    assert not gaussian_vae(below(0.5), decoder, n_context=2).eval().typical().isfinite().all()  # of the second class
    broken = Function(lambda z: torch.where(z[:, 2:3] < 1, z.new_zeros(len(z), 10), torch.nan))
    assert not gaussian_vae(below(1.0), broken, n_context=2).eval().typical().isfinite().all()  # of the first


def test_means_of_classes_are_subtracted(seed):
    rng = np.random.RandomState(seed)
    X, classes = rng.normal(size=(30, 3)).astype(np.float32), np.arange(30) % 2
    context = np.eye(2, dtype=np.float32)[classes]
    rest, means = ArrayRows(np.hstack([X, context])).without_context_means(3)
    expected = np.stack([X[classes == k].mean(axis=0, dtype=np.float64) for k in (0, 1)])
    np.testing.assert_allclose(means, expected)
    np.testing.assert_allclose(rest, X - expected[classes], atol=1e-6)
    assert rest.dtype == np.float32
    rest, means = ArrayRows(X).without_context_means(3)
    assert rest is X
    assert means.shape == (0, 3)


# What is built.


@pytest.mark.parametrize(
    ("parameters", "n_refinements", "n_defensive", "is_stratified"),
    [
        ({}, 4, 1, True),
        ({"beta": 2.0}, 0, 0, True),
        ({"start": "random"}, 0, 0, False),
        ({"likelihood": "poisson"}, 0, 1, False),
        ({"n_components": 4, "ordered": True}, 4, 3, True),
    ],
)
def test_posteriors_are_refined_and_defended_where_the_bound_is_one(
    parameters, n_refinements, n_defensive, is_stratified
):
    net = VAE.build(spec(**parameters), VAE.scaler_of(5, "identity", False), TABLE)
    assert net.n_refinements == n_refinements
    assert len(net.defensive) == n_defensive
    assert net.is_stratified == is_stratified
    assert len(net.likelihoods) == (4 if len(net.levels) > 1 else 1)
    assert net.n_evaluated == {2: 4, 4: 8}[net.n_components]
    assert torch.equal(net.evaluation_draws, sign_draws(net.n_components))
    sizes = [net.at(level).defensive for level in net.levels]
    assert sizes == ([*net.defensive] or [None])


def test_own_modules_of_a_vae_get_a_head():
    def three(n_in, n_out):
        return torch.nn.Linear(n_in, 3)

    of = spec(encoder=three, decoder=torch.nn.Linear, n_components=4, ordered=True)
    net = VAE.build(of, Scaler(5), TABLE)
    assert isinstance(net.encoder.correction, Headed)
    assert (net.encoder.correction[1].in_features, net.encoder.correction[1].out_features) == (3, 8)
    assert isinstance(net.decoder.correction[1], StackedLinear)
    assert net.decoder.correction[1].weight.shape == (3, 10, 10)


def test_building_leaves_the_global_generator_alone_and_is_seeded():
    before = torch.random.get_rng_state()

    def weights(**options):
        return VAE.build(spec(**options), Scaler(5), TABLE).state_dict()

    one, two, other = weights(seed=3), weights(seed=3), weights(seed=4)
    assert torch.equal(one["encoder.path.weight"], two["encoder.path.weight"])
    assert torch.equal(one["decoder.correction.0.weight"], two["decoder.correction.0.weight"])
    assert not torch.equal(one["encoder.path.weight"], other["encoder.path.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("shape", "expected"), [((100, 9), 4), ((100, 4), 3), ((3, 9), 2), ((2, 1), 1)])
def test_some_variance_is_left_to_noise(shape, expected):
    assert VAE.at_most(4, shape) == expected


def test_the_share_of_the_defensive_mixture_is_that_of_the_rule_of_succession(generator):
    net = VAE.build(spec(n_components=4, ordered=True), Scaler(5), TABLE)
    net.hold_out(48)
    assert [part.share.item() for part in net.defensive] == pytest.approx([1 / 50] * 3)


def test_a_loss_is_told_in_nats_of_x(generator):
    net = gaussian_vae(torch.nn.Identity(), torch.nn.Identity(), 3)
    net.scaler.scale.copy_(torch.tensor([1.0, 2.0, 3.0]))
    net.scaler.constant[2] = True
    assert net.loss_in_units(5.0, 1.0) == pytest.approx(5 + np.log(2))
    assert net.loss_in_units(5.0, np.array([1, 0.5, 1])) == pytest.approx(5 + 0.5 * np.log(2))
    net.scaler.link = "log"
    assert net.loss_in_units(5.0, 1.0) == 5.0


# The start.


def samples(seed, n_features=5, offset=0.0):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(60, 3)) * [3, 2, 1] @ rng.normal(size=(3, n_features)) + 0.3 * rng.normal(
        size=(60, n_features)
    )
    return X * np.logspace(-1, 1, n_features) + offset


def started(X, start="pca", *, trains=True, context=None, link="identity", **options):
    """A network at its start, the model that imputes, and inputs of the network."""
    scaler = VAE.scaler_of(X.shape[1], link, False).fit(ArrayRows(X))
    context = np.zeros((len(X), 0)) if context is None else context
    of = spec(n_features=X.shape[1], n_context=context.shape[1], **options)
    net = VAE.build(of, scaler, TABLE).double()
    inputs = np.hstack([scaler(torch.tensor(X)).numpy(), context])
    imputing = net.start(VAE_STARTS[start], ArrayRows(X), ArrayRows(inputs), np.random.RandomState(0), trains=trains)
    return net.eval(), imputing, torch.tensor(inputs)


def model_of(X, scaler, n_components=2, start="pca", **options):
    options = {"ordered": False, "trains": True} | options
    scale = scaler.scale.numpy()
    return VAE_STARTS[start](X.numpy(), scale, n_components, np.random.RandomState(0), **options)


@pytest.mark.parametrize("start", ["pca", "factor_analysis"])
@pytest.mark.parametrize("has_missing", [False, True])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_start_is_the_linear_model(start, has_missing, offset, seed):
    X = samples(seed, offset=offset)
    net, imputing, x = started(X, start, has_missing=has_missing)
    model = model_of(x, net.scaler, start=start)
    matrix, variance = model.posterior()
    codes = x.numpy() @ matrix.T
    np.testing.assert_allclose(net.to_codes(torch.tensor(X), 2).detach(), codes, atol=1e-9)
    q = net.guess(x)
    np.testing.assert_allclose(q.log_var.exp().detach(), np.tile(variance, (60, 1)))
    decoded = net.scaler.inverse(torch.tensor(codes @ model.loadings.T))
    np.testing.assert_allclose(net.from_codes(torch.tensor(codes)).detach(), decoded, atol=1e-9)
    np.testing.assert_allclose(net.linear_components(2), (model.loadings * net.scaler.scale.numpy()[:, None]).T)
    eta = net.decode(torch.tensor(codes))
    np.testing.assert_allclose(net.at(2).likelihood.variance(eta).detach(), np.tile(model.noise, (60, 1)))
    assert net.objective().eval()(net(x, net.evaluation_draws), x).item() == pytest.approx(
        -model.log_density(x.numpy()).mean()
    )
    for unit in (net.encoder.per_input, net.encoder.unit, net.decoder.per_input, net.decoder.unit):
        assert (unit == 1).all()
    np.testing.assert_allclose(imputing.noise, np.maximum(model.noise, 1e-3))
    np.testing.assert_array_equal(imputing.loadings, model.loadings)
    assert not imputing.location.any()


def test_codes_keep_the_precision_of_samples_and_digits_in_float32(seed):
    X = samples(seed, offset=1e7)
    net, _, _ = started(X)
    expected = net.to_codes(torch.tensor(X), 2).detach()
    codes = net.float().to_codes(torch.tensor(X), 2)
    assert codes.dtype == torch.float64
    torch.testing.assert_close(codes.detach(), expected, atol=1e-4, rtol=1e-4)
    assert net.to_codes(torch.tensor(X).float(), 2).dtype == torch.float32
    assert net.from_codes(codes.float()).dtype == torch.float32
    assert net.from_codes(codes).dtype == torch.float64


@pytest.mark.parametrize("n_components", [2, 4])
def test_each_size_starts_at_the_linear_model_of_its_size(n_components, seed):
    X = samples(seed, 6)
    net, _, x = started(X, n_components=n_components, ordered=True)
    whole = model_of(x, net.scaler, n_components, ordered=True)
    assert net.shrinking.requires_grad
    assert net.widening.requires_grad
    noise = torch.zeros(1, 60, n_components).double()
    same(net.train()(x, noise), [net.at(size)(x, noise[..., :size]) for size in sizes_trained(net.levels)[::-1]])
    net.eval()
    for size in range(1, n_components + 1):
        model = whole.leading(size, rank_of(x.numpy()))
        q = net.at(size, is_refined=False).posterior(x)
        matrix, variance = model.posterior()
        np.testing.assert_allclose(q.mean.detach(), x.numpy() @ matrix.T, atol=1e-9)
        np.testing.assert_allclose(q.log_var.exp().detach(), np.tile(variance, (60, 1)))
        eta = net.decode(q.mean)
        np.testing.assert_allclose(net.at(size).likelihood.variance(eta).detach(), np.tile(model.noise, (60, 1)))
        beyond = net.shrinking[size - 1, size:], net.widening[size - 1, size:]
        assert (beyond[0] == 1).all()
        assert not beyond[1].any()
        if size in LEVELS:  # others have the decoder of the next level
            np.testing.assert_allclose(eta[:, :6].detach(), q.mean.detach().numpy() @ model.loadings.T, atol=1e-9)
            in_units = (model.loadings * net.scaler.scale.numpy()[:, None]).T
            np.testing.assert_allclose(net.linear_components(size), in_units, atol=1e-9)


def sizes_trained(levels):
    """Sizes that the first step of training cuts codes to: the last one below its level, if that is above another."""
    return (*levels[:-1], levels[-1] - (levels[-1] > levels[-2] + 1))


def test_with_context_the_start_is_the_linear_model_of_what_classes_leave(seed):
    X = samples(seed)
    context = np.eye(2)[np.arange(60) % 2]
    X += 5 * context[:, :1]
    net, imputing, inputs = started(X, context=context)
    rest, _ = ArrayRows(inputs.numpy()).without_context_means(5)
    model = model_of(torch.tensor(rest), net.scaler)
    codes = net.to_codes(torch.tensor(X), 2, torch.tensor(context))
    np.testing.assert_allclose(codes.detach(), rest @ model.posterior()[0].T, atol=1e-9)
    of_class = np.stack([X[context[:, k] == 1].mean(axis=0) for k in (0, 1)])
    decoded = net.from_codes(torch.zeros(2, 2).double(), torch.eye(2))
    np.testing.assert_allclose(decoded.detach(), of_class, atol=1e-9)
    np.testing.assert_allclose(imputing.location, inputs.mean(0), atol=1e-12)
    assert imputing.loadings.shape == (7, 2)
    bound = -net.objective().eval()(net(inputs, net.evaluation_draws), inputs[:, :5])
    assert bound.item() == pytest.approx(model.log_density(rest).mean())


def test_the_defensive_mixture_starts_at_the_model_and_at_probabilistic_pca(seed):
    X = samples(seed)
    X[:, 0] = np.tile([-1, 0, 1], 20)  # zeros in a column that varies
    net, _, x = started(X, "factor_analysis")
    assert net.at(2).defensive.varies.tolist() == [1] * 5
    model, pca = (model_of(x, scaler, start=s) for s, scaler in (("factor_analysis", net.scaler), ("pca", Ones(5))))
    defensive = net.at(2).defensive
    for found, expected in zip(defensive.linear.loadings, (model, pca), strict=True):
        np.testing.assert_allclose(found, expected.loadings, atol=1e-9)
    for found, expected in zip(defensive.linear.noise, (model, pca), strict=True):
        np.testing.assert_allclose(found, expected.noise)
    assert defensive.share == 0
    untrained, _, _ = started(X, "factor_analysis", trains=False)
    assert not untrained.at(2).defensive.linear.loadings.any()


class Ones:
    """A scaler that says that columns were not scaled."""

    def __init__(self, n_features):
        self.scale = torch.ones(n_features, dtype=torch.float64)


def test_independent_columns_defend_counts(seed):
    X = np.random.RandomState(seed).poisson(3.0, size=(60, 4)).astype(float)
    X[:, 3] = 2
    net, _, _ = started(X, link="log", likelihood="poisson")
    eta, mean = net.at(2).defensive.eta, (60 * X.mean(axis=0) + 0.5) / 61
    np.testing.assert_allclose(eta.exp(), mean)
    assert net.at(2).defensive.likelihood.varies.tolist() == [1, 1, 1, 0]
    assert net.at(2).likelihood.varies.tolist() == [1, 1, 1, 0]


def test_independent_columns_have_the_variance_of_counts(seed):
    X = np.random.RandomState(seed).negative_binomial(2, 0.3, size=(60, 4)).astype(float)
    net, _, _ = started(X, link="log", likelihood="negative_binomial")
    expected = LIKELIHOODS["negative_binomial"](4).double()
    eta = expected.independent(torch.tensor(X.mean(axis=0)), torch.tensor(X.var(axis=0)), 60)
    torch.testing.assert_close(net.at(2).defensive.eta, eta)
    torch.testing.assert_close(net.at(2).defensive.likelihood.log_size, expected.log_size)


class Located(Likelihood):
    """Of real values, with the noise that it was started at."""

    def start_at(self, noise, variance, scale):
        self.noise = noise

    def log_prob(self, eta, x):
        return -((x - eta) ** 2) / self.noise

    def mean(self, eta):
        return eta


def test_independent_columns_of_real_values_are_those_of_scaled_samples(seed, monkeypatch):
    monkeypatch.setitem(LIKELIHOODS, "located", Located)
    X = samples(seed, offset=100.0)
    X[:, 3] = 2
    defensive = started(X, likelihood="located")[0].at(2).defensive
    assert not defensive.eta.any()
    assert defensive.likelihood.noise.tolist() == [1] * 5
    assert defensive.likelihood.varies.tolist() == [1, 1, 1, 0, 1]


def test_mixed_columns_have_likelihoods_of_their_own():
    table = SimpleNamespace(parts=[("gaussian", [1, 1]), ("bernoulli", [1])])
    net = VAE.build(spec(3, likelihood="auto"), Scaler(3), table)
    assert isinstance(net.at(2).likelihood, Mixed)
    assert net.decoder.path.out_features == 5


def test_misfit_is_that_of_the_linear_maps_biases_included(generator):
    encoder, decoder = unsilenced(5, 4, generator), unsilenced(2, 10, generator)
    encoder.correction = decoder.correction = None
    net, x = gaussian_vae(encoder, decoder).eval(), normal(generator, 9, 5)
    z = net.guess(x).mean
    torch.testing.assert_close(net.misfit(x), z.square().sum(1) / 2 - net.at(2).likelihood(net.decode(z), x))


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("has_missing", [False, True])
def test_misfit_is_minus_the_density_of_sample_and_code_at_the_start(context, has_missing, seed):
    X = samples(seed)
    classes = np.eye(2)[np.arange(60) % 2] if context else None
    net, imputing, inputs = started(X, context=classes, has_missing=has_missing)
    net.imputer.start_at(imputing)
    rest, _ = ArrayRows(inputs.numpy()).without_context_means(5)
    model = model_of(torch.tensor(rest), net.scaler)
    codes = rest @ model.posterior()[0].T
    entries = np.square(rest - codes @ model.loadings.T) / model.noise + np.log(2 * np.pi * model.noise)
    expected = np.square(codes).sum(axis=1) / 2 + entries.sum(axis=1) / 2
    np.testing.assert_allclose(net.misfit(inputs).detach(), expected, rtol=1e-6)
    inputs[0, 1] = torch.nan  # counts for nothing
    assert net.misfit(inputs).isfinite().all()
    np.testing.assert_allclose(net.misfit(inputs).detach()[1:], expected[1:], rtol=1e-6)


@pytest.mark.parametrize("is_raw", [False, True])
@pytest.mark.parametrize("context", [False, True])
def test_without_a_linear_start_noise_is_the_variance_and_means_are_imputed(is_raw, context, seed):
    X = samples(seed, offset=3.0)
    X[:, 4] = 7
    scaler = VAE.scaler_of(5, "identity", is_raw).fit(ArrayRows(X))
    classes = np.eye(2)[np.arange(60) % 2]
    assert scaler.is_raw == is_raw
    inputs = scaler(torch.tensor(X)).numpy()
    inputs = np.hstack([inputs, classes]) if context else inputs
    net = VAE.build(spec(start="random", n_context=2 if context else 0), scaler, TABLE).double()
    before = net.encoder.path.weight.clone()
    imputing = net.start(None, ArrayRows(X), ArrayRows(inputs), np.random.RandomState(0), trains=True)
    np.testing.assert_allclose(imputing.location, inputs.mean(axis=0), atol=1e-12)
    assert not imputing.loadings.any()
    assert (imputing.noise == 1).all()
    assert torch.equal(net.encoder.path.weight, before)
    likelihood = net.at(2).likelihood
    variance = likelihood.variance(torch.zeros(1, 10).double())[0].detach().numpy()
    np.testing.assert_allclose(variance[:4], inputs[:, :4].var(axis=0))
    assert variance[4] == pytest.approx(1)
    assert likelihood.varies.tolist() == [1, 1, 1, 1, 0]


def test_training_samples_tell_a_multinomial_its_sums(seed):
    X = np.random.RandomState(seed).poisson(3.0, size=(60, 4)).astype(float)
    net, _, _ = started(X, link="share", likelihood="multinomial")
    expected = LIKELIHOODS["multinomial"](4).double()
    expected.fit_sums(partial(np.sum, X, axis=1))
    assert torch.equal(net.at(2).likelihood.sums, expected.sums)


def test_the_imputer_fills_what_the_encoder_gets(generator):
    imputer = Imputer(5, 2).double()
    imputer.start_at(LinearGaussian(np.arange(5.0), np.ones((5, 2)), np.ones(5)))
    net = gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator), imputer=imputer).eval()
    x = normal(generator, 9, 5)
    x[0, 1] = torch.nan
    assert_same(net.guess(x), net.guess(imputer.fill(x)))
    assert not torch.equal(net.guess(x).mean, net.guess(x.nan_to_num(0.0)).mean)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "bernoulli"])
def test_samples_may_be_alike_but_for_one(likelihood):
    X = np.zeros((20, 4))
    X[3] = [1, 1, 0, 1]
    model = VAEGenerator(2, likelihood=likelihood, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
