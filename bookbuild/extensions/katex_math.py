"""Render every formula to HTML and MathML while the site is built, with KaTeX run in V8.

The pages then need KaTeX's style sheet and fonts alone. A formula that KaTeX rejects is a warning with its page and
line, so that a build with warnings as errors fails.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

KATEX = Path(__file__).parent / "katex" / "katex.min.js"

# No macros of our own: the same cell must also render in JupyterLab, Colab and on GitHub, which would not know them.
# strict: LaTeX that other renderers may refuse is an error here too, except "\\" in a display, which they all accept.
RENDER = r"""
function render(latex, displayMode) {
  return katex.renderToString(latex, {
    displayMode, throwOnError: true, output: "htmlAndMathml", trust: false, macros: {},
    strict: (code) => code === "newLineInDisplayMode" ? "ignore" : "error",
  });
}
"""


@cache
def _engine() -> MiniRacer:
    engine = MiniRacer()
    engine.eval(KATEX.read_text(encoding="utf-8"))
    engine.eval(RENDER)
    return engine


@cache
def render(latex: str, display: bool) -> str:
    """Return the HTML of one formula; raise ValueError with KaTeX's message where it is not valid."""
    try:
        # An argument written as JSON is a valid JavaScript literal, whatever it holds.
        return str(_engine().eval(f"render({json.dumps(latex)}, {json.dumps(display)})"))
    except JSEvalException as error:
        # V8 puts the place in its script before the message, and a stack after it.
        raise ValueError(str(error).partition("ParseError: ")[2].partition("\n")[0] or str(error)) from None


def _html(latex: str, display: bool, node: nodes.Node) -> str:
    try:
        return render(latex, display)
    except ValueError as error:
        logger.warning("the formula %r is not valid: %s", latex, error, location=node, type="math")
        return f'<span class="katex-error">{nodes.unescape(latex)}</span>'


def _unnumbered(latex: str) -> str:
    """Star the numbered environments: Sphinx, not KaTeX, gives the numbers."""
    for name in ("align", "equation", "gather", "alignat"):
        for end in ("begin", "end"):
            latex = latex.replace(f"\\{end}{{{name}}}", f"\\{end}{{{name}*}}")
    return latex


def visit_math(self, node: nodes.math) -> None:
    """Write an inline formula."""
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(_html(node.astext(), False, node) + "</span>")
    raise nodes.SkipNode


def visit_math_block(self, node: nodes.math_block) -> None:
    """Write a displayed formula with its number, which is a link to itself."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    self.body.append(_html(_unnumbered(node.astext()), True, node))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, _("Link to this equation"))
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Register the renderer under the name that conf.py's html_math_renderer gives."""
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": False}
