"""UDiffText as one module: an inpainting UNet whose cross-attention looks at the characters of a word.

The UNet sees the noisy latents, the mask of the text and the latents of the picture with the text's place painted over:
4 + 1 + 4 channels, as Stable Diffusion 2's inpainting model does, or C + 1 + C of an auto-encoder of its own.  It
predicts eps, or what its ``scheduler`` says as ``prediction_type``; ``forward`` gives eps in any case.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.data.fonts import pil_font
from anytext_lib.data.lines import TextLines, polygon_mask
from anytext_lib.diffusion import VariancePreserving, implied_noise, scaled_linear_abar
from anytext_lib.errors import AnyTextError, MissingFileError, OptionError
from anytext_lib.files import atomic_path, find_sample
from anytext_lib.models.config import building
from anytext_lib.models.sharding import is_sharded, whole
from anytext_lib.models.storage import StorageError, load_part
from anytext_lib.udifftext.label_encoder import LabelEncoder, LabelEncoderConfig

# sizes

SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _vae(channels: list[int], groups: int, scaling_factor: float, layers: int = 1, attention: bool = False) -> dict:
    return {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": channels,
            "down_block_types": ["DownEncoderBlock2D"] * len(channels),
            "up_block_types": ["UpDecoderBlock2D"] * len(channels), "layers_per_block": layers,
            "norm_num_groups": groups, "scaling_factor": scaling_factor, "mid_block_add_attention": attention}


def _unet(channels: list[int], attention_levels: tuple[int, ...], heads: int | list[int], context: int, groups: int,
          layers: int = 1, **more) -> dict:
    plain = [level not in attention_levels for level in range(len(channels))]
    return {"in_channels": 9, "out_channels": 4, "block_out_channels": channels, "layers_per_block": layers,
            "down_block_types": ["DownBlock2D" if p else "CrossAttnDownBlock2D" for p in plain],
            "up_block_types": ["UpBlock2D" if p else "CrossAttnUpBlock2D" for p in reversed(plain)],
            "attention_head_dim": heads, "cross_attention_dim": context, "norm_num_groups": groups, **more}


SIZES: dict[str, dict] = {
    "tiny": {
        "unet": _unet([16, 32], (0, 1), 2, 32, 8), "vae": _vae([8, 8, 16], 4, 1.0),
        "label_encoder": {"width": 32, "layers": 1, "heads": 2, "feedforward": 32, "dropout": 0.1},
        "scheduler": SCHEDULE,
    },
    "mini": {
        "unet": _unet([64, 64, 96], (1, 2), 4, 128, 16), "vae": _vae([16, 32, 64], 1, 1.0),
        "label_encoder": {"width": 128, "layers": 3, "heads": 4, "feedforward": 256, "dropout": 0.0},
        "scheduler": SCHEDULE,
    },
    "sd2": {
        "unet": _unet([320, 640, 1280, 1280], (0, 1, 2), [5, 10, 20, 20], 2048, 32, layers=2,
                      use_linear_projection=True),
        "vae": _vae([128, 256, 512, 512], 32, 0.18215, layers=2, attention=True),
        "label_encoder": {}, "scheduler": SCHEDULE, "masked_fill": "grey", "image_size": [512, 512],
    },
}
"""Arguments of diffusers' UNet2DConditionModel and AutoencoderKL, and of LabelEncoderConfig; ``masked_fill``, one of
``FILLS``, black if there is none; ``image_size`` (H, W), what pictures are resized to before words are written;
``scheduler.prediction_type``, epsilon if there is none."""


# regions of characters

FONT = "OpenSans"


class ManyWordsError(AnyTextError, ValueError):
    """An image has more than one word."""


def labels_of(lines: TextLines, batch_size: int) -> list[str]:
    """The word of each image, "" where there is none.

    Raises:
        ManyWordsError: UDiffText writes one word at a time.
    """
    labels = [""] * batch_size
    for image, text in zip(lines.image_index.tolist(), lines.texts, strict=True):
        if labels[image]:
            raise ManyWordsError(f"image {image} has the words {labels[image]!r} and {text!r}, UDiffText writes one: "
                                 "set max_lines to 1")
        labels[image] = text
    return labels


def divisions(text: str) -> list[float]:
    """Where the characters of a word begin and end, len(text) + 1 shares of its width, from 0 to 1."""
    widths = [max(pil_font(FONT, 100).getlength(character), 1.0) for character in text]
    return [edge / sum(widths) for edge in accumulate(widths, initial=0.0)]


def character_quads(quad: torch.Tensor, text: str) -> torch.Tensor:
    """Boxes (n, 4, 2) of the n characters of a word with the box ``quad`` (4, 2): tl, tr, br, bl."""
    edges = torch.tensor(divisions(text), dtype=quad.dtype)[:, None]
    tl, tr, br, bl = quad
    top, bottom = tl + edges * (tr - tl), bl + edges * (br - bl)  # (n + 1, 2)
    return torch.stack([top[:-1], top[1:], bottom[1:], bottom[:-1]], dim=1)


def character_segments(lines: TextLines, batch_size: int, size: tuple[int, int],
                       max_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions (B, max_length, H, W) in {0, 1} of the characters, and (B, max_length) which there are; on the CPU.

    Args:
        lines: one word an image at most, of at most ``max_length`` characters. ``size``: (H, W) in pixels.
    """
    labels_of(lines, batch_size)
    segments, valid = torch.zeros(batch_size, max_length, *size), torch.zeros(batch_size, max_length)
    for image, quad, text in zip(lines.image_index.tolist(), lines.quads, lines.texts, strict=True):
        for j, box in enumerate(character_quads(quad, text)[:max_length]):
            segments[image, j] = torch.as_tensor(polygon_mask(box.numpy(), size) > 0)
            valid[image, j] = 1
    return segments, valid


# model

CONFIG, WEIGHTS, LABELS = "udifftext.json", "diffusion_pytorch_model.safetensors", "label_encoder.safetensors"
FORMAT = "anytext_lib.UDiffTextModel"
TEXT_ATTENTION, TEXT_NORM, INPUT = ".attn2.", ".norm2.", "conv_in."
FILLS = {"black": -1.0, "grey": 0.0}
"""What stands in the place of the text in the masked picture, by the name that a configuration has for it; upstream
multiplies the picture, in [-1, 1], with the mask, which is grey."""


@dataclass(frozen=True)
class WordConditions:
    """Conditions of the UNet, and the regions that its attention is compared with.

    Attributes:
        context: (B, J, D) of the labels. ``place``: (B, 1 + C, h, w), mask and masked latents.
        mask: (B, 1, H, W). ``segments``: (B, J, H, W). ``valid``: (B, J).
    """

    context: torch.Tensor
    place: torch.Tensor
    mask: torch.Tensor
    segments: torch.Tensor
    valid: torch.Tensor

    def without_labels(self, rows: torch.Tensor) -> WordConditions:
        """The rows (B,) bool without their labels: context of zeros, as upstream, and no character to look for."""
        keep = (~rows).to(self.context)
        return replace(self, context=self.context * keep[:, None, None], valid=self.valid * keep[:, None])


class UDiffTextModel(nn.Module):
    """Auto-encoder, UNet and frozen label encoder.

    Args:
        config: "tiny", "mini", "sd2", or a dictionary like those of ``SIZES``.
        label_encoder: a pre-trained one; None makes one of the configured size with random weights.

    Raises:
        ValueError: unknown name, a label encoder of another width than the UNet's context, an unknown fill, or an
            unknown prediction type.
    """

    def __init__(self, config: str | Mapping = "mini", label_encoder: LabelEncoder | None = None):
        super().__init__()
        from diffusers import AutoencoderKL, UNet2DConditionModel

        if isinstance(config, str) and config not in SIZES:
            raise OptionError(f"there is no size {config!r}: choose one of {', '.join(SIZES)}")
        self.config = dict(SIZES[config] if isinstance(config, str) else config)
        self.vae = AutoencoderKL(**self.config["vae"])
        self.unet = UNet2DConditionModel(**self.config["unet"])
        self.label_encoder = label_encoder or LabelEncoder(LabelEncoderConfig(**self.config["label_encoder"]))
        self.config["label_encoder"] = asdict(self.label_encoder.config)
        width, wanted = self.label_encoder.config.width, self.unet.config.cross_attention_dim
        if width != wanted:
            raise OptionError(f"the label encoder's tokens are {width} wide, the UNet's context {wanted}: they must "
                             "agree")
        self.fill_masked(self.config.get("masked_fill", "black"))
        self.vae.requires_grad_(False).eval()
        self.label_encoder.freeze()
        schedule = dict(self.config["scheduler"])
        self.prediction_type = schedule.pop("prediction_type", "epsilon")
        self._abar = scaled_linear_abar(**schedule)
        VariancePreserving(self._abar, self.prediction_type)

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """abar_t of the noise schedule, (1000,) float32 on the model's device."""
        self._abar = self._abar.to(self.unet.device)
        return self._abar

    def train(self, mode: bool = True) -> UDiffTextModel:
        """As of any module; the auto-encoder and the label encoder stay in evaluation mode."""
        super().train(mode)
        self.vae.eval()
        return self

    def fill_masked(self, name: str) -> None:
        """Set what stands in the place of the text in the masked picture, one of ``FILLS``; saved with the model."""
        if name not in FILLS:
            raise OptionError(f"masked_fill is one of {', '.join(FILLS)}, got {name!r}")
        self.config["masked_fill"] = name

    @property
    def latent_factor(self) -> int:
        """Pixels of a side for each of the latents."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def grid(self) -> int:
        """Height and width of pictures are multiples of it: the UNet halves the latents as often as it has levels."""
        return self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def train_only_text_attention(self, everything: bool = False, norms: bool = False,
                                  input_layer: bool = False) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Freeze all but the text cross-attention of the UNet (75.9 M parameters of the official size).

        Args:
            everything: train the whole UNet instead, for a base model from scratch.
            norms: train the layer norms in front of that attention as well, as upstream (24,960 parameters).
            input_layer: train the first convolution as well, for a base that has never seen a mask.

        Returns:
            the trained parameters with their names, by group.
        """
        self.requires_grad_(False)
        trained = [(f"unet.{name}", p) for name, p in self.unet.named_parameters()
                   if everything or TEXT_ATTENTION in name
                   or norms and TEXT_NORM in name.partition(".transformer_blocks.")[2]
                   or input_layer and name.startswith(INPUT)]
        for _, parameter in trained:
            parameter.requires_grad_(True)
        return {"unet" if everything else "text_attention": trained}

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1]: the posterior's mean, scaled."""
        return self.vae.encode(images.to(self.vae.dtype)).latent_dist.mode() * self.vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W), about [-1, 1] but not clamped; differentiable."""
        return self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample

    @torch.no_grad()
    def conditions(self, batch: AnyTextBatch, labels: list[str] | None = None,
                   encode: Callable[[torch.Tensor], torch.Tensor] | None = None) -> WordConditions:
        """Build the UNet's conditions for a batch with one word an image.

        Args:
            labels: other words than the batch's, to be written in their places.
            encode: what makes latents of the masked pictures in the place of ``encode`` of the model.

        Raises:
            ManyWordsError, LabelEncoderError, UnknownCharacterError: the words are not of the kind.
        """
        images, length = batch.images, self.label_encoder.config.max_length
        lines = batch.lines
        if labels is not None:
            lines = replace(lines, texts=[labels[i] for i in lines.image_index.tolist()])
        context = self.label_encoder(labels_of(lines, len(batch)))
        segments, valid = character_segments(lines, len(batch), tuple(images.shape[-2:]), length)
        if batch.regions is not None and labels is None:  # drawn in the data set, not divided by a font's widths
            segments = torch.zeros_like(segments)
            segments[:, : batch.regions.shape[1]] = batch.regions[:, :length].cpu()
        mask = torch.zeros_like(images[:, :1]).index_add(
            0, lines.image_index.to(images.device, non_blocking=True), batch.positions).clamp(max=1)
        masked = (encode or self.encode)(torch.where(mask > 0, FILLS[self.config["masked_fill"]], images))
        place = torch.cat([F.interpolate(mask, masked.shape[-2:]).to(masked), masked], dim=1)
        segments, valid = (part.to(images.device, non_blocking=True) for part in (segments, valid))
        return WordConditions(context, place, mask, segments, valid)

    def forward(self, noisy_latents: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor,
                place: torch.Tensor) -> torch.Tensor:
        """eps (B, C, h, w) at noisy latents x_t (B, C, h, w) and timesteps (B,) in 0..999."""
        output = self.unet(torch.cat([noisy_latents, place], dim=1).to(self.unet.dtype), timesteps, context).sample
        if self.prediction_type == "epsilon":
            return output
        process = VariancePreserving(self.alphas_cumprod, self.prediction_type)
        estimate = process.predict_x0(output, noisy_latents, timesteps)
        return implied_noise(noisy_latents, estimate, process.signal_share(timesteps))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write configuration and weights into ``folder``; the configuration comes last.  Where processes share the
        weights out, all of them call this, and the first one writes."""
        from safetensors.torch import save_file

        tensors = {name: {key: whole(value.detach()).cpu().contiguous()
                          for key, value in getattr(self, name).state_dict().items()} for name in ("vae", "unet")}
        if is_sharded(self) and torch.distributed.get_rank() > 0:
            return
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        (root / CONFIG).unlink(missing_ok=True)
        for name in ("vae", "unet"):
            part = getattr(self, name)
            (root / name).mkdir(exist_ok=True)
            part.save_config(root / name)
            with atomic_path(root / name / WEIGHTS) as path:
                save_file(tensors[name], path, {"format": "pt"})
        self.label_encoder.save(root / LABELS)
        with atomic_path(root / CONFIG) as path:
            path.write_text(json.dumps(self.config | {"format": FORMAT}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> UDiffTextModel:
        """The model that ``save_pretrained`` wrote; StorageError if it is incomplete, damaged or another one."""
        root = Path(folder)
        if not (root / CONFIG).is_file():
            raise StorageError(f"no UDiffText model in {root}: the file {CONFIG} is missing (not a folder of "
                               "save_pretrained, or saving was interrupted)")
        try:
            config = json.loads((root / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read {root / CONFIG}: {error}. Copy the folder again") from error
        if not isinstance(config, dict) or config.pop("format", None) != FORMAT:
            raise StorageError(f"{root / CONFIG} is not of a UDiffText model")
        with building(root / CONFIG):
            model = cls(config, LabelEncoder.load(root / LABELS))
        for name in ("vae", "unet"):
            load_part(getattr(model, name), root / name / WEIGHTS)
        return model.eval()

    @classmethod
    def load(cls, source: str | UDiffTextModel) -> UDiffTextModel:
        """A model: given, from a folder, or of a size with random weights.

        Raises:
            FileNotFoundError: ``source`` looks like a path and is none.
        """
        if isinstance(source, cls):
            return source
        path = find_sample(source)
        if path.is_dir():
            return cls.from_pretrained(path)
        if source not in SIZES:
            raise MissingFileError(f"no model {source}: give a folder written by save_pretrained, or one of the "
                                    f"sizes {', '.join(SIZES)}")
        return cls(source)
