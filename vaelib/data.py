"""Images for the chapters: the embedded 8x8 digits, MNIST verified bit by bit, and the ring of chapter 2.

MNIST is looked for in the folder `mnist` of `$VAELIB_DATA`, where nothing is ever written. Where that variable is not
set, it is looked for in the reader's cache (`$VAELIB_CACHE`, or the platform's own place), and fetched into it.
"""

import hashlib
import io
import math
import os
import sys
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "DataError",
    "DataNotFoundError",
    "ImageData",
    "LocatedFile",
    "binarize",
    "load",
    "locate",
    "ring",
    "train_validation_split",
]


class DataError(ValueError):
    """Data that cannot be used; the message names the file, what is wrong with it and what helps."""


class DataNotFoundError(DataError, FileNotFoundError):
    """Data that is neither on this machine nor to be fetched now."""

    __str__ = ValueError.__str__  # FileNotFoundError's own would look for an error number


@dataclass(frozen=True, eq=False)
class ImageData:
    """Hold labelled grey images: `images` float32 (N, H, W) in [0, 1] and `labels` int64 (N,)."""

    name: str
    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        """Refuse images and labels that do not pair up."""
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images):,} images with {len(self.labels):,} labels: there must be one each")

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.images)

    def subset(self, rows: int | Tensor) -> "ImageData":
        """Return the first `rows` images, or those at the indices `rows` (M,), with their labels."""
        index = torch.arange(len(self))[:rows] if isinstance(rows, int) else rows
        return ImageData(self.name, self.images[index], self.labels[index])


def load(
    name: str,
    split: Literal["train", "test"] = "train",
    fallback: Literal["digits"] | None = None,
    progress: bool | None = None,
) -> ImageData:
    """Return a data set by name, "digits" (1,500 and 297 images of 8x8) or "mnist" (60,000 and 10,000 of 28x28).

    With fallback="digits", a missing MNIST becomes a warning and the digits (unless VAELIB_NO_FALLBACK=1 is set).
    progress=None shows a download's bar on a terminal and in a notebook only.

    Raises: DataNotFoundError where MNIST is not at hand; DataError for a bad file in VAELIB_DATA or an unknown name.
    Source: LeCun, Cortes and Burges (MNIST, CC BY-SA 3.0); Alpaydin and Kaynak (UCI digits, through scikit-learn).
    """
    if split not in ("train", "test"):
        raise DataError(f"unknown split {split!r}: choose 'train' or 'test'")
    if fallback not in (None, "digits"):
        raise DataError(f"unknown fallback {fallback!r}: choose 'digits' or None")
    if name == "digits":
        return _digits(split)
    if name == "mnist":
        return _load_idx(_MNIST, split, fallback, progress)
    raise DataError(f"unknown data set {name!r}: choose 'digits' or 'mnist'")


def binarize(images: Tensor, generator: torch.Generator | None = None, threshold: float | None = None) -> Tensor:
    """Return images of zeros and ones: x ~ Bernoulli(images), or x = 1 where images > threshold if one is given.

    Shape and float type are kept. Without a generator, torch's default one draws; a threshold leaves nothing to chance.

    Raises: ValueError for pixels outside [0, 1] (checked on the CPU only: on a GPU the check would stall it).
    """
    if not images.is_floating_point():
        raise ValueError(f"pixels are {images.dtype}: convert to float and divide by 255")
    if images.device.type == "cpu" and not ((images >= 0) & (images <= 1)).all():
        raise ValueError("pixels must lie in [0, 1], and some do not or are NaN: divide by 255?")
    if threshold is None:
        return torch.bernoulli(images, generator=generator)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}, and pixels lie in [0, 1]")
    return (images > threshold).to(images.dtype)


def ring(n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return n points (n, 2) of the ring: g(z) = z/10 + z/||z||, z ~ N(0, I).

    Their distance from the origin has mean 1.1253 and standard deviation 0.0655.

    Raises: ValueError for a negative n.
    Source: Doersch 2016 (arXiv 1606.05908), Figure 2; chapter 2.
    """
    if n < 0:
        raise ValueError(f"n is {n}: the number of points cannot be negative")
    z = torch.randn(n, 2, generator=generator, dtype=dtype)
    return z / 10 + z / z.norm(dim=1, keepdim=True)


def train_validation_split(data: ImageData, n_validation: int, seed: int = 0) -> tuple[ImageData, ImageData]:
    """Return data without n_validation images drawn at random, and those images: the same ones for the same seed.

    Raises: ValueError unless both parts hold at least one image.
    """
    if not 0 < n_validation < len(data):
        raise ValueError(f"n_validation is {n_validation}: of {len(data):,} images choose 1 to {len(data) - 1:,}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.subset(order[n_validation:]), data.subset(order[:n_validation])


@dataclass(frozen=True)
class LocatedFile:
    """Say where one file of a data set is, or should be; `state` is "verified", "missing" or what is wrong."""

    path: str
    state: str

    def __str__(self) -> str:
        """Return one line for the command line."""
        return f"{self.path}: {self.state}"


def locate(name: str) -> tuple[LocatedFile, ...]:
    """Return where each file of a data set is and whether its content is right, changing and fetching nothing.

    Raises: DataError for an unknown name; DataNotFoundError where there is no home folder to look in.
    """
    if name == "digits":
        return (LocatedFile("the digits come with scikit-learn", "verified"),)
    if name == "mnist":
        return _locate_idx(_MNIST)
    raise DataError(f"unknown data set {name!r}: choose 'digits' or 'mnist'")


def _digits(split: str) -> ImageData:
    """Return one part of scikit-learn's digits: 297 test images spaced evenly through the 1,797, the others to train.

    The images lie there in the order of their writers, classes in turn: even spacing gives both parts the same writers
    and, within 8 images, the same share of each class, with no random numbers that a new version could change.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    test = np.zeros(len(source.images), dtype=bool)
    test[np.arange(297) * len(test) // 297] = True
    rows = test if split == "test" else ~test
    images = torch.from_numpy((source.images[rows] / 16).astype(np.float32))
    return ImageData("digits", images, torch.from_numpy(source.target[rows].astype(np.int64)))


# MNIST: what it must be, where it may be


@dataclass(frozen=True)
class _File:
    """One IDX file: images have a shape of three numbers, labels of one; sha256 is that of the decompressed bytes."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def kind(self) -> str:
        return _KINDS[self.magic]

    @property
    def magic(self) -> int:
        return 0x0800 + len(self.shape)  # 08: unsigned bytes; then the number of dimensions

    @property
    def header(self) -> int:
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        return self.header + math.prod(self.shape)


_KINDS = {2049: "labels", 2051: "images"}


@dataclass(frozen=True)
class _Source:
    """A data set in IDX files: for each split its images and its labels, and the mirrors that serve them as .gz."""

    name: str
    splits: Mapping[str, tuple[_File, _File]]
    mirrors: tuple[str, ...]
    timeout: float = 10.0  # seconds until the first byte, and between two pieces


_MNIST = _Source(
    name="mnist",
    splits={
        "train": (
            _File(
                "train-images-idx3-ubyte",
                (60_000, 28, 28),
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            _File(
                "train-labels-idx1-ubyte",
                (60_000,),
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
        ),
        "test": (
            _File(
                "t10k-images-idx3-ubyte",
                (10_000, 28, 28),
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            _File(
                "t10k-labels-idx1-ubyte",
                (10_000,),
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
)


def _load_idx(source: _Source, split: str, fallback: str | None = None, progress: bool | None = None) -> ImageData:
    """Return one split of an IDX data set, or of the digits where it is not at hand and a fallback is allowed."""
    if progress is None:
        progress = _is_watched()
    try:
        pixels, labels = (_content(source, file, other, progress) for file, other in _pairs(source, split))
    except DataNotFoundError as error:
        if fallback is None or os.environ.get("VAELIB_NO_FALLBACK", "") not in ("", "0"):
            raise
        warnings.warn(f"{error}\nThis chapter goes on with the 8x8 digits.", UserWarning, stacklevel=3)
        return _digits(split)
    file, other = source.splits[split]
    images = np.frombuffer(pixels, np.uint8, offset=file.header).reshape(file.shape)
    return ImageData(
        source.name,
        torch.from_numpy(np.divide(images, 255, dtype=np.float32)),
        torch.from_numpy(np.frombuffer(labels, np.uint8, offset=other.header).astype(np.int64)),
    )


def in_notebook() -> bool:
    """Return whether output goes to a notebook."""
    ipython = sys.modules.get("IPython")  # imported already where this is a notebook
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _is_watched() -> bool:
    """Return whether somebody may look at a progress bar: in a terminal or in a notebook."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def _pairs(source: _Source, split: str) -> tuple[tuple[_File, _File], tuple[_File, _File]]:
    """Return the images with the labels they belong to, and the labels with their images."""
    images, labels = source.splits[split]
    return (images, labels), (labels, images)


def _folder(source: _Source) -> tuple[Path, bool]:
    """Return the folder to look in, and whether it is our cache (else it is the reader's own, never written to)."""
    own, cache = os.environ.get("VAELIB_DATA"), os.environ.get("VAELIB_CACHE")
    if not (own or cache):
        import pooch

        cache = str(pooch.os_cache("vaelib"))
    try:
        return Path(own or cache or "").expanduser() / source.name, not own
    except RuntimeError as error:  # there is no HOME, and the system knows no home folder for this user
        message = f"{own or cache} lies in a home folder, and there is none: set HOME or VAELIB_CACHE to a folder"
        raise DataNotFoundError(message) from error


def _content(source: _Source, file: _File, other: _File, progress: bool) -> bytes:
    """Return the verified bytes of one file from the reader's folder, our cache or a mirror."""
    folder, is_cache = _folder(source)
    for path in _candidates(folder, file):
        try:
            return _read(path, file, other)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except DataError as error:
            if not is_cache:
                raise DataError(f"{error}. VAELIB_DATA is yours and stays as it is: replace or remove it.") from error
            _set_aside(path, error)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}): change that, or remove it") from error
    if is_cache:
        return _fetch(source, file, other, folder, progress)
    raise _not_found(source, file, other, folder, "VAELIB_DATA names the folder above it, and the files are not there")


def _candidates(folder: Path, file: _File) -> tuple[Path, Path]:
    return folder / file.name, folder / f"{file.name}.gz"


def _locate_idx(source: _Source) -> tuple[LocatedFile, ...]:
    """Return the state of each file: the one that `_content` would read, or where it would be."""
    folder, _ = _folder(source)
    return tuple(_state(folder, file, other) for split in source.splits for file, other in _pairs(source, split))


def _state(folder: Path, file: _File, other: _File) -> LocatedFile:
    for path in _candidates(folder, file):
        try:
            _read(path, file, other)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except DataError as error:
            return LocatedFile(str(path), str(error).removeprefix(f"{path} "))
        except OSError as error:
            return LocatedFile(str(path), f"cannot be read ({error.strerror})")
        return LocatedFile(str(path), "verified")
    return LocatedFile(str(folder / file.name), "missing")


def _not_found(source: _Source, file: _File, other: _File, folder: Path, reason: str) -> DataNotFoundError:
    """Return the error that names the files, the folder, the reason, the command and the variables that help."""
    names = " and ".join(sorted(f"{each.name}.gz" for each in (file, other)))
    return DataNotFoundError(
        f"{source.name.upper()} is not at hand: {names} are needed, and {folder} does not hold both ({reason}).\n"
        f"To get them with a network: python -m vaelib data {source.name}\n"
        f"Without one: put the files of {source.mirrors[-1]} in a folder named {source.name}, and set VAELIB_DATA to "
        "the folder that contains it. VAELIB_CACHE chooses another folder to keep downloads in."
    )


# Reading and checking a file


def _read(path: Path, file: _File, other: _File) -> bytes:
    """Return the verified bytes of an IDX file, compressed or not; OSError is the caller's to explain."""
    with path.open("rb") as stream:
        raw = stream.read(_limit(file) + 1)  # never more, whatever lies there
    return _verify(raw, str(path), file, other)


def _limit(file: _File) -> int:
    """Return the largest sensible number of bytes of a file as it is stored or sent: gzip may add a little."""
    return file.size + 2**16


def _verify(raw: bytes, where: str, file: _File, other: _File) -> bytes:
    """Return the decompressed content of raw, or raise a DataError that says what it is instead.

    The SHA-256 at the end would refuse anything that the earlier checks refuse: they are there for their messages.
    """
    if not raw:
        raise DataError(f"{where} is empty (0 bytes)")
    content = _gunzip(raw, where, file) if raw.startswith(b"\x1f\x8b") else raw
    if content.lstrip()[:1] == b"<":
        raise DataError(f"{where} is a web page and no data (from a proxy or a login page?)")
    _check_header(content, where, file, other)
    if len(content) < file.size:
        raise DataError(f"{where} is truncated: {file.size:,} bytes expected, {len(content):,} found")
    if len(content) > file.size:
        raise DataError(f"{where} has trailing bytes: {file.size:,} bytes expected, more found")
    if file.kind == "labels":
        labels = np.frombuffer(content, np.uint8, offset=file.header)
        if (labels > 9).any():
            index = int(np.argmax(labels > 9))
            raise DataError(f"{where} has label {labels[index]} at index {index:,}: labels are 0 to 9")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(f"{where} has the wrong SHA-256: its content is not that of {file.name}")
    return content


def _gunzip(raw: bytes, where: str, file: _File) -> bytes:
    """Return at most one byte more than the file should have, so that a small bomb cannot fill the memory."""
    inflate = zlib.decompressobj(wbits=31)
    try:
        content = inflate.decompress(raw, file.size + 1)
    except zlib.error as error:
        raise DataError(f"{where} is a damaged gzip file ({error})") from error
    if not inflate.eof and len(content) <= file.size:
        raise DataError(f"{where} is a truncated gzip file: it ends after {len(raw):,} bytes, before its end mark")
    if inflate.unused_data:
        raise DataError(f"{where} has {len(inflate.unused_data):,} trailing bytes after the end of its gzip data")
    return content


def _check_header(content: bytes, where: str, file: _File, other: _File) -> None:
    """Refuse a header that is not this file's, before its numbers are used for anything."""
    if len(content) < 4:
        raise DataError(f"{where} is truncated: {file.size:,} bytes expected, {len(content):,} found")
    magic = int.from_bytes(content[:4], "big")
    if magic == other.magic:
        raise DataError(f"{where} holds {other.kind}, not {file.kind}: were {file.name} and {other.name} swapped?")
    if magic != file.magic:
        raise DataError(f"{where} is no IDX file of {file.kind}: magic number {file.magic} expected, {magic} found")
    if len(content) < file.header:
        raise DataError(f"{where} is truncated: {file.size:,} bytes expected, {len(content):,} found")
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, file.header, 4))
    if shape[1:] != file.shape[1:]:
        raise DataError(f"{where} has images of {shape[1:]} pixels: {file.shape[1:]} expected")
    if shape != file.shape:
        raise DataError(
            f"{where} claims {shape[0]:,} {file.kind}, but {file.shape[0]:,} must go with "
            f"the {other.shape[0]:,} {other.kind} of {other.name}"
        )


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
        except OSError as error:
            raise DataError(f"{reason}, and {path.parent} cannot be written ({error.strerror})") from error
    try:
        path.replace(aside)
    except FileNotFoundError:  # another process has just set it aside
        aside.unlink()
    else:
        warnings.warn(f"{reason}. It was set aside as {aside.name}.", UserWarning, stacklevel=6)


def _fetch(source: _Source, file: _File, other: _File, folder: Path, progress: bool) -> bytes:
    """Return the verified bytes of one file from the mirrors, having put them into the cache folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Made before the download, so that a folder that cannot be written costs no waiting.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True) as private:
            content = _from_mirrors(source, file, other, folder, progress)
            _store(content, Path(private) / file.name, folder / file.name)
    except DataError:
        raise
    except OSError as error:
        reason = f"that folder cannot be written: {error.strerror}; set VAELIB_CACHE to one that can"
        raise _not_found(source, file, other, folder, reason) from error
    return content


def _store(content: bytes, private: Path, final: Path) -> None:
    """Write the bytes under a private name and rename: the final name never shows part of a file."""
    with private.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    # A file that is there by now comes from another process or from the reader: it stays.
    if not os.path.lexists(final):
        with suppress(PermissionError, FileExistsError):  # Windows, where another process reads or has just made it
            private.replace(final)


def _from_mirrors(source: _Source, file: _File, other: _File, folder: Path, progress: bool) -> bytes:
    """Return the verified bytes from the first mirror that serves them, trying each twice."""
    failures: dict[str, str] = {}
    silent = set()
    for mirror in source.mirrors * 2:
        if mirror in silent:
            continue
        try:
            raw = _download(f"{mirror}{file.name}.gz", file, source.timeout, progress)
            return _verify(raw, "the answer", file, other)
        except TimeoutError:
            silent.add(mirror)  # a second wait would not help a reader without a network
            failures[mirror] = f"no answer within {source.timeout:g} s"
        except (OSError, ValueError) as error:
            failures[mirror] = _in_short(error)
    raise _not_found(source, file, other, folder, "; ".join(f"{mirror}: {why}" for mirror, why in failures.items()))


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


def _download(url: str, file: _File, timeout: float, progress: bool) -> bytes:
    """Return what a mirror sends; TimeoutError when no byte of it came in time."""
    import pooch
    from tqdm import tqdm

    buffer = _Buffer(_limit(file))
    failures: list[Exception] = []
    bar = (
        tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, leave=False, file=sys.stderr)
        if progress
        else None
    )
    get = pooch.HTTPDownloader(progressbar=bar or False, chunk_size=2**16, timeout=(2 * timeout, timeout))

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
