"""The progress bar: one in a terminal or a notebook, none where fits run side by side."""

import subprocess
import sys

import pytest

BAR = """
import warnings
warnings.simplefilter("error")
from skae.training.callbacks import BestWeights, progress_bar

def show(title="Toy"):
    best = BestWeights(1, 0.0)
    best.begin(4.0, {})
    with progress_bar(title, 4, best, 1) as tick:
        best.loss = 1.0
        for _ in range(3):
            tick()
"""
# Modules by which tqdm knows a notebook; without ipywidgets, its own bar for one is not to be had.
NOTEBOOK = """
import sys, types
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: None
sys.modules["ipywidgets"] = None
"""


def stderr_of(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr


def test_a_notebook_without_widgets_gets_a_bar_and_no_warning():
    shown = stderr_of(NOTEBOOK + BAR + "show()")
    assert "Toy: 100%" in shown
    assert "4/4" in shown
    assert "loss 0.250 of the start's" in shown
    assert "Warning" not in shown


def test_without_a_title_there_is_none_and_no_import():
    assert stderr_of(BAR + "show(None)\nimport sys\nassert 'tqdm.auto' not in sys.modules") == ""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_of_joblib_are_silent(backend):
    code = f"import joblib\nwith joblib.parallel_backend({backend!r}):\n"
    code += "    joblib.Parallel(2)(joblib.delayed(show)() for _ in range(2))"
    assert stderr_of(BAR + code) == ""
