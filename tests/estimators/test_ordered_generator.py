"""Densities in order: one fit of a VAE, every number of components."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale
from skorch.callbacks import EpochScoring
from torch import nn

from skae import VAEGenerator
from skae.objectives import gaussian_kl

pytestmark = pytest.mark.usefixtures("narrow_networks")

SIZES = (1, 2, 3, 5, 8)


def ordered(n_components=8, **parameters):
    return VAEGenerator(n_components, ordered=True, **{"max_iter": 60, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def split(digits):
    rng = np.random.RandomState(0)
    X = digits + rng.uniform(0, 1, digits.shape)
    return X[:600], X[800:1200]


@pytest.fixture(scope="module")
def fitted(split):
    return ordered(prior="mixture").fit(split[0])


@pytest.fixture(scope="module")
def cut(fitted):
    """A function from a size to the model of that size."""
    return cache(fitted.truncate)


def test_without_training_it_is_probabilistic_pca(scaled_table):
    X = scaled_table[:200]
    n_components = min(4, X.shape[1])
    plain = VAEGenerator(n_components, start="pca", max_iter=0).fit(X)
    model = ordered(n_components, start="pca", max_iter=0).fit(X)
    np.testing.assert_allclose(model.score_samples(X[:60]), plain.score_samples(X[:60]), rtol=1e-9)
    np.testing.assert_allclose(model.transform(X[:60]), plain.transform(X[:60]), rtol=1e-9)
    np.testing.assert_allclose(model.components_, plain.components_)
    np.testing.assert_allclose(model.noise_variance_, plain.noise_variance_)


def test_without_training_the_default_is_probabilistic_pca_of_standardised_columns(scaled_table):
    X = scaled_table[:200][:, np.ptp(scaled_table[:200], axis=0) > 0]
    scores = ordered(3, max_iter=0).fit(X).score_samples(X)
    expected = PCA(3).fit(scale(X)).score_samples(scale(X)) - np.log(X.std(axis=0)).sum()
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())


def test_without_training_a_size_is_probabilistic_pca_of_that_size(scaled_table):
    X = scaled_table[:200][:, np.ptp(scaled_table[:200], axis=0) > 0]
    model = ordered(min(8, X.shape[1] - 1), start="pca", max_iter=0).fit(X)
    for size in model.net_.module_.levels:
        cut, plain = model.truncate(size), VAEGenerator(size, start="pca", max_iter=0).fit(X)
        np.testing.assert_allclose(cut.components_, plain.components_, atol=1e-9 * np.abs(plain.components_).max())
        np.testing.assert_allclose(cut.noise_variance_, plain.noise_variance_)
        bound, exact = cut.score_samples(X[:60]), PCA(size).fit(X).score_samples(X[:60])
        np.testing.assert_allclose(bound, exact, atol=1e-4 * np.abs(exact).max())


def test_every_size_gains_on_factor_analysis_and_larger_sizes_gain_more(cut, split):
    test = split[1][:200]
    scores = [cut(size).score(test) for size in SIZES]
    linear = [FactorAnalysis(size).fit(split[0]).score(test) for size in SIZES]
    assert (np.array(scores) > np.array(linear) + 3).all()
    assert scores == sorted(scores)


def test_codes_of_a_size_are_the_first_columns(fitted, cut, split):
    X = split[1][:50]
    Z = fitted.transform(X)
    for size in SIZES:
        model = cut(size)
        assert model.n_components_ == size
        assert model.net_ is fitted.net_
        np.testing.assert_array_equal(model.transform(X), Z[:, :size])
        assert model.inverse_transform(Z[:, :size]).shape == X.shape
        assert model.components_.shape == (size, 64)
        assert model.kl_per_component_.shape == model.active_components_.shape == (size,)


def test_a_size_is_sampled_and_scored_under_its_own_prior(fitted, cut, split):
    assert fitted.prior_ is not None
    for size in (1, 3, 8):
        model = cut(size)
        assert model.prior_ is None or model.prior_.means_.shape[1] == size
        rows = model.sample(400, random_state=0)
        assert np.abs(rows.mean(axis=0) - split[0].mean(axis=0)).max() < 2.5
        assert model.score(rows[:100]) > model.score(split[0][:100, ::-1])
        assert (model.log_likelihood(split[1][:30]) >= model.score_samples(split[1][:30]) - 1).all()


def test_a_fit_with_less_says_where_its_noise_is(fitted, cut):
    noise = [cut(size).noise_variance_.mean() for size in SIZES]
    assert noise == sorted(noise, reverse=True)
    np.testing.assert_allclose(cut(8).noise_variance_, fitted.noise_variance_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_auto_keeps_the_components_in_use():
    rng = np.random.RandomState(0)
    directions = rng.normal(size=(3, 12))
    directions *= 1.5 / np.linalg.norm(directions, axis=0)  # all columns have one variance, as their noise has
    X = rng.normal(size=(600, 3)) @ directions + rng.normal(size=(600, 12))
    model = VAEGenerator("auto", max_iter=10, random_state=0).fit(X)
    assert model.n_components == "auto"
    assert model.n_components_ == 3 == model.transform(X).shape[1]
    assert model.active_components_.all()
    smaller, larger = (VAEGenerator(n, max_iter=0).fit(X).score(X) for n in (2, 3))
    assert smaller < model.score(X) - 0.1
    assert model.score(X) == pytest.approx(larger, abs=0.2)
    assert not hasattr(VAEGenerator("auto"), "partial_fit")


def test_auto_of_columns_with_nothing_in_common_keeps_one():
    X = np.random.RandomState(0).normal(size=(400, 6))
    with pytest.warns(ConvergenceWarning):
        assert VAEGenerator("auto", max_iter=5, random_state=0).fit(X).n_components_ < 6


def test_pickles_know_every_size(fitted, cut, split):
    again, X = pickle.loads(pickle.dumps(fitted)), split[1][:50]
    for size in (1, 5, 8):
        one, other = cut(size), again.truncate(size)
        np.testing.assert_allclose(other.score_samples(X), one.score_samples(X), rtol=1e-9)
        np.testing.assert_allclose(other.noise_variance_, one.noise_variance_)
        np.testing.assert_array_equal(other.sample(3, random_state=0), one.sample(3, random_state=0))


@pytest.mark.parametrize(
    "parameters",
    [
        {"hidden_layer_sizes": ()},
        {"beta": 0.5},
        {"start": "pca"},
        {"early_stopping": False},
        {"alpha": 0.1},
        {"n_components": 1},
        {"n_components": 9},
        {"encoder": lambda n_in, n_out: nn.Linear(n_in, 5), "decoder": lambda n_in, n_out: nn.Linear(n_in, 7)},
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_goes_with_the_other_parameters(curve, parameters):
    model = ordered(**{"n_components": 4, "max_iter": 5} | parameters).fit(curve)
    assert np.isfinite(model.loss_curve_).all()
    for size in (1, model.n_components_):
        assert np.isfinite(model.truncate(size).score(curve))
        assert model.truncate(size).sample(5).shape == (5, 5)


def test_it_goes_with_rows_in_the_unit_interval(digits):
    X = digits[:400] / 16
    model = ordered(6, likelihood="bernoulli", max_iter=20).fit(X)
    scores = [model.truncate(size).score(X) for size in (1, 3, 6)]
    assert scores == sorted(scores)
    assert set(np.unique(model.truncate(3).sample(5))) == {0.0, 1.0}


def test_constant_columns_come_back_at_every_size(curve):
    X = np.column_stack([curve, np.full(len(curve), 7.0)])
    model = ordered(3, max_iter=3).fit(X)
    for size in (1, 2, 3):
        assert (model.truncate(size).sample(4)[:, -1] == 7.0).all()
        assert model.truncate(size).noise_variance_[-1] == 0


def test_partial_fit_goes_on(split):
    model = ordered(4, max_iter=2).fit(split[0])
    before = model.transform(split[1])
    model.partial_fit(split[0])
    assert not np.array_equal(model.transform(split[1]), before)
    with pytest.raises(ValueError, match="shares the network of the one it was truncated from"):
        model.truncate(2).partial_fit(split[0])


def test_own_steps_go_on_where_a_pickle_left_them(split):
    model = ordered(4).partial_fit(split[0])
    again = pickle.loads(pickle.dumps(model))
    for m in (model, again):
        m.partial_fit(split[0])
    np.testing.assert_allclose(again.transform(split[1]), model.transform(split[1]), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:The posterior collapsed")  # a ring has no linear components
@pytest.mark.parametrize("n_components", [3, 5])
def test_more_components_than_columns_leave_something_to_noise(n_components):
    rng = np.random.RandomState(0)
    angle = rng.uniform(0, 2 * np.pi, size=(800, 1))
    X = np.hstack([np.cos(angle), np.sin(angle)]) + 0.05 * rng.normal(size=(800, 2))
    model = ordered(n_components, early_stopping=False, max_iter=50).fit(X[:600])
    plain = VAEGenerator(2, max_iter=1, random_state=0).fit(X[:600])
    for size in (1, 2, n_components):
        assert model.truncate(size).score(X[600:]) > plain.linear_loss_ * -1 - 1
    wide = ordered(n_components, max_iter=0).fit(X)
    assert (wide.noise_variance_ >= 1e-4 * X.var(axis=0) * 0.99).all()


def test_a_duplicated_column_spoils_no_small_size(curve):
    X = np.column_stack([curve, curve[:, 0]])
    scores = [ordered(n, max_iter=25).fit(X[:220]).truncate(2).score(X[220:]) for n in (3, 6)]
    assert scores[1] > scores[0] - 1.5


def test_components_are_described_by_the_q_that_is_used(fitted, cut, split):
    network = fitted.net_.inference_module(torch.float64)
    for size in (1, 3, 8):
        with torch.no_grad():
            q = network.at(size, is_refined=False).posterior(network.inputs(torch.from_numpy(split[0])))
        expected = gaussian_kl(*q).mean(0).numpy()
        np.testing.assert_allclose(cut(size).kl_per_component_, expected, rtol=0.1, atol=0.02)


def test_a_cut_mixture_is_kept_only_if_it_is_likelier():
    rng = np.random.RandomState(1)
    X = 4 * rng.normal(size=(6, 10))[rng.randint(6, size=900)] + rng.normal(size=(900, 10))
    model = ordered(4, prior="mixture", max_iter=25).fit(X[:600])
    normal = ordered(4, max_iter=25).fit(X[:600])
    for size in (1, 2):
        assert model.truncate(size).score(X[600:]) > normal.truncate(size).score(X[600:]) - 0.05


def test_skorchs_own_predict_and_scoring_work(curve):
    model = ordered(3, max_iter=3, callbacks=[EpochScoring(lambda net, X, y: float(net.predict(X).mean()))]).fit(curve)
    x = model.net_.module_.scaler(torch.from_numpy(curve)).float()
    assert model.net_.predict(x.numpy()).shape == (300, 5)  # reconstructions


def test_components_without_loadings_learn_too():
    rng = np.random.RandomState(0)
    t = rng.uniform(-2, 2, size=(400, 1))
    model = ordered(5, max_iter=30, early_stopping=False).fit(np.hstack([t, t**2, np.sin(2 * t)]))
    assert model.transform(t @ np.ones((1, 3))).std(axis=0).min() > 0


def test_columns_without_loadings_share_the_noise():
    hadamard = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * [3.0, 2.0, 1.0]
    cut = ordered(2, start="pca", max_iter=0).fit(np.tile(hadamard, (5, 1))).truncate(1)
    assert cut.noise_variance_ == pytest.approx(np.full(3, cut.noise_variance_[0]))
    assert cut.score(hadamard) == pytest.approx(PCA(1).fit(np.tile(hadamard, (5, 1))).score(hadamard), rel=1e-4)


def test_sizes_of_fewer_rows_than_columns_are_pcas_too():
    X = np.random.RandomState(0).normal(size=(20, 60))
    model = ordered(8, start="pca", max_iter=0).fit(X)
    for size in (1, 4, 8):
        assert model.truncate(size).score(X) == pytest.approx(PCA(size).fit(X).score(X), rel=1e-3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_cut_of_auto_keeps_its_order_when_it_is_fitted_anew(split):
    cut = VAEGenerator("auto", max_iter=2, random_state=0).fit(split[0][:, 20:30]).truncate(2)
    assert cut.ordered
    assert cut.fit(split[0]).truncate(1).transform(split[1]).shape == (400, 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0.9}, "n_components=0.9 must be an integer of at least 1, or 'auto'"),
        ({"ordered": 1}, "ordered=1 must be True or False"),
        ({"ordered": True, "start": "random"}, "Use start='factor_analysis', or ordered=False"),
        ({"n_components": "auto", "start": "random"}, "needs ordered components"),
    ],
)
def test_wrong_parameters_are_named(curve, parameters, message):
    with pytest.raises(ValueError, match=message):
        VAEGenerator(**parameters).fit(curve)


def test_components_in_no_order_cannot_be_left_out(curve):
    with pytest.raises(ValueError, match="components of this VAEGenerator are not ordered"):
        VAEGenerator(max_iter=0).fit(curve).truncate(1)
