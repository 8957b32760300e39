"""Descent by sample, and the draws that estimate a bound."""

import pytest
import torch
from network_cases import autoencoder, normal, ordered_decoder, unsilenced

from skae.networks.corrected import CorrectedLinear
from skae.networks.layers import linear
from skae.networks.refinement import descend, fixed_draws, inverse_of, sign_draws


def with_gradient(function):
    """An objective for `descend` from a function (n, k) -> (n,)."""

    def objective(p):
        with torch.enable_grad():
            leaf = p.detach().requires_grad_()
            value = function(leaf)
            total = value.sum()
        return value.detach(), lambda: torch.autograd.grad(total, leaf)[0]

    return objective


def test_a_step_that_did_not_help_is_not_taken_and_a_quarter_next():
    """Ten times too far from 1 to 0, for the square and for what has no value below zero: steps of 1, 1/4, 1/16, ..."""

    def function(p):
        has_no_value = torch.tensor([False, True]) & (p[:, 0] < 0)
        return p[:, 0].square().masked_fill(has_no_value, torch.nan)

    def after(n_steps):
        start, inverse = torch.ones(2, 1, dtype=torch.float64), torch.tensor([[5.0]], dtype=torch.float64)
        return descend(with_gradient(function), inverse, start, n_steps, lambda value: 0.01 * value)[:, 0].tolist()

    assert after(0) == after(1) == after(2) == [1.0, 1.0]
    assert after(3) == [0.375, 0.375]
    assert after(4) == pytest.approx([0.375 * (1 - 10 * 1.2 / 16)] * 2)


def test_a_step_that_hardly_helped_is_taken_in_part():
    start, inverse = torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), 0.5, dtype=torch.float64)
    square = with_gradient(lambda p: p.square().sum(1))
    one, two = (descend(square, inverse, start, n, lambda value: 2 * value).item() for n in (1, 2))
    assert one == 0.5  # the gain is half of what is worthwhile
    proposal, step = 0.5 - 0.5 * (0.25 + 1.2) / 2, (0.25 + 1.2) / 2
    taken = (0.5 - (0.5 - 0.5 * step) ** 2) / (2 * 0.5)
    assert two == pytest.approx(0.5 + taken * (proposal - 0.5))


def test_each_sample_has_its_own_inverse_curvature():
    """The inverse second derivative gives the minimum at once."""
    scale = torch.tensor([[1.0, 4.0], [9.0, 0.25]], dtype=torch.float64)
    start = torch.ones(2, 2, dtype=torch.float64)
    bowls = with_gradient(lambda p: (scale * p.square()).sum(1))
    assert torch.equal(descend(bowls, 0.5 / scale, start, 1, lambda value: 0.01 * value), 0 * start)


def test_where_there_is_no_curvature_nothing_moves():
    assert inverse_of(torch.tensor([4.0, 0.0])).tolist() == [0.25, 0.0]


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
    torch.testing.assert_close(net.encode(x), before)


def test_codes_of_several_levels_are_projected_in_one_step(generator):
    decoder, basis = ordered_decoder(generator, 6)
    x, z = normal(generator, 20, 6), 5 + normal(generator, 20, 4)  # so far away that the step counts in full
    net = autoencoder(Encoded(z), decoder, 6, (1, 2, 4), 1).eval()
    net.size_weights.copy_(torch.tensor([1.0, 3.0, 9.0, 0.5]))
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
