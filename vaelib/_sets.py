"""The data sets that `vaelib.data.load` knows, by name: to add one, add its entry to `SETS` at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vaelib._emnist import KINDS, Emnist
from vaelib._fetch import LocatedFile, Source, mnist_like
from vaelib._idx import DataError
from vaelib._made import Rendered

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


def find(name: str) -> Embedded | Emnist | Rendered | Source:
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


def _patches(split: str) -> dict[str, Any]:
    """Return squares of 32x32 in colour of the two photographs that come with scikit-learn.

    Patches to train are cut from the left five eighths of each, in steps of 8 pixels, where neighbours overlap; those
    to test from the rest, in steps of 32, where none does. No pixel is in both parts.
    """
    from sklearn.datasets import load_sample_images

    found, labels = [], []
    for label, photograph in enumerate(load_sample_images().images):
        edge = 5 * photograph.shape[1] // 8
        part, step = (photograph[:, edge:], 32) if split == "test" else (photograph[:, :edge], 8)
        windows = np.lib.stride_tricks.sliding_window_view(part, (32, 32), axis=(0, 1))[::step, ::step]
        found.append(windows.reshape(-1, 3, 32, 32))
        labels += [label] * len(found[-1])
    images = torch.from_numpy(np.divide(np.concatenate(found), 255, dtype=np.float32))
    return {"images": images, "labels": torch.tensor(labels), "classes": ("temple", "flower")}


SETS: dict[str, Embedded | Emnist | Rendered | Source] = {
    "digits": Embedded(_digits, origin="the digits come with scikit-learn"),
    "patches": Embedded(_patches, origin="the photographs come with scikit-learn"),
    "scene": Rendered("scene", {"train": (20_000, 0), "test": (4_000, 1)}),
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
        torchvision="MNIST",
    ),
    "fashion-mnist": mnist_like(
        "fashion-mnist",
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        md5={
            "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        torchvision="FashionMNIST",
        keras="fashion-mnist",
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"),
            "Ankle boot",
        ),
    ),
    "kmnist": mnist_like(
        "kmnist",
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        md5={
            "train-images-idx3-ubyte": "bdb82020997e1d708af4cf47b453dcf7",
            "train-labels-idx1-ubyte": "e144d726b3acfaa3e44228e80efcd344",
            "t10k-images-idx3-ubyte": "5c965bf0a639b31b8f53240b1b52f4d7",
            "t10k-labels-idx1-ubyte": "7320c461ea6c1c855c0b718fb2a4b134",
        },
        torchvision="KMNIST",
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    **{f"emnist-{kind}": Emnist(kind) for kind in KINDS},
}
