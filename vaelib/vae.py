"""The variational autoencoder: encoder, decoder, and the evidence lower bound that trains both."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaelib.distributions import (
    bernoulli_log_prob,
    gaussian_log_prob,
    kl_standard_normal,
    reparameterize,
    standard_normal,
)
from vaelib.networks import check_positive_integer, flatten_images, mlp


class Posterior(NamedTuple):
    """The approximate posterior q(z|x) = N(mu, exp(log_var)), each ``(batch, latent_dim)``."""

    mu: Tensor
    log_var: Tensor


@dataclass(frozen=True)
class ElboTerms:
    """The two terms of the ELBO for each example, in nats: ``log_likelihood (batch,)`` and unscaled ``kl (batch,)``."""

    log_likelihood: Tensor
    kl: Tensor
    beta: float | Tensor = 1.0

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound, ``E_q[log p(x|z)] - KL(q(z|x) || p(z))``; shape ``(batch,)``."""
        return self.log_likelihood - self.kl

    @property
    def objective(self) -> Tensor:
        """What training maximises, ``E_q[log p(x|z)] - beta KL``; it is the ELBO only for beta = 1."""
        return self.log_likelihood - self.beta * self.kl

    def __iter__(self) -> Iterator[Tensor]:
        """Unpack as ``log_likelihood, kl``."""
        return iter((self.log_likelihood, self.kl))


class VAE(nn.Module):
    """A variational autoencoder with a diagonal Gaussian posterior and the standard normal prior.

    ``p(z) = N(0, I)``, ``p_theta(x|z)`` Bernoulli (the decoder gives logits) or N(mean, sigma^2) (it gives means), and
    ``q_phi(z|x) = N(mu, sigma^2)``, whose mean and log variance come from one encoder.

    Args:
        data_dim: number of pixels D.
        hidden_dims: widths of the encoder's hidden layers; the decoder has them in reverse.
        latent_dim: number of latent dimensions K.
        likelihood: "bernoulli" or "gaussian".
        activation: "relu", "tanh" or "leaky_relu" (slope 0.2).
        sigma: standard deviation of a Gaussian likelihood, or "learned" for one learned number.
        seed: seeds the generator that draws the weights.
        encoder: your own network, (batch, D) -> (batch, 2 K), mu and log_var side by side.
        decoder: your own network, (batch, K) -> (batch, D).

    Raises: ValueError for a size that is not a positive whole number, an unknown likelihood or a sigma below zero.
    Source: Kingma and Welling (2014), section 3; chapter 7.
    """

    def __init__(
        self,
        data_dim: int,
        hidden_dims: Sequence[int],
        latent_dim: int,
        likelihood: str = "bernoulli",
        activation: str = "relu",
        sigma: float | str = 1.0,
        seed: int = 0,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_positive_integer("data_dim", data_dim)
        check_positive_integer("latent_dim", latent_dim)
        self.data_dim, self.latent_dim, self.likelihood = data_dim, latent_dim, likelihood
        # What rebuilds the model from its weights alone (vaelib.pretrained); own networks can't be described so.
        self.config: dict[str, Any] = {
            "data_dim": data_dim,
            "hidden_dims": list(hidden_dims),
            "latent_dim": latent_dim,
            "likelihood": likelihood,
            "activation": activation,
            "sigma": sigma,
        }
        generator = torch.Generator().manual_seed(seed)
        hidden = tuple(hidden_dims)
        self.encoder = encoder or mlp((data_dim, *hidden, 2 * latent_dim), activation, generator)
        self.decoder = decoder or mlp((latent_dim, *reversed(hidden), data_dim), activation, generator)
        self.log_sigma: Tensor
        register_log_sigma(self, likelihood, sigma)

    def encode(self, x: Tensor) -> Posterior:
        """Return the approximate posterior q(z|x).

        Shapes: images ``(batch, D)``, ``(batch, H, W)`` or ``(batch, 1, H, W)`` -> mu and log_var ``(batch, K)``.
        Raises: ValueError for other shapes, NaN, pixels outside [0, 1] (Bernoulli), another device.
        Source: chapter 7.
        """
        return self._encode(self.check(x))

    def decode(self, z: Tensor) -> Tensor:
        """Return what parameterizes p(x|z): logits (Bernoulli) or means (Gaussian), never a sample.

        Shapes: ``(..., K) -> (..., D)``.
        Raises: ValueError for another width.
        Source: chapter 7.
        """
        check_codes(z, self.latent_dim)
        return run_decoder(self.decoder, z, self.data_dim)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean image E[x|z] from what `decode` returned: the logistic function of logits, or the means.

        Shapes: ``(..., D) -> (..., D)``.
        """
        return torch.sigmoid(decoded) if self.likelihood == "bernoulli" else decoded

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z) from what `decode` returned; the pixels are not checked here.

        Shapes: ``(..., D), (..., D) -> (...)``, in nats.
        Source: chapter 7.
        """
        if self.likelihood == "bernoulli":
            return bernoulli_log_prob(x, decoded, check=False)
        return gaussian_log_prob(x, decoded, 2 * self.log_sigma)

    def elbo(
        self,
        x: Tensor,
        beta: float | Tensor = 1.0,
        n_samples: int = 1,
        generator: torch.Generator | None = None,
        check: bool = True,
    ) -> ElboTerms:
        """Return both terms of the ELBO: the likelihood by Monte Carlo over L = n_samples, the KL in closed form.

        ``L(theta, phi; x) = 1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z))``, ``z_l = mu + sigma eps_l`` (estimator B).
        `beta` scales the KL in ``.objective`` alone. ``check=False`` is for a loop that has checked its data once.

        Shapes: ``(batch, D)``, ``(batch, H, W)`` or ``(batch, 1, H, W)`` -> terms ``(batch,)``, in nats.
        Raises: ValueError as `encode` does, and for n_samples below 1.
        Source: Kingma and Welling (2014), equation 7; chapters 3, 4 and 7.
        """
        check_positive_integer("n_samples", n_samples)
        x = self.check(x) if check else x
        mu, log_var = self._encode(x)
        z = reparameterize(*repeated(mu, log_var, n_samples), generator=generator)
        log_likelihood = self.log_likelihood(x, self.decode(z))
        return ElboTerms(
            log_likelihood.mean(0) if n_samples > 1 else log_likelihood, kl_standard_normal(mu, log_var), beta
        )

    def iwae_bound(
        self, x: Tensor, n_samples: int, generator: torch.Generator | None = None, check: bool = True
    ) -> Tensor:
        """Return the importance-weighted bound, which grows with n_samples from the ELBO towards the log evidence.

        ``L_K(theta, phi; x) = log 1/K sum_k p(x, z_k) / q(z_k|x)`` with ``z_k ~ q(z|x)``, K = n_samples, all held in
        memory at once: for training and for small K. `vaelib.evaluation.log_evidence` bounds the memory.

        Shapes: images as for `elbo` -> ``(batch,)``, in nats.
        Raises: ValueError as `elbo` does.
        Source: Burda et al. (2016), equation 8; chapter 10.
        """
        return torch.logsumexp(self.log_weights(x, n_samples, generator, check), 0) - math.log(n_samples)

    def log_weights(
        self,
        x: Tensor,
        n_samples: int,
        generator: torch.Generator | None = None,
        check: bool = True,
        proposal: str = "posterior",
    ) -> Tensor:
        """Return the log importance weights of n_samples codes for each image; their mean weight estimates p(x).

        ``log w_k = log p(x|z_k) + log p(z_k) - log r(z_k)`` with ``z_k ~ r``, where r is q(z|x) ("posterior") or, for
        the naive estimate, p(z) ("prior").

        Shapes: images as for `elbo` -> ``(n_samples, batch)``, in nats.
        Raises: ValueError as `elbo` does, and for another proposal.
        Source: Burda et al. (2016), section 3; chapters 2 and 10.
        """
        check_positive_integer("n_samples", n_samples)
        check_proposal(proposal)
        x = self.check(x) if check else x
        prior = Posterior(*torch.zeros(2, len(x), self.latent_dim).to(self.log_sigma))
        return log_importance_weights(
            lambda z: self.log_likelihood(x, self.decode(z)),
            self._encode(x) if proposal == "posterior" else prior,
            prior,
            n_samples,
            generator,
        )

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean images of n draws from the prior: z ~ N(0, I), then E[x|z].

        Shapes: ``n -> (n, D)``.
        Raises: ValueError unless n is a positive whole number.
        Source: chapter 7.
        """
        check_positive_integer("n", n)
        return self.mean(self.decode(standard_normal((n, self.latent_dim), self.log_sigma, generator)))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean image decoded from the mean code, E[x | z = mu(x)].

        Shapes: images as for `encode` -> ``(batch, D)``.
        Raises: ValueError as `encode` does.
        """
        return self.mean(self.decode(self.encode(x).mu))

    def check(self, x: Tensor) -> Tensor:
        """Return images as checked rows of the model's own type, ready for ``check=False``.

        Shapes: ``(batch, D)``, ``(batch, H, W)`` or ``(batch, 1, H, W) -> (batch, D)``.
        Raises: ValueError for what can't be images of this model; the message names the remedy.
        """
        return flatten_images(x, self.data_dim, self.log_sigma, self.likelihood == "bernoulli")

    @torch.no_grad()
    def start_at_mean(self, x: Tensor) -> None:
        """Set the decoder's output bias so that a fresh model decodes the mean image; do nothing to a trained one.

        ``b_d = logit(mean of x_d)`` (Bernoulli) or ``mean of x_d`` (Gaussian). A bias that is not zero any more, or a
        decoder of your own that does not end in a linear layer, is left alone.

        Shapes: ``(batch, D)``.
        """
        start_decoder_at(self.decoder, x.mean(0), self.likelihood)

    def _encode(self, x: Tensor) -> Posterior:
        return run_encoder(self.encoder, x, self.latent_dim)


def register_log_sigma(model: nn.Module, likelihood: str, sigma: float | str) -> None:
    """Give a model its ``log_sigma``: a parameter where sigma is "learned", and a fixed number otherwise.

    Raises: ValueError for an unknown likelihood, or a sigma that is not a positive number.
    """
    if likelihood not in ("bernoulli", "gaussian"):
        raise ValueError(f"unknown likelihood {likelihood!r}: choose 'bernoulli' or 'gaussian'")
    if sigma == "learned":
        model.register_parameter("log_sigma", nn.Parameter(torch.tensor(0.0)))
    elif isinstance(sigma, int | float) and 0 < sigma < math.inf:
        model.register_buffer("log_sigma", torch.tensor(math.log(sigma)))
    else:
        raise ValueError(f"sigma must be a positive number or 'learned', not {sigma!r}")


def check_codes(z: Tensor, latent_dim: int) -> None:
    """Raise a ValueError unless the last dimension of z is latent_dim."""
    if z.shape[-1:] != (latent_dim,):
        raise ValueError(f"z has shape {tuple(z.shape)}: its last dimension must be latent_dim = {latent_dim}")


def check_proposal(proposal: str) -> None:
    """Raise a ValueError unless codes can be proposed from there."""
    if proposal not in ("posterior", "prior"):
        raise ValueError(f"unknown proposal {proposal!r}: choose 'posterior' or 'prior'")


def run_encoder(encoder: nn.Module, rows: Tensor, latent_dim: int) -> Posterior:
    """Return mean and log variance, each ``(batch, K)``, that a network gives side by side.

    Raises: ValueError where the network returns another width.
    """
    out = encoder(rows)
    width = 2 * latent_dim
    if out.shape[1:] != (width,):
        raise ValueError(f"the encoder returns {tuple(out.shape)}, not (batch, 2 latent_dim) = (batch, {width})")
    return Posterior(*out.chunk(2, dim=1))


def run_decoder(decoder: nn.Module, rows: Tensor, data_dim: int) -> Tensor:
    """Return what a decoder makes of ``(..., width)``, as ``(..., D)``; it may return images itself.

    Raises: ValueError where the network returns another number of values for each image.
    """
    out = decoder(rows.reshape(-1, rows.shape[-1])).flatten(1)
    if out.shape[1] != data_dim:
        raise ValueError(f"the decoder returns {out.shape[1]} values per image, not data_dim = {data_dim}")
    return out.reshape(*rows.shape[:-1], data_dim)


def log_importance_weights(
    log_likelihood: Callable[[Tensor], Tensor],
    proposal: Posterior,
    prior: Posterior,
    n_samples: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Return ``log p(x|z_k) + log p(z_k) - log r(z_k)`` with ``z_k ~ r``, the proposal: ``(n_samples, batch)``."""
    mu, log_var = (term.expand(n_samples, *term.shape) for term in proposal)
    z = reparameterize(mu, log_var, generator)
    return log_likelihood(z) + gaussian_log_prob(z, *prior) - gaussian_log_prob(z, mu, log_var)


@torch.no_grad()
def start_decoder_at(decoder: nn.Module, mean: Tensor, likelihood: str) -> None:
    """Set the output bias of a fresh decoder so that it decodes the mean image ``(D,)``; see `VAE.start_at_mean`."""
    last = list(decoder.modules())[-1]
    if not isinstance(last, nn.Linear) or last.out_features != len(mean) or last.bias is None or last.bias.any():
        return
    # A pixel that is never on would need an infinite logit.
    last.bias.copy_(torch.logit(mean, eps=1e-3) if likelihood == "bernoulli" else mean)


def repeated(mu: Tensor, log_var: Tensor, n_samples: int) -> tuple[Tensor, Tensor]:
    """Add a leading dimension of samples, unless there is one sample alone."""
    if n_samples == 1:
        return mu, log_var
    return mu.expand(n_samples, *mu.shape), log_var.expand(n_samples, *log_var.shape)
