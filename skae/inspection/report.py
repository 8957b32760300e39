"""Pictures of a comparison and the report they stand in: one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
import math
import platform
from datetime import date
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
import sklearn
import skorch
import torch

from skae._version import __version__
from skae.inspection.codes import LatentSpaceDisplay
from skae.inspection.drawing import COLOURS, MARKERS, draw_lines, plain, pyplot

# Names of classes that a legend beside the codes has room for; of more all rows look alike.
_MOST_NAMES = 20

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>PCA or an autoencoder?</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2.5rem; }}
.answer {{ border-left: .3rem solid #0072b2; padding: .2rem 1rem; background: #f2f6fa; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .8rem .25rem 0; text-align: left; white-space: nowrap; }}
th {{ border-bottom: 2px solid #888; }} tr.first td {{ border-top: 1px solid #bbb; }}
img {{ max-width: 100%; height: auto; }} figure {{ margin: 1rem 0; }} figcaption {{ color: #555; font-size: .9rem; }}
</style>
</head>
<body>
<h1>Should an autoencoder replace PCA on this table, and with how many components?</h1>
<div class="answer">{answer}</div>
<h2>What was compared</h2>
<p>{notes}</p>
<h2>The numbers</h2>
<div class="wide">{table}</div>
<p>Means over {n_folds} folds of held-out rows, +- their standard deviation; seconds are medians. The error is a
mean squared error in units of the table; R<sup>2</sup> is against the mean of the training rows;
log-likelihood is in nats a row, for the VAE a lower bound.</p>
<h2>Size by size</h2>
<ul>{verdicts}</ul>
{figures}
<h2>What was run</h2>
<p>{versions}</p>
</body>
</html>
"""


def plot_curves(comparison, axes=None):
    """Error and, if any model has one, log-likelihood against the number of components."""
    columns = {"error": "held-out mean squared error", "log_likelihood": "held-out log-likelihood (nats a row)"}
    drawn = [c for c in columns if np.isfinite(comparison.results.get(c, [np.nan])).any()]
    if not drawn:
        raise ValueError("No model here has a reconstruction error or a density, so there is nothing to draw.")
    if axes is None:
        _, axes = pyplot().subplots(1, len(drawn), figsize=(4.8 * len(drawn), 3.6), layout="constrained")
    for axis, column in zip(np.atleast_1d(axes), drawn, strict=False):
        for i, name in enumerate(comparison.names):
            folds = np.array([comparison.folds(column, name, size) for size in comparison.sizes])
            known = np.isfinite(folds).all(axis=1)
            if not known.any():
                continue
            axis.errorbar(
                np.array(comparison.sizes)[known],
                folds[known].mean(axis=1),
                folds[known].std(axis=1),
                label=plain(name),
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                capsize=3,
            )
        axis.set(xlabel="components", ylabel=columns[column], xscale="log", xticks=comparison.sizes)
        axis.set_xticks(comparison.sizes, [str(size) for size in comparison.sizes])
        axis.minorticks_off()
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)  # where nothing is drawn
    if drawn and drawn[0] == "error":
        np.atleast_1d(axes)[0].set_ylim(bottom=0)
    return np.atleast_1d(axes)[0].figure


def html_table(comparison):
    """The table of numbers as HTML."""
    header, *body = comparison.table()
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    last = None
    for row in body:
        opening = '<tr class="first">' if row[0] != last else "<tr>"
        lines.append(opening + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
        last = row[0]
    return "<table>" + "\n".join(lines) + "</table>"


def write_report(comparison, path, feature_shape=None, notes=()):
    """Write the report of a comparison to a file."""
    if comparison.examples and feature_shape is not None:
        n_columns = comparison.examples["rows"].shape[1] + len(comparison.constant)
        if math.prod(feature_shape) != n_columns:
            raise ValueError(
                f"feature_shape={feature_shape!r} is of {math.prod(feature_shape)} numbers, but rows have {n_columns} "
                "columns. Give (height, width), or None for profiles."
            )
    plt = pyplot()
    figures = []
    if np.isfinite([*comparison.results["error"], *comparison.results["log_likelihood"]]).any():
        figures.append(("Error and density against the number of components", plot_curves(comparison)))
    if comparison.examples:
        figures += list(_example_figures(comparison, feature_shape))
    parts = []
    for caption, figure in figures:
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=110)
        plt.close(figure)
        data = base64.b64encode(image.getvalue()).decode()
        parts.append(
            f"<h2>{escape(caption)}</h2>"
            f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}"></figure>'
        )
    n_folds = len(set(comparison.results["fold"]))
    page = _PAGE.format(
        answer="".join(f"<p>{escape(line)}</p>" for line in comparison.answer().splitlines()),
        notes=escape(" ".join(notes) or ", ".join(comparison.names)),
        table=html_table(comparison),
        n_folds=n_folds,
        verdicts="".join(f"<li>{escape(sentence)}</li>" for sentence in comparison.verdicts()),
        figures="".join(parts),
        versions=escape(
            f"{date.today().isoformat()}: {', '.join(comparison.names)} at {comparison.sizes} components, {n_folds} "
            f"folds; skae {__version__}, scikit-learn {sklearn.__version__}, torch {torch.__version__}, skorch "
            f"{skorch.__version__}, numpy {np.__version__}, Python {platform.python_version()}, {platform.system()} "
            f"{platform.machine()}."
        ),
    )
    Path(path).write_text(page, encoding="utf-8")


def _example_figures(comparison, feature_shape):
    """Reconstructions, samples and two-dimensional codes of the first fold, each with its caption."""
    draw = partial(_rows_figure, feature_shape=feature_shape, constant=comparison.constant)
    models, largest = comparison.examples["models"], comparison.sizes[-1]
    lines = {"held-out rows": comparison.examples["rows"]} | {
        name: models[name, largest]["reconstructions"]
        for name in comparison.names
        if "reconstructions" in models[name, largest]
    }
    yield f"Held-out rows and what {largest} components keep of them", draw(lines)
    samples = {
        name: models[name, largest]["samples"] for name in comparison.names if "samples" in models[name, largest]
    }
    for name, rows in samples.items():
        half = len(rows) // 2
        lines = {"held-out rows": comparison.examples["rows"], f"new rows of\n{name}": rows[:half], "more": rows[half:]}
        yield f"New rows, drawn from {name} with {largest} components", draw(lines)
    if 2 in comparison.sizes:
        yield "Codes of two components, of held-out rows", _codes_figure(comparison)


def _rows_figure(lines, feature_shape, constant):
    """Rows line by line: as images, blank in columns left out, or as profiles; on the scale of the first line."""
    n = min(len(rows) for rows in lines.values())
    first = next(iter(lines.values()))
    labels = [plain(label) for label in lines]
    grid = np.stack([rows[:n] for rows in lines.values()])
    if feature_shape is not None:
        images = np.full((*grid.shape[:2], grid.shape[2] + len(constant)), np.nan)
        images[..., np.setdiff1d(np.arange(images.shape[2]), constant)] = grid
        grid = images
    return draw_lines(None, grid, feature_shape, (first.min(), first.max()), labels)[0].figure


def _codes_figure(comparison):
    """A scatter of two-dimensional codes a model, coloured by the target."""
    models, names, target = comparison.examples["models"], comparison.names, comparison.examples["target"]
    if target is not None and target.dtype.kind not in "iuf" and len(np.unique(target)) > _MOST_NAMES:
        target = None
    figure, axes = pyplot().subplots(
        1, len(names), figsize=(3.2 * len(names) + 0.6, 3.4), layout="constrained", squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=True):
        display = LatentSpaceDisplay(codes=models[name, 2]["codes"], y=target).plot(axis)
        axis.set(title=plain(name), xlabel=None, ylabel=None, xticks=[], yticks=[])
        key = display.legend_ or display.colorbar_
        if key and name != names[-1]:  # one for all
            key.remove()
    if display.classes is not None:
        figure.set_figheight(max(3.4, 0.27 * len(display.classes)))  # the legend's
    return figure
