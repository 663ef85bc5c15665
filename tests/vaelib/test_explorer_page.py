"""The page that an explorer saves: alive from disk without a network, honest where it can't be, never half written."""

import base64
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page
from torch import nn

from vaelib import data
from vaelib.cvae import CVAE
from vaelib.vae import VAE
from vaelib.widgets import LatentExplorer


def drawn_well(model: nn.Module) -> nn.Module:
    """The same model with larger weights: a fresh one decodes nearly the same grey from every code."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3).add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    return model


def normalising() -> VAE:
    """A model whose decoder the browser does not know."""
    return VAE(64, (8,), 2, decoder=nn.Sequential(nn.Linear(2, 64), nn.BatchNorm1d(64), nn.Linear(64, 64)))


EXPLORERS: dict[str, Callable[[], LatentExplorer]] = {
    "a model of the reader's own": lambda: LatentExplorer(drawn_well(VAE(64, (20,), 2)), data.load("digits", "test")),
    "a shipped model": lambda: LatentExplorer("mnist-2d"),
    "two side by side": lambda: LatentExplorer(
        {"one": drawn_well(VAE(64, (20,), 3)), "two": drawn_well(VAE(64, (9, 5), 3, activation="tanh"))}
    ),
    "a conditional model": lambda: LatentExplorer(drawn_well(CVAE(64, 10, (20,), 2))),
    "in colour": lambda: LatentExplorer(drawn_well(VAE((3, 6, 8), (20,), 2))),
}


class Reader:
    """A browser without a network: whatever the page asks for, beyond its own file, is noted."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(offline=True, **options)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: Path) -> Page:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.goto(path.as_uri())
        page.wait_for_timeout(300)  # what the page does when it rests
        return page

    def close(self, path: Path) -> None:
        self.context.close()
        foreign = [url for url in self.asked if url != path.as_uri() and not url.startswith(("data:", "blob:"))]
        assert foreign == [] and self.complaints == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a page.html"


@pytest.fixture
def reader(browser: Browser, path: Path) -> Iterator[Reader]:
    reader = Reader(browser, viewport={"width": 1280, "height": 800})
    yield reader
    reader.close(path)


def images(page: Page) -> torch.Tensor:
    """What stands on the canvases after the next frame, (models, height * width, 3)."""
    return torch.tensor(
        page.evaluate(
            """async () => {
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                return Array.from(document.querySelectorAll('.vae-image'), (canvas) => {
                    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
                    const colours = (_, i) => Array.from(data.subarray(4 * i, 4 * i + 3));
                    return Array.from({ length: data.length / 4 }, colours);
                });
            }"""
        )
    )


def from_python(explorer: LatentExplorer) -> torch.Tensor:
    """The same from Python's decoder."""
    pixels = explorer._spec["height"] * explorer._spec["width"]
    return 255 * explorer.decode().clamp(0, 1).unflatten(1, (-1, pixels)).movedim(1, -1).expand(-1, -1, 3)


@pytest.mark.parametrize("name", EXPLORERS)
def test_keys_move_the_saved_explorer_and_it_decodes_as_python_does(name, reader, path):
    explorer = EXPLORERS[name]()
    latent_dim = explorer._spec["latent_dim"]
    explorer.z = [0.5] * latent_dim
    explorer.save(path)
    page = reader.open(path)
    pictures = [images(page)]

    def changed(what: str) -> None:
        pictures.append(images(page))
        assert (pictures[-1] != pictures[-2]).flatten(1).any(1).all(), what
        # Half a grey level of the screen's rounding, and one for weights that are float16 in the page.
        assert (pictures[-1] - from_python(explorer)).abs().max() < 1.5, what

    across, up = explorer._spec["order"][:2]
    page.locator(".vae-pad").press("ArrowRight")
    page.locator(".vae-pad").press("Shift+ArrowDown")
    explorer.set_trait("z", [{across: 0.6, up: 0.0}.get(k, 0.5) for k in range(latent_dim)])
    changed("the plane")
    slider = page.get_by_role("slider", name=f"z{latent_dim}", exact=True)
    slider.press("ArrowLeft")
    explorer.z = [*explorer.z[:-1], explorer.z[-1] - 0.05]
    changed("a slider")
    if explorer._spec["classes"]:
        page.locator("select").focus()
        page.keyboard.press("4")
        explorer.label = 4
        changed("the class")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing_amiss_in_saved_pages_and_they_fit(browser, path, scheme, width):
    half = {"mine": normalising(), "known": VAE(64, (8,), 2)}
    reader = Reader(browser, color_scheme=scheme, viewport={"width": width, "height": 800})
    for explorer in (LatentExplorer(CVAE(64, 10, (8,), 20)), LatentExplorer(half), LatentExplorer(normalising())):
        explorer.save(path, title="An <explorer> & a title")
        page = reader.open(path)
        found = {
            each["id"]: [node["html"] for node in each["nodes"]] for each in Axe().run(page).response["violations"]
        }
        assert found == {}
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (page.title(), page.locator("h1").inner_text()) == ("An <explorer> & a title",) * 2
        assert page.locator("html").get_attribute("lang") == "en"
    reader.close(path)


def test_the_plane_follows_the_system_into_the_dark(reader, path):
    LatentExplorer(VAE(64, (8,), 2)).save(path)
    page = reader.open(path)
    # Where the walk's dashes are, left of the point; on a busy machine it takes some frames until they are drawn again.
    ink = """(grey) => {
        const { data } = document.querySelector('.vae-pad').getContext('2d').getImageData(110, 319, 150, 2);
        const drawn = Array.from(data).filter((_, i) => i % 4 === 0 && data[i + 3] > 200);
        return drawn.length > 50 && drawn.every((each) => Math.abs(each - grey) < 8);
    }"""
    for scheme, grey in (("light", 0), ("dark", 255)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(ink, arg=grey, timeout=10_000)


def test_a_model_that_only_python_can_run_stands_still_and_says_why(reader, path):
    explorer = LatentExplorer(normalising(), data.load("digits", "test"))
    explorer.z = [1.0, -1.0]
    explorer.save(path)
    page = reader.open(path)
    assert page.get_by_text("decoded: its decoder contains BatchNorm1d.").is_visible()
    still = page.get_by_role("img", name=re.compile(r"cross at z1 = 1\.00, z2 = -1\.00.* by decoded"))
    assert still.is_visible() and still.evaluate("image => image.naturalWidth") > 300
    assert page.locator("canvas, input, button").count() == 0


def test_beside_a_living_model_one_that_stands_still_fades_when_the_point_leaves(reader, path):
    explorer = LatentExplorer({"mine": normalising(), "known": drawn_well(VAE(64, (8,), 2))})
    explorer.z = [1.0, -1.0]
    explorer.save(path)
    page = reader.open(path)
    assert (images(page) - from_python(explorer)).abs().max() < 1.5
    [note] = page.locator("figcaption", has_text="mine").locator(".vae-note").all_inner_texts()
    assert "only while Python runs: its decoder contains BatchNorm1d" in note
    assert note.replace("\u00a0", " ").endswith("The image is that of z1 = 1.00, z2 = −1.00.")
    opacity = "Array.from(document.querySelectorAll('.vae-image'), (each) => Number(getComputedStyle(each).opacity))"
    for key, shown in ((None, 1), ("ArrowUp", 0.25), ("ArrowDown", 1)):
        if key:
            page.locator(".vae-pad").press(key)
            images(page)
        assert page.evaluate(opacity) == [shown, 1]


def test_without_scripts_the_saved_page_is_a_still_image(browser, path):
    LatentExplorer("mnist-2d").save(path)
    reader = Reader(browser, java_script_enabled=False)
    still = reader.open(path).get_by_role("img")
    assert still.is_visible() and "mnist-2d" in still.get_attribute("alt")
    reader.close(path)


def test_a_page_that_can_t_come_to_life_keeps_its_still_image_and_says_so(browser, path):
    LatentExplorer(VAE(64, (8,), 2)).save(path)
    text = path.read_text(encoding="utf-8")
    assert text.count('"inputs": 2') == 1
    path.write_text(text.replace('"inputs": 2', '"inputs": -2'), encoding="utf-8")
    reader = Reader(browser)
    page = reader.open(path)
    assert page.get_by_role("img").is_visible()
    assert page.get_by_text("in this browser it can't be brought to life").is_visible()
    reader.complaints.clear()  # the error, for whoever looks
    reader.close(path)


def test_markup_in_titles_stays_text_and_nothing_in_the_state_ends_its_script(reader, path):  # FAULTS 45
    evil = "</script><script>window.harmed = true</script><!--"
    LatentExplorer({evil: VAE(64, (8,), 2), "other": normalising()}).save(path, title=evil)
    page = reader.open(path)
    assert page.evaluate("window.harmed") is None
    assert page.locator("figcaption").first.inner_text() == page.locator("h1").inner_text() == evil
    [state] = re.findall(r'<script type="application/json" id="state">(.*)</script>', path.read_text(encoding="utf-8"))
    assert "<" not in state


def test_the_file_needs_nothing_else_and_is_the_same_every_time(path):
    explorer = LatentExplorer("mnist-2d")
    explorer.save(path)
    first = path.read_text(encoding="utf-8")
    asks = r"\bimport\b|https?:|\bfetch\(|\bsrc=\"(?!data:)|<link(?! rel=\"icon\" href=\"data:,\")"
    assert re.findall(asks, first) == []
    assert '"shipped": "' not in first and base64.b64encode(explorer._weights).decode() in first
    LatentExplorer("mnist-2d").save(path)
    assert path.read_text(encoding="utf-8") == first


def test_a_name_that_is_no_page_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    explorer = LatentExplorer(VAE(64, (8,), 2))
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("kept")
    for name, error, message in (
        ("page", ValueError, r"page' is no name of a web page: end it in \.html, as .*page\.html' does"),
        ("page.txt", ValueError, r"as .*page\.html' does"),
        ("folder.html", IsADirectoryError, r"is a folder: name a file in it, such as .*page\.html"),
        ("file/page.html", OSError, r"cannot write the page \(.*\): choose a folder you may write to"),
    ):
        with pytest.raises(error, match=message):
            explorer.save(tmp_path / name)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.html"]
    explorer.save(tmp_path / "new" / "page.HTM")
    before = (tmp_path / "new" / "page.HTM").read_bytes()

    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write the page \(No space left on device\)") as caught:
        explorer.save(tmp_path / "new" / "page.HTM", title="another")
    assert caught.value.errno == errno.ENOSPC
    assert [each.read_bytes() for each in (tmp_path / "new").iterdir()] == [before]
