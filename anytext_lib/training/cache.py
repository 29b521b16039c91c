"""Results of frozen networks, kept between epochs: what cannot change is computed once for each picture."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b

import torch

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


def digests(images: torch.Tensor) -> list[bytes]:
    """A key for each picture of a batch (B, ...): a digest of its values."""
    return [blake2b(image.numpy().data, digest_size=16).digest() for image in images.detach().cpu().contiguous()]
