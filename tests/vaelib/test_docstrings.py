"""The docstrings of vaelib: in sections that the site knows, sound as markup, and true to the code below them."""

import ast
import builtins
import functools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "vaelib"
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Shapes", "Raises", "Warns", "Source")  # in this order
HEADER = re.compile(r"([A-Z]\w*):$")
ONE_LINE = re.compile(rf"\s*({'|'.join(SECTIONS)}): ")
ENTRY = re.compile(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*): \S")
STARRED = re.compile(r"^ {4}\*+(?=\w+: )", re.MULTILINE)  # Napoleon knows these stars
LITERAL = re.compile(r"``.+?``|`[^`]+`", re.DOTALL)
# Where reStructuredText would see an emphasised word, a substitution or a reference.
MARKUP = re.compile(r"(?:^|[\s'\"(\[{<:/-])[*|](?=\S)|\w_(?!\w)", re.MULTILINE)
ITEM = re.compile(r"^ {4}\w+: (\(?(?:[A-Za-z]|\d+|[ivxIVX]+)[.)])(?: |$)", re.MULTILINE)  # as in "n: S."
SHAPE = re.compile(r"\((?:N|n|K|D|M|batch|epochs|\.\.\.)(?:, ?[\w.*]+)*,?\)")
FORMULA = re.compile(r"``[^`]* (?:=|<-|←) [^`]*``")

Definition = ast.FunctionDef | ast.ClassDef


def public_modules() -> dict[str, Path]:
    """The modules of vaelib without an underscore in front, the packages themselves among them."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if "._" not in name:
            found[name] = path
    return found


def definitions(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, Definition]]:
    """Every public function, class and method, by name."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield f"{owner}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node.body, f"{owner}{node.name}.")


def sections(docstring: str) -> dict[str, list[str]]:
    """The lines below each header; those before the first go by the name "", those that belong nowhere by "?"."""
    found: dict[str, list[str]] = {"": []}
    for line in docstring.splitlines():
        header = HEADER.match(line)
        if header:
            found[header[1]] = []
        elif line[:1].strip() and list(found) != [""]:
            found.setdefault("?", []).append(line)
        else:
            found[list(found)[-1]].append(line)
    return found


def entries(lines: list[str]) -> list[str]:
    """The names that a section gives a description."""
    found = [ENTRY.match(line) for line in lines]
    return [name.lstrip("*") for entry in found if entry for name in entry[1].split(", ")]


def called(node: Definition) -> ast.FunctionDef | None:
    """The function whose arguments and errors a docstring tells: for a class its __init__."""
    if isinstance(node, ast.FunctionDef):
        return node
    return next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)


def raised(node: ast.AST) -> Iterator[str]:
    """The names of the errors that a function makes and raises itself, not within a function inside it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call) and isinstance(child.exc.func, ast.Name):
            yield child.exc.func.id
        yield from raised(child)


@functools.cache
def known_errors() -> dict[str, set[str]]:
    """Every built-in error and every one that vaelib defines, by name, with the names of what it is a kind of."""
    found = {
        name: {kind.__name__ for kind in each.__mro__}
        for name, each in vars(builtins).items()
        if isinstance(each, type) and issubclass(each, BaseException)
    }
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    for _ in classes:  # a class may come before its base: as many rounds as there are classes suffice
        for node in classes:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in found]
            if bases:
                found[node.name] = {node.name}.union(*(found[base] for base in bases))
    return found


def faults(node: Definition) -> Iterator[str]:
    """What is wrong with one docstring, in words."""
    docstring = ast.get_docstring(node)
    if docstring is None:
        yield "there is none"
        return
    found = sections(docstring)
    names = [name for name in found if name]
    if unknown := [name for name in names if name not in SECTIONS]:
        yield f"unknown section {unknown}"
    elif names != sorted(names, key=SECTIONS.index):
        yield f"another order than {SECTIONS}"
    yield from (f"nothing under {name}" for name in names if not any(map(str.strip, found[name])))
    yield from (f"a section on one line: {line}" for line in docstring.splitlines() if ONE_LINE.match(line))
    plain = STARRED.sub("", LITERAL.sub("``", docstring))
    yield from (f"{stray[0]!r} is markup outside a ``literal``" for stray in MARKUP.finditer(plain))
    yield from (f"{stray[1]} alone is the start of a list" for stray in ITEM.finditer(plain))
    yield from (f"the shape {stray[0]} is no ``literal``" for stray in SHAPE.finditer(plain))
    if FORMULA.search(docstring) and "Source" not in names:
        yield "a formula without a Source"

    errors = known_errors()
    told = entries(found.get("Raises", []))
    yield from (f"no error is called {name}" for name in told if name not in errors)
    if function := called(node):
        given = function.args
        everything = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        arguments = {argument.arg for argument in everything if argument is not None}
        yield from (f"no argument {name}" for name in entries(found.get("Args", [])) if name not in arguments)
        untold = {name for name in raised(function) if name in errors and errors[name].isdisjoint(told)}
        yield from (f"Raises does not tell {name}" for name in sorted(untold))


@pytest.mark.parametrize("name", public_modules())
def test_docstrings_are_in_known_sections_and_true_to_the_code(name: str) -> None:
    tree = ast.parse(public_modules()[name].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    found = [f"{own}: {fault}" for own, node in definitions(tree.body) for fault in faults(node)]
    assert not found, "\n".join(found)


SOUND = '''
    def f(x, *rest, **more):
        """Return a formula, ``f(x) = *x``, of q(z|x).

        Args:
            x: ``(N, D)``.
            *rest: what comes
                after: more.
            **more: settings.

        Raises:
            ValueError: for no x.
            OSError: as others do.

        Source:
            Chapter 1.
        """
        def inner():
            raise KeyError("not told here")
        if not x:
            raise ValueError("no x")
        raise FileNotFoundError("an OSError")
'''
PLANTED = {
    "there is none": ('"""Return', 'b"""Return'),
    "unknown section ['Input']": ("Args:", "Input:"),
    "unknown section ['?']": ("    Source:\n            Chapter 1.", "    That was it."),
    "another order than": ("Args:", "Source:\n            Chapter 1.\n\n        Args:"),
    "nothing under Source": ("            Chapter 1.\n", ""),
    "a section on one line: Source: Chapter 1.": ("Source:\n            Chapter 1.", "Source: Chapter 1."),
    "' *' is markup outside a ``literal``": ("``f(x) = *x``", "f(x) = *x"),
    "' |' is markup outside a ``literal``": ("q(z|x)", "|x|"),
    "'x_' is markup outside a ``literal``": ("q(z|x)", "x_"),
    "the shape (N, D) is no ``literal``": ("``(N, D)``", "(N, D)"),
    "D. alone is the start of a list": ("x: ``(N, D)``.", "x: D."),
    "a formula without a Source": ("Source:\n            Chapter 1.\n", ""),
    "no error is called ValueEror": ("            ValueError: for", "            ValueEror: for"),
    "no argument y": ("x: ``(N", "y: ``(N"),
    "Raises does not tell ValueError": ("            ValueError: for no x.\n", ""),
    "Raises does not tell FileNotFoundError": ("            OSError: as others do.\n", ""),
}


def faults_of(source: str) -> list[str]:
    tree = ast.parse(textwrap.dedent(source))
    return [fault for _, node in definitions(tree.body) for fault in faults(node)]


def test_a_sound_docstring_has_no_fault() -> None:
    assert faults_of(SOUND) == []


@pytest.mark.parametrize("fault", PLANTED)
def test_every_planted_fault_is_found(fault: str) -> None:
    right, wrong = PLANTED[fault]
    assert SOUND.count(right) == 1
    assert any(found.startswith(fault) for found in faults_of(SOUND.replace(right, wrong)))


def test_the_errors_of_a_class_are_those_of_its_init() -> None:
    source = 'class C:\n    """Hold."""\n    def __init__(self):\n        raise TypeError("no")'
    assert faults_of(source) == ["Raises does not tell TypeError"]
