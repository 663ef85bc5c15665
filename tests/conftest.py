"""What tests of several files need."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tools.system_packages import find_browser

_RUN_ALL = """async () => {
    await jupyterapp.restored;
    await jupyterapp.shell.currentWidget.sessionContext.ready;
    jupyterapp.commands.execute("notebook:run-all-cells");
}"""


@pytest.fixture(autouse=True)
def ctrl_c_counts() -> Iterator[None]:
    """Undo that a shell's job in the background ignores Ctrl-C, as do all processes that it starts."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser of the Chromium family; without one the tests that need it are skipped, saying so."""
    path = find_browser()
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


@contextmanager
def opened_offline(browser: Browser, path: Path) -> Iterator[Page]:
    """Open a saved page from disk with no network; at the end, it asked for nothing and complained of nothing."""
    context = browser.new_context(offline=True, viewport={"width": 320, "height": 700})
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    yield page
    context.close()
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()] and complaints == []


@dataclass
class Lab:
    """A JupyterLab that serves `folder` at `url`, and keeps the connection files of its kernels in `runtime`."""

    folder: Path
    url: str
    runtime: Path

    def run(self, page: Page, name: str) -> None:
        """Open a notebook of the folder in a browser's page and start all of its cells."""
        page.goto(f"{self.url}/lab/tree/{name}")
        page.wait_for_selector(".jp-NotebookPanel .jp-Notebook .jp-CodeCell", timeout=60_000)
        page.evaluate(_RUN_ALL)


def strangers(own: Path) -> dict[str, str]:
    """An environment in which JupyterLab knows no settings of the person who runs the tests, and keeps its own here."""
    tracker = own / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text('{"windowingMode": "none"}')  # so that every cell is in the page
    folders = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
    )
    env = os.environ | {name: str(own / name) for name in folders}
    return env | {"JUPYTERLAB_SETTINGS_DIR": str(own / "settings"), "OMP_NUM_THREADS": "1"}


@contextmanager
def serving(command: list[str], folder: Path, own: Path) -> Iterator[Lab]:
    """A JupyterLab that a command starts: it serves `folder`, and keeps what it writes of itself in `own`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    options += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    env, log = strangers(own), own / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen([*command, *options], env=env, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/api/status", timeout=5)
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.25)
        yield Lab(folder, url, own / "JUPYTER_RUNTIME_DIR")
    finally:
        server.terminate()  # JupyterLab stops its kernels, then itself
        server.wait(30)


@pytest.fixture
def jupyterlab(tmp_path: Path) -> Iterator[Lab]:
    """A JupyterLab that touches no settings of the person who runs the tests."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    options = [f"--ServerApp.root_dir={folder}", "--ServerApp.allow_root=True", "--LabApp.news_url=None"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with serving([sys.executable, "-m", "jupyterlab", *options], folder, tmp_path / "jupyter") as lab:
        yield lab
