"""Monotone map of a column to a normal distribution: piecewise linear from its quantiles to normal quantiles.

A map consists of two arrays. Its *knots*, of shape (2, n_knots), are values and their scores. Its *steps*, of shape (2,
n_steps), are scores and their values, for the inverse map, which is constant where a value is frequent.
"""

import numpy as np
from scipy.special import ndtri

# Most pieces of a map, and samples per piece.
_MOST_PIECES, _SAMPLES_A_PIECE = 32, 20
# A value is frequent if it has this share of the samples, and at least this many.
_FREQUENT_SHARE, _FREQUENT_SAMPLES = 0.02, 5
# Knots closer than this share of the range are merged.
_SAME = 1e-12
# Bounds on half of a range for which slopes of pieces are finite.
_LEAST_SPAN, _MOST_SPAN = 1e-280, np.finfo(np.float64).max / 2
# Tolerance for rounding of scores in float32: at a knot the slope is that of the piece on the right.
_ROUNDING = 1e-6


def can_be_divided(low, high):
    """Return whether slopes of pieces of this range are finite and positive."""
    return low == high or _LEAST_SPAN < high / 2 - low / 2 < _MOST_SPAN  # the halves cannot overflow


def fit_quantiles(x):
    """Fit knots and steps of a map to values (n_samples,), so that their scores have mean 0 and variance 1."""
    unique, counts = np.unique(x, return_counts=True)
    if len(unique) == 1:
        return np.array([unique, [0.0]]), np.array([[0.0], unique])
    through = counts.cumsum() / len(x)
    middle, before = through - counts / (2 * len(x)), through - counts / len(x)
    frequent = counts >= max(_FREQUENT_SAMPLES, _FREQUENT_SHARE * len(x))
    levels = np.linspace(0, 1, int(np.clip(len(x) // _SAMPLES_A_PIECE, 2, _MOST_PIECES)) + 1)[1:-1]
    at_levels = np.minimum(np.searchsorted(middle, levels), len(unique) - 1)
    kept = np.unique(np.concatenate([[0, len(unique) - 1], at_levels, np.flatnonzero(frequent)]))
    apart = np.diff(unique[kept], prepend=-np.inf) > _SAME * (unique[-1] - unique[0])
    kept = kept[apart] if apart.sum() > 1 else kept[[0, -1]]
    values, scores = unique[kept], ndtri(middle[kept])
    ends = np.where(frequent[kept], [ndtri(np.maximum(before[kept], 0)), ndtri(np.minimum(through[kept], 1))], scores)
    ends, back = ends.T.ravel(), np.repeat(values, 2)
    of_samples = to_scores(x, (values, scores))
    centre, unit = of_samples.mean(), of_samples.std()
    finite = np.isfinite(ends)
    steps = np.array([np.maximum.accumulate((ends[finite] - centre) / unit), back[finite]])
    return np.array([values, (scores - centre) / unit]), steps


def unit_of_constant(value):
    """Return the largest power of two that is at most |value|, so that division by it is exact; 1 for 0."""
    return float(np.ldexp(1.0, np.frexp(value)[1] - 1)) if value else 1.0


def to_scores(x, knots):
    """Return scores of values, nan where missing: linear between knots, and extrapolated linearly."""
    values, scores = knots
    if len(values) < 2:
        return x / unit_of_constant(values[0])
    piece = np.clip(np.searchsorted(values, x, side="right") - 1, 0, len(values) - 2)
    return scores[piece] + (np.diff(scores) / np.diff(values))[piece] * (x - values[piece])


def log_slope(scores, knots):
    """Return the log-slope of the map at these scores; 0 where missing."""
    x, y = knots
    if len(x) < 2:
        return np.zeros(scores.shape)
    piece = np.clip(np.searchsorted(y, scores + _ROUNDING, side="right") - 1, 0, len(y) - 2)
    return np.where(np.isnan(scores), 0, np.log(np.diff(y) / np.diff(x))[piece])
