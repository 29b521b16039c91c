"""Boxes: post-processing against PP-OCR's own, shrinking undone, and precision, recall and F."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.db import make_label_maps
from anytext_lib.db.box_score import BoxScore, compare_detectors, evaluate_detector, f_interval, score_boxes
from anytext_lib.db.dbnet import find_boxes
from anytext_lib.ocr.detector import UNCLIP, Detection, boxes
from anytext_lib.scenes.rendering import render_scene

SIZE = (96, 160)
WORD = [[20.0, 30], [120, 30], [120, 60], [20, 60]]
OTHER = [[20.0, 70], [60, 70], [60, 90], [20, 90]]


def shift(polygon, x: float, y: float = 0):
    return (np.asarray(polygon) + [x, y]).tolist()


# post-processing

def test_equals_pp_ocr_with_its_options():
    blurred = cv2.GaussianBlur(make_label_maps([WORD, OTHER], SIZE).shrink_map.numpy(), (0, 0), 2.0)
    ours, theirs = find_boxes(blurred, unclip_ratio=UNCLIP, dilate=True), boxes(blurred, SIZE)
    assert len(ours) == len(theirs) == 2
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.quad, two.quad, atol=1e-3, rtol=0)
        assert one.score == two.score


@given(st.integers(60, 150), st.integers(30, 60), st.integers(-40, 40))
def test_shrinking_is_undone(width, height, angle):
    """Label map -> box: the rectangle comes back, to the pixels that integers cost."""
    corners = np.float32([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    turn = np.deg2rad(angle)
    word = corners @ np.float32([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + 120
    (found,) = find_boxes(make_label_maps([word], (240, 240)).shrink_map, unclip_ratio=None)
    assert score_boxes([found.quad], [word], iou=0.75).f == 1


def test_the_rule_of_thumb_leaves_boxes_of_perfect_kernels_too_small():
    long = [[20, 20], [220, 20], [220, 60], [20, 60]]
    kernel = make_label_maps([long], (80, 240)).shrink_map
    (rule,), (exact,) = find_boxes(kernel, unclip_ratio=1.5), find_boxes(kernel, unclip_ratio=None)
    heights = [(d.quad[2, 1] - d.quad[1, 1]).item() for d in (rule, exact)]
    assert heights[0] < 34 and heights[1] == pytest.approx(40, abs=1.5)


def test_what_is_no_text_gives_no_box():
    assert find_boxes(torch.zeros(SIZE)) == []
    weak = make_label_maps([WORD], SIZE).shrink_map * 0.4
    assert find_boxes(weak) == [] and len(find_boxes(weak, min_score=0.3)) == 1
    dot = torch.zeros(SIZE)
    dot[10:12, 10:12] = 1
    assert find_boxes(dot) == []
    with pytest.raises(ValueError, match="one map"):
        find_boxes(torch.zeros(1, *SIZE))


def test_boxes_stay_inside():
    edge = make_label_maps([[[0, 0], [159, 0], [159, 30], [0, 30]]], SIZE).shrink_map
    (found,) = find_boxes(edge, unclip_ratio=3.0)
    assert found.quad.min() >= 0 and found.quad[:, 0].max() <= 160 and found.quad[:, 1].max() <= 96


# score

def test_counts():
    score = score_boxes([WORD, shift(OTHER, 70)], [WORD, OTHER])
    assert (score.matched, score.found, score.wanted) == (1, 2, 2) and score.overlap == 1
    assert score.precision == score.recall == score.f == 0.5
    total = score + score_boxes([], [WORD]) + score_boxes([WORD], [])
    assert (total.matched, total.found, total.wanted) == (1, 3, 3) and total.f == pytest.approx(1 / 3)
    assert BoxScore().f == BoxScore().precision == BoxScore().recall == 1 and "F 0.333" in str(total)


@given(st.floats(-60, 60))
def test_overlap_of_a_shifted_box(x):
    score = score_boxes([shift(WORD, x)], [WORD])
    expected = (100 - abs(x)) / (100 + abs(x))
    assert score.matched == (expected > 0.5)
    assert score.overlap == pytest.approx(expected if expected > 0.5 else 0)


def test_one_text_takes_one_box():
    score = score_boxes([WORD, shift(WORD, 1), shift(WORD, 2)], [WORD])
    assert (score.matched, score.found) == (1, 3) and score.overlap == 1  # the best pair counts


def test_do_not_care_texts_and_the_boxes_on_them_do_not_count():
    score = score_boxes([shift(WORD, 3), OTHER], [WORD, OTHER], [True, False])
    assert (score.matched, score.found, score.wanted) == (1, 1, 1)
    half_off = score_boxes([shift(WORD, 60)], [WORD], [True])
    assert (half_off.found, half_off.wanted) == (1, 0) and half_off.precision == 0
    with pytest.raises(ValueError, match="do not agree"):
        score_boxes([], [WORD], [])


def test_crossed_polygons_have_an_area():
    bow_tie = [WORD[0], WORD[2], WORD[1], WORD[3]]
    assert score_boxes([bow_tie], [WORD]).found == 1


# comparison

class Knows:
    """Finds what it is told, to the pixel; ``share`` of it."""

    def __init__(self, scenes, share=1.0):
        self.answers = {scene.image.tobytes(): [line.polygon for line in scene.lines] for scene in scenes}
        self.share = share

    def detect(self, image):
        known = self.answers[image.tobytes()]
        return [Detection(torch.from_numpy(quad).float(), 1.0) for quad in known[: int(len(known) * self.share)]]


def test_comparison():
    scenes = [render_scene(i, 160, n_lines=2) for i in range(4)]
    scores = compare_detectors({"all": Knows(scenes), "none": Knows(scenes, 0.0)}, iter(scenes))
    assert scores["all"].score.f == 1 and scores["all"].interval == (1, 1) and scores["none"].score.recall == 0
    assert scores["none"].score.precision == 1 and "F 1.000" in str(scores["all"])
    with pytest.raises(ValueError, match="no scene"):
        evaluate_detector(Knows([]), [])


def test_interval_of_f_covers_it():
    scores = [BoxScore(1, 1, 1), BoxScore(0, 1, 1), BoxScore(2, 2, 3)] * 10
    low, high = f_interval(scores)
    assert low < sum(scores, BoxScore()).f < high and 0 < low and high < 1
