import numpy as np
import pytest

from skae.data import statistics
from skae.data.rows import ArrayRows
from skae.data.statistics import (
    column_means,
    column_moments,
    has_missing,
    n_effective,
    n_unweighted,
    resampled,
    without_weights,
)


class Source:
    """Samples that only know their shape, whether values are missing, and slices of themselves."""

    def __init__(self, array, has_missing):
        self.array, self.has_missing = array, has_missing
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        return self.array[rows].copy()


def with_missing(X):
    """A copy without some entries: two columns lack whole blocks of samples."""
    X = X.copy()
    X[:2000, 1] = X[1000:, 0] = X[::7, 2] = X[5] = np.nan
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_are_those_of_the_columns_in_float64(dtype, seed):
    X = (np.random.RandomState(seed).normal(size=(3000, 4)) * [1, 2, 3, 0] + [5, 0, -1, 3]).astype(dtype)
    assert not has_missing(X)
    moments = column_moments(X)
    np.testing.assert_allclose(moments.mean, X.mean(axis=0, dtype=np.float64), atol=1e-12)
    np.testing.assert_allclose(moments.deviation, X.std(axis=0, dtype=np.float64), rtol=1e-9)
    assert moments.constant.tolist() == [False, False, False, True]
    assert (moments.mean[3], moments.deviation[3]) == (3, 0)
    assert moments.mean.dtype == moments.deviation.dtype == column_means(X).dtype == np.float64
    np.testing.assert_allclose(column_means(X), moments.mean, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_missing_values_are_left_out_of_moments(dtype, seed):
    X = (np.random.RandomState(seed).normal(size=(3000, 4)) * [1, 2, 3, 0] + [5, 0, -1, 3]).astype(dtype)
    X = with_missing(X)
    assert has_missing(X)
    moments = column_moments(X)
    np.testing.assert_allclose(moments.mean, np.nanmean(X, axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(moments.deviation, np.nanstd(X, axis=0, dtype=np.float64), rtol=1e-5)
    assert moments.constant.tolist() == [False, False, False, True]
    np.testing.assert_allclose(column_means(X), moments.mean, atol=1e-6)


@pytest.mark.parametrize("offset", [0, 1e9, -1e9])
@pytest.mark.parametrize("unit", [1e-12, 1, 1e12, 1e200, 1e-200])
def test_offset_and_unit_cost_moments_no_digits(offset, unit, seed):
    X = np.random.RandomState(seed).normal(size=(60, 3))
    moments, moved = column_moments(X), column_moments((X + offset) * unit)
    # An offset of 1e9 leaves float64 seven digits of a signal of 1.
    tolerance = 1e-6 if offset else 1e-9
    np.testing.assert_allclose(moved.deviation / unit, moments.deviation, rtol=tolerance)
    np.testing.assert_allclose(moved.mean / unit - offset, moments.mean, atol=tolerance)
    assert not moved.constant.any()


def test_moments_of_a_function_are_those_of_what_it_returns(seed):
    X = np.random.RandomState(seed).normal(size=(50, 3))
    X[:, 1] = 2
    X[3, 0] = np.nan
    for found, expected in zip(column_moments(X, np.exp), column_moments(np.exp(X)), strict=True):
        np.testing.assert_allclose(found, expected)


def test_moments_of_float32_are_those_of_float64():
    X = np.array([[1.0], [1e8], [-1e8]], dtype=np.float32)
    assert column_moments(X).mean[0] == pytest.approx(1 / 3, abs=1e-7)
    assert column_means(X)[0] == pytest.approx(1 / 3, abs=1e-7)


def test_overflow_is_left_to_the_check_that_names_it():
    """No warning: pytest would make an error of one."""
    for rows in ([[1e308], [1e308]], [[1e308], [-1e308]], [[np.inf], [-np.inf]]):
        assert not has_missing(np.array(rows))
        column_moments(np.array(rows))


@pytest.mark.parametrize("found", [True, False])
def test_a_source_knows_whether_values_are_missing(found):
    assert has_missing(Source(np.zeros((3, 2)), found)) is found


@pytest.mark.parametrize("missing", [True, False])
def test_blocks_change_nothing(missing, seed, monkeypatch):
    X = np.random.RandomState(seed).normal(3, 1, size=(40, 4))
    if missing:
        X[:30, 1] = X[10:, 0] = X[5] = np.nan
    moments, means = column_moments(X), column_means(X)
    for numbers in (3, 28):
        monkeypatch.setattr(statistics, "_BLOCK_NUMBERS", numbers)
        for rows in (X, Source(X, missing)):
            for found, expected in zip(column_moments(rows), moments, strict=True):
                np.testing.assert_allclose(found, expected)
            np.testing.assert_allclose(column_means(rows), means)


def samples_and_weights(seed, shape=(40, 3)):
    """Samples of which one column is constant and others are correlated, and whole weights."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])) + 5
    X[:, -1] = 2
    return X, rng.randint(1, 5, size=len(X)).astype(float)


@pytest.mark.parametrize("incomplete", [False, True])
def test_weighted_moments_are_those_of_repeated_samples(incomplete, seed):
    X, weights = samples_and_weights(seed, (3000, 3))
    X = with_missing(X) if incomplete else X
    found, expected = column_moments(ArrayRows(X, weights)), column_moments(X.repeat(weights.astype(int), axis=0))
    for part, of_repeated in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, of_repeated, rtol=1e-12)
    np.testing.assert_allclose(column_means(ArrayRows(X, weights)), expected.mean, rtol=1e-12)


@pytest.mark.parametrize("shape", [(40, 3), (6, 20)])
def test_samples_without_weights_have_the_moments_of_weighted_ones(shape, seed):
    X, weights = samples_and_weights(seed, shape)
    found, expected = without_weights(X, weights), X.repeat(weights.astype(int), axis=0)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0))
    np.testing.assert_allclose(np.cov(found.T), np.cov(expected.T), atol=1e-9)
    assert (found[:, -1] == 2).all()
    shares = weights / weights.sum()
    few = without_weights(X, shares)  # weights that sum to 1 are as many samples as there are
    assert few.shape == X.shape
    np.testing.assert_allclose(np.cov(few.T, ddof=0), np.cov(X.T, aweights=shares, ddof=0), atol=1e-9)
    assert without_weights(X.astype(np.float32), weights).dtype == np.float32


def test_weights_stand_for_samples():
    weights = np.array([0.5, 1, 4])
    assert (n_effective(weights), n_effective(weights / 100)) == (5.5, 3)
    assert [n_unweighted(weights, 10), n_unweighted(100 * weights, 10), n_unweighted(100 * weights, 20)] == [6, 24, 40]


def test_samples_occur_in_proportion_to_their_weights(seed):
    weights = np.random.RandomState(seed).randint(1, 5, size=30)
    np.testing.assert_array_equal(resampled(weights, weights.sum()), np.repeat(np.arange(30), weights))
    shares = np.random.RandomState(seed).uniform(size=30)
    occurrences = np.bincount(resampled(shares, 1000), minlength=30)
    assert np.abs(occurrences - 1000 * shares / shares.sum()).max() < 1
