"""Samples that classifiers resample, so that they are closer to real ones."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_array
from scipy.stats import kstest
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import check_random_state

import skae
from skae import AutoencoderTransformer, ResampledGenerator, VAEGenerator

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
X, y = load_iris(return_X_y=True)
N = 2000


class Uniform(BaseEstimator):
    """Generator of uniform numbers in (0, 1), whatever the training samples are."""

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]
        return self

    def sample(self, n_samples=1, random_state=None):
        return check_random_state(random_state).uniform(size=(n_samples, self.n_features_in_))


def triangular(seed, n=N):
    """Samples whose first column has the density 2x on (0, 1), and whose second one is uniform."""
    uniform = np.random.RandomState(seed).uniform(size=(n, 2))
    return np.column_stack([np.sqrt(uniform[:, 0]), uniform[:, 1]])


def distances(generator):
    """Kolmogorov-Smirnov distances of new samples from the distributions of `triangular`."""
    new = generator.sample(2 * N, random_state=10)
    return np.array([kstest(new[:, 0], np.square).statistic, kstest(new[:, 1], "uniform").statistic])


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_resampled_samples_have_the_distribution_of_the_training_samples(n_rounds):
    model = ResampledGenerator(Uniform(), n_rounds=n_rounds, random_state=0).fit(triangular(0))
    assert distances(model.estimator_)[0] > 0.2
    assert distances(model).max() < 0.07
    assert len(model.classifiers_) == n_rounds


def test_odds_of_the_true_densities_give_the_true_distribution():
    """The log-odds of 2x against 1 are log x + log 2, which logistic regression has in log x."""

    class Logs(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            return super().fit(np.log(X), y, sample_weight)

        def predict_proba(self, X):
            return super().predict_proba(np.log(X))

    few, many = (
        ResampledGenerator(Uniform(), Logs(), n_rounds=1, n_candidates=n, random_state=0).fit(triangular(0))
        for n in (2, 25)
    )
    np.testing.assert_allclose(many.classifiers_[0].coef_, [[1, 0]], atol=0.1)
    assert distances(many).max() < 0.04
    assert distances(many)[0] < distances(few)[0]  # one of two is too few


def test_weights_of_samples_count():
    """Uniform samples with weights 2x have the density 2x."""
    uniform = np.random.RandomState(30).uniform(size=(N, 2))

    class Weighted(Uniform):
        def fit(self, X, y=None, sample_weight=None):
            return super().fit(X)

    model = ResampledGenerator(Weighted(), n_rounds=1, random_state=0).fit(uniform, sample_weight=2 * uniform[:, 0])
    assert distances(model).max() < 0.1
    scaled = clone(model).fit(uniform, sample_weight=128 * uniform[:, 0])
    np.testing.assert_array_equal(scaled.sample(50, random_state=0), model.sample(50, random_state=0))


@pytest.mark.parametrize("weight", [0, 1e-12])
def test_samples_without_weight_are_left_out(weight):
    """A class or a category that only they have is none."""
    table, labels = frame("pandas"), np.array(list("abc"))[y]
    weights = np.where(y == 2, weight, 1.0)
    vae = VAEGenerator(2, likelihood="auto", conditional=True, max_iter=0, random_state=0)
    model = ResampledGenerator(vae, n_rounds=1, random_state=0)
    new = clone(model).fit(table, pd.Series(labels, table.index), sample_weight=weights).sample(20, random_state=0)
    without = clone(model).fit(table[y < 2], labels[y < 2]).sample(20, random_state=0)
    pd.testing.assert_frame_equal(new.astype({"kind": str}), without.astype({"kind": str}))


def test_classes_and_weights_are_of_the_same_number_of_samples():
    vae = VAEGenerator(2, conditional=True, max_iter=0, random_state=0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ResampledGenerator(vae, n_rounds=1).fit(X, np.append(y, 0), sample_weight=np.arange(150.0))


@pytest.mark.parametrize("weights", [None, np.ones(150)])
def test_classifiers_need_no_weights_where_all_are_equal(weights):
    classifier = make_pipeline(StandardScaler(), KNeighborsClassifier())
    model = ResampledGenerator(AutoencoderTransformer(2, max_iter=0), classifier, n_rounds=2, random_state=0)
    assert model.fit(X, sample_weight=weights).sample(3, random_state=0).shape == (3, 4)


class Complete(Uniform):
    """`Uniform` that takes missing values and weights."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def test_missing_values_are_no_sign_of_real_samples():
    """A round learns only from what is observed, so that what is missing takes several."""
    real = triangular(0)
    real[np.random.RandomState(20).uniform(size=real.shape) < 0.3] = np.nan
    model = ResampledGenerator(Complete(), random_state=0).fit(real)
    assert distances(model).max() < 0.07
    share = model.classifiers_[0].predict_proba(np.full((1, 2), np.nan))[0, 1]
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_samples_like_those_with_missing_values_are_kept(n_rounds):
    """The second value is missing where the first is above 0.8, in a third of the samples: such samples still occur."""
    real = triangular(0)
    real[real[:, 0] > 0.8, 1] = np.nan
    new = ResampledGenerator(Complete(), n_rounds=n_rounds, random_state=0).fit(real).sample(N, random_state=0)
    np.testing.assert_allclose((new[:, 0] > 0.8).mean(), 1 - 0.8**2, atol=0.05)
    assert kstest(new[:, 1], "uniform").statistic < 0.07


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_values_are_missing_as_often_and_where_they_are_in_training(n_rounds):
    """The second value is missing in 0.6 of the samples whose first value is above 1/2, and in no others."""
    train = triangular(1)
    large = train[:, 0] > 0.5
    train[large & (np.random.RandomState(0).uniform(size=N) < 0.6), 1] = np.nan
    model = ResampledGenerator(Uniform(), n_rounds=n_rounds, random_state=0).fit(train)
    assert not np.isnan(model.sample(50, random_state=0)).any()
    new = model.sample(N, missing=True, random_state=0)
    assert not np.isnan(new[:, 0]).any()
    gone, is_large = np.isnan(new[:, 1]), new[:, 0] > 0.5
    assert gone.mean() == pytest.approx(np.isnan(train).any(axis=1).mean(), abs=0.08)
    assert gone[is_large].mean() == pytest.approx(0.6, abs=0.1)
    assert gone[~is_large].mean() < 0.06  # by chance alone it would be 0.45


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_missing_values_of_tables_are_their_librarys(library):
    table = {"a": [1.5, None, 2.5, 3.5] * 20, "b": ["x", "y", None, "x"] * 20, "c": [1, 2, 3, 4] * 20}
    table["d"] = [True, False, None, None] * 20
    vae = VAEGenerator(1, likelihood="auto", max_iter=1, random_state=0)
    model = ResampledGenerator(vae, n_rounds=1, n_candidates=3, random_state=0).fit(library(table))
    new = model.sample(200, missing=True, random_state=0)
    assert isinstance(new, library)
    assert list(new.columns) == list(table)
    shares = {name: pd.isna(np.asarray(new[name], dtype=object)).mean() for name in table}
    assert shares["c"] == 0
    assert min(shares["a"], shares["b"]) > 0.1
    assert shares["d"] > 0.3
    assert {value for value in new["b"] if isinstance(value, str)} <= {"x", "y"}
    whole = ResampledGenerator(clone(vae), n_rounds=1, n_candidates=3, random_state=0)
    complete = whole.fit(library({"c": table["c"], "e": table["c"]})).sample(5, missing=True, random_state=0)
    assert complete.shape == (5, 2)
    assert not pd.isna(np.asarray(complete)).any()


def test_a_column_without_values_is_no_sign_of_real_samples():
    incomplete = X.copy()
    incomplete[:, 1] = np.nan
    incomplete[::3, 2] = np.nan
    vae = VAEGenerator(1, max_iter=0, random_state=0)
    model = ResampledGenerator(vae, n_rounds=1, n_candidates=3, random_state=0).fit(incomplete)
    assert model.sample(20, random_state=0).shape == (20, 4)
    gone = np.isnan(model.sample(60, missing=True, random_state=0))
    assert gone[:, 1].all()
    assert 0.1 < gone[:, 2].mean() < 0.6
    assert not gone[:, [0, 3]].any()


def test_patterns_of_missing_values_count_by_weights():
    real, is_missing = triangular(0), np.arange(N) % 2 == 0
    real[is_missing, 1] = np.nan
    model = ResampledGenerator(Complete(), n_rounds=1, random_state=0)
    model.fit(real, sample_weight=np.where(is_missing, 0.05, 1.0))
    shares = model.classifiers_[0].predict_proba(np.column_stack([np.linspace(0, 1, 50), np.full(50, np.nan)]))[:, 1]
    assert 0.3 < shares.mean() < 0.7


def frame(library):
    columns = {f"c{j}": X[:, j] for j in range(4)} | {"kind": [f"k{label}" for label in y]}
    if library == "pandas":
        return pd.DataFrame(columns).astype({"kind": "category"}).rename_axis(index="plant")
    polars = pytest.importorskip("polars")
    return polars.DataFrame(columns).cast({"kind": polars.Categorical})


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_stay_tables(library, monkeypatch):
    monkeypatch.setattr(skae._resampled, "_AT_ONCE", 60)  # several blocks
    table = frame(library)
    vae = VAEGenerator(2, likelihood="auto", max_iter=2, random_state=0)
    model = ResampledGenerator(vae, n_rounds=1, n_candidates=3, random_state=0).fit(table)
    new = model.sample(50, random_state=0)
    assert type(new) is type(table)
    assert new.shape == (50, 5)
    assert list(new.dtypes) == list(table.dtypes)
    assert list(new.columns) == list(model.feature_names_in_)
    if library == "pandas":
        assert new.index.equals(pd.RangeIndex(50))
        assert new.index.name == "plant"


def test_classes_are_those_asked_for_and_classifiers_see_them():
    vae = VAEGenerator(2, conditional=True, max_iter=0, random_state=0)
    model = ResampledGenerator(vae, n_rounds=1, random_state=0).fit(X, np.array(list("abc"))[y])
    assert model.classifiers_[0].n_features_in_ == 4 + 3
    means = [model.sample(300, y=label, random_state=0).mean(axis=0) for label in "abc"]
    np.testing.assert_allclose(means, [X[y == k].mean(axis=0) for k in range(3)], atol=0.25)
    mixed = model.sample(90, y=np.repeat(list("abc"), 30), random_state=0)
    assert mixed[:30, 2].max() < mixed[30:, 2].min()
    assert model.sample(5, random_state=0).shape == (5, 4)


def test_each_class_has_its_own_distribution():
    """The density of the first column is 2x in one class, and 2 - 2x in the other."""

    class OfClasses(Uniform):
        def fit(self, X, y):
            self.classes_, self.class_count_ = np.unique(y, return_counts=True)
            return super().fit(X)

        def sample(self, n_samples=1, y=None, random_state=None):
            return super().sample(n_samples, random_state)

    real, labels = triangular(0), np.arange(N) % 2
    real[labels == 1, 0] = 1 - real[labels == 1, 0]
    model = ResampledGenerator(OfClasses(), random_state=0).fit(real, labels)
    rising, falling = (model.sample(N, y=label, random_state=10)[:, 0] for label in (0, 1))
    assert kstest(rising, np.square).statistic < 0.1
    assert kstest(1 - falling, np.square).statistic < 0.1


def test_given_values_are_kept():
    model = ResampledGenerator(VAEGenerator(2, max_iter=0, random_state=0), n_rounds=1, random_state=0).fit(X)
    assert (model.sample(7, given={0: 5.1}, random_state=0)[:, 0] == 5.1).all()


@pytest.mark.parametrize("kind", [np.asarray, lambda X: pd.DataFrame(X, columns=["a", "b", "c", "d"])])
def test_given_values_are_never_missing(kind):
    incomplete = X.copy()
    incomplete[::2, :2] = np.nan
    vae = VAEGenerator(1, max_iter=0, random_state=0)
    model = ResampledGenerator(vae, n_rounds=1, n_candidates=3, random_state=0).fit(kind(incomplete))
    given = {getattr(kind(incomplete), "columns", range(4))[1]: 3.0}
    new = np.asarray(model.sample(100, missing=True, given=given, random_state=0))
    assert (new[:, 1] == 3).all()
    assert 0.2 < np.isnan(new[:, 0]).mean() < 0.8
    assert not np.isnan(new[:, 2:]).any()


def test_given_values_need_an_unconditional_estimator():
    vae = VAEGenerator(2, conditional=True, max_iter=0, random_state=0)
    model = ResampledGenerator(vae, n_rounds=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="given does not work with a conditional estimator"):
        model.sample(7, given={0: 5.1})


def test_a_seed_gives_the_same_samples_and_pickles_keep_them():
    model = ResampledGenerator(AutoencoderTransformer(2, max_iter=0, random_state=0), random_state=0).fit(X)
    new = model.sample(10, random_state=3)
    np.testing.assert_array_equal(model.sample(10, random_state=3), new)
    np.testing.assert_array_equal(clone(model).fit(X).sample(10, random_state=3), new)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).sample(10, random_state=3), new)
    assert not np.allclose(model.sample(10), model.sample(10))
    assert not hasattr(model.estimator, "n_features_in_")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("estimator_", PCA(2)),
        ("_table", None),
        ("classifiers_", None),
        ("classifiers_", [PCA(2)]),
        ("_missing", None),
        ("_missing", {"patterns": np.zeros((2, 3), bool), "ends": np.array([0.5])}),
        ("_missing", {"patterns": np.zeros((2, 4), bool), "ends": np.array([0.5, 0.6])}),
    ],
)
def test_altered_files_are_refused(name, value):
    model = ResampledGenerator(AutoencoderTransformer(2, max_iter=0), n_rounds=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="The saved estimator is damaged or was changed"):
        clone(model).__setstate__(model.__getstate__() | {name: value})


@pytest.mark.parametrize(
    ("model", "samples", "message"),
    [
        (ResampledGenerator(VAEGenerator(2), LinearSVC()), X, r"classifier=LinearSVC\(\) has no method predict_proba"),
        (ResampledGenerator(PCA(2)), X, r"estimator=PCA\(.*\) has no method sample. Use a VAEGenerator"),
        (ResampledGenerator(AutoencoderTransformer(2)), csr_array(X), "X is sparse, but classifiers"),
    ],
)
def test_what_cannot_be_resampled_is_refused(model, samples, message):
    with pytest.raises(TypeError, match=message):
        model.fit(samples)


@pytest.mark.parametrize("name", ["n_rounds", "n_candidates"])
def test_numbers_of_rounds_and_candidates_are_positive(name):
    model = ResampledGenerator(AutoencoderTransformer(2, max_iter=0), n_rounds=1).set_params(**{name: 0})
    with pytest.raises(ValueError, match=f"{name}=0 must be an integer of at least 1"):
        model.fit(X)


def test_classes_need_a_conditional_estimator():
    model = ResampledGenerator(AutoencoderTransformer(2, max_iter=0), n_rounds=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="needs a model of each class"):
        model.sample(3, y=1)
