"""Seeds a test runs with, and the tables it may use."""

import gc
import os
import re
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from hashlib import sha256
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import scale

import skae
from skae.linear import factor_analysis

# SKAE_TEST_SEEDS=20 runs every test that takes a seed with twenty of them.
SEEDS = range(int(os.environ.get("SKAE_TEST_SEEDS", "1")))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without the garbage collector, which would go through all modules and cases again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Tests of joblib's worker processes come first: one process runs them in a row, and starts its workers once.

    Slow tests, which `make test-all` runs, have the default estimates.
    """
    items.sort(key=lambda item: item.get_closest_marker("workers") is None)
    for item in items:
        if item.get_closest_marker("slow"):
            item.fixturenames = [*item.fixturenames, "exact_estimates"]


def pytest_make_parametrize_id(val):
    """Parameters are called what they are; functions without their address, since processes must agree on names."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(val)) if isinstance(val, (dict, partial, BaseEstimator)) else None


def pytest_terminal_summary(terminalreporter):
    """Print how long the tests of each directory took, summed over processes."""
    seconds, cases = Counter(), Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                directory = str(Path(report.nodeid.split("::")[0]).parent)
                seconds[directory] += report.duration
                cases[directory] += report.when == "call"
    if seconds:
        terminalreporter.section("seconds by directory")
    for directory, duration in seconds.most_common():
        terminalreporter.write_line(f"{duration:8.1f}  {directory} ({cases[directory]} cases)")


class RememberedFactorAnalysis(FactorAnalysis):
    """scikit-learn's, which is a function of samples and parameters: it is fitted once to the same ones."""

    fits = {}

    def fit(self, X, y=None):
        parameters = {name: np.asarray(value).tolist() for name, value in self.get_params().items()}
        key = sha256(X.tobytes()).digest(), X.shape, str(parameters)
        if key not in self.fits:
            self.fits[key] = deepcopy(vars(super().fit(X, y)))
        vars(self).update(deepcopy(self.fits[key]))
        return self


@pytest.fixture(autouse=True, scope="session")
def _factor_analysis_is_remembered():
    """Most VAEs start at seven factor analyses, which take longer than the few epochs of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factor_analysis, "FactorAnalysis", RememberedFactorAnalysis)
        yield


@pytest.fixture(params=SEEDS)
def seed(request):
    return request.param


# What the time of a short fit depends on most: sizes, and how exact the estimates are that it starts or ends with.
NARROW = {
    "skae.linear.mixture._MOST_COMPONENTS": 2,
    "skae.networks.sample_mixture._MOST_COMPONENTS": 2,
    "skae.networks.sample_mixture._LEAST_COMPONENTS": 2,
    "skae.networks.model._WIDTHS": (32, 16),
    "skae.networks.model._IMAGE_WIDTHS": (16, 32),
}
ROUGH = {
    "skae.linear.factor_analysis._TOLERANCE": 1e-3,
    "skae.linear.factor_analysis._ROUGH_TOLERANCE": 1e-3,
    "skae.linear.missing._MAX_ROUNDS": 10,
    "skae.linear.missing._MAX_ROUNDS_MORE": 10,
    "skae._fitted._HIDDEN_SAMPLES": (50, 50),
    "skae._vae._IMPUTATION_DRAWS": 20,
}
DEFAULTS = {name: attrgetter(name.removeprefix("skae."))(skae) for name in NARROW | ROUGH}


@contextmanager
def patched(values):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(name, value)
        yield


@pytest.fixture(scope="module")
def narrow_networks():
    """Small default widths and mixtures, for modules whose tests hold at any size: they take a third of the time."""
    with patched(NARROW):
        yield


@pytest.fixture(scope="module")
def rough_estimates():
    """Few rounds of EM and few draws, for modules whose tests hold however good a fit is: they take half the time."""
    with patched(ROUGH):
        yield


@pytest.fixture
def exact_estimates():
    """The default estimates again, for tests of such a module of how good a fit or an imputed value is."""
    with patched({name: DEFAULTS[name] for name in ROUGH}):
        yield


@pytest.fixture
def default_networks(exact_estimates):
    """The default sizes again as well, for tests of such a module that hold at these."""
    with patched({name: DEFAULTS[name] for name in NARROW}):
        yield


TABLES = {
    "iris": lambda: load_iris().data,
    "wine": lambda: load_wine().data,
    "breast cancer": lambda: load_breast_cancer().data,
    "diabetes": lambda: load_diabetes().data,
    "digits": lambda: load_digits().data[:600],
}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name == "digits" else ()) for name in TABLES])
def table(request):
    """A real table in its own units."""
    return TABLES[request.param]()


@pytest.fixture(params=["raw", "scaled"])
def scaled_table(request, table):
    return table if request.param == "raw" else scale(table)


@pytest.fixture(scope="session")
def digits():
    return load_digits().data


@pytest.fixture(scope="session")
def curve():
    """Rows near a curve in five columns, which one number describes and PCA cannot."""
    rng = np.random.RandomState(0)
    t = rng.uniform(-2, 2, size=(300, 1))
    return np.hstack([t, t**2, np.sin(2 * t), np.cos(t), t**3 / 3]) + 0.02 * rng.normal(size=(300, 5))
