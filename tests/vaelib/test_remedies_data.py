"""Each error of vaelib.data that names a remedy: the remedy is obeyed as a reader would, and then it works."""

import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from tests.vaelib.test_data import (
    GOOD,
    IMAGES,
    LABELS,
    cache,
    check_is_small,
    idx,
    load_small,
    locate_small,
    own,
    reply,
    right_files,
    server,
    small_source,
    snapshot,
)
from vaelib import data
from vaelib.__main__ import main
from vaelib._fetch import Source
from vaelib._sets import SETS
from vaelib.data import DataError, DataNotFoundError, ImageData
from vaelib.evaluation import mean_elbo
from vaelib.vae import VAE

__all__ = ["cache", "own"]  # fixtures


def refusal(source: Source, kind: type[DataError] = DataError) -> str:
    with pytest.raises(kind) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what was set aside
        load_small(source, "train")
    return str(caught.value)


def command_in(message: str) -> list[str]:
    """The arguments of the command that a message names."""
    (command,) = re.findall(r"python -m vaelib (data \w+)", message)
    return shlex.split(command)


def run_command(message: str, source: Source) -> int:
    with mock.patch.dict(SETS, small=source):
        return main(command_in(message))


def put_the_files_of(message: str, folder: Path) -> None:
    """Put the files that a message names, from where it says, into a folder."""
    (address,) = re.findall(r"[Pp]ut the files of (http\S+/)", message)
    (names,) = re.findall(r"not at hand: (\S+) and (\S+) are needed", message)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with urllib.request.urlopen(f"{address}{name}") as answer:
            (folder / name).write_bytes(answer.read())


# VAELIB_DATA is set and lacks the files: what it says must not end in the same error again


def test_files_put_where_the_message_says_are_found(own):
    for name in (IMAGES, LABELS):
        (own / f"{name}.gz").unlink()
    with server(right_files) as (mirror, asked):
        message = refusal(small_source(mirror), DataNotFoundError)
        assert asked == []
        assert f"{own} does not hold both" in message
        put_the_files_of(message, own)
    check_is_small(load_small(small_source(), "train"))


def test_without_vaelib_data_the_files_are_fetched_when_they_are_needed(own, monkeypatch):
    (own / f"{LABELS}.gz").unlink()
    with server(right_files) as (mirror, _):
        assert "unset VAELIB_DATA: they are then fetched" in refusal(small_source(mirror), DataNotFoundError)
        monkeypatch.delenv("VAELIB_DATA")
        check_is_small(load_small(small_source(mirror), "train"))


def test_without_vaelib_data_the_command_that_is_named_fetches_them_at_once(own, monkeypatch, capsys):
    (own / f"{LABELS}.gz").unlink()
    with server(right_files) as (mirror, _):
        message = refusal(small_source(mirror), DataNotFoundError)
        monkeypatch.delenv("VAELIB_DATA")
        assert run_command(message, small_source(mirror)) == 0
    assert "small train: 20 x 4 x 3 images, verified" in capsys.readouterr().out
    check_is_small(load_small(small_source(), "train"))  # no server is left


def test_the_command_line_says_the_same_in_one_line_and_it_helps_there_too(own, monkeypatch, capsys):
    (own / f"{LABELS}.gz").unlink()
    with server(right_files) as (mirror, _), mock.patch.dict(SETS, small=small_source(mirror)):
        assert main(["data", "small"]) == 1
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and "unset VAELIB_DATA" in message
        monkeypatch.delenv("VAELIB_DATA")
        assert main(command_in(message)) == 0


# A bad file in the reader's own folder


def _fifo(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(path)


BAD = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(GOOD[IMAGES][:100]),
    "truncated gzip": lambda path: path.write_bytes(gzip.compress(GOOD[IMAGES])[:-9]),
    "damaged gzip": lambda path: path.write_bytes(b"\x1f\x8b" + bytes(40)),
    "web page": lambda path: path.write_bytes(b"<html>sign in</html>"),
    "labels": lambda path: path.write_bytes(GOOD[LABELS]),
    "of the test set": lambda path: path.write_bytes(GOOD["test-images"]),
    "trailing bytes": lambda path: path.write_bytes(GOOD[IMAGES] + b"\0"),
    "another content": lambda path: path.write_bytes(GOOD[IMAGES][:-1] + bytes([GOOD[IMAGES][-1] ^ 1])),
    "no IDX": lambda path: path.write_bytes(b"notes of my own"),
    "a folder": Path.mkdir,
    "a pipe": _fifo,  # which nobody writes into: opening it would wait for ever
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_bad_file_of_ones_own_is_mended_as_the_message_says(own, monkeypatch, kind, suffix):
    bad = own / f"{IMAGES}{suffix}"
    bad.unlink(missing_ok=True)
    BAD[kind](bad)
    with server(right_files) as (mirror, asked):
        message = refusal(small_source(mirror))
        assert str(bad) in message and asked == []
        with monkeypatch.context() as unset:
            unset.delenv("VAELIB_DATA")  # the second of its two remedies
            check_is_small(load_small(small_source(mirror), "train"))
        (address,) = re.findall(r"remove this file, and put (\S+\.gz) in its place", message)  # mirrors have no others
        bad.rmdir() if bad.is_dir() else bad.unlink()
        with urllib.request.urlopen(address) as answer:
            (own / address.rpartition("/")[2]).write_bytes(answer.read())
    check_is_small(load_small(small_source(), "train"))


def test_files_that_were_swapped_are_right_when_they_are_swapped_again(own):
    one, two = own / f"{IMAGES}.gz", own / f"{LABELS}.gz"

    def swap() -> None:
        one.rename(own / "aside")
        two.rename(one)
        (own / "aside").rename(two)

    swap()
    assert re.search(rf"were ({IMAGES} and {LABELS}|{LABELS} and {IMAGES}) swapped\?", refusal(small_source()))
    swap()
    check_is_small(load_small(small_source(), "train"))


# No network


def test_with_a_network_the_command_that_is_named_fetches_the_files(cache):
    up = threading.Event()
    with server(lambda handler: right_files(handler) if up.is_set() else reply(handler, b"", 503)) as (mirror, _):
        message = refusal(small_source(mirror), DataNotFoundError)
        up.set()
        assert run_command(message, small_source(mirror)) == 0
    check_is_small(load_small(small_source(), "train"))


def test_without_a_network_files_in_a_folder_that_vaelib_data_names_are_read(cache, tmp_path, monkeypatch):
    with server(right_files) as (elsewhere, _):
        message = refusal(small_source("http://127.0.0.1:9/", "http://127.0.0.1:9/files/"), DataNotFoundError)
        (name,) = re.findall(r"in a folder named (\w+)", message)
        # Fetched on another machine, from the address that is named.
        put_the_files_of(message.replace("http://127.0.0.1:9/files/", elsewhere), tmp_path / "stick" / name)
    monkeypatch.setenv("VAELIB_DATA", str(tmp_path / "stick"))  # the folder that contains it
    check_is_small(load_small(small_source(), "train"))


def test_vaelib_cache_chooses_where_downloads_are_kept(cache, tmp_path, monkeypatch):
    assert "VAELIB_CACHE chooses another folder" in refusal(small_source(), DataNotFoundError)
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "other"))
    with server(right_files) as (mirror, _):
        check_is_small(load_small(small_source(mirror), "train"))
    assert set(snapshot(tmp_path / "other" / "small")) == {IMAGES, LABELS}


def test_a_line_that_is_slow_but_answers_is_waited_for(cache):
    def drip(handler):
        body = gzip.compress(GOOD[handler.path.strip("/").removesuffix(".gz")], compresslevel=0)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for start in range(0, len(body), 4500):
            handler.wfile.write(body[start : start + 4500])
            handler.wfile.flush()
            time.sleep(1.0)

    long = np.random.default_rng(2).integers(0, 256, (20, 30, 30), dtype=np.uint8)
    with mock.patch.dict(GOOD, {IMAGES: idx(long)}), server(drip) as (mirror, _):
        source = small_source(mirror, timeout=2.5)
        images, labels = source.splits["train"]
        larger = type(images)(IMAGES, long.shape, images.sha256)
        source = Source("small", {**source.splits, "train": (larger, labels)}, source.mirrors, source.timeout)
        assert load_small(source, "train").images.shape == (20, 30, 30)  # 18 kB in 5 s: twice the time-out in all


# A cache that can't be used


def unusable(tmp_path: Path, how: str) -> Path:
    """Make a cache that can't be used, for root neither, and return its folder."""
    folder = tmp_path / "unusable" / "small"
    if how == "a file in its place":
        folder.parent.write_bytes(b"")
    elif how == "a folder in place of a file":
        (folder / IMAGES).mkdir(parents=True)
    elif how == "a pipe in place of a file":
        folder.mkdir(parents=True)
        _fifo(folder / f"{IMAGES}.gz")
    return folder


@pytest.mark.parametrize("how", ["a file in its place", "a folder in place of a file", "a pipe in place of a file"])
def test_another_cache_helps_where_this_one_can_not_be_used_and_the_fallback_is_taken(
    cache, tmp_path, monkeypatch, how
):
    monkeypatch.setenv("VAELIB_CACHE", str(unusable(tmp_path, how).parent))
    with server(right_files) as (mirror, asked):
        message = refusal(small_source(mirror), DataNotFoundError)
        assert "set VAELIB_CACHE to a folder that can be read and written" in message and asked == []
        with pytest.warns(UserWarning, match="VAELIB_CACHE"):
            assert load_small(small_source(mirror), "train", fallback="digits").name == "digits"
        monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "other"))
        check_is_small(load_small(small_source(mirror), "train"))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are another matter here")
@pytest.mark.parametrize(
    "how", ["folder unreadable", "file unreadable", "folder unwritable", "bad file, folder unwritable"]
)
def test_a_cache_without_the_permissions_is_named_with_the_variable_that_helps(how, monkeypatch):
    monkeypatch.delenv("VAELIB_DATA", raising=False)
    top, user = Path(tempfile.mkdtemp()), os.geteuid()
    top.chmod(0o777)
    try:
        folder = top / "cache" / "small"
        folder.mkdir(parents=True)
        if how == "file unreadable":
            (folder / IMAGES).write_bytes(GOOD[IMAGES])
            (folder / IMAGES).chmod(0)
        elif how.startswith("bad"):
            (folder / IMAGES).write_bytes(b"damaged")
        folder.chmod(0 if how == "folder unreadable" else 0o555)
        monkeypatch.setenv("VAELIB_CACHE", str(folder.parent))
        with server(right_files) as (mirror, _):
            monkeypatch.setenv("VAELIB_CACHE", str(top / "warm"))
            load_small(small_source(mirror), "test")  # what is imported late is imported now, as root
            shutil.rmtree(top / "warm")
            monkeypatch.setenv("VAELIB_CACHE", str(folder.parent))
            if user == 0:
                os.seteuid(65534)
            message = refusal(small_source(mirror), DataNotFoundError)
            assert "Permission denied; set VAELIB_CACHE to a folder that can be read and written" in message
            monkeypatch.setenv("VAELIB_CACHE", str(top / "other"))
            check_is_small(load_small(small_source(mirror), "train"))
    finally:
        os.seteuid(user)
        shutil.rmtree(top)


# No home folder: a process of a user whom the system does not know, and no HOME

NO_HOME = """
import os, sys
from tests.vaelib import test_data
import pooch, sklearn.datasets, tqdm, requests, urllib3  # before the user changes: they may lie in a home folder
if {uid}:
    os.setgroups([]), os.setgid({uid}), os.setuid({uid})
try:
    if os.path.expanduser("~") != "~":
        sys.exit("there is a home folder")
    print(test_data.load_small(test_data.small_source({mirror!r}), "train", fallback={fallback!r}).name)
except test_data.DataNotFoundError as error:
    print(error)
"""


def homeless(mirror: str, fallback: str | None = None, **environment: str) -> str:
    """Return what a process prints that loads with no HOME, as a user without an entry where that can be had."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can become a user whom the system does not know")
    root = Path(__file__).resolve().parents[2]
    folders = {folder for path in (root, Path(sys.prefix)) for folder in (path, *path.parents)}
    if closed := sorted(str(folder) for folder in folders if not folder.stat().st_mode & 0o001):
        pytest.skip(f"another user can't enter {closed[0]}")
    hidden = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "VAELIB_DATA", "VAELIB_CACHE", "VAELIB_NO_FALLBACK")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NO_HOME.format(uid=54_321, mirror=mirror, fallback=fallback)],
        cwd=root,
        env={**kept, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": tempfile.gettempdir(), **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_fault_15_without_a_home_folder_the_variable_is_named_the_fallback_taken_and_obeying_helps():
    with server(right_files) as (mirror, _):
        assert homeless(mirror) == "this user has no home folder to keep data in: set VAELIB_CACHE to a folder"
        assert homeless(mirror, fallback="digits") == "digits"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            assert homeless(mirror, VAELIB_CACHE=folder) == "small"


@pytest.mark.parametrize("variable", ["VAELIB_DATA", "VAELIB_CACHE"])
def test_a_variable_that_names_no_home_folder_is_the_one_to_set(cache, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "~no-such-user/files")
    message = refusal(small_source(), DataNotFoundError)
    assert f"set {variable} to a path without ~" in message
    with pytest.raises(DataNotFoundError, match=f"set {variable} to a path without ~"):
        locate_small(small_source())
    folder = tmp_path / "files" / "small"
    folder.mkdir(parents=True)
    for name, content in GOOD.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv(variable, str(folder.parent))
    check_is_small(load_small(small_source(), "train"))


# Links


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own there")
def test_a_link_to_a_file_is_read_and_one_to_a_bad_file_is_set_aside_without_touching_that(cache, own, monkeypatch):
    (own / f"{IMAGES}.gz").rename(own.parent / "elsewhere.gz")
    (own / f"{IMAGES}.gz").symlink_to(own.parent / "elsewhere.gz")
    check_is_small(load_small(small_source(), "train"))
    monkeypatch.delenv("VAELIB_DATA")
    theirs = own.parent / "theirs"
    theirs.write_bytes(b"not for us")
    cache.mkdir(parents=True)
    (cache / IMAGES).symlink_to(theirs)
    with server(right_files) as (mirror, _), pytest.warns(UserWarning, match="set aside"):
        check_is_small(load_small(small_source(mirror), "train"))
    assert theirs.read_bytes() == b"not for us" and not (cache / IMAGES).is_symlink()


# Names and numbers


def test_a_choice_that_is_named_is_taken():
    with pytest.raises(DataError) as caught:
        data.load("mnits")
    assert set(re.findall(r"'([\w-]+)'", str(caught.value).partition("choose")[2])) == set(data.names())
    with pytest.raises(DataError) as caught:
        data.load("digits", "validation")
    for split in re.findall(r"'(\w+)'", str(caught.value).partition("choose")[2]):
        assert len(data.load("digits", split)) > 0
    with pytest.raises(DataError) as caught:
        data.load("digits", fallback="mnist")
    assert re.findall(r"choose (.*)", str(caught.value)) == ["'digits' or None"]
    for fallback in ("digits", None):
        assert len(data.load("digits", fallback=fallback)) == 1500


@pytest.mark.parametrize("wrong", [0, 5, 0.2, -1])
def test_a_validation_set_of_a_number_within_the_bounds_that_are_named_is_drawn(wrong):
    five = ImageData("five", torch.zeros(5, 2, 2), torch.arange(5))
    with pytest.raises(ValueError, match="whole number above 0, and below 5 images"):
        data.train_validation_split(five, wrong)
    for n in (1, 4):
        assert len(data.train_validation_split(five, n)[1]) == n


EIGHT = torch.arange(256).reshape(1, 16, 16)
RIGHT = EIGHT / 255
SCALES = {
    "bytes": (EIGHT.to(torch.uint8), r"convert them to float and divide by 255", lambda x: x.float() / 255),
    "0 to 255": (EIGHT.float(), r"divide by 255", lambda x: x / 255),
    "16 bits": (EIGHT.float() * 257, r"divide by 65535", lambda x: x / 65535),
    "-1 to 1": (RIGHT * 2 - 1, r"for \[-1, 1\] use \(x \+ 1\) / 2", lambda x: (x + 1) / 2),
    "standardised": ((RIGHT - 0.4) / 0.3, r"x \* std \+ mean", lambda x: (x * 0.3 + 0.4).clamp(0, 1)),
}


@pytest.mark.parametrize("scale", SCALES)
def test_pixels_of_another_scale_are_binarised_rightly_once_the_remedy_is_obeyed(scale):
    pixels, remedy, obeyed = SCALES[scale]
    with pytest.raises(ValueError, match=remedy):
        data.binarize(pixels)
    expected = (RIGHT > 0.5).float()
    assert torch.equal(data.binarize(obeyed(pixels), threshold=0.5), expected)


# Images in other forms: the line that a message names is run as it stands

LOADER = DataLoader(TensorDataset(torch.rand(6, 16)), batch_size=4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loader", LOADER),
        ("dataset", LOADER.dataset),
        ("images", [torch.rand(16)] * 3),
        ("images", [np.zeros(16)] * 3),
        ("images", [Image.new("L", (4, 4), 255)] * 3),
        ("images", [Image.new("1", (4, 4), 1)] * 3),
        ("images", [Image.new("P", (4, 4), 0)] * 3),
        ("path", "pictures"),
        ("path", Path("pictures")),
    ],
)
def test_the_line_for_images_in_another_form_is_run_and_gives_images(tmp_path, monkeypatch, name, value):
    import vaelib

    vae = VAE(16, (8,), 2)
    with pytest.raises(TypeError) as caught:
        mean_elbo(vae, value)
    line = str(caught.value).rpartition(": ")[2]
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    Image.new("L", (4, 4), 255).save("pictures/one.png")
    line = line.replace("from_folder(path)", "from_folder(path, size=4)")  # the model's size
    space = {name: value, "torch": torch, "numpy": np, "vaelib": vaelib}
    images = eval(line.removeprefix("images = "), space)
    assert mean_elbo(vae, images) < 0
    if isinstance(value, list) and isinstance(value[0], Image.Image):
        assert images.max() == (0 if value[0].mode == "P" else 1)  # white is 1 whatever Pillow calls it
