"""The command: ``python -m skae compare``."""

import argparse
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import StandardScaler

from skae._version import __version__
from skae.data.files import read_table
from skae.data.parameters import check_integer, check_sizes
from skae.data.roles import choose_columns
from skae.inspection.comparison import compare
from skae.inspection.named import DEFAULTS, NAMED, Budget, named_estimators

_EXAMPLES = """examples:
  python -m skae compare
      the digits of scikit-learn, with 2, 4, 8 and 16 components; writes report.html
  python -m skae compare data.csv --n-components 2 4 8 --target label
      a table of your own, with a column to predict from the codes
  python -m skae compare data.csv --ordered --n-components 1 2 4 8 16
      in each fold a single fit of an autoencoder with ordered components, not one for each number of components
  python -m skae compare data.xlsx --raw --report none
      columns in their own units, and no report
  python -m skae compare data.csv --estimators pca autoencoder umap --budget 300 --resume done
      other estimators, in about five minutes; each fit is stored in the folder "done", and used again the next time
  zcat data.csv.gz | python -m skae compare - --sep ";" --decimal ,
      a table from another program

exit codes: 0 done, 1 the table cannot be used, 2 wrong usage, 3 stopped early with a partial answer
"""


# Options that `compare` takes by the same names.
_OPTIONS = ("n_components", "cv", "estimators", "ordered", "budget", "resume", "n_jobs")


def main(arguments=None):
    """Run the command and return its exit code; argparse exits with 2 after wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_usage(parser, options)
    try:
        data = _digits() if options.data is None else _table(options)
        n_samples, most = len(data.X), Budget.of(options.budget).rows or np.inf
        drawn = f" of which {most:,} are drawn at random (--budget thorough takes all)," * (n_samples > most)
        size = f"{n_samples:,} rows,{drawn} {data.X.shape[1]:,} columns, {options.cv}-fold cross-validation."
        print(*data.notes, size, sep="\n", end="\n\n", flush=True)
        comparison = compare(data.X, data.y, **{name: getattr(options, name) for name in _OPTIONS}, verbose=1)
        comparison.unit = data.unit or comparison.unit
        print(comparison.summary())
        if options.report != "none":
            command = shlex.join(["python", "-m", "skae", *map(str, sys.argv[1:] if arguments is None else arguments)])
            shown = {"notes": [*data.notes, size], "command": command, "load": data.load}
            comparison.to_html(options.report, feature_shape=data.shape, **shown)
            print(f"\nThe report is {options.report}.")
    except (ValueError, OSError, ImportError) as error:
        print(f"skae: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"skae: {stop or 'stopped before anything was done'}", file=sys.stderr)
        return 3
    return 3 if comparison.stopped else 0


def _check_usage(parser, options):
    """Exit before anything runs if options are wrong, or if the report cannot be written."""
    if options.data is None and options.target is not None:
        parser.error("--target needs a table")
    try:
        Budget.of(options.budget)
        check_integer("--cv", options.cv, 2)
        check_sizes("--n-components", options.n_components)
        named_estimators(options.estimators)
    except ValueError as error:
        parser.error(str(error))
    if options.resume and not _can_be_written(Path(options.resume) / "written"):
        parser.error(f"--resume {options.resume} is no folder, or cannot be written")
    if options.report == "none":
        return
    if not Path(options.report).resolve().parent.is_dir():
        parser.error(f"--report {options.report} is in a folder that does not exist")
    if not _can_be_written(Path(options.report)):
        parser.error(f"--report {options.report} is a folder, or cannot be written")
    if find_spec("matplotlib") is None:
        parser.error("the report needs matplotlib: pip install matplotlib, or pass --report none")


def _can_be_written(path):
    """Return whether a file can be written, by trying; its folder is made, and what it holds is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("ab").close()
        if is_new:
            path.unlink()
    except OSError:
        return False
    return True


def _parser():
    parser = argparse.ArgumentParser(prog="python -m skae", description="Autoencoders that start as PCA.")
    parser.add_argument("--version", action="version", version=f"skae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "compare",
        help="compare PCA with autoencoders on a table: which to use, and with how many components",
        description="Cross-validate PCA, factor analysis, AutoencoderTransformer and VAEGenerator on a table. Results "
        "go to stdout, progress to stderr, figures to an HTML report.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(command)
    _add_table_options(command.add_argument_group("reading the table, if something is detected wrongly"))
    return parser


def _add_options(command):
    data = (
        "the table: text with any separator, Parquet, Feather, Excel or OpenDocument, also compressed; - reads stdin "
        "(default: scikit-learn's digits)"
    )
    sizes = {"type": int, "nargs": "+", "default": [2, 4, 8, 16]}
    add = command.add_argument
    add("data", nargs="?", help=data)
    add("--n-components", "--components", **sizes, metavar="N", help="numbers of components (default: 2 4 8 16)")
    add("--target", metavar="COLUMN", help="column to predict from the codes; the codes do not contain it")
    add("--cv", type=int, default=5, help="number of folds (default: 5)")
    add("--n-jobs", "--jobs", type=int, default=-1, help="number of fits in parallel (default: one for each core)")
    add("--report", default="report.html", metavar="FILE", help="HTML report (default: report.html); none: no report")
    add("--ordered", action="store_true", help="fit one autoencoder for all N, with ordered components")
    names = f"{', '.join(NAMED)} or module.Class (default: the first four)"
    add("--estimators", nargs="+", default=list(DEFAULTS), metavar="NAME", help=names)
    budgets = "fast (about a minute), default (about ten), thorough (no limit), or a number of seconds"
    add("--budget", default="default", metavar="B", help=budgets)
    add("--resume", metavar="FOLDER", help="store each fit here when it is done, and use those that are stored")
    add("--raw", action="store_true", help="keep the units of numbers (default: standardise them)")


def _add_table_options(group):
    add = group.add_argument
    add("--sep", help='separator of columns, such as "," or tab')
    add("--decimal", help="decimal sign, such as ,")
    add("--encoding", help="encoding, such as cp1252")
    add("--header", action=argparse.BooleanOptionalAction, help="whether the first line has names of columns")
    add("--drop", nargs="+", default=[], metavar="COLUMN", help="columns to leave out")
    add("--keep", nargs="+", default=[], metavar="COLUMN", help="columns to use although they would be left out")
    add("--id", metavar="COLUMN", help="column that identifies samples, which is left out")
    add("--dates", action="store_true", help="use dates, as numbers of days")
    add("--numeric-only", action="store_true", help="use columns of numbers only, and samples without missing values")


class _Data(NamedTuple):
    """Data of a comparison: samples and target, sentences on them, lines of Python that make X, the unit of errors."""

    X: object
    y: object
    notes: list
    load: list
    unit: str | None = None
    shape: tuple | None = None


def _digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = X + np.random.RandomState(0).uniform(size=X.shape)
    note = (
        "Digits of scikit-learn: 8 x 8 pixels of 0 to 16, with uniform noise of one grey level, since discrete values "
        "have no density. Errors are in squared grey levels."
    )
    load = ["import numpy as np", "from sklearn.datasets import load_digits", "X = load_digits().data"]
    load += ["X = X + np.random.RandomState(0).uniform(size=X.shape)"]
    return _Data(X, y, [note], load, "in squared grey levels", (8, 8))


def _table(options):
    """Read and prepare the table of a file."""
    reading = {name: getattr(options, name) for name in ("sep", "decimal", "encoding", "header")}
    choosing = {name: getattr(options, name) for name in ("target", "drop", "keep", "id", "dates", "numeric_only")}
    table, found = read_table(options.data, **reading)
    X, target, note = choose_columns(table, **choosing)
    load = ["from skae.data.files import read_table", "from skae.data.roles import choose_columns"]
    lines = [f"table, _ = read_table({_arguments(options.data, reading)})"]
    lines += [f"X = choose_columns({_arguments('table', choosing, bare=True)}).features"]
    notes, unit = [found, note], None
    if not options.raw and X.select_dtypes(["number", "bool"]).shape == X.shape:
        X = StandardScaler().set_output(transform="pandas").fit_transform(X)
        load += ["from sklearn.preprocessing import StandardScaler"]
        lines += ['X = StandardScaler().set_output(transform="pandas").fit_transform(X)']
        unit = "in squared standard deviations"
        notes += [f"Columns are standardised once, before folds are made, so errors are {unit} (--raw keeps units)."]
    return _Data(X, None if target is None else _labels(target), notes, [*load, *lines], unit)


def _arguments(first, options, bare=False):
    """Return the arguments of a call in Python, without those that are not set."""
    given = [f"{name}={value!r}" for name, value in options.items() if value not in (None, False, [])]
    return ", ".join([first if bare else repr(str(first)), *given])


def _labels(target):
    """Return the target as numbers, or as text."""
    values = target.infer_objects().to_numpy()
    return values if np.issubdtype(values.dtype, np.number) else values.astype(str)


if __name__ == "__main__":
    sys.exit(main())
