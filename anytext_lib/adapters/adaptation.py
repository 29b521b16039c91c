"""Which files change a model's weights, and putting them into the weights and taking them out again.

Whatever is asked for is computed from the model's own weights: out = own weights or the base model's, plus the sum of
ratio (alpha / r) B A over the LoRA files, added in float32 and rounded once.  So a file that is taken out leaves no
trace, to the last bit, and the order in which files came does not matter beyond the rounding of a sum.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anytext_lib.adapters.base_model import BaseModel, read_base
from anytext_lib.adapters.lora_files import LoraFile, read_lora
from anytext_lib.adapters.low_rank import LoraError
from anytext_lib.files import file_hash


@dataclass(frozen=True)
class Adaptation:
    """The files that change a model.

    Attributes:
        base: file or folder of another base model, see ``read_base``; None keeps the model's own. ``base_vae``: take
            its auto-encoder as well.
        loras: LoRA files (see ``read_lora``), each with its ratio: 1 as trained, 0 nothing, negative the reverse.
    """

    base: str | None = None
    base_vae: bool = False
    loras: tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        if self.base_vae and self.base is None:
            raise LoraError("the auto-encoder of a base model is asked for, but no base model: name one")
        for file, ratio in self.loras:
            if not math.isfinite(ratio):
                raise LoraError(f"the ratio of {file} is {ratio}: give a number, as 0.8")

    @classmethod
    def of(cls, base: str | os.PathLike | None = None, base_vae: bool = False,
           loras: Iterable[str] = ()) -> Adaptation:
        """From the options of a command line or a form: each of ``loras`` is ``FILE`` or ``FILE:RATIO``."""
        return cls(None if base is None else str(base), base_vae, tuple(parse_lora(text) for text in loras))

    def with_lora(self, file: str | os.PathLike, ratio: float = 1.0) -> Adaptation:
        """With one file more, or with another ratio of one that is there."""
        return replace(self, loras=(*self.without_lora(file).loras, (str(file), float(ratio))))

    def without_lora(self, file: str | os.PathLike | None = None) -> Adaptation:
        """Without a file; None: without any."""
        return replace(self, loras=tuple(one for one in self.loras if file is not None and one[0] != str(file)))

    def record(self) -> dict[str, Any]:
        """The files by full path and hash, fit for JSON."""
        base = None if self.base is None else {"path": os.path.abspath(self.base), "sha256": content_hash(self.base),
                                               "vae": self.base_vae}
        return {"base": base, "loras": [{"path": os.path.abspath(file), "sha256": content_hash(file), "ratio": ratio}
                                        for file, ratio in self.loras]}

    @classmethod
    def restore(cls, record: dict[str, Any]) -> Adaptation:
        """The files of a record. LoraError: one is not there any more, or has changed."""
        base = record["base"]
        for entry in [*([base] if base else []), *record["loras"]]:
            if not Path(entry["path"]).exists():
                raise LoraError(f"{entry['path']}, with which the picture was made, is not there any more: put it back")
            if content_hash(entry["path"]) != entry["sha256"]:
                raise LoraError(f"{entry['path']} has changed since the picture was made: find the old version")
        return cls(base["path"] if base else None, bool(base and base["vae"]),
                   tuple((entry["path"], float(entry["ratio"])) for entry in record["loras"]))


def parse_lora(text: str) -> tuple[str, float]:
    """``FILE:RATIO`` or ``FILE`` (ratio 1).

    Raises:
        LoraError: no file, or a ratio that is no number.
    """
    file, colon, ratio = text.strip().rpartition(":")
    if not colon or Path(text.strip()).exists():  # a name may have a colon
        file, ratio = text.strip(), "1"
    try:
        if file:
            return file, float(ratio)
    except ValueError:
        pass
    raise LoraError(f"{text!r} is no LoRA file with a ratio: write FILE or FILE:RATIO, as style.safetensors:0.8")


class Adapter:
    """Keeps a model's weights as an ``Adaptation`` asks.

    The model's own weights are kept on the CPU for what is changed, at most as much again as these layers take.

    Attributes:
        adaptation: what holds now. ``reports``: one line about each file.
    """

    def __init__(self, model: nn.Module):
        self.model, self.adaptation, self.reports = model, Adaptation(), []
        self._own: dict[str, torch.Tensor] = {}

    def apply(self, adaptation: Adaptation) -> list[str]:
        """Change the weights; returns one line about each file.

        Raises:
            LoraError, CheckpointError: a file cannot be used; the weights are as they were before.
        """
        if adaptation == self.adaptation:
            return self.reports
        base = None if adaptation.base is None else read_base(adaptation.base, self.model, adaptation.base_vae)
        loras = [(read_lora(file, self.model), ratio) for file, ratio in adaptation.loras]
        self._set(base, loras)
        self.adaptation = adaptation
        self.reports = ([] if base is None else [f"base model {base}"]) + [
            f"LoRA {file}, ratio {ratio:g}" for file, ratio in loras]
        return self.reports

    @torch.no_grad()
    def _set(self, base: BaseModel | None, loras: Sequence[tuple[LoraFile, float]]) -> None:
        weights = dict(self.model.state_dict(keep_vars=True))
        replaced = {} if base is None else base.tensors
        changed = [f"{name}.weight" for name in dict.fromkeys(name for file, _ in loras for name in file.layers)]
        for name in [*replaced, *changed]:
            self._own.setdefault(name, weights[name].detach().to("cpu", copy=True))
        for name, own in self._own.items():
            weights[name].copy_(replaced.get(name, own))
        for name in changed:
            weight = weights[name]
            layer, source = name.removesuffix(".weight"), replaced.get(name, self._own[name])
            updates = [ratio * file.layers[layer].delta(weight) for file, ratio in loras if layer in file.layers]
            weight.copy_(source.to(weight.device, torch.float32) + sum(updates))
        self._own = {name: self._own[name] for name in dict.fromkeys([*replaced, *changed])}


def content_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file, or of the weights in a folder."""
    import hashlib

    root = Path(path)
    if root.is_file():
        return _file_hash(str(root.resolve()), root.stat().st_mtime_ns)
    files = sorted(file for file in root.rglob("*") if file.suffix in (".safetensors", ".bin", ".json"))
    lines = [f"{file.relative_to(root)} {_file_hash(str(file.resolve()), file.stat().st_mtime_ns)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _file_hash(path: str, changed_ns: int) -> str:
    return file_hash(path)
