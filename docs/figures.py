"""Figures of the site: those of measurements, from what the benchmarks wrote, and those that the guide's code makes."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#767676"


def records(results, name, **chosen):
    """Records of a result that have these values."""
    found = json.loads((results / f"{name}.json").read_text())["records"]
    return [record for record in found if all(record[key] == value for key, value in chosen.items())]


def cells(found, value):
    """The mean over splits of a record's value, of each table at each size."""
    values = {}
    for record in found:
        values.setdefault((record["table"], record["size"]), []).append(value(record))
    return {cell: np.mean(those) for cell, those in values.items()}


def errors(results, ax):
    for mode, colour in (("standardised", BLUE), ("raw", ORANGE)):
        found = records(results, "quality-final", mode=mode)
        ratios = cells(found, lambda r: np.log(r["autoencoder_error"] / r["pca_error"]))
        ratios = np.exp(np.sort(list(ratios.values())))
        ax.plot(np.arange(1, len(ratios) + 1) / len(ratios), ratios, ".", color=colour, label=f"{mode} columns")
    ax.axhline(1, color=GREY, linewidth=1)
    ax.set(yscale="log", xlabel="share of cells (table and n_components)", ylabel="held-out error over PCA's")
    ax.set_title("AutoencoderTransformer: below the line it beats PCA")
    ax.legend()


def densities(results, ax):
    found = records(results, "quality-final", mode="density")
    rivals = {
        "probabilistic PCA, factor analysis": (ORANGE, lambda r: max(r["ppca"], r["factor_analysis"])),
        "best Gaussian mixture": (BLUE, lambda r: r["mixture"]),
        "best kernel density": (GREEN, lambda r: r["kernel"]),
    }
    for name, (colour, rival) in rivals.items():
        gains = np.sort(list(cells(found, lambda r, rival=rival: r["log_likelihood"] - rival(r)).values()))
        ax.plot(np.arange(1, len(gains) + 1) / len(gains), gains, ".", color=colour, label=name)
    ax.axhline(0, color=GREY, linewidth=1)
    ax.set_yscale("symlog", linthresh=1)
    ax.set(xlabel="share of cells (table and n_components)", ylabel="nats a sample above the alternative")
    ax.set_title("VAEGenerator: held-out log-likelihood, above the line it is better")
    ax.legend()


def speed(results, ax):
    found = records(results, "speed", question="training", threads=1)
    names = {"skae over c": "skae", "textbook loop over c": "textbook loop", "plain skorch over c": "plain skorch"}
    cases = list(dict.fromkeys(record["case"] for record in found))
    for shift, (case, colour) in enumerate(zip(cases, (BLUE, ORANGE), strict=True)):
        for place, what in enumerate(names):
            (record,) = (r for r in found if r["case"] == case and r["what"] == what)
            y, value = place + 0.15 - 0.3 * shift, record["value"]
            span = [[value - record["least"]], [record["largest"] - value]]
            ax.errorbar(value, y, xerr=span, fmt="o", color=colour, capsize=3, label=case if not place else None)
    ax.axvline(1, color=GREY, linewidth=1)
    ax.set_yticks(range(len(names)), names.values())
    ax.set(xlim=0, xlabel="time over that of the hand-optimised loop, one thread, medians and ranges")
    ax.set_title("Training the same layers")
    ax.legend(loc="lower right")


def ordered(results, ax):
    ratios = {"one ordered fit": {}, "a fit for each size": {}}
    for record in records(results, "ordered-final", mode="errors"):
        for place, size in enumerate(record["sizes"]):  # the others are of every size up to the largest
            fits = record["ordered_errors"][size - 1], record["dedicated_errors"][place]
            for name, error in zip(ratios, fits, strict=True):
                ratios[name].setdefault(size, []).append(error / record["pca_errors"][size - 1])
    for (name, by_size), colour in zip(ratios.items(), (BLUE, ORANGE), strict=True):
        sizes = sorted(by_size)
        logs = [np.log(by_size[size]) for size in sizes]
        ax.plot(sizes, [np.exp(log.mean()) for log in logs], "o-", color=colour, label=name)
        bounds = np.exp([np.quantile(log, (0.1, 0.9)) for log in logs])
        ax.fill_between(sizes, *bounds.T, color=colour, alpha=0.15, linewidth=0)
    ax.axhline(1, color=GREY, linewidth=1)
    ax.set(xscale="log", xlabel="components", ylabel="held-out error over PCA's")
    ax.minorticks_off()
    ax.set_xticks(sizes, sizes)
    ax.set_title("ordered=True: all sizes from one fit (means, and eight tables of ten)")
    ax.legend()


def gaps(results, ax):
    shares = sorted({record["share"] for record in records(results, "data-kinds-gaps")})
    for shift, (rival, colour) in enumerate((("IterativeImputer", BLUE), ("KNNImputer", ORANGE))):
        for place, share in enumerate(shares):
            found = records(results, "data-kinds-gaps", share=share)
            ratios = [record["VAE"] / record[rival] for record in found]
            x = np.full(len(ratios), place + 0.15 * (2 * shift - 1))
            ax.plot(x, ratios, ".", color=colour, alpha=0.6, label=None if place else f"over {rival}'s")
            mean = np.exp(np.mean(np.log(ratios)))
            ax.plot(x[:1], mean, "_", color=colour, markersize=24, markeredgewidth=2)
    ax.axhline(1, color=GREY, linewidth=1)
    ax.set_yscale("log")
    ax.minorticks_off()
    ax.set_yticks((0.2, 0.5, 1, 2), ("0.2", "0.5", "1", "2"))
    ax.set_xticks(range(len(shares)), [f"{share:.0%} missing" for share in shares])
    ax.set(ylabel="error of imputed values")
    ax.set_title("VAEGenerator.impute: below the line it is better (bars: means)")
    ax.legend()


FIGURES = {errors: "quality-final", densities: "quality-final", speed: "speed", ordered: "ordered-final"}
FIGURES[gaps] = "data-kinds-gaps"


def draw(results, folder):
    """A picture of each result, its date, versions and machine written below it."""
    for figure, name in FIGURES.items():
        made = json.loads((results / f"{name}.json").read_text())["made with"]
        fig, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
        figure(results, ax)
        shown = ("skae", "numpy", "scikit-learn", "torch", "skorch")
        versions = ", ".join(f"{package} {made[package]}" for package in shown)
        fig.supxlabel(f"{made['date']}; {versions}; {made['machine']}", fontsize=7, color=GREY)
        fig.savefig(folder / f"{figure.__name__}.png", dpi=120)
        plt.close(fig)


def draw_displays(page, folder):
    """The figures that the program of the guide's page on displays makes, under the names that it gives them."""
    program = re.search(r"```python\n(.+?)```", page, flags=re.DOTALL).group(1)
    names = {}
    with redirect_stdout(StringIO()):
        exec(program, names)
    for name, display in names.items():
        if hasattr(display, "figure_"):
            display.figure_.savefig(folder / f"{name}.png", dpi=80)
    plt.close("all")
