"""What is accepted where images are: one door for training, evaluation, codes and figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vaelib._notices import warn
from vaelib._pixels import Array, as_tensor, check_finite, check_float_pixels
from vaelib.data import ImageData
from vaelib.networks import first_tensor

__all__ = ["Array", "Images", "as_tensor", "images_and_labels", "in_own_type", "training_examples"]
__all__ += ["naming_types", "validation_examples"]

Images = ImageData | Array


def images_and_labels(data: Images) -> tuple[Tensor, Tensor | None]:
    """Return the images, and the labels that ImageData brings."""
    if isinstance(data, ImageData):
        return as_tensor(data.images), data.labels
    return as_tensor(data), None


def in_own_type(model: Any, images: Tensor) -> Tensor:
    """Return images in the type of a model that has no ``check`` to do so: real numbers and booleans, no others."""
    like = next(model.parameters(), images)
    if hasattr(model, "check") or not like.is_floating_point():
        return images
    return images.to(like.dtype) if images.is_floating_point() or images.dtype == torch.bool else images


@contextmanager
def naming_types(x: Tensor) -> Iterator[None]:
    """Say what to do about images of a whole-number type where a model of the reader's own fails on them.

    A model without ``check`` may take such images, so that they are not refused before.

    Raises:
        ValueError: for a failure that PyTorch puts down to a type, such as that of a linear layer.
    """
    try:
        yield
    except RuntimeError as error:
        if "type" in str(error):
            try:
                check_float_pixels(x)
            except ValueError as named:
                raise named from error
        raise


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
    for name, given in (("images", images), ("conditions", conditions)):
        if given is not None and given.requires_grad:
            raise ValueError(f"the {name} require a gradient, which training would follow: call {name}.detach()")
    images = in_own_type(model, images.to(home))
    check = getattr(model, "check", None)
    if check is None and images.is_floating_point():
        check_finite(images)
    x = images if check is None else _returned(check(images), model, "check")
    warn_of_dark(x)
    warn_of_bytes(model, x)
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
    if check_condition is not None:
        conditions = _returned(check_condition(conditions), model, "check_condition")
    if hasattr(model, "_takes_classes"):  # a CVAE remembers it, for the explorers
        model._takes_classes = bool(((conditions == 0) | (conditions == 1)).all() and (conditions.sum(1) == 1).all())
    return x, conditions


def validation_examples(
    model: Any, validation: Images | tuple[Images, Array] | None, y: Array | None
) -> tuple[Tensor, Tensor | None] | None:
    """Return checked images of validation and their conditions, as `training_examples` does; None where there are none.

    Args:
        model: what is to be trained.
        validation: images, or a pair of images and conditions.
        y: the conditions of training, which replaced the labels there.

    Raises:
        ValueError: as `training_examples` does, and for a y that training has and validation has not.
        TypeError: as `training_examples` does.
    """
    if validation is None:
        return None
    if isinstance(validation, list | tuple):
        if len(validation) != 2:
            raise ValueError(f"validation has {len(validation)} parts: give images, or a pair (images, conditions)")
        return training_examples(model, *validation)
    if y is not None:
        raise ValueError("y was given, so validation needs conditions of its own: validation=(images, conditions)")
    return training_examples(model, validation, None)


def _returned(value: Any, model: Any, method: str) -> Tensor:
    """Return what a model's own check gave back, which must be a tensor: what it does not return is lost."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{type(model).__name__}.{method} returned a {type(value).__name__}: it must return what it checked, in "
            "the form that the model works on"
        )
    return value


def warn_of_dark(x: Tensor, what: str = "") -> None:
    """Warn of images that are black to the eye, as those that were divided by 255 twice are.

    Args:
        x: the images.
        what: whose they are, where that is not plain.
    """
    if x.numel() and x.is_floating_point() and _is_dark(x[:100]) and _is_dark(x):
        warn(f"no pixel{what} is above {x.max().item():.2g}: if they were divided by 255 twice, multiply by 255")


def warn_of_bytes(model: Any, x: Tensor) -> None:
    """Warn of bytes that were not divided by 255, where a Gaussian likelihood takes any real number.

    Args:
        model: what is to be trained.
        x: the images.
    """
    if getattr(getattr(model, "likelihood", None), "name", "") != "gaussian" or not x.numel():
        return
    if _are_bytes(x[:100]) and _are_bytes(x):
        warn(f"pixels are whole numbers up to {x.max().item():g}: if they are bytes, divide by 255")


def _are_bytes(x: Tensor) -> bool:
    """Return whether all pixels are whole numbers from 0 to 255, one of them above 16, the highest of the digits."""
    low, high = (bound.item() for bound in torch.aminmax(x))
    return low >= 0 and 16 < high <= 255 and bool((x == x.round()).all())


def _is_dark(x: Tensor) -> bool:
    """Return whether no pixel is above 1/255, though one is above 0 and none below."""
    low, high = (bound.item() for bound in torch.aminmax(x))
    return low >= 0 and 0 < high <= 1.01 / 255
