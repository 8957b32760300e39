"""Are new rows like real ones? Train on them, test on real rows; and try to tell the two apart.

Five labelled tables, the label as one more column. A model is better the higher the accuracy of a classifier trained on
its rows, and the nearer to 0.5 the area under the curve of one that tells its rows from real test rows. TVAE is
CTGAN's, of the extra ``benchmark``; without it the table has no such line. The adversarial random forests of arfpy
0.1.1 do not run on NumPy 2.4 and pandas 3.

VAEs have ``likelihood="auto"`` and ``prior="mixture"``. TVAE learns the distribution of each column, too. The others
are models of numbers. They get one-hot columns for the label, and a map of each column to normal scores, whose inverse
makes new rows, as is common for tables (Kotelnikov et al. 2023, arXiv:2209.15421). The rows of all models are then
brought to the table's format: clipped to the training rows' range, and rounded where all training rows are whole.

New rows must not be copies: beside these, the distance of new rows to the nearest training row, over that of real test
rows (medians, in standard deviations of the columns). Far below 1 it tells of copying.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
import warnings
from importlib.util import find_spec

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from quality import RESULTS, SIZES, stamp
from scipy.stats import norm, rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from tables import known, listed

from skae import AutoencoderTransformer, ResampledGenerator, VAEGenerator

DEVELOPMENT, FINAL = (0, 1, 2), (100, 101, 102, 103, 104)
MODELS = ("AutoencoderTransformer", "VAEGenerator", "ResampledGenerator", "GaussianMixture", "TVAE")


def tables():
    chosen = [table for table in known() if table.name in ("breast_cancer", "digits")]
    names = (("dslabs", "olive"), ("modeldata", "leaf_id_flavia"), ("modeldata", "cells"))
    return chosen + [listed(*name) for name in names]


def mixture(X, seed):
    """The mixture of least BIC."""
    fits = [GaussianMixture(n, reg_covar=1e-4, random_state=seed).fit(X) for n in (1, 2, 4, 8, 16) if n < len(X) // 4]
    return min(fits, key=lambda fit: fit.bic(X))


class NormalScores:
    """Each column by its ranks as normal scores, equal values by their middle rank; back by the column's quantiles."""

    def fit_transform(self, X):
        self.X = X
        return norm.ppf((rankdata(X, axis=0) - 0.5) / len(X))

    def inverse_transform(self, scores):
        columns = zip(self.X.T, norm.cdf(scores).T, strict=True)
        return np.column_stack([np.quantile(column, shares) for column, shares in columns])


def in_format(rows, X):
    """Rows as the training rows X are written: in their range, and whole where they all are."""
    rows = np.clip(rows, X.min(axis=0), X.max(axis=0))
    return np.where((X.round() == X).all(axis=0), rows.round(), rows)


def distance_ratio(rows, X, test):
    """Distance of new rows to the nearest of X over that of test rows: medians."""
    scale = np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    neighbours = NearestNeighbors(n_neighbors=1).fit(X / scale)
    new, real = (np.median(neighbours.kneighbors(Z / scale)[0]) for Z in (rows[: len(test)], test))
    return float(new / real)


def of_tables(name, frame, size, seed):
    """As many new rows as a table has, of a model of columns of all kinds."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    if name == "TVAE":
        from ctgan import TVAE

        model = TVAE(enable_gpu=False)
        model.fit(frame, ["label"])
        return model.sample(len(frame))
    model = VAEGenerator(size, likelihood="auto", prior="mixture", random_state=seed)
    if name == "ResampledGenerator":
        model = ResampledGenerator(model, random_state=seed)
    return model.fit(frame).sample(len(frame), random_state=seed)


def of_numbers(name, whole, size, seed):
    """As many new rows as an array has, of a model of numbers."""
    if name == "GaussianMixture":
        return np.random.RandomState(seed).permutation(mixture(whole, seed).sample(len(whole))[0])  # they come sorted
    return AutoencoderTransformer(size, random_state=seed).fit(whole).sample(len(whole), random_state=seed)


def generate(name, X, y, seed):
    """As many new rows and labels as there are real ones."""
    size = max(k for k in SIZES if k < X.shape[1] * 2 / 3)
    if name in ("VAEGenerator", "ResampledGenerator", "TVAE"):
        label = pd.Categorical(y.astype(str))
        frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]).assign(label=label)
        rows = of_tables(name, frame, size, seed)
        return rows.drop(columns="label").to_numpy(), rows["label"].to_numpy().astype(str)
    binarizer, normal, scaler = LabelBinarizer().fit(y.astype(str)), NormalScores(), StandardScaler()
    whole = scaler.fit_transform(np.hstack([normal.fit_transform(X), binarizer.transform(y.astype(str))]))
    rows = of_numbers(name, whole, size, seed)
    rows, scores = np.split(scaler.inverse_transform(rows), [X.shape[1]], axis=1)
    two = len(binarizer.classes_) == 2
    labels = binarizer.classes_[(scores[:, 0] > 0.5).astype(int) if two else scores.argmax(axis=1)]
    return normal.inverse_transform(rows), labels


def forest(seed):
    return RandomForestClassifier(200, random_state=seed)


def measure(table, split, name):
    torch.set_num_threads(1)
    train, test, y_train, y_test = train_test_split(table.X, table.y, test_size=0.25, random_state=split)
    record = {"table": table.name, "split": split, "model": name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        rows, labels = (train, y_train.astype(str)) if name == "real rows" else generate(name, train, y_train, split)
        record["seconds"] = time.perf_counter() - began
        rows = in_format(rows, train)
        record["accuracy"] = forest(split).fit(rows, labels).score(test, y_test.astype(str))
        mixed, real = np.vstack([test, rows[: len(test)]]), np.repeat([1, 0], len(test))
        scores = cross_val_score(forest(split), mixed, real, cv=3, scoring="roc_auc")
        record["told_apart"] = float(scores.mean())
        record["distance"] = distance_ratio(rows, train, test)
    print(record, flush=True)
    return record


def lines(records):
    frame = pd.DataFrame(records)
    means = frame.groupby(["table", "model"], sort=False)[["accuracy", "told_apart", "distance", "seconds"]].mean()
    yield (
        "| table | model | accuracy on real samples | ROC AUC of distinguishing real ones | "
        "distance to training samples, test samples' = 1 | seconds |"
    )
    yield "|---|---|---|---|---|---|"
    for (table, name), row in means.iterrows():
        numbers = f"{row.accuracy:.3f} | {row.told_apart:.3f} | {row.distance:.2f} | {row.seconds:.1f}"
        yield f"| {table} | {name.replace('rows', 'samples')} | {numbers} |"
    if "TVAE" not in set(frame.model):
        return
    yield ""
    for name in MODELS[:-1]:
        ours, theirs = (means.xs(model, level="model") for model in (name, "TVAE"))
        by_accuracy = ours.accuracy > theirs.accuracy
        by_likeness = (ours.told_apart - 0.5).abs() < (theirs.told_apart - 0.5).abs()
        yield (
            f"{name} is better than TVAE on {by_accuracy.sum()} of {len(ours)} tables by accuracy, on "
            f"{by_likeness.sum()} by ROC AUC, on {(by_accuracy & by_likeness).sum()} by both."
        )


def markdown(records, made):
    yield f"# New samples, {made['date']}\n"
    yield (
        "Accuracy on real samples of forests that are trained on new samples, and how well forests distinguish "
        "the two, against a Gaussian mixture and TVAE. The last lines say on how many tables each model is better than "
        "TVAE.\n"
    )
    yield "Written by `make generation`. " + "; ".join(f"{name} {value}" for name, value in made.items()) + ".\n"
    yield from lines(records)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--final", action="store_true", help="fresh splits: read once, before a release")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    splits = FINAL if arguments.final else DEVELOPMENT
    names = ["real rows", *MODELS]
    if find_spec("ctgan") is None:
        print("ctgan is not installed: TVAE is left out.")
        names.remove("TVAE")
    work = [(table, split, name) for split in splits for table in tables() for name in names]
    parts = Parallel(arguments.jobs, return_as="generator")(delayed(measure)(*job) for job in work)
    made = stamp(splits, arguments.jobs, *(["ctgan"] if "TVAE" in names else []))
    stem = f"generation-{'final' if arguments.final else 'development'}"
    records = []
    try:
        for record in parts:
            records.append(record)
            (RESULTS / f"{stem}.json").write_text(json.dumps({"made with": made, "records": records}, indent=1) + "\n")
    except KeyboardInterrupt:
        print("Stopped early: what follows is of the splits and tables measured so far.")
    (RESULTS / f"{stem}.md").write_text("\n".join(markdown(records, made)) + "\n")
    print("\n".join(lines(records)))


if __name__ == "__main__":
    main()
