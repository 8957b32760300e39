"""Estimators by name, and how much time a comparison takes.

To add an estimator, add an entry to `NAMED`; to add a budget, one to `BUDGETS`.
"""

import time
from importlib import import_module
from typing import NamedTuple

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import NMF, PCA, FactorAnalysis, FastICA, KernelPCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.random_projection import GaussianRandomProjection
from sklearn.utils import _safe_indexing

from skae._autoencoder import AutoencoderTransformer
from skae._vae import VAEGenerator
from skae.training.limits import TimeLimit


class NoReduction(TransformerMixin, BaseEstimator):
    """The columns as they are, as codes, whatever ``n_components`` is."""

    def __init__(self, n_components=None):
        self.n_components = n_components

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]  # a Pipeline's last step is fitted
        return self

    def transform(self, X):
        return X


class OneWay(TransformerMixin, BaseEstimator):
    """An estimator without its ``inverse_transform``, which may take hours."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y=None):
        self.estimator_ = clone(self.estimator).fit(X)
        return self

    def transform(self, X):
        return self.estimator_.transform(X)


def _umap():
    try:
        return OneWay(import_module("umap").UMAP(random_state=0, n_jobs=1))
    except ImportError as error:
        raise ValueError("umap is not installed: pip install umap-learn.") from error


# Functions that make an estimator, by the names of the command, each with its name in tables.
NAMED = {
    "pca": ("PCA", lambda: PCA(random_state=0)),
    "factor-analysis": ("FactorAnalysis", lambda: FactorAnalysis(random_state=0)),
    "autoencoder": ("AutoencoderTransformer", lambda: AutoencoderTransformer(random_state=0)),
    "vae": ("VAEGenerator", lambda: VAEGenerator(random_state=0)),
    "kernel-pca": ("KernelPCA", lambda: KernelPCA(kernel="rbf", fit_inverse_transform=True, random_state=0)),
    "nmf": ("NMF", lambda: make_pipeline(MinMaxScaler(clip=True), NMF(random_state=0, max_iter=1000))),
    "umap": ("UMAP", _umap),
    "random-projection": (
        "RandomProjection",
        lambda: GaussianRandomProjection(compute_inverse_components=True, random_state=0),
    ),
    "ica": ("ICA", lambda: FastICA(whiten="unit-variance", max_iter=1000, random_state=0)),
    "none": ("none", NoReduction),
}
DEFAULTS = ("pca", "factor-analysis", "autoencoder", "vae")


def named_estimators(names):
    """Return estimators by name, a dict; a name with points is the path of a class, such as mymodule.MyEstimator."""
    return dict(_named(name) for name in names)


def _named(name):
    if name in NAMED:
        return NAMED[name][0], NAMED[name][1]()
    module, _, attribute = str(name).rpartition(".")
    try:
        return attribute, getattr(import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name!r} is no estimator. Known are {', '.join(NAMED)}, and classes with their module, such as "
            "sklearn.decomposition.TruncatedSVD."
        ) from error


def with_size(name, estimator, size):
    """Clone an estimator and set its n_components; of a Pipeline, those of the last step that has the parameter."""
    found = [key for key in estimator.get_params() if key == "n_components" or key.endswith("__n_components")]
    if not found:
        raise ValueError(f"estimators[{name!r}]={estimator!r} has no parameter n_components. Pass one that has.")
    parameter = min(found, key=lambda key: (key.count("__"), -found.index(key)))
    return clone(estimator).set_params(**{parameter: size})


class Budget(NamedTuple):
    """Limits on the samples and the time of a comparison.

    Attributes
    ----------
    rows : int or None
        Number of samples, drawn at random where there are more.
    seconds : float
        Fits are ended so that the comparison takes about this time.
    max_iter : int or None
        Most epochs of a fit.
    """

    rows: int | None = None
    seconds: float = np.inf
    max_iter: int | None = None

    @classmethod
    def of(cls, budget):
        """Return the budget of a name or of a number of seconds, which may be text; None limits nothing."""
        if budget is None or str(budget) in BUDGETS:
            return BUDGETS.get(budget, cls())
        try:
            seconds = float(budget)
        except (TypeError, ValueError):
            seconds = np.nan
        if not seconds > 0:
            raise ValueError(f"budget={budget!r} must be {', '.join(map(repr, BUDGETS))} or a number of seconds.")
        return BUDGETS["default"]._replace(seconds=seconds)

    def draw(self, X, y):
        """Return a random sample of the samples and their targets, and a sentence on it, or none."""
        n_samples = np.shape(X)[0]
        if self.rows is None or n_samples <= self.rows:
            return X, y, []
        index = np.sort(np.random.RandomState(0).choice(n_samples, self.rows, replace=False))
        note = f"A random sample of {self.rows:,} of {n_samples:,} rows was compared; the budget thorough takes all."
        X = X.tocsr() if hasattr(X, "tocsr") else X
        return _safe_indexing(X, index), None if y is None else _safe_indexing(y, index), [note]

    def clocks(self, estimators, began, n_jobs):
        """Return a `TimeLimit` for the fit of each estimator, or None.

        Those that train a network share what is left of the time. What a fit does not use is for those after it, and
        what it needs beside training is taken from them, up to a third of their share.

        Parameters
        ----------
        estimators : list of object
            In the order of their fits.
        began : float
            When the comparison began.
        n_jobs : int or None
            Fits that run in parallel.
        """
        rounds = np.ceil(np.cumsum([bool(_trained(e)[1]) for e in estimators]) / effective_n_jobs(n_jobs))
        now = time.time()
        share = max(began + self.seconds - now, 0) / max(rounds[-1], 1)
        return [TimeLimit(now + share * n, 2 / 3 * share) if np.isfinite(share) else None for n in rounds]

    def is_over(self, began):
        """Return a function that tells whether the time is over, by a tenth, which the last fits may need."""
        return lambda: time.time() > began + 1.1 * self.seconds

    def limit(self, estimator, clock):
        """Return an estimator that keeps to the budget, and to a `TimeLimit` or None."""
        (step, given), limits = _trained(estimator), {}
        if given and self.max_iter is not None and (given["max_iter"] == "auto" or given["max_iter"] > self.max_iter):
            limits["max_iter"] = self.max_iter
        if given and clock and given["callbacks"] is None:
            limits["callbacks"] = clock
        limits = {step + name: value for name, value in limits.items()}
        return clone(estimator).set_params(**limits) if limits else estimator


def _trained(estimator):
    """Return what names of parameters begin with, and the parameters, of a last step that trains a network; or none."""
    step = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    given = {name.removeprefix(step): value for name, value in estimator.get_params().items() if name.startswith(step)}
    return step, given if {"callbacks", "max_iter"} <= given.keys() else {}


BUDGETS = {"fast": Budget(1000, 60, 20), "default": Budget(4000, 480), "thorough": Budget()}
