"""The command: ``python -m skae compare``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from sklearn.preprocessing import StandardScaler

from skae.inspection.comparison import compare

_EXAMPLES = """examples:
  python -m skae compare
      the digits that scikit-learn ships, at 2, 4, 8 and 16 components; the report goes to report.html
  python -m skae compare data.csv --components 2 4 8 --target label
      your own table, with a column to predict from the codes
  python -m skae compare data.csv --ordered --components 1 2 4 8 16
      one fit of the autoencoder a fold, its components in order, in place of one for each size
  python -m skae compare data.parquet --raw --report none
      columns in their own units, and no report

exit codes: 0 done, 1 the table cannot be used, 2 wrong usage
"""
# A column with more than this share of values missing is left out, rather than every row it touches.
_MOST_MISSING = 0.5


def main(arguments=None):
    """Run the command; returns its exit code: 0 done, 1 the table cannot be used, 2 wrong usage (by argparse)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.data is None and options.target is not None:
        parser.error("--target needs a table")
    if options.report != "none" and not Path(options.report).resolve().parent.is_dir():
        parser.error(f"--report {options.report} is in no folder that exists")
    shape = (8, 8) if options.data is None else None
    try:
        X, y, notes = _digits() if options.data is None else read_table(options.data, options.target, raw=options.raw)
        notes.append(f"{len(X)} rows, {X.shape[1]} columns, {options.cv}-fold cross-validation.")
        print(*notes, sep="\n", end="\n\n", flush=True)
        comparison = compare(
            X,
            y,
            n_components=options.components,
            cv=options.cv,
            ordered=options.ordered,
            n_jobs=options.jobs,
            verbose=1,
        )
        print(comparison.summary())
        if options.report != "none":
            _report(comparison, options.report, shape, notes)
    except (ValueError, OSError, ImportError) as error:
        print(f"skae: {error}", file=sys.stderr)
        return 1
    return 0


def _report(comparison, path, shape, notes):
    """Write the report, or say what is missing for it: the table has been printed and stands."""
    try:
        comparison.to_html(path, feature_shape=shape, notes=notes)
    except (ImportError, OSError) as error:
        print(f"skae: no report: {error}", file=sys.stderr)
    else:
        print(f"\nThe report is {path}.")


def _parser():
    parser = argparse.ArgumentParser(prog="python -m skae", description="Autoencoders that start at PCA.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "compare",
        help="should an autoencoder replace PCA on my data, and with how many components?",
        description="Cross-validate PCA, factor analysis, AutoencoderTransformer and VAEGenerator. The table goes to "
        "stdout, progress to stderr, pictures to a report.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "data",
        nargs="?",
        help="a table: CSV with a header line (comma, semicolon or tab) or Parquet; without it, scikit-learn's digits",
    )
    command.add_argument(
        "--components", type=int, nargs="+", default=[2, 4, 8, 16], metavar="N", help="sizes to compare"
    )
    command.add_argument("--target", help="column to predict from the codes; it is not reduced itself")
    command.add_argument("--cv", type=int, default=5, help="folds (default 5)")
    command.add_argument("--jobs", type=int, default=-1, help="fits at once, each on its share of cores (default: all)")
    command.add_argument(
        "--report", default="report.html", metavar="FILE", help="the report (default report.html); none for none"
    )
    command.add_argument(
        "--ordered", action="store_true", help="one fit of the autoencoder, its components in order, for all sizes"
    )
    command.add_argument("--raw", action="store_true", help="leave columns in their own units (default: standardised)")
    return parser


def _digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = X + np.random.RandomState(0).uniform(size=X.shape)
    note = (
        "Digits of scikit-learn: 8 x 8 pixels of 0 to 16, with uniform noise of one grey level, since discrete values "
        "have no density. Errors are in squared grey levels."
    )
    return X, y, [note]


def _read(path):
    """The file as a DataFrame."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("Reading a table needs pandas: pip install 'skae[compare]'.") from error

    try:
        if str(path).endswith((".parquet", ".pq")):
            return pd.read_parquet(path)
        with open(path, encoding="utf-8-sig") as file:
            lines = filter(str.strip, file)
            header, row = next(lines, ""), next(lines, "")
        separator = max(",;\t", key=re.sub(r'"[^"]*"', "", header).count)
        table = pd.read_csv(path, sep=separator, encoding="utf-8-sig")
        if not row.rstrip("\n").endswith(separator) or not table.iloc[:, -1].isna().all():
            return table
        # All rows end in a separator, so that they have a value more than the header, but no names in front.
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", index_col=False)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a table: {error}.") from error


def read_table(path, target=None, raw=False):
    """Numeric columns of a CSV or Parquet file, complete rows only, and what was left out.

    Parameters
    ----------
    path : str
    target : str or None, default=None
        Column of labels.
    raw : bool, default=False
        Keep the columns' own units; otherwise each gets mean 0 and variance 1.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or None
    notes : list of str
        One sentence for each thing left out or changed.

    Raises
    ------
    ValueError
        If the target is no column, or no numeric column or too few rows are left.
    """
    table = _read(path)
    if target is not None and target not in table:
        raise ValueError(
            f"--target {target} is no column of {path}. Its columns: {', '.join(map(str, table.columns))}."
        )
    features = table.drop(columns=[] if target is None else [target])
    numeric = (
        features.select_dtypes(["number", "bool"], exclude=["timedelta"])
        .astype(np.float64)
        .replace([np.inf, -np.inf], np.nan)
    )
    notes = []
    if left := [str(column) for column in features if column not in numeric]:
        notes.append(f"Left out, not numeric: {', '.join(left)}.")
    missing = numeric.isna().mean()
    if left := [str(column) for column in numeric if missing[column] > _MOST_MISSING]:
        notes.append(f"Left out, more than half missing: {', '.join(left)}.")
        numeric = numeric[[column for column in numeric if missing[column] <= _MOST_MISSING]]
    if numeric.shape[1] == 0:
        raise ValueError(" ".join([f"{path} has no numeric column to reduce.", *notes]))

    complete = numeric.notna().all(axis=1)
    if target is not None:
        complete &= table[target].notna()
    if not complete.all():
        counts = numeric.isna().sum()
        where = [f"{column} ({counts[column]})" for column in numeric if counts[column]]
        if target is not None and (n_unlabelled := int(table[target].isna().sum())):
            where.append(f"{target} ({n_unlabelled})")
        notes.append(
            f"Left out, {int((~complete).sum())} of {len(table)} rows with missing values in: {', '.join(where)}."
        )
    numeric = numeric[complete]
    left = [str(column) for column in numeric if numeric[column].nunique() < 2]
    if left and len(numeric) > 1:
        notes.append(f"Left out, constant: {', '.join(left)}.")
        numeric = numeric[[column for column in numeric if numeric[column].nunique() > 1]]
    X = numeric.to_numpy(dtype=np.float64)
    if len(X) < 2:
        raise ValueError(" ".join([f"{path} has too few complete rows, {len(X)}, to compare anything.", *notes]))
    if X.shape[1] == 0:
        raise ValueError(" ".join([f"{path} has no numeric column that varies.", *notes]))
    if not raw:
        X = StandardScaler().fit_transform(X)
        notes.append(
            "Columns are standardised, once and before folds are made, so errors are in squared standard deviations "
            "(--raw to keep units)."
        )
    if target is None:
        return X, None, notes
    y = table.loc[complete, target].infer_objects()
    return X, y.to_numpy() if np.issubdtype(y.to_numpy().dtype, np.number) else y.astype(str).to_numpy(), notes


if __name__ == "__main__":
    sys.exit(main())
