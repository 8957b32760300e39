"""Columns of a table as numbers for a net, each with a likelihood, and back. NumPy and SciPy: no torch.

A plan is fitted to a table of numbers, bools, categories and strings. It encodes such tables as one matrix: floats by a
monotone map to normal scores, bools as 0 and 1, counts as they are, categories as a column each; what is missing is nan
in all columns of its block. Columns of one likelihood stand together, in the order of `KINDS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from numbers import Real

import numpy as np
from scipy.special import ndtri

from skae._validation import some_of_names

# Likelihoods that a column may have, in the order of the encoded columns.
KINDS = ("gaussian", "bernoulli", "poisson", "negative_binomial", "categorical")
LINKS = {
    "gaussian": "identity",
    "bernoulli": "logit",
    "poisson": "log",
    "negative_binomial": "log",
    "categorical": "log",
}
_COUNTS = ("poisson", "negative_binomial")
# Integers are no counts to "auto" if their variance is under their mean, a Poisson's, by so many standard errors, or if
# they deviate by less than this times their mean.
_ERRORS, _LEAST_DEVIATION = 3, 0.1
# Categories above which a column that has them in more than half of its rows is an identifier.
_MOST_OF_IDENTIFIERS = 100
# Pieces of a monotone map at most, and rows that tell one.
_MOST_PIECES, _ROWS_A_PIECE = 32, 20
# A value of this share of the rows, and so many of them, comes back as itself.
_FREQUENT_SHARE, _FREQUENT_ROWS = 0.02, 5
# Knots nearer to each other than this, over the range, are one.
_SAME = 1e-12
# Ranges, halved, whose pieces and their slopes are numbers.
_LEAST_SPAN, _MOST_SPAN = 1e-280, np.finfo(np.float64).max / 2
# Rounding of scores in float32: at a knot the piece to its right counts.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Column:
    """What is known of a column.

    Attributes
    ----------
    name : object
    likelihood : str
    family : "float", "integer", "boolean" or "category"
    dtype : str
        As its library writes it; of a categorical one of pandas that of its categories.
    low, high : float, or int for integers
        Range of the training rows, of numbers.
    categories : list
        Those of the training rows; intervals as pairs of their ends.
    declared : list or None
        Those of a categorical dtype.
    ordered : bool
        Whether that has an order.
    knots : ndarray of shape (2, n_knots)
        Values and their scores, of floats.
    steps : ndarray of shape (2, n_steps)
        Scores and their values: the way back, which is flat where a value is frequent.
    """

    name: object
    likelihood: str
    family: str
    dtype: str
    low: float
    high: float
    categories: list
    declared: list | None
    ordered: bool
    knots: np.ndarray
    steps: np.ndarray

    @property
    def width(self):
        """Columns that encode it."""
        return len(self.categories) if self.likelihood == "categorical" else 1

    def encode(self, series, library, handle_unknown):
        """As a block of numbers: (n, width)."""
        if self.likelihood == "categorical":
            return self._one_hot(_values(series, library), handle_unknown)
        x = _numbers(series, library, self.name, self.likelihood)
        _check_numbers(x, self.name, self.likelihood, "float")
        return (self._score(x) if self.likelihood == "gaussian" else x)[:, None]

    def _score(self, x):
        return _piecewise(x, *self.knots) if self.knots.shape[1] > 1 else np.where(np.isnan(x), np.nan, 0.0)

    def _one_hot(self, values, handle_unknown):
        index = {value: k for k, value in enumerate(self.categories)}
        found = np.array([-2 if value is None else index.get(value, -1) for value in values], dtype=int)
        if handle_unknown == "error" and (found == -1).any():
            raise ValueError(
                f"Column {self.name!r} of X has {values[int((found == -1).argmax())]!r}, a category that no training "
                "row has. Fit on rows that have it, or set handle_unknown='ignore' to take it as missing."
            )
        block = (found[:, None] == np.arange(self.width)).astype(np.float64)
        block[found < 0] = np.nan
        return block

    def log_slope(self, scores):
        """The logarithm of the monotone map's slope at rows of these scores; 0 in gaps."""
        if self.knots.shape[1] < 2:
            return np.zeros(len(scores))
        x, y = self.knots
        piece = np.clip(np.searchsorted(y, scores + _ROUNDING, side="right") - 1, 0, len(y) - 2)
        return np.where(np.isnan(scores), 0, np.log(np.diff(y) / np.diff(x))[piece])

    def decode(self, block, given=None):
        """A list of values; ``given`` ones where these are not None."""
        if self.likelihood == "categorical":
            return [self.categories[k] for k in block.argmax(axis=1)]
        x = block[:, 0].astype(np.float64)
        if self.likelihood == "gaussian":
            x = np.interp(x, *self.steps)
        if self.family != "float":
            x = np.round(x)
        values = np.clip(x, float(self.low), float(self.high)).tolist()
        if self.family == "integer":  # the ends may be integers that no float is
            values = [min(max(int(value), self.low), self.high) for value in values]
        if given is not None:
            values = [value if known is None else known for value, known in zip(values, given, strict=True)]
        return [value >= 0.5 for value in values] if self.family == "boolean" else values


@dataclass(frozen=True)
class Plan:
    """How columns of a table become columns of numbers, and these the table again.

    Attributes
    ----------
    library : "pandas", "polars" or None
        None is an array of numbers.
    columns : list of Column
    """

    library: str | None
    columns: list

    @cached_property
    def places(self):
        """Of each column of the table, the slice of columns that encode it."""
        places, begin = [None] * len(self.columns), 0
        for kind in KINDS:
            for j, column in enumerate(self.columns):
                if column.likelihood == kind:
                    places[j] = slice(begin, begin + column.width)
                    begin += column.width
        return places

    @property
    def width(self):
        """Columns of the encoded table."""
        return sum(column.width for column in self.columns)

    @property
    def order(self):
        """The encoded columns in the order of the table's."""
        return np.concatenate([np.arange(place.start, place.stop) for place in self.places])

    @property
    def parts(self):
        """The likelihoods of the encoded columns from left to right, each with the widths of its columns."""
        widths = {kind: [c.width for c in self.columns if c.likelihood == kind] for kind in KINDS}
        return [(kind, widths[kind]) for kind in KINDS if widths[kind]]

    @property
    def links(self):
        """The link of each encoded column."""
        return tuple(LINKS[kind] for kind, widths in self.parts for _ in range(sum(widths)))

    @property
    def names(self):
        """Of each encoded column the name of the table's."""
        names = np.empty(self.width, dtype=object)
        for column, place in zip(self.columns, self.places, strict=True):
            names[place] = [column.name] * column.width
        return names

    def encode(self, X, handle_unknown, dtype):
        """Rows of numbers."""
        library, rows = library_of(X), np.empty((len(X), self.width), dtype=dtype)
        for column, place, series in zip(self.columns, self.places, _series(X), strict=True):
            rows[:, place] = column.encode(series, library, handle_unknown)
        return rows

    def log_slopes(self, rows):
        """What densities of encoded rows gain by each column when they are told in units of the table."""
        gains = np.zeros(rows.shape)
        for column, place in zip(self.columns, self.places, strict=True):
            if column.likelihood == "gaussian":
                gains[:, place.start] = column.log_slope(rows[:, place.start].astype(np.float64))
        return gains

    def decode(self, rows, like=None):
        """The table that rows of numbers stand for, with the numbers of ``like`` that are not missing there."""
        given, library = [None] * len(self.columns), library_of(like)
        if like is not None:
            series = _series(like if library else np.asarray(like))
            given = [
                None if c.likelihood == "categorical" else _known(s, library, c)
                for c, s in zip(self.columns, series, strict=True)
            ]
        decoded = [c.decode(rows[:, p], g) for c, p, g in zip(self.columns, self.places, given, strict=True)]
        if self.library is None:
            return np.column_stack(decoded).astype(rows.dtype)
        make = _as_pandas if self.library == "pandas" else _as_polars
        made = [make(column, values) for column, values in zip(self.columns, decoded, strict=True)]
        if self.library == "polars":
            return import_module("polars").DataFrame(made)
        frame = import_module("pandas").concat(made, axis=1)
        frame.columns = [column.name for column in self.columns]
        return frame.set_index(like.index) if library == "pandas" else frame


def fit_plan(X, likelihood, dtype=None):
    """The plan of a table.

    Parameters
    ----------
    X : DataFrame of pandas or polars, or ndarray of numbers
    likelihood : str or mapping of columns to str
        One for all columns, or of these columns, the others then being "auto".
    dtype : dtype, default=None
        That an array had before its numbers were made floats.

    Returns
    -------
    Plan
    """
    library = library_of(X)
    names = list(X.columns) if library else list(range(X.shape[1]))
    if isinstance(likelihood, Mapping):
        for name in likelihood:
            if name not in names:
                raise ValueError(
                    f"likelihood names {name!r}, which is no column of X. Its columns are {some_of_names(names)}."
                )
        chosen = [likelihood.get(name, "auto") for name in names]
    else:
        chosen = [likelihood] * len(names)
    series = _series(X)
    return Plan(library, [_fit_column(s, library, *of, dtype) for s, *of in zip(series, names, chosen, strict=True)])


def _fit_column(series, library, name, likelihood, array_dtype):
    family, dtype, declared, ordered = _describe(series, library, array_dtype)
    values = _values(series, library)
    if all(value is None for value in values):
        raise ValueError(
            f"In column {name!r} of X every value is missing, and nothing can be learnt from that. Drop such columns "
            "before fitting."
        )
    if family is None:
        raise ValueError(
            f"Column {name!r} of X is of dtype {dtype}, and has {_odd_one(values)!r}: no likelihood is for such "
            "values, or for several types in one column. Make numbers, bools, categories or strings of all, or drop it."
        )
    x = None if family == "category" else _numbers(series, library, name, likelihood)
    is_asked_for = likelihood != "auto"
    if not is_asked_for:
        likelihood = {"boolean": "bernoulli", "category": "categorical"}.get(family, "gaussian")
        likelihood = _of_integers(x) if family == "integer" else likelihood
    nothing = np.zeros((2, 0))
    if likelihood == "categorical":
        present = {value for value in values if value is not None}
        n_present = len(values) - values.count(None)
        if not is_asked_for and len(present) > max(_MOST_OF_IDENTIFIERS, n_present / 2):
            raise ValueError(
                f"Column {name!r} of X has {len(present)} categories in {n_present} rows, such as {_first(values)!r}. "
                "It is an identifier, or text, from which nothing can be learnt: drop it, merge categories, or insist "
                f"by likelihood={{{name!r}: 'categorical'}}."
            )
        categories = [value for value in declared if value in present] if declared else _sorted(present)
        return Column(name, likelihood, family, dtype, 0.0, 0.0, categories, declared, ordered, nothing, nothing)
    if x is None:
        raise ValueError(_misfit(name, likelihood, _first(values), ["categorical"]))
    _check_numbers(x, name, likelihood, family)
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    if likelihood == "gaussian":
        _check_span(low, high, name)
    knots, steps = _fit_scores(x[~np.isnan(x)]) if likelihood == "gaussian" else (nothing, nothing)
    if family == "integer":  # which a float may not be able to tell
        whole = [int(value) for value in values if value is not None]
        low, high = min(whole), max(whole)
    return Column(name, likelihood, family, dtype, low, high, [], declared, ordered, knots, steps)


def _of_integers(x):
    """Counts, unless integers vary less than counts do, as years or grades, and as 0 and 1 where a 1 is not rare; or
    so little beside their size that they may as well be normal, as times.
    """
    x = x[~np.isnan(x)]
    mean, deviation = x.mean(), x.std()
    enough = (1 - _ERRORS * np.sqrt(2 / len(x))) * mean
    if (x >= 0).all() and deviation**2 >= enough and deviation >= _LEAST_DEVIATION * mean:
        return "negative_binomial"
    return "bernoulli" if np.array_equal(np.unique(x), [0, 1]) else "gaussian"


def _odd_one(values):
    """A value of the rarest type; of two types as rare, of the one that is no number."""
    values = [value for value in values if value is not None]
    counts = Counter(map(type, values))
    return min(values, key=lambda value: (counts[type(value)], isinstance(value, Real)))


def _sorted(values):
    try:
        return sorted(values)
    except TypeError:  # of several types
        return sorted(values, key=repr)


def _first(values):
    return next(value for value in values if value is not None)


# The monotone map of floats.


def _fit_scores(x):
    """Knots of the map to scores, of mean zero and variance one on these rows, and steps of the way back."""
    unique, counts = np.unique(x, return_counts=True)
    if len(unique) == 1:
        return np.array([unique, [0.0]]), np.array([[0.0], unique])
    through = counts.cumsum() / len(x)
    middle, before = through - counts / (2 * len(x)), through - counts / len(x)
    frequent = counts >= max(_FREQUENT_ROWS, _FREQUENT_SHARE * len(x))
    levels = np.linspace(0, 1, int(np.clip(len(x) // _ROWS_A_PIECE, 2, _MOST_PIECES)) + 1)[1:-1]
    at_levels = np.minimum(np.searchsorted(middle, levels), len(unique) - 1)
    kept = np.unique(np.concatenate([[0, len(unique) - 1], at_levels, np.flatnonzero(frequent)]))
    apart = np.diff(unique[kept], prepend=-np.inf) > _SAME * (unique[-1] - unique[0])
    kept = kept[apart] if apart.sum() > 1 else kept[[0, -1]]
    values, scores = unique[kept], ndtri(middle[kept])
    ends = np.where(frequent[kept], [ndtri(np.maximum(before[kept], 0)), ndtri(np.minimum(through[kept], 1))], scores)
    ends, back = ends.T.ravel(), np.repeat(values, 2)
    of_rows = _piecewise(x, values, scores)
    centre, unit = of_rows.mean(), of_rows.std()
    finite = np.isfinite(ends)
    steps = np.array([np.maximum.accumulate((ends[finite] - centre) / unit), back[finite]])
    return np.array([values, (scores - centre) / unit]), steps


def _piecewise(x, xs, ys):
    """Linear between knots, and beyond the outer ones as next to them."""
    piece = np.clip(np.searchsorted(xs, x, side="right") - 1, 0, len(xs) - 2)
    return ys[piece] + (np.diff(ys) / np.diff(xs))[piece] * (x - xs[piece])


# Which likelihoods a column may have.


def _check_span(low, high, name):
    """A range whose pieces have a slope."""
    span = high / 2 - low / 2  # which overflows for no two numbers
    if low < high and not _LEAST_SPAN < span < _MOST_SPAN:
        raise ValueError(
            f"Column {name!r} of X goes from {low:g} to {high:g}, a range that floating point cannot divide. Rescale "
            "it by a constant."
        )


def _check_numbers(x, name, likelihood, family):
    """Numbers that the likelihood is defined on."""
    wrong = np.isinf(x)
    if likelihood == "bernoulli":
        wrong |= (x < 0) | (x > 1)
    elif likelihood in _COUNTS:
        wrong |= (x < 0) | ((np.floor(x) != x) & ~np.isnan(x))
    if wrong.any():
        raise ValueError(_misfit(name, likelihood, x[wrong.argmax()].item(), _suitable(x, family)))


def _suitable(x, family):
    x = x[~np.isnan(x)]
    finite = np.isfinite(x).all()
    names = ["gaussian"] if finite else []
    if ((x >= 0) & (x <= 1)).all():
        names.append("bernoulli")
    if finite and ((x >= 0) & (np.floor(x) == x)).all():
        names += _COUNTS
    return [*names, "categorical"] if family != "float" else names


_NEEDS = {"gaussian": "finite numbers", "bernoulli": "bools or numbers in [0, 1]"} | dict.fromkeys(
    _COUNTS, "counts, integers of at least 0"
)


def _misfit(name, likelihood, value, suitable):
    would_do = f"Use {' or '.join(map(repr, suitable))} for it." if suitable else "Drop or replace such values."
    return (
        f"likelihood {likelihood!r} of column {name!r} needs {_NEEDS[likelihood]}, but the column has {value!r}. "
        f"{would_do}"
    )


# Columns of pandas, polars and NumPy.

# Strings of Arrow have, as pandas writes it, the name of another dtype.
_ARROW_STRING = "ArrowDtype(string)"


def first_text(X):
    """The name and the value of the first entry of a DataFrame that no number can be made of, or None."""
    library = library_of(X)
    for name, series in zip(X.columns, _series(X), strict=True) if library else ():
        if _describe(series, library, None)[0] in ("category", None):
            texts = (value for value in _values(series, library) if value is not None and not _is_number(value))
            if (text := next(texts, None)) is not None:
                return name, text
    return None


def _is_number(value):
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


@contextmanager
def numbers_asked(X, asked):
    """Where a check of X fails and X holds text, the error says so, for what is ``asked``."""
    try:
        yield
    except ValueError as error:
        if (text := first_text(X)) is None:
            raise
        raise ValueError(
            f"{asked}, but column {text[0]!r} of X has {text[1]!r}. Pass the columns of numbers."
        ) from error


def unmasked(X):
    """X, nan where an array is masked; without dates or durations, which NumPy would take for numbers."""
    _check_without_dates(X)
    if isinstance(X, np.ma.MaskedArray) and X.dtype.kind != "c":  # which are refused as such
        return X.astype(X.dtype if X.dtype.kind == "f" else np.float64).filled(np.nan)
    return X


def _check_without_dates(X):
    library = library_of(X)
    if library:
        dtypes = zip(X.columns, X.dtypes, strict=True)
        dates = [(f"Column {name!r} of X", dtype) for name, dtype in dtypes if _is_date(dtype, library)]
    else:
        dates = [("X", X.dtype)] if isinstance(X, np.ndarray) and X.dtype.kind in "mM" else []
    if dates:
        raise ValueError(
            f"{dates[0][0]} is of dtype {dates[0][1]}. Make numbers of dates and durations, such as days since the "
            "first one, with nan where they are missing."
        )


def _is_date(dtype, library):
    return dtype.is_temporal() if library == "polars" else dtype.kind in "mM"


def library_of(X):
    """The library of a DataFrame, or None."""
    modules = [cls.__module__.split(".")[0] for cls in type(X).__mro__]
    library = next((name for name in modules if name in ("pandas", "polars")), None)
    return library if hasattr(X, "columns") else None


def _series(X):
    if library_of(X) == "pandas":
        return [X.iloc[:, j] for j in range(X.shape[1])]  # names may repeat
    return X.get_columns() if library_of(X) == "polars" else list(X.T)


def _describe(series, library, array_dtype):
    """Family, dtype, categories of the dtype, and whether these are ordered."""
    if library is None:
        kinds = {"i": "integer", "u": "integer", "b": "boolean"}
        return kinds.get(np.dtype(array_dtype or float).kind, "float"), "float64", None, False
    return (_describe_pandas if library == "pandas" else _describe_polars)(series)


def _describe_pandas(series):
    pandas, dtype = import_module("pandas"), series.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        declared, of = [_ends(value) for value in dtype.categories.tolist()], _dtype_name(dtype.categories.dtype)
        pairs = isinstance(dtype.categories, pandas.IntervalIndex)
        plain = all(isinstance(v, str | Real) for value in declared for v in (value if pairs else [value]))
        return ("category", of, declared, bool(dtype.ordered)) if plain else (None, f"category of {of}", None, False)
    if isinstance(dtype, pandas.StringDtype):
        return "category", _dtype_name(dtype), None, False
    types, family = pandas.api.types, None
    if types.is_object_dtype(dtype):
        inferred = types.infer_dtype(series, skipna=True)
        families = {"boolean": "boolean", "integer": "integer", "string": "category"}
        family = families.get(inferred, "float" if inferred in ("floating", "mixed-integer-float") else None)
    elif types.is_bool_dtype(dtype):
        family = "boolean"
    elif types.is_integer_dtype(dtype):
        family = "integer"
    elif types.is_float_dtype(dtype):
        family = "float"
    elif types.is_string_dtype(dtype):
        family = "category"
    return family, _dtype_name(dtype), None, False


def _ends(value):
    """Of an interval its ends, as Python writes numbers; else the value."""
    if not hasattr(value, "closed_left"):
        return value
    return tuple(getattr(end, "item", lambda end=end: end)() for end in (value.left, value.right))


def _dtype_name(dtype):
    """A string that pandas, or `_pandas_dtype`, makes that dtype of."""
    pandas = import_module("pandas")
    if isinstance(dtype, pandas.StringDtype):
        return "str" if str(dtype) == "str" else f"string[{dtype.storage}]"
    arrow = isinstance(dtype, pandas.ArrowDtype) and str(dtype) == "string[pyarrow]"
    return _ARROW_STRING if arrow else str(dtype)


def _pandas_dtype(name):
    if name == _ARROW_STRING:
        return import_module("pandas").ArrowDtype(import_module("pyarrow").string())
    return name


def _describe_polars(series):
    polars, dtype = import_module("polars"), series.dtype
    name = dtype.base_type().__name__
    if dtype in (polars.Categorical, polars.Enum):
        return "category", name, list(dtype.categories) if name == "Enum" else None, False
    if dtype == polars.Boolean:
        return "boolean", name, None, False
    if dtype == polars.String:
        return "category", name, None, False
    if dtype.is_integer():
        return "integer", name, None, False
    return ("float" if dtype.is_float() else None), name, None, False


def _numbers(series, library, name, likelihood):
    """Floats, nan where missing."""
    try:
        if library == "pandas":
            return series.astype(object).to_numpy(dtype=np.float64, na_value=np.nan)
        if library == "polars":
            return series.cast(import_module("polars").Float64).to_numpy().astype(np.float64)
        return np.asarray(series, dtype=np.float64)
    except Exception as error:  # libraries differ in what they raise
        values = _values(series, library)
        first = next((v for v in values if v is not None and not isinstance(v, int | float)), _first(values))
        raise ValueError(_misfit(name, likelihood, first, ["categorical"])) from error


def _values(series, library):
    """A list, None where missing."""
    if library == "polars":
        return [None if isinstance(value, float) and value != value else value for value in series.to_list()]
    values = series.astype(object)
    missing = values.isna() if library else [value is None or value != value for value in values]
    return [None if gone else _ends(value) for value, gone in zip(values.tolist(), missing, strict=True)]


def _known(series, library, column):
    """The numbers of a column, None where missing; integers to the last digit."""
    numbers = _numbers(series, library, column.name, column.likelihood).tolist()
    exact, make = (_values(series, library), int) if column.family == "integer" else (numbers, float)
    return [None if number != number else make(value) for value, number in zip(exact, numbers, strict=True)]


def _as_pandas(column, values):
    pandas, dtype = import_module("pandas"), _pandas_dtype(column.dtype)
    if column.declared is not None:
        place = {value: k for k, value in enumerate(column.declared)}
        codes = [place[value] for value in values]
        return pandas.Series(pandas.Categorical.from_codes(codes, _declared_index(column), ordered=column.ordered))
    as_it_is = column.likelihood == "categorical" or column.family == "integer"
    return pandas.Series(values, dtype=dtype if as_it_is else None).astype(dtype)


def _declared_index(column):
    """The categories that a dtype of pandas declares."""
    pandas = import_module("pandas")
    if not column.dtype.startswith("interval"):
        return pandas.Index(column.declared, dtype=_pandas_dtype(column.dtype))
    closed = column.dtype[:-1].split(", ")[1]
    return pandas.IntervalIndex.from_tuples(column.declared, closed=closed, dtype=column.dtype)


def _as_polars(column, values):
    polars = import_module("polars")
    dtype = polars.Enum(column.declared) if column.declared is not None else getattr(polars, column.dtype)
    if column.family != "float" or column.likelihood == "categorical":
        return polars.Series(column.name, values, dtype=dtype)
    return polars.Series(column.name, values).cast(dtype)
