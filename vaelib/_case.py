"""What the examinations of `vaelib.diagnosis` share: a copy of the model, some images, and facts computed once."""

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

from vaelib._inputs import Array, Images, as_tensor, images_and_labels, training_examples
from vaelib._model_checks import global_noise
from vaelib._objectives import batch_means, objective_of
from vaelib.contract import ElboTerms, Likelihood, Posterior
from vaelib.distributions import LOG_2PI, gaussian_log_prob, standard_normal
from vaelib.likelihoods import Bernoulli, Gaussian

DRAWS = 16
# For the importance-weighted bound: codes for each of the first images.
CODES, FEW = 100, 100
_FEWEST = 16


class Finding(NamedTuple):
    """What one examination found: what it looked at, whether that is ill, and a sentence with its numbers, in nats."""

    name: str
    ill: bool
    text: str


def ill(name: str, text: str) -> Finding:
    """Return what is wrong."""
    return Finding(name, True, text)


def well(name: str, text: str) -> Finding:
    """Return what is as it should be, or a number without a verdict."""
    return Finding(name, False, text)


class Reported(NamedTuple):
    """What the model's own bound returned, L draws for n images: ``(L, n)``; None where it is one number."""

    elbo: Tensor
    log_likelihood: Tensor | None
    kl: Tensor | None


class Difference(NamedTuple):
    """How two estimates of one quantity differ, each ``(L, n)``: L draws for each of n images.

    ``nats`` is that of their means and ``error`` its standard error; ``misfit`` the mean square of the differences
    image by image, in units of what the noise alone would give; ``spread`` the ratio of the standard deviations over
    the draws, theirs to ours; ``pattern`` how these differ image by image, again in units of what noise would give.
    """

    nats: float
    error: float
    misfit: float
    spread: float
    pattern: float

    @property
    def is_noise(self) -> bool:
        """Whether it is no more than noise.

        Five standard errors, since dozens of such comparisons are made; a misfit up to 2 and a spread within 0.7 to
        1.4, which a few hundred images with 16 draws each miss by far.
        """
        return abs(self.nats) <= 5 * self.error and self.misfit <= 2 and 0.7 <= self.spread <= 1.4

    @property
    def size(self) -> float:
        """What tells the better of two candidates that both are no more than noise away."""
        return self.misfit + self.pattern


def difference(ours: Tensor, theirs: Tensor) -> Difference:
    """Compare two estimates, ``(L, n)`` or, without noise, ``(1, n)``."""
    ours, theirs = ours.cpu().double(), theirs.cpu().double()
    # Rounding: float32 keeps seven digits, of sums over the pixels fewer.
    floor = 1e-3 + 1e-4 * ours.abs().mean().item()
    drawn = len(ours) > 1 and len(theirs) > 1
    variance = [each.var(0) if len(each) > 1 else torch.zeros_like(each[0]) for each in (ours, theirs)]
    noise = sum(each.mean().item() / len(draws) for each, draws in zip(variance, (ours, theirs), strict=True))
    # Draws that the images of a batch share leave a larger error than the images one by one would say.
    shared = sum(each.mean(1).var().item() / len(each) for each in (ours, theirs) if len(each) > 1)
    apart, logs = theirs.mean(0) - ours.mean(0), [0.5 * (each + floor**2).log() for each in variance]
    return Difference(
        nats=apart.mean().item(),
        error=math.sqrt(max(noise / ours.shape[1], shared)) + floor / 5,
        misfit=apart.square().mean().item() / (noise + floor**2),
        spread=math.exp(0.5 * math.log(_ratio(variance[1], variance[0], floor))) if drawn else 1.0,
        # The variance of the logarithm of a standard deviation from L draws is about 1 / (2 (L - 1)).
        pattern=(logs[1] - logs[0]).square().mean().item() * (len(theirs) - 1) if drawn else 1.0,
    )


def _ratio(theirs: Tensor, ours: Tensor, floor: float) -> float:
    return (theirs.mean().item() + floor**2) / (ours.mean().item() + floor**2)


class Probabilities(Bernoulli):
    """The Bernoulli of a decoder that returns probabilities, and no logits."""

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z), ``(..., D), (..., D) -> (...)``, no term below -100, as `binary_cross_entropy` has it."""
        on, off = decoded.log().clamp(min=-100), (1 - decoded).log().clamp(min=-100)
        return (x * on + (1 - x) * off).sum(-1)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the probabilities as they are."""
        return decoded

    def sample(self, decoded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw pixels that are 0 or 1."""
        return super().sample(decoded.logit(eps=1e-6), generator)

    def start(self, mean: Tensor) -> Tensor:
        """Return the mean image as it is, away from 0 and 1."""
        return mean.clamp(1e-3, 1 - 1e-3)


def copied(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode. What a model remembers of its last batch, with its gradients, loses these."""
    memo: dict[int, Any] = {
        id(value): value.detach()
        for layer in model.modules()
        for value in vars(layer).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    }
    twin = deepcopy(model, memo)
    for layer in twin.modules():
        layer.training = False
    return twin


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


def examples(model: nn.Module, data: Images, y: Array | None) -> tuple[Tensor, Tensor | None]:
    """Return images and conditions in the form that the model works on.

    Raises:
        Refused: where the model refuses them.
        ValueError: for too few images, or another number of conditions.
        TypeError: for what are no images.
    """
    x, _ = images_and_labels(data)
    if len(x) < _FEWEST:
        raise ValueError(
            f"a diagnosis takes at least {_FEWEST} images, and there are {len(x)}: its means would be noise"
        )
    if y is not None and len(given := as_tensor(y, "conditions")) != len(x):
        raise ValueError(f"there are {len(x)} images and {len(given)} conditions: each image needs its own")
    try:
        return training_examples(copied(model), data, y)
    except ValueError as error:
        raise Refused(str(error)) from error


def some(x: Tensor, y: Tensor | None, n_images: int) -> tuple[Tensor, Tensor | None]:
    """Return some images at random, always the same ones: data may be sorted by class."""
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n_images].to(x.device)
    return x[rows], None if y is None else y[rows]


class Refused(ValueError):
    """What the model itself says against the images."""


class Case:
    """A model and images, and what the examinations want to know of them.

    n images of D pixels, K latent dimensions, L = `DRAWS` draws of z for each image; everything is in nats.

    Args:
        model: whose copy is looked at.
        x: images in the form that the model works on, ``(n, ...)``.
        y: conditions, ``(n, ...)``, or None.
        likelihood: of which `decode` returns the parameters; None for the model's own, or to infer it.
        generator: of the noise.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor | None, likelihood: Likelihood | None, generator: torch.Generator
    ) -> None:
        self.model: Any = copied(model)
        self.x, self.y, self.generator, self.pixels = x, y, generator, x.flatten(1)
        stated = deepcopy(likelihood) or getattr(self.model, "likelihood", None)
        self.stated: Likelihood | None = stated if hasattr(stated, "log_prob") else None
        # Whether no examination has found the bound itself wrong so far: what follows from that is then no news.
        self.sound = True

    def with_data(self, x: Tensor, y: Tensor | None, apart: bool = False) -> "Case":
        """Return the case of other images and the same model, or, `apart`, a copy whose weights may be changed."""
        other = object.__new__(Case)
        other.model = copied(self.model) if apart else self.model
        other.x, other.y, other.generator, other.pixels = x, y, self.generator, x.flatten(1)
        other.stated, other.sound = self.likelihood, self.sound
        return other

    # What the model's own methods say

    def encode(self, x: Tensor | None = None, y: Tensor | None = None) -> Posterior:
        """Return q(z|x), of the case's own images unless others are given.

        Raises:
            TypeError: for a model whose encode returns no pair of mean and log variance.
        """
        x, y = (self.x, self.y) if x is None else (x, y)
        found = self.model.encode(x) if y is None else self.model.encode(x, y)
        if isinstance(found, tuple) and len(found) == 2:
            return Posterior(*found)
        if hasattr(found, "mu") and hasattr(found, "log_var"):
            return Posterior(found.mu, found.log_var)
        raise TypeError(
            f"diagnose needs a posterior (mu, log_var), and {type(self.model).__name__}.encode returns a "
            f"{type(found).__name__}"
        )

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return what codes ``(n, K)`` decode to, as rows ``(n, D)``.

        Raises:
            TypeError: for what is no tensor of as many numbers as the images have pixels.
        """
        y = self.y if y is None else y
        found = self.model.decode(z) if y is None else self.model.decode(z, y)
        if not isinstance(found, Tensor) or found.numel() != len(z) * self.pixels.shape[1]:
            what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise TypeError(
                f"{type(self.model).__name__}.decode returns {what} for {len(z)} codes: diagnose needs one number for "
                f"each of {self.pixels.shape[1]} pixels, logits (Bernoulli) or means"
            )
        return found.reshape(len(z), -1)

    def bound(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return ELBO, log likelihood and KL, ``(n,)`` each, as the model's own `elbo` has them."""
        found = objective_of(self.model)(self.model, x, y, 0, self.generator)
        with torch.no_grad():
            batch_means(found, x)  # which says what is wrong with shapes and types
        if isinstance(found, ElboTerms):
            return found.elbo, found.log_likelihood, found.kl
        return found, None, None

    @cached_property
    def reported(self) -> Reported:
        """L draws of the model's own bound."""
        elbo, log_likelihood, kl = zip(*(self.bound(self.x, self.y) for _ in range(DRAWS)), strict=True)
        if log_likelihood[0] is None:
            return Reported(torch.stack(elbo), None, None)
        return Reported(torch.stack(elbo), torch.stack(log_likelihood), torch.stack(kl))

    # The same, computed here from encode and decode

    @cached_property
    def posterior(self) -> Posterior:
        """q(z|x), ``(n, K)`` twice."""
        return self.encode()

    @cached_property
    def prior(self) -> Posterior:
        """p(z), or p(z|y): the standard one unless the model has a method of that name and conditions."""
        own = getattr(self.model, "prior", None)
        if self.y is not None and callable(own):
            return Posterior(*own(self.y))
        return Posterior(*torch.zeros_like(torch.stack(tuple(self.posterior))))

    @cached_property
    def eps(self) -> Tensor:
        """Standard normal noise, ``(L, n, K)``, the same for every comparison."""
        return self.noise(DRAWS)

    def noise(self, n_draws: int) -> Tensor:
        """Draw standard normal noise for some draws of z for each image."""
        mu = self.posterior.mu
        return standard_normal((n_draws, *mu.shape), mu, self.generator)

    @cached_property
    def sigma(self) -> Tensor:
        """The standard deviation of q(z|x), ``(n, K)``."""
        return torch.exp(0.5 * self.posterior.log_var.clamp(-80, 80))

    @cached_property
    def z(self) -> Tensor:
        """Codes from q(z|x), ``(L, n, K)``."""
        return self.posterior.mu + self.sigma * self.eps

    @cached_property
    def kl_by_unit(self) -> Tensor:
        """KL(q(z|x) || p(z)) of each latent dimension, ``(n, K)``, in closed form."""
        (mu, log_var), (prior_mu, prior_log_var) = self.posterior, self.prior
        ratio = log_var - prior_log_var
        distance = (mu - prior_mu) * torch.exp(-0.5 * prior_log_var)
        return (0.5 * (torch.expm1(ratio) - ratio + distance.square())).flatten(1)

    @cached_property
    def kl(self) -> Tensor:
        """KL(q(z|x) || p(z)), ``(n,)``."""
        return self.kl_by_unit.sum(1)

    def scores(self, z: Tensor, score: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return log p(x|z), or another function of what is decoded, for codes ``(L, n, K)``: ``(L, n)``."""
        score = self.log_prob if score is None else score
        return torch.stack([score(self.decode(each)) for each in z])

    def log_prob(self, decoded: Tensor) -> Tensor:
        """Return log p(x|z) of decoded rows, ``(n, D) -> (n,)``."""
        return self.likelihood.log_prob(self.pixels, decoded)

    def squared_error(self, decoded: Tensor) -> Tensor:
        """Return the sum of squared differences from the images, ``(n, D) -> (n,)``."""
        return (self.pixels - decoded).square().sum(-1)

    @cached_property
    def log_likelihood(self) -> Tensor:
        """Log p(x|z) at codes from q(z|x), ``(L, n)``."""
        return self.scores(self.z)

    @cached_property
    def elbos(self) -> Tensor:
        """The ELBO of each image, ``(n,)``."""
        return self.log_likelihood.mean(0) - self.kl

    @cached_property
    def elbo(self) -> float:
        """The mean ELBO."""
        return self.elbos.mean().item()

    @cached_property
    def error(self) -> float:
        """The standard error of the mean ELBO, over the images."""
        return self.elbos.std().item() / math.sqrt(len(self.x))

    @cached_property
    def notable(self) -> float:
        """A difference in nats that is worth a word: half a nat and a tenth of what images differ by.

        So it grows with the size of the images and with the likelihood's sharpness. What a model without a code leaves
        open between images is the scale, not what this one does, which may be ill.
        """
        return 0.5 + 0.1 * self.without_code.std().item()

    @cached_property
    def reported_log_likelihood(self) -> Tensor:
        """The model's own log likelihood, ``(L, n)``; of a bound in one number what is left of it beside our KL."""
        found = self.reported
        return found.elbo + self.kl if found.log_likelihood is None else found.log_likelihood

    @cached_property
    def without_code(self) -> Tensor:
        """The log likelihood of the mean of these images, which takes no code at all, ``(n,)``."""
        mean = self.pixels.mean(0)
        start = getattr(self.likelihood, "start", None)
        return self.log_prob((mean if start is None else start(mean)).expand_as(self.pixels))

    @cached_property
    def reconstructions(self) -> Tensor:
        """Mean images at the mean codes, ``(n, D)``."""
        return self.likelihood.mean(self.decode(self.posterior.mu))

    @cached_property
    def few(self) -> "Case":
        """The case of the first images alone, for what takes many codes."""
        return self.with_data(self.x[:FEW], None if self.y is None else self.y[:FEW])

    @cached_property
    def pieces(self) -> dict[str, Tensor]:
        """Parts of log weights at `CODES` codes, ``(CODES, n)``: log p(x|z), log p(z), log q(z|x), and eps of these."""
        mu, log_var = (each.flatten(1) for each in self.posterior)
        eps = self.noise(CODES)
        z = self.posterior.mu + self.sigma * eps
        prior_mu, prior_log_var = (each.flatten(1) for each in self.prior)
        log_p = gaussian_log_prob(z.flatten(2), prior_mu, prior_log_var)
        log_q = gaussian_log_prob(z.flatten(2), mu, log_var)
        return {"x": self.scores(z), "p": log_p, "q": log_q, "eps": eps.flatten(2)}

    # Which likelihood

    @cached_property
    def is_bernoulli(self) -> bool:
        """Whether each pixel is 0 or 1, by the likelihood."""
        return getattr(self.likelihood, "name", "") == "bernoulli"

    @cached_property
    def sigma_x(self) -> float | None:
        """A Gaussian likelihood's standard deviation; None for other likelihoods."""
        return self.likelihood.log_sigma.exp().item() if isinstance(self.likelihood, Gaussian) else None

    @cached_property
    def likelihood(self) -> Likelihood:
        """The likelihood that was given, or that the model has, or that reproduces the model's own numbers best."""
        if self.stated is not None:
            return self.stated
        theirs = self.reported_log_likelihood
        for candidate in self._bernoullis():
            if difference(self.scores(self.z, self._under(candidate)), theirs).is_noise:
                return candidate
        return self._closest(theirs)

    def _bernoullis(self) -> list[Likelihood]:
        """The likelihood of logits, and, where all that is decoded could be one, of probabilities."""
        decoded = self.decode(self.z[0])
        return [Bernoulli(), Probabilities()] if decoded.min() >= 0 and decoded.max() <= 1 else [Bernoulli()]

    def _under(self, likelihood: Likelihood) -> Callable[[Tensor], Tensor]:
        """Return the log likelihood as a function of what is decoded."""
        return lambda decoded: likelihood.log_prob(self.pixels, decoded)

    def _closest(self, theirs: Tensor) -> Likelihood:
        """Return the likelihood of which the model's numbers are a multiple plus a constant; else what decodes best."""
        error = self.scores(self.z, self.squared_error)
        sigma = gaussian_sigma(error, theirs, self.pixels.shape[1])
        misfit = math.inf if sigma is None else line(-error, theirs).misfit
        fits: list[tuple[float, Likelihood]] = [(misfit, Gaussian(sigma or 1.0).to(theirs.device))]
        fits += [(line(self.scores(self.z, self._under(each)), theirs).misfit, each) for each in self._bernoullis()]
        misfit, best = min(fits, key=lambda each: each[0] if math.isfinite(each[0]) else math.inf)
        if misfit <= 2:
            return best
        # Logits are no mean images, nor are means logits: whose mean image is nearer?
        decoded = self.decode(self.posterior.mu)
        return min(
            (each for _, each in reversed(fits)), key=lambda each: self.squared_error(each.mean(decoded)).mean().item()
        )


class Line(NamedTuple):
    """``theirs = slope * ours + offset``, over the images, and its misfit, as in `Difference`."""

    slope: float
    offset: float
    misfit: float


def line(ours: Tensor, theirs: Tensor) -> Line:
    """Fit a line through the images, from the means over the draws, ``(L, n)`` twice."""
    ours, theirs = ours.cpu().double(), theirs.cpu().double()
    x, y = ours.mean(0), theirs.mean(0)
    noise = [each.var(0).mean().item() / len(each) if len(each) > 1 else 0.0 for each in (ours, theirs)]
    variance = x.var().item()
    # What of the variance of x is noise makes the slope of a least-squares line too small.
    slope = (
        ((x - x.mean()) * (y - y.mean())).sum().item() / (len(x) - 1) / max(variance - noise[0], 0.1 * variance, 1e-12)
    )
    offset = (y.mean() - slope * x.mean()).item()
    floor = 1e-3 + 1e-4 * y.abs().mean().item()
    expected = slope**2 * noise[0] + noise[1] + floor**2
    return Line(slope, offset, (y - slope * x - offset).square().mean().item() / expected)


def gaussian_sigma(error: Tensor, theirs: Tensor, n_pixels: int) -> float | None:
    """Return the sigma for which ``-D/2 log(2 pi sigma^2) - error / (2 sigma^2)`` has the mean of theirs, or None.

    There are two such, and the one is taken that is nearer to what the slope over the images says.
    """
    slope = -line(error, theirs).slope
    if not 0 < slope < math.inf:
        return None
    near = math.log(1 / math.sqrt(2 * slope))
    grid = torch.linspace(near - 0.5, near + 0.5, 20_001, dtype=torch.float64)
    value = -n_pixels * (0.5 * LOG_2PI + grid) - error.cpu().double().mean().item() / (2 * torch.exp(2 * grid))
    off = value - theirs.cpu().double().mean().item()
    roots = (off[:-1] * off[1:] <= 0).nonzero().flatten()
    if len(roots):
        return math.exp(grid[roots[(grid[roots] - near).abs().argmin()]].item())
    # A constant that is left out is no other sigma: then the slope alone says what sigma is.
    return math.exp(grid[off.abs().argmin()].item()) if off.abs().min() < 0.01 * n_pixels else math.exp(near)
