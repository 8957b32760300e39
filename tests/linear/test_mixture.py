import numpy as np
import pytest

from skae.linear.mixture import draw_codes, fit_mixture


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
