"""Columns that are constant in the training samples: reconstructions, densities, and batches in which they vary."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VAEGenerator

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

KINDS = {
    "gaussian": lambda rng, n: rng.normal(size=(n, 3)) @ np.ones((3, 4)) + 0.1 * rng.normal(size=(n, 4)),
    "bernoulli": lambda rng, n: (rng.uniform(size=(n, 1)) + rng.uniform(size=(n, 4)) > 1).astype(float),
    "poisson": lambda rng, n: rng.poisson(rng.uniform(1, 9, size=(n, 1)), size=(n, 4)).astype(float),
    "negative_binomial": lambda rng, n: rng.poisson(rng.uniform(1, 9, size=(n, 1)), size=(n, 4)).astype(float),
}


def linear(n_in, n_out):
    return torch.nn.Linear(n_in, n_out)


def with_constant(likelihood, value, seed=0, n=60):
    X = KINDS[likelihood](np.random.RandomState(seed), n)
    X[:, 2] = value
    return X


def changed(X, value):
    X = X[:5].copy()
    X[:, 2] = value
    return X


@pytest.mark.parametrize(
    ("likelihood", "constant", "other"),
    [
        ("gaussian", 20.0, 21.0),
        ("gaussian", 0.0, 1.0),
        ("gaussian", 1e6, 1e6 + 1),
        ("bernoulli", 0.0, 1.0),
        ("poisson", 0.0, 1000.0),
        ("negative_binomial", 3.0, 4.0),
    ],
)
@pytest.mark.parametrize("epochs", [0, 2])
def test_another_value_lowers_the_score(likelihood, constant, other, epochs):
    X = with_constant(likelihood, constant)
    model = VAEGenerator(1, likelihood=likelihood, max_iter=epochs, early_stopping=False).fit(X)
    for score in (model.score_samples, model.log_likelihood):
        assert (score(changed(X, other)) < score(X[:5]) - 1).all()
        assert np.isfinite(score(changed(X, other))).all()
        np.testing.assert_allclose(score(changed(X, np.nan)), score(X[:5]), rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "negative_binomial"])
def test_an_unseen_count_has_the_probability_of_one_more_unseen_value(likelihood):
    X = with_constant(likelihood, 0.0)
    model = VAEGenerator(1, likelihood=likelihood, max_iter=0).fit(X)
    fall = model.score_samples(X[:5]) - model.score_samples(changed(X, 1.0))
    np.testing.assert_allclose(fall, np.log(len(X) + 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_constant_itself_adds_nothing(dtype):
    X = with_constant("gaussian", 0.1).astype(dtype)
    model, plain = (VAEGenerator(1, max_iter=0).fit(rows) for rows in (X, np.delete(X, 2, axis=1)))
    np.testing.assert_allclose(model.score_samples(X), plain.score_samples(np.delete(X, 2, axis=1)), rtol=1e-5)
    np.testing.assert_allclose(model.score_samples(X.astype(np.float32)), model.score_samples(X), rtol=1e-3)
    assert model.noise_variance_[2] == 0
    assert (model.sample(9, random_state=0)[:, 2] == dtype(0.1)).all()


def test_the_score_has_no_unit():
    X = with_constant("gaussian", 7.0)
    falls = []
    for unit in (1.0, 1e6):
        model = VAEGenerator(1, max_iter=0).fit(unit * X)
        falls.append(model.score(unit * X[:5]) - model.score(unit * changed(X, 7.1)))
    assert falls[0] == pytest.approx(falls[1], rel=1e-4)


@pytest.mark.parametrize("n_components", [1, 20])
def test_with_the_start_pca_the_score_is_that_of_pca(n_components):
    X = load_digits().data[:300]  # some pixels are always 0
    model, pca = VAEGenerator(n_components, start="pca", max_iter=0).fit(X), PCA(n_components, svd_solver="full").fit(X)
    np.testing.assert_allclose(model.score_samples(X), pca.score_samples(X))
    np.testing.assert_allclose(model.noise_variance_, pca.noise_variance_)
    moved = X[:5].copy()
    moved[:, 0] = 3.0
    np.testing.assert_allclose(model.score_samples(moved), pca.score_samples(moved))
    assert model.linear_loss_ == pytest.approx(-pca.score(X), rel=0.1)  # on the validation set


def test_each_size_of_an_ordered_fit_has_the_score_of_pca():
    X = load_digits().data[:300]
    model = VAEGenerator(4, start="pca", ordered=True, max_iter=0).fit(X)
    for size in (1, 2, 4):
        np.testing.assert_allclose(model.truncate(size).score(X), PCA(size).fit(X).score(X), rtol=1e-9)


def test_columns_of_a_table(seed):
    rng = np.random.RandomState(seed)
    x = rng.normal(size=80)
    table = pd.DataFrame({"x": x, "y": x + rng.normal(size=80), "c": 5.0, "flag": False, "count": 3})
    model = VAEGenerator(1, likelihood={"count": "poisson"}, max_iter=2, early_stopping=False).fit(table)
    other = table.assign(c=6.0), table.assign(flag=True), table.assign(count=4)
    assert all(model.score(rows) < model.score(table) - 1 for rows in other)
    assert pickle.loads(pickle.dumps(model)).score(other[0]) == model.score(other[0])


def test_own_modules_from_a_random_start():
    X = with_constant("gaussian", 7.5)
    model = VAEGenerator(1, start="random", encoder=linear, decoder=linear, max_iter=2, random_state=0).fit(X)
    assert model.score(changed(X, 8.5)) < model.score(X[:5]) - 1
    assert np.isfinite(model.sample(5)).all()
    assert model.noise_variance_[2] == 0


def batches(kind, seed):
    """Return a batch with a constant column, and one in which that column depends on another."""
    rng = np.random.RandomState(seed)
    first, later = KINDS[kind](rng, 60), KINDS[kind](rng, 800)
    first[:, 2], later[:, 2] = first[0, 2], later[:, 0]
    return first, later


def error_of(model, X):
    return np.square((model.inverse_transform(model.transform(X)) - X)[:, 2]).mean()


@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        ("gaussian", AutoencoderTransformer(2)),
        ("gaussian", AutoencoderTransformer(2, ordered=True)),
        ("gaussian", AutoencoderTransformer(2, start="random", learning_rate_init=1e-2)),
        ("poisson", AutoencoderTransformer(2, loss="poisson")),
        ("bernoulli", AutoencoderTransformer(2, loss="log_loss")),
        ("gaussian", VAEGenerator(2)),
        ("gaussian", VAEGenerator(2, ordered=True)),
        ("bernoulli", VAEGenerator(2, likelihood="bernoulli")),
        ("poisson", VAEGenerator(2, likelihood="poisson")),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_partial_fit_learns_a_column_once_it_varies(kind, estimator):
    first, later = batches(kind, 0)
    model = estimator.set_params(random_state=0).partial_fit(first)
    missed = np.square(later[:, 2] - first[0, 2]).mean()
    assert error_of(model, later) == pytest.approx(missed)
    before = model.score(later)
    for _ in range(3):
        model.partial_fit(later)
    assert error_of(model, later) < 0.5 * later[:, 2].var()
    assert model.score(later) > before
    assert error_of(pickle.loads(pickle.dumps(model)), later) == error_of(model, later)


@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
@pytest.mark.parametrize("sparse_missing", [False, True])
def test_partial_fit_learns_another_constant(model_class, sparse_missing):
    first, later = batches("gaussian", 1)
    first[:, 2], later[:, 2] = 0.0, 1.0
    if sparse_missing:
        later[::10, 2] = np.nan
    model = model_class(2, random_state=0).partial_fit(first)
    for _ in range(3):
        model.partial_fit(later)
    assert model.inverse_transform(model.transform(later[:5]))[:, 2] == pytest.approx(1.0, abs=0.1)


def test_partial_fit_keeps_columns_that_stay_constant():
    first, later = batches("gaussian", 2)
    first[:, 2] = later[:, 2] = 0.1
    model = AutoencoderTransformer(2, random_state=0).partial_fit(first)
    model.partial_fit(later.astype(np.float32))
    assert (model.inverse_transform(model.transform(later))[:, 2] == 0.1).all()


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli", "poisson"])
def test_partial_fit_learns_a_column_of_a_table_once_it_varies(kind):
    first, later = (pd.DataFrame(rows, columns=list("abcd")) for rows in batches(kind, 0))
    model = VAEGenerator(2, likelihood=dict.fromkeys("abcd", kind), random_state=0).partial_fit(first)
    before = model.score(later)
    for _ in range(4):
        model.partial_fit(later)
    decoded = model.inverse_transform(model.transform(later))
    assert np.square(decoded["c"] - later["c"]).mean() < 0.5 * later["c"].var()
    assert model.score(later) > before
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(later), model.score_samples(later))
    assert list(model.sample(3).columns) == list("abcd")


@pytest.mark.parametrize("constant", [5e-6, 1e8 + 0.3, -40.0])
def test_the_unit_of_a_constant_of_a_table_follows_the_constant(constant):
    rng = np.random.RandomState(0)
    x = rng.normal(size=80)
    table = pd.DataFrame({"x": x, "y": x + rng.normal(size=80), "c": constant})
    model = VAEGenerator(1, likelihood="auto", max_iter=0).fit(table)
    score = model.score(table)
    assert model.score(table.assign(c=1.1 * constant)) < score - 10
    assert model.score(table.assign(c=float(np.float32(constant)))) == pytest.approx(score, abs=0.1)


def test_partial_fit_of_own_modules_counts_a_column_once_it_varies():
    first, later = batches("gaussian", 0)
    model = VAEGenerator(2, start="random", encoder=linear, decoder=linear, random_state=0).partial_fit(first)
    before = model.score(later)
    for _ in range(3):
        model.partial_fit(later)
    assert model.score(later) > before
    assert model.noise_variance_[2] > 0


@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
def test_partial_fit_after_a_batch_of_equal_samples(model_class):
    first, later = batches("gaussian", 0)
    model = model_class(2, random_state=0).partial_fit(np.repeat(first[:1], 9, axis=0))
    for _ in range(3):
        model.partial_fit(later)
    assert np.isfinite(model.transform(later)).all()
    assert np.isfinite(model.score(later))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_table_whose_column_begins_to_vary_is_saved(dtype):
    first, later = batches("gaussian", 0)
    first[:, 2], later[:, 2] = 3.0, np.round(later[:, 2] * 7) / (1 if dtype == "int64" else 3)
    first, later = (pd.DataFrame(rows, columns=list("abcd")).astype({"c": dtype}) for rows in (first, later))
    model = VAEGenerator(2, likelihood=dict.fromkeys("abcd", "gaussian"), random_state=0).partial_fit(first)
    model.partial_fit(later)
    again = pickle.loads(pickle.dumps(model))
    assert again.sample(5, random_state=0)["c"].dtype == dtype
    assert again.sample(200, random_state=0)["c"].nunique() > 1


def test_a_far_value_of_a_learned_column_lowers_the_score_of_a_trained_model():
    first, later = batches("gaussian", 0)
    model = VAEGenerator(2, max_iter=3, early_stopping=False, random_state=0).fit(first)
    for _ in range(3):
        model.partial_fit(later)
    scores = [model.score(changed(later, value)) for value in (5.0, 100.0, 1e4)]
    assert scores[0] - 10 > scores[1] > scores[2] + 10


@pytest.mark.parametrize("start", ["factor_analysis", "pca"])
def test_a_learned_column_starts_in_its_own_unit(start):
    """With one component, since the data have one factor: factor analysis has several solutions with two."""
    first, later = batches("gaussian", 0)
    scores = []
    for unit in (1e-4, 1e4):
        model = VAEGenerator(1, start=start, random_state=0).partial_fit(unit * first).partial_fit(unit * later)
        scores.append(model.score(unit * later) + 4 * np.log(unit))
        assert 1e-6 < model.noise_variance_[2] / unit**2 < 100
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
def test_a_column_with_a_large_offset_is_learned(model_class):
    first, later = batches("gaussian", 0)
    first[:, 2], later[:, 2] = 1.7e9, 1.7e9 + 100 * later[:, 0]
    model = model_class(2, random_state=0).partial_fit(first)
    for _ in range(5):
        model.partial_fit(later)
    assert error_of(model, later) < 0.3 * later[:, 2].var()


@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
def test_a_truncated_model_is_saved_after_its_network_was_trained_on(model_class):
    _, later = batches("gaussian", 0)
    model = model_class(3, ordered=True, max_iter=3, early_stopping=False, random_state=0).fit(later)
    few = model.truncate(2)
    model.partial_fit(later)
    again = pickle.loads(pickle.dumps(few))
    np.testing.assert_array_equal(again.transform(later), few.transform(later))


@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
def test_batches_may_lack_columns_entirely(model_class):
    first, later = batches("gaussian", 0)
    model = model_class(2, random_state=0).partial_fit(first)
    for column in (2, 3):
        lacking = later.copy()
        lacking[:, column] = np.nan
        model.partial_fit(lacking)
    assert np.isfinite(model.transform(later)).all()
    assert error_of(model.partial_fit(later), later) < later[:, 2].var()


KINDS_OF_MODELS = [
    ("gaussian", AutoencoderTransformer(2)),
    ("gaussian", AutoencoderTransformer(2, ordered=True)),
    ("poisson", AutoencoderTransformer(2, loss="poisson")),
    ("gaussian", VAEGenerator(2)),
    ("gaussian", VAEGenerator(2, ordered=True)),
    ("poisson", VAEGenerator(2, likelihood="poisson")),
    ("poisson", VAEGenerator(2, likelihood="multinomial")),
]
SLOW_STEPS = {"learning_rate_init": 1e-12, "random_state": 0}  # a batch changes nothing but the columns that begin


def named(value):
    return value if isinstance(value, str) else type(value).__name__


def batches_without_values(kind, offset=1000):
    """Return a batch in which a column has no values, and one in which it has large ones, which depend on another."""
    rng = np.random.RandomState(0)
    first, later = KINDS[kind](rng, 60), KINDS[kind](rng, 12)
    first[:, 2], later[:, 2] = np.nan, offset + later[:, 0]
    return first, later


@pytest.mark.parametrize(("kind", "estimator"), KINDS_OF_MODELS, ids=named)
def test_partial_fit_learns_a_column_once_it_has_values(kind, estimator):
    first, later = batches_without_values(kind)
    model = clone(estimator).set_params(**SLOW_STEPS).partial_fit(first)
    assert model.mean_[2] == 0
    model.partial_fit(first)
    assert model.mean_[2] == 0
    model.partial_fit(later)
    assert model.mean_[2] == pytest.approx(later[:, 2].mean())  # without a made-up value
    if "multinomial" not in repr(estimator):
        found = model.inverse_transform(model.transform(later))[:, 2]
        assert np.abs(found - later[:, 2]).max() < 30
        assert model.inverse_transform(np.zeros((1, 2)))[0, 2] == pytest.approx(1000, rel=0.02)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(later), model.transform(later))


@pytest.mark.parametrize(("kind", "estimator"), KINDS_OF_MODELS, ids=named)
def test_the_first_values_of_a_column_may_be_constant(kind, estimator):
    first, later = batches_without_values(kind)
    constant = later.copy()
    constant[:, 2] = 1000
    model = clone(estimator).set_params(**SLOW_STEPS).partial_fit(first)
    model.partial_fit(constant)
    assert model.mean_[2] == 1000
    if "multinomial" not in repr(estimator):
        assert model.inverse_transform(model.transform(constant))[:, 2] == pytest.approx(1000)
    if isinstance(estimator, VAEGenerator) and "multinomial" not in repr(estimator):
        assert model.score(constant) > model.score(later) + 1  # where the column has other values
    model = pickle.loads(pickle.dumps(model)).partial_fit(later)
    assert model.mean_[2] == pytest.approx(np.append(later[:, 2], 1000).mean())  # of this batch and one more sample


@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
def test_partial_fit_learns_a_column_that_fit_had_no_values_of(model_class):
    first, later = batches_without_values("gaussian")
    model = model_class(2, max_iter=2, early_stopping=False, **SLOW_STEPS).fit(first).partial_fit(later)
    assert model.mean_[2] == pytest.approx(later[:, 2].mean())


@pytest.mark.parametrize("start", ["pca", "random"])
@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
def test_other_starts_learn_a_column_once_it_has_values(start, model_class):
    first, later = batches_without_values("gaussian", 3 if start == "random" else 1000)
    parameters = {"encoder": linear, "decoder": linear} if start == "random" else {}
    model = model_class(2, start=start, **parameters, **SLOW_STEPS).partial_fit(first).partial_fit(later)
    assert model.mean_[2] == pytest.approx(later[:, 2].mean())
    assert np.isfinite(model.score(later))
    assert np.isfinite(pickle.loads(pickle.dumps(model)).score(changed(later, np.nan)))


def test_a_constant_with_the_noise_of_pca_keeps_it_at_its_first_value():
    first, later = batches_without_values("gaussian")
    later[:, 2] = 1000
    model = VAEGenerator(1, start="pca", **SLOW_STEPS).partial_fit(first).partial_fit(later)
    zeros = VAEGenerator(1, start="pca", **SLOW_STEPS).partial_fit(np.nan_to_num(first))
    expected = zeros.score_samples(changed(later, 0.0))
    np.testing.assert_allclose(model.score_samples(later[:5]), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gaussian", "poisson", "bernoulli"])
@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
def test_partial_fit_learns_a_column_of_a_table_once_it_has_values(kind, model_class):
    rng = np.random.RandomState(0)
    first, later = (pd.DataFrame(KINDS[kind](rng, n), columns=list("abcd")) for n in (60, 12))
    first["c"], later["c"] = np.nan, later["a"]
    losses = {"gaussian": "squared_error", "poisson": "poisson", "bernoulli": "log_loss"}
    parameter = {"likelihood": kind} if model_class is VAEGenerator else {"loss": losses[kind]}
    parameters = {name: dict.fromkeys("abcd", value) for name, value in parameter.items()}
    model = model_class(2, **parameters, **SLOW_STEPS).partial_fit(first)
    model = pickle.loads(pickle.dumps(model)).partial_fit(later)
    again = clone(model).set_params(max_iter=0).fit(later)  # the same encoding of the column
    assert model.mean_[2] == pytest.approx(again.mean_[2] if kind == "gaussian" else later["c"].mean(), abs=1e-6)
    decoded = model.inverse_transform(model.transform(later))["c"]
    assert decoded.between(later["c"].min(), later["c"].max()).all()


@pytest.mark.parametrize("values_before", [False, True], ids=["no values before", "constant before"])
@pytest.mark.parametrize(("kind", "estimator"), KINDS_OF_MODELS, ids=named)
def test_a_column_that_begins_has_weights(kind, estimator, values_before):
    """A weight of 2 is a sample twice, also for a column that begins, but for the samples that scale steps."""
    first, later = batches_without_values(kind)
    first[:, 2] = first[0, 0] if values_before else np.nan
    weights = np.resize([0, 1, 2, 5], len(later))
    models = [clone(estimator).set_params(**SLOW_STEPS).partial_fit(first) for _ in range(2)]
    models[0].partial_fit(later, sample_weight=weights)
    models[1].partial_fit(np.repeat(later, weights, axis=0))
    assert models[0].mean_[2] == pytest.approx(models[1].mean_[2])
    for name in ("transform", "score_samples"):
        found, expected = (getattr(model, name)(later) for model in models)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    found, expected = (model._fitted.model.imputer for model in models)
    torch.testing.assert_close(found.loadings, expected.loadings)
    torch.testing.assert_close(found.noise, expected.noise)


def test_a_column_of_a_table_that_begins_has_weights():
    first, later = (pd.DataFrame(rows, columns=list("abcd")) for rows in batches_without_values("gaussian"))
    weights = np.resize([1, 2, 5], len(later))
    parameters = {"likelihood": "auto"} | SLOW_STEPS
    found, expected = (VAEGenerator(2, **parameters).partial_fit(first) for _ in range(2))
    found.partial_fit(later, sample_weight=weights)
    expected.partial_fit(later.loc[np.repeat(np.arange(len(later)), weights)])
    np.testing.assert_allclose(found.score_samples(later), expected.score_samples(later), rtol=1e-6)


def test_a_file_lacks_a_column_that_was_constant(tmp_path, monkeypatch):
    from skae.data import rows

    first, later = batches("gaussian", 0)
    first[:, 2], later[:, 2] = 5.0, np.nan
    model = AutoencoderTransformer(2, random_state=0).partial_fit(first)
    monkeypatch.setattr(rows, "STREAMED_FROM", 2**7)
    np.save(tmp_path / "X.npy", later)
    model.partial_fit(np.load(tmp_path / "X.npy", mmap_mode="r"))
    assert model.mean_[2] == 5
    assert (model.inverse_transform(np.zeros((1, 2)))[:, 2] == 5).all()


@pytest.mark.parametrize(
    "model",
    [AutoencoderTransformer(2, loss=dict.fromkeys("abcd", "squared_error")), VAEGenerator(2, likelihood="auto")],
)
def test_a_column_of_a_table_begins_with_its_batch_and_its_constant(model):
    first, later = (pd.DataFrame(rows, columns=list("abcd")) for rows in batches_without_values("gaussian"))
    first["c"] = 1000.0
    model = clone(model).set_params(**SLOW_STEPS).partial_fit(first).partial_fit(later)
    assert model.mean_[2] == pytest.approx(0, abs=1e-6)  # of the encoded batch and constant
