"""The class of 30 (tests/classroom.py) is graded behind the wall: the table of marks given and deserved, and the time.

Run by `make assignments-proof`. Without bubblewrap it fails: what is claimed is the marks behind the wall.
"""

import importlib
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
grade = importlib.import_module("grading.grade")
classroom = importlib.import_module("classroom")
collect = importlib.import_module("grading.collect")
wall = importlib.import_module("grading.wall")


@pytest.fixture
def server():
    """A server on this machine that has the answers ready, and counts who asks."""
    asked = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            asked.append(self.client_address)
            self.request.sendall(classroom.solution().encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1], asked
        running.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nobody_in_the_class_gets_more_or_less_than_is_deserved(tmp_path, server):
    assert wall.why_no_wall() == ""
    port, asked = server
    folder, out = tmp_path / "submissions", tmp_path / "submissions-graded"
    students = [*classroom.HONEST, *classroom.HOSTILE]
    assert (len(classroom.HONEST), len(classroom.HOSTILE)) == (5, 25)
    deserved = classroom.seat(folder, students, port)
    before = contents(folder)
    grader = grade.Grader()
    begin = time.perf_counter()
    results = {r.student: r for r in grade.grade_all(grader, collect.collect(folder, grader.grade_ids()), out)}
    minutes = (time.perf_counter() - begin) / 60
    given = {name: {key: each["points"] for key, each in result.questions.items()} for name, result in results.items()}
    print(f"\n{len(students)} students, {minutes:.1f} minutes")
    print("| student | deserved | given | seconds |\n|---|---|---|---|")
    for student in students:
        name = student.__name__
        print(f"| {name} | {sum(deserved[name].values())} | {sum(given[name].values())} | {results[name].seconds} |")
    assert given == deserved
    assert contents(folder) == before and classroom.written() == [] and asked == []
    assert {result.walled for result in results.values()} == {True}


MARK = """\
import sys
from nbgrader.api import Gradebook

with Gradebook(sys.argv[1]) as book:
    notebook = book.find_submission_notebook("{stem}", "{stem}", "honest_all_right")
    grade = next(grade for grade in notebook.grades if grade.name == "words")
    assert grade.needs_manual_grade and grade.auto_score is None
    grade.manual_score, grade.needs_manual_grade = 3, False
    next(comment for comment in notebook.comments if comment.name == "words").manual_comment = "Well argued"
    book.db.commit()
    print(notebook.score, notebook.max_score, notebook.needs_manual_grade)
"""


def test_what_a_person_gives_in_nbgraders_gradebook_arrives_and_waits_again_when_the_answer_changes(tmp_path):
    gradebook = importlib.import_module("gradebook")
    folder, out = tmp_path / "submissions", tmp_path / "submissions-graded"
    students = [classroom.honest_all_right, classroom.honest_half_done, classroom.merge_markers]
    deserved = classroom.seat(folder, students)
    assert grade.main([str(folder)]) == 0
    assert gradebook.main([str(folder)]) == 0
    words = f"honest_all_right,{classroom.STEM},words,"
    assert f"{words},4,to be marked by a person" in (out / "marks.csv").read_text("utf-8")
    database = f"sqlite:///{out / 'nbgrader/gradebook.db'}"
    command = [gradebook.environment(), "-c", MARK.format(stem=classroom.STEM), database]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told == [f"{sum(deserved['honest_all_right'].values()) + 3:.1f}", "20.0", "False"]
    for _ in range(2):
        assert gradebook.main([str(folder)]) == 0
        assert f"{words}3.0,4,Well argued" in (out / "marks.csv").read_text("utf-8")
        assert "Well argued" in (out / "feedback/honest_all_right.html").read_text("utf-8")
    desk = classroom.Desk(folder / "honest_all_right")
    desk.answer_all()
    desk.cell("words").source = "Another answer."
    desk.hand_in()
    assert grade.main([str(folder)]) == 0
    assert gradebook.main([str(folder)]) == 0
    assert f"{words},4,to be marked by a person" in (out / "marks.csv").read_text("utf-8")
