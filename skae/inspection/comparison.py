"""PCA and its rivals side by side on the same folds: the numbers, the table, the verdicts."""

from __future__ import annotations

import sys
import time
import warnings
from collections import defaultdict

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, get_tags
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skae._columns import numbers_asked, unmasked
from skae._generator import VAEGenerator
from skae._transformer import AutoencoderTransformer
from skae._validation import FLOATS, check_flag, check_integer, check_sizes
from skae.inspection.metrics import reconstruction_error

# An error above this share of PCA's is no reason to leave PCA.
_WORTH_IT = 0.98
# A numeric target with more values than this is predicted, not classified.
_MOST_CLASSES = 20
# Rows of the first fold kept as examples of reconstructions and samples.
_N_EXAMPLES = 10
# A lead in log-density that is worth a word, in nats a row: what is printed as less is rounding.
_LEAST_NATS = 0.005
# What the defaults are called in a sentence.
_SPOKEN = {"AutoencoderTransformer": "the autoencoder", "VAEGenerator": "the VAE", "FactorAnalysis": "factor analysis"}


def compare(X, y=None, *, n_components=(2, 4, 8, 16), cv=5, estimators=None, ordered=False, n_jobs=None, verbose=0):
    """Cross-validate ways to reduce dimensions on the same folds.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows, in the units that errors should have. Scale columns of different units before.
        Columns that are constant in a training fold are left out and named in the summary.
    y : array-like of shape (n_samples,), default=None
        Labels (or numbers) to predict from the codes, by logistic (linear) regression.
    n_components : sequence of int, default=(2, 4, 8, 16)
        Sizes to compare. Sizes that do not reduce, or that a fold has too few rows for, are left out and named in the
        summary.
    cv : int, default=5
        Number of folds: shuffled with seed 0, stratified where y has classes.
    estimators : dict of str to transformer, default=None
        What to compare; each has a parameter ``n_components``, in a Pipeline too. The one named "PCA", else the first,
        is what verdicts compare with. None is PCA, FactorAnalysis, and `AutoencoderTransformer` and `VAEGenerator`
        with their defaults and seed 0. An autoencoder whose components are in order is fitted once a fold, at the
        largest size, and cut to the others; its seconds are shared among them.
    ordered : bool, default=False
        Whether the autoencoder of the default ``estimators`` is one with its components in order.
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
    >>> from sklearn.decomposition import PCA, FactorAnalysis
    >>> from skae import compare
    >>> X, y = load_iris(return_X_y=True)
    >>> comparison = compare(X, y, n_components=[1, 2], estimators={"PCA": PCA()})
    >>> len(comparison.results["error"])
    10
    """
    X = unmasked(X)
    with numbers_asked(X, "What is compared are models of numbers"):
        X = check_array(X, dtype=FLOATS, ensure_min_samples=2)
    cv = check_integer("cv", cv, 2)
    if len(X) < cv:
        raise ValueError(f"cv={cv} is more than the {len(X)} rows of X. Use fewer folds.")
    if estimators is None:
        estimators = {
            "PCA": PCA(random_state=0),
            "FactorAnalysis": FactorAnalysis(random_state=0),
            "AutoencoderTransformer": AutoencoderTransformer(ordered=check_flag("ordered", ordered), random_state=0),
            "VAEGenerator": VAEGenerator(random_state=0),
        }
    if not isinstance(estimators, dict) or not estimators or not all(isinstance(name, str) for name in estimators):
        raise TypeError(f"estimators={estimators!r} must be a dict of names (str) to transformers, with one at least.")
    folds, y, predictor = _plan(X, y, cv)
    varying = np.all([np.ptp(X[train], axis=0) > 0 for train, _ in folds], axis=0)
    X, constant = X[:, varying], np.flatnonzero(~varying).tolist()
    if not varying.any():
        raise ValueError("No column of X varies in every training fold, so there is nothing to reduce.")
    sizes, skipped = _usable_sizes(n_components, X.shape[1], min(len(train) for train, _ in folds))

    fits = [(name, served, fold) for name, served in _served(estimators, sizes) for fold in range(cv)]
    sized = {
        (name, size): clone(estimator).set_params(**{_size_parameter(name, estimator): size})
        for size in sizes
        for name, estimator in estimators.items()
    }
    measured = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_measure)(clone(sized[name, served[-1]]), served, X, *folds[fold], y, predictor)
        for name, served, fold in fits
    )
    results, examples = defaultdict(list), {}
    for done, ((name, served, fold), found) in enumerate(zip(fits, measured, strict=True), start=1):
        if verbose:
            at = " ".join(map(str, served))
            print(f"[{done}/{len(fits)}] {name}, {at} components, fold {fold + 1}", file=sys.stderr, flush=True)
        for size, (row, example) in zip(served, found, strict=True):
            if fold == 0:
                examples[name, size] = example
            for key, value in ({"estimator": name, "n_components": size, "fold": fold} | row).items():
                results[key].append(value)
    test = folds[0][1]
    rows = {"rows": X[test[:_N_EXAMPLES]], "target": None if y is None else y[test], "models": examples}
    target_label = "accuracy" if isinstance(predictor, LogisticRegression) else "target R^2"
    return Comparison(dict(results), skipped, target_label, rows, constant)


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
    sizes = check_sizes("n_components", n_components)
    usable = [size for size in sizes if size < n_features and size <= n_rows]
    if not usable:
        raise ValueError(
            f"None of the sizes {sizes} is left: a size must be less than the {n_features} columns of X and at most "
            f"the {n_rows} rows of the smallest training fold."
        )
    return usable, [size for size in sizes if size not in usable]


def _served(estimators, sizes):
    """Names of estimators and the sizes that a fit serves: all if components are in order, else one."""
    in_order = [
        name
        for name, estimator in estimators.items()
        if isinstance(estimator, AutoencoderTransformer) and estimator.ordered
    ]
    each = [(name, [size]) for size in sizes for name in estimators if name not in in_order]
    return [(name, sizes) for name in in_order] + each


def _size_parameter(name, estimator):
    """The name of the parameter that sets the number of components, in a Pipeline the last one."""
    found = [key for key in estimator.get_params() if key == "n_components" or key.endswith("__n_components")]
    if not found:
        raise ValueError(f"estimators[{name!r}]={estimator!r} has no parameter n_components to compare sizes by.")
    return min(found, key=lambda key: (key.count("__"), -list(estimator.get_params()).index(key)))


def _measure(estimator, sizes, X, train, test, y, predictor):
    """One fit on the training rows, judged on the test rows at each size that it serves."""
    with warnings.catch_warnings():
        # What did not converge shows in the numbers.
        warnings.simplefilter("ignore", ConvergenceWarning)
        began = time.perf_counter()
        estimator.fit(X[train])
        seconds = (time.perf_counter() - began) / len(sizes)
        fits = [estimator] if len(sizes) == 1 else [estimator.truncate(size) for size in sizes]
        return [_judge(fit, seconds, X, train, test, y, predictor) for fit in fits]


def _judge(estimator, seconds, X, train, test, y, predictor):
    """The numbers of a fit on the test rows, and examples of what it makes of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        began = time.perf_counter()
        codes = np.asarray(estimator.transform(X[test]))
        transformed = time.perf_counter() - began
        row = {"error": np.nan, "r2": np.nan, "log_likelihood": _log_likelihood(estimator, X[test])}
        example = {"codes": codes}
        if hasattr(estimator, "inverse_transform"):
            row["error"] = reconstruction_error(estimator, X[test])
            total = np.square(X[test] - X[train].mean(axis=0)).mean()
            row["r2"] = 1 - row["error"] / total if total > 0 else float(row["error"] == 0)
            example["reconstructions"] = np.asarray(estimator.inverse_transform(codes[:_N_EXAMPLES]))
        if isinstance(estimator, VAEGenerator):
            example["samples"] = np.asarray(estimator.sample(2 * _N_EXAMPLES, random_state=0))
        if predictor is not None:
            model = make_pipeline(StandardScaler(), clone(predictor))
            model.fit(np.asarray(estimator.transform(X[train])), y[train])
            row["target_score"] = model.score(codes, y[test])
    return row | {"fit_seconds": seconds, "transform_seconds": transformed}, example


def _log_likelihood(estimator, X):
    """Mean log-density of the rows, in nats, in units of X; nan where the model has none that is finite.

    A Pipeline's is in the units of its last step, so it counts as none.

    PCA and FactorAnalysis whose noise is at its floor have found a direction without any, as with duplicated columns:
    their density is as high as the floor is low. It is inf here, for densities of such rows have no bound.
    """
    dense = isinstance(estimator, PCA | FactorAnalysis) or get_tags(estimator).estimator_type == "density_estimator"
    if not dense or isinstance(estimator, Pipeline) or not hasattr(estimator, "score_samples"):
        return np.nan
    if isinstance(estimator, PCA | FactorAnalysis) and np.min(estimator.noise_variance_ / X.var(axis=0).max()) < 1e-11:
        return np.inf
    try:
        with np.errstate(all="ignore"):
            density = float(np.mean(estimator.score_samples(X)))
    except (np.linalg.LinAlgError, ValueError):  # a covariance that has no inverse
        return np.nan
    return density if np.isfinite(density) else np.nan


class Comparison:
    """What `compare` measured.

    Parameters
    ----------
    results : dict of str to list
        One entry a fit: "estimator", "n_components", "fold", "error" (held-out mean squared error, in units of X
        squared), "r2" (against the mean of the training rows), "log_likelihood" (held-out, in nats a row; of a VAE its
        lower bound; inf where noise is at its floor), "target_score" (only with y),
        "fit_seconds", "transform_seconds"; nan where a model has no such number. A DataFrame's constructor takes it as
        it is.
    skipped : sequence of int, default=()
        Sizes left out.
    target_label : str, default="accuracy"
        What "target_score" is.
    examples : dict or None, default=None
        Of the first fold: ten "rows", the "target" of all, and for each of "models" its codes, reconstructions and
        samples; for the pictures of a report.
    constant : sequence of int, default=()
        Columns left out.

    Attributes
    ----------
    results, skipped, target_label, examples, constant
        As given.
    """

    def __init__(self, results, skipped=(), target_label="accuracy", examples=None, constant=()):
        self.results = results
        self.skipped = skipped
        self.target_label = target_label
        self.examples = examples
        self.constant = constant

    def summary(self):
        """The table, a verdict for each model and size, and the answer.

        Returns
        -------
        str
        """
        widths = [max(map(len, column)) for column in zip(*self.table(), strict=True)]
        header, *body = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in self.table()
        ]
        return "\n".join(
            [header, "-" * (sum(widths) + 2 * len(widths) - 2), *body, "", *self.verdicts(), "", self.answer()]
        )

    def table(self):
        """The numbers as text, means over folds with their standard deviations; seconds are medians.

        Returns
        -------
        list of list of str
            The header first.
        """
        columns = {
            "held-out error": lambda name, size: self._spread("error", name, size, ".4g"),
            "R^2": lambda name, size: self._mean("r2", name, size, ".3f"),
            "log-likelihood": lambda name, size: self._spread("log_likelihood", name, size, ".2f"),
            self.target_label: lambda name, size: self._mean("target_score", name, size, ".3f"),
            "fit s": lambda name, size: f"{np.median(self.folds('fit_seconds', name, size)):.3g}",
            "transform s": lambda name, size: f"{np.median(self.folds('transform_seconds', name, size)):.2g}",
        }
        if "target_score" not in self.results:
            del columns[self.target_label]
        rows = [["components", "estimator", *columns]]
        for size in self.sizes:
            rows += [[str(size), name, *(cell(name, size) for cell in columns.values())] for name in self.names]
        return rows

    def verdicts(self):
        """A sentence for each model that reconstructs, or has a density, at each size.

        Returns
        -------
        list of str
        """
        sentences = []
        for size in self.sizes:
            at = f"At {size} component{'s' if size > 1 else ''}"
            for name in self.names:
                if (share := self._share(name, size)) is not None:
                    stay = "" if _is_gain(share) else f": stay with {self.reference}"
                    sentences.append(
                        f"{at} the error of {_spoken(name)} is {100 * share.mean():.0f} % +- "
                        f"{100 * share.std():.0f} % of {self.reference}'s{stay}."
                    )
            densities = {name: values for (name, n), values in self._densities().items() if n == size}
            if len(densities) > 1:
                best, second = sorted(densities, key=lambda name: -densities[name].mean())[:2]
                sentences.append(f"{at} {_lead(best, second, densities[best] - densities[second])}.")
        return sentences

    def answer(self):
        """What to do: by error, with what it costs in time, and by density.

        Returns
        -------
        str
        """
        sentences = [*self._answer_by_error(), *self._answer_by_density()]
        if unbounded := self._unbounded():
            sizes = " and ".join(map(str, unbounded))
            sentences.append(
                f"No densities are compared at {sizes} components: a linear model finds a direction without any noise "
                "there, as where columns repeat each other, and densities have no bound. Drop these, or add noise."
            )
        if self.skipped:
            sizes = ", ".join(map(str, self.skipped))
            sentences.append(f"Left out: {sizes} components, which do not reduce this table or exceed a fold's rows.")
        if self.constant:
            columns = ", ".join(map(str, self.constant))
            sentences.append(f"Left out: columns {columns} (counted from 0), constant in the training rows of a fold.")
        return "\n".join(sentences)

    def plot(self, axes=None):
        """Held-out error, and log-likelihood where a model has one, against the number of components.

        Parameters
        ----------
        axes : pair of matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from skae.inspection.report import plot_curves

        return plot_curves(self, axes)

    def to_html(self, path, *, feature_shape=None, notes=()):
        """Write a report: one file that needs no network.

        Parameters
        ----------
        path : str or path-like
            The file, which is replaced if it exists.
        feature_shape : tuple of two int, default=None
            Height and width, if rows are flattened images. Columns left out are blank in them.
        notes : sequence of str, default=()
            Sentences about the data.

        Returns
        -------
        None

        Raises
        ------
        ImportError
            If there is no matplotlib.
        OSError
            If the file cannot be written.
        ValueError
            If ``feature_shape`` is not that of rows.
        """
        from skae.inspection.report import write_report

        write_report(self, path, feature_shape, notes)

    def _repr_html_(self):
        from skae.inspection.report import html_table

        return html_table(self)

    def __str__(self):
        return self.summary()

    @property
    def sizes(self):
        """Numbers of components compared, ascending."""
        return sorted(set(self.results["n_components"]))

    @property
    def names(self):
        """Names of the models, in the order given."""
        return list(dict.fromkeys(self.results["estimator"]))

    @property
    def reference(self):
        """The model that verdicts compare with: "PCA" if there is one, else the first that reconstructs."""
        with_error = [name for name in self.names if np.isfinite(self.folds("error", name, self.sizes[0])).all()]
        return "PCA" if "PCA" in self.names else (with_error or self.names)[0]

    def folds(self, column, name, size):
        """A column's values over the folds of one model at one size.

        Parameters
        ----------
        column : str
            A key of ``results``.
        name : str
        size : int

        Returns
        -------
        ndarray of shape (n_folds,)
        """
        keys = zip(self.results["estimator"], self.results["n_components"], self.results[column], strict=True)
        return np.array([value for estimator, n, value in keys if (estimator, n) == (name, size)])

    def _mean(self, column, name, size, form):
        mean = self.folds(column, name, size).mean()
        return format(mean, form) if np.isfinite(mean) else "-"

    def _spread(self, column, name, size, form):
        values = self.folds(column, name, size)
        return f"{values.mean():{form}} +- {values.std():.2g}" if np.isfinite(values).all() else "-"

    def _share(self, name, size):
        """Error over the reference's, fold by fold; None for the reference and where one of the two has none."""
        base, error = self.folds("error", self.reference, size), self.folds("error", name, size)
        exact = self.folds("r2", self.reference, size) > 1 - 1e-12
        if name == self.reference or not np.isfinite(error).all() or not (base > 0).all() or exact.any():
            return None
        return error / base

    def _densities(self):
        """Log-likelihoods over folds of each model and size that has them, of sizes where they have a bound."""
        cells = {
            (name, size): self.folds("log_likelihood", name, size)
            for size in self.sizes
            if size not in self._unbounded()
            for name in self.names
        }
        return {cell: values for cell, values in cells.items() if np.isfinite(values).all()}

    def _unbounded(self):
        """Sizes at which a model has found a direction without noise, so that densities tell floors, not models."""
        densities = zip(self.results["n_components"], self.results["log_likelihood"], strict=True)
        return sorted({size for size, value in densities if np.isposinf(value)})

    def _answer_by_error(self):
        shares = {
            (name, size): share
            for size in self.sizes
            for name in self.names
            if (share := self._share(name, size)) is not None
        }
        if not shares:
            return []
        gains = {key: share.mean() for key, share in shares.items() if _is_gain(share)}
        if not gains:
            return [
                f"For reconstruction: stay with {self.reference}. Nothing here beats it beyond the spread of the folds."
            ]
        name, size = min(gains, key=gains.get)
        seconds = [np.median(self.folds("fit_seconds", which, size)) for which in (name, self.reference)]
        sentence = (
            f"For reconstruction: {_spoken(name)}, which at {size} components errs by {100 * gains[name, size]:.0f} % "
            f"of {self.reference}, for a fit of {seconds[0]:.2g} s in place of {seconds[1]:.2g} s."
        )
        return [sentence, *self._fewer_components(name)]

    def _fewer_components(self, name):
        """How many components less do what the reference's most do."""
        most = self.sizes[-1]
        bar = self.folds("error", self.reference, most).mean()
        enough = [size for size in self.sizes if self.folds("error", name, size).mean() <= bar]
        if enough and enough[0] < most:
            yield f"It needs {enough[0]} components for the error of {self.reference} with {most}."

    def _answer_by_density(self):
        """The best model over all sizes beside the best of the others; nothing where only one has a density."""
        densities = self._densities()
        best = max(densities, key=lambda cell: densities[cell].mean(), default=None)
        others = [cell for cell in densities if best and cell[0] != best[0]]
        if not others:
            return
        second = max(others, key=lambda cell: densities[cell].mean())
        gain = densities[best] - densities[second]
        ahead, behind = (f"{_spoken(name)} with {size}" for name, size in (best, second))
        if gain.mean() > max(gain.std(), _LEAST_NATS):
            yield f"For densities and new rows: {ahead} components, {gain.mean():.2f} nats a row above {behind}."
        else:
            yield f"For densities: {ahead} components and {behind} are within the spread; take the simpler one."


def _is_gain(share):
    """Whether errors are below the reference's by enough to matter and beyond their spread."""
    return share.mean() <= _WORTH_IT and share.mean() + share.std() <= 1


def _lead(best, second, gain):
    """How far the best density is ahead of the second."""
    nats = f"{gain.mean():.2f} +- {gain.std():.2f} nats a row above {_spoken(second)}'s"
    return f"the highest log-likelihood is that of {_spoken(best)}, {nats}"


def _spoken(name):
    return _SPOKEN.get(name, name)
