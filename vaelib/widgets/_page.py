"""One HTML file that holds a widget whole: its scripts, its state and a still image; it asks nobody for anything."""

import base64
import html
import json
import os
import re
from pathlib import Path
from string import Template
from typing import Any

from vaelib._files import atomic_write

_STATIC = Path(__file__).with_name("static")
# The script of each kind of widget; its `mount` shows the widget from the state that Python stored.
_SCRIPTS = {"explorer": "explorer.js", "sliders": "sliders.js"}


def write(
    path: str | os.PathLike[str], title: str, *, kind: str, state: dict[str, Any], still: bytes, alt: str
) -> None:
    """Write the page of one widget.

    Args:
        path: the file, which must end in .html or .htm.
        title: heading, and title of the browser's tab.
        kind: "explorer" or "sliders".
        state: what the widget's `stored` returned, weights included.
        still: a PNG file, shown where no script runs.
        alt: what is seen in it.

    Raises:
        ValueError: for another ending of the name.
        OSError: for a folder, and where the file can't be written; one that was there is untouched.
    """
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder: name a file in it, such as {file / 'page.html'}")
    if file.suffix.lower() not in (".html", ".htm"):
        better = file.with_name(f"{file.stem}.html")
        raise ValueError(f"{str(file)!r} is no name of a web page: end it in .html, as {str(better)!r} does")
    page = Template(_text("page.html")).substitute(
        title=html.escape(title),
        style=_text("explorer.css") + _text("page.css"),
        still=base64.b64encode(still).decode(),
        alt=html.escape(alt),
        state=_in_script(state),
        script=script(kind) + _text("page.js"),
        kind=json.dumps(kind),
    )
    try:
        atomic_write(file, page)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"cannot write the page ({reason}): choose a folder you may write to, on a disk with space"
        raise OSError(error.errno, message, str(file)) from error


def script(kind: str) -> str:
    """Return a widget's module as a classic script, which offers its `mount` as ``vaelib.explorer`` or ``.sliders``.

    A page opened from disk may not import a module.

    Args:
        kind: "explorer" or "sliders".
    """
    inside = re.sub(r"^export default .*$", "", _text(_SCRIPTS[kind]), flags=re.MULTILINE)
    inside = re.sub(r"^export ", "", inside, flags=re.MULTILINE)
    return f'(() => {{\n"use strict";\n{inside}\n(globalThis.vaelib ??= {{}}).{kind} = mount;\n}})();\n'


def style() -> str:
    """Return the style sheet that both kinds of widgets share."""
    return _text("explorer.css")


def _in_script(state: dict[str, Any]) -> str:
    """Return JSON that can't end the script element it stands in, nor open a comment there."""
    return json.dumps(state, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _text(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")
