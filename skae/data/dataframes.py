"""Tables of NumPy, pandas and polars: types and values of their columns, and new tables with the same types.

Each library is an object with the same methods, so that other modules need not distinguish them.
"""

import re
import sys
from contextlib import contextmanager
from importlib import import_module
from numbers import Real
from typing import NamedTuple

import numpy as np

from skae._torch import to_array

# pandas prints Arrow strings with the name of another dtype.
_ARROW_STRING = "ArrowDtype(string)"
# Families of object columns, by the type that pandas infers.
_FAMILIES_OF_OBJECTS = {"boolean": "boolean", "integer": "integer", "string": "category"}
_FAMILIES_OF_OBJECTS |= dict.fromkeys(("floating", "mixed-integer-float"), "float")
# Dtypes of dates, which the names of columns may be.
_DATES = re.compile(r"(datetime64|timedelta64|period)\[[\w/+:, -]+\]")


class ColumnType(NamedTuple):
    """The type of a column.

    Attributes
    ----------
    family : "float", "integer", "boolean", "category" or None
        None if no likelihood models such values.
    dtype : str
        Name of the dtype in its library; for a categorical of pandas, the dtype of the categories.
    declared : list or None
        The categories of a categorical dtype; intervals as pairs of their ends.
    ordered : bool
        Whether the categories are ordered.
    """

    family: str | None
    dtype: str
    declared: list | None = None
    ordered: bool = False


class Arrays:
    """Numeric arrays, without names and dtypes of columns."""

    name = None
    # Pattern of the dtypes of a column.
    dtypes = re.compile("float64")

    def names(self, X):
        """Return the names of the columns of a table, a sequence."""
        return range(X.shape[1])

    def columns(self, X):
        """Return the columns of a table, as a list."""
        return list(self.without_na(np.asarray(X, dtype=getattr(X, "dtype", object))).T)

    def not_numeric(self, X):
        """Return the columns of a DataFrame whose dtype is not one of numbers, as a list."""
        return []

    def labels(self, X):
        """Return the names of the columns and of the index as plain values."""
        return X.shape[1]

    def empty(self, labels):
        """Return a table without samples that has these labels."""
        return np.empty((0, labels))

    def without_na(self, X):
        """Return X, nan where an object is pandas' NA."""
        is_object = isinstance(X, np.ndarray) and X.dtype == object and "pandas" in sys.modules
        return np.where(import_module("pandas").isna(X), np.nan, X) if is_object else X

    def dates(self, X):
        """Return a list of pairs (description, dtype) of the columns of dates or durations."""
        return [("X", X.dtype)] if isinstance(X, np.ndarray) and X.dtype.kind in "mM" else []

    def describe(self, column, dtype=None):
        """Return the type of a column; ``dtype`` is that of an array before it was cast to float."""
        kinds = {"i": "integer", "u": "integer", "b": "boolean"}
        return ColumnType(kinds.get(np.dtype(dtype or float).kind, "float"), "float64")

    def numbers(self, column):
        """Return a column as an array of float64, nan where missing; raise an error if it has text."""
        return np.asarray(column, dtype=np.float64)

    def values(self, column):
        """Return a column as a list of plain values, None where missing; intervals as pairs of their ends."""
        return [None if value is None or value != value else value for value in column.astype(object).tolist()]

    def column(self, values, column_type, precision):
        """Return a list of values as a column of this type; arrays have the dtype ``precision``."""
        return np.asarray(values, dtype=precision)

    def table(self, columns, labels):
        """Return a table of these columns."""
        return np.column_stack(columns)

    def indexed(self, table, like):
        """Return the table with the index of ``like``, if both have one."""
        return table

    def stacked(self, tables):
        """Return one table of the samples of several."""
        return np.concatenate(tables)

    def without(self, X, gone):
        """Return a table whose values are missing where ``gone`` is True, an array of its shape."""
        return np.where(gone, np.nan, X)


class DataFrames(Arrays):
    """Base class for DataFrames of all libraries."""

    def names(self, X):
        return list(X.columns)

    def dates(self, X):
        dtypes = zip(X.columns, X.dtypes, strict=True)
        return [(f"Column {name!r} of X", dtype) for name, dtype in dtypes if self.is_date(dtype)]


class Pandas(DataFrames):
    """DataFrames of pandas."""

    name = "pandas"
    dtypes = re.compile(
        r"((Sparse|interval)\[)?([Uu]?[Ii]nt\d+|[Ff]loat\d+|(half)?float|double|bool(ean)?)(\[pyarrow\]|, [\w.+-]+\])?"
        r"|[<>][fiu]\d+|object|str|(large_)?string\[\w+\]|ArrowDtype\(string\)"
    )

    def columns(self, X):
        return [X.iloc[:, j] for j in range(X.shape[1])]  # names may repeat

    def not_numeric(self, X):
        return self.columns(X.select_dtypes(exclude="number"))

    def labels(self, X):
        levels = [self._level(X.columns.get_level_values(k)) for k in range(X.columns.nlevels)]
        return {"index": X.index.name, "levels": levels}

    def _level(self, level):
        column_type = self.describe(level)
        if _DATES.fullmatch(column_type.dtype):
            level = level.astype(str)
        elif not self.dtypes.fullmatch(column_type.dtype):
            level, column_type = level.astype(object), ColumnType(None, "object")
        return {"name": level.name, "type": column_type._asdict(), "values": self.values(level)}

    def empty(self, labels):
        pandas, levels = import_module("pandas"), []
        for level in labels["levels"]:
            column_type = ColumnType(**level["type"])
            if not (_DATES.fullmatch(column_type.dtype) or self.dtypes.fullmatch(column_type.dtype)):
                raise ValueError(f"{column_type.dtype} is no dtype of names.")
            values = self.column(level["values"], column_type, None)
            levels.append(pandas.Index(values, values.dtype, name=level["name"], tupleize_cols=False))
        columns = levels[0] if len(levels) == 1 else pandas.MultiIndex.from_arrays(levels)
        return pandas.DataFrame(index=pandas.RangeIndex(0, name=labels["index"]), columns=columns)

    def without_na(self, X):
        X = X.copy(deep=False)
        filled = {j: dtype.fill_value for j, dtype in enumerate(X.dtypes) if hasattr(dtype, "fill_value")}
        for j in filled if any(value != 0 for value in filled.values()) else ():  # no matrix leaves these out
            X.isetitem(j, X.iloc[:, j].sparse.to_dense())
        for j in np.flatnonzero(X.dtypes == "object"):
            X.isetitem(j, X.iloc[:, j].to_numpy(dtype=object, na_value=np.nan))
        return X

    def is_date(self, dtype):
        return dtype.kind in "mM"

    def describe(self, column, dtype=None):
        pandas, dtype = import_module("pandas"), column.dtype
        types = pandas.api.types
        if hasattr(dtype, "fill_value") and dtype != pandas.SparseDtype(dtype.subtype):
            dtype = dtype.subtype  # its name would lose the fill value, so decoded columns are dense
        if hasattr(dtype, "categories"):
            return self._describe_categories(dtype)
        if types.is_object_dtype(dtype):
            return ColumnType(_FAMILIES_OF_OBJECTS.get(types.infer_dtype(column, skipna=True)), "object")
        tests = {"boolean": types.is_bool_dtype, "integer": types.is_integer_dtype, "float": types.is_float_dtype}
        tests["category"] = types.is_string_dtype
        return ColumnType(next((family for family, test in tests.items() if test(dtype)), None), _dtype_name(dtype))

    def _describe_categories(self, dtype):
        declared, of = [_ends(value) for value in dtype.categories.tolist()], _dtype_name(dtype.categories.dtype)
        if not all(is_category(value, of) for value in declared):
            return ColumnType(None, f"category of {of}")
        return ColumnType("category", of, declared, bool(dtype.ordered))

    def numbers(self, column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)

    def values(self, column):
        values = column.astype(object)
        return [None if gone else _ends(value) for value, gone in zip(values.tolist(), values.isna(), strict=True)]

    def column(self, values, column_type, precision):
        pandas, (family, name, declared, ordered) = import_module("pandas"), column_type
        if declared is not None:
            categories = pandas.Index(self.column(declared, column_type._replace(declared=None), precision))
            places = {value: k for k, value in enumerate(declared)}
            codes = [places.get(value, -1) for value in values]
            return pandas.Series(pandas.Categorical.from_codes(codes, categories, ordered=ordered))
        if name.startswith("interval"):
            closed = name[:-1].split(", ")[1]
            return pandas.Series(pandas.IntervalIndex.from_tuples(values, closed=closed, dtype=name))
        dtype = pandas.ArrowDtype(import_module("pyarrow").string()) if name == _ARROW_STRING else name
        return pandas.Series(values, dtype=None if family in ("float", None) else dtype).astype(dtype)

    def table(self, columns, labels):
        pandas, empty = import_module("pandas"), self.empty(labels)
        made = pandas.concat([pandas.Series(column) for column in columns], axis=1)
        made.columns, made.index.name = empty.columns, empty.index.name
        return made

    def indexed(self, table, like):
        return table.set_axis(like.index) if library_of(like) is self else table

    def stacked(self, tables):
        return import_module("pandas").concat(tables, ignore_index=True).rename_axis(index=tables[0].index.name)

    def without(self, X, gone):
        return X.mask(gone)


class Polars(DataFrames):
    """DataFrames of polars."""

    name = "polars"
    dtypes = re.compile(r"U?Int\d+|Float\d+|Boolean|String|Categorical|Enum")

    def columns(self, X):
        return X.get_columns()

    def not_numeric(self, X):
        return [column for column in self.columns(X) if not column.dtype.is_numeric()]

    labels = DataFrames.names

    def empty(self, labels):
        return import_module("polars").DataFrame(schema=labels)

    def is_date(self, dtype):
        return dtype.is_temporal()

    def describe(self, column, dtype=None):
        polars, dtype = import_module("polars"), column.dtype
        name = dtype.base_type().__name__
        if dtype in (polars.Categorical, polars.Enum, polars.String):
            return ColumnType("category", name, list(dtype.categories) if name == "Enum" else None)
        tests = {"boolean": dtype == polars.Boolean, "integer": dtype.is_integer(), "float": dtype.is_float()}
        return ColumnType(next((family for family, is_it in tests.items() if is_it), None), name)

    def numbers(self, column):
        return column.cast(import_module("polars").Float64).to_numpy().astype(np.float64)

    def values(self, column):
        return [None if value != value else value for value in column.to_list()]

    def column(self, values, column_type, precision):
        polars, (family, name, declared, _) = import_module("polars"), column_type
        dtype = getattr(polars, name) if declared is None else polars.Enum(declared)
        return polars.Series(values).cast(dtype) if family == "float" else polars.Series(values, dtype=dtype)

    def table(self, columns, labels):
        polars = import_module("polars")
        return polars.DataFrame([polars.Series(name, column) for name, column in zip(labels, columns, strict=True)])

    def stacked(self, tables):
        return import_module("polars").concat(tables)

    def without(self, X, gone):
        polars = import_module("polars")
        kept = zip(X.columns, map(polars.Series, ~gone.T), strict=True)
        return X.select(polars.when(is_kept).then(polars.col(name)).alias(name) for name, is_kept in kept)


LIBRARIES = {library.name: library for library in (Arrays(), Pandas(), Polars())}


def library_of(X):
    """Return the library of a table; that of arrays, whose name is None, for all but DataFrames."""
    modules = [cls.__module__.split(".")[0] for cls in type(X).__mro__] if hasattr(X, "columns") else []
    return LIBRARIES[next((name for name in modules if name in LIBRARIES), None)]


def has_text(X):
    """Return whether X is a DataFrame with a column of text, or of categories that are not numbers."""
    library = library_of(X)
    columns = (column for column in library.not_numeric(X) if library.describe(column).family == "category")
    return any(first_text(library.values(column)) is not None for column in columns)


def is_number(value):
    """Return whether a value can be converted to a number."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def first_text(values):
    """Return the first value that is not missing and cannot be converted to a number, or None."""
    return next((value for value in values if value is not None and not is_number(value)), None)


@contextmanager
def numbers_asked(X, asked, way_out="Pass the columns of numbers."):
    """Replace the error of a check that fails for text in X by one with the text, what is ``asked`` and a remedy."""
    try:
        yield
    except ValueError as error:
        library = library_of(X)
        for name, column in zip(library.names(X), library.columns(X), strict=True) if library.name else ():
            if (text := first_text(library.values(column))) is not None:
                raise ValueError(f"{asked}, but column {name!r} of X has {text!r}. {way_out}") from error
        raise


def unmasked(X):
    """Return X, nan where masked or NA, a tensor as an array; raise ValueError for dates, which NumPy would convert."""
    X = to_array(X)
    library = library_of(X)
    for name, dtype in library.dates(X):
        raise ValueError(
            f"{name} is of dtype {dtype}. Convert dates and durations to numbers, such as days since the first one, "
            "with nan where they are missing."
        )
    if getattr(X, "ndim", 2) > 2:
        raise ValueError(
            f"Found array with dim {X.ndim}, but X has samples in rows. Flatten images by X.reshape(len(X), -1), and "
            "pass their shape as feature_shape."
        )
    if np.ma.isMaskedArray(X) and X.dtype.kind != "c":  # complex arrays are refused elsewhere
        return X.astype(X.dtype if X.dtype.kind == "f" else np.float64).filled(np.nan)
    return library.without_na(X)


def is_category(value, dtype):
    """Return whether a value is a string, a number or, for an interval dtype, the two ends of an interval."""
    ends = value if dtype.startswith("interval") and len(value) == 2 else (value,)
    return all(isinstance(end, str | Real) for end in ends)


def _ends(value):
    """Return the ends of an interval as Python numbers, or any other value unchanged."""
    if not hasattr(value, "closed_left"):
        return value
    return tuple(getattr(end, "item", lambda end=end: end)() for end in (value.left, value.right))


def _dtype_name(dtype):
    """Return a string from which pandas, or `Pandas.column`, makes the dtype."""
    if hasattr(dtype, "pyarrow_dtype"):
        return _ARROW_STRING if str(dtype) == "string[pyarrow]" else str(dtype)
    return f"string[{dtype.storage}]" if hasattr(dtype, "storage") and str(dtype) != "str" else str(dtype)
