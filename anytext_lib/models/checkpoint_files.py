"""Reading files of tensors one tensor at a time: PyTorch's zip (.ckpt, .pth, .bin) and safetensors.

A checkpoint of the official size holds 6 GB.  Here no more than a few hundred MB of it are in memory at once: the file
is mapped, and mapped anew every now and then, so that pages that have been read do not add up.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from anytext_lib.errors import AnyTextError

MAPPED = 512 * 2**20  # bytes to read before the file is mapped anew
POINTER = b"version https://git-lfs"
CODES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64",
         torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


class CheckpointError(AnyTextError, ValueError):
    """A file of tensors is missing, damaged, unsafe or of another kind; the message says which and what to do."""


def require_finite(path: str | os.PathLike, name: str, tensor: torch.Tensor) -> None:
    """CheckpointError if a weight is NaN or infinite; tensors of integers pass."""
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointError(f"{path} holds NaN or infinite values in {name}: the training that wrote it had "
                              "diverged, or the file is damaged; take an earlier checkpoint")


class Entry(NamedTuple):
    """What a file says of a tensor before it is read."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of values."""
        return torch.Size(self.shape).numel()

    @property
    def bytes(self) -> int:
        """Size of the values."""
        return self.count * self.dtype.itemsize


class Checkpoint:
    """The tensors of a file.

    Args:
        path: a zip written by ``torch.save`` or a safetensors file; the content tells which, not the name.

    Attributes:
        entries: dtype and shape of every tensor, by name, in the order of the file.

    Raises:
        CheckpointError: no such file, a damaged one, one that holds other things than tensors.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._open = opener(self.path)
        self.entries, _ = self._open()

    def tensors(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """Names and contiguous CPU tensors, in the order of ``names`` (None: all). Use one before asking for the next:
        it lies in the file."""
        (_, get), read = self._open(), 0
        for name in self.entries if names is None else names:
            if read > MAPPED:
                get, read = None, 0
                _, get = self._open()
            tensor = get(name)
            read += tensor.nbytes
            yield name, tensor.contiguous()
            del tensor


Opened = tuple[dict[str, Entry], Callable[[str], torch.Tensor]]


def opener(path: Path) -> Callable[[], Opened]:
    """A function that maps the file and gives its entries and a function that reads one. CheckpointError: see above."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with open(path, "rb") as file:
            start = file.read(len(POINTER))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): change its permissions or copy it "
                              "again") from error
    if start[:2] == b"PK":
        return lambda: _open_torch(path)
    if start[8:9] == b"{":
        return lambda: _open_safetensors(path)
    if start == POINTER:
        raise CheckpointError(f"{path} is only a pointer of git-lfs to the checkpoint: fetch it by `git lfs pull`")
    if start[:1] == b"\x80":
        raise CheckpointError(f"{path} is in PyTorch's format of before 2020, or a plain pickle: load it where "
                              "you trust it and write its state_dict again with torch.save")
    raise CheckpointError(f"{path} is neither a checkpoint of PyTorch nor safetensors ({path.stat().st_size} bytes, "
                          f"starting with {start[:9]!r}): fetch it again; a web page may have been saved in its place")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _open_torch(path: Path) -> Opened:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds Python objects besides tensors, which are not loaded because that could "
                              f"run code ({_first_line(error)}): keep its state_dict only") from error
    except Exception as error:  # whatever a damaged file makes the reader do
        raise CheckpointError(f"{path} cannot be read: it is damaged or cut off ({_first_line(error)}); "
                              f"it has {path.stat().st_size} bytes: fetch it again") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected named tensors")
    odd = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise CheckpointError(f"{path} holds other things than tensors: {odd[:5]} ({len(odd)} in all)")
    return {name: Entry(value.dtype, tuple(value.shape)) for name, value in state.items()}, state.__getitem__


def _open_safetensors(path: Path) -> Opened:
    try:
        handle = safe_open(path, framework="pt")
        slices = {name: handle.get_slice(name) for name in handle.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: it is damaged or cut off ({error}); it has "
                              f"{path.stat().st_size} bytes: fetch it again") from error
    dtypes = {code: dtype for dtype, code in CODES.items()}
    unknown = sorted({part.get_dtype() for part in slices.values()} - set(dtypes))
    if unknown:
        raise CheckpointError(f"{path} holds tensors of the dtypes {unknown}, which are not supported: store them as "
                              "float32, float16 or bfloat16")
    entries = {name: Entry(dtypes[part.get_dtype()], tuple(part.get_shape())) for name, part in slices.items()}
    return entries, handle.get_tensor
