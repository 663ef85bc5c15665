"""The three lists of dependencies agree, and tools/setup.py decides rightly what to install and when."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from tools import setup

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}


def names(requirements):
    """Project names as packaging compares them: lower case, one kind of separator, no version."""
    return {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line).group()).lower() for line in requirements}


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# ---- The lists ---------------------------------------------------------------------------------------------------


def test_conda_environment_lists_what_pyproject_lists():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = {CONDA_NAMES.get(line, line) for line in environment["dependencies"] if isinstance(line, str)}
    python = f"python{PROJECT['requires-python']}"
    wanted = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["book"]) | {python, "pip"}
    assert conda == wanted, f"environment.yml and pyproject.toml differ in {sorted(conda ^ wanted)}"


def test_constraints_pin_every_dependency():
    extras = PROJECT["optional-dependencies"].values()
    wanted = names(PROJECT["dependencies"]).union(*map(names, extras))
    missing = wanted - names(pins())
    assert not missing, f"constraints.txt pins no version of {sorted(missing)}; CONTRIBUTING.md says how to add it"


def test_constraints_are_exact_versions_for_every_machine():
    # A local version (+cpu) or an address would tie all readers to one machine's build.
    assert [line for line in pins() if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []


def test_set_up_asks_for_the_python_and_extras_that_pyproject_has():
    assert PROJECT["requires-python"] == ">=" + ".".join(map(str, setup.OLDEST_PYTHON))
    assert set(setup.DEFAULT_EXTRAS) == set(PROJECT["optional-dependencies"])


# ---- Which build of PyTorch --------------------------------------------------------------------------------------


def plan(*packages):
    return {"install": [{"metadata": {"name": name, "version": version}} for name, version in packages]}


@pytest.mark.parametrize(
    "package",
    [
        ("nvidia-cublas", "13.1.1.3"),
        ("nvidia_cudnn_cu13", "9.20.0.48"),
        ("cuda-toolkit", "13.0.3"),
        ("cuda-bindings", "13.5.0"),
        ("torch", "2.13.0+cu130"),
    ],
)
def test_plan_with_a_cuda_package_is_recognised(package):
    found = setup.cuda_packages(plan(("torch", "2.13.0"), ("sympy", "1.14.0"), package))
    assert found == [f"{package[0]} {package[1]}"]


def test_plan_of_a_cpu_build_is_accepted():
    packages = ("torch", "2.13.0+cpu"), ("torch", "2.13.0"), ("sympy", "1.14.0"), ("cudatext", "1.0"), ("x", "1+custom")
    assert setup.cuda_packages(plan(*packages)) == []


@pytest.mark.parametrize(
    ("choice", "earlier", "gpu", "build"),
    [
        # choice: VAELIB_TORCH; earlier: what is set up already
        (None, None, False, "cpu"),
        (None, None, True, "cuda"),
        ("", None, True, "cuda"),
        ("auto", None, False, "cpu"),
        ("auto", None, True, "cuda"),
        ("cpu", None, False, "cpu"),
        ("cpu", None, True, "cpu"),
        ("cuda", None, False, "cuda"),
        ("cuda", None, True, "cuda"),
        # A choice once made stays, whatever the machine looks like today ...
        (None, "cpu", True, "cpu"),
        (None, "cuda", False, "cuda"),
        # ... until another one is made.
        ("auto", "cpu", True, "cuda"),
        ("auto", "cuda", False, "cpu"),
        ("cpu", "cuda", True, "cpu"),
        ("cuda", "cpu", False, "cuda"),
    ],
)
def test_build_follows_choice_then_history_then_machine(choice, earlier, gpu, build):
    assert setup.wanted_build(choice, earlier, lambda: gpu) == build


def test_unknown_build_is_refused_with_the_choices():
    with pytest.raises(setup.SetupError, match=r"'rocm'.*auto, cpu, cuda"):
        setup.wanted_build("rocm", None, lambda: False)


def fake_pip(monkeypatch, plans):
    """Give planned answers for the plain index and PyTorch's; return the list of installations asked for."""
    installed = []

    def answer(python, requirement, *options):
        result = plans["cpu index" if setup.CPU_INDEX in options else "plain"]
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(setup, "pip_plan", answer)
    monkeypatch.setattr(setup, "pip_install", lambda python, *arguments: installed.append(arguments))
    return installed


CUDA_PLAN = plan(("torch", "2.13.0"), ("nvidia-cublas", "13.1.1.3"))
CPU_PLAN = plan(("torch", "2.13.0+cpu"))


def test_cpu_build_in_reach_is_left_to_the_plain_installation(monkeypatch):
    installed = fake_pip(monkeypatch, {"plain": CPU_PLAN})
    setup.install_cpu_torch("python", "torch==2.13.0")
    assert installed == []


def test_cuda_plan_without_a_gpu_goes_to_the_cpu_index(monkeypatch):
    installed = fake_pip(monkeypatch, {"plain": CUDA_PLAN, "cpu index": CPU_PLAN})
    setup.install_cpu_torch("python", "torch==2.13.0")
    assert len(installed) == 1
    assert {setup.CPU_INDEX, "torch==2.13.0"} <= set(installed[0])


@pytest.mark.parametrize("at_cpu_index", [setup.SetupError("no answer"), CUDA_PLAN])
def test_cuda_is_never_installed_for_want_of_a_cpu_build(monkeypatch, at_cpu_index):
    installed = fake_pip(monkeypatch, {"plain": CUDA_PLAN, "cpu index": at_cpu_index})
    with pytest.raises(setup.SetupError, match=r"no NVIDIA GPU.*(?s:.)*VAELIB_TORCH=cuda"):
        setup.install_cpu_torch("python", "torch==2.13.0")
    assert installed == []


def test_torch_is_asked_for_in_the_version_of_the_constraints():
    assert setup.torch_requirement("six==1.0\ntorch==2.13.0\ntorchvision==9\n") == "torch==2.13.0"
    assert setup.torch_requirement(None) == "torch"


# ---- When to install ---------------------------------------------------------------------------------------------

WANTED = {"done": True, "python": "3.13", "path": "/a book/.venv", "torch": "cpu", "inputs": "abc"}


@pytest.mark.parametrize(
    ("stamp", "venv_exists", "step"),
    [
        (WANTED, True, "skip"),
        (WANTED, False, "create"),
        ({}, False, "create"),
        ({}, True, "update"),  # made by somebody else: completed, not emptied
        ({**WANTED, "inputs": "an older pyproject.toml"}, True, "update"),
        ({**WANTED, "done": False}, True, "create"),  # interrupted
        ({**WANTED, "python": "3.11"}, True, "create"),
        ({**WANTED, "path": "/moved/.venv"}, True, "create"),
        ({**WANTED, "torch": "cuda"}, True, "create"),
    ],
)
def test_set_up_does_only_what_is_needed(stamp, venv_exists, step):
    assert setup.next_step(stamp, WANTED, venv_exists) == step


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "null"])
def test_missing_or_damaged_record_counts_as_none(tmp_path, text):
    path = tmp_path / "setup.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert setup.read_stamp(path) == {}


def test_fingerprint_changes_with_what_is_installed_and_with_nothing_else(tmp_path):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    (tmp_path / "setup.py").write_text("setup()", encoding="utf-8")
    before = setup.fingerprint(tmp_path, ("book", "test"), "six==1.0")
    assert before == setup.fingerprint(tmp_path, ("test", "book"), "six==1.0")
    assert before != setup.fingerprint(tmp_path, ("book",), "six==1.0")
    assert before != setup.fingerprint(tmp_path, ("book", "test"), "six==1.1")
    assert before != setup.fingerprint(tmp_path, ("book", "test"), None)
    (tmp_path / "pyproject.toml").write_text(text.replace("line-length = 120", "line-length = 99"), encoding="utf-8")
    assert before == setup.fingerprint(tmp_path, ("book", "test"), "six==1.0")
    (tmp_path / "pyproject.toml").write_text(text.replace('"pooch"', '"pooch", "six"'), encoding="utf-8")
    assert before != setup.fingerprint(tmp_path, ("book", "test"), "six==1.0")
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    (tmp_path / "setup.py").write_text("setup(packages=[])", encoding="utf-8")
    assert before != setup.fingerprint(tmp_path, ("book", "test"), "six==1.0")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_an_editable_installation_works_wherever_the_clone_lies_and_whatever_the_locale(tmp_path, locale):
    clone, target = tmp_path / "ein Büch, ñ", tmp_path / "site"
    packages = ("vaelib", "bookbuild", "classroom", "experiments", "tools")
    for name in packages:
        (clone / name).mkdir(parents=True)
        (clone / name / "__init__.py").write_text("", encoding="utf-8")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (clone / name).write_bytes((ROOT / name).read_bytes())

    def python(*arguments, cwd):
        environment = os.environ | {"LC_ALL": locale}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout

    # With the setuptools at hand, which needs no network, and unpacked as pip would.
    code = f"from setuptools import build_meta; print(build_meta.build_editable({str(tmp_path)!r}))"
    with zipfile.ZipFile(tmp_path / python("-c", code, cwd=clone).splitlines()[-1]) as file:
        file.extractall(target)
    code = f"import site; site.addsitedir({str(target)!r}); import {', '.join(packages)}; print(ascii(tools.__file__))"
    found = python("-S", "-c", code, cwd=tmp_path).strip()
    assert found == ascii(str(clone / "tools" / "__init__.py"))


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Let setup.py work on an empty folder with a space in its name, where pip and venv are recorded, not run."""
    root = tmp_path / "a book"
    root.mkdir()
    for name in ("pyproject.toml", "setup.py", "constraints.txt"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(setup, "ROOT", root)
    monkeypatch.setattr(setup, "VENV", root / ".venv")
    monkeypatch.setattr(setup, "STAMP", root / ".venv" / "setup.json")
    calls = []
    monkeypatch.setattr(setup, "create_venv", lambda: (calls.append("create"), setup.VENV.mkdir(exist_ok=True)))
    monkeypatch.setattr(setup, "check_usable", lambda python: None)
    monkeypatch.setattr(setup, "install", lambda *arguments: calls.append("install") or ("2.13.0+cpu", False))
    for name in ("VAELIB_TORCH", "VAELIB_CONSTRAINTS"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_second_set_up_does_nothing(clone, capsys):
    assert setup.main([]) == 0
    assert clone == ["create", "install"]
    capsys.readouterr()
    assert setup.main([]) == 0
    assert clone == ["create", "install"]
    assert capsys.readouterr().out == ""


def test_interrupted_set_up_is_repeated_from_an_empty_folder(clone, monkeypatch):
    def cut_off(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(setup, "install", cut_off)
        assert "interrupted" in setup.main([])
    assert setup.main([]) == 0
    assert clone == ["create", "create", "install"]


def test_update_that_pip_refuses_keeps_the_installation_of_before(clone, monkeypatch):
    def refuse(*arguments):
        raise setup.SetupError("no network")

    assert setup.main([]) == 0
    before = setup.STAMP.read_bytes()
    with monkeypatch.context() as context:
        context.setattr(setup, "install", refuse)
        assert "no network" in setup.main(["book"])
    assert setup.STAMP.read_bytes() == before


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [("VAELIB_TORCH", "gpu", "auto, cpu, cuda"), ("VAELIB_CONSTRAINTS", "nothing", "say none")],
)
def test_unknown_setting_stops_before_anything_is_done(clone, monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    assert message in setup.main([])
    assert clone == []


def test_unknown_extra_is_one_line_on_stderr_and_a_failure():
    command = [sys.executable, str(ROOT / "tools" / "setup.py"), "gpu"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Unknown: gpu.")
    assert answer.stderr.count("\n") == 1


def test_script_parses_on_an_old_python():
    # Python 3.6 must come as far as the message that names the version needed.
    source = (ROOT / "tools" / "setup.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
