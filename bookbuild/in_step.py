"""Finds the pairs of chapter and notebook that are out of step, in both directions."""

import copy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from bookbuild.chapter import Chapter, NotebookError, chapters, seal, serialise
from bookbuild.convert import convert


def check(root: Path) -> list[str]:
    """Every problem of every pair, in both directions."""
    found = []
    for chapter in chapters(root):
        try:
            found += problems(chapter)
        except NotebookError as error:
            found.append(str(error))
    sources = {chapter.stem for chapter in chapters(root)}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if path.stem not in sources:
            found.append(f"orphan: notebooks/{path.name} has no book/{path.stem}.md: delete it, or restore its source")
    return found


def problems(chapter: Chapter) -> list[str]:
    """What is out of step in one pair: nothing, an edit of the notebook, an edit of the source, or both."""
    if not chapter.stored.is_file():
        return [f"missing: {chapter.source} has no {chapter.notebook}: run `make notebooks`"]
    text = chapter.stored.read_text(encoding="utf-8")
    try:
        stored = nbformat.reads(text, as_version=4)
        by_hand = seal(stored) != text
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        return [
            f"unreadable: {chapter.notebook} ({error}): delete it and run `make notebooks`; edit {chapter.source} only"
        ]
    found = []
    if by_hand:
        found.append(
            f"edited by hand: {chapter.notebook} is not what the tool wrote. Make the change in {chapter.source}, "
            f"delete {chapter.notebook} (or restore it with git) and run `make notebooks`"
        )
    wanted = convert(chapter)
    if stored.metadata.get("vaelib", {}).get("source_sha256") != wanted.metadata.vaelib.source_sha256:
        found.append(
            f"source changed: {chapter.source} is not what {chapter.notebook} was made from: run `make notebooks`"
        )
    elif not by_hand and skeleton(stored) != skeleton(wanted):
        found.append(
            f"out of step: {chapter.notebook} is not what {chapter.source} now gives (this tool, a number in "
            "another chapter, or references.bib has changed): run `make notebooks`"
        )
    return found


def skeleton(notebook: NotebookNode) -> str:
    """A notebook without what execution adds."""
    bare = copy.deepcopy(notebook)
    bare.metadata["vaelib"].pop("notebook_sha256", None)
    for cell in bare.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return serialise(bare)


def keep_outputs(chapter: Chapter, notebook: NotebookNode) -> bool:
    """Gives `notebook` the outputs that are stored, and says whether it could: only where no code has changed.

    The first cell prints nothing and may have changed: that another commit is installed from now on changes no output.
    """
    if not chapter.stored.is_file():
        return False
    stored = nbformat.read(chapter.stored, as_version=4)
    old, new = ([cell for cell in each.cells if cell.cell_type == "code"] for each in (stored, notebook))
    if [(cell.source, cell.metadata.get("tags")) for cell in old[1:]] != [
        (cell.source, cell.metadata.get("tags")) for cell in new[1:]
    ]:
        return False
    for before, cell in zip(old, new, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return True
