"""What holds for every display."""

import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from skae import (
    AutoencoderTransformer,
    LatentSpaceDisplay,
    LatentTraversalDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
    SampleDisplay,
)

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

FROM_MODEL = {
    "losses": lambda model, X, **ax: LossCurveDisplay.from_estimator(model, **ax),
    "codes": lambda model, X, **ax: LatentSpaceDisplay.from_estimator(model, X, **ax),
    "reconstructions": lambda model, X, **ax: ReconstructionDisplay.from_estimator(model, X, **ax),
    "samples": lambda model, X, **ax: SampleDisplay.from_estimator(model, **ax),
    "walks": lambda model, X, **ax: LatentTraversalDisplay.from_estimator(model, X, **ax),
}


@pytest.fixture(params=FROM_MODEL)
def draw(request):
    return FROM_MODEL[request.param]


def test_each_draws_where_it_is_told_or_in_one_new_figure(draw, autoencoder, split):
    figure, axes = plt.subplots(1, 2)
    display = draw(autoencoder, split[1], ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert display.plot() is display
    assert display.figure_ is not figure
    assert len(plt.get_fignums()) == 2
    for drawn in (figure, display.figure_):
        drawn.canvas.draw()


@pytest.mark.parametrize("name", ["vae", "fitted_search"])
def test_each_draws_a_vae_and_a_search(draw, name, request, digits):
    assert draw(request.getfixturevalue(name), digits[150:170]).figure_ is not None


def test_each_refuses_what_is_not_fitted_and_what_is_no_such_model(draw, split):
    with pytest.raises(NotFittedError):
        draw(AutoencoderTransformer(), split[1])
    with pytest.raises(TypeError, match=r"LinearRegression has no (?s:.*) Use an AutoencoderTransformer"):
        draw(LinearRegression().fit(split[0], split[0][:, 0]), split[1])


def test_each_says_what_to_install(draw, autoencoder, split, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        draw(autoencoder, split[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SampleDisplay(samples=np.ones((2, 6)), image_shape=(2, 4)), r"has 8 values, but samples have 6"),
        (lambda: SampleDisplay(samples=np.ones((2, 6)), image_shape=6), r"image_shape=6 must be a tuple of integers"),
        (
            lambda: SampleDisplay(samples=np.ones((2, 8)), image_shape=(2, 2, 2)),
            r"is not the shape of an image.*1 or 3 channels",
        ),
        (lambda: SampleDisplay(samples=np.ones((2, 6)), y=[1]), r"y has shape \(1,\) and there are 2 samples"),
        (
            lambda: SampleDisplay(samples=pd.DataFrame({"city": ["Oslo"]})),
            r"Only columns of numbers can be drawn, but column 'city' of X has 'Oslo'",
        ),
        (lambda: SampleDisplay(samples=[["Oslo", 1]]), r"could not convert string to float.*Oslo"),
        (lambda: ReconstructionDisplay(X=np.ones((2, 6)), X_reconstructed=np.ones((2, 5))), r"shape \(2, 5\) and X"),
        (lambda: LatentSpaceDisplay(codes=np.ones((2, 2)), y=[1, 2, 3]), "inconsistent numbers of samples"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_reason(make, message):
    with pytest.raises(ValueError, match=message):
        make()
