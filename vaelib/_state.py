"""Settings, histories and states of optimizers as JSON and tensors, without a pickle."""

from contextlib import suppress
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

_DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
}


def copy(tensor: Any, place: str) -> Tensor:
    """Return a tensor of its own on the CPU, as safetensors takes it.

    Raises:
        TypeError: for what is no dense tensor of a common type, named by its place.
    """
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.dtype not in _DTYPES:
        kind = f"{tensor.layout} {tensor.dtype} tensor" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(
            f"{place}: a checkpoint cannot hold a {kind}; use a dense tensor of floats up to 64 bits, integers up to "
            "int64, uint8, complex64 or bool: t.to_dense(), t.to(torch.int64), t.to(torch.complex64)"
        )
    # Always a copy of its own: safetensors refuses tensors that share memory, as tied weights do, or are strided.
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def encode(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON, its tensors moved into `tensors`: `{"kind": [...]}` marks what JSON has no word for.

    Raises:
        TypeError: for what no checkpoint can hold, named by its place.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.bool_ | np.integer | np.float16 | np.float32):
        return value.item()
    if isinstance(value, Tensor):
        # Numbered over all tensors of the file, so that no two names are alike.
        key = f"state.{len(tensors)}"
        tensors[key] = copy(value, place)
        return {"tensor": key}
    if type(value) in (list, tuple):
        items = [encode(item, f"{place}[{i}]", tensors) for i, item in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if isinstance(value, dict) and all(isinstance(key, str | int | np.integer) for key in value):
        own = {key.item() if isinstance(key, np.integer) else key: item for key, item in value.items()}
        return {"dict": [[key, encode(item, f"{place}[{key!r}]", tensors)] for key, item in own.items()]}
    instead = {np.ndarray: "torch.as_tensor of it", PurePath: "str of it"}
    remedy = next((f"{text}, or " for kind, text in instead.items() if isinstance(value, kind)), "")
    raise TypeError(
        f"{place}: a checkpoint cannot hold a {type(value).__name__}; use {remedy}dicts with str or int keys, lists, "
        "tuples, tensors, numbers, strings, bools or None"
    )


def storable(value: Any) -> Any:
    """Return a model's configuration as a checkpoint can hold it: what it has no word for as the name of its class."""
    with suppress(TypeError):
        encode(value, "", {})
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str | int) else repr(key): storable(each) for key, each in value.items()}
    return f"a {type(value).__name__}"


def decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return what `encode` was given."""
    match value:
        case {"tensor": key}:
            return tensors[key]
        case {"tuple": items}:
            return tuple(decode(item, tensors) for item in items)
        case {"dict": pairs}:
            return {key: decode(item, tensors) for key, item in pairs}
        case list():
            return [decode(item, tensors) for item in value]
    return value
