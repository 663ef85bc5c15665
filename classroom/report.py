"""Marks as CSV, feedback as HTML, and a result as Gradescope wants it; all made of the stored results."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from vaelib._files import atomic_write

MESSAGE = 500  # characters of an error that are kept
SHOWN = 20_000  # characters of a cell that are shown


def write(out: Path, results: list[dict[str, Any]]) -> None:
    """Writes marks.csv, totals.csv and feedback/*.html, with what a person has given in manual.json."""
    manual = read_manual(out)
    for result in results:
        given = manual.get(safe(result["student"]), {}).get(result["assignment"], {})
        for name, free in result["free"].items():
            mark = given.get(name, {})
            if mark.get("answer") in (None, _hash(free["text"])):  # else it is the mark of another answer
                free |= {key: mark[key] for key in ("points", "comment") if key in mark}
    atomic_write(out / "marks.csv", _table(_marks(results)))
    atomic_write(out / "totals.csv", _table(_totals(results)))
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    for path in (out / "feedback").glob("*.html"):
        path.unlink()
    students: dict[str, list[dict[str, Any]]] = {}
    for result in sorted(results, key=lambda each: (each["student"], each["assignment"])):
        students.setdefault(result["student"], []).append(result | {"sums": sums(result)})
    for student, own in students.items():
        text = page.get_template("feedback.html").render(student=student, results=own)
        atomic_write(out / "feedback" / f"{safe(student)}.html", text)


def read_manual(out: Path) -> dict[str, Any]:
    """What a person gave: student, assignment, question, and then points and comment."""
    path = out / "manual.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def sums(result: dict[str, Any]) -> dict[str, Any]:
    """The points so far, those that can be had, and whether free answers wait for a person."""
    free = result["free"].values()
    every = [*result["questions"].values(), *free]
    return {
        "points": sum(each.get("points", 0) for each in every),
        "possible": sum(each["possible"] for each in every),
        "waiting": sum(each["possible"] for each in free if "points" not in each),
    }


def gradescope(result: dict[str, Any]) -> dict[str, Any]:
    """The result as Gradescope's results.json: a test for each question; free answers are marked by hand there."""
    tests = [
        {"name": name, "score": each["points"], "max_score": each["possible"], "output": each["message"]}
        for name, each in result["questions"].items()
    ]
    output = "\n".join([result["problem"], *result["notes"]]).strip()
    score = sum(test["score"] for test in tests)  # asked for where there is no test, as for a file that is no notebook
    head = {"score": score, "output": output, "visibility": "after_published", "execution_time": result["seconds"]}
    return {**head, "tests": tests}


def safe(student: str) -> str:
    """A student's name as a file's name; two names never give the same."""
    plain = re.sub(r"[^\w.@+-]+", "_", student).strip("._")[:60]
    if plain == student:
        return plain
    return f"{plain or 'student'}-{hashlib.sha256(student.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _marks(results: list[dict[str, Any]]) -> Iterable[list[object]]:
    yield ["student", "assignment", "question", "points", "possible", "remark"]
    for result in results:
        head = [result["student"], result["assignment"]]
        if not result["questions"]:
            yield [*head, "", "", "", f"{result['file']}: {result['problem']}"]
        for name, each in result["questions"].items():
            yield [*head, name, each["points"], each["possible"], each["message"]]
        for name, each in result["free"].items():
            remark = each.get("comment", "") if "points" in each else "to be marked by a person"
            yield [*head, name, each.get("points", ""), each["possible"], remark]


def _totals(results: list[dict[str, Any]]) -> Iterable[list[object]]:
    yield ["student", "assignment", "points", "possible", "still to be marked"]
    for result in results:
        each = sums(result)
        yield [result["student"], result["assignment"], each["points"], each["possible"], each["waiting"]]


def _table(rows: Iterable[list[object]]) -> str:
    """The rows as CSV; a text that a spreadsheet would take for a formula is kept a text."""
    file = io.StringIO()
    for row in rows:
        texts = [f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t" and cell else cell for cell in row]
        csv.writer(file, lineterminator="\n").writerow(
            [" ".join(text.split()) if isinstance(text, str) else text for text in texts]
        )
    return file.getvalue()
