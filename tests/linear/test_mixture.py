import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from skae.linear.mixture import (
    MixtureChoice,
    draw_codes,
    fit_mixture,
    linear_mixture,
    select_mixture,
    select_size,
)


def standard_normal(codes):
    return -0.5 * (np.square(codes) + np.log(2 * np.pi)).sum(axis=1).mean()


def groups(seed):
    """Standardised codes in four groups that one normal density does not describe."""
    rng = np.random.RandomState(seed)
    codes = np.array([[3, 0], [-3, 0], [0, 3], [0, -3]])[rng.randint(4, size=600)] + 0.2 * rng.normal(size=(600, 2))
    return (codes - codes.mean(axis=0)) / codes.std(axis=0)


@pytest.mark.parametrize("baseline", [None, standard_normal])
def test_codes_in_groups_get_a_component_each(baseline, seed):
    codes = groups(seed)
    mixture = fit_mixture(codes, 0, baseline)
    assert mixture.n_components >= 4
    assert mixture.covariance_type == "full"
    assert mixture.score(groups(seed + 100)) > standard_normal(codes) + 0.5


def test_the_baseline_is_kept_where_it_is_likelier(seed):
    codes = np.random.RandomState(seed).normal(size=(300, 3))
    assert fit_mixture(codes, 0, lambda codes: 1e9) is None
    assert fit_mixture(codes, 0, lambda codes: -1e9) is not None


def test_the_baseline_is_asked_of_a_fifth_of_the_codes():
    codes, asked = np.random.RandomState(0).normal(size=(53, 2)), []
    fit_mixture(codes, 0, lambda held_out: asked.append(held_out) or 1e9)
    (held_out,) = asked
    assert held_out.shape == (10, 2)
    np.testing.assert_array_equal(held_out, codes[np.random.RandomState(0).permutation(53)[:10]])


def test_the_mixture_is_fitted_to_all_codes(seed):
    codes = np.random.RandomState(seed).normal(size=(40, 2))
    np.testing.assert_allclose(fit_mixture(codes, 0).weights_ @ fit_mixture(codes, 0).means_, codes.mean(axis=0))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_few_codes_have_a_mixture(n):
    mixture = fit_mixture(np.random.RandomState(0).normal(size=(n, 2)), 0)
    assert np.isfinite(mixture.means_).all()


def test_draws_are_in_random_order_and_leave_the_mixture_as_it_is(seed):
    mixture = fit_mixture(groups(seed), 0)
    state = mixture.random_state
    one, two, other = (draw_codes(mixture, 200, np.random.RandomState(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert one.shape == (200, 2)
    assert mixture.random_state == state
    components = mixture.predict(one)
    assert (np.diff(components) < 0).any()
    np.testing.assert_allclose(draw_codes(mixture, 20000, np.random.RandomState(0)).std(axis=0), 1, atol=0.05)


def test_a_widening_is_added_to_the_variances_of_all_components(seed):
    codes = groups(seed)
    plain, wide = (MixtureChoice(4, widening).fit(codes, 0) for widening in (0.0, 0.1))
    np.testing.assert_array_equal(wide.means_, plain.means_)
    np.testing.assert_allclose(wide.covariances_, plain.covariances_ + 0.1 * np.eye(2))
    for k in range(4):
        np.testing.assert_allclose(wide.precisions_[k], np.linalg.inv(wide.covariances_[k]))
        expected = multivariate_normal(wide.means_[k], wide.covariances_[k]).logpdf(codes)
        of_component = GaussianMixture(1)
        for name in ("means_", "covariances_", "precisions_", "precisions_cholesky_"):
            setattr(of_component, name, getattr(wide, name)[[k]])
        of_component.weights_ = np.ones(1)
        np.testing.assert_allclose(of_component.score_samples(codes), expected)


def test_the_mixture_that_fits_held_out_samples_best_is_selected(seed):
    samples, held_out = np.split(groups(seed), [500])
    choice = select_mixture(samples, held_out, 0)
    assert choice.n_components >= 4
    found = choice.fit(samples, 0).score(held_out)
    others = [MixtureChoice(n, choice.widening).fit(samples, 0).score(held_out) for n in (1, 2)]
    assert found > max(others)
    assert select_mixture(samples, held_out, 0, found + 1e-9) is None
    assert select_mixture(samples, held_out, 0, found - 1e-9) == choice
    assert select_mixture(samples, 1e6 * held_out, 0) is None
    assert select_mixture(samples[:1], samples[1:], 0).n_components == 1


@pytest.mark.parametrize(("shape", "most"), [((40, 1), 20), ((40, 2), 20), ((40, 5), 8), ((9, 5), 1), ((4, 5), 1)])
def test_a_component_has_at_least_as_many_samples_as_columns(shape, most):
    samples = np.random.RandomState(0).normal(size=shape)
    assert MixtureChoice(64, 0.0).fit(samples, 0).n_components == most
    # Held-out samples that equal the training samples have the highest likelihood under the largest mixture.
    assert select_mixture(samples, samples, 0).n_components == 2 ** int(np.log2(most))


@pytest.mark.parametrize(
    ("scores", "most", "expected"),
    [([1, 2, 3, 2, 9], 16, 4), ([1, 2, 3, 2, 9], 2, 2), ([1, 1, 9], 16, 1), ([1, 2, 2, 9], 4, 2), ([-np.inf], 1, None)],
)
def test_sizes_are_doubled_while_the_best_score_increases(scores, most, expected):
    sizes = []

    def candidates(n):
        sizes.append(n)
        return [(scores[n.bit_length() - 1] - 1, "worse"), (scores[n.bit_length() - 1], n)]

    assert select_size(candidates, most) == expected
    assert sizes == [2**k for k in range(len(sizes))]
    assert sizes[-1] <= most


def test_linear_models_of_mixtures_have_their_covariances(seed):
    varies = np.array([True, False, True])
    mixtures = [choice.fit(groups(seed), 0) for choice in (MixtureChoice(3, 0.01), MixtureChoice(2, 0.03))]
    found = linear_mixture(mixtures, varies)
    np.testing.assert_array_equal(found.weights[0], [*mixtures[0].weights_, 0, 0])
    np.testing.assert_array_equal(found.weights[1], [0, 0, 0, *mixtures[1].weights_])
    np.testing.assert_array_equal(found.means[3:, varies], mixtures[1].means_)
    assert not found.means[:, 1].any()
    assert not found.loadings[:, 1].any()
    assert (found.noise[:, 1] == 1).all()
    covariances = found.loadings @ found.loadings.swapaxes(1, 2) + found.noise[:, :, None] * np.eye(3)
    expected = np.concatenate([mixture.covariances_ for mixture in mixtures])
    np.testing.assert_allclose(covariances[:, varies][:, :, varies], expected)
    products = found.loadings.swapaxes(1, 2) @ (found.loadings / found.noise[:, :, None])
    off = products - products.diagonal(0, 1, 2)[:, :, None] * np.eye(2)
    np.testing.assert_allclose(off, 0, atol=1e-9)


def test_correlated_columns_of_rare_large_values_have_a_mixture():
    """Covariances of these samples are positive definite in float64, not in float32, though no value is beyond 23."""
    rng = np.random.RandomState(0)
    spikes = (rng.uniform(size=(1500, 1)) < 0.01) * rng.uniform(-1, 1, size=(1500, 2))
    samples = (spikes + 1e-3 * rng.normal(size=(1500, 2))) @ rng.normal(size=(2, 100))
    samples += 1e-4 * rng.normal(size=(1500, 100))
    samples = (samples - samples.mean(axis=0)) / samples.std(axis=0)
    assert np.isfinite(MixtureChoice(2, 0.0).fit(samples, 0).score_samples(samples)).all()
