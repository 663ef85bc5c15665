"""A decoder as the browser computes it: its layers described, their numbers as bytes, and proof that this is all."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelib.widgets._models import mean_images

_LARGEST = float(np.finfo(np.float16).max)
# By the name of p(x|z): what the browser does to what the last layer gives.
_OUTPUTS = {"bernoulli": "sigmoid", "gaussian": "mean", "discretised_logistic": "logistic"}


class _Layer(NamedTuple):
    """One linear layer, ``weight (outputs, inputs)`` and ``bias (outputs,)``, and the activation behind it.

    Or a transposed convolution as `vaelib.networks.conv_decoder` has them, ``weight (C_in, C_out, 4, 4)``, which takes
    images of the height and width `size` and gives them of twice that.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: str = "none"
    size: tuple[int, int] | None = None


class _NotHereError(Exception):
    """The reason why a decoder is computed in Python."""


def describe(name: str, model: Any, start: int, span: float) -> tuple[dict[str, Any], bytes]:
    """Return what the browser must know of a decoder, and its weights as float16, row by row, bias behind weight.

    A decoder that the browser can't compute has no layers, no bytes and a reason, ``why``. It can compute the layers of
    `vaelib.networks.mlp` and, without BatchNorm, `conv_decoder`; that they give the model's mean images is tried out.

    Args:
        name: the title of the model.
        model: a VAE, a CVAE or an Autoencoder.
        start: the place of its first number among those of all decoders.
        span: the codes that are tried out lie within +-span.
    """
    output: dict[str, Any] = {"output": _OUTPUTS.get(_likelihood(model), "mean")}
    try:
        if output["output"] == "logistic":
            output["scale"] = math.exp(model.likelihood.log_scale.item())
        layers = _layers(getattr(model, "decoder", None))
        if hasattr(model, "mean") and _likelihood(model) not in _OUTPUTS:
            raise _NotHereError(f"the browser does not know the mean of its likelihood, {_likelihood(model)}")
        _check(model, layers, output, span)
    except _NotHereError as reason:
        return {"name": name, **output, "layers": [], "why": str(reason)}, b""
    described = []
    numbers = b""
    for weight, bias, activation, size in layers:
        place: dict[str, Any] = {"start": start + len(numbers) // 2, "activation": activation}
        if size is None:
            outputs, inputs = weight.shape
        else:
            pixels = math.prod(size)
            inputs, outputs = weight.shape[0] * pixels, weight.shape[1] * 4 * pixels
            place |= {"channels": list(weight.shape[:2]), "size": list(size)}
        described.append({"inputs": inputs, "outputs": outputs, **place})
        numbers += weight.astype("<f2").tobytes() + bias.astype("<f2").tobytes()
    return {"name": name, **output, "layers": described}, numbers


def _likelihood(model: Any) -> str:
    likelihood = getattr(model, "likelihood", "none")
    return str(getattr(likelihood, "name", likelihood))


def _layers(decoder: object) -> list[_Layer]:
    if not isinstance(decoder, nn.Sequential):
        kind = "has no decoder" if decoder is None else f"has a decoder of its own kind, {type(decoder).__name__}"
        raise _NotHereError(f"it {kind}, not a sequence of linear layers and activations")
    layers: list[_Layer] = []
    shape: tuple[int, ...] = ()  # of the images between the layers, where they are images
    for module in decoder:
        activation = _activation(module)
        if isinstance(module, nn.Linear) and not shape:
            layers.append(_Layer(_array(module.weight), _array(module.bias, module.out_features)))
        elif isinstance(module, nn.Unflatten) and module.dim == 1 and layers and not shape:
            shape = tuple(module.unflattened_size)
        elif isinstance(module, nn.ConvTranspose2d) and len(shape) == 3 and _doubles(module):
            bias = _array(module.bias, module.out_channels)
            layers.append(_Layer(_array(module.weight), bias, size=(shape[1], shape[2])))
            shape = (module.out_channels, 2 * shape[1], 2 * shape[2])
        elif activation is None:
            text = str(module) if isinstance(module, nn.LeakyReLU) else type(module).__name__
            raise _NotHereError(f"its decoder contains {text}")
        elif not layers or layers[-1].activation != "none":
            raise _NotHereError(f"in its decoder {type(module).__name__} does not follow a linear layer")
        else:
            layers[-1] = layers[-1]._replace(activation=activation)
    if not layers:
        raise _NotHereError("its decoder is empty")
    return layers


def _doubles(layer: nn.ConvTranspose2d) -> bool:
    """Return whether a transposed convolution is one of those of `vaelib.networks.conv_decoder`."""
    found = layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation, layer.groups
    return found == ((4, 4), (2, 2), (1, 1), (0, 0), (1, 1), 1)


def _activation(module: nn.Module) -> str | None:
    if isinstance(module, nn.LeakyReLU) and module.negative_slope == 0.2:
        return "leaky_relu"
    return {nn.ReLU: "relu", nn.Tanh: "tanh"}.get(type(module))  # type: ignore[call-overload]


def _array(numbers: Tensor | None, size: int = 0) -> NDArray[np.float32]:
    return np.zeros(size, np.float32) if numbers is None else numbers.detach().float().cpu().numpy()


def _check(model: Any, layers: list[_Layer], output: dict[str, Any], span: float) -> None:
    """Raise the reason where the layers alone don't give the model's mean images, at eight codes of any class.

    A model may do more in its `decode` or `mean` than its decoder's layers say, or hold numbers that float16 can't.
    """
    if not all(np.abs(part).max(initial=0) <= _LARGEST for layer in layers for part in (layer.weight, layer.bias)):
        raise _NotHereError(f"it has weights that float16 can't hold, NaN or beyond {_LARGEST:g}")
    draws = np.random.default_rng(0)
    classes = getattr(model, "condition_dim", 0)
    z = draws.uniform(-span, span, (8, model.latent_dim)).astype(np.float32)
    labels = draws.integers(0, classes, 8) if classes else None
    rows = z if labels is None else np.concatenate([z, np.eye(classes, dtype=np.float32)[labels]], 1)
    try:
        found = _run(layers, output, rows)
    except (ValueError, RuntimeError):  # sizes that don't fit together: decode prepares what the decoder gets
        found = np.full((), math.nan)
    wanted = mean_images(model, z, None if labels is None else labels.tolist()).numpy()
    # A hundredth of the range of images can't be seen; float16 and bfloat16 differ by more.
    dtype = next(model.decoder.parameters()).dtype
    tolerance = max(0.01, 50 * torch.finfo(dtype).eps) * max(1.0, float(np.abs(wanted).max(initial=0)))
    if found.shape != wanted.shape or not np.abs(found - wanted).max() <= tolerance:
        raise _NotHereError("its images come from more than the layers of its decoder")


def _run(layers: list[_Layer], output: dict[str, Any], rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Do what ``static/explorer.js`` does."""
    for weight, bias, activation, size in layers:
        if size is None:
            rows = rows @ weight.T + bias
        else:
            images = torch.from_numpy(rows).reshape(len(rows), len(weight), *size)
            spread = F.conv_transpose2d(images, torch.from_numpy(weight), torch.from_numpy(bias), stride=2, padding=1)
            rows = spread.flatten(1).numpy()
        if activation == "tanh":
            rows = np.tanh(rows)
        elif activation != "none":
            rows = np.maximum(rows, 0.2 * rows if activation == "leaky_relu" else 0)
    if output["output"] == "logistic":
        scale = output["scale"]
        return scale * (np.logaddexp(0, rows / scale) - np.logaddexp(0, (rows - 1) / scale))
    return (1 + np.tanh(rows / 2)) / 2 if output["output"] == "sigmoid" else rows
