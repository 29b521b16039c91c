"""Label maps: kernels, borders, masks, polygons that are odd."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.db import make_label_maps, stack_label_maps
from anytext_lib.db.labels import (
    as_polygon,
    clip_polygon,
    draw_border,
    offset_distance,
    offset_polygon,
    shrink_polygon,
    signed_area,
    unshrink_distance,
)

WORD = [[10, 10], [90, 10], [90, 40], [10, 40]]
SIZE = (64, 100)

rectangles = st.builds(lambda x, y, w, h: [[x, y], [x + w, y], [x + w, y + h], [x, y + h]],
                       st.integers(-10, 80), st.integers(-10, 50), st.integers(1, 60), st.integers(1, 40))


def test_kernel_and_border_of_a_word():
    labels = make_label_maps([WORD], SIZE)
    distance = 80 * 30 * (1 - 0.4**2) / 220
    assert offset_distance(as_polygon(WORD)) == pytest.approx(distance)  # 9.16
    inside = labels.shrink_map.nonzero()
    np.testing.assert_allclose(inside.min(dim=0).values, [10 + distance, 10 + distance], atol=1)
    np.testing.assert_allclose(inside.max(dim=0).values, [40 - distance, 90 - distance], atol=1)
    assert labels.threshold_map[10, 50].item() == pytest.approx(0.7)
    assert labels.threshold_map[25, 50].item() == pytest.approx(0.3)  # further than D from any border
    assert labels.threshold_map[10 + 4, 50].item() == pytest.approx(0.7 - 0.4 * 4 / distance)
    assert labels.threshold_map[10 - 4, 50].item() == labels.threshold_map[10 + 4, 50].item()
    assert labels.shrink_mask.all() and not labels.ignored.any()
    assert labels.threshold_mask[1:50].sum() == labels.threshold_mask.sum()


@given(st.lists(rectangles, max_size=4), st.booleans(), st.booleans())
def test_maps_are_sound(polygons, flag, border_first):
    labels = make_label_maps(polygons, SIZE, [flag] * len(polygons), border_first=border_first)
    for value in labels[:4]:
        assert value.shape == SIZE and value.dtype == torch.float32 and torch.isfinite(value).all()
    assert set(labels.shrink_map.unique().tolist()) <= {0.0, 1.0}
    assert set(labels.shrink_mask.unique().tolist()) <= {0.0, 1.0}
    assert 0.3 - 1e-6 <= labels.threshold_map.min() and labels.threshold_map.max() <= 0.7 + 1e-6
    if flag:  # nothing is taught, everything about these texts is masked out
        assert not labels.shrink_map.any() and not labels.threshold_mask.any() and labels.ignored.all()
    if not border_first and labels.ignored.all():  # a text without a kernel has no border
        assert not labels.threshold_mask.any()


@given(rectangles, st.integers(0, 3), st.booleans())
def test_first_corner_and_direction_do_not_matter(polygon, turn, reverse):
    other = np.roll(polygon, turn, axis=0)[:: -1 if reverse else 1]
    for one, two in zip(make_label_maps([polygon], SIZE), make_label_maps([other], SIZE), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_kernels_of_neighbours_do_not_touch():
    left, right = [[10, 10], [50, 10], [50, 40], [10, 40]], [[50, 10], [90, 10], [90, 40], [50, 40]]
    labels = make_label_maps([left, right], SIZE)
    assert not labels.shrink_map[:, 45:56].any() and labels.shrink_map[:, :45].any() and labels.shrink_map[:, 56:].any()
    assert labels.threshold_map[25, 50].item() == pytest.approx(0.7)  # the larger value stays


def test_small_text_is_masked_out_but_keeps_its_border_as_in_paddleocr():
    small = [[10, 10], [60, 10], [60, 17], [10, 17]]
    paddle, original = (make_label_maps([small], SIZE, border_first=first) for first in (True, False))
    for labels in (paddle, original):
        assert not labels.shrink_map.any() and labels.shrink_mask[13, 30] == 0 and labels.ignored.all()
    assert paddle.threshold_mask.any() and not original.threshold_mask.any()


def test_shrink_ratio_grows_where_a_polygon_falls_apart():
    dumbbell = np.float32([[0, 0], [30, 0], [30, 12], [60, 12], [60, 0], [90, 0], [90, 40], [60, 40], [60, 28],
                           [30, 28], [30, 40], [0, 40]])
    assert len(offset_polygon(dumbbell, -offset_distance(dumbbell, 0.4))) == 2
    assert len(shrink_polygon(dumbbell)) == 1


def test_borders_have_no_holes_unless_asked_for():
    """Upstream's formula takes the root of a negative number on a pixel of an edge; NaN then leaves it out."""
    word = [[65.2, 60.0], [32.3, 39.1], [47.6, 31.1], [49.2, 30.9], [68.9, 34.9]]
    sound, upstream = (make_label_maps([word], (96, 128), upstream_rounding=flag) for flag in (False, True))
    assert sound.threshold_map[41, 68].item() == pytest.approx(0.7, abs=1e-4)
    assert upstream.threshold_map[41, 68].item() == pytest.approx(0.3)
    others = (sound.threshold_map - upstream.threshold_map).abs()
    others[41, 68] = 0
    assert others.max() < 0.002
    torch.testing.assert_close(upstream.shrink_map, sound.shrink_map)


def test_integer_corners_need_no_choice():
    sound, upstream = (make_label_maps([WORD], SIZE, upstream_rounding=flag) for flag in (False, True))
    for one, two in zip(sound, upstream, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


@pytest.mark.parametrize("points", [
    [[0, 0], [50, 0], [50, 0.4], [0, 0.4]],  # corners fall together as integers
    [[20, 20], [40, 40], [60, 60]],  # no area
    [[-50, -50], [-20, -50], [-20, -30], [-50, -30]],  # outside the image
    [[200, 10], [260, 10], [260, 40], [200, 40]],
], ids=["sliver", "line", "left above", "right"])
def test_polygons_that_teach_nothing(points):
    labels = make_label_maps([points], SIZE)
    assert labels.ignored.tolist() == [True] and not labels.shrink_map.any()
    assert all(torch.isfinite(value).all() for value in labels[:4])


def test_polygon_across_the_edge():
    closeness, mask = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    draw_border(as_polygon([[-30, 10], [40, 10], [40, 40], [-30, 40]]), closeness, mask)
    assert closeness[10, :40].min() == 1 and mask[25, 0] == 1 and closeness[25, 0] == 0
    assert signed_area(clip_polygon(as_polygon([[-30, 10], [40, 10], [40, 40], [-30, 40]]), SIZE)) == -1200


@given(st.floats(4, 400), st.floats(4, 400))
def test_unshrink_is_the_inverse_of_shrinking_a_rectangle(width, height):
    d = width * height * (1 - 0.4**2) / (2 * (width + height))
    if min(width, height) > 2 * d:  # something is left
        assert unshrink_distance(width - 2 * d, height - 2 * d) == pytest.approx(d, rel=1e-9)


def test_bad_requests_are_explained():
    with pytest.raises(ValueError, match="one for each polygon"):
        make_label_maps([WORD], SIZE, [False, True])
    with pytest.raises(ValueError, match="at least three"):
        make_label_maps([[[1, 2], [3, 4]]], SIZE)
    with pytest.raises(ValueError, match="not finite"):
        make_label_maps([[[1, 2], [3, float("nan")], [5, 6]]], SIZE)
    with pytest.raises(ValueError, match="shrink_ratio"):
        make_label_maps([WORD], SIZE, shrink_ratio=1)
    with pytest.raises(ValueError, match="at least one image"):
        stack_label_maps([])


def test_batch_of_maps():
    one, none = make_label_maps([WORD], SIZE), make_label_maps([], SIZE)
    batch = stack_label_maps([one, none, one])
    assert batch.shrink_map.shape == (3, *SIZE) and batch.ignored.tolist() == [False, False]
    assert not batch.shrink_map[1].any() and (batch.threshold_map[1] == 0.3).all()
    assert batch.to(torch.float64).shrink_mask.dtype == torch.float64


WAISTED = [[10, 40], [50, 40], [50, 46], [90, 46], [90, 40], [130, 40], [130, 46], [170, 46], [170, 40], [210, 40],
           [210, 56], [170, 56], [170, 50], [130, 50], [130, 56], [90, 56], [90, 50], [50, 50], [50, 56], [10, 56]]
FIELD = (130, 220)


@pytest.mark.parametrize("points", [
    [[20, 20], [120, 50], [120, 20], [20, 50]],  # even halves: the signed areas cancel
    [[20, 20], [140, 80], [140, 20], [20, 50]],  # uneven ones
    [[20, 20], [120, 22], [120, 20], [20, 50]],  # one of them tiny, yet more than a square pixel
    [[20, 20], [60, 60], [100, 20], [140, 60], [140, 20], [100, 60], [60, 20], [20, 60]],
], ids=["even bow tie", "uneven bow tie", "small half", "figure of eight"])
@pytest.mark.parametrize("border_first", [True, False])
def test_crossing_sides_are_ignored_whatever_the_sizes_of_the_parts(points, border_first):
    labels = make_label_maps([points], FIELD, border_first=border_first)
    assert labels.ignored.tolist() == [True]
    assert not labels.shrink_map.any() and not labels.threshold_mask.any()
    rows, columns = np.array(points)[:, 1], np.array(points)[:, 0]
    masked = (labels.shrink_mask == 0).nonzero()
    assert masked.min(dim=0).values.tolist() == [rows.min(), columns.min()]
    assert masked.max(dim=0).values.tolist() == [rows.max(), columns.max()]


@pytest.mark.parametrize("points", [
    [[20, 20], [120, 20], [180, 20], [120, 20], [120, 50], [20, 50]],  # a spike without area
    [[20, 20], [20, 20], [120, 20], [120, 20], [120, 50], [20, 50], [20, 50]],
    [[20, 20], [120, 20], [120, 50], [20, 50], [20, 20]],
    [[20, 20], [70, 20], [120, 20], [120, 50], [70, 50], [20, 50]],
], ids=["spike", "repeated corners", "closed ring", "corners on a side"])
def test_what_adds_no_area_changes_nothing(points):
    box = make_label_maps([[[20, 20], [120, 20], [120, 50], [20, 50]]], FIELD)
    for one, two in zip(make_label_maps([points], FIELD), box, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0.003)  # a corner on a side: see ``edge_distance``


def test_a_sign_with_narrow_waists_is_taught_as_several_and_said_so():
    from anytext_lib.db.labels import PiecesWarning

    with pytest.warns(PiecesWarning, match="is taught as 3 texts: its waists are narrower .* let it be ignored"):
        labels = make_label_maps([WAISTED], FIELD)
    count, _ = cv2.connectedComponents((labels.shrink_map > 0).numpy().astype(np.uint8))
    assert count - 1 == 3 == len(shrink_polygon(as_polygon(WAISTED))) and not labels.ignored.any()
    assert make_label_maps([WAISTED], FIELD, [True]).ignored.all(), "without a warning where it is to be ignored"
