"""Sliders with a still for each position: which still is shown, and what a page without a kernel gets."""

import base64
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.conftest import Lab, opened_offline
from vaelib import widgets
from vaelib.widgets import Sliders


def bars(high: float, wide: int = 1) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(2, 2))
    ax.bar(range(wide), high)
    ax.set(ylim=(0, 3))
    return figure


def test_a_function_that_returns_no_figure_is_told_what_to_return():
    def nothing(high):
        bars(high)

    with pytest.raises(TypeError, match=r"returned None: .* 'return plt\.gcf\(\)'"):
        Sliders(nothing, high=[1.0, 2.0])
    with pytest.raises(TypeError, match=r"returned <Axes.* for Axes in 'return axes\.figure'"):
        Sliders(lambda high: bars(high).axes[0], high=[1.0, 2.0])
    plt.close("all")

    def obeyed(high):
        bars(high)
        return plt.gcf()

    by_hand = Sliders(bars, high=[1.0, 2.0])._frames
    assert Sliders(obeyed, high=[1.0, 2.0])._frames == by_hand
    assert Sliders(lambda high: bars(high).axes[0].figure, high=[1.0, 2.0])._frames == by_hand


def test_each_position_shows_its_own_still_and_reset_goes_back():
    sliders = Sliders(bars, start={"high": 2.0}, high=[1.0, 2.0, 3.0], wide=[1, 2])
    home = sliders.frame()
    shown = {}
    for i in range(3):
        for j in range(2):
            sliders._sliders[0].index, sliders._sliders[1].index = i, j
            shown[i, j] = sliders._picture.value
    assert len(set(shown.values())) == 6 and shown[1, 0] == home
    # A higher bar has more ink: the rows run as the first slider does.
    dark = {place: (np.asarray(Image.open(io.BytesIO(file)).convert("L")) < 200).sum() for place, file in shown.items()}
    assert dark[0, 0] < dark[1, 0] < dark[2, 0]
    sliders._go_home(None)
    assert sliders._picture.value == home


def test_what_is_stored_holds_every_still_in_the_order_of_the_positions():
    sliders = Sliders(bars, high=[1.0, 2.5], wide=[1, 2, 3])
    stored = sliders.stored()
    assert (stored["names"], stored["values"]) == (["high", "wide"], [["1", "2.5"], ["1", "2", "3"]])
    sliders._sliders[0].index, sliders._sliders[1].index = 1, 0
    assert base64.b64decode(stored["frames"][3]) == sliders.frame()
    bundle = sliders._repr_mimebundle_()
    files = (base64.b64decode(each) for each in (bundle["image/png"], stored["frames"][0]))
    still, first = (Image.open(io.BytesIO(file)) for file in files)
    assert still.format == "PNG" and np.array_equal(still.convert("RGB"), first.convert("RGB"))
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_no_figure_stays_open_and_the_same_figures_give_the_same_bytes():
    before = plt.get_fignums()
    first, second = (Sliders(bars, high=[1.0, 2.0]).stored() for _ in range(2))
    assert plt.get_fignums() == before and first == second


def test_a_single_slider_can_be_played():
    sliders = Sliders(bars, high=[1.0, 2.0])
    assert [type(child).__name__ for child in sliders.children] == ["Image", "SelectionSlider", "Play", "Button"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "a slider needs values"),
        ({"high": []}, "a slider needs values"),
        ({"high": [1.0], "start": {"high": 2.0}}, "start has high = 2.0, which is no position"),
        ({"high": [1.0], "start": {"low": 1.0}}, "start has low = 1.0"),
        ({"high": range(11), "wide": range(10)}, "110 positions are 110 stills: at most 100"),
    ],
)
def test_positions_that_can_t_be_shown_are_refused_before_anything_is_drawn(given, message):
    def never(**position):
        raise AssertionError("drawn")

    with pytest.raises(ValueError, match=message):
        Sliders(never, **given)


def test_the_old_name_gives_the_same_class_and_warns():
    with pytest.warns(DeprecationWarning, match=r"write `from vaelib.widgets import Sliders`"):
        from vaelib.sliders import Sliders as Former
    assert Former is Sliders


def test_sliders_need_no_torch_and_the_package_nothing_at_all():
    def loads(statement: str, *packages: str) -> set[str]:
        code = f"import sys; {statement}; print(*sys.modules)"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return set(packages) & set(ran.stdout.split())

    assert loads("from vaelib.widgets import Sliders", "torch", "anywidget") == set()
    assert loads("import vaelib.widgets; dir(vaelib.widgets)", "ipywidgets", "matplotlib", "numpy") == set()
    assert {"LatentExplorer", "Sliders"} <= set(dir(widgets))
    with pytest.raises(AttributeError, match=r"'vaelib\.widgets' has no attribute 'Slider'"):
        _ = widgets.Slider


PIXELS = """image => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL();
}"""


@pytest.fixture
def saved(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page that sliders saved, opened from disk without a network."""
    path = tmp_path / "a page.html"
    Sliders(bars, start={"high": 2.0}, high=[1.0, 2.0, 3.0], wide=[1, 2]).save(path, title="Bars </script> & more")
    with opened_offline(browser, path) as page:
        yield page


def test_keys_move_saved_sliders_to_the_stills_that_python_drew(saved):
    sliders = Sliders(bars, start={"high": 2.0}, high=[1.0, 2.0, 3.0], wide=[1, 2])
    picture = saved.get_by_role("img")

    def shown() -> bytes:
        return base64.b64decode(picture.get_attribute("src").removeprefix("data:image/webp;base64,"))

    home = sliders.frame()
    assert shown() == home and "high = 2, wide = 1" in picture.get_attribute("alt")
    for name, key, slider, index in (("high", "ArrowRight", 0, 2), ("wide", "End", 1, 1), ("high", "Home", 0, 0)):
        saved.get_by_role("slider", name=name).press(key)
        sliders._sliders[slider].index = index
        assert shown() == sliders.frame() != home, (name, key)
    saved.get_by_role("button", name="Reset").click()
    assert shown() == home


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_amiss_in_saved_sliders(saved, scheme):
    saved.emulate_media(color_scheme=scheme)
    assert Axe().run(saved).response["violations"] == []
    assert saved.evaluate("document.documentElement.scrollWidth") <= 320
    assert saved.title() == saved.locator("h1").inner_text() == "Bars </script> & more"


def test_saved_sliders_play_and_without_scripts_stand_still(browser, tmp_path):
    Sliders(bars, high=[1.0, 2.0, 3.0]).save(tmp_path / "page.html")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.title() == "A figure with a slider for high"
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("slider")).to_have_value("2")
    page.get_by_role("button", name="Play").wait_for()
    page.close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.get_by_role("img").is_visible() and page.locator(".vae-note").is_visible()
    context.close()


def test_a_name_that_is_no_page_is_refused(tmp_path):
    sliders = Sliders(bars, high=[1.0, 2.0])
    with pytest.raises(
        ValueError, match=r"'page\.png' is no name of a web page: end it in \.html, as 'page\.html' does"
    ):
        sliders.save("page.png")
    with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
        sliders.save(tmp_path)


def test_in_jupyterlab_a_slider_by_keys_changes_the_picture_and_reset_brings_it_back(
    browser: Browser, jupyterlab: Lab
) -> None:
    code = """\
import matplotlib.pyplot as plt
from vaelib.widgets import Sliders

def bar(high):
    figure, ax = plt.subplots(figsize=(2, 2))
    ax.bar([0], high)
    ax.set(ylim=(0, 3))
    return figure

Sliders(bar, high=[1, 2, 3])
"""
    # Without a kernel's name, JupyterLab would ask for one.
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=[new_code_cell(code)], metadata=metadata)
    nbformat.write(notebook, jupyterlab.folder / "sliders.ipynb")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    jupyterlab.run(page, "sliders.ipynb")
    picture = page.locator(".jp-OutputArea img.widget-image").first
    picture.wait_for(timeout=120_000)
    home = picture.evaluate(PIXELS)
    page.locator(".jp-OutputArea [role=slider]").first.press("ArrowRight")
    page.wait_for_function(f"image => ({PIXELS})(image) !== {home!r}", arg=picture.element_handle(), timeout=30_000)
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function(f"image => ({PIXELS})(image) === {home!r}", arg=picture.element_handle(), timeout=30_000)
    page.close()
