"""Files as people have them, read to the same table."""

import bz2
import gzip
import io
import lzma
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from skae.data import files
from skae.data.files import detect_dialect, is_number, read_table


@pytest.fixture
def written(tmp_path):
    """A function that writes a file and returns its path."""

    def write(content, name="data.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if type(content) is bytes else content.encode(encoding))
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2,\n3,4,\n",
        "a,b,\n1,2,\n3,4,\n",
        "\n\na;b\n1;2\n3;4\n",
        "\ufeffa\tb\n1\t2\n3\t4\n",
        "a|b\r\n1|2\r\n3|4\r\n",
        "a,b\r1,2\r3,4\r",
        " a  b\n 1  2\n 3 4 \n",
        "sep=;\na;b\n1;2\n3;4\n",
        "Report of 3 May\n\na;b\n1;2\n3;4\n",
        "a, b\n1, 2\n3, 4\n",
        '"a";"b"\n"1";"2"\n"3";"4"\n',
        "group,\na,b\n1,2\n3,4\n",
        "| a | b |\n| 1 | 2 |\n| 3 | 4 |\n",
        "a,b\n1 kg,2cm\n3 kg,4cm\n",
        "'a','b'\n'1','2'\n'3','4'\n",
        "# made in May, by hand\na,b\n1,2\n3,4\n",
        "# by hand\n# a,b\n1,2\n3,4\n",
        "% by hand\n\na,b\n1,2\n3,4\n",
        "// a;b\n1;2\n3;4\n",
    ],
)
def test_tables_as_programs_write_them_are_read(written, text):
    table, _ = read_table(written(text))
    assert list(table) == ["a", "b"]
    np.testing.assert_array_equal(table, [[1, 2], [3, 4]])


@pytest.mark.parametrize("name", ["a, in m; s", "a; in m, s"])
def test_names_in_quotes_may_hold_separators(written, name):
    table, _ = read_table(written(f'"{name}",b\n1,2\n3,4\n'))
    assert list(table) == [name, "b"]


def test_a_name_that_is_the_mark_of_a_comment_is_a_name(written):
    assert list(read_table(written("#,b\n1,2\n3,4\n"))[0]) == ["#", "b"]


def test_comments_above_a_table_without_names_are_none(written):
    table, found = read_table(written("# by hand\n# in May\n1,2\n3,4\n"))
    assert list(table) == ["column 1", "column 2"]
    assert "no names of columns" in found


def test_markup_in_the_first_name_is_a_name(written):
    assert list(read_table(written("<b>a</b>,<i>b</i>\n1,2\n3,4\n"))[0]) == ["<b>a</b>", "<i>b</i>"]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.234", "567", "-2.345"], [1234, 567, -2345]),
        (["1.234", "0.567", "-2.345"], [1.234, 0.567, -2.345]),
        (["1.234", "1567", "-2.345"], [1.234, 1567, -2.345]),
        (["1.234", "3.567", "-2.345"], [1.234, 3.567, -2.345]),
    ],
)
def test_points_between_semicolons_are_thousands_if_smaller_numbers_of_the_column_have_none(written, cells, values):
    rows = "".join(f"{cell};{i}\n" for i, cell in enumerate(cells))
    np.testing.assert_allclose(read_table(written("x;y\n" + rows))[0]["x"], values)


def test_names_of_rows_are_a_column(written):
    table, _ = read_table(written("a,b\nfirst,1,2\nsecond,3,4\n"))
    assert table.to_dict("list") == {"row": ["first", "second"], "a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize(
    ("text", "header", "names"),
    [
        ("1,2\n3,4\n", None, ["column 1", "column 2"]),
        ("1,2\n3,4\n", True, ["1", "2"]),
        ("a,b\nc,d\n", None, ["a", "b"]),
        ("a,b\nc,d\n", False, ["column 1", "column 2"]),
        ("x,1990,1991\nDE,1.5,2\nFR,3,4.5\n", None, ["x", "1990", "1991"]),
        (",0,1\n0,1.5,2.5\n1,3,4\n", None, ["column 1", "0", "1"]),
        ("a;a;\n1;2;3\n", None, ["a", "a.1", "column 3"]),
    ],
)
def test_the_line_of_names_is_detected(written, text, header, names):
    assert list(read_table(written(text), header=header)[0]) == names


@pytest.mark.parametrize(
    ("cells", "decimal", "values"),
    [
        (["$1,234.50", "($3.25)", "-$1,000"], ".", [1234.5, -3.25, -1000]),
        (["1.234,50 €", "-3,25 €", "1.000 €"], ",", [1234.5, -3.25, 1000]),
        (["3.4%", "-1 %", "0.05%"], ".", [0.034, -0.01, 0.0005]),
        (["CHF 1'234.50", "CHF 2", "\u22123.5"], ".", [1234.5, 2, -3.5]),
        (["1 234,5", "2\u00a0345,5", "3\u202f456,5"], ",", [1234.5, 2345.5, 3456.5]),
        (["1e5", "1.5E-3", "n.d."], ".", [1e5, 1.5e-3, np.nan]),
        (["12,345", "1,234,567", "7"], ".", [12345, 1234567, 7]),
        (["0,945", "12,345", "7"], ",", [0.945, 12.345, 7]),
        (["12,34,567.50", "1,00,000", "7"], ".", [1234567.5, 100000, 7]),
    ],
)
def test_numbers_as_people_write_them(written, cells, decimal, values):
    table, found = read_table(written("x;y\n" + "".join(f"{cell};{i}\n" for i, cell in enumerate(cells))))
    np.testing.assert_allclose(table["x"], values)
    assert f"decimal {files._DECIMALS[decimal]}" in found


def test_text_is_not_said_to_be_numbers(written):
    assert "Read as numbers" not in read_table(written("a;b\n[1, 2];3\n[1, 4];4\n"))[1]


def test_units_are_named_and_letters_that_differ_are_none(written):
    table, found = read_table(written("a,b\n1.5 kg,1a\n2 kg,1b\n"))
    assert "Read as numbers: 'a' in kg." in found
    assert table.to_dict("list") == {"a": [1.5, 2.0], "b": ["1a", "1b"]}


@pytest.mark.parametrize(("word", "is_missing"), [("unknown", True), ("\\N", True), ("#DIV/0!", True), ("<5", False)])
def test_a_word_among_numbers_is_a_missing_value(written, word, is_missing):
    table, _ = read_table(written("x,y\n" + f"1,2.5\n2,7.5\n3,{word}\n" * 9))
    assert (table["y"].isna().sum() == 9) == is_missing
    assert (table["y"].dtype.kind == "f") == is_missing


def test_one_column_says_how_to_name_a_separator(written):
    assert "no separator (--sep if there is one)" in read_table(written("a^b\n1^2\n3^4\n"))[1]


def test_a_few_values_that_are_no_numbers_are_missing_and_named(written):
    _, found = read_table(written("x,y\n" + "1,2.5\n" * 40 + "1,<0.1\n"))
    assert "Read as numbers: 'y', where '<0.1' counts as missing." in found


def test_grouped_dates_are_no_numbers(written):
    table, _ = read_table(written("when;also;x\n31.01.2024;2024-01-31 10:00;1,5\n01.02.2024;2024-02-01 11:00;2,5\n"))
    assert table["when"].tolist() == [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-01")]
    assert table["also"].dt.hour.tolist() == [10, 11]
    assert table["x"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        ("größe|fläche|höhe", "cp1252"),
        ("prénom|âge|taille", "latin-1"),
        ("имя|рост|вес", "cp1251"),
        ("名前|身長|体重", "shift_jis"),
        ("ηλικία|ύψος|βάρος", "cp1253"),
        ("größe|b|c", "utf-16"),
        ("größe|b|c", "utf-16-le"),
        ("名前|身長|体重", "utf-16-be"),
        ("größe|b|c", "utf-8-sig"),
    ],
)
def test_encodings_are_detected(written, names, encoding):
    table, _ = read_table(written(names + "\n0.9|-1.3|-.6" * 60 + "\n", encoding=encoding))
    assert list(table) == names.split("|")
    assert len(table) == 60


def test_options_win_over_what_is_detected(written):
    path = written("größe,b;c\n1,5;2\n", encoding="cp850")
    table, found = read_table(path, sep="semicolon", decimal=".", encoding="cp850", header=True)
    assert list(table) == ["größe,b", "c"]
    assert "cp850, separated by semicolons, decimal points" in found
    assert read_table(path, sep=",", encoding="cp850", header=False)[0].shape == (2, 2)
    assert read_table(written("a::b\n1::2\n"), sep="::")[0].to_dict("list") == {"a": [1], "b": [2]}
    assert list(read_table(written("a\tb\n1\t2,5\n"), sep="\\t")[0]) == ["a", "b"]


def _zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("inner.csv", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, _zipped, lambda c: gzip.compress(_zipped(c))]
)
def test_packed_files_are_unpacked_whatever_their_name(written, pack):
    table, _ = read_table(written(pack(b"a;b\n1;2\n3;4\n"), "data.txt"))
    np.testing.assert_array_equal(table, [[1, 2], [3, 4]])


@pytest.mark.parametrize("form", ["parquet", "feather", "excel"])
def test_binary_formats_are_known_by_their_content(written, form):
    table = pd.DataFrame({"a": [1.5, 2.5, None], "b": ["x", "y", "z"], "c": ["$1,000", "$2", "$3"]})
    file = io.BytesIO()
    if form == "excel":
        pytest.importorskip("openpyxl")
        pd.concat(
            [pd.DataFrame([["A title"]], columns=["a"]), pd.DataFrame([list(table)], columns=list(table)), table]
        ).to_excel(file, header=False, index=False)
    else:
        getattr(table, f"to_{form}")(file)
    found, text = read_table(written(file.getvalue(), "data.bin"))
    assert {"excel": "workbook"}.get(form, form.title()) in text
    pd.testing.assert_frame_equal(found, table.assign(c=[1000.0, 2, 3]), check_dtype=False)


def test_a_workbook_of_another_program_says_what_to_install(written, monkeypatch):
    for module in ("odf", "python_calamine"):
        monkeypatch.setitem(sys.modules, module, None)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        packed.writestr("content.xml", "<x/>")
    with pytest.raises(ImportError, match=r"(?s)needs a package: .*odf"):
        read_table(written(file.getvalue()))


def test_names_of_rows_in_parquet_are_a_column(written):
    table, file = pd.DataFrame({"a": [1.5, 2]}, index=pd.Index(["x", "y"], name="plant")), io.BytesIO()
    table.to_parquet(file)
    assert read_table(written(file.getvalue()))[0].to_dict("list") == {"plant": ["x", "y"], "a": [1.5, 2]}


def test_the_largest_sheet_is_read(written):
    pytest.importorskip("openpyxl")
    file = io.BytesIO()
    with pd.ExcelWriter(file) as book:
        pd.DataFrame({"see": ["the next sheet"]}).to_excel(book, sheet_name="info", index=False)
        pd.DataFrame({"a": [1, 2], "b": [3, 4]}).to_excel(book, sheet_name="data", index=False)
    table, found = read_table(written(file.getvalue()))
    assert list(table) == ["a", "b"]
    assert "sheet 'data' of 2" in found


def test_stdin_is_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1,2\n")))
    assert read_table("-")[0].to_dict("list") == {"a": [1], "b": [2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\x00\x01\x02", "neither Parquet, Feather, Excel nor text"),
        (b"\x93NUMPY\x01\x00v\x00", r"nor text; if it is text, pass --encoding"),
        ('[{"a": 1}, {"a": 2}]', "it is JSON, HTML or XML. Save the table as CSV"),
        ('{"a": 1}\n{"a": 2}\n', "it is JSON, HTML or XML"),
        ("<table><tr><td>1</td></tr></table>", "it is JSON, HTML or XML"),
        (b"PAR1 and nothing else", "cannot be read as a table"),
        ("a,b\n1,2\n1,2,3,4\n", "Expected 2 fields in line 3, saw 4"),
        ("a b city\n1 2 Rome\n3 4 New York\n5 6 Oslo\n7 8 San Jose\n", "lines of 3 and of 4 cells.*in quotes"),
        (
            "a,b,city\n1,2,Rome\n3,4,Ulm, D\n5,6,Oslo\n7,8,Bonn, D\n9,8,Jena, D\n8,8,Ulm, D\n",
            "lines of 3 and of 4 cells",
        ),
        ("a,b\n", "it has names of columns, but no rows"),
        (",".join(map(str, range(30_000))), "it has 30,000 columns or more, and 20,000 are compared at most"),
    ],
)
def test_what_is_no_table_says_why(written, content, message):
    with pytest.raises(ValueError, match=message):
        read_table(written(content))


def test_addresses_and_zips_of_several_files_are_refused(written):
    with pytest.raises(ValueError, match="nothing is downloaded"):
        read_table("https://example.org/data.csv")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("a.csv", "x")
        packed.writestr("b.csv", "x")
    with pytest.raises(ValueError, match=r"holds 2 files, 'a.csv', 'b.csv'"):
        read_table(written(file.getvalue()))


@pytest.mark.parametrize(
    ("cell", "is_one"), [("1.2.3", False), ("12-05", False), ("", False), ("$", False), (".5", True)]
)
def test_what_is_a_number(cell, is_one):
    assert is_number(cell) == is_one


def test_a_line_that_is_cut_in_detection_is_no_short_one(written, monkeypatch):
    text = "a b c\n" + "1 2.5 3\n" * 9
    monkeypatch.setattr(files, "_N_CHARACTERS", 40)
    assert read_table(written(text))[0].shape == (9, 3)


def test_blanks_within_values_are_no_separators():
    text = "city,population\nNew York,8\nLos Angeles,4\nSan Jose,1\n"
    assert detect_dialect(text).sep == ","
    assert detect_dialect("a b\n1,5 2,5\n3,5 4,5\n")[:2] == (" ", ",")


def test_one_column_of_decimal_commas_among_text_does_not_make_commas_separators():
    rows = "".join(f"{i};red;{i}00;Main St;good;{i},5\n" for i in range(1, 9))
    assert detect_dialect("id;colour;area;street;state;x\n" + rows)[:2] == (";", ",")
    assert detect_dialect("street;state;x\n" + rows.replace("1", "7")).sep == ";"
