"""Figures that move in the page: their scripts, and the weights that ship, only on the pages that use them.

A page opened from disk may neither fetch nor import, so that all comes as classic scripts. They are derived from the
package's own files, and the same code runs in Jupyter.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from vaelib.widgets import LatentExplorer, _page

_SHIPPED = re.compile(r'"shipped": "([\w-]+)"')


def weights(name: str) -> str:
    """Return a script that offers a shipped model's decoder as ``vaelib.weights[name]``."""
    text = base64.b64encode(LatentExplorer(name)._weights).decode()
    return f"((globalThis.vaelib ??= {{}}).weights ??= {{}})[{json.dumps(name)}] = {json.dumps(text)};\n"


def _add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    body = context.get("body", "")
    explorer, frames = (f'class="vaelib-{kind}"' in body for kind in ("explorer", "frames"))
    if not (explorer or frames):
        return
    static = Path(app.outdir, "_static")
    scripts = []
    if explorer:
        for name in sorted(set(_SHIPPED.findall(body))):
            scripts.append(f"weights-{name}.js")
            _write(static / scripts[-1], lambda name=name: weights(name))
        scripts.append("explorer.js")
        _write(static / "explorer.js", lambda: _page.script("explorer"))
    if frames:
        scripts.append("sliders.js")
        _write(static / "sliders.js", lambda: _page.script("sliders"))
    _write(static / "explorer.css", _page.style)
    app.add_css_file("explorer.css")
    for script in [*scripts, "live_figures.js"]:
        app.add_js_file(script, loading_method="defer")


def _write(path: Path, content: Any) -> None:
    """Write a file on first need."""
    if not path.exists():
        path.write_text(content(), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Watch for pages with such figures."""
    app.connect("html-page-context", _add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
