import pytest
import torch
from sklearn.metrics import mean_poisson_deviance
from torch.distributions import Bernoulli

from skae.losses import LOSSES, ReconstructionObjective
from skae.nn import AutoencoderOutput


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def valid_target(name, seed):
    x = draws(seed + 1000, 7, 3)
    return {"log_loss": torch.sigmoid(x), "poisson": x.abs()}.get(name, x)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_matches_finite_differences(name, seed):
    eta = draws(seed, 7, 3).requires_grad_()
    torch.autograd.gradcheck(lambda eta: LOSSES[name].entry(eta, valid_target(name, seed)), eta)


@pytest.mark.parametrize("name", LOSSES)
def test_the_row_itself_has_the_lowest_loss(name, seed):
    """No output is better than the one whose inverse link is the row."""
    loss, x = LOSSES[name], valid_target(name, seed)
    link = {"identity": lambda x: x, "logit": torch.logit, "log": torch.log}[loss.link]
    best = loss.entry(link(x), x)
    torch.testing.assert_close(loss.inverse_link(link(x)), x)
    for step in (-0.1, 0.1):
        assert (loss.entry(link(x) + step, x) > best).all()


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


def test_objective_adds_a_scale_free_l1_norm_of_the_code(seed):
    z, eta, x = draws(seed, 6, 2), draws(seed + 1, 6, 4), draws(seed + 2, 6, 4)
    plain = ReconstructionObjective(LOSSES["squared_error"])(AutoencoderOutput(z, eta), x)
    sparse = ReconstructionObjective(LOSSES["squared_error"], sparsity=0.3)(AutoencoderOutput(z, eta), x)
    assert plain.item() == pytest.approx(((eta - x) ** 2).mean().item())
    expected = 0.3 * (z.abs().mean(0) / z.square().mean(0).sqrt()).sum().item()
    assert (sparse - plain).item() == pytest.approx(expected)
    shrunk = ReconstructionObjective(LOSSES["squared_error"], sparsity=0.3)(AutoencoderOutput(z / 1000, eta), x)
    assert shrunk.item() == pytest.approx(sparse.item())
