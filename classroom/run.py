"""Runs an assignment's cells: what is locked on both sides, the student's cells on theirs, the tests on ours.

The namespace of the tests holds what the locked cells define and, as stand-ins, the names that the assignment asks
for. Nothing that a student's cell redefines, patches or reads can therefore change a test or its outcome.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from classroom import sandbox
from classroom.session import Ended, Session

LOCKED, OURS, STUDENT, TEST = "locked", "ours", "student", "test"
CLOSING = 10  # seconds
PATIENCE = 300  # seconds for starting anew, on a machine under load


class GradingError(Exception):
    """Something of ours failed, not an answer: no mark is given."""


@dataclass(frozen=True)
class Step:
    """A code cell: whose it is, its grade_id, and its source."""

    kind: str
    name: str
    source: str


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: '' or its error in a line, and what it printed."""

    name: str
    error: str = ""
    output: str = ""


def run(
    steps: list[Step], names: list[str], start: Callable[[], Any] = sandbox.forked, limit: float = 60
) -> Iterator[Outcome]:
    """Runs the cells and yields how each one ended. One that fails stops none of those after it.

    `names` are what the answers must define, `start` starts their process, `limit` is in seconds, for each cell.
    """
    steps = list(steps)
    done = 0
    while done < len(steps):
        # Each pair of processes lasts until the answers' one ends; the next pair runs again what the rest needs.
        for place, outcome, ended in _pair(steps, done, names, start, limit):
            if ended:  # it does not run again over there; what is locked still does over here
                locked = steps[place].kind in (LOCKED, OURS)
                steps[place] = replace(steps[place], kind=OURS) if locked else replace(steps[place], source="pass")
            if place >= done:  # a cell before that ends the process only when it runs again has been told of already
                yield outcome
                done += 1


def _pair(
    steps: list[Step], done: int, names: list[str], start: Callable[[], Any], limit: float
) -> Iterator[tuple[int, Outcome, bool]]:
    """Starts a process of the tests, which starts one of the answers; what they tell while both live."""
    here, there = sandbox.context().Pipe(duplex=False)
    process = sandbox.context().Process(target=_work, args=(there, steps, done, names, start, limit))
    process.start()
    there.close()
    place, ended = done, False
    try:
        while place < len(steps) and not ended:
            if not here.poll(limit * (place + 1) + PATIENCE):
                raise EOFError
            place, outcome, ended = here.recv()
            yield place, outcome, ended
            place += 1
    except EOFError:
        if steps[place].kind in (LOCKED, OURS):
            raise GradingError(f"the locked cell {steps[place].name!r} cannot be run") from None
        yield place, Outcome(steps[place].name, "the process of the tests ended, or had to be ended"), True
    finally:
        here.close()
        process.join(CLOSING)  # it ends by itself, and the answers with it, since nobody listens any more
        process.kill()
        process.join()


def _work(
    pipe: Connection, steps: list[Step], done: int, names: list[str], start: Callable[[], Any], limit: float
) -> None:
    """The process of the tests; of the first `done` cells it runs again what the others need."""
    import matplotlib
    import torch

    matplotlib.use("agg")
    torch.set_num_threads(1)
    sandbox.adopt()
    space: dict[str, Any] = {"__name__": "__main__"}
    process = start()
    try:
        session = Session(process, limit)
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            for place, step in enumerate(steps):
                if place >= done or step.kind != TEST:
                    outcome, ended = _step(session, space, step, names)
                    if place >= done or ended:
                        pipe.send((place, outcome, ended))
                    if ended:
                        return
    finally:
        process.stop()


def _step(session: Session, space: dict[str, Any], step: Step, names: list[str]) -> tuple[Outcome, bool]:
    """One cell, on the side or sides that it belongs to; and whether the process of the answers ended."""
    session.begin()
    error = output = ""
    try:
        if step.kind == TEST:
            for name in names:
                space.pop(name, None)
            space.update(session.names(names))
        elif step.kind != OURS:
            error, output = session.run(step.source)
        if step.kind != STUDENT:
            try:
                exec(compile(step.source, f"<{step.name or 'cell'}>", "exec"), space)
            except Ended:
                raise
            except BaseException as reason:
                error = f"{type(reason).__name__}: {reason}"
            session.forget()
    except Ended as reason:
        return Outcome(step.name, str(reason), output), True
    return Outcome(step.name, error, output), False
