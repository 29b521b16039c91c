"""Pieces of the objective against upstream: step weights, boxes, crops, resizing, recogniser, CTC."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from anytext_lib.data import BadLineError, TextLines, line_quad
from anytext_lib.data.lines import polygon_mask
from anytext_lib.losses import ctc_loss, fast_ctc_loss, step_weights, too_long
from anytext_lib.ocr import crop_lines
from anytext_lib.ocr.crops import _fit, _upright, similarity
from tests.golden.cases import golden_files, load
from tests.golden.closeness import assert_close

every_file = pytest.mark.parametrize("path", golden_files("loss", "subpieces_*.npz"))


def as_image(u8: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(u8).permute(2, 0, 1)[None].float() / 127.5 - 1


@every_file
def test_step_weights(path, alphas_cumprod):
    case, _ = load(path)
    got = step_weights(torch.from_numpy(case["step_t"]), alphas_cumprod)
    assert_close(got, case["alphas_cumprod_f64"], rtol=2e-6)
    assert_close(got.float(), case["step_weight_f32"], rtol=2e-6)


@every_file
def test_boxes(path):
    case, meta = load(path)
    size = case["img_u8_hwc"].shape[:2]
    for name, polygons, box in zip(case["crop_names"], meta["crop_polygons"], case["crop_boxes"], strict=True):
        mask = np.zeros(size, np.uint8)
        for polygon in polygons:
            mask |= polygon_mask(polygon, size)
        if polygons:
            np.testing.assert_array_equal(line_quad(mask), box, err_msg=str(name))
        else:  # upstream silently reads (0,0)-(100,100)
            with pytest.raises(BadLineError, match="empty"):
                line_quad(mask)


@every_file
def test_crops(path):
    """The upright box at its own size: crop to a height and width that the final resize leaves unchanged."""
    case, _ = load(path)
    image = as_image(case["img_u8_hwc"])
    names = zip(case["crop_names"], case["crop_boxes"], case["crop_shapes"], case["crop_values"],
                case["crop_similarity"], strict=True)
    for name, box, (_, h, w), values, matrix in names:
        quad = torch.from_numpy(box).float()
        assert_close(similarity(quad), matrix[:2], atol=1e-4, what=name)
        if h > 1.2 * w:
            continue  # turned by 90 degrees: test_tall_crops_are_turned
        crop = crop_lines(image, TextLines([0], quad[None], ["x"], ["Latin"]), height=int(h), width=int(w))[0]
        grid = crop[:, np.linspace(0, h - 1, 8).astype(int)][:, :, np.linspace(0, w - 1, 16).astype(int)]
        assert_close(grid * 127.5 + 127.5, values, atol=0.01, what=name)


@every_file
def test_tall_crops_are_turned(path):
    case, _ = load(path)
    image = as_image(case["img_u8_hwc"])
    tall = [i for i, (_, h, w) in enumerate(case["crop_shapes"]) if h > 1.2 * w]
    for i in tall:
        _, h, w = case["crop_shapes"][i].tolist()
        quad = torch.from_numpy(case["crop_boxes"][i]).float()
        turned = crop_lines(image, TextLines([0], quad[None], ["x"], ["Latin"]), height=w, width=h)[0]
        upright = turned.flip(1).transpose(1, 2)
        grid = upright[:, np.linspace(0, h - 1, 8).astype(int)][:, :, np.linspace(0, w - 1, 16).astype(int)]
        assert_close(grid * 127.5 + 127.5, case["crop_values"][i], atol=0.01)
    assert tall


@every_file
def test_resizing(path):
    case, meta = load(path)
    wide = torch.cat([as_image(case["img_u8_hwc"])[0]] * 2, dim=2)
    for k, (h, w) in enumerate(case["resize_sizes"].tolist()):
        got = _fit(wide[:, k : k + h, :w], 48, 320)
        assert_close(got[:, ::6, ::8], case["resize_out_sub"][k], atol=1e-5)
        used = (got.abs().sum(dim=(0, 1)) > 0).nonzero().max() + 1
        assert used == meta["resize_widths"][k]


@every_file
def test_recogniser(path, recognizer):
    case, meta = load(path)
    image = as_image(case["img_u8_hwc"])[0]
    pieces = [image[:, a:b, c:d] for a, b, c, d in spans(meta["pred_crops"])]
    out = recognizer(torch.stack([_fit(_upright(piece), 48, 320) for piece in pieces]))
    assert_close(out.features.detach(), case["pred_neck"], atol=1e-3)
    np.testing.assert_array_equal(out.logits.argmax(dim=-1), case["pred_argmax"])
    assert_close(out.logits.max(dim=-1).values.detach(), case["pred_logit_max"], rtol=1e-4, atol=2e-3)


def spans(words: str) -> list[tuple[int, ...]]:
    """The rows and columns in a sentence: "['0:48,0:300', ...] ..." -> [(0, 48, 0, 300), ...]."""
    return [tuple(map(int, found)) for found in re.findall(r"(\d+):(\d+),(\d+):(\d+)", words)]


@pytest.mark.parametrize("loss_of", [ctc_loss, fast_ctc_loss])
@every_file
def test_ctc(path, loss_of, recognizer):
    case, meta = load(path)
    logits = torch.einsum("ltr,rk->ltk", torch.from_numpy(case["ctc_a"]), torch.from_numpy(case["ctc_b"]))
    logits.requires_grad_(True)
    ids = [recognizer.charset.encode(text) for text in meta["ctc_texts"]]
    assert ids == meta["ctc_ids"]
    got = loss_of(logits, ids)
    weighted = (got * torch.from_numpy(case["ctc_weight"])).detach().numpy()
    finite = np.isfinite(case["ctc_loss"])
    assert_close(weighted[finite], case["ctc_loss"][finite], rtol=1e-5)
    assert (weighted[~finite] == 0).all() and too_long(ids) == np.flatnonzero(~finite).tolist()
    got.sum().backward()
    assert torch.isfinite(logits.grad).all() and (logits.grad[~finite] == 0).all()
