"""Evaluation of synthetic samples: how close they are to real ones, and whether they repeat training samples."""

from dataclasses import dataclass, fields
from importlib.util import find_spec

import numpy as np
from scipy.stats import ks_2samp
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import get_scorer, pairwise_distances_chunked
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import _safe_indexing, check_random_state

from skae.data.checks import FLOATS, listed
from skae.data.dataframes import library_of, unmasked
from skae.data.parameters import check_integer
from skae.inspection.drawing import COLOURS, Display, axes_or_new, divide, escape_math, pyplot
from skae.inspection.metrics import numeric_array
from skae.inspection.samples import TableCode
from skae.inspection.targets import Values, kind_of

# Neighbours of a sample whose distance is the radius of its ball, and the most samples among which they are searched.
_NEIGHBOURS, _MOST_BALLS = 5, 2000
_FOLDS = 3
# Panels of a display in a row, their width and height in inches, intervals of numbers, and most labels that are shown.
_PANELS, _PANEL_SIZE, _INTERVALS, _MOST_NAMED = 4, (2.4, 1.9), 20, 4


@dataclass(frozen=True)
class SyntheticEvaluation:
    """Comparison of synthetic with real samples: the result of `evaluate_synthetic`, printed as a table.

    Parameters
    ----------
    c2st : float
        Classifier two-sample test: 2 - 2 AUC of a classifier that distinguishes synthetic from real samples, at most 1.
        1 if it cannot, 0 if it always can.
    classifier : str
        Name of that classifier.
    marginals : dict of column to float
        Distance between the real and the synthetic distribution of each column, from 0 (equal) to 1:
        Kolmogorov-Smirnov for numbers, total variation for categories.
    correlations : float
        Mean absolute difference between the real and the synthetic correlations of pairs of columns; 0 is best.
    precision, recall : float
        From 0 to 1, 1 is best (Kynkäänniemi et al. 2019, arXiv:1904.06991). Precision is the share of synthetic samples
        that lie in the ball of some real sample, whose radius is the distance to its fifth nearest real neighbour.
        Recall is the same with real and synthetic samples exchanged.
    copies, copies_of_holdout : float or None
        Share of synthetic samples that equal one of n samples of ``real``, and of ``holdout``. To be comparable, n is
        the number of samples of the smaller of the two. Without ``holdout`` the latter is None.
    closer_to_real : float or None
        Share of synthetic samples that are nearer to n samples of ``real`` than to n of ``holdout``: about 0.5 if the
        model does not repeat its training samples. None without ``holdout``.
    trained_on_synthetic, trained_on_real : float or None
        Score on ``holdout`` of gradient boosting that was trained on synthetic and on real samples. None without a
        target.
    score : str or None
        Name of that score: "ROC AUC", "accuracy", "balanced accuracy" or "target R^2". None without a target.

    Notes
    -----
    SDMetrics has other names for some measures, with 1 as the best value. Its KSComplement (for numbers) and
    TVComplement (for categories) are 1 minus the entries of ``marginals``. For tables of numbers its
    CorrelationSimilarity, averaged over pairs of columns, is ``1 - correlations / 2``.
    """

    c2st: float
    classifier: str
    marginals: dict
    correlations: float
    precision: float
    recall: float
    copies: float
    copies_of_holdout: float | None = None
    closer_to_real: float | None = None
    trained_on_synthetic: float | None = None
    trained_on_real: float | None = None
    score: str | None = None

    def __str__(self):
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        named["marginals"] = float(np.median([*self.marginals.values()]))
        worst = max(self.marginals, key=self.marginals.get)
        notes = {
            "c2st": f"1 is best; by {self.classifier}",
            "marginals": f"0 is best; median, worst {self.marginals[worst]:.3f} ({worst})",
            "correlations": "0 is best",
            "precision": "1 is best",
            "recall": "1 is best",
            "copies_of_holdout": "what copies should be",
            "closer_to_real": "0.5 is best",
            "trained_on_synthetic": f"{self.score} on holdout",
        }
        return "\n".join(
            f"{name.replace('_', ' '):22}{value:7.3f}  {notes.get(name, '')}".rstrip()
            for name, value in named.items()
            if isinstance(value, float)
        )


def evaluate_synthetic(real, synthetic, holdout=None, *, target=None, random_state=0):
    """Measure how close synthetic samples are to real ones, and whether they repeat training samples.

    Parameters
    ----------
    real : array-like or DataFrame of shape (n_samples, n_features)
        The samples that the generator was fitted to.
    synthetic : array-like or DataFrame of shape (n_synthetic, n_features)
        Samples of the generator, with the same columns.
    holdout : array-like or DataFrame of shape (n_holdout, n_features), default=None
        Real samples that the generator was not fitted to. Synthetic samples are then compared with these, so that a
        generator that repeats ``real`` does not look perfect. Needed for ``closer_to_real`` and for a target.
    target : column name or int, default=None
        The column that is predicted from the others by gradient boosting, trained on synthetic and on real samples. For
        this, samples are left out if their target is missing, or a class that ``real`` does not have.
    random_state : int, RandomState instance or None, default=0
        Source of random subsets and folds.

    Returns
    -------
    SyntheticEvaluation
        The measures as attributes; ``print`` shows them as a table.

    Raises
    ------
    ValueError
        If the columns differ, a table has fewer than three samples, or ``target`` is set without ``holdout``.

    Notes
    -----
    The classifier is XGBoost's with its defaults if the package is installed, else `HistGradientBoostingClassifier`,
    with smaller leaves for fewer than 190 samples. It is cross-validated in three folds, on as many real as synthetic
    samples. Distances are Euclidean, between standardised numbers and indicators of categories, which are divided by
    the square roots of their shares. Missing values are replaced by means. Precision and recall are computed on at most
    2,000 samples of either kind.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import train_test_split
    >>> from skae import VAEGenerator, evaluate_synthetic
    >>> train, test = train_test_split(load_wine().data, random_state=0)
    >>> model = VAEGenerator(2, max_iter=0, random_state=0).fit(train)
    >>> evaluation = evaluate_synthetic(train, model.sample(200, random_state=0), test)
    >>> evaluation.copies
    0.0
    """
    random_state = check_random_state(random_state)
    parts = _checked(real=real, synthetic=synthetic, **({} if holdout is None else {"holdout": holdout}))
    if target is not None and holdout is None:
        raise ValueError(f"target={target!r} needs holdout: pass real samples on which predictions are scored.")
    code = TableCode("indicate").fit(parts["real"])
    scaled = {name: code.scaled(X) for name, X in parts.items()}
    known = {name: part for name, part in scaled.items() if name != "synthetic"}
    figures = _resemblance(code, [*known.values()][-1], scaled["synthetic"], random_state)
    figures |= _repetition(known, scaled["synthetic"], random_state)
    if target is not None:
        figures |= _prediction(parts, target)
    return SyntheticEvaluation(**figures)


def _checked(**parts):
    """Return tables of at least as many samples as folds, with the same columns."""
    for name, X in parts.items():
        asked = "Arrays are taken for numbers", "Pass strings and categories as a DataFrame."
        options = {"dtype": FLOATS, "ensure_all_finite": "allow-nan", "input_name": name}
        parts[name] = unmasked(X) if library_of(X).name else numeric_array(X, *asked, **options)
        if (n := len(parts[name])) < _FOLDS:
            raise ValueError(f"{name} needs at least {_FOLDS} samples, and has {n}.")
        columns, expected = _names(parts[name]), _names(parts["real"])
        if columns != expected:
            raise ValueError(f"Pass {name} with the columns of real, {listed(expected)}, and not {listed(columns)}.")
        if len({*columns}) < len(columns):
            raise ValueError(f"The columns of real have the same name twice: {listed(columns)}. Rename them.")
    return parts


def _names(X):
    library = library_of(X)
    return list(library.names(X)) if library.name else list(range(np.shape(X)[1]))


def _drawn(X, n, random_state):
    """Return n samples of X, or all if these are fewer."""
    return X if len(X) <= n else X[random_state.choice(len(X), n, replace=False)]


def _resemblance(code, real, synthetic, random_state):
    """Return the figures that say whether samples pass for real ones; the arguments are scaled."""
    n, seed = min(len(real), len(synthetic)), int(random_state.randint(2**31 - 1))
    real, synthetic = (_drawn(part, n, random_state) for part in (real, synthetic))
    classifier, folds = _classifier(seed, n), StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    both, is_real = np.vstack(_with_indicators(real, synthetic)), np.repeat([1, 0], n)
    area = cross_val_score(classifier, both, is_real, cv=folds, scoring="roc_auc").mean()
    filled = [np.nan_to_num(part) for part in (real, synthetic)]
    balls = [_drawn(part, _MOST_BALLS, random_state) for part in filled]
    return {
        "c2st": float(min(1.0, 2 - 2 * area)),
        "classifier": type(classifier).__name__,
        "marginals": _marginals(code, real, synthetic),
        "correlations": _correlations(code.table_.places, *filled),
        "precision": _share_inside(*balls),
        "recall": _share_inside(*reversed(balls)),
    }


def _classifier(seed, n):
    if find_spec("xgboost") is None:
        return HistGradientBoostingClassifier(random_state=seed, min_samples_leaf=_least_in_leaf(n))
    from xgboost import XGBClassifier

    return XGBClassifier(random_state=seed)


def _least_in_leaf(n):
    """Return the least number of samples in a leaf: scikit-learn's, or less, so that few samples are split."""
    return min(20, 1 + n // 10)


def _with_indicators(*parts):
    """Fill missing values with means, and append an indicator of those of each column that has any in some part.

    Gradient boosting fails for columns without values.
    """
    missing = [np.isnan(part) for part in parts]
    some = np.any([each.any(axis=0) for each in missing], axis=0)
    return [np.hstack([np.nan_to_num(part), each[:, some]]) for part, each in zip(parts, missing, strict=True)]


def _marginals(code, real, synthetic):
    """Return the distance of the distributions of each column, by name."""
    distances = {}
    for column, place in zip(code.table_.columns, code.table_.places, strict=True):
        values = [_observed(part[:, place]) for part in (real, synthetic)]
        if not all(map(len, values)):
            distance = any(map(len, values))
        elif column.kind == "number":
            distance = ks_2samp(*(part[:, 0] for part in values)).statistic
        else:  # scaled indicators, none of which is 1 for unknown categories
            lost = (values[0].mean(axis=0) - values[1].mean(axis=0)) * code.scale_[place]
            distance = (np.abs(lost).sum() + abs(lost.sum())) / 2
        distances[column.name] = float(distance)
    return distances


def _observed(part):
    """Return the samples of an encoded column that are not missing."""
    return part[~np.isnan(part[:, 0])]


def _correlations(places, real, synthetic):
    """Return the mean absolute difference of correlations between columns of the table."""
    column = np.repeat(np.arange(len(places)), [place.stop - place.start for place in places])
    pairs = np.triu(column[:, None] != column)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_real, of_synthetic = (np.nan_to_num(np.corrcoef(part.T)) for part in (real, synthetic))
    return float(np.abs(of_real - of_synthetic)[pairs].mean()) if pairs.any() else 0.0


def _share_inside(centres, samples):
    """Return the share of samples that are no further from some centre than its fifth nearest centre."""
    n = min(_NEIGHBOURS, len(centres) - 1) + 1  # itself is one of them
    radius = NearestNeighbors(n_neighbors=n).fit(centres).kneighbors(centres)[0][:, -1]
    chunks = pairwise_distances_chunked(samples, centres, reduce_func=lambda part, _: (part <= radius).any(axis=1))
    return float(np.concatenate(list(chunks)).mean())


def _repetition(known, synthetic, random_state):
    """Return the figures that say whether samples repeat known ones, of which as many are searched by name."""
    n, synthetic = min(map(len, known.values())), np.nan_to_num(synthetic)
    distances, copies = {}, {}
    for name, part in known.items():
        drawn = np.nan_to_num(_drawn(part, n, random_state))
        distances[name] = NearestNeighbors(n_neighbors=1).fit(drawn).kneighbors(synthetic)[0]
        rows = {row.tobytes() for row in drawn}
        copies[name] = float(np.mean([row.tobytes() in rows for row in synthetic]))
    if "holdout" not in known:
        return {"copies": copies["real"]}
    closer = 0.5 + np.sign(distances["holdout"] - distances["real"]).mean() / 2
    return {"copies": copies["real"], "copies_of_holdout": copies["holdout"], "closer_to_real": float(closer)}


def _prediction(parts, target):
    """Return the scores on holdout of gradient boosting that is trained on the other parts."""
    names = _names(parts["real"])
    if target not in names:
        raise ValueError(f"target={target!r} is no column of real. Its columns are {listed(names)}.")
    j, others = names.index(target), [k for k, name in enumerate(names) if name != target]
    if not others:
        raise ValueError(f"target={target!r} is the only column, so nothing can predict it. Leave target out.")
    library = library_of(parts["real"])
    is_category = library.describe(library.columns(parts["real"])[j]).family == "category"
    y, classes, kind = {}, None, None
    for name, X in parts.items():
        usable, y[name] = _targets(X, j, is_category, classes)
        if not len(usable):
            what = "value" if classes is None else "class of real. Round numbers, or leave target out"
            raise ValueError(f"Column {target!r} of {name}, the target, has no {what}.")
        parts = parts | {name: _safe_indexing(_safe_indexing(X, others, axis=1), usable)}
        kind = kind or kind_of(y[name], np.arange(len(usable)), _FOLDS)
        classes = None if kind is Values else np.unique(y["real"])
    code = TableCode("indicate").fit(parts["real"])
    coded = dict(zip(parts, _with_indicators(*map(code.scaled, parts.values())), strict=True))
    booster = HistGradientBoostingRegressor if kind is Values else HistGradientBoostingClassifier
    scores = {}
    for name in ("synthetic", "real"):
        # Early stopping stratifies its validation set by classes, which needs two samples of each.
        may_stop = "auto" if classes is None or np.unique(y[name], return_counts=True)[1].min() > 1 else False
        model = booster(random_state=0, min_samples_leaf=_least_in_leaf(len(y[name])), early_stopping=may_stop)
        if classes is not None and len(np.unique(y[name])) == 1:
            model = DummyClassifier().fit(classes, classes, classes == y[name][0])  # it knows the other classes
        else:
            model.fit(coded[name], y[name])
        scores[f"trained_on_{name}"] = float(get_scorer(kind.scoring)(model, coded["holdout"], y["holdout"]))
    return scores | {"score": kind.label}


def _targets(X, j, is_category, classes):
    """Return the samples whose column j is observed and, unless classes is None, one of these; and its values there."""
    values = library_of(X).values(library_of(X).columns(X)[j])
    usable = np.flatnonzero([value is not None for value in values])
    y = np.array([str(values[i]) if is_category else values[i] for i in usable])
    is_known = slice(None) if classes is None else np.isin(y, classes)
    return usable[is_known], y[is_known]


class SyntheticDisplay(Display):
    """Distributions of the columns that differ most between real and synthetic samples.

    Create it with `from_samples`.

    Parameters
    ----------
    shares : dict of column to tuple
        For each column (labels, shares of real samples, shares of synthetic samples). Labels are categories, or the
        lower ends of intervals of numbers.
    distances : dict of column to float
        Distance between the two distributions, as `SyntheticEvaluation.marginals`.

    Attributes
    ----------
    shares, distances : dict
        The parameters.
    ax_ : matplotlib.axes.Axes
        The axes that `plot` last divided.
    axes_ : ndarray of Axes
        The panels.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import SyntheticDisplay, VAEGenerator
    >>> X = load_wine(as_frame=True).data
    >>> new = VAEGenerator(2, max_iter=0, random_state=0).fit(X).sample(200, random_state=0)
    >>> display = SyntheticDisplay.from_samples(X, new, most_columns=4)
    >>> len(display.shares)
    4
    """

    def __init__(self, *, shares, distances):
        self.shares, self.distances = shares, distances

    @classmethod
    def from_samples(cls, real, synthetic, *, most_columns=8, ax=None):
        """Draw the columns whose distributions differ most.

        Parameters
        ----------
        real, synthetic : array-like or DataFrame of shape (n_samples, n_features)
            Samples with the same columns.
        most_columns : int, default=8
            Number of columns that are drawn at most.
        ax : matplotlib.axes.Axes, default=None
            Axes to divide; None makes a new figure.

        Returns
        -------
        SyntheticDisplay

        Raises
        ------
        ValueError
            If the columns differ, or a table has fewer than three samples.
        """
        most_columns = check_integer("most_columns", most_columns, 1)
        real, synthetic = _checked(real=real, synthetic=synthetic).values()
        code = TableCode("indicate").fit(real)
        distances = _marginals(code, code.scaled(real), code.scaled(synthetic))
        kept = sorted(distances, key=distances.get, reverse=True)[:most_columns]
        in_units = [code.table_.encode(X) for X in (real, synthetic)]
        pairs = zip(code.table_.columns, code.table_.places, strict=True)
        columns = {column.name: (column, place) for column, place in pairs}
        shares = {}
        for name in kept:
            column, place = columns[name]
            shares[name] = _shares(column, *(part[:, place] for part in in_units))
        return cls(shares=shares, distances={name: distances[name] for name in kept}).plot(ax)

    def _draw(self, ax):
        n_columns = min(_PANELS, len(self.shares))
        n_lines = -(-len(self.shares) // n_columns)
        width, height = _PANEL_SIZE
        ax = axes_or_new(ax, (width * n_columns, height * n_lines))
        self.axes_ = divide(ax, n_lines, n_columns, (0.12, 0.34))
        for axis in self.axes_.flat[len(self.shares) :]:
            axis.set_axis_off()
        for axis, (name, (labels, *shares)) in zip(self.axes_.flat, self.shares.items(), strict=False):
            at = np.arange(len(labels))
            for k, (label, share) in enumerate(zip(("real", "synthetic"), shares, strict=True)):
                axis.bar(at + 0.4 * k - 0.2, share, 0.4, color=COLOURS[2 - k], label=label)
            axis.set_title(f"{escape_math(name)} ({self.distances[name]:.2f})", fontsize="small", pad=3)
            ends = at if len(at) <= _MOST_NAMED else at[[0, -1]]
            axis.set_xticks(ends, [escape_math(labels[j]) for j in ends], fontsize="x-small")
            axis.tick_params(axis="y", labelsize="x-small")
            axis.yaxis.set_major_locator(pyplot().MaxNLocator(3))
        self.axes_.flat[0].legend(fontsize="x-small", frameon=False)
        return ax


def _shares(column, real, synthetic):
    """Return labels and, for each of the two parts, the share of its samples with each label."""
    if column.kind != "number":
        labels = [str(level) for level in column.categories]
        return labels, *(part.sum(axis=0) / max(1, len(part)) for part in map(_observed, (real, synthetic)))
    values = [_observed(part)[:, 0] for part in (real, synthetic)]
    edges = np.histogram_bin_edges(np.concatenate(values), bins=_INTERVALS)
    counts = [np.histogram(part, edges)[0] / max(1, len(part)) for part in values]
    return [f"{edge:.3g}" for edge in edges[:-1]], *counts
