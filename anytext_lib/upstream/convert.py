"""Upstream's checkpoint to a folder of this library and back, bit for bit.

The folder is the one of ``models.storage``, and has one file more: ``upstream.safetensors`` with the tensors of
upstream that nothing here uses (noise schedule), so that the way back restores them; and ``generation.json`` with the
added and the negative prompt of upstream's application, and its hollow font hints.

Tensors stay in the mapped source until they are written, so that a conversion takes no memory beside that map.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch

from anytext_lib.diffusion import schedule_buffers
from anytext_lib.files import atomic_path
from anytext_lib.models import storage
from anytext_lib.models.anytext2 import AnyText2Model
from anytext_lib.models.caption_encoder import TokenizerError, load_tokenizer
from anytext_lib.ocr.network import PPOCRv3Network
from anytext_lib.upstream.checkpoint import (
    Account,
    CheckpointError,
    Place,
    account_upstream,
    expected_shapes,
    key_maps,
    read_checkpoint,
    sizes,
)
from anytext_lib.upstream.keys import PARTS, State, UnknownKeysError

ASIDE = "upstream.safetensors"
SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors")
Source = str | os.PathLike
ADDED_PROMPT = ("best quality, extremely detailed,4k, HD, supper legible text,  clear text edges,  clear strokes, "
                "neat writing, no watermarks")
"""What AnyText2's own application appends to every caption; its spelling is part of what was tuned."""
NEGATIVE_PROMPT = ("low-res, bad anatomy, extra digit, fewer digits, cropped, worst quality, low quality, watermark, "
                   "unreadable text, messy words, distorted text, disorganized writing, advertising picture")
"""The negative caption of AnyText2's own application."""


def meta_model(config: Source | Mapping, tokenizer: Source | None = None) -> AnyText2Model:
    """A model without memory: names, shapes and configurations."""
    with torch.device("meta"):
        return AnyText2Model(config, None if tokenizer is None else str(tokenizer))


def account(path: Source, config: Source | Mapping = "sd15") -> Account:
    """Account for every tensor of upstream's file without writing anything; errors as in ``from_upstream``."""
    return account_upstream(read_checkpoint(path), meta_model(config), str(path))


# upstream's file to a folder


def from_upstream(path: Source, target: Source, config: Source | Mapping = "sd15", tokenizer: Source | None = None,
                  force: bool = False) -> Account:
    """Write upstream's checkpoint as a folder for ``AnyText2Model.from_pretrained``, in the dtypes that it has.

    Args:
        path: .ckpt or .safetensors. ``target``: the folder, made whole or not at all.
        config: the size, see ``AnyText2Model.from_config``.
        tokenizer: folder with CLIP's tokenizer files, which upstream's checkpoint lacks; None: what ``config`` names,
            or none.
        force: replace an existing folder.

    Raises:
        CheckpointError: the file is damaged, incomplete or of another size, or there is no room.
        UnknownKeysError: it has tensors that the model does not. TokenizerError: ``tokenizer`` is none.
    """
    state, model = read_checkpoint(path), meta_model(config)
    found = account_upstream(state, model, str(path))
    with atomic_folder(Path(target), force) as root:
        require_room(root, state.values())
        for part, tensors in _by_part(state, found, model, path).items():
            storage.save_part(getattr(model, part), tensors, root / part)
        if found.unused:
            storage.save_tensors({name: state[name] for name in found.unused}, root / ASIDE)
        _save_tokenizer(root, model, tokenizer)
        storage.save_config(model, root, "tokenizer")
        _save_prompts(root)
    return found


def model_from_upstream(path: Source, config: Source | Mapping = "sd15", tokenizer: Source | None = None,
                        device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> AnyText2Model:
    """A model straight from upstream's checkpoint, in evaluation mode; arguments and errors as in ``from_upstream``."""
    state, model = read_checkpoint(path), meta_model(config, tokenizer)
    parts = _by_part(state, account_upstream(state, model, str(path)), model, path)
    return model.materialise(lambda part: getattr(model, part).load_state_dict(parts[part]), device, dtype)


def _by_part(state: State, found: Account, model: AnyText2Model, path: Source) -> dict[str, State]:
    """Upstream's tensors as state dicts of our parts; CheckpointError for a weight that is NaN or infinite."""
    parts = {part: {} for part in PARTS}
    for name, (part, _) in found.used.items():
        storage.require_finite(path, name, state[name], CheckpointError)
        parts[part][name.removeprefix(PARTS[part].prefix)] = state[name]
    return {part: names.state_to_ours(parts[part]) for part, names in key_maps(model).items()}


def _save_tokenizer(root: Path, model: AnyText2Model, tokenizer: Source | None) -> None:
    try:
        chosen = load_tokenizer(tokenizer or model.config["tokenizer"], model.text_encoder.config.vocab_size)
    except TokenizerError:
        if tokenizer:
            raise
        return
    chosen.save_pretrained(str(root / "tokenizer"))


def _save_prompts(root: Path) -> None:
    """Write the prompts that upstream's own application adds to every caption, and how it shows fonts."""
    prompts = {"added_prompt": ADDED_PROMPT, "negative_prompt": NEGATIVE_PROMPT, "font_hint": "hollow"}
    (root / "generation.json").write_text(json.dumps(prompts, indent=2) + "\n", encoding="utf-8")


# a folder to upstream's file


def to_upstream(folder: Source, target: Source, force: bool = False) -> Account:
    """Write a folder of this library as one file with upstream's names, in the dtypes that it has.

    Args:
        folder: written by ``from_upstream`` or by ``AnyText2Model.save_pretrained``.
        target: .safetensors, or .ckpt, .pth or .pt for PyTorch's format. ``force``: replace an existing file.

    Raises:
        StorageError, CheckpointError: the folder is none of a model, or damaged; there is no room; another suffix.
        UnknownKeysError: a part has tensors that its configuration does not.
    """
    target, root = Path(target), Path(folder)
    if target.suffix not in SUFFIXES:
        raise CheckpointError(f"{target} has the ending {target.suffix!r}: choose one of {', '.join(SUFFIXES)}")
    if target.exists() and not force:
        raise CheckpointError(f"{target} is there already: choose another place, or --force to replace it")
    if not (root / storage.CONFIG).is_file():
        raise storage.StorageError(f"no model in {root}: the file {storage.CONFIG} is missing")
    model = meta_model(root / storage.CONFIG)
    found, state = _upstream_state(root, model)
    target.parent.mkdir(parents=True, exist_ok=True)
    require_room(target.parent, state.values())
    for name, (part, _) in found.used.items():
        storage.require_finite(root / part, name.removeprefix(PARTS[part].prefix), state[name], CheckpointError)
    with atomic_path(target) as temporary:
        storage.save_tensors(state, temporary, torch_format=target.suffix != ".safetensors")
    return found


def _upstream_state(root: Path, model: AnyText2Model) -> tuple[Account, State]:
    """The account of a folder, and its tensors by upstream's names: what was kept aside, else computed anew, first."""
    maps, found, places = key_maps(model), Account(), {}
    kept = (root / ASIDE).is_file()
    state = read_checkpoint(root / ASIDE) if kept else schedule_buffers(model.config["scheduler"])
    found.unused, found.filled = list(state), [] if kept else list(state)
    for part, (prefix, _) in PARTS.items():
        for name, tensor in _stored_part(root, part, model).items():
            ours = name.removeprefix("text_model.") if part == "text_encoder" else name
            theirs = maps[part].to_upstream(ours)
            if theirs is None or ours not in getattr(model, part).state_dict():
                raise UnknownKeysError([name], str(root / part))
            found.renamed += theirs != ours
            found.used[prefix + theirs] = part, ours
            places[part, ours] = tensor
            state[prefix + theirs] = maps[part].shape_to_upstream(ours, tensor)
    _refuse_incomplete(root, expected_shapes(model), places)
    found.sizes = sizes(places)
    return found, state


def _stored_part(root: Path, part: str, model: AnyText2Model) -> State:
    if part == "recognizer" and model.config.get("recognizer") == storage.PACKAGED:
        return PPOCRv3Network.from_pretrained().state_dict()
    return read_checkpoint(root / part / storage.WEIGHTS[part])


def _refuse_incomplete(root: Path, expected: Mapping[Place, torch.Size], places: Mapping[Place, torch.Tensor]) -> None:
    missing = [".".join(place) for place in expected if place not in places]
    wrong = [".".join(place) for place, tensor in places.items() if tensor.shape != expected[place]]
    if missing or wrong:
        raise storage.StorageError(f"{root} does not fit its configuration: {len(missing)} tensors are missing "
                                   f"{missing[:3]}, {len(wrong)} have another shape {wrong[:3]}")


# files that appear whole or not at all


def require_room(folder: Path, tensors: Iterable[torch.Tensor]) -> None:
    """CheckpointError if the disk of ``folder`` has not enough room for ``tensors``."""
    needed, free = sum(tensor.nbytes for tensor in tensors), shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(f"{folder} has {free / 1e9:.2f} GB left, but {needed / 1e9:.2f} GB are to be written: "
                              "free some space or choose another disk")


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
