"""Build the site: assemble its sources, run Sphinx, look at the pages, and only then replace the previous site.

    python -m bookbuild site        # builds into _build/site

No network is needed. Where anything fails, the exit status is 1 and the previous site stays as it was.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from sphinx.cmd.build import main as sphinx

from bookbuild.chapter import Chapter, NotebookError, chapters, serialise
from bookbuild.convert import in_myst
from bookbuild.in_step import check, keep_outputs
from bookbuild.normalise import STATES

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
CONF = ROOT / "book"
# What the theme copies and no page uses.
UNUSED = ("**/*.map", "_static/scripts/fontawesome.js*", "_static/*webpack-macros.html", ".buildinfo", "objects.inv")
CHAPTER = re.compile(r"\d\d_\w+")


class SiteError(RuntimeError):
    """The site cannot be built; the message says why."""


def assemble(target: Path, root: Path = ROOT) -> None:
    """Lay out what the site shows as in the repository, so that relative links mean the same in both.

    The chapters come with their roles and labels, which Sphinx resolves, and with the outputs of the stored notebooks.
    """
    stored = [chapter for chapter in chapters(root) if chapter.stored.is_file()]
    pages = [path for path in (root / "book").glob("*.md") if not CHAPTER.fullmatch(path.stem) and path.stem != "index"]
    if not stored:
        raise SiteError("notebooks/ holds no chapter; run: make notebooks")
    shutil.rmtree(target, ignore_errors=True)
    for folder in ("book", "notebooks"):
        (target / folder).mkdir(parents=True)
    for path in pages:
        shutil.copyfile(path, target / path.relative_to(root))
    for chapter in stored:
        try:
            (target / chapter.notebook).write_text(for_site(chapter), encoding="utf-8")
        except NotebookError as error:
            raise SiteError(str(error)) from None
    shutil.copyfile(root / "book" / "index.md", target / "index.md")
    if (root / "book" / "figures").is_dir():
        shutil.copytree(root / "book" / "figures", target / "book" / "figures")


def build(source: Path, site: Path, root: Path = ROOT) -> None:
    """Run Sphinx on ``source``, warnings as errors, check the pages, and put them at ``site`` if all is well."""
    site.parent.mkdir(parents=True, exist_ok=True)
    # Beside the site, so that the last step is a rename on one file system.
    with tempfile.TemporaryDirectory(dir=site.parent, prefix=".site-") as scratch:
        new = Path(scratch) / "html"
        options = ["-b", "html", "-q", "-W", "--keep-going", "-c", str(CONF), "-d", f"{scratch}/doctrees"]
        if sphinx([*options, str(source), str(new)]) != 0:
            raise SiteError(f"Sphinx reported the above; {site} is as it was")
        # What the download button gives is the notebook that is stored, not the one with Sphinx's roles.
        for path in (new / "_sources" / "notebooks").glob("*.ipynb"):
            shutil.copyfile(root / "notebooks" / path.name, path)
        for path in {path for pattern in UNUSED for path in new.glob(pattern)}:
            path.unlink()
        faults = list(page_faults(new))
        if faults:
            raise SiteError("\n".join([*faults, f"{len(faults)} faults in the pages; {site} is as it was"]))
        if site.exists():
            site.rename(Path(scratch) / "previous")
        new.rename(site)


def for_site(chapter: Chapter) -> str:
    """The chapter as the site needs it: its own text, with the outputs that are stored."""
    notebook = in_myst(chapter)
    if not keep_outputs(chapter, notebook):
        raise NotebookError(f"{chapter.notebook} does not hold the code of {chapter.source}: run `make notebooks`")
    notebook.cells = [each for cell in notebook.cells for each in (cell, *_states(cell))]
    return serialise(notebook)


def _states(cell: NotebookNode) -> list[NotebookNode]:
    """The states of the cell's figures that move, taken out of its outputs: a cell of data for the page's script."""
    found = [
        (name, output.data.pop(kind))
        for output in cell.get("outputs", [])
        for kind, name in STATES.items()
        if kind in output.get("data", {})
    ]
    texts = [
        f'<script type="application/json" class="vaelib-{name}">{_for_page(state)}</script>' for name, state in found
    ]
    return [new_markdown_cell("\n\n".join(texts), id=f"{cell.id}-state")] if found else []


def _for_page(state: object) -> str:
    """JSON without "<", which could end the element that it stands in, or begin a comment."""
    return json.dumps(state).replace("<", "\\u003c")


class Page(HTMLParser):
    """What one page says: its anchors, its links, what it loads, and its faults."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.faults: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if "katex-error" in values.get("class", ""):
            self.faults.append("a formula is not valid LaTeX (katex-error)")
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") not in {"canonical", "license"}:
            self.loads.append(values.get("href", ""))
        if tag in {"img", "script", "iframe", "source", "video", "audio", "embed"} and "src" in values:
            self.loads.append(values["src"])
        if tag == "object":
            self.loads.append(values.get("data", ""))
        if tag == "img":
            alt = values.get("alt", "").strip()
            # Docutils writes the address where an image has no alt text.
            if not alt or alt == values.get("src"):
                self.faults.append(f"the image {values.get('src', '')[:80]} has no alt text")


def page_faults(site: Path) -> Iterator[str]:
    """Yield what Sphinx is silent about: dead links and anchors, no alt text, bad formulas, calls to other hosts."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        yield from (f"{name}: {fault}" for fault in page.faults)
        for address in page.loads:
            parts = urlsplit(address)
            if parts.netloc:
                yield f"{name}: loads {address} from another host"
            elif parts.path and not (path.parent / unquote(parts.path)).exists():
                yield f"{name}: loads {address}, which is not there"
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{name}: the link {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name}: the link {link} names an anchor that is not there"
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)", path.read_text("utf-8")):
            yield f"{path.relative_to(site)}: loads {address} from another host"


def check_notebooks(root: Path = ROOT) -> None:
    """Refuse notebooks that are out of step with their sources."""
    if problems := check(root):
        raise SiteError("\n".join([*problems, "the notebooks are out of step with book/*.md"]))


def main(arguments: list[str] | None = None) -> int:
    """Builds the site, or says why it was not built."""
    argparse.ArgumentParser(prog="python -m bookbuild site", description="Builds the site in _build/site.").parse_args(
        arguments
    )
    start = time.perf_counter()
    site = BUILD / "site"
    try:
        check_notebooks()
        assemble(BUILD / "site-source")
        build(BUILD / "site-source", site)
    except SiteError as error:
        print(f"The site was not built.\n{error}", file=sys.stderr)
        return 1
    print(f"The site is at {site / 'index.html'} ({time.perf_counter() - start:.0f} s).")
    return 0
