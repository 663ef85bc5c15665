"""The conditional variational autoencoder: a model of x given a condition y, class or vector."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from vaelib import _parts as parts
from vaelib._pixels import rows_as_tensor
from vaelib.contract import Posterior
from vaelib.distributions import kl_gaussian, reparameterize
from vaelib.likelihoods import Likelihood
from vaelib.networks import check_positive_integer, evaluating, first_tensor, seeded
from vaelib.vae import LatentVariableModel


class CVAE(LatentVariableModel):
    """A conditional variational autoencoder: every distribution of the VAE may look at a condition y.

    ``p(z|y)`` is N(0, I) ("standard") or a Gaussian from a network of its own ("conditional"), ``p_theta(x|z, y)`` a
    likelihood such as Bernoulli or N(mean, sigma^2), and ``q_phi(z|x, y) = N(mu, sigma^2)``. Condition and image, or
    condition and code, enter a network side by side. The bound is `LatentVariableModel.elbo`, with a y.

    A condition is a class index, ``(batch,)``, turned into a one-hot vector, or any vector, ``(batch, C)``.

    Args:
        data_dim: number D of pixels that are modelled, or a shape (channels, H, W).
        condition_dim: number C of classes, or the width of the condition vectors.
        hidden_dims: widths of the encoder's hidden layers; the decoder has them in reverse, p(z|y) as they are.
        latent_dim: number of latent dimensions K.
        prior: "standard" or "conditional".
        likelihood, activation, sigma, seed: as for `vaelib.vae.VAE`.
        encoder: your own network, ``(batch, D + C) -> (batch, 2 K)``, mu and log_var side by side; where data_dim is a
            shape it gets ``(batch, channels + C, H, W)``, the condition in C channels that are constant over an image.
        decoder: your own network, ``(batch, K + C) -> (batch, *data_dim)``.
        prior_network: your own network for a conditional prior, ``(batch, C) -> (batch, 2 K)``.

    Raises:
        ValueError: as `vaelib.vae.VAE` does, for an unknown prior, and for a prior_network that has no use.

    Source:
        Sohn et al. (2015), section 4; Doersch (2016), section 3; chapters 11 and 12.
    """

    # Whether conditions are classes, of which a list can offer a choice, or vectors: `fit` notes what it was given.
    _takes_classes: bool | None = None

    def __init__(
        self,
        data_dim: int | Sequence[int],
        condition_dim: int,
        hidden_dims: Sequence[int],
        latent_dim: int,
        prior: str = "standard",
        likelihood: str | Likelihood = "bernoulli",
        activation: str = "relu",
        sigma: float | str = 1.0,
        seed: int = 0,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        prior_network: nn.Module | None = None,
    ) -> None:
        condition_dim = check_positive_integer("condition_dim", condition_dim)
        if prior not in ("standard", "conditional"):
            raise ValueError(f"unknown prior {prior!r}: choose 'standard' or 'conditional'")
        if prior == "standard" and prior_network is not None:
            raise ValueError("a prior_network needs prior='conditional': the standard prior does not look at y")
        draw = seeded(seed)
        config: dict[str, Any] = {"data_dim": data_dim, "condition_dim": condition_dim, "latent_dim": latent_dim}
        config |= {"hidden_dims": hidden_dims, "prior": prior, "likelihood": likelihood}
        super().__init__(config | {"activation": activation, "sigma": sigma}, draw, encoder, decoder)
        self.condition_dim = condition_dim
        self.prior_network = None
        if prior == "conditional":
            sizes = (condition_dim, *self.config["hidden_dims"], 2 * latent_dim)
            self.prior_network = parts.network("prior_network", prior_network, sizes, activation, draw)

    def prior(self, y: Tensor) -> Posterior:
        """Return the mean and log variance of p(z|y), which are zero for the standard prior.

        Shapes:
            conditions ``(batch,)`` or ``(batch, C)`` -> mu and log_var ``(batch, K)``.

        Source:
            Sohn et al. (2015), section 4; chapter 12.
        """
        y = self.check_condition(y)
        return self._prior(len(y), y)

    def iwae_bound(
        self, x: Tensor, y: Tensor, n_samples: int, generator: torch.Generator | None = None, check: bool = True
    ) -> Tensor:
        """Return the importance-weighted bound on log p(x|y), which grows with n_samples from the ELBO.

        ``log 1/K sum_k p(x|z_k, y) p(z_k|y) / q(z_k|x, y)`` with ``z_k ~ q(z|x, y)``, K = n_samples, all held in memory
        at once; `vaelib.evaluation.log_evidence` bounds the memory.

        Shapes:
            images and conditions as for `elbo` -> ``(batch,)``, in nats.

        Source:
            Burda et al. (2016), equation 8; chapter 11.
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

        Shapes:
            images and conditions as for `elbo` -> ``(n_samples, batch)``, in nats.

        Source:
            Sohn et al. (2015), section 4.1; chapters 10 and 12.
        """
        return self._log_weights(x, y, n_samples, generator, check, proposal)

    @torch.no_grad()
    def sample(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean image of one draw for each condition: z ~ p(z|y), then E[x|z, y].

        Shapes:
            conditions ``(n,)`` or ``(n, C)`` -> ``(n, *data_dim)``.

        Source:
            Chapter 11.
        """
        with evaluating(self):
            y = self.check_condition(y)
            return self.mean(self._decoded(reparameterize(*self._prior(len(y), y), generator=generator), y))

    def check_condition(self, y: Tensor | np.ndarray) -> Tensor:
        """Return conditions as checked rows of the model's own type: class indices become one-hot vectors.

        Shapes:
            ``(batch,)`` or ``(batch, C) -> (batch, C)``.

        Raises:
            ValueError: for a class outside 0 to C - 1, classes that are not whole numbers, vectors of another width,
                a NaN or an infinity, another device.
            TypeError: for what is no array of real numbers.

        Source:
            Chapter 11.
        """
        y, like = rows_as_tensor(y, "conditions"), first_tensor(self)
        if y.device != like.device:
            raise ValueError(
                f"conditions are on {y.device} and the model on {like.device}: call y.to({str(like.device)!r})"
            )
        if y.ndim == 1:
            return self._one_hot(y, like)
        if y.ndim != 2 or y.shape[1] != self.condition_dim:
            column = ": call y[:, 0]" if y.ndim == 2 and y.shape[1] == 1 and not y.is_floating_point() else ""
            raise ValueError(
                f"conditions have shape {tuple(y.shape)}: this model takes vectors (batch, condition_dim) = "
                f"(batch, {self.condition_dim}), or class indices (batch,){column}"
            )
        wrong = torch.nonzero(~torch.isfinite(y))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise ValueError(f"condition {at} is {y[at].item()}: every entry must be a finite number")
        return y.to(like.dtype)

    def _one_hot(self, y: Tensor, like: Tensor) -> Tensor:
        if y.is_floating_point() and (self.condition_dim == 1 or (y != y.round()).any()):
            remedy = "give vectors, y[:, None]" + (
                "" if self.condition_dim == 1 else ", to a model with condition_dim=1"
            )
            raise ValueError(f"conditions (batch,) are class indices, and these are {y.dtype}: {remedy}")
        if y.is_floating_point() or y.dtype == torch.bool:
            raise ValueError(f"class indices are {y.dtype}: convert them with y.long(), an array with y.astype(int)")
        y = y.long()  # PyTorch compares no unsigned number of 16 bits or more
        wrong = torch.nonzero((y < 0) | (y >= self.condition_dim))
        if len(wrong):
            at = int(wrong[0])
            raise ValueError(
                f"the class at index {at} is {int(y[at])}: with condition_dim = {self.condition_dim} classes run from "
                f"0 to {self.condition_dim - 1}"
            )
        return one_hot(y, self.condition_dim).to(like.dtype)

    def _checked_condition(self, y: Tensor | None, beside: Tensor, codes: bool = False) -> Tensor:
        if y is None:
            raise TypeError("a CVAE needs a condition y for each image or code: a class index or a vector")
        y = self.check_condition(y)
        if codes and (beside.ndim < 2 or beside.shape[-2] != len(y)):
            raise ValueError(
                f"z has shape {tuple(beside.shape)} and there are {len(y)} conditions: each code needs its own, (..., "
                f"{len(y)}, {self.latent_dim}); repeat a condition with y.expand or y.repeat"
            )
        if not codes and len(beside) != len(y):
            raise ValueError(f"there are {len(beside)} images and {len(y)} conditions: each image needs its own")
        return y

    def _prior(self, n: int, y: Tensor | None) -> Posterior:
        if self.prior_network is None or y is None:
            return super()._prior(n, y)
        return Posterior(*parts.run_encoder(self.prior_network, y, self.latent_dim))

    def _kl(self, mu: Tensor, log_var: Tensor, y: Tensor | None) -> Tensor:
        if self.prior_network is None:
            return super()._kl(mu, log_var, y)
        return kl_gaussian(mu, log_var, *self._prior(len(mu), y))
