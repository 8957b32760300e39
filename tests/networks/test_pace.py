"""How long networks are trained by default, and in which batches."""

import math

import pytest
import torch
from network_cases import spec

from skae.networks.autoencoder import Autoencoder
from skae.networks.model import Pace
from skae.networks.vae import VAE


@pytest.mark.parametrize(
    ("n_samples", "size"),
    [(2, 32), (190, 32), (300, 64), (1000, 128), (1400, 256), (20_000, 256), (80_000, 512), (320_000, 1024)],
)
def test_batches_have_a_part_of_the_samples_up_to_a_limit_that_grows_with_many(n_samples, size):
    assert Pace(6, 256).auto_batch_size(n_samples) == size


@pytest.mark.parametrize("n_samples", [100, 20_000, 80_000, 5 * 10**6])
def test_epochs_become_fewer_with_many_samples(n_samples):
    pace = Pace(passes=100)
    assert pace.auto_epochs(n_samples) == math.ceil(100 / max(1, n_samples / 20_000) ** 0.5)


def test_many_samples_get_the_same_number_of_steps():
    pace = Pace(6, 256, passes=100)

    def steps(numbers):
        return [pace.auto_epochs(n) * n / pace.auto_batch_size(n) for n in numbers]

    exact = steps([20_000, 80_000, 320_000, 1_280_000])
    assert max(exact) < 1.05 * min(exact)
    between = steps(range(20_000, 320_000, 3_000))  # batch sizes are rounded, by a factor of at most sqrt(2)
    assert max(between) < 1.5 * min(exact)
    assert max(exact) < 1.5 * min(between)


@pytest.mark.parametrize(
    ("model", "n_samples", "n_features", "changes", "widths"),
    [
        (Autoencoder, 20_000, 257, {}, (1000, 500, 250)),
        (Autoencoder, 60_000, 4096, {}, (1000, 500, 250)),
        (Autoencoder, 19_999, 784, {}, (256, 128)),
        (Autoencoder, 5_000, 784, {}, (256, 128)),
        (Autoencoder, 4_999, 784, {}, (192, 96)),
        (Autoencoder, 4_999, 784, {"ordered": True}, (256, 128)),
        (Autoencoder, 4_999, 784, {"start": "random"}, (256, 128)),
        (Autoencoder, 4_999, 784, {"feature_shape": (1, 28, 28)}, (128, 256)),
        (Autoencoder, 60_000, 256, {}, (256, 128)),
        (Autoencoder, 60_000, 4097, {}, (256, 128)),
        (Autoencoder, 60_000, 784, {"ordered": True}, (256, 128)),
        (Autoencoder, 60_000, 784, {"feature_shape": (1, 28, 28)}, (128, 256)),
        (VAE, 60_000, 784, {}, (256, 128)),
        (VAE, 4_999, 784, {}, (128, 64)),
        (Autoencoder, 4_999, 784, {"decoder": torch.nn.Linear}, (256, 128)),
        (VAE, 4_999, 784, {"likelihood": "poisson"}, (256, 128)),
        (VAE, 4_999, 784, {"likelihood": "isotropic_gaussian"}, (256, 128)),
        (VAE, 4_999, 784, {"ordered": True}, (256, 128)),
        (VAE, 4_999, 784, {"start": "random"}, (256, 128)),
        (VAE, 4_999, 784, {"encoder": torch.nn.Linear}, (256, 128)),
        (VAE, 4_999, 784, {"likelihood": "auto"}, (256, 128)),
        (VAE, 4_999, 784, {"feature_shape": (1, 28, 28)}, (128, 256)),
    ],
)
def test_automatic_widths_grow_with_samples_and_columns(model, n_samples, n_features, changes, widths):
    own = {"encoder": None, "decoder": None}
    parameters = {"start": "pca", "feature_shape": None, "ordered": False, "likelihood": "gaussian"} | own | changes
    assert model.auto_widths(parameters, n_samples, n_features) == widths


@pytest.mark.parametrize(("n_components", "gain"), [(1, 4), (2, 4), (8, 2), (32, 1), (500, 1)])
def test_the_fewer_components_the_larger_an_autoencoders_first_weights(n_components, gain):
    assert Autoencoder.pace(spec(n_components=n_components)).gain == pytest.approx(gain)


@pytest.mark.parametrize(
    ("model", "widths", "rate", "passes"),
    [
        (Autoencoder, (), 1e-2, 120),
        (Autoencoder, (96, 192), 1e-2, 120),
        (Autoencoder, (193,), 8e-3, 90),
        (Autoencoder, (512,), 8e-3, 90),
        (Autoencoder, (513,), 3e-3, 140),
        (VAE, (), 1.2e-2, 150),
        (VAE, (128, 64), 1.2e-2, 150),
        (VAE, (129,), 8e-3, 150),
    ],
)
def test_wider_networks_train_at_lower_rates(model, widths, rate, passes):
    pace = model.pace(spec(hidden_layer_sizes=widths))
    assert (pace.rate, pace.passes) == (rate, passes)


def test_a_vaes_first_weights_do_not_depend_on_its_components():
    assert VAE.pace(spec(n_components=2)).gain == VAE.pace(spec(n_components=32)).gain == 1.7
