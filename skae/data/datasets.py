"""Datasets from which batches are sliced: in memory, read on demand, or streamed from a file."""

import copy
from functools import cached_property

import torch
from torch.utils.data import Dataset

from skae._torch import has_missing

# Samples whose missing values are counted at once.
_COUNTED = 4096


class Samples(Dataset):
    """Dataset of inputs of a network and targets of its output: ``samples[index]`` is the pair (x, target).

    Samples of a sparse matrix or a file are made dense on demand.

    Parameters
    ----------
    inputs, targets : indexable by slices and arrays of ints, of shape (n_samples, n_inputs) and (n_samples, n_targets)
        If they are the same object, x and target are the same tensor.
    device : torch.device
        Device of x and target.
    indices : array or Tensor of int, or None, default=None
        Indices of the samples in this dataset; None for all.
    """

    # Whether it is known that no value is missing.
    is_complete = False

    def __init__(self, inputs, targets, device, indices=None):
        self.inputs, self.targets, self.device, self.indices = inputs, targets, device, indices

    def __len__(self):
        return len(self.inputs if self.indices is None else self.indices)

    def __getitem__(self, index):
        index = index if isinstance(index, slice) else self._as_index(index)
        index = index if self.indices is None else self.indices[index]
        x = self._read(self.inputs, index)
        return x, (x if self.targets is self.inputs else self._read(self.targets, index))

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
        inputs, targets = self[:]
        deviation = deviation.to(inputs.device, torch.float32)
        return InMemorySamples(add_noise(inputs, deviation, generator), targets)

    def observed_shares(self):
        """Return the share of observed target values in each column, an array of shape (n_targets,)."""
        n_batches = -(-len(self) // _COUNTED)
        n_observed = sum((~target.isnan()).sum(0) for _, target in self.in_order(n_batches))
        return n_observed.numpy(force=True) / len(self)

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
    """

    def __init__(self, inputs, targets, indices=None):
        super().__init__(inputs, targets, inputs.device, indices)

    @cached_property
    def is_complete(self):
        return not any(map(has_missing, {self.inputs, self.targets}))

    def in_order(self, n_batches):
        if self.indices is None:
            return zip(self.inputs.tensor_split(n_batches), self.targets.tensor_split(n_batches), strict=True)
        return _gathered(self.inputs, self.targets, self.indices.tensor_split(n_batches))

    def shuffled(self, n_batches, generator, reuse_memory=False):
        order = _permutation(len(self), generator)
        order = order if self.indices is None else self.indices[order]
        return _gathered(self.inputs, self.targets, order.tensor_split(n_batches), reuse_memory)

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
            inputs, targets = self._load(slices, rest)
            n_read += sum(part.stop - part.start for part in slices)
            last = ((n_read + 1) * n_batches - 1) // n_samples  # batches that are complete by now
            ends = [(i * n_samples) // n_batches - (first * n_samples) // n_batches for i in range(first + 1, last + 1)]
            *batches, left = _permutation(len(inputs), generator).tensor_split(ends)
            yield from _gathered(inputs, targets, batches, reuse_memory)
            first, rest = last, (inputs.index_select(0, left), targets.index_select(0, left))

    def subset(self, indices):
        return Samples(self.inputs, self.targets, self.device).subset(indices)

    def _share(self, rank, size):
        part = slice(rank * len(self) // size, (rank + 1) * len(self) // size)
        inputs = self.inputs.part(part)
        targets = inputs if self.targets is self.inputs else self.targets.part(part)
        return StreamedSamples(inputs, targets, self.device)

    def _load(self, slices, rest):
        """Return inputs and targets of these slices, appended to ``rest``, those left from before."""
        begin = 0 if rest is None else len(rest[0])
        n_samples = begin + sum(part.stop - part.start for part in slices)
        x = torch.empty((n_samples, self.inputs.shape[1]), dtype=torch.float32, device=self.device)
        target = x if self.targets is self.inputs else x.new_empty((n_samples, self.targets.shape[1]))
        if rest is not None:
            x[:begin], target[:begin] = rest
        for part in slices:
            end = begin + part.stop - part.start
            x[begin:end], target[begin:end] = self[part]
            begin = end
        return x, target


def add_noise(x, deviation, generator):
    """Add Gaussian noise to x (n, n_features), with the standard deviation of each column (n_features,)."""
    return x + deviation * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _permutation(n, generator):
    return torch.randperm(n, generator=generator, device=generator.device)


def _gathered(inputs, targets, batches, reuse_memory=False):
    """Yield batches of inputs and targets for each tensor of indices."""
    n_largest = max(map(len, batches), default=0)
    memory = [part.new_empty((n_largest, *part.shape[1:])) if reuse_memory else None for part in (inputs, targets)]
    for index in batches:
        x = _gather(inputs, index, memory[0])
        yield x, (x if targets is inputs else _gather(targets, index, memory[1]))


def _gather(tensor, index, memory):
    return torch.index_select(tensor, 0, index, out=None if memory is None else memory[: len(index)])
