import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Independent,
    Multinomial,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
    kl_divergence,
)

from skae.likelihoods import LIKELIHOODS, Categorical, IndependentColumns, LinearModels, Mixed
from skae.losses import NegativeELBO
from skae.nn import MLP, VAE, Completion, VAEOutput, fixed_draws, gaussian_kl, sign_draws


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def likelihood(name, n_features):
    built = LIKELIHOODS[name](n_features).double()
    if name == "gaussian":
        variance = torch.linspace(0.5, 2, n_features, dtype=torch.float64)
        built.start_at(variance, torch.full((n_features,), 1e-4))
    if name == "negative_binomial":
        built.start_at(torch.linspace(0.1, 2, n_features, dtype=torch.float64))
    if name == "multinomial":
        built.start_at(torch.full((built.N_SUMS,), 7.0))
    return built


def output(built, seed, n, n_features):
    return draws(seed, n, built.n_parameters * n_features)


def target(name, seed, *shape):
    x = draws(seed, *shape)
    if name == "gaussian":
        return x
    if name == "categorical":
        return torch.nn.functional.one_hot(x.argmax(-1), shape[-1]).double()
    return (x > 0).double() if name == "bernoulli" else (3 * x.abs()).floor()


def reference(built, name, eta):
    if name == "multinomial":
        return Multinomial(7, logits=eta, validate_args=False)
    if name == "categorical":
        return OneHotCategorical(logits=eta)
    base = {
        "gaussian": lambda: Normal(built.mean(eta), built.variance(eta).sqrt()),
        "bernoulli": lambda: Bernoulli(logits=eta),
        "poisson": lambda: Poisson(eta.exp()),
        "negative_binomial": lambda: NegativeBinomial(built.log_size.exp(), logits=eta - built.log_size),
    }
    return Independent(base[name](), 1)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_density_is_torchs(name, seed):
    built, x = likelihood(name, 4), target(name, seed + 1, 6, 4)
    eta = output(built, seed, 6, 4)
    torch.testing.assert_close(built(eta, x), reference(built, name, eta).log_prob(x))
    torch.testing.assert_close(built.mean(eta), reference(built, name, eta).mean)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_match_finite_differences(name, seed):
    built, x = likelihood(name, 3), target(name, seed + 1, 5, 3)
    parameters = [p.requires_grad_() for p in built.parameters()]
    eta = output(built, seed, 5, 3).requires_grad_()
    torch.autograd.gradcheck(lambda eta, *_: built(eta, x), (eta, *parameters))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_have_the_moments_of_the_density(name, seed):
    built = likelihood(name, 3)
    eta = output(built, seed, 1, 3).expand(40000, -1)
    rows = built.draw(eta, torch.Generator().manual_seed(seed))
    density = reference(built, name, eta[0])
    spread = density.variance.sqrt()
    assert ((rows.mean(0) - density.mean).abs() < 5 * spread / 200).all()
    torch.testing.assert_close(rows.var(0), density.variance, rtol=0.05, atol=0)


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "multinomial"])
def test_columns_that_do_not_vary_count_for_nothing(name, seed):
    built, x = likelihood(name, 4), target(name, seed + 1, 6, 4)
    eta = output(built, seed, 6, 4)
    whole = built.log_prob(eta, x)
    built.varies.copy_(torch.tensor([1.0, 0, 1, 0]))
    torch.testing.assert_close(built(eta, x), whole[:, 0] + whole[:, 2])


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "multinomial"])
def test_gaps_count_for_nothing_and_teach_nothing(name, seed):
    built, x = likelihood(name, 4), target(name, seed + 1, 6, 4)
    eta = output(built, seed, 6, 4).requires_grad_()
    whole = built.log_prob(eta, x)
    x[:, 1] = x[2] = torch.nan
    density = built(eta, x)
    torch.testing.assert_close(density, torch.where(x.isnan(), 0, whole).sum(1))
    density.sum().backward()
    assert eta.grad.isfinite().all()
    assert torch.equal(built.mean_of_gaps(eta, x), built.mean(eta))
    drawn = (
        draw(torch.Generator().manual_seed(seed))
        for draw in (lambda generator: built.draw_gaps(eta, x, generator), lambda generator: built.draw(eta, generator))
    )
    assert torch.equal(*drawn)


def test_noise_starts_where_it_is_told_and_stops_at_the_floor():
    built = LIKELIHOODS["gaussian"](2).double()
    variance, eta = torch.tensor([0.3, 1e-9], dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    built.start_at(variance, torch.tensor([1e-4, 1e-4], dtype=torch.float64))
    torch.testing.assert_close(built.variance(eta), variance)
    with torch.no_grad():
        built.log_excess.fill_(-1000.0)
    torch.testing.assert_close(built.variance(eta), torch.tensor([1e-4, 5e-10], dtype=torch.float64), rtol=1e-7, atol=0)


def test_blocks_of_categories_are_independent(seed):
    sizes = 3, 1, 9, 2, 8
    built, eta = Categorical(23, sizes).double(), draws(seed, 5, 6, 23)
    apart = [OneHotCategorical(logits=part) for part in eta.split(sizes, -1)]
    x = torch.cat([density.sample() for density in apart], -1)
    expected = sum(density.log_prob(part) for density, part in zip(apart, x.split(sizes, -1), strict=True))
    torch.testing.assert_close(built(eta, x), expected)
    torch.testing.assert_close(built.mean(eta), torch.cat([density.probs for density in apart], -1))
    drawn = built.draw(eta, torch.Generator().manual_seed(seed))
    assert drawn.shape == eta.shape
    for part in drawn.split(sizes, -1):
        assert torch.equal(part.sum(-1), torch.ones(5, 6, dtype=torch.float64))
        assert set(part.unique().tolist()) <= {0.0, 1.0}


def test_a_mixed_row_has_the_sum_of_its_columns_densities(seed):
    names = ["gaussian", "bernoulli", "negative_binomial", "categorical"]
    parts, columns = [likelihood(name, 3) for name in names], [target(name, seed, 6, 3) for name in names]
    etas = [output(part, seed + k, 6, 3) for k, part in enumerate(parts)]
    mixed = Mixed(parts).double()
    assert len(list(mixed.parameters())) == 2  # a level of noise and a dispersion, a column each
    eta = torch.cat([eta[:, :3] for eta in etas] + [eta[:, 3:] for eta in etas], -1)
    assert eta.shape[1] == mixed.n_outputs
    expected = sum(part(*pair) for part, *pair in zip(parts, etas, columns, strict=True))
    torch.testing.assert_close(mixed(eta, torch.cat(columns, -1)), expected)
    means = [part.mean(eta) for part, eta in zip(parts, etas, strict=True)]
    torch.testing.assert_close(mixed.mean(eta), torch.cat(means, -1))
    assert mixed.draw(eta, torch.Generator().manual_seed(seed)).shape == (6, 12)
    torch.testing.assert_close(mixed(eta.expand(2, 6, -1), torch.cat(columns, -1)), expected.expand(2, 6))
    torch.testing.assert_close(mixed.mean(eta.expand(2, 6, -1)), torch.cat(means, -1).expand(2, 6, -1))
    assert mixed.draw(eta.expand(2, 6, -1), torch.Generator().manual_seed(seed)).shape == (2, 6, 12)


@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_counts_stay_finite_far_off(name):
    built, eta = likelihood(name, 2), torch.tensor([[-1e30, 1e30], [-1e3, 1e3]], dtype=torch.float64)
    assert torch.isfinite(built.mean(eta)).all()
    assert torch.isfinite(built.draw(eta, torch.Generator().manual_seed(0))).all()
    for count in (0.0, 3.0):
        density = built(eta, torch.full((2, 2), count, dtype=torch.float64))
        assert torch.isfinite(density).all()
        assert (density < 0).all()
        largest, beyond = (
            built(torch.full((1, 2), at).double(), torch.full((1, 2), count).double()) for at in (40, 100)
        )
        assert largest == beyond


def test_dispersion_stays_in_its_range():
    built = likelihood("negative_binomial", 2)
    built.start_at(torch.tensor([1e-30, 1e30], dtype=torch.float64))
    torch.testing.assert_close(built.log_size, torch.tensor([7.0, -5.0], dtype=torch.float64))
    built.log_size.sum().backward()
    assert built.dispersion.grad.all()  # no start is a dead end
    built.dispersion.data.copy_(torch.tensor([-100.0, 100.0]))
    torch.testing.assert_close(built.log_size, torch.tensor([7.0, -5.0], dtype=torch.float64))


def test_a_code_moves_the_noise_within_bounds():
    built = likelihood("gaussian", 2)
    eta = torch.tensor([[7.0, 7.0, change, 0.0] for change in (-1e9, -0.01, 0.0, 0.01, 1e9)], dtype=torch.float64)
    moved = (built.variance(eta) - built.floor).log() - built.log_excess
    expected = torch.tensor([-built.RANGE, -0.01, 0, 0.01, built.RANGE], dtype=torch.float64)
    torch.testing.assert_close(moved[:, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(moved[:, 1], torch.zeros(5, dtype=torch.float64))


def test_kl_is_torchs_and_within_monte_carlo_error(seed):
    mean, log_var = draws(seed, 5, 3), draws(seed + 1, 5, 3)
    q, p = Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)
    torch.testing.assert_close(gaussian_kl(mean, log_var), kl_divergence(q, Normal(torch.zeros_like(mean), 1.0)))
    z = mean + (log_var / 2).exp() * draws(seed + 2, 40000, 5, 3)
    ratio = q.log_prob(z) - p.log_prob(z)
    assert ((ratio.mean(0) - gaussian_kl(mean, log_var)).abs() < 5 * ratio.std(0) / 200).all()


def test_the_objective_is_minus_the_bound_with_beta_on_its_kl(seed):
    built = likelihood("gaussian", 4)
    mean, log_var, eta, x = draws(seed, 6, 2), draws(seed + 1, 6, 2), draws(seed + 2, 3, 6, 8), draws(seed + 3, 6, 4)
    output = VAEOutput(mean, log_var, None, eta)
    fit, kl = built(eta, x).mean(0), gaussian_kl(mean, log_var).sum(1)
    for beta in (0.0, 1.0, 4.0):
        assert NegativeELBO(built, beta)(output, x).item() == pytest.approx((beta * kl - fit).mean().item())


@pytest.mark.parametrize(("n_draws", "n_components"), [(16, 1), (16, 8), (64, 20)])
def test_fixed_draws_have_mean_zero_and_identity_covariance(n_draws, n_components):
    z = fixed_draws(n_draws, n_components)[:, 0]
    torch.testing.assert_close(z.mean(0), torch.zeros(n_components, dtype=torch.float64))
    torch.testing.assert_close(z.T @ z / n_draws, torch.eye(n_components, dtype=torch.float64))
    assert torch.equal(z, fixed_draws(n_draws, n_components)[:, 0])


@pytest.mark.parametrize(
    ("n_components", "n_draws"), [(1, 8), (4, 8), (8, 8), (9, 16), (16, 16), (100, 128), (600, 1024)]
)
def test_sign_draws_have_mean_zero_and_variance_one_and_are_hardly_correlated(n_components, n_draws):
    z = sign_draws(n_components)[:, 0]
    assert z.shape == (n_draws, n_components)
    assert not z.mean(0).any()
    assert (z.square() == 1).all()
    correlation = z.T @ z / n_draws - torch.eye(n_components)
    assert correlation.abs().max() <= 0.5
    assert not correlation[: n_draws // 2, : n_draws // 2].any()


def test_every_parameter_of_a_vae_gets_a_gradient(seed):
    generator = torch.Generator().manual_seed(seed)
    built = likelihood("gaussian", 5)
    net = VAE(MLP([5, 8, 4], "tanh", generator), MLP([2, 8, 10], "tanh", generator), built, Completion(5, 2)).double()
    x = draws(seed, 30, 5)
    NegativeELBO(built)(net(x, fixed_draws(4, 2)), x).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_missing_counts_leave_the_shares_of_the_others():
    built, eta, x = likelihood("multinomial", 4), draws(0, 3, 4), target("multinomial", 1, 3, 4)
    expected = Multinomial(1, logits=eta[:, :2], validate_args=False).log_prob(x[:, :2])
    x[:, 2:] = torch.nan
    torch.testing.assert_close(built(eta, x), expected)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_rows_are_drawn_from_the_generator_given(name, seed):
    built, eta = likelihood(name, 4), output(likelihood(name, 4), seed, 6, 4)
    x, before = torch.full((6, 4), torch.nan, dtype=torch.float64), torch.random.get_rng_state()
    x[:, 1] = 5
    for draw in (lambda g: built.draw(eta, g), lambda g: built.draw_gaps(eta, x, g)):
        one, two, three = (draw(torch.Generator().manual_seed(k)) for k in (seed, seed, seed + 1))
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
        if name != "gaussian":
            assert torch.equal(one, one.round())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_several_draws_of_a_code_go_in_one_call(name, seed):
    built, x = likelihood(name, 4), target(name, seed, 6, 4)
    eta = torch.stack([output(built, seed + k, 6, 4) for k in (1, 2)])
    torch.testing.assert_close(built(eta, x), torch.stack([built(one, x) for one in eta]))
    torch.testing.assert_close(built.mean(eta), torch.stack([built.mean(one) for one in eta]))
    x[1, 2] = torch.nan
    torch.testing.assert_close(built(eta, x), torch.stack([built(one, x) for one in eta]))
    gaps = torch.stack([built.mean_of_gaps(one, x) for one in eta])
    torch.testing.assert_close(built.mean_of_gaps(eta, x), gaps)


def test_a_fit_keeps_what_it_learnt_and_no_layout():
    assert list(Categorical(7, (2, 1, 4)).state_dict()) == ["varies"]


def test_missing_counts_have_their_share_beside_what_is_there():
    built, eta, nan = likelihood("multinomial", 4), draws(0, 2, 4), torch.nan
    mean = built.mean_of_gaps(eta, torch.tensor([[3.0, 1.0, nan, nan], [nan] * 4], dtype=torch.float64))
    shares = eta.softmax(1)
    torch.testing.assert_close(mean[0], 4 * shares[0] / shares[0, :2].sum())
    assert not mean[1].any()  # of nothing, nothing


def test_no_count_is_lost_or_won_in_rounding(seed):
    built = likelihood("multinomial", 12).float()
    built.start_at(torch.full((100,), 1e6 + 0.4))
    far = torch.eye(12)[[0, 5, 11]] * 1000
    eta = torch.cat([far, 10 * draws(seed, 3000, 12).float(), draws(seed + 1, 3000, 12).float()])
    rows = built.draw(eta, torch.Generator().manual_seed(seed))
    assert (rows >= 0).all()
    assert (rows.double().sum(1) == 1e6).all()
    assert torch.equal(rows[:3], far * 1000)


def test_rows_have_sums_of_training_rows():
    built = likelihood("multinomial", 4)
    built.start_at(torch.arange(100.0))
    sums = built.draw(draws(0, 2000, 4), torch.Generator().manual_seed(0)).sum(1)
    assert set(sums.tolist()) <= set(range(100))
    assert abs(sums.mean() - 49.5) < 3


def defence_of(seed, n_models=2, n_given=0):
    """Linear models of five columns, the last of which does not vary, with a share of 0.3."""
    built = LinearModels(n_models, 5, 2, n_given).double()
    loadings = torch.zeros(n_models, 5, 2, dtype=torch.float64)
    loadings[:, :4] = torch.linalg.qr(draws(seed, n_models, 4, 2))[0] * torch.tensor([2.0, 0.5])
    noise = torch.rand(n_models, 1, generator=torch.Generator().manual_seed(seed)).double().expand(-1, 5) + 0.5
    varies, shift = torch.tensor([1.0, 1, 1, 1, 0]).double(), draws(seed + 1, n_given, 5)
    built.start_at(loadings, noise, varies, shift if n_given else None)
    for part, given in ((built.loadings, loadings), (built.noise, noise), (built.varies, varies), (built.shift, shift)):
        assert torch.equal(part, given)
    return built


def test_linear_models_have_normal_densities_and_a_mixture_of_these(seed):
    built, x = defence_of(seed), draws(seed + 2, 6, 5)
    covariances = built.loadings @ built.loadings.mT + torch.diag_embed(built.noise)
    normals = [MultivariateNormal(torch.zeros(4).double(), part[:4, :4]) for part in covariances]
    expected = torch.stack([normal.log_prob(x[:, :4]) for normal in normals]).logsumexp(0) - torch.tensor(2).log()
    torch.testing.assert_close(built.log_prob(x), expected)
    bound = draws(seed + 3, 6)
    torch.testing.assert_close(built(bound, x), bound)  # no share as yet
    built.share.fill_(0.3)
    torch.testing.assert_close(built(bound, x).exp(), 0.7 * bound.exp() + 0.3 * expected.exp())
    x[:, 2:4] = torch.nan
    normals = [MultivariateNormal(torch.zeros(2).double(), part[:2, :2]) for part in covariances]
    expected = torch.stack([normal.log_prob(x[:, :2]) for normal in normals]).logsumexp(0) - torch.tensor(2).log()
    torch.testing.assert_close(built.log_prob(x), expected)
    built.start_at(built.loadings, built.noise, built.varies)
    assert built.share == 0


def test_rows_of_linear_models_have_the_moments_of_their_mixture(seed):
    built, given = defence_of(seed, n_given=1), torch.full((40000, 1), 2.0).double()
    z, before = draws(seed + 1, 40000, 2), torch.random.get_rng_state()
    rows = built.draw(z, torch.Generator().manual_seed(seed), given)
    assert torch.equal(rows, built.draw(z, torch.Generator().manual_seed(seed), given))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.testing.assert_close(rows.mean(0), 2 * built.shift[0], atol=0.05, rtol=0)
    covariance = (built.loadings @ built.loadings.mT + torch.diag_embed(built.noise)).mean(0)
    torch.testing.assert_close(rows.T.cov(), covariance, atol=0.1, rtol=0)
    torch.testing.assert_close(rows.T @ z / len(z), built.loadings.mean(0), atol=0.1, rtol=0)
    without = built.draw(z, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(rows, without + given @ built.shift)
    built.share.fill_(0.3)
    bound, few, of_few = draws(seed, 9), rows[:9], given[:9]
    torch.testing.assert_close(built(bound, few, of_few), built(bound, few - of_few @ built.shift))


def test_before_a_start_there_are_no_linear_models(seed):
    built, x, bound = LinearModels(2, 3, 1, 1).double(), draws(seed, 4, 3), draws(seed + 1, 4)
    torch.testing.assert_close(
        built.log_prob(x), MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double()).log_prob(x)
    )
    torch.testing.assert_close(built(bound, x, torch.ones(4, 1).double()), bound)
    assert torch.equal(
        built.draw(draws(seed, 4, 1), torch.Generator().manual_seed(0), torch.ones(4, 1).double()),
        built.draw(draws(seed, 4, 1), torch.Generator().manual_seed(0)),
    )


def test_a_start_is_no_part_of_a_graph(seed):
    given, built = draws(seed, 100).requires_grad_(), LIKELIHOODS["multinomial"](4)
    built.start_at(given)
    linear_models = LinearModels(1, 5, 2)
    linear_models.start_at(given[:10].reshape(1, 5, 2), given[:5], given[:5])
    assert not any(buffer.requires_grad for part in (built, linear_models) for buffer in part.buffers())


def alone(built, x):
    """The likelihood of independent columns of these rows; their means are all different from 0 and 1."""
    columns = IndependentColumns(built).double()
    mean = x.nanmean(0)
    columns.start_at(mean, (x - mean).square().nanmean(0), torch.ones(x.shape[1]).double(), 10**12)
    return columns


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_no_columns_that_are_alike_for_all_rows_are_likelier(name, seed):
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
def test_columns_alone_rule_nothing_out(name):
    mean, x = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    columns = IndependentColumns(likelihood(name, 2)).double()
    columns.start_at(mean, 0 * mean, torch.ones(2).double(), 9)
    far = torch.distributions.Bernoulli if name == "bernoulli" else torch.distributions.Poisson
    expected = far(torch.tensor([0.05, 0.95], dtype=torch.float64)).log_prob(x).sum()
    if name == "multinomial":
        expected = torch.tensor(0.05, dtype=torch.float64).log()
    torch.testing.assert_close(columns.log_prob(x)[0], expected, rtol=1e-2, atol=0)


def test_columns_of_several_kinds_are_alone_as_each_kind_is(seed):
    names = ("gaussian", "negative_binomial", "bernoulli", "gaussian", "categorical")
    parts = [target(name, seed + k, 50, 3) for k, name in enumerate(names)]
    mixed = alone(Mixed([likelihood(name, 3) for name in names]), torch.cat(parts, 1))
    each = [alone(likelihood(name, 3), part) for name, part in zip(names, parts, strict=True)]
    expected = sum(columns.log_prob(part) for columns, part in zip(each, parts, strict=True))
    torch.testing.assert_close(mixed.log_prob(torch.cat(parts, 1)), expected)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_independent_columns_defend_and_do_not_learn(name, seed):
    x, bound = target(name, seed, 4000, 4), draws(seed, 4000)
    columns = alone(likelihood(name, 4), x)
    torch.testing.assert_close(columns(bound, x), bound)  # no share as yet
    columns.share.fill_(0.25)
    expected = 0.75 * bound.exp() + 0.25 * columns.log_prob(x).exp()
    torch.testing.assert_close(columns(bound, x).exp(), expected)
    far = columns(torch.full_like(bound, -torch.inf), x)
    torch.testing.assert_close(far, columns.log_prob(x) - math.log(4))
    assert not any(p.requires_grad for p in columns.parameters())
    none = torch.empty(4000, 0, dtype=torch.float64)
    rows = columns.draw(none, torch.Generator().manual_seed(seed))
    assert torch.equal(rows, columns.draw(none, torch.Generator().manual_seed(seed)))
    if name != "multinomial":  # whose rows have sums of their own
        torch.testing.assert_close(rows.mean(0), x.mean(0), atol=0.25, rtol=0)
    columns.start_at(x.mean(0), x.var(0), torch.zeros(4).double(), 4000)
    assert columns.share == 0
    assert name == "multinomial" or not columns.log_prob(x).any()
