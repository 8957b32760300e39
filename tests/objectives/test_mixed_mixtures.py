"""Mixtures of samples whose columns have different likelihoods."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, nbinom

from skae.linear.mixture import LinearMixture
from skae.objectives import mixed_likelihood
from skae.objectives.mixtures import MixtureDensity

# Two normal columns, one of three categories, one of zeros and ones, one of counts.
PARTS = [("gaussian", [1, 1]), ("categorical", [3]), ("bernoulli", [1]), ("negative_binomial", [1])]
VARIES = torch.ones(7).double()
ONES = torch.ones(600, 1).double()


def made(seed, n=600):
    """Return samples of two groups, and the group of each."""
    rng = np.random.RandomState(seed)
    group = (rng.uniform(size=n) < 0.4).astype(int)
    numbers = np.array([[0.0, 0.0], [2.0, -1.0]])[group] + rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], n) / 2
    of_group = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])[group]
    category = np.eye(3)[(rng.uniform(size=(n, 1)) > of_group.cumsum(1)).sum(1)]
    flag = rng.uniform(size=n) < np.array([0.9, 0.3])[group]
    counts = rng.poisson(np.array([2, 9])[group] * rng.gamma(2, 0.5, n))
    return torch.from_numpy(np.c_[numbers, category, flag, counts]).double(), group


def start_of(group):
    return lambda: np.eye(2)[group].T


def refined(x, start, context=ONES, weights=((0.5, 0.5),)):
    density = mixed_likelihood(PARTS).defensive(2, 0).mixture.double()
    n, width = len(weights[0]), 7
    empty = np.zeros((n, width)), np.zeros((n, width, 2)), np.ones((n, width)), np.zeros((n, 5))
    density.set_arrays(LinearMixture(np.array(weights), *empty))
    density.refine(start, x, VARIES, context)
    return density


def test_em_finds_the_groups_and_their_parameters(seed):
    x, group = made(seed)
    density = refined(x, start_of(np.random.RandomState(seed).permutation(group)))  # a start of no use
    joint, _ = density._by_model(x, VARIES, None)
    found = joint.argmax(0).numpy()
    agreement = (found == group).mean()
    assert max(agreement, 1 - agreement) > 0.95
    k = int(found[group == 1].mean() > 0.5)
    np.testing.assert_allclose(density.means[k, :2], [2, -1], atol=0.2)
    covariance = density.loadings[k, :2] @ density.loadings[k, :2].T + torch.diag(density.noise[k, :2])
    np.testing.assert_allclose(covariance, [[0.25, 0.2], [0.2, 0.25]], atol=0.06)
    np.testing.assert_allclose(density.etas[k, :3].softmax(0), [0.1, 0.1, 0.8], atol=0.08)
    np.testing.assert_allclose(density.etas[k, 3].sigmoid(), 0.3, atol=0.1)
    np.testing.assert_allclose(density.etas[k, 4].exp(), 9, rtol=0.15)
    np.testing.assert_allclose(density.weights[0, k], 0.4, atol=0.06)


def log_prob_of(density, x):
    """The density of complete samples by scipy's densities of each part."""
    size = density.likelihood.parts[-1].log_size.exp().item()
    models = []
    for m in range(len(density)):
        mean, eta = density.means[m, :2], density.etas[m]
        covariance = density.loadings[m, :2] @ density.loadings[m, :2].T + torch.diag(density.noise[m, :2])
        shares, chance, rate = eta[:3].softmax(0), eta[3].sigmoid().item(), eta[4].exp().item()
        parts = multivariate_normal(mean, covariance).logpdf(x[:, :2]) + np.log(x[:, 2:5] @ shares.numpy())
        parts += np.log(np.where(x[:, 5] == 1, chance, 1 - chance))
        models.append(parts + nbinom.logpmf(x[:, 6], size, size / (size + rate)) + density.weights[0, m].log().item())
    return np.logaddexp.reduce(models)


def test_the_density_is_the_mixture_of_products(seed):
    x, group = made(seed)
    density = refined(x, start_of(group))
    np.testing.assert_allclose(density.log_prob(x[:50], VARIES), log_prob_of(density, x[:50].numpy()), rtol=1e-9)
    assert density.log_prob(x, VARIES).mean() > refined(x, start_of(0 * group)).log_prob(x, VARIES).mean() + 0.5
    wide = density.widened(0.1)
    np.testing.assert_allclose(wide.noise, density.noise + 0.1)
    np.testing.assert_array_equal(wide.etas, density.etas)


@pytest.mark.parametrize("missing", [[0], [2, 3, 4], [5], [6], [0, 1, 6]], ids=str)
def test_without_some_columns_it_is_the_marginal_density(missing, seed):
    x, group = made(seed)
    density = refined(x, start_of(group))
    x = x[:20].clone()
    x[:, missing] = torch.nan
    seen = density.log_prob(x, VARIES)
    columns = VARIES.clone()
    columns[missing] = 0
    left_out = density.log_prob(x, columns)
    torch.testing.assert_close(seen, left_out)
    filled = x.clone()
    filled[:, 5] = 0.0
    both = torch.stack(
        [density.log_prob(filled, VARIES), density.log_prob(filled.index_fill(1, torch.tensor(5), 1), VARIES)]
    )
    if missing == [5]:  # the only one with two values
        torch.testing.assert_close(both.logsumexp(0), seen)


def test_missing_values_of_other_columns_count_for_nothing_in_the_fit(seed):
    x, group = made(seed)
    holes = x.clone()
    hidden = torch.rand(600, generator=torch.Generator().manual_seed(seed)) < 0.3
    holes[hidden, 5] = torch.nan
    density = refined(holes, start_of(group))
    chances = density.etas[:, 3].sigmoid().numpy()
    np.testing.assert_allclose(np.sort(chances), [0.3, 0.9], atol=0.1)


def test_samples_have_the_shares_of_their_models_and_given_values(seed):
    x, group = made(seed)
    density, generator = refined(x, start_of(group)), torch.Generator().manual_seed(seed)
    new = density.draw(torch.randn((20000, 2), generator=generator).double(), generator)
    np.testing.assert_allclose(new.mean(0), x.mean(0), atol=0.35)
    np.testing.assert_allclose(new[:, :6].mean(0), x[:, :6].mean(0), atol=0.08)
    assert set(new[:, 2:5].sum(1).tolist()) == {1.0}
    given = torch.full((1, 7), torch.nan).double()
    given[0, 2:5] = torch.tensor([0.0, 0, 1])
    drawn = density.draw_missing(given, 4000, VARIES, generator)
    np.testing.assert_array_equal(drawn[:, 2:5], given[:, 2:5].expand(4000, -1))
    near = new[new[:, 4] == 1]
    np.testing.assert_allclose(drawn[:, :2].mean(0), near[:, :2].mean(0), atol=0.12)
    np.testing.assert_allclose(drawn[:, 5].mean(), near[:, 5].mean(), atol=0.05)


def test_contexts_have_their_own_models(seed):
    x, group = made(seed)
    context = torch.eye(2).double()[group]
    density = refined(x, start_of(group), context, ((1.0, 0.0), (0.0, 1.0)))
    np.testing.assert_allclose(density.weights, np.eye(2), atol=1e-5)
    own, other = (density.log_prob(x, VARIES, c).mean() for c in (context, context.flip(1)))
    assert own > other + 2


def test_other_columns_count_once_they_vary(seed):
    x, group = made(seed)
    x[:, 5] = 0
    varies = VARIES.clone()
    varies[5] = 0
    density = mixed_likelihood(PARTS).defensive(2, 0).mixture.double()
    empty = np.zeros((2, 7)), np.zeros((2, 7, 2)), np.ones((2, 7)), np.zeros((2, 5))
    density.set_arrays(LinearMixture(np.full((1, 2), 0.5), *empty))
    density.refine(start_of(group), x, varies, ONES)
    changed = x.clone()
    changed[:, 5] = 1
    torch.testing.assert_close(density.log_prob(changed, varies), density.log_prob(x, varies))
    density.begin_columns(varies == 0)
    assert (density.log_prob(changed, VARIES) < density.log_prob(x, VARIES) - 1).all()


def test_tables_of_one_kind_have_the_mixtures_of_that_kind():
    normal = mixed_likelihood([("gaussian", [1, 1])]).defensive(2, 0)
    assert type(normal.mixture) is MixtureDensity
    categories = mixed_likelihood([("categorical", [2, 3])]).defensive(2, 0).mixture.double()
    x = torch.from_numpy(np.c_[np.eye(2)[[0, 1] * 50], np.eye(3)[[0, 1] * 50]])
    categories.set_arrays(
        LinearMixture(np.full((1, 2), 0.5), np.zeros((2, 5)), np.zeros((2, 5, 0)), np.ones((2, 5)), np.zeros((2, 5)))
    )
    categories.refine(start_of(np.tile([0, 1], 50)), x, torch.ones(5).double(), torch.ones(100, 1).double())
    assert categories.log_prob(x, torch.ones(5).double()).exp().mean() == pytest.approx(0.5, abs=0.02)
