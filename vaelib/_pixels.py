"""What pixels have to be, and for those that are not, the remedy that fits the case."""

from contextlib import suppress
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray
_REMEDIES = {
    "DataLoader": "gather its batches: images = torch.cat([batch for batch, *_ in loader])",
    "DataFrame": "give its numbers: frame.to_numpy(dtype='float32')",
    "Series": "give its numbers: series.to_numpy()",
    "Dataset": "gather its images: images = torch.stack([image for image, *_ in dataset])",
    "MaskedArray": "say what is to stand where it is masked: call .filled(0)",
    "ImageData": "give its images, data.images (fit and what evaluates take it whole)",
    "str": "read the pictures first: images = vaelib.data.from_folder(path)",
    "PurePath": "read the pictures first: images = vaelib.data.from_folder(path)",
    "_spbase": "make an ordinary array of it: call .toarray()",  # SciPy's sparse matrices and arrays
}


def as_tensor(values: object, name: str = "images") -> Tensor:
    """Return an array, a tensor or a list of real numbers as a tensor, on the device where it is.

    Args:
        values: what a caller gave.
        name: what an error calls it.

    Shapes:
        any.

    Raises:
        ValueError: for a single number.
        TypeError: for anything else, and for tensors and arrays that don't hold a real number at each place (sparse,
            masked, complex); it names the one line that helps.
    """
    if isinstance(values, list | tuple):
        array = _of_numbers(values)
        values = values if array is None else array
    if isinstance(values, Real) or (isinstance(values, Tensor | np.ndarray) and values.ndim == 0):
        raise ValueError(f"{name} are a single number, {values}: give them in a list, as [{values}]")
    if isinstance(values, Tensor):
        if values.layout != torch.strided:
            raise TypeError(f"{name} are a sparse tensor; make an ordinary one of it: call .to_dense()")
        if values.is_quantized:
            raise TypeError(f"{name} are a quantized tensor; make an ordinary one of it: call .dequantize()")
        if values.is_complex():
            raise TypeError(f"{name} are {_COMPLEX}")
        return values
    if isinstance(values, np.ndarray | np.generic) and not isinstance(values, np.ma.MaskedArray):
        if values.dtype.kind == "c":
            raise TypeError(f"{name} are {_COMPLEX}")
        if values.dtype.kind in "biuf":
            # Files in network order, and numbers of 80 bits, give arrays that PyTorch can't read.
            kind = values.dtype.newbyteorder("=") if values.dtype.itemsize <= 8 else np.dtype("float64")
            return torch.from_numpy(np.ascontiguousarray(values, dtype=kind))
    raise TypeError(f"{name} are {_described(values)}; {_remedy(values, name)}")


def rows_as_tensor(values: object, name: str = "images") -> Tensor:
    """Return what `as_tensor` takes, or a list of tensors or arrays of one shape, as a tensor.

    Shapes:
        any.

    Raises:
        TypeError: as `as_tensor` does.
    """
    if isinstance(values, list | tuple):
        with suppress(ValueError, TypeError, RuntimeError):  # of several shapes, on a GPU, with a gradient
            array = np.asarray(values)
            values = array if array.dtype.kind in "biufc" else values
    return as_tensor(values, name)


def first_rows(n: Integral, images: Tensor) -> Tensor:
    """Return the indices of the first n images, or of all where there are fewer.

    Raises:
        ValueError: for a negative n, which would count from the end.
    """
    if int(n) < 0:
        raise ValueError(f"rows is {n}: give how many of the first images, from 0 on, or their indices in a tensor")
    return torch.arange(min(int(n), len(images)), device=images.device)


def check_unit_interval(x: Tensor, likelihood: str = "a Bernoulli likelihood") -> None:
    """Check that every pixel is a real number between 0 and 1.

    Args:
        x: the pixels.
        likelihood: what an error says needs them so.

    Shapes:
        Any.

    Raises:
        ValueError: that names the remedy, for integers, for NaN or infinity, and for a pixel outside [0, 1].
    """
    check_float_pixels(x)
    if x.numel() == 0:
        return
    # One pass over the data where all is well: no comparison holds where a pixel is NaN.
    low, high = (bound.item() for bound in torch.aminmax(x))
    if low >= 0 and high <= 1:
        return
    check_finite(x)
    whole = bool((x == x.round()).all())
    if low >= 0 and (whole or 16 < high <= 255):
        raise ValueError(f"a pixel is {high:g}, beyond 1: {divided(high)}, so that the pixels lie in [0, 1]")
    if low >= -1 and high <= 1:
        raise ValueError(f"a pixel is {low:g}, below 0: {likelihood} needs [0, 1]; for [-1, 1] use (x + 1) / 2")
    raise ValueError(
        f"pixels reach from {low:g} to {high:g}: {likelihood} needs [0, 1]. Undo what was done to them (for "
        "standardised pixels x * std + mean, with the numbers that were used), or choose likelihood='gaussian'"
    )


def check_float_pixels(x: Tensor) -> None:
    """Raise a ValueError that names the remedy for pixels of a whole-number type.

    Shapes:
        any.

    Raises:
        ValueError: for such pixels; booleans are taken for 0 and 1.
    """
    if x.dtype.is_floating_point or x.dtype == torch.bool:
        return
    # Not every whole-number type knows its minimum and maximum.
    low, high = (bound.item() for bound in torch.aminmax(x.cpu().double())) if x.numel() and not x.is_meta else (0, 255)
    if low < 0 and x.dtype == torch.int8:
        remedy = "bytes above 127 have become negative: x.view(torch.uint8).float() / 255"
    elif low < 0:
        remedy = f"bring them to [0, 1]: (x.float() - {low:.0f}) / {high - low:.0f}"
    else:
        remedy = f"convert them to float and {divided(high, 127 if x.dtype == torch.int8 else 255)}"
    raise ValueError(f"pixels are {x.dtype}: {remedy}")


def divided(high: float, byte: int = 255) -> str:
    """Return by what whole-number pixels up to `high` have to be divided, as far as that can be told.

    Args:
        high: the highest pixel.
        byte: the highest that a byte of this type holds.
    """
    if high == 1:
        return "leave them as they are: x.float()"
    if 1 < high <= 16:
        return "divide by 16, as scikit-learn's digits need it (by their largest possible value, if that is another)"
    return (
        f"divide by {byte if high <= byte else 65535 if high <= 65535 else f'their largest possible value, {high:g}'}"
    )


def check_finite(x: Tensor) -> None:
    """Check that every pixel is a finite number.

    Shapes:
        Any.

    Raises:
        ValueError: that gives the index of the first NaN or infinity.
    """
    # One pass over the data where all is well: minimum and maximum are NaN or infinite where a pixel is.
    if x.numel() == 0 or torch.isfinite(torch.stack(torch.aminmax(x))).all():
        return
    index = tuple((~torch.isfinite(x)).nonzero()[0].tolist())
    raise ValueError(f"pixel {index} is {x[index].item()}: every pixel must be a finite number")


_COMPLEX = "complex numbers; take real ones, such as their size: call abs() on them"


def _described(values: object) -> str:
    kind = type(values).__name__
    if isinstance(values, list | tuple):
        return f"a {kind} of {type(values[0]).__name__}" if values else f"an empty {kind}"
    if type(values) is np.ndarray:
        return f"an array of {values.dtype}"
    return f"{'an' if kind[0] in 'AEIOaeio' else 'a'} {kind}"


def _of_numbers(values: list[Any] | tuple[Any, ...]) -> np.ndarray | None:
    """Return a list of numbers, or of lists of numbers of one length, as an array; None for any other."""
    first: Any = values
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if not isinstance(first, Real | np.generic):
        return None
    with suppress(ValueError):
        array = np.asarray(values)
        return array if array.dtype.kind in "biuf" else None
    return None


def _remedy(values: Any, name: str) -> str:
    word = "y" if name == "conditions" else name
    if isinstance(values, list | tuple) and values:
        return _remedy_of_a_list(values, word)
    if word in ("y", "labels") and isinstance(values, np.ndarray) and values.size and isinstance(values.flat[0], str):
        return _remedy_of_a_list(values.ravel(), word)
    if isinstance(values, np.ndarray) and values.dtype == object and values.size:
        if isinstance(values.flat[0], np.ndarray | list | tuple):
            return f"make one array of those that it holds: numpy.stack({word})"
        return f"make an array of numbers of it: {word}.astype('float32')"
    parents = [parent.__name__ for parent in type(values).__mro__]
    known = (_REMEDIES[each] for each in parents if each in _REMEDIES)
    return next(known, "give a tensor, a NumPy array of numbers or ImageData")


def _remedy_of_a_list(values: Any, word: str) -> str:
    first = values[0]
    if isinstance(first, str) and word in ("y", "labels"):
        return f"give the number of each class: {word} = torch.tensor([sorted(set({word})).index(n) for n in {word}])"
    if isinstance(first, str | PurePath):
        return _REMEDIES["str"]
    is_pillow = type(first).__module__.startswith("PIL")
    shapes = [each.size if is_pillow else _shape(each) for each in values]
    in_colour = len(shapes[0]) == 3 and shapes[0][0] in (1, 3, 4) and len(shapes[-1]) == 3
    if word == "images" and len(values) == 2 and shapes[0] != shapes[1] and not (is_pillow or in_colour):
        return "give the two apart: the images alone, and y=y where the model takes conditions"
    if len(set(shapes)) > 1:
        other = next(each for each in shapes if each != shapes[0])
        return f"bring them to one shape first: among them are {shapes[0]} and {other}"
    if is_pillow:
        return f"make one array of them: numpy.stack([numpy.asarray(each.convert('L')) for each in {word}]) / 255"
    kind, library = ("tensor", "torch") if isinstance(first, Tensor) else ("array", "numpy")
    return f"make one {kind} of them: {library}.stack({word})"


def _shape(one: Any) -> tuple[int, ...]:
    return (len(one),) if isinstance(one, list | tuple) else tuple(getattr(one, "shape", ()))
