"""What keeps a training run from being plausible and wrong: modes, randomness, failures, transforms, parameters."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from vaelib._inputs import warn_of_dark
from vaelib._notices import warn
from vaelib._pixels import check_finite
from vaelib.contract import Transform

# How many times wider the pixels of validation may spread than those of training, or narrower.
_SCALES = 5


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
    """Put back the weights that a run began with where it fails before its first step, and name what can be named."""
    before = copied(run.model.state_dict())
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        if run.step == 0:
            run.model.load_state_dict(before)
        if "Expected more than 1 value per channel" in str(error):
            raise ValueError(_one_image(len(run.x), run.batch_size)) from error
        raise


def copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy, on the CPU, of a state_dict, in which a module may have put things that are no tensors."""
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else deepcopy(value)
        for name, value in state.items()
    }


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that a gradient step changes.

    Raises:
        ValueError: for none, for parameters that have no shape yet, or of a type with too few digits.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError(
            f"no parameter of this {type(model).__name__} can be trained: "
            + ("all are frozen, call model.requires_grad_(True)" if list(model.parameters()) else "it has none")
        )
    if any(map(nn.parameter.is_lazy, parameters)):
        method = "elbo" if hasattr(model, "elbo") else "loss"
        raise ValueError(
            f"{type(model).__name__} has a lazy layer, which has no weights before it has seen an image: call "
            f"model.{method}(images[:2]) once, before training"
        )
    types = {parameter.dtype for parameter in parameters} - {torch.float32, torch.float64}
    if types:
        raise ValueError(f"parameters are {types.pop()}: a gradient step is lost in so few digits, call model.float()")
    return parameters


# Which model a network was trained in last: a network that two models share is trained by both.
_TRAINED_IN: "WeakKeyDictionary[nn.Module, ref[nn.Module]]" = WeakKeyDictionary()


def warn_of_used_networks(model: nn.Module) -> None:
    """Warn of networks that another model has trained, as those of a sweep that were made once, outside of its loop."""
    used = [
        name
        for name, part in model.named_children()
        if part in _TRAINED_IN
        and _TRAINED_IN[part]() is not model
        and any(each.requires_grad for each in part.parameters())
    ]
    if used:
        warn(
            f"{', '.join(used)} of this {type(model).__name__} went through training in another model, and goes on "
            "from there: make new networks for each model of a comparison (copy.deepcopy before training, or a "
            "function that makes them); where it is meant, nothing is wrong"
        )


def note_used_networks(model: nn.Module) -> None:
    """Remember that a model's networks have been trained in it."""
    for part in model.children():
        _TRAINED_IN[part] = ref(model)


class CheckedTransform:
    """A transform, every batch of which is checked, as data are.

    On an accelerator, where nothing may wait for the device in an epoch, the pixels of the first batch are checked at
    once, and the lowest and highest of the others by `settle`, at the end of the epoch.

    Args:
        transform: the reader's.
        model: what is to take the batches; its ``check`` is asked.
        held_out: the images of validation.
        shape: of one image as the reader gave it, where the model works on rows of pixels.
    """

    def __init__(
        self, transform: Transform, model: nn.Module, held_out: Tensor | None, shape: tuple[int, ...] = ()
    ) -> None:
        self.transform, self.held_out, self.shape = transform, held_out, shape
        self.check: Any = getattr(model, "check", check_finite)
        self.unseen = True
        self.range: Tensor | None = None

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return what the transform makes of a batch.

        Raises:
            ValueError: for another shape or number of images, and what the model refuses.
            TypeError: for what is no tensor.
        """
        rows = x
        if x.ndim == 2 and self.shape:
            x = x.reshape(len(x), *self.shape)
        changed = self.transform(x, generator)
        if not isinstance(changed, Tensor):
            raise TypeError(f"transform returned a {type(changed).__name__}: it must return a tensor like its input")
        if changed.dtype != x.dtype:
            raise ValueError(f"transform returned {changed.dtype} for {x.dtype}: call .to(x.dtype) on its result")
        if changed.shape != x.shape:
            raise ValueError(f"transform returned shape {tuple(changed.shape)} for images {tuple(x.shape)}")
        changed = changed.reshape(rows.shape)
        if self.unseen or x.device.type == "cpu":
            self._check_pixels(changed)
        else:
            low, high = torch.aminmax(changed.detach())
            if self.range is not None:
                low, high = torch.minimum(low, self.range[0]), torch.maximum(high, self.range[1])
            self.range = torch.stack([low, high])
        if self.unseen:
            self.unseen = False
            warn_of_dark(changed, " that transform returned")
            warn_of_other_validation(changed, self.held_out)
        return changed

    def settle(self, like: Tensor) -> None:
        """Check the lowest and the highest pixel of the batches that were not looked at, as images like those given.

        Raises:
            ValueError: for pixels that the model refuses.
        """
        if self.range is not None:
            self._check_pixels(self.range.reshape(2, *[1] * (like.ndim - 1)).expand(2, *like.shape[1:]).contiguous())
            self.range = None

    def _check_pixels(self, x: Tensor) -> None:
        try:
            self.check(x)
        except ValueError as error:
            raise ValueError(f"transform returned what the model can't take: {error}") from error


def warn_of_other_validation(seen: Tensor, held_out: Tensor | None) -> None:
    """Warn where the images of validation are grey and those of training are not, or are on another scale.

    Args:
        seen: the first batch, as the model sees it.
        held_out: the images of validation.
    """
    if held_out is None or not seen.is_floating_point():
        return
    few = held_out[: len(seen)]
    here, there = ((high - low).item() for low, high in map(torch.aminmax, (seen, few)))
    if not here / _SCALES <= there <= here * _SCALES:
        warn(
            f"the pixels of training span {here:.3g} and those of validation {there:.3g}, so that the two ELBOs are no "
            "measure of the same thing: bring both to the same scale"
        )
    elif _is_binary(seen) and not _is_binary(few):
        warn(
            "the model is trained on pixels that are 0 or 1, and the images of validation are grey, so that the two "
            "ELBOs are no measure of the same thing: binarise these too, once, with vaelib.data.binarize(images)"
        )


def _is_binary(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def _one_image(n: int, batch_size: int) -> str:
    """Return what to do about a batch of one image, from which BatchNorm can't take a variance."""
    message = "BatchNorm can't train on a batch of one image: "
    if n == 1:
        return message + "give two images or more"
    better = next(size for size in range(max(2, batch_size), n + 1) if n % size != 1)
    return message + f"of {n} images, batch_size={batch_size} leaves such a one; batch_size={better} does not"
