"""Files hold what was fitted, for other processes and devices, and a file that was changed is an error and no model."""

import copy
import functools
import io
import json
import pickle
import subprocess
import sys
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skae
from skae import TRUSTED_TYPES, AutoencoderTransformer, LatentSizeCV, ModelImputer, ResampledGenerator, VAEGenerator
from skae._search import own_score

skops = pytest.importorskip("skops.io")
pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")
ROWS = load_iris().data


def a_table():
    kinds = pd.Categorical(np.where(ROWS[:, 1] > 3, "wide", "narrow"))
    return pd.DataFrame({"length": ROWS[:, 0], "kind": kinds, "count": (5 * ROWS[:, 2]).astype(int)})


def fits():
    quick = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}
    yield "autoencoder", AutoencoderTransformer(2, **quick).fit(ROWS).partial_fit(ROWS), ROWS
    yield "ordered", AutoencoderTransformer(3, ordered=True, alpha=0.1, **quick).fit(ROWS).truncate(2), ROWS
    gaps = np.where(np.arange(ROWS.size).reshape(ROWS.shape) % 7 == 0, np.nan, ROWS)
    yield "vae", VAEGenerator(2, prior="mixture", learning_rate_init=3e-3, **quick).fit(gaps), gaps
    yield "ordered vae", VAEGenerator(2, ordered=True, **quick).fit(ROWS), ROWS
    yield "isotropic vae", VAEGenerator(2, likelihood="isotropic_gaussian", **quick).fit(ROWS), ROWS
    yield "mixed columns", VAEGenerator(2, likelihood="auto", **quick).fit(a_table()), a_table()
    yield "search", LatentSizeCV(AutoencoderTransformer(**quick), (1, 2), cv=2).fit(ROWS), ROWS
    yield "search of a VAE", LatentSizeCV(VAEGenerator(**quick), (1, 2), cv=2).fit(ROWS), ROWS


@pytest.fixture(scope="module")
def fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: (model, X) for name, model, X in fits()}


FITS = ["autoencoder", "ordered", "vae", "ordered vae", "mixed columns", "search", "search of a VAE"]


def same(model, twin, X):
    np.testing.assert_array_equal(twin.transform(X), model.transform(X))
    codes = model.transform(X)
    back, twins = model.inverse_transform(codes), twin.inverse_transform(codes)
    pd.testing.assert_frame_equal(pd.DataFrame(twins), pd.DataFrame(back))
    assert twin.score(X) == model.score(X)


@pytest.mark.parametrize("name", FITS)
def test_skops_needs_no_more_than_the_trusted_types(fitted, name):
    model, X = fitted[name]
    same(model, skops.loads(skops.dumps(model), trusted=TRUSTED_TYPES), X)


def test_skops_holds_a_pipeline(fitted):
    model, X = fitted["autoencoder"]
    pipeline = make_pipeline(StandardScaler().fit(X), model)
    twin = skops.loads(skops.dumps(pipeline), trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(twin.transform(X), pipeline.transform(X))


def test_trusted_types_are_what_they_are_called():
    things = [AutoencoderTransformer, LatentSizeCV, ModelImputer, ResampledGenerator, VAEGenerator]
    things += [skae.reconstruction_scorer, own_score]
    assert sorted(f"{thing.__module__}.{thing.__name__}" for thing in things) == sorted(TRUSTED_TYPES)


def own_module(n_in, n_out):
    return torch.nn.Linear(n_in, n_out)


def test_a_users_own_function_is_the_users_to_trust():
    model = AutoencoderTransformer(2, encoder=own_module, max_iter=0).fit(ROWS)
    data = skops.dumps(model)
    with pytest.raises(Exception, match="own_module"):
        skops.loads(data, trusted=TRUSTED_TYPES)
    twin = skops.loads(data, trusted=[*TRUSTED_TYPES, f"{own_module.__module__}.own_module"])
    np.testing.assert_array_equal(twin.transform(ROWS), model.transform(ROWS))


WRITERS = {
    "pickle": lambda model, path: path.write_bytes(pickle.dumps(model)),
    "joblib": joblib.dump,
    "skops": skops.dump,
}
READING = """
import pickle
with open("pickle", "rb") as file:
    models = {"pickle": pickle.load(file)}
import joblib, numpy, skae, skops.io
models["joblib"] = joblib.load("joblib")
models["skops"] = skops.io.load("skops", trusted=skae.TRUSTED_TYPES)
X = numpy.load("X.npy")
numpy.savez("codes.npz", **{name: model.transform(X) for name, model in models.items()})
"""


def test_another_process_reads_the_same_model(fitted, tmp_path):
    model, X = fitted["vae"]
    for name, write in WRITERS.items():
        write(model, tmp_path / name)
    np.save(tmp_path / "X.npy", X)
    subprocess.run([sys.executable, "-c", READING], check=True, cwd=tmp_path)
    codes = np.load(tmp_path / "codes.npz")
    assert set(codes.files) == set(WRITERS)
    for name in WRITERS:
        np.testing.assert_allclose(codes[name], model.transform(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("name", FITS)
def test_a_model_that_is_mapped_into_memory_gives_no_warning_and_leaves_its_file(fitted, name, mode, tmp_path):
    model, X = fitted[name]
    joblib.dump(model, tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    torch.set_warn_always(True)  # torch warns of read-only arrays once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            twin = joblib.load(tmp_path / "model", mmap_mode=mode)
            same(model, twin, X)
            twin.impute(X)
            twin.sample(3)
            if "ordered" in name:
                twin.truncate(1).transform(X)
            if name in ("autoencoder", "vae"):
                twin.partial_fit(X)
    finally:
        torch.set_warn_always(False)
    assert (tmp_path / "model").read_bytes() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_a_model_goes_from_the_gpu_to_the_cpu_and_back(estimator):
    model = estimator(2, max_iter=5, random_state=0, device="cuda").fit(ROWS)
    state = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    on_cpu = pickle.loads(pickle.dumps(state))
    assert str(on_cpu.net_.device) == "cpu"
    np.testing.assert_allclose(on_cpu.transform(ROWS), model.transform(ROWS), rtol=1e-6, atol=1e-6)
    back = pickle.loads(pickle.dumps(on_cpu.set_params(device="cuda")))
    np.testing.assert_allclose(back.transform(ROWS), model.transform(ROWS), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FITS)
def test_a_file_of_a_later_version_warns_with_both(fitted, name, monkeypatch):
    model, X = fitted[name]
    monkeypatch.setattr("skae.persistence.state.__version__", "999.0.0")
    data = pickle.dumps(model)
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match=rf"skae 999\.0\.0 .*skae {skae.__version__}"):
        twin = pickle.loads(data)
    same(model, twin, X)


@functools.cache
def pickled_state(model):
    """Computed once, though hundreds of altered states are made of it."""
    return pickle.dumps(model.__getstate__())


def changed(model, path, *value):
    """Load a state in which what a path of names leads to is another, or missing."""
    state = pickle.loads(pickled_state(model))
    *way, last = path.split("/")
    place = state
    for name in way:
        place = place[name]
    place.pop(last, None)
    if value:
        (place[last],) = value
    twin = type(model).__new__(type(model))
    twin.__setstate__(state)
    return twin


def nested(depth):
    return functools.reduce(lambda inner, _: [inner], range(depth), [])


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("autoencoder", "net_/weights/encoder.path.bias", np.zeros(3), r"encoder.path.bias is of float64 and shape"),
        ("autoencoder", "net_/weights/encoder.path.bias", np.zeros(2, np.float32), "array of float64"),
        ("autoencoder", "net_/weights/encoder.path.bias", np.array([0, np.nan]), "encoder.path.bias has numbers"),
        ("autoencoder", "net_/weights/surplus", np.zeros(3), "surplus"),
        (
            "autoencoder",
            "net_/weights/decoder.start_weight",
            np.full((4, 2), 1e308),
            r"start_weight has .* beyond 2e\+19",
        ),
        ("autoencoder", "_fitted/built/parameters/encoder", int, "the net cannot be built: encoder must be a callable"),
        ("autoencoder", "_fitted/built/parameters/hidden_layer_sizes", (10**9,), "asks for at least"),
        (
            "autoencoder",
            "_fitted/built/parameters/hidden_layer_sizes",
            (1,) * 10**5,
            "sequence of at most 200 integers",
        ),
        ("autoencoder", "_fitted/built/parameters/loss", "poison", "loss='poison' is not known"),
        ("autoencoder", "net_/weights/scaler.mean", nested(100), "scaler.mean is list, not an array"),
        ("autoencoder", "_fitted/built/n_components", 1000, "asks for at least"),
        ("autoencoder", "_fitted/built/n_components", 10**12, "n_components=10+ is more than 1000 and than the 4 col"),
        ("autoencoder", "_fitted/built/n_features", 10**12, "n_features is 1000000000000"),
        ("autoencoder", "_fitted/built/n_context", 10**12, "asks for at least"),
        ("autoencoder", "_fitted/built/n_context", 1, "class_count_ is missing"),
        ("autoencoder", "_fitted/built/seed", -1, "seed is -1"),
        ("autoencoder", "_fitted/codes", np.full((150, 2), np.nan), "codes has numbers that are not finite"),
        ("autoencoder", "net_/weights/scaler.scale", np.array(0.0), "scaler.scale has numbers that are not"),
        ("autoencoder", "net_/weights/scaler.mean", np.full(4, np.inf), "scaler.mean has numbers that are not finite"),
        ("autoencoder", "net_/weights/scaler.spread", np.full(4, -1.0), "scaler.spread has negative"),
        (
            "autoencoder",
            "net_/weights/code_scaler.scale",
            np.array([1.0, 0.0]),
            "code_scaler.scale has numbers that are not pos",
        ),
        ("autoencoder", "net_/weights/scaler.location", np.full(4, 1e300), "not finite for a typical sample"),
        ("autoencoder", "net_/weights/scaler.scale", np.array(1e-150), "components_ is not that of the net"),
        ("autoencoder", "net_/weights/code_scaler.scale", np.ones(2), "components_ is not that of the net"),
        ("autoencoder", "mean_", np.zeros(4), "mean_ is not that of the net"),
        ("autoencoder", "components_", np.ones((2, 4)), "components_ is not that of the net"),
        ("mixed columns", "_fitted/noise", [], r"noise is \[\], not one of None"),
        ("vae", "noise_variance_", np.ones(4), "noise_variance_ is not that of the net"),
        ("autoencoder", "_fitted/codes", np.full((150, 2), 1e200), r"codes has 1e\+200, more than 3"),
        ("autoencoder", "net_/history", [{"batches": [], "dur": 1.0}], "the history has an epoch without train_loss"),
        ("autoencoder", "net_/gradient_scale", np.inf, "gradient_scale is inf"),
        ("autoencoder", "net_/gradient_scale", 10**30, "gradient_scale is 10000.*, not a number"),
        ("autoencoder", "net_/weights/decoder.low", np.full(2, np.inf), "decoder.low has numbers that are not finite"),
        ("autoencoder", "net_/weights/encoder.path.weight", np.ones((2, 4)), "the net has other codes than when"),
        ("autoencoder", "net_/weights/encoder.path.weight", np.full((2, 4), 1e18), "the net has other codes than when"),
        ("autoencoder", "net_/weights/encoder.path.weight", np.full((2, 4), 1e30), r"numbers beyond 2e\+19"),
        ("autoencoder", "net_/weights/decoder.per_input", np.full(2, 1e31), r"numbers beyond 2e\+19"),
        ("autoencoder", "_table/kind", np.zeros(3), "kind of the table is"),
        ("autoencoder", "feature_names_in_", np.array([*"abc", 1], object), "feature_names_in_ has a name that is no"),
        ("autoencoder", "_fitted/typical", np.zeros(3), r"typical is of float64 and shape \(3,\), not"),
        ("autoencoder", "_sklearn_output_config", 5, "_sklearn_output_config is 5"),
        ("autoencoder", "_sklearn_output_config", {"transform": "text"}, "transform is 'text', not one of 'default'"),
        ("autoencoder", "_fitted/built/parameters/noise", -1, "noise=-1 must be"),
        ("autoencoder", "verbose", np.zeros(3), "verbose=.* must be an integer"),
        ("ordered", "net_/optimizer", {"state": {0.0: {}}, "param_groups": [], "mean_norm": None}, "the optimiser's"),
        ("autoencoder", "_table/library", "os", "library of the table is 'os'"),
        ("autoencoder", "_table/kind", "encoder", "kind of the table is 'encoder'"),
        ("autoencoder", "transform", np.sin, "transform is the name of a method"),
        ("autoencoder", "net_/optimizer/state", {99: {}}, "optimiser"),
        ("vae", "prior_", StandardScaler(), "density of codes is StandardScaler"),
        ("mixed columns", "_table/library", "os", "library of the table is 'os'"),
        ("mixed columns", "_table/labels", None, "labels of the table are None"),
        ("mixed columns", "_table/labels/index", ["id"], "labels of the table are .*, which name no columns"),
        ("mixed columns", "_table/columns", [None] * 3, "a column of the table is not what it should be"),
        ("search", "estimator", -np.inf, "estimator is no estimator of skae, but float"),
        ("search", "best_estimator_", StandardScaler(), "best_estimator_ is no fitted"),
        ("search", "refit", {}, "refit is {}, not one of True, False"),
        ("search", "best_estimator_", None, "best_estimator_ is no fitted"),
        ("search", "best_params_", {"n_components": 3}, "best_params_ is .*'n_components': 3"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong_in_a_file_is_named(fitted, name, path, value, message):
    model, _ = fitted[name]
    with pytest.raises(ValueError, match=message) as caught:
        changed(model, path, value)
    assert "damaged or was changed" in str(caught.value)


def test_a_parameter_in_a_file_may_be_nested_deeply(fitted):
    state = fitted["autoencoder"][0].__getstate__()
    state["_fitted"]["built"]["parameters"] = state["_fitted"]["built"]["parameters"] | {"loss": nested(5000)}
    with pytest.raises(ValueError, match=r"was changed: a parameter is not one that fit takes \(maximum recursion"):
        AutoencoderTransformer().__setstate__(state)


@pytest.mark.parametrize("name", ["estimator", "estimator_"])
def test_an_imputer_in_a_file_has_an_estimator_that_imputes(name):
    imputer = ModelImputer(AutoencoderTransformer(max_iter=0)).fit(ROWS)
    np.testing.assert_array_equal(
        skops.loads(skops.dumps(imputer), trusted=TRUSTED_TYPES).transform(ROWS), imputer.transform(ROWS)
    )
    with pytest.raises(ValueError, match=f"was changed: {name} is StandardScaler, which has no method impute"):
        changed(imputer, name, StandardScaler())


@pytest.mark.parametrize(
    ("estimator", "changes"),
    [
        (AutoencoderTransformer(2, hidden_layer_sizes=(32,) * 4, max_iter=0), {"hidden_layer_sizes": (250,) * 1000}),
        (AutoencoderTransformer(2, hidden_layer_sizes=(32,) * 4, max_iter=0), {"hidden_layer_sizes": (1,) * 100_000}),
        (AutoencoderTransformer(2, hidden_layer_sizes=(32,) * 4, max_iter=0), {"feature_shape": (1, 10**4, 10**4)}),
        (AutoencoderTransformer(2, feature_shape=(3, 8, 8), max_iter=0), {"hidden_layer_sizes": (250,) * 1000}),
        (AutoencoderTransformer(2, encoder=own_module, max_iter=0), {"hidden_layer_sizes": (250,) * 1000}),
        (VAEGenerator(2, ordered=True, hidden_layer_sizes=(1,), max_iter=0), {"n_components": 10**5}),
    ],
    ids=["deep and wide", "deep", "huge images", "images", "own encoder", "many sizes"],
)
def test_no_net_larger_than_its_file_is_built(estimator, changes):
    X = np.random.RandomState(0).normal(size=(20, 192 if estimator.feature_shape else 4))
    state = estimator.fit(X).__getstate__()
    built = state["_fitted"]["built"]
    parameters = {name: value for name, value in changes.items() if name in built["parameters"]}
    built |= {"parameters": built["parameters"] | parameters} | {k: v for k, v in changes.items() if k in built}
    twin, began = type(estimator).__new__(type(estimator)), time.perf_counter()
    with pytest.raises(
        ValueError,
        match=r"damaged or was changed: (what the net was built from asks|feature_shape is|a parameter is not)",
    ):
        twin.__setstate__(state | {name: value for name, value in changes.items() if name in state})
    assert time.perf_counter() - began < 1


def test_a_file_of_many_classes_opens_in_a_second():
    X = np.random.RandomState(0).normal(size=(3000, 2))
    model = VAEGenerator(1, conditional=True, hidden_layer_sizes=(), start="pca", max_iter=0)
    file, began = pickle.dumps(model.fit(X, np.arange(3000) % 1500)), time.process_time()
    pickle.loads(file)
    assert time.process_time() - began < 1


def result_of(function):
    """What a function returns, or the error that it raises."""
    try:
        return function()
    except Exception as error:
        return error


def names_in(state, depth=3):
    """Paths of names to what a state holds, but for numbered things."""
    for name, value in state.items():
        if isinstance(name, str):
            yield name
            if isinstance(value, dict) and depth:
                yield from (f"{name}/{rest}" for rest in names_in(value, depth - 1))


@pytest.mark.filterwarnings("ignore")  # of another version, and of names of columns
@pytest.mark.parametrize("name", FITS)
def test_without_any_of_its_names_a_state_is_refused_or_the_same_model(fitted, name):
    model, X = fitted[name]
    for path in names_in(model.__getstate__()):
        found = result_of(lambda: changed(model, path))  # noqa: B023 (called at once)
        if isinstance(found, Exception):
            assert isinstance(found, ValueError), path
            assert "damaged or was changed" in str(found), path
        elif path == "net_":
            assert not found.__sklearn_is_fitted__()
        else:
            same(model, found, X)


# Files that chance has changed.

CONTENTS = [
    "-1",
    "0",
    "3",
    "1e999",
    "NaN",
    '"text"',
    "null",
    "true",
    "1000000000",
    "1e300",
    "[]",
    "{}",
    "-1e300",
    '"os"',
]


def nodes_of(tree):
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes_of(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes_of(value)


def with_other_schema(schema, rng):
    nodes = list(nodes_of(schema))
    kind = rng.randint(5)
    plain = [node for node in nodes if node.get("__loader__") == "JsonNode"]
    if kind <= 1:
        plain[rng.randint(len(plain))]["content"] = CONTENTS[rng.randint(len(CONTENTS))]
    elif kind == 2:  # a key that is missing
        node = nodes[rng.randint(len(nodes))]
        del node[sorted(node)[rng.randint(len(node))]]
    elif kind == 3:  # another name
        named = [node["content"] for node in nodes if node.get("__loader__") == "DictNode" and node["content"]]
        content = named[rng.randint(len(named))]
        names = list(content)
        name = names[rng.randint(len(names))]
        items = [(("transform" if rng.randint(2) else name + "x") if k == name else k, v) for k, v in content.items()]
        content.clear()
        content.update(items)
    else:  # one thing in another's place
        whole = [node for node in nodes if "__loader__" in node]
        here, there = (whole[i] for i in rng.randint(len(whole), size=2))
        there = json.loads(json.dumps(there))
        here.clear()
        here.update(there)


def with_other_array(array, rng):
    kind = rng.randint(8)
    array = array.copy()
    if kind == 0:
        return array[..., None]
    if kind == 1:
        return array.ravel()[:-1]
    if kind == 2:
        return array.T if array.ndim > 1 else np.concatenate([array.ravel(), array.ravel()])
    if kind == 3:
        return array.astype(["float32", "int64", "U8", "complex128"][rng.randint(4)])
    if array.size and array.dtype.kind == "f":
        array.flat[rng.randint(array.size)] = [np.nan, np.inf, 1e308, -1e300][kind - 4]
    return array


def mutated(data, rng):
    """The bytes of a file in which one thing is another."""
    kind = rng.randint(3)
    if kind == 0:
        data = bytearray(data)
        data[rng.randint(len(data))] ^= 1 << rng.randint(8)
        return bytes(data)
    archive = zipfile.ZipFile(io.BytesIO(data))
    parts = {name: archive.read(name) for name in archive.namelist()}
    if kind == 1:
        schema = json.loads(parts["schema.json"])
        with_other_schema(schema, rng)
        parts["schema.json"] = json.dumps(schema).encode()
    else:
        arrays = sorted(name for name in parts if name.endswith(".npy"))
        name, other = (arrays[i] for i in rng.randint(len(arrays), size=2))
        if rng.randint(4):
            buffer = io.BytesIO()
            with np.errstate(all="ignore"):
                np.save(buffer, with_other_array(np.load(io.BytesIO(parts[name])), rng))
            parts[name] = buffer.getvalue()
        else:
            parts[name], parts[other] = parts[other], parts[name]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def loaded(data):
    """The model, or the error."""
    try:
        return skops.loads(data, trusted=TRUSTED_TYPES)
    except Exception as error:  # skops, zipfile, json and NumPy have each their own
        return error


def transformed(model, X):
    """The codes, or the error."""
    try:
        return model.transform(X)
    except ValueError as error:
        return error


def check_outcome(data, X):
    """An error that says what is wrong, skae's own if skae raised it, or a model whose codes are codes."""
    here = Path(skae.__file__).parent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = loaded(data)
        if isinstance(model, Exception):
            if any(here in Path(frame.filename).parents for frame in traceback.extract_tb(model.__traceback__)):
                assert isinstance(model, ValueError), model
                assert "damaged or was changed" in str(model), model
            return "refused"
        if not hasattr(model, "transform"):  # some other thing that is plain
            assert type(model).__module__.split(".")[0] in ("builtins", "numpy")
            return "plain"
        codes = transformed(model, X)
        if isinstance(codes, ValueError):
            assert str(codes)
            return "refused"
        assert codes.shape == (len(X), model.n_components_)
        assert np.isfinite(codes).all()
        assert np.shape(model.inverse_transform(codes)) == np.shape(X)
        return "valid"


def check_mutations(fitted, seeds):
    saved = {name: (skops.dumps(model), X) for name, (model, X) in fitted.items()}
    outcomes = []
    for seed in seeds:
        rng = np.random.RandomState(seed)
        data, X = saved[FITS[seed % len(FITS)]]
        data = mutated(data, rng)
        try:
            outcomes.append(check_outcome(data, X))
        except BaseException as error:
            error.add_note(f"seed {seed}: {FITS[seed % len(FITS)]}")
            raise
    assert {"refused", "valid"} <= set(outcomes)
    return outcomes


def test_changed_files_are_refused_or_valid(fitted):
    check_mutations(fitted, range(60))


@pytest.mark.slow
def test_a_thousand_changed_files_are_refused_or_valid(fitted):
    outcomes = check_mutations(fitted, range(1000, 2000))
    assert outcomes.count("refused") > 500  # most changes are of what counts


class OwnNoise(torch.nn.Module):
    """A module with names that skae's own have, and other numbers under them."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = torch.nn.Linear(n_in, n_out)
        self.noise = torch.nn.Parameter(torch.zeros(n_out))
        self.register_buffer("share", torch.tensor(-3.0))

    def forward(self, x):
        return self.linear(x) + self.noise


class Widths:
    """A factory that is compared by identity."""

    def __call__(self, n_in, n_out):
        return torch.nn.Sequential(torch.nn.Linear(n_in, 3), torch.nn.Tanh(), torch.nn.Linear(3, n_out))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_a_copy_with_own_modules_continues_with_the_same_result(estimator, copied):
    model = estimator(2, encoder=Widths(), random_state=0).partial_fit(ROWS)
    twin = copied(model).partial_fit(ROWS)
    same(model.partial_fit(ROWS), twin, ROWS)


@pytest.mark.parametrize("parameters", [{"noise": 0.3}, {"noise": 0.3, "ordered": True}, {"loss": "huber"}])
def test_a_copy_trains_with_the_same_noise_on_the_same_columns(parameters):
    rows = np.hstack([ROWS, np.ones((len(ROWS), 1))])
    model = AutoencoderTransformer(2, random_state=0, **parameters).partial_fit(rows)
    twin = pickle.loads(pickle.dumps(model)).partial_fit(rows)
    same(model.partial_fit(rows), twin, rows)
    assert twin.loss_curve_ == model.loss_curve_


class Tagged(AutoencoderTransformer):
    """A user's class with a parameter of its own, which decides nothing about the network."""

    def __init__(self, tag=None, n_components=2, random_state=0):
        super().__init__(n_components, random_state=random_state)
        self.tag = tag


@pytest.mark.parametrize("tag", [np.arange(3), np.nan, Widths()])
def test_partial_fit_does_not_mind_a_parameter_of_the_users(tag):
    model = pickle.loads(pickle.dumps(Tagged(tag).partial_fit(ROWS))).partial_fit(ROWS)
    assert model.set_params(tag="new").partial_fit(ROWS).n_iter_ == 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("start", ["pca", "random"])
def test_own_modules_may_have_any_names(start):
    X = load_iris().data
    model = AutoencoderTransformer(2, encoder=OwnNoise, start=start, max_iter=1, random_state=0).fit(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))


@pytest.mark.filterwarnings("ignore:No epoch had")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("defensive.0.share", 2.0, "defensive.0.share is no share"),
        ("defensive.0.linear.noise", 0.0, "defensive.0.linear.noise has numbers that are not positive"),
        ("defensive.0.linear.noise", 1e-70, "defensive.0.linear.noise has .* tiny beside the loadings"),
        ("imputer.noise", 1e-70, "imputer.noise has .* tiny beside the loadings"),
        ("imputer.noise", -1.0, "imputer.noise has numbers that are not positive"),
        ("imputation_share", 2.0, "imputation_share is no share"),
        ("constant.0.rate", 1e300, "constant.0.rate has negative numbers, or some beyond"),
        ("likelihoods.0.floor", -1.0, "likelihoods.0.floor has negative numbers"),
    ],
)
def test_shares_and_variances_of_a_file_are_possible(name, value, message):
    state = VAEGenerator(2, max_iter=1, random_state=0).fit(load_iris().data).__getstate__()
    weights = state["net_"]["weights"]
    weights[name] = np.full_like(weights[name], value)
    with pytest.raises(ValueError, match=message):
        VAEGenerator().__setstate__(state)


@pytest.mark.filterwarnings("ignore:No epoch had")
@pytest.mark.parametrize("decoded", [[0, 2, 3], [1, 3, 3], [1, 2, 4099]])
def test_sizes_of_codes_in_a_file_are_possible(decoded):
    model = AutoencoderTransformer(3, ordered=True, max_iter=1, random_state=0).fit(load_iris().data)
    state = model.__getstate__()
    state["net_"]["weights"]["decoded"] = np.array(decoded)
    with pytest.raises(ValueError, match="decoded has a size of codes that is 0 or too large"):
        AutoencoderTransformer().__setstate__(state)


def with_relu(n_in, n_out):
    return torch.nn.Sequential(torch.nn.Linear(n_in, 3), torch.nn.ReLU(), torch.nn.Linear(3, n_out))


def with_tanh(n_in, n_out):
    return torch.nn.Sequential(torch.nn.Linear(n_in, 3), torch.nn.Tanh(), torch.nn.Linear(3, n_out))


def test_a_file_is_refused_where_a_function_of_the_user_has_changed(monkeypatch):
    model = AutoencoderTransformer(2, encoder=with_relu, random_state=0).partial_fit(ROWS)
    file = pickle.dumps(model)
    with_tanh.__qualname__ = "with_relu"
    monkeypatch.setitem(globals(), "with_relu", with_tanh)
    with pytest.raises(ValueError, match="the net has other codes than when it was saved; own modules, too, must be"):
        pickle.loads(file)


class AlwaysDropout(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.5, training=True)


def random_module(n_in, n_out):
    return torch.nn.Sequential(torch.nn.Linear(n_in, 4), AlwaysDropout(), torch.nn.Linear(4, n_out))


def test_a_module_of_the_user_may_be_random():
    model = AutoencoderTransformer(2, encoder=random_module, random_state=0).partial_fit(ROWS)
    assert pickle.loads(pickle.dumps(model)).transform(ROWS).shape == (len(ROWS), 2)


def test_a_file_of_an_earlier_version_has_no_typical_outputs():
    model = AutoencoderTransformer(2, max_iter=0).fit(ROWS)
    state = model.__getstate__()
    del state["_fitted"]["typical"]
    twin = AutoencoderTransformer()
    twin.__setstate__(state)
    same(model, twin, ROWS)


def test_an_estimator_whose_fit_failed_holds_plain_values_only():
    model = AutoencoderTransformer(200)
    with pytest.raises(ValueError, match="n_components=200"):
        model.fit(ROWS)
    assert not hasattr(skops.loads(skops.dumps(model), trusted=TRUSTED_TYPES), "net_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_losses_of_all_epochs_in_a_file_are_numbers():
    model = AutoencoderTransformer(2, max_iter=2, random_state=0).fit(ROWS)
    state = model.__getstate__()
    state["net_"]["history"][-1]["valid_loss"] = []
    with pytest.raises(ValueError, match="the history has a loss that is no number"):
        AutoencoderTransformer().__setstate__(state)
