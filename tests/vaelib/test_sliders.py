"""Sliders with a still for each position: which still is shown, and what a page without a kernel gets."""

import base64
import io

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from playwright.sync_api import Browser

from tests.conftest import Lab
from vaelib.widgets import Sliders


def bars(high: float, wide: int = 1) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(2, 2))
    ax.bar(range(wide), high)
    ax.set(ylim=(0, 3))
    return figure


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


PIXELS = """image => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL();
}"""


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
