import numpy as np
import pytest
from sklearn.decomposition import PCA

from skae.data.rows import ArrayRows
from skae.linear import missing
from skae.linear.missing import fit_normal, hide_entries, mean_imputation, n_imputation_components, pca_imputation


def covariance_of(model):
    return model.loadings @ model.loadings.T + np.diag(model.noise)


def imputes_the_location(model):
    n = len(model.location)
    return (model.loadings.shape, model.loadings.any(), model.noise.tolist()) == ((n, 1), False, [1] * n)


def test_without_components_the_mean_is_imputed(seed):
    X = np.random.RandomState(seed).normal(3, 1, size=(50, 4))
    location = X.mean(axis=0)
    model = mean_imputation(location)
    assert model.location is location
    assert imputes_the_location(model)
    model = pca_imputation(ArrayRows(X), 0, None)
    np.testing.assert_allclose(model.location, location)
    assert imputes_the_location(model)


def test_pca_of_complete_samples_imputes_others(seed):
    X = np.random.RandomState(seed).normal(3, 1, size=(50, 4))
    model = pca_imputation(ArrayRows(X), 2, None)
    np.testing.assert_allclose(model.location, X.mean(axis=0))
    np.testing.assert_allclose(covariance_of(model), PCA(2).fit(X).get_covariance())
    X[:, 2] = 7
    assert pca_imputation(ArrayRows(X), 1, None).noise[2] == 1


def test_means_of_float32_are_those_of_float64():
    X = np.array([[1.0], [1e8], [-1e8]], dtype=np.float32)
    assert pca_imputation(ArrayRows(X), 0, None).location[0] == pytest.approx(1 / 3, abs=1e-7)


@pytest.mark.parametrize(
    ("n_components", "n_features", "expected"), [(2, 100, 20), (20, 100, 20), (50, 100, 32), (2, 5, 4), (2, 1, 1)]
)
def test_imputation_has_as_many_components_as_the_net_within_bounds(n_components, n_features, expected):
    assert n_imputation_components(n_components, n_features) == expected


def test_em_needs_no_missing_values_has_no_unit_and_stops_at_its_best(seed, monkeypatch):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(1000, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(1000, 6))
    monkeypatch.setattr(missing, "_MAX_ROUNDS", 10**6)  # it stops by itself
    whole = covariance_of(fit_normal(X, 2, np.random.RandomState(0)))
    np.testing.assert_allclose(whole, np.cov(X.T), atol=0.1)
    incomplete = np.where(rng.uniform(size=X.shape) < 0.2, np.nan, X)
    model = fit_normal(incomplete, 2, np.random.RandomState(0))
    np.testing.assert_allclose(covariance_of(model), np.cov(X.T), atol=0.3)
    np.testing.assert_allclose(model.location, X.mean(axis=0), atol=0.1)
    unit = 10.0 ** np.arange(-3, 3)
    moved = fit_normal(incomplete * unit + 7, 2, np.random.RandomState(0))
    np.testing.assert_allclose(moved.location, model.location * unit + 7)
    np.testing.assert_allclose(covariance_of(moved), covariance_of(model) * np.outer(unit, unit), rtol=1e-6, atol=1e-9)
    few = fit_normal(incomplete[:8], 5, np.random.RandomState(0))
    assert few.loadings.shape[1] <= 5
    assert np.isfinite(covariance_of(few)).all()


def test_em_finds_a_mean_that_missing_values_hide(seed):
    x = np.random.RandomState(seed).normal(size=(2000, 1))
    X = x + 0.3 * np.random.RandomState(seed + 1).normal(size=(2000, 3))
    X[X[:, 1] + X[:, 2] > 0, 0] = np.nan
    assert np.nanmean(X[:, 0]) < -0.5
    assert fit_normal(X, 1, np.random.RandomState(0)).location[0] == pytest.approx(0, abs=0.1)


def test_constant_and_empty_columns_are_imputed_by_a_constant(seed):
    X = np.random.RandomState(seed).normal(size=(50, 5))
    X[:, 1], X[:, 2], X[:, 4] = 7, np.nan, 3 * X[:, 3]
    model = fit_normal(X, 2, np.random.RandomState(0))
    assert all(np.isfinite(part).all() for part in model)
    np.testing.assert_allclose(model.location[[1, 2]], [7, 0], atol=1e-9)
    assert 0 < model.noise[1] <= 1e-3
    assert 0 < model.noise[4] / np.var(X[:, 4]) <= 1e-3  # the least, where others explain all


def test_components_that_few_entries_support_vanish(seed):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(300, 1)) @ rng.normal(size=(1, 8)) + rng.normal(size=(300, 8))
    X[rng.uniform(size=X.shape) < 0.3] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    lengths = np.linalg.svd(fit_normal(X, 5, np.random.RandomState(0)).loadings)[1]
    assert lengths[0] > 1
    assert lengths[-1] < 0.01  # 0.3 and more without a prior


@pytest.mark.parametrize(
    ("n_columns", "better", "samples_asked"),
    [
        (6, "_em_over_codes", [300, 300, 500]),
        (6, "_em_over_missing", [300, 300, 300]),
        (201, "_em_over_codes", [20]),  # of many columns there is no choice
    ],
)
def test_em_is_fitted_to_as_many_samples_as_allowed(n_columns, better, samples_asked, seed, monkeypatch):
    X = np.random.RandomState(seed).normal(size=(500, n_columns))
    X[::7, 2] = np.nan
    asked = []
    originals = {name: getattr(missing, name) for name in ("_em_over_codes", "_em_over_missing")}
    for name in originals:

        def fit(X, weights, n_components, fit=originals[name], off=0 if name == better else 9):
            asked.append(len(X))
            model = fit(X, weights, n_components=n_components)
            return model._replace(location=model.location + off)

        monkeypatch.setattr(missing, name, fit)
    monkeypatch.setattr(missing, "_MAX_NUMBERS_MORE", 6**2 * 300)
    monkeypatch.setattr(missing, "_MAX_NUMBERS", 6**2 * 500 if n_columns == 6 else 201 * 20)
    fit_normal(X, 2, np.random.RandomState(0))
    assert asked == samples_asked


def test_factors_are_the_likeliest_given_the_noise_and_the_prior(seed):
    rng = np.random.RandomState(seed)
    noise, weight = rng.uniform(0.5, 2, size=5), 0.1
    covariance = np.cov(rng.normal(size=(5, 200)) * [[1], [2], [3], [4], [5]])
    loadings, new_noise = missing._factors(covariance, noise, 5, weight)
    values = np.linalg.eigvalsh(covariance / np.sqrt(np.outer(noise, noise)))
    lengths = np.sort(np.square(loadings / np.sqrt(noise)[:, None]).sum(axis=0))
    lengths = np.pad(lengths, (5 - len(lengths), 0))
    for value, length in zip(values, lengths, strict=True):
        u = np.geomspace(1e-4, 100, 100_000)
        cost = np.log1p(u) + value / (1 + u) + weight * np.log(u)
        inside = np.flatnonzero((cost[1:-1] < cost[:-2]) & (cost[1:-1] < cost[2:])) + 1
        assert length == pytest.approx(u[inside[0]] if len(inside) else 0, rel=1e-3)
    z = np.linalg.inv(np.eye(loadings.shape[1]) + loadings.T / noise @ loadings) @ (loadings.T / noise)
    rest = np.eye(5) - loadings @ z
    expected = np.diag(rest @ covariance @ rest.T + loadings @ (np.eye(len(z)) - z @ loadings) @ loadings.T)
    np.testing.assert_allclose(new_noise, expected)
    none, all_noise = missing._factors(np.diag(noise), noise, 5, weight)
    assert not none.any()
    np.testing.assert_allclose(all_noise, noise)


def test_em_over_missing_values_finds_the_normal_that_samples_are_drawn_from(seed):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(2000, 6)) + 3
    incomplete = np.where(rng.uniform(size=X.shape) < 0.2, np.nan, X)
    model = missing._em_over_missing(incomplete, np.ones(2000), 5)
    np.testing.assert_allclose(model.location, X.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(covariance_of(model), np.cov(X.T), atol=0.3)
    np.testing.assert_allclose(model.noise, 0.25, atol=0.15)


def test_em_finds_the_normal_of_columns_in_their_own_units(seed):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(600, 6))
    X /= X.std(axis=0)
    model = fit_normal(np.where(rng.uniform(size=X.shape) < 0.3, np.nan, X), 3, np.random.RandomState(0))
    np.testing.assert_allclose(model.location, X.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(covariance_of(model), np.cov(X.T), atol=0.15)


def test_columns_that_nearly_repeat_each_other_are_imputed_by_more_components(seed):
    rng = np.random.RandomState(seed)
    wavelengths = np.linspace(0, 1, 40)
    X = sum(rng.normal(size=(150, 1)) * 2.0**-k * np.cos((k + 1) * wavelengths) for k in range(15))
    X += 1e-4 * rng.normal(size=X.shape)
    incomplete = np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)
    model = fit_normal(incomplete, 2, np.random.RandomState(0))
    assert model.noise.min() < 1e-3 * X.var(axis=0).min()  # less than the other has
    models = model, missing._em_over_codes(incomplete, np.ones(150), 10)
    errors = [np.square(each.expected(incomplete) - X)[np.isnan(incomplete)].mean() for each in models]
    assert errors[0] < 0.5 * errors[1]


def test_hidden_entries_leave_each_column_some(seed):
    X = np.full((40, 3), np.nan)
    X[:, 0], X[0, 1], X[:20, 2] = 1, 1, 1
    hidden = np.array([hide_entries(np.isnan(X), np.random.RandomState(k)) for k in range(50)])
    assert not hidden[:, :, 1].any()
    assert not hidden[:, np.isnan(X)].any()
    assert 0.4 < hidden[:, ~np.isnan(X)].mean() < 0.6  # as many as are missing, but half at most
