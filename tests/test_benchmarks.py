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
    for name in ("generation", "quality", "tables"):
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


def test_new_rows_get_the_format_of_the_training_rows(quality):
    from generation import NormalScores, distance_ratio, in_format

    rng = np.random.RandomState(0)
    X = np.column_stack([rng.exponential(size=200), rng.poisson(0.5, size=200), np.ones(200)])
    normal = NormalScores()
    scores = normal.fit_transform(X)
    assert np.abs(scores[:, 0].mean()) < 1e-9
    assert scores[:, 0].std() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(normal.inverse_transform(scores)[:, 1:], X[:, 1:])
    np.testing.assert_allclose(normal.inverse_transform(scores)[:, 0], X[:, 0], rtol=0.5, atol=0.1)
    rows = in_format(normal.inverse_transform(rng.normal(size=(500, 3))) + 0.1, X)
    assert (rows[:, 1:] == rows[:, 1:].round()).all()
    assert (rows >= X.min(axis=0)).all()
    assert (rows <= X.max(axis=0)).all()
    assert distance_ratio(X[:50], X[:150], X[150:]) == 0
