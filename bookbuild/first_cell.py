"""The first cell of every notebook, which installs vaelib where it is missing, and which vaelib that is.

A notebook that travels alone installs what it was made with: the tag of the version, once there is one, else the
commit that last changed vaelib. Which one stands in pyproject.toml, `[tool.vaelib] notebooks-install`, and notebooks
are made from that line and nothing else, so that a clone without history, or an archive, gives the same bytes. Git is
asked in `update` alone, for a commit that is there: vaelib is committed first, then `make notebooks` writes the line.
"""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from vaelib._files import atomic_write

SET_UP = """\
# Installs the code that this notebook was made with, in Colab; says what is
# missing elsewhere, and does nothing where all is there.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("vaelib") is None:
    book = "{repository}"
    made_with = "{reference}"
    package = f"vaelib @ git+{book}@{made_with}"
    if "google.colab" in sys.modules:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", package]
        subprocess.run(pip, check=True)
    else:
        raise ModuleNotFoundError(
            f"This notebook needs vaelib, and {sys.executable}, the Python\\n"
            "of this kernel, does not have it. In the book's folder, run\\n"
            "`make lab` and choose the kernel 'Python 3 (ipykernel)'. Or run\\n"
            f'"{sys.executable}" -m pip install "{package}"\\n'
            "and restart this kernel."
        )
"""
LINE = re.compile(r'(?m)^notebooks-install = "(.*)"$')


def source(root: Path) -> str:
    """The cell's text."""
    text = SET_UP.replace("{repository}", _project(root)["urls"]["Repository"])
    return text.replace("{reference}", reference(root)).rstrip()


def reference(root: Path) -> str:
    """The tag or commit that the notebooks install."""
    return str(_pyproject(root)["tool"]["vaelib"]["notebooks-install"])


def update(root: Path) -> str:
    """Writes down what the notebooks install where it is no longer the vaelib of this tree; what there is to say."""
    if unknown(root):
        return ""
    stored = reference(root)
    if not installs_this(root, "HEAD"):
        return f"the notebooks still install {stored}: commit the change in vaelib, then run `make notebooks` again"
    paths = (["vaelib"], ["vaelib", "setup.py", "pyproject.toml"])
    last = (_git(root, "log", "-1", "--format=%H", "--", *each) for each in paths)
    wanted = next(each for each in (tag(root), stored, *last) if each and installs_this(root, each))
    if wanted == stored:
        return ""
    path = root / "pyproject.toml"
    atomic_write(path, LINE.sub(f'notebooks-install = "{wanted}"', path.read_text(encoding="utf-8")))
    return f"the notebooks install {wanted} now: run `make assignments` too"


def unknown(root: Path) -> str:
    """Why git cannot tell here what the notebooks should install; '' where it can."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or not Path(top).samefile(root):
        return "there is no git repository here, or no git"
    if _git(root, "rev-parse", "--is-shallow-repository") == "true" and not _in_history(root, reference(root)):
        return f"this clone is shallow and does not reach back to {reference(root)}"
    return ""


def installs_this(root: Path, commit: str) -> bool:
    """Whether `pip install "vaelib @ git+...@commit"` brings the vaelib that lies in this tree."""
    if not _in_history(root, commit) or _git(root, "diff", "--quiet", commit, "--", "vaelib", "setup.py") is None:
        return False
    new_files = _git(root, "ls-files", "--others", "--exclude-standard", "--", "vaelib", "setup.py")
    there = tomllib.loads(_git(root, "show", f"{commit}:pyproject.toml") or "")
    return not new_files and _installation(there) == _installation(_pyproject(root))


def tag(root: Path) -> str:
    """The tag that the version has, or will have."""
    return f"v{_project(root)['version']}"


def _installation(pyproject: dict[str, Any]) -> list[Any]:
    """The part of pyproject.toml that decides what an installation of vaelib alone is."""
    beside = {"optional-dependencies", "urls", "description", "authors", "readme"}
    project = {key: value for key, value in pyproject.get("project", {}).items() if key not in beside}
    return [pyproject.get("build-system"), project, pyproject.get("tool", {}).get("setuptools")]


def _pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def _project(root: Path) -> dict[str, Any]:
    return dict(_pyproject(root)["project"])


def _in_history(root: Path, name: str) -> bool:
    """Whether there is such a commit that others get with this branch: after a rebase the old ones lie there still."""
    return _git(root, "merge-base", "--is-ancestor", name, "HEAD") is not None


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers, None where it fails or is not there."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, encoding="utf-8", check=False
        )
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
