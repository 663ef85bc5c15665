"""Runs an assignment with given answers, for the book's own tests: quick to start, with no wall against hostile code.

A class is graded by grade.py; here come the reference solutions, the mistakes planted beside each, and mutants.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from nbformat import NotebookNode

from bookbuild.assignments import asked, blank, questions
from bookbuild.chapter import NotebookError
from classroom.run import LOCKED, STUDENT, TEST, Step, run

SEED = re.compile(r"^seed = \d+$", re.MULTILINE)


@dataclass(frozen=True)
class Mark:
    """What one question got, and the last line of the error if it got nothing."""

    points: int
    possible: int
    message: str = ""


def blanks(notebook: NotebookNode) -> dict[str, str]:
    """The answers of a student who did nothing."""
    return {
        cell.metadata["nbgrader"]["grade_id"]: blank(cell)
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")
    }


def read_answers(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The answers of a planted wrong submission, and the marks that its head says it must get.

    The head is a docstring with a paragraph 'marks: {question: points, ...}'; then what all answers import; then a
    line '# %% grade_id' before each answer. A cell without an answer keeps the reference solution.
    """
    text = path.read_text(encoding="utf-8")
    head = ast.get_docstring(ast.parse(text)) or ""
    if not (found := re.search(r"^marks: (\{.*?\})$", head, re.MULTILINE | re.DOTALL)):
        raise NotebookError(f"{path.name}: the docstring must hold a line 'marks: {{question: points, ...}}'")
    preamble, *parts = re.split(r"^# %% ", text, flags=re.MULTILINE)
    imports = preamble.split('"""', 2)[2].strip()
    answers = {part.split("\n", 1)[0].strip(): f"{imports}\n\n{part.split(chr(10), 1)[1]}" for part in parts}
    if not answers:
        raise NotebookError(f"{path.name}: there is no line '# %% grade_id' before the answers")
    return answers, yaml.safe_load(found[1])


def grade(
    notebook: NotebookNode, answers: dict[str, str] | None = None, seed: int | None = None, limit: float = 60
) -> dict[str, Mark]:
    """Runs the notebook with the answers in place of the solutions; the marks of each question.

    The answers run in one process and the tests in another, as for a class, but with no wall around the answers. A cell
    that raises, takes more than `limit` seconds or ends its process stops none of those after it.
    """
    possible = questions(notebook)
    outcomes = run(_steps(notebook, answers or {}, seed), asked(notebook), limit=limit)
    found = {each.name: each.error for each in outcomes if each.name in possible}
    return {name: Mark(0 if found[name] else points, points, found[name]) for name, points in possible.items()}


def _steps(notebook: NotebookNode, answers: dict[str, str], seed: int | None) -> list[Step]:
    """The code cells with the answers in place of the solutions, but for the picture's."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if unknown := answers.keys() - {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in code}:
        raise NotebookError(f"answers to cells that are not there: {sorted(unknown)}")
    return [
        step_of(cell, answers.get(cell.metadata.get("nbgrader", {}).get("grade_id")), seed)
        for cell in code
        if "picture" not in cell.metadata.get("tags", [])
    ]


def step_of(cell: NotebookNode, answer: str | None = None, seed: int | None = None) -> Step:
    """A master's code cell as a step of a run, with a student's answer in it or another seed where it is the seed's."""
    options = cell.metadata.get("nbgrader", {})
    name = options.get("grade_id", "")
    if options.get("solution"):
        return Step(STUDENT, name, cell.source if answer is None else answer)
    ours = options.get("grade") or "picture" in cell.metadata.get("tags", [])
    source = cell.source
    if name == "seed" and seed is not None:
        source, count = SEED.subn(f"seed = {seed}", source)
        if count != 1:
            raise NotebookError("the cell 'seed' must hold one line 'seed = ...' with a number")
    return Step(TEST if ours else LOCKED, name, source)
