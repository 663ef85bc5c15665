"""vaelib._files: a file is seen whole, old or new, by whoever looks, and nothing else is left or touched."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vaelib import _files
from vaelib._files import atomic_write, remove_leftovers

# A child process that dies at one named call in the middle of its write, with no chance to clear away.
KILLED_AT = """
import os, signal, sys
from vaelib._files import atomic_write
die = (lambda *_: os.kill(os.getpid(), signal.SIGKILL)) if hasattr(signal, "SIGKILL") else (lambda *_: os._exit(9))
setattr(os, sys.argv[2], die)
atomic_write(sys.argv[1], b"new" * 100_000)
"""
OLD, NEW = b"old" * 300_000, b"new" * 400_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with old content, alone in its folder."""
    path = tmp_path / "folder" / "file.txt"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


def link(path: Path, target: Path | str) -> Path:
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("this system lets no ordinary user make symbolic links")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("data", [b"", b"\r\n\0", bytearray(b"bytes"), memoryview(b"x bytes y")[2:7], NEW])
def test_bytes_of_every_kind_are_written_as_they_are(path, data):
    atomic_write(path, data)
    assert content(path.parent) == {"file.txt": bytes(data)}


def test_text_is_utf_8_and_keeps_its_line_ends(path):
    atomic_write(str(path), "µ à 数\r\nz\n")
    assert path.read_bytes() == b"\xc2\xb5 \xc3\xa0 \xe6\x95\xb0\r\nz\n"


def test_missing_folders_are_made_in_a_path_with_spaces_and_other_letters(tmp_path):
    atomic_write(tmp_path / "été à" / "[a] *" / "数据", b"x")
    assert content(tmp_path) == {"été à/[a] */数据": b"x"}


def test_new_file_has_the_permissions_that_any_new_file_has(tmp_path):
    atomic_write(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_reader_never_sees_a_part(path):
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for i in range(60):
            atomic_write(path, (NEW, OLD)[i % 2])
    except PermissionError:  # Windows replaces no file that somebody is reading
        pytest.skip("this system replaces no open file")
    finally:
        done.set()
        reader.join()
    assert seen <= {OLD, NEW}


def test_bytes_are_on_the_disk_before_the_name_is_theirs(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(("fsync", os.fstat(descriptor).st_size, path.read_bytes() == OLD))

    def note_replace(source, target) -> None:
        calls.append(("replace", os.stat(source).st_size, Path(source).parent == Path(target).parent))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    atomic_write(path, NEW)
    # All of the bytes each time; the old file is there still at the first, both names in one folder at the second.
    assert calls == [("fsync", len(NEW), True), ("replace", len(NEW), True)]


# What fails leaves the old file and no other


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stop"])
def test_failure_at_the_last_moment_leaves_the_old_file_and_no_other(path, monkeypatch, call, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        atomic_write(path, NEW)
    assert content(path.parent) == {"file.txt": OLD}


def test_full_disk_leaves_the_old_file_and_no_other(path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # writes beyond 10 kB fail, as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            atomic_write(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(path.parent) == {"file.txt": OLD}


@pytest.mark.parametrize(
    ("data", "error"), [("half a pair: \ud800", UnicodeEncodeError), (7, TypeError), (["lines"], TypeError)]
)
def test_what_is_no_text_and_no_bytes_is_refused_and_leaves_the_old_file_alone(path, data, error):
    with pytest.raises(error):
        atomic_write(path, data)
    assert content(path.parent) == {"file.txt": OLD}


def test_folder_in_place_of_the_file_and_file_in_place_of_the_folder_are_refused(path, tmp_path):
    before = content(tmp_path)
    for wrong in (path.parent, path / "file.txt"):
        with pytest.raises(OSError, match=r"folder|file"):
            atomic_write(wrong, NEW)
        assert content(tmp_path) == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_in_the_middle_leaves_the_old_file_and_what_remove_leftovers_clears_away(path, call):
    others = {".file.txt.whatever.tmp": b"a", ".file2.txt.12345678.tmp": b"b", "file.txt.tmp": b"c", "tmp": b"d"}
    for name, data in others.items():
        (path.parent / name).write_bytes(data)
    process = subprocess.run([sys.executable, "-c", KILLED_AT, str(path), call], check=False)
    assert process.returncode in (-9, 9)
    after = content(path.parent)
    assert len(after) == len(others) + 2 and after["file.txt"] == OLD  # the kill was in the middle
    remove_leftovers(path)
    assert content(path.parent) == others | {"file.txt": OLD}


def test_leftovers_of_a_name_with_wildcards_are_its_own_alone(tmp_path):
    for name in (".[ab]*.12345678.tmp", ".ab.12345678.tmp"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path / "[ab]*")
    assert list(content(tmp_path)) == [".ab.12345678.tmp"]


# The temporary name


def test_temporary_names_differ(path, monkeypatch):
    names = set()
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (names.add(Path(source).name), replace(source, target)))
    for _ in range(100):
        atomic_write(path, b"")
    assert len(names) == 100


@pytest.mark.parametrize("planted", ["link", "file"])
def test_what_lies_in_the_temporarys_place_is_neither_followed_nor_removed(path, tmp_path, monkeypatch, planted):
    monkeypatch.setattr(_files.secrets, "token_hex", lambda _: "12345678")  # a guess that came true
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    trap = path.with_name(".file.txt.12345678.tmp")
    if planted == "link":
        link(trap, victim)
    else:
        trap.write_bytes(b"another's")
    before = content(tmp_path)
    with pytest.raises(FileExistsError):
        atomic_write(path, NEW)
    assert content(tmp_path) == before


# Symbolic links


def test_link_stays_a_link_and_its_target_is_replaced(path, tmp_path):
    first = link(tmp_path / "first", Path("folder") / "file.txt")
    second = link(tmp_path / "second", first)
    for each in (first, second):
        atomic_write(each, NEW)
        assert each.is_symlink() and path.read_bytes() == NEW
        path.write_bytes(OLD)
    assert content(path.parent) == {"file.txt": OLD}


def test_link_to_nothing_makes_its_target(tmp_path):
    dangling = link(tmp_path / "link", Path("new") / "file")
    atomic_write(dangling, b"x")
    assert dangling.is_symlink() and not (tmp_path / "new" / "file").is_symlink()
    assert content(tmp_path) == {"link": b"x", "new/file": b"x"}


def test_links_in_a_circle_are_refused_and_stay(tmp_path):
    one, two = link(tmp_path / "one", "two"), link(tmp_path / "two", "one")
    with pytest.raises(OSError, match="one"):
        atomic_write(one, b"x")
    assert one.is_symlink() and two.is_symlink() and len(list(tmp_path.iterdir())) == 2


def test_leftovers_of_a_link_lie_beside_its_target(path, tmp_path):
    other = link(tmp_path / "link", path)
    path.with_name(".file.txt.12345678.tmp").write_bytes(b"")
    remove_leftovers(other)
    assert content(path.parent) == {"file.txt": OLD}
