"""The datasets that batches are cut from: all kinds give the same samples."""

from itertools import chain

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from skae.data import rows as sources
from skae.data import statistics
from skae.data.datasets import InMemorySamples, Samples, StreamedSamples
from skae.data.rows import ArrayRows, FileRows, SparseRows

CPU = torch.device("cpu")
KINDS = ["in memory", "subset", "sparse", "some sparse", "file", "part of a file", "some of a file"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Little is held at once, so that a file of few samples is read in several blocks."""
    for name, value in (("_HELD", 8), ("_SHUFFLED_BLOCKS", 2), ("_READ", 4)):
        monkeypatch.setattr(sources, name, value)


@pytest.fixture(params=[False, True], ids=["one tensor", "two tensors"])
def separate(request):
    return request.param


@pytest.fixture(params=KINDS)
def case(request, separate, tmp_path):
    """A dataset of the numbers it says, and these; targets are inputs, or ten times these."""
    numbers = np.arange(20.0)[:, None] + 1
    path = tmp_path / "rows.npy"
    np.save(path, numbers)
    in_file = FileRows(np.load(path, mmap_mode="r"))
    sparse = SparseRows(csr_matrix(numbers))
    tensor = torch.from_numpy(numbers).float()

    def of(kind, inputs, *rest):
        return kind(inputs, inputs.map(lambda x: 10 * x) if separate else inputs, *rest)

    left = in_file.without(np.array([0, 7, 19]))
    in_memory = InMemorySamples(tensor, 10 * tensor if separate else tensor)
    some = torch.arange(3, 17)
    kinds = {
        "in memory": (in_memory, range(20)),
        "subset": (in_memory.subset(some), range(3, 17)),
        "sparse": (of(Samples, sparse, CPU), range(20)),
        "some sparse": (of(Samples, sparse, CPU).subset(some), range(3, 17)),
        "file": (of(StreamedSamples, in_file, CPU), range(20)),
        "part of a file": (of(StreamedSamples, left, CPU), [*range(1, 7), *range(8, 19)]),
        "some of a file": (of(StreamedSamples, in_file, CPU).subset(some), range(3, 17)),
    }
    dataset, expected = kinds[request.param]
    return dataset, np.array(expected, dtype=np.float32) + 1


def numbers_of(batches, separate):
    drawn = [(x.clone(), target.clone()) for x, target in batches]
    for x, target in drawn:
        assert x.dtype == torch.float32
        assert torch.equal(target, 10 * x if separate else x)
    return [x[:, 0].numpy() for x, _ in drawn]


@pytest.mark.parametrize("n_batches", [1, 3, 7])
def test_in_order_samples_come_as_they_are_in_even_batches(case, separate, n_batches):
    dataset, expected = case
    found = numbers_of(dataset.in_order(n_batches), separate)
    np.testing.assert_array_equal(np.concatenate(found), expected)
    sizes = [len(x) for x in found]
    assert len(sizes) == n_batches
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("reuse_memory", [False, True])
@pytest.mark.parametrize("n_batches", [1, 3, 7])
def test_shuffled_samples_come_once_each_in_even_batches(case, separate, n_batches, reuse_memory, seed):
    dataset, expected = case
    generator = torch.Generator().manual_seed(seed)
    first, second = (numbers_of(dataset.shuffled(n_batches, generator, reuse_memory), separate) for _ in range(2))
    for found in (first, second):
        np.testing.assert_array_equal(np.sort(np.concatenate(found)), expected)
        sizes = [len(x) for x in found]
        assert len(sizes) == n_batches
        assert max(sizes) - min(sizes) <= 1
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    again = numbers_of(dataset.shuffled(n_batches, torch.Generator().manual_seed(seed)), separate)
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))


@pytest.mark.parametrize("index", [slice(2, 9), slice(None), np.array([4, 1, 1]), torch.tensor([0, 5])])
def test_samples_are_indexed_as_arrays_are(case, separate, index):
    dataset, expected = case
    (found,) = numbers_of([dataset[index]], separate)
    np.testing.assert_array_equal(found, expected[index])


def test_a_subset_of_a_subset_is_one_of_the_whole(case, separate):
    dataset, expected = case
    indices = torch.tensor([9, 2, 5, 0])
    some = dataset.subset(indices).subset(np.array([3, 1]))
    assert len(some) == 2
    (found,) = numbers_of([some[:]], separate)
    np.testing.assert_array_equal(found, expected[[0, 2]])
    assert len(dataset) == len(expected)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_are_all_samples_once_and_even(case, separate, size):
    dataset, expected = case
    shares = [dataset.share(rank, size) for rank in range(size)]
    found = [numbers_of(share.in_order(1), separate)[0].tolist() for share in shares]
    assert sorted(chain.from_iterable(found)) == expected.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_too_few_samples_are_not_shared(case):
    dataset, expected = case
    assert all(len(dataset.share(rank, 30)) == len(expected) for rank in range(30))


def test_noise_is_added_to_the_inputs_alone(case, separate):
    dataset, expected = case
    noisy = dataset.with_noise(torch.tensor([0.5]), torch.Generator().manual_seed(0))
    x, target = noisy[:]
    noise = x[:, 0].numpy() - expected
    assert 0.2 < noise.std() < 0.9
    np.testing.assert_array_equal(target[:, 0].numpy(), (10 if separate else 1) * expected)
    assert torch.equal(x, noisy[:][0])


@pytest.mark.parametrize("missing", ["neither", "inputs", "targets"])
def test_samples_in_memory_know_whether_values_are_missing(missing):
    inputs, targets = torch.ones(4, 2), torch.ones(4, 3)
    {"inputs": inputs, "targets": targets}.get(missing, torch.empty(1, 1))[0, 0] = torch.nan
    samples = InMemorySamples(inputs, targets)
    assert samples.is_complete == samples.subset([1, 2]).is_complete == (missing == "neither")


def test_what_is_read_is_not_known_to_be_complete():
    source = SparseRows(csr_matrix(np.ones((3, 2))))
    assert not Samples(source, source, CPU).is_complete


def test_observed_shares_count_the_values_of_targets():
    targets = torch.ones(10_001, 3)
    targets[:5000, 0] = targets[:1, 2] = torch.nan
    shares = InMemorySamples(torch.ones(10_001, 2), targets).observed_shares()
    np.testing.assert_allclose(shares, [5001 / 10_001, 1, 10_000 / 10_001])


@pytest.mark.parametrize("kind", ["in memory", "sparse", "file"])
def test_weights_come_with_their_samples(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "_MOST_REPEATED", 20)
    numbers, weights = np.arange(1.0, 21)[:, None], np.arange(1.0, 21)
    np.save(tmp_path / "rows.npy", numbers)
    kinds = {"in memory": ArrayRows, "sparse": lambda x: SparseRows(csr_matrix(x)), "file": FileRows}
    rows = kinds[kind](np.load(tmp_path / "rows.npy", mmap_mode="r")).weighted(np.where(weights == 3, 0, weights))
    assert len(rows) == 19
    training, held_out = rows.split_samples(rows, np.array([4, 11, 15]), CPU, True)
    for dataset, present in ((training, {*range(1, 21)} - {3, 6, 13, 17}), (held_out, {6, 13, 17})):
        normal = dataset.normalised()
        for samples, unit in ((dataset, 1.0), (normal, np.mean([*present]))):
            for batches in (
                samples.in_order(3),
                samples.shuffled(3, torch.Generator().manual_seed(0), reuse_memory=True),
                [samples[:]],
                [part for rank in (0, 1) for part in samples.share(rank, 2).in_order(1)],
                samples.with_noise(torch.zeros(1), torch.Generator()).in_order(2),
            ):
                found = [(x.clone(), w.clone()) for x, _, w in batches]
                x, w = (torch.cat(part).flatten() for part in zip(*found, strict=True))
                assert set(x.tolist()) == present
                torch.testing.assert_close((w * unit).float(), x)
        represented = normal.unweighted()
        assert np.bincount(represented[:][0].flatten().int(), minlength=21).tolist() == [
            k if k in present else 0 for k in range(21)
        ]
        assert represented.weights is None
    targets = torch.tensor([[1.0], [np.nan]])
    samples = InMemorySamples(torch.ones(2, 1), targets, weights=np.array([3.0, 1.0])).normalised()
    assert samples.observed_shares() == [0.75]
