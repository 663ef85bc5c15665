"""What keeps a training run from being plausible and wrong: modes, randomness, failures, transforms, parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._pixels import check_finite
from vaelib.contract import Transform


class TrainingError(RuntimeError):
    """Training that had to stop: a number that is no longer finite, or memory that ran out."""


@contextmanager
def training_mode(model: nn.Module, seed: int, device: torch.device) -> Iterator[None]:
    """Train in train mode, with layers such as Dropout drawing from the seed; put modes and global generators back."""
    modes = [(layer, layer.training) for layer in model.modules()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model.train()
        try:
            yield
        finally:
            for layer, mode in modes:
                layer.training = mode


@contextmanager
def unchanged_by_failure(run: Any) -> Iterator[None]:
    """Put back the weights that a run began with where it fails before its first step is taken."""
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    try:
        yield
    except TrainingError:
        raise
    except Exception:
        if run.step == 0:
            run.model.load_state_dict(before)
        raise


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that a gradient step changes.

    Raises:
        ValueError: for none, or for parameters of a type with too few digits.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError(
            f"no parameter of this {type(model).__name__} can be trained: "
            + ("all are frozen, call model.requires_grad_(True)" if list(model.parameters()) else "it has none")
        )
    types = {parameter.dtype for parameter in parameters} - {torch.float32, torch.float64}
    if types:
        raise ValueError(f"parameters are {types.pop()}: a gradient step is lost in so few digits, call model.float()")
    return parameters


def checked_transform(transform: Transform, model: nn.Module) -> Transform:
    """Return a transform whose first batch is checked, as data are.

    Raises:
        ValueError: for another shape or number of images, and what the model refuses.
        TypeError: for what is no tensor.
    """
    unseen = True

    def checked(x: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal unseen
        changed = transform(x, generator)
        if unseen:
            unseen = False
            if not isinstance(changed, Tensor):
                raise TypeError(
                    f"transform returned a {type(changed).__name__}: it must return a tensor like its input"
                )
            if changed.dtype != x.dtype:
                raise ValueError(f"transform returned {changed.dtype} for {x.dtype}: call .to(x.dtype) on its result")
            if changed.shape != x.shape:
                raise ValueError(f"transform returned shape {tuple(changed.shape)} for images {tuple(x.shape)}")
            check: Any = getattr(model, "check", check_finite)
            try:
                check(changed)
            except ValueError as error:
                raise ValueError(f"transform returned what the model can't take: {error}") from error
        return changed

    return checked
