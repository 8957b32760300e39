"""Densities, samples and codes of the VAE, compared with closed forms and brute force."""

import pickle
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.stats import bernoulli, multinomial, multivariate_normal, nbinom, poisson
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.preprocessing import scale
from skorch.callbacks import Callback
from torch import nn

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error

pytestmark = pytest.mark.usefixtures("narrow_networks")


def quick(n_components=2, **parameters):
    return VAEGenerator(n_components, **{"max_iter": 10, "random_state": 0} | parameters)


def varying(X):
    return X[:, X.std(axis=0) > 0]


VARYING_TABLES = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "diabetes": load_diabetes,
    "digits": load_digits,
}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow if name == "digits" else ()) for name in VARYING_TABLES]
)
def varying_table(request):
    return varying(VARYING_TABLES[request.param]().data[:200])


@pytest.fixture(params=["raw", "scaled"])
def scaled_table(request, varying_table):
    return varying_table if request.param == "raw" else scale(varying_table)


@pytest.fixture(scope="module")
def fitted(curve):
    """A model of the curve after a few epochs, for tests that only read it."""
    return quick().fit(curve)


@pytest.fixture
def linear_gaussian(seed):
    """Rows of a linear-Gaussian model with three factors in eight columns of different units."""
    rng = np.random.RandomState(seed)
    W, noise = rng.normal(size=(8, 3)), rng.uniform(0.1, 1, size=8)
    X = rng.normal(size=(2000, 3)) @ W.T + np.sqrt(noise) * rng.normal(size=(2000, 8)) + 5
    return X * 10.0 ** np.arange(-4, 4)


def own_density(model, X):
    """The exact log-density of the linear model with this one's loadings and noise."""
    covariance = model.components_.T @ model.components_ + np.diag(model.noise_variance_)
    unit = np.sqrt(np.diag(covariance))
    whitened = multivariate_normal(np.zeros(len(unit)), covariance / np.outer(unit, unit), allow_singular=True)
    mean = model.inverse_transform(np.zeros((1, model.n_components_)))
    return whitened.logpdf((X - mean) / unit) - np.log(unit).sum()


# Step zero is the linear model.


def test_from_pca_the_density_is_pcas(scaled_table):
    for k in (1, 2, 3):
        pca = PCA(k, svd_solver="full").fit(scaled_table)
        model = quick(k, start="pca", max_iter=0).fit(scaled_table)
        scores = model.score_samples(scaled_table)
        assert scores.mean() == pytest.approx(pca.score(scaled_table), abs=1e-6)
        np.testing.assert_allclose(scores, pca.score_samples(scaled_table), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(model.noise_variance_, pca.noise_variance_)


def test_from_factor_analysis_the_density_is_at_least_its(scaled_table):
    for k in (1, 3, 8):
        if k < scaled_table.shape[1]:
            reference = FactorAnalysis(k, random_state=0).fit(scaled_table).score(scaled_table)
            assert quick(k, max_iter=0).fit(scaled_table).score(scaled_table) >= reference - 0.01


@pytest.mark.parametrize("start", ["factor_analysis", "pca"])
def test_without_training_the_bound_is_the_exact_density(varying_table, start):
    X = scale(varying_table)
    for k in (1, 3):
        model = quick(k, start=start, max_iter=0).fit(X)
        scores = model.score_samples(X)
        np.testing.assert_allclose(scores, own_density(model, X), rtol=1e-8, atol=1e-7)
        np.testing.assert_allclose(model.log_likelihood(X, n_draws=3), scores, rtol=1e-8, atol=1e-7)


def test_the_start_is_exact_for_every_size(linear_gaussian):
    X = linear_gaussian[:300]
    for k in (1, 7, 8, 11):
        model = quick(k, max_iter=0).fit(X)
        np.testing.assert_allclose(model.score_samples(X), own_density(model, X), atol=1e-6)
        assert model.transform(X).shape == (300, k)


def test_codes_are_posterior_means_and_rows_come_back_as_decoder_means(linear_gaussian):
    X = linear_gaussian
    model = quick(3, max_iter=0).fit(X)
    W, noise = model.components_.T, model.noise_variance_
    precision = np.eye(3) + W.T @ (W / noise[:, None])
    expected = np.linalg.solve(precision, (W / noise[:, None]).T @ (X - model.mean_).T).T
    np.testing.assert_allclose(model.transform(X), expected, atol=1e-8)
    np.testing.assert_allclose(model.inverse_transform(expected), model.mean_ + expected @ W.T)


def test_on_linear_data_training_from_random_weights_nears_the_closed_form(linear_gaussian):
    X = linear_gaussian[:800]
    model = VAEGenerator(
        3, start="random", hidden_layer_sizes=(), max_iter=100, learning_rate_init=1e-2, random_state=0
    ).fit(X)
    best = quick(3, max_iter=0).fit(X).score(X)
    assert best - 0.5 < model.score(X) < best + 0.1


# Bounds of a nonlinear model.


@pytest.fixture(scope="module")
def trained(curve):
    """A function from a number of components to a model of the curve."""

    @cache
    def fit(k):
        model = VAEGenerator(k, hidden_layer_sizes=(16,), max_iter=40, learning_rate_init=1e-2, random_state=0)
        return model.set_params(defensive="linear").fit(curve)

    return fit


def noise_variance(model, Z):
    """The noise variance of each column given these codes, from the net itself."""
    net = model.net_.inference_module(torch.float64)
    with torch.no_grad():
        variance = net.at(model.n_components_).likelihood.variance(net.decode(torch.from_numpy(Z)))
    return variance.numpy() * net.scaler.scale.numpy() ** 2


def brute_force(model, X, k):
    """log p(x) by a fine grid over codes."""
    axis = np.linspace(-6, 6, 1201 if k == 1 else 241)
    grid = np.stack(np.meshgrid(*[axis] * k, indexing="ij"), axis=-1).reshape(-1, k)
    mean = model.inverse_transform(grid)
    log_prior = -0.5 * (grid**2).sum(axis=1) - 0.5 * k * np.log(2 * np.pi)
    variance = noise_variance(model, grid)
    densities = [log_prior - 0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1) for x in X]
    return np.logaddexp.reduce(densities, axis=1) + k * np.log(axis[1] - axis[0])


def linear_densities(train, X, k):
    """Of factor analysis, and of probabilistic PCA of standardised columns."""
    factors = quick(k, max_iter=0).fit(train).score_samples(X)
    unit = train.std(axis=0)
    return factors, quick(k, start="pca", max_iter=0).fit(train / unit).score_samples(X / unit) - np.log(unit).sum()


def defended(density, n_held_out, train, X, k):
    """The log-density that leaves a row in ``n_held_out`` + 2 to factor analysis or probabilistic PCA."""
    share = 1 / (n_held_out + 2)
    linear = linear_densities(train, X, k)
    return np.logaddexp(np.log(1 - share) + density, np.log(share / 2) + np.logaddexp(*linear))


@pytest.mark.parametrize("k", [1, 2])
def test_bounds_lie_under_the_density_and_rise_with_draws(curve, trained, k):
    X = curve[:60]
    model = trained(k)
    assert model.best_loss_ < model.linear_loss_ - 0.3
    exact = defended(brute_force(model, X, k), round(len(curve) / 10), curve, X, k).mean()
    elbo = model.score(X)
    bounds = [model.log_likelihood(X, n_draws=n).mean() for n in (100, 1000, 5000)]
    assert elbo < exact
    assert elbo - 0.01 < bounds[0] <= exact + 0.02  # a hundred draws err by about as much
    assert bounds[-1] == pytest.approx(exact, abs=0.02)


def test_training_raises_the_held_out_density(digits):
    noisy = digits + np.random.RandomState(0).uniform(size=digits.shape)
    train, test = noisy[:600], noisy[1000:1400]
    model = quick(4, max_iter=15).fit(train)
    assert model.score(test) > FactorAnalysis(4, random_state=0).fit(train).score(test) + 3


class ValidationSet(Callback):
    """Keeps the scaled samples that training is validated by."""

    samples = []

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **_):
        self.samples[:] = [dataset_valid[:][0].numpy()]


@pytest.mark.filterwarnings("ignore:No epoch had")
def test_each_tenth_that_the_start_fits_alike_has_a_row_held_out(curve):
    quick(2, max_iter=1, callbacks=[ValidationSet()]).fit(curve)
    scaled = scale(curve)
    held_out = [np.abs(scaled - x).max(axis=1).argmin() for x in ValidationSet.samples[0]]
    ranks = np.argsort(np.argsort(-quick(2, max_iter=0).fit(curve).score_samples(curve)))
    np.testing.assert_array_equal(np.sort(ranks[held_out]) // 10, np.arange(30))


def test_the_curve_is_in_nats_and_in_units_of_x(curve):
    train, held_out = curve[:200], curve[200:]
    for unit in (1, 1000):
        model = quick(1, max_iter=5, defensive="linear").fit(unit * train, X_val=unit * held_out)
        assert -model.score(unit * held_out) == pytest.approx(model.best_loss_, abs=0.05)
        linear = quick(1, max_iter=0).fit(unit * train).score_samples(unit * held_out)
        linear = defended(linear, 100, unit * train, unit * held_out, 1)
        assert model.linear_loss_ == pytest.approx(-linear.mean(), abs=1e-3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_noise_of_a_start_that_is_huge_beside_a_column_does_not_overflow():
    X = np.random.RandomState(0).normal(size=(3, 3)) * [1, 1, 1e-21]
    model = quick(1, max_iter=2).fit(X)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.score_samples(X)).all()


def test_the_loss_of_the_linear_start_on_training_rows_is_exact(curve):
    model = quick(3, max_iter=1, early_stopping=False).fit(curve)
    linear = quick(3, max_iter=0).fit(curve)
    assert model.linear_loss_ == pytest.approx(-linear.score(curve), abs=1e-4)


def test_a_row_is_worth_the_same_in_any_unit(curve):
    model, moved = quick(1, max_iter=5).fit(curve), quick(1, max_iter=5).fit(1000 * curve + 5)
    difference = model.score_samples(curve) - moved.score_samples(1000 * curve + 5)
    np.testing.assert_allclose(difference, 5 * np.log(1000), atol=0.05)


@pytest.mark.usefixtures("default_networks")
def test_a_reconstruction_is_near_the_autoencoders(digits):
    noisy = digits + np.random.RandomState(0).uniform(size=digits.shape)
    train, test = noisy[:600], noisy[1000:1400]
    vae = reconstruction_error(quick(8, max_iter=45).fit(train), test)
    isotropic = quick(8, likelihood="isotropic_gaussian", start="pca", max_iter=45).fit(train)
    autoencoder = reconstruction_error(AutoencoderTransformer(8, max_iter=45, random_state=0).fit(train), test)
    assert vae < 1.6 * autoencoder
    assert reconstruction_error(isotropic, test) < 1.15 * autoencoder
    assert vae < 0.8 * reconstruction_error(PCA(8).fit(train), test)


@pytest.mark.parametrize("ordered", [False, True])
def test_isotropic_noise_starts_at_pca_whatever_the_units(curve, ordered):
    X = curve * np.geomspace(0.3, 3, curve.shape[1])
    start = quick(2, likelihood="isotropic_gaussian", start="pca", ordered=ordered, max_iter=0).fit(X)
    assert start.score(X) == pytest.approx(PCA(2).fit(X).score(X), rel=1e-9)
    trained = quick(2, likelihood="isotropic_gaussian", start="pca", ordered=ordered, max_iter=20).fit(X)
    np.testing.assert_allclose(trained.noise_variance_, trained.noise_variance_[0], rtol=1e-5)
    assert trained.noise_variance_[0] != pytest.approx(start.noise_variance_[0], rel=1e-5)


def test_isotropic_noise_is_one_variance_for_columns_that_begin_to_vary_too(curve):
    X = curve * np.geomspace(0.3, 3, curve.shape[1])
    model = quick(2, likelihood="isotropic_gaussian", start="pca").partial_fit(np.where(np.arange(5) > 2, 1.0, X))
    model.partial_fit(X)
    np.testing.assert_allclose(model.noise_variance_, model.noise_variance_[0], rtol=1e-5)


# A row's numbers are its own.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_and_codes_do_not_depend_on_batch_order_or_call(curve, trained, dtype):
    model = trained(2)
    X = curve[:100].astype(dtype)
    order = np.random.RandomState(0).permutation(len(X))
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    for method in (model.score_samples, model.log_likelihood, model.transform):
        whole = method(X)
        assert whole.dtype == dtype
        np.testing.assert_array_equal(whole, method(X))
        np.testing.assert_allclose(method(X[order]), whole[order], atol=tolerance)
        np.testing.assert_allclose(np.concatenate([method(X[i : i + 1]) for i in range(5)]), whole[:5], atol=tolerance)


def test_scores_in_small_blocks_are_the_same(curve, fitted, monkeypatch):
    whole = fitted.score_samples(curve[:100])
    monkeypatch.setattr("skae._torch._EVALUATED_NUMBERS", 240)
    np.testing.assert_allclose(fitted.score_samples(curve[:100]), whole, atol=1e-9)


def test_duplicated_columns_keep_the_density_finite(curve):
    model = quick(2).fit(np.hstack([curve, curve]))
    assert np.isfinite(model.score(np.hstack([curve, curve])))
    assert (model.noise_variance_ >= 0.99e-6 * np.hstack([curve, curve]).var(axis=0)).all()


# Samples.


def test_samples_of_the_linear_model_have_its_moments(linear_gaussian):
    model = quick(3, max_iter=0).fit(linear_gaussian)
    rows = model.sample(60000, random_state=0)
    unit = linear_gaussian.std(axis=0)
    covariance = model.components_.T @ model.components_ + np.diag(model.noise_variance_)
    np.testing.assert_allclose((rows.mean(axis=0) - model.mean_) / unit, 0, atol=0.02)
    np.testing.assert_allclose(np.cov(rows.T) / np.outer(unit, unit), covariance / np.outer(unit, unit), atol=0.03)
    means = model.sample(60000, noise=False, random_state=0)
    np.testing.assert_allclose(
        np.cov(means.T) / np.outer(unit, unit),
        model.components_.T @ model.components_ / np.outer(unit, unit),
        atol=0.03,
    )


def test_sample_is_seeded_by_its_own_seed(fitted):
    model = fitted
    np.testing.assert_array_equal(model.sample(5, random_state=3), model.sample(5, random_state=3))
    assert (model.sample(5) != model.sample(5)).any()
    assert (model.sample(5, random_state=3) != model.sample(5, random_state=4)).any()
    assert model.sample().shape == (1, 5)


def test_a_row_costs_no_more_than_the_share_of_the_linear_models(curve, trained):
    far = curve + 30 * np.random.RandomState(0).normal(size=curve.shape)
    model = trained(2)
    assert model.best_loss_ < model.linear_loss_ - 0.3
    least = np.logaddexp(*linear_densities(curve, far, 2)) - np.log(2 * 32)
    for found in (model.score_samples(far), model.log_likelihood(far)):
        assert (found >= least - 1e-6 * np.abs(least)).all()  # training leaves the models in float32
        assert (found < least + 0.1).mean() > 0.5  # where the net alone is far below


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_one_noisy_column_costs_one_row_not_the_table(seed):
    """Two columns alike but for one row: factor analysis of the others takes them for one."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(120, 1)) + rng.normal(size=(120, 6))
    X[:, 5] = X[:, 4] + 1e-3 * rng.normal(size=120)
    test = X[100:].copy()
    test[0, 5] += 3
    pca = PCA(2, svd_solver="full").fit(X[:100])
    linear, model = quick(2, max_iter=0).fit(X[:100]), quick(2).fit(X[:100])
    assert linear.score(test) < pca.score(test) - 100
    assert model.score(test) > pca.score(test)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_samples", range(2, 8))
def test_a_handful_of_rows_is_enough(n_samples):
    X = np.random.RandomState(0).normal(size=(n_samples, 2))
    for k in (1, min(n_samples, 3)):
        assert np.isfinite(quick(k, max_iter=2).fit(X).score(X))


def defensive(model):
    """The defensive mixture of a fitted model, None if it has none."""
    return model.net_.module_.at(model.n_components_).defensive


def test_without_a_validation_set_there_is_no_share_for_linear_models(curve):
    for model in (
        quick(max_iter=1, early_stopping=False).fit(curve), quick(max_iter=0).fit(curve), quick().partial_fit(curve)
    ):  # fmt: skip
        assert defensive(model).share == 0
    assert defensive(quick(start="random", max_iter=1).fit(curve)) is None
    linear = quick(max_iter=1, defensive="linear").fit(curve, X_val=curve[:8])
    assert defensive(linear).share == pytest.approx(0.1)
    assert linear.mixture_weight_ == 0


def densities_of_columns(likelihood, X, fitted, rows):
    """Of rows, under columns that have nothing to do with each other, of the means of X."""
    mean = X.mean(axis=0)
    if likelihood == "multinomial":
        return multinomial(rows.sum(axis=1).astype(int), mean / mean.sum()).logpmf(rows)
    if likelihood in ("bernoulli", "poisson"):
        return {"bernoulli": bernoulli, "poisson": poisson}[likelihood](mean).logpmf(rows).sum(axis=1)
    size = np.square(mean) / (X.var(axis=0) - mean)
    np.testing.assert_allclose((fitted.parts[0] if likelihood == "auto" else fitted).log_size.exp(), size, rtol=0.1)
    return nbinom(size, size / (size + mean)).logpmf(rows).sum(axis=1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "negative_binomial", "multinomial", "auto"])
def test_a_row_far_off_costs_little_more_than_independent_columns_would(likelihood, ordered, seed):
    rng = np.random.RandomState(seed)
    X = rng.poisson(np.exp(np.arange(4) + rng.normal(size=(120, 1))))
    X = X > 2 if likelihood == "bernoulli" else X
    model = quick(2, likelihood=likelihood, ordered=ordered, max_iter=8)
    model.fit(X.astype(float if likelihood != "auto" else int), X_val=X[:18])
    far = rng.randint(2, size=(50, 4)) if likelihood == "bernoulli" else rng.poisson(2, size=(50, 4)) ** 7
    far = far.astype(float if likelihood != "auto" else int)
    columns = defensive(model)
    alone = columns.log_prob_simple(torch.from_numpy(model._open(far)[:]).double(), None).numpy()
    np.testing.assert_allclose(alone, densities_of_columns(likelihood, X, columns.likelihood, far), rtol=0.1, atol=0.1)
    models = [model, model.truncate(1)] if ordered else [model]
    for each in models:
        least = alone - np.log(20) + np.log1p(-each.mixture_weight_)  # the rest of the weight is the mixture's
        for score in (each.score_samples(far), each.log_likelihood(far, 10)):
            assert (score >= least - 1e-6 * np.abs(alone)).all()
    bare = pickle.loads(pickle.dumps(model))
    for name, buffer in bare.net_.module_.named_buffers():
        if name.endswith("share"):
            buffer.zero_()
    assert (bare.score_samples(far) < alone - np.log(20)).any() or likelihood == "bernoulli"  # of which no row is far


def test_samples_of_columns_of_any_unit_stay_near(curve):
    X = curve * [1e-3, 1, 1e3, 1, 1e-3]
    rows = quick(2, max_iter=20).fit(X, X_val=X[:10]).sample(4000, random_state=0)
    assert (np.abs(rows - X.mean(axis=0)) < 10 * X.std(axis=0)).mean() > 0.999


@pytest.fixture(scope="module")
def well_trained(curve):
    """A function from a number of held-out rows to samples of a model of the curve, which they chose."""

    @cache
    def draw(n_held_out):
        options = {"hidden_layer_sizes": (64, 32), "batch_size": 50, "learning_rate_init": 1e-2, "random_state": 0}
        model = VAEGenerator(2, max_iter=40, **options)
        return model.fit(curve, X_val=curve[:n_held_out]).sample(4000, random_state=0)

    return draw


@pytest.mark.usefixtures("default_networks")
def test_samples_leave_a_share_to_linear_models(well_trained):
    off = [np.mean(np.abs(rows[:, 1] - rows[:, 0] ** 2) > 1) for rows in map(well_trained, (1, 98))]
    assert off[0] > off[1] + 0.1  # a third of the rows, and one in a hundred


@pytest.mark.usefixtures("default_networks")
def test_samples_look_like_rows(curve, well_trained):
    rows = well_trained(98)
    np.testing.assert_allclose(rows.mean(axis=0), curve.mean(axis=0), atol=0.3)
    # The second column is the square of the first; a linear model cannot say so.
    assert np.median(np.abs(rows[:, 1] - rows[:, 0] ** 2)) < 0.3


@pytest.fixture
def groups(seed):
    """600 rows around six centres in four columns, and the centres."""
    rng = np.random.RandomState(seed)
    centres = 3 * rng.normal(size=(6, 4))
    return centres[rng.randint(6, size=600)] + 0.3 * rng.normal(size=(600, 4)), centres


def test_a_mixture_prior_gains_on_rows_in_groups(groups):
    X, centres = groups
    normal, mixed = (quick(max_iter=20, prior=p, defensive="linear").fit(X[:450]) for p in ("normal", "mixture"))
    assert mixed.score(X[450:]) > normal.score(X[450:]) + 0.3
    assert mixed.log_likelihood(X[450:]).mean() >= mixed.score(X[450:])
    off = [
        np.linalg.norm(rows[:, None] - centres, axis=2).min(axis=1) for rows in (normal.sample(999), mixed.sample(999))
    ]
    assert np.median(off[1]) < np.median(off[0])
    copied = pickle.loads(pickle.dumps(mixed))
    np.testing.assert_array_equal(copied.sample(5, random_state=0), mixed.sample(5, random_state=0))
    np.testing.assert_array_equal(copied.score_samples(X[:50]), mixed.score_samples(X[:50]))


def test_densities_under_a_mixture_prior_integrate_to_one(groups):
    X = groups[0][:, :2]
    model = quick(1, max_iter=15, prior="mixture").fit(X)
    low, high = X.min(axis=0) - 2, X.max(axis=0) + 2
    sides = [np.linspace(*ends, 40) for ends in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    cell = np.prod((high - low) / 39)
    assert np.exp(model.log_likelihood(grid, 30)).sum() * cell == pytest.approx(1, abs=0.05)
    assert np.exp(model.score_samples(grid)).sum() * cell <= 1.01


def test_the_prior_stays_normal_where_that_is_likelier(seed):
    """Few codes of a linear model, which the standard normal describes."""
    X = np.random.RandomState(seed).normal(size=(40, 6))
    assert quick(4, max_iter=5, prior="mixture", early_stopping=False).fit(X).prior_ is None


def test_a_pass_over_more_rows_leaves_the_prior(groups):
    model = quick(max_iter=3, prior="mixture").fit(groups[0])
    prior = model.prior_
    assert model.partial_fit(groups[0][:1]).prior_ is prior
    assert quick(prior="mixture").partial_fit(groups[0]).prior_ is None


def test_without_training_no_prior_is_learnt(curve):
    model = quick(max_iter=0, prior="mixture").fit(curve)
    assert model.prior_ is None
    np.testing.assert_array_equal(model.score_samples(curve), quick(max_iter=0).fit(curve).score_samples(curve))


def test_rows_far_off_have_no_density_under_a_mixture_prior(groups):
    model = quick(max_iter=3, prior="mixture").fit(groups[0])
    assert (model.score_samples(np.full((2, 4), 1e300)) < -1e3).all()


def test_names_that_are_no_strings_come_back_too(curve):
    rows = quick(max_iter=0).fit(pd.DataFrame(curve, columns=[10, 20, 30, 40, 50])).sample(2)
    assert list(rows.columns) == [10, 20, 30, 40, 50]


def test_constant_columns_and_own_modules_from_a_random_start(curve):
    with_constants = np.hstack([np.full((300, 1), 7.5), curve])
    model = quick(start="random", encoder=features, decoder=features).fit(with_constants)
    assert np.isfinite(model.score_samples(with_constants)).all()
    moved = with_constants.copy()
    moved[:, 0] = 7.4
    assert np.isfinite(model.sample(5)).all()
    assert model.noise_variance_[0] == 0


def test_wide_tables_start_from_probabilistic_pca(seed):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 60)) + rng.normal(size=(40, 60))
    model, pca = quick(3, max_iter=0).fit(X[:30]), quick(3, max_iter=0, start="pca").fit(X[:30])
    np.testing.assert_allclose(model.score_samples(X[30:]), pca.score_samples(X[30:]))


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_a_frame_was_fitted_so_a_frame_is_sampled(curve, fitted, frame):
    X = frame(dict(zip("abcde", curve.T, strict=True)))
    model = pickle.loads(pickle.dumps(quick().fit(X)))
    rows = model.sample(4, random_state=0)
    assert isinstance(rows, frame)
    assert list(rows.columns) == list("abcde")
    np.testing.assert_allclose(rows.to_numpy(), fitted.sample(4, random_state=0), atol=1e-6)


# Bernoulli.


def test_bernoulli_learns_samples_bits_and_has_probabilities_as_means(digits):
    X = (digits[:400] > 8).astype(float)
    model = quick(4, likelihood="bernoulli", max_iter=20).fit(X)
    assert model.best_loss_ < model.linear_loss_ - 1
    assert set(np.unique(model.sample(50, random_state=0))) == {0.0, 1.0}
    means = model.sample(50, noise=False, random_state=0)
    assert 0 <= means.min() < 0.1 < 0.9 < means.max() <= 1
    assert not hasattr(model, "noise_variance_")
    independent = np.clip(X.mean(axis=0), 1e-3, 1 - 1e-3)
    baseline = (X * np.log(independent) + (1 - X) * np.log1p(-independent)).sum(axis=1).mean()
    assert baseline + 2 < model.score(X) < 0
    assert model.log_likelihood(X[:100]).mean() > model.score(X[:100])


@pytest.fixture(scope="module")
def counts():
    """Of five groups, each with rates of its own, and varying more than a Poisson does."""
    rng = np.random.RandomState(0)
    rates = np.exp(rng.normal(1.5, 1, size=(5, 12)))[rng.randint(5, size=700)]
    return rng.poisson(rates * rng.gamma(2, 1 / 2, size=rates.shape)).astype(float)


def test_counts_that_vary_more_than_poissons_are_likelier_under_a_negative_binomial(counts):
    train, test = counts[:500], counts[500:]
    poisson, negative_binomial = (
        quick(4, likelihood=name, max_iter=15).fit(train) for name in ("poisson", "negative_binomial")
    )
    assert negative_binomial.score(test) > poisson.score(test) + 1
    assert negative_binomial.score(test) > quick(4, likelihood="negative_binomial", max_iter=0).fit(train).score(test)
    rows = negative_binomial.sample(2000, random_state=0)
    assert (rows == np.floor(rows)).all()
    assert rows.min() == 0
    np.testing.assert_allclose(rows.mean(axis=0), train.mean(axis=0), rtol=0.3)
    np.testing.assert_allclose(rows.std(axis=0), train.std(axis=0), rtol=0.5)
    assert not hasattr(poisson, "noise_variance_")


@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_counts_may_be_large_and_columns_constant(counts, name):
    X = np.column_stack([counts[:200], np.zeros(200), np.full(200, 3.0), 1e6 + 1e3 * counts[:200, 0]])
    X[3, :12] *= 1000
    model = quick(2, likelihood=name, max_iter=5).fit(X)
    for scores in (model.score_samples(X), model.log_likelihood(X, 5)):
        assert np.isfinite(scores).all()
    rows = model.sample(50, random_state=0)
    assert (rows[:, 12] == 0).all()
    assert (rows[:, 13] == 3).all()
    assert np.isfinite(rows).all()


def test_negative_counts_are_refused(counts):
    with pytest.raises(ValueError, match=r"column 2 of X has -1\. Negative values in data passed to X"):
        quick(2, likelihood="negative_binomial").fit(np.where(np.arange(12) == 2, -1.0, counts))


# Components in use.


def test_components_in_use_are_counted(linear_gaussian):
    model = quick(6, max_iter=0, early_stopping=False).fit(linear_gaussian)
    signal = np.einsum("kj,kj->k", model.components_, model.components_ / model.noise_variance_)
    codes = model.transform(linear_gaussian)
    expected = 0.5 * ((codes**2).mean(axis=0) + 1 / (1 + signal) + np.log1p(signal) - 1)
    np.testing.assert_allclose(model.kl_per_component_, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.active_components_, model.kl_per_component_ > 0.01)
    assert model.active_components_[:3].all()


@pytest.mark.parametrize(
    ("parameters", "remedy"),
    [
        ({"beta": 1e4}, "Lower beta=10000.0"),
        ({"beta": 1e4, "start": "random"}, "Lower beta=10000.0"),
        ({"beta": 1e4, "likelihood": "bernoulli"}, "Lower beta=10000.0"),
        ({"beta": 1.0, "start": "random"}, "Start with start='factor_analysis'"),
        ({"beta": 1.0, "likelihood": "bernoulli"}, "may be independent"),
    ],
)
def test_a_collapsed_posterior_is_said_once_with_the_remedy(parameters, remedy):
    X = np.random.RandomState(0).normal(size=(300, 4))
    X = (X > 0).astype(float) if "likelihood" in parameters else X
    X = np.full_like(X, 0.5) if parameters["beta"] == 1 else X  # nothing to say about any row
    model = VAEGenerator(
        1, hidden_layer_sizes=(), early_stopping=False, max_iter=30, n_iter_no_change=30, learning_rate_init=2e-2,
        random_state=0, **parameters,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning, match=f"collapsed.*{remedy}") as caught:
        model.fit(X)
    assert len(caught) == 1
    assert not model.active_components_.any()


def test_beta_weighs_the_code_in_training_and_not_in_scores(curve):
    small, large = (quick(2, beta=beta, early_stopping=False, max_iter=15).fit(curve) for beta in (0.1, 4.0))
    assert small.kl_per_component_.sum() > large.kl_per_component_.sum() + 0.3
    again = quick(2, beta=4.0, max_iter=0).fit(curve)
    assert again.score(curve) == pytest.approx(quick(2, max_iter=0).fit(curve).score(curve))


# Own modules, partial_fit, determinism, bad input.


def features(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 12), nn.Tanh())


@pytest.mark.parametrize("start", ["factor_analysis", "random"])
def test_own_features_of_any_width_get_their_heads(curve, start):
    model = quick(2, encoder=features, decoder=features, start=start, max_iter=5).fit(curve)
    assert model.transform(curve).shape == (300, 2)
    if start == "random":
        assert [type(part) for part in model.net_.module_.encoder] == [nn.Sequential, nn.Linear]
        assert not hasattr(model, "components_")
    else:
        linear = quick(2, encoder=features, decoder=features, max_iter=0).fit(curve)
        np.testing.assert_allclose(linear.score_samples(curve), own_density(linear, curve), atol=1e-6)


def test_partial_fit_learns(curve):
    model = quick(1)
    for _ in range(10):
        model.partial_fit(curve)
    assert model.n_iter_ == 10
    assert model.best_loss_ is None
    assert model.score(curve) > quick(1, max_iter=0).fit(curve).score(curve)


@pytest.mark.parametrize("view", [lambda X: X[::-1], lambda X: X[:, ::-1][:, ::-1], np.asfortranarray])
def test_rows_may_lie_in_memory_as_they_like(curve, fitted, view):
    model = fitted
    X = view(curve)
    X.setflags(write=False)
    np.testing.assert_allclose(model.score_samples(X), model.score_samples(X.copy()))
    np.testing.assert_allclose(model.transform(X), model.transform(X.copy()))


def test_rows_far_off_have_no_nan_for_a_density(curve):
    model = quick(start="random", max_iter=3, early_stopping=False).fit(curve)
    for scores in (model.score_samples(1e5 * curve), model.log_likelihood(1e5 * curve)):
        assert (scores < -1e3).all()


def test_partial_fit_refuses_another_beta(curve):
    with pytest.raises(ValueError, match="beta changed"):
        quick().partial_fit(curve).set_params(beta=2.0).partial_fit(curve)


def test_same_seed_same_fit(curve, fitted):
    one, two, other = fitted, quick(random_state=0).fit(curve), quick(random_state=4).fit(curve)
    np.testing.assert_array_equal(one.score_samples(curve), two.score_samples(curve))
    assert one.loss_curve_ == two.loss_curve_ != other.loss_curve_


def test_noise_alone_leaves_the_linear_start(seed):
    """At a rate at which no epoch can beat it by chance."""
    X = np.random.RandomState(seed).normal(size=(80, 6))
    with pytest.warns(ConvergenceWarning, match="linear start") as caught:
        model = quick(2, learning_rate_init=0.1, defensive="linear").fit(X)
    assert len(caught) == 1
    # Noise has no noise a column to tell: cross-validation takes probabilistic PCA for the start.
    pca = quick(2, start="pca", max_iter=0).fit(X).score_samples(X)
    share = np.log(1 / 20)  # half of one in ten, of the eight held out and two
    expected = np.logaddexp(np.log1p(-np.exp(share)) + pca, share + linear_densities(X, X, 2)[1])
    np.testing.assert_allclose(model.score_samples(X), expected)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"likelihood": "normal"},
            "likelihood='normal' is not known. Use one of 'gaussian', 'isotropic_gaussian', 'bernoulli'",
        ),
        ({"start": "fa"}, "start='fa' is not known. Use one of 'factor_analysis', 'pca', 'random'"),
        ({"beta": -1}, "beta=-1"),
        ({"n_components": 0}, "n_components=0"),
        ({"n_components": 999}, "n_components=999 is more than the 300 samples"),
        (
            {"likelihood": "poisson"},
            r"likelihood='poisson' needs counts.* column 0 of X has .*'gaussian'",
        ),
        ({"likelihood": "bernoulli"}, r"likelihood='bernoulli' needs values in \[0, 1\].*likelihood='gaussian'"),
        ({"encoder": lambda n_in, n_out: nn.Linear(n_in + 1, n_out)}, "cannot take samples of 5 columns"),
    ],
)
def test_a_bad_parameter_is_named(curve, parameters, message):
    model = quick(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(curve)
    for method in ("transform", "score", "log_likelihood", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(model, method)(curve)
    with pytest.raises(NotFittedError):
        model.sample()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.sample(0), "n_samples=0"),
        (lambda model: model.sample(2.5), "n_samples=2.5"),
        (lambda model: model.sample(2, noise="no"), "noise='no'"),
        (lambda model: model.log_likelihood(np.zeros((2, 5)), n_draws=0), "n_draws=0"),
        (lambda model: model.score(np.zeros((2, 4))), "4 features"),
        (lambda model: model.inverse_transform(np.zeros((2, 3))), "n_components_=2"),
        (lambda model: model.score([[np.inf] * 5]), "infinity"),
        (lambda model: model.impute(np.zeros((2, 5)), n_draws=0), "n_draws=0"),
    ],
)
def test_a_bad_call_is_named(fitted, call, message):
    with pytest.raises(ValueError, match=message):
        call(fitted)


@pytest.mark.parametrize("parameters", [{}, {"ordered": True}])
@pytest.mark.filterwarnings("ignore:No epoch had")
def test_reconstructions_of_few_samples_with_many_columns_do_not_get_worse(parameters, default_networks):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 500)) + rng.normal(size=(80, 500))
    parameters = {"n_components": 3, "random_state": 0} | parameters
    errors = [
        reconstruction_error(VAEGenerator(max_iter=n, **parameters).fit(X[:20], X_val=X[20:30]), X[30:]) for n in (0, 5)
    ]
    assert errors[1] <= 1.02 * errors[0]
