"""Font hints: strokes of the real letters, inside the polygon, partly erased."""

import numpy as np
import pytest

from anytext_lib.data.hints import font_hint
from anytext_lib.scenes import render_line

SIZE = (64, 192)
IMAGE = render_line("Garden", "RobotoSlab", SIZE)
WHOLE = np.array([[4, 4], [188, 4], [188, 60], [4, 60]])


def rng(seed=0):
    return np.random.default_rng(seed)


def test_strokes_are_the_letters():
    hint = font_hint(IMAGE, WHOLE, rng(), (1, 1))
    dark = IMAGE.mean(axis=2) < 120
    inside = np.zeros(SIZE, bool)
    inside[4:61, 4:189] = True
    assert hint.shape == SIZE and hint.dtype == np.uint8 and set(np.unique(hint)) == {0, 1}
    assert hint[dark & inside].mean() > 0.6 and hint[~dark].mean() < 0.1


def test_nothing_outside_the_polygon():
    part = np.array([[60, 10], [120, 20], [115, 50], [55, 40]])
    hint = font_hint(IMAGE, part, rng(), (1, 1), augment=True)
    assert hint.any() and not hint[:, :55].any() and not hint[:, 121:].any() and not hint[51:].any()


@pytest.mark.parametrize("kept", [0.4, 0.7])
def test_the_erased_share_is_one_piece_across_the_line(kept):
    noise = rng(3).integers(0, 256, (64, 192, 3)).astype(np.uint8)
    for seed in range(5):
        hint = font_hint(noise, WHOLE, rng(seed), (kept, kept))
        empty = np.flatnonzero(~hint.any(axis=0)[4:189])
        assert len(empty) == pytest.approx((1 - kept) * 185, abs=3) and np.ptp(empty) == len(empty) - 1


@pytest.mark.parametrize("height, width", [(64, 192), (512, 512)])
def test_augmentation_moves_the_content_a_little(height, width):
    image = render_line("Garden", size=(height, width))
    polygon = np.array([[2, 2], [width - 3, 2], [width - 3, height - 3], [2, height - 3]])
    plain, moved, again = (font_hint(image, polygon, rng(1), (1, 1), augment) for augment in (False, True, True))
    assert (moved == again).all() and (moved != plain).any()
    assert int(moved.sum()) == pytest.approx(int(plain.sum()), rel=0.35)


@pytest.mark.parametrize("polygon", [
    [[-40, -10], [-20, -10], [-20, 20], [-40, 20]], [[5, 5], [6, 5], [6, 6], [5, 6]],
    [[150, 40], [400, 40], [400, 90], [150, 90]]])
@pytest.mark.parametrize("augment", [False, True])
def test_polygons_outside_or_tiny(polygon, augment):
    assert font_hint(IMAGE, np.array(polygon), rng(), (0.7, 1), augment).shape == SIZE
