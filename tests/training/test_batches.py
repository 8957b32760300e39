"""Batches: every sample once an epoch, in sizes that are even, with noise on the inputs alone."""

import numpy as np
import pytest
import torch

from skae.data.datasets import InMemorySamples
from skae.training.batches import Batches


def dataset(n, separate=False):
    x = torch.arange(n, dtype=torch.float32)[:, None]
    return InMemorySamples(x, x + 0.5 if separate else x)


@pytest.mark.parametrize("n", [1, 7, 32, 33, 100])
@pytest.mark.parametrize("separate", [False, True])
def test_an_epoch_sees_each_sample_once_in_even_batches(n, separate, seed):
    batches = Batches(dataset(n, separate), 32, torch.Generator().manual_seed(seed))
    drawn = list(batches)
    assert len(drawn) == len(batches) == -(-n // 32)
    x = torch.cat([x for x, _ in drawn])[:, 0]
    assert sorted(x.tolist()) == list(range(n))
    sizes = {len(x) for x, _ in drawn}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 32
    assert all(torch.equal(target, x + 0.5 * separate) for x, target in drawn)


def test_each_epoch_has_an_order_of_its_own_and_one_seed_one_order():
    def orders():
        batches = Batches(dataset(50), 8, torch.Generator().manual_seed(0))
        return [torch.cat([x for x, _ in batches]) for _ in range(2)]

    (first, second), (again, _) = orders(), orders()
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("reuse_memory", [False, True])
@pytest.mark.parametrize("separate", [False, True])
def test_a_subset_gives_its_own_samples_only(reuse_memory, separate, seed):
    indices = torch.arange(3, 40, 2)
    generator = torch.Generator().manual_seed(seed)
    shuffled = Batches(dataset(50, separate).subset(indices), 7, generator, reuse_memory=reuse_memory)
    drawn = torch.cat([torch.hstack(batch) for batch in shuffled])
    assert sorted(drawn[:, 0].tolist()) == indices.tolist()
    assert torch.equal(drawn[:, 1], drawn[:, 0] + 0.5 * separate)
    in_order = Batches(dataset(50).subset(indices), 7, reuse_memory=reuse_memory)
    assert torch.equal(torch.cat([x.clone() for x, _ in in_order])[:, 0].long(), indices)


@pytest.mark.parametrize("reuse_memory", [False, True])
def test_batches_take_the_memory_of_those_before_if_they_may(reuse_memory):
    batches = Batches(dataset(50), 8, torch.Generator().manual_seed(0), reuse_memory=reuse_memory)
    kept = [x for x, _ in batches]
    assert len({x.data_ptr() for x in kept}) == (1 if reuse_memory else len(kept))


def test_noise_changes_inputs_only_and_has_the_given_size():
    x = torch.zeros(20000, 2)
    batches = Batches(InMemorySamples(x, x), 5000, torch.Generator().manual_seed(0), torch.tensor([0.5, 2.0]))
    x, target = (torch.cat(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_allclose(x.std(dim=0), [0.5, 2.0], rtol=0.03)
    assert not target.any()


def test_samples_are_never_fetched_singly(monkeypatch, seed):
    many_at_once = InMemorySamples.__getitem__

    def get(self, index):
        assert isinstance(index, slice) or index.ndim == 1, "a sample was fetched"
        return many_at_once(self, index)

    monkeypatch.setattr(InMemorySamples, "__getitem__", get)
    for generator in (None, torch.Generator().manual_seed(seed)):
        for samples in (dataset(50), dataset(50).subset(torch.arange(20))):
            assert sum(len(x) for x, _ in Batches(samples, 8, generator)) == len(samples)
