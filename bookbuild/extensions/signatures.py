"""Show signatures on the API page as they stand in the source, and say where a class has its other methods from.

Sphinx has no setting for it: it shows ``ArrayLike`` as the dozen types that the name stands for, a class without an
``__init__`` of its own with that of PyTorch, and each field of a named tuple as "Alias for field number 0".
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from typing import Any


def _definition(obj: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(obj))).body[0]


def _fields(dataclass: Any) -> str | None:
    try:
        body = _definition(dataclass).body
    except OSError:  # it says that it belongs to another module than the one it stands in
        return None
    return f"({', '.join(ast.unparse(node) for node in body if isinstance(node, ast.AnnAssign))})"


def _init(cls: type) -> Any:
    """Return the ``__init__`` by which a class of ours is called, or None where none is ours."""
    found = (vars(each)["__init__"] for each in cls.__mro__ if "__init__" in vars(each))
    return next((each for each in found if getattr(each, "__module__", "").startswith("vaelib.")), None)


def written_signature(app, what, name, obj: Any, options, signature, returns) -> tuple[str, str | None] | None:
    """Handle ``autodoc-process-signature``."""
    if not signature:
        return None
    if dataclasses.is_dataclass(obj):
        fields = _fields(obj)
        return (fields, None) if fields else None
    function = obj
    if inspect.isclass(obj):
        function = _init(obj)
        if function is None:
            return None if issubclass(obj, tuple) else ("", None)
    if not inspect.isfunction(function):
        return None
    node = _definition(function)
    if what != "function" and node.args.args and node.args.args[0].arg in {"self", "cls"}:
        del node.args.args[0]
    result = ast.unparse(node.returns).strip("'") if node.returns and function is obj else None
    return f"({ast.unparse(node.args)})", result


def name_base(app, what, name, obj: Any, options, lines: list[str]) -> None:
    """Handle ``autodoc-process-docstring``: after the first paragraph."""
    bases = [each for each in getattr(obj, "__bases__", ()) if each.__module__.startswith("vaelib.")]
    if what == "class" and bases:
        links = " and ".join(f":py:class:`~{each.__module__}.{each.__qualname__}`" for each in bases)
        end = lines.index("") if "" in lines else len(lines)
        lines[end:end] = ["", f"It has what {links} has, too."]


def skip_alias(app, what, name, obj: Any, skip, options) -> bool | None:
    """Handle ``autodoc-skip-member``."""
    return True if (inspect.getdoc(obj) or "").startswith("Alias for field number") else None


def setup(app):
    """Connect the handlers."""
    app.connect("autodoc-process-signature", written_signature)
    app.connect("autodoc-process-docstring", name_base)
    app.connect("autodoc-skip-member", skip_alias)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
