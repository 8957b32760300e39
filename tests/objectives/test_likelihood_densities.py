import math

import numpy as np
import pytest
import torch
from objective_cases import NORMAL, draws, likelihood, output, reference, start_noise, target
from torch.distributions import Multinomial, OneHotCategorical

from skae.objectives import LIKELIHOODS, mixed_likelihood
from skae.objectives.likelihoods.categorical import Categorical
from skae.objectives.likelihoods.mixed import Mixed


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_density_is_torchs(name, seed):
    built, x = likelihood(name, 4), target(name, seed + 1, 6, 4)
    eta = output(built, seed, 6, 4)
    torch.testing.assert_close(built(eta, x), reference(built, name, eta).log_prob(x))
    torch.testing.assert_close(built.mean(eta), reference(built, name, eta).mean)


def test_the_log_density_is_linear_in_the_sufficient_statistics(seed):
    built, x = likelihood("gaussian", 4), target("gaussian", seed + 1, 6, 4)
    eta = output(built, seed, 6, 4)
    built.varies.copy_(torch.tensor([1.0, 0, 1, 1]))
    slopes, offsets = built.natural(eta)
    torch.testing.assert_close((slopes * built.statistics(x)).sum(1) + offsets, built(eta, x))


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
def test_constant_columns_add_nothing(name, seed):
    built, x = likelihood(name, 4), target(name, seed + 1, 6, 4)
    eta = output(built, seed, 6, 4)
    whole = built.log_prob(eta, x)
    built.varies.copy_(torch.tensor([1.0, 0, 1, 0]))
    torch.testing.assert_close(built(eta, x), whole[:, 0] + whole[:, 2])


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "multinomial"])
def test_missing_values_add_nothing_and_have_no_gradient(name, seed):
    built, x = likelihood(name, 4), target(name, seed + 1, 6, 4)
    eta = output(built, seed, 6, 4).requires_grad_()
    whole = built.log_prob(eta, x)
    x[:, 1] = x[2] = torch.nan
    density = built(eta, x)
    torch.testing.assert_close(density, torch.where(x.isnan(), 0, whole).sum(1))
    density.sum().backward()
    assert eta.grad.isfinite().all()
    assert torch.equal(built.mean_of_missing(eta, x), built.mean(eta))
    drawn = (
        draw(torch.Generator().manual_seed(seed))
        for draw in (
            lambda generator: built.draw_missing(eta, x, generator),
            lambda generator: built.draw(eta, generator),
        )
    )
    assert torch.equal(*drawn)


def test_noise_starts_at_that_of_the_linear_model_and_stops_at_the_floor():
    noise, eta = torch.tensor([0.3, 1e-9], dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    built = start_noise(LIKELIHOODS["gaussian"](2).double(), noise)
    torch.testing.assert_close(built.variance(eta), noise)
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


def test_a_mixed_sample_has_the_sum_of_its_columns_densities(seed):
    names = ["gaussian", "bernoulli", "negative_binomial", "categorical"]
    parts, columns = [likelihood(name, 3) for name in names], [target(name, seed, 6, 3) for name in names]
    etas = [output(part, seed + k, 6, 3) for k, part in enumerate(parts)]
    mixed = Mixed(parts).double()
    assert len(list(mixed.parameters())) == 2  # noise and dispersion
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
    start_noise(built, torch.tensor([1e-30, 1e30], dtype=torch.float64))
    torch.testing.assert_close(built.log_size, torch.tensor([7.0, -5.0], dtype=torch.float64))
    built.log_size.sum().backward()
    assert built.dispersion.grad.all()  # training can leave any start
    built.dispersion.data.copy_(torch.tensor([-100.0, 100.0]))
    torch.testing.assert_close(built.log_size, torch.tensor([7.0, -5.0], dtype=torch.float64))


def test_a_code_moves_the_noise_within_bounds():
    built = likelihood("gaussian", 2)
    eta = torch.tensor([[7.0, 7.0, change, 0.0] for change in (-1e9, -0.01, 0.0, 0.01, 1e9)], dtype=torch.float64)
    moved = (built.variance(eta) - built.floor).log() - built.log_excess
    expected = torch.tensor([-built.RANGE, -0.01, 0, 0.01, built.RANGE], dtype=torch.float64)
    torch.testing.assert_close(moved[:, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(moved[:, 1], torch.zeros(5, dtype=torch.float64))


def test_missing_counts_leave_the_shares_of_the_others():
    built, eta, x = likelihood("multinomial", 4), draws(0, 3, 4), target("multinomial", 1, 3, 4)
    expected = Multinomial(1, logits=eta[:, :2], validate_args=False).log_prob(x[:, :2])
    x[:, 2:] = torch.nan
    torch.testing.assert_close(built(eta, x), expected)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_samples_are_drawn_from_the_generator(name, seed):
    built, eta = likelihood(name, 4), output(likelihood(name, 4), seed, 6, 4)
    x, before = torch.full((6, 4), torch.nan, dtype=torch.float64), torch.random.get_rng_state()
    x[:, 1] = 5
    for draw in (lambda g: built.draw(eta, g), lambda g: built.draw_missing(eta, x, g)):
        one, two, three = (draw(torch.Generator().manual_seed(k)) for k in (seed, seed, seed + 1))
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
        if name not in NORMAL:
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
    missing = torch.stack([built.mean_of_missing(one, x) for one in eta])
    torch.testing.assert_close(built.mean_of_missing(eta, x), missing)


def test_the_state_holds_what_was_learned_and_no_layout():
    assert list(Categorical(7, (2, 1, 4)).state_dict()) == ["varies"]


def test_missing_counts_have_their_share_relative_to_observed_ones():
    built, eta, nan = likelihood("multinomial", 4), draws(0, 2, 4), torch.nan
    mean = built.mean_of_missing(eta, torch.tensor([[3.0, 1.0, nan, nan], [nan] * 4], dtype=torch.float64))
    shares = eta.softmax(1)
    torch.testing.assert_close(mean[0], 4 * shares[0] / shares[0, :2].sum())
    torch.testing.assert_close(mean[1], built.mean(eta)[1])  # without an observed count the sum is the mean one


def test_no_count_is_lost_or_won_in_rounding(seed):
    built = likelihood("multinomial", 12).float()
    built.fit_sums(lambda: torch.full((100,), 1e6 + 0.4))
    far = torch.eye(12)[[0, 5, 11]] * 1000
    eta = torch.cat([far, 10 * draws(seed, 3000, 12).float(), draws(seed + 1, 3000, 12).float()])
    rows = built.draw(eta, torch.Generator().manual_seed(seed))
    assert (rows >= 0).all()
    assert (rows.double().sum(1) == 1e6).all()
    assert torch.equal(rows[:3], far * 1000)


def test_samples_have_sums_of_training_samples():
    built = likelihood("multinomial", 4)
    built.fit_sums(lambda: torch.arange(100.0))
    sums = built.draw(draws(0, 2000, 4), torch.Generator().manual_seed(0)).sum(1)
    assert set(sums.tolist()) <= set(range(100))
    assert abs(sums.mean() - 49.5) < 3


def test_a_start_is_no_part_of_a_graph(seed):
    sums, built = draws(seed, 100).requires_grad_(), LIKELIHOODS["multinomial"](4)
    built.fit_sums(lambda: sums)
    noise = draws(seed, 3).square().requires_grad_()
    parts = [built] + [start_noise(LIKELIHOODS[name](3), noise) for name in ("gaussian", "negative_binomial")]
    assert not any(buffer.requires_grad for part in parts for buffer in part.buffers())
    assert all(parameter.is_leaf for part in parts for parameter in part.parameters())


@pytest.mark.parametrize("n_samples", [1, 2, 99, 100, 101, 1234])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_the_nearest_quantiles(n_samples, dtype, seed):
    sums, built = np.random.RandomState(seed).gamma(2, size=n_samples).astype(dtype), LIKELIHOODS["multinomial"](2)
    built.fit_sums(lambda: sums)
    expected = np.quantile(sums, np.linspace(0, 1, built.N_SUMS), method="nearest")
    np.testing.assert_array_equal(built.sums, expected.astype(np.float32))


def test_a_dispersion_starts_at_the_noise_of_unscaled_logarithms():
    built = LIKELIHOODS["negative_binomial"](2).double()
    noise, scale = torch.tensor([0.2, 0.4]).double(), torch.tensor([3.0]).double()
    built.start_at(noise, torch.ones(2), scale)
    torch.testing.assert_close(-built.log_size, (9 * noise).log())


def test_each_part_of_a_mixed_likelihood_starts_at_its_columns(seed):
    noise, variance, scale = (draws(seed + k, 9).square() for k in range(3))
    mixed = mixed_likelihood([("gaussian", [1, 1]), ("categorical", [2, 3]), ("negative_binomial", [1, 1])]).double()
    mixed.start_at(noise, variance, scale)
    for part, columns in zip(mixed.parts, (slice(2), slice(2, 7), slice(7, 9)), strict=True):
        alone = part.fresh().double()
        alone.start_at(noise[columns], variance[columns], scale[columns])
        assert all(map(torch.equal, part.state_dict().values(), alone.state_dict().values()))
    one_scale = mixed.fresh().double()
    one_scale.start_at(noise, variance, scale[:1])
    mixed.start_at(noise, variance, scale[:1].expand(9))
    assert all(map(torch.equal, mixed.state_dict().values(), one_scale.state_dict().values()))


def test_a_mixed_likelihood_has_the_blocks_of_its_categories(seed):
    mixed = mixed_likelihood([("bernoulli", [1, 1]), ("categorical", [2, 3])])
    eta = draws(seed, 6, mixed.n_outputs)
    expected = torch.cat([eta[:, :2].sigmoid(), eta[:, 2:4].softmax(1), eta[:, 4:].softmax(1)], 1)
    for built in (mixed, mixed.fresh()):
        torch.testing.assert_close(built.mean(eta), expected)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_fresh_likelihood_is_as_before_any_start(name):
    built, fresh = likelihood(name, 4), likelihood(name, 4).fresh()
    assert type(fresh) is type(built)
    expected = LIKELIHOODS[name](4).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in fresh.state_dict().items())


def test_only_normal_likelihoods_are_conjugate():
    assert [name for name in LIKELIHOODS if LIKELIHOODS[name].is_conjugate] == ["gaussian", "isotropic_gaussian"]


def test_isotropic_noise_is_the_same_in_units_of_X():
    """It starts at the mean over columns that vary, training changes it for all at once, and eta has no part in it."""
    built = LIKELIHOODS["isotropic_gaussian"](4).double()
    scale = torch.tensor([1.0, 10, 100, 1e-3], dtype=torch.float64)
    built.varies[3] = 0
    built.start_at(torch.tensor([1.0, 2, 6, 1e9]).double() / scale.square(), 10 / scale.square(), scale)
    eta = draws(0, 5, 4)
    torch.testing.assert_close(built.variance(eta) * scale.square(), torch.full_like(eta, 3.0))
    with torch.no_grad():
        built.log_excess += 1
    changed = built.variance(eta) * scale.square()
    torch.testing.assert_close(changed, changed[:1, :1].expand_as(changed))
    assert changed[0, 0].item() == pytest.approx(
        3 * math.e, rel=0.1
    )  # its floor, a ten-thousandth of the variance, stays
    assert built.n_outputs == 4


def test_isotropic_noise_of_constant_columns_is_positive():
    built = LIKELIHOODS["isotropic_gaussian"](2).double()
    built.varies.zero_()
    ones = torch.ones(2, dtype=torch.float64)
    built.start_at(ones, ones, ones)
    torch.testing.assert_close(built.variance(torch.zeros(3, 2).double()), torch.ones(3, 2).double())


def test_a_constant_of_real_columns_has_a_small_unit(seed):
    built, deviation = likelihood("gaussian", 3), torch.tensor([0.0, 2.0, 5.0], dtype=torch.float64)
    for value, unit in ((0.0, 2e-2), (7.0, 2e-2), (-0.5, 5e-3), (1e7, 1.0)):
        rate, penalty, offset = built.of_constants(torch.full_like(deviation, value), deviation, 10)
        assert 1 / rate[0] == pytest.approx(unit)
        assert not penalty.any()
        assert not offset.any()
    rate, _, _ = built.of_constants(torch.zeros_like(deviation), torch.zeros_like(deviation), 10)
    assert rate[0] == pytest.approx(100)  # no column varies


def test_a_constant_with_a_noise_variance_has_a_normal_density():
    built, noise = likelihood("gaussian", 2), torch.tensor([4.0, 9.0], dtype=torch.float64)
    rate, penalty, offset = built.of_constants(torch.zeros_like(noise), torch.ones_like(noise), 10, noise)
    normal = torch.distributions.Normal(torch.zeros_like(noise), noise.sqrt())
    torch.testing.assert_close(-((rate * 3).square() / 2 + offset), normal.log_prob(torch.full_like(noise, 3.0)))
    assert not penalty.any()


def test_constants_of_a_mixed_table_are_those_of_its_parts():
    built = mixed_likelihood([("gaussian", [1, 1]), ("bernoulli", [1])])
    value, deviation = torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    rate, penalty, offset = built.of_constants(value, deviation, 8)
    torch.testing.assert_close(rate[[0, 2]], torch.tensor([100.0, 0]).double())
    torch.testing.assert_close(penalty, torch.tensor([0, 0, 10.0]).double().log().clamp_min(0))
    assert not offset.any()
    counts = likelihood("multinomial", 3)
    assert not torch.stack(counts.of_constants(value, deviation, 8)).any()
