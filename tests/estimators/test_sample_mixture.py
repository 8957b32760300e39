"""The Gaussian mixture of the samples in the density of a VAE."""

import pickle

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.datasets import load_digits, load_wine
from sklearn.mixture import GaussianMixture

from skae import VAEGenerator
from skae.networks.sample_mixture import most_samples
from skae.objectives import MixtureDensity

pytestmark = pytest.mark.filterwarnings("ignore:No epoch had a lower")


def quick(n_components=1, **parameters):
    return VAEGenerator(n_components, **{"max_iter": 10, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def groups():
    """700 samples around six centres in four columns, and the number of each sample's centre."""
    rng = np.random.RandomState(0)
    y = rng.randint(6, size=700)
    return 3 * rng.normal(size=(6, 4))[y] + 0.3 * rng.normal(size=(700, 4)), y


@pytest.fixture(scope="module")
def fitted(groups):
    return quick().fit(groups[0][:500])


@pytest.fixture(scope="module")
def of_classes():
    X, y = load_wine(return_X_y=True)
    return quick(2, conditional=True).fit(X, y)


def test_groups_gain_what_a_mixture_of_them_does(groups, fitted):
    X = groups[0]
    linear, mixture = quick(defensive="linear").fit(X[:500]), GaussianMixture(6, random_state=0).fit(X[:500])
    assert 0.5 < fitted.mixture_weight_ < 1
    assert fitted.score(X[500:]) > linear.score(X[500:]) + 1
    assert fitted.score(X[500:]) > mixture.score(X[500:]) - 0.3
    np.testing.assert_array_equal(fitted.transform(X), linear.transform(X))  # the network is the same
    least = np.quantile(mixture.score_samples(X[:500]), 0.01)
    near, of_linear = ((mixture.score_samples(model.sample(2000)) > least).mean() for model in (fitted, linear))
    assert near > 0.85 > 0.5 > of_linear


def test_no_sample_costs_more_than_the_weight_of_the_mixture(groups, fitted):
    linear = quick(defensive="linear").fit(groups[0][:500])
    X = groups[0] + np.random.RandomState(1).normal(size=(700, 4)) * np.logspace(-1, 3, 700)[:, None]
    for method in ("score_samples", "log_likelihood"):
        found, alone = (getattr(model, method)(X) for model in (fitted, linear))
        least = alone + np.log1p(-fitted.mixture_weight_)
        assert (found >= least - 1e-6 * np.abs(least)).all()


def test_the_density_integrates_to_one(groups):
    X = groups[0][:, :2]
    model = quick().fit(X)
    assert model.mixture_weight_ > 0.5
    sides = [np.linspace(*ends, 80) for ends in zip(X.min(axis=0) - 3, X.max(axis=0) + 3, strict=True)]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    cell = np.prod([side[1] - side[0] for side in sides])
    assert np.exp(model.log_likelihood(grid, 20)).sum() * cell == pytest.approx(1, abs=0.02)
    observed = np.c_[sides[0], np.full(80, np.nan)]
    assert np.exp(model.log_likelihood(observed, 20)).sum() * (sides[0][1] - sides[0][0]) == pytest.approx(1, abs=0.02)


def test_new_samples_have_the_moments_and_given_values_those_of_their_neighbours(groups, fitted):
    X = groups[0]
    new = fitted.sample(20000, random_state=0)
    np.testing.assert_allclose(new.mean(axis=0), X[:500].mean(axis=0), atol=0.2)
    np.testing.assert_allclose(new.std(axis=0), X[:500].std(axis=0), rtol=0.1)
    kept = new[np.abs(new[:, 0] - X[3, 0]) < 0.1]
    given = fitted.sample(5000, given={0: X[3, 0]}, random_state=0)
    np.testing.assert_allclose(given.mean(axis=0), kept.mean(axis=0), atol=0.25)
    np.testing.assert_allclose(given.std(axis=0)[1:], kept.std(axis=0)[1:], rtol=0.2)


@pytest.mark.parametrize(
    "parameters",
    [
        {"defensive": "linear"},
        {"max_iter": 0},
        {"early_stopping": False},
        {"start": "random"},
        {"beta": 0.5},
        {"likelihood": "poisson"},
    ],
    ids=str,
)
def test_without_a_validation_set_or_a_linear_start_there_is_no_mixture(parameters, groups):
    X = np.round(np.abs(groups[0][:100]))
    model = quick(**{"max_iter": 2} | parameters).fit(X)
    assert model.mixture_weight_ == 0
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize("n_columns", [100, 101])
def test_up_to_a_hundred_columns_have_one(n_columns):
    X = np.random.RandomState(0).normal(size=(60, 103))
    X[:, n_columns:] = 1.0
    assert (quick(max_iter=1).fit(X).mixture_weight_ > 0) == (n_columns == 100)


def test_each_size_of_ordered_components_has_its_weight(groups):
    X = groups[0]
    model = quick(3, ordered=True).fit(X[:500])
    small = model.truncate(1)
    assert 0 < model.mixture_weight_ < small.mixture_weight_ < 1
    assert small.score(X[500:]) > quick(1, defensive="linear").fit(X[:500]).score(X[500:])


def test_classes_have_their_own_mixtures(of_classes):
    X, y = load_wine(return_X_y=True)
    assert 0 < of_classes.mixture_weight_ < 1
    weights = of_classes.net_.module_.defensive[0].mixture.weights
    assert len(weights) == 3
    assert ((weights > 0).sum(0) == 1).all()
    scores = np.stack([of_classes.score_samples(X, [label] * len(X)) for label in range(3)])
    assert (scores.argmax(axis=0) == y).mean() > 0.95
    marginal = np.logaddexp.reduce(scores + np.log(of_classes.class_prior_)[:, None])
    np.testing.assert_allclose(of_classes.score_samples(X), marginal)


def test_a_class_of_one_sample_has_a_mixture():
    X, y = load_wine(return_X_y=True)
    y = np.where(np.arange(len(X)) == 5, 7, y)
    model = quick(2, conditional=True, max_iter=2).fit(X, y)
    assert np.isfinite(model.score_samples(X, [7] * len(X))).all()
    assert np.isfinite(model.sample(5, y=[7] * 5)).all()


def test_missing_values_constant_columns_and_weights(groups):
    X = np.c_[groups[0][:300], np.ones(300)]
    X[np.random.RandomState(0).uniform(size=X.shape) < 0.2] = np.nan
    X[0] = np.nan
    model = quick().fit(X, sample_weight=1 + np.arange(300) % 3)
    assert 0 < model.mixture_weight_ < 1
    assert np.isfinite(model.score_samples(X)).all()
    assert model.score_samples(X[:1]) == pytest.approx(0, abs=0.1)
    assert (model.sample(9, random_state=0)[:, 4] == 1).all()
    assert not np.isnan(model.sample(50, given={1: 0.5}, random_state=0)).any()
    varying = np.c_[groups[0][:300], np.arange(300.0) % 5]
    model.partial_fit(varying)
    assert np.isfinite(model.score_samples(varying)).all()
    assert np.isfinite(model.sample(9)).all()


@pytest.mark.parametrize("name", ["fitted", "of_classes"])
def test_copies_from_files_have_the_same_density(name, request, groups, tmp_path):
    model = request.getfixturevalue(name)
    X = groups[0] if name == "fitted" else load_wine().data
    skops.io.dump(model, tmp_path / "model")
    trusted = skops.io.get_untrusted_types(file=tmp_path / "model")
    for copied in (pickle.loads(pickle.dumps(model)), skops.io.load(tmp_path / "model", trusted=trusted)):
        np.testing.assert_array_equal(copied.score_samples(X), model.score_samples(X))
        np.testing.assert_array_equal(copied.sample(5, random_state=0), model.sample(5, random_state=0))
        assert copied.mixture_weight_ == model.mixture_weight_


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weights", lambda part: 2 * part),
        ("weights", lambda part: -part),
        ("weights", lambda part: part[:, 1:]),
        ("means", lambda part: part * np.nan),
        ("means", lambda part: part[:, 1:]),
        ("loadings", lambda part: part + 1e10),
        ("loadings", lambda part: part[:, :, :, None]),
        ("noise", lambda part: 0 * part),
        ("noise", lambda part: None),
    ],
)
def test_files_with_other_arrays_are_refused(name, change, fitted):
    state = fitted.__getstate__()
    mixture = state["_fitted"]["mixture"]
    state["_fitted"] = state["_fitted"] | {"mixture": mixture | {name: change(mixture[name])}}
    with pytest.raises(ValueError, match=name):
        VAEGenerator.__new__(VAEGenerator).__setstate__(state)


@pytest.mark.parametrize(("n", "n_far"), [(1, 1), (20, 1), (20, 20)])
def test_without_a_mixture_if_validation_samples_are_far_from_the_training_samples(n, n_far, groups):
    X, X_val = groups[0], groups[0][:n].copy()
    X_val[:n_far] *= 1e12
    model = quick(max_iter=2).fit(X[n:300], X_val=X_val)
    assert model.mixture_weight_ == 0
    assert np.isfinite(model.score_samples(X)).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).score_samples(X), model.score_samples(X))


def test_the_weight_does_not_depend_on_the_size_of_blocks(groups, fitted, monkeypatch):
    rows, log_prob = [], MixtureDensity.log_prob
    monkeypatch.setattr("skae.networks.sample_mixture.evaluation_batch_size", lambda width: 7)
    monkeypatch.setattr(MixtureDensity, "log_prob", lambda self, x, *of: rows.append(len(x)) or log_prob(self, x, *of))
    assert quick().fit(groups[0][:500]).mixture_weight_ == pytest.approx(fitted.mixture_weight_)
    assert 7 in rows


def test_given_values_without_density_are_refused(fitted):
    assert np.isfinite(fitted.sample(5, given={0: 1e30}, random_state=0)).all()
    with pytest.raises(ValueError, match="so far from the training samples that their density is 0"):
        fitted.sample(5, given={0: 1e300})


def test_the_parameter_is_one_of_two():
    with pytest.raises(ValueError, match="defensive='none'"):
        quick(defensive="none").fit(load_digits().data[:50])


def test_tables_of_numbers_have_a_mixture_of_their_scores_and_others_none(groups):
    table = pd.DataFrame(np.exp(groups[0]), columns=list("abcd")).assign(kind=np.where(groups[1] < 3, "x", "y"))
    table.iloc[::9, 1] = np.nan
    numbers = table.drop(columns="kind")
    model, linear = (quick(likelihood="auto", defensive=of).fit(numbers[:500]) for of in ("mixture", "linear"))
    assert model.mixture_weight_ > 0.5
    assert model.score(numbers[500:]) > linear.score(numbers[500:]) + 1
    new = model.sample(20000, random_state=0)
    np.testing.assert_allclose(new.quantile([0.25, 0.75]), numbers[:500].quantile([0.25, 0.75]), rtol=0.35)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.score_samples(numbers), model.score_samples(numbers))
    pd.testing.assert_frame_equal(copied.sample(9, random_state=0), model.sample(9, random_state=0))
    mixed = quick(likelihood="auto", max_iter=2).fit(table)
    assert mixed.mixture_weight_ == 0
    of_classes = quick(likelihood="auto", conditional=True).fit(numbers, table["kind"])
    assert 0 < of_classes.mixture_weight_ < 1
    assert np.isfinite(of_classes.score_samples(numbers, table["kind"])).all()


def test_on_few_columns_mixtures_have_more_samples_and_components():
    assert [most_samples(n) for n in (2, 12, 30, 100)] == [20000, 20000, 6944, 5000]
