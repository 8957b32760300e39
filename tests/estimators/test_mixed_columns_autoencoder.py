"""The autoencoder of DataFrames with numbers, bools, counts and categories."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skae import TRUSTED_TYPES, AutoencoderTransformer, LatentSizeCV
from skae.objectives import LOSSES, Loss, register_loss

pl = pytest.importorskip("polars")

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
KINDS = {
    "income": "squared_error", "debt": "squared_error", "change": "squared_error", "member": "log_loss",
    "visits": "poisson", "city": "cross_entropy", "job": "cross_entropy",
}  # fmt: skip


def table(n=240, seed=0, library="pandas"):
    """Columns of all kinds that depend on two variables."""
    rng = np.random.RandomState(seed)
    u, v = rng.normal(size=(2, n))
    made = {
        "income": 3000 + 800 * u + 50 * rng.normal(size=n),
        "debt": 20 * np.tanh(u - v) + rng.normal(size=n),
        "member": u + 0.3 * rng.normal(size=n) > 0,
        "city": np.array(["Oslo", "Rome", "Bonn"])[np.digitize(v, [-0.5, 0.7])],
        "job": np.array(["clerk", "smith"])[(u + v > 0.2).astype(int)],
        "visits": rng.poisson(np.exp(1 + v)),
        "change": np.round(3 * u).astype(int),
    }
    frame = pl.DataFrame(made) if library == "polars" else pd.DataFrame(made)
    return frame if library == "polars" else frame.astype({"city": "category", "visits": "int16"})


def quick(n_components=2, **parameters):
    return AutoencoderTransformer(n_components, **({"max_iter": 4, "random_state": 0} | parameters))


def up_to_sign(codes, expected, rtol):
    np.testing.assert_allclose(np.abs(codes), np.abs(expected), rtol=0, atol=rtol * np.abs(expected).max())


def mixed_data_scaled(X, numbers, categories):
    """The matrix whose PCA is factor analysis of mixed data, by its definition."""
    standardised = (X[numbers] - X[numbers].mean()) / X[numbers].std(ddof=0)
    indicators = pd.get_dummies(X[categories].astype(str)).astype(float)
    share = indicators.mean()
    return np.hstack([standardised, (indicators - share) / np.sqrt(share)])


# The start.


@pytest.mark.parametrize("seed", range(2))
def test_it_starts_at_factor_analysis_of_mixed_data(seed):
    X = table(seed=seed)[["income", "debt", "city", "job", "member"]]
    scaled = mixed_data_scaled(X, ["income", "debt"], ["city", "job", "member"])
    model = quick(3, loss="auto", max_iter=0).fit(X)
    up_to_sign(model.transform(X), PCA(3).fit_transform(scaled), 1e-9)


def test_codes_are_the_row_coordinates_of_prince():
    prince = pytest.importorskip("prince")
    X = table()[["income", "debt", "city", "job"]]
    expected = prince.FAMD(n_components=2, n_iter=50).fit(X).row_coordinates(X)
    up_to_sign(quick(loss="auto", max_iter=0).fit_transform(X), expected.to_numpy(), 1e-9)


def test_numbers_alone_start_at_pca_of_standardised_columns():
    X = table()[["income", "debt"]]
    expected = PCA(1).fit_transform((X - X.mean()) / X.std(ddof=0))
    up_to_sign(quick(1, loss="auto", max_iter=0).fit_transform(X), expected, 1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_one_loss_starts_at_pca_behind_one_hot_encoding(loss):
    X = table()
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["city", "job"]), remainder="passthrough", verbose_feature_names_out=False
    )
    pca = make_pipeline(encoder, PCA(3)).fit(X)
    model = quick(3, loss=loss, max_iter=0).fit(X)
    assert model.losses_ == dict.fromkeys(X.columns, loss)
    up_to_sign(model.transform(X), pca.transform(X), 1e-9)
    assert model.score(X) == pytest.approx(pca[-1].explained_variance_ratio_.sum(), abs=1e-9)


def test_text_that_is_numbers_stays_numbers():
    """As PCA does, the default loss takes strings and categories that are all numbers for these numbers."""
    rng = np.random.RandomState(0)
    X = pd.DataFrame(rng.normal(size=(50, 4)).round(3), columns=list("abcd"))
    expected = quick(max_iter=0).fit_transform(X)
    for frame in (X.astype(str), X.astype({"a": "category"})):
        model = quick(max_iter=0).fit(frame)
        np.testing.assert_array_equal(model.transform(frame), expected)
        assert not hasattr(model, "losses_")


# What a fit says of the columns.


def test_each_column_has_its_loss(capsys):
    model = quick(loss="auto", max_iter=0, verbose=1).fit(table())
    assert model.losses_ == KINDS
    line = "AutoencoderTransformer: losses_: squared_error for 'income', 'debt', 'change'; log_loss for 'member'; "
    assert capsys.readouterr().err.startswith(line + "cross_entropy for 'city', 'job'; poisson for 'visits'\n")
    model = quick(loss={"visits": "huber", "member": "cross_entropy"}, max_iter=0).fit(table())
    assert model.losses_ == KINDS | {"visits": "huber", "member": "cross_entropy"}


def test_arrays_have_columns_by_index():
    X = table()[["income", "visits", "member"]].to_numpy(dtype=float)
    model = quick(loss={1: "poisson", 2: "log_loss"}).fit(X)
    assert model.losses_ == {0: "squared_error", 1: "poisson", 2: "log_loss"}
    decoded = model.inverse_transform(model.transform(X))
    assert type(decoded) is np.ndarray
    assert (decoded[:, 1:] >= 0).all()


# Back to a table.


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("loss", ["auto", "squared_error"])
def test_tables_come_back(library, loss):
    X = table(library=library)
    model = quick(5, loss=loss, max_iter=20).fit(X)
    decoded, drawn = model.inverse_transform(model.transform(X)), model.sample(7, random_state=0)
    for made in (decoded, drawn, model.impute(X)):
        if library == "polars":
            assert made.schema == X.schema
        else:
            pd.testing.assert_series_equal(made.dtypes, X.dtypes)
    for name in ("city", "job", "member"):
        assert (decoded[name].to_numpy() == X[name].to_numpy()).mean() > 0.9
    assert np.corrcoef(decoded["income"], X["income"])[0, 1] > 0.99
    assert X.equals(model.impute(X))


def test_the_index_is_that_of_codes():
    X = table().set_index(pd.Index(range(1000, 1240)))
    model = quick(loss="auto").set_output(transform="pandas").fit(X)
    assert model.inverse_transform(model.transform(X)).index.equals(X.index)


@pytest.mark.parametrize("loss", ["auto", "squared_error"])
def test_missing_values_are_imputed(loss):
    X = table()
    incomplete = X.copy()
    incomplete.loc[::5, "city"] = None
    incomplete.loc[2::5, "income"] = np.nan
    model = quick(2, loss=loss, max_iter=15).fit(incomplete)
    filled = model.impute(incomplete)
    assert not filled.isna().to_numpy().any()
    assert (filled["city"] == X["city"])[::5].mean() > 0.6
    error = (filled["income"] - X["income"])[2::5]
    assert error.std() < 0.5 * X["income"].std()


def test_unknown_categories():
    X = table()
    new = X.astype({"city": str}).assign(city="Paris")
    model = quick(loss="auto").fit(X)
    with pytest.raises(ValueError, match=r"'city' of X has 'Paris', a category that is not in the training samples"):
        model.transform(new)
    model.set_params(handle_unknown="ignore")
    np.testing.assert_array_equal(model.transform(new), model.transform(new.assign(city=None)))


# Scores.


def test_score_is_the_r2_of_errors_in_the_scale_of_each_column():
    X = table()
    model = quick(3, loss="auto", max_iter=20).fit(X)
    encoded = model._open(X)[:]
    decoded = model._fitted.decode(model.transform(X))
    units = [X[name].std(ddof=0) if KINDS[name] == "squared_error" else 1.0 for name in model._table.names]
    standard = [KINDS[name] == "squared_error" for name in model._table.names]
    assert np.allclose(encoded[:, standard].std(axis=0), 1)  # so that the errors of numbers have their unit
    scales = np.where([name == "visits" for name in model._table.names], np.sqrt(X["visits"].mean()), 1.0)
    assert len(units) == encoded.shape[1] == 3 + 1 + 1 + 3 + 2
    errors = np.square((encoded - decoded) / scales)
    np.testing.assert_allclose(model.score_samples(X), -errors.mean(axis=1))
    total = np.square((encoded - encoded.mean(axis=0)) / scales).sum()
    assert model.score(X) == pytest.approx(1 - errors.sum() / total)


def test_training_lowers_the_loss_that_it_reports():
    X = table(600)
    model = quick(loss="auto", max_iter=25).fit(X)
    assert model.best_loss_ < 0.9 * model.linear_loss_
    assert model.score(X) > quick(loss="auto", max_iter=0).fit(X).score(X)


@pytest.mark.parametrize("loss", ["auto", "squared_error"])
def test_a_weight_of_two_is_a_sample_twice(loss):
    X = table(60)
    weights = np.random.RandomState(0).randint(0, 3, size=60)
    repeated = X.iloc[np.repeat(np.arange(60), weights)]
    linear = quick(loss=loss, max_iter=0, early_stopping=False)
    ours, theirs = clone(linear).fit(X, sample_weight=weights), clone(linear).fit(repeated)
    kept = X[weights > 0]
    up_to_sign(ours.transform(kept), theirs.transform(kept), 1e-8)
    assert ours.score(X, sample_weight=weights) == pytest.approx(theirs.score(repeated))
    assert ours.linear_loss_ == pytest.approx(theirs.linear_loss_, rel=1e-6)


# Where the estimator is used.


@pytest.mark.parametrize("parameters", [{"ordered": True}, {"n_components": "auto"}, {"start": "random"}], ids=str)
def test_other_parameters_combine(parameters):
    X = table()
    model = quick(loss="auto").set_params(**parameters).fit(X)
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.transform(X), model.transform(X))
    if "start" not in parameters:
        ratios = model.explained_variance_ratio_
        assert model.score(X) == pytest.approx(ratios.sum(), abs=0.1)


def test_own_modules_get_encoded_columns():
    X = table()
    widths = []

    def linear(n_in, n_out):
        widths.append((n_in, n_out))
        return torch.nn.Linear(n_in, n_out)

    quick(loss="auto", encoder=linear, decoder=linear).fit(X)
    assert widths == [(10, 2), (2, 10)]


@pytest.mark.parametrize("loss", ["auto", "squared_error"])
def test_skops_and_checkpoints_hold_it(tmp_path, loss):
    skops = pytest.importorskip("skops.io")
    X = table(60)
    model = quick(loss=loss, checkpoint=str(tmp_path)).fit(X)
    for twin in (skops.loads(skops.dumps(model), trusted=TRUSTED_TYPES), clone(model).fit(X)):
        np.testing.assert_array_equal(twin.transform(X), model.transform(X))
        assert twin.losses_ == model.losses_


def test_partial_fit_learns_a_column_that_begins_to_vary():
    X = table()
    first, later = X[:60].assign(debt=5.0), X[60:]
    model = quick(loss="auto").partial_fit(first)
    for _ in range(5):
        model.partial_fit(later)
    decoded = model.inverse_transform(model.transform(later))
    assert np.corrcoef(decoded["debt"], later["debt"])[0, 1] > 0.6


def test_pipelines_and_searches_take_tables():
    X, y = table(120), np.arange(120) % 2
    make_pipeline(quick(loss="auto"), LogisticRegression()).fit(X, y).predict(X)
    search = LatentSizeCV(quick(loss="auto"), n_components=(1, 4), cv=2).fit(X)
    assert search.best_params_ == {"n_components": 4}
    assert search.best_score_ == pytest.approx(search.cv_results_["mean_test_score"][1])
    assert 0 < search.best_score_ < 1


def test_a_registered_loss_is_one_of_columns():
    def log_cosh(eta, x, reduction="none"):
        entries = torch.nn.functional.softplus(2 * (eta - x)) - (eta - x)
        return entries.mean() if reduction == "mean" else entries

    register_loss("log_cosh", Loss(log_cosh))
    try:
        model = quick(loss={"debt": "log_cosh"}).fit(table())
        assert model.losses_["debt"] == "log_cosh"
    finally:
        LOSSES.pop("log_cosh")


# Errors.


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": {"city": "poisson"}}, "loss 'poisson' of column 'city' needs finite numbers of at least 0.*'Oslo'.*"
         "Use 'cross_entropy'"),
        ({"loss": {"change": "poisson"}}, "loss 'poisson' of column 'change' needs finite numbers of at least 0"),
        ({"loss": {"age": "huber"}}, "loss names 'age', which is no column of X"),
        ({"loss": {"city": "categorical"}}, r"loss\['city'\]='categorical' is not known. Use one of"),
        ({"loss": "poisson"}, "loss='poisson' takes numbers, but column 'city' of X has 'Oslo'. Use loss='auto'"),
        ({"loss": "auto", "feature_shape": (1, 8, 8)}, "is for images, and loss='auto' for columns"),
        ({"handle_unknown": "skip"}, "handle_unknown='skip' is not known"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_named(parameters, message):
    X = table()
    X["city"] = X["city"].cat.reorder_categories(["Oslo", "Bonn", "Rome"])[X["city"] == "Oslo"].reindex(X.index)
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(X.assign(city=X["city"].fillna("Oslo")))


def test_identifiers_dates_and_infinities_are_refused():
    X = table(200)
    with pytest.raises(ValueError, match="'id' of X has 200 categories in 200 samples") as error:
        quick().fit(X.assign(id=[f"row {i}" for i in range(200)]))
    assert "or set" not in str(error.value)
    with pytest.raises(ValueError, match="Convert dates"):
        quick(loss="auto").fit(X.assign(when=pd.Timestamp("2020-01-01")))
    with pytest.raises(
        ValueError, match=r"loss 'squared_error' of column 'debt' needs finite numbers, but .* inf"
    ) as error:
        quick().fit(X.assign(debt=np.inf))
    assert not re.search("number'|indicator", str(error.value))
