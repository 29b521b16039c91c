"""One token for each line of text, from its glyphs, position, style and colour.

    e = LayerNorm(W_g f(glyph line)) + p(position mask) + LayerNorm(W_s s(font hint)) + LayerNorm(W_c rgb)

f is the frozen recogniser's neck, s a second one that is trained, p a small convolutional network. The projections W
start at zero, so that every part starts as a constant.  The sum takes the place of the line's ``*`` in the caption.
Source: AnyText2 ``cldm/embedding_manager.py`` (``EmbeddingManager``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from anytext_lib.data.lines import TextLines
from anytext_lib.models.writenet import zeroed
from anytext_lib.ocr.crops import TALL, crop_lines
from anytext_lib.ocr.network import HEIGHT, PPOCRv3Network

FEATURES = 40 * 64  # of a line, in the recogniser's neck
PARTS = ("glyph", "position", "style", "color")
WIDTH = 320  # pixels of a crop; 8 for each frame


def line_crop(picture: torch.Tensor) -> torch.Tensor:
    """One line as a crop: upright, 48 pixels high, at most 320 wide, padded on the right with 0.

    Args:
        picture: (h, w) or (1 or 3, h, w) in [0, 1], floating point.

    Returns:
        (3, 48, 320) in [-1, 1].

    Raises:
        ValueError: another shape.
    """
    if picture.ndim == 2:
        picture = picture[None]
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or not picture.is_floating_point():
        raise ValueError("the picture of a line is (h, w), (1, h, w) or (3, h, w), floating point in [0, 1]; got "
                         f"{picture.dtype} {tuple(picture.shape)}")
    if picture.shape[1] > TALL * picture.shape[2]:
        picture = picture.transpose(1, 2).flip(1)
    return glyph_crops(picture[None])[0]


def glyph_crops(pictures: torch.Tensor) -> torch.Tensor:
    """Several lines of one size as crops, without turning tall ones: (L, 1 or 3, h, w) in [0, 1] -> (L, 3, 48, 320)."""
    height, width = pictures.shape[2:]
    new_width = min(WIDTH, math.ceil(HEIGHT * width / height))
    if len(pictures) == 0:
        return pictures.new_zeros(0, 3, HEIGHT, WIDTH)
    resized = F.interpolate(pictures, size=(HEIGHT, new_width), mode="bilinear", align_corners=True)
    return F.pad(2 * resized - 1, (0, WIDTH - new_width)).expand(-1, 3, -1, -1)


def style_crops(font_hints: torch.Tensor, lines: TextLines,
                style_images: Sequence[torch.Tensor | None] | None = None) -> torch.Tensor:
    """Crop the style image of each line: (L, 3, 48, 320) in [-1, 1].

    Args:
        font_hints: (B, 1, H, W) in [0, 1], ink of all lines of an image; 0 where there is no hint.
        lines: L lines. ``style_images``: L pictures as for ``line_crop``, or None for a line whose style is cropped
            from its font hint. A picture "mimics" a font that stands elsewhere.

    Raises:
        ValueError: another number of pictures than of lines.
    """
    if style_images is not None and len(style_images) != len(lines):
        raise ValueError(f"got {len(style_images)} style images for {len(lines)} lines: give one, or None, for each")
    crops = crop_lines((2 * font_hints.float() - 1).expand(-1, 3, -1, -1), lines)
    if style_images is None:
        return crops
    given = [None if image is None else line_crop(image.to(crops)) for image in style_images]
    rows = [crop if new is None else new for crop, new in zip(crops, given, strict=True)]
    return torch.stack(rows) if rows else crops


def has_ink(crops: torch.Tensor) -> torch.Tensor:
    """Find the crops (L, 3, 48, 320) with ink: (L,) bool. Padding is 0 and paper is -1."""
    ink = (crops > -0.999) & (crops != 0)  # resizing leaves rounding errors on paper
    return ink.flatten(1).any(dim=1)


class PositionEncoder(nn.Module):
    """Position masks (L, 1, H, W) -> (L, width): five convolutions and the mean over the image.

    Every value of ``channels`` after the first halves the size of the map.
    """

    def __init__(self, width: int, channels: Sequence[int] = (16, 32, 64, 128, 256)):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], 3, padding=1)
        self.conv_list = nn.ModuleList(nn.Conv2d(inside, outside, 3, padding=1, stride=2)
                                       for inside, outside in zip(channels, channels[1:], strict=False))
        self.conv2 = nn.Conv2d(channels[-1], width, 3, padding=1)

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.conv1(masks))
        for conv in self.conv_list:
            x = F.silu(conv(x))
        return F.silu(self.conv2(x)).mean(dim=(2, 3))


class TextEmbedding(ModelMixin, ConfigMixin):
    """Embeddings of lines of text, to be put in place of the ``*`` of their caption.

    Args:
        width: of the caption's tokens (768 for Stable Diffusion 1.5).
        glyph, position, style, color: which parts there are; at least one.
        position_channels: see ``PositionEncoder``.
        style_trainable: True has a recogniser of its own for styles (``style_recognizer``); False sees styles with
            the frozen recogniser that also reads the glyphs.
        style_batch_statistics: True normalises, in training mode, by the statistics of the crops at hand, with
            dropout, as upstream does (upstream in chunks of at most six crops, here over the whole batch); False keeps
            the style recogniser in evaluation mode, so that a line's embedding depends on nothing but this line.
        skip_missing: True leaves out style and colour of lines that have none (upstream's ``enable_flag``, off by
            default: then a missing hint is an empty crop, and a missing colour is 500).

    Raises:
        ValueError: no part at all.
    """

    @register_to_config
    def __init__(self, width: int = 768, glyph: bool = True, position: bool = True, style: bool = True,
                 color: bool = True, position_channels: Sequence[int] = (16, 32, 64, 128, 256),
                 style_trainable: bool = True, style_batch_statistics: bool = True, skip_missing: bool = False):
        super().__init__()
        if not (glyph or position or style or color):
            raise ValueError(f"a text embedding needs at least one part of {PARTS}")
        if glyph:
            self.glyph_proj = projection(FEATURES, width)
        if position:
            self.position_encoder = PositionEncoder(width, position_channels)
        if style:
            self.style_proj = projection(FEATURES, width)
        if style and style_trainable:
            self.style_recognizer = PPOCRv3Network()
        if color:
            self.color_proj = projection(3, width)

    @property
    def needs_reader(self) -> bool:
        """Whether a part takes features of the frozen recogniser."""
        return self.config.glyph or self.config.style and not self.config.style_trainable

    def train(self, mode: bool = True) -> TextEmbedding:
        """Set training mode; the style recogniser follows only with ``style_batch_statistics``."""
        super().train(mode)
        if hasattr(self, "style_recognizer") and not self.config.style_batch_statistics:
            self.style_recognizer.eval()
        return self

    def forward(self, lines: TextLines, glyph_features: torch.Tensor | None = None,
                positions: torch.Tensor | None = None, font_hints: torch.Tensor | None = None,
                colors: torch.Tensor | None = None, style_images: Sequence[torch.Tensor | None] | None = None,
                reader: nn.Module | None = None, style_features: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings (L, width) of L lines; arguments as in ``parts``."""
        parts = self.parts(lines, glyph_features, positions, font_hints, colors, style_images, reader, style_features)
        return sum(parts[name] for name in PARTS if name in parts)

    def parts(self, lines: TextLines, glyph_features: torch.Tensor | None = None,
              positions: torch.Tensor | None = None, font_hints: torch.Tensor | None = None,
              colors: torch.Tensor | None = None, style_images: Sequence[torch.Tensor | None] | None = None,
              reader: nn.Module | None = None, style_features: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Compute the summands by name, each (L, width). Inputs of parts that are switched off may be None.

        Args:
            lines: L lines; their boxes say where in the font hints their styles are.
            glyph_features: (L, 40, 64), the frozen recogniser's features of the glyph lines.
            positions: (L, 1, H, W) in {0, 1}. ``font_hints``: (B, 1, H, W) in {0, 1}.
            colors: (L, 3) in 0..255, or 500 where not known.
            style_images: see ``style_crops``. ``reader``: the frozen recogniser, with ``style_trainable`` off.
            style_features: (L, 40, 64), of the style crops, if they are known (their recogniser is frozen).

        Raises:
            ValueError: a missing argument or one of another number of lines.
        """
        found, own = {}, self.config
        if own.glyph:
            features = _given("glyph_features", glyph_features, lines, "glyph")
            found["glyph"] = self.glyph_proj(features.flatten(1).to(self.dtype))
        if own.position:
            found["position"] = self.position_encoder(_given("positions", positions, lines, "position").to(self.dtype))
        if own.style:
            found["style"] = self._style(lines, font_hints, style_images, reader, style_features)
        if own.color:
            found["color"] = self._color(_given("colors", colors, lines, "color"))
        return found

    def _style(self, lines, font_hints, style_images, reader, features) -> torch.Tensor:
        if font_hints is None:
            raise ValueError("the style part of the text embedding needs font_hints")
        crops = style_crops(font_hints, lines, style_images)
        if features is None:
            features = self._style_features(crops, reader)
        style = self.style_proj(features.flatten(1).to(self.dtype))
        return style * has_ink(crops)[:, None].to(style) if self.config.skip_missing else style

    def _style_features(self, crops: torch.Tensor, reader: nn.Module | None) -> torch.Tensor:
        if self.config.style_trainable:
            features = self.style_recognizer.features(crops.to(self.dtype))
            if len(crops) == 0:  # keep the weights in the graph: machines that train together wait for each gradient
                features = features + 0 * sum(weight.sum() for name, weight in self.style_recognizer.named_parameters()
                                              if not name.startswith("head"))
            return features
        if reader is None:
            raise ValueError("with style_trainable = false the style part needs the frozen recogniser: pass reader")
        return reader.features(crops)

    def _color(self, colors: torch.Tensor) -> torch.Tensor:
        found = self.color_proj(colors.to(self.dtype))
        mean = colors.float().mean(dim=1, keepdim=True)
        return found * ((mean >= 0) & (mean <= 255)).to(found) if self.config.skip_missing else found


def projection(inside: int, outside: int) -> nn.Sequential:
    """A linear layer that starts at zero, and a LayerNorm."""
    return nn.Sequential(zeroed(nn.Linear(inside, outside)), nn.LayerNorm(outside))


def _given(name: str, value: torch.Tensor | None, lines: TextLines, part: str) -> torch.Tensor:
    if value is None or len(value) != len(lines):
        found = "None" if value is None else f"{len(value)} rows"
        raise ValueError(f"the {part} part of the text embedding needs {name} for {len(lines)} lines, got {found}")
    return value
