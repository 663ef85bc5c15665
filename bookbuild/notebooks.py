"""Converts book/NN_name.md into the executed notebooks/NN_name.ipynb, one way, and finds any pair out of step.

python -m bookbuild notebooks               store the chapters whose conversion differs from what is stored
python -m bookbuild notebooks 07_vae ...    of these chapters only; --all: changed or not
python -m bookbuild notebooks --check       compare only, execute nothing; exit 1 where a pair is out of step

A chapter whose code is the same keeps its outputs and is not executed, unless --all asks for it. The notebooks hold
plain Markdown (plain_markdown.py); the site is made from the chapters' own text with the outputs of the notebooks.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from nbformat import NotebookNode

from bookbuild import first_cell
from bookbuild.chapter import Chapter, NotebookError, chapters, seal
from bookbuild.convert import convert
from bookbuild.execute import CELL_TIMEOUT, execute
from bookbuild.in_step import check, keep_outputs, problems, stored_seconds
from bookbuild.normalise import normalise
from vaelib._files import atomic_write

MAX_BYTES = 400_000


def build(root: Path, stems: list[str], every: bool = False, cell_timeout: int = CELL_TIMEOUT) -> list[str]:
    """Stores those of the chapters that are out of step, or all; the problems, one for each that was not stored."""
    found = []
    for chapter in chapters(root):
        if stems and chapter.stem not in stems:
            continue
        try:
            out_of_step = problems(chapter)
            if kept := [problem for problem in out_of_step if problem.startswith(("edited", "unreadable"))]:
                raise NotebookError(kept[0])  # somebody's work may be in there: never written over
            if out_of_step or every:
                start = time.perf_counter()
                size = store(chapter, every, cell_timeout)
                print(f"{chapter.notebook}: {time.perf_counter() - start:.0f} s, {size / 1000:.0f} kB", flush=True)
            elif stems:
                print(f"{chapter.notebook} is in step with its chapter; --all executes it all the same", flush=True)
        except NotebookError as error:
            found.append(f"{error}\n  {chapter.notebook} stays as it was")
    return found


def store(chapter: Chapter, afresh: bool, cell_timeout: int = CELL_TIMEOUT) -> int:
    """Converts, executes where the code is new or `afresh`, normalises and writes one chapter; the size in bytes."""
    notebook = convert(chapter)
    if afresh or not keep_outputs(chapter, notebook):
        note_time(chapter, notebook, execute(chapter, notebook, cell_timeout))
    normalise(chapter, notebook)
    content = seal(notebook).encode("utf-8")
    if len(content) > MAX_BYTES:
        raise NotebookError(
            f"{chapter.notebook} would be {len(content) // 1000} kB, more than {MAX_BYTES // 1000} kB. "
            f"The biggest outputs: {biggest(chapter, notebook)}"
        )
    atomic_write(chapter.stored, content)
    return len(content)


def note_time(chapter: Chapter, notebook: NotebookNode, seconds: float) -> None:
    """Writes down how long the chapter runs; what is stored stays where it is right to a quarter, or to 5 seconds."""
    before = stored_seconds(chapter)
    close = before is not None and abs(seconds - before) <= max(5, 0.25 * before)
    notebook.metadata.vaelib.cpu_seconds = before if close else round(seconds)


def biggest(chapter: Chapter, notebook: NotebookNode) -> str:
    sizes = [
        (len(json.dumps(output, ensure_ascii=False)), chapter.place(notebook, index))
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
    ]
    return "; ".join(f"{size // 1000} kB at {place}" for size, place in sorted(sizes, reverse=True)[:3])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bookbuild notebooks",
        description="Makes notebooks/*.ipynb from book/*.md, or checks that they are in step.",
    )
    parser.add_argument("stems", nargs="*", metavar="stem", help="chapters such as 07_vae; default: every chapter")
    parser.add_argument("--all", action="store_true", help="execute them whether changed or not")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 where a pair is out of step")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the book's folder")
    options = parser.parse_args(arguments)
    known = [chapter.stem for chapter in chapters(options.root)]
    if unknown := [stem for stem in options.stems if stem not in known]:
        parser.error(f"no such chapter: {', '.join(unknown)}; there are {', '.join(known)}")
    if not (options.check or options.stems) and (said := first_cell.update(options.root)):
        print(said, flush=True)
    found = check(options.root) if options.check else build(options.root, options.stems, options.all)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0
