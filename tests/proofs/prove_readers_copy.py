"""The README's commands do not break each other: chapters run and saved in a browser, then checks, a pull, and again.

    .venv/bin/python -m tests.proofs.prove_readers_copy                  every chapter: about half an hour on two cores
    .venv/bin/python -m tests.proofs.prove_readers_copy 00 07            these chapters only: about ten minutes
    .venv/bin/python -m tests.proofs.prove_readers_copy --tests          with `make test`: half an hour more

It clones what is committed here, twice: the book's repository, and a reader's clone of that, in a path with a space,
which sets itself up (the package index, or pip's cache, is needed) and needs Chromium. In the reader's clone `make lab`
starts JupyterLab, where every chapter is run and saved, as a reader would. Then git sees no change; `make check` and
`make book` are green. Three chapters change in the repository: one that the reader changed, one that was run, one left
alone, or as many of these as there are. After `git pull` and another `make lab` all is green again, and every file that
the reader had is still there, byte for byte. Prints what it did, with seconds; the status is 1 where a step failed.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

from bookbuild.chapter import chapters
from tests.conftest import serving
from tools.system_packages import find_browser

ROOT = Path(__file__).resolve().parents[2]
MAKE_LAB = "import os, sys; os.execvp('make', ['make', '-C', sys.argv[1], 'lab', 'LAB_ARGS=' + ' '.join(sys.argv[2:])])"
READY = """async () => {
    await jupyterapp.restored;
    await jupyterapp.shell.currentWidget.context.ready;
    await jupyterapp.shell.currentWidget.sessionContext.ready;
}"""
RUN_AND_SAVE = """async () => {
    await jupyterapp.commands.execute("notebook:run-all-cells");
    await jupyterapp.commands.execute("docmanager:save");
    await jupyterapp.serviceManager.sessions.shutdownAll();
}"""


@contextmanager
def step(what: str) -> Iterator[None]:
    """Name a step and the seconds that it took."""
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"FAILED  {time.monotonic() - start:6.0f} s  {what}", flush=True)
        raise
    print(f"ok      {time.monotonic() - start:6.0f} s  {what}", flush=True)


def run(folder: Path, *command: str) -> str:
    """Run a command as the reader types it; what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout + done.stderr


def clean(reader: Path) -> None:
    """Git sees nothing of what the reader did."""
    if said := run(reader, "git", "status", "--porcelain"):
        raise SystemExit(f"git sees changes:\n{said}")


def green(reader: Path, tests: bool) -> None:
    """Every command of the book's works."""
    for name in ["check", "book", *(["test"] if tests else [])]:
        with step(f"make {name}"):
            run(reader, "make", name)
    with step("git status: clean"):
        clean(reader)


def errors(path: Path) -> list[str]:
    """The errors that stand in a notebook, beside those that it shows on purpose."""
    cells = nbformat.read(path, as_version=4).cells
    return [
        f"{output.ename}: {output.evalue}"
        for cell in cells
        if "raises-exception" not in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


def read(page: Page, url: str, name: str, path: Path) -> None:
    """Run all cells of a chapter in the browser, and save it."""
    before = path.read_bytes()
    page.goto(f"{url}/lab/tree/my/{name}.ipynb?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    page.evaluate(READY)
    page.evaluate(RUN_AND_SAVE)
    if path.read_bytes() == before:
        raise SystemExit(f"{path} was not saved")
    if found := errors(path):
        raise SystemExit(f"{path} shows {found}")


def lab(reader: Path, own: Path, names: list[str]) -> str:
    """Start `make lab`, run and save chapters there, and stop it; what it printed."""
    with serving([sys.executable, "-c", MAKE_LAB, str(reader)], reader, own) as running:
        if names:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1400, "height": 1000})
                page.set_default_timeout(600_000)
                for name in names:
                    with step(f"run and saved in the browser: my/{name}.ipynb"):
                        read(page, running.url, name, reader / "my" / f"{name}.ipynb")
                browser.close()
    return (own / "jupyterlab.log").read_text(encoding="utf-8")


def publish(book: Path, reader: Path, names: list[str]) -> None:
    """Change the text of chapters in the book's repository."""
    for name in names:
        path = book / "book" / f"{name}.md"
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"(?m)^(# .+)$", r"\1\n\nA new sentence.", text, count=1), encoding="utf-8")
        run(reader, ".venv/bin/python", "-m", "bookbuild", "notebooks", name, "--root", str(book))
    identity = ("-c", "user.name=An author", "-c", "user.email=author@example.org")
    run(book, "git", *identity, "commit", "--quiet", "-a", "-m", "Chapters: a new sentence")


def everything(reader: Path) -> dict[str, bytes]:
    """The reader's notebooks."""
    return {path.relative_to(reader).as_posix(): path.read_bytes() for path in (reader / "my").rglob("*.ipynb")}


def prove(folder: Path, names: list[str], known: list[str], tests: bool) -> None:
    """All of it, in an empty folder."""
    book, reader = folder / "the book", folder / "a reader"
    with step("clone, and make setup"):
        run(folder, "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(book))
        run(folder, "git", "clone", "--quiet", str(book), str(reader))
        run(reader, "make", "setup")
    lab(reader, folder / "first", names)
    green(reader, tests)

    changed, ran = reader / "my" / f"{names[0]}.ipynb", names[1:2]
    untouched = [name for name in known if name not in names][:1]
    notebook = nbformat.read(changed, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("'my own'"))
    nbformat.write(notebook, changed)
    before = everything(reader)
    with step(f"chapters change in the repository: {', '.join([names[0], *ran, *untouched])}; git pull"):
        publish(book, reader, [names[0], *ran, *untouched])
        run(reader, "git", "pull", "--quiet")
    with step("make lab again: it says what it kept, and every file of the reader's is there"):
        said = lab(reader, folder / "second", [])
        after = everything(reader)
        assert f"my/{names[0]}.ipynb has your changes and stays" in said, said
        assert after[f"my/{names[0]}.ipynb"] == before[f"my/{names[0]}.ipynb"]
        for name in ran:
            assert after[f"my/{name}-yours-1.ipynb"] == before[f"my/{name}.ipynb"], name
        for name in [*ran, *untouched]:
            assert after[f"my/{name}.ipynb"] == (reader / "notebooks" / f"{name}.ipynb").read_bytes(), name
        book_s = {f"my/{name}.ipynb" for name in untouched}
        assert {content for name, content in before.items() if name not in book_s} <= set(after.values())
    with step("make original"):
        run(reader, "make", "original", f"CHAPTER={names[0][:2]}")
        after = everything(reader)
        assert after[f"my/{names[0]}.ipynb"] == (reader / "notebooks" / f"{names[0]}.ipynb").read_bytes()
        assert after[f"my/{names[0]}-yours-1.ipynb"] == before[f"my/{names[0]}.ipynb"]
    green(reader, tests=False)


def main() -> int:
    """Run the proof; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.prove_readers_copy", description=__doc__)
    parser.add_argument("chapters", nargs="*", help="numbers such as 00 07; default: all")
    parser.add_argument("--tests", action="store_true", help="run `make test` before the pull too")
    options = parser.parse_args()
    known = [chapter.stem for chapter in chapters(ROOT)]
    names = [name for name in known if not options.chapters or name[:2] in options.chapters]
    if not names:
        parser.error(f"no such chapter: there are {', '.join(known)}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # a test becomes another user
        prove(Path(folder), names, known, options.tests)
    print("All of it holds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
