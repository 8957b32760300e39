"""The command, and the tables that it reads."""

import inspect
import re
import runpy
import sys

import numpy as np
import pandas as pd
import pytest

import skae
from skae.__main__ import main


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


@pytest.fixture
def passed(monkeypatch):
    """A list of what the command passes to `compare`, which refuses it."""
    calls = []

    def refuse(X, y, **options):
        calls.append((X, y, options))
        raise ValueError("that is all")

    monkeypatch.setattr("skae.__main__.compare", refuse)
    return calls


def test_a_table_is_standardised_or_raw(passed, csv):
    for options in ([], ["--raw"]):
        assert main(["compare", str(csv), "--target", "label", *options]) == 1
    (X, y, _), (raw, _, _) = passed
    assert list(X) == list("abcde")
    assert set(y) == {"yes", "no"}
    np.testing.assert_allclose(X.std(ddof=0), 1)
    assert abs(raw["a"].std() - 1) > 0.05


def test_categories_and_missing_values_are_kept_unless_only_numbers_are_wanted(passed, csv, tmp_path):
    table = pd.read_csv(csv).assign(city=lambda table: ["Ulm", "Rom"] * 40).drop(columns="label")
    table.to_csv(csv, index=False)
    for options in ([], ["--numeric-only"]):
        main(["compare", str(csv), *options])
    (X, *_), (numbers, *_) = passed
    assert list(X) == [*"abcde", "city"]
    assert X.shape == (80, 6)
    assert X.isna().to_numpy().sum() == 3
    assert numbers.shape == (78, 5)


def test_labels_of_any_kind_are_read(passed, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a;flag;label\n1;True;True\n5;False;\n3;True;False\n2;False;True\n")
    main(["compare", str(path), "--target", "label", "--raw"])
    ((X, y, _),) = passed
    np.testing.assert_array_equal(X, [[1, 1], [3, 1], [2, 0]])
    assert list(y) == ["True", "False", "True"]


CASES = {
    "cp1252_bars.csv": ("cp1252, separated by bars", ["größe", "fläche", "höhe"]),
    "decimal_comma.csv": ("separated by semicolons, decimal commas", list("abcde")),
    "money.csv": ("separated by commas, decimal points", ["price", "share", "height"]),
    "no_header.csv": ("no names of columns", [f"column {j}" for j in range(1, 6)]),
}


@pytest.mark.parametrize("name", CASES)
def test_dialects_are_detected_and_printed_before_anything_runs(passed, capsys, tmp_path, curve, name):
    found, names = CASES[name]
    rows = [f"{a:.3f}|{b:.3f}|{c:.3f}" for a, b, c in curve[:60, :3]]
    form = {
        "cp1252_bars.csv": ["größe|fläche|höhe", *rows],
        "decimal_comma.csv": [
            "a;b;c;d;e",
            *(";".join(f"{1e3 * x:,.2f}".translate({44: 46, 46: 44}) for x in r) for r in curve[:60]),
        ],
        "money.csv": [
            "id,price,share,height,opened",
            *(
                f'{1000 + i},"${1000 + 99 * a:,.2f}",{b:.1f}%,{c:.3f},2024-01-{1 + i % 28:02}'
                for i, (a, b, c) in enumerate(curve[:60, :3])
            ),
        ],
        "no_header.csv": [",".join(f"{x:.3f}" for x in row) for row in curve[:60]],
    }[name]
    path = tmp_path / name
    path.write_bytes("\n".join(form).encode("cp1252" if "cp1252" in name else "utf-8-sig"))
    main(["compare", str(path)])
    ((X, _, _),) = passed
    assert list(X) == names
    assert len(X) == 60
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Read {path}: text, ")
    assert found in first
    assert second.startswith("Columns: ")


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


def test_the_command_compares_a_table(run, csv, tmp_path):
    report = tmp_path / "out.html"
    pd.read_csv(csv).head(40).to_csv(csv, index=False)
    options = [
        "--n-components",
        2,
        "--target",
        "label",
        "--cv",
        2,
        "--budget",
        "fast",
        "--n-jobs",
        1,
        "--report",
        report,
    ]
    code, out, err = run("compare", csv, *options)
    assert code == 0, err
    assert "left out, constant: 'city'" in out
    assert "At 2 components the error of the autoencoder is" in out
    assert "accuracy" in out
    assert re.search(r"2 +VAEGenerator .* 8/8", err, flags=re.DOTALL)  # the rows of a size, and the bar
    assert f"The report is {report}." in out
    assert "left out, constant: &#x27;city&#x27;" in report.read_text()


def test_a_report_that_cannot_be_written_is_found_before_anything_runs(run, passed, csv, tmp_path):
    code, out, err = run("compare", csv, "--report", tmp_path)
    assert (code, out) == (2, "")
    assert "is a folder, or cannot be written" in err
    code, out, err = run("compare", csv, "--report", tmp_path / f"{'n' * 300}.html")
    assert (code, out) == (2, "")
    assert "cannot be written" in err
    assert not passed
    report = tmp_path / "old.html"
    report.write_text("old")
    for name in ("old.html", "new.html"):
        assert run("compare", csv, "--report", tmp_path / name)[0] == 1  # refused by `passed` only
    assert report.read_text() == "old"
    assert not (tmp_path / "new.html").exists()


def test_a_folder_that_cannot_be_written_is_found_before_anything_runs(run, passed, csv, tmp_path):
    code, _, err = run("compare", csv, "--resume", csv, "--report", "none")
    assert code == 2
    assert "is no folder, or cannot be written" in err
    assert run("compare", csv, "--resume", tmp_path / ("n" * 300), "--report", "none")[0] == 2
    assert not passed
    assert run("compare", csv, "--resume", tmp_path / "new", "--report", "none")[0] == 1  # refused by `passed` only
    assert passed


def test_the_version_is_printed(run):
    assert run("--version")[:2] == (0, f"skae {skae.__version__}\n")


def test_a_report_in_no_folder_is_refused_before_anything_is_fitted(run, csv, tmp_path):
    code, out, err = run("compare", csv, "--report", tmp_path / "no" / "report.html")
    assert code == 2
    assert "is in a folder that does not exist" in err
    assert not out


def test_the_command_without_a_table_compares_digits(monkeypatch, capsys):
    from skae import __main__ as command

    data = command._digits()
    assert data.X.shape == (1797, 64)
    monkeypatch.setattr(command, "_digits", lambda: data._replace(X=data.X[:60], y=data.y[:60]))
    assert main(["compare", "--n-components", "2", "--cv", "2", "--n-jobs", "1", "--report", "none"]) == 0
    assert "60 rows, 64 columns" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["compare", "no-such.csv"], 1, "no-such.csv"),
        (["compare", "{csv}", "--target", "nope"], 1, "--target nope is no column"),
        (["compare", "{csv}", "--n-components", "6"], 1, "less than the number of columns of X, 6"),
        (["compare", "--n-components", "two"], 2, "invalid int value"),
        (["compare", "--cv", "1"], 2, "--cv=1 must be an integer of at least 2"),
        (["compare", "--n-components", "0"], 2, "--n-components=0"),
        (["compare", "--target", "label"], 2, "--target needs a table"),
        (["reduce"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_the_command_fails_with_a_message_and_a_code(run, csv, arguments, code, message):
    found, _, err = run(*(argument.replace("{csv}", str(csv)) for argument in arguments))
    assert found == code
    assert message in err


def test_a_program_that_fails_ends_with_the_code_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["skae", "compare", "no-such.csv"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(inspect.getfile(main), run_name="__main__")
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("skae: ")
    assert "Traceback" not in err


def test_help_shows_examples(run):
    code, out, _ = run("compare", "--help")
    assert code == 0
    assert "python -m skae compare data.csv --n-components 2 4 8 --target label" in out


@pytest.mark.parametrize("content", ["", "name\nx\ny\n", "a,b\n1,2\n"], ids=["empty", "text only", "one row"])
def test_a_table_that_cannot_be_used_says_why(tmp_path, content, capsys):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert main(["compare", str(path)]) == 1
    assert capsys.readouterr().err.startswith("skae: ")


def test_options_are_named_as_those_of_the_function(passed):
    for options in ([], ["--ordered", "--n-components", "3", "--cv", "4", "--n-jobs", "2"]):
        assert main(["compare", *options]) == 1
    plain, other = (options for _, _, options in passed)
    assert not plain["ordered"]
    assert other == plain | {"ordered": True, "n_components": [3], "cv": 4, "n_jobs": 2}
    assert set(plain) <= set(inspect.signature(skae.compare).parameters)
