"""Show signatures on the API page as they stand in the source, and the fields of a named tuple only once.

Sphinx has no setting for either: it shows ``ArrayLike`` as the dozen types that the name stands for, and documents each
field of a named tuple by "Alias for field number 0".
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from typing import Any


def _definition(obj: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(obj))).body[0]


def written_signature(app, what: str, name: str, obj: Any, *_: Any) -> tuple[str, str | None] | None:
    """Handle ``autodoc-process-signature``."""
    if dataclasses.is_dataclass(obj):
        try:
            body = _definition(obj).body
        except OSError:  # it says that it belongs to another module than the one it stands in
            return None
        fields = [node for node in body if isinstance(node, ast.AnnAssign)]
        return f"({', '.join(map(ast.unparse, fields))})", None
    function = vars(obj).get("__init__") if what in {"class", "exception"} else obj
    if not inspect.isfunction(function) or function.__code__.co_filename.startswith("<"):  # a named tuple's own
        return None
    node = _definition(function)
    if what != "function" and node.args.args and node.args.args[0].arg in {"self", "cls"}:
        del node.args.args[0]
    return f"({ast.unparse(node.args)})", ast.unparse(node.returns) if node.returns and what != "class" else None


def skip_alias(app, what: str, name: str, obj: Any, *_: Any) -> bool | None:
    """Handle ``autodoc-skip-member``."""
    return True if (inspect.getdoc(obj) or "").startswith("Alias for field number") else None


def setup(app):
    """Connect the two handlers."""
    app.connect("autodoc-process-signature", written_signature)
    app.connect("autodoc-skip-member", skip_alias)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
