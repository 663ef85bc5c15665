"""Finds out whose each file of a folder is, and which assignment it answers."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from classroom.rebuild import SubmissionError, grade_id, read

MOODLE = re.compile(r"_(\d+)_assignsubmission_file.*$")


@dataclass
class Submission:
    """A file that was handed in: whose, for what ('' where nobody can tell), and the notebook, or what is wrong."""

    path: Path
    student: str
    assignment: str
    notebook: NotebookNode | None
    problem: str = ""


def collect(folder: Path, grade_ids: dict[str, set[str]]) -> list[Submission]:
    """All notebooks below a folder, each student's newest for each assignment; the order is that of the names.

    Known are student/any.ipynb and student/assignment/any.ipynb, as nbgrader has them, and flat files that hold a
    student's and the assignment's name, as Moodle gives them. `grade_ids` has those of each assignment.
    """
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() == ".ipynb" and not {".ipynb_checkpoints", "__MACOSX"} & set(path.parts)
    ]
    found: dict[tuple[str, str], Submission] = {}
    lost = []
    submissions = [identify(path, folder, grade_ids) for path in paths]
    _namesakes(submissions, folder)
    for submission in submissions:
        if not submission.assignment:
            lost.append(submission)
            continue
        key = submission.student, submission.assignment
        other = found.get(key)
        if other is None or _is_better(submission, other):
            found[key] = submission
    return [*found.values(), *lost]


def _namesakes(submissions: list[Submission], folder: Path) -> None:
    """Adds Moodle's number to a name that two people have, as different numbers for the same assignment show."""
    numbers: dict[tuple[str, str], set[str]] = {}
    for submission in submissions:
        key = submission.student, submission.assignment
        numbers.setdefault(key, set()).add(_number(submission.path, folder))
    shared = {student for (student, assignment), found in numbers.items() if assignment and len(found) > 1}
    for submission in submissions:
        if submission.student in shared:
            submission.student += f" ({_number(submission.path, folder) or 'no number'})"


def _number(path: Path, folder: Path) -> str:
    found = MOODLE.search(path.relative_to(folder).parts[0])
    return found[1] if found else ""


def _is_better(new: Submission, old: Submission) -> bool:
    """Of two files for the same assignment one that can be read counts, then the newer one."""
    age = (each.path.lstat().st_mtime for each in (new, old))  # of a link itself: what it names may not be there
    return (new.notebook is not None, next(age)) > (old.notebook is not None, next(age))


def identify(path: Path, folder: Path, grade_ids: dict[str, set[str]]) -> Submission:
    """Whose a file below a folder is, and for what."""
    parts = path.relative_to(folder).parts
    notebook, problem = None, ""
    try:
        notebook = read(path)
    except SubmissionError as error:
        problem = str(error)
    assignment = _assignment(notebook, parts, grade_ids)
    if not assignment:
        problem = problem or "it is none of the assignments: neither its cells nor its name say which"
    return Submission(path, _student(parts, assignment), assignment, notebook, problem)


def _assignment(notebook: NotebookNode | None, parts: tuple[str, ...], grade_ids: dict[str, set[str]]) -> str:
    """By most of the cells, else by what the notebook says of itself, else by the names of file and folder."""
    if notebook is not None:
        own = {grade_id(cell) for cell in notebook.cells} | {cell.id for cell in notebook.cells}
        shared = Counter({stem: len(own & ids) for stem, ids in grade_ids.items()})
        (best, most), *others = shared.most_common()
        if most > len(grade_ids[best]) / 2 and all(most > fewer for _, fewer in others):
            return best
        says = notebook.metadata.get("vaelib")
        stem = Path(str(says.get("source", ""))).stem if isinstance(says, dict) else ""
        if stem in grade_ids:
            return stem
    return next((stem for part in reversed(parts) for stem in grade_ids if stem in part), "")


def _student(parts: tuple[str, ...], assignment: str) -> str:
    """The first folder's name; of a flat file what its name has besides the assignment's."""
    if len(parts) > 1:
        return MOODLE.sub("", parts[0])
    stem = Path(parts[0]).stem
    return MOODLE.sub("", stem.replace(assignment, "") if assignment else stem).strip(" _-.") or stem
