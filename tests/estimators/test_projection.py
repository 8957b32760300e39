"""Landmarks of fitted autoencoders: where the encoder cannot know the code, they do."""

import copy
import pickle

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.base import clone

from skae import AutoencoderTransformer, reconstruction_error, to_onnx
from skae.networks.autoencoder import Autoencoder
from skae.training.checkpoint import Checkpoint
from skae.training.net import Net


@pytest.fixture(scope="module")
def circle():
    """Samples on a circle in three dimensions: one number describes them, by a map that jumps somewhere."""
    rng = np.random.RandomState(0)
    angle = rng.uniform(0, 2 * np.pi, size=(500, 1))
    return np.hstack([np.cos(angle), np.sin(angle), np.cos(2 * angle)]) + 0.02 * rng.normal(size=(500, 3))


@pytest.fixture(scope="module")
def fitted(circle):
    return AutoencoderTransformer(1, max_iter=60, random_state=0).fit(circle[:400])


def test_landmarks_lower_the_error_of_new_samples(fitted, circle):
    module = fitted.net_.module_
    assert len(module.landmarks) == 360  # all training samples, without the validation set
    without = copy.deepcopy(fitted)
    without.net_.module_.reset_refinement()
    without.net_._casts.clear()
    assert reconstruction_error(fitted, circle[400:]) < 0.9 * reconstruction_error(without, circle[400:])


def test_the_best_loss_is_of_the_chosen_projection(circle):
    model = AutoencoderTransformer(1, max_iter=60, random_state=0).fit(circle[:400], X_val=circle[400:])
    assert model.best_loss_ < min(model.validation_loss_curve_)
    assert model.best_loss_ == pytest.approx(reconstruction_error(model, circle[400:]), rel=1e-5)


def test_codes_depend_on_their_sample_alone(fitted, circle):
    codes = fitted.transform(circle)
    np.testing.assert_allclose(fitted.transform(circle[::-1])[::-1], codes, rtol=1e-10)
    np.testing.assert_allclose(np.vstack([fitted.transform(x[None]) for x in circle[:20]]), codes[:20], rtol=1e-10)


def test_files_and_graphs_hold_landmarks(fitted, circle, tmp_path):
    codes = fitted.transform(circle)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(circle), codes)
    to_onnx(fitted, tmp_path / "encoder.onnx", "encoder", dtype="float64")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: circle})
    difference = np.abs(found - codes)  # steps amplify the rounding of the runtime's activations
    assert np.quantile(difference, 0.98) < 1e-4
    assert difference.max() < 0.01


def test_a_resumed_fit_chooses_the_same_landmarks(fitted, circle, tmp_path, monkeypatch):
    """Both in the middle, and after the end of training."""
    model = AutoencoderTransformer(1, max_iter=60, checkpoint=tmp_path, random_state=0)
    train_epoch = Net._train_epoch

    def stops(self, *args):
        if len(self.history) == 5:
            raise RuntimeError("the machine is switched off")
        return train_epoch(self, *args)

    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)
    monkeypatch.setattr(Net, "_train_epoch", stops)
    with pytest.raises(RuntimeError, match="switched off"):
        clone(model).fit(circle[:400])
    monkeypatch.setattr(Net, "_train_epoch", train_epoch)
    for _ in range(2):
        resumed = clone(model).fit(circle[:400])
        assert torch.equal(resumed.net_.module_.landmarks.codes, fitted.net_.module_.landmarks.codes)
        assert resumed.best_loss_ == fitted.best_loss_
        np.testing.assert_array_equal(resumed.transform(circle), fitted.transform(circle))


def test_landmarks_may_have_missing_values(circle):
    is_missing = np.random.RandomState(0).uniform(size=circle.shape) < 0.2
    X = np.where(is_missing, np.nan, circle)
    # A fit leaves out samples without values, and so would draw other batches and another validation set.
    trained = np.where(is_missing.all(axis=1, keepdims=True), circle, X)
    model = AutoencoderTransformer(1, max_iter=20, random_state=0).fit(trained)
    assert len(model.net_.module_.landmarks)
    codes = model.transform(X)
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(np.vstack([model.transform(x[None]) for x in X[:20]]), codes[:20], rtol=1e-10)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), codes)


def test_further_passes_keep_landmarks_and_decode_them_anew(fitted, circle):
    model = copy.deepcopy(fitted)
    model.transform(circle)  # which keeps decoded landmarks
    model.partial_fit(circle[:400])
    assert torch.equal(model.net_.module_.landmarks.codes, fitted.net_.module_.landmarks.codes)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(circle), model.transform(circle))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_refinements", 4),
        ("n_refinements", -1),
        ("n_refinements", 1.0),
        ("landmarks", np.zeros((513, 1))),
        ("landmarks", np.zeros((3, 2))),
        ("landmarks", np.full((3, 1), np.nan)),
        ("landmarks", np.zeros((3, 1))),  # other codes than when it was saved
        ("landmarks", None),
    ],
)
def test_files_with_other_landmarks_are_refused(name, value, fitted):
    state = fitted.__getstate__()
    state["_fitted"] = state["_fitted"] | {name: value}
    with pytest.raises(ValueError, match=r"has other codes|landmarks|n_refinements"):
        AutoencoderTransformer.__new__(AutoencoderTransformer).__setstate__(state)


@pytest.mark.parametrize("parameters", [{"max_iter": 0}, {"early_stopping": False}])
def test_without_a_choice_there_are_three_steps_and_no_landmarks(parameters, circle):
    model = AutoencoderTransformer(1, random_state=0, **{"max_iter": 3} | parameters).fit(circle[:100])
    module = model.net_.module_
    assert (module.n_refinements, len(module.landmarks)) == (3, 0)


def test_ctrl_c_during_the_choice_keeps_the_best_weights(circle, monkeypatch):
    def interrupted(self, x, loss, most):
        raise KeyboardInterrupt

    monkeypatch.setattr(Autoencoder, "choose_refinement", interrupted)
    model = AutoencoderTransformer(1, max_iter=20, random_state=0).fit(circle[:400])
    assert model.best_loss_ == min(model.validation_loss_curve_) < model.linear_loss_
    assert (model.net_.module_.n_refinements, len(model.net_.module_.landmarks)) == (3, 0)


def test_other_losses_have_no_landmarks(circle):
    model = AutoencoderTransformer(1, loss="absolute_error", max_iter=5, random_state=0).fit(circle[:100])
    assert (model.net_.module_.n_refinements, len(model.net_.module_.landmarks)) == (0, 0)


def test_steps_are_scaled_for_the_trained_decoder_with_and_without_a_validation_set(circle):
    start = AutoencoderTransformer(1, max_iter=0).fit(circle[:400]).net_.module_.step_scaling
    for early_stopping in (True, False):
        model = AutoencoderTransformer(1, max_iter=60, early_stopping=early_stopping, random_state=0).fit(circle[:400])
        assert model.net_.module_.step_scaling < start / 10  # the decoder is steeper than PCA's


def test_each_pass_scales_steps_anew(circle):
    model = AutoencoderTransformer(1, learning_rate_init=1e-2, random_state=0)
    scalings = [model.partial_fit(circle[:400]).net_.module_.step_scaling.item() for _ in range(40)]
    assert len(set(scalings)) == 40
    assert scalings[-1] < scalings[0] / 2
