"""What a release publishes, wheel and sdist: built, listed, installed alone, and used where no checkout is."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = f"vaelib-{PROJECT['version']}"
LEFT_BY_WORK = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "_build", "notebooks", "runs")
# With torch, anywidget and the rest, but not the checkout: in a folder that a .pth file names, .pth files are ignored,
# and with them the editable installation.
PACKAGES = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}

TRAIN_AND_LOOK = """
import importlib.util
import sys
from pathlib import Path

import vaelib

assert Path(vaelib.__file__).is_relative_to(sys.prefix), vaelib.__file__
for name in ("bookbuild", "classroom", "experiments", "tests"):
    assert importlib.util.find_spec(name) is None, f"{name} can be imported"

from vaelib.data import load
from vaelib.evaluation import log_evidence, mean_elbo
from vaelib.training import fit
from vaelib.vae import VAE
from vaelib.widgets import LatentExplorer

train, test = load("digits"), load("digits", "test")
model = VAE(64, (32,), 2)
history = fit(model, train, epochs=5, device="cpu", progress=False)
assert history.elbo[-1] > history.elbo[0], history.elbo
bound, evidence = mean_elbo(model, test), float(log_evidence(model, test, 20).mean())
# Above 64 pixels that each cost log 2; a bound with one sample of z for each of 297 images is off by some 0.05 nats.
assert -64 * 0.6931 < bound < evidence + 0.5, (bound, evidence)

LatentExplorer(model, data=test).save("own.html")
LatentExplorer("mnist-2d").save("shipped.html")
assert all("<script" in Path(name).read_text(encoding="utf-8") for name in ("own.html", "shipped.html"))
"""


def run(*command, cwd):
    """Run a command outside the checkout; what it printed, or a failure that shows it."""
    answer = subprocess.run(
        list(map(str, command)), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert answer.returncode == 0, f"{command[0]} ended with {answer.returncode}\n{answer.stdout}{answer.stderr}"
    return answer.stdout


def built(source, kind):
    """Build `wheel` or `sdist` from a folder with the setuptools at hand, which needs no network; the file."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}('dist'))"
    return source / "dist" / run(sys.executable, "-c", code, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The sdist, built from a copy of the tree, and the wheel, built from that sdist alone."""
    folder = tmp_path_factory.mktemp("release")
    sdist = built(Path(shutil.copytree(ROOT, folder / "tree", ignore=LEFT_BY_WORK)), "sdist")
    shutil.unpack_archive(sdist, folder)
    return sdist, built(folder / NAME, "wheel")


@pytest.fixture(scope="module")
def alone(published, tmp_path_factory):
    """The Python of a new environment with the wheel, and with all that the environment of the tests has besides."""
    folder = tmp_path_factory.mktemp("reader") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    options = ("--python", python, "install", "--quiet", "--no-index", "--no-deps", "--no-compile")
    run(sys.executable, "-m", "pip", *options, published[1], cwd=folder)
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(purelib) / "shared.pth").write_text("\n".join(PACKAGES), encoding="utf-8")
    return python


def package_files():
    """Every file of the package in this tree."""
    files = (path.relative_to(ROOT) for path in (ROOT / "vaelib").rglob("*") if path.is_file())
    return {path.as_posix() for path in files if not any(p.startswith((".", "__pycache__")) for p in path.parts)}


def test_the_wheel_holds_every_file_of_vaelib_and_nothing_else(published):
    with zipfile.ZipFile(published[1]) as wheel:
        held = {name for name in wheel.namelist() if not name.startswith(f"{NAME}.dist-info/")}
    assert held == package_files()
    assert {"vaelib/py.typed", "vaelib/vaelib.mplstyle", "vaelib/widgets/__init__.py"} <= held
    assert {PurePosixPath(name).suffix for name in held} >= {".py", ".safetensors", ".json", ".js", ".css"}


def test_the_sdist_holds_vaelib_and_what_builds_it(published):
    with tarfile.open(published[0]) as sdist:
        held = {member.name.removeprefix(f"{NAME}/") for member in sdist.getmembers() if member.isfile()}
    held = {name for name in held if not name.startswith("vaelib.egg-info/")}
    assert held == package_files() | {
        "LICENSE",
        "MANIFEST.in",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
        "setup.py",
    }


def test_the_wheel_trains_evaluates_and_explores_where_no_checkout_can_be_imported(alone, tmp_path):
    run(alone, "-c", TRAIN_AND_LOOK, cwd=tmp_path)


def test_the_console_script_trains_and_evaluates(alone, tmp_path):
    vaelib = alone.with_name("vaelib.exe" if os.name == "nt" else "vaelib")
    settings = ("--data", "digits", "--device", "cpu", "--quiet", "--hidden", 32, "--epochs", 2)
    printed = run(vaelib, "train", *settings, "--out", "model.safetensors", cwd=tmp_path)
    assert re.fullmatch(r"test -ELBO \d+\.\d\d nats per image \(297 images of digits.*\n", printed)
    assert (tmp_path / "model.safetensors").is_file()


def test_what_the_wheel_requires_brings_everything_that_vaelib_imports():
    """The environment of the tests has more packages than a reader gets, so that an import could work here alone."""
    brought, open_ends = set(), [Requirement(line).name for line in PROJECT["dependencies"]]
    while open_ends:
        name = canonicalize_name(open_ends.pop())
        if name not in brought:
            brought.add(name)
            lines = map(Requirement, metadata.requires(name) or ())
            open_ends += [each.name for each in lines if each.marker is None or each.marker.evaluate({"extra": ""})]
    providers = metadata.packages_distributions()
    imported = set()
    for path in (ROOT / "vaelib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module).partition(".")[0])
    for name in imported - set(sys.stdlib_module_names) - {"vaelib"}:
        assert brought & {canonicalize_name(each) for each in providers[name]}, (
            f"nothing that is required brings {name}"
        )
