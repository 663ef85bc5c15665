"""A scene whose true factors are known: one of four solids on a turntable, seen by a camera that goes round it.

`render` draws any factors, by casting rays in NumPy; ``load("scene")`` of `vaelib.data` holds pictures of factors drawn
at random. The turntable has a mark on its rim and the sun stands still, so that a picture tells the camera's azimuth
even where the solid looks the same from all sides.
"""

import math
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaelib import _rays
from vaelib._pixels import Array, as_tensor

__all__ = ["FACTORS", "KINDS", "Factor", "draw_factors", "render"]

KINDS = ("sphere", "cube", "cylinder", "cone")
SIZE = 32


class Factor(NamedTuple):
    """One thing that a picture of the scene is made from.

    Args:
        name: what varies.
        low: the least value.
        high: the greatest value; on a circle, the one that is `low` again.
        circle: whether it is an angle, which has no end.
    """

    name: str
    low: float
    high: float
    circle: bool = False


# The columns of `factors`, in this order.
FACTORS = (
    Factor("azimuth", 0.0, 2 * math.pi, circle=True),
    Factor("height", 1.0, 3.6),
    Factor("blur", 0.0, 1.5),
    Factor("hue", 0.0, 1.0, circle=True),
    Factor("kind", 0.0, 3.0),
)


def render(factors: Array, size: int = SIZE) -> Tensor:
    """Return pictures of the scene in colour.

    The camera looks at the solid from the azimuth ``a`` and the height ``h``, always as far away: it stands at
    ``(r cos a, r sin a, h)``, ``r^2 = D^2 - (h - h_0)^2``. Light is added up linearly over nine rays a pixel, blurred
    by a Gaussian filter, and stored as its square root in steps of 1/255. For the same factors the pictures are the
    same on every platform: a ray takes sums, products, quotients and square roots alone, which IEEE 754 rounds one way.

    Args:
        factors: in the order of `FACTORS`: azimuth of the camera in radians, any real number; its height; standard
            deviation of the blur in pixels of a picture of 32; hue of the solid, any real number, of which 0 is red,
            1/3 green and 2/3 blue; kind, an index into `KINDS`.
        size: pixels on a side.

    Shapes:
        ``(N, 5) -> (N, 3, size, size)``, float32, multiples of 1/255 in [0, 1].

    Raises:
        ValueError: for factors of another shape, beyond their range or not finite, and for a size that is no positive
            whole number.
        TypeError: for what is no array of real numbers.

    Source:
        Chapter 19.
    """
    columns = _checked(factors)
    if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
        raise ValueError(f"size is {size!r}: give the side of the picture in pixels, a whole number from 1 on")
    return torch.from_numpy(np.divide(in_bytes(columns, int(size)), 255, dtype=np.float32))


def draw_factors(n: int, seed: int = 0) -> Tensor:
    """Return n rows of factors, independent and uniform over the ranges of `FACTORS`; the kinds equally likely.

    Args:
        n: how many.
        seed: the same factors for the same seed, on every platform and of every version of NumPy.

    Shapes:
        ``(n, 5)``, float32.

    Raises:
        ValueError: for an n that is no whole number from 0 on, and for a seed that is none.

    Source:
        Chapter 19.
    """
    for name, value in (("n", n), ("seed", seed)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} is {value!r}: give a whole number from 0 on")
    # A bit generator's stream is kept for ever, where NumPy's methods that draw from it may change.
    raw = np.random.PCG64(int(seed)).random_raw((int(n), len(FACTORS)))
    uniform = (raw >> np.uint64(40)) * 2.0**-24
    low, high = (np.array([getattr(each, end) for each in FACTORS]) for end in ("low", "high"))
    factors = low + (high - low) * uniform
    factors[:, -1] = np.floor(len(KINDS) * uniform[:, -1])
    return torch.from_numpy(factors.astype(np.float32))


def in_bytes(factors: NDArray[np.float64], size: int = SIZE) -> NDArray[np.uint8]:
    """Return what `render` does as one byte for each pixel and channel, without its checks."""
    pictures = np.empty((len(factors), 3, size, size), np.uint8)
    for kind in range(len(KINDS)):
        rows = np.flatnonzero(factors[:, 4] == kind)
        at_once = max(1, 2 * SIZE**2 // size**2)  # so few rays stay in the processor's cache
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            azimuth, height, blur, hue = factors[some, :4].T
            light = _rays.light(KINDS[kind], azimuth, height, hue, size)
            light = _rays.blurred(light, blur * size / SIZE, math.ceil(2.6 * FACTORS[2].high * size / SIZE))
            pictures[some] = np.sqrt(light) * np.float32(255) + np.float32(0.5)
    return pictures


def _checked(factors: Array) -> NDArray[np.float64]:
    """Return factors as an array, after checking that the scene has such a picture."""
    rows = as_tensor(factors, "factors").detach().cpu().double().numpy()
    names = ", ".join(each.name for each in FACTORS)
    if rows.ndim != 2 or rows.shape[1] != len(FACTORS):
        raise ValueError(f"factors have shape {rows.shape}: give a row for each picture, (N, {len(FACTORS)}): {names}")
    for column, factor in zip(rows.T, FACTORS, strict=True):
        inside = np.isfinite(column) if factor.circle else (factor.low <= column) & (column <= factor.high)
        if factor.name == "kind":
            inside &= column == np.floor(column)
        if not inside.all():
            first = int(np.argmin(inside))
            allowed = "any finite number" if factor.circle else f"{factor.low:g} to {factor.high:g}"
            allowed = f"a whole number, {allowed}" if factor.name == "kind" else allowed
            raise ValueError(f"the {factor.name} of picture {first} is {column[first]:g}: it must be {allowed}")
    return rows
