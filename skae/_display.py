"""The held-out error against the number of components, as a figure."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae._metrics import pca_errors_by_size, reconstruction_error

# Sizes whose largest is more than so many times the smallest stand on a logarithmic axis.
_WIDE = 4
# So many sizes at most each get a tick, and full markers.
_MOST_TICKS = 8


class LatentSizeDisplay:
    """Held-out reconstruction error against the number of components, beside PCA's.

    Made by `from_estimator` of one fit whose components are in order, or by `from_cv` of a search over sizes.

    Parameters
    ----------
    sizes : array-like of shape (n_sizes,)
        Numbers of components, ascending.
    errors : array-like of shape (n_sizes,)
        The autoencoder's mean squared error at each, in units of X squared.
    pca_sizes : array-like of shape (n_pca_sizes,), default=None
        Numbers of components of PCA, ascending; None are ``sizes``.
    pca_errors : array-like of shape (n_pca_sizes,), default=None
        PCA's error at each; None draws no PCA.
    errors_std : array-like of shape (n_sizes,), default=None
        Standard errors of ``errors``, drawn as a band of one to either side; None draws none.
    chosen : int, default=None
        The size to mark; None marks none.

    Attributes
    ----------
    sizes, errors, pca_sizes, pca_errors, errors_std : ndarray or None
        As given.
    chosen : int or None
        As given.
    ax_ : matplotlib.axes.Axes
        Where `plot` has drawn last.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    line_ : matplotlib.lines.Line2D
        The autoencoder's errors.
    pca_line_ : matplotlib.lines.Line2D or None
        PCA's errors.
    band_ : matplotlib.collections.PolyCollection or None
        One standard error to either side of ``line_``.
    chosen_line_ : matplotlib.lines.Line2D or None
        Marks the size chosen.

    See Also
    --------
    AutoencoderTransformer : With ``ordered=True`` one fit serves all sizes.
    AutoencoderTransformerCV : Chooses the size by cross-validation.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, LatentSizeDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(3, ordered=True, max_iter=20, random_state=0).fit(X[::2])
    >>> display = LatentSizeDisplay.from_estimator(autoencoder, X[1::2], X_train=X[::2])
    >>> display.sizes
    array([1, 2, 3])
    """

    def __init__(self, *, sizes, errors, pca_sizes=None, pca_errors=None, errors_std=None, chosen=None):
        self.sizes = np.asarray(sizes)
        self.errors = np.asarray(errors)
        self.pca_sizes = self.sizes if pca_sizes is None and pca_errors is not None else _array(pca_sizes)
        self.pca_errors = _array(pca_errors)
        self.errors_std = _array(errors_std)
        self.chosen = chosen

    @classmethod
    def from_estimator(cls, estimator, X, *, X_train=None, ax=None):
        """Draw the error at every size of an autoencoder whose components are in order.

        Parameters
        ----------
        estimator : AutoencoderTransformer
            Fitted with ``ordered=True``, a share or "auto".
        X : array-like of shape (n_samples, n_features)
            Rows that it was not fitted to.
        X_train : array-like of shape (n_train_samples, n_features), default=None
            The rows that it was fitted to, for PCA's error on X at the same sizes, as far as PCA has so many
            components; None draws no PCA.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LatentSizeDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``truncate``.
        ValueError
            If its components are in no order.
        """
        if not hasattr(estimator, "truncate"):
            raise TypeError(
                f"{type(estimator).__name__} has no truncate, so one fit has one size. Use an AutoencoderTransformer "
                "fitted with ordered=True, or from_cv."
            )
        check_is_fitted(estimator)
        sizes = np.arange(1, estimator.n_components_ + 1)
        errors = [reconstruction_error(estimator.truncate(size), X) for size in sizes]
        pca_sizes = pca_errors = None
        if X_train is not None:
            pca_errors = pca_errors_by_size(len(sizes), X_train, X)
            pca_sizes = sizes[: len(pca_errors)]
        return cls(sizes=sizes, errors=errors, pca_sizes=pca_sizes, pca_errors=pca_errors).plot(ax)

    @classmethod
    def from_cv(cls, search, *, ax=None):
        """Draw the mean error over folds at the sizes of a search, and mark the size chosen.

        The band is one standard error to either side, the one that ``one_standard_error`` means.

        Parameters
        ----------
        search : AutoencoderTransformerCV
            Fitted.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LatentSizeDisplay
        """
        results = search.cv_results_
        display = cls(
            sizes=results["n_components"],
            errors=results["mean_test_error"],
            pca_sizes=results["n_components"],
            pca_errors=results["mean_pca_error"],
            errors_std=results["std_test_error"] / np.sqrt(max(1, search.n_splits_ - 1)),  # they divide by the folds
            chosen=search.n_components_,
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the errors.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LatentSizeDisplay
            This one, which now has the artists as attributes.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        from skae._report import _pyplot

        if ax is None:
            _, ax = _pyplot().subplots(layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.line_, self.pca_line_, self.band_ = self._draw_errors(ax)
        self.chosen_line_ = None
        if self.chosen is not None:
            label = f"chosen size: {self.chosen}"
            self.chosen_line_ = ax.axvline(self.chosen, color="0.3", linewidth=1, linestyle=":", zorder=1, label=label)
        self._scale_axes(ax)
        ax.legend(frameon=False)
        return self

    def _draw_errors(self, ax):
        """The autoencoder's line, PCA's and the band; the last two None where there is nothing to draw.

        The colours are Okabe and Ito's, which colour-blind eyes tell apart.
        """
        pca_line = band = None
        size = {"markersize": 6 if len(self.sizes) <= _MOST_TICKS else 3.5}
        (line,) = ax.plot(self.sizes, self.errors, "o-", color="#0072B2", zorder=3, label="autoencoder", **size)
        if self.errors_std is not None:
            low, high = self.errors - self.errors_std, self.errors + self.errors_std
            band = ax.fill_between(
                self.sizes, low, high, color="#0072B2", alpha=0.2, linewidth=0, label="± one standard error"
            )
        if self.pca_errors is not None:
            (pca_line,) = ax.plot(
                self.pca_sizes, self.pca_errors, "s--", color="#D55E00", zorder=2, label="PCA", **size
            )
        return line, pca_line, band

    def _scale_axes(self, ax):
        low, high = self.sizes.min(), self.sizes.max()
        if high > _WIDE * low:
            ax.set_xscale("log", base=2)
        if ticks := self._ticks(low, high):
            ax.set_xticks(ticks, [str(tick) for tick in ticks])
        else:
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.minorticks_off()
        ax.autoscale(axis="y")  # a second display in the same axes may reach higher
        ax.set_ylim(bottom=0)
        ax.set(xlabel="components", ylabel="held-out reconstruction error")

    def _ticks(self, low, high):
        """The sizes if they are few, else powers of two on a logarithmic axis; none leaves it to matplotlib."""
        if len(self.sizes) <= _MOST_TICKS:
            return self.sizes.tolist()
        if high > _WIDE * low:
            return [2**power for power in range(int(high).bit_length()) if low <= 2**power <= high]
        return []


def _array(values):
    return None if values is None else np.asarray(values)
