"""The recogniser against features, logits and gradients recorded from onnxruntime and upstream."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anytext_lib.losses import ctc_loss
from anytext_lib.ocr import PPOCRv3Recognizer
from tests.golden.cases import golden_files, load
from tests.golden.closeness import assert_close

every_file = pytest.mark.parametrize("path", golden_files("recogniser", "golden_ocr*.npz"))


@pytest.fixture(scope="module")
def recognizer() -> PPOCRv3Recognizer:
    return PPOCRv3Recognizer.from_pretrained()


def crops_of(case: dict[str, np.ndarray]) -> torch.Tensor:
    """The stored crops (uint8, RGB, any size), resized to height 48 and padded: (L, 3, 48, 320) in [-1, 1]."""
    crops = []
    for i in range(len(case["ort_neck"])):
        piece = torch.from_numpy(case[f"crop{i}_u8"]).permute(2, 0, 1)[None].float()
        width = min(320, math.ceil(48 * piece.shape[3] / piece.shape[2]))
        resized = F.interpolate(piece, size=(48, width), mode="bilinear", align_corners=True) / 127.5 - 1
        crops.append(F.pad(resized[0], (0, 320 - width)))
    return torch.stack(crops)


@every_file
def test_features_logits_and_text(path, recognizer):
    case, meta = load(path)
    crops = crops_of(case)
    assert_close(crops[:, :, ::8, ::8], case["input_sub"], atol=1e-5)
    out = recognizer(crops)
    probabilities = out.logits.softmax(dim=-1)
    assert_close(out.features, case["ort_neck"], atol=1e-3)
    assert_close(out.logits[..., : case["ort_logits_first200"].shape[-1]], case["ort_logits_first200"],
                 atol=2e-3)
    np.testing.assert_array_equal(probabilities.argmax(dim=-1), case["ort_argmax"])
    assert_close(probabilities.amax(dim=-1), case["ort_maxprob"], atol=2e-5)
    assert recognizer.read(crops) == meta["recognized"]


@every_file
def test_ctc(path, recognizer):
    case, meta = load(path)
    logits = recognizer(crops_of(case)).logits
    got = ctc_loss(logits, [recognizer.charset.encode(text) for text in meta["texts"]])
    assert_close(got, case["ctc_per_line"], rtol=1e-3, atol=1e-6)


@every_file
def test_gradient_at_batch_size_one(path, recognizer):
    """d mean(features^2) / d input of the first crop alone."""
    case, _ = load(path)
    crop = crops_of(case)[:1].requires_grad_()
    (gradient,) = torch.autograd.grad(recognizer.features(crop).square().mean(), crop)
    assert_close(gradient.norm(), case["grad_N1_norm"], rtol=1e-4, what="norm")
    expected = case["grad_N1_sub"]
    assert_close(gradient[0, :, ::8, ::8], expected, atol=1e-3 * np.abs(expected).max())
