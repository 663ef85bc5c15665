"""Views of a scene from another azimuth: the truth, how far a picture is from it, and what needs no model at all.

What `measure_views` compares a CVAE with: training pictures that are the nearest to what is asked for, and a network
that reads the factors from a picture, to tell what a picture shows.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib import scene
from vaelib.networks import conv_encoder, seeded

TURNS = (0, 30, 60, 90, 120, 150, 180)  # degrees
SHAPE, CHANNELS = (3, 32, 32), (24, 48, 64)
VISIBLE = 8 / 255  # a pixel has changed where one of its colours differs by more
STEPS = (0.02, 0.05, 0.05, 0.02)  # of azimuth, height, blur and hue, to weigh their squared differences


class Views(NamedTuple):
    """Pictures x of scenes, and each of them from an azimuth that differs by each of TURNS, one way or the other."""

    x: Tensor  # (N, 3, 32, 32)
    factors: Tensor  # (N, 5)
    turned: Tensor  # (T, N, 5)
    truth: Tensor  # (T, N, 3, 32, 32)


def circle(azimuth: Tensor) -> Tensor:
    """Return an angle as a point of the unit circle, ``(..., ) -> (..., 2)``: no seam at a full turn."""
    return torch.stack([azimuth.cos(), azimuth.sin()], -1)


def apart(angle: Tensor, other: Tensor, full: float = 2 * math.pi) -> Tensor:
    """Return by how much two angles differ, the short way round."""
    return ((angle - other + full / 2) % full - full / 2).abs()


def views(factors: Tensor, seed: int) -> Views:
    """Render scenes and their views; each scene turns one way, which a coin decides."""
    way = torch.randint(2, (len(factors),), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    turned = factors.repeat(len(TURNS), 1, 1)
    turned[..., 0] += torch.tensor(TURNS)[:, None] * way * math.pi / 180
    truth = scene.render(turned.flatten(0, 1)).unflatten(0, turned.shape[:2])
    return Views(truth[0].clone(), factors, turned, truth)


def rmse(made: Tensor, truth: Tensor, where: Tensor | None = None) -> float | None:
    """Return the root of the mean squared error per number of a picture, over all or over the pixels ``where``.

    Shapes:
        pictures ``(N, 3, H, W)``, where ``(N, 1, H, W)`` -> a number, None where there is no pixel.
    """
    squared = (made - truth).square()
    if where is None:
        return round(squared.mean().sqrt().item(), 5)
    if not where.any():
        return None
    return round((squared.mean(1, keepdim=True)[where].mean()).sqrt().item(), 5)


def changed(truth: Tensor, before: Tensor) -> Tensor:
    """Return which pixels of a view differ visibly from the picture before the turn, ``(N, 1, H, W)``."""
    return ((truth - before).abs() > VISIBLE).any(1, keepdim=True)


def blurred(pictures: Tensor, sd: float = 1.0) -> Tensor:
    """Return pictures blurred by a Gaussian, the border repeated: a blurred and a sharp one are then compared alike."""
    reach = math.ceil(3 * sd)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=pictures.dtype) / sd) ** 2)
    kernel = (kernel / kernel.sum()).expand(pictures.shape[1], 1, 1, -1)
    wide = F.pad(pictures, (reach,) * 4, mode="replicate")
    across = F.conv2d(wide, kernel, groups=pictures.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=pictures.shape[1])


def edges(pictures: Tensor) -> Tensor:
    """Return the differences of each pixel to its right and lower neighbours, ``(N, 6, H - 1, W - 1)``."""
    corner = pictures[..., :-1, :-1]
    return torch.cat([pictures[..., :-1, 1:] - corner, pictures[..., 1:, :-1] - corner], 1)


# Training pictures in the place of a model


def weights(n: int = 200, seed: int = 7) -> Tensor:
    """Return by how much a picture changes, in squares, for a unit of azimuth, height, blur and hue squared: ``(4,)``.

    From small steps of each factor from random scenes: a distance between factors that counts what is seen.
    """
    factors = scene.draw_factors(n, seed=seed)
    factors[:, 1] = factors[:, 1].clamp(max=scene.FACTORS[1].high - STEPS[1])
    factors[:, 2] = factors[:, 2].clamp(max=scene.FACTORS[2].high - STEPS[2])
    start, found = scene.render(factors), []
    for column, step in enumerate(STEPS):
        moved = factors.clone()
        moved[:, column] += step
        found.append((scene.render(moved) - start).square().sum((1, 2, 3)).mean() / step**2)
    return torch.stack(found)


def nearest(wanted: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """Return the row of the known factors that is nearest to each of those wanted, of the same kind: ``(N,)``."""
    rows = []
    for some in wanted.split(100):
        pairs = zip(some[:, None, :4].unbind(-1), known[None, :, :4].unbind(-1), (2 * math.pi, 0, 0, 1), strict=True)
        total = torch.where(some[:, None, 4] == known[None, :, 4], 0.0, torch.inf)
        for (a, b, full), each in zip(pairs, weight, strict=True):
            total = total + each * (apart(a, b, full) if full else a - b) ** 2
        rows.append(total.argmin(1))
    return torch.cat(rows)


def nearest_within(query: Tensor, known: Tensor, azimuth: Tensor, azimuths: Tensor, degrees: float) -> Tensor:
    """Return the row nearest by Euclid among those whose azimuth is within some degrees of the one wanted: ``(N,)``."""
    rows = []
    for q, a in zip(query.flatten(1).split(100), azimuth.split(100), strict=True):
        far = torch.cdist(q, known.flatten(1))
        rows.append(far.masked_fill(apart(a[:, None], azimuths[None]) > math.radians(degrees), torch.inf).argmin(1))
    return torch.cat(rows)


def nearest_picture(wanted: Tensor, known: Tensor) -> Tensor:
    """Return the row of the picture nearest to each of those wanted, by squared error: no choice of one is better."""
    flat = known.flatten(1)
    square = flat.square().sum(1)
    return torch.cat([(square - 2 * some.flatten(1) @ flat.T).argmin(1) for some in wanted.split(500)])


# What a picture shows


class Reader(nn.Module):
    """A network that reads the factors from a picture: azimuth and hue as points of a circle, height, blur, kind."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.network = conv_encoder(SHAPE, CHANNELS, 10, generator=seeded(seed))

    def loss(self, x: Tensor, factors: Tensor) -> Tensor:
        """Return squared errors of circles, height and blur, each between -1 and 1, and cross entropy of the kind."""
        out = self.network(x)
        aims = torch.cat([circle(factors[:, 0]), circle(2 * math.pi * factors[:, 3]), unit(factors[:, 1:3])], 1)
        of_kind = F.cross_entropy(out[:, 6:], factors[:, 4].long(), reduction="none")
        return (out[:, :6] - aims).square().sum(1) + 0.2 * of_kind

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Tensor:
        """Return the factors that pictures seem to have, ``(N, 3, 32, 32) -> (N, 5)``."""
        out = torch.cat([self.network(some) for some in pictures.split(500)])
        azimuth = torch.atan2(out[:, 1], out[:, 0])
        hue = torch.atan2(out[:, 3], out[:, 2]) / (2 * math.pi) % 1
        low, high = limits()
        height, blur = ((out[:, 4:6].clamp(-1, 1) + 1) / 2 * (high - low) + low).unbind(1)
        return torch.stack([azimuth, height, blur, hue, out[:, 6:].argmax(1).float()], 1)


def limits() -> tuple[Tensor, Tensor]:
    """Return the least and the greatest height and blur."""
    return torch.tensor([f.low for f in scene.FACTORS[1:3]]), torch.tensor([f.high for f in scene.FACTORS[1:3]])


def unit(values: Tensor) -> Tensor:
    """Return height and blur between -1 and 1."""
    low, high = limits()
    return 2 * (values - low) / (high - low) - 1


def told(reader: Reader, pictures: Tensor, factors: Tensor) -> dict[str, float]:
    """Return how far what is read from pictures is from factors: medians in degrees, a mean, a share."""
    read = reader.read(pictures)
    return {
        "azimuth": round(math.degrees(apart(read[:, 0], factors[:, 0]).median()), 2),
        "hue": round(360 * apart(read[:, 3], factors[:, 3], 1).median().item(), 2),
        "height": round((read[:, 1] - factors[:, 1]).abs().mean().item(), 4),
        "kind": round((read[:, 4] == factors[:, 4]).float().mean().item(), 4),
    }


def looked_at(made: Tensor, seen: Views, reader: Reader) -> dict[str, list[Any]]:
    """Return errors and what is read, a number for each turn, of the pictures made: ``(T, N, 3, 32, 32)``."""
    found: dict[str, list[Any]] = {"rmse": [], "changed": [], "blurred": [], "edges": []}
    for pictures, truth, turned in zip(made, seen.truth, seen.turned, strict=True):
        found["rmse"].append(rmse(pictures, truth))
        found["changed"].append(rmse(pictures, truth, changed(truth, seen.x)))
        found["blurred"].append(rmse(blurred(pictures), blurred(truth)))
        found["edges"].append(rmse(edges(pictures), edges(truth)))
        for name, value in told(reader, pictures, turned).items():
            found.setdefault(name, []).append(value)
    return found
