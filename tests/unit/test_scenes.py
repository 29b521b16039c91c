"""Rendered scenes and lines: deterministic, exact, and one knob a factor."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from anytext_lib.data import MissingGlyphError, fonts_for, load_fonts, to_tensor, to_uint8
from anytext_lib.data.lines import polygon_mask
from anytext_lib.scenes import render_batch, render_line, render_scene, scene_batch
from anytext_lib.scenes.lettering import box_corners, draw_ink, place_mask, transform
from anytext_lib.scenes.painting import MARGIN, SceneStyle
from anytext_lib.scenes.palette import BACKGROUNDS, contrast

SCENES = [render_scene(seed, size) for seed in range(12) for size in (256, (64, 192), (200, 320))]


def test_a_scene_depends_on_its_seed_only():
    first = render_scene(7, 128)
    np.random.seed(0)
    np.random.random(10)
    torch.manual_seed(1)
    render_scene(8, 128)
    again = render_scene(7, 128)
    assert first.image.tobytes() == again.image.tobytes() and first.caption == again.caption
    assert [line.text for line in first.lines] == [line.text for line in again.lines]
    assert first.image.tobytes() != render_scene(8, 128).image.tobytes()


def test_a_scene_is_the_same_in_another_process():
    code = ("import hashlib; from anytext_lib.scenes import render_scene;"
            "print(hashlib.sha256(render_scene(3, 128).image.tobytes()).hexdigest())")
    seen = {subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, check=True,
                           capture_output=True, text=True).stdout for seed in ("1", "2")}
    assert len(seen) == 1


@pytest.mark.parametrize("scene", SCENES, ids=lambda s: f"{s.seed}-{s.image.shape[0]}x{s.image.shape[1]}")
def test_a_scene_is_well_formed(scene):
    height, width = scene.image.shape[:2]
    assert scene.image.dtype == np.uint8 and 1 <= len(scene.lines) <= 5 and scene.valid_lines
    for line in scene.lines:
        assert line.polygon.shape == (4, 2)
        assert (line.polygon >= 0).all() and (line.polygon <= (width - 1, height - 1)).all()
        assert line.text and load_fonts()[line.font].missing(line.text) == ""
        assert line.valid == (line.style["trouble"] is None)
        assert (line.text in scene.caption) or not line.valid
        sides = np.roll(line.polygon, -1, axis=0) - line.polygon  # tl, tr, br, bl turn clockwise on the screen
        turn = sides[:, 0] * np.roll(sides, -1, axis=0)[:, 1] - sides[:, 1] * np.roll(sides, -1, axis=0)[:, 0]
        assert (turn > 0).all() and sides[0, 0] > 0
    cover = sum((polygon_mask(line.polygon, (height, width)) > 0).astype(int) for line in scene.lines)
    assert cover.max() == 1  # lines do not overlap


def test_scenes_vary():
    scenes = [render_scene(seed, 128, n_lines=(1, 3)) for seed in range(150)]
    lines = [line for scene in scenes for line in scene.lines]
    assert {line.font for line in lines} == set(fonts_for("Latin") + fonts_for("Chinese"))
    assert {line.language for line in lines} == {"Latin", "Chinese"}
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {line.style["trouble"] for line in lines} == {None, "blurred", "tiny", "faint", "struck"}


@pytest.mark.parametrize("seed", range(8))
def test_the_polygon_is_the_box_of_the_ink(seed):
    """Drawn plainly, the ink ends a tenth of the letter height inside the polygon, on all four sides."""
    scene = render_scene(seed, (160, 360), texts=["Hxg"], invalid=0, background="flat", effects=False)
    line, = scene.lines
    inside = polygon_mask(line.polygon, scene.image.shape[:2]) > 0
    ring = (polygon_mask(line.polygon + [[-3, -3], [3, -3], [3, 3], [-3, 3]], inside.shape) > 0) & ~inside
    distance = np.abs(scene.image.astype(float) - np.median(scene.image[ring], axis=0)).max(axis=2)
    ys, xs = np.nonzero(inside & (distance > 0.5 * distance[inside].max()))
    margin = MARGIN * line.style["height"] - line.style["outline"]
    np.testing.assert_allclose([xs.min() - 0.5, ys.min() - 0.5], line.polygon[0] + margin, atol=1.25)
    np.testing.assert_allclose([xs.max() + 0.5, ys.max() + 0.5], line.polygon[2] - margin, atol=1.25)


def test_ink_goes_where_the_homography_says():
    """Ink stays in the transformed box of the mask, and its centre of mass moves with it (affine maps keep it)."""
    ink = draw_ink("HEHE", "OpenSans", 20)
    left, top, _, _ = ink.box
    k = 1 / ink.scale
    for dx, dy, turn in ((30, 12, 0.0), (33.5, 20.25, 0.2), (60.2, 40.7, -0.4)):
        c, s = np.cos(turn), np.sin(turn)
        matrix = np.array([[c, -s, dx], [s, c, dy], [0, 0, 1]]) @ np.array(
            [[k, 0, -left * k], [0, k, -top * k], [0, 0, 1]])
        placed = place_mask(ink.fill, matrix, (120, 200))
        quad = transform(box_corners(ink.box), matrix)
        inside = polygon_mask(quad - 0.5 + [[-1.5, -1.5], [1.5, -1.5], [1.5, 1.5], [-1.5, 1.5]], (120, 200)) > 0
        assert placed[~inside].max() < 0.05
        y, x = np.mgrid[0:120, 0:200] + 0.5
        middle = np.array([(x * placed).sum(), (y * placed).sum()]) / placed.sum()
        rows, columns = np.mgrid[0 : ink.fill.shape[0], 0 : ink.fill.shape[1]] + 0.5
        expected = transform(np.array([[(columns * ink.fill).sum(), (rows * ink.fill).sum()]]) / ink.fill.sum(), matrix)
        np.testing.assert_allclose(middle, expected[0], atol=0.15)


def test_valid_text_stands_out():
    for scene in SCENES:
        for line in scene.valid_lines:
            assert line.style["contrast"] >= 3 or line.style["outline"] > 0


@pytest.mark.parametrize("size", [64, (64, 192), (48, 320), (200, 100)])
def test_drawn_words_always_find_room(size):
    for seed in range(60):
        assert render_scene(seed, size, n_lines=2).valid_lines


def test_given_texts_are_all_written():
    scene = render_scene(1, 256, texts=["Tea", "绿茶"], invalid=0)
    assert sorted((line.text, line.language) for line in scene.lines) == [("Tea", "Latin"), ("绿茶", "Chinese")]
    assert all(line.valid for line in scene.lines)


@pytest.mark.parametrize("arguments, error, message", [
    ({"size": 16}, ValueError, "at least 32 x 32"),
    ({"invalid": 2}, ValueError, "probability"),
    ({"background": "sea"}, ValueError, "no background 'sea'; there are flat, "),
    ({"n_lines": 0}, ValueError, "n_lines is a number of at least 1"),
    ({"texts": []}, ValueError, "texts is empty"),
    ({"languages": ["Latin", "Elvish"], "n_lines": 5, "seed": 2}, ValueError, "not for 'Elvish'"),
    ({"texts": ["ж"]}, MissingGlyphError, "U\\+0436"),
    ({"size": 64, "texts": ["a very long text indeed that nobody can place"]}, ValueError, "no room for"),
])
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        render_scene(**({"seed": 0, "size": 128} | arguments))


def test_scene_batch():
    scenes = [render_scene(seed, 192, invalid=0.5, n_lines=3) for seed in range(6)]
    images, lines, mask = scene_batch(scenes)
    assert images.shape == (6, 3, 192, 192) and images.dtype == torch.float32 and images.abs().max() <= 1
    assert mask.shape == (6, 1, 192, 192) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert lines.texts == [line.text for scene in scenes for line in scene.valid_lines]
    for i, scene in enumerate(scenes):
        for line in scene.lines:
            x, y = np.rint(line.polygon.mean(axis=0)).astype(int)
            assert mask[i, 0, y, x] == (not line.valid)
    np.testing.assert_allclose(lines.quads[0], scenes[0].valid_lines[0].polygon, atol=1e-4)
    with pytest.raises(ValueError, match="one size"):
        scene_batch([render_scene(0, 64), render_scene(0, 128)])
    with pytest.raises(ValueError, match="at least one scene"):
        scene_batch([])
    again, same_lines, _ = render_batch([3], (64, 128), n_lines=1)
    single, own_lines, _ = scene_batch([render_scene(3, (64, 128), n_lines=1)])
    assert torch.equal(again, single) and same_lines.texts == own_lines.texts


def _centre_of_ink(image):
    ink = image.max() - image.mean(axis=2)
    ink[ink < 5] = 0
    y, x = np.mgrid[0 : ink.shape[0], 0 : ink.shape[1]]
    return np.array([(x * ink).sum(), (y * ink).sum()]) / ink.sum()


def test_render_line_is_deterministic_and_changes_one_thing_at_a_time():
    plain = render_line("Harbour", text_height=26)
    assert plain.shape == (48, 320, 3) and plain.dtype == np.uint8
    assert plain.tobytes() == render_line("Harbour", text_height=26).tobytes()
    red = render_line("Harbour", text_height=26, color=(200, 25, 25))
    np.testing.assert_array_equal(plain[..., 1:], red[..., 1:])
    moved = render_line("Harbour", text_height=26, offset=(5, 0))
    np.testing.assert_allclose(moved[:, 5:].astype(int), plain[:, :-5], atol=1)
    half = render_line("Harbour", text_height=26, offset=(0.5, 0.25))
    np.testing.assert_allclose(_centre_of_ink(half) - _centre_of_ink(plain), [0.5, 0.25], atol=0.05)
    other = render_line("Harboux", text_height=26)
    first_change = np.nonzero((other != plain).any(axis=(0, 2)))[0].min()
    assert first_change > 80  # the letters before the changed one stay where they were
    noisy = [render_line("Harbour", text_height=26, noise=20, seed=s).tobytes() for s in (1, 1, 2)]
    assert noisy[0] == noisy[1] != noisy[2]


@pytest.mark.parametrize("font", fonts_for("Latin"))
def test_text_height_is_the_height_of_a_capital(font):
    line = render_line("HH", font, text_height=24, color=(0, 0, 0), background=(255, 255, 255))
    rows = np.flatnonzero(line.min(axis=(1, 2)) < 128)
    assert abs((rows[-1] - rows[0] + 1) - 24) <= 2


def test_a_line_fits_when_its_size_is_chosen():
    for text in ("W", "Jgjpy(ÄÉ)", "a rather long line of text, really"):
        for font in fonts_for("Latin"):
            line = render_line(text, font, background=(255, 255, 255))
            edge = np.concatenate([line[0], line[-1], line[:, 0], line[:, -1]])
            assert edge.min() > 250, (text, font)


@pytest.mark.parametrize("arguments, message", [
    ({"text": " "}, "no ink"), ({"text_height": -1}, "positive number"), ({"align": "top"}, "align is"),
    ({"blur": -1}, "blur is a sigma"), ({"size": (4, 4)}, "at least 8 x 8"),
    ({"background": np.zeros((3, 4))}, "background is an RGB colour or a picture"),
    ({"text": "much too wide for that", "text_height": 40}, "lower text_height"),
])
def test_render_line_names_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_line(**({"text": "Tea"} | arguments))


def test_pictures_to_tensors_and_back():
    image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3) * 10
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 2, 4)
    assert to_tensor(np.full((1, 1, 3), 255, np.uint8)).eq(1).all()
    assert to_tensor(np.zeros((1, 1, 3), np.uint8)).eq(-1).all()
    np.testing.assert_array_equal(to_uint8(tensor)[0], image)
    assert len(to_uint8(to_tensor([image, image]))) == 2
    assert to_uint8(torch.full((3, 1, 1), 7.0))[0].max() == 255
    with pytest.raises(ValueError, match="picture 0 must be a uint8 array"):
        to_tensor(image.astype(float))


def test_contrast_of_black_on_white_is_21():
    assert contrast(np.zeros(3), np.full(3, 255.0)) == pytest.approx(21)


def test_a_style_limits_fonts_and_backgrounds():
    style = SceneStyle(fonts=("Fredoka", "Oswald"), backgrounds=("flat", "paper"), signs=False, spaced=0.0)
    scenes = [render_scene(seed, (64, 192), texts=["Tea"], effects=False, style=style) for seed in range(30)]
    assert {scene.lines[0].font for scene in scenes} == {"Fredoka", "Oswald"}
    assert {scene.background for scene in scenes} == {"flat", "paper"}
    chinese = render_scene(0, (64, 192), texts=["绿茶"], style=style)  # no font of the style can write it
    assert load_fonts()[chinese.lines[0].font].missing("绿茶") == ""


def test_the_margin_of_a_style_is_in_letter_heights_and_boxes_lie():
    style = SceneStyle(margin=(0.05, 0.4))
    inks, heights = np.array([[100.0, 20.0], [20.0, 30.0]]), np.array([20.0, 30.0])
    np.testing.assert_allclose(style.boxes(inks, heights), [[102, 36], [23, 36]])  # the second as with MARGIN
    np.testing.assert_allclose(SceneStyle().boxes(inks, heights), inks + 2 * MARGIN * heights[:, None])
    one, word = (render_scene(3, (64, 192), texts=["Tea"], invalid=0, effects=False, style=s).lines[0].polygon
                 for s in (SceneStyle(), style))
    assert np.ptp(word[:, 1]) > np.ptp(one[:, 1])


def test_a_style_with_an_unknown_font_says_which_there_are():
    with pytest.raises(ValueError, match="no font Comic: choose among OpenSans"):
        render_scene(0, 64, texts=["Tea"], style=SceneStyle(fonts=("Comic",)))
