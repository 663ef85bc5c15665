"""Starts the process of the answers: behind bubblewrap where that works, without a wall where it does not.

Behind the wall there is no network, no other process, and of the disk only Python, its packages and vaelib, read-only;
what is written goes to a small disk in memory that ends with the process. Everywhere a watch ends a process that takes
too much memory or starts too many others.
"""

import contextlib
import functools
import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:  # Windows has only the last of them
    from multiprocessing.context import ForkContext, ForkServerContext, SpawnContext

    Context = ForkContext | ForkServerContext | SpawnContext

ROOT = Path(__file__).resolve().parents[1]
PRELOAD = [
    *("torch.distributions", "torch._dynamo", "matplotlib.pyplot", "IPython.core.interactiveshell", "cloudpickle"),
    *("psutil", "vaelib.figures", "vaelib.distributions", "vaelib.exact", "vaelib.cvae", "sklearn.datasets"),
]
MEMORY = 2 * 2**30  # bytes that answers may take beside the libraries
PROCESSES = 20
LOOK_FOR = "import importlib.util as i, sys; sys.exit(not all(map(i.find_spec, ('torch', 'vaelib'))))"
LOOK = 0.1  # seconds between two looks of the watch


def forked() -> "Forked":
    """A process without a wall and without bounds, for answers that the book's own people wrote: quick to start."""
    return Forked()


def bounded(walled: bool) -> "Program | Forked":
    """A program of its own with bounds, behind the wall if that is said; Windows knows no such bounds."""
    return Forked() if os.name == "nt" else Program(walled)


def context() -> "Context":
    """How processes of ours are started: copied from one that has imported the libraries, where the system can."""
    if os.name == "nt":
        return get_context("spawn")
    found = get_context("forkserver")
    found.set_forkserver_preload(PRELOAD)
    return found


class Forked:
    """A copy of this process, which has imported the libraries and done nothing yet."""

    def __init__(self) -> None:
        how: Context = get_context("spawn") if os.name == "nt" else get_context("fork")
        self.connection, there = how.Pipe()
        self._process = how.Process(target=_serve, args=(there,), daemon=True)
        self._process.start()
        there.close()

    def stop(self) -> str:
        """Ends it; says how it ended, if it had ended by itself."""
        for _ in range(5):  # `join` would wait for a pipe that was closed over there
            if (code := self._process.exitcode) is not None:
                break
            time.sleep(0.01)
        self._process.kill()
        self._process.join()
        self.connection.close()
        return "" if code is None else f" with the exit status {code}"


def _serve(there: Connection) -> None:
    from classroom import worker

    if os.name != "nt":  # copies of whatever else was open: one could talk to others, and keep them waiting
        os.closerange(3, there.fileno())
        os.closerange(there.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    worker.serve(there)


class Program:
    """A new Python that imports the libraries itself, with bounds, watched, behind the wall if there is one."""

    def __init__(self, walled: bool) -> None:
        here, there = socket.socketpair()
        self._others = {child.pid for child in psutil.Process().children()}
        self._folder = tempfile.TemporaryDirectory(prefix="answers-", ignore_cleanup_errors=True)
        self._why = ""
        environment = {"PATH": os.defpath, "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        program = [sys.executable, "-m", "classroom.worker", str(there.fileno()), str(MEMORY)]
        if not walled:
            environment |= {"HOME": self._folder.name, "MPLCONFIGDIR": _fonts()}
            command = program
        else:
            environment |= {"MPLCONFIGDIR": "/tmp/matplotlib"}
            command = [*_wall(), *program]
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=self._folder.name,
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        there.close()
        self.connection = Connection(here.detach())
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            members = _family(self._others)
            taken = 0
            for member in members:
                with contextlib.suppress(psutil.Error):
                    taken += member.memory_info().rss
            if len(members) > PROCESSES:
                self._why = f": it had started {len(members)} processes, {PROCESSES} are allowed"
            elif taken > MEMORY + 2**30:
                self._why = f": it had taken {taken / 2**30:.1f} GB of memory"
            if self._why:
                _end(self._others)
                return

    def stop(self) -> str:
        """Ends it with all that it started; says how it ended, if it had ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        code = self._process.poll()
        self._over.set()
        self._watch.join()
        _end(self._others)
        self._process.wait()
        self.connection.close()
        self._folder.cleanup()
        return self._why or ("" if code is None else f" with the exit status {code}")


def adopt() -> None:
    """Makes this process the parent of what its children leave behind, so that nothing escapes (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _family(others: set[int]) -> list[psutil.Process]:
    """The processes below this one, those included that were left to it, but for the others' and theirs."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children():
            if child.pid not in others and child.status() != psutil.STATUS_ZOMBIE:
                found += [child, *child.children(recursive=True)]
    return found


def _end(others: set[int]) -> None:
    """Kills the family until none is left; a process is stopped first, so that it starts no other meanwhile."""
    for _ in range(100):
        members = _family(others)
        for signal in ("suspend", "kill"):
            for member in members:
                with contextlib.suppress(psutil.Error):
                    getattr(member, signal)()
        if not members:
            return
        time.sleep(0.01)


# The wall


@functools.cache
def why_no_wall() -> str:
    """Why answers are not walled in on this machine; '' where they are."""
    if sys.platform != "linux":
        return "bubblewrap, which walls answers in, is for Linux alone"
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (Debian and Ubuntu: sudo apt install bubblewrap)"
    tried = subprocess.run([*_wall(), sys.executable, "-c", LOOK_FOR], capture_output=True, text=True, check=False)
    return f"bubblewrap does not work here: {tried.stderr.strip()[-300:]}" if tried.returncode else ""


def _wall() -> list[str]:
    """The command that walls in what follows it."""
    words = [
        "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--uid",
        "65534",
        "--gid",
        "65534",
    ]
    words += ["--proc", "/proc", "--dev", "/dev", *_small("/dev/shm"), *_small("/tmp")]
    for place in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"):
        if Path(place).is_symlink():
            words += ["--symlink", os.readlink(place), place]
        elif Path(place).exists():
            words += ["--ro-bind", place, place]
    places = {Path(sys.base_prefix), Path(sys.prefix), ROOT / "vaelib", ROOT / "classroom"}
    for folder in sorted(places):
        if not folder.is_relative_to("/usr"):
            words += ["--ro-bind", str(folder), str(folder)]
    for file in map(Path, glob.glob(f"{_fonts()}/fontlist-*.json")):
        words += ["--ro-bind", str(file), f"/tmp/matplotlib/{file.name}"]  # its making takes seconds
    # What bubblewrap itself puts under these is a disk in memory too, and without a bound.
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]


@functools.cache
def _small(place: str) -> tuple[str, ...]:
    """A disk in memory, bounded where this bubblewrap can do that."""
    text = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False).stdout
    return (*(["--size", str(100 * 2**20)] if "--size" in text else []), "--tmpfs", place)


def _fonts() -> str:
    import matplotlib

    return matplotlib.get_cachedir()
