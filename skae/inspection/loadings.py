"""What components are made of: the importance of each component for each column, and a display of loadings."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import _check_feature_names_in

from skae._torch import to_array
from skae.data.parameters import check_choice, check_integer
from skae.inspection.drawing import COLOURS, Display, axes_or_new, divide, escape_math
from skae.inspection.metrics import check_fitted, numeric_part, split_pipeline

_KINDS = ("heatmap", "bar", "biplot")
# Inches: height of a name; width of a component in a heat map, and of its bars.
_PER_NAME, _PER_COMPONENT, _PER_PANEL = 0.25, 0.4, 1.8
_ADVICE = "Use PCA, an AutoencoderTransformer, or a VAEGenerator of numbers."


def component_importance(estimator, X):
    """Return the share of each column's variance that the reconstruction loses without each component.

    A component is left out by setting its codes to their mean. On the training samples of a PCA, the mean importance of
    a component, weighted by the variances of the columns, is its ``explained_variance_ratio_``.

    Parameters
    ----------
    estimator : object
        Fitted, with ``transform`` and ``inverse_transform``: for example a PCA, an autoencoder, or a Pipeline of such.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Samples, preferably held out from the fit.

    Returns
    -------
    ndarray of shape (n_components, n_features)
        Increase of the mean squared error, divided by the variance of the column in X; 0 for constant columns. It is
        negative if the column is reconstructed better without the component. If components depend on each other, the
        importances of a column may add up to more than 1.

    Raises
    ------
    TypeError
        If the estimator has no ``transform`` or no ``inverse_transform``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skae import component_importance
    >>> X = load_iris().data
    >>> component_importance(PCA(2).fit(X), X).round(2)
    array([[0.81, 0.16, 1.  , 0.93],
           [0.15, 0.68, 0.  , 0.  ]])
    """
    estimator, X, observed = numeric_part(estimator, to_array(X))
    check_fitted(estimator, "transform", "inverse_transform")
    codes, variance = np.asarray(estimator.transform(X)), np.nanvar(observed, axis=0, dtype=np.float64)

    def errors(Z):
        return np.nanmean(np.square(np.subtract(observed, estimator.inverse_transform(Z), dtype=np.float64)), axis=0)

    every, lost = errors(codes), np.empty((codes.shape[1], observed.shape[1]))
    for k, mean in enumerate(codes.mean(axis=0)):
        without = codes.copy()
        without[:, k] = mean
        lost[k] = errors(without) - every
    return np.divide(lost, variance, out=np.zeros_like(lost), where=variance > 0)


def loadings_by_name(estimator, X, names):
    """Return `loadings_of` and the names of the columns that the last step of a Pipeline gets, by those of X.

    None is for an estimator without components or derivatives, and for steps that do not name their columns.
    """
    try:
        names = split_pipeline(estimator)[0].get_feature_names_out(names)
        return loadings_of(estimator, X) | {"feature_names": names}
    except (AttributeError, TypeError, ValueError):  # no names, components or derivatives
        return None


def loadings_of(estimator, X):
    """Return loadings, their spread over samples and codes, by the names of the parameters of `LoadingsDisplay`."""
    before, model = split_pipeline(estimator)
    check_fitted(model, "transform", advice=_ADVICE)
    X = before.transform(X)
    if hasattr(model, "local_components"):
        components = model.local_components(X)
    else:
        check_fitted(model, "components_", advice=_ADVICE)
        components = _linear_components(model)[None]
    codes, observed = np.asarray(model.transform(X)), numeric_part(model, X)[2]
    unit = np.nanstd(observed, axis=0)
    scale = codes.std(axis=0)[:, None] / np.where(unit > 0, unit, 1)
    return {"loadings": scale * components.mean(axis=0), "spread": scale * components.std(axis=0), "codes": codes}


def _linear_components(model):
    """Return the slopes of the reconstruction; ``components_`` differ where codes are whitened or unmixed."""
    n = len(model.components_)
    if not hasattr(model, "inverse_transform"):
        return model.components_
    return np.asarray(model.inverse_transform(np.eye(n))) - np.asarray(model.inverse_transform(np.zeros((n, n))))


class LoadingsDisplay(Display):
    """Loadings: the change of each column with each component.

    Create it with `from_estimator`. A loading is the mean over samples of the local component (see
    `AutoencoderTransformer.local_components`), in standard deviations of the column per standard deviation of the code.
    For PCA it is the correlation of column and code.

    Parameters
    ----------
    loadings : array-like of shape (n_components, n_features)
        Loadings.
    spread : array-like of shape (n_components, n_features)
        Standard deviations over the samples of the local components, in the same units; 0 for linear components.
    codes : array-like of shape (n_samples, n_components)
        Codes, for the biplot.
    feature_names : sequence of str
        Names of the columns.
    kind : {"heatmap", "bar", "biplot"}, default="heatmap"
        What to draw.

        - "heatmap": an image of all loadings.
        - "bar": bars of each component, with lines of the length of the spread.
        - "biplot": the codes of the first two components, with an arrow for each column.
    most_features : int, default=20
        Number of columns that are drawn at most: those with the largest loadings.

    Attributes
    ----------
    loadings, spread, codes : ndarray
        The parameters as arrays.
    feature_names : list of str
        The parameter.
    drawn_features : ndarray of int
        Indices of the columns that are drawn, ascending.
    ax_ : matplotlib.axes.Axes
        The axes that `plot` last drew in or divided.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    artists_ : list
        The image of a heat map, a container of bars for each component, or an arrow for each column.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skae import LoadingsDisplay
    >>> X = StandardScaler().fit_transform(load_wine().data)
    >>> LoadingsDisplay.from_estimator(PCA(2).fit(X), X).loadings.shape
    (2, 13)
    """

    def __init__(self, *, loadings, spread, codes, feature_names, kind="heatmap", most_features=20):
        self.loadings, self.spread, self.codes = map(check_array, (loadings, spread, codes))
        self.feature_names, self.kind = list(feature_names), kind
        if len(self.feature_names) != self.loadings.shape[1]:
            n = self.loadings.shape[1]
            raise ValueError(f"feature_names has {len(self.feature_names)} names for {n} columns. Pass one for each.")
        check_choice("kind", kind, _KINDS)
        if kind == "biplot" and len(self.loadings) < 2:
            raise ValueError("kind='biplot' needs two components, but there is one. Use 'bar' or 'heatmap'.")
        self.most_features = check_integer("most_features", most_features, 1)
        compared = self.loadings[:2] if kind == "biplot" else self.loadings
        largest = np.argsort(-np.abs(compared).max(axis=0), kind="stable")
        self.drawn_features = np.sort(largest[:most_features])

    @classmethod
    def from_estimator(cls, estimator, X, *, kind="heatmap", feature_names=None, most_features=20, ax=None):
        """Draw the loadings of a fitted estimator.

        Parameters
        ----------
        estimator : object
            Fitted, with ``local_components`` or ``components_``: an autoencoder, a VAE, a PCA, or a Pipeline that ends
            in one. The columns of a Pipeline are those that its last step gets.
        X : array-like of shape (n_samples, n_features)
            Samples over which local components are averaged.
        kind : {"heatmap", "bar", "biplot"}, default="heatmap"
            What to draw, see the class.
        feature_names : sequence of str, default=None
            Names of the columns; None for those of the estimator.
        most_features : int, default=20
            Number of columns that are drawn at most: those with the largest loadings.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in, divided for bars; None makes a new figure.

        Returns
        -------
        LoadingsDisplay

        Raises
        ------
        TypeError
            If the estimator has neither ``local_components`` nor ``components_``.
        ValueError
            If ``kind`` is "biplot" and there is one component, or a parameter is invalid.
        """
        found, model = loadings_of(estimator, to_array(X)), split_pipeline(estimator)[1]
        names = _check_feature_names_in(model) if feature_names is None else feature_names
        display = cls(**found, feature_names=names, kind=kind, most_features=most_features)
        return display.plot(ax)

    def _draw(self, ax):
        names = [escape_math(self.feature_names[j]) for j in self.drawn_features]
        return {"heatmap": self._draw_map, "bar": self._draw_bars, "biplot": self._draw_arrows}[self.kind](ax, names)

    def _draw_map(self, ax, names):
        n = len(self.loadings)
        ax = axes_or_new(ax, (_PER_COMPONENT * n + 3, _PER_NAME * len(names) + 1))
        drawn = self.loadings[:, self.drawn_features].T
        largest = np.abs(drawn).max() or 1
        image = ax.imshow(drawn, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks(range(n), range(1, n + 1))
        ax.set_xlabel("component")
        ax.figure.colorbar(image, ax=ax, label="loading")
        self.artists_ = [image]
        return ax

    def _draw_bars(self, ax, names):
        n, at = len(self.loadings), -np.arange(len(names))
        ax = axes_or_new(ax, (_PER_PANEL * n + 2, _PER_NAME * len(names) + 1))
        self.artists_, panels = [], divide(ax, 1, n)[0]
        for k, panel in enumerate(panels):
            lengths, spread = (part[k, self.drawn_features] for part in (self.loadings, self.spread))
            self.artists_.append(panel.barh(at, lengths, color=COLOURS[2], xerr=spread, ecolor="0.4"))
            panel.axvline(0, color="0.6", linewidth=0.6)
            panel.set_xlabel(f"component {k + 1}")
            panel.set_yticks(at, names if k == 0 else [""] * len(names))
            panel.sharex(panels[0])
        return ax

    def _draw_arrows(self, ax, names):
        ax = axes_or_new(ax, (5, 5))
        z = self.codes[:, :2] - self.codes[:, :2].mean(axis=0)
        reach = np.abs(z).max(axis=0)
        tips = self.loadings[:2, self.drawn_features].T / (np.abs(self.loadings[:2]).max() or 1) * reach
        ax.scatter(*z.T, s=8, color="0.75", linewidths=0)
        self.artists_ = []
        for tip, name in zip(tips, names, strict=True):
            look = {"arrowstyle": "->", "color": COLOURS[2]}
            self.artists_.append(ax.annotate(name, (0, 0), xytext=tip, ha="center", va="center", fontsize="small"))
            ax.annotate("", 0.92 * tip, xytext=(0, 0), arrowprops=look)
        ax.set(xlabel="component 1", ylabel="component 2")
        return ax
