"""Photograph the built site for the README: ``make book``, then ``.venv/bin/python tools/readme_pictures.py``.

Writes book/figures/readme-front.png, readme-derivation.png and readme-latent.png, in at most 256 colours each.
"""

import io
import sys
from pathlib import Path

from browser import find
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SITE, FIGURES = ROOT / "_build" / "site", ROOT / "book" / "figures"
# Page, what to scroll to, colour scheme.
PICTURES = {
    "front": ("index.html", None, "light"),
    "derivation": ("notebooks/03_elbo.html", "#equation-eq-elbo-gap", "light"),
    "latent": ("notebooks/08_latent_space.html", "#fig-latent-manifold", "dark"),
}


def main() -> None:
    """Take the three pictures."""
    executable = find()
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


if __name__ == "__main__":
    main()
