"""Samples, labels and codes that do not fit are named with the value, the rule and a way out."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from skae.data.checks import SUPPORTS, check_classes, check_code_width, check_labels, listed

X = np.random.RandomState(0).normal(size=(40, 5))


@pytest.mark.parametrize(
    ("support", "inside"),
    [
        ("real", X),
        ("unit_interval", np.clip(np.abs(X), 0, 1) * (1 + 1e-12)),
        ("non_negative", np.abs(X)),
        ("counts", np.round(np.abs(X))),
    ],
)
def test_what_is_inside_is_taken_dense_and_sparse_and_may_be_missing(support, inside):
    SUPPORTS[support].check(inside, "loss", "own")
    SUPPORTS[support].check(np.where(inside > 1, np.nan, inside), "loss", "own")
    SUPPORTS[support].check(np.full((2, 2), np.nan), "loss", "own")
    SUPPORTS[support].check_sparse(sparse.csr_array(inside), "loss", "own")
    SUPPORTS[support].check_sparse(sparse.csr_array((3, 4)), "loss", "own")


RANGE = r"values in \[0, 1\], but X has values from -2.* to 2.*MinMaxScaler\(clip=True\), or use loss='squared_error'\."
NEGATIVE = r"values of at least 0, but X has -2.*: Negative values in data passed to X\. Use loss='squared_error'\."
OUTSIDE = [
    ("unit_interval", "loss", "log_loss", X, f"loss='log_loss' needs {RANGE}"),
    ("unit_interval", "likelihood", "bernoulli", 2 + X**2, r"'bernoulli' needs .* or use likelihood='gaussian'\."),
    ("non_negative", "loss", "poisson", X, f"loss='poisson' needs {NEGATIVE}"),
    ("counts", "likelihood", "poisson", np.abs(X), r"'poisson' needs counts, integers .* but column 0 of X has 1\.7"),
    ("counts", "likelihood", "poisson", -np.ones((2, 2)), r"column 0 of X has -1\. Negative values in data passed to"),
]


@pytest.mark.parametrize(("support", "parameter", "value", "rows", "message"), OUTSIDE)
def test_what_is_outside_is_refused_with_a_way_out(support, parameter, value, rows, message):
    rows = np.where(np.arange(rows.size).reshape(rows.shape) == 1, np.nan, rows)
    with pytest.raises(ValueError, match=message):
        SUPPORTS[support].check(rows, parameter, value)


@pytest.mark.parametrize(
    ("value", "message"),
    [(-1, "column 4 of X has -1"), (1.5, r"column 4 of X has 1\.5"), (np.nan, "need a dense array")],
)
def test_bad_sparse_entries_are_named_by_their_column(value, message):
    rows = np.eye(6)
    rows[3, 4] = value
    with pytest.raises(ValueError, match=message):
        SUPPORTS["counts"].check_sparse(sparse.csr_array(rows), "likelihood", "multinomial")


def test_supports_say_whether_they_hold_negative_numbers():
    assert {name for name, support in SUPPORTS.items() if support.positive_only} == {"non_negative", "counts"}


def test_classes_are_sorted_and_counted_from_zero():
    classes, labels = check_classes(["b", "a", "b"], 3)
    assert classes.tolist() == ["a", "b"]
    assert labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        ([0, 1], "inconsistent numbers of samples"),
        ([0.5, 1, 2], r"numbers that are not whole, such as 0\.5"),
        (["a", 1, None], "all strings, or all numbers.*y holds NoneType and int and str"),
        ([0, 1, np.nan], "y contains NaN"),
    ],
)
def test_targets_that_are_no_classes_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check_classes(np.array(y, dtype=object) if y and "a" in y else y, 3)


def test_labels_are_found_among_the_classes():
    classes = np.array(["a", "b"])
    assert check_labels("b", classes, 3).tolist() == [1, 1, 1]
    assert check_labels(["b", "a"], classes, 2).tolist() == [1, 0]
    days = np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]")
    assert check_labels(days.astype("M8[s]"), days, 2).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"y has 'c', which is not a class of the training samples: 'a', 'b'"):
        check_labels("c", classes, 3)
    with pytest.raises(ValueError, match="y has '1', which is not a class of"):
        check_labels("1", np.array([1, 2]), 3)
    with pytest.raises(ValueError, match=r"y has shape \(2,\), but must be one class or one for each of 3"):
        check_labels(["a", "b"], classes, 3)


def test_codes_have_the_width_of_the_estimator():
    check_code_width(PCA(), 2, 2)
    with pytest.raises(ValueError, match="X has 3 columns, but the codes of this PCA have n_components_=2"):
        check_code_width(PCA(), 3, 2)


def test_many_names_are_not_all_listed():
    assert listed(list("ab")) == "'a', 'b'"
    assert listed(list(range(25))).endswith("18, 19 and 5 others")
