"""What all experiments share: parts that are stored one by one, what stands beside each, and how to go on.

A part is stored as soon as it is finished, so that a run that is cut off loses only the part under way. Called again
with `--resume`, a script passes over the parts that the same code has stored on the same machine and versions.
"""

import argparse
import contextlib
import datetime
import functools
import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

import vaelib
from vaelib._files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
INNERMOST = re.compile(r"[\[{][^\[\]{}]*[\]}]")


def results(name: str) -> Path:
    """Return the file that holds the numbers of an experiment."""
    return ROOT / "book/results" / f"{name}.json"


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what stands beside every result: threads, device, processor, versions, the code, and the date."""
    device = torch.device(device)
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "processor": processor(),
        "vaelib": vaelib.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "code": code(),
        "date": datetime.date.today().isoformat(),
    }


@functools.cache
def processor() -> str:
    """Return the processor's name, as the system tells it, and the instructions that PyTorch uses of it."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        told = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        name = told[1] if told else name
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


@functools.cache
def code() -> str:
    """Return a hash of the sources of vaelib and of the experiments: all of ours that the numbers follow from."""
    files = sorted(path for package in ("vaelib", "experiments") for path in (ROOT / package).rglob("*.py"))
    parts = [f"{path.relative_to(ROOT).as_posix()}\n".encode() + path.read_bytes() for path in files]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def chosen(parts: Iterable[str], stored: dict[str, Any], description: str | None, device: Any = "cpu") -> Iterator[str]:
    """Yield the parts that the command line names, or all of them; with `--resume` those alone that are missing.

    Args:
        parts: the names of all parts, in the order in which they run.
        stored: for each name what is stored of it.
        description: the docstring of the script.
        device: where the parts run: one that was stored from another device is not taken for the same.
    """
    parts = list(parts)
    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0].partition(":")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(parts)}; default: all")
    parser.add_argument("--resume", action="store_true", help="pass over what this code has stored already")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in parts]:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(parts)}")
    for name in (part for part in parts if not options.parts or part in options.parts):
        if options.resume and is_current(stored.get(name, {}), device):
            print(f"{name}: stored already", flush=True)
        else:
            yield name


def is_current(part: dict[str, Any], device: torch.device | str = "cpu") -> bool:
    """Return whether a stored part comes from this code, these versions and such a device; the date does not matter."""
    here = provenance(device)
    there = part.get("provenance", part)
    return all(there.get(key) == here[key] for key in here.keys() - {"date"})


def read(path: Path) -> dict[str, Any]:
    """Return what is stored, nothing where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def store(path: Path, part: dict[str, Any], *place: str, **head: str) -> None:
    """Add a finished part at its place in a file, and in the file's head what all of its parts have in common.

    The file is read again each time, since two runs may be under way side by side.
    """
    found = read(path) | head
    *groups, name = place
    group = found
    for each in groups:
        group = group.setdefault(each, {})
    group[name] = part
    write(path, found)


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a whole file of results as JSON, each innermost list or group on one line."""
    text = INNERMOST.sub(lambda found: " ".join(found[0].split()), json.dumps(record, indent=1))
    atomic_write(path, text + "\n")
