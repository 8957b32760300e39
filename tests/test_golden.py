"""Fits give the answers that they gave when golden.npz was written, whatever the versions of the dependencies."""

import numpy as np
import pytest
from golden import CASES, PATH, answers, held_out_errors, numbers_of_epochs, tables

TABLES = tables()
# Of the largest answer: rounding at the start, which training enlarges.
TOLERANCES = {0: 1e-6, 5: 1e-3}
# Of a geometric mean: the errors of single fits may differ by more, since training to the end enlarges rounding.
ERROR_TOLERANCE = 0.01


@pytest.fixture(scope="module")
def golden():
    with np.load(PATH) as kept:
        return dict(kept)


@pytest.mark.parametrize("table", ["iris", *(pytest.param(t, marks=pytest.mark.slow) for t in TABLES if t != "iris")])
@pytest.mark.parametrize("name", CASES)
def test_answers_are_golden(name, table, golden):
    for max_iter in numbers_of_epochs(name):
        for kind, found in answers(name, TABLES[table], max_iter).items():
            expected = golden[f"{name}/{table}/{max_iter}/{kind}"]
            scale = np.abs(expected).max()
            np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=TOLERANCES[max_iter], err_msg=kind)


@pytest.mark.slow
def test_held_out_errors_are_golden_in_geometric_mean(golden):
    ratios = [error / golden[f"{name}/held-out error"] for name, error in held_out_errors().items()]
    assert abs(np.log(ratios).mean()) < ERROR_TOLERANCE, np.round(ratios, 3)


def test_no_answer_is_kept_for_nothing(golden):
    kinds = "codes", "scores", "draws"
    expected = {f"{n}/{t}/{i}/{k}" for n in CASES for t in TABLES for i in numbers_of_epochs(n) for k in kinds}
    assert set(golden) == expected | {f"{n}/{t}/held-out error" for n in CASES for t in TABLES}
