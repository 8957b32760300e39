"""Curves as figures: the loss against epochs, the held-out error against the number of components."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skae.inspection.drawing import COLOURS, pyplot
from skae.inspection.metrics import pca_errors_by_size, reconstruction_error

# Sizes, and losses, whose largest is more than so many times the smallest stand on a logarithmic axis.
_WIDE = 4
# So many sizes at most each get a tick, and full markers.
_MOST_TICKS = 8


class LossCurveDisplay:
    """The loss of each epoch, of training and of held-out rows, beside the start's.

    Made by `from_estimator`.

    Parameters
    ----------
    train_losses : array-like of shape (n_epochs,)
        The loss of training rows in each epoch.
    validation_losses : array-like of shape (n_epochs,), default=None
        That of held-out rows; None where none were held out.
    start_loss : float, default=None
        The loss before the first epoch, of held-out rows if there are any; None draws none.
    ylabel : str, default="loss"
        What the loss is.

    Attributes
    ----------
    train_losses, validation_losses : ndarray or None
        As given.
    start_loss : float or None
        As given.
    ylabel : str
        As given.
    best_epoch : int or None
        The epoch, from 1, with the lowest loss of held-out rows, whose weights were kept; 0 is the start. None where no
        rows were held out.
    ax_ : matplotlib.axes.Axes
        Where `plot` has drawn last.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    train_line_ : matplotlib.lines.Line2D
        Losses of training rows.
    validation_line_ : matplotlib.lines.Line2D or None
        Losses of held-out rows.
    start_line_ : matplotlib.lines.Line2D or None
        The start's loss, level.
    best_point_ : matplotlib.lines.Line2D or None
        Marks the best epoch.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, LossCurveDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_iter=5, random_state=0).fit(X)
    >>> LossCurveDisplay.from_estimator(autoencoder).best_epoch
    5
    """

    def __init__(self, *, train_losses, validation_losses=None, start_loss=None, ylabel="loss"):
        self.train_losses = np.asarray(train_losses, dtype=float)
        self.validation_losses = None if validation_losses is None else np.asarray(validation_losses, dtype=float)
        self.start_loss = start_loss
        self.ylabel = ylabel
        self.best_epoch = None
        if validation_losses is not None:
            start = np.inf if start_loss is None else start_loss
            losses = np.append(start, self.validation_losses)
            self.best_epoch = int(np.argmin(np.where(np.isnan(losses), np.inf, losses)))

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the curves of a fit.

        Parameters
        ----------
        estimator : AutoencoderTransformer, AutoencoderTransformerCV, VAEGenerator or Pipeline
            Fitted; of a Pipeline the last step is meant, of a search the best estimator.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        TypeError
            If the estimator has no losses.
        """
        check_is_fitted(estimator)
        last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        if not hasattr(last, "validation_loss_curve_"):
            raise TypeError(
                f"{type(last).__name__} has no validation_loss_curve_, so there is no curve to draw. Use an "
                "AutoencoderTransformer, a VAEGenerator, or a Pipeline that ends in one."
            )
        display = cls(
            train_losses=last.loss_curve_,
            validation_losses=last.validation_loss_curve_,
            start_loss=last.linear_loss_,
            ylabel="loss (nats a row)" if hasattr(last, "likelihood") else "loss",
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the losses.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LossCurveDisplay
            This one, which now has the artists as attributes.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        if ax is None:
            _, ax = pyplot().subplots(layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.validation_line_ = self.start_line_ = self.best_point_ = None
        self.train_line_ = self._draw(ax, self.train_losses, "--", COLOURS[1], "training rows")
        if self.validation_losses is not None:
            self.validation_line_ = self._draw(ax, self.validation_losses, "-", COLOURS[2], "held-out rows")
        if self.start_loss is not None:
            self.start_line_ = ax.axhline(
                self.start_loss, color="0.3", linewidth=1, linestyle=":", label="linear start"
            )
        if self.best_epoch is not None and (self.best_epoch or self.start_loss is not None):
            losses = [self.start_loss, *self.validation_losses]
            label = f"best epoch: {self.best_epoch}" if self.best_epoch else "best: the start"
            best = [self.best_epoch], [losses[self.best_epoch]]
            (self.best_point_,) = ax.plot(*best, "o", color=COLOURS[3], zorder=4, label=label)
        self._scale_axes(ax)
        ax.legend(frameon=False)
        return self

    def _draw(self, ax, losses, style, colour, label):
        (line,) = ax.plot(np.arange(1, len(losses) + 1), losses, style, color=colour, label=label)
        return line

    def _scale_axes(self, ax):
        drawn = np.concatenate([line.get_ydata() for line in ax.lines])
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn) and drawn.min() > 0 and drawn.max() > _WIDE * drawn.min():
            ax.set_yscale("log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="epoch", ylabel=self.ylabel)


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
    estimator_name : str, default="autoencoder"
        What ``errors`` are labelled as.

    Attributes
    ----------
    sizes, errors, pca_sizes, pca_errors, errors_std : ndarray or None
        As given.
    chosen : int or None
        As given.
    estimator_name : str
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

    def __init__(
        self,
        *,
        sizes,
        errors,
        pca_sizes=None,
        pca_errors=None,
        errors_std=None,
        chosen=None,
        estimator_name="autoencoder",
    ):
        self.sizes = np.asarray(sizes)
        self.errors = np.asarray(errors)
        self.pca_sizes = self.sizes if pca_sizes is None and pca_errors is not None else _array(pca_sizes)
        self.pca_errors = _array(pca_errors)
        self.errors_std = _array(errors_std)
        self.chosen = chosen
        self.estimator_name = estimator_name

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
        name = "VAE" if get_tags(estimator).estimator_type == "density_estimator" else "autoencoder"
        return cls(sizes=sizes, errors=errors, pca_sizes=pca_sizes, pca_errors=pca_errors, estimator_name=name).plot(ax)

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
        if ax is None:
            _, ax = pyplot().subplots(layout="constrained")
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
        (line,) = ax.plot(self.sizes, self.errors, "o-", color=COLOURS[2], zorder=3, label=self.estimator_name, **size)
        if self.errors_std is not None:
            low, high = self.errors - self.errors_std, self.errors + self.errors_std
            band = ax.fill_between(
                self.sizes, low, high, color=COLOURS[2], alpha=0.2, linewidth=0, label="± one standard error"
            )
        if self.pca_errors is not None:
            (pca_line,) = ax.plot(
                self.pca_sizes, self.pca_errors, "s--", color=COLOURS[3], zorder=2, label="PCA", **size
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
        top = ax.dataLim.ymax  # of all displays in these axes
        ax.set_ylim(0, 1.05 * top if 0 < top < np.inf else None)
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
