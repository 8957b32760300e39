"""Nothing lost: a fit that is killed goes on to the same end, and what cannot be kept is said in time."""

import errno
import json
import os
import random
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from skae import AutoencoderTransformer, VAEGenerator, _checkpoint, _streaming
from skae._engine import Adam, Net

FILE = "checkpoint.npz"


class Killed(BaseException):
    """What ends a fit in the middle of a step; nothing in skae catches it."""


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """A state is written after each epoch, not once in ten seconds."""
    monkeypatch.setattr(_checkpoint, "SECONDS", 0.0)


def kill_at(step, fit):
    """Run a fit as far as this step of the optimiser."""
    steps, train_step = 0, Net.train_step

    def count(self, batch, **kwargs):
        nonlocal steps
        steps += 1
        if steps == step:
            raise Killed
        return train_step(self, batch, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Net, "train_step", count)
        with pytest.raises(Killed):
            fit()


def epochs_kept(folder):
    """Epochs in the history of a checkpoint, and how its fit ended, if it did."""
    state = json.loads(np.load(folder / FILE, allow_pickle=False)["state.json"])["state"]
    return len(state["history"]), state["outcome"]


def assert_same_fit(found, expected, X):
    """Bit for bit, whatever a fit leaves."""
    for (name, a), b in zip(
        found.net_.module_.state_dict().items(), expected.net_.module_.state_dict().values(), strict=True
    ):
        a, b = (torch.as_tensor(part).numpy(force=True) for part in (a, b))  # one is no tensor; or on a GPU
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert found.net_.outcome_ == expected.net_.outcome_
    for name in ("loss_curve_", "validation_loss_curve_", "best_loss_", "linear_loss_", "n_iter_", "n_components_"):
        assert getattr(found, name) == getattr(expected, name), name
    np.testing.assert_array_equal(found.transform(X), expected.transform(X))
    for row, other in zip(found.net_.history, expected.net_.history, strict=True):
        assert {k: v for k, v in row.items() if k != "dur"} == {k: v for k, v in other.items() if k != "dur"}


def dropout(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, n_out))


FITS = {
    "default": AutoencoderTransformer(),
    "ordered": AutoencoderTransformer(3, ordered=True),
    "a share": AutoencoderTransformer(0.9),
    "no rows held out": AutoencoderTransformer(early_stopping=False),
    "random start": AutoencoderTransformer(start="random"),
    "noise": AutoencoderTransformer(noise=0.3, alpha=0.1),
    "own modules": AutoencoderTransformer(encoder=dropout, decoder=dropout),
    "own modules alone": AutoencoderTransformer(encoder=dropout, decoder=dropout, start="random"),
    "rates of a callback": AutoencoderTransformer(callbacks=[LRScheduler("StepLR", step_size=2, gamma=0.3)]),
    "rates by the loss": AutoencoderTransformer(callbacks=[LRScheduler("ReduceLROnPlateau", patience=0)]),
    "VAE": VAEGenerator(),
    "VAE ordered": VAEGenerator(3, ordered=True),
    "VAE of own modules": VAEGenerator(encoder=dropout, decoder=dropout, start="pca", prior="mixture"),
    "VAE without rows held out": VAEGenerator(early_stopping=False, start="pca"),
}


@pytest.mark.filterwarnings("ignore:No epoch beat the linear start")  # so few epochs of so much dropout
@pytest.mark.parametrize(("name", "step"), [*((name, 20) for name in FITS), ("default", 1), ("default", 45)])
def test_a_fit_that_was_killed_ends_as_if_it_had_not_been(name, step, curve, tmp_path):
    model = clone(FITS[name]).set_params(random_state=0)
    model.set_params(max_iter=14 if model._chooses_size() or model.ordered else 5)
    expected = type(model)(**model.get_params()).fit(curve)
    model.set_params(checkpoint=tmp_path)
    kill_at(step, lambda: model.fit(curve))
    assert not hasattr(model, "net_")
    generator = torch.get_rng_state()
    found = type(model)(**model.get_params()).fit(curve)
    assert_same_fit(found, expected, curve)
    assert torch.equal(torch.get_rng_state(), generator)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("step", [30, 50])
def test_a_fit_goes_on_with_its_patience(step, curve, tmp_path):
    """So much is asked of an improvement that no epoch is one."""
    model = AutoencoderTransformer(2, max_iter=40, n_iter_no_change=8, tol=10.0, random_state=0)
    expected = AutoencoderTransformer(**model.get_params()).fit(curve)
    assert expected.net_.outcome_ == "patience"
    assert expected.n_iter_ == 8
    model.set_params(checkpoint=tmp_path)
    kill_at(step, lambda: model.fit(curve))
    assert_same_fit(model.fit(curve), expected, curve)


def test_sparse_rows_and_validation_rows_go_on(tmp_path):
    X = csr_matrix(np.random.RandomState(0).poisson(0.5, size=(200, 6)))
    model = VAEGenerator(likelihood="poisson", max_iter=4, random_state=0)
    expected = VAEGenerator(**model.get_params()).fit(X, X_val=X[:30])
    model.set_params(checkpoint=str(tmp_path))
    kill_at(15, lambda: model.fit(X, X_val=X[:30]))
    assert_same_fit(model.fit(X, X_val=X[:30]), expected, X)
    with pytest.raises(ValueError, match=r"differs in X_val='float64 40x6 #\w+' \(there 'float64 30x6 #\w+'\)"):
        model.fit(X, X_val=X[:40])
    other = X.copy()
    other.data[0] += 1
    with pytest.raises(ValueError, match=r"differs in X='float64 200x6 #\w+' \(there 'float64 200x6 #\w+'\)\. "):
        model.fit(other, X_val=X[:30])


def test_images_go_on_with_the_norm_of_gradients_that_clips_them(tmp_path, monkeypatch):
    X = load_digits().data[:200]
    model = AutoencoderTransformer(3, feature_shape=(1, 8, 8), max_iter=4, random_state=0)
    expected = AutoencoderTransformer(**model.get_params()).fit(X)
    model.set_params(checkpoint=tmp_path)
    kill_at(20, lambda: model.fit(X))
    first, clip = [], Adam.clip_gradients

    def spy(optimizer):
        first.append(optimizer.mean_norm)
        clip(optimizer)

    monkeypatch.setattr(Adam, "clip_gradients", spy)
    assert_same_fit(model.fit(X), expected, X)
    assert first[0] > 0


def test_a_conditional_fit_goes_on_with_the_same_classes_only(curve, tmp_path):
    y = np.where(curve[:, 0] > 0, "up", "down")
    model = VAEGenerator(conditional=True, start="pca", max_iter=3, random_state=0)
    expected = VAEGenerator(**model.get_params()).fit(curve, y)
    model.set_params(checkpoint=tmp_path)
    kill_at(15, lambda: model.fit(curve, y))
    with pytest.raises(ValueError, match=r"differs in y='float\d+ 300x2 #\w+' \(there 'float\d+ 300x2 #\w+'\)\. "):
        model.fit(curve, y[::-1])
    assert_same_fit(model.fit(curve, y), expected, curve)


@pytest.mark.filterwarnings("ignore:No epoch beat the linear start")
def test_rows_streamed_from_a_file_go_on(curve, tmp_path, monkeypatch):
    for name, value in (("STREAMED_FROM", 0), ("_HELD", 2**8), ("_SHUFFLED_BLOCKS", 4), ("_READ", 2**7)):
        monkeypatch.setattr(_streaming, name, value)
    np.save(tmp_path / "rows.npy", curve)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    model = AutoencoderTransformer(max_iter=4, random_state=0, hidden_layer_sizes=(16,))
    expected = clone(model).fit(rows)
    model.set_params(checkpoint=tmp_path / "kept")
    kill_at(20, lambda: model.fit(rows))
    with pytest.raises(
        ValueError, match=r"differs in X='float64 300x5 #(\w+)' \(there 'float64 300x5 #\1 in a file'\)"
    ):
        model.fit(curve)
    assert_same_fit(model.fit(rows), expected, curve)


def test_killed_again_and_again(curve, tmp_path):
    model = VAEGenerator(max_iter=5, random_state=0, encoder=dropout, start="pca", hidden_layer_sizes=(8,))
    expected = VAEGenerator(**model.get_params()).fit(curve)
    model.set_params(checkpoint=tmp_path)
    for i in range(1, 5):
        kill_at(12, lambda: model.fit(curve))  # an epoch has nine steps
        assert epochs_kept(tmp_path) == (i, None)
    assert_same_fit(model.fit(curve), expected, curve)


def test_a_fit_that_had_ended_is_given_at_once(curve, tmp_path, monkeypatch):
    model = AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    assert epochs_kept(tmp_path) == (3, "budget")
    written = (tmp_path / FILE).stat().st_mtime_ns
    monkeypatch.setattr(Net, "train_step", lambda *args, **kwargs: pytest.fail("it trained"))
    again = AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    assert_same_fit(again, model, curve)
    assert (tmp_path / FILE).stat().st_mtime_ns == written


def test_without_a_random_state_the_seed_is_kept(curve, tmp_path):
    model = AutoencoderTransformer(max_iter=4, checkpoint=tmp_path)
    kill_at(1, lambda: model.fit(curve))
    seed = json.loads(np.load(tmp_path / FILE)["state.json"])["seed"]
    np.random.seed(0)
    after_a_draw = np.random.RandomState(0)
    after_a_draw.randint(2**31 - 1)
    kill_at(20, lambda: model.fit(curve))
    assert np.random.randint(10**6) == after_a_draw.randint(10**6)  # one draw, as ever
    model.fit(curve)
    assert model._seed == seed
    again = AutoencoderTransformer(max_iter=4, checkpoint=tmp_path / "new", random_state=np.random.RandomState(1))
    kill_at(20, lambda: again.fit(curve))
    with pytest.raises(ValueError, match=r"random_state='generator whose draw was \d+' \(there 'generator whose"):
        again.fit(curve)  # the generator has moved on
    again.set_params(random_state=np.random.RandomState(1)).fit(curve)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max_iter": 4}, r"differs in max_iter=4 \(there 3\)\. .*Set them back, or name another folder"),
        ({"random_state": 1, "hidden_layer_sizes": (8,)}, r"hidden_layer_sizes=\[8\].*, random_state=1 \(there 0\)\. "),
        ({"encoder": dropout}, r"differs in encoder='dropout' \(there None\)\. "),
        ({"callbacks": [LRScheduler()]}, r"differs in callbacks=\[.LRScheduler\(.*\).\] \(there None\)\. "),
    ],
)
def test_other_parameters_are_refused_by_name(changed, said, curve, tmp_path):
    AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ValueError, match=said):
        AutoencoderTransformer(**{"max_iter": 3, "random_state": 0} | changed, checkpoint=tmp_path).fit(curve)
    assert (tmp_path / FILE).read_bytes() == before


def test_other_settings_of_a_callback_are_refused_by_name(curve, tmp_path):
    def fit(step_size):
        callbacks = [LRScheduler("StepLR", step_size=step_size)]
        AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path, callbacks=callbacks).fit(curve)

    fit(2)
    fit(2)
    with pytest.raises(ValueError, match=r"callbacks=.*step_size=3.*\(there .*step_size=2"):
        fit(3)


def test_other_data_and_another_estimator_are_refused_by_name(curve, tmp_path):
    AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    model = AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path)
    for other in (curve[:200], curve.astype(np.float32), np.where(np.arange(300)[:, None] == 299, 0, curve)):
        with pytest.raises(ValueError, match=r"holds another fit, which differs in X='float\d\d \d+x5 #\w+' \(there"):
            model.fit(other)
    with pytest.raises(ValueError, match=r"differs in estimator='VAEGenerator' \(there 'AutoencoderTransformer'\), "):
        VAEGenerator(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    # Neither how rows lie in memory nor how a parameter is written makes another fit.
    model.set_params(hidden_layer_sizes="auto", max_iter=np.int64(3), verbose=1).fit(np.asfortranarray(curve))


def test_a_module_of_the_same_name_and_another_shape_is_refused(curve, tmp_path):
    def build(width):
        def coder(n_in, n_out):
            return nn.Sequential(nn.Linear(n_in, width), nn.Linear(width, n_out))

        return coder

    model = AutoencoderTransformer(encoder=build(4), max_iter=3, random_state=0, checkpoint=tmp_path)
    kill_at(20, lambda: model.fit(curve))
    with pytest.raises(ValueError, match="another net than the one that is built now"):
        model.set_params(encoder=build(5)).fit(curve)


def test_a_truncated_estimator_and_passes_leave_the_folder_alone(curve, tmp_path):
    model = AutoencoderTransformer(3, ordered=True, max_iter=5, random_state=0, checkpoint=tmp_path).fit(curve)
    assert model.truncate(2).checkpoint is None
    before = (tmp_path / FILE).read_bytes()
    model.partial_fit(curve)
    assert (tmp_path / FILE).read_bytes() == before
    AutoencoderTransformer(max_iter=0, checkpoint=tmp_path / "new").partial_fit(curve)
    assert not (tmp_path / "new").exists()


def test_the_file_holds_arrays_and_json_and_no_pickle(curve, tmp_path):
    AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path, callbacks=[Records()]).fit(curve)
    with zipfile.ZipFile(tmp_path / FILE) as archive:
        assert archive.testzip() is None
        assert {Path(name).suffix for name in archive.namelist()} == {".npy", ".json"}
    with np.load(tmp_path / FILE, allow_pickle=False) as file:
        content = json.loads(file["state.json"])
        assert all(file[name].dtype.kind in "fiu" for name in file.files if name != "state.json")
        best = {name for name in file.files if name.startswith("state/best/weights/")}
    assert "state/best/weights/encoder.path.weight" in best
    assert content["state"]["history"][-1]["a number"] == 2.5
    assert "object" in content["state"]["history"][-1]["an object"]
    assert content["state"]["history"][-1]["odd keys"] == {"even": 4}


class Records(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("a number", np.float32(2.5))
        net.history.record("an object", object())
        net.history.record("odd keys", {(1, 2): 3, "even": 4})


def test_a_state_is_written_at_most_once_in_the_interval(curve, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint, "SECONDS", 10.0)
    clock, written = 0.0, []
    monkeypatch.setattr(_checkpoint.time, "monotonic", lambda: clock)
    write = _checkpoint._write

    def note(path, content):
        written.append(clock)
        write(path, content)

    class Clock(Callback):
        def on_epoch_end(self, net, **kwargs):
            nonlocal clock
            clock += 4.0

    monkeypatch.setattr(_checkpoint, "_write", note)
    AutoencoderTransformer(max_iter=8, random_state=0, checkpoint=tmp_path, callbacks=[Clock()]).fit(curve)
    assert written == [0.0, 12.0, 24.0, 32.0]  # before, twice between, and at the end


def no_room(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_an_error_before_training(curve, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint.os, "fsync", no_room)
    monkeypatch.setattr(Net, "train_step", lambda *args, **kwargs: pytest.fail("it trained"))
    with pytest.raises(OSError, match=r"No space left on device.*Name one that can be written and has room"):
        AutoencoderTransformer(max_iter=2, checkpoint=tmp_path).fit(curve)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_is_one_warning_and_no_end(curve, tmp_path, monkeypatch):
    expected = AutoencoderTransformer(max_iter=5, random_state=0).fit(curve)
    model = AutoencoderTransformer(max_iter=5, random_state=0, checkpoint=tmp_path, callbacks=[FillsTheDisk(no_room)])
    monkeypatch.setattr(_checkpoint.os, "fsync", os.fsync)
    with pytest.MonkeyPatch.context() as patch:
        FillsTheDisk.patch = patch
        with pytest.warns(UserWarning, match="No space left on device.*Training goes on") as caught:
            model.fit(curve)
    assert len(caught) == 1
    np.testing.assert_array_equal(model.transform(curve), expected.transform(curve))
    assert epochs_kept(tmp_path) == (2, None)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    np.testing.assert_array_equal(model.fit(curve).transform(curve), expected.transform(curve))
    assert epochs_kept(tmp_path) == (5, "budget")


class FillsTheDisk(Callback):
    """In the third epoch, if there is a patch to do it with."""

    patch = None

    def __init__(self, no_room):
        self.no_room = no_room

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3 and self.patch is not None:
            self.patch.setattr(_checkpoint.os, "fsync", self.no_room)
            FillsTheDisk.patch = None


@pytest.mark.skipif(os.name != "posix", reason="limits of this kind are POSIX's")
def test_a_real_limit_of_the_system_leaves_no_half_file(curve, tmp_path):
    """No file may have more than 10,000 bytes: writing fails in the middle."""
    found = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, found[1]))
    try:
        with pytest.raises(OSError, match=r"File too large.*Name one that can be written"):
            AutoencoderTransformer(max_iter=2, checkpoint=tmp_path).fit(curve)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, found)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_an_error_before_the_start(curve, tmp_path, monkeypatch):
    monkeypatch.setattr(AutoencoderTransformer, "_initialize", lambda *args: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="is no folder that a fit can keep its state in"):
            AutoencoderTransformer(checkpoint=folder).fit(curve)
    monkeypatch.setattr(_checkpoint.os, "access", lambda path, mode: False)  # the superuser may write anywhere
    with pytest.raises(OSError, match="it is read-only"):
        AutoencoderTransformer(checkpoint=tmp_path).fit(curve)
    with pytest.raises(TypeError, match="checkpoint=3 must be None or a folder"):
        AutoencoderTransformer(checkpoint=3).fit(curve)
    with pytest.raises(ValueError, match=r"checkpoint='' names no folder\. For the current one pass '\.'"):
        AutoencoderTransformer(checkpoint="").fit(curve)


@pytest.mark.skipif(_checkpoint.fcntl is None, reason="needs locks of files")
def test_two_fits_at_once_in_one_folder_are_refused_until_the_first_has_ended(curve, tmp_path):
    said = []

    class Second(Callback):
        def on_train_begin(self, net, **kwargs):
            with pytest.raises(OSError, match="another fit, which still runs, keeps its own there") as refusal:
                AutoencoderTransformer(**model.get_params()).fit(curve)
            said.append(refusal)

    model = AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path, callbacks=[Second()])
    kill_at(10, lambda: model.fit(curve))
    model.fit(curve)
    assert len(said) == 2
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("part", [("weights",), ("best", "weights")])
def test_weights_that_are_not_finite_are_not_taken(part, curve, tmp_path):
    model = AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path).fit(curve)
    content = _checkpoint._read(tmp_path / FILE)
    place = content["state"]
    for name in part:
        place = place[name]
    place["decoder.path.weight"][0, 0] = np.nan
    _checkpoint._write(tmp_path / FILE, content)
    with pytest.raises(ValueError, match="has weights that are not finite"):
        model.fit(curve)


def test_a_finished_fit_may_be_read_only(curve, tmp_path, monkeypatch):
    model = AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path).fit(curve)
    monkeypatch.setattr(_checkpoint.os, "access", lambda path, mode: False)
    monkeypatch.setattr(_checkpoint, "_write", no_room)
    assert_same_fit(AutoencoderTransformer(**model.get_params()).fit(curve), model, curve)


def test_a_newer_format_is_refused_with_both_versions(curve, tmp_path, monkeypatch):
    model = AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_checkpoint, "FORMAT", 2)
        patch.setattr(_checkpoint, "__version__", "7.1")
        model.fit(curve)
    with pytest.raises(
        ValueError, match=r"skae 7\.1, in a format that skae \d\S+ does not know\. Update skae, or name"
    ):
        model.fit(curve)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"no zip", None])
def test_a_damaged_file_is_said_to_be(damage, curve, tmp_path):
    model = AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path).fit(curve)
    content = (tmp_path / FILE).read_bytes()
    if damage is None:  # a bit in the middle of the weights
        content = bytearray(content)
        content[len(content) // 2] ^= 1
    (tmp_path / FILE).write_bytes(content if damage is None else damage(content))
    with pytest.raises(ValueError, match=rf"has a {FILE} that is damaged.*delete {FILE} for a new fit"):
        model.fit(curve)


PARTS = ["state", "seed", "identity", "state/outcome", "state/history", "state/best"]


@pytest.mark.parametrize(("part", "missing"), [*((p, True) for p in PARTS), *((p, False) for p in PARTS[:3])])
def test_a_whole_file_of_other_content_is_said_to_be_damaged(part, missing, curve, tmp_path):
    model = AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path).fit(curve)
    content = _checkpoint._read(tmp_path / FILE)
    *way, name = part.split("/")
    place = content[way[0]] if way else content
    if missing:
        del place[name]
    else:
        place[name] = [-1]
    _checkpoint._write(tmp_path / FILE, content)
    with pytest.raises(ValueError, match=rf"has a {FILE} that is damaged.*delete {FILE} for a new fit"):
        model.fit(curve)


def test_what_a_killed_fit_left_half_written_is_removed(curve, tmp_path):
    (tmp_path / f"{FILE}.0123.tmp").write_bytes(b"half")
    AutoencoderTransformer(max_iter=1, checkpoint=tmp_path, random_state=0).fit(curve)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


# Divergence.


class Poison(Callback):
    """Breaks a weight at the beginning of these epochs."""

    epochs = ()

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) in self.epochs:
            with torch.no_grad():
                net.module_.encoder.path.weight.fill_(float("nan"))


class Rates(Callback):
    seen: list = []

    def on_batch_begin(self, net, training=None, **kwargs):
        if training:
            self.seen.append(net.optimizer_.param_groups[0]["lr"])


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_a_loss_that_turns_nan_once_costs_an_epoch_and_no_fit(estimator, early_stopping, curve, monkeypatch):
    parameters = {"max_iter": 12, "random_state": 0, "early_stopping": early_stopping, "callbacks": [Poison(), Rates()]}
    parameters |= {"hidden_layer_sizes": (32,)}
    monkeypatch.setattr(Rates, "seen", [])
    plain = estimator(**parameters).fit(curve)
    rates = Rates.seen
    monkeypatch.setattr(Poison, "epochs", (4,))
    monkeypatch.setattr(Rates, "seen", [])
    model = estimator(**parameters).fit(curve)
    assert model.net_.outcome_ == "budget"
    assert model.net_.returns_ == 1
    assert model.n_iter_ == 12
    assert np.isnan(model.loss_curve_[3])
    assert np.isfinite(np.delete(model.loss_curve_, 3)).all()
    assert model.loss_curve_[:3] == plain.loss_curve_[:3]
    n = len(rates) // 12
    np.testing.assert_allclose(Rates.seen[: 4 * n], rates[: 4 * n])
    np.testing.assert_allclose(Rates.seen[4 * n :], np.array(rates[4 * n :]) / 10)
    judged = model.validation_loss_curve_ or model.loss_curve_
    assert min(judged[4:]) < min(judged[:3])  # it went on from there
    assert np.isfinite(model.transform(curve)).all()


@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_fit_that_diverges_each_time_ends_with_the_best_weights(early_stopping, curve, monkeypatch):
    parameters = {"max_iter": 20, "random_state": 0, "early_stopping": early_stopping, "callbacks": [Poison()]}
    monkeypatch.setattr(Poison, "epochs", (3, 5, 7, 8))
    with pytest.warns(ConvergenceWarning, match="after 8 epochs, nor with steps made smaller 3 times") as caught:
        model = AutoencoderTransformer(**parameters).fit(curve)
    assert len(caught) == 1
    assert model.net_.outcome_ == "diverged"
    finite = np.array(model.validation_loss_curve_ if early_stopping else model.loss_curve_)[[0, 1, 3, 5]]
    assert model.best_loss_ == finite.min()
    assert not any(row["train_loss_best"] for row in model.net_.history if not np.isfinite(row["train_loss"]))


def test_a_rate_far_too_high_for_counts_is_no_end(curve):
    """Rates are exponentials, which overflow; a fit of the default rate ends at 0.4 of the linear start's loss."""
    counts = np.random.RandomState(0).poisson(np.exp(curve))
    model = AutoencoderTransformer(loss="poisson", learning_rate_init=0.3, max_iter=30, random_state=0).fit(counts)
    assert model.net_.returns_ > 0
    assert not np.isfinite(model.loss_curve_).all()
    assert model.best_loss_ < 0.4 * model.linear_loss_


@pytest.mark.parametrize("step", [25, 40])
def test_a_fit_that_diverged_goes_on_as_it_would_have(step, curve, tmp_path, monkeypatch):
    monkeypatch.setattr(Poison, "epochs", (3, 5))
    model = AutoencoderTransformer(max_iter=9, random_state=0, callbacks=[Poison()])
    expected = AutoencoderTransformer(**model.get_params()).fit(curve)
    model.set_params(checkpoint=tmp_path)
    kill_at(step, lambda: model.fit(curve))
    found = model.fit(curve)
    assert found.net_.returns_ == 2
    np.testing.assert_array_equal(found.loss_curve_, expected.loss_curve_)
    np.testing.assert_array_equal(found.transform(curve), expected.transform(curve))


# Real processes, really killed.

FIT = """
import sys, numpy as np
from skorch.callbacks import Callback
from skae import VAEGenerator, _checkpoint
_checkpoint.SECONDS = 0.0
X = np.random.RandomState(0).normal(size=(300, 6)) ** 3
class Log(Callback):
    def on_epoch_end(self, net, **kwargs):
        print(len(net.history), flush=True)
print("ready", flush=True)
model = VAEGenerator(2, max_iter=200, early_stopping=False, n_iter_no_change=200, callbacks=[Log()], random_state=0)
model.set_params(checkpoint=sys.argv[1]).fit(X)
np.save(sys.argv[2], np.concatenate([p.detach().numpy().ravel() for p in model.net_.module_.parameters()]))
"""


def start(folder, result):
    process = subprocess.Popen([sys.executable, "-c", FIT, folder, result], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_an_epoch_each_at_most(tmp_path):
    """A state is written after each epoch here, so that much of the time goes into writing."""
    rng, folder, known = random.Random(0), tmp_path / "killed", 0
    for _ in range(20):
        with start(folder, tmp_path / "none.npy") as process:
            done = [process.stdout.readline() for _ in range(rng.randrange(10))]
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
            done = "".join(done) + process.stdout.read()
        assert process.returncode == -9, "it ended before it was killed"
        known = max([known, *map(int, done.split())])
        if not (folder / FILE).exists():
            assert known == 0
            continue
        epochs, outcome = epochs_kept(folder)
        assert outcome is None
        assert epochs >= known - 1
        with zipfile.ZipFile(folder / FILE) as archive:
            assert archive.testzip() is None
    assert known > 40
    for name in ("killed", "whole"):
        with start(tmp_path / name, tmp_path / f"{name}.npy") as process:
            process.stdout.read()
        assert process.returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "killed.npy"), np.load(tmp_path / "whole.npy"))
    assert [path.name for path in folder.iterdir()] == [FILE]
