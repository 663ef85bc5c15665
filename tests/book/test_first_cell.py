"""The notebooks install the vaelib that they were made with, and the line that says so neither lags nor circles."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bookbuild import first_cell

ROOT = Path(__file__).resolve().parents[2]
NOBODY = {f"GIT_{role}_{what}": "nobody@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = os.environ | NOBODY | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout.strip()


def commit(folder: Path, file: str, text: str) -> str:
    """Append to a file, and commit that; the commit."""
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text(encoding="utf-8") if path.exists() else "") + text, encoding="utf-8")
    git(folder, "add", file)
    git(folder, "commit", "--quiet", "--message", f"Change {file}")
    return git(folder, "rev-parse", "HEAD")


def replace(folder: Path, old: str, new: str) -> str:
    """Change pyproject.toml, and commit that; the commit."""
    path = folder / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return commit(folder, "pyproject.toml", "")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with this pyproject.toml and a vaelib of one line; its notebooks install the commit with both."""
    if shutil.which("git") is None:
        pytest.skip("no git on this machine")
    folder = tmp_path / "book"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    shutil.copy(ROOT / "pyproject.toml", folder)
    commit(folder, "pyproject.toml", "")
    first = commit(folder, "vaelib/__init__.py", "one = 1\n")
    assert first_cell.update(folder) == f"the notebooks install {first} now: run `make assignments` too"
    commit(folder, "pyproject.toml", "")
    return folder


def unchanged(folder: Path) -> bool:
    """Whether `update` leaves pyproject.toml as it is."""
    before = (folder / "pyproject.toml").read_bytes()
    first_cell.update(folder)
    return (folder / "pyproject.toml").read_bytes() == before


def test_the_notebooks_install_the_vaelib_of_this_tree():
    if reason := first_cell.unknown(ROOT):
        pytest.skip(reason)
    if not first_cell.installs_this(ROOT, "HEAD"):
        pytest.skip("vaelib has changes that no commit holds yet")
    assert first_cell.installs_this(ROOT, first_cell.reference(ROOT)), (
        f"the notebooks install {first_cell.reference(ROOT)}, whose vaelib is not the one of this tree, or which this "
        "history does not have: run `make notebooks` and `make assignments`, and commit what they wrote"
    )


def test_another_change_than_of_vaelib_changes_nothing(tree):
    commit(tree, "README.md", "More.\n")
    replace(tree, "line-length = 120", "line-length = 99")
    replace(tree, 'grade = ["cloudpickle"', 'grade = ["six", "cloudpickle"')
    assert unchanged(tree)
    assert first_cell.installs_this(tree, first_cell.reference(tree))


@pytest.mark.parametrize("file", ["vaelib/__init__.py", "vaelib/new.py", "vaelib/widgets/page.js"])
def test_a_change_of_vaelib_is_installed_once_it_is_committed(tree, file):
    before = first_cell.reference(tree)
    path = tree / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("two = 2\n", encoding="utf-8")
    assert f"still install {before}: commit the change" in first_cell.update(tree)
    assert first_cell.reference(tree) == before
    after = commit(tree, file, "")
    assert not first_cell.installs_this(tree, before)
    commit(tree, "README.md", "More.\n")
    assert not unchanged(tree)
    assert first_cell.reference(tree) == after
    assert unchanged(tree)


def test_a_dependency_that_is_added_after_the_code_is_installed_too(tree):
    code = commit(tree, "vaelib/__init__.py", "import six\n")
    both = replace(tree, '"pooch",', '"pooch", "six",')
    first_cell.update(tree)
    assert first_cell.reference(tree) == both != code


def test_the_tag_of_the_version_is_installed_once_there_is_one_and_not_after_the_next_change(tree):
    git(tree, "tag", first_cell.tag(tree))
    first_cell.update(tree)
    assert first_cell.reference(tree) == first_cell.tag(tree)
    assert f'\nversion = "{first_cell.tag(tree)[1:]}"\n' in (tree / "pyproject.toml").read_text(encoding="utf-8")
    commit(tree, "pyproject.toml", "")
    assert unchanged(tree)
    after = commit(tree, "vaelib/__init__.py", "three = 3\n")
    first_cell.update(tree)
    assert first_cell.reference(tree) == after


def test_a_tag_of_other_code_is_not_taken(tree):
    git(tree, "tag", first_cell.tag(tree))
    after = commit(tree, "vaelib/__init__.py", "three = 3\n")
    first_cell.update(tree)
    assert first_cell.reference(tree) == after


def test_a_commit_that_history_lost_is_replaced(tree):
    lost = commit(tree, "vaelib/__init__.py", "two = 2\n")
    first_cell.update(tree)
    assert first_cell.reference(tree) == lost
    commit(tree, "pyproject.toml", "")
    git(tree, "reset", "--quiet", "--soft", "HEAD~2")  # as a merge does that squashes
    git(tree, "commit", "--quiet", "--message", "Squashed")
    assert not first_cell.installs_this(tree, lost)
    first_cell.update(tree)
    assert first_cell.reference(tree) == git(tree, "rev-parse", "HEAD") != lost


def test_a_shallow_clone_and_an_archive_keep_what_is_written(tree, tmp_path):
    commit(tree, "README.md", "More.\n")
    shallow, archive = tmp_path / "shallow", tmp_path / "archive"
    git(tmp_path, "clone", "--quiet", "--depth", "1", tree.as_uri(), str(shallow))
    shutil.copytree(tree, archive, ignore=shutil.ignore_patterns(".git"))
    inside = tree / "archive"  # unpacked within another repository, which says nothing about it
    shutil.copytree(archive, inside)
    for folder, reason in ((shallow, "shallow"), (archive, "no git"), (inside, "no git")):
        assert reason in first_cell.unknown(folder)
        assert unchanged(folder)
        assert first_cell.source(folder) == first_cell.source(tree)
