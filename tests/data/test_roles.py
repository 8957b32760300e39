"""Columns that describe samples, and those that are left out by their reason."""

import numpy as np
import pandas as pd
import pytest

from skae.data.roles import choose_columns

N = 60
RNG = np.random.RandomState(0)
X = RNG.normal(size=(N, 2))
PLAIN = {"x": X[:, 0], "y": X[:, 1]}
DATES = pd.date_range("2024-01-01", periods=N)


def chosen(*args, **columns):
    return choose_columns(pd.DataFrame(PLAIN | columns), *args)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (np.arange(N) + 1000, "identifier"),
        (RNG.permutation(N), "identifier"),
        (np.arange(N) ** 3 + 0.0, "identifier"),
        ([f"name {i}" for i in range(N)], "identifier"),
        (DATES, "date"),
        (DATES.tz_localize("UTC"), "date"),
        (DATES - DATES[0], "date"),
        (RNG.permutation(DATES.strftime("%Y%m%d").astype(int))[np.r_[0 : N - 1, 0]], "date"),
        (np.ones(N), "constant"),
        (["Ulm"] * N, "constant"),
        ([None] * N, "more than half missing"),
        ([1.5, 2] + [np.nan] * (N - 2), "more than half missing"),
        ([f"remark {i // 1.5}" for i in range(N)], "text of too many values"),
    ],
)
def test_what_describes_no_sample_is_left_out_and_named(column, reason):
    features, _, note = chosen(extra=column)
    assert list(features) == ["x", "y"]
    assert f"left out, {reason}" in note
    assert "'extra'" in note


@pytest.mark.parametrize(
    "column",
    [
        RNG.poisson(5, N),
        RNG.choice(10**6, N, replace=False),  # all different by chance
        RNG.choice(["red", "blue"], N),
        RNG.rand(N) > 0.5,
        np.where(RNG.rand(N) > 0.3, X[:, 0], np.nan),
        2000 + np.arange(N) // 3,
    ],
)
def test_measurements_are_kept(column):
    features, _, note = chosen(extra=column)
    assert list(features) == ["x", "y", "extra"]
    assert "left out" not in note


@pytest.mark.parametrize("name", ["id", "ID", "customer_no", "orderID", "row", "Index", "patient id"])
def test_names_tell_identifiers(name):
    column = RNG.choice(10**6, N, replace=False)
    assert list(chosen(**{name: column})[0]) == ["x", "y"]
    assert name in chosen(**{name: np.round(X[:, 0], 1) + 0.05})[0]  # measured


def test_identifiers_are_the_index_and_rows_are_counted_from_one():
    assert list(chosen(code=[f"c{i}" for i in range(N)])[0].index[:2]) == ["c0", "c1"]
    assert list(chosen()[0].index[:2]) == [1, 2]
    table = pd.DataFrame(PLAIN | {"when": DATES})
    assert choose_columns(table, id="when").features.index[1] == DATES[1]


def test_options_decide():
    table = pd.DataFrame(PLAIN | {"code": np.arange(N), "when": DATES, "whole": 20240101 + np.arange(N) % 28})
    features = choose_columns(table, keep=["code"], drop=["x"], dates=True).features
    assert list(features) == ["y", "code", "when", "whole"]
    assert features["when"].tolist() == list(range(N))
    assert features["whole"].max() == 27
    assert "left out, by --drop: 'x'" in choose_columns(table, drop=["x"]).note


def test_only_numeric_columns_and_complete_rows_on_request():
    table = pd.DataFrame(PLAIN | {"city": ["Ulm", "Rom"] * (N // 2)})
    table.loc[[3, 7], "x"] = np.nan
    table.loc[9, "y"] = np.inf
    assert choose_columns(table).features.isna().sum().to_dict() == {"x": 2, "y": 1, "city": 0}
    features, _, note = choose_columns(table, numeric_only=True)
    assert features.shape == (N - 3, 2)
    assert "left out, not numeric: 'city'" in note
    assert f"left out, 3 of {N} rows with missing values in: x (2), y (1)." in note


def test_rows_that_repeat_are_counted():
    said = "rows that repeat another one, and share its fold: 3 of 60."
    table = pd.DataFrame(PLAIN)
    table.loc[[9, 30, 50]] = table.loc[0].to_numpy()
    assert choose_columns(table).note.endswith(said)
    assert "repeat" not in choose_columns(pd.DataFrame(PLAIN)).note


def test_rows_without_a_target_are_left_out():
    table = pd.DataFrame(PLAIN | {"label": ["a", None, "b"] * (N // 3)})
    features, target, note = choose_columns(table, "label")
    assert len(features) == len(target) == 2 * N // 3
    assert set(target) == {"a", "b"}
    assert note.startswith("Columns: 2 of numbers; to predict: 'label'; left out, 20 of 60 rows with a missing target")


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (PLAIN, {"target": "z"}, "--target z is no column of the table. Its columns: 'x', 'y'"),
        (PLAIN, {"drop": ["z"]}, "--drop z is no column"),
        ({"x": np.ones(N)}, {}, "no column to reduce.*constant: 'x'.*--keep"),
        ({"x": [1.5, np.nan]}, {"keep": ["x"]}, "too few rows that can be used, 1"),
        (PLAIN | {"z": X[:, 0] * 1e307}, {}, r"Column 'z' has the value .*e\+307, which is too large to be squared"),
    ],
)
def test_what_cannot_be_used_is_an_error(table, options, message):
    with pytest.raises(ValueError, match=message):
        choose_columns(pd.DataFrame(table), **options)
