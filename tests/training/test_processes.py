"""One training in several processes, as a launcher starts them."""

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from training_cases import built, samples

from skae.training.callbacks import BestWeights
from skae.training.distributed import SINGLE_PROCESS, device_for, is_shared, join_processes

COMMON = f"""
import hashlib, json, os, signal, sys, warnings
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
import torch
from skorch.callbacks import Callback
from training_cases import Counting, Sampling, Scaled, Toy, built, parts, samples, weights
from skae.training.callbacks import BestWeights
from skae.training.distributed import join_processes
warnings.simplefilter("ignore")
rank = int(os.environ.get("RANK", 0))
processes = join_processes("accelerate")
t = np.random.RandomState(0).uniform(-2, 2, size=(405, 1))
X = np.hstack([t, t**2, np.sin(2 * t), np.cos(t), t**3 / 3]) + 0.02 * np.random.RandomState(1).normal(size=(405, 5))

def digest(net):
    return hashlib.sha256(b"".join(part.tobytes() for part in weights(net).values())).hexdigest()

def train(module=None, *, epochs=5, validates=True, X=X, seed=0, **parameters):
    net = built(module, **parameters)
    net.processes = processes
    training, validation = parts(X) if validates else (samples(X), None)
    torch.manual_seed(seed)
    net.train(training, validation, epochs, BestWeights(100, 0.0))
    return net

def tell(**found):
    with open(f"told{{rank}}.json", "w") as file:
        json.dump(found, file)
    if processes.size > 1:
        torch.distributed.destroy_process_group()
"""


def launched(code, folder, n_processes=2):
    """What each process told; with one process it is started as any script."""
    script = folder / "script.py"
    script.write_text(COMMON + dedent(code))
    command = [sys.executable]
    if n_processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    # What ends too late was waiting for a process that is gone.
    done = subprocess.run([*command, str(script)], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(n_processes)]


@pytest.mark.slow
def test_two_processes_end_with_one_net_that_learns_as_that_of_one(tmp_path):
    code = """
    large = train(batch_size=405, validates=False)
    noisy = train(iterator_train__noise=torch.full((5,), 0.2))
    counting, sampling = train(Counting(), uses_globals=True, seed=rank), train(Sampling())
    exact = train(Scaled(seed=rank), seed=rank)
    passes = built()
    passes.processes = processes
    passes.train_once(samples(X[:200]))
    passes.train_once(samples(X[200:]))
    tell(
        agreed=[digest(net) for net in (large, noisy, counting, sampling, exact, passes)],
        told=[[net.outcome_, net.history[:, "train_loss"]] for net in (large, noisy, counting)],
        exact=exact.module_.scaler.mean.tolist(),
        whole=large.history[:, "train_loss"],
        valid=sampling.history[:, "valid_loss"],
    )
    """
    first, second = launched(code, tmp_path)
    (alone,) = launched(code, tmp_path, n_processes=1)
    assert first == second
    # Batches of all samples are one process's, so gradients are, however they are shared.
    np.testing.assert_allclose(first["whole"], alone["whole"], rtol=1e-4)
    assert first["valid"][-1] < first["valid"][0]
    assert first["exact"] == alone["exact"] == [1 / 3] * 3
    assert first["agreed"] != alone["agreed"]


@pytest.mark.slow
def test_processes_stop_together_and_first_speaks_for_all(tmp_path):
    """A signal or a callback of one of them is one of all."""
    code = """
    class Interrupt(Callback):
        def on_batch_end(self, net, training, **kwargs):
            if training and rank == 1 and len(net.history) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    class Leave(Callback):
        def on_epoch_end(self, net, **kwargs):
            if rank == 1 and len(net.history) == 3:
                raise KeyboardInterrupt

    nets = [train(callbacks=[callback]) for callback in (Interrupt(), Leave())]
    found = [[digest(net), net.outcome_, len([row for row in net.history if "dur" in row])] for net in nets]
    diverged = train(lr=1e30)
    messages = []
    for function in (lambda: 1 / 0, lambda: train(X=X[: processes.size - 1], validates=False)):
        try:
            processes.of_first(function) if not messages else function()
        except (ZeroDivisionError, ValueError) as error:
            messages.append(str(error))
    values = [processes.of_first(lambda: 7), processes.all(2), [float(n) for n in processes.sums(1, 2.5)]]
    tell(found=found, diverged=digest(diverged), how=diverged.outcome_, messages=messages, values=values)
    """
    first, second = launched(code, tmp_path)
    assert first == second
    assert [outcome for _, outcome, _ in first["found"]] == ["interrupted", "callback"]
    assert [n_epochs for *_, n_epochs in first["found"]] == [2, 3]
    assert first["how"] == "diverged"
    assert first["messages"][0] == "division by zero"
    assert first["messages"][1].startswith("1 samples are too few for 2 processes. Start fewer.")
    assert first["values"] == [7, [2, 2], [2, 5]]


def test_one_process_agrees_with_itself(curve):
    net = built()
    assert net.processes is SINGLE_PROCESS
    assert SINGLE_PROCESS.of_first(lambda: 3) == 3
    assert SINGLE_PROCESS.all(3) == [3]
    assert SINGLE_PROCESS.sums(1, 2) == (1, 2)
    assert [SINGLE_PROCESS.n_batches(n, 10) for n in (0, 10, 11)] == [1, 1, 2]
    net.train(samples(curve), None, 1, BestWeights(1, 0.0))
    assert net.generators_.own is net.iterator_train__generator


def test_a_device_of_its_own_is_left_to_accelerate():
    assert is_shared("accelerate")
    assert not any(map(is_shared, ("auto", "cpu", torch.device("cpu"))))
    assert device_for("cpu") == device_for(torch.device("cpu")) == torch.device("cpu")
    assert device_for("accelerate").type in ("cpu", "cuda")
    assert join_processes("cpu") is join_processes("accelerate") is SINGLE_PROCESS
    with pytest.raises(ValueError, match=r"device='mps' is not usable on this machine .*'cpu' or 'accelerate'"):
        device_for("mps")


def test_processes_that_accelerate_takes_for_one_are_refused(monkeypatch):
    join_processes("accelerate")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"WORLD_SIZE=2 .* Accelerator\(cpu=True\)"):
        join_processes("accelerate")


def test_fits_side_by_side_are_refused_where_processes_share_each(monkeypatch):
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    with (
        parallel_config("threading"),
        pytest.raises(ValueError, match=r"the 2 processes.*Search with n_jobs=1, or use device='auto'"),
    ):
        Parallel(n_jobs=2)(delayed(join_processes)("accelerate") for _ in range(2))


def test_without_accelerate_its_absence_is_named(monkeypatch):
    original = builtins.__import__

    def without_accelerate(name, *rest, **named):
        if name.split(".")[0] == "accelerate":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_accelerate)
    for function in (device_for, join_processes):
        with pytest.raises(ImportError, match="pip install accelerate"):
            function("accelerate")
    assert device_for("cpu") == torch.device("cpu")
