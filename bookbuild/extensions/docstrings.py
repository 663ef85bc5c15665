"""Turn the plain docstrings of vaelib into reST, and show signatures as they stand in the source.

A docstring holds a sentence, formulas, and lines such as ``Shapes: z (N, 2).`` or ``Raises: ValueError for no image.``,
each with its continuation indented. Read as reST such lines would run together, and ``*args`` or ``|x|`` be markup.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

# One capitalised word, or one or several names of parameters.
KEY = re.compile(r"(`{0,2})([A-Z][a-z]+|[a-z_]\w*(?:, [a-z_]\w*)*)\1: +(\S.*)")
LIST_ITEM = re.compile(r"[-*] |\d+\. |\.\. |:\w")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _paragraphs(lines: list[str]) -> list[list[str]]:
    """Split at blank lines."""
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    return [paragraph for paragraph in paragraphs if paragraph]


def _escape(line: str) -> str:
    """Escape asterisks and bars outside backquotes."""
    parts = re.split(r"(`+[^`]+`+)", line)
    parts[::2] = [re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _keyed(paragraph: list[str]) -> list[str]:
    """Make one paragraph of each ``Key: text`` line and its continuation."""
    items: list[str] = []
    for line in paragraph:
        match = KEY.fullmatch(line)
        if match:
            word = f"*{match[2]}*" if match[2][0].isupper() else f"``{match[2]}``"
            items.append(f"{word}: {_escape(match[3])}")
        else:
            items[-1] += " " + _escape(line.strip())
    return [line for item in items for line in (item, "")]


def _plain(paragraph: list[str]) -> list[str]:
    """Put a blank line wherever the indentation changes, but not inside an item of a list."""
    out: list[str] = []
    previous = paragraph[0]
    for line in paragraph:
        mark = LIST_ITEM.match(line.lstrip())
        if _indent(line) != _indent(previous) and not LIST_ITEM.match(previous.lstrip()):
            out.append("")
        start = _indent(line) + (mark.end() if mark else 0)
        out.append(line[:start] + _escape(line[start:]))
        previous = line
    return out


def to_rest(lines: list[str]) -> list[str]:
    """Return the docstring as reST. What is indented after a line that ends in ``::`` stays as it is."""
    out: list[str] = []
    block = False
    for paragraph in _paragraphs(lines):
        directive = paragraph[0].startswith(".. ")
        if (block and _indent(paragraph[0])) or directive:
            out += paragraph
            block = True
        elif KEY.fullmatch(paragraph[0]):
            out += _keyed(paragraph)
        else:
            out += _plain(paragraph)
        block = (block and bool(_indent(paragraph[0]))) or directive or paragraph[-1].endswith("::")
        out.append("")
    return out


def process(app, what, name, obj, options, lines) -> None:
    """Handle ``autodoc-process-docstring``."""
    lines[:] = to_rest(lines)


def written_signature(app, what, name, obj, options, signature, returns):
    """Handle ``autodoc-process-signature``: ``ArrayLike`` stays ``ArrayLike``, not the dozen types it stands for."""
    function = vars(obj).get("__init__") if what in {"class", "exception"} else obj
    if not inspect.isfunction(function) or function.__code__.co_filename == "<string>":  # a dataclass writes its own
        return None
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if what != "function" and node.args.args and node.args.args[0].arg in {"self", "cls"}:
        del node.args.args[0]
    return f"({ast.unparse(node.args)})", ast.unparse(node.returns) if node.returns and what != "class" else None


def setup(app):
    """Connect the two handlers."""
    app.connect("autodoc-process-signature", written_signature)
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
