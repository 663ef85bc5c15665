"""Files in the IDX format of MNIST: what one must be, and reading it with every byte verified.

An IDX file is a header (two zeros, 08 for unsigned bytes, the number of dimensions, then each size in four bytes) and
the bytes themselves, the last dimension fastest.
"""

import errno
import hashlib
import math
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["DataError", "IdxFile", "is_proven", "read", "to_array", "verify"]

_GZIP = b"\x1f\x8b"
_KINDS = {2049: "labels", 2051: "images"}


class DataError(ValueError):
    """Data that cannot be used; the message names the file, what is wrong with it and what helps."""

    __module__ = "vaelib.data"  # where readers import it from


@dataclass(frozen=True)
class IdxFile:
    """Say what a file must be: images have a shape of three numbers, labels of one.

    Args:
        name: its name, without .gz.
        shape: the sizes that its header must give.
        sha256: the hash of its decompressed bytes, where it is known.
        md5: the hash of the .gz file as it is published, where that is known instead.
        labels: the lowest and the highest label.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str = ""
    md5: str = ""
    labels: tuple[int, int] = (0, 9)

    @property
    def kind(self) -> str:
        """What the file holds, "images" or "labels"."""
        return _KINDS[self.magic]

    @property
    def magic(self) -> int:
        """The number in the first four bytes."""
        return 0x0800 + len(self.shape)  # 08: unsigned bytes; then the number of dimensions

    @property
    def header(self) -> int:
        """The bytes before the content."""
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        """The bytes of the whole file."""
        return self.header + math.prod(self.shape)

    @property
    def limit(self) -> int:
        """The largest sensible number of bytes as the file is stored or sent: gzip may add a little."""
        return self.size + 2**16


def read(path: Path, file: IdxFile, other: IdxFile) -> bytes:
    """Return the verified bytes of an IDX file, compressed or not.

    Args:
        path: where it lies.
        file: what it must be.
        other: the file that belongs to it, labels to images or images to labels.

    Raises:
        DataError: for a file that is not `file`.
        OSError: where it cannot be read; the caller explains that.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for until somebody writes into it
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device", str(path))
    with path.open("rb") as stream:
        raw = stream.read(file.limit + 1)  # never more, whatever lies there
    return verify(raw, str(path), file, other)


def verify(raw: bytes, where: str, file: IdxFile, other: IdxFile) -> bytes:
    """Return the decompressed content of raw bytes that are `file`.

    The hash at the end would refuse anything that the earlier checks refuse: they are there for their messages. Where
    only the hash of the packed file is known, an unpacked one is checked by them alone; see `is_proven`.

    Args:
        raw: what was read or sent, compressed or not.
        where: what the message calls it.
        file: what it must be.
        other: the file that belongs to it.

    Raises:
        DataError: says what it is instead.
    """
    if not raw:
        raise DataError(f"{where} is empty (0 bytes)")
    content = _gunzip(raw, where, file) if raw.startswith(_GZIP) else raw
    if content.lstrip()[:1] == b"<":
        raise DataError(f"{where} is a web page and no data (from a proxy or a login page?)")
    _check_header(content, where, file, other)
    if len(content) < file.size:
        raise _truncated(content, where, file)
    if len(content) > file.size:
        raise DataError(f"{where} has trailing bytes: {file.size:,} bytes expected, more found")
    if file.kind == "labels":
        labels, (low, high) = to_array(content, file), file.labels
        wrong = (labels < low) | (labels > high)
        if wrong.any():
            index = int(np.argmax(wrong))
            raise DataError(f"{where} has label {labels[index]} at index {index:,}: labels are {low} to {high}")
    if file.sha256 and hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(f"{where} has the wrong SHA-256: its content is not that of {file.name}")
    if file.md5 and raw is not content and hashlib.md5(raw, usedforsecurity=False).hexdigest() != file.md5:
        raise DataError(f"{where} has the wrong MD5: it is not {file.name}.gz as it is published")
    return content


def is_proven(path: Path, file: IdxFile) -> bool:
    """Return whether a file that `read` takes was compared with a hash, and not by its form alone.

    Args:
        path: where it lies.
        file: what it must be.
    """
    if file.sha256:
        return True
    with path.open("rb") as stream:
        return bool(file.md5) and stream.read(2) == _GZIP


def to_array(content: bytes, file: IdxFile) -> np.ndarray:
    """Return the numbers of a verified file.

    Shapes:
        uint8 ``(N, H, W)`` for images, ``(N,)`` for labels.
    """
    return np.frombuffer(content, np.uint8, offset=file.header).reshape(file.shape)


def _gunzip(raw: bytes, where: str, file: IdxFile) -> bytes:
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


def _check_header(content: bytes, where: str, file: IdxFile, other: IdxFile) -> None:
    """Refuse a header that is not this file's, before its numbers are used for anything."""
    if len(content) < 4:
        raise _truncated(content, where, file)
    magic = int.from_bytes(content[:4], "big")
    if magic == other.magic:
        raise DataError(f"{where} holds {other.kind}, not {file.kind}: were {file.name} and {other.name} swapped?")
    if magic != file.magic:
        raise DataError(f"{where} is no IDX file of {file.kind}: magic number {file.magic} expected, {magic} found")
    if len(content) < file.header:
        raise _truncated(content, where, file)
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, file.header, 4))
    if shape[1:] != file.shape[1:]:
        raise DataError(f"{where} has images of {shape[1:]} pixels: {file.shape[1:]} expected")
    if shape != file.shape:
        raise DataError(
            f"{where} claims {shape[0]:,} {file.kind}, but {file.shape[0]:,} must go with "
            f"the {other.shape[0]:,} {other.kind} of {other.name}"
        )


def _truncated(content: bytes, where: str, file: IdxFile) -> DataError:
    return DataError(f"{where} is truncated: {file.size:,} bytes expected, {len(content):,} found")
