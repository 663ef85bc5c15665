"""What the explorer asks of its models: sizes that agree, the mean images at a code, and the codes of images."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelib import pretrained
from vaelib.data import ImageData
from vaelib.networks import evaluating, first_tensor


def by_title(model: nn.Module | str | Mapping[str, nn.Module | str]) -> dict[str, Any]:
    """Return the models by title, loaded where they were named.

    Args:
        model: a model, the name of one that ships, or a dict of several.

    Raises:
        ValueError: for an empty dict, and for a name that does not ship.
        TypeError: for what is no model with a decoder.
    """
    chosen = dict(model) if isinstance(model, Mapping) else {model if isinstance(model, str) else "decoded": model}
    if not chosen:
        raise ValueError("there is no model to explore: give one, or a dict of them")
    models = {name: pretrained.load(each) if isinstance(each, str) else each for name, each in chosen.items()}
    for name, each in models.items():
        wanted = ("decode", "data_dim", "latent_dim")
        if not (isinstance(each, nn.Module) and all(hasattr(each, attribute) for attribute in wanted)):
            raise TypeError(
                f"{name!r} is a {type(each).__name__}: the explorer takes a VAE, a CVAE or an Autoencoder, the name of "
                "a shipped model, or a dict of these"
            )
    return models


def check_data(data: object) -> None:
    """Check that data are nothing, or images whose labels fit into a byte each.

    Raises:
        ValueError: for no image, and for labels outside 0 to 255.
        TypeError: for what is no ImageData.
    """
    if not isinstance(data, ImageData | None):
        raise TypeError(f"data is a {type(data).__name__}: give ImageData(name, images, labels), or nothing")
    if data is not None and not len(data):
        raise ValueError("data hold no image: give some, or nothing in place of data")
    if data is not None and not 0 <= int(data.labels.min()) <= int(data.labels.max()) <= 255:
        raise ValueError(f"labels reach from {data.labels.min()} to {data.labels.max()}: number them from 0 to 255")


def common_sizes(models: Mapping[str, Any], data: ImageData | None) -> tuple[tuple[int, int, int], int, int]:
    """Return the shape of the images, the number of latent dimensions and that of the classes (0 without any).

    Args:
        models: the models by title.
        data: images of the same shape, or None.

    Raises:
        ValueError: for models that differ in these, whose conditions are known to be no classes, and for images that
            can't be shown.
    """
    for name, each in models.items():
        if getattr(each, "_takes_classes", None) is False:
            raise ValueError(
                f"the conditions of {name!r} are vectors, no classes: the explorer has a choice of classes alone. A "
                "CVAE that is told a scene's azimuth is moved by vaelib.widgets.SceneExplorer(model)"
            )
    sizes = {
        name: (_image_shape(each.data_dim, data), each.latent_dim, getattr(each, "condition_dim", 0))
        for name, each in models.items()
    }
    if len(set(sizes.values())) > 1:
        raise ValueError(f"models side by side need the same (image shape, latent_dim, condition_dim), not {sizes}")
    return next(iter(sizes.values()))


def class_names(number: int, data: ImageData | None) -> list[str]:
    """Return the names of a CVAE's classes: those of the data, where these have as many, else their numbers."""
    names = None if data is None else data.classes
    return list(names) if names is not None and len(names) == number else [str(k) for k in range(number)]


def _image_shape(data_dim: Any, data: ImageData | None) -> tuple[int, int, int]:
    """Return channels, height and width of a model's images: as it says, as the data are, or those of a square."""
    if not isinstance(data_dim, numbers.Integral):
        shape = tuple(int(size) for size in data_dim)
    elif data is not None and data.images.ndim > 2:
        shape = tuple(data.images.shape[1:])
    else:
        side = math.isqrt(int(data_dim))
        if side * side != data_dim:
            raise ValueError(f"{data_dim} pixels are no square: give data, whose images have a height and a width")
        shape = (side, side)
    shape = (1, *shape) if len(shape) == 2 else shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"images of shape {shape}: the explorer shows grey (1, H, W) and colour (3, H, W) alone")
    if math.prod(shape) != math.prod(np.atleast_1d(data_dim).tolist()):
        raise ValueError(f"the data's images have shape {shape}, and the model's data_dim is {data_dim}")
    return shape


@torch.no_grad()
def mean_images(model: Any, z: NDArray[np.floating] | list[list[float]], labels: list[int] | None = None) -> Tensor:
    """Return E[x|z], or an autoencoder's reconstruction, computed in the model's own type and on its device.

    The model decodes in eval mode and is then in the mode that it was in.

    Args:
        model: a VAE, a CVAE or an Autoencoder.
        z: the codes.
        labels: the class of each, for a CVAE.

    Shapes:
        ``(n, K) -> (n, D)``, float32 on the CPU.
    """
    like = first_tensor(model)
    given = () if labels is None else (torch.tensor(labels, device=like.device),)
    with evaluating(model):
        decoded = model.decode(torch.as_tensor(np.asarray(z)).to(like), *given)
        images = model.mean(decoded) if hasattr(model, "mean") else decoded
    return images.float().cpu().flatten(1)


@torch.no_grad()
def codes(model: Any, data: ImageData) -> NDArray[np.float16]:
    """Return the codes of images, ``(N, K)``: the posterior means, or an autoencoder's codes.

    The model encodes in eval mode and is then in the mode that it was in.

    Args:
        model: a VAE, a CVAE or an Autoencoder.
        data: the images, and the labels that are a CVAE's conditions.

    Raises:
        ValueError: as ``model.encode`` does.
    """
    device = first_tensor(model).device
    given = (data.labels.to(device),) if hasattr(model, "condition_dim") else ()
    with evaluating(model):
        encoded = model.encode(data.images.to(device), *given)
    return getattr(encoded, "mu", encoded).float().cpu().numpy().astype(np.float16)
