"""The code cells of the book are narrow, formatted and clean, and what is not is found with file and line."""

from pathlib import Path

import pytest

from bookbuild import cells as tool

ROOT = Path(__file__).resolve().parents[2]
BOOK = tool.sources(ROOT)

FRONT = """\
---
kernelspec:
  name: python3
  display_name: Python 3 (ipykernel)
  language: python
---

# A chapter

"""
CLEAN = """\
```{code-cell} ipython3
import math

x = [1, 2]
```
"""
# What only a notebook has: an expression that is shown, a semicolon that hides one, an import in the middle, magic, an
# nbgrader marker; and beside the cells much that no formatter may touch.
OPTIONS = """\
```{code-cell} ipython3
---
tags:   [solution]
mystnb:
  figure:
    name:  fig-x
    caption: >-
      A caption   with odd spaces, $x = 'a'$, which no formatter of Python may touch, however wide it is for a cell.
---
%timeit math.sqrt(2)
import statistics

x[0]
```

Prose with `x  =  1` in it, and code that is not run:

```python
x  =  1
```

```{code-cell} ipython3
:nbgrader: {grade_id: one,   solution: true}

def mean():
    ### BEGIN SOLUTION
    return statistics.mean(x)
    ### END SOLUTION
```

+++ {"tags":   ["a"]}

```{code-cell} ipython3
math.floor(mean());
```
"""


@pytest.fixture
def chapter(tmp_path):
    """Writes a chapter with these cells, and gives what is found in it."""
    path = tmp_path / "book" / "01_one.md"
    path.parent.mkdir()

    def write(text):
        path.write_text(FRONT + text, encoding="utf-8")
        return tool.sources(tmp_path)

    return write


def cell(source):
    return "```{code-cell} ipython3\n" + source + "\n```\n\n"


# The book


def test_no_line_of_a_cell_of_the_book_is_wider_than_80_characters():
    assert len(BOOK) >= 22 and sum(len(file.cells) for file in BOOK) > 800
    assert [str(found) for file in BOOK for found in tool.too_wide(file)] == []


def test_the_cells_of_the_book_are_formatted_and_free_of_lint():
    assert [str(found) for found in tool.check(BOOK)] == []


@pytest.mark.parametrize("file", BOOK, ids=lambda file: file.path.stem)
def test_the_cells_lie_where_they_are_said_to_lie_in_the_text(file):
    lines = file.text.split("\n")
    for each in file.cells:
        assert file.text[each.start :].startswith(each.source)
        assert lines[each.line - 1] == each.source.split("\n")[0]
    assert file.with_cells([each.source for each in file.cells]) == file.text


# What is found


def test_a_clean_chapter_with_all_that_only_notebooks_have_is_left_alone(chapter):
    assert tool.check(chapter(CLEAN + "\n" + OPTIONS)) == []


@pytest.mark.parametrize(
    ("source", "line", "column", "message"),
    [
        ("x = 1\n\n# " + 79 * "w", 13, 81, "81 characters, more than 80"),
        ("# https://example.org/" + 59 * "w", 11, 81, "81 characters, more than 80"),  # ruff's E501 lets it pass
        ("x = '''\n" + 81 * "w" + "\n'''", 12, 81, "81 characters, more than 80"),
        ("import math\nimport os\n\nprint(math.pi)", 12, 8, "F401 `os` imported but unused"),
        ("print(y)", 11, 7, "F821 Undefined name `y`"),
        ("x = 1\nx\nprint(x)", 12, 1, "B018 Found useless expression"),  # in the middle, nobody sees it
        ("y = 2\nx = [1,2]", 12, 1, "not formatted: run `make format`"),
        ("def f(:", 11, 7, "invalid-syntax"),
    ],
)
def test_what_is_wrong_in_a_cell_is_found_at_its_place_in_the_markdown(chapter, source, line, column, message):
    found = [each for each in tool.check(chapter(cell(source))) if message in each.message]
    assert (found[0].file, found[0].line, found[0].column) == ("book/01_one.md", line, column)
    assert str(found[0]).startswith(f"book/01_one.md:{line}:{column}: {message}")


def test_a_line_of_80_characters_is_not_too_wide(chapter):
    assert tool.check(chapter(cell("# " + 78 * "w"))) == []


def test_a_place_is_counted_from_the_options_and_the_cells_before(chapter):
    text = CLEAN + "\nProse.\n\n```{code-cell} ipython3\n:tags: [solution]\n\nz = math.pi\nz = y\n```\n"
    (finding,) = tool.check(chapter(text))
    assert (FRONT + text).split("\n")[finding.line - 1] == "z = y"


def test_a_name_from_an_earlier_cell_is_known_and_an_import_used_in_a_later_one_is_used(chapter):
    assert tool.check(chapter(cell("import math") + cell("print(math.pi)"))) == []


# What is written


def test_writing_formats_the_cells_and_changes_no_other_byte(chapter):
    odd = OPTIONS.replace("x[0]\n", "x [ 0 ]\n").replace("math.floor(mean());", "math.floor( mean() );")
    files = chapter(CLEAN + "\n" + odd)
    assert len(tool.check(files)) == 2
    assert tool.write(files) == files
    assert files[0].path.read_text(encoding="utf-8") == FRONT + CLEAN + "\n" + OPTIONS
    again = tool.sources(files[0].path.parents[1])
    assert tool.check(again) == [] and tool.write(again) == []


def test_a_file_with_a_syntax_error_is_left_alone_and_the_others_are_written(chapter):
    (good,) = chapter(cell("x = [1,2]"))
    bad = good.path.with_name("02_two.md")
    text = FRONT + cell("y = [1,2]") + cell("def f(:")
    bad.write_text(text, encoding="utf-8")
    assert [file.name for file in tool.write(tool.sources(good.path.parents[1]))] == ["book/01_one.md"]
    assert bad.read_text(encoding="utf-8") == text
    assert good.path.read_text(encoding="utf-8") == FRONT + cell("x = [1, 2]")


# The command


def test_the_command_names_what_it_found_and_exits_with_1(chapter, capsys):
    (file,) = chapter(cell("x = [1,2]"))
    root = str(file.path.parents[1])
    assert tool.main(["--check", "--root", root]) == 1
    assert capsys.readouterr().err == "book/01_one.md:11:1: not formatted: run `make format`\n"
    assert tool.main(["--write", "--root", root]) == 0
    assert capsys.readouterr().out == "formatted book/01_one.md\n"
    assert tool.main(["--root", root, str(file.path)]) == 0
    with pytest.raises(SystemExit):
        tool.main(["--check", "--write", "--root", root])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "'utf-8' codec can't decode"),
        ((FRONT + cell("x = 1\ny = 2")).replace("\n", "\r\n").encode(), "not found in the text"),
        ((FRONT + cell("---\ntags: [\n---\nx = 1")).encode(), "Invalid YAML"),
    ],
    ids=["not UTF-8", "carriage returns", "broken options"],
)
def test_a_file_whose_cells_cannot_be_taken_out_is_named(chapter, content, message):
    (file,) = chapter(CLEAN)
    file.path.write_bytes(content)
    with pytest.raises(SystemExit, match=message) as refusal:
        tool.main(["--root", str(file.path.parents[1])])
    assert "book/01_one.md" in str(refusal.value)
