"""Kinds of columns: each encodes values as numbers for its likelihood or loss, and decodes them.

To add a kind, define a class and add it to `OF_LIKELIHOODS` or `BY_SUPPORT`.
"""

from collections import Counter
from dataclasses import dataclass, field
from reprlib import repr as shortened
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr
from scipy.stats import nbinom

from skae.data import quantiles
from skae.data.checks import SUPPORTS, listed
from skae.data.dataframes import ColumnType, first_text, is_category, is_number

# Dispersions of negative binomials to which "auto" compares integers: those that the likelihood can have.
_DISPERSIONS = np.exp(np.linspace(-7, 5, 49))
# A column with more categories than this, and than half of its samples, is an identifier.
_MOST_OF_IDENTIFIERS = 100
_SMALLEST = np.finfo(np.float64).smallest_subnormal
# Scores have variance 1, so among n samples none is beyond the square root of n.
_LARGEST_SCORE = 1e6


class GraphColumn(NamedTuple):
    """A named input or output of an exported graph, of one or several columns.

    Attributes
    ----------
    name : str
    width : int
    kind : "float", "integer", "boolean" or "text"
    values : list or None
        The categories, if it is a column of categories.
    """

    name: str
    width: int = 1
    kind: str = "float"
    values: list | None = None

    @classmethod
    def of_categories(cls, name, values):
        """Return the column of these categories."""
        kinds = {str: "text", bool: "boolean", int: "integer", float: "float"}
        kind = kinds.get(type(values[0])) if len({*map(type, values)}) == 1 else None
        if kind is None:
            raise ValueError(
                f"The categories of {name!r} are {listed(values)}: a graph takes strings, numbers of one type or "
                "bools. Convert them before fitting."
            )
        return cls(name, 1, kind, values)

    @property
    def numbers(self):
        """The categories as numbers; strings are replaced by their index."""
        return list(range(len(self.values))) if self.kind == "text" else [float(value) for value in self.values]


@dataclass(frozen=True)
class Column:
    """A column of a table: its type and its encoding.

    A subclass defines:

    - ``fit(name, kind, column_type, column, library)``, which learns from a column of training samples.
    - ``encode(column, library, handle_unknown)``, which returns numbers (n, width), nan where a value is missing.
    - ``decode(block)``, which returns a list of values.
    - ``extremes()``, which returns values that need the whole range of the dtype.
    - ``graph_column(name)``, which returns the column of an exported graph.

    Attributes
    ----------
    name : object
    kind : str
        Name of the class in its `Kinds`.
    type : ColumnType
    width : int
        Number of columns that encode it.
    link : str
        Link from the mean of an encoded column to the network's input.
    families : tuple of str
        Types that a column of this kind may have.
    outside : callable
        Maps numbers to a mask of those outside the domain of the likelihood or loss.
    """

    name: object
    kind: str
    type: ColumnType

    width = 1
    link = "identity"
    families = ("float", "integer", "boolean")
    outside = staticmethod(lambda x: np.True_)

    @classmethod
    def misfit(cls, column, library):
        """Return a value of a column that is outside the domain of the likelihood or loss, or None."""

    @property
    def labels(self):
        """Names of the columns that encode it."""
        return [self.name]

    def log_slope(self, block):
        """Return the log-slope of the encoding at each of these encoded values; 0 where missing."""
        return 0.0

    def refitted(self, block):
        """Return the column fitted to encoded values (n, width), if it was constant and these differ from it."""
        return self

    def encode_again(self, block, before):
        """Return values that the column ``before`` encoded as this column encodes them."""
        return block

    def to_state(self):
        """Return a dict of plain values and arrays, without the name."""
        return {key: value for key, value in vars(self).items() if key != "name"} | {"type": self.type._asdict()}

    def faults(self, library):
        """Yield the faults of a column from a file: pairs of an attribute and what is wrong with it."""
        family, dtype, _, ordered = self.type
        if family not in self.families or type(ordered) is not bool:
            yield "the type of a column", f"is {shortened(self.type)}, which is not {' or '.join(self.families)}"
        if not library.dtypes.fullmatch(dtype):
            yield "dtype", f"of a column is {shortened(dtype)}, which is none of {library.name}'s"


@dataclass(frozen=True)
class NumberColumn(Column):
    """A numeric or boolean column.

    Attributes
    ----------
    low, high : float, or int if all values are whole
        Range of the training samples. If they are whole numbers, decoded values are, too.
    is_observed : bool
        Whether a training sample had a value; if not, the range is 0.
    needs : str
        The domain of the likelihood or loss, for messages.
    """

    low: float
    high: float
    is_observed: bool = field(default=True, kw_only=True)

    needs = "finite numbers"
    outside = staticmethod(np.isinf)

    @classmethod
    def fit(cls, name, kind, column_type, column, library):
        x = library.numbers(column)
        is_observed = not np.isnan(x).all()
        x = x[~np.isnan(x)] if is_observed else np.zeros(1)  # a column without values is filled with 0
        low, high = float(x.min()), float(x.max())
        learnt = cls._learn(name, x, low, high)
        if (np.floor(x) == x).all():  # also of floats: pandas makes floats of integers if some are missing
            whole = [int(value) for value in _observed(library.values(column)) or [0]]  # x may not be exact
            low, high = min(whole), max(whole)
        return cls(name, kind, column_type, low, high, *learnt, is_observed=is_observed)

    @property
    def is_whole(self):
        """Whether all values of training samples are whole numbers."""
        return type(self.low) is int

    def graph_column(self, name):
        return GraphColumn(name, 1, self.type.family)

    def graph_maps(self):
        """Return points of the piecewise linear map from values to encoded values, and of its inverse: (2, n) each."""
        return _line(0.0, 1.0)

    @classmethod
    def misfit(cls, column, library):
        try:
            x = library.numbers(column)
        except Exception:  # libraries differ in what they raise
            return first_text(library.values(column))
        outside = cls.outside(x)
        return x[outside.argmax()].item() if outside.any() else None

    @classmethod
    def _learn(cls, name, x, low, high):
        """Return further attributes of a subclass, learned from values x."""
        return ()

    def encode(self, column, library, handle_unknown):
        if (value := self.misfit(column, library)) is not None:
            raise ValueError(
                f"Column {self.name!r} needs {self.needs}, but the column has {value!r}. Correct such values, or make "
                "them nan, which is taken as missing."
            )
        return self._scores(library.numbers(column))[:, None]

    def decode(self, block, like=None, library=None):
        """Return decoded values, a list; observed values of the column ``like`` replace them."""
        family, x = self.type.family, self._values(block[:, 0].astype(np.float64))
        x = np.round(x) if self.is_whole else x
        values = np.clip(x, float(self.low), float(self.high)).tolist()
        if family == "integer":  # the bounds may not be exact as floats
            values = [min(max(int(value), self.low), self.high) for value in values]
        if like is not None:
            known = zip(library.numbers(like).tolist(), library.values(like), values, strict=True)
            # Integers are kept exactly.
            values = [v if x != x else int(exact) if family == "integer" else x for x, exact, v in known]
        return [value >= 0.5 for value in values] if family == "boolean" else values

    def refitted(self, block):
        x = self._values(block[~np.isnan(block)])
        if self.low != self.high or not len(x) or (self.is_observed and (x == self.low).all()):
            return self
        x = np.append(x, float(self.low)) if self.is_observed else x
        low, high = float(x.min()), float(x.max())
        learnt = self._learn(self.name, x, low, high)
        if self.is_whole and (np.floor(x) == x).all():
            low, high = int(low), int(high)
        return type(self)(self.name, self.kind, self.type, low, high, *learnt)

    def encode_again(self, block, before):
        return self._scores(before._values(block))

    def _scores(self, x):
        """Encode numbers: (n,) -> (n,)."""
        return x

    def _values(self, scores):
        """Decode numbers: (n,) -> (n,)."""
        return scores

    def extremes(self):
        return self.decode(np.array([[-np.inf], [np.inf]]))

    def faults(self, library):
        yield from super().faults(library)
        ends = self.low, self.high
        if type(self.is_observed) is not bool or not (self.is_observed or ends == (0, 0)):
            yield "is_observed", f"of a column is {shortened(self.is_observed)}, with values from {shortened(ends)}"
        of_one_type = {*map(type, ends)} in ([{int}, {float}] if self.type.family == "float" else [{int}])
        if not (of_one_type and -np.inf < self.low <= self.high < np.inf and self.type.declared is None):
            yield "low and high", f"of a column are {shortened(ends)}, which is no range"


@dataclass(frozen=True)
class ContinuousColumn(NumberColumn):
    """A column that is mapped to a normal distribution by a monotone map.

    Attributes
    ----------
    knots, steps : ndarray of shape (2, n_knots) and (2, n_steps)
        The map and its inverse, see `skae.data.quantiles`.
    """

    knots: np.ndarray
    steps: np.ndarray

    @classmethod
    def _learn(cls, name, x, low, high):
        _check_range(name, low, high)
        return quantiles.fit_quantiles(x)

    def _scores(self, x):
        return quantiles.to_scores(x, self.knots)

    def _values(self, scores):
        if self.low == self.high:
            return scores * quantiles.unit_of_constant(float(self.low))
        return np.interp(scores, *self.steps)

    def graph_maps(self):
        is_constant = self.low == self.high
        return _line(0.0, quantiles.unit_of_constant(float(self.low))) if is_constant else (self.knots, self.steps)

    def log_slope(self, block):
        return quantiles.log_slope(block.astype(np.float64), self.knots)

    def faults(self, library):
        yield from super().faults(library)
        for name, array, least in (("knots", self.knots, _SMALLEST), ("steps", self.steps, 0)):  # steps may be flat
            are_numbers = array.dtype == np.float64 and array.shape == (2, array.shape[1]) and np.isfinite(array).all()
            if not (are_numbers and array.size and (np.diff(array) >= least).all()):
                yield name, "of a column do not rise"
        if not np.isfinite(self.log_slope(self.knots[1])).all():
            yield "knots", "of a column have a slope that floating point cannot hold"
        if max(np.abs(self.knots[1]).max(), np.abs(self.steps[0]).max()) > _LARGEST_SCORE:
            yield "knots and steps", f"of a column have scores beyond {_LARGEST_SCORE:g}, though their variance is 1"


@dataclass(frozen=True)
class StandardColumn(NumberColumn):
    """A column that is standardised.

    Attributes
    ----------
    mean, deviation : float
        Of the training samples; the latter is 1 if the column is constant.
    """

    mean: float
    deviation: float

    @classmethod
    def _learn(cls, name, x, low, high):
        _check_range(name, low, high)
        unit = max(abs(low), abs(high)) or 1.0  # squares could overflow or underflow
        return float((x / unit).mean() * unit), float((x / unit).std() * unit) or 1.0

    def _scores(self, x):
        return (x - self.mean) / self.deviation

    def _values(self, scores):
        return scores * self.deviation + self.mean

    def graph_maps(self):
        return _line(self.mean, self.mean + self.deviation)

    def faults(self, library):
        yield from super().faults(library)
        numbers = self.mean, self.deviation
        if {*map(type, numbers)} != {float} or not (np.isfinite(self.mean) and 0 < self.deviation < np.inf):
            yield "mean and deviation", f"of a column are {shortened(numbers)}, which scale nothing"


class BinaryColumn(NumberColumn):
    """A boolean column, or one of numbers in [0, 1]."""

    link = "logit"
    needs = "bools or numbers in [0, 1]"
    outside = staticmethod(lambda x: (x < 0) | (x > 1))


class RateColumn(NumberColumn):
    """A column of numbers of at least 0."""

    link = "log"
    needs = "finite numbers of at least 0"
    outside = staticmethod(lambda x: np.isinf(x) | (x < 0))


class CountColumn(NumberColumn):
    """A column of counts."""

    link = "log"
    needs = "counts, integers of at least 0"
    outside = staticmethod(lambda x: np.isinf(x) | SUPPORTS["counts"].outside(x))


@dataclass(frozen=True)
class CategoryColumn(Column):
    """A categorical column, one-hot encoded.

    Attributes
    ----------
    categories : list
        Categories of the training samples; intervals as pairs of their ends.
    """

    categories: list

    link = "log"
    families = ("category",)

    @property
    def width(self):
        return len(self.categories)

    @property
    def labels(self):
        return [f"{self.name} = {value}" for value in self.categories]

    @classmethod
    def fit(cls, name, kind, column_type, column, library):
        present, declared = set(_observed(library.values(column))), column_type.declared
        categories = [value for value in declared if value in present] if declared else sorted(present)
        return cls(name, kind, column_type._replace(family="category"), categories)

    def encode(self, column, library, handle_unknown):
        values, index = library.values(column), {value: k for k, value in enumerate(self.categories)}
        found = np.array([-2 if value is None else index.get(value, -1) for value in values], dtype=int)
        if handle_unknown == "error" and (found == -1).any():
            raise ValueError(
                f"Column {self.name!r} of X has {values[int((found == -1).argmax())]!r}, a category that is not in "
                "the training samples. Set handle_unknown='ignore' to take it as missing, or leave out such samples."
            )
        block = (found[:, None] == np.arange(self.width)).astype(np.float64)
        block[found < (-1 if handle_unknown == "indicate" else 0)] = np.nan
        return block

    def decode(self, block, like=None, library=None):
        """Return the most probable category of each sample, a list."""
        return [self.categories[k] for k in block.argmax(axis=1)]

    def graph_column(self, name):
        return GraphColumn.of_categories(name, self.categories)

    def extremes(self):
        return self.categories if self.type.declared is None else self.type.declared

    def faults(self, library):
        yield from super().faults(library)
        for values in (self.categories, self.extremes()):
            are_known = type(values) is list and all(is_category(value, self.type.dtype) for value in values)
            if not (are_known and 0 < len(values) == len(set(values))):
                yield "categories", f"of a column are {shortened(values)}, not strings or numbers, each there once"
        if not set(self.categories) <= set(self.extremes()):
            yield "categories", "of a column are not among those that its dtype declares"


class IndicatorColumn(CategoryColumn):
    """A categorical column, one-hot encoded, whose indicators count as in factor analysis of mixed data."""

    link = "indicator"


class Kinds(NamedTuple):
    """Kinds of columns that a parameter of an estimator selects by name.

    Attributes
    ----------
    parameter : "likelihood" or "loss"
    attribute : str
        The fitted attribute that holds the selected kinds.
    columns : dict of str to type
        Subclasses of `Column` by name, in the order of the encoded columns.
    auto : dict of str to str
        The name that "auto" selects for "float", "boolean", "category" and "counts".
    value : str, default=None
        The parameter's value, if it is one for all columns; the names in ``columns`` are then internal.
    """

    parameter: str
    attribute: str
    columns: dict
    auto: dict
    value: str | None = None

    def chosen(self, name):
        """Return the value of the parameter for a kind."""
        return self.value or name

    def fit(self, name, kind, column, library, dtype=None):
        """Fit a `Column` to a column of training samples.

        Parameters
        ----------
        name : object
        kind : str
            A name of ``columns``, or "auto".
        column : ndarray or Series
        library : Arrays, Pandas or Polars
        dtype : dtype, default=None
            Dtype of an array before it was cast to float.

        Returns
        -------
        Column
        """
        column_type, values = library.describe(column, dtype), _observed(library.values(column))
        is_text = self.auto["category"] == kind
        if not values and (column_type.family not in NumberColumn.families or is_text):
            raise ValueError(f"In column {name!r} of X every value is missing. Drop such columns before fitting.")
        if column_type.family is None or not library.dtypes.fullmatch(column_type.dtype):
            raise ValueError(
                f"Column {name!r} of X is of dtype {column_type.dtype}, and has {_odd_one(values)!r}: no "
                f"{self.parameter} takes such values, or values of several types. Convert all to numbers, bools, "
                "categories or strings, or drop the column."
            )
        if kind == "auto":
            kind = self._automatic(name, column_type.family, library.numbers, column, values)
        self._check_fits(name, kind, column_type.family, library, column, values)
        return self.columns[kind].fit(name, kind, column_type, column, library)

    def _automatic(self, name, family, numbers, column, values):
        """Return the name of a kind that suits a column's type and values."""
        if family == "integer":
            family = _role_of_integers(numbers(column)) if values else "float"
        n_categories = len(set(values)) if family == "category" else 0
        if n_categories > max(_MOST_OF_IDENTIFIERS, len(values) / 2):
            insist = f", or set {self.parameter}={{{name!r}: {self.auto[family]!r}}} to use it as it is"
            raise ValueError(
                f"Column {name!r} of X has {n_categories} categories in {len(values)} samples, such as {values[0]!r}: "
                "it looks like an identifier or free text. Drop it or merge categories"
                f"{insist if self.value is None else ''}."
            )
        return self.auto[family]

    def _check_fits(self, name, kind, family, library, column, values):
        """Check that the values of a column are in the domain of its likelihood or loss."""
        of_kind = self.columns[kind]
        of_text = family == "category" and family not in of_kind.families
        value = values[0] if of_text else of_kind.misfit(column, library)
        if value is None:
            return
        suitable = [self.auto["category"]]
        if is_number(value) and not of_text:
            suitable = [other for other, of_other in self.columns.items() if of_other.misfit(column, library) is None]
            suitable = [other for other in suitable if family != "float" or other != self.auto["category"]]
        way_out = f"Use {' or '.join(map(repr, suitable))} for it." if suitable else "Drop or replace such values."
        raise ValueError(
            f"{self.parameter} {self.chosen(kind)!r} of column {name!r} needs {of_kind.needs}, but the column has "
            f"{value!r}. {way_out}"
        )


OF_LIKELIHOODS = Kinds(
    "likelihood",
    "likelihoods_",
    {
        "gaussian": ContinuousColumn,
        "bernoulli": BinaryColumn,
        "poisson": CountColumn,
        "negative_binomial": CountColumn,
        "categorical": CategoryColumn,
    },
    {"float": "gaussian", "boolean": "bernoulli", "counts": "negative_binomial", "category": "categorical"},
)

# Kinds by the ``support`` of their loss.
BY_SUPPORT = {
    "real": StandardColumn,
    "unit_interval": BinaryColumn,
    "non_negative": RateColumn,
    "counts": CountColumn,
    "categories": IndicatorColumn,
}


def kinds_of_losses(supports):
    """Return the `Kinds` of losses with these supports, a dict of str to str."""
    auto = {"float": "squared_error", "boolean": "log_loss", "counts": "poisson", "category": "cross_entropy"}
    return Kinds("loss", "losses_", {name: BY_SUPPORT[support] for name, support in supports.items()}, auto)


def kinds_in_own_units(loss):
    """Return the `Kinds` of numbers in their own units and of indicators, which have the same loss."""
    auto = dict.fromkeys(("float", "boolean", "counts"), "number") | {"category": "indicator"}
    return Kinds("loss", "losses_", {"number": NumberColumn, "indicator": IndicatorColumn}, auto, loss)


def column_from_state(name, state, kinds, library, fault):
    """Return the column of a state from `Column.to_state`, after checks; ``fault`` makes the error if one fails."""
    try:
        column = kinds.columns[state["kind"]](name, **state | {"type": ColumnType(**state["type"])})
        wrong = next(column.faults(library), None)
        if wrong is None:
            values = column.extremes()
            made = library.column(values, column.type, np.float64)
            if library.describe(made).family is None or library.values(made) != values:
                wrong = "a column of the table", f"has values that are none of {column.type.dtype}"
    except Exception as error:  # values of wrong types may raise anything
        wrong = "a column of the table", f"is not what it should be ({error!r})"
    if wrong is not None:
        raise fault(*wrong)
    return column


def _line(zero, one):
    """Return points of the line that maps one number to 0 and another to 1, and of its inverse: (2, 2) each."""
    points = np.array([[zero, one], [0.0, 1.0]])
    return points, points[::-1].copy()


def _check_range(name, low, high):
    """Check that a column can be scaled by its range."""
    if not quantiles.can_be_divided(low, high):
        raise ValueError(
            f"Column {name!r} of X goes from {low:g} to {high:g}, a range that overflows or underflows. Rescale it "
            "by a constant."
        )


def _role_of_integers(x):
    """Return "counts" for integers that a negative binomial describes at least as well as rounded normal scores.

    The log-likelihoods are compared, minus the cost of further parameters (Schwarz 1978, Annals of Statistics 6,
    461-464). Other integers are "boolean" if they are 0 and 1, else "float": years, grades, amounts. So are numbers
    too large for halves.
    """
    x = x[~np.isnan(x)]
    values, n = np.unique(x, return_counts=True)
    if values[0] < 0 or np.spacing(values[-1]) > 0.25:  # halves are added
        return "float"
    if len(values) == 1:
        return "counts" if values[0] == 0 else "float"
    knots, (scores, steps) = quantiles.fit_quantiles(x)
    below = np.interp(values - 0.5, steps, scores, left=-np.inf)
    above = np.interp(values + 0.5, steps, scores, right=np.inf)
    rounded = n @ np.log((ndtr(above) - ndtr(below)).clip(_SMALLEST))
    sizes = 1 / _DISPERSIONS[:, None]
    counts = max(nbinom.logpmf(values, sizes, sizes / (sizes + x.mean())) @ n)
    if counts >= rounded - np.log(len(x)) * (knots.shape[1] - 1) / 2:
        return "counts"
    return "boolean" if np.array_equal(values, [0, 1]) else "float"


def _observed(values):
    return [value for value in values if value is not None]


def _odd_one(values):
    """Return a value of the rarest type; of two equally rare types, of the one that is not numeric."""
    counts = Counter(map(type, values))
    return min(values, key=lambda value: (counts[type(value)], is_number(value)))
