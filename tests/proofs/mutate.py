"""Change vaelib in one place at a time, and see whether the module's own tests turn red.

    python -m tests.proofs.mutate [--sample 150] [--seed 0] [--limit 30] [PART ...]

A mutant has one operator, comparison, condition, constant, keyword argument or statement changed or left out; messages,
docstrings and annotations stay as they are. Of all mutants of the parts, a sample is drawn with the seed. Each runs the
tests that reach the changed place (found once, by coverage), the fastest first, until one fails; `limit` seconds are
the most it gets. What is known of a mutant stands in _build/mutants.jsonl, so that a run that was stopped goes on, and
only what changed is run again. The working tree is never touched.

It prints a line a mutant and a table, and ends with 1 where fewer than 90% are killed. About 10 seconds a mutant.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

ROOT = Path(__file__).resolve().parents[2]
KNOWN = ROOT / "_build" / "mutants.jsonl"
GOAL = 0.90

# A part of vaelib: its modules, and the test files that are its own.
PARTS = {
    "training": (
        "training _run _guards _objectives _interrupt",
        "training guards model_checks remedies_training shapes_and_modes autoencoder",
    ),
    "evaluation": ("evaluation", "evaluation guards model_checks inputs shapes_and_modes remedies_training"),
    "vae": ("vae contract", "vae guards model_checks inputs shapes_and_modes likelihoods remedies_training"),
    "cvae": ("cvae _parts", "cvae guards model_checks inputs shapes_and_modes remedies_training"),
    "command_line": ("__main__", "cli remedies_checkpoints remedies_data"),
}
# Loaded once; each mutant's process is a copy of the one that has them.
PRELOADED = ("torch", "numpy", "matplotlib.pyplot", "safetensors.torch", "sklearn.datasets", "playwright.sync_api")

BINARY = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*", ast.Pow: "*"}
SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
SIGNS |= {ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not"}
COMPARISONS = {"<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",)}
COMPARISONS |= {"in": ("not in",), "not in": ("in",), "is": ("is not",), "is not": ("is",)}
METHODS = {"sum": "mean", "mean": "sum", "min": "max", "max": "min", "amin": "amax", "amax": "amin", "exp": "expm1"}


class Mutant(NamedTuple):
    """A change of one place: from (line, column) to (end line, end column), columns in bytes, and what stands there."""

    part: str
    module: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str

    def applied(self, source: str) -> str:
        """The module's source with the change."""
        lines = source.encode().splitlines(keepends=True)
        before = b"".join(lines[: self.line - 1]) + lines[self.line - 1][: self.column]
        after = lines[self.end_line - 1][self.end_column :] + b"".join(lines[self.end_line :])
        return (before + self.text.encode() + after).decode()

    def shown(self, source: str) -> str:
        """The changed line before and after."""
        old, new = source.splitlines(), self.applied(source).splitlines()
        return f"{old[self.line - 1].strip()}  ->  {new[self.line - 1].strip()}"


def mutants(part: str, module: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a module's source."""
    tree = ast.parse(source)
    for node in _walk(tree):
        for place, text in _changes(node, source):
            found = Mutant(part, module, place.lineno, place.col_offset, place.end_lineno, place.end_col_offset, text)
            with contextlib.suppress(SyntaxError):
                ast.parse(found.applied(source))
                yield found


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree but for annotations, docstrings and what stands in f-strings, whose places are not known."""
    yield node
    skipped: list[Any] = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    for child in ast.iter_child_nodes(node):
        if child not in skipped and not isinstance(child, ast.JoinedStr):
            yield from _walk(child)


def _changes(node: Any, source: str) -> Iterator[tuple[Any, str]]:  # noqa: PLR0912
    """What may be done at a node: the place that is replaced, and what by."""

    def text(part: ast.AST) -> str:
        return f"({ast.get_source_segment(source, part)})"

    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        yield node, f"({text(node.left)} {BINARY[type(node.op)]} {text(node.right)})"
    elif isinstance(node, ast.AugAssign) and type(node.op) in BINARY:
        yield node, f"{text(node.target)[1:-1]} {BINARY[type(node.op)]}= {text(node.value)}"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for sign in COMPARISONS[SIGNS[type(node.ops[0])]]:
            yield node, f"({text(node.left)} {sign} {text(node.comparators[0])})"
    elif isinstance(node, ast.BoolOp):
        yield node, "(" + (" or " if isinstance(node.op, ast.And) else " and ").join(map(text, node.values)) + ")"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node, text(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield node, repr(node.value + 1)
    elif isinstance(node, ast.Attribute) and node.attr in METHODS:
        yield node, f"{text(node.value)}.{METHODS[node.attr]}"
    elif isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg:
                fewer = ast.Call(node.func, node.args, [other for other in node.keywords if other is not keyword])
                yield node, ast.unparse(fewer)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield node, "return None"
    elif _has_an_effect(node):
        yield node, "pass"
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield node.test, f"(not {text(node.test)})"


def _has_an_effect(node: Any) -> bool:
    """Whether a statement can be left out: a raise, a jump, a call for its effect, a value set in an object."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    return isinstance(node, ast.Raise | ast.Continue | ast.Break)


class Reach(NamedTuple):
    """Which tests run which lines of a module, and how long each takes."""

    tests: dict[int, set[str]]
    seconds: dict[str, float]


class _Times:
    """A plugin of pytest that notes how long each test function takes, and which failed."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid.partition("[")[0]] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)


def own_tests(part: str) -> list[str]:
    """The files of a part's own tests."""
    names = [f"tests/vaelib/test_{name}.py" for name in PARTS[part][1].split()]
    return [name for name in names if (ROOT / name).exists()]


def reach(part: str) -> dict[str, Reach]:
    """Run a part's own tests as they are, once, and return what each test reaches in each of its modules."""
    measure = coverage.Coverage(data_file=None, include=[str(ROOT / "vaelib/*")], config_file=False)
    measure.set_option("run:dynamic_context", "test_function")
    times = _Times()
    measure.start()
    _pytest(own_tests(part), plugins=[times])
    measure.stop()
    if times.failed:
        sys.exit(f"The tests of {part} fail with nothing changed: {', '.join(times.failed)}. Mend them first.")
    data = measure.get_data()
    found = {}
    for module in PARTS[part][0].split():
        contexts = data.contexts_by_lineno(str(ROOT / "vaelib" / f"{module}.py"))
        lines = {line: {_node(name) for name in names if name} for line, names in contexts.items()}
        found[module] = Reach(lines, dict(times.seconds))
    return found


def _node(context: str) -> str:
    """The pytest name of a test that coverage names `tests.vaelib.test_vae.test_name`."""
    module, _, name = context.rpartition(".")
    return f"{module.replace('.', '/')}.py::{name}"


def selected(mutant: Mutant, reached: Reach, source: str, limit: float) -> list[str]:
    """The tests that run the changed lines, the fastest first, as many as fit into half the limit.

    Where only the import runs them: of a constant of the module those that run a line with its name; of a default value
    or a decorator those that run the function around; else all.
    """
    lines = range(mutant.line, mutant.end_line + 1)
    tests = set().union(*(reached.tests.get(line, set()) for line in lines))
    tree = ast.parse(source)
    if not tests:
        used = _lines_that_use(_constants_at(mutant.line, tree), tree)
        tests = set().union(*(reached.tests.get(line, set()) for line in used))
    for node in sorted(ast.walk(tree), key=lambda node: -getattr(node, "lineno", 0)):
        if not tests and isinstance(node, ast.FunctionDef | ast.ClassDef) and node.end_lineno is not None:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= mutant.line <= node.end_lineno:
                tests = set().union(*(reached.tests.get(line, set()) for line in range(first, node.end_lineno + 1)))
    if not tests:
        return own_tests(mutant.part)
    known = [test for test in tests if test in reached.seconds]
    chosen, total = [], 0.0
    for test in sorted(known, key=lambda test: reached.seconds[test]):
        total += reached.seconds[test]
        if total < limit / 2 or not chosen:
            chosen.append(test)
    return chosen


def _constants_at(line: int, tree: ast.Module) -> set[str]:
    """The names that a statement of the module at a line gives a value."""
    at = [node for node in tree.body if isinstance(node, ast.Assign) and node.lineno <= line <= (node.end_lineno or 0)]
    names = (name for node in at for target in node.targets for name in ast.walk(target))
    return {name.id for name in names if isinstance(name, ast.Name)}


def _lines_that_use(names: set[str], tree: ast.Module) -> set[int]:
    """The lines on which a name is read."""
    read = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    return {node.lineno for node in read if node.id in names}


def run(mutant: Mutant, source: str, tests: list[str], limit: float) -> str:
    """Try one mutant in a process of its own: "killed", "survived", or "timeout", which counts as neither."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "vaelib", folder / "vaelib", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "vaelib" / f"{mutant.module}.py").write_text(mutant.applied(source), encoding="utf-8")
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                os.setsid()
                importlib.import_module("vaelib").__path__ = [str(folder / "vaelib")]
                os.environ |= {"PYTHONPATH": name, "PYTHONSAFEPATH": "1", "TMPDIR": name}
                tempfile.tempdir = name
                code = _pytest(["-x", *tests])
            os._exit(code)
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "timeout"


def _pytest(arguments: list[str], plugins: list[Any] | None = None) -> int:
    """Run pytest in this process, without its output."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--no-header"]
    null = os.open(os.devnull, os.O_RDWR)
    shown, errors = os.dup(1), os.dup(2)
    os.dup2(null, 1), os.dup2(null, 2)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return int(pytest.main([*options, *arguments], plugins=plugins))
    finally:
        os.dup2(shown, 1), os.dup2(errors, 2)


def in_a_copy(function: Any, *arguments: Any) -> Any:
    """The result of a function that runs in a copy of this process, so that what it imports stays there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                json.dump(function(*arguments), pipe)
            code = 0
        except SystemExit as stop:
            print(stop, file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    if os.waitpid(child, 0)[1]:
        sys.exit("The tests could not be run as they are.")
    return json.loads(text)


def _reach_as_json(part: str) -> dict[str, Any]:
    return {
        module: [{line: sorted(tests) for line, tests in found.tests.items()}, found.seconds]
        for module, found in reach(part).items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Draw the sample, run what is not known yet, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless told")
    parser.add_argument("--sample", type=int, default=150, help="how many mutants (0: all of them)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=30, help="seconds that a mutant gets")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in PRELOADED:
        importlib.import_module(name)

    parts = options.parts or list(PARTS)
    sources = {m: (ROOT / "vaelib" / f"{m}.py").read_text("utf-8") for part in parts for m in PARTS[part][0].split()}
    pool = [
        mutant
        for part in parts
        for m in PARTS[part][0].split()
        for mutant in dict.fromkeys(mutants(part, m, sources[m]))
    ]
    drawn = random.Random(options.seed).sample(pool, min(options.sample or len(pool), len(pool)))
    drawn.sort(key=lambda mutant: (parts.index(mutant.part), mutant.module, mutant.line))
    print(f"{len(pool)} mutants in {', '.join(parts)}; {len(drawn)} of them with seed {options.seed}", flush=True)
    known = _known()
    results, reached = [], {}
    for mutant in drawn:
        if mutant.part not in reached:
            reached[mutant.part] = {
                module: Reach({int(line): set(tests) for line, tests in found[0].items()}, found[1])
                for module, found in in_a_copy(_reach_as_json, mutant.part).items()
            }
        source = sources[mutant.module]
        tests = selected(mutant, reached[mutant.part][mutant.module], source, options.limit)
        key = _key(mutant, source, tests)
        if key not in known:
            start = time.perf_counter()
            known[key] = run(mutant, source, tests, options.limit)
            _note(key, known[key])
            seconds = f"{time.perf_counter() - start:.1f} s"
        else:
            seconds = "known"
        results.append((mutant, known[key]))
        print(f"{known[key]:9}{mutant.module}:{mutant.line}  {mutant.shown(source)}  ({seconds})", flush=True)
    return _report(results, sources)


def _key(mutant: Mutant, source: str, tests: list[str]) -> str:
    """What a result depends on: the change, the module, the tests and what they contain."""
    files = sorted({test.partition("::")[0] for test in tests})
    contents = [(ROOT / name).read_text("utf-8") for name in files]
    return hashlib.sha256(json.dumps([*mutant, source, tests, contents]).encode()).hexdigest()


def _known() -> dict[str, str]:
    lines = KNOWN.read_text("utf-8").splitlines() if KNOWN.exists() else []
    return dict(json.loads(line) for line in lines)


def _note(key: str, result: str) -> None:
    KNOWN.parent.mkdir(exist_ok=True)
    with KNOWN.open("a", encoding="utf-8") as file:
        file.write(json.dumps([key, result]) + "\n")


def _report(results: list[tuple[Mutant, str]], sources: dict[str, str]) -> int:
    """Print killed of tried by module and in all, and the survivors; return the exit code."""
    tried = Counter(mutant.module for mutant, _ in results)
    killed = Counter(mutant.module for mutant, result in results if result == "killed")
    print("\n| module | killed | of |\n|---|---|---|")
    for module in tried:
        print(f"| {module} | {killed[module]} | {tried[module]} |")
    share = sum(killed.values()) / max(len(results), 1)
    print(f"| all | {sum(killed.values())} | {len(results)} | {share:.1%}\n\nNot killed:")
    for mutant, result in results:
        if result != "killed":
            print(f"{result:9}{mutant.module}:{mutant.line}  {mutant.shown(sources[mutant.module])}")
    return int(share < GOAL)


if __name__ == "__main__":
    sys.exit(main())
