"""Samples of a comparison: arrays, or tables with columns of different kinds; both may have missing values.

Estimators that take such samples get them as they are. For others missing values are filled with means, and columns of
a table are encoded as numbers.
"""

from itertools import pairwise

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.sparsefuncs import min_max_axis

from skae._autoencoder import AutoencoderTransformer
from skae._vae import VAEGenerator
from skae.data.checks import FLOATS, listed
from skae.data.columns import kinds_in_own_units
from skae.data.dataframes import library_of, unmasked
from skae.data.statistics import column_moments, observed_columns
from skae.data.tables import OneHotTable
from skae.inspection.loadings import loadings_by_name
from skae.inspection.metrics import numeric_array, observed_values, squared_error

# Test samples over which loadings are averaged, at most.
_N_LOADED = 200


class SquaredErrors(dict):
    """Squared errors, by which numbers are measured, as losses of the integers of X, which "auto" may take for counts.

    Printed it is Python that makes it of X, a DataFrame of pandas.
    """

    def __repr__(self):
        return 'dict.fromkeys(X.select_dtypes("integer"), "squared_error")'


def samples_of(X):
    """Return the samples of an array or a sparse matrix, or of a DataFrame."""
    X, library = unmasked(X), library_of(X)
    families = {library.describe(column).family for column in library.not_numeric(X)}
    return TableSamples(X) if families - {"boolean"} else ArraySamples(X)


class MeanFiller(SimpleImputer):
    """Imputer of means whose inverse leaves samples as they are."""

    def inverse_transform(self, X):
        return X


class ArraySamples:
    """Numeric samples.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)

    Attributes
    ----------
    names : list or None
        Names of the columns.
    index : ndarray
        Names of the samples, or their numbers, from 0.
    unit : str
        Unit of errors.
    has_missing : bool
    constant : list of int
        Columns left out.
    n_samples, n_features : int
    notes : list of str
        Columns left out, the unit of errors where it is not that of X, and what estimators get that do not take such
        samples.
    """

    unit = "in units of X squared"

    def __init__(self, X):
        names = list(library_of(X).names(X)) if library_of(X).name else None
        self.index = np.asarray(X.index) if hasattr(X, "index") and hasattr(X, "columns") else np.arange(np.shape(X)[0])
        options = {"dtype": FLOATS, "accept_sparse": "csr", "ensure_min_samples": 2, "ensure_all_finite": "allow-nan"}
        self.X, self.names, self.constant = numeric_array(X, "The models compared take numbers", **options), names, []
        values = self.X.data if issparse(self.X) else self.X
        if np.abs(values).max(initial=0, where=~np.isnan(values)) > np.sqrt(np.finfo(values.dtype).max) / 1e4:
            raise ValueError("X has values that are too large to be squared. Scale or correct them.")
        self.has_missing = bool(np.isnan(values).any())
        self.n_samples, self.n_features = self.X.shape
        note = "Estimators that take no missing values get means in their place."
        self.notes = [note] if self.has_missing else []

    def groups(self):
        """Return a number for each sample, from 0; samples with equal values have the same."""
        seen = {}
        return np.array([seen.setdefault(key, len(seen)) for key in self._keys()])

    def _keys(self):
        """Return the values of each sample as something hashable."""
        X = self.X + 0  # without negative zeros
        if not issparse(X):
            return (row.tobytes() for row in X)
        X.sum_duplicates()
        X.eliminate_zeros()
        return ((X.indices[i:j].tobytes(), X.data[i:j].tobytes()) for i, j in pairwise(X.indptr))

    def take(self, index):
        return self.X[index]

    def keep_varying(self, folds):
        """Leave out columns that are constant in the training samples of a fold."""
        varying = np.all([_varies(self.take(train)) for train, _ in folds], axis=0)
        if not varying.any():
            raise ValueError("No column of X varies in every training fold, so there is nothing to reduce.")
        self.constant, self.n_features = np.flatnonzero(~varying).tolist(), int(varying.sum())
        if self.constant:
            names = [self.names[j] for j in self.constant] if self.names else self.constant
            which = listed(names) + " (counted from 0)" * (self.names is None)
            self.notes = [f"Left out: columns {which}, constant in the training samples of a fold.", *self.notes]
        self.names = [name for name, varies in zip(self.names, varying, strict=True) if varies] if self.names else None
        self._select(varying)

    def _select(self, varying):
        self.X = self.X[:, varying]

    def adapt(self, estimator):
        """Return an estimator that takes these samples."""
        if not self.has_missing or get_tags(estimator).input_tags.allow_nan:
            return estimator
        return make_pipeline(MeanFiller(), estimator)

    def numbers(self, train, test):
        """Return training and test samples as numbers, for predictions."""
        filler = MeanFiller().fit(self.take(train)) if self.has_missing else None
        return tuple(filler.transform(self.take(i)) if filler else self.take(i) for i in (train, test))

    def shown(self, X):
        """Return samples as numbers to be drawn, nan where missing."""
        return observed_values(X)

    def shown_names(self):
        """Return the names of the columns that are drawn, or None."""
        return self.names

    def loadings(self, estimator, test):
        """Return the loadings of a fitted estimator on some test samples, or None without names or components."""
        return self.names and loadings_by_name(estimator, self.take(test[:_N_LOADED]), self.names)

    def errors(self, test, X_hat):
        """Return the error of each value of reconstructions of test samples, masked where it is missing."""
        X = observed_values(self.take(test))
        return np.ma.array(np.square(np.subtract(X, X_hat, dtype=np.float64)), mask=np.isnan(X))

    def error_of_mean(self, train, test):
        """Return the error of test samples if each is taken for the mean of the training samples."""
        known = self.take(train)
        mean = np.nanmean(known, axis=0) if self.has_missing else known.mean(0)
        return squared_error(observed_values(self.take(test)), np.ravel(mean))

    def worst(self, errors, test, n):
        """Return the error, the name and the three worst columns of the n samples with the largest errors."""
        errors = np.ma.filled(errors, 0)
        means, names = errors.mean(axis=1), self.names or list(range(errors.shape[1]))
        order = np.argsort(-means)[:n]
        return [(float(means[i]), self.index[test[i]], [names[j] for j in np.argsort(-errors[i])[:3]]) for i in order]


class TableSamples(ArraySamples):
    """Samples of a DataFrame with columns of different kinds; see `ArraySamples`.

    An error is the mean over columns of squared deviations, in standard deviations of all samples, and of categories
    that are wrong. Those of the training samples would be next to zero in a column that hardly varies, and one test
    sample would then be all of the error.
    """

    unit = "in squared standard deviations for numbers, and the share of wrong predictions for categories"
    has_missing = True
    notes = (
        "Errors of numbers are in squared standard deviations. Those of categories are the share of wrong predictions.",
        "Estimators other than skae's get standardised numbers, indicators of categories and means for missing values.",
    )

    def __init__(self, X):
        library = library_of(X)
        self.X, self.constant, self.names = X, [], list(library.names(X))
        families = [library.describe(column).family for column in library.columns(X)]
        self.integers = [name for name, family in zip(self.names, families, strict=True) if family == "integer"]
        self.index = np.asarray(X.index) if hasattr(X, "index") else np.arange(len(X))
        self.n_samples, self.n_features = X.shape

    def _keys(self):
        library = library_of(self.X)
        return zip(*map(library.values, library.columns(self.X)), strict=True)

    def take(self, index):
        return _safe_indexing(self.X, index)

    def _select(self, varying):
        self.X = _safe_indexing(self.X, np.flatnonzero(varying), axis=1)
        self.code = TableCode().fit(self.X)

    def adapt(self, estimator):
        if type(estimator) not in (replaced := self._replaced()):
            return make_pipeline(TableCode(), estimator)
        given = estimator.get_params(deep=False)
        changed = {name: new for name, (default, new) in replaced[type(estimator)].items() if given[name] == default}
        return clone(estimator).set_params(**changed)

    def _replaced(self):
        """Return by estimator what takes the place of parameters that have their default, and this default."""
        kind = SquaredErrors if hasattr(self.X, "select_dtypes") else dict
        losses = kind.fromkeys([name for name in self.integers if name in self.names], "squared_error")
        known = {"handle_unknown": ("error", "ignore")}
        return {
            AutoencoderTransformer: {"loss": ("squared_error", losses or "auto")} | known,
            VAEGenerator: {"likelihood": ("gaussian", "auto")} | known,
        }

    def numbers(self, train, test):
        code = TableCode().fit(self.take(train))
        return code.transform(self.take(train)), code.transform(self.take(test))

    def shown(self, X):
        return self.code.transform(X)

    def shown_names(self):
        return [label for column in self.code.table_.columns for label in column.labels]

    def loadings(self, estimator, test):
        return None  # categories have no derivatives

    def errors(self, test, X_hat):
        return self.code.errors(self.take(test), X_hat)

    def error_of_mean(self, train, test):
        mean = np.ma.masked_invalid(self.code.scaled(self.take(train))).mean(axis=0)
        return self.errors(test, self.code.inverse_transform(np.tile(np.ma.filled(mean, 0), (len(test), 1)))).mean()


class TableCode(TransformerMixin, BaseEstimator):
    """Encoder of tables as numbers for factor analysis of mixed data: numbers are standardised, categories indicated.

    Indicators are divided by the square roots of their shares. Missing values are filled with means. Unknown categories
    are taken as missing, or with ``handle_unknown="indicate"`` all indicators are 0.
    """

    def __init__(self, handle_unknown="ignore"):
        self.handle_unknown = handle_unknown

    def fit(self, X, y=None):
        self.table_ = OneHotTable("auto", self.handle_unknown, kinds_in_own_units("squared_error")).fit(unmasked(X))
        Z = self.table_.encode(unmasked(X))
        self.mean_, deviation, _ = column_moments(np.where(observed_columns(Z), Z, 0))
        self.is_number_ = np.zeros(len(self.mean_), dtype=bool)
        for column, place in zip(self.table_.columns, self.table_.places, strict=True):
            self.is_number_[place] = column.kind == "number"
        scale = np.where(self.is_number_, deviation, np.sqrt(np.abs(self.mean_)))
        self.scale_ = np.where(scale > 0, scale, 1)
        return self

    def scaled(self, X):
        """Return a table as numbers, nan where values are missing: (n_samples, width)."""
        return (self.table_.encode(unmasked(X)) - self.mean_) / self.scale_

    def transform(self, X):
        return np.nan_to_num(self.scaled(X))

    def inverse_transform(self, X):
        return self.table_.decode(np.asarray(X) * self.scale_ + self.mean_)

    def errors(self, X, X_hat):
        """Return the error of each value of a table, (n_samples, n_columns), masked where it is missing."""
        squares = np.square(self.table_.encode(unmasked(X)) - self.table_.encode(unmasked(X_hat)))
        squares = np.where(self.is_number_, squares / self.scale_**2, squares / 2)  # two indicators of a wrong category
        sums = [squares[:, place].sum(axis=1) for place in self.table_.places]
        return np.ma.masked_invalid(np.column_stack(sums))


def repeats(groups):
    """Return a sentence on samples of the same group, in a list, or none."""
    n = len(groups) - len(np.unique(groups))
    said = f"Samples that repeat another one, and are in its fold: {n:,} of {len(groups):,}."
    return [said] * (n > 0)


def _varies(X):
    """Return whether each column varies; missing values aside."""
    if library_of(X).name:
        library = library_of(X)
        return np.array([len({*library.values(column)} - {None}) > 1 for column in library.columns(X)])
    if issparse(X):
        low, high = min_max_axis(X, axis=0)
        return high > low
    return np.nanmax(X, axis=0, initial=-np.inf) > np.nanmin(X, axis=0, initial=np.inf)
