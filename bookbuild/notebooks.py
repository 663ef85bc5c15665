"""Converts book/NN_name.md into the executed notebooks/NN_name.ipynb, one way, and finds any pair out of step.

python -m bookbuild notebooks               store the chapters whose conversion differs from what is stored
python -m bookbuild notebooks 07_vae ...    of these chapters only; --all: changed or not
python -m bookbuild notebooks --check       compare only, execute nothing; exit 1 where a pair is out of step

A chapter whose code is the same keeps its outputs and is not executed, unless --all asks for it. The notebooks hold
plain Markdown (plain_markdown.py); the site is made from the chapters' own text with the outputs of the notebooks.
"""

import argparse
import base64
import copy
import hashlib
import io
import json
import os
import re
import struct
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import yaml
from jupytext.myst import MystMetadataParsingError
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from PIL import Image, ImageChops

from bookbuild import first_cell
from bookbuild.plain_markdown import Book, MarkupError, plain

CELL_TIMEOUT = 300  # seconds; a whole chapter should take 60
MAX_BYTES = 400_000
KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
LANGUAGE = {"name": "python"}
FRONT_MATTER = {"jupytext", "kernelspec"}
CELL_KEYS = {"tags", "mystnb"}
# A misspelt tag would be ignored by every tool in silence, so that only these are accepted.
TAGS = {
    *("solution", "stderr-expected", "nbval-check-output", "raises-exception"),
    *("hide-cell", "hide-input", "hide-output", "remove-cell", "remove-input", "remove-output"),
    *("scroll-output", "full-width", "margin"),
}

PROGRESS_BAR = re.compile(r"\d+%\|.*\| *\S+/\S+ \[|\d+\S*it \[\d\d:\d\d")
MEMORY_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
# Where a warning comes from, by process number; the look-behind keeps the search linear in long outputs.
CELL_FILE = re.compile(r"(?<![^\s\"'])[^\s\"']*[/\\]ipykernel_\d+[/\\]\d+\.py")
PRIVATE_FOLDER = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|Users|private|var/folders)/[^\s\"']*|\b[A-Z]:\\{1,2}Users\\[^\s\"']*"
)
PIXELS = {"image/png", "image/jpeg", "image/gif"}
WIDGET = "application/vnd.jupyter.widget-view+json"
# What a figure of ours needs to come to life in a page without a kernel; its still image is beside it in the output.
STATES = {"application/vnd.vaelib.explorer+json": "explorer", "application/vnd.vaelib.frames+json": "frames"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"pHYs", b"IDAT", b"IEND"}


class NotebookError(Exception):
    """A chapter that cannot become a notebook; the message names the place and the remedy."""


class Chapter:
    """One pair: book/NN_name.md, which people edit, and notebooks/NN_name.ipynb, which this tool writes."""

    def __init__(self, root: Path, stem: str):
        self.root = root
        self.stem = stem
        self.source = f"book/{stem}.md"
        self.notebook = f"notebooks/{stem}.ipynb"
        self.stored = root / self.notebook

    def text(self) -> str:
        try:
            return (self.root / self.source).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise NotebookError(f"{self.source} is not UTF-8 ({error}): save it as UTF-8") from None

    def place(self, notebook: NotebookNode, index: int) -> str:
        """Names a cell as an author finds it: by its first line in the Markdown source."""
        text, line, end = self.text(), 1, 0
        for cell in notebook.cells[: index + 1]:
            start = text.find("\n" + cell.source, end)
            if start >= 0:  # cells that the tool inserted are not in the text
                line, end = text.count("\n", 0, start) + 2, start + len(cell.source)
        return f"{self.source}, line {line}"


def chapters(root: Path) -> list[Chapter]:
    return [Chapter(root, path.stem) for path in sorted((root / "book").glob("[0-9][0-9]_*.md"))]


# From Markdown to cells


def convert(chapter: Chapter) -> NotebookNode:
    """The notebook of a chapter, not executed: the same book always gives the same notebook."""
    notebook, book = in_myst(chapter), Book.read(chapter.root)
    sources = []
    for index, cell in enumerate(notebook.cells):
        try:
            sources.append(plain(cell.source, book) if cell.cell_type == "markdown" else cell.source)
        except MarkupError as error:
            raise NotebookError(f"{chapter.place(notebook, index)}: {error}") from None
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
    return notebook


def in_myst(chapter: Chapter) -> NotebookNode:
    """The notebook of a chapter, not executed, with the roles and labels that the site understands."""
    text = chapter.text()
    try:
        raw = jupytext.reads(text, fmt="md:myst")
    except (MystMetadataParsingError, yaml.YAMLError) as error:
        raise NotebookError(f"{chapter.source}: {error}") from None
    _refuse_unknown(chapter, raw)
    set_up = new_code_cell(
        first_cell.source(chapter.root),
        metadata={"tags": ["remove-cell"], "jupyter": {"source_hidden": True}},
    )
    cells = [raw.cells[0], set_up]
    for cell in raw.cells[1:]:
        cells += [_folded(cell), *_caption(cell)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": KERNELSPEC,
            "language_info": LANGUAGE,
            "vaelib": {"source": chapter.source, "source_sha256": sha256(text)},
        }
    )
    _number(notebook)
    return notebook


def _refuse_unknown(chapter: Chapter, raw: NotebookNode) -> None:
    """Refuses what would be dropped or ignored without a word."""
    if not raw.cells or not re.match(r"(\(.+\)=\n+)?# \S", raw.cells[0].source):
        raise NotebookError(f"{chapter.source}: the chapter must start with its title, '# ...', after the front matter")
    if unknown := set(raw.metadata) - FRONT_MATTER:
        raise NotebookError(
            f"{chapter.source}: the front matter may hold jupytext and kernelspec, not {sorted(unknown)}"
        )
    if (kernel := raw.metadata.get("kernelspec", {}).get("name")) != KERNELSPEC["name"]:
        raise NotebookError(f"{chapter.source}: the front matter names the kernel {kernel!r}, it must be 'python3'")
    for index, cell in enumerate(raw.cells):
        place = chapter.place(raw, index)
        if cell.cell_type == "markdown" and "{code-cell}" in cell.source:
            raise NotebookError(f"{chapter.source}: a {{code-cell}} inside a list or another block is never run")
        if cell.cell_type == "code" and not cell.source.strip():
            raise NotebookError(f"{place}: the cell is empty")
        if unknown := set(cell.metadata) - CELL_KEYS:
            raise NotebookError(f"{place}: unknown cell options {sorted(unknown)}, known are {sorted(CELL_KEYS)}")
        if unknown := set(cell.metadata.get("tags", [])) - TAGS:
            raise NotebookError(f"{place}: unknown tags {sorted(unknown)}, known are {sorted(TAGS)}")


def _folded(cell: NotebookNode) -> NotebookNode:
    """A code cell tagged `solution`, folded on the site and in JupyterLab; any other cell as it is."""
    if cell.cell_type == "code" and "solution" in cell.metadata.get("tags", []):
        cell.metadata["tags"] = sorted({*cell.metadata["tags"], "hide-cell"})
        cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    return cell


def _caption(cell: NotebookNode) -> list[NotebookNode]:
    """The caption as a Markdown cell for Lab, GitHub and Colab; the site, which sets captions itself, drops it."""
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if not (figure.get("name") and figure.get("caption")):
        return []
    # Only the number is in italics: a caption may hold asterisks, in mathematics for one.
    text = f"*{{numref}}`{figure['name']}`:* {figure['caption']}"
    return [new_markdown_cell(text, metadata={"tags": ["remove-cell"]})]


def _number(notebook: NotebookNode) -> None:
    """Gives each cell an id made from its text, so that a change elsewhere leaves it alone."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = sha256(cell.cell_type + cell.source)[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


# Execution


def execute(chapter: Chapter, notebook: NotebookNode, cell_timeout: int = CELL_TIMEOUT) -> None:
    """Runs all cells in the folder of the notebooks, and refuses a chapter that raises, hangs or leaves files there."""
    folder = chapter.stored.parent
    folder.mkdir(exist_ok=True)
    before = _other_files(folder)
    client = NotebookClient(
        notebook,
        timeout=cell_timeout,
        kernel_name=KERNELSPEC["name"],
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
        on_cell_execute=lambda cell, cell_index: setattr(client, "last", cell_index),
    )
    client.last = 0
    try:
        client.execute(env=kernel_environment(chapter.root))
    except CellExecutionError as error:
        hint = (
            "\nThe chapter needs data that are not at hand, and no notebook is stored from a fallback: set VAELIB_DATA."
        )
        reason = f"{error.ename}: {error.evalue}{hint if error.ename == 'DataNotFoundError' else ''}"
        raise NotebookError(f"{chapter.place(notebook, client.last)} raises {reason}") from None
    except CellTimeoutError:
        raise NotebookError(f"{chapter.place(notebook, client.last)} takes over {cell_timeout} s") from None
    except DeadKernelError:
        raise NotebookError(f"{chapter.place(notebook, client.last)}: the kernel died (out of memory?)") from None
    if left := _other_files(folder) - before:
        raise NotebookError(f"{chapter.source} left files in notebooks/, remove them and use tempfile: {sorted(left)}")


def kernel_environment(root: Path) -> dict[str, str]:
    """Two threads that sleep while they wait, inline figures, UTF-8, no fallback from MNIST to the digits."""
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    # Threads that spin make a busy machine many times slower.
    environment |= {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUTF8": "1", "VAELIB_NO_FALLBACK": "1"}
    shared = root.resolve().parent / "shared" / "data"
    if data := os.environ.get("VAELIB_DATA") or (shared.is_dir() and shared):
        environment["VAELIB_DATA"] = str(Path(data).resolve())  # the kernel runs in another folder
    return environment


def _other_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {path.name for path in folder.glob("*.ipynb*")} - {"assignments"}


# Normalising


def normalise(chapter: Chapter, notebook: NotebookNode) -> None:
    """Leaves in the outputs only what another run on another machine would show too, or refuses them."""
    notebook.metadata.language_info = LANGUAGE  # the kernel has written its version into it
    number = 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        number += 1
        if cell.execution_count is None:
            raise NotebookError(f"{chapter.place(notebook, index)} was not executed")
        cell.execution_count = number
        cell.metadata.pop("execution", None)
        cell.outputs = [output for output in merge_streams(static(cell.outputs)) if output.get("text") != ""]
        for output in cell.outputs:
            _normalise_output(output, number)
        try:
            check_outputs(cell, chapter.root)
        except NotebookError as error:
            raise NotebookError(f"{chapter.place(notebook, index)}: {error}") from None


def static(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs without live widgets: those that bring a state of ours stay as still images, the others go."""
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if data.pop(WIDGET, None) is None or STATES.keys() & data:
            kept.append(output)
    return kept


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """One output for each run of stdout or of stderr, whichever way the kernel happened to cut them."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":
            output.text = _last_state(output.text, bars=output.name == "stderr")
    return merged


def _last_state(text: str, bars: bool) -> str:
    """Each line as a terminal ends up showing it, after its carriage returns; without progress bars if `bars`."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() if "\r" in line else line for line in text.split("\n")]
    return "\n".join(line for line in lines if not (bars and PROGRESS_BAR.search(line)))


def _normalise_output(output: NotebookNode, number: int) -> None:
    if output.output_type == "execute_result":
        output.execution_count = number
    if output.output_type == "error":  # only of a cell tagged raises-exception: the message without the machine's paths
        output.traceback = [f"{output.ename}: {output.evalue}"]
    if output.output_type == "stream":
        output.text = CELL_FILE.sub("this cell", output.text)
    data = output.get("data", {})
    if "image/png" in data:
        data["image/png"] = base64.b64encode(strip_png(compact_png(base64.b64decode(data["image/png"])))).decode()


def compact_png(png: bytes) -> bytes:
    """The same picture in grey (exactly) or in 256 colours: about half the bytes of matplotlib's RGBA, or fewer."""
    try:
        image = Image.open(io.BytesIO(png))
        if image.mode not in ("RGB", "RGBA") or image.getextrema()[3:] not in ((), ((255, 255),)):
            return png
        colours = image.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return png  # no image that can be read: left for the reader of the page to complain about
    grey = colours.convert("L")
    is_grey = ImageChops.difference(colours, grey.convert("RGB")).getbbox() is None
    small = grey if is_grey else colours.quantize(256, dither=Image.Dither.NONE)
    file = io.BytesIO()
    small.save(file, "png", optimize=True, **({"dpi": image.info["dpi"]} if "dpi" in image.info else {}))
    return min(file.getvalue(), png, key=len)


def strip_png(png: bytes) -> bytes:
    """A PNG with its pixels and its resolution alone: no software version, no time."""
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        end = position + 12 + length
        if png[position + 4 : position + 8] in PNG_CHUNKS:
            kept.append(png[position:end])
        position = end
    return b"".join(kept)


def check_outputs(cell: NotebookNode, root: Path) -> None:
    """Refuses outputs that cannot be read everywhere, or that another machine would not give."""
    tags = cell.metadata.get("tags", [])
    for output in cell.outputs:
        for text in texts(output):
            if found := MEMORY_ADDRESS.search(text):
                raise NotebookError(f"the output shows a memory address ({found[0]}), which changes with every run")
            if found := machine_path(text, root):
                raise NotebookError(f"the output shows a path of this machine: {found}")
        if output.get("name") == "stderr" and output.text.strip() and "stderr-expected" not in tags:
            raise NotebookError(
                f"unexpected warning (tag the cell stderr-expected if it belongs):\n{output.text.strip()}"
            )
    _check_figure(cell)


def _check_figure(cell: NotebookNode) -> None:
    options = cell.metadata.get("mystnb", {})
    rich = [output.data for output in cell.outputs if "data" in output]
    images = [data for data in rich if any(kind.startswith("image/") for kind in data)]
    if images:
        needed = {"figure.name", "figure.caption", "image.alt"}
        given = {
            f"{part}.{key}" for part in ("figure", "image") for key, value in options.get(part, {}).items() if value
        }
        if missing := needed - given:
            raise NotebookError(f"a figure without {', '.join(sorted(missing))} in the cell's mystnb options")
    if "figure" in options and (len(images), len(rich)) != (1, 1):
        raise NotebookError(
            f"the cell has figure options, but {len(images)} images among {len(rich)} rich outputs; it must show "
            "one image and nothing else (end the last line with a semicolon)"
        )


def texts(output: NotebookNode) -> list[str]:
    """Everything in an output that is text, so neither the pixels nor the numbers of a figure that moves."""
    data = {kind: value for kind, value in output.get("data", {}).items() if kind not in PIXELS | STATES.keys()}
    return [output.get("text", ""), *output.get("traceback", []), *map(str, data.values())]


def machine_path(text: str, root: Path) -> str | None:
    """A path in `text` that exists on one person's machine only, or None."""
    if found := PRIVATE_FOLDER.search(text):
        return found[0]
    # The folder above the book's too: data often lie beside the book. The file system's root would match any slash.
    here = [path for path in (root.resolve(), root.resolve().parent, Path.home(), Path(sys.prefix)) if path.name]
    found = re.search(rf"(?<![\w.:/])(?:{'|'.join(re.escape(str(path)) for path in here)})(?![\w-])", text)
    return found and found[0]


# Storing and checking


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def serialise(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook, version=4) + "\n"


def seal(notebook: NotebookNode) -> str:
    """The notebook as text, the digest of all the rest of it written into its metadata."""
    notebook.metadata.setdefault("vaelib", {}).pop("notebook_sha256", None)
    notebook.metadata["vaelib"]["notebook_sha256"] = sha256(serialise(notebook))
    return serialise(notebook)


def problems(chapter: Chapter) -> list[str]:
    """What is out of step in one pair: nothing, an edit of the notebook, an edit of the source, or both."""
    if not chapter.stored.is_file():
        return [f"missing: {chapter.source} has no {chapter.notebook}: run `make notebooks`"]
    text = chapter.stored.read_text(encoding="utf-8")
    try:
        stored = nbformat.reads(text, as_version=4)
        by_hand = seal(stored) != text
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        return [
            f"unreadable: {chapter.notebook} ({error}): delete it and run `make notebooks`; edit {chapter.source} only"
        ]
    found = []
    if by_hand:
        found.append(
            f"edited by hand: {chapter.notebook} is not what the tool wrote. Make the change in {chapter.source}, "
            f"delete {chapter.notebook} (or restore it with git) and run `make notebooks`"
        )
    wanted = convert(chapter)
    if stored.metadata.get("vaelib", {}).get("source_sha256") != wanted.metadata.vaelib.source_sha256:
        found.append(
            f"source changed: {chapter.source} is not what {chapter.notebook} was made from: run `make notebooks`"
        )
    elif not by_hand and skeleton(stored) != skeleton(wanted):
        found.append(
            f"out of step: {chapter.notebook} is not what {chapter.source} now gives (this tool, a number in "
            "another chapter, or references.bib has changed): run `make notebooks`"
        )
    return found


def skeleton(notebook: NotebookNode) -> str:
    """A notebook without what execution adds."""
    bare = copy.deepcopy(notebook)
    bare.metadata["vaelib"].pop("notebook_sha256", None)
    for cell in bare.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return serialise(bare)


def check(root: Path) -> list[str]:
    """Every problem of every pair, in both directions."""
    found = []
    for chapter in chapters(root):
        try:
            found += problems(chapter)
        except NotebookError as error:
            found.append(str(error))
    sources = {chapter.stem for chapter in chapters(root)}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if path.stem not in sources:
            found.append(f"orphan: notebooks/{path.name} has no book/{path.stem}.md: delete it, or restore its source")
    return found


def keep_outputs(chapter: Chapter, notebook: NotebookNode) -> bool:
    """Gives `notebook` the outputs that are stored, and says whether it could: only where no code has changed.

    The first cell prints nothing and may have changed: that another commit is installed from now on changes no output.
    """
    if not chapter.stored.is_file():
        return False
    stored = nbformat.read(chapter.stored, as_version=4)
    old, new = ([cell for cell in each.cells if cell.cell_type == "code"] for each in (stored, notebook))
    if [(cell.source, cell.metadata.get("tags")) for cell in old[1:]] != [
        (cell.source, cell.metadata.get("tags")) for cell in new[1:]
    ]:
        return False
    for before, cell in zip(old, new, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return True


def for_site(chapter: Chapter) -> str:
    """The chapter as the site needs it: its own text, with the outputs that are stored."""
    notebook = in_myst(chapter)
    if not keep_outputs(chapter, notebook):
        raise NotebookError(f"{chapter.notebook} does not hold the code of {chapter.source}: run `make notebooks`")
    notebook.cells = [each for cell in notebook.cells for each in (cell, *_states(cell))]
    return serialise(notebook)


def _states(cell: NotebookNode) -> list[NotebookNode]:
    """The states of the cell's figures that move, taken out of its outputs: a cell of data for the page's script."""
    found = [
        (name, output.data.pop(kind))
        for output in cell.get("outputs", [])
        for kind, name in STATES.items()
        if kind in output.get("data", {})
    ]
    texts = [
        f'<script type="application/json" class="vaelib-{name}">{_for_page(state)}</script>' for name, state in found
    ]
    return [new_markdown_cell("\n\n".join(texts), id=f"{cell.id}-state")] if found else []


def _for_page(state: object) -> str:
    """JSON without "<", which could end the element that it stands in, or begin a comment."""
    return json.dumps(state).replace("<", "\\u003c")


def store(chapter: Chapter, afresh: bool, cell_timeout: int = CELL_TIMEOUT) -> int:
    """Converts, executes where the code is new or `afresh`, normalises and writes one chapter; the size in bytes."""
    notebook = convert(chapter)
    if afresh or not keep_outputs(chapter, notebook):
        execute(chapter, notebook, cell_timeout)
    normalise(chapter, notebook)
    content = seal(notebook).encode("utf-8")
    if len(content) > MAX_BYTES:
        raise NotebookError(
            f"{chapter.notebook} would be {len(content) // 1000} kB, more than {MAX_BYTES // 1000} kB. "
            f"The biggest outputs: {biggest(chapter, notebook)}"
        )
    partial = chapter.stored.with_suffix(".ipynb.part")
    partial.write_bytes(content)
    partial.replace(chapter.stored)
    return len(content)


def biggest(chapter: Chapter, notebook: NotebookNode) -> str:
    sizes = [
        (len(json.dumps(output, ensure_ascii=False)), chapter.place(notebook, index))
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
    ]
    return "; ".join(f"{size // 1000} kB at {place}" for size, place in sorted(sizes, reverse=True)[:3])


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
