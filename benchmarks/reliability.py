"""Does skae keep what it promises where something could go wrong?

``memory``: a file larger than memory may be, as a `numpy.memmap`. How much memory of its own does a fit take beyond the
libraries, what do rows a second come to beside the same rows in memory, and is what `partial_fit` learns of chunks as
good as what `fit` learns in as many passes?

``ranks``: one fit in several processes. How many rows a second does each of them train, and is what they learn together
as good as what one process learns?

``files``: of files of estimators and checkpoints with one change each, how many are refused, and how many are taken?

``kills``: of fits that were killed at random moments, how many are resumed bit for bit?

Prints the figures and writes them to benchmarks/results, JSON and Markdown. ``--only`` measures some sections anew and
keeps the others' results; ``--quick`` only shows that everything runs: small files, few passes, nothing written.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from quality import RESULTS, stamp
from sklearn.datasets import load_digits
from speed import LIMITS, bar_and_verdict, figure, python, shown
from tables import fashion_mnist, listed

import skae
from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error

ESTIMATORS = ("AutoencoderTransformer", "VAEGenerator")
SMAPS = Path("/proc/self/smaps_rollup")
COLUMNS = 784
CHUNKED = (("modeldata", "leaf_id_flavia"), ("modeldata", "cells"), ("modeldata", "Chicago"))


def in_child(name, *arguments):
    """What a function of this script returns in a process of its own, with one thread."""
    return python(f"import json, reliability; print(json.dumps(reliability.{name}(*{arguments!r})))", threads=1)


# Memory.


def made_file(path, n_rows):
    """Rows of rank 10 and noise in float32, sorted along their first code, in a file."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((10, COLUMNS), dtype=np.float32)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, COLUMNS))
    for start in range(0, n_rows, 10_000):
        codes = rng.standard_normal((min(10_000, n_rows - start), 10), dtype=np.float32)
        codes[:, 0] = 4 * np.arange(start, start + len(codes)) / n_rows - 2
        noise = rng.standard_normal((len(codes), COLUMNS), dtype=np.float32)
        rows[start : start + len(codes)] = np.tanh(codes) @ directions + 0.3 * noise
    rows.flush()


def private():
    """Bytes that are this process's alone and in no file, and those with pages of files that it has mapped."""
    sizes = dict.fromkeys(("Anonymous", "Swap", "Private_Clean", "Private_Dirty"), 0)
    for line in SMAPS.read_text().splitlines()[1:]:
        name, size = line.split(":")
        if name in sizes:
            sizes[name] = 1024 * int(size.split()[0])
    return sizes["Anonymous"] + sizes["Swap"], sizes["Private_Clean"] + sizes["Private_Dirty"] + sizes["Swap"]


def memory_of_a_fit(estimator, path):
    """What a fit of the file adds at its peak to these two, with what it adds after a fit of a few rows."""
    X = np.load(path, mmap_mode="r")
    fit = partial(getattr(skae, estimator), 16, batch_size=1024, max_iter=1, random_state=0)
    fit().fit(np.array(X[:500]))  # imports, and what torch keeps
    before, peak, done = private(), [0, 0], threading.Event()

    def watch():
        while not done.wait(0.02):
            peak[:] = map(max, peak, private())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        fit().fit(X)
    finally:
        done.set()
        watcher.join()
    return [most - at_first for most, at_first in zip(peak, before, strict=True)], time.perf_counter() - began


def epochs(estimator, rows):
    """Rows a second of training and validation, and of the fit in all."""
    began = time.perf_counter()
    model = getattr(skae, estimator)(16, batch_size=1024, max_iter=2, random_state=0).fit(rows)
    took = time.perf_counter() - began
    n_trained = 2 * (len(rows) - 1000)
    return n_trained / sum(row["dur"] for row in model.net_.history), n_trained / took


def rows_a_second(estimator, path, rounds):
    """Of the fit of a file and of the array that it holds, in turns: ratios, of epochs and of all."""
    mapped = np.load(path, mmap_mode="r")
    found = np.array([[epochs(estimator, rows) for rows in (mapped, np.array(mapped))] for _ in range(1 + rounds)])
    ratios = found[-max(1, rounds) :]
    ratios = ratios[:, 0] / ratios[:, 1]
    return ratios[:, 0].tolist(), ratios[:, 1].tolist(), float(np.median(found[:, 0, 0]))


def chunks_and_all(estimator, train, test, n_components, n_passes, n_chunks):
    """What `partial_fit` of chunks reaches on new rows, and `fit` in as many passes."""
    make = partial(estimator, n_components, random_state=0)
    whole, pieces = make(max_iter=n_passes).fit(train), make()
    for _ in range(n_passes):
        for chunk in np.array_split(train, n_chunks):
            pieces.partial_fit(chunk)
    if estimator is VAEGenerator:
        return pieces.score(test), whole.score(test)
    return reconstruction_error(pieces, test), reconstruction_error(whole, test)


def memory(quick=False):
    """What fits of files take, and what chunks teach."""
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "large.npy", Path(folder) / "small.npy"
        if SMAPS.exists():
            n_rows = 2**26 // (4 * COLUMNS) if quick else 2**32 // (4 * COLUMNS)
            made_file(path, n_rows)
            case = f"{path.stat().st_size / 1e9:.2f} GB, {n_rows:,} rows, one epoch in batches of 1,024"
            for estimator in ESTIMATORS:
                (own, mapped), seconds = in_child("memory_of_a_fit", estimator, str(path))
                name = f"{estimator}, {case}"
                yield figure(name, "private memory beyond the libraries", own / 1e6, at_most=600, unit="MB")
                yield figure(name, "the same with mapped pages of the file", mapped / 1e6, unit="MB")
                yield figure(name, "the fit", seconds, unit="s")
            path.unlink()
        n_rows = 2000 if quick else 60_000
        made_file(small, n_rows)
        for estimator in ESTIMATORS:
            of_epochs, of_all, speed = in_child("rows_a_second", estimator, str(small), 0 if quick else 2)
            name = f"{estimator}, {n_rows:,} rows of {COLUMNS} columns, two epochs in batches of 1,024"
            yield figure(name, "streamed, an epoch", speed, unit="rows a second")
            yield figure(name, "rows a second, streamed over in memory", of_epochs, at_least=0.5)
            yield figure(name, "of the whole fit", of_all, at_least=0.5)
    yield from chunks(quick)


def chunks(quick):
    """`partial_fit` over chunks, beside `fit`."""
    if (found := fashion_mnist()) is not None:
        train, _, test, _ = found
        n_rows, passes = (1000, 1) if quick else (20_000, 5)
        reached = chunks_and_all(AutoencoderTransformer, train[:n_rows], test, 16, passes, max(1, n_rows // 5000))
        case = f"Fashion-MNIST, {n_rows:,} rows, 16 components, {passes} passes, chunks of 5,000 rows"
        yield figure(case, "held-out error, partial_fit over fit", reached[0] / reached[1], at_most=1.05)
    for package, item in CHUNKED[: 1 if quick else None]:
        X = np.random.RandomState(0).permutation(listed(package, item).X)
        cut = 4 * len(X) // 5
        scale = X[:cut].std(axis=0)
        train, test = ((part - X[:cut].mean(axis=0)) / np.where(scale > 0, scale, 1) for part in (X[:cut], X[cut:]))
        passes = 1 if quick else 20
        case = f"{item}, 8 components, {passes} passes, 4 chunks"
        reached = chunks_and_all(AutoencoderTransformer, train, test, 8, passes, 4)
        yield figure(case, "held-out error, partial_fit over fit", reached[0] / reached[1], at_most=1.05)
        reached = chunks_and_all(VAEGenerator, train, test, 8, passes, 4)
        yield figure(case, "held-out ELBO, partial_fit less fit", reached[0] - reached[1], unit="nats a sample")


# Ranks.


def speed_of_rank(estimator, path):
    """Rows a second that each of these processes trains, epochs only."""
    X = np.load(path)
    model = getattr(skae, estimator)(16, batch_size=1024, max_iter=3, device=rank_device(), random_state=0).fit(X)
    seconds = sum(row["dur"] for row in model.net_.history)
    return 3 * (len(X) - 1000) / seconds / int(os.environ.get("WORLD_SIZE", "1"))


def reached_by_ranks(estimator, max_iter, n_seeds):
    """Held-out error, or bound, of digits."""
    X = np.random.RandomState(0).permutation(load_digits().data)
    models = [
        getattr(skae, estimator)(8, max_iter=max_iter, device=rank_device(), random_state=seed).fit(X[400:])
        for seed in range(n_seeds)
    ]
    judge = VAEGenerator.score if estimator == "VAEGenerator" else reconstruction_error
    return [float(judge(model, X[:400])) for model in models]


def rank_device():
    return "accelerate" if "WORLD_SIZE" in os.environ else "cpu"


def in_ranks(n_ranks, name, *arguments):
    """What a function of this script returns in the first of so many processes."""
    code = f"import json, reliability; print(json.dumps(reliability.{name}(*{arguments!r})))"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_ranks}"]
    environment = os.environ | dict.fromkeys(LIMITS, "1") | {"PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryDirectory() as folder:
        command = [*launcher, "--log-dir", folder, "--redirects", "3", "--no-python", sys.executable, "-c", code]
        subprocess.run(command, cwd=Path(__file__).parent, env=environment, check=True)
        (said,) = Path(folder).glob("**/0/stdout.log")
        return json.loads(said.read_text().splitlines()[-1])


def ranks(quick=False):
    """One fit in several processes, on the cores of one machine: gloo, one thread each."""
    n_rows, n_ranks, rounds = (2000, 2, 1) if quick else (60_000, min(8, os.cpu_count()), 3)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.npy")
        made_file(path, n_rows)
        for estimator in ESTIMATORS:
            name = f"{estimator}, {n_rows:,} rows of {COLUMNS} columns, three epochs in batches of 1,024"
            asked = "speed_of_rank", estimator, path
            alone, each = np.array([(in_child(*asked), in_ranks(n_ranks, *asked)) for _ in range(rounds)]).T
            yield figure(name, "one process", alone, unit="rows a second")
            yield figure(name, f"{n_ranks} processes, each", each, unit="rows a second")
            yield figure(name, f"{n_ranks} processes over one, together", n_ranks * each / alone)
    max_iter, n_seeds = (2, 1) if quick else (20, 4)
    for estimator in ESTIMATORS:
        asked = "reached_by_ranks", estimator, max_iter, n_seeds
        alone, together = map(np.array, (in_child(*asked), in_ranks(n_ranks, *asked)))
        name = f"{estimator}, digits, 8 components, {max_iter} epochs, {n_seeds} seeds, {n_ranks} processes"
        if estimator == "VAEGenerator":
            yield figure(name, "held-out ELBO less that of one process", together - alone, unit="nats a sample")
        else:
            yield figure(name, "held-out error over that of one process", together / alone, at_most=1.02)


# Files.


def run(*command):
    """Return what a script beside this one prints last, from JSON, and its exit status."""
    environment = os.environ | dict.fromkeys(LIMITS, "1")
    command = [sys.executable, *map(str, command)]
    process = subprocess.run(command, cwd=Path(__file__).parent, env=environment, stdout=subprocess.PIPE, text=True)
    return json.loads(process.stdout.splitlines()[-1]) if process.stdout else {}, process.returncode


def outcomes_of(kind, n, seed):
    """Outcomes of changed files, in a process of its own: counts, and changes with other outcomes, such as its end."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        found, status = run("changed_files.py", kind, n, "--seed", seed, "--log", log)
        if status:
            return {}, [f"{log.read_text()}: the process ended with status {status}"]
    return found["counts"], found["others"]


def files(quick=False, seed=0):
    """Files with one change each: states of estimators, bytes of pickles, checkpoints and their bytes."""
    for kind, n in (("states", 5000), ("pickles", 5000), ("checkpoints", 3000), ("sealed", 3000)):
        counts, others = outcomes_of(kind, 50 if quick else n, seed)
        name = f"{kind}, {sum(counts.values()):,} changes, seed {seed}"
        yield figure(name, "refused by an error that says so", counts.get("refused", 0))
        yield figure(name, "taken, with finite results", counts.get("finite", 0))
        yield figure(name, "other: another error, a crash, over 3 s or 1 GB, not finite", len(others), at_most=0)
        for other in others:
            print(other, file=sys.stderr)


def kills(quick=False, seed=0):
    """Fits with a checkpoint that are killed at random moments, see killed_fits.py."""
    n = 10 if quick else 500
    found, _ = run("killed_fits.py", n, "--seed", seed)
    name = f"{n} kills, seed {seed}"
    for moment, n_kills in sorted(found["moments"].items()):
        yield figure(name, moment, n_kills)
    yield figure(name, "fits resumed to their end", found["resumed"])
    yield figure(name, "ended otherwise than without a kill", len(found["others"]), at_most=0)
    for other in found["others"]:
        print(other, file=sys.stderr)


SECTIONS = {"memory": memory, "ranks": ranks, "files": files, "kills": kills}


# The report.


def line(record):
    bar, verdict = bar_and_verdict(record)
    end = f"; target {bar}: {verdict}" if bar else ""
    return f"{record['section']}: {record['case']}: {record['what']} {shown(record)}{end}."


def markdown(records, made):
    verdicts = [verdict for _, verdict in map(bar_and_verdict, records) if verdict]
    yield f"# Reliability, {made['date']}\n"
    yield (
        "Memory, time and errors of fits of files, of chunks and of several processes, against fits of arrays in one "
        f"process, on tables of up to 4.3 GB. {verdicts.count('reached')} of {len(verdicts)} targets are reached.\n"
    )
    yield "Written by `make reliability`. " + "; ".join(f"{name} {value}" for name, value in made.items()) + "."
    for section, group in groupby(records, key=lambda record: record["section"]):
        yield f"\n## {section.capitalize()}\n\n{SECTIONS[section].__doc__}\n"
        yield "| case | figure | | target | |\n|---|---|---|---|---|"
        for record in group:
            yield f"| {' | '.join((record['case'], record['what'], shown(record), *bar_and_verdict(record)))} |"


def store(records):
    made = stamp((), 1)
    del made["splits"]
    made |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread"}
    (RESULTS / "reliability.json").write_text(json.dumps({"made with": made, "records": records}, indent=1) + "\n")
    (RESULTS / "reliability.md").write_text("\n".join(markdown(records, made)) + "\n")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that everything runs; figures mean nothing")
    parser.add_argument("--seed", type=int, default=0, help="of changes and kills")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="measure these anew, keep the other results")
    arguments = parser.parse_args(argv)
    asked, found = arguments.only or list(SECTIONS), RESULTS / "reliability.json"
    kept = json.loads(found.read_text())["records"] if arguments.only and found.exists() else []
    records = [record for record in kept if record["section"] not in asked]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a short fit warns that it did not converge
        for section in asked:
            seed = {"seed": arguments.seed} if section in ("files", "kills") else {}
            for record in SECTIONS[section](arguments.quick, **seed):
                records.append({"section": section, **record})
                print(line(records[-1]), flush=True)
    if not arguments.quick:
        store(sorted(records, key=lambda record: list(SECTIONS).index(record["section"])))


if __name__ == "__main__":
    main()
