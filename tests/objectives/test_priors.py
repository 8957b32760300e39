import math

import numpy as np
import pytest
import torch
from objective_cases import draws
from torch.distributions import MultivariateNormal

from skae.objectives import PRIORS, Prior, register_prior
from skae.objectives.priors import MixturePrior, StandardNormal


@pytest.fixture
def groups(seed):
    """600 codes around six centres in two dimensions, and the centres."""
    rng = np.random.RandomState(seed)
    centres = 3 * rng.normal(size=(6, 2))
    return torch.from_numpy(centres[rng.randint(6, size=600)] + 0.3 * rng.normal(size=(600, 2))), centres


def sample(prior, n_samples, n_components, seed=0):
    return prior.sample(n_samples, n_components, torch.Generator().manual_seed(seed), np.random.RandomState(seed))


def test_a_mixture_gains_on_codes_in_groups(groups):
    codes, centres = groups
    prior = MixturePrior().fit(codes[:450], 0)
    assert prior.log_prob(codes[450:]).mean() > StandardNormal().log_prob(codes[450:]).mean() + 0.3
    assert prior.density.means_.shape[1] == 2
    off = [
        np.linalg.norm(sample(each, 999, 2).numpy()[:, None] - centres, axis=2).min(axis=1)
        for each in (StandardNormal(), prior)
    ]
    assert np.median(off[1]) < np.median(off[0])


def test_the_prior_stays_normal_where_that_is_likelier(seed):
    """Few normal codes for the covariances of a mixture."""
    prior, z = MixturePrior().fit(draws(seed, 60, 20), seed), draws(seed + 1, 5, 20)
    assert prior.density is None
    assert torch.equal(prior.log_prob(z), StandardNormal().log_prob(z))


def test_the_standard_normal_has_torchs_density(seed):
    z = draws(seed, 3, 5, 4)
    expected = MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double()).log_prob(z)
    torch.testing.assert_close(StandardNormal().log_prob(z), expected)


def test_a_mixture_has_the_density_of_its_components(groups):
    prior, z = MixturePrior().fit(groups[0], 0), draws(0, 3, 5, 2)
    components = [
        MultivariateNormal(*map(torch.from_numpy, moments)).log_prob(z) + math.log(weight)
        for *moments, weight in zip(
            prior.density.means_, prior.density.covariances_, prior.density.weights_, strict=True
        )
    ]
    torch.testing.assert_close(prior.log_prob(z), torch.stack(components).logsumexp(0))
    torch.testing.assert_close(prior.log_prob(z[0, 0]), prior.log_prob(z)[0, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gain_is_relative_to_the_standard_normal(groups, dtype):
    z = draws(0, 3, 5, 2).to(dtype)
    prior = MixturePrior().fit(groups[0], 0)
    torch.testing.assert_close(prior.gain(z), prior.log_prob(z) - StandardNormal().log_prob(z))
    none = StandardNormal().gain(z)
    assert none.shape == (3, 5)
    assert none.dtype == dtype
    assert not none.any()


def test_codes_far_off_have_a_finite_density(groups):
    z = torch.tensor([[torch.inf, 0.0], [-torch.inf, 1e300], [torch.nan, 0.0]])
    for prior in (StandardNormal(), MixturePrior().fit(groups[0], 0)):
        assert (prior.log_prob(z) < -1e3).all()
        assert prior.log_prob(z).isfinite().all()


@pytest.mark.parametrize("name", PRIORS)
def test_samples_have_the_moments_of_the_prior_and_are_repeatable(groups, name):
    prior, before = PRIORS[name]().fit(groups[0], 0), torch.random.get_rng_state()
    codes = sample(prior, 20000, 2)
    expected = torch.from_numpy(groups[0].numpy()) if prior.is_learned else draws(0, 20000, 2)
    torch.testing.assert_close(codes.mean(0), expected.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(codes.T.cov(), expected.T.cov(), atol=0.3, rtol=0.1)
    assert codes.dtype == torch.float64
    assert torch.equal(codes, sample(prior, 20000, 2))
    assert not torch.equal(codes, sample(prior, 20000, 2, seed=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_prior_is_restored_from_its_density(groups):
    prior = MixturePrior().fit(groups[0], 0)
    restored = MixturePrior.restore(prior.density)
    assert torch.equal(restored.log_prob(groups[0]), prior.log_prob(groups[0]))
    assert not MixturePrior.restore(None).gain(groups[0]).any()
    assert not StandardNormal.restore(None).gain(groups[0]).any()


def test_fewer_codes_than_are_held_out_do(seed):
    prior = MixturePrior().fit(draws(seed, 3, 2), seed)
    assert prior.log_prob(draws(seed, 3, 2)).isfinite().all()


def test_a_prior_that_would_never_be_fitted_is_refused():
    class Forgetful(Prior):
        def fit(self, codes, seed):
            return self

    with pytest.raises(TypeError, match="Forgetful defines fit, which is used only with is_learned = True"):
        register_prior("forgetful", Forgetful)
    assert "forgetful" not in PRIORS
