"""Reports of a run: configuration, gradient norms, speed, data left out, causes of failures, progress."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from anytext_lib.losses import NonFiniteError
from anytext_lib.models.sharding import whole
from anytext_lib.ocr.unreadable import unreadable, unreadable_note
from anytext_lib.training.callbacks.average import EverySteps
from anytext_lib.training.run_files import RunFolder

IN_BAR = ("t/loss", "v/sim")
SHOWN = ("t/loss", "t/sim", "t/ocr_raw", "v/sim", "v/ned", "t/samples_per_s")
REASONS = 5  # reasons of each kind that are printed in full


class RunRecord(pl.Callback):
    """Writes ``RUN/config.yaml`` when the first batch has been read: from then on the folder is kept.

    Args:
        folder: of the run. ``text``: gives the configuration in YAML.
    """

    def __init__(self, folder: RunFolder, text: Callable[[], str]):
        self.folder, self.text = folder, text

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch, batch_idx: int) -> None:
        if self.folder.begun:
            return
        self.folder.begun = True
        if trainer.is_global_zero:
            (self.folder.path / "config.yaml").write_text(self.text(), encoding="utf-8")


class GradientNorms(pl.Callback):
    """Logs t/grad/GROUP and t/grad/all, as they are before clipping.

    Under 16-mixed precision the loss scaler expects infinite gradients now and then and skips such steps; then
    nothing is raised.
    """

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer) -> None:
        """Log the norms; NonFiniteError where one is not finite."""
        norms = {}
        for group, members in module.trained.items():
            grads = [p.grad for _, p in members if p.grad is not None]
            if grads:
                norms[group] = whole(torch.stack(torch._foreach_norm(grads)).norm())
        if not norms:
            return
        norms["all"] = torch.stack(list(norms.values())).norm()
        if trainer.precision != "16-mixed" and not torch.isfinite(norms["all"]):
            raise NonFiniteError(_blame(module))
        module.log_dict({f"t/grad/{name}": value for name, value in norms.items()})


def _blame(module: pl.LightningModule) -> str:
    for group, members in module.trained.items():
        for name, parameter in members:
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                bad = int((~torch.isfinite(parameter.grad)).sum())
                return (f"gradient of {name} ({group}): {bad} of {parameter.grad.numel()} values are not finite, "
                        "although the loss is. The weights were not touched. Lower the learning rate, clip gradients "
                        "(trainer.gradient_clip_val 1.0), or train in precision 32")
    return "a gradient norm overflowed: lower the learning rate or clip gradients (trainer.gradient_clip_val 1.0)"


class Speed(pl.Callback):
    """Logs t/samples_per_s and t/s_per_step since the last optimizer step, over all processes, and the peak memory.

    t/gpu_gib is the peak of what torch took on this GPU since the last log, t/ram_gib the peak of this process.
    """

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.step, self.samples, self.since = trainer.global_step, 0, time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if hasattr(self, "since"):
            self.since += time.perf_counter() - self.paused

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        """Log what the optimizer step that just ended took."""
        self.samples += len(batch)
        if trainer.global_step == self.step:
            return
        now = time.perf_counter()
        seconds = max(now - self.since, 1e-9)
        values = {"t/samples_per_s": self.samples * trainer.world_size / seconds, "t/s_per_step": seconds,
                  "t/ram_gib": peak_ram_gib()}
        if module.device.type == "cuda":
            values["t/gpu_gib"] = torch.cuda.max_memory_allocated(module.device) / 2**30
        module.log_dict(values, batch_size=len(batch))
        module.log("t/lr", trainer.optimizers[0].param_groups[0]["lr"], prog_bar=False, batch_size=len(batch))
        self.step, self.samples, self.since = trainer.global_step, 0, now


def peak_ram_gib() -> float:
    """Peak resident memory of this process in GiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


class DataReport(pl.Callback):
    """Logs t/skipped_pictures and t/dropped_lines, counted since the run began; shows the first reasons.

    Warns of the first lines with characters that the recogniser cannot read, where losses read, and counts them.
    """

    def __init__(self):
        self.pictures = self.lines = self.unreadable = 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        self._tell(batch.skipped, self.pictures, "picture skipped")
        self._tell(batch.dropped, self.lines, "line left out")
        self.pictures, self.lines = self.pictures + len(batch.skipped), self.lines + len(batch.dropped)
        counts = {"t/skipped_pictures": float(self.pictures), "t/dropped_lines": float(self.lines)}
        module.log_dict(counts, batch_size=len(batch))
        if getattr(module, "reads", False):
            self._tell_unreadable(module, batch.lines.texts)

    def _tell_unreadable(self, module: pl.LightningModule, texts: list[str]) -> None:
        odd = {text: found for text in texts if (found := unreadable([text]))}
        if odd and not self.unreadable:
            rank_zero_warn(f"{unreadable_note(next(iter(odd)), next(iter(odd.values())))}. {module.unknown_remedy}")
        self.unreadable += sum(text in odd for text in texts)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.pictures or self.lines:
            rank_zero_info(f"{self.pictures} pictures were skipped and {self.lines} lines left out; "
                           "`anytext data check` lists all of them")
        if self.unreadable:
            rank_zero_info(f"{self.unreadable} lines had characters that the recogniser cannot read; "
                           "`anytext data check` names them")

    def state_dict(self) -> dict[str, int]:
        return {"pictures": self.pictures, "lines": self.lines, "unreadable": self.unreadable}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.pictures, self.lines = state["pictures"], state["lines"]
        self.unreadable = state.get("unreadable", 0)

    @staticmethod
    def _tell(reasons: list[str], before: int, what: str) -> None:
        for reason in reasons[: max(0, REASONS - before)]:
            rank_zero_warn(f"{what}: {reason}")


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


class CudaMemoryAdvice(pl.Callback):
    """Add advice to an out-of-memory error: the settings in use, and cheaper ones."""

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, torch.cuda.OutOfMemoryError):
            exception.add_note(advice(trainer, module))


def advice(trainer: pl.Trainer, module: pl.LightningModule) -> str:
    """Options that lower the memory of this run, the cheapest in time first."""
    h = module.hparams
    batch = getattr(trainer.datamodule, "hparams", {}).get("batch_size", 1)
    accumulate = trainer.accumulate_grad_batches
    found = []
    if batch > 1:
        found.append(f"batch_size {batch} -> {max(1, batch // 2)} with grad_accum {accumulate} -> {accumulate * 2}: "
                     "the same optimizer step, activations by half")
    if str(trainer.precision) == "32-true":
        found.append("precision bf16-mixed: activations of the networks by about half; weights and optimizer stay")
    if not h.get("gradient_checkpointing", True):
        found.append("gradient_checkpointing true: keeps the inputs of blocks only, about a third more time")
    if h.get("loss_alpha", 0) > 0 or h.get("loss_beta", 0) > 0:
        found.append("loss_alpha 0 and loss_beta 0 until loss_start: no decoder and recogniser in the backward pass")
    if h.get("monitor_every", 0):
        found.append("monitor_every 0: no decoded pictures for terms that are only watched")
    if trainer.world_size == 1:
        found.append("several GPUs with trainer.strategy fsdp2: weights, gradients and optimizer are shared out")
    return "\n".join(["CUDA is out of memory. What takes less, in this run:", *(f"  - {line}" for line in found)])


class ProgressLines(pl.Callback):
    """Prints a line every so many optimizer steps.

    Args:
        every: optimizer steps between two lines; 0 takes a fiftieth of the run, and 20 where its length is unknown, and
            prints none where a bar shows the same.
    """

    def __init__(self, every: int = 0):
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        total = trainer.estimated_stepping_batches
        self.total = int(total) if total != float("inf") else None
        self.steps = EverySteps(self.every or (max(1, self.total // 50) if self.total else 20), trainer)
        self.first, self.since = trainer.global_step, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        if not self.every and trainer.progress_bar_callback is not None:
            return
        if self.steps.due(trainer) and trainer.is_global_zero:
            print(self._line(trainer), flush=True)

    def _line(self, trainer: pl.Trainer) -> str:
        step = trainer.global_step
        pace = (time.perf_counter() - self.since) / max(1, step - self.first)
        of = f"/{self.total}" if self.total else ""
        left = f", {pace * (self.total - step) / 60:.1f} min left" if self.total else ""
        values = [f"{key} {value}" for key, value in shown(trainer).items()]
        return f"step {step}{of}, epoch {trainer.current_epoch}: {', '.join(values)} ({pace:.2f} s a step{left})"


class ProgressBar(RichProgressBar):
    """Lightning's, with the figures of ``IN_BAR``, and without a number of epochs where there is none."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, str]:
        """The figures at the end of the bar."""
        return shown(trainer, IN_BAR)

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        return f"Epoch {current_epoch}" + (f"/{last - 1}" if last is not None and last > 0 else "")


def shown(trainer: pl.Trainer, keys: Iterable[str] = SHOWN) -> dict[str, str]:
    """The figures among ``keys`` that have been logged."""
    found = trainer.callback_metrics
    return {key: f"{float(found[key]):.4g}" for key in keys if key in found}
