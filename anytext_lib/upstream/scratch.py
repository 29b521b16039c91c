"""Make the model from which AnyText2's training starts: Stable Diffusion 1.5 and copies of its layers.

    WriteNet's encoder and middle block   copies of the UNet's
    attn1x, attn2x                        copies of attn1, attn2 of the same block
    both recognisers                      PP-OCRv3
    WriteNet's output and joining convolutions, the projections of the text embedding   zero
    glyph block, position block, position encoder                                       random

Source: AnyText2 ``tool_add_anytext.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from anytext_lib.models import storage
from anytext_lib.models.anytext2 import AnyText2Model
from anytext_lib.models.attnx import ENCODER, copy_attentions, is_extra
from anytext_lib.models.text_embedding import TextEmbedding
from anytext_lib.models.writenet import WriteNet
from anytext_lib.ocr.network import PPOCRv3Network
from anytext_lib.upstream.checkpoint import CheckpointError
from anytext_lib.upstream.convert import Source, atomic_folder, meta_model
from anytext_lib.upstream.keys import UnknownKeysError
from anytext_lib.upstream.stable_diffusion import BASE, Found, read_stable_diffusion

ZERO = re.compile(r"(controlnet_down_blocks|controlnet_mid_block|fuse_block|\w+_proj\.0)\.")
"""Layers of WriteNet and of the text embedding that start at zero."""


@dataclass
class ScratchReport:
    """(tensors, values) of each origin, in the order of the model."""

    origins: dict[str, tuple[int, int]]

    def __str__(self) -> str:
        rows = [f"  {origin:<52}{tensors:>6} tensors {values:>15,} values" for origin, (tensors, values) in
                self.origins.items()]
        return "\n".join(["where the weights come from; every copy was compared with its source:", *rows])


def init_from_sd15(path: Source, config: Source | Mapping = "sd15",
                   tokenizer: Source | None = None) -> tuple[AnyText2Model, ScratchReport]:
    """Build the scratch model, float32, in evaluation mode.

    Args:
        path: Stable Diffusion 1.5, as a folder in diffusers' layout or as one file (.ckpt, .safetensors); any dtype.
        config: the size, which has to be that of ``path``. ``tokenizer``: a folder; None takes the one in ``path``.

    Raises:
        CheckpointError: something is missing or damaged, or of another size, as Stable Diffusion 2 or an inpainting
        model; or a copy differs from its source. UnknownKeysError: tensors that Stable Diffusion 1.5 does not have.
    """
    root = Path(path)
    if tokenizer is None and (root / "tokenizer").is_dir():
        tokenizer = root / "tokenizer"
    model = meta_model(config, tokenizer).materialise()
    model.writenet = WriteNet.from_config(model.writenet.config)
    model.text_embedding = TextEmbedding.from_config(model.text_embedding.config)
    _fill_base(model, read_stable_diffusion(root, model), str(root))
    copy_attentions(model.unet)
    model.writenet.copy_encoder(model.unet)
    recognizer = PPOCRv3Network.from_pretrained()
    model.load_recognizers(recognizer)
    return model.eval(), check(model, recognizer)


def write(path: Source, target: Source, config: Source | Mapping = "sd15", tokenizer: Source | None = None,
          force: bool = False) -> ScratchReport:
    """Write the scratch model as a folder for ``AnyText2Model.from_pretrained``; arguments as ``init_from_sd15``."""
    with atomic_folder(Path(target), force) as folder:
        model, report = init_from_sd15(path, config, tokenizer)
        storage.save(model, folder)
    return report


def _fill_base(model: AnyText2Model, tensors: Iterable[Found], where: str) -> None:
    """Copy Stable Diffusion's tensors into the model. Errors as in ``init_from_sd15``."""
    wanted = {(part, name): value for part in BASE for name, value in getattr(model, part).state_dict().items()
              if not is_extra(name)}
    unknown = []
    with torch.no_grad():
        for part, ours, name, tensor in tensors:
            target = wanted.pop((part, ours), None)
            if target is None:
                unknown += [] if name.endswith("embeddings.position_ids") else [name]
            elif target.shape != tensor.shape:
                raise CheckpointError(f"{where} does not fit at {name}: it holds {tuple(tensor.shape)}, expected "
                                      f"{tuple(target.shape)}; it is another model than Stable Diffusion 1.5, or of "
                                      "another size than the configuration (--config)")
            else:
                storage.require_finite(where, name, tensor, CheckpointError)
                target.copy_(tensor)
    if unknown:
        raise UnknownKeysError(unknown, where)
    if wanted:
        missing = [".".join(place) for place in wanted]
        raise CheckpointError(f"{where} lacks {len(missing)} tensors of Stable Diffusion 1.5: {', '.join(missing[:5])}")


# checking the copies


def check(model: AnyText2Model, recognizer: nn.Module) -> ScratchReport:
    """Compare every copy with its source, and say where each tensor comes from.

    Raises:
        CheckpointError: a copy differs from its source, or something that starts at zero does not.
    """
    source, reading = model.unet.state_dict(), recognizer.state_dict()
    copies = {name: ("WriteNet: copies of the UNet's encoder", source[name.removeprefix("writenet.")])
              for name in _names(model, "writenet.") if name.split(".")[1] in ENCODER}
    for name in filter(is_extra, _names(model, "unet.")):
        own = name.replace(".attn1x.", ".attn1.").replace(".attn2x.", ".attn2.")
        copies[name] = "AttnX: copies of attn1 and attn2", source[own.removeprefix("unet.")]
    for prefix in ("text_embedding.style_recognizer.", "recognizer."):
        copies |= {name: ("both recognisers: PP-OCRv3", reading[name.removeprefix(prefix)])
                   for name in _names(model, prefix)}
    origins: dict[str, list[int]] = {}
    for name, value in model.state_dict().items():
        origin, expected = copies.get(name) or _start(name, value)
        if expected is not None and not torch.equal(value, expected):
            raise CheckpointError(f"{name} differs from what it should be ({origin})")
        origins.setdefault(origin, []).append(value.numel())
    return ScratchReport({origin: (len(values), sum(values)) for origin, values in origins.items()})


def _names(model: nn.Module, prefix: str) -> list[str]:
    return [name for name in model.state_dict() if name.startswith(prefix)]


def _start(name: str, value: torch.Tensor) -> tuple[str, torch.Tensor | None]:
    """Name the origin of a tensor that is not copied within the model, and its value if that is known."""
    part, _, rest = name.partition(".")
    if part in BASE:
        return "Stable Diffusion 1.5", None
    if ZERO.match(rest):
        return "output, joining and projection layers: zero", torch.zeros_like(value)
    return "hint blocks, position encoder, LayerNorms: fresh", None
