"""Where the parts of a model are: all on one device, or each there only while it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

PARTS = ("vae", "unet", "writenet", "text_embedding", "text_encoder", "recognizer")


class Placement:
    """Moves the parts of an AnyText2Model.

    Attributes:
        offload: the device that parts are moved to while they compute; None leaves them where they are.
    """

    def __init__(self, model):
        self.model, self.offload = model, None

    @property
    def device(self) -> torch.device:
        """Where is computed."""
        return self.model.device if self.offload is None else self.offload

    def move(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        """Move or convert all parts; the recogniser stays float32, because half precision spoils its features."""
        self.offload = None if device is not None else self.offload
        for name in PARTS:
            _to(getattr(self.model, name), device, torch.float32 if name == "recognizer" and dtype else dtype)

    def start_offload(self, device: torch.device | str) -> None:
        """Keep all parts on the CPU, and move them to ``device`` for their computation only."""
        self.move("cpu")
        self.offload = torch.device(device)

    @contextmanager
    def using(self, *names: str) -> Iterator[None]:
        """The parts ``names`` are on the device within the block."""
        if self.offload is None:
            yield
            return
        parts = [getattr(self.model, name) for name in names]
        try:
            for part in parts:
                _to(part, self.offload)
            yield
        finally:
            for part in parts:
                _to(part, "cpu")


def _to(part: nn.Module, device=None, dtype=None) -> None:
    nn.Module.to(part, device=device, dtype=dtype)  # diffusers' own warns whenever it is told a dtype
