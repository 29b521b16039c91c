"""NaN or infinity in the loss: keep the step's inputs and name the term and the picture."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import lightning.pytorch as pl
import torch

from anytext_lib.losses import NonFiniteError


class NonFiniteReport(pl.Callback):
    """Saves the inputs of the failed step to ``RUN/nonfinite`` and adds the file and the picture to the error.

    The file is read with ``torch.load(path, weights_only=True)``: a dict of tensors, texts and numbers, with the
    batch, the timesteps, the noise, the latents and the network's output, as far as the step had come.
    """

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Save the inputs of a step that failed so; other errors pass."""
        if not isinstance(exception, NonFiniteError):
            return
        inputs = getattr(module, "last_inputs", {})
        step, rank = inputs.get("step", trainer.global_step), trainer.global_rank
        path = Path(trainer.default_root_dir) / "nonfinite" / f"step={step}-rank={rank}.pt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(plain(inputs), path)
        except (OSError, RuntimeError) as error:
            exception.add_note(f"The inputs of step {step} could not be saved in {path}: {error}")
        else:
            exception.add_note(f"The inputs of step {step} are in {path}")
        named = _named_sample(str(exception), inputs)
        if named:
            exception.add_note(named)


def plain(value):
    """Dataclasses as dicts and tensors on the CPU: what torch.load takes with weights_only."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def _named_sample(message: str, inputs: dict) -> str | None:
    """A sentence on the picture that the message blames by its number in the batch."""
    found, batch = re.search(r"of sample (\d+)", message), inputs.get("batch")
    if found is None or batch is None:
        return None
    i = int(found[1])
    texts = [text for text, image in zip(batch.lines.texts, batch.lines.image_index.tolist(), strict=True)
             if image == i]
    return (f"Sample {i} is {batch.names[i]!r} (number {int(batch.indices[i])} of the data set) at timestep "
            f"{int(inputs['timesteps'][i])}, with the lines {texts}")
