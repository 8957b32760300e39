"""Sources of samples answer alike, whatever they are of."""

import numpy as np
import pytest
import torch
from scipy import sparse

from skae.data import rows as source
from skae.data.rows import ArrayRows, FileRows, SparseRows, is_streamed
from skae.data.tensors import TensorRows


@pytest.fixture
def in_file(tmp_path):
    """A function that puts an array in a file and opens it to read."""

    def put(rows, order="C", mode="r"):
        np.save(tmp_path / "rows.npy", np.asarray(rows, order=order))
        return np.load(tmp_path / "rows.npy", mmap_mode=mode)

    return put


@pytest.fixture
def small_blocks(monkeypatch):
    """1,024 numbers of a file are held at once, of blocks of 64."""
    for name, value in (("_HELD", 2**10), ("_SHUFFLED_BLOCKS", 2**4), ("_READ", 2**8)):
        monkeypatch.setattr(source, name, value)


@pytest.fixture(params=["array", "sparse", "file"])
def both(request, in_file):
    """A source and the array it is of."""
    X = np.random.RandomState(0).poisson(1, size=(300, 4)).astype(np.float32)
    make = {
        "array": ArrayRows,
        "sparse": lambda X: SparseRows(sparse.csr_array(X)),
        "file": lambda X: FileRows(in_file(X)),
    }
    return make[request.param](X), X


@pytest.mark.parametrize("index", [slice(None), slice(5, 9), slice(9, 2, -3), np.array([7, 0, 7]), [3]])
def test_rows_are_those_of_the_array(both, index):
    rows, X = both
    np.testing.assert_array_equal(rows[index], X[index])
    np.testing.assert_array_equal(rows[2], X[2])
    np.testing.assert_array_equal(rows[np.int64(2)], X[2])
    assert rows[index].dtype == rows.dtype == X.dtype
    assert (len(rows), rows.shape, rows.size, rows.n_features) == (300, (300, 4), 1200, 4)
    assert not rows.has_missing


def test_functions_are_applied_one_after_another(both):
    rows, X = both
    mapped = rows.map(np.negative).map(lambda x: x + 1)
    np.testing.assert_array_equal(mapped[4:6], 1 - X[4:6])
    np.testing.assert_array_equal(mapped[3], 1 - X[3])
    np.testing.assert_array_equal(rows[4:6], X[4:6])
    assert mapped.shape == X.shape


def test_blocks_hold_each_row_once(both, small_blocks):
    rows, X = both
    np.testing.assert_array_equal(np.concatenate([rows[block] for block in rows.blocks()]), X)
    expected = 1 if isinstance(rows, ArrayRows) else 5  # of 64 rows at most
    assert len([*rows.blocks()]) == expected


def test_sums_leave_missing_values_out(both, small_blocks):
    rows, X = both
    np.testing.assert_array_equal(rows.sums(), X.sum(axis=1, dtype=float))
    missing = np.where(X > 1, np.nan, X)
    np.testing.assert_array_equal(ArrayRows(missing).sums(), np.nansum(missing, axis=1))


def test_samples_are_a_permutation_or_different_ones_of_many(both, monkeypatch):
    rows, _ = both
    expected = np.random.RandomState(0).permutation(300)[:4]
    np.testing.assert_array_equal(rows.sample(4, np.random.RandomState(0)), expected)
    monkeypatch.setattr(source, "_MOST_PERMUTED", 10)
    for n in (5, 300, 400):
        found = rows.sample(n, np.random.RandomState(0))
        assert len(np.unique(found)) == len(found) == min(n, 300)


def test_a_closed_form_gets_all_of_an_array_and_a_sample_of_others(both, small_blocks, monkeypatch):
    rows, X = both
    monkeypatch.setattr(source, "_HELD_DENSE", 2**10)
    dense = rows.dense(2, np.random.RandomState(0))
    if isinstance(rows, ArrayRows):
        assert dense is rows
        assert rows.most_at_once() == 300
        return
    np.testing.assert_array_equal(dense.source, X[np.random.RandomState(0).permutation(300)[:256]])
    assert (rows.most_at_once(), rows.most_at_once(280)) == (256, 280)
    assert len(rows.dense(280, np.random.RandomState(0))) == 280


def test_arrays_know_whether_values_are_missing():
    X = np.ones((3, 2))
    assert not ArrayRows(X).has_missing
    assert ArrayRows(X).map(lambda X: np.where([[0, 1]], np.nan, X)).has_missing
    assert not ArrayRows(np.array([[np.finfo(float).max] * 2])).has_missing


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["array", "tensor", "file"])
def test_samples_without_values_can_be_left_out(kind, weighted, in_file, small_blocks):
    X = np.where(np.random.RandomState(0).uniform(size=(300, 4)) < 0.3, np.nan, 1.0)
    X[[0, 7, 299]] = np.nan
    expected, weights = np.flatnonzero(~np.isnan(X).all(axis=1)), 1.0 + np.arange(300) if weighted else None
    make = {"array": ArrayRows, "tensor": lambda X: TensorRows(torch.tensor(X)), "file": lambda X: FileRows(in_file(X))}
    rows = make[kind](X).weighted(weights)
    if kind == "file":
        assert rows.with_values()[0] is rows  # it is not known yet whether values are missing
        rows.has_missing = True
    found, kept = rows.with_values()
    assert len(found) == len(expected) < 300
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(found[:], X[expected])
    assert found.weights is None if weights is None else (found.weights == weights[expected]).all()
    assert len(found.with_values()[0]) == len(found)
    assert len(rows.weighted(np.isnan(X).all(axis=1) * 1.0).with_values()[0]) == 0


def test_what_is_streamed_is_what_is_large_and_in_a_file(in_file, monkeypatch):
    rows = np.ones((8, 4))
    mapped = in_file(rows)
    assert not is_streamed(mapped)
    monkeypatch.setattr(source, "STREAMED_FROM", 16)
    for large in (mapped, np.asarray(mapped), mapped[1:], np.asarray(mapped)[::-1, :3], mapped.T):
        assert is_streamed(large)
    for other in (rows, mapped[:4], mapped[np.arange(6)], np.array(mapped), mapped[0], rows.tolist()):
        assert not is_streamed(other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, ">f4"])
@pytest.mark.parametrize("view", [lambda X: X, lambda X: X[::2], lambda X: X[3:, 1:3], lambda X: X[::-1]])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_a_file_are_those_of_the_array(dtype, view, order, in_file):
    X = (20 * np.random.RandomState(0).uniform(size=(50, 4))).astype(dtype)
    expected, rows = view(X), FileRows(view(in_file(X, order)))
    assert rows.shape == expected.shape
    assert rows.dtype == (np.float32 if dtype == np.float32 else np.float64)
    for index in (slice(None), slice(5, 9), np.array([7, 0, 7]), [3]):
        np.testing.assert_array_equal(rows[index], expected[index].astype(rows.dtype))
        assert rows[index].flags.c_contiguous
        assert rows[index].flags.writeable
    np.testing.assert_array_equal(rows[2], expected[2])
    np.testing.assert_array_equal(rows.map(np.negative)[4:6], -expected[4:6].astype(rows.dtype))
    left_out = np.array([0, 3, 4, len(expected) - 1])
    rest = rows.without(left_out)
    np.testing.assert_array_equal(rest[:], np.delete(expected, left_out, axis=0))
    np.testing.assert_array_equal(rest[[5, 1]], np.delete(expected, left_out, axis=0)[[5, 1]])
    np.testing.assert_allclose(rest.sums(), np.delete(expected, left_out, axis=0).sum(axis=1, dtype=float))
    np.testing.assert_array_equal(rest.part(slice(2, 9))[:], np.delete(expected, left_out, axis=0)[2:9])
    np.testing.assert_array_equal(rest.part(slice(2, 9))[[1, 0]], np.delete(expected, left_out, axis=0)[[3, 2]])


def test_changes_that_are_in_no_file_are_read(in_file):
    X = in_file(np.zeros((600, 8)), mode="c")
    X[100] = 1
    rows = FileRows(X)
    assert rows[:].sum() == rows[:].sum() == 8


@pytest.mark.parametrize("n", [1, 15, 16, 100, 1000, 6400])
def test_each_row_is_in_one_block_to_shuffle(n, in_file, small_blocks):
    rows = FileRows(in_file(np.zeros((n, 4))))
    order = np.random.RandomState(0).permutation
    lists = list(rows.shuffled_blocks(lambda n: order(n).tolist()))
    each = [np.concatenate([np.arange(part.start, part.stop) for part in parts]) for parts in lists]
    np.testing.assert_array_equal(np.sort(np.concatenate(each)), np.arange(n))
    assert max(map(len, each)) <= 256 + 16  # as are held at once, and what divisions leave
    if n == 6400:  # 16 neighbours each from all over the file
        assert min(part.std() for part in each) > 0.5 * np.arange(n).std()
        assert {part.stop - part.start for parts in lists for part in parts} == {16}
