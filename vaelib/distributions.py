"""Log densities, KL divergences and the reparameterized sample: the formulas of chapters 1 to 4, in nats.

Every function sums over the last dimension and leaves the others alone. Half-precision input is computed in float32.
A log variance is held within +-88 (float32) or +-700 (float64), where its exponential is finite, and a result within
the largest finite number of its type, so that neither a value nor a gradient is ever infinite or NaN.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vaelib._pixels import check_unit_interval

LOG_2PI = math.log(2 * math.pi)


def kl_standard_normal(mu: Tensor, log_var: Tensor) -> Tensor:
    """Return the KL divergence of N(mu, sigma^2) from the standard normal prior.

    ``KL(N(mu, sigma^2) || N(0, 1)) = 1/2 sum_k (mu_k^2 + sigma_k^2 - 1 - log sigma_k^2)``.
    Computed with ``expm1``, it is never negative, also where rounding makes the plain formula so.

    Args:
        mu: the mean.
        log_var: the logarithm of the variance, ``log sigma^2``.

    Shapes:
        ``(..., K), (..., K) -> (...)``, in nats.

    Raises:
        ValueError: if the last dimensions differ.

    Source:
        Kingma and Welling (2014), appendix B; chapter 1.
    """
    mu, log_var = _operands(mu=mu, log_var=log_var)
    log_var = _held(log_var)
    return _finite(0.5 * (mu.square() + torch.expm1(log_var) - log_var).sum(-1))


def kl_gaussian(mu_q: Tensor, log_var_q: Tensor, mu_p: Tensor, log_var_p: Tensor) -> Tensor:
    """Return the KL divergence of one diagonal Gaussian from another, ``KL(q || p)``.

    ``1/2 sum_k (sigma_q^2 / sigma_p^2 - 1 - log(sigma_q^2 / sigma_p^2) + (mu_q - mu_p)^2 / sigma_p^2)``.

    Args:
        mu_q: the mean of q.
        log_var_q: the logarithm of the variance of q, ``log sigma_q^2``.
        mu_p: the mean of p.
        log_var_p: the logarithm of the variance of p, ``log sigma_p^2``.

    Shapes:
        ``(..., K)`` four times ``-> (...)``, in nats.

    Raises:
        ValueError: if the last dimensions differ.

    Source:
        Chapter 1, where it is derived line by line.
    """
    mu_q, log_var_q, mu_p, log_var_p = _operands(mu_q=mu_q, log_var_q=log_var_q, mu_p=mu_p, log_var_p=log_var_p)
    log_var_p = _held(log_var_p)
    log_ratio = _held(_held(log_var_q) - log_var_p)
    distance = (mu_q - mu_p) * torch.exp(-0.5 * log_var_p)
    return _finite(0.5 * (torch.expm1(log_ratio) - log_ratio + distance.square()).sum(-1))


def gaussian_log_prob(x: Tensor, mu: Tensor, log_var: Tensor | float) -> Tensor:
    """Return the log density of a diagonal Gaussian; like every log density, it may be positive.

    ``log N(x; mu, sigma^2) = -1/2 sum_d (log 2 pi + log sigma_d^2 + (x_d - mu_d)^2 / sigma_d^2)``.

    Args:
        x: the points.
        mu: the mean.
        log_var: the logarithm of the variance, ``log sigma^2``; one number may stand for all dimensions.

    Shapes:
        ``(..., D), (..., D), (..., D) -> (...)``, in nats.

    Raises:
        ValueError: if the last dimensions differ.

    Source:
        Chapter 1.
    """
    x, mu = _operands(x=x, mu=mu)
    log_var = torch.as_tensor(log_var, dtype=x.dtype, device=x.device)
    if log_var.ndim:
        x, mu, log_var = _operands(x=x, mu=mu, log_var=log_var)
    log_var = _held(log_var)
    distance = (x - mu) * torch.exp(-0.5 * log_var)
    return _finite(-0.5 * (LOG_2PI + log_var + distance.square()).sum(-1))


def bernoulli_log_prob(x: Tensor, logits: Tensor, check: bool = True) -> Tensor:
    """Return the log probability of pixels under independent Bernoulli distributions given by their logits.

    ``log p(x) = sum_d (x_d log s(l_d) + (1 - x_d) log(1 - s(l_d)))`` with the logistic function ``s``. Grey values
    between 0 and 1 are accepted, as the field does, though the result is then not a log probability (chapter 10).

    Args:
        x: the pixels.
        logits: the log odds of a pixel being 1.
        check: whether to look at every pixel first; a loop that has looked once may leave it out.

    Shapes:
        ``(..., D), (..., D) -> (...)``, in nats.

    Raises:
        ValueError: if the last dimensions differ, or (with ``check``) if a pixel lies outside [0, 1].

    Source:
        Kingma and Welling (2014), appendix C.1; chapter 7.
    """
    if check:
        check_unit_interval(x)
    x, logits = torch.broadcast_tensors(*_operands(x=x, logits=logits))
    # From logits, so that neither a probability of 0 or 1 nor its logarithm is ever computed.
    return _finite(-F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1))


def reparameterize(mu: Tensor, log_var: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw z from N(mu, sigma^2) as a differentiable function of mu and log_var.

    ``z = mu + sigma * eps`` with ``eps ~ N(0, 1)`` and ``sigma = exp(log_var / 2)``.

    Args:
        mu: the mean.
        log_var: the logarithm of the variance, ``log sigma^2``.
        generator: where the noise comes from; without one, PyTorch's own.

    Shapes:
        ``(..., K), (..., K) -> (..., K)``.

    Raises:
        ValueError: if the last dimensions differ.

    Source:
        Kingma and Welling (2014), section 2.4; chapter 4.
    """
    mu, log_var = _operands(mu=mu, log_var=log_var)
    shape = torch.broadcast_shapes(mu.shape, log_var.shape)
    return mu + torch.exp(0.5 * _held(log_var)) * standard_normal(shape, mu, generator)


def standard_normal(shape: torch.Size | tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal noise with the dtype and device of ``like``, wherever the generator lives.

    Shapes:
        ``shape -> shape``.
    """
    device = where_to_draw(like, generator)
    return torch.randn(shape, dtype=like.dtype, device=device, generator=generator).to(like.device)


def where_to_draw(like: Tensor, generator: torch.Generator | None) -> torch.device:
    """Return the device on which a generator draws, that of ``like`` where there is none.

    Raises:
        TypeError: for what is no generator of PyTorch's, such as a seed.
    """
    if generator is None:
        return like.device
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"the generator is of type {type(generator).__name__}: make one with torch.Generator().manual_seed(0)"
        )
    return generator.device


def _operands(**tensors: Tensor) -> list[Tensor]:
    """Return the tensors in one floating type of at least float32, after checking that their last dimensions agree."""
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len({shape[-1:] for shape in sizes.values()}) > 1 or () in sizes.values():
        listing = ", ".join(f"{name} {shape}" for name, shape in sizes.items())
        raise ValueError(f"the last dimensions must be equal: {listing}")
    dtype = torch.float32
    for tensor in tensors.values():
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) for tensor in tensors.values()]


def _held(log_var: Tensor) -> Tensor:
    # hardtanh is clamp, with a backward pass of one operation for clamp's five.
    bound = 700.0 if log_var.dtype == torch.float64 else 88.0
    return F.hardtanh(log_var, -bound, bound)


def _finite(value: Tensor) -> Tensor:
    largest = torch.finfo(value.dtype).max
    return F.hardtanh(value, -largest, largest)
