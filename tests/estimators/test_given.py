"""New samples given the values of some columns: `VAEGenerator.sample(given=...)`."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_digits, load_iris

from skae import VAEGenerator

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

IRIS, SPECIES = load_iris(return_X_y=True)
FIRST, OTHERS = [0, 2], [1, 3]
GIVEN = {0: 6.0, 2: 5.1}


def conditional(mean, covariance):
    """Mean and covariance of the other columns given those of `GIVEN`."""
    slopes = np.linalg.solve(covariance[np.ix_(FIRST, FIRST)], covariance[np.ix_(FIRST, OTHERS)]).T
    expected = mean[OTHERS] + slopes @ (np.array([*GIVEN.values()]) - mean[FIRST])
    return expected, covariance[np.ix_(OTHERS, OTHERS)] - slopes @ covariance[np.ix_(FIRST, OTHERS)]


def persons(n=300):
    rng = np.random.RandomState(0)
    age = np.r_[rng.normal(30, 3, n), rng.normal(60, 3, n)]
    city = pd.Categorical(["Oslo"] * n + ["Rome"] * n)
    return pd.DataFrame({"age": age, "city": city, "children": rng.poisson(np.repeat([1, 4], n))})


@pytest.mark.parametrize("start", ["pca", "factor_analysis"])
def test_samples_of_the_start_are_those_of_the_conditional_normal(start):
    model = VAEGenerator(2, start=start, max_iter=0).fit(IRIS)
    X = model.sample(20_000, given=GIVEN, random_state=0)
    np.testing.assert_array_equal(X[:, FIRST], np.broadcast_to([*GIVEN.values()], (20_000, 2)))
    covariance = model.components_.T @ model.components_ + np.diag(model.noise_variance_)
    mean, spread = conditional(model.mean_, covariance)
    np.testing.assert_allclose(X[:, OTHERS].mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(X[:, OTHERS].T), spread, rtol=0.05, atol=0.002)


def test_samples_of_a_trained_model_are_those_of_all_that_agree():
    """Rejection: of many samples those with nearly the given value."""
    X = load_digits().data[:600, [20, 27, 28, 36, 43]]
    model = VAEGenerator(2, max_iter=30, random_state=0).fit(X)
    anyone = model.sample(200_000, random_state=0)
    kept = anyone[np.abs(anyone[:, 2] - 14) < 0.5]
    assert 0.05 < model.mixture_weight_ < 0.95
    X = model.sample(5000, given={2: 14}, random_state=0)
    np.testing.assert_allclose(X.mean(axis=0), kept.mean(axis=0), atol=0.6)
    np.testing.assert_allclose(X[:, [0, 1, 3, 4]].std(axis=0), kept[:, [0, 1, 3, 4]].std(axis=0), rtol=0.15)


@pytest.mark.parametrize("library", [pd, pl])
def test_columns_of_any_kind_are_given_by_name(library):
    table = persons() if library is pd else pl.from_pandas(persons())
    model = VAEGenerator(2, likelihood="auto", max_iter=25, random_state=0).fit(table)
    young = model.sample(500, given={"city": "Oslo"}, random_state=0)
    assert isinstance(young, library.DataFrame)
    assert set(young["city"]) == {"Oslo"}
    assert np.median(young["age"]) < 40
    old = model.sample(500, given={"age": 61.0, "children": 4}, random_state=0)
    np.testing.assert_allclose(old["age"], 61, rtol=1e-9)
    assert (np.asarray(old["children"]) == 4).all()
    assert (np.asarray(old["city"]) == "Rome").mean() > 0.9


def test_classes_follow_from_what_is_given():
    model = VAEGenerator(2, conditional=True, max_iter=0).fit(IRIS, SPECIES)
    petals = model.sample(2000, given={2: 1.4}, random_state=0)[:, 3]  # as long as those of the first species
    assert abs(petals.mean() - IRIS[SPECIES == 0, 3].mean()) < 0.05


@pytest.mark.parametrize("parameters", [{"ordered": True}, {"prior": "mixture"}], ids=str)
def test_other_models_take_given_values(parameters):
    model = VAEGenerator(2, max_iter=40, random_state=1, **parameters).fit(IRIS * [1, 1, 3, 3])
    X = model.sample(300, given={0: 7.5}, random_state=0)
    assert (X[:, 0] == 7.5).all()
    assert X[:, 2].mean() > 3 * IRIS[:, 2].mean() + 2  # long sepals, long petals


def test_given_samples_repeat_and_more_of_them_are_drawn_in_parts():
    model = VAEGenerator(2, max_iter=0).fit(IRIS)
    np.testing.assert_array_equal(
        model.sample(2500, given=GIVEN, random_state=0), model.sample(2500, given=GIVEN, random_state=0)
    )
    assert len(np.unique(model.sample(2500, given=GIVEN, random_state=0)[:, 1])) == 2500


def test_a_constant_column_may_be_given():
    X = np.column_stack([IRIS, np.full(150, 7.0)])
    model = VAEGenerator(2, max_iter=0).fit(X)
    made = model.sample(5, given={4: 7.0, 0: 5.0}, random_state=0)
    np.testing.assert_array_equal(made[:, [0, 4]], np.broadcast_to([5.0, 7.0], (5, 2)))
    assert np.isfinite(made).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"town": 1}, "'town', which is no column of X"),
        ({"city": "Bern"}, "'Bern' for column 'city'"),
        ({"children": -1}, "-1 for column 'children'"),
        ({"age": "old"}, "'old' for column 'age'"),
    ],
)
def test_what_cannot_be_given_is_named(given, message):
    model = VAEGenerator(1, likelihood="auto", max_iter=0).fit(persons(30))
    with pytest.raises(ValueError, match=message):
        model.sample(given=given)


def test_arrays_take_finite_numbers_of_their_domain():
    model = VAEGenerator(2, likelihood="bernoulli", max_iter=0).fit(IRIS.mean(axis=0) < IRIS)
    for value in (2.0, np.nan, "1"):
        with pytest.raises(ValueError, match=r"given|bernoulli"):
            model.sample(given={0: value})
    with pytest.raises(ValueError, match="9, which is no column"):
        model.sample(given={9: 1.0})
    for other in ({"y": 1}, {"noise": False}):
        with pytest.raises(ValueError, match="neither y nor noise"):
            model.sample(given={0: 1.0}, **other)
