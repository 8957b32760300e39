"""Displays of samples: reconstructions, generated samples, traversals."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderTransformer,
    LatentTraversalDisplay,
    ReconstructionDisplay,
    SampleDisplay,
)

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")


@pytest.fixture(params=["autoencoder", "vae", "pipeline"])
def model(request):
    return request.getfixturevalue(request.param)


def test_originals_stand_above_reconstructions_and_these_tell_their_error(model, split):
    display = ReconstructionDisplay.from_estimator(model, split[1], n_rows=5, image_shape=(8, 8))
    back = model.inverse_transform(model.transform(split[1][:5]))
    for i, expected in enumerate((split[1][:5], back)):
        for image, row in zip(display.artists_[i], expected, strict=True):
            np.testing.assert_allclose(np.ravel(image.get_array()), row, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(display.errors, np.mean((split[1][:5] - back) ** 2, axis=1), rtol=1e-5)
    assert [ax.get_title() for ax in display.axes_[1]] == [f"{error:.3g}" for error in display.errors]
    assert [line[0].get_ylabel() for line in display.axes_] == ["original", "reconstruction"]
    limits = {image.get_clim() for image in display.artists_.flat}
    assert limits == {(split[1][:5].min(), split[1][:5].max())}


def test_pcas_reconstructions_are_of_as_many_components_in_the_place_of_the_last_step(split):
    scaled = make_pipeline(StandardScaler(), AutoencoderTransformer(3, max_iter=0)).fit(split[0])
    display = ReconstructionDisplay.from_estimator(scaled, split[1], X_train=split[0])
    linear = make_pipeline(StandardScaler(), PCA(3, svd_solver="full")).fit(split[0])
    expected = linear.inverse_transform(linear.transform(split[1][:8]))
    np.testing.assert_allclose(display.X_pca, expected, atol=1e-6)
    np.testing.assert_allclose(display.pca_errors, np.mean((split[1][:8] - expected) ** 2, axis=1), rtol=1e-6)
    assert display.axes_.shape == (3, 8)
    alone = ReconstructionDisplay.from_estimator(scaled[-1], split[1], X_train=split[0])
    np.testing.assert_allclose(alone.X_pca, PCA(3, svd_solver="full").fit(split[0]).inverse_transform(
        PCA(3, svd_solver="full").fit(split[0]).transform(split[1][:8])), atol=1e-6)  # fmt: skip


def test_what_is_missing_has_no_error():
    X = np.array([[1.0, np.nan, 3.0], [1.0, 1.0, 1.0]])
    display = ReconstructionDisplay.from_predictions(X, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(display.errors, [1, 1])


def test_few_columns_are_bars_and_many_a_line():
    rows = np.random.RandomState(0).normal(size=(3, 31))
    few = SampleDisplay.from_predictions(rows[:, :30])
    for bars, row in zip(few.artists_[0], rows, strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in bars], row[:30])
    for line, row in zip(SampleDisplay.from_predictions(rows).artists_[0], rows, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), row)


def test_images_may_have_three_colours_or_one():
    rows = np.random.RandomState(0).uniform(size=(2, 3 * 4 * 5))
    image = SampleDisplay.from_predictions(rows, image_shape=(3, 4, 5)).artists_[0, 0].get_array()
    scaled = (rows - rows.min()) / (rows.max() - rows.min())
    np.testing.assert_allclose(np.moveaxis(image, -1, 0).ravel(), scaled[0])
    plain = SampleDisplay.from_predictions(rows, image_shape=(1, 6, 10)).artists_[0, 1].get_array()
    np.testing.assert_array_equal(plain.ravel(), rows[1])


def test_samples_are_the_estimators_line_by_line(model):
    display = SampleDisplay.from_estimator(model, 11, random_state=0, image_shape=(8, 8))
    if isinstance(model, Pipeline):
        expected = model[:-1].inverse_transform(model[-1].sample(11, random_state=0))
    else:
        expected = model.sample(11, random_state=0)
    assert display.axes_.shape == (2, 8)
    for image, row in zip(display.artists_.ravel()[:11], expected, strict=True):
        np.testing.assert_allclose(np.ravel(image.get_array()), row)
    assert list(display.artists_.ravel()[11:]) == [None] * 5
    assert not any(ax.axison for ax in display.axes_.ravel()[11:])


@pytest.mark.parametrize("y", [1, [0, 1, 2, 2]])
def test_samples_of_a_class_have_its_name(vae, y):
    display = SampleDisplay.from_estimator(vae, 4, y=y, noise=False, random_state=0)
    np.testing.assert_array_equal(display.samples, vae.sample(4, y=y, noise=False, random_state=0))
    assert [ax.get_title() for ax in display.axes_.flat] == [str(label) for label in np.broadcast_to(y, 4)]


def test_a_walk_changes_one_component_and_leaves_the_others_at_their_median(model, split):
    display = LatentTraversalDisplay.from_estimator(model, split[0], components=[2, 0], n_steps=5, image_shape=(8, 8))
    Z = model.transform(split[0])
    for line, component in zip(display.artists_, (2, 0), strict=True):
        walk = np.tile(np.median(Z, axis=0), (5, 1))
        walk[:, component] = np.quantile(Z[:, component], [0.05, 0.275, 0.5, 0.725, 0.95])
        for image, row in zip(line, model.inverse_transform(walk), strict=True):
            np.testing.assert_allclose(np.ravel(image.get_array()), row, rtol=1e-4, atol=1e-4)
    assert [line[0].get_ylabel() for line in display.axes_] == ["component 3", "component 1"]
    assert display.axes_[0, 1].get_title() == f"{display.codes[0, 1]:.3g}"


def test_a_walk_shows_four_components_unless_told_otherwise(split):
    many = AutoencoderTransformer(6, max_iter=0).fit(split[0])
    np.testing.assert_array_equal(LatentTraversalDisplay.from_estimator(many, split[0]).components, range(4))
    assert LatentTraversalDisplay.from_estimator(many, split[0], components=5).axes_.shape == (1, 8)


def test_the_estimators_own_shape_of_images_is_taken(autoencoder, split):
    for display in (
        ReconstructionDisplay.from_estimator(autoencoder, split[1]),
        SampleDisplay.from_estimator(make_pipeline(StandardScaler().fit(split[0]), autoencoder)),
        LatentTraversalDisplay.from_estimator(autoencoder, split[1]),
    ):
        assert display.image_shape == (1, 8, 8)
        assert display.artists_[0, 0].get_array().shape == (8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 3}, "components=3 must be .* from 0 to 2"),
        ({"components": []}, r"components=\[\] must be"),
        ({"components": 0.5}, "components=0.5 must be"),
        ({"n_steps": 1}, "n_steps=1 must be an integer of at least 2"),
    ],
)
def test_walks_that_lead_nowhere_are_refused(autoencoder, split, options, message):
    with pytest.raises(ValueError, match=message):
        LatentTraversalDisplay.from_estimator(autoencoder, split[1], **options)
