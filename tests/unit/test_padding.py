"""Sparing the padding changes nothing but the time."""

from __future__ import annotations

import copy

import pytest
import torch

from anytext_lib.ocr import crop_lines, crop_widths
from anytext_lib.ocr.crops import REACH, SIDE, TOGETHER, Shortened, needed_columns, seams
from anytext_lib.ocr.network import SqueezeExcite
from anytext_lib.scenes import render_scene, scene_batch


@pytest.fixture(scope="module")
def page():
    images, lines, _ = scene_batch([render_scene(seed, 256, n_lines=4, invalid=0) for seed in range(3)])
    return images, lines


@pytest.fixture(scope="module")
def exact_network(recognizer):
    """The recogniser in double precision."""
    return copy.deepcopy(recognizer).double()


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


def test_the_reach_is_exact_in_double_precision(page, exact_network):
    images, lines = page
    crops, widths = crop_lines(images.double(), lines), crop_widths(lines, images.shape[-2:])
    with torch.no_grad():
        torch.testing.assert_close(exact_network.features(crops, widths), exact_network.features(crops),
                                   atol=1e-10, rtol=0)


def test_one_column_less_would_be_felt(recognizer):
    """The reach is as small as can be: text just inside it changes the last column that is kept."""
    crop = torch.zeros(1, 3, 48, 320)
    crop[..., 99] = 1.0
    changed = (recognizer._local(crop) != recognizer._local(torch.zeros_like(crop))).any(dim=(0, 1, 2))
    assert int(changed.nonzero().max()) == 50 + REACH


def test_needed_columns_end_at_the_reach_or_at_the_border():
    assert needed_columns(100, 160) == 51 + REACH
    assert needed_columns(254, 160) == 160 - REACH and needed_columns(255, 160) == needed_columns(320, 160) == 160


def test_seams_lie_between_the_lines_and_are_blank_where_a_line_is_cut():
    columns, is_blank = seams([3, 5], full=5, device=torch.device("cpu"))
    assert SIDE == 2 and columns.tolist() == [3, 4, 5, 6, 12, 13, 14, 15]
    assert is_blank.tolist() == [True, True, False, False, False, False, False, False]


@pytest.mark.parametrize("widths", [[320, 1, 254, 255, 40, 320, 100], [7] * (TOGETHER + 1), [64], [16]])
def test_lines_of_any_width_and_their_gradients_are_exact(widths, exact_network):
    generator = torch.Generator().manual_seed(0)
    crops = torch.randn(len(widths), 3, 48, 320 if len(widths) > 1 else widths[0], generator=generator,
                        dtype=torch.float64)
    for crop, width in zip(crops, widths, strict=True):
        crop[..., width:] = 0
    crops.requires_grad_(True)
    whole, spared = exact_network.features(crops), exact_network.features(crops, widths)
    torch.testing.assert_close(spared, whole, atol=1e-10, rtol=0)
    pull = torch.randn(whole.shape, generator=generator, dtype=torch.float64)
    there, here = (torch.autograd.grad(out, crops, pull)[0] for out in (whole, spared))
    for i, width in enumerate(widths):
        torch.testing.assert_close(here[i, ..., :width], there[i, ..., :width], atol=1e-10, rtol=1e-9)


def test_wrong_widths_are_named(recognizer):
    for widths in ([10], [10, 0], [10, 321]):
        with pytest.raises(ValueError, match="widths are 2 numbers of pixels in 1..320"):
            recognizer(torch.zeros(2, 3, 48, 320), widths)


@pytest.mark.parametrize("needed, removed", [(60, 72), (119, 12), (144, 0)])
def test_shortened_maps_have_the_means_of_the_full_ones(needed, removed):
    short = Shortened.of(needed, 160)
    assert short.removed == removed and len(short.columns(torch.device("cpu"))) == 160 - removed
    first = 4 * short.kept
    full = torch.randn(2, 8, 3, 160, dtype=torch.float64)
    full[..., first : first + 4 + removed] = full[..., first : first + 1]
    cut = full[..., short.columns(full.device)]
    torch.testing.assert_close(short.mean(cut), full.mean(dim=(2, 3), keepdim=True))
    torch.testing.assert_close(short.mean(cut[..., ::2]), full[..., ::2].mean(dim=(2, 3), keepdim=True))
    torch.testing.assert_close(cut[..., ::4][..., short.frames(full.device)], full[..., ::4])


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("short", [None, Shortened.of(60, 160)])
def test_squeeze_and_excite_of_constant_weights(rows, short):
    plain = SqueezeExcite(16).double()
    frozen = copy.deepcopy(plain).requires_grad_(False)
    x = torch.randn(2, 16, 3, 88, dtype=torch.float64, requires_grad=True)
    grown = torch.randn_like(x[:, :, :rows])
    wanted, got = plain(x, rows, short), frozen(x, rows, short)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(torch.autograd.grad(got, x, grown), torch.autograd.grad(wanted, x, grown))
