"""What a model must offer, in one place: to `vaelib.training.fit` and to whatever evaluates, draws or explores it.

A model of your own is any ``nn.Module`` with ``elbo`` (or ``loss``, which is minimised): `fit` needs no more, and
`MayHave` says what others use. A likelihood of your own is any object with the four methods of `Likelihood`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vaelib.networks import check_module


class Posterior(NamedTuple):
    """A diagonal Gaussian over codes, N(mu, exp(log_var)), each ``(batch, latent_dim)``: q(z|x), or a prior p(z|y)."""

    mu: Tensor
    log_var: Tensor


@dataclass(frozen=True)
class ElboTerms:
    """The two terms of the ELBO for each example, in nats: ``log_likelihood (batch,)`` and unscaled ``kl (batch,)``.

    ``beta`` is a number, or a tensor of one number or of one for each example.

    Raises:
        ValueError: for a beta that is neither, or below zero, or not finite (which is not asked of a GPU's tensors).
    """

    log_likelihood: Tensor
    kl: Tensor
    beta: float | Tensor = 1.0

    def __post_init__(self) -> None:
        """Refuse a weight that can't be one."""
        beta = self.beta
        if not isinstance(beta, Tensor):
            if isinstance(beta, bool) or not isinstance(beta, Real) or not 0 <= beta < math.inf:
                raise ValueError(f"beta must be a number of at least 0, or a tensor of such numbers, not {beta!r}")
            return
        if (beta.numel() != 1 and beta.shape != self.kl.shape) or beta.ndim > 1:
            raise ValueError(
                f"beta has shape {tuple(beta.shape)}, and there are {len(self.kl)} examples: it must be one number, or "
                "one for each, (batch,)"
            )
        if beta.device.type == "cpu" and not ((beta >= 0) & (beta < math.inf)).all():
            raise ValueError(f"every beta must be a number of at least 0, and the lowest here is {beta.min().item()}")

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


class Likelihood(Protocol):
    """What a likelihood offers; a parameter of its own (where it is an ``nn.Module``) is trained with the model.

    Optional: ``start(mean)``, the output of a decoder whose mean image is `mean` (for `fit`, which starts there), and
    ``check_decoder(decoder)``, which raises for a decoder whose outputs can't be what the likelihood takes them for.
    """

    name: str

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z): ``(..., D), (..., D) -> (...)``, in nats."""

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean image E[x|z], of the shape of `decoded`."""

    def sample(self, decoded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw an image x from p(x|z), of the shape of `decoded`."""

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the remedy for pixels that have no probability here."""


class HasElbo(Protocol):
    """A model with a bound: `fit` maximises its mean, and `vaelib.evaluation.mean_elbo` measures it.

    ``generator`` (of the noise) and ``check`` (False where the data were checked before) are passed where the method
    takes them. Without a generator the noise comes from PyTorch's global one, which `fit` seeds and puts back. ``y`` is
    passed where there are conditions.
    """

    def elbo(self, x: Tensor, y: Tensor | None = None) -> ElboTerms:
        """Return both terms of the ELBO of each example, in nats; a plain tensor ``(batch,)`` will do."""
        ...


class HasLoss(Protocol):
    """A model with a loss: `fit` minimises its mean."""

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of each example, ``(batch,)``; a mean over the batch is refused."""
        ...


class MayHave(Protocol):
    """What is used where a model has it.

    By `fit`: ``check``, ``check_condition``, ``start_at_mean``, ``config``. Where there is a ``condition_dim``, the
    labels of ImageData are its conditions. By `vaelib.latent` and `vaelib.evaluation.active_units`: ``encode``. By
    `vaelib.evaluation.log_evidence`: ``log_weights`` and ``data_shape``. By `vaelib.widgets`: ``decode``, ``mean``,
    ``latent_dim``, ``data_shape``. `vaelib.vae.VAE` has all of them.
    """

    config: dict[str, Any]
    data_shape: tuple[int, ...]
    latent_dim: int
    condition_dim: int

    def check(self, x: Tensor) -> Tensor:
        """Return images in the form that the model works on, or raise a ValueError that names the remedy."""
        ...

    def check_condition(self, y: Tensor) -> Tensor:
        """Return conditions in the form that the model works on, or raise a ValueError that names the remedy."""
        ...

    def start_at_mean(self, x: Tensor) -> None:
        """Change a fresh model so that it begins at the mean image of the data."""
        ...

    def encode(self, x: Tensor) -> Posterior:
        """Return q(z|x)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Return what parameterizes p(x|z)."""
        ...

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the mean image E[x|z] from what `decode` returned."""
        ...

    def log_weights(self, x: Tensor, n_samples: int) -> Tensor:
        """Return log importance weights, ``(n_samples, batch)``."""
        ...


Objective = Callable[[Any, Tensor, Tensor | None, int, torch.Generator], Tensor | ElboTerms]
Transform = Callable[[Tensor, torch.Generator], Tensor]


def what_is_missing(model: nn.Module) -> str | None:
    """Return in words what `fit` misses in a model, or None where it has what it takes.

    Raises:
        TypeError: for what is no module.
    """
    check_module(model)
    if callable(getattr(model, "elbo", None)) or callable(getattr(model, "loss", None)):
        return None
    return (
        f"{type(model).__name__} has neither elbo(x) nor loss(x): give it `def elbo(self, x, y=None, *, "
        "generator=None)`, which returns ElboTerms or one number per example, to be maximised, or `def loss(self, x)`, "
        "to be minimised; or pass objective=lambda model, x, y, step, generator: ..."
    )


@contextmanager
def untouched(x: Tensor, by: str) -> Iterator[None]:
    """Refuse code that writes into the tensor that it is given, which others go on with.

    Raises:
        ValueError: where it did.
    """
    before = None if x.is_inference() else x._version
    yield
    if before is not None and x._version != before:
        raise ValueError(
            f"{by} writes into what it is given, which changes the data and what is measured on them: make a new "
            "tensor (x = x - 0.3 in place of x.sub_(0.3) or x -= 0.3; layers with inplace=False)"
        )


def needed(model: nn.Module, *names: str, by: str) -> None:
    """Check that a model has what a function uses.

    Raises:
        TypeError: where it lacks some of it, or is no module; the message says what.
    """
    check_module(model)
    lacking = [name for name in names if not hasattr(model, name)]
    if lacking:
        raise TypeError(
            f"{by} needs {', '.join(names)} of a model, and {type(model).__name__} lacks {', '.join(lacking)}: see "
            "vaelib.contract.MayHave"
        )


def encoded(model: Any, *given: Tensor, by: str) -> Posterior:
    """Return what a model's ``encode`` gives, after checking that it is a posterior.

    Raises:
        TypeError: for a model, such as an autoencoder, whose codes have no distribution.
    """
    found = model.encode(*given)
    if not (hasattr(found, "mu") and hasattr(found, "log_var")):
        raise TypeError(
            f"{by} needs a posterior (mu, log_var), and {type(model).__name__}.encode returns a "
            f"{type(found).__name__}: call model.encode(images) itself"
        )
    return found
