"""Closed forms a net starts from: the frame that centres and scales rows, and PCA as a pair of linear maps.

NumPy and scikit-learn only: no torch.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.special import expit
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.utils import gen_batches

from skae._streaming import LazyRows, blocks

# How far data are shrunk inside their range before a link with infinite ends: 0 and 1 become +-2.9 under logit.
SHRINKAGE = 0.1
# What a column's mean count is raised by, so that one that no row has stays possible.
_LEAST_COUNT = 1e-4
# Codes are scaled to unit variance inside the net, but never by more than this against the leading one.
_SMALLEST_CODE = 1e-4
# The least noise variance of a start over the column's variance: of probabilistic PCA, which is exact down to rounding,
# and of factor analysis, whose noise on a column may otherwise vanish (a Heywood case) and its density with it.
_SMALLEST_NOISE = 1e-12
_SMALLEST_FACTOR_NOISE = 1e-6
# Rows at a time where rows are worked on one by one: bounds memory.
_BLOCK = 1024
# Numbers of such a block that are worked on several times over.
_CACHED = 2**17
# Columns up to which EM costs little beside training, and where it ends, in nats a row.
_MOST_FACTORED = 200
_TOLERANCE = 1e-6
# Of the normal model that fills gaps: the least noise variance over a column's; where its EM ends, in the mean change
# of their logarithms, its most rounds and entries; components, as many as the net's but within these.
_FILLED_NOISE = 1e-3
_FILLED_TOLERANCE, _MOST_ROUNDS, _MOST_NUMBERS = 1e-3, 200, 2**20
_FEWEST_FILLED, _MOST_FILLED = 10, 32
# Of one with more components, by its covariance: the most, unless the net has more, and entries, the least noise
# variance, what the prior of loadings weighs, and where its EM ends: root mean square changes of what gaps are filled
# with, mean changes of the logarithms of noise, rounds.
_MORE_FILLED, _MORE_NUMBERS = 20, 2**19
_CLOSER_NOISE, _PRIOR = 1e-5, 0.1
_CLOSER_TOLERANCE, _CLOSER_NOISE_TOLERANCE, _MOST_CLOSER_ROUNDS = 1e-3, 1e-2, 100
# Share of entries that are hidden to find out how well gaps are filled.
_HIDDEN = 0.05, 0.5
# Rows up to which factor analysis may be worse than probabilistic PCA on new rows, and how that is found out.
_FEW_ROWS = 1000
_FOLDS = 5
_ROUGH_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Frame:
    """From rows in X's units to the net's input, and from its output back.

    The net sees ``(link(x) - location) / scale``, with one scale for all columns, which keeps PCA's geometry, or with
    one for each. Columns that are constant in the training rows are zero on the way in and come back constant.

    Attributes
    ----------
    link : "identity", "logit", "log" or "share", or a tuple of these
        For all columns, or for each. "share" is the logarithm of counts over the sum of their row.
    mean : ndarray of shape (n_features,)
        Mean of the training rows, in X's units.
    location : ndarray of shape (n_features,)
        Mean of the linked training rows.
    scale : float or ndarray of shape (n_features,)
        Root mean square of the centred, linked entries, of all or of each column; 1 where all is constant. Of shares
        the inverse root of the column's mean share: its logarithm is known the better the larger it is.
    spread : ndarray of shape (n_features,)
        Standard deviation of each linked column, in units of ``scale``.
    constant : ndarray of bool of shape (n_features,)
    raw : bool, default=False
        Whether rows go as they are, both ways.
    """

    link: str | tuple
    mean: np.ndarray
    location: np.ndarray
    scale: float | np.ndarray
    spread: np.ndarray
    constant: np.ndarray
    raw: bool = False

    def to_net(self, X):
        """Standardised rows, in X's dtype; a new array, or X itself if that will do."""
        if self.raw:
            return np.require(X, requirements=("C", "W"))
        linked = self._linked(X)
        centred = np.subtract(linked, self.location, dtype=X.dtype, order="C")  # batches are of rows
        centred /= np.asarray(self.scale, dtype=X.dtype)
        centred[:, self.constant] = 0
        return centred

    def from_net(self, mean):
        """Rows in X's units from the net's output after the inverse link; a new array or ``mean`` changed."""
        if self.raw:
            return mean
        if self.link == "identity":  # else the output is on the link's own scale
            mean *= np.asarray(self.scale, dtype=mean.dtype)
            mean += self.location.astype(mean.dtype)
        if self.link != "share":  # where a column may be constant and its share not
            mean[:, self.constant] = self.mean[self.constant].astype(mean.dtype)
        return mean

    def _linked(self, X):
        if isinstance(self.link, tuple):
            linked, links = X.copy(), np.array(self.link)
            for link in ("logit", "log"):
                columns = links == link
                of_these = replace(self, link=link, mean=self.mean[columns], constant=self.constant[columns])
                linked[:, columns] = of_these._linked(X[:, columns])
            return linked
        if self.link == "logit":
            shrunk = SHRINKAGE / 2 + (1 - SHRINKAGE) * X
            return np.log(shrunk / (1 - shrunk))
        if self.link == "log":
            floor = np.where(self.constant, 1, SHRINKAGE * self.mean).astype(X.dtype)
            return np.log((1 - SHRINKAGE) * X + floor)
        if self.link == "share":
            shares = self.shares.astype(X.dtype)
            missing = np.isnan(X)
            total = np.nansum(X, axis=1, keepdims=True)
            there = np.where(missing, 0, shares).sum(axis=1, keepdims=True)  # the share of what is not missing
            of_row = np.where(total > 0, there * X / np.where(total > 0, total, 1), shares)
            of_row[missing] = np.nan
            return np.log((1 - SHRINKAGE) * of_row + SHRINKAGE * shares)
        return X

    @property
    def shares(self):
        """Each column's share of all counts, none quite zero."""
        smoothed = self.mean + _LEAST_COUNT
        return smoothed / smoothed.sum()

    @property
    def centre(self):
        """Where the decoder's output starts, on the link's scale: of shares the logarithm of the mean share."""
        return np.log(self.shares) if self.link == "share" else self.location


def raw_frame(X, with_spread=True):
    """The frame that changes nothing, for nets that take rows as they are; ``spread`` costs a pass over the rows."""
    n_features = X.shape[1]
    if with_spread:
        mean, deviation, _ = _moments(X)
    else:
        first, n_observed = _first_observed(X)
        mean, deviation = first + _shift(X, first, n_observed)[0], np.full(n_features, np.nan)
    return Frame(
        link="identity",
        mean=mean,
        location=np.zeros(n_features),
        scale=1.0,
        spread=deviation,
        constant=np.zeros(n_features, dtype=bool),
        raw=True,
    )


def fit_frame(X, link, per_column=False):
    """The frame that centres and scales these rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    link : "identity", "logit", "log" or "share", or a tuple of these
    per_column : bool, default=False
        Whether each column gets a scale of its own.

    Returns
    -------
    Frame
    """
    mean, deviation, constant = _moments(X)
    frame = Frame(link, mean, mean, 1.0, deviation, constant)
    if link != "identity":
        location, deviation, _ = _moments(X, frame._linked)
        deviation[constant] = 0
        frame = replace(frame, location=location)
    if link == "share":
        scale = 1 / np.sqrt(len(mean) * frame.shares)
        return replace(frame, scale=np.where(constant, 1.0, scale), spread=np.where(constant, 0.0, deviation / scale))
    if per_column:
        return replace(frame, scale=np.where(constant, 1.0, deviation), spread=np.where(constant, 0.0, 1.0))
    if constant.all():
        return frame
    largest = deviation.max()
    scale = float(largest * np.sqrt(np.square(deviation[~constant] / largest).mean()))
    return replace(frame, scale=scale, spread=deviation / scale)


def _moments(X, function=None):
    """Mean, standard deviation and constancy of each column of what a function makes of rows, in float64.

    Rows are shifted by the first one before they are summed, so that an offset of 1e9 costs no digits, and scaled by
    the largest entry left, so that squares neither overflow nor vanish. A few at a time: copies stay in the cache.
    Entries that are missing count for nothing.
    """
    first, n_observed = _first_observed(X)
    first = first if function is None else function(first[None])[0]
    shift, peaks = _shift(X, first, n_observed, function)
    peak, squares = max(peaks.max(), np.finfo(np.float64).tiny), np.zeros(X.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by name, later
        for shifted in _shifted(X, first, shift, n_observed, function):
            shifted /= peak
            squares += np.einsum("ij,ij->j", shifted, shifted)
    constant = peaks == 0
    return first + shift, np.where(constant, 0, peak * np.sqrt(squares / n_observed)), constant


def has_gaps(X):
    """Whether any entry is nan: missing."""
    if isinstance(X, LazyRows):
        return X.has_gaps
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isnan(X.sum())) and bool(np.isnan(X).any())


def _first_observed(X):
    """Of each column the first entry that is not missing, and how many are not."""
    if not has_gaps(X):
        return X[0], np.full(X.shape[1], len(X))
    first, n_observed = np.full(X.shape[1], np.nan, dtype=X.dtype), 0
    for rows in blocks(X):
        block = X[rows]
        observed = ~np.isnan(block)
        found = block[observed.argmax(axis=0), np.arange(X.shape[1])]
        first, n_observed = np.where(np.isnan(first), found, first), n_observed + observed.sum(axis=0)
    return first, n_observed


def _shifted(X, first, shift, n_observed, function):
    """Blocks of rows less ``first`` and ``shift``, in float64, with zeros in gaps."""
    for rows in gen_batches(len(X), max(1, _CACHED // X.shape[1])):
        shifted = np.subtract(X[rows] if function is None else function(X[rows]), first, dtype=np.float64)
        shifted -= shift
        if n_observed.min() < len(X):
            shifted[np.isnan(shifted)] = 0
        yield shifted


def _shift(X, first, n_observed, function=None):
    """Of rows less the first, the mean and the largest size of each column."""
    total, peaks = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for shifted in _shifted(X, first, 0.0, n_observed, function):
            total += shifted.sum(axis=0)
            np.maximum(peaks, np.abs(shifted, out=shifted).max(axis=0), out=peaks)
    return total / n_observed, peaks


class LinearStart(NamedTuple):
    """An encoder ``z = encoder @ x`` and a decoder ``x = decoder @ z`` on standardised rows.

    ``encoder`` (n_components, n_features), ``decoder`` (n_features, n_components); the codes have unit variance, and
    ``code_scale`` (n_components,) brings them back to the standardised rows' units. ``residual`` (n_features,) is the
    root mean square of what it leaves of each column, ``code_range`` (2, n_components) the least and largest codes.
    """

    encoder: np.ndarray
    decoder: np.ndarray
    code_scale: np.ndarray
    residual: np.ndarray
    code_range: np.ndarray

    def normal(self, spread):
        """What fills gaps of rows of this spread a column."""
        noise = np.maximum(np.square(self.residual), _FILLED_NOISE * np.square(spread))
        return Normal(np.zeros(len(noise)), self.decoder, np.where(spread > 0, noise, 1.0))


def pca_start(X, n_components, random_state):
    """PCA of standardised rows, its codes scaled to unit variance.

    Components beyond the number that rows and columns allow (an over-complete code) get random encoder rows and zero
    decoder columns: they change no reconstruction until training makes use of them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Centred rows.
    n_components : int
    random_state : RandomState

    Returns
    -------
    LinearStart
    """
    rank = min(n_components, *X.shape)
    with np.errstate(invalid="ignore"):  # shares of a variance that is zero
        pca = PCA(rank, svd_solver=_solver(*X.shape, rank), random_state=random_state).fit(X)
    deviation = np.sqrt(pca.explained_variance_).astype(np.float64)
    deviation = np.maximum(deviation, _SMALLEST_CODE * deviation[0])
    if deviation[0] == 0:
        deviation[:] = 1

    n_extra = n_components - rank
    extra = random_state.normal(size=(n_extra, X.shape[1])) / np.sqrt(X.shape[1])
    encoder = np.vstack([pca.components_ / deviation[:, None], extra])
    codes = X @ encoder.T.astype(X.dtype)
    return LinearStart(
        encoder=encoder,
        decoder=np.hstack([pca.components_.T * deviation, np.zeros((X.shape[1], n_extra))]),
        code_scale=np.concatenate([deviation, np.ones(n_extra)]),
        residual=_residual(X, pca.components_),
        code_range=np.stack([codes.min(axis=0), codes.max(axis=0)]),
    )


def leading(start, X, n_components):
    """PCA's start on rows X, cut to its first components."""
    directions = (start.decoder / start.code_scale)[:, :n_components].T.astype(X.dtype)
    return LinearStart(
        encoder=start.encoder[:n_components],
        decoder=start.decoder[:, :n_components],
        code_scale=start.code_scale[:n_components],
        residual=_residual(X, directions),
        code_range=start.code_range[:, :n_components],
    )


def n_components_for(X, share):
    """The fewest principal components that explain more than this share of the variance of centred rows."""
    pca = PCA(svd_solver=_solver(*X.shape, min(X.shape)))
    with np.errstate(invalid="ignore"):
        explained = np.cumsum(pca.fit(X).explained_variance_ratio_)
    return min(int(np.searchsorted(explained, share, side="right")) + 1, len(explained))


def _residual(X, directions):
    """Root mean square, a column, of what rows have outside of these orthonormal directions."""
    total = np.zeros(X.shape[1])
    for rows in gen_batches(len(X), _BLOCK):
        rest = X[rows] - X[rows] @ directions.T @ directions
        total += np.einsum("ij,ij->j", rest, rest, dtype=np.float64)
    return np.sqrt(total / len(X))


class LinearGaussian(NamedTuple):
    """x = loadings @ z + noise, z standard normal: factor analysis, or probabilistic PCA where all noise is one.

    ``loadings`` (n_features, n_components), ``noise`` (n_features,) variances. The loadings are rotated so that
    loadings' diag(1 / noise) loadings is diagonal, and with it the posterior's covariance.
    """

    loadings: np.ndarray
    noise: np.ndarray

    def normal(self):
        """What fills gaps of standardised rows."""
        return Normal(np.zeros(len(self.noise)), self.loadings, np.maximum(self.noise, _FILLED_NOISE))

    def leading(self, n_components, rank):
        """Of probabilistic PCA of rows of this rank, that of the first components.

        What the others explain is shared out among the directions that are left: the maximum of the likelihood, as for
        any number of components.
        """
        signal = np.square(self.loadings / np.sqrt(self.noise)[:, None]).sum(axis=0)  # over noise, of each
        leading = LinearGaussian(self.loadings[:, :n_components], self.noise)
        return leading.noisier(1 + signal[n_components:].sum() / max(1, rank - n_components))

    def noisier(self, factor):
        """The noise times a factor; a component loses, of its variance, what the noise gains."""
        signal = np.square(self.loadings / np.sqrt(self.noise)[:, None]).sum(axis=0)
        kept = np.sqrt(np.maximum(signal - (factor - 1), 0) / np.where(signal > 0, signal, 1))
        return LinearGaussian(self.loadings * kept, self.noise * factor)

    def posterior(self):
        """The matrix of the posterior mean (n_components, n_features) and the posterior variances (n_components,)."""
        weighted = self.loadings / self.noise[:, None]
        variance = 1 / (1 + np.einsum("jk,jk->k", self.loadings, weighted))
        return variance[:, None] * weighted.T, variance

    def nearer_to_prior(self, larger):
        """Of the posterior of the `leading` components of a larger model: the ratio of means, what log-variances gain.

        The mean of z is w' x / noise times the variance, w a column of the loadings; columns and noise are those of the
        larger model times a number. A component without loadings stays as it is.
        """
        (_, variance), (_, variance_before) = self.posterior(), larger.posterior()
        n = self.loadings.shape[1]
        before = np.square(larger.loadings[:, :n]).sum(axis=0)
        ratio = np.sqrt(np.square(self.loadings).sum(axis=0) / np.where(before > 0, before, 1))
        ratio *= (larger.noise[0] / self.noise[0]) * variance / variance_before[:n]
        return np.where(before > 0, ratio, 1), np.log(variance / variance_before[:n])

    def log_density(self, X):
        """Log-density of rows, in nats: that of the noise left at the posterior mean, and of that mean."""
        matrix, variance = self.posterior()
        codes = X @ matrix.T
        rest = np.square(X - codes @ self.loadings.T) / self.noise + np.log(2 * np.pi * self.noise)
        return -0.5 * (rest.sum(axis=1) + np.square(codes).sum(axis=1) - np.log(variance).sum())


class Normal(NamedTuple):
    """x = location + loadings @ z + noise, z standard normal: what gaps of rows are filled by.

    ``location`` (n_features,), ``loadings`` (n_features, n_components), ``noise`` (n_features,) variances.
    """

    location: np.ndarray
    loadings: np.ndarray
    noise: np.ndarray

    def leading(self, n_components):
        """The first components; what further ones explain is noise then."""
        kept, rest = np.split(self.loadings, [n_components], axis=1)
        return Normal(self.location, kept, self.noise + np.square(rest).sum(axis=1))

    def codes(self, X):
        """Mean (n, n_components) and covariance of z, given the entries of rows that are not missing."""
        observed, n_components = ~np.isnan(X), self.loadings.shape[1]
        weighted = self.loadings / self.noise[:, None]
        products = np.einsum("jk,jl->jkl", weighted, self.loadings).reshape(len(self.noise), -1)
        precision = np.eye(n_components) + (observed @ products).reshape(len(X), n_components, n_components)
        covariance = np.linalg.inv(precision)
        return np.einsum("ikl,il->ik", covariance, np.where(observed, X - self.location, 0) @ weighted), covariance

    def expected(self, X):
        """Rows whose gaps are filled by what is expected there."""
        return np.where(np.isnan(X), self.location + self.codes(X)[0] @ self.loadings.T, X)

    def draw(self, X, random_state):
        """Rows whose gaps are filled by a draw, so that columns vary as they do where they are observed.

        What is drawn stays in the range of what is observed.
        """
        filled, low, high = X.copy(), np.nanmin(X, axis=0), np.nanmax(X, axis=0)
        for rows in gen_batches(len(X), _BLOCK):
            mean, covariance = self.codes(X[rows])
            noise = random_state.normal(size=mean.shape)
            z = mean + np.einsum("ikl,il->ik", np.linalg.cholesky(covariance), noise)
            noise = random_state.normal(size=X[rows].shape) * np.sqrt(self.noise)
            drawn = np.clip(self.location + z @ self.loadings.T + noise, low, high)
            filled[rows] = np.where(np.isnan(X[rows]), drawn, X[rows])
        return filled


def no_normal(frame):
    """What fills gaps with the mean."""
    n_features = len(frame.mean)
    return Normal(frame.mean if frame.raw else np.zeros(n_features), np.zeros((n_features, 1)), np.ones(n_features))


def normal_of(X, n_components, random_state):
    """Probabilistic PCA of rows without gaps, as what fills those of others; with their means if 0 components."""
    location = X.mean(axis=0, dtype=np.float64)
    if not n_components:
        return Normal(location, np.zeros((len(location), 1)), np.ones(len(location)))
    model = probabilistic_pca_start(X - location, np.ones(len(location)), n_components, random_state)
    return model.normal()._replace(location=location)


def n_filling(n_components, n_features):
    """The most components of the normal model that fills gaps beside a net of so many."""
    return max(1, min(max(n_components, _MORE_FILLED), n_features - 1, _MOST_FILLED))


def hide(X, random_state):
    """Which entries to hide, to find out how well gaps are filled: as large a share as is missing, within bounds."""
    gaps = np.isnan(X)
    hidden = ~gaps & (random_state.uniform(size=X.shape) < np.clip(gaps.mean(), *_HIDDEN))
    return hidden & ~(hidden | gaps).all(axis=0)


def observed_normal(X, n_components, random_state):
    """The normal model of rows with gaps, with few components or, if that fills hidden entries better, with more.

    Rows of at most 2^20 numbers, drawn at random, are asked; for more components, and which, the first of 2^19.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows, nan where missing.
    n_components : int
        Of the net that gaps are filled for.
    random_state : RandomState

    Returns
    -------
    Normal
    """
    n_features, more = X.shape[1], n_filling(n_components, X.shape[1])
    few = min(more, max(n_components, _FEWEST_FILLED))
    most = _MOST_NUMBERS // max(n_features, (few + 1) ** 2)
    X = _all_told(X[random_state.permutation(len(X))[: max(1, most)]])
    centre, unit, _ = _moments(X)
    unit = np.where(unit > 0, unit, 1)
    X = (X - centre) / unit
    fit = fit_few = partial(_normal_by_codes, n_components=few)
    if n_features <= _MOST_FACTORED:
        fit_more = partial(_normal_by_covariance, n_components=more)
        asked = _all_told(X[: max(1, _MORE_NUMBERS // (more + 1) ** 2)].copy())
        hidden = hide(asked, random_state)
        seen = np.where(hidden, np.nan, asked)
        errors = [np.square((each(seen).expected(seen) - asked)[hidden]).sum() for each in (fit_few, fit_more)]
        if errors[1] < errors[0]:
            fit, X = fit_more, asked
    model = fit(X)
    return Normal(centre + model.location * unit, model.loadings * unit[:, None], model.noise * unit**2)


def _all_told(rows):
    """These rows, with a value in columns of which they tell nothing."""
    rows[0, np.isnan(rows).all(axis=0)] = 0
    return rows


def _normal_by_codes(X, n_components):
    r"""By EM over codes, in time linear in columns (Rubin and Thayer 1982; Ilin and Raiko 2010).

    Each component's loadings have a normal prior of their own size (Bishop 1999, "Bayesian PCA"): those that few
    entries speak for vanish.
    """
    n_features, observed = X.shape[1], ~np.isnan(X)
    entries, n_observed = np.where(observed, X, 0), observed.sum(axis=0)
    _, lengths, directions = np.linalg.svd(entries, full_matrices=False)
    n_components = min(n_components, len(lengths))
    loadings = directions[:n_components].T * lengths[:n_components] / np.sqrt(len(X))
    model = Normal(np.zeros(n_features), loadings, np.maximum(1 - np.square(loadings).sum(axis=1), 0.05))
    prior = np.zeros(n_components)
    for _ in range(_MOST_ROUNDS):
        # The moments of (z, 1) in each row, and what a regression of each column on these needs.
        mean, covariance = model.codes(X)
        z = np.hstack([mean, np.ones((len(X), 1))])
        moments = np.einsum("ik,il->ikl", z, z)
        moments[:, :n_components, :n_components] += covariance
        gram = (observed.T @ moments.reshape(len(X), -1)).reshape(n_features, n_components + 1, n_components + 1)
        product = entries.T @ z
        ridge = np.diag(np.append(prior, 0)) * model.noise[:, None, None]
        weights = np.linalg.solve(gram + ridge + 1e-9 * np.eye(n_components + 1), product[:, :, None])[:, :, 0]
        rest = np.square(entries).sum(axis=0) - 2 * np.einsum("jk,jk->j", weights, product)
        rest += np.einsum("jk,jkl,jl->j", weights, gram, weights)
        noise = np.maximum(rest / n_observed, _FILLED_NOISE)
        # Codes are to have variance one (parameter-expanded EM, Liu et al. 1998).
        loadings = weights[:, :n_components] @ np.linalg.cholesky(moments[:, :-1, :-1].mean(axis=0))
        prior = n_features / np.maximum(np.square(loadings).sum(axis=0), 1e-8)
        settled = np.abs(np.log(noise / model.noise)).mean() < _FILLED_TOLERANCE
        model = Normal(weights[:, n_components], loadings, noise)
        if settled:
            break
    return model


def _normal_by_covariance(X, n_components):
    """By EM over what is missing, which is quick where columns nearly repeat each other; slow if there are many.

    Of the covariance that rows are expected to have, two steps of maximum likelihood factor analysis are taken: the
    loadings, given the noise, and the noise, given these.
    """
    observed = ~np.isnan(X)
    missing, n_rows = ~observed, len(X)
    n_missing, weight = missing.sum(axis=0), _PRIOR * X.shape[1] / (observed.mean() * n_rows)
    model = Normal(np.zeros(X.shape[1]), np.zeros((X.shape[1], 1)), np.full(X.shape[1], 0.5))
    filled, noise = np.inf, np.ones(X.shape[1])
    for _ in range(_MOST_CLOSER_ROUNDS):
        before, (mean, spread) = filled, model.codes(X)
        filled = np.where(observed, X, model.location + mean @ model.loadings.T)
        moved, changed = np.square(filled - before).sum(), np.abs(np.log(model.noise / noise)).mean()
        if moved <= _CLOSER_TOLERANCE**2 * n_missing.sum() and changed < _CLOSER_NOISE_TOLERANCE:
            break
        location = filled.mean(axis=0)
        factor = (model.loadings @ np.linalg.cholesky(spread) * missing[:, :, None]).transpose(1, 0, 2)
        factor = np.hstack([(filled - location).T, factor.reshape(len(model.noise), -1)])
        covariance = (factor @ factor.T + np.diag(n_missing * model.noise)) / n_rows
        noise = of_two = model.noise
        for _ in range(2):
            loadings, of_two = _factors(covariance, of_two, n_components, weight)
        model = Normal(location, loadings, of_two)
    return model


def _factors(covariance, noise, n_components, weight):
    r"""The likeliest loadings of factor analysis, given the noise, and then the likeliest noise.

    In units of the noise a component of squared length u is along an eigenvector of the covariance, of value v. A
    normal prior of its own size on each costs w log u, w being ``weight``. The minimum of

    .. math:: \log(1 + u) + v / (1 + u) + w \log u

    beside that at 0 is a root of a quadratic equation; where there is none, the component vanishes.
    """
    n_features = len(noise)
    unit = np.sqrt(noise)
    values, vectors = eigh(
        covariance / np.outer(unit, unit), subset_by_index=[max(0, n_features - n_components), n_features - 1]
    )
    half = (values - 1) / 2 - weight
    root = half**2 - (1 + weight) * weight
    kept = (half > 0) & (root > 0)
    length = (half + np.sqrt(np.where(kept, root, 0)))[kept] / (1 + weight)
    loadings = vectors[:, kept] * np.sqrt(length) * unit[:, None]
    if not kept.any():
        return np.zeros((n_features, 1)), np.maximum(np.diag(covariance), _CLOSER_NOISE)
    to_codes = loadings / noise[:, None] / (1 + length)
    product = covariance @ to_codes
    moments = np.diag(1 / (1 + length)) + to_codes.T @ product
    rest = np.diag(covariance) - 2 * np.einsum("jk,jk->j", loadings, product)
    rest += np.einsum("jk,kl,jl->j", loadings, moments, loadings)
    return loadings, np.maximum(rest, _CLOSER_NOISE)


def probabilistic_pca_start(X, scale, n_components, random_state):
    """Probabilistic PCA (Tipping and Bishop 1999) of ``X * scale``, told in the units of X.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Centred rows.
    scale : ndarray of shape (n_features,)
        Units in which all columns have the same noise.
    n_components : int
    random_state : RandomState

    Returns
    -------
    LinearGaussian
    """
    varying = X.any(axis=0)
    rows, unit = X[:, varying], scale[varying] / scale[varying].max(initial=1e-300)
    if not varying.any():
        return _embed(np.zeros((0, 0)), np.ones(0), varying, n_components)
    rank = min(n_components, *rows.shape)
    with np.errstate(invalid="ignore"):
        pca = PCA(rank, svd_solver=_solver(*rows.shape, rank), random_state=random_state).fit(
            rows * unit.astype(X.dtype)
        )
    noise = float(pca.noise_variance_)
    lengths = np.sqrt(np.maximum(pca.explained_variance_ - noise, 0))
    loadings = pca.components_.T * lengths / unit[:, None]
    return _embed(loadings, np.maximum(noise / unit**2, _SMALLEST_NOISE), varying, n_components)


def ordered_start(X, n_components, least_noise, random_state):
    """Probabilistic PCA of standardised rows that leaves each column some noise.

    Components beyond those that leave a direction to noise get no loadings, and noise is at least ``least_noise``:
    sizes that are cut from it would else have to do with what is right for a model that explains all.
    """
    most = min(rank_of(X), len(X) - 1) - 1
    model = probabilistic_pca_start(X, np.ones(X.shape[1]), max(1, min(n_components, most)), random_state)
    varying = X.any(axis=0)
    if varying.any():
        model = model.noisier(max(1.0, least_noise / model.noise[varying][0]))
    n_missing = n_components - model.loadings.shape[1]
    return LinearGaussian(np.pad(model.loadings, ((0, 0), (0, n_missing))), model.noise)


def rank_of(X):
    """Directions that PCA counts in these rows."""
    return min(len(X), np.count_nonzero(X.any(axis=0)))


def factor_analysis_start(X, scale, n_components, random_state):
    """Factor analysis by scikit-learn's EM, run to convergence; probabilistic PCA where that is no choice.

    EM would take long on many columns, and with no more rows than columns it learns rows by heart.

    EM sees rows through their covariance only, so it is given the 2 n_features rows that have it; and it climbs to a
    local optimum, so it starts twice, from one noise variance in units of X and from one in units of ``X * scale``.

    Parameters
    ----------
    X, scale, n_components, random_state
        As for `probabilistic_pca_start`; the columns of X have variance 1, or 0.

    Returns
    -------
    LinearGaussian
    """
    if not _can_be_factored(X):
        return probabilistic_pca_start(X, scale, n_components, random_state)
    return _factor_analysis(X, (np.ones(X.shape[1]), 1 / scale**2), n_components, _TOLERANCE)


def _can_be_factored(X):
    return 0 < int(X.any(axis=0).sum()) <= min(_MOST_FACTORED, len(X) - 1)


def _factor_analysis(X, noises, n_components, tolerance):
    """The likeliest of the fits that start at these noise variances; ``tolerance`` in nats a row."""
    varying = X.any(axis=0)
    rows = _same_covariance(X[:, varying].astype(np.float64))
    fits = []
    for noise in noises:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a start need not be the end
            fits.append(
                FactorAnalysis(
                    min(n_components, rows.shape[1]),
                    svd_method="lapack",
                    noise_variance_init=np.maximum(noise[varying], _SMALLEST_FACTOR_NOISE),
                    tol=tolerance * len(rows),
                ).fit(rows)
            )
    best = max(fits, key=lambda fit: fit.loglike_[-1])
    return _embed(best.components_.T, np.maximum(best.noise_variance_, _SMALLEST_FACTOR_NOISE), varying, n_components)


def likelier_start(X, scale, n_components, random_state):
    """Factor analysis, or probabilistic PCA if that describes rows left out better.

    Factor analysis has a noise variance more for each column, and learns these by heart from few rows. The two are
    compared by five-fold cross-validation, on tables of at most 1,000 rows; each row left out has one vote, divided
    between them by their densities, so that no single row decides.

    Parameters
    ----------
    X, scale, n_components, random_state
        As for `factor_analysis_start`.

    Returns
    -------
    LinearGaussian
    """
    fewest = len(X) - -(-len(X) // _FOLDS)  # rows that a fold learns from
    if _FOLDS <= len(X) <= _FEW_ROWS and n_components + 1 < fewest and _can_be_factored(X):
        votes = []
        for train, test in KFold(_FOLDS, shuffle=True, random_state=random_state).split(X):
            mean = X[train].mean(axis=0)
            rows, left_out = X[train] - mean, X[test] - mean
            rows[:, np.ptp(X[train], axis=0) == 0] = 0
            if not rows.any():  # all that vary are left out
                continue
            factors = _factor_analysis(rows, [np.ones(X.shape[1])], n_components, _ROUGH_TOLERANCE)
            pca = probabilistic_pca_start(rows, scale, n_components, random_state)
            votes.append(expit(factors.log_density(left_out) - pca.log_density(left_out)))
        if np.concatenate(votes).mean() < 0.5:
            return probabilistic_pca_start(X, scale, n_components, random_state)
    return factor_analysis_start(X, scale, n_components, random_state)


def _same_covariance(X):
    """At most 2 n_features rows with the mean, zero, and the covariance of the centred rows X."""
    n_samples, n_features = X.shape
    if n_samples <= 2 * n_features:
        return X
    values, vectors = np.linalg.eigh(X.T @ X / n_samples)
    half = (vectors * np.sqrt(np.maximum(values, 0) * n_features)).T
    return np.vstack([half, -half])


def _embed(loadings, noise, varying, n_components):
    """A model of the varying columns as one of all, with a diagonal posterior, its strongest component first.

    Columns that do not vary get no loadings and a noise of 1; components beyond those of the model get no loadings.
    """
    _, _, rotation = np.linalg.svd(loadings / np.sqrt(noise)[:, None], full_matrices=False)
    rotated = loadings @ rotation.T
    if rotated.size:
        rotated *= np.sign(rotated[np.abs(rotated).argmax(axis=0), np.arange(rotated.shape[1])])
    whole = LinearGaussian(np.zeros((len(varying), n_components)), np.ones(len(varying)))
    whole.loadings[varying, : rotated.shape[1]] = rotated
    whole.noise[varying] = noise
    return whole


def _solver(n_samples, n_features, n_components):
    """An exact solver wherever one takes seconds at most; PCA's own choice is a random one much earlier."""
    cost = n_samples * n_features * min(n_samples, n_features)
    if cost <= 1e9:
        return "full"
    if n_features <= min(n_samples, 2000):
        return "covariance_eigh"
    few = 5 * n_components < min(n_samples, n_features)  # else the random one is neither quicker nor near
    return "randomized" if cost > 5e9 and few else "full"
