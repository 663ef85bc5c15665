"""Ctrl-C as a flag, so that no training step is cut in half."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag; the second one acts as usual.

    Where the signal is ignored (a job in the background of a shell, `nohup`) or handled by code that is not Python's,
    or outside the main thread, everything stays as it is and the flag is never set.
    """
    stopped = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield stopped
        return

    def note(number: int, frame: object) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
