import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from skae.data.statistics import column_moments
from skae.linear import factor_analysis as module
from skae.linear.factor_analysis import factor_analysis, likelier_start
from skae.linear.gaussian import LinearGaussian
from skae.linear.pca import probabilistic_pca


def covariance_of(model):
    return model.loadings @ model.loadings.T + np.diag(model.noise)


def standardised(X):
    """Samples whose columns have mean 0 and variance 1, or 0 if they are constant, and the scale of each column."""
    moments = column_moments(X)
    scale = np.where(moments.constant, 1, moments.deviation)
    rows = (X - moments.mean) / scale
    rows[:, moments.constant] = 0
    return rows, scale


@pytest.mark.parametrize(("n_samples", "expected"), [(60, probabilistic_pca), (900, factor_analysis)])
def test_the_start_is_the_model_that_describes_held_out_samples(n_samples, expected, seed):
    """Few samples with one noise, and many with one for each column."""
    rng = np.random.RandomState(seed)
    loadings, deviation = rng.normal(size=(40, 3)), np.ones(40) if n_samples == 60 else rng.uniform(0.5, 1.5, size=40)
    X = rng.normal(size=(n_samples, 3)) @ loadings.T + deviation * rng.normal(size=(n_samples, 40))
    rows, scale = standardised(X)
    found, other = (fit(rows, scale, 3, np.random.RandomState(0)) for fit in (likelier_start, expected))
    np.testing.assert_array_equal(found.noise, other.noise)


def test_a_column_that_is_constant_in_a_fold_has_no_vote(seed):
    rng = np.random.RandomState(seed)
    rows, _ = standardised(np.hstack([rng.normal(size=(80, 30)), np.eye(80)[:, :6]]))
    found, expected = (
        fit(rows, np.ones(36), 2, np.random.RandomState(0)) for fit in (likelier_start, probabilistic_pca)
    )
    np.testing.assert_array_equal(found.noise, expected.noise)


def test_samples_may_be_alike_but_for_one():
    X = np.zeros((20, 4))
    X[3] = [1, 1, 0, 1]
    rows, scale = standardised(X)
    assert np.isfinite(likelier_start(rows, scale, 2, np.random.RandomState(0)).log_density(rows)).all()


@pytest.mark.parametrize("fit", [factor_analysis, probabilistic_pca])
def test_the_density_of_a_start_is_the_normal_one(fit, seed):
    rows, scale = standardised(np.random.RandomState(seed).normal(size=(50, 5)) @ np.diag([1, 2, 3, 4, 5]))
    model = fit(rows, scale, 2, np.random.RandomState(0))
    normal = multivariate_normal(np.zeros(5), covariance_of(model))
    np.testing.assert_allclose(model.log_density(rows), normal.logpdf(rows))


def test_factor_analysis_is_scikit_learns_whatever_the_number_of_samples(seed):
    rng = np.random.RandomState(seed)
    loadings, deviation = rng.normal(size=(6, 2)), rng.uniform(0.3, 1.5, size=6)
    for n in (13, 500):
        rows, scale = standardised(rng.normal(size=(n, 2)) @ loadings.T + deviation * rng.normal(size=(n, 6)))
        found = factor_analysis(rows, scale, 2, None)
        expected = FactorAnalysis(2, svd_method="lapack", tol=1e-6, max_iter=3000).fit(rows)
        assert found.log_density(rows).mean() > expected.score(rows) - 1e-3
    np.testing.assert_allclose(covariance_of(found), expected.get_covariance(), atol=1e-2)
    few = module._same_covariance(rows)
    assert few.shape == (7, 6)
    np.testing.assert_allclose(np.cov(few.T, ddof=0), np.cov(rows.T, ddof=0), atol=1e-12)
    np.testing.assert_allclose(few.mean(axis=0), 0, atol=1e-12)


def test_a_column_that_others_explain_keeps_some_noise(seed):
    X = np.random.RandomState(seed).normal(size=(200, 4))
    rows, _ = standardised(np.hstack([X, X[:, :1]]))
    assert factor_analysis(rows, np.ones(5), 2, None).noise.min() == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("shape", "factored"),
    [((50, 4), True), ((50, 1), True), ((5, 4), True), ((4, 4), False), ((300, 200), True), ((300, 201), False)],
)
def test_wide_tables_and_many_columns_are_not_factored(shape, factored):
    assert module._can_be_factored(np.ones(shape)) == factored
    assert not module._can_be_factored(np.zeros(shape))
    assert module._can_be_factored(np.eye(50)[:, :4])


def test_wide_tables_have_starts(seed):
    X = np.random.RandomState(seed).normal(size=(5, 6))
    X -= X.mean(axis=0)
    found, expected = (fit(X, np.ones(6), 2, None) for fit in (factor_analysis, probabilistic_pca))
    np.testing.assert_array_equal(found.noise, expected.noise)
    assert likelier_start(X[:4, :3] - X[:4, :3].mean(axis=0), np.ones(3), 1, None).loadings.shape == (3, 1)


def test_factor_analysis_starts_from_one_noise_and_from_one_in_scaled_columns(monkeypatch):
    X, scale, asked = np.random.RandomState(0).normal(size=(50, 3)), np.array([1.0, 2.0, 4.0]), []
    monkeypatch.setattr(module, "_factor_analysis", lambda X, noises, *_: asked.extend(noises))
    factor_analysis(X, scale, 2, None)
    np.testing.assert_array_equal(asked, [[1, 1, 1], [1, 1 / 4, 1 / 16]])


def test_the_likelier_of_two_fits_is_kept_and_one_that_has_not_converged_will_do(seed):
    X = np.random.RandomState(seed).normal(size=(200, 4)) @ np.random.RandomState(seed + 1).normal(size=(4, 4))
    rows, _ = standardised(X)
    rows[0] = 0
    noises = np.ones(4), np.full(4, 1e-3)
    alone = [module._factor_analysis(rows, [noise], 1, 10.0) for noise in noises]
    best = max(alone, key=lambda model: model.log_density(rows).mean())
    assert not np.allclose(alone[0].noise, alone[1].noise)
    for order in (noises, noises[::-1]):
        np.testing.assert_array_equal(module._factor_analysis(rows, order, 1, 10.0).noise, best.noise)
    assert np.isfinite(module._factor_analysis(rows, noises[:1], 1, 0.0).noise).all()


def test_fits_are_compared_where_they_end(seed, monkeypatch):
    X, curves = np.random.RandomState(seed).normal(size=(50, 3)), iter([[0.0, 9.0, 5.0, 1.0], [0.0, 1.0, 1.0, 2.0]])

    class Recorded(FactorAnalysis):
        def fit(self, X):
            super().fit(X)
            warnings.warn("FactorAnalysis did not converge", ConvergenceWarning, stacklevel=2)
            self.loglike_ = next(curves)
            self.noise_variance_ = np.full(3, self.loglike_[-1])
            return self

    monkeypatch.setattr(module, "FactorAnalysis", Recorded)
    np.testing.assert_array_equal(module._factor_analysis(X, [np.ones(3)] * 2, 1, 1e-6).noise, [2, 2, 2])


def test_each_fold_is_centred_by_its_training_samples_and_draws_from_the_random_state(seed, monkeypatch):
    X = np.random.RandomState(seed).normal(size=(30, 3))
    X -= X.mean(axis=0)
    fit, seen = module._factor_analysis, []

    class Seeing(LinearGaussian):
        def log_density(self, held_out):
            seen[-1].append(held_out)
            return super().log_density(held_out)

    def seeing(rows, *rest):
        seen.append([rows])
        return Seeing(*fit(rows, *rest))

    monkeypatch.setattr(module, "_factor_analysis", seeing)
    before = np.random.get_state()[1].copy()
    likelier_start(X, np.ones(3), 1, np.random.RandomState(0))
    np.testing.assert_array_equal(before, np.random.get_state()[1])
    folds = [parts for parts in seen if len(parts) == 2]
    assert len(folds) == 5
    for rows, held_out in folds:
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
        both = np.vstack([rows, held_out])
        np.testing.assert_allclose(np.sort(both - both.mean(axis=0), axis=0), np.sort(X, axis=0), atol=1e-12)
