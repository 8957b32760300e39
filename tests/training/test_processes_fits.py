"""One fit in several processes, as a launcher starts them."""

import builtins
import json
import pickle
import runpy
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderTransformer, VAEGenerator

COMMON = """
import hashlib, json, os, signal, sys, time, warnings
import numpy as np
import torch
from skorch.callbacks import Callback
from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error
from skae.data import rows as sources
from skae.training import checkpoint
warnings.simplefilter("ignore")
rank = int(os.environ.get("RANK", 0))
device = "accelerate" if "RANK" in os.environ else "cpu"
t = np.random.RandomState(0).uniform(-2, 2, size=(605, 1))
X = np.hstack([t, t**2, np.sin(2 * t), np.cos(t), t**3 / 3]) + 0.02 * np.random.RandomState(1).normal(size=(605, 5))
X, test = X[:405], X[405:]

def weights(model):
    arrays = model.net_.get_state()["weights"].values()
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).hexdigest()

def told(model):
    answers = hashlib.sha256(model.transform(test).tobytes() + model.score_samples(test).tobytes()).hexdigest()
    return [weights(model), answers, model.n_iter_, model.loss_curve_, model.validation_loss_curve_, model.best_loss_]

def tell(**found):
    with open(f"told{rank}.json", "w") as file:
        json.dump(found, file)
"""


def launched(code, folder, n_processes=2, succeeds=True):
    """Return what each process wrote; a single process is this one."""
    script = folder / "script.py"
    script.write_text(COMMON + dedent(code))
    if n_processes == 1:
        with chdir(folder):
            return [runpy.run_path(str(script)) and json.loads(Path("told0.json").read_text())]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    # What ends too late was waiting for a process that is gone.
    done = subprocess.run([*command, str(script)], cwd=folder, capture_output=True, text=True, timeout=120)
    if not succeeds:
        return done
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(n_processes)]


def test_two_processes_end_with_one_model_as_good_as_that_of_one(tmp_path):
    code = """
    from sklearn.datasets import load_digits
    digits = load_digits().data
    ae = AutoencoderTransformer(8, max_iter=5, device=device, random_state=0).fit(digits[:600])
    vae = VAEGenerator(1, max_iter=9, device=device, random_state=0).fit(X)
    # At a low rate, since training at a high one amplifies the rounding of sums.
    large = {"batch_size": 405, "max_iter": 5, "learning_rate_init": 1e-3, "device": device, "random_state": 0}
    whole = AutoencoderTransformer(2, **large).fit(X).loss_curve_
    unseeded = AutoencoderTransformer(1, max_iter=2, device=device).fit(X).partial_fit(X)
    tell(
        agreed=[weights(ae), told(vae), weights(unseeded)],
        error=reconstruction_error(ae, digits[600:]), gain=vae.linear_loss_ - vae.best_loss_, whole=whole,
    )
    """
    first, second = launched(code, tmp_path)
    (alone,) = launched(code, tmp_path, n_processes=1)
    assert first == second
    assert first["error"] == pytest.approx(alone["error"], rel=0.02)
    assert first["gain"] > 0
    # Batches of all rows are one process's, so gradients are, however they are shared.
    np.testing.assert_allclose(first["whole"], alone["whole"], rtol=1e-4)
    assert first["agreed"] != alone["agreed"]


@pytest.mark.slow
def test_ranks_agree_whatever_the_rows_and_the_net(tmp_path):
    code = """
    sources.STREAMED_FROM = 100
    if rank == 0:
        np.save("draft.npy", X), os.replace("draft.npy", "rows.npy")
    while not os.path.exists("rows.npy"):
        time.sleep(0.1)
    in_file = np.load("rows.npy", mmap_mode="r")
    gaps = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
    own = lambda n_in, n_out: torch.nn.Sequential(
        torch.nn.Linear(n_in, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.1), torch.nn.Linear(8, n_out))
    counts = np.random.RandomState(0).poisson(3, size=(200, 6)).astype(float)
    few = {"max_iter": 4, "device": device, "random_state": 0}
    from scipy.sparse import csr_matrix
    models = {
        "file": AutoencoderTransformer(2, **few).fit(in_file),
        "file, VAE": VAEGenerator(2, **few).fit(in_file, X_val=in_file[:100]),
        "gaps": AutoencoderTransformer(2, **few).fit(gaps),
        "noise": AutoencoderTransformer(2, noise=0.2, sparsity=0.01, **few).fit(X),
        "few held out": AutoencoderTransformer(2, **few).fit(X, X_val=X[:1]),
        "none held out": AutoencoderTransformer(2, early_stopping=False, start="random", **few).fit(X),
        "own net": AutoencoderTransformer(2, encoder=own, **few).fit(X),
        "ordered": AutoencoderTransformer("auto", **few).fit(X),
        "ordered VAE": VAEGenerator(3, ordered=True, **few).fit(X),
        "mixture": VAEGenerator(2, prior="mixture", **few).fit(X),
        "batches of one row": AutoencoderTransformer(1, batch_size=1, **few).fit(X[:31]),
        "pieces": AutoencoderTransformer(2, device=device, random_state=0).partial_fit(X[:99]).partial_fit(X[99:]),
    }
    counted = VAEGenerator(2, likelihood="poisson", **few).fit(csr_matrix(counts))
    tell(agreed={name: told(model) for name, model in models.items()} | {"sparse": weights(counted)})
    """
    first, second, third = launched(code, tmp_path, n_processes=3)
    assert first == second == third


@pytest.mark.slow
def test_ranks_stop_together(tmp_path):
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

    found = []
    for callback in (Interrupt(), Leave()):
        model = AutoencoderTransformer(1, callbacks=[callback], device=device, random_state=0).fit(X)
        found.append([told(model), model.net_.outcome_])
    diverged = AutoencoderTransformer(1, learning_rate_init=1e30, device=device, random_state=0).fit(X)
    tell(found=found, diverged=told(diverged), how=diverged.net_.outcome_)
    """
    first, second = launched(code, tmp_path)
    assert first == second
    assert [outcome for _, outcome in first["found"]] == ["interrupted", "callback"]
    assert [of_model[2] for of_model, _ in first["found"]] == [2, 3]
    assert first["how"] == "diverged"


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_with_a_message(tmp_path):
    code = """
    class Die(Callback):
        def on_epoch_end(self, net, **kwargs):
            if rank == 1:
                os._exit(1)

    try:
        AutoencoderTransformer(1, callbacks=[Die()], device=device, random_state=0).fit(X)
    except RuntimeError as error:
        with open("message.txt", "w") as file:
            file.write(str(error))
        raise
    """
    done = launched(code, tmp_path, succeeds=False)
    assert done.returncode != 0
    message = tmp_path / "message.txt"  # unless the launcher was faster
    assert not message.exists() or "Another process of this fit has ended" in message.read_text()
    assert "Another process of this fit has ended" in done.stderr or "exitcode" in done.stderr


@pytest.mark.slow
def test_other_rows_or_parameters_on_one_rank_are_refused_on_all(tmp_path):
    code = """
    messages = []
    for rows, n_components in ((X + rank, 1), (X[rank:], 1), (X, 1 + rank), (X[:3], 1)):
        try:
            AutoencoderTransformer(n_components, max_iter=2, device=device, random_state=rank).fit(rows)
        except ValueError as error:
            messages.append(str(error))
    tell(messages=messages)
    """
    first, second = launched(code, tmp_path)
    assert first == second
    values, shape, parameter = first["messages"]
    assert "X='float64 405x5 #" in values
    assert "X='float64 404x5 #" in shape
    assert "n_components=2 (there 1)" in parameter
    assert all("Process 1" in message for message in first["messages"])


@pytest.mark.slow
def test_a_checkpoint_is_written_by_the_first_rank_and_taken_up_by_all(tmp_path):
    code = """
    checkpoint.SECONDS = 0
    class Die(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 4 and not os.path.exists("again"):
                os._exit(1)

    given = {"max_iter": 6, "device": device, "random_state": 0, "callbacks": [Die()]}
    model = VAEGenerator(1, checkpoint="kept", **given).fit(X)
    tell(agreed=told(model))
    """
    assert launched(code, tmp_path, succeeds=False).returncode != 0
    assert (tmp_path / "kept" / "checkpoint.pt").exists()
    (tmp_path / "again").touch()
    shutil.copytree(tmp_path / "kept", tmp_path / "left")
    (alone,) = launched(code.replace('"kept"', '"left"'), tmp_path, n_processes=1)
    assert alone["agreed"][2] == 6
    first, second = launched(code, tmp_path)
    assert first == second
    assert first["agreed"][2] == 6
    uninterrupted, _ = launched(code.replace('"kept"', '"fresh"'), tmp_path)
    assert first == uninterrupted


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_without_a_launcher_it_is_a_fit_of_one_process(estimator, curve):
    few = {"max_iter": 9, "random_state": 0}
    shared, alone = (estimator(1, device=device, **few).fit(curve) for device in ("accelerate", "auto"))
    np.testing.assert_array_equal(shared.transform(curve), alone.transform(curve))


def test_fits_side_by_side_are_refused_where_processes_share_each(curve, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = AutoencoderTransformer(max_iter=1, device="accelerate")
    search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2, n_jobs=2, error_score="raise")
    with (
        parallel_config("threading"),
        pytest.raises(ValueError, match=r"the 2 processes.*Search with n_jobs=1, or use device='auto'"),
    ):
        search.fit(curve)


def test_what_accelerate_fitted_is_used_without_it(curve, monkeypatch):
    model = AutoencoderTransformer(1, max_iter=2, device="accelerate", random_state=0).fit(curve)
    stored = pickle.dumps(model)
    original = builtins.__import__

    def without_accelerate(name, *rest, **named):
        if name.split(".")[0] == "accelerate":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_accelerate)
    np.testing.assert_array_equal(pickle.loads(stored).transform(curve), model.transform(curve))
    with pytest.raises(ImportError, match="pip install accelerate"):
        AutoencoderTransformer(1, device="accelerate").fit(curve)
