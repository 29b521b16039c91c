"""Weights in bfloat16 (`--trainer.precision bf16-true`): what is converted, and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.plugins.precision import HalfPrecision

from anytext_lib.errors import OptionError


class BfloatWeights(HalfPrecision):
    """Lightning's conversion of a module, and nothing else.

    Lightning rounds batches as well, and makes bfloat16 the dtype of every new tensor.  Here pictures, boxes, noise
    and losses stay in float32: each network converts what it is given.
    """

    def __init__(self):
        super().__init__("bf16-true")

    def convert_input(self, data: Any) -> Any:
        """The batch as it is."""
        return data

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """Nothing is changed."""
        yield


def converted(precision: str | int | None) -> list[HalfPrecision]:
    """Plugins in the place of Lightning's for a precision of the Trainer; none where Lightning's will do.

    Raises:
        OptionError: weights in float16, which cannot be trained.
    """
    if precision == "16-true":
        raise OptionError("trainer.precision 16-true: weights in float16 cannot be trained, as the 1e-8 that AdamW "
                          "adds to its denominators is 0 there. Use bf16-true, or 16-mixed, whose weights are float32")
    return [BfloatWeights()] if precision == "bf16-true" else []
