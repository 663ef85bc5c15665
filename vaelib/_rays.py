"""The light that a camera sees of a solid on a turntable: rays, where they end, and what shines there.

Rays are arrays ``(B, S, S)`` of float32, three rays a pixel each way; what belongs to a whole picture has the shape
``(B, 1, 1)``. Angles are turned into numbers once for each picture, in float64. From there on only sums, products,
quotients, square roots and comparisons are used, which every processor rounds alike, and no sum whose order NumPy may
choose.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["blurred", "light"]

Rays = NDArray[np.float32]
Point = tuple[Any, Any, Any]  # three arrays or numbers

DISTANCE = 5.0  # of the camera from the point that it looks at, which is this high above the middle of the turntable
LOOKED_AT = 0.62
SPREAD = 0.36  # half the width of the picture at distance 1
RAYS = 3  # to a pixel, across and down
SUN = (-0.36, 0.64, 0.6788)  # a unit vector towards it
TABLE, MARK, MARK_SIZE = 1.72, (1.34, 0.0), 0.26  # radius of the turntable; centre and radius of the mark on it
GREY, DARK, FLOOR = (0.76, 0.74, 0.70), (0.10, 0.10, 0.13), (0.30, 0.33, 0.37)
SKY, ZENITH = (0.62, 0.72, 0.84), (0.53, 0.60, 0.68)  # at the horizon, and above
WINDOW = (0.1, 0.85), (0.2, 0.8)  # rows and columns, in parts of the picture, outside which no solid is ever seen

# Each solid stands on z = 0, upright on the z axis.
RADIUS = {"sphere": 0.86, "cube": 0.70, "cylinder": 0.68, "cone": 0.98}
TOP = {"sphere": 1.72, "cube": 1.40, "cylinder": 1.55, "cone": 1.75}


def light(kind: str, azimuth: NDArray[Any], height: NDArray[Any], hue: NDArray[Any], size: int) -> Rays:
    """Return the light in each pixel, ``(B, 3, size, size)`` in [0, 1], before the square root that a screen expects.

    Args:
        kind: a key of `RADIUS`.
        azimuth: of each camera, ``(B,)``.
        height: of each camera, ``(B,)``.
        hue: of each solid, ``(B,)``.
        size: pixels on a side.
    """
    camera, rays = _camera(azimuth, height, size)
    window = tuple(slice(int(RAYS * size * low), math.ceil(RAYS * size * high)) for low, high in WINDOW)
    u, v, w = rays
    within = (u[:, window[0], window[1]], v[:, window[0], window[1]], w[:, window[0]])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        near, normal = SOLIDS[kind](camera, within)
        bright, gloss = _shaded(normal, within)
    hit = near < np.inf
    place = _on_ground(camera, rays)
    ground, haze = _ground(kind, place), _haze(place)
    sky = np.minimum(np.maximum(w * np.float32(2.5), 0), 1)
    picture = np.empty((len(azimuth), 3, size, size), np.float32)
    for channel, colour in enumerate(_colour(hue)):
        horizon = np.float32(SKY[channel])
        seen = ground[channel]
        seen += (horizon - seen) * haze
        seen = np.where(w < 0, seen, horizon + sky * np.float32(ZENITH[channel] - SKY[channel]))
        seen[:, *window] = np.where(hit, np.minimum(colour * bright + gloss, 1), seen[:, *window])
        picture[:, channel] = _mean_of_rays(seen)
    return picture


def blurred(light: Rays, sigma: NDArray[Any], reach: int) -> Rays:
    """Return pictures behind a Gaussian filter; beyond the edges the last pixels are repeated.

    Args:
        light: the pictures, ``(B, 3, S, S)``.
        sigma: standard deviation of each picture's filter, in pixels, ``(B,)``.
        reach: how many pixels the filter goes to each side, the same for all: a picture is not to depend on others.
    """
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / np.maximum(sigma, 1e-3)[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    for axis in (2, 3):
        size = light.shape[axis]
        total = np.zeros_like(light)
        for step, weight in zip(steps, weights.T, strict=True):
            total += weight[:, None, None, None] * light.take(np.clip(np.arange(size) + step, 0, size - 1), axis)
        light = total
    return light


# The rays


def _each(values: NDArray[Any]) -> Rays:
    return values.astype(np.float32)[:, None, None]


def _camera(azimuth: NDArray[Any], height: NDArray[Any], size: int) -> tuple[Point, Point]:
    """Return where the cameras stand, and the direction of each ray, of length 1 or more."""
    rise = (height - LOOKED_AT) / DISTANCE  # sine of the angle at which the camera looks down
    level = np.sqrt(1 - rise**2)
    cos, sin = np.cos(azimuth), np.sin(azimuth)
    camera = (_each(DISTANCE * level * cos), _each(DISTANCE * level * sin), _each(height))
    number = RAYS * size
    across = ((2 * np.arange(number) + 1) / number - 1) * SPREAD
    right, up = across.astype(np.float32)[None, None, :], -across.astype(np.float32)[None, :, None]
    ahead = tuple(map(_each, (-level * cos, -level * sin, -rise)))
    to_right = tuple(map(_each, (-sin, cos)))
    upward = tuple(map(_each, (-rise * cos, -rise * sin, level)))
    x = (ahead[0] + up * upward[0]) + right * to_right[0]
    y = (ahead[1] + up * upward[1]) + right * to_right[1]
    return camera, (x, y, ahead[2] + up * upward[2])


def _at(origin: Point, rays: Point, distance: Rays) -> Point:
    return tuple(each + distance * along for each, along in zip(origin, rays, strict=True))


def _mean_of_rays(values: Rays) -> Rays:
    """Return the mean of the rays of each pixel, added in one order."""
    rows = values[:, 0::RAYS] + values[:, 1::RAYS] + values[:, 2::RAYS]
    return (rows[..., 0::RAYS] + rows[..., 1::RAYS] + rows[..., 2::RAYS]) / np.float32(RAYS**2)


# Where they end: each solid returns the distance along each ray, infinite where it is missed, and the normal there. A
# convex solid is what several simple bodies have in common; a ray enters it where it enters the last of them.


def _quadric(a: Any, b: Any, c: Any) -> tuple[Rays, Rays]:
    """Return where ``a t^2 + 2 b t + c`` is negative, for positive a: from the first to the second."""
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0))
    return np.where(square > 0, (-b - root) / a, np.float32(np.inf)), (root - b) / a


def _slab(origin: Any, along: Any, low: float, high: float) -> tuple[Rays, Rays]:
    """Return where a ray lies between two parallel planes: from the first to the second."""
    one, other = (np.float32(low) - origin) / along, (np.float32(high) - origin) / along
    return np.minimum(one, other), np.maximum(one, other)


def _entered(enter: Rays, leave: Rays) -> Rays:
    return np.where((enter < leave) & (leave > 0), enter, np.float32(np.inf))


def _sphere(origin: Point, rays: Point) -> tuple[Rays, Point]:
    radius = np.float32(RADIUS["sphere"])
    (x, y, z), (u, v, w) = origin, rays
    z = z - radius
    enter, leave = _quadric(u * u + v * v + w * w, x * u + y * v + z * w, x * x + y * y + z * z - radius * radius)
    near = _entered(enter, leave)
    return near, tuple(each / radius for each in _at((x, y, z), rays, near))


def _cube(origin: Point, rays: Point) -> tuple[Rays, Point]:
    half = RADIUS["cube"]
    spans = [_slab(origin[0], rays[0], -half, half), _slab(origin[1], rays[1], -half, half)]
    spans.append(_slab(origin[2], rays[2], 0, TOP["cube"]))
    side = np.maximum(spans[0][0], spans[1][0])
    enter = np.maximum(side, spans[2][0])
    near = _entered(enter, np.minimum(np.minimum(spans[0][1], spans[1][1]), spans[2][1]))
    one, zero = np.float32(1), np.float32(0)
    above = enter > side
    first = ~above & (spans[0][0] >= spans[1][0])
    x = np.where(first, np.where(rays[0] > 0, -one, one), zero)
    y = np.where(first | above, zero, np.where(rays[1] > 0, -one, one))
    return near, (x, y, np.where(above, one, zero))


def _cylinder(origin: Point, rays: Point) -> tuple[Rays, Point]:
    radius = np.float32(RADIUS["cylinder"])
    (x, y, _), (u, v, _) = origin, rays
    side, out = _quadric(u * u + v * v, x * u + y * v, x * x + y * y - radius * radius)
    return _round_solid(origin, rays, side, out, TOP["cylinder"], radius, np.float32(0))


def _cone(origin: Point, rays: Point) -> tuple[Rays, Point]:
    """A ray must be less steep than the side of the cone, as those of all cameras and of the sun are."""
    top, slope = np.float32(TOP["cone"]), np.float32(RADIUS["cone"] / TOP["cone"])
    (x, y, z), (u, v, w) = origin, rays
    z, k = top - z, slope * slope
    side, out = _quadric(u * u + v * v - k * w * w, x * u + y * v + k * z * w, x * x + y * y - k * z * z)
    return _round_solid(origin, rays, side, out, TOP["cone"], np.float32(RADIUS["cone"]), slope)


def _round_solid(
    origin: Point, rays: Point, side: Rays, out: Rays, top: float, radius: np.float32, slope: np.float32
) -> tuple[Rays, Point]:
    """Return what is left of a cylinder or cone between the ground and its top; its radius shrinks by `slope`."""
    enter, leave = _slab(origin[2], rays[2], 0, top)
    near = _entered(np.maximum(side, enter), np.minimum(out, leave))
    x, y, z = _at(origin, rays, near)
    above = enter > side
    one, zero = np.float32(1), np.float32(0)
    slant = np.sqrt(one + slope * slope)
    width, upward = (radius - slope * z) * slant, slope / slant
    return near, (np.where(above, zero, x / width), np.where(above, zero, y / width), np.where(above, one, upward))


SOLIDS: dict[str, Callable[[Point, Point], tuple[Rays, Point]]] = {
    "sphere": _sphere,
    "cube": _cube,
    "cylinder": _cylinder,
    "cone": _cone,
}


def _on_ground(camera: Point, rays: Point) -> Point:
    """Return where each ray meets z = 0; those that don't go down get some place."""
    x, y, _ = _at(camera, rays, -camera[2] / np.minimum(rays[2], np.float32(-1e-3)))
    return x, y, np.float32(0)


# What shines there


def _ground(kind: str, place: Point) -> list[Rays]:
    """Return the light of each colour that the turntable, its mark and the floor give back."""
    x, y, _ = place
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shadow = SOLIDS[kind](place, tuple(map(np.float32, SUN)))[0] < np.inf  # type: ignore[arg-type]
    far = x * x + y * y
    x, y = x - np.float32(MARK[0]), y - np.float32(MARK[1])
    table, mark = far < np.float32(TABLE**2), x * x + y * y < np.float32(MARK_SIZE**2)
    # Less of the sky reaches what lies close to the solid.
    close = np.float32(RADIUS[kind] ** 4)
    lit = np.where(shadow, np.float32(0.30), np.float32(1)) * (1 - np.float32(0.5) * close / (far * far + close))
    ends = (map(np.float32, each) for each in zip(GREY, DARK, FLOOR, strict=True))
    return [lit * np.where(mark, dark, np.where(table, grey, floor)) for grey, dark, floor in ends]


def _haze(place: Point) -> Rays:
    """Return how much of the ground's light is lost on the way, from 0 to 1."""
    far = place[0] * place[0] + place[1] * place[1]
    return far / (far + np.float32(160))


def _shaded(normal: Point, rays: Point) -> tuple[Rays, Rays]:
    """Return the light that a solid gives back in its own colour, and in that of the sun."""
    u, v, w = rays
    x, y, z = normal
    sun = tuple(map(np.float32, SUN))
    facing = np.maximum(x * sun[0] + y * sun[1] + z * sun[2], 0)
    bright = np.float32(0.26) + np.float32(0.12) * z + np.float32(0.85) * facing
    length = np.sqrt(u * u + v * v + w * w)
    half = tuple(towards - along / length for towards, along in zip(sun, rays, strict=True))
    towards = np.maximum(x * half[0] + y * half[1] + z * half[2], 0)
    gloss = towards * towards / (half[0] * half[0] + half[1] * half[1] + half[2] * half[2])
    for _ in range(4):
        gloss = gloss * gloss
    return bright, np.float32(0.35) * gloss


def _colour(hue: NDArray[Any]) -> list[Rays]:
    """Return red, green and blue of each hue, a circle: the cosine is 1 at 0, 1/3 and 2/3 of the way round."""
    return [_each(0.38 + 0.36 * np.cos(2 * np.pi * (hue - channel / 3))) for channel in range(3)]
