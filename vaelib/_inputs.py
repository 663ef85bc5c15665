"""What is accepted where images are: one door for training, evaluation, codes and figures."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelib._pixels import check_finite
from vaelib.data import ImageData
from vaelib.networks import first_tensor

Array = Tensor | np.ndarray
Images = ImageData | Array

_REMEDIES = {
    "DataLoader": "gather its batches: images = torch.cat([batch for batch, *_ in loader])",
    "DataFrame": "give its numbers: frame.to_numpy(dtype='float32')",
    "Series": "give its numbers: series.to_numpy()",
    "Dataset": "gather its images: images = torch.stack([image for image, *_ in dataset])",
}


def as_tensor(values: object, name: str = "images") -> Tensor:
    """Return an array or tensor as a tensor, on the device where it is.

    Args:
        values: what a caller gave.
        name: what an error calls it.

    Raises:
        TypeError: for anything else; it names the one line that helps.
    """
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.ndarray | np.generic) and values.dtype.kind in "biuf":
        # Files in network order give arrays that PyTorch can't read.
        return torch.from_numpy(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))
    raise TypeError(f"{name} are {_described(values)}; {_remedy(values)}")


def images_and_labels(data: Images) -> tuple[Tensor, Tensor | None]:
    """Return the images, and the labels that ImageData brings."""
    if isinstance(data, ImageData):
        return data.images, data.labels
    return as_tensor(data), None


def training_examples(model: Any, data: Images, y: Array | None) -> tuple[Tensor, Tensor | None]:
    """Return checked images on the model's device, and one condition for each where the model takes conditions.

    Args:
        model: what is to be trained.
        data: images, or ImageData, whose labels are the conditions unless y is given.
        y: conditions.

    Raises:
        ValueError: for no image, another number of conditions, or what the model refuses.
        TypeError: for what are no images.
    """
    images, labels = images_and_labels(data)
    conditions = labels if y is None else as_tensor(y, "conditions")
    home = first_tensor(model).device
    images = images.to(home)
    check = getattr(model, "check", None)
    if check is None and images.is_floating_point():
        check_finite(images)
    x = images if check is None else check(images)
    if x.numel() and x.is_floating_point() and _is_dark(x[:100]) and _is_dark(x):
        high = x.max().item()
        warnings.warn(
            f"no pixel is above {high:.2g}: if they were divided by 255 twice, multiply by 255",
            UserWarning,
            stacklevel=3,
        )
    if len(x) == 0:
        raise ValueError("there are no images to train on or to validate with: the data are empty")
    if y is None and not hasattr(model, "condition_dim"):
        return x, None
    if hasattr(model, "log_weights") and not hasattr(model, "condition_dim"):
        raise TypeError(f"a {type(model).__name__} takes no condition y: for p(x|y) use vaelib.cvae.CVAE")
    if conditions is None or len(conditions) != len(x):
        raise ValueError(
            f"{len(x)} images need {len(x)} conditions y, not {None if conditions is None else len(conditions)}"
        )
    check_condition = getattr(model, "check_condition", None)
    conditions = conditions.to(home)
    return x, conditions if check_condition is None else check_condition(conditions)


def _described(values: object) -> str:
    kind = type(values).__name__
    if isinstance(values, list | tuple):
        return f"a {kind} of {type(values[0]).__name__}" if values else f"an empty {kind}"
    return f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {kind}"


def _remedy(values: object) -> str:
    if isinstance(values, list | tuple) and values:
        if isinstance(values[0], Tensor):
            return "make one tensor of them: torch.stack(images)"
        if type(values[0]).__module__.startswith("PIL"):
            return "make one array of them: numpy.stack([numpy.asarray(each) for each in images]) / 255"
        return "make one array of them: numpy.stack(images)"
    for parent in type(values).__mro__:
        if parent.__name__ in _REMEDIES:
            return _REMEDIES[parent.__name__]
    return "give a tensor, a NumPy array of numbers or ImageData"


def _is_dark(x: Tensor) -> bool:
    """Return whether no pixel is above 1/255, though one is above 0 and none below."""
    low, high = (bound.item() for bound in torch.aminmax(x))
    return low >= 0 and 0 < high <= 1.01 / 255
