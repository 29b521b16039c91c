"""Errors that say which term of the objective, and which sample, is at fault."""

from __future__ import annotations

import torch

from anytext_lib.errors import AnyTextError

LOOK = ("Look at this sample's inputs, at the learning rate and at half precision before you lower the loss weights")


class NonFiniteError(AnyTextError, ValueError):
    """A tensor holds NaN or infinity; the message names the term of the objective, the tensor and the sample."""

    exit_status = 1


class FiniteChecks:
    """Tensors that must be finite, tested all at once: a GPU is waited for only once a step."""

    def __init__(self):
        self.kept: list[tuple[str, torch.Tensor, torch.Tensor | None, str]] = []

    def add(self, name: str, value: torch.Tensor, samples: torch.Tensor | None = None, remedy: str = LOOK) -> None:
        """Remember a tensor (R, ...) to be tested.

        Args:
            name: what the message calls it, such as "simple term: model_output".
            samples: (R,) index of the sample of each row; by default row i belongs to sample i.
            remedy: the end of the message.
        """
        self.kept.append((name, value.detach(), samples, remedy))

    def test(self) -> None:
        """Raise NonFiniteError for the first tensor, in the order of adding, that holds NaN or infinity."""
        kept, self.kept = self.kept, []
        if not kept or bool(torch.stack([torch.isfinite(value).all() for _, value, _, _ in kept]).all()):
            return
        for name, value, samples, remedy in kept:
            rows = value.reshape(len(value), -1)
            for row in (~torch.isfinite(rows)).any(dim=1).nonzero().flatten().tolist():
                bad = (~torch.isfinite(rows[row])).nonzero().flatten()
                sample = row if samples is None else int(samples[row])
                raise NonFiniteError(
                    f"{name} of sample {sample} has {len(bad)} of {rows.shape[1]} values not finite (the first is "
                    f"{rows[row, bad[0]].item()} at flat position {int(bad[0])}). {remedy}"
                )


def require_finite(named: dict[str, torch.Tensor], samples: torch.Tensor | None = None) -> None:
    """Raise NonFiniteError if a value of any tensor is NaN or infinite; see ``FiniteChecks``.

    Args:
        named: tensors (R, ...) under the words the message uses. ``samples``: (R,) their samples, by default 0..R-1.
    """
    checks = FiniteChecks()
    for name, value in named.items():
        checks.add(name, value, samples)
    checks.test()


def require_shape(name: str, value: torch.Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless ``value`` has ``shape``, where None stands for any size."""
    if value.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected ({wanted})")
