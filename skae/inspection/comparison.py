"""Cross-validated comparison of PCA and its alternatives on the same folds: results, table and verdicts."""

import sys
import time
import warnings
from collections import defaultdict

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.parallel import Parallel, delayed

from skae._autoencoder import AutoencoderTransformer
from skae._vae import VAEGenerator
from skae.data.parameters import check_flag, check_integer, check_sizes
from skae.inspection.report import html_table, plot_curves, write_report
from skae.inspection.samples import samples_of
from skae.inspection.targets import NoTarget, Prediction, target_of
from skae.inspection.verdicts import QUESTIONS, components, spoken

# Samples of the first fold kept as examples of reconstructions, and half the number of generated ones.
_N_EXAMPLES = 10


def compare(X, y=None, *, n_components=(2, 4, 8, 16), cv=5, estimators=None, ordered=False, n_jobs=None, verbose=0):
    """Cross-validate dimensionality reductions on the same folds.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Samples, in the units that errors should have. Scale columns of different units beforehand. Missing values are
        nan; estimators that do not take them get means. Of a DataFrame with columns that are not numeric, errors are in
        squared standard deviations, and for categories the share that is wrong; `AutoencoderTransformer` and
        `VAEGenerator` get ``loss="auto"`` and ``likelihood="auto"``, and other estimators standardised numbers and
        indicators of categories.
        Columns that are constant in a training fold are left out and named in the summary, as are estimators that do
        not take sparse X. Of a sparse X only the test samples of a fold are made dense, and PCA has no log-likelihood.
    y : array-like of shape (n_samples,), default=None
        Classes or values to predict from the codes, by logistic or linear regression.
    n_components : sequence of int, default=(2, 4, 8, 16)
        Sizes to compare. Sizes that are not less than the number of columns, or exceed the samples of a training fold,
        are left out and named in the summary.
    cv : int, default=5
        Number of folds: shuffled with seed 0, stratified where y has classes.
    estimators : dict of str to transformer, default=None
        Estimators to compare; each has a parameter ``n_components``, possibly in a step of a Pipeline. Verdicts compare
        with the one named "PCA", else with the first. None is PCA, FactorAnalysis, and `AutoencoderTransformer` and
        `VAEGenerator` with their defaults and seed 0. An autoencoder with ordered components is fitted once a fold, at
        the largest size, and truncated to the others, which share its fit time equally.
    ordered : bool, default=False
        Whether the autoencoder of the default ``estimators`` has ordered components.
    n_jobs : int, default=None
        Fits to run in parallel, as in `sklearn.model_selection.GridSearchCV`.
    verbose : int, default=0
        If not 0, print each fit to stderr.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If no size or no estimator is left, or X has fewer samples than folds.

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
    samples = samples_of(X)
    estimators = _check_estimators(estimators, ordered)
    target, folds = target_of(y, samples.n_samples, check_integer("cv", cv, 2))
    samples.keep_varying(folds)
    sizes, skipped = _usable_sizes(n_components, samples.n_features, min(len(train) for train, _ in folds))

    fits = [(*fit, fold) for fit in _fits(estimators, sizes) for fold in range(len(folds))]
    measured = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_measure)(samples.adapt(estimator), fit_sizes, samples, *folds[fold], target)
        for _, estimator, fit_sizes, fold in fits
    )
    results, examples, refusals = _collect(fits, measured, verbose)
    train, test = folds[0]
    drawn = {
        "rows": samples.shown(train, samples.take(test[:_N_EXAMPLES])),
        "target": None if y is None else target.y[test],
        "models": examples,
    }
    prediction = Prediction(target.label, target.predictor, _baselines(samples, folds, target, n_jobs))
    return Comparison(results, skipped, prediction, drawn, samples.constant, refusals, samples.notes)


def _baselines(samples, folds, target, n_jobs):
    """Return the scores over folds of predictions from all columns, and of constant ones."""
    if type(target) is NoTarget:
        return {}
    scores = Parallel(n_jobs=n_jobs)(
        delayed(target.score)(samples.numbers(train, test), train, test, is_dummy)
        for is_dummy in (0, 1)
        for train, test in folds
    )
    return {"all columns": np.array(scores[: len(folds)]), target.constant: np.array(scores[len(folds) :])}


def _collect(fits, measured, verbose):
    """Return the results and the examples of all fits, and the errors of estimators that do not take sparse X."""
    results, examples, refusals = defaultdict(list), {}, {}
    for done, ((name, _, sizes, fold), measures) in enumerate(zip(fits, measured, strict=True), start=1):
        if verbose:
            at = " ".join(map(str, sizes))
            print(f"[{done}/{len(fits)}] {name}, {at} components, fold {fold + 1}", file=sys.stderr, flush=True)
        if isinstance(measures, TypeError):
            refusals[name] = str(measures)
            continue
        for size, (row, example) in zip(sizes, measures, strict=True):
            if fold == 0:
                examples[name, size] = example
            for key, value in ({"estimator": name, "n_components": size, "fold": fold} | row).items():
                results[key].append(value)
    if not results:
        raise ValueError(f"No estimator takes sparse X: {refusals}. Pass X.toarray().")
    return dict(results), examples, refusals


def _check_estimators(estimators, ordered):
    if estimators is None:
        return {
            "PCA": PCA(random_state=0),
            "FactorAnalysis": FactorAnalysis(random_state=0),
            "AutoencoderTransformer": AutoencoderTransformer(ordered=check_flag("ordered", ordered), random_state=0),
            "VAEGenerator": VAEGenerator(random_state=0),
        }
    if not isinstance(estimators, dict) or not estimators or not all(isinstance(name, str) for name in estimators):
        raise TypeError(f"estimators={estimators!r} must be a dict of names (str) to transformers, with one at least.")
    return estimators


def _usable_sizes(n_components, n_features, n_samples):
    """Return the sizes less than n_features that n_samples allow, and the others."""
    sizes = check_sizes("n_components", n_components)
    usable = [size for size in sizes if size < n_features and size <= n_samples]
    if not usable:
        raise ValueError(
            f"None of the sizes {sizes} is left: a size must be less than the {n_features} columns of X and at most "
            f"the {n_samples} samples of the smallest training fold."
        )
    return usable, [size for size in sizes if size not in usable]


def _fits(estimators, sizes):
    """Return the name, the estimator and the sizes of each fit; one fit has all sizes if components are ordered."""
    ordered = {
        name for name, model in estimators.items() if isinstance(model, AutoencoderTransformer) and model.ordered
    }
    fits = [(name, sizes) for name in estimators if name in ordered]
    fits += [(name, [size]) for size in sizes for name in estimators if name not in ordered]
    return [(name, _with_size(name, estimators[name], fit_sizes[-1]), fit_sizes) for name, fit_sizes in fits]


def _with_size(name, estimator, size):
    """Clone an estimator and set its n_components; of a Pipeline, those of the last step that has the parameter."""
    found = [key for key in estimator.get_params() if key == "n_components" or key.endswith("__n_components")]
    if not found:
        raise ValueError(f"estimators[{name!r}]={estimator!r} has no parameter n_components to compare sizes by.")
    parameter = min(found, key=lambda key: (key.count("__"), -found.index(key)))
    return clone(estimator).set_params(**{parameter: size})


def _measure(estimator, sizes, samples, train, test, target):
    """Fit to the training samples; return the measures on the test samples at each size, or the error of sparse X."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bad fit shows in its errors
        began = time.perf_counter()
        try:
            estimator.fit(samples.take(train))
        except TypeError as error:  # scikit-learn's error for an estimator that does not take sparse samples
            if issparse(samples.take(train)):
                return error
            raise
        seconds = (time.perf_counter() - began) / len(sizes)
        fits = [estimator] if len(sizes) == 1 else [estimator.truncate(size) for size in sizes]
        return [_measure_fit(fit, seconds, samples, train, test, target) for fit in fits]


def _measure_fit(estimator, seconds, samples, train, test, target):
    """Return measures of a fit on the test samples, and examples of its codes, reconstructions and samples."""
    X, began = samples.take(test), time.perf_counter()
    codes = np.asarray(estimator.transform(X))
    transform_seconds = time.perf_counter() - began
    row = {"error": np.nan, "r2": np.nan, "log_likelihood": _log_likelihood(estimator, X)}
    example = {"codes": codes}
    if hasattr(estimator, "inverse_transform"):
        row["error"], total = samples.errors(estimator, train, test)
        row["r2"] = 1 - row["error"] / total if total > 0 else float(row["error"] == 0)
        example["reconstructions"] = samples.shown(train, estimator.inverse_transform(codes[:_N_EXAMPLES]))
    if isinstance(estimator, VAEGenerator):
        example["samples"] = samples.shown(train, estimator.sample(2 * _N_EXAMPLES, random_state=0))
    score = target.score((np.asarray(estimator.transform(samples.take(train))), codes), train, test)
    row |= {} if score is None else {"target_score": score}
    return row | {"fit_seconds": seconds, "transform_seconds": transform_seconds}, example


def _log_likelihood(estimator, X):
    """Return the mean log-density of samples in nats, in units of X; nan where the model has none that is finite.

    A Pipeline has none, since its last step's would be in units of scaled X.

    If the noise variance of PCA or FactorAnalysis is at its numerical floor, as with duplicated columns, the density
    only depends on the floor. It is inf then, since the likelihood of such samples is unbounded.
    """
    is_linear = isinstance(estimator, PCA | FactorAnalysis)
    has_density = is_linear or get_tags(estimator).estimator_type == "density_estimator"
    if not has_density or isinstance(estimator, Pipeline) or not hasattr(estimator, "score_samples"):
        return np.nan
    if is_linear and issparse(X):  # scikit-learn's take dense samples
        return np.nan
    if is_linear and np.min(estimator.noise_variance_ / X.var(axis=0).max()) < 1e-11:
        return np.inf
    try:
        with np.errstate(all="ignore"):
            density = float(np.mean(estimator.score_samples(X)))
    except (np.linalg.LinAlgError, ValueError):  # a singular covariance
        return np.nan
    return density if np.isfinite(density) else np.nan


class Comparison:
    """Results of `compare`.

    Parameters
    ----------
    results : dict of str to list
        One entry for each fit and size: "estimator", "n_components", "fold", "error" (held-out mean squared error, in
        units of X squared), "r2" (relative to the mean of the training samples), "log_likelihood" (held-out, in nats
        per sample; a lower bound for a VAE; inf where the noise variance is at its floor), "target_score" (only with
        y), "fit_seconds", "transform_seconds"; nan where a model has no such measure. It can be passed to the
        constructor of a DataFrame.
    skipped : sequence of int, default=()
        Sizes left out.
    prediction : Prediction, default=Prediction()
        How the target was predicted: name of "target_score", name of the model, and scores over folds of baselines.
    examples : dict or None, default=None
        Examples of the first fold, for the figures of the report: ten "rows" of X, the "target" of all held-out
        samples, and under "models" the codes, reconstructions and generated samples of each model and size.
    constant : sequence of int, default=()
        Indices of the columns left out.
    refusals : dict of str to str, default=None
        Estimators left out because they do not take sparse X, each with its error.
    notes : sequence of str, default=()
        Sentences about the samples, which the answer ends in.

    Attributes
    ----------
    results, skipped, prediction, examples, constant, refusals, notes
        The parameters.
    """

    def __init__(self, results, skipped=(), prediction=None, examples=None, constant=(), refusals=None, notes=()):
        self.results = results
        self.skipped = skipped
        self.prediction = prediction or Prediction()
        self.examples = examples
        self.constant = constant
        self.refusals = refusals
        self.notes = notes

    def summary(self):
        """Return the table, a verdict for each model and size, and the answer as text.

        Returns
        -------
        str
        """
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        header, *body = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table
        ]
        rule = "-" * (sum(widths) + 2 * len(widths) - 2)
        return "\n".join([header, rule, *body, "", *self.verdicts(), "", self.answer()])

    def table(self):
        """Return the results as text: means over folds with their standard deviations; seconds are medians.

        Returns
        -------
        list of list of str
            The header first.
        """
        columns = {
            "held-out error": ("error", _spread, ".4g"),
            "R^2": ("r2", _mean, ".3f"),
            "log-likelihood": ("log_likelihood", _spread, ".2f"),
            self.prediction.label: ("target_score", _mean, ".3f"),
            "fit s": ("fit_seconds", _median, ".3g"),
            "transform s": ("transform_seconds", _median, ".2g"),
        }
        columns = {label: column for label, column in columns.items() if column[0] in self.results}
        rows = [
            [str(size), name, *(form(self.folds(key, name, size), spec) for key, form, spec in columns.values())]
            for size in self.sizes
            for name in self.names
        ]
        return [["components", "estimator", *columns], *rows]

    def verdicts(self):
        """Return sentences on each size: on the target, errors and densities, with 95 % confidence intervals.

        Returns
        -------
        list of str
        """
        return [
            f"At {components(size)} {verdict}"
            for size in self.sizes
            for question in QUESTIONS
            for verdict in question(self).at(size)
        ]

    def answer(self):
        """Return which model to use: for prediction, if there is a target, for reconstruction and for densities.

        Returns
        -------
        str
        """
        sentences = [sentence for question in QUESTIONS for sentence in question(self).answer()]
        if self.skipped:
            sizes = ", ".join(map(str, self.skipped))
            sentences.append(f"Left out: {sizes} components, which do not reduce this table or exceed a fold's rows.")
        if self.constant:
            columns = ", ".join(map(str, self.constant))
            sentences.append(f"Left out: columns {columns} (counted from 0), constant in the training rows of a fold.")
        for name, error in (self.refusals or {}).items():
            sentences.append(f"Left out: {spoken(name)}, which does not take sparse X: {error}")
        return "\n".join([*sentences, *self.notes])

    def plot(self, axes=None):
        """Draw held-out error, and log-likelihood where a model has one, against the number of components.

        Parameters
        ----------
        axes : pair of matplotlib Axes, default=None
            Axes to draw in; None makes a new figure.

        Returns
        -------
        matplotlib.figure.Figure
        """
        return plot_curves(self, axes)

    def to_html(self, path, *, feature_shape=None, notes=()):
        """Write a report as a single, self-contained HTML file.

        Parameters
        ----------
        path : str or path-like
            The file, which is replaced if it exists.
        feature_shape : tuple of two int, default=None
            Height and width, if samples are flattened images. Columns left out are blank in them.
        notes : sequence of str, default=()
            Sentences about the data.

        Returns
        -------
        None

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        OSError
            If the file cannot be written.
        ValueError
            If ``feature_shape`` does not fit the samples.
        """
        write_report(self, path, feature_shape, notes)

    def _repr_html_(self):
        return html_table(self)

    def __str__(self):
        return self.summary()

    @property
    def sizes(self):
        """Numbers of components compared, ascending."""
        return sorted(set(self.results["n_components"]))

    @property
    def names(self):
        """Names of the models, in the order of their fits."""
        return list(dict.fromkeys(self.results["estimator"]))

    @property
    def reference(self):
        """Name of the model that verdicts compare with: "PCA" if there is one, else the first that reconstructs."""
        with_error = [name for name in self.names if np.isfinite(self.folds("error", name, self.sizes[0])).all()]
        return "PCA" if "PCA" in self.names else (with_error or self.names)[0]

    def folds(self, column, name, size):
        """Return a measure of one model at one size, over the folds.

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


def _mean(values, spec):
    return format(values.mean(), spec) if np.isfinite(values.mean()) else "-"


def _spread(values, spec):
    return f"{values.mean():{spec}} +- {values.std():.2g}" if np.isfinite(values).all() else "-"


def _median(values, spec):
    return format(np.median(values), spec)
