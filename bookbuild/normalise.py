"""Leaves in the outputs of a notebook what another run on another machine would show too, and refuses the rest."""

import base64
import re
import sys
from pathlib import Path

from nbformat import NotebookNode

from bookbuild.chapter import Chapter, NotebookError
from bookbuild.convert import LANGUAGE
from bookbuild.png import compact

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
    """One output for each run of stdout or of stderr, whichever way the kernel happened to cut them.

    nbclient can merge too, but puts all that a cell prints before its figures, and takes minutes for a line of 200 kB.
    """
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
        data["image/png"] = base64.b64encode(compact(base64.b64decode(data["image/png"]))).decode()


def check_outputs(cell: NotebookNode, root: Path) -> None:
    """Refuses outputs that cannot be read everywhere, or that another machine would not give."""
    tags = cell.metadata.get("tags", [])
    for output in cell.outputs:
        for text in texts(output):
            if found := MEMORY_ADDRESS.search(text):
                raise NotebookError(f"the output shows a memory address ({found[0]}), which changes with every run")
            if path := machine_path(text, root):
                raise NotebookError(f"the output shows a path of this machine: {path}")
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
