"""Descent by sample, and the draws that estimate a bound."""

import pytest
import torch
from network_cases import autoencoder, fill_at_random, leveled, normal, ordered_decoder, unsilenced

from skae.networks.corrected import CorrectedLinear
from skae.networks.layers import linear
from skae.networks.refinement import descend, fixed_draws, sign_draws


def with_gradient(function):
    """An objective for `descend` from a function (n, k) -> (n,)."""

    def objective(p):
        with torch.enable_grad():
            leaf = p.detach().requires_grad_()
            value = function(leaf)
            total = value.sum()
        return value.detach(), lambda: torch.autograd.grad(total, leaf)[0]

    return objective


def square(p):
    return p.square().sum(1)


def descended(function, scaling, start, n_steps, worthwhile=lambda value: 0.01 * value):
    """What `descend` finds from this start, with gradients times ``scaling`` as steps of size 1."""
    start, scaling = (torch.as_tensor(part, dtype=torch.float64) for part in (start, scaling))
    return descend(with_gradient(function), scaling.mul, start, n_steps, worthwhile)


def test_a_step_that_did_not_help_is_not_taken_and_a_tenth_to_a_quarter_next():
    """From 1, ten times too far for the square, whose slope tells how far; a function without values below 0.7."""

    def function(p):
        has_no_value = torch.tensor([False, True]) & (p[:, 0] < 0.7)
        return p[:, 0].square().masked_fill(has_no_value, torch.nan)

    found = [descended(function, 5.0, torch.ones(2, 1), n)[:, 0].tolist() for n in range(5)]
    assert found[:2] == [[1.0, 1.0]] * 2
    assert found[2] == pytest.approx([0.0, 1.0], abs=1e-12)  # 10 / 10, and -10 / 4 is too far
    assert [part[1] for part in found[3:]] == pytest.approx([1.0, 1 - 10 / 64])


def test_the_second_step_is_where_the_slope_would_be_zero():
    """A tenth of the way, then as far as the slope tells, but at most four times the first step."""
    assert descended(square, 0.05, [[1.0]], 2).item() == pytest.approx(0.9 * (1 - 4 * 0.1))
    assert descended(square, 0.2, [[1.0]], 2).item() == pytest.approx(0, abs=1e-12)
    assert descended(square, 50.0, [[1.0]], 2).item() == 1  # a hundredth would do, a tenth is the least


def test_the_less_a_step_helped_the_less_the_next_one_grows():
    """The first step is taken by half, from 1 to .95. The next one may be 2.125 times as long, between 1 / 4 and 4."""
    found = descended(square, 0.05, [[1.0]], 2, lambda value: 0.38 * value).item()
    assert found == pytest.approx(0.95 - 2.125 * 0.05 * 1.9)


def test_a_step_that_hardly_helped_is_taken_in_part():
    one, two = (descended(square, 0.5, [[1.0]], n, lambda value: 2 * value).item() for n in (1, 2))
    assert one == 0.5  # the gain is half of what is worthwhile
    assert two == pytest.approx(0.5 - 0.5 * 0.5)  # from there the same again, as the secant has it


def test_each_sample_has_its_own_curvature():
    """The inverse second derivative gives the minimum at once."""
    scale = torch.tensor([[1.0, 4.0], [9.0, 0.25]], dtype=torch.float64)
    found = descended(lambda p: (scale * p.square()).sum(1), 0.5 / scale, torch.ones(2, 2), 1)
    assert torch.equal(found, torch.zeros_like(found))


class Encoded(torch.nn.Module):
    """An encoder with a code for each of some samples, known beforehand."""

    def __init__(self, z):
        super().__init__()
        self.z = z

    def forward(self, x):
        return self.z


def projected(decoder, x, z, n_refinements):
    """Codes improved from z."""
    net = autoencoder(Encoded(z), decoder, x.shape[1], (z.shape[1],), n_refinements).eval()
    return net.to(x.dtype).encode(x)


def test_a_linear_decoder_is_projected_on_in_one_step(generator):
    decoder = CorrectedLinear(linear(2, 5, generator)).double()
    basis = torch.linalg.qr(normal(generator, 5, 2))[0]
    lengths = torch.tensor([3.0, 1e-5], dtype=torch.float64)
    basis = basis * lengths  # of very different lengths, which float32 must bear
    decoder.start_at(basis)
    x = normal(generator, 30, 5)
    expected = x @ torch.linalg.pinv(basis).T
    away = expected + 10 / lengths  # in every sample so far that the step counts in full
    torch.testing.assert_close(projected(decoder, x, away, 1), expected)
    single = projected(decoder, x.float(), away.float(), 1)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single[:, 0], expected[:, 0].float(), rtol=1e-3, atol=1e-3)


def test_no_sample_is_projected_farther_away_and_each_by_itself(generator):
    decoder = unsilenced(2, 5, generator)
    x, z = (normal(generator, 30, n) for n in (5, 2))
    nearer = projected(decoder, x, z, 4)
    before, after = ((decoder(code) - x).square().sum(1) for code in (z, nearer))
    assert (after <= before).all()
    assert after.mean() < 0.8 * before.mean()
    torch.testing.assert_close(projected(decoder, x[3:4], z[3:4], 4), nearer[3:4])


def test_a_component_without_a_start_stays_where_it_is(generator):
    decoder = unsilenced(2, 5, generator)
    decoder.start_weight[:, 1] = 0
    x, z = normal(generator, 30, 5), normal(generator, 30, 2)
    nearer = projected(decoder, x, z, 4)
    assert torch.equal(nearer[:, 1], z[:, 1])
    assert (nearer[:, 0] != z[:, 0]).any()


def test_a_hundredth_of_the_error_is_worth_a_full_step(generator):
    decoder = CorrectedLinear(linear(2, 5, generator)).double()
    basis = torch.linalg.qr(normal(generator, 5, 2))[0]
    decoder.start_at(basis)
    x = 3 * normal(generator, 30, 5)
    best, z = x @ basis, x @ basis + 0.1 * torch.nn.functional.normalize(normal(generator, 30, 2))
    error = (decoder(z) - x).square().sum(1, keepdim=True)
    taken = (0.01 / (0.01 * error)).clamp(max=1)
    assert (taken < 0.9).any()
    torch.testing.assert_close(projected(decoder, x, z, 1), z + taken * (best - z))


def test_the_weight_of_the_only_level_changes_no_code(generator):
    decoder, x, z = unsilenced(2, 5, generator), normal(generator, 30, 5), normal(generator, 30, 2)
    net = autoencoder(Encoded(z), decoder, 5, (2,), 4).eval()
    before = net.encode(x)
    net.size_weights.fill_(8.0)
    net.begin_steps()
    torch.testing.assert_close(net.encode(x), before)


def test_codes_of_several_levels_are_projected_in_one_step(generator):
    decoder, basis = ordered_decoder(generator, 6)
    x, z = normal(generator, 20, 6), 5 + normal(generator, 20, 4)  # so far away that the step counts in full
    net = autoencoder(Encoded(z), decoder, 6, (1, 2, 4), 1).eval()
    net.size_weights.copy_(torch.tensor([1.0, 3.0, 9.0, 0.5]))
    net.begin_steps()
    expected = torch.cat([x @ torch.linalg.pinv(basis[:, :3]).T, z[:, 3:]], 1)
    torch.testing.assert_close(net.encode(x), expected)


@pytest.mark.parametrize(("n_draws", "n_components"), [(16, 1), (16, 8), (64, 20)])
def test_fixed_draws_have_mean_zero_and_identity_covariance(n_draws, n_components):
    z = fixed_draws(n_draws, n_components)[:, 0]
    torch.testing.assert_close(z.mean(0), torch.zeros(n_components, dtype=torch.float64))
    torch.testing.assert_close(z.T @ z / n_draws, torch.eye(n_components, dtype=torch.float64))
    assert torch.equal(z, fixed_draws(n_draws, n_components)[:, 0])


@pytest.mark.parametrize("precision", [torch.float16, torch.float64])
def test_fixed_draws_are_the_same_whatever_torchs_default_precision(precision):
    expected = fixed_draws.__wrapped__(16, 3)
    torch.set_default_dtype(precision)
    try:
        found = fixed_draws.__wrapped__(16, 3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


def test_few_draws_have_variance_one_too():
    draws = fixed_draws(16, 400)
    assert draws.shape == (16, 1, 400)
    assert draws.square().mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("n_components", "n_draws"), [(1, 2), (2, 4), (3, 8), (4, 8), (8, 8), (9, 16), (16, 16), (100, 128), (600, 1024)]
)
def test_sign_draws_have_mean_zero_and_variance_one_and_are_hardly_correlated(n_components, n_draws):
    z = sign_draws(n_components)[:, 0]
    assert z.shape == (n_draws, n_components)
    assert not z.mean(0).any()
    assert (z.square() == 1).all()
    correlation = z.T @ z / n_draws - torch.eye(n_components)
    assert correlation.abs().max() <= 0.5
    assert not correlation[: n_draws // 2, : n_draws // 2].any()


def derivatives_of(net, codes):
    """Derivatives of each level's outputs by a code, times the root of its weight: (n, n_levels * n_features, k)."""
    weights = net.size_weights[net.sizes - 1].sqrt()

    def outputs(z):
        return (weights.unsqueeze(-1) * net.outputs(z[None], net.sizes).reshape(len(net.levels), 1, -1)).flatten()

    return torch.stack([torch.autograd.functional.jacobian(outputs, z) for z in codes])


@pytest.mark.parametrize("levels", [(4,), (1, 2, 4)])
def test_steps_are_scaled_by_the_mean_inverse_curvature_at_codes(levels, generator, monkeypatch):
    monkeypatch.setattr("skae.networks.autoencoder._SHIFT", 1e-6)  # differences are then derivatives
    leveled_decoder = fill_at_random(leveled(generator, "layers"), generator, 0.3)
    decoder = leveled_decoder if len(levels) > 1 else unsilenced(4, 5, generator)
    net = autoencoder(unsilenced(5, 4, generator), decoder, 5, levels, 3).eval()
    net.size_weights.copy_(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    codes = normal(generator, 99, 4)
    net.scale_steps(codes)
    slopes = derivatives_of(net, codes[:64])
    curvature = slopes.mT @ slopes
    expected = 0.5 * torch.linalg.inv(curvature + curvature.mean(0)).mean(0)
    torch.testing.assert_close(net.step_scaling, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_a_step_on_a_linear_decoder_is_half_of_the_way_and_the_second_all_of_it(generator):
    decoder = CorrectedLinear(linear(2, 5, generator)).double()
    decoder.start_at(normal(generator, 5, 2))
    x, z = normal(generator, 30, 5), 9 + normal(generator, 30, 2)
    net = autoencoder(Encoded(z), decoder, 5, (2,), 1).eval()
    net.scale_steps(normal(generator, 40, 2))
    best = x @ torch.linalg.pinv(decoder.start_weight).T
    torch.testing.assert_close(net.encode(x), (z + best) / 2)
    net.n_refinements = 2
    torch.testing.assert_close(net.encode(x), best)


@pytest.mark.parametrize("codes", [torch.zeros(9, 2), torch.full((9, 2), torch.nan)])
def test_codes_without_spread_still_scale_steps_and_invalid_ones_do_not(codes, generator):
    net = autoencoder(unsilenced(5, 2, generator), unsilenced(2, 5, generator), 5, (2,), 1).eval()
    before = net.step_scaling.clone()
    net.scale_steps(codes.double())
    assert net.step_scaling.isfinite().all()
    assert torch.equal(net.step_scaling, before) == bool(codes.isnan().any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_component_of_small_variance_is_scaled_as_exactly(dtype, generator):
    decoder = CorrectedLinear(linear(2, 5, generator)).double()
    decoder.start_at(torch.linalg.qr(normal(generator, 5, 2))[0] * torch.tensor([3.0, 1e-3]))
    net = autoencoder(unsilenced(5, 2, generator), decoder, 5, (2,), 1).to(dtype).eval()
    at_start = net.step_scaling.diagonal().clone()
    net.scale_steps(normal(generator, 40, 2).to(dtype))
    torch.testing.assert_close(net.step_scaling.diagonal(), at_start / 2, rtol=0.02, atol=0)


def test_steps_keep_their_scale_where_codes_are_few_or_samples_wide(generator, monkeypatch):
    net = autoencoder(unsilenced(5, 2, generator), unsilenced(2, 5, generator), 5, (2,), 1).eval()
    before = net.step_scaling.clone()
    net.scale_steps(normal(generator, 1, 2))
    assert torch.equal(net.step_scaling, before)
    monkeypatch.setattr("skae.networks.autoencoder.evaluation_batch_size", lambda width: 30 // width)
    net.scale_steps(normal(generator, 40, 2))  # of which 2 codes and 4 moved ones may be decoded
    assert not torch.equal(net.step_scaling, before)


def test_a_component_that_is_not_decoded_gets_no_step(generator):
    decoder = CorrectedLinear(linear(2, 5, generator)).double()
    decoder.start_at(normal(generator, 5, 2) * torch.tensor([1.0, 0.0]))
    net = autoencoder(unsilenced(5, 2, generator), decoder, 5, (2,), 1).eval()
    net.scale_steps(normal(generator, 40, 2))
    assert net.step_scaling[0, 0] > 0
    assert net.step_scaling[1].tolist() == [0, 0]
