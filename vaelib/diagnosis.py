"""A doctor for variational autoencoders: what a colleague would look at first in a model that fails.

`diagnose` computes the bound once more from `encode` and `decode`, compares it term by term with the model's own
`elbo`, and then looks at networks, likelihood, codes, data and training. No verdict without its number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vaelib import _bounds, _draws, _examinations, _histories
from vaelib._case import Case, Finding, Refused, examples, ill, leaving_no_trace, some
from vaelib._histories import Curves
from vaelib._inputs import Array, Images
from vaelib._parts import named
from vaelib._run import History
from vaelib.contract import Likelihood, needed
from vaelib.evaluation import mean_elbo
from vaelib.networks import check_positive_integer, first_tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Finding", "Report", "diagnose"]

# In this order: what is wrong with the arithmetic explains much of what comes after.
_LOOKS: tuple[Callable[[Case], Finding | None], ...] = (
    *(_examinations.pixels, _bounds.steady, _bounds.log_likelihood, _bounds.kl, _bounds.batch, _draws.weights),
    *(_draws.samples, _examinations.orientation, _examinations.gradients, _examinations.inputs, _examinations.modes),
    *(_examinations.logits, _examinations.likelihood_sigma, _examinations.posterior, _examinations.collapse),
    *(_examinations.code, _examinations.condition, _examinations.mean_image, _examinations.reconstruction),
    *(_examinations.aggregate, _examinations.parts, _examinations.posterior_gap),
)
_OF_THE_BOUND = {"batch", "noise", "log likelihood", "KL"}
_MOST = 5000  # images of training, on which a history is checked


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
        return "\n".join([self.title, verdict, *lines, *(["Without a verdict:"] if others else []), *others])

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
        units, spread, images = axes
        of, order = self.pictures, np.argsort(self.pictures["kl"])[::-1]
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
    standard errors away, it is compared with what known mistakes would give, and the one that reproduces it is named.
    Then: importance weights and samples, gradients, untrained parts, logits, sigma, collapse, what the code and the
    condition are worth, the aggregate posterior ``1/N sum_n q(z|x_n)`` against the prior, and how training went.

    A copy of the model is looked at, in eval mode: the model, its mode and gradients and the global generators stay as
    they are. The same noise is drawn at each call. What the model refuses about the images is a finding, too.

    Args:
        model: a VAE, a CVAE, or a module with ``encode(x) -> (mu, log_var)``, ``decode(z)``, which returns logits or
            means, and ``elbo(x)``; ``log_weights``, ``iwae_bound`` and ``sample`` are looked at where it has them.
        data: images ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, D)``, best some that training has not seen, or ImageData,
            whose labels are a CVAE's conditions.
        y: the conditions of a CVAE, ``(N, ...)``.
        train: the images of training, or a pair of these and their conditions: for overfitting, and images in both.
        history: from `fit`, or the ELBO of each epoch, alone or in pairs with that of held-out images.
        likelihood: a name or an object of `vaelib.likelihoods`; without it the model's own, or the one that reproduces
            the model's numbers.
        n_images: how many images to take, at random.
        generator: of the noise.
        show: whether to print the report.

    Shapes:
        a `Report`, its numbers in nats per image.

    Raises:
        TypeError: for a model without these methods, or whose methods return something else, and for no images.
        ValueError: for fewer than 16 images, another number of conditions, or a history without an epoch.

    Source:
        Kingma and Welling (2014), equation 7; Burda et al. (2016), section 5 (active units); Hoffman and Johnson (2016)
        (aggregate posterior); chapter 13.
    """
    needed(model, "encode", "decode", "elbo", by="diagnose")
    check_positive_integer("n_images", n_images)
    curves = None if history is None else _histories.curves_of(history)
    device = first_tensor(model).device
    noise = torch.Generator(device=device).manual_seed(0) if generator is None else generator
    given = None if likelihood is None else named(likelihood)
    with leaving_no_trace(device):
        try:
            x, conditions = examples(model, data, y)
            seen = None if train is None else examples(model, *(train if isinstance(train, tuple) else (train, None)))
        except Refused as reason:
            report = Report(type(model).__name__, (ill("pixels", f"the model refuses these images: {reason}"),))
        else:
            report = _examined(Case(model, *some(x, conditions, n_images), given, noise), x, seen, curves)
    if show:
        print(report)
    return report


def _examined(case: Case, x: Tensor, train: tuple[Tensor, Tensor | None] | None, curves: Curves | None) -> Report:
    """Make one examination after the other, once the bound can be computed and its numbers are numbers."""
    title = f"{type(case.model).__name__}, {len(case.x):,} images of {case.pixels.shape[1]:,} pixels"
    try:
        case.reported  # noqa: B018
    except (ValueError, RuntimeError) as reason:
        return Report(title, (ill("bound", f"elbo fails on these images: {reason}"),))
    if (broken := _examinations.numbers(case) or _examinations.range_of_pixels(case)) is not None:
        return Report(title, (broken,))
    found: list[Finding] = []
    for look in _LOOKS:
        if (finding := look(case)) is not None:
            found.append(finding)
            case.sound = case.sound and not (finding.ill and finding.name in _OF_THE_BOUND)
    terms = f"log likelihood {case.log_likelihood.mean().item():.2f} - KL {case.kl.mean().item():.2f}"
    title = f"{title}: ELBO {case.elbo:.2f} +- {case.error:.2f} nats = {terms}"
    return Report(title, (*found, *_of_training(case, x, train, curves)), _examinations.pictures(case))


def _of_training(
    case: Case, x: Tensor, train: tuple[Tensor, Tensor | None] | None, curves: Curves | None
) -> list[Finding]:
    """Compare with the images of training, and with what training reported."""
    found, measured = [], []
    if train is not None:
        found += [_histories.against_training(case, case.with_data(*some(*train, len(case.x))))]
        found += [_histories.overlap(x, train[0])]
    if train is not None and curves is not None:
        there = case.with_data(*some(*train, _MOST))
        measured = [mean_elbo(case.model, there.x, there.y), there.elbo]
    return found if curves is None else [*found, _histories.history(case, curves, measured)]
