"""Run every chapter under the roundings and numbers of threads that readers' machines have: `make test-numerics`.

    python -m tests.proofs.numerics [CHAPTER ...]

MKL and PyTorch choose their routines by the processor, and sums differ in the last digits. MKL_CBWR=COMPATIBLE and
ATEN_CPU_CAPABILITY=default make this processor compute as one without AVX does, so a chapter that passes in all rows
does not depend on the one that it was written on. It prints a table and ends with 1 where a chapter fails.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLD = {"MKL_CBWR": "COMPATIBLE"}
SETTINGS: tuple[tuple[dict[str, str], int], ...] = (
    ({}, 1),
    ({}, 2),
    (OLD, 1),
    (OLD, 2),
    (OLD | {"ATEN_CPU_CAPABILITY": "default"}, 1),
)


def run(notebooks: list[Path], variables: dict[str, str], threads: int) -> list[str]:
    """Execute the notebooks with these variables and this number of threads, and return the cells that fail."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MKL_CBWR", "ATEN_CPU_CAPABILITY")}
    environment |= variables | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rfE"]
    command += ["-n", str(2 // threads), "--dist", "loadscope"]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600", *map(str, notebooks)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.MULTILINE)
    if done.returncode and not failed:
        failed = [(done.stdout + done.stderr).strip() or f"pytest ended with {done.returncode}"]
    return failed


def main() -> int:
    """Run the chapters asked for under each setting, print the table, return the exit code."""
    names = sys.argv[1:] or [""]
    notebooks = sorted(path for name in names for path in ROOT.glob(f"notebooks/{name}*.ipynb"))
    if not notebooks:
        sys.exit(f"No chapter begins with {', '.join(names)}.")
    print(
        f"{len(notebooks)} chapters\n\n| settings | threads | minutes | cells that fail |\n|---|---|---|---|",
        flush=True,
    )
    wrong = False
    for variables, threads in SETTINGS:
        start = time.perf_counter()
        failed = run(notebooks, variables, threads)
        shown = ", ".join(f"{name}={value}" for name, value in variables.items()) or "none"
        minutes = (time.perf_counter() - start) / 60
        print(f"| {shown} | {threads} | {minutes:.1f} | {'; '.join(failed) or 0} |", flush=True)
        wrong |= bool(failed)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
