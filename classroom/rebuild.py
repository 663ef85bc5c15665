"""Makes of what was handed in a notebook to run: the master's locked cells, the student's answers, and the rest kept.

A cell is known by its grade_id, else by its id (a student version has the grade_id there too), else, if it is locked,
by its text. Whatever else there is counts as the student's own and keeps its place. The file itself is never written.
"""

import copy
import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

LARGEST = 200 * 2**20  # bytes of a file
MASTER, ANSWER, EXTRA = "master", "answer", "extra"
# The first cell names the vaelib that it installs: a version handed out earlier names another, and nobody changed that.
SET_UP = "set-up"


class SubmissionError(Exception):
    """A file that cannot be graded, and why, in words for teacher and student."""


@dataclass
class Rebuilt:
    """The notebook that is run and kept; whose each cell is; what was put right; and the free answers."""

    notebook: NotebookNode
    owners: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    free: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> NotebookNode:
    """The notebook in a file; SubmissionError says what is wrong with one that holds none."""
    if path.is_symlink() or not path.is_file():
        raise SubmissionError("it is a link or no file: hand in the notebook itself")
    if path.stat().st_size > LARGEST:
        raise SubmissionError(f"it has more than {LARGEST // 2**20} MB: clear the outputs and hand it in again")
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise SubmissionError(f"the file cannot be read: {error.strerror}") from None
    if not text.strip():
        raise SubmissionError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing cell ids and the like are put right here
            notebook = nbformat.from_dict(json.loads(text))
            if notebook.get("nbformat", 4) != 4:
                notebook = nbformat.convert(notebook, 4)
        cells = [cell for cell in notebook["cells"] if isinstance(cell, dict)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, nbformat.ValidationError) as error:
        if re.search(r"^(<{7}|={7}|>{7})( |$)", text, re.MULTILINE):
            raise SubmissionError(
                "it holds the marks of an unfinished merge (<<<<<<<): resolve them, open it once, and hand it in again"
            ) from None
        raise SubmissionError(f"it is no notebook that can be read ({type(error).__name__}: {error})"[:300]) from None
    if not isinstance(notebook.get("metadata"), dict):
        notebook.metadata = nbformat.from_dict({})
    notebook.cells = [cell for cell in map(_cleaned, cells) if cell is not None]
    if not notebook.cells:
        raise SubmissionError("there is no cell in it")
    return notebook


def _cleaned(cell: dict[str, Any]) -> NotebookNode | None:
    """The cell with a source that is text and without outputs; None where it holds nothing."""
    source = cell.get("source", "")
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    if not text.strip():
        return None
    kind = cell.get("cell_type") if cell.get("cell_type") in ("code", "markdown", "raw") else "raw"
    make = getattr(nbformat.v4, f"new_{kind}_cell")
    metadata = cell.get("metadata")
    return make(text, metadata=metadata if isinstance(metadata, dict) else {}, id=str(cell.get("id", "none")))


def grade_id(cell: NotebookNode) -> str:
    """The cell's grade_id, '' if it has none."""
    options = cell.metadata.get("nbgrader")
    return str(options.get("grade_id", "")) if isinstance(options, dict) else ""


def rebuild(master: NotebookNode, student: NotebookNode, submission: NotebookNode) -> Rebuilt:
    """Puts the submission's answers and extra cells into the master; `student` is the version that was handed out."""
    places = _places(student, submission)
    found: dict[int, NotebookNode] = {}
    extras: dict[int, list[NotebookNode]] = {}
    rebuilt = Rebuilt(copy.deepcopy(master))
    anchor = -1
    for cell, place in zip(submission.cells, places, strict=True):
        if place is not None and place not in found:
            found[place] = cell
            anchor = max(anchor, place)
            continue
        if place is None or _is_answer(master.cells[place]):
            extras.setdefault(anchor, []).append(cell)
        if place is not None:
            rebuilt.notes.append(f"The cell {grade_id(master.cells[place])!r} is there more than once.")
    cells: list[NotebookNode] = []
    for place in range(-1, len(master.cells)):
        if place >= 0:
            cell, owner, notes = _chosen(master.cells[place], student.cells[place], found.get(place))
            cells.append(cell)
            rebuilt.owners.append(owner)
            rebuilt.notes += notes
        for extra in extras.get(place, []):
            cells.append(_extra(extra))
            rebuilt.owners.append(EXTRA)
    rebuilt.notebook.cells = cells
    rebuilt.free = _free_answers(master, student, rebuilt)
    return rebuilt


def _places(student: NotebookNode, submission: NotebookNode) -> list[int | None]:
    """For each cell that was handed in, the place of the cell in the assignment that it is, None for one's own."""
    by_id = {grade_id(cell): place for place, cell in enumerate(student.cells) if grade_id(cell)}
    by_text = {
        (cell.cell_type, cell.source.strip()): place for place, cell in enumerate(student.cells) if not _is_answer(cell)
    }
    return [
        by_id.get(grade_id(cell), by_id.get(cell.id, by_text.get((cell.cell_type, cell.source.strip()))))
        for cell in submission.cells
    ]


def _is_answer(cell: NotebookNode) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def _chosen(
    master: NotebookNode, student: NotebookNode, handed_in: NotebookNode | None
) -> tuple[NotebookNode, str, list[str]]:
    """The cell that counts at a place of the master, whose it is, and what there is to say about it."""
    name = grade_id(master)
    cell = copy.deepcopy(master)
    if not _is_answer(master):
        if not name:
            return cell, MASTER, []
        if handed_in is None:
            return cell, MASTER, [f"The locked cell {name!r} was missing and has been put back."]
        same = handed_in.source.strip() == student.source.strip() and handed_in.cell_type == master.cell_type
        edited = not same and name != SET_UP
        return cell, MASTER, [f"The locked cell {name!r} had been changed; the original counts."] if edited else []
    if handed_in is None:
        cell.source = student.source
        return cell, MASTER, [f"The answer cell {name!r} was not found; what other cells define counts."]
    cell.source = handed_in.source
    if handed_in.cell_type != master.cell_type and master.cell_type == "code":
        cell.source = student.source
        return cell, MASTER, [f"The answer cell {name!r} was no code cell any more, so that it did not run."]
    return cell, ANSWER, []


def _extra(cell: NotebookNode) -> NotebookNode:
    """A cell of the student's own, without metadata that would make it something else."""
    kept = copy.deepcopy(cell)
    kept.metadata = nbformat.from_dict({})
    return kept


def _free_answers(master: NotebookNode, student: NotebookNode, rebuilt: Rebuilt) -> dict[str, str]:
    """The texts that a person marks, '' for none; one whose cell is lost is looked for in the cells of one's own."""
    blank = {grade_id(cell): cell.source.strip() for cell in student.cells}
    answers = {}
    for cell, owner in zip(rebuilt.notebook.cells, rebuilt.owners, strict=True):
        if cell.cell_type == "markdown" and _is_answer(cell):
            text = cell.source if owner == ANSWER and cell.source.strip() != blank[grade_id(cell)] else ""
            answers[grade_id(cell)] = text
    others = [
        cell.source
        for cell, owner in zip(rebuilt.notebook.cells, rebuilt.owners, strict=True)
        if owner == EXTRA and cell.cell_type != "code"
    ]
    return {name: text or "\n\n".join(others) for name, text in answers.items()}
