"""Does one ordered fit serve every latent size? And does it choose the size that a grid of fits would choose?

On each table and split one `AutoencoderTransformer(ordered=True)` of the largest size is truncated to every other, and
stands beside PCA and beside a default autoencoder fitted for that size alone: held-out errors, and seconds. Then
`LatentSizeCV` stands beside a grid search of default autoencoders: seconds, and the size chosen by the best
mean error of five folds and by the rule of one standard error. And one `VAEGenerator(ordered=True)` stands beside
a VAE fitted for each size alone, and the better of probabilistic PCA and factor analysis: nats of a held-out row.

Columns are standardised by the training rows and clipped, as for `make quality`, and get a little noise for densities;
Fashion-MNIST is 5,000 of its images, grey levels from 0 to 1, and its splits differ by the seed alone. A cell is a
table at a size; its ratios, and those of seconds, are geometric means over splits. Prints a summary and writes every
measurement to benchmarks/results, JSON and Markdown. ``--quick`` only shows that everything runs and writes nothing.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a fit, read when numpy and torch are imported

import argparse
import json
import time
import warnings
from functools import partial

import numpy as np
import torch
from joblib import Parallel, delayed
from quality import NOISE, RESULTS, geometric_mean, page, share, stamp, standardise, store, timed_fit
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import GridSearchCV, train_test_split
from tables import fashion_mnist, known, listed

from skae import (
    AutoencoderTransformer,
    LatentSizeCV,
    VAEGenerator,
    reconstruction_error,
    reconstruction_scorer,
)
from skae._search import pca_errors

SIZES = (1, 2, 4, 8, 16, 32)
FOLDS = 5
# What is looked at while the method changes, and what is read once.
DEVELOPMENT = (
    ("MASS", "fgl"),
    ("ISLR", "Hitters"),
    ("openintro", "bdims"),
    ("dslabs", "olive"),
    ("modeldata", "concrete"),
    "digits",
)
FINAL = (
    ("DAAG", "ais"),
    ("modeldata", "meats"),
    ("heplots", "Oslo"),
    ("MASS", "Boston"),
    ("wooldridge", "minwage"),
    ("ISLR", "College"),
    ("ISLR", "Weekly"),
    ("openintro", "mlbbat10"),
    ("modeldata", "leaf_id_flavia"),
    ("modeldata", "cells"),
    "digits",
)
FASHION, FASHION_ROWS = "fashion_mnist", 5_000


def rows_of(name, split):
    """Training and test rows."""
    if name == FASHION:
        train, _, test, _ = fashion_mnist()
        return train[:FASHION_ROWS], test
    X = listed(*name).X if isinstance(name, tuple) else next(table.X for table in known() if table.name == name)
    return standardise(*train_test_split(X, test_size=0.25, random_state=split))


def shown(name):
    return name if isinstance(name, str) else name[-1]


def sizes_for(X):
    return [size for size in SIZES if size < X.shape[1] * 2 / 3]


def rows_of_codes(ordered, codes, size):
    """What the reconstruction error of the fit cut to this size is of; one transform serves all sizes."""
    return ordered.truncate(size).inverse_transform(codes[:, :size])


def measure_errors(name, split, **options):
    """Errors of the ordered fit and of PCA at all sizes up to the largest, of dedicated fits at those of the list."""
    train, test = rows_of(name, split)
    sizes = sizes_for(train)
    ordered, seconds = timed_fit(AutoencoderTransformer(sizes[-1], ordered=True, random_state=split, **options), train)
    fits = [timed_fit(AutoencoderTransformer(size, random_state=split, **options), train) for size in sizes]
    every, codes = range(1, sizes[-1] + 1), ordered.transform(test)
    return {
        "sizes": sizes,
        "pca_errors": pca_errors(range(1, sizes[-1] + 1), train, test),
        "ordered_errors": [float(np.square(rows_of_codes(ordered, codes, size) - test).mean()) for size in every],
        "dedicated_errors": [reconstruction_error(dedicated, test) for dedicated, _ in fits],
        "ordered_seconds": seconds,
        "dedicated_seconds": [seconds for _, seconds in fits],
        "ordered_epochs": ordered.n_iter_,
        "dedicated_epochs": [dedicated.n_iter_ for dedicated, _ in fits],
    }


def measure_search(name, split, **options):
    train, _ = rows_of(name, split)
    sizes = sizes_for(train)
    each_fit = AutoencoderTransformer(random_state=split, **options)
    one_fit = LatentSizeCV(each_fit, sizes, cv=FOLDS, one_standard_error=True)
    grid = GridSearchCV(each_fit, {"n_components": sizes}, scoring=reconstruction_scorer, cv=FOLDS)
    record = {"sizes": sizes}
    (one_fit, record["search_seconds"]), (grid, record["grid_seconds"]) = (
        timed_fit(one_fit, train),
        timed_fit(grid, train),
    )
    found = {
        "search": [one_fit.cv_results_[key] for key in ("param_n_components", "mean_test_error", "std_test_error")],
        "grid": [sizes, -grid.cv_results_["mean_test_score"], grid.cv_results_["std_test_score"]],
    }
    for key, (tried, means, deviations) in found.items():
        by_size = np.argsort(tried)
        record[f"{key}_means"], record[f"{key}_deviations"] = (
            np.asarray(values, float)[by_size].tolist() for values in (means, deviations)
        )
    return record


def measure_densities(name, split, **options):
    """Nats of a held-out row under the ordered VAE at each size, a VAE of that size, and the better linear model."""
    rng = np.random.RandomState(split)
    train, test = (rows + NOISE * rng.normal(size=rows.shape) for rows in rows_of(name, split))
    sizes = sizes_for(train)
    ordered, seconds = timed_fit(VAEGenerator(sizes[-1], ordered=True, random_state=split, **options), train)
    fits = [timed_fit(VAEGenerator(size, random_state=split, **options), train) for size in sizes]
    linear = [[kind(size).fit(train).score(test) for kind in (PCA, FactorAnalysis)] for size in sizes]
    return {
        "sizes": sizes,
        "linear_scores": [float(max(scores)) for scores in linear],
        "ordered_scores": [ordered.truncate(size).score(test) for size in sizes],
        "dedicated_scores": [dedicated.score(test) for dedicated, _ in fits],
        "ordered_seconds": seconds,
        "dedicated_seconds": [seconds for _, seconds in fits],
    }


MEASURES = {"errors": measure_errors, "search": measure_search, "densities": measure_densities}


def warm_up():
    """What torch loads at a process's first fit is no part of the time of either kind of fit."""
    X = np.random.RandomState(0).normal(size=(64, 4))
    for ordered in (False, True):
        AutoencoderTransformer(2, ordered=ordered, max_iter=1, random_state=0).fit(X)


def run(mode, name, split, **options):
    torch.set_num_threads(1)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits that stay at their start say so
        warm_up()
        record = {"mode": mode, "table": shown(name), "split": split} | MEASURES[mode](name, split, **options)
    print(f"{mode} {shown(name)} {split} {time.perf_counter() - began:.0f} s", flush=True)
    return record


# From records to tables and cells, and from these to the verdict.


def by_table(records, mode):
    found = {}
    for record in records:
        if record["mode"] == mode:
            found.setdefault(record["table"], []).append(record)
    return found


def over_splits(rows, name):
    """Geometric means over a table's splits: their ratios are the geometric means of the splits' ratios."""
    return np.exp(np.mean(np.log([row[name] for row in rows]), axis=0))


def rise(errors):
    """The largest ratio of an error to that of a smaller size; at most 1 where no size is worse than a smaller one."""
    return float((errors[1:] / np.minimum.accumulate(errors)[:-1]).max(initial=0))


def tables_of(records):
    """One dictionary a table: errors and seconds over splits, and what the bars ask of a table."""
    for table, rows in by_table(records, "errors").items():
        found = {name: over_splits(rows, name) for name in rows[0] if name.endswith(("_errors", "_seconds"))}
        listed_sizes = np.array(rows[0]["sizes"]) - 1
        yield found | {
            "table": table,
            "sizes": rows[0]["sizes"],
            "over_pca": found["ordered_errors"] / found["pca_errors"],
            "rise": rise(found["ordered_errors"][listed_sizes]),
            "rise_of_all": rise(found["ordered_errors"]),
            "rise_of_pca": rise(found["pca_errors"]),
            "over_largest": float(found["ordered_seconds"] / found["dedicated_seconds"][-1]),
            "over_mean": geometric_mean([row["ordered_seconds"] / np.mean(row["dedicated_seconds"]) for row in rows]),
        }


def cells(records):
    for found in tables_of(records):
        for i, size in enumerate(found["sizes"]):
            cell = {name: float(found[f"{name}s"][size - 1]) for name in ("pca_error", "ordered_error")}
            cell |= {"dedicated_error": float(found["dedicated_errors"][i])}
            cell |= {f"over_{name}": cell["ordered_error"] / cell[f"{name}_error"] for name in ("pca", "dedicated")}
            yield {"table": found["table"], "size": size, **cell, "seconds": float(found["dedicated_seconds"][i])}


def choice(means, deviations, one_standard_error):
    """Index of the best size, or of the smallest one within one standard error of it, as `LatentSizeCV`."""
    best = int(np.argmin(means))
    if not one_standard_error:
        return best
    error = deviations[best] / np.sqrt(FOLDS - 1)  # scikit-learn's deviations divide by the number of folds
    return int(np.argmax(np.array(means) <= means[best] + error))


def choices(records):
    """One dictionary a table: seconds of both searches, and the sizes chosen by both rules."""
    for table, (row, *_) in by_table(records, "search").items():
        found = {"table": table, "n_sizes": len(row["sizes"]), "over_grid": row["search_seconds"] / row["grid_seconds"]}
        found |= {name: row[name] for name in ("search_seconds", "grid_seconds")}
        for rule in (True, False):
            suffix = "one_error" if rule else "best_mean"
            at = {key: choice(row[f"{key}_means"], row[f"{key}_deviations"], rule) for key in ("search", "grid")}
            found |= {f"{key}_{suffix}": row["sizes"][i] for key, i in at.items()}
            found[f"steps_{suffix}"] = at["search"] - at["grid"]
        yield found


def densities(records):
    """One dictionary a table at a size: nats, the mean over splits, and seconds of the ordered fit over all others'."""
    for table, rows in by_table(records, "densities").items():
        over = geometric_mean([row["ordered_seconds"] / np.sum(row["dedicated_seconds"]) for row in rows])
        for i, size in enumerate(rows[0]["sizes"]):
            kinds = ("linear", "ordered", "dedicated")
            found = {kind: float(np.mean([row[f"{kind}_scores"][i] for row in rows])) for kind in kinds}
            gains = {f"over_{kind}": found["ordered"] - found[kind] for kind in ("linear", "dedicated")}
            yield {"table": table, "size": size, **found, **gains, "seconds_over_all": over}


def summary(records):
    """What came out, line by line, with the targets."""
    tables, found, nats = list(tables_of(records)), list(choices(records)), list(densities(records))
    if tables:
        yield from summary_of_errors(list(cells(records)))
        yield from summary_of_tables(tables)
    if found:
        yield from summary_of_search(found)
    if nats:
        yield from summary_of_densities(nats)


def named(cell, key):
    return f"{cell['table']} at {cell['size']} ({cell[key]:.3f})"


def summary_of_errors(found):
    ratios = {key: np.array([cell[key] for cell in found]) for key in ("over_pca", "over_dedicated")}
    pca, dedicated = ratios.values()
    yield (
        f"Ordered, error over PCA's: at most 1.02 in {share(pca <= 1.02)} of {len(pca)} cells (target: all); worst "
        f"{pca.max():.3f}; geometric mean {geometric_mean(pca):.3f}."
    )
    yield (
        f"Ordered, error over a dedicated fit's: {geometric_mean(dedicated):.3f} in geometric mean of {len(dedicated)} "
        f"cells (target: 1.15); at most 1.40 in {share(dedicated <= 1.4)}; worst {dedicated.max():.3f} (1.40)."
    )
    for key, bar, rival in (("over_pca", 1.02, "PCA's"), ("over_dedicated", 1.4, "a dedicated fit's")):
        above = [named(cell, key) for cell in found if cell[key] > bar]
        yield f"Cells above {bar:.2f} of {rival}: {', '.join(above) or 'none'}."


def summary_of_tables(tables):
    worst = max(tables, key=lambda found: found["over_pca"].max())
    yield (
        f"Ordered, error over PCA's at all sizes from 1 to the largest: worst {worst['over_pca'].max():.3f}, "
        f"{worst['table']} at {worst['over_pca'].argmax() + 1} (target: 1.02)."
    )
    worst, worst_of_all = (max(tables, key=lambda found: found[key]) for key in ("rise", "rise_of_all"))
    yield (
        f"Ordered, error at a larger size over that at a smaller one: worst {worst['rise']:.3f} ({worst['table']}) of "
        f"the listed sizes, {worst_of_all['rise_of_all']:.3f} ({worst_of_all['table']}) of all (target: 1.01); PCA's "
        f"{max(found['rise_of_pca'] for found in tables):.3f}."
    )
    largest, mean = (np.array([found[key] for found in tables]) for key in ("over_largest", "over_mean"))
    yield (
        f"Ordered, seconds over a dedicated fit's of the largest size: median {np.median(largest):.2f} of "
        f"{len(largest)} tables, largest {largest.max():.2f} (target: 1.5); over the mean of dedicated fits of all "
        f"sizes: median {np.median(mean):.2f}, largest {mean.max():.2f}."
    )


def summary_of_search(found):
    for fewest in (1, len(SIZES)):
        over = [row["over_grid"] for row in found if row["n_sizes"] >= fewest]
        if over:
            yield (
                f"Search, seconds over the grid's: median {np.median(over):.3f} of {len(over)} tables with at least "
                f"{fewest} sizes, largest {max(over):.3f} (target: 0.25)."
            )
    for suffix, rule in (("one_error", "one standard error"), ("best_mean", "best mean")):
        steps = np.abs([row[f"steps_{suffix}"] for row in found])
        yield (
            f"Search by {rule}: within one step of the grid's choice on {(steps <= 1).sum()} of {len(steps)} tables "
            f"(target: nine of ten), the same on {(steps == 0).sum()}."
        )
        far = [
            f"{row['table']} ({row[f'search_{suffix}']}, grid {row[f'grid_{suffix}']})"
            for row in found
            if abs(row[f"steps_{suffix}"]) > 1
        ]
        yield f"Further off, by {rule}: {', '.join(far) or 'none'}."


def summary_of_densities(found):
    linear, dedicated = (np.array([cell[key] for cell in found]) for key in ("over_linear", "over_dedicated"))
    over = {cell["table"]: cell["seconds_over_all"] for cell in found}
    yield (
        f"Ordered VAE, nats above the better of probabilistic PCA and factor analysis: median {np.median(linear):.2f} "
        f"of {len(linear)} cells, positive in {share(linear > 0)}; worst {linear.min():.2f}."
    )
    yield (
        f"Ordered VAE, nats above a VAE of that size: median {np.median(dedicated):.2f}, worst {dedicated.min():.2f}, "
        f"best {dedicated.max():.2f}; seconds over theirs: median {np.median(list(over.values())):.2f}."
    )


def markdown(records, lines, made):
    found = list(cells(records))
    ratios = [cell["over_pca"] for cell in found]
    over_dedicated = np.exp(np.mean([np.log(cell["over_dedicated"]) for cell in found]))
    yield f"# One ordered fit, {made['date']}\n"
    yield (
        "Held-out error of one ordered fit for all numbers of components, against PCA and a fit for each number. The "
        f"ordered fit is below PCA in {sum(ratio < 1 for ratio in ratios)} of {len(ratios)} cells (tables at a number "
        f"of components). It has {over_dedicated:.2f} times the error of a fit for each.\n"
    )
    yield "Written by `make ordered`. " + "; ".join(f"{name} {value}" for name, value in made.items()) + ".\n"
    yield from (f"- {line}" for line in lines)
    columns = ("size", "pca_error", "ordered_error", "dedicated_error", "over_pca", "over_dedicated", "seconds")
    yield from page("Cells: errors and seconds of a dedicated fit are geometric means", found, columns)
    columns = ("ordered_seconds", "over_largest", "over_mean", "rise", "rise_of_all", "rise_of_pca")
    yield from page("Tables", tables_of(records), columns)
    columns = ("n_sizes", "search_seconds", "grid_seconds", "over_grid", "search_one_error", "grid_one_error",
               "search_best_mean", "grid_best_mean")  # fmt: skip
    yield from page("Search: sizes chosen by one standard error and by the best mean", choices(records), columns)
    columns = ("size", "linear", "ordered", "dedicated", "over_linear", "over_dedicated", "seconds_over_all")
    yield from page("Densities: nats of a held-out row", densities(records), columns)


def plan(names, splits, only):
    """The jobs; a search, densities and Fashion-MNIST at the first split alone, and that last."""
    errors = [("errors", name, split) for split in splits for name in names if name != FASHION]
    once = [(mode, name, splits[0]) for mode in ("search", "densities") for name in names if name != FASHION]
    images = [("errors", FASHION, splits[0])] if FASHION in names else []
    return [job for job in errors + once + images if only in (None, job[0])]


def tables_and_splits(arguments):
    if arguments.quick:
        return ["iris"], (0,)
    if not arguments.final:
        return DEVELOPMENT, (0, 1)[: arguments.splits]
    if not fashion_mnist():
        print("Fashion-MNIST is not installed (Debian's package dataset-fashion-mnist): left out.")
    return (*FINAL, *([FASHION] if fashion_mnist() else [])), (100, 101)[: arguments.splits]


def kept(stem, only):
    """What the last results hold of the question that is not measured anew."""
    path = RESULTS / f"{stem}.json"
    if only is None or not path.exists():
        return None, []
    last = json.loads(path.read_text())
    return last["made with"], [record for record in last["records"] if record["mode"] != only]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--final", action="store_true", help="fresh tables and splits: read once, before a release")
    parser.add_argument("--splits", type=int, help="so many splits at most")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, one thread each")
    parser.add_argument("--only", choices=MEASURES, help="measure this anew and keep the rest of the last results")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; figures mean nothing")
    arguments = parser.parse_args(argv)
    if arguments.splits is not None and arguments.splits < 1:
        parser.error(f"--splits {arguments.splits} leaves nothing to measure")
    names, splits = tables_and_splits(arguments)
    if arguments.quick:
        records = [run(*job, max_iter=3) for job in plan(names, splits, arguments.only)]
        print("\n".join(summary(records)))
        return
    stem = f"ordered-{'final' if arguments.final else 'development'}"
    made = stamp(splits, arguments.jobs)
    last, records = kept(stem, arguments.only)
    if records:
        anew = "{date}, splits {splits}, torch {torch}".format(**made)
        made = last | {f"{arguments.only} measured anew": anew}
    write = partial(store, stem, made)
    parts = Parallel(arguments.jobs, return_as="generator")(
        delayed(run)(*job) for job in plan(names, splits, arguments.only)
    )
    try:
        for record in parts:
            records.append(record)
            if not arguments.only:
                write(records)
    except KeyboardInterrupt:
        if arguments.only:
            raise  # what was measured before is whole
        print("Stopped early: what follows is of the splits and tables measured so far.")
    write(records)
    lines = list(summary(records))
    (RESULTS / f"{stem}.md").write_text("\n".join(markdown(records, lines, made)) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
