"""Brings marks into nbgrader's gradebook, where a person marks the free answers, and takes those marks out again.

python -m classroom gradebook SUBMISSIONS [--out DIR]   after grading: marks in, a person's marks out
python -m classroom gradebook SUBMISSIONS --serve       then open nbgrader's page for marking by hand

nbgrader is installed in an environment of its own, .venv-nbgrader, since it asks for other versions than the book.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bookbuild import assignments as tool
from classroom import grade
from vaelib._files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
NBGRADER = "nbgrader>=0.9.5,<0.10"
CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "vaelib"
c.CourseDirectory.root = {root!r}
c.ClearSolutions.code_stub = {{"python": {stub!r}}}
c.ClearSolutions.text_stub = {free!r}
"""


def environment() -> Path:
    """The Python of nbgrader's environment, which is made where it is missing."""
    folder = Path(os.environ.get("VAELIB_NBGRADER", ROOT / ".venv-nbgrader"))
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists() or subprocess.run([python, "-c", "import nbgrader"], check=False).returncode:
        print(f"Installing {NBGRADER} in {folder.name} (a minute) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        constraints = str(ROOT / "constraints.txt")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--constraint", constraints, NBGRADER], check=True)
    return python


def _path(python: Path) -> dict[str, str]:
    """The surroundings of that environment: nbgrader starts programs of it by name (alembic)."""
    return os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def course(out: Path, stems: list[str], python: Path) -> Path:
    """The course's folder, with the assignments in it as nbgrader wants them; its gradebook is kept."""
    folder = out / "nbgrader"
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG.format(root=str(folder), stub=tool.STUB, free=tool.FREE_STUB)
    atomic_write(folder / "nbgrader_config.py", config)
    for assignment in tool.assignments(ROOT):
        source = folder / "source" / assignment.stem
        release = folder / "release" / assignment.stem / f"{assignment.stem}.ipynb"  # the last thing to be made
        if assignment.stem in stems and _changed(release, assignment):
            if problems := tool.write_masters(ROOT, [assignment.stem], source):
                raise SystemExit("\n".join(problems))
            generate = ["-m", "nbgrader", "generate_assignment", assignment.stem, "--force", "--log-level=WARN"]
            subprocess.run([python, *generate], cwd=folder, check=True, env=_path(python))
    return folder


def _changed(path: Path, assignment: tool.Assignment) -> bool:
    """Whether a notebook is missing or was made from another source."""
    if not path.is_file():
        return True
    made_from = json.loads(path.read_text(encoding="utf-8"))["metadata"]["vaelib"]["source_sha256"]
    return bool(made_from != tool.master(assignment).metadata.vaelib.source_sha256)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m classroom gradebook",
        description="Marks into nbgrader's gradebook, and a person's marks out of it.",
    )
    parser.add_argument("submissions", type=Path, help="the folder that make grade was given")
    parser.add_argument("--out", type=Path, help="as for make grade")
    parser.add_argument("--serve", action="store_true", help="open nbgrader's page for marking afterwards")
    options = parser.parse_args(arguments)
    out = grade.output_folder(options.submissions, options.out)
    stems = sorted({path.stem for path in (out / "results").glob("*/[0-9][0-9]_*.json")})
    if not stems:
        print(f"There are no marks in {out}: run make grade SUBMISSIONS={options.submissions} first", file=sys.stderr)
        return 1
    python = environment()
    folder = course(out, stems, python)
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(scratch) / "manual.json"
        side: list[str | Path] = [python, ROOT / "classroom/nbgrader_side.py", folder, out / "results", given]
        subprocess.run(side, check=True)
        atomic_write(out / "manual.json", given.read_bytes())
    grade.write_report(out)
    print(f"{folder / 'gradebook.db'} has the marks; marks.csv and feedback/ have what a person gave")
    if options.serve:
        print("Mark by hand under Nbgrader > Formgrader > Manual Grading, then run make gradebook once more.")
        subprocess.run([python, "-m", "jupyterlab"], cwd=folder, check=False, env=_path(python))
    return 0
