"""The command, and the tables that it reads."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from skae.__main__ import main, read_table


@pytest.fixture
def csv(tmp_path, curve):
    table = pd.DataFrame(curve[:80].copy(), columns=list("abcde"))  # written to below
    table.loc[[3, 7], "a"] = np.nan
    table.loc[7, "b"] = np.inf
    table["city"] = "Ulm"
    table["empty"] = np.nan
    table["label"] = np.where(np.arange(80) % 2, "yes", "no")
    table.loc[9, "label"] = None
    path = tmp_path / "data.csv"
    table.to_csv(path, index=False)
    return path


def test_a_table_says_what_was_left_out(csv):
    X, y, notes = read_table(csv, "label")
    assert X.shape == (77, 5)
    assert set(y) == {"yes", "no"}
    np.testing.assert_allclose(X.std(axis=0), 1)
    assert notes[0] == "Left out, not numeric: city."
    assert notes[1] == "Left out, more than half missing: empty."
    assert notes[2] == "Left out, 3 of 80 rows with missing values in: a (2), b (1), label (1)."
    raw, _, _ = read_table(csv, "label", raw=True)
    assert abs(raw[:, 0].std() - 1) > 0.05


def test_semicolons_booleans_and_labels_of_any_kind_are_read(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a;flag;label\n1;True;True\n2;False;\n3;True;False\n4;False;True\n")
    X, y, notes = read_table(path, "label", raw=True)
    np.testing.assert_array_equal(X, [[1, 1], [3, 1], [4, 0]])
    assert list(y) == ["True", "False", "True"]
    assert notes == ["Left out, 1 of 4 rows with missing values in: label (1)."]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2,\n3,4,\n",
        "a,b,\n1,2,\n3,4,\n",
        "\n\na;b\n1;2\n3;4\n",
        '"a, in m; s",b\n1,2\n3,4\n',
        '"a; in m; s",b\n1,2\n3,4\n',
        "a,b\nfirst,1,2\nsecond,3,4\n",
        "a,b\n0,9,\n1,1,2\n2,3,4\n",
        "\ufeffa\tb\n1\t2\n3\t4\n",
    ],
)
def test_tables_as_programs_write_them_are_read(tmp_path, text):
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8")
    X, _, _ = read_table(path, raw=True)
    np.testing.assert_array_equal(X, [[1, 2], [3, 4]])


def test_durations_are_left_out(tmp_path):
    path = tmp_path / "data.parquet"
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 5], "c": pd.to_timedelta([1, 2], "s")})
    table.to_parquet(path)
    X, _, notes = read_table(path, raw=True)
    np.testing.assert_array_equal(X, [[1, 3], [2, 5]])
    assert notes == ["Left out, not numeric: c."]


@pytest.fixture
def run(capsys):
    """Run the command in this process; return the exit code, stdout and stderr."""

    def call(*arguments):
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as done:
            code = done.code
        return code, *capsys.readouterr()

    return call


def run_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "skae", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def test_the_command_compares_a_table(run, csv, tmp_path):
    report = tmp_path / "out.html"
    pd.read_csv(csv).head(40).to_csv(csv, index=False)
    options = ["--components", 2, "--target", "label", "--cv", 2, "--jobs", 1, "--report", report]
    code, out, err = run("compare", csv, *options)
    assert code == 0, err
    assert "Left out, not numeric: city." in out
    assert "At 2 components the error of the autoencoder is" in out
    assert "accuracy" in out
    assert "[8/8] VAEGenerator, 2 components, fold 2" in err
    assert f"The report is {report}." in out
    assert "Left out, not numeric: city." in report.read_text()


def test_parquet_is_read_like_csv(tmp_path, csv):
    path = tmp_path / "data.parquet"
    pd.read_csv(csv).to_parquet(path)
    for mine, theirs in zip(read_table(path, "label"), read_table(csv, "label"), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_report_that_cannot_be_written_leaves_the_table(run, csv, tmp_path, comparison, monkeypatch):
    monkeypatch.setattr("skae.__main__.compare", lambda X, y, **options: comparison)
    code, out, err = run("compare", csv, "--report", tmp_path)
    assert code == 0
    assert comparison.summary() in out
    assert "For reconstruction" in out
    assert "skae: no report" in err


def test_a_report_in_no_folder_is_refused_before_anything_is_fitted(run, csv, tmp_path):
    code, out, err = run("compare", csv, "--report", tmp_path / "no" / "report.html")
    assert code == 2
    assert "is in a folder that does not exist" in err
    assert not out


def test_a_constant_column_of_a_table_is_left_out_by_name(tmp_path):
    rng = np.random.RandomState(0)
    path = tmp_path / "flat.csv"
    pd.DataFrame({"name": ["x"] * 9, "a": rng.normal(size=9), "b": rng.normal(size=9), "flat": 1.0}).to_csv(path)
    X, _, notes = read_table(path)
    assert X.shape == (9, 3)  # a number a row beside a and b
    assert "Left out, constant: flat." in notes
    pd.DataFrame({"flat": np.ones(9), "flatter": 2.0}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"no numeric column that varies. Left out, constant: flat, flatter."):
        read_table(path)


def test_the_command_without_a_table_compares_digits(monkeypatch, capsys):
    from skae import __main__ as command

    X, y, notes = command._digits()
    assert X.shape == (1797, 64)
    monkeypatch.setattr(command, "_digits", lambda: (X[:60], y[:60], notes))
    assert main(["compare", "--components", "2", "--cv", "2", "--jobs", "1", "--report", "none"]) == 0
    assert "60 rows, 64 columns" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["compare", "no-such.csv"], 1, "no-such.csv"),
        (["compare", "{csv}", "--target", "nope"], 1, "--target nope is no column"),
        (["compare", "{csv}", "--components", "5"], 1, "less than the 5 columns"),
        (["compare", "--components", "two"], 2, "invalid int value"),
        (["compare", "--target", "label"], 2, "--target needs a table"),
        (["reduce"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_the_command_fails_with_a_message_and_a_code(run, csv, arguments, code, message):
    found, _, err = run(*(argument.replace("{csv}", str(csv)) for argument in arguments))
    assert found == code
    assert message in err


def test_a_process_that_fails_has_the_code_and_no_traceback():
    done = run_process("compare", "no-such.csv")
    assert done.returncode == 1
    assert done.stderr.startswith("skae: ")
    assert "Traceback" not in done.stderr


def test_help_shows_examples(run):
    code, out, _ = run("compare", "--help")
    assert code == 0
    assert "python -m skae compare data.csv --components 2 4 8 --target label" in out


@pytest.mark.parametrize("content", ["", "name\nx\ny\n", "a,b\n1,2\n"], ids=["empty", "text only", "one row"])
def test_a_table_that_cannot_be_used_says_why(tmp_path, content, capsys):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert main(["compare", str(path)]) == 1
    assert capsys.readouterr().err.startswith("skae: ")


def test_the_command_compares_one_ordered_fit(monkeypatch):
    seen = []

    def refuse(X, y, **options):
        seen.append(options["ordered"])
        raise ValueError("that is all")

    monkeypatch.setattr("skae.__main__.compare", refuse)
    assert [main(["compare", *options]) for options in ([], ["--ordered"])] == [1, 1]
    assert seen == [False, True]
