"""The class of 30 (tests/classroom/students.py) is graded in the sandbox: marks given and deserved, and the time.

Run by `make assignments-proof`. Without bubblewrap it fails: what is claimed is the marks behind the sandbox.
"""

import socketserver
import subprocess
import threading
import time
from pathlib import Path

import pytest

from classroom import collect, grade, gradebook, sandbox
from tests.classroom import students

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server():
    """A server on this machine that has the answers ready, and counts who asks."""
    asked = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            asked.append(self.client_address)
            self.request.sendall(students.solution().encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1], asked
        running.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nobody_in_the_class_gets_more_or_less_than_is_deserved(tmp_path, server):
    assert sandbox.why_no_wall() == ""
    port, asked = server
    folder, out = tmp_path / "submissions", tmp_path / "submissions-graded"
    chosen = [*students.HONEST, *students.HOSTILE]
    assert (len(students.HONEST), len(students.HOSTILE)) == (5, 25)
    deserved = students.seat(folder, chosen, port)
    before = contents(folder)
    grader = grade.Grader()
    begin = time.perf_counter()
    results = {r.student: r for r in grade.grade_all(grader, collect.collect(folder, grader.grade_ids()), out)}
    minutes = (time.perf_counter() - begin) / 60
    given = {name: {key: each["points"] for key, each in result.questions.items()} for name, result in results.items()}
    print(f"\n{len(chosen)} students, {minutes:.1f} minutes")
    print("| student | deserved | given | seconds |\n|---|---|---|---|")
    for student in chosen:
        name = student.__name__
        print(f"| {name} | {sum(deserved[name].values())} | {sum(given[name].values())} | {results[name].seconds} |")
    assert given == deserved
    assert contents(folder) == before and students.written() == [] and asked == []
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
    folder, out = tmp_path / "submissions", tmp_path / "submissions-graded"
    chosen = [students.honest_all_right, students.honest_half_done, students.merge_markers]
    deserved = students.seat(folder, chosen)
    assert grade.main([str(folder)]) == 0
    assert gradebook.main([str(folder)]) == 0
    words = f"honest_all_right,{students.STEM},words,"
    assert f"{words},4,to be marked by a person" in (out / "marks.csv").read_text("utf-8")
    database = f"sqlite:///{out / 'nbgrader/gradebook.db'}"
    command = [gradebook.environment(), "-c", MARK.format(stem=students.STEM), database]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told == [f"{sum(deserved['honest_all_right'].values()) + 3:.1f}", "20.0", "False"]
    for _ in range(2):
        assert gradebook.main([str(folder)]) == 0
        assert f"{words}3.0,4,Well argued" in (out / "marks.csv").read_text("utf-8")
        assert "Well argued" in (out / "feedback/honest_all_right.html").read_text("utf-8")
    desk = students.Desk(folder / "honest_all_right")
    desk.answer_all()
    desk.cell("words").source = "Another answer."
    desk.hand_in()
    assert grade.main([str(folder)]) == 0
    assert gradebook.main([str(folder)]) == 0
    assert f"{words},4,to be marked by a person" in (out / "marks.csv").read_text("utf-8")
