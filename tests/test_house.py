"""The house: which package imports which, no circle, no module too long, and the picture of it as it stands."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from bookbuild import house

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = list(house.MAY_IMPORT)
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in (*PACKAGES, "tests", "book")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# The most lines of a public module of vaelib: what a reader takes in at one sitting.
LINES = {"figures": 450, "vae": 280, "cvae": 280, "checkpoints": 280}
OTHERS = 230


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_those_below_it_alone(package):
    allowed = house.MAY_IMPORT[package]
    for name, wanted in house.graph(package).items():
        tops = {each.partition(".")[0] for each in wanted} - {package}
        assert tops <= allowed, f"{name} imports {sorted(tops - allowed)}: {package} may import {sorted(allowed)}"


def test_no_package_imports_the_tests():
    for package in PACKAGES:
        for name, source in house.modules(package).items():
            assert not {each for each in house.imports(name, source) if each.partition(".")[0] == "tests"}, name


def test_what_packages_may_import_goes_round_in_no_circle():
    assert set(TopologicalSorter(house.MAY_IMPORT).static_order()) == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_of_a_package_import_each_other_in_a_circle(package):
    own = {name: {each for each in wanted if each != package} for name, wanted in house.graph(package).items()}
    try:
        tuple(TopologicalSorter(own).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' imports '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import classroom.grade", "classroom.grade"),
        ("from classroom import grade", "classroom.grade"),
        ("def f():\n    from classroom.grade import main", "classroom.grade"),
        ("from . import pages", "bookbuild.pages"),
        ("from .pages import main", "bookbuild.pages"),
    ],
)
def test_an_import_is_found_wherever_and_however_it_is_written(line, found, tmp_path):
    for name in ("bookbuild/one.py", "bookbuild/pages.py", "classroom/grade.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(line if name.endswith("one.py") else "", encoding="utf-8")
    assert found in house.graph("bookbuild", tmp_path)["bookbuild.one"]


def test_no_file_puts_a_folder_on_the_path():
    for name, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            touched = isinstance(node, ast.Attribute) and node.attr == "path" and ast.unparse(node) == "sys.path"
            assert not touched, f"{name} touches sys.path: an editable installation makes all packages importable"


def test_no_module_has_the_name_of_one_of_pythons_own():
    names = {Path(name).stem for name in SOURCES} - {"__init__", "__main__"}
    assert names & set(sys.stdlib_module_names) == set()


def test_the_packages_are_importable_from_anywhere(tmp_path):
    code = "import bookbuild, classroom, experiments, vaelib"
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)


def test_no_public_function_of_vaelib_begins_as_a_test_does():
    for name, source in house.modules("vaelib").items():
        found = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        assert not [each for each in found if each.startswith("test_")], name


PUBLIC = [name for name in house.modules("vaelib") if not name.rpartition(".")[2].startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_of_vaelib_is_no_longer_than_a_reader_takes_in_at_once(name):
    most = LINES.get(name.rpartition(".")[2], OTHERS)
    lines = house.modules("vaelib")[name].count("\n")
    assert lines <= most, f"{name} has {lines} lines, {most} are allowed: what is machinery goes to a module with _"


def test_the_picture_of_the_house_is_drawn_from_what_the_modules_import_now():
    stored = (ROOT / house.PICTURE).read_text(encoding="utf-8")
    assert stored == house.picture(), "the house has changed: run `python -m bookbuild house`"


def test_the_picture_shows_every_module_and_every_import_between_packages():
    text = house.picture()
    for package in PACKAGES[1:]:
        for name in house.modules(package):
            module = [*name.split("."), ""][1]
            assert module in text, name
    assert text.count('marker-end="url(#tip)"') == sum(len(set(house.uses(name)) - {"tools"}) for name in PACKAGES)
