"""The likelihood p(x|z) as a named object: what the numbers that a decoder returns mean.

A decoder returns one number for each pixel. A likelihood says what it parameterizes (a logit, a mean, a location), and
from it computes the log probability, the mean image and a sampled image. To add one, write a class with the same
methods and give an object of it to `vaelib.vae.VAE`; `Likelihood` is the list of what is needed.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib._pixels import check_finite, check_unit_interval
from vaelib.contract import Likelihood
from vaelib.distributions import (
    bernoulli_log_prob,
    gaussian_log_prob,
    standard_normal,
    where_to_draw,
)
from vaelib.networks import BOUNDED, check_positive_integer, check_positive_number, final_layer


def _is_or_is_named(self: Likelihood, other: object) -> bool:
    """Return whether `other` is this object or its name: ``model.likelihood == "bernoulli"`` reads well."""
    return self is other or (isinstance(other, str) and other == self.name)


class Bernoulli(nn.Module):
    """Each pixel is 1 with probability ``s(l)``, else 0; the decoder returns logits ``l``, any real numbers.

    ``log p(x|z) = sum_d (x_d log s(l_d) + (1 - x_d) log(1 - s(l_d)))``, ``s`` the logistic function.

    Source:
        Kingma and Welling (2014), appendix C.1; chapter 7.
    """

    name = "bernoulli"

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z) of pixels in [0, 1], which are not checked here; see `bernoulli_log_prob`."""
        return bernoulli_log_prob(x, decoded, check=False)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the probability of a 1, ``s(l)``."""
        return torch.sigmoid(decoded)

    def sample(self, decoded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw pixels that are 0 or 1."""
        probability = torch.sigmoid(decoded).to(where_to_draw(decoded, generator))
        return torch.bernoulli(probability, generator=generator).to(decoded.device)

    def start(self, mean: Tensor) -> Tensor:
        """Return the logits of a mean image; a pixel that is never on would need an infinite one."""
        return torch.logit(mean, eps=1e-3)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError unless every pixel lies in [0, 1]."""
        check_unit_interval(x)

    def check_decoder(self, decoder: nn.Module) -> None:
        """Refuse a decoder that ends in Sigmoid, Tanh, Softmax or the like.

        Raises:
            ValueError: for such a decoder; it says what to do.
        """
        last = final_layer(decoder)
        if isinstance(last, BOUNDED):
            raise ValueError(
                f"the decoder ends in {type(last).__name__}, and a Bernoulli likelihood takes logits, which are any "
                "real numbers: leave that layer out (model.mean turns logits into pixels), or choose "
                "likelihood='gaussian'"
            )

    __eq__, __hash__ = _is_or_is_named, nn.Module.__hash__


class Gaussian(nn.Module):
    """Each pixel is normal with one standard deviation for all; the decoder returns the means.

    ``p(x|z) = N(x; mean, sigma^2 I)``, a density: its logarithm may be positive.

    Args:
        sigma: the standard deviation, or "learned" for one number that is trained with the model, from 1.

    Raises:
        ValueError: for a sigma that is not a positive number.

    Source:
        Kingma and Welling (2014), appendix C.2; chapter 7.
    """

    name = "gaussian"

    def __init__(self, sigma: float | str = 1.0) -> None:
        super().__init__()
        self.log_sigma: Tensor
        if isinstance(sigma, str) and sigma == "learned":
            self.register_parameter("log_sigma", nn.Parameter(torch.tensor(0.0, device="cpu")))
        else:
            self.register_buffer(
                "log_sigma",
                torch.tensor(math.log(check_positive_number("sigma", sigma, " or 'learned'")), device="cpu"),
            )

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z), a log density; see `gaussian_log_prob`."""
        return gaussian_log_prob(x, decoded, 2 * self.log_sigma)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the means as they are."""
        return decoded

    def sample(self, decoded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``mean + sigma eps``; the pixels may leave [0, 1]."""
        return decoded + self.log_sigma.exp() * standard_normal(decoded.shape, decoded, generator)

    def start(self, mean: Tensor) -> Tensor:
        """Return the mean image as it is."""
        return mean

    def check(self, x: Tensor) -> None:
        """Raise a ValueError for a pixel that is no finite number."""
        check_finite(x)

    def extra_repr(self) -> str:
        """Say what sigma is."""
        return f"sigma={self.log_sigma.exp().item():g}{', learned' if self.log_sigma.requires_grad else ''}"

    __eq__, __hash__ = _is_or_is_named, nn.Module.__hash__


class DiscretisedLogistic(nn.Module):
    """Each pixel is one of `levels` grey values; the decoder returns the location m of a logistic variable.

    The value x gets the probability of the interval around it, of width ``1 / (levels - 1)``; the intervals of 0 and of
    1 are open to the outside, so that the probabilities sum to 1:
    ``p(x|z) = s((x + h - m) / scale) - s((x - h - m) / scale)``, ``h = 1 / (2 (levels - 1))``, ``s`` the logistic
    function. It is a probability, and never above 1, where the Gaussian of the same pixels is a density.

    Args:
        levels: how many grey values there are; pixels are multiples of ``1 / (levels - 1)``.
        scale: where the logistic's scale starts; it is trained with the model.

    Raises:
        ValueError: for fewer than two levels, or a scale that is not a positive number.

    Source:
        Kingma et al. (2016), section 5.2 (inverse autoregressive flow), after Salimans et al. (2017).
    """

    name = "discretised_logistic"

    def __init__(self, levels: int = 256, scale: float = 0.1) -> None:
        super().__init__()
        check_positive_integer("levels - 1", levels - 1)
        self.levels = int(levels)
        self.log_scale = nn.Parameter(torch.tensor(math.log(check_positive_number("scale", scale)), device="cpu"))

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z) of pixels that are multiples of ``1 / (levels - 1)``: ``(..., D) -> (...)``, in nats."""
        x, decoded = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in (x, decoded))
        half = 0.5 / (self.levels - 1)
        precision = torch.exp(-self.log_scale)
        upper, lower = (x + half - decoded) * precision, (x - half - decoded) * precision
        # log(s(b) - s(a)) = log s(b) + log s(-a) + log(1 - exp(a - b)): no difference of two rounded sigmoids.
        width = 2 * half * precision
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        ends = torch.where(x < half, F.logsigmoid(upper), F.logsigmoid(-lower))
        return torch.where((x < half) | (x > 1 - half), ends, inside).sum(-1)

    def mean(self, decoded: Tensor) -> Tensor:
        """Return E[x|z], the sum over j from 1 of ``P(x >= j / (levels - 1)) / (levels - 1)``.

        Where the scale is no smaller than a level, the sum is the integral of these probabilities within 1e-4.
        """
        steps, scale = self.levels - 1, torch.exp(self.log_scale)
        if scale * steps >= 1 and steps > 16:
            return scale * (F.softplus(decoded / scale) - F.softplus((decoded - 1) / scale))
        total = torch.zeros_like(decoded)
        for j in range(1, self.levels):
            total = total + torch.sigmoid((decoded - (j - 0.5) / steps) / scale)
        return total / steps

    def sample(self, decoded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw grey values: a logistic variable, rounded to the nearest level."""
        device = where_to_draw(decoded, generator)
        uniform = torch.rand(decoded.shape, dtype=decoded.dtype, device=device, generator=generator)
        x = decoded + self.log_scale.exp() * torch.logit(uniform.to(decoded.device), eps=1e-6)
        return (x.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)

    def start(self, mean: Tensor) -> Tensor:
        """Return the mean image as it is: the location of a narrow logistic is its mean."""
        return mean

    def check(self, x: Tensor) -> None:
        """Check that every pixel is one of the levels.

        Raises:
            ValueError: that gives the first pixel that is none.
        """
        check_unit_interval(x, "a discretised logistic likelihood")
        grid = x.double() * (self.levels - 1)
        away = (grid - grid.round()).abs()
        # A thousandth of a level: float32 stores k / 255 a hundred times more exactly.
        if away.numel() and away.max() > 1e-3:
            index = tuple((away > 1e-3).nonzero()[0].tolist())
            given = "x" if x.dtype in (torch.float32, torch.float64) else "x.float()"
            coarse = self.levels != 17 and bool((16 * x.double()).frac().abs().max() < 1e-6)
            raise ValueError(
                f"pixel {index} is {x[index].item():g}, which is none of the {self.levels} levels k / "
                f"{self.levels - 1}: "
                + ("they are multiples of 1 / 16: DiscretisedLogistic(levels=17); or " if coarse else "")
                + f"round with ({given} * {self.levels - 1}).round() / {self.levels - 1}"
            )

    def extra_repr(self) -> str:
        """Say the levels and the scale."""
        return f"levels={self.levels}, scale={self.log_scale.exp().item():g}"
