"""Evaluation of synthetic samples: do they pass for real ones, and do they repeat these?"""

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

from skae.data.dataframes import library_of, unmasked
from skae.data.parameters import check_integer
from skae.inspection.drawing import COLOURS, Display, axes_or_new, divide, escape_math, pyplot
from skae.inspection.samples import TableCode
from skae.inspection.targets import Values, kind_of

# Neighbours of a sample whose distance is the radius of its ball, and the most samples among which they are searched.
_NEIGHBOURS, _MOST_BALLS = 5, 2000
_FOLDS = 3
# Panels of a display in a row, their width and height in inches, intervals of numbers, and most labels that are shown.
_PANELS, _PANEL_SIZE, _INTERVALS, _MOST_NAMED = 4, (2.4, 1.9), 20, 4


@dataclass(frozen=True)
class SyntheticEvaluation:
    """How synthetic samples compare to real ones; made by `evaluate_synthetic`, and printed as a table.

    Parameters
    ----------
    c2st : float
        Classifier two-sample test: 2 - 2 AUC of a classifier that tells synthetic from real samples, at most 1. At 1 it
        cannot, at 0 it always can.
    classifier : str
        Name of that classifier.
    marginals : dict of column to float
        Distance of the distributions of each column, from 0 to 1: Kolmogorov and Smirnov's for numbers, total variation
        for categories.
    correlations : float
        Mean absolute difference of the correlations of pairs of columns.
    precision, recall : float
        Share of synthetic samples among real ones, and of real samples among synthetic ones: within the distance of a
        sample to its fifth neighbour (Kynkäänniemi et al. 2019, arXiv:1904.06991).
    copies, copies_of_holdout : float or None
        Share of synthetic samples that equal a sample of ``real``, and one of as many samples of ``holdout``.
    closer_to_real : float or None
        Share of synthetic samples that are nearer to ``real`` than to as many samples of ``holdout``: about 0.5 if the
        model does not repeat its training samples.
    trained_on_synthetic, trained_on_real : float or None
        Score on ``holdout`` of gradient boosting that was trained on synthetic and on real samples.
    score : str or None
        Name of that score: "ROC AUC", "accuracy", "balanced accuracy" or "target R^2".
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
    """Compare synthetic samples with real ones: do they pass for real, and do they repeat them?

    Parameters
    ----------
    real : array-like or DataFrame of shape (n_samples, n_features)
        The samples that the generator was fitted to.
    synthetic : array-like or DataFrame of shape (n_synthetic, n_features)
        Its samples, with the same columns.
    holdout : array-like or DataFrame of shape (n_holdout, n_features), default=None
        Real samples that the generator was not fitted to. Synthetic samples are then compared with these, so that
        repeating ``real`` is no merit. Needed for ``closer_to_real`` and for a target.
    target : column name or int, default=None
        The column that is predicted from the others by gradient boosting, trained on synthetic and on real samples.
    random_state : int, RandomState instance or None, default=0
        Source of subsets and folds.

    Returns
    -------
    SyntheticEvaluation
        Figures by name; ``print`` shows them as a table.

    Raises
    ------
    ValueError
        If the columns differ, or ``target`` is given without ``holdout``.

    Notes
    -----
    The classifier is XGBoost's with its defaults if it is installed, else `HistGradientBoostingClassifier`. It is
    cross-validated on three folds of as many real as synthetic samples. Distances are between standardised numbers and
    indicators of categories, divided by the square roots of their shares. Missing values are filled with means. For
    precision and recall, 2,000 samples at most are drawn.

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
    parts = {"real": real, "synthetic": synthetic} | ({} if holdout is None else {"holdout": holdout})
    _check_columns(parts)
    if target is not None and holdout is None:
        raise ValueError(f"target={target!r} needs holdout: real samples on which predictions are scored.")
    code = TableCode().fit(real)
    scaled = {name: code.scaled(X) for name, X in parts.items()}
    known = {name: part for name, part in scaled.items() if name != "synthetic"}
    figures = _resemblance(code, [*known.values()][-1], scaled["synthetic"], random_state)
    figures |= _repetition(known, scaled["synthetic"], random_state)
    if target is not None:
        figures |= _prediction(parts, target)
    return SyntheticEvaluation(**figures)


def _check_columns(parts):
    names = {name: _names(X) for name, X in parts.items()}
    for name, columns in names.items():
        if columns != names["real"]:
            raise ValueError(f"The columns of {name} are not those of real: {columns} and {names['real']}.")


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
    classifier, folds = _classifier(seed), StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    both, is_real = np.vstack([real, synthetic]), np.repeat([1, 0], n)
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


def _classifier(seed):
    if find_spec("xgboost") is None:
        return HistGradientBoostingClassifier(random_state=seed)
    from xgboost import XGBClassifier

    return XGBClassifier(random_state=seed)


def _marginals(code, real, synthetic):
    """Return the distance of the distributions of each column, by name."""
    distances = {}
    for column, place in zip(code.table_.columns, code.table_.places, strict=True):
        parts = real[:, place], synthetic[:, place]
        if column.kind == "number":
            values = [part[~np.isnan(part)] for part in parts]
            distances[column.name] = float(ks_2samp(*values).statistic) if all(map(len, values)) else 1.0
        else:  # scaled indicators
            shares = [np.nan_to_num(np.nanmean(part, axis=0)) * code.scale_[place] for part in parts]
            distances[column.name] = float(np.abs(shares[0] - shares[1]).sum() / 2)
    return distances


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
        raise ValueError(f"target={target!r} is no column of real. Its columns are {names}.")
    j, others = names.index(target), [k for k, name in enumerate(names) if name != target]
    y = {name: np.asarray(_safe_indexing(X, j, axis=1)) for name, X in parts.items()}
    X = {name: _safe_indexing(part, others, axis=1) for name, part in parts.items()}
    code, kind = TableCode().fit(X["real"]), kind_of(y["real"], np.arange(len(y["real"])), _FOLDS)
    booster = HistGradientBoostingRegressor if kind is Values else HistGradientBoostingClassifier
    scores = {}
    for name in ("synthetic", "real"):
        is_constant = kind is not Values and len(set(y[name])) == 1
        model = DummyClassifier() if is_constant else booster(random_state=0)
        model.fit(code.scaled(X[name]), y[name])
        scores[f"trained_on_{name}"] = float(get_scorer(kind.scoring)(model, code.scaled(X["holdout"]), y["holdout"]))
    return scores | {"score": kind.label}


class SyntheticDisplay(Display):
    """Distributions of columns in real and in synthetic samples, those that differ most.

    Made by `from_samples`.

    Parameters
    ----------
    shares : dict of column to tuple
        For each column its labels and the shares of real and of synthetic samples in each: intervals of numbers, or
        categories.
    distances : dict of column to float
        Distance of the two distributions, as `SyntheticEvaluation.marginals`.

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
            Axes to draw in, which are divided; None makes a new figure.

        Returns
        -------
        SyntheticDisplay
        """
        most_columns = check_integer("most_columns", most_columns, 1)
        _check_columns({"real": real, "synthetic": synthetic})
        code = TableCode().fit(real)
        distances = _marginals(code, code.scaled(real), code.scaled(synthetic))
        kept = sorted(distances, key=distances.get, reverse=True)[:most_columns]
        in_units = [code.table_.encode(unmasked(X)) for X in (real, synthetic)]
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
        return labels, *(np.nan_to_num(np.nanmean(part, axis=0)) for part in (real, synthetic))
    values = [part[~np.isnan(part)] for part in (real, synthetic)]
    edges = np.histogram_bin_edges(np.concatenate(values), bins=_INTERVALS)
    counts = [np.histogram(part, edges)[0] / max(1, len(part)) for part in values]
    return [f"{edge:.3g}" for edge in edges[:-1]], *counts
