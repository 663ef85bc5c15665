"""vaelib.data against numerical integration, published facts of the data, and FAULTS lines 1 to 15, one test each."""

import gzip
import hashlib
import http.server
import inspect
import math
import os
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import integrate

from vaelib import _fetch, _files, data
from vaelib._fetch import Source
from vaelib._idx import IdxFile
from vaelib._sets import SETS, Embedded
from vaelib.data import DataError, DataNotFoundError, ImageData

CLOSED = "http://127.0.0.1:9/"  # the discard port: nothing listens there, so a connection is refused at once
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 4, 3), dtype=np.uint8)
CLASSES = (np.arange(20) % 10).astype(np.uint8)
IMAGES, LABELS = "train-images", "train-labels"


def idx(array: np.ndarray) -> bytes:
    """Write the format as LeCun's page describes it: two zeros, 08 for bytes, the dimensions, then the bytes."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


GOOD = {
    IMAGES: idx(PIXELS),
    LABELS: idx(CLASSES),
    "test-images": idx(PIXELS[:5]),
    "test-labels": idx(CLASSES[:5]),
}


def small_source(*mirrors: str, timeout: float = 20.0) -> Source:
    """Return a source of 20 and 5 tiny images with the hashes of GOOD."""

    def file(name: str, *shape: int) -> IdxFile:
        return IdxFile(name, shape, hashlib.sha256(GOOD[name]).hexdigest())

    splits = {
        "train": (file(IMAGES, 20, 4, 3), file(LABELS, 20)),
        "test": (file("test-images", 5, 4, 3), file("test-labels", 5)),
    }
    return Source("small", splits, mirrors or (CLOSED,), timeout)


def load_small(source: Source, split: str, **options) -> ImageData:
    """Load a source by the door that readers use."""
    with mock.patch.dict(SETS, small=source):
        return data.load("small", split, **options)


def locate_small(source: Source) -> tuple[data.LocatedFile, ...]:
    with mock.patch.dict(SETS, small=source):
        return data.locate("small")


@contextmanager
def server(answer):
    """Serve on this machine; answer(handler) writes the reply. Yields the address and the list of paths asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/", asked
        finally:
            httpd.shutdown()
            thread.join()


def reply(handler, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def right_files(handler) -> None:
    reply(handler, gzip.compress(GOOD[handler.path.strip("/").removesuffix(".gz")]))


def name_of(handler) -> str:
    return handler.path.strip("/").removesuffix(".gz")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Return the cache folder of the small source, not made yet; no variable of the reader's is set."""
    monkeypatch.delenv("VAELIB_DATA", raising=False)
    monkeypatch.delenv("VAELIB_NO_FALLBACK", raising=False)
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "small"


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """Return a reader's own folder with the four right files in it, named by VAELIB_DATA."""
    folder = tmp_path / "own" / "small"
    folder.mkdir(parents=True)
    for name, content in GOOD.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setenv("VAELIB_DATA", str(folder.parent))
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELIB_NO_FALLBACK", raising=False)
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(own: Path, name: str, raw: bytes, message: str, suffix: str = ".gz") -> None:
    """Check that a bad file of the reader's own is refused with the message, its path and nothing changed."""
    (own / f"{name}.gz").unlink(missing_ok=True)
    (own / f"{name}{suffix}").write_bytes(raw)
    before = snapshot(own)
    with pytest.raises(DataError, match=message) as caught:
        load_small(small_source(), "train", fallback="digits")
    assert str(own / f"{name}{suffix}") in str(caught.value)
    assert snapshot(own) == before
    assert message_of(own, name) in str(caught.value)  # `locate` says the same


def message_of(own: Path, name: str) -> str:
    states = {Path(file.path).name.removesuffix(".gz"): file.state for file in locate_small(small_source())}
    return states[name]


def check_is_small(loaded: ImageData) -> None:
    assert loaded.name == "small"
    assert np.array_equal(loaded.images.numpy(), PIXELS.astype(np.float32) / np.float32(255))
    assert np.array_equal(loaded.labels.numpy(), CLASSES)
    assert (loaded.images.dtype, loaded.labels.dtype) == (torch.float32, torch.int64)


# The data sets


def test_digits_split_holds_every_image_once_and_each_class_in_proportion():
    from sklearn.datasets import load_digits

    source = load_digits()
    train, test = data.load("digits"), data.load("digits", "test")
    assert (len(train), len(test)) == (1500, 297)
    both = torch.cat([train.images, test.images])
    rows = np.concatenate([both.numpy().reshape(-1, 64) * 16, torch.cat([train.labels, test.labels])[:, None]], axis=1)
    reference = np.concatenate([source.data, source.target[:, None]], axis=1)
    assert np.array_equal(np.unique(rows, axis=0), np.unique(reference, axis=0))
    assert len(np.unique(reference, axis=0)) == 1797
    assert both.dtype == torch.float32 and both.min() == 0 and both.max() == 1
    places = [int(np.flatnonzero((source.images == 16 * image).all(axis=(1, 2)))[0]) for image in test.images.numpy()]
    assert set(np.diff(places)) == {6, 7}  # spaced evenly, so that each writer is in both parts
    in_proportion = np.bincount(source.target) * 297 / 1797
    assert abs(test.labels.bincount().numpy() - in_proportion).max() < 8  # images of 30, as the docstring says


def test_real_mnist_is_loaded_whole_where_it_is_at_hand_and_reported_missing_where_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("VAELIB_DATA", os.environ.get("VAELIB_DATA") or str(tmp_path))
    if all(file.state == "missing" for file in data.locate("mnist")):
        with pytest.raises(DataNotFoundError, match="VAELIB_DATA"):
            data.load("mnist")
        return
    assert [file.state for file in data.locate("mnist")] == ["verified"] * 4
    train, test = data.load("mnist"), data.load("mnist", "test")
    assert train.images.shape == (60_000, 28, 28) and test.images.shape == (10_000, 28, 28)
    # The counts per class are those of the published label files; mean and deviation those everyone normalises with.
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.images.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert train.images.std().item() == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_own_files_load_compressed_and_not_and_pixels_are_exactly_bytes_over_255(own, suffix):
    for name, content in GOOD.items():
        (own / f"{name}.gz").unlink()
        (own / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    before = snapshot(own)
    check_is_small(load_small(small_source(), "train"))
    assert len(load_small(small_source(), "test")) == 5
    assert [file.state for file in locate_small(small_source())] == ["verified"] * 4
    assert snapshot(own) == before


EMNIST = [f"emnist-{kind}" for kind in ("letters", "balanced", "digits", "mnist", "byclass", "bymerge")]


def test_new_data_set_is_one_entry_and_brings_factors_and_classes():
    images, factors = torch.rand(4, 3, 2, 2), torch.arange(8.0).reshape(4, 2)
    fields = {"images": images, "labels": torch.tensor([0, 1, 1, 0]), "factors": factors, "classes": ("ring", "dot")}
    with mock.patch.dict(SETS, dots=Embedded(lambda split: fields, "the dots are drawn here")):
        loaded = data.load("dots", "test")
        assert data.names() == ("digits", "patches", "scene", "mnist", "fashion-mnist", "kmnist", *EMNIST, "dots")
        assert [str(each) for each in data.locate("dots")] == ["the dots are drawn here: verified"]
        with pytest.raises(DataError, match=r"'cifar': choose 'digits', 'patches', .*'emnist-bymerge' or 'dots'$"):
            data.load("cifar")
    assert (loaded.name, loaded.classes) == ("dots", ("ring", "dot"))
    assert loaded.images is images and loaded.factors is factors
    assert data.names() == ("digits", "patches", "scene", "mnist", "fashion-mnist", "kmnist", *EMNIST)


def test_errors_and_places_bear_the_name_of_the_module_that_readers_import():
    for each in (DataError, DataNotFoundError, data.LocatedFile):
        assert each.__module__ == "vaelib.data" and getattr(data, each.__name__) is each


def test_unknown_name_split_or_fallback_names_the_choices():
    with pytest.raises(DataError, match=r"'cifar'.*'digits', .*'emnist-byclass' or 'emnist-bymerge'"):
        data.load("cifar")
    with pytest.raises(DataError, match="'emnist-byclass' or 'emnist-bymerge'"):
        data.locate("cifar")
    with pytest.raises(DataError, match=r"'valid'.*'train' or 'test'"):
        data.load("digits", "valid")
    with pytest.raises(DataError, match=r"'cifar'.*'digits' or None"):
        data.load("digits", fallback="cifar")


# FAULTS, data files


def test_fault_1_missing_file_and_no_network_lists_files_folder_command_and_variables(cache):
    began = time.monotonic()
    with pytest.raises(DataNotFoundError) as caught:
        load_small(small_source(), "train")
    assert time.monotonic() - began < 5  # refused connections are not waited for
    for part in (IMAGES, LABELS, str(cache), "python -m vaelib data", "VAELIB_DATA", "VAELIB_CACHE", CLOSED):
        assert part in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError) and isinstance(caught.value, ValueError)
    assert [file.state for file in locate_small(small_source())] == ["missing"] * 4


def test_fault_1_silent_network_costs_one_time_out_for_each_mirror(cache):
    release = threading.Event()
    with server(lambda handler: release.wait(20)) as (one, asked), server(lambda handler: release.wait(20)) as (two, _):
        began = time.monotonic()
        with pytest.raises(DataNotFoundError, match=r"no answer within 0\.5 s"):
            load_small(small_source(one, two, timeout=0.5), "train")
        assert 1.0 <= time.monotonic() - began < 10  # two mirrors of 0.5 s, and room for a busy machine
        assert len(asked) == 1
        release.set()


def test_fault_1_missing_in_the_readers_folder_is_an_error_that_asks_no_server(own):
    (own / f"{LABELS}.gz").unlink()
    with server(right_files) as (mirror, asked):
        with pytest.raises(DataNotFoundError, match="VAELIB_DATA"):
            load_small(small_source(mirror), "train")
        assert asked == []


def test_fault_2_zero_byte_file_is_called_empty(own):
    refused(own, IMAGES, b"", "empty")


def test_fault_3_truncated_gzip_is_fetched_again(cache):
    cache.mkdir(parents=True)
    cut = gzip.compress(GOOD[IMAGES])[:-20]
    (cache / f"{IMAGES}.gz").write_bytes(cut)
    with server(right_files) as (mirror, _), pytest.warns(UserWarning, match="truncated gzip"):
        check_is_small(load_small(small_source(mirror), "train"))
    assert (cache / f"{IMAGES}.gz.bad").read_bytes() == cut
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_is_small(load_small(small_source(), "train"))  # now from the cache: no server is left


def test_fault_4_web_page_in_place_of_the_file_is_called_one(own):
    page = b"\n<!DOCTYPE html><html><body>Sign in to the guest network</body></html>"
    refused(own, IMAGES, page, "web page.*proxy or a login page")
    refused(own, IMAGES, gzip.compress(page), "web page.*proxy or a login page")


def test_fault_5_valid_gzip_with_the_wrong_hash_is_set_aside_and_fetched_again(cache):
    cache.mkdir(parents=True)
    changed = gzip.compress(GOOD[IMAGES][:-1] + bytes([GOOD[IMAGES][-1] ^ 1]))  # one bit of the last pixel
    (cache / f"{IMAGES}.gz").write_bytes(changed)
    (cache / f"{IMAGES}.gz.bad").write_bytes(b"an earlier one")
    with server(right_files) as (mirror, _), pytest.warns(UserWarning, match="SHA-256.*set aside"):
        check_is_small(load_small(small_source(mirror), "train"))
    kept = snapshot(cache)
    assert kept[IMAGES] == GOOD[IMAGES]
    assert kept[f"{IMAGES}.gz.bad"] == b"an earlier one"
    assert kept[f"{IMAGES}.gz.1.bad"] == changed


def test_fault_6_truncated_idx_gives_bytes_expected_and_found(own):
    refused(own, IMAGES, gzip.compress(GOOD[IMAGES][:100]), "256 bytes expected, 100 found")
    refused(own, IMAGES, GOOD[IMAGES][:10], "256 bytes expected, 10 found")
    refused(own, IMAGES, GOOD[IMAGES][:3], "256 bytes expected, 3 found")


def test_fault_7_header_of_2_to_the_32_images_is_refused_before_allocating(own):
    import tracemalloc

    huge = bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" + GOOD[IMAGES][8:]
    tracemalloc.start()
    refused(own, IMAGES, gzip.compress(huge), "4,294,967,295 images")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22  # bytes; the header asks for 51 GB


def test_fault_7_gzip_that_inflates_without_end_is_cut_short(own):
    import tracemalloc

    bomb = gzip.compress(GOOD[IMAGES] + bytes(2**26), compresslevel=9)  # 64 MiB in 64 KiB
    tracemalloc.start()
    refused(own, IMAGES, bomb, "trailing bytes: 256 bytes expected|longer")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22  # bytes, of which the read limit takes 2^16


def test_fault_7_file_of_any_length_is_read_no_further_than_it_should_be_long(own):
    import tracemalloc

    (own / f"{IMAGES}.gz").unlink()
    with (own / IMAGES).open("wb") as stream:
        stream.write(GOOD[IMAGES])
        stream.truncate(2**28)  # bytes; most of them take no room on the disk
    tracemalloc.start()
    with pytest.raises(DataError, match="trailing bytes: 256 bytes expected"):
        load_small(small_source(), "train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_fault_8_images_and_labels_swapped_names_both(own):
    refused(own, IMAGES, gzip.compress(GOOD[LABELS]), f"holds labels, not images: were {IMAGES} and {LABELS} swapped")
    (own / f"{IMAGES}.gz").write_bytes(gzip.compress(GOOD[IMAGES]))
    refused(own, LABELS, gzip.compress(GOOD[IMAGES]), f"holds images, not labels: were {LABELS} and {IMAGES} swapped")


def test_fault_9_labels_of_another_number_than_images_gives_both_numbers(own):
    refused(own, LABELS, gzip.compress(GOOD["test-labels"]), f"5 labels, but 20 .* 20 images of {IMAGES}")
    with pytest.raises(DataError, match="3 images with 2 labels"):
        ImageData("pair", torch.zeros(3, 2, 2), torch.zeros(2, dtype=torch.int64))


def test_fault_10_label_10_is_refused_with_its_index(own):
    labels = CLASSES.copy()
    labels[13] = 10
    refused(own, LABELS, gzip.compress(idx(labels)), "label 10 at index 13: labels are 0 to 9")


def test_fault_11_trailing_bytes_are_refused(own):
    refused(own, IMAGES, gzip.compress(GOOD[IMAGES] + b"\0"), "trailing bytes")
    refused(own, IMAGES, gzip.compress(GOOD[IMAGES]) + b"abc", "3 trailing bytes after the end of its gzip data")
    refused(own, IMAGES, GOOD[IMAGES] + b"\0", "trailing bytes")


def test_fault_12_files_of_the_readers_own_are_never_overwritten(cache):
    cache.mkdir(parents=True)
    theirs = {IMAGES: b"my own notes", f"{IMAGES}.gz": b"and more of them", "notes.txt": b"kept", ".fetch-x": b"kept"}
    for name, content in theirs.items():
        (cache / name).write_bytes(content)
    with server(right_files) as (mirror, _), pytest.warns(UserWarning, match="set aside"):
        check_is_small(load_small(small_source(mirror), "train"))
    assert set(theirs.values()) <= set(snapshot(cache).values())


def test_fault_12_file_that_appears_during_a_download_stays(cache):
    def meddle(handler):
        if name_of(handler) == IMAGES:
            (cache / IMAGES).write_bytes(b"written meanwhile")
        right_files(handler)

    with server(meddle) as (mirror, _):
        check_is_small(load_small(small_source(mirror), "train"))
    assert snapshot(cache)[IMAGES] == b"written meanwhile"


def loops(handler):
    reply(handler, b"", 302, Location=handler.path)


def half(handler):
    body = gzip.compress(GOOD[name_of(handler)])
    reply(handler, body[: len(body) // 2], length=len(body))


def silent(handler):
    time.sleep(10)


def stalls(handler):
    reply(handler, bytes(65_600), length=65_700)  # more than the piece of 65,536 that is read at once
    time.sleep(10)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(1000):  # 64 MB: far more than is asked for
            handler.wfile.write(bytes(2**16))
    except OSError:  # the client has hung up, as it should
        return
    ENDURED.append(handler.path)


ENDURED: list[str] = []  # what a client has read to the end of `endless`


FAILURES = {
    "403": (lambda handler: reply(handler, b"no", 403), "HTTP status 403"),
    "404": (lambda handler: reply(handler, b"gone", 404), "HTTP status 404"),
    "503": (lambda handler: reply(handler, b"busy", 503), "HTTP status 503"),
    "silent": (silent, "no answer within"),
    "stalls": (stalls, "no connection, or a broken one"),
    "cut off": (half, "ChunkedEncodingError"),
    "redirect loop": (loops, "TooManyRedirects"),
    "endless": (endless, "longer than"),
    "login page": (lambda handler: reply(handler, b"<html>sign in</html>"), "login page"),
    "nothing": (lambda handler: reply(handler, b""), "empty"),
    "other data": (lambda handler: reply(handler, gzip.compress(idx(PIXELS[::-1]))), "SHA-256|labels"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_fault_13_failing_server_is_left_for_the_next_mirror_and_only_verified_bytes_get_the_name(cache, failure):
    answer, reason = FAILURES[failure]
    # A wait that is the failure is kept short; else a busy machine's slowness must not look like one.
    timeout = 2.5 if failure in ("silent", "stalls") else 20.0
    with server(answer) as (bad, asked), server(right_files) as (good, _):
        source = small_source(bad, timeout=timeout)
        with pytest.raises(DataNotFoundError, match=reason):
            load_small(source, "train")
        assert asked and snapshot(cache) == {}  # neither the file nor a temporary one
        assert ENDURED == []
        check_is_small(load_small(small_source(bad, good, timeout=timeout), "train"))
    assert snapshot(cache) == {name: GOOD[name] for name in (IMAGES, LABELS)}


def test_fault_13_server_that_fails_once_is_tried_again(cache):
    failed = set()

    def once(handler):
        if handler.path in failed:
            return right_files(handler)
        failed.add(handler.path)
        return reply(handler, b"", 503)

    with server(once) as (mirror, asked):
        check_is_small(load_small(small_source(mirror), "train"))
    assert len(asked) == 4  # two files, two tries each


# Run as a program: load the small source from the mirror named, in a fresh process.
LOAD = """
from tests.vaelib import test_data
test_data.check_is_small(test_data.load_small(test_data.small_source(*{mirrors!r}, timeout={timeout}), "train"))
"""


def fresh_process(mirror: str | None = None, timeout: float = 20.0, **environment: str | None) -> subprocess.Popen:
    """Start a process that loads the small source; an environment value of None unsets the variable."""
    code = LOAD.format(mirrors=[mirror] if mirror else [], timeout=timeout)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        env={name: value for name, value in variables.items() if value is not None},
        stderr=subprocess.PIPE,
    )


def test_fault_14_processes_fetching_at_once_all_load_and_leave_no_temporary_file(cache):
    together = threading.Barrier(4)

    def wait_for_all(handler):
        if name_of(handler) == IMAGES:
            together.wait(200)  # nobody gets the file before all four have asked for it
        right_files(handler)

    with server(wait_for_all) as (mirror, _):
        # The mirror answers only when the slowest process has started: longer than the small source waits otherwise.
        several = [fresh_process(mirror, timeout=200) for _ in range(4)]
        errors = [process.communicate(timeout=300)[1].decode() for process in several]
    assert [process.returncode for process in several] == [0] * 4, errors
    assert snapshot(cache) == {name: GOOD[name] for name in (IMAGES, LABELS)}


def test_fault_14_process_killed_while_it_fetches_leaves_nothing_in_the_cache(cache):
    asked, release = threading.Event(), threading.Event()

    def never(handler):
        asked.set()
        release.wait(200)

    with server(never) as (mirror, _):
        process = fresh_process(mirror, timeout=200)
        try:
            assert asked.wait(200)
        finally:
            process.kill()
            process.communicate()
            release.set()
    assert snapshot(cache) == {}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_fault_14_cache_on_a_full_disk_keeps_no_part_of_a_file_and_the_error_names_the_variable(
    cache, monkeypatch, call
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, call, fail)
    full = pytest.raises(DataNotFoundError, match=r"No space left on device; set VAELIB_CACHE")
    with server(right_files) as (mirror, _), full as caught:
        load_small(small_source(mirror), "train")
    assert str(cache) in str(caught.value) and snapshot(cache) == {}


def test_fault_15_path_with_spaces_and_non_ascii_letters_works_in_the_c_locale(tmp_path):
    folder = tmp_path / "été à Łódź 数据" / "small"
    with server(right_files) as (mirror, _):
        plain = {
            "LC_ALL": "C",
            "LANG": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONIOENCODING": "cp1252",
        }
        fetch = fresh_process(mirror, VAELIB_DATA=None, VAELIB_CACHE=str(folder.parent), **plain)
        assert (fetch.communicate(timeout=200)[1], fetch.returncode) == (b"", 0)
    own = fresh_process(VAELIB_DATA=str(folder.parent), **plain)
    assert (own.communicate(timeout=200)[1], own.returncode) == (b"", 0)
    assert snapshot(folder) == {name: GOOD[name] for name in (IMAGES, LABELS)}


def test_fault_15_missing_home_works_with_the_variable_and_is_named_without_it(cache, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    with server(right_files) as (mirror, _):
        check_is_small(load_small(small_source(mirror), "train"))
    monkeypatch.setenv("VAELIB_CACHE", "~no-such-user/cache")  # as "~" is where nobody knows a home folder
    for call in (lambda: load_small(small_source(), "train"), lambda: locate_small(small_source())):
        with pytest.raises(DataNotFoundError, match="set VAELIB_CACHE to a path without ~"):
            call()


def test_fault_15_cache_that_cannot_be_written_names_the_path_and_the_variable(cache, tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("VAELIB_CACHE", str(blocked / "cache"))  # not even root can make a folder in a file
    with server(right_files) as (mirror, asked):
        with pytest.raises(DataNotFoundError, match=r"cannot be written.*VAELIB_CACHE") as caught:
            load_small(small_source(mirror), "train")
        assert asked == []  # nothing is downloaded that could not be kept
    assert str(blocked / "cache" / "small") in str(caught.value)


def test_fault_15_cache_that_is_there_but_takes_no_file_is_found_out_before_the_download(cache, monkeypatch):
    def refuse(*_, dir, **__):  # a folder's permissions do not stop root
        assert dir == cache
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_fetch.tempfile, "TemporaryFile", refuse)
    with server(right_files) as (mirror, asked):
        with pytest.raises(DataNotFoundError, match=r"cannot be written: Permission denied; set VAELIB_CACHE"):
            load_small(small_source(mirror), "train")
        assert asked == []


def test_folder_in_place_of_a_file_is_named(own):
    (own / IMAGES).mkdir()
    with pytest.raises(DataError, match="cannot be read") as caught:
        load_small(small_source(), "train")
    assert str(own / IMAGES) in str(caught.value)


# The fallback


def plain_words(caught) -> str:
    """Return the one warning of ours: Python may add its own about sockets that earlier tests broke."""
    (message,) = (str(each.message) for each in caught if each.category is UserWarning)
    return message


def test_fallback_warns_in_plain_words_and_returns_the_digits(cache):
    with pytest.warns(UserWarning, match="not at hand") as caught:
        loaded = load_small(small_source(), "test", fallback="digits")
    assert loaded.name == "digits" and len(loaded) == 297
    message = plain_words(caught)
    assert "goes on with the 8x8 digits" in message and "VAELIB_DATA" in message


def test_warnings_name_the_line_that_loads(cache):
    cache.mkdir(parents=True)
    (cache / IMAGES).write_bytes(b"damaged")
    with mock.patch.dict(SETS, small=small_source()), pytest.warns(UserWarning) as caught:
        line = inspect.currentframe().f_lineno + 1
        data.load("small", fallback="digits")
    ours = [each for each in caught if each.category is UserWarning]
    assert ["set aside" in str(each.message) for each in ours] == [True, False]
    assert [(each.filename, each.lineno) for each in ours] == [(__file__, line)] * 2


def test_fallback_is_taken_where_the_readers_folder_lacks_the_files_and_the_warning_names_it(own):
    (own / f"{LABELS}.gz").unlink()
    with pytest.warns(UserWarning, match="VAELIB_DATA") as caught:
        assert load_small(small_source(), "train", fallback="digits").name == "digits"
    assert str(own) in plain_words(caught)


def test_fallback_is_refused_where_the_notebooks_are_made(cache, monkeypatch):
    monkeypatch.setenv("VAELIB_NO_FALLBACK", "1")
    with pytest.raises(DataNotFoundError, match="not at hand"):
        load_small(small_source(), "train", fallback="digits")


def test_progress_is_silent_unless_asked_for_and_leaves_nothing_behind(cache, capsys):
    with server(right_files) as (mirror, _):
        load_small(small_source(mirror), "train")
        assert capsys.readouterr() == ("", "")
        load_small(small_source(mirror), "test", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "test-images" in err and err.rsplit("\r", 1)[-1].strip() == ""


# Small tools


def test_ring_radius_has_the_mean_and_deviation_that_integration_gives():
    # ||z|| has the Rayleigh density r exp(-r^2/2), and g(z) lies at distance ||z||/10 + 1 from the origin.
    def moment(k):
        return integrate.quad(lambda r: (1 + r / 10) ** k * r * math.exp(-r * r / 2), 0, 40)[0]

    mean, sd = moment(1), math.sqrt(moment(2) - moment(1) ** 2)
    assert mean == pytest.approx(1.1253, abs=5e-5) and sd == pytest.approx(0.0655, abs=5e-5)
    n = 100_000
    points = data.ring(n, torch.Generator().manual_seed(0), dtype=torch.float64)
    radius = points.norm(dim=1)
    # Five standard errors: sd/sqrt(n) for the mean, sd sqrt(0.56/n) for the deviation (a kurtosis of 3.245).
    assert radius.mean().item() == pytest.approx(mean, abs=5 * sd / math.sqrt(n))
    assert radius.std().item() == pytest.approx(sd, abs=5 * sd * math.sqrt(0.56 / n))
    # No direction is preferred: each mean coordinate is 0 within five standard errors of at most 0.8/sqrt(n).
    assert points.mean(dim=0).abs().max() < 5 * 0.8 / math.sqrt(n)


def test_ring_repeats_with_its_generator_and_takes_zero_but_no_negative_number():
    first, second = (data.ring(7, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (7, 2) and first.dtype == torch.float32
    assert data.ring(0).shape == (0, 2)
    with pytest.raises(ValueError, match="n is -1"):
        data.ring(-1)


def test_binarize_draws_each_pixel_with_its_own_probability():
    images = torch.tensor([[0.0, 0.1, 0.5, 1.0]]).expand(100_000, 4)
    drawn = data.binarize(images, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0} and drawn.dtype == torch.float32
    # Five standard errors of a mean of 100,000 draws are at most 5 * 0.5 / 316 = 0.008; 0 and 1 are certain.
    assert (drawn.mean(dim=0) - images[0]).abs().max() < 0.008
    assert drawn[:, 0].sum() == 0 and drawn[:, 3].sum() == 100_000
    assert torch.equal(drawn, data.binarize(images, torch.Generator().manual_seed(0)))


def test_binarize_with_a_threshold_is_deterministic_and_strict():
    images = torch.tensor([0.0, 0.49, 0.5, 0.51, 1.0])
    assert data.binarize(images, threshold=0.5).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("bad", "remedy"),
    [
        (255.0, "divide by 255"),
        (16.0, "divide by 16"),
        (-0.1, "0.1, below 0"),
        (math.nan, "finite"),
        (math.inf, "finite"),
    ],
)
def test_binarize_refuses_pixels_outside_the_unit_interval(bad, remedy):
    with pytest.raises(ValueError, match=remedy):
        data.binarize(torch.tensor([1.0, bad]))
    with pytest.raises(ValueError, match=r"uint8.*divide by 255"):
        data.binarize(torch.tensor([0, 255], dtype=torch.uint8))
    assert data.binarize(torch.tensor([True, False])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="threshold is 128"):
        data.binarize(torch.tensor([0.5]), threshold=128)


def test_train_validation_split_is_a_partition_that_the_seed_fixes():
    whole = ImageData("numbered", torch.arange(30.0).reshape(30, 1, 1) / 30, torch.arange(30))
    train, validation = data.train_validation_split(whole, 10, seed=1)
    assert (len(train), len(validation)) == (20, 10)
    assert sorted([*train.labels.tolist(), *validation.labels.tolist()]) == list(range(30))
    assert torch.equal(train.images.flatten(), train.labels / 30)  # each image keeps its label
    assert torch.equal(data.train_validation_split(whole, 10, seed=1)[1].labels, validation.labels)
    assert not torch.equal(data.train_validation_split(whole, 10, seed=2)[1].labels, validation.labels)
    for wrong in (0, 30, -1, 0.2):
        with pytest.raises(ValueError, match=f"n_validation is {wrong}"):
            data.train_validation_split(whole, wrong)


def test_subset_takes_the_first_rows_or_those_named():
    whole = ImageData("numbered", torch.arange(5.0).reshape(5, 1, 1), torch.arange(5))
    assert whole.subset(2).labels.tolist() == whole.subset(np.int64(2)).labels.tolist() == [0, 1]
    assert whole.subset(torch.tensor([4, 0])).images.flatten().tolist() == [4.0, 0.0]
    assert whole.subset(2).factors is None and whole.subset(2).classes is None


def test_factors_and_classes_go_where_their_images_go():
    labels = torch.arange(6) % 3
    factors = torch.stack([torch.arange(6.0), labels.float()], dim=1)
    whole = ImageData("made", torch.arange(6.0).reshape(6, 1, 1, 1) / 6, labels, factors, ("a", "b", "c"))
    parts = data.train_validation_split(whole, 2)
    for part in (*parts, whole.subset(4), whole.subset(torch.tensor([5, 2])), whole.subset(0)):
        assert torch.equal(part.factors[:, 0], part.images.flatten() * 6)
        assert torch.equal(part.factors[:, 1].long(), part.labels)
        assert (part.name, part.classes) == ("made", ("a", "b", "c"))
    assert sum(len(part.factors) for part in parts) == 6


def test_factors_and_classes_that_do_not_belong_to_the_images_are_refused():
    images, labels = torch.zeros(3, 2, 2), torch.tensor([0, 2, 1])
    for wrong in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(3, 1, 1)):
        with pytest.raises(DataError, match=r"3 images with factors .*give a row each, \(N, F\)"):
            ImageData("made", images, labels, factors=wrong)
    with pytest.raises(DataError, match="labels 0 to 2 for 2 classes"):
        ImageData("made", images, labels, classes=("a", "b"))
    with pytest.raises(DataError, match="labels -1 to 1"):
        ImageData("made", images, labels - 1, classes=("a", "b", "c"))
