"""Models that are conditional on classes."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import LogisticRegression
from torch.distributions import MultivariateNormal

from skae import VAEGenerator
from skae.data import rows as data_rows

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True)


@pytest.fixture(scope="module")
def named(wine):
    """Fitted to classes with names."""
    X, y = wine
    vae = VAEGenerator(2, conditional=True, early_stopping=False, max_iter=5, random_state=0)
    return vae.fit(X, np.array(["a", "b", "c"])[y])


def less_class_means(X, y):
    return X - np.array([X[y == label].mean(axis=0) for label in np.unique(y)])[y]


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.parametrize(
    ("start", "reference"), [("pca", PCA(2)), ("factor_analysis", FactorAnalysis(2, tol=1e-6, max_iter=10_000))]
)
def test_the_linear_start_is_that_of_rows_less_the_mean_of_their_class(start, reference):
    X, y = load_wine(return_X_y=True)
    X = X / X.std(axis=0)
    within = less_class_means(X, y)
    linear = VAEGenerator(2, conditional=True, start=start, max_iter=0).fit(X, y)
    assert linear.score(X, y) == pytest.approx(reference.fit(within).score(within), abs=2e-3)


def test_the_density_of_a_row_is_its_mean_over_classes(wine, named):
    X, y = wine
    joint = [np.log(np.mean(y == label)) + named.score_samples(X, [name] * len(X)) for label, name in enumerate("abc")]
    np.testing.assert_allclose(named.score_samples(X), np.logaddexp.reduce(joint), rtol=1e-10)
    assert named.score(X, named.classes_[y]) == pytest.approx(named.score_samples(X, named.classes_[y]).mean())
    some = X[::3]
    assert (named.log_likelihood(some, 500) >= named.score_samples(some) - 0.2).all()


def test_a_code_is_the_posterior_mean_over_classes():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=400)
    X = rng.normal(size=(400, 1)) @ [[1.0, 2.0, -1.0, 0.5]] + rng.normal(size=(400, 4)) + y[:, None] * [0.5, -1, 0, 0]
    linear = VAEGenerator(1, conditional=True, start="pca", max_iter=0).fit(X, y)
    loadings = linear.components_
    noise = np.diag(linear.noise_variance_)
    covariance = loadings.T @ loadings + noise
    expected, total = 0, 0
    for label, share in enumerate(linear.class_prior_):
        centred = X - X[y == label].mean(axis=0)
        density = share * np.exp(MultivariateNormal(torch.zeros(4).double(), torch.tensor(covariance)).log_prob(
            torch.tensor(centred)
        ).numpy())  # fmt: skip
        expected = expected + density[:, None] * (centred @ np.linalg.solve(covariance, loadings.T))
        total = total + density[:, None]
    np.testing.assert_allclose(linear.transform(X), expected / total, atol=1e-6)


def test_rows_are_sampled_by_class():
    X, y = load_digits(return_X_y=True)
    classifier = LogisticRegression(max_iter=5000).fit(X / 16, y)
    vae = VAEGenerator(4, conditional=True, max_iter=10, random_state=0).fit(X, y)
    labels = np.repeat(np.arange(10), 50)
    assert classifier.score(vae.sample(500, y=labels, random_state=0) / 16, labels) > 0.9
    threes = vae.sample(100, y=3, noise=False, random_state=0)
    assert classifier.score(threes / 16, np.full(100, 3)) > 0.9
    np.testing.assert_array_equal(threes, vae.sample(100, y=[3] * 100, noise=False, random_state=0))
    # Without one, as often as in training: with these codes a third of the rows would be of each of three classes.
    drawn = classifier.predict(vae.sample(1000, random_state=0) / 16)
    assert (np.bincount(drawn, minlength=10) > 50).all()


@pytest.mark.usefixtures("exact_estimates")
def test_a_class_tells_the_net_more_than_its_mean():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=700)
    t = rng.normal(size=700)
    X = np.c_[t, np.where(y == 1, t, -t)] + 0.1 * rng.normal(size=(700, 2))  # lines that cross
    fitted = VAEGenerator(1, conditional=True, max_iter=40, learning_rate_init=1e-2, random_state=0).fit(X, y)
    linear = VAEGenerator(1, conditional=True, max_iter=0).fit(X, y)
    assert fitted.score(X, y) > linear.score(X, y) + 1
    falling, rising = (fitted.sample(500, y=label, random_state=0) for label in (0, 1))
    assert np.corrcoef(falling.T)[0, 1] < -0.9
    assert np.corrcoef(rising.T)[0, 1] > 0.9


def test_decoded_rows_are_of_the_class_or_the_mean_over_classes(wine, named):
    codes = named.transform(wine[0][:5])
    of_classes = np.array([named.inverse_transform(codes, label) for label in "abc"])
    np.testing.assert_allclose(named.inverse_transform(codes), np.tensordot(named.class_prior_, of_classes, 1))
    mixed = named.inverse_transform(codes, list("abcab"))
    np.testing.assert_allclose(mixed, of_classes[[0, 1, 2, 0, 1], np.arange(5)])


@pytest.mark.usefixtures("exact_estimates")
def test_missing_values_are_imputed_whatever_the_class(wine):
    X, y = wine
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    linear = VAEGenerator(2, conditional=True, max_iter=0).fit(X, y)
    incomplete = X.copy()
    incomplete[::2, 0] = np.nan
    filled = linear.impute(incomplete)
    assert np.square(filled - X)[::2, 0].mean() < 0.6 * np.square(X[::2, 0]).mean()
    np.testing.assert_array_equal(filled[1::2], X[1::2])
    trained = VAEGenerator(2, conditional=True, max_iter=3, early_stopping=False, random_state=0).fit(incomplete, y)
    assert np.isfinite(trained.score_samples(incomplete)).all()
    assert len(trained.impute(incomplete, n_draws=2, random_state=0)) == 2


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "negative_binomial", "multinomial"])
def test_other_likelihoods_are_conditional_too(likelihood):
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300)
    X = rng.poisson(np.where(y == 1, 1.5, 0.2)[:, None] * np.ones(6) + 0.5 * np.arange(6) * (y == 0)[:, None])
    X = np.minimum(X, 1) if likelihood == "bernoulli" else X + (X.sum(axis=1) == 0)[:, None]
    fitted = VAEGenerator(2, likelihood=likelihood, conditional=True, max_iter=10, random_state=0).fit(X, y)
    means = [fitted.sample(2000, y=label, random_state=0).mean(axis=0) for label in (0, 1)]
    for label, mean in enumerate(means):
        np.testing.assert_allclose(mean, X[y == label].mean(axis=0), atol=0.35)
    assert fitted.score(X, y) > fitted.score(X, 1 - y)


def test_tables_of_mixed_columns_are_sampled_by_class():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(400) < 0.5, "yes", "no")
    kind = np.where(rng.random(400) < np.where(y == "yes", 0.9, 0.1), "left", "right")
    table = pd.DataFrame({"size": rng.normal(size=400) + 3 * (y == "yes"), "kind": pd.Categorical(kind)})
    fitted = VAEGenerator(1, likelihood="auto", conditional=True, max_iter=5, random_state=0).fit(table, y)
    of_yes, of_no = (fitted.sample(300, y=label, random_state=0) for label in ("yes", "no"))
    assert list(of_yes.columns) == ["size", "kind"]
    assert of_yes["size"].mean() - of_no["size"].mean() > 2
    assert (of_yes["kind"] == "left").mean() - (of_no["kind"] == "left").mean() > 0.6
    assert fitted.inverse_transform(fitted.transform(table)).shape == table.shape


def test_own_modules_get_the_class_with_the_row_and_the_code(wine):
    X, y = wine
    X = X / X.std(axis=0)  # a start at random takes rows as they are
    seen = []

    def layer(n_in, n_out):
        seen.append(n_in)
        return torch.nn.Linear(n_in, n_out)

    for start in ("pca", "random"):
        own = VAEGenerator(
            2, conditional=True, start=start, encoder=layer, decoder=layer, max_iter=1, early_stopping=False
        ).fit(X, y)
        assert seen[-2:] == [X.shape[1] + 3, 2 + 3]
        assert own.sample(4, y=[0, 1, 2, 0], random_state=0).shape == (4, X.shape[1])


def test_a_fitted_model_survives_pickling_and_keeps_its_precision(wine, named):
    X, y = wine
    labels = named.classes_[y]
    loaded = pickle.loads(pickle.dumps(named))
    np.testing.assert_array_equal(loaded.score_samples(X, labels), named.score_samples(X, labels))
    np.testing.assert_array_equal(loaded.sample(5, y="b", random_state=0), named.sample(5, y="b", random_state=0))
    single = X.astype(np.float32)
    assert named.score_samples(single).dtype == named.score_samples(single, labels).dtype == np.float32
    assert named.transform(single).dtype == named.inverse_transform(named.transform(single)).dtype == np.float32


def test_rows_beyond_all_classes_have_codes_and_no_density(wine, named):
    far = wine[0][:2] * 1e200
    assert (named.score_samples(far) < -1e10).all()
    assert np.isfinite(named.transform(far)).all()


def test_a_mixture_of_codes_serves_all_classes():
    X, y = load_iris(return_X_y=True)
    fitted = VAEGenerator(1, conditional=True, prior="mixture", max_iter=20, random_state=0).fit(X, y)
    assert np.isfinite(fitted.score(X, y))
    means = fitted.sample(900, y=np.repeat([0, 1, 2], 300), random_state=0).reshape(3, 300, 4).mean(axis=1)
    np.testing.assert_allclose(means, [X[y == label].mean(axis=0) for label in range(3)], atol=0.5)


@pytest.mark.usefixtures("exact_estimates")
def test_without_conditional_y_changes_nothing(wine):
    X, y = wine
    plain, labelled = (VAEGenerator(2, max_iter=2, random_state=0).fit(X, *args) for args in ((), (y,)))
    np.testing.assert_array_equal(plain.score_samples(X), labelled.score_samples(X, y))
    assert not hasattr(labelled, "classes_")
    with pytest.raises(ValueError, match="conditional=True"):
        plain.sample(2, y=[0, 1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ("d", "'d', which is not a class of the training samples: 'a', 'b', 'c'"),
        (["a", "d"], "'d', which is not a class"),
        (0, "0, which is not a class"),
        (["a", "b", "c"], r"shape \(3,\), but must be one class or one for each of 2 samples"),
        (float("nan"), "nan, which is not a class"),
        (["a", None], "None, which is not a class"),
        ({"a"}, "{'a'}, which is not a class"),
        ([["a", "b"]], r"shape \(1, 2\), but"),
    ],
)
def test_unknown_classes_list_the_known_ones(named, y, message):
    with pytest.raises(ValueError, match=message):
        named.sample(2, y=y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "classes",
    [
        *(np.array(names, dtype=object) for names in (["a", 1, "b"], ["a", None, "b"], [{}, {}, {}], ["b", "a", "c"])),
        *(np.array(names) for names in ([b"a", b"b", b"c"], [1j, 2j, 3j], [[0, 1, 2]])),
        ["a", "b", "c"],
    ],
    ids=str,
)
def test_classes_in_a_file_that_fit_would_not_take_are_refused(named, classes):
    state = named.__getstate__() | {"classes_": classes}
    with pytest.raises(ValueError, match="was changed: classes_ is no array of classes that fit takes, sorted"):
        VAEGenerator.__new__(VAEGenerator).__setstate__(state)


def test_of_many_classes_some_are_listed(wine):
    X, _ = wine
    model = VAEGenerator(2, conditional=True, max_iter=0).fit(X[:100], np.arange(100) % 50)
    with pytest.raises(ValueError, match=r"-1, which is not a class .* 18, 19 and 30 others\."):
        model.sample(y=-1)


def test_a_number_and_its_digits_are_two_labels(wine):
    X, y = wine
    model = VAEGenerator(2, conditional=True, max_iter=0).fit(X, np.array([2, 9, 10])[y])
    with pytest.raises(ValueError, match="'2', which is not a class of the training samples: 2, 9"):
        model.score_samples(X, np.array(["2", "9", "10"])[y])
    np.testing.assert_array_equal(model.sample(3, y=10.0, random_state=0), model.sample(3, y=10, random_state=0))


def test_labels_in_a_column_are_taken_with_a_warning(named, wine):
    X, y = wine
    labels = np.array(["a", "b", "c"])[y]
    with pytest.warns(DataConversionWarning):
        scores = named.score_samples(X, labels[:, None])
    np.testing.assert_array_equal(scores, named.score_samples(X, labels))


def test_what_a_conditional_fit_cannot_use_is_refused(wine):
    X, y = wine
    vae = VAEGenerator(2, conditional=True, max_iter=0)
    with pytest.raises(ValueError, match="target y is None"):
        vae.fit(X)
    with pytest.raises(ValueError, match=r"Unknown label type.*such as 13\.05.*KBinsDiscretizer"):
        vae.fit(X, np.where(np.arange(len(X)) == 3, 13.05, y))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        vae.fit(X, y[:-1])
    with pytest.raises(ValueError, match="NaN"):
        vae.fit(X, np.where(np.arange(len(X)) == 3, np.nan, y))
    for unordered in ([None], [pd.NA], [1]):
        labels = pd.Series(["a", "b"] + unordered + ["b"] * (len(X) - 3), dtype=object)
        with pytest.raises(ValueError, match=r"Unknown label type.*but y holds .*str"):
            vae.fit(X, labels)
    with pytest.raises(ValueError, match="Leave it out"):
        vae.fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="target y is None"):
        vae.partial_fit(X)
    batches = VAEGenerator(2, conditional=True).partial_fit(X, y)
    with pytest.raises(ValueError, match="7, which is not a class of the training samples: 0, 1, 2"):
        batches.partial_fit(X, y + 7)
    with pytest.raises(ValueError, match="2, which is not a class of the training samples: 0, 1"):
        VAEGenerator(2, conditional=True).partial_fit(X, y, classes=[1, 0])
    with pytest.raises(ValueError, match=r"conditional='yes' must be True or False"):
        VAEGenerator(conditional="yes").fit(X, y)


def test_conditional_is_true_or_false(wine):
    X, y = wine
    model = VAEGenerator(max_iter=0, conditional=True).fit(X, y).set_params(conditional=np.zeros(3))
    with pytest.raises(ValueError, match=r"conditional=array.* must be True or False"):
        model.fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("source", ["sparse", "file"])
def test_samples_of_a_class_may_be_sparse_or_in_a_file(source, wine, tmp_path, monkeypatch):
    X, y = wine
    X = np.where(X.mean(axis=0) < X, np.round(X), 0)
    np.save(tmp_path / "X.npy", X)
    rows = csr_matrix(X) if source == "sparse" else np.load(tmp_path / "X.npy", mmap_mode="r")
    monkeypatch.setattr(data_rows, "STREAMED_FROM", 2**10)
    model = VAEGenerator(2, conditional=True, max_iter=0).fit(rows, y)
    dense = VAEGenerator(2, conditional=True, max_iter=0).fit(X, y)
    for label in (y, None):
        np.testing.assert_allclose(model.score_samples(rows, label), dense.score_samples(X, label), rtol=1e-6)
    np.testing.assert_allclose(model.transform(rows), dense.transform(X), atol=1e-6)
    trained = VAEGenerator(2, conditional=True, max_iter=3, random_state=0).fit(rows, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(trained)).transform(rows), trained.transform(rows))


@pytest.mark.usefixtures("exact_estimates")
def test_components_of_a_class_may_be_in_order(wine):
    X, y = wine
    options = {"conditional": True, "start": "pca"}
    linear = VAEGenerator(3, ordered=True, max_iter=0, **options).fit(X, y)
    for size in (1, 2):
        dedicated = VAEGenerator(size, max_iter=0, **options).fit(X, y)
        np.testing.assert_allclose(linear.truncate(size).score_samples(X, y), dedicated.score_samples(X, y), rtol=1e-6)
    trained = VAEGenerator("auto", max_iter=60, conditional=True, random_state=0).fit(X / X.std(axis=0), y)
    assert trained.best_loss_ < trained.linear_loss_
    one = trained.truncate(1)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(trained)).truncate(1).kl_per_component_, one.kl_per_component_
    )
    means = one.sample(300, y=np.repeat([0, 1, 2], 100), noise=False, random_state=0).reshape(3, 100, -1).mean(axis=1)
    expected = np.stack([(X / X.std(axis=0))[y == label].mean(axis=0) for label in range(3)])
    np.testing.assert_allclose(means, expected, atol=0.5)


@pytest.mark.parametrize("incomplete", [False, True])
def test_images_may_have_classes(incomplete, monkeypatch):
    monkeypatch.setattr("skae._fitted._HIDDEN_SAMPLES", (50, 50))  # whose imputation, by 300 images each, takes seconds
    X, y = (part[:240] for part in load_digits(n_class=3, return_X_y=True))
    X = X + np.random.RandomState(0).uniform(size=X.shape)
    X = np.where(np.random.RandomState(1).uniform(size=X.shape) < 0.1 * incomplete, np.nan, X)
    options = {"conditional": True, "feature_shape": (1, 8, 8), "hidden_layer_sizes": (32,), "random_state": 0}
    linear = VAEGenerator(2, max_iter=0, **options).fit(X, y)
    flat = VAEGenerator(2, max_iter=0, conditional=True, random_state=0).fit(X, y)
    np.testing.assert_allclose(linear.score_samples(X, y), flat.score_samples(X, y), rtol=1e-3)
    model = VAEGenerator(2, max_iter=8, start="random", **options).fit(X, y)
    drawn = model.sample(150, y=np.repeat([0, 1, 2], 50), noise=False, random_state=0).reshape(3, 50, 64).mean(axis=1)
    means = np.stack([np.nanmean(X[y == label], axis=0) for label in range(3)])
    distances = np.square(drawn[:, None] - means).sum(axis=2)
    assert distances.argmin(axis=1).tolist() == [0, 1, 2]


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_batches_have_classes(wine):
    X, y = wine
    X, order = X / X.std(axis=0), np.random.RandomState(0).permutation(len(X))
    model = VAEGenerator(2, conditional=True, random_state=0)
    for _ in range(5):
        for batch in np.array_split(order, 3):
            model.partial_fit(X[batch], y[batch])
    np.testing.assert_array_equal(model.class_count_, 5 * np.bincount(y))
    assert model.score(X, y) > VAEGenerator(2, conditional=True, max_iter=0).fit(X, y).score(X, y)
    fitted = VAEGenerator(2, conditional=True, max_iter=1, random_state=0).fit(X, y)
    fitted.partial_fit(X[y == 1], y[y == 1])
    np.testing.assert_allclose(fitted.class_prior_, np.array([59, 142, 48]) / 249)


def test_a_class_may_come_later(wine):
    X, y = wine
    X = X / X.std(axis=0)
    early = y != 2
    model = VAEGenerator(2, conditional=True, random_state=0).partial_fit(X[early], y[early], classes=[0, 1, 2])
    assert model.class_prior_[2] == 0
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.impute(np.where(X > 3, np.nan, X))).all()
    model = pickle.loads(pickle.dumps(model))
    before = model.score(X[y == 2], y[y == 2])
    for _ in range(20):
        model.partial_fit(X, y)
    assert model.score(X[y == 2], y[y == 2]) > before + 5
    assert model.class_prior_[2] == pytest.approx(20 * 48 / (20 * 178 + 130))


def test_a_constant_column_of_classes_is_learned(wine):
    X, y = wine
    X = X / X.std(axis=0)
    constant = np.column_stack([X, np.zeros(len(X))])
    varying = np.column_stack([X, X[:, 0] + y])
    model = VAEGenerator(2, conditional=True, ordered=True, random_state=0).partial_fit(constant, y)
    model.partial_fit(varying, y)
    left = np.square(model.inverse_transform(model.transform(varying), y) - varying)[:, -1].mean()
    assert left < 0.7 * np.var(varying[:, -1])
