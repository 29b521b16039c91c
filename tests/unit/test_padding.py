"""Sparing the padding changes nothing but the time."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.data import render_scene, scene_batch
from anytext_lib.ocr import crop_lines, crop_widths
from anytext_lib.ocr.network import PPOCRv3Network
from anytext_lib.ocr.padding import REACH, TOGETHER, buckets, needed_width


@pytest.fixture(scope="module")
def page():
    images, lines, _ = scene_batch([render_scene(seed, 256, n_lines=4, invalid=0) for seed in range(3)])
    return images, lines


def test_crop_widths_are_where_the_padding_begins(page):
    images, lines = page
    crops, widths = crop_lines(images, lines), crop_widths(lines, images.shape[-2:])
    last = [int((crop != 0).flatten(0, 1).any(dim=0).nonzero().max()) + 1 for crop in crops]
    assert widths == last and min(widths) < 160


def test_output_and_gradient_are_those_of_the_whole_crop(page, recognizer):
    images, lines = page
    images = images.clone().requires_grad_(True)
    crops, widths = crop_lines(images, lines), crop_widths(lines, images.shape[-2:])
    results = []
    for out in (recognizer(crops), recognizer(crops, widths)):
        pull = (out.features.square().mean() + out.logits.logsumexp(-1).mean())
        results.append((out.features, out.logits, *torch.autograd.grad(pull, images, retain_graph=True)))
    for whole, spared in zip(*results, strict=True):
        torch.testing.assert_close(spared, whole, atol=2e-4, rtol=1e-4)


def test_the_reach_is_exact_in_double_precision(page, recognizer):
    images, lines = page
    network = PPOCRv3Network()
    network.load_state_dict(recognizer.network.state_dict())
    network.double()
    crops, widths = crop_lines(images.double(), lines), crop_widths(lines, images.shape[-2:])
    with torch.no_grad():
        torch.testing.assert_close(network.features(crops, widths), network.features(crops), atol=1e-10, rtol=0)


def test_one_column_less_would_be_felt(recognizer):
    """The reach is as small as can be: text just inside it changes the last column that is kept."""
    crop = torch.zeros(1, 3, 48, 320)
    crop[..., 99] = 1.0
    changed = (recognizer.network._local(crop) != recognizer.network._local(torch.zeros_like(crop))).any(dim=(0, 1, 2))
    assert int(changed.nonzero().max()) == 50 + REACH


@pytest.mark.parametrize("count", [1, 2, TOGETHER, 15, 23])
def test_buckets_hold_every_line_once(count):
    needed = [(37 * i) % 29 * 8 + 80 for i in range(count)]
    groups = buckets(needed)
    assert sorted(i for _, rows in groups for i in rows) == list(range(count))
    assert all(width == max(needed[i] for i in rows) for width, rows in groups)
    assert {len(rows) for _, rows in groups} <= {count, TOGETHER, TOGETHER - 1}


def test_needed_widths_are_bounded_by_the_crop():
    assert needed_width(320, 320) == 320 and needed_width(1, 320) >= 2 * (2 * REACH) and needed_width(100, 320) % 8 == 0


def test_wrong_widths_are_named(recognizer):
    for widths in ([10], [10, 0], [10, 321]):
        with pytest.raises(ValueError, match="widths are 2 numbers of pixels in 1..320"):
            recognizer(torch.zeros(2, 3, 48, 320), widths)
