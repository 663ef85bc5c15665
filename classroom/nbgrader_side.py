"""Runs in nbgrader's own environment: puts the marks into its gradebook, and takes out what a person gave there.

python nbgrader_side.py COURSE RESULTS MANUAL: the course's folder, the folder with the results, and a new file for the
marks of free answers, which gradebook.py keeps. A free answer that has changed since it was marked waits to be marked
again.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry


def main(course: Path, results: Path, manual: Path) -> None:
    given: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        for path in sorted(results.glob("*/*.json")):
            result = json.loads(path.read_text(encoding="utf-8"))
            if result["questions"]:
                student = path.parent.name
                marks = enter(book, course, results.parent / "notebooks" / student, student, result)
                given.setdefault(student, {})[result["assignment"]] = marks
    manual.write_text(json.dumps(given, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def enter(book: Gradebook, course: Path, notebooks: Path, student: str, result: dict) -> dict:
    """Enters one result; the points and comments that a person gave for its free answers."""
    stem = result["assignment"]
    book.update_or_create_student(student, last_name=result["student"])
    try:
        book.find_submission(stem, student)
    except MissingEntry:
        with book.db.no_autoflush:  # else SQLAlchemy warns of each part that is not in the database yet
            book.add_submission(stem, student)
    shown = course / "autograded" / student / stem / f"{stem}.ipynb"
    before = free_answers(shown)
    shown.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(notebooks / f"{stem}.ipynb", shown)
    notebook = book.find_submission_notebook(stem, stem, student)
    marks = {}
    for grade in notebook.grades:
        if grade.name in result["questions"]:
            grade.auto_score = result["questions"][grade.name]["points"]
            grade.needs_manual_grade = False
        elif before.get(grade.name, result["free"][grade.name]["text"]) != result["free"][grade.name]["text"]:
            grade.manual_score = None
            grade.needs_manual_grade = True
        elif grade.manual_score is None:
            grade.needs_manual_grade = True
        else:
            comments = [comment.comment or "" for comment in notebook.comments if comment.name == grade.name]
            marks[grade.name] = {
                "points": grade.manual_score + (grade.extra_credit or 0),
                "comment": "".join(comments),
                "answer": hashlib.sha256(result["free"][grade.name]["text"].encode()).hexdigest(),
            }
    book.db.commit()
    return marks


def free_answers(path: Path) -> dict[str, str]:
    """What the free answers were when they were entered last."""
    if not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))["metadata"]["vaelib"]["free"]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
