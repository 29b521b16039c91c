"""The trained small detector: finds texts in an image, is saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from anytext_lib.db.network import DBNet
from anytext_lib.db.postprocess import find_boxes
from anytext_lib.errors import AnyTextError
from anytext_lib.files import atomic_path
from anytext_lib.ocr.detector import Detection, as_uint8, reading_order

MIN_SCORE = 0.5


class DetectorFileError(AnyTextError, ValueError):
    """A file holds no small DB detector, or a damaged one; the message names it and says what to do."""


class DBDetector:
    """Finds lines of text, with the interface of ``anytext_lib.ocr.TextDetector``.

    Args:
        network: trained; it is put into eval mode.
        unclip_ratio: the original's 1.5 goes with its threshold of 0.3, where the kernels are fatter than their
            labels; None undoes the shrinking exactly, of kernels as they are labelled.
    """

    def __init__(self, network: DBNet, threshold: float = 0.3, min_score: float = MIN_SCORE,
                 unclip_ratio: float | None = 1.5):
        self.network = network.eval()
        self.threshold, self.min_score, self.unclip_ratio = threshold, min_score, unclip_ratio

    def probability(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Probability of a kernel at every pixel, (B, 1, H, W) float32 in [0, 1]; images as in ``detect``."""
        pixels = torch.from_numpy(np.stack(as_uint8(images))).permute(0, 3, 1, 2).float() / 127.5 - 1
        weight = next(self.network.parameters())
        return self.network.probability(pixels.to(weight)).cpu()

    def detect(self, image: np.ndarray | torch.Tensor) -> list[Detection]:
        """The lines of one image, (H, W, 3) uint8 RGB or (3, H, W) in [-1, 1], in reading order."""
        maps = self.probability(image)
        if len(maps) != 1:
            raise ValueError(f"detect takes one image at a time, got a batch of {len(maps)}: call it for each")
        found = find_boxes(maps[0, 0], threshold=self.threshold, min_score=self.min_score,
                           unclip_ratio=self.unclip_ratio)
        return [found[i] for i in reading_order([detection.quad for detection in found])]


def save_network(network: DBNet, path: str | Path) -> None:
    """Weights and sizes in one safetensors file."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, temporary,
                  metadata={"dbnet": json.dumps(network.options)})


def load_network(path: str | Path) -> DBNet:
    """A network that ``save_network`` wrote, in eval mode.

    Raises:
        DetectorFileError: no such file, another file, a damaged one, or weights that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    remedy = "write one by `anytext db train`"
    try:
        with safe_open(path, "pt") as file:
            options = (file.metadata() or {}).get("dbnet")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise DetectorFileError(f"there is no file {path}: {remedy}") from error
    except (SafetensorError, OSError) as error:
        raise DetectorFileError(f"{path} is no safetensors file, or a damaged one ({error}): {remedy}") from error
    if options is None:
        raise DetectorFileError(f"{path} holds no small DB detector: {remedy}")
    if odd := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise DetectorFileError(f"{path}: the tensor {odd[0]} holds NaN or infinite numbers ({len(odd)} such tensors): "
                                f"training diverged, or the file is damaged; {remedy}")
    try:
        network = DBNet(**json.loads(options))
        network.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DetectorFileError(f"{path} is of another version of the small DB detector: {remedy}") from error
    return network.eval()
