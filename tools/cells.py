"""Runs the code cells of an assignment in a process of their own. It imports little, since each run imports it."""

import contextlib
import io
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

PRELOAD = ["torch.distributions", "matplotlib.pyplot", "vaelib.figures", "vaelib.distributions", "vaelib.exact"]


def run(cells: list[tuple[str, str, bool]], limit: float) -> Iterator[tuple[str, str, bytes]]:
    """Yields for each cell, as it ends, its name, its error, and what it drew if its flag says that it draws.

    It ends early where the process dies, or after `limit` seconds.
    """
    # A process that has imported the libraries is copied for each run, where the system can do that.
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    if os.name != "nt":
        context.set_forkserver_preload(PRELOAD)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=execute, args=(there, cells), daemon=True)
    process.start()
    there.close()
    end = time.monotonic() + limit
    try:
        for _ in cells:
            if not here.poll(max(0, end - time.monotonic())):
                return
            yield here.recv()
    except EOFError:
        return
    finally:
        process.kill()
        process.join()
        here.close()


def execute(pipe: Connection, cells: list[tuple[str, str, bool]]) -> None:
    """Runs the cells in one namespace, as a kernel does; an error in one does not stop the next."""
    import matplotlib
    import torch

    matplotlib.use("agg")
    torch.set_num_threads(1)
    space: dict[str, object] = {"__name__": "__main__"}
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        for name, source, draws in cells:
            error = ""
            try:
                exec(compile(source, f"<{name or 'cell'}>", "exec"), space)
            except BaseException as reason:  # an answer may raise SystemExit too
                error = f"{type(reason).__name__}: {reason}"
            pipe.send((name, error, _drawn() if draws and not error else b""))


def _drawn() -> bytes:
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    plt.gcf().savefig(file, format="png", bbox_inches="tight", dpi=100)
    plt.close("all")
    return file.getvalue()
