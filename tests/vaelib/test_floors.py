"""The modules of vaelib lie on floors and import downwards only, so that each can be read without those above.

Within a floor a module may use those before it in the table, so that there is no cycle anywhere.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bookbuild.house import FLOORS

PACKAGE = Path(__file__).resolve().parents[2] / "vaelib"
ORDER = [name for _, names in FLOORS for name in names]
MODULES = sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})


def imported_modules(source: str) -> set[str]:
    """The modules of vaelib that a module of vaelib imports, anywhere in its source.

    A bare `import vaelib` gives "": it would reach every floor through attributes.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {[*parts, ""][1] for parts in names if parts[0] == "vaelib"}
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if not node.level else ["vaelib", *(node.module or "").split(".")]
            if parts[0] != "vaelib":
                continue
            module = [*parts, ""][1]
            # `from vaelib import data` names a module; `from vaelib import __version__` does not.
            found |= {module} if module else {alias.name for alias in node.names if alias.name != "__version__"}
    return found


def breaches(name: str, source: str) -> list[str]:
    """The imports of a module that go to a floor above, to a later module of its own floor, or to no known module."""
    own = {name} if (PACKAGE / name).is_dir() else set()
    allowed = own | set(ORDER[: ORDER.index(name)])
    return sorted(imported_modules(source) - allowed)


def test_the_table_names_each_module_once_and_no_other():
    assert sorted(ORDER) == [name for name in MODULES if name != "__init__"]


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__init__"])
def test_module_imports_downwards_only(name):
    assert name in ORDER, f"vaelib/{name} has no floor: add it to FLOORS in bookbuild/house.py"
    source = PACKAGE / f"{name}.py"
    files = [source] if source.exists() else sorted((PACKAGE / name).rglob("*.py"))
    for path in files:
        assert breaches(name, path.read_text(encoding="utf-8")) == [], f"{path.name} imports what stands above it"


@pytest.mark.parametrize(
    "line",
    [
        "from vaelib.training import fit",
        "from vaelib import training",
        "from .training import fit",
        "from . import training",
        "import vaelib.training as t",
        "def f():\n    from vaelib.evaluation import log_evidence",
        "import vaelib",
        "import torch, vaelib.cvae",
        "from vaelib.vae import VAE",
        "from vaelib.unheard_of import x",
    ],
)
def test_every_way_to_import_sideways_or_upwards_is_found(line):
    assert breaches("vae", line)


@pytest.mark.parametrize("line", ["from vaelib.networks import mlp", "from vaelib import distributions, __version__"])
def test_downward_imports_are_allowed(line):
    assert breaches("vae", f"import torch\n{line}") == []


def third_party_after(statement: str) -> set[str]:
    """The packages outside the standard library that a fresh interpreter loads for a statement."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in answer.stdout.split()}
    # NumPy's compiled modules register names of Cython's runtime.
    packages = {name for name in packages if not name.startswith(("_cython_", "cython_runtime"))}
    return packages - set(sys.stdlib_module_names) - {"vaelib"}


def test_importing_the_package_loads_nothing_else():
    assert third_party_after("import vaelib") == set()


def test_perceptron_needs_numpy_alone():
    assert third_party_after("import vaelib.perceptron") == {"numpy"}


@pytest.mark.parametrize("name", ["_files", "_progress"])
def test_writing_files_and_watching_need_the_standard_library_alone(name):
    assert third_party_after(f"import vaelib.{name}") == set()
