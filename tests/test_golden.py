"""Fits give the answers that they gave when golden.npz was written, whatever the versions of the dependencies."""

import numpy as np
import pytest
from golden import CASES, PATH, answers, tables

TABLES = tables()
# Of the largest answer: rounding at the start, which training enlarges.
TOLERANCES = {0: 1e-6, 5: 1e-3}


@pytest.fixture(scope="module")
def golden():
    with np.load(PATH) as kept:
        return dict(kept)


@pytest.mark.parametrize("table", ["iris", *(pytest.param(t, marks=pytest.mark.slow) for t in TABLES if t != "iris")])
@pytest.mark.parametrize("name", CASES)
def test_answers_are_golden(name, table, golden):
    for max_iter, tolerance in TOLERANCES.items():
        for kind, found in answers(name, TABLES[table], max_iter).items():
            expected = golden[f"{name}/{table}/{max_iter}/{kind}"]
            scale = np.abs(expected).max()
            np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance, err_msg=kind)


def test_no_answer_is_kept_for_nothing(golden):
    kinds = "codes", "scores", "draws"
    assert set(golden) == {f"{n}/{t}/{i}/{k}" for n in CASES for t in TABLES for i in TOLERANCES for k in kinds}
