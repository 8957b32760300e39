"""Tables whose columns have a likelihood each."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid
from sklearn.base import clone

from skae import TRUSTED_TYPES, AutoencoderTransformer, VAEGenerator

pl = pytest.importorskip("polars")

pytestmark = [
    pytest.mark.usefixtures("narrow_networks"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


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


def quick(**parameters):
    return VAEGenerator(**({"likelihood": "auto", "max_iter": 5, "random_state": 0} | parameters))


@pytest.fixture(scope="module", params=["pandas", "polars"])
def fitted(request):
    X = table(request.param)
    return X, quick(max_iter=20).fit(X)


def same_schema(made, X):
    if isinstance(X, pl.DataFrame):
        return made.schema == X.schema
    return made.dtypes.equals(X.dtypes) and list(made.columns) == list(X.columns)


HUGE = {
    "uint64": [0, 2**64 - 1, 2**63 + 1],
    "int64": [-(2**63), 2**63 - 1, 0],
    "UInt64": [0, 2**64 - 1, None],
    "Int64": [2**60 + 1, 2**60 + 2, None],
}


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("dtype", HUGE)
def test_huge_integers_keep_dtype_range_and_last_digit(dtype, library):
    X = pd.DataFrame({"x": pd.Series(HUGE[dtype] * 10, dtype=dtype), "y": np.linspace(0, 1, 30)})
    if library == "polars":
        kind = {"uint64": pl.UInt64, "int64": pl.Int64}[dtype.lower()]
        X = pl.DataFrame({"x": pl.Series(HUGE[dtype] * 10, dtype=kind), "y": X["y"].to_numpy()})
    model = quick(max_iter=1).fit(X)
    made, known = model.sample(50, random_state=0), [value for value in HUGE[dtype] if value is not None]
    assert same_schema(made, X)
    assert min(known) <= min(made["x"].to_list()) <= max(made["x"].to_list()) <= max(known)
    filled = model.impute(X)["x"].to_list()
    kept = [value for value, before in zip(filled, HUGE[dtype] * 10, strict=True) if before is not None]
    assert kept == [value for value in HUGE[dtype] * 10 if value is not None]
    assert np.isfinite(model.score_samples(X)).all()


def test_integers_of_all_kinds_are_sampled_in_their_range(seed):
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
    X = pd.DataFrame(made)
    new = quick(max_iter=20).fit(X).sample(2000, random_state=0)
    assert new.dtypes.equals(X.dtypes)
    assert set(new["flag"]) == {0, 1}
    for name in ("grade", "year", "time", "day"):
        assert new[name].std() == pytest.approx(X[name].std(), rel=0.2)
        assert (
            new[name].isin([X[name].min(), X[name].max()]).mean()
            < X[name].isin([X[name].min(), X[name].max()]).mean() + 0.1
        )


def test_a_count_that_is_rarely_one_may_be_two_on_new_rows():
    X = pd.DataFrame({"x": np.linspace(-1, 1, 600), "claims": np.repeat([0, 1], [580, 20])})
    model = quick(n_components=1, max_iter=0).fit(X)
    assert np.isfinite(model.score_samples(X.assign(claims=2))).all()
    assert set(model.sample(500, random_state=0)["claims"]) <= {0, 1}


def test_samples_have_the_columns_dtypes_categories_and_ranges(fitted):
    X, model = fitted
    made = model.sample(500, random_state=1)
    assert same_schema(made, X)
    for name in ("income", "debt", "visits", "change"):
        assert X[name].min() <= made[name].min() <= made[name].max() <= X[name].max()
    assert set(made["city"]) <= set(X["city"])


def test_marginals_are_near_those_of_the_data(fitted):
    X, model = fitted
    made = model.sample(4000, random_state=1)
    assert abs(made["member"].mean() - X["member"].mean()) < 0.12
    for name in ("city", "job"):
        for value in set(X[name]):
            assert abs((made[name] == value).mean() - (X[name] == value).mean()) < 0.12
    for name in ("income", "change", "visits"):
        for q in (0.25, 0.5, 0.75):
            below = (X[name] <= np.quantile(X[name], q)).mean()
            assert abs((made[name] <= np.quantile(X[name], q)).mean() - below) < 0.12


def test_columns_keep_their_ties(fitted):
    _, model = fitted
    made = model.sample(4000, random_state=2)
    assert made["visits"].to_numpy()[made["change"].to_numpy() > 2].mean() > 2 * made["visits"].mean()


def test_codes_rows_and_names(fitted):
    X, model = fitted
    codes = model.transform(X)
    assert codes.shape == (len(X), 2)
    assert model.n_features_in_ == X.shape[1]
    assert list(model.feature_names_in_) == list(X.columns)
    assert model.components_.shape == (2, 10)
    assert model.mean_.shape == (10,)
    # In the order of the table: city's three categories after the bool.
    assert model.mean_[3:6].sum() == pytest.approx(1)
    assert same_schema(model.inverse_transform(codes), X)
    np.testing.assert_allclose(model.transform(X[10:20]), codes[10:20], rtol=1e-9, atol=1e-9)


def test_training_improves_on_the_start_in_nats_of_the_table(fitted):
    X, model = fitted
    assert model.best_loss_ < model.linear_loss_
    assert -model.score(X) == pytest.approx(model.best_loss_, rel=0.5)
    assert np.isfinite(model.score_samples(X)).all()
    assert model.log_likelihood(X).mean() >= model.score(X)


@pytest.mark.parametrize("max_iter", [0, 20])
def test_a_density_integrates_to_one(max_iter):
    x = columns()["income"][:, None]
    model = quick(n_components=1, max_iter=max_iter).fit(x)
    grid = np.concatenate([np.linspace(-3, 3, 4001), np.geomspace(3, 3000, 4001)[1:]])
    density = np.exp(model.log_likelihood(grid[:, None], n_draws=20))
    assert trapezoid(density, grid) == pytest.approx(1, abs=0.03)


def test_scores_follow_the_units():
    x = columns()["income"][:, None]
    model, scaled = quick(max_iter=0).fit(x), quick(max_iter=0).fit(1000 * x)
    assert scaled.score(1000 * x) == pytest.approx(model.score(x) - np.log(1000), abs=1e-6)


def test_a_probability_adds_to_one_over_categories():
    X = pd.DataFrame({"city": table()["city"], "member": table()["member"]})
    model = quick(n_components=1, max_iter=20).fit(X)
    every = pd.DataFrame({"city": ["Rome", "Oslo", "Bonn"] * 2, "member": [True] * 3 + [False] * 3})
    every = every.astype({"city": X["city"].dtype})
    assert np.exp(model.log_likelihood(every, n_draws=5000)).sum() == pytest.approx(1, abs=0.03)


# Missing values and categories that are new.


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_missing_values_are_imputed_and_the_rest_stays(library):
    X, rng = table(), np.random.RandomState(0)
    gone = pd.DataFrame(rng.uniform(size=X.shape) < 0.2, columns=X.columns)
    gone.loc[gone.all(axis=1), "income"] = False
    nullable = {"member": "boolean", "visits": "Int16", "change": "Int64"}
    incomplete = X.astype(nullable).mask(gone)
    incomplete.index = range(7, 307)
    if library == "polars":
        incomplete = pl.DataFrame({
            name: [None if lost else value for value, lost in zip(X[name].tolist(), gone[name], strict=True)]
            for name in X
        })  # fmt: skip
    model = quick(max_iter=10).fit(incomplete)
    assert np.isfinite(model.score_samples(incomplete)).all()
    for filled in (model.impute(incomplete), *model.impute(incomplete, n_draws=2, random_state=0)):
        assert same_schema(filled, incomplete)
        for name in X:
            kept = ~gone[name].to_numpy()
            assert (filled[name].to_numpy()[kept] == X[name].to_numpy()[kept]).all(), name
            assert not pd.isna(filled[name].to_numpy()).any()
    if library == "pandas":
        assert filled.index.equals(incomplete.index)
    assert same_schema(model.sample(5), incomplete)


def test_a_category_that_is_new_is_refused_or_taken_as_missing():
    X = table()
    model, new = quick().fit(X), X[:3].copy()
    new.loc[1, "city"] = "Nowhere"  # which is declared, but which no row has
    with pytest.raises(ValueError, match=r"Column 'city' of X has 'Nowhere'.*handle_unknown='ignore'"):
        model.transform(new)
    with pytest.raises(ValueError, match="'Nowhere'"):
        quick().fit(X, X_val=new)
    ignoring, missing = quick(handle_unknown="ignore").fit(X), new.copy()
    missing.loc[1, "city"] = np.nan
    np.testing.assert_array_equal(ignoring.transform(new), ignoring.transform(missing))
    assert ignoring.impute(new)["city"][1] in set(X["city"])


def test_what_happens_to_a_new_category_can_be_set_after_a_fit():
    X = table()
    new = X[:3].copy()
    new.loc[1, "city"] = "Nowhere"
    model = quick().fit(X)
    model.set_params(handle_unknown="ignore")
    assert np.isfinite(model.transform(new)).all()
    model.set_params(handle_unknown="error")
    with pytest.raises(ValueError, match="'Nowhere'"):
        model.transform(new)


# Names of columns and of the index, and whole numbers.


LIKELIHOODS = {"gaussian": {}, "auto": {"likelihood": "auto"}, "mapping": {"likelihood": {("a", "x"): "gaussian"}}}
MODELS = {f"VAEGenerator, {name}": VAEGenerator(2, **options) for name, options in LIKELIHOODS.items()}
MODELS |= {"AutoencoderTransformer": AutoencoderTransformer(2)}


@pytest.fixture(scope="module", params=MODELS)
def labelled(request):
    """A DataFrame with names of all kinds, and a model that was fitted to it and has been in a file."""
    names = pd.MultiIndex.from_product([["a", "b"], ["x", "y"]], names=["k", "l"])
    days = pd.date_range("2020-01-01", periods=60, freq="D", name="day")
    X = pd.DataFrame(np.random.RandomState(0).normal(size=(60, 4)), columns=names, index=days)
    X.iloc[4, 1] = X.iloc[7, 2] = np.nan
    model = clone(MODELS[request.param]).set_params(max_iter=2, random_state=0).fit(X)
    return X, pickle.loads(pickle.dumps(model))


def test_samples_have_the_names_of_columns_and_index(labelled):
    X, model = labelled
    made = model.sample(3, random_state=0)
    pd.testing.assert_index_equal(made.columns, X.columns)
    pd.testing.assert_index_equal(made.index, pd.RangeIndex(3, name="day"))


def test_imputed_samples_have_the_names_and_the_index_of_x(labelled):
    X, model = labelled
    for filled in (model.impute(X), model.impute(X[::-1])[::-1]):
        pd.testing.assert_index_equal(filled.columns, X.columns)
        pd.testing.assert_index_equal(filled.index, X.index)
        assert filled.where(X.notna()).equals(X)
        assert filled.notna().all(axis=None)


def test_reconstructions_join_with_the_samples(labelled):
    X, model = labelled
    shuffled = X.sample(frac=1, random_state=0)
    codes = clone(model).set_output(transform="pandas").fit(X).transform(shuffled)
    pd.testing.assert_index_equal(codes.index, shuffled.index)
    back, plain = model.inverse_transform(codes), model.inverse_transform(codes.to_numpy())
    if isinstance(plain, np.ndarray):  # as of PCA, where all columns have one likelihood
        np.testing.assert_array_equal(back, plain)
        return
    pd.testing.assert_index_equal(back.columns, X.columns)
    pd.testing.assert_index_equal(back.index, shuffled.index)
    pd.testing.assert_frame_equal(back.set_axis(plain.index), plain)
    pd.testing.assert_index_equal(plain.index, pd.RangeIndex(60, name="day"))


def test_columns_in_another_order_are_refused_whatever_their_names(labelled):
    X, model = labelled
    for method in ("transform", "score_samples", "impute"):
        with pytest.raises(ValueError, match=r"must be in the order of training, \('a', 'x'\), .*, not \('b', 'y'\), "):
            getattr(model, method)(X.iloc[:, ::-1])
    numbered = clone(model).set_params(**({"likelihood": "auto"} if hasattr(model, "likelihood") else {}))
    numbered.fit(X.set_axis([3, np.nan, 1, 2], axis=1))
    numbered.transform(X.set_axis([3, np.nan, 1, 2], axis=1))
    numbered.transform(X.set_axis(range(10, 14), axis=1))  # other numbers are no names, as in scikit-learn
    with pytest.raises(
        ValueError, match=r"must be in the order of training, 3\.0, nan, 1\.0, 2\.0, not 1\.0, 2\.0, 3\.0, nan"
    ):
        numbered.transform(X.set_axis([1, 2, 3, np.nan], axis=1))


def test_skops_holds_names_that_are_dates_or_categories():
    skops = pytest.importorskip("skops.io")
    X = pd.DataFrame(np.random.RandomState(0).normal(size=(40, 3)))
    for names in (
        pd.DatetimeIndex(["2020-01-01", "2020-02-01", "2020-03-01"], name="month"),
        pd.CategoricalIndex(list("abc"), categories=list("cxab"), name="town"),
    ):
        for model in (AutoencoderTransformer(1, max_iter=0), VAEGenerator(1, likelihood="auto", max_iter=0)):
            data = skops.dumps(model.fit(X.set_axis(names, axis=1)))
            made = skops.loads(data, trusted=TRUSTED_TYPES).sample(2)
            pd.testing.assert_index_equal(made.columns, names)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("likelihood", ["auto", {"n": "gaussian"}], ids=str)
def test_whole_numbers_with_missing_ones_stay_whole(library, likelihood):
    rng = np.random.RandomState(0)
    v = rng.normal(size=200)
    n = np.round(50_000 + 10_000 * (v + rng.normal(size=200)))
    n[::9] = np.nan
    X = pd.DataFrame({"n": n, "v": v}) if library == "pandas" else pl.DataFrame({"n": n, "v": v}, nan_to_null=True)
    model = quick(n_components=1, likelihood=likelihood).fit(X)
    for made in (
        model.sample(100, random_state=0),
        model.sample(100, noise=False, random_state=0),
        model.inverse_transform(model.transform(X)),
        model.impute(X),
        *model.impute(X, n_draws=2, random_state=0),
    ):
        assert same_schema(made, X)
        drawn = made["n"].to_numpy()
        np.testing.assert_array_equal(drawn, np.round(drawn))
        assert (made["v"].to_numpy() != np.round(made["v"].to_numpy())).all()
    np.testing.assert_array_equal(np.where(np.isnan(n), np.nan, model.impute(X)["n"].to_numpy()), n)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_na_of_pandas_is_missing_in_columns_of_objects(model):
    names = pd.MultiIndex.from_tuples([("a", "x"), ("b", "x"), ("c", "x")])
    X = pd.DataFrame(np.random.RandomState(0).normal(size=(60, 3)), columns=names)
    X.iloc[4, 1] = np.nan
    objects = X.astype(object).where(X.notna(), pd.NA)
    model = clone(model).set_params(max_iter=2, random_state=0)
    codes = clone(model).fit(X).transform(X)
    np.testing.assert_allclose(model.fit(objects).transform(objects), codes, rtol=1e-6, atol=1e-9)
    assert np.isfinite(model.score_samples(objects)).all()
    filled = model.impute(objects)
    assert filled.notna().all(axis=None)
    np.testing.assert_array_equal(filled.where(X.notna()).astype(float), X)


# What is said of new samples.


def test_messages_about_new_samples_do_not_ask_for_another_fit():
    counts = pd.DataFrame({"a": [1, 2, 5, 3] * 10, "b": [0.5, 0.25, 1.0, 0.0] * 10})
    poisson = VAEGenerator(1, likelihood="poisson", max_iter=0).fit(counts[["a", "a"]].set_axis(["a", "c"], axis=1))
    bits = AutoencoderTransformer(1, loss="log_loss", max_iter=0).fit(counts[["b", "b"]].set_axis(["b", "c"], axis=1))
    mixed = quick(n_components=1, likelihood={"a": "poisson"}, max_iter=0).fit(counts)
    text = quick(n_components=1, likelihood="gaussian", max_iter=0).fit(counts)
    city = quick(n_components=1, max_iter=0).fit(counts.assign(b=["Oslo", "Rome"] * 20))
    for model, new in (
        (city, pd.DataFrame({"a": [1, 2], "b": ["Oslo", "Bonn-1"]})),
        (poisson, pd.DataFrame({"a": [1, -1], "c": [1, 2]})),
        (poisson, pd.DataFrame({"a": [1, 0.5], "c": [1, 2]})),
        (bits, pd.DataFrame({"b": [0.5, 7.0], "c": [1, 0]})),
        (mixed, pd.DataFrame({"a": [1, -1], "b": [1, 0.5]})),
        (mixed, pd.DataFrame({"a": [1, 2], "b": [1, np.inf]})),
        (mixed, pd.DataFrame({"a": ["many", "few"], "b": [1, 0.5]})),
        (text, pd.DataFrame({"a": ["many", "few"], "b": [1, 0.5]})),
    ):
        for method in ("transform", "score_samples", "score", "impute"):
            with pytest.raises(ValueError, match=r"'many'|-1|0\.5|7|inf") as caught:
                getattr(model, method)(new)
            assert not re.search(r"Use |\bfit|likelihood='(auto|gaussian)|loss='squared", str(caught.value))


# Parameters.


def test_a_mapping_names_some_columns():
    X = table()
    model = quick(likelihood={"visits": "poisson", "change": "categorical", "member": "categorical"}).fit(X)
    made = model.sample(50, random_state=0)
    assert same_schema(made, X)
    assert set(made["change"]) <= set(X["change"])


def test_arrays_have_columns_by_index():
    X = np.column_stack([columns()[name] for name in ("income", "visits", "member")])
    model = quick(likelihood={1: "negative_binomial", 2: "bernoulli"}).fit(X)
    made = model.sample(100, random_state=0)
    assert isinstance(made, np.ndarray)
    assert (made[:, 1] == np.floor(made[:, 1])).all()
    assert set(made[:, 2]) == {0.0, 1.0}
    assert model.transform(X.astype(np.float32)).dtype == np.float32
    everything = quick(likelihood="categorical").fit(X[:, 1:])
    assert set(everything.sample(100)[:, 0]) <= set(X[:, 1])


BAD = [
    ({"age": "poisson"}, r"likelihood names 'age', which is no column of X.*'income'"),
    ({"change": "poisson"}, r"'poisson' of column 'change' needs counts.*-\d.*Use 'gaussian' or 'categorical'"),
    ({"income": "bernoulli"}, r"'bernoulli' of column 'income' needs bools or numbers in \[0, 1\].*Use 'gaussian' for"),
    ({"income": "negative_binomial"}, r"column 'income' needs counts, integers.*has \d+\.\d+\. Use 'gaussian'"),
    ({"city": "gaussian"}, r"'gaussian' of column 'city' needs finite numbers.*'\w+'.*Use 'categorical'"),
    ({"city": "normal"}, r"likelihood\['city'\]='normal' is not known"),
    ({"city": "multinomial"}, r"likelihood\['city'\]='multinomial' is not known"),
    ("automatic", "likelihood='automatic' is not known"),
]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize(("likelihood", "message"), BAD)
def test_a_likelihood_that_does_not_fit_names_column_value_and_others(library, likelihood, message):
    with pytest.raises(ValueError, match=message):
        quick(likelihood=likelihood).fit(table(library))


def test_other_bad_input():
    X = table()
    with pytest.raises(ValueError, match="handle_unknown='drop' is not known"):
        quick(handle_unknown="drop").fit(X)
    with pytest.raises(ValueError, match="feature_shape"):
        quick(feature_shape=(1, 8, 8)).fit(X)
    with pytest.raises(ValueError, match=r"'when' of X is of dtype datetime64.*Convert dates"):
        quick().fit(X.assign(when=pd.Timestamp("2020-01-01")))
    with pytest.raises(ValueError, match="column 'city' of X every value is missing"):
        quick().fit(X.assign(city=pd.Categorical([None] * len(X))))
    with pytest.raises(ValueError, match=r"'income' needs finite numbers.*inf"):
        quick().fit(X.assign(income=np.inf))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        quick().fit(X[:1])
    with pytest.raises(ValueError, match=r"'when' of X is of dtype category of datetime64.*no likelihood"):
        quick().fit(X.assign(when=pd.Categorical([pd.Timestamp("2020-01-01")] * len(X))))
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        quick().fit(X[[]])
    for unit in (1e-311, 1.5e308):
        with pytest.raises(ValueError, match=r"'change' of X goes from .* overflows or underflows"):
            quick().fit(X.assign(change=np.linspace(-1, 1, len(X)) * unit))
    with pytest.raises(ValueError, match=r"could not convert string to float: '\w+'.*pass strings .* as a DataFrame"):
        quick().fit(X[["job", "job"]].to_numpy())
    with pytest.raises(ValueError, match=r"names 99, which is no column .*19 and 5 others"):
        quick(likelihood={99: "poisson"}).fit(np.zeros((9, 25)))
    model = quick().fit(X)
    with pytest.raises(ValueError, match=r"'visits' needs counts.*-3"):
        model.transform(X.assign(visits=-3))
    with pytest.raises(ValueError, match="'income' needs finite numbers"):
        model.transform(X.assign(income="much"))
    with pytest.raises(ValueError, match="feature names"):
        model.transform(X[list(X.columns[::-1])])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_who_fits_a_table_with_one_likelihood_learns_of_auto(library):
    with pytest.raises(ValueError, match=r"'gaussian' takes numbers, but column 'city' of X has '\w+'.*'auto'"):
        VAEGenerator().fit(table(library))
    with pytest.raises(ValueError, match=r"'log_loss' takes numbers, but column 'city' of X has '\w+'.*'auto'"):
        AutoencoderTransformer(loss="log_loss").fit(table(library))


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_rows_in_lists_are_those_of_the_table():
    X = table()
    model = quick().fit(X)
    np.testing.assert_array_equal(model.transform(X.to_numpy().tolist()), model.transform(X))
    with pytest.raises(ValueError, match=r"Expected 2D array, got 1D array instead:\s+array=\[0.5"):
        model.transform([0.5, 1.5])


# What holds of every fit.


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_pickles_and_clones(library):
    X = table(library)
    model = quick(likelihood={"visits": "poisson"}, prior="mixture").fit(X)
    twin = pickle.loads(pickle.dumps(model))
    scores = model.score_samples(X[:100])
    np.testing.assert_array_equal(twin.score_samples(X[:100]), scores)
    np.testing.assert_array_equal(twin.mean_, model.mean_)
    ours, theirs = model.sample(5, random_state=0), twin.sample(5, random_state=0)
    assert ours.equals(theirs)
    again = clone(model).fit(X)
    np.testing.assert_array_equal(again.score_samples(X[:100]), scores)


def test_skops_holds_a_fit():
    skops = pytest.importorskip("skops.io")
    X = table()
    model = quick().fit(X)
    data = skops.dumps(model)
    untrusted = skops.get_untrusted_types(data=data)
    assert all(name.startswith("skae.") for name in untrusted), untrusted
    twin = skops.loads(data, trusted=untrusted)
    np.testing.assert_array_equal(twin.transform(X), model.transform(X))


def test_partial_fit_keeps_the_columns_of_the_first_call():
    X = table()
    model = quick().partial_fit(X[:200])
    table_before = model._table
    with np.errstate(all="raise"):
        model.partial_fit(X[200:])
    assert model._table is table_before
    assert same_schema(model.sample(5), X)
    with pytest.raises(ValueError, match="likelihood changed"):
        model.set_params(likelihood={"visits": "poisson"}).partial_fit(X)


@pytest.mark.parametrize(
    "parameters",
    [
        {"ordered": True, "n_components": 3},
        {"n_components": "auto"},
        {"start": "pca"},
        {"start": "random"},
        {"prior": "mixture"},
        {"hidden_layer_sizes": ()},
        {"early_stopping": False, "beta": 0.5},
        {"max_iter": 0},
    ],
    ids=str,
)
def test_other_parameters_go_with_tables(parameters):
    X = table(n=120)
    model = quick(**{"max_iter": 3} | parameters).fit(X)
    assert np.isfinite(model.score(X))
    assert same_schema(model.sample(20, random_state=0), X)
    if parameters.get("ordered"):
        assert same_schema(model.truncate(2).sample(20, random_state=0), X)


def test_columns_that_do_not_vary_come_back_and_count_for_nothing():
    X = table()
    constant = X.assign(one=1.5, same="x", yes=True, seven=7)
    model = quick(max_iter=0).fit(constant)
    made = model.sample(20, random_state=0)
    assert same_schema(made, constant)
    assert (made[["one", "same", "yes", "seven"]] == constant[["one", "same", "yes", "seven"]][:20]).all(axis=None)
    assert model.score(constant) == pytest.approx(quick(max_iter=0).fit(X).score(X), abs=0.1)


def test_fits_are_the_same_each_time():
    X = table()
    np.testing.assert_array_equal(quick().fit(X).transform(X), quick().fit(X).transform(X))
    model = quick().fit(X)
    assert model.sample(9, random_state=3).equals(model.sample(9, random_state=3))
