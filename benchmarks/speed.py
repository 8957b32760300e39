"""Does skae cost more than the loop you would write by hand, and how soon is it as good as its rivals?

The unit is c: the hand-optimised loop over the same layers, with one permutation an epoch, rows gathered by index,
fused Adam, gradients set to None and no loss fetched before the epoch ends. Rivals take turns in one process, after a
turn that is not counted; a figure is the median over turns of the ratio within a turn, with the least and the largest,
with the targets. Each question has a process of its own, with one thread pinned to a core and again with two.
What a fit does besides epochs (checking X, building the net) is part of skae's time.

Where Keras is installed (on torch; extra ``benchmark``) it is measured; else 1.55 c stand for it. Prints the figures
and writes them to benchmarks/results, JSON and Markdown. ``--quick`` only shows that everything runs: few rows, few
epochs, one process and thread, nothing written.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of this process; those that measure are told theirs

import argparse
import copy
import json
import platform
import subprocess
import sys
import time
import warnings
from datetime import date
from functools import partial
from importlib.util import find_spec
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from quality import RESULTS, stamp, timed_fit
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPRegressor
from skorch import NeuralNet
from skorch.callbacks import Callback
from tables import fashion_mnist
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error, reconstruction_scorer

LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
KERAS = 1.55  # c, measured once; stands for Keras where that is not installed
BATCH = 4096  # rows that the bare encoder takes at once
STATUS = Path("/proc/self/status")


# Data, nets and the rivals that train them.


def images(quick):
    """Training and test images in [0, 1], and their name; numbers at random where Fashion-MNIST is not installed."""
    found = fashion_mnist()
    if found is None:
        rng = np.random.default_rng(0)
        name, train, test = "random images", *(rng.random((n, 784), dtype=np.float32) for n in (60_000, 10_000))
    else:
        name, (train, _, test, _) = "Fashion-MNIST", found
    return (name, train[:1000], test[:250]) if quick else (name, train, test)


def digits():
    return (load_digits().data / 16).astype(np.float32)


def low_rank(n_rows, n_columns):
    """Rows of rank 10 and noise."""
    rng = np.random.default_rng(0)
    codes, directions = (rng.standard_normal(shape, dtype=np.float32) for shape in ((n_rows, 10), (10, n_columns)))
    rows = codes @ directions
    rows += 0.5 * rng.standard_normal(rows.shape, dtype=np.float32)
    return rows


def dense(*hidden, last=None):
    """A builder (n_in, n_out) -> module of linear layers with a relu between any two, and ``last`` behind them."""

    def build(n_in, n_out):
        layers = [layer for pair in pairwise([n_in, *hidden, n_out]) for layer in (nn.Linear(*pair), nn.ReLU())][:-1]
        return nn.Sequential(*layers, *([] if last is None else [last()]))

    return build


class Task(NamedTuple):
    """Rows, the two halves of a net, and how long to train it."""

    name: str
    X: np.ndarray
    n_components: int
    encoder: object
    decoder: object
    batch_size: int
    epochs: int

    def module(self):
        sizes = self.X.shape[1], self.n_components
        return nn.Sequential(self.encoder(*sizes), self.decoder(*sizes[::-1]))

    def fit(self, **parameters):
        """Of skae, on these layers."""
        given = {"encoder": self.encoder, "decoder": self.decoder, "start": "random", "early_stopping": False}
        given |= {"n_iter_no_change": max(1, self.epochs)}
        given |= {"batch_size": self.batch_size, "learning_rate_init": 1e-3, "random_state": 0}
        model = AutoencoderTransformer(self.n_components, max_iter=self.epochs, **given | parameters).fit(self.X)
        if model.n_iter_ != self.epochs:
            raise RuntimeError(f"{self.name}: {model.n_iter_} epochs in place of {self.epochs}")
        return model


def fashion_task(quick):
    name, X, _ = images(quick)
    return Task(f"{name}, 784-32-784", X, 32, dense(last=nn.ReLU), dense(), batch_size=256, epochs=2 if quick else 10)


def digits_task(quick):
    return Task("digits, 64-32-10-32-64", digits(), 10, dense(32), dense(32), 64, epochs=5 if quick else 100)


def hand_loop(module, X, epochs, batch_size, *, lr=1e-3, valid=None, forward=None, one_cycle=False, device="cpu"):
    """c. Training losses, and validation losses if there are rows for them, of each epoch."""
    X, forward = torch.from_numpy(X).to(device), forward or module.to(device)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=lr, fused=True)
    n_batches = -(-len(X) // batch_size)
    schedule = OneCycleLR(optimizer, lr, total_steps=epochs * n_batches, pct_start=0.1) if one_cycle else None
    losses, validation = [], []
    for _ in range(epochs):
        module.train()
        total = torch.zeros((), device=device)
        for rows in torch.randperm(len(X), device=device).split(batch_size):
            x = X[rows]
            optimizer.zero_grad(set_to_none=True)
            loss = mse_loss(forward(x), x)
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            total += loss.detach() * len(x)
        losses.append(total.item() / len(X))
        if valid is not None:
            module.eval()
            with torch.no_grad():
                rows = torch.from_numpy(valid).to(device)
                parts = [mse_loss(forward(x), x, reduction="sum") for x in rows.split(BATCH)]
            validation.append(float(sum(parts)) / valid.size)
    return losses, validation


def textbook_loop(module, X, epochs, batch_size):
    """The loop of most tutorials."""
    batches = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    for _ in range(epochs):
        total = 0.0
        for (x,) in batches:
            optimizer.zero_grad()
            loss = mse_loss(module(x), x)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)


def plain_skorch(module, X, epochs, batch_size):
    """skorch as it comes: its own iterator, here shuffling too, and its own callbacks."""
    NeuralNet(
        module, criterion=nn.MSELoss, optimizer=torch.optim.Adam, lr=1e-3, batch_size=batch_size, max_epochs=epochs,
        train_split=None, iterator_train__shuffle=True, verbose=0,
    ).fit(X, X)  # fmt: skip


# Measuring.


def seconds_of(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def turns(rivals, rounds):
    """Seconds of each rival, (rounds,), all called in turns; a first turn warms up, and counts if there is no other."""
    seconds = [[seconds_of(call) for call in rivals.values()] for _ in range(1 + rounds)]
    return dict(zip(rivals, np.array(seconds[-max(1, rounds) :]).T, strict=True))


def figure(case, what, values, *, at_most=None, at_least=None, unit=""):
    """One line of the report: the median of values, ratios if they have no unit, and its bar if there is one."""
    values = np.atleast_1d(values)
    spread = {"value": float(np.median(values)), "least": float(values.min()), "largest": float(values.max())}
    return {"case": case, "what": what, "unit": unit, **spread, "at_most": at_most, "at_least": at_least}


def memory(field):
    """Bytes of this process: VmRSS now, VmHWM at its peak."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak_growth(call):
    """Bytes that a call adds to this process at its peak."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before = memory("VmHWM")
    call()
    return memory("VmHWM") - before


def python(code, threads=None):
    """What a fresh interpreter prints last, from JSON; one thread is pinned to a core."""
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        code = f"import os; os.sched_setaffinity(0, [{max(os.sched_getaffinity(0))}])\n{code}"
    limits = dict.fromkeys(LIMITS, str(threads or os.cpu_count()))
    environment = os.environ | limits | {"PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


def in_child(name, *arguments, threads=None):
    """What a function of this script returns in a process of its own."""
    return python(f"import json, speed; print(json.dumps(speed.{name}(*{arguments!r})))", threads)


# The questions: each gives figures.


def training(quick=False):
    """Seconds of a fit of the same layers by skae, by hand, by skorch and by the textbook."""
    for task, bar, skorch_bar in ((fashion_task(quick), 1.0, 2.1), (digits_task(quick), 1.1, 2.3)):
        took = race(task, rounds=0 if quick else 3)
        c, skae, skorch = took["c"], took["skae"], took["skorch"]
        validated = took["skae, validation"] / took["c, validation"]
        yield figure(task.name, "c, an epoch", c / task.epochs, unit="s")
        yield figure(task.name, "skae over c", skae / c, at_most=bar)
        yield figure(task.name, "plain skorch over skae", skorch / skae, at_least=skorch_bar)
        yield figure(task.name, "plain skorch over c", skorch / c)
        yield figure(task.name, "textbook loop over c", took["textbook"] / c)
        yield figure(task.name, "with validation: skae over c", validated, at_most=bar)


def race(task, rounds):
    X, plan = task.X, (task.epochs, task.batch_size)
    valid, rest = np.split(X, [len(X) // 10])
    rivals = {
        "c": lambda: hand_loop(task.module(), X, *plan),
        "skae": task.fit,
        "skorch": lambda: plain_skorch(task.module(), X, *plan),
        "textbook": lambda: textbook_loop(task.module(), X, *plan),
        "c, validation": lambda: hand_loop(task.module(), rest, *plan, valid=valid),
        "skae, validation": lambda: task.fit(early_stopping=True),
    }
    return turns(rivals, rounds)


def default_net(quick=False):
    """Epochs of the default net by skae and by hand; the time of the start is taken off skae's."""
    name, X, _ = images(quick)
    epochs = 2

    def fit(max_iter):
        model = AutoencoderTransformer(32, batch_size=128, max_iter=max_iter, early_stopping=False, random_state=0)
        return model.fit(X)

    started = fit(0)
    rows = started.net_.module_.scaler(torch.from_numpy(X)).numpy()  # as the net sees them

    def by_hand():
        module = copy.deepcopy(started.net_.module_).float()
        hand_loop(module, rows, epochs, 128, lr=3e-3, forward=lambda x: module(x).eta, one_cycle=True)

    rivals = {"start": lambda: fit(0), "skae": lambda: fit(epochs), "hand": by_hand}
    took = turns(rivals, rounds=0 if quick else 3)
    yield figure(name, "hand-written loop of the default net, an epoch", took["hand"] / epochs, unit="s")
    yield figure(name, "start (max_iter=0)", took["start"], unit="s")
    trained = took["skae"] - took["start"]
    yield figure(name, "skae without its start over the hand-written loop", trained / took["hand"], at_most=1.25)
    yield figure(name, f"skae with its start over that, {epochs} epochs", took["skae"] / took["hand"])


def first_fit(quick=False):
    """What the first fit of a process pays, and to whom."""
    fits = """
import json, sys, time
from sklearn.datasets import load_iris
from skae import AutoencoderTransformer
X, seconds = load_iris().data, []
for _ in range(2):
    began = time.perf_counter()
    AutoencoderTransformer(max_iter=1, early_stopping=False).fit(X)
    seconds.append(time.perf_counter() - began)
print(json.dumps([*seconds, "torch._dynamo" in sys.modules]))
"""
    adam = """
import json, sys, time, torch
began = time.perf_counter()
torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
print(json.dumps([time.perf_counter() - began, "torch._dynamo" in sys.modules]))
"""
    dynamo = """
import json, time, torch
began = time.perf_counter()
import torch._dynamo
print(json.dumps(time.perf_counter() - began))
"""
    rounds = [(python(fits, 1), python(adam, 1), python(dynamo, 1)) for _ in range(1 if quick else 5)]
    first, second, loaded = np.array([fit for fit, _, _ in rounds]).T
    optimiser, loaded_by_adam = np.array([adam for _, adam, _ in rounds]).T
    yield figure("iris, max_iter=1", "first fit of a process", first, unit="s")
    yield figure("iris, max_iter=1", "second fit", second, unit="s")
    yield figure("iris, max_iter=1", "share of first fits after which torch._dynamo is loaded", loaded.mean())
    yield figure("bare process", "first torch.optim.Adam(...)", optimiser, unit="s")
    yield figure("bare process", "share of these after which torch._dynamo is loaded", loaded_by_adam.mean())
    yield figure("bare process", "import torch._dynamo", [seconds for _, _, seconds in rounds], unit="s")


def events(quick=False):
    """What it costs that skorch's events have a listener."""
    task = digits_task(quick)
    rivals = {
        "c": lambda: hand_loop(task.module(), task.X, task.epochs, task.batch_size),
        "none": lambda: task.fit(callbacks=None),
        "one": lambda: task.fit(callbacks=[Callback()]),
    }
    took = turns(rivals, rounds=0 if quick else 3)
    yield figure(task.name, "callbacks=None over c", took["none"] / took["c"])
    yield figure(task.name, "callbacks=[one that does nothing] over c", took["one"] / took["c"])


def quality_in_time(quick=False):
    """Seconds until skae is as good as a rival ends, or as half of PCA's error, over the rival's."""
    yield from time_to_the_source(quick)
    yield from time_to_half_of_pca(quick)


def source_by_hand(train, test, epochs):
    """The held-out error of the source text's autoencoder, 784-32-784, trained by c."""
    module = nn.Sequential(dense(last=nn.ReLU)(784, 32), dense(last=nn.Sigmoid)(32, 784))
    return hand_loop(module, train, epochs, 256, valid=test)[1][-1]


def source_in_keras(train, test, epochs):
    """The same in Keras, on torch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    layers = keras.layers
    model = keras.Sequential([layers.Input((784,)), layers.Dense(32, "relu"), layers.Dense(784, "sigmoid")])
    model.compile(optimizer="adam", loss="mse")
    fitted = model.fit(train, train, batch_size=256, epochs=epochs, validation_data=(test, test), verbose=0)
    return fitted.history["val_loss"][-1]


def time_to_the_source(quick):
    """Until the default net, and one of a single hidden layer, are as good as the source text's after its 50 epochs.

    Their budget is the least of a list that is enough on the test rows, while the source text's is as it is given.
    """
    name, train, test = images(quick)
    epochs, timed = (2, 1) if quick else (50, 5)
    measured = find_spec("keras") is not None
    source = source_in_keras if measured else source_by_hand
    torch.manual_seed(0)
    target = source(train, test, epochs)
    nets = {"default net": {}, "one hidden layer of 64": {"hidden_layer_sizes": (64,)}}
    models, reached = {}, {}
    for net, parameters in nets.items():
        for max_iter in (1, 2, 3, 5, 8, 12, 20):
            models[net] = AutoencoderTransformer(32, max_iter=max_iter, random_state=0, **parameters)
            error = reconstruction_error(models[net].fit(train), test)
            if error <= target:
                break
        reached[net] = f"{error:.5f} after {max_iter} epochs" if error <= target else "NOT REACHED"
    rivals = {net: partial(model.fit, train) for net, model in models.items()}
    took = turns({"source": lambda: source(train, test, timed)} | rivals, rounds=0 if quick else 3)
    source_seconds = took["source"] * epochs / timed
    keras = source_seconds if measured else KERAS * source_seconds
    rival = "Keras" if measured else f"Keras, estimated as {KERAS} c, which was not measured here"
    case = f"{name}, 32 components, to {target:.5f}"
    yield figure(case, "held-out error of PCA", reconstruction_error(PCA(32, random_state=0).fit(train), test))
    yield figure(case, f"{rival}: {epochs} epochs, from {timed}", keras, unit="s")
    for net in nets:
        over = took[net] / keras if reached[net] != "NOT REACHED" else np.inf
        yield figure(case, f"skae, {net}, start included ({reached[net]})", took[net], unit="s")
        yield figure(case, f"skae, {net}, over {rival}", over, at_most=0.1)


def time_to_half_of_pca(quick):
    """On digits at 8 components, beside scikit-learn's perceptron: ratios of three splits."""
    ours, theirs, epochs, arrived = [], [], [], []
    for seed in range(1 if quick else 3):
        train, test = train_test_split(digits(), test_size=0.25, random_state=seed)
        error = reconstruction_error(PCA(8).fit(train), test)
        target = error if quick else error / 2
        for max_iter in (3, 5, 8, 12, 16, 20, 25, 30, 50, 80, 120, 200):
            model, seconds = timed_fit(AutoencoderTransformer(8, max_iter=max_iter, random_state=seed), train)
            if reconstruction_error(model, test) <= target:
                break
        else:
            seconds = np.inf
        rivals = [perceptron(train, test, target, name, seed, 20 if quick else 2000) for name in ("tanh", "relu")]
        seconds_of_rival, reached = min(rivals, key=lambda rival: (not rival[1], rival[0]))
        ours.append(seconds)
        epochs.append(max_iter)
        theirs.append(seconds_of_rival)
        arrived.append(reached)
    case = f"digits, 8 components, to {'all' if quick else 'half'} of PCA's held-out error"
    rival = f"MLPRegressor, the better of tanh and relu (arrived on {sum(arrived)} of {len(arrived)} splits)"
    yield figure(case, f"skae, start included, max_iter {' '.join(map(str, epochs))}", ours, unit="s")
    yield figure(case, rival, theirs, unit="s")
    yield figure(case, "skae over MLPRegressor", np.divide(ours, theirs), at_most=1 / 3)


def perceptron(train, test, target, activation, seed, most):
    """Seconds until the perceptron is there, or of all epochs that it gets; and whether it is.

    Its rate is constant, so a fit of as many epochs would end where it stands.
    """
    model = MLPRegressor(
        hidden_layer_sizes=(128, 8, 128), activation=activation, learning_rate_init=3e-3, random_state=seed
    )
    seconds = 0.0
    for _ in range(most):
        seconds += seconds_of(lambda: model.partial_fit(train, train))
        if np.square(model.predict(test) - test).mean() <= target:
            return seconds, True
    return seconds, False


def transform(quick=False):
    """Rows a second of transform beside the encoder alone, and whether memory grows with rows."""
    name, X, _ = images(quick)
    own = {"encoder": dense(), "start": "random"}, {"encoder": dense(512, 256), "start": "random"}
    cases = dict(zip(("own 784-32", "own 784-512-256-32"), own, strict=True))
    cases["default net, absolute error"] = {"loss": "absolute_error"}
    cases["default net, which projects"] = {}
    for case, parameters in cases.items():
        decoder = {"decoder": dense()} if "encoder" in parameters else {}
        model = AutoencoderTransformer(32, max_iter=0, random_state=0, **parameters, **decoder).fit(X[:2000])
        encoder = parameters["encoder"](784, 32) if "encoder" in parameters else model.net_.module_.encoder.float()
        encoder.eval()
        model.transform(X[:1])  # before its weights are cast again
        rivals = {"bare": partial(encode, encoder, X), "skae": partial(model.transform, X)}
        took = turns(rivals, rounds=3 if quick or "projects" in case else 10)
        yield figure(f"{name}, {case}", "bare encoder", len(X) / took["bare"] / 1e6, unit="million rows a second")
        bar = None if "projects" in case else 0.9  # four steps of descent are more than an encoder
        yield figure(f"{name}, {case}", "throughput over the bare encoder's", took["bare"] / took["skae"], at_least=bar)
    if STATUS.exists():
        few, many = (6000, 24_000) if quick else (60_000, 240_000)
        grown = [in_child("peak_of_transform", n, threads=1) for n in (few, many)]
        case = f"{few:,} and {many:,} rows of 784 columns, own 784-32, beside rows and codes"
        for n, growth in zip((few, many), grown, strict=True):
            yield figure(case, f"peak memory of {n:,} rows", growth / 2**20, unit="MiB")
        more = (grown[1] - grown[0]) / ((many - few) * 784 * 4)
        yield figure(case, "more memory for more rows, over these rows' own", more, at_most=0.05)


def encode(encoder, X):
    with torch.inference_mode():
        return torch.cat([encoder(rows) for rows in torch.from_numpy(X).split(BATCH)]).numpy()


def peak_of_transform(n_rows):
    X = np.random.default_rng(0).random((n_rows, 784), dtype=np.float32)
    own = {"encoder": dense(), "decoder": dense(), "start": "random"}
    model = AutoencoderTransformer(32, max_iter=0, random_state=0, **own).fit(X[:2000])
    model.transform(X[:1])
    return peak_growth(lambda: model.transform(X)) - n_rows * 32 * 4


def memory_of_a_fit(quick=False):
    """Peak growth of a fit, over the data's own bytes."""
    if not STATUS.exists():
        return
    for kind in ("own 784-32-784, random start", "default net, held-out rows"):
        case = f"{images(quick)[0]}, float32, {kind}"
        yield figure(case, "peak growth over the data", in_child("peak_of_fit", kind, quick, threads=1), at_most=1.3)


def peak_of_fit(kind, quick):
    task = fashion_task(quick)._replace(epochs=1)
    fits = {
        "own 784-32-784, random start": lambda task: task.fit(),
        "default net, held-out rows": lambda task: AutoencoderTransformer(32, max_iter=1, random_state=0).fit(task.X),
    }
    fits[kind](task._replace(X=task.X[:500].copy()))  # imports, and what torch keeps
    return peak_growth(lambda: fits[kind](task)) / task.X.nbytes


def scaling(quick=False):
    """Seconds of a fit of 50 columns as rows grow."""
    sizes = [1000, 10_000, 100_000, 1_000_000][: 3 if quick else 4]
    seconds = []
    for n_rows in sizes:
        X = low_rank(n_rows, 50)
        fit = AutoencoderTransformer(8, batch_size=128, max_iter=2, random_state=0).fit
        repeats = 3 if n_rows <= 10_000 else 1
        fit(X[:1000])
        seconds.append(float(np.median([seconds_of(partial(fit, X)) for _ in range(repeats)])))
        yield figure(f"{n_rows:,} x 50, 2 epochs", "skae", seconds[-1], unit="s")
    sizes, seconds = np.array(sizes), np.array(seconds)
    per_row = seconds / sizes
    case = f"10,000 to {sizes[-1]:,} rows"
    slope = np.polyfit(np.log(sizes[1:]), np.log(seconds[1:]), 1)[0]
    yield figure(case, "slope of log seconds on log rows", slope, at_most=1.05)
    yield figure(case, "seconds a row, over those at 10,000 rows", per_row[-1] / per_row[1])
    yield figure("1,000 rows", "seconds a row, over those at 10,000 rows", per_row[0] / per_row[1])


def start(quick=False):
    """Seconds of the start over those of a fit of 50 epochs, extrapolated from one."""
    name, X, _ = images(quick)
    wide = low_rank(*((100, 1000) if quick else (1000, 20_000)))
    for table, rows in ((f"{name}, {len(X):,} x 784", X), ("{:,} x {:,}".format(*wide.shape), wide)):
        for kind in (AutoencoderTransformer, VAEGenerator):
            case = f"{kind.__name__}(32), {table}"
            fits = {n: partial(kind(32, max_iter=n, random_state=0).fit, rows) for n in (0, 1)}
            took = turns(fits, rounds=0 if quick else 1)
            whole = took[0] + 50 * (took[1] - took[0])
            yield figure(case, "start", took[0], unit="s")
            yield figure(case, "start over 50 epochs, extrapolated from 1", took[0] / whole, at_most=0.1)


def grid(quick=False):
    """Twenty small fits in a grid search, by two processes and by one."""
    for key in LIMITS:
        os.environ.pop(key, None)  # as users have it: joblib shares the cores out only where nothing is set
    X = digits()[: 500 if quick else None]

    def search(n_jobs, threads):
        torch.set_num_threads(threads)  # of this process: those of joblib's have their own
        model = AutoencoderTransformer(max_iter=2 if quick else 20, random_state=0)
        options = {"n_components": [2, 3, 4, 6, 8], "learning_rate_init": [1e-3, 3e-3]}
        GridSearchCV(model, options, scoring=reconstruction_scorer, cv=2, refit=False, n_jobs=n_jobs).fit(X)

    rivals = {n: partial(search, 1, n) for n in ([1] if quick else [1, os.cpu_count()])}
    took = turns({"two": partial(search, 2, 1)} | rivals, rounds=0 if quick else 3)
    for n in rivals:
        what = f"n_jobs=2 over n_jobs=1, torch on {n} {'thread' if n == 1 else 'threads'}"
        yield figure(f"20 fits on {len(X):,} x 64", what, took["two"] / took[n], at_most=0.65)


def gpu(quick=False):
    """The same on a CUDA device, where one is; and how often the host waits for it in each further epoch."""
    if not torch.cuda.is_available():
        return
    where = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    for task in (fashion_task(quick), digits_task(quick)):
        plan = {"epochs": task.epochs, "batch_size": task.batch_size, "device": "cuda"}
        rivals = {
            "c": lambda task=task, plan=plan: hand_loop(task.module(), task.X, **plan),
            "skae": lambda task=task: task.fit(device="cuda"),
            "no epochs": lambda task=task: task._replace(epochs=0).fit(device="cuda"),
        }
        took = turns(rivals, rounds=0 if quick else 5)
        yield figure(f"{task.name}, {where}", "c, an epoch", took["c"] / task.epochs, unit="s")
        yield figure(f"{task.name}, {where}", "skae over c", took["skae"] / took["c"])
        trained = took["skae"] - took["no epochs"]
        yield figure(f"{task.name}, {where}", "skae less a fit of no epochs, over c", trained / took["c"])
    X = digits()
    for name, kind, parameters in (
        ("autoencoder", AutoencoderTransformer, {}),
        ("autoencoder in order", AutoencoderTransformer, {"ordered": True}),
        ("VAE", VAEGenerator, {}),
        ("VAE in order", VAEGenerator, {"ordered": True}),
        ("VAE, bernoulli", VAEGenerator, {"likelihood": "bernoulli"}),
    ):
        batches = [-(-len(X) // size) for size in (32, 256)]
        long, short = (waits_an_epoch(kind, X, size, parameters) for size in (32, 256))
        yield figure(f"digits, {name}", "waits in a further epoch", long)
        yield figure(f"digits, {name}", "waits in a further step", (long - short) / np.subtract(*batches), at_most=0)


def waits_an_epoch(kind, X, batch_size, parameters):
    """How often a fit on a CUDA device makes the host wait for it, for each epoch that it is given more."""
    counts, n_epochs = [], []
    for epochs in (4, 8):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                model = kind(
                    4, batch_size=batch_size, max_iter=epochs, device="cuda", random_state=0, **parameters
                ).fit(X)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(warning.message) for warning in caught))
        n_epochs.append(model.n_iter_)
    return (counts[1] - counts[0]) / (n_epochs[1] - n_epochs[0])


def imports(quick=False):
    """Seconds of a process that imports skae, over those of one that imports what it stands on."""
    codes = {"skae": "import skae", "base": "import torch, skorch, sklearn.decomposition"}
    took = turns({name: partial(python, code) for name, code in codes.items()}, rounds=0 if quick else 10)
    yield figure("a process", "import torch, skorch, sklearn.decomposition", took["base"], unit="s")
    yield figure("a process", "import skae over that", took["skae"] / took["base"], at_most=1.1)


# With one thread and with two; and once, whatever the threads.
THREADED = {
    "training": training,
    "default_net": default_net,
    "events": events,
    "transform": transform,
    "quality_in_time": quality_in_time,
    "scaling": scaling,
    "start": start,
}
ONCE = {"first_fit": first_fit, "memory": memory_of_a_fit, "grid": grid, "imports": imports, "gpu": gpu}
QUESTIONS = THREADED | ONCE


def answers(question, quick):
    """All figures of a question."""
    if question in THREADED:
        torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # the first one of a process is a question of its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a short fit warns that it did not converge
        return list(QUESTIONS[question](quick))


# The report.


def bar_and_verdict(record):
    if record["at_most"] is not None:
        return f"at most {record['at_most']:.2f}", "reached" if record["value"] <= record["at_most"] else "not reached"
    if record["at_least"] is not None:
        return f"at least {record['at_least']:.2f}", "reached" if record["value"] >= record[
            "at_least"
        ] else "not reached"
    return "", ""


def shown(record):
    """The median, and the range if there is one."""
    value, least, largest = (f"{record[name]:.4g}" for name in ("value", "least", "largest"))
    unit = f" {record['unit']}" if record["unit"] else ""
    return f"{value}{unit}" if least == largest else f"{value}{unit} ({least} to {largest})"


def on_threads(record):
    return {None: "", 1: "1 thread"}.get(record["threads"], f"{record['threads']} threads")


def line(record):
    bar, verdict = bar_and_verdict(record)
    end = f"; target {bar}: {verdict}" if bar else ""
    where = ", ".join(part for part in (record["question"], on_threads(record)) if part)
    return f"{where}: {record['case']}: {record['what']} {shown(record)}{end}."


def markdown(records, made):
    ratios = [record["value"] for record in records if record["what"] == "skae over c" and record["threads"]]
    verdicts = [verdict for _, verdict in map(bar_and_verdict, records) if verdict]
    yield f"# Speed, {made['date']}\n"
    yield (
        "Time and memory of skae, on Fashion-MNIST, digits and random tables, against a hand-optimised loop of the "
        "same layers, plain skorch, a textbook's loop, Keras and scikit-learn's MLPRegressor. On a CPU training takes "
        f"{min(ratios, default=np.nan):.2f} to {max(ratios, default=np.nan):.2f} times the loop's time. "
        f"{verdicts.count('reached')} of {len(verdicts)} targets are reached.\n"
    )
    yield "Written by `make speed`. " + "; ".join(f"{name} {value}" for name, value in made.items()) + ".\n"
    yield "Figures are medians of ratios of programs that take turns, and their range; c is the hand-optimised loop."
    for question, group in groupby(sorted(records, key=order), key=lambda record: record["question"]):
        yield f"\n## {question.replace('_', ' ').capitalize()}\n\n{QUESTIONS[question].__doc__ or ''}".rstrip() + "\n"
        yield "| threads | case | figure | | target | |\n|---|---|---|---|---|---|"
        for record in group:
            cells = (on_threads(record), record["case"], record["what"], shown(record), *bar_and_verdict(record))
            yield f"| {' | '.join(cells)} |"


def order(record):
    return list(QUESTIONS).index(record["question"]), record["threads"] or 0


def made_with(anew, elsewhere):
    """The stamp; which questions were measured anew while others are of an earlier run; where a GPU was measured."""
    made = stamp((), 1, *(["keras"] if find_spec("keras") else []))
    del made["splits"]
    made |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores"} | elsewhere
    return made | {"measured anew": " ".join(anew)} if anew else made


def store(records, made):
    (RESULTS / "speed.json").write_text(json.dumps({"made with": made, "records": records}, indent=1) + "\n")
    (RESULTS / "speed.md").write_text("\n".join(markdown(records, made)) + "\n")


def last_run():
    """What is stored, and of its stamp what a GPU's figures, kept by a machine without one, were made with."""
    found = RESULTS / "speed.json"
    last = json.loads(found.read_text()) if found.exists() else {"records": [], "made with": {}}
    return last["records"], {name: value for name, value in last["made with"].items() if name == "gpu"}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that everything runs; figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, help="measure these anew, keep the other results")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="thread counts: 1 2")
    arguments = parser.parse_args(argv)
    if fashion_mnist() is None:
        print("Fashion-MNIST is not installed (Debian's package dataset-fashion-mnist): random numbers of its shape.")
    if find_spec("keras") is None:
        print(f"Keras is not installed: {KERAS} c stand for its time, an estimate.")
    threads = [1] if arguments.quick else arguments.threads
    asked = arguments.only or list(QUESTIONS)
    work = [(question, n) for n in threads for question in THREADED if question in asked]
    work += [(question, None) for question in ONCE if question in asked]
    last, elsewhere = last_run()
    kept = [r for r in last if (r["question"], r["threads"]) not in work] if arguments.only else []
    records = []
    for question, n in work:
        found = answers(question, True) if arguments.quick else in_child("answers", question, False, threads=n)
        if not found:
            print(f"{question}: not on this machine.")
            kept += [r for r in last if r["question"] == question]
            continue
        if question == "gpu":
            elsewhere = {"gpu": f"of {date.today()}, {torch.cuda.get_device_name()}"}
        records += [{"question": question, "threads": n, **record} for record in found]
        print("\n".join(map(line, records[-len(found) :])), flush=True)
        if not arguments.quick:
            store(kept + records, made_with(arguments.only, elsewhere))


if __name__ == "__main__":
    main()
