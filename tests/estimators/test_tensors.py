"""torch tensors as samples: arrays come back, or tensors if scikit-learn dispatches to the array API."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LoadingsDisplay, VAEGenerator, component_importance, reconstruction_error

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
X, y = load_iris(return_X_y=True)
MODELS = [
    AutoencoderTransformer(max_iter=2, random_state=0),
    VAEGenerator(max_iter=2, random_state=0),
    VAEGenerator(conditional=True, max_iter=2, random_state=0),
    VAEGenerator(likelihood="auto", max_iter=2, random_state=0),
]


@pytest.fixture
def dispatch():
    """The setting array_api_dispatch=True, which needs SCIPY_ARRAY_API=1 before SciPy is imported."""
    if os.environ.get("SCIPY_ARRAY_API") != "1":
        pytest.skip("run in a process of its own, below")
    with sklearn.config_context(array_api_dispatch=True):
        yield


def test_dispatch_in_a_process_that_has_it():
    pytest.importorskip("sklearn.externals.array_api_compat")  # before 1.7 it is a package of its own
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "with_dispatch"]
    done = subprocess.run(command, env=os.environ | {"SCIPY_ARRAY_API": "1"}, capture_output=True, text=True)
    assert f"{len(MODELS) + 2} passed" in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_tensors_are_taken_as_arrays(model, dtype):
    samples, labels = torch.tensor(X).to(dtype), torch.tensor(y)
    array = samples.float().numpy() if dtype == torch.bfloat16 else samples.numpy()
    model, expected = clone(model).fit(samples, labels), clone(model).fit(array, y)
    codes = model.transform(samples)
    assert isinstance(codes, np.ndarray)
    np.testing.assert_array_equal(codes, expected.transform(array))
    np.testing.assert_array_equal(model.inverse_transform(torch.tensor(codes)), expected.inverse_transform(codes))
    assert model.score(samples, labels) == expected.score(array, y)
    weights = torch.arange(150) % 3
    model.partial_fit(samples, labels, sample_weight=weights)
    assert model.score(samples, labels, sample_weight=weights) == model.score(array, y, sample_weight=weights.numpy())


def test_tensors_that_need_gradients_are_taken_too():
    samples = torch.tensor(X, requires_grad=True)
    model = clone(MODELS[0]).fit(samples)
    np.testing.assert_array_equal(model.transform(samples), model.transform(X))
    assert reconstruction_error(model, samples) == reconstruction_error(model, X)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_with_dispatch_tensors_come_back(model, dispatch):
    samples, labels = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    model = clone(model).fit(samples, labels, sample_weight=labels + 1)
    missing = torch.where(torch.arange(4) == 1, torch.nan, samples)
    codes = model.transform(samples)
    results = [codes, model.inverse_transform(codes), model.score_samples(samples), model.impute(missing)]
    if isinstance(model, VAEGenerator):
        results += [model.log_likelihood(samples, 3), *model.impute(missing, n_draws=2)]
    else:
        assert model.sample(3).shape == (3, 4)
    for result in results:
        assert isinstance(result, torch.Tensor)
        assert (result.dtype, result.device) == (samples.dtype, samples.device)
    fitted = {name: value for name, value in vars(model).items() if name.endswith("_") and np.ndim(value)}
    assert {"mean_", "components_"} <= fitted.keys()
    for name, value in fitted.items():
        is_array = isinstance(value, torch.Tensor) and value.device == samples.device
        assert is_array or isinstance(value, list) or name in ("prior_", "likelihoods_"), name
    assert all(not torch.is_tensor(value) for value in model.__getstate__().values())
    assert isinstance(model.score(samples, labels), float)
    assert isinstance(model.transform(X), np.ndarray)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))


def test_with_dispatch_a_pipeline_stays_in_tensors(dispatch):
    pipe = make_pipeline(StandardScaler(), clone(MODELS[0])).fit(torch.tensor(X))
    assert isinstance(pipe.transform(torch.tensor(X)), torch.Tensor)


def test_components_are_described_with_dispatch(dispatch):
    model, samples = clone(MODELS[0]).fit(X), torch.tensor(X)
    np.testing.assert_array_equal(component_importance(model, samples), component_importance(model, X))
    loadings = [LoadingsDisplay.from_estimator(model, given).loadings for given in (samples, X)]
    np.testing.assert_array_equal(*loadings)
