"""Which columns of a table describe a sample, and which do not: identifiers, dates, constants.

To add a reason to leave a column out, define a property of `_Column` and add it to `_REASONS`.
"""

import re
from typing import NamedTuple

import numpy as np

from skae.data.checks import listed

_MOST_MISSING = 0.5
# Text of more different values than this, or than half of the samples, is no category.
_MOST_CATEGORIES = 100
# Names of identifiers, in words or as part of one: "id", "customer_no", "orderID".
_IDENTIFIER = re.compile(
    r"(?:.*[_ .-])?(?i:id|uuid|guid|index|key|nr|no|row ?names?|row|number)|.*[a-z](?:ID|Id|Nr|No)"
)
# Of n whole numbers drawn from a range of less than this share of n squared, some are alike, 99 times in 100.
_DENSE = 1 / 9.2
# A larger value cannot be squared and summed.
_LARGEST = 1e150


class Columns(NamedTuple):
    """The columns of a table by what they are for.

    Attributes
    ----------
    features : DataFrame
        Its index are the identifiers of the samples, or the numbers of the rows, from 1.
    target : Series or None
    note : str
        What is used and what was left out, in a line.
    """

    features: object
    target: object
    note: str


class _Column(NamedTuple):
    """A column: its name, the Series, and an array of the values that are not missing."""

    name: str
    series: object
    known: np.ndarray

    @classmethod
    def of(cls, table):
        """Return the columns of a table."""
        return [cls(str(name), column, column.dropna().to_numpy()) for name, column in table.items()]

    @property
    def kind(self):
        return self.series.dtype.kind

    @property
    def is_text(self):
        return self.kind not in "iufbmMc"

    @property
    def is_not_numeric(self):
        return self.kind not in "iufb"

    @property
    def is_whole(self):
        """Whether the values are whole numbers."""
        return self.kind in "iuf" and bool((np.floor(self.known) == self.known).all())

    @property
    def n_values(self):
        return self.series.nunique()

    @property
    def is_identifier(self):
        """Whether the values tell samples apart: texts, or whole numbers that would not all differ by chance."""
        n = len(self.known)
        if n < 3 or not (self.is_text or self.is_whole):
            return False
        if _IDENTIFIER.fullmatch(self.name):
            return self.n_values > n / 2
        is_unlikely = self.is_text or np.ptp(self.known) < _DENSE * n**2 or len(set(np.sign(np.diff(self.known)))) == 1
        return is_unlikely and self.n_values == n

    @property
    def is_date(self):
        """Whether the values are dates, durations, or whole numbers such as 20241231."""
        if self.kind in "mM":
            return True
        is_in_range = self.is_whole and len(self.known) > 0 and self.known.min() >= 19_000_101
        return is_in_range and self.known.max() <= 21_001_231 and bool(self.days().notna().all())

    def days(self):
        """Return dates as days since the first, a Series."""
        import pandas as pd

        dates = self.series.dropna()
        if self.kind not in "mM":
            dates = pd.to_datetime(dates.map("{:.0f}".format), format="%Y%m%d", errors="coerce")
        return ((dates - dates.min()) / pd.Timedelta(days=1)).reindex(self.series.index)

    @property
    def is_mostly_missing(self):
        return len(self.known) < (1 - _MOST_MISSING) * len(self.series)

    @property
    def is_constant(self):
        return self.n_values < 2

    @property
    def is_free_text(self):
        return self.is_text and self.n_values > min(_MOST_CATEGORIES, len(self.known) / 2)


# Reasons to leave a column out, the first that holds.
_REASONS = {
    "more than half missing": _Column.is_mostly_missing,
    "constant": _Column.is_constant,
    "date (--dates uses dates as day numbers)": _Column.is_date,
    "identifier": _Column.is_identifier,
    "text of too many values": _Column.is_free_text,
}
_ONLY_NUMERIC = {"not numeric": _Column.is_not_numeric}


def choose_columns(table, target=None, *, drop=(), keep=(), id=None, dates=False, numeric_only=False):
    """Choose the columns that describe a sample.

    Parameters
    ----------
    table : DataFrame
    target : str, default=None
        Column to predict; samples without a value are left out.
    drop, keep : sequence of str, default=()
        Columns to leave out in any case, or in none.
    id : str, default=None
        Column that identifies samples; None takes the first that is found to.
    dates : bool, default=False
        Convert dates to day numbers; otherwise they are left out.
    numeric_only : bool, default=False
        Leave out columns that are not numeric, and samples with missing values.

    Returns
    -------
    Columns

    Raises
    ------
    ValueError
        If a name is no column, or too little is left.
    """
    targets, ids = [target] if target else [], [id] if id else []
    for option, names in {"--target": targets, "--drop": drop, "--keep": keep, "--id": ids}.items():
        if unknown := [name for name in names if name not in table]:
            raise ValueError(f"{option} {unknown[0]} is no column of the table. Its columns: {listed(table.columns)}.")
    if len(table) < 2:
        raise ValueError(f"The table has too few rows that can be used, {len(table)}.")
    features = table.drop(columns=[*targets, *drop, *ids])
    reasons, found = _REASONS | (_ONLY_NUMERIC if numeric_only else {}), {}
    days = {column.name: column.days() for column in _Column.of(features) if dates and column.is_date}
    features = features.assign(**days)
    for column in _Column.of(features.drop(columns=[name for name in {*keep, *days} if name in features])):
        if reason := next((text for text, holds in reasons.items() if holds.fget(column)), None):
            found.setdefault(reason, []).append(column.name)
    features = features.drop(columns=[name for names in found.values() for name in names])
    left_out = found | ({"by --drop": list(drop)} if drop else {}) | ({"by --id": ids} if ids else {})
    predicted = [f"to predict: {target!r}"] if target else []
    note = "; ".join(
        [_counted(features), *predicted, *(f"left out, {why}: {listed(names)}" for why, names in left_out.items())]
    )
    if features.shape[1] == 0:
        raise ValueError(f"The table has no column to reduce. {note}. --keep NAME uses one all the same.")
    identifiers = [*ids, *found.get("identifier", [])]
    index = table[identifiers[0]].to_numpy() if identifiers else np.arange(1, len(table) + 1)
    labels = table[target].set_axis(index) if target else None
    return _usable_samples(_finite(features).set_axis(index), labels, numeric_only, note)


def _counted(features):
    """Return how many columns there are of numbers, and of categories."""
    n_texts = sum(column.is_not_numeric for column in _Column.of(features))
    return f"Columns: {features.shape[1] - n_texts:,} of numbers" + f", {n_texts} of categories" * bool(n_texts)


def _finite(features):
    """Return features with infinite values as missing ones, after a check for values that are too large."""
    numbers = features.select_dtypes("number")
    finite = numbers.replace([np.inf, -np.inf], np.nan)
    if len(huge := numbers.columns[(finite.abs() > _LARGEST).any()]):
        raise ValueError(
            f"Column {huge[0]!r} has the value {finite[huge[0]].abs().max():g}, which is too large to be squared. "
            "Correct it, or leave the column out with --drop."
        )
    return finite[features.columns] if numbers.shape == features.shape else features.assign(**finite)


def _usable_samples(features, labels, numeric_only, note):
    """Leave out the samples that cannot be used."""
    is_missing = features.isna()
    unusable = {"all values missing": is_missing.all(axis=1)}
    if labels is not None:
        unusable["a missing target"] = labels.isna()
    if numeric_only:
        where = ", ".join(f"{name} ({count})" for name, count in is_missing.sum().items() if count)
        unusable[f"missing values in: {where}"] = is_missing.any(axis=1)
    usable = ~np.any(list(unusable.values()), axis=0)
    n_lost = {text: int(mask.sum()) for text, mask in unusable.items()}
    lost = "; ".join(
        [note, *(f"left out, {n:,} of {len(features):,} rows with {why}" for why, n in n_lost.items() if n)]
    )
    if usable.sum() < 2:
        raise ValueError(f"The table has too few rows that can be used, {usable.sum()}. {lost}.")
    if n_repeats := int(features[usable].duplicated().sum()):
        lost += f"; rows that repeat another one, and share its fold: {n_repeats:,} of {usable.sum():,}"
    return Columns(features[usable], None if labels is None else labels[usable], f"{lost}.")
