"""Recognise a thing by its content: what makes a checkpoint the one of this run and of no other."""

import dataclasses
import dis
import functools
import hashlib
import inspect
import json
import numbers
import sys
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# What its text tells in full.
_PLAIN = (
    *(type(None), str, bool, bytes, numbers.Number, PurePath, slice, range, type(Ellipsis)),
    *(torch.dtype, torch.device, torch.Size),
)


# Nor is the one look at a decoder of the reader's own a part of what a model is.
_EVERY_MODULE_HAS = {*vars(nn.Module()), "_decoder_unseen", "config"}
_EVERY_CLASS_HAS = {*vars(type("", (), {})), "__annotations__", "__firstlineno__", "__qualname__"}


class Unknown(Exception):
    """A value whose content can't be compared; the message is what it is."""


def digest(value: Any, *known: Any) -> str:
    """Return a short hash of the content of a value: equal content gives an equal hash, in any process.

    Tensors and arrays count by their bytes; modules by their layers, their own code and their weights; functions by
    their code, defaults, closed-over values and the global values that they name; other callable objects by their code
    and fields.

    Args:
        value: what is to be recognised.
        known: objects whose content does not count, such as the model that is being trained.

    Raises:
        Unknown: where some part of it can't be compared, such as an open file.
    """
    found = hashlib.sha256()
    for part in _Walk(known).parts(value):
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()[:16]


def identity(model: nn.Module, **named: Any) -> dict[str, str]:
    """Return the hash of each value by its name, or for one that can't be compared ``"? "`` and what it is."""
    found = {}
    for name, value in {"model": model_identity(model), **named}.items():
        try:
            found[name] = digest(value, model)
        except Unknown as error:
            found[name] = f"? {error}"
    return found


def differences(saved: dict[str, Any], own: dict[str, Any], configs: tuple[Any, Any]) -> tuple[list[str], list[str]]:
    """Return in words what differs between the run of a file and this one, and what of it can't be compared.

    Args:
        saved: settings and identity of the file's run.
        own: those of this one.
        configs: the file's model's configuration and this model's, whose entries say more than a hash.
    """
    there, here = saved.get("identity", {}), own.get("identity", {})
    different = [
        f"{key}: {saved.get(key)!r} there, {own[key]!r} here"
        for key in own
        if key != "identity" and saved.get(key) != own[key]
    ]
    if all(isinstance(config, dict) for config in configs) and configs[0] != configs[1]:
        different += config_differences(*configs)
        there, here = ({**each, "model": ""} for each in (there, here))
    unknown = sorted({name for each in (there, here) for name, value in each.items() if value.startswith("? ")})
    different += [
        f"{name}: not the same here" for name in here if name not in unknown and there.get(name) != here[name]
    ]
    return different, [f"{name} ({(here.get(name) or there[name])[2:]})" for name in unknown]


def config_differences(saved: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Return in words how the configurations of two models differ."""
    return [
        f"{key}: {saved.get(key)!r} there, {own.get(key)!r} here"
        for key in {**saved, **own}
        if saved.get(key) != own.get(key)
    ]


def made_of(model: nn.Module) -> dict[str, Any]:
    """Return how a model was made, as JSON holds it: the kind of each layer, and its configuration where it has one."""
    config = getattr(model, "config", None)
    layers = {name: type(module).__name__ for name, module in model.named_modules() if name}
    return {"config": _json(config), "layers": layers}


def unlike(saved: dict[str, Any] | None, own: dict[str, Any]) -> list[str]:
    """Return in words how two models differ, as far as is known; files of earlier versions say nothing."""
    if saved is None:
        return []
    found = []
    if isinstance(saved["config"], dict) and isinstance(own["config"], dict):
        found = config_differences(saved["config"], own["config"])
    layers = config_differences(saved["layers"], own["layers"])
    return found or layers


def _json(config: Any) -> Any:
    try:
        return json.loads(json.dumps(config))
    except (TypeError, ValueError):
        return None


def model_identity(model: nn.Module) -> Any:
    """Return what a model is apart from its weights: how it was made, its layers, their settings, fields and code."""
    settings = [
        (name, type(module).__qualname__, module.extra_repr(), sorted(_fields(module).items()))
        for name, module in model.named_modules()
    ]
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    kinds = sorted({type(module) for module in model.modules()}, key=lambda kind: kind.__qualname__)
    return getattr(model, "config", None), settings, frozen, [_members(kind) for kind in kinds]


def _fields(module: nn.Module) -> dict[str, Any]:
    """Return what a module holds besides parameters, buffers, layers and what every module has."""
    return {key: value for key, value in vars(module).items() if key not in _EVERY_MODULE_HAS}


class _Walk:
    """Goes through a value, part by part."""

    def __init__(self, known: Iterable[Any]) -> None:
        self.seen: dict[int, Any] = {id(each): each for each in known}

    def parts(self, value: Any) -> Iterator[bytes]:
        yield type(value).__qualname__.encode()
        if isinstance(value, _PLAIN):
            yield repr(value).encode()
        elif isinstance(value, torch.Generator):
            yield value.get_state().numpy().tobytes()
        elif isinstance(value, Tensor):
            yield f"{value.dtype} {tuple(value.shape)}".encode()
            whole = value.detach().cpu().contiguous().view(-1)
            # Bytes, since NumPy knows no bfloat16.
            yield whole.view(torch.uint8).numpy().tobytes() if whole.numel() else b""
        elif isinstance(value, np.ndarray):
            yield f"{value.dtype.str} {value.shape}".encode()
            yield repr(value.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
        elif isinstance(value, dict):
            # The same settings in another order are the same settings.
            yield from self.several([(key, value[key]) for key in sorted(value, key=repr)])
        elif isinstance(value, set | frozenset):
            yield from self.several(sorted(value, key=repr))
        elif isinstance(value, list | tuple):
            yield from self.several(value)
        elif isinstance(value, CodeType):
            # Instructions differ between versions of Python, so that the version belongs to them.
            yield repr((sys.version_info[:2], value.co_code, value.co_names, value.co_freevars)).encode()
            yield from self.several(value.co_consts)
        elif id(value) in self.seen:
            yield b"again"
        else:
            self.seen[id(value)] = value
            yield from self.object(value)

    def several(self, values: Iterable[Any]) -> Iterator[bytes]:
        for value in values:
            yield from self.parts(value)

    def object(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, functools.partial):
            yield from self.several((value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            yield from self.several((value.__func__, value.__self__))
        elif isinstance(value, FunctionType) and not of_a_library(value):
            yield from self.function(value)
        elif isinstance(value, ModuleType):
            yield value.__name__.encode()
        elif isinstance(value, type):
            yield f"{value.__module__}.{value.__qualname__}".encode()
            yield from self.several(_members(value))
        elif inspect.isroutine(value) or isinstance(value, np.ufunc):
            yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}".encode()
        elif isinstance(value, nn.Module):
            yield from self.several((model_identity(value), value.state_dict()))
        elif hasattr(value, "__dict__") and (callable(value) or dataclasses.is_dataclass(value)):
            yield from self.several((type(value), vars(value)))
        else:
            raise Unknown(f"a {type(value).__name__}")

    def function(self, value: FunctionType) -> Iterator[bytes]:
        closed = [_content(cell) for cell in value.__closure__ or ()]
        used = [(name, value.__globals__[name]) for name in sorted(_names(value.__code__)) if name in value.__globals__]
        yield from self.several((value.__code__, value.__defaults__, value.__kwdefaults__, closed, used))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return None


def of_a_library(value: Any) -> bool:
    """Return whether a function or class comes from PyTorch, NumPy, vaelib or Python, and so is known by its name."""
    return value.__module__.partition(".")[0] in ("torch", "numpy", "vaelib", *sys.stdlib_module_names - {"__main__"})


def _members(kind: type) -> list[Any]:
    """Return what a class of the reader's own defines, its parents' too: methods of every kind, and values."""
    own = [each for each in kind.__mro__ if not of_a_library(each)]
    found = [item for parent in own for item in sorted(vars(parent).items()) if item[0] not in _EVERY_CLASS_HAS]
    return [(name, _unwrapped(each)) for name, each in found]


def _unwrapped(member: Any) -> Any:
    """Return the functions behind a static method, class method or property."""
    if isinstance(member, property):
        return [member.fget, member.fset, member.fdel]
    return getattr(member, "__func__", member)


def _names(code: CodeType) -> set[str]:
    """Return the global names that a function and those defined in it use; names of attributes are not among them."""
    own = {str(each.argval) for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    nested = [const for const in code.co_consts if isinstance(const, CodeType)]
    return own.union(*map(_names, nested))
