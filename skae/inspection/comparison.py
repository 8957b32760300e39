"""Cross-validated comparison of PCA and its alternatives on the same folds: results, table and verdicts."""

import time
import warnings
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
from joblib import Memory
from scipy.sparse import issparse
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.parallel import Parallel, delayed

from skae._autoencoder import AutoencoderTransformer
from skae._vae import VAEGenerator
from skae.data.parameters import check_flag, check_integer, check_sizes
from skae.inspection.metrics import split_pipeline
from skae.inspection.named import DEFAULTS, Budget, named_estimators, with_size
from skae.inspection.progress import Bar, Silent
from skae.inspection.report import html_table, plot_curves, write_report
from skae.inspection.samples import repeats, samples_of
from skae.inspection.targets import Prediction, target_of
from skae.inspection.verdicts import QUESTIONS, components, spoken
from skae.linear.gaussian import LinearGaussian

# Samples of the first fold kept as examples of reconstructions, and half the number of generated ones.
_N_EXAMPLES = 10
# Larger numbers have an exponent in the table.
_LARGEST_WRITTEN_OUT = 1e7


def compare(
    X,
    y=None,
    *,
    n_components=(2, 4, 8, 16),
    cv=5,
    estimators=None,
    ordered=False,
    budget=None,
    resume=None,
    n_jobs=None,
    verbose=0,
):
    """Cross-validate dimensionality reductions on the same folds.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Samples, in the units that errors should have. Scale columns of different units beforehand. Missing values are
        nan; estimators that do not take them get means. Columns that are constant in a training fold are left out and
        named in the summary.

        - DataFrame with columns that are not numeric: errors of numbers are in squared standard deviations, those of
          categories are the share of wrong predictions. `AutoencoderTransformer` gets ``loss="auto"``, but squared
          errors for integers, and `VAEGenerator` ``likelihood="auto"``. Others get standardised numbers and indicators
          of categories.
        - sparse matrix: only the test samples of a fold are made dense. PCA has no log-likelihood. Estimators that do
          not take sparse X are left out and named in the summary.
    y : array-like of shape (n_samples,), default=None
        Classes or values to predict from the codes, by logistic or linear regression.
    n_components : sequence of int, default=(2, 4, 8, 16)
        Numbers of components to compare. Those that are not less than the number of columns, or exceed the samples of a
        training fold, are left out and named in the summary.
    cv : int, default=5
        Number of folds: shuffled with seed 0, and stratified if y has classes. Samples with equal values are in the
        same fold, so that no test sample has been trained on.
    estimators : dict of str to transformer, or sequence of str, default=None
        Estimators to compare. Verdicts compare with the one named "PCA", else with the first.

        - dict: each estimator by its name. It has a parameter ``n_components``, which may be that of a step of a
          Pipeline.
        - sequence: "pca", "factor-analysis", "autoencoder", "vae", "kernel-pca", "nmf", "umap", "random-projection",
          "ica", "none", or the path of a class, as in the command.
        - None: the first four of these, with their defaults and seed 0.

        An autoencoder with ordered components is fitted once in each fold, with the largest number of components, and
        truncated to the others. These share its fit time equally.
    ordered : bool, default=False
        Whether the autoencoder has ordered components, if ``estimators`` are names or the default.
    budget : "fast", "default", "thorough" or float, default=None
        Time that the comparison may take. A fit that takes longer than its share is ended early, and the summary counts
        such fits. If the time is over nevertheless, the folds that are done are returned as soon as two have the same
        number of components, and ``stopped`` is True. Numbers of components with fewer folds than others are left out.

        - "fast": about a minute, with at most 1,000 samples, drawn at random, and 20 epochs.
        - "default": about ten minutes, with at most 4,000 samples, drawn at random.
        - float: a number of seconds; otherwise as "default".
        - "thorough", None: no limit.
    resume : str or path-like, default=None
        Folder in which each fit is stored when it is done, and from which it is taken if it is there. It holds pickles,
        so pass only folders that you trust.
    n_jobs : int, default=None
        Number of fits to run in parallel, as in `sklearn.model_selection.GridSearchCV`.
    verbose : int, default=0
        If not 0, show a progress bar with the time left on stderr, and the results for each number of components as
        soon as its fits are done.

    Returns
    -------
    Comparison
        The results. Ctrl-C ends the comparison early: what is done is returned as at the end of the budget, if two
        folds have the same number of components.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C comes before two folds are done.
    TypeError
        If ``estimators`` is neither a dict of transformers nor a sequence of names.
    ValueError
        If no number of components or no estimator is left, a name is unknown, or X has fewer samples than folds.

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
    began, budget, estimators = time.time(), Budget.of(budget), _check_estimators(estimators, ordered)
    X, y, notes = budget.draw(X, y)
    samples = samples_of(X)
    groups = samples.groups()
    target, folds = target_of(y, groups, check_integer("cv", cv, 2))
    samples.keep_varying(folds)
    sizes, skipped = _usable_sizes(n_components, samples.n_features, min(len(train) for train, _ in folds))
    prediction = Prediction(target.label, target.predictor, target.baselines(samples, folds, n_jobs))

    jobs = _jobs(estimators, sizes, len(folds))
    clocks = budget.clocks([job.estimator for job in jobs], began, n_jobs)
    measure = _measure if resume is None else Memory(resume, verbose=0).cache(_measure, ignore=["clock"])
    measured = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(measure)(samples.adapt(job.estimator), job.sizes, samples, *folds[job.fold], target, budget, clock)
        for job, clock in zip(jobs, clocks, strict=True)
    )
    done = _collect(jobs, measured, Bar(len(jobs)) if verbose else Silent(), prediction, budget.is_over(began))
    test = folds[0][1]
    drawn = {
        "rows": samples.shown(samples.take(test[:_N_EXAMPLES])),
        "target": None if y is None else target.y[test],
        "models": done.examples,
        "names": samples.shown_names(),
        "worst": done.worst,
        "estimators": {name: samples.adapt(estimator) for name, estimator in estimators.items()},
    }
    results, left_out = done.results(list(estimators)), (skipped, prediction, drawn, samples.constant, done.refusals)
    notes += [*repeats(groups), *target.notes(len(folds)), *samples.notes, *done.notes(jobs, results)]
    return Comparison(results, *left_out, notes, bool(done.stopped), samples.unit)


class _Job(NamedTuple):
    """A fit in one fold, which is measured at one size or more."""

    name: str
    estimator: object
    sizes: list
    fold: int


class _Done:
    """Measures of the fits that are done.

    Attributes
    ----------
    rows : dict of (size, name, fold) to dict
    examples : dict of (name, size) to dict
    worst : dict of (name, size) to list
        Error, name and columns of the samples with the largest errors.
    refusals : dict of str to str
        Errors of estimators that do not take sparse X.
    n_fits, n_ended : int
        Fits done, and those of them that the budget ended.
    stopped : str
        What ended the comparison before all fits were done; empty if nothing did.
    """

    def __init__(self):
        self.rows, self.examples, self.worst, self.refusals = {}, {}, {}, {}
        self.n_fits, self.n_ended, self.stopped = 0, 0, ""

    def add(self, job, measures):
        self.n_fits += 1
        if isinstance(measures, TypeError):
            self.refusals[job.name] = str(measures)
            return
        for size, (row, example) in zip(job.sizes, measures, strict=True):
            self.n_ended += row.pop("is_ended")
            self.rows[size, job.name, job.fold] = row
            ranked = [*self.worst.get((job.name, size), []), *example.pop("worst", [])]
            self.worst[job.name, size] = sorted(ranked, key=lambda found: -found[0])[:_N_EXAMPLES]
            if job.fold == 0:
                self.examples[job.name, size] = example

    def results(self, names):
        """Return the columns of the table, of the sizes that have most folds in which all estimators are done.

        Means of different folds cannot be compared.
        """
        names = [name for name in names if name not in self.refusals]
        n_done = Counter((size, fold) for size, _, fold in self.rows)
        whole = [(size, fold) for (size, fold), n in n_done.items() if n == len(names)]
        n_whole = Counter(size for size, _ in whole)
        enough = {size for size, n in n_whole.items() if n == max(n_whole.values()) > 1}
        results = defaultdict(list)
        for size, name, fold in sorted(self.rows, key=lambda cell: (cell[0], names.index(cell[1]), cell[2])):
            if (size, fold) in whole and size in enough:
                row = {"estimator": name, "n_components": size, "fold": fold} | self.rows[size, name, fold]
                for key, value in row.items():
                    results[key].append(value)
        return dict(results)

    def notes(self, jobs, results):
        """Return sentences on fits that were ended, and on those that are not done."""
        left_out = sorted({size for job in jobs for size in job.sizes}.difference(results["n_components"]))
        rest = f", and {', '.join(map(str, left_out))} components are left out" * bool(left_out)
        ended = f"The budget ended {self.n_ended} of {len(jobs)} fits early; a larger one may change results."
        stopped = (
            f"Stopped after {self.n_fits} of {len(jobs)} fits {self.stopped}; only folds that are done count{rest}."
        )
        return [ended] * (self.n_ended > 0) + [stopped] * bool(self.stopped)


def _collect(jobs, measured, progress, prediction, is_over):
    """Return the finished fits: all, or those at Ctrl-C, or those at the end of the budget if there is an answer."""
    done, names = _Done(), list(dict.fromkeys(job.name for job in jobs))
    try:
        with progress:
            for i, (job, measures) in enumerate(zip(jobs, measured, strict=True)):
                done.add(job, measures)
                is_last = i + 1 == len(jobs) or jobs[i + 1].sizes != job.sizes
                progress.done(_rows(done.results(names), prediction, job.sizes) if is_last else "")
                if is_over() and i + 1 < len(jobs) and done.results(names):
                    done.stopped = "at the end of the budget"
                    break
    except KeyboardInterrupt:
        done.stopped = "by Ctrl-C"
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of results that are not used
        measured.close()
    if done.stopped and not done.results(names):
        raise KeyboardInterrupt("Stopped before two folds of a size were done.")
    if not done.rows:
        raise ValueError(f"No estimator takes sparse X: {done.refusals}. Pass X.toarray().")
    return done


def _rows(results, prediction, sizes):
    """Return the rows of sizes in the table of results, as text."""
    header, *rows = Comparison(results, prediction=prediction).table() if results else [[]]
    return _aligned([header, *(row for row in rows if int(row[0]) in sizes)])[0] if rows else ""


def _aligned(table):
    """Return a table as text, and its width."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
    return "\n".join(lines), sum(widths) + 2 * len(widths) - 2


def _check_estimators(estimators, ordered):
    names = DEFAULTS if estimators is None else estimators
    if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
        estimators, is_ordered = named_estimators(names), check_flag("ordered", ordered)
        for estimator in estimators.values():
            if type(estimator) is AutoencoderTransformer:
                estimator.set_params(ordered=is_ordered)
    if not isinstance(estimators, dict) or not estimators or not all(isinstance(name, str) for name in estimators):
        raise TypeError(f"estimators={estimators!r} must be names, or a dict of transformers by name, at least one.")
    return estimators


def _usable_sizes(n_components, n_features, n_samples):
    """Return the sizes less than n_features that n_samples allow, and the others."""
    sizes = check_sizes("n_components", n_components)
    usable = [size for size in sizes if size < n_features and size <= n_samples]
    if not usable:
        raise ValueError(
            f"None of the sizes {sizes} is left: a size must be less than the number of columns of X, {n_features}, "
            f"and at most that of samples of the smallest training fold, {n_samples}."
        )
    return usable, [size for size in sizes if size not in usable]


def _jobs(estimators, sizes, n_folds):
    """Return the fits size by size and fold by fold; one fit has all sizes if components are ordered."""
    ordered = {
        name for name, model in estimators.items() if isinstance(model, AutoencoderTransformer) and model.ordered
    }
    sets = [(sizes, ordered)] * bool(ordered) + [([size], estimators.keys() - ordered) for size in sizes]
    return [
        _Job(name, with_size(name, estimator, at[-1]), at, fold)
        for at, names in sets
        for fold in range(n_folds)
        for name, estimator in estimators.items()
        if name in names
    ]


def _measure(estimator, sizes, samples, train, test, target, budget, clock):
    """Fit to the training samples; return the measures on the test samples at each size, or the error of sparse X."""
    estimator = budget.limit(estimator, clock)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bad fit shows in its errors
        warnings.filterwarnings("ignore", "Training was interrupted")
        began = time.perf_counter()
        try:
            estimator.fit(samples.take(train))
        except TypeError as error:  # scikit-learn's error for an estimator that does not take sparse samples
            if issparse(samples.take(train)):
                return error
            raise
        seconds = (time.perf_counter() - began) / len(sizes)
        outcome = getattr(getattr(split_pipeline(estimator)[1], "net_", None), "outcome_", None)
        if outcome == "interrupted":  # Ctrl-C ended training only
            raise KeyboardInterrupt
        fits = [estimator] if len(sizes) == 1 else [estimator.truncate(size) for size in sizes]
        return [_measure_fit(fit, seconds, outcome, samples, train, test, target) for fit in fits]


def _measure_fit(estimator, seconds, outcome, samples, train, test, target):
    """Return measures of a fit on the test samples, and examples of its codes, reconstructions and samples."""
    X, began = samples.take(test), time.perf_counter()
    codes = np.asarray(estimator.transform(X))
    transform_seconds = time.perf_counter() - began
    row = {"error": np.nan, "r2": np.nan, "log_likelihood": _log_likelihood(estimator, X)}
    row["is_ended"] = outcome == "callback"
    example = {"codes": codes, "loadings": samples.loadings(estimator, test)}
    if hasattr(estimator, "inverse_transform"):
        errors = samples.errors(test, estimator.inverse_transform(codes))
        row["error"], total = float(errors.mean()), samples.error_of_mean(train, test)
        row["r2"] = 1 - row["error"] / total if total > 0 else float(row["error"] == 0)
        example["worst"] = samples.worst(errors, test, _N_EXAMPLES)
        example["reconstructions"] = samples.shown(estimator.inverse_transform(codes[:_N_EXAMPLES]))
    if isinstance(estimator, VAEGenerator):
        example["samples"] = samples.shown(estimator.sample(2 * _N_EXAMPLES, random_state=0))
    score = target.score((np.asarray(estimator.transform(samples.take(train))), codes), train, test)
    row |= {} if score is None else {"target_score": score}
    return row | {"fit_seconds": seconds, "transform_seconds": transform_seconds}, example


def _log_likelihood(estimator, X):
    """Return the mean log-density of samples in nats, in units of X; nan where the model has none that is finite.

    A Pipeline has none, since its last step's would be in units of scaled X.
    """
    is_linear = isinstance(estimator, PCA | FactorAnalysis)
    has_density = is_linear or get_tags(estimator).estimator_type == "density_estimator"
    if not has_density or isinstance(estimator, Pipeline) or not hasattr(estimator, "score_samples"):
        return np.nan
    if is_linear and issparse(X):  # scikit-learn's take dense samples
        return np.nan
    try:
        with np.errstate(all="ignore"):
            densities = _linear_density(estimator, X) if is_linear else estimator.score_samples(X)
    except (np.linalg.LinAlgError, ValueError):  # a singular covariance
        return np.nan
    return float(np.mean(densities)) if np.isfinite(densities).all() or np.isposinf(densities).all() else np.nan


def _linear_density(estimator, X):
    """Return the log-densities of a PCA or a FactorAnalysis, which cost no more memory than the samples.

    If the noise variance is at its numerical floor, as with duplicated columns, the density only depends on the floor.
    It is inf then, since the likelihood of such samples is unbounded.
    """
    signal = getattr(estimator, "explained_variance_", None)
    scale = 1 if signal is None else np.sqrt(np.maximum(signal - estimator.noise_variance_, 0))
    loadings, noise = estimator.components_.T * scale, np.broadcast_to(estimator.noise_variance_, estimator.mean_.shape)
    if noise.min() < 1e-11 * (np.square(loadings).sum(axis=1) + noise).max():
        return np.full(len(X), np.inf)
    rotation = np.linalg.eigh(loadings.T @ (loadings / noise[:, None]))[1]
    return LinearGaussian(estimator.mean_, loadings @ rotation, noise.copy()).log_density(X)


class Comparison:
    """Results of `compare`.

    Parameters
    ----------
    results : dict of str to list
        Columns of a table, which the constructor of a DataFrame takes. Each has an entry for each estimator, number of
        components and fold; nan where an estimator has no such measure.

        - "estimator", "n_components", "fold": what the entry is of.
        - "error": mean squared error of held-out samples, in units of X squared.
        - "r2": R^2 of held-out samples, relative to the mean of the training samples.
        - "log_likelihood": mean log-density of held-out samples, in nats. It is a lower bound for a VAE, and inf where
          the noise variance is at its lower bound.
        - "target_score": score of the prediction of y from codes. Only with y.
        - "fit_seconds", "transform_seconds": times.
    skipped : sequence of int, default=()
        Numbers of components left out.
    prediction : Prediction, default=None
        How the target was predicted: the name of "target_score", the name of the model, and scores of baselines over
        folds. None if there is no target.
    examples : dict or None, default=None
        Examples of the first fold, for the report.

        - "rows": ten samples of X.
        - "target": the target of all held-out samples.
        - "models": codes, loadings, reconstructions and new samples for each estimator and number of components.
        - "worst": the held-out samples with the largest errors, for each estimator and number of components.
        - "names": names of the columns of "rows", or None.
        - "estimators": the estimators, unfitted, by name.
    constant : sequence of int, default=()
        Indices of the columns left out.
    refusals : dict of str to str, default=None
        Estimators left out because they do not take sparse X, each with its error.
    notes : sequence of str, default=()
        Sentences about the samples, which end the answer.
    stopped : bool, default=False
        Whether Ctrl-C or the budget ended the comparison, so that fits are missing.
    unit : str, default="in units of X squared"
        Unit of errors, as the report names it.

    Attributes
    ----------
    results, skipped, prediction, examples, constant, refusals, notes, stopped, unit
        The parameters.
    """

    def __init__(
        self,
        results,
        skipped=(),
        prediction=None,
        examples=None,
        constant=(),
        refusals=None,
        notes=(),
        stopped=False,
        unit="in units of X squared",
    ):
        self.results = results
        self.skipped = skipped
        self.prediction = prediction or Prediction()
        self.examples = examples
        self.constant = constant
        self.refusals = refusals
        self.notes = notes
        self.stopped = stopped
        self.unit = unit

    def summary(self):
        """Return the table, the verdicts and the answer as text.

        Returns
        -------
        str
            Several lines.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA, FactorAnalysis
        >>> from skae import compare
        >>> models = {"PCA": PCA(), "factor analysis": FactorAnalysis()}
        >>> comparison = compare(load_iris().data, n_components=[2], cv=3, estimators=models)
        >>> comparison.summary().startswith("components  estimator")
        True
        """
        text, width = _aligned(self.table())
        header, _, body = text.partition("\n")
        return "\n".join([header, "-" * width, body, "", *self.verdicts(), "", self.answer()])

    def table(self):
        """Return the results as rows of text: means over folds with their standard deviations, and median seconds.

        Returns
        -------
        list of list of str
            The header, and a row for each number of components and estimator.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA, FactorAnalysis
        >>> from skae import compare
        >>> models = {"PCA": PCA(), "factor analysis": FactorAnalysis()}
        >>> comparison = compare(load_iris().data, n_components=[2], cv=3, estimators=models)
        >>> header, *rows = comparison.table()
        >>> header[:3]
        ['components', 'estimator', 'held-out error']
        >>> [row[1] for row in rows]
        ['PCA', 'factor analysis']
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
        """Return sentences on predictions, errors and densities at each number of components.

        Returns
        -------
        list of str
            With 95 % confidence intervals of the differences from the reference.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA, FactorAnalysis
        >>> from skae import compare
        >>> models = {"PCA": PCA(), "factor analysis": FactorAnalysis()}
        >>> comparison = compare(load_iris().data, n_components=[2], cv=3, estimators=models)
        >>> verdict, *_ = comparison.verdicts()
        >>> verdict.startswith("At 2 components")
        True
        """
        return [
            f"At {components(size)} {verdict}"
            for size in self.sizes
            for question in QUESTIONS
            for verdict in question(self).at(size)
        ]

    def answer(self):
        """Return which estimator to use for prediction (if there is a target), reconstruction and densities.

        Returns
        -------
        str
            A sentence a line, with notes on what was left out.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA, FactorAnalysis
        >>> from skae import compare
        >>> models = {"PCA": PCA(), "factor analysis": FactorAnalysis()}
        >>> comparison = compare(load_iris().data, n_components=[2], cv=3, estimators=models)
        >>> comparison.answer().startswith("For densities: no difference that these samples can show")
        True
        """
        sentences = [sentence for question in QUESTIONS for sentence in question(self).answer()]
        if self.skipped:
            sizes = ", ".join(map(str, self.skipped))
            sentences.append(
                f"Left out: {sizes} components, which do not reduce this table or exceed the samples of a fold."
            )
        for name, error in (self.refusals or {}).items():
            sentences.append(f"Left out: {spoken(name)}, which does not take sparse X: {error}")
        return "\n".join([*sentences, *self.notes])

    def plot(self, axes=None):
        """Draw held-out error and log-likelihood against the number of components.

        Parameters
        ----------
        axes : pair of matplotlib Axes, default=None
            Axes to draw in; None makes a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            The figure of the axes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA, FactorAnalysis
        >>> from skae import compare
        >>> models = {"PCA": PCA(), "factor analysis": FactorAnalysis()}
        >>> comparison = compare(load_iris().data, n_components=[2], cv=3, estimators=models)
        >>> figure = comparison.plot()
        >>> len(figure.axes)
        2
        """
        return plot_curves(self, axes)

    def to_html(self, path, *, feature_shape=None, notes=(), command=None, load=()):
        """Write a report as a single, self-contained HTML file.

        Parameters
        ----------
        path : str or path-like
            The file, which is replaced if it exists.
        feature_shape : tuple of two int, default=None
            Height and width, if samples are flattened images. Columns that were left out are blank.
        notes : sequence of str, default=()
            Sentences about the data.
        command : str, default=None
            The command that makes the report again.
        load : sequence of str, default=()
            Lines of Python that make X, imports first, for the program in the report that uses the best model.

        Returns
        -------
        None
            The report is in the file.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        OSError
            If the file cannot be written.
        ValueError
            If ``feature_shape`` does not fit the samples.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA, FactorAnalysis
        >>> from skae import compare
        >>> models = {"PCA": PCA(), "factor analysis": FactorAnalysis()}
        >>> comparison = compare(load_iris().data, n_components=[2], cv=3, estimators=models)
        >>> comparison.to_html("report.html")  # doctest: +SKIP
        """
        write_report(self, path, feature_shape, notes, command, load)

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
        """Names of the estimators, in the order of their fits."""
        return list(dict.fromkeys(self.results["estimator"]))

    @property
    def reference(self):
        """Name of the estimator that verdicts compare with: "PCA", or else the first that reconstructs."""
        with_error = [name for name in self.names if np.isfinite(self.folds("error", name, self.sizes[0])).all()]
        return "PCA" if "PCA" in self.names else (with_error or self.names)[0]

    def folds(self, column, name, size):
        """Return a measure of one estimator at one number of components, over the folds.

        Parameters
        ----------
        column : str
            A key of ``results``.
        name : str
            Name of the estimator.
        size : int
            Number of components.

        Returns
        -------
        ndarray of shape (n_folds,)
            The measure in each fold.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA, FactorAnalysis
        >>> from skae import compare
        >>> models = {"PCA": PCA(), "factor analysis": FactorAnalysis()}
        >>> comparison = compare(load_iris().data, n_components=[2], cv=3, estimators=models)
        >>> comparison.folds("error", "PCA", 2).shape
        (3,)
        """
        keys = zip(self.results["estimator"], self.results["n_components"], self.results[column], strict=True)
        return np.array([value for estimator, n, value in keys if (estimator, n) == (name, size)])


def _mean(values, spec):
    return format(values.mean(), spec) if np.isfinite(values.mean()) else "-"


def _spread(values, spec):
    spec = spec if np.max(np.abs(values)) < _LARGEST_WRITTEN_OUT else ".2g"
    return f"{values.mean():{spec}} +- {values.std():.2g}" if np.isfinite(values).all() else "-"


def _median(values, spec):
    return format(np.median(values), spec)
