"""The report of a comparison and its figures."""

import html
import re

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, FastICA

from skae import AutoencoderTransformer, VAEGenerator, compare
from skae.inspection.report import codes_figure, example_figures

IRIS = load_iris(return_X_y=True)
QUICK = {"PCA": PCA(), "AutoencoderTransformer": AutoencoderTransformer(max_iter=5, random_state=0)}


def test_names_with_dollars_and_models_with_nothing_to_draw_have_a_report(tmp_path):
    compare(IRIS[0], n_components=[2], cv=2, estimators={"$a_{$": PCA()}).to_html(tmp_path / "a.html")

    class NoInverse(FastICA):
        inverse_transform = property()

    one_way = compare(IRIS[0], n_components=[2], cv=2, estimators={"x": NoInverse(whiten="unit-variance")})
    one_way.to_html(tmp_path / "b.html")
    assert "Codes of two components" in (tmp_path / "b.html").read_text()


def test_the_report_is_one_file_without_a_network(tmp_path):
    estimators = QUICK | {"VAEGenerator": VAEGenerator(max_iter=3, random_state=0)}
    comparison = compare(*IRIS, n_components=[1, 2], cv=2, estimators=estimators)
    path = tmp_path / "report.html"
    comparison.to_html(path, notes=["Irises <3."])
    page = path.read_text()
    assert page.count("data:image/png;base64,") == 4  # curves, reconstructions, samples, codes
    assert not re.search(r"https?:|<script|<link|@import", page)
    for part in (*comparison.verdicts(), *comparison.answer().splitlines(), "Irises <3."):
        assert html.escape(part) in page
    assert page.count("<tr") == 1 + 6
    for name in ("skae", "scikit-learn", "torch", "skorch", "numpy", "Python"):
        assert re.search(rf"{name} \d", page)
    assert comparison._repr_html_() in page


def test_images_are_drawn_as_images(tmp_path, digits):
    comparison = compare(digits[:60], n_components=[2], cv=2, estimators={"PCA": PCA()})
    assert comparison.constant  # which is blank
    comparison.to_html(tmp_path / "report.html", feature_shape=(8, 8))
    figure = next(example_figures(comparison, (8, 8)))[1]
    image = figure.axes[0].child_axes[0].images[0].get_array()
    row = comparison.examples["rows"][0]
    expected = np.full(64, np.nan)
    expected[[i for i in range(64) if i not in comparison.constant]] = row
    np.testing.assert_array_equal(np.ma.filled(image, np.nan), expected.reshape(8, 8))
    with pytest.raises(ValueError, match=r"feature_shape=\(8, 9\) has 72 values, but samples have 64"):
        comparison.to_html(tmp_path / "report.html", feature_shape=(8, 9))


def test_codes_of_too_many_names_are_drawn_without_them(tmp_path):
    X = np.tile(IRIS[0], (2, 1))
    names = np.array([f"row {i % 50}" for i in range(len(X))])
    comparison = compare(X, names, n_components=[2], cv=2, estimators={"PCA": PCA()})
    *_, (_, figure) = example_figures(comparison, None)
    assert len(figure.axes[0].collections) == 1


def test_the_curves_are_the_means_over_folds(comparison):
    figure = comparison.plot()
    drawn = {container.get_label(): container[0].get_ydata() for container in figure.axes[0].containers}
    for name in comparison.names:
        np.testing.assert_allclose(drawn[name], [comparison.folds("error", name, size).mean() for size in (1, 2)])


def test_the_curves_legends_cover_nothing(comparison):
    figure = comparison.plot()
    figure.draw_without_rendering()
    for axis in figure.axes:
        assert not axis.get_legend().get_window_extent().overlaps(axis.get_window_extent())


@pytest.mark.parametrize(("n_classes", "n_names"), [(3, 3), (20, 20), (60, 0)])
def test_codes_have_a_look_for_each_class_and_one_legend_inside_the_figure(n_classes, n_names):
    X = np.random.RandomState(0).normal(size=(240, 4))
    y = np.array([f"class {i % n_classes}" for i in range(240)])
    figure = codes_figure(compare(X, y, n_components=[2], cv=2, estimators={"a": PCA(), "b": PCA()}))
    figure.draw_without_rendering()
    assert [len(axis.collections) for axis in figure.axes] == 2 * [n_names or 1]
    looks = {
        (*points.get_facecolor()[0], points.get_paths()[0].vertices.tobytes()) for points in figure.axes[0].collections
    }
    assert len(looks) == (n_names or 1)
    legends = [axis.get_legend() for axis in figure.axes]
    assert legends[0] is None
    assert (legends[1] is not None) == (n_names > 0)
    if n_names:
        assert len(legends[1].get_texts()) == n_names
        box = legends[1].get_window_extent()
        assert figure.bbox.fully_containsy(box.y0)
        assert figure.bbox.fully_containsy(box.y1)


def test_codes_of_values_have_one_scale_of_colours():
    X = np.random.RandomState(0).normal(size=(60, 4))
    figure = codes_figure(compare(X, X[:, 0], n_components=[2], cv=2, estimators={"a": PCA(), "b": PCA()}))
    assert len(figure.axes) == 3
