"""What is predicted from codes: classes or values, by which model, and how predictions are scored."""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed

# Numeric targets with more distinct values are predicted by regression.
_MOST_CLASSES = 20
# Classes are skewed if one has this many times the samples of another: the accuracy of codes of no use is high then.
_SKEWED = 2


class Prediction(NamedTuple):
    """How the target was predicted.

    Attributes
    ----------
    label : str
        Name of the score.
    predictor : str
        Name of the model.
    baselines : dict of str to ndarray
        Scores over folds without any reduction, and of a constant prediction.
    """

    label: str = "accuracy"
    predictor: str = "logistic regression"
    baselines: dict = {}


class Target:
    """What is predicted from codes.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)

    Attributes
    ----------
    label, predictor : str
        Names of the score and of the model.
    constant : str
        Name of the constant prediction.
    """

    label, predictor, constant, scoring = "target R^2", "linear regression", "predicting the mean", "r2"
    model, dummy = LinearRegression(), DummyRegressor()

    def __init__(self, y):
        self.y = y

    def split(self, groups, cv):
        """Return folds, a list of (train, test), with each group in one test fold.

        Parameters
        ----------
        groups : ndarray of int of shape (n_samples,)
            Groups, numbered from 0.
        cv : int
        """
        return _grouped(KFold(cv, shuffle=True, random_state=0), None, groups)

    def baselines(self, samples, folds, n_jobs):
        """Return the scores over folds of predictions from all columns, and of constant ones, by name."""
        scores = Parallel(n_jobs=n_jobs)(
            delayed(self.score)(samples.numbers(train, test), train, test, is_dummy)
            for is_dummy in (False, True)
            for train, test in folds
        )
        return {"all columns": np.array(scores[: len(folds)]), self.constant: np.array(scores[len(folds) :])}

    def notes(self, cv):
        """Return sentences on the target."""
        return []

    def score(self, codes, train, test, is_dummy=False):
        """Return the score on test samples of a model fitted to the codes of training samples.

        Parameters
        ----------
        codes : pair of array-like
            Of training and of test samples.
        train, test : ndarray of int
            Indices of the samples.
        is_dummy : bool, default=False
            Whether to predict a constant.
        """
        scaler = StandardScaler(with_mean=not issparse(codes[0]))
        model = make_pipeline(scaler, clone(self.dummy if is_dummy else self.model))
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of rare classes, which notes are on
            return get_scorer(self.scoring)(model.fit(codes[0], self.y[train]), codes[1], self.y[test])


class Values(Target):
    """Numbers, which are predicted by linear regression."""


class Classes(Target):
    """Classes, which are predicted by logistic regression."""

    label, predictor, constant = "accuracy", "logistic regression", "predicting the commonest class"
    scoring, model, dummy = "accuracy", LogisticRegression(max_iter=1000), DummyClassifier()

    def split(self, groups, cv):
        """Return folds as `Target.split`, stratified where each class has a group for each of them."""
        if _counts(self.y).max() == 1:
            raise ValueError(
                f"y has {len(self.y)} classes of one sample each, such as {str(self.y[0])!r}, from which nothing can "
                "be learned. Pass other classes, or leave y out."
            )
        splitter = StratifiedKFold if _counts(self.y[_first(groups)]).min() >= cv else KFold
        folds = _grouped(splitter(cv, shuffle=True, random_state=0), self.y, groups)
        if any(len(np.unique(self.y[train])) < 2 for train, _ in folds):
            found = f"A training fold has one class of y only; classes and their counts: {_counted(self.y)}"
            raise ValueError(f"{found}. Leave y out, or merge classes.")
        return folds

    def notes(self, cv):
        fewer = f"Classes with fewer samples than the {cv} folds, so that some folds measure none of them"
        return [f"{fewer}: {rare}."] if (rare := _counted(self.y, cv)) else []


class SkewedClasses(Classes):
    """Classes of different sizes, scored by balanced accuracy."""

    label, scoring = "balanced accuracy", "balanced_accuracy"
    model = LogisticRegression(max_iter=1000, class_weight="balanced")


class SkewedPair(Classes):
    """Two classes of different sizes, scored by the area under the ROC curve."""

    label, constant, scoring = "ROC AUC", "chance", "roc_auc"


class NoTarget(Target):
    """Nothing to predict."""

    label = predictor = constant = None

    def baselines(self, samples, folds, n_jobs):
        return {}

    def score(self, codes, train, test, is_dummy=False):
        return None


def target_of(y, groups, cv):
    """Return the target and the folds.

    Parameters
    ----------
    y : array-like or None
    groups : ndarray of int of shape (n_samples,)
        Groups of samples that share a fold, numbered from 0.
    cv : int

    Returns
    -------
    target : Target
    folds : list of (train, test)
    """
    if (n_different := len(_first(groups))) == 1:
        raise ValueError("No column of X varies, so there is nothing to reduce.")
    if n_different < cv:
        raise ValueError(f"cv={cv} is more than the {n_different} samples of X that differ. Use fewer folds.")
    if y is not None:
        y = column_or_1d(y)
        check_consistent_length(groups, y)
    target = kind_of(y, groups, cv)(y)
    return target, target.split(groups, cv)


def _first(groups):
    """Return the index of the first sample of each group."""
    return np.unique(groups, return_index=True)[1]


def _grouped(splitter, y, groups):
    """Return the folds of a splitter of the first samples of groups, each with the other samples of its groups."""
    first = _first(groups)
    folds = splitter.split(first, None if y is None else y[first])
    return [tuple(np.flatnonzero(np.isin(groups, part)) for part in fold) for fold in folds]


def _counts(y):
    return np.unique(y, return_counts=True)[1]


def _counted(y, below=np.inf):
    """Return the first classes of fewer samples, with their counts, as text."""
    pairs = [f"{label!s} ({n})" for label, n in zip(np.unique(y), _counts(y), strict=True) if n < below]
    return ", ".join(pairs[:5]) + f" and {len(pairs) - 5} others" * (len(pairs) > 5)


def kind_of(y, groups, cv):
    """Return the class of targets that y is."""
    if y is None:
        return NoTarget
    is_numeric = np.issubdtype(y.dtype, np.number)
    if type_of_target(y).startswith("continuous") or (is_numeric and len(np.unique(y)) > _MOST_CLASSES):
        return Values
    counts = _counts(y)
    if counts.max() < _SKEWED * counts.min():
        return Classes
    has_both = len(counts) == 2 and len(grouped := _counts(y[_first(groups)])) == 2 and grouped.min() >= cv
    return SkewedPair if has_both else SkewedClasses  # in each test fold
