"""The display of codes."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from skae import (
    LatentSpaceDisplay,
)


def legend_labels(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def codes_of(n_components, n=60):
    return np.random.RandomState(0).normal(size=(n, n_components))


def test_two_components_are_a_scatter_of_the_codes_of_each_class(autoencoder, split):
    labels = np.arange(50) % 3
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(split[0]), split[1], labels)
    codes = PCA(2).fit(split[0]).transform(split[1])
    for label, points in zip(range(3), display.scatters_, strict=True):
        np.testing.assert_allclose(points.get_offsets(), codes[labels == label])
    assert len({tuple(points.get_facecolor()[0]) for points in display.scatters_}) == 3
    assert legend_labels(display) == ["0", "1", "2"]
    assert display.colorbar_ is None


def test_as_many_classes_as_are_taken_look_different():
    y = np.arange(140) % 70
    display = LatentSpaceDisplay.from_predictions(codes_of(2, 140), [f"class {i}" for i in y])
    looks = {(tuple(p.get_facecolor()[0]), p.get_paths()[0].vertices.tobytes()) for p in display.scatters_}
    assert len(looks) == 70
    with pytest.raises(ValueError, match=r"y has 71 classes.*70"):
        LatentSpaceDisplay(codes=codes_of(2, 71), y=[f"class {i}" for i in range(71)])


def test_ten_classes_have_ten_colours():
    display = LatentSpaceDisplay.from_predictions(codes_of(2), np.arange(60) % 10)
    assert len({tuple(points.get_facecolor()[0]) for points in display.scatters_}) == 10


@pytest.mark.parametrize("n_components", [2, 4])
@pytest.mark.parametrize("n_classes", [10, 28, 70])
def test_a_legend_of_many_classes_covers_no_panel(n_components, n_classes):
    y = np.arange(140) % n_classes
    display = LatentSpaceDisplay.from_predictions(codes_of(n_components, 140), [f"class {i}" for i in y])
    display.figure_.draw_without_rendering()
    box = display.legend_.get_window_extent()
    assert display.figure_.bbox.fully_containsy(box.y0)
    assert display.figure_.bbox.fully_containsy(box.y1)
    assert not [ax for ax in display.axes_.flat if ax.axison and ax.get_window_extent().overlaps(box)]


@pytest.mark.parametrize("y", [np.arange(60), np.arange(60) % 3 + 0.5])
def test_values_have_a_scale_of_colours(y):
    display = LatentSpaceDisplay.from_predictions(codes_of(2), y)
    (points,) = display.scatters_
    np.testing.assert_array_equal(points.get_array(), y)
    assert display.colorbar_.mappable is points
    assert display.classes is display.legend_ is None


def test_one_component_is_a_histogram_stacked_by_class():
    codes, y = codes_of(1), np.arange(60) % 2
    display = LatentSpaceDisplay.from_predictions(codes, y)
    edges = np.histogram_bin_edges(codes, bins=30)
    counts = [np.histogram(codes[y == i], edges)[0] for i in (0, 1)]
    for bars, count, bottom in zip(display.histograms_, counts, ([0] * 30, counts[0]), strict=True):
        drawn = np.flatnonzero(count)
        np.testing.assert_array_equal([bar.get_x() for bar in bars], edges[drawn])
        np.testing.assert_array_equal([bar.get_height() for bar in bars], count[drawn])
        np.testing.assert_array_equal([bar.get_y() for bar in bars], np.array(bottom)[drawn])
    assert not display.scatters_


@pytest.mark.parametrize(("n_components", "n_shown"), [(3, 3), (4, 4), (6, 4)])
def test_more_components_are_a_pair_plot_of_the_first_four(n_components, n_shown):
    codes = codes_of(n_components)
    display = LatentSpaceDisplay.from_predictions(codes)
    assert display.axes_.shape == (n_shown, n_shown)
    assert len(display.histograms_) == n_shown
    pairs = [(i, j) for i in range(n_shown) for j in range(i)]
    for (i, j), points in zip(pairs, display.scatters_, strict=True):
        assert points.axes is display.axes_[i, j]
        np.testing.assert_array_equal(points.get_offsets(), codes[:, [j, i]])
    assert [ax.axison for ax in display.axes_.flat] == np.tri(n_shown, dtype=bool).ravel().tolist()
    assert display.axes_[-1, 0].get_xlabel() == "component 1"


def test_a_column_of_labels_of_a_table_is_taken():
    frame = pd.DataFrame(codes_of(2), columns=["a", "b"])
    display = LatentSpaceDisplay.from_predictions(frame, pd.Series(["x", "y$"] * 30))
    assert legend_labels(display) == ["x", r"y\$"]
