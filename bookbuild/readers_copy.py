"""The reader's own copies of the chapters and assignments, in my/: theirs to run, change and keep; git ignores them.

python -m bookbuild copies                     bring my/ up to date, as `make lab` does before it opens JupyterLab
python -m bookbuild copies --original 07       bring back the book's chapter 7; what is there is kept under another name

An update writes over a copy only where it is, byte for byte, what was handed out. One that was run and not changed
gives way to a chapter that has changed, and is kept under another name. One that the reader changed stays. What else
lies in my/ is the reader's. The record of what was handed out tells the three apart; without it, more is kept.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
from filelock import FileLock, Timeout

from bookbuild import first_cell
from bookbuild.chapter import seal, sha256
from vaelib._files import atomic_write, remove_leftovers

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "my"
RECORD = ".handed-out.json"
PATIENCE = 60  # seconds that one `make lab` waits for another to finish with the copies
SET_UP = first_cell.SET_UP.split("\n")[0]


class CopyError(Exception):
    """Copies that cannot be made; the message says why, and what helps."""


@dataclass(frozen=True)
class HandedOut:
    """What a copy was when the reader got it: the digest of the file, and that of the text of its cells."""

    file: str
    cells: str


class Copies:
    """The copies in the folder `my` of a clone, each named as in notebooks/, without its ending: assignments/01_x."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / FOLDER
        self.names = [
            path.relative_to(root / "book").with_suffix("").as_posix()
            for place in ("book", "book/assignments")
            for path in sorted((root / place).glob("[0-9][0-9]_*.md"))
        ]
        self.record = self._read_record()

    def original(self, name: str) -> Path:
        """The book's file, which git tracks."""
        return self.root / "notebooks" / f"{name}.ipynb"

    def copy(self, name: str) -> Path:
        """The reader's file."""
        return self.folder / f"{name}.ipynb"

    def shown(self, path: Path) -> str:
        """A path as messages name it."""
        return path.relative_to(self.root).as_posix()

    def update(self, name: str) -> str:
        """Bring one copy up to date; what the reader is to know of it, '' for nothing."""
        original, copy = self.original(name), self.copy(name)
        if not original.is_file():
            return f"{self.shown(original)} is missing: {_command(name)} brings it back"
        new = original.read_bytes()
        try:
            mine = copy.read_bytes() if copy.exists() else new
        except OSError as error:  # keeps nobody from the other copies
            return f"{self.shown(copy)} can't be read and stays as it is: {error.strerror or error}"
        if mine != new:
            return self._differs(name, mine, new)
        self._hand_out(name, new)
        return ""

    def _differs(self, name: str, mine: bytes, new: bytes) -> str:
        """Bring up to date a copy that is not what the book has now."""
        original, copy = map(self.shown, (self.original(name), self.copy(name)))
        if not as_made(new):
            return f"{original} was changed, and it is the book's: {_command(name)} brings it back and keeps yours"
        old, here, there = self.record.get(name), described(mine), described(new)
        if old and old.file == here.file and as_made(mine):  # untouched
            self._hand_out(name, new)
            return ""
        if there.cells in (here.cells, old and old.cells):  # run or changed, and the chapter is the same
            return ""
        if old.cells == here.cells if old else as_made(mine):  # run
            aside = self._put_aside(name, new)
            return f"{copy} is the book's new one; the one that you ran is {self.shown(aside)} now"
        return f"{copy} has your changes and stays; the book's has changed: {_command(name)} brings it, and keeps yours"

    def bring_back(self, name: str) -> str:
        """Make a copy the book's original again; what was done."""
        original, copy = self.original(name), self.copy(name)
        done = []
        if not original.is_file() or not as_made(original.read_bytes()):
            done.append(self._restore(name))
        new = original.read_bytes()
        if copy.exists() and copy.read_bytes() == new:
            done.append(f"{self.shown(copy)} is the book's original")
        elif copy.exists():
            aside = self._put_aside(name, new)
            done.append(f"{self.shown(copy)} is the book's original again; yours is {self.shown(aside)} now")
        else:
            done.append(f"{self.shown(copy)} is there again")
        self._hand_out(name, new)
        return "\n".join(done)

    def gone(self) -> list[str]:
        """Let go of the copies of chapters that the book no longer has: from now on they are the reader's own files."""
        told = []
        for name in sorted(self.record.keys() - set(self.names)):
            del self.record[name]
            if self.copy(name).exists():
                told.append(f"{self.shown(self.copy(name))}: the book has no such chapter any more; the file is yours")
        return told

    def write_record(self) -> None:
        """Store what was handed out."""
        text = json.dumps({name: asdict(each) for name, each in sorted(self.record.items())}, indent=1)
        path = self.folder / RECORD
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != f"{text}\n":
            atomic_write(path, f"{text}\n")

    def _read_record(self) -> dict[str, HandedOut]:
        """What was handed out; where that cannot be read, nothing is known, and more is kept than need be."""
        try:
            found = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            return {str(name): HandedOut(str(each["file"]), str(each["cells"])) for name, each in found.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def _hand_out(self, name: str, content: bytes) -> None:
        copy = self.copy(name)
        remove_leftovers(copy)
        if not copy.exists() or copy.read_bytes() != content:
            atomic_write(copy, content)
        if name not in self.record or self.record[name].file != _digest(content):
            self.record[name] = described(content)

    def _put_aside(self, name: str, new: bytes) -> Path:
        """Hand out a chapter in the place of a copy, which gets another name beside it, where its links work."""
        copy = self.copy(name)
        aside = self._free(copy)
        copy.rename(aside)  # not written anew: whatever is in it, it is not lost
        try:
            self._hand_out(name, new)
        except BaseException:
            if not copy.exists():
                aside.rename(copy)
            raise
        return aside

    def _free(self, copy: Path) -> Path:
        names = (copy.with_name(f"{copy.stem}-yours-{number}.ipynb") for number in range(1, 10**6))
        return next(each for each in names if not os.path.lexists(each))

    def _restore(self, name: str) -> str:
        """Bring back the book's file in notebooks/ by git, what stands there kept beside the reader's copy."""
        original, copy, aside = self.original(name), self.copy(name), None
        if original.is_file() and not (copy.exists() and copy.read_bytes() == original.read_bytes()):
            aside = self._free(copy)
            atomic_write(aside, original.read_bytes())
        command = ["git", "-C", str(self.root), "checkout", "--quiet", "HEAD", "--", self.shown(original)]
        try:
            git = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
            failed = git.stderr.strip().partition("\n")[0] if git.returncode else ""
        except OSError as error:
            failed = f"git: {error.strerror}"
        if failed or not as_made(original.read_bytes()):
            if aside and original.is_file() and original.read_bytes() == aside.read_bytes():
                aside.unlink()
            raise CopyError(
                f"git does not bring back {self.shown(original)} ({failed or 'it is changed there too'}): "
                "move it out of notebooks/ and run `make notebooks assignments`"
            )
        kept = f"; what stood there is {self.shown(aside)} now" if aside else ""
        return f"{self.shown(original)} is the book's again{kept}"


def described(content: bytes) -> HandedOut:
    """The digests of a notebook. What is no notebook has cells like nothing else."""
    file = _digest(content)
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(content)["cells"]]
    except (ValueError, TypeError, KeyError):
        return HandedOut(file, f"unreadable {file}")
    # Where the code is installed from changes with every version, and is no reader's text.
    return HandedOut(file, sha256(json.dumps([each for each in cells if not each[1].startswith(SET_UP)])))


def _digest(content: bytes) -> str:
    return sha256(content.decode("utf-8", errors="backslashreplace"))


def _command(name: str) -> str:
    return f"`make original CHAPTER={name}`"


def as_made(content: bytes) -> bool:
    """Whether a notebook is as the book's tools wrote it: its digest, which it holds itself, fits."""
    try:
        text = content.decode("utf-8")
        return seal(nbformat.reads(text, as_version=4)) == text
    except (ValueError, AttributeError, TypeError, nbformat.ValidationError):
        return False


def find(wanted: str, names: list[str]) -> str:
    """The name that a reader means by 7, 07, vae, my/07_vae.ipynb, assignments/1 or 01_gaussian_kl."""
    short = re.sub(r"^(\./)?(my|notebooks|book)/|\.(ipynb|md)$", "", wanted.strip().replace("\\", "/"))
    number = re.fullmatch(r"(assignments/)?(\d+)", short)
    start = f"{number[1] or ''}{int(number[2]):02d}_" if number else ""
    ways = (
        [[name for name in names if name.startswith(start)]]
        if number
        else [
            [name for name in names if short in (name, name.partition("/")[2])],
            [name for name in names if short in re.sub(r"(^|/)\d\d_", r"\1", name).split("/")],
            [name for name in names if short in name],
        ]
    )
    found = next(filter(None, ways), []) if short else []
    if len(found) == 1:
        return found[0]
    is_what = "is several of the book's" if found else "is none of the book's" if short else "names no chapter"
    raise CopyError(f"{wanted!r} {is_what}: `make original CHAPTER=...` takes one of {', '.join(found or names)}")


def update(root: Path) -> list[str]:
    """Bring all copies up to date; a line for each of which the reader is to know something."""
    return _work(root, None)


def bring_back(root: Path, wanted: str) -> list[str]:
    """Bring one chapter's original back; what was done."""
    return _work(root, wanted)


def _work(root: Path, wanted: str | None) -> list[str]:
    """Do it while no other process does, and write down what was handed out however it ends."""
    try:
        (root / FOLDER / "assignments").mkdir(parents=True, exist_ok=True)
        with FileLock(root / FOLDER / ".lock", timeout=PATIENCE):
            copies = Copies(root)
            try:
                remove_leftovers(copies.folder / RECORD)
                if wanted is not None:
                    return [copies.bring_back(find(wanted, copies.names))]
                return [*copies.gone(), *filter(None, map(copies.update, copies.names))]
            finally:
                copies.write_record()
    except Timeout:
        raise CopyError(f"another `make lab` has been at work on {FOLDER}/ for a minute: wait for it") from None
    except OSError as error:
        place = error.filename or root / FOLDER
        raise CopyError(
            f"your copies can't be written ({error.strerror or error}: {place}): the book's folder and {FOLDER}/ in it "
            "must be yours to write to, and the disk have space"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bookbuild copies", description="Brings the reader's copies in my/ up to date."
    )
    parser.add_argument("--original", metavar="CHAPTER", help="bring back this one, such as 07 or assignments/01")
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's folder")
    options = parser.parse_args(arguments)
    try:
        told = update(options.root) if options.original is None else bring_back(options.root, options.original)
    except CopyError as error:
        print(error, file=sys.stderr)
        return 1
    for line in told:
        print(line)
    return 0
