"""The folder that a fit keeps its state in, so that it can be killed at any moment and go on.

One file holds it: what `torch.save` writes, then a checksum. ``torch.load(file, weights_only=True)`` opens it, and
nothing in it is code. A new one takes the old one's place in one step, once it is safe on the disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.utils import gen_batches

from skae._torch import map_leaves
from skae._version import __version__
from skae.persistence.state import is_dict

# Raised when older versions of skae could not read, or would misread, what this one writes.
FORMAT = 1
NAME = "checkpoint.pt"
LOCK = ".checkpoint.lock"
# From one writing to the next, at least.
SECONDS = 10.0
# Bytes of samples that are hashed at once.
_HASHED = 2**24
# Samples of a glimpse.
_GLIMPSED = 100
_CHECKSUM = 16
_PLAIN = str | int | float | None


class Checkpoint:
    """What a fit is about and how far it came.

    A context: the folder of a fit that goes on is its own until the block ends, or the process does.

    Parameters
    ----------
    folder : str or path-like
        Made if it does not exist.
    identity : dict of str to plain values
        What decides the fit. Where the folder holds a fit, that one's must be the same.
    seed : int
        Of a new fit.

    Attributes
    ----------
    seed : int
        Of the fit, the one in the folder if there is any.

    Raises
    ------
    ValueError
        If the folder holds another fit, one of a newer skae, or a damaged file.
    OSError
        If it cannot be read or written, or another fit that still runs has it.
    """

    def __init__(self, folder, identity, seed):
        self.path = Path(folder) / NAME
        self.identity, self.seed, self._state, self._lock = _as_plain(identity), seed, None, None
        if kept := self._read():
            self.seed, self._state = kept["seed"], kept["state"]
        if self._state is None or not self._state["outcome"]:
            self._prepare_folder()
        self._next, self._warned = 0.0, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._lock is not None:
            self._lock.release()

    def __getstate__(self):
        return vars(self) | {"_lock": None}  # which is the process's that made it

    def take(self):
        """Return the state that the folder holds, or None: a fit goes on from it once, then memory is free of it."""
        state, self._state = self._state, None
        return state

    def is_due(self):
        """Return whether the last state was written so long ago that the next is worth the time."""
        return time.monotonic() >= self._next

    def save(self, state, *, first=False):
        """Write a state in place of the one before.

        Parameters
        ----------
        state : dict of tensors and plain values, nested
            With a list "history" and an "outcome", which is None as long as training goes on.
        first : bool, default=False
            Whether no work would be lost by an error, which is then raised: later ones warn, once, and the last state
            that could be written stays.
        """
        state = map_leaves(state | {"history": _as_plain(state["history"])}, _storable)
        content = {"format": FORMAT, "skae": __version__, "identity": self.identity, "seed": self.seed, "state": state}
        try:
            write(self.path, content)
        except OSError as error:
            if first:
                raise self._no_access(error) from error
            if not self._warned:
                warnings.warn(
                    f"A checkpoint could not be written to {str(self.path.parent)!r} ({error}). Training goes on, and "
                    "tries again; until then the last one before stays. Make room there.",
                    stacklevel=2,
                )
            self._warned = True
        self._next = time.monotonic() + SECONDS

    def _read(self):
        """Return what the file holds, if there is one and it is of this fit."""
        try:
            kept = read(self.path) if self.path.exists() else None
            newer = kept is not None and kept["format"] > FORMAT
            if kept is not None and not newer:
                _check_content(kept)
        except OSError as error:
            raise self._no_access(error) from error
        except Exception as error:  # whatever bytes that are no checkpoint may bring about
            raise self._refusal(f"has a {NAME} that is damaged, or not skae's ({error})") from error
        if kept is None:
            return None
        if newer:
            raise self._refusal(f"is of skae {kept['skae']}, which {__version__} cannot read", "Update skae, or name")
        if different := differences(kept["identity"], self.identity):
            raise self._refusal(f"holds another fit, which differs in {different}", "To go on, set that back, or name")
        return kept

    def _prepare_folder(self):
        """Make the folder, find out whether it can be written, and lock it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise PermissionError("it is read-only")
            self._lock = _locked(self.path.parent / LOCK)
        except OSError as error:
            raise self._no_access(error) from error

    def _refusal(self, reason, remedy="Name"):
        folder = str(self.path.parent)
        return ValueError(f"checkpoint={folder!r} {reason}. {remedy} another folder, or delete {NAME} for a new fit.")

    def _no_access(self, error):
        return OSError(
            f"checkpoint={str(self.path.parent)!r} is no folder that a fit can keep its state in: {error}. Name one "
            "that can be written and has room, or set checkpoint=None."
        )


def fingerprint(rows):
    """Describe samples by precision, shape and a hash of their values, as text; None of None.

    Samples that are streamed from a file are trained on in another order than the same in memory, and are others.
    """
    if rows is None:
        return None
    values = hashlib.blake2b(digest_size=8)
    for part in getattr(rows, "fingerprint_parts", lambda: (rows,))():
        for block in gen_batches(len(part), max(1, _HASHED // max(1, part[:1].nbytes))):
            values.update(part[block].tobytes())
    return _described(rows, values)


def glimpse(rows):
    """Describe samples by precision, shape and a hash of some of them."""
    if rows is None:
        return None
    some = rows[np.linspace(0, len(rows) - 1, _GLIMPSED).astype(int)]
    return _described(rows, hashlib.blake2b(np.ascontiguousarray(some).tobytes(), digest_size=8))


def _described(rows, values):
    return f"{rows.dtype} {'x'.join(map(str, rows.shape))} #{values.hexdigest()}{getattr(rows, 'origin', '')}"


def plain(value):
    """Return a parameter as JSON has it: callables by their names, and callbacks by theirs with their settings."""
    return map_leaves(value, _plain_leaf, str)


def _plain_leaf(value):
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, _PLAIN):
        return value
    name = type(value).__qualname__
    if not hasattr(value, "get_params"):
        return name
    # get_params leaves out what a callback takes as further keywords.
    settings = [f"{key}={setting!r}" for key, setting in vars(value).items() if isinstance(setting, str | int | float)]
    return f"{name}({', '.join(settings)})"


def differences(kept, new):
    """Return what differs between two fits, in words."""
    pairs = {name: (new.get(name, "absent"), kept.get(name, "absent")) for name in {**new, **kept}}
    return ", ".join(f"{name}={now!r} (there {then!r})" for name, (now, then) in pairs.items() if now != then)


def write(path, content):
    """Write tensors and plain values so that the path always has a whole file, whatever happens."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.write(_checksum(buffer.getvalue()))
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with open(draft, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a file's name is safe with it
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path):
    """Return what `write` wrote.

    Raises
    ------
    ValueError
        If a byte has changed, which torch would not notice.
    """
    data = path.read_bytes()
    if _checksum(data[:-_CHECKSUM]) != data[-_CHECKSUM:]:
        raise ValueError("its checksum is wrong")
    return torch.load(io.BytesIO(data[:-_CHECKSUM]), map_location="cpu", weights_only=True)


def _checksum(data):
    return hashlib.blake2b(data, digest_size=_CHECKSUM).digest()


def _locked(path):
    """Return the lock of a file that no other has and that ends with the process; None where there are no locks."""
    from filelock import FileLock, Timeout  # comes with torch

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError("another fit, which still runs, keeps its own there") from None
    except (OSError, NotImplementedError):  # a file system without locks
        return None
    return lock


def _check_content(content):
    """Raise an error if something is missing, or not what `Checkpoint` takes it for."""
    seed, parts = content["seed"], {"outcome", "history", "weights", "best"}
    is_seed = isinstance(seed, int) and 0 <= seed < 2**32
    if not (is_seed and is_dict(content["identity"]) and content["state"].keys() >= parts):
        raise ValueError("something is missing or of another type")


def _storable(value):
    """Return what `torch.load` reads of a value: for the arrays and numbers of NumPy, torch's and Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return torch.as_tensor(value) if value.ndim else value.item()
    if torch.is_tensor(value) or isinstance(value, _PLAIN):
        return value
    raise TypeError(f"A checkpoint keeps arrays, numbers and text. {value!r}, which a module keeps, is none of them.")


def _as_plain(value):
    """Return what JSON keeps of a value: callbacks may have put anything into a history."""
    return json.loads(json.dumps(value, default=_as_text, skipkeys=True))


def _as_text(value):
    return value.tolist() if hasattr(value, "tolist") else repr(value)
