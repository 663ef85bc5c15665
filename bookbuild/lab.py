"""Opens the book in JupyterLab: the clone is its root, and the first page the reader's own copy of chapter 0.

python -m bookbuild lab [options of JupyterLab]

Lab saves what is open by itself. So it opens the copies in my/ (readers_copy.py), and saves nothing in notebooks/,
which is the book's. It asks no other host for anything. Its settings are in lab_settings/overrides.json: live figures
are saved with their state, so that they live when a notebook is opened again without its kernel, and Markdown opens as
a page. A reader's own settings win over these, and are left alone.
"""

import os
import sys
from pathlib import Path
from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from jupyterlab.labapp import LabApp
from tornado.web import HTTPError

from bookbuild.readers_copy import FOLDER, ROOT, CopyError, update

FIRST = f"{FOLDER}/00_start_here.ipynb"
ORIGINALS = "notebooks"


class Contents(AsyncLargeFileManager):
    """The clone's files as JupyterLab shows them: those of notebooks/ can be read and run there, and not saved.

    Links from the pages of book/ lead to them. jupytext's own manager is made from this one.
    """

    def is_writable(self, path: str) -> bool:
        """Whether Lab may save there; where it may not, it says so and asks for another name."""
        return not _is_original(path) and super().is_writable(path)

    async def save(self, model: dict[str, Any], path: str = "") -> Any:
        """Refuse what would change the book, whoever asks."""
        if _is_original(path):
            raise HTTPError(403, f"{ORIGINALS}/ is the book's: yours to change are the copies in {FOLDER}/")
        return await super().save(model, path)


def _is_original(path: str) -> bool:
    return path.strip("/").partition("/")[0] == ORIGINALS


def options(root: Path, arguments: list[str]) -> list[str]:
    """What JupyterLab is started with; the reader's own arguments come last, and win."""
    given = [
        f"--ServerApp.root_dir={root}",
        f"--ServerApp.contents_manager_class={Contents.__module__}.{Contents.__qualname__}",
        f"--LabApp.app_settings_dir={Path(__file__).with_name('lab_settings')}",
        f"--LabApp.workspaces_dir={root / FOLDER / '.lab'}",
        f"--LabApp.default_url=/lab/tree/{FIRST}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    if getattr(os, "geteuid", lambda: 1)() == 0:
        given.append("--allow-root")
    return [*given, *arguments]


def serve(root: Path, arguments: list[str]) -> int:
    """Bring the copies up to date, say what the reader is to know, and serve until stopped; the exit status."""
    try:
        told = update(root)
    except CopyError as error:
        print(error, file=sys.stderr)
        return 1
    for line in told:
        print(line, flush=True)
    LabApp.launch_instance(options(root, arguments))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return serve(ROOT, arguments or [])
