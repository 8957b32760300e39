"""Sparse samples: the same fit as of dense ones, without ever a dense matrix."""

import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import get_tags

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error
from skae.data import rows as rows_module
from skae.data.rows import SparseRows

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
COUNTS = ["poisson", "negative_binomial", "multinomial"]


@pytest.fixture(scope="module")
def words():
    """Documents of two topics, in float32."""
    rng = np.random.RandomState(0)
    topics = rng.dirichlet(np.full(30, 0.3), size=2)
    shares = rng.dirichlet([0.5, 0.5], size=200) @ topics
    return np.array([rng.multinomial(rng.randint(20, 60), share) for share in shares]).astype(np.float32)


@pytest.mark.parametrize("kind", COUNTS)
@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array])
def test_sparse_rows_are_fitted_as_dense_ones(kind, container, words):
    options = {"likelihood": kind, "max_iter": 3, "random_state": 0}
    dense = VAEGenerator(2, **options).fit(words)
    same = VAEGenerator(2, **options).fit(container(words))
    some = words[:60]
    for method in ("transform", "score_samples", "log_likelihood"):
        expected = getattr(dense, method)(some)
        np.testing.assert_allclose(getattr(same, method)(container(some)), expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(getattr(same, method)(some), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(same.best_loss_, dense.best_loss_, rtol=1e-3)


def test_validation_rows_passes_and_pickles_of_sparse_rows(words):
    rows = sparse.csr_array(words)
    model = VAEGenerator(2, likelihood="multinomial", max_iter=2, random_state=0).fit(rows[:150], X_val=rows[150:])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(rows), model.transform(rows))
    passes = VAEGenerator(2, likelihood="multinomial", random_state=0)
    for _ in range(3):
        passes.partial_fit(rows)
    assert passes.loss_curve_[-1] < passes.loss_curve_[0]


def test_stored_zeros_change_nothing(monkeypatch, words):
    """Nor in a sample of zeros alone, whose shares are equal."""
    monkeypatch.setattr(rows_module, "_HELD_DENSE", 1)
    stored = sparse.csr_matrix(words, copy=True)
    stored.data[: stored.indptr[3]] = 0
    zeros = sparse.csr_matrix(stored, copy=True)
    zeros.eliminate_zeros()
    model = VAEGenerator(2, likelihood="multinomial", max_iter=0, random_state=0)
    expected = clone(model).fit(zeros).transform(zeros)
    np.testing.assert_allclose(model.fit(stored).transform(stored), expected, atol=1e-6)
    assert stored.nnz > zeros.nnz


@pytest.fixture(scope="module")
def categories():
    """Categories of three columns, and their one-hot encoding."""
    rng = np.random.RandomState(0)
    table = np.array([rng.choice(list(letters), 150) for letters in ("abcdef", "xyz", "pqrs")]).T
    return table, OneHotEncoder().fit_transform(table)


@pytest.mark.parametrize("epochs", [0, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(),
        AutoencoderTransformer(loss="huber", noise=0.1),
        AutoencoderTransformer(loss="log_loss"),
        AutoencoderTransformer(ordered=True),
        AutoencoderTransformer(start="random"),
        VAEGenerator(),
        VAEGenerator(start="pca", prior="mixture"),
        VAEGenerator(likelihood="bernoulli", ordered=True),
    ],
    ids=repr,
)
def test_shares_are_fitted_as_dense_ones(estimator, epochs):
    shares = np.random.RandomState(0).uniform(size=(150, 12))
    rows = sparse.csr_array(np.where(shares < 0.4, shares / 0.4, 0))
    dense, same = (clone(estimator).set_params(max_iter=epochs, random_state=0) for _ in range(2))
    dense.fit(rows.toarray())
    same.fit(sparse.csc_array(rows))
    for method in ("transform", "score_samples"):
        expected = getattr(dense, method)(rows.toarray())
        np.testing.assert_allclose(getattr(same, method)(sparse.coo_array(rows)), expected, atol=1e-4)
    assert reconstruction_error(same, rows) == pytest.approx(reconstruction_error(dense, rows.toarray()), abs=1e-5)


def test_codes_at_the_start_are_those_of_pca(categories):
    rows = categories[1]
    model, pca = AutoencoderTransformer(3, max_iter=0).fit(rows), PCA(3, svd_solver="arpack").fit(rows)
    np.testing.assert_allclose(np.abs(model.transform(rows)), np.abs(pca.transform(rows)), atol=1e-6)


LARGE = [
    AutoencoderTransformer(3),
    AutoencoderTransformer(3, loss="poisson"),
    AutoencoderTransformer(4, ordered=True),
    AutoencoderTransformer("auto"),
    VAEGenerator(3),
    VAEGenerator(3, start="pca"),
    VAEGenerator(3, likelihood="multinomial"),
    VAEGenerator(3, conditional=True),
    VAEGenerator("auto", ordered=True),
]


@pytest.mark.parametrize(("most", "weighted"), [(2000, False), (5, True)], ids=["covariance", "Lanczos, weights"])
@pytest.mark.parametrize("estimator", LARGE, ids=repr)
def test_the_start_of_a_large_matrix_is_that_of_all_samples(estimator, most, weighted, words, monkeypatch):
    X = words[:80, :10].astype(float)
    y, weights = X[:, 0] > 2, np.arange(80) % 3 + 1 if weighted else None
    model = clone(estimator).set_params(max_iter=0, early_stopping=False, random_state=0)
    dense = clone(model).fit(X, y, sample_weight=weights)
    monkeypatch.setattr("skae.data.rows._HELD_DENSE", 100)
    monkeypatch.setattr("skae.data.sparse._SMALL", most)
    same = clone(model).fit(sparse.csr_matrix(X), y, sample_weight=weights)
    expected = np.abs(dense.transform(X))
    np.testing.assert_allclose(np.abs(same.transform(X)), expected, rtol=0, atol=1e-8 * np.ptp(expected))
    assert same.score(X) == pytest.approx(dense.score(X), rel=1e-8)


@pytest.mark.parametrize("model_class", [AutoencoderTransformer, VAEGenerator])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_batches_of_sparse_rows(model_class, index, categories):
    rows = sparse.csr_array(categories[1])
    rows.indices, rows.indptr = rows.indices.astype(index), rows.indptr.astype(index)
    passes = model_class(2, random_state=0)
    dense = model_class(2, random_state=0)
    for _ in range(2):
        passes.partial_fit(rows)
        dense.partial_fit(rows.toarray())
    np.testing.assert_allclose(passes.transform(rows), dense.transform(rows.toarray()), atol=1e-3)


def test_all_but_mixed_tables_take_sparse_rows(words):
    for model in (AutoencoderTransformer(), VAEGenerator(), VAEGenerator(likelihood="multinomial", conditional=True)):
        assert get_tags(model).input_tags.sparse
    ways_out = {
        VAEGenerator(likelihood="auto"): "likelihood='auto' .* set likelihood='gaussian'",
        VAEGenerator(likelihood="categorical"): "likelihood='categorical' .* set likelihood='gaussian'",
        AutoencoderTransformer(loss="cross_entropy"): "loss='cross_entropy' .* set loss='squared_error'",
    }
    for by_column, way_out in ways_out.items():
        assert not get_tags(by_column).input_tags.sparse
        rows = sparse.csr_matrix(np.minimum(words[:, :4], 2))
        with pytest.raises(TypeError, match=rf"^X is sparse, but with {way_out}"):
            by_column.fit(rows)
        table = pd.DataFrame.sparse.from_spmatrix(rows)
        by_column.set_params(max_iter=0).fit(table).transform(table)
        with pytest.raises(TypeError, match=r"pass pandas.DataFrame.sparse.from_spmatrix\(X\)\.$"):
            by_column.transform(rows)


def test_bad_sparse_rows_are_named(words):
    model = VAEGenerator(2, likelihood="multinomial", max_iter=0)
    for value, message in ((-1, "counts"), (0.5, "counts"), (np.nan, "need a dense array"), (np.inf, "infinity")):
        rows = words.copy()
        rows[3, 4] = value
        with pytest.raises(ValueError, match=message):
            model.fit(sparse.csr_array(rows))
    for other in (model, AutoencoderTransformer(2, max_iter=0)):
        with pytest.raises(TypeError, match="no missing values to impute"):
            other.fit(words).impute(sparse.csr_array(words))


def test_a_matrix_is_never_made_dense():
    rows = sparse.csr_matrix(sparse.random(400, 2000, 0.004, random_state=0))
    rows.data = np.ceil(3 * rows.data)
    model = VAEGenerator(2, likelihood="multinomial", hidden_layer_sizes=(4,), max_iter=1, random_state=0)
    sizes = []
    original = SparseRows.__getitem__

    def listening(self, asked):
        found = original(self, asked)
        sizes.append(found.size)
        return found

    most = 2**18
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SparseRows, "__getitem__", listening)
        patch.setattr("skae.data.rows._HELD_DENSE", most)
        patch.setattr("skae.data.sparse._SMALL", 100)
        tracemalloc.start()
        model.fit(rows).score(rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert max(sizes) <= most
    assert peak < 400 * 2000 * 8


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", [AutoencoderTransformer(), VAEGenerator(likelihood="poisson")])
def test_no_method_makes_a_dense_array_of_all_samples(model, weighted):
    n_samples, n_features = 1500, 1000
    rows = sparse.csr_array(sparse.random(n_samples, n_features, 0.008, random_state=0))
    most, weights = 2**18, np.arange(n_samples) % 3 if weighted else None
    rows.data = np.ceil(3 * rows.data)
    model = clone(model).set_params(hidden_layer_sizes=(4,), max_iter=1, early_stopping=False, random_state=0)
    original = sparse.csr_array.toarray

    def small_only(self, *args, **kwargs):
        assert np.prod(self.shape) <= most, f"dense array of shape {self.shape}"
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for container in (sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.csc_matrix):
            patch.setattr(container, "toarray", small_only)
            patch.setattr(container, "todense", small_only)
        patch.setattr("skae.data.rows._HELD_DENSE", most)
        patch.setattr("skae.data.sparse._SMALL", 100)
        patch.setattr("skae._autoencoder._FEWEST_CODES", 100)
        patch.setattr("skae._autoencoder._MOST_INPUTS", most)
        tracemalloc.start()
        model.fit(rows, sample_weight=weights).partial_fit(rows, sample_weight=weights)
        model.score(rows, sample_weight=weights)
        model.transform(rows)
        reconstructed = model.inverse_transform(model.transform(rows[:9]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert reconstructed.shape == (9, n_features)
    assert peak < n_samples * n_features * 8


CODE = """
import resource, warnings
import numpy as np
from scipy import sparse
from skae import AutoencoderTransformer

def samples(n_samples, n_features, n_filled):
    rng = np.random.default_rng(0)
    columns, ends = rng.integers(n_features, size=n_samples * n_filled), np.arange(n_samples + 1) * n_filled
    return sparse.csr_array((rng.random(len(columns)), columns, ends), shape=(n_samples, n_features))

warnings.simplefilter("ignore")
AutoencoderTransformer(2, max_iter=0).fit(samples(100, 200, 20))  # loads the libraries
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
X = samples(100_000, 20_000, 20)
AutoencoderTransformer(2, max_iter=0, random_state=0).fit(X).transform(X[:200])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count the peak in other units")
def test_2e9_values_are_fitted_in_little_memory():
    """100,000 x 20,000 with 0.1 % filled, 16 GB if dense, takes 1.5 GB beyond the libraries."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout) < 1.5e9


MODELS_OF_COLUMNS = [
    AutoencoderTransformer(loss="auto"),
    AutoencoderTransformer(loss={"a": "poisson", "c": "absolute_error"}),
    VAEGenerator(likelihood="auto"),
    VAEGenerator(likelihood={"a": "poisson"}),
]


def sparse_columns(fill_value=0):
    rng = np.random.RandomState(0)
    counts, floats = rng.poisson(0.4, size=80), rng.normal(size=80) * (rng.uniform(size=80) < 0.3)
    columns = {"a": counts, "b": floats + counts, "c": np.where(floats == 0, fill_value, floats), "d": counts > 1}
    fill_values = {"a": 0, "b": 0.0, "c": float(fill_value), "d": False}
    return pd.DataFrame({name: pd.arrays.SparseArray(columns[name], fill_value=fill_values[name]) for name in columns})


def densified(frame):
    """The frame with dense columns: decoded ones are sparse again if their fill value is the default of their dtype."""
    return frame.astype({name: dtype.subtype for name, dtype in frame.dtypes.items() if hasattr(dtype, "fill_value")})


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("model", MODELS_OF_COLUMNS, ids=repr)
def test_sparse_columns_of_a_table_are_dense_ones(model, mixed):
    table = sparse_columns().assign(**{"word": list("xyxz") * 20} if mixed else {})
    dense = densified(table)
    model = clone(model).set_params(max_iter=2, early_stopping=False, random_state=0)
    found, expected = clone(model).fit(table), model.fit(dense)
    np.testing.assert_array_equal(found.transform(table), expected.transform(dense))
    codes = found.transform(table)
    pd.testing.assert_frame_equal(densified(found.inverse_transform(codes)), expected.inverse_transform(codes))
    pd.testing.assert_frame_equal(densified(found.impute(table)), expected.impute(dense))
    pd.testing.assert_frame_equal(densified(found.sample(5, random_state=0)), expected.sample(5, random_state=0))
    again = pickle.loads(pickle.dumps(found))
    pd.testing.assert_frame_equal(again.sample(5, random_state=0), found.sample(5, random_state=0))


@pytest.mark.parametrize("fill_value", [np.nan, 0.5])
@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAEGenerator])
def test_what_sparse_columns_leave_out_need_not_be_zeros(cls, fill_value):
    table = sparse_columns(fill_value)[["a", "b", "c"]]
    found, expected = (cls(1, max_iter=0, random_state=0).fit(X) for X in (table, table.sparse.to_dense()))
    np.testing.assert_array_equal(found.transform(table), expected.transform(table.sparse.to_dense()))
    assert not np.isnan(found.impute(table)).any(axis=None)


def test_shares_of_nothing_are_those_of_all_rows(words):
    model = VAEGenerator(2, likelihood="multinomial", max_iter=0).fit(words)
    empty = np.zeros((1, 30), dtype=np.float32)
    assert model.score_samples(empty) == pytest.approx(0, abs=5)
    assert np.isfinite(model.transform(empty)).all()


def test_a_column_that_no_row_has_stays_possible(words):
    rows = np.hstack([words, np.zeros((200, 1))])
    model = VAEGenerator(2, likelihood="multinomial", max_iter=3, random_state=0).fit(rows)
    new = rows[:1].copy()
    new[0, -1] = 2
    assert np.isfinite(model.score_samples(new)).all()
    assert model.score_samples(new) < model.score_samples(rows[:1])


def test_a_bad_sparse_count_is_named_by_its_column(words):
    rows = words.copy()
    rows[7, 11] = 1.5
    with pytest.raises(ValueError, match=r"column 11 of X has 1\.5"):
        VAEGenerator(2, likelihood="multinomial").fit(sparse.csr_array(rows))


def test_duplicate_entries_are_one_count(words):
    halves = sparse.csr_array(words) / 2
    rows = sparse.csr_array(
        (np.tile(halves.data, 2), tuple(np.tile(axis, 2) for axis in halves.nonzero())),
        shape=words.shape,
    )
    model = VAEGenerator(2, likelihood="multinomial", max_iter=0).fit(rows)
    assert model.mean_.sum() == pytest.approx(words.sum(axis=1).mean())


def test_missing_counts_are_filled_by_their_share_of_the_row(words):
    rows = np.vstack([words, 100 * words]).astype(np.float64)
    model = VAEGenerator(2, likelihood="multinomial", max_iter=0).fit(rows)
    column = int(words.sum(axis=0).argmax())
    for row in (rows[:50], rows[-50:]):
        gaps = row.copy()
        gaps[:, column] = np.nan
        filled = model.impute(gaps)[:, column]
        assert 0.5 < filled.mean() / row[:, column].mean() < 2
        (drawn,) = model.impute(gaps, n_draws=1, random_state=0)
        assert 0.5 < drawn[:, column].mean() / row[:, column].mean() < 2


def test_rows_of_huge_sums_can_be_drawn(words):
    model = VAEGenerator(2, likelihood="multinomial", max_iter=0).fit(1e7 * words)
    sums = model.sample(5, random_state=0).sum(axis=1)
    assert ((sums > 1e8) & (sums < 1e9)).all()
