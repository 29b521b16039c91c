"""What AnyText2's reading losses see of a photograph, and where their gradient falls.

A diffusion model's one-step estimate is a soft version of the picture, softer the noisier the step.  Here the
photograph stands for the true picture, and the photograph with soft lines for the estimate: every line is blurred in
proportion to its own height, as much as ``blur`` pixels of a crop 48 pixels high.

    ocr  mean squared difference of PP-OCRv3's features of the soft line and of the true one
    ctc  -log of the probability that PP-OCRv3 reads the text on the soft line, over the number of frames

Both are the functions of ``anytext_lib.losses``, on the crops of ``anytext_lib.ocr``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from anytext_lib.data.batch import to_tensor
from anytext_lib.data.lines import polygon_mask, quad_size
from anytext_lib.data.texts import normal_text
from anytext_lib.errors import OptionError
from anytext_lib.losses.terms import ctc_loss, ocr_loss, too_long
from anytext_lib.ocr.crops import crop_lines, crop_widths
from anytext_lib.ocr.recogniser import PPOCRv3Recognizer, Reading
from anytext_lib.ocr.spotting import SpottedLine, quads_as_lines

CROP_HEIGHT = 48
MARGIN = 0.15  # of a line's height, by which the soft region reaches beyond its box


@dataclass(frozen=True)
class ExplainedLine:
    """One line of a photograph.

    Attributes:
        spotted: where it stands, and what the judge read. ``wanted``: the text that the CTC loss asks for.
        unknown: characters of it that PP-OCRv3 does not know; ``fits``: whether it fits into the frames.
        reading, soft_reading: of PP-OCRv3, on the true and on the soft line.
        ocr, ctc: values of the losses on the soft line.
        crop, soft: (3, 48, w) in [-1, 1], without the padding. ``ocr_pull``, ``ctc_pull``: (48, w), strength of the
            gradient at each pixel of the crop, summed over the colours.
    """

    spotted: SpottedLine
    wanted: str
    unknown: list[str]
    fits: bool
    reading: Reading
    soft_reading: Reading
    ocr: float
    ctc: float
    crop: torch.Tensor
    soft: torch.Tensor
    ocr_pull: torch.Tensor
    ctc_pull: torch.Tensor


@dataclass(frozen=True)
class Explanation:
    """A photograph explained.

    Attributes:
        photo: (H, W, 3) uint8. ``soft``: the same with soft lines. ``lines``: what was found on it.
        ocr_pull, ctc_pull: (H, W), strength of each loss's gradient at the pixels of ``soft``, summed over lines and
            colours.
    """

    photo: np.ndarray
    soft: np.ndarray
    lines: list[ExplainedLine]
    ocr_pull: np.ndarray
    ctc_pull: np.ndarray


def explain(photo: np.ndarray, spotted: Sequence[SpottedLine], recogniser: PPOCRv3Recognizer,
            texts: Sequence[str] = (), blur: float = 4.0) -> Explanation:
    """Compute both losses of all lines, and their gradients.

    Args:
        photo: (H, W, 3) uint8. ``spotted``: its lines, at least one.
        texts: what the first lines say, in their order; the others are taken to say what the judge read.
        blur: standard deviation in pixels of a crop 48 pixels high.

    Raises:
        OptionError: more texts than lines, or a blur below 0.
    """
    if len(texts) > len(spotted):
        raise OptionError(f"{len(texts)} texts were given, and {len(spotted)} lines were found: leave some out, or "
                          "show the lines more clearly")
    if blur < 0:
        raise OptionError(f"the blur is at least 0 pixels, got {blur}")
    wanted = [normal_text(text) for text in texts] + [line.text for line in spotted[len(texts):]]
    quads = quads_as_lines([line.quad for line in spotted], wanted)
    soft_photo = softened(photo, spotted, blur)
    true, soft = to_tensor(photo), to_tensor(soft_photo).requires_grad_()
    true_crops, crops = crop_lines(true, quads), crop_lines(soft, quads)
    out, reference = recogniser(crops), recogniser.features(true_crops)
    ids = [recogniser.charset.encode(text) for text in wanted]
    values = {"ocr": ocr_loss(out.features, reference), "ctc": ctc_loss(out.logits, ids)}
    pulls = {name: torch.autograd.grad(value.sum(), (soft, crops), retain_graph=True) for name, value in values.items()}
    values = {name: value.detach() for name, value in values.items()}
    long, readings = set(too_long(ids)), recogniser.read_scored(true_crops)
    soft_readings = recogniser.charset.read_probabilities(out.logits.detach().softmax(dim=-1).numpy())
    widths = crop_widths(quads, photo.shape[:2])
    lines = [ExplainedLine(
        line, wanted[i], recogniser.charset.unknown(wanted[i]), i not in long, readings[i], soft_readings[i],
        float(values["ocr"][i]), float(values["ctc"][i]), true_crops[i, ..., :w], crops.detach()[i, ..., :w],
        *(pulls[name][1][i, ..., :w].abs().sum(dim=0) for name in ("ocr", "ctc")))
        for i, (line, w) in enumerate(zip(spotted, widths, strict=True))]
    return Explanation(photo, soft_photo, lines,
                       *(pulls[name][0][0].abs().sum(dim=0).numpy() for name in ("ocr", "ctc")))


def softened(photo: np.ndarray, spotted: Sequence[SpottedLine], blur: float) -> np.ndarray:
    """The photograph with each line blurred in proportion to its height."""
    import cv2

    found = photo.copy()
    for line in spotted:
        width, height = quad_size(line.quad)
        sigma = blur * min(width, height) / CROP_HEIGHT
        if sigma <= 0:
            continue
        centre = line.quad.mean(dim=0)
        grown = (line.quad - centre) * (1 + 2 * MARGIN * min(width, height) / torch.tensor([width, height])) + centre
        inside = polygon_mask(grown.numpy(), photo.shape[:2]) > 0
        found[inside] = cv2.GaussianBlur(photo, (0, 0), sigma)[inside]
    return found


