"""Fits and uses on a device that is not the host give the results of the host."""

import os
import subprocess
import sys

import numpy as np
import pytest
import simulated_device
import torch
from sklearn.datasets import load_iris

from skae import AutoencoderTransformer, VAEGenerator
from skae._torch import resolve_device
from skae.training import distributed

pytestmark = [
    pytest.mark.usefixtures("narrow_networks"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
X, y = load_iris(return_X_y=True)
COUNTS = np.round(X)
MISSING = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
IMAGES = np.random.RandomState(0).uniform(size=(60, 64))
ALONE = "SKAE_TEST_SIMULATED_DEVICE"

MODES = {
    "plain": (X, {}),
    "ordered": (X, {"ordered": True}),
    "auto size": (X, {"n_components": "auto"}),
    "noise": (X, {"noise": 0.1}),
    "random start": (X, {"start": "random"}),
    "conditional": (X, {"conditional": True}),
    "mixture prior": (X, {"prior": "mixture"}),
    "counts": (COUNTS, {"loss": "poisson", "likelihood": "multinomial"}),
    "each column": (X, {"loss": "auto", "likelihood": "auto"}),
    "missing values": (MISSING, {}),
    "images": (IMAGES, {"feature_shape": (1, 8, 8)}),
}
OF_VAE = {"conditional", "mixture prior"}
CASES = [(VAEGenerator, mode) for mode in MODES] + [
    (AutoencoderTransformer, mode) for mode in MODES if mode not in OF_VAE
]


@pytest.fixture
def device(monkeypatch):
    """The simulated device, which an estimator may name."""
    if ALONE not in os.environ:
        pytest.skip("run in a process of its own, below")
    device = simulated_device.register()
    monkeypatch.setattr(distributed, "resolve_device", lambda name: device if name == device else resolve_device(name))
    monkeypatch.setattr(torch, "Generator", simulated_device.Generator)
    return device


def test_a_simulated_device_in_a_process_of_its_own():
    registration = pytest.importorskip("torch.utils.backend_registration")
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this version of PyTorch registers no device in Python")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        "-k",
        "simulated_device and not own",
    ]
    done = subprocess.run(command, env=os.environ | {ALONE: "1"}, capture_output=True, text=True)
    assert " passed" in done.stdout, done.stdout[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-2000:]
    assert "failed" not in done.stdout, done.stdout[-2000:]


def new(cls, mode, **parameters):
    wanted = {"n_components": 2, "max_iter": 2, "batch_size": 64, "random_state": 0, **MODES[mode][1], **parameters}
    return cls(**{name: value for name, value in wanted.items() if name in cls().get_params()})


def results(model, X, y):
    """What a fitted model computes."""
    codes = model.transform(X)
    found = [
        codes,
        model.inverse_transform(codes),
        model.score(X, y) if isinstance(model, VAEGenerator) else model.score(X),
    ]
    found += [model.score_samples(X), model.impute(X), model.sample(3, random_state=0)]
    if isinstance(model, VAEGenerator):
        found += [
            model.log_likelihood(X, 2),
            *model.transform(X, return_std=True),
            *model.impute(X, n_draws=1, random_state=0),
        ]
    if "each column" not in str(model) and getattr(model, "likelihood", "gaussian") == "gaussian":
        found += [model.score_features(X)]
    return found


@pytest.mark.parametrize(("cls", "mode"), CASES)
def test_arrays_on_a_simulated_device_have_the_results_of_the_host(cls, mode, device):
    X = MODES[mode][0]
    on_host = new(cls, mode).fit(X, y[: len(X)])
    on_device = new(cls, mode, device=device).fit(X, y[: len(X)])
    assert next(on_device.net_.module_.parameters()).device == device
    for found, expected in zip(*(results(model, X, y[: len(X)]) for model in (on_device, on_host)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAEGenerator])
@pytest.mark.parametrize("mode", ["plain", "counts", "missing values"])
def test_training_continues_on_a_simulated_device(cls, mode, device):
    first, rest = MODES[mode][0][:100].copy(), MODES[mode][0][100:]
    first[:, 3] = 1  # the second batch is the first with another value
    models = [new(cls, mode), new(cls, mode, device=device)]
    for model in models:
        model.partial_fit(first).partial_fit(rest, sample_weight=np.arange(50) % 3)
    for found, expected in zip(*(results(model, rest, None) for model in models), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAEGenerator])
def test_a_validation_set_of_arrays_is_scaled_for_a_simulated_device(cls, device):
    models = [new(cls, "plain").fit(X, X_val=X[:50]), new(cls, "plain", device=device).fit(X, X_val=X[:50])]
    np.testing.assert_allclose(*(model.validation_loss_curve_ for model in models))
