"""The index of experiments shows what is stored and what the chapters say, and nothing that was typed twice."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from bookbuild.chapter import chapters
from bookbuild.convert import in_myst
from bookbuild.extensions import experiments

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "book/results").glob("*.json"))
LISTED = experiments.rows((ROOT / "experiments/README.md").read_text(encoding="utf-8"))
PART = {
    "seeds": [0, 1, 2],
    "provenance": {"command": "python -m experiments.measure_what"},
    "group": {
        "cpu_minutes": 3.4,
        "bounds": {"5000": {"mean": -90.127, "sd": 0.242}, "at p = 0.5": [1.0, 2.25]},
        "summary": [
            {
                "question": "How large is it?",
                "result": "{bounds[5000][mean]:.2f} nats, {bounds[at p = 0.5][1]} otherwise",
                "error": "{bounds[5000][sd]:.2f} (over images)",
            }
        ],
    },
}


def test_a_summary_is_filled_from_its_part_and_from_what_is_nearest_around_it():
    (found,) = experiments.findings(PART)
    assert found == (
        "How large is it?", "-90.13 nats, 2.25 otherwise", "0.24 (over images)", "3", "3",
        "python -m experiments.measure_what",
    )  # fmt: skip


def test_another_stored_number_gives_another_row():
    text = json.dumps(PART).replace("-90.127", "-91.5")
    assert [each.result for each in experiments.findings(json.loads(text))] == ["-91.50 nats, 2.25 otherwise"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{bounds[5000][mean]:.2f}", "{bounds[500][mean]:.2f}", "nothing to fill in at"),
        ("{bounds[5000][mean]:.2f} nats, {bounds[at p = 0.5][1]} otherwise", "-90.13 nats", "takes no number"),
        ("How large is it?", "It is large.", "question mark"),
        ('"seeds"', '"sources"', "tells seeds"),
        ('"cpu_minutes"', '"time"', "tells minutes"),
        ('"command"', '"how"', "tells command"),
    ],
)
def test_a_summary_that_cannot_be_filled_or_holds_no_number_is_refused(old, new, message):
    with pytest.raises(experiments.SummaryError, match=message):
        list(experiments.findings(json.loads(json.dumps(PART).replace(old, new))))


def test_a_part_is_what_its_command_adds():
    whole = "python -m experiments.measure_what"
    commands = {f'{whole} "one two"': '`"one two"`', whole: "all", "python other.py": "`python other.py`"}
    assert {each: experiments._part(each, whole) for each in commands} == commands


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_stored_file_is_listed_and_says_what_it_found(path):
    assert path.name in LISTED, "add a line to the table of experiments/README.md"
    found = list(experiments.findings(json.loads(path.read_text(encoding="utf-8"))))
    assert found, f"no summary in {path.name}: see experiments/README.md"
    for each in found:
        assert re.search(r"\d", each.result), each.question
        assert re.search(r"\d|none", each.error), each.question


VERDICT = """
- **Claimed.** It is larger
  than {term}`nothing`.
- **Tested.** On $x$, five seeds.
- **Found.** $2 \\pm 1$ nats.
- **Would change our mind.** Another
  seed.
"""


def markdown(text: str) -> list[dict]:
    return [dict(cell) for cell in nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]).cells]


def test_a_verdict_is_read_from_its_chapter_with_its_section():
    text = f"# One\n\n## A section\n\nText.\n{VERDICT}\n## Another\n\n{VERDICT}"
    first, second = experiments.verdicts(markdown(text), "one")
    claimed, tested, found = "It is larger than {term}`nothing`.", "On $x$, five seeds.", "$2 \\pm 1$ nats."
    assert first == ("A section", claimed, tested, found) and second.section == "Another"
    (other,) = experiments.verdicts(markdown(VERDICT.replace("five seeds", "as in {doc}`13_when_vaes_fail`")), "one")
    assert other.tested == "On $x$, as in {doc}`/notebooks/13_when_vaes_fail`."


@pytest.mark.parametrize(
    "lost", ["- **Tested.** On $x$, five seeds.\n", "- **Would change our mind.** Another\n  seed.\n"]
)
def test_a_verdict_without_one_of_its_items_is_refused(lost):
    assert lost in VERDICT
    with pytest.raises(experiments.SummaryError, match="a verdict is one list of the items"):
        experiments.verdicts(markdown(VERDICT.replace(lost, "")), "one")


@pytest.mark.parametrize("chapter", chapters(ROOT), ids=lambda chapter: chapter.stem)
def test_the_verdicts_of_each_chapter_have_all_their_items(chapter):
    experiments.verdicts([dict(cell) for cell in in_myst(chapter).cells], chapter.stem)


def test_the_page_shows_each_stored_result_and_each_chapter(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for chapter in chapters(ROOT):
        notebook = in_myst(chapter)
        notebook.metadata.vaelib.cpu_seconds = 1234
        nbformat.write(notebook, tmp_path / chapter.notebook)
    page = experiments.index(tmp_path)
    for path in RESULTS:
        if path.name in LISTED:
            assert f"makes `book/results/{path.name}`" in page
            for each in experiments.findings(json.loads(path.read_text(encoding="utf-8"))):
                assert all(words in page for words in each[:5]), each.question
    for chapter in chapters(ROOT):
        assert f"</notebooks/{chapter.stem}>`:" in page
    assert page.count("1234 CPU seconds") == len(chapters(ROOT))
