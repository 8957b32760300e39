"""The report of a comparison and its figures."""

import html
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, FastICA
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import AutoencoderTransformer, VAEGenerator, compare
from skae.inspection.report import codes_figure, example_figures
from skae.inspection.verdicts import PredictionQuestion, best_cell, components

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

IRIS = load_iris(return_X_y=True)
QUICK = {"PCA": PCA(), "AutoencoderTransformer": AutoencoderTransformer(max_iter=5, random_state=0)}


def test_names_with_dollars_and_models_with_nothing_to_draw_have_a_report(tmp_path):
    compare(IRIS[0], n_components=[2], cv=2, estimators={"$a_{$": PCA()}).to_html(tmp_path / "a.html")

    class NoInverse(FastICA):
        inverse_transform = property()

    one_way = compare(IRIS[0], n_components=[2], cv=2, estimators={"x": NoInverse(whiten="unit-variance")})
    one_way.to_html(tmp_path / "b.html")
    assert "Codes of held-out samples, with two components" in (tmp_path / "b.html").read_text()


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
    assert page.count("<tr") == 1 + 6 + 1 + 10  # results, and the rows that are explained worst
    for name in ("skae", "scikit-learn", "torch", "skorch", "numpy", "Python"):
        assert re.search(rf"{name} \d", page)
    assert comparison._repr_html_() in page


def sections(page):
    """Text of the report below each heading, without tags."""
    parts = re.split(r"<h2>(.*?)</h2>", re.sub(r"(?s)<style>.*?</style>", "", page))
    return {
        html.unescape(k): html.unescape(re.sub(r"<[^>]+>", " ", v))
        for k, v in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_the_report_begins_with_what_was_asked_the_answer_and_three_numbers(tmp_path):
    comparison = compare(*IRIS, n_components=[1, 2], cv=3, estimators=QUICK)
    comparison.to_html(tmp_path / "report.html")
    first, _, _ = (tmp_path / "report.html").read_text().partition("<h2>")
    assert "Compared on held-out samples: PCA and the autoencoder, with 1 and 2 components." in first
    assert "to predict the target" in re.sub("Which is best to predict", "to predict", first)
    assert html.escape(comparison.answer().splitlines()[0]) in first
    assert len(re.findall(r"<li><b>[^<]+</b><span>[^<]+</span></li>", first)) == 3
    (name, size), *_ = PredictionQuestion(comparison).chosen()
    assert f"<b>{comparison.folds('target_score', name, size).mean():.3f}</b>" in first


def test_rows_that_are_explained_worst_have_their_names_and_columns(tmp_path):
    table = pd.DataFrame(IRIS[0], columns=["a", "b", "c", "<d>"], index=[f"row <{i}>" for i in range(150)])
    table.loc["row <7>", "<d>"] = 99.0
    comparison = compare(table, n_components=[1], cv=3, estimators={"PCA": PCA()})
    comparison.to_html(tmp_path / "report.html")
    (error, name, columns), *others = comparison.examples["worst"]["PCA", 1]
    assert (name, columns[0]) == ("row <7>", "<d>")
    assert [error, *(found[0] for found in others)] == sorted([error, *(found[0] for found in others)], reverse=True)
    page = (tmp_path / "report.html").read_text()
    assert "<td>row &lt;7&gt;</td>" in page
    assert "<d>" not in page


def test_the_report_shows_loadings_of_named_columns(tmp_path):
    """Of PCA and of the best model; the columns of an array have no names."""
    table = pd.DataFrame(IRIS[0], columns=["a", "b", "c", "d"])
    estimators = {"PCA": PCA(), "scaled": make_pipeline(StandardScaler(), PCA()), "ae": QUICK["AutoencoderTransformer"]}
    comparison = compare(table, n_components=[2], cv=2, estimators=estimators)
    comparison.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    best, size = best_cell(comparison)
    assert f"Loadings of PCA with {components(size)}" in page
    assert page.count("<h2>Loadings of") == len({best, "PCA"})
    for name in estimators:
        found = comparison.examples["models"][name, 2]["loadings"]
        assert found["loadings"].shape == found["spread"].shape == (2, 4)
        assert bool(found["spread"].any()) == (name == "ae")
    compare(IRIS[0], n_components=[2], cv=2, estimators={"PCA": PCA()}).to_html(tmp_path / "report.html")
    assert "Loadings of" not in (tmp_path / "report.html").read_text()


def test_loadings_of_a_pipeline_are_of_the_columns_that_its_last_step_gets(tmp_path):
    """Steps may leave out columns or change their order; there are none if a step does not name its columns."""
    table = pd.DataFrame(IRIS[0], columns=["a", "b", "c", "d"])
    turned = ColumnTransformer(
        [("x", "passthrough", [3, 2]), ("y", "passthrough", [0])], verbose_feature_names_out=False
    )
    steps = {"fewer": VarianceThreshold(0.3), "turned": turned, "unnamed": FunctionTransformer(np.sqrt)}
    found = {}
    for name, step in steps.items():
        comparison = compare(table, n_components=[2], cv=3, estimators={name: make_pipeline(step, PCA())})
        comparison.to_html(tmp_path / "report.html")
        loadings = comparison.examples["models"][name, 2]["loadings"]
        assert ("Loadings of" in (tmp_path / "report.html").read_text()) == (loadings is not None)
        found[name] = loadings and list(loadings["feature_names"])
    assert found == {"fewer": ["a", "c", "d"], "turned": ["d", "c", "a"], "unnamed": None}


@pytest.mark.parametrize("estimator", [AutoencoderTransformer(loss="auto"), VAEGenerator(likelihood="auto")])
def test_an_estimator_of_each_column_by_itself_is_compared_without_loadings(estimator):
    table = pd.DataFrame(IRIS[0].round(), columns=["a", "b", "c", "d"]).astype(int)
    comparison = compare(table, n_components=[1], cv=2, estimators={"x": estimator.set_params(max_iter=1)})
    assert comparison.examples["models"]["x", 1]["loadings"] is None


def test_the_report_says_how_to_make_and_use_the_model(tmp_path):
    comparison = compare(*IRIS, n_components=[2], cv=3, estimators={"PCA": make_pipeline(StandardScaler(), PCA())})
    comparison.to_html(tmp_path / "report.html", command="python -m skae '<x>'")
    parts = sections((tmp_path / "report.html").read_text())
    assert parts["Reproduce this report"].strip().startswith("python -m skae '<x>'")
    names = {}
    exec(
        parts["Use it"].strip().replace("...  # your samples, as they were compared", "samples"),
        {"samples": IRIS[0]},
        names,
    )
    assert names["codes"].shape == (150, 2)
    assert names["X_again"].shape == (150, 4)
    assert len(parts["Use it"].strip().splitlines()) <= 10


def test_columns_are_named_where_there_is_room():
    table = pd.DataFrame(IRIS[0], columns=["a", "$b$", "<temperature_of_inlet_2>", "d e"])
    figure = next(example_figures(compare(table, n_components=[1], cv=2, estimators={"PCA": PCA()}), None))[1]
    bottom = figure.axes[0].child_axes[-1]
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["a", r"\$b\$", "<temperat...inlet_2>", "d e"]
    assert len(figure.axes[0].child_axes) == 2 * 4


def test_each_column_that_encodes_a_category_is_named():
    rng = np.random.RandomState(0)
    table = pd.DataFrame({"age": rng.normal(size=60), "city": rng.choice(["Bern", "Oslo"], 60)})
    table["is old"] = table["age"] > 0
    comparison = compare(table, n_components=[1], cv=2, estimators={"PCA": PCA()})
    bottom = next(example_figures(comparison, None))[1].axes[0].child_axes[-1]
    labels = [label.get_text() for label in bottom.get_xticklabels()]
    assert labels == ["age", "city = Bern", "city = Oslo", "is old"]
    assert len(bottom.patches) == 4


@pytest.mark.parametrize("n_columns", [20, 40])
def test_names_of_columns_do_not_overlap(n_columns):
    X = np.random.RandomState(0).normal(size=(60, n_columns)) * np.where(np.arange(n_columns) % 2, 1, 9)
    X[[4, 11], [1, 3]] = 1e3  # large, but rare
    table = pd.DataFrame(X, columns=[f"column {j}" for j in range(n_columns)])
    estimators = {"VAEGenerator": VAEGenerator(max_iter=0, start="pca", random_state=0)}
    comparison = compare(table, n_components=[1], cv=2, estimators=estimators)
    shown = list(table)[:: n_columns // 20]  # those of the largest errors, if there are too many
    captions = []
    for caption, figure in list(example_figures(comparison, None))[:2]:  # then loadings
        captions.append(caption)
        figure.canvas.draw()
        labels = figure.axes[0].child_axes[-1].get_xticklabels()
        assert [label.get_text() for label in labels] == shown
        boxes = [label.get_window_extent() for label in labels]
        assert all(left.x1 <= right.x0 + 1 for left, right in pairwise(boxes))
    assert len(captions) == 2
    said = "the 20 of 40 columns with the largest median errors"
    assert all((said in caption) == (n_columns == 40) for caption in captions)


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
