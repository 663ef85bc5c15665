"""Are a model's importance weights, and the images that it samples, what they should be? As in `vaelib._bounds`."""

import inspect
import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaelib._bounds import Candidates, mean
from vaelib._case import CODES, DRAWS, Case, Finding, difference, ill, well
from vaelib.distributions import LOG_2PI


def weights(case: Case) -> Finding | None:
    """Compare the model's log weights, and its importance-weighted bound, with ours, on the first images."""
    few, said = case.few, []
    if not case.sound:
        return None  # their codes and terms are those of a bound that is wrong itself
    for name, what, candidates, repeats in (
        ("log_weights", "mean log weight", _log_weights(few), 1),
        ("iwae_bound", f"bound L_{DRAWS}", _bounds(few), 4),
    ):
        method = _of_samples(few, name)
        if method is None:
            continue
        theirs = torch.stack([method(DRAWS).reshape(-1, len(few.x)) for _ in range(repeats)]).flatten(0, 1)
        right = next(candidates)[1]
        how = f"the {what} of {name} is {mean(theirs)} nats, and ours {mean(right)}"
        if _same(right, theirs):
            said.append(f"{how}: they agree")
            continue
        cause = next((cause for cause, candidate in candidates if _same(candidate, theirs)), None)
        return ill("importance weights", f"{how}: {cause or 'no mistake that is known here reproduces it'}")
    return well("importance weights", "; ".join(said)) if said else None


def _same(ours: Tensor, theirs: Tensor) -> bool:
    """Whether the means are the same, of what a logarithm has tamed: some weights are a million times others."""
    scale = 1 + ours.abs().median()
    found = difference(torch.asinh(ours / scale), torch.asinh(theirs / scale))
    return abs(found.nats) <= 5 * found.error


def _log_weights(case: Case) -> Candidates:
    """Yield the log weights and, behind them, what mistakes would make of them, ``(CODES, n)``."""
    x, p, q, eps = (case.pieces[name] for name in ("x", "p", "q", "eps"))
    constant, log_var = 0.5 * eps.shape[-1] * LOG_2PI, case.posterior.log_var.flatten(1)
    apart = eps * torch.exp(0.5 * log_var)

    def density(eps: Tensor) -> Tensor:
        return -0.5 * (eps.square() + log_var + LOG_2PI).sum(-1)

    yield "", x + p - q
    yield "their sign is wrong, so that the worst codes weigh most", q - x - p
    yield "eps is taken to be (z - mu) / log_var, and is (z - mu) / exp(log_var / 2)", x + p - density(apart / log_var)
    yield (
        "eps is taken to be (z - mu) / exp(log_var), and is (z - mu) / exp(log_var / 2)",
        x + p - density(apart / log_var.exp()),
    )
    yield "log q(z|x) is missing in them", x + p
    yield "log p(z) is missing in them", x - q
    yield "log p(z) and log q(z|x) have the wrong sign", x - p + q
    yield "log q(z|x) is added, and not subtracted", x + p + q
    yield "the constant K/2 log 2 pi is missing in log q(z|x)", x + p - q - constant
    yield "the constant K/2 log 2 pi is missing in log p(z)", x + p - q + constant
    yield "log p(x|z) is a mean over the pixels in them", x / case.pixels.shape[1] + p - q


def _bounds(case: Case) -> Candidates:
    """Yield the importance-weighted bound of `DRAWS` codes and, behind it, what mistakes would make of it."""
    pieces, log_k = case.pieces, math.log(DRAWS)
    log_w = (pieces["x"] + pieces["p"] - pieces["q"])[: CODES // DRAWS * DRAWS].unflatten(0, (-1, DRAWS))
    right = torch.logsumexp(log_w, 1) - log_k
    yield "", right
    yield f"log K = {log_k:.2f} is not subtracted: it is the sum of the weights, and not their mean", right + log_k
    yield "it does not rise with K: it is the mean of the log weights, and not the log of their mean", log_w.mean(1)
    yield (
        "the sign of the weights is wrong in it, so that the worst codes weigh most",
        log_k - torch.logsumexp(-log_w, 1),
    )
    yield "its sign is wrong", -right
    yield "it is the best of the log weights, and not the log of their mean", log_w.amax(1)
    yield "log K is subtracted twice", right - log_k


def _of_samples(case: Case, name: str) -> Callable[[int], Tensor] | None:
    """Return a model's method as a function of the number of samples, or None where it can't be called so."""
    method = getattr(case.model, name, None)
    if not callable(method):
        return None
    names = set(inspect.signature(method).parameters)
    noise = {"generator": case.generator} if "generator" in names else {}
    given = (case.x,) if case.y is None else (case.x, case.y)
    if len(names - {"generator"}) <= len(given):
        return None
    return lambda n: method(*given, n, **noise)


def samples(case: Case) -> Finding | None:
    """Does `sample` decode draws from the prior?"""
    method, n = getattr(case.model, "sample", None), len(case.x)
    if not callable(method):
        return None
    noise = {"generator": case.generator} if "generator" in inspect.signature(method).parameters else {}
    theirs = method(n if case.y is None else case.y, **noise).reshape(n, -1)
    codes = case.prior.mu + torch.exp(0.5 * case.prior.log_var) * case.eps[0]
    decoded = case.decode(codes)
    ours = case.likelihood.mean(decoded)
    if theirs.shape != ours.shape:
        return ill("samples", f"sample returns images of {theirs.shape[1]} pixels, and decode of {ours.shape[1]}")
    how = (
        f"images from sample have a mean of {_looks(theirs)} from each other; decoded draws from the prior "
        f"{_looks(ours)}"
    )
    if _alike(theirs, ours) or _alike(theirs, case.likelihood.sample(decoded, case.generator)):
        return well("samples", f"{how}: they agree")
    return ill("samples", f"{how}: {_cause_in_samples(case, theirs, codes, decoded)}")


def _cause_in_samples(case: Case, theirs: Tensor, codes: Tensor, decoded: Tensor) -> str:
    """Say what makes samples other than decoded draws from the prior."""
    prior = case.prior.mu
    if bool((theirs == theirs[:1]).all()):
        return "all of them are the same image, one z serves all"
    if _alike(theirs, decoded):
        return "they are what decode returns, not turned into pixels (logits, by a sigmoid)"
    if case.is_bernoulli and _alike(theirs, torch.sigmoid(case.likelihood.mean(decoded))):
        return "a sigmoid is applied twice"
    for scale in (0.1, 0.2, 0.3, 0.5, 0.7, 1.5, 2.0, 3.0):
        if _alike(theirs, case.likelihood.mean(case.decode(prior + scale * (codes - prior)))):
            return f"they are like those of codes with {scale:g} times the prior's standard deviation"
    if _alike(theirs, case.reconstructions):
        return "they are reconstructions, and no draws from the prior"
    return "what is decoded is not drawn from the prior, or not by the same decoder"


def _looks(images: Tensor) -> str:
    return f"{images.mean().item():.3f} and lie {images.var(0).mean().sqrt().item():.3f}"


def _alike(first: Tensor, second: Tensor) -> bool:
    """Whether two sets of images have the same mean image and the same spread, up to sampling.

    Where one latent dimension moves all pixels together, that is one draw of chance, and not one a pixel: so the mean
    images may differ by four standard errors, and the variances by four of theirs and a tenth.
    """
    n, pooled = len(first), 0.5 * (first.var(0) + second.var(0)) + 1e-8
    apart = (first.mean(0) - second.mean(0)).square() / (2 * pooled / n)
    ratio = math.log((first.var(0).mean().item() + 1e-9) / (second.var(0).mean().item() + 1e-9))
    return apart.mean().item() < 16 and abs(ratio) < 0.1 + 4 * math.sqrt(2 / n)
