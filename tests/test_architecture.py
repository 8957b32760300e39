"""The rooms of the house and the arrows between them, read from the sources."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skae

ROOT = Path(skae.__file__).parent

# Each module may import those on the right and what these import, nothing else of skae.
ARROWS = {
    "_torch": set(),
    "_version": set(),
    "nn": set(),
    "losses": {"nn"},
    "likelihoods": {"nn"},
    "starts": {"_streaming"},
    "_streaming": set(),
    "_columns": {"_validation"},
    "_density": set(),
    "_validation": {"_streaming"},
    "_checkpoint": {"_streaming", "_version"},
    "_distributed": set(),
    "_state": {"_columns", "_version"},
    "_engine": {"_distributed", "_state", "nn"},
    "_base": {
        "_checkpoint",
        "_columns",
        "_distributed",
        "_engine",
        "_state",
        "_streaming",
        "nn",
        "starts",
        "_validation",
    },
    "_transformer": {"_base", "_density", "_engine", "_state", "_streaming", "losses", "nn", "starts", "_validation"},
    "_generator": {
        "_base",
        "_columns",
        "_density",
        "_engine",
        "_state",
        "_streaming",
        "likelihoods",
        "losses",
        "nn",
        "starts",
        "_validation",
    },
    "_search": {"_columns", "_state", "_transformer", "_validation", "inspection.metrics"},
    "_onnx_graph": set(),
    "_onnx": {"_base", "_engine", "_onnx_graph", "_search", "_version", "nn", "starts", "_validation"},
    "inspection.__init__": set(),
    "inspection.metrics": {"_columns"},
    "inspection.drawing": {"_validation"},
    "inspection.curves": {"inspection.drawing", "inspection.metrics"},
    "inspection.codes": {"inspection.drawing"},
    "inspection.rows": {"_columns", "_validation", "inspection.drawing"},
    "inspection.report": {"_version", "inspection.codes", "inspection.drawing"},
    "inspection.comparison": {
        "_columns",
        "_generator",
        "_transformer",
        "_validation",
        "inspection.metrics",
        "inspection.report",
    },
    "__main__": {"inspection.comparison"},
    "__init__": {
        "_generator",
        "_onnx",
        "_search",
        "_state",
        "_transformer",
        "_version",
        "inspection.codes",
        "inspection.comparison",
        "inspection.curves",
        "inspection.metrics",
        "inspection.rows",
    },
}


def path_of(module):
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def imports(module):
    """Full names of the modules a source imports, wherever the import stands."""
    tree = ast.parse(path_of(module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_is_in_the_plan():
    paths = [*ROOT.glob("*.py"), *ROOT.glob("inspection/*.py")]
    assert {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths} == set(ARROWS)


@pytest.mark.parametrize("module", ARROWS)
def test_imports_follow_the_arrows(module):
    found = {name.removeprefix("skae.") for name in imports(module) if name.startswith("skae.")}
    assert {name for name in found if path_of(name).exists()} <= ARROWS[module]


def test_the_arrows_have_no_circle():
    assert list(TopologicalSorter(ARROWS).static_order())


@pytest.mark.parametrize("module", sorted(set(ARROWS) - {"_engine", "inspection.report"}))
def test_only_the_engine_imports_skorch(module):
    """The report imports it too, for its version."""
    assert not any(name.split(".")[0] == "skorch" for name in imports(module))


@pytest.mark.parametrize("module", ["nn", "losses", "likelihoods"])
def test_the_torch_half_knows_no_numpy_and_no_sklearn(module):
    assert not {name.split(".")[0] for name in imports(module)} & {"numpy", "sklearn", "scipy"}


def test_the_starts_know_no_torch():
    assert "torch" not in {name.split(".")[0] for name in imports("starts")}


def test_import_loads_no_matplotlib_and_no_pandas_of_its_own():
    """scikit-learn itself may load pandas where it finds it; skae adds nothing to that."""
    code = (
        "import sys, torch, skorch, sklearn.base;"
        "heavy = {'matplotlib', 'onnx', 'pandas', 'polars', 'torch._dynamo', 'tqdm.auto'};"
        "before = heavy & set(sys.modules); import skae; print(sorted((heavy & set(sys.modules)) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_fit_does_not_load_torchs_compiler():
    """It takes longer than a fit of a small table: torch.optim and torch's meta tensors bring it along."""
    code = (
        "import sys, warnings, numpy as np, skae; warnings.simplefilter('ignore');"
        "X = np.random.RandomState(0).normal(size=(60, 4));"
        "models = skae.AutoencoderTransformer(max_iter=2), skae.VAEGenerator(max_iter=2);"
        "[model.fit(X).partial_fit(X).sample(3) for model in models];"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
