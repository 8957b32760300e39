"""PCA and its rivals side by side on the same folds: the numbers, the table, the verdict."""

from __future__ import annotations

import sys
import time
import warnings
from collections import defaultdict

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skae._metrics import reconstruction_error
from skae._transformer import AutoencoderTransformer
from skae._validation import check_integer

# An error above this share of PCA's is no reason to leave PCA.
_WORTH_IT = 0.98
# A numeric target with more values than this is predicted, not classified.
_MOST_CLASSES = 20


def compare(X, y=None, *, n_components=(2, 4, 8, 16), cv=5, estimators=None, n_jobs=None, verbose=0):
    """Cross-validate ways to reduce dimensions on the same folds.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows, in the units that errors should have. Scale columns of different units before.
    y : array-like of shape (n_samples,), default=None
        Labels (or numbers) to predict from the codes, by logistic (linear) regression.
    n_components : sequence of int, default=(2, 4, 8, 16)
        Sizes to compare. Sizes that do not reduce, or that a fold has too few rows for, are left out and named in the
        summary.
    cv : int, default=5
        Number of folds: shuffled with seed 0, stratified where y has classes.
    estimators : dict of str to transformer, default=None
        What to compare; each has a parameter ``n_components``, in a Pipeline too. The one named "PCA", else the first,
        is what verdicts compare with. None is PCA and `AutoencoderTransformer` with its defaults and seed 0.
    n_jobs : int, default=None
        Fits to run at once, as in `sklearn.model_selection.GridSearchCV`.
    verbose : int, default=0
        Say on stderr what is being fitted if not 0.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If no size is left, or X has fewer rows than folds.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skae import compare
    >>> X, y = load_iris(return_X_y=True)
    >>> comparison = compare(X, y, n_components=[1, 2], estimators={"PCA": PCA()})
    >>> len(comparison.results["error"])
    10
    """
    X = check_array(X, ensure_min_samples=2)
    cv = check_integer("cv", cv, 2)
    if len(X) < cv:
        raise ValueError(f"cv={cv} is more than the {len(X)} rows of X. Use fewer folds.")
    if estimators is None:
        estimators = {"PCA": PCA(random_state=0), "AutoencoderTransformer": AutoencoderTransformer(random_state=0)}
    folds, y, predictor = _plan(X, y, cv)
    sizes, skipped = _usable_sizes(n_components, X.shape[1], min(len(train) for train, _ in folds))

    cells = [(size, name, fold) for size in sizes for name in estimators for fold in range(cv)]
    sized = {
        (size, name): clone(estimator).set_params(**{_size_parameter(name, estimator): size})
        for size in sizes
        for name, estimator in estimators.items()
    }
    measured = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_measure)(clone(sized[size, name]), X, *folds[fold], y, predictor) for size, name, fold in cells
    )
    results = defaultdict(list)
    for done, ((size, name, fold), row) in enumerate(zip(cells, measured, strict=True), start=1):
        if verbose:
            print(f"[{done}/{len(cells)}] {name}, {size} components, fold {fold + 1}", file=sys.stderr, flush=True)
        for key, value in ({"estimator": name, "n_components": size, "fold": fold} | row).items():
            results[key].append(value)
    return Comparison(dict(results), skipped, "accuracy" if isinstance(predictor, LogisticRegression) else "target R^2")


def _plan(X, y, cv):
    """Folds, checked y, and the model that predicts y from codes (None without y)."""
    shuffled = {"n_splits": cv, "shuffle": True, "random_state": 0}
    if y is None:
        return list(KFold(**shuffled).split(X)), None, None
    y = column_or_1d(y)
    check_consistent_length(X, y)
    if type_of_target(y).startswith("continuous") or (
        np.issubdtype(y.dtype, np.number) and len(np.unique(y)) > _MOST_CLASSES
    ):
        return list(KFold(**shuffled).split(X)), y, LinearRegression()
    classes, counts = np.unique(y, return_counts=True)
    splitter = StratifiedKFold if counts.min() >= cv else KFold
    folds = list(splitter(**shuffled).split(X, y))
    if any(len(np.unique(y[train])) < 2 for train, _ in folds):
        rest = ", ".join(f"{label!s} ({count})" for label, count in list(zip(classes, counts, strict=True))[:5])
        raise ValueError(
            f"A fold has one class of y only; classes and their rows: {rest}. Leave y out, or merge classes."
        )
    return folds, y, LogisticRegression(max_iter=1000)


def _usable_sizes(n_components, n_features, n_rows):
    """The sizes that reduce and that every fold has rows for, and the others."""
    sizes = sorted({check_integer("n_components", size, 1) for size in np.atleast_1d(np.asarray(n_components, object))})
    usable = [size for size in sizes if size < n_features and size <= n_rows]
    if not usable:
        raise ValueError(
            f"None of the sizes {sizes} is left: a size must be less than the {n_features} columns of X and at most "
            f"the {n_rows} rows of the smallest training fold."
        )
    return usable, [size for size in sizes if size not in usable]


def _size_parameter(name, estimator):
    """The name of the parameter that sets the number of components, in a Pipeline the last one."""
    found = [key for key in estimator.get_params() if key == "n_components" or key.endswith("__n_components")]
    if not found:
        raise ValueError(f"estimators[{name!r}]={estimator!r} has no parameter n_components to compare sizes by.")
    return min(found, key=lambda key: (key.count("__"), -list(estimator.get_params()).index(key)))


def _measure(estimator, X, train, test, y, predictor):
    """One fit on the training rows, judged on the test rows."""
    with warnings.catch_warnings():
        # What did not converge shows in the numbers.
        warnings.simplefilter("ignore", ConvergenceWarning)
        began = time.perf_counter()
        estimator.fit(X[train])
        fitted = time.perf_counter()
        codes = estimator.transform(X[test])
        transformed = time.perf_counter()
        row = {"fit_seconds": fitted - began, "transform_seconds": transformed - fitted}
        if hasattr(estimator, "inverse_transform"):
            row["error"] = reconstruction_error(estimator, X[test])
            total = np.square(X[test] - X[train].mean(axis=0)).mean()
            row["r2"] = 1 - row["error"] / total if total > 0 else float(row["error"] == 0)
        else:
            row["error"] = row["r2"] = np.nan
        if predictor is not None:
            model = make_pipeline(StandardScaler(), clone(predictor)).fit(estimator.transform(X[train]), y[train])
            row["target_score"] = model.score(codes, y[test])
    return row


class Comparison:
    """What `compare` measured.

    Parameters
    ----------
    results : dict of str to list
        One entry a fit: "estimator", "n_components", "fold", "error" (held-out mean squared error, in units of X
        squared), "r2" (against the mean of the training rows), "target_score" (only with y), "fit_seconds",
        "transform_seconds". A DataFrame's constructor takes it as it is.
    skipped : sequence of int, default=()
        Sizes left out.
    target_label : str, default="accuracy"
        What "target_score" is.

    Attributes
    ----------
    results, skipped, target_label
        As given.
    """

    def __init__(self, results, skipped=(), target_label="accuracy"):
        self.results = results
        self.skipped = skipped
        self.target_label = target_label

    def summary(self):
        """The table and a verdict a size.

        Returns
        -------
        str
        """
        lines = [self._table(), ""]
        lines += [verdict for size in self._sizes() for verdict in self._verdicts(size)]
        if self.skipped:
            sizes = ", ".join(map(str, self.skipped))
            lines += [f"Left out: {sizes} components, which do not reduce this table or exceed a fold's rows."]
        return "\n".join(lines)

    def __str__(self):
        return self.summary()

    def _sizes(self):
        return sorted(set(self.results["n_components"]))

    def _names(self):
        return list(dict.fromkeys(self.results["estimator"]))

    def _folds(self, column, name, size):
        """A column's values over the folds of one cell."""
        keys = zip(self.results["estimator"], self.results["n_components"], self.results[column], strict=True)
        return np.array([value for estimator, n, value in keys if (estimator, n) == (name, size)])

    def _table(self):
        header = ["components", "estimator", "held-out error", "R^2", "fit s", "transform s"]
        has_target = "target_score" in self.results
        if has_target:
            header.insert(4, self.target_label)
        rows = [header]
        for size in self._sizes():
            for name in self._names():
                error = self._folds("error", name, size)
                row = [
                    str(size),
                    name,
                    f"{error.mean():.4g} +- {error.std():.2g}",
                    f"{self._folds('r2', name, size).mean():.3f}",
                    f"{np.median(self._folds('fit_seconds', name, size)):.3g}",
                    f"{np.median(self._folds('transform_seconds', name, size)):.2g}",
                ]
                if has_target:
                    row.insert(4, f"{self._folds('target_score', name, size).mean():.3f}")
                rows.append(row)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])

    def _verdicts(self, size):
        """A sentence for each rival of the reference."""
        names = self._names()
        reference = "PCA" if "PCA" in names else names[0]
        base = self._folds("error", reference, size)
        for name in names:
            error = self._folds("error", name, size)
            if name == reference or not np.isfinite(error).all() or not (base > 0).all():
                continue
            share = error / base
            sentence = (
                f"At {size} component{'s' if size > 1 else ''} the error of {_spoken(name)} is "
                f"{100 * share.mean():.0f} % +- {100 * share.std():.0f} % of {reference}'s"
            )
            no_gain = share.mean() > _WORTH_IT or share.mean() + share.std() > 1
            yield sentence + (f": stay with {reference}." if no_gain else ".")


def _spoken(name):
    return "the autoencoder" if name == "AutoencoderTransformer" else name
