"""The conditional variational autoencoder: a model of x given a condition y, class or vector."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from vaelib.distributions import (
    bernoulli_log_prob,
    gaussian_log_prob,
    kl_gaussian,
    kl_standard_normal,
    reparameterize,
)
from vaelib.networks import check_positive_integer, flatten_images, mlp
from vaelib.vae import (
    ElboTerms,
    Posterior,
    check_codes,
    check_proposal,
    log_importance_weights,
    register_log_sigma,
    repeated,
    run_decoder,
    run_encoder,
    start_decoder_at,
)


class CVAE(nn.Module):
    """A conditional variational autoencoder: every distribution of the VAE may look at a condition y.

    ``p(z|y)`` is N(0, I) ("standard") or a Gaussian from a network of its own ("conditional"), ``p_theta(x|z, y)``
    Bernoulli or N(mean, sigma^2), and ``q_phi(z|x, y) = N(mu, sigma^2)``. Condition and image, or condition and code,
    enter a network side by side.

    A condition is a class index, ``(batch,)``, turned into a one-hot vector, or any vector, ``(batch, C)``.

    Args:
        data_dim: number D of pixels that are modelled.
        condition_dim: number C of classes, or the width of the condition vectors.
        hidden_dims: widths of the encoder's hidden layers; the decoder has them in reverse, p(z|y) as they are.
        latent_dim: number of latent dimensions K.
        prior: "standard" or "conditional".
        likelihood, activation, sigma, seed: as for `vaelib.vae.VAE`.
        encoder: your own network, (batch, D + C) -> (batch, 2 K), mu and log_var side by side.
        decoder: your own network, (batch, K + C) -> (batch, D).
        prior_network: your own network for a conditional prior, (batch, C) -> (batch, 2 K).

    Raises: ValueError as `vaelib.vae.VAE` does, for an unknown prior, and for a prior_network that has no use.
    Source: Sohn et al. (2015), section 4; Doersch (2016), section 3; chapters 11 and 12.
    """

    def __init__(
        self,
        data_dim: int,
        condition_dim: int,
        hidden_dims: Sequence[int],
        latent_dim: int,
        prior: str = "standard",
        likelihood: str = "bernoulli",
        activation: str = "relu",
        sigma: float | str = 1.0,
        seed: int = 0,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        prior_network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = {"data_dim": data_dim, "condition_dim": condition_dim, "latent_dim": latent_dim}
        for name, size in sizes.items():
            check_positive_integer(name, size)
        if prior not in ("standard", "conditional"):
            raise ValueError(f"unknown prior {prior!r}: choose 'standard' or 'conditional'")
        if prior == "standard" and prior_network is not None:
            raise ValueError("a prior_network needs prior='conditional': the standard prior does not look at y")
        self.data_dim, self.condition_dim, self.latent_dim = data_dim, condition_dim, latent_dim
        self.likelihood = likelihood
        # What rebuilds the model from its weights alone (vaelib.pretrained); own networks can't be described so.
        self.config: dict[str, Any] = {
            **sizes,
            "hidden_dims": list(hidden_dims),
            "prior": prior,
            "likelihood": likelihood,
            "activation": activation,
            "sigma": sigma,
        }
        generator = torch.Generator().manual_seed(seed)
        hidden = tuple(hidden_dims)
        self.encoder = encoder or mlp((data_dim + condition_dim, *hidden, 2 * latent_dim), activation, generator)
        self.decoder = decoder or mlp((latent_dim + condition_dim, *reversed(hidden), data_dim), activation, generator)
        self.prior_network = None
        if prior == "conditional":
            self.prior_network = prior_network or mlp((condition_dim, *hidden, 2 * latent_dim), activation, generator)
        self.log_sigma: Tensor
        register_log_sigma(self, likelihood, sigma)

    def encode(self, x: Tensor, y: Tensor) -> Posterior:
        """Return the approximate posterior q(z|x, y).

        Shapes: images ``(batch, D)``, ``(batch, H, W)`` or ``(batch, 1, H, W)`` and their conditions ``(batch,)`` or
        ``(batch, C)`` -> mu and log_var ``(batch, K)``.
        Raises: ValueError as `check` and `check_condition` do, or where images and conditions differ in number.
        Source: chapter 11.
        """
        return self._encode(*self._checked(x, y))

    def prior(self, y: Tensor) -> Posterior:
        """Return the mean and log variance of p(z|y), which are zero for the standard prior.

        Shapes: conditions ``(batch,)`` or ``(batch, C)`` -> mu and log_var ``(batch, K)``.
        Raises: ValueError as `check_condition` does.
        Source: Sohn et al. (2015), section 4; chapter 12.
        """
        return self._prior(self.check_condition(y))

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Return what parameterizes p(x|z, y): logits (Bernoulli) or means (Gaussian), never a sample.

        Shapes: ``(..., batch, K)`` and conditions ``(batch,)`` or ``(batch, C)`` -> ``(..., batch, D)``.
        Raises: ValueError for another width of z, as `check_condition` does, or where codes and conditions differ in
        number.
        Source: chapter 11.
        """
        y = self.check_condition(y)
        check_codes(z, self.latent_dim)
        if z.ndim < 2 or z.shape[-2] != len(y):
            raise ValueError(
                f"z has shape {tuple(z.shape)} and there are {len(y)} conditions: each code needs its own, (..., "
                f"{len(y)}, {self.latent_dim}); repeat a condition with y.expand or y.repeat"
            )
        return self._decode(z, y)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean image E[x|z, y] from what `decode` returned; shapes ``(..., D) -> (..., D)``."""
        return torch.sigmoid(decoded) if self.likelihood == "bernoulli" else decoded

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z, y) from what `decode` returned; the pixels are not checked here.

        Shapes: ``(..., D), (..., D) -> (...)``, in nats.
        Source: chapter 11.
        """
        if self.likelihood == "bernoulli":
            return bernoulli_log_prob(x, decoded, check=False)
        return gaussian_log_prob(x, decoded, 2 * self.log_sigma)

    def elbo(
        self,
        x: Tensor,
        y: Tensor,
        beta: float | Tensor = 1.0,
        n_samples: int = 1,
        generator: torch.Generator | None = None,
        check: bool = True,
    ) -> ElboTerms:
        """Return both terms of the conditional ELBO, a lower bound on log p(x|y).

        ``L(theta, phi; x, y) = 1/L sum_l log p(x|z_l, y) - KL(q(z|x, y) || p(z|y))``, ``z_l = mu + sigma eps_l``.
        `beta` scales the KL in ``.objective`` alone. ``check=False`` is for a loop that has checked images and
        conditions once; y must then be what `check_condition` returns.

        Shapes: images and conditions as for `encode` -> terms ``(batch,)``, in nats.
        Raises: ValueError as `encode` does, and for n_samples below 1.
        Source: Sohn et al. (2015), equation 4; Doersch (2016), equation 17; chapter 11.
        """
        check_positive_integer("n_samples", n_samples)
        x, y = self._checked(x, y) if check else (x, y)
        mu, log_var = self._encode(x, y)
        z = reparameterize(*repeated(mu, log_var, n_samples), generator=generator)
        log_likelihood = self.log_likelihood(x, self._decode(z, y))
        if self.prior_network is None:
            kl = kl_standard_normal(mu, log_var)
        else:
            kl = kl_gaussian(mu, log_var, *self._prior(y))
        return ElboTerms(log_likelihood.mean(0) if n_samples > 1 else log_likelihood, kl, beta)

    def iwae_bound(
        self, x: Tensor, y: Tensor, n_samples: int, generator: torch.Generator | None = None, check: bool = True
    ) -> Tensor:
        """Return the importance-weighted bound on log p(x|y), which grows with n_samples from the ELBO.

        ``log 1/K sum_k p(x|z_k, y) p(z_k|y) / q(z_k|x, y)`` with ``z_k ~ q(z|x, y)``, K = n_samples, all held in memory
        at once; `vaelib.evaluation.log_evidence` bounds the memory.

        Shapes: images and conditions as for `encode` -> ``(batch,)``, in nats.
        Raises: ValueError as `elbo` does.
        Source: Burda et al. (2016), equation 8; chapter 11.
        """
        return torch.logsumexp(self.log_weights(x, y, n_samples, generator, check), 0) - math.log(n_samples)

    def log_weights(
        self,
        x: Tensor,
        y: Tensor,
        n_samples: int,
        generator: torch.Generator | None = None,
        check: bool = True,
        proposal: str = "posterior",
    ) -> Tensor:
        """Return the log importance weights of n_samples codes for each image; their mean weight estimates p(x|y).

        ``log w_k = log p(x|z_k, y) + log p(z_k|y) - log r(z_k)`` with ``z_k ~ r``, where r is q(z|x, y) ("posterior")
        or p(z|y) ("prior").

        Shapes: images and conditions as for `encode` -> ``(n_samples, batch)``, in nats.
        Raises: ValueError as `elbo` does, and for another proposal.
        Source: Sohn et al. (2015), section 4.2; chapters 10 and 12.
        """
        check_positive_integer("n_samples", n_samples)
        check_proposal(proposal)
        x, y = self._checked(x, y) if check else (x, y)
        prior = self._prior(y)
        return log_importance_weights(
            lambda z: self.log_likelihood(x, self._decode(z, y)),
            self._encode(x, y) if proposal == "posterior" else prior,
            prior,
            n_samples,
            generator,
        )

    @torch.no_grad()
    def sample(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean image of one draw for each condition: z ~ p(z|y), then E[x|z, y].

        Shapes: conditions ``(n,)`` or ``(n, C)`` -> ``(n, D)``.
        Raises: ValueError as `check_condition` does.
        Source: chapter 11.
        """
        y = self.check_condition(y)
        return self.mean(self._decode(reparameterize(*self._prior(y), generator=generator), y))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean image decoded from the mean code, E[x | z = mu(x, y), y].

        Shapes: images and conditions as for `encode` -> ``(batch, D)``.
        Raises: ValueError as `encode` does.
        """
        x, y = self._checked(x, y)
        return self.mean(self._decode(self._encode(x, y).mu, y))

    def check(self, x: Tensor) -> Tensor:
        """Return images as checked rows of the model's own type.

        Shapes: ``(batch, D)``, ``(batch, H, W)`` or ``(batch, 1, H, W) -> (batch, D)``.
        Raises: ValueError for what can't be images of this model; the message names the remedy.
        """
        return flatten_images(x, self.data_dim, self.log_sigma, self.likelihood == "bernoulli")

    def check_condition(self, y: Tensor | np.ndarray) -> Tensor:
        """Return conditions as checked rows of the model's own type: class indices become one-hot vectors.

        Shapes: ``(batch,)`` or ``(batch, C) -> (batch, C)``.
        Raises: ValueError for a class outside 0 to C - 1, classes that are not whole numbers, vectors of another width,
        a NaN or an infinity, another device.
        Source: chapter 11.
        """
        y = torch.as_tensor(y)
        if y.device != self.log_sigma.device:
            raise ValueError(
                f"conditions are on {y.device} and the model on {self.log_sigma.device}: "
                f"call y.to({str(self.log_sigma.device)!r})"
            )
        if y.ndim == 1:
            return self._one_hot(y)
        if y.ndim != 2 or y.shape[1] != self.condition_dim:
            raise ValueError(
                f"conditions have shape {tuple(y.shape)}: this model takes class indices (batch,) or vectors "
                f"(batch, condition_dim) = (batch, {self.condition_dim})"
            )
        wrong = torch.nonzero(~torch.isfinite(y))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise ValueError(f"condition {at} is {y[at].item()}: every entry must be a finite number")
        return y.to(self.log_sigma.dtype)

    def start_at_mean(self, x: Tensor) -> None:
        """Set the decoder's output bias so that a fresh model decodes the mean image; see `vaelib.vae.VAE`.

        Shapes: ``(batch, D)``.
        """
        start_decoder_at(self.decoder, x.mean(0), self.likelihood)

    def _one_hot(self, y: Tensor) -> Tensor:
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"class indices are {y.dtype}: convert them with y.long(), or give vectors (batch, C)")
        wrong = torch.nonzero((y < 0) | (y >= self.condition_dim))
        if len(wrong):
            at = int(wrong[0])
            raise ValueError(
                f"the class at index {at} is {int(y[at])}: with condition_dim = {self.condition_dim} classes run from "
                f"0 to {self.condition_dim - 1}"
            )
        return one_hot(y.long(), self.condition_dim).to(self.log_sigma.dtype)

    def _checked(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.check(x), self.check_condition(y)
        if len(x) != len(y):
            raise ValueError(f"there are {len(x)} images and {len(y)} conditions: each image needs its own")
        return x, y

    def _encode(self, x: Tensor, y: Tensor) -> Posterior:
        return run_encoder(self.encoder, torch.cat([x, y], 1), self.latent_dim)

    def _prior(self, y: Tensor) -> Posterior:
        if self.prior_network is None:
            return Posterior(*y.new_zeros(2, len(y), self.latent_dim))
        return run_encoder(self.prior_network, y, self.latent_dim)

    def _decode(self, z: Tensor, y: Tensor) -> Tensor:
        return run_decoder(self.decoder, torch.cat([z, y.expand(*z.shape[:-1], -1)], -1), self.data_dim)
