"""Fits and uses on a device that is not the host give the results of the host."""

import os
import subprocess
import sys

import numpy as np
import pytest
import simulated_device
import torch
from sklearn import config_context
from sklearn.datasets import load_iris

from skae import AutoencoderTransformer, VAEGenerator
from skae._torch import resolve_device
from skae.training import distributed

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
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
QUICK = {"plain", "ordered", "conditional", "missing values"}
CASES = [
    pytest.param(cls, mode, marks=() if mode in QUICK else pytest.mark.slow)
    for cls in (VAEGenerator, AutoencoderTransformer)
    for mode in MODES
    if cls is VAEGenerator or mode not in OF_VAE
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


@pytest.mark.parametrize("mark", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_a_simulated_device_in_a_process_of_its_own(mark):
    registration = pytest.importorskip("torch.utils.backend_registration")
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this version of PyTorch registers no device in Python")
    pytest.importorskip("sklearn.externals.array_api_compat")  # before 1.7 it is a package of its own
    which = ["-m", mark, "-k", "simulated_device and not own"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, *which]
    alone = os.environ | {ALONE: "1", "SCIPY_ARRAY_API": "1"}
    done = subprocess.run(command, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-2000:]


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
    # ReLU has no rounding of its own, which would depend on the layout in memory.
    models = [new(cls, "plain", activation="relu", **on).fit(X, X_val=X[:50]) for on in ({}, {"device": device})]
    np.testing.assert_allclose(*(model.validation_loss_curve_ for model in models))


@pytest.mark.parametrize(("cls", "mode"), [case for case in CASES if "missing values" not in case.values])
def test_tensors_on_a_simulated_device_have_the_results_of_arrays(cls, mode, device):
    X = MODES[mode][0]
    labels = y[: len(X)]
    of_arrays = new(cls, mode, max_iter=0, device=device).fit(X, labels)
    tensor = torch.tensor(X).to(device)
    of_tensors = new(cls, mode, max_iter=0, device=device).fit(tensor, torch.tensor(labels).to(device))
    pairs = results(of_tensors, tensor, labels), results(of_arrays, X, labels)
    for found, expected in zip(*pairs, strict=True):
        assert isinstance(found, np.ndarray | float)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def large(n_samples=1100, n_features=40):
    rng = np.random.RandomState(0)
    latent = rng.normal(size=(n_samples, 3))
    X = latent @ rng.normal(size=(3, n_features)) + 0.3 * rng.normal(size=(n_samples, n_features))
    return torch.tensor(X, dtype=torch.float32), torch.tensor(latent[:, 0] > 0)


@pytest.mark.parametrize(
    ("cls", "parameters"),
    [
        (AutoencoderTransformer, {}),
        (AutoencoderTransformer, {"n_components": "auto"}),
        (AutoencoderTransformer, {"start": "random"}),
        (VAEGenerator, {}),
        (VAEGenerator, {"ordered": True}),
        (VAEGenerator, {"conditional": True}),
    ],
    ids=str,
)
def test_samples_stay_on_a_simulated_device(cls, parameters, device):
    host, labels = large()
    n_samples, n_features = host.shape
    X, weights = host.to(device), np.arange(n_samples) % 3 + 1
    if cls is VAEGenerator:
        parameters = parameters | {"defensive": "linear"}
    model = cls(2, max_iter=1, batch_size=512, random_state=0, device=device).set_params(**parameters)
    simulated_device.COPIED.clear()
    model.fit(X, labels, sample_weight=weights, X_val=None if "conditional" in parameters else X[:100])
    with config_context(array_api_dispatch=True):
        codes = model.transform(X)
        back = model.inverse_transform(codes)
        model.score(X), model.score_samples(X), model.score_features(X), model.local_components(X)
        filled = model.impute(torch.where(X > 2, torch.nan, X))
        if "auto" not in parameters.values():
            model.partial_fit(X, labels)
    for tensor in (codes, back, filled):
        assert tensor.device == device
    of_samples = [shape for shape in simulated_device.COPIED if n_features in shape and shape != 2 * (n_features,)]
    assert sum(map(np.prod, of_samples)) < X.numel() / 10


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor(X[0]), "Expected 2D array, got 1D array instead"),
        (torch.tensor(X)[:, :, None], r"Flatten images by X.reshape\(len\(X\), -1\)"),
        (torch.tensor(X[:, :2]), "X has 2 features, but AutoencoderTransformer is expecting 4 features"),
        (torch.tensor(X) / 0, "Input X contains infinity"),
        (torch.tensor(X) * 1j, "Complex data not supported"),
        (torch.tensor(X[:0]), r"Found array with 0 sample\(s\)"),
    ],
)
def test_a_wrong_tensor_on_a_simulated_device_has_the_error_of_arrays(wrong, message, device):
    model = new(AutoencoderTransformer, "plain", max_iter=0).fit(X)
    for given in (wrong, wrong.to(device)):
        with pytest.raises(ValueError, match=message):
            model.transform(given)
    model = new(AutoencoderTransformer, "counts", max_iter=0)
    with pytest.raises(ValueError, match=r"loss='poisson' needs values of at least 0, but X has -7"):
        model.fit(-torch.tensor(X).to(device))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_tensors_on_a_simulated_device_have_the_precision_of_those_on_the_host(dtype, device):
    tensor = torch.tensor(X).to(dtype)
    model = new(AutoencoderTransformer, "plain", max_iter=0).fit(tensor)
    codes = model.transform(tensor.to(device))
    assert codes.dtype == model.transform(tensor).dtype
    np.testing.assert_allclose(codes, model.transform(tensor), atol=1e-5)


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAEGenerator])
def test_missing_values_of_tensors_are_imputed_as_well_on_a_simulated_device(cls, device):
    tensor = torch.tensor(MISSING).to(device)
    models = [new(cls, "missing values", max_iter=5, device=device).fit(given) for given in (tensor, MISSING)]
    hidden = np.isnan(MISSING)
    errors = [
        np.square(model.impute(given) - X)[hidden].mean()
        for model, given in zip(models, (tensor, MISSING), strict=True)
    ]
    np.testing.assert_allclose(*errors, rtol=0.3)
    np.testing.assert_array_equal(models[0].impute(tensor)[~hidden], X[~hidden])
