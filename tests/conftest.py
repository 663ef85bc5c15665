"""What tests of several files need."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

_FINDER = Path(__file__).resolve().parents[1] / "tools/browser.py"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser of the Chromium family; without one the tests that need it are skipped, saying so."""
    spec = importlib.util.spec_from_file_location("tools_browser", _FINDER)
    finder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(finder)
    path = finder.find()
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine: nothing is tested in a browser")
    # Only what Chromium would do on its own account is switched off; what a page asks for stays visible.
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*quiet, "--no-sandbox", "--disable-quic", "--disable-gpu"]
        )
        yield browser
        browser.close()
