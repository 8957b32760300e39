"""The benchmarks run, and read their own records right."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import quality

    yield quality
    for name in ("quality", "tables"):
        sys.modules.pop(name)


def test_a_table_is_measured_and_summarised(quality):
    from tables import Table

    table = Table("iris", *load_iris(return_X_y=True))
    records = [record for job in quality.jobs([0], [table]) for record in quality.run(job)]
    assert {(r["mode"], r["size"]) for r in records} == {("standardised", 2), ("raw", 2), ("density", 2)}
    lines = list(quality.summary(records))
    assert any("of 1 cells" in line for line in lines)
    page = "\n".join(quality.markdown(records, lines, {"date": "today"}))
    assert page.count("| iris | 2 |") == 3


def test_a_cell_is_the_geometric_mean_of_its_splits(quality):
    records = [
        {"table": "a", "size": 2, "split": split, "mode": "raw", "pca_error": 2.0, "autoencoder_error": error}
        for split, error in enumerate([1.0, 4.0])
    ]
    (cell,) = quality.cells(records, "raw")
    assert (cell["ratio"], cell["worst"], cell["autoencoder_error"]) == (pytest.approx(1), 2, 2.5)


def test_rows_are_standardised_by_the_training_rows_alone(quality):
    train, test = np.random.RandomState(0).normal(5, 3, size=(2, 50, 2))
    test[0] = 1e6
    for rows, offset in zip(quality.standardise(train, test), (0, None), strict=True):
        assert np.abs(rows).max() <= 8
        if offset is not None:
            np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-9)
