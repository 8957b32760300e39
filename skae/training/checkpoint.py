"""Checkpoints of a fit in a folder, from which it resumes after it was killed.

A checkpoint is one file: the output of `torch.save`, then a checksum. ``torch.load(file, weights_only=True)`` opens it,
and it contains no code. A new file replaces the old one atomically, after it was synced to disk.
"""

import hashlib
import io
import json
import os
import time
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from sklearn.utils import gen_batches

from skae._torch import map_leaves, to_array
from skae._version import __version__
from skae.persistence.state import is_dict
from skae.training.checks import OUTCOMES

# Version of the format: increased when older versions of skae could not read new files, or would misread them.
FORMAT = 1
NAME = "checkpoint.pt"
LOCK = ".checkpoint.lock"
# Shortest time between two saves.
SECONDS = 10.0
# Bytes of samples that are hashed at once.
_HASHED = 2**24
# Number of samples that `glimpse` hashes.
_GLIMPSED = 100
_CHECKSUM = 16
# Most bytes of a file: the state of a network of 400 million weights.
_LARGEST = 2**33
_PLAIN = str | int | float | None


class Checkpoint:
    """The identity of a fit and its saved state.

    A context manager: it locks the folder of an unfinished fit until the block or the process ends.

    Parameters
    ----------
    folder : str or path-like
        Created if it does not exist.
    identity : dict of str to plain values
        Data and parameters of the fit. If the folder holds a fit, its identity must be the same.
    seed : int
        Seed of a new fit.

    Attributes
    ----------
    seed : int
        Seed of the fit: that of the fit in the folder, if there is one.

    Raises
    ------
    ValueError
        If the folder holds another fit, a file of a newer version of skae, or a damaged file.
    OSError
        If the folder cannot be read or written, or another running fit uses it.
    """

    def __init__(self, folder, identity, seed):
        self.path = Path(folder).absolute() / NAME  # a callback may change the current folder
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
        return vars(self) | {"_lock": None}  # a lock belongs to one process

    def take(self):
        """Return the state in the folder, or None, and release the memory: a fit resumes from it once."""
        state, self._state = self._state, None
        return state

    def is_due(self):
        """Return whether enough time has passed since the last save."""
        return time.monotonic() >= self._next

    def save(self, state, *, first=False):
        """Replace the saved state.

        Parameters
        ----------
        state : dict of tensors and plain values, nested
            With a list "history" and an "outcome", which is None during training.
        first : bool, default=False
            Whether this is the first save, in which an error is raised. In later saves an error issues a single
            warning, and the last saved state is kept.
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
                    f"A checkpoint could not be written to {str(self.path.parent)!r} ({error}). Training goes on and "
                    "will try again; the previous checkpoint is kept. Free disk space.",
                    stacklevel=2,
                )
            self._warned = True
        self._next = time.monotonic() + SECONDS

    def _read(self):
        """Return the content of the file, or None; raise an error if it is of another fit."""
        try:
            kept = read(self.path) if self.path.exists() else None
            newer = kept is not None and type(kept["format"]) is int and kept["format"] > FORMAT
            if kept is not None and not newer:
                _check_content(kept)
        except OSError as error:
            raise self._no_access(error) from error
        except Exception as error:  # a damaged file may raise anything
            raise self._refusal(f"has a {NAME} that is damaged, or not skae's ({error})") from error
        if kept is None:
            return None
        if newer:
            version = kept.get("skae")
            raise self._refusal(f"is of skae {version}, which {__version__} cannot read", "Update skae, or name")
        if different := differences(kept["identity"], self.identity):
            raise self._refusal(f"holds another fit, which differs in {different}", "To resume, restore that, or name")
        return kept

    def _prepare_folder(self):
        """Create the folder, check that it can be written, and lock it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise PermissionError("it is read-only")
            self._lock = _locked(self.path.parent / LOCK)
        except OSError as error:
            raise self._no_access(error) from error

    @contextmanager
    def explained(self):
        """Turn the error for a faulty entry of the state into one that names the folder."""
        try:
            yield
        except Exception as error:  # a damaged state may raise anything
            entry = getattr(error, "entry", error)
            reason = f"holds no state of this fit ({entry}): it is damaged, was changed or is of another net"
            raise self._refusal(reason, "Use that net's encoder and decoder, or name") from error

    def _refusal(self, reason, remedy="Name"):
        folder = str(self.path.parent)
        return ValueError(f"checkpoint={folder!r} {reason}. {remedy} another folder, or delete {NAME} for a new fit.")

    def _no_access(self, error):
        return OSError(
            f"checkpoint={str(self.path.parent)!r} is no folder that a fit can keep its state in: {error}. Name one "
            "that can be written and has room, or set checkpoint=None."
        )


def fingerprint(rows):
    """Return dtype, shape and a hash of the values of samples as text; None for None.

    Streamed samples have another fingerprint than the same samples in memory, since training reads them in another
    order.
    """
    if rows is None:
        return None
    values = hashlib.blake2b(digest_size=8)
    for part in getattr(rows, "fingerprint_parts", lambda: (rows,))():
        for block in gen_batches(len(part), max(1, _HASHED // max(1, part[:1].nbytes))):
            values.update(part[block].tobytes())
    return _described(rows, values)


def glimpse(rows):
    """Return dtype, shape and a hash of some of the samples as text; None for None."""
    if rows is None:
        return None
    some = to_array(rows[np.linspace(0, len(rows) - 1, _GLIMPSED).astype(int)])
    return _described(rows, hashlib.blake2b(np.ascontiguousarray(some).tobytes(), digest_size=8))


def _described(rows, values):
    return f"{rows.dtype} {'x'.join(map(str, rows.shape))} #{values.hexdigest()}{getattr(rows, 'origin', '')}"


def plain(value):
    """Return a parameter in JSON types: callables as names, callbacks as names with their settings."""
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
    # get_params omits settings that a callback takes as further keywords.
    settings = [f"{key}={setting!r}" for key, setting in vars(value).items() if isinstance(setting, str | int | float)]
    return f"{name}({', '.join(settings)})"


def differences(kept, new):
    """Return the differences between the identities of two fits as text."""
    pairs = {name: (new.get(name, "absent"), kept.get(name, "absent")) for name in {**new, **kept}}
    return ", ".join(f"{name}={now!r} (there {then!r})" for name, (now, then) in pairs.items() if now != then)


def write(path, content):
    """Write tensors and plain values atomically: the path always holds a complete file."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.write(checksum(buffer.getvalue()))
    if buffer.tell() > _LARGEST:
        raise OSError(f"the state has {buffer.tell()} bytes, more than {_LARGEST}")
    draft = path.with_name(f"{path.name}.tmp")
    draft.unlink(missing_ok=True)  # it may be a link or a pipe
    try:
        with open(draft, "xb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened or synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path):
    """Return the content of a file from `write`.

    Raises
    ------
    ValueError
        If it is not a regular file or too large, or the checksum does not match; torch would not notice a changed byte.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST:  # a pipe or a device may have no end
        raise ValueError(f"it is not a regular file of at most {_LARGEST} bytes")
    data = path.read_bytes()
    if checksum(data[:-_CHECKSUM]) != data[-_CHECKSUM:]:
        raise ValueError("its checksum is wrong")
    content = io.BytesIO(data[:-_CHECKSUM])
    with zipfile.ZipFile(content) as entries:
        if sum(entry.file_size for entry in entries.infolist()) > len(data):  # compressed, or one in the other
            raise ValueError("its content is larger than the file")
    content.seek(0)
    return torch.load(content, map_location="cpu", weights_only=True)


def checksum(data):
    return hashlib.blake2b(data, digest_size=_CHECKSUM).digest()


def _locked(path):
    """Return an exclusive lock of a file, which ends with the process; None if the file system has no locks."""
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
    """Raise ValueError if an entry is missing or has the wrong type."""
    seed, identity, state = content["seed"], content["identity"], content["state"]
    are_integers = type(seed) is type(content["format"]) is int and 0 <= seed < 2**32
    is_state = state.keys() >= {"history", "weights", "best"} and state["outcome"] in OUTCOMES
    if not (are_integers and is_dict(identity) and json.dumps(identity) and is_state):
        raise ValueError("something is missing or of another type")


def _storable(value):
    """Return a value that `torch.load` can read: NumPy arrays become tensors, NumPy scalars Python numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return torch.as_tensor(value) if value.ndim else value.item()
    if torch.is_tensor(value) or isinstance(value, _PLAIN):
        return value
    raise TypeError(f"A checkpoint keeps arrays, numbers and text. A module holds {value!r}, which is none of these.")


def _as_plain(value):
    """Return a value in JSON types: callbacks may record any object in the history."""
    return json.loads(json.dumps(value, default=_as_text, skipkeys=True))


def _as_text(value):
    return value.tolist() if hasattr(value, "tolist") else repr(value)
