"""The data sets that `vaelib.data.load` knows, by name: to add one, add its entry to `SETS` at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vaelib._fetch import LocatedFile, Source, mnist_like
from vaelib._idx import DataError

__all__ = ["SETS", "Embedded", "find"]


@dataclass(frozen=True)
class Embedded:
    """Describe a data set that is always at hand, and needs no file of its own.

    Args:
        make: returns the fields of `ImageData` for "train" or "test".
        origin: where it comes from, as a sentence.
    """

    make: Callable[[str], dict[str, Any]]
    origin: str

    def read(self, split: str, progress: bool) -> dict[str, Any]:
        """Return the fields of `ImageData` for one split."""
        return self.make(split)

    def locate(self) -> tuple[LocatedFile, ...]:
        """Return where it comes from, in place of files."""
        return (LocatedFile(self.origin, "verified"),)


def find(name: str) -> Embedded | Source:
    """Return a data set by its name.

    Raises:
        DataError: for an unknown one; it names the others.
    """
    if name not in SETS:
        *others, last = map(repr, SETS)
        raise DataError(f"unknown data set {name!r}: choose {', '.join(others)} or {last}")
    return SETS[name]


def _digits(split: str) -> dict[str, Any]:
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
    return {"images": images, "labels": torch.from_numpy(source.target[rows].astype(np.int64))}


SETS: dict[str, Embedded | Source] = {
    "digits": Embedded(_digits, origin="the digits come with scikit-learn"),
    "mnist": mnist_like(
        "mnist",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
}
