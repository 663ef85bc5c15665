"""What makes a checkpoint the one of this model and of this run, and of no other.

A thing is compared piece by piece (an objective's code, each value that it names, each field of a model), so that what
differs has a name, and what a run itself changes as it goes, such as a list that it logs into, is told from the rest.
"""

import inspect
import sys
from enum import Enum
from typing import Any

import numpy as np
from torch import nn

from vaelib._content import PLAIN, Unknown, digest, fields_of, model_pieces, of_a_library, own_code, path, pieces_of

# Settings of PyTorch's layers that change no number in eval mode.
_IN_TRAINING_ALONE = {"p", "dropout", "momentum", "inplace"}
_LONG = 100


def identity(model: nn.Module, **named: Any) -> dict[str, dict[str, str]]:
    """Return for each value by its name the hash of each of its pieces, or ``"? "`` and what can't be compared."""
    # An objective that holds the model's layers is still the same when they are trained.
    known = *model.modules(), *model.parameters(), *model.buffers()
    pieces = {"model": model_pieces(model)} | {name: pieces_of(value, *known) for name, value in named.items()}
    return {name: {key: _hash(piece, *known) for key, piece in each.items()} for name, each in pieces.items()}


def changed(before: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return the pieces of `now` that are not as they were `before`: what a run changes as it goes."""
    found = {name: {key: value for key, value in now[name].items() if before[name].get(key) != value} for name in now}
    return {name: each for name, each in found.items() if each}


def differences(
    saved: dict[str, Any], own: dict[str, Any], configs: tuple[Any, Any]
) -> tuple[list[str], list[str], list[str]]:
    """Return in words what differs between the run of a file and this one, what can't be compared, and what was lost.

    Lost is what the file's run had changed as it went, such as a counter in Python, and is not so here.

    Args:
        saved: settings and identity of the file's run, and what it had changed.
        own: those of this one.
        configs: the file's model's configuration and this model's, whose entries say more than a hash.
    """
    there, here, later = (each or {} for each in (saved.get("identity"), own.get("identity"), saved.get("changed")))
    different = [
        f"{key}: {saved.get(key)!r} there, {own[key]!r} here"
        for key in own
        if key not in ("identity", "changed") and saved.get(key) != own[key]
    ]
    unknown, lost = [], []
    if all(isinstance(config, dict) for config in configs) and configs[0] != configs[1]:
        different += config_differences(*configs)
        here = {name: each for name, each in here.items() if name != "model"}
    for name, pieces in here.items():
        first, last = there.get(name, {}), later.get(name, {})
        if not isinstance(first, dict):
            unknown.append(f"{name} (recorded by an earlier version)")
            continue
        reasons, wrong = set(), []
        for key in {**first, **pieces}:
            was, now = first.get(key, ""), pieces.get(key, "")
            if was.startswith("? ") or now.startswith("? "):
                reasons.add((now if now.startswith("? ") else was)[2:])
            elif key in last:
                lost += [f"{name} {key}".rstrip()] if last[key] != now else []
            elif was != now:
                wrong.append(key)
        unknown += [f"{name} ({', '.join(sorted(reasons))})"] if reasons else []
        where = f" ({', '.join(filter(None, wrong))})" if any(wrong) else ""
        different += [f"{name}: not the same here{where}"] if wrong else []
    return different, unknown, lost


def config_differences(saved: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Return in words how the configurations of two models differ."""
    return [
        f"{key}: {saved.get(key)!r} there, {own.get(key)!r} here"
        for key in {**saved, **own}
        if saved.get(key) != own.get(key)
    ]


def made_of(model: nn.Module) -> dict[str, Any]:
    """Return how a model was made, as JSON holds it: its configuration, and kind, settings and code of each layer.

    A setting is its text and, where that does not tell all, a hash; members of classes of the reader's own have a hash.
    """
    modules, config = list(model.named_modules()), getattr(model, "config", None)
    fields = {path(name, key): _told(value, model) for name, each in modules for key, value in _lasting(each).items()}
    if config is not None and not isinstance(config, dict):
        fields["config"] = _told(config, model)
    return {
        "config": {str(key): _json(value) for key, value in config.items()} if isinstance(config, dict) else None,
        "layers": {name: type(module).__name__ for name, module in modules if name},
        "fields": fields,
        "code": {key: _hash(member, model) for key, member in own_code(modules).items()},
        "python": list(sys.version_info[:2]),
    }


def unlike(saved: dict[str, Any] | None, model: nn.Module) -> tuple[list[str], list[str]]:
    """Return in words how a model differs from the one of a file, as far as that is recorded, and what may differ.

    Another layer, or another value of a field that its constructor takes, is a difference. Other fields (a counter, a
    cache, a note) and code of the reader's own are what may differ: they change by use, and when a program is tidied
    up. So may what can't be compared.

    Args:
        saved: what `made_of` said of the file's model; files of earlier versions say less, or nothing.
        model: the other one.
    """
    own, saved = made_of(model), saved or {}
    found: list[str] = []
    if isinstance(saved.get("config"), dict) and isinstance(own["config"], dict):
        found = config_differences(saved["config"], own["config"])
    found = found or config_differences(saved.get("layers", own["layers"]), own["layers"])
    there, here = saved.get("fields", own["fields"]), own["fields"]
    settings = {path(name, key) for name, each in model.named_modules() for key in _constructed(each)}
    problems, doubts = list(found), list[str]()
    for key in {} if found else {**there, **here}:
        (text, mark), (text_here, mark_here) = there.get(key, ["nothing", ""]), here.get(key, ["nothing", ""])
        if text != text_here:
            sure = key in settings and key in there and key in here
            (problems if sure else doubts).append(f"{key}: {text} there, {text_here} here")
        elif mark != mark_here or mark.startswith("?"):
            doubts.append(f"{key} ({text})")
    there, here = saved.get("code", own["code"]), own["code"]
    if saved.get("python", own["python"]) == own["python"]:
        doubts += [key for key in {**there, **here} if there.get(key) != here.get(key)]
    elif there or here:
        doubts.append("code, which another version of Python wrote")
    return problems, doubts


def _hash(value: Any, *known: Any) -> str:
    try:
        return digest(value, *known)
    except Unknown as error:
        return f"? {error}"


def _told(value: Any, *known: Any) -> list[str]:
    """Return the text of a value, the same in any process, and a hash where the text does not tell all."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, list | tuple) and all(isinstance(each, PLAIN) for each in value):
        text = f"[{', '.join(_told(each)[0] for each in value)}]"
    elif isinstance(value, (*PLAIN, Enum)):
        text = str(value) if isinstance(value, Enum) else repr(value)
    else:
        return [str(getattr(value, "__name__", f"a {type(value).__name__}")), _hash(value, *known)]
    return [text, ""] if len(text) < _LONG else [f"{text[:_LONG]}...", _hash(value, *known)]


def _json(value: Any) -> Any:
    """Return a value of a configuration as JSON holds it, and what JSON has no word for as text."""
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, str | int | float) else _told(value)[0]


def _lasting(module: nn.Module) -> dict[str, Any]:
    """Return those fields that count in eval mode, too."""
    left_out = _IN_TRAINING_ALONE if of_a_library(type(module)) else set()
    return {key: each for key, each in fields_of(module).items() if key not in left_out}


def _constructed(module: nn.Module) -> set[str]:
    """Return the fields that are settings: those that a constructor takes by name."""
    makers = [vars(kind)["__init__"] for kind in type(module).__mro__ if "__init__" in vars(kind)]
    takes = {name for maker in makers for name in inspect.signature(maker).parameters}
    return {key for key in fields_of(module) if key.removeprefix("_") in takes}
