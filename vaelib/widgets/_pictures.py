"""The explorer's pictures as files: the still image that stands for it, and the small ones of the nearest codes."""

import io
from typing import Any

import matplotlib.figure
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vaelib import figures


def still(
    spec: dict[str, Any], z: list[float], codes: NDArray[np.float32], labels: list[int], images: dict[str, Tensor]
) -> bytes:
    """Return the plane with its codes and the point z, and beside it the decoded images, as a PNG file.

    Args:
        spec: the explorer's specification: the order of the dimensions and their span.
        z: the code, K numbers.
        codes: those of the data, ``(N, K)``.
        labels: their classes.
        images: by title, ``(C, H, W)``, grey or colour, in [0, 1].
    """
    # Not of pyplot, which would show the figure a second time.
    inches = 0.6 + 2.6 * (1 + len(images))
    figure = matplotlib.figure.Figure(figsize=(inches, 2.9))
    figure.set_layout_engine("none")  # the book's style has one that takes three times as long
    margins = {"left": 0.5 / inches, "right": 1 - 0.1 / inches, "bottom": 0.17, "top": 0.9, "wspace": 0.1}
    plane, *screens = figure.subplots(1, 1 + len(images), gridspec_kw=margins)
    _draw_plane(plane, spec, z, codes, labels)
    for axes, (name, image) in zip(screens, images.items(), strict=True):
        axes.imshow(image.clamp(0, 1).movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(name, parse_math=False)
        axes.set(xticks=[], yticks=[])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()


def _draw_plane(
    axes: Axes, spec: dict[str, Any], z: list[float], codes: NDArray[np.float32], labels: list[int]
) -> None:
    span = spec["span"]
    across, up = (spec["order"] * 2)[:2]
    named = labels if max(labels, default=0) < len(figures.CLASS_COLOURS) else [0] * len(labels)
    # Long names would lie over each other: a number stands for each, as on the plane that moves.
    short = spec.get("names") if all(len(name) <= 3 for name in spec.get("names", [])) else None
    names = short if named is labels else ["codes"]
    radii = np.arange(1, span + 1).tolist()
    figures.latent_scatter(codes[:, [across, up]], named, axes, prior_radii=radii, names=names)
    for width, colour in ((5, "white"), (2.5, "black")):
        axes.plot(z[across], z[up], "+", markersize=18, markeredgewidth=width, color=colour, zorder=5)
    axes.set(xlim=(-span, span), ylim=(-span, span), xlabel=f"$z_{{{across + 1}}}$", ylabel=f"$z_{{{up + 1}}}$")
    axes.set_aspect("equal", adjustable="box")


def in_bytes(images: Tensor) -> bytes:
    """Return pixels in [0, 1] as one byte each."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy().tobytes()


def sprite(images: Tensor) -> bytes:
    """Return images ``(N, C, H, W)`` one below the other as a PNG file of few colours: small, they need no more."""
    column = images.clamp(0, 1).movedim(1, -1).flatten(0, 1)
    grey = column.shape[-1] == 1
    steps = 7 if grey else 255
    pixels = (column * steps).round().mul(255 / steps).round().to(torch.uint8).squeeze(-1).cpu().numpy()
    few = Image.fromarray(pixels).quantize(8 if grey else 64, dither=Image.Dither.NONE)
    file = io.BytesIO()
    few.save(file, "png", optimize=True, bits=4 if grey else 8)
    return file.getvalue()
