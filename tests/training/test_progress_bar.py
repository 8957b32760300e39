"""The progress bar: one in a terminal or a notebook, none where fits run side by side."""

import subprocess
import sys
import warnings

import pytest

BAR = """
import sys, warnings
from types import SimpleNamespace
warnings.simplefilter("error")
from skae.training.callbacks import BestWeights, progress_bar

def show(title="Toy"):
    best = BestWeights(1, 0.0)
    best.begin(4.0, {})
    net = SimpleNamespace(progress=title, processes=SimpleNamespace(rank=0), callbacks_=[])
    with progress_bar(net, 4, best, 1) as tick:
        best.loss = 1.0
        for _ in range(3):
            tick()
"""
FIT = """
import warnings
warnings.simplefilter("error")
import numpy as np
from skae import AutoencoderTransformer

X = np.random.RandomState(0).normal(size=(200, 5)) ** 3
model = AutoencoderTransformer(2, max_iter=2, verbose=1, random_state=0, early_stopping=False)
"""
SEARCH = """
from sklearn.model_selection import GridSearchCV
GridSearchCV(model, {{"n_components": [1, 2]}}, cv=2, n_jobs={n_jobs}, refit=False).fit(X)
"""
# Modules by which tqdm knows a notebook; without ipywidgets, its own bar for one is not to be had.
NOTEBOOK = """
import sys, types
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: None
sys.modules["ipywidgets"] = None
"""
NEXT = "\nprint('next', file=sys.stderr)\n"


def stderr_of(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr


@pytest.fixture
def notebook(monkeypatch):
    """This process as a notebook that has not imported tqdm; a new process would import skae, for seconds."""
    for name in ["ipykernel.zmqshell", "IPython", "ipywidgets", *(name for name in sys.modules if "tqdm" in name)]:
        monkeypatch.setitem(sys.modules, name, None)  # is restored after the test
        del sys.modules[name]
    with warnings.catch_warnings():
        yield
    for name in [name for name in sys.modules if "tqdm" in name]:
        del sys.modules[name]


def test_a_bar_needs_a_title_and_a_notebook_without_widgets_gets_one_and_no_warning(notebook, capsys):
    untitled = "show(None)\nassert 'tqdm.auto' not in sys.modules"
    exec(NOTEBOOK + BAR + untitled + NEXT + "show()" + NEXT + FIT + "model.fit(X)", {})
    none, bar, fit = capsys.readouterr().err.split("next\n")
    assert none == ""
    assert "Toy: 100%" in bar
    assert "4/4" in bar
    assert "loss 0.250 of the start's" in bar
    assert "AutoencoderTransformer: 100%" in fit
    assert "2/2" in fit
    assert "Warning" not in bar + fit


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_of_joblib_are_silent(backend):
    code = f"import joblib\nwith joblib.parallel_backend({backend!r}):\n"
    code += "    joblib.Parallel(2)(joblib.delayed(show)() for _ in range(2))"
    assert stderr_of(BAR + code) == ""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_search_of_several_processes_shows_no_bar(backend):
    search = SEARCH.format(n_jobs=2)
    shown = stderr_of(
        f"{FIT}import joblib\nwith joblib.parallel_backend({backend!r}):\n" + search.replace("\n", "\n    ")
    )
    assert shown == ""


@pytest.mark.slow
def test_a_search_in_one_process_shows_a_bar_for_each_fit():
    assert stderr_of(FIT + SEARCH.format(n_jobs=1)).count("AutoencoderTransformer: 100%") >= 4
