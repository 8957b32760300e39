"""scikit-learn's estimator contract, with no excuses."""

import numpy as np
import pytest
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from skae import AutoencoderTransformer, AutoencoderTransformerCV, VAEGenerator

# Random rows have nothing to learn, and the estimators say so.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class OwnCoder(nn.Sequential):
    """A class, whose name the checks show without an address."""

    def __init__(self, n_in, n_out):
        super().__init__(nn.Linear(n_in, 6), nn.Tanh(), nn.Linear(6, n_out))


class UnitInterval:
    """Squashes rows of any kind into [0, 1], since scikit-learn has no tag for data that log_loss takes."""

    def _check_rows(self, X, **kwargs):
        return expit(super()._check_rows(X, **kwargs))

    def _check_values(self, X):
        pass


class UnitIntervalAutoencoder(UnitInterval, AutoencoderTransformer):
    pass


class UnitIntervalVAE(UnitInterval, VAEGenerator):
    pass


class CountVAE(VAEGenerator):
    """Makes counts of rows of any kind: scikit-learn's have fractions."""

    def _check_rows(self, X, **kwargs):
        if issparse(X):
            return super()._check_rows(abs(X).floor(), **kwargs)
        return np.floor(np.abs(super()._check_rows(X, **kwargs)))

    def _check_values(self, X):
        if (X < 0).any():
            super()._check_values(X)


class RowsOfPixels:
    """Takes rows of any width for images one pixel high: scikit-learn's have too few columns for others."""

    def _coder(self, n_in, n_out, widths, factory, generator, name, levels=()):
        design = self._design
        self._design = design | {"feature_shape": (1, 1, self.n_features_in_)}
        try:
            return super()._coder(n_in, n_out, widths, factory, generator, name, levels)
        finally:
            self._design = design


class ImageAutoencoder(RowsOfPixels, AutoencoderTransformer):
    pass


class ImageVAE(RowsOfPixels, VAEGenerator):
    pass


def quick_vae(**parameters):
    return VAEGenerator(max_iter=5, **parameters)


def quick(**parameters):
    return AutoencoderTransformer(max_iter=5, **parameters)


CONFIGURATIONS = [
    AutoencoderTransformer(),
    quick(loss="absolute_error"),
    quick(loss="huber", n_components=1),
    quick(loss="poisson"),
    UnitIntervalAutoencoder(loss="log_loss", max_iter=5),
    quick(start="random", hidden_layer_sizes=(8,), activation="tanh"),
    quick(hidden_layer_sizes=()),
    quick(encoder=OwnCoder, decoder=OwnCoder),
    quick(encoder=OwnCoder, decoder=OwnCoder, start="random"),
    quick(n_components=3, noise=0.1, sparsity=0.01, alpha=0.01),
    quick(early_stopping=False, batch_size=4),
    quick(n_components=3, ordered=True),
    quick(n_components=0.9),
    quick(n_components="auto"),
    ImageAutoencoder(max_iter=5),
    ImageAutoencoder(n_components=3, ordered=True, hidden_layer_sizes=(8,), max_iter=5),
    AutoencoderTransformerCV(max_iter=5),
    VAEGenerator(),
    UnitIntervalVAE(likelihood="bernoulli", max_iter=5),
    CountVAE(likelihood="poisson", max_iter=5),
    CountVAE(likelihood="negative_binomial", max_iter=5),
    CountVAE(likelihood="multinomial", max_iter=5),
    quick_vae(likelihood="auto"),
    quick_vae(likelihood="auto", n_components=3, ordered=True),
    quick_vae(start="pca", n_components=1),
    quick_vae(start="random", hidden_layer_sizes=(8,), activation="tanh"),
    quick_vae(hidden_layer_sizes=(), beta=0.5),
    quick_vae(encoder=OwnCoder, decoder=OwnCoder),
    quick_vae(encoder=OwnCoder, decoder=OwnCoder, start="random"),
    quick_vae(n_components=3, alpha=0.01),
    quick_vae(n_components=3, ordered=True),
    quick_vae(n_components="auto"),
    quick_vae(conditional=True),
    quick_vae(early_stopping=False, batch_size=4),
    ImageVAE(max_iter=5),
]


@parametrize_with_checks(CONFIGURATIONS)
def test_estimator_checks(estimator, check):
    check(estimator)


def test_the_squashed_rows_are_in_the_unit_interval():
    rows = UnitIntervalAutoencoder()._check_rows(np.array([[-5.0, 5.0]]), reset=True)
    assert 0 <= rows.min() <= rows.max() <= 1


@pytest.mark.parametrize("estimator", CONFIGURATIONS)
def test_no_check_is_expected_to_fail(estimator):
    """There is no table of excuses: no tag that skips checks is set either."""
    tags = estimator.__sklearn_tags__()
    assert not tags._skip_test
    assert not tags.no_validation
    assert not tags.non_deterministic
    assert tags.input_tags.two_d_array
