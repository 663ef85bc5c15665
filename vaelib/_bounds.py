"""Does a model's bound compute what it says? Its two terms beside the same ones, recomputed from encode and decode.

Where they differ by more than noise, the numbers are compared with what known mistakes would give, and what reproduces
them is named. To have one more named, add a line to the function that yields its kind.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from vaelib._case import DRAWS, Case, Finding, found
from vaelib.distributions import LOG_2PI, gaussian_log_prob

Candidates = Iterator[tuple[str, Tensor]]  # what a mistake is called, and the numbers that it would give, (L, n)
_FACTORS = (0.0, *np.geomspace(0.003, 3, 19).tolist())


class Difference(NamedTuple):
    """How two estimates of one quantity differ, ``(L, n)`` each: L draws for each of n images.

    ``nats`` is the difference of their means and ``error`` its standard error; ``misfit`` is the mean square of the
    differences image by image, in units of what the noise of the draws alone would give; ``spread`` is the ratio of the
    standard deviations over the draws, theirs to ours.
    """

    nats: float
    error: float
    misfit: float
    spread: float

    @property
    def is_noise(self) -> bool:
        """Whether they agree: within five errors, as dozens are compared, and image by image as noise would."""
        return abs(self.nats) <= 5 * self.error and self.misfit <= 2


def difference(ours: Tensor, theirs: Tensor) -> Difference:
    """Compare two estimates, ``(L, n)`` or, without noise, ``(1, n)``."""
    ours, theirs = ours.cpu().double(), theirs.cpu().double()
    floor = 1e-3 + 1e-4 * ours.abs().mean().item()  # float32 keeps seven digits, and fewer of a sum over pixels
    drawn = [each for each in (ours, theirs) if len(each) > 1]
    noise = sum(each.var(0).mean().item() / len(each) for each in drawn)
    # Draws that the images of a batch share leave a larger error than the images one by one would say.
    shared = sum(each.mean(1).var().item() / len(each) for each in drawn)
    apart = theirs.mean(0) - ours.mean(0)
    error = math.sqrt(max(noise / len(apart), shared)) + floor / 5
    widths = [each.var(0).mean().item() + floor**2 for each in drawn]
    spread = math.sqrt(widths[1] / widths[0]) if len(widths) == 2 else 1.0
    return Difference(apart.mean().item(), error, apart.square().mean().item() / (noise + floor**2), spread)


def that_fit(candidates: Candidates, theirs: Tensor) -> Iterator[str]:
    """Yield the mistakes that reproduce their numbers up to noise, and how much their draws vary."""
    fits = ((mistake, difference(numbers, theirs)) for mistake, numbers in candidates)
    # The spread of sixteen numbers is known to a third; that of sixteen for each image, to a hundredth.
    widest = 1.4 if theirs.std(-1).max() > 0 else 2.5
    yield from (mistake for mistake, fit in fits if fit.is_noise and 1 / widest <= fit.spread <= widest)


def scale(spread: Callable[[float], float], wanted: float) -> float:
    """Return the factor of a standard deviation at which a spread, which grows with it, is as wanted."""
    return float(np.interp(wanted, np.maximum.accumulate([spread(each) for each in _FACTORS]), _FACTORS))


def mean(values: Tensor) -> str:
    """Return a mean in nats as text."""
    return f"{values.mean().item():.2f}"


def steady(case: Case) -> Finding | None:
    """Do encode and decode, in eval mode, answer the same at each call, and for an image alone as in a batch?"""
    first, again, alone = (
        torch.cat(each, -1) for each in (case.posterior, case.encode(), case.rows(slice(1)).encode())
    )
    pairs = {"encode": (first, again), "decode": (case.decode(case.z[0]), case.decode(case.z[0]))}
    for name, (one, two) in pairs.items():
        if (apart := _apart(one, two)) is not None:
            text = f"called twice in eval mode, {name} gives answers that differ by {apart:.2g}"
            return found("batch", text, "something random, such as dropout, is always on")
    if (apart := _apart(first[:1], alone)) is None:
        return None
    text = f"encoded alone, an image gets a posterior that differs by {apart:.2g} from that within a batch"
    return found("batch", text, "the images of a batch influence each other")


def _apart(one: Tensor, two: Tensor) -> float | None:
    """Return by how much two answers differ, or None where that is rounding."""
    apart = (one - two).abs().max().item()
    return apart if apart > 1e-3 * (1e-2 + two.abs().max().item()) else None


# The log likelihood


def log_likelihood(case: Case) -> Finding:
    """Is the bound's log likelihood that of codes drawn from q(z|x)?"""
    ours, (theirs, _) = case.log_likelihood, case.reported
    which = "ELBO plus our KL" if case.in_one_number else "log likelihood"
    text = f"the bound's {which} is {mean(theirs)} nats, and the log likelihood of codes from q(z|x) {mean(ours)}"
    if difference(ours, theirs).is_noise:
        return found("log likelihood", f"{text}; they agree")
    # Where log_var is next to 0, a draw that reads it wrongly and one that is too narrow give the same numbers.
    if mistake := _not_drawn(case) or "; or ".join(that_fit(_other_codes(case), theirs)):
        return found("noise", text, mistake)
    return found("log likelihood", text, "; or ".join(that_fit(_other_sums(case), theirs)) or _as_a_line(ours, theirs))


def _not_drawn(case: Case) -> str | None:
    """Say what is to be said where each call gives the same numbers, though drawn codes would not."""
    ours, (theirs, _) = case.log_likelihood, case.reported
    if _spread(theirs) >= 1e-4 * _spread(ours):
        return None
    if difference(case.scores(case.posterior.mu.unsqueeze(0)), theirs).is_noise:
        better = mean(theirs - ours)
        return f"z is set to the mean mu of q(z|x), and not drawn; that looks {better} nats better, and bounds nothing"
    return f"draws would vary by {_spread(ours):.2f} nats, and each call has the same noise (a seed set in the bound)"


def _spread(draws: Tensor) -> float:
    return draws.std(0).mean().item()


def _other_codes(case: Case) -> Candidates:
    """Yield the log likelihood of codes that are drawn in another way."""
    (mu, log_var), eps, sigma, (theirs, _) = case.posterior, case.eps, case.sigma, case.reported
    instead = "as the standard deviation, which is exp(log_var / 2)"
    yield f"z is drawn with exp(log_var) {instead}", case.scores(mu + log_var.clamp(-80, 30).exp() * eps)
    yield f"z is drawn with softplus(log_var) {instead}", case.scores(mu + softplus(log_var) * eps)
    yield f"z is drawn with log_var itself {instead}", case.scores(mu + log_var * eps)
    yield f"z is drawn with 1 {instead}", case.scores(mu + eps)
    yield "one number of noise serves all latent dimensions of an image", case.scores(mu + sigma * eps[..., :1])
    yield "z is drawn from the prior N(0, I), and not from q(z|x)", case.scores(eps)
    yield "z is the code of another image of the batch", case.scores(case.z.roll(1, 1))
    times = scale(lambda each: _spread(case.scores(mu + each * sigma * eps)), _spread(theirs))
    changed = f"which changes the bound by {(theirs.mean() - case.log_likelihood.mean()).item():+.2f} nats"
    wide = f"the noise of z is {times:.2g} times as wide as q(z|x) says, {changed}"
    yield wide, case.scores(mu + times * sigma * eps)


def _other_sums(case: Case) -> Candidates:
    """Yield what mistakes with the pixels would make of the log likelihood."""
    ours, n_pixels, kl = case.log_likelihood, case.pixels.shape[1], case.kl
    whole = difference(kl.unsqueeze(0), case.reported[1]).is_noise  # or the KL is divided, too
    weighs = f", so that the KL weighs {n_pixels} times too much" if whole else ""
    yield f"it is a mean over the {n_pixels} pixels{weighs}", ours / n_pixels
    of_all = ours.mean(1, keepdim=True).expand_as(ours)
    yield "it is a mean over the batch, the same for every image", of_all
    yield f"it is a mean over the batch and the {n_pixels} pixels, the same for every image", of_all / n_pixels
    yield "it is the sum over the batch, the same for every image", of_all * len(kl)
    yield "its sign is wrong: it is minus the log likelihood", -ours
    yield "it is in bits: the logarithm is to the base of 2", ours / math.log(2)
    yield from _with_densities(case)
    if case.in_one_number:
        yield f"the whole bound is divided by the {n_pixels} pixels", (ours - kl) / n_pixels + kl
        yield "with the other sign the bound is right: it is a loss", 2 * kl - ours
        yield from ((f"as to the KL in the bound, {mistake}", ours + kl - each) for mistake, each in _other_kls(case))
    error = case.scores(case.z, case.squared_error)
    if case.is_bernoulli:
        yield (
            "a sigmoid is applied to the logits twice",
            case.scores(case.z, lambda each: case.log_prob(each.sigmoid())),
        )
        as_such = case.scores(case.z, lambda each: case.log_prob(each.clamp(1e-6, 1 - 1e-6).logit()))
        yield "decode returns probabilities, and the bound takes them as such; decode is to return logits", as_such
        yield "it is minus the squared error, and no Bernoulli log likelihood", -error
        yield "it is minus the mean squared error, and no Bernoulli log likelihood", -error / n_pixels
    if case.sigma_x is not None:
        yield from _other_gaussians(error, case.sigma_x, n_pixels)


def _with_densities(case: Case) -> Candidates:
    """Yield the log likelihood with log p(z) or log q(z|x) of the same z in it, which the KL holds already."""
    ours, z = case.log_likelihood, case.z.flatten(2)
    p, q = (gaussian_log_prob(z, *(each.flatten(1) for each in normal)) for normal in (case.prior, case.posterior))
    if case.in_one_number:
        yield "log p(z) stands where minus the KL belongs: log q(z|x) is missing", ours + p + case.kl
        yield "log q(z|x) stands where the KL belongs: log p(z) is missing", ours - q + case.kl
    yield "log p(z) is added to it, which the KL holds already", ours + p
    yield "log q(z|x) is subtracted from it, which the KL holds already", ours - q
    yield "log p(z) - log q(z|x) is added to it, and the KL is subtracted once more", ours + p - q


def _other_gaussians(error: Tensor, sigma: float, n_pixels: int) -> Candidates:
    """Yield what a Gaussian log likelihood is where a part of it is forgotten or wrong."""
    constant, width, squares = 0.5 * n_pixels * LOG_2PI, n_pixels * math.log(sigma), error / (2 * sigma**2)
    yield f"the constant D/2 log 2 pi = {constant:.2f} nats is forgotten", -squares - width
    yield f"the constant D/2 log(2 pi sigma^2) = {constant + width:.2f} nats is forgotten", -squares
    yield f"log 2 pi is counted D = {n_pixels} times for every pixel", -squares - width - n_pixels * constant
    yield f"D log sigma = {width:.2f} nats are forgotten, without which no sigma can be learned", -squares - constant
    yield "the variance is forgotten: it is minus half the squared error", -error / 2
    yield "the variance is forgotten: it is minus half the squared error, and the constant", -error / 2 - constant
    yield "the variance is forgotten: it is minus the squared error", -error
    yield f"the variance is forgotten, and a mean over the {n_pixels} pixels is taken", -error / n_pixels
    yield "the squared error is divided by sigma, and not by its square", -error / (2 * sigma) - width - constant
    twice = "sigma^2 stands where sigma belongs"
    yield twice, -error / (2 * sigma**4) - 2 * width - constant


def _as_a_line(ours: Tensor, theirs: Tensor) -> str:
    """Say what can be said where no known mistake reproduces the numbers: a factor and a constant, or neither."""
    x, y = (each.mean(0).cpu().double().numpy() for each in (ours, theirs))
    factor, constant = y.mean() / x.mean(), (y - x).mean()
    lines = [
        (f"over the images it is {factor:.3g} times ours: a factor is wrong", factor * ours),
        (f"over the images it is ours plus {constant:.2f}: a constant is wrong", ours + constant),
    ]
    if line := next(that_fit(iter(lines), theirs), None):
        return line
    slope, offset = np.polyfit(x, y, 1)
    if difference(slope * ours + offset, theirs).is_noise:
        return f"over the images it is about {slope:.3g} times ours plus {offset:.2f}; no mistake known here does that"
    apart = difference(ours, theirs)
    return (
        f"they differ by {apart.nats:+.2f} nats (noise {apart.error:.2f}), and image by image {apart.misfit**0.5:.1f} "
        "times as much as noise would; no mistake known here reproduces it, are x, z and what is decoded its own?"
    )


# The KL


def kl(case: Case) -> Finding | None:
    """Is the bound's KL that of q(z|x) from the prior, in closed form?"""
    (_, theirs), ours = case.reported, case.kl.unsqueeze(0)
    if case.in_one_number:
        return None
    text = f"the bound's KL is {mean(theirs)} nats, and in closed form {mean(ours)}"
    if difference(ours, theirs).is_noise:
        return found("KL", f"{text}; they agree")
    candidates = ((mistake, each.reshape(-1, len(case.kl))) for mistake, each in _other_kls(case))
    return found("KL", text, "; or ".join(that_fit(candidates, theirs)) or _as_sums(case, theirs))


def _other_kls(case: Case) -> Candidates:
    """Yield what known mistakes would make of the KL, ``(n,)``, or ``(L, n)`` where it depends on z."""
    (mu, log_var), ours = (each.flatten(1) for each in case.posterior), case.kl
    k, log_var = mu.shape[1], log_var.clamp(-80, 80)

    def closed(mu: Tensor, log_var: Tensor) -> Tensor:
        return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(-1)

    yield "it is missing", 0 * ours
    yield f"the mean over the {k} latent dimensions is taken, and not the sum", ours / k
    yield "the mean over the batch is taken, so that every image has the same", ours.mean().expand_as(ours)
    yield "it is the sum over the batch, so that every image has the same", ours.sum().expand_as(ours)
    yield f"it is divided by the {len(ours)} images of the batch", ours / len(ours)
    yield f"it is divided by the {case.pixels.shape[1]} pixels", ours / case.pixels.shape[1]
    yield "its sign is wrong", -ours
    yield "log_var is read as log sigma", closed(mu, 2 * log_var)
    yield "log_var is read as the variance", closed(mu, log_var.abs().clamp(min=1e-8).log())
    yield "log_var is read as the standard deviation", closed(mu, log_var.square().clamp(min=1e-16).log())
    yield "log_var enters with the other sign", closed(mu, -log_var)
    yield "the drawn z stands in it where mu belongs", closed(case.z.flatten(2), log_var)
    yield "it is KL(p || q), the wrong way round", 0.5 * ((1 + mu.square()) / log_var.exp() - 1 + log_var).sum(1)
    yield "it is taken from N(0, I), and not from the model's own prior", closed(mu, log_var)


def _as_sums(case: Case, theirs: Tensor) -> str:
    """Say of which sums the KL is made, where no known mistake gives it."""
    mu, log_var = (each.flatten(1).cpu().double() for each in case.posterior)
    wanted, ours = theirs.mean(0).cpu().double(), case.kl.cpu().double()
    ratio = (wanted.mean() / ours.mean()).item()
    if difference(ratio * ours.unsqueeze(0), theirs).is_noise:
        half = "its 1/2 is forgotten, or it is weighed: " if abs(ratio - 2) < 0.02 else ""
        return f"it is {ratio:.3g} times that; {half}a weight of the KL (beta) belongs into the objective"
    sums = torch.stack([mu.square().sum(1), log_var.exp().sum(1), log_var.sum(1), torch.ones_like(wanted)], 1)
    weights = torch.linalg.lstsq(sums, wanted.unsqueeze(1), driver="gelsd").solution
    if not difference((sums @ weights).T, theirs).is_noise:
        prior = "" if case.has_prior else "; is p(z) another than N(0, I)?"
        return f"no mistake known here reproduces it{prior}"
    made = "{:.3g} sum mu^2 {:+.3g} sum sigma^2 {:+.3g} sum log sigma^2 {:+.3g}"
    closed = made.format(0.5, 0.5, -0.5, -0.5 * mu.shape[1])
    return f"it is {made.format(*(weights.squeeze(1).round(decimals=3) + 0.0).tolist())}, and the closed form {closed}"


# The batch


def batch(case: Case) -> Finding:
    """Is an image's bound its own? No noise that the batch shares, and no other image that it depends on."""
    spread = case.log_likelihood.std(0)
    copies = case.rows(spread.argmax().repeat(DRAWS))
    values = torch.stack([copies.bound().log_likelihood for _ in range(4)])
    inside, between, ours = values.std(1).mean().item(), values.mean(1).std().item(), spread.max().item()
    text = f"the log likelihoods of {DRAWS} copies of an image vary by {inside:.2g} nats, with our draws by {ours:.2g}"
    if inside < 1e-3 * ours and between > 1e-2 * ours:
        return found("noise", text, f"one draw serves the whole batch, and the next varies by {between:.2g}")
    return mixing(case) or found("batch", text)


def mixing(case: Case) -> Finding | None:
    """Does the bound of one image depend on other images of its batch?"""
    few = case.rows(slice(DRAWS))
    if few.x.is_floating_point():
        few.x = few.x.clone().requires_grad_(True)
        with torch.enable_grad():
            bound = few.bound().elbo[1]  # of the second image
            gradient = torch.autograd.grad(bound, few.x, allow_unused=True)[0] if bound.requires_grad else None
        others = 0 if gradient is None else int((gradient.flatten(1) != 0).any(1)[[0, *range(2, len(few.x))]].sum())
        if others:
            text = f"of {len(few.x)} images of a batch, {others + 1} change the bound of one of them"
            return found("batch", text, f"the bound of one depends on other images of its batch ({others} of them)")
    return None
