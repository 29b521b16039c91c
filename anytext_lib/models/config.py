"""The configuration of a whole model: one JSON file, checked when it is read."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from importlib import resources
from pathlib import Path

from anytext_lib.errors import AnyTextError
from anytext_lib.models.attnx import unet_arguments

FORMAT = "anytext_lib.AnyText2Model"
SECTIONS = ("unet", "writenet", "text_embedding", "vae", "text_encoder", "tokenizer", "scheduler")
SHARED = ("in_channels", "block_out_channels", "down_block_types", "layers_per_block", "attention_head_dim",
          "cross_attention_dim", "norm_num_groups")
"""What WriteNet takes from the UNet's section."""


class ModelConfigError(AnyTextError, ValueError):
    """A model's configuration is missing or wrong; the message says where and what to do."""


def config_names() -> list[str]:
    """Names of the configurations that come with the package."""
    return sorted(Path(entry.name).stem for entry in resources.files("anytext_lib.configs.models").iterdir()
                  if entry.name.endswith(".json"))


def read_config(source: str | os.PathLike | Mapping) -> dict:
    """A model's configuration as a dictionary of its own.

    Args:
        source: the name of one that comes with the package ("mini", "sd15", "tiny"), the path of a JSON file, or a
            dictionary. A tokenizer's folder given relative to the file is made absolute.

    Raises:
        ModelConfigError: no such configuration, broken JSON, a missing or unknown section, widths that do not agree.
    """
    if isinstance(source, Mapping):
        config, where = deepcopy(dict(source)), "the configuration"
    else:
        path = _locate(source)
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelConfigError(f"cannot read the model's configuration {path}: {error}") from error
        where = str(path)
    if not isinstance(config, dict):
        raise ModelConfigError(f"{where} holds a {type(config).__name__}, expected an object with {SECTIONS}")
    _check(config, where)
    if not isinstance(source, Mapping):
        config["tokenizer"] = _absolute(config["tokenizer"], path.parent)
    return config


@contextlib.contextmanager
def building(source: str | os.PathLike | Mapping) -> Iterator[None]:
    """Turn what the networks' constructors raise in the block into a ModelConfigError about ``source``."""
    where = "the configuration" if isinstance(source, Mapping) else str(source)
    try:
        yield
    except AnyTextError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError, ArithmeticError) as error:
        raise ModelConfigError(f"{where} describes a model that cannot be built ({type(error).__name__}: "
                               f"{' '.join(str(error).split())}): compare it with one of {config_names()}") from error


def writenet_arguments(config: Mapping) -> dict:
    """Arguments of ``WriteNet``: its own section, the UNet's sizes, the factor of the auto-encoder."""
    unet = unet_arguments(config["unet"])
    shared = {name: unet[name] for name in SHARED}
    return shared | {"latent_factor": latent_factor(config["vae"])} | dict(config["writenet"])


def latent_factor(vae: Mapping) -> int:
    """Pixels for each latent along an edge, from the auto-encoder's section."""
    return 2 ** (len(vae["block_out_channels"]) - 1)


def _locate(source: str | os.PathLike) -> Path:
    path = Path(source)
    if path.suffix == ".json" and path.is_file():
        return path
    packaged = resources.files("anytext_lib.configs.models") / f"{source}.json"
    if str(source) in config_names():
        return Path(str(packaged))
    raise ModelConfigError(f"no model configuration {str(source)!r}: it is one of {config_names()} or the path of an "
                           "existing .json file")


def _check(config: dict, where: str) -> None:
    odd = [name for name in SECTIONS if name in config and not isinstance(config[name], str if name == "tokenizer" else
                                                                          Mapping)]
    if odd:
        raise ModelConfigError(f"{where}: the section {odd[0]} holds a {type(config[odd[0]]).__name__}, expected "
                               f"{'a text' if odd[0] == 'tokenizer' else 'an object'}")
    missing = [name for name in SECTIONS if name not in config]
    unknown = sorted(set(config) - set(SECTIONS) - {"format", "description", "sample_posterior", "recognizer"})
    if missing or unknown:
        raise ModelConfigError(f"{where}: missing sections {missing}, unknown sections {unknown}; expected {SECTIONS}")
    if config.get("format", FORMAT) != FORMAT:
        raise ModelConfigError(f"{where} has format {config['format']!r}, expected {FORMAT!r}: it describes something "
                               "else")
    widths = {"unet.cross_attention_dim": config["unet"].get("cross_attention_dim", 768),
              "text_encoder.hidden_size": config["text_encoder"].get("hidden_size", 512),
              "text_embedding.width": config["text_embedding"].get("width", 768)}
    if len(set(widths.values())) > 1:
        raise ModelConfigError(f"{where}: the width of the captions' tokens must be the same everywhere, got {widths}")
    channels = {"unet.in_channels": config["unet"].get("in_channels", 4),
                "vae.latent_channels": config["vae"].get("latent_channels", 4)}
    if len(set(channels.values())) > 1:
        raise ModelConfigError(f"{where}: the latents' channels do not agree: {channels}")


def _absolute(tokenizer: str, folder: Path) -> str:
    """The tokenizer's folder as an absolute path if it lies relative to the configuration or to the repository."""
    for base in (folder, Path(__file__).resolve().parents[2]):
        if tokenizer and (base / tokenizer).is_dir():
            return str((base / tokenizer).resolve())
    return tokenizer
