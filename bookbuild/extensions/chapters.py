"""What the book's own conventions ask of Sphinx.

- Chapters are numbered by their file names: equation (7.3) is in 07_vae whether or not chapters 1 to 6 are there.
- The front page lists the chapters that exist, by parts.
- Cells tagged ``solution`` are folded, and only equations with a label are numbered.
- The API page lists every public module of vaelib, the index of experiments what experiments.py finds.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

from docutils import nodes
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.transforms import SphinxTransform

from bookbuild.extensions import experiments

PARTS = {
    "Before you begin": (0, 0),
    "I The mathematics": (1, 4),
    "II The models": (5, 8),
    "III MNIST and beyond": (9, 99),
}
CHAPTERS_MARK = "<!-- chapters -->"
EXPERIMENTS_MARK = "<!-- experiments -->"
API_MARK = "<!-- modules of vaelib -->"
DEPRECATED = {"explorer", "sliders"}  # what `vaelib.widgets` was; the old names warn for one release


def chapter_number(docname: str) -> int | None:
    """Return 7 for ``notebooks/07_vae`` and None for a page that is no chapter."""
    match = re.fullmatch(r"notebooks/(\d\d)_\w+", docname)
    return int(match[1]) if match else None


def _toctree(caption: str, entries: list[str]) -> str:
    lines = "\n".join(f"/{entry}" for entry in entries)
    return f"```{{toctree}}\n:caption: {caption}\n:numbered: 2\n:maxdepth: 1\n\n{lines}\n```\n"


def chapter_lists(docnames: set[str]) -> str:
    """Return one table of contents for each part that has a chapter."""
    numbered = sorted((number, name) for name in docnames if (number := chapter_number(name)) is not None)
    parts = {
        part: [name for number, name in numbered if first <= number <= last] for part, (first, last) in PARTS.items()
    }
    return "\n".join(_toctree(part, names) for part, names in parts.items() if names)


def module_lists() -> str:
    """Return one automodule block for each public module of vaelib; private, old and ``__main__`` ones are left out.

    What a module has from another public one is shown there alone, so that a reference to it has one place to lead to.
    """
    import vaelib

    blocks = []
    for name in sorted(info.name for info in pkgutil.iter_modules(vaelib.__path__)):
        if name[0] == "_" or name in DEPRECATED:
            continue
        module = importlib.import_module(f"vaelib.{name}")
        homes = {each: getattr(getattr(module, each), "__module__", "") for each in getattr(module, "__all__", ())}
        others = [each for each, home in homes.items() if re.match(rf"vaelib\.(?!{name}\b)[a-z]", home)]
        options = "   :members:\n" + (f"   :exclude-members: {', '.join(others)}\n" if others else "")
        blocks.append(f"## vaelib.{name}\n\n```{{eval-rst}}\n.. automodule:: vaelib.{name}\n{options}```\n")
    return "\n".join(blocks)


def fill_marks(app, docname, source) -> None:
    """Replace the marks of index.md, experiments.md and api.md by what is there at this build."""
    lists = {
        CHAPTERS_MARK: lambda: chapter_lists(app.env.found_docs),
        EXPERIMENTS_MARK: lambda: experiments.index(Path(app.srcdir)),
        API_MARK: module_lists,
    }
    for mark, text in lists.items():
        if mark in source[0]:
            source[0] = source[0].replace(mark, text())


def number_by_file_name(app, env) -> list[str]:
    """Put the file's number in front of the section numbers, then count figures and equations again."""
    collector = TocTreeCollector()
    for docname, numbers in env.toc_secnumbers.items():
        chapter = chapter_number(docname)
        if chapter is None:
            continue
        env.toc_secnumbers[docname] = {anchor: (chapter, *own[1:]) if own else () for anchor, own in numbers.items()}
        for node in [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]:
            if node.get("secnumber"):
                node["secnumber"] = [chapter, *node["secnumber"][1:]]
    return [*collector.assign_figure_numbers(env), *env.toc_secnumbers]


class FoldSolutions(SphinxTransform):
    """Fold code cells tagged ``solution``, as their text in ``<details>`` is."""

    default_priority = 500

    def apply(self) -> None:
        """Mark the cells for myst-nb, which folds them."""
        for cell in self.document.findall(nodes.container):
            if "tag_solution" in cell["classes"]:
                cell["hide_mode"] = "all"
                cell["prompt_show"], cell["prompt_hide"] = "Solution: code", "Hide the code"


class NumberLabelledOnly(SphinxTransform):
    """Take the number from a bare ``align`` or ``equation``, which has no label and so cannot be cited."""

    default_priority = 200  # before docutils moves a target's id to what follows it

    def apply(self) -> None:
        """Undo what MyST does to every environment."""
        for block in list(self.document.findall(nodes.math_block)):
            if "amsmath" in block["classes"] and block.get("number"):
                target = block.parent[block.parent.index(block) - 1]
                self.document.ids.pop(target["ids"][0], None)
                block.parent.remove(target)
                block["number"] = None


def _name_folds_by_their_words(app, pagename, templatename, context, doctree) -> None:
    """Drop a fixed label of folded cells, in whose place a screen reader should read what stands there."""
    if "body" in context:
        context["body"] = context["body"].replace('<summary aria-label="Toggle hidden content">', "<summary>")


def setup(app):
    """Connect the conventions."""
    app.connect("source-read", fill_marks)
    # After Sphinx's own numbering, which has the default priority of 500.
    app.connect("env-get-updated", number_by_file_name, priority=900)
    app.connect("html-page-context", _name_folds_by_their_words)
    app.add_transform(FoldSolutions)
    app.add_transform(NumberLabelledOnly)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
