"""Reading upstream's checkpoints, and an account of every tensor before anything is written.

Files are PyTorch's zip (.ckpt, .pth, .bin) or safetensors.  The official checkpoint holds 6 GB: the file is mapped, its
tensors lie in the map, and pages are read when a tensor is used; they are the system's to drop, and count as no memory.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from anytext_lib.diffusion import SCHEDULE_BUFFERS
from anytext_lib.errors import AnyTextError
from anytext_lib.upstream.keys import PARTS, KeyMap, State, UnknownKeysError

POINTER = b"version https://git-lfs"
DTYPES = {"F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL"}  # of safetensors, that are read
UNUSED = frozenset(SCHEDULE_BUFFERS) | {"cond_stage_model.transformer.text_model.embeddings.position_ids"}
"""Tensors that this library computes: kept aside, so that the way back gives the same file."""
FIRST_VERSION = "control_model.fuse_block.weight"
"""A tensor that AnyText has; AnyText2 calls its own ``fuse_block_za``."""
Place = tuple[str, str]  # part and name of a tensor of an AnyText2Model


class CheckpointError(AnyTextError, ValueError):
    """A file of tensors is missing, damaged, unsafe or of another kind; the message says which and what to do."""


def read_checkpoint(path: Path | str) -> State:
    """The tensors of a file by name, in the order of the file.

    Args:
        path: a zip written by ``torch.save`` or a safetensors file; the content tells which, not the name.

    Raises:
        CheckpointError: no such file, a damaged one, one that holds other things than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with open(path, "rb") as file:
            start = file.read(len(POINTER))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): change its permissions or copy it "
                              "again") from error
    if start[:2] == b"PK":
        return _read_torch(path)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start == POINTER:
        raise CheckpointError(f"{path} is only a pointer of git-lfs to the checkpoint: fetch it by `git lfs pull`")
    if start[:1] == b"\x80":
        raise CheckpointError(f"{path} is in PyTorch's format of before 2020, or a plain pickle: load it where "
                              "you trust it and write its state_dict again with torch.save")
    raise CheckpointError(f"{path} is neither a checkpoint of PyTorch nor safetensors ({path.stat().st_size} bytes, "
                          f"starting with {start[:9]!r}): fetch it again; a web page may have been saved in its place")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _read_torch(path: Path) -> State:
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
    return dict(state)


def _read_safetensors(path: Path) -> State:
    try:
        handle = safe_open(path, framework="pt")
        names = list(handle.keys())
        unknown = sorted({handle.get_slice(name).get_dtype() for name in names} - DTYPES)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: it is damaged or cut off ({error}); it has "
                              f"{path.stat().st_size} bytes: fetch it again") from error
    if unknown:
        raise CheckpointError(f"{path} holds tensors of the dtypes {unknown}, which are not supported: store them as "
                              "float32, float16 or bfloat16")
    return {name: handle.get_tensor(name) for name in names}


@dataclass
class Account:
    """Where each tensor goes.

    Attributes:
        used: (part, our name) of each of upstream's names.
        renamed: how many of these have another name here, not counting the prefix of the part.
        unused: upstream's names of what is kept aside. ``filled``: upstream's names of what is missing on the side that
            is read but follows from elsewhere (the schedule, the packaged recogniser).
        sizes: (tensors, values) of each part.
    """

    used: dict[str, Place] = field(default_factory=dict)
    renamed: int = 0
    unused: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        total = sum(tensors for tensors, _ in self.sizes.values()), sum(values for _, values in self.sizes.values())
        rows = [f"  {part:<16}{tensors:>6} tensors {values:>15,} values" for part, (tensors, values) in
                {**self.sizes, "all": total}.items()]
        return "\n".join([
            f"{len(self.used) + len(self.unused)} tensors: {len(self.used)} used ({self.renamed} of them renamed), "
            f"{len(self.unused)} unused here and kept aside, 0 missing, 0 unexpected",
            *rows,
            *([f"  computed here, not read: {len(self.filled)} ({self.filled[0]}, ...)"] if self.filled else []),
        ])


def key_maps(model: torch.nn.Module) -> dict[str, KeyMap]:
    """The table of names of each part of an AnyText2Model (the meta device is enough)."""
    configs = {"unet": model.unet.config, "writenet": model.writenet.config, "vae": model.vae.config}
    return {part: KeyMap(part, configs.get(part)) for part in PARTS}


def account_upstream(state: Mapping[str, torch.Tensor], model: torch.nn.Module, where: str) -> Account:
    """Assign every tensor of upstream's file to one of ``model``.

    Args:
        state: of the file. ``model``: an AnyText2Model. Both may be on the meta device. ``where``: for messages.

    Raises:
        UnknownKeysError: the file has tensors that the model does not. CheckpointError: it lacks some of the model's,
        or they have other shapes, or it is of AnyText version 1.
    """
    if FIRST_VERSION in state:
        raise CheckpointError(f"{where} is a checkpoint of AnyText, version 1 (as anytext_v1.1.ckpt), which is another "
                              "model: its control branch and its text embedding differ, and it has no AttnX. Take one "
                              "of AnyText2, anytext_v2.0.ckpt; README.md has the addresses")
    maps, account, found, unexpected = key_maps(model), Account(), {}, []
    for name, tensor in state.items():
        part, ours = _ours(name, maps)
        if name in UNUSED:
            account.unused.append(name)
        elif ours is None:
            unexpected.append(name)
        else:
            account.used[name] = part, ours
            account.renamed += ours != name.removeprefix(PARTS[part].prefix)
            found[part, ours] = maps[part].shape_to_ours(ours, tensor)
    expected = expected_shapes(model)
    unexpected += [name for name, place in account.used.items() if place not in expected]
    if unexpected:
        raise UnknownKeysError(unexpected, f"{where}; is it a checkpoint of AnyText2, and of the size of the "
                                           "configuration (--config)?")
    _refuse_others(expected, found, where, maps)
    account.sizes = sizes(found)
    return account


def expected_shapes(model: torch.nn.Module) -> dict[Place, torch.Size]:
    """Shape of every stored tensor of an AnyText2Model by (part, name in the part)."""
    return {(part, name): value.shape for part in PARTS for name, value in getattr(model, part).state_dict().items()}


def sizes(found: Mapping[Place, torch.Tensor]) -> dict[str, tuple[int, int]]:
    """(tensors, values) of each part that has any."""
    members = {part: [tensor for (owner, _), tensor in found.items() if owner == part] for part in PARTS}
    return {part: (len(own), sum(tensor.numel() for tensor in own)) for part, own in members.items() if own}


def _ours(name: str, maps: Mapping[str, KeyMap]) -> tuple[str, str | None]:
    for part, (prefix, _) in PARTS.items():
        if name.startswith(prefix):
            return part, maps[part].to_ours(name.removeprefix(prefix))
    return "", None


def _refuse_others(expected: Mapping[Place, torch.Size], found: Mapping[Place, torch.Tensor], where: str,
                   maps: Mapping[str, KeyMap]) -> None:
    """CheckpointError if something expected was not found, or has another shape; named as upstream names it."""
    def named(places: list[Place]) -> str:
        names = [f"{PARTS[part].prefix}{maps[part].to_upstream(name) or name}" for part, name in places[:5]]
        return ", ".join(names) + (", ..." if len(places) > 5 else "")

    missing = [place for place in expected if place not in found]
    if missing:
        raise CheckpointError(f"{where} lacks {len(missing)} tensors of the model: {named(missing)}; it is incomplete, "
                              "or of another size than the configuration (--config)")
    wrong = [place for place, tensor in found.items() if tensor.shape != expected[place]]
    if wrong:
        raise CheckpointError(f"{where} does not fit at {named(wrong[:1])}: it holds {tuple(found[wrong[0]].shape)}, "
                              f"expected {tuple(expected[wrong[0]])} ({len(wrong)} such tensors); it is of another "
                              "size than the configuration (--config)")
