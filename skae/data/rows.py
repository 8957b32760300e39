"""Sources of samples with one interface for reading in blocks: an array, a sparse matrix or a file."""

import copy
import mmap
from functools import cached_property

import numpy as np
import torch
from sklearn.utils import gen_batches
from sklearn.utils.random import sample_without_replacement

from skae._torch import tensor_of, to_array
from skae.data.datasets import InMemorySamples, Samples, StreamedSamples
from skae.data.sparse import SparseComplete
from skae.data.statistics import has_missing, n_effective, n_unweighted, resampled, without_weights

# X in a file is streamed if it has more values than this, and loaded otherwise.
STREAMED_FROM = 2**25
# Most values of a file in memory: of samples that are shuffled together, or in a closed-form fit.
_HELD = 2**23
# Most values of dense samples in a closed-form fit to sparse samples: 256 MB.
_HELD_DENSE = 2**25
# Blocks of neighbouring samples that are shuffled together.
_SHUFFLED_BLOCKS = 128
# Values of a block that is read for other purposes.
_READ = 2**18
# Scattered samples that are read before their pages are released.
_FAR_APART = 64
# Most samples for which a random subset is drawn by a permutation of all.
_MOST_PERMUTED = 2**24


class RowSource:
    """Source of samples, which are made dense and transformed by functions on demand.

    ``rows[index]`` is an array: (n, n_features) for a slice or an array of ints, (n_features,) for an int.

    Parameters
    ----------
    source : object with a shape (n_samples, n_features) and a dtype

    Attributes
    ----------
    has_missing : bool
        Whether an entry is nan.
    columns : ndarray of shape (n_samples, n) or None
        Further columns, which `with_columns` adds.
    weights : ndarray of shape (n_samples,) or None
        Positive weights of the samples; None if all are 1.
    """

    has_missing = False
    columns = weights = None
    functions = ()

    def __init__(self, source):
        self.source, self.dtype = source, source.dtype

    def __len__(self):
        return self.source.shape[0]

    @property
    def n_features(self):
        return self.source.shape[1] + (0 if self.columns is None else self.columns.shape[1])

    @property
    def shape(self):
        return len(self), self.n_features

    @property
    def size(self):
        return len(self) * self.n_features

    def __getitem__(self, index):
        if np.isscalar(index):
            return self[[index]][0]
        rows = self._read(index)
        for function in self.functions:
            rows = function(rows)
        return rows if self.columns is None else np.hstack([rows, self.columns[index]])

    def map(self, function):
        """Return the same samples, transformed by this function as well: (n, n_features) -> (n, n_features)."""
        other = copy.copy(self)
        other.functions = (*self.functions, function)
        return other

    def blocks(self):
        """Return slices of samples to process at once, in order."""
        return gen_batches(len(self), max(1, _READ // self.n_features))

    def sums(self):
        """Return the sums of samples in float64, missing values left out; samples occur by their weights."""
        sums = np.concatenate([np.nansum(self[rows], axis=1, dtype=np.float64) for rows in self.blocks()])
        return sums[self.resampled()]

    def resampled(self):
        """Return indices of samples without weights, in which each occurs in proportion to its weight."""
        if self.weights is None:
            return np.arange(len(self))
        return resampled(self.weights, n_unweighted(self.weights, 1))

    @property
    def n_effective(self):
        """Number of samples that the weights stand for."""
        return len(self) if self.weights is None else n_effective(self.weights)

    def weigh(self, values):
        """Return values (n_samples, ...) times the weights of their samples."""
        return values if self.weights is None else (self.weights * values.T).T

    def weighted(self, weights):
        """Return the samples with positive weights, and these weights; None leaves the samples as they are."""
        if weights is None:
            return self
        kept = np.flatnonzero(weights)
        other = copy.copy(self) if len(kept) == len(self) else self._subset(kept)
        other.weights = None if (weights[kept] == 1).all() else weights[kept]
        return other

    def _subset(self, kept):
        return type(self)(self.source[kept])

    def with_values(self):
        """Return the samples that have an observed value, and their indices."""
        if not self.has_missing:
            return self, np.arange(len(self))
        has_value = (to_array(((x := self[block]) == x).any(1)) for block in self.blocks())
        weights = np.concatenate([*has_value]) * (1.0 if self.weights is None else self.weights)
        return self.weighted(weights), np.flatnonzero(weights)

    def sample(self, n, random_state):
        """Return the indices of n random samples, or of all, without an array of all if these are many."""
        if len(self) <= _MOST_PERMUTED:
            return random_state.permutation(len(self))[:n]
        return sample_without_replacement(len(self), min(n, len(self)), random_state=random_state)

    def most_at_once(self, minimum=1):
        """Return how many dense samples may be in memory at once."""
        return max(minimum, _HELD_DENSE // self.n_features)

    def dense(self, minimum, random_state):
        """Return `ArrayRows` for a closed-form fit: all of an array, else a random subset that fits in memory.

        Columns without observed values get a zero in one sample.
        """
        rows = self._in_memory(minimum, random_state)
        if not rows.has_missing or not (empty := np.isnan(rows.source).all(axis=0)).any():
            return rows
        source = rows.source.copy()
        source[0, empty] = 0
        return ArrayRows(source, rows.weights)

    def _in_memory(self, minimum, random_state):
        index = self.sample(self.most_at_once(minimum), random_state)
        return ArrayRows(self[index], None if self.weights is None else self.weights[index])

    def complete(self, minimum, random_state):
        """Return samples for the linear start, like `dense`, or in another form with the same methods."""
        return self.dense(minimum, random_state)

    def drawn(self, normal, random_state):
        """Return the samples with missing values replaced by draws from a `LinearGaussian`."""
        return self.map(lambda X: normal.draw(X, random_state))

    def with_sample(self, sample):
        """Return samples as `dense` does, columns without values left missing, and one more sample (n_features,)."""
        rows = self._in_memory(1, np.random.RandomState(0))
        weights = None if rows.weights is None else np.append(rows.weights, rows.weights.sum() / rows.n_effective)
        return ArrayRows(np.vstack([rows.source, sample.astype(self.dtype)]), weights)

    def searchable(self, random_state):
        """Return sorted indices of candidates: all samples of an array, else a random subset that fits in memory."""
        if len(self) <= self.most_at_once():
            return np.arange(len(self))
        return np.sort(self.sample(self.most_at_once(), random_state))

    def with_columns(self, columns):
        """Return the same samples with further columns (n_samples, n), to which functions are not applied."""
        return self._with_columns(columns.astype(self.dtype)) if columns.shape[1] else self

    def _with_columns(self, columns):
        other = copy.copy(self)
        other.columns = columns
        return other

    def check_imputable(self):
        """Raise TypeError if no value can be missing."""

    # Where the samples are, for identities of checkpoints.
    origin = ""

    def fingerprint_parts(self):
        """Return arrays or sources that together hold all values."""
        return (self,)

    # What training reads.

    def samples(self, inputs, device, is_identity):
        """Return a dataset of network inputs, a `RowSource`, with these samples as targets.

        If ``is_identity``, the inputs without further columns are the targets.
        """
        same = inputs if inputs.columns is None else inputs._with_columns(None)
        return self._dataset(inputs, same if is_identity else self, device, weights=self.weights)

    _dataset = Samples

    def split_samples(self, inputs, held_out, device, is_identity):
        """Return the datasets of training samples and of the samples with these indices."""
        dataset = self.samples(inputs, device, is_identity)
        return dataset.subset(np.delete(np.arange(len(self)), held_out)), dataset.subset(held_out)


class ArrayRows(RowSource):
    """Samples in an array, to which functions are applied at once.

    Parameters
    ----------
    array : ndarray of shape (n_samples, n_features)
        Copied to C order if it is in another: sums depend on the order in memory by rounding.
    weights : ndarray of shape (n_samples,) or None, default=None
    """

    def __init__(self, array, weights=None):
        super().__init__(np.ascontiguousarray(array))
        self.weights = weights

    @cached_property
    def has_missing(self):
        return has_missing(self.source)

    def __getitem__(self, index):
        return self.source[index]

    def map(self, function):
        return ArrayRows(function(self.source), self.weights)

    def unweighted(self):
        """Return an array of samples without weights that have the mean and the covariance of these."""
        return self.source if self.weights is None else without_weights(self.source, self.weights)

    def centred(self):
        """Return samples without weights minus their mean, and that mean (n_features,)."""
        X = self.unweighted()
        mean = X.mean(axis=0, dtype=np.float64)
        return X - mean, mean

    def column_range(self):
        """Return the smallest and the largest value of each column: (2, n_features)."""
        return np.stack([self.source.min(axis=0), self.source.max(axis=0)])

    def range_along(self, directions):
        """Return the range of the samples along each direction (n, n_features): (2, n)."""
        codes = self.source @ directions.T.astype(self.dtype)
        return np.stack([codes.min(axis=0), codes.max(axis=0)])

    def without_context_means(self, n_features):
        """Subtract from each sample the mean of its context, which is in the columns after ``n_features``.

        Returns
        -------
        X : ndarray of shape (n, n_features)
        means : ndarray of shape (n_context, n_features)
            0 for a context without samples.
        """
        X, context = self.source[:, :n_features], self.source[:, n_features:].astype(np.float64)
        if not context.shape[1]:
            return self.unweighted(), context.T @ X
        counted = self.weigh(context)
        total = counted.sum(axis=0)[:, None]
        means = (counted.T @ X) / np.where(total > 0, total, 1)
        return ArrayRows((X - context @ means).astype(X.dtype), self.weights).unweighted(), means

    def blocks(self):
        return gen_batches(len(self), max(1, len(self)))

    def most_at_once(self, minimum=1):
        return len(self)

    def _in_memory(self, minimum, random_state):
        return self

    def shares(self):
        """Return the weights as numbers of samples without weights, (n_samples,)."""
        return np.ones(len(self)) if self.weights is None else self.weights * (self.n_effective / self.weights.sum())

    def _with_columns(self, columns):
        return ArrayRows(np.hstack([self.source, columns]), self.weights)

    def samples(self, inputs, device, is_identity):
        x = tensor_of(inputs.source).to(device, torch.float32)
        target = x if x.shape[1] == self.n_features else x[:, : self.n_features]
        if not is_identity:
            target = tensor_of(self.source).to(device, torch.float32)
        return InMemorySamples(x, target, weights=self.weights)


class SparseRows(RowSource):
    """Samples of a CSR matrix."""

    def _read(self, index):
        return self.source[index].toarray()

    def complete(self, minimum, random_state):
        if self.size <= _HELD_DENSE or self.source.shape[1] < 2:
            return self.dense(minimum, random_state)
        return SparseComplete(self)

    def values_of_zero(self):
        """Return the value of a zero in each column, in samples that are not all zeros and in those that are."""
        samples = np.zeros((3, self.source.shape[1]), dtype=self.dtype)
        samples[0, 0] = samples[1, 1] = 1
        for function in self.functions:
            samples = function(samples)
        samples = samples.astype(np.float64)
        return np.append(samples[1, 0], samples[0, 1:]), samples[2]

    def check_imputable(self):
        raise TypeError("Sparse X has no missing values to impute. Pass a dense array, with nan for them.")

    def fingerprint_parts(self):
        return self.source.data, self.source.indices, self.source.indptr

    def sums(self):
        return np.asarray(self.source.sum(axis=1), dtype=np.float64).ravel()[self.resampled()]


class FileRows(RowSource):
    """Samples of an array in a file (`numpy.memmap`).

    Reading makes a copy and releases the pages that were read, so that neither private nor resident memory grows with
    the file.

    Parameters
    ----------
    source : memmap of shape (n_samples, n_features), or a view of one
        Of any real dtype; samples are in float32 if it is float32, else in float64.

    Attributes
    ----------
    has_missing : bool
        Whether an entry is nan; set by the check of samples.
    """

    def __init__(self, source):
        super().__init__(np.asarray(source))
        self.dtype = np.dtype(np.float32 if source.dtype == np.float32 else np.float64)
        self._owner = _memmap(source)
        self._left_out, self._kept = np.empty(0, dtype=np.int64), range(len(source))

    def __len__(self):
        return len(self._kept)

    def without(self, indices):
        """Return all samples but these, whose indices are sorted."""
        other, before = copy.copy(self), self._left_out + np.arange(len(self._left_out))
        left_out = np.sort(np.concatenate([before, self._places(indices)]))
        other._left_out = left_out - np.arange(len(left_out))  # positions among the kept samples
        other._kept = range(len(self) - len(indices))
        return self._align(other, lambda values: np.delete(values, indices, axis=0))

    def _subset(self, kept):
        return self.without(np.setdiff1d(np.arange(len(self)), kept))

    def part(self, rows):
        """Return the samples of a slice."""
        other = copy.copy(self)
        other._kept = self._kept[rows]
        return self._align(other, lambda values: values[rows])

    def _align(self, other, select):
        """Give other samples of the file the weights and further columns that belong to them."""
        other.weights, other.columns = (v if v is None else select(v) for v in (self.weights, self.columns))
        return other

    def most_at_once(self, minimum=1):
        return max(minimum, _HELD // self.n_features)

    origin = " in a file"
    _dataset = StreamedSamples

    def split_samples(self, inputs, held_out, device, is_identity):
        held_out = np.sort(held_out)
        training = self.without(held_out).samples(inputs.without(held_out), device, is_identity)
        return training, self.samples(inputs, device, is_identity).subset(held_out)

    def shuffled_blocks(self, permutation):
        """Yield lists of blocks to read and shuffle together: slices that contain each sample once.

        Parameters
        ----------
        permutation : callable
            n -> the ints below n in random order.
        """
        n_lists = -(-len(self) // self.most_at_once())
        n_blocks = min(len(self), n_lists * _SHUFFLED_BLOCKS)
        order = permutation(n_blocks)
        for i in range(n_lists):
            numbers = order[i * n_blocks // n_lists : (i + 1) * n_blocks // n_lists]
            yield [slice(b * len(self) // n_blocks, (b + 1) * len(self) // n_blocks) for b in numbers]

    def _places(self, index):
        """Return the positions of samples in the file."""
        places = self._kept.start + index
        return places + np.searchsorted(self._left_out, places, side="right")

    def _read(self, index):
        is_slice = isinstance(index, slice)
        together = is_slice and index.step in (None, 1)
        n_at_once = max(1, len(self)) if is_slice else _FAR_APART  # the system may map megabytes around each sample
        index = np.arange(*index.indices(len(self))) if is_slice else np.asarray(index)
        found = np.empty((len(index), self.source.shape[1]), dtype=self.dtype)
        for part in gen_batches(len(index), n_at_once):
            places = self._places(index[part])
            if together and len(places) and np.ptp(places) < len(places):  # a slice is copied faster
                places = slice(places[0], places[-1] + 1)
            found[part] = self.source[places]
            # Pages of a private mapping (mode "c") are kept: changes to them are in no file.
            if hasattr(mmap, "MADV_DONTNEED") and self._owner.mode != "c":
                self._owner._mmap.madvise(mmap.MADV_DONTNEED)
        return found


def is_streamed(X):
    """Return whether X is a large array in a file: a memmap, or a view of one of any type."""
    return _memmap(X) is not None and X.ndim == 2 and X.size > STREAMED_FROM


def _memmap(X):
    """Return the memmap that X is or is a view of, or None."""
    while isinstance(X, np.ndarray):
        if getattr(X, "_mmap", None) is not None:
            return X
        X = X.base
    return None
