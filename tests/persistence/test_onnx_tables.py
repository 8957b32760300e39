"""Graphs of tables, of classes and of Pipelines have inputs for these, and compute what the estimators do."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAEGenerator, to_onnx
from skae.data.tables import TableEncoder
from skae.networks.export import PiecewiseLinear

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates", "one_hidden_layer"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture(scope="module")
def one_hidden_layer():
    """Each layer is traced as often as codes are refined, and what is tested here are the ends of the graph."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skae.networks.model._WIDTHS", (16,))
        yield


WINE, CLASSES = load_wine(return_X_y=True)
TEXTS = np.array(["x", "y", "z"])


def table(n=150, seed=0):
    rng = np.random.RandomState(seed)
    u, v = rng.normal(size=(2, n))
    income = 3000 + 800 * u + 50 * rng.normal(size=n)
    income[::9] = np.nan
    return pd.DataFrame(
        {
            "income": income,
            "debt": np.where(u > 0, 0.0, np.exp(v)),
            "fixed": 7.5,
            "member": u > 0,
            "city": np.array(["Oslo", "Rome", "Bonn"])[np.digitize(v, [-0.5, 0.7])],
            "visits": rng.poisson(np.exp(1 + v)),
            "grade": (rng.uniform(size=n) * 3).astype(int) / 10,
        }
    )


def run(path, feeds):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([end.name for end in session.get_outputs()], session.run(None, feeds), strict=True))


def feeds_of(X, dtype):
    """An input of each column, texts as objects."""
    texts = X.dtypes.map(pd.api.types.is_string_dtype)
    return {name: X[name].to_numpy(dtype=object if texts[name] else dtype)[:, None] for name in X}


MODELS = [
    AutoencoderTransformer(2, loss="auto", max_iter=3, random_state=0),
    AutoencoderTransformer(2, loss={"grade": "cross_entropy"}, max_iter=3, random_state=0),
    AutoencoderTransformer(2, max_iter=3, random_state=0),
    VAEGenerator(2, likelihood={"grade": "categorical"}, max_iter=3, random_state=0),
]


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        (MODELS[0], "float32"),
        *(pytest.param(model, "float64", marks=pytest.mark.slow) for model in MODELS[1:]),
    ],
    ids=repr,
)
def test_a_graph_has_an_input_and_an_output_for_each_column(model, dtype, tmp_path):
    X = table()
    codes = model.fit(X).transform(X)
    decoded = model.inverse_transform(codes)
    to_onnx(model, tmp_path / "encoder.onnx", dtype=dtype)
    (found,) = run(tmp_path / "encoder.onnx", feeds_of(X, dtype)).values()
    np.testing.assert_allclose(found, codes, atol=1e-4 * np.abs(codes).max())
    (of_none,) = run(tmp_path / "encoder.onnx", feeds_of(X[:0], dtype)).values()
    assert of_none.shape == (0, 2)
    to_onnx(model, tmp_path / "decoder.onnx", "decoder", dtype=dtype)
    found = run(tmp_path / "decoder.onnx", {"codes": codes.astype(dtype)})
    assert list(found) == list(X)
    kinds = {"member": bool, "visits": np.int64, "city": object}
    for name, values in found.items():
        assert values.dtype == kinds.get(name, dtype)
        expected = decoded[name].to_numpy()
        if values.dtype.kind == "f":
            is_close = np.isclose(values[:, 0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        else:
            is_close = values[:, 0] == expected
        assert is_close.mean() > 0.98, name  # rounding may decide between whole numbers or categories


def test_the_autoencoder_goes_from_column_to_column(tmp_path):
    X, model = table(), MODELS[0]
    model.fit(X)
    to_onnx(model, tmp_path / "graph.onnx", "autoencoder", dtype="float64")
    found = run(tmp_path / "graph.onnx", feeds_of(X, "float64"))
    assert list(found) == [f"{name}_reconstruction" for name in X]
    expected = model.inverse_transform(model.transform(X))
    assert (found["city_reconstruction"][:, 0] == expected["city"]).all()


def test_unknown_categories_are_missing(tmp_path):
    X = table()
    model = AutoencoderTransformer(2, loss="auto", handle_unknown="ignore", max_iter=3, random_state=0).fit(X)
    to_onnx(model, tmp_path / "graph.onnx", dtype="float64")
    X = X.assign(city="Paris")
    (found,) = run(tmp_path / "graph.onnx", feeds_of(X, "float64")).values()
    np.testing.assert_allclose(found, model.transform(X), atol=1e-4)


@pytest.mark.parametrize(("low", "step"), [(1_000_000, 1), (1e-7, 1e-7)])
def test_categories_that_are_close_are_different(low, step, tmp_path):
    X = table()
    places = X["city"].map({"Oslo": 0, "Rome": 1, "Bonn": 2})
    X["city"] = pd.Categorical(low + step * places)
    model = AutoencoderTransformer(2, loss="auto", handle_unknown="ignore", max_iter=0, random_state=0).fit(X)
    to_onnx(model, tmp_path / "graph.onnx")
    for city in (X["city"].astype(float), low + step * 3):
        new = X.assign(city=city)
        (found,) = run(tmp_path / "graph.onnx", feeds_of(new, "float32")).values()
        np.testing.assert_allclose(found, model.transform(new), atol=1e-4)


def test_a_graph_needs_different_names_and_categories(tmp_path):
    X = table()[["income", "city"]]
    model = AutoencoderTransformer(1, loss="auto", max_iter=0)
    for name in ("codes", ""):
        with pytest.raises(ValueError, match="different names"):
            to_onnx(clone(model).fit(X.set_axis([name, "city"], axis=1)), tmp_path / "graph.onnx")
    named = X.set_axis(["Cast_0", "city"], axis=1)  # the graph's own names do not matter
    to_onnx(clone(model).fit(named), tmp_path / "graph.onnx")
    for value, dtypes in ((2**24, ["float32"]), (2**60, ["float32", "float64"])):
        numbers = clone(model).fit(X.assign(city=pd.Categorical(value + (X["city"] == "Oslo").astype("int64"))))
        for dtype in dtypes:
            with pytest.raises(ValueError, match=f"'city' are not all different in {dtype}"):
                to_onnx(numbers, tmp_path / "graph.onnx", dtype=dtype)
        if dtypes == ["float32"]:
            to_onnx(numbers, tmp_path / "graph.onnx", dtype="float64")


def test_equal_names_get_numbers():
    X = table()[["income", "city"]].set_axis([1, "1"], axis=1)
    encoder = TableEncoder().fit(X)
    assert [column.name for column in encoder.graph_columns()] == ["1_0", "1_1"]
    assert [column.name for column in encoder.graph_columns("new")] == ["1_0_new", "1_1_new"]


@pytest.mark.parametrize(
    "labels",
    [pytest.param(CLASSES, marks=pytest.mark.slow, id="numbers"), pytest.param(TEXTS[CLASSES], id="texts")],
)
def test_a_graph_has_an_input_for_the_class(labels, tmp_path):
    model = VAEGenerator(2, conditional=True, max_iter=3, random_state=0).fit(WINE, labels)
    given = labels[:, None].astype(object if labels.dtype.kind == "U" else np.float64)
    to_onnx(model, tmp_path / "encoder.onnx", dtype="float64")
    (found,) = run(tmp_path / "encoder.onnx", {"rows": WINE, "class": given}).values()
    for k, value in enumerate(np.eye(3)):
        of_class = k == CLASSES
        expected = model._fitted.encode_given(WINE[of_class], value)
        np.testing.assert_allclose(found[of_class], expected, atol=1e-4 * np.abs(expected).max())
    to_onnx(model, tmp_path / "decoder.onnx", "decoder", dtype="float64")
    (decoded,) = run(tmp_path / "decoder.onnx", {"codes": found, "class": given}).values()
    np.testing.assert_allclose(decoded, model.inverse_transform(found, labels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_pipelines_are_exported_by_skl2onnx(dtype, tmp_path):
    pytest.importorskip("skl2onnx")
    reducer = AutoencoderTransformer(3, max_iter=3, random_state=0)
    pipeline = make_pipeline(StandardScaler(), reducer, LogisticRegression()).fit(WINE, CLASSES)
    to_onnx(pipeline, tmp_path / "graph.onnx", dtype=dtype)
    label, probability = run(tmp_path / "graph.onnx", {"rows": WINE.astype(dtype)}).values()
    assert (label == pipeline.predict(WINE)).all()
    np.testing.assert_allclose(probability, pipeline.predict_proba(WINE), atol=1e-4)
    to_onnx(pipeline[:-1], tmp_path / "graph.onnx", dtype=dtype)
    (codes,) = run(tmp_path / "graph.onnx", {"rows": WINE.astype(dtype)}).values()
    expected = pipeline[:-1].transform(WINE)
    np.testing.assert_allclose(codes, expected, atol=1e-4 * np.abs(expected).max())


def test_a_piecewise_linear_map_is_that_of_numpy(seed):
    rng = np.random.RandomState(seed)
    x, y = np.sort(rng.normal(size=8)), np.sort(rng.normal(size=8))
    x[3] = x[4]  # a jump
    inside = rng.uniform(x[0], x[-1], size=50)
    inside[0] = x[4]
    found = PiecewiseLinear(np.array([x, y]))(torch.from_numpy(np.append(inside, np.nan))).numpy()
    np.testing.assert_allclose(found[:-1], np.interp(inside, x, y))
    assert np.isnan(found[-1])
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    beyond = PiecewiseLinear(np.array([x, y]))(torch.tensor([x[-1] + 2.0])).item()
    assert beyond == pytest.approx(y[-1] + 2 * slope)
