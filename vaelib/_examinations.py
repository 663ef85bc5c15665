"""Is a model well? Its data, networks, likelihood and codes: one examination after the other.

Each takes a `Case` and returns a `Finding`, or None where there is nothing to look at. A number becomes an illness at a
threshold that stands beside its reason; what is notable in nats is said once, in `Case.notable`. They were set on some
models of the digits and measured on others.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vaelib._case import Case, Finding, copied, found

# With these steps of Adam a part of the model is tried: has it still something to learn?
_STEPS, _RATE = 20, 2e-3


# Data


def finite(case: Case) -> Finding | None:
    """Is every weight, and every number that encode and decode return, finite?"""
    named = {**dict(case.model.named_parameters()), **dict(case.model.named_buffers())}
    weights = set(named)
    named |= {"mu": case.posterior.mu, "log_var": case.posterior.log_var, "decode": case.decode(case.z[0])}
    if bool(case.kl.isfinite().all()):  # else it is the posterior that runs to infinity, and is named there
        log_likelihood, kl = case.reported
        named |= {"elbo": log_likelihood} if case.in_one_number else {"elbo's log likelihood": log_likelihood}
        named |= {"elbo's KL": kl}
    bad = {name: int((~tensor.isfinite()).sum()) for name, tensor in named.items()}
    if (name := next((name for name in bad if bad[name]), None)) is None:  # weights first: outputs follow from them
        return None
    text = f"{bad[name]} of the {named[name].numel()} values of {name} are no numbers"
    return found("weights" if name in weights else "bound", text, "NaN or infinite")


def pixels(case: Case) -> Finding:
    """Do the pixels fit the likelihood?"""
    x, low, high = case.pixels, case.pixels.min().item(), case.pixels.max().item()
    grey = ((x > low) & (x < high)).float().mean().item()
    text = f"pixels lie between {low:.3g} and {high:.3g}, {grey:.0%} strictly between; the likelihood is {case.name}"
    if case.is_bernoulli and not 0 <= low <= high <= 1:
        remedy = "(x + 1) / 2 brings them there" if -1 <= low < 0 and high <= 1 else "divide by the largest value"
        return found("pixels", text, f"a Bernoulli takes them in [0, 1]; {remedy}, or choose a Gaussian likelihood")
    if low >= 0 and high <= 0.1:
        return found("pixels", text, "all are dark, as if divided by their largest value twice")
    if case.sigma_x is not None and grey == 0:
        return found("pixels", text, "each pixel is one of two values, for which a Bernoulli likelihood is made")
    return found("pixels", text)


# Networks


def gradients(case: Case) -> Finding:
    """Does training reach every part? Gradients of both terms of the bound."""
    other = case.of(case.x, model=copied(case.model).requires_grad_(True))
    with torch.enable_grad():
        bound, own = other.bound(), dict(other.model.named_parameters())
        whole = _moving(bound.elbo, own)
        by_pixels, by_kl = _reached(bound.log_likelihood, own), _reached(bound.kl, own)
        encoder, decoder = _reached(torch.cat(other.encode(), -1), own), _reached(other.decode(case.z[0]), own)
    if not any(whole.values()):
        return found("gradients", f"0 of {len(own)} parameters get a gradient", "look for no_grad and detach")
    for name, reached in (("log likelihood", by_pixels), ("KL", by_kl)):
        if name == "KL" and not bound.kl.any():
            continue  # that it is missing was said where it was compared
        if encoder and not encoder & reached and case.log_likelihood.std(0).mean() > 1e-4:
            text = f"0 of {len(encoder)} parameters of the encoder get a gradient from the {name}"
            return found("gradients", text, "z, or mu and log_var, are detached")
    if still := sorted(name for name in encoder | decoder if not whole.get(name)):
        text = f"{len(still)} of {len(own)} parameters get a gradient of exactly 0, such as {still[0]}"
        return found("gradients", text, "they never move")
    name = min(whole, key=whole.__getitem__)
    text = f"{1 - whole[name]:.0%} of the units of {name} get no gradient from any image, more than elsewhere"
    # Good models of the digits do with a third of their ReLUs; a tenth is a narrower network than was meant.
    return found("gradients", text, "dead ReLUs" if whole[name] < 0.1 else None)


def _moving(total: Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, float]:
    """Return for each parameter in a sum the share of its rows, which are units, that get a gradient."""
    if not total.requires_grad:
        return {}
    every = torch.autograd.grad(total.sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
    moves = {name: each != 0 for name, each in zip(parameters, every, strict=True) if each is not None}
    rows = {name: each.flatten(1).any(1) if each.ndim > 1 else each.any() for name, each in moves.items()}
    return {name: each.float().mean().item() for name, each in rows.items()}


def _reached(total: Tensor, parameters: dict[str, nn.Parameter]) -> set[str]:
    """Return the names of the parameters on which a sum depends."""
    return {name for name, share in _moving(total, parameters).items() if share}


def inputs(case: Case) -> Finding | None:
    """Does every pixel that differs from image to image reach the encoder?"""
    if not case.x.is_floating_point():
        return None
    other = case.of(case.x.clone().requires_grad_(True))
    with torch.enable_grad():
        total = torch.cat(other.encode(), -1).sum()
        gradient = torch.autograd.grad(total, other.x, allow_unused=True)[0] if total.requires_grad else None
    varies = case.pixels.var(0) > 1e-4
    read = torch.zeros_like(varies) if gradient is None else (gradient.flatten(1) != 0).any(0)
    lost, n = int((varies & ~read).sum()), int(varies.sum())
    text = f"{n - lost} of the {n} pixels that differ from image to image reach the encoder"
    # A layer without weights for a few pixels is a choice; for a tenth of them it is a loss.
    return found("inputs", text, "what the others tell is lost" if lost > 0.1 * n else None)


def modes(case: Case) -> Finding | None:
    """Is the model much worse in eval mode than in train mode? Then running means do not fit."""
    if not any(isinstance(layer, _BatchNorm) for layer in case.model.modules()):
        return None
    training = case.of(case.x, model=copied(case.model).train()).elbo
    text = f"the ELBO is {case.elbo:.2f} nats in eval mode, and {training:.2f} in train mode"
    worse = training > case.elbo + case.notable
    return found("modes", text, "the running means of BatchNorm do not fit the images" if worse else None)


def parts(case: Case) -> Finding | None:
    """Were encoder and decoder trained? Each learns more from half of the images, and is tried on the others."""
    gains = {part: _gain(case, part) for part in ("encoder", "decoder")}
    text = f"{_STEPS} steps of Adam on half of the images raise the ELBO of the others by " + " and by ".join(
        f"{gain:+.2f} nats where only the {part} learns" for part, gain in gains.items()
    )
    # Training that ended early leaves both with something to learn; a part left out gains several times the other.
    for part, rest in (("encoder", "decoder"), ("decoder", "encoder")):
        if gains[part] > max(case.notable, 3 * gains[rest]):
            return found(part, text, f"the {part} was not trained, or not for this bound and these images")
    return found("encoder and decoder", text)


def _gain(case: Case, part: str) -> float:
    """Train a copy of one part, and return by how much the ELBO of images that it did not see rises."""
    half, model = len(case.x) // 2, copied(case.model).requires_grad_(True)
    seen, unseen = case.rows(slice(half), model), case.rows(slice(half, None), model)
    own = dict(model.named_parameters())
    with torch.enable_grad():
        output = torch.cat(seen.encode(), -1) if part == "encoder" else seen.decode(case.z[0, :half])
        names = _reached(output, own)
        if not names:
            return 0.0
        before = _elbo(unseen, case.eps[:4, half:]).item()
        optimizer = torch.optim.Adam([own[name] for name in names], lr=_RATE)
        for step in range(_STEPS):
            optimizer.zero_grad()
            (-_elbo(seen, case.eps[step % len(case.eps), None, :half])).backward()
            optimizer.step()
    return _elbo(unseen, case.eps[:4, half:]).item() - before


def _elbo(case: Case, eps: Tensor) -> Tensor:
    """Return the mean ELBO at given noise ``(L, n, K)``, with the weights that the model has now."""
    now = case.of(case.x)  # nothing of which was computed with other weights
    return (now.scores(now.posterior.mu + now.sigma * eps).mean(0) - now.kl).mean()


# Likelihood


def logits(case: Case) -> Finding | None:
    """Are logits logits, and not so extreme that single pixels cost many nats?"""
    if not case.is_bernoulli:
        return None
    decoded = case.decode(case.z[0])
    low, high = decoded.min().item(), decoded.max().item()
    text = f"all that is decoded lies between {low:.2f} and {high:.2f}"
    # The mean image alone needs logits that a confined decoder can't return.
    needed = torch.logit(case.pixels.mean(0), eps=1e-3)
    beyond = ((needed < low - 1) | (needed > high + 1)).float().mean().item()
    if beyond > 0.05 and _confined(low, high):
        least, most = torch.tensor([low, high]).sigmoid().tolist()
        means = f"as logits these are probabilities between {least:.2f} and {most:.2f}"
        return found("logits", text, f"a sigmoid, tanh or ReLU has been over it; {means}")
    # Logits that are as sure as they may be lose when they are held within a bound.
    held = {bound: case.log_prob(decoded.clamp(-bound, bound)).mean().item() for bound in (2, 4, 8)}
    bound = max(held, key=held.__getitem__)
    gain = held[bound] - case.log_prob(decoded).mean().item()
    text = f"{text}; logits held within {bound} would change the log likelihood by {gain:+.2f} nats"
    return found("logits", text, "they are too sure of themselves" if gain > case.notable else None)


def _confined(low: float, high: float) -> bool:
    """Whether all that is decoded has one sign or, as of a tanh, fills [-1, 1]; of an untrained decoder it is less."""
    return low >= 0 or high <= 0 or 0.9 < max(-low, high) <= 1


def means(case: Case) -> Finding | None:
    """Can the means of another likelihood be where the pixels are?"""
    if case.is_bernoulli:
        return None
    decoded, wanted = case.likelihood.mean(case.decode(case.z[0])), case.pixels.mean(0)
    low, high, margin = decoded.min().item(), decoded.max().item(), 0.1 * case.pixels.std().item()
    beyond = ((wanted < low - margin) | (wanted > high + margin)).float().mean().item()
    text = (
        f"means lie between {low:.2f} and {high:.2f}, and those of the mean image between {wanted.min().item():.2f} "
        f"and {wanted.max().item():.2f}"
    )
    confined = beyond > 0.05 and _confined(low, high)
    return found("means", text, "a sigmoid, tanh or ReLU keeps them from the pixels" if confined else None)


def likelihood_sigma(case: Case) -> Finding | None:
    """Does a Gaussian likelihood's sigma fit what is left between image and mean?"""
    if case.sigma_x is None:
        return None
    n_pixels = case.pixels.shape[1]
    left = math.sqrt(case.scores(case.z, case.squared_error).mean().item() / n_pixels)
    lost = n_pixels * (math.log(case.sigma_x / left) + 0.5 * (left / case.sigma_x) ** 2 - 0.5)
    text = f"sigma is {case.sigma_x:.3g}, and pixels lie {left:.3g} from their means, which costs {lost:.2f} nats"
    # A learned sigma ends at what is left on the images of training; on others a factor of two is more than that.
    illness = "sigma is too small, the pixels drown the KL" if case.sigma_x < 0.5 * left else None
    if case.sigma_x > 2 * left:
        illness = "sigma is too large, and details that z could tell change next to nothing"
    return found("likelihood sigma", text, illness)


# Codes


def posterior(case: Case) -> Finding:
    """Are mean and log variance of q(z|x) any real numbers, neither at a bound nor beyond what means something?"""
    values = {name: each.flatten(1) for name, each in zip(("mu", "log_var"), case.posterior, strict=True)}
    ends = {name: (each.min().item(), each.max().item()) for name, each in values.items()}
    text = "of q(z|x) " + " and ".join(f"{name} lies between {a:.2f} and {b:.2f}" for name, (a, b) in ends.items())
    for name, end in [("mu", end) for end in ends["mu"]] + [("log_var", end) for end in ends["log_var"]]:
        at = values[name] == end
        share = at.float().mean().item()
        # What is computed takes a value once; what is clamped takes its bound often, and in several dimensions.
        if share == 1:
            constant = f"all of {name} is exactly {end + 0.0:.2f}, it is clamped or a constant, and no image changes it"
            return found("posterior", text, constant)
        if share > 0.1 and at.any(0).sum() > 1:
            clamped = f"{share:.0%} of {name} is exactly {end + 0.0:.2f}, it is clamped or went through a ReLU"
            return found("posterior", text, clamped)
    # Sigma of 0.0005 or 20, where the prior has 1: sharper than float32 sums can use, or wider than any image needs.
    low, high = ends["log_var"]
    runs = "a point" if low < -15 else "infinity" if high > 6 else None
    return found("posterior", text, f"q(z|x) runs to {runs}" if runs else None)


def code(case: Case) -> Finding:
    """Does the code tell images apart, and does the decoder use it? KL by dimension, active units, codes exchanged."""
    units = case.kl_by_unit.mean(0).sort(descending=True).values
    active, k, total = int((case.posterior.mu.flatten(1).var(0) > 0.01).sum()), len(units), units.sum().item()
    sizes = ", ".join(f"{each:.2f}" for each in units[:8].tolist()) + (", ..." if k > 8 else "")
    loss = (case.log_likelihood - case.scores(case.z.roll(1, 1))).mean().item()
    text = (
        f"{active} of {k} latent dimensions are active; the KL of {total:.2f} nats is by dimension {sizes}; the code "
        f"of another image costs {loss:.2f} nats of log likelihood"
    )
    if active == 0:
        # Training gives up a KL without a use within a few steps, and uses the code only later.
        idle = ", and is not even the prior: was the encoder trained?"
        early = idle if total > 0.05 else "; training that has only begun looks the same"
        return found("collapse", text, f"q(z|x) is the same for every image, and the code says nothing{early}")
    # Worth less than a fifth of its KL. A collapsed code has none.
    unused = total > 0.5 and loss < 0.2 * total
    return found("code", text, "the decoder hardly uses what the encoder says" if unused else None)


def condition(case: Case) -> Finding | None:
    """Does a model with conditions use them, and are they those of the images?"""
    if case.y is None:
        return None
    classes = torch.unique(case.y, dim=0)
    if len(classes) == 1:
        return found("condition", f"all {len(case.x)} images have one condition, there is no other to compare with")
    ends = [case.of(case.x, each.expand_as(case.y).contiguous()) for each in (classes[0], classes[-1])]
    (a, mu, _), (b, other, _) = ((each.decode(case.z[0]), *each.prior) for each in ends)
    if torch.equal(a, b) and torch.equal(mu, other):  # unless z alone is to bring what a prior p(z|y) knows
        text = f"of {len(classes)} conditions, the first and the last decode to the same images"
        return found("condition", text, "the decoder ignores them")
    shifted = [case.y.roll(shift, 0) for shift in (1, 7, 50)]
    tried = [each.expand_as(case.y).contiguous() for each in classes] if len(classes) <= 30 else shifted
    cases = [case.of(case.x, y) for y in tried]
    for each in cases:
        each.eps = case.eps
    others = torch.stack([each.elbos for each in cases])
    given, best, usual = (each.mean().item() for each in (case.elbos, others.amax(0), others))
    text = f"the ELBO with the given conditions is {given:.2f} nats, with others {usual:.2f}, with the best {best:.2f}"
    # The best condition is far ahead of the others, and of the given one nearly as far.
    if best - usual > case.notable and best - given > 0.5 * (best - usual):
        return found("condition", text, "the conditions are not those of these images")
    ignores = "the model ignores them, as one trained on shuffled ones does"
    # A condition may tell little; what is told at all is beyond four standard errors.
    lead = case.elbos - others.mean(0)
    little = min(0.2, 4 * lead.std().item() / math.sqrt(len(lead)))
    return found("condition", text, ignores if given - usual < little else None)


def mean_image(case: Case) -> Finding:
    """Is the model better than one that has no code and paints the mean image?"""
    baseline = case.without_code.mean().item()
    error = case.squared_error(case.decode(case.posterior.mu)).mean().item()
    spread = case.pixels.var(0, unbiased=False).sum().item()
    text = (
        f"the ELBO is {case.elbo:.2f} nats, and the log likelihood of the mean image {baseline:.2f}; the squared error "
        f"of reconstructions is {error:.3g}, and that of the mean image {spread:.3g}"
    )
    if case.elbo < baseline - case.notable:
        return found("mean image", text, f"a model without a code is better by {baseline - case.elbo:.2f} nats")
    # A collapsed model paints the mean image, up to noise.
    return found("mean image", text, "reconstructions are farther away" if error > 1.1 * spread else None)


def aggregate(case: Case) -> Finding:
    """Does the aggregate posterior, the average of q(z|x) over the images, match the prior?"""
    mean, covariance = moments(case)
    sd = covariance.diagonal().sqrt()
    logdet = torch.logdet(covariance + 1e-12 * torch.eye(len(mean), dtype=torch.float64))
    kl = 0.5 * (covariance.trace() + mean.square().sum() - len(mean) - logdet).item()
    text = (
        f"over the images z has means up to {mean.abs().max().item():.2f} and standard deviations of "
        f"{sd.min().item():.2f} to {sd.max().item():.2f}; such a Gaussian lies {kl:.2f} nats from the prior"
    )
    # It is a part of the mean KL, and of trained models a small one; an autoencoder's codes lie anywhere.
    far = kl > 1 + 0.25 * case.kl.mean().item()
    weighs = "draws from the prior are no codes of images; the KL weighs too little, or is wrong"
    return found("aggregate posterior", text, weighs if far else None)


def moments(case: Case) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of the aggregate posterior, in units of the prior: ``(K,)`` and ``(K, K)``."""
    unit = torch.exp(-0.5 * case.prior.log_var)
    both = ((case.posterior.mu - case.prior.mu) * unit, case.sigma * unit)
    centres, widths = (each.flatten(1).cpu().double() for each in both)
    covariance = torch.cov(centres.T, correction=0).reshape(2 * centres.shape[1:])  # of one dimension it is a number
    return centres.mean(0), covariance + torch.diag(widths.square().mean(0))
