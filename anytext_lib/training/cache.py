"""Results of frozen networks, kept between epochs: what cannot change is computed once for each picture or line."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b

import torch

from anytext_lib.data.lines import TextLines

MIB = 2**20


class TensorCache:
    """Tensors by key, the least recently used ones forgotten beyond a size; kept on the CPU.

    Args:
        mib: size in MiB.
    """

    def __init__(self, mib: float):
        self.limit = int(mib * MIB)
        self.kept: OrderedDict[Hashable, torch.Tensor] = OrderedDict()
        self.bytes = self.hits = self.misses = 0

    def rows(self, keys: Sequence[Hashable | None], compute: Callable[[list[int]], torch.Tensor],
             device: torch.device) -> torch.Tensor:
        """One row for each key, stacked on ``device``.

        Args:
            keys: what tells the rows apart; a row whose key is None is computed every time.
            compute: called once with the numbers of the rows that are missing, returns these rows; without gradient.
        """
        missing = [i for i, key in enumerate(keys) if key is None or key not in self.kept]
        found = {i: self.kept[key] for i, key in enumerate(keys) if i not in missing}
        if missing:
            with torch.no_grad():
                found.update(zip(missing, compute(missing).detach().cpu(), strict=True))
        self.hits, self.misses = self.hits + len(keys) - len(missing), self.misses + len(missing)
        for i, key in enumerate(keys):
            if key is not None:
                self._keep(key, found[i])
        return torch.stack([found[i] for i in range(len(keys))]).to(device)

    def _keep(self, key: Hashable, value: torch.Tensor) -> None:
        if key not in self.kept:
            self.kept[key] = value.clone()
            self.bytes += value.nbytes
        self.kept.move_to_end(key)
        while self.bytes > self.limit:
            self.bytes -= self.kept.popitem(last=False)[1].nbytes


class ReferenceCache(TensorCache):
    """Features of lines by picture and place; one line takes 10 KiB (40 x 64 float32).

    A line is found again only where it has the same picture, the same box and the same text; position masks that are
    jittered anew in every epoch, or rendered scenes without end, therefore make the cache useless, never wrong.
    """

    def features(self, read: Callable, images: torch.Tensor, lines: TextLines, pictures: Sequence[int]) -> torch.Tensor:
        """Features (L, T, D) of the true lines, on the device of ``images``.

        Args:
            read: (images, lines) -> features (L, T, D), as ``Instruments.features``.
            images: (B, 3, H, W) in [-1, 1]. ``lines``: readable lines.
            pictures: B numbers that tell the pictures of the data set apart; negative ones are never kept.
        """
        keys = [self._key(lines, i, pictures) for i in range(len(lines))]
        return self.rows(keys, lambda rows: read(images, lines.select(rows)), images.device)

    @staticmethod
    def _key(lines: TextLines, i: int, pictures: Sequence[int]) -> tuple | None:
        picture = int(pictures[int(lines.image_index[i])])
        return None if picture < 0 else (picture, lines.texts[i], lines.quads[i].numpy().tobytes())


def digests(images: torch.Tensor) -> list[bytes]:
    """A key for each picture of a batch (B, ...): a digest of its values."""
    return [blake2b(image.numpy().data, digest_size=16).digest() for image in images.detach().cpu().contiguous()]
