"""EMNIST: handwritten letters and digits in files of MNIST's form, in which each image is transposed.

Its files are read where torchvision keeps them and are never fetched: no hash of them is known here, so that their form
alone is checked.
"""

import gzip
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelib import _fetch, _idx
from vaelib._fetch import DataNotFoundError, LocatedFile, Source
from vaelib._idx import DataError, IdxFile
from vaelib._notices import warn

__all__ = ["KINDS", "Emnist"]

_PLACE = Source("emnist", {}, (), torchvision="EMNIST")
_MERGED = "cijklmopsuvwxyz"  # small letters that are written as their capitals: one class
_ALL = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SOME = "".join(each for each in _ALL if each not in _MERGED)
# The names of the classes of each kind, and the label of the first.
KINDS = {
    "letters": (string.ascii_lowercase, 1),
    "balanced": (_SOME, 0),
    "digits": (string.digits, 0),
    "mnist": (string.digits, 0),
    "byclass": (_ALL, 0),
    "bymerge": (_SOME, 0),
}
_MOST = 1_000_000  # images: the largest kind has 697,932


@dataclass(frozen=True)
class Emnist:
    """Describe one of the kinds into which EMNIST is divided, upright and with labels from 0.

    Args:
        kind: a key of `KINDS`.
    """

    kind: str
    fetched = False

    def read(self, split: str, progress: bool) -> dict[str, Any]:
        """Return the images and labels of one split.

        Args:
            split: "train" or "test".
            progress: of no use here.

        Shapes:
            images float32 ``(N, 28, 28)`` in [0, 1], labels int64 ``(N,)``.

        Raises:
            DataNotFoundError: where there is no such file.
            DataError: for a file that is none of EMNIST's form.
        """
        found = []
        for name in self._names(split):
            path = next(self._paths(name), None)
            if path is None:
                folder, _ = _fetch._folder(_PLACE)
                raise DataNotFoundError(
                    f"{name} is not at hand in {folder}, nor where torchvision keeps it, and EMNIST is not fetched: "
                    f"torchvision.datasets.EMNIST(root, split={self.kind!r}, download=True) does that; set VAELIB_DATA "
                    f"to its root, or put the files of its raw folder in {folder}"
                )
            found.append(path)
        pixels, labels = self._arrays(*found)
        warn(f"{found[0]} is right in form, and whether its content is EMNIST's is not known: nor is its hash here")
        upright = np.ascontiguousarray(pixels.transpose(0, 2, 1))
        return {
            "images": torch.from_numpy(np.divide(upright, 255, dtype=np.float32)),
            "labels": torch.from_numpy(labels.astype(np.int64) - KINDS[self.kind][1]),
            "classes": tuple(KINDS[self.kind][0]),
        }

    def locate(self) -> tuple[LocatedFile, ...]:
        """Return the state of each file."""
        return tuple(each for split in ("train", "test") for each in self._states(split))

    def _states(self, split: str) -> Iterator[LocatedFile]:
        folder, _ = _fetch._folder(_PLACE)
        names = self._names(split)
        images, labels = (next(self._paths(name), None) for name in names)
        state = "its form not checked without the other"
        if images is not None and labels is not None:
            try:
                self._arrays(images, labels)
                state = "right in form, its content not verified"
            except DataError as error:
                state = str(error)
        for name, path in zip(names, (images, labels), strict=True):
            yield LocatedFile(str(folder / name), "missing") if path is None else LocatedFile(str(path), state)

    def _names(self, split: str) -> tuple[str, str]:
        return (f"emnist-{self.kind}-{split}-images-idx3-ubyte", f"emnist-{self.kind}-{split}-labels-idx1-ubyte")

    @staticmethod
    def _paths(name: str) -> Iterator[Path]:
        """Yield where a file lies, packed or not; the archive of EMNIST has it in a folder "gzip"."""
        folder, is_cache = _fetch._folder(_PLACE)
        for path, _ in _fetch._candidates(_PLACE, folder, is_cache, IdxFile(name, (0,))):
            yield from (each for each in (path, path.parent / "gzip" / path.name) if each.is_file())

    def _arrays(self, images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels as they lie in the file, and labels, after checking their form."""
        names, first = KINDS[self.kind]
        n = _number(images)
        pair = IdxFile(images.name, (n, 28, 28)), IdxFile(labels.name, (n,), labels=(first, first + len(names) - 1))
        try:
            pixels = _idx.to_array(_idx.read(images, *pair), pair[0])
            return pixels, _idx.to_array(_idx.read(labels, *pair[::-1]), pair[1])
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error


def _number(path: Path) -> int:
    """Return how many images the header of a file claims."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rb") as stream:
            head = stream.read(8)
    except (OSError, EOFError, zlib.error):
        head = b""
    if head[:4] != bytes([0, 0, 8, 3]):
        return 1  # what is wrong is said where the file is read as a whole
    number = int.from_bytes(head[4:], "big")
    if not number:
        raise DataError(f"{path} holds no image: put the file of EMNIST in its place")
    if number > _MOST:
        raise DataError(f"{path} claims {number:,} images: EMNIST has no kind of more than {_MOST:,}")
    return number
