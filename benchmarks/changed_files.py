"""What happens if a file of skae is changed: states of estimators, bytes of pickles, checkpoints, and their bytes.

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
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix, issparse
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import LRScheduler
from torch import nn

import skae
from skae import AutoencoderTransformer, LatentSizeCV, ModelImputer, VAEGenerator
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


def kinds():
    """Return one estimator of each kind by name, not fitted, with samples and further arguments of `fit`."""
    X, images = rows(), np.random.RandomState(0).uniform(size=(80, 64))
    labels, kinds_of_row = np.where(X[:, 0] > 0, "up", "down"), np.where(X[:, 1] > 1, "wide", "narrow")
    table = pd.DataFrame(
        {"length": X[:, 0], "kind": pd.Categorical(kinds_of_row), "count": np.round(X[:, 1]).astype(int)}
    )
    incomplete, counts = np.where(np.arange(X.size).reshape(X.shape) % 7 == 0, np.nan, X), np.round(np.exp(X))
    weights, y = {"sample_weight": np.linspace(0, 2, len(X))}, {"y": labels}
    return {
        "autoencoder": (AutoencoderTransformer(2, alpha=0.1), X, {}),
        "ordered": (AutoencoderTransformer(3, ordered=True), pd.DataFrame(X, columns=list("abcde")), {}),
        "share of the variance": (AutoencoderTransformer(0.9), X, {}),
        "own modules": (AutoencoderTransformer(2, encoder=dropout, decoder=dropout), X, {}),
        "images": (AutoencoderTransformer(2, feature_shape=(1, 8, 8), loss="log_loss"), images, {}),
        "sparse samples with weights": (AutoencoderTransformer(2, noise=0.1), csr_matrix(counts), weights),
        "missing values": (AutoencoderTransformer(2), incomplete, {}),
        "random start": (AutoencoderTransformer(2, early_stopping=False, start="random"), X, {}),
        "VAE": (VAEGenerator(2), X, {}),
        "VAE with missing values": (VAEGenerator(2, prior="mixture"), incomplete, weights),
        "ordered VAE": (VAEGenerator(2, ordered=True), X, {"X_val": X[::5]}),
        "VAE that chooses its size": (VAEGenerator("auto"), X, {}),
        "VAE of images": (VAEGenerator(2, feature_shape=(1, 8, 8), likelihood="bernoulli"), images, {}),
        "counts": (VAEGenerator(2, likelihood="negative_binomial"), counts, {}),
        "sparse counts": (VAEGenerator(2, likelihood="multinomial"), csr_matrix(counts), {}),
        "mixed columns": (VAEGenerator(2, likelihood="auto"), table, weights),
        "categories": (VAEGenerator(1, likelihood="categorical"), table[["kind", "count"]].astype(str), {}),
        "classes": (VAEGenerator(2, conditional=True), X, y),
        "ordered, of classes": (VAEGenerator(2, ordered=True, conditional=True, prior="mixture"), X, y | weights),
        "mixed columns of classes": (VAEGenerator(2, likelihood="auto", conditional=True), table, y),
    }


def estimators():
    """Fitted estimators of all kinds by name, each with samples and labels."""
    for name, (model, X, arguments) in kinds().items():
        model.set_params(**QUICK).fit(X, **arguments)
        yield name, model, X, arguments.get("y")
    model, X = AutoencoderTransformer(2, **QUICK), rows()
    yield "continued", model.fit(X).partial_fit(X), X, None
    yield "truncated", AutoencoderTransformer(3, ordered=True, **QUICK).fit(X).truncate(2), X, None
    yield "search", LatentSizeCV(AutoencoderTransformer(**QUICK), (1, 2), cv=2).fit(X), X, None
    yield "search of a VAE", LatentSizeCV(VAEGenerator(**QUICK), (1, 2), cv=2).fit(X), X, None
    yield "imputer", ModelImputer(VAEGenerator(2, **QUICK)).fit(X), X, None


def fits():
    """Return one fit of each kind that has a checkpoint: an estimator, samples and further arguments by name."""
    found, X = kinds(), rows()
    found["rates by epoch"] = (AutoencoderTransformer(2, callbacks=[LRScheduler("StepLR", step_size=2)]), X, {})
    found["rates by loss"] = (VAEGenerator(2, callbacks=[LRScheduler("ReduceLROnPlateau")]), X, {})
    for model, *_ in found.values():
        is_ordered = model.ordered or not isinstance(model.n_components, int)
        model.set_params(**QUICK | ({"max_iter": 12} if is_ordered else {}))
    return found


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
    elif is_object(value):
        yield from places(vars(value), path)


def is_object(value):
    """Return whether a value is an object whose attributes are changed, too: a mixture of codes."""
    return isinstance(value, GaussianMixture)


def at(value, path):
    for name in path:
        value = (vars(value) if is_object(value) else value)[name]
    return value


def replaced(value, path, new):
    """Return a copy of nested containers with another entry at a path."""
    if not path:
        return new
    name, *rest = path
    if is_object(value):
        other = copy.copy(value)
        vars(other).update(attributes := replaced(vars(value), path, new))
        for missing in vars(value).keys() - attributes.keys():
            delattr(other, missing)
        return other
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
        is_inside = any(PACKAGE in frame.parents for frame in frames)
        is_refusal = says(error, is_inside) and not (is_inside and is_of_memory(error))
        found = "refused" if is_refusal else repr(error)[:200]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return f"{seconds:.1f} s" if seconds > SECONDS else found


def is_of_memory(error):
    """Return whether an error or one of its causes says that memory was exhausted; torch raises a RuntimeError."""
    while error is not None:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def damaged(error, is_inside):
    """Return whether an error says that a file was changed, or that samples have none of the categories in it."""
    return isinstance(error, ValueError | TypeError) and any(
        part in str(error) for part in ("damaged or was changed", "a category that no training row has")
    )


def names_another_folder(error, is_inside):
    return isinstance(error, ValueError) and "name another folder" in str(error).lower()


def is_finite(model, X, y):
    """Return whether what was loaded has finite results, also after one more epoch; without a fit it has none."""
    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError):  # what is no longer an estimator, pickle's own objects among them
        return True
    return all(np.isfinite(numbers_of(part)).all(axis=None) for part in results(model, X, y))


def numbers_of(result):
    return pd.DataFrame(result if hasattr(result, "columns") else np.atleast_2d(result)).select_dtypes("number")


def results(model, X, y):
    """Yield the results of an estimator's methods; of a VAE's densities with and without labels."""
    yield model.transform(X)
    if isinstance(model, ModelImputer):
        return
    yield model.inverse_transform(model.transform(X))
    best = getattr(model, "best_estimator_", model)
    if y is not None:  # the names of classes may have changed
        y = best.classes_[np.unique(y, return_inverse=True)[1]]
    yield best.score_samples(X)
    yield best.sample(3, random_state=0)
    if not issparse(X):
        yield best.impute(X)
    if isinstance(best, VAEGenerator):
        yield best.log_likelihood(X, 5)
        yield best.score_samples(X, y)
    for name in ("mean_", "components_", "explained_variance_ratio_", "noise_variance_", "kl_per_component_"):
        if hasattr(best, name):
            yield getattr(best, name)
    is_continued = False
    with suppress(ValueError, TypeError, AttributeError):  # its parameters are not those of its network, or not valid
        best._check_parameters()
        best._check_continues()
        is_continued = best._takes_batches()
    if is_continued:
        best.partial_fit(X, y)
        yield best.transform(X)


def changed_states(n, rng):
    """Change one entry of the states of estimators; yield each change and its outcome."""
    fitted = {name: (type(model), model.__getstate__(), X, y) for name, model, X, y in estimators()}
    cases = [(name, path) for name, (_, state, *_) in fitted.items() for path in places(state)]
    limit_memory()
    for i in drawn(len(cases), n, rng):
        name, path = cases[i]
        cls, state, X, y = fitted[name]
        options = list(changes(at(state, path)))
        what, new = options[rng.randint(len(options))]
        yield f"{name}: {path} {what}", partial(loaded_state, cls, state, path, new), X, y


def loaded_state(cls, state, path, new):
    model = cls.__new__(cls)
    model.__setstate__(replaced(copy.deepcopy(state), path, new))
    return model


def changed_pickles(n, rng):
    """Change some bytes of pickles."""
    saved = {name: (pickle.dumps(model), X, y) for name, model, X, y in estimators()}
    limit_memory()
    for _ in range(n):
        name = list(saved)[rng.randint(len(saved))]
        data, X, y = saved[name]
        seed = rng.randint(2**31)
        changed = changed_bytes(data, np.random.RandomState(seed))
        yield f"{name}: bytes of seed {seed}", partial(pickle.loads, changed), X, y


def drawn(n_cases, n, rng):
    return np.concatenate([rng.permutation(n_cases) for _ in range(-(-n // n_cases))])[:n]


def contents_of(model, X, arguments, folder):
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
            model.fit(X, **arguments)
        except Killed:
            pass
        finally:
            Net.train_step = train_step
        contents.append(checkpoint.read(folder / checkpoint.NAME))
    return contents


def changed_checkpoints(n, rng):
    """Change one entry of checkpoints, and resume the fit."""
    cases, fitted, contents = [], fits(), {}
    checkpoint.SECONDS = 0  # a state is written after each epoch
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, X, arguments) in fitted.items():
            path = Path(folder) / name
            path.mkdir()
            contents[name] = contents_of(model.set_params(checkpoint=path), X, arguments, path)
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
            model, X, arguments = fitted[name]
            again = partial(fit_again, model, X, arguments)
            yield f"{name}, stage {stage}: {place} {what}", again, X, arguments.get("y")


def sealed_checkpoints(n, rng):
    """Change some bytes of checkpoints below their checksum, which is that of the changed bytes."""
    fitted, saved = fits(), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / checkpoint.NAME
        for name, (model, X, arguments) in fitted.items():
            path.unlink(missing_ok=True)
            model.set_params(checkpoint=folder, max_iter=2).fit(X, **arguments)
            saved[name] = path.read_bytes()[: -len(checkpoint.checksum(b""))]
        limit_memory()
        for _ in range(n):
            name = list(fitted)[rng.randint(len(fitted))]
            seed = rng.randint(2**31)
            changed = changed_bytes(saved[name], np.random.RandomState(seed))
            path.write_bytes(changed + checkpoint.checksum(changed))
            model, X, arguments = fitted[name]
            yield f"{name}: bytes of seed {seed}", partial(fit_again, model, X, arguments), X, arguments.get("y")


def fit_again(model, X, arguments):
    return type(model)(**model.get_params(deep=False)).fit(X, **arguments)


def limit_memory():
    """Allow this process a gigabyte more than it has: what needs more fails."""
    n_pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (n_pages * resource.getpagesize() + BYTES, resource.RLIM_INFINITY))


KINDS = {
    "states": (changed_states, damaged),
    # pickle and the classes that it finds raise what they want: skae's own errors are those that skae's code raises.
    "pickles": (changed_pickles, lambda error, is_inside: damaged(error, True) or not is_inside),
    "checkpoints": (changed_checkpoints, names_another_folder),
    "sealed": (sealed_checkpoints, names_another_folder),
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
    for what, load, X, y in make(arguments.n, np.random.RandomState(arguments.seed)):
        if arguments.log:
            arguments.log.write_text(what)
        found = outcome(load, lambda model, X=X, y=y: is_finite(model, X, y), says)
        counts[found if found in ("refused", "finite") else "other"] += 1
        if found not in ("refused", "finite"):
            others.append(f"{what}: {found}")
    print(json.dumps({"counts": counts, "others": others}))


if __name__ == "__main__":
    main()
