"""Imputation of missing values as a step of a Pipeline."""

from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted

from skae.persistence import state as stored


class ModelImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Imputer that replaces missing values by the imputations of an autoencoder or VAE.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VAEGenerator
        Estimator with a method `impute`. A clone of it is fitted.

    Attributes
    ----------
    estimator_ : object
        The fitted clone.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns. Only if all are strings.

    Notes
    -----
    A column in which all training values are missing is filled with 0. All samples without an observed value get the
    same imputations, close to the means of the columns.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skae import AutoencoderTransformer, ModelImputer
    >>> X, y = load_iris(return_X_y=True)
    >>> X[::3, 1] = np.nan
    >>> imputer = ModelImputer(AutoencoderTransformer(2, max_iter=0))
    >>> pipe = make_pipeline(imputer, LogisticRegression(max_iter=1000)).fit(X, y)
    >>> pipe.score(X, y) > 0.9
    True
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y=None, **fit_params):
        """Fit a clone of the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples, nan where a value is missing.
        y : array-like of shape (n_samples,), default=None
            Passed to the estimator, which uses it if it is conditional on classes.
        **fit_params : dict
            Passed to the estimator's `fit`, such as ``sample_weight``. With metadata routing, only those that it
            requests.

        Returns
        -------
        self : object
            The fitted imputer.

        Raises
        ------
        TypeError
            If the estimator has no method `impute`, or X is sparse.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, ModelImputer
        >>> X = load_iris().data
        >>> X[0, 2] = np.nan  # it was 1.4
        >>> imputer = ModelImputer(AutoencoderTransformer(2, max_iter=0, random_state=0)).fit(X)
        >>> imputer.n_features_in_
        4
        """
        if issparse(X):
            raise TypeError("Sparse X has no missing values to impute. Pass a dense array, with nan for them.")
        if not hasattr(self.estimator, "impute"):
            raise TypeError(
                f"estimator={self.estimator!r} has no method impute. Use an AutoencoderTransformer or a VAEGenerator."
            )
        if get_config()["enable_metadata_routing"]:
            fit_params = process_routing(self, "fit", **fit_params).estimator.fit
        self.estimator_ = clone(self.estimator).fit(X, y, **fit_params)
        return self

    def get_metadata_routing(self):
        """Return the routing of metadata: `fit` passes on what the estimator's `fit` requests.

        Returns
        -------
        MetadataRouter
            With the estimator's requests.
        """
        router = MetadataRouter(owner=type(self).__name__)
        return router.add(estimator=self.estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))

    def transform(self, X):
        """Replace missing values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, nan where a value is missing.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or DataFrame
            The samples, observed values unchanged; a DataFrame if `fit` got one.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer, ModelImputer
        >>> X = load_iris().data
        >>> X[0, 2] = np.nan  # it was 1.4
        >>> imputer = ModelImputer(AutoencoderTransformer(2, max_iter=0, random_state=0)).fit(X)
        >>> print(f"{imputer.transform(X)[0, 2]:.1f}")
        1.5
        """
        check_is_fitted(self)
        return self.estimator_.impute(X)

    def __getattr__(self, name):
        """Return the names and the number of columns, which the fitted estimator has."""
        if name in ("n_features_in_", "feature_names_in_") and hasattr(vars(self).get("estimator_"), name):
            return getattr(self.estimator_, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self):
        return stored.with_version(super().__getstate__())

    def __setstate__(self, state):
        state = stored.without_version(state, type(self))
        stored.check_names(state, type(self))
        for name in ("estimator", "estimator_") if "estimator_" in state else ():
            if not hasattr(state[name], "impute"):
                raise stored.fault(name, f"is {type(state[name]).__name__}, which has no method impute")
        super().__setstate__(state)

    def __sklearn_is_fitted__(self):
        return "estimator_" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
