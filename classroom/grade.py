"""Grades a folder of submissions: marks per question as CSV, and for each student a page of feedback.

python -m classroom grade SUBMISSIONS [--out DIR] [--seed N]   grade what is new or changed; write marks and feedback
python -m classroom grade SUBMISSIONS --again                  grade everything again
python -m classroom grade --gradescope FILE results.json       grade one notebook, for an autograder such as Gradescope

Answers run behind bubblewrap where that works (sandbox.py), the tests in another process. What is handed in is never
written to. What a person gave for free answers is read from DIR/manual.json, which gradebook.py writes.
"""

import argparse
import functools
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from bookbuild import assignments as tool
from classroom import report, sandbox
from classroom.collect import Submission, collect, identify
from classroom.rebuild import EXTRA, MASTER, Rebuilt, grade_id, rebuild
from classroom.run import STUDENT, Outcome, Step, run
from classroom.trial import step_of
from vaelib._files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
INDEX = "results/index.json"
LIMIT = 20.0  # seconds for a cell; a whole solution takes 5


@dataclass
class Result:
    """What one submission got, and all that marks and feedback are made of."""

    student: str
    assignment: str
    file: str
    key: str = ""  # of what the marks follow from: the file, the assignment, the seed, this program
    problem: str = ""
    walled: bool = False
    seconds: float = 0.0
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    free: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cells: list[dict[str, str]] = field(default_factory=list)


class Grader:
    """The assignments, read once, and how they are run."""

    def __init__(self, root: Path = ROOT, seed: int | None = None, limit: float = LIMIT, start: Any = None):
        self.walled = start is None and not sandbox.why_no_wall()
        self.seed, self.limit, self.start = seed, limit, start or functools.partial(sandbox.bounded, self.walled)
        found = {assignment.stem: assignment for assignment in tool.assignments(root)}
        self.masters = {stem: tool.illustrated(assignment) for stem, assignment in found.items()}
        self.students = {stem: tool.student(assignment) for stem, assignment in found.items()}
        program = sorted(Path(__file__).parent.glob("*.py"))
        self._program = hashlib.sha256(b"".join(path.read_bytes() for path in program)).hexdigest()

    def grade_ids(self) -> dict[str, set[str]]:
        """The grade_ids of each assignment."""
        return {stem: {grade_id(cell) for cell in master.cells} - {""} for stem, master in self.masters.items()}

    def key(self, submission: Submission) -> str:
        """A hash of all that the marks follow from."""
        content = ""
        if submission.notebook is not None:
            with submission.path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        master = submission.assignment and self.masters[submission.assignment].metadata.vaelib.source_sha256
        run = [master, self.seed, self.limit, self.walled, self._program]
        return hashlib.sha256(json.dumps([submission.student, submission.problem, content, *run]).encode()).hexdigest()

    def grade(self, submission: Submission) -> tuple[Result, NotebookNode | None]:
        """Runs one submission, whatever is in it; the result, and the notebook as it ran, for the teacher alone."""
        result = Result(
            submission.student,
            submission.assignment,
            submission.path.name,
            self.key(submission),
            submission.problem,
            self.walled,
        )
        if not submission.assignment:
            return result, None
        master, student = self.masters[submission.assignment], self.students[submission.assignment]
        rebuilt = rebuild(master, student, submission.notebook or student)
        result.notes = [] if submission.problem else rebuilt.notes
        result.free = {
            grade_id(cell): {"possible": cell.metadata.nbgrader.points, "text": rebuilt.free[grade_id(cell)]}
            for cell in _free_cells(master)
        }
        outcomes: dict[str, Outcome] = {}
        if submission.notebook is not None:
            begin = time.perf_counter()
            # The names are the master's: an answer that defines others, those of the tests' tools say, changes nothing.
            steps = run(list(_steps(rebuilt, self.seed)), tool.asked(master), self.start, self.limit)
            outcomes = {outcome.name: outcome for outcome in steps}
            result.seconds = round(time.perf_counter() - begin, 2)
        for name, full in tool.questions(master).items():
            error = submission.problem or outcomes[name].error
            result.questions[name] = _mark(0 if error else full, full, error)
        result.cells = list(_shown(rebuilt, outcomes)) if outcomes else []
        return result, _executed(rebuilt, outcomes, result)


def _mark(points: int, possible: int, message: str) -> dict[str, Any]:
    return {"points": points, "possible": possible, "message": message[: report.MESSAGE]}


def _free_cells(master: NotebookNode) -> list[NotebookNode]:
    return [
        cell for cell in master.cells if cell.cell_type == "markdown" and cell.metadata.get("nbgrader", {}).get("grade")
    ]


def _steps(rebuilt: Rebuilt, seed: int | None) -> Iterator[Step]:
    """The code cells up to the last test; an answer that is not there is not run, lest its stub hide another cell's."""
    cells = list(zip(rebuilt.notebook.cells, rebuilt.owners, strict=True))
    tests = [place for place, (cell, _) in enumerate(cells) if cell.metadata.get("nbgrader", {}).get("points")]
    for place, (cell, owner) in enumerate(cells[: max(tests, default=-1) + 1]):
        if cell.cell_type != "code":
            continue
        if owner == EXTRA:
            yield Step(STUDENT, f"cell {place}", cell.source)
        elif owner != MASTER or not cell.metadata.get("nbgrader", {}).get("solution"):
            yield step_of(cell, cell.source, seed)


def _shown(rebuilt: Rebuilt, outcomes: dict[str, Outcome]) -> Iterator[dict[str, str]]:
    """The student's own cells, for the feedback, and what they printed up to the first test: not what a test passed."""
    tested = False
    for place, (cell, owner) in enumerate(zip(rebuilt.notebook.cells, rebuilt.owners, strict=True)):
        tested = tested or bool(cell.metadata.get("nbgrader", {}).get("points"))
        if owner == MASTER:
            continue
        name = grade_id(cell) or f"cell {place}"
        outcome = outcomes.get(name, Outcome(name))
        yield {
            "name": grade_id(cell),
            "kind": cell.cell_type,
            "source": cell.source[: report.SHOWN],
            "output": "" if tested else outcome.output[: report.SHOWN],
            "error": outcome.error[: report.MESSAGE],
        }


def _executed(rebuilt: Rebuilt, outcomes: dict[str, Outcome], result: Result) -> NotebookNode:
    """The notebook with what its cells printed and how they failed, and on top what was put right."""
    notebook = rebuilt.notebook
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            outcome = outcomes.get(grade_id(cell) or f"cell {place}", Outcome(""))
            cell.outputs = [nbformat.v4.new_output("stream", text=outcome.output)] if outcome.output else []
            if outcome.error:
                kind, _, message = outcome.error.partition(": ")
                cell.outputs.append(
                    nbformat.v4.new_output("error", ename=kind, evalue=message, traceback=[outcome.error])
                )
    if remarks := [result.problem] * bool(result.problem) + result.notes:
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell("\n".join(f"- {remark}" for remark in remarks)))
    notebook.metadata.vaelib.free = {name: each["text"] for name, each in result.free.items()}
    for place, cell in enumerate(notebook.cells):  # ids of files that were put together may be there twice
        cell.id = grade_id(cell) or f"cell-{place}"
    return notebook


# A folder of submissions


def grade_all(
    grader: Grader, submissions: list[Submission], out: Path, again: bool = False, jobs: int = 2
) -> list[Result]:
    """Grades what is new or changed, stores each result as soon as it is there, and returns all of them."""
    results: dict[int, Result] = {}
    waiting: dict[int, Submission] = {}
    for place, submission in enumerate(submissions):
        stored = None if again else _stored(_place(out, submission))
        if stored is not None and stored.key == grader.key(submission):
            results[place] = stored
        else:
            waiting[place] = submission
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(_graded, grader, submission): place for place, submission in waiting.items()}
        for future in as_completed(running):
            place = running[future]
            results[place], notebook = future.result()
            if notebook is not None:
                atomic_write(_place(out, submissions[place], "notebooks"), nbformat.writes(notebook))
            atomic_write(_place(out, submissions[place]), _text(results[place]))
            print(
                f"{len(results)}/{len(submissions)} {results[place].student} {submissions[place].path.name}", flush=True
            )
    _restore(out, submissions, results)
    index = [str(_place(out, submission).relative_to(out)) for submission in submissions]
    atomic_write(out / INDEX, json.dumps(index, indent=1))
    return [results[place] for place in range(len(submissions))]


def _graded(grader: Grader, submission: Submission) -> tuple[Result, NotebookNode | None]:
    """The result, also where this program itself failed: then it says so, and the next run tries again."""
    try:
        return grader.grade(submission)
    except Exception as error:
        reason = f"not graded, by a fault of the grading: {type(error).__name__}: {error}"
        return Result(submission.student, submission.assignment, submission.path.name, problem=reason), None


def write_report(out: Path) -> list[Result]:
    """Writes marks and feedback of what was in the submissions' folder last; other results stay stored."""
    found = [str(path.relative_to(out)) for path in (out / "results").glob("*/*.json")]
    index = json.loads((out / INDEX).read_text(encoding="utf-8")) if (out / INDEX).is_file() else found
    results = [result for place in sorted(index) if (result := _stored(out / place))]
    report.write(out, [asdict(result) for result in results])
    return results


def output_folder(submissions: Path, out: Path | None) -> Path:
    """Where marks and feedback go; never into the submissions' folder."""
    folder = submissions.resolve()
    out = (out or folder.with_name(f"{folder.name}-graded")).resolve()
    if out == folder or out.is_relative_to(folder):
        raise SystemExit("--out lies in the submissions' folder, which is never written to: name another one")
    return out


def _place(out: Path, submission: Submission, kind: str = "results") -> Path:
    name = submission.assignment or f"file-{hashlib.sha256(submission.path.name.encode()).hexdigest()[:8]}"
    suffix = ".json" if kind == "results" else ".ipynb"
    return out / kind / report.safe(submission.student) / f"{name}{suffix}"


def _text(result: Result) -> str:
    return json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n"


def _stored(path: Path) -> Result | None:
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _restore(out: Path, submissions: list[Submission], results: dict[int, Result]) -> None:
    """Without a wall an answer can write where the teacher can: what it changed among the results is put back."""
    for place, result in results.items():
        path = _place(out, submissions[place])
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != _text(result):
            print(f"{path.name} of {result.student} was changed while grading; it is put back", file=sys.stderr)
            atomic_write(path, _text(result))


# The commands


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m classroom grade", description="Grades submissions: marks per question, and feedback."
    )
    parser.add_argument("submissions", type=Path, nargs="?", help="the folder with what was handed in")
    parser.add_argument("--out", type=Path, help="where marks and feedback go; default: SUBMISSIONS-graded beside it")
    parser.add_argument("--seed", type=int, help="the seed of the tests, in place of the one in the notebooks")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds that a cell may take (%(default)g)")
    parser.add_argument("--jobs", type=int, default=2, help="submissions at the same time (%(default)d)")
    parser.add_argument("--again", action="store_true", help="grade also what has not changed")
    parser.add_argument("--gradescope", type=Path, nargs=2, metavar=("NOTEBOOK", "JSON"), help="grade one notebook")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder of the book that holds the assignments")
    options = parser.parse_args(arguments)
    if not options.submissions and not options.gradescope:
        parser.error("name the folder with the submissions: make grade SUBMISSIONS=folder")
    if options.submissions and not options.submissions.is_dir():
        parser.error(f"there is no folder {options.submissions}: make one, with a folder or a file for each student")
    if why := sandbox.why_no_wall():
        print(f"Warning: answers are NOT walled in: {why}.", file=sys.stderr)
        print("They can read your files and use your network. Grade strangers' code elsewhere.", file=sys.stderr)
    grader = Grader(options.root, options.seed, options.limit)
    if options.gradescope:
        return _gradescope(grader, *options.gradescope)
    folder = options.submissions.resolve()
    out = output_folder(folder, options.out)
    submissions = collect(folder, grader.grade_ids())
    if not submissions:
        print(f"There is no notebook below {options.submissions}.", file=sys.stderr)
        return 1
    begin = time.monotonic()
    results = grade_all(grader, submissions, out, options.again, options.jobs)
    report.write(out, [asdict(result) for result in results])
    print(
        f"{len(results)} submissions in {(time.monotonic() - begin) / 60:.1f} minutes: {out / 'marks.csv'}, feedback/"
    )
    failed = [result for result in results if result.problem]
    for result in failed:
        print(f"{result.student}, {result.file}: {result.problem}", file=sys.stderr)
    return 0


def _gradescope(grader: Grader, notebook: Path, target: Path) -> int:
    """One notebook, graded into the file that Gradescope reads."""
    submission = identify(notebook, notebook.parent, grader.grade_ids())
    atomic_write(target, json.dumps(report.gradescope(asdict(grader.grade(submission)[0])), indent=1))
    return 0
