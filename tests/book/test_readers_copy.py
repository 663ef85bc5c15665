"""The reader's copies in my/: an update writes over nothing of theirs, and one command brings an original back."""

import copy
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from bookbuild import first_cell, in_step, readers_copy
from bookbuild.chapter import Chapter, seal
from bookbuild.readers_copy import CopyError, bring_back, update

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["01_demo", "02_other_demo", "11_other", "assignments/01_demo_marks"]
STAYS = "my/01_demo.ipynb has your changes and stays; the book's has changed: `make original CHAPTER=01_demo` brings it"


def publish(root: Path, name: str, text: str, printed: str = "2", commit: str = "v1") -> bytes:
    """Store a chapter and its source as the book's tools do."""
    set_up = first_cell.SET_UP.replace("{reference}", commit)
    code = new_code_cell("print(1 + 1)", execution_count=1, outputs=[new_output("stream", text=f"{printed}\n")])
    notebook = new_notebook(cells=[new_markdown_cell(f"# {text}"), new_code_cell(set_up), code])
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    source = f"---\nkernelspec:\n  name: python3\n  display_name: Python 3\n---\n\n# {text}\n"
    for path, content in ((f"book/{name}.md", source), (f"notebooks/{name}.ipynb", seal(notebook))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.encode())
    return (root / f"notebooks/{name}.ipynb").read_bytes()


def save(path: Path, change: str = "", printed: str = "2.0") -> bytes:
    """What JupyterLab makes of a notebook that was run, and perhaps changed, before it saves it."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].update(execution_count=7, outputs=[new_output("stream", text=f"{printed}\n")])
    notebook.cells[-1].source += change
    notebook.metadata["language_info"] = {"name": "python", "version": "3.14"}
    nbformat.write(notebook, path)
    return path.read_bytes()


@pytest.fixture
def clone(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in NAMES:
        publish(tmp_path, name, f"{name}, first edition")
    return tmp_path


@pytest.fixture
def handed_out(clone):
    assert update(clone) == []
    return clone


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A reader", "-c", "user.email=reader@example.org", "-c", "core.autocrlf=false"]
    line = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tracked(handed_out):
    (handed_out / ".gitignore").write_text("/my/\n", encoding="utf-8")
    git(handed_out, "init", "--quiet")
    git(handed_out, "add", ".")
    git(handed_out, "commit", "--quiet", "-m", "The book")
    return handed_out


def mine(root: Path, name: str = "01_demo") -> Path:
    return root / "my" / f"{name}.ipynb"


def everything(root: Path) -> list[bytes]:
    """The contents of all files of the reader's."""
    return [path.read_bytes() for path in sorted((root / "my").rglob("*.ipynb"))]


# What an update does


def test_the_first_time_every_chapter_and_assignment_is_handed_out_as_it_is(handed_out):
    for name in NAMES:
        assert mine(handed_out, name).read_bytes() == (handed_out / f"notebooks/{name}.ipynb").read_bytes()
    assert len(everything(handed_out)) == len(NAMES)


def test_an_untouched_copy_follows_the_book(handed_out):
    new = publish(handed_out, "01_demo", "Second edition")
    assert update(handed_out) == []
    assert mine(handed_out).read_bytes() == new
    assert len(everything(handed_out)) == len(NAMES)


def test_a_changed_copy_stays_and_one_line_says_so_and_what_helps(handed_out):
    kept = save(mine(handed_out), "  # my own")
    assert update(handed_out) == []  # the book is as it was: nothing to say
    publish(handed_out, "01_demo", "Second edition")
    for _ in range(2):
        (line,) = update(handed_out)
        assert line.startswith(STAYS) and "\n" not in line
        assert mine(handed_out).read_bytes() == kept


def test_a_copy_that_was_only_run_is_kept_beside_the_new_chapter(handed_out):
    run = save(mine(handed_out))
    assert update(handed_out) == [] and mine(handed_out).read_bytes() == run
    new = publish(handed_out, "01_demo", "Second edition")
    (line,) = update(handed_out)
    assert "my/01_demo-yours-1.ipynb" in line
    assert (mine(handed_out).read_bytes(), mine(handed_out, "01_demo-yours-1").read_bytes()) == (new, run)
    assert update(handed_out) == []


def test_where_the_book_prints_or_installs_something_else_a_copy_that_was_run_is_current(handed_out):
    run = save(mine(handed_out))
    publish(handed_out, "01_demo", "01_demo, first edition", printed="2.00", commit="v2")
    assert update(handed_out) == [] and mine(handed_out).read_bytes() == run
    publish(handed_out, "01_demo", "Second edition")
    assert "01_demo-yours-1" in update(handed_out)[0]


def test_a_change_that_was_taken_back_is_none(handed_out):
    save(mine(handed_out), "  # my own")
    save(mine(handed_out, "11_other"))
    notebook = nbformat.read(mine(handed_out), as_version=4)
    notebook.cells[-1].source = "print(1 + 1)"
    nbformat.write(notebook, mine(handed_out))
    new = publish(handed_out, "01_demo", "Second edition")
    update(handed_out)
    assert mine(handed_out).read_bytes() == new and len(everything(handed_out)) == len(NAMES) + 1


def test_files_that_the_reader_adds_are_left_alone(handed_out):
    added = {"my notes.ipynb": b"{}", "assignments/05_mine.ipynb": b"", "data/x.npy": b"\x93", "99_x.ipynb": b"\xff"}
    for name, content in added.items():
        path = handed_out / "my" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert update(handed_out) == []
    assert {name: (handed_out / "my" / name).read_bytes() for name in added} == added


def test_a_new_chapter_does_not_write_over_a_file_of_its_name(handed_out):
    own = save(shutil.copy(mine(handed_out), mine(handed_out, "13_new")), "  # my own")
    publish(handed_out, "13_new", "A new chapter")
    (line,) = update(handed_out)
    assert "my/13_new.ipynb" in line and mine(handed_out, "13_new").read_bytes() == own


@pytest.mark.parametrize("change", ["", "  # my own"])
def test_a_renamed_chapter_comes_under_its_new_name_and_the_old_file_stays_and_is_said_once(handed_out, change):
    kept = save(mine(handed_out), change) if change else mine(handed_out).read_bytes()
    for path in ("book/01_demo.md", "notebooks/01_demo.ipynb"):
        (handed_out / path).unlink()
    new = publish(handed_out, "03_renamed", "01_demo, first edition")
    (line,) = update(handed_out)
    assert line.startswith("my/01_demo.ipynb: the book has no such chapter any more")
    assert mine(handed_out).read_bytes() == kept and mine(handed_out, "03_renamed").read_bytes() == new
    assert update(handed_out) == []


def test_a_copy_that_the_reader_deleted_comes_again(handed_out):
    mine(handed_out).unlink()
    assert update(handed_out) == [] and mine(handed_out).is_file()


@pytest.mark.parametrize("content", [b"", b"<<<<<<< HEAD", b"\xff\xfe", b"[]", b'{"cells": 3}', b'{"cells": [{}]}'])
def test_a_copy_that_is_no_notebook_stays_and_is_named_when_the_book_changes(handed_out, content):
    mine(handed_out).write_bytes(content)
    publish(handed_out, "01_demo", "Second edition")
    (line,) = update(handed_out)
    assert line.startswith(STAYS) and mine(handed_out).read_bytes() == content


def test_a_copy_that_cannot_be_read_keeps_nobody_from_the_others(handed_out):
    mine(handed_out).unlink()
    mine(handed_out).mkdir()
    new = publish(handed_out, "11_other", "Second edition")
    (line,) = update(handed_out)
    assert (
        line.startswith("my/01_demo.ipynb can't be read and stays") and mine(handed_out, "11_other").read_bytes() == new
    )


# The record


GARBAGE = [None, b"", b"\x00\xff", b"[]", b"{", b'{"01_demo": 3}', b'{"01_demo": {"file": 3}}', b'{"01_demo": null}']


@pytest.mark.parametrize("content", GARBAGE)
def test_without_a_readable_record_nothing_is_lost_and_the_next_one_is_right(handed_out, content):
    record = handed_out / "my" / readers_copy.RECORD
    changed, untouched = save(mine(handed_out), "  # my own"), mine(handed_out, "11_other").read_bytes()
    record.unlink() if content is None else record.write_bytes(content)
    for name in ("01_demo", "11_other"):
        publish(handed_out, name, "Second edition")
    first, second = update(handed_out)
    assert first.startswith(STAYS) and "my/11_other-yours-1.ipynb" in second
    assert {changed, untouched} <= set(everything(handed_out))
    newest = publish(handed_out, "11_other", "Third edition")
    assert len(update(handed_out)) == 1 and mine(handed_out, "11_other").read_bytes() == newest


def test_a_record_that_is_wrong_never_takes_a_change_for_the_book_s(handed_out):
    changed = save(mine(handed_out), "  # my own")
    record = handed_out / "my" / readers_copy.RECORD
    known = json.loads(record.read_text(encoding="utf-8"))
    known["01_demo"] = vars(readers_copy.described(changed))
    record.write_text(json.dumps(known), encoding="utf-8")
    publish(handed_out, "01_demo", "Second edition")
    update(handed_out)
    assert changed in everything(handed_out)


@pytest.mark.parametrize("step", ["atomic_write", "_put_aside", "_hand_out", "write_record"])
def test_an_update_that_is_broken_off_anywhere_loses_nothing_and_the_next_one_ends_it(handed_out, monkeypatch, step):
    mine(handed_out, "02_other_demo").unlink()
    run = save(mine(handed_out))
    new = publish(handed_out, "01_demo", "Second edition")
    place = readers_copy if step == "atomic_write" else readers_copy.Copies
    with monkeypatch.context() as patch:
        real, calls = getattr(place, step), []

        def stop_after(*arguments):
            calls.append(arguments)
            if step == "_put_aside":
                real(*arguments)
            raise KeyboardInterrupt

        patch.setattr(place, step, stop_after)
        with pytest.raises(KeyboardInterrupt):
            update(handed_out)
        assert calls
    (handed_out / "my" / ".02_other_demo.ipynb.0a1b2c3d.tmp").write_bytes(b"half")
    assert run in everything(handed_out)
    update(handed_out)
    assert mine(handed_out).read_bytes() == new and mine(handed_out, "02_other_demo").is_file()
    assert run in everything(handed_out)
    assert not list((handed_out / "my").rglob("*.tmp"))


def test_two_at_once_hand_out_the_same_and_lose_nothing(handed_out):
    run = save(mine(handed_out))
    new = publish(handed_out, "01_demo", "Second edition")
    told: list[list[str]] = []
    both = [threading.Thread(target=lambda: told.append(update(handed_out))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sorted(map(len, told)) == [0, 1]
    assert mine(handed_out).read_bytes() == new and everything(handed_out).count(run) == 1


def test_one_that_waits_too_long_for_another_says_so(handed_out, monkeypatch):
    monkeypatch.setattr(readers_copy, "PATIENCE", 0.1)
    with readers_copy.FileLock(handed_out / "my" / ".lock"), pytest.raises(CopyError, match="another `make lab`"):
        update(handed_out)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_lost(handed_out, monkeypatch, number):
    kept = save(mine(handed_out))
    publish(handed_out, "01_demo", "Second edition")

    def refuse(path, *_):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(readers_copy, "atomic_write", refuse)
    with pytest.raises(CopyError, match=f"{os.strerror(number)}.*must be yours to write to"):
        update(handed_out)
    assert mine(handed_out).read_bytes() == kept and len(everything(handed_out)) == len(NAMES)


def test_a_file_where_the_folder_should_be_is_named(clone):
    (clone / "my").write_text("mine", encoding="utf-8")
    with pytest.raises(CopyError, match=r"can't be written \(.*my"):
        update(clone)
    assert (clone / "my").read_text(encoding="utf-8") == "mine"


# The original back


def test_an_original_comes_back_and_each_of_the_reader_s_versions_is_kept(handed_out):
    original = mine(handed_out).read_bytes()
    kept = []
    for number in (1, 2, 3):
        kept.append(save(mine(handed_out), f"  # version {number}"))
        (line,) = bring_back(handed_out, "1")
        assert f"my/01_demo-yours-{number}.ipynb" in line and mine(handed_out).read_bytes() == original
    assert set(kept) <= set(everything(handed_out))
    assert "is the book's original" in bring_back(handed_out, "1")[0]
    assert len(everything(handed_out)) == len(NAMES) + 3
    publish(handed_out, "01_demo", "Second edition")
    assert update(handed_out) == []  # it is an untouched copy again


def test_a_copy_stays_beside_the_original_where_its_links_work(handed_out):
    save(mine(handed_out, "assignments/01_demo_marks"), "  # my own")
    bring_back(handed_out, "assignments/1")
    assert mine(handed_out, "assignments/01_demo_marks-yours-1").is_file()


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        *(
            (each, "01_demo")
            for each in ("1", "01", "001", "01_demo", "my/01_demo.ipynb", "demo", " 01 ", "book/01_demo.md")
        ),
        *((each, "11_other") for each in ("11", "11_other", "other", ".\\notebooks\\11_other.ipynb")),
        *((each, NAMES[3]) for each in ("assignments/1", "assignments/01", "01_demo_marks", "marks", NAMES[3])),
        ("other_d", "02_other_demo"),
    ],
)
def test_a_chapter_is_found_by_number_name_or_path(wanted, name):
    assert readers_copy.find(wanted, NAMES) == name


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("", "names no chapter"),
        ("  ", "names no chapter"),
        ("12", "is none of the book's"),
        ("7_nothing", "is none of the book's"),
        ("../../etc", "is none of the book's"),
        ("1 11", "is none of the book's"),
        ("dem", "is several of the book's: .* 01_demo, 02_other_demo, assignments/01_demo_marks$"),
        ("0", "is none of the book's"),
    ],
)
def test_what_is_no_chapter_or_several_is_said_with_those_that_there_are(handed_out, wanted, said):
    before = everything(handed_out)
    with pytest.raises(CopyError, match=said):
        bring_back(handed_out, wanted)
    assert everything(handed_out) == before


def test_the_command_line_says_what_was_done_or_why_not(handed_out, capsys):
    save(mine(handed_out), "  # my own")
    assert readers_copy.main(["--root", str(handed_out), "--original", "1"]) == 0
    assert readers_copy.main(["--root", str(handed_out)]) == 0
    assert readers_copy.main(["--root", str(handed_out), "--original", ""]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and "my/01_demo-yours-1.ipynb" in out
    assert "names no chapter" in err


# A notebook of the book's that somebody saved all the same


def problem(root: Path, name: str = "01_demo") -> str:
    (found,) = in_step.problems(Chapter(root, name))[:1]
    return found


def test_a_notebook_edited_by_hand_is_brought_back_as_its_message_says_and_the_edit_is_kept(tracked):
    path = tracked / "notebooks/01_demo.ipynb"
    original, edit = path.read_bytes(), save(path, "  # by hand")
    own = save(mine(tracked), "  # my own")
    message = problem(tracked)
    assert message.startswith("edited by hand: notebooks/01_demo.ipynb") and "\n" not in message
    wanted = re.search(r"`make original CHAPTER=(\S+)`", message)[1]
    assert re.search(r"`make original CHAPTER=(\S+)`", update(tracked)[0])[1] == wanted  # `make lab` says it too
    said = "\n".join(bring_back(tracked, wanted))
    assert "notebooks/01_demo.ipynb is the book's again" in said
    assert path.read_bytes() == original == mine(tracked).read_bytes()
    assert {edit, own} <= set(everything(tracked))
    assert git(tracked, "status", "--porcelain") == ""


@pytest.mark.parametrize("content", [None, b"", b"<<<<<<< HEAD\n{}", b"\xff", b"{}"])
def test_a_notebook_that_is_broken_or_gone_is_brought_back(tracked, content):
    path = tracked / "notebooks/01_demo.ipynb"
    original = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(content)
    if content is not None:
        assert problem(tracked).startswith("unreadable") and "\n" not in problem(tracked)
    assert "CHAPTER=01_demo` brings it back" in update(tracked)[0]
    bring_back(tracked, "01_demo")
    assert path.read_bytes() == original
    assert content is None or content in everything(tracked)


def test_an_edit_that_was_staged_is_brought_back_too(tracked):
    path = tracked / "notebooks/01_demo.ipynb"
    edit = save(path, "  # by hand")
    git(tracked, "add", "notebooks")
    bring_back(tracked, "1")
    assert git(tracked, "status", "--porcelain") == "" and edit in everything(tracked)


@pytest.mark.parametrize("why", ["no repository", "committed", "no git"])
def test_where_git_has_no_original_the_edit_stays_and_the_reason_is_said(tracked, monkeypatch, why):
    path = tracked / "notebooks/01_demo.ipynb"
    edit = save(path, "  # by hand")
    if why == "no repository":
        shutil.rmtree(tracked / ".git")
    elif why == "committed":
        git(tracked, "commit", "--quiet", "-a", "-m", "By hand")
    else:
        monkeypatch.setenv("PATH", "")
    before = everything(tracked)
    with pytest.raises(CopyError, match=r"git does not bring back notebooks/01_demo\.ipynb .* run `make notebooks"):
        bring_back(tracked, "1")
    assert path.read_bytes() == edit and everything(tracked) == before


def test_the_edit_of_a_reader_who_worked_in_notebooks_becomes_a_copy(clone):
    edit = save(clone / "notebooks/01_demo.ipynb", "  # by hand")
    update(clone)
    assert mine(clone).read_bytes() == edit


# What the checks look at


def test_a_notebook_that_git_does_not_track_is_no_orphan(tracked):
    shutil.copy(mine(tracked), tracked / "notebooks" / "scratch.ipynb")
    assert not [each for each in in_step.check(tracked) if each.startswith("orphan")]
    git(tracked, "add", "notebooks/scratch.ipynb")
    (orphan,) = [each for each in in_step.check(tracked) if each.startswith("orphan")]
    assert "notebooks/scratch.ipynb" in orphan


def tracked_files(*patterns: str) -> set[str]:
    return set(git(ROOT, "ls-files", "-z", "--", *patterns).split("\0")) - {""}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository here: what it tracks is not known")
def test_ruff_looks_at_every_python_file_of_the_book_and_at_none_of_the_reader_s(tmp_path):
    line = [sys.executable, "-m", "ruff", "check", "--show-files", "."]
    looked = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {Path(each).relative_to(ROOT).as_posix() for each in looked}
    assert found >= tracked_files("*.py") - tracked_files("book/_static")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("my/a.py", "my/b.ipynb", "scratch.py", "Untitled.ipynb", "notebooks/c.ipynb", "vaelib/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}", encoding="utf-8")
    looked = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {Path(each).name for each in looked} == {"pyproject.toml", "d.py"}


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository here: what it tracks is not known")
def test_make_tests_the_book_s_notebooks_alone_and_cleans_nothing_of_the_reader_s(tmp_path):
    plan = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in plan.split("\n") if "--nbval-lax" in line]
    named = {each for each in line.split() if each.startswith("notebooks")}
    assert named == {f"notebooks/{path.stem}.ipynb" for path in (ROOT / "book").glob("[0-9][0-9]_*.md")}
    assert named >= tracked_files("notebooks/[0-9]*.ipynb")
    assert (
        subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", "my/07_vae.ipynb"], check=False).returncode == 0
    )
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept, gone = ["my/07_vae.ipynb", "my/.venv/x", "my/__pycache__/x"], [".venv/x", "_build/x", "vaelib/__pycache__/x"]
    for name in [*kept, *gone]:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)
    assert [name for name in [*kept, *gone] if (tmp_path / name).exists()] == kept


def test_the_digest_of_the_cells_is_that_of_their_text_alone():
    notebook = new_notebook(cells=[new_markdown_cell("a"), new_code_cell("b")])
    other = copy.deepcopy(notebook)
    other.cells[1].update(execution_count=3, outputs=[new_output("stream", text="x")])
    other.metadata["widgets"] = {"state": {}}
    one, two = (readers_copy.described(nbformat.writes(each).encode()) for each in (notebook, other))
    assert one.cells == two.cells and one.file != two.file
    other.cells[0].source = "A"
    assert readers_copy.described(nbformat.writes(other).encode()).cells != one.cells
