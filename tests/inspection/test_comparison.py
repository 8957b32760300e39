"""The comparison as a function and as a process."""

import html
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, FactorAnalysis, FastICA
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, Comparison, VAEGenerator, compare, reconstruction_error
from skae.__main__ import main, read_table
from skae.inspection.report import codes_figure, example_figures

mpl.use("agg")

IRIS = load_iris(return_X_y=True)
QUICK = {"PCA": PCA(), "AutoencoderTransformer": AutoencoderTransformer(max_iter=5, random_state=0)}


@pytest.fixture(scope="module")
def comparison():
    return compare(*IRIS, n_components=[1, 2], cv=3, estimators=QUICK)


def test_every_cell_is_measured(comparison):
    results = pd.DataFrame(comparison.results)
    assert len(results) == 2 * 2 * 3
    assert results.drop(columns="log_likelihood").notna().all(axis=None)
    assert list(results) == [
        "estimator", "n_components", "fold", "error", "r2", "log_likelihood", "target_score", "fit_seconds",
        "transform_seconds",
    ]  # fmt: skip
    assert results.r2.between(0.5, 1).all()


def test_the_error_is_the_held_out_mean_squared_error(comparison):
    from sklearn.model_selection import StratifiedKFold

    X, y = IRIS
    train, test = next(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    pca = PCA(1).fit(X[train])
    error = ((X[test] - pca.inverse_transform(pca.transform(X[test]))) ** 2).mean()
    assert comparison.results["error"][0] == pytest.approx(error)
    r2 = 1 - error / ((X[test] - X[train].mean(axis=0)) ** 2).mean()
    assert comparison.results["r2"][0] == pytest.approx(r2)


def test_the_summary_has_a_row_a_cell_and_a_verdict_a_size(comparison):
    text = comparison.summary()
    assert text == str(comparison)
    assert text.count("  AutoencoderTransformer") == 2
    assert "accuracy" in text
    share = np.array(comparison.results["error"][3:6]) / comparison.results["error"][:3]
    assert (
        f"At 1 component the error of the autoencoder is {100 * share.mean():.0f} % +- {100 * share.std():.0f} %"
        in text
    )


def made_up(shares, densities=None):
    """A comparison of PCA and an autoencoder whose errors are these shares of PCA's; densities of PCA and a VAE."""
    n = len(shares)
    results = {
        "estimator": ["PCA"] * n + ["AutoencoderTransformer"] * n,
        "n_components": [3] * 2 * n,
        "fold": [*range(n), *range(n)],
        "error": [2.0] * n + [2 * share for share in shares],
        "r2": [0.5] * 2 * n,
        "log_likelihood": [np.nan] * 2 * n,
        "fit_seconds": [0.1] * n + [4.0] * n,
        "transform_seconds": [0.1] * 2 * n,
    }
    if densities:
        results["estimator"][n:] = ["VAEGenerator"] * n
        results["log_likelihood"] = [densities[0]] * n + [*densities[1]]
    return Comparison(results)


@pytest.mark.parametrize(
    ("shares", "stays"),
    [([0.5, 0.6], False), ([1.0, 1.0], True), ([1.2, 1.4], True), ([0.8, 1.1], True), ([0.981, 0.985], True)],
)
def test_the_verdict_stays_with_pca_where_nothing_is_gained(shares, stays):
    summary = made_up(shares).summary()
    assert f"{100 * np.mean(shares):.0f} % +- {100 * np.std(shares):.0f} % of PCA's" in summary
    assert ("of PCA's: stay with PCA." in summary) == stays
    assert ("For reconstruction: stay with PCA" in summary) == stays
    assert ("for a fit of 4 s in place of 0.1 s" in summary) != stays


@pytest.mark.parametrize(("vae", "clear"), [((-3.0, -3.2), True), ((-4.0, -6.1), False), ((-9.0, -8.8), True)])
def test_the_verdict_on_densities_minds_the_spread(vae, clear):
    comparison = made_up([0.9, 0.9], (-5.0, vae))
    gain = np.abs(np.array(vae) + 5.0)
    best = "PCA" if np.mean(vae) < -5 else "the VAE"
    assert f"is that of {best}, " in comparison.summary()
    assert (
        f"For densities and new rows: {best} with 3 components, {gain.mean():.2f} nats" in comparison.answer()
    ) == clear
    assert ("within the spread" in comparison.answer()) != clear


def test_densities_are_compared_at_each_models_best_size():
    results = {key: value * 2 for key, value in made_up([0.9, 0.9], (-30.0, (-20.0, -20.1))).results.items()}
    results["n_components"] = [2] * 4 + [16] * 4
    results["log_likelihood"][4:] = [-10.0, -10.0, -12.0, -12.1]
    answer = Comparison(results).answer()
    assert "For densities and new rows: PCA with 16 components, 2.05 nats a row above the VAE with 16." in answer


def test_models_are_known_by_what_they_can_do_and_not_by_name():
    estimators = {"mine": VAEGenerator(max_iter=0), "FactorAnalysis": FactorAnalysis()}
    comparison = compare(IRIS[0], n_components=[2], cv=2, estimators=estimators)
    assert comparison.reference == "mine"
    assert "For reconstruction" not in comparison.answer()
    assert re.search("the highest log-likelihood is that of (mine|factor analysis)", comparison.summary())


def test_constant_columns_are_left_out_and_named():
    X = np.insert(IRIS[0], [1, 3], 7.0, axis=1)
    comparison = compare(X, n_components=[2], cv=2, estimators={"PCA": PCA(), "FactorAnalysis": FactorAnalysis()})
    plain = compare(IRIS[0], n_components=[2], cv=2, estimators={"PCA": PCA(), "FactorAnalysis": FactorAnalysis()})
    assert comparison.constant == [1, 4]
    assert "Left out: columns 1, 4 (counted from 0), constant" in comparison.summary()
    for column in ("error", "log_likelihood"):
        np.testing.assert_array_equal(comparison.results[column], plain.results[column])


def test_a_pipelines_density_is_in_other_units_and_counts_as_none():
    estimators = {"scaled": make_pipeline(StandardScaler(), VAEGenerator(max_iter=0))}
    comparison = compare(IRIS[0], n_components=[2], cv=2, estimators=estimators)
    assert np.isnan(comparison.results["log_likelihood"]).all()


def test_names_with_dollars_and_models_with_nothing_to_draw_have_a_report(tmp_path):
    compare(IRIS[0], n_components=[2], cv=2, estimators={"$a_{$": PCA()}).to_html(tmp_path / "a.html")

    class NoInverse(FastICA):
        inverse_transform = property()

    one_way = compare(IRIS[0], n_components=[2], cv=2, estimators={"x": NoInverse(whiten="unit-variance")})
    one_way.to_html(tmp_path / "b.html")
    assert "Codes of two components" in (tmp_path / "b.html").read_text()


@pytest.mark.parametrize("estimators", [{}, [PCA()], {1: PCA()}])
def test_estimators_are_a_dict_of_names(estimators):
    with pytest.raises(TypeError, match="must be a dict of names"):
        compare(IRIS[0], estimators=estimators)


def test_where_a_density_is_at_its_floor_none_are_compared(tmp_path):
    X = np.hstack([IRIS[0], IRIS[0]])
    estimators = {"FactorAnalysis": FactorAnalysis(tol=1e-8), "VAE": VAEGenerator(max_iter=0)}
    comparison = compare(X, n_components=[3], cv=2, estimators=estimators)
    assert np.isposinf(comparison.folds("log_likelihood", "FactorAnalysis", 3)).all()
    assert np.isfinite(comparison.folds("log_likelihood", "VAE", 3)).all()
    assert "No densities are compared at 3 components" in comparison.answer()
    assert "nats" not in comparison.summary()
    comparison.to_html(tmp_path / "report.html")
    assert "No densities" not in compare(IRIS[0], n_components=[2], cv=2, estimators=estimators).answer()


def test_a_difference_of_rounding_is_no_lead():
    exact = {"estimator": ["PCA"] * 2 + ["VAE"] * 2, "n_components": [1] * 4, "fold": [0, 1] * 2, "error": [1.0] * 4}
    exact |= {"r2": [0.5] * 4, "log_likelihood": [-4.5, -4.3, -4.5 + 1e-15, -4.3 + 1e-15]}
    exact |= {"fit_seconds": [1.0] * 4, "transform_seconds": [1.0] * 4}
    assert "within the spread" in Comparison(exact).answer()


def test_columns_of_text_are_named():
    with pytest.raises(ValueError, match=r"The models compared take numbers, but column 'city' of X has 'Oslo'"):
        compare(pd.DataFrame({"x": [1.0, 2], "city": ["Oslo", "Rome"], "n": [1, 2]}))


def test_fewer_components_for_the_same_error_are_counted():
    results = {key: value * 2 for key, value in made_up([1.0, 1.0]).results.items()}
    results["n_components"] = [3] * 4 + [6] * 4
    results["error"] = [8.0, 8.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0]
    assert "It needs 3 components for the error of PCA with 6." in Comparison(results).answer()


def test_a_numeric_target_is_predicted_by_regression(curve):
    comparison = compare(curve, curve[:, 0], n_components=[2], cv=2, estimators={"PCA": PCA()})
    assert "target R^2" in comparison.summary()
    assert min(comparison.results["target_score"]) > 0.5
    whole_numbers = np.argsort(np.argsort(curve[:, 0]))
    assert compare(curve, whole_numbers, n_components=[2], cv=2, estimators={"PCA": PCA()}).target_label == "target R^2"


def test_sizes_that_do_not_reduce_are_left_out_and_named():
    comparison = compare(IRIS[0], n_components=[2, 4, 8], cv=2, estimators={"PCA": PCA()})
    assert comparison.skipped == [4, 8]
    assert "Left out: 4, 8 components" in comparison.summary()


def test_pipelines_and_transformers_without_an_inverse_have_their_row():
    class NoInverse(FastICA):
        inverse_transform = property()

    estimators = {"scaled": make_pipeline(StandardScaler(), PCA()), "one way": NoInverse(whiten="unit-variance")}
    comparison = compare(*IRIS, n_components=[2], cv=2, estimators=estimators)
    errors = comparison.results["error"]
    assert np.isfinite(errors[:2]).all()
    assert np.isnan(errors[2:]).all()
    assert np.isfinite(comparison.results["target_score"]).all()
    assert "one way" in comparison.summary()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": [4, 9]}, r"None of the sizes \[4, 9\] is left: a size must be less than the 4 columns"),
        ({"n_components": [0]}, "n_components=0"),
        ({"X": np.ones((20, 5))}, "No column of X varies"),
        ({"cv": 1}, "cv=1 must be an integer of at least 2"),
        ({"cv": 1000}, "cv=1000 is more than the 150 samples"),
        ({"y": np.zeros(150)}, r"one class of y only; classes and their counts: 0.0 \(150\)"),
        ({"y": np.arange(150) == 0, "n_components": [2]}, r"one class of y only.*False \(149\), True \(1\)"),
        ({"y": np.zeros(149)}, "inconsistent numbers of samples"),
        ({"estimators": {"scale": StandardScaler()}}, r"estimators\['scale'\]=StandardScaler\(\) has no parameter"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"X": IRIS[0]} | arguments)


def test_densities_are_the_models_own_where_they_have_one():
    X = IRIS[0]
    estimators = {
        "PCA": PCA(),
        "FactorAnalysis": FactorAnalysis(),
        "VAEGenerator": VAEGenerator(max_iter=0),
        "AutoencoderTransformer": AutoencoderTransformer(max_iter=0),
    }
    comparison = compare(X, n_components=[2], cv=2, estimators=estimators)
    train, test = next(KFold(2, shuffle=True, random_state=0).split(X))
    for name in ("PCA", "FactorAnalysis", "VAEGenerator"):
        expected = clone(estimators[name]).set_params(n_components=2).fit(X[train]).score(X[test])
        assert comparison.folds("log_likelihood", name, 2)[0] == pytest.approx(expected, abs=1e-9)
    assert np.isnan(comparison.folds("log_likelihood", "AutoencoderTransformer", 2)).all()
    assert np.isnan(comparison.folds("error", "FactorAnalysis", 2)).all()


def test_the_defaults_are_four_models():
    comparison = compare(IRIS[0][:40], n_components=[1], cv=2)
    assert comparison.names == ["PCA", "FactorAnalysis", "AutoencoderTransformer", "VAEGenerator"]
    assert "of the VAE" in comparison.summary()


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


def test_parallel_folds_give_the_same_numbers(comparison):
    again = compare(*IRIS, n_components=[1, 2], cv=3, estimators=QUICK, n_jobs=2)
    np.testing.assert_allclose(again.results["error"], comparison.results["error"], rtol=1e-3)


@pytest.fixture
def csv(tmp_path, curve):
    table = pd.DataFrame(curve[:80], columns=list("abcde"))
    table.loc[[3, 7], "a"] = np.nan
    table.loc[7, "b"] = np.inf
    table["city"] = "Ulm"
    table["empty"] = np.nan
    table["label"] = np.where(np.arange(80) % 2, "yes", "no")
    table.loc[9, "label"] = None
    path = tmp_path / "data.csv"
    table.to_csv(path, index=False)
    return path


def test_a_table_says_what_was_left_out(csv):
    X, y, notes = read_table(csv, "label")
    assert X.shape == (77, 5)
    assert set(y) == {"yes", "no"}
    np.testing.assert_allclose(X.std(axis=0), 1)
    assert notes[0] == "Left out, not numeric: city."
    assert notes[1] == "Left out, more than half missing: empty."
    assert notes[2] == "Left out, 3 of 80 rows with missing values in: a (2), b (1), label (1)."
    raw, _, _ = read_table(csv, "label", raw=True)
    assert abs(raw[:, 0].std() - 1) > 0.05


def test_semicolons_booleans_and_labels_of_any_kind_are_read(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a;flag;label\n1;True;True\n2;False;\n3;True;False\n4;False;True\n")
    X, y, notes = read_table(path, "label", raw=True)
    np.testing.assert_array_equal(X, [[1, 1], [3, 1], [4, 0]])
    assert list(y) == ["True", "False", "True"]
    assert notes == ["Left out, 1 of 4 rows with missing values in: label (1)."]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2,\n3,4,\n",
        "a,b,\n1,2,\n3,4,\n",
        "\n\na;b\n1;2\n3;4\n",
        '"a, in m; s",b\n1,2\n3,4\n',
        '"a; in m; s",b\n1,2\n3,4\n',
        "a,b\nfirst,1,2\nsecond,3,4\n",
        "a,b\n0,9,\n1,1,2\n2,3,4\n",
        "\ufeffa\tb\n1\t2\n3\t4\n",
    ],
)
def test_tables_as_programs_write_them_are_read(tmp_path, text):
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8")
    X, _, _ = read_table(path, raw=True)
    np.testing.assert_array_equal(X, [[1, 2], [3, 4]])


def test_durations_are_left_out(tmp_path):
    path = tmp_path / "data.parquet"
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 5], "c": pd.to_timedelta([1, 2], "s")})
    table.to_parquet(path)
    X, _, notes = read_table(path, raw=True)
    np.testing.assert_array_equal(X, [[1, 3], [2, 5]])
    assert notes == ["Left out, not numeric: c."]


@pytest.mark.parametrize("dtype", [np.float16, bool, int])
def test_numbers_of_any_kind_are_compared(dtype):
    X = (100 * np.random.RandomState(0).normal(size=(300, 4)) * (1, 2, 3, 300)).clip(0, 6e4).astype(dtype)
    expected = compare(X.astype(float), n_components=[1], cv=2, estimators={"PCA": PCA()})
    found = compare(X, n_components=[1], cv=2, estimators={"PCA": PCA()})
    np.testing.assert_allclose(found.results["r2"], expected.results["r2"], rtol=1e-6)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "skae", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def test_the_command_compares_a_table(csv, tmp_path):
    report = tmp_path / "out.html"
    done = run("compare", csv, "--components", 2, "--target", "label", "--cv", 2, "--jobs", 1, "--report", report)
    assert done.returncode == 0, done.stderr
    assert "Left out, not numeric: city." in done.stdout
    assert "At 2 components the error of the autoencoder is" in done.stdout
    assert "accuracy" in done.stdout
    assert "[8/8] VAEGenerator, 2 components, fold 2" in done.stderr
    assert f"The report is {report}." in done.stdout
    assert "Left out, not numeric: city." in report.read_text()


def test_parquet_is_read_like_csv(tmp_path, csv):
    path = tmp_path / "data.parquet"
    pd.read_csv(csv).to_parquet(path)
    for mine, theirs in zip(read_table(path, "label"), read_table(csv, "label"), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_report_that_cannot_be_written_leaves_the_table(csv, tmp_path):
    done = run("compare", csv, "--components", 2, "--cv", 2, "--jobs", 1, "--report", tmp_path)
    assert done.returncode == 0
    assert "For reconstruction" in done.stdout
    assert "skae: no report" in done.stderr


def test_a_report_in_no_folder_is_refused_before_anything_is_fitted(csv, tmp_path):
    done = run("compare", csv, "--report", tmp_path / "no" / "report.html")
    assert done.returncode == 2
    assert "is in a folder that does not exist" in done.stderr
    assert not done.stdout


def test_a_constant_column_of_a_table_is_left_out_by_name(tmp_path):
    rng = np.random.RandomState(0)
    path = tmp_path / "flat.csv"
    pd.DataFrame({"name": ["x"] * 9, "a": rng.normal(size=9), "b": rng.normal(size=9), "flat": 1.0}).to_csv(path)
    X, _, notes = read_table(path)
    assert X.shape == (9, 3)  # a number a row beside a and b
    assert "Left out, constant: flat." in notes
    pd.DataFrame({"flat": np.ones(9), "flatter": 2.0}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"no numeric column that varies. Left out, constant: flat, flatter."):
        read_table(path)


def test_the_command_without_a_table_compares_digits(monkeypatch, capsys):
    from skae import __main__ as command

    X, y, notes = command._digits()
    assert X.shape == (1797, 64)
    monkeypatch.setattr(command, "_digits", lambda: (X[:100], y[:100], notes))
    assert main(["compare", "--components", "2", "--cv", "2", "--jobs", "1", "--report", "none"]) == 0
    assert "100 rows, 64 columns" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["compare", "no-such.csv"], 1, "no-such.csv"),
        (["compare", "{csv}", "--target", "nope"], 1, "--target nope is no column"),
        (["compare", "{csv}", "--components", "5"], 1, "less than the 5 columns"),
        (["compare", "--components", "two"], 2, "invalid int value"),
        (["compare", "--target", "label"], 2, "--target needs a table"),
        (["reduce"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_the_command_fails_with_a_message_and_a_code(csv, arguments, code, message):
    done = run(*(str(argument).replace("{csv}", str(csv)) for argument in arguments))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_examples():
    done = run("compare", "--help")
    assert done.returncode == 0
    assert "python -m skae compare data.csv --components 2 4 8 --target label" in done.stdout


@pytest.mark.parametrize("content", ["", "name\nx\ny\n", "a,b\n1,2\n"], ids=["empty", "text only", "one row"])
def test_a_table_that_cannot_be_used_says_why(tmp_path, content, capsys):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert main(["compare", str(path)]) == 1
    assert capsys.readouterr().err.startswith("skae: ")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_ordered_autoencoder_is_fitted_once_a_fold(digits):
    X = digits[:200]
    comparison = compare(
        X,
        n_components=[1, 2, 4],
        cv=2,
        estimators={"PCA": PCA(), "ordered": AutoencoderTransformer(ordered=True, max_iter=10, random_state=0)},
    )
    assert comparison.folds("error", "ordered", 4).shape == (2,)
    train, test = next(KFold(2, shuffle=True, random_state=0).split(X))
    kept = X[train].std(axis=0) > 0
    kept &= X[test].std(axis=0) > 0
    model = AutoencoderTransformer(4, ordered=True, max_iter=10, random_state=0).fit(X[train][:, kept])
    for size in (1, 2, 4):
        error = reconstruction_error(model.truncate(size), X[test][:, kept])
        assert comparison.folds("error", "ordered", size)[0] == pytest.approx(error, rel=1e-6)
    shares = [comparison.folds("fit_seconds", "ordered", size)[0] for size in (1, 2, 4)]
    assert shares[0] == shares[1] == shares[2]


def test_the_command_compares_one_ordered_fit(monkeypatch):
    seen = []

    def refuse(X, y, **options):
        seen.append(options["ordered"])
        raise ValueError("that is all")

    monkeypatch.setattr("skae.__main__.compare", refuse)
    assert [main(["compare", *options]) for options in ([], ["--ordered"])] == [1, 1]
    assert seen == [False, True]


def test_the_default_autoencoder_may_be_in_order():
    rows = np.random.RandomState(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="ordered=1 must be True or False"):
        compare(rows, n_components=[1], ordered=1)
