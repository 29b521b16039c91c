"""Features of the true lines, kept between epochs: the recogniser reads the same picture only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch

from anytext_lib.data.lines import TextLines

MIB = 2**20


class ReferenceCache:
    """Features of lines by picture and place, the least recently used ones forgotten beyond a size.

    A line is found again only where it has the same picture, the same box and the same text; position masks that are
    jittered anew in every epoch, or rendered scenes without end, therefore make the cache useless, never wrong.

    Args:
        mib: size in MiB; one line takes 10 KiB (40 x 64 float32).
    """

    def __init__(self, mib: float):
        self.limit = int(mib * MIB)
        self.kept: OrderedDict[tuple, torch.Tensor] = OrderedDict()
        self.bytes = self.hits = self.misses = 0

    def features(self, objective, images: torch.Tensor, lines: TextLines, pictures: Sequence[int]) -> torch.Tensor:
        """Features (L, T, D) of the true lines, on the device of ``images``.

        Args:
            objective: has ``reference_features(images, lines)``.
            images: (B, 3, H, W) in [-1, 1]. ``lines``: readable lines.
            pictures: B numbers that tell the pictures of the data set apart; negative ones are never kept.
        """
        keys = [self._key(lines, i, pictures) for i in range(len(lines))]
        missing = [i for i, key in enumerate(keys) if key not in self.kept]
        found = {key: self.kept[key] for key in keys if key in self.kept}
        if missing:
            fresh = objective.reference_features(images, lines.select(missing)).cpu()
            found.update(zip([keys[i] for i in missing], fresh, strict=True))
        self.hits, self.misses = self.hits + len(keys) - len(missing), self.misses + len(missing)
        for key in keys:
            self._keep(key, found[key])
        return torch.stack([found[key] for key in keys]).to(images.device)

    @staticmethod
    def _key(lines: TextLines, i: int, pictures: Sequence[int]) -> tuple:
        picture = int(pictures[int(lines.image_index[i])])
        unique = -1 - i if picture < 0 else picture
        return unique, lines.texts[i], lines.quads[i].numpy().tobytes()

    def _keep(self, key: tuple, value: torch.Tensor) -> None:
        if key[0] < 0:
            return
        if key not in self.kept:
            self.kept[key] = value.clone()
            self.bytes += value.nbytes
        self.kept.move_to_end(key)
        while self.bytes > self.limit:
            self.bytes -= self.kept.popitem(last=False)[1].nbytes
