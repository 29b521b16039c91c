"""Which tensor of upstream's checkpoint is which of ours: every one is accounted for before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from anytext_lib.diffusion import SCHEDULE_BUFFERS
from anytext_lib.models.checkpoint_files import CheckpointError, Entry
from anytext_lib.models.upstream_keys import PARTS, KeyMap, UnknownKeysError

UNUSED = frozenset(SCHEDULE_BUFFERS) | {"cond_stage_model.transformer.text_model.embeddings.position_ids"}
"""What this library computes instead of storing: kept aside, so that the way back gives the same file."""


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

    used: dict[str, tuple[str, str]] = field(default_factory=dict)
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


def account_upstream(entries: Mapping[str, Entry], model: torch.nn.Module, where: str) -> Account:
    """Assign every tensor of upstream's file to one of ``model``.

    Args:
        entries: of the file. ``model``: an AnyText2Model, on the meta device or not. ``where``: for messages.

    Raises:
        UnknownKeysError: the file has tensors that the model does not. CheckpointError: it lacks some of the model's,
        or they have other shapes.
    """
    maps, account, found, unexpected = key_maps(model), Account(), {}, []
    for name, entry in entries.items():
        part, ours = _ours(name, maps)
        if name in UNUSED:
            account.unused.append(name)
        elif ours is None:
            unexpected.append(name)
        else:
            account.used[name] = part, ours
            account.renamed += ours != name.removeprefix(PARTS[part].prefix)
            found[part, ours] = Entry(entry.dtype, shape_by(maps[part].shape_to_ours, ours, entry.shape))
    expected = expected_shapes(model)
    unexpected += [name for name, place in account.used.items() if place not in expected]
    if unexpected:
        raise UnknownKeysError(unexpected, f"{where}; is it a checkpoint of AnyText2, and of the size of the "
                                           "configuration (--config)?")
    _refuse_others(expected, found, where, maps)
    account.sizes = sizes(found)
    return account


def expected_shapes(model: torch.nn.Module) -> dict[tuple[str, str], tuple[int, ...]]:
    """Shape of every stored tensor of an AnyText2Model by (part, name in the part)."""
    return {(part, name): tuple(value.shape) for part in PARTS
            for name, value in getattr(model, part).state_dict().items()}


def shape_by(change: Callable[[str, torch.Tensor], torch.Tensor], ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What becomes of ``shape`` by one of ``KeyMap``'s changes of shape."""
    return tuple(change(ours, torch.empty(shape, device="meta")).shape)


def sizes(found: Mapping[tuple[str, str], Entry]) -> dict[str, tuple[int, int]]:
    """(tensors, values) of each part that has any."""
    members = {part: [entry for (owner, _), entry in found.items() if owner == part] for part in PARTS}
    return {part: (len(own), sum(entry.count for entry in own)) for part, own in members.items() if own}


def _ours(name: str, maps: Mapping[str, KeyMap]) -> tuple[str, str | None]:
    for part, (prefix, _) in PARTS.items():
        if name.startswith(prefix):
            return part, maps[part].to_ours(name.removeprefix(prefix))
    return "", None


def _refuse_others(expected: Mapping, found: Mapping[tuple[str, str], Entry], where: str,
                   maps: Mapping[str, KeyMap]) -> None:
    """CheckpointError if something expected was not found, or has another shape; named as upstream names it."""
    def named(places: list[tuple[str, str]]) -> str:
        names = [f"{PARTS[part].prefix}{maps[part].to_upstream(name) or name}" for part, name in places[:5]]
        return ", ".join(names) + (", ..." if len(places) > 5 else "")

    missing = [place for place in expected if place not in found]
    if missing:
        raise CheckpointError(f"{where} lacks {len(missing)} tensors of the model: {named(missing)}; it is incomplete, "
                              "or of another size than the configuration (--config)")
    wrong = [place for place, entry in found.items() if entry.shape != expected[place]]
    if wrong:
        raise CheckpointError(f"{where} does not fit at {named(wrong[:1])}: it holds {found[wrong[0]].shape}, expected "
                              f"{expected[wrong[0]]} ({len(wrong)} such tensors); it is of another size than the "
                              "configuration (--config)")
