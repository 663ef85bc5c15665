"""Write a file in one step: under its name stands the whole of the new content, or still the old one."""

import errno
import glob
import os
import secrets
from pathlib import Path

__all__ = ["atomic_write", "remove_leftovers", "target"]


def atomic_write(path: str | os.PathLike[str], data: bytes | bytearray | memoryview | str) -> None:
    """Replace the content of `path`, or make the file, in one step; text is stored as UTF-8, its line ends as given.

    The bytes go to a file of another name in the same folder, reach the disk, and only then take the name: whoever
    reads meanwhile, or after a power cut, a kill or a full disk, finds the old content or the new, never a part. A
    symbolic link stays one: the file that it points to is replaced. Missing folders are made.

    Args:
        path: the file to write.
        data: all of its new content.

    Raises:
        OSError: where the disk is full or the folder cannot be written to; the old file is then as it was, and no
            other is left.
        UnicodeEncodeError: for text with half a surrogate pair in it; nothing is then touched.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    final = target(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    # x follows no link, and opens no file that is there, which would not be ours to remove.
    file = open(temporary, "xb")  # noqa: SIM115
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what a process that was killed in the middle of `atomic_write(path, ...)` left in the folder.

    For a caller who knows that nobody else is writing to `path` now.

    Args:
        path: the file as it was given to `atomic_write`.
    """
    final = target(path)
    for leftover in final.parent.glob(f".{glob.escape(final.name)}.{'[0-9a-f]' * 8}.tmp"):
        leftover.unlink(missing_ok=True)


def target(path: str | os.PathLike[str]) -> Path:
    """Return the file that `path` stands for, symbolic links followed; it need not exist.

    Args:
        path: a file, or a symbolic link to one.

    Raises:
        OSError: where links go round in a circle.
    """
    final = Path(os.path.realpath(path))
    if final.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return final
