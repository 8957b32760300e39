"""The imputer: missing values are conditional means, and an encoder may be told where they are."""

import numpy as np
import pytest
import torch
from network_cases import normal

from skae._torch import known_complete
from skae.linear.gaussian import LinearGaussian
from skae.networks.imputation import Imputer


def model(location, loadings, noise):
    return LinearGaussian(location.numpy(), loadings.numpy(), noise.numpy())


def test_missing_values_are_filled_with_their_conditional_mean(generator):
    imputer, location = Imputer(4, 3).double(), normal(generator, 4)
    loadings, noise, x = normal(generator, 4, 2), normal(generator, 4).exp(), normal(generator, 5, 4)
    assert imputer.fill(x) is x
    x[:, 1] = torch.nan
    there = [0, 2, 3]
    assert torch.equal(imputer.fill(x), x.nan_to_num(0.0))
    imputer.start_at(model(normal(generator, 4), normal(generator, 4, 3), noise))
    imputer.start_at(model(location, loadings, noise))  # which leaves nothing of the third component
    covariance = loadings @ loadings.T + noise.diag()
    gain = torch.linalg.solve(covariance[there][:, there], covariance[there, 1])
    torch.testing.assert_close(imputer.fill(x)[:, 1], location[1] + (x - location)[:, there] @ gain)
    assert torch.equal(imputer.fill(x)[:, there], x[:, there])


def test_an_encoder_is_given_the_mask_if_asked_and_else_complete_samples(generator):
    x = normal(generator, 5, 4)
    x[0, 1] = torch.nan
    rows, mask = x.nan_to_num(0.0), x.isnan().double()
    masked, plain, encoder = Imputer(4, 2, True).double(), Imputer(4, 2).double(), torch.nn.Identity()
    assert torch.equal(masked(encoder, x), torch.cat([rows, mask], 1))
    assert torch.equal(masked(encoder, rows), torch.cat([rows, 0 * mask], 1))
    assert torch.equal(plain.eval()(encoder, x), rows)
    with known_complete(True):  # nobody looks
        assert plain(encoder, x) is x
    assert torch.equal(plain(encoder, x), rows)


def test_samples_of_float32_are_filled_in_float32(generator):
    imputer, x = Imputer(4, 2, True), normal(generator, 5, 4).float()
    imputer.start_at(model(normal(generator, 4), normal(generator, 4, 2), normal(generator, 4).exp()))
    x[:, 1] = torch.nan
    single, double = imputer.fill(x), imputer.double().fill(x.double())
    assert single.dtype == imputer.float()(torch.nn.Identity(), x).dtype == torch.float32
    torch.testing.assert_close(single, double.float())


@pytest.mark.parametrize(("noise", "kept"), [(0.0, 1e-37), (1e-300, 1e-37), (1e300, 1e37), (2.0, 2.0)])
def test_noise_is_within_what_float32_can_divide_by(noise, kept):
    imputer = Imputer(1, 1).double()
    imputer.start_at(LinearGaussian(np.zeros(1), np.ones((1, 1)), np.full(1, noise)))
    assert imputer.noise.item() == kept
    single = imputer.float().noise
    assert single > 0
    assert (1 / single).isfinite()


def test_a_model_that_imputes_is_no_part_of_a_graph_and_not_trained():
    imputer = Imputer(2, 3)
    imputer.start_at(LinearGaussian(np.ones(2), np.ones((2, 3)), np.ones(2)))
    assert not list(imputer.parameters())
    assert not any(buffer.requires_grad for buffer in imputer.buffers())


def test_columns_that_begin_to_vary_are_regressed_on_codes(seed):
    generator = torch.Generator().manual_seed(seed)
    loadings = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    z = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    x = z @ loadings.T + 0.3 * torch.randn(4000, 5, generator=generator, dtype=torch.float64)
    began = torch.tensor([False, False, True, False, False])
    imputer = Imputer(5, 2).double()
    noise = np.where(began, 1.0, 0.09)
    imputer.start_at(LinearGaussian(np.zeros(5), np.where(began[:, None], 0, loadings), noise))
    before = imputer.loadings.clone()
    imputer.begin_columns(began, x, torch.ones(len(x), dtype=x.dtype))
    torch.testing.assert_close(imputer.loadings[~began], before[~began])
    missing = torch.where(began, torch.nan, x)
    error = (imputer.fill(missing) - x)[:, 2].square().mean()
    torch.testing.assert_close(error, imputer.noise[2], rtol=0.1, atol=0)
    assert error < 0.5 * x[:, 2].square().mean()
