"""Weights of the networks that metrics are computed with: local files, checked, and never downloaded in silence."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from anytext_lib.errors import AnyTextError

FOLDER = "ANYTEXT_WEIGHTS"  # environment variable: where such files lie
_HASH_DIGITS = 8


class MetricWeightsError(AnyTextError, RuntimeError):
    """Weights are missing or damaged; the message says which, where they belong and how to get them."""


@dataclass(frozen=True)
class KnownWeights:
    """A file that others publish.

    Attributes:
        what: the metric that needs it. ``file``: its name, which ends in the first eight digits of its SHA-256.
        url: where it is.
    """

    what: str
    file: str
    url: str

    def find(self, path: str | os.PathLike | None = None) -> Path:
        """The file: ``path``, else in the folder that ANYTEXT_WEIGHTS names.

        Raises:
            MetricWeightsError: it is not there, or its hash is not the one in its name.
        """
        folder = os.environ.get(FOLDER)
        place = Path(path) if path is not None else Path(folder) / self.file if folder else None
        if place is None or not place.is_file():
            looked = f"there is no file {place}" if place is not None else f"the variable {FOLDER} names no folder"
            raise MetricWeightsError(f"{self.what} needs {self.file}, and {looked}. Fetch it once:\n"
                                     f"    curl -LO {self.url}\n"
                                     f"and name it by --weights, or put it into a folder and let {FOLDER} name that")
        if place.name == self.file:
            self._check(place)
        return place

    def _check(self, place: Path) -> None:
        wanted = place.stem.rsplit("-", 1)[-1]
        with open(place, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found[:_HASH_DIGITS] != wanted:
            raise MetricWeightsError(f"{place} is damaged: its SHA-256 begins with {found[:_HASH_DIGITS]}, not "
                                     f"{wanted}. Fetch it again: curl -LO {self.url}")


def load_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Tensors of a .pth (read without executing code) or .safetensors file; MetricWeightsError if it is neither."""
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MetricWeightsError(f"{path} cannot be read as weights ({type(error).__name__}: "
                                 f"{str(error).splitlines()[0]}): fetch it again") from error


def load_into(network: torch.nn.Module, tensors: dict[str, torch.Tensor], where: str) -> None:
    """Fill a network; MetricWeightsError names tensors that are missing, left over, of another shape, or not finite."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()
              if not name.endswith("num_batches_tracked")}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    odd = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if odd:
        raise MetricWeightsError(f"{where} does not hold {type(network).__name__}: {len(odd)} tensors are missing, "
                                 f"left over or of another shape, as {', '.join(odd[:3])}")
    if bad := sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()):
        raise MetricWeightsError(f"{where}: the tensor {bad[0]} holds NaN or infinite numbers ({len(bad)} such "
                                 "tensors): the file is damaged, fetch it again")
    network.load_state_dict(tensors, strict=False)
