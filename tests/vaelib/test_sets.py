"""The data sets beyond digits and MNIST: the scene as it is kept, patches of photographs, files of MNIST's form."""

import dataclasses
import gzip
import hashlib
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from vaelib import _made, data, scene
from vaelib._emnist import KINDS
from vaelib._fetch import Source, mnist_like
from vaelib._made import Rendered
from vaelib._sets import SETS
from vaelib.data import DataError, DataNotFoundError

# The scene


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Return a cache that is not made yet, with a small scene; no variable of the reader's is set."""
    monkeypatch.delenv("VAELIB_DATA", raising=False)
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(SETS, "scene", Rendered("scene", {"train": (230, 0), "test": (30, 1)}))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "scene"


@pytest.fixture
def rendered(monkeypatch) -> list[int]:
    """Return a list that grows by the number of pictures each time that some are rendered."""
    numbers: list[int] = []
    original = scene.in_bytes
    monkeypatch.setattr(
        scene, "in_bytes", lambda factors, *size: numbers.append(len(factors)) or original(factors, *size)
    )
    return numbers


def test_the_scene_has_pictures_of_its_factors_and_kinds_as_labels(cache):
    train, test = data.load("scene"), data.load("scene", "test")
    for each, n in ((train, 230), (test, 30)):
        assert each.images.shape == (n, 3, 32, 32) and each.images.dtype == torch.float32
        assert torch.equal(scene.render(each.factors), each.images)
        assert torch.equal(each.labels, each.factors[:, 4].long()) and each.labels.dtype == torch.int64
        assert each.classes == scene.KINDS == ("sphere", "cube", "cylinder", "cone")
    assert not torch.isin(train.factors[:, 0], test.factors[:, 0]).any()


def test_the_scene_of_the_book_is_20_000_and_4_000_pictures():
    assert SETS["scene"].splits == {"train": (20_000, 0), "test": (4_000, 1)}


def test_the_scene_is_rendered_once_and_then_read(cache, rendered):
    first = data.load("scene")
    assert sum(rendered) == 230
    again = data.load("scene")
    assert sum(rendered) == 230 and torch.equal(first.images, again.images)
    assert [each.state for each in data.locate("scene")] == ["verified", "missing"]
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("harm", ["bit", "short", "long", "empty"])
def test_a_kept_scene_that_was_harmed_is_rendered_again_with_a_warning(cache, rendered, harm):
    wanted = data.load("scene", "test").images
    (file,) = cache.iterdir()
    raw = bytearray(file.read_bytes())
    raw[5000] ^= 1
    file.write_bytes(
        {"bit": bytes(raw), "short": file.read_bytes()[:-7], "long": file.read_bytes() + b"\0"}.get(harm, b"")
    )
    assert "damaged" in data.locate("scene")[1].state
    with pytest.warns(UserWarning, match=r"damaged.*rendered anew"):
        assert torch.equal(data.load("scene", "test").images, wanted)
    assert sum(rendered) == 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.load("scene", "test")
    assert sum(rendered) == 60


def test_a_scene_of_other_code_or_of_other_factors_is_never_taken(cache, rendered, monkeypatch):
    data.load("scene", "test")
    other = scene.draw_factors(30, seed=7)
    monkeypatch.setattr(scene, "draw_factors", lambda n, seed: other)
    assert torch.equal(data.load("scene", "test").images, scene.render(other))
    before = _made._key(other.numpy())
    changed = Path("changed.py")
    changed.write_text(Path(scene.__file__).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    monkeypatch.setattr(scene, "__file__", str(changed))
    assert _made._key(other.numpy()) != before
    data.load("scene", "test")
    assert len(list(cache.iterdir())) == 3


def test_a_scene_of_the_readers_own_folder_is_read_and_never_written(cache, rendered, tmp_path, monkeypatch):
    data.load("scene", "test")
    own = tmp_path / "own" / "scene"
    cache.rename(own.parent.mkdir() or own)
    monkeypatch.setenv("VAELIB_DATA", str(own.parent))
    data.load("scene", "test")
    assert sum(rendered) == 30 and not cache.exists()
    data.load("scene")  # which is not there
    assert len(list(own.iterdir())) == 1 and len(list(cache.iterdir())) == 1
    (file,) = own.iterdir()
    file.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="remove it, and it is rendered anew"):
        data.load("scene", "test")
    assert file.read_bytes() == b"nonsense"


def test_a_scene_that_cannot_be_kept_is_rendered_with_a_warning_that_names_the_variable(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match=r"cannot be kept.*VAELIB_CACHE"):
        assert len(data.load("scene", "test")) == 30
    monkeypatch.setenv("VAELIB_CACHE", "~no-such-user/cache")
    with pytest.warns(UserWarning, match=r"cannot be kept.*VAELIB_CACHE"):
        assert len(data.load("scene", "test")) == 30
    assert [each.state for each in data.locate("scene")] == ["missing", "missing"]


def test_the_scene_shows_a_bar_where_it_is_asked_for(cache, capsys):
    data.load("scene", "test", progress=False)
    assert capsys.readouterr() == ("", "")
    data.load("scene", progress=True)
    assert "scene, train" in capsys.readouterr().err


# The photographs


def test_patches_are_colour_squares_of_the_two_photographs_and_no_pixel_is_in_both_parts():
    from sklearn.datasets import load_sample_images

    photographs = [photograph / 255.0 for photograph in load_sample_images().images]
    train, test = data.load("patches"), data.load("patches", "test")
    assert train.images.shape == (4700, 3, 32, 32) and test.images.shape == (182, 3, 32, 32)
    for part, low, high, step in ((train, 0, 400, 8), (test, 400, 640, 32)):
        assert part.images.dtype == torch.float32 and part.classes == ("temple", "flower")
        places = [(top, left) for top in range(0, 427 - 31, step) for left in range(low, high - 31, step)]
        for label, photograph in enumerate(photographs):
            rows = np.flatnonzero(part.labels.numpy() == label)
            assert len(rows) == len(places)
            for row, (top, left) in list(zip(rows, places, strict=True))[::37]:
                wanted = photograph[top : top + 32, left : left + 32].transpose(2, 0, 1)
                assert np.allclose(part.images[row].numpy(), wanted, atol=1e-7)


# Files of MNIST's form

DRAW = np.random.default_rng(0)
PIXELS, CLASSES = DRAW.integers(0, 256, (30, 28, 28), dtype=np.uint8), (np.arange(30) % 10).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


FILES = {
    "train-images-idx3-ubyte": idx(PIXELS[:20]),
    "train-labels-idx1-ubyte": idx(CLASSES[:20]),
    "t10k-images-idx3-ubyte": idx(PIXELS[20:]),
    "t10k-labels-idx1-ubyte": idx(CLASSES[20:]),
}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in FILES.items()}


def small(name: str) -> Source:
    """A source as SETS has it, with the sizes and hashes of the files above in the place of the real ones."""
    real = SETS[name]
    splits = {}
    for split, pair in real.splits.items():
        n = {"train": 20, "test": 10}[split]
        splits[split] = tuple(
            dataclasses.replace(
                file,
                shape=(n, *file.shape[1:]),
                md5=hashlib.md5(PACKED[file.name]).hexdigest() if file.md5 else "",
                sha256=hashlib.sha256(FILES[file.name]).hexdigest() if file.sha256 else "",
            )
            for file in pair
        )
    return dataclasses.replace(real, splits=splits, mirrors=("http://127.0.0.1:9/",))


@pytest.fixture(params=["fashion-mnist", "kmnist", "mnist"])
def kind(request, tmp_path, monkeypatch) -> str:
    """Return the name of a set whose files are small, with an empty home, cache and current folder."""
    monkeypatch.delenv("VAELIB_DATA", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SETS, request.param, small(request.param))
    return request.param


def put(folder: Path, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (PACKED if packed else FILES).items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(content)
    return folder


def check(name: str) -> None:
    train, test = data.load(name), data.load(name, "test")
    assert np.array_equal(train.images.numpy(), PIXELS[:20].astype(np.float32) / np.float32(255))
    assert np.array_equal(test.labels.numpy(), CLASSES[20:])
    assert train.classes == SETS[name].classes


TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}


@pytest.mark.parametrize("place", ["cache", "own", "own torchvision", "torchvision", "keras", "keras home"])
def test_packed_files_are_read_where_each_library_keeps_them_and_verified(kind, place, tmp_path, monkeypatch):
    folder = {
        "cache": tmp_path / "cache" / kind,
        "own": tmp_path / "own" / kind,
        "own torchvision": tmp_path / "own" / TORCHVISION[kind] / "raw",
        "torchvision": tmp_path / "data" / TORCHVISION[kind] / "raw",
        "keras": tmp_path / "home" / ".keras" / "datasets" / kind,
        "keras home": tmp_path / "k" / "datasets" / kind,
    }[place]
    put(folder)
    if place.startswith("own"):
        monkeypatch.setenv("VAELIB_DATA", str(tmp_path / "own"))
    if place == "keras home":
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "k"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    if place.startswith("keras") and kind != "fashion-mnist":  # Keras has MNIST in another form, and no KMNIST
        with pytest.raises(DataNotFoundError):
            data.load(kind)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(kind)
    assert [each.state for each in data.locate(kind)] == ["verified"] * 4
    assert all(Path(each.path).parent.resolve() == folder for each in data.locate(kind))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_unpacked_files_without_a_hash_are_read_with_a_word_that_only_their_form_was_checked(kind, tmp_path):
    put(tmp_path / "data" / TORCHVISION[kind] / "raw", packed=False)
    if kind == "mnist":
        check(kind)
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check(kind)
    assert len(said) == 4 and all("right in form" in str(each.message) for each in said)
    assert "train-images-idx3-ubyte.gz" in str(said[0].message)
    assert {each.state for each in data.locate(kind)} == {"right in form, its content not verified"}
    put(tmp_path / "cache" / kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(kind)


def test_a_packed_file_of_another_content_is_refused_in_the_readers_folder_and_passed_over_elsewhere(
    kind, tmp_path, monkeypatch
):
    other = gzip.compress(idx(255 - PIXELS[:20]), mtime=0)
    own = put(tmp_path / "own" / kind)
    (own / "train-images-idx3-ubyte.gz").write_bytes(other)
    monkeypatch.setenv("VAELIB_DATA", str(own.parent))
    with pytest.raises(DataError, match="wrong SHA-256" if kind == "mnist" else "wrong MD5"):
        data.load(kind)
    monkeypatch.delenv("VAELIB_DATA")
    foreign = put(tmp_path / "data" / TORCHVISION[kind] / "raw")
    (foreign / "train-images-idx3-ubyte.gz").write_bytes(other)
    with pytest.raises(DataNotFoundError, match=r"(?s)not at hand.*Found, and not used: .*images.*has the wrong"):
        data.load(kind)
    assert data.locate(kind)[0].state == "missing"
    assert (foreign / "train-images-idx3-ubyte.gz").read_bytes() == other
    put(tmp_path / "cache" / kind)
    check(kind)


def test_what_is_fetched_is_kept_as_what_its_hash_is_known_of(kind, tmp_path):
    def serve(url: str, file, timeout: float, progress: bool) -> bytes:
        return PACKED[url.rpartition("/")[2].removesuffix(".gz")]

    with mock.patch("vaelib._fetch._download", serve):
        check(kind)
    kept = sorted(path.name for path in (tmp_path / "cache" / kind).iterdir())
    assert kept == sorted(FILES if kind == "mnist" else [f"{name}.gz" for name in FILES])
    check(kind)
    assert [each.state for each in data.locate(kind)] == ["verified"] * 4


def test_the_hashes_are_those_that_the_projects_and_other_loaders_publish():
    published = {
        "fashion-mnist": "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
        "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
        "kmnist": "bdb82020997e1d708af4cf47b453dcf7 e144d726b3acfaa3e44228e80efcd344 "
        "5c965bf0a639b31b8f53240b1b52f4d7 7320c461ea6c1c855c0b718fb2a4b134",
    }
    for name, hashes in published.items():
        assert [file.md5 for pair in SETS[name].splits.values() for file in pair] == hashes.split()
        assert len(SETS[name].classes) == len(set(SETS[name].classes)) == 10
    assert SETS["fashion-mnist"].classes[9] == "Ankle boot" and SETS["kmnist"].classes[3] == "tsu"


def test_a_set_of_mnists_form_without_any_hash_is_checked_by_its_form(tmp_path, monkeypatch):
    source = mnist_like("form", mirrors=("http://127.0.0.1:9/",))
    assert [file.shape for pair in source.splits.values() for file in pair][:2] == [(60_000, 28, 28), (60_000,)]
    assert {file.sha256 + file.md5 for pair in source.splits.values() for file in pair} == {""}


def test_loading_the_scene_needs_no_network_and_no_variable(tmp_path):
    code = "from vaelib import _sets, _made, data; _sets.SETS['scene'] = _made.Rendered('scene', {'train': (3, 0)}); "
    code += "print(data.load('scene').images.sum().item() > 0)"
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(Path(data.__file__).parents[1]), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n" and done.stderr == ""


# EMNIST, whose images lie transposed in their files


def emnist_files(kind: str, top: int) -> dict[str, bytes]:
    """Return small files of a kind: upright, image n is on in row n % 28 alone; labels go round from the first."""
    names, first = KINDS[kind]
    files = {}
    for split, n in (("train", 70), ("test", 35)):
        upright = np.zeros((n, 28, 28), np.uint8)
        upright[np.arange(n), np.arange(n) % 28] = top
        files[f"emnist-{kind}-{split}-images-idx3-ubyte"] = idx(np.ascontiguousarray(upright.transpose(0, 2, 1)))
        labels = (np.arange(n) % len(names) + first).astype(np.uint8)
        files[f"emnist-{kind}-{split}-labels-idx1-ubyte"] = idx(labels)
    return files


@pytest.fixture
def emnist(tmp_path, monkeypatch) -> Path:
    """Return the raw folder of torchvision's below VAELIB_DATA, empty."""
    monkeypatch.setenv("VAELIB_DATA", str(tmp_path))
    folder = tmp_path / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_emnist_is_upright_with_labels_from_0_and_a_name_for_each(kind, emnist):
    for name, content in emnist_files(kind, 255).items():
        (emnist / name).write_bytes(content)
    for split, n in (("train", 70), ("test", 35)):
        with pytest.warns(UserWarning, match=r"right in form.*not known"):
            found = data.load(f"emnist-{kind}", split)
        assert found.images.shape == (n, 28, 28) and found.images.dtype == torch.float32
        rows = torch.arange(n) % 28
        assert torch.equal(found.images, torch.eye(28)[rows][:, :, None].expand(-1, -1, 28))  # rows, not columns
        assert torch.equal(found.labels, torch.arange(n) % len(found.classes))
    assert {each.state for each in data.locate(f"emnist-{kind}")} == {"right in form, its content not verified"}


def test_the_classes_of_emnist_are_those_of_its_paper():
    # Cohen et al. (2017), table II: 62 by class, 47 where capitals and small letters that look alike are one
    sizes = {"letters": 26, "balanced": 47, "digits": 10, "mnist": 10, "byclass": 62, "bymerge": 47}
    assert {kind: len(set(names)) for kind, (names, _) in KINDS.items()} == sizes
    assert KINDS["letters"][1] == 1 and KINDS["balanced"][0][36:] == "abdefghnqrt"
    assert KINDS["byclass"][0][10] == "A" and KINDS["byclass"][0][36] == "a"


@pytest.mark.parametrize("place", ["own", "cache", "data", "gzip"])
def test_emnist_is_found_where_it_may_lie_packed_too(place, emnist, tmp_path, monkeypatch):
    folder = {
        "own": tmp_path / "emnist",
        "cache": tmp_path / "cache" / "emnist",
        "data": tmp_path / "data" / "EMNIST" / "raw",
        "gzip": emnist / "gzip",
    }[place]
    if place in ("cache", "data"):
        monkeypatch.delenv("VAELIB_DATA")
        monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in emnist_files("letters", 51).items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    with pytest.warns(UserWarning, match="right in form"):
        assert data.load("emnist-letters").images.max() == 0.2
    assert all(Path(each.path).parent.resolve() == folder for each in data.locate("emnist-letters"))


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("labels-idx1", lambda raw: raw[:8] + b"\0" + raw[9:], "label 0 at index 0: labels are 1 to 26"),
        ("labels-idx1", lambda raw: raw[:8] + b"\x1b" + raw[9:], "label 27 at index 0: labels are 1 to 26"),
        ("labels-idx1", lambda raw: idx(np.ones(69, np.uint8)), "claims 69 labels, but 70 must go with"),
        ("images-idx3", lambda raw: raw[:-1], "is truncated"),
        ("images-idx3", lambda raw: raw + b"\0", "trailing bytes"),
        ("images-idx3", lambda raw: idx(np.zeros((70, 32, 32), np.uint8)), r"\(28, 28\) expected"),
        ("images-idx3", lambda raw: raw[:4] + b"\xff" * 4 + raw[8:], "claims 4,294,967,295 images"),
        ("images-idx3", lambda raw: gzip.compress(raw)[:-30], "truncated gzip"),
        ("images-idx3", lambda raw: b"<html></html>", "is a web page"),
        ("images-idx3", lambda raw: b"", "is empty"),
        ("ubyte", lambda raw: raw[:4] + bytes(4) + raw[8 : 8 * (raw[3] == 3) + 8], "holds no image"),
    ],
)
def test_a_file_that_is_none_of_emnists_is_named(name, harm, said, emnist):
    for file, content in emnist_files("letters", 255).items():
        (emnist / file).write_bytes(harm(content) if name in file else content)
    with pytest.raises(DataError, match=said):
        data.load("emnist-letters")
    assert all("not verified" not in each.state for each in data.locate("emnist-letters"))


def test_a_missing_emnist_is_said_to_be_somebody_elses_to_fetch(emnist, capsys):
    with pytest.raises(DataNotFoundError, match=r"is not fetched: torchvision\.datasets\.EMNIST"):
        data.load("emnist-balanced")
    assert {each.state for each in data.locate("emnist-balanced")} == {"missing"}
    (emnist / "emnist-balanced-test-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    states = [each.state for each in data.locate("emnist-balanced")]
    assert states == ["missing"] * 3 + ["its form not checked without the other"]
