"""The page of questions: each has a short answer and leads to a place in the book, which the build checks is there."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "book/questions.md").read_text(encoding="utf-8")
ANSWERS = [block for block in PAGE.split("\n\n") if block.startswith("**")]


def test_there_are_as_many_questions_as_the_page_has_blocks_beside_headings_and_its_introduction():
    others = [block for block in PAGE.split("\n\n") if not block.startswith(("**", "#"))]
    assert len(ANSWERS) >= 20 and len(others) == 1


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda block: block[2:40])
def test_an_answer_is_short_and_leads_into_the_book(answer):
    assert re.match(r"\*\*.+?[?.]\*\* \S", answer)
    assert re.search(r"\]\(\.\./notebooks/\d\d_\w+\.ipynb(#[\w-]+)?\)", answer)
    words = re.sub(r"\]\(\S+\)", "]", answer).split()
    assert len(words) <= 75, f"{len(words)} words"
