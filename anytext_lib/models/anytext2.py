"""The whole of AnyText2: auto-encoder, UNet, control branch, text embedding, caption encoder and recogniser; and
the conditions that its networks are given."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTokenizer

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.diffusion import scaled_linear_abar
from anytext_lib.models import storage
from anytext_lib.models.attnx import ControlResiduals, build_attnx_unet, set_attnx_scale
from anytext_lib.models.caption_encoder import CaptionEncoder, build_text_encoder, load_tokenizer
from anytext_lib.models.config import building, read_config, writenet_arguments
from anytext_lib.models.text_embedding import TextEmbedding, glyph_crops
from anytext_lib.models.writenet import WriteNet
from anytext_lib.ocr.network import PPOCRv3Network
from anytext_lib.ocr.recogniser import PPOCRv3Recognizer, reader_of


@dataclass(frozen=True)
class Conditions:
    """Encoded captions and hints of B images.

    Attributes:
        image_context: (B, N, D), the image captions, for the UNet. ``image_mask``: (B, N) bool, its tokens that count;
            None if all do. ``text_context``: (B, 77, D), the text captions with the lines' embeddings, for WriteNet.
        glyphs: (B, 1, gH, gW) in {0, 1}. ``positions``: (B, 1, H, W), sum of the masks of an image's lines.
        masked_latents: (B, 4, h, w), of the image without its lines (editing) or of a black one (generation).
    """

    image_context: torch.Tensor
    text_context: torch.Tensor
    glyphs: torch.Tensor
    positions: torch.Tensor
    masked_latents: torch.Tensor
    image_mask: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.text_context)

    def to(self, *device_or_dtype) -> Conditions:
        """Move or convert all tensors; arguments as of ``torch.Tensor.to`` (a dtype leaves the mask as it is)."""
        return self._map(lambda value: value if value.dtype == torch.bool and _is_dtype(device_or_dtype)
                         else value.to(*device_or_dtype))

    def detach(self) -> Conditions:
        """Detach all tensors."""
        return self._map(torch.Tensor.detach)

    def select(self, rows: slice | list[int] | torch.Tensor) -> Conditions:
        """Conditions of some of the images."""
        return self._map(lambda value: value[rows])

    def repeat(self, times: int) -> Conditions:
        """Repeat each image ``times`` times in a row, to sample it more than once."""
        return self._map(lambda value: value.repeat_interleave(times, dim=0))

    @classmethod
    def cat(cls, parts: Iterable[Conditions]) -> Conditions:
        """Join the images of several; shorter image captions are padded with tokens that do not count."""
        parts = list(parts)
        longest = max(part.image_context.shape[1] for part in parts)
        masks = [_mask(part, longest) for part in parts]
        contexts = [torch.nn.functional.pad(part.image_context, (0, 0, 0, longest - part.image_context.shape[1]))
                    for part in parts]
        rest = {name: torch.cat([getattr(part, name) for part in parts])
                for name in ("text_context", "glyphs", "positions", "masked_latents")}
        mask = torch.cat(masks)
        return cls(torch.cat(contexts), image_mask=None if mask.all() else mask, **rest)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Conditions:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Conditions(**{name: None if value is None else function(value) for name, value in values.items()})


def _is_dtype(arguments: tuple) -> bool:
    return any(isinstance(argument, torch.dtype) for argument in arguments)


def _mask(part: Conditions, length: int) -> torch.Tensor:
    own = part.image_mask
    if own is None:
        own = torch.ones(part.image_context.shape[:2], dtype=torch.bool, device=part.image_context.device)
    return torch.nn.functional.pad(own, (0, length - own.shape[1]))


class AnyText2Model(nn.Module):
    """Turns captions, glyphs and positions into an image; each part can be trained or frozen on its own.

    Attributes:
        vae: diffusers' AutoencoderKL. ``unet``: ``AttnXUNet``. ``writenet``: ``WriteNet``.
        text_embedding: ``TextEmbedding``. ``text_encoder``: transformers' CLIPTextModel.
        recognizer: the frozen PP-OCRv3 in the form in which upstream stores it; ``reader`` is what computes with it.
        tokenizer: CLIP's; loaded when first used. ``config``: see ``models.config.read_config``.
    """

    def __init__(self, config: Mapping, tokenizer: CLIPTokenizer | str | None = None):
        super().__init__()
        self.config = read_config(config)
        with building(config):
            self._build(tokenizer)

    def _build(self, tokenizer: CLIPTokenizer | str | None) -> None:
        self.vae = AutoencoderKL(**self.config["vae"])
        self.unet = build_attnx_unet(self.config["unet"])
        self.writenet = WriteNet(**writenet_arguments(self.config))
        self.text_embedding = TextEmbedding(**self.config["text_embedding"])
        self.text_encoder = build_text_encoder(self.config["text_encoder"])
        self.recognizer = PPOCRv3Network()
        for part in (self.vae, self.text_encoder, self.recognizer):
            part.requires_grad_(False).eval()
        self._captions: CaptionEncoder | None = None
        self._tokenizer = self.config["tokenizer"] if tokenizer is None else tokenizer
        schedule = {name: value for name, value in self.config["scheduler"].items() if name != "prediction_type"}
        self._abar = self._abar_here = scaled_linear_abar(**schedule)

    @classmethod
    def from_config(cls, config: str | os.PathLike | Mapping, tokenizer: CLIPTokenizer | str | None = None,
                    pretrained_recognizer: bool = True) -> AnyText2Model:
        """Build a model with random weights, WriteNet a copy of the UNet's encoder.

        Args:
            config: "mini", "sd15", "tiny", the path of a JSON file, or a dictionary.
            tokenizer: a tokenizer, its folder, or "bytes"; None takes what the configuration names.
            pretrained_recognizer: whether both recognisers start with PP-OCRv3's real weights (as they must, to be of
                use); never on the meta device.
        """
        model = cls(read_config(config), tokenizer)
        if model.unet.conv_in.weight.is_meta:
            return model
        model.writenet.copy_encoder(model.unet)
        if pretrained_recognizer:
            model.load_recognizers(PPOCRv3Network.from_pretrained())
        return model

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, device: torch.device | str = "cpu",
                        dtype: torch.dtype = torch.float32) -> AnyText2Model:
        """A model from a folder that ``save_pretrained`` wrote; StorageError if it is incomplete or damaged."""
        return storage.load(cls, folder, device, dtype)

    def save_pretrained(self, folder: str | os.PathLike, dtype: torch.dtype | None = None) -> None:
        """Write configuration, weights (safetensors) and tokenizer into ``folder``.

        Args:
            dtype: in which the weights are stored, torch.float16 for half the size; None keeps them exactly.
        """
        storage.save(self, folder, dtype)

    @classmethod
    def from_upstream(cls, path: str | os.PathLike, **options) -> AnyText2Model:
        """A model from one of upstream's checkpoints; see ``upstream.convert``."""
        from anytext_lib.upstream.convert import model_from_upstream

        return model_from_upstream(path, **options)

    def materialise(self, fill: Callable[[str], object] = lambda part: None, device: torch.device | str = "cpu",
                    dtype: torch.dtype = torch.float32) -> AnyText2Model:
        """Give a model that was built on the meta device its weights, and set evaluation mode.

        Args:
            fill: is called with the name of each part, to set all weights of that part, which lie uninitialised on
                the CPU; by default they stay so.
            device, dtype: where to move the parts then; the recogniser stays in float32.
        """
        self.to_empty(device="cpu")
        ids = torch.arange(self.text_encoder.config.max_position_embeddings)
        self.text_encoder.embeddings.position_ids = ids.expand(1, -1)  # the one tensor that no file holds
        for name, _ in list(self.named_children()):
            fill(name)
            wanted = torch.float32 if name == "recognizer" else dtype
            nn.Module.to(getattr(self, name), device=device, dtype=wanted)  # diffusers' own warns of any dtype
        return self.eval()

    def load_recognizers(self, source: nn.Module) -> None:
        """Give the frozen recogniser, and the style recogniser if there is one, the weights of ``source``."""
        self.recognizer.load_state_dict(source.state_dict())
        if hasattr(self.text_embedding, "style_recognizer"):
            self.text_embedding.style_recognizer.load_state_dict(source.state_dict())

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> AnyText2Model:
        """Move or convert all weights (``to``, ``half``, ...), but never round those of the frozen recogniser: in half
        precision it misreads short words."""
        def unrounded(weight: torch.Tensor) -> torch.Tensor:
            found = fn(weight)
            return weight.to(found.device) if found.dtype in (torch.float16, torch.bfloat16) else found

        for name, part in self.named_children():
            part._apply(unrounded if name == "recognizer" else fn)
        return self

    # properties

    @property
    def device(self) -> torch.device:
        """Device of the UNet; the other parts are expected there too."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the UNet's weights."""
        return self.unet.dtype

    @property
    def tokenizer(self) -> CLIPTokenizer:
        """CLIP's tokenizer; TokenizerError if its files are not there."""
        if not isinstance(self._tokenizer, CLIPTokenizer):
            self._tokenizer = load_tokenizer(self._tokenizer, self.text_encoder.config.vocab_size)
        return self._tokenizer

    @property
    def captions(self) -> CaptionEncoder:
        """Tokenizer and CLIP together."""
        if self._captions is None:
            self._captions = CaptionEncoder(self.text_encoder, self.tokenizer)
        return self._captions

    @property
    def reader(self) -> PPOCRv3Recognizer:
        """The frozen recogniser, folded for reading, for the text embedding and the losses; see ``reader_of``."""
        return reader_of(self.recognizer)

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """abar_t of the noise schedule, (1000,) float32 on the model's device."""
        if self._abar_here.device != self.device:
            self._abar_here = self._abar.to(self.device, non_blocking=True)
        return self._abar_here

    @property
    def prediction_type(self) -> str:
        """What the UNet predicts: "epsilon", "sample" or "v_prediction"."""
        return self.config["scheduler"].get("prediction_type", "epsilon")

    @property
    def latent_factor(self) -> int:
        """Pixels of the image for each latent, along an edge."""
        return self.writenet.config.latent_factor

    def set_attnx_scale(self, scale: float) -> None:
        """Weigh the extra attentions: 1 as trained, 0 without them."""
        set_attnx_scale(self.unet, scale)

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Whether UNet and WriteNet recompute activations in the backward pass to save memory."""
        for part in (self.unet, self.writenet):
            part.enable_gradient_checkpointing() if on else part.disable_gradient_checkpointing()

    # auto-encoder

    @torch.no_grad()
    def encode(self, images: torch.Tensor, sample: bool | None = None,
               generator: torch.Generator | None = None) -> torch.Tensor:
        """Latents, scaled to about unit variance, without gradient.

        Args:
            images: (B, 3, H, W) in [-1, 1]; H and W are multiples of ``latent_factor``.
            sample: True draws from the posterior, False takes its mean; None as configured (``sample_posterior``).
            generator: of the draw.
        """
        return self._drawn(self.vae.encode(images.to(self.vae.dtype)).latent_dist, sample, generator)

    def _drawn(self, posterior, sample: bool | None, generator: torch.Generator | None) -> torch.Tensor:
        drawn = self.config.get("sample_posterior", True) if sample is None else sample
        latents = posterior.sample(generator) if drawn else posterior.mode()
        return latents * self.vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W), about [-1, 1] but not clamped, of latents (B, 4, h, w); differentiable."""
        return self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample

    # conditions

    def glyph_features(self, glyph_lines: torch.Tensor) -> torch.Tensor:
        """The frozen recogniser's features (L, 40, 64) of lines written in one font, (L, 1, h, w) in [0, 1]."""
        with torch.no_grad():
            return self.reader.features(glyph_crops(glyph_lines.float()))

    def style_features(self, crops: torch.Tensor) -> torch.Tensor:
        """Features (L, 40, 64) of style crops (L, 3, 48, 320), see ``style_crops``, without gradient: those of the
        style recogniser if there is one, else those of the frozen recogniser."""
        with torch.no_grad():
            own = getattr(self.text_embedding, "style_recognizer", None)
            return self.reader.features(crops) if own is None else reader_of(own).features(crops)

    def line_embeddings(self, batch: AnyTextBatch, style_images: Sequence[torch.Tensor | None] | None = None,
                        glyph_features: torch.Tensor | None = None,
                        style_features: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings (L, D) of the batch's lines.

        Args:
            style_images: see ``text_embedding.style_crops``.
            glyph_features, style_features: what the methods of these names returned for the batch's glyph lines and
                style crops; None computes it here, with a gradient for a style recogniser that is trained.
        """
        reader = self.reader if self.text_embedding.needs_reader else None
        if not self.text_embedding.config.glyph:
            glyph_features = None
        elif glyph_features is None:
            glyph_features = self.glyph_features(batch.glyph_lines)
        return self.text_embedding(batch.lines, glyph_features, batch.positions, batch.font_hints, batch.colors,
                                   style_images, reader, style_features)

    def conditions(self, batch: AnyTextBatch, masked_latents: torch.Tensor | None = None,
                   style_images: Sequence[torch.Tensor | None] | None = None,
                   generator: torch.Generator | None = None,
                   glyph_features: torch.Tensor | None = None,
                   style_features: torch.Tensor | None = None) -> Conditions:
        """Encode captions and hints of a batch; differentiable in the text embedding's weights.

        Args:
            masked_latents: (B, 4, h, w) if they are known already; None encodes ``batch.masked_images``.
            style_images, glyph_features, style_features: see ``line_embeddings``.
            generator: of the posterior's draw.

        Raises:
            PlaceholderError: the ``*`` of a caption do not fit the lines.
        """
        embeddings = self.line_embeddings(batch, style_images, glyph_features, style_features)
        index = batch.lines.image_index
        image_context, image_mask = self.captions.encode_image_captions(batch.captions, embeddings, index)
        text_context = self.captions.encode_text_captions(batch.text_captions, embeddings, index)
        if masked_latents is None:
            masked_latents = self._masked_latents(batch, generator)
        positions = batch.positions.new_zeros(len(batch), *batch.positions.shape[1:])
        positions = positions.index_add(0, index.to(positions.device, non_blocking=True), batch.positions)
        return Conditions(image_context, text_context, batch.glyphs, positions, masked_latents, image_mask)

    def _masked_latents(self, batch: AnyTextBatch, generator: torch.Generator | None) -> torch.Tensor:
        """As ``encode(batch.masked_images)``, but the black image of generation samples is encoded only once."""
        editing = batch.editing.nonzero().flatten().tolist()
        if len(editing) >= len(batch) - 1:
            return self.encode(batch.masked_images, generator=generator)
        blank = next(row for row in range(len(batch)) if row not in editing)
        place = [1 + editing.index(row) if row in editing else 0 for row in range(len(batch))]
        rows, place = (torch.tensor(these).to(batch.masked_images.device, non_blocking=True)
                       for these in ([blank, *editing], place))
        with torch.no_grad():
            shown = self.vae.encode(batch.masked_images[rows].to(self.vae.dtype)).latent_dist
            return self._drawn(type(shown)(shown.parameters[place]), None, generator)

    # networks

    def control(self, conditions: Conditions, noisy_latents: torch.Tensor | None = None,
                timesteps: torch.Tensor | None = None) -> ControlResiduals:
        """WriteNet's output; with fast control once for an image, with slow control at every step."""
        return self.writenet(conditions.glyphs, conditions.positions, conditions.masked_latents,
                             conditions.text_context, noisy_latents, timesteps)

    def forward(self, noisy_latents: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions,
                control: ControlResiduals | None = None, control_scale: float = 1.0) -> torch.Tensor:
        """What the UNet predicts, (B, 4, h, w).

        Args:
            noisy_latents: (B, 4, h, w). ``timesteps``: (B,) in 0..999.
            control: what ``control`` returned; None computes it here. ``control_scale``: 0 leaves it out.
        """
        if control is None and control_scale != 0:
            control = self.control(conditions, noisy_latents, timesteps)
        added = ControlResiduals(None, None) if control_scale == 0 else control.scaled(control_scale)
        return self.unet(noisy_latents, timesteps, conditions.image_context, added.down, added.mid,
                         encoder_attention_mask=conditions.image_mask).sample
