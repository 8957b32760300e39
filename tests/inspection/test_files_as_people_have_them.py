"""Files as people have them, from the file to the verdict; or one sentence that says what to do."""

import gzip
import html
import re
import zipfile

import numpy as np
import pandas as pd
import pytest

from skae.__main__ import main
from skae.inspection import named
from skae.inspection.named import Budget

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

RNG = np.random.RandomState(0)
T = RNG.uniform(-2, 2, 60)
TABLE = pd.DataFrame(
    np.column_stack([T, T**2, np.sin(2 * T), -T]) + 0.1 * RNG.normal(size=(60, 4)), columns=list("abcd")
)
LABELS = np.where(T > 1.2, "high", "low")
DATES = pd.date_range("2024-01-01", periods=60)


def text(table, **options):
    return table.to_csv(index=False, **options)


def german(table):
    return table.map(lambda x: f"{1000 * x:,.2f}".translate({44: 46, 46: 44}))


def packed(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("inner.csv", content)


def made(name, content=None, **options):
    """A function that writes a text into a folder, and returns its path."""
    return lambda folder: (
        (folder / name).write_bytes(content.encode(options.get("encoding", "utf-8"))) and folder / name
    )


def written(name, write):
    return lambda folder: (write(folder / name), folder / name)[1]


FILES = {
    "semicolons, decimal commas": made("a.csv", text(german(TABLE), sep=";"), encoding="utf-8-sig"),
    "bars, cp1252": made(
        "a.csv", text(TABLE.set_axis(["größe", "fläche", "höhe", "maß"], axis=1), sep="|"), encoding="cp1252"
    ),
    "tabs": made("a.tsv", text(TABLE, sep="\t")),
    "blanks": made("a.txt", TABLE.to_string(index=False)),
    "no names": made("a.csv", text(TABLE, header=False)),
    "titles above": made("a.csv", "Results\nof May\n\n" + text(TABLE)),
    "utf-16": made("a.csv", text(TABLE, sep="\t"), encoding="utf-16"),
    "names of rows": made("a.csv", TABLE.set_axis([f"r{i}" for i in range(60)]).to_csv(index_label=False)),
    "money": made("a.csv", text(TABLE.assign(e=[f"${1e3 + 99 * x:,.2f}" for x in T], f=[f"{x:.1f}%" for x in T]))),
    "missing values": made("a.csv", text(TABLE.mask(RNG.rand(60, 4) < 0.1), na_rep="?")),
    "categories": made("a.csv", text(TABLE.assign(e=RNG.choice(["x", "y"], 60), f=T > 0))),
    "identifiers and dates": made(
        "a.csv", text(TABLE.assign(id=range(60), when=DATES, name=[f"n{i}" for i in range(60)]))
    ),
    "gzip": written("a.csv.gz", lambda path: path.write_bytes(gzip.compress(text(TABLE).encode()))),
    "zip": written("a.zip", lambda path: packed(path, text(TABLE))),
    "Parquet": written("a.parquet", TABLE.to_parquet),
    "Feather": written("a.feather", TABLE.to_feather),
    "wide": made("a.csv", text(pd.DataFrame(RNG.normal(size=(30, 200))))),
    "tiny": made("a.csv", text(TABLE[:8])),
    "huge": made("a.csv", text(TABLE.loc[RNG.randint(0, 60, 5000)] + RNG.normal(size=(5000, 4)))),
    "duplicates": made(
        "a.csv", text(pd.concat([TABLE, TABLE, TABLE[["a"]].set_axis(["e"], axis=1)], axis=0).fillna(0))
    ),
    "constant and empty columns": made("a.csv", text(TABLE.assign(e=1, f=None, g="same"))),
    "comments above": made("a.csv", "# made by hand, in May\n" + text(TABLE)),
    "a semicolon at the end": made(
        "a.csv", "\n".join(f"{line};" for line in text(german(TABLE), sep=";").splitlines())
    ),
    "lines in quotes": made("a.csv", text(TABLE.assign(e=RNG.choice(["one\nline", "a, b\nc"], 60)))),
    "names that are markup": made("a.csv", text(TABLE.set_axis(["<b>a</b>", "<script>", "${x} $y", "d & e"], axis=1))),
    "infinite values": made("a.csv", text(TABLE.assign(e=np.where(T > 1.9, np.inf, T)))),
}
QUICK = ["--n-components", "2", "--cv", "2", "--n-jobs", "1", "--estimators", "pca", "autoencoder"]


@pytest.fixture(autouse=True)
def _one_epoch(monkeypatch):
    monkeypatch.setitem(named.BUDGETS, "default", Budget(1000, max_iter=1))


@pytest.fixture
def verdict(tmp_path, monkeypatch, capsys):
    """A function that runs the command on a file; its exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(write, *options):
        code = main(["compare", str(write(tmp_path)), *options])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("kind", FILES)
def test_a_file_has_a_verdict(verdict, kind):
    code, out, err = verdict(FILES[kind], *QUICK, "--report", "none")
    assert code == 0, err
    read, columns, *_ = out.splitlines()
    assert read.startswith("Read ")
    n_numbers = 200 if kind == "wide" else 4 + (kind in ("money", "infinite values", "duplicates")) + (kind == "money")
    assert columns.startswith(f"Columns: {n_numbers + (kind == 'categories')} of numbers")
    assert "For reconstruction: " in out
    assert ("A random sample of 1,000 of 5,000 rows" in out) == (kind == "huge")
    assert ("5,000 rows, of which 1,000 are drawn at random" in out) == (kind == "huge")


def test_an_excel_file_has_a_verdict(verdict):
    pytest.importorskip("openpyxl")
    write = written("a.xlsx", lambda path: TABLE.to_excel(path, index=False))
    assert verdict(write, *QUICK, "--report", "none")[0] == 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_skewed_target_is_answered_first_and_the_program_of_the_report_runs(verdict, tmp_path):
    write = made("a.csv", text(german(TABLE).assign(label=LABELS, id=[f"<{i}>" for i in range(60)]), sep=";"))
    code, out, err = verdict(write, *QUICK, "--target", "label")
    assert code == 0, err
    assert "ROC AUC" in out
    answer = out.rpartition("\n\nFor prediction by logistic regression")[2]
    assert "For reconstruction" in answer
    page = (tmp_path / "report.html").read_text()
    assert "<td>&lt;" in page  # rows by their identifiers
    names = {}
    exec(html.unescape(re.search(r"<h2>Use it</h2>\s*<pre>(.*?)</pre>", page, flags=re.DOTALL)[1]), names)
    assert names["codes"].shape == (60, 2)
    assert list(names["X"]) == list("abcd")
    command = html.unescape(re.search(r"<h2>Reproduce this report</h2>\s*<pre>(.*?)</pre>", page, flags=re.DOTALL)[1])
    assert command.startswith("python -m skae compare ")
    assert command.endswith("--target label")


@pytest.mark.parametrize(
    ("write", "advice"),
    [
        (made("a.csv", text(TABLE[["a"]])), "a size must be less than the number of columns of X, 1"),
        (made("a.csv", "name;place\nx;Ulm\ny;Rom\nz;Bonn\n"), "--keep NAME uses one all the same"),
        (made("a.csv", text(TABLE[:1])), "too few rows that can be used, 1."),
        (made("a.csv", text(TABLE[:2])), "cv=5 is more than the 2 samples of X that differ. Use fewer folds."),
        (made("a.csv", ",".join(map(str, range(200_000))) + "\n"), "Turn the table if its rows are columns"),
        (made("a.csv", "a,b\n1,2\n3,4,5\n"), "Expected 2 fields in line 3, saw 3"),
        (
            made("a.csv", text(TABLE.assign(e=T * 1e307))),
            "too large to be squared. Correct it, or leave the column out",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_in_a_sentence_what_to_do(verdict, write, advice):
    code, _, err = verdict(write)
    assert code == 1
    assert err.startswith("skae: ")
    assert advice in err


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_file_has_a_verdict_without_an_option(verdict, kind):
    assert verdict(FILES[kind])[0] in (0, 1) if kind == "tiny" else verdict(FILES[kind])[0] == 0
