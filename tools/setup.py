"""Sets the book up in the folder .venv: `python tools/setup.py [extras ...]`; `make setup` runs the same.

Standard library only, and the first lines must parse on an old Python, to say what is missing.
Environment: VAELIB_TORCH=auto, cpu or cuda chooses the build of PyTorch; VAELIB_CONSTRAINTS=none takes the newest
releases in place of the versions in constraints.txt. pip's own settings (index, cache, wheels) are respected.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup.json"
DEFAULT_EXTRAS = ("book", "site", "grade", "test")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH_CHOICES = ("auto", "cpu", "cuda")


class SetupError(RuntimeError):
    """What went wrong and what to do about it, in words for the reader."""


# ---- What is wanted, and whether it is there already -------------------------------------------------------------


def fingerprint(root, extras, constraints):
    """What an installation depends on besides the Python and the build of PyTorch, as one hash."""
    import tomllib  # not at the top: an old Python has none, and must come as far as its message

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    packaging = [project["build-system"], project["project"], project["tool"]["setuptools"]]
    scripts = [path.read_text(encoding="utf-8") for path in (root / "setup.py", Path(__file__))]
    return hashlib.sha256(json.dumps([packaging, sorted(extras), constraints, scripts]).encode()).hexdigest()


def read_stamp(path):
    """The record of the last set-up; empty when there is none or it cannot be read."""
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def next_step(stamp, wanted, venv_exists):
    """Return "skip", "update" (install over what is there) or "create" (start from an empty folder).

    A set-up that was interrupted, moved with its folder, or made for another Python or build of PyTorch starts again:
    pip cannot be trusted to notice any of these.
    """
    if not venv_exists:
        return "create"
    if not stamp:  # a folder that somebody else made is completed, never emptied
        return "update"
    if stamp == wanted:
        return "skip"
    same_base = all(stamp.get(key) == wanted[key] for key in ("python", "path", "torch"))
    return "update" if stamp.get("done") and same_base else "create"


# ---- Which build of PyTorch --------------------------------------------------------------------------------------


def has_nvidia_gpu():
    """Whether this machine has an NVIDIA GPU with a driver that works."""
    if Path("/proc/driver/nvidia/version").exists() and any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        answer = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU 0" in answer.stdout


def wanted_build(choice, earlier, gpu):
    """Return "cpu" or "cuda": what VAELIB_TORCH says, else what is set up already, else what the machine has."""
    if choice and choice not in TORCH_CHOICES:
        raise SetupError(f"VAELIB_TORCH is {choice!r}: choose one of {', '.join(TORCH_CHOICES)}.")
    if choice in ("cpu", "cuda"):
        return choice
    if not choice and earlier:
        return earlier
    return "cuda" if gpu() else "cpu"


def cuda_packages(plan):
    """The packages in a report of `pip install --dry-run --report` that only a machine with an NVIDIA GPU can use."""
    names = [(item["metadata"]["name"].lower(), item["metadata"]["version"]) for item in plan["install"]]
    return [
        f"{name} {version}"
        for name, version in names
        if re.match(r"(nvidia|cuda)([-_.]|$)", name) or re.search(r"\+cu\d", version)
    ]


def torch_requirement(constraints):
    """The line of the constraints that pins PyTorch; unpinned without constraints."""
    if constraints is None:
        return "torch"
    return re.search(r"(?m)^torch==\S+", constraints).group()


def pip_plan(python, requirement, *options):
    """What pip would install for a requirement, downloading nothing but metadata (about 2 seconds)."""
    command = [python, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", *options, requirement]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if answer.returncode:
        errors = [line for line in answer.stderr.splitlines() if line.startswith("ERROR")]
        raise SetupError("\n".join(errors or answer.stderr.splitlines()[-3:]))
    return json.loads(answer.stdout)


def install_cpu_torch(python, requirement):
    """Install PyTorch's CPU build first where a plain installation would bring CUDA along; else do nothing."""
    try:
        unusable = cuda_packages(pip_plan(python, requirement))
    except SetupError as error:
        raise SetupError(f"pip finds no {requirement}. Set-up needs a package index once:\n{error}") from None
    if not unusable:
        return
    # One short try: a reader without a way to this address should hear so in seconds.
    options = ("--index-url", CPU_INDEX, "--retries", "1", "--timeout", "20")
    try:
        still_unusable = cuda_packages(pip_plan(python, requirement, *options))
    except SetupError:
        still_unusable = unusable
    if still_unusable:
        version = ".".join(map(str, sys.version_info[:2]))
        raise SetupError(
            f"This machine has no NVIDIA GPU, and the only {requirement} in reach for Python {version} is a CUDA build "
            f"({len(unusable)} packages, several GB).\n{CPU_INDEX}, which has the CPU build, does not answer or does "
            "not have it.\nAllow that address, or put a CPU wheel where pip looks (PIP_FIND_LINKS), or take the CUDA "
            "build all the same with VAELIB_TORCH=cuda."
        )
    say(f"PyTorch: the CPU build, from {CPU_INDEX}")
    pip_install(python, *options, requirement)


# ---- The work ----------------------------------------------------------------------------------------------------


def say(text):
    print(text, flush=True)


def python_in(venv):
    """The interpreter of a virtual environment, on Windows and elsewhere."""
    return str(venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def pip_install(python, *arguments):
    """Run pip with its progress shown in a terminal and only its complaints in a log.

    Byte code is left to the first import: compiling all of it costs time and 300 MB, most of it for nothing.
    """
    options = ["--disable-pip-version-check", "--no-compile", *([] if sys.stdout.isatty() else ["--quiet"])]
    command = [python, "-m", "pip", "install", *options, *arguments]
    if subprocess.run(command, check=False, cwd=ROOT).returncode:
        raise SetupError(
            "pip could not install the book; its message is above. Nothing is lost: the next `make setup` starts again."
        )


def create_venv():
    """Make an empty .venv; the base interpreter does it, since this script may run inside the old one."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    if subprocess.run([base, "-m", "venv", "--clear", str(VENV)], check=False).returncode:
        version = ".".join(map(str, sys.version_info[:2]))
        raise SetupError(
            f"{base} cannot create {VENV}; its message is above. On Debian and Ubuntu "
            f"`apt install python{version}-venv` brings what is missing; on Windows, deactivate .venv first."
        )


def check_usable(python):
    """Refuse a .venv that this script did not make and that cannot hold the book."""
    oldest = ".".join(map(str, OLDEST_PYTHON))
    test = f"import sys, pip; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        usable = subprocess.run([python, "-c", test], capture_output=True, check=False).returncode == 0
    except OSError:
        usable = False
    if not usable:
        raise SetupError(f"{VENV} exists but holds no Python {oldest} or newer with pip. Move it away and try again.")


def set_up(extras):
    """Bring .venv in step with the repository, or return at once when it is."""
    started = time.monotonic()
    mode = os.environ.get("VAELIB_CONSTRAINTS", "")
    if mode not in ("", "none"):
        raise SetupError(f"VAELIB_CONSTRAINTS is {mode!r}: unset it for the tested versions, or say none.")
    constraints = None if mode else (ROOT / "constraints.txt").read_text(encoding="utf-8")
    stamp = read_stamp(STAMP)
    wanted = {
        "done": True,
        "python": ".".join(map(str, sys.version_info[:2])),
        "path": str(VENV),
        "torch": wanted_build(os.environ.get("VAELIB_TORCH"), stamp.get("torch"), has_nvidia_gpu),
        "inputs": fingerprint(ROOT, extras, constraints),
    }
    step = next_step(stamp, wanted, VENV.exists())
    if step == "skip":
        return

    say(f"Setting up the book in {VENV} (Python {wanted['python']}, PyTorch for {wanted['torch'].upper()}).")
    size = "5 GB or more, with CUDA" if wanted["torch"] == "cuda" else "1.6 GB"
    say(f"A first set-up downloads packages and takes a minute or two on a fast line; installed, they need {size}.")
    if step == "create":
        create_venv()
    python = python_in(VENV)
    check_usable(python)
    # Until the end of the work, a set-up that is cut off leaves a record that says so.
    if stamp or step == "create":
        write_stamp({**wanted, "done": False})
    try:
        version, cuda = install(python, wanted["torch"], extras, constraints)
    except SetupError:
        if step == "update" and stamp:  # pip takes back what it did: the installation of before is still good
            write_stamp(stamp)
        raise
    write_stamp(wanted)
    build = f"torch {version}{' with CUDA' if cuda else ''}"
    say(f"Done in {time.monotonic() - started:.0f} s: {build}. `make lab` opens the book.")


def write_stamp(stamp):
    STAMP.write_text(json.dumps(stamp), encoding="utf-8")


def install(python, build, extras, constraints):
    """Install PyTorch in the build wanted, then everything else; return PyTorch's version and whether it has CUDA."""
    if build == "cpu" and sys.platform != "darwin":  # no CUDA build exists for macOS
        install_cpu_torch(python, torch_requirement(constraints))
    pip_install(python, *book_arguments(python, extras, constraints))
    version, cuda = torch_build(python)
    if build == "cuda" and not cuda and sys.platform != "darwin":
        say(f"Note: pip brought a CPU build, torch {version}. The README says how to get a CUDA build by hand.")
    return version, cuda


def torch_build(python):
    """The version of the PyTorch just installed, and whether it was built for CUDA; at once a proof that it loads."""
    question = "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda is not None]))"
    answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SetupError(f"PyTorch is installed but does not load:\n{answer.stderr.strip().splitlines()[-1]}")
    return json.loads(answer.stdout)


def book_arguments(python, extras, constraints):
    """The arguments of pip for the package itself, editable, with its extras."""
    package = ["--editable", f".[{','.join(extras)}]"]
    if constraints is not None:
        return ["--constraint", "constraints.txt", *package]
    # The newest of everything, except a PyTorch that was just chosen: the plain index may have a newer CUDA build.
    question = "import importlib.metadata as m; print(m.version('torch'))"
    answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    chosen = [f"torch=={answer.stdout.strip()}"] if answer.returncode == 0 else []
    return ["--upgrade", "--upgrade-strategy", "eager", *chosen, *package]


def main(arguments):
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return f"The book needs Python {oldest} or newer; {sys.executable} is {sys.version.split()[0]}."
    unknown = [name for name in arguments if name not in DEFAULT_EXTRAS]
    if unknown:
        return f"Unknown: {' '.join(unknown)}. Usage: python tools/setup.py [{'] ['.join(DEFAULT_EXTRAS)}]"
    try:
        set_up(tuple(arguments) or DEFAULT_EXTRAS)
    except SetupError as error:
        return f"Set-up stopped. {error}"
    except KeyboardInterrupt:
        return "Set-up interrupted; the next one starts again."
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
