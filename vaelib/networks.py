"""Multilayer perceptrons, and the one check that every model makes of the images and networks that it is given."""

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor, nn

from vaelib._pixels import check_float_pixels, rows_as_tensor

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
}
# Layers that can't return every real number.
BOUNDED = (
    *(nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Softplus),
    *(nn.ReLU, nn.ReLU6, nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax),
)
# Layers that change no number, or none in eval mode.
NEUTRAL = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.PixelShuffle, nn.Upsample)


def mlp(sizes: Sequence[int], activation: str = "relu", generator: torch.Generator | None = None) -> nn.Sequential:
    """Return a multilayer perceptron: linear layers with an activation between them and none after the last.

    ``h_0 = x; h_l = g(W_l h_{l-1} + b_l)``; the last layer has no ``g``. Weights are uniform in +-1/sqrt(fan_in),
    biases start at zero.

    Args:
        sizes: widths of the input, of the hidden layers and of the output.
        activation: "relu", "tanh" or "leaky_relu" (slope 0.2).
        generator: draws the weights; without one they come from PyTorch's global generator.

    Shapes:
        The network maps ``(..., sizes[0]) -> (..., sizes[-1])``.

    Raises:
        ValueError: for fewer than two sizes, a size that is not a positive whole number, an unknown activation.

    Source:
        Chapter 5.
    """
    if len(sizes) < 2:
        raise ValueError(f"a network needs an input and an output size, not {tuple(sizes)}")
    for size in sizes:
        check_positive_integer("a layer size", size)
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, device="cpu")
        with torch.no_grad():
            linear.weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            linear.bias.zero_()
        layers += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def check_positive_integer(name: str, value: object) -> int:
    """Return `value`, which is called `name`, as an int, after checking that it is a whole number of at least 1.

    Raises:
        ValueError: where it is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    return int(value)


def check_seed(value: object) -> int:
    """Return a seed as an int, after checking that it is a whole number from 0 to 2**32 - 1.

    Raises:
        ValueError: where it is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= int(value) < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, not {value!r}")
    return int(value)


def seeded(seed: object) -> torch.Generator:
    """Return a generator on the CPU with a checked seed."""
    return torch.Generator("cpu").manual_seed(check_seed(seed))


def check_positive_number(name: str, value: object, alternative: str = "") -> float:
    """Return `value` as a float, after checking that it is a positive and finite number.

    Raises:
        ValueError: where it is not; `alternative` says what else would do.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be a positive number{alternative}, not {value!r}")
    return float(value)


def check_shape(name: str, value: object) -> tuple[int, ...]:
    """Return the shape of one image: ``(D,)`` for a number of pixels, else ``(C, H, W)`` as given.

    Raises:
        ValueError: for what is neither a positive whole number nor three of them.
    """
    if not isinstance(value, tuple | list):
        return (check_positive_integer(name, value),)
    if len(value) != 3:
        raise ValueError(f"{name} must be a number of pixels D or a shape (C, H, W), not {value!r}")
    return tuple(check_positive_integer(f"each size in {name}", size) for size in value)


def check_widths(name: str, value: object) -> tuple[int, ...]:
    """Return the widths of layers, which are called `name`, as whole numbers of Python's, after checking them.

    Raises:
        ValueError: for what is no sequence of positive whole numbers; it says how to write one.
    """
    if isinstance(value, Tensor | np.ndarray):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a sequence of widths, such as (400,) for one hidden layer, not {value!r}")
    return tuple(check_positive_integer("a layer size", width) for width in value)


def check_images(
    x: Tensor | np.ndarray, shape: tuple[int, ...], like: Tensor, check_pixels: Callable[[Tensor], None]
) -> Tensor:
    """Return images in the shape of a model and in the type of `like`, after checking what can go wrong with them.

    Args:
        x: the images.
        shape: of one image of the model, ``(D,)`` or ``(C, H, W)``.
        like: a parameter of the model.
        check_pixels: raises for pixels that the model can't take.

    Shapes:
        ``(N, D)``, ``(N, C, H, W)`` and, where there is one channel, ``(N, H, W) -> (N, *shape)``.

    Raises:
        ValueError: for other shapes (channels last are named as such), integer pixels, images on another device than
            the model, and whatever `check_pixels` refuses.
        TypeError: for what is no array of real numbers.
    """
    x = rows_as_tensor(x)
    size = math.prod(shape)
    grey = len(shape) == 1 or shape[0] == 1
    if x.ndim == 2 or (x.ndim == 3 and grey):
        fits = tuple(x.shape[1:]) == shape[1:] if x.ndim == 3 and len(shape) == 3 else x.shape[1:].numel() == size
    else:
        fits = x.ndim == 4 and (tuple(x.shape[1:]) == shape if len(shape) == 3 else x.shape[1] == 1)
        fits = fits and x.shape[1:].numel() == size
    if not fits:
        raise ValueError(_wrong_shape(tuple(x.shape), shape, size))
    if x.device != like.device:
        raise ValueError(f"images are on {x.device} and the model on {like.device}: call x.to({str(like.device)!r})")
    check_float_pixels(x)
    check_pixels(x)
    return x.reshape(x.shape[0], *shape).to(like.dtype)


def final_layer(network: nn.Module) -> nn.Module | None:
    """Return the last layer that changes a number, where the order of the calls is known: a layer, or a Sequential."""
    if isinstance(network, nn.Sequential):
        found = (final_layer(layer) for layer in reversed(network) if not isinstance(layer, NEUTRAL))
        return next(found, None)
    return None if list(network.children()) else network


def check_module(model: object) -> None:
    """Check that a model is a module.

    Raises:
        TypeError: for a class in the place of an object of it, and for anything else; it says what to do.
    """
    if isinstance(model, type):
        raise TypeError(f"{model.__name__} is a class: give a model that is made from it, {model.__name__}(...)")
    if not hasattr(model, "parameters"):
        raise TypeError(f"the model, which comes first, must be an nn.Module, and is a {type(model).__name__}")


def first_tensor(model: nn.Module) -> Tensor:
    """Return a parameter of the model, or a buffer, that tells its type and device; a plain zero where it has none.

    Raises:
        TypeError: for a class, or for what is no module.
    """
    check_module(model)
    return next(chain(model.parameters(), model.buffers()), torch.zeros((), device="cpu"))


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models in eval mode, with each of their layers, and each of them back into its own mode at the end.

    In eval mode Dropout leaves every number alone, and BatchNorm uses the running means and leaves them as they are.
    """
    modes = [(layer, layer.training) for model in models for layer in model.modules()]
    for layer, _ in modes:
        layer.training = False
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def _wrong_shape(found: tuple[int, ...], shape: tuple[int, ...], size: int) -> str:
    """Return what is wrong with a shape and, where it holds the right number of pixels, what helps."""
    accepted = f"(N, {size}), or (N, H, W) or (N, 1, H, W) with H x W = {size}"
    if len(shape) == 3:
        accepted = f"(N, {', '.join(map(str, shape))}) or (N, {size})" + (" or (N, H, W)" if shape[0] == 1 else "")
    message = f"images have shape {found}: this model takes {accepted}"
    if len(found) != 4 or math.prod(found[1:]) != size:
        return message
    first, last = found[1:], (found[3], found[1], found[2])
    permute = ". The channels come last in yours: call x.permute(0, 3, 1, 2)"
    if last == shape or (found[3] == 1 and len(shape) == 1):
        return message + permute
    if len(shape) == 3:
        if first == (shape[2], shape[0], shape[1]):
            return f"{message}. The channels come first in yours, as they should: make the model with data_dim={first}"
        return message
    if found[1] != 3 and (found[3] == 3 or (found[3] == 4 and found[1] != 4)):
        return f"{message}{permute}, and make the model with data_dim={last}"
    return f"{message}. For images in colour make the model with data_dim={first}"
