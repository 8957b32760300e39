"""Examples of scikit-learn that use PCA, with the autoencoder's class in its place and nothing else changed.

Each function has the steps of one example that concern PCA, with the parameters that the example gives it, and
returns one figure, higher is better. Data that the example downloads are packaged ones here.
"""

import tempfile
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris, load_wine, make_circles, make_multilabel_classification
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from skae import AutoencoderTransformer

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def iris():
    return load_iris(return_X_y=True)


def digits(n_samples=600):
    X, y = load_digits(return_X_y=True)
    return X[:n_samples], y[:n_samples]


def explained(model, X):
    """R^2 of reconstructions."""
    return 1 - np.square(X - model.inverse_transform(model.transform(X))).sum() / np.square(X - X.mean(axis=0)).sum()


# The examples, by their names in scikit-learn's gallery.


def plot_iris_dataset(reducer):
    """Three components of iris, to be drawn."""
    X, _ = iris()
    model = reducer(n_components=3)
    assert model.fit_transform(X).shape == (150, 3)
    return explained(model, X)


def plot_feature_union(reducer):
    """Components beside selected features, and a search over the numbers of both."""
    X, y = iris()
    union = FeatureUnion([("pca", reducer(n_components=2)), ("univ_select", SelectKBest(k=1))])
    assert union.fit(X, y).transform(X).shape == (150, 3)
    grid = {"features__pca__n_components": [1, 2, 3], "features__univ_select__k": [1, 2]}
    pipeline = Pipeline([("features", union), ("svm", SVC(kernel="linear"))])
    return GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y).best_score_


def plot_compare_reduction(reducer):
    """A pipeline that caches its fitted reducer, in a search over what follows."""
    X, y = digits()
    with tempfile.TemporaryDirectory() as folder:
        steps = [("scaling", MinMaxScaler()), ("reduce_dim", reducer()), ("classify", LinearSVC())]
        grid = {"reduce_dim__n_components": [8], "classify__C": [1, 10]}
        return GridSearchCV(Pipeline(steps, memory=folder), grid, cv=2, error_score="raise").fit(X, y).best_score_


def plot_scaling_importance(reducer):
    """The first component with and without scaling, and the accuracy of both."""
    X, y = load_wine(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=42)
    scaler = StandardScaler().set_output(transform="pandas")
    models = reducer(n_components=2), reducer(n_components=2)
    raw, scaled = (
        model.fit(rows).components_[0]
        for model, rows in zip(models, (X_train, scaler.fit_transform(X_train)), strict=True)
    )
    table = pd.DataFrame({"without": raw, "with": scaled}, index=X.columns)
    assert table["without"].abs().idxmax() == "proline"
    assert table["with"].abs().max() < 0.5
    pipes = [make_pipeline(*steps, LogisticRegression()) for steps in (models[:1], (scaler, models[1]))]
    scores = [pipe.fit(X_train, y_train).score(X_test, y_test) for pipe in pipes]
    assert scores[1] > scores[0]
    return scores[1]


def plot_kmeans_digits(reducer):
    """Components as the first centres of k-means, and k-means on two components."""
    X, y = digits()
    centres = reducer(n_components=10).fit(X).components_
    assert KMeans(init=centres, n_clusters=10, n_init=1).fit(X).cluster_centers_.shape == (10, 64)
    codes = reducer(n_components=2).fit_transform(X)
    return adjusted_rand_score(y, KMeans(n_clusters=10, n_init=4, random_state=0).fit_predict(codes))


def plot_nca_dim_reduction(reducer):
    """Accuracy of the nearest neighbours in two components."""
    X, y = digits()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    model = make_pipeline(StandardScaler(), reducer(n_components=2, random_state=0)).fit(X_train, y_train)
    neighbours = KNeighborsClassifier(n_neighbors=3).fit(model.transform(X_train), y_train)
    return neighbours.score(model.transform(X_test), y_test)


def plot_varimax_fa(reducer):
    """Loadings of standardised features."""
    X = StandardScaler().fit_transform(iris()[0])
    model = reducer(n_components=2).fit(X)
    assert model.components_.T.shape == (4, 2)
    assert np.abs(model.components_[0]).argmin() == 1  # sepal width is in the second component
    return explained(model, X)


def plot_digits_denoising(reducer):
    """Noisy images, projected; minus the squared error to the images."""
    X, _ = digits()
    X = MinMaxScaler().fit_transform(X)
    X_train, X_test = train_test_split(X, random_state=0)
    noise = np.random.RandomState(0).normal(scale=0.25, size=X.shape)
    model = reducer(n_components=16, random_state=42).fit(X_train + noise[: len(X_train)])
    X_noisy = X_test + noise[len(X_train) :]
    cleaned = -np.square(X_test - model.inverse_transform(model.transform(X_noisy))).mean()
    assert cleaned > -0.5 * np.square(X_test - X_noisy).mean()
    return cleaned


def plot_grid_search_refit_callable(reducer):
    """The fewest components within a standard deviation of the best accuracy."""
    X, y = digits()

    def fewest(results):
        scores, sizes = results["mean_test_score"], np.array(results["param_reduce_dim__n_components"], dtype=int)
        least = scores.max() - results["std_test_score"][scores.argmax()]
        return np.where(scores >= least, sizes, np.inf).argmin()

    pipe = Pipeline([("reduce_dim", reducer(random_state=42)), ("classify", LinearSVC(random_state=42))])
    search = GridSearchCV(pipe, {"reduce_dim__n_components": [4, 8]}, cv=2, refit=fewest, error_score="raise").fit(X, y)
    assert search.best_estimator_["reduce_dim"].n_components_ in (4, 8)
    return search.cv_results_["mean_test_score"][search.best_index_]


def plot_digits_pipe(reducer):
    """A search over the number of components and the classifier. (The example also draws the ratios of `PCA()`.)"""
    X, y = digits()
    classifier = LogisticRegression(max_iter=10000, tol=0.1)
    pipe = Pipeline([("scaler", StandardScaler()), ("pca", reducer()), ("logistic", classifier)])
    grid = {"pca__n_components": [5, 15], "logistic__C": [0.1, 10]}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_estimator_.named_steps["pca"].n_components == 15
    return search.best_score_


def plot_pca_vs_lda(reducer):
    """Two components of iris, and the share of the variance that each explains."""
    X, _ = iris()
    model = reducer(n_components=2)
    assert model.fit(X).transform(X).shape == (150, 2)
    return model.explained_variance_ratio_.sum()


def plot_multilabel(reducer):
    """Two components of documents with several labels, and a linear classifier of each."""
    X, y = make_multilabel_classification(n_classes=2, n_labels=1, allow_unlabeled=True, random_state=1)
    codes = reducer(n_components=2).fit_transform(X)
    classifier = OneVsRestClassifier(SVC(kernel="linear")).fit(codes, y)
    return (classifier.predict(codes) == y).mean()


def plot_kernel_pca(reducer):
    """As many components as features: nothing is lost."""
    X, y = make_circles(n_samples=400, factor=0.3, noise=0.05, random_state=0)
    X_train, X_test = train_test_split(X, stratify=y, random_state=0)
    model = reducer(n_components=2).fit(X_train)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X_test)), X_test, atol=1e-2)
    return explained(model, X_test)


def plot_pcr_vs_pls(reducer):
    """Regression on one component, and on two. (What the example draws has also explained_variance_.)"""
    rng = np.random.RandomState(0)
    X = rng.multivariate_normal(mean=[0, 0], cov=[[3, 3], [3, 4]], size=500)
    y = X.dot(reducer(n_components=2).fit(X).components_[1]) + rng.normal(size=500) / 2
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=rng)
    one = make_pipeline(StandardScaler(), reducer(n_components=1), LinearRegression()).fit(X_train, y_train)
    assert one[1].transform(X_test).shape == (125, 1)
    two = make_pipeline(reducer(n_components=2), LinearRegression()).fit(X_train, y_train)
    assert two.score(X_test, y_test) > one.score(X_test, y_test)
    return two.score(X_test, y_test)


EXAMPLES = [
    plot_iris_dataset,
    plot_feature_union,
    plot_compare_reduction,
    plot_scaling_importance,
    plot_kmeans_digits,
    plot_nca_dim_reduction,
    plot_varimax_fa,
    plot_digits_denoising,
    plot_grid_search_refit_callable,
    plot_digits_pipe,
    plot_multilabel,
    plot_kernel_pca,
    plot_pcr_vs_pls,
]
# One standard error of an accuracy of 0.5 on 300 samples. With two epochs the autoencoder is hardly more than PCA.
MARGIN = 0.03
epochs = pytest.mark.parametrize("epochs", [2, pytest.param(200, marks=pytest.mark.slow)])


@epochs
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)
def test_the_class_can_be_changed_and_nothing_else(example, epochs):
    autoencoder = partial(AutoencoderTransformer, max_iter=epochs, random_state=0)
    assert example(autoencoder) > example(PCA) - MARGIN


@epochs
def test_ratios_of_explained_variance_need_ordered_components(epochs):
    autoencoder = partial(AutoencoderTransformer, ordered=True, max_iter=epochs, random_state=0)
    assert plot_pca_vs_lda(autoencoder) > plot_pca_vs_lda(PCA) - MARGIN
