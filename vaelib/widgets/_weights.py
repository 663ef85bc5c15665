"""A decoder as the browser computes it: its layers described, their numbers as bytes, and proof that this is all."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelib.widgets._models import mean_images

_LARGEST = float(np.finfo(np.float16).max)
# By the name of p(x|z): what the browser does to what the last layer gives.
_OUTPUTS = {"bernoulli": "sigmoid", "gaussian": "mean"}


class _Layer(NamedTuple):
    """One linear layer, ``weight (outputs, inputs)`` and ``bias (outputs,)``, and the activation behind it."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: str = "none"


class _NotHereError(Exception):
    """The reason why a decoder is computed in Python."""


def describe(name: str, model: Any, start: int, span: float) -> tuple[dict[str, Any], bytes]:
    """Return what the browser must know of a decoder, and its weights as float16, row by row, bias behind weight.

    A decoder that the browser can't compute has no layers, no bytes and a reason, ``why``. It can compute linear
    layers and the activations of `vaelib.networks.mlp`; that these give the model's own mean images is tried out.

    Args:
        name: the title of the model.
        model: a VAE, a CVAE or an Autoencoder.
        start: the place of its first number among those of all decoders.
        span: the codes that are tried out lie within +-span.
    """
    output = _OUTPUTS.get(_likelihood(model), "mean")
    try:
        layers = _layers(getattr(model, "decoder", None))
        if hasattr(model, "mean") and _likelihood(model) not in _OUTPUTS:
            raise _NotHereError(f"the browser does not know the mean of its likelihood, {_likelihood(model)}")
        _check(model, layers, output, span)
    except _NotHereError as reason:
        return {"name": name, "output": output, "layers": [], "why": str(reason)}, b""
    described = []
    numbers = b""
    for weight, bias, activation in layers:
        outputs, inputs = weight.shape
        place = start + len(numbers) // 2
        described.append({"inputs": inputs, "outputs": outputs, "start": place, "activation": activation})
        numbers += weight.astype("<f2").tobytes() + bias.astype("<f2").tobytes()
    return {"name": name, "output": output, "layers": described}, numbers


def _likelihood(model: Any) -> str:
    likelihood = getattr(model, "likelihood", "none")
    return str(getattr(likelihood, "name", likelihood))


def _layers(decoder: object) -> list[_Layer]:
    if not isinstance(decoder, nn.Sequential):
        kind = "has no decoder" if decoder is None else f"has a decoder of its own kind, {type(decoder).__name__}"
        raise _NotHereError(f"it {kind}, not a sequence of linear layers and activations")
    layers: list[_Layer] = []
    for module in decoder:
        activation = _activation(module)
        if isinstance(module, nn.Linear):
            layers.append(_Layer(_array(module.weight), _array(module.bias, module.out_features)))
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


def _activation(module: nn.Module) -> str | None:
    if isinstance(module, nn.LeakyReLU) and module.negative_slope == 0.2:
        return "leaky_relu"
    return {nn.ReLU: "relu", nn.Tanh: "tanh"}.get(type(module))  # type: ignore[call-overload]


def _array(numbers: Tensor | None, size: int = 0) -> NDArray[np.float32]:
    return np.zeros(size, np.float32) if numbers is None else numbers.detach().float().cpu().numpy()


def _check(model: Any, layers: list[_Layer], output: str, span: float) -> None:
    """Raise the reason where the layers alone don't give the model's mean images, at eight codes of any class.

    A model may do more in its `decode` or `mean` than its decoder's layers say, or hold numbers that float16 can't.
    """
    if not all(np.abs(part).max(initial=0) <= _LARGEST for weight, bias, _ in layers for part in (weight, bias)):
        raise _NotHereError(f"it has weights that float16 can't hold, NaN or beyond {_LARGEST:g}")
    draws = np.random.default_rng(0)
    classes = getattr(model, "condition_dim", 0)
    z = draws.uniform(-span, span, (8, model.latent_dim)).astype(np.float32)
    labels = draws.integers(0, classes, 8) if classes else None
    rows = z if labels is None else np.concatenate([z, np.eye(classes, dtype=np.float32)[labels]], 1)
    try:
        found = _run(layers, output, rows)
    except ValueError:  # sizes that don't fit together: decode prepares what the decoder gets
        found = np.full((), math.nan)
    wanted = mean_images(model, z, None if labels is None else labels.tolist()).numpy()
    # A hundredth of the range of images can't be seen; float16 and bfloat16 differ by more.
    dtype = next(model.decoder.parameters()).dtype
    tolerance = max(0.01, 50 * torch.finfo(dtype).eps) * max(1.0, float(np.abs(wanted).max(initial=0)))
    if found.shape != wanted.shape or not np.abs(found - wanted).max() <= tolerance:
        raise _NotHereError("its images come from more than the layers of its decoder")


def _run(layers: list[_Layer], output: str, rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Do what ``static/explorer.js`` does."""
    for weight, bias, activation in layers:
        rows = rows @ weight.T + bias
        if activation == "tanh":
            rows = np.tanh(rows)
        elif activation != "none":
            rows = np.maximum(rows, 0.2 * rows if activation == "leaky_relu" else 0)
    return (1 + np.tanh(rows / 2)) / 2 if output == "sigmoid" else rows
