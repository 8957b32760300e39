"""Searches on joblib's backends: the answers of one process."""

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator, reconstruction_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NET = {"max_iter": 15, "random_state": 0}
SEARCHES = {
    "GridSearchCV": GridSearchCV(
        AutoencoderTransformer(**NET), {"n_components": [1, 2, 3]}, cv=3, scoring=reconstruction_scorer
    ),
    "LatentSizeCV": LatentSizeCV(AutoencoderTransformer(**NET), (1, 2, 3), cv=3),
    "LatentSizeCV of a VAE": LatentSizeCV(VAEGenerator(**NET), (1, 2, 3), cv=3),
}


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as workers,
        distributed.Client(workers) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_on_a_dask_cluster_is_that_of_one_process(name, cluster):
    X = scale(load_wine().data)
    alone = clone(SEARCHES[name]).set_params(n_jobs=1).fit(X)
    on_cluster = clone(SEARCHES[name]).set_params(n_jobs=-1)
    before = tasks(cluster)
    with joblib.parallel_config("dask"):
        on_cluster.fit(X)
    assert tasks(cluster) > before
    assert curves(on_cluster).keys() == curves(alone).keys()
    for figure, values in curves(alone).items():
        np.testing.assert_allclose(curves(on_cluster)[figure], values, rtol=1e-3, err_msg=figure)
    np.testing.assert_allclose(on_cluster.transform(X), alone.transform(X), rtol=1e-3, atol=1e-3)


def curves(search):
    """What a search found of each number of components."""
    return {name: value for name, value in search.cv_results_.items() if "score" in name and "time" not in name}


def tasks(client):
    """Events of tasks on all workers."""
    return sum(client.run(lambda dask_worker: len(dask_worker.state.log)).values())
