"""`anytext course lab` as a learner meets it: open a page, run it, save it, and open it again without its kernel.

Needs chromium (Debian's package, or the variable CHROMIUM with its path) and the Python package playwright.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from anytext_lib.publishing import notebooks

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") \
    or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not CHROMIUM, reason="needs the browser chromium: apt install chromium")]

PATIENCE, TOKEN = 240, "of-the-test"  # seconds for one thing to happen: the machine may be busy
SOURCES = (
    "n = 2  # how many",
    "from anytext_lib.course import explore, record, style\nstyle.use()\nrecord('a', 1.5)\nprint('after', 'record')",
    'def draw(ax, t):\n    """The line of a slope."""\n    ax.plot([0, t])\nexplore(draw, t=[1, 2])',
    "import ipywidgets\nipywidgets.Text(description='application')",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A repository with one published page, its learner's copy missing."""
    root = tmp_path_factory.mktemp("a course")
    cells = [nbformat.v4.new_markdown_cell("# 00 · Front\n\n[further](01_more.ipynb)"),
             *(nbformat.v4.new_code_cell(source) for source in SOURCES)]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    (root / "notebooks").mkdir()
    for name in ("00_start_here", "01_more"):
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}),
                       root / "notebooks" / f"{name}.ipynb")
    return root


@pytest.fixture(scope="module")
def lab(root, tmp_path_factory):
    """The address of the JupyterLab that `anytext course lab` starts, with settings of its own."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {name: str(home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR",
                                                          "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    log = home / "lab.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "anytext_lib.cli", "course", "lab", "--folder", str(root / "notebooks"), "--",
             "--no-browser", f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1",
             f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True"],
            stdout=file, stderr=subprocess.STDOUT, env=os.environ | places)
    end = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < end and server.poll() is None, log.read_text()[-2000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/tree/work/00_start_here.ipynb?token={TOKEN}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def page(lab):
    """JupyterLab with the working copy of the page open."""
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1200, "height": 1600})
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(lab)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        yield page
        browser.close()


def command(page, name: str) -> None:
    """Carry out one of JupyterLab's commands."""
    page.evaluate(f"window.jupyterapp.commands.execute('{name}')")


def saved(root, condition):
    """The working copy, once it fulfils `condition`."""
    path, end = root / "work" / "00_start_here.ipynb", time.monotonic() + PATIENCE
    while not condition(notebook := notebooks.read(path)):
        assert time.monotonic() < end, notebooks.as_text(notebook)
        time.sleep(0.5)
    return notebook


def test_page_is_opened_run_saved_and_opened_again(page, root):
    published = {path.name: path.read_bytes() for path in (root / "notebooks").iterdir()}
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.wait_for_timeout(2000)
    assert page.locator("text=/Jupyter news/").count() == 0
    command(page, "notebook:run-all-cells")
    page.wait_for_selector(".jp-OutputArea-output .widget-slider")
    page.wait_for_selector(".jp-OutputArea-output .widget-text")
    outputs = page.locator(".jp-Notebook .jp-OutputArea-child").all_inner_texts()
    assert [text.strip() for text in outputs if "record" in text] == ["after record"], "records are not shown"

    command(page, "docmanager:save")
    notebook = saved(root, lambda notebook: notebooks.code_cells(notebook)[-1].execution_count == len(SOURCES))
    assert "widget-view" not in notebooks.as_text(notebook) and "widgets" not in notebook.metadata
    assert notebook.metadata.language_info.name == "python"
    assert [list(output.data) for output in notebook.cells[3].outputs] == [
        ["image/png", "text/plain"], ["text/markdown", "text/plain"]]
    command(page, "docmanager:save")
    page.wait_for_timeout(2000)
    assert page.locator(".jp-Dialog").count() == 0, "the page that was saved is not taken for somebody else's"

    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector(".jp-OutputArea-output img")
    page.wait_for_selector("text=The line of a slope.")
    page.wait_for_timeout(3000)
    assert page.locator("text=Error displaying widget").count() == 0
    assert {path.name: path.read_bytes() for path in (root / "notebooks").iterdir()} == published


def test_links_lead_to_the_other_working_copies(page):
    page.locator(".jp-RenderedMarkdown a", has_text="further").first.click()
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.context?.path === 'work/01_more.ipynb'")
    assert page.evaluate("window.jupyterapp.shell.currentWidget.context.path") == "work/01_more.ipynb"
