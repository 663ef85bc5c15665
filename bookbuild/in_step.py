"""Finds the pairs of chapter and notebook that are out of step, in both directions."""

import copy
import subprocess
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
    return found + orphans(root, "notebooks", "book", {chapter.stem for chapter in chapters(root)})


def orphans(root: Path, folder: str, home: str, stems: set[str]) -> list[str]:
    """The notebooks of a folder that have no source; of those alone that git tracks, where it can tell."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--", folder]
    try:
        git = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
        tracked = git.stdout.split("\0") if git.returncode == 0 else None
    except OSError:
        tracked = None
    return [
        f"orphan: {folder}/{path.name} has no {home}/{path.stem}.md: delete it, or restore its source"
        for path in sorted((root / folder).glob("*.ipynb"))
        if path.stem not in stems and (tracked is None or f"{folder}/{path.name}" in tracked)
    ]


def by_hand(chapter: Chapter) -> str:
    """What helps where a notebook is not what the tool wrote: in one line, and nothing is lost."""
    name = chapter.notebook.removeprefix("notebooks/").removesuffix(".ipynb")
    return f"`make original CHAPTER={name}` brings it back and keeps what is there in my/; edit {chapter.source} only"


def problems(chapter: Chapter) -> list[str]:
    """What is out of step in one pair: nothing, an edit of the notebook, an edit of the source, or both."""
    if not chapter.stored.is_file():
        return [f"missing: {chapter.source} has no {chapter.notebook}: run `make notebooks`"]
    try:
        text = chapter.stored.read_text(encoding="utf-8")
        stored = nbformat.reads(text, as_version=4)
        edited = seal(stored) != text
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        return [f"unreadable: {chapter.notebook} ({str(error).splitlines()[0]}): {by_hand(chapter)}"]
    found = []
    if edited:
        found.append(f"edited by hand: {chapter.notebook} is not what the tool wrote: {by_hand(chapter)}")
    wanted = convert(chapter)
    if stored.metadata.get("vaelib", {}).get("source_sha256") != wanted.metadata.vaelib.source_sha256:
        found.append(
            f"source changed: {chapter.source} is not what {chapter.notebook} was made from: run `make notebooks`"
        )
    elif not edited and skeleton(stored) != skeleton(wanted):
        found.append(
            f"out of step: {chapter.notebook} is not what {chapter.source} now gives (this tool, a number in "
            "another chapter, or references.bib has changed): run `make notebooks`"
        )
    return found


def skeleton(notebook: NotebookNode) -> str:
    """A notebook without what execution adds."""
    bare = copy.deepcopy(notebook)
    for key in ("notebook_sha256", "cpu_seconds"):
        bare.metadata["vaelib"].pop(key, None)
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
    if (seconds := stored_seconds(chapter)) is not None:
        notebook.metadata.vaelib.cpu_seconds = seconds
    return True


def stored_seconds(chapter: Chapter) -> int | None:
    """The CPU seconds that the stored notebook took when it was executed, None where it does not tell."""
    if not chapter.stored.is_file():
        return None
    seconds = nbformat.read(chapter.stored, as_version=4).metadata.get("vaelib", {}).get("cpu_seconds")
    return None if seconds is None else int(seconds)
