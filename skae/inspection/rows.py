"""Rows as figures: reconstructions, new ones, and walks along components."""

from __future__ import annotations

import math

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted

from skae._columns import first_text, unmasked
from skae._validation import check_integer
from skae.inspection.drawing import check_image_shape, draw_lines, plain

# Samples beside each other.
_SAMPLES_A_LINE = 8
# Components that a traversal shows unless told otherwise, and the quantiles of codes at which it begins and ends.
_COMPONENTS, _ENDS = 4, (0.05, 0.95)


class ReconstructionDisplay:
    """Rows, and below each what its code gives back, with the error; beside PCA's if that is asked for.

    Made by `from_estimator`, or by `from_predictions` of rows and their reconstructions. A row is drawn as an image, as
    bars (30 columns at most) or as a line, all on one scale, which is that of the originals.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features)
        Rows; nan is left blank.
    X_reconstructed : array-like of shape (n_rows, n_features)
        Their reconstructions.
    X_pca : array-like of shape (n_rows, n_features), default=None
        PCA's reconstructions; None draws none.
    image_shape : tuple of int, default=None
        (height, width), or (channels, height, width) with 1 or 3 channels, of rows that are flattened images; None
        draws bars or lines.

    Attributes
    ----------
    X, X_reconstructed, X_pca : ndarray or None
        As given.
    image_shape : tuple of int or None
        As given.
    errors, pca_errors : ndarray of shape (n_rows,) or None
        Mean squared error of each row's reconstruction, in units of X squared, of the entries that are not missing.
    ax_ : matplotlib.axes.Axes
        What `plot` has divided last.
    axes_ : ndarray of shape (2 or 3, n_rows)
        The axes: a line of originals, one of reconstructions, one of PCA's.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    artists_ : ndarray of shape (2 or 3, n_rows)
        What is drawn in each: an image, a line, or a container of bars.

    See Also
    --------
    reconstruction_error : The error of all rows, as a number.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, ReconstructionDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_iter=5, random_state=0).fit(X[::2])
    >>> display = ReconstructionDisplay.from_estimator(
    ...     autoencoder, X[1::2], n_rows=5, X_train=X[::2], image_shape=(8, 8)
    ... )
    >>> display.axes_.shape
    (3, 5)
    """

    def __init__(self, *, X, X_reconstructed, X_pca=None, image_shape=None):
        self.X = _numbers(X)
        self.X_reconstructed = _numbers(X_reconstructed)
        self.X_pca = None if X_pca is None else _numbers(X_pca)
        self.image_shape = check_image_shape(image_shape, self.X.shape[1])
        for name in ("X_reconstructed", "X_pca"):
            rows = getattr(self, name)
            if rows is not None and rows.shape != self.X.shape:
                raise ValueError(
                    f"{name} has shape {rows.shape} and X {self.X.shape}: each row needs its reconstruction. Pass "
                    "inverse_transform(transform(X))."
                )
        self.errors = self._errors_of(self.X_reconstructed)
        self.pca_errors = None if X_pca is None else self._errors_of(self.X_pca)

    @classmethod
    def from_estimator(cls, estimator, X, *, n_rows=8, X_train=None, image_shape=None, ax=None):
        """Draw rows and their reconstructions.

        Parameters
        ----------
        estimator : object
            Fitted, with ``transform`` and ``inverse_transform``: an autoencoder, a VAE, a Pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows, best such that it was not fitted to; the first ``n_rows`` are drawn.
        n_rows : int, default=8
            How many.
        X_train : array-like of shape (n_train_samples, n_features), default=None
            The rows that it was fitted to: to these a PCA of as many components is fitted, in a Pipeline in place of
            the last step. None draws no PCA.
        image_shape : tuple of int, default=None
            As in the constructor; None is the estimator's ``feature_shape``, if it has one.
        ax : matplotlib.axes.Axes, default=None
            What to divide; None makes a figure.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        TypeError
            If the estimator lacks one of the two methods.
        ValueError
            If ``n_rows`` or ``image_shape`` does not fit, or X has columns that are no numbers.
        """
        _check_has(estimator, "transform", "inverse_transform")
        X = X[: check_integer("n_rows", n_rows, 1)]
        codes = estimator.transform(X)
        rows, X_pca = _numbers(X), None
        if X_train is not None:
            before, _ = _parted(estimator)
            pca = PCA(min(np.shape(codes)[1], *np.shape(X_train))).set_output(transform="default")
            pca.fit(X_train if before is None else before.transform(X_train))
            X_pca = pca.inverse_transform(pca.transform(X if before is None else before.transform(X)))
            X_pca = X_pca if before is None else before.inverse_transform(X_pca)
        display = cls(
            X=rows,
            X_reconstructed=estimator.inverse_transform(codes),
            X_pca=X_pca,
            image_shape=_shape_for(estimator, image_shape, rows.shape[1]),
        )
        return display.plot(ax)

    @classmethod
    def from_predictions(cls, X, X_reconstructed, *, X_pca=None, n_rows=8, image_shape=None, ax=None):
        """Draw rows and the reconstructions given.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; the first ``n_rows`` are drawn.
        X_reconstructed : array-like of shape (n_samples, n_features)
            Their reconstructions.
        X_pca : array-like of shape (n_samples, n_features), default=None
            PCA's reconstructions; None draws none.
        n_rows : int, default=8
            How many.
        image_shape : tuple of int, default=None
            As in the constructor.
        ax : matplotlib.axes.Axes, default=None
            What to divide; None makes a figure.

        Returns
        -------
        ReconstructionDisplay
        """
        check_integer("n_rows", n_rows, 1)
        check_consistent_length(X, X_reconstructed, X_pca)
        X_pca = None if X_pca is None else X_pca[:n_rows]
        display = cls(X=X[:n_rows], X_reconstructed=X_reconstructed[:n_rows], X_pca=X_pca, image_shape=image_shape)
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw originals above reconstructions.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            What to divide; None makes a figure.

        Returns
        -------
        ReconstructionDisplay
            This one, which now has the artists as attributes.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        kinds = {"original": self.X, "reconstruction": self.X_reconstructed}
        if self.X_pca is not None:
            kinds["PCA's"] = self.X_pca
        lines = np.stack(list(kinds.values()))
        errors = [*self.errors, *([] if self.X_pca is None else self.pca_errors)]
        titles = [""] * len(self.X) + [f"{error:.3g}" for error in errors]
        self.ax_, self.axes_, self.artists_ = draw_lines(
            ax, lines, self.image_shape, _limits(self.X), list(kinds), titles
        )
        self.figure_ = self.ax_.figure
        return self

    def _errors_of(self, rows):
        observed = ~np.isnan(self.X)
        squares = np.square(np.where(observed, self.X - rows, 0))
        return squares.sum(axis=1) / observed.sum(axis=1).clip(1)


class SampleDisplay:
    """New rows, as images, bars or lines.

    Made by `from_estimator`, or by `from_predictions` of rows that are drawn already.

    Parameters
    ----------
    samples : array-like of shape (n_samples, n_features)
        New rows.
    y : array-like of shape (n_samples,), default=None
        The class of each, its title; None gives no titles.
    image_shape : tuple of int, default=None
        (height, width), or (channels, height, width) with 1 or 3 channels, of rows that are flattened images; None
        draws bars (30 columns at most) or lines.

    Attributes
    ----------
    samples, y : ndarray or None
        As given.
    image_shape : tuple of int or None
        As given.
    ax_ : matplotlib.axes.Axes
        What `plot` has divided last.
    axes_ : ndarray of shape (n_lines, n_columns)
        The axes, line by line, eight at most beside each other; those that are left over are invisible.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    artists_ : ndarray of shape (n_lines, n_columns)
        What is drawn in each: an image, a line, or a container of bars; None where nothing is.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import SampleDisplay, VAEGenerator
    >>> X, y = load_digits(return_X_y=True)
    >>> vae = VAEGenerator(4, conditional=True, max_iter=5, random_state=0).fit(X, y)
    >>> display = SampleDisplay.from_estimator(vae, 10, y=range(10), image_shape=(8, 8), random_state=0)
    >>> display.axes_.shape
    (2, 8)
    """

    def __init__(self, *, samples, y=None, image_shape=None):
        self.samples = _numbers(samples)
        self.y = None if y is None else np.asarray(y)
        if y is not None and self.y.shape != self.samples.shape[:1]:
            raise ValueError(
                f"y has shape {self.y.shape} and there are {len(self.samples)} samples. Give the class of each."
            )
        self.image_shape = check_image_shape(image_shape, self.samples.shape[1])

    @classmethod
    def from_estimator(
        cls, estimator, n_samples=16, *, y=None, noise=True, random_state=None, image_shape=None, ax=None
    ):
        """Draw rows from a model, and draw them.

        Parameters
        ----------
        estimator : object
            Fitted, with ``sample``: a VAE, an autoencoder, a Pipeline that ends in one.
        n_samples : int, default=16
            How many.
        y : label or array-like of shape (n_samples,), default=None
            The class of all, or of each, of a `VAEGenerator` that is conditional on it.
        noise : bool, default=True
            False takes the decoder's means of a `VAEGenerator`; the autoencoder has no noise to leave out.
        random_state : int, RandomState instance or None, default=None
            An int gives the same rows each time.
        image_shape : tuple of int, default=None
            As in the constructor; None is the estimator's ``feature_shape``, if it has one.
        ax : matplotlib.axes.Axes, default=None
            What to divide; None makes a figure.

        Returns
        -------
        SampleDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``sample``, or one that takes no such argument.
        ValueError
            If ``image_shape`` does not fit, or new rows have columns that are no numbers.
        """
        before, last = _parted(estimator)
        _check_has(last, "sample")
        options = {} if y is None else {"y": y}
        if not noise:
            options["noise"] = False
        rows = last.sample(n_samples, random_state=random_state, **options)
        rows = _numbers(rows if before is None else before.inverse_transform(rows))
        if y is not None:
            y = np.broadcast_to(np.asarray(y), n_samples)
        shape = _shape_for(estimator, image_shape, rows.shape[1])
        return cls(samples=rows, y=y, image_shape=shape).plot(ax)

    @classmethod
    def from_predictions(cls, samples, y=None, *, image_shape=None, ax=None):
        """Draw the rows given.

        Parameters
        ----------
        samples : array-like of shape (n_samples, n_features)
            New rows, all of which are drawn.
        y : array-like of shape (n_samples,), default=None
            The class of each, its title.
        image_shape : tuple of int, default=None
            As in the constructor.
        ax : matplotlib.axes.Axes, default=None
            What to divide; None makes a figure.

        Returns
        -------
        SampleDisplay
        """
        return cls(samples=samples, y=y, image_shape=image_shape).plot(ax)

    def plot(self, ax=None):
        """Draw the rows, line by line.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            What to divide; None makes a figure.

        Returns
        -------
        SampleDisplay
            This one, which now has the artists as attributes.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        n, width = self.samples.shape
        n_columns = min(n, _SAMPLES_A_LINE)
        lines = np.full((math.ceil(n / n_columns) * n_columns, width), np.nan)
        lines[:n] = self.samples
        lines = lines.reshape(-1, n_columns, width)
        titles = None if self.y is None else [plain(str(label)) for label in self.y]
        limits = _limits(self.samples)
        self.ax_, self.axes_, self.artists_ = draw_lines(ax, lines, self.image_shape, limits, titles=titles)
        self.figure_ = self.ax_.figure
        return self


class LatentTraversalDisplay:
    """What components mean: rows decoded along one, the others at their median.

    Made by `from_estimator`. Each line is a component, from the 5 % to the 95 % quantile of its codes in equal shares
    of rows; the titles are codes.

    Parameters
    ----------
    rows : array-like of shape (n_shown, n_steps, n_features)
        The decoded rows.
    codes : array-like of shape (n_shown, n_steps)
        The codes of the component walked along.
    components : array-like of int of shape (n_shown,)
        Which components these are, from 0.
    image_shape : tuple of int, default=None
        (height, width), or (channels, height, width) with 1 or 3 channels, of rows that are flattened images; None
        draws bars (30 columns at most) or lines.

    Attributes
    ----------
    rows, codes, components : ndarray
        As given.
    image_shape : tuple of int or None
        As given.
    ax_ : matplotlib.axes.Axes
        What `plot` has divided last.
    axes_ : ndarray of shape (n_shown, n_steps)
        The axes, a line for each component.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    artists_ : ndarray of shape (n_shown, n_steps)
        What is drawn in each: an image, a line, or a container of bars.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, LatentTraversalDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_iter=5, random_state=0).fit(X)
    >>> display = LatentTraversalDisplay.from_estimator(autoencoder, X, components=[0, 2], image_shape=(8, 8))
    >>> display.axes_.shape
    (2, 8)
    """

    def __init__(self, *, rows, codes, components, image_shape=None):
        self.rows = np.asarray(rows)
        self.codes = np.asarray(codes)
        self.components = np.asarray(components)
        self.image_shape = check_image_shape(image_shape, self.rows.shape[2])

    @classmethod
    def from_estimator(cls, estimator, X, *, components=None, n_steps=8, image_shape=None, ax=None):
        """Walk along components and draw what is met there.

        Parameters
        ----------
        estimator : object
            Fitted, with ``transform`` and ``inverse_transform``: an autoencoder, a VAE, a Pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows whose codes say how far to go, and what the median is.
        components : int or sequence of int, default=None
            Which, from 0; None takes the first four.
        n_steps : int, default=8
            Rows decoded for each.
        image_shape : tuple of int, default=None
            As in the constructor; None is the estimator's ``feature_shape``, if it has one.
        ax : matplotlib.axes.Axes, default=None
            What to divide; None makes a figure.

        Returns
        -------
        LatentTraversalDisplay

        Raises
        ------
        TypeError
            If the estimator lacks one of the two methods.
        ValueError
            If there is no such component, or ``n_steps`` or ``image_shape`` does not fit, or decoded rows have columns
            that are no numbers.
        """
        _check_has(estimator, "transform", "inverse_transform")
        check_integer("n_steps", n_steps, 2)
        Z = np.asarray(estimator.transform(X))
        components = _components(components, Z.shape[1])
        codes = np.quantile(Z[:, components], np.linspace(*_ENDS, n_steps), axis=0).T.astype(Z.dtype)
        walks = np.tile(np.median(Z, axis=0), (len(components), n_steps, 1))
        for walk, component, values in zip(walks, components, codes, strict=True):
            walk[:, component] = values
        rows = _numbers(estimator.inverse_transform(walks.reshape(-1, Z.shape[1])))
        shape = _shape_for(estimator, image_shape, rows.shape[1])
        rows = rows.reshape(len(components), n_steps, -1)
        return cls(rows=rows, codes=codes, components=components, image_shape=shape).plot(ax)

    def plot(self, ax=None):
        """Draw a line of rows for each component.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            What to divide; None makes a figure.

        Returns
        -------
        LatentTraversalDisplay
            This one, which now has the artists as attributes.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        labels = [f"component {component + 1}" for component in self.components]
        titles = [f"{code:.3g}" for code in self.codes.flat]
        self.ax_, self.axes_, self.artists_ = draw_lines(
            ax, self.rows, self.image_shape, _limits(self.rows), labels, titles
        )
        self.figure_ = self.ax_.figure
        return self


def _parted(estimator):
    """The steps of a Pipeline before its last, None without any, and the last."""
    if isinstance(estimator, Pipeline):
        return (estimator[:-1] if len(estimator) > 1 else None), estimator[-1]
    return None, estimator


def _check_has(estimator, *methods):
    if missing := [name for name in methods if not hasattr(estimator, name)]:
        raise TypeError(
            f"{type(estimator).__name__} has no {' and no '.join(missing)}, which this display asks for. Use an "
            "AutoencoderTransformer, a VAEGenerator, or a Pipeline that ends in one."
        )
    check_is_fitted(estimator)


def _numbers(rows):
    """Rows as an array of floats, nan where missing."""
    try:
        return check_array(unmasked(rows), dtype=np.float64, ensure_all_finite="allow-nan", input_name="X")
    except ValueError as error:
        if text := first_text(rows):
            raise ValueError(
                f"Columns that are no numbers cannot be drawn, as {text[0]!r}, which has {text[1]!r}. Draw the others "
                "by from_predictions."
            ) from error
        if "could not convert" in str(error):
            raise ValueError(f"Columns that are no numbers cannot be drawn ({error}).") from error
        raise


def _limits(rows):
    """The scale of all pictures."""
    return np.nanmin(rows), np.nanmax(rows)


def _shape_for(estimator, image_shape, n_columns):
    """The shape given, else the estimator's own where rows leave a Pipeline as they leave the estimator."""
    own = getattr(_parted(estimator)[1], "feature_shape", None)
    if image_shape is None and own is not None and math.prod(own) == n_columns and own[0] in (1, 3):
        return own
    return image_shape


def _components(components, n_components):
    """Indices of components as an array."""
    if components is None:
        return np.arange(min(n_components, _COMPONENTS))
    found = np.atleast_1d(np.asarray(components))
    whole = found.ndim == 1 and len(found) and np.issubdtype(found.dtype, np.integer)
    if not whole or found.min() < 0 or found.max() >= n_components:
        raise ValueError(
            f"components={components!r} must be an integer or several, from 0 to {n_components - 1}: codes have "
            f"{n_components} components."
        )
    return found
