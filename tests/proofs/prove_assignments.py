"""The long runs behind the assignments' tests: mutants of every solution, 100 seeds. Run by `make assignments-proof`.

A mutant is a solution with one sign, constant or operator changed, or one sum, mean or spread taken for another. At
least 95% must lose marks. Those that do not are listed in book/assignments/NN_name/survivors.yaml, each with its
reason: the list must be what the run finds, so that a test that grows weaker does not go unseen.
"""

import ast
import copy
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from bookbuild import assignments as tool
from classroom import trial

ROOT = Path(__file__).resolve().parents[2]

SEEDS = 100
WORKERS = 2
OPERATORS = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.MatMult: [ast.Mult],
    ast.Lt: [ast.Gt],
    ast.Gt: [ast.Lt],
}
METHODS = {"sum": ["mean"], "mean": ["sum"], "std": ["var"], "var": ["std"]}
each = pytest.mark.parametrize("assignment", tool.assignments(ROOT), ids=lambda assignment: assignment.stem)


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Every mutant of a cell, as its changed line before and after, and its whole source; imports are left alone."""
    tree = ast.parse(source)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        if ast.get_docstring(function):
            function.body = function.body[1:]
    original = ast.unparse(tree)
    seen = {original}
    for position, node in enumerate(ast.walk(tree)):
        for change in _changes(node):
            mutant = copy.deepcopy(tree)
            change(list(ast.walk(mutant))[position])
            text = ast.unparse(mutant)
            if text not in seen:
                seen.add(text)
                lines = zip(original.split("\n"), text.split("\n"), strict=True)
                before, after = next(pair for pair in lines if pair[0] != pair[1])
                yield f"{before.strip()}  ->  {after.strip()}", text


def _changes(node: ast.AST) -> Iterator:
    """What may be done to a node: functions that change its twin in a copy of the tree."""
    if isinstance(node, ast.BinOp):
        for operator in OPERATORS.get(type(node.op), []):
            yield lambda twin, operator=operator: setattr(twin, "op", operator())
    if isinstance(node, ast.Compare):
        for operator in OPERATORS.get(type(node.ops[0]), []):
            yield lambda twin, operator=operator: setattr(twin, "ops", [operator()])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda twin: setattr(twin, "op", ast.UAdd())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in {node.value + 1, 2 * node.value, -node.value} - {node.value}:
            yield lambda twin, value=value: setattr(twin, "value", value)
    if isinstance(node, ast.Attribute):
        for name in METHODS.get(node.attr, []):
            yield lambda twin, name=name: setattr(twin, "attr", name)


@each
def test_at_least_95_percent_of_the_mutants_of_the_solution_lose_marks(assignment):
    notebook = tool.master(assignment)
    full = tool.questions(notebook)
    sources = {cell.metadata.nbgrader.grade_id: cell.source for cell in notebook.cells if "nbgrader" in cell.metadata}
    tried = [(name, *each) for name in trial.blanks(notebook) for each in mutants(sources[name])]
    with ThreadPoolExecutor(WORKERS) as pool:
        marks = list(pool.map(lambda each: trial.grade(notebook, {each[0]: each[2]}, limit=20), tried))
    survivors = {
        f"{name}: {change}"
        for (name, change, _), got in zip(tried, marks, strict=True)
        if {question: mark.points for question, mark in got.items()} == full
    }
    caught = 1 - len(survivors) / len(tried)
    print(f"\n{assignment.stem}: {len(tried)} mutants, {caught:.1%} lose marks; survivors:")
    print("\n".join(sorted(survivors)))
    assert caught >= 0.95
    path = ROOT / "book/assignments" / assignment.stem / "survivors.yaml"
    assert set(yaml.safe_load(path.read_text("utf-8")) or {}) == survivors


@each
def test_the_solution_has_full_marks_under_100_seeds_in_at_most_five_seconds_each(assignment):
    notebook = tool.master(assignment)
    full = tool.questions(notebook)

    def run(seed):
        start = time.perf_counter()
        return trial.grade(notebook, seed=seed), time.perf_counter() - start

    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(run, range(1000, 1000 + SEEDS)))
    times = [seconds for _, seconds in results]
    print(f"\n{assignment.stem}: {SEEDS} seeds, median {statistics.median(times):.2f} s, longest {max(times):.2f} s")
    alarms = [
        (seed, question, mark.message)
        for seed, (marks, _) in enumerate(results, 1000)
        for question, mark in marks.items()
        if mark.points != full[question]
    ]
    assert alarms == []
    assert statistics.median(times) < 5  # the first run also starts the process that the others are copied from


@each
def test_the_planted_mistakes_have_the_same_marks_under_other_seeds(assignment):
    notebook = tool.master(assignment)
    planted = [
        (path.stem, seed, *trial.read_answers(path))
        for path in sorted((ROOT / "book/assignments" / assignment.stem / "wrong").glob("*.py"))
        for seed in range(2000, 2005)
    ]
    with ThreadPoolExecutor(WORKERS) as pool:
        marks = list(pool.map(lambda each: trial.grade(notebook, each[2], seed=each[1]), planted))
    got = [{question: mark.points for question, mark in one.items()} for one in marks]
    assert [(name, seed, expected) for name, seed, _, expected in planted] == [
        (name, seed, points) for (name, seed, _, _), points in zip(planted, got, strict=True)
    ]
