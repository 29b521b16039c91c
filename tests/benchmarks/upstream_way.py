"""The reading terms as upstream computes them: the yardstick of the benchmark, written to be slow in the same places.

For each line the whole image is warped and then cut, for the decoded and for the true image; crops are read in
chunks of six; both branches run under gradient; batch norms are separate layers and activations are written out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from anytext_lib.data import TextLines
from anytext_lib.losses import ctc_loss, ocr_loss
from anytext_lib.ocr import PPOCRv3Recognizer
from anytext_lib.ocr.crops import _fit, _upright, crop_size, similarity
from anytext_lib.ocr.network import PPOCRv3Network
from tests.unit.plain_recogniser import plain_network

CHUNK = 6


def warp_whole_image(image: torch.Tensor, quad: torch.Tensor) -> torch.Tensor:
    """Warp (3, H, W) in 0..255 so that the quad stands upright at the origin, then keep its box."""
    _, height, width = image.shape
    matrix = torch.cat([similarity(quad), torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])
    to_unit = torch.tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]], dtype=torch.float64)
    theta = torch.linalg.inv(to_unit @ matrix @ torch.linalg.inv(to_unit))[:2].float()
    grid = F.affine_grid(theta[None].to(image.device), (1, 3, height, width), align_corners=True)
    warped = F.grid_sample(image[None], grid, align_corners=True)[0].clamp(0, 255)
    h, w = crop_size(quad, (height, width))
    return warped[:, :h, :w]


def read_in_chunks(network: PPOCRv3Network, crops: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and logits of crops in 0..255, six at a time."""
    features, logits = [], []
    for start in range(0, len(crops), CHUNK):
        chunk = torch.stack([_fit(_upright(crop) / 127.5 - 1, 48, 320) for crop in crops[start : start + CHUNK]])
        features.append(network.features(chunk))
        logits.append(network.head["fc"](features[-1]))
    return torch.cat(features), torch.cat(logits)


def reading_terms(network: PPOCRv3Network, charset, decoded: torch.Tensor, images: torch.Tensor,
                  lines: TextLines) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean OCR and mean CTC loss of the lines, images (B, 3, H, W) in [-1, 1]."""
    where = list(zip(lines.image_index.tolist(), lines.quads, strict=True))
    seen = [warp_whole_image((decoded * 127.5 + 127.5)[b], quad) for b, quad in where]
    true = [warp_whole_image((images * 127.5 + 127.5)[b], quad) for b, quad in where]
    features, logits = read_in_chunks(network, seen)
    reference, _ = read_in_chunks(network, true)
    return ocr_loss(features, reference).mean(), ctc_loss(logits, [charset.encode(t) for t in lines.texts]).mean()


class UpstreamWay:
    """Callable like ``LibraryWay``: forward and backward from the decoded image to its gradient."""

    def __init__(self, device: str = "cpu"):
        # its parameters require gradients: only so is the true image's branch under one
        self.network = plain_network().to(device)
        self.charset = PPOCRv3Recognizer.from_pretrained().charset

    def __call__(self, decoded, images, lines):
        decoded = decoded.detach().requires_grad_(True)
        ocr, ctc = reading_terms(self.network, self.charset, decoded, images, lines)
        (ocr + ctc).backward()
        return ocr.item(), ctc.item(), decoded.grad
