"""vaelib.data.from_folder: every kind of picture as it looks, or named with the reason; FAULTS line 66."""

import io
import os
import shutil
import struct
import tempfile
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from vaelib import data, figures
from vaelib.data import DataError, DataNotFoundError
from vaelib.training import fit
from vaelib.vae import VAE

RAMP = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17  # 0 to 255
DEEP = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369  # 0 to 65535, the same share of white
SHARE = np.arange(16).reshape(4, 4) / 15
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def luma(colours: np.ndarray) -> np.ndarray:
    """Grey as ITU-R 601 weighs it, in [0, 1]."""
    return colours @ np.array([0.299, 0.587, 0.114]) / 255


def tiff(bits: int, photometric: int, pixels: bytes, kind: int = 1) -> bytes:
    """A grey TIFF of 4x4 pixels: header, one strip, its tags. Kind 1 are whole numbers, 2 signed ones, 3 real ones."""
    tags = {256: 4, 257: 4, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 4, 279: len(pixels), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def read(folder: Path, files: dict[str, bytes], size: int = 4, **options) -> data.ImageData:
    """Write files, folders on the way too, and read the folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return data.from_folder(folder, size, **options)


def grey(level: int = 0) -> bytes:
    return encoded(Image.new("L", (4, 4), level), "PNG")


PEN = np.full((4, 4), 255, dtype=np.uint8)
PEN[1:3, 1] = 0  # what a pen has drawn, black on white


def pen(mode: str) -> Image.Image:
    """The pen on a ground that is transparent, and black or white below that, as programs leave it."""
    ink = np.zeros((4, 4, 4), dtype=np.uint8)
    ink[..., 3] = 255 - PEN
    ink[0, 0, :3] = 255
    return Image.fromarray(ink).convert(mode)


def palette_pen() -> Image.Image:
    """A palette's picture whose colour 1 is transparent, though black."""
    picture = Image.fromarray((PEN // 255).astype(np.uint8)).convert("P")
    picture.putdata([int(each) for each in (PEN // 255).flatten()])
    picture.putpalette([0, 0, 0, 0, 0, 0])
    picture.info["transparency"] = 1
    return picture


# The kinds of picture: a name, the file's content, and the grey pixels that it must give.

FLOAT = (SHARE * 0.75 + 0.1).astype(np.float32)
KINDS: dict[str, tuple[str, bytes, np.ndarray]] = {
    "grey": ("a.png", encoded(Image.fromarray(RAMP), "PNG"), SHARE),
    "upper-case name": ("A.PNG", encoded(Image.fromarray(RAMP), "PNG"), SHARE),
    "another kind than the name says": ("a.jpg", encoded(Image.fromarray(RAMP), "PNG"), SHARE),
    "name without an end": ("IMG 0001", encoded(Image.fromarray(RAMP), "PNG"), SHARE),
    "BMP": ("a.bmp", encoded(Image.fromarray(RAMP), "BMP"), SHARE),
    "WebP": ("a.webp", encoded(Image.fromarray(RAMP).convert("RGB"), "WEBP", lossless=True), SHARE),
    "still GIF": ("a.gif", encoded(Image.fromarray(RAMP), "GIF"), SHARE),
    "colour, as luma": ("a.png", encoded(Image.fromarray(COLOURS), "PNG"), luma(COLOURS)),
    "colour, 16 bits": (
        "a.ppm",
        b"P6 4 4 65535\n" + (COLOURS.astype(">u2") * 257).tobytes(),
        luma(COLOURS),
    ),
    "1 bit": ("a.png", encoded(Image.fromarray(PEN).convert("1"), "PNG"), PEN / 255),
    "palette": ("a.png", encoded(Image.fromarray(PEN).convert("P"), "PNG"), PEN / 255),
    "alpha": ("a.png", encoded(pen("RGBA"), "PNG"), PEN / 255),
    "grey and alpha": ("a.png", encoded(pen("LA"), "PNG"), PEN / 255),
    "palette with alpha": ("a.png", encoded(pen("RGBA").quantize(), "PNG"), PEN / 255),
    "palette with a transparent colour": ("a.png", encoded(palette_pen(), "PNG", transparency=1), PEN / 255),
    "GIF with a transparent colour": ("a.gif", encoded(palette_pen(), "GIF", transparency=1), PEN / 255),
    "grey with a transparent level": (
        "a.png",
        encoded(Image.fromarray(np.where(PEN, 7, 0).astype(np.uint8)), "PNG", transparency=7),
        PEN / 255,
    ),
    "colour with a transparent one": (
        "a.png",
        encoded(
            Image.fromarray(np.where(PEN[..., None], [1, 2, 3], 0).astype(np.uint8)), "PNG", transparency=(1, 2, 3)
        ),
        PEN / 255,
    ),
    "half transparent": ("a.png", encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 51)), "PNG"), np.full((4, 4), 0.8)),
    "all transparent": ("a.png", encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"), np.ones((4, 4))),
    "16 bits, PNG": ("a.png", encoded(Image.fromarray(DEEP), "PNG"), SHARE),
    "16 bits, of mode I in Pillow": ("a.pgm", b"P5 4 4 65535\n" + DEEP.astype(">u2").tobytes(), SHARE),
    "16 bits, TIFF": ("a.tif", tiff(16, 1, DEEP.tobytes()), SHARE),
    "16 bits, big-endian": ("a.tiff", encoded(Image.fromarray(DEEP.astype(">u2")), "TIFF"), SHARE),
    "16 bits, a negative": ("a.tif", tiff(16, 0, DEEP.tobytes()), 1 - SHARE),
    "12 bits": (
        "a.tif",
        tiff(12, 1, b"".join((273 * k << 12 | 273 * (k + 1)).to_bytes(3, "big") for k in range(0, 16, 2))),
        SHARE,
    ),
    "8 bits, a negative": ("a.tif", tiff(8, 0, RAMP.tobytes()), 1 - SHARE),
    "real numbers": ("a.tif", tiff(32, 1, FLOAT.tobytes(), 3), FLOAT),
    "CMYK, JPEG": ("a.jpg", encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"), np.full((4, 4), 0.299)),
    "CMYK, TIFF": ("a.tif", encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 102)), "TIFF"), np.full((4, 4), 0.6)),
    # Lightness 50.2 of 100 is a luminance of 0.186, which sRGB writes as 0.467.
    "LAB, TIFF": ("a.tif", encoded(Image.new("LAB", (4, 4), (128, 128, 128)), "TIFF"), np.full((4, 4), 0.467)),
    "photo in two versions": (
        "a.jpg",
        encoded(Image.new("L", (4, 4), 51), "MPO", save_all=True, append_images=[Image.new("L", (4, 4), 255)]),
        np.full((4, 4), 0.2),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_picture_gives_the_pixels_that_are_seen(tmp_path, kind):
    name, content, expected = KINDS[kind]
    found = read(tmp_path, {name: content})
    assert found.images.shape == (1, 4, 4) and found.images.dtype == torch.float32
    # Eight bits are rounded once, half a level of 255; a luma may be rounded once more.
    np.testing.assert_allclose(found.images[0].numpy(), expected, atol=1.01 / 255)
    if "16 bits" in kind and "colour" not in kind:
        np.testing.assert_allclose(found.images[0].numpy(), expected, atol=1e-6)  # all sixteen bits, in float32
    coloured = data.from_folder(tmp_path, 4, colour=True)
    assert coloured.images.shape == (1, 3, 4, 4) and coloured.images.dtype == torch.float32
    weighed = luma(coloured.images[0].permute(1, 2, 0).numpy() * 255)
    np.testing.assert_allclose(weighed, expected, atol=1.01 / 255)


def test_pixels_of_eight_bits_are_exactly_bytes_over_255_as_those_of_load_are(tmp_path):
    content = {"a.png": encoded(Image.fromarray(RAMP), "PNG"), "b.png": encoded(Image.fromarray(COLOURS), "PNG")}
    images = read(tmp_path, content, colour=True).images.numpy()
    assert np.array_equal(images[0], np.stack([RAMP / np.float32(255)] * 3))  # grey in colour: three channels of it
    assert np.array_equal(images[1], np.moveaxis(COLOURS / np.float32(255), 2, 0))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_whatever_way_its_camera_was_held(tmp_path, orientation, kind):
    upright = np.kron(np.array([[0, 80], [160, 240]], dtype=np.uint8), np.ones((16, 16), dtype=np.uint8))
    turned = {  # as stored, so that the reader's turning gives `upright` back
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(np.ascontiguousarray(turned))
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    picture = picture.convert("RGB") if kind == "WEBP" else picture
    if kind == "TIFF":
        options = {"tiffinfo": {274: orientation}}
    else:
        options["exif"] = exif
    images = read(tmp_path, {f"a.{kind.lower()}": encoded(picture, kind, **options)}, size=2).images
    np.testing.assert_allclose(images[0].numpy(), [[0, 80 / 255], [160 / 255, 240 / 255]], atol=3 / 255)  # JPEG's loss


def test_rotation_and_more_than_eight_bits_go_together(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    content = encoded(Image.fromarray(np.ascontiguousarray(np.rot90(DEEP))), "PNG", exif=exif)
    np.testing.assert_allclose(read(tmp_path, {"a.png": content}).images[0].numpy(), SHARE, atol=1e-6)


# Colour profiles

# Adobe RGB (1998) as its specification gives it: chromaticities of the primaries and of D65, and the exponent 563/256.
ADOBE, D65, EXPONENT = np.array([[0.64, 0.33], [0.21, 0.71], [0.15, 0.06]]), np.array([0.3127, 0.3290]), 563 / 256
SRGB = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]])
D50 = np.array([0.9642, 1.0, 0.8249])


def to_xyz(primaries: np.ndarray) -> np.ndarray:
    """The matrix from linear red, green and blue to XYZ, of which 1, 1, 1 is the white D65."""

    def xyz(place: np.ndarray) -> np.ndarray:
        return np.array([place[0], place[1], 1 - place[0] - place[1]]) / place[1]

    columns = np.stack([xyz(each) for each in primaries], 1)
    return columns * np.linalg.solve(columns, xyz(D65))


def profile(primaries: np.ndarray, exponent: float, description: str) -> bytes:
    """An ICC profile of version 2, laid out as its specification says: three primaries, adapted to D50, an exponent."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    white = to_xyz(primaries).sum(1)
    gain = np.diag((bradford @ D50) / (bradford @ white))
    adapted = np.linalg.inv(bradford) @ gain @ bradford @ to_xyz(primaries)

    def numbers(values: np.ndarray) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * each) for each in values))

    text = description.encode() + b"\0"
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * exponent)) + bytes(2)
    contents = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(79),
        b"wtpt": numbers(D50),
        b"cprt": b"text" + bytes(4) + b"none\0",
        **{name + b"XYZ": numbers(column) for name, column in zip((b"r", b"g", b"b"), adapted.T, strict=True)},
        **{name + b"TRC": curve for name in (b"r", b"g", b"b")},
    }
    table, body, start = struct.pack(">I", len(contents)), b"", 128 + 4 + 12 * len(contents)
    for name, content in contents.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += padded
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *(round(65536 * each) for each in D50))
    return head + bytes(128 - len(head)) + table + body


def shown(colours: np.ndarray) -> np.ndarray:
    """What sRGB writes for numbers of Adobe RGB, from the definitions of both."""
    linear = (colours / 255) ** EXPONENT @ to_xyz(ADOBE).T @ np.linalg.inv(to_xyz(SRGB)).T
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# Within what both can show: the others are clipped.
SOFT = (40 + np.random.default_rng(3).integers(0, 90, (4, 4, 3)) + 60).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_of_a_profile_are_those_that_are_seen(tmp_path, mode):
    picture = Image.fromarray(SOFT).convert(mode)
    content = encoded(picture, "PNG", icc_profile=profile(ADOBE, EXPONENT, "Wide"))
    found = read(tmp_path, {"a.png": content}, colour=True).images[0].permute(1, 2, 0).numpy()
    assert abs(shown(SOFT) - SOFT / 255).max() > 10 / 255  # so much would be wrong
    # Colours are rounded to 8 bits, and matrices and curves in a profile to 16.
    np.testing.assert_allclose(found, shown(SOFT), atol=2 / 255)
    assert np.allclose(data.from_folder(tmp_path, 4).images[0], luma(255 * shown(SOFT)), atol=2 / 255)


def test_a_profile_of_srgb_changes_no_number_and_one_that_is_none_is_remarked_on(tmp_path):
    named = encoded(Image.fromarray(SOFT), "PNG", icc_profile=profile(SRGB, 2.2, "sRGB IEC61966-2.1"))
    found = read(tmp_path / "named", {"a.png": named}, colour=True).images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, SOFT / np.float32(255))
    harmed = encoded(Image.fromarray(SOFT), "PNG", icc_profile=profile(ADOBE, EXPONENT, "Wide")[:200])
    with pytest.warns(UserWarning, match=r"a\.png: its colour profile can't be read"):
        found = read(tmp_path / "harmed", {"a.png": harmed}, colour=True).images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, SOFT / np.float32(255))


# What can't be right is named


def broken(tmp_path: Path, name: str, content: bytes, reason: str) -> str:
    """Check that a bad file beside a good one is named with its reason, and that the remedy leaves the good one."""
    with pytest.raises(DataError, match="1 of 2 pictures") as caught:
        read(tmp_path, {"good.png": grey(), f"deep/{name}": content})
    assert f"deep/{name}: " in str(caught.value) and str(tmp_path) in str(caught.value)
    assert reason in str(caught.value)
    with pytest.warns(UserWarning, match="are left out") as warned:
        assert len(data.from_folder(tmp_path, 4, skip_broken=True)) == 1
    assert f"deep/{name}: " in str(warned[0].message) and reason in str(warned[0].message)
    assert warned[0].filename == __file__
    return str(caught.value)


FRAMES = {"save_all": True, "append_images": [Image.new("L", (4, 4), 9), Image.new("L", (4, 4), 99)]}
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.png", b"", "is empty (0 bytes)"),
    "text": ("a.png", b"this is no picture", "is no picture of a kind that can be read here"),
    "web page": ("a.jpeg", b"<html>not found</html>", "is no picture of a kind"),
    "kind that Pillow lacks": ("a.heic", b"\0\0\0\x18ftypheic", "if it is one, save it as PNG"),
    "drawing": ("a.svg", b"<svg></svg>", "if it is one, save it as PNG"),
    "cut PNG": ("a.png", encoded(NOISE, "PNG")[:700], "truncated"),
    "cut JPEG": ("a.jpg", encoded(NOISE, "JPEG")[:700], "truncated"),
    "cut GIF": ("a.gif", encoded(NOISE, "GIF")[:1200], "truncated"),
    "cut TIFF": ("a.tif", tiff(16, 1, DEEP.tobytes())[:-60], ""),
    "PNG with a flipped bit": (
        "a.png",
        encoded(NOISE, "PNG")[:500] + b"\xaa" + encoded(NOISE, "PNG")[501:],
        "broken data",
    ),
    "header alone": ("a.png", encoded(NOISE, "PNG")[:40], ""),
    "animated GIF": ("a.gif", encoded(Image.new("L", (4, 4)), "GIF", **FRAMES), "holds 3 pictures: save the one"),
    "animated PNG": ("a.png", encoded(Image.new("L", (4, 4)), "PNG", **FRAMES), "holds 3 pictures"),
    "animated WebP": ("a.webp", encoded(Image.new("RGB", (4, 4)), "WEBP", **FRAMES), "holds 3 pictures"),
    "TIFF of several pages": ("a.tif", encoded(Image.new("L", (4, 4)), "TIFF", **FRAMES), "holds 3 pictures"),
    "32 bits": ("a.tif", tiff(32, 1, RAMP.astype("<i4").tobytes(), 2), "save it with 16 bits"),
    "16 bits with a sign": ("a.tif", tiff(16, 1, RAMP.astype("<i2").tobytes(), 2), "save it with 16 bits"),
    "real numbers to 255": ("a.tif", tiff(32, 1, RAMP.astype("<f4").tobytes(), 3), "from 0 to 255: bring them to 0"),
    "not a number": ("a.tif", tiff(32, 1, np.full(16, np.nan, "<f4").tobytes(), 3), "from nan to nan"),
    "white pen on nothing": (
        "a.png",
        encoded(Image.fromarray(np.dstack([np.full((4, 4, 3), 255, np.uint8), 255 - PEN])), "PNG"),
        "nothing of it shows on white: background='black' shows it",
    ),
    "16 bits with a transparent level": (
        "a.png",
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 0, 0, 0, 0))
        + chunk(b"tRNS", b"\0\0")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)))
        + chunk(b"IEND", b""),
        "save it with 8",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_can_not_be_read_is_named_with_its_reason_and_left_out_only_on_request(tmp_path, kind):
    broken(tmp_path, *BROKEN[kind])


def test_all_that_can_not_be_read_is_named_at_once(tmp_path):
    files = {f"{i:02}.png": grey() if i % 2 else b"" for i in range(20)}
    with pytest.raises(DataError, match="10 of 20 pictures") as caught:
        read(tmp_path, files)
    assert [name for name in files if f"{name}: is empty" in str(caught.value)] == list(files)[::2]
    with pytest.warns(UserWarning, match="10 of 20 pictures"):
        assert len(data.from_folder(tmp_path, skip_broken=True)) == 10
    for name in list(files)[1::2]:
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="there is no picture in") as caught:
        data.from_folder(tmp_path, skip_broken=True)
    assert "00.png: is empty" in str(caught.value)


def test_the_remedy_for_a_white_pen_is_obeyed_and_shows_it(tmp_path):
    name, content, _ = BROKEN["white pen on nothing"]
    assert np.array_equal(read(tmp_path, {name: content}, background="black").images[0].numpy(), 1 - PEN / 255)
    black = tmp_path / "black"
    with pytest.raises(DataError, match="nothing of it shows on #000000: background='white'"):
        read(black, {"a.png": encoded(pen("LA"), "PNG")}, background="#000000")
    assert np.array_equal(data.from_folder(black, 4, background="white").images[0].numpy(), PEN / 255)


def test_a_picture_of_too_many_pixels_is_named_and_read_where_the_reader_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    message = broken(tmp_path, "bomb.png", encoded(Image.new("L", (15, 15), 51), "PNG"), "225 pixels")
    assert "set PIL.Image.MAX_IMAGE_PIXELS = None" in message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert len(data.from_folder(tmp_path)) == 2


def test_a_large_photo_that_is_no_bomb_is_read_without_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(tmp_path, {"a.png": encoded(Image.new("L", (12, 12)), "PNG")})) == 1  # 144: Pillow would warn


def test_what_pillow_remarks_is_passed_on_with_the_files_name(tmp_path):
    damaged = encoded(Image.new("L", (4, 4), 51), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01")
    with pytest.warns(UserWarning, match=r"^.*a\.jpg: .*EXIF") as caught:
        assert read(tmp_path, {"a.jpg": damaged}).images.mean() == pytest.approx(0.2)
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095)])
def test_fewer_bits_in_a_file_of_sixteen_are_remarked_on_and_the_remedy_leads_to_the_right_pixels(
    tmp_path, bits, white
):
    few = np.round(SHARE * white).astype(np.uint16)
    with pytest.warns(UserWarning, match=rf"a\.png: .* {white} of 65535: .* multiply the images by 65535 / {white}"):
        found = read(tmp_path, {"a.png": encoded(Image.fromarray(few), "PNG")})
    np.testing.assert_allclose(found.images[0].numpy() * 65535 / white, few / white, atol=1e-6)


COLOURED = np.dstack([RAMP, RAMP.T, RAMP[::-1]])


def coloured_png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, RGB or RGBA, which Pillow reads and does not write."""
    kind = {3: 2, 4: 6}[pixels.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_twelve_bits_of_sixteen_are_remarked_on_in_colour_too_and_the_remedy_leads_to_the_right_pixels(tmp_path):
    few = coloured_png(COLOURED.astype(np.uint16) * 16)  # white is 4080, of which Pillow reads the upper byte, 15
    with pytest.warns(UserWarning, match=r"a\.png: no pixel is above 15 of 255: .* multiply the images by 255 / 15"):
        found = read(tmp_path, {"a.png": few}, colour=True).images[0] * 255 / 15
    # 1/15: as many levels as are left.
    np.testing.assert_allclose(found.numpy(), np.moveaxis(COLOURED, 2, 0) / 255, atol=1 / 15)
    with pytest.warns(UserWarning, match=r"a\.png: no pixel is above 1\d of 255"):
        data.from_folder(tmp_path, 4)


@pytest.mark.parametrize(
    "files",
    [
        {"a.png": coloured_png(COLOURED.astype(np.uint16) * 257)},
        {"a.png": encoded(Image.fromarray(RAMP // 15), "PNG")},
        {"a.png": grey(3)},
    ],
)
def test_sixteen_bits_in_full_and_dark_pictures_are_read_without_a_word(tmp_path, files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path, files, colour=True)


def test_a_picture_of_which_nothing_can_be_seen_is_remarked_on(tmp_path):
    nothing = np.dstack([RAMP, RAMP, RAMP, np.zeros_like(RAMP)])
    hardly = np.dstack([COLOURED, RAMP]).astype(np.uint16) * 16  # 12 bits of 16, those of the opacity too
    files = {"a.png": encoded(Image.fromarray(nothing), "PNG"), "b.png": coloured_png(hardly)}
    with pytest.warns(UserWarning) as caught:
        assert read(tmp_path, files).images[0].min() == 1
    for name, most in (("a", 0), ("b", 15)):
        assert f"{name}.png: its opacity is at most {most} of 255, so that it is white" in str(caught[0].message)
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    Image.open(tmp_path / "a.png").convert("RGB").save(tmp_path / "b.png")  # obeyed: one is opaque, one removed
    (tmp_path / "a.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(data.from_folder(tmp_path, 4).images[0], SHARE, atol=1e-6)


# Which files


def test_what_is_no_picture_and_does_not_claim_to_be_one_is_passed_over(tmp_path):
    files = {
        "notes.txt": b"P5 notes",
        "labels.csv": b"a,1",
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "README": b"",
    }
    hidden = {".DS_Store": b"\0\0\0\1Bud1", "._a.png": b"\0\5\x16\7", ".hidden/b.png": grey(), ".c.png": b""}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(tmp_path, {"a.png": grey(), **files, **hidden})) == 1


def test_pictures_are_read_from_all_subfolders_in_the_order_of_their_names_on_every_system(tmp_path):
    names = ["B/2.png", "B/10.png", "Z.png", "a.png", "a/1.png", "a/b/c/1.png", "a/z.png", "é.png", "数据.png"]
    for i, name in enumerate(reversed(names)):  # the disk may keep them in any order
        read(tmp_path, {name: grey(len(names) - 1 - i)})
    found = (data.from_folder(tmp_path, 1).images.flatten() * 255).round().int().tolist()
    assert [names[k] for k in found] == sorted(names, key=lambda name: name.split("/"))


def test_accents_that_a_mac_spells_in_two_characters_change_no_order_and_no_class(tmp_path):
    apart, together = unicodedata.normalize("NFD", "é"), unicodedata.normalize("NFC", "é")
    found = read(tmp_path, {f"{apart}/1.png": grey(0), "f/1.png": grey(51), "z/1.png": grey(102)}, classes=True)
    assert found.classes == ("f", "z", together)
    assert read(tmp_path, {}, classes=[together, "f", "z"]).labels.tolist() == [1, 2, 0]


def test_the_same_name_in_two_subfolders_is_two_pictures(tmp_path):
    found = read(tmp_path, {"cat/1.png": grey(0), "dog/1.png": grey(255)}, classes=True)
    assert found.labels.tolist() == [0, 1] and found.images.mean(dim=(1, 2)).tolist() == [0, 1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_a_socket_and_a_link_to_nowhere_are_named_and_not_waited_for(tmp_path):
    read(tmp_path, {"good.png": grey()})
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="3 of 4 pictures") as caught:
        data.from_folder(tmp_path)
    for line in ("pipe.png: is a pipe", "lost.png: cannot be opened (No such file", "round.png: cannot be opened"):
        assert line in str(caught.value)


def test_links_to_files_and_folders_are_followed_but_not_round_in_a_circle(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    read(elsewhere, {"inner/1.png": grey(51)})
    folder = tmp_path / "folder"
    read(folder, {"a/1.png": grey(0)})
    try:
        (folder / "link.png").symlink_to(elsewhere / "inner" / "1.png")
        (folder / "b").symlink_to(elsewhere)
        (folder / "a" / "up").symlink_to(folder)
        (elsewhere / "back").symlink_to(folder / "a")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.warns(UserWarning, match=r"link\.png: lies in no subfolder"):
        found = data.from_folder(folder, classes=["a", "b"], skip_broken=True)
    assert found.labels.tolist() == [0, 1, 1]  # a's own; b's own and, through b, a's once more
    assert len(data.from_folder(folder)) == 4


@contextmanager
def mortal() -> Iterator[Path]:
    """A folder to work in without root's power to open everything; Pillow is loaded before."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    read(folder, {"warm/up.png": grey()})
    user = os.geteuid()
    try:
        yield folder
    finally:
        os.seteuid(user)
        for each in folder.rglob("*"):
            each.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are another matter here")
def test_files_and_folders_that_may_not_be_opened_are_named():
    with mortal() as folder:
        read(folder, {"shut/1.png": grey(), "mine.png": grey(), "mine.txt": b"no picture"})
        for name in ("shut", "mine.png", "mine.txt"):
            (folder / name).chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)
        with pytest.raises(DataError, match="2 of 3 pictures") as caught:
            data.from_folder(folder)
        assert "shut: the folder cannot be opened (Permission denied)" in str(caught.value)
        assert "mine.png: cannot be opened (Permission denied)" in str(caught.value)
        with pytest.warns(UserWarning, match="shut: "):
            assert len(data.from_folder(folder, skip_broken=True)) == 1


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_read_and_can_be_printed(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(grey(51))
        (tmp_path / os.fsdecode(b"caf\xea.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this disk takes text alone for names")
    with pytest.raises(DataError, match=r"caf\\udcea\.png: is empty") as caught:
        data.from_folder(tmp_path)
    str(caught.value).encode("utf-8")
    with pytest.warns(UserWarning, match="left out"):
        assert data.from_folder(tmp_path, skip_broken=True).images.mean() == pytest.approx(0.2)


def test_no_picture_at_all_is_an_error_and_one_is_enough(tmp_path):
    for files in ({}, {"notes.txt": b"text"}, {"sub/.DS_Store": b""}):
        with pytest.raises(DataError, match="there is no picture in") as caught:
            read(tmp_path, files)
        assert str(tmp_path) in str(caught.value)
    assert read(tmp_path, {"one.png": grey()}).images.shape == (1, 4, 4)


def test_a_path_that_is_no_folder_is_named_with_what_to_give(tmp_path, monkeypatch):
    picture = tmp_path / "one.png"
    picture.write_bytes(grey())
    with pytest.raises(DataNotFoundError, match=r"there is no folder .*nowhere"):
        data.from_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"one\.png is a file: give the folder that it lies in"):
        data.from_folder(picture)
    assert len(data.from_folder(picture.parent)) == 1
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="the path is empty"):
        data.from_folder("")
    assert [data.from_folder(each).name for each in (".", str(tmp_path), tmp_path)] == [tmp_path.name] * 3
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("USERPROFILE", str(tmp_path.parent))
    assert len(data.from_folder(f"~/{tmp_path.name}")) == 1
    with pytest.raises(TypeError, match="NoneType"):
        data.from_folder(None)
    with pytest.raises(TypeError, match="the path is a list: give one folder; what lies below it is read too"):
        data.from_folder([tmp_path, tmp_path])
    assert len(data.from_folder(tmp_path)) == 1


# Classes


def test_subfolders_are_classes_where_they_are_asked_for_and_their_names_are_kept(tmp_path):
    files = {"dog/1.png": grey(1), "cat/b/2.png": grey(2), "cat/1.png": grey(3), "empty/.keep": b""}
    found = read(tmp_path, files, classes=True)
    assert found.classes == ("cat", "dog") and found.labels.tolist() == [0, 0, 1]
    assert found.labels.dtype == torch.int64
    assert (found.images[:, 0, 0] * 255).round().tolist() == [3, 2, 1]
    plain = data.from_folder(tmp_path, 4)
    assert plain.classes is None and plain.labels.tolist() == [0, 0, 0]


def test_a_list_of_classes_gives_two_folders_the_same_labels(tmp_path):
    read(tmp_path / "train", {"cat/1.png": grey(), "dog/1.png": grey()})
    test = read(tmp_path / "test", {"dog/1.png": grey()}, classes=["dog", "cat"])
    assert test.labels.tolist() == [0] and test.classes == ("dog", "cat")
    assert data.from_folder(tmp_path / "train", classes=("dog", "cat")).labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"dog/1\.png: its subfolder is not among the classes"):
        data.from_folder(tmp_path / "train", classes=["cat", "dgo"])
    assert data.from_folder(tmp_path / "train", classes=["cat", "dog"]).classes == ("cat", "dog")  # obeyed


def test_a_picture_without_a_class_is_named(tmp_path):
    with pytest.raises(DataError, match=r"1 of 2 pictures.*\n.*a\.png: lies in no subfolder"):
        read(tmp_path, {"a.png": grey(), "cat/1.png": grey()}, classes=True)


def test_a_class_of_which_nothing_could_be_read_keeps_its_number(tmp_path):
    read(tmp_path, {"z/1.png": grey()})
    with pytest.warns(UserWarning, match="a/1.png: is empty"):
        found = read(tmp_path, {"a/1.png": b""}, classes=True, skip_broken=True)
    assert found.classes == ("a", "z") and found.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("top", "inner"),
    [("train", ["{}/test", "{}/train"]), ("pets", ["{}/pets"]), ("pets/images", ["{}/pets/images"])],
)
def test_classes_one_level_too_high_are_remarked_on_with_the_folder_to_give(tmp_path, top, inner):
    tops = ["train", "test"] if top == "train" else [top]
    files = {f"{each}/{its_class}/1.png": grey() for each in tops for its_class in ("cat", "dog")}
    inner = [each.format(tmp_path) for each in inner]
    with pytest.warns(UserWarning, match=rf"if the classes lie further down, give {' or '.join(inner)};") as caught:
        found = read(tmp_path, files, classes=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for folder in inner:
            assert data.from_folder(folder, classes=True).classes == ("cat", "dog")
        meant = eval(str(caught[0].message).rpartition("classes=")[2])
        assert data.from_folder(tmp_path, classes=meant).classes == found.classes
        read(tmp_path, {f"{tops[0]}/1.png": grey()})
        assert data.from_folder(tmp_path / tops[0].partition("/")[0]).classes is None


def test_pictures_of_a_class_in_folders_of_its_own_are_read_without_a_word(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path, {"cat/2023/1.png": grey(), "cat/1.png": grey(), "dog/1.png": grey()}, classes=True)


def test_named_classes_further_down_are_found_by_the_remedy_and_no_other_is_offered(tmp_path):
    files = {"zip/pets/cat/1.png": grey(), "zip/pets/dog/1.png": grey()}
    with pytest.raises(DataError, match="'cat' lies in zip/pets: give that folder as the path") as caught:
        read(tmp_path, files, classes=["cat", "dog"])
    assert "skip_broken" not in str(caught.value)  # which would leave nothing
    assert data.from_folder(tmp_path / "zip/pets", classes=["cat", "dog"]).labels.tolist() == [0, 1]


# Size and proportions

WIDE = np.repeat([[0, 0, 51, 102, 153, 204, 255, 255]], 4, axis=0).astype(np.uint8)  # 4 rows, 8 columns


@pytest.mark.parametrize("mode", ["L", "deep"])
def test_other_proportions_are_cropped_padded_or_stretched_as_asked(tmp_path, mode):
    picture = Image.fromarray(WIDE if mode == "L" else WIDE.astype(np.uint16) * 257)
    read(tmp_path, {"wide.png": encoded(picture, "PNG")})
    turned = encoded(picture.transpose(Image.Transpose.TRANSPOSE), "PNG")
    read(tmp_path, {"zhigh.png": turned})
    row = {
        "crop": [51, 102, 153, 204],
        "stretch": [0, 76.5, 178.5, 255],
    }
    for fit_by, expected in row.items():
        wide, high = data.from_folder(tmp_path, 4, fit=fit_by).images.numpy() * 255
        np.testing.assert_allclose(wide, np.tile(expected, (4, 1)), atol=0.51)
        np.testing.assert_allclose(high, np.tile(expected, (4, 1)).T, atol=0.51)
    for background, level in (("white", 255), ("black", 0), ("#333333", 51)):
        wide, high = data.from_folder(tmp_path, 4, fit="pad", background=background).images.numpy() * 255
        bar, middle = np.full(4, level), np.array(row["stretch"])
        np.testing.assert_allclose(wide, [bar, middle, middle, bar], atol=0.51)
        np.testing.assert_allclose(high, wide.T, atol=0.51)
    assert torch.equal(data.from_folder(tmp_path, 4).images, data.from_folder(tmp_path, 4, fit="crop").images)


def test_bars_have_the_backgrounds_colour(tmp_path):
    read(tmp_path, {"wide.png": encoded(Image.fromarray(WIDE), "PNG")})
    images = data.from_folder(tmp_path, 4, fit="pad", background="red", colour=True).images
    assert images[0, :, 0].T.tolist() == [[1, 0, 0]] * 4
    grey_bar = data.from_folder(tmp_path, 4, fit="pad", background="red").images[0, 0]
    np.testing.assert_allclose(grey_bar.numpy(), 0.299, atol=1 / 255)


@pytest.mark.parametrize("size", [1, 3, 28, np.int64(5)])
def test_every_picture_gets_the_size_asked_for_and_keeps_its_mean(tmp_path, size):
    content = {
        f"{w}x{h}.png": encoded(Image.new("L", (w, h), 51), "PNG") for w, h in ((1, 1), (1, 50), (40, 3), (64, 64))
    }
    for fit_by in ("crop", "pad", "stretch"):
        images = read(tmp_path, content, size=size, fit=fit_by, background="#333").images
        assert images.shape == (4, size, size)
        np.testing.assert_allclose(images.numpy(), 0.2, atol=1e-6)


def test_smaller_pictures_are_averages_of_the_pixels(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (12, 12), dtype=np.uint8)
    images = read(tmp_path, {"a.png": encoded(Image.fromarray(noise), "PNG")}, size=4).images
    means = noise.reshape(4, 3, 4, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(images[0].numpy(), means, atol=1.01 / 255)  # rows and columns are each rounded once


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0: .* whole number from 1"),
        ({"size": -3}, "size is -3"),
        ({"size": 28.0}, "size is 28.0"),
        ({"size": True}, "size is True"),
        ({"size": "28"}, "size is '28'"),
        ({"size": (28, 28)}, r"size is \(28, 28\)"),
        ({"size": None}, "size is None"),
        ({"colour": "grey"}, "colour is 'grey': give True"),
        ({"colour": None}, "colour is None"),
        ({"fit": "squeeze"}, "'squeeze': choose 'crop', 'pad' or 'stretch'"),
        ({"background": "no colour"}, "'no colour': give a name as 'white'"),
        ({"background": None}, "background None"),
        ({"classes": "cat"}, "classes is 'cat': give True, or a list"),
        ({"classes": ["cat", "cat"]}, "each once"),
        ({"classes": []}, r"classes is \[\]"),
        ({"classes": None}, "classes is None"),
    ],
)
def test_arguments_that_mean_nothing_are_refused_before_a_file_is_read(tmp_path, options, message):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=message):
        data.from_folder(tmp_path, **options)


# What it is for


def test_images_of_a_folder_are_looked_at_divided_and_trained_on(tmp_path):
    files = {f"{i % 2}/{i}.png": grey(10 * i) for i in range(20)}
    found = read(tmp_path, files, classes=True)
    figures.image_grid(found.subset(10))
    figures.image_grid(data.from_folder(tmp_path, 4, colour=True).subset(10))
    plt.close("all")
    fitting, validation = data.train_validation_split(found, 4)
    assert validation.classes == ("0", "1")
    vae = VAE((1, 4, 4), (8,), 2)
    fit(vae, fitting, epochs=1, validation=validation, progress=False, device="cpu")
    fit(VAE((3, 4, 4), (8,), 2), data.from_folder(tmp_path, 4, colour=True), epochs=1, progress=False, device="cpu")


def test_a_folder_of_every_kind_at_once_gives_each_picture_in_its_place_and_names_each_that_is_none(tmp_path):
    files, wanted, lost = {}, [], []
    for i in range(300):
        known, bad = list(KINDS.items()), list(BROKEN.items())
        is_bad = i % 10 == 9
        kind, (name, content, expected) = bad[i // 10 % len(bad)] if is_bad else known[i % len(known)]
        end = Path(name).suffix.lower() or ".png"
        files[f"{i:03}{end}"] = content
        if is_bad:
            lost.append(f"{i:03}{end}: ")
        else:
            wanted.append((kind, expected))
    with pytest.raises(DataError, match="30 of 300 pictures") as caught:
        read(tmp_path, files, colour=True)
    assert all(each in str(caught.value) for each in lost)
    with pytest.warns(UserWarning, match="30 of 300 pictures"):
        found = data.from_folder(tmp_path, 4, colour=True, skip_broken=True).images
    assert found.shape == (270, 3, 4, 4) and found.isfinite().all() and found.min() >= 0 and found.max() <= 1
    for image, (kind, expected) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(luma(image.permute(1, 2, 0).numpy() * 255), expected, atol=1.01 / 255, err_msg=kind)


@pytest.mark.parametrize("name", ["pictures.zip", "deep/pictures.tar.gz"])
def test_an_archive_in_a_folder_without_pictures_is_said_to_be_one(tmp_path, name):
    with pytest.raises(
        DataError, match=f"there is no picture in.*\n  {Path(name).name} is an archive: unpack it first"
    ):
        read(tmp_path, {name: b"PK"})
    assert len(read(tmp_path, {"one.png": grey()})) == 1  # beside a picture it is passed over
