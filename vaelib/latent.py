"""Where codes lie and what decodes from them: data encoded, grids over the prior, paths, traversals."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from vaelib._inputs import Array, Images, as_tensor, images_and_labels
from vaelib._pixels import rows_as_tensor
from vaelib.contract import Posterior, encoded, needed
from vaelib.networks import check_positive_integer, check_positive_number, evaluating, first_tensor

_ROWS = 2000


@torch.no_grad()
def encode_dataset(model: Any, images: Images, y: Array | None = None) -> Posterior:
    """Return ``q(z|x)``, or a CVAE's ``q(z|x, y)``, for every image, encoded a few thousand at a time, on the CPU.

    Args:
        model: a trained VAE or CVAE, on any device; it encodes in eval mode and keeps its own.
        images: ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, D)``, or ImageData, whose labels are a CVAE's conditions.
        y: the conditions of a CVAE, ``(N, ...)``.

    Shapes:
        mu and log_var ``(N, K)``.

    Raises:
        ValueError: as ``model.encode`` does, and for another number of conditions than of images.
        TypeError: for what are no images.

    Source:
        Chapters 8 and 11.
    """
    needed(model, "encode", by="encode_dataset")
    x, labels = images_and_labels(images)
    if y is None and hasattr(model, "condition_dim"):
        y = labels
    given = [x] if y is None else [x, as_tensor(y, "conditions")]
    if len(given[-1]) != len(x):
        raise ValueError(f"there are {len(x)} images and {len(given[-1])} conditions: each image needs its own")
    device = first_tensor(model).device
    with evaluating(model):
        parts = [
            encoded(model, *(part[start : start + _ROWS].to(device) for part in given), by="encode_dataset")
            for start in range(0, max(1, len(x)), _ROWS)
        ]
    return Posterior(torch.cat([part.mu for part in parts]).cpu(), torch.cat([part.log_var for part in parts]).cpu())


def prior_grid(n: int, span: float | None = None) -> Tensor:
    """Return an n x n grid of points in a latent plane, row by row from the top left.

    Without `span` the points are ``Phi^-1((i - 1/2) / n)``, so that each stands for the same share of the prior; with
    it they are evenly spaced from -span to span.

    Shapes:
        ``n -> (n * n, 2)``; ``z_1`` grows to the right, ``z_2`` upwards.

    Raises:
        ValueError: unless n is a positive whole number and span a positive and finite one.

    Source:
        Kingma and Welling (2014), appendix A; chapter 8.
    """
    check_positive_integer("n", n)
    if span is None:
        axis = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()
    else:
        span = check_positive_number("span", span)
        axis = torch.linspace(-span, span, n)
    z2, z1 = torch.meshgrid(axis.flip(0), axis, indexing="ij")
    return torch.stack([z1.flatten(), z2.flatten()], dim=1)


def interpolate(start: Array, end: Array, n: int) -> Tensor:
    """Return n points on the straight line between two codes, both ends included.

    ``z_i = start + (i - 1) / (n - 1) (end - start)``.

    Shapes:
        ``(K,), (K,) -> (n, K)``.

    Raises:
        ValueError: for codes of other or different shapes, or fewer than two points.

    Source:
        Chapter 8.
    """
    start, end = _code(start), _code(end)
    if start.ndim != 1 or start.shape != end.shape:
        raise ValueError(f"both codes must have shape (K,), not {tuple(start.shape)} and {tuple(end.shape)}")
    check_positive_integer("n - 1", n - 1)
    dtype = torch.promote_types(start.dtype, end.dtype)
    share = torch.linspace(0, 1, n, dtype=dtype, device=start.device).unsqueeze(1)
    return torch.lerp(start.to(dtype), end.to(dtype), share)


def traverse(z: Array, dimension: int, values: Array | Sequence[float]) -> Tensor:
    """Return copies of one code in which one dimension takes the given values and the others stay.

    Shapes:
        ``(K,), values (n,) -> (n, K)``.

    Raises:
        ValueError: for a code or values of another shape, or a dimension that z does not have.

    Source:
        Chapter 8.
    """
    z = _code(z)
    if z.ndim != 1 or not isinstance(dimension, Integral) or not 0 <= dimension < len(z):
        raise ValueError(f"z must be (K,) and dimension from 0 to K - 1, not {tuple(z.shape)} and {dimension}")
    values = torch.as_tensor(values, dtype=z.dtype, device=z.device)
    if values.ndim != 1:
        raise ValueError(f"values must be a list (n,), not of shape {tuple(values.shape)}")
    codes = z.repeat(len(values), 1)
    codes[:, dimension] = values
    return codes


def _code(z: Array) -> Tensor:
    """Return a code of real numbers, those of whole ones too, which would cut off what is set into them."""
    z = rows_as_tensor(z, "codes")
    return z if z.is_floating_point() else z.float()
