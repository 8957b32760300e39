"""Tables are numbers to a net, and come back as what they were."""

import pickle
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.integrate import quad
from sklearn.base import BaseEstimator

from skae.data import rows as source
from skae.data.checks import SUPPORTS
from skae.data.columns import OF_LIKELIHOODS
from skae.data.tables import ArrayTable, TableEncoder

pl = pytest.importorskip("polars")


def columns(n=300, seed=0):
    """Columns that one number ties together, as NumPy arrays."""
    rng = np.random.RandomState(seed)
    z = rng.normal(size=n)
    return {
        "income": np.exp(2 * z + 0.3 * rng.normal(size=n)),
        "debt": np.where(z > 0, 0.0, rng.gamma(2.0, size=n)),
        "member": z + rng.normal(size=n) > 0,
        "city": np.array(["Oslo", "Rome", "Bonn"])[np.digitize(z, [-0.5, 0.5])],
        "job": np.array(["clerk", "smith"])[(z + rng.normal(size=n) > 0.3).astype(int)],
        "visits": rng.poisson(np.exp(z)),
        "change": np.round(3 * z).astype(int),
    }


def table(library="pandas", n=300, seed=0):
    made = columns(n, seed)
    if library == "pandas":
        city = pd.Categorical(made["city"], categories=["Rome", "Oslo", "Bonn", "Nowhere"], ordered=True)
        return pd.DataFrame(made | {"city": city}).astype({"visits": "int16", "debt": "float32"})
    frame = pl.DataFrame(made).with_columns(pl.col("city").cast(pl.Enum(["Rome", "Oslo", "Bonn", "Nowhere"])))
    return frame.with_columns(pl.col("visits").cast(pl.UInt8), pl.col("job").cast(pl.Categorical))


def fault(name, what):
    return ValueError(f"damaged: {name} {what}")


def encoded(X, likelihood="auto", **parameters):
    encoder = TableEncoder(likelihood, **parameters).fit(X)
    return encoder, encoder.encode(X)


def restored(table, state=None):
    """A table made of a state that has been in a file."""
    state = pickle.loads(pickle.dumps(table.to_state() if state is None else state))
    fresh = TableEncoder() if table.kind == "encoder" else ArrayTable("loss", "squared_error", SUPPORTS["real"])
    return fresh.restore(state, fault)


def assert_same(made, X):
    if isinstance(X, pd.DataFrame):
        pd.testing.assert_frame_equal(made, X)
    else:
        assert made.schema == X.schema
        assert made.equals(X)


# Columns of all dtypes.

PANDAS = {
    "float64": [0.5, -1.25, 3.0],
    "float32": [0.5, -1.25, 3.0],
    "float16": [0.5, -1.25, 3.0],
    ">f8": [0.5, -1.25, 3.0],
    "Sparse[float64, nan]": [0.5, -1.25, 3.0],
    "Float64": [0.5, -1.25, 3.0],
    "double[pyarrow]": [0.5, -1.25, 3.0],
    "float[pyarrow]": [0.5, -1.25, 3.0],
    "halffloat[pyarrow]": [0.5, -1.25, 3.0],
    "int8": [0, 1, 5],
    "int64": [0, -1, 5],
    "uint16": [0, 1, 5],
    "<i4": [0, 1, 5],
    "Sparse[int64, 0]": [0, 1, 5],
    "Int32": [0, 1, 5],
    "int64[pyarrow]": [0, 1, 5],
    "bool": [True, False, True],
    "boolean": [True, False, True],
    "bool[pyarrow]": [True, False, True],
    "Sparse[bool, False]": [True, False, True],
    "object": ["a", "b", "c"],
    "str": ["a", "b", "c"],
    "string[python]": ["a", "b", "c"],
    "string[pyarrow]": ["a", "b", "c"],
    "large_string[pyarrow]": ["a", "b", "c"],
    "category": ["a", "b", "c"],
}


@pytest.mark.parametrize("likelihood", ["auto", "categorical"])
@pytest.mark.parametrize("dtype", PANDAS)
def test_pandas_columns_come_back(dtype, likelihood):
    X = pd.DataFrame({"x": pd.Series(PANDAS[dtype] * 4, index=range(5, 17), dtype=dtype)})
    encoder, rows = encoded(X, likelihood)
    assert rows.shape == (12, encoder.width)
    assert_same(encoder.decode(rows, like=X), X)
    assert_same(encoder.decode(rows), X.reset_index(drop=True))
    assert_same(restored(encoder).decode(rows), X.reset_index(drop=True))


@pytest.mark.parametrize("values", [[1.5, 2, 1], [1, 2, 3], [True, False, True], ["x", "y", "x"], [0.5, 1.5]])
def test_objects_of_one_type_come_back(values):
    X = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    encoder, rows = encoded(X)
    assert_same(encoder.decode(rows), X)


@pytest.mark.parametrize("values", [[1, 2, 1], [True, False, True], ["x", "y", "x"], [0.5, 1.5, 0.5]])
def test_categories_of_any_kind_come_back(values):
    X = pd.DataFrame({"x": pd.Categorical(values, categories=sorted(set(values), reverse=True), ordered=True)})
    encoder, rows = encoded(X)
    assert_same(encoder.decode(rows), X)


def test_categories_keep_their_dtype():
    dtypes = ["int8", "float32", "Int64", "bool", "object", "string[python]"]
    values = [pd.Series([0, 1, 0], dtype=dtype) for dtype in dtypes[:-2]]
    values += [pd.Series(["a", "b", "a"], dtype=dtype) for dtype in dtypes[-2:]]
    numbers = pd.Series([1, 2, 9])
    cuts = [pd.cut(numbers, 2), pd.cut(numbers, [0, 1, 9, 99]), pd.cut(numbers, [1, 2, 9, 99], right=False)]
    X = pd.DataFrame({k: pd.Categorical(column) for k, column in enumerate([*values, *cuts])})
    encoder, rows = encoded(X)
    assert_same(encoder.decode(rows), X)
    assert_same(restored(encoder).decode(rows), X)


def test_strings_of_arrow_come_back():
    pa = pytest.importorskip("pyarrow")
    X = pd.DataFrame({"x": pd.Series(["a", "", "b"], dtype=pd.ArrowDtype(pa.string()))})
    encoder, rows = encoded(X)
    assert_same(encoder.decode(rows), X)


HUGE = {
    "uint64": [0, 2**64 - 1, 2**63 + 1],
    "int64": [-(2**63), 2**63 - 1, 0],
    "UInt64": [0, 2**64 - 1, None],
    "Int64": [2**60 + 1, 2**60 + 2, None],
}


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("dtype", HUGE)
def test_huge_integers_keep_dtype_range_and_last_digit(dtype, library):
    X, known = pd.DataFrame({"x": pd.Series(HUGE[dtype], dtype=dtype)}), [v for v in HUGE[dtype] if v is not None]
    if library == "polars":
        X = pl.DataFrame({"x": pl.Series(HUGE[dtype], dtype={"u": pl.UInt64, "i": pl.Int64}[dtype[0].lower()])})
    encoder, rows = encoded(X)
    drawn = encoder.decode(np.random.RandomState(0).normal(size=(50, encoder.width)))
    assert min(known) <= min(drawn["x"].to_list()) <= max(drawn["x"].to_list()) <= max(known)
    filled = encoder.decode(np.where(np.isnan(rows), 0, rows), like=X)["x"]
    assert filled.dtype == X["x"].dtype
    assert [after for after, before in zip(filled.to_list(), HUGE[dtype], strict=True) if before is not None] == known


POLARS = [
    pl.Series("x", [0.5, -1.25, 3.0], pl.Float64),
    pl.Series("x", [0.5, -1.25, 3.0], pl.Float32),
    *(pl.Series("x", [0, 1, 5], dtype) for dtype in (pl.Int8, pl.Int64, pl.UInt32)),
    pl.Series("x", [0, -1, 5], pl.Int16),
    pl.Series("x", [True, False, True], pl.Boolean),
    pl.Series("x", ["a", "b", "c"], pl.String),
    pl.Series("x", ["a", "b", "c"], pl.Categorical),
    pl.Series("x", ["a", "b", "c"], pl.Enum(["c", "a", "b", "unused"])),
]


@pytest.mark.parametrize("likelihood", ["auto", "categorical"])
@pytest.mark.parametrize("series", POLARS, ids=lambda s: str(s.dtype))
def test_polars_columns_come_back(series, likelihood):
    X = pl.DataFrame([pl.concat([series] * 4)])
    encoder, rows = encoded(X, likelihood)
    assert_same(encoder.decode(rows), X)
    assert_same(restored(encoder).decode(rows, like=X), X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_come_back_with_their_schema(library):
    X = table(library)
    encoder, rows = encoded(X)
    made = encoder.decode(rows, like=X)
    for name in X.columns:
        assert made[name].dtype == X[name].dtype
        assert made[name].to_list() == pytest.approx(X[name].to_list()) or made[name].to_list() == X[name].to_list()


def test_columns_of_one_name_are_told_apart():
    X = pd.concat([table()[["city", "change"]], table(seed=1)[["city", "change"]]], axis=1)
    encoder, rows = encoded(X)
    assert_same(encoder.decode(rows, like=X), X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_what_is_missing_is_missing_in_all_columns_of_its_block(library):
    missing = {"a": [0.5, None, 1.5], "b": [True, None, False], "c": ["x", None, "y"], "d": [1, None, 3]}
    X = pl.DataFrame(missing)
    if library == "pandas":
        X = pd.DataFrame(missing).astype({"b": "boolean", "c": "category", "d": "Int64"})
    _, rows = encoded(X)
    assert rows.shape == (3, 5)
    assert np.isnan(rows[1]).all()
    assert not np.isnan(rows[[0, 2]]).any()


@pytest.mark.parametrize(
    "like",
    [
        pd.DataFrame({"a": [0.5, np.nan, 1.5], "b": [7, 5, 9]}, index=[4, 6, 8]),
        np.array([[0.5, 7], [np.nan, 5], [1.5, 9]]),
        np.ma.masked_array([[0.5, 7], [-9999, 5], [1.5, 9]], [[0, 0], [1, 0], [0, 0]]),
        [[0.5, 7], [None, 5], [1.5, 9]],
    ],
    ids=lambda like: type(like).__name__,
)
def test_numbers_that_are_not_missing_stay(like):
    encoder = TableEncoder({"a": "gaussian", "b": "poisson"}).fit(pd.DataFrame({"a": [0.0, 1, 2], "b": [1, 2, 3]}))
    made = encoder.decode(np.zeros((3, 2)), like=like)
    assert made["a"].tolist() == [0.5, 1.0, 1.5]
    assert made["b"].tolist() == [7, 5, 9]
    assert list(made.index) == ([4, 6, 8] if isinstance(like, pd.DataFrame) else [0, 1, 2])


WHOLE = {
    "missing": pd.Series([1000.0, np.nan, 5000.0, 99999.0]),
    "complete": pd.Series([1000.0, 3.0, 5000.0, 99999.0]),
    "single precision": pd.Series([1000, np.nan, 5000, 99999], dtype="float32"),
    "nullable": pd.Series([1000, None, 5000, 99999], dtype="Float64"),
    "of Arrow": pd.Series([1000, None, 5000, 99999], dtype="double[pyarrow]"),
    "objects": pd.Series([1000.0, None, 5000.0, 99999], dtype=object),
    "negative": pd.Series([-1000.0, np.nan, 5000.0, -99999.0]),
    "huge": pd.Series([1e300, np.nan, 3e300, 2.0**60]),
    "polars": pl.Series([1000.0, None, 5000.0, 99999.0]),
    "array": np.array([1000.0, np.nan, 5000.0, 99999.0]),
}


@pytest.mark.parametrize("values", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("likelihood", ["auto", "gaussian"])
def test_whole_numbers_among_floats_come_back_whole(values, likelihood):
    X = values[:, None] if isinstance(values, np.ndarray) else type(values.to_frame())({"n": values})
    encoder, rows = encoded(X, likelihood)
    assert [column.kind for column in encoder.columns] == ["gaussian"]
    for twin in (encoder, restored(encoder)):
        made = twin.decode(np.random.RandomState(0).normal(size=(200, 1)))
        x = np.asarray(made, dtype=float).ravel()
        assert (x == np.round(x)).all()
        assert len(set(x)) > 20
        if not isinstance(X, np.ndarray):
            assert made["n"].dtype == X["n"].dtype
            assert all(isinstance(value, float) for value in made["n"].to_list())
        filled = np.asarray(twin.decode(np.where(np.isnan(rows), 0.1, rows), like=X), dtype=float).ravel()
        given = np.asarray(pd.Series(values).to_numpy(dtype=float, na_value=np.nan))
        np.testing.assert_array_equal(np.where(np.isnan(given), np.nan, filled), given)
        assert (filled == np.round(filled)).all()


def test_whole_numbers_of_training_do_not_change_other_numbers_of_new_samples():
    encoder, _ = encoded(pd.DataFrame({"n": [1.0, 2.0, 9.0, 20.0]}))
    new = pd.DataFrame({"n": [2.5, np.nan]})
    assert encoder.decode(np.where(np.isnan(encoder.encode(new)), 0.1, encoder.encode(new)), like=new)["n"][0] == 2.5


def test_broken_numbers_stay_broken():
    encoder, _ = encoded(pd.DataFrame({"n": [1.0, 2.0, 9.0, 20.5]}))
    made = encoder.decode(np.random.RandomState(0).normal(size=(50, 1)))["n"]
    assert (made != made.round()).mean() > 0.5


# Names of columns and of the index.


NAMES = {
    "plain": pd.Index(list("abcd"), name="variable"),
    "range": pd.RangeIndex(4),
    "numbers": pd.Index([3, 1, 2, 9], name="n"),
    "floats": pd.Index([0.5, np.nan, 2, 9]),
    "several levels": pd.MultiIndex.from_product([["a", "b"], ["x", "y"]], names=["k", "l"]),
    "unnamed levels": pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["k", None]),
    "dates": pd.DatetimeIndex(["2020-01-01", "2020-02-01 00:00:00.5", "2020-03-01", "2020-04-01"], name="month"),
    "times": pd.DatetimeIndex(["2020-03-28", "2020-03-29", "2020-03-30", None], tz="Europe/Oslo"),
    "levels with dates": pd.MultiIndex.from_product(
        [["a", "b"], pd.to_datetime(["2020-01-01", None])], names=list("kd")
    ),
    "periods": pd.period_range("2020-01", periods=4, freq="M", name="p"),
    "durations": pd.to_timedelta([1, 2, 3, 4], "h"),
    "categories": pd.CategoricalIndex(list("abcd"), categories=list("zdcba"), ordered=True, name="c"),
    "categories of dates": pd.CategoricalIndex(pd.date_range("2020-01-01", periods=4)).astype(object),
    "intervals": pd.interval_range(0, 4, 4, name="i"),
    "categories of intervals": pd.CategoricalIndex(pd.cut([1, 2, 3, 4], 4)),
    "repeated": pd.Index(list("aabb"), name="variable"),
    "days": pd.Index([day.date() for day in pd.date_range("2020-01-01", periods=4)], name="day"),
    "tuples": pd.Index([("a", 1), ("b", 2), ("c", 3), ("d", 4)], tupleize_cols=False),
    "bools": pd.Index([True, False, True, False]),
    "nullable strings": pd.Index(list("abcd"), dtype="string", name="s"),
    "objects": pd.Index(list("abcd"), dtype=object, name="s"),
    "nullable numbers": pd.Index([1, 2, 3, 4], dtype="Int64"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("kind", ["array", "encoder"])
def test_names_of_columns_and_index_come_back(kind, names):
    values = np.random.RandomState(0).normal(size=(30, 4))
    frame = pd.DataFrame(values, columns=names, index=pd.Index(range(7, 37), name="id"))
    if kind == "encoder":
        made, rows = encoded(frame)
    elif names.is_unique:  # scikit-learn refuses others
        made = numbers()
        rows = made.open(Model(), frame, reset=True)[:]
    else:
        return
    for twin in (made, restored(made)):
        pd.testing.assert_frame_equal(twin.decode(rows, like=frame), frame)
        pd.testing.assert_frame_equal(twin.decode(rows), frame.set_axis(pd.RangeIndex(30, name="id")))
        assert type(twin.decode(rows).columns) is type(names) or isinstance(names, pd.RangeIndex)


INDEXES = {
    "several levels": pd.MultiIndex.from_product([range(15), ["x", "y"]], names=["i", "j"]),
    "dates": pd.date_range("2020-01-01", periods=30, freq="D", name="day"),
    "repeated": pd.Index(["r"] * 30),
    "categories": pd.CategoricalIndex(list("ab") * 15, name="c"),
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_samples_have_the_index_of_what_they_are_made_from(index):
    frame = table(n=30).set_index(index)
    encoder, rows = encoded(frame)
    codes = pd.DataFrame(np.zeros((30, 2)), index=index[::-1])
    pd.testing.assert_index_equal(encoder.decode(rows, like=frame).index, index)
    pd.testing.assert_index_equal(encoder.decode_codes(rows, codes).index, index[::-1])
    pd.testing.assert_index_equal(
        encoder.decode_codes(rows, codes.to_numpy()).index, pd.RangeIndex(30, name=index.name)
    )
    pd.testing.assert_frame_equal(encoder.decode_codes(rows, codes), encoder.decode(rows).set_axis(index[::-1]))
    in_polars = encoded(table("polars", n=30))[0]
    assert in_polars.decode_codes(rows, codes).equals(in_polars.decode(rows))
    assert encoder.decode_codes(rows, pl.DataFrame(codes.to_numpy())).equals(encoder.decode(rows))


# Which likelihood a column gets.


def test_each_dtype_has_its_likelihood():
    encoder, rows = encoded(table())
    assert {column.name: column.kind for column in encoder.columns} == {
        "income": "gaussian", "debt": "gaussian", "member": "bernoulli", "city": "categorical", "job": "categorical",
        "visits": "negative_binomial", "change": "gaussian",
    }  # fmt: skip
    assert next(iter(OF_LIKELIHOODS.columns)) == "gaussian"
    assert encoder.parts == [
        ("gaussian", [1, 1, 1]), ("bernoulli", [1]), ("negative_binomial", [1]), ("categorical", [3, 2]),
    ]  # fmt: skip
    assert encoder.links == ("identity",) * 3 + ("logit", "log") + ("log",) * 5
    assert [encoder.names[j] for j in encoder.order] == [
        "income", "debt", "member", "city", "city", "city", "job", "job", "visits", "change",
    ]  # fmt: skip
    assert (encoder.n_columns, encoder.width) == (7, 10)
    np.testing.assert_array_equal(rows[:, 3], table()["member"])
    np.testing.assert_array_equal(rows[:, 4], table()["visits"])


def test_integers_with_the_variance_of_counts_need_their_distribution_too(seed):
    rng, n = np.random.RandomState(seed), 600
    is_rich = rng.uniform(size=n) < 0.5
    made = {
        "rate": rng.randint(100, 1500, size=n),
        "score": rng.normal(60, 40, size=n).clip(0, 100).round().astype(int),
        "amount": np.where(is_rich, 100 * rng.randint(5, 100, size=n), 0),
        "two kinds": np.where(is_rich, rng.poisson(2, size=n), rng.poisson(20, size=n)),
        "rarely": rng.poisson(0.1, size=n),
        "often": rng.poisson(40, size=n),
        "many zeros": rng.negative_binomial(0.3, 0.05, size=n),
    }
    encoder, _ = encoded(pd.DataFrame(made))
    kinds = {column.name: column.kind for column in encoder.columns}
    numbers, counts = list(made)[:4], list(made)[4:]
    assert kinds == dict.fromkeys(numbers, "gaussian") | dict.fromkeys(counts, "negative_binomial")


def test_integers_that_do_not_vary_as_counts_do_are_none(seed):
    rng = np.random.RandomState(seed)
    made = {
        "flag": rng.randint(2, size=400),
        "calls": rng.poisson(3, size=400),
        "cells": rng.negative_binomial(2, 0.01, size=400),
        "none": np.zeros(400, dtype=int),
        "grade": rng.randint(1, 5, size=400),
        "year": rng.randint(1990, 2020, size=400),
        "time": 1_700_000_000 + rng.randint(0, 300 * 86400, size=400),
        "day": 738_000 + np.arange(400),
        "number": 2**60 + np.arange(400),
        "rise": rng.randint(-3, 3, size=400),
    }
    encoder, _ = encoded(pd.DataFrame(made))
    counts = dict.fromkeys(["calls", "cells", "none"], "negative_binomial")
    chosen = {column.name: column.kind for column in encoder.columns}
    assert chosen == dict.fromkeys(made, "gaussian") | counts | {"flag": "bernoulli"}


def test_identifiers_and_columns_of_several_types_are_named():
    names = [f"c{i}" for i in range(300)]
    with pytest.raises(ValueError, match=r"Column 'customer' of X has 300 categories in 300 samples, such as 'c0'"):
        encoded(pd.DataFrame({"x": np.arange(300.0), "customer": names}))
    assert encoded(pd.DataFrame({"customer": names[:100]}))[0].width == 100  # few samples tell nothing
    assert encoded(pd.DataFrame({"town": names[:101] * 2}))[0].width == 101
    assert encoded(pd.DataFrame({"customer": names}), {"customer": "categorical"})[0].width == 300  # who asks for it
    dirty = pd.DataFrame({"x": np.arange(9.0), "dose": [1.5, 2.5, "n/a", *range(6)]})
    with pytest.raises(ValueError, match=r"'dose' of X is of dtype object, and has 'n/a'"):
        encoded(dirty)
    dirty["dose"] = [1.5, "n/a", *[np.bool_(True)] * 7]  # two types as rare
    with pytest.raises(ValueError, match=r"has 'n/a'"):
        encoded(dirty)


def test_a_mapping_names_some_columns():
    X = table()
    encoder, rows = encoded(X, {"visits": "poisson", "change": "categorical", "member": "categorical"})
    chosen = {column.name: column.kind for column in encoder.columns}
    assert [chosen[name] for name in ("visits", "change", "member", "job")] == [
        "poisson", "categorical", "categorical", "categorical",
    ]  # fmt: skip
    made = encoder.decode(rows)
    for name in ("visits", "change", "member", "job", "city"):
        pd.testing.assert_series_equal(made[name], X[name])


def test_arrays_have_columns_by_index():
    X = np.column_stack([columns()[name] for name in ("income", "visits", "member")])
    encoder, rows = encoded(X, {1: "negative_binomial", 2: "bernoulli"})
    assert [column.kind for column in encoder.columns] == ["gaussian", "negative_binomial", "bernoulli"]
    made = encoder.decode(rows.astype(np.float32))
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made[:, 1:], X[:, 1:])
    np.testing.assert_allclose(encoder.decode(rows), X)
    everything, rows = encoded(X[:, 1:], "categorical")
    np.testing.assert_array_equal(everything.decode(rows), X[:, 1:])


BAD = [
    ({"age": "poisson"}, r"likelihood names 'age', which is no column of X.*'income'"),
    ({"change": "poisson"}, r"'poisson' of column 'change' needs counts.*-\d.*Use 'gaussian' or 'categorical'"),
    ({"income": "bernoulli"}, r"'bernoulli' of column 'income' needs bools or numbers in \[0, 1\].*Use 'gaussian' for"),
    ({"income": "negative_binomial"}, r"column 'income' needs counts, integers.*has \d+\.\d+\. Use 'gaussian'"),
    ({"city": "gaussian"}, r"'gaussian' of column 'city' needs finite numbers.*'\w+'.*Use 'categorical'"),
]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize(("likelihood", "message"), BAD)
def test_a_likelihood_that_does_not_fit_names_column_value_and_others(library, likelihood, message):
    with pytest.raises(ValueError, match=message):
        encoded(table(library), likelihood)


def test_columns_that_nothing_can_be_learnt_from_are_named():
    X = table()
    with pytest.raises(ValueError, match="column 'city' of X every value is missing"):
        encoded(X.assign(city=pd.Categorical([None] * len(X))))
    with pytest.raises(ValueError, match=r"'income' needs finite numbers.*inf\. Drop or replace such values"):
        encoded(X.assign(income=np.inf))
    with pytest.raises(ValueError, match=r"'when' of X is of dtype category of datetime64.*no likelihood"):
        encoded(X.assign(when=pd.Categorical([pd.Timestamp("2020-01-01")] * len(X))))
    for unit in (1e-311, 1.5e308):
        with pytest.raises(ValueError, match=r"'change' of X goes from .* overflows or underflows"):
            encoded(X.assign(change=np.linspace(-1, 1, len(X)) * unit))
    with pytest.raises(ValueError, match=r"names 99, which is no column .*19 and 5 others"):
        encoded(np.zeros((9, 25)), {99: "poisson"})


def test_new_samples_that_do_not_fit_are_named():
    X = table()
    encoder, _ = encoded(X)
    way_out = r"Correct such values, or make them nan, which is taken as missing\.$"
    with pytest.raises(ValueError, match=rf"'visits' needs counts.*-3\.0\. {way_out}"):
        encoder.encode(X.assign(visits=-3))
    for value in ("much", np.inf):
        with pytest.raises(ValueError, match=rf"'income' needs finite numbers, but the column has .*{way_out}"):
            encoder.encode(X.assign(income=value))


def test_a_category_that_is_new_is_refused_or_taken_as_missing():
    X = table()
    new = X[:3].copy()
    new.loc[1, "city"] = "Nowhere"  # which is declared, but which no row has
    with pytest.raises(ValueError, match=r"Column 'city' of X has 'Nowhere'.*handle_unknown='ignore'"):
        encoded(X)[0].encode(new)
    ignoring, missing = encoded(X, handle_unknown="ignore")[0], new.copy()
    missing.loc[1, "city"] = np.nan
    np.testing.assert_array_equal(ignoring.encode(new), ignoring.encode(missing))
    assert np.isnan(ignoring.encode(new)[1]).sum() == 3


# The map of floats.


def test_floats_become_normal_scores_and_frequent_values_come_back():
    X = columns(2000)
    data = np.column_stack([X["income"], X["debt"]])
    encoder, rows = encoded(data)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-9)
    np.testing.assert_allclose(encoder.decode(rows)[:, 0], data[:, 0])
    drawn = encoder.decode(np.random.RandomState(1).normal(size=(20000, 2)))
    assert abs((drawn[:, 1] == 0).mean() - (data[:, 1] == 0).mean()) < 0.03
    for column, truth in zip(drawn.T, data.T, strict=True):
        assert truth.min() <= column.min()
        assert column.max() <= truth.max()


def test_slopes_are_those_of_the_map():
    x = np.sort(columns()["income"])[:, None]
    encoder, rows = encoded(x)
    step = 1e-7 * x
    steps = encoder.encode(x + step) - rows
    knots = np.isin(x, encoder.columns[0].knots[0])
    np.testing.assert_allclose(np.exp(encoder.log_slopes(rows))[~knots], (steps / step)[~knots], rtol=1e-4)


def test_only_floats_that_vary_and_are_not_missing_have_slopes():
    X = table().assign(one=1.5)
    encoder, rows = encoded(X)
    rows[0] = np.nan
    slopes = encoder.log_slopes(rows)
    of_floats = np.isin(encoder.names, ["income", "debt", "change"])
    assert (slopes[1:, of_floats] != 0).all()
    assert (slopes[:, ~of_floats] == 0).all()
    assert (slopes[0] == 0).all()


def test_the_map_brings_a_normal_density_to_one():
    encoder, _ = encoded(columns()["income"][:, None])

    def density(x):
        row = encoder.encode(np.array([[x]]))
        return float(np.exp(encoder.log_slopes(row) - row**2 / 2)[0, 0] / np.sqrt(2 * np.pi))

    ends = [-10, *encoder.columns[0].knots[0], 1e5]
    pieces = [quad(density, low, high)[0] for low, high in pairwise(ends)]
    assert sum(pieces) == pytest.approx(1, abs=1e-3)


# What a file says.


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_of_a_file_is_the_one_that_was_saved(library):
    X = table(library)
    encoder, rows = encoded(X, {"visits": "poisson"})
    twin = restored(encoder)
    np.testing.assert_array_equal(twin.encode(X), rows)
    np.testing.assert_array_equal(twin.log_slopes(rows), encoder.log_slopes(rows))
    assert_same(twin.decode(rows), encoder.decode(rows))
    assert (twin.parts, twin.links, twin.width, twin.library) == (
        encoder.parts, encoder.links, encoder.width, encoder.library,
    )  # fmt: skip


DAMAGE = [
    ({"kind": "array"}, "kind of the table is 'array', not 'encoder'"),
    ({"library": "os"}, "library of the table is 'os', not None or 'pandas' or 'polars'"),
    ({"library": np.zeros(2)}, "library of the table is array"),
    ({"columns": []}, r"columns of the table are \[\], not one for each of 7 names"),
    ({"columns": {}}, r"columns of the table are \{\}"),
    ({"columns": [None] * 7}, "a column of the table is not what it should be"),
    ({"columns": ["x"] * 7}, "a column of the table is not what it should be"),
    ({"columns": [[]] * 7}, "a column of the table is not what it should be"),
    ({"surplus": 1}, "the table must have kind, library, labels, columns"),
]
DAMAGED_COLUMNS = [
    ("income", {"kind": "normal"}, "a column of the table"),
    ("income", {"kind": []}, "a column of the table"),
    ("income", {"surplus": 1}, "a column of the table"),
    ("income", {"low": 9e9}, r"low and high of a column are \(9000000000.0, .* no range"),
    ("income", {"low": "0"}, "low and high"),
    ("income", {"high": np.nan}, "low and high"),
    ("income", {"low": -np.inf, "high": np.inf}, "low and high"),
    ("income", {"low": False, "high": True}, "low and high"),
    ("income", {"low": -(10**400), "high": 10**400}, "a column of the table"),
    ("visits", {"low": -(10**400), "high": 10**400}, "a column of the table"),
    ("visits", {"low": 0, "high": 256}, "a column of the table"),
    ("visits", {"low": 0.0, "high": 9.0}, "low and high"),
    ("income", {"knots": np.array([[0.0, 2.0, 1.0], [0.0, 1.0, 2.0]])}, "knots of a column do not rise"),
    ("income", {"knots": np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])}, "knots of a column do not rise"),
    ("income", {"knots": np.array([[0.0, 5e-324], [-1.0, 1.0]])}, "knots of a column have a slope"),
    ("income", {"knots": np.array([[-1.7e308, 1.7e308], [-1.0, 1.0]])}, "knots of a column have a slope"),
    ("income", {"knots": np.arange(3.0)}, "a column of the table"),
    ("income", {"knots": [[0, 1], [0, 1]]}, "a column of the table"),
    ("income", {"name": "income"}, "a column of the table"),
    ("job", {"categories": ["clerk", 1]}, "."),
    ("job", {"categories": ["clerk", np.nan]}, "."),
    ("job", {"categories": np.array(["clerk", 1], dtype=object)}, "categories"),
    ("job", {"categories": [["clerk"], ["smith"]]}, "categories"),
    ("city", {"type": {"family": "category", "dtype": "Enum", "declared": ["Rome", 3], "ordered": False}}, "categor"),
    ("income", {"knots": np.zeros((2, 0))}, "knots of a column do not rise"),
    ("income", {"knots": np.zeros((2, 3))}, "knots of a column do not rise"),
    ("income", {"knots": np.array([[0.0, 1.0], [0.0, np.inf]])}, "knots"),
    ("income", {"steps": np.array([[0.0, -1.0], [0.0, 1.0]])}, "steps of a column do not rise"),
    ("income", {"steps": np.zeros((3, 3))}, "steps of a column do not rise"),
    ("income", {"knots": np.array([[0.0, 1.0], [-1e154, 1.0]])}, "knots and steps of a column have scores beyond"),
    ("income", {"steps": np.array([[0.0, 1e154], [0.0, 1.0]])}, "knots and steps of a column have scores beyond"),
    ("income", {"steps": np.zeros((2, 3), dtype=int)}, "steps of a column do not rise"),
    ("income", {"steps": None}, "a column of the table"),
    ("visits", {"type": {"family": "integer"}}, "a column of the table"),
    ("visits", {"type": {"family": "category", "dtype": "Int8", "declared": None, "ordered": False}}, "the type of a"),
    ("visits", {"type": {"family": "integer", "dtype": "Int8", "declared": None, "ordered": 3}}, "the type of a"),
    ("visits", {"type": {"family": "integer", "dtype": "Int8", "declared": [], "ordered": False}}, "low and high"),
    ("visits", {"type": {"family": "integer", "dtype": "read_csv", "declared": None, "ordered": False}}, "dtype of a"),
    ("job", {"categories": []}, r"categories of a column are \[\]"),
    ("job", {"categories": ["a", "a"]}, "categories of a column are .* each there once"),
    ("job", {"categories": ["a", None]}, "categories of a column are"),
    ("job", {"categories": "ab"}, "categories of a column are"),
    ("city", {"categories": ["Rome", "Paris"]}, "categories of a column are not among those that its dtype declares"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGE)
def test_what_is_wrong_in_the_state_of_a_table_is_named(change, message):
    encoder, _ = encoded(table())
    with pytest.raises(ValueError, match=f"damaged: {message}"):
        restored(encoder, encoder.to_state() | change)


def test_a_number_too_long_to_print_is_refused():
    encoder, _ = encoded(table("polars"))
    state = encoder.to_state()
    state["columns"][0] |= {"low": -(10**5000), "high": 10**5000}
    with pytest.raises(ValueError, match="damaged: a column of the table"):
        restored(encoder, state)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "change", "message"), DAMAGED_COLUMNS)
def test_what_is_wrong_in_the_state_of_a_column_is_named(name, change, message):
    encoder, _ = encoded(table("polars"))
    state = encoder.to_state()
    state["columns"][state["labels"].index(name)] |= change
    with pytest.raises(ValueError, match=f"damaged: {message}"):
        restored(encoder, state)


DTYPES = [
    "S1000000000",
    "U1000000000",
    "V1000000000",
    "a9",
    "|S9",
    "datetime64[ns]",
    "M8[ns]",
    "complex128",
    "category",
]
DTYPES += ["Sparse[S1000000000, 0]", "interval[S9, right]", "S9[pyarrow]", "int64, S9", "period[D]", "float99", 3, None]


@pytest.mark.parametrize("dtype", [*DTYPES, ["S9"]], ids=str)
@pytest.mark.parametrize("name", ["income", "debt", "visits", "job", "city", "member"])
def test_other_dtypes_than_those_of_columns_are_refused(name, dtype):
    encoder, _ = encoded(table())
    state = pickle.loads(pickle.dumps(encoder.to_state()))
    state["columns"][list(table()).index(name)]["type"]["dtype"] = dtype
    with pytest.raises(ValueError, match="damaged: "):
        restored(encoder, state)


@pytest.mark.parametrize("dtype", ["string[python]", "int64", "float64"])
def test_categories_of_mixed_types_are_refused_where_the_dtype_has_one(dtype):
    values = pd.Series([1, 2] * 6).astype(dtype)
    encoder, _ = encoded(pd.DataFrame({"plain": values, "declared": values.astype("category")}), "categorical")
    mixed = [*encoder.columns[0].categories, 3 if dtype == "string[python]" else "a"]
    for j, change in enumerate([{}, {"type": encoder.columns[1].type._asdict() | {"declared": mixed}}]):
        state = encoder.to_state()
        state["columns"][j] |= {"categories": mixed} | change
        with pytest.raises(ValueError, match="damaged: a column of the table"):
            restored(encoder, state)


def test_objects_of_mixed_types_are_refused_as_in_training():
    encoder, _ = encoded(pd.DataFrame({"x": pd.Series(["a", "b"] * 6, dtype=object)}))
    state = encoder.to_state()
    state["columns"][0]["categories"] = ["a", 1]
    with pytest.raises(ValueError, match="damaged: a column of the table has values that are none of object"):
        restored(encoder, state)


def level(**changes):
    """The state of a table whose columns have names as these."""
    state = encoded(pd.DataFrame({"a": [0.5, 1.5], "b": [1.5, 2.5]}))[0].to_state()
    state["labels"]["levels"][0] |= changes
    return state


TEXT = {"family": "category", "dtype": "object", "declared": None, "ordered": False}


@pytest.mark.parametrize("labels", [10**12, -1, 10**30, 5.0, "5", [5], None], ids=str)
def test_widths_of_arrays_are_checked_before_they_take_memory(labels):
    encoder, _ = encoded(np.random.RandomState(0).normal(size=(30, 5)))
    with pytest.raises(ValueError, match=r"damaged: (labels|columns) of the table are"):
        restored(encoder, encoder.to_state() | {"labels": labels})


@pytest.mark.parametrize(
    "state",
    [
        level(values=["a"]),
        level(values="ab"),
        level(values=3),
        level(name=["a"]),
        level(surplus=1) | {"labels": {"index": None}},
        level() | {"labels": None},
        level() | {"labels": {"index": ["id"], "levels": level()["labels"]["levels"]}},
        level() | {"labels": {"index": None, "levels": []}},
        level() | {"labels": {"index": None, "levels": [None]}},
        level()
        | {"labels": {"index": None, "levels": level()["labels"]["levels"] + level(values=["a"])["labels"]["levels"]}},
        *(level(type=TEXT | {"dtype": dtype}) for dtype in ("S1000000000", "U9", "V9", "datetime64", "M8[s]", 3)),
        level(type=TEXT | {"dtype": "int64"}),
        level(type=TEXT | {"dtype": "datetime64[ns, nowhere]"}, values=["2020-01-01", "2020-01-02"]),
        level(type=TEXT | {"dtype": "period[D]"}),
        level(type=None),
    ],
)
def test_labels_that_name_no_columns_are_refused(state):
    with pytest.raises(ValueError, match=r"damaged: (labels|columns) of the table are"):
        TableEncoder().restore(state, fault)


# Tables of numbers.


class Model(BaseEstimator):
    """Has the number and the names of columns."""


def numbers(kind="real", parameter="likelihood", value="own", **options):
    return ArrayTable(parameter, value, SUPPORTS[kind], **options)


X = np.random.RandomState(0).normal(size=(40, 5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, int])
def test_arrays_are_taken_as_they_are(dtype):
    model, table, rows = Model(), numbers(), (9 * X).astype(dtype)
    opened = table.open(model, rows, reset=True)
    assert opened.dtype == (np.float32 if dtype == np.float32 else np.float64)
    np.testing.assert_array_equal(opened[:], rows)
    assert model.n_features_in_ == table.width == table.n_columns == 5
    assert table.parts is None
    assert table.labels == 5
    assert table.decode(opened.source) is opened.source
    np.testing.assert_array_equal(opened[:][:, table.order], rows)
    assert (table.log_slopes(rows) == 0).all()
    assert not opened.has_missing
    with pytest.raises(ValueError, match="X has 4 features, but Model is expecting 5"):
        table.open(model, rows[:, :4])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_dataframes_of_numbers_come_back(frame):
    made = frame(dict(zip("abcde", X.T, strict=True)))
    model, table = Model(), numbers()
    rows = table.open(model, made, reset=True)
    assert list(model.feature_names_in_) == list("abcde")
    for twin in (table, restored(table)):
        assert_same(twin.decode(rows[:]), made)
    if frame is pd.DataFrame:
        indexed = made.set_index(np.arange(7, 47))
        assert_same(table.decode(rows[:], like=indexed), indexed)
        assert_same(table.decode(rows[:], like=X), made)


@pytest.mark.parametrize("table", [numbers(), TableEncoder()], ids=["array", "encoder"])
def test_columns_of_several_levels_come_back(table):
    frame = pd.DataFrame(X, columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), *[("b", n) for n in "xyz"]]))
    made = table.decode(table.open(Model(), frame, reset=True)[:])
    assert isinstance(made.columns, pd.MultiIndex)
    assert made.columns.equals(frame.columns)


def test_what_is_masked_is_missing():
    hidden = np.random.RandomState(0).uniform(size=X.shape) < 0.1
    rows = numbers().open(Model(), np.ma.masked_array(np.where(hidden, -9999, X), hidden), reset=True)
    np.testing.assert_array_equal(rows[:], np.where(hidden, np.nan, X))
    assert rows.has_missing
    whole = np.ma.masked_array(np.arange(12).reshape(6, 2), np.eye(6, 2, dtype=bool))
    for table in (numbers(), TableEncoder("poisson")):
        np.testing.assert_array_equal(np.isnan(table.open(Model(), whole, reset=True)[:]), whole.mask)
    with pytest.raises(ValueError, match=r"[Cc]omplex"):
        numbers().open(Model(), np.ma.masked_array(X, hidden).astype(complex), reset=True)


def as_objects(frame, kind):
    """The same values as objects, those that are missing as pandas' NA, in a DataFrame, an array or lists."""
    made = frame.astype(object).where(frame.notna(), pd.NA)
    return {"frame": made, "array": made.to_numpy(), "lists": made.to_numpy().tolist()}[kind]


@pytest.mark.parametrize("kind", ["frame", "array"])
@pytest.mark.parametrize("table", [numbers(), TableEncoder("gaussian")], ids=["array", "encoder"])
def test_na_of_pandas_is_missing(table, kind):
    frame = pd.DataFrame(X.copy(), columns=list("abcde"))
    frame.iloc[4, 1] = np.nan
    objects = as_objects(frame, kind)
    rows = table.open(Model(), objects, reset=True)[:]
    np.testing.assert_array_equal(
        rows, table.open(Model(), frame if kind == "frame" else frame.to_numpy(), reset=True)[:]
    )
    np.testing.assert_array_equal(np.isnan(rows), frame.isna())
    assert np.asarray(objects)[4, 1] is pd.NA  # X is not changed
    filled = np.asarray(table.decode(np.nan_to_num(rows), like=objects), dtype=float)
    np.testing.assert_array_equal(np.where(frame.isna(), np.nan, filled), frame)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_na_and_nat_of_pandas_are_missing_among_text_bools_and_lists():
    frame = table(n=60).astype(object)
    frame.iloc[5, 1:] = np.nan
    frame.iloc[7, 0] = np.nan
    model, encoder = Model(), TableEncoder()
    rows = encoder.open(model, as_objects(frame, "frame"), reset=True)[:]
    assert np.isnan(rows[5]).sum() == encoder.width - 1
    for kind in ("frame", "array", "lists"):
        np.testing.assert_array_equal(encoder.open(model, as_objects(frame, kind))[:], rows)
    frame.iloc[7, 0] = pd.NaT
    np.testing.assert_array_equal(TableEncoder().open(Model(), frame, reset=True)[:], rows)


@pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean", "int8[pyarrow]", "double[pyarrow]", "bool[pyarrow]"])
def test_missing_values_of_nullable_dtypes_are_missing(dtype):
    frame = pd.DataFrame({"a": pd.Series([1, None, 0, 1], dtype=dtype), "b": [0.5, 1.5, 2.5, 1.0]})
    rows = numbers().open(Model(), frame, reset=True)[:]
    np.testing.assert_array_equal(rows, [[1, 0.5], [np.nan, 1.5], [0, 2.5], [1, 1]])
    encoder, rows = encoded(frame)
    np.testing.assert_array_equal(np.isnan(rows[:, encoder.order][:, 0]), [False, True, False, False])
    made = encoder.decode(np.nan_to_num(rows), like=frame)
    assert made["a"].dtype == frame["a"].dtype
    assert made["a"].drop(1).tolist() == frame["a"].drop(1).tolist()


DATES = pd.DataFrame({"x": np.arange(9.0), "start": pd.date_range("2024-01-01", periods=9)})


@pytest.mark.parametrize("table", [numbers(), TableEncoder()], ids=["array", "encoder"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (DATES, r"Column 'start' of X is of dtype datetime64.*days since"),
        (DATES[["start"]].to_numpy(), r"X is of dtype datetime64"),
        (DATES[["start"]] - DATES["start"][0], r"Column 'start' of X is of dtype timedelta64"),
        (pl.DataFrame({"start": DATES["start"].tolist()}), r"Column 'start' of X is of dtype Date"),
    ],
)
def test_dates_are_no_numbers(table, rows, message):
    with pytest.raises(ValueError, match=message):
        table.open(Model(), rows, reset=True)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (np.where(X > 2, np.inf, X), ValueError, "contains infinity"),
        ([["a", "b"], ["c", "d"]], ValueError, "could not convert string to float"),
        (X[:0], ValueError, r"0 sample\(s\)"),
        (X[:1], ValueError, r"minimum of 2 is required"),
        (X[:, :0], ValueError, r"0 feature\(s\)"),
        (X[0], ValueError, "Expected 2D array"),
        (sparse.csr_matrix(np.where(X > 2, np.inf, X)), (ValueError, TypeError), "contains infinity|[Ss]parse"),
        (X + 1j, ValueError, "Complex data not supported"),
    ],
)
@pytest.mark.parametrize("table", [numbers(), TableEncoder()], ids=["array", "encoder"])
def test_bad_rows_are_named(table, rows, error, message):
    with pytest.raises(error, match=message):
        table.open(Model(), rows, reset=True, ensure_min_samples=2)


def test_values_need_be_observed_only_in_training():
    model, table = Model(), numbers()
    table.open(model, X, reset=True)
    assert table.open(model, np.full((2, 5), np.nan)).has_missing


def test_values_outside_the_support_are_refused_by_parameter_and_value():
    table = numbers("unit_interval", "loss", "log_loss")
    with pytest.raises(ValueError, match=r"loss='log_loss' needs values in \[0, 1\]"):
        table.open(Model(), X, reset=True)
    model = Model()
    table.open(model, np.clip(X, 0, 1), reset=True)
    with pytest.raises(
        ValueError, match=r"loss='log_loss' needs values in \[0, 1\].* Scale new samples .* keeps the range\.$"
    ):
        table.open(model, X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_text_is_refused_by_name_with_a_way_out(library):
    refusal = "Model takes numbers", "Encode such columns."
    message = r"Model takes numbers, but column 'city' of X has '\w+'\. Encode such columns\."
    with pytest.raises(ValueError, match=message):
        numbers(refusal=refusal).open(Model(), table(library), reset=True)
    model, of_numbers = Model(), numbers(refusal=refusal)
    of_numbers.open(model, table(library)[["income", "debt"]], reset=True)
    new = table(library)[["income", "job"]].rename(
        **{"columns": {"job": "debt"}} if library == "pandas" else {"mapping": {"job": "debt"}}
    )
    with pytest.raises(
        ValueError, match=r"The training samples had numbers, but column 'debt' of X has '\w+'\. Pass num"
    ):
        of_numbers.open(model, new)
    with pytest.raises(ValueError, match="Found array with 1 sample"):
        numbers(refusal=refusal).open(Model(), pd.DataFrame({"x": [1.5]}), reset=True, ensure_min_samples=2)


class Squashed(ArrayTable):
    """Takes any numbers, as counts."""

    def prepare(self, X):
        return abs(X).floor() if sparse.issparse(X) else np.floor(abs(X))


def test_a_subclass_may_prepare_samples_before_their_values_are_checked(tmp_path, monkeypatch):
    table = Squashed("likelihood", "poisson", SUPPORTS["counts"])
    np.testing.assert_array_equal(table.open(Model(), X, reset=True)[:], np.floor(abs(X)))
    rows = table.open(Model(), sparse.csr_matrix(X), reset=True)
    np.testing.assert_array_equal(rows[3:5], np.floor(abs(X[3:5])))
    monkeypatch.setattr(source, "STREAMED_FROM", 0)
    np.save(tmp_path / "rows.npy", X)
    rows = table.open(Model(), np.load(tmp_path / "rows.npy", mmap_mode="r"), reset=True)
    np.testing.assert_array_equal(rows[3:5], np.floor(abs(X[3:5])))


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array])
def test_sparse_rows_are_taken_where_they_may_be(container):
    table, counts = numbers("counts"), np.floor(np.abs(X))
    rows = table.open(Model(), container(counts), reset=True)
    np.testing.assert_array_equal(rows[:], counts)
    assert not rows.has_missing
    for value, message in ((-1, "counts"), (0.5, "counts"), (np.nan, "need a dense array"), (np.inf, "infinity")):
        bad = counts.copy()
        bad[3, 4] = value
        with pytest.raises(ValueError, match=message):
            table.open(Model(), container(bad), reset=True)


def test_duplicate_entries_are_one_count():
    counts = sparse.csr_array(np.floor(np.abs(3 * X)))
    halves = (np.tile(counts.data / 2, 2), tuple(np.tile(axis, 2) for axis in counts.nonzero()))
    twice = sparse.csr_array(halves, shape=counts.shape)
    rows = numbers("counts").open(Model(), twice, reset=True)
    np.testing.assert_array_equal(rows[:], counts.toarray())


@pytest.fixture
def in_file(tmp_path, monkeypatch):
    """A function that puts an array in a file that is streamed, 64 numbers at a time."""
    monkeypatch.setattr(source, "STREAMED_FROM", 0)
    monkeypatch.setattr(source, "_READ", 2**6)

    def put(rows):
        np.save(tmp_path / "rows.npy", rows)
        return np.load(tmp_path / "rows.npy", mmap_mode="r")

    return put


def test_files_are_checked_as_arrays_are_a_block_at_a_time(in_file):
    model, table = Model(), numbers()
    rows = table.open(model, in_file(X), reset=True, ensure_min_samples=2)
    assert isinstance(rows, source.FileRows)
    np.testing.assert_array_equal(rows[:], X)
    assert not rows.has_missing
    assert table.open(model, in_file(np.where(X > 2, np.nan, X))).has_missing
    with pytest.raises(ValueError, match="4 features"):
        table.open(model, in_file(X[:, :4]))
    for bad, message in (
        (np.where(np.arange(40)[:, None] == 37, np.inf, X), "infinity"),
        (X[:1], "minimum of 2"),
        (X + 1j, "Complex"),
    ):
        with pytest.raises(ValueError, match=message):
            table.open(Model(), in_file(bad), reset=True, ensure_min_samples=2)
    with pytest.raises(ValueError, match="needs counts"):
        numbers("counts").open(Model(), in_file(np.where(np.arange(40)[:, None] == 37, 0.5, 1)), reset=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "encoder"}, "kind of the table is 'encoder', not 'array'"),
        ({"library": "os"}, "library of the table is 'os'"),
        ({"labels": list("abcde")}, "labels of the table are .*, which name no columns"),
        ({"labels": "abcde"}, "labels of the table are 'abcde'"),
        ({"labels": None}, "labels of the table are None"),
    ],
    ids=str,
)
def test_what_is_wrong_in_the_state_of_an_array_is_named(change, message):
    table = numbers()
    table.open(Model(), pd.DataFrame(X, columns=list("abcde")), reset=True)
    with pytest.raises(ValueError, match=f"damaged: {message}"):
        restored(table, table.to_state() | change)


# Samples of columns of several kinds, as an estimator opens them.


def test_an_encoder_opens_tables_and_lists_alike():
    model, encoder, X = Model(), TableEncoder(), table()
    rows = encoder.open(model, X, reset=True, ensure_min_samples=2)
    assert model.n_features_in_ == 7
    assert list(model.feature_names_in_) == list(X.columns)
    with pytest.warns(UserWarning, match="valid feature names"):
        np.testing.assert_array_equal(encoder.open(model, X.to_numpy().tolist())[:], rows[:])
    with pytest.raises(ValueError, match="feature names"):
        encoder.open(model, X[list(X.columns[::-1])])
    with pytest.raises(ValueError, match=r"Expected 2D array, got 1D array instead:\s+array=\[0.5"):
        encoder.open(model, [0.5, 1.5])
    for bad, message in (
        (X[:1], "minimum of 2 is required"),
        (X[[]], r"0 feature\(s\)"),
        (X[["job", "job"]].to_numpy(), r"could not convert string to float: '\w+'.*pass strings .* as a DataFrame"),
    ):
        with pytest.raises(ValueError, match=message):
            TableEncoder().open(Model(), bad, reset=True, ensure_min_samples=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, int, bool])
def test_arrays_keep_their_precision_and_say_what_they_were(dtype):
    rng = np.random.RandomState(0)
    rows = (rng.normal if dtype in (np.float32, np.float64) else partial(rng.poisson, 1))(size=(60, 3)).astype(dtype)
    model, encoder = Model(), TableEncoder()
    opened = encoder.open(model, rows, reset=True)
    kind = {"f": "gaussian", "i": "negative_binomial", "b": "bernoulli"}[np.dtype(dtype).kind]
    assert [column.kind for column in encoder.columns] == [kind] * 3
    assert opened.dtype == encoder.decode(opened[:]).dtype == (np.float32 if dtype == np.float32 else np.float64)
    np.testing.assert_allclose(encoder.decode(opened[:]), rows, atol=1e-6)
    assert encoder.open(model, rows.astype(np.float32)).dtype == np.float32
