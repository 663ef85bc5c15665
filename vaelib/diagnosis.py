"""A doctor for variational autoencoders: what a colleague would look at first in a model that fails.

`diagnose` computes the bound once more from `encode` and `decode`, compares it term by term with the model's own
`elbo`, and then looks at networks, likelihood, codes, data and training. No verdict without its number.
"""

import math
import textwrap
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vaelib import _bounds, _draws, _histories
from vaelib import _examinations as look
from vaelib._case import Case, Finding, copied, enough, found, in_short, leaving_no_trace, like, paired, some
from vaelib._inputs import Array, Images, images_and_labels, training_examples
from vaelib._parts import named
from vaelib._run import History
from vaelib.contract import Likelihood, needed
from vaelib.networks import check_positive_integer, first_tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Finding", "Report", "diagnose"]

_MOST = 5000  # images of training, on which a history is checked


def _wrapped(line: str) -> str:
    """Break a line where a page of the book ends."""
    return textwrap.fill(line, 80, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True)
class Report:
    """What `diagnose` found; ``str(report)`` is what it prints.

    Attributes:
        title: which model, how many images, and both terms of the ELBO.
        findings: one of each examination: ``name``, ``ill`` and ``text``, a sentence with its numbers.
        pictures: what `plot` draws, as arrays.
    """

    title: str
    findings: tuple[Finding, ...]
    pictures: dict[str, Any] = field(repr=False, default_factory=dict)

    @property
    def illnesses(self) -> tuple[Finding, ...]:
        """The findings that are ill. Begin with the first: others may follow from it."""
        return tuple(each for each in self.findings if each.ill)

    def __str__(self) -> str:
        """Return the report as text, the illnesses first."""
        n = len(self.illnesses)
        verdict = f"{n} {'illness' if n == 1 else 'illnesses'}, begin with the first:" if n else "No illness found."
        lines = [f"  ! {each.name}: {each.text}" for each in self.illnesses]
        others = [f"    {each.name}: {each.text}" for each in self.findings if not each.ill]
        seen = ["Looked at, without an illness:"] if others else []
        return "\n".join(map(_wrapped, [self.title, verdict, *lines, *seen, *others]))

    def plot(self, axes: "Sequence[Axes] | None" = None) -> "tuple[Axes, Axes, Axes]":
        """Draw KL by latent dimension, the aggregate posterior beside the prior, and images with reconstructions.

        Args:
            axes: three to draw on, if not a figure of its own.

        Raises:
            ValueError: where there is nothing to draw, since the diagnosis ended before there were codes.
        """
        from matplotlib import pyplot as plt

        from vaelib import figures

        if not self.pictures:
            raise ValueError("there is nothing to draw: the diagnosis ended before there were codes")
        if axes is None:
            axes = plt.subplots(1, 3, figsize=(9.6, 2.6), width_ratios=(1, 1, 1.3), layout="constrained")[1]
        (units, spread, images), of = axes, self.pictures
        order = np.argsort(of["kl"])[::-1]
        places = np.arange(1, len(order) + 1)
        units.bar(places, of["kl"][order], color=figures.CLASS_COLOURS[0])
        units.set(xlabel="latent dimension, by KL", ylabel="KL (nats)")
        spread.axhspan(-1, 1, color=figures.GREY, alpha=0.2, linewidth=0, label="prior")
        colour = figures.CLASS_COLOURS[3]
        spread.errorbar(places, of["mean"][order], of["sd"][order], fmt="o", color=colour, label="aggregate posterior")
        spread.set(xlabel="latent dimension, by KL", ylabel="z, mean and standard deviation")
        spread.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
        pairs, rows = of["pairs"], ["image", "mean"]
        figures.image_grid(pairs, len(pairs) // 2, row_labels=rows, ax=images, vmin=of["low"], vmax=of["high"])
        return units, spread, images


def diagnose(
    model: nn.Module,
    data: Images,
    y: Array | None = None,
    *,
    train: Images | tuple[Images, Array] | None = None,
    history: History | Sequence[float] | Sequence[tuple[float, float]] | None = None,
    likelihood: Likelihood | str | None = None,
    n_images: int = 500,
    generator: torch.Generator | None = None,
    show: bool = True,
) -> Report:
    """Look a model over on some images, print what was found in plain words, and return it.

    First the bound is computed again, from ``encode`` and ``decode`` alone:
    ``L(theta, phi; x) = 1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z))``, ``z_l = mu + exp(log_var / 2) eps_l``, with
    L = 16 draws for each image and the KL in closed form. Where a term of the model's own ``elbo`` is more than five
    standard errors away, it is compared with what known mistakes would give, and what reproduces it is named.
    Then: importance weights and samples, gradients, logits, sigma, collapse, whether the code and the condition are
    used, the aggregate posterior ``1/N sum_n q(z|x_n)`` against the prior, and how training went. Where the bound is
    wrong, what supposes it is left out.

    A copy of the model is looked at, in eval mode: the model, its mode and gradients and the global generators stay as
    they are. The same noise is drawn at each call. What the model refuses about the images is a finding, too.

    Args:
        model: a VAE, a CVAE, or a module with ``encode(x) -> (mu, log_var)``, ``decode(z)``, which returns logits or
            means, and ``elbo(x)``; ``log_weights``, ``iwae_bound`` and ``sample`` are looked at where it has them.
        data: images ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, D)``, best some that training has not seen, or ImageData,
            whose labels are a CVAE's conditions.
        y: the conditions of a CVAE, ``(N, ...)``.
        train: the images of training, or a pair of these and their conditions: for overfitting, other preprocessing,
            and images in both.
        history: from `fit`, or the ELBO of each epoch, alone or in pairs with that of held-out images.
        likelihood: p(x|z), a name or an object of `vaelib.likelihoods`, for a model that has none of its own.
        n_images: how many images to take, at random.
        generator: of the noise.
        show: whether to print the report.

    Shapes:
        a `Report`, its numbers in nats per image.

    Raises:
        TypeError: for a model without these methods or a likelihood, whose methods return something else, or no images.
        ValueError: for fewer than 16 images, here or of training, or a history without an epoch.

    Source:
        Kingma and Welling (2014), equation 7; Burda et al. (2016), section 5 (active units); Hoffman and Johnson (2016)
        (aggregate posterior); chapter 13.
    """
    if isinstance(model, nn.Module) and not hasattr(model, "elbo") and hasattr(model, "encode"):
        raise TypeError(
            f"{type(model).__name__} has no bound to look at: write `def elbo(self, x)`, which returns "
            "ElboTerms(log_likelihood, kl), one number for each image in both; an autoencoder has none"
        )
    needed(model, "encode", "decode", "elbo", by="diagnose")
    check_positive_integer("n_images", n_images)
    curves = None if history is None else _histories.curves_of(history)
    given = getattr(model, "likelihood", None) if likelihood is None else likelihood
    if given is None:
        raise TypeError("diagnose needs p(x|z): likelihood='bernoulli' (decode returns logits), or vaelib.likelihoods")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, not a {type(generator).__name__}")
    enough(images_and_labels(data)[0], "", n_images)
    if (pair := paired(train)) is not None:
        enough(images_and_labels(pair[0])[0], " of training")
    device = first_tensor(model).device
    noise = torch.Generator(device=device).manual_seed(0) if generator is None else generator
    with leaving_no_trace(device):
        twin = copied(model)
        try:
            x, y = training_examples(twin, data, y)
            seen = None if pair is None else like(x, *training_examples(twin, *pair))
        except ValueError as reason:
            report = Report(type(model).__name__, (found("pixels", "the model refuses these images", str(reason)),))
        else:
            report = _examined(Case(twin, *some(x, y, n_images), deepcopy(named(given)), noise), x, seen, curves)
    if show:
        print(report)
    return report


def _examined(case: Case, x: Tensor, train: Any, curves: Any) -> Report:
    """Make one examination after the other, those of the bound first: much of the rest supposes that it is right."""
    title = f"{type(case.model).__name__}, {len(case.x):,} images of {case.pixels.shape[1]:,} pixels"
    try:
        case.bound()
    except (ValueError, RuntimeError) as reason:
        return Report(title, (found("bound", "elbo fails on these images", in_short(reason)),))
    data, broken = look.pixels(case), look.finite(case)
    if broken is not None or (data.ill and case.is_bernoulli):
        return Report(title, (data,) if broken is None else (data, broken))
    bound = [_bounds.steady(case)]
    for examination in (_bounds.log_likelihood, _bounds.kl, _bounds.batch):
        if not any(each is not None and each.ill for each in bound) or examination is _bounds.kl:
            bound.append(examination(case))
    sound = not any(each is not None and each.ill for each in bound)
    bound += [] if sound or any(each is not None and each.name == "batch" for each in bound) else [_bounds.mixing(case)]
    rest = [look.gradients, look.inputs, look.modes, look.logits, look.means, look.likelihood_sigma, look.posterior]
    rest += [look.code, look.condition, look.mean_image, look.aggregate, _draws.samples]
    rest += [_draws.weights, look.parts] if sound else []
    findings = [data, *bound, *(examination(case) for examination in rest)]
    if train is not None:
        findings += [_histories.preprocessing(x, train[0]), _histories.overlap(x, train[0])]
        findings += [_histories.overfitting(case, case.of(*some(train[0], train[1], len(case.x))))]
    if curves is not None:
        measured = None if train is None else case.of(*some(train[0], train[1], _MOST)).elbo
        findings += [_histories.breaks(case, curves) or (_histories.end(case, curves, measured) if sound else None)]
    terms = f"log likelihood {case.log_likelihood.mean().item():.2f} - KL {case.kl.mean().item():.2f}"
    title = f"{title}: ELBO {case.elbo:.2f} +- {case.error:.2f} nats = {terms}"
    return Report(title, tuple(each for each in findings if each is not None), _pictures(case))


def _pictures(case: Case) -> dict[str, Any]:
    """Return what a report draws: KL, mean and standard deviation by latent dimension, images and reconstructions."""
    mean, covariance = look.moments(case)
    reconstructions = case.likelihood.mean(case.decode(case.posterior.mu))
    pairs = torch.cat([case.pixels[:5], reconstructions[:5]]).float().cpu().numpy()
    side = math.isqrt(case.pixels.shape[1])
    shape: tuple[int, ...] = tuple(case.x.shape[1:]) if case.x.ndim > 2 else (side, side)
    if math.prod(shape) != case.pixels.shape[1] or (len(shape) == 3 and shape[0] not in (1, 3)):
        shape = (1, case.pixels.shape[1])
    low, high = min(0.0, float(pairs[:5].min())), max(1.0, float(pairs[:5].max()))
    units = {"kl": case.kl_by_unit.mean(0), "mean": mean, "sd": covariance.diagonal().sqrt()}
    arrays = {name: each.cpu().numpy() for name, each in units.items()}
    return arrays | {"pairs": pairs.reshape(len(pairs), *shape).clip(low, high), "low": low, "high": high}
