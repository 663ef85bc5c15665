"""Does a model's bound compute what it says? Its two terms against the same ones, recomputed from encode and decode.

Each examination takes a `Case` and returns a `Finding`, or None where there is nothing to look at. What differs by more
than noise is compared with what known mistakes would give, and the one that reproduces the numbers is named.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from vaelib._case import DRAWS, Case, Finding, difference, gaussian_sigma, ill, line, well
from vaelib.distributions import LOG_2PI

# What a mistake is called, and the numbers that it would give.
Candidates = Iterator[tuple[str, Tensor]]


def steady(case: Case) -> Finding | None:
    """Do encode and decode, in eval mode, answer the same at each call, and for an image alone as in a batch?"""
    first, again = case.posterior, case.encode()
    if not (_near(again, first) and _near([case.decode(case.z[0])], [case.decode(case.z[0])])):
        moved = max((one - two).abs().mean().item() for one, two in zip(again, first, strict=True))
        return ill(
            "batch",
            f"in eval mode encode or decode gives another answer at each call (mu or log_var moves by {moved:.2g}): "
            "something random, such as dropout, is always on",
        )
    alone = case.encode(case.x[:1], None if case.y is None else case.y[:1])
    if not _near(alone, [each[:1] for each in first]):
        return ill(
            "batch",
            "encoded alone, an image gets another posterior than within a batch (mu moves by "
            f"{(alone.mu - first.mu[:1]).abs().mean().item():.2g}): the images of a batch influence each other",
        )
    return None


def _near(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Whether two answers differ by rounding alone."""
    pairs = zip(first, second, strict=True)
    return all(bool((one - two).abs().max() <= 1e-3 * (1e-2 + two.abs().max())) for one, two in pairs)


# --- the log likelihood ---


def log_likelihood(case: Case) -> Finding:
    """Is the bound's log likelihood that of codes drawn from q(z|x)?"""
    ours, theirs = case.log_likelihood, case.reported_log_likelihood
    which = "log likelihood" if case.reported.log_likelihood is not None else "log likelihood (its ELBO plus our KL)"
    how = f"the bound's {which} is {mean(theirs)} nats, and that of codes drawn from q(z|x) {mean(ours)}"
    if difference(ours, theirs).is_noise:
        name = getattr(case.likelihood, "name", type(case.likelihood).__name__)
        sigma = "" if case.sigma_x is None else f", sigma {case.sigma_x:.3g}"
        return well("log likelihood", f"{how}: they agree ({name}{sigma})")
    if (drawn := _not_drawn(case)) is not None:
        return ill("noise", f"{how}: {drawn}")
    if (cause := named(_other_codes(case), theirs)) is not None:
        return ill("noise", f"{how}: {cause}")
    if (cause := named(_other_sums(case), theirs)) is not None:
        return ill("log likelihood", f"{how}: {cause}")
    if not case.sound:
        return well("log likelihood", f"{how}: that follows from what encode and decode do")
    return ill("log likelihood", f"{how}: {_as_a_line(case)}")


def named(candidates: Candidates, theirs: Tensor) -> str | None:
    """Return the cause that reproduces their numbers, ``(L, n)``, up to noise; of several the one that does so best."""
    found = ((cause, difference(candidate, theirs)) for cause, candidate in candidates)
    fits = {cause: each.size for cause, each in found if each.is_noise}
    return min(fits, key=fits.__getitem__, default=None)


def mean(values: Tensor) -> str:
    """Return a mean as text, in nats."""
    return f"{values.mean().item():.2f}"


def _not_drawn(case: Case) -> str | None:
    """Say what is to be said where each call gives the same numbers, though drawn codes would not."""
    ours, theirs = case.log_likelihood, case.reported_log_likelihood
    spread = ours.std(0).mean().item()
    if not theirs.std(0).mean().item() < 1e-4 * spread:
        return None
    if difference(case.scores(case.posterior.mu.unsqueeze(0)), theirs).is_noise:
        better = theirs.mean().item() - ours.mean().item()
        return (
            f"z is set to the mean mu of q(z|x), and not drawn; that looks {better:.2f} nats better, and bounds nothing"
        )
    return (
        f"each call gives the same numbers, where draws vary by {spread:.2f} nats an image: the noise is the same "
        "noise at every call (a seed set inside the bound)"
    )


def _other_codes(case: Case) -> Candidates:
    """Yield the log likelihood of codes that are drawn in another way."""
    (mu, log_var), eps, sigma = case.posterior, case.eps, case.sigma
    cause, width = (
        "z is drawn with exp(log_var) as the standard deviation, which is exp(log_var / 2)",
        log_var.clamp(-80, 30),
    )
    yield cause, case.scores(mu + width.exp() * eps)
    cause = "z is drawn with log_var itself as the standard deviation, which is exp(log_var / 2)"
    yield cause, case.scores(mu + log_var * eps)
    yield "z is mu + eps, with a standard deviation of 1, and not of exp(log_var / 2)", case.scores(mu + eps)
    one = eps.flatten(2)[..., :1].reshape(*eps.shape[:2], *[1] * (eps.ndim - 2))
    yield "one number of noise serves all latent dimensions of an image", case.scores(mu + sigma * one)
    yield "z is drawn from the prior N(0, I), and not from q(z|x)", case.scores(eps)
    yield "z is the code of another image of the batch", case.scores(case.z.roll(1, 1))
    if (scale := _scale_of_noise(case)) is not None:
        worth = case.reported_log_likelihood.mean().item() - case.log_likelihood.mean().item()
        size = f"{scale:.2f}" if scale >= 0.05 else "less than 0.05"
        cause = f"the noise of z is {size} times as wide as q(z|x) says, which is worth {worth:+.2f} nats"
        yield cause, case.scores(mu + scale * sigma * eps)


def _scale_of_noise(case: Case) -> float | None:
    """Return the factor of sigma at which the log likelihood varies from draw to draw as the reported one does."""
    factors = [0.0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0]
    wanted = case.reported_log_likelihood.std(0).mean().item()
    codes = (case.posterior.mu + each * case.sigma * case.eps for each in factors)
    levels = [case.scores(z).std(0).mean().item() for z in codes]
    for (low, first), (high, second) in pairwise(zip(factors, levels, strict=True)):
        if first <= wanted <= second and first < second:
            return low + (high - low) * (wanted - first) / (second - first)
    return None


def _other_sums(case: Case) -> Candidates:
    """Yield what mistakes with the pixels would make of the log likelihood."""
    ours, n, n_pixels = case.log_likelihood, len(case.x), case.pixels.shape[1]
    yield f"it is a mean over the {n_pixels} pixels, so that the KL weighs {n_pixels} times too much", ours / n_pixels
    yield "it is a mean over the batch, the same for every image", ours.mean(1, keepdim=True).expand_as(ours)
    yield f"it is divided by the {n} images of the batch", ours / n
    yield "its sign is wrong: it is minus the log likelihood", -ours
    if case.reported.log_likelihood is None:
        yield "the bound is one number, and with the other sign it is right: it is a loss", 2 * case.kl - ours
        for cause, kl in _other_kls(case):
            yield f"the bound is one number, and in its KL {cause}", ours + case.kl - kl
    if case.sigma_x is not None:
        yield from _other_gaussians(case, case.sigma_x)
    elif case.is_bernoulli:
        yield from _other_bernoullis(case)


def _other_bernoullis(case: Case) -> Candidates:
    """Yield what mistakes with the decoder's output would make of a Bernoulli log likelihood."""

    def of(changed: Callable[[Tensor], Tensor]) -> Tensor:
        return case.scores(case.z, lambda decoded: case.log_prob(changed(decoded)))

    yield "a sigmoid is applied to the logits twice", of(torch.sigmoid)
    cause = "decode returns probabilities, and the bound takes them as such, where the likelihood takes logits"
    yield cause, of(lambda decoded: decoded.clamp(1e-6, 1 - 1e-6).logit())
    error = case.scores(case.z, lambda decoded: case.squared_error(torch.sigmoid(decoded)))
    for what, factor in (("", 1.0), ("half ", 0.5), ("the mean over pixels of ", 1 / case.pixels.shape[1])):
        yield f"it is minus {what}the squared error, and no Bernoulli log likelihood", -factor * error
    inverted = 1 - case.pixels
    yield (
        "it is that of inverted images, 1 - x",
        case.scores(case.z, lambda each: case.likelihood.log_prob(inverted, each)),
    )


def _other_gaussians(case: Case, sigma: float) -> Candidates:
    """Yield what a Gaussian log likelihood is where a part of it is forgotten or wrong."""
    error, n_pixels = case.scores(case.z, case.squared_error), case.pixels.shape[1]
    constant, scale, squares = 0.5 * n_pixels * LOG_2PI, n_pixels * math.log(sigma), error / (2 * sigma**2)
    yield f"the constant D/2 log 2 pi = {constant:.2f} nats is forgotten", -squares - scale
    yield f"the constant D/2 log(2 pi sigma^2) = {constant + scale:.2f} nats is forgotten", -squares
    yield (
        f"log 2 pi is counted D = {n_pixels} times for every pixel, and not once",
        -squares - scale - n_pixels * constant,
    )
    yield f"D log sigma = {scale:.2f} nats are forgotten, without which no sigma can be learned", -squares - constant
    yield "the variance is forgotten: it is minus half the squared error", -error / 2
    yield "the variance is forgotten: it is minus half the squared error, and the constant", -error / 2 - constant
    yield "the variance is forgotten: it is minus the squared error", -error
    yield (
        f"the variance is forgotten, and a mean over the {n_pixels} pixels is taken of the squared error",
        -error / n_pixels,
    )
    yield "the squared error is divided by sigma, and not by its square", -error / (2 * sigma) - scale - constant
    yield "sigma is taken for log sigma", -error / (2 * math.exp(2 * sigma)) - n_pixels * sigma - constant


def _as_a_line(case: Case) -> str:
    """Say what can be said where no known mistake reproduces the numbers: a factor and a constant, or neither."""
    theirs, n_pixels, sigma = case.reported_log_likelihood, case.pixels.shape[1], case.sigma_x
    if sigma is not None:
        error = case.scores(case.z, case.squared_error)
        fit = line(error, theirs)
        if fit.misfit <= 2:
            slope, offset = -1 / (2 * sigma**2), -n_pixels * (0.5 * LOG_2PI + math.log(sigma))
            other = gaussian_sigma(error, theirs, n_pixels) or math.nan
            return (
                f"over the images it is {fit.slope:.3g} times the squared error plus {fit.offset:.2f}, where a "
                f"Gaussian of sigma {sigma:.3g} has {slope:.3g} and {offset:.2f} (the slope is that of sigma "
                f"{other:.3g})"
            )
    fit = line(case.log_likelihood, theirs)
    if fit.misfit <= 2:
        return (
            f"over the images it is {fit.slope:.3g} times ours plus {fit.offset:.2f}: a factor or a constant is wrong"
        )
    found = difference(case.log_likelihood, theirs)
    return (
        f"they differ by {found.nats:+.2f} nats (noise {found.error:.2f}), and image by image "
        f"{math.sqrt(found.misfit):.1f} times as much as noise would; no mistake that is known here reproduces it: are "
        "x, z and what is decoded its own?"
    )


# --- the KL ---


def kl(case: Case) -> Finding | None:
    """Is the bound's KL that of q(z|x) from the prior, in closed form?"""
    theirs, ours = case.reported.kl, case.kl.unsqueeze(0)
    if theirs is None:
        return None
    how = f"the bound's KL is {mean(theirs)} nats, and in closed form {mean(ours)}"
    if difference(ours, theirs).is_noise:
        return well("KL", f"{how}: they agree")
    cause = named(((cause, each.unsqueeze(0)) for cause, each in _other_kls(case)), theirs)
    if cause is None and not case.sound:
        return well("KL", f"{how}: that may follow from what is said above")
    return ill("KL", f"{how}: {cause or _as_a_sum(case, theirs)}")


def _other_kls(case: Case) -> Candidates:
    """Yield what known mistakes would make of the KL, ``(n,)``."""
    (mu, log_var), ours = (each.flatten(1) for each in case.posterior), case.kl
    k, n, log_var = mu.shape[1], len(mu), log_var.clamp(-80, 80)

    def closed(mu: Tensor, log_var: Tensor) -> Tensor:
        return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)

    yield f"the mean over the {k} latent dimensions is taken, and not the sum", ours / k
    yield "the mean over the batch is taken, so that every image has the same", ours.mean().expand_as(ours)
    yield f"it is divided by the {n} images of the batch", ours / n
    yield f"it is divided by the {case.pixels.shape[1]} pixels", ours / case.pixels.shape[1]
    yield "its sign is wrong", -ours
    yield "log_var is read as log sigma", closed(mu, 2 * log_var)
    yield "log_var is read as the variance", closed(mu, log_var.abs().clamp(min=1e-8).log())
    yield "log_var is read as the standard deviation", closed(mu, log_var.square().clamp(min=1e-16).log())
    yield "log_var enters with the other sign", closed(mu, -log_var)
    yield "it is KL(p || q), the wrong way round", 0.5 * ((1 + mu.square()) / log_var.exp() - 1 + log_var).sum(1)
    yield "only the mean counts, 1/2 sum mu^2, and the terms of the variance are forgotten", 0.5 * mu.square().sum(1)
    yield "the term mu^2 is forgotten", closed(torch.zeros_like(mu), log_var)
    if bool((case.prior.mu != 0).any()):
        yield "it is taken from N(0, I), and not from the model's own prior", closed(mu, log_var)


def _as_a_sum(case: Case, theirs: Tensor) -> str:
    """Say of which sums the KL is made, where no known mistake gives it."""
    mu, log_var = (each.flatten(1).cpu().double() for each in case.posterior)
    wanted, ours = theirs.cpu().double().mean(0), case.kl.cpu().double()
    ratio = (wanted.mean() / ours.mean()).item()
    if difference(ratio * ours.unsqueeze(0), theirs).is_noise:
        return (
            f"it is {ratio:.3g} times that; a weight of the KL (beta) belongs into the objective, and not into the KL"
        )
    sums = torch.stack([mu.square().sum(1), log_var.exp().sum(1), log_var.sum(1), torch.ones_like(wanted)], 1)
    found = torch.linalg.lstsq(sums, wanted.unsqueeze(1), driver="gelsd").solution
    if not difference((sums @ found).T, theirs).is_noise:
        return "no mistake that is known here reproduces it"
    a, b, c, d = found.squeeze(1).tolist()
    return (
        f"it is {a:.3g} sum mu^2 {b:+.3g} sum sigma^2 {c:+.3g} sum log sigma^2 {d:+.3g}, where the closed form has "
        f"0.5, +0.5, -0.5 and {-0.5 * mu.shape[1]:+.3g}"
    )


# --- the batch ---


def batch(case: Case) -> Finding | None:
    """Is an image's bound its own? No noise that the batch shares, and no other image that it depends on."""
    if not case.sound:
        return None
    at = int(case.log_likelihood.std(0).argmax())
    rows = torch.full((DRAWS,), at, device=case.x.device)
    values = torch.stack([_of_pixels(case, rows) for _ in range(4)])
    inside, between = values.std(1).mean().item(), values.mean(1).std().item()
    ours = case.log_likelihood[:, at].std().item()
    if ours > 1e-3 and inside < 1e-3 * ours and between > 1e-2 * ours:
        return ill(
            "noise",
            f"{DRAWS} copies of one image in a batch get the same log likelihood (spread {inside:.2g} nats), and "
            f"another one in the next batch (spread {between:.2g}): one draw of noise serves the whole batch",
        )
    if others := _others_that_matter(case):
        return ill(
            "batch",
            f"the bound of an image depends on other images of its batch ({others} of {DRAWS - 1}): its code is "
            "theirs, or a statistic of the batch is in it",
        )
    return well("batch", f"each image has noise of its own: the log likelihood of one varies by {inside:.2f} nats")


def _of_pixels(case: Case, rows: Tensor) -> Tensor:
    """Return the bound's log likelihood of some images, or its ELBO where that is one number."""
    elbo, log_likelihood, _ = case.bound(case.x[rows], None if case.y is None else case.y[rows])
    return elbo if log_likelihood is None else log_likelihood


def _others_that_matter(case: Case) -> int:
    """Return how many other images the bound of the second image of a batch depends on, by its gradient."""
    other = case.with_data(case.x[:DRAWS].clone(), None if case.y is None else case.y[:DRAWS])
    if not other.x.is_floating_point():
        return 0
    other.x.requires_grad_(True)
    with torch.enable_grad():
        elbo, _, _ = other.bound(other.x, other.y)
        gradient = torch.autograd.grad(elbo[1], other.x, allow_unused=True)[0] if elbo.requires_grad else None
    moves = torch.zeros(DRAWS) if gradient is None else (gradient.flatten(1) != 0).any(1)
    return int(moves.sum()) - int(moves[1])
