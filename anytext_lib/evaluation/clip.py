"""CLIPScore: does the picture show what its caption says?  Hessel et al. 2021.

    CLIPScore = w * max(cos(E_image, E_caption), 0),   w = 2.5 in the paper and in AnyText2's tables

torchmetrics has w = 100.  The embeddings are computed here, because its metric does not take a local folder, gives no
number for a single picture and expects tensors where transformers 5 returns outputs; a test shows that both agree.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytext_lib.evaluation.weights import MetricWeightsError

WEIGHT = 2.5
REPOSITORY = "openai/clip-vit-base-patch32"  # ViT-B/32, as in the paper


class CLIPScorer:
    """Cosines of pictures and captions.

    Args:
        model: a ``transformers.CLIPModel``. ``tokenizer``, ``image_processor``: that belong to it.
    """

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any):
        self.model = model.requires_grad_(False).eval()
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.longest = model.config.text_config.max_position_embeddings

    @classmethod
    def from_folder(cls, folder: str | os.PathLike | None) -> CLIPScorer:
        """From a local folder of transformers' files; nothing is downloaded.

        Raises:
            MetricWeightsError: there is no such folder, or it is incomplete.
        """
        remedy = (f"Fetch it once:\n    hf download {REPOSITORY} --local-dir clip-vit-base-patch32\n"
                  "and name the folder by --weights")
        if folder is None or not (Path(folder) / "config.json").is_file():
            looked = "none was named" if folder is None else f"{folder} is no such folder (it has no config.json)"
            raise MetricWeightsError(f"CLIPScore needs a folder with CLIP, and {looked}. {remedy}")
        from transformers import AutoTokenizer, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        try:
            model = CLIPModel.from_pretrained(folder, local_files_only=True)
            if bad := [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]:
                raise ValueError(f"the tensor {bad[0]} holds NaN or infinite numbers")
            return cls(model, AutoTokenizer.from_pretrained(folder, local_files_only=True),
                       CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True))
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise MetricWeightsError(f"{folder} is not a complete CLIP ({reason}). {remedy}") from error

    @torch.no_grad()
    def cosines(self, pixels: Sequence[np.ndarray], captions: Sequence[str]) -> torch.Tensor:
        """(N,) cosines of pictures (H, W, 3) uint8, RGB, with captions; longer captions are cut to CLIP's 77 tokens."""
        device = next(self.model.parameters()).device
        images = self.image_processor(images=list(pixels), return_tensors="pt", input_data_format="channels_last")
        tokens = self.tokenizer(list(captions), return_tensors="pt", padding=True, truncation=True,
                                max_length=self.longest)
        a = _tensor(self.model.get_image_features(pixel_values=images["pixel_values"].to(device)))
        b = _tensor(self.model.get_text_features(input_ids=tokens["input_ids"].to(device),
                                                 attention_mask=tokens["attention_mask"].to(device)))
        return torch.nn.functional.cosine_similarity(a.float(), b.float()).cpu()


def clip_score(cosine: float) -> float:
    """CLIPScore of one cosine."""
    return WEIGHT * max(cosine, 0.0)


def _tensor(found: Any) -> torch.Tensor:
    """Embeddings (N, D), whether transformers returns them or an output that holds them."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output
