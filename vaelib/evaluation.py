"""Honest evaluation: estimates of the log evidence and bounds on it, in nats per image."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vaelib.data import in_notebook
from vaelib.networks import check_positive_integer

_ROWS = 2000
# Numbers in one decoded tensor: small enough for a CPU's cache, large enough to keep a GPU busy.
_NUMBERS = {"cpu": 2**20, "other": 2**27}
_IMAGES = 32


@torch.no_grad()
def test_elbo(
    model: Any,
    images: Tensor | np.ndarray,
    y: Tensor | np.ndarray | None = None,
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
    if generator is None:
        generator = _same_noise(model)
    total = 0.0
    for batch in _batches(model, images, y, _ROWS):
        total += model.elbo(*batch, generator=generator).elbo.double().sum().item()
    return total / len(images)


@torch.no_grad()
def log_evidence(
    model: Any,
    x: Tensor | np.ndarray,
    n_samples: int = 1000,
    y: Tensor | np.ndarray | None = None,
    generator: torch.Generator | None = None,
    proposal: str = "posterior",
    progress: bool = False,
) -> Tensor:
    """Return the importance-sampling estimate of the log evidence of each image; the memory does not grow with S.

    ``log 1/S sum_s w_s``, ``w_s = p(x|z_s) p(z_s) / r(z_s)``, ``z_s ~ r``: the weights are averaged without bias, so
    the logarithm of their mean errs downwards (Jensen), and less so as S = n_samples grows: it is the bound L_S. r is
    q(z|x) (proposal "posterior") or, for the naive estimate, p(z) ("prior"). Given conditions y, everything is
    conditional: log p(x|y). The same noise is used at every call unless a generator is given.

    Shapes: images ``(N, H, W)``, ``(N, 1, H, W)`` or ``(N, D)``, conditions ``y (N, ...)`` -> ``(N,)``, in nats, on the
    model's device. No images give shape ``(0,)``.
    Raises: ValueError for n_samples below 1, an unknown proposal, or images and conditions that the model refuses.
    Source: Rezende et al. (2014), appendix E; Burda et al. (2016), section 5; chapter 10.
    """
    check_positive_integer("n_samples", n_samples)
    parameter = next(model.parameters())
    if generator is None:
        generator = _same_noise(model)
    at_once = max(1, _NUMBERS.get(parameter.device.type, _NUMBERS["other"]) // (model.data_dim * _IMAGES))
    estimates = [parameter.new_empty(0)]
    # In a notebook standard error looks like an error; in a terminal it keeps standard output clean.
    with tqdm(
        total=len(x), unit="image", disable=not progress, file=sys.stdout if in_notebook() else sys.stderr
    ) as bar:
        for batch in _batches(model, x, y, _IMAGES):
            total = parameter.new_full((len(batch[0]),), -math.inf)
            for done in range(0, n_samples, at_once):
                log_w = model.log_weights(*batch, min(at_once, n_samples - done), generator, proposal=proposal)
                total = torch.logaddexp(total, torch.logsumexp(log_w, 0))
            estimates.append(total - math.log(n_samples))
            bar.update(len(total))
    return torch.cat(estimates)


@torch.no_grad()
def active_units(
    model: Any, x: Tensor | np.ndarray, y: Tensor | np.ndarray | None = None, threshold: float = 0.01
) -> Tensor:
    """Return which latent dimensions a model uses: those whose posterior mean differs from image to image.

    ``A_k = Var_x(E_q[z_k|x])``, and dimension k is active where ``A_k > threshold``.

    Shapes: images ``(N, H, W)``, ``(N, 1, H, W)`` or ``(N, D)``, conditions ``y (N, ...)`` -> booleans ``(K,)``.
    Raises: ValueError for fewer than two images, which have no variance, or what the model refuses.
    Source: Burda et al. (2016), section 5.1; chapter 10.
    """
    if len(x) < 2:
        raise ValueError(f"active units need two images or more, not {len(x)}: they vary from image to image")
    mu = torch.cat([model.encode(*batch).mu for batch in _batches(model, x, y, _ROWS)])
    return mu.var(0) > threshold


def _batches(
    model: Any, x: Tensor | np.ndarray, y: Tensor | np.ndarray | None, size: int
) -> Iterator[tuple[Tensor, ...]]:
    """Yield images, with their conditions where there are any, in batches on the model's device."""
    if y is not None and len(y) != len(x):
        raise ValueError(f"there are {len(x)} images and {len(y)} conditions: each image needs its own")
    device = next(model.parameters()).device
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        yield tuple(torch.as_tensor(part[rows]).to(device) for part in (x, y) if part is not None)


def _same_noise(model: Any) -> torch.Generator:
    """Return a generator on the model's device, seeded with 0."""
    return torch.Generator(device=next(model.parameters()).device).manual_seed(0)
