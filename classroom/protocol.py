"""Values as bytes, between the process of the tests and that of the answers.

What comes from the answers is never unpickled: it can be a tensor, a number, a text, nothing, or a tuple, list or
dict of these. Of anything else only the name of its type arrives. A frame is a JSON text and the tensors' raw bytes.
"""

import collections
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

LARGEST = 64 * 2**20  # bytes of one frame
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)
}
PLAIN = (bool, int, float, str, type(None))


class Answer:
    """Stands in for a function of the answers, on the side of the tests; sent over, it is that function again."""

    def __init__(self, name: str, call: Callable[[str, Any], Any]):
        self.__name__ = name
        self._call = call

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._call(self.__name__, (arguments, options))

    def __reduce__(self) -> tuple[Any, ...]:
        return _own, (self.__name__,)


def _own(name: str) -> Any:
    from IPython.core.interactiveshell import InteractiveShell

    return InteractiveShell.instance().user_ns[name]


class ProtocolError(Exception):
    """What arrived is no value."""


class Unknown:
    """Stands for a value that cannot cross; its type has the name of the value's own type."""


def encode(value: Any) -> bytes:
    """The bytes of a value."""
    blobs: list[bytes] = []
    try:
        text = json.dumps(_pack(value, blobs)).encode()
    except (RecursionError, ValueError) as error:
        raise ProtocolError(f"the value cannot be sent: {error}") from None
    frame = b"".join([struct.pack(">I", len(text)), text, *blobs])
    if len(frame) > LARGEST:
        raise ProtocolError(f"the value has {len(frame) / 2**20:.0f} MB, more than {LARGEST / 2**20:.0f}")
    return frame


def decode(frame: bytes) -> Any:
    """The value of bytes that may come from anybody; ProtocolError where they are no value."""
    try:
        (length,) = struct.unpack_from(">I", frame)
        tree = json.loads(frame[4 : 4 + length])
        return _unpack(tree, memoryview(frame)[4 + length :])
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, RuntimeError, struct.error) as error:
        raise ProtocolError(f"what came is no value: {type(error).__name__}") from None


def _pack(value: Any, blobs: list[bytes]) -> Any:
    packed: Any = {"unknown": type(value).__name__}
    if isinstance(value, bool) or value is None:
        packed = value
    elif isinstance(value, int):
        packed = int(value) if abs(value) < 2**53 else {"int": hex(value)}
    elif isinstance(value, float):
        packed = float(value)
    elif isinstance(value, str):
        packed = str(value)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        packed = {"named": type(value).__name__, "fields": list(value._fields), "items": _pack(list(value), blobs)}
    elif isinstance(value, (tuple, list)):
        packed = {"tuple" if isinstance(value, tuple) else "list": [_pack(each, blobs) for each in value]}
    elif isinstance(value, dict):
        packed = {"dict": [[_pack(key, blobs), _pack(each, blobs)] for key, each in value.items()]}
    elif isinstance(value, torch.Generator):
        packed = {"generator": _blob(value.get_state(), blobs)}
    elif isinstance(value, Tensor) and _crosses(value):
        packed = {"tensor": _blob(value, blobs), "dtype": _name(value.dtype), "shape": list(value.shape)}
        packed |= {"grad": True} if value.requires_grad else {}
    return packed


def _crosses(value: Tensor) -> bool:
    # An expanded tensor may be small here and without end as bytes.
    small = value.numel() * value.element_size() <= LARGEST
    return _name(value.dtype) in DTYPES and value.layout == torch.strided and small


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _blob(value: Tensor, blobs: list[bytes]) -> list[int]:
    start = sum(map(len, blobs))
    blobs.append(value.detach().cpu().contiguous().numpy().tobytes())
    return [start, start + len(blobs[-1])]


def _unpack(tree: Any, data: memoryview) -> Any:
    value = tree
    match tree:
        case {"int": text}:
            value = int(text, 16)
        case {"tuple": items}:
            value = tuple(_unpack(item, data) for item in items)
        case {"named": str(name), "fields": fields, "items": items}:
            value = collections.namedtuple(name, fields)(*_unpack(items, data))
        case {"list": items}:
            value = [_unpack(item, data) for item in items]
        case {"dict": items}:
            value = {_unpack(key, data): _unpack(item, data) for key, item in items}
        case {"generator": place}:
            value = torch.Generator()
            value.set_state(_tensor(place, torch.uint8, data))
        case {"tensor": place, "dtype": name, "shape": shape, **rest}:
            value = _tensor(place, DTYPES[name], data).reshape(shape).requires_grad_(bool(rest.get("grad")))
        case {"unknown": str(name)}:
            value = type(name[:100], (Unknown,), {})()
        case dict() | list():
            raise ValueError("a container of another kind")
    return value


def _tensor(place: list[int], dtype: torch.dtype, data: memoryview) -> Tensor:
    content = bytearray(data[place[0] : place[1]])  # a copy, which may be written to
    return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def leaves(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, in an order that is the same on both sides."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)


def states(value: Any) -> Iterator[torch.Generator | torch.optim.Optimizer]:
    """What else in a value has a state that a call may change, in an order that is the same on both sides."""
    if isinstance(value, (torch.Generator, torch.optim.Optimizer)):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from states(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from states(each)


def is_plain(value: Any) -> bool:
    """Whether a value crosses without being pickled."""
    if type(value) in (tuple, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, [*value, *value.values()]))
    return isinstance(value, (*PLAIN, torch.Generator, Tensor)) and not isinstance(value, torch.nn.Parameter)


def grads(tensors: list[Tensor]) -> list[Tensor | None]:
    """The gradients that are stored with the tensors."""
    return [tensor.grad if tensor.is_leaf else None for tensor in tensors]
