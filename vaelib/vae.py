"""The variational autoencoder: encoder, decoder, and the evidence lower bound that trains both."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from vaelib import _parts as parts
from vaelib._shapes import check_images, check_shape, check_widths
from vaelib.contract import ElboTerms, Posterior
from vaelib.distributions import gaussian_log_prob, kl_standard_normal, reparameterize, standard_normal
from vaelib.likelihoods import Gaussian, Likelihood
from vaelib.networks import check_positive_integer, evaluating, first_tensor, seeded

__all__ = ["VAE", "ElboTerms", "LatentVariableModel", "Posterior"]


class LatentVariableModel(nn.Module):
    """What `VAE` and `vaelib.cvae.CVAE` share: an encoder, a decoder, a likelihood and the bound that joins them.

    A condition ``y`` is None where the model has none. What the methods refuse, they refuse as `elbo` does.
    """

    def __init__(
        self, config: dict[str, Any], draw: torch.Generator, encoder: nn.Module | None, decoder: nn.Module | None
    ) -> None:
        super().__init__()
        self.data_shape = shape = check_shape("data_dim", config["data_dim"])
        self.latent_dim = latent_dim = check_positive_integer("latent_dim", config["latent_dim"])
        self.data_dim = shape[0] if len(shape) == 1 else shape
        size, condition_dim, act = math.prod(shape), config.get("condition_dim", 0), config["activation"]
        hidden = check_widths("hidden_dims", config["hidden_dims"])
        self._encoder_shape, self._decoder_unseen = (size,) if encoder is None else shape, decoder is not None
        self.encoder = parts.network("encoder", encoder, (size + condition_dim, *hidden, 2 * latent_dim), act, draw)
        self.decoder = parts.network("decoder", decoder, (latent_dim + condition_dim, *hidden[::-1], size), act, draw)
        self.likelihood = parts.named(config["likelihood"], config["sigma"])
        parts.check_decoder(self.decoder, self.likelihood)
        # What rebuilds the model from its weights alone (vaelib.pretrained); own networks can't be described so.
        self.config = parts.plain(config | {"hidden_dims": hidden})

    def elbo(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        beta: float | Tensor = 1.0,
        n_samples: int = 1,
        generator: torch.Generator | None = None,
        check: bool = True,
    ) -> ElboTerms:
        """Return both terms of the ELBO: the likelihood by Monte Carlo over L = n_samples, the KL in closed form.

        ``L(theta, phi; x) = 1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z))``, ``z_l = mu + sigma eps_l`` (estimator B).
        With a condition y, each of the distributions is given y too, and the bound is one on log p(x|y).

        Args:
            x: images ``(batch, D)``, ``(batch, C, H, W)`` or, grey, ``(batch, H, W)``.
            y: conditions ``(batch,)`` or ``(batch, C)``, for a CVAE alone.
            beta: scales the KL in ``.objective`` alone.
            n_samples: ``L``, the draws for each image.
            generator: draws the noise.
            check: False is for a loop that has checked its data once.

        Shapes:
            terms ``(batch,)``, in nats.

        Raises:
            ValueError: as `check` does, and for n_samples below 1.
            TypeError: for a y where the model takes none, or none where it needs one.

        Source:
            Kingma and Welling (2014), equation 7; Sohn et al. (2015), equation 4; chapters 3, 4, 7 and 11.
        """
        check_positive_integer("n_samples", n_samples)
        x, y = self._checked(x, y) if check else (x, y)
        mu, log_var = self._posterior(x, y)
        z = reparameterize(*parts.on_several(n_samples, mu, log_var), generator=generator)
        log_likelihood = self.log_likelihood(x, self._decoded(z, y))
        return ElboTerms(log_likelihood if n_samples == 1 else log_likelihood.mean(0), self._kl(mu, log_var, y), beta)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        """Return the approximate posterior q(z|x), or q(z|x, y).

        Shapes:
            images and conditions as for `elbo` -> mu and log_var ``(batch, K)``.
        """
        return self._posterior(*self._checked(x, y))

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return what parameterizes p(x|z), or p(x|z, y): logits (Bernoulli) or means (Gaussian), never a sample.

        Shapes:
            ``(..., K)``, or ``(..., batch, K)`` with the conditions of a batch -> ``(..., *data_dim)``.
        """
        z = parts.checked_codes(z, self.latent_dim, first_tensor(self))
        return self._decoded(z, self._checked_condition(y, z, codes=True))

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean image E[x|z] from what `decode` returned, of the same shape: logits become grey values."""
        return self.likelihood.mean(decoded)

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z) from unchecked pixels and what `decode` returned.

        Shapes:
            ``(..., *data_dim), (..., *data_dim) -> (...)``, in nats.
        """
        if len(self.data_shape) > 1:
            x, decoded = x.flatten(-len(self.data_shape)), decoded.flatten(-len(self.data_shape))
        return parts.check_log_prob(self.likelihood.log_prob(x, decoded), decoded)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean image decoded from the mean code, E[x | z = mu(x)], in eval mode.

        Shapes:
            images and conditions as for `elbo` -> ``(batch, *data_dim)``.
        """
        with evaluating(self):
            x, y = self._checked(x, y)
            return self.mean(self._decoded(self._posterior(x, y).mu, y))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return mean images, as `reconstruct` does: ``model(x)`` is for looking, training takes `elbo`."""
        return self.reconstruct(x, y)

    def check(self, x: Tensor) -> Tensor:
        """Return images, checked, in the model's own shape and type, ready for ``check=False``.

        Shapes:
            ``(batch, D)``, ``(batch, C, H, W)`` or, grey, ``(batch, H, W) -> (batch, *data_dim)``.

        Raises:
            ValueError: for other shapes, NaN, pixels that the likelihood refuses, another device; it names the remedy.
        """
        return check_images(x, self.data_shape, first_tensor(self), self.likelihood.check)

    @property
    def log_sigma(self) -> Tensor:
        """The logarithm of a Gaussian likelihood's standard deviation; other likelihoods have none."""
        return cast(Gaussian, self.likelihood).log_sigma

    def start_at_mean(self, x: Tensor) -> None:
        """Set the decoder's output bias so that a fresh model decodes the mean of checked images ``(N, *data_dim)``.

        It becomes ``logit(mean of x_d)`` (Bernoulli) or ``mean of x_d`` (Gaussian). A bias that is not zero any more,
        or is frozen, or a decoder of your own that does not end in a linear layer, is left alone.
        """
        parts.start_decoder_at(self.decoder, x.mean(0).flatten(), self.likelihood)

    def _checked(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = self.check(x)
        return x, self._checked_condition(y, x)

    def _checked_condition(self, y: Tensor | None, beside: Tensor, codes: bool = False) -> Tensor | None:
        if y is not None:
            raise TypeError(
                f"a {type(self).__name__} takes no condition y: vaelib.cvae.CVAE does (a weight is beta=...)"
            )
        return None

    def _posterior(self, x: Tensor, y: Tensor | None) -> Posterior:
        return Posterior(*parts.run_encoder(self.encoder, parts.join(x, y, self._encoder_shape), self.latent_dim))

    def _prior(self, n: int, y: Tensor | None) -> Posterior:
        return Posterior(*first_tensor(self).new_zeros(2, n, self.latent_dim))

    def _kl(self, mu: Tensor, log_var: Tensor, y: Tensor | None) -> Tensor:
        return kl_standard_normal(mu, log_var)

    def _decoded(self, z: Tensor, y: Tensor | None) -> Tensor:
        decoded = parts.run_decoder(self.decoder, z if y is None else parts.beside(z, y), self.data_shape)
        if self._decoder_unseen and decoded.numel():
            self._decoder_unseen = False
            parts.warn_of_probabilities(decoded, self.likelihood)
        return decoded

    def _log_weights(
        self, x: Tensor, y: Tensor | None, n: int, generator: torch.Generator | None, check: bool, proposal: str
    ) -> Tensor:
        check_positive_integer("n_samples", n)
        parts.check_proposal(proposal)
        x, y = self._checked(x, y) if check else (x, y)
        prior = self._prior(len(x), y)
        mu, log_var = parts.on_several(n, *(self._posterior(x, y) if proposal == "posterior" else prior), always=True)
        z = reparameterize(mu, log_var, generator)
        log_joint = self.log_likelihood(x, self._decoded(z, y)) + gaussian_log_prob(z, *prior)
        return log_joint - gaussian_log_prob(z, mu, log_var)


class VAE(LatentVariableModel):
    """A variational autoencoder with a diagonal Gaussian posterior and the standard normal prior.

    ``p(z) = N(0, I)``, ``p_theta(x|z)`` Bernoulli (the decoder gives logits), N(mean, sigma^2) (it gives means) or
    another likelihood, and ``q_phi(z|x) = N(mu, sigma^2)`` from one encoder. `LatentVariableModel.elbo` is its bound.

    Args:
        data_dim: number of pixels D, or a shape (C, H, W), in which images then go in and come out.
        hidden_dims: widths of the encoder's hidden layers; the decoder has them in reverse.
        latent_dim: number of latent dimensions K.
        likelihood: "bernoulli", "gaussian", "discretised_logistic", or an object of `vaelib.likelihoods`.
        activation: "relu", "tanh" or "leaky_relu" (slope 0.2).
        sigma: standard deviation of a Gaussian likelihood, or "learned" for one learned number.
        seed: seeds the generator that draws the weights.
        encoder: your own network, ``(batch, *data_dim) -> (batch, 2 K)``, mu and log_var side by side.
        decoder: your own network, ``(batch, K) -> (batch, *data_dim)``; logits for a Bernoulli likelihood.

    Raises:
        ValueError: for a size that is not a positive whole number, an unknown likelihood, a sigma below zero, or a
            decoder whose outputs can't be logits where logits are needed.

    Source:
        Kingma and Welling (2014), section 3; chapter 7.
    """

    def __init__(
        self,
        data_dim: int | Sequence[int],
        hidden_dims: Sequence[int],
        latent_dim: int,
        likelihood: str | Likelihood = "bernoulli",
        activation: str = "relu",
        sigma: float | str = 1.0,
        seed: int = 0,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        config: dict[str, Any] = {"data_dim": data_dim, "hidden_dims": hidden_dims, "latent_dim": latent_dim}
        config |= {"likelihood": likelihood, "activation": activation, "sigma": sigma}
        super().__init__(config, seeded(seed), encoder, decoder)

    def iwae_bound(
        self, x: Tensor, n_samples: int, generator: torch.Generator | None = None, check: bool = True
    ) -> Tensor:
        """Return the importance-weighted bound, which grows with n_samples from the ELBO towards the log evidence.

        ``L_K(theta, phi; x) = log 1/K sum_k p(x, z_k) / q(z_k|x)`` with ``z_k ~ q(z|x)``, K = n_samples, all held in
        memory at once: for training and for small K. `vaelib.evaluation.log_evidence` bounds the memory.

        Shapes:
            images as for `check` -> ``(batch,)``, in nats.

        Source:
            Burda et al. (2016), equation 8; chapter 10.
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

        Shapes:
            images as for `check` -> ``(n_samples, batch)``, in nats.

        Source:
            Burda et al. (2016), section 3; chapters 2 and 10.
        """
        return self._log_weights(x, None, n_samples, generator, check, proposal)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean images of n draws from the prior: z ~ N(0, I), then E[x|z].

        Shapes:
            ``n -> (n, *data_dim)``.
        """
        check_positive_integer("n", n)
        with evaluating(self):
            return self.mean(self.decode(standard_normal((n, self.latent_dim), first_tensor(self), generator)))
