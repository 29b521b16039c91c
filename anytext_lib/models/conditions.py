"""What the networks are told about a batch, encoded once and used at every step of sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import torch


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
        """The same elsewhere; arguments as of ``torch.Tensor.to`` (a dtype leaves the mask as it is)."""
        return self._map(lambda value: value if value.dtype == torch.bool and _is_dtype(device_or_dtype)
                         else value.to(*device_or_dtype))

    def detach(self) -> Conditions:
        """The same without gradients."""
        return self._map(torch.Tensor.detach)

    def select(self, rows: slice | list[int] | torch.Tensor) -> Conditions:
        """Those of some images."""
        return self._map(lambda value: value[rows])

    def repeat(self, times: int) -> Conditions:
        """Each image ``times`` times in a row, to sample it more than once."""
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
