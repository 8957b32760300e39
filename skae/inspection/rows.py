"""Displays of samples: reconstructions, generated samples, and traversals of latent components."""

import math

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils import check_consistent_length

from skae.data.parameters import check_integer
from skae.inspection.drawing import Display, check_image_shape, draw_grid, escape_math
from skae.inspection.metrics import check_fitted, numeric_array, split_pipeline

# Panels in a line of generated samples.
_MOST_COLUMNS = 8
# Components that a traversal shows by default, and the quantiles of their codes at its ends.
_N_COMPONENTS, _QUANTILES = 4, (0.05, 0.95)


class _GridDisplay(Display):
    """Base of displays that draw a grid of samples."""

    def _draw(self, ax):
        samples, reference, labels, titles = self._grid()
        limits = np.nanmin(reference), np.nanmax(reference)
        ax, self.axes_, self.artists_ = draw_grid(ax, samples, self.image_shape, limits, labels, titles)
        return ax


class ReconstructionDisplay(_GridDisplay):
    """Samples above their reconstructions, with reconstruction errors, optionally with PCA's for comparison.

    Create it with `from_estimator`, or with `from_predictions` from samples and their reconstructions. Samples are
    drawn as images, as bars (30 columns at most) or as lines, all on the scale of the originals.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features)
        Samples; missing values (nan) stay blank.
    X_reconstructed : array-like of shape (n_rows, n_features)
        Their reconstructions.
    X_pca : array-like of shape (n_rows, n_features), default=None
        PCA's reconstructions; None draws none.
    image_shape : tuple of int, default=None
        (height, width), or (channels, height, width) with 1 or 3 channels, of samples that are flattened images; None
        draws bars or lines.

    Attributes
    ----------
    X, X_reconstructed, X_pca : ndarray or None
        The parameters as arrays.
    image_shape : tuple of int or None
        The parameter.
    errors, pca_errors : ndarray of shape (n_rows,) or None
        Mean squared error of each reconstruction over the observed entries, in units of X squared.
    ax_ : matplotlib.axes.Axes
        The axes that `plot` last divided.
    axes_ : ndarray of shape (2 or 3, n_rows)
        The panels: a line of originals, one of reconstructions and, with ``X_pca``, one of PCA's.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    artists_ : ndarray of shape (2 or 3, n_rows)
        The artist in each panel: an image, a line, or a container of bars.

    See Also
    --------
    reconstruction_error : The mean error of all samples.

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
        self.X = _numeric(X)
        self.X_reconstructed = self._reconstructions("X_reconstructed", X_reconstructed)
        self.X_pca = self._reconstructions("X_pca", X_pca)
        self.image_shape = check_image_shape(image_shape, self.X.shape[1])
        self.errors, self.pca_errors = self._errors(self.X_reconstructed), self._errors(self.X_pca)

    @classmethod
    def from_estimator(cls, estimator, X, *, n_rows=8, X_train=None, image_shape=None, ax=None):
        """Draw samples and their reconstructions.

        Parameters
        ----------
        estimator : object
            Fitted, with ``transform`` and ``inverse_transform``: an autoencoder, a VAE, a Pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Samples, preferably held out from the fit; the first ``n_rows`` are drawn.
        n_rows : int, default=8
            Number of samples to draw.
        X_train : array-like of shape (n_train_samples, n_features), default=None
            The training samples, to which a PCA with the same number of components is fitted for comparison. In a
            Pipeline it replaces the last step. None draws no PCA.
        image_shape : tuple of int, default=None
            As in the constructor; None is the estimator's ``feature_shape``, if it has one.
        ax : matplotlib.axes.Axes, default=None
            Axes to divide; None makes a new figure.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``transform`` or no ``inverse_transform``.
        ValueError
            If ``n_rows`` or ``image_shape`` does not fit, or X has columns that are not numeric.
        """
        check_fitted(estimator, "transform", "inverse_transform")
        X = X[: check_integer("n_rows", n_rows, 1)]
        codes, X_pca = estimator.transform(X), None
        if X_train is not None:
            preprocessing, _ = split_pipeline(estimator)
            pca = PCA(min(np.shape(codes)[1], *np.shape(X_train))).set_output(transform="default")
            pca.fit(preprocessing.transform(X_train))
            X_pca = pca.inverse_transform(pca.transform(preprocessing.transform(X)))
            X_pca = preprocessing.inverse_transform(X_pca)
        samples = _numeric(X)
        image_shape = _image_shape_for(estimator, image_shape, samples.shape[1])
        X_reconstructed = estimator.inverse_transform(codes)
        return cls(X=samples, X_reconstructed=X_reconstructed, X_pca=X_pca, image_shape=image_shape).plot(ax)

    @classmethod
    def from_predictions(cls, X, X_reconstructed, *, X_pca=None, n_rows=8, image_shape=None, ax=None):
        """Draw samples and given reconstructions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples; the first ``n_rows`` are drawn.
        X_reconstructed : array-like of shape (n_samples, n_features)
            Their reconstructions.
        X_pca : array-like of shape (n_samples, n_features), default=None
            PCA's reconstructions; None draws none.
        n_rows : int, default=8
            Number of samples to draw.
        image_shape : tuple of int, default=None
            As in the constructor.
        ax : matplotlib.axes.Axes, default=None
            Axes to divide; None makes a new figure.

        Returns
        -------
        ReconstructionDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA
        >>> from skae import ReconstructionDisplay
        >>> X = load_iris().data
        >>> pca = PCA(2).fit(X)
        >>> display = ReconstructionDisplay.from_predictions(X, pca.inverse_transform(pca.transform(X)), n_rows=3)
        >>> display.errors.shape
        (3,)
        """
        check_integer("n_rows", n_rows, 1)
        check_consistent_length(X, X_reconstructed, X_pca)
        X_pca = None if X_pca is None else X_pca[:n_rows]
        display = cls(X=X[:n_rows], X_reconstructed=X_reconstructed[:n_rows], X_pca=X_pca, image_shape=image_shape)
        return display.plot(ax)

    def _reconstructions(self, name, reconstructions):
        if reconstructions is None:
            return None
        reconstructions = _numeric(reconstructions)
        if reconstructions.shape != self.X.shape:
            raise ValueError(
                f"{name} has shape {reconstructions.shape} and X {self.X.shape}, but each sample needs its "
                "reconstruction. Pass inverse_transform(transform(X))."
            )
        return reconstructions

    def _errors(self, reconstructions):
        if reconstructions is None:
            return None
        observed = ~np.isnan(self.X)
        squares = np.square(np.where(observed, self.X - reconstructions, 0))
        return squares.sum(axis=1) / observed.sum(axis=1).clip(1)

    def _grid(self):
        kinds = {"original": self.X, "reconstruction": self.X_reconstructed}
        errors = self.errors
        if self.X_pca is not None:
            kinds["PCA's"], errors = self.X_pca, np.append(errors, self.pca_errors)
        titles = [""] * len(self.X) + [f"{error:.3g}" for error in errors]
        return np.stack(list(kinds.values())), self.X, list(kinds), titles


class SampleDisplay(_GridDisplay):
    """Generated samples as images, bars or lines.

    Create it with `from_estimator`, or with `from_predictions` from samples that are already generated.

    Parameters
    ----------
    samples : array-like of shape (n_samples, n_features)
        Generated samples.
    y : array-like of shape (n_samples,), default=None
        The class of each sample, drawn as its title; None draws no titles.
    image_shape : tuple of int, default=None
        (height, width), or (channels, height, width) with 1 or 3 channels, of samples that are flattened images; None
        draws bars (30 columns at most) or lines.

    Attributes
    ----------
    samples, y : ndarray or None
        The parameters as arrays.
    image_shape : tuple of int or None
        The parameter.
    ax_ : matplotlib.axes.Axes
        The axes that `plot` last divided.
    axes_ : ndarray of shape (n_lines, n_columns)
        The panels, line by line, with eight columns at most; unused ones are invisible.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    artists_ : ndarray of shape (n_lines, n_columns)
        The artist in each panel: an image, a line, or a container of bars; None in unused ones.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import SampleDisplay, VAEGenerator
    >>> X, y = load_digits(return_X_y=True)
    >>> vae = VAEGenerator(4, conditional=True, max_iter=9, random_state=0).fit(X, y)
    >>> display = SampleDisplay.from_estimator(vae, 10, y=range(10), image_shape=(8, 8), random_state=0)
    >>> display.axes_.shape
    (2, 8)
    """

    def __init__(self, *, samples, y=None, image_shape=None):
        self.samples = _numeric(samples)
        self.y = None if y is None else np.asarray(y)
        if y is not None and self.y.shape != self.samples.shape[:1]:
            raise ValueError(
                f"y has shape {self.y.shape} and there are {len(self.samples)} samples. Pass the class of each sample."
            )
        self.image_shape = check_image_shape(image_shape, self.samples.shape[1])

    @classmethod
    def from_estimator(
        cls, estimator, n_samples=16, *, y=None, noise=True, random_state=None, image_shape=None, ax=None
    ):
        """Generate samples from a model and draw them.

        Parameters
        ----------
        estimator : object
            Fitted, with ``sample``: a VAE, an autoencoder, a Pipeline that ends in one.
        n_samples : int, default=16
            Number of samples.
        y : label or array-like of shape (n_samples,), default=None
            The class of all samples, or of each, for a conditional `VAEGenerator`.
        noise : bool, default=True
            Passed to `sample` if False: a `VAEGenerator` then returns its decoder's means. Other estimators do not take
            it.
        random_state : int, RandomState instance or None, default=None
            An int gives the same samples at each call, None different ones.
        image_shape : tuple of int, default=None
            As in the constructor; None is the estimator's ``feature_shape``, if it has one.
        ax : matplotlib.axes.Axes, default=None
            Axes to divide; None makes a new figure.

        Returns
        -------
        SampleDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``sample``, or its ``sample`` does not take ``y`` or ``noise``.
        ValueError
            If ``image_shape`` does not fit, or generated samples have columns that are not numeric.
        """
        preprocessing, model = split_pipeline(estimator)
        check_fitted(model, "sample")
        options = ({} if y is None else {"y": y}) | ({} if noise else {"noise": False})
        samples = model.sample(n_samples, random_state=random_state, **options)
        samples = _numeric(preprocessing.inverse_transform(samples))
        if y is not None:
            y = np.broadcast_to(np.asarray(y), n_samples)
        image_shape = _image_shape_for(estimator, image_shape, samples.shape[1])
        return cls(samples=samples, y=y, image_shape=image_shape).plot(ax)

    @classmethod
    def from_predictions(cls, samples, y=None, *, image_shape=None, ax=None):
        """Draw given samples.

        Parameters
        ----------
        samples : array-like of shape (n_samples, n_features)
            Generated samples, all of which are drawn.
        y : array-like of shape (n_samples,), default=None
            The class of each sample, drawn as its title; None draws no titles.
        image_shape : tuple of int, default=None
            As in the constructor.
        ax : matplotlib.axes.Axes, default=None
            Axes to divide; None makes a new figure.

        Returns
        -------
        SampleDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skae import SampleDisplay
        >>> X, y = load_digits(return_X_y=True)
        >>> display = SampleDisplay.from_predictions(X[:10], y[:10], image_shape=(8, 8))
        >>> display.axes_.shape
        (2, 8)
        """
        return cls(samples=samples, y=y, image_shape=image_shape).plot(ax)

    def _grid(self):
        n, n_features = self.samples.shape
        n_columns = min(n, _MOST_COLUMNS)
        panels = np.full((math.ceil(n / n_columns) * n_columns, n_features), np.nan)
        panels[:n] = self.samples
        titles = None if self.y is None else [escape_math(label) for label in self.y]
        return panels.reshape(-1, n_columns, n_features), self.samples, None, titles


class LatentTraversalDisplay(_GridDisplay):
    """Samples decoded along single latent components, the other components at their median.

    Create it with `from_estimator`. In each line of panels one component goes through equally spaced quantiles of its
    codes, from 5 % to 95 %. The titles are its values.

    Parameters
    ----------
    rows : array-like of shape (n_shown, n_steps, n_features)
        The decoded samples.
    codes : array-like of shape (n_shown, n_steps)
        The codes of the component that varies.
    components : array-like of int of shape (n_shown,)
        Indices of these components, from 0.
    image_shape : tuple of int, default=None
        (height, width), or (channels, height, width) with 1 or 3 channels, of samples that are flattened images; None
        draws bars (30 columns at most) or lines.

    Attributes
    ----------
    rows, codes, components : ndarray
        The parameters as arrays.
    image_shape : tuple of int or None
        The parameter.
    ax_ : matplotlib.axes.Axes
        The axes that `plot` last divided.
    axes_ : ndarray of shape (n_shown, n_steps)
        The panels, a line for each component.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    artists_ : ndarray of shape (n_shown, n_steps)
        The artist in each panel: an image, a line, or a container of bars.

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
        """Decode codes along single components and draw the samples.

        Parameters
        ----------
        estimator : object
            Fitted, with ``transform`` and ``inverse_transform``: an autoencoder, a VAE, a Pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Samples whose codes determine the quantiles and the median.
        components : int or sequence of int, default=None
            Indices of components, from 0; None takes the first four.
        n_steps : int, default=8
            Number of samples decoded for each component.
        image_shape : tuple of int, default=None
            As in the constructor; None is the estimator's ``feature_shape``, if it has one.
        ax : matplotlib.axes.Axes, default=None
            Axes to divide; None makes a new figure.

        Returns
        -------
        LatentTraversalDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``transform`` or no ``inverse_transform``.
        ValueError
            If there is no such component, ``n_steps`` is below 2, ``image_shape`` does not fit, or decoded samples have
            columns that are not numeric.
        """
        check_fitted(estimator, "transform", "inverse_transform")
        check_integer("n_steps", n_steps, 2)
        Z = np.asarray(estimator.transform(X))
        components = _component_indices(components, Z.shape[1])
        codes = np.quantile(Z[:, components], np.linspace(*_QUANTILES, n_steps), axis=0).T.astype(Z.dtype)
        traversals = np.tile(np.median(Z, axis=0), (len(components), n_steps, 1))
        for traversal, component, values in zip(traversals, components, codes, strict=True):
            traversal[:, component] = values
        rows = _numeric(estimator.inverse_transform(traversals.reshape(-1, Z.shape[1])))
        image_shape = _image_shape_for(estimator, image_shape, rows.shape[1])
        rows = rows.reshape(len(components), n_steps, -1)
        return cls(rows=rows, codes=codes, components=components, image_shape=image_shape).plot(ax)

    def _grid(self):
        labels = [f"component {component + 1}" for component in self.components]
        return self.rows, self.rows, labels, [f"{code:.3g}" for code in self.codes.flat]


def _numeric(samples):
    """Return samples as an array of float64, nan where missing."""
    options = {"dtype": np.float64, "ensure_all_finite": "allow-nan", "input_name": "X"}
    way_out = "Pass the numeric ones to from_predictions."
    return numeric_array(samples, "Only columns of numbers can be drawn", way_out, **options)


def _image_shape_for(estimator, image_shape, n_features):
    """Return the image shape or, if None, the ``feature_shape`` of the last step where samples still have that size."""
    own = getattr(split_pipeline(estimator)[1], "feature_shape", None)
    if image_shape is None and own is not None and math.prod(own) == n_features and own[0] in (1, 3):
        return own
    return image_shape


def _component_indices(components, n_components):
    """Check indices of components and return them as an array."""
    if components is None:
        return np.arange(min(n_components, _N_COMPONENTS))
    indices = np.atleast_1d(np.asarray(components))
    are_integers = indices.ndim == 1 and len(indices) and np.issubdtype(indices.dtype, np.integer)
    if not are_integers or indices.min() < 0 or indices.max() >= n_components:
        raise ValueError(
            f"components={components!r} must be an integer or a sequence of integers from 0 to {n_components - 1}, as "
            f"codes have {n_components} components."
        )
    return indices
