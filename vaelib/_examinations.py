"""Is a model well? Its data, networks, likelihood, codes and training: one examination after the other.

Each takes a `Case` and returns a `Finding`, or None where there is nothing to look at. A number becomes an illness at a
threshold that stands beside its reason. What is notable in nats is said once, in `Case.notable`. All were set on some
models of the digits and measured on others.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._case import CODES, Case, Finding, Probabilities, ill, well

# With these steps of Adam a part of the model is tried: has it still something to learn?
_STEPS, _RATE = 20, 2e-3
_RANDOM = nn.modules.dropout._DropoutNd
_MOVING = nn.modules.batchnorm._BatchNorm


# --- data ---


def numbers(case: Case) -> Finding | None:
    """Is every weight, and every number that encode and decode return, finite?"""
    named = [*case.model.named_parameters(), *case.model.named_buffers()]
    named += [
        ("mu", case.posterior.mu),
        ("log_var", case.posterior.log_var),
        ("what is decoded", case.decode(case.z[0])),
    ]
    for name, tensor in named:
        if tensor.is_floating_point() and not tensor.isfinite().all():
            n = int((~tensor.isfinite()).sum())
            return ill("weights", f"{n} of the {tensor.numel()} numbers of {name} are NaN or infinite")
    return None


def range_of_pixels(case: Case) -> Finding | None:
    """Does a Bernoulli likelihood get pixels outside [0, 1]? Then no other number means anything."""
    low, high = case.pixels.min().item(), case.pixels.max().item()
    if not case.is_bernoulli or (low >= 0 and high <= 1):
        return None
    remedy = "(x + 1) / 2 brings them there" if low >= -1 and high <= 1 else "divide them by the largest possible value"
    if low < -1:
        remedy = "undo what was done to them, or choose a Gaussian likelihood"
    return ill("pixels", f"pixels lie between {low:.3g} and {high:.3g}, and a Bernoulli takes them in [0, 1]: {remedy}")


def pixels(case: Case) -> Finding:
    """Do the pixels fit the likelihood?"""
    x, name = case.pixels, getattr(case.likelihood, "name", type(case.likelihood).__name__)
    low, high = x.min().item(), x.max().item()
    grey = ((x > low) & (x < high)).float().mean().item()
    how = f"pixels lie between {low:.3g} and {high:.3g}, their mean is {x.mean().item():.3g}; the likelihood is {name}"
    if low >= 0 and high <= 0.1:
        return ill("pixels", f"{how}: all are dark, as if divided by their largest value twice")
    if case.sigma_x is not None and grey == 0:
        return ill("pixels", f"{how}, and each pixel is one of two values: a Bernoulli likelihood is made for these")
    no_bound = ", so that the ELBO bounds no log probability" if case.is_bernoulli and grey else ""
    return well("pixels", f"{how}; {grey:.0%} lie strictly between{no_bound}")


def orientation(case: Case) -> Finding | None:
    """Are the images as those of training: not inverted, upside down, mirrored or transposed?"""
    given = _drawn(case, case.x).mean().item()
    found = {name: _drawn(case, x).mean().item() for name, x in _turned(case.x).items()}
    if not found:
        return None
    name, best = max(found.items(), key=lambda each: each[1])
    how = f"the log likelihood is {given:.2f} nats with the images as they are, and {best:.2f} with them {name}"
    # A model of symmetric things likes both ways alike. One that was trained on the other way is good at it, too.
    if best > given + case.notable and best > case.without_code.mean().item():
        return ill("orientation", f"{how}: the model seems to be trained on such images")
    return well("orientation", f"{how}, the best of the other ways round")


def _turned(x: Tensor) -> dict[str, Tensor]:
    """Return images inverted, and turned where they have rows and columns; rows of pixels may make a square."""
    found = {"inverted (1 - x)": 1 - x} if x.min() >= 0 and x.max() <= 1 else {}
    side = math.isqrt(x.shape[-1])
    if x.ndim == 2 and side**2 != x.shape[-1]:
        return found
    square = x.reshape(len(x), side, side) if x.ndim == 2 else x
    turned = {"upside down": square.flip(-2), "mirrored": square.flip(-1)}
    if square.shape[-1] == square.shape[-2]:
        turned["transposed (rows and columns exchanged)"] = square.transpose(-1, -2)
    return found | {name: each.reshape(x.shape) for name, each in turned.items()}


def _drawn(case: Case, x: Tensor, y: Tensor | None = None, kl: bool = False) -> Tensor:
    """Return the log likelihood, or the ELBO, of other images or conditions, ``(n,)``, with two draws of the noise."""
    other = case.with_data(x, case.y if y is None else y)
    log_likelihood = other.scores(other.posterior.mu + other.sigma * case.eps[:2]).mean(0)
    return log_likelihood - other.kl if kl else log_likelihood


# --- networks ---


def gradients(case: Case) -> Finding:
    """Does training reach every part? Gradients of both terms of the bound."""
    other = case.with_data(case.x, case.y, apart=True)
    named = dict(other.model.named_parameters())
    frozen = [name for name, parameter in named.items() if not parameter.requires_grad]
    other.model.requires_grad_(True)
    with torch.enable_grad():
        elbo, log_likelihood, kl = other.bound(other.x, other.y)
        whole = _gradients(elbo.mean(), named)
        encoder, decoder = _reached(_total(other.encode()), named), _reached(other.decode(case.z[0]).sum(), named)
        from_pixels = encoder if log_likelihood is None else _reached(log_likelihood.mean(), named)
        from_kl = encoder if kl is None else _reached(kl.mean(), named)
    if not any(gradient is not None for gradient in whole.values()):
        return ill("gradients", "no parameter gets a gradient from the bound: look for no_grad and detach")
    how = f"none of the {len(encoder)} parameters of the encoder gets a gradient from the"
    if encoder and not encoder & from_pixels and case.log_likelihood.std(0).mean() > 1e-4:
        return ill("gradients", f"{how} log likelihood: z is detached from q(z|x)")
    if encoder and not encoder & from_kl:
        return ill("gradients", f"{how} KL: it is detached from mu and log_var")
    still = [name for name in named if name in encoder | decoder and not _moves(whole[name])]
    if still:
        names = ", ".join(still[:4])
        return ill(
            "gradients", f"{len(still)} parameters get a gradient of exactly 0, or none, and never move: {names}"
        )
    return _dead_units(len(case.x), whole, f"; frozen are {', '.join(frozen[:4])}" if frozen else "")


def _dead_units(n: int, whole: dict[str, Tensor | None], frozen: str) -> Finding:
    """Look for units of a layer that no image moves."""
    share, name = 0.0, "any layer"
    for each, gradient in whole.items():
        if gradient is not None and gradient.ndim > 1 and len(gradient) >= 8:
            share, name = max((share, name), ((gradient.flatten(1) == 0).all(1).float().mean().item(), each))
    how = f"{share:.0%} of the units of {name} get no gradient from any of {n} images, more than elsewhere"
    # Good models of the digits do with a third of their ReLUs; a tenth is a narrower network than was meant.
    if share > 0.9:
        return ill("gradients", f"{how}: dead ReLUs{frozen}")
    return well("gradients", f"{how if share else 'every unit gets a gradient'}{frozen}")


def _total(posterior: Sequence[Tensor]) -> Tensor:
    return torch.stack([each.sum() for each in posterior]).sum()


def _gradients(total: Tensor, named: dict[str, nn.Parameter]) -> dict[str, Tensor | None]:
    if not total.requires_grad:
        return dict.fromkeys(named)
    found = torch.autograd.grad(total, list(named.values()), retain_graph=True, allow_unused=True)
    return dict(zip(named, found, strict=True))


def _reached(total: Tensor, named: dict[str, nn.Parameter]) -> set[str]:
    return {name for name, gradient in _gradients(total, named).items() if _moves(gradient)}


def _moves(gradient: Tensor | None) -> bool:
    return gradient is not None and bool((gradient != 0).any())


def inputs(case: Case) -> Finding | None:
    """Does every pixel that differs from image to image reach the encoder?"""
    x = case.x.clone()
    if not x.is_floating_point():
        return None
    with torch.enable_grad():
        total = _total(case.encode(x.requires_grad_(True), case.y))
        gradient = torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None
    varies = case.pixels.var(0) > 1e-4
    read = torch.zeros_like(varies) if gradient is None else (gradient.flatten(1) != 0).any(0)
    lost, n = int((varies & ~read).sum()), int(varies.sum())
    how = f"{n - lost} of the {n} pixels that differ from image to image reach the encoder"
    # A layer without weights for a few pixels is a choice; for a tenth of them it is a loss.
    return ill("inputs", f"{how}: what the others tell is lost") if lost > 0.1 * n else well("inputs", how)


def modes(case: Case) -> Finding | None:
    """Is the model much worse in eval mode than in train mode? Then running means do not fit."""
    if not any(isinstance(layer, _MOVING | _RANDOM) for layer in case.model.modules()):
        return None
    other = case.with_data(case.x, case.y, apart=True)
    other.model.train()
    how = f"the ELBO is {case.elbo:.2f} nats in eval mode, and {other.elbo:.2f} in train mode"
    if other.elbo > case.elbo + case.notable:
        return ill("modes", f"{how}: the running means of BatchNorm do not fit the images")
    return well("modes", how)


def parts(case: Case) -> Finding | None:
    """Were encoder and decoder trained? Each learns more from half of the images, and is tried on the others."""
    if not case.sound:
        return None  # it was trained for another bound than this one
    encoder, decoder = _gain(case, "encoder"), _gain(case, "decoder")
    if encoder is None or decoder is None:
        return None
    how = (
        f"{_STEPS} steps of Adam on half of the images raise the ELBO of the other half by {encoder:+.2f} nats where "
        f"only the encoder learns, and by {decoder:+.2f} where only the decoder does"
    )
    # Training that ended early leaves both with something to learn; a part left out gains several times the other.
    for name, gain, rest in (("encoder", encoder, decoder), ("decoder", decoder, encoder)):
        if gain > case.notable and gain > 3 * rest:
            return ill(name, f"{how}: the {name} was not trained, or not for this bound")
    return well("encoder and decoder", how + ("; training ended early" if encoder + decoder > case.notable else ""))


def _gain(case: Case, part: str) -> float | None:
    """Train a copy of one part, and return by how much the ELBO of images that it did not see rises."""
    half = len(case.x) // 2
    seen = case.with_data(case.x[:half], None if case.y is None else case.y[:half], apart=True)
    unseen = case.with_data(case.x[half:], None if case.y is None else case.y[half:])
    unseen.model = seen.model.requires_grad_(True)
    named = dict(seen.model.named_parameters())
    with torch.enable_grad():
        names = _reached(_total(seen.encode()) if part == "encoder" else seen.decode(case.z[0, :half]).sum(), named)
    if not names:
        return None
    before = _objective(unseen, case.eps[:4, half:]).item()
    optimizer = torch.optim.Adam([named[name] for name in names], lr=_RATE)
    with torch.enable_grad():
        for step in range(_STEPS):
            optimizer.zero_grad()
            (-_objective(seen, case.eps[step % len(case.eps), None, :half])).backward()
            optimizer.step()
    return _objective(unseen, case.eps[:4, half:]).item() - before


def _objective(case: Case, eps: Tensor) -> Tensor:
    """Return the mean ELBO at given noise ``(L, n, K)``, with the weights that the model has now."""
    now = case.with_data(case.x, case.y)  # nothing of which was computed with other weights
    return (now.scores(now.posterior.mu + now.sigma * eps).mean(0) - now.kl).mean()


# --- likelihood ---


def logits(case: Case) -> Finding | None:
    """Are logits logits, and not so extreme that single pixels cost many nats?"""
    if not case.is_bernoulli:
        return None
    decoded = torch.stack([case.decode(z) for z in case.z[:4]])
    low, high = decoded.min().item(), decoded.max().item()
    if isinstance(case.likelihood, Probabilities):
        return well(
            "logits", f"decode returns probabilities ({low:.2g} to {high:.2g}), and the bound takes them as such"
        )
    # The mean image alone needs logits that a confined decoder can't return.
    needed = torch.logit(case.pixels.mean(0), eps=1e-3)
    beyond = ((needed < low - 1) | (needed > high + 1)).float().mean().item()
    if beyond > 0.05 and (low >= 0 or high <= 0 or max(abs(low), abs(high)) <= 1):
        most, least = (1 / (1 + math.exp(-each)) for each in (high, low))
        return ill(
            "logits",
            f"all that is decoded lies between {low:.2f} and {high:.2f}: a sigmoid, tanh or ReLU has been over it, and "
            f"as logits these are probabilities between {least:.2f} and {most:.2f} alone",
        )
    plain = case.log_prob(decoded[0]).mean().item()
    gains = {bound: case.log_prob(decoded[0].clamp(-bound, bound)).mean().item() - plain for bound in (2, 3, 4, 6, 8)}
    bound, gain = max(gains.items(), key=lambda each: each[1])
    how = (
        f"logits lie between {low:.1f} and {high:.1f}, {(decoded.abs() > 10).float().mean().item():.0%} of them beyond "
        "10"
    )
    # Logits that are as sure as they may be lose when they are held within a bound.
    if gain > case.notable:
        return ill(
            "logits", f"{how}; held within {bound} they would be worth {gain:.2f} nats more: too sure of themselves"
        )
    return well("logits", how)


def likelihood_sigma(case: Case) -> Finding | None:
    """Does a Gaussian likelihood's sigma fit what is left between image and mean?"""
    sigma, n_pixels = case.sigma_x, case.pixels.shape[1]
    if sigma is None:
        return None
    left = math.sqrt(case.scores(case.z, case.squared_error).mean().item() / n_pixels)
    lost = n_pixels * (math.log(sigma / left) + 0.5 * (left / sigma) ** 2 - 0.5)
    how = (
        f"the likelihood has sigma {sigma:.3g}, and pixels lie {left:.3g} from their means (which costs {lost:.2f} "
        "nats)"
    )
    # A learned sigma ends at what is left on the images of training; on others a factor of two is more than that.
    if sigma < 0.5 * left:
        return ill("likelihood sigma", f"{how}: sigma is too small, the pixels drown the KL")
    if sigma > 2 * left:
        return ill("likelihood sigma", f"{how}: sigma is too large, and details that z could tell cost next to nothing")
    return well("likelihood sigma", how)


# --- codes ---


def posterior(case: Case) -> Finding:
    """Are mean and log variance of q(z|x) any real numbers, neither at a bound nor beyond what means something?"""
    mu, log_var = (each.flatten(1) for each in case.posterior)
    low, high = log_var.min().item(), log_var.max().item()
    how = f"log_var of q(z|x) lies between {low:.2f} and {high:.2f}"
    for name, values in (("mu", mu), ("log_var", log_var)):
        for end in (values.min(), values.max()):
            at = values == end
            # What is computed takes a value once; what is clamped takes its bound often, and in several dimensions.
            if at.float().mean() > 0.1 and at.any(0).sum() > 1:
                share = f"{at.float().mean().item():.0%} of {name} is exactly {end.item():.2f}"
                return ill("posterior", f"{how}, and {share}: it is clamped, or has been through a ReLU")
    if active_units(case) and mu.shape[1] > 1 and mu.min() >= 0:
        return ill(
            "posterior", f"mu of q(z|x) is never negative, {mu.min().item():.2f} at least: something keeps it so"
        )
    # Where z fills the prior, sigma^2 is 1 - Var(mu), and so log_var below -Var(mu); a quarter of that is far from it.
    told = mu.var(0)[mu.var(0) > 0.2]
    if len(told) and log_var.mean(0)[mu.var(0) > 0.2].mean() > -0.25 * told.mean():
        return ill(
            "posterior",
            f"{how}: sigma stays at the prior's also where the mean differs most from image to "
            f"image (Var(mu) = {told.mean().item():.2f}, so that log_var would be below {-told.mean().item():.2f}): it "
            "is not learned",
        )
    # Sigma of 0.0005 or 20, where the prior has 1: sharper than float32 sums can use, or wider than any image needs.
    if low < -15 or high > 6:
        return ill("posterior", f"{how}: q(z|x) runs to {'a point' if low < -15 else 'infinity'}")
    return well("posterior", f"{how}, sigma between {math.exp(low / 2):.2g} and {math.exp(high / 2):.2g}")


def active_units(case: Case) -> int:
    """Return how many latent dimensions have a mean that differs from image to image, ``Var_x(mu_k) > 0.01``."""
    return int((case.posterior.mu.flatten(1).var(0) > 0.01).sum())


def collapse(case: Case) -> Finding:
    """Does the code tell images apart? KL by dimension, active units."""
    units = case.kl_by_unit.mean(0).sort(descending=True).values
    active, k = active_units(case), len(units)
    sizes = ", ".join(f"{each:.2f}" for each in units[:8].tolist()) + (", ..." if k > 8 else "")
    how = (
        f"{active} of {k} latent dimensions are active; the KL of {case.kl.mean().item():.2f} nats is by dimension "
        f"{sizes}"
    )
    if active == 0:
        # Training gives up a KL that buys nothing, within a few steps.
        idle = ", and is not even the prior: was the encoder trained?" if case.kl.mean() > 0.05 else ""
        return ill(
            "collapse", f"{how}: q(z|x) is the same for every image, and the code says nothing, or nothing yet{idle}"
        )
    return well("collapse", how + (f"; {k - active} stay at the prior, which costs nothing" if active < k else ""))


def code(case: Case) -> Finding | None:
    """Does the decoder use the code that the encoder pays for?"""
    kl = case.kl.mean().item()
    gain = (case.log_likelihood - case.scores(case.z.roll(1, 1))).mean().item()
    how = (
        f"the code of another image costs {gain:.2f} nats of log likelihood; the KL that is paid for its own is "
        f"{kl:.2f}"
    )
    # Worth less than a fifth of its price. A collapsed code has no price.
    if kl > 0.5 and gain < 0.2 * kl:
        return ill("code", f"{how}: the decoder hardly uses what the encoder says")
    return well("code", how)


def condition(case: Case) -> Finding | None:
    """Does a model with conditions use them, and are they those of the images?"""
    if case.y is None:
        return None
    given = _drawn(case, case.x, case.y, kl=True)
    others = torch.stack([_drawn(case, case.x, y, kl=True) for y in _other_conditions(case.y)])
    best, worth = others.amax(0), (given - others.mean(0)).mean().item()
    right = (given >= best - 1e-4).float().mean().item()
    how = (
        f"the ELBO with the given conditions is {given.mean().item():.2f} nats, with others "
        f"{others.mean().item():.2f}; for {right:.0%} of the images the given one is the best of {len(others)}"
    )
    apart = (best - others.mean(0)).mean().item()
    # The best condition is far ahead of the others, and of the given one nearly as far.
    if apart > case.notable and (best - given).mean().item() > 0.5 * apart:
        return ill("condition", f"{how}: the conditions are not those of these images")
    if worth < 0.2:
        return ill("condition", f"{how}: the model ignores them, as one does that was trained on shuffled ones")
    return well("condition", f"{how}: the condition is worth {worth:.2f} nats")


def _other_conditions(y: Tensor) -> list[Tensor]:
    """Return each class as the condition of all images, or, for vectors, those of other images."""
    classes = torch.unique(y, dim=0)
    if len(classes) <= 30:
        return [each.expand_as(y).contiguous() for each in classes]
    return [y.roll(shift, 0) for shift in (1, 7, 50)]


def mean_image(case: Case) -> Finding:
    """Is the model better than one that paints the mean image?"""
    baseline = case.without_code.mean().item()
    gain = case.elbo - baseline
    how = f"the ELBO is {case.elbo:.2f} nats, and the log likelihood of the mean image {baseline:.2f}"
    if gain < -case.notable:
        return ill("mean image", f"{how}: a model without a code is better by {-gain:.2f} nats")
    if gain < case.notable:
        return well("mean image", f"{how}: the model is hardly better ({gain:+.2f} nats)")
    return well("mean image", f"{how}: the model is better by {gain:.2f} nats")


def reconstruction(case: Case) -> Finding:
    """Do reconstructions lie nearer to the images than the mean image does?"""
    error = (case.pixels - case.reconstructions).square().sum(1).mean().item()
    spread = case.pixels.var(0, unbiased=False).sum().item()
    how = f"the squared error of reconstructions is {error:.3g} an image, and that of the mean image {spread:.3g}"
    # A collapsed model paints the mean image, up to noise.
    if error > 1.1 * spread:
        return ill("reconstruction", f"{how}: reconstructions are farther away")
    return well("reconstruction", how)


def aggregate(case: Case) -> Finding:
    """Does the aggregate posterior, the average of q(z|x) over the images, match the prior?"""
    mean, sd = moments(case)
    worst, kl = int((mean.square() + (sd - 1).square()).argmax()), _kl_of_moments(case)
    how = (
        f"over the images z has means up to {mean.abs().max().item():.2f} and standard deviations of "
        f"{sd.min().item():.2f} to {sd.max().item():.2f}; a Gaussian with these moments lies {kl:.2f} nats from the "
        "prior"
    )
    # It is a part of the mean KL, and of trained models a small one; an autoencoder's codes lie anywhere.
    if kl > 1 + 0.25 * case.kl.mean().item():
        return ill(
            "aggregate posterior",
            f"{how} (dimension {worst + 1}: mean {mean[worst].item():.2f}, standard deviation {sd[worst].item():.2f}): "
            "draws from the prior are no codes of images; the KL weighs too little, or is wrong",
        )
    return well("aggregate posterior", how)


def moments(case: Case) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the aggregate posterior, in units of the prior: ``(K,)`` each."""
    centre, width = _against_prior(case)
    return centre.mean(0), (centre.var(0, unbiased=False) + width.square().mean(0)).sqrt()


def _against_prior(case: Case) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of q(z|x) in units of the prior, ``(n, K)`` each."""
    scale = torch.exp(-0.5 * case.prior.log_var)
    return ((case.posterior.mu - case.prior.mu) * scale).flatten(1), (case.sigma * scale).flatten(1)


def _kl_of_moments(case: Case) -> float:
    """Return ``KL(N(m, S) || N(0, I))``, m and S the mean and covariance of the aggregate posterior."""
    centre, width = (each.cpu().double() for each in _against_prior(case))
    k = centre.shape[1]
    covariance = torch.cov(centre.T, correction=0).reshape(k, k) + torch.diag(width.square().mean(0))
    logdet = torch.logdet(covariance + 1e-12 * torch.eye(k, dtype=torch.float64))
    return 0.5 * (covariance.trace() + centre.mean(0).square().sum() - k - logdet).item()


def posterior_gap(case: Case) -> Finding:
    """How far is q(z|x) from the true posterior? The importance-weighted bound against the ELBO."""
    few, pieces = case.few, case.few.pieces
    log_w = (pieces["x"] + pieces["p"] - pieces["q"]).cpu().double()
    tight, elbo = (torch.logsumexp(log_w, 0) - math.log(CODES)).mean().item(), log_w.mean().item()
    how = (
        f"on {len(few.x)} images L_{CODES} is {tight:.2f} nats and the ELBO {elbo:.2f}: q(z|x) lies at least "
        f"{tight - elbo:.2f} nats from the posterior"
    )
    # Trained encoders of the digits leave up to two notable differences open.
    if tight - elbo > 1 + 3 * case.notable:
        return ill("posterior gap", f"{how}: the encoder does not fit this decoder")
    return well("posterior gap", how)


def pictures(case: Case) -> dict[str, Any]:
    """Return what a report draws: KL, mean and standard deviation by latent dimension, images and reconstructions."""
    mean, sd = moments(case)
    both = torch.cat([case.pixels[:5], case.reconstructions[:5]]).float().cpu().numpy()
    side = math.isqrt(case.pixels.shape[1])
    shape: tuple[int, ...] = tuple(case.x.shape[1:]) if case.x.ndim > 2 else (side, side)
    if math.prod(shape) != case.pixels.shape[1] or (len(shape) == 3 and shape[0] not in (1, 3)):
        shape = (1, case.pixels.shape[1])
    low, high = min(0.0, float(both[:5].min())), max(1.0, float(both[:5].max()))
    units = {"kl": case.kl_by_unit.mean(0), "mean": mean, "sd": sd}
    found = {name: each.cpu().numpy() for name, each in units.items()}
    return found | {"pairs": both.reshape(len(both), *shape).clip(low, high), "low": low, "high": high}
