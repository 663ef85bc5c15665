"""Photograph the built site for the README: `make book`, then `python -m bookbuild pictures`.

Writes book/figures/readme-front.png, readme-derivation.png and readme-latent.png, in at most 256 colours each.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import sync_playwright

from tools.system_packages import find_browser

ROOT = Path(__file__).resolve().parents[1]
SITE, FIGURES = ROOT / "_build" / "site", ROOT / "book" / "figures"
# Page, what to scroll to, colour scheme.
PICTURES: dict[str, tuple[str, str | None, Literal["light", "dark"]]] = {
    "front": ("index.html", None, "light"),
    "derivation": ("notebooks/03_elbo.html", "#equation-eq-elbo-gap", "light"),
    "latent": ("notebooks/08_latent_space.html", "#fig-latent-manifold", "dark"),
}


def main(arguments: list[str] | None = None) -> int:
    """Takes the three pictures."""
    argparse.ArgumentParser(
        prog="python -m bookbuild pictures", description="Photographs the built site for the README."
    ).parse_args(arguments)
    executable = find_browser()
    if executable is None or not (SITE / "index.html").exists():
        sys.exit("this needs a browser of the Chromium family and the site: run `make book` first")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for name, (page_name, place, scheme) in PICTURES.items():
            page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme=scheme)
            page.goto((SITE / page_name).as_uri())
            page.wait_for_function("document.fonts.status === 'loaded'")
            if place is not None:
                page.locator(place).evaluate("element => window.scrollTo(0, element.offsetTop - 120)")
            page.wait_for_timeout(500)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(256).save(FIGURES / f"readme-{name}.png", optimize=True)
        browser.close()
    return 0
