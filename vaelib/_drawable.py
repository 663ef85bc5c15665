"""What the plot functions accept: arrays and tensors, checked before anything is drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaelib._notices import warn
from vaelib._pixels import divided


def as_array(values: Any) -> NDArray[Any]:
    """Return values as an array, tensors too; what is masked becomes NaN."""
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.filled(values.astype(np.float64), np.nan)
    # A tensor that requires a gradient, lives on a GPU or is of a type that NumPy lacks turns into no array by itself.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)


def check_finite(name: str, values: NDArray[Any]) -> None:
    """Check that every number is finite.

    Raises:
        ValueError: with the place of the first that is not.
    """
    finite = np.isfinite(values)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name} holds {values[index]} at index {index}")


def check_length(name: str, texts: Sequence[str] | None, wanted: int, what: str) -> None:
    """Check that there are as many texts as wanted, or none.

    Raises:
        ValueError: for another number.
    """
    if texts is not None and len(texts) != wanted:
        raise ValueError(f"{name} has {len(texts)} texts for {wanted} {what}")


def checked_images(images: Any, vmin: float, vmax: float) -> NDArray[Any]:
    """Return images, also those of ImageData, as floats (N, H, W) or, in colour, (N, H, W, 3).

    Far outside vmin to vmax they are warned about.

    Raises:
        ValueError: for other shapes, no image, NaN, infinity, or whole numbers above vmax.
    """
    tiles = as_array(getattr(images, "images", images))
    if tiles.ndim == 4 and tiles.shape[1] == 1:
        tiles = tiles[:, 0]
    if tiles.ndim == 2:
        side = int(np.sqrt(tiles.shape[1]))
        if side * side != tiles.shape[1]:
            raise ValueError(
                f"{tiles.shape[1]} pixels are no square image: reshape to (N, height, width) first; one image alone is "
                "images[None]"
            )
        tiles = tiles.reshape(-1, side, side)
    if tiles.ndim == 4 and tiles.shape[1] == 3:
        tiles = np.moveaxis(tiles, 1, 3)
    elif tiles.ndim != 3:
        message = f"images have shape {tiles.shape}, but the grid takes (N, H, W), (N, 1 or 3, H, W) or (N, D)"
        last = tiles.ndim == 4 and tiles.shape[3] in (1, 3)
        raise ValueError(message + (": the channels come last, call numpy.moveaxis(images, 3, 1)" if last else ""))
    if tiles.size == 0:
        raise ValueError(f"there is no image to show: the shape is {tiles.shape}")
    if np.issubdtype(tiles.dtype, np.integer) and tiles.max() > vmax:
        top = int(tiles.max())
        raise ValueError(f"whole-number pixels up to {top} are above vmax = {vmax:g}: {divided(top)}")
    check_finite("images", tiles)
    low, high, beyond = float(tiles.min()), float(tiles.max()), vmax - vmin
    if low < vmin - beyond or high > vmax + beyond:
        whole = low >= 0 and bool((tiles == np.round(tiles)).all())
        warn(
            f"pixels reach from {low:.3g} to {high:.3g}, far outside vmin = {vmin:g} to vmax = {vmax:g}, and are cut "
            f"off there: {divided(high) if whole else 'if they are logits, show model.mean(decoded)'}"
        )
    return tiles.astype(np.float64)


def checked_labels(labels: ArrayLike, n: int, n_classes: int) -> NDArray[np.int64]:
    """Return labels as (n,) whole numbers from 0 to n_classes - 1.

    Raises:
        ValueError: for another shape or other numbers.
    """
    classes = as_array(labels)
    if classes.shape != (n,):
        raise ValueError(f"labels have shape {classes.shape}, but {n} points need ({n},)")
    if not np.isin(classes, np.arange(n_classes)).all():
        bad = classes[~np.isin(classes, np.arange(n_classes))][0]
        raise ValueError(f"labels must be whole numbers from 0 to {n_classes - 1}, but hold {bad}")
    return classes.astype(np.int64)


def checked_plane_points(x: ArrayLike, labels: ArrayLike | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return points as (n, 2), without their bias column, and labels as (n,) in {0, 1}.

    Raises:
        ValueError: for another shape, labels missing or not 0 and 1, NaN or infinity.
    """
    points = as_array(x)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"x has shape {points.shape}, but points take (n, 2), or (n, 3) with the bias")
    if labels is None:
        raise ValueError("labels are missing: give one, 0 or 1, for each point of x")
    check_finite("x", points)
    return points[:, :2], checked_labels(labels, len(points), 2)
