"""Data sets in files: where they may lie, the cache, and the mirrors that serve what is missing.

A file is looked for in the reader's own folder, `$VAELIB_DATA`, where nothing is ever written. Where that variable is
not set, it is looked for in the cache (`$VAELIB_CACHE`, or the platform's own place), and fetched into it. Nobody gets
a byte that was not verified.
"""

import io
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelib import _idx
from vaelib._files import atomic_write
from vaelib._idx import DataError, IdxFile

__all__ = ["DataNotFoundError", "LocatedFile", "Source", "mnist_like"]


class DataNotFoundError(DataError, FileNotFoundError):
    """Data that is neither on this machine nor to be fetched now."""

    __module__ = "vaelib.data"  # where readers import it from
    __str__ = ValueError.__str__  # FileNotFoundError's own would look for an error number


@dataclass(frozen=True)
class LocatedFile:
    """Say where one file of a data set is, or should be; `state` is "verified", "missing" or what is wrong."""

    __module__ = "vaelib.data"

    path: str
    state: str

    def __str__(self) -> str:
        """Return one line for the command line."""
        return f"{self.path}: {self.state}"


@dataclass(frozen=True)
class Source:
    """Describe a data set in IDX files.

    Args:
        name: the data set's, and that of the folder its files lie in.
        splits: for each split its images and its labels.
        mirrors: the addresses, with a slash at the end, that serve the files as .gz.
        timeout: seconds until the first byte, and between two pieces.
    """

    name: str
    splits: Mapping[str, tuple[IdxFile, IdxFile]]
    mirrors: tuple[str, ...]
    timeout: float = 10.0

    def read(self, split: str, progress: bool) -> dict[str, Any]:
        """Return the images and labels of one split, verified, from the reader's folder, the cache or a mirror.

        Args:
            split: a key of `splits`.
            progress: whether a download shows a bar.

        Shapes:
            images float32 ``(N, H, W)`` in [0, 1], labels int64 ``(N,)``.

        Raises:
            DataNotFoundError: where a file is not at hand.
            DataError: for a bad file in the reader's folder.
        """
        images, labels = self.splits[split]
        pixels = _idx.to_array(_content(self, images, labels, progress), images)
        classes = _idx.to_array(_content(self, labels, images, progress), labels)
        return {
            "images": torch.from_numpy(np.divide(pixels, 255, dtype=np.float32)),
            "labels": torch.from_numpy(classes.astype(np.int64)),
        }

    def locate(self) -> tuple[LocatedFile, ...]:
        """Return the state of each file: the one that `read` would read, or where it would be.

        Raises:
            DataNotFoundError: where there is no home folder to look in.
        """
        folder, _ = _folder(self)
        pairs = [pair for images, labels in self.splits.values() for pair in ((images, labels), (labels, images))]
        return tuple(_state(folder, file, other) for file, other in pairs)


def mnist_like(name: str, mirrors: tuple[str, ...], sha256: Mapping[str, str]) -> Source:
    """Return a data set of MNIST's form: 60,000 and 10,000 images of 28x28 in four files of MNIST's names.

    Args:
        name: the data set's.
        mirrors: the addresses, with a slash at the end, that serve the files as .gz.
        sha256: the hash of each file's decompressed bytes, by its name.
    """
    splits = {}
    for split, prefix, n in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        splits[split] = (
            IdxFile(images, (n, 28, 28), sha256[images]),
            IdxFile(labels, (n,), sha256[labels]),
        )
    return Source(name, splits, mirrors)


def _state(folder: Path, file: IdxFile, other: IdxFile) -> LocatedFile:
    for path in _candidates(folder, file):
        try:
            _idx.read(path, file, other)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except DataError as error:
            return LocatedFile(str(path), str(error).removeprefix(f"{path} "))
        except OSError as error:
            return LocatedFile(str(path), f"cannot be read ({error.strerror})")
        return LocatedFile(str(path), "verified")
    return LocatedFile(str(folder / file.name), "missing")


def _content(source: Source, file: IdxFile, other: IdxFile, progress: bool) -> bytes:
    """Return the verified bytes of one file from the reader's folder, our cache or a mirror."""
    folder, is_cache = _folder(source)
    for path in _candidates(folder, file):
        try:
            return _idx.read(path, file, other)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except DataError as error:
            if not is_cache:
                raise DataError(f"{error}. {_own_file(source, file)}") from error
            try:
                _set_aside(path, error)
            except OSError as failure:
                what = f"{error}, and cannot be set aside"
                raise _cache_unusable(source, file, other, folder, what, failure) from error
        except OSError as error:
            if not is_cache:
                raise DataError(f"{path} cannot be read ({error.strerror}). {_own_file(source, file)}") from error
            raise _cache_unusable(source, file, other, folder, f"{path.name} there cannot be read", error) from error
    if is_cache:
        return _fetch(source, file, other, folder, progress)
    remedy = (
        f"Put the files of {source.mirrors[-1]} there. Or unset VAELIB_DATA: they are then fetched into a cache when "
        f"they are needed, or at once by: python -m vaelib data {source.name}"
    )
    reason = "VAELIB_DATA names the folder above it, and nothing else is looked at while it is set"
    raise _not_found(source, file, other, folder, reason, remedy)


def _folder(source: Source) -> tuple[Path, bool]:
    """Return the folder to look in, and whether it is our cache (else it is the reader's own, never written to)."""
    own, cache = os.environ.get("VAELIB_DATA"), os.environ.get("VAELIB_CACHE")
    try:
        if own or cache:
            return Path(own or cache or "").expanduser() / source.name, not own
        import pooch

        return Path(pooch.os_cache("vaelib")).expanduser() / source.name, True
    except RuntimeError as error:  # there is no HOME, and the system knows no home folder for this user
        message = "this user has no home folder to keep data in: set VAELIB_CACHE to a folder"
        if own or cache:
            name = "VAELIB_DATA" if own else "VAELIB_CACHE"
            message = f"{name} is {own or cache}, and there is no such home folder: set {name} to a path without ~"
        raise DataNotFoundError(message) from error


def _candidates(folder: Path, file: IdxFile) -> tuple[Path, Path]:
    return folder / file.name, folder / f"{file.name}.gz"


def _own_file(source: Source, file: IdxFile) -> str:
    """Return what helps where a file in the reader's own folder can't be used."""
    return (
        "VAELIB_DATA is yours and stays as it is: remove this file, and put "
        f"{source.mirrors[-1]}{file.name}.gz in its place, or unset VAELIB_DATA to have it fetched into a cache"
    )


def _not_found(
    source: Source, file: IdxFile, other: IdxFile, folder: Path, reason: str, remedy: str
) -> DataNotFoundError:
    """Return the error that names the files, the folder, the reason and what helps."""
    names = " and ".join(sorted(f"{each.name}.gz" for each in (file, other)))
    return DataNotFoundError(
        f"{source.name.upper()} is not at hand: {names} are needed, and {folder} does not hold both ({reason}).\n"
        f"{remedy}"
    )


def _no_network(source: Source) -> str:
    return (
        f"Without a network: put the files of {source.mirrors[-1]} in a folder named {source.name}, and set "
        "VAELIB_DATA to the folder that contains it."
    )


def _cache_unusable(
    source: Source, file: IdxFile, other: IdxFile, folder: Path, what: str, error: OSError
) -> DataNotFoundError:
    """Return the error that names the variable for another cache: nothing else would end otherwise."""
    reason = f"{what}: {error.strerror or error}; set VAELIB_CACHE to a folder that can be read and written"
    return _not_found(source, file, other, folder, reason, _no_network(source))


# The cache


def _set_aside(path: Path, reason: DataError) -> None:
    """Rename a bad file of the cache to a free name that ends in .bad, and say so: it may be the reader's own."""
    for i in range(1000):
        aside = path.with_name(f"{path.name}{f'.{i}' if i else ''}.bad")
        try:
            aside.touch(exist_ok=False)  # takes the name, so that nothing of another process is replaced
            break
        except FileExistsError:
            continue
    try:
        path.replace(aside)
    except FileNotFoundError:  # another process has just set it aside
        aside.unlink()
    else:
        # Levels: _content, Source.read, data.load and the line that called it, which the warning names.
        warnings.warn(f"{reason}. It was set aside as {aside.name}.", UserWarning, stacklevel=5)


def _fetch(source: Source, file: IdxFile, other: IdxFile, folder: Path, progress: bool) -> bytes:
    """Return the verified bytes of one file from the mirrors, having put them into the cache folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # a folder that cannot be written is found out before the download, at no cost of waiting
        content = _from_mirrors(source, file, other, folder, progress)
        _store(content, folder / file.name)
    except DataError:
        raise
    except OSError as error:
        raise _cache_unusable(source, file, other, folder, "that folder cannot be written", error) from error
    return content


def _store(content: bytes, path: Path) -> None:
    """Put verified bytes under their name, unless a file is there by now, from another process or the reader."""
    if os.path.lexists(path):
        return
    try:
        atomic_write(path, content)
    except (PermissionError, FileExistsError):
        if not os.path.lexists(path):  # it is there on Windows, where another process has just made it and reads it
            raise


# The mirrors


def _from_mirrors(source: Source, file: IdxFile, other: IdxFile, folder: Path, progress: bool) -> bytes:
    """Return the verified bytes from the first mirror that serves them, trying each twice."""
    failures: dict[str, str] = {}
    silent = set()
    for mirror in source.mirrors * 2:
        if mirror in silent:
            continue
        try:
            raw = _download(f"{mirror}{file.name}.gz", file, source.timeout, progress)
            return _idx.verify(raw, "the answer", file, other)
        except TimeoutError:
            silent.add(mirror)  # a second wait would not help a reader without a network
            failures[mirror] = f"no answer within {source.timeout:g} s"
        except (OSError, ValueError) as error:
            failures[mirror] = _in_short(error)
    reasons = "; ".join(f"{mirror}: {why}" for mirror, why in failures.items())
    remedy = (
        f"With a network: python -m vaelib data {source.name}. {_no_network(source)} "
        "VAELIB_CACHE chooses another folder to keep downloads in."
    )
    raise _not_found(source, file, other, folder, reasons, remedy)


def _in_short(error: Exception) -> str:
    """Return why a download failed in a few words; the messages of requests fill a paragraph."""
    if isinstance(error, DataError):
        return str(error)
    response = getattr(error, "response", None)
    if response is not None and response.status_code >= 400:
        return f"HTTP status {response.status_code}"
    return "no connection, or a broken one" if type(error).__name__ == "ConnectionError" else type(error).__name__


class _Buffer(io.BytesIO):
    """A memory file of limited size."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, piece) -> int:
        if self.tell() + len(piece) > self.limit:
            raise DataError(f"the answer is longer than {self.limit:,} bytes")
        return super().write(piece)


def _download(url: str, file: IdxFile, timeout: float, progress: bool) -> bytes:
    """Return what a mirror sends; TimeoutError when no byte of it came in time."""
    import pooch
    from tqdm import tqdm

    buffer = _Buffer(file.limit)
    failures: list[Exception] = []
    bar = (
        tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, leave=False, file=sys.stderr)
        if progress
        else None
    )
    get = pooch.HTTPDownloader(progressbar=bar or False, chunk_size=2**12, timeout=(2 * timeout, timeout))

    def run() -> None:
        try:
            get(url, buffer, None)
        except Exception as error:
            failures.append(error)

    # A host has up to 16 addresses, and requests waits its time-out at each. In a thread, one deadline holds for all.
    thread = threading.Thread(target=run, daemon=True)
    deadline = time.monotonic() + timeout
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if not buffer.tell() and time.monotonic() > deadline:
                raise TimeoutError(url)
        if failures:
            raise failures[0]
        return buffer.getvalue()
    finally:
        buffer.close()  # a thread that is still at work ends at its next write
        if bar is not None:
            bar.close()
