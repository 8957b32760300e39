"""Rows that are images get a convolutional net, which keeps what every other net of the estimators promises."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from torch import nn

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator
from skae.networks.images import ImageDecoder, ImageEncoder
from skae.training.optim import split_parameters

# A few epochs on few rows may gain nothing, and the estimators say so.
pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ESTIMATORS = [AutoencoderTransformer, VAEGenerator]
SHAPES = [(1, 8, 8), (1, 9, 13), (3, 32, 32), (1, 28, 28), (2, 11, 17)]
DIGITS = {"feature_shape": (1, 8, 8), "max_iter": 5, "random_state": 0}


def some_images(shape, n=60):
    """Smooth patterns in random places, plus noise."""
    rng = np.random.RandomState(0)
    channels, height, width = shape
    y, x = np.mgrid[:height, :width]
    place = rng.uniform(size=(n, 2, 1, 1)) * np.reshape([height, width], (2, 1, 1))
    blob = np.exp(-((y - place[:, 0]) ** 2 + (x - place[:, 1]) ** 2) / 20)
    images = blob[:, None] * rng.uniform(0.5, 1, size=(n, channels, 1, 1))
    return (images + 0.01 * rng.normal(size=images.shape)).reshape(n, -1)


@pytest.mark.parametrize("shape", SHAPES)
def test_coders_take_and_give_flat_rows(shape, seed):
    generator, n = torch.Generator().manual_seed(seed), int(np.prod(shape))
    encoder = ImageEncoder(shape, [7, 3], "gelu", generator).double()
    decoder = ImageDecoder(shape, [3, 7], 2, "gelu", generator).double()
    x = torch.randn(5, n, generator=generator, dtype=torch.float64, requires_grad=True)
    z = encoder(x)
    rows = decoder(z)
    assert (z.shape, rows.shape) == ((5, 3), (5, 2 * n))
    rows.square().sum().backward()
    assert (x.grad != 0).all()  # every pixel is seen, those of the last patches too
    assert all(p.grad.abs().max() > 0 for coder in (encoder, decoder) for p in coder.parameters())
    torch.testing.assert_close(encoder(x[:1]), z[:1], rtol=1e-9, atol=1e-12)
    for coder in (encoder, decoder):
        coder.silence()
    assert not encoder(x).any()
    assert not decoder(z).any()


def test_the_decoder_of_a_level_is_that_level_of_all(seed):
    generator = torch.Generator().manual_seed(seed)
    decoder = ImageDecoder((1, 9, 9), [4, 6], 1, "gelu", generator, levels=(1, 2, 4))
    z = torch.randn(3, 10, 4, generator=generator)
    together = decoder(z)
    assert together.shape == (3, 10, 81)
    for level in range(3):
        torch.testing.assert_close(decoder.at(level)(z[level]), together[level])


def test_convolutions_draw_from_the_generator_given():
    before = torch.random.get_rng_state()
    one, two = (ImageEncoder((1, 8, 8), [3], "relu", torch.Generator().manual_seed(1)).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_weights_of_convolutions_are_penalised():
    decoder = ImageDecoder((1, 8, 8), [3, 5], 1, "gelu", torch.Generator())
    penalised, free = split_parameters(decoder)
    assert [p.ndim for p in penalised] == [2, 2, 4, 4]
    assert all(p.ndim == 1 for p in free)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_step_zero_is_pca(shape, ordered):
    X = some_images(shape)
    model = AutoencoderTransformer(4, feature_shape=shape, ordered=ordered, max_iter=0).fit(X)
    pca = PCA(4, svd_solver="full").fit(X)
    np.testing.assert_allclose(model.transform(X), pca.transform(X), atol=1e-7)
    np.testing.assert_allclose(model.inverse_transform(pca.transform(X)), pca.inverse_transform(pca.transform(X)))


@pytest.mark.parametrize("start", ["factor_analysis", "pca"])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_step_zero_is_the_linear_model(shape, start):
    X = some_images(shape, 60)
    dense = VAEGenerator(3, start=start, max_iter=0, random_state=0).fit(X)
    convolutional = clone(dense).set_params(feature_shape=shape).fit(X)
    np.testing.assert_allclose(convolutional.score_samples(X), dense.score_samples(X))


@pytest.mark.parametrize(
    "parameters", [{}, {"ordered": True}, {"start": "random"}, {"hidden_layer_sizes": ()}], ids=str
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_fit_is_repeatable_pickles_and_is_a_function_of_the_row(estimator, parameters, digits):
    X = digits[:60] + 0.1 * np.random.RandomState(0).normal(size=(60, 64))
    model = estimator(3, **DIGITS | {"max_iter": 2} | parameters).fit(X)
    Z = model.transform(X)
    np.testing.assert_array_equal(clone(model).fit(X).transform(X), Z)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), Z)
    np.testing.assert_allclose(np.vstack([model.transform(row[None]) for row in X[:8]]), Z[:8], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.score_samples(X[::-1])[::-1], model.score_samples(X), rtol=1e-7)
    assert model.transform(X.astype(np.float32)).dtype == np.float32
    assert model.sample(4, random_state=0).shape == (4, 64)
    assert list(model.set_output(transform="pandas").transform(X[:2])) == list(model.get_feature_names_out())


def test_images_are_learnt():
    X = some_images((1, 12, 12), 200)
    model = AutoencoderTransformer(3, feature_shape=(1, 12, 12), max_iter=20, random_state=0).fit(X)
    assert model.best_loss_ < 0.5 * model.linear_loss_


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_activations_are_those_asked_for(activation, digits):
    model = AutoencoderTransformer(2, activation=activation, **DIGITS | {"max_iter": 1}).fit(digits[:100])
    kinds = [type(module) for module in model.net_.module_.modules()]
    assert kinds.count(nn.ReLU if activation == "relu" else nn.Identity) == 7
    assert nn.GELU not in kinds


def test_an_own_module_stands_before_images_on_its_side(digits):
    model = AutoencoderTransformer(2, encoder=nn.Linear, **DIGITS).fit(digits[:100])
    kinds = [type(module) for module in model.net_.module_.modules()]
    assert ImageDecoder in kinds
    assert ImageEncoder not in kinds


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_partial_fit_goes_on_and_refuses_another_shape(estimator, digits):
    X = digits[:100] + 0.1 * np.random.RandomState(0).normal(size=(100, 64))
    model = estimator(2, **DIGITS).partial_fit(X)
    before = model.transform(X)
    assert not np.array_equal(model.partial_fit(X).transform(X), before)
    with pytest.raises(ValueError, match=r"feature_shape.* changed since the network was built"):
        model.set_params(feature_shape=None).partial_fit(X)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_search_over_sizes_takes_images(estimator, digits):
    search = LatentSizeCV(estimator(**DIGITS), (1, 2), cv=2).fit(digits[:200])
    assert search.best_estimator_.feature_shape == (1, 8, 8)


@pytest.mark.parametrize("shape", [(8, 8), (1, 7, 9), (1, 8, 7), (0, 8, 8), (1, 8.0, 8), "image", 64, (1, 1, 8, 8)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_shape_of_no_image_is_refused(estimator, shape, digits):
    with pytest.raises(ValueError, match=r"feature_shape=.* must be None or three integers"):
        estimator(feature_shape=shape).fit(digits[:50])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_shape_that_is_not_that_of_the_rows_says_both_numbers(estimator, method, digits):
    with pytest.raises(ValueError, match=r"images of 72 values, but X has 64 columns"):
        getattr(estimator(feature_shape=(1, 8, 9)), method)(digits[:50])
