"""The progress bar: one in a terminal or a notebook, none where fits run side by side."""

import subprocess
import sys

import pytest

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


def stderr_of(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr


def test_a_notebook_without_widgets_gets_a_bar_and_no_warning():
    told = stderr_of(NOTEBOOK + FIT + "model.fit(X)")
    assert "AutoencoderTransformer: 100%" in told
    assert "2/2" in told
    assert "Warning" not in told


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_of_joblib_are_silent(backend):
    search = SEARCH.format(n_jobs=2)
    told = stderr_of(
        f"{FIT}import joblib\nwith joblib.parallel_backend({backend!r}):\n" + search.replace("\n", "\n    ")
    )
    assert told == ""


@pytest.mark.slow
def test_a_search_in_one_process_shows_a_bar_for_each_fit():
    assert stderr_of(FIT + SEARCH.format(n_jobs=1)).count("AutoencoderTransformer: 100%") >= 4
