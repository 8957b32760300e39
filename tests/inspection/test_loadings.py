"""What components are made of: `component_importance` and `LoadingsDisplay`."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA, FastICA
from sklearn.manifold import TSNE
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LoadingsDisplay, component_importance

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

WINE = load_wine(as_frame=True).data
SCALED = StandardScaler().fit_transform(WINE)


def test_importances_add_up_to_the_variance_that_pca_explains():
    X = load_wine().data * np.linspace(0.1, 3, 13)
    pca = PCA(3).fit(X)
    importance = component_importance(pca, X)
    variance = X.var(axis=0)
    np.testing.assert_allclose(importance @ variance / variance.sum(), pca.explained_variance_ratio_, rtol=1e-8)


def test_the_importance_of_a_single_component_is_what_it_explains():
    model = AutoencoderTransformer(1, max_iter=20, random_state=0).fit(SCALED)
    importance = component_importance(model, SCALED)
    Z = model.transform(SCALED)
    constant = model.inverse_transform(np.full_like(Z, Z.mean()))
    lost = ((SCALED - constant) ** 2).mean(axis=0) - ((SCALED - model.inverse_transform(Z)) ** 2).mean(axis=0)
    np.testing.assert_allclose(importance[0], lost / SCALED.var(axis=0), rtol=1e-10)


def test_constant_columns_and_missing_values_have_an_importance():
    X = np.column_stack([SCALED, np.full(len(SCALED), 3.0)])
    X[0, 0] = np.nan
    importance = component_importance(AutoencoderTransformer(2, max_iter=0).fit(X), X)
    assert np.isfinite(importance).all()
    np.testing.assert_array_equal(importance[:, 13], 0)


def test_an_estimator_without_a_way_back_has_no_importance():
    with pytest.raises(TypeError, match="no inverse_transform"):
        component_importance(TSNE(2, perplexity=5, max_iter=250).fit(SCALED[:30]), SCALED[:30])


def test_loadings_of_pca_are_correlations():
    pca = PCA(3).fit(SCALED)
    display = LoadingsDisplay.from_estimator(pca, SCALED)
    Z = pca.transform(SCALED)
    expected = [[np.corrcoef(z, x)[0, 1] for x in SCALED.T] for z in Z.T]
    np.testing.assert_allclose(display.loadings, expected, atol=1e-10)
    np.testing.assert_array_equal(display.spread, 0)


@pytest.mark.parametrize("model", [PCA(3, whiten=True), FastICA(3, whiten="unit-variance", random_state=0)])
def test_loadings_do_not_depend_on_the_unit_of_codes(model):
    Z = model.fit_transform(SCALED)
    display = LoadingsDisplay.from_estimator(model, SCALED)
    expected = [[np.corrcoef(z, x)[0, 1] for x in SCALED.T] for z in Z.T]
    np.testing.assert_allclose(display.loadings, expected, atol=1e-10)


def test_loadings_of_a_search_are_those_of_its_best_pipeline():
    search = GridSearchCV(make_pipeline(StandardScaler(), PCA()), {"pca__n_components": [2]}).fit(WINE)
    display = LoadingsDisplay.from_estimator(search, WINE)
    of_pipeline = LoadingsDisplay.from_estimator(search.best_estimator_, WINE)
    np.testing.assert_array_equal(display.loadings, of_pipeline.loadings)


def test_loadings_of_the_start_are_those_of_pca():
    of_pca, of_start = (
        LoadingsDisplay.from_estimator(model.fit(SCALED), SCALED).loadings
        for model in (PCA(2), AutoencoderTransformer(2, max_iter=0))
    )
    np.testing.assert_allclose(np.abs(of_start), np.abs(of_pca), atol=1e-8)


def test_loadings_of_a_trained_autoencoder_differ_between_samples():
    model = make_pipeline(StandardScaler().set_output(transform="pandas"), AutoencoderTransformer(2, random_state=0))
    display = LoadingsDisplay.from_estimator(model.fit(WINE), WINE, kind="bar")
    assert display.spread.max() > 0.1
    assert display.feature_names == list(WINE)
    assert [len(bars) for bars in display.artists_] == [13, 13]


@pytest.mark.parametrize(("kind", "n_artists"), [("heatmap", 1), ("bar", 3), ("biplot", 5)])
def test_only_the_columns_with_the_largest_loadings_are_drawn(kind, n_artists):
    X = load_digits().data[:300]
    display = LoadingsDisplay.from_estimator(PCA(3).fit(X), X, kind=kind, most_features=5)
    assert len(display.drawn_features) == 5
    assert len(display.artists_) == n_artists
    compared = np.abs(display.loadings[: 2 if kind == "biplot" else 3]).max(axis=0)
    assert compared[display.drawn_features].min() >= np.delete(compared, display.drawn_features).max()


def test_what_cannot_be_drawn_is_an_error():
    pca = PCA(1).fit(SCALED)
    with pytest.raises(ValueError, match="biplot"):
        LoadingsDisplay.from_estimator(pca, SCALED, kind="biplot")
    with pytest.raises(ValueError, match="kind="):
        LoadingsDisplay.from_estimator(pca, SCALED, kind="pie")
    with pytest.raises(ValueError, match="2 names for 13 columns"):
        LoadingsDisplay.from_estimator(pca, SCALED, feature_names=["a", "b"])
    with pytest.raises(TypeError, match="components_"):
        LoadingsDisplay.from_estimator(StandardScaler().fit(SCALED), SCALED)
