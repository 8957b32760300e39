"""scikit-learn's callbacks, from version 1.9 on."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAEGenerator

callbacks = pytest.importorskip("sklearn.callback")
pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
MODELS = [
    AutoencoderTransformer(max_iter=3, random_state=0),
    AutoencoderTransformer("auto", max_iter=7, random_state=0),
    VAEGenerator(max_iter=3, random_state=0),
]


class Recorder:
    """Records the tasks of a fit, and asks to stop after some epochs."""

    def __init__(self, stop_after=np.inf):
        self.tasks, self.scores, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.tasks.append("setup")

    def teardown(self, estimator, context):
        self.tasks.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X, metadata):
        self.tasks.append((context.task_name, context.task_id, metadata and list(metadata)))

    def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
        self.scores.append(fitted_estimator.score(X))
        assert fitted_estimator.sample(2).shape == (2, X.shape[1])
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(fitted_estimator)).transform(X), fitted_estimator.transform(X)
        )
        return context.task_name == "epoch" and context.task_id + 1 >= self.stop_after


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_callbacks_get_the_epochs_of_a_fit(model, curve):
    curve = curve[:120]
    recorder, model = Recorder(), clone(model)
    model.set_callbacks(recorder).fit(curve, sample_weight=np.full(len(curve), 2.0))
    epochs = [("epoch", i, ["sample_weight"]) for i in range(3)]
    assert recorder.tasks == ["setup", ("fit", 0, ["sample_weight"]), *epochs, "teardown"]
    assert np.isfinite(recorder.scores).all()
    assert recorder.scores[-1] == pytest.approx(model.score(curve), rel=0.05)
    without = clone(model).set_callbacks().fit(curve, sample_weight=np.full(len(curve), 2.0))
    np.testing.assert_array_equal(model.transform(curve), without.transform(curve))
    assert model.validation_loss_curve_ == without.validation_loss_curve_
    assert model.score(curve) == without.score(curve)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(curve), model.transform(curve))


def test_a_callback_may_end_training(curve):
    model = clone(MODELS[0]).set_callbacks(Recorder(stop_after=2)).fit(curve)
    assert model.n_iter_ == 2
    assert model.net_.outcome_ == "callback"


def test_callbacks_are_torn_down_after_an_error(curve):
    class Broken(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("broken")

    broken = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        clone(MODELS[0]).set_callbacks(broken).fit(curve)
    assert broken.tasks[-1] == "teardown"


def test_searches_and_pipelines_show_their_fits(curve, capsys):
    monitor = callbacks.ScoringMonitor(scoring=None)
    model = clone(MODELS[0]).set_callbacks(monitor)
    search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2).set_callbacks(callbacks.ProgressBar())
    search.fit(curve)
    assert "AutoencoderTransformer - fit" in capsys.readouterr().out
    assert (monitor.get_logs().data_as_pandas.task_name == "epoch").any()
    make_pipeline(StandardScaler(), clone(MODELS[0])).set_callbacks(callbacks.ProgressBar()).fit(curve)
    assert "AutoencoderTransformer - fit" in capsys.readouterr().out
