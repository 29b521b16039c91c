"""Errors that say which term of the objective, and which sample, is at fault."""

from __future__ import annotations

import torch


class NonFiniteError(ValueError):
    """A tensor holds NaN or infinity; the message names the term of the objective, the tensor and the sample."""


def require_finite(named: dict[str, torch.Tensor], samples: torch.Tensor | None = None) -> None:
    """Raise NonFiniteError if a value of any tensor is NaN or infinite.

    All tensors are reduced to one flag first, so that a GPU is waited for only once.

    Args:
        named: tensors (R, ...) under the words the message uses, such as "simple term: model_output".
        samples: (R,) index of the sample of each row; by default row i belongs to sample i.
    """
    flags = [torch.isfinite(value.detach()).all() for value in named.values()]
    if bool(torch.stack(flags).all()):
        return
    for name, value in named.items():
        rows = value.detach().reshape(len(value), -1)
        for row in (~torch.isfinite(rows)).any(dim=1).nonzero().flatten().tolist():
            bad = (~torch.isfinite(rows[row])).nonzero().flatten()
            sample = row if samples is None else int(samples[row])
            raise NonFiniteError(
                f"{name} of sample {sample} has {len(bad)} of {rows.shape[1]} values not finite (the first is "
                f"{rows[row, bad[0]].item()} at flat position {int(bad[0])}). Look at this sample's inputs, at the "
                "learning rate and at half precision before you lower the loss weights"
            )


def require_shape(name: str, value: torch.Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless ``value`` has ``shape``, where None stands for any size."""
    if value.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected ({wanted})")
