"""Weights of samples: a weight of 2 is a sample twice, and a weight of 0 is none."""

import pickle
from itertools import product

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator, reconstruction_error, reconstruction_scorer

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
X, y = load_iris(return_X_y=True)
WEIGHTS = np.random.RandomState(0).randint(0, 4, len(X))


def counts():
    return np.round(np.exp(np.random.RandomState(0).normal(size=(150, 5)) + 1))


def frame():
    words = pd.Series(np.array(["low", "mid", "high"])[y]).where(X[:, 0] < 6, "rare")
    return pd.DataFrame({"length": X[:, 0], "n": counts()[:, 0].astype(int), "word": words, "flag": X[:, 1] > 3})


TABLES = {
    "few columns": X,
    "more columns than samples": np.random.RandomState(0).normal(size=(12, 30)),
    "a constant column": np.column_stack([X, np.full(len(X), 3.0)]),
    "float32": load_wine().data.astype(np.float32),
}
MODELS = {
    "autoencoder": AutoencoderTransformer(),
    "ordered autoencoder": AutoencoderTransformer(3, ordered=True),
    "huber": AutoencoderTransformer(loss="huber"),
    "vae": VAEGenerator(),
    "vae from pca": VAEGenerator(start="pca"),
    "ordered vae": VAEGenerator(3, ordered=True),
    "auto": VAEGenerator(likelihood="auto"),
}


def repeated(table, weights):
    """Each sample as often as its weight says, in another order."""
    index = np.repeat(np.arange(len(weights)), weights)[::-1]
    return table.iloc[index].reset_index(drop=True) if hasattr(table, "iloc") else table[index]


def both(model, table, weights, *labels):
    """A fit with weights, and one to repeated samples, without training."""
    model = clone(model).set_params(max_iter=0, random_state=0)
    other = clone(model).fit(repeated(table, weights), *(repeated(of, weights) for of in labels))
    return model.fit(table, *labels, sample_weight=weights), other


def assert_same(model, other, table, rtol=1e-7):
    for method in ("transform", "score_samples"):
        found, expected = getattr(model, method)(table), getattr(other, method)(table)
        np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max(), err_msg=method)


@pytest.mark.parametrize(
    ("name", "table"),
    [*((name, "few columns") for name in MODELS), *product(("autoencoder", "vae"), list(TABLES)[1:])],
)
def test_a_weight_of_2_is_a_sample_twice_and_0_is_none(name, table):
    samples = TABLES[table]
    weights = WEIGHTS[: len(samples)] if len(samples) <= 150 else np.resize(WEIGHTS, len(samples))
    model, other = both(MODELS[name], samples, weights)
    rtol = 1e-4 if samples.dtype == np.float32 else 1e-7
    assert_same(model, other, samples, rtol)
    np.testing.assert_allclose(
        model.score(samples, sample_weight=weights), other.score(repeated(samples, weights)), rtol=max(rtol, 1e-6)
    )


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "multinomial"])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
def test_counts_have_weights(likelihood, container):
    samples = container(counts())
    model, other = both(VAEGenerator(likelihood=likelihood), samples, WEIGHTS)
    assert_same(model, other, samples)
    np.testing.assert_array_equal(model.sample(9, random_state=0), other.sample(9, random_state=0))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_of_several_kinds_have_weights(library):
    if library == "pandas":
        model, other = both(VAEGenerator(likelihood="auto"), frame(), WEIGHTS)
        assert_same(model, other, frame())
        pd.testing.assert_frame_equal(model.sample(9, random_state=0), other.sample(9, random_state=0))
        return
    polars = pytest.importorskip("polars")
    table = polars.from_pandas(frame())
    model = VAEGenerator(likelihood="auto", max_iter=0, random_state=0).fit(table, sample_weight=WEIGHTS)
    expected, _ = both(VAEGenerator(likelihood="auto"), frame(), WEIGHTS)
    np.testing.assert_allclose(model.transform(table), expected.transform(frame()))


def test_classes_have_weights():
    model, other = both(VAEGenerator(conditional=True), X, WEIGHTS, y)
    assert_same(model, other, X)
    np.testing.assert_allclose(model.class_prior_, np.bincount(y, WEIGHTS) / WEIGHTS.sum())
    without = VAEGenerator(conditional=True, max_iter=0).fit(X, y, sample_weight=(y != 1) * 1.0)
    assert without.classes_.tolist() == [0, 2]


def test_a_file_has_weights(tmp_path, monkeypatch):
    from skae.data import rows

    monkeypatch.setattr(rows, "STREAMED_FROM", 2**7)
    monkeypatch.setattr(rows, "_HELD", 2**8)
    np.save(tmp_path / "X.npy", X)
    streamed = np.load(tmp_path / "X.npy", mmap_mode="r")
    monkeypatch.setattr(rows, "_HELD_DENSE", 2**12)
    model, other = both(AutoencoderTransformer(), streamed, WEIGHTS)
    assert np.corrcoef(model.transform(X)[:, 0], other.transform(X)[:, 0])[0, 1] ** 2 > 0.99  # of random subsets
    np.testing.assert_allclose(model.mean_, np.average(X, axis=0, weights=WEIGHTS))
    trained = AutoencoderTransformer(max_iter=3, random_state=0).fit(streamed, sample_weight=WEIGHTS)
    in_memory = AutoencoderTransformer(max_iter=3, random_state=0).fit(X, sample_weight=WEIGHTS)
    assert trained.best_loss_ == pytest.approx(in_memory.best_loss_, rel=0.3)


def test_weights_need_not_be_whole():
    """The start is PCA of weighted moments."""
    weights = np.random.RandomState(1).uniform(0.1, 1, len(X))
    model = AutoencoderTransformer(max_iter=0).fit(X, sample_weight=weights)
    mean = np.average(X, axis=0, weights=weights)
    values, vectors = np.linalg.eigh((weights[:, None] * (X - mean)).T @ (X - mean))
    np.testing.assert_allclose(model.mean_, mean)
    np.testing.assert_allclose(np.abs(np.sum(model.components_ * vectors.T[:1:-1], axis=1)), 1)
    left = weights @ np.square((X - mean) @ vectors[:, :2]).sum(axis=1)
    assert model.score(X, sample_weight=weights) == pytest.approx(1 - left / values.sum())
    same = VAEGenerator(max_iter=0).fit(X, sample_weight=weights)
    tiny = VAEGenerator(max_iter=0).fit(X, sample_weight=1e-9 * weights)  # below 1 they do not count samples
    np.testing.assert_allclose(tiny.score_samples(X), same.score_samples(X), atol=1e-6)
    large = VAEGenerator(start="pca", max_iter=0).fit(X, sample_weight=1e9 * weights)
    assert large.noise_variance_[0] == pytest.approx(left / weights.sum() / 2, rel=2e-3)  # no memory of 10^11 samples


def test_equal_weights_are_none():
    model = VAEGenerator(max_iter=2, random_state=0)
    found = clone(model).fit(X, sample_weight=np.ones(len(X))).transform(X)
    np.testing.assert_array_equal(found, clone(model).fit(X).transform(X))
    model = AutoencoderTransformer(max_iter=3, random_state=0)
    half = clone(model).fit(X, sample_weight=np.full(len(X), 0.5)).transform(X)
    np.testing.assert_allclose(half, clone(model).fit(X).transform(X), atol=1e-3)


def test_training_minimises_the_weighted_loss():
    """In one batch without noise and validation set, training with weights is that with repeated samples."""
    one_batch = {"batch_size": 10**6, "early_stopping": False, "learning_rate_init": 0.01, "max_iter": 30}
    # At PCA gradients of the encoder are zero but for rounding, which Adam scales up to whole steps.
    model = AutoencoderTransformer(hidden_layer_sizes=(8,), start="random", random_state=0, **one_batch)
    weighted = clone(model).fit(X, sample_weight=WEIGHTS)
    other = clone(model).fit(repeated(X, WEIGHTS))
    assert weighted.best_loss_ == pytest.approx(other.best_loss_, rel=1e-5)
    assert weighted.best_loss_ < 0.95 * weighted.loss_curve_[0]
    np.testing.assert_allclose(weighted.transform(X), other.transform(X), atol=1e-5)


@pytest.mark.parametrize("name", ["autoencoder", "ordered autoencoder", "vae"])
def test_samples_of_large_weight_are_fitted_better(name):
    model = clone(MODELS[name]).set_params(max_iter=4, random_state=0)
    errors = []
    for weights in (np.where(y == 0, 20, 1), np.where(y == 0, 1, 20)):
        score = clone(model).fit(X, sample_weight=weights).score_samples
        errors.append(score(X[y == 0]).mean() - score(X[y != 0]).mean())
    assert errors[0] > errors[1]


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_all_options_train_with_weights(sparsity):
    incomplete = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
    model = AutoencoderTransformer(
        "auto" if not sparsity else 2, sparsity=sparsity, noise=sparsity, max_iter=5, random_state=0
    ).fit(incomplete, sample_weight=WEIGHTS)
    assert np.isfinite(model.transform(incomplete)).all()
    assert model.best_loss_ <= model.linear_loss_
    vae = VAEGenerator("auto", prior="mixture", max_iter=3, random_state=0).fit(incomplete, sample_weight=WEIGHTS)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(vae)).transform(X), vae.transform(X))


@pytest.mark.parametrize("model", [AutoencoderTransformer(random_state=0), VAEGenerator(random_state=0)])
def test_batches_have_weights(model):
    weights = np.where(y == 0, 50.0, 1.0)
    for _ in range(3):
        model.partial_fit(X, sample_weight=weights)
    plain = clone(model).partial_fit(X).partial_fit(X).partial_fit(X)
    gap = model.score_samples(X) - plain.score_samples(X)
    assert gap[y == 0].mean() > gap[y != 0].mean()
    assert np.abs(model.mean_ - X[y == 0].mean(axis=0)).max() < 0.2


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAEGenerator])
def test_wrong_weights_are_refused(cls):
    model = cls(max_iter=0)
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(X, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        model.fit(X, sample_weight=np.where(y == 0, -1, 1))
    with pytest.raises(ValueError, match="positive for 1 samples, but at least 2"):
        model.fit(X, sample_weight=np.eye(len(X))[0])
    with pytest.raises(ValueError, match="more than the 2 samples"):
        cls(3).fit(X, sample_weight=np.eye(len(X))[:2].sum(axis=0))
    assert not hasattr(model, "n_features_in_")


def test_samples_of_weight_0_may_be_outside_of_the_domain():
    samples, weights = counts(), np.ones(150)
    samples[0], weights[0] = -1, 0
    VAEGenerator(likelihood="poisson", max_iter=0).fit(samples, sample_weight=weights)
    only = np.full((150, 5), np.nan)
    only[:, :4] = samples[:, :4]
    only[0, 4] = 1
    assert AutoencoderTransformer(max_iter=0).fit(only, sample_weight=weights).mean_[4] == 0  # no value is left


def test_errors_have_weights():
    pca = PCA(2).fit(X)
    incomplete = X.copy()
    incomplete[0, 0] = np.nan
    expected = reconstruction_error(pca, repeated(X, WEIGHTS))
    assert reconstruction_error(pca, X, sample_weight=WEIGHTS) == pytest.approx(expected)
    assert reconstruction_scorer(pca, X, sample_weight=WEIGHTS) == pytest.approx(-expected)
    model = AutoencoderTransformer(max_iter=0).fit(incomplete)
    expected = reconstruction_error(model, repeated(incomplete, WEIGHTS + 1))
    assert reconstruction_error(model, incomplete, sample_weight=WEIGHTS + 1) == pytest.approx(expected)


def test_a_checkpoint_is_of_its_weights(tmp_path):
    model = AutoencoderTransformer(max_iter=1, random_state=0, checkpoint=tmp_path)
    model.fit(X, sample_weight=WEIGHTS)
    model.fit(X, sample_weight=WEIGHTS)
    with pytest.raises(ValueError, match="sample_weight="):
        model.fit(X)


def test_weights_are_routed():
    pipe = make_pipeline(StandardScaler(), AutoencoderTransformer(max_iter=0))
    pipe.fit(X, autoencodertransformer__sample_weight=WEIGHTS)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        model = AutoencoderTransformer(max_iter=0)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipe = make_pipeline(scaler, model).fit(X, sample_weight=WEIGHTS + 1)
        search = GridSearchCV(model, {"n_components": [1, 2]}, cv=3).fit(X, sample_weight=WEIGHTS + 1)
    expected = np.average(X, axis=0, weights=WEIGHTS + 1)
    np.testing.assert_allclose(pipe[0].mean_, expected)
    assert np.abs(pipe[1].mean_).max() < 1e-9
    np.testing.assert_allclose(search.best_estimator_.mean_, expected)


@pytest.mark.parametrize("unit", [1e-300, 1e-20, 1e40, 1e308])
@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAEGenerator])
def test_the_unit_of_weights_is_their_own_affair(cls, unit):
    model = cls(max_iter=1, random_state=0).fit(X, sample_weight=np.full(len(X), unit))
    assert model.score(X, sample_weight=np.full(len(X), unit)) == pytest.approx(model.score(X))
    expected = cls(max_iter=1, random_state=0).fit(X).transform(X)
    np.testing.assert_allclose(model.transform(X), expected, atol=0.02 * np.abs(expected).max())


def test_ranges_and_categories_are_those_of_samples_of_any_weight():
    table = frame()
    table.loc[149, ["length", "word", "flag"]] = [40.0, "only here", True]
    model = VAEGenerator(likelihood="auto", max_iter=0)
    model.fit(table, sample_weight=np.where(np.arange(150) == 149, 0.01, 1))
    assert np.isfinite(model.score_samples(table)).all()
    assert model.inverse_transform(100 * model.transform(table)).length.max() == 40


def test_a_loss_with_missing_values_is_a_weighted_mean():
    incomplete = np.where((y[:, None] == 0) & (np.random.RandomState(0).uniform(size=X.shape) < 0.6), np.nan, X)
    weights = np.where(y == 0, 20.0, 1.0)
    model = AutoencoderTransformer(max_iter=0, early_stopping=False, random_state=0).fit(
        incomplete, sample_weight=weights
    )
    errors = np.square(model.inverse_transform(model.transform(incomplete)) - incomplete)
    expected = np.nansum(weights[:, None] * errors) / (weights[:, None] * ~np.isnan(errors)).sum()
    assert model.linear_loss_ == pytest.approx(expected, rel=1e-3)


def test_weights_of_0_and_1_are_a_subset():
    weights = (np.arange(len(X)) % 3 > 0) * 1.0
    model = AutoencoderTransformer(max_iter=2, random_state=0)
    found = clone(model).fit(X, sample_weight=weights).transform(X)
    np.testing.assert_array_equal(found, clone(model).fit(X[weights > 0]).transform(X))


EXTREMES = [(1e-12, 1e12), (1e-300, 1e300), (5e-324, 1.7e308), (1, 1e15), (1e-30, 1), (1e-8, 1)]
CLASSES = [AutoencoderTransformer, VAEGenerator]


def extremes():
    """All weights with all numbers of samples; both estimators, which share what weighs samples, take turns."""
    for (i, (low, high)), (j, n_large), (k, cls) in product(*map(enumerate, (EXTREMES, (3, 75, 147), CLASSES))):
        yield pytest.param(cls, n_large, low, high, marks=pytest.mark.slow if (i + j + k) % 2 else ())


@pytest.mark.parametrize(("cls", "n_large", "low", "high"), list(extremes()))
def test_samples_of_negligible_weight_are_left_out(cls, n_large, low, high):
    kept = np.random.RandomState(0).permutation(len(X)) < n_large
    weights = np.where(kept, high, low)
    model = cls(1, max_iter=2, random_state=0)
    found = clone(model).fit(X, sample_weight=weights)
    expected = clone(model).fit(X[kept], sample_weight=weights[kept])
    np.testing.assert_array_equal(found.transform(X), expected.transform(X))
    assert np.isfinite([*found.loss_curve_, *found.validation_loss_curve_, found.best_loss_, found.linear_loss_]).all()
    assert np.isfinite(found.score(X, sample_weight=weights))
    for epochs in range(2):
        model.partial_fit(X if epochs else X[kept], sample_weight=weights if epochs else weights[kept])
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAEGenerator])
def test_a_single_sample_of_large_weight_is_not_enough(cls):
    weights = np.ones(len(X))
    weights[0] = 1e12
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=r"positive for 1 samples.*below 1e-06 of the mean weight"):
            getattr(cls(1), method)(X, sample_weight=weights)
    with pytest.raises(ValueError, match="n_samples=1 training samples"):
        LatentSizeCV(cls(max_iter=0), (2,), cv=3).fit(X, sample_weight=weights[::-1])


def test_small_weights_of_many_samples_count():
    """Weights may balance classes of any size: each is compared with the mean weight, not with the largest."""
    weights = np.append(np.full(149, 1e-9), 1e-4)
    model = AutoencoderTransformer(max_iter=0).fit(X, sample_weight=weights)
    np.testing.assert_allclose(model.mean_, np.average(X, axis=0, weights=weights))
    scores = model.score_samples(X)
    assert model.score(X, sample_weight=np.append(np.full(149, 1e-12), 1)) != 0
    assert np.isfinite(scores).all()


ABSENT = (y != 2) * 1.0  # class 2 has no weight
WORDS = np.array(["b", "a", None], dtype=object)[y]


@pytest.mark.parametrize("labels", [y, y.tolist(), np.where(y == 2, np.nan, y), WORDS])
def test_a_class_of_weight_0_is_no_class(labels):
    known = np.asarray(labels)[y != 2]
    model = VAEGenerator(conditional=True, max_iter=0, random_state=0)
    expected = clone(model).fit(X[y != 2], known)
    found = clone(model).fit(X, labels, sample_weight=ABSENT)
    assert found.classes_.tolist() == expected.classes_.tolist()
    assert found.score(X, labels, sample_weight=ABSENT) == pytest.approx(expected.score(X[y != 2], known))
    found.partial_fit(X, labels, sample_weight=ABSENT)
    first = model.partial_fit(X, labels, classes=known[[0, -1]], sample_weight=ABSENT)
    assert first.classes_.tolist() == found.classes_.tolist() == expected.classes_.tolist()
    with pytest.raises(ValueError, match="not a class of the training samples"):
        found.score(X, labels)
    assert found.score(X[:9], known[0], sample_weight=ABSENT[:9]) == pytest.approx(found.score(X[:9], known[:9]))


def test_scores_leave_out_samples_of_weight_0():
    table = frame().assign(word=np.array(["low", "mid", "new"])[y])
    rows = np.where((y == 2)[:, None], -1.0, np.round(X))
    for model, samples in (
        (VAEGenerator(likelihood="auto", max_iter=0), table),
        (AutoencoderTransformer(loss="auto", max_iter=0), table),
        (VAEGenerator(likelihood="poisson", max_iter=0), rows),
        (AutoencoderTransformer(loss="poisson", max_iter=0), rows),
    ):
        model.fit(samples[y != 2])
        assert model.score(samples, sample_weight=ABSENT) == pytest.approx(model.score(samples[y != 2]))
    found = reconstruction_error(model, sparse.coo_array(rows), sample_weight=ABSENT)
    assert found == pytest.approx(reconstruction_error(model, rows[y != 2]))
    assert reconstruction_scorer(model, rows, sample_weight=ABSENT) == pytest.approx(-found)


def test_a_search_leaves_out_samples_of_weight_0():
    estimator = VAEGenerator(conditional=True, max_iter=0)
    found = LatentSizeCV(estimator, (1, 2), cv=3).fit(X, y, sample_weight=ABSENT)
    expected = LatentSizeCV(estimator, (1, 2), cv=3).fit(X[y != 2], y[y != 2])
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    assert found.classes_.tolist() == [0, 1]
    outside = np.where((y == 2)[:, None], -1.0, np.round(X))
    search = LatentSizeCV(AutoencoderTransformer(loss="poisson", max_iter=0), (1, 2), cv=KFold(3, shuffle=True))
    assert search.fit(outside, sample_weight=ABSENT).best_score_ < 0
