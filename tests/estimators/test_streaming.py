"""Arrays in files: fits that read them in blocks and are as good as those in memory."""

import mmap
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer, VAEGenerator
from skae.data import rows as sources
from skae.data.datasets import StreamedSamples
from skae.data.rows import FileRows
from skae.training.batches import Batches

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
ESTIMATORS = [AutoencoderTransformer, VAEGenerator]


@pytest.fixture
def in_file(tmp_path):
    """A function that puts an array in a file and opens it to read."""

    def put(rows, order="C", name="rows.npy"):
        np.save(tmp_path / name, np.asarray(rows, order=order))
        return np.load(tmp_path / name, mmap_mode="r")

    return put


@pytest.fixture
def small_blocks(monkeypatch):
    """Every memmap counts as large: 1,024 numbers are held at once, of blocks of 64."""
    for name, value in (("STREAMED_FROM", 0), ("_HELD", 2**10), ("_SHUFFLED_BLOCKS", 2**4), ("_READ", 2**8)):
        monkeypatch.setattr(sources, name, value)


@pytest.fixture
def sample_of_all(monkeypatch):
    """Memmaps are streamed in one go, and the start is that of all rows: what is left is the order of rows."""
    monkeypatch.setattr(sources, "STREAMED_FROM", 0)


@pytest.fixture
def nothing_large(small_blocks, monkeypatch):
    """Whoever reads more than 1,024 numbers at once fails."""
    monkeypatch.setattr("skae._torch._EVALUATED_SAMPLES", 200)
    monkeypatch.setattr("skae.data.statistics._BLOCK_NUMBERS", 2**8)
    for module in ("_autoencoder", "_vae"):
        for name in ("MAX_CODES", "MAX_SIZED"):
            monkeypatch.setattr(f"skae.{module}.{name}", 200)
    original = FileRows.__getitem__

    def guarded(self, asked):
        found = original(self, asked)
        assert found.size <= 2**10
        return found

    monkeypatch.setattr(FileRows, "__getitem__", guarded)


@pytest.mark.parametrize("n", [1, 15, 16, 100, 1000])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_each_row_is_in_one_batch_of_an_epoch(n, batch_size, in_file, small_blocks):
    X = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
    left_out = np.arange(0, n, 5) if n > 1 else np.empty(0, dtype=int)
    rows = FileRows(in_file(X)).without(left_out)
    data = StreamedSamples(rows, rows, torch.device("cpu"))
    batches = Batches(data, batch_size, torch.Generator().manual_seed(0), reuse_memory=True)
    epochs = []
    for _ in range(2):
        found = [x.clone() for x, _ in batches]
        assert len(found) == len(batches)
        assert max(map(len, found)) <= batch_size
        epochs.append(torch.cat(found)[:, 0].numpy())
        np.testing.assert_array_equal(np.sort(epochs[-1]), np.delete(X, left_out, axis=0)[:, 0])
    assert n < 100 or not np.array_equal(*epochs)
    in_order = torch.cat([x for x, _ in Batches(data, batch_size)])
    np.testing.assert_array_equal(in_order, np.delete(X, left_out, axis=0))


def test_batches_are_of_rows_from_all_over_the_file(in_file, small_blocks):
    """Of 6,400 rows 256 are shuffled together, 16 neighbours from each of 16 places."""
    rows = FileRows(in_file(np.repeat(np.arange(6400.0)[:, None], 4, axis=1)))
    batches = Batches(StreamedSamples(rows, rows, torch.device("cpu")), 32, torch.Generator().manual_seed(0))
    spread = np.array([x[:, 0].std() for x, _ in batches])
    assert spread.min() > 0.5 * np.arange(6400).std()
    neighbours = np.concatenate([np.diff(x[:, 0]) == 1 for x, _ in batches])
    assert neighbours.mean() < 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_small_memmap_is_fitted_as_the_array_it_is(estimator, dtype, curve, in_file):
    X = curve.astype(dtype)
    expected = estimator(2, max_iter=2, random_state=0).fit(X).transform(X)
    np.testing.assert_array_equal(estimator(2, max_iter=2, random_state=0).fit(in_file(X)).transform(X), expected)


LINEAR = [
    (AutoencoderTransformer, {}),
    (AutoencoderTransformer, {"loss": "absolute_error"}),
    (VAEGenerator, {}),
    (VAEGenerator, {"start": "pca"}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("estimator", "options"), LINEAR)
def test_the_start_of_a_file_that_fits_the_sample_is_that_of_the_array(
    estimator, options, dtype, curve, in_file, sample_of_all
):
    X = (curve[:120] + 100).astype(dtype)
    model = estimator(2, max_iter=0, random_state=0, **options).fit(in_file(X))
    same = estimator(2, max_iter=0, random_state=0, **options).fit(X)
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if dtype == np.float32 else {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_array_equal(model.mean_, same.mean_)
    for method in ("transform", "score_samples", "score"):
        expected = getattr(same, method)(X)
        np.testing.assert_allclose(getattr(model, method)(in_file(X)), expected, **tolerance)
        np.testing.assert_array_equal(getattr(model, method)(X), getattr(model, method)(in_file(X)))
    np.testing.assert_array_equal(model.impute(in_file(X)), X)


COUNTS = {"poisson", "negative_binomial", "multinomial"}
ALL = [
    *((AutoencoderTransformer, {"loss": loss}) for loss in ("squared_error", "huber", "log_loss", "poisson")),
    *((VAEGenerator, {"likelihood": kind}) for kind in ("gaussian", "bernoulli", *sorted(COUNTS))),
    (AutoencoderTransformer, {"ordered": True}),
    (AutoencoderTransformer, {"noise": 0.5, "sparsity": 0.01}),
    (AutoencoderTransformer, {"n_components": "auto"}),
    (AutoencoderTransformer, {"early_stopping": False}),
    (VAEGenerator, {"ordered": True}),
    (VAEGenerator, {"n_components": "auto", "prior": "mixture"}),
    (VAEGenerator, {"validation_fraction": 0.9}),
    (VAEGenerator, {"start": "random"}),
]


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.parametrize(("estimator", "options"), ALL)
def test_nothing_large_is_read_at_once(estimator, options, in_file, nothing_large):
    """Whatever the objective, the model is fitted and asked, and learns, in pieces of 1,024 numbers."""
    rng = np.random.RandomState(0)
    t = rng.uniform(-2, 2, size=(700, 1))
    X = np.hstack([t, t**2, np.sin(2 * t), np.cos(t)]) + 0.02 * rng.normal(size=(700, 4))
    if options.get("likelihood") in COUNTS:
        X = rng.poisson(np.exp(X)).astype(float)
    elif options.get("loss") in ("log_loss", "poisson") or options.get("likelihood") == "bernoulli":
        X = 1 / (1 + np.exp(-X))
    X = in_file(X.astype(np.float32))
    model = estimator(**{"n_components": 2, "max_iter": 6, "hidden_layer_sizes": 32, "random_state": 0} | options)
    model.fit(X)
    if options.get("start") != "random" and model.early_stopping:
        assert model.best_loss_ < model.linear_loss_
    assert model.transform(X).shape == (700, model.n_components_)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.score(X))
    if hasattr(model, "partial_fit"):
        model.partial_fit(X)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_seed_decides_a_streamed_fit(estimator, curve, in_file, small_blocks):
    fits = [estimator(2, max_iter=3, random_state=seed).fit(in_file(curve)).transform(curve) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])


def test_rows_in_groups_are_shuffled_well_enough(in_file, monkeypatch):
    """Digits sorted by class, a quarter of them held at once: the error is that in memory, and not with one block."""
    X, y = load_digits(return_X_y=True)
    train = np.arange(len(X)) % 5 > 0
    in_order = in_file(X[train][np.argsort(y[train], kind="stable")])
    monkeypatch.setattr(sources, "STREAMED_FROM", 0)
    monkeypatch.setattr(sources, "_HELD", 360 * 64)

    def error(rows):
        model = AutoencoderTransformer(8, max_iter=12, random_state=0).fit(rows)
        return -model.score_samples(X[~train]).mean()

    in_memory = error(X[train])
    assert error(in_order) < 1.05 * in_memory
    monkeypatch.setattr(sources, "_SHUFFLED_BLOCKS", 1)
    assert error(in_order) > 1.05 * in_memory


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gaps_of_a_file_are_found(estimator, curve, in_file, small_blocks):
    X = np.where(np.random.RandomState(1).uniform(size=curve.shape) < 0.2, np.nan, curve)
    X[np.isnan(X).all(axis=1), 0] = 0
    # A mixture of so few samples depends on the validation set, and on the draws of missing values.
    linear = {"defensive": "linear"} if estimator is VAEGenerator else {}
    model = estimator(2, max_iter=3, random_state=0, **linear).fit(in_file(X))
    same = estimator(2, max_iter=3, random_state=0, **linear).fit(X)
    assert model._fitted.built.has_missing
    np.testing.assert_allclose(model.mean_, np.nanmean(X, axis=0))
    assert abs(model.score(X) - same.score(X)) < 0.5
    assert not np.isnan(model.impute(in_file(X))).any()
    np.testing.assert_allclose(model.score_samples(in_file(X)), model.score_samples(X), rtol=1e-6)
    X[:, 2] = np.nan
    assert (model.fit(in_file(X)).impute(in_file(X))[:, 2] == 0).all()
    X[:, 2] = curve[:, 2]
    X[207] = np.nan
    assert np.isfinite(model.fit(in_file(X)).impute(in_file(X))).all()


def test_bad_rows_of_a_file_are_refused_as_those_of_an_array(curve, in_file, small_blocks):
    X = curve.copy()
    X[250, 3] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        AutoencoderTransformer().fit(in_file(X))
    model = AutoencoderTransformer(max_iter=0).fit(in_file(curve))
    with pytest.raises(ValueError, match="5 features"):
        model.transform(in_file(curve[:, :4]))
    with pytest.raises(ValueError, match="minimum of 2"):
        model.fit(in_file(curve[:1]))
    with pytest.raises(ValueError, match="more than the 3 samples"):
        AutoencoderTransformer(4).fit(in_file(curve[:3]))
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        AutoencoderTransformer(loss="log_loss").fit(in_file(curve))
    with pytest.raises(ValueError, match="needs counts"):
        VAEGenerator(likelihood="poisson").fit(in_file(np.abs(curve)))
    with pytest.raises(ValueError, match="Complex"):
        AutoencoderTransformer().fit(in_file(curve + 1j))
    with pytest.raises(ValueError, match=r"values in 0 sample\(s\).* every value is missing"):
        AutoencoderTransformer().fit(in_file(np.full((60, 5), np.nan)))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_validation_rows_passes_and_pickles_of_files(estimator, curve, in_file, small_blocks):
    X, X_val = in_file(curve[:200], name="train.npy"), in_file(curve[200:], name="val.npy")
    for given in (X_val, curve[200:]):
        model = estimator(2, max_iter=3, random_state=0).fit(X, X_val=given)
        assert len(model.validation_loss_curve_) == 3
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))
    passes = estimator(2, random_state=0)
    for _ in range(5):
        passes.partial_fit(X)
    assert passes.loss_curve_[-1] < passes.loss_curve_[0]
    assert passes.n_iter_ == 5


def test_integers_in_a_file_are_made_floats_a_block_at_a_time(in_file, nothing_large):
    X = np.random.RandomState(0).randint(0, 255, size=(1500, 4)).astype(np.uint8)
    model = AutoencoderTransformer(2, max_iter=0).fit(in_file(X))
    np.testing.assert_allclose(model.mean_, X.mean(axis=0))


def private_bytes(code):
    """What a process says."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what memory is private")
@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="pages cannot be given back")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_memory_does_not_grow_with_the_file(estimator, tmp_path):
    """A file of 800 MB is fitted with no more memory, resident pages of the file included, than one of 200 MB."""

    def memory(n_rows):
        path = tmp_path / f"{n_rows}.npy"
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, 200))
        rng = np.random.default_rng(0)
        for start in range(0, n_rows, 10_000):
            rows[start : start + 10_000] = rng.standard_normal((10_000, 200), dtype=np.float32)
        rows.flush()
        code = f"""
import resource, warnings
import numpy as np
from skae import {estimator.__name__}
warnings.simplefilter('ignore')
X = np.load({str(path)!r}, mmap_mode='r')
{estimator.__name__}(4, max_iter=1, batch_size=1000, hidden_layer_sizes=8, random_state=0).fit(X).score(X)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        return private_bytes(code) * 1024

    assert memory(1_000_000) - memory(250_000) < 100e6
