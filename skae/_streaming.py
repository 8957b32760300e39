"""Rows that become arrays a block at a time: an array as far as those who ask for blocks of rows can tell."""

from __future__ import annotations

import copy
import mmap

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils.random import sample_without_replacement

# Numbers of X in a file from which on it is streamed: a smaller one is loaded.
STREAMED_FROM = 2**25
# Numbers of a file that are held at once: rows that are shuffled together, and the sample that a start is of.
_HELD = 2**23
# Blocks of neighbouring rows that are shuffled together.
_SHUFFLED_BLOCKS = 128
# Numbers of a block that is read for something else.
_READ = 2**18
# Rows here and there that are read before their pages are given back.
_FAR_APART = 64
# Rows up to which some are drawn by a permutation of all.
_MOST_PERMUTED = 2**24


class LazyRows:
    """Rows of a source that are made dense, and go through a function, when they are asked for.

    Parameters
    ----------
    source : object with a shape (n_samples, n_features) and a dtype
    function : callable, default=None
        What rows go through once they are dense: (n, n_features) -> (n, n_features).
    """

    has_gaps = False

    def __init__(self, source, function=None):
        self.source = source
        self.function = function
        self.dtype = source.dtype

    def __len__(self):
        return self.source.shape[0]

    @property
    def shape(self):
        return len(self), self.source.shape[1]

    @property
    def size(self):
        return len(self) * self.source.shape[1]

    def __getitem__(self, rows):
        """These rows as an array; of an int that row."""
        if isinstance(rows, int | np.integer):
            return self[[rows]][0]
        dense = self._read(rows)
        return dense if self.function is None else self.function(dense)

    def through(self, function):
        """The same rows, which go through this function."""
        other = copy.copy(self)
        other.function = function
        return other


class SparseRows(LazyRows):
    """Rows of a CSR matrix."""

    def _read(self, rows):
        return self.source[rows].toarray()

    def sums(self):
        """Of each row."""
        return np.asarray(self.source.sum(axis=1), dtype=np.float64).ravel()


class FileRows(LazyRows):
    """Rows of an array in a file (`numpy.memmap`).

    What is read is a copy, and the pages it was read from are given back: neither private nor resident memory grows
    with the file.

    Parameters
    ----------
    source : memmap of shape (n_samples, n_features), or a view of one
        Of any real dtype; rows are float32 where it is, else float64.

    Attributes
    ----------
    has_gaps : bool
        Whether an entry is missing: whoever checks the rows sets it.
    """

    def __init__(self, source):
        super().__init__(np.asarray(source))
        self.dtype = np.dtype(np.float32 if source.dtype == np.float32 else np.float64)
        self._owner = _memmap(source)
        self._left_out = np.empty(0, dtype=np.int64)
        self._kept = range(len(source))

    def __len__(self):
        return len(self._kept)

    def without(self, rows):
        """All rows but these, which are sorted."""
        other = copy.copy(self)
        other._left_out = rows - np.arange(len(rows))  # in numbers of the rows that are left, where the jumps are
        other._kept = range(len(self) - len(rows))
        return other

    def part(self, rows):
        """The rows of a slice."""
        other = copy.copy(self)
        other._kept = self._kept[rows]
        return other

    def sums(self):
        """Of each row, gaps left out."""
        return np.concatenate([np.nansum(self[rows], axis=1, dtype=np.float64) for rows in blocks(self)])

    def at_once(self):
        """Rows that are held at once."""
        return max(1, _HELD // self.shape[1])

    def shuffled_blocks(self, permutation):
        """Lists of blocks to read and shuffle together: slices, of which each row is in one.

        Parameters
        ----------
        permutation : callable
            n -> the ints below n in random order.
        """
        n_lists = -(-len(self) // self.at_once())
        n_blocks = min(len(self), n_lists * _SHUFFLED_BLOCKS)
        order = permutation(n_blocks)
        for i in range(n_lists):
            numbers = order[i * n_blocks // n_lists : (i + 1) * n_blocks // n_lists]
            yield [slice(b * len(self) // n_blocks, (b + 1) * len(self) // n_blocks) for b in numbers]

    def _read(self, rows):
        together = isinstance(rows, slice) and rows.step in (None, 1)
        if isinstance(rows, slice):
            rows, n_at_once = np.arange(*rows.indices(len(self))), max(1, len(self))
        else:  # a system may map megabytes around each
            rows, n_at_once = np.asarray(rows), _FAR_APART
        found = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        for part in gen_batches(len(rows), n_at_once):
            places = self._kept.start + rows[part]
            places = places + np.searchsorted(self._left_out, places, side="right")
            if together and len(places) and np.ptp(places) < len(places):  # neighbours are copied faster
                places = slice(places[0], places[-1] + 1)
            found[part] = self.source[places]
            self._give_back()
        return found

    def _give_back(self):
        # Pages of a private mapping, mode "c", may have been written to and are in no file.
        if hasattr(mmap, "MADV_DONTNEED") and self._owner.mode != "c":
            self._owner._mmap.madvise(mmap.MADV_DONTNEED)


def is_streamed(X):
    """Whether X is a large array in a file: a memmap, or a view of one that no longer says so."""
    return isinstance(X, np.ndarray) and X.ndim == 2 and X.size > STREAMED_FROM and _memmap(X) is not None


def blocks(X):
    """Slices of rows that are worked on at once: all rows of an array, some of lazy rows."""
    n = _READ // X.shape[1] if isinstance(X, LazyRows) else len(X)
    return gen_batches(len(X), max(1, n))


def some_of(n_rows, n, random_state):
    """Indices of n of the rows at random, or of all; no array of all rows where these are many."""
    if n_rows <= _MOST_PERMUTED:
        return random_state.permutation(n_rows)[:n]
    return sample_without_replacement(n_rows, min(n, n_rows), random_state=random_state)


def _memmap(X):
    """The memmap that an array is, or is a view of; None if there is none."""
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap) and X._mmap is not None:
            return X
        X = X.base
    return None
