"""A likelihood, a loss and a prior of a user, written with public names only."""

import pytest
import torch
from torch.distributions import Laplace as Reference
from torch.distributions import StudentT

from skae.objectives import (
    LIKELIHOODS,
    LOSSES,
    PRIORS,
    ColumnMoments,
    DefensiveStart,
    Likelihood,
    Loss,
    NegativeELBO,
    Prior,
    ReconstructionObjective,
    ReconstructionOutput,
    VAEOutput,
    mixed_likelihood,
    register_likelihood,
    register_loss,
    register_prior,
)


class Laplace(Likelihood):
    """Laplace with a learned scale for each column."""

    def __init__(self, n_features):
        super().__init__(n_features)
        self.log_scale = torch.nn.Parameter(torch.zeros(n_features))

    @torch.no_grad()
    def start_at(self, noise, variance, scale):
        self.log_scale.copy_((noise.clamp_min(1e-4 * variance) / 2).log() / 2)

    def log_prob(self, eta, x):
        return -(x - eta).abs() / self.log_scale.exp() - self.log_scale - torch.tensor(2.0).log()

    def mean(self, eta):
        return eta

    def draw(self, eta, generator):
        sign = 2 * torch.bernoulli(torch.full_like(eta, 0.5), generator=generator) - 1
        return eta + sign * self.log_scale.exp() * torch.empty_like(eta).exponential_(generator=generator)


class HeavyTails(Prior):
    """Independent Student t components."""

    def log_prob(self, z):
        return StudentT(3.0).log_prob(z.double()).sum(-1)

    def sample(self, n_samples, n_components, generator, random_state):
        normal, gamma = (
            torch.randn((n_samples, n_components), generator=generator, dtype=torch.float64),
            torch._standard_gamma(torch.full((n_samples, n_components), 1.5).double(), generator=generator),
        )
        return normal * (1.5 / gamma).sqrt()


def log_cosh(eta, x, reduction="none"):
    entries = torch.nn.functional.softplus(2 * (eta - x)) - (eta - x) - torch.tensor(2.0).log()
    return entries.mean() if reduction == "mean" else entries


@pytest.fixture
def registered():
    """The user's objects by name, for one test."""
    register_likelihood("laplace", Laplace)
    register_prior("heavy_tails", HeavyTails)
    register_loss("log_cosh", Loss(log_cosh))
    yield
    for registry, name in ((LIKELIHOODS, "laplace"), (PRIORS, "heavy_tails"), (LOSSES, "log_cosh")):
        del registry[name]


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.usefixtures("registered")
def test_a_likelihood_of_a_user_has_its_density_mean_and_draws(seed):
    built = LIKELIHOODS["laplace"](3).double()
    noise = torch.tensor([0.5, 1.0, 2.0]).double()
    built.start_at(noise, torch.ones(3), torch.ones(3))
    eta, x = draws(seed, 2, 6, 3), draws(seed + 1, 6, 3)
    reference = Reference(eta, (noise / 2).sqrt())
    torch.testing.assert_close(built(eta, x), reference.log_prob(x).sum(-1))
    x[0, 1] = torch.nan
    assert torch.equal(built.mean_of_missing(eta, x), eta)
    drawn = built.draw_missing(eta[0, :1].expand(40000, -1), x, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(drawn.var(0), noise, rtol=0.1, atol=0)


@pytest.mark.usefixtures("registered")
def test_a_likelihood_of_a_user_is_defended_by_independent_columns_of_its_kind(seed):
    x = 3 * draws(seed, 500, 4) + 1
    mixture = LIKELIHOODS["laplace"](4).defensive(2, 1).double()
    moments = ColumnMoments(x.mean(0), x.var(0), torch.ones(4), len(x))
    mixture.start_at(DefensiveStart(lambda: moments, None, None))
    torch.testing.assert_close(mixture.eta, x.mean(0))
    expected = Reference(x.mean(0), (x.var(0) / 2).sqrt()).log_prob(x).sum(1)
    torch.testing.assert_close(mixture.log_prob(x, torch.ones(500, 1)), expected)


@pytest.mark.usefixtures("registered")
def test_a_likelihood_of_a_user_may_be_of_some_columns(seed):
    mixed = mixed_likelihood([("laplace", [1, 1]), ("gaussian", [1])]).double()
    noise = torch.tensor([0.5, 1.0, 2.0]).double()
    mixed.start_at(noise, torch.ones(3).double(), torch.ones(3).double())
    eta, x = draws(seed, 6, mixed.n_outputs), draws(seed + 1, 6, 3)
    eta[:, 3] = 0  # what moves the normal's variance
    expected = Reference(eta[:, :2], (noise[:2] / 2).sqrt()).log_prob(x[:, :2]).sum(1)
    expected = expected + torch.distributions.Normal(eta[:, 2], 2**0.5).log_prob(x[:, 2])
    torch.testing.assert_close(mixed(eta, x), expected)
    assert mixed.fresh().n_outputs == 4


@pytest.mark.usefixtures("registered")
def test_a_likelihood_of_a_user_is_trained_with_the_bound(seed):
    built = LIKELIHOODS["laplace"](4).double()
    output = VAEOutput(draws(seed, 6, 2), draws(seed, 6, 2), draws(seed, 1, 6, 2), draws(seed, 1, 6, 4))
    NegativeELBO([built])([output], draws(seed + 1, 6, 4)).backward()
    assert built.log_scale.grad.all()


@pytest.mark.usefixtures("registered")
def test_a_loss_of_a_user_is_minimised(seed):
    eta, x = draws(seed, 6, 3), draws(seed + 1, 6, 3)
    objective = ReconstructionObjective(LOSSES["log_cosh"])
    expected = (eta - x).cosh().log().mean().item()
    assert objective(ReconstructionOutput(eta, eta), x).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("registered")
def test_a_prior_of_a_user_scores_and_samples_codes(seed):
    prior, z = PRIORS["heavy_tails"]().fit(draws(seed, 50, 2), seed), draws(seed, 3, 4, 2)
    torch.testing.assert_close(PRIORS["heavy_tails"].restore(None).log_prob(z), prior.log_prob(z))
    normal = -0.5 * (z.square() + torch.tensor(2 * torch.pi).log()).sum(-1)
    torch.testing.assert_close(prior.gain(z), prior.log_prob(z) - normal, rtol=1e-6, atol=1e-6)
    codes = prior.sample(9999, 2, torch.Generator().manual_seed(seed), None)
    share = (codes.abs() > 3.182446).double().mean().item()  # 5 % of a t with three degrees of freedom
    assert share == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("method", ["statistics", "natural"])
def test_a_conjugate_likelihood_without_what_landmarks_need_is_named(method):
    class Conjugate(Likelihood):
        is_conjugate = True

    with pytest.raises(NotImplementedError, match=f"Conjugate has is_conjugate=True, but does not define {method}"):
        getattr(Conjugate(2), method)(torch.zeros(1, 2))
