"""Each mistake that is planted beside an assignment gets exactly the marks that it deserves, by name and question.

A module of its own, so that it runs beside the other tests of the assignments: it takes as long as all of them.
"""

from pathlib import Path

import pytest

from bookbuild import assignments as tool
from classroom import trial

ROOT = Path(__file__).resolve().parents[2]

ALL = tool.assignments(ROOT)
WRONG = [
    pytest.param(assignment, path, id=f"{assignment.stem}-{path.stem}")
    for assignment in ALL
    for path in sorted((ROOT / "book/assignments" / assignment.stem / "wrong").glob("*.py"))
]


@pytest.mark.parametrize(("assignment", "path"), WRONG)
def test_each_planted_mistake_gets_exactly_its_marks(assignment, path):
    answers, expected = trial.read_answers(path)
    notebook = tool.master(assignment)
    marks = trial.grade(notebook, answers)
    assert {name: mark.points for name, mark in marks.items()} == expected, {
        name: mark.message for name, mark in marks.items() if mark.message
    }
    assert expected != tool.questions(notebook)  # a mistake that costs nothing would be a hole in the tests
    # The symptom in words, or Python's own error where the answer cannot run at all: never a bare "AssertionError: ".
    assert all(len(mark.message) > 30 for mark in marks.values() if not mark.points)


@pytest.mark.parametrize("assignment", ALL, ids=lambda assignment: assignment.stem)
def test_at_least_eight_mistakes_are_planted_and_each_question_is_lost_by_one_of_them(assignment):
    found = [trial.read_answers(param.values[1])[1] for param in WRONG if param.values[0] is assignment]
    assert len(found) >= 8
    assert {name for marks in found for name, mark in marks.items() if mark == 0} == set(
        tool.questions(tool.master(assignment))
    )
