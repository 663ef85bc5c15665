"""Finds a browser of the Chromium family for the tests of the site, and installs Debian's where that is easy.

`python tools/browser.py` is part of `make test`. It never fails: without a browser those tests are skipped, saying so.
"""

import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)


def find() -> str | None:
    """Return the path of a browser, or None."""
    return next((path for path in map(shutil.which, (*NAMES, *PLACES)) if path), None)


def as_root() -> list[str] | None:
    """Return the words that make a command run as root without a question, or None where there are none."""
    if os.name == "nt" or shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "--non-interactive"]
    allowed = shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    return sudo if allowed else None


def install(prefix: list[str]) -> None:
    """Install Debian's chromium; without a network this gives up after seconds."""
    quick = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", *quick]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        # apt's talk of hundreds of packages helps nobody; what went wrong shows in the message of main.
        if subprocess.run([*apt, *command], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
            return


def main() -> None:
    if find():
        return
    prefix = as_root()
    if prefix is not None:
        print("Installing Debian's chromium for the browser tests (about a minute, 400 MB) ...", flush=True)
        install(prefix)
    if not find():
        print("No Chromium or Chrome here: the browser tests will be skipped. Install one to run them.", flush=True)


if __name__ == "__main__":
    main()
