"""The site that `make site` builds, as a reader meets it: links, figures, formulas, search, both themes, two widths.

What is looked at in a browser needs chromium (Debian's package, or the variable CHROMIUM with its path) and the Python
package playwright. The pages are opened as files: nothing of them may need a network or a server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from anytext_lib.publishing import notebooks
from anytext_lib.publishing.site.build_site import NEEDED

for package in NEEDED:
    pytest.importorskip(package, reason=f"needs the package {package}: pip install -e '.[site]'")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") \
    or shutil.which("google-chrome")
ROOT = Path(__file__).parents[2]
BOOKS = notebooks.find_books(ROOT / "notebooks")
pytestmark = pytest.mark.slow

PATIENCE = 60  # seconds for one thing to happen: the machine may be busy
WIDTHS = {"narrow": 390, "wide": 1400}
LOOK = """theme => {
    document.body.dataset.theme = theme;
    const root = document.documentElement, shown = e => e.getClientRects().length;
    return {
        scrolls: root.scrollWidth - root.clientWidth,
        broken: [...document.images].filter(i => shown(i) && !(i.complete && i.naturalWidth > 0)).map(i => i.src),
        mute: [...document.images].filter(i => !i.alt.trim()).map(i => i.src),
        formulas: document.querySelectorAll("mjx-container").length,
        bare: document.querySelectorAll(".math").length,
        wrong: [...document.querySelectorAll("mjx-merror, [data-mml-node=merror]")].map(
            e => e.getAttribute("data-mjx-error") || e.textContent),
        ground: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
    };
}"""


class Links(HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.targets += [found[name] for name in ("href", "src") if found.get(name) and tag != "base"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the whole site, built by the command."""
    out = tmp_path_factory.mktemp("built") / "site"
    done = subprocess.run([sys.executable, "-m", "anytext_lib.cli", "course", "site", "--out", str(out)],
                          capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{len(BOOKS)} notebooks, 0 warnings" in done.stdout
    return out


@pytest.fixture(scope="module")
def pages(site):
    """Every page of the site -> its links."""
    return {path: Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


@pytest.fixture(scope="module")
def browser():
    """Chromium."""
    needed = "needs the package playwright: pip install playwright"
    playwright = pytest.importorskip("playwright.sync_api", reason=needed)
    if not CHROMIUM:
        pytest.skip("needs the browser chromium: apt install chromium")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser):
    """A page of the browser that remembers what went wrong, and refuses the network."""
    tab = browser.new_page(viewport={"width": WIDTHS["wide"], "height": 1000})
    tab.set_default_timeout(PATIENCE * 1000)
    tab.problems = []
    tab.on("console", lambda message: message.type == "error" and tab.problems.append(message.text))
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.on("requestfailed", lambda request: tab.problems.append(f"not loaded: {request.url}"))
    tab.route(re.compile("^https?://"), lambda route: (tab.problems.append(f"asked for {route.request.url}"),
                                                       route.abort()))
    return tab


def opened(tab, path: Path):
    """Open a page and wait until its formulas are set."""
    tab.goto(path.as_uri())
    tab.wait_for_function("() => !window.MathJax || MathJax.startup?.promise")
    tab.evaluate("() => window.MathJax && MathJax.startup.promise")
    return tab


def test_no_link_is_dead(site, pages):
    dead, ill_formed = [], []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https"):
                if not re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc) or re.search(r"[\s<>\"]", target):
                    ill_formed.append((path.relative_to(site), target))
            elif parts.scheme not in ("mailto", "data", "javascript"):
                goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                found = goal.is_file() and goal.is_relative_to(site)
                if not found or parts.fragment and goal in pages and unquote(
                        parts.fragment) not in pages[goal].anchors:
                    dead.append((str(path.relative_to(site)), target))
    assert not ill_formed
    assert not dead, dead[:20]


def test_every_notebook_is_a_page_with_all_its_figures(site, pages):
    for book in BOOKS:
        page = pages[site / "notebooks" / f"{book.name}.html"]
        figures = sum("image/png" in output.get("data", {})
                      for cell in notebooks.code_cells(notebooks.read(book.path)) for output in cell.outputs)
        images = {target for target in page.targets if "/_images/" in target}
        assert len(images) >= figures > 0, book.name
        around = [BOOKS[i] for i in (BOOKS.index(book) - 1, BOOKS.index(book) + 1) if 0 <= i < len(BOOKS)]
        assert {f"{each.name}.html" for each in around} <= set(page.targets)
        assert [target for target in page.targets if "_downloads" in target and target.endswith(book.path.name)]


def test_every_page_is_shown_whole_in_both_themes_and_widths(site, pages, tab):
    problems = []
    shown = [path for path in pages if not {"_modules", "repository"} & set(path.relative_to(site).parts)]
    assert len(shown) > len(BOOKS) + 20
    for path in shown:
        name, tab.problems[:] = str(path.relative_to(site)), []
        opened(tab, path)
        for width, theme in (("wide", "light"), ("narrow", "light"), ("narrow", "dark"), ("wide", "dark")):
            tab.set_viewport_size({"width": WIDTHS[width], "height": 1000})
            tab.evaluate("async () => { for (const i of document.images) { i.loading = 'eager'; "
                         "await i.decode().catch(() => 0); } }")
            look = tab.evaluate(LOOK, theme)
            problems += [(name, width, theme, key, look[key]) for key in ("broken", "mute", "wrong") if look[key]]
            problems += [(name, width, theme, "scrolls by", look["scrolls"])] * (look["scrolls"] > 0)
            problems += [(name, "formulas", look["formulas"], look["bare"])] * (look["formulas"] < look["bare"])
            light = sum(map(int, re.findall(r"\d+", look["ground"])[:3])) > sum(
                map(int, re.findall(r"\d+", look["ink"])[:3]))
            problems += [(name, theme, look["ground"], look["ink"])] * (light != (theme == "light"))
        problems += [(name, problem) for problem in tab.problems]
    assert not problems, problems[:20]


def test_a_word_is_found(site, tab):
    tab.set_viewport_size({"width": WIDTHS["wide"], "height": 1000})
    tab.problems[:] = []
    opened(tab, site / "index.html")
    tab.locator(".sidebar-search").fill("binarisation")
    tab.locator(".sidebar-search").press("Enter")
    tab.wait_for_selector("#search-results ul.search a")
    found = tab.locator("#search-results ul.search a").all_inner_texts()
    assert any("DB" in text for text in found), found
    assert not tab.problems


def test_theme_is_switched_and_code_is_copied(site, tab):
    opened(tab, site / "notebooks" / f"{BOOKS[0].name}.html")
    before = tab.evaluate("document.body.dataset.theme")
    tab.locator("button.theme-toggle:visible").first.click()
    assert tab.evaluate("document.body.dataset.theme") != before
    inputs = tab.locator(".cell_input div.highlight").count()
    assert inputs > 5 and tab.locator(".cell_input button.copybtn").count() == inputs
    assert tab.locator(".cell_output button.copybtn").count() == 0
    assert tab.locator("details.hide").count() > 0, "solutions are folded"


def test_symbols_lead_to_the_formula_and_to_the_source(site, tab):
    opened(tab, site / "symbols.html")
    tab.locator("tr", has_text=re.compile("upstream.s step weight")).first.locator("a").first.click()
    tab.wait_for_url(re.compile(r"reference/losses\.html#anytext_lib\.losses\.abar$"))
    tab.locator("dt[id='anytext_lib.losses.abar'] .viewcode-link").click()
    tab.wait_for_url(re.compile(r"_modules/anytext_lib/losses/weights\.html#"))
    assert "def abar(" in tab.inner_text("body")
