"""The linear-Gaussian latent-variable model: the one whose evidence and posterior are known exactly."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaelib.distributions import LOG_2PI, standard_normal


class GaussianPosterior(NamedTuple):
    """The exact posterior ``N(mean, covariance)``: mean ``(N, K)``, and one covariance ``(K, K)`` for every x."""

    mean: Tensor
    covariance: Tensor


class LinearGaussian:
    """Probabilistic PCA: ``z ~ N(0, I), x | z ~ N(W z + b, sigma^2 I)``, so that p(x) and ``p(z|x)`` are Gaussian.

    ``p(x) = N(b, W W^T + sigma^2 I)`` and ``p(z|x) = N(S W^T (x - b) / sigma^2, S)`` with
    ``S = (I + W^T W / sigma^2)^-1``.

    Args:
        weight: W, ``(D, K)``.
        bias: b, ``(D,)``.
        sigma: the standard deviation of the noise, a positive number.

    Raises:
        ValueError: for other shapes or a sigma that is not positive and finite.

    Source:
        Tipping and Bishop (1999), equations 4 to 9; chapter 2.
    """

    def __init__(self, weight: Tensor, bias: Tensor, sigma: float) -> None:
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(f"weight must be (D, K) and bias (D,), not {tuple(weight.shape)} and {tuple(bias.shape)}")
        if not (sigma > 0 and math.isfinite(sigma)):
            raise ValueError(f"sigma must be positive and finite, not {sigma}")
        self.weight, self.bias, self.sigma = weight, bias, float(sigma)
        identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        self._precision = identity + weight.T @ weight / sigma**2
        self._cholesky = torch.linalg.cholesky(self._precision)

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x), by the matrix determinant and inversion lemmas, so that only K x K systems are solved.

        ``log p(x) = -1/2 (D log 2 pi + 2 D log sigma + log |S^-1| + |x - b|^2 / sigma^2 - m^T S^-1 m)``, m the
        posterior mean.

        Shapes:
            ``(N, D) -> (N,)``, in nats.

        Raises:
            ValueError: for another width.

        Source:
            Chapter 2.
        """
        centred = self._centred(x)
        mean = self.posterior(x).mean
        log_det = 2 * self._cholesky.diagonal().log().sum()
        square = centred.square().sum(-1) / self.sigma**2 - ((mean @ self._precision) * mean).sum(-1)
        data_dim = self.weight.shape[0]
        return -0.5 * (data_dim * (LOG_2PI + 2 * math.log(self.sigma)) + log_det + square)

    def posterior(self, x: Tensor) -> GaussianPosterior:
        """Return the exact posterior ``p(z|x)``.

        Shapes:
            ``(N, D) -> mean (N, K), covariance (K, K)``.

        Raises:
            ValueError: for another width.

        Source:
            Tipping and Bishop (1999), equation 7; chapter 2.
        """
        projected = self._centred(x) @ self.weight / self.sigma**2
        mean = torch.cholesky_solve(projected.T, self._cholesky).T
        return GaussianPosterior(mean, torch.cholesky_inverse(self._cholesky))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n data points: z from the prior, then x from ``p(x|z)``.

        Shapes:
            ``n -> (n, D)``.
        """
        z = standard_normal((n, self.weight.shape[1]), self.weight, generator)
        return z @ self.weight.T + self.bias + self.sigma * standard_normal((n, len(self.bias)), self.weight, generator)

    def _centred(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != len(self.bias):
            raise ValueError(f"x must be (N, {len(self.bias)}), not {tuple(x.shape)}")
        return x - self.bias
