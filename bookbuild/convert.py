"""From a chapter's Markdown to the cells of its notebook, one way: the same book always gives the same notebook."""

import re

import jupytext
import nbformat
import yaml
from jupytext.myst import MystMetadataParsingError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from bookbuild import first_cell
from bookbuild.chapter import Chapter, NotebookError, sha256
from bookbuild.plain_markdown import Book, MarkupError, plain

KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
LANGUAGE = {"name": "python"}
FRONT_MATTER = {"jupytext", "kernelspec"}
CELL_KEYS = {"tags", "mystnb"}
# A misspelt tag would be ignored by every tool in silence, so that only these are accepted.
TAGS = {
    *("solution", "stderr-expected", "nbval-check-output", "raises-exception"),
    *("hide-cell", "hide-input", "hide-output", "remove-cell", "remove-input", "remove-output"),
    *("scroll-output", "full-width", "margin"),
}


def convert(chapter: Chapter) -> NotebookNode:
    """The notebook of a chapter, not executed: the same book always gives the same notebook."""
    notebook, book = in_myst(chapter), Book.read(chapter.root)
    sources = []
    for index, cell in enumerate(notebook.cells):
        try:
            sources.append(plain(cell.source, book) if cell.cell_type == "markdown" else cell.source)
        except MarkupError as error:
            raise NotebookError(f"{chapter.place(notebook, index)}: {error}") from None
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
    return notebook


def in_myst(chapter: Chapter) -> NotebookNode:
    """The notebook of a chapter, not executed, with the roles and labels that the site understands."""
    text = chapter.text()
    try:
        raw = jupytext.reads(text, fmt="md:myst")
    except (MystMetadataParsingError, yaml.YAMLError) as error:
        raise NotebookError(f"{chapter.source}: {error}") from None
    _refuse_unknown(chapter, raw)
    set_up = new_code_cell(
        first_cell.source(chapter.root),
        metadata={"tags": ["remove-cell"], "jupyter": {"source_hidden": True}},
    )
    cells = [raw.cells[0], set_up]
    for cell in raw.cells[1:]:
        cells += [_folded(cell), *_caption(cell)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": KERNELSPEC,
            "language_info": LANGUAGE,
            "vaelib": {"source": chapter.source, "source_sha256": sha256(text)},
        }
    )
    number(notebook)
    return notebook


def _refuse_unknown(chapter: Chapter, raw: NotebookNode) -> None:
    """Refuses what would be dropped or ignored without a word."""
    if not raw.cells or not re.match(r"(\(.+\)=\n+)?# \S", raw.cells[0].source):
        raise NotebookError(f"{chapter.source}: the chapter must start with its title, '# ...', after the front matter")
    if unknown := set(raw.metadata) - FRONT_MATTER:
        raise NotebookError(
            f"{chapter.source}: the front matter may hold jupytext and kernelspec, not {sorted(unknown)}"
        )
    if (kernel := raw.metadata.get("kernelspec", {}).get("name")) != KERNELSPEC["name"]:
        raise NotebookError(f"{chapter.source}: the front matter names the kernel {kernel!r}, it must be 'python3'")
    for index, cell in enumerate(raw.cells):
        place = chapter.place(raw, index)
        if cell.cell_type == "markdown" and "{code-cell}" in cell.source:
            raise NotebookError(f"{chapter.source}: a {{code-cell}} inside a list or another block is never run")
        if cell.cell_type == "code" and not cell.source.strip():
            raise NotebookError(f"{place}: the cell is empty")
        if unknown := set(cell.metadata) - CELL_KEYS:
            raise NotebookError(f"{place}: unknown cell options {sorted(unknown)}, known are {sorted(CELL_KEYS)}")
        if unknown := set(cell.metadata.get("tags", [])) - TAGS:
            raise NotebookError(f"{place}: unknown tags {sorted(unknown)}, known are {sorted(TAGS)}")


def _folded(cell: NotebookNode) -> NotebookNode:
    """A code cell tagged `solution`, folded on the site and in JupyterLab; any other cell as it is."""
    if cell.cell_type == "code" and "solution" in cell.metadata.get("tags", []):
        cell.metadata["tags"] = sorted({*cell.metadata["tags"], "hide-cell"})
        cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    return cell


def _caption(cell: NotebookNode) -> list[NotebookNode]:
    """The caption as a Markdown cell for Lab, GitHub and Colab; the site, which sets captions itself, drops it."""
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if not (figure.get("name") and figure.get("caption")):
        return []
    # Only the number is in italics: a caption may hold asterisks, in mathematics for one.
    text = f"*{{numref}}`{figure['name']}`:* {figure['caption']}"
    return [new_markdown_cell(text, metadata={"tags": ["remove-cell"]})]


def number(notebook: NotebookNode) -> None:
    """Gives each cell an id made from its text, so that a change elsewhere leaves it alone."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = sha256(cell.cell_type + cell.source)[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
