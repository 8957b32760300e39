"""What pictures share: matplotlib, colours, and how a row is drawn."""

from __future__ import annotations

import math

import numpy as np

from skae._validation import check_integer

# Okabe and Ito's colours, which colour-blind eyes tell apart, and markers that need no colour.
COLOURS = ["#000000", "#e69f00", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
# A row of more columns is a line, of fewer a bar each.
_MOST_BARS = 30
# Inches, of an image and of bars or a line.
_CELL = {True: (0.95, 1.05), False: (1.5, 1.1)}


def pyplot():
    """matplotlib's pyplot."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'skae[compare]'.") from error
    return plt


def plain(name):
    """A name that matplotlib does not take for mathematics."""
    return name.replace("$", r"\$")


def divided(ax, n_lines, n_columns, figsize, gaps=(0.06, 0.06)):
    """These axes, of a new figure if None, made invisible, and in them a grid of so many.

    The gaps, in shares of a cell, are to the right of each and above it: what titles need lies inside the axes divided.
    """
    if ax is None:
        ax = pyplot().figure(figsize=figsize, layout="constrained").add_subplot()
    ax.set_axis_off()
    width, height = 1 / n_columns, 1 / n_lines
    size = (1 - gaps[0]) * width, (1 - gaps[1]) * height
    axes = np.empty((n_lines, n_columns), dtype=object)
    for i, j in np.ndindex(axes.shape):
        axes[i, j] = ax.inset_axes((j * width, 1 - (i + 1) * height, *size))
    return ax, axes


def check_image_shape(image_shape, n_columns):
    """None, (height, width) or (channels, height, width) of as many numbers as a row has, 1 or 3 channels."""
    if image_shape is None:
        return None
    way_out = "Give (height, width), or (channels, height, width) with 1 channel or 3, or None for lines and bars."
    try:
        shape = tuple(check_integer("image_shape", size, 1) for size in image_shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"image_shape={image_shape!r} must be a tuple of integers. {way_out}") from error
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise ValueError(f"image_shape={image_shape!r} is no shape of an image that can be drawn. {way_out}")
    if (n_numbers := math.prod(shape)) != n_columns:
        raise ValueError(
            f"image_shape={image_shape!r} is of {n_numbers} numbers, but rows have {n_columns} columns. {way_out}"
        )
    return shape


def draw_row(ax, row, image_shape, low, high):
    """One row as an image, as bars or, of many columns, as a line, on a scale from low to high; the artist."""
    ax.set(xticks=[], yticks=[])
    if image_shape is not None:
        if image_shape[0] == 3 and len(image_shape) == 3:
            colours = (row.reshape(image_shape) - low) / max(high - low, np.finfo(float).tiny)
            return ax.imshow(np.moveaxis(colours, 0, -1).clip(0, 1))
        return ax.imshow(row.reshape(image_shape[-2:]), cmap="gray_r", vmin=low, vmax=high)
    margin = 0.05 * (high - low) or 1
    if len(row) > _MOST_BARS:
        (artist,) = ax.plot(row, color=COLOURS[2], linewidth=1)
    else:
        artist = ax.bar(np.arange(len(row)), row, color=COLOURS[2])
        ax.axhline(0, color="0.6", linewidth=0.6, zorder=0)
        low, high = min(low, 0), max(high, 0)
    ax.set_ylim(low - margin, high + margin)
    return artist


def draw_lines(ax, lines, image_shape, limits, labels=None, titles=None):
    """A grid of rows, (n_lines, n_columns, n_features); nan throughout leaves a place empty.

    Labels are of lines, titles of places, in their order from the first line on.

    Returned are the axes that were divided, those of the rows, and the artists, None where there is no row.
    """
    n_lines, n_columns = lines.shape[:2]
    width, height = _CELL[image_shape is not None]
    figsize = (width * n_columns + (1.1 if labels else 0), height * n_lines + 0.3)
    ax, axes = divided(ax, n_lines, n_columns, figsize, (0.06, 0.06 if titles is None else 0.2))
    artists = np.full(axes.shape, None)
    for place in np.ndindex(axes.shape):
        row = lines[place]
        if np.isnan(row).all():
            axes[place].set_axis_off()
        else:
            artists[place] = draw_row(axes[place], row, image_shape, *limits)
    for line, label in zip(axes, labels or [], strict=False):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for axis, title in zip(axes.flat, titles or [], strict=False):
        axis.set_title(title, fontsize="small", pad=2)
    return ax, axes, artists
