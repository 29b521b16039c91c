"""A model as a folder: one configuration, and the weights of each part in safetensors.

    anytext2.json                                    what AnyText2Model.from_config takes
    vae, unet, writenet, text_embedding/             config.json, diffusion_pytorch_model.safetensors (diffusers)
    text_encoder/                                    config.json, model.safetensors (transformers)
    recognizer/model.safetensors                     left out if it is PP-OCRv3 as it comes with the package
    tokenizer/                                       vocabulary and merges
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from anytext_lib.errors import AnyTextError
from anytext_lib.models.caption_encoder import TokenizerError
from anytext_lib.models.config import FORMAT, ModelConfigError
from anytext_lib.models.sharding import is_sharded, whole
from anytext_lib.ocr.network import PPOCRv3Network

if TYPE_CHECKING:
    from anytext_lib.models.anytext2 import AnyText2Model

CONFIG = "anytext2.json"
WEIGHTS = {"vae": "diffusion_pytorch_model.safetensors", "unet": "diffusion_pytorch_model.safetensors",
           "writenet": "diffusion_pytorch_model.safetensors", "text_embedding": "diffusion_pytorch_model.safetensors",
           "text_encoder": "model.safetensors", "recognizer": "model.safetensors"}
PACKAGED = "packaged"  # the recogniser is the one that comes with the package
TOKENIZER = "tokenizer"


class StorageError(AnyTextError, ValueError):
    """A model's folder is incomplete, damaged or of another model; the message says which file and why."""


def save(model: AnyText2Model, folder: str | os.PathLike, dtype: torch.dtype | None = None) -> None:
    """Write ``model`` into ``folder`` (made if missing); the configuration comes last, so that a folder without it is
    known to be incomplete.  Where processes share the weights out, all of them call this, and the first one writes."""
    root, writes = Path(folder), not is_sharded(model) or torch.distributed.get_rank() == 0
    if writes:
        root.mkdir(parents=True, exist_ok=True)
        (root / CONFIG).unlink(missing_ok=True)
    packaged = _is_packaged(model.recognizer)
    for name in WEIGHTS:
        if name != "recognizer" or not packaged:
            part = getattr(model, name)
            tensors = {key: value for key, value in _stored(part, dtype) if writes}
            if writes:
                save_part(part, tensors, root / name)
    if writes:
        save_config(model, root, _save_tokenizer(model, root), PACKAGED if packaged else "recognizer")


def save_part(part: nn.Module, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write the configuration of ``part``, if it has one, and its ``tensors`` into ``folder``, named as the part."""
    folder.mkdir(exist_ok=True)
    if hasattr(part, "save_config"):
        part.save_config(folder)
    elif hasattr(part, "config"):
        part.config.to_json_file(folder / "config.json")
    save_tensors(tensors, folder / WEIGHTS[folder.name])


def save_config(model: AnyText2Model, root: Path, tokenizer: str, recognizer: str = "recognizer") -> None:
    """Write the model's configuration, whole or not at all, naming the folders of tokenizer and recogniser."""
    config = model.config | {"format": FORMAT, "tokenizer": tokenizer, "recognizer": recognizer}
    temporary = root / f".{CONFIG}.new"
    temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, root / CONFIG)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path, torch_format: bool = False) -> None:
    """Write tensors as safetensors or as ``torch.save`` does; OSError, as of any file, if they cannot be written."""
    taken, apart = set(), {}
    for name, tensor in tensors.items():
        tensor = tensor.contiguous()
        apart[name] = tensor.clone() if tensor.data_ptr() in taken else tensor  # safetensors refuses shared memory
        taken.add(tensor.data_ptr())
    try:
        if torch_format:
            with open(path, "wb") as file:
                torch.save(apart, file)
        else:
            save_file(apart, path, metadata={"format": "pt"})
    except (RuntimeError, SafetensorError) as error:  # safetensors tells the system's error in words, torch as context
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else getattr(error.__context__, "errno", None)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def load(cls: type[AnyText2Model], folder: str | os.PathLike, device: torch.device | str,
         dtype: torch.dtype) -> AnyText2Model:
    """The model that ``save`` wrote.

    Raises:
        StorageError: no model there, or a part of it is missing, damaged or of another size.
    """
    root = Path(folder)
    if not (root / CONFIG).is_file():
        raise StorageError(f"no model in {root}: the file {CONFIG} is missing (not a folder of save_pretrained, or "
                           "saving was interrupted)")
    try:
        with torch.device("meta"):
            model = cls(root / CONFIG)
    except ModelConfigError as error:
        raise StorageError(str(error)) from error

    def fill(name: str) -> None:
        if name == "recognizer" and model.config.get("recognizer") == PACKAGED:
            model.recognizer.load_state_dict(PPOCRv3Network.from_pretrained().state_dict())
        else:
            load_part(getattr(model, name), root / name / WEIGHTS[name])

    return model.materialise(fill, device, dtype)


def load_part(part: nn.Module, path: Path) -> None:
    """Load the weights of one part, whatever floating dtype they are stored in.

    Raises:
        StorageError: the file is missing or damaged, or tensors are missing, unknown, of another shape or not finite.
    """
    if not path.is_file():
        raise StorageError(f"the weights {path} are missing: copy the whole folder again")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise StorageError(f"cannot read the weights {path}: {error}. The file is damaged or cut off: copy it "
                           "again") from error
    own = part.state_dict()
    missing, unknown = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    if missing or unknown:
        raise StorageError(f"{path} does not fit: {len(missing)} tensors are missing {missing[:3]}, {len(unknown)} are "
                           f"unknown {unknown[:3]}; the configuration is of another model")
    wrong = [name for name in own if own[name].shape != tensors[name].shape]
    if wrong:
        raise StorageError(f"{path} does not fit at {wrong[0]}: it holds {tuple(tensors[wrong[0]].shape)}, expected "
                           f"{tuple(own[wrong[0]].shape)} ({len(wrong)} such tensors)")
    for name, tensor in tensors.items():
        require_finite(path, name, tensor)
    part.load_state_dict(tensors)


def require_finite(path: str | os.PathLike, name: str, tensor: torch.Tensor, error: type = StorageError) -> None:
    """``error`` if a weight is NaN or infinite; tensors of integers pass."""
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise error(f"{path} holds NaN or infinite values in {name}: the training that wrote it had diverged, or the "
                    "file is damaged; take an earlier checkpoint")


def _save_tokenizer(model: AnyText2Model, root: Path) -> str:
    """Write the tokenizer and return its name for the configuration; unchanged if its files are missing.

    Upstream's checkpoints hold no tokenizer, so a converted model may have none; encoding a caption raises then.
    """
    try:
        model.tokenizer.save_pretrained(str(root / TOKENIZER))
    except TokenizerError:
        return model.config["tokenizer"]
    return TOKENIZER


def _stored(part: nn.Module, dtype: torch.dtype | None) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in part.state_dict().items():
        value = whole(value.detach()).cpu().contiguous()
        yield name, value if dtype is None or not value.is_floating_point() else value.to(dtype)


def _is_packaged(recognizer: nn.Module) -> bool:
    """Whether its weights are exactly those in the package."""
    packaged = PPOCRv3Network.from_pretrained().state_dict()
    own = recognizer.state_dict()
    return all(torch.equal(own[name].cpu().float(), value.float()) for name, value in packaged.items())
