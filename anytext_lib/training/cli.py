"""`anytext fit` and `anytext validate`: LightningCLI around the module, the data module and the callbacks."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from anytext_lib.data.anyword import AnyWordError
from anytext_lib.errors import AnyTextError
from anytext_lib.losses import NonFiniteError
from anytext_lib.models import ModelConfigError, StorageError, TokenizerError
from anytext_lib.ocr.weights import WeightsError
from anytext_lib.training import callbacks as parts
from anytext_lib.training.arguments import expand, option_names
from anytext_lib.training.datamodule import AnyTextData
from anytext_lib.training.module import AnyText2Training
from anytext_lib.training.storage import AtomicCheckpointIO, CheckpointError, checkpoints_in, require_writable

SECTIONS = {"model": AnyText2Training, "data": AnyTextData, "trainer": pl.Trainer, "checkpoint": parts.Checkpoints,
            "images": parts.ImageLogger, "judge": parts.TextJudge, "progress": parts.ProgressLines,
            "export": parts.ExportModel}
FAILED, WRONG = 1, 2
"""Exit status: failed while running; the request was wrong. 143 and 130: asked to stop by SIGTERM or Ctrl-C, saved."""


class AnyTextCLI(LightningCLI):
    """LightningCLI with the callbacks of this package, a run folder and `--ckpt_path last`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's name and folder, and the options of this package's callbacks."""
        parser.add_argument("--name", type=str, default="run", help="name of the run: its folder is RUNS/NAME")
        parser.add_argument("--runs", type=str, default="runs", help="folder of the runs")
        parser.add_argument("--grad_accum", type=int, default=1, help="batches that make one optimizer step")
        parser.add_argument("--ema", type=float, default=0.0, help="decay of the average of weights; 0 keeps none")
        for name in ("checkpoint", "images", "judge", "progress", "export"):
            parser.add_lightning_class_args(SECTIONS[name], name)
        parser.link_arguments("grad_accum", "trainer.accumulate_grad_batches")
        for section in ("model", "data"):
            parser.link_arguments("seed_everything", f"{section}.seed", compute_fn=int)

    def before_instantiate_classes(self) -> None:
        """Make the run folder first: an unwritable one is found out before the model is loaded."""
        config = self.config[self.subcommand]
        self.run = Path(config.runs) / config.name
        require_writable(self.run)
        config.trainer.default_root_dir = str(self.run)
        if config.get("ckpt_path") == "last":
            config.ckpt_path = self._last_checkpoint()

    def instantiate_trainer(self, **kwargs) -> pl.Trainer:
        """The Trainer with this package's callbacks, checkpoint files and, by default, TensorBoard."""
        config = self.config_init[self.subcommand]
        options = {**config.trainer, "default_root_dir": str(self.run)}
        options["plugins"] = [*_listed(options.get("plugins")), AtomicCheckpointIO()]
        options["callbacks"] = [*_listed(options.get("callbacks")), *self._callbacks(config)]
        if options.get("logger") in (None, True):
            options["logger"] = TensorBoardLogger(self.run, name="", version="tensorboard")
        if options.get("enable_progress_bar") is None:
            options["enable_progress_bar"] = sys.stdout.isatty()
        if options.get("strategy") == "auto" and _several(options):
            options["strategy"] = "ddp_find_unused_parameters_true"  # a process without lines leaves parameters out
        return self.trainer_class(**{**options, "use_distributed_sampler": False, "enable_model_summary": False})

    def _callbacks(self, config) -> list[pl.Callback]:
        average = [parts.ExponentialAverage(config.ema)] if config.ema else []
        return [*average, parts.GradientNorms(), parts.Speed(), parts.DataReport(), config.images, config.judge,
                config.progress, parts.NonFiniteReport(), parts.CudaMemoryAdvice(), config.export, config.checkpoint]

    def before_fit(self) -> None:
        """Keep the whole configuration beside the results."""
        if self.trainer.is_global_zero:
            text = self._parser("fit").dump(self.config["fit"], skip_unset=False)
            (self.run / "config.yaml").write_text(text, encoding="utf-8")

    def _last_checkpoint(self) -> str | None:
        """The newest complete checkpoint of the run; none, with a warning, if there is none yet."""
        found = checkpoints_in(self.run / "checkpoints")
        if not found:
            warnings.warn(f"--ckpt_path last: no checkpoint in {self.run / 'checkpoints'}, starting anew",
                          stacklevel=2)
            return None
        return str(found[-1])


def fit(arguments: Sequence[str]) -> int:
    """`anytext fit`: train, and return the exit status."""
    return _run("fit", arguments)


def validate(arguments: Sequence[str]) -> int:
    """`anytext validate`: measure on the validation data, and return the exit status."""
    return _run("validate", arguments)


def _run(command: str, arguments: Sequence[str]) -> int:
    quiet()
    try:
        sections = {name: option_names(cls, ("seed",)) for name, cls in SECTIONS.items()}
        AnyTextCLI(AnyText2Training, AnyTextData, save_config_callback=None, seed_everything_default=0,
                   parser_kwargs={"prog": "anytext"}, args=[command, *expand(arguments, sections)],
                   auto_configure_optimizers=False, load_from_checkpoint_support=False)
    except parts.Interrupted as stop:
        print(f"anytext: {stop}", file=sys.stderr)
        return 128 + stop.number
    except (NonFiniteError, torch.cuda.OutOfMemoryError) as error:
        return _complain(error, FAILED)
    except (FileNotFoundError, AnyTextError, AnyWordError, CheckpointError, ModelConfigError, StorageError,
            TokenizerError, WeightsError) as error:
        return _complain(error, WRONG)
    return 0


def quiet() -> None:
    """Leave out what Lightning says about things that are so on purpose."""
    for message in ("Found .* module.s. in eval mode", ".*isinstance.treespec, LeafSpec",
                    ".*does not have many workers", "The number of training batches",
                    "Total length of .* is zero", "LightningCLI's args parameter"):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.msg)


def _complain(error: Exception, status: int) -> int:
    """Print an error and its notes without a traceback."""
    print("\n".join([f"anytext: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
    return status


def _several(options: dict) -> bool:
    """Whether the Trainer will have more than one process."""
    devices, nodes = options.get("devices", "auto"), options.get("num_nodes") or 1
    if devices in ("auto", -1, "-1"):
        devices = torch.cuda.device_count() if options.get("accelerator") != "cpu" else 1
    count = len(devices) if isinstance(devices, (list, tuple)) else int(devices) if str(devices).isdigit() else 1
    return max(count, nodes, int(os.environ.get("WORLD_SIZE", 1))) > 1


def _listed(value) -> list:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
