"""Confidence intervals of means over the folds of a cross-validation."""

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    def text(self, spec, factor=1, unit=""):
        """Return the ends as text, in parentheses."""
        return f"(95 % interval {factor * self.low:{spec}} to {factor * self.high:{spec}}{unit})"


def corrected_interval(scores, level=0.95):
    """Return the interval of the mean of scores over folds, whose errors are correlated.

    Training sets of k folds share samples, so the variance of the mean is more than that of a fold over k. It is
    estimated by ``(1 / k + n_test / n_train) * var(scores)``, with ``n_test / n_train = 1 / (k - 1)``, as of Nadeau and
    Bengio, Inference for the Generalization Error, Machine Learning 52 (2003).

    Parameters
    ----------
    scores : ndarray of shape (k,)
        Scores, or differences of them.
    level : float, default=0.95

    Returns
    -------
    Interval
    """
    k, mean = len(scores), float(np.mean(scores))
    if k < 2:
        return Interval(mean, -np.inf, np.inf)
    deviation = np.sqrt((1 / k + 1 / (k - 1)) * np.var(scores, ddof=1))
    half = float(student.ppf((1 + level) / 2, k - 1) * deviation)
    return Interval(mean, mean - half, mean + half)
