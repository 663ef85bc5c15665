"""Are a model's importance weights, and the images that it samples, what they should be? As in `vaelib._bounds`."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from vaelib._bounds import Candidates, mean, scale
from vaelib._case import DRAWS, FAILURES, Case, Finding, found, in_short
from vaelib.distributions import LOG_2PI, gaussian_log_prob

_CODES, _FEW = 6 * DRAWS, 100  # codes for each of the first images


def weights(case: Case) -> Finding | None:
    """Compare the model's log weights, and its importance-weighted bound, with ours, on the first images."""
    few, agreeing = case.rows(slice(_FEW)), []
    log_weights = list(_log_weights(few))
    for name, candidates in (("log_weights", log_weights), ("iwae_bound", _bounds(log_weights[0][1]))):
        if not hasattr(case.model, name):
            continue
        try:
            theirs = torch.stack([_called(few, name, *few.given, DRAWS) for _ in range(4)])
        except FAILURES as reason:
            return _failed("importance weights", f"{name}(x, {DRAWS})", reason)
        (_, ours), *mistakes = candidates
        text = f"{name} with {DRAWS} samples is {mean(theirs)} nats on average, and ours {mean(ours)}"
        if theirs.shape[-1] != len(few.x):
            shape = f"it returns the shape {tuple(theirs.shape[1:])} for {len(few.x)} images, which come last"
            return found("importance weights", text, shape)
        if bad := int((~theirs.isfinite()).sum()):
            return found("importance weights", f"{text}; {bad} of {theirs.numel()} are no numbers", "NaN or infinite")
        theirs = theirs.flatten(0, -2)
        if not _same(ours, theirs):
            mistake = next((mistake for mistake, each in mistakes if _same(each, theirs)), None)
            return found("importance weights", text, mistake or "no mistake known here reproduces it")
        agreeing.append(text)
    return found("importance weights", f"{'; '.join(agreeing)}; they agree") if agreeing else None


def _called(case: Case, name: str, *given: Any) -> Tensor:
    """Call a method of the model, with our noise where it takes a generator."""
    method = getattr(case.model, name)
    takes = "generator" in inspect.signature(method).parameters
    return method(*given, **({"generator": case.generator} if takes else {}))


def _failed(name: str, called: str, reason: Exception) -> Finding:
    """Return what is said of a method that fails; one that takes something else is no illness."""
    return found(name, f"{called} fails: {in_short(reason)}", None if isinstance(reason, TypeError) else "it is broken")


def _same(ours: Tensor, theirs: Tensor) -> bool:
    """Whether draws for the same images, ``(L, n)`` and ``(M, n)``, come from the same distributions.

    By ranks (Mann and Whitney), since some weights are a million times others: over all pairs of draws of an image,
    theirs is as often above ours as below.
    """
    apart = theirs.cpu().unsqueeze(1) - ours.cpu().unsqueeze(0)
    above = (apart.sign() * (apart.abs() > 1e-3 + 1e-4 * ours.abs().median().cpu())).double().mean((0, 1))
    return bool(above.mean().abs() <= 5 * above.std() / math.sqrt(len(above)) + 1e-9)


def _log_weights(case: Case) -> Candidates:
    """Yield ``log p(x|z) + log p(z) - log q(z|x)``, ``(L, n)``, and, behind it, what mistakes would make of it."""
    (mu, log_var), eps = case.posterior, case.noise(_CODES)
    z, flat = mu + case.sigma * eps, log_var.flatten(1)
    p = gaussian_log_prob(z.flatten(2), *(each.flatten(1) for each in case.prior))
    x, q = case.scores(z), gaussian_log_prob(z.flatten(2), mu.flatten(1), flat)
    divided = (case.sigma * eps / log_var).flatten(2)
    yield "", x + p - q
    yield "their sign is wrong, so that the worst codes weigh most", q - x - p
    instead = "eps is taken to be (z - mu) / log_var, and is (z - mu) / exp(log_var / 2)"
    yield instead, x + p + 0.5 * (divided.square() + flat + LOG_2PI).sum(-1)
    yield "log q(z|x) is missing in them", x + p
    yield "log p(z) is missing in them", x - q
    yield "log q(z|x) is added, and not subtracted", x + p + q


def _bounds(log_w: Tensor) -> Candidates:
    """Yield the importance-weighted bound of `DRAWS` codes and, behind it, what mistakes would make of it."""
    log_w, log_k = log_w.unflatten(0, (-1, DRAWS)), math.log(DRAWS)
    bound = torch.logsumexp(log_w, 1) - log_k
    yield "", bound
    yield f"log K = {log_k:.2f} is not subtracted: it is the sum of the weights, and not their mean", bound + log_k
    yield "it does not rise with K: it is the mean of the log weights, and not the log of their mean", log_w.mean(1)
    yield "the sign of the weights is wrong, so that the worst codes weigh most", log_k - torch.logsumexp(-log_w, 1)


def samples(case: Case) -> Finding | None:
    """Does `sample` decode draws from the prior?"""
    n, width = len(case.x), torch.exp(0.5 * case.prior.log_var) * case.eps[0]
    if not hasattr(case.model, "sample"):
        return None
    try:
        theirs = torch.as_tensor(_called(case, "sample", n if case.y is None else case.y)).to(case.pixels)
        if theirs.numel() != case.pixels.numel():
            raise ValueError(f"of {n} images of {case.pixels.shape[1]} pixels it returns {tuple(theirs.shape)}")
    except FAILURES as reason:
        return _failed("samples", f"sample({n if case.y is None else 'y'})", reason)
    theirs = theirs.reshape(n, -1)
    decoded = case.decode(case.prior.mu + width)
    ours = case.likelihood.mean(decoded)
    text = f"images from sample have a mean of {_looks(theirs)}; decoded draws from the prior of {_looks(ours)}"
    if _alike(theirs, ours) or _alike(theirs, case.likelihood.sample(decoded, case.generator)):
        return found("samples", f"{text}; they agree")
    if bool((theirs == theirs[:1]).all()):
        return found("samples", text, "all of them are the same image, one z serves all")
    if _alike(theirs, decoded):
        return found("samples", text, "they are what decode returns, not turned into pixels (logits, by a sigmoid)")

    def images(times: float) -> Tensor:
        return case.likelihood.mean(case.decode(case.prior.mu + times * width))

    times = scale(lambda each: _deviation(images(each)), _deviation(theirs))
    wide = f"they are like those of codes {times:.2g} times as wide as the prior"
    other = "what is decoded is not drawn from the prior, or not by the same decoder"
    return found("samples", text, wide if _alike(theirs, images(times)) else other)


def _deviation(images: Tensor) -> float:
    return images.var(0).mean().sqrt().item()


def _looks(images: Tensor) -> str:
    return f"{images.mean().item():.3f} and a standard deviation of {_deviation(images):.3f}"


def _alike(first: Tensor, second: Tensor) -> bool:
    """Whether two sets of images have the same mean image and the same spread, up to sampling.

    Where one latent dimension moves all pixels together, that is one draw of chance, and not one a pixel: so the mean
    images may differ by four standard errors, and the variances by four of theirs and a tenth.
    """
    n, variance = len(first), first.var(0) + second.var(0) + 1e-8
    apart = (first.mean(0) - second.mean(0)).square() / (variance / n)
    ratio = 2 * math.log((_deviation(first) + 1e-5) / (_deviation(second) + 1e-5))
    return apart.mean().item() < 16 and abs(ratio) < 0.1 + 4 * math.sqrt(2 / n)
