"""DB against PaddleOCR: label maps of polygons, the loss, its terms and its gradient."""

from __future__ import annotations

import contextlib
import json

import cv2
import numpy as np
import pytest
import torch

from anytext_lib.db import DBLoss, LabelMaps, make_label_maps
from anytext_lib.db.dbnet import find_boxes
from tests.golden.cases import golden_files
from tests.golden.closeness import assert_close

TOLERANCE = 2e-6
MAPS = ("shrink_map", "shrink_mask", "threshold_map", "threshold_mask")
OPENCV_4 = cv2.__version__.startswith("4.")  # fills polygons otherwise: up to 7 pixels of a border


def load(path) -> tuple[list[dict[str, np.ndarray]], list[dict]]:
    """Cases of a file: arrays by their names without the prefix c0/, c1/, ..., and what ``meta`` says of each."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(str(arrays.pop("meta")))
    cases = [{name.split("/", 1)[1]: value for name, value in arrays.items() if name.startswith(f"c{i}/")}
             for i in range(len(meta))]
    return cases, meta


@pytest.mark.parametrize("path", golden_files("db", "db_labels_*.npz"))
def test_label_maps(path):
    for case, meta in zip(*load(path), strict=True):
        options = {key: meta[key] for key in ("shrink_ratio", "thresh_min", "thresh_max", "min_text_size")}
        for ending, border_first in {"": True, "_dborder": False}.items():
            labels = make_label_maps(meta["polys"], (meta["h"], meta["w"]), meta["ignore"], **options,
                                     border_first=border_first, upstream_rounding=True)
            for name, got in zip(MAPS, labels[:4], strict=True):
                wanted = case.get(f"{name}{ending}_cv4" if OPENCV_4 and not ending else f"{name}{ending}")
                if wanted is not None:
                    assert_close(got, wanted, atol=TOLERANCE, what=f"{meta['name']} {name}{ending}")
            if not ending:
                np.testing.assert_array_equal(labels.ignored, case["ignore_out"])


@pytest.mark.parametrize("path", golden_files("db", "db_loss_*.npz"))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_loss(path, dtype):
    for case, meta in zip(*load(path), strict=True):
        labels = LabelMaps(*(torch.from_numpy(case[name]) for name in MAPS), torch.zeros(0, dtype=torch.bool))
        maps = torch.from_numpy(case["maps"]).to(dtype).requires_grad_()
        if meta["error"] is not None:  # upstream fails: the library says why, or gives a number
            with contextlib.suppress(ValueError):
                assert torch.isfinite(DBLoss(**meta["cfg"])(maps, labels).loss), meta
            continue
        terms = DBLoss(**meta["cfg"])(maps, labels)
        for name, got in terms.log().items():
            assert_close(got, case[f"{name}_f64"], rtol=TOLERANCE, atol=TOLERANCE,
                                       what=f"{meta} {name}")
        (gradient,) = torch.autograd.grad(terms.loss, maps)
        assert_close(gradient, case["grad"], rtol=1e-5, atol=TOLERANCE, what=meta)


@pytest.mark.parametrize("path", golden_files("db", "det_onnx_*.npz"))
def test_boxes_of_the_real_detector(path):
    """Post-processing with PP-OCRv3's options finds its boxes in its probability map, which is stored in float16."""
    with np.load(path) as case:
        probability, wanted = case["prob"][0, 0].astype(np.float32), case["boxes"].astype(np.float32)
    found = find_boxes(probability, unclip_ratio=1.6, dilate=True)
    assert len(found) == len(wanted)
    for box in wanted:
        distances = [float(np.abs(detection.quad.numpy() - box).max()) for detection in found]
        assert min(distances) <= 1.5, f"{box.tolist()}: the nearest box is off by {min(distances)} pixels"
