"""The reading terms as the library computes them, with the true image read or its features cached."""

from __future__ import annotations

import torch

from anytext_lib.losses import fast_ctc_loss, ocr_loss
from anytext_lib.ocr import PPOCRv3Recognizer, crop_lines, crop_widths


class LibraryWay:
    """Forward and backward from the decoded image to its gradient: (ocr, ctc, gradient)."""

    def __init__(self, device: str = "cpu", cached: bool = False, ctc=fast_ctc_loss):
        self.recognizer = PPOCRv3Recognizer.from_pretrained().to(device)
        self.cached, self.reference, self.ctc = cached, None, ctc

    @torch.no_grad()
    def read_reference(self, images, lines):
        """Features (L, 40, 64) of the true lines; kept if they are to be cached."""
        reference = self.recognizer.features(crop_lines(images, lines), crop_widths(lines, images.shape[2:]))
        self.reference = reference if self.cached else None
        return reference

    def __call__(self, decoded, images, lines):
        decoded = decoded.detach().requires_grad_(True)
        reference = self.read_reference(images, lines) if self.reference is None else self.reference
        seen = self.recognizer(crop_lines(decoded, lines), crop_widths(lines, decoded.shape[2:]))
        ocr = ocr_loss(seen.features, reference).mean()
        ctc = self.ctc(seen.logits, [self.recognizer.charset.encode(text) for text in lines.texts]).mean()
        (ocr + ctc).backward()
        return ocr.item(), ctc.item(), decoded.grad
