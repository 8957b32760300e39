"""Fitted models that tests of the displays only read, and the samples they were fitted to."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator, compare

mpl.use("agg")
NARROW = {"hidden_layer_sizes": (32, 16), "random_state": 0}


@pytest.fixture(autouse=True)
def _close_figures():
    plt.close("all")  # of examples in docstrings, in the same process
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def split(digits):
    """Training samples and held-out ones."""
    return digits[:150], digits[150:200]


@pytest.fixture(scope="session")
def ordered(split):
    return AutoencoderTransformer(5, ordered=True, max_iter=3, random_state=0).fit(split[0])


@pytest.fixture(scope="session")
def autoencoder(digits):
    return AutoencoderTransformer(3, feature_shape=(1, 8, 8), max_iter=8, random_state=0).fit(digits[:500])


@pytest.fixture(scope="session")
def vae(split):
    """A VAE that is conditional on three classes."""
    model = VAEGenerator(3, conditional=True, max_iter=2, early_stopping=False, **NARROW)
    return model.fit(split[0], np.arange(150) % 3)


@pytest.fixture(scope="session")
def pipeline(split):
    options = {"max_iter": 2, "early_stopping": False} | NARROW
    return make_pipeline(StandardScaler(), AutoencoderTransformer(3, **options)).fit(split[0])


@pytest.fixture(scope="session")
def fitted_search(split):
    return LatentSizeCV(AutoencoderTransformer(max_iter=0, random_state=0), (1, 3), cv=2).fit(split[0][:100])


@pytest.fixture(scope="session")
def comparison():
    estimators = {"PCA": PCA(), "AutoencoderTransformer": AutoencoderTransformer(max_iter=5, **NARROW)}
    X, y = load_iris(return_X_y=True)
    X[142, 0] += 0.05  # which repeats another sample
    return compare(X, y, n_components=[1, 2], cv=3, estimators=estimators)
