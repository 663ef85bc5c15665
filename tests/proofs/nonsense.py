"""Put nonsense in the place of what a chapter's assertions check, and see whether they turn red.

    python -m tests.proofs.nonsense [CHAPTER ...]    all chapters, or those that begin so (03 07): a minute or two each

Each chapter runs as it is. After each assertion that held (an `assert`, or a call of `assert_close`, `agree` and the
like) its condition is computed again with one of its names at a time standing for nonsense: a number for another one,
zero or its negative, a tensor or array for noise of its size, zeros or its entries in another order, a model for one
with random weights, a function of the chapter's or of vaelib's for one whose results are nonsense. A name is noticed
where one kind of nonsense at least makes the assertion fail. An assertion none of whose names is noticed checks
nothing; a name that is not noticed may be there for the message's sake, or a margin may be too wide: both are listed.
What an assertion does not name is not put to the test: that a value was computed from what it is compared with is for
a reader to see. Prints a table and the lists, and ends with 1 where an assertion checks nothing.
"""

import ast
import builtins
import contextlib
import copy
import dataclasses
import io
import itertools
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from traitlets.config import Config

from bookbuild.chapter import Chapter, chapters
from bookbuild.convert import convert

ROOT = Path(__file__).resolve().parents[2]
CHECKS = ("assert_", "agree", "check", "same", "close")
SECONDS = 20.0  # that one assertion may take
TIMES = 2  # that an assertion in a loop or a function is tried


class Tried(NamedTuple):
    """What became of an assertion: the names that were tried, and those for which it turned red."""

    names: set[str]
    noticed: set[str]


class Trials(ast.NodeTransformer):
    """Adds to each assertion a call that tries it, with a function of each of its names."""

    def __init__(self) -> None:
        self.cell = ""

    def visit_Assert(self, node: ast.Assert) -> Any:
        return [node, self._trial(node, node.test)]

    def visit_Expr(self, node: ast.Expr) -> Any:
        if isinstance(node.value, ast.Call) and _is_check(node.value.func):
            return [node, self._trial(node, node.value)]
        return node

    def _trial(self, node: ast.stmt, test: ast.expr) -> ast.stmt:
        bound = {
            child.id for child in ast.walk(test) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)
        }
        bound |= {child.arg for child in ast.walk(test) if isinstance(child, ast.arg)}
        names = [child.id for child in ast.walk(test) if isinstance(child, ast.Name) and child.id not in bound]
        names = [name for name in dict.fromkeys(names) if not hasattr(builtins, name)]
        text = ast.unparse(node).splitlines()[0]
        pairs = ", ".join(f"{name!r}: (lambda: {name}, lambda {name}: {ast.unparse(test)})" for name in names)
        trial = ast.parse(f"__try__({self.cell!r}, {text!r}, {{{pairs}}})").body[0]
        return ast.copy_location(ast.fix_missing_locations(trial), node)


def _is_check(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name.startswith(CHECKS)


def nonsense(value: Any) -> Iterator[Any]:
    """Values of the same kind that have nothing to do with this one; none where there is no such thing."""
    source = np.random.default_rng(7)
    if isinstance(value, bool | np.bool_):
        yield not value
    elif isinstance(value, int | np.integer):
        yield from (value * 7 + 5, -value - 2, 0)
    elif isinstance(value, float | np.floating):
        yield from (value * 7.3 + 5.1, -value - 1.7, 0.0)
    elif isinstance(value, str):
        yield from (value + " nonsense", "")
    elif isinstance(value, torch.Tensor):
        for array in nonsense(value.detach().cpu().numpy()):
            yield torch.as_tensor(array).to(value.dtype)
    elif isinstance(value, np.ndarray):
        yield from _arrays(value, source)
    elif isinstance(value, nn.Module):
        yield _random_weights(value)
    elif isinstance(value, types.FunctionType):
        yield from (_of_results(value, kind) for kind in range(3))
    elif isinstance(value, dict | list | tuple | set) or dataclasses.is_dataclass(value):
        yield from _containers(value)


def _arrays(value: np.ndarray, source: np.random.Generator) -> Iterator[np.ndarray]:
    if value.dtype == bool:
        yield ~value
    elif np.issubdtype(value.dtype, np.integer):
        yield source.integers(-99, 99, value.shape).astype(value.dtype)
        yield np.zeros_like(value)
    elif np.issubdtype(value.dtype, np.floating):
        size = float(np.nanstd(value)) + float(np.abs(np.nanmean(value))) + 0.1 if value.size else 1.0
        yield (3 * size * source.standard_normal(value.shape)).astype(value.dtype)
        yield np.zeros_like(value)
        yield -value - np.asarray(1.7, value.dtype)
        yield source.permutation(value.ravel()).reshape(value.shape)


def _random_weights(module: nn.Module) -> nn.Module:
    changed, source = copy.deepcopy(module), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.copy_(3 * torch.randn(parameter.shape, generator=source))
    return changed


def _of_results(function: Callable[..., Any], kind: int) -> Callable[..., Any]:
    def changed(*arguments: Any, **options: Any) -> Any:
        found = list(nonsense(function(*arguments, **options)))
        if not found:
            raise Untried
        return found[kind % len(found)]

    return changed


def _containers(value: Any) -> Iterator[Any]:
    """The containers of nonsense: one kind after another for what they hold, beginning with each once."""
    for first in range(4):
        kinds = itertools.count(first)

        def changed(part: Any, kinds: Iterator[int] = kinds) -> Any:
            found = list(nonsense(part))
            return found[next(kinds) % len(found)] if found else part

        if isinstance(value, dict):
            yield {key: changed(part) for key, part in value.items()}
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            whole = copy.copy(value)
            for part in dataclasses.fields(value):
                with contextlib.suppress(AttributeError):
                    object.__setattr__(whole, part.name, changed(getattr(value, part.name)))
            yield whole
        elif hasattr(value, "_fields"):
            yield type(value)(*map(changed, value))
        elif isinstance(value, list | tuple | set):
            yield type(value)(map(changed, value))


class Untried(Exception):
    """There is no nonsense of this kind."""


class Examiner:
    """Runs a chapter, and tries its assertions."""

    def __init__(self) -> None:
        self.tried: dict[tuple[str, str], Tried] = {}
        self.times: dict[tuple[str, str], int] = {}
        self.namespace: dict[str, Any] = {}

    def __call__(self, cell: str, text: str, names: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]) -> None:
        """Try one assertion, which has held, with nonsense for each of its names."""
        self.times[cell, text] = self.times.get((cell, text), 0) + 1
        if self.times[cell, text] > TIMES:
            return
        found = self.tried.setdefault((cell, text), Tried(set(), set()))
        until = time.monotonic() + SECONDS
        for name, (value, condition) in names.items():
            with self._untouched():
                for other in _few(nonsense, value()):
                    if name in found.noticed or time.monotonic() > until:
                        break
                    found.names.add(name)
                    if _fails(condition, other):
                        found.noticed.add(name)

    @contextlib.contextmanager
    def _untouched(self) -> Iterator[None]:
        """Noise that the trials draw is put back, and what they print is lost."""
        values = [*self.namespace.values()]
        torches = [(each, each.get_state()) for each in values if isinstance(each, torch.Generator)]
        bits = [each.bit_generator for each in values if isinstance(each, np.random.Generator)]
        states = [copy.deepcopy(each.state) for each in bits]
        everywhere = torch.get_rng_state()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            torch.set_rng_state(everywhere)
            for generator, before in torches:
                generator.set_state(before)
            for each, state in zip(bits, states, strict=True):
                each.state = state


def _few(function: Callable[[Any], Iterator[Any]], value: Any) -> Iterator[Any]:
    with contextlib.suppress(Untried):
        yield from function(value)


def _fails(condition: Callable[[Any], Any], other: Any) -> bool:
    """Whether the condition does not hold; an error of a check counts, a lack of nonsense does not."""
    try:
        held = condition(other)
        return not (held is None or bool(held))
    except Untried:
        return False
    except Exception:
        return True


class Cell(NamedTuple):
    """A cell of code: its place in the text, its source, and whether it stops with an error on purpose."""

    place: str
    source: str
    stops: bool = False


def cells(chapter: Chapter) -> list[Cell]:
    """The cells of a chapter's code."""
    notebook = convert(chapter)
    return [
        Cell(chapter.place(notebook, index), cell.source, "raises-exception" in cell.metadata.get("tags", []))
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
    ]


def examine(chapter: list[Cell]) -> dict[tuple[str, str], Tried]:
    """Run cells one after another as they are, with each of their assertions tried: what became of each, by place."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    examiner, trials = Examiner(), Trials()
    shell.user_ns["__try__"] = examiner
    examiner.namespace = shell.user_ns
    shell.ast_transformers.append(trials)
    for trials.cell, source, stops in chapter:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            done = shell.run_cell(source)
        if not done.success and not stops:
            raise SystemExit(f"{trials.cell}: {done.error_before_exec or done.error_in_exec!r}")
    return examiner.tried


def main(arguments: list[str] | None = None) -> int:
    """Examine the chapters asked for, print the table and the lists, return the exit code."""
    os.environ["MPLBACKEND"] = "agg"
    names = (sys.argv[1:] if arguments is None else arguments) or [""]
    chosen = [chapter for chapter in chapters(ROOT) if chapter.stem.startswith(tuple(names))]
    if not chosen:
        sys.exit(f"No chapter begins with {', '.join(names)}.")
    os.chdir(ROOT / "notebooks")  # where they run: a stored result is ../book/results
    print("| chapter | assertions | check nothing | names tried | not noticed | seconds |\n|---|---|---|---|---|---|")
    empty, silent = [], []
    for chapter in chosen:
        start = time.monotonic()
        tried = examine(cells(chapter))
        nothing = [place for place, found in tried.items() if found.names and not found.noticed]
        unnoticed = [(place, found.names - found.noticed) for place, found in tried.items() if found.noticed]
        empty += nothing
        silent += [(place, names) for place, names in unnoticed if names]
        print(
            f"| {chapter.stem} | {len(tried)} | {len(nothing)} | {sum(len(found.names) for found in tried.values())} | "
            f"{sum(len(found.names - found.noticed) for found in tried.values())} | {time.monotonic() - start:.0f} |",
            flush=True,
        )
    for cell, text in empty:
        print(f"\n{cell}: nothing turns it red\n    {text}")
    for (cell, text), left in silent:
        print(f"\n{cell}: nonsense for {', '.join(sorted(left))} is not noticed\n    {text}")
    return int(bool(empty))


if __name__ == "__main__":
    sys.exit(main())
