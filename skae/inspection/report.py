"""Figures of a comparison and its report: one self-contained HTML file."""

import base64
import io
import platform
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np

from skae._version import __version__
from skae.inspection.codes import LatentSpaceDisplay
from skae.inspection.drawing import COLOURS, MARKERS, check_image_shape, draw_grid, escape_math, pyplot
from skae.inspection.loadings import LoadingsDisplay
from skae.inspection.named import with_size
from skae.inspection.verdicts import QUESTIONS, best_cell, components, spoken
from skae.inspection.winner import python_lines

# Classes that the legend of the codes has room for; codes of more classes are drawn alike.
_MOST_NAMES = 20
# Names of columns that a panel has room for, and samples that are drawn with them.
_MOST_COLUMN_NAMES, _N_NAMED, _LONGEST_NAME = 20, 4, 20
# Columns of results that are drawn, and the labels of their axes.
_CURVES = {"error": "held-out mean squared error", "log_likelihood": "held-out log-likelihood (nats a sample)"}


def plot_curves(comparison, axes=None):
    """Draw error and, if any model has one, log-likelihood against the number of components; return the figure."""
    columns = [column for column in _CURVES if np.isfinite(comparison.results.get(column, [np.nan])).any()]
    if not columns:
        raise ValueError("No model here has a reconstruction error or a density, so there is nothing to draw.")
    if axes is None:
        _, axes = pyplot().subplots(1, len(columns), figsize=(4.8 * len(columns), 3.6), layout="constrained")
    axes = np.atleast_1d(axes)
    for axis, column in zip(axes, columns, strict=False):
        _draw_curves(axis, comparison, column)
    if columns[0] == "error":
        axes[0].set_ylim(bottom=0)
    return axes[0].figure


def _draw_curves(axis, comparison, column):
    """Draw one column of the results, a curve for each model with its standard deviation over folds."""
    sizes = np.array(comparison.sizes)
    for i, name in enumerate(comparison.names):
        folds = {size: comparison.folds(column, name, size) for size in sizes}
        known = [size for size in sizes if len(folds[size]) and np.isfinite(folds[size]).all()]
        if known:
            look = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "capsize": 3}
            means, deviations = (np.array([f(folds[size]) for size in known]) for f in (np.mean, np.std))
            axis.errorbar(known, means, deviations, label=escape_math(name), **look)
    axis.set(xlabel="components", ylabel=_CURVES[column], xscale="log")
    axis.set_xticks(sizes, sizes.astype(str))
    axis.minorticks_off()
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)  # above the axes


def html_table(comparison):
    """Return the table of results as HTML."""
    header, *body = comparison.table()
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    size = None
    for cells in body:
        opening = '<tr class="first">' if cells[0] != size else "<tr>"
        lines.append(opening + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        size = cells[0]
    return "<table>" + "\n".join(lines) + "</table>"


def write_report(comparison, path, feature_shape=None, notes=(), command=None, load=()):
    """Write the report of a comparison to a file."""
    if comparison.examples:
        n_features = comparison.examples["rows"].shape[1] + len(comparison.constant)
        check_image_shape(feature_shape, n_features, "feature_shape")
    headlines = filter(None, (question(comparison).headline() for question in QUESTIONS))
    page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8")).substitute(
        asked=escape(_asked(comparison)),
        answer="".join(f"<p>{escape(line)}</p>" for line in comparison.answer().splitlines()),
        numbers="".join(f"<li><b>{escape(n)}</b><span>{escape(of)}</span></li>" for n, of in list(headlines)[:3]),
        notes=escape(" ".join(notes) or ", ".join(comparison.names)),
        table=html_table(comparison),
        n_folds=len(set(comparison.results["fold"])),
        unit=escape(comparison.unit),
        verdicts="".join(f"<li>{escape(sentence)}</li>" for sentence in comparison.verdicts()),
        figures="".join(_html_figure(*captioned) for captioned in _figures(comparison, feature_shape)),
        worst=_html_worst(comparison),
        code=escape(_code(comparison, load)),
        command=escape(command or "skae.compare(X, y)  # with the arguments that you passed"),
        versions=escape(_versions(comparison)),
    )
    Path(path).write_text(page, encoding="utf-8")


def _asked(comparison):
    """Return the question as a sentence."""
    predict = ["predict the target"] * ("target_score" in comparison.results)
    tasks = _listed([*predict, "reconstruct samples", "estimate their density"], "or")
    names, sizes = _listed(map(spoken, comparison.names)), _listed(comparison.sizes)
    return f"Compared on held-out samples: {names}, with {sizes} components. Which is best to {tasks}?"


def _listed(words, conjunction="and"):
    """Return words as a list within a sentence."""
    *first, last = map(str, words)
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def _html_worst(comparison):
    """Return the samples with the largest errors under the model to use as a table."""
    name, size = best_cell(comparison)
    worst = (comparison.examples or {}).get("worst", {}).get((name, size))
    if not worst:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(label))}</td><td>{error:.4g}</td><td>{escape(', '.join(map(str, columns)))}</td></tr>"
        for error, label, columns in worst
    )
    return (
        f"<h2>Samples that {escape(spoken(name))} with {components(size)} reconstructs worst</h2>"
        "<p>Held-out samples, with the columns that differ most from their reconstructions.</p>"
        '<div class="wide"><table>'
        f"<tr><th>sample</th><th>error</th><th>columns</th></tr>{rows}</table></div>"
    )


def _code(comparison, load):
    """Return the program that uses the model to use."""
    name, size = best_cell(comparison)
    models = (comparison.examples or {}).get("estimators", {})
    return (
        python_lines(with_size(name, models[name], size), load) if name in models else f"# {name}, {components(size)}"
    )


def _versions(comparison):
    """Return a sentence that says what was run, and with which versions."""
    n_folds = len(set(comparison.results["fold"]))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "torch", "skorch", "numpy"))
    return (
        f"{date.today().isoformat()}: {', '.join(comparison.names)} at {comparison.sizes} components, {n_folds} "
        f"folds, seed 0; skae {__version__}, {libraries}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}."
    )


def _html_figure(caption, figure):
    """Return a figure as HTML with the image inside it, and close it."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110, bbox_inches="tight")
    pyplot().close(figure)
    data = base64.b64encode(image.getvalue()).decode()
    return (
        f'<h2>{escape(caption)}</h2><figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}"></figure>'
    )


def _figures(comparison, feature_shape):
    """Yield each figure of the report with its caption."""
    if np.isfinite([*comparison.results["error"], *comparison.results["log_likelihood"]]).any():
        yield "Error and density against the number of components", plot_curves(comparison)
    if comparison.examples:
        yield from example_figures(comparison, feature_shape)


def example_figures(comparison, feature_shape):
    """Yield reconstructions, generated samples and two-dimensional codes of the first fold, each with its caption."""
    size, held_out = comparison.sizes[-1], {"held-out samples": comparison.examples["rows"]}
    names = None if feature_shape else comparison.examples.get("names")

    def found(kind):
        models = {name: comparison.examples["models"][name, size] for name in comparison.names}
        return {name: model[kind] for name, model in models.items() if kind in model}

    shown, which = _shown_columns(held_out["held-out samples"], found("reconstructions"), names)

    def draw(lines):
        drawn = {label: samples[:, shown] for label, samples in (held_out | lines).items()}
        return _grid_figure(drawn, feature_shape, comparison.constant, names and [names[j] for j in shown])

    yield f"Held-out samples, and their reconstructions from {components(size)}{which}", draw(found("reconstructions"))
    for name, samples in found("samples").items():
        half = len(samples) // 2
        lines = {f"samples of\n{name}": samples[:half], "more": samples[half:]}
        yield f"Samples drawn from {name} with {components(size)}{which}", draw(lines)
    if 2 in comparison.sizes:
        yield "Codes of held-out samples, with two components", codes_figure(comparison)
    best, size = best_cell(comparison)
    for name in dict.fromkeys([comparison.reference, best]) if names else ():
        if found := comparison.examples["models"][name, size]["loadings"]:
            display = LoadingsDisplay(**found).plot()
            yield (
                f"Loadings of {spoken(name)} with {components(size)}: how columns change with components",
                display.figure_,
            )


def _shown_columns(rows, reconstructions, names):
    """Return the indices of the columns to draw, and what to say of them.

    Of named columns those with the largest errors are drawn, as many as there is room to name. The median error over
    samples counts, since indicators of rare categories have large errors of few.
    """
    n = rows.shape[1]
    if names is None or n <= _MOST_COLUMN_NAMES:
        return np.arange(n), ""
    errors = [np.median(np.nan_to_num(np.square(rows - X_hat)), axis=0) for X_hat in reconstructions.values()]
    errors = np.sum([np.zeros(n), *errors], axis=0)
    largest = np.argsort(-errors, kind="stable")[:_MOST_COLUMN_NAMES]
    return np.sort(largest), f": the {_MOST_COLUMN_NAMES} of {n} columns with the largest median errors"


def _grid_figure(lines, feature_shape, constant, names):
    """Draw labelled lines of samples on the scale of the first line, left-out columns as blank pixels.

    If columns are named, fewer samples are drawn.
    """
    n = min(*map(len, lines.values()), _N_NAMED if names else np.inf)
    reference = next(iter(lines.values()))
    samples = np.stack([line[:n] for line in lines.values()])
    if feature_shape is not None:
        images = np.full((*samples.shape[:2], samples.shape[2] + len(constant)), np.nan)
        images[..., np.setdiff1d(np.arange(images.shape[2]), constant)] = samples
        samples = images
    limits = np.nanmin(reference), np.nanmax(reference)
    ax, axes, _ = draw_grid(None, samples, feature_shape, limits, [escape_math(label) for label in lines])
    for axis in axes[-1] if names else ():
        short = [escape_math(_shortened(str(name))) for name in names]
        axis.set_xticks(range(len(names)), short, rotation=90, fontsize="xx-small")
    if names:
        ax.figure.set_size_inches(10, 1.3 * len(samples))
    return ax.figure


def _shortened(name):
    """Return the beginning and the end of a name, since names of columns often begin alike."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:9]}...{name[-8:]}"


def codes_figure(comparison):
    """Draw the two-dimensional codes of each model, coloured by the target."""
    models, names, target = comparison.examples["models"], comparison.names, comparison.examples["target"]
    if target is not None and target.dtype.kind not in "iuf" and len(np.unique(target)) > _MOST_NAMES:
        target = None
    size = {"figsize": (3.2 * len(names) + 0.6, 3.4)}
    figure, axes = pyplot().subplots(1, len(names), layout="constrained", squeeze=False, **size)
    for axis, name in zip(axes[0], names, strict=True):
        display = LatentSpaceDisplay(codes=models[name, 2]["codes"], y=target).plot(axis)
        axis.set(title=escape_math(name), xlabel=None, ylabel=None, xticks=[], yticks=[])
        key = display.legend_ or display.colorbar_
        if key and name != names[-1]:  # one for all
            key.remove()
    if display.classes is not None:
        figure.set_figheight(max(3.4, 0.27 * len(display.classes)))  # room for the legend
    return figure
