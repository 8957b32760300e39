"""The command: ``python -m skae compare``."""

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
      one fit of an autoencoder with ordered components in each fold, instead of one for each size
  python -m skae compare data.parquet --raw --report none
      columns in their own units, and no report

exit codes: 0 done, 1 the table cannot be used, 2 wrong usage
"""
# Columns with a larger share of missing values are left out, since otherwise most rows would be.
_MOST_MISSING = 0.5


def main(arguments=None):
    """Run the command and return its exit code: 0 done, 1 the table cannot be used, 2 wrong usage (by argparse)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.data is None and options.target is not None:
        parser.error("--target needs a table")
    if options.report != "none" and not Path(options.report).resolve().parent.is_dir():
        parser.error(f"--report {options.report} is in a folder that does not exist")
    shape = (8, 8) if options.data is None else None
    try:
        X, y, notes = _digits() if options.data is None else read_table(options.data, options.target, raw=options.raw)
        notes.append(f"{len(X)} rows, {X.shape[1]} columns, {options.cv}-fold cross-validation.")
        print(*notes, sep="\n", end="\n\n", flush=True)
        arguments = {"n_components": options.components, "cv": options.cv, "ordered": options.ordered}
        comparison = compare(X, y, **arguments, n_jobs=options.jobs, verbose=1)
        print(comparison.summary())
        if options.report != "none":
            _report(comparison, options.report, shape, notes)
    except (ValueError, OSError, ImportError) as error:
        print(f"skae: {error}", file=sys.stderr)
        return 1
    return 0


def _report(comparison, path, shape, notes):
    """Write the report; an error is only printed, since the table is complete without it."""
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
        "stdout, progress to stderr, figures to a report.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = "a table: CSV with a header line (comma, semicolon or tab) or Parquet; without it, scikit-learn's digits"
    add = command.add_argument
    add("data", nargs="?", help=data)
    add("--components", type=int, nargs="+", default=[2, 4, 8, 16], metavar="N", help="sizes to compare")
    add("--target", help="column to predict from the codes; it is not reduced itself")
    add("--cv", type=int, default=5, help="number of folds (default 5)")
    add("--jobs", type=int, default=-1, help="parallel fits, which share the cores (default: all cores)")
    add("--report", default="report.html", metavar="FILE", help="the report (default report.html); none for none")
    add("--ordered", action="store_true", help="fit one autoencoder with ordered components for all sizes")
    add("--raw", action="store_true", help="keep the units of the columns (default: standardise them)")
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
    """Return the file as a DataFrame."""
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
        # Every line ends in a separator, so pandas has taken the first column for an index.
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", index_col=False)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a table: {error}.") from error


def read_table(path, target=None, raw=False):
    """Read the numeric columns of a CSV or Parquet file, complete rows only, and report what was left out.

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
        If the target is not a column, or no numeric column or too few rows are left.
    """
    table = _read(path)
    if target is not None and target not in table:
        raise ValueError(
            f"--target {target} is no column of {path}. Its columns: {', '.join(map(str, table.columns))}."
        )
    labels = table[[] if target is None else [target]]
    features, notes = _numeric_columns(table.drop(columns=labels.columns))
    if features.shape[1] == 0:
        raise ValueError(" ".join([f"{path} has no numeric column to reduce.", *notes]))
    features, complete = _complete_rows(features, labels, notes)
    if len(features) < 2:
        raise ValueError(" ".join([f"{path} has too few complete rows, {len(features)}, to compare anything.", *notes]))
    features = _without(features, features.nunique() < 2, "constant", notes)
    if features.shape[1] == 0:
        raise ValueError(" ".join([f"{path} has no numeric column that varies.", *notes]))
    X = features.to_numpy(dtype=np.float64)
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


def _numeric_columns(features):
    """Return the numeric columns with few missing values as floats, infinite values as missing, and notes."""
    notes, names = [], features.select_dtypes(["number", "bool"], exclude=["timedelta"]).columns
    numeric = _without(features, ~features.columns.isin(names), "not numeric", notes)
    numeric = numeric.astype(np.float64).replace([np.inf, -np.inf], np.nan)
    return _without(numeric, numeric.isna().mean() > _MOST_MISSING, "more than half missing", notes), notes


def _without(features, is_left_out, reason, notes):
    """Return the other columns; note the names of those left out."""
    is_left_out = np.asarray(is_left_out)
    if is_left_out.any():
        notes.append(f"Left out, {reason}: {', '.join(map(str, features.columns[is_left_out]))}.")
    return features.loc[:, ~is_left_out]


def _complete_rows(features, labels, notes):
    """Return the features of rows without missing values or labels, and a mask of these rows; note the others."""
    table = features.join(labels)
    complete = table.notna().all(axis=1)
    if not complete.all():
        counts = table.isna().sum()
        where = ", ".join(f"{column} ({count})" for column, count in counts.items() if count)
        notes.append(f"Left out, {(~complete).sum()} of {len(table)} rows with missing values in: {where}.")
    return features[complete], complete


if __name__ == "__main__":
    sys.exit(main())
