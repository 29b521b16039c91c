"""`anytext fit` and `anytext validate`: LightningCLI around the module, the data module and the callbacks.

Configurations of the package are known by their names, options by theirs without the section.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from anytext_lib.errors import AnyTextError, MissingFileError, OptionError
from anytext_lib.training import callbacks as parts
from anytext_lib.training.data import AnyTextData
from anytext_lib.training.module import AnyText2Training
from anytext_lib.training.precision import converted
from anytext_lib.training.run_files import AtomicCheckpointIO, RunFolder
from anytext_lib.training.strategy import ShardedStrategy
from anytext_lib.usage import HelpFormatter, usage_error

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SYSTEMS = {"anytext2": ("anytext_lib.training.cli", "AnyTextCLI"),
           "udifftext": ("anytext_lib.udifftext.cli", "UDiffTextCLI")}
"""Systems that a configuration may name as ``system``: module and class of the command line that trains it."""
LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")
SECTIONS = {"model": AnyText2Training, "data": AnyTextData, "trainer": pl.Trainer, "checkpoint": parts.Checkpoints,
            "images": parts.ImageLogger, "judge": parts.TextJudge, "progress": parts.ProgressLines,
            "timesteps": parts.TimestepCurves, "export": parts.ExportModel}


class ConfigError(AnyTextError, ValueError):
    """A configuration file cannot be read, or is none; the message says which and where."""


class DeviceMemoryError(AnyTextError, RuntimeError):
    """The GPU's memory does not suffice for a step; its notes say what needs less."""

    exit_status = 1


class TrainingParser(LightningArgumentParser):
    """Lightning's, where a value that is the name of a text file stays a name: it is not read as a configuration."""

    def add_class_arguments(self, *arguments, **options) -> list[str]:
        """As jsonargparse's, without configuration files for single options."""
        return super().add_class_arguments(*arguments, **{**options, "sub_configs": False})


class AnyTextCLI(LightningCLI):
    """LightningCLI with the callbacks of this package, a run folder and `--ckpt_path last`.

    Attributes:
        sections: classes whose options can be given by their bare names; that of "model" is trained.
    """

    sections: dict[str, type] = SECTIONS

    def __init__(self, command: str, arguments: Sequence[str]):
        self.folder: RunFolder | None = None
        self.names = {name: option_names(cls, ("seed",)) for name, cls in self.sections.items()}
        try:
            super().__init__(self.sections["model"], self.sections["data"], save_config_callback=None,
                             seed_everything_default=0, parser_class=TrainingParser,
                             args=[command, *expand(arguments, self.names)],
                             auto_configure_optimizers=False, load_from_checkpoint_support=False, parser_kwargs={
                                 "prog": "anytext", "exit_on_error": False, "formatter_class": HelpFormatter})
        except MisconfigurationException as error:  # Lightning's word for options of the Trainer that do not go
            raise OptionError(f"an option of the trainer cannot be used: {' '.join(str(error).split())}") from error
        finally:
            if self.folder is not None:
                self.folder.discard()

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:
        """Read the options. UsageError: they cannot be understood."""
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            bare = [f"--{name}" for section in self.names.values() for name in section]
            raise usage_error(str(error), parser, args, bare) from error
        level = logging.WARNING if self.config[self.config.subcommand].quiet else logging.INFO
        for name in LOGGERS:
            logging.getLogger(name).setLevel(level)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's name and folder, and the options of this package's callbacks."""
        parser.add_argument("--system", type=str, default="anytext2", help="what is trained: anytext2 or udifftext")
        parser.add_argument("--name", type=str, default="run", help="name of the run: its folder is RUNS/NAME")
        parser.add_argument("--runs", type=str, default="runs", help="folder of the runs")
        parser.add_argument("--quiet", action="store_true", help="print warnings and errors only")
        parser.add_argument("--grad_accum", type=int, default=1, help="batches that make one optimizer step")
        parser.add_argument("--ema", type=float, default=0.0, help="decay of the average of weights; 0 keeps none")
        for name in ("checkpoint", "images", "judge", "progress", "timesteps", "export"):
            parser.add_lightning_class_args(SECTIONS[name], name)
        parser.link_arguments("grad_accum", "trainer.accumulate_grad_batches")
        for section in ("model", "data"):
            parser.link_arguments("seed_everything", f"{section}.seed", compute_fn=int)

    def _parse_ckpt_path(self) -> None:
        """Nothing: the options are those of the command line, and not the ones that the checkpoint was made with."""

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder and checkpoint first: errors about them come before the model is loaded."""
        config = self.config[self.subcommand]
        self.folder = RunFolder.named(config.runs, config.name)
        self.run = self.folder.path
        config.trainer.default_root_dir = str(self.run)
        if self.subcommand == "fit" and config.get("ckpt_path") is None:
            self.folder.require_free()
        config.ckpt_path = self.folder.resumed_from(config.get("ckpt_path"))
        if self.subcommand == "fit":
            self.folder.make()

    def instantiate_trainer(self, **kwargs) -> pl.Trainer:
        """The Trainer with this package's callbacks, checkpoint files and, by default, TensorBoard."""
        config = self.config_init[self.subcommand]
        options = {**config.trainer, "default_root_dir": str(self.run)}
        instead = converted(options.get("precision"))
        options |= {"precision": None} if instead else {}
        options["plugins"] = [*_listed(options.get("plugins")), *instead, AtomicCheckpointIO()]
        options["callbacks"] = [*_listed(options.get("callbacks")), *self._callbacks(config)]
        if options.get("logger") in (None, True):
            kept = self.subcommand == "fit" or self.run.is_dir()
            options["logger"] = TensorBoardLogger(self.run, name="", version="tensorboard") if kept else False
        if options.get("enable_progress_bar") is None:
            options["enable_progress_bar"] = sys.stdout.isatty() and not config.quiet
        if options["enable_progress_bar"] and not any(isinstance(c, ProgressBar) for c in options["callbacks"]):
            options["callbacks"].append(parts.ProgressBar())
        if options.get("strategy") == "auto" and _several(options):
            options["strategy"] = "ddp_find_unused_parameters_true"  # a process without lines leaves parameters out
        if options.get("strategy") == "fsdp2":
            options["strategy"] = ShardedStrategy()
        try:
            return self.trainer_class(**{**options, "use_distributed_sampler": False, "enable_model_summary": False})
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
            raise OptionError(f"an option of the trainer cannot be used: {' '.join(str(error).split())}") from error

    def _callbacks(self, config) -> list[pl.Callback]:
        average = [parts.ExponentialAverage(config.ema)] if config.ema else []
        progress = [] if config.quiet else [config.progress]
        begun = parts.RunRecord(self.folder, lambda: self._parser("fit").dump(self.config["fit"], skip_unset=False))
        return [*average, begun, parts.GradientNorms(), parts.Speed(), parts.DataReport(), config.timesteps,
                config.images, config.judge, *progress, parts.NonFiniteReport(), parts.CudaMemoryAdvice(),
                config.export, config.checkpoint]

    def before_validate(self) -> None:
        """Switch off Lightning's table of metrics: ``after_validate`` prints its own."""
        self.verbose, self.config_init["validate"]["verbose"] = self.config_init["validate"].verbose, False

    def after_validate(self) -> None:
        """Print the metrics, and why others were not computed."""
        if self.verbose and self.trainer.is_global_zero:
            found = {key: f"{float(value):.6g}" for key, value in self.trainer.callback_metrics.items()}
            found |= {key: f"not computed: {why}" for key, why in self.model.not_computed().items()}
            width = max(map(len, found), default=0)
            print("\n".join(f"{key:<{width}}  {found[key]}" for key in sorted(found)), flush=True)

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except torch.cuda.OutOfMemoryError as error:
            told = DeviceMemoryError(str(error).partition("\n")[0])
            told.__notes__ = list(getattr(error, "__notes__", []))
            raise told from error


def run(command: str, arguments: Sequence[str]) -> int:
    """Carry out "fit" or "validate" of the system that the configurations name, and return 0.

    Raises:
        AnyTextError: a wrong request, or a run that failed for a reason that has a name; a folder that was made for
        the run is removed unless training had begun.
    """
    cli = system_of(arguments)
    filter_messages()
    cli(command, arguments)
    return 0


def system_of(arguments: Sequence[str]) -> type[AnyTextCLI]:
    """The command line of the system that the configurations among ``arguments`` name, the last one if several do.

    Raises:
        MissingFileError, ConfigError: a configuration is missing, cannot be read, or names an unknown system.
    """
    chosen = "anytext2"
    for name in configs_in(arguments):
        chosen = read_config(name).get("system", chosen)
        if chosen not in SYSTEMS:
            raise ConfigError(f"the configuration {name} has the system {chosen!r}: choose {' or '.join(SYSTEMS)}")
    module, cli = SYSTEMS[chosen]
    return getattr(import_module(module), cli)


def filter_messages() -> None:
    """Leave out Lightning's messages about what is done on purpose."""
    for message in ("Found .* module.s. in eval mode", ".*isinstance.treespec, LeafSpec",
                    ".*does not have many workers", "The number of training batches",
                    "Total length of .* is zero", "LightningCLI's args parameter"):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not any(text in record.msg for text in ("Tip:", "Detected KeyboardInterrupt")))
    for logger in map(logging.getLogger, LOGGERS):
        logger.handlers = [ToStderr() if type(part) is logging.StreamHandler else part for part in logger.handlers]


class ToStderr(logging.Handler):
    """Messages to the standard error of the moment: while a progress bar is drawn, that is above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message."""
        print(self.format(record), file=sys.stderr, flush=True)


def _several(options: dict) -> bool:
    """Whether the Trainer will have more than one process."""
    devices, nodes = options.get("devices", "auto"), options.get("num_nodes") or 1
    if devices in ("auto", -1, "-1"):
        devices = torch.cuda.device_count() if options.get("accelerator") != "cpu" else 1
    count = len(devices) if isinstance(devices, (list, tuple)) else int(devices) if str(devices).isdigit() else 1
    return max(count, nodes, int(os.environ.get("WORLD_SIZE", 1))) > 1


def _listed(value) -> list:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def find_config(name: str) -> Path:
    """A configuration: an existing file, or the name of one in the package, with or without .yaml.

    Raises:
        MissingFileError: neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = CONFIGS / (path.name if path.suffix else f"{path.name}.yaml")
    if len(path.parts) == 1 and packaged.is_file():
        return packaged
    known = ", ".join(sorted(file.name for file in CONFIGS.glob("*.yaml")))
    raise MissingFileError(f"no configuration {name}: give a YAML file, or one of the package: {known}")


def read_config(name: str) -> dict:
    """Options of a configuration file.

    Raises:
        MissingFileError: see ``find_config``. ConfigError: no YAML, empty, or no mapping of options to values.
    """
    path = find_config(name)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path} cannot be read: {getattr(error, 'strerror', None) or error}. "
                          "Give a text file in YAML") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the configuration {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        holds = "is empty" if found is None else f"holds a {type(found).__name__}"
        raise ConfigError(f"the configuration {path} {holds}: it needs options with values, as in "
                          f"{CONFIGS / 'mini.yaml'}")
    return found


def configs_in(arguments: Sequence[str]) -> Iterator[str]:
    """The values of --config and -c."""
    for i, argument in enumerate(arguments):
        if argument.startswith("--config="):
            yield argument.partition("=")[2]
        elif argument in ("--config", "-c") and i + 1 < len(arguments):
            yield arguments[i + 1]


def expand(arguments: Sequence[str], sections: dict[str, Iterable[str]]) -> list[str]:
    """Arguments with packaged configurations as paths, and ``--loss_alpha 1`` as ``--model.loss_alpha 1``.

    Args:
        sections: names of options by section; a bare name that two sections have, or that none has, is left alone.
    """
    owner: dict[str, list[str]] = {}
    for section, names in sections.items():
        for name in names:
            owner.setdefault(name, []).append(section)
    done, after_config = [], False
    for argument in arguments:
        if after_config:
            done.append(str(find_config(argument)))
            after_config = False
            continue
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name == "config" and equals:
            done.append(f"--config={find_config(value)}")
        elif argument.startswith("--") and len(owner.get(name, [])) == 1:
            done.append(f"--{owner[name][0]}.{name}{equals}{value}")
        else:
            done.append(argument)
            after_config = argument in ("--config", "-c")
    return done


def option_names(cls: type, but: Iterable[str] = ()) -> list[str]:
    """Names of the arguments of a class, without ``self`` and those in ``but``."""
    return [name for name in inspect.signature(cls.__init__).parameters if name not in {"self", "kwargs", *but}]
