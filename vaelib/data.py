"""Images: the embedded 8x8 digits, MNIST verified bit by bit, a scene in colour, the ring, and a folder of your own.

`load` finds a data set by its name, in the table of `vaelib/_sets.py`. MNIST is looked for in the folder `mnist` of
`$VAELIB_DATA`, where nothing is ever written; without that variable in the cache (`$VAELIB_CACHE`, or the platform's
own place) and where torchvision keeps it, and fetched into the cache.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Literal

import torch
from torch import Tensor

from vaelib import _folder
from vaelib._fetch import DataNotFoundError, LocatedFile
from vaelib._idx import DataError
from vaelib._pixels import Array, as_tensor, check_float_pixels, check_unit_interval, first_rows
from vaelib._progress import is_watched
from vaelib._sets import SETS, find
from vaelib.distributions import standard_normal, where_to_draw
from vaelib.networks import seeded

__all__ = ["DataError", "DataNotFoundError", "ImageData", "LocatedFile", "binarize", "from_folder", "load", "locate"]
__all__ += ["names", "ring", "train_validation_split"]


@dataclass(frozen=True, eq=False)
class ImageData:
    """Hold labelled images.

    Args:
        name: the data set's.
        images: float32 in [0, 1], grey ``(N, H, W)`` or in colour ``(N, C, H, W)``.
        labels: int64 ``(N,)``.
        factors: what each image was made from, where that is known, ``(N, F)``.
        classes: the name of each label, where they have names: label 3 is `classes[3]`.

    Raises:
        DataError: where these do not belong together.
    """

    name: str
    images: Tensor
    labels: Tensor
    factors: Tensor | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse images, labels, factors and classes that do not belong together; arrays become tensors."""
        for field in ("images", "labels", "factors"):
            if (given := getattr(self, field)) is not None:
                object.__setattr__(self, field, as_tensor(given, field))
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images):,} images with {len(self.labels):,} labels: there must be one each")
        if self.factors is not None and (self.factors.ndim != 2 or len(self.factors) != len(self)):
            raise DataError(f"{len(self):,} images with factors {tuple(self.factors.shape)}: give a row each, (N, F)")
        if self.classes is not None and len(self):
            low, high = int(self.labels.min()), int(self.labels.max())
            if not 0 <= low <= high < len(self.classes):
                raise DataError(f"labels {low} to {high} for {len(self.classes)} classes: a label is an index")

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.images)

    def subset(self, rows: int | Tensor) -> "ImageData":
        """Return some of the images, with all that belongs to them.

        Args:
            rows: how many of the first images, or the indices ``(M,)`` of those to take.
        """
        index = first_rows(rows, self.images) if isinstance(rows, Integral) else rows
        factors = None if self.factors is None else self.factors[index]
        return replace(self, images=self.images[index], labels=self.labels[index], factors=factors)


def load(
    name: str,
    split: Literal["train", "test"] = "train",
    fallback: Literal["digits"] | None = None,
    progress: bool | None = None,
) -> ImageData:
    """Return a data set by name: grey "digits" (1,500 and 297 of 8x8), "mnist", "fashion-mnist", "kmnist" (as MNIST).

    "emnist-letters" and its like are read, upright, where torchvision keeps them; they are not fetched.
    In colour, 32x32: "scene" (20,000 and 4,000; see `vaelib.scene`), and "patches" (4,700 and 182) of photographs.

    Args:
        name: one of `names()`.
        split: "train" or "test".
        fallback: with "digits", a missing MNIST becomes a warning and the digits (unless VAELIB_NO_FALLBACK=1 is set).
        progress: whether a download shows a bar; None for on a terminal and in a notebook only.

    Raises:
        DataNotFoundError: where MNIST or the like is not at hand.
        DataError: for a bad file in VAELIB_DATA or an unknown name.

    Source:
        LeCun, Cortes and Burges (MNIST, CC BY-SA 3.0); Xiao, Rasul and Vollgraf (Fashion-MNIST, MIT); Clanuwat et al.
        (KMNIST, CC BY-SA 4.0); Cohen et al. (EMNIST). Through scikit-learn: UCI digits; photographs, CC BY 2.0.
    """
    if split not in ("train", "test"):
        raise DataError(f"unknown split {split!r}: choose 'train' or 'test'")
    if fallback not in (None, "digits"):
        raise DataError(f"unknown fallback {fallback!r}: choose 'digits' or None")
    try:
        return ImageData(name, **find(name).read(split, is_watched() if progress is None else progress))
    except DataNotFoundError as error:
        if fallback is None or os.environ.get("VAELIB_NO_FALLBACK", "") not in ("", "0"):
            raise
        warnings.warn(f"{error}\nThis chapter goes on with the 8x8 digits.", UserWarning, stacklevel=2)
        return load(fallback, split)


def from_folder(
    path: str | os.PathLike[str],
    size: int = 28,
    *,
    colour: bool = False,
    classes: bool | Sequence[str] = False,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    background: str = "white",
    skip_broken: bool = False,
) -> ImageData:
    """Return the pictures in a folder and its subfolders, in the order of their names, as squares.

    Args:
        path: the folder.
        size: pixels on a side.
        colour: three channels in place of grey.
        classes: whether its subfolders are the pictures' classes; or their names, in an order of your own.
        fit: what other proportions lose: edges ("crop"), nothing, with bars ("pad"), or themselves ("stretch").
        background: the colour behind what is transparent, and of the bars.
        skip_broken: whether pictures that can't be read are left out, with a warning that names them.

    Shapes:
        images ``(N, size, size)``, or ``(N, 3, size, size)`` in colour.

    Raises:
        DataError: for no picture, and for pictures that can't be read, each named with the reason.
    """
    return ImageData(**_folder.read(path, size, colour, classes, fit, background, skip_broken))


def binarize(images: Array, generator: torch.Generator | None = None, threshold: float | None = None) -> Tensor:
    """Return images of zeros and ones, x ~ Bernoulli(images), or x = 1 where images > threshold if one is given.

    Args:
        images: pixels in [0, 1], of any float type, which the result has too, and in any shape.
        generator: what draws; torch's default one without it.
        threshold: a number in [0, 1] that leaves nothing to chance.

    Raises:
        ValueError: for pixels outside [0, 1] (checked on the CPU only: on a GPU the check would stall it).
        TypeError: for what are no images, and what is no generator.
    """
    if isinstance(generator, Real):
        raise TypeError(f"the generator is {generator}: for a threshold, give it by its name, threshold={generator}")
    images = as_tensor(images)
    where_to_draw(images, generator)
    (check_unit_interval if images.device.type == "cpu" else check_float_pixels)(images)
    images = images if images.is_floating_point() else images.float()
    if threshold is None:
        return torch.bernoulli(images, generator=generator)
    if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}, and pixels lie in [0, 1]")
    return (images > threshold).to(images.dtype)


def ring(n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return n points of the ring: ``g(z) = z/10 + z/||z||, z ~ N(0, I)``.

    Their distance from the origin has mean 1.1253 and standard deviation 0.0655.

    Args:
        n: how many points.
        generator: what draws; torch's default one without it.
        dtype: the type of the coordinates.

    Shapes:
        ``(n, 2)``.

    Raises:
        ValueError: for an n that is no whole number from 0 on.

    Source:
        Doersch 2016 (arXiv 1606.05908), Figure 2; chapter 2.
    """
    if not isinstance(n, Integral) or n < 0:
        raise ValueError(f"n is {n}: give the number of points, a whole number from 0 on")
    z = standard_normal((int(n), 2), torch.empty((), dtype=dtype), generator)
    return z / 10 + z / z.norm(dim=1, keepdim=True)


def train_validation_split(data: ImageData, n_validation: int, seed: int = 0) -> tuple[ImageData, ImageData]:
    """Return data without n_validation images drawn at random, and those images.

    Args:
        data: the images to divide.
        n_validation: how many to set aside.
        seed: the same images for the same seed.

    Raises:
        ValueError: unless both parts hold at least one image, and for a seed that is none.
    """
    if not isinstance(n_validation, Integral) or not 0 < n_validation < len(data):
        raise ValueError(f"n_validation is {n_validation}: take a whole number above 0, and below {len(data):,} images")
    order = torch.randperm(len(data), generator=seeded(seed), device="cpu")
    return data.subset(order[n_validation:]), data.subset(order[:n_validation])


def locate(name: str) -> tuple[LocatedFile, ...]:
    """Return where each file of a data set is and whether its content is right, changing and fetching nothing.

    Args:
        name: one of `names()`.

    Raises:
        DataError: for an unknown name, and where there is no home folder to look in.
    """
    return find(name).locate()


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(SETS)
