"""The drawing application in JupyterLab, as a person uses it: draw two boxes, type, generate, edit.

Needs chromium (Debian's package, or the variable CHROMIUM with its path) and the Python package playwright.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: pip install playwright")
pytest.importorskip("ipycanvas", reason="needs the package ipycanvas: pip install ipycanvas")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") \
    or shutil.which("google-chrome")
ROOT = Path(__file__).parents[2]
MODEL = ROOT / "data_samples" / "mini" / "after"
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not CHROMIUM, reason="needs the browser chromium: apt install chromium"),
              pytest.mark.skipif(not MODEL.is_dir(), reason="needs the mini model in data_samples/mini/after")]

PATIENCE = 240  # seconds for one thing to happen: the machine may be busy
TOKEN = "of-the-test"
WORDS = ("Garden", "River")
BOXES = (((8, 5), (184, 59)), ((10, 68), (182, 123)))  # pixels of a picture of 192 x 128
LEAST_NED = 0.5  # of the words that the judge reads; words that the model never saw score about 0.1
SOURCE = f"""
from anytext_lib.generation import AnyText2Pipeline
from anytext_lib.studio.session import Plan, Studio
from anytext_lib.studio.sketch import Sketch
from anytext_lib.studio.view import StudioApp
from anytext_lib.ocr import Judge
studio = Studio(AnyText2Pipeline.from_pretrained({str(MODEL)!r}), Judge.from_name())
StudioApp(studio, Sketch(192, 128))
"""
STYLES = """
from anytext_lib.generation import AnyText2Pipeline, Settings
from anytext_lib.studio.session import Plan, Studio
from anytext_lib.studio.sketch import Sketch
from anytext_lib.studio.view import StudioApp
from tests.unit.generation_model import lively_model
StudioApp(Studio(AnyText2Pipeline(lively_model())), Sketch(192, 128), Plan(Settings(2, 1.0)))
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the notebooks lie, with the application on two models."""
    folder = tmp_path_factory.mktemp("lab")
    for name, source in (("studio", SOURCE), ("styles", STYLES)):
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}),
            folder / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    """The address of a JupyterLab in its dark theme, with a place for the notebook's name."""
    home = tmp_path_factory.mktemp("home")
    port, log = free_port(), home / "lab.log"
    places = {name: str(home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR",
                                                          "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    theme = home / "jupyter_config_dir/lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    theme.parent.mkdir(parents=True)
    theme.write_text('{"theme": "JupyterLab Dark"}')
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
             "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={TOKEN}",
             "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
            stdout=file, stderr=subprocess.STDOUT, env=os.environ | places | {"PYTHONPATH": str(ROOT)})
    try:
        wait_for_server(port, server, log)
        yield f"http://127.0.0.1:{port}/lab/workspaces/{{0}}/tree/{{0}}.ipynb?token={TOKEN}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_for_server(port: int, server: subprocess.Popen, log: Path) -> None:
    """Wait until the server answers; its log is shown where it does not."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser():
    """Chromium."""
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(lab, browser):
    """The notebook with the running application, on the mini model."""
    return opened(browser, lab.format("studio"))


def opened(browser, address: str):
    """A page with a notebook whose first cell has run."""
    page = browser.new_page(viewport={"width": 1200, "height": 1200})
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".jp-OutputArea canvas")
    return page


def picture(page, name: str) -> None:
    """A screenshot of the page in the folder SCREENSHOTS of the environment, for a person to look at."""
    if os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(os.environ["SCREENSHOTS"]) / f"{name}.png"))


def settled_box(page) -> dict[str, float]:
    """Where the canvas is, once it stands still: a page that has just been built moves."""
    canvas, last = page.locator('.jp-OutputArea canvas[title^="Drawing area"]').last, None
    canvas.scroll_into_view_if_needed()
    while (box := canvas.bounding_box()) != last or box is None:
        last = box
        page.wait_for_timeout(700)
    return box


def draw(page, start, end, label: str) -> None:
    """Drag the mouse between two points of the picture until the box is there and its line can be typed."""
    for _ in range(6):
        box = settled_box(page)
        zoom = box["width"] / 192
        places = [(box["x"] + x * zoom, box["y"] + y * zoom) for x, y in (start, end)]
        page.mouse.move(*places[0])
        page.mouse.down()
        page.mouse.move(*np.mean(places, axis=0), steps=4)
        page.mouse.move(*places[1], steps=4)
        page.mouse.up()
        try:
            return field(page, label).wait_for(timeout=PATIENCE / 6 * 1000)
        except playwright.TimeoutError:  # the mouse was quicker than the page
            continue
    pytest.fail(f"no {label} after six boxes were drawn")


def field(page, label: str):
    """The input of the widget with this description."""
    return page.locator(".jp-OutputArea .widget-inline-hbox", has=page.locator(
        "label", has_text=re.compile(f"^{label}$"))).locator("input").first


def fill(page, label: str, value: str) -> None:
    """Type into a field, and leave it."""
    field(page, label).fill(value)
    field(page, label).press("Tab")


def press(page, label: str) -> None:
    """Click a button."""
    page.locator(".jp-OutputArea button", has_text=re.compile(f"^{label}$")).first.click()


def results(page) -> list[tuple[str, np.ndarray]]:
    """Caption and pixels of the pictures that the application shows, once it is done."""
    state = page.wait_for_function("""() => {
        const found = role => [...document.querySelectorAll(`.jp-OutputArea [role=${role}]`)];
        const texts = role => found(role).map(e => e.textContent.trim());
        return texts("status").includes("done") ? "done" : texts("alert").find(text => text);
    }""").json_value()
    assert state == "done", f"the application says: {state}"
    images = page.locator('.jp-OutputArea img[alt^="seed "]')
    images.first.wait_for()
    found = []
    for i in range(images.count()):
        data = images.nth(i).get_attribute("src").split(",", 1)[1]
        found.append((images.nth(i).get_attribute("alt"), np.array(Image.open(io.BytesIO(base64.b64decode(data))))))
    return found


def judged(picture: np.ndarray, boxes, words) -> tuple[float, list[str]]:
    """NED of the words in their boxes, and what was read."""
    import torch

    from anytext_lib.data import TextLines, to_tensor
    from anytext_lib.evaluation.score import ned
    from anytext_lib.ocr import Judge, crop_lines

    quads = [[[a, b], [c, b], [c, d], [a, d]] for (a, b), (c, d) in boxes]
    lines = TextLines([0] * len(words), torch.tensor(quads, dtype=torch.float32), list(words), ["Latin"] * len(words))
    read = Judge.from_name().read(crop_lines(to_tensor(picture), lines))
    return ned(read, words), read


def test_draw_two_boxes_type_and_generate(page):
    for number, box in enumerate(BOXES, 1):
        draw(page, *box, f"line {number}")
    for number, word in enumerate(WORDS, 1):
        line = field(page, f"line {number}")
        line.fill(word)
        line.press("Tab")
    for label, value in (("seeds", "1, 2"), ("steps", "10")):
        field(page, label).fill(value)
        field(page, label).press("Tab")
    press(page, "Generate")
    found = results(page)
    assert [caption.split(";")[0] for caption, _ in found] == ["seed 1, strength 1", "seed 2, strength 1"]
    assert all(picture.shape == (128, 192, 3) and picture.std() > 5 for _, picture in found)
    scores = [judged(picture, BOXES, WORDS) for _, picture in found]
    print("NED and readings:", scores)
    assert max(score for score, _ in scores) >= LEAST_NED, scores


def test_drawing_and_button_are_seen_together_and_named(page):
    canvas = page.locator(".jp-OutputArea canvas").last
    canvas.scroll_into_view_if_needed()
    for place in (canvas, page.locator(".jp-OutputArea button", has_text=re.compile("^Generate$"))):
        box = place.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 1200 and box["x"] + box["width"] <= 1200
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    names = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    assert any(role == "Canvas" and "line 1 “Garden” at x" in name for role, name in names)
    assert [name for role, name in names if role == "ColorWell"] == ["swatch of colour 1", "swatch of colour 2"]
    for wanted in ("line 1", "colour 1", "x", "y", "width", "height", "Add box"):
        assert wanted in [name for _, name in names], wanted


def messages_and_ground(page) -> tuple[list[str], str]:
    """Colours of the application's messages, and of the page behind them."""
    return page.evaluate("""() => [
        [...document.querySelectorAll(".jp-OutputArea [role=status], .jp-OutputArea [role=note]")].map(
            element => getComputedStyle(element).color),
        getComputedStyle(document.querySelector(".jp-Notebook")).backgroundColor]""")


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_messages_can_be_read_in_both_themes(page, theme):
    """At least 4.5 to 1, as WCAG 2 asks for."""
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)
    page.wait_for_timeout(1000)  # its style sheet is being loaded
    texts, ground = messages_and_ground(page)
    assert len(texts) >= 2 and all(contrast(text, ground) >= 4.5 for text in texts), (texts, ground)
    assert (contrast("rgb(0, 0, 0)", ground) < 4.5) == theme.endswith("Dark"), ground


def contrast(one: str, other: str) -> float:
    """Contrast of two colours of CSS, 1 to 21 (WCAG 2)."""
    def light(color: str) -> float:
        values = [float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3]]
        return sum(weight * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
                   for weight, v in zip((0.2126, 0.7152, 0.0722), values, strict=True))

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


def test_edit_a_result_and_be_told_what_is_wrong(page):
    before = results(page)[0][1]
    press(page, "edit this")
    page.locator(".jp-OutputArea button", has_text=re.compile("^Edit$")).wait_for()
    for (name, value) in zip(("x", "y", "width", "height"), (10, 68, 172, 55), strict=True):  # without a mouse
        number = page.locator(".jp-OutputArea .widget-inline-hbox", has=page.locator(
            "label", has_text=re.compile(f"^{name}$"))).locator("input").first
        number.fill(str(value))
        number.press("Tab")
    page.locator(".jp-OutputArea button", has_text="Add box").press("Enter")
    field(page, "line 1").wait_for()
    press(page, "Edit")
    told = "line 1: type the words, tick “erase”, or remove the box"
    page.locator(".jp-OutputArea [role=alert]", has_text=told).wait_for()
    line = field(page, "line 1")
    line.fill("Island")
    line.press("Tab")
    field(page, "seeds").fill("3")
    field(page, "seeds").press("Tab")
    page.get_by_text("editing: put untouched pixels back").click()
    press(page, "Edit")
    page.locator('.jp-OutputArea img[alt^="seed 3,"]').wait_for()
    ((caption, after),) = results(page)
    assert "Island" in caption
    assert (after[:60] == before[:60]).all() and not (after == before).all()


def test_sort_turn_and_outline(page):
    press(page, "New picture")
    page.locator(".jp-OutputArea button", has_text=re.compile("^Generate$")).wait_for()
    draw(page, (100, 8), (184, 50), "line 1")
    draw(page, (8, 8), (90, 50), "line 2")
    fill(page, "prompt", '"Sun" and "Sea"')
    press(page, "Sort lines")
    fill(page, "angle 1", "8")
    page.wait_for_function("""() => [...document.querySelectorAll(".jp-OutputArea canvas")].some(
        canvas => /line 1 “” at x 8, .* turned by 8 degrees; line 2 “” at x 100/.test(canvas.title))""")
    page.locator(".jp-OutputArea button", has_text=re.compile("^polygon$")).click()
    box = settled_box(page)
    for x, y in ((20, 70), (170, 74), (160, 118), (30, 120), (20, 70)):
        page.mouse.click(box["x"] + x * box["width"] / 192, box["y"] + y * box["width"] / 192, delay=80)
        page.wait_for_timeout(400)
    corners = field(page, "corners 3")
    corners.wait_for()
    found = [tuple(map(int, corner.split(","))) for corner in corners.input_value().split()]
    assert np.abs(np.array(found) - [(20, 70), (170, 74), (160, 118), (30, 120)]).max() <= 2
    fill(page, "line 3", "Lake")
    fill(page, "seeds", "5")
    press(page, "Generate")
    page.locator('.jp-OutputArea img[alt^="seed 5,"]').wait_for()
    ((caption, made),) = results(page)
    picture(page, "sort_turn_outline")
    assert made.shape == (128, 192, 3) and all(f"“{word}”" in caption for word in ("Sun", "Sea", "Lake"))


def test_erase_and_save(page, folder):
    from anytext_lib.generation.metadata import read_record

    before = results(page)[0][1]
    press(page, "edit this")
    page.locator(".jp-OutputArea button", has_text=re.compile("^Edit$")).wait_for()
    page.locator(".jp-OutputArea button", has_text=re.compile("^box$")).click()
    draw(page, (8, 66), (184, 122), "line 1")
    page.get_by_label("erase 1").check()
    page.get_by_label("editing: put untouched pixels back").check()
    fill(page, "prompt", "a wall")  # quoted words would be written elsewhere
    fill(page, "seeds", "6")
    fill(page, "eta", "0.5")
    fill(page, "negative prompt", "blurred")
    press(page, "Edit")
    page.locator('.jp-OutputArea img[alt^="seed 6,"]').wait_for()
    ((caption, after),) = results(page)
    assert "is read where something was erased" in caption
    assert (after[:60] == before[:60]).all() and not (after == before).all()
    press(page, "save")
    page.locator(".jp-OutputArea [role=status]", has_text="saved pictures/edited_6.png").wait_for()
    press(page, "what changed")
    page.locator('.jp-OutputArea img[alt^="before, after"]').wait_for()
    assert "0 of" in page.locator(".jp-OutputArea", has_text="outside of the regions").first.inner_text()
    picture(page, "erase_and_save")
    record = read_record(folder / "pictures" / "edited_6.png")
    assert record["settings"]["eta"] == 0.5 and record["request"]["negative_prompt"] == "blurred"
    assert [line["text"] for line in record["request"]["lines"]] == [""] and record["model"]["folder"] == str(MODEL)
    assert Path(record["request"]["image"]["path"]).parent == folder / "pictures"


def test_letters_of_a_file(lab, browser, tmp_path):
    from anytext_lib.scenes import render_line

    word, mask = np.full((80, 240, 3), 230, np.uint8), np.zeros((80, 240), np.uint8)
    word[20:60, 40:200], mask[20:60, 40:200] = render_line("Garden", "RobotoSlab", (40, 160)), 255
    page = opened(browser, lab.format("styles"))
    draw(page, (8, 8), (180, 60), "line 1")
    for name, button, pixels in (("sign", "letters of a file", word), ("mask", "their mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        with page.expect_file_chooser() as chooser:
            page.locator(".jp-OutputArea button", has_text=button).click()
        chooser.value.set_files(tmp_path / f"{name}.png")
        page.wait_for_function("""mask => [...document.querySelectorAll(".jp-OutputArea canvas")].some(canvas =>
            canvas.title.includes("240 x 80 pixels: " + (mask ? "within 40,20" : "all of the picture")))""",
                               arg=name == "mask")
    fonts = page.locator(".jp-OutputArea .widget-inline-hbox", has=page.locator(
        "label", has_text=re.compile("^font 1$"))).locator("select")
    fonts.select_option(label="letters 1")
    fill(page, "line 1", "Tea")
    press(page, "Generate")
    ((caption, made),) = results(page)
    picture(page, "letters_of_a_file")
    assert caption == "seed 0, strength 1" and made.shape == (128, 192, 3)
    page.close()
