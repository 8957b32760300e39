"""Tables from files as people have them: the format, the encoding and the dialect of a file are detected.

To add a format, or a container such as gzip, define a function of bytes and add it to `_FORMATS` or `_CONTAINERS`.
"""

import bz2
import csv
import gzip
import io
import lzma
import re
import sys
import zipfile
from collections import Counter, defaultdict
from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple

from skae.data.checks import listed

# A wider table is refused: so many columns are most often the rows of a table that lies on its side.
MOST_COLUMNS = 20_000
# Lines and characters that the dialect is detected in.
_N_LINES, _N_CHARACTERS, _N_CELLS = 200, 1_000_000, 20_000
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
_DECIMALS = {".": "points", ",": "commas"}
# Encodings that tables of older programs have; rarer ones must be named.
_LEGACY = [*(f"cp125{i}" for i in range(8)), "cp932", "gb18030", "big5", "cp949"]
# What people write for a missing value, in addition to what pandas knows.
_MISSING = ["?", "-", "--", ".", "..", "...", "\u2026", "*", "n.a.", "n.d.", "k.A.", "\\N", "#DIV/0!", "#VALUE!"]
# This share of the values of a column must be numbers or dates; the others are then missing. If all others are the same
# word, half of the values must be numbers.
_LEAST_SHARE, _LEAST_SHARE_BESIDE_A_WORD = 0.95, 0.5
# What lines of comments begin with.
_MARK = "(?:#|%|//)"
# What stands after numbers that were measured.
_MEASURE = r"\s*[^\d\s.,+()%-][^\d,;]{0,7}"
_UNIT = r"(?:[$€£¥₹₩₽₺]|US\$|[A-Z]{3}|kr\.?|zł|Kč|Fr\.?)"
_DATE = (
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}(?:[T ][\d:.+Z -]*)?|\d{1,2}([-/.])\d{1,2}\2\d{2,4}(?: [\d:.]*)?|"
    r"\d{1,2}[-. ]+[A-Za-z]{3,9}\.?[- ]\d{2,4}|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}"
)


class Dialect(NamedTuple):
    """How a text holds a table.

    Attributes
    ----------
    sep, decimal : str
    header : bool
        Whether the first line has the names of columns.
    skip : int
        Number of lines before it.
    width : int
        Number of columns.
    is_ended : bool
        Whether a separator ends each line.
    quote : str
        The sign around values that hold a separator.
    """

    sep: str
    decimal: str
    header: bool
    skip: int
    width: int
    is_ended: bool
    quote: str

    def __str__(self):
        sep, decimal = (
            names.get(key, repr(key)) for names, key in ((_SEPARATORS, self.sep), (_DECIMALS, self.decimal))
        )
        names = f"names in line {self.skip + 1}" if self.header else "no names of columns (--header if there are)"
        cells = f"separated by {sep}" if self.width > 1 else "no separator (--sep if there is one)"
        return f"{cells}, decimal {decimal}, {names}"


class _Options(NamedTuple):
    sep: str | None
    decimal: str | None
    encoding: str | None
    header: bool | None


def read_table(path, sep=None, decimal=None, encoding=None, header=None):
    """Read a table from a file, or from stdin if the path is ``"-"``.

    Parameters
    ----------
    path : str or path-like
        Text with any separator, Parquet, Feather, Excel or OpenDocument, also inside gzip, bzip2, xz or a zip of one
        file.
    sep, decimal, encoding : str, default=None
        Separator and decimal sign of a text, and its encoding; None detects them.
    header : bool, default=None
        Whether the first line has names; None detects it.

    Returns
    -------
    table : DataFrame
        Text that is numbers or dates is converted: thousands separators, currencies and per cent included.
    found : str
        What was detected, a sentence.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ValueError
        If the file is no table.
    """
    if re.match(r"\w+://", str(path)):
        raise ValueError(f"{path} is an address, and nothing is downloaded. Download it and pass the file.")
    content, found = _bytes(path), []
    while container := next((kind for kind in _CONTAINERS if kind.holds(content)), None):
        content = container.read(content)
        found.append(container.name)
    options = _Options(_named_separator(sep), decimal, encoding, header)
    kind = next(kind for kind in _FORMATS if kind.holds(content))
    try:
        table, dialect, decimal = kind.read(content, options)
        if not len(table):
            raise ValueError("it has names of columns, but no rows")
    except (ValueError, UnicodeError, LookupError) as error:
        hint = " If the separator or the encoding was not detected, pass --sep or --encoding."
        hint = "" if type(error) is ValueError else hint  # said here
        raise ValueError(f"{path} cannot be read as a table: {str(error).strip().rstrip('.')}.{hint}") from error
    table, converted = _converted(_named(table), decimal)
    kept = ", ".join([*found, kind.name, *dialect])
    return table, f"Read {path}: {kept}; {len(table):,} rows, {table.shape[1]:,} columns.{converted}"


def _bytes(path):
    if str(path) == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as file:
        return file.read()


def _pandas():
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("Reading a table needs pandas: pip install pandas pyarrow.") from error
    return pd


def _named_separator(sep):
    """Return a separator, which may be given by name, as "tabs" or "tab", or escaped, as on a command line."""
    names = {name: key for key, plural in _SEPARATORS.items() for name in (plural, plural.removesuffix("s"))}
    return names.get(sep, sep) if sep != "\\t" else "\t"


class _Kind(NamedTuple):
    """A container or a format: its name, whether bytes are one, and how to read them."""

    name: str
    holds: callable
    read: callable


def _starting(*beginnings):
    return lambda content: content.startswith(beginnings)


def _members(content):
    names = zipfile.ZipFile(io.BytesIO(content)).namelist() if zipfile.is_zipfile(io.BytesIO(content)) else []
    return [name for name in names if not name.endswith("/") and not name.startswith("__MACOSX")]


def _is_workbook(content):
    return content.startswith(b"PK") and not _WORKBOOKS.isdisjoint(_members(content))


def _unzip(content):
    members = _members(content)
    if len(members) != 1:
        raise ValueError(f"The zip holds {len(members)} files, {listed(members)}. Unpack it and pass one of them.")
    return zipfile.ZipFile(io.BytesIO(content)).read(members[0])


def _read_binary(reader):
    def read(content, options):
        table = getattr(_pandas(), reader)(io.BytesIO(content))
        return (table if isinstance(table.index, _pandas().RangeIndex) else table.reset_index()), [], "."

    return read


def _read_excel(content, options):
    """Read the largest sheet; the line of names is detected as in a text."""
    pd = _pandas()
    try:
        book = pd.ExcelFile(io.BytesIO(content))
    except ImportError as error:
        raise ImportError(f"Reading this workbook needs a package: {error}") from error
    sheets = pd.read_excel(book, sheet_name=None, header=None, dtype=object)
    sheet = max(sheets, key=lambda name: sheets[name].size)
    cells = sheets[sheet].dropna(how="all").dropna(axis=1, how="all")
    rows = [["" if cell != cell else str(cell) for cell in row] for row in cells.head(_N_LINES).to_numpy()]
    start, header, *_ = _shape([[cell for cell in row if cell] if len(set(row)) < 3 else row for row in rows])
    header = header if options.header is None else options.header
    table = cells.iloc[start + header :].reset_index(drop=True).infer_objects()
    table.columns = rows[start] if header else [f"column {j}" for j in range(1, table.shape[1] + 1)]
    others = f" of {len(book.sheet_names)}" if len(book.sheet_names) > 1 else ""
    return table, [f"sheet {sheet!r}{others}"], options.decimal or "."


def _read_text(content, options):
    pd = _pandas()
    encoding = options.encoding or _encoding(content)
    text = content.decode(encoding).lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = _uncommented(text, options)
    dialect = detect_dialect(text, options)
    if dialect.width > MOST_COLUMNS:
        raise ValueError(_too_wide(dialect.width))
    table = pd.read_csv(
        io.StringIO(text),
        sep=r"\s+" if dialect.sep == " " else dialect.sep,
        decimal=dialect.decimal,
        header=0 if dialect.header else None,
        skiprows=dialect.skip,
        index_col=False if dialect.is_ended or not dialect.header else None,
        skipinitialspace=True,
        quotechar=dialect.quote,
        na_values=_MISSING,
        **({"engine": "python"} if len(dialect.sep) > 1 else {"low_memory": False}),
    )
    if not dialect.header:
        table.columns = [f"column {j}" for j in range(1, table.shape[1] + 1)]
    elif not isinstance(table.index, pd.RangeIndex):  # one name fewer than columns: rows have names
        table = table.reset_index(names="row")
    return table, [encoding, str(dialect)], dialect.decimal


def _refuse(content, options):
    raise ValueError("it is JSON, HTML or XML. Save the table as CSV")


def _too_wide(n_columns):
    return (
        f"it has {n_columns:,} columns or more, and {MOST_COLUMNS:,} are compared at most. Turn the table if its rows "
        "are columns, or save a part of them"
    )


_MARKUP = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\{\s*"|\[\s*[\[{]|<[!?]|<[A-Za-z][^<>]*>\s*[<\n])')
# Parts by which the workbooks of Excel and of OpenDocument are known.
_WORKBOOKS = {"xl/workbook.xml", "xl/workbook.bin", "content.xml"}
_CONTAINERS = [
    _Kind("gzip", _starting(b"\x1f\x8b"), gzip.decompress),
    _Kind("bzip2", _starting(b"BZh"), bz2.decompress),
    _Kind("xz", _starting(b"\xfd7zXZ"), lzma.decompress),
    _Kind("zip", lambda content: content.startswith(b"PK\x03\x04") and not _is_workbook(content), _unzip),
]
_FORMATS = [
    _Kind("Parquet", _starting(b"PAR1"), _read_binary("read_parquet")),
    _Kind("Feather", _starting(b"ARROW1", b"FEA1"), _read_binary("read_feather")),
    _Kind("workbook", lambda content: _is_workbook(content) or content.startswith(b"\xd0\xcf\x11\xe0"), _read_excel),
    _Kind("JSON, HTML or XML", _MARKUP.match, _refuse),
    _Kind("text", lambda content: True, _read_text),
]


def _encoding(content):
    """Return the encoding of a text: UTF-16 if it is marked or if it shows in the bytes of digits and separators.

    Else it is UTF-8 if that is valid, or one that its words suggest.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" in (start := content[:_N_CHARACTERS]):
        for high, encoding in enumerate(("utf-16-be", "utf-16-le")):
            if not len(content) % 2 and start[high::2].count(0) > len(start) / 4 and 0 not in start[1 - high :: 2]:
                return encoding
        raise ValueError("it is neither Parquet, Feather, Excel nor text; if it is text, pass --encoding, as utf-16-le")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return _legacy_encoding(content)
    return "utf-8"


def _legacy_encoding(content):
    from charset_normalizer import from_bytes

    # Numbers tell nothing of an encoding, so only words with other than ASCII characters are looked at, each once.
    words = re.findall(rb"[A-Za-z ]*[\x80-\xff][A-Za-z \x80-\xff]*", content[: 10 * _N_CHARACTERS])
    sample = b"\n".join(dict.fromkeys(words[:_N_CELLS]))
    # In western languages such letters stand among others, and no sign such as a superscript stands before a letter.
    if not re.search(rb"[\x80-\xff]{3}|[\x84-\x87\x93\x94\xa8\xaf\xb2-\xb4\xb8\xb9\xbf][A-Za-z\xc0-\xff]", sample):
        return "cp1252"
    best = from_bytes(sample, cp_isolation=_LEGACY).best()
    return best.encoding if best else "cp1252"


def _uncommented(text, options):
    """Return a text with blank lines for the comments above the table; names of columns lose the mark of a comment."""
    comments = re.match(rf"(?:\s*{_MARK}.*\n)*", text)[0]
    if not comments:
        return text
    *above, last = comments.removesuffix("\n").split("\n")
    bare = "\n" * (len(above) + 1) + text[len(comments) :]
    dialect = detect_dialect(bare, options._replace(header=None))
    last = re.sub(rf"^\s*{_MARK}+\s*(?=[\w\"'])", "", last)
    is_comment = len(_rows([last], dialect.sep, dialect.quote)[0][1]) != dialect.width
    if dialect.header or options.header is False or is_comment:
        return bare
    return "\n" * len(above) + last + "\n" + text[len(comments) :]


def detect_dialect(text, options=None):
    """Return the dialect that the first lines of a text have, with what options fix.

    The separator is that by which most lines have the same number of cells, and most numbers or dates.
    """
    options = options or _Options(None, None, None, None)
    lines = text[:_N_CHARACTERS].split("\n")[:_N_LINES]
    quote = _quote(lines)
    stated = re.fullmatch(r'"?sep=(.)"?', lines[0])  # Excel's line
    seps = [options.sep] if options.sep else [stated[1]] if stated else list(_SEPARATORS)
    tables = {sep: _rows(lines, sep, quote)[bool(stated) :] for sep in seps}
    sep = max(tables, key=lambda sep: _regularity([cells for _, cells in tables[sep]]))
    if not (rows := tables[sep]):
        raise ValueError("it is empty")
    if len(text) > _N_CHARACTERS:  # which cut a line
        rows = rows[:-1] or rows
    start, header, width, is_ended = _shape([cells for _, cells in rows])
    body = [cells for _, cells in rows[start + 1 :]]
    is_strict = sep == " " or (len(rows[start][1]) < width and not is_ended)
    if is_strict and len(lengths := {len(cells) for cells in body}) > 1:
        raise ValueError(
            f"it has lines of {' and of '.join(map(str, sorted(lengths)))} cells. Put values that hold a separator in "
            "quotes, and fill empty ones, or save the table with another separator"
        )
    decimal = options.decimal or _decimal(body[: max(1, _N_CELLS // width)], sep)
    header = header if options.header is None else options.header
    return Dialect(sep, decimal, header, rows[start][0], width - is_ended, is_ended, quote)


def _quote(lines):
    """Return the sign of quotes: the single one if there is no other and most lines have values inside of it."""
    n_single = sum(len(re.findall(r"(?:^|[,;\t|])'[^']*'(?=[,;\t|]|$)", line)) for line in lines)
    return "'" if n_single > len(lines) / 2 and not any('"' in line for line in lines) else '"'


def _rows(lines, sep, quote):
    """Return the rows that are not blank, each as the number of lines before it and its cells."""
    if len(sep) > 1:
        return [(i, re.split(sep, line)) for i, line in enumerate(lines) if line.strip()]
    lines = map(str.strip, lines) if sep == " " else lines
    reader = csv.reader(lines, delimiter=sep, quotechar=quote, skipinitialspace=True)
    rows, before = [], 0
    with suppress(csv.Error):  # a cell that is too long, as where the separator is another
        for cells in reader:
            if any(map(str.strip, cells)):
                rows.append((before, [cell.strip() for cell in cells]))
            before = reader.line_num
    return rows


def _regularity(rows):
    """Return the mean count of numbers and dates in a row, less if rows differ in width, and their share of cells."""
    width, n_rows = _width(rows) if rows else (0, 0)
    if width < 2:
        return 0, 0
    body = [row for row in rows[1:] or rows if len(row) == width][: max(1, _N_CELLS // width)]
    n_known = sum(_plainness(cell) for row in body for cell in row)
    return n_rows / len(rows) * (0.1 + n_known / max(len(body), 1)), n_known / max(len(body) * width, 1)


def _plainness(cell):
    """Return 1 for a number or a date, and less for a number with a unit."""
    if is_number(cell) or re.fullmatch(_DATE, cell):
        return 1
    return 0.5 * is_number(re.sub(rf"(?<=\d){_MEASURE}$", "", cell))


def _width(rows):
    """Return the most common number of cells, and how many rows have it."""
    return Counter(map(len, rows)).most_common(1)[0]


def _shape(rows):
    """Return the first row, whether it has names, the number of columns, and whether a separator ends each line.

    Lines before the table, such as titles, have another number of cells. Names may be one fewer than columns if rows
    are named or separators end lines.
    """
    width, _ = _width(rows)
    of_width = [i for i, row in enumerate(rows) if len(row) == width]
    start = of_width[0]
    if start and len(rows[start - 1]) == width - 1 and any(map(is_number, rows[start])):
        start -= 1
    body = [row for row in rows[start + 1 :] if len(row) == width] or [rows[start]]
    is_short = len(rows[start]) < width
    is_ended = is_short and not any(row[-1] for row in body)
    if width > MOST_COLUMNS:
        return start, False, width, is_ended
    numeric = [j for j in range(width) if sum(is_number(row[j]) for row in body) > len(body) / 2]
    if numeric and not is_short:  # names of groups of columns, with empty cells, may be above the names
        top = takewhile(lambda i: not any(is_number(rows[i][j]) for j in numeric), of_width)
        start = next((i for i in top if all(rows[i])), start)
    header = is_short or _has_names(rows[start], body, numeric)
    return start, header, width, is_ended


def _has_names(first, body, numeric):
    """Return whether the first row has names: no number above numbers, or names and consecutive integers."""
    above = [first[j] for j in numeric if first[j]]
    if not any(map(is_number, above)):
        return body != [first] or not numeric
    counted = [int(cell) for cell in above if cell.isdecimal()]
    return len(counted) == len(above) < len(first) and counted == list(range(counted[0], counted[0] + len(counted)))


def _pattern(decimal):
    """Return the pattern of a number with this decimal sign, which may be grouped, in a currency or in per cent."""
    groups, decimal = {".": r",'\u2019\s_", ",": r".'\u2019\s_"}.get(decimal, r"'\u2019\s_"), re.escape(decimal)
    whole = rf"(?P<whole>[1-9]\d{{0,2}}(?P<group>[{groups}])(?:\d{{2,3}}(?P=group))*\d{{3}}|\d*)"
    value = rf"(?=[{decimal}]?\d){whole}(?:{decimal}(?P<fraction>\d*))?(?P<exponent>[eE][+-]?\d+)?"
    signs = r"(?P<{}>[-+\u2212(]?)\s*"
    left = rf"\s*{signs.format('sign')}{_UNIT}?\s*{signs.format('inner')}"
    return re.compile(rf"{left}{value}\s*(?P<percent>%?){_UNIT}?\s*\)?\s*")


_NUMBERS = {decimal: _pattern(decimal) for decimal in _DECIMALS}


def is_number(cell):
    """Return whether a text is a number with either decimal sign."""
    return any(pattern.fullmatch(cell) for pattern in _NUMBERS.values())


def _decimal(rows, sep):
    """Return the decimal sign of most cells that only one sign explains; if there are none, the separator decides.

    Points between other separators than commas then group digits if numbers below 1,000 of a column are without.
    """
    cells = [cell for row in rows for cell in row]
    explained = Counter(
        tuple(decimal for decimal, pattern in _NUMBERS.items() if pattern.fullmatch(cell)) for cell in cells
    )
    if explained[".",] or explained[",",]:
        return "," if explained[",",] > explained[".",] else "."
    either = [cell for cell in cells if "," in cell and is_number(cell)]
    pointed = [cell for cell in cells if "." in cell and is_number(cell)]
    if sep == "," or (either and pointed):
        return "."
    return "," if either or any(map(_is_grouped, zip(*rows, strict=False))) else "."


def _is_grouped(cells):
    """Return whether the numbers of a column that have no point, and only these, are below 1,000."""
    digits = [re.sub(r"^\D+|\D+$", "", cell) for cell in cells if is_number(cell)]
    plain = [cell for cell in digits if "." not in cell]
    return 0 < len(plain) < len(digits) and max(map(len, plain)) < 4


def _named(table):
    """Name columns without a name by their number, and leave out those that have neither name nor values."""
    if table.shape[1] > MOST_COLUMNS:
        raise ValueError(_too_wide(table.shape[1]))
    is_bare = [name == "" or str(name).startswith("Unnamed: ") for name in table.columns]
    names = [f"column {j}" if bare else str(table.columns[j - 1]).strip() for j, bare in enumerate(is_bare, start=1)]
    repeated = Counter(names)
    names = [name if repeated[name] == 1 else f"{name} ({j})" for j, name in enumerate(names, start=1)]
    table = table.set_axis(names, axis=1)
    return table.drop(columns=[n for n, bare in zip(names, is_bare, strict=True) if bare and table[n].isna().all()])


def _converted(table, decimal):
    """Convert columns of text that are numbers or dates; return the table, and a sentence that says which."""
    texts = table.select_dtypes(["object", "string"]).columns
    new, notes = {}, defaultdict(list)
    for name in texts:
        column = table[name].map(lambda value: str(value).strip(), na_action="ignore").astype(object)
        column = column.mask(column.isin(["", *_MISSING]))
        known = column.dropna()
        values, note = _as_numbers(known, decimal) if len(known) else (known, "")
        values = _as_dates(known) if values is None else values
        new[name] = column if values is None else values.reindex(column.index)
        notes[note].append(name)
    said = "; ".join(f"{listed(names)}{note}" for note, names in notes.items() if note)
    return table.assign(**new), f" Read as numbers: {said}." if said else ""


def _as_numbers(texts, decimal):
    """Return texts as numbers with the first decimal sign that explains them, else None; and what they held."""
    for sign in dict.fromkeys([decimal, *_DECIMALS]):
        pattern = _NUMBERS.get(sign) or _pattern(sign)
        parts = texts.str.extract(rf"^{pattern.pattern}$")
        numbers = _numbers(parts)
        others = texts[numbers.isna()].unique().tolist()
        is_word = len(others) == 1 and not re.search(r"\d", others[0])
        if numbers.notna().mean() >= (_LEAST_SHARE_BESIDE_A_WORD if is_word else _LEAST_SHARE):
            is_percent = (parts["percent"] == "%").any()
            note = " in per cent, as fractions" if is_percent else " without currency and thousands separators"
            return numbers, f", where {listed(others)} counts as missing" if others else note
    measures = texts.str.extract(rf"\d({_MEASURE})$")[0]
    if measures.nunique(dropna=False) == 1 and measures.notna().all():
        numbers, _ = _as_numbers(texts.str.removesuffix(measures.iloc[0]), decimal)
        return numbers, "" if numbers is None else f" in {measures.iloc[0].strip()}"
    return None, ""


def _numbers(parts):
    """Return the parts of numbers, by the names of their pattern, as numbers; nan where a text is none."""
    whole = "0" + parts["whole"].str.replace(r"\D", "", regex=True)
    digits = whole + "." + parts["fraction"].fillna("") + "0" + parts["exponent"].fillna("")
    is_negative = parts[["sign", "inner"]].isin(["-", "\u2212", "("]).any(axis=1)
    return digits.astype(float) * (1 - 2 * is_negative) / (1 + 99 * (parts["percent"] == "%"))


def _as_dates(texts):
    """Return texts as dates, or None; the day comes first after points, and where a first number is above 12."""
    if texts.str.fullmatch(_DATE).mean() < _LEAST_SHARE:
        return None
    first = texts.str.extract(r"^(\d{1,2})\D")[0].astype(float)
    dayfirst = bool((first > 12).any() or texts.str.match(r"\d+\.\d+\.").any())
    options = {"errors": "coerce", "format": "mixed", "dayfirst": dayfirst, "utc": True}
    return _pandas().to_datetime(texts, **options).dt.tz_localize(None)
