"""Writing files of tensors one tensor at a time, and folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from anytext_lib.models.checkpoint_files import CODES, CheckpointError, Entry

SAFETENSORS = ".safetensors"
STORAGES = {torch.float32: torch.FloatStorage, torch.float16: torch.HalfStorage, torch.bfloat16: torch.BFloat16Storage,
            torch.float64: torch.DoubleStorage, torch.int64: torch.LongStorage, torch.int32: torch.IntStorage,
            torch.int16: torch.ShortStorage, torch.int8: torch.CharStorage, torch.uint8: torch.ByteStorage,
            torch.bool: torch.BoolStorage}


class Writer(Protocol):
    """Takes the tensors that were announced, in any order; as a context manager it finishes the file."""

    def write(self, name: str, tensor: torch.Tensor) -> None: ...

    def __enter__(self) -> Writer: ...

    def __exit__(self, kind, error, trace) -> None: ...


class SafetensorsWriter:
    """A safetensors file whose tensors are written as they come."""

    def __init__(self, path: Path, entries: Mapping[str, Entry]):
        self._entries, self._left = entries, set(entries)
        header, self._offsets, end = {"__metadata__": {"format": "pt"}}, {}, 0
        for name in sorted(entries, key=lambda name: (-entries[name].dtype.itemsize, name)):  # so all are aligned
            entry = entries[name]
            self._offsets[name], end = end, end + entry.bytes
            header[name] = {"dtype": CODES[entry.dtype], "shape": entry.shape, "data_offsets": [end - entry.bytes, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._start, self._file = 8 + len(text), open(path, "wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(self._start + end)

    def write(self, name: str, tensor: torch.Tensor) -> None:
        content = content_of(name, tensor, self._entries[name])
        self._file.seek(self._start + self._offsets[name])
        self._file.write(content)
        self._left.discard(name)

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._file.close()
        assert kind or not self._left, f"not written: {sorted(self._left)[:3]}"


class TorchWriter:
    """A file such as ``torch.save`` writes of a state dict, whose tensors are written as they come."""

    def __init__(self, path: Path, entries: Mapping[str, Entry]):
        self._entries, self._left = entries, set(entries)
        self._keys = {name: str(i) for i, name in enumerate(entries)}
        self._file = open(path, "wb")
        self._zip = torch._C.PyTorchFileWriter(self._file)
        buffer = io.BytesIO()
        pickler = _StatePickler(buffer, protocol=2)
        pickler.dump(OrderedDict((name, _Tensor(entry, self._keys[name])) for name, entry in entries.items()))
        for record, content in (("data.pkl", buffer.getvalue()), ("byteorder", sys.byteorder.encode())):
            self._zip.write_record(record, content, len(content))

    def write(self, name: str, tensor: torch.Tensor) -> None:
        content = content_of(name, tensor, self._entries[name]).tobytes()
        self._zip.write_record(f"data/{self._keys[name]}", content, len(content))
        self._left.discard(name)

    def __enter__(self) -> TorchWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        with contextlib.suppress(*[Exception] if kind else []):
            self._zip.write_end_of_file()
        self._file.close()
        assert kind or not self._left, f"not written: {sorted(self._left)[:3]}"


class _Storage(NamedTuple):
    entry: Entry
    key: str


class _Tensor:
    """Pickles as a tensor whose values lie in a record of the zip."""

    def __init__(self, entry: Entry, key: str):
        self.storage = _Storage(entry, key)

    def __reduce__(self):
        shape = self.storage.entry.shape
        stride = torch.empty(shape, device="meta").stride()
        return torch._utils._rebuild_tensor_v2, (self.storage, 0, shape, stride, False, OrderedDict())


class _StatePickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, _Storage):
            return "storage", STORAGES[value.entry.dtype], value.key, "cpu", value.entry.count
        return None


def content_of(name: str, tensor: torch.Tensor, entry: Entry) -> memoryview:
    """The bytes of ``tensor``, after a check that it is what ``entry`` announced."""
    assert (tensor.dtype, tuple(tensor.shape)) == tuple(entry), f"{name} is {tensor.dtype} {tuple(tensor.shape)}"
    return memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())


def require_room(folder: Path, entries: Iterable[Entry]) -> None:
    """CheckpointError if the disk of ``folder`` has not enough room for tensors of such sizes."""
    needed, free = sum(entry.bytes for entry in entries), shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(f"{folder} has {free / 1e9:.2f} GB left, but {needed / 1e9:.2f} GB are to be written: "
                              "free some space or choose another disk")


def writer(path: Path, entries: Mapping[str, Entry], suffix: str) -> Writer:
    """A writer of the kind that ``suffix`` names: safetensors, or else PyTorch's."""
    return (SafetensorsWriter if suffix == SAFETENSORS else TorchWriter)(path, entries)


@contextlib.contextmanager
def atomic_folder(target: Path, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``target``, renamed to it when the block ends well and removed when it does not.

    Raises:
        CheckpointError: ``target`` is there and not empty, unless ``force`` says to replace it.
    """
    if target.exists() and not force and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} is there already: choose another place, or --force to replace it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(temporary, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
