"""Finds what the tests need besides Python: a browser of the Chromium family, and bubblewrap on Linux.

`make test` runs it: python tools/system_packages.py. It installs Debian's where that is easy, and never fails: without
a browser the tests of the site are skipped, without bubblewrap those of the sandbox of answers, saying so.
"""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)


def find_browser() -> str | None:
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


def install(prefix: list[str], packages: list[str]) -> None:
    """Install Debian's packages; without a network this gives up after seconds."""
    quick = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", *quick]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        # apt's talk of hundreds of packages helps nobody; what went wrong shows in the message of main.
        if subprocess.run([*apt, *command], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
            return


def missing() -> dict[str, str]:
    """Debian's packages that are wanted here, each with what is skipped without it."""
    wanted = {} if find_browser() else {"chromium": "the browser tests"}
    if sys.platform == "linux" and shutil.which("bwrap") is None:
        wanted["bubblewrap"] = "the tests of the sandbox of answers"
    return wanted


def main() -> None:
    if not (wanted := missing()):
        return
    prefix = as_root()
    if prefix is not None:
        print(f"Installing Debian's {', '.join(wanted)} for the tests (chromium: a minute, 400 MB) ...", flush=True)
        install(prefix, list(wanted))
    for package, tests in missing().items():
        print(f"No {package} here: {tests} will be skipped. Install it to run them.", flush=True)


if __name__ == "__main__":
    main()
