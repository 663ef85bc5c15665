"""What a model must offer, in one place: to `vaelib.training.fit` and to whatever evaluates, draws or explores it.

A model of your own is any ``nn.Module`` with ``elbo`` (or ``loss``, which is minimised). The rest is optional.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Posterior(NamedTuple):
    """A diagonal Gaussian over codes, N(mu, exp(log_var)), each ``(batch, latent_dim)``: q(z|x), or a prior p(z|y)."""

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


class HasElbo(Protocol):
    """A model with a bound: `fit` maximises its mean.

    ``generator`` (of the noise) and ``check`` (False where the data were checked before) are passed where the method
    takes them. Without a generator the noise comes from PyTorch's global one, which `fit` seeds and puts back.
    """

    def elbo(self, x: Tensor, y: Tensor | None = None) -> ElboTerms:
        """Return both terms of the ELBO of each example, in nats; a plain tensor ``(batch,)`` will do."""
        ...


class HasLoss(Protocol):
    """A model with a loss: `fit` minimises its mean."""

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of each example, ``(batch,)``; a mean over the batch is refused."""
        ...


class Optional(Protocol):
    """What `fit` and others use where a model has it."""

    config: dict[str, Any]

    def check(self, x: Tensor) -> Tensor:
        """Return images in the form that the model works on, or raise a ValueError that names the remedy."""
        ...

    def check_condition(self, y: Tensor) -> Tensor:
        """Return conditions in the form that the model works on, or raise a ValueError that names the remedy."""
        ...

    def start_at_mean(self, x: Tensor) -> None:
        """Change a fresh model so that it begins at the mean image of the data."""
        ...


Objective = Callable[[Any, Tensor, Tensor | None, int, torch.Generator], Tensor | ElboTerms]
Transform = Callable[[Tensor, torch.Generator], Tensor]


def what_is_missing(model: nn.Module) -> str | None:
    """Return in words what `fit` misses in a model, or None where it has what it takes."""
    if callable(getattr(model, "elbo", None)) or callable(getattr(model, "loss", None)):
        return None
    return (
        f"{type(model).__name__} has neither elbo(x) nor loss(x): give it `def elbo(self, x, y=None, *, "
        "generator=None)`, which returns ElboTerms or one number per example, to be maximised, or `def loss(self, x)`, "
        "to be minimised; or pass objective=lambda model, x, y, step, generator: ..."
    )
