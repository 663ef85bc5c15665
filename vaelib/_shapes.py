"""Shapes and sizes: what images, layers and codes may have, and for those that don't fit, what helps."""

import math
import numbers
from collections.abc import Callable, Iterable

import numpy as np
from torch import Tensor

from vaelib._pixels import check_float_pixels, rows_as_tensor


def check_positive_integer(name: str, value: object) -> int:
    """Return `value`, which is called `name`, as an int, after checking that it is a whole number of at least 1.

    Raises:
        ValueError: where it is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    return int(value)


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


def halvings(data_dim: object, channels: object) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int]]:
    """Return the shape of an image, the channels of each convolution, and the shape that the last of them gives.

    Args:
        data_dim: the shape of one image (C, H, W).
        channels: of the convolutions, each of which halves the height and the width.

    Raises:
        ValueError: for what is no such shape, no channels, and for sizes that don't halve so often; it says how often
            they do.
    """
    shape = check_shape("data_dim", data_dim)
    if len(shape) != 3:
        raise ValueError(f"convolutions need images of a shape (C, H, W), such as (1, 28, 28), not data_dim={data_dim}")
    widths = check_widths("channels", channels)
    if not widths:
        raise ValueError("channels are empty: give those of each convolution, such as (32, 64)")
    _, height, width = shape
    scale = 2 ** len(widths)
    if height % scale or width % scale:
        times = min((size & -size).bit_length() - 1 for size in (height, width))
        up = tuple(-(-size // scale) * scale for size in (height, width))
        raise ValueError(
            f"{len(widths)} convolutions halve the height and the width as often, and {height} x {width} pixels halve "
            f"{times} times: give {times or 'no'} channels at most, or images of {up[0]} x {up[1]}"
        )
    return shape, widths, (widths[-1], height // scale, width // scale)


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


def _wrong_shape(found: tuple[int, ...], shape: tuple[int, ...], size: int) -> str:
    """Return what is wrong with a shape and, where it holds the right number of pixels, what helps."""
    accepted = f"(N, {size}), or (N, H, W) or (N, 1, H, W) with H x W = {size}"
    if len(shape) == 3:
        accepted = f"(N, {', '.join(map(str, shape))}) or (N, {size})" + (" or (N, H, W)" if shape[0] == 1 else "")
    message = f"images have shape {found}: this model takes {accepted}"
    if len(found) != 4 or math.prod(found[1:]) != size:
        return message + _what_helps(found[1:], shape)
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


def _what_helps(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Return what helps with images that hold another number of pixels than those of a model, in colour or grey."""
    if len(shape) != 3:
        return ""
    channels, *sides = shape
    if found == (4, *sides) or found == (*sides, 4):
        rest = "x[:, :3]" if found[0] == 4 else "x.permute(0, 3, 1, 2)[:, :3]"
        return (
            f". The fourth channel of yours is opacity: {rest} leaves it out, and data.from_folder(colour=True) shows "
            "the pictures on a background"
        )
    if channels == 3 and found in (tuple(sides), (1, *sides)):
        x = "x[:, None]" if len(found) == 2 else "x"
        return f". Yours are grey: make the model with data_dim={(1, *sides)}, or call {x}.expand(-1, 3, -1, -1)"
    if len(found) == 3 and found[0] == channels:
        return (
            f". Yours have {found[1]} x {found[2]} pixels: make the model with data_dim={found}, or bring them to size"
        )
    return ""
