"""Datasets from which batches are sliced: in memory, read on demand, or streamed from a file."""

import copy
from functools import cached_property

import numpy as np
import torch
from torch.utils.data import Dataset

from skae._torch import has_missing
from skae.data.statistics import n_unweighted, resampled

# Samples whose missing values are counted at once.
_COUNTED = 4096


class Samples(Dataset):
    """Dataset of inputs of a network and targets of its output: ``samples[index]`` is the pair (x, target).

    If samples have weights, a third tensor holds these. Samples of a sparse matrix or a file are made dense on demand.

    Parameters
    ----------
    inputs, targets : indexable by slices and arrays of ints, of shape (n_samples, n_inputs) and (n_samples, n_targets)
        If they are the same object, x and target are the same tensor.
    device : torch.device
        Device of x and target.
    indices : array or Tensor of int, or None, default=None
        Indices of the samples in this dataset; None for all.
    weights : ndarray or Tensor of shape (n_samples,), or None, default=None
        Weights of all samples, also of those that are not in this dataset; None if they are equal.
    """

    # Whether it is known that no value is missing.
    is_complete = False
    # Number of samples without weights that represent those of this dataset.
    n_unweighted = None

    def __init__(self, inputs, targets, device, indices=None, weights=None):
        self.inputs, self.targets, self.device, self.indices = inputs, targets, device, indices
        self._weights = None if weights is None else torch.as_tensor(weights).to(device)

    def __len__(self):
        return len(self.inputs if self.indices is None else self.indices)

    def __getitem__(self, index):
        index = index if isinstance(index, slice) else self._as_index(index)
        index = index if self.indices is None else self.indices[index]
        x = self._read(self.inputs, index)
        target = x if self.targets is self.inputs else self._read(self.targets, index)
        return (x, target) if self._weights is None else (x, target, self._weights[index])

    @property
    def weights(self):
        """Weights of the samples of this dataset, with mean 1: (n_samples,), or None if they are equal."""
        if self._weights is None or self.indices is None:
            return self._weights
        return self._weights[self.indices]

    def normalised(self):
        """Return the samples with weights divided by their mean, so that a mean over samples is a weighted one."""
        if self._weights is None:
            return self
        other, weights = copy.copy(self), self.weights.double()
        other.n_unweighted = n_unweighted(weights.numpy(force=True), 1)
        other._weights = (self._weights / weights.mean()).float()
        return other

    def unweighted(self):
        """Return samples without weights, in which each occurs in proportion to its weight."""
        if self._weights is None:
            return self
        other = self.subset(resampled(self.weights.numpy(force=True).astype(np.float64), self.n_unweighted))
        other._weights = None
        return other

    def in_order(self, n_batches):
        """Return an iterator over the samples in batches whose sizes differ by at most one."""
        return map(self.__getitem__, torch.arange(len(self)).tensor_split(n_batches))

    def shuffled(self, n_batches, generator, reuse_memory=False):
        """Return an iterator over the samples in random order, in batches whose sizes differ by at most one.

        Parameters
        ----------
        n_batches : int
        generator : torch.Generator
            Source of the order.
        reuse_memory : bool, default=False
            Whether a batch may overwrite the one before: allocating memory takes about as long as the copy.
        """
        return map(self.__getitem__, _permutation(len(self), generator).tensor_split(n_batches))

    def subset(self, indices):
        """Return the dataset of the samples of these indices."""
        other, indices = copy.copy(self), self._as_index(indices)
        other.indices = indices if self.indices is None else self.indices[indices]
        return other

    def with_noise(self, deviation, generator):
        """Return the samples in memory, with one draw of Gaussian noise added to the inputs, see `add_noise`."""
        inputs, targets = self[:][:2]
        deviation = deviation.to(inputs.device, torch.float32)
        return InMemorySamples(add_noise(inputs, deviation, generator), targets, weights=self.weights)

    def observed_shares(self):
        """Return the share of observed target values in each column, an array of shape (n_targets,)."""
        n_batches = -(-len(self) // _COUNTED)
        observed = sum(_weighted(~batch[1].isnan(), *batch[2:]).sum(0) for batch in self.in_order(n_batches))
        return observed.numpy(force=True) / len(self)

    def share(self, rank, size):
        """Return the samples of process ``rank`` of ``size``: every ``size``-th one, or all if there are fewer."""
        return self if size == 1 or len(self) < size else self._share(rank, size)

    def _share(self, rank, size):
        return self.subset(torch.arange(rank, len(self), size))

    def _as_index(self, index):
        return torch.as_tensor(index).numpy(force=True)

    def _read(self, rows, index):
        return torch.from_numpy(rows[index]).to(self.device, torch.float32)


class InMemorySamples(Samples):
    """Samples in tensors.

    Parameters
    ----------
    inputs, targets : Tensor
        On the same device. If they are the same tensor, it is read once for each batch.
    indices : Tensor of int or None, default=None
    weights : as for `Samples`
    """

    def __init__(self, inputs, targets, indices=None, weights=None):
        super().__init__(inputs, targets, inputs.device, indices, weights)

    @cached_property
    def is_complete(self):
        return not any(map(has_missing, {self.inputs, self.targets}))

    def in_order(self, n_batches):
        if self.indices is None:
            return zip(*(part.tensor_split(n_batches) for part in self._parts), strict=True)
        return _gathered(self._parts, self.indices.tensor_split(n_batches))

    def shuffled(self, n_batches, generator, reuse_memory=False):
        order = _permutation(len(self), generator)
        order = order if self.indices is None else self.indices[order]
        return _gathered(self._parts, order.tensor_split(n_batches), reuse_memory)

    @property
    def _parts(self):
        return (self.inputs, self.targets) if self._weights is None else (self.inputs, self.targets, self._weights)

    def _as_index(self, index):
        return torch.as_tensor(index, device=self.device)

    def _read(self, rows, index):
        return rows[index]


class StreamedSamples(Samples):
    """Samples of a file, read in order, or in lists of blocks whose samples are shuffled together."""

    def in_order(self, n_batches):
        n = len(self)
        return (self[i * n // n_batches : (i + 1) * n // n_batches] for i in range(n_batches))

    def shuffled(self, n_batches, generator, reuse_memory=False):
        n_samples, n_read, first, rest = len(self), 0, 0, None
        for slices in self.inputs.shuffled_blocks(lambda n: _permutation(n, generator).tolist()):
            parts = self._load(slices, rest)
            n_read += sum(part.stop - part.start for part in slices)
            last = ((n_read + 1) * n_batches - 1) // n_samples  # batches that are complete by now
            ends = [(i * n_samples) // n_batches - (first * n_samples) // n_batches for i in range(first + 1, last + 1)]
            *batches, left = _permutation(len(parts[0]), generator).tensor_split(ends)
            yield from _gathered(parts, batches, reuse_memory)
            first, rest = last, [part.index_select(0, left) for part in parts]

    def subset(self, indices):
        return Samples(self.inputs, self.targets, self.device, weights=self._weights).subset(indices)

    def _share(self, rank, size):
        part = slice(rank * len(self) // size, (rank + 1) * len(self) // size)
        inputs = self.inputs.part(part)
        targets = inputs if self.targets is self.inputs else self.targets.part(part)
        weights = None if self._weights is None else self._weights[part]
        return StreamedSamples(inputs, targets, self.device, weights=weights)

    def _load(self, slices, rest):
        """Return inputs, targets and weights of these slices, appended to ``rest``, those left from before."""
        begin = 0 if rest is None else len(rest[0])
        n_samples = begin + sum(part.stop - part.start for part in slices)
        x = torch.empty((n_samples, self.inputs.shape[1]), dtype=torch.float32, device=self.device)
        target = x if self.targets is self.inputs else x.new_empty((n_samples, self.targets.shape[1]))
        parts = (x, target) if self._weights is None else (x, target, x.new_empty(n_samples))
        for whole, before in zip(parts, rest or (), strict=False):
            whole[:begin] = before
        for part in slices:
            end = begin + part.stop - part.start
            for whole, read in zip(parts, self[part], strict=True):
                whole[begin:end] = read
            begin = end
        return parts


def add_noise(x, deviation, generator):
    """Add Gaussian noise to x (n, n_features), with the standard deviation of each column (n_features,)."""
    return x + deviation * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _permutation(n, generator):
    return torch.randperm(n, generator=generator, device=generator.device)


def _gathered(parts, batches, reuse_memory=False):
    """Yield batches of inputs, targets and weights, if there are any, for each tensor of indices."""
    n_largest = max(map(len, batches), default=0)
    memory = [part.new_empty((n_largest, *part.shape[1:])) if reuse_memory else None for part in parts]
    for index in batches:
        x = _gather(parts[0], index, memory[0])
        rest = zip(parts[1:], memory[1:], strict=True)
        yield x, *(x if part is parts[0] else _gather(part, index, kept) for part, kept in rest)


def _weighted(values, weights=None):
    """Return values (n, ...) times the weights (n,) of their samples, if there are any."""
    return values if weights is None else values * weights[:, None]


def _gather(tensor, index, memory):
    return torch.index_select(tensor, 0, index, out=None if memory is None else memory[: len(index)])
