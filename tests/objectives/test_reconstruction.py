import pytest
import torch
from objective_cases import draws
from sklearn.metrics import mean_poisson_deviance
from torch.distributions import Bernoulli

from skae.objectives import LOSSES, ReconstructionObjective, ReconstructionOutput, mixed_loss


def valid_target(name, seed):
    x = draws(seed + 1000, 7, 3)
    of_one_variable = torch.nn.functional.one_hot(x.argmax(-1), x.shape[-1]).to(x)
    return {"log_loss": torch.sigmoid(x), "poisson": x.abs(), "cross_entropy": of_one_variable}.get(name, x)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_matches_finite_differences(name, seed):
    eta = draws(seed, 7, 3).requires_grad_()
    torch.autograd.gradcheck(lambda eta: LOSSES[name].entry(eta, valid_target(name, seed)), eta)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cross_entropy"])
def test_the_sample_itself_has_the_lowest_loss(name, seed):
    """No output is better than the one whose inverse link is the sample."""
    loss, x = LOSSES[name], valid_target(name, seed)
    link = {"identity": lambda x: x, "logit": torch.logit, "log": torch.log}[loss.link]
    best = loss.entry(link(x), x)
    torch.testing.assert_close(loss.inverse_link(link(x)), x)
    for step in (-0.1, 0.1):
        assert (loss.entry(link(x) + step, x) > best).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_at_once_is_the_mean_of_the_entries(name, seed):
    eta, x = draws(seed, 7, 3), valid_target(name, seed)
    entries = LOSSES[name].entry(eta, x)
    assert entries.shape == x.shape
    torch.testing.assert_close(LOSSES[name].entry(eta, x, reduction="mean"), entries.mean())


@pytest.mark.parametrize("name", LOSSES)
def test_only_losses_with_the_identity_link_have_a_degree(name):
    assert bool(LOSSES[name].degree) == (LOSSES[name].link == "identity")


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].degree])
def test_degree_is_the_power_of_the_unit(name, seed):
    loss, x, eta = LOSSES[name], draws(seed, 5), draws(seed + 1, 5)
    if name == "huber":  # homogeneous on either side of its corner
        x, eta = x / 100, eta / 100
    torch.testing.assert_close(loss.entry(0.5 * eta, 0.5 * x), 0.5**loss.degree * loss.entry(eta, x))


def test_log_loss_is_minus_the_bernoulli_log_probability(seed):
    eta, x = draws(seed, 9), (draws(seed + 1, 9) > 0).double()
    torch.testing.assert_close(LOSSES["log_loss"].entry(eta, x), -Bernoulli(logits=eta).log_prob(x))


def test_poisson_is_half_the_deviance(seed):
    eta = draws(seed, 40)
    x = torch.poisson(draws(seed + 1, 40).exp(), generator=torch.Generator().manual_seed(seed))
    assert LOSSES["poisson"].entry(eta, x).mean().item() == pytest.approx(mean_poisson_deviance(x, eta.exp()) / 2)


def test_cross_entropy_of_a_variable_is_minus_its_log_probability(seed):
    eta, category = draws(seed, 9, 4), torch.arange(9) % 4
    entries = LOSSES["cross_entropy"].entry(eta, torch.nn.functional.one_hot(category).to(eta))
    torch.testing.assert_close(entries.sum(-1), torch.nn.functional.cross_entropy(eta, category, reduction="none"))
    torch.testing.assert_close(LOSSES["cross_entropy"].inverse_link(eta), eta.softmax(-1))


def test_a_mixed_loss_is_that_of_each_variable(seed):
    loss = mixed_loss([("poisson", [1, 1]), ("cross_entropy", [2, 3])])
    eta, x = draws(seed, 5, 7), draws(seed + 1, 5, 7).abs()
    parts = [("poisson", slice(0, 2)), ("cross_entropy", slice(2, 4)), ("cross_entropy", slice(4, 7))]
    expected = torch.cat([LOSSES[name].entry(eta[:, columns], x[:, columns]) for name, columns in parts], -1)
    torch.testing.assert_close(loss.entry(eta, x), expected)
    torch.testing.assert_close(loss.entry(eta, x, reduction="mean"), expected.mean())
    means = torch.cat([LOSSES[name].inverse_link(eta[:, columns]) for name, columns in parts], -1)
    torch.testing.assert_close(loss.inverse_link(eta), means)


def test_objective_adds_a_scale_free_l1_norm_of_the_code(seed):
    z, eta, x = draws(seed, 6, 2), draws(seed + 1, 6, 4), draws(seed + 2, 6, 4)
    plain = ReconstructionObjective(LOSSES["squared_error"])(ReconstructionOutput(z, eta), x)
    sparse = ReconstructionObjective(LOSSES["squared_error"], sparsity=0.3)(ReconstructionOutput(z, eta), x)
    assert plain.item() == pytest.approx(((eta - x) ** 2).mean().item())
    expected = 0.3 * (z.abs().mean(0) / z.square().mean(0).sqrt()).sum().item()
    assert (sparse - plain).item() == pytest.approx(expected)
    shrunk = ReconstructionObjective(LOSSES["squared_error"], sparsity=0.3)(ReconstructionOutput(z / 1000, eta), x)
    assert shrunk.item() == pytest.approx(sparse.item())
    z[:, 1] = 0  # a component that is always zero has no scale
    z.requires_grad_()
    dead = ReconstructionObjective(LOSSES["squared_error"], sparsity=0.3)(ReconstructionOutput(z, eta), x)
    expected = 0.3 * (z[:, 0].abs().mean() / z[:, 0].square().mean().sqrt()).item()
    assert (dead - plain).item() == pytest.approx(expected)
    dead.backward()
    assert z.grad.isfinite().all()


def test_missing_values_leave_the_mean_over_the_rest_and_have_no_gradient(seed):
    z, eta, x = draws(seed, 6, 2), draws(seed + 1, 6, 4).requires_grad_(), draws(seed + 2, 6, 4)
    x[0, 1] = x[3] = torch.nan
    objective, observed = ReconstructionObjective(LOSSES["squared_error"]), ~x.isnan()
    loss = objective(ReconstructionOutput(z, eta), x)
    torch.testing.assert_close(loss, (eta - x)[observed].square().mean())
    loss.backward()
    assert torch.equal(eta.grad != 0, observed)
    assert objective(ReconstructionOutput(z, eta), torch.full_like(x, torch.nan)) == 0


def test_columns_and_levels_have_their_weights(seed):
    z, eta, x = draws(seed, 6, 2), draws(seed + 1, 2, 6, 3), draws(seed + 2, 6, 3)
    varies, weight = torch.tensor([1.0, 0.0, 1.0]), draws(seed + 3, 2, 6, 1).square()
    objective = ReconstructionObjective(LOSSES["squared_error"], varies=varies)
    torch.testing.assert_close(objective(ReconstructionOutput(z, eta[0]), x), ((eta[0] - x).square() * varies).mean())
    errors = (eta - x).square() * weight * varies
    torch.testing.assert_close(objective(ReconstructionOutput(z, eta, weight), x), errors.mean())
    x[0, 0] = x[3] = torch.nan
    share = (~x.isnan()).double().mean()
    torch.testing.assert_close(
        objective(ReconstructionOutput(z, eta, weight), x), errors[:, ~x.isnan()].sum() / 36 / share
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_single_level_has_the_loss_of_a_plain_output(name, seed):
    z, eta, x = draws(seed, 7, 2), draws(seed + 1, 7, 3), valid_target(name, seed)
    objective = ReconstructionObjective(LOSSES[name])
    assert objective(ReconstructionOutput(z, eta[None]), x) == objective(ReconstructionOutput(z, eta), x)


@pytest.mark.parametrize("name", LOSSES)
def test_values_of_the_support_have_a_finite_loss(name, seed):
    ends = {"real": [-9.0, 9.0], "non_negative": [0.0, 9.0]}.get(LOSSES[name].support, [0.0, 1.0])
    x = torch.tensor(ends, dtype=torch.float64)
    assert LOSSES[name].entry(draws(seed, 2), x).isfinite().all()
    assert LOSSES[name].projects == (name == "squared_error")


@pytest.mark.parametrize("sparsity", [0.0, 0.3])
@pytest.mark.parametrize("ordered", [False, True])
def test_the_loss_with_weights_is_that_of_repeated_samples(sparsity, ordered, seed):
    x, z, eta = draws(seed, 4, 3), draws(seed + 1, 4, 2), draws(seed + 2, 2, 4, 3)
    level = draws(seed + 3, 2, 4, 1).exp() if ordered else None
    eta, count = (eta if ordered else eta[0]), torch.tensor([1, 2, 0, 3])
    objective = ReconstructionObjective(LOSSES["huber"], sparsity, torch.tensor([1.0, 0.0, 1.0]))
    repeated = [None if part is None else part.repeat_interleave(count, dim=-2) for part in (z, eta, level)]
    expected = objective(ReconstructionOutput(*repeated), x.repeat_interleave(count, dim=0))
    weights = count / count.double().mean()
    torch.testing.assert_close(objective(ReconstructionOutput(z, eta, level), x, weights), expected)
    x[:, 2] = torch.nan  # of all samples the same
    expected = objective(ReconstructionOutput(*repeated), x.repeat_interleave(count, dim=0))
    torch.testing.assert_close(objective(ReconstructionOutput(z, eta, level), x, weights), expected)
