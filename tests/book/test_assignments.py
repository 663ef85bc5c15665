"""Each assignment gives full marks to its solution, none to a blank, and to each planted mistake what it deserves.

The long runs (every mutant of the solutions, 100 seeds) are in proofs/prove_assignments.py: `make assignments-proof`.
"""

import io
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from bookbuild import assignments as tool
from bookbuild import pages
from classroom import trial

ROOT = Path(__file__).resolve().parents[2]

ALL = tool.assignments(ROOT)
each = pytest.mark.parametrize("assignment", ALL, ids=lambda assignment: assignment.stem)


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Kernels too keep to one thread: the tests run side by side."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def points(marks) -> dict[str, int]:
    return {name: mark.points for name, mark in marks.items()}


def secret_lines(assignment) -> set[str]:
    """The lines that stand only between the markers and are long enough to stand for nothing else."""
    *regions, rest = re.split(r"### (?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS)\n", assignment.text())
    seen = {line.strip() for text in (*regions[::2], rest) for line in text.split("\n")}
    lines = {line.strip() for text in regions[1::2] for line in text.split("\n")}
    return {line for line in lines - seen if len(line) > 25 and not re.match("(from|import) ", line)}


# The marks


@each
def test_the_solution_gets_full_marks_and_draws_the_picture(assignment):
    notebook = tool.master(assignment)
    marks = trial.grade(notebook)
    assert {name: mark.message for name, mark in marks.items()} == dict.fromkeys(marks, "")
    assert points(marks) == tool.questions(notebook)
    drawn, stored = (
        np.asarray(Image.open(io.BytesIO(png)).convert("L").resize((300, 120)), dtype=float)
        for png in (tool.picture(notebook), assignment.picture.read_bytes())
    )
    # Fonts and their rendering differ between versions of matplotlib by a few grey levels of 255 on average.
    assert np.abs(drawn - stored).mean() < 8


@each
def test_another_seed_gives_the_solution_full_marks_too(assignment):
    notebook = tool.master(assignment)
    for seed in (1, 20_270_101):
        assert points(trial.grade(notebook, seed=seed)) == tool.questions(notebook)


@each
def test_a_blank_gets_nothing_and_the_same_clear_message_everywhere(assignment):
    notebook = tool.master(assignment)
    marks = trial.grade(notebook, trial.blanks(notebook))
    assert set(points(marks).values()) == {0}
    assert {mark.message for mark in marks.values()} == {"NotImplementedError: your answer"}


@each
def test_the_points_in_the_text_are_those_of_the_cells(assignment):
    options = [cell.metadata.get("nbgrader", {}) for cell in tool.master(assignment).cells]
    total = sum(option.get("points", 0) for option in options)
    free = sum(option.get("points", 0) for option in options if option.get("solution"))
    text = " ".join(assignment.text().split())
    assert f"**Points**: {total}, of which {free} are for a free answer" in text
    table = re.findall(r"^\| \d \| .* \| ([\d +]+) \|$", assignment.text(), re.MULTILINE)
    assert sum(int(number) for cell in table for number in cell.split("+")) == total


TINY = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3 (ipykernel)
  language: python
---

# Tiny

```{code-cell} ipython3
:nbgrader: {grade_id: one, solution: true}

def one():
    ### BEGIN SOLUTION
    return 1  # the first secret of all
    ### END SOLUTION
```

```{code-cell} ipython3
:nbgrader: {grade_id: test-one, grade: true, points: 2}

assert one() > 0, "one() is not positive"
### BEGIN HIDDEN TESTS
assert one() == 1, "the second secret of all"
### END HIDDEN TESTS
```

```{code-cell} ipython3
:nbgrader: {grade_id: test-two, grade: true, points: 1}

assert one() < 2, "one() is not below two"
```

+++ {"nbgrader": {"grade_id": "words", "grade": true, "solution": true, "points": 3}}

### BEGIN SOLUTION
The third secret.
### END SOLUTION
"""


@pytest.fixture
def course(tmp_path):
    """A book of its own with one tiny assignment, its student version in step."""
    (tmp_path / "book/assignments").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    source(tmp_path).write_text(TINY, encoding="utf-8")
    assert tool.build(tmp_path, []) == [] and tool.check(tmp_path) == []
    return tmp_path


def source(root: Path) -> Path:
    return root / "book/assignments/01_tiny.md"


def stored(root: Path) -> Path:
    return root / "notebooks/assignments/01_tiny.ipynb"


def tiny(root: Path):
    return tool.master(tool.Assignment(root, "01_tiny"))


@pytest.mark.parametrize(
    ("body", "symptom"),
    [
        ("while True: pass", "more than 1 seconds"),
        ("import os; os._exit(0)", "ended with the exit status 0"),
        ("raise SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_an_answer_that_hangs_or_ends_the_process_gets_nothing_and_says_so(course, body, symptom):
    marks = trial.grade(tiny(course), {"one": f"def one():\n    {body}"}, limit=1)
    assert set(points(marks).values()) == {0}
    assert all(symptom in mark.message for mark in marks.values())


def test_a_failed_question_costs_no_other(course):
    marks = trial.grade(tiny(course), {"one": "def one():\n    return 0.5"})
    assert points(marks) == {"test-one": 0, "test-two": 1}
    assert marks["test-one"].message == "AssertionError: the second secret of all"


def test_an_answer_to_a_cell_that_is_not_there_is_refused(course):
    with pytest.raises(tool.NotebookError, match="two"):
        trial.grade(tiny(course), {"two": ""})


# What the student gets


@each
def test_the_student_gets_no_solution_no_hidden_test_and_no_output(assignment):
    text = assignment.stored.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert secret_lines(assignment)
    assert not secret_lines(assignment) & {line.strip() for cell in notebook.cells for line in cell.source.split("\n")}
    assert not tool.MARKER.search(text)
    assert set(notebook.metadata) == {"kernelspec", "language_info", "vaelib"}  # so no pairing with any other file
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    stubs = [cell for cell in code if cell.source.endswith('raise NotImplementedError("your answer")')]
    assert len(stubs) == len(trial.blanks(tool.master(assignment)))


@each
def test_the_picture_comes_before_the_first_code_that_is_asked_for(assignment):
    cells = tool.student(assignment).cells
    first = next(i for i, cell in enumerate(cells) if cell.metadata.get("nbgrader", {}).get("solution"))
    (picture,) = [i for i, cell in enumerate(cells) if cell.get("attachments")]
    assert picture < first
    assert "](attachment:picture.png)" in cells[picture].source


@each
def test_the_master_runs_in_a_kernel_as_it_stands(assignment, tmp_path):
    assert tool.write_masters(ROOT, [assignment.stem], tmp_path) == []
    notebook = nbformat.read(tmp_path / f"{assignment.stem}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[-1].outputs)


def test_nothing_of_an_assignment_is_in_the_site(tmp_path):
    pages.assemble(tmp_path / "source", ROOT)
    files = [path for path in (tmp_path / "source").rglob("*") if path.is_file()]
    assert files and not [path for path in files if "assignments" in path.relative_to(tmp_path).parts]
    # As the text stands in a notebook, with its quotation marks escaped.
    text = "\n".join(path.read_text("utf-8") for path in files if path.suffix in {".md", ".ipynb"})
    for assignment in ALL:
        secrets = secret_lines(assignment)
        known = {line for line in secrets if json.dumps(line)[1:-1] in text}
        # A chapter may hold a line such as `z = reparameterize(mu, log_var, generator)` too, here and there one.
        lines = [line.strip() for line in assignment.text().split("\n") if line.strip()]
        assert not [pair for pair in itertools.pairwise(lines) if known.issuperset(pair)]
        assert len(known) < 5 < len(secrets)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_nbval_is_not_run_on_notebooks_that_wait_for_an_answer():
    plan = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in plan.split("\n") if "--nbval-lax" in line]
    assert "notebooks/01_kl_divergence.ipynb" in line and "assignments" not in line


def test_the_same_source_gives_the_same_bytes_with_readable_ids(course):
    first = stored(course).read_bytes()
    stored(course).unlink()
    assert tool.build(course, []) == []
    assert stored(course).read_bytes() == first
    ids = [cell.id for cell in nbformat.reads(first.decode(), as_version=4).cells]
    assert ids[1:] == ["set-up", "one", "test-one", "test-two", "words"]


def test_nbgraders_metadata_is_written_out_in_full(course):
    cells = {cell.id: cell.metadata.nbgrader for cell in nbformat.read(stored(course), as_version=4).cells[1:]}
    plain = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
    assert cells["one"] == {**plain, "grade_id": "one", "solution": True}
    assert cells["test-one"] == {**plain, "grade_id": "test-one", "grade": True, "locked": True, "points": 2}
    assert cells["words"] == {**plain, "grade_id": "words", "grade": True, "solution": True, "points": 3}


def test_a_free_answer_is_no_question_that_a_test_decides(course):
    assert tool.questions(tiny(course)) == {"test-one": 2, "test-two": 1}
    assert nbformat.read(stored(course), as_version=4).cells[-1].source == "*Your answer.*"


# Out of step


def test_a_changed_source_is_found_and_built(course):
    source(course).write_text(TINY.replace("points: 2", "points: 5"), encoding="utf-8")
    (problem,) = tool.check(course)
    assert problem.startswith("out of step") and str(source(course).relative_to(course)) in problem
    assert tool.build(course, []) == [] and tool.check(course) == []


def test_a_changed_solution_puts_the_student_version_out_of_step_too(course):
    source(course).write_text(TINY.replace("return 1 ", "return  1"), encoding="utf-8")
    assert [problem.split(":")[0] for problem in tool.check(course)] == ["out of step"]


def test_an_edited_student_version_is_named_and_never_written_over(course):
    text = stored(course).read_text("utf-8").replace("your answer", "my answer")
    stored(course).write_text(text, encoding="utf-8")
    (problem,) = tool.check(course)
    assert problem.startswith("edited by hand") and "book/assignments/01_tiny.md" in problem
    assert len(tool.build(course, [])) == 1
    assert stored(course).read_text("utf-8") == text


def test_a_missing_an_unreadable_and_an_orphaned_student_version_are_named(course):
    stored(course).with_name("09_gone.ipynb").write_text("{}", encoding="utf-8")
    stored(course).write_text("<<<<<<< HEAD", encoding="utf-8")
    assert [problem.split(":")[0] for problem in tool.check(course)] == ["unreadable", "orphan"]
    stored(course).unlink()
    assert [problem.split(":")[0] for problem in tool.check(course)] == ["missing", "orphan"]


def test_the_command_says_so_by_its_exit_status(course, capsys):
    assert tool.main(["--check", "--root", str(course)]) == 0
    stored(course).unlink()
    assert tool.main(["--check", "--root", str(course)]) == 1
    assert "make assignments" in capsys.readouterr().err


def test_masters_are_not_written_to_where_students_get_their_notebooks(course):
    with pytest.raises(SystemExit):
        tool.main(["--root", str(course), "--masters", str(course / "notebooks/assignments")])
    assert "secret" not in stored(course).read_text("utf-8")
    assert tool.main(["--root", str(course), "--masters", str(course / "masters")]) == 0
    assert (course / "masters/01_tiny.ipynb").read_text("utf-8").count("secret") == 3


# Sources that would leak or break


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("### BEGIN SOLUTION\n    return", "## BEGIN SOLUTION\n    return", "line 17.*no marker"),
        ("    ### BEGIN SOLUTION\n    return", "    ### begin solution\n    return", "no marker"),
        ("    ### END SOLUTION\n", "", "no '### END SOLUTION'"),
        ("    ### BEGIN SOLUTION\n    return", "    return", "does not fit the marker before it"),
        ("solution: true}", "locked: true}", "not for it"),
        (
            "    ### BEGIN SOLUTION\n    return 1  # the first secret of all\n    ### END SOLUTION",
            "    return 1",
            "all of",
        ),
        ("### BEGIN HIDDEN TESTS", "### BEGIN HIDDEN TEST", "no marker"),
        ("grade_id: test-two", "grade_id: test-one", "used twice"),
        ("grade_id: test-two", "grade_id: test two", "small letters"),
        ("grade_id: test-two, ", "", "small letters"),
        (", points: 1}", "}", "points None"),
        ("points: 1}", "points: 0}", "points 0"),
        ("points: 1}", "points: 1, worth: 2}", "worth"),
        ("solution: true}", "solution: true, points: 1}", "not graded"),
        ("solution: true}", "solution: true, task: true}", "task"),
        ("solution: true}", "solution: true, grade: true, points: 1}", "a cell of their own"),
        ('"solution": true, "points": 3', '"points": 3', "both grade and solution"),
        ("# Tiny", "Tiny", "title"),
        ("# Tiny", "# Tiny\n\nSee {eq}`eq-kl`.", "plain Markdown"),
        ("# Tiny", "# Tiny\n\n![](01_tiny/picture.png)", "alt text"),
        ("# Tiny", "# Tiny\n\n![A line.](01_tiny/picture.png)", "--pictures"),
        ("def one():", "def one()", "valid Python"),
        ("name: python3", "name: ir", "'ir'"),
        (":nbgrader: {grade_id: test-two", ":tags: [hard]\n:nbgrader: {grade_id: test-two", "hard"),
    ],
)
def test_a_source_that_would_leak_or_break_is_refused_by_place_and_name(course, old, new, message):
    assert old in TINY
    source(course).write_text(TINY.replace(old, new, 1), encoding="utf-8")
    before = stored(course).read_bytes()
    (problem,) = tool.check(course)
    assert re.search(message, problem) and "book/assignments/01_tiny.md" in problem
    assert len(tool.build(course, [])) == 1
    assert stored(course).read_bytes() == before


def test_a_planted_mistake_without_its_marks_or_its_cells_is_refused(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text('"""Why."""\n\n# %% one\nx = 1\n', encoding="utf-8")
    with pytest.raises(tool.NotebookError, match="marks"):
        trial.read_answers(path)
    path.write_text('"""Why.\n\nmarks: {test-one: 0}\n"""\n\nx = 1\n', encoding="utf-8")
    with pytest.raises(tool.NotebookError, match="grade_id"):
        trial.read_answers(path)
