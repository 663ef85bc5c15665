"""The latent explorer in JupyterLab: what the browser does reaches Python, what Python does reaches the browser."""

import ast
import time
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Page

from tests.conftest import Lab

CODE = """\
import gc
import torch
import ipywidgets
from vaelib.widgets import LatentExplorer
from vaelib.vae import VAE

explorer = LatentExplorer(VAE(64, (500,), 2, seed=0))
heard = []
explorer.observe(lambda change: heard.append(change["new"]), "z")
explorer
"""
READ = "Array.from(document.querySelectorAll('.vae-sliders input'), (input) => Number(input.value))"


ASK = """async ([code, expression]) => {
    const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
    const request = kernel.requestExecute({
        code, silent: true, store_history: false, user_expressions: { value: expression },
    });
    const { content } = await request.done;
    return content.status === "ok" ? content.user_expressions.value : content;
}"""


class Kernel:
    """The kernel behind the notebook: asked over the browser's connection, beside the widget's own messages."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def __call__(self, expression: str, after: str = "") -> Any:
        """Run some code, then return the value of an expression."""
        reply = self.page.evaluate(ASK, [after, expression])
        assert reply["status"] == "ok", reply
        return ast.literal_eval(reply["data"]["text/plain"])


@pytest.fixture
def page(browser: Browser, jupyterlab: Lab) -> Iterator[Page]:
    # Without a kernel's name, JupyterLab would ask for one.
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=[new_code_cell(CODE)], metadata=metadata)
    nbformat.write(notebook, jupyterlab.folder / "explorer.ipynb")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    jupyterlab.run(page, "explorer.ipynb")
    page.locator(".vae-pad").wait_for(timeout=120_000)
    yield page
    page.close()


@pytest.fixture
def kernel(page: Page) -> Kernel:
    return Kernel(page)


def until(condition: Callable[[], bool], page: Page, message: str) -> None:
    """Wait for what two processes need a moment for."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, message
        page.wait_for_timeout(50)


def test_the_point_that_the_browser_moves_is_python_s_and_the_other_way_round(page, kernel):
    box = page.locator(".vae-pad").bounding_box()
    # A quarter from the left and from the top: -1.5 across, 1.5 up.
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    until(lambda: kernel("explorer.z") != [0, 0], page, "the pad was clicked, and z stayed")
    assert kernel("explorer.z") == pytest.approx([-1.5, 1.5], abs=0.02)
    assert kernel("heard[-1] == explorer.z")
    assert kernel("explorer.z", after="explorer.z = [2.0, -1.0]") == [2, -1]
    until(lambda: page.evaluate(READ) == [2, -1], page, "z was set, and the sliders stayed")


INK = """() => {
    const pad = document.querySelector('.vae-pad');
    const ink = getComputedStyle(pad).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
    // Where the walk's dashes are, left of the point that is at the centre.
    const { data } = pad.getContext('2d').getImageData(110, 319, 150, 2);
    const dashes = [...Array(data.length / 4).keys()].filter((i) => data[4 * i + 3] > 200);
    const alike = (i) => ink.every((each, k) => Math.abs(data[4 * i + k] - each) < 8);
    return dashes.length > 50 && dashes.every(alike) ? ink[0] : null;
}"""


def test_the_plane_follows_the_theme_of_jupyterlab(page):
    until(lambda: page.evaluate(INK) is not None, page, "the plane was not drawn in the colour of the text")
    light = page.evaluate(INK)
    page.evaluate("jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    until(
        lambda: (page.evaluate(INK) or 0) > light + 100, page, "the theme went dark, and the plane kept its dark lines"
    )


def test_of_a_hundred_fast_moves_the_last_one_wins_on_both_sides(page, kernel):  # FAULTS 43
    box = page.locator(".vae-pad").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for step in range(1, 101):
        page.mouse.move(box["x"] + 5 + step * (box["width"] - 10) / 100, box["y"] + box["height"] / 2)
    # Three quarters across, at the height of the middle.
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.up()
    until(lambda: kernel("abs(explorer.z[0] - 1.5) < 0.02"), page, "the last move did not arrive")
    page.wait_for_timeout(500)  # an echo of an earlier move would arrive now
    assert kernel("explorer.z") == pytest.approx([1.5, 0], abs=0.02)
    # The sliders go in steps of 0.05.
    assert page.evaluate(READ) == pytest.approx([1.5, 0], abs=0.03)


def test_a_cell_run_twenty_times_leaves_one_explorer_with_one_callback(page, kernel):  # FAULTS 44
    alive = "sum(isinstance(each, LatentExplorer) for each in ipywidgets.widgets.widget._instances.values())"
    assert kernel(alive) == 1
    for again in range(20):
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        until(lambda again=again: kernel("get_ipython().execution_count") >= 2 + again, page, "the cell did not run")
    page.wait_for_timeout(1000)
    assert kernel(alive) == 1
    # Those that the notebook's history of outputs holds have let go of their weights.
    held = "sum(len(each._weights) for each in gc.get_objects() if isinstance(each, LatentExplorer))"
    assert kernel(held) == 2 * (2 * 500 + 500 + 500 * 64 + 64)  # two bytes each, once
    assert kernel("sum(isinstance(each, VAE) for each in gc.get_objects())", after="gc.collect()") == 1
    assert page.locator(".vae-pad").count() == 1
    box = page.locator(".vae-pad").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    until(lambda: kernel("len(heard)") > 0, page, "the pad was clicked, and z stayed")
    page.wait_for_timeout(500)
    assert kernel("len(heard)") == 1
