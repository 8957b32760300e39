"""What happens if a file of skae is changed: states of estimators, bytes of pickles, and checkpoints.

A changed file must be refused by an error that says so, or hold a model with finite results. Loading it must not end
the process, nor take more than 3 seconds or 1 GB. Each change is at one place: an entry is dropped, added, repeated or
replaced, an array gets another shape, dtype or values, or bytes are replaced, removed or repeated.

Prints one line of JSON: the number of outcomes of each kind, and the changes with other outcomes.
"""

from __future__ import annotations

import argparse
import copy
import json
import pickle
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from skorch.callbacks import LRScheduler
from torch import nn

import skae
from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator
from skae.training import checkpoint
from skae.training.net import Net

PACKAGE = Path(skae.__file__).parent
SECONDS, BYTES = 3, 2**30
DROPPED = object()
REPLACEMENTS = None, True, -1, 0, 0.5, 10**30, 1e300, np.nan, np.inf, -np.inf, "text", [], {}, (), np.zeros(3)
QUICK = {"hidden_layer_sizes": (4,), "max_iter": 4, "random_state": 0}


def rows():
    """Samples near a curve in five columns."""
    rng = np.random.RandomState(0)
    t = rng.uniform(-2, 2, size=(120, 1))
    return np.hstack([t, t**2, np.sin(2 * t), np.cos(t), t**3 / 3]) + 0.02 * rng.normal(size=(120, 5))


def dropout(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, n_out))


def estimators():
    """Fitted estimators of several kinds by name, each with samples."""
    X, images = rows(), np.random.RandomState(0).uniform(size=(80, 64))
    kinds = pd.Categorical(np.where(X[:, 1] > 1, "wide", "narrow"))
    table = pd.DataFrame({"length": X[:, 0], "kind": kinds, "count": np.round(X[:, 1]).astype(int)})
    incomplete = np.where(np.arange(X.size).reshape(X.shape) % 7 == 0, np.nan, X)
    y = np.where(X[:, 0] > 0, "up", "down")
    yield "autoencoder", AutoencoderTransformer(2, alpha=0.1, **QUICK).fit(X).partial_fit(X), X
    yield "ordered", AutoencoderTransformer(3, ordered=True, **QUICK).fit(pd.DataFrame(X, columns=list("abcde"))), X
    yield "own modules", AutoencoderTransformer(2, encoder=dropout, decoder=dropout, **QUICK).fit(X), X
    yield "images", AutoencoderTransformer(2, feature_shape=(1, 8, 8), loss="log_loss", **QUICK).fit(images), images
    yield "VAE with missing values", VAEGenerator(2, prior="mixture", **QUICK).fit(incomplete), incomplete
    yield "ordered VAE", VAEGenerator(2, ordered=True, **QUICK).fit(X), X
    counts = np.round(np.exp(X))
    yield "counts", VAEGenerator(2, likelihood="negative_binomial", **QUICK).fit(counts), counts
    yield "mixed columns", VAEGenerator(2, likelihood="auto", **QUICK).fit(table), table
    yield "classes", VAEGenerator(2, conditional=True, **QUICK).fit(X, y), X
    yield "search", LatentSizeCV(AutoencoderTransformer(**QUICK), (1, 2), cv=2).fit(X), X
    yield "search of a VAE", LatentSizeCV(VAEGenerator(**QUICK), (1, 2), cv=2).fit(X), X


CHECKPOINTED = {
    "autoencoder": AutoencoderTransformer(2, alpha=0.1, **QUICK),
    "own modules": AutoencoderTransformer(2, encoder=dropout, decoder=dropout, **QUICK),
    "no validation set": AutoencoderTransformer(2, early_stopping=False, start="random", **QUICK),
    "rates by epoch": AutoencoderTransformer(2, callbacks=[LRScheduler("StepLR", step_size=2)], **QUICK),
    "rates by loss": VAEGenerator(2, callbacks=[LRScheduler("ReduceLROnPlateau")], **QUICK),
    "VAE": VAEGenerator(2, **QUICK),
    "ordered VAE": VAEGenerator(2, ordered=True, **QUICK | {"max_iter": 12}),
}


# Changes.


def places(value, path=()):
    """Yield the path of each entry of nested containers and objects."""
    yield path
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from places(part, (*path, i))


def at(value, path):
    for name in path:
        value = value[name]
    return value


def replaced(value, path, new):
    """Return a copy of nested containers with another entry at a path."""
    if not path:
        return new
    name, *rest = path
    if isinstance(value, dict):
        if not rest and new is DROPPED:
            return {key: part for key, part in value.items() if key != name}
        return value | {name: replaced(value[name], rest, new)}
    parts = list(value)
    parts[name] = replaced(parts[name], rest, new)
    return type(value)(part for part in parts if part is not DROPPED)


def changes(value):
    """Yield other values for an entry, by what was done."""
    yield "dropped", DROPPED
    for new in REPLACEMENTS:
        yield f"now {new!r}", new
    if isinstance(value, dict):
        yield "with more", value | {"surplus": 1}
    if isinstance(value, list | tuple):
        yield "with the last repeated", type(value)([*value, *value[-1:]])
        yield "a thousand times", value * 1000
    if type(value) is int:
        yield "larger by 1", value + 1
        yield "a thousand times", value * 1000
    if isinstance(value, np.ndarray | torch.Tensor):
        yield from arrays_like(value)


def arrays_like(value):
    """Yield other arrays or tensors of this type, by what was done."""
    array = np.array(value)
    back = torch.as_tensor if torch.is_tensor(value) else np.asarray
    yield "with an axis more", back(array[None])
    yield "without its last", back(array.ravel()[:-1])
    yield "repeated", back(np.concatenate([array.ravel(), array.ravel()]))
    yield "transposed", back(np.ascontiguousarray(array.T))
    if array.dtype.kind in "fiub":
        yield "of another dtype", back(array.astype(np.float32 if array.dtype == np.float64 else np.float64))
        yield (
            "of integers",
            back(array.astype(np.int32) if np.isfinite(array).all() else np.zeros(array.shape, np.int32)),
        )
        yield "negative", back(~array if array.dtype.kind in "ub" else -1 - array)
        yield "zero", back(np.zeros_like(array))
        yield "huge", back(np.full_like(array, 1e300 if array.dtype == np.float64 else 100))
    if array.dtype.kind == "f":
        for number in (np.nan, np.inf, -np.inf):
            other = array.copy()
            other.flat[: 1 + array.size // 2] = number
            yield f"half {number}", back(other)
    if torch.is_tensor(value):
        yield "a view of a billion", torch.zeros(1, dtype=value.dtype).expand(10**9)


def changed_bytes(data, rng):
    """Return bytes of which some are replaced, removed or repeated."""
    begin, n = rng.randint(len(data)), int(2 ** rng.uniform(0, 8))
    kind = rng.randint(4)
    new = (bytes([data[begin] ^ (1 << rng.randint(8))]), rng.bytes(n), b"", data[begin : begin + n] * 2)[kind]
    return data[:begin] + new + data[begin + (1 if kind == 0 else n) :]


# Outcomes.


class TooSlow(BaseException):
    """Raised by the alarm."""


def stop(*_):
    raise TooSlow


def outcome(load, use, says):
    """Return "refused", "finite" or what went wrong; ``says`` tells if an error is skae's refusal."""
    began = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    try:
        model = load()
        seconds = time.perf_counter() - began
        found = "finite" if use(model) else "not finite"
    except TooSlow:
        found, seconds = "over 30 seconds", 0
    except Exception as error:
        seconds = time.perf_counter() - began
        frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
        found = "refused" if says(error, any(PACKAGE in frame.parents for frame in frames)) else repr(error)[:200]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return f"{seconds:.1f} s" if seconds > SECONDS else found


def damaged(error, is_inside):
    return isinstance(error, ValueError | TypeError) and "damaged or was changed" in str(error)


def is_finite(model, X):
    """Return whether a model that was loaded has finite results; a state without a fit has none."""
    if not hasattr(model, "transform") or not model.__sklearn_is_fitted__():
        return True
    results = [model.transform(X), model.inverse_transform(model.transform(X))]
    best = getattr(model, "best_estimator_", model)
    results += [best.score(X), best.sample(3, random_state=0)]
    return all(
        np.isfinite(pd.DataFrame(np.atleast_2d(part)).select_dtypes("number")).all(axis=None) for part in results
    )


def changed_states(n, rng):
    """Change one entry of the states of estimators; yield each change and its outcome."""
    fitted = {name: (type(model), model.__getstate__(), X) for name, model, X in estimators()}
    cases = [(name, path) for name, (_, state, _) in fitted.items() for path in places(state)]
    limit_memory()
    for i in drawn(len(cases), n, rng):
        name, path = cases[i]
        cls, state, X = fitted[name]
        options = list(changes(at(state, path)))
        what, new = options[rng.randint(len(options))]
        yield f"{name}: {path} {what}", partial(loaded_state, cls, state, path, new), X


def loaded_state(cls, state, path, new):
    model = cls.__new__(cls)
    model.__setstate__(replaced(copy.deepcopy(state), path, new))
    return model


def changed_pickles(n, rng):
    """Change some bytes of pickles."""
    saved = {name: (pickle.dumps(model), X) for name, model, X in estimators()}
    limit_memory()
    for _ in range(n):
        name = list(saved)[rng.randint(len(saved))]
        data, X = saved[name]
        seed = rng.randint(2**31)
        changed = changed_bytes(data, np.random.RandomState(seed))
        yield f"{name}: bytes of seed {seed}", partial(pickle.loads, changed), X


def drawn(n_cases, n, rng):
    return np.concatenate([rng.permutation(n_cases) for _ in range(-(-n // n_cases))])[:n]


def contents_of(model, X, folder):
    """Return checkpoints of a fit: before training, in the middle and at the end."""
    train_step, contents = Net.train_step, []

    class Killed(BaseException):
        pass

    for last in (1, 10, 10**9):
        (folder / checkpoint.NAME).unlink(missing_ok=True)
        n_steps = 0

        def count(net, batch, last=last, **kwargs):
            nonlocal n_steps
            n_steps += 1
            if n_steps == last:
                raise Killed
            return train_step(net, batch, **kwargs)

        Net.train_step = count
        try:
            model.fit(X)
        except Killed:
            pass
        finally:
            Net.train_step = train_step
        contents.append(checkpoint.read(folder / checkpoint.NAME))
    return contents


def changed_checkpoints(n, rng):
    """Change one entry of checkpoints, and resume the fit."""
    X, cases, models, contents = rows(), [], {}, {}
    checkpoint.SECONDS = 0  # a state is written after each epoch
    with tempfile.TemporaryDirectory() as folder:
        for name, model in CHECKPOINTED.items():
            path = Path(folder) / name
            path.mkdir()
            models[name] = model.set_params(checkpoint=path)
            contents[name] = contents_of(model, X, path)
            cases += [(name, i, place) for i, content in enumerate(contents[name]) for place in places(content)]
        limit_memory()
        for i in drawn(len(cases), n, rng):
            name, stage, place = cases[i]
            content, path = contents[name][stage], Path(folder) / name / checkpoint.NAME
            options = [option for option in changes(at(content, place)) if not isinstance(option[1], np.ndarray)]
            what, new = options[rng.randint(len(options))]
            changed = replaced(content, place, new)
            if changed is DROPPED:
                continue
            checkpoint.write(path, changed)
            yield f"{name}, stage {stage}: {place} {what}", partial(fit_again, models[name], X), X


def fit_again(model, X):
    return type(model)(**model.get_params(deep=False)).fit(X)


def limit_memory():
    """Allow this process a gigabyte more than it has: what needs more fails."""
    n_pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (n_pages * resource.getpagesize() + BYTES, resource.RLIM_INFINITY))


KINDS = {
    "states": (changed_states, damaged),
    # pickle and the classes that it finds raise what they want: skae's own errors are those that skae's code raises.
    "pickles": (changed_pickles, lambda error, is_inside: damaged(error, True) or not is_inside),
    "checkpoints": (changed_checkpoints, lambda error, is_inside: "name another folder" in str(error).lower()),
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("n", type=int, help="number of changes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="file that names the change at hand, if the process ends")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, stop)
    torch.set_num_threads(1)
    make, says = KINDS[arguments.kind]
    counts, others = Counter(), []
    for what, load, X in make(arguments.n, np.random.RandomState(arguments.seed)):
        if arguments.log:
            arguments.log.write_text(what)
        found = outcome(load, lambda model, X=X: is_finite(model, X), says)
        counts[found if found in ("refused", "finite") else "other"] += 1
        if found not in ("refused", "finite"):
            others.append(f"{what}: {found}")
    print(json.dumps({"counts": counts, "others": others}))


if __name__ == "__main__":
    main()
