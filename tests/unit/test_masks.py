"""Masks as paint programs save them: each ends in the right region, or in an error that says what was seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from anytext_lib.generation.input_images import read_mask
from anytext_lib.generation.regions import painted_regions, region_polygon
from anytext_lib.generation.request import RequestError, RequestWarning

SIZE = HEIGHT, WIDTH = 64, 192
LEFT, TOP, RIGHT, BOTTOM = 20, 16, 170, 48


def painted(color=255, mode="L", ground=0) -> Image.Image:
    picture = Image.new(mode, (WIDTH, HEIGHT), ground)
    ImageDraw.Draw(picture).rounded_rectangle((LEFT, TOP, RIGHT, BOTTOM), 6, fill=color)
    return picture


def photograph() -> np.ndarray:
    return np.random.default_rng(0).normal(160, 8, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)


def grey(level) -> Image.Image:
    return painted().point(lambda value: level if value else 0)


def layer(red: int, alpha: Image.Image) -> Image.Image:
    return Image.merge("RGBA", [Image.new("L", (WIDTH, HEIGHT), red)] * 3 + [alpha])


def palette(colors: dict[int, tuple]) -> Image.Image:
    classes = np.where(np.array(painted()) > 0, 1, 0).astype(np.uint8)
    classes[:, WIDTH // 2:] *= 2
    picture = Image.fromarray(classes, "P")
    table = np.zeros((256, 3), np.uint8)
    for index, color in colors.items():
        table[index] = color
    picture.putpalette(table.ravel().tolist())
    return picture


def turned() -> tuple[Image.Image, dict]:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    return painted().transpose(Image.Transpose.ROTATE_90), {"exif": exif}


FORMS = {
    "white on black": (painted, "png"), "JPEG": (painted, "jpg", {"quality": 10}), "WebP": (painted, "webp"),
    "BMP": (painted, "bmp"), "GIF": (painted, "gif"), "TIFF": (painted, "tif"),
    "RGB": (lambda: painted().convert("RGB"), "png"), "1 bit": (lambda: painted().convert("1"), "png"),
    "CMYK": (lambda: painted().convert("RGB").convert("CMYK"), "jpg"),
    "opaque alpha": (lambda: Image.merge("RGBA", [painted()] * 3 + [Image.new("L", (WIDTH, HEIGHT), 255)]), "png"),
    "black paint on a transparent layer": (lambda: layer(0, painted()), "png"),
    "white paint on a transparent layer": (lambda: layer(255, painted()), "png"),
    "soft paint on a transparent layer": (lambda: layer(0, painted().filter(ImageFilter.GaussianBlur(3))), "png"),
    "red": (lambda: painted("red", "RGB"), "png"), "dark blue": (lambda: painted("#00008b", "RGB"), "jpg"),
    "grey 127": (lambda: grey(127), "png"), "grey 128": (lambda: grey(128), "png"),
    "grey 40": (lambda: grey(40), "jpg"),
    "labels 0 and 1": (lambda: grey(1), "png"), "labels 0 and 2": (lambda: grey(2), "png"),
    "two classes of VOC": (lambda: palette({1: (128, 0, 0), 2: (64, 0, 0)}), "png"),
    "16 bit": (lambda: Image.fromarray(np.array(painted()).astype(np.uint16) * 257), "png"),
    "16 bit, labels": (lambda: Image.fromarray((np.array(painted()) > 0).astype(np.uint16)), "png"),
    "outline": (lambda: Image.fromarray(np.array(painted()) - np.array(painted().filter(ImageFilter.MinFilter(3)))),
                "png"),
    "soft": (lambda: painted().filter(ImageFilter.GaussianBlur(4)), "png"),
    "turned by EXIF": (turned, "jpg"),
}
TURNED_ROUND = {
    "black on white": (lambda: painted(0, ground=255), "png", "dark on light"),
    "black on white, JPEG": (lambda: painted(0, ground=255), "jpg", "dark on light"),
    "black on light grey": (lambda: painted(0, ground=200), "png", "dark on light"),
    "red on white": (lambda: painted("red", "RGB", "white"), "png", "dark on light"),
    "a hole": (lambda: Image.fromarray(np.dstack([photograph(), 255 - np.array(painted())])), "png",
               "opaque, with transparent holes"),
}


def saved(tmp_path, picture, ending, options=None) -> Path:
    if isinstance(picture, tuple):
        picture, options = picture
    path = tmp_path / f"Maske für Müller.{ending}"
    picture.save(path, **(options or {}))
    return path


def assert_the_region(polygon, slack=3):
    assert np.abs(polygon.min(axis=0) - (LEFT, TOP)).max() <= slack, polygon
    assert np.abs(polygon.max(axis=0) - (RIGHT, BOTTOM)).max() <= slack, polygon


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_are_read_alike(tmp_path, form):
    make, *rest = FORMS[form]
    path = saved(tmp_path, make(), *rest)
    (polygon,) = painted_regions(path, SIZE)
    assert_the_region(polygon)
    assert_the_region(region_polygon(path, SIZE, "line 1"))
    with Image.open(path) as picture:
        assert_the_region(region_polygon(picture, SIZE, "line 1"))


@pytest.mark.parametrize("form", TURNED_ROUND)
def test_forms_that_are_read_and_said_so(tmp_path, form):
    make, ending, told = TURNED_ROUND[form]
    with pytest.warns(RequestWarning, match=told):
        (polygon,) = painted_regions(saved(tmp_path, make(), ending), SIZE)
    assert_the_region(polygon)


@pytest.mark.parametrize("array", [
    np.array(painted()) > 0, np.array(painted()) / 255, np.array(painted()) / np.float32(255), np.array(grey(1)),
    np.array(grey(1)).astype(np.int64), np.array(painted())[..., None], np.array(painted("red", "RGB"))])
def test_arrays(array):
    (polygon,) = painted_regions(array, SIZE)
    assert_the_region(polygon)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_mask_painted_on_the_photograph_is_refused(tmp_path, ending):
    on_photo = photograph()
    on_photo[TOP:BOTTOM, LEFT:RIGHT] = 255
    for pixels in (on_photo, photograph()):
        with pytest.raises(RequestError, match="looks like a photograph.*its frame is neither black nor white.*: paint "
                                               "the region white on black, in a picture of its own"):
            painted_regions(saved(tmp_path, Image.fromarray(pixels), ending), SIZE)


def test_another_size_and_regions_that_touch(tmp_path):
    with pytest.raises(RequestError, match="has 384 x 128 pixels, the picture 192 x 64: paint it at the size"):
        painted_regions(saved(tmp_path, painted().resize((384, 128)), "png"), SIZE)
    two = Image.new("L", (WIDTH, HEIGHT))
    for corners in ((10, 16, 80, 48), (81, 17, 180, 49)):
        ImageDraw.Draw(two).rectangle(corners, fill=255)
    assert len(painted_regions(two, SIZE)) == 1
    ImageDraw.Draw(two).line((80, 0, 80, 63), fill=0)
    assert len(painted_regions(two, SIZE)) == 2
    with pytest.warns(RequestWarning, match="line 1: its mask has 2 areas, the largest is taken"):
        assert region_polygon(two, SIZE, "line 1")[:, 0].min() == 81


@pytest.mark.parametrize("level", [0, 3])
def test_nothing_painted(tmp_path, level):
    noise = np.random.default_rng(0).integers(0, level + 1, SIZE).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), "jpg")
    assert painted_regions(path, SIZE) == []
    with pytest.raises(RequestError, match="its mask is empty: paint the region white on black"):
        region_polygon(path, SIZE, "line 1")


def test_everything_painted():
    assert read_mask(np.full(SIZE, 255, np.uint8), "the mask").all()
