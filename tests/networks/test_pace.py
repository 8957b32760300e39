"""How long networks are trained by default, and in which batches."""

import math

import pytest

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
        (Autoencoder, 60_000, 256, {}, (256, 128)),
        (Autoencoder, 60_000, 4097, {}, (256, 128)),
        (Autoencoder, 60_000, 784, {"ordered": True}, (256, 128)),
        (Autoencoder, 60_000, 784, {"feature_shape": (1, 28, 28)}, (128, 256)),
        (VAE, 60_000, 784, {}, (256, 128)),
    ],
)
def test_automatic_widths_are_large_for_many_samples_and_columns(model, n_samples, n_features, changes, widths):
    parameters = {"feature_shape": None, "ordered": False} | changes
    assert model.auto_widths(parameters, n_samples, n_features) == widths
