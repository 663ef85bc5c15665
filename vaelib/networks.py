"""Multilayer perceptrons, and the one check that every model makes of the images it is given."""

import numbers
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from vaelib.distributions import check_finite, check_unit_interval

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
}


def mlp(sizes: Sequence[int], activation: str = "relu", generator: torch.Generator | None = None) -> nn.Sequential:
    """Return a multilayer perceptron: linear layers with an activation between them and none after the last.

    ``h_0 = x; h_l = g(W_l h_{l-1} + b_l)``; the last layer has no ``g``. Weights are uniform in +-1/sqrt(fan_in),
    biases start at zero.

    Shapes: the network maps ``(..., sizes[0]) -> (..., sizes[-1])``.
    Raises: ValueError for fewer than two sizes, a size that is not a positive whole number, an unknown activation.
    Source: chapter 5.
    """
    if len(sizes) < 2:
        raise ValueError(f"a network needs an input and an output size, not {tuple(sizes)}")
    for size in sizes:
        check_positive_integer("a layer size", size)
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        with torch.no_grad():
            linear.weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            linear.bias.zero_()
        layers += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def check_positive_integer(name: str, value: object) -> None:
    """Raise a ValueError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def flatten_images(x: Tensor | np.ndarray, data_dim: int, like: Tensor, unit_interval: bool) -> Tensor:
    """Return images as rows, in the type of the parameter `like`, after checking what can go wrong with them.

    Shapes: ``(N, H, W)``, ``(N, 1, H, W)`` or ``(N, D) -> (N, D)`` with ``D = data_dim = H W``.
    Raises: ValueError for other shapes, integer pixels, a NaN or an infinity (its index is given), images on another
    device than the model and, with `unit_interval` (Bernoulli models), pixels outside [0, 1].
    """
    x = torch.as_tensor(x)
    accepted = (x.ndim == 2) or x.ndim == 3 or (x.ndim == 4 and x.shape[1] == 1)
    if not accepted or x.shape[1:].numel() != data_dim:
        raise ValueError(
            f"images have shape {tuple(x.shape)}: this model takes (N, {data_dim}), or (N, H, W) or (N, 1, H, W) "
            f"with H x W = {data_dim}"
        )
    if x.device != like.device:
        raise ValueError(f"images are on {x.device} and the model on {like.device}: call x.to({str(like.device)!r})")
    if not x.dtype.is_floating_point and x.dtype != torch.bool:
        raise ValueError(f"pixels are {x.dtype}: convert them to float and divide by 255")
    if unit_interval:
        check_unit_interval(x)
    else:
        check_finite(x)
    return x.reshape(x.shape[0], data_dim).to(like.dtype)
