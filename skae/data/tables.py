"""Tables of samples and their encoding: numeric arrays, and tables with columns of different kinds.

Both classes have the same interface: `open` checks samples and returns them as a `RowSource` of the encoded columns,
`decode` returns a table from encoded samples.
"""

from collections.abc import Mapping
from contextlib import suppress
from numbers import Real
from reprlib import repr as shortened
from types import MappingProxyType

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import validate_data

from skae._torch import is_on_device, to_array
from skae.data.checks import FLOATS, SUPPORTS, listed
from skae.data.columns import OF_LIKELIHOODS, GraphColumn, column_from_state
from skae.data.dataframes import LIBRARIES, has_text, library_of, numbers_asked, unmasked
from skae.data.rows import ArrayRows, FileRows, SparseRows, is_streamed
from skae.data.statistics import has_missing, n_unweighted, resampled
from skae.data.tensors import TensorRows, checked_tensor

# Reason and remedy for text in new samples.
_NEW = "The training samples had numbers", "Pass numbers, nan where they are missing."


class ArrayTable:
    """Numeric arrays or DataFrames, which are not encoded.

    Parameters
    ----------
    parameter : "loss" or "likelihood"
        Name of the parameter that determines the domain of X, for messages.
    value : str
        Its value.
    support : Support
        Domain of the values of X.
    link : str, default="identity"
        Link from the mean of a column to the network's input.
    refusal : tuple of (str, str)
        Reason and remedy in the error message for training samples with text.

    Attributes
    ----------
    library : Arrays, Pandas or Polars
        Library of the fitted table.
    labels : object
        Names of the columns and of the index; see `Arrays.labels`.
    n_columns, width : int
        Number of columns of the table, and of encoded columns.
    links : str
        The link of all columns.
    parts : None
        Single columns have no likelihood or loss of their own.
    places : list of slice
        For each column of the table, the columns that encode it.
    order : slice
        The encoded columns in the order of the table.
    attributes : mapping of str to object
        Fitted attributes of the estimator.
    description : str or None
        What was learned about the columns, for users.
    """

    kind = "array"
    accepts_sparse = True
    parts = None
    order = slice(None)
    attributes = MappingProxyType({})
    description = None

    def __init__(self, parameter, value, support, *, link="identity", refusal=_NEW):
        self.parameter = parameter
        self.value = value
        self.support = support
        self.links = link
        self.refusal = refusal

    @property
    def places(self):
        return [slice(j, j + 1) for j in range(self.width)]

    def takes(self, X):
        """Return whether samples need no encoding."""
        return not has_text(X)

    def prepare(self, X):
        """Return samples, an array, a tensor or a CSR matrix, after preprocessing, which a subclass may define here.

        Values are finite or nan. The domain of the loss or likelihood is checked afterwards.
        """
        return X

    def open(self, estimator, X, *, reset=False, ensure_min_samples=1, weights=None):
        """Check samples; with ``reset``, store the columns of the table.

        Parameters
        ----------
        estimator : BaseEstimator
            Has the number and names of columns, which are set with ``reset``.
        X : array-like, CSR matrix, memmap or DataFrame of shape (n_samples, n_features)
            nan where a value is missing.
        reset : bool, default=False
            Whether these are training samples; others must have the same columns.
        ensure_min_samples : int, default=1
        weights : ndarray of shape (n_samples,), default=None
            Weights of the samples; those of weight 0 are left out.

        Returns
        -------
        RowSource
        """
        library, table = library_of(X), X
        X = X if is_on_device(X) else unmasked(X)
        options = {"dtype": FLOATS, "ensure_min_samples": ensure_min_samples, "ensure_all_finite": "allow-nan"}
        if is_on_device(table):
            rows = self._open_tensor(estimator, table, reset, options, weights)
        elif is_streamed(X):
            rows = self._open_file(estimator, X, reset, options).weighted(weights)
        else:
            with numbers_asked(table, *(self.refusal if reset else _NEW)):
                X = validate_data(estimator, X, reset=reset, accept_sparse="csr", **options)
            open_rows = self._open_sparse if issparse(X) else self._open_array
            rows = open_rows(estimator, X, reset, weights)
        if reset:
            self._set_labels(library, library.labels(table if library.name else rows), rows.n_features)
        _check_order(self, library, table)
        return rows

    def _set_labels(self, library, labels, width):
        self.library, self.labels, self.n_columns, self.width = library, labels, width, width
        return self

    def _open_array(self, estimator, X, reset, weights):
        rows = ArrayRows(self.prepare(X)).weighted(weights)
        self.support.check(rows.source, self.parameter, self.value, reset)
        return rows

    def _open_tensor(self, estimator, X, reset, options, weights):
        """Check a tensor on its device; its shape is checked by an array of that shape."""

        def check(array):
            validate_data(estimator, unmasked(array), reset=reset, **options | {"ensure_all_finite": False})

        rows = TensorRows(self.prepare(checked_tensor(X, check, allow_nan=True))).weighted(weights)
        self.support.check(rows.source, self.parameter, self.value, reset)
        return rows

    def _open_sparse(self, estimator, X, reset, weights):
        if not (X.has_canonical_format and X.data.all()):
            X = X.copy()
            X.sum_duplicates()
            X.eliminate_zeros()
        X = self.prepare(X)
        self.support.check_sparse(X, self.parameter, self.value, reset)
        return SparseRows(X).weighted(weights)

    def _open_file(self, estimator, X, reset, options):
        """Check one block at a time: a check of all samples at once would copy the file or a mask of it."""
        validate_data(estimator, X[: options["ensure_min_samples"]], reset=reset, **options)
        options["ensure_min_samples"] = 1  # for a block
        rows = FileRows(X)
        for part in rows.blocks():
            block = self.prepare(check_array(rows[part], input_name="X", estimator=estimator, **options))
            rows.has_missing = rows.has_missing or has_missing(block)
            self.support.check(block, self.parameter, self.value, reset)
        return rows.map(self.prepare)

    def decode(self, rows, like=None):
        """Return samples as the type that was fitted: an array, or a DataFrame with the index of ``like``."""
        table = self.library.table(list(rows.T), self.labels) if self.library.name else rows
        return self.library.indexed(table, like)

    # Codes are always decoded to arrays, as by PCA.
    decode_codes = staticmethod(lambda rows, codes: rows)

    def given(self, values):
        """Return an encoded sample with these values of columns by name, or by number without names, nan elsewhere."""
        row = np.full(self.width, np.nan)
        names = self.library.names(self.library.empty(self.labels)) if self.library.name else list(range(self.width))
        for name, value in values.items():
            _check_known(name, names)
            if not (isinstance(value, Real) and np.isfinite(value)):
                raise ValueError(f"given has {value!r} for column {name!r}, but the model takes finite numbers.")
            row[names.index(name)] = value
        row = self.prepare(row[None])
        self.support.check(row, self.parameter, self.value, False)
        return row[0]

    def check_differentiable(self):
        """Check that the derivative of each column by a code exists."""

    def learn_columns(self, rows, means):
        """Encode samples anew in columns that were constant so far and vary in them.

        Parameters
        ----------
        rows : RowSource
        means : ndarray of shape (width,)
            Encoded means of columns so far, which are changed in place.

        Returns
        -------
        RowSource
        """
        return rows

    def log_slopes(self, rows):
        """Return the log-slope of the encoding of each value, zero: (n, n_features)."""
        return np.zeros(rows.shape)

    def mean_log_slope(self, samples):
        """Return the mean over samples of the log-slope, summed over columns."""
        return 0.0

    def graph_columns(self, end=None):
        """Return the column of a graph's input, or of its output, whose name is ``end``, in a list."""
        return [GraphColumn(end or "rows", self.width)]

    def to_state(self):
        """Return the fitted state as a dict of plain values."""
        return {"kind": self.kind, "library": self.library.name, "labels": self.labels}

    def restore(self, state, fault):
        """Check and restore a state from `to_state`, which may come from an altered file.

        Parameters
        ----------
        state : dict
        fault : callable
            (name, what) -> the exception for a faulty entry of the file.

        Returns
        -------
        self : object
        """
        library, names = _checked(self, state, fault)
        return self._set_labels(library, state["labels"], len(names))


class TableEncoder:
    """Encoder of tables with columns of different kinds as one matrix.

    Floats are mapped to normal scores by a monotone map for likelihoods, and standardised for losses. Bools are mapped
    to 0 and 1, categories are one-hot encoded, and counts stay. A missing value is nan in all columns that
    encode it. Columns are grouped by kind, in the order of `Kinds`.

    Parameters
    ----------
    chosen : str or mapping of columns to str
        Kind of all columns, or a mapping for some columns; the others are then "auto".
    handle_unknown : "error" or "ignore", default="error"
        What to do with a category that is not in the training samples: raise an error or treat it as missing.
    kinds : Kinds, default=OF_LIKELIHOODS

    Attributes
    ----------
    library : Arrays, Pandas or Polars
        Library of the fitted table.
    labels : object
        Names of the columns and of the index; see `Arrays.labels`.
    columns : list of Column
    places : list of slice
        For each column of the table, the columns that encode it.
    n_columns, width : int
        Number of columns of the table, and of encoded columns.
    parts : list of (str, list of int)
        The kinds of the encoded columns from left to right, each with the widths of its columns.
    links : tuple of str
        The link of each encoded column.
    order : ndarray of int
        The encoded columns in the order of the table's columns.
    names : list
        For each encoded column, the name of the table's column.
    """

    kind = "encoder"
    accepts_sparse = False
    support = SUPPORTS["real"]

    def __init__(self, chosen="auto", handle_unknown="error", kinds=OF_LIKELIHOODS):
        self.chosen = chosen
        self.handle_unknown = handle_unknown
        self.kinds = kinds

    def takes(self, X):
        return True

    @property
    def attributes(self):
        """The kind of each column, as the fitted attribute ``likelihoods_`` or ``losses_``."""
        return {self.kinds.attribute: {column.name: self.kinds.chosen(column.kind) for column in self.columns}}

    @property
    def description(self):
        (chosen,) = self.attributes.values()
        by_kind = {kind: listed([name for name in chosen if chosen[name] == kind]) for kind in chosen.values()}
        return f"{self.kinds.attribute}: " + "; ".join(f"{kind} for {names}" for kind, names in by_kind.items())

    def open(self, estimator, X, *, reset=False, ensure_min_samples=1, weights=None):
        """Check and encode samples; with ``reset``, fit the columns; see `ArrayTable.open`."""
        _check_dense(X, self.kinds, self.chosen, reset)
        X, dtype, is_enough = unmasked(X), np.float64, {"ensure_min_samples": ensure_min_samples}
        given, library = X, library_of(X)
        if not library.name and (reset or self.library is library):
            X = _array_of_numbers(estimator, X, reset, is_enough)
            dtype = X.dtype
        else:
            if library.name:
                check_array(np.broadcast_to(0.0, X.shape), estimator=estimator, **is_enough)
            else:
                X = check_array(X, dtype=object, ensure_all_finite=False, estimator=estimator, **is_enough)
            validate_data(estimator, X, reset=reset, skip_check_array=True)
        if weights is not None:
            X, weights = _safe_indexing(X, np.flatnonzero(weights)), weights[weights > 0]
        if reset:
            drawn = X if weights is None else _safe_indexing(X, _drawn(weights, X.shape[1]))
            self.fit(drawn, None if library.name else np.asarray(given).dtype)
        _check_order(self, library, X)
        self.handle_unknown = getattr(estimator, "handle_unknown", self.handle_unknown)  # it may have been set since
        return ArrayRows(self.encode(X, dtype)).weighted(weights)

    def fit(self, X, dtype=None):
        """Fit the columns of a table.

        Parameters
        ----------
        X : DataFrame of pandas or polars, or ndarray of numbers
        dtype : dtype, default=None
            Dtype of an array before it was cast to float.

        Returns
        -------
        self : object
        """
        library = library_of(X)
        names = library.names(X)
        chosen = [self.chosen] * len(names)
        if isinstance(self.chosen, Mapping):
            if unknown := [name for name in self.chosen if name not in names]:
                raise ValueError(
                    f"{self.kinds.parameter} names {unknown[0]!r}, which is no column of X. Its columns are "
                    f"{listed(names)}."
                )
            chosen = [self.chosen.get(name, "auto") for name in names]
        columns = zip(names, chosen, library.columns(X), strict=True)
        fitted = [self.kinds.fit(*column, library, dtype) for column in columns]
        return self._set_columns(library, library.labels(X), fitted)

    def _set_columns(self, library, labels, columns):
        self.library, self.labels, self.columns, self.n_columns = library, labels, columns, len(columns)
        by_kind = sorted(range(len(columns)), key=lambda j: list(self.kinds.columns).index(columns[j].kind))
        encoded = [j for j in by_kind for _ in range(columns[j].width)]
        self.width, self.order = len(encoded), np.argsort(encoded, kind="stable")
        self.names, self.links = [columns[j].name for j in encoded], tuple(columns[j].link for j in encoded)
        begins = np.unique(encoded, return_index=True)[1].tolist()
        self.places = [slice(begin, begin + column.width) for begin, column in zip(begins, columns, strict=True)]
        widths = {kind: [column.width for column in columns if column.kind == kind] for kind in self.kinds.columns}
        self.parts = [(kind, of_kind) for kind, of_kind in widths.items() if of_kind]
        return self

    def encode(self, X, dtype=np.float64):
        """Return a table as an array of numbers: (n_samples, width)."""
        library, rows = library_of(X), np.empty((len(X), self.width), dtype=dtype)
        for column, place, series in zip(self.columns, self.places, library.columns(X), strict=True):
            rows[:, place] = column.encode(series, library, self.handle_unknown)
        return rows

    def given(self, values):
        row, names = np.full(self.width, np.nan), [column.name for column in self.columns]
        for name, value in values.items():
            _check_known(name, names)
            column, place = self.columns[names.index(name)], self.places[names.index(name)]
            with suppress(TypeError, ValueError):  # values are of any type
                made = self.library.column([value], column.type, np.float64)
                row[place] = column.encode(made, self.library, "ignore")
            if np.isnan(row[place]).any():
                raise ValueError(f"given has {value!r} for column {name!r}, which is no value of that column.")
        return row

    def check_differentiable(self):
        raise ValueError(
            "Each column of X is encoded by itself, and a category has no derivative. Fit the columns of numbers "
            f"alone, as an array, with one {self.kinds.parameter} for all."
        )

    def learn_columns(self, rows, means):
        encoded = rows[:].copy()
        drawn = slice(None) if rows.weights is None else _drawn(rows.weights, self.n_columns)
        for j, (before, place) in enumerate(zip(self.columns, self.places, strict=True)):
            self.columns[j] = column = before.refitted(encoded[drawn, place])
            if column is not before:
                encoded[:, place] = column.encode_again(encoded[:, place], before)
                means[place] = column.encode_again(means[place], before)
        return ArrayRows(encoded, rows.weights)

    def decode(self, rows, like=None):
        """Decode to a table of the fitted type; observed values of ``like`` replace the decoded ones."""
        library = library_of(like)
        given = [None] * self.n_columns if like is None else library.columns(unmasked(like))
        made = [
            self.library.column(column.decode(rows[:, place], series, library), column.type, rows.dtype)
            for column, place, series in zip(self.columns, self.places, given, strict=True)
        ]
        return self.library.indexed(self.library.table(made, self.labels), like)

    def decode_codes(self, rows, codes):
        """Decode samples that the network decoded from codes to a table with the index of the codes."""
        return self.library.indexed(self.decode(rows), codes)

    def mean_log_slope(self, samples):
        """Return the mean over samples of the log-slope, summed over columns."""
        slopes = self.log_slopes(samples[:][1])
        weights = None if samples.weights is None else samples.weights.numpy(force=True)
        return float(np.average(slopes, axis=0, weights=weights).sum())

    def graph_columns(self, end=None):
        """Return the columns of a graph's input, or of its output, whose names end in ``end``."""
        names = [str(column.name) for column in self.columns]
        names = [name if names.count(name) == 1 else f"{name}_{j}" for j, name in enumerate(names)]
        names = [f"{name}_{end}" if end else name for name in names]
        return [column.graph_column(name) for column, name in zip(self.columns, names, strict=True)]

    def log_slopes(self, rows):
        """Return the log-slope of the encoding of each value, which converts log-densities: (n, width)."""
        rows, gains = to_array(rows), np.zeros(rows.shape)
        for column, place in zip(self.columns, self.places, strict=True):
            gains[:, place] = column.log_slope(rows[:, place])
        return gains

    def to_state(self):
        """Return the fitted state as a dict of plain values and arrays."""
        columns = [column.to_state() for column in self.columns]
        return {"kind": self.kind, "library": self.library.name, "labels": self.labels, "columns": columns}

    def restore(self, state, fault):
        """Check and restore a state from `to_state`; see `ArrayTable.restore`."""
        library, names = _checked(self, state, fault, "columns")
        columns = state["columns"]
        if type(columns) is not list or len(columns) != len(names):
            raise fault("columns", f"of the table are {shortened(columns)}, not one for each of {len(names)} names")
        pairs = zip(names, columns, strict=True)
        columns = [column_from_state(*pair, self.kinds, library, fault) for pair in pairs]
        return self._set_columns(library, state["labels"], columns)


class OneHotTable(TableEncoder):
    """Encoder of DataFrames with categories: numbers in their own units, and an indicator of each category."""

    kind = "one-hot"

    def _set_columns(self, library, labels, columns):
        super()._set_columns(library, labels, columns)
        self.links, self.parts = "identity", None  # as those of an array
        return self


def _check_order(table, library, X):
    """Check that columns are in the order of training; scikit-learn does so only where all names are strings."""
    if library.name and library is table.library:
        names, known = library.names(X), library.names(library.empty(table.labels))
        found, expected = list(map(repr, names)), list(map(repr, known))
        if found != expected and sorted(found) == sorted(expected):
            raise ValueError(
                f"The columns of X must be in the order of training, {listed(known)}, not {listed(names)}."
            )


def _check_known(name, names):
    if name not in names:
        raise ValueError(f"given names {name!r}, which is no column of X. Its columns are {listed(names)}.")


def _drawn(weights, n_columns):
    """Return sorted indices in which samples occur in proportion to their weights, but each at least once.

    Ranges and categories are then those of all samples.
    """
    index = resampled(weights, n_unweighted(weights, n_columns))
    return np.sort(np.concatenate([index, np.setdiff1d(np.arange(len(weights)), index)]))


def _checked(table, state, fault, *others):
    """Return the library and the names of the columns of a state, after checks of these; it has ``others``, too."""
    entries = ["kind", "library", "labels", *others]
    if type(state) is not dict or state.keys() != set(entries):
        raise fault("the table", f"must have {', '.join(entries)}")
    for name, options in (("kind", [table.kind]), ("library", LIBRARIES)):
        if not any(type(state[name]) is type(option) and state[name] == option for option in options):
            known = " or ".join(map(repr, options))
            raise fault(name, f"of the table is {shortened(state[name])}, not {known}")
    library, names = LIBRARIES[state["library"]], []
    with suppress(Exception):  # libraries differ in what they raise
        names = library.names(library.empty(state["labels"]))
    if not names:
        raise fault("labels", f"of the table are {shortened(state['labels'])}, which name no columns")
    return library, names


def _check_dense(X, kinds, chosen, reset):
    if issparse(X):
        other = f", or set {kinds.parameter}={kinds.auto['float']!r}, for numbers" if reset else ""
        raise TypeError(
            f"X is sparse, but with {kinds.parameter}={kinds.chosen(chosen)!r} each column is encoded by itself and "
            f"made dense. If that fits in memory, pass pandas.DataFrame.sparse.from_spmatrix(X){other}."
        )


def _array_of_numbers(estimator, X, reset, options):
    """Check an array; an error about strings in training samples suggests a DataFrame."""
    try:
        return validate_data(estimator, X, reset=reset, dtype=FLOATS, ensure_all_finite="allow-nan", **options)
    except ValueError as error:
        if not reset or "convert string" not in str(error):
            raise
        way_out = "An array is taken for numbers: pass strings and categories as a DataFrame."
        raise ValueError(f"{error}. {way_out}") from error
