"""A sample: everything that the model is told, at any size, and nothing of the annotation changed."""

import copy
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from anytext_lib.data import AnnotatedImage, Annotation, SampleConfig, build_sample
from anytext_lib.data.lines import line_quad, polygon_mask
from anytext_lib.scenes import render_scene

PLAIN = SampleConfig(mask_ratio=0.0, position_jitter=False, font_hint_prob=1.0, image_size=128)


def box(x, y, width=50, height=18):
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)


def record(*lines, caption="A wall.", **more):
    return AnnotatedImage(Path("wall.png"), "wall.png", caption, list(lines), **more)


def line(text="Tea", x=10, y=10, language="Latin", valid=True, color=(200, 30, 40), **size):
    return Annotation(box(x, y, **size), text, language, valid, color)


def picture(size=(128, 128)):
    return render_scene(5, size, effects=False).image


def make(item, config=PLAIN, seed=0, image=None):
    return build_sample(picture() if image is None else image, item, config, np.random.default_rng(seed))


def same(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def crowd(count=8):
    return record(*[line(f"line{i}", 5 + 60 * (i % 2), 4 + 30 * (i // 2)) for i in range(count)])


def test_shapes_and_types_of_a_generation_sample():
    sample = make(record(line(), line("国家", 60, 60, "Chinese"), line("bad", 10, 90, valid=False)))
    assert sample.image.shape == sample.masked_image.shape == (128, 128, 3) and sample.image.dtype == np.uint8
    assert not sample.masked_image.any() and not sample.editing
    assert sample.texts == ["Tea", "国家"] and sample.languages == ["Latin", "Chinese_sim"]
    assert sample.glyph_lines.shape == (2, 80, 512) and sample.positions.shape == (2, 128, 128)
    assert sample.glyphs.shape == (128, 128, 3) and sample.font_hint.shape == sample.invalid_mask.shape == (128, 128)
    for name in ("glyph_lines", "positions", "font_hint", "invalid_mask"):
        assert getattr(sample, name).dtype == np.uint8 and getattr(sample, name).max() == 1
    assert sample.colors.dtype == np.float32 and (sample.colors == (200, 30, 40)).all()
    assert sample.text_caption.count("*") == 2 and sample.caption == "A wall." and sample.dropped == ()
    assert (sample.invalid_mask == polygon_mask(box(10, 90), (128, 128)) // 255).all()
    for quad, position in zip(sample.quads, sample.positions, strict=True):
        assert (quad == line_quad(position).numpy()).all()


def test_an_editing_sample_hides_the_lines_and_masks_nothing():
    sample = make(record(line(), line("bad", 10, 90, valid=False)), replace(PLAIN, mask_ratio=1.0))
    hidden = sample.positions[0] == 1
    assert sample.editing and not sample.masked_image[hidden].any()
    assert (sample.masked_image[~hidden] == sample.image[~hidden]).all() and not sample.invalid_mask.any()


def test_mask_ratio_is_the_share_of_editing_samples():
    image, item = np.zeros((32, 32, 3), np.uint8), record()
    config = SampleConfig(mask_ratio=0.3, image_size=32)
    share = np.mean([make(item, config, seed, image).editing for seed in range(400)])
    assert share == pytest.approx(0.3, abs=0.07)


def test_of_many_lines_a_random_choice_is_kept_and_the_rest_is_invalid():
    chosen = set()
    for seed in range(6):
        sample = make(crowd(), seed=seed)
        assert len(sample.texts) == 5 and sample.texts == sorted(sample.texts)
        rest = [a for a in crowd().annotations if a.text not in sample.texts]
        union = np.maximum.reduce([polygon_mask(a.polygon, (128, 128)) // 255 for a in rest])
        assert (sample.invalid_mask == union).all() and not (sample.invalid_mask * sample.positions.max(axis=0)).any()
        chosen.add(tuple(sample.texts))
    assert len(chosen) > 2
    assert len(make(crowd(), replace(PLAIN, max_lines=7)).texts) == 7


def test_the_annotation_is_not_changed_and_masks_do_not_grow():
    item = crowd()
    before = copy.deepcopy(item)
    samples = [make(item, seed=1) for _ in range(4)]
    assert all(same(samples[0], other) for other in samples)
    assert item.caption == before.caption and len(item.annotations) == len(before.annotations)
    for a, b in zip(item.annotations, before.annotations, strict=True):
        assert (a.polygon == b.polygon).all() and (a.text, a.color, a.valid) == (b.text, b.color, b.valid)


def test_the_sample_owns_its_image():
    image = picture()
    make(record(line()), image=image).image[:] = 0
    assert image.any()


def test_long_texts_are_cut():
    sample = make(record(line("abcdefghijklmnopqrstuvwxyz")))
    assert sample.texts == ["abcdefghijklmnopqrst"]
    assert make(record(line("abcdef")), replace(PLAIN, max_chars=3)).texts == ["abc"]


@pytest.mark.parametrize("size", [(64, 192), (96, 96), (256, 128)])
@pytest.mark.parametrize("scale", [1, 2])
def test_polygons_are_scaled_with_the_image(size, scale):
    config = replace(PLAIN, image_size=size, glyph_scale=scale)
    item = record(line(x=30, y=40))
    sample = make(item, config)
    assert sample.image.shape == (*size, 3) and sample.glyphs.shape == (size[0] * scale, size[1] * scale, 3)
    ys, xs = np.nonzero(sample.positions[0])
    factor = size[1] / 128, size[0] / 128
    assert xs.min() == pytest.approx(30 * factor[0], abs=1) and xs.max() == pytest.approx(80 * factor[0], abs=1)
    assert ys.min() == pytest.approx(40 * factor[1], abs=1) and ys.max() == pytest.approx(58 * factor[1], abs=1)
    ys, xs = np.nonzero(sample.glyphs.any(axis=2))
    assert xs.min() >= 30 * factor[0] * scale - 3 and xs.max() <= 81 * factor[0] * scale + 3
    assert ys.min() >= 40 * factor[1] * scale - 3 and ys.max() <= 59 * factor[1] * scale + 3


def test_a_picture_without_lines_has_none():
    sample = make(record(line(valid=False)))
    assert sample.texts == [] and sample.text_caption == "" and sample.positions.shape == (0, 128, 128)
    assert sample.glyph_lines.shape == (0, 80, 512) and sample.quads.shape == (0, 4, 2)
    assert sample.colors.shape == (0, 3)
    assert not sample.glyphs.any() and not sample.font_hint.any() and sample.invalid_mask.any()


@pytest.mark.parametrize("bad, reason", [
    (line("ა"), "U\\+10D0"), (line("   "), "blank"), (line(x=500), "empty"),
    (Annotation(np.full((4, 2), np.nan), "Tea", "Latin"), "finite")])
def test_lines_that_cannot_be_used_are_reported_and_made_invalid(bad, reason):
    sample = make(record(line("good", 60, 60), bad))
    assert sample.texts == ["good"] and len(sample.dropped) == 1
    assert re.search(reason, sample.dropped[0]) and "wall.png: annotations[1]" in sample.dropped[0]
    assert sample.invalid_mask.any() == (reason in ("U\\+10D0", "blank"))


def test_unusable_lines_do_not_use_up_max_lines():
    item = record(*[line("  ", 5, 5 + i) for i in range(9)], *crowd(5).annotations)
    assert len(make(item).texts) == 5


def test_colours_are_told_with_color_prob():
    item = record(line(), line("b", 60, 60, color=None))
    assert make(item).colors.tolist() == [[200, 30, 40], [500, 500, 500]]
    hidden = make(item, replace(PLAIN, color_prob=0.0))
    assert (hidden.colors == 500).all() and hidden.glyphs.max() == 255  # drawn white
    told = [make(item, replace(PLAIN, color_prob=0.6), seed).colors[0, 0] < 500 for seed in range(200)]
    assert np.mean(told) == pytest.approx(0.6, abs=0.1)


def test_font_hint_probability():
    item = record(line(x=2, y=2, width=120, height=120))
    assert not make(item, replace(PLAIN, font_hint_prob=0.0)).font_hint.any()
    seen = [make(item, replace(PLAIN, font_hint_prob=0.5), seed).font_hint.any() for seed in range(100)]
    assert np.mean(seen) == pytest.approx(0.5, abs=0.15)


def test_random_fonts_and_the_preferred_font():
    item = record(line("Garden"))
    drawn = {make(item, replace(PLAIN, rand_font=True), seed).glyph_lines.tobytes() for seed in range(30)}
    assert len(drawn) > 5
    assert len({make(item, PLAIN, seed).glyph_lines.tobytes() for seed in range(5)}) == 1
    assert make(item, replace(PLAIN, font="Caveat")).glyph_lines.tobytes() in drawn


def test_position_jitter_changes_masks_and_their_quads():
    config = replace(PLAIN, position_jitter=True)
    item = record(line(x=30, y=30, width=60, height=40))
    samples = [make(item, config, seed) for seed in range(60)]
    heights = {int(np.ptp(s.quads[0][:, 1])) for s in samples}
    assert heights == {36, 38, 40, 42, 44}


@pytest.mark.parametrize("name, value", [
    ("mask_ratio", 1.5), ("max_lines", 0), ("image_size", (8, 64)), ("font_hint_area", (0.9, 0.2)),
    ("glyph_scale", 3), ("color_prob", -1)])
def test_wrong_settings_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        SampleConfig(**{name: value})


def test_pictures_of_the_wrong_kind_are_refused():
    for image in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), [[1]], np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match="picture"):
            make(record(), image=image)
