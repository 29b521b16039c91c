"""TextDetector: finds rendered words, in reading order, with the boxes of PP-OCR's own post-processing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from anytext_lib.data import TextLines
from anytext_lib.ocr import PPOCRv3Recognizer, TextDetector, WeightsError, crop_lines
from anytext_lib.ocr.detector import as_uint8, boxes, reading_order
from anytext_lib.ocr.onnx_weights import detector_path, recognizer_path
from tests.unit.broken_weights import spoilt

PLACES = {"COFFEE": (40, 60), "open 24h": (300, 70), "Hello World": (60, 220), "Restaurant": (140, 400)}


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    return TextDetector.from_pretrained()


@pytest.fixture(scope="module")
def poster() -> np.ndarray:
    """(480, 560, 3) uint8: four words."""
    image = Image.new("RGB", (560, 480), (70, 110, 90))
    for word, place in PLACES.items():
        ImageDraw.Draw(image).text(place, word, (250, 240, 210), font=ImageFont.load_default(44), anchor="lm")
    return np.asarray(image).copy()


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_finds_words_in_reading_order(detector, poster):
    found = detector.detect(poster)
    assert len(found) == 4
    for detection, (left, middle) in zip(found, PLACES.values(), strict=True):
        (tl, tr, br, bl) = detection.quad.tolist()
        assert abs(tl[0] - left) < 15 and abs((tl[1] + bl[1]) / 2 - middle) < 10
        assert tr[0] > tl[0] + 80 and br[1] > tr[1] + 25 and 0.5 < detection.score <= 1
        assert detection.quad.dtype == torch.float32


def test_detected_lines_can_be_read(detector, poster):
    quads = torch.stack([d.quad for d in detector.detect(poster)])
    lines = TextLines(torch.zeros(len(quads)), quads, list(PLACES), ["Latin"] * len(quads))
    read = PPOCRv3Recognizer.from_pretrained().read(crop_lines(tensor(poster), lines))
    assert [text.strip() for text in read] == list(PLACES)


def test_arrays_and_tensors_agree(detector, poster):
    expected = detector.detect(poster)
    for image in (tensor(poster), tensor(poster)[0], tensor(poster).double().requires_grad_()):
        for one, other in zip(detector.detect(image), expected, strict=True):
            torch.testing.assert_close(one.quad, other.quad)


def test_probability(detector, poster):
    batch = torch.cat([tensor(poster), torch.full((1, 3, 480, 560), 0.2)])
    maps = detector.probability(batch)
    assert maps.shape == (2, 1, 480, 560) and maps.dtype == torch.float32
    assert 0 <= maps.min() and maps.max() <= 1
    assert maps[0, 0, 60, 60:180].mean() > 0.8 and maps[0, 0, 120:160].max() < 0.3
    assert maps[1].max() < 0.3 and detector.detect(batch[1]) == []


@pytest.mark.parametrize("size", [(16, 16), (50, 700), (333, 257)])
def test_any_size(detector, size):
    image = np.full((*size, 3), 128, np.uint8)
    assert detector.detect(image) == []
    assert detector.probability(image).shape == (1, 1, *size)


def test_boxes_equal_those_of_the_package(detector, poster):
    post = pytest.importorskip("rapidocr_onnxruntime.ch_ppocr_v3_det.utils").DBPostProcess(
        thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)
    probability = detector._run(poster)
    (expected,) = post(probability[None, None], [(480, 560, 1.0, 1.0)])
    ours = boxes(probability, (480, 560))
    assert len(ours) == len(expected["points"]) == 4
    for detection, points in zip(ours, expected["points"], strict=True):
        np.testing.assert_allclose(detection.quad, points, atol=2)


def test_reading_order():
    def box(x, y, w=50, h=20):
        return torch.tensor([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=torch.float32)

    assert reading_order([box(200, 52), box(0, 100), box(0, 50), box(100, 0), box(100, 45)]) == [3, 2, 4, 0, 1]
    assert reading_order([]) == []


@pytest.mark.parametrize("image", [
    np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3), np.float32), np.zeros((0, 20, 3), np.uint8),
    torch.zeros(20, 20), torch.zeros(1, 1, 20, 20), torch.zeros(3, 20, 20, dtype=torch.uint8), "image.png"])
def test_not_an_image(image):
    with pytest.raises(ValueError, match="an image is a uint8 array"):
        as_uint8(image)


def test_detect_takes_one_image(detector):
    with pytest.raises(ValueError, match="one image at a time"):
        detector.detect(torch.zeros(2, 3, 32, 32))


def test_missing_or_damaged_file(tmp_path):
    with pytest.raises(WeightsError, match="there is no file"):
        TextDetector(tmp_path / "none.onnx")
    for content in (b"", b"nonsense"):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(WeightsError, match="without a network|not a complete ONNX file"):
            TextDetector(tmp_path / "bad.onnx")


@pytest.mark.parametrize("kind, told", [
    ("empty", "without a network, or none"), ("foreign", "not a complete ONNX file|without a network"),
    ("cut off", "not a complete ONNX file|damaged tensor|cannot be loaded"),
    ("nan", "the weights .* hold NaN or infinite"), ("unknown operator", "cannot be loaded")])
def test_broken_weights_are_named(tmp_path, kind, told):
    spoilt(tmp_path / "detector.onnx", kind, detector_path().read_bytes())
    with pytest.raises(WeightsError, match=told) as caught:
        TextDetector(tmp_path / "detector.onnx")
    assert "detector.onnx" in str(caught.value)


def test_a_recogniser_is_no_detector():
    with pytest.raises(WeightsError, match="is no detector of PP-OCR"):
        TextDetector(recognizer_path())
