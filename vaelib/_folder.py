"""A folder of pictures as arrays: each picture is read as it looks, or named with the reason why it can't be.

Pillow opens the files. What it would settle in silence is settled here: transparency, more than 8 bits, rotation, what
colours a number stands for, several pictures in one file, other proportions, and what becomes of those that can't be
read.
"""

import io
import itertools
import os
import re
import stat
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from vaelib._fetch import DataNotFoundError
from vaelib._idx import DataError
from vaelib._notices import warn

__all__ = ["read"]

# What a file's content is compared with. Pillow knows more kinds; some of those take other files for theirs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# A file of such a name claims to be a picture: it is read, or named. Any other that is none is passed over.
SUFFIXES = re.compile(
    r"\.(arw|avif|bmp|cr[23]|dng|gif|hei[cf]|ico|j2k|jfif|jp[2eg]|jpeg|jxl|nef|orf|p[bgnp]m|png|psd|raf|rw2|svg|tga|tiff?"
    r"|webp)",
    re.IGNORECASE,
)
ARCHIVES = re.compile(r"\.(7z|bz2|gz|rar|tar|tgz|xz|zip)", re.IGNORECASE)
BITS, PHOTOMETRIC = 258, 262  # tags of TIFF


def read(
    path: str | os.PathLike[str],
    size: int,
    colour: bool,
    classes: bool | Sequence[str],
    fit: str,
    background: str,
    skip_broken: bool,
) -> dict[str, Any]:
    """Return the fields of `ImageData` for the pictures below a folder; the arguments are those of `data.from_folder`.

    Shapes:
        images float32 ``(N, size, size)``, or ``(N, 3, size, size)`` in colour; labels int64 ``(N,)``.

    Raises:
        DataNotFoundError: where there is no such path.
        DataError: for a bad argument, no picture, or, without skip_broken, pictures that can't be read, by their names.
    """
    folder, wanted = _checked_folder(path), _checked_classes(classes)
    by_class = bool(wanted) or bool(classes)
    ground = _checked_look(size, colour, fit, background)
    found = list(_files(folder))
    images = np.empty((len(found), *ground.shape), np.float32)
    of_class: list[str | None] = []
    seen: set[str] = set()
    broken: list[str] = []
    remarks: list[str] = []
    above: list[tuple[str, ...]] = []  # the folders that each picture lies in
    for file, obstacle in found:
        parts = file.relative_to(folder).parts
        name = "/".join(parts).encode("utf-8", "backslashreplace").decode() or "."
        its_class = unicodedata.normalize("NFC", parts[0]) if by_class and len(parts) > 1 else None
        try:
            picture, problem, said = _try_to_open(file, obstacle, colour, background)
        except _NoPicture:
            continue
        if its_class is not None:
            seen.add(its_class)
        if by_class:
            problem = problem or _misplaced(parts[:-1], wanted)
        if problem or picture is None:
            broken.append(f"{name}: {problem}")
            continue
        remarks += [f"{name}: {each}" for each in said]
        images[len(of_class)] = _fitted(picture, ground, fit)
        of_class.append(its_class)
        above.append(parts[:-1])
    if by_class and not wanted:
        remarks += _too_high(folder, above)
    packed = [file for file, _ in found if ARCHIVES.fullmatch(file.suffix)]
    _report(folder, len(of_class), len(found), broken, remarks, skip_broken, packed)
    names = wanted or sorted(seen)
    labels = [0 if each is None else names.index(each) for each in of_class]
    return {
        "name": folder.resolve().name,
        "images": torch.from_numpy(images[: len(of_class)]),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "classes": tuple(names) if by_class else None,
    }


# What was asked for


def _checked_folder(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"the path is a {type(path).__name__}: give one folder; what lies below it is read too")
    folder = Path(os.path.expanduser(os.fsdecode(path)))
    if not os.fsdecode(path):
        raise DataError("the path is empty: give the folder that the pictures lie in ('.' for this one)")
    if not os.path.exists(folder):  # Path.exists would raise for a folder that must not be looked into
        raise DataNotFoundError(f"there is no folder {folder} (from {Path.cwd()})")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file: give the folder that it lies in (an archive has to be unpacked first)")
    return folder


def _checked_classes(classes: bool | Sequence[str]) -> list[str]:
    """Return the names that were given, in that order; none for True and False."""
    if isinstance(classes, bool | np.bool_):
        return []
    several = isinstance(classes, Iterable) and not isinstance(classes, str)
    names = [unicodedata.normalize("NFC", str(each)) for each in classes] if several else []
    if not names or len(set(names)) < len(names):
        raise DataError(f"classes is {classes!r}: give True, or a list of the subfolders' names, each once")
    return names


def _checked_look(size: int, colour: bool, fit: str, background: str) -> NDArray[np.float32]:
    """Return an image of the background alone."""
    if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
        raise DataError(f"size is {size!r}: give the side of the square in pixels, a whole number from 1 on")
    if not isinstance(colour, bool | np.bool_):
        raise DataError(f"colour is {colour!r}: give True for three channels, or False for grey")
    if fit not in ("crop", "pad", "stretch"):
        raise DataError(f"unknown fit {fit!r}: choose 'crop', 'pad' or 'stretch'")
    try:
        value = ImageColor.getcolor(background, "RGB" if colour else "L")
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"unknown background {background!r}: give a name as 'white', or '#rrggbb'") from error
    shape = (3, int(size), int(size)) if colour else (int(size), int(size))
    level = np.divide(value, 255, dtype=np.float32)
    return np.broadcast_to(level[:, None, None] if colour else level, shape)


# The files


def _files(folder: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """Yield each file below a folder, in the order of names, and what keeps it from being opened, if anything does.

    Links are followed, but not round in a circle. What is hidden by a dot in front of its name is passed over.
    """
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = [each for each in folder.iterdir() if not each.name.startswith(".")]
    except OSError as error:
        yield folder, f"the folder cannot be opened ({error.strerror})"
        return
    # One order on every system: a Mac may spell é as two characters, and no system sorts its folders as another.
    for entry in sorted(entries, key=lambda each: (unicodedata.normalize("NFC", each.name), each.name)):
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            if _claims(entry):
                yield entry, f"cannot be opened ({error.strerror})"
            continue
        if stat.S_ISDIR(mode):
            yield from _files(entry, (*above, here))
        elif stat.S_ISREG(mode):
            yield entry, ""
        elif _claims(entry):  # opening a pipe would wait until somebody writes into it
            yield entry, "is a pipe, a socket or a device"


def _claims(file: Path) -> bool:
    return bool(SUFFIXES.fullmatch(file.suffix))


def _misplaced(folders: tuple[str, ...], wanted: list[str]) -> str:
    """Return what is wrong with the folders that a picture lies in, the first of which is its class; or nothing."""
    names = [unicodedata.normalize("NFC", each) for each in folders]
    if not names:
        return "lies in no subfolder, so that it has no class"
    if not wanted or names[0] in wanted:
        return ""
    depth = next((depth for depth, name in enumerate(names) if name in wanted), 0)
    where = f"; {names[depth]!r} lies in {'/'.join(folders[:depth])}: give that folder as the path" if depth else ""
    return f"its subfolder is not among the classes {wanted}{where}"


def _too_high(folder: Path, above: list[tuple[str, ...]]) -> list[str]:
    """Return a remark where each picture lies in a folder of a class's folder, which may be the class that is meant."""
    if not above or min(map(len, above)) < 2:
        return []
    names = sorted({folders[0] for folders in above})
    inner = []
    for name in names:
        levels = zip(*(folders[:-1] for folders in above if folders[0] == name), strict=False)
        shared = [level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels)]
        inner.append(str(folder.joinpath(*shared)))
    return [
        f"the classes are {names}, and no picture lies in these folders themselves: if the classes lie further down, "
        f"give {' or '.join(inner[:3])}; if they are meant, classes={names}"
    ]


# One picture


class _NoPicture(Exception):
    """A file that does not claim to be a picture, and is none."""


def _try_to_open(file: Path, obstacle: str, colour: bool, background: str) -> tuple[Image.Image | None, str, list[str]]:
    """Return a picture, or why there is none, and what Pillow remarked.

    Raises:
        _NoPicture: for a file that is to be passed over.
    """
    if obstacle:
        return None, obstacle, []
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            picture = _open(file, colour, background)
        # What else is said is for programmers, or of a large picture: one that is twice as large is an error.
        return picture, "", [str(each.message) for each in said if issubclass(each.category, UserWarning)]
    except _NoPicture:
        raise
    except Exception as error:  # Pillow raises whatever a damaged file has led it to
        return None, _reason(error), []


def _open(file: Path, colour: bool, background: str) -> Image.Image:
    """Return a picture as it looks, upright and opaque: of mode "RGB" in colour, else "L"; "F" for more than 8 bits."""
    Image.init()
    try:
        opened = Image.open(file, formats=[each for each in FORMATS if each in Image.OPEN])
    except Exception:
        if not _claims(file):
            raise _NoPicture from None
        if not file.stat().st_size:
            raise DataError("is empty (0 bytes)") from None
        raise
    with opened:
        frames = getattr(opened, "n_frames", 1)
        if frames > 1 and opened.format != "MPO":  # a photo in two versions: the first is the one that is shown
            raise DataError(f"holds {frames} pictures: save the one that you want as a file of its own")
        white, inverted = _scale(opened)
        picture = ImageOps.exif_transpose(opened)  # which loads it
    if white:
        return _deep(picture, white, inverted)
    picture = _in_srgb(picture)
    if picture.has_transparency_data:
        picture = _over(picture.convert("RGBA"), background)
    if picture.mode not in ("1", "L"):
        picture = picture.convert("RGB")  # not every kind becomes grey at once
    picture = picture.convert("RGB" if colour else "L")
    _remark_on_darkness(np.asarray(picture), 255)
    return picture


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Return a picture with the numbers of sRGB, where a profile in it says that its own mean other colours."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=mode) or picture
    except (ImageCms.PyCMSError, OSError):
        warnings.warn("its colour profile can't be read: its colours are taken for those of sRGB", stacklevel=2)
        return picture


def _scale(opened: Image.Image) -> tuple[int, bool]:
    """Return what is white in a picture of more than 8 bits, 0 for others, and whether it is a negative."""
    if opened.mode != "F" and not opened.mode.startswith("I"):
        return 0, False
    tags = opened.tag_v2 if opened.format == "TIFF" else {}  # type: ignore[attr-defined]
    if opened.mode == "I" and tags:
        raise DataError("has 32 bits or a sign, and nobody knows which number is white: save it with 16 bits")
    white = 1 if opened.mode == "F" else 2 ** int(tags.get(BITS, (16,))[0]) - 1
    return white, tags.get(PHOTOMETRIC) == 0


def _deep(picture: Image.Image, white: int, inverted: bool) -> Image.Image:
    """Return a grey picture of more than 8 bits with pixels in [0, 1]."""
    if "transparency" in picture.info:
        raise DataError("is transparent and has more than 8 bits: save it with 8")
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(white)
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"has pixels from {low * white:g} to {high * white:g}: bring them to 0 (black) to {white} (white)"
        )
    _remark_on_darkness(pixels * white, white)
    return Image.fromarray(1 - pixels if inverted else pixels)


def _remark_on_darkness(pixels: NDArray[Any], white: int) -> None:
    """Warn of a picture with few of its bits in use; what is said here is passed on with the file's name."""
    high = pixels.max()
    if pixels.min() < high <= white / 16:  # as 12 bits in a file of 16
        warnings.warn(
            f"no pixel is above {high:g} of {white}: if that is white, multiply the images by {white} / {high:g}",
            stacklevel=2,
        )


def _over(picture: Image.Image, background: str) -> Image.Image:
    """Return a transparent picture as it looks on a ground of one colour."""
    flat = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    opacity, seen = np.asarray(picture)[..., 3], np.asarray(flat)
    if opacity.min() < opacity.max() and (seen == seen[0, 0]).all():
        other = "white" if np.mean(ImageColor.getrgb(background)) < 128 else "black"
        raise DataError(f"is transparent, and nothing of it shows on {background}: background={other!r} shows it")
    if opacity.max() < 16:  # none, or 12 bits in a file of 16
        warnings.warn(
            f"its opacity is at most {opacity.max()} of 255, so that it is {background} all over: remove it, or "
            "save it opaque",
            stacklevel=2,
        )
    return flat


def _fitted(picture: Image.Image, ground: NDArray[np.float32], fit: str) -> NDArray[np.float32]:
    """Return a picture in the size and channels of the ground, which shows where `fit="pad"` leaves bars."""
    (width, height), side = picture.size, ground.shape[-1]
    most, least = max(width, height), min(width, height)
    left, top = (width - least) // 2, (height - least) // 2
    box = (left, top, left + least, top + least) if fit == "crop" else None
    across, down = (max(1, round(side * each / most)) if fit == "pad" else side for each in (width, height))
    pixels = np.asarray(picture.resize((across, down), Image.Resampling.BOX, box), dtype=np.float32)
    pixels = np.clip(pixels, 0, 1) if picture.mode == "F" else pixels / np.float32(255)
    left, top = (side - across) // 2, (side - down) // 2
    image = ground.copy()
    image[..., top : top + down, left : left + across] = np.moveaxis(pixels, 2, 0) if pixels.ndim == 3 else pixels
    return image


# What is said


def _reason(error: Exception) -> str:
    """Return in a few words why a file can't be read."""
    if isinstance(error, UnidentifiedImageError):
        return "is no picture of a kind that can be read here: if it is one, save it as PNG"
    if isinstance(error, Image.DecompressionBombError):
        return f"{error} If it is to be trusted, set PIL.Image.MAX_IMAGE_PIXELS = None first."
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened ({error.strerror})"
    return str(error) or type(error).__name__


def _report(
    folder: Path, n: int, n_files: int, broken: list[str], remarks: list[str], skip_broken: bool, packed: list[Path]
) -> None:
    """Raise or warn about what could not be read, all at once, and raise where there is no picture at all."""
    heading = f"{len(broken)} of {n + len(broken)} pictures in {folder}"
    if broken and not skip_broken:
        lines = [f"{heading} cannot be used:", *broken]
        skip = ", or leave them out with skip_broken=True." if n else "."
        raise DataError("\n  ".join(lines) + "\nMend or remove them" + skip)
    if not n:
        lines = [f"there is no picture in {folder} or its subfolders ({n_files} files looked at)", *broken]
        lines += [f"{each.name} is an archive: unpack it first" for each in packed[:3]]
        raise DataError("\n  ".join(lines))
    if broken or remarks:
        lines = [*([f"{heading} are left out:", *broken] if broken else []), *remarks]
        warn("\n  ".join(lines))
