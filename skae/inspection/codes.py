"""Codes as a figure: a histogram, a scatter or a pair plot, coloured by class or value."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted

from skae.inspection.drawing import COLOURS, MARKERS, divided, plain, pyplot

# Classes that a colour and a marker tell apart.
MOST_CLASSES = len(COLOURS) * len(MARKERS)
# Components that a pair plot has at most.
_MOST_COMPONENTS = 4
# Numbers of more different values than so many are values, not names of classes.
_MOST_NUMBERED_CLASSES = 20
# Bars of histograms, whose colours come again with these.
_HATCHES = ["", "////", "xxxx", "....", "oooo", "++++", "****"]


class LatentSpaceDisplay:
    """Codes of rows, coloured by class or by value.

    Made by `from_estimator`, or by `from_predictions` of codes. One component is a histogram, two are a scatter, more a
    pair plot of the first four at most, with histograms on its diagonal.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        Codes.
    y : array-like of shape (n_samples,), default=None
        What to colour by. Numbers that are not whole, or of more than 20 different values, are values, and have a scale
        of colours; all else are classes, 49 at most, which have a colour and a marker each. None colours all alike.

    Attributes
    ----------
    codes, y : ndarray or None
        As given.
    classes : ndarray of shape (n_classes,) or None
        The classes, sorted; None where there are none.
    ax_ : matplotlib.axes.Axes
        Where `plot` has drawn last, or what it has divided.
    axes_ : ndarray of shape (n_shown, n_shown) or (1, 1)
        The axes of a pair plot, those above the diagonal invisible; else ``ax_``.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    scatters_ : list of matplotlib.collections.PathCollection
        The points, of each axes a collection for each class.
    histograms_ : list of matplotlib.container.BarContainer
        The bars, of each axes a container for each class.
    legend_ : matplotlib.legend.Legend or None
        The names of the classes.
    colorbar_ : matplotlib.colorbar.Colorbar or None
        The scale of values.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, LatentSpaceDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(2, max_iter=5, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(autoencoder, X, y)
    >>> len(display.scatters_)
    10
    """

    def __init__(self, *, codes, y=None):
        self.codes = check_array(codes, input_name="codes")
        self.y = None if y is None else column_or_1d(y)
        self.classes = None
        if y is None:
            return
        check_consistent_length(self.codes, self.y)
        if not _is_values(self.y):
            self.classes = np.unique(self.y)
            if len(self.classes) > MOST_CLASSES:
                raise ValueError(
                    f"y has {len(self.classes)} classes, and at most {MOST_CLASSES} can be told apart. Merge classes, "
                    "or give numbers."
                )

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, ax=None):
        """Draw the codes of rows.

        Parameters
        ----------
        estimator : object
            Fitted, with ``transform``: an autoencoder, a VAE, a PCA, a Pipeline.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            What to colour by.
        ax : matplotlib.axes.Axes, default=None
            Where to draw, divided for a pair plot; None makes a figure.

        Returns
        -------
        LatentSpaceDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``transform``.
        ValueError
            If y has another length than X, or too many classes.
        """
        if not hasattr(estimator, "transform"):
            raise TypeError(
                f"{type(estimator).__name__} has no transform, so it has no codes. Use an AutoencoderTransformer, a "
                "VAEGenerator, or from_predictions."
            )
        check_is_fitted(estimator)
        return cls(codes=estimator.transform(X), y=y).plot(ax)

    @classmethod
    def from_predictions(cls, codes, y=None, *, ax=None):
        """Draw the codes given.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_components)
            Codes.
        y : array-like of shape (n_samples,), default=None
            What to colour by.
        ax : matplotlib.axes.Axes, default=None
            Where to draw, divided for a pair plot; None makes a figure.

        Returns
        -------
        LatentSpaceDisplay
        """
        return cls(codes=codes, y=y).plot(ax)

    def plot(self, ax=None):
        """Draw the codes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw, divided for a pair plot; None makes a figure.

        Returns
        -------
        LatentSpaceDisplay
            This one, which now has the artists as attributes.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        self.scatters_, self.histograms_, self.legend_, self.colorbar_ = [], [], None, None
        n = min(self.codes.shape[1], _MOST_COMPONENTS)
        if n > 2:
            self.ax_, self.axes_ = divided(ax, n, n, (2.2 * n, 2 * n))
            self._draw_pairs(n)
        else:
            if ax is None:
                _, ax = pyplot().subplots(layout="constrained")
            self.ax_, self.axes_ = ax, np.array([[ax]])
            if n == 1:
                self._draw_histogram(ax, 0)
                ax.set(xlabel="component 1", ylabel="rows")
            else:
                self._draw_scatter(ax, 0, 1)
                ax.set(xlabel="component 1", ylabel="component 2")
        self.figure_ = self.ax_.figure
        self._name_colours()
        return self

    def _draw_pairs(self, n):
        for i, j in np.ndindex(n, n):
            axis = self.axes_[i, j]
            if j > i:
                axis.set_axis_off()
                continue
            if j == i:
                self._draw_histogram(axis, i)
            else:
                self._draw_scatter(axis, j, i)
            axis.locator_params(nbins=5, prune="both")  # else labels meet those of the axes beside
            if j == i:
                axis.set_yticks([])
            axis.tick_params(labelbottom=i == n - 1, labelleft=j == 0, labelsize="small")
            axis.set(
                xlabel=f"component {j + 1}" if i == n - 1 else None, ylabel=f"component {i + 1}" if j == 0 else None
            )

    def _groups(self):
        """Of each class its rows, label, colour, marker and hatch; of everything else one group."""
        if self.classes is None:
            yield slice(None), None, COLOURS[2], "o", ""
            return
        for i, label in enumerate(self.classes):
            again, first = divmod(i, len(COLOURS))
            yield self.y == label, plain(str(label)), COLOURS[first], MARKERS[again], _HATCHES[again]

    def _draw_scatter(self, ax, j, i):
        size = float(np.clip(4000 / len(self.codes), 6, 30))
        look = {"s": size, "linewidths": 0, "alpha": 0.8}
        if self.y is not None and self.classes is None:
            self.scatters_.append(ax.scatter(self.codes[:, j], self.codes[:, i], c=self.y, cmap="viridis", **look))
            return
        for rows, label, colour, marker, _ in self._groups():
            points = ax.scatter(
                self.codes[rows, j], self.codes[rows, i], color=colour, marker=marker, label=label, **look
            )
            self.scatters_.append(points)

    def _draw_histogram(self, ax, i):
        groups = list(self._groups())
        counts, edges = [], np.histogram_bin_edges(self.codes[:, i], bins=30)
        for rows, label, colour, _, hatch in groups:
            below = np.sum(counts, axis=0) if counts else np.zeros(len(edges) - 1)
            counts.append(np.histogram(self.codes[rows, i], edges)[0])
            look = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0, "label": label}
            self.histograms_.append(ax.bar(edges[:-1], counts[-1], np.diff(edges), below, align="edge", **look))

    def _name_colours(self):
        """A legend of classes or a scale of values, to the right; of a pair plot in its empty corner."""
        pairs = len(self.axes_) > 1
        if self.classes is not None:
            handles = (self.scatters_ or self.histograms_)[: len(self.classes)]
            where = {"loc": "upper right"} if pairs else {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
            self.legend_ = self.ax_.legend(handles, [plain(str(label)) for label in self.classes], **where)
            self.legend_.set(zorder=5)
            self.legend_.set_frame_on(False)
            if self.scatters_:
                for handle in self.legend_.legend_handles:
                    handle.set(sizes=[30], alpha=1)
        elif self.y is not None and self.scatters_:
            self.colorbar_ = self.figure_.colorbar(self.scatters_[0], ax=self.ax_)


def _is_values(y):
    """Whether these are values and not names of classes."""
    if not np.issubdtype(y.dtype, np.number):
        return False
    return len(np.unique(y)) > _MOST_NUMBERED_CLASSES or not np.array_equal(y, np.round(y))
