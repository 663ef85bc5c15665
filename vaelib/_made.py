"""Data sets that are computed: made once, in seconds, and kept in the cache, where nothing is read that is not right.

What is kept is found by a name that holds a hash of all that determines it: the code that makes it and the factors. A
change of either makes a new file. The file is a SHA-256, of that hash and of the content, and the content.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vaelib import _rays, scene
from vaelib._fetch import DataNotFoundError, LocatedFile, cache_folder
from vaelib._files import atomic_write
from vaelib._idx import DataError
from vaelib._notices import warn

__all__ = ["Rendered"]

_AT_ONCE = 100


@dataclass(frozen=True)
class Rendered:
    """Describe a data set of pictures of `vaelib.scene`, the kind of solid their labels.

    Args:
        name: the data set's, and that of the folder of the cache that it is kept in.
        splits: for each split the number of pictures and the seed of their factors.
    """

    name: str
    splits: Mapping[str, tuple[int, int]]

    def read(self, split: str, progress: bool) -> dict[str, Any]:
        """Return the fields of `ImageData` for one split, from `$VAELIB_DATA`, the cache, or the renderer.

        Args:
            split: a key of `splits`.
            progress: whether rendering shows a bar.

        Raises:
            DataError: for a damaged file in the reader's own folder.
        """
        factors = scene.draw_factors(*self.splits[split])
        key = _key(factors.numpy())
        shape = (len(factors), 3, scene.SIZE, scene.SIZE)
        pixels = self._kept(split, key, shape)
        if pixels is None:
            pixels = _render(factors.double().numpy(), f"{self.name}, {split}", progress)
            self._keep(split, key, pixels)
        return {
            "images": torch.from_numpy(np.divide(pixels, 255, dtype=np.float32)),
            "labels": factors[:, -1].long(),
            "factors": factors,
            "classes": scene.KINDS,
        }

    def locate(self) -> tuple[LocatedFile, ...]:
        """Return the state of the file of each split: "missing" where it is still to be rendered."""
        found = []
        for split, made_of in self.splits.items():
            factors = scene.draw_factors(*made_of)
            key = _key(factors.numpy())
            path, state = Path(f"{self.name} ({split})"), "missing"
            for path, _ in self._places(split, key):
                try:
                    _verified(path.read_bytes(), key, (len(factors), 3, scene.SIZE, scene.SIZE), path)
                    state = "verified"
                except FileNotFoundError:
                    continue
                except (OSError, DataError) as error:
                    state = str(error)
                break
            found.append(LocatedFile(str(path), state))
        return tuple(found)

    def _places(self, split: str, key: bytes) -> list[tuple[Path, bool]]:
        """Return where the file may be, and whether it is ours to replace there."""
        name = f"{split}-{key.hex()[:16]}"
        own = os.environ.get("VAELIB_DATA")
        places = [(Path(own).expanduser() / self.name / name, False)] if own else []
        with suppress(DataNotFoundError):  # this user has no home: what is rendered is not kept
            places.append((cache_folder(self.name) / name, True))
        return places

    def _kept(self, split: str, key: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
        for path, is_ours in self._places(split, key):
            try:
                return _verified(path.read_bytes(), key, shape, path)
            except DataError as error:
                if not is_ours:
                    raise DataError(f"{error}: remove it, and it is rendered anew") from error
                warn(f"{error}: it is rendered anew")
            except OSError:
                continue
        return None

    def _keep(self, split: str, key: bytes, pixels: NDArray[np.uint8]) -> None:
        content = pixels.tobytes()
        try:
            path = cache_folder(self.name) / self._places(split, key)[-1][0].name
            atomic_write(path, hashlib.sha256(key + content).digest() + content)
        except OSError as error:
            warn(
                f"the pictures cannot be kept, and are rendered again the next time ({error}): set VAELIB_CACHE to a "
                "folder that can be written"
            )


def _key(factors: NDArray[Any]) -> bytes:
    """Return a hash of what determines the pictures: the renderer's code and the factors."""
    sources = (Path(module.__file__ or "").read_bytes().replace(b"\r\n", b"\n") for module in (scene, _rays))
    return hashlib.sha256(b"\0".join([*sources, factors.astype("<f4").tobytes()])).digest()


def _verified(raw: bytes, key: bytes, shape: tuple[int, ...], path: Path) -> NDArray[np.uint8]:
    if hashlib.sha256(key + raw[32:]).digest() != raw[:32] or len(raw) - 32 != np.prod(shape):
        raise DataError(f"{path} is damaged ({len(raw):,} bytes)")
    return np.frombuffer(raw, np.uint8, offset=32).reshape(shape)


def _render(factors: NDArray[np.float64], title: str, progress: bool) -> NDArray[np.uint8]:
    """Return the pictures, made by all processors: NumPy lets others run while it computes."""
    pieces = [factors[start : start + _AT_ONCE] for start in range(0, len(factors), _AT_ONCE)]
    render: Callable[[NDArray[np.float64]], NDArray[np.uint8]] = scene.in_bytes
    bar = tqdm(total=len(factors), desc=title, unit="picture", leave=False, file=sys.stderr, disable=not progress)
    done = []
    with bar, ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2) as pool:
        for piece in pool.map(render, pieces):
            done.append(piece)
            bar.update(len(piece))
    return np.concatenate(done)
