"""The class of 30 (tests/classroom.py) is graded behind the wall: the table of marks given and deserved, and the time.

Run by `make assignments-proof`. Without bubblewrap it fails: what is claimed is the marks behind the wall.
"""

import importlib
import socketserver
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
grade = importlib.import_module("grade")
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
