"""The notebooks are what their chapters give, whole, the same on every machine, and nothing out of step goes unseen."""

import base64
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_output
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

from bookbuild import chapter as chapter_files
from bookbuild import convert, execute, first_cell, normalise, pages, png
from bookbuild import notebooks as tool

ROOT = Path(__file__).resolve().parents[2]

FRONT = """\
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

# A chapter

It has a figure, a number and a solution.
"""
FIGURE_OPTIONS = """\
---
mystnb:
  figure:
    name: fig-demo-line
    caption: 'The line rises; $w^*$ is *one*: see.'
  image:
    alt: A line from the lower left to the upper right.
---
"""
FIGURE = FIGURE_OPTIONS + "import matplotlib.pyplot as plt\n\n_, ax = plt.subplots()\nax.plot([0, 1]);"


def code(source: str, tags: str = "") -> str:
    return f"\n```{{code-cell}} ipython3\n{f':tags: [{tags}]{chr(10) * 2}' if tags else ''}{source}\n```\n"


TINY = (
    FRONT
    + code("x = 2\nassert x == 2")
    + "\nSome text.\n"
    + code("assert x == 2")
    + code("assert x == 2")
    + code(FIGURE)
    + code("print(x + 1)", "nbval-check-output")
    + code("x + 2", "solution")
)
PLAIN = FRONT + code("x = 2") + code("x + 2", "solution")


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of its own, with one tiny chapter that is not yet executed."""
    monkeypatch.delenv("VAELIB_DATA", raising=False)
    root = tmp_path / "a book"
    (root / "book").mkdir(parents=True)
    (root / "notebooks").mkdir()
    for name in ("pyproject.toml", "jupytext.toml"):
        shutil.copy(ROOT / name, root)
    write(root, TINY)
    return root


@pytest.fixture(scope="session")
def executed(tmp_path_factory):
    """The tiny chapter executed, once for all tests that only need its text."""
    root = tmp_path_factory.mktemp("executed")
    for name in ("book", "notebooks"):
        (root / name).mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    write(root, TINY)
    assert tool.build(root, []) == []
    return stored(root).read_text(encoding="utf-8")


@pytest.fixture
def pair(book, executed):
    """The tiny book in step."""
    stored(book).write_text(executed, encoding="utf-8")
    assert tool.check(book) == []
    return book


def write(root: Path, text: str, stem: str = "01_demo") -> None:
    (root / "book" / f"{stem}.md").write_text(text, encoding="utf-8")


def stored(root: Path, stem: str = "01_demo") -> Path:
    return root / "notebooks" / f"{stem}.ipynb"


def converted(root: Path, text: str):
    write(root, text)
    return convert.convert(chapter_files.Chapter(root, "01_demo"))


def normalised(root: Path, text: str, outputs: list):
    """The chapter `text`, as if its last code cell had shown `outputs`."""
    notebook = converted(root, text)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 7
            cell.outputs = []
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    last.outputs = [nbformat.from_dict(output) for output in outputs]
    normalise.normalise(chapter_files.Chapter(root, "01_demo"), notebook)
    return last.outputs


# What a cell shows is looked at before anybody reads the pixels.
NO_PICTURE = base64.b64encode(b"no picture").decode()


def stream(text: str, name: str = "stdout"):
    return new_output("stream", name=name, text=text)


# The book as it is


def test_every_notebook_of_the_book_is_in_step_with_its_chapter():
    assert chapter_files.chapters(ROOT), "the book has chapters"
    assert tool.check(ROOT) == []


def test_every_stored_notebook_was_executed_whole_and_asserts_at_least_five_things():
    for chapter in chapter_files.chapters(ROOT):
        cells = [cell for cell in nbformat.read(chapter.stored, as_version=4).cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), chapter.stem
        asserts = [line for cell in cells for line in cell.source.splitlines() if re.match(r"\s*assert\b", line)]
        assert len(asserts) >= 5, chapter.stem


def test_every_stored_notebook_is_small_and_shows_no_path_warning_or_address_of_a_machine():
    for chapter in chapter_files.chapters(ROOT):
        assert chapter.stored.stat().st_size <= tool.MAX_BYTES, chapter.stem
        for cell in nbformat.read(chapter.stored, as_version=4).cells:
            if cell.cell_type == "code":
                normalise.check_outputs(cell, ROOT)


def test_saving_a_chapter_from_jupyterlab_changes_no_cell_and_no_front_matter_and_makes_no_second_file(book):
    for chapter in chapter_files.chapters(ROOT):
        shutil.copy(ROOT / chapter.source, book / "book")
    manager = jupytext.TextFileContentsManager(root_dir=str(book))
    for chapter in chapter_files.chapters(book):
        before, text = convert.in_myst(chapter), chapter.text()
        model = manager.get(chapter.source, type="notebook")
        # What JupyterLab adds once a kernel has run.
        model["content"].metadata["language_info"] = {"name": "python", "version": "3.11", "pygments_lexer": "ipython3"}
        for cell in model["content"].cells:
            if cell.cell_type == "code":
                cell.execution_count, cell.metadata["execution"] = 1, {"iopub.execute_input": "now"}
        manager.save({"type": "notebook", "content": model["content"]}, chapter.source)
        assert convert.in_myst(chapter).cells == before.cells, chapter.stem
        assert chapter.text().split("---\n")[1] == text.split("---\n")[1], chapter.stem
    assert {path.suffix for path in (book / "book").iterdir()} == {".md"}
    assert list((book / "notebooks").iterdir()) == []


# Drift, in both directions


def test_an_edited_source_is_found_and_names_both_files(pair):
    write(pair, TINY.replace("Some text.", "Some other text."))
    (problem,) = tool.check(pair)
    assert problem.startswith("source changed: book/01_demo.md")
    assert "notebooks/01_demo.ipynb" in problem
    assert "make notebooks" in problem


@pytest.mark.parametrize(
    ("old", "new"),
    [("Some text.", "Some test."), ('"3\\n"', '"4\\n"'), ('"name": "python3"', '"name": "python4"'), ("\n", "\n\n")],
    ids=["source", "output", "metadata", "white space"],
)
def test_a_notebook_edited_by_hand_is_found_named_and_never_written_over(pair, old, new):
    text = stored(pair).read_text(encoding="utf-8")
    edited = text.replace(old, new, 1)
    assert edited != text
    stored(pair).write_text(edited, encoding="utf-8")
    (problem,) = tool.check(pair)
    assert problem.startswith("edited by hand: notebooks/01_demo.ipynb")
    assert "book/01_demo.md" in problem
    (refusal,) = tool.build(pair, [], every=True)
    assert "edited by hand" in refusal
    assert stored(pair).read_text(encoding="utf-8") == edited


def test_edits_on_both_sides_are_both_reported(pair):
    write(pair, TINY + "\nMore.\n")
    stored(pair).write_text(stored(pair).read_text(encoding="utf-8").replace("Some text.", "Mine."), encoding="utf-8")
    assert [problem.split(":")[0] for problem in tool.check(pair)] == ["edited by hand", "source changed"]


def test_a_notebook_that_git_left_in_conflict_is_reported(pair):
    stored(pair).write_text("<<<<<<< HEAD\n" + stored(pair).read_text(encoding="utf-8"), encoding="utf-8")
    (problem,) = tool.check(pair)
    assert problem.startswith("unreadable: notebooks/01_demo.ipynb")


def test_a_missing_notebook_and_an_orphan_are_reported(pair):
    stored(pair).rename(stored(pair, "02_orphan"))
    missing, orphan = tool.check(pair)
    assert missing.startswith("missing: book/01_demo.md has no notebooks/01_demo.ipynb")
    assert orphan.startswith("orphan: notebooks/02_orphan.ipynb has no book/02_orphan.md")


def test_a_new_repository_address_reaches_the_notebooks(pair):
    project = pair / "pyproject.toml"
    project.write_text(project.read_text(encoding="utf-8").replace("https://github.com/", "https://git.example.org/"))
    (problem,) = tool.check(pair)
    assert problem.startswith("out of step: notebooks/01_demo.ipynb")


def test_another_vaelib_to_install_reaches_the_notebooks_without_running_them(pair, monkeypatch):
    before = nbformat.read(stored(pair), as_version=4)
    project = pair / "pyproject.toml"
    text = project.read_text(encoding="utf-8").replace(first_cell.reference(pair), "v9.9.9")
    project.write_text(text, encoding="utf-8")
    (problem,) = tool.check(pair)
    assert problem.startswith("out of step: notebooks/01_demo.ipynb")
    monkeypatch.setattr(tool, "execute", None)
    assert tool.build(pair, []) == [] == tool.check(pair)
    after = nbformat.read(stored(pair), as_version=4)
    assert 'made_with = "v9.9.9"' in after.cells[1].source
    assert after.cells[2:] == before.cells[2:]


def test_the_check_command_exits_with_1_and_writes_each_problem_on_standard_error(pair, capsys):
    assert tool.main(["--check", "--root", str(pair)]) == 0
    write(pair, TINY + "\nMore.\n")
    assert tool.main(["--check", "--root", str(pair)]) == 1
    assert "source changed" in capsys.readouterr().err


def test_an_unknown_chapter_is_refused_with_the_list_of_those_there_are(book, capsys):
    with pytest.raises(SystemExit) as stop:
        tool.main(["99_none", "--root", str(book)])
    assert stop.value.code == 2
    assert "no such chapter: 99_none; there are 01_demo" in capsys.readouterr().err


# Conversion


def test_the_title_stays_first_and_the_set_up_cell_comes_second(book):
    title, set_up, *_ = converted(book, TINY).cells
    assert title.source.startswith("# A chapter")
    assert set_up.metadata == {"tags": ["remove-cell"], "jupyter": {"source_hidden": True}}
    assert "vaelib @ git+" in set_up.source


def test_captions_and_solutions_get_the_form_that_each_reader_needs(book):
    cells = converted(book, TINY).cells
    (caption,) = [cell for cell in cells if cell.source.startswith("*Figure")]
    assert caption.source == "*Figure 1.1:* The line rises; $w^*$ is *one*: see."
    assert caption.metadata.tags == ["remove-cell"]
    assert "fig-demo-line" in cells[cells.index(caption) - 1].metadata.mystnb.figure.name
    assert cells[-1].metadata == {
        "tags": ["hide-cell", "solution"],
        "jupyter": {"source_hidden": True, "outputs_hidden": True},
    }


def test_cell_ids_are_unique_and_survive_a_change_elsewhere(book):
    before = [cell.id for cell in converted(book, TINY).cells]
    after = [cell.id for cell in converted(book, TINY.replace("It has", "It shows")).cells]
    assert len(set(before)) == len(before)
    assert before[1:] == after[1:]


def test_only_our_metadata_remain(executed):
    metadata = json.loads(executed)["metadata"]
    assert metadata.keys() == {"kernelspec", "language_info", "vaelib"}
    assert metadata["language_info"] == {"name": "python"}
    assert metadata["vaelib"].keys() == {"source", "source_sha256", "cpu_seconds", "notebook_sha256"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TINY.replace("# A chapter", "A chapter"), "must start with its title"),
        (TINY.replace("kernelspec:", "orphan: true\nkernelspec:"), r"front matter may hold .* not \['orphan'\]"),
        (TINY.replace("name: python3", "name: ir"), "names the kernel 'ir'"),
        (FRONT + code("x = 1", "solutions"), r"line 19: unknown tags \['solutions'\]"),
        (FRONT + code(":tag: [solution]\n\nx = 1"), r"unknown cell options \['tag'\]"),
        (FRONT + code(":tags: [solution\n\nx = 1"), "Invalid YAML"),
        (FRONT + code(""), "the cell is empty"),
        (FRONT + "\n- a list\n\n  ```{code-cell}\n  x = 1\n  ```\n", "is never run"),
    ],
)
def test_a_chapter_that_would_lose_something_is_refused(book, text, message):
    with pytest.raises(chapter_files.NotebookError, match=message) as refusal:
        converted(book, text)
    assert "book/01_demo.md" in str(refusal.value)
    (problem,) = tool.check(book)[:1]
    assert "book/01_demo.md" in problem


def test_a_chapter_that_is_not_utf8_is_refused(book):
    (book / "book" / "01_demo.md").write_bytes(TINY.replace("a figure", "une poupée").encode("cp1252"))
    with pytest.raises(chapter_files.NotebookError, match=r"book/01_demo\.md is not UTF-8"):
        convert.convert(chapter_files.Chapter(book, "01_demo"))


# The set-up cell


def run_set_up(book: Path, monkeypatch, installed: bool, colab: bool) -> list:
    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append((command, check)))
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", sys)
    exec(compile(converted(book, TINY).cells[1].source, "set-up", "exec"), {})
    return commands


def test_the_set_up_cell_installs_the_package_in_colab_and_nothing_where_it_is_there(book, monkeypatch):
    ((command, checked),) = run_set_up(book, monkeypatch, installed=False, colab=True)
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[-1] == f"vaelib @ git+https://github.com/vaelib/vae-book@{first_cell.reference(ROOT)}"
    assert checked
    assert run_set_up(book, monkeypatch, installed=True, colab=True) == []


def test_the_set_up_cell_says_which_command_and_which_kernel_where_the_package_is_missing(book, monkeypatch):
    with pytest.raises(ModuleNotFoundError) as refusal:
        run_set_up(book, monkeypatch, installed=False, colab=False)
    message = str(refusal.value)
    assert f'"{sys.executable}" -m pip install "vaelib @ git+https://' in message
    assert "make lab" in message
    assert "Python 3 (ipykernel)" in message


# Markdown without MyST

SECOND = """\
# The second

(a-place)=
## A place

$$
y = 1
$$ (eq-other)
"""
SOURCES = """\
@book{one2001, author = {K{\\"o}nig, Ada}, title = {One}, year = {2001}}
@book{two2002, author = {K{\\"o}nig, Ada and van der Berg, Bo}, title = {Two}, year = {2002}}
@book{three2003, author = {Able, A. and Bell, B. and Cole, C.}, title = {Three}, year = {2003}}
"""
GLOSSARY = """\
# Glossary

:::{glossary}
evidence
  A density.

ELBO
evidence lower bound
  A bound.
:::
"""


@pytest.fixture
def library(book):
    """The tiny book with a second chapter, a glossary, a bibliography and a page of notation."""
    write(book, FRONT.replace("# A chapter", SECOND), "02_other")
    (book / "book" / "references.bib").write_text(SOURCES, encoding="utf-8")
    (book / "book" / "glossary.md").write_text(GLOSSARY, encoding="utf-8")
    (book / "book" / "notation.md").write_text("# Notation\n", encoding="utf-8")
    return book


def plain(root: Path, text: str) -> str:
    """What the notebook makes of `text`."""
    return converted(root, FRONT + "\n+++\n\n" + text + code(FIGURE)).cells[2].source


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("$$\nx = 1\n$$ (eq-x)", "$$\nx = 1\n\\tag{1.1}\n$$"),
        (
            "$$ x = 1 $$ (eq-x)\n\n$$ x = 2 $$\n\n$$ x = 3 $$ (eq-z)",
            "$$ x = 1 \\tag{1.1} $$\n\n$$ x = 2 $$\n\n$$ x = 3 \\tag{1.2} $$",
        ),
        ("$$ x $$ (eq-x)\n\nSee {eq}`eq-x` and {eq}`eq-other`.", "$$ x \\tag{1.1} $$\n\nSee (1.1) and (2.1)."),
        ("See {numref}`fig-demo-line`.", "See Figure 1.1."),
        (
            "The {term}`evidence`, {term}`Evidence lower\nbound`, {term}`bounds <ELBO>`.",
            "The evidence, Evidence lower bound, bounds.",
        ),
        ("{cite:t}`one2001`, {cite:t}`two2002`", "König (2001), König and van der Berg (2002)"),
        (
            "so {cite:p}`three2003`, {cite:p}`one2001,three2003`",
            "so (Able et al., 2003), (Able et al., 2003; König, 2001)",
        ),
        ("In {doc}`02_other`", "In [2 The second](02_other.ipynb)"),
        ("In {doc}`this one <02_other>`", "In [this one](02_other.ipynb)"),
        ("In {doc}`/book/notation`", "In [Notation](../book/notation.md)"),
        ("In {doc}`03_planned`", "In chapter 3"),
        ("See {ref}`a-place` or {ref}`there <a-place>`", "See A place or there"),
        ("{math}`x^2`", "$x^2$"),
        ("(here)=\n## Here", "## Here"),
        ("one\n% a note\ntwo 5 %", "one\ntwo 5 %"),
        ("`{eq}` and ``{term}`x` ``", "`{eq}` and ``{term}`x` ``"),
        ("```\n{term}`nothing`\n$$ x $$ (eq-no)\n% kept\n```", "```\n{term}`nothing`\n$$ x $$ (eq-no)\n% kept\n```"),
        ("$$\n% kept\n\\text{a}\n$$", "$$\n% kept\n\\text{a}\n$$"),
    ],
)
def test_markdown_in_a_notebook_needs_no_extension(library, text, shown):
    assert plain(library, text) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{eq}`eq-none`", "no equation named eq-none"),
        ("{numref}`fig-none`", "no figure named fig-none"),
        ("{term}`nonsense`", "no term in book/glossary.md named nonsense"),
        ("{cite:p}`one2001,nobody1900`", "no source in book/references.bib named nobody1900"),
        ("{doc}`/book/none`", "no page named /book/none"),
        ("{ref}`nowhere`", "no label before a heading named nowhere"),
        ("{kbd}`x`", "the role {kbd} has no form outside the site"),
        (":::{note}\nMind.\n:::", "the block :::{note} has no form outside the site; use plain Markdown"),
        ("```{figure} x.png\n```", "the block ```{figure} x.png has no form outside the site; use plain Markdown"),
    ],
)
def test_markup_that_has_no_plain_form_or_leads_nowhere_is_refused_with_its_cell(library, text, message):
    with pytest.raises(chapter_files.NotebookError, match=re.escape(message)) as refusal:
        plain(library, text)
    line = FRONT.count("\n") + 4
    assert str(refusal.value).startswith(f"book/01_demo.md, line {line}: ")


def test_a_number_that_moves_in_another_chapter_is_found_and_refreshed_without_running_any_code(library, monkeypatch):
    write(library, TINY.replace("Some text.", "By {eq}`eq-other`."))
    write(library, FRONT.replace("# A chapter", SECOND) + code("x = 2"), "02_other")
    assert tool.build(library, []) == []
    before = json.loads(stored(library).read_text(encoding="utf-8"))["cells"]
    second = FRONT.replace("# A chapter", SECOND.replace("(a-place)=", "$$ z = 1 $$ (eq-new)\n\n(a-place)="))
    write(library, second + code("x = 2"), "02_other")
    assert [problem.split(":")[0] for problem in tool.check(library)] == ["out of step", "source changed"]
    monkeypatch.setattr(tool, "execute", None)  # calling it would fail
    assert tool.build(library, []) == []
    assert tool.check(library) == []
    after = json.loads(stored(library).read_text(encoding="utf-8"))["cells"]
    changed = [(old["source"], new["source"]) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [(["By (2.1)."], ["By (2.2)."])]


def test_prose_is_refreshed_to_the_bytes_that_a_full_run_gives_and_changed_code_is_run(pair, monkeypatch):
    run, runs = execute.execute, []
    monkeypatch.setattr(tool, "execute", lambda chapter, *rest: (runs.append(chapter.stem), run(chapter, *rest))[1])
    caption = TINY.replace("The line rises", "The line goes up").replace("Some text.", "Some.\n\n+++\n\nOther text.")
    write(pair, caption)
    assert tool.build(pair, []) == []
    assert runs == []
    refreshed = stored(pair).read_text(encoding="utf-8")
    assert tool.build(pair, ["01_demo"], every=True) == []
    assert stored(pair).read_text(encoding="utf-8") == refreshed
    write(pair, caption.replace("print(x + 1)", "print(x + 2)"))
    assert tool.build(pair, []) == []
    assert runs == ["01_demo", "01_demo"]
    assert '"4\\n"' in stored(pair).read_text(encoding="utf-8")


def test_a_changed_tag_is_run_again(pair, monkeypatch):
    runs = []
    monkeypatch.setattr(tool, "execute", lambda chapter, *_: runs.append(chapter.stem) or 1.0)
    write(pair, TINY.replace("nbval-check-output", "raises-exception"))
    tool.build(pair, [])
    assert runs == ["01_demo"]


# Outputs


def test_carriage_returns_leave_the_last_state_and_pieces_of_a_stream_become_one(book):
    pieces = [stream("start\n 10%|#   |"), stream("\r 50%|##  |\r3 epochs, elbo -9.1   \nend"), stream("\n")]
    assert normalised(book, PLAIN, pieces) == [stream("start\n3 epochs, elbo -9.1\nend\n")]


def test_what_is_printed_after_a_figure_stays_behind_it(book):
    image = new_output("display_data", data={"text/plain": "a picture"})
    assert normalised(book, PLAIN, [stream("a\n"), image, stream("b\n")]) == [stream("a\n"), image, stream("b\n")]


def test_progress_bars_on_standard_error_and_widgets_are_dropped(book):
    bar = stream("\r  0%|          | 0/3 [00:00<?, ?it/s]\r100%|####| 3/3 [00:00<00:00, 30.1it/s]\n", "stderr")
    counter = stream("17it [00:02, 8.1it/s]\n", "stderr")
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1f"}, "text/plain": "IntSlider(value=1)"}
    widget = new_output("display_data", data=view)
    assert normalised(book, PLAIN, [bar, widget, stream("kept\n")]) == [stream("kept\n")]
    assert normalised(book, PLAIN, [counter]) == []


def test_a_widget_that_brings_a_state_stays_as_a_still_image_with_it_and_goes_to_the_page_beside_it(book):
    kind = "application/vnd.vaelib.explorer+json"
    state = {"_weights": [{"shipped": "mnist-2d"}], "title": "<script>a path: /home/somebody</script>"}
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "png")
    still = base64.b64encode(file.getvalue()).decode()
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1f"}, "text/plain": "LatentExplorer of a"}
    shown = new_output("display_data", data={**view, "image/png": still, kind: state})
    [output] = normalised(book, FRONT + code(FIGURE), [shown])
    assert set(output.data) == {"text/plain", "image/png", kind} and output.data[kind] == state
    [data] = pages._states(nbformat.v4.new_code_cell("explorer", outputs=[output], id="c"))
    assert set(output.data) == {"text/plain", "image/png"}
    [text] = re.findall(r'<script type="application/json" class="vaelib-explorer">([^<]*)</script>', data.source)
    assert json.loads(text) == state


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (stream("UserWarning: mean of empty slice\n", "stderr"), r"(?s)unexpected warning .*mean of empty slice"),
        (stream("<vaelib.VAE object at 0x7f3a51c2b0d0>\n"), "memory address"),
        (new_output("execute_result", data={"text/plain": "[<Line2D at 0x7f3a51c2b0d0>]"}), "memory address"),
        (stream("saved to /tmp/tmpx1/a.pt\n"), "path of this machine: /tmp/tmpx1/a.pt"),
        (stream(f"data in {Path.home()}/data\n"), "path of this machine"),
        (stream(f"python is {sys.prefix}\n"), "path of this machine"),
        (stream("C:\\Users\\ada\\book\n"), "path of this machine"),
        (new_output("display_data", data={"text/html": "<b>/home/ada/book</b>"}), "path of this machine"),
    ],
)
def test_an_output_that_another_machine_would_not_give_is_refused_and_its_cell_named(book, output, message):
    with pytest.raises(chapter_files.NotebookError, match=message) as refusal:
        normalised(book, PLAIN, [output])
    line = PLAIN[: PLAIN.index("x + 2")].count("\n") + 1
    assert str(refusal.value).startswith(f"book/01_demo.md, line {line}: ")


def test_an_output_may_hold_addresses_of_the_web_and_fractions(book):
    text = "https://example.org/tmp/x, 3 /tmp, and/or, a/home/b, at 0x10\n"
    assert normalised(book, PLAIN, [stream(text)]) == [stream(text)]


def test_an_expected_warning_is_kept_without_the_process_number(book):
    text = PLAIN + code("import warnings\nwarnings.warn('mind')", "stderr-expected")
    warning = stream("/tmp/ipykernel_4711/123.py:2: UserWarning: mind\n", "stderr")
    assert normalised(book, text, [warning]) == [stream("this cell:2: UserWarning: mind\n", "stderr")]


def test_an_expected_exception_is_kept_without_the_paths_of_its_traceback(book):
    text = PLAIN + code("1 / 0", "raises-exception")
    error = new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=["File /home/ada/x.py"])
    (kept,) = normalised(book, text, [error])
    assert kept.traceback == ["ZeroDivisionError: division by zero"]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
def test_a_stored_png_keeps_its_pixels_and_no_text_of_the_program_that_made_it(book, mode):
    text = PngInfo()
    text.add_text("Software", "Matplotlib version3.11, https://matplotlib.org/")
    before = Image.linear_gradient("L").convert(mode)
    if mode == "RGBA":
        before.putalpha(100)  # see-through, so that its colours stay as they are
    file = io.BytesIO()
    before.save(file, "png", pnginfo=text, dpi=(110, 110))
    image = new_output("display_data", data={"image/png": base64.b64encode(file.getvalue()).decode()})
    (kept,) = normalised(book, FRONT + code(FIGURE), [image])
    after = Image.open(io.BytesIO(base64.b64decode(kept.data["image/png"])))
    assert ImageChops.difference(after.convert("RGBA"), before.convert("RGBA")).getbbox(alpha_only=False) is None
    assert after.text == {} and after.info["dpi"] == pytest.approx((110, 110), abs=0.1)


@pytest.mark.parametrize("coloured", [False, True])
def test_a_stored_figure_is_smaller_and_looks_the_same(coloured):
    generator = np.random.default_rng(0)
    grey = np.kron(generator.integers(0, 256, (40, 40, 1)), np.ones((4, 4, 1))).repeat(3, axis=2)
    pixels = np.concatenate([grey * [0.4, 0.9, 1.0] if coloured else grey, np.full((160, 160, 1), 255)], axis=2)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "png", dpi=(110, 110))
    small = png.compact(file.getvalue())
    assert len(small) < 0.8 * len(file.getvalue())
    stored = Image.open(io.BytesIO(small))
    assert stored.info["dpi"] == pytest.approx((110, 110), abs=0.1)
    # Grey is exact. 256 colours are chosen to be near: 16 of 255 steps is what an eye may just notice.
    error = np.abs(np.asarray(stored.convert("RGB"), float) - pixels.astype(np.uint8)[..., :3]).max()
    assert error <= (16 if coloured else 0)
    assert png.compact(small) == small


@pytest.mark.parametrize("missing", ["alt", "caption", "name"])
def test_a_figure_without_caption_name_or_alt_text_is_refused(book, missing):
    image = new_output("display_data", data={"image/png": NO_PICTURE})
    text = FRONT + code(re.sub(rf"(?m)^    {missing}: .*$", f"    {missing}: ''", FIGURE))
    with pytest.raises(chapter_files.NotebookError, match=rf"a figure without \w+\.{missing} in"):
        normalised(book, text, [image])


def test_a_figure_cell_that_shows_no_image_or_two_things_is_refused(book):
    image = new_output("display_data", data={"image/png": NO_PICTURE})
    value = new_output("execute_result", data={"text/plain": "Text(0, 0, 'x')"})
    for outputs, count in (([], 0), ([image, image], 2), ([image, value], 1)):
        with pytest.raises(chapter_files.NotebookError, match=f"but {count} images among {len(outputs)} rich outputs"):
            normalised(book, FRONT + code(FIGURE), outputs)


# Execution, with real kernels


def test_two_executions_give_the_same_bytes_and_an_unchanged_chapter_is_left_alone(pair, executed):
    before = stored(pair).stat().st_mtime_ns
    assert tool.build(pair, []) == []
    assert stored(pair).stat().st_mtime_ns == before
    assert tool.build(pair, [], every=True) == []
    assert stored(pair).stat().st_mtime_ns > before
    assert stored(pair).read_text(encoding="utf-8") == executed


def test_the_clock_of_a_run_counts_what_its_processes_compute_and_not_what_they_sleep():
    def spent(program: str) -> float:
        began = execute._cpu_seconds_of_children()
        subprocess.run([sys.executable, "-S", "-c", f"import time\n{program}"], check=True)
        return execute._cpu_seconds_of_children() - began

    # Machines disagree about a process's seconds, by a factor of two on some: only the order is asserted.
    assert spent("time.sleep(3)") < 1 < spent("while time.process_time() < 4:\n    pass")


def test_cpu_seconds_of_a_run_are_stored_and_stay_where_another_run_takes_about_as_long(pair, monkeypatch):
    def seconds() -> int:
        return json.loads(stored(pair).read_text(encoding="utf-8"))["metadata"]["vaelib"]["cpu_seconds"]

    write(pair, TINY + code("more = 1"))
    clock = iter([100.0, 112.4])
    monkeypatch.setattr(execute, "_cpu_seconds_of_children", lambda: next(clock))
    assert tool.build(pair, []) == []
    assert seconds() == 12
    for took, kept in ((40.4, 40), (48, 40), (33, 40), (60, 60), (10, 10), (14, 10)):
        monkeypatch.setattr(tool, "execute", lambda *_, took=took: took)
        monkeypatch.setattr(tool, "normalise", lambda *_: None)
        assert tool.build(pair, [], every=True) == []
        assert seconds() == kept
    write(pair, TINY + code("more = 1") + "\nMore.\n")
    assert tool.build(pair, []) == [] and seconds() == 10  # not run again


def test_a_chapter_that_raises_is_named_with_its_cell_and_its_stored_notebook_stays(pair, executed):
    write(pair, TINY.replace("print(x + 1)", "print(x + 1)\nassert x == 3, 'x is two'"))
    (problem,) = tool.build(pair, [])
    line = TINY[: TINY.index("print(x + 1)")].count("\n") + 1
    assert f"book/01_demo.md, line {line} raises AssertionError: x is two" in problem
    assert stored(pair).read_text(encoding="utf-8") == executed
    assert [path.name for path in (pair / "notebooks").iterdir()] == ["01_demo.ipynb"]


def test_a_cell_that_hangs_and_a_kernel_that_dies_are_named_and_the_other_chapters_are_stored(book):
    write(book, FRONT + code("import time\ntime.sleep(60)"), "02_hangs")
    write(book, FRONT + code("import os\nos._exit(1)"), "03_dies")
    # Long enough for an honest cell on a busy machine.
    hangs, dies = tool.build(book, [], cell_timeout=12)
    assert re.match(r"book/02_hangs\.md, line 17 takes over 12 s", hangs)
    assert re.match(r"book/03_dies\.md, line 17: the kernel died", dies)
    assert [path.name for path in (book / "notebooks").iterdir()] == ["01_demo.ipynb"]


def test_a_chapter_that_cannot_have_mnist_is_refused_though_readers_may_fall_back(book, monkeypatch):
    empty = book / "no data"
    empty.mkdir()
    monkeypatch.setenv("VAELIB_DATA", str(empty))
    # Stands for vaelib.data.load("mnist", fallback="digits"), without asking the network.
    lines = "import os\n\nclass DataNotFoundError(ValueError): ...\n\nif os.environ.get('VAELIB_NO_FALLBACK') == '1':\n"
    write(book, FRONT + code(lines + "    raise DataNotFoundError('no MNIST here')"))
    (problem,) = tool.build(book, [])
    assert "no MNIST here" in problem
    assert "no notebook is stored from a fallback: set VAELIB_DATA" in problem
    assert not stored(book).exists()


def test_the_kernel_gets_one_thread_inline_figures_and_the_data_beside_the_book(book, monkeypatch):
    (book.parent / "shared" / "data").mkdir(parents=True)
    monkeypatch.setenv("MPLBACKEND", "pdf")
    environment = execute.kernel_environment(book)
    assert environment["VAELIB_DATA"] == str((book.parent / "shared" / "data").resolve())
    assert (environment["OMP_NUM_THREADS"], environment["VAELIB_NO_FALLBACK"]) == ("1", "1")
    assert "MPLBACKEND" not in environment
    monkeypatch.setenv("VAELIB_DATA", "mine")
    assert execute.kernel_environment(book)["VAELIB_DATA"] == str(Path("mine").resolve())


def test_live_widgets_bars_and_files_left_behind_do_not_reach_the_book(book):
    bars = "from tqdm import tqdm\nfrom tqdm.auto import tqdm as live\n\nfor _ in tqdm(live(range(3))):\n    pass"
    slider = "from ipywidgets import IntSlider\n\nIntSlider()"
    write(book, FRONT + code(bars) + code(slider))
    assert tool.build(book, []) == []
    text = stored(book).read_text(encoding="utf-8")
    assert "widget" not in text.replace("ipywidgets", "")
    assert "it/s" not in text
    write(book, FRONT + code("open('left.txt', 'w').close()"))
    (problem,) = tool.build(book, [])
    assert "left files in notebooks/" in problem
    assert "left.txt" in problem


def test_a_notebook_over_the_size_limit_is_refused_and_its_biggest_outputs_named(book):
    write(book, FRONT + code("print('a' * 300_000)") + code("print('b' * 200_000)"))
    (problem,) = tool.build(book, [])
    assert "would be 50" in problem
    assert re.search(r"300 kB at book/01_demo\.md, line 17; 200 kB at book/01_demo\.md, line 21", problem)
    assert not stored(book).exists()


# nbval, as `make test` runs it


def test_nbval_goes_red_at_a_false_assertion_and_at_a_changed_checked_output(book):
    write(book, FRONT + code("x = 2\nassert x == 2") + code("print(x)"), "02_assertion")
    write(book, FRONT + code("x = 2") + code("print(x)", "nbval-check-output"), "03_output")
    assert tool.build(book, []) == []
    for stem, old, new in (("02_assertion", "assert x == 2", "assert x == 3"), ("03_output", '"x = 2"', '"x = 3"')):
        text = stored(book, stem).read_text(encoding="utf-8")
        assert old in text
        stored(book, stem).write_text(text.replace(old, new), encoding="utf-8")
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=60", "-p", "no:cacheprovider", "-rf"]
    command = [sys.executable, "-m", "pytest", *options, "notebooks"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=book, env=environment, capture_output=True, text=True, check=False)
    failed = sorted(re.findall(r"^FAILED (\S+::Cell \d+)", run.stdout, re.MULTILINE))
    assert run.returncode == 1, run.stdout + run.stderr
    assert failed == ["notebooks/02_assertion.ipynb::Cell 1", "notebooks/03_output.ipynb::Cell 2"]
    assert sorted(path.suffix for path in (book / "notebooks").iterdir()) == [".ipynb"] * 3
