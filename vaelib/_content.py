"""The content of a thing as a hash: equal content gives an equal hash, in any process."""

import copyreg
import dis
import functools
import hashlib
import inspect
import numbers
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# What its text tells in full.
PLAIN = (
    *(type(None), str, bool, bytes, bytearray, numbers.Number, np.generic, PurePath, range, type(Ellipsis)),
    *(torch.dtype, torch.device, torch.Size),
)
# Nor is the one look at a decoder of the reader's own a part of what a model is.
_EVERY_MODULE_HAS = {*vars(nn.Module()), "_decoder_unseen", "config"}
# Written by Python itself beside what stands in the class: caches, line numbers, sets in no order.
_EVERY_CLASS_HAS = {*vars(type("", (), {})), "__annotations__", "__qualname__"} | {
    *("__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__dataclass_fields__", "__dataclass_params__", "__slotnames__", "_abc_impl", "__orig_bases__", "__parameters__"),
}


class Unknown(Exception):
    """A value whose content can't be compared; the message is what it is."""


def digest(value: Any, *known: Any) -> str:
    """Return a short hash of the content of a value: equal content gives an equal hash, in any process.

    Tensors and arrays count by their bytes; modules by their layers, their own code and their weights; functions by
    their code, defaults, closed-over values and the global values that they name; other objects by what a pickle of
    them would hold, and by the code of their class.

    Args:
        value: what is to be recognised.
        known: objects whose content does not count, such as the model that is being trained.

    Raises:
        Unknown: where some part of it can't be compared, such as an open file.
    """
    found = hashlib.sha256()
    try:
        for part in _Walk(known).parts(value):
            found.update(len(part).to_bytes(8, "little"))
            found.update(part)
    except Unknown:
        raise
    except Exception as error:  # whatever code of the reader's own raises when it is looked at
        raise Unknown(f"a {type(value).__name__}") from error
    return found.hexdigest()[:16]


def of_a_library(value: Any) -> bool:
    """Return whether a function or class comes from PyTorch, NumPy, vaelib or Python, and so is known by its name."""
    return _known(str(getattr(value, "__module__", None)), installed=False)


@functools.cache
def _known(module: str, installed: bool = True) -> bool:
    """Return whether a module is a library's: Python's own, or, with `installed`, any that stands among packages."""
    top = module.partition(".")[0]
    if top == "__main__":  # whoever started it
        return False
    file = getattr(sys.modules.get(top), "__file__", None)
    among_packages = file is not None and not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)
    if top in sys.stdlib_module_names:
        # A file of the reader's may have the name of one of Python's.
        return file is None or among_packages or Path(file).is_relative_to(Path(os.__file__).parent)
    return top in ("torch", "numpy", "vaelib") or (installed and among_packages)


def path(layer: str, key: str) -> str:
    return f"{layer}.{key}" if layer else key


def model_pieces(model: nn.Module) -> dict[str, Any]:
    """Return what a model is apart from its weights: how it was made, its layers, their settings, fields and code."""
    modules = list(model.named_modules())
    fields = {path(name, key): value for name, each in modules for key, value in fields_of(each).items()}
    return {
        "config": getattr(model, "config", None),
        "layers": [(name, type(module).__qualname__) for name, module in modules],
        "frozen layers": [name for name, parameter in model.named_parameters() if not parameter.requires_grad],
        **fields,
        **own_code(modules),
        **_hooks(modules),
    }


def _hooks(modules: list[tuple[str, nn.Module]]) -> dict[str, Any]:
    """Return the reader's own hooks, which change what layers return or the gradients that they get."""
    kinds = ("forward_pre", "forward", "backward_pre", "backward")
    found = {
        path(name, f"{kind} hooks"): [hook for hook in vars(each)[f"_{kind}_hooks"].values() if not _of_torch(hook)]
        for name, each in modules
        for kind in kinds
    }
    return {key: hooks for key, hooks in found.items() if hooks}


def _of_torch(hook: Any) -> bool:
    return _known(str(getattr(hook, "__module__", "")))


def pieces_of(value: Any, *known: Any) -> dict[str, Any]:
    """Return what a value is made of, one level deep, each piece by its name."""
    found: dict[str, Any] = {"": value}
    if any(value is each for each in known):
        found = {}
    elif isinstance(value, functools.partial):
        found = {**pieces_of(value.func, *known), "arguments": (value.args, value.keywords)}
    elif isinstance(value, MethodType):
        found = {**pieces_of(value.__func__, *known), **pieces_of(value.__self__, *known)}
    elif isinstance(value, FunctionType):
        found = found if _known(str(value.__module__)) else _of_a_function(value)
    elif isinstance(value, nn.Module):
        found = {**model_pieces(value), "weights": value.state_dict()}
    elif callable(value) and hasattr(value, "__dict__") and not isinstance(value, type):
        found = {**_members(type(value)), **vars(value)}
    return found


def _of_a_function(value: FunctionType) -> dict[str, Any]:
    code = value.__code__
    used = {name: value.__globals__[name] for name in sorted(_names(code)) if name in value.__globals__}
    # Of a module of the reader's own, what is named after its dot: helpers.weight.
    beside = {
        f"{name}.{key}": vars(module)[key]
        for name, module in used.items()
        if isinstance(module, ModuleType) and not _known(module.__name__)
        for key in sorted(_attributes(code) & vars(module).keys())
    }
    closed = zip(code.co_freevars, map(_content, value.__closure__ or ()), strict=True)
    fields = {key: each for key, each in vars(value).items() if key != "__wrapped__"}
    defaults = value.__defaults__, value.__kwdefaults__
    return {"code": code, "defaults": defaults, **dict(closed), **used, **beside, **fields}


def fields_of(module: nn.Module) -> dict[str, Any]:
    """Return what a module holds besides parameters, buffers, layers and what every module has.

    What a library's layer keeps for itself, under names with an underscore, follows from the rest and its weights; so
    such a name counts only where code of the reader's own has it.
    """
    methods = [member for member in _members(type(module)).values() if isinstance(member, FunctionType)]
    own = set().union(*(_attributes(method.__code__) for method in methods))
    return {
        key: value
        for key, value in vars(module).items()
        if key not in _EVERY_MODULE_HAS and (key in own or not key.startswith("_"))
    }


def own_code(modules: list[tuple[str, nn.Module]]) -> dict[str, Any]:
    """Return the members of the classes of the reader's own that a model is made of."""
    kinds = sorted({type(module) for _, module in modules}, key=lambda kind: kind.__qualname__)
    return {key: member for kind in kinds for key, member in _members(kind).items()}


class _Walk:
    """Goes through a value, part by part."""

    def __init__(self, known: Iterable[Any]) -> None:
        # By their numbers, with the objects themselves, so that no other gets the same address.
        self.seen: dict[int, tuple[int, Any]] = {}
        for each in known:
            self.see(each)

    def see(self, value: Any) -> None:
        self.seen[id(value)] = len(self.seen), value

    def parts(self, value: Any) -> Iterator[bytes]:
        yield type(value).__qualname__.encode()
        if isinstance(value, PLAIN):
            yield repr(value).encode()
        elif id(value) in self.seen:
            yield f"again {self.seen[id(value)][0]}".encode()
        elif isinstance(value, dict | MappingProxyType | set | frozenset | list | tuple):
            # While it is looked at, so that a list in itself has an end; equal content counts as equal elsewhere.
            self.see(value)
            yield str(len(value)).encode()
            yield from self.several(self.ordered(value))
            del self.seen[id(value)]
        elif isinstance(value, torch.Generator):
            yield value.get_state().numpy().tobytes()
        elif isinstance(value, Tensor):
            yield f"{value.dtype} {tuple(value.shape)}".encode()
            whole = value.detach().cpu().contiguous().view(-1)
            # Bytes, since NumPy knows no bfloat16.
            yield whole.view(torch.uint8).numpy().tobytes() if whole.numel() else b""
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            yield f"{value.dtype.str} {value.shape}".encode()
            yield np.ascontiguousarray(value).tobytes()
        elif isinstance(value, CodeType):
            # Instructions differ between versions of Python, so that the version belongs to them.
            yield repr((sys.version_info[:2], value.co_code, value.co_names, value.co_freevars)).encode()
            yield from self.parts(_constants(value))
        else:
            self.see(value)
            yield from self.object(value)

    def several(self, values: Iterable[Any]) -> Iterator[bytes]:
        for value in values:
            yield from self.parts(value)

    def ordered(self, value: Any) -> list[Any]:
        """Return what a container holds; the order of a set differs from process to process, that of a dict is none."""
        if isinstance(value, list | tuple):
            return list(value)
        pairs = isinstance(value, dict | MappingProxyType)
        keys = sorted(value, key=lambda key: digest(key, *(each for _, each in self.seen.values())))
        return [(key, value[key]) for key in keys] if pairs else keys

    def object(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, functools.partial):
            yield from self.several((value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            yield from self.several((value.__func__, value.__self__))
        elif isinstance(value, ModuleType):
            yield value.__name__.encode()
        elif isinstance(value, type):
            yield _full_name(value).encode()
            yield from self.parts(_members(value))
        elif isinstance(value, FunctionType) and not _known(str(value.__module__)):
            yield from self.parts(_of_a_function(value))
        elif hasattr(value, "__wrapped__") and not isinstance(value, FunctionType):  # functools.lru_cache
            yield from self.parts(value.__wrapped__)
        elif inspect.isroutine(value) or isinstance(value, np.ufunc):
            yield _full_name(value).encode()
            # A method of a built-in object, such as settings.get, or a function that a library made on demand.
            owner = getattr(value, "__self__", None)
            yield from self.several([] if isinstance(owner, ModuleType) else [owner])
            if isinstance(value, FunctionType) and "<locals>" in value.__qualname__:
                yield from self.several(map(_content, value.__closure__ or ()))
        elif isinstance(value, nn.Module):
            yield from self.several((model_pieces(value), value.state_dict()))
        else:
            yield from self.parts([type(value), *_pickled(value)])


def _pickled(value: Any) -> list[Any]:
    """Return what a pickle of an object would hold."""
    try:
        registered = copyreg.dispatch_table.get(type(value))
        found = registered(value) if registered else value.__reduce_ex__(2)
    except Exception as error:
        raise Unknown(f"a {type(value).__name__}") from error
    if isinstance(found, str):
        return [found]
    return [list(each) if isinstance(each, Iterator) else each for each in found]


def _full_name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return None


def _members(kind: type) -> dict[str, Any]:
    """Return what a class of the reader's own defines, its parents' too: methods of every kind, and values."""
    own = [each for each in kind.__mro__ if not _known(str(each.__module__))]
    return {
        f"{parent.__name__}.{name}": _unwrapped(member)
        for parent in own
        for name, member in sorted(vars(parent).items())
        if name not in _EVERY_CLASS_HAS
    }


def _unwrapped(member: Any) -> Any:
    """Return the functions behind a static method, class method or property."""
    if isinstance(member, property):
        return [member.fget, member.fset, member.fdel]
    return getattr(member, "func" if isinstance(member, functools.cached_property) else "__func__", member)


def _names(code: CodeType) -> set[str]:
    """Return the global names that a function and those defined in it use; names of attributes are not among them."""
    own = {str(each.argval) for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*map(_names, _nested(code)))


def _attributes(code: CodeType) -> set[str]:
    """Return the names that stand after a dot, and others."""
    return set(code.co_names).union(*map(_attributes, _nested(code)))


def _nested(code: CodeType) -> list[CodeType]:
    return [const for const in code.co_consts if isinstance(const, CodeType)]


def _constants(code: CodeType) -> list[Any]:
    """Return the constants that a function uses, which its docstring is not."""
    used = {each.arg for each in dis.get_instructions(code) if each.opcode in dis.hasconst}
    return [const for place, const in enumerate(code.co_consts) if place in used]
