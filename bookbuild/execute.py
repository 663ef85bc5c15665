"""Runs a chapter in a kernel of its own, as a reader would."""

import os
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from bookbuild.chapter import Chapter, NotebookError
from bookbuild.convert import KERNELSPEC

CELL_TIMEOUT = 300  # seconds; a whole chapter should take 60


def execute(chapter: Chapter, notebook: NotebookNode, cell_timeout: int = CELL_TIMEOUT) -> float:
    """Runs all cells in the folder of the notebooks, and refuses a chapter that raises, hangs or leaves files there.

    Returns the CPU seconds of the kernel, imports included; other programs lengthen a run, these hardly.
    """
    folder = chapter.stored.parent
    folder.mkdir(exist_ok=True)
    before = _other_files(folder)
    began = _cpu_seconds_of_children()
    reached = 0

    def note(cell: NotebookNode, cell_index: int) -> None:
        nonlocal reached
        reached = cell_index

    client = NotebookClient(
        notebook,
        timeout=cell_timeout,
        kernel_name=KERNELSPEC["name"],
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
        on_cell_execute=note,
    )
    try:
        client.execute(env=kernel_environment(chapter.root))
    except CellExecutionError as error:
        hint = (
            "\nThe chapter needs data that are not at hand, and no notebook is stored from a fallback: set VAELIB_DATA."
        )
        reason = f"{error.ename}: {error.evalue}{hint if error.ename == 'DataNotFoundError' else ''}"
        raise NotebookError(f"{chapter.place(notebook, reached)} raises {reason}") from None
    except CellTimeoutError:
        raise NotebookError(f"{chapter.place(notebook, reached)} takes over {cell_timeout} s") from None
    except DeadKernelError:
        raise NotebookError(f"{chapter.place(notebook, reached)}: the kernel died (out of memory?)") from None
    if left := _other_files(folder) - before:
        raise NotebookError(f"{chapter.source} left files in notebooks/, remove them and use tempfile: {sorted(left)}")
    return _cpu_seconds_of_children() - began


def _cpu_seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def kernel_environment(root: Path) -> dict[str, str]:
    """One thread, inline figures, UTF-8, no fallback from MNIST to the digits."""
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    # The chapters' matrices are small: beside other work two threads took twice as long as one.
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "VAELIB_NO_FALLBACK": "1"}
    shared = root.resolve().parent / "shared" / "data"
    if data := os.environ.get("VAELIB_DATA") or (shared.is_dir() and shared):
        environment["VAELIB_DATA"] = str(Path(data).resolve())  # the kernel runs in another folder
    return environment


def _other_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {path.name for path in folder.glob("*.ipynb*")} - {"assignments"}
