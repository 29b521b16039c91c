"""The processors that are stood in for: instruction sets, as libraries can be told to use them, and thread counts.

None of them changes what is computed, only in which order it is summed and rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from anytext_lib.device import KERNELS

SEED_STEP = 1000
"""What the other seed adds to a notebook's own."""


@dataclass(frozen=True)
class Variant:
    """One way to run: the kernels by name, the number of threads, and whether with another seed."""

    kernels: str
    threads: int
    other_seed: bool = False

    @property
    def name(self) -> str:
        """As options and files call it: sse41-1, own-2, own-1-seed."""
        return f"{self.kernels}-{self.threads}" + "-seed" * self.other_seed

    def environment(self, of: dict[str, str]) -> dict[str, str]:
        """The environment `of` with this variant's settings; other variants' are removed."""
        ours = {name for kernels in KERNELS.values() for name in kernels}
        kept = {name: value for name, value in of.items() if name not in ours}
        return kept | KERNELS[self.kernels] | {"OMP_NUM_THREADS": str(self.threads)}


PLAIN = tuple(Variant(kernels, threads) for kernels in KERNELS for threads in (1, 2))
SEED = Variant("own", 1, other_seed=True)
VARIANTS = {variant.name: variant for variant in (*PLAIN, SEED)}
FAST = ("sse41-1", "avx2-2")
FAST_NOTEBOOKS = ("03", "05", "06", "08", "14")
"""What continuous integration runs besides the whole suite: the losses, on two other instruction sets."""
