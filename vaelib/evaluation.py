"""Honest evaluation: estimates of the log evidence and bounds on it, in nats per image."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from vaelib import _progress
from vaelib._bits import bits_per_dimension
from vaelib._inputs import Array, Images, as_tensor, images_and_labels, in_own_type, naming_types, warn_of_dark
from vaelib._model_checks import check_model, global_noise
from vaelib._notices import warn
from vaelib._objectives import about_a_negative_kl, objective_of, per_example
from vaelib.contract import ElboTerms, encoded, needed
from vaelib.networks import check_positive_integer, evaluating, first_tensor

__all__ = ["active_units", "bits_per_dimension", "log_evidence", "mean_elbo"]

_ROWS = 2000
# Numbers in one decoded tensor: small enough for a CPU's cache, large enough to keep a GPU busy.
_NUMBERS = {"cpu": 2**20, "other": 2**27}
_IMAGES = 32


@torch.no_grad()
def mean_elbo(model: Any, images: Images, y: Array | None = None, generator: torch.Generator | None = None) -> float:
    """Return the mean ELBO of images that training has not seen, with one z sampled from q(z|x) for each.

    ``1/N sum_n L(theta, phi; x_n)``. z is drawn, never set to its mean: that would look about 9 nats better and bound
    nothing. The same noise is used at every call unless a generator is given. Images are moved to the model's device.

    Args:
        model: a VAE, a CVAE or any other with ``elbo``; it is evaluated in eval mode and keeps its own.
        images: ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, D)``, or ImageData, whose labels are a CVAE's conditions.
        y: the conditions of a CVAE, ``(N, ...)``; they replace the labels of ImageData.
        generator: of the noise.

    Shapes:
        a float, in nats per image.

    Raises:
        ValueError: for no images, or images that the model refuses.
        TypeError: for what are no images.

    Source:
        Chapter 9.
    """
    needed(model, "elbo", by="mean_elbo")
    check_model(model)
    x, y = _examples(model, images, y)
    if len(x) == 0:
        raise ValueError("there are no images to evaluate: the data are empty")
    bound = objective_of(model, check=True)
    if generator is None:
        generator = _same_noise(model)
    total, kl = 0.0, 0.0
    with evaluating(model), naming_types(x), global_noise(first_tensor(model).device):
        for batch in _batches(model, x, y, _ROWS):
            # On the CPU: an Apple GPU has no float64.
            found = bound(model, batch[0], batch[1] if len(batch) > 1 else None, 0, generator)
            if isinstance(found, ElboTerms):
                kl += per_example(found.kl, batch[0], "kl").cpu().double().sum().item()
                per_example(found.log_likelihood, batch[0], "log_likelihood")
            elbo = found.elbo if isinstance(found, ElboTerms) else found
            total += per_example(elbo, batch[0], "the ELBO").cpu().double().sum().item()
    if (said := about_a_negative_kl(kl / len(x), len(x))) is not None:
        warn(said)
    return total / len(x)


@torch.no_grad()
def log_evidence(
    model: Any,
    x: Images,
    n_samples: int = 1000,
    y: Array | None = None,
    generator: torch.Generator | None = None,
    proposal: str = "posterior",
    progress: bool = False,
) -> Tensor:
    """Return the importance-sampling estimate of the log evidence of each image; the memory does not grow with S.

    ``log 1/S sum_s w_s``, ``w_s = p(x|z_s) p(z_s) / r(z_s)``, ``z_s ~ r``: the weights are averaged without bias, so
    the logarithm of their mean errs downwards (Jensen), and less so as S = n_samples grows: it is the bound L_S. r is
    q(z|x) (proposal "posterior") or, for the naive estimate, p(z) ("prior"). Given conditions y, everything is
    conditional: log p(x|y). The same noise is used at every call unless a generator is given.

    Args:
        model: a VAE or CVAE; it is evaluated in eval mode and keeps its own.
        x: images ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, D)``, or ImageData, whose labels are a CVAE's conditions.
        n_samples: the number ``S`` of draws for each image.
        y: the conditions of a CVAE, ``(N, ...)``.
        generator: of the noise.
        proposal: "posterior" or "prior".
        progress: show a bar.

    Shapes:
        ``(N,)``, in nats, on the model's device. No images give shape ``(0,)``.

    Raises:
        ValueError: for n_samples below 1, an unknown proposal, or images and conditions that the model refuses.
        TypeError: for what are no images.

    Source:
        Rezende et al. (2014), appendix E; Burda et al. (2016), section 5; chapter 10.
    """
    check_positive_integer("n_samples", n_samples)
    needed(model, "log_weights", "data_shape", by="log_evidence")
    check_model(model)
    images, y = _examples(model, x, y)
    like = first_tensor(model)
    if generator is None:
        generator = _same_noise(model)
    at_once = max(1, _NUMBERS.get(like.device.type, _NUMBERS["other"]) // (math.prod(model.data_shape) * _IMAGES))
    estimates = [like.new_empty(0)]
    bar = tqdm(total=len(images), unit="image", disable=not progress, file=_progress.stream())
    with bar, evaluating(model), global_noise(like.device):
        for batch in _batches(model, images, y, _IMAGES):
            total = like.new_full((len(batch[0]),), -math.inf)
            for done in range(0, n_samples, at_once):
                wanted = min(at_once, n_samples - done), len(batch[0])
                log_w = model.log_weights(*batch, wanted[0], generator, proposal=proposal)
                if log_w.shape != wanted:
                    raise ValueError(f"log_weights returned {tuple(log_w.shape)}, not (n_samples, batch) = {wanted}")
                total = torch.logaddexp(total, torch.logsumexp(log_w, 0))
            estimates.append(total - math.log(n_samples))
            bar.update(len(total))
    return torch.cat(estimates)


@torch.no_grad()
def active_units(model: Any, x: Images, y: Array | None = None, threshold: float = 0.01) -> Tensor:
    """Return which latent dimensions a model uses: those whose posterior mean differs from image to image.

    ``A_k = Var_x(E_q[z_k|x])``, and dimension k is active where ``A_k > threshold``.

    Args:
        model: a VAE or CVAE; it is evaluated in eval mode and keeps its own.
        x: images ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, D)``, or ImageData.
        y: the conditions of a CVAE, ``(N, ...)``.
        threshold: of the variance.

    Shapes:
        booleans ``(K,)``.

    Raises:
        ValueError: for fewer than two images, which have no variance, or what the model refuses.
        TypeError: for what are no images.

    Source:
        Burda et al. (2016), section 5.1; chapter 10.
    """
    needed(model, "encode", by="active_units")
    if not 0 <= threshold < math.inf:
        raise ValueError(f"threshold must be a variance, a number of at least 0, not {threshold!r}")
    images, y = _examples(model, x, y)
    if len(images) < 2:
        raise ValueError(f"active units need two images or more, not {len(images)}: they vary from image to image")
    with evaluating(model):
        mu = torch.cat([encoded(model, *batch, by="active_units").mu for batch in _batches(model, images, y, _ROWS)])
    if not mu.isfinite().all():
        raise ValueError("a posterior mean is not finite: the model has weights that are not, or diverged")
    return mu.var(0) > threshold


def _examples(model: Any, images: Images, y: Array | None) -> tuple[Tensor, Tensor | None]:
    """Return images and, for a model that takes them, conditions: those given, else the labels of ImageData."""
    x, labels = images_and_labels(images)
    if y is None and hasattr(model, "condition_dim"):
        y = labels
    conditions = None if y is None else as_tensor(y, "conditions")
    if conditions is not None and len(conditions) != len(x):
        raise ValueError(f"there are {len(x)} images and {len(conditions)} conditions: each image needs its own")
    warn_of_dark(x)
    return in_own_type(model, x), conditions


def _batches(model: Any, x: Tensor, y: Tensor | None, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield images, with their conditions where there are any, in batches on the model's device."""
    device = first_tensor(model).device
    for start in range(0, len(x), size):
        yield tuple(part[start : start + size].to(device) for part in (x, y) if part is not None)


def _same_noise(model: Any) -> torch.Generator:
    """Return a generator on the model's device, seeded with 0."""
    return torch.Generator(device=first_tensor(model).device).manual_seed(0)


def __getattr__(name: str) -> Callable[..., float]:
    """Serve `mean_elbo` under its former name, with a warning, for one release."""
    if name == "test_elbo":
        warnings.warn("vaelib.evaluation.test_elbo is now mean_elbo", DeprecationWarning, stacklevel=2)
        return mean_elbo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
