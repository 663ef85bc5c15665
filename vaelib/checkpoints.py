"""Save a model and the state of its training in one safetensors file, and restore them whole or not at all.

The file holds tensors and one JSON text, never code. Every byte is covered by a checksum, and the file appears under
its name only once it is complete. Everything passes through memory, three times over while saving: the models of this
book are small.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from vaelib import __version__
from vaelib._files import atomic_write, remove_leftovers, target
from vaelib._identity import made_of, unlike
from vaelib._notices import warn
from vaelib._state import copy, decode, encode

# Any later format must keep the rule for the checksum, so that this code can tell "newer" from "damaged".
_FORMAT = 1
# safetensors stores metadata entries in random order; a single entry makes equal content equal bytes. The checksum
# comes first in it, and the quotes inside that entry are escaped.
_FIELD = b'\\"sha256\\":\\"'
_UNSET = "0" * 64


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, foreign, too new, made for another model, or in use by another run."""


def save(path: str | os.PathLike[str], model: nn.Module, **state: Any) -> None:
    """Write the model's weights, and whatever `state` resuming needs, to `path` in one step.

    `state` is made of dicts (keys str or int), lists, tuples, tensors, numbers, strings, bools and None, such as
    `optimizer=optimizer.state_dict()`, `rng=generator.get_state()`, `best=model.state_dict()`, `config={...}`. A file
    already at `path` stays as it is until the new one is complete, and for good where writing fails. A missing folder
    is made, and a symbolic link stays one: its target is written.

    Args:
        path: the file to write.
        model: whose weights and buffers are saved.
        state: anything else, by name.

    Raises:
        TypeError: for a value that no checkpoint can hold, named by its place.
        OSError: where the disk is full or the folder cannot be written to.
    """
    path = _file(path, model)
    data = _serialise(model, state)
    try:
        atomic_write(path, data)
    except OSError as error:
        raise _unwritable(error, path) from error


def load(path: str | os.PathLike[str], model: nn.Module) -> dict[str, Any]:
    """Copy the weights at `path` into `model`, in place and on its own device, and return the saved state.

    The file is read and verified whole before the first weight changes. The state's tensors are on the CPU and belong
    to the caller alone: later training of `model` does not move them. Whether a file belongs to this run or another is
    asked by `vaelib.training.fit`, not here. A UserWarning names what may differ though the weights fit: code, counters
    and notes of your own. Another rate of Dropout is as good: it changes no number that a trained model gives.

    Args:
        path: a file that `save` wrote.
        model: built as it was when it was saved.

    Raises:
        FileNotFoundError: where there is no such file.
        CheckpointError: where the file is damaged, is no checkpoint, comes from a newer vaelib, or holds weights of
            other names, sizes or types than the model's, or of other layers or settings; `model` is then unchanged.
    """
    state, doubts = restore(path, model)
    if doubts:
        warn(
            f"the weights of {os.fspath(path)} fit this {type(model).__name__}, but it may compute something else with "
            f"them: not all of it is as it was when they were saved, or can be compared: {'; '.join(doubts)}"
        )
    return state


def restore(path: str | os.PathLike[str], model: nn.Module) -> tuple[dict[str, Any], list[str]]:
    """Do as `load` does, and return the state and what may differ, without a warning of that.

    Args:
        path: a file that `save` wrote.
        model: built as it was when it was saved.

    Raises:
        CheckpointError: as `load` does.
    """
    header, weights, state = _read(_file(path, model))
    own = model.state_dict()
    _move_log_sigma(weights, own)
    problems, doubts = _differences(weights, own), list[str]()
    if not problems:
        # The same sizes may hold another activation or likelihood, whose weights mean something else.
        problems, doubts = unlike(header.get("made"), model)
    if problems:
        raise CheckpointError(
            f"the weights of {os.fspath(path)} (a {header['model']}) do not fit this {type(model).__name__}:\n  "
            + "\n  ".join(problems)
            + "\nBuild the model as it was when it was saved; it is unchanged."
        )
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(weights[key])
    return state, doubts


def peek(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the saved state alone, verified as `load` does: enough to build the model that the weights belong to.

    Args:
        path: a file that `save` wrote.

    Raises:
        FileNotFoundError: where there is no such file.
        CheckpointError: where the file is damaged, is no checkpoint or comes from a newer vaelib.
    """
    return _read(path)[2]


@contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep every other run from writing to `path` while the block lasts.

    The lock is on the file `path` + ".lock" (beside its target, if `path` is a symbolic link) and belongs to the
    process: a killed run holds it no longer, and the empty file that stays behind does no harm. What a run killed while
    saving left half-written is removed.

    Args:
        path: the file that this run saves to.

    Raises:
        CheckpointError: at once, where another run holds it.
        OSError: where the folder cannot be written to.
    """
    path = _file(path)
    try:
        final = target(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(final.with_name(final.name + ".lock"), timeout=0)
        guard.acquire()
    except Timeout:
        if not os.path.lexists(guard.lock_file):  # where no file can be made at all, as below /proc
            raise _unwritable(OSError(errno.EACCES, os.strerror(errno.EACCES)), path) from None
        raise CheckpointError(
            f"another run is writing to {path}: wait until it ends, stop it, or give this run a file of its own"
        ) from None
    except OSError as error:
        raise _unwritable(error, path) from error
    try:
        remove_leftovers(path)
        yield
    finally:
        guard.release()


def _file(path: str | os.PathLike[str], model: nn.Module | None = None) -> Path:
    """Return the path that was given, which is a file's or nobody's yet, beside a model that is one."""
    if not isinstance(path, str | os.PathLike) or not isinstance(model, nn.Module | None):
        given = model if isinstance(path, str | os.PathLike) else path
        raise TypeError(
            f"a path comes first, then the model: save(path, model), load(path, model); not {type(given).__name__}"
        )
    path = Path(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder: name a file in it, such as {path / 'model.safetensors'}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise CheckpointError(f"{path} is a device or a pipe, no file: name a file, such as model.safetensors")
    return path


def _unwritable(error: OSError, path: Path) -> OSError:
    """Return an error of the same kind (PermissionError, ...) that says what it means for the checkpoint."""
    reason = error.strerror or str(error)
    return OSError(
        error.errno,
        f"cannot write the checkpoint ({reason}): free space or choose a folder you may write to; "
        "an older file under that name is untouched",
        str(path),
    )


def _serialise(model: nn.Module, state: dict[str, Any]) -> bytearray:
    tensors = {f"model.{key}": copy(value, f"model.{key}") for key, value in model.state_dict().items()}
    header = {
        "sha256": _UNSET,
        "format": _FORMAT,
        "model": type(model).__name__,
        "vaelib": __version__,
        "torch": str(torch.__version__),
        "made": made_of(model),
        "state": {key: encode(value, key, tensors) for key, value in state.items()},
    }
    data = bytearray(safetensors.torch.save(tensors, {"vaelib": json.dumps(header, separators=(",", ":"))}))
    start = data.index(_FIELD) + len(_FIELD)
    data[start : start + len(_UNSET)] = _checksum(data, start)
    return data


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    """Return the header, the model's weights and the saved state, from a file verified to the last bit."""
    path = _file(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no checkpoint at {path}: check the path, or write one with vaelib.checkpoints.save(path, model)"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"cannot read the checkpoint ({reason}): see that you may read it", str(path)
        ) from error
    start = data.find(_FIELD) + len(_FIELD)
    if start < len(_FIELD):
        raise CheckpointError(
            f"{path} ({len(data):,} bytes) was not written by vaelib.checkpoints.save, or is damaged. Pickle files "
            "(torch.save) are refused because loading one can run code in it: if you trust its origin, open it with "
            "torch.load(path, weights_only=True), put the weights into a model and save that one here"
        )
    if data[start : start + len(_UNSET)] != _checksum(data, start):
        raise CheckpointError(
            f"{path} is damaged: the checksum does not match its {len(data):,} bytes (a copy or download cut off?). "
            "Restore it from another copy, or train and save again"
        )
    size = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["vaelib"])
    if header["format"] > _FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {header['format']} (vaelib {header['vaelib']}), and vaelib {__version__} "
            f"reads formats up to {_FORMAT}: upgrade vaelib"
        )
    tensors = safetensors.torch.load(data)
    state = {key: decode(value, tensors) for key, value in header["state"].items()}
    weights = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    return header, weights, state


def _checksum(data: bytes | bytearray, start: int) -> bytes:
    """Hash all of `data`, with zeros in place of the 64 digits at `start`."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(_UNSET.encode())
    digest.update(view[start + len(_UNSET) :])
    return digest.hexdigest().encode()


def _move_log_sigma(saved: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Give log sigma its place of now: models of vaelib 0.1 held it beside the networks, Bernoulli ones without use."""
    if "log_sigma" in saved and "log_sigma" not in own and any(key.startswith("decoder.") for key in own):
        log_sigma = saved.pop("log_sigma")
        if "likelihood.log_sigma" in own:
            saved["likelihood.log_sigma"] = log_sigma


def _differences(saved: dict[str, Tensor], own: dict[str, Tensor]) -> list[str]:
    def form(tensor: Tensor) -> str:
        return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"

    missing = [f"{key}: not in the file, model {form(own[key])}" for key in own if key not in saved]
    unexpected = [f"{key}: file {form(saved[key])}, not in the model" for key in saved if key not in own]
    different = [
        f"{key}: file {form(saved[key])}, model {form(own[key])}"
        for key in own
        if key in saved and form(saved[key]) != form(own[key])
    ]
    return missing + unexpected + different
