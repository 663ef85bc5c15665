"""Bits per dimension: what log probabilities have to be before they can be compared between images and papers."""

import math
from typing import Any, TypeVar

from torch import Tensor

from vaelib.contract import needed
from vaelib.networks import check_positive_integer

__all__ = ["bits_per_dimension"]

Number = TypeVar("Number", float, Tensor)


def bits_per_dimension(model: Any, nats: Number, levels: int | None = None) -> Number:
    """Return minus a log probability, or a bound on it, in bits per number of an image, as papers on colour state it.

    ``b = -log p(x) / (D log 2)``, D = C H W. Where p is a density, of pixels in [0, 1] that are one of `levels` values,
    it is not the probability of an image: each value stands for an interval of width ``1 / (levels - 1)``, and
    ``b = -log p(x) / (D log 2) + log2(levels - 1)``. That is a bound on the bits of the discrete image if the model was
    trained and measured with uniform noise of that width on each pixel; without noise it is an approximation, which a
    density that is peaked at the values makes as low as one likes.

    Bits can be compared between models of the same images, with the same levels and size; not between densities with
    noise and without, nor between colour and grey.

    Args:
        model: a VAE or CVAE: its likelihood says what the nats are of, its shape how many numbers an image has.
        nats: of the log probability: what `mean_elbo` returns, or `log_evidence` for each image; not their negative.
        levels: how many values a pixel can have, 256 for pictures in 8 bits; needed where the likelihood is a density,
            and 2 for a Bernoulli likelihood, which gives a probability to pixels of 0 and 1 alone.

    Shapes:
        those of `nats`.

    Raises:
        ValueError: where the likelihood's nats are a density's and there are no levels, where they are no probability
            of such pixels, and where levels are not those of the likelihood.
        TypeError: for a model without a likelihood and data_shape.

    Source:
        Theis, van den Oord and Bethge (2016), section 3.1; chapter 15.
    """
    needed(model, "likelihood", "data_shape", by="bits_per_dimension")
    likelihood = model.likelihood
    name, own = getattr(likelihood, "name", ""), getattr(likelihood, "levels", None)
    if levels is not None:
        check_positive_integer("levels - 1", levels - 1)
    bits = -nats / (math.prod(model.data_shape) * math.log(2))
    if own is not None:
        if levels not in (None, own):
            raise ValueError(f"levels={levels}, and the likelihood is one of {own} levels")
        return bits
    if name == "bernoulli":
        if levels != 2:
            raise ValueError(
                "a Bernoulli likelihood gives a probability to pixels of 0 and 1 alone: with grey ones its nats are no "
                "log probability, and have no bits. For binary pixels give levels=2; for grey ones and colour take "
                "DiscretisedLogistic(levels=256)"
            )
        return bits
    if levels is None:
        raise ValueError(
            f"the nats of a {name or type(likelihood).__name__} likelihood are of a density, which has no bits before "
            "it is said how many values a pixel can have: levels=256 for pictures in 8 bits"
        )
    return bits + math.log2(levels - 1)


bits_per_dimension.__module__ = "vaelib.evaluation"  # where readers import it from
