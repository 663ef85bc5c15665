"""Multilayer perceptrons and convolutional networks, and what models ask of the networks that they are given."""

import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise

import torch
from torch import Tensor, nn

from vaelib._shapes import check_positive_integer, halvings

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
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, device="cpu")
        layers += [_drawn(linear, fan_in, generator), _activation(activation)]
    return nn.Sequential(*layers[:-1])


def conv_encoder(
    data_dim: Sequence[int],
    channels: Sequence[int],
    outputs: int,
    activation: str = "relu",
    batch_norm: bool = False,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Return strided convolutions and one linear layer: each convolution halves the height and the width.

    ``h_l[o, i, j] = g(b_o + sum_{c, s, t} W_l[o, c, s, t] h_{l-1}[c, 2 i + s - 1, 2 j + t - 1])``, s and t from 0 to
    3, zeros around the image. Weights are uniform in +-1/sqrt(fan_in), biases start at zero.

    Args:
        data_dim: shape of one image (C, H, W); for a CVAE, C and the condition's width together.
        channels: how many each convolution gives, such as (32, 64); H and W must halve that often.
        outputs: numbers at the end, for a VAE two for each latent dimension: mu and log_var.
        activation: "relu", "tanh" or "leaky_relu" (slope 0.2).
        batch_norm: whether BatchNorm stands before each activation; with it an image's code depends on its batch.
        generator: draws the weights; without one they come from PyTorch's global generator.

    Shapes:
        The network maps ``(N, C, H, W) -> (N, outputs)``; between, ``(N, channels[l], H / 2^(l+1), W / 2^(l+1))``.

    Raises:
        ValueError: for sizes that don't halve, or are no positive whole numbers, and for an unknown activation.

    Source:
        Radford, Metz and Chintala (2016), section 3 (strides in place of pooling); chapter 15.
    """
    shape, widths, small = halvings(data_dim, channels)
    layers: list[nn.Module] = []
    for before, after in pairwise((shape[0], *widths)):
        layers.append(
            _drawn(nn.utils.skip_init(nn.Conv2d, before, after, 4, 2, 1, device="cpu"), 16 * before, generator)
        )
        layers += [*([nn.BatchNorm2d(after, device="cpu")] if batch_norm else []), _activation(activation)]
    return nn.Sequential(*layers, nn.Flatten(), mlp((math.prod(small), outputs), activation, generator)[0])


def conv_decoder(
    data_dim: Sequence[int],
    channels: Sequence[int],
    inputs: int,
    activation: str = "relu",
    batch_norm: bool = False,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Return the layers of `conv_encoder` in reverse: each transposed convolution doubles the height and the width.

    Args:
        data_dim: shape of one image (C, H, W).
        channels: those of the encoder, in the encoder's order.
        inputs: the numbers of a code, latent_dim; for a CVAE with the condition's width.
        activation: as in `conv_encoder`; the last layer has none.
        batch_norm: as in `conv_encoder`.
        generator: as in `conv_encoder`.

    Shapes:
        The network maps ``(N, inputs) -> (N, C, H, W)``.

    Raises:
        ValueError: as `conv_encoder` does.

    Source:
        Radford, Metz and Chintala (2016), section 3; chapter 15.
    """
    shape, widths, small = halvings(data_dim, channels)
    linear = mlp((inputs, math.prod(small)), activation, generator)[0]
    layers: list[nn.Module] = [linear, nn.Unflatten(1, small)]
    for before, after in pairwise((*widths[::-1], shape[0])):
        layers += [*([nn.BatchNorm2d(before, device="cpu")] if batch_norm else []), _activation(activation)]
        # A quarter of the 16 weights of a channel meet in each pixel.
        layer = nn.utils.skip_init(nn.ConvTranspose2d, before, after, 4, 2, 1, device="cpu")
        layers.append(_drawn(layer, 4 * before, generator))
    return nn.Sequential(*layers)


def _activation(name: str) -> nn.Module:
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


@torch.no_grad()
def _drawn(layer: nn.Module, fan_in: int, generator: torch.Generator | None) -> nn.Module:
    """Return a layer with weights uniform in +-1/sqrt(fan_in) and biases of zero; fan_in inputs meet in an output."""
    layer.weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)  # type: ignore[operator, union-attr]
    layer.bias.zero_()  # type: ignore[operator, union-attr]
    return layer


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
