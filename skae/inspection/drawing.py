"""Helpers of displays: matplotlib, colours, and grids of samples."""

import math

import numpy as np

from skae.data.parameters import check_integer

# Okabe and Ito's colours, and three that are as distinct from them under colour blindness; markers that need no colour.
COLOURS = ["k", "#e69f00", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#882255", "#332288", "#8b4513"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
# Samples with more columns are drawn as a line, others as bars.
_MOST_BARS = 30
# Width and height of a panel in inches.
_IMAGE_SIZE, _PROFILE_SIZE = (0.95, 1.05), (1.5, 1.1)


class Display:
    """Base of the displays: `plot` draws the data of a display, and stores the artists as attributes."""

    def plot(self, ax=None):
        """Draw the figure.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in. A display of several panels divides them. None makes a new figure.

        Returns
        -------
        self : Display
            With the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from skae import SampleDisplay
        >>> figure, ax = plt.subplots()
        >>> display = SampleDisplay(samples=[[1, 2, 3], [3, 2, 1]]).plot(ax)
        >>> display.ax_ is ax
        True
        """
        self.ax_ = self._draw(ax)
        self.figure_ = self.ax_.figure
        return self


def pyplot():
    """Import matplotlib's pyplot."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Figures need matplotlib: pip install matplotlib.") from error
    return plt


def axes_or_new(ax, figsize=None):
    """Return the axes, or those of a new figure where they are None."""
    return pyplot().subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def escape_math(name):
    """Escape dollar signs, between which matplotlib would read mathematics."""
    return str(name).replace("$", r"\$")


def divide(ax, n_lines, n_columns, spacing=(0.06, 0.06)):
    """Hide the axes and return a grid of axes inside them, an array of shape (n_lines, n_columns).

    The spacing is the share of a panel that stays empty to its right and above it, as room for titles.
    """
    ax.set_axis_off()
    width, height = 1 / n_columns, 1 / n_lines
    size = (1 - spacing[0]) * width, (1 - spacing[1]) * height
    axes = np.empty((n_lines, n_columns), dtype=object)
    for i, j in np.ndindex(axes.shape):
        axes[i, j] = ax.inset_axes((j * width, 1 - (i + 1) * height, *size))
    return axes


def check_image_shape(image_shape, n_features, name="image_shape"):
    """Return None or the shape, (height, width) or (channels, height, width), of images with n_features values."""
    if image_shape is None:
        return None
    advice = "Pass (height, width), or (channels, height, width) with 1 or 3 channels, or None for lines and bars."
    try:
        shape = tuple(check_integer(name, size, 1) for size in image_shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={image_shape!r} must be a tuple of integers. {advice}") from error
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise ValueError(f"{name}={image_shape!r} is not the shape of an image that can be drawn. {advice}")
    if (n_values := math.prod(shape)) != n_features:
        raise ValueError(f"{name}={image_shape!r} has {n_values} values, but samples have {n_features}. {advice}")
    return shape


def draw_grid(ax, samples, image_shape, limits, labels=None, titles=None):
    """Draw a grid of samples, an array of shape (n_lines, n_columns, n_features); panels of nan only stay empty.

    Labels belong to lines, titles to panels, line by line. Return the axes that were divided, those of the panels, and
    the artists, None in empty panels.
    """
    n_lines, n_columns = samples.shape[:2]
    width, height = _PROFILE_SIZE if image_shape is None else _IMAGE_SIZE
    ax = axes_or_new(ax, (width * n_columns + (1.1 if labels else 0), height * n_lines + 0.3))
    axes = divide(ax, n_lines, n_columns, (0.06, 0.06 if titles is None else 0.2))
    artists = np.full(axes.shape, None)
    for panel in np.ndindex(axes.shape):
        if np.isnan(samples[panel]).all():
            axes[panel].set_axis_off()
        else:
            axes[panel].set(xticks=[], yticks=[])
            draw = _draw_profile if image_shape is None else _draw_image
            artists[panel] = draw(axes[panel], samples[panel], image_shape, *limits)
    for axis, label in zip(axes[:, 0], labels or [], strict=False):
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
    for axis, title in zip(axes.flat, titles or [], strict=False):
        axis.set_title(title, fontsize="small", pad=2)
    return ax, axes, artists


def _draw_image(ax, sample, image_shape, low, high):
    """Draw a sample as an image, in grey or in colour, scaled from low to high; return the artist."""
    if len(image_shape) == 3 and image_shape[0] == 3:
        colours = (sample.reshape(image_shape) - low) / max(high - low, np.finfo(float).tiny)
        return ax.imshow(np.moveaxis(colours, 0, -1).clip(0, 1))
    return ax.imshow(sample.reshape(image_shape[-2:]), cmap="gray_r", vmin=low, vmax=high)


def _draw_profile(ax, sample, _, low, high):
    """Draw a sample as bars, or with many columns as a line; return the artist."""
    margin = 0.05 * (high - low) or 1
    if len(sample) > _MOST_BARS:
        (artist,) = ax.plot(sample, color=COLOURS[2], linewidth=1)
    else:
        artist = ax.bar(np.arange(len(sample)), sample, color=COLOURS[2])
        ax.axhline(0, color="0.6", linewidth=0.6, zorder=0)
        low, high = min(low, 0), max(high, 0)
    ax.set_ylim(low - margin, high + margin)
    return artist
