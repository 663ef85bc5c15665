"""The page for teachers says of chapters and assignments what these say of themselves."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from bookbuild import assignments as tool

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book/teaching.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", PAGE, re.MULTILINE)]
CHAPTERS = [row for row in ROWS if "](../notebooks/" in row[0]]
ASSIGNMENTS = [row for row in ROWS if re.search(r"\]\[a\d\]", row[0])]
PLANS = {title: PAGE.split(f"## {title}\n")[1].split("\n## ")[0] for title in ("Six weeks", "Twelve weeks")}
READ_IN_CLASS = {"Six weeks": {0, 5}, "Twelve weeks": set()}


def first_lines(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8")[:3500].split())


def test_each_assignment_is_listed_with_its_own_time_and_points_and_a_link_to_its_notebook():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sources = tool.assignments(ROOT)
    links = dict(re.findall(r"^\[a(\d)\]: (\S+)$", PAGE, re.MULTILINE))
    for number, (row, source) in enumerate(zip(ASSIGNMENTS, sources, strict=True), 1):
        own = first_lines(source.root / source.source)
        free = int(re.search(r"Points\*\*: 20, of which (\d+) are", own)[1])
        automatic = sum(tool.questions(tool.master(source)).values())
        time = re.search(r"Time\*\*: about (\d+) minutes", own)[1]
        assert row[2:] == [time, str(automatic), str(free)] and automatic + free == 20
        assert links[str(number)] == f"{project['urls']['Repository']}/blob/main/{source.notebook}"


def test_each_chapter_is_listed_with_its_own_times():
    for row, path in zip(CHAPTERS, sorted((ROOT / "book").glob("[0-9][0-9]_*.md")), strict=True):
        own = first_lines(path)
        assert f"../notebooks/{path.stem}.ipynb" in row[0]
        assert re.search(rf"Reading takes about {row[1]} minutes.*?about {row[2]} seconds", own), path.stem


@pytest.mark.parametrize("row", CHAPTERS, ids=lambda row: re.search(r"notebooks/(\w+)", row[0])[1])
def test_the_running_time_that_a_chapter_states_is_what_was_measured_to_a_factor_of_one_and_a_half(row):
    notebook = ROOT / "book" / re.search(r"\((\S+)\)", row[0])[1]
    measured = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["vaelib"]["cpu_seconds"]
    assert 1 / 1.5 <= int(row[2]) / measured <= 1.5, f"{row[2]} seconds stated, {measured} measured"


@pytest.mark.parametrize("title", PLANS)
def test_the_own_work_of_a_week_is_what_is_read_at_home_and_the_assignment(title):
    reading = {int(row[0].split(".")[0]): int(row[1]) for row in CHAPTERS}
    task = {number: int(row[2]) for number, row in enumerate(ASSIGNMENTS, 1)}
    weeks = re.findall(r"^\| \d+ \| ([\d, ]+) \|.*\| (\d?) ?\| (\d+) \|$", PLANS[title], re.MULTILINE)
    assert len(weeks) == {"Six weeks": 6, "Twelve weeks": 12}[title]
    for chapters, assignment, minutes in weeks:
        home = {int(chapter) for chapter in chapters.split(",")} - READ_IN_CLASS[title]
        assert sum(reading[chapter] for chapter in home) + task.get(int(assignment or 0), 0) == int(minutes)
    if title == "Twelve weeks":
        assert {number for _, number, _ in weeks} - {""} == {str(number) for number in task}


@pytest.mark.parametrize("title", PLANS)
def test_no_assignment_is_due_before_the_chapters_that_it_needs(title):
    read: set[int] = set()
    for chapters, assignment in re.findall(
        r"^\| \d+ \| ([\d, ]+) \|.*\| (\d?) ?\| \d+ \|$", PLANS[title], re.MULTILINE
    ):
        read |= {int(chapter) for chapter in chapters.split(",")}
        if assignment:
            needs = ASSIGNMENTS[int(assignment) - 1][1]
            spans = re.findall(r"(\d+)(?: to (\d+))?", needs.replace("10 to the", "10"))
            assert {each for first, last in spans for each in range(int(first), int(last or first) + 1)} <= read
