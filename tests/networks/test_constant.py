"""The density of columns that were constant in training."""

import copy
import math

import pytest
import torch

from skae.networks.constant import ConstantColumns


def columns():
    built = ConstantColumns(4)
    constant = torch.tensor([True, True, False, True])
    value, zero = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    rate, penalty = torch.tensor([10.0, 0, 9, 2.0]).double(), torch.tensor([0.0, 5, 9, 0]).double()
    built.start_at(constant, value, rate, penalty, zero + torch.tensor([0.0, 0, 9, 0.5]))
    return built


def test_a_distance_counts_by_its_square_and_another_value_by_its_penalty():
    x = torch.tensor([[1.0, 2, 7, 4], [1.5, 2, 7, 4], [1, 2.5, 7, 4], [1, 2, 7, 5]])
    torch.testing.assert_close(columns()(x), -torch.tensor([0.5, 0.5 + 12.5, 0.5 + 5, 0.5 + 2]).double())


def test_missing_values_and_columns_that_vary_count_nothing():
    x = torch.tensor([[math.nan, 2, math.nan, math.nan], [1, 2, 1e30, 4]])
    torch.testing.assert_close(columns()(x), torch.tensor([0.0, -0.5]).double())


def test_rounding_to_float32_is_no_other_value():
    built = columns()
    built.value[1] = 1 / 3
    assert built(torch.tensor([[1, 1 / 3, 0, 4]], dtype=torch.float32)) == -0.5


def test_values_stay_exact_in_a_float32_network():
    built = columns()
    built.value[0] = 1 / 3
    assert copy.deepcopy(built).float().value[0] == built.value[0]


def test_forgotten_columns_count_nothing_and_noise_is_that_of_normal_densities():
    built = columns()
    assert built.noise.tolist() == pytest.approx([0, 0, 0, 0.25])
    built.forget(torch.tensor([True, False, False, True]))
    x = torch.tensor([[9.0, 2, 7, 9]])
    assert built(x) == 0
