"""Inputs nobody thought of: no crash, nothing that is not finite, one answer in every thread."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer, VAEGenerator

pytestmark = pytest.mark.usefixtures("rough_estimates")
ESTIMATORS = [AutoencoderTransformer, VAEGenerator]
QUICK = {"max_examples": 10, "derandomize": True}
THOROUGH = {"max_examples": 500}
COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
# What X may be refused for: a standard deviation that floating point cannot square.
REFUSED = "whose square overflows or underflows"


@st.composite
def tables(draw):
    """Rows of any precision, order, stride and size of numbers, with columns and rows that are odd."""
    rng = np.random.RandomState(draw(st.integers(0, 2**16), label="seed"))
    n_rows, n_columns = draw(st.integers(2, 40), label="rows"), draw(st.integers(1, 8), label="columns")
    X = rng.standard_normal((n_rows, n_columns))
    if draw(st.booleans(), label="whole numbers"):
        X = np.round(3 * X)
    powers = st.integers(-30, 30)
    if draw(st.booleans(), label="a size for each column"):
        X *= 10.0 ** np.array(draw(st.lists(powers, min_size=n_columns, max_size=n_columns), label="sizes"))
    else:
        X *= 10.0 ** draw(powers, label="size")
    if draw(st.booleans(), label="offset"):
        X += 10.0 ** draw(powers, label="offset's size")
    if draw(st.booleans(), label="repeated rows"):
        X = X[rng.randint(draw(st.integers(1, n_rows)), size=n_rows)]
    for column in draw(st.sets(st.integers(0, n_columns - 1), max_size=n_columns), label="constant columns"):
        X[:, column] = draw(st.sampled_from([0.0, 1.0, -1e30, 1e-30, 1e15]))
    dtype = draw(
        st.sampled_from(["float64", "float32", "float16", "int64", "int8", "bool", ">f8", ">f4"]), label="dtype"
    )
    kind = np.dtype(dtype)
    if kind.kind != "f":
        X = np.round(X) % 100
    elif kind.itemsize < 4:
        X = np.clip(X, -1e4, 1e4)
    return laid_out(X.astype(kind), draw(st.sampled_from(LAYOUTS), label="layout"))


LAYOUTS = ["C", "F", "every other", "backwards", "read-only", "list", "part of a record"]


def laid_out(X, layout):
    """The same rows in this memory."""
    if layout == "F":
        return np.asfortranarray(X)
    if layout == "every other":
        wide = np.zeros((2 * X.shape[0], 3 * X.shape[1]), dtype=X.dtype)
        wide[::2, ::3] = X
        return wide[::2, ::3]
    if layout == "backwards":
        return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    if layout == "read-only":
        X.setflags(write=False)
    if layout == "list":
        return X.tolist()
    if layout == "part of a record":  # rows that begin at odd addresses
        records = np.zeros(len(X), dtype=[("byte", "i1"), ("x", X.dtype, X.shape[1:])])
        records["x"] = X
        return records["x"]
    return X


def check(estimator, X, max_iter, n_components, start):
    before = np.array(X, copy=True)
    n_components = min(n_components, *before.shape)
    model = estimator(n_components, max_iter=max_iter, start=start, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit(X)
        except ValueError as error:
            if REFUSED not in str(error):
                raise
            return
    codes = model.transform(X)
    answers = {
        "transform": codes,
        "inverse_transform": model.inverse_transform(codes),
        "score_samples": model.score_samples(X),
        "sample": model.sample(5, random_state=0),
        "loss_curve_": model.loss_curve_,
    }
    np.testing.assert_array_equal(np.array(X), before)
    assert codes.shape == (len(before), n_components)
    for name, answer in answers.items():
        assert np.isfinite(answer).all(), (name, answer)


def test_a_column_beside_which_the_others_are_nothing_does_not_diverge():
    X = np.random.RandomState(0).standard_normal((40, 2)) * [1, 1e20]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = AutoencoderTransformer(1, max_iter=3, random_state=0).fit(X)
    assert np.isfinite(model.loss_curve_).all()


def test_errors_that_float32_cannot_square_are_its_lowest_scores():
    X = np.float32(1e27) * np.random.RandomState(0).standard_normal((40, 3)).astype(np.float32)
    scores = AutoencoderTransformer(1, max_iter=0).fit(X).score_samples(X)
    assert scores.dtype == np.float32
    assert (scores == np.finfo(np.float32).min).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "bernoulli"])
def test_samples_of_any_likelihood_may_be_alike_but_for_one(likelihood):
    X = np.zeros((20, 4))
    X[3] = [1, 1, 0, 1]
    model = VAEGenerator(2, likelihood=likelihood, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(model.score_samples(X)).all()


CASES = (tables(), st.integers(0, 3), st.integers(1, 4))
STARTS = {AutoencoderTransformer: ["pca", "random"], VAEGenerator: ["factor_analysis", "pca", "random"]}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_whatever_the_rows_answers_are_finite(estimator):
    @settings(**QUICK, **COMMON)
    @given(*CASES, st.sampled_from(STARTS[estimator]))
    def holds(X, max_iter, n_components, start):
        check(estimator, X, max_iter, n_components, start)

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_whatever_the_rows_answers_are_finite_in_many_trials(estimator):
    @settings(**THOROUGH, **COMMON)
    @given(*CASES, st.sampled_from(STARTS[estimator]))
    def holds(X, max_iter, n_components, start):
        check(estimator, X, max_iter, n_components, start)

    holds()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_layout_of_rows_changes_no_answer(estimator, layout, curve):
    X = curve[:100]
    few = {"max_iter": 3, "learning_rate_init": 5e-3, "random_state": 0}
    model, like_it = (estimator(2, **few).fit(rows) for rows in (X, laid_out(X.copy(), layout)))
    np.testing.assert_allclose(model.transform(X), like_it.transform(X), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(model.transform(X), model.transform(laid_out(X.copy(), layout)), atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_eight_threads_get_the_answers_of_one(estimator, curve):
    """Casts of the net are made when the first rows of a precision come, here in all threads at once."""
    model = estimator(2, max_iter=30, random_state=0).fit(curve)
    rows = [curve[:100].astype(dtype) for dtype in (np.float32, np.float64)]
    expected = [(model.transform(X), model.score_samples(X)) for X in rows]
    for _ in range(2):
        model = pickle.loads(pickle.dumps(model))  # which has made no cast as yet
        with ThreadPoolExecutor(8) as threads:
            asked = [
                (threads.submit(model.transform, X), threads.submit(model.score_samples, X), answers)
                for _ in range(4)
                for X, answers in zip(rows, expected, strict=True)
            ]
            for codes, scores, answers in asked:
                np.testing.assert_array_equal(codes.result(), answers[0])
                np.testing.assert_array_equal(scores.result(), answers[1])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_cast_is_prepared_before_other_threads_see_it(estimator, curve, monkeypatch):
    net = pickle.loads(pickle.dumps(estimator(2, max_iter=0, random_state=0).fit(curve))).net_
    prepare, seen = type(net.module_).prepare, []
    monkeypatch.setattr(type(net.module_), "prepare", lambda cast: (seen.append(list(net._casts)), prepare(cast)))
    assert net.inference_module(torch.float64) is net.inference_module(torch.float64)
    assert seen == [[]]
