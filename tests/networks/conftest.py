"""The source of random numbers of a test of networks."""

import pytest
import torch


@pytest.fixture
def generator(seed):
    return torch.Generator().manual_seed(seed)
