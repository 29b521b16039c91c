"""Position masks: the shares of the jitter, and masks that never vanish."""

import numpy as np
import pytest

from anytext_lib.data import BadLineError
from anytext_lib.data.hints import JITTER, draw_jitter, position_mask

BOX = np.array([[20, 20], [99, 20], [99, 59], [20, 59]])  # 80 x 40 pixels


def test_shares_of_the_jitter():
    rng = np.random.default_rng(0)
    steps = [draw_jitter(rng) for _ in range(8000)]
    assert sum(share for share, _ in JITTER) == pytest.approx(1)
    for share, step in ((0.7, 0), (0.1, 1), (0.1, -1), (0.05, 2), (0.05, -2)):
        assert np.mean(np.equal(steps, step)) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("steps", [-2, -1, 0, 1, 2])
def test_a_step_moves_the_border_by_one_pixel(steps):
    mask = position_mask(BOX, (100, 120), steps)
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert np.ptp(np.flatnonzero(mask.any(axis=0))) + 1 == 80 + 2 * steps
    assert np.ptp(np.flatnonzero(mask.any(axis=1))) + 1 == 40 + 2 * steps


@pytest.mark.parametrize("height", [1, 5, 19])
def test_small_boxes_are_dilated_but_never_eroded(height):
    box = BOX * 1.0
    box[2:, 1] = 20 + height
    plain = position_mask(box, (100, 120))
    for steps in (-1, -2):
        assert (position_mask(box, (100, 120), steps) == plain).all()
    assert position_mask(box, (100, 120), 2).sum() > plain.sum()


def test_no_mask_is_eroded_away():
    zigzag = np.array([[10, 10], [60, 10], [60, 12], [12, 12], [12, 60], [10, 60]])  # two thin bars, a large rectangle
    assert position_mask(zigzag, (80, 80), -2).any()


def test_errors():
    with pytest.raises(BadLineError, match="three"):
        position_mask(BOX[:2], (80, 80))
    with pytest.raises(BadLineError, match="finite"):
        position_mask(BOX * np.nan, (80, 80))
