"""Are fits that were killed resumed bit for bit?

A fit with a checkpoint, in a process of its own, gets SIGKILL at a random moment. It is then resumed, and killed again
or left to its end, by chance. Weights, losses and codes at the end must be those of a fit without a checkpoint. All
fits of `changed_files.fits` take turns; a state is written after each epoch, so that many kills strike a write.

Prints one line of JSON: how many kills struck before the first state was written, between two epochs, and after the
last; how many fits were resumed to their end, and those that ended otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from changed_files import fits

from skae.training import checkpoint

EPOCHS = 40
PROCESSES = multiprocessing.get_context("fork")  # they need not import torch again


def fit(name, folder, end):
    """Fit, send what was reached, and wait to be killed."""
    warnings.simplefilter("ignore")
    model, X, arguments = fits()[name]
    model.set_params(checkpoint=folder, max_iter=EPOCHS).fit(X, **arguments)
    reached = hashlib.blake2b(repr((model.loss_curve_, model.validation_loss_curve_, model.best_loss_)).encode())
    for value in (*model.net_.module_.state_dict().values(), model.transform(X)):
        reached.update(np.asarray(value).tobytes())
    end.send(reached.hexdigest())
    signal.pause()


def begun(name, folder):
    """Return the process of a fit, and the end of a pipe that gets what it reached."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=fit, args=(name, folder, theirs))
    process.start()
    theirs.close()
    return process, ours


def reached_by(name, folder=None):
    """Return what an undisturbed fit reaches, None if it fails, and its seconds."""
    began = time.perf_counter()
    process, end = begun(name, folder)
    try:
        reached = end.recv()
    except EOFError:
        reached = None
    seconds = time.perf_counter() - began
    process.kill()
    process.join()
    return reached, seconds


def moment(folder):
    """Return when a fit was killed, by the state in its folder."""
    path = folder / checkpoint.NAME
    if not path.exists():
        return "before the first state"
    return "after the last epoch" if checkpoint.read(path)["state"]["outcome"] else "in the middle"


def kill(name, n_kills, seconds, folder, rng):
    """Kill a fit so often, resuming it in between; yield the moment of each kill."""
    for _ in range(n_kills):
        process, _ = begun(name, folder)
        time.sleep(rng.uniform(0, seconds))
        process.kill()
        process.join()
        yield moment(folder)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", type=int, help="number of kills before the last epoch")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    checkpoint.SECONDS = 0
    rng, names, n_left, n_resumed = np.random.RandomState(arguments.seed), list(fits()), arguments.n, 0
    expected, moments, others = {}, Counter(), []
    while n_left > 0:
        name, n_kills = names[n_resumed % len(names)], min(n_left, rng.geometric(0.5))
        if name not in expected:
            expected[name] = reached_by(name)
        reached, seconds = expected[name]
        folder = Path(tempfile.mkdtemp())
        moments.update(kill(name, n_kills, 0.7 * seconds, folder, rng))
        if reached is None or reached_by(name, folder)[0] != reached:
            others.append(f"{name}, {n_kills} kills, fit {n_resumed} of seed {arguments.seed}")
        shutil.rmtree(folder)
        n_left, n_resumed = arguments.n - sum(moments.values()) + moments["after the last epoch"], n_resumed + 1
    print(json.dumps({"moments": moments, "resumed": n_resumed, "others": others}))


if __name__ == "__main__":
    main()
