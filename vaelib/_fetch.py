"""Data sets in files: where they may lie, the cache, and the mirrors that serve what is missing.

A file is looked for in the reader's own folder, `$VAELIB_DATA`, where nothing is ever written. Where that variable is
not set, it is looked for in the cache (`$VAELIB_CACHE`, or the platform's own place), then where torchvision and Keras
keep theirs, which is read, never written, and at last fetched into the cache. Nobody gets a byte that was not verified:
by its hash, or, for an unpacked file of which only the hash of the packed one is known, by its form.
"""

import io
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelib import _idx
from vaelib._files import atomic_write
from vaelib._idx import DataError, IdxFile
from vaelib._notices import warn

__all__ = ["DataNotFoundError", "LocatedFile", "Source", "cache_folder", "mnist_like"]


class DataNotFoundError(DataError, FileNotFoundError):
    """Data that is neither on this machine nor to be fetched now."""

    __module__ = "vaelib.data"  # where readers import it from
    __str__ = ValueError.__str__  # FileNotFoundError's own would look for an error number


@dataclass(frozen=True)
class LocatedFile:
    """Say where one file of a data set is, or should be.

    `state` is "verified", "right in form, its content not verified", "missing" or what is wrong.
    """

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
        torchvision: the name of the folder that torchvision keeps it in.
        keras: that of Keras.
        classes: the name of each label.
    """

    name: str
    splits: Mapping[str, tuple[IdxFile, IdxFile]]
    mirrors: tuple[str, ...]
    timeout: float = 10.0
    torchvision: str = ""
    keras: str = ""
    classes: tuple[str, ...] | None = None

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
            "classes": self.classes,
        }

    def locate(self) -> tuple[LocatedFile, ...]:
        """Return the state of each file: the one that `read` would read, or where it would be.

        Raises:
            DataNotFoundError: where there is no home folder to look in.
        """
        pairs = [pair for images, labels in self.splits.values() for pair in ((images, labels), (labels, images))]
        return tuple(_state(self, file, other) for file, other in pairs)


def mnist_like(
    name: str,
    mirrors: tuple[str, ...],
    sha256: Mapping[str, str] | None = None,
    md5: Mapping[str, str] | None = None,
    **more: Any,
) -> Source:
    """Return a data set of MNIST's form: 60,000 and 10,000 images of 28x28 in four files of MNIST's names.

    Args:
        name: the data set's.
        mirrors: the addresses, with a slash at the end, that serve the files as .gz.
        sha256: the hash of each file's decompressed bytes, by its name.
        md5: the hash of each .gz file, by its name without .gz.
        more: other fields of `Source`.
    """
    splits = {}
    for split, prefix, n in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        images, labels = (
            IdxFile(file, shape, (sha256 or {}).get(file, ""), (md5 or {}).get(file, ""))
            for file, shape in (
                (f"{prefix}-images-idx3-ubyte", (n, 28, 28)),
                (f"{prefix}-labels-idx1-ubyte", (n,)),
            )
        )
        splits[split] = (images, labels)
    return Source(name, splits, mirrors, **more)


def _state(source: Source, file: IdxFile, other: IdxFile) -> LocatedFile:
    folder, is_cache = _folder(source)
    for path, is_known in _candidates(source, folder, is_cache, file):
        try:
            _idx.read(path, file, other)
            state = "verified" if _idx.is_proven(path, file) else "right in form, its content not verified"
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (DataError, OSError) as error:
            if not is_known:
                continue
            reason = str(error) if isinstance(error, DataError) else f"cannot be read ({error.strerror})"
            return LocatedFile(str(path), reason.removeprefix(f"{path} "))
        return LocatedFile(str(path), state)
    return LocatedFile(str(folder / file.name), "missing")


def _content(source: Source, file: IdxFile, other: IdxFile, progress: bool) -> bytes:
    """Return the verified bytes of one file from the reader's folder, our cache or a mirror."""
    folder, is_cache = _folder(source)
    elsewhere = []  # what others keep, and is of no use
    for path, is_known in _candidates(source, folder, is_cache, file):
        try:
            content = _idx.read(path, file, other)
            if not _idx.is_proven(path, file):
                warn(
                    f"{path} is right in form, and whether its content is {source.name}'s is not known: the hash of "
                    f"{file.name}.gz is; put that beside it, and it is read instead"
                )
            return content
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (DataError, OSError) as error:
            if not is_known:
                elsewhere.append(str(error))
                continue
            if isinstance(error, OSError):
                if not is_cache:
                    raise DataError(f"{path} cannot be read ({error.strerror}). {_own_file(source, file)}") from error
                what = f"{path.name} there cannot be read"
                raise _cache_unusable(source, file, other, folder, what, error) from error
            if not is_cache:
                raise DataError(f"{error}. {_own_file(source, file)}") from error
            try:
                _set_aside(path, error)
            except OSError as failure:
                what = f"{error}, and cannot be set aside"
                raise _cache_unusable(source, file, other, folder, what, failure) from error
    if is_cache:
        try:
            return _fetch(source, file, other, folder, progress)
        except DataNotFoundError as error:
            raise _with(error, elsewhere) from error
    remedy = (
        f"Put the files of {source.mirrors[-1]} there. Or unset VAELIB_DATA: they are then fetched into a cache when "
        f"they are needed, or at once by: python -m vaelib data {source.name}"
    )
    reason = "VAELIB_DATA names the folder above it, and nothing else is looked at while it is set"
    raise _with(_not_found(source, file, other, folder, reason, remedy), elsewhere)


def _with(error: DataNotFoundError, elsewhere: list[str]) -> DataNotFoundError:
    """Return an error that also names the files which were found elsewhere, and why they are not used."""
    return DataNotFoundError(f"{error}\nFound, and not used: {'; '.join(elsewhere)}") if elsewhere else error


def _folder(source: Source) -> tuple[Path, bool]:
    """Return the folder to look in, and whether it is our cache (else it is the reader's own, never written to)."""
    own = os.environ.get("VAELIB_DATA")
    return (_at_home("VAELIB_DATA", own) / source.name, False) if own else (cache_folder(source.name), True)


def cache_folder(name: str) -> Path:
    """Return the folder of a data set in the cache, `$VAELIB_CACHE` or the platform's own place; it need not exist.

    Raises:
        DataNotFoundError: where there is no home folder to look in.
    """
    cache = os.environ.get("VAELIB_CACHE")
    if cache:
        return _at_home("VAELIB_CACHE", cache) / name
    import pooch

    try:
        return Path(pooch.os_cache("vaelib")).expanduser() / name
    except RuntimeError as error:  # there is no HOME, and the system knows no home folder for this user
        message = "this user has no home folder to keep data in: set VAELIB_CACHE to a folder"
        raise DataNotFoundError(message) from error


def _at_home(variable: str, path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        message = f"{variable} is {path}, and there is no such home folder: set {variable} to a path without ~"
        raise DataNotFoundError(message) from error


def _candidates(source: Source, folder: Path, is_cache: bool, file: IdxFile) -> Iterator[tuple[Path, bool]]:
    """Yield where a file may be, and whether that is the folder where it should be, or one that others keep."""
    places = [(folder, True)]
    if source.torchvision:
        # Below the root that was given to torchvision: the reader's folder, or "data", as most programs have it.
        places.append(((Path("data") if is_cache else folder.parent) / source.torchvision / "raw", False))
    if source.keras and is_cache:
        with suppress(RuntimeError):  # no home
            home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
            places.append((home / "datasets" / source.keras, False))
    for place, is_known in places:
        names = (file.name, f"{file.name}.gz")
        for name in names if file.sha256 else names[::-1]:  # first the one whose hash is known
            yield place / name, is_known


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
        content, raw = _from_mirrors(source, file, other, folder, progress)
        # Stored as what its hash is known of.
        _store(*((content, folder / file.name) if file.sha256 else (raw, folder / f"{file.name}.gz")))
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


def _from_mirrors(source: Source, file: IdxFile, other: IdxFile, folder: Path, progress: bool) -> tuple[bytes, bytes]:
    """Return the verified bytes, and as they were sent, from the first mirror that serves them, trying each twice."""
    failures: dict[str, str] = {}
    silent = set()
    for mirror in source.mirrors * 2:
        if mirror in silent:
            continue
        try:
            raw = _download(f"{mirror}{file.name}.gz", file, source.timeout, progress)
            return _idx.verify(raw, "the answer", file, other), raw
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
