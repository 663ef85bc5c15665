"""Makes the assignments: from book/assignments/NN_name.md, with solutions and hidden tests, what a student gets.

python -m bookbuild assignments                 write notebooks/assignments/*.ipynb, the student versions
python -m bookbuild assignments --check         compare only; exit 1 where a student version is out of step
python -m bookbuild assignments --pictures      first draw again what a right answer draws (a cell tagged `picture`)
python -m bookbuild assignments --masters DIR   write the notebooks with solutions and hidden tests to DIR instead

The cells carry nbgrader's metadata, what is false left out. Nothing here needs nbgrader, and nothing here grades.
"""

import argparse
import ast
import base64
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
import yaml
from jupytext.myst import MystMetadataParsingError
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from bookbuild import first_cell, in_step
from bookbuild.chapter import Chapter, NotebookError, seal, serialise, sha256
from bookbuild.convert import FRONT_MATTER, KERNELSPEC, LANGUAGE, number
from bookbuild.execute import kernel_environment
from bookbuild.png import compact
from vaelib._files import atomic_write

STUB = 'raise NotImplementedError("your answer")'
FREE_STUB = "*Your answer.*"
MARKERS = ("SOLUTION", "HIDDEN TESTS")
MARKER = re.compile(r"(BEGIN|END)[ _-]*(SOLUTION|HIDDEN)", re.IGNORECASE)
EXACT = re.compile(rf"\s*### (BEGIN|END) ({'|'.join(MARKERS)})")
FLAGS = ("grade", "solution", "locked", "task")
KEYS = {*FLAGS, "grade_id", "points", "schema_version"}
GRADE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
ROLE = re.compile(r"(?<!`)\{[a-z:]+\}`")
PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>[^)\s]+)\)")


class Assignment(Chapter):
    """One source, book/assignments/NN_name.md, and the student version made from it."""

    def __init__(self, root: Path, stem: str):
        super().__init__(root, stem)
        self.source = f"book/assignments/{stem}.md"
        self.notebook = f"notebooks/assignments/{stem}.ipynb"
        self.stored = root / self.notebook
        self.picture = root / "book/assignments" / stem / "picture.png"


def assignments(root: Path) -> list[Assignment]:
    return [Assignment(root, path.stem) for path in sorted((root / "book/assignments").glob("[0-9][0-9]_*.md"))]


# From Markdown to the master notebook


def master(assignment: Assignment) -> NotebookNode:
    """The notebook with solutions and hidden tests, nbgrader's metadata written out in full."""
    text = assignment.text()
    try:
        raw = jupytext.reads(text, fmt="md:myst")
    except (MystMetadataParsingError, yaml.YAMLError) as error:
        raise NotebookError(f"{assignment.source}: {error}") from None
    _refuse_front_matter(assignment, raw)
    seen: set[str] = set()
    for index, cell in enumerate(raw.cells):
        try:
            _complete(cell, seen)
            _refuse_unknown(cell)
            _refuse_markers(cell)
        except NotebookError as error:
            raise NotebookError(f"{assignment.place(raw, index)}: {error}") from None
    set_up = nbformat.v4.new_code_cell(
        first_cell.source(assignment.root),
        metadata={"jupyter": {"source_hidden": True}, "nbgrader": {"grade_id": "set-up", "locked": True}},
    )
    _complete(set_up, seen)
    notebook = nbformat.v4.new_notebook(cells=[raw.cells[0], set_up, *raw.cells[1:]])
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": KERNELSPEC,
            "language_info": LANGUAGE,
            "vaelib": {"source": assignment.source, "source_sha256": sha256(text)},
        }
    )
    return notebook


def _refuse_front_matter(assignment: Assignment, raw: NotebookNode) -> None:
    if not raw.cells or not raw.cells[0].source.startswith("# "):
        raise NotebookError(f"{assignment.source}: it must start with its title, '# ...', after the front matter")
    if unknown := set(raw.metadata) - FRONT_MATTER:
        raise NotebookError(
            f"{assignment.source}: the front matter may hold jupytext and kernelspec, not {sorted(unknown)}"
        )
    if (kernel := raw.metadata.get("kernelspec", {}).get("name")) != KERNELSPEC["name"]:
        raise NotebookError(f"{assignment.source}: the front matter names the kernel {kernel!r}, it must be 'python3'")


def _complete(cell: NotebookNode, seen: set[str]) -> None:
    """Writes out the metadata that nbgrader wants in full, and refuses what it would refuse or ignore."""
    if (given := cell.metadata.get("nbgrader")) is None:
        return
    if unknown := set(given) - KEYS:
        raise NotebookError(f"unknown nbgrader options {sorted(unknown)}, known are {sorted(KEYS)}")
    name = str(given.get("grade_id", ""))
    if not GRADE_ID.fullmatch(name):
        raise NotebookError(f"the grade_id is {name!r}: give one of small letters, digits and hyphens")
    if name in seen:
        raise NotebookError(f"the grade_id {name!r} is used twice: nbgrader would drop one of the cells, rename it")
    seen.add(name)
    full = {"grade_id": name, "schema_version": 3, **{flag: bool(given.get(flag)) for flag in FLAGS}}
    if full["task"]:
        raise NotebookError("a task cell has no cell of its own for the answer: use grade and solution in Markdown")
    if full["grade"]:
        points = given.get("points")
        if not isinstance(points, int) or points <= 0:
            raise NotebookError(f"the graded cell {name!r} has the points {points!r}: give a whole number above zero")
        full["points"] = points
    elif "points" in given:
        raise NotebookError(f"the cell {name!r} has points and is not graded: add grade: true or take them away")
    if cell.cell_type == "markdown" and full["grade"] != full["solution"]:
        raise NotebookError(f"the Markdown cell {name!r} must have both grade and solution, or neither")
    if cell.cell_type == "code" and full["grade"] and full["solution"]:
        raise NotebookError(f"the code cell {name!r} has grade and solution: put the tests into a cell of their own")
    # Tests are locked whether the author says so or not; an answer that is locked could not be written.
    full["locked"] = (full["locked"] or full["grade"]) and not full["solution"]
    cell.metadata["nbgrader"] = nbformat.from_dict(full)


def _refuse_unknown(cell: NotebookNode) -> None:
    """Refuses what would be dropped, or shown to the student as it stands."""
    if unknown := set(cell.metadata) - {"nbgrader", "tags"}:
        raise NotebookError(f"unknown cell options {sorted(unknown)}, known are nbgrader and tags")
    if unknown := set(cell.metadata.get("tags", [])) - {"picture"}:
        raise NotebookError(f"unknown tags {sorted(unknown)}, the only one here is picture")
    if not cell.source.strip():
        raise NotebookError("the cell is empty")
    if cell.cell_type == "markdown" and (found := ROLE.search(cell.source)):
        raise NotebookError(f"{found[0]} means nothing outside the site: write plain Markdown in an assignment")
    if cell.cell_type == "markdown" and "{code-cell}" in cell.source:
        raise NotebookError("a {code-cell} inside a list or another block is never run")


def _refuse_markers(cell: NotebookNode) -> None:
    """Refuses marker lines that would leave a solution or a hidden test in the student's notebook."""
    options = cell.metadata.get("nbgrader", {})
    allowed = {"SOLUTION": options.get("solution"), "HIDDEN TESTS": options.get("grade") and not options["solution"]}
    opened = ""
    count = 0
    for line in cell.source.split("\n"):
        if not MARKER.search(line):
            continue
        if not (found := EXACT.fullmatch(line)):
            raise NotebookError(f"the line {line.strip()!r} is no marker: it must be '### BEGIN SOLUTION' or the like")
        if not allowed[found[2]]:
            raise NotebookError(f"{line.strip()!r} in a cell that is not for it: check its nbgrader options")
        if opened != ("" if found[1] == "BEGIN" else found[2]):
            raise NotebookError(f"{line.strip()!r} does not fit the marker before it: each BEGIN needs its own END")
        opened = found[2] if found[1] == "BEGIN" else ""
        count += 1
    if opened:
        raise NotebookError(f"'### BEGIN {opened}' has no '### END {opened}'")
    if options.get("solution") and not count:
        raise NotebookError("a solution cell without '### BEGIN SOLUTION': the student would get all of it")


# From the master to the student


def student(assignment: Assignment) -> NotebookNode:
    """What the student gets: no solution, no hidden test, no output; the same source always gives the same notebook."""
    notebook = master(assignment)
    places = [assignment.place(notebook, index) for index in range(len(notebook.cells))]
    for cell, place in zip(notebook.cells, places, strict=True):
        cell.source = blank(cell)
        if cell.cell_type == "markdown":
            _attach_picture(assignment, cell, place)
        else:
            _refuse_broken(cell, place)
    number(notebook)
    for cell in notebook.cells:
        cell.id = cell.metadata.get("nbgrader", {}).get("grade_id", cell.id)
    return notebook


def blank(cell: NotebookNode) -> str:
    """The source of a cell with its solution replaced by a stub and its hidden tests taken away."""
    stub = STUB if cell.cell_type == "code" else FREE_STUB
    kept: list[str] = []
    inside = False
    for line in cell.source.split("\n"):
        if found := EXACT.fullmatch(line):
            inside = found[1] == "BEGIN"
            if inside and found[2] == "SOLUTION":
                kept.append(line[: len(line) - len(line.lstrip())] + stub)
        elif not inside:
            kept.append(line)
    return "\n".join(kept).rstrip()


def illustrated(assignment: Assignment) -> NotebookNode:
    """The master with its pictures in the cells that name them."""
    notebook = master(assignment)
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            _attach_picture(assignment, cell, assignment.place(notebook, index))
    return notebook


def _attach_picture(assignment: Assignment, cell: NotebookNode, place: str) -> None:
    """Puts the pictures that a Markdown cell names into the cell itself, so that the notebook is one file."""

    def attach(found: re.Match[str]) -> str:
        path = assignment.root / "book/assignments" / found["path"]
        if not found["alt"].strip():
            raise NotebookError(f"{place}: the picture {found['path']} has no alt text: say what is seen")
        if not path.is_file():
            raise NotebookError(
                f"{place}: there is no {path.relative_to(assignment.root)}: "
                "run `python -m bookbuild assignments --pictures`"
            )
        content = base64.b64encode(path.read_bytes()).decode()
        cell.attachments = nbformat.from_dict({path.name: {"image/png": content}})
        return f"![{found['alt']}](attachment:{path.name})"

    cell.source = PICTURE.sub(attach, cell.source)


def _refuse_broken(cell: NotebookNode, place: str) -> None:
    try:
        ast.parse(cell.source)
    except SyntaxError as error:
        raise NotebookError(
            f"{place}: no valid Python is left for the student ({error.msg}): move the markers"
        ) from None


# Storing and checking


def problems(assignment: Assignment) -> list[str]:
    """What is out of step between a source and its student version."""
    wanted = seal(student(assignment))
    if not assignment.stored.is_file():
        return [f"missing: {assignment.source} has no {assignment.notebook}: run `make assignments`"]
    try:
        text = assignment.stored.read_text(encoding="utf-8")
        if text == wanted:
            return []
        edited = seal(nbformat.reads(text, as_version=4)) != text
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        return [f"unreadable: {assignment.notebook} ({str(error).splitlines()[0]}): {in_step.by_hand(assignment)}"]
    if edited:
        return [f"edited by hand: {assignment.notebook} is not what the tool wrote: {in_step.by_hand(assignment)}"]
    return [f"out of step: {assignment.notebook} is not what {assignment.source} now gives: run `make assignments`"]


def check(root: Path) -> list[str]:
    """Every problem of every assignment, in both directions."""
    found = []
    for assignment in assignments(root):
        try:
            found += problems(assignment)
        except NotebookError as error:
            found.append(str(error))
    stems = {assignment.stem for assignment in assignments(root)}
    return found + in_step.orphans(root, "notebooks/assignments", "book/assignments", stems)


def build(root: Path, stems: list[str], pictures: bool = False) -> list[str]:
    """Writes the student versions that are out of step; the problems, one for each that was not written."""
    found = []
    for assignment in assignments(root):
        if stems and assignment.stem not in stems:
            continue
        try:
            if pictures:
                atomic_write(assignment.picture, picture(master(assignment)))
            out_of_step = problems(assignment)
            if kept := [problem for problem in out_of_step if problem.startswith(("edited", "unreadable"))]:
                raise NotebookError(kept[0])  # somebody's answers may be in there: never written over
            if out_of_step:
                atomic_write(assignment.stored, seal(student(assignment)))
                print(assignment.notebook, flush=True)
        except NotebookError as error:
            found.append(f"{error}\n  {assignment.notebook} stays as it was")
    return found


def write_masters(root: Path, stems: list[str], folder: Path) -> list[str]:
    """Writes the notebooks with solutions and hidden tests to `folder`; the problems, as `build` gives them."""
    found = []
    for assignment in assignments(root):
        if stems and assignment.stem not in stems:
            continue
        try:
            notebook = illustrated(assignment)
            atomic_write(folder / f"{assignment.stem}.ipynb", serialise(notebook))
        except NotebookError as error:
            found.append(str(error))
    return found


# What a master says of itself


def questions(notebook: NotebookNode) -> dict[str, int]:
    """The points of each question that a test cell decides; free answers are for a person to mark."""
    options = [cell.metadata.get("nbgrader", {}) for cell in notebook.cells]
    return {each["grade_id"]: each["points"] for each in options if each.get("grade") and not each["solution"]}


def picture(notebook: NotebookNode) -> bytes:
    """What the cell tagged `picture` draws with the reference solution, as a PNG of few bytes."""
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}})
        try:
            client.execute(env=kernel_environment(Path(folder)))
        except CellExecutionError as error:
            raise NotebookError(f"the reference solution fails: {error.ename}: {error.evalue}") from None
    for cell in notebook.cells:
        if "picture" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    png = base64.b64decode(output.data["image/png"])
                    return compact(png)
    raise NotebookError("no cell is tagged picture: draw there what a right answer gives")


def asked(notebook: NotebookNode) -> list[str]:
    """The functions that the solutions define: what the tests may call."""
    sources = [cell.source for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    return [name for source in sources for name in re.findall(r"^def (\w+)\(", source, re.MULTILINE)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bookbuild assignments",
        description="Makes notebooks/assignments/*.ipynb from book/assignments/*.md.",
    )
    parser.add_argument("stems", nargs="*", metavar="stem", help="such as 01_gaussian_kl; default: every assignment")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 where one is out of step")
    parser.add_argument("--pictures", action="store_true", help="draw the pictures of right answers again first")
    parser.add_argument("--masters", type=Path, metavar="DIR", help="write the notebooks with solutions to DIR instead")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the book's folder")
    options = parser.parse_args(arguments)
    known = [assignment.stem for assignment in assignments(options.root)]
    if unknown := [stem for stem in options.stems if stem not in known]:
        parser.error(f"no such assignment: {', '.join(unknown)}; there are {', '.join(known) or 'none'}")
    if options.masters and (options.root / "notebooks").resolve() in [
        options.masters.resolve(),
        *options.masters.resolve().parents,
    ]:
        parser.error("--masters holds the solutions, and notebooks/ is what students get: name another folder")
    if options.check:
        found = check(options.root)
    elif options.masters:
        found = write_masters(options.root, options.stems, options.masters)
    else:
        found = build(options.root, options.stems, options.pictures)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0
