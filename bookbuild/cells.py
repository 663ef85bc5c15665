"""Checks and formats the code cells of book/NN_*.md and book/assignments/NN_*.md, by the lines of the Markdown.

python -m bookbuild cells                       lint, format and width; exit 1 where anything is found
python -m bookbuild cells --write               first write the formatted cells back into the Markdown, and nothing else
python -m bookbuild cells book/07_vae.md ...    of these files only

Ruff gets each file as a notebook, so that it knows what a cell is: the expression at its end is shown, a semicolon
there keeps a figure quiet, and a name may come from any cell before. Its rules for cells are in cells.toml.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupytext.myst import MystMetadataParsingError, myst_to_notebook

from vaelib._files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
RULES = Path(__file__).with_name("cells.toml")
WIDTH = 80  # characters that the page shows without scrolling; also cells.toml's line-length


class CellsError(Exception):
    """Cells that cannot be checked; the message names the file."""


@dataclass(frozen=True)
class Cell:
    """The source of a code cell, the place in the text where it begins, and the line, counted from 1."""

    start: int
    line: int
    source: str


@dataclass(frozen=True, order=True)
class Finding:
    """What is wrong at a place in a Markdown file."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class Source:
    """A Markdown file and its code cells."""

    def __init__(self, path: Path, root: Path):
        self.path = path
        self.name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        try:
            self.text = path.read_bytes().decode("utf-8")
            self.cells = list(self._cells())
        except (OSError, UnicodeDecodeError, MystMetadataParsingError) as error:
            raise CellsError(f"{self.name}: {error}") from None

    def _cells(self) -> Iterator[Cell]:
        notebook = myst_to_notebook(self.text, add_source_map=True)
        lines = self.text.splitlines(keepends=True)
        for fence, cell in zip(notebook.metadata.source_map, notebook.cells, strict=True):
            if cell.cell_type == "code" and cell.source.strip():
                options = sum(map(len, lines[:fence]))  # between the fence and the source stand the cell's options
                start = self.text.find(f"\n{cell.source}\n", options - 1) + 1
                if not start:
                    raise CellsError(f"{self.name}:{fence}: the cell is not found in the text as it was read from it")
                yield Cell(start, self.text.count("\n", 0, start) + 1, cell.source)

    def with_cells(self, new: list[str]) -> str:
        """The text with other sources in its cells, and every other character as it was."""
        parts, end = [], 0
        for cell, source in zip(self.cells, new, strict=True):
            parts += [self.text[end : cell.start], source]
            end = cell.start + len(cell.source)
        return "".join([*parts, self.text[end:]])


def sources(root: Path, paths: list[Path] | None = None) -> list[Source]:
    """The given files, or all chapters and assignments."""
    if not paths:
        paths = [*sorted((root / "book").glob("[0-9]*_*.md")), *sorted((root / "book/assignments").glob("[0-9]*_*.md"))]
    return [Source(path, root) for path in paths]


def check(files: list[Source]) -> list[Finding]:
    """Everything that is wrong in the cells, in the order of the lines."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        notebooks = [_notebook(file, Path(folder, f"{index}.ipynb")) for index, file in enumerate(files)]
        for each in json.loads(_ruff("check", "--output-format", "json", *notebooks)):
            file = files[int(Path(each["filename"]).stem)]
            line = file.cells[each["cell"] - 1].line + each["location"]["row"] - 1
            message = f"{each['code']} {each['message']}"
            found.append(Finding(file.name, line, each["location"]["column"], message))
    for file, new in zip(files, formatted(files), strict=True):
        found += too_wide(file)
        for cell, source in zip(file.cells, new, strict=True):
            if cell.source != source:
                line = cell.line + _first_difference(cell.source, source)
                found.append(Finding(file.name, line, 1, "not formatted: run `make format`"))
    return sorted(found)


def too_wide(file: Source) -> list[Finding]:
    """The lines of cells that the page cuts off: ruff's own rule would let addresses and some comments pass."""
    return [
        Finding(file.name, cell.line + row, WIDTH + 1, f"{len(line)} characters, more than {WIDTH}")
        for cell in file.cells
        for row, line in enumerate(cell.source.split("\n"))
        if len(line) > WIDTH
    ]


def formatted(files: list[Source]) -> list[list[str]]:
    """The sources of the cells of each file as they should be; those of a file with a syntax error as they are."""
    with tempfile.TemporaryDirectory() as folder:
        notebooks = [_notebook(file, Path(folder, f"{index}.ipynb")) for index, file in enumerate(files)]
        _ruff("format", *notebooks)
        return [[cell.source for cell in nbformat.read(path, as_version=4).cells] for path in notebooks]


def write(files: list[Source]) -> list[Source]:
    """Writes the formatted cells where they differ; the files that were written."""
    written = []
    for file, new in zip(files, formatted(files), strict=True):
        if (text := file.with_cells(new)) != file.text:
            atomic_write(file.path, text)
            written.append(file)
    return written


def _notebook(file: Source, path: str | Path) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.source) for cell in file.cells])
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)
    return Path(path)


def _ruff(command: str, *arguments: str | Path) -> str:
    """What ruff prints; its exit status is 1 where it found something, and 2 where it could not parse or work."""
    line = [sys.executable, "-m", "ruff", command, "--no-cache", "--config", RULES, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode not in (0, 1) and not (command == "format" and "Failed to parse" in done.stderr):
        raise CellsError(f"ruff {command} failed:\n{done.stderr.strip()}")
    return done.stdout


def _first_difference(text: str, other: str) -> int:
    """The number of the first line, counted from 0, that is not the other text's."""
    pairs = zip(text.split("\n"), other.split("\n"), strict=False)
    return next((row for row, (one, two) in enumerate(pairs) if one != two), 0)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bookbuild cells", description="Checks the code cells of the book.")
    parser.add_argument("paths", nargs="*", type=Path, help="files such as book/07_vae.md; default: all of them")
    parser.add_argument("--check", action="store_true", help="report only, the default")
    parser.add_argument("--write", action="store_true", help="first write the formatted cells into the Markdown")
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's folder")
    options = parser.parse_args(arguments)
    if options.check and options.write:
        parser.error("--check writes nothing: choose it or --write")
    root, paths = options.root.resolve(), [path.resolve() for path in options.paths]
    try:
        if options.write:
            for file in write(sources(root, paths)):
                print(f"formatted {file.name}")
        found = check(sources(root, paths))
    except CellsError as error:
        sys.exit(str(error))
    for finding in found:
        print(finding, file=sys.stderr)
    return 1 if found else 0
