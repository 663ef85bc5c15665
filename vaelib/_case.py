"""What the examinations of `vaelib.diagnosis` share: a model, some images, and what is computed from both once."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vaelib._inputs import naming_types
from vaelib._model_checks import global_noise
from vaelib._objectives import batch_means, objective_of
from vaelib.contract import ElboTerms, Likelihood, Posterior
from vaelib.distributions import kl_gaussian, standard_normal
from vaelib.likelihoods import Gaussian

DRAWS = 16  # of z for each image
FEWEST = 16  # images, of fewer means are noise
FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)  # of a method


class Finding(NamedTuple):
    """What one examination found: what it looked at, whether that is ill, and a sentence with its numbers, in nats."""

    name: str
    ill: bool
    text: str


def in_short(reason: Exception) -> str:
    """Return what an exception says in one line that is not too long, since some show a whole tensor."""
    text = " ".join(str(reason).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."


def found(name: str, numbers: str, illness: str | None = None) -> Finding:
    """Return the numbers of an examination and, where they show one, the illness."""
    return Finding(name, illness is not None, numbers if illness is None else f"{numbers}: {illness}")


class Case:
    """A model and n images of D pixels, K latent dimensions, and L = `DRAWS` draws of z for each image; all in nats.

    Args:
        model: a copy, in eval mode.
        x: images in the form that the model works on, ``(n, ...)``.
        y: conditions, ``(n, ...)``, or None.
        likelihood: of which `decode` returns the parameters.
        generator: of the noise.
    """

    def __init__(
        self, model: Any, x: Tensor, y: Tensor | None, likelihood: Likelihood, generator: torch.Generator
    ) -> None:
        self.model, self.x, self.y, self.likelihood, self.generator = model, x, y, likelihood, generator
        self.pixels, self.in_one_number = x.flatten(1), False  # whether the bound comes without its terms
        self.name = getattr(likelihood, "name", type(likelihood).__name__)
        self.is_bernoulli = self.name == "bernoulli"
        self.sigma_x = likelihood.log_sigma.exp().item() if isinstance(likelihood, Gaussian) else None

    def of(self, x: Tensor, y: Tensor | None = None, model: Any = None) -> "Case":
        """Return the case of other images, or of a copy of the model, whose weights may be changed."""
        y = self.y if y is None else y
        return Case(self.model if model is None else model, x, y, self.likelihood, self.generator)

    def rows(self, rows: Any, model: Any = None) -> "Case":
        """Return the case of some of the images."""
        return self.of(self.x[rows], None if self.y is None else self.y[rows], model)

    # What the model's own methods say

    @property
    def given(self) -> tuple[Tensor, ...]:
        """The images and, where there are any, their conditions."""
        return (self.x,) if self.y is None else (self.x, self.y)

    def encode(self) -> Posterior:
        """Return q(z|x), ``(n, K)`` twice, of an encode that returns mu and log_var, in a `Posterior` or as a pair.

        Raises:
            TypeError: for a model whose encode returns something else, or two shapes.
        """
        given = self.model.encode(*self.given)
        if hasattr(given, "mu") and hasattr(given, "log_var"):
            given = given.mu, given.log_var
        pair = given if isinstance(given, tuple | list) else ()
        what = [str(tuple(each.shape)) if isinstance(each, Tensor) else type(each).__name__ for each in pair]
        if len(pair) != 2 or what[0] != what[1] or pair[0].ndim < 2 or len(pair[0]) != len(self.x):
            returned = f"a {type(given).__name__}" + (f" of {', '.join(what)}" if what else "")
            raise TypeError(
                f"{type(self.model).__name__}.encode returns {returned}: diagnose needs a posterior, Posterior(mu, "
                f"log_var), both (batch, latent dimensions)"
            )
        return Posterior(*pair)

    def decode(self, z: Tensor) -> Tensor:
        """Return what codes ``(n, K)`` decode to, as rows ``(n, D)``.

        Raises:
            TypeError: for another number of values than the images have pixels.
        """
        decoded = self.model.decode(z, *self.given[1:])
        if not isinstance(decoded, Tensor) or decoded.numel() != len(z) * self.pixels.shape[1]:
            tensor = isinstance(decoded, Tensor)
            what = f"shape {tuple(decoded.shape)}" if tensor else f"a {type(decoded).__name__}"
            raise TypeError(
                f"{type(self.model).__name__}.decode returns {what} for {len(z)} codes: diagnose needs a tensor with "
                f"one number for each of {self.pixels.shape[1]} pixels, logits (Bernoulli) or means"
            )
        return decoded.reshape(len(z), -1)

    def bound(self) -> ElboTerms:
        """Return the model's own bound; of one in a single number the log likelihood is what our KL leaves of it."""
        with naming_types(self.x):
            terms = objective_of(self.model)(self.model, self.x, self.y, 0, self.generator)
        if not isinstance(terms, ElboTerms | Tensor):
            raise TypeError(
                f"{type(self.model).__name__}.elbo returns a {type(terms).__name__}: diagnose needs ElboTerms("
                "log_likelihood, kl), or a tensor with the bound of each image, (batch,)"
            )
        with torch.no_grad():
            batch_means(terms, self.x)  # which says what is wrong with shapes and types
        self.in_one_number = not isinstance(terms, ElboTerms)
        return terms if isinstance(terms, ElboTerms) else ElboTerms(terms + self.kl, self.kl)

    @cached_property
    def reported(self) -> tuple[Tensor, Tensor]:
        """The model's own log likelihood and KL, ``(L, n)`` each."""
        log_likelihood, kl = zip(*(self.bound() for _ in range(DRAWS)), strict=True)
        return torch.stack(log_likelihood), torch.stack(kl)

    # The same, computed here from encode and decode

    @cached_property
    def posterior(self) -> Posterior:
        """q(z|x), ``(n, K)`` twice."""
        return self.encode()

    @property
    def has_prior(self) -> bool:
        """Whether the model has a prior of its own, p(z|y)."""
        return self.y is not None and callable(getattr(self.model, "prior", None))

    @cached_property
    def prior(self) -> Posterior:
        """p(z), or p(z|y): the standard one unless the model has a method of that name and conditions."""
        if self.has_prior:
            return Posterior(*self.model.prior(self.y))
        return Posterior(*torch.zeros_like(torch.stack(tuple(self.posterior))))

    @cached_property
    def sigma(self) -> Tensor:
        """The standard deviation of q(z|x), ``(n, K)``."""
        return torch.exp(0.5 * self.posterior.log_var.clamp(-80, 80))

    def noise(self, n_draws: int) -> Tensor:
        """Draw standard normal noise, ``(n_draws, n, K)``."""
        mu = self.posterior.mu
        return standard_normal((n_draws, *mu.shape), mu, self.generator)

    @cached_property
    def eps(self) -> Tensor:
        """Noise, ``(L, n, K)``, the same for every comparison."""
        return self.noise(DRAWS)

    @cached_property
    def z(self) -> Tensor:
        """Codes from q(z|x), ``(L, n, K)``."""
        return self.posterior.mu + self.sigma * self.eps

    @cached_property
    def kl_by_unit(self) -> Tensor:
        """KL(q(z|x) || p(z)) of each latent dimension in closed form, ``(n, K)``."""
        return kl_gaussian(*(each.flatten(1).unsqueeze(-1) for each in (*self.posterior, *self.prior)))

    @cached_property
    def kl(self) -> Tensor:
        """KL(q(z|x) || p(z)), ``(n,)``."""
        return self.kl_by_unit.sum(1)

    def scores(self, z: Tensor, score: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return log p(x|z), or another function of what is decoded, for codes ``(L, n, K)``: ``(L, n)``."""
        return torch.stack([(score or self.log_prob)(self.decode(each)) for each in z])

    def log_prob(self, decoded: Tensor) -> Tensor:
        """Return log p(x|z) of decoded rows, ``(n, D) -> (n,)``."""
        return self.likelihood.log_prob(self.pixels, decoded)

    def squared_error(self, decoded: Tensor) -> Tensor:
        """Return the squared distance of mean images from the images, ``(n, D) -> (n,)``."""
        return (self.pixels - self.likelihood.mean(decoded)).square().sum(-1)

    @cached_property
    def log_likelihood(self) -> Tensor:
        """Log p(x|z) at codes from q(z|x), ``(L, n)``."""
        return self.scores(self.z)

    @cached_property
    def elbos(self) -> Tensor:
        """The ELBO of each image, ``(n,)``."""
        return self.log_likelihood.mean(0) - self.kl

    @property
    def elbo(self) -> float:
        """The mean ELBO."""
        return self.elbos.mean().item()

    @property
    def error(self) -> float:
        """The standard error of the mean ELBO, over the images."""
        return self.elbos.std().item() / math.sqrt(len(self.x))

    @cached_property
    def without_code(self) -> Tensor:
        """The log likelihood of the images' mean, which takes no code at all, ``(n,)``."""
        mean, start = self.pixels.mean(0), getattr(self.likelihood, "start", lambda mean: mean)
        return self.log_prob(start(mean).expand_as(self.pixels))

    @cached_property
    def notable(self) -> float:
        """A difference in nats that is worth a word: half a nat and a tenth of what images differ by without a code.

        So it grows with the size of the images and with the likelihood's sharpness, whatever the model does.
        """
        return 0.5 + 0.1 * self.without_code.std().item()


# The model and the images, before they are looked at


def copied(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode. What a model remembers of its last batch, with its gradients, loses these."""
    memo: dict[int, Any] = {
        id(value): value.detach()
        for layer in model.modules()
        for value in vars(layer).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    }
    return deepcopy(model, memo).eval()


@contextmanager
def leaving_no_trace(device: torch.device) -> Iterator[None]:
    """Seed the global generators, of NumPy too, and put them back; let nothing warn; follow no gradients."""
    state = np.random.get_state()
    with global_noise(device), torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            np.random.set_state(state)


def paired(train: Any) -> tuple[Any, Any] | None:
    """Return the images of training and their conditions.

    Raises:
        ValueError: for more or less than a pair.
    """
    if train is None or not isinstance(train, tuple):
        return None if train is None else (train, None)
    if len(train) != 2:
        raise ValueError(f"train has {len(train)} parts: give images, or a pair (images, conditions)")
    return train


def enough(images: Tensor, what: str, n_images: int = FEWEST) -> None:
    """Refuse too few images, or what has no shape of images.

    Raises:
        ValueError: for either.
    """
    if (n := min(len(images), n_images)) < FEWEST:
        raise ValueError(
            f"a diagnosis takes at least {FEWEST} images{what}, and there are {n}: its means would be noise"
        )
    if images.ndim < 2:
        raise ValueError(f"images{what} have shape {tuple(images.shape)}: give (N, D), (N, H, W) or (N, C, H, W)")


def like(x: Tensor, train: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return images of training in the shape of those that are looked at.

    Raises:
        ValueError: where they have another number of pixels.
    """
    if train[0].numel() != x[0].numel():
        raise ValueError(f"they have shape {tuple(x.shape[1:])}, and those of training {tuple(train.shape[1:])}")
    return train.reshape(len(train), *x.shape[1:]), y


def some(x: Tensor, y: Tensor | None, n_images: int) -> tuple[Tensor, Tensor | None]:
    """Return some images at random, always the same ones: data may be sorted by class."""
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n_images].to(x.device)
    return x[rows], None if y is None else y[rows]
