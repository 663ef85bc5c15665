"""Honest evaluation: bounds on the log evidence, in nats per image."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_ROWS = 2000


@torch.no_grad()
def test_elbo(
    model: Any,
    images: Tensor | np.ndarray,
    y: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> float:
    """Return the mean ELBO of images that training has not seen, with one z sampled from q(z|x) for each.

    ``1/N sum_n L(theta, phi; x_n)``. z is drawn, never set to its mean: that would look about 9 nats better and bound
    nothing. The same noise is used at every call unless a generator is given. Images are moved to the model's device.

    Shapes: ``(N, H, W)``, ``(N, 1, H, W)`` or ``(N, D)``, conditions ``y (N, ...) -> float``, in nats per image.
    Raises: ValueError for no images, or images that the model refuses.
    Source: chapter 9.
    """
    if len(images) == 0:
        raise ValueError("there are no images to evaluate: the data are empty")
    device = next(model.parameters()).device
    if generator is None:
        generator = torch.Generator(device=device).manual_seed(0)
    total = 0.0
    for start in range(0, len(images), _ROWS):
        rows = slice(start, start + _ROWS)
        batch = (torch.as_tensor(images[rows]).to(device), *(() if y is None else (y[rows].to(device),)))
        total += model.elbo(*batch, generator=generator).elbo.double().sum().item()
    return total / len(images)
