"""Display of codes: a histogram, a scatter plot or a pair plot, coloured by class or value."""

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from skae.inspection.drawing import COLOURS, MARKERS, Display, axes_or_new, divide, escape_math
from skae.inspection.metrics import check_fitted

# Classes that colours and markers can distinguish.
MOST_CLASSES = len(COLOURS) * len(MARKERS)
# Components of a pair plot.
_MOST_COMPONENTS = 4
# Numeric targets with more distinct values are values, not classes.
_MOST_NUMERIC_CLASSES = 20
# Hatches of bars, in the order in which colours are used again.
_HATCHES = ["", "////", "xxxx", "....", "oooo", "++++", "****"]


class LatentSpaceDisplay(Display):
    """Codes of samples, coloured by class or by value.

    Create it with `from_estimator`, or with `from_predictions` from codes. One component is drawn as a histogram, two
    as a scatter plot. Of more, the first four at most are drawn as a pair plot with histograms on its diagonal.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        Codes.
    y : array-like of shape (n_samples,), default=None
        Classes or values to colour by. Numbers that are not whole, or have more than 20 distinct values, are values and
        get a colour bar. All else is taken for classes, 70 at most, each with a colour and a marker. None draws all
        samples alike.

    Attributes
    ----------
    codes, y : ndarray or None
        The parameters as arrays.
    classes : ndarray of shape (n_classes,) or None
        The classes, sorted; None without classes.
    ax_ : matplotlib.axes.Axes
        The axes that `plot` last drew in or divided.
    axes_ : ndarray of shape (n_shown, n_shown) or (1, 1)
        The panels of a pair plot, of which those above the diagonal are invisible; else ``ax_`` alone.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    scatters_ : list of matplotlib.collections.PathCollection
        The points, one collection for each class in each panel.
    histograms_ : list of matplotlib.container.BarContainer
        The bars that are not empty, one container for each class in each panel.
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
        self.y = self.classes = None
        if y is None:
            return
        self.y = column_or_1d(y)
        check_consistent_length(self.codes, self.y)
        if not _are_values(self.y):
            self.classes = np.unique(self.y)
            if len(self.classes) > MOST_CLASSES:
                raise ValueError(
                    f"y has {len(self.classes)} classes, but at most {MOST_CLASSES} can be distinguished. Merge "
                    "classes, or pass numbers."
                )

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, ax=None):
        """Draw the codes of samples.

        Parameters
        ----------
        estimator : object
            Fitted, with ``transform``: an autoencoder, a VAE, a PCA, a Pipeline.
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,), default=None
            Classes or values to colour by.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in, divided for a pair plot; None makes a new figure.

        Returns
        -------
        LatentSpaceDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``transform``.
        ValueError
            If y has another length than X, or more than 70 classes.
        """
        check_fitted(estimator, "transform")
        return cls(codes=estimator.transform(X), y=y).plot(ax)

    @classmethod
    def from_predictions(cls, codes, y=None, *, ax=None):
        """Draw given codes.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_components)
            Codes.
        y : array-like of shape (n_samples,), default=None
            Classes or values to colour by.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in, divided for a pair plot; None makes a new figure.

        Returns
        -------
        LatentSpaceDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA
        >>> from skae import LatentSpaceDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> display = LatentSpaceDisplay.from_predictions(PCA(2).fit_transform(X), y)
        >>> len(display.scatters_)
        3
        """
        return cls(codes=codes, y=y).plot(ax)

    def _draw(self, ax):
        self.scatters_, self.histograms_, self.legend_, self.colorbar_ = [], [], None, None
        n = min(self.codes.shape[1], _MOST_COMPONENTS)
        ax = axes_or_new(ax, (2.2 * n, 2 * n) if n > 2 else None)
        self.axes_ = divide(ax, n, n) if n > 2 else np.array([[ax]])
        if n == 1:
            self._draw_histogram(ax, 0)
            ax.set(xlabel="component 1", ylabel="samples")
        elif n == 2:
            self._draw_scatter(ax, 0, 1)
            ax.set(xlabel="component 1", ylabel="component 2")
        else:
            self._draw_pairs(last=n - 1)
        self._add_key(ax)
        return ax

    def _draw_pairs(self, last):
        for (i, j), axis in np.ndenumerate(self.axes_):
            if j > i:
                axis.set_axis_off()
                continue
            if j == i:
                self._draw_histogram(axis, i)
            else:
                self._draw_scatter(axis, j, i)
            axis.locator_params(nbins=5, prune="both")  # else tick labels of adjacent panels overlap
            if j == i:
                axis.set_yticks([])
            axis.tick_params(labelbottom=i == last, labelleft=j == 0, labelsize="small")
            axis.set_xlabel(f"component {j + 1}" if i == last else None)
            axis.set_ylabel(f"component {i + 1}" if j == 0 else None)

    def _groups(self):
        """Yield the samples, label, colour, marker and hatch of each class, or of all samples."""
        if self.classes is None:
            yield slice(None), None, COLOURS[2], "o", ""
            return
        for i, label in enumerate(self.classes):
            repeat, colour = divmod(i, len(COLOURS))
            yield self.y == label, escape_math(label), COLOURS[colour], MARKERS[repeat], _HATCHES[repeat]

    def _draw_scatter(self, ax, j, i):
        look = {"s": float(np.clip(4000 / len(self.codes), 6, 30)), "linewidths": 0, "alpha": 0.8}
        if self.y is not None and self.classes is None:
            self.scatters_.append(ax.scatter(self.codes[:, j], self.codes[:, i], c=self.y, cmap="viridis", **look))
            return
        for group, label, colour, marker, _ in self._groups():
            look |= {"color": colour, "marker": marker, "label": label}
            self.scatters_.append(ax.scatter(self.codes[group, j], self.codes[group, i], **look))

    def _draw_histogram(self, ax, i):
        edges, bottom = np.histogram_bin_edges(self.codes[:, i], bins=30), np.zeros(30)
        for group, label, colour, _, hatch in self._groups():
            counts, _ = np.histogram(self.codes[group, i], edges)
            look = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0, "label": label}
            j = np.flatnonzero(counts)  # of many classes most bars are empty, and drawing these takes seconds
            self.histograms_.append(ax.bar(edges[j], counts[j], np.diff(edges)[j], bottom[j], align="edge", **look))
            bottom = bottom + counts

    def _add_key(self, ax):
        """Add a legend of the classes, in the empty corner of a pair plot, or a colour bar of the values."""
        if self.classes is not None:
            n, handles = len(self.classes), (self.scatters_ or self.histograms_)[: len(self.classes)]
            at = {"loc": "upper right"} if len(self.axes_) > 1 else {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
            look = {"frameon": False, "ncols": -(-n // 20), "fontsize": 7 if n > 14 else None}
            self.legend_ = ax.legend(handles, [escape_math(label) for label in self.classes], **look, **at)
            self.legend_.set(zorder=5)
            if self.scatters_:
                for handle in self.legend_.legend_handles:
                    handle.set(sizes=[30], alpha=1)
        elif self.y is not None and self.scatters_:
            self.colorbar_ = ax.figure.colorbar(self.scatters_[0], ax=ax)


def _are_values(y):
    """Return whether y holds values rather than classes."""
    if not np.issubdtype(y.dtype, np.number):
        return False
    return len(np.unique(y)) > _MOST_NUMERIC_CLASSES or not np.array_equal(y, np.round(y))
