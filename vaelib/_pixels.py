"""What pixels have to be, and for those that are not, the remedy that fits the case."""

import torch
from torch import Tensor


def check_unit_interval(x: Tensor) -> None:
    """Check that every pixel is a real number between 0 and 1.

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
        raise ValueError(f"a pixel is {high:g}, beyond 1: {_divided(high)}, so that the pixels lie in [0, 1]")
    if low >= -1 and high <= 1:
        raise ValueError(
            f"a pixel is {low:g}, below 0: a Bernoulli likelihood needs [0, 1]; for [-1, 1] use (x + 1) / 2"
        )
    raise ValueError(
        f"pixels reach from {low:g} to {high:g}: a Bernoulli likelihood needs [0, 1]. Undo what was done to them (for "
        "standardised pixels x * std + mean, with the numbers that were used), or choose likelihood='gaussian'"
    )


def check_float_pixels(x: Tensor) -> None:
    """Raise a ValueError that names the remedy for pixels of a whole-number type.

    Shapes:
        any.

    Raises:
        ValueError: for such pixels; booleans are taken for 0 and 1.
    """
    if not x.dtype.is_floating_point and x.dtype != torch.bool:
        high = x.max().item() if x.numel() and not x.is_meta else 255
        raise ValueError(f"pixels are {x.dtype}: convert them to float and {_divided(high)}")


def _divided(high: float) -> str:
    """Return by what whole-number pixels up to `high` have to be divided, as far as that can be told."""
    if high == 1:
        return "leave them as they are: x.float()"
    if 1 < high <= 16:
        return "divide by 16, as scikit-learn's digits need it (by their largest possible value, if that is another)"
    return f"divide by {255 if high <= 255 else 65535 if high <= 65535 else 'their largest possible value'}"


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
