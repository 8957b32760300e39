"""Displays of curves: the loss against epochs, the held-out error against the number of components."""

import numpy as np
from sklearn.utils import get_tags

from skae._search import pca_errors
from skae.inspection.drawing import COLOURS, Display, axes_or_new
from skae.inspection.metrics import check_fitted, split_pipeline, truncated_errors

# An axis is logarithmic where the largest value is more than this many times the smallest.
_LOG_RATIO = 4
# Up to this many sizes each have a tick and a full marker.
_MOST_TICKS = 8
_LEVEL = {"color": "0.3", "linewidth": 1, "linestyle": ":"}


class LossCurveDisplay(Display):
    """Training and validation loss of each epoch, and the loss at the start.

    Create it with `from_estimator`.

    Parameters
    ----------
    train_losses : array-like of shape (n_epochs,)
        Training loss of each epoch.
    validation_losses : array-like of shape (n_epochs,), default=None
        Validation loss of each epoch; None if there was no validation set.
    start_loss : float, default=None
        Loss before the first epoch, of the validation set if there is one; None draws none.
    ylabel : str, default="loss"
        Label of the vertical axis.

    Attributes
    ----------
    train_losses, validation_losses : ndarray or None
        The parameters as arrays.
    start_loss : float or None
        The parameter.
    ylabel : str
        The parameter.
    best_epoch : int or None
        The epoch with the lowest validation loss, whose weights were kept: 1 is the first epoch, 0 the start. None
        without a validation set.
    ax_ : matplotlib.axes.Axes
        The axes that `plot` last drew in.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    train_line_ : matplotlib.lines.Line2D
        Training losses.
    validation_line_ : matplotlib.lines.Line2D or None
        Validation losses.
    start_line_ : matplotlib.lines.Line2D or None
        The loss at the start, a horizontal line.
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
        self.validation_losses = _as_array(validation_losses, float)
        self.start_loss = start_loss
        self.ylabel = ylabel
        self.best_epoch = None
        if validation_losses is not None:
            losses = np.append(np.inf if start_loss is None else start_loss, self.validation_losses)
            self.best_epoch = int(np.argmin(np.where(np.isnan(losses), np.inf, losses)))

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the loss curves of a fit.

        Parameters
        ----------
        estimator : AutoencoderTransformer, VAEGenerator, LatentSizeCV or Pipeline
            Fitted. Of a Pipeline the last step is drawn, of a search the best estimator.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; None makes a new figure.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``validation_loss_curve_``.
        """
        _, model = split_pipeline(estimator)
        check_fitted(model, "validation_loss_curve_")
        losses = {"train_losses": model.loss_curve_, "validation_losses": model.validation_loss_curve_}
        ylabel = "loss (nats a sample)" if hasattr(model, "likelihood") else "loss"
        return cls(**losses, start_loss=model.linear_loss_, ylabel=ylabel).plot(ax)

    def _draw(self, ax):
        ax = axes_or_new(ax)
        self.validation_line_ = self.start_line_ = self.best_point_ = None
        self.train_line_ = self._draw_losses(ax, self.train_losses, "--", COLOURS[1], "training set")
        if self.validation_losses is not None:
            self.validation_line_ = self._draw_losses(ax, self.validation_losses, "-", COLOURS[2], "validation set")
        if self.start_loss is not None:
            self.start_line_ = ax.axhline(self.start_loss, **_LEVEL, label="linear start")
        if self.best_epoch is not None and (self.best_epoch or self.start_loss is not None):
            losses = [self.start_loss, *self.validation_losses]
            label = f"best epoch: {self.best_epoch}" if self.best_epoch else "best: the start"
            best = [self.best_epoch], [losses[self.best_epoch]]
            (self.best_point_,) = ax.plot(*best, "o", color=COLOURS[3], zorder=4, label=label)
        drawn = np.concatenate([line.get_ydata() for line in ax.lines])
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn) and drawn.min() > 0 and drawn.max() > _LOG_RATIO * drawn.min():
            ax.set_yscale("log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="epoch", ylabel=self.ylabel)
        ax.legend(frameon=False)
        return ax

    def _draw_losses(self, ax, losses, style, colour, label):
        (line,) = ax.plot(np.arange(1, len(losses) + 1), losses, style, color=colour, label=label)
        return line


class LatentSizeDisplay(Display):
    """Held-out reconstruction error, or a VAE's loss, against the number of components.

    Create it with `from_estimator` from one fit with ordered components, or with `from_cv` from a `LatentSizeCV`.

    Parameters
    ----------
    sizes : array-like of shape (n_sizes,)
        Numbers of components, ascending.
    errors : array-like of shape (n_sizes,)
        Mean squared error at each number of components, in units of X squared; for the search of a VAE the loss, which
        is the negative score.
    pca_sizes : array-like of shape (n_pca_sizes,), default=None
        PCA's numbers of components, ascending; None for ``sizes``.
    pca_errors : array-like of shape (n_pca_sizes,), default=None
        PCA's error at each of its numbers of components; None draws no PCA.
    errors_std : array-like of shape (n_sizes,), default=None
        Standard errors of ``errors``, drawn as a band on either side; None draws none.
    chosen : int, default=None
        The number of components to mark; None marks none.
    estimator_name : str, default="autoencoder"
        Label of ``errors``.
    ylabel : str, default=None
        Label of the vertical axis; None for that of reconstruction errors, whose axis begins at 0.

    Attributes
    ----------
    sizes, errors, pca_sizes, pca_errors, errors_std : ndarray or None
        The parameters as arrays.
    chosen : int or None
        The parameter.
    estimator_name : str
        The parameter.
    ylabel : str or None
        The parameter.
    ax_ : matplotlib.axes.Axes
        The axes that `plot` last drew in.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    line_ : matplotlib.lines.Line2D
        The estimator's errors.
    pca_line_ : matplotlib.lines.Line2D or None
        PCA's errors.
    band_ : matplotlib.collections.PolyCollection or None
        One standard error on either side of ``line_``.
    chosen_line_ : matplotlib.lines.Line2D or None
        Marks the chosen number of components.

    See Also
    --------
    AutoencoderTransformer : With ``ordered=True`` one fit has a code of every number of components.
    LatentSizeCV : Chooses the number of components by cross-validation.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, LatentSizeDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(3, ordered=True, max_iter=10, random_state=0).fit(X[::4])
    >>> display = LatentSizeDisplay.from_estimator(autoencoder, X[1::4], X_train=X[::4])
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
        ylabel=None,
    ):
        self.sizes = np.asarray(sizes)
        self.errors = np.asarray(errors)
        self.pca_sizes = self.sizes if pca_sizes is None and pca_errors is not None else _as_array(pca_sizes)
        self.pca_errors = _as_array(pca_errors)
        self.errors_std = _as_array(errors_std)
        self.chosen = chosen
        self.estimator_name = estimator_name
        self.ylabel = ylabel

    @classmethod
    def from_estimator(cls, estimator, X, *, X_train=None, ax=None):
        """Draw the error at every number of components of an ordered fit.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VAEGenerator
            Fitted with ``ordered=True``, or with an ``n_components`` that implies it.
        X : array-like of shape (n_samples, n_features)
            Samples held out from the fit.
        X_train : array-like of shape (n_train_samples, n_features), default=None
            The training samples, to which PCA is fitted for comparison, with up to as many components as it can have.
            None draws no PCA.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; None makes a new figure.

        Returns
        -------
        LatentSizeDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``truncate``.
        ValueError
            If its components are not ordered.
        """
        advice = "Use an AutoencoderTransformer fitted with ordered=True, or from_cv."
        check_fitted(estimator, "truncate", advice=advice)
        sizes = np.arange(1, estimator.n_components_ + 1)
        errors = truncated_errors(estimator, [estimator.truncate(size) for size in sizes], X)
        name = "VAE" if get_tags(estimator).estimator_type == "density_estimator" else "autoencoder"
        pca_sizes = None if X_train is None else sizes[: min(np.shape(X_train))]
        pca = None if X_train is None else pca_errors(pca_sizes, X_train, X)
        return cls(sizes=sizes, errors=errors, pca_sizes=pca_sizes, pca_errors=pca, estimator_name=name).plot(ax)

    @classmethod
    def from_cv(cls, search, *, ax=None):
        """Draw the mean error over folds for each number of components of a search, and mark the chosen one.

        The band is one standard error on either side, as used by ``one_standard_error``. For a VAE the negative score
        is drawn in place of the error.

        Parameters
        ----------
        search : LatentSizeCV
            Fitted.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; None makes a new figure.

        Returns
        -------
        LatentSizeDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, LatentSizeCV, LatentSizeDisplay
        >>> search = LatentSizeCV(AutoencoderTransformer(max_iter=0), (1, 2, 3), cv=3).fit(load_iris().data)
        >>> display = LatentSizeDisplay.from_cv(search)
        >>> display.chosen
        3
        """
        results = search.cv_results_
        if "mean_test_error" in results:
            errors, deviations, labels = results["mean_test_error"], results["std_test_error"], {}
        else:
            errors, deviations = -results["mean_test_score"], results["std_test_score"]
            labels = {"estimator_name": "VAE", "ylabel": "held-out loss (negative score)"}
        errors_std = deviations / np.sqrt(max(1, search.n_splits_ - 1))  # std has ddof=0
        marked = {"chosen": search.best_params_["n_components"], "pca_errors": results.get("mean_pca_error")}
        sizes = np.asarray(results["param_n_components"])
        return cls(sizes=sizes, errors=errors, errors_std=errors_std, **marked, **labels).plot(ax)

    def _draw(self, ax):
        ax = axes_or_new(ax)
        self.pca_line_ = self.band_ = self.chosen_line_ = None
        markers = {"markersize": 6 if len(self.sizes) <= _MOST_TICKS else 3.5}
        main = {"color": COLOURS[2], "zorder": 3, "label": self.estimator_name}
        (self.line_,) = ax.plot(self.sizes, self.errors, "o-", **main, **markers)
        if self.errors_std is not None:
            band = self.errors - self.errors_std, self.errors + self.errors_std
            look = {"color": COLOURS[2], "alpha": 0.2, "linewidth": 0, "label": "± one standard error"}
            self.band_ = ax.fill_between(self.sizes, *band, **look)
        if self.pca_errors is not None:
            pca = {"color": COLOURS[3], "zorder": 2, "label": "PCA"}
            (self.pca_line_,) = ax.plot(self.pca_sizes, self.pca_errors, "s--", **pca, **markers)
        if self.chosen is not None:
            self.chosen_line_ = ax.axvline(self.chosen, **_LEVEL, zorder=1, label=f"chosen size: {self.chosen}")
        self._scale_axes(ax)
        ax.legend(frameon=False)
        return ax

    def _scale_axes(self, ax):
        low, high = self.sizes.min(), self.sizes.max()
        is_wide = high > _LOG_RATIO * low
        if is_wide:
            ax.set_xscale("log", base=2)
        if len(self.sizes) <= _MOST_TICKS:
            ax.set_xticks(self.sizes, self.sizes.astype(str))
        elif is_wide:
            ticks = [2**power for power in range(int(high).bit_length()) if low <= 2**power]
            ax.set_xticks(ticks, [str(tick) for tick in ticks])
        else:
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.minorticks_off()
        top = ax.dataLim.ymax  # of all displays in these axes
        if self.ylabel is None:
            ax.set_ylim(0, 1.05 * top if 0 < top < np.inf else None)
        ax.set(xlabel="components", ylabel=self.ylabel or "held-out reconstruction error")


def _as_array(values, dtype=None):
    return None if values is None else np.asarray(values, dtype)
