"""The site: what its build refuses, and what a reader's browser makes of it, and of a chapter in JupyterLab."""

import functools
import gzip
import http.server
import re
import shutil
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Route

from bookbuild import pages as site_tool
from bookbuild import plain_markdown
from bookbuild.chapter import chapters
from bookbuild.convert import in_myst
from tests.conftest import Lab

# Sphinx runs in this process; what its extensions will have to change for a later Sphinx is not this book's affair.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]


# --- What the build refuses. Each source is a whole site of two pages, with the book's own configuration. ---

DOT = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><circle cx="2" cy="2" r="1"/></svg>'
GOOD = """# A page

```{toctree}
book/bibliography
```

(a-section)=
## A section

{cite:t}`kingma2014` has $x^2$, [a section](#a-section), [another page](book/bibliography.md)
and ![a dot](dot.svg), as in {eq}`eq-good`.

$$
\\begin{aligned} \\mathrm{KL}(q \\,\\Vert\\, p) &= \\mathbb{E}_q[\\log q - \\log p] \\\\ &\\ge 0 \\end{aligned}
$$ (eq-good)
"""
LINE = f"index.md:{GOOD.count(chr(10)) + 2}:"  # where the fault is planted
FAULTS = {
    "bad LaTeX": (r"Here is $\frac{1}{$.", LINE, "KaTeX parse error"),
    "unknown LaTeX command": (r"Here is $\KLdivergence$.", LINE, "Undefined control sequence"),
    "unknown citation": ("See {cite}`nobody1900`.", LINE, "nobody1900"),
    "duplicate label": ("$$\ny = 1\n$$ (eq-good)", "index.md", "eq-good"),
    "unknown equation": ("See {eq}`eq-none`.", LINE, "eq-none"),
    "unknown figure": ("See {numref}`fig-none`.", LINE, "fig-none"),
    "unknown term": ("A {term}`nonsense`.", LINE, "nonsense"),
    "broken link": ("See [it](nowhere.md).", LINE, "nowhere.md"),
    "broken anchor": ("See [it](#nowhere).", LINE, "nowhere"),
    "broken anchor in HTML": (
        'See <a href="#nowhere">it</a>.',
        "index.html",
        "#nowhere names an anchor that is not there",
    ),
    "dead link in HTML": ('See <a href="nowhere.html">it</a>.', "index.html", "nowhere.html leads nowhere"),
    "missing image": ("![a dot](none.svg)", LINE, "none.svg"),
    "missing alt text": ("![](dot.svg)", "index.html", "has no alt text"),
    "image of another host": ('<img src="https://example.org/x.png" alt="x">', "index.html", "another host"),
    "script of another host": ('<script src="//example.org/x.js"></script>', "index.html", "another host"),
}


def tiny_source(folder: Path, extra: str = "") -> Path:
    (folder / "book").mkdir(parents=True)
    (folder / "dot.svg").write_text(DOT)
    (folder / "index.md").write_text(f"{GOOD}\n{extra}\n")
    shutil.copy(ROOT / "book" / "bibliography.md", folder / "book" / "bibliography.md")
    return folder


def test_a_source_without_faults_builds_and_replaces_the_previous_site(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "previous.html").write_text("previous")
    site_tool.build(tiny_source(tmp_path / "source"), tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'class="katex"' in page and "<math" in page  # rendered while building, MathML for screen readers included
    assert 'id="equation-eq-good"' in page and 'href="#equation-eq-good"' in page
    assert not (tmp_path / "site" / "previous.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "source"]  # nothing is left behind


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_page_fails_the_build_names_the_page_and_keeps_the_previous_site(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    extra, page, message = FAULTS[name]
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("previous")
    with pytest.raises(site_tool.SiteError) as error:
        site_tool.build(tiny_source(tmp_path / "source", extra), tmp_path / "site")
    report = f"{capfd.readouterr().err}\n{error.value}"
    assert any(page in line and message in line for line in report.splitlines()), report
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["index.html"]
    assert (tmp_path / "site" / "index.html").read_text() == "previous"


def test_notebooks_out_of_step_stop_the_build_before_it_starts(tmp_path: Path) -> None:
    for folder in ("book", "notebooks"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "book" / "07_vae.md", tmp_path / "book")
    with pytest.raises(site_tool.SiteError, match="make notebooks"):
        site_tool.check_notebooks(tmp_path)


def test_no_notebook_at_all_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(site_tool.SiteError, match="make notebooks"):
        site_tool.assemble(tmp_path / "source", root=tmp_path)


def test_katex_script_and_style_sheet_are_of_one_version() -> None:
    # A page made by one version and styled by another is subtly wrong everywhere.
    scripts, styles = ROOT / "bookbuild/extensions/katex", ROOT / "book/_static/katex"
    script = (scripts / "katex.min.js").read_text(encoding="utf-8")
    style = (styles / "katex.min.css").read_text(encoding="utf-8")
    version = style.split('.katex .katex-version:after{content:"')[1].split('"')[0]
    assert f'version:"{version}"' in script
    for readme in (scripts / "README.md", styles / "README.md"):
        assert f"KaTeX {version} " in readme.read_text(encoding="utf-8")


# --- The real site. ---


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    site_tool.assemble(folder / "source")
    site_tool.build(folder / "source", folder / "site")
    return folder / "site"


def test_the_site_has_a_page_for_every_chapter_and_every_module(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    for notebook in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        assert f'href="notebooks/{notebook.stem}.html"' in front
    api = (site / "book" / "api.html").read_text(encoding="utf-8")
    modules = {path.stem for path in (ROOT / "vaelib").glob("[a-z]*.py")}
    packages = {path.parent.name for path in (ROOT / "vaelib").glob("[a-z]*/__init__.py")}
    old = {"explorer", "sliders"}  # they warn, and are not shown to those who begin now
    assert sorted(re.findall(r'id="module-vaelib\.([\w.]+)"', api)) == sorted((modules | packages) - old)


def test_buttons_open_the_notebook_in_the_repository_that_pyproject_names(site: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project["urls"]["Repository"].removeprefix("https://github.com/")
    page = (site / "notebooks" / "00_start_here.html").read_text(encoding="utf-8")
    path = "notebooks/00_start_here.ipynb"
    assert (ROOT / path).is_file()
    assert f'href="https://colab.research.google.com/github/{repository}/blob/main/{path}"' in page
    assert f'href="https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path}"' in page
    assert f'href="../_sources/{path}"' in page
    # What the button downloads is the notebook itself, byte for byte.
    assert (site / "_sources" / path).read_bytes() == (ROOT / path).read_bytes()


class Text(HTMLParser):
    """The words of a page's main part, in one line."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words = ""
        self.feed(page[page.index("<article") : page.index("</article")])
        self.words = " ".join(self.words.split()).replace("’", "'")  # Sphinx sets apostrophes

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_api_page_shows_signatures_as_they_stand_in_the_source_and_sections_by_name(site: Path) -> None:
    words = Text((site / "book" / "api.html").read_text(encoding="utf-8")).words
    assert "score(x: ArrayLike) → Floats" in words  # not the dozen types that the name stands for
    assert "color: str = CLASS_COLOURS[0]" in words
    assert "class Bernoulli#" in words and "class VAE( data_dim: int | Sequence[int]," in words
    assert "It has what LatentVariableModel has, too." in words
    assert (
        "Shapes: (..., K), (..., K) -> (...), in nats. Raises: ValueError – if the last dimensions differ. "
        "Source: Kingma and Welling (2014), appendix B; chapter 1." in words
    )
    for raw in ("Args:", "Alias for field number", "_SupportsArray", "<factory>"):
        assert raw not in words


@pytest.mark.parametrize("chapter", chapters(ROOT), ids=lambda chapter: chapter.stem)
def test_numbers_and_citations_in_a_notebook_are_those_of_the_site(site: Path, chapter: Any) -> None:
    page = (site / "notebooks" / f"{chapter.stem}.html").read_text(encoding="utf-8")
    book = plain_markdown.Book.read(ROOT)
    own = f"{int(chapter.stem[:2])}."
    equations = dict(re.findall(r'id="equation-([^"]+)">.*?<span class="eqno">\(([\d.]+)\)', page, re.DOTALL))
    assert equations == {label: number for label, number in book.equations.items() if number.startswith(own)}
    figures = dict(
        re.findall(r'<figure[^>]* id="([^"]+)".*?<span class="caption-number">Figure ([\d.]+) ', page, re.DOTALL)
    )
    assert figures == {name: number for name, number in book.figures.items() if number.startswith(own)}
    words, position = Text(page).words, 0
    for cell in in_myst(chapter).cells:
        if cell.cell_type == "markdown" and not cell.metadata.get("tags"):
            for token in plain_markdown.TOKEN.finditer(cell.source):
                if (token["role"] or "").startswith(("eq", "numref", "cite", "term")):
                    position = words.find(plain_markdown.plain(token[0], book), position)
                    assert position >= 0, f"the page does not show {token[0]} as the notebook does"


def test_the_site_keeps_what_the_notebooks_cannot_have_links_to_terms_equations_and_sources(site: Path) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (site / "notebooks").glob("*.html"))
    for link in ("../book/glossary.html#term-posterior", "#equation-eq-", "../book/bibliography.html#id"):
        assert f'href="{link}' in pages


def markdown_role(cell: nbformat.NotebookNode) -> bool:
    return cell.cell_type == "markdown" and bool(re.search(r"\{(doc|eq|numref|term|cite:[pt])\}`", cell.source))


def test_the_sources_of_the_site_are_the_chapters_text_with_the_stored_outputs(tmp_path: Path) -> None:
    site_tool.assemble(tmp_path)
    for staged in (tmp_path / "notebooks").iterdir():
        ours, stored = (nbformat.read(path, as_version=4).cells for path in (staged, ROOT / "notebooks" / staged.name))
        states = [site_tool._states(cell) for cell in stored]  # taken out of the outputs
        assert [cell.outputs for cell in ours if cell.cell_type == "code"] == [
            cell.outputs for cell in stored if cell.cell_type == "code"
        ]
        assert [cell.source for cell in ours if cell.id.endswith("-state")] == [
            state.source for found in states for state in found
        ]
        assert any(markdown_role(cell) for cell in ours), staged.name
        assert not any(markdown_role(cell) for cell in stored), staged.name


def test_a_notebook_with_other_code_than_its_chapter_stops_the_build(tmp_path: Path) -> None:
    for folder in ("book", "notebooks"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    text = (ROOT / "book" / "07_vae.md").read_text(encoding="utf-8")
    (tmp_path / "book" / "07_vae.md").write_text(
        text + "\n```{code-cell} ipython3\nassert True\n```\n", encoding="utf-8"
    )
    shutil.copy(ROOT / "notebooks" / "07_vae.ipynb", tmp_path / "notebooks")
    with pytest.raises(site_tool.SiteError, match=r"notebooks/07_vae\.ipynb does not hold the code of book/07_vae\.md"):
        site_tool.assemble(tmp_path / "source", root=tmp_path)


# --- In a browser. ---


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module", params=["http", "file"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    if request.param == "file":
        yield site.as_uri()
        return
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(site))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Reader:
    """A browser window that records complaints and refuses, and records, every request to another host."""

    def __init__(self, browser: Browser, address: str, width: int = 1200, **options: Any) -> None:
        self.address = address
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        self.context.route("**/*", self._own_host_only)
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))
        self.page.on("console", self._console)
        self.page.on("requestfailed", self._failed)

    def _own_host_only(self, route: Route) -> None:
        url = route.request.url
        if url.startswith((f"{self.address}/", "data:", "blob:")):
            route.continue_()
        else:
            self.complaints.append(f"{self.page.url} asked for {url}")
            route.abort()

    def _failed(self, request: Request) -> None:
        # "Aborted" is what the browser gave up because this test had gone on to the next page.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"{self.page.url}: no {request.url}: {request.failure}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.address}/{path}", wait_until="load")
        return self.page


@pytest.fixture
def reader(browser: Browser, address: str) -> Iterator[Reader]:
    reader = Reader(browser, address)
    yield reader
    reader.context.close()


def pages(site: Path) -> list[str]:
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))


def test_every_page_loads_without_a_complaint_and_without_another_host(reader: Reader, site: Path) -> None:
    for path in pages(site):
        page = reader.open(path)
        assert page.locator("h1:visible").count() >= 1, path
        assert page.locator(".katex-error").count() == 0, path
    assert reader.complaints == []


def test_formulas_are_set_in_the_fonts_that_the_site_brings(reader: Reader) -> None:
    page = reader.open("book/notation.html")
    assert page.locator(".katex").count() > 50
    # Without its fonts KaTeX's output is a heap of misplaced letters.
    page.wait_for_function("[...document.fonts].some(f => f.family.includes('KaTeX_Main') && f.status === 'loaded')")
    assert reader.complaints == []


def test_a_formula_that_scrolls_can_be_reached_by_keyboard(browser: Browser, site: Path) -> None:
    reader = Reader(browser, site.as_uri(), width=320)
    page = reader.open("notebooks/01_kl_divergence.html")
    page.locator(".katex-display[tabindex='0']").first.wait_for(state="attached")
    unreached = page.evaluate(
        """() => [...document.querySelectorAll('.katex-display')]
            .filter((each) => (each.scrollWidth > each.clientWidth) !== (each.tabIndex === 0)).length"""
    )
    assert unreached == 0
    reader.context.close()


def test_search_finds_a_word_of_the_text(reader: Reader) -> None:
    page = reader.open("search.html?q=posterior")
    page.wait_for_selector("#search-results ul.search li a")
    titles = page.locator("#search-results ul.search li > a").all_inner_texts()
    assert any("Glossary" in title for title in titles), titles
    assert reader.complaints == []


def test_the_search_field_of_every_page_leads_to_the_results(reader: Reader) -> None:
    page = reader.open("index.html")
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input[type=search]").fill("posterior")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results ul.search li a")
    assert "search.html" in page.url
    assert reader.complaints == []


def test_the_switch_turns_the_page_dark(reader: Reader) -> None:
    page = reader.open("index.html")
    brightness = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    )
    seen = {}
    for mode in ("light", "dark"):
        page.locator(".theme-switch-button:visible").click()
        page.locator(f".theme-change-button[data-mode={mode}]:visible").click()
        seen[mode] = page.evaluate(brightness)
    assert seen["light"] > 600 and seen["dark"] < 150  # of 765
    assert reader.complaints == []


def test_no_page_is_wider_than_a_small_phone(browser: Browser, site: Path) -> None:
    reader = Reader(browser, site.as_uri(), width=320)
    widths = {path: reader.open(path).evaluate("document.documentElement.scrollWidth") for path in pages(site)}
    reader.context.close()
    assert {path: width for path, width in widths.items() if width > 320} == {}


CODE = """() => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
    return [...document.querySelectorAll(".cell_input pre")]
        .filter((code) => code.checkVisibility())
        .map((code) => [code.scrollWidth - code.clientWidth, code.textContent.trim().split("\\n")[0]]);
}"""


@pytest.mark.parametrize("width", [1280, 1920])
def test_no_code_is_cut_off_on_a_desktop(browser: Browser, site: Path, width: int) -> None:
    reader = Reader(browser, site.as_uri(), width=width)
    seen = [
        (path, *each)
        for path in pages(site)
        if path.startswith("notebooks/")
        for each in reader.open(path).evaluate(CODE)
    ]
    reader.context.close()
    assert len(seen) > 600  # the cells of all chapters, those in folded solutions too
    assert [each for each in seen if each[1] > 0] == []


@pytest.mark.parametrize("first", ["index.html", "notebooks/00_start_here.html"])
def test_the_first_pages_weigh_at_most_1500_kilobytes_over_the_wire(browser: Browser, site: Path, first: str) -> None:
    reader = Reader(browser, site.as_uri())
    asked: set[str] = set()
    reader.page.on("request", lambda request: asked.add(request.url))
    reader.open(first)
    reader.page.wait_for_load_state("networkidle")
    reader.context.close()
    files = {Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")}
    # Servers compress text; fonts and images are compressed already.
    text = {".html", ".css", ".js", ".svg"}
    weights = {
        path: len(gzip.compress(path.read_bytes()) if path.suffix in text else path.read_bytes()) for path in files
    }
    assert len(weights) > 8  # the page, its styles, scripts, fonts: something was measured
    assert sum(weights.values()) <= 1_500_000, weights


# --- Figures that move, with no kernel and no network. ---

PICTURE = """async (host) => {
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    return [...host.querySelectorAll(".vae-image, img")].map((each) => each.src ?? each.toDataURL()).join();
}"""


def lively(site: Path) -> list[str]:
    """The pages that hold a state for such a figure."""
    return [
        path for path in pages(site) if 'type="application/json" class="vaelib-' in (site / path).read_text("utf-8")
    ]


def place(control: Locator, across: float, up: float = 0.5) -> tuple[float, float]:
    """The point of the window at these shares of a control's width and height."""
    control.scroll_into_view_if_needed()
    box = control.bounding_box()
    return box["x"] + across * box["width"], box["y"] + (1 - up) * box["height"]


def press(page: Page, control: Locator) -> None:
    at_the_end = control.evaluate("each => each.type === 'range' && each.value === each.max")
    control.press(
        "Home" if at_the_end else "End" if control.evaluate("each => each.type === 'range'") else "ArrowRight"
    )


def far(control: Locator) -> float:
    """A share of the width that is far from where a slider stands."""
    return control.evaluate(
        "each => each.type === 'range' && 2 * each.value > Number(each.min) + Number(each.max) ? 0.15 : 0.85"
    )


def drag(page: Page, control: Locator) -> None:
    target = far(control)
    page.mouse.move(*place(control, 1 - target, 0.3))
    page.mouse.down()
    page.mouse.move(*place(control, target, 0.6), steps=3)
    page.mouse.up()


def tap(page: Page, control: Locator) -> None:
    page.touchscreen.tap(*place(control, far(control), 0.6))


@pytest.mark.parametrize("how", [press, drag, tap])
def test_every_slider_and_plane_of_every_page_changes_the_picture(browser: Browser, site: Path, how: Callable) -> None:
    reader = Reader(browser, site.as_uri(), has_touch=how is tap)
    moved = 0
    for path in lively(site):
        page = reader.open(path)
        states = page.locator("script.vaelib-explorer, script.vaelib-frames").count()
        hosts = page.locator(".vaelib-live")
        assert hosts.count() == states, path
        for host in hosts.all():
            for control in host.locator("input[type=range], .vae-pad").all():
                before = host.evaluate(PICTURE)
                how(page, control)
                assert host.evaluate(PICTURE) != before, (path, control.get_attribute("aria-label"))
                moved += 1
    assert moved >= 30  # the twenty dimensions of chapter 8 among them
    assert reader.complaints == []
    reader.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_amiss_in_such_figures(browser: Browser, site: Path, scheme: str) -> None:
    reader = Reader(browser, site.as_uri(), color_scheme=scheme)
    found = {}
    for path in lively(site):
        # Of the figures alone: whole pages, with hundreds of formulas each, take minutes.
        violations = Axe().run(reader.open(path), context=".vaelib-live").response["violations"]
        found |= {f"{path}: {each['id']}": [node["html"] for node in each["nodes"]] for each in violations}
    reader.context.close()
    assert found == {}


def test_a_page_from_a_server_moves_too(reader: Reader) -> None:
    page = reader.open("notebooks/00_start_here.html")
    host = page.locator(".vaelib-live").first
    before = host.evaluate(PICTURE)
    host.locator(".vae-pad").press("ArrowUp")
    assert host.evaluate(PICTURE) != before
    assert reader.complaints == []


def test_without_scripts_or_without_weights_the_still_image_stays(
    browser: Browser, site: Path
) -> None:  # FAULTS 42, 46
    page = "notebooks/00_start_here.html"
    reader = Reader(browser, site.as_uri(), java_script_enabled=False)
    assert reader.open(page).locator("#fig-start-explorer img").is_visible()
    reader.context.close()
    reader = Reader(browser, site.as_uri())
    reader.context.route("**/weights-*.js*", lambda route: route.abort())
    still = reader.open(page).locator("#fig-start-explorer img")
    assert still.is_visible() and still.evaluate("image => image.naturalWidth") > 300
    assert reader.page.locator(".vaelib-live").count() == 0
    reader.context.close()


def test_only_pages_with_an_explorer_load_its_scripts(site: Path) -> None:
    for path in pages(site):
        text = (site / path).read_text(encoding="utf-8")
        uses = 'type="application/json" class="vaelib-explorer"' in text
        assert ("_static/explorer.js" in text) == uses, path
        wanted = set(re.findall(r'"shipped": "([\w-]+)"', text)) if uses else set()
        assert set(re.findall(r"_static/weights-([\w-]+)\.js", text)) == wanted, path


# --- A chapter in JupyterLab. ---


def test_a_slider_moved_in_jupyterlab_changes_the_picture(browser: Browser, jupyterlab: Lab) -> None:
    shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", jupyterlab.folder / "chapter.ipynb")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    jupyterlab.run(page, "chapter.ipynb")
    slider = page.locator(".jp-OutputArea .vae-sliders input").first
    slider.wait_for(timeout=120_000)
    picture = page.locator(".jp-OutputArea .vae-image").first
    before = picture.evaluate("canvas => canvas.toDataURL()")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    deadline = time.monotonic() + 30
    while picture.evaluate("canvas => canvas.toDataURL()") == before:
        assert time.monotonic() < deadline, "the slider moved and the picture stayed"
        page.wait_for_timeout(100)
    page.close()
