import math
import weakref

import numpy as np
import pytest
import torch
from objective_cases import draws, likelihood, target
from torch.distributions import MultivariateNormal

from skae.linear.gaussian import posterior_given_observed
from skae.linear.mixture import LinearMixture
from skae.objectives import LIKELIHOODS, ColumnMoments, DefensiveStart, LinearBaselines, MixtureDensity
from skae.objectives.defensive import LinearModels, held_out_weight
from skae.objectives.likelihoods.base import IndependentColumns
from skae.objectives.likelihoods.mixed import Mixed


def start_of_columns(mean, variance, varies, n_samples, sums=(1.0,)):
    columns = ColumnMoments(mean, variance, varies, n_samples)
    return DefensiveStart(lambda: columns, lambda: torch.tensor(sums), None)


def arrays_of(built):
    return LinearBaselines(built.linear.loadings, built.linear.noise, built.varies, built.shift)


def linear_models_of(seed, n_models=2, n_context=0):
    """Linear models of five columns, the last of which does not vary."""
    built = LinearModels(n_models, 5, 2, n_context).double()
    loadings = torch.zeros(n_models, 5, 2, dtype=torch.float64)
    loadings[:, :4] = torch.linalg.qr(draws(seed, n_models, 4, 2))[0] * torch.tensor([2.0, 0.5])
    noise = torch.rand(n_models, 1, generator=torch.Generator().manual_seed(seed)).double().expand(-1, 5) + 0.5
    varies, shift = torch.tensor([1.0, 1, 1, 1, 0]).double(), draws(seed + 1, n_context, 5)
    baselines = {2: LinearBaselines(loadings, noise, varies, shift)}
    built.start_at(DefensiveStart(None, None, baselines.get))
    for part, value in zip(arrays_of(built), baselines[2], strict=True):
        assert torch.equal(part, value)
    return built


def test_linear_models_have_normal_densities_and_a_mixture_of_these(seed):
    built, x = linear_models_of(seed), draws(seed + 2, 6, 5)
    covariances = built.linear.loadings @ built.linear.loadings.mT + torch.diag_embed(built.linear.noise)
    normals = [MultivariateNormal(torch.zeros(4).double(), part[:4, :4]) for part in covariances]
    expected = torch.stack([normal.log_prob(x[:, :4]) for normal in normals]).logsumexp(0) - torch.tensor(2).log()
    torch.testing.assert_close(built.log_prob(x), expected)
    bound = draws(seed + 3, 6)
    torch.testing.assert_close(built(bound, x), bound)  # the share is zero
    built.share.fill_(0.3)
    torch.testing.assert_close(built(bound, x).exp(), 0.7 * bound.exp() + 0.3 * expected.exp())
    x[:, 2:4] = torch.nan
    normals = [MultivariateNormal(torch.zeros(2).double(), part[:2, :2]) for part in covariances]
    expected = torch.stack([normal.log_prob(x[:, :2]) for normal in normals]).logsumexp(0) - torch.tensor(2).log()
    torch.testing.assert_close(built.log_prob(x), expected)
    built.start_at(DefensiveStart(None, None, lambda k: arrays_of(built)))
    assert built.share == 0


def test_samples_of_linear_models_have_the_moments_of_their_mixture(seed):
    built, context = linear_models_of(seed, n_context=1), torch.full((40000, 1), 2.0).double()
    z, before = draws(seed + 1, 40000, 2), torch.random.get_rng_state()
    rows = built.draw(z, torch.Generator().manual_seed(seed), context)
    assert torch.equal(rows, built.draw(z, torch.Generator().manual_seed(seed), context))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.testing.assert_close(rows.mean(0), 2 * built.shift[0], atol=0.05, rtol=0)
    covariance = (built.linear.loadings @ built.linear.loadings.mT + torch.diag_embed(built.linear.noise)).mean(0)
    torch.testing.assert_close(rows.T.cov(), covariance, atol=0.1, rtol=0)
    torch.testing.assert_close(rows.T @ z / len(z), built.linear.loadings.mean(0), atol=0.1, rtol=0)
    without = built.draw(z, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(rows, without + context @ built.shift)
    built.share.fill_(0.3)
    bound, few, of_few = draws(seed, 9), rows[:9], context[:9]
    torch.testing.assert_close(built(bound, few, of_few), built(bound, few - of_few @ built.shift))


def test_before_a_start_the_linear_models_have_no_loadings(seed):
    built, x, bound = LinearModels(2, 3, 1, 1).double(), draws(seed, 4, 3), draws(seed + 1, 4)
    torch.testing.assert_close(
        built.log_prob(x), MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double()).log_prob(x)
    )
    torch.testing.assert_close(built(bound, x, torch.ones(4, 1).double()), bound)
    assert torch.equal(
        built.draw(draws(seed, 4, 1), torch.Generator().manual_seed(0), torch.ones(4, 1).double()),
        built.draw(draws(seed, 4, 1), torch.Generator().manual_seed(0)),
    )


def mixture_density(seed, *, with_context=False):
    """A mixture of three normal densities of four columns, the last of which does not vary; means and covariances."""
    means, loadings = draws(seed, 3, 4), torch.zeros(3, 4, 3, dtype=torch.float64)
    means[:, 3] = 0
    loadings[:, :3] = torch.linalg.qr(draws(seed + 1, 3, 3, 3))[0] * torch.tensor([2.0, 0.5, 1.0])
    weights = [[0.7, 0.3, 0.0], [0.0, 0.1, 0.9]] if with_context else [[0.2, 0.5, 0.3]]
    noise = np.repeat([[0.2], [0.3], [0.1]], 4, axis=1)
    arrays = LinearMixture(np.array(weights), means.numpy(), loadings.numpy(), noise)
    covariances = loadings @ loadings.mT + torch.diag_embed(torch.from_numpy(arrays.noise))
    return MixtureDensity(0, 4, 0, persistent=False).set_arrays(arrays), means, covariances


VARIES = torch.tensor([1.0, 1, 1, 0]).double()


@pytest.mark.parametrize("missing", [(), (1,), (0, 2)])
def test_a_mixture_density_is_that_of_its_normal_models(missing, seed):
    built, means, covariances = mixture_density(seed)
    x, seen = draws(seed + 2, 6, 4), [k for k in range(3) if k not in missing]
    x[:, list(missing)] = torch.nan
    normals = [MultivariateNormal(m[seen], c[seen][:, seen]) for m, c in zip(means, covariances, strict=True)]
    densities = torch.stack([normal.log_prob(x[:, seen]) for normal in normals], dim=1)
    torch.testing.assert_close(built.log_prob(x, VARIES), (densities + built.weights.log()).logsumexp(1))
    of_classes = mixture_density(seed, with_context=True)[0]
    context = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1, 1, 0]]
    expected = (densities + (context @ of_classes.weights).log()).logsumexp(1)
    torch.testing.assert_close(of_classes.log_prob(x, VARIES, context), expected)
    of_classes.loadings[2] = torch.nan  # the first class does not use this model
    torch.testing.assert_close(of_classes.log_prob(x[:1], VARIES, context[:1]), expected[:1])


def test_samples_with_missing_values_take_the_memory_of_one_model(seed, monkeypatch):
    built, _, _ = mixture_density(seed)
    factors, alive = [], []

    def spy(*of_model):
        alive.append(sum(factor() is not None for factor in factors))
        mean, factor = posterior_given_observed(*of_model)
        factors.append(weakref.ref(factor))
        return mean, factor

    monkeypatch.setattr("skae.objectives.mixtures.posterior_given_observed", spy)
    built.log_prob(torch.full((6, 4), torch.nan).double(), VARIES)
    assert alive == [0, 1, 1]


def test_draws_of_a_mixture_density_have_its_moments(seed):
    built, means, covariances = mixture_density(seed)
    found = built.draw(draws(seed, 60000, 3), torch.Generator().manual_seed(seed))
    weights, second = built.weights[0], covariances + means[:, :, None] * means[:, None]
    mean = weights @ means
    torch.testing.assert_close(found.mean(0), mean, atol=0.05, rtol=0)
    expected = torch.einsum("m,mij->ij", weights, second) - mean[:, None] * mean
    torch.testing.assert_close(found.T.cov(), expected, atol=0.15, rtol=0)
    of_classes = mixture_density(seed, with_context=True)[0]
    context = torch.tensor([[0.0, 1.0]]).double().expand(60000, -1)
    found = of_classes.draw(draws(seed, 60000, 3), torch.Generator().manual_seed(seed), context)
    torch.testing.assert_close(found.mean(0), of_classes.weights[1] @ means, atol=0.05, rtol=0)
    assert built.draw(draws(seed, 0, 3), torch.Generator()).shape == (0, 4)


def test_missing_values_are_drawn_from_the_conditional_mixture(seed):
    """The share of each model and its conditional normal, by the formulas of two columns."""
    built, means, covariances = mixture_density(seed)
    x = torch.tensor([[0.3, torch.nan, -0.4, 0.0]]).double()
    found = built.draw_missing(x, 40000, VARIES, torch.Generator().manual_seed(seed))
    assert torch.equal(found[:, [0, 2, 3]], x[:, [0, 2, 3]].expand(40000, -1))
    seen, value = [0, 2], torch.tensor([0.3, -0.4]).double()
    shares, mean, square = [], [], []
    for weight, m, c in zip(built.weights[0], means, covariances, strict=True):
        shares.append(weight * MultivariateNormal(m[seen], c[seen][:, seen]).log_prob(value).exp())
        gain = torch.linalg.solve(c[seen][:, seen], c[seen, 1])
        mean.append(m[1] + gain @ (value - m[seen]))
        square.append(mean[-1] ** 2 + c[1, 1] - gain @ c[seen, 1])
    shares = torch.stack(shares) / sum(shares)
    torch.testing.assert_close(found[:, 1].mean(), shares @ torch.stack(mean), atol=0.04, rtol=0)
    expected = shares @ torch.stack(square) - (shares @ torch.stack(mean)) ** 2
    torch.testing.assert_close(found[:, 1].var(), expected, atol=0.1, rtol=0.05)


def test_the_weight_of_held_out_samples_is_a_fixed_point_of_em_with_one_more_sample_each(seed):
    gain = 3 * draws(seed, 50)
    weight = held_out_weight(gain)
    assert weight == pytest.approx(float((1 + (gain + weight.logit()).sigmoid().sum()) / 52), abs=1e-9)

    def posterior(w):
        return torch.logaddexp(math.log(w) + gain, torch.tensor(math.log1p(-w))).sum() + math.log(w) + math.log1p(-w)

    assert posterior(float(weight)) >= max(posterior(float(weight) + change) for change in (-1e-3, 1e-3))
    assert held_out_weight(torch.full((8,), torch.inf)) == pytest.approx(0.9)
    assert held_out_weight(torch.full((8,), -torch.inf)) == pytest.approx(0.1)
    assert held_out_weight(torch.full((8,), torch.nan)) == pytest.approx(0.5)


@pytest.mark.parametrize("n_context", [0, 2])
def test_a_mixture_of_samples_joins_the_linear_models(n_context, seed):
    built, x, bound = LinearModels(2, 4, 1, n_context).double(), draws(seed, 30, 4), draws(seed + 1, 30)
    context = torch.eye(2, dtype=torch.float64)[torch.arange(30) % 2] if n_context else None
    built.shift.copy_(draws(seed + 2, n_context, 4))
    built.share.fill_(1 / 32)
    built.varies.copy_(VARIES)
    before = built(bound, x, context)
    assert built.n_models == 2
    assert built.mixture_weight == 0
    mixture = mixture_density(seed, with_context=n_context > 0)[0]
    of_mixture = mixture.log_prob(x, VARIES, context)
    built.add_mixture(mixture, of_mixture - before)
    weight = held_out_weight(of_mixture - before)
    assert built.mixture_weight == pytest.approx(float(weight), rel=1e-6)
    assert built.n_models == 5
    expected = torch.logaddexp((1 - weight).log() + before, weight.log() + of_mixture)
    torch.testing.assert_close(built(bound, x, context), expected, rtol=1e-6, atol=1e-6)
    generator, n = torch.Generator().manual_seed(seed), 30000
    context = None if context is None else context[:1].expand(n, -1)
    found = built.draw(draws(seed, n, 1), generator, context)
    share = float(built.mixture_share)
    shift = 0 if context is None else built.shift[0]
    mean = (1 - share) * shift * torch.ones(4).double() + share * mixture.weights[0] @ mixture.means
    torch.testing.assert_close(found.mean(0), mean, atol=0.06, rtol=0)
    context = None if context is None else context[:1]
    given = built.draw_missing(torch.full((1, 4), torch.nan).double(), n, generator, context)
    torch.testing.assert_close(given.mean(0), found.mean(0), atol=0.08, rtol=0)
    torch.testing.assert_close(given.std(0), found.std(0), atol=0.08, rtol=0.05)
    x[0, 1] = torch.nan
    drawn = built.draw_missing(x[:1], 30, generator, context)
    assert torch.equal(drawn[:, [0, 2, 3]], x[:1, [0, 2, 3]].expand(30, -1))
    assert not drawn.isnan().any()


def alone(built, x):
    """The likelihood of independent columns of these samples; their means are all different from 0 and 1."""
    columns = IndependentColumns(built).double()
    mean, varies = x.nanmean(0), torch.ones(x.shape[1]).double()
    columns.start_at(start_of_columns(mean, (x - mean).square().nanmean(0), varies, 10**12))
    return columns


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_no_other_constant_output_is_likelier(name, seed):
    x = target(name, seed, 500, 4)
    columns = alone(LIKELIHOODS[name](4).double(), x)
    best = columns.log_prob(x).sum()
    for k in range(columns.eta.numel()):
        for change in (-0.02, 0.02):
            columns.eta[k] += change
            assert columns.log_prob(x).sum() < best
            columns.eta[k] -= change


def test_a_column_alone_has_the_dispersion_of_its_variance(seed):
    size = torch.tensor([0.05, 1.0, 20.0, 1e9], dtype=torch.float64)
    rate = (
        torch._standard_gamma(size.expand(4000, -1).contiguous(), generator=torch.Generator().manual_seed(seed)) / size
    )
    x = torch.poisson(30 * rate, generator=torch.Generator().manual_seed(seed))
    x[::7, 1] = torch.nan
    columns = alone(likelihood("negative_binomial", 4), x)
    expected = torch.log(size).clamp(max=7)
    torch.testing.assert_close(columns.likelihood.log_size[:3], expected[:3], atol=0.5, rtol=0)
    assert columns.likelihood.log_size[3] >= 5


def test_a_normal_column_alone_has_its_mean_and_variance():
    x = torch.tensor([[1.0, 3.0], [5.0, 3.0], [torch.nan] * 2], dtype=torch.float64)
    columns = alone(likelihood("gaussian", 2), x)
    torch.testing.assert_close(columns.eta[:2], torch.tensor([3.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(columns.likelihood.variance(columns.eta), torch.tensor([4.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "negative_binomial", "multinomial"])
def test_independent_columns_rule_nothing_out(name):
    mean, x = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    columns = IndependentColumns(likelihood(name, 2)).double()
    columns.start_at(start_of_columns(mean, 0 * mean, torch.ones(2).double(), 9))
    far = torch.distributions.Bernoulli if name == "bernoulli" else torch.distributions.Poisson
    expected = far(torch.tensor([0.05, 0.95], dtype=torch.float64)).log_prob(x).sum()
    if name == "multinomial":
        expected = torch.tensor(0.05, dtype=torch.float64).log()
    torch.testing.assert_close(columns.log_prob(x)[0], expected, rtol=1e-2, atol=0)


def test_columns_of_several_kinds_are_independent_as_each_kind_is(seed):
    names = ("gaussian", "negative_binomial", "bernoulli", "gaussian", "categorical")
    parts = [target(name, seed + k, 50, 3) for k, name in enumerate(names)]
    mixed = alone(Mixed([likelihood(name, 3) for name in names]), torch.cat(parts, 1))
    each = [alone(likelihood(name, 3), part) for name, part in zip(names, parts, strict=True)]
    expected = sum(columns.log_prob(part) for columns, part in zip(each, parts, strict=True))
    torch.testing.assert_close(mixed.log_prob(torch.cat(parts, 1)), expected)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_independent_columns_get_their_share_and_are_not_trained(name, seed):
    x, bound = target(name, seed, 4000, 4), draws(seed, 4000)
    columns = alone(likelihood(name, 4), x)
    torch.testing.assert_close(columns(bound, x), bound)  # the share is zero
    columns.share.fill_(0.25)
    expected = 0.75 * bound.exp() + 0.25 * columns.log_prob(x).exp()
    torch.testing.assert_close(columns(bound, x).exp(), expected)
    far = columns(torch.full_like(bound, -torch.inf), x)
    torch.testing.assert_close(far, columns.log_prob(x) - math.log(4))
    assert not any(p.requires_grad for p in columns.parameters())
    none = torch.empty(4000, 0, dtype=torch.float64)
    rows = columns.draw(none, torch.Generator().manual_seed(seed))
    assert torch.equal(rows, columns.draw(none, torch.Generator().manual_seed(seed)))
    if name != "multinomial":  # its samples have sums of their own
        torch.testing.assert_close(rows.mean(0), x.mean(0), atol=0.25, rtol=0)
    columns.start_at(start_of_columns(x.mean(0), x.var(0), torch.zeros(4).double(), 4000))
    assert columns.share == 0
    assert name == "multinomial" or not columns.log_prob(x).any()


def test_a_start_of_linear_models_is_no_part_of_a_graph(seed):
    values, linear_models = draws(seed, 10).requires_grad_(), LinearModels(1, 5, 2)
    baselines = LinearBaselines(values.reshape(1, 5, 2), values[:5], values[:5], values[:0].reshape(0, 5))
    linear_models.start_at(DefensiveStart(None, None, lambda n_components: baselines))
    assert not any(buffer.requires_grad for buffer in linear_models.buffers())


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_defensive_mixture_of_a_likelihood_has_its_columns(name):
    built = likelihood(name, 4)
    mixture = built.defensive(3, 2)
    assert mixture.n_components == (3 if built.is_conjugate else 0)
    assert mixture.share == 0
    assert not {id(part) for part in mixture.modules()} & {id(part) for part in built.modules()}
    x = mixture.draw(torch.zeros(9, mixture.n_components), torch.Generator().manual_seed(0), torch.zeros(9, 2))
    assert x.shape == (9, 4)


def test_independent_columns_are_drawn_with_sums_of_training_samples():
    columns = LIKELIHOODS["multinomial"](3).defensive(2, 0)
    columns.start_at(start_of_columns(torch.ones(3), torch.ones(3), torch.ones(3), 10, sums=[4.0, 9.0]))
    x = columns.draw(torch.empty(500, 0), torch.Generator().manual_seed(0))
    assert set(x.sum(1).tolist()) == {4.0, 9.0}
