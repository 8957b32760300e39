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
    "_metrics": {"_columns"},
    "_search": {"_metrics", "_state", "_transformer", "_validation"},
    "_onnx_graph": set(),
    "_onnx": {"_base", "_engine", "_onnx_graph", "_search", "_version", "nn", "starts", "_validation"},
    "_drawing": {"_validation"},
    "_display": {"_drawing", "_metrics"},
    "_display_codes": {"_drawing"},
    "_display_rows": {"_columns", "_drawing", "_validation"},
    "_report": {"_display_codes", "_drawing", "_version"},
    "_comparison": {"_columns", "_transformer", "_generator", "_metrics", "_report", "_validation"},
    "__main__": {"_comparison"},
    "__init__": {
        "_comparison",
        "_display",
        "_display_codes",
        "_display_rows",
        "_generator",
        "_metrics",
        "_onnx",
        "_search",
        "_state",
        "_transformer",
        "_version",
    },
}


def imports(module):
    """Full names of the modules a source imports, wherever the import stands."""
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_is_in_the_plan():
    assert {path.stem for path in ROOT.glob("*.py")} == set(ARROWS)


@pytest.mark.parametrize("module", ARROWS)
def test_imports_follow_the_arrows(module):
    found = {name.split(".")[1] for name in imports(module) if name.startswith("skae.")}
    assert {name for name in found if (ROOT / f"{name}.py").exists()} <= ARROWS[module]


def test_the_arrows_have_no_circle():
    assert list(TopologicalSorter(ARROWS).static_order())


@pytest.mark.parametrize("module", sorted(set(ARROWS) - {"_engine", "_report"}))
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
