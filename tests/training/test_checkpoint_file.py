"""Nothing lost: training that is killed goes on to the same end, and what cannot be kept is reported in time."""

import errno
import io
import math
import os
import pickle
import random
import re
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
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.optim import lr_scheduler
from training_cases import (
    Counting,
    Poison,
    Sampling,
    Scaled,
    Toy,
    assert_same_training,
    trained,
)

from skae.data.rows import ArrayRows, FileRows, SparseRows
from skae.training import checkpoint as module
from skae.training.checkpoint import LOCK, NAME, Checkpoint, differences, fingerprint, glimpse, plain
from skae.training.net import Net
from skae.training.optim import Adam

IDENTITY = {"estimator": "Toy", "max_iter": 5, "alpha": 0.1}


class Killed(BaseException):
    """What ends training in the middle of a step; nothing in skae catches it."""


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """A state is written after each epoch, not once in ten seconds."""
    monkeypatch.setattr(module, "SECONDS", 0.0)


def opened(folder, **changed):
    return Checkpoint(folder, IDENTITY | changed, seed=7)


def kept_in(folder):
    """Train as the folder says, and let go of it."""

    def train(X, *args, **parameters):
        with opened(folder) as checkpoint:
            return trained(X, *args, checkpoint=checkpoint, **parameters)

    return train


def kill_at(step, train):
    """Train as far as this step of the optimiser."""
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
            train()


def epochs_kept(folder):
    """Epochs in the history of a checkpoint, and how training ended, if it did."""
    state = module.read(folder / NAME)["state"]
    return len(state["history"]), state["outcome"]


def files_in(folder):
    return {path.name for path in folder.iterdir()} - {LOCK}


CASES = {
    "default": dict,
    "no validation set": lambda: {"validates": False, "averaged": False},
    "noise and a penalty": lambda: {"iterator_train__noise": torch.full((5,), 0.3), "alpha": 0.1},
    "relative": lambda: {"relative": True},
    "clipped": lambda: {"clipped": True},
    "draws of codes": lambda: {"module": Sampling()},
    "global generators": lambda: {"module": Counting(), "uses_globals": True},
    "rates of a callback": lambda: {"callbacks": [LRScheduler("StepLR", step_size=2, gamma=0.3)]},
    "rates of NumPy": lambda: {
        "callbacks": [LRScheduler("LambdaLR", lr_lambda=lambda epoch: np.float64(0.9) ** epoch)]
    },
    "rates by the loss": lambda: {"callbacks": [LRScheduler("ReduceLROnPlateau", patience=0)]},
    "divergence": lambda: {"callbacks": [Poison(2, 4)]},
}


@pytest.mark.parametrize(("name", "step"), [*((name, 20) for name in CASES), ("default", 1), ("default", 45)])
def test_training_that_was_killed_ends_as_if_it_had_not_been(name, step, curve, tmp_path):
    expected = trained(curve, **CASES[name]())
    kill_at(step, lambda: kept_in(tmp_path)(curve, **CASES[name]()))
    found = kept_in(tmp_path)(curve, **CASES[name]())
    assert_same_training(found, expected)
    assert files_in(tmp_path) == {NAME}


@pytest.mark.parametrize("step", [30, 50])
def test_training_goes_on_with_its_patience(step, curve, tmp_path):
    """So much is asked of an improvement that no epoch is one."""
    limits = {"epochs": 40, "patience": 8, "tol": 10.0}
    expected = trained(curve, **limits)
    assert (expected.outcome_, len(expected.history)) == ("patience", 8)
    kill_at(step, lambda: kept_in(tmp_path)(curve, **limits))
    assert_same_training(kept_in(tmp_path)(curve, **limits), expected)


def test_training_goes_on_with_the_norm_of_gradients_that_clips_them(curve, tmp_path, monkeypatch):
    kill_at(20, lambda: kept_in(tmp_path)(curve, clipped=True))
    first, clip = [], Adam.clip_gradients

    def spy(optimizer):
        first.append(optimizer.mean_norm)
        clip(optimizer)

    monkeypatch.setattr(Adam, "clip_gradients", spy)
    kept_in(tmp_path)(curve, clipped=True)
    assert first[0] > 0


def test_killed_again_and_again(curve, tmp_path):
    expected = trained(curve, Counting(), uses_globals=True)
    for i in range(1, 5):
        kill_at(12, lambda: kept_in(tmp_path)(curve, Counting(), uses_globals=True))  # an epoch has nine steps
        assert epochs_kept(tmp_path) == (i, None)
    assert_same_training(kept_in(tmp_path)(curve, Counting(), uses_globals=True), expected)


def test_training_that_had_ended_is_given_at_once(curve, tmp_path, monkeypatch):
    expected = kept_in(tmp_path)(curve)
    assert epochs_kept(tmp_path) == (5, "budget")
    written = (tmp_path / NAME).stat().st_mtime_ns
    monkeypatch.setattr(Net, "train_step", lambda *args, **kwargs: pytest.fail("it trained"))
    assert_same_training(kept_in(tmp_path)(curve), expected)
    assert (tmp_path / NAME).stat().st_mtime_ns == written


def test_a_network_of_another_shape_is_refused(curve, tmp_path):
    kill_at(20, lambda: kept_in(tmp_path)(curve, Toy(4)))
    with pytest.raises(ValueError, match=r"(?s)of another net. Use that net"):
        kept_in(tmp_path)(curve, Toy(5))


@pytest.mark.parametrize("part", [("weights",), ("best", "weights")])
def test_weights_that_are_not_finite_are_not_taken(part, curve, tmp_path):
    kept_in(tmp_path)(curve)
    content = module.read(tmp_path / NAME)
    place = content["state"]
    for name in part:
        place = place[name]
    place["decoder.0.weight"][0, 0] = torch.nan
    module.write(tmp_path / NAME, content)
    with pytest.raises(ValueError, match=r"decoder\.0\.weight has numbers that are not finite"):
        kept_in(tmp_path)(curve)


NAN = float("nan")


def state_of(**further):
    return {"outcome": None, "history": [], "weights": {"a": torch.arange(3.0)}, "best": {}} | further


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("weights/encoder.weight", lambda part: part[:, :3], r"encoder.weight is of float32 and shape \(1, 3\), not"),
        ("weights/encoder.weight", lambda part: part.double(), "encoder.weight is of float64"),
        ("weights/encoder.weight", lambda part: part[:, :1].expand(1, 10**9), "shape .*1000000000"),
        ("best/weights/encoder.bias", lambda part: part[:0], r"encoder.bias is of float32 and shape \(0,\)"),
        ("best/weights", lambda part: {}, "the weights of the net has entries missing, or too many"),
        ("best/loss", lambda part: NAN, "loss is nan"),
        ("best/loss", lambda part: -float("inf"), "loss is -inf"),
        ("best/_waited", lambda part: -1, "_waited is -1"),
        ("best/_bar", None, "best has entries missing, or too many: _bar"),
        ("best", lambda part: [], r"best is \[\], not a dict"),
        ("average", lambda part: [part], "average is list, not an array of float32"),
        ("average", lambda part: part[:2], r"average is of float32 and shape \(2,\)"),
        ("average", lambda part: part * NAN, "average has numbers that are not finite"),
        ("optimizer/state/0/exp_avg", lambda part: part.flatten()[:1], r"exp_avg is of float32 and shape \(1,\)"),
        ("optimizer/state/0/exp_avg_sq", lambda part: part - 1, "exp_avg_sq has -.*, less than 0"),
        ("optimizer/state/0/step", lambda part: part[None], r"step is of float32 and shape \(1,\)"),
        ("optimizer/state/0", lambda part: part | {"max_exp_avg_sq": 0}, "group 0 has entries .*max_exp_avg_sq"),
        ("optimizer/param_groups/0/lr", lambda part: -1e-3, "lr is -0.001"),
        ("optimizer/param_groups/0/lr", lambda part: NAN, "lr is nan"),
        ("optimizer/param_groups/0/betas", lambda part: [1.5, 0.999], r"betas are \[1\.5, 0\.999\], not less than 1"),
        ("optimizer/param_groups/0/amsgrad", lambda part: True, "amsgrad is True, not one of False"),
        ("optimizer/param_groups", lambda part: part * 2, "exp_avg is of float32 and shape"),
        ("optimizer/param_groups", lambda part: part * 3, "param_groups is .*, not a list of 1"),
        ("optimizer", lambda part: None, "param_groups is missing"),
        ("generators/0", lambda part: part[:100], r"generators is of uint8 and shape \(100,\)"),
        ("generators/0", lambda part: torch.full_like(part, 255), "Invalid mt19937 state|mt19937"),
        ("generators", lambda part: [], r"generators is \[\], not a list of 1"),
        ("schedules", lambda part: [], r"schedules is \[\], not a list of 1"),
        ("gradient_scale", lambda part: NAN, "gradient_scale is nan"),
        ("returns", lambda part: True, "returns is True"),
        ("layers", lambda part: part + " ", "the net has other layers"),
        (
            "history/0",
            lambda part: {"batches": [], "dur": 1.0},
            "the history has an epoch without train_loss, valid_loss",
        ),
        ("history/0/train_batch_count", lambda part: "9", "has a number of batches that is no integer"),
        ("history", lambda part: part * 9, "the history has 18 epochs, more than the 5 of this fit"),
        *[(name, None, "is missing") for name in ("optimizer", "generators", "schedules", "average", "returns")],
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)
def test_a_state_that_this_training_cannot_have_is_refused_with_the_entry(path, change, message, curve, tmp_path):
    kill_at(20, lambda: kept_in(tmp_path)(curve))
    content = module.read(tmp_path / NAME)
    *way, last = (int(name) if name.isdigit() else name for name in path.split("/"))
    place = content["state"]
    for name in way:
        place = place[name]
    if change is None:
        del place[last]
    else:
        place[last] = change(place[last])
    module.write(tmp_path / NAME, content)
    with pytest.raises(ValueError, match=message) as caught:
        kept_in(tmp_path)(curve)
    assert re.search(r"checkpoint='.*' holds no state of this fit \(.*name another folder", str(caught.value))


@pytest.mark.parametrize("part", [("weights",), ("best", "weights")])
def test_what_training_does_not_change_is_that_of_the_start(part, curve, tmp_path):
    expected = trained(curve, Scaled())
    kill_at(20, lambda: kept_in(tmp_path)(curve, Scaled()))
    content = module.read(tmp_path / NAME)
    place = content["state"]
    for name in part:
        place = place[name]
    place["scaler.mean"] = place["scaler.mean"] * 1.001
    module.write(tmp_path / NAME, content)
    assert_same_training(kept_in(tmp_path)(curve, Scaled()), expected)


@pytest.mark.parametrize(
    ("policy", "settings", "changed", "message"),
    [
        (
            "StepLR",
            {"step_size": 2},
            {"step_size": 0},
            "schedules has entries|has entries missing, or too many: step_size",
        ),
        ("StepLR", {"step_size": 2}, {"last_epoch": 19}, "last_epoch is 19, not an integer from 0 to 18"),
        ("CosineAnnealingWarmRestarts", {"T_0": 3}, {"T_i": 0}, "T_i of a schedule is 0, not positive"),
        ("ReduceLROnPlateau", {"patience": 0}, {"best": NAN}, "best is nan"),
    ],
)
def test_a_schedule_of_a_callback_is_checked(policy, settings, changed, message, curve, tmp_path):
    def train():
        return kept_in(tmp_path)(curve, callbacks=[LRScheduler(getattr(lr_scheduler, policy), **settings)])

    kill_at(20, train)
    content = module.read(tmp_path / NAME)
    content["state"]["schedules"][0] |= changed
    module.write(tmp_path / NAME, content)
    with pytest.raises(ValueError, match=message):
        train()


def test_settings_of_the_optimiser_are_those_of_the_fit(curve, tmp_path):
    """A file may hold other ones: it only says how far the rates have come."""
    expected = trained(curve, epochs=5)
    kill_at(20, lambda: kept_in(tmp_path)(curve))
    content = module.read(tmp_path / NAME)
    content["state"]["optimizer"]["param_groups"][0] |= {"eps": 0.5, "weight_decay": 3}
    content["state"]["optimizer"]["param_groups"][0]["params"].reverse()
    module.write(tmp_path / NAME, content)
    assert_same_training(kept_in(tmp_path)(curve), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": True}, "missing or of another type"),
        ({"seed": 0.5}, "missing or of another type"),
        ({"identity": {"X": torch.zeros(3)}}, "not JSON serializable"),
        ({"format": "1"}, "damaged, or not skae's"),
        ({"state": state_of(outcome=torch.zeros(3))}, "missing or of another type"),
        ({"state": state_of(outcome="untrained")}, "missing or of another type"),
        ({"format": 2, "skae": "9.9"}, r"is of skae 9\.9, which"),
    ],
    ids=str,
)
def test_what_surrounds_a_state_is_checked(changed, message, tmp_path):
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state_of())
    module.write(tmp_path / NAME, module.read(tmp_path / NAME) | changed)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are POSIX's")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
def test_only_a_regular_file_of_a_plausible_size_is_read(kind, tmp_path):
    make = {
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "folder": Path.mkdir,
        "large": lambda path: (path.touch(), os.truncate(path, 2**40)),  # it holds nothing, and takes no disk space
    }
    make[kind](tmp_path / NAME)
    with pytest.raises(ValueError, match="it is not a regular file of at most"):
        opened(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX's")
def test_a_state_is_not_written_through_a_link_or_a_pipe(tmp_path):
    (tmp_path / "mine").write_text("mine")
    draft = tmp_path / f"{NAME}.tmp"
    with opened(tmp_path) as checkpoint:
        for make in (lambda: draft.symlink_to(tmp_path / "mine"), lambda: os.mkfifo(draft)):
            make()
            checkpoint.save(state_of(), first=True)
            assert epochs_kept(tmp_path) == (0, None)
    assert (tmp_path / "mine").read_text() == "mine"


# The folder and its file.


def test_a_state_comes_back_as_it_was(tmp_path):
    state = state_of(
        weights={"single": torch.randn(3), "double": torch.randn(2, 2).double(), "long": torch.tensor(3)},
        schedules=[{"_last_lr": [np.float64(0.1)], "last_epoch": 3}],
        optimizer={
            "state": {0: {"step": torch.tensor(1.0)}},
            "param_groups": [{"betas": (0.9, 0.999), "foreach": None}],
        },
        generators=[torch.get_rng_state()],
        extra=np.arange(4),
    )
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state)
    with opened(tmp_path) as again:
        found = again.take()
        assert again.take() is None
    for name, part in state["weights"].items():
        assert torch.equal(found["weights"][name], part)
        assert found["weights"][name].dtype == part.dtype
    assert found["schedules"] == [{"_last_lr": [0.1], "last_epoch": 3}]
    assert type(found["schedules"][0]["_last_lr"][0]) is float
    assert found["optimizer"]["state"] == {0: {"step": torch.tensor(1.0)}}
    assert found["optimizer"]["param_groups"] == [{"betas": [0.9, 0.999], "foreach": None}]
    assert torch.equal(found["generators"][0], state["generators"][0])
    assert torch.equal(found["extra"], torch.arange(4))


def test_the_file_holds_tensors_and_plain_values_and_torch_opens_it(curve, tmp_path):
    class Records(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("a number", np.float32(2.5))
            net.history.record("an object", object())
            net.history.record("odd keys", {(1, 2): 3, "even": 4})

    kept_in(tmp_path)(curve, callbacks=[Records()])
    content = torch.load(tmp_path / NAME, weights_only=True)
    assert "encoder.weight" in content["state"]["best"]["weights"]
    last = content["state"]["history"][-1]
    assert last["a number"] == 2.5
    assert "object" in last["an object"]
    assert last["odd keys"] == {"even": 4}


class WithObject(Toy):
    def get_extra_state(self):
        return object()

    def set_extra_state(self, state):
        pass


def test_what_could_not_be_read_again_is_an_error_before_training(curve, tmp_path, monkeypatch):
    monkeypatch.setattr(Net, "train_step", lambda *args, **kwargs: pytest.fail("it trained"))
    with pytest.raises(TypeError, match=r"keeps arrays, numbers and text\. A module holds <object .*, which is none"):
        kept_in(tmp_path)(curve, WithObject())
    assert not files_in(tmp_path)


def test_a_state_is_written_at_most_once_in_the_interval(curve, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 10.0)
    clock, written = 0.0, []
    monkeypatch.setattr(module.time, "monotonic", lambda: clock)
    write = module.write

    def note(path, content):
        written.append(clock)
        write(path, content)

    class Clock(Callback):
        def on_epoch_end(self, net, **kwargs):
            nonlocal clock
            clock += 4.0

    monkeypatch.setattr(module, "write", note)
    kept_in(tmp_path)(curve, epochs=8, callbacks=[Clock()])
    assert written == [0.0, 12.0, 24.0, 32.0]  # before, twice between, and at the end


def no_room(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_an_error_before_training(curve, tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "fsync", no_room)
    monkeypatch.setattr(Net, "train_step", lambda *args, **kwargs: pytest.fail("it trained"))
    with pytest.raises(OSError, match=r"No space left on device.*Name one that can be written and has room"):
        kept_in(tmp_path)(curve)
    assert not files_in(tmp_path)


def test_a_disk_that_fills_up_is_one_warning_and_no_end(curve, tmp_path):
    expected = trained(curve)
    with pytest.MonkeyPatch.context() as patch:

        class FillsTheDisk(Callback):
            def on_epoch_begin(self, net, **kwargs):
                if len(net.history) == 3:
                    patch.setattr(module.os, "fsync", no_room)

        with pytest.warns(UserWarning, match="No space left on device.*Training goes on") as caught:
            found = kept_in(tmp_path)(curve, callbacks=[FillsTheDisk()])
    assert len(caught) == 1
    assert_same_training_but_batches(found, expected)
    assert epochs_kept(tmp_path) == (2, None)
    assert files_in(tmp_path) == {NAME}
    assert_same_training_but_batches(kept_in(tmp_path)(curve), expected)
    assert epochs_kept(tmp_path) == (5, "budget")


def assert_same_training_but_batches(found, expected):
    """Callbacks have the history tell of batches, too."""
    for net in (found, expected):
        for row in net.history:
            row["batches"] = []
    assert_same_training(found, expected)


@pytest.mark.skipif(os.name != "posix", reason="limits of this kind are POSIX's")
def test_a_real_limit_of_the_system_leaves_no_half_file(curve, tmp_path):
    """No file may have more than 5,000 bytes: writing fails in the middle."""
    found = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, found[1]))
    try:
        with pytest.raises(OSError, match=r"File too large.*Name one that can be written"):
            kept_in(tmp_path)(curve)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, found)
    assert not files_in(tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="is no folder that a fit can keep its state in"):
            opened(folder)
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)  # the superuser may write anywhere
    with pytest.raises(OSError, match="it is read-only"):
        opened(tmp_path)


def test_a_finished_fit_may_be_read_only(curve, tmp_path, monkeypatch):
    expected = kept_in(tmp_path)(curve)
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    monkeypatch.setattr(module, "write", no_room)
    assert_same_training(kept_in(tmp_path)(curve), expected)


def test_two_fits_at_once_in_one_folder_are_refused_until_the_first_has_ended(tmp_path):
    with opened(tmp_path), pytest.raises(OSError, match="another fit, which still runs, keeps its own there"):
        opened(tmp_path)
    with pytest.raises(Killed), opened(tmp_path):
        raise Killed
    with opened(tmp_path):
        pass
    assert not files_in(tmp_path)


def test_another_process_holds_the_folder_until_it_is_killed(tmp_path):
    """The other locks the file that a fit locks; as a fit it would import skae, for seconds."""
    code = "import sys, time, filelock\nlock = filelock.FileLock(sys.argv[1])\nlock.acquire()\n"
    code += "print('ready', flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / LOCK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(OSError, match="another fit, which still runs"):
            opened(tmp_path)
        process.kill()
    with opened(tmp_path):
        pass


def test_a_file_system_without_locks_takes_one_fit(tmp_path, monkeypatch):
    import filelock

    def unsupported(self):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", unsupported)
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state_of(), first=True)
    assert epochs_kept(tmp_path) == (0, None)


def test_a_checkpoint_that_goes_to_another_process_leaves_its_lock_behind(tmp_path):
    with opened(tmp_path) as checkpoint:
        twin = pickle.loads(pickle.dumps(checkpoint))
        assert twin.seed == 7
        with twin:
            pass
        with pytest.raises(OSError, match="another fit"):
            opened(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_iter": 4}, r"differs in max_iter=4 \(there 5\)\. .*To resume, restore that, or name another folder"),
        ({"alpha": 0.2, "widths": [8]}, r"differs in alpha=0.2 \(there 0.1\), widths=\[8\] \(there 'absent'\)\. "),
        ({"estimator": "Other"}, r"holds another fit, which differs in estimator='Other' \(there 'Toy'\)\. "),
    ],
)
def test_another_fit_is_refused_by_what_differs(changed, message, tmp_path):
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state_of())
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, **changed)
    assert (tmp_path / NAME).read_bytes() == before


def test_the_seed_is_that_of_the_fit_in_the_folder(tmp_path):
    with opened(tmp_path) as checkpoint:
        assert checkpoint.seed == 7
        checkpoint.save(state_of())
    with Checkpoint(tmp_path, IDENTITY, seed=8) as again:
        assert again.seed == 7


def test_a_newer_format_is_refused_with_both_versions(tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path) as checkpoint:
        patch.setattr(module, "FORMAT", 2)
        patch.setattr(module, "__version__", "7.1")
        checkpoint.save(state_of())
    with pytest.raises(ValueError, match=r"is of skae 7\.1, which \d\S+ cannot read\. Update skae, or name"):
        opened(tmp_path)


DAMAGED = rf"has a {NAME} that is damaged.*delete {NAME} for a new fit"


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:5], lambda b: b[: len(b) // 2], lambda b: b + b"x"])
def test_a_file_that_is_cut_or_longer_is_said_to_be_damaged(damage, tmp_path):
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state_of())
    (tmp_path / NAME).write_bytes(damage((tmp_path / NAME).read_bytes()))
    with pytest.raises(ValueError, match=DAMAGED):
        opened(tmp_path)


def test_a_thousand_changed_bytes_are_each_said_to_be_damage(tmp_path):
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state_of(weights={"a": torch.randn(100)}))
    whole, rng = (tmp_path / NAME).read_bytes(), random.Random(0)
    for place in rng.sample(range(len(whole)), 1000):
        changed = bytearray(whole)
        changed[place] ^= rng.randrange(1, 256)
        (tmp_path / NAME).write_bytes(changed)
        with pytest.raises(ValueError, match=DAMAGED):
            opened(tmp_path)


def test_a_file_whose_content_is_larger_than_it_is_said_to_be_damaged(tmp_path):
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state_of(weights={"a": torch.zeros(10**6)}))
    data, compressed = (tmp_path / NAME).read_bytes(), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as kept, zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as file:
        for entry in kept.namelist():
            file.writestr(entry, kept.read(entry))
    (tmp_path / NAME).write_bytes(compressed.getvalue() + module.checksum(compressed.getvalue()))
    with pytest.raises(ValueError, match=r"damaged.*its content is larger than the file.*delete"):
        opened(tmp_path)


PARTS = ["state", "seed", "identity", "state/outcome", "state/history", "state/best"]


@pytest.mark.parametrize(("part", "missing"), [*((p, True) for p in PARTS), *((p, False) for p in PARTS[:3])])
def test_a_whole_file_of_other_content_is_said_to_be_damaged(part, missing, tmp_path):
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state_of())
    content = module.read(tmp_path / NAME)
    *way, name = part.split("/")
    place = content[way[0]] if way else content
    if missing:
        del place[name]
    else:
        place[name] = [-1]
    module.write(tmp_path / NAME, content)
    with pytest.raises(ValueError, match=DAMAGED):
        opened(tmp_path)


def test_what_a_killed_fit_left_half_written_is_removed(tmp_path):
    (tmp_path / f"{NAME}.tmp").write_bytes(b"half")
    with opened(tmp_path) as checkpoint:
        checkpoint.save(state_of(), first=True)
    assert files_in(tmp_path) == {NAME}


# What makes a fit the same fit.


def test_samples_are_told_from_others_by_their_values_and_where_they_are(tmp_path):
    X = np.random.RandomState(0).normal(size=(50, 3))
    np.save(tmp_path / "rows.npy", X)
    in_file = FileRows(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    changed = X.copy()
    changed[17, 1] += 1
    for describe in (fingerprint, glimpse):
        text = describe(ArrayRows(X))
        assert text.startswith("float64 50x3 #")
        assert describe(ArrayRows(np.asfortranarray(X))) == describe(X) == text
        assert describe(in_file) == text + " in a file"
        others = [describe(ArrayRows(part)) for part in (X[:49], X.astype(np.float32), changed)]
        assert len({text, *others}) == 4
        assert describe(None) is None


def test_sparse_samples_are_told_from_others_by_their_values():
    X = csr_matrix(np.random.RandomState(0).poisson(0.5, size=(200, 6)).astype(float))
    other = X.copy()
    other.data[0] += 1
    texts = [fingerprint(SparseRows(rows)) for rows in (X, X.copy(), other)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("float64 200x6 #")


def coder(n_in, n_out):
    return nn.Linear(n_in, n_out)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.float64(0.1), 0.1),
        ((8, np.int64(4)), [8, 4]),
        (np.arange(2), [0, 1]),
        ({1: (2,)}, {"1": [2]}),
        (coder, "coder"),
        (nn.Linear, "Linear"),
        (None, None),
        ([LRScheduler("StepLR", step_size=2)], ["LRScheduler(policy='StepLR', monitor='train_loss', "]),
    ],
)
def test_parameters_are_plain_values(value, expected):
    found = plain(value)
    if isinstance(value, list):
        assert found[0].startswith(expected[0])
        assert "step_size=2" in found[0]
    else:
        assert found == expected
        assert type(found) is type(expected)


def test_differences_are_named_with_both_values():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None}) == "b=3 (there 2), c=None (there 'absent')"
    assert not differences({"a": [1]}, {"a": [1]})


# Real processes, really killed.

TRAIN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from skorch.callbacks import Callback
from training_cases import trained
from skae.training import checkpoint
checkpoint.SECONDS = 0.0
X = np.random.RandomState(0).normal(size=(300, 5)) ** 3
class Log(Callback):
    def on_epoch_end(self, net, **kwargs):
        print(len(net.history), flush=True)
print("ready", flush=True)
with checkpoint.Checkpoint(sys.argv[1], {{}}, 0) as kept:
    net = trained(X, epochs=200, validates=False, averaged=False, callbacks=[Log()], checkpoint=kept)
np.save(sys.argv[2], np.concatenate([p.detach().numpy().ravel() for p in net.module_.parameters()]))
"""


def start(folder, result):
    process = subprocess.Popen([sys.executable, "-c", TRAIN, folder, result], stdout=subprocess.PIPE, text=True)
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
        if not (folder / NAME).exists():
            assert known == 0
            continue
        epochs, outcome = epochs_kept(folder)
        assert outcome is None
        assert epochs >= known - 1
    assert known > 40
    for name in ("killed", "whole"):
        with start(tmp_path / name, tmp_path / f"{name}.npy") as process:
            process.stdout.read()
        assert process.returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "killed.npy"), np.load(tmp_path / "whole.npy"))
    assert files_in(folder) == {NAME}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_schedule_with_infinite_numbers_is_resumed(mode, curve, tmp_path):
    def train(function, **options):
        return function(curve, callbacks=[LRScheduler("ReduceLROnPlateau", mode=mode, patience=0)], **options)

    expected = train(trained, epochs=5)
    kill_at(20, lambda: train(kept_in(tmp_path)))
    assert_same_training(train(kept_in(tmp_path)), expected)


@pytest.mark.parametrize("error", ["text", None, 1e300, math.nan])
def test_the_limit_of_the_error_is_that_of_the_fit(error, curve, tmp_path):
    expected = trained(curve, epochs=5)
    kill_at(20, lambda: kept_in(tmp_path)(curve))
    content = module.read(tmp_path / NAME)
    content["state"]["best"]["start_error"] = error
    module.write(tmp_path / NAME, content)
    again = kept_in(tmp_path)(curve)
    assert_same_training(again, expected)
    assert again.best.start_error is not error
