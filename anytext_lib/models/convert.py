"""Upstream's checkpoint to a folder of this library and back, one tensor at a time and bit for bit.

The folder is the one of ``storage``, and has one file more: ``upstream.safetensors`` with the tensors of upstream that
nothing here uses (noise schedule), so that the way back restores them; and ``generation.json`` with the added and the
negative prompt of upstream's application.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from anytext_lib.diffusion import schedule_buffers
from anytext_lib.files import atomic_path
from anytext_lib.models import storage
from anytext_lib.models.accounting import Account, account_upstream, expected_shapes, key_maps, shape_by, sizes
from anytext_lib.models.anytext2 import AnyText2Model
from anytext_lib.models.checkpoint_files import Checkpoint, CheckpointError, Entry, require_finite
from anytext_lib.models.checkpoint_writers import SafetensorsWriter, atomic_folder, require_room, writer
from anytext_lib.models.config import FORMAT
from anytext_lib.models.tokenizers import TokenizerError, load_tokenizer
from anytext_lib.models.upstream_keys import PARTS, UnknownKeysError
from anytext_lib.ocr.trainable import TrainableRecognizer

ASIDE = "upstream.safetensors"
SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors")
Source = str | os.PathLike


def meta_model(config: Source | Mapping) -> AnyText2Model:
    """A model without memory: names, shapes and configurations."""
    with torch.device("meta"):
        return AnyText2Model(config)


def account(path: Source, config: Source | Mapping = "sd15") -> Account:
    """Which tensor of upstream's file is which, without writing anything; errors as in ``from_upstream``."""
    return account_upstream(Checkpoint(path).entries, meta_model(config), str(path))


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
    source, model = Checkpoint(path), meta_model(config)
    found, maps = account_upstream(source.entries, model, str(path)), key_maps(model)
    with atomic_folder(Path(target), force) as root, contextlib.ExitStack() as files:
        writers = {part: files.enter_context(file) for part, file in _part_writers(root, model, source, found).items()}
        for name, tensor in source.tensors():
            part, ours = found.used.get(name, (ASIDE, name))
            if part != ASIDE:
                require_finite(path, name, tensor)
            writers[part].write(ours, tensor if part == ASIDE else maps[part].shape_to_ours(ours, tensor))
        files.close()
        _save_tokenizer(root, model, tokenizer)
        written = model.config | {"format": FORMAT, "tokenizer": "tokenizer", "recognizer": "recognizer"}
        (root / storage.CONFIG).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        _save_prompts(root)
    return found


def _save_prompts(root: Path) -> None:
    """What upstream's own application tells every picture, so that ours do not differ for lack of it."""
    from anytext_lib.generation.request import UPSTREAM_ADDED, UPSTREAM_NEGATIVE, Defaults

    Defaults(added_prompt=UPSTREAM_ADDED, negative_prompt=UPSTREAM_NEGATIVE).write(root)


def _part_writers(root: Path, model: AnyText2Model, source: Checkpoint, found: Account) -> dict[str, SafetensorsWriter]:
    """A safetensors file for each part, with its configuration beside it, and one for what is kept aside."""
    require_room(root, source.entries.values())
    shapes, entries = expected_shapes(model), {part: {} for part in PARTS}
    for name, (part, ours) in found.used.items():
        entries[part][ours] = Entry(source.entries[name].dtype, shapes[part, ours])
    for part in PARTS:
        (root / part).mkdir()
        own = getattr(model, part)
        if hasattr(own, "save_config"):
            own.save_config(root / part)
        elif hasattr(own, "config"):
            own.config.to_json_file(root / part / "config.json")
    writers = {part: writer(root / part / storage.WEIGHTS[part], entries[part], ".safetensors") for part in PARTS}
    if found.unused:
        writers[ASIDE] = writer(root / ASIDE, {name: source.entries[name] for name in found.unused}, ".safetensors")
    return writers


def _save_tokenizer(root: Path, model: AnyText2Model, tokenizer: Source | None) -> None:
    try:
        chosen = load_tokenizer(tokenizer or model.config["tokenizer"], model.text_encoder.config.vocab_size)
    except TokenizerError:
        if tokenizer:
            raise
        return
    chosen.save_pretrained(str(root / "tokenizer"))


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
    parts, maps = _stored_parts(root, model), key_maps(model)
    found, entries = _account_folder(root, model, parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    require_room(target.parent, entries.values())
    with atomic_path(target) as temporary, writer(temporary, entries, target.suffix) as file:
        for part, (_, tensors) in parts.items():
            prefix = PARTS[part].prefix if part in PARTS else ""
            for name, tensor in tensors():
                if prefix:
                    require_finite(root / part, name, tensor)
                theirs = prefix + maps[part].to_upstream(name) if prefix else name
                file.write(theirs, maps[part].shape_to_upstream(name, tensor) if prefix else tensor)
    return found


Tensors = Iterator[tuple[str, torch.Tensor]]


def _stored_parts(root: Path, model: AnyText2Model) -> dict:
    """(entries, function that reads the tensors) of each part and of what was kept aside, else computed anew."""
    parts = {}
    for part, file in storage.WEIGHTS.items():
        if part == "recognizer" and model.config.get("recognizer") == storage.PACKAGED:
            parts[part] = _in_memory(TrainableRecognizer.from_pretrained().state_dict())
        else:
            checkpoint = Checkpoint(root / part / file)
            parts[part] = checkpoint.entries, checkpoint.tensors
    aside = Checkpoint(root / ASIDE) if (root / ASIDE).is_file() else None
    parts[ASIDE] = (aside.entries, aside.tensors) if aside else _in_memory(schedule_buffers(model.config["scheduler"]))
    return parts


def _in_memory(state: Mapping[str, torch.Tensor]) -> tuple:
    entries = {name: Entry(value.dtype, tuple(value.shape)) for name, value in state.items()}
    return entries, lambda: iter([(name, value.contiguous()) for name, value in state.items()])


def _account_folder(root: Path, model: AnyText2Model, parts: Mapping) -> tuple[Account, dict[str, Entry]]:
    """The account of a folder, and the entries of the file to write."""
    maps, expected, found, entries, places = key_maps(model), expected_shapes(model), Account(), {}, {}
    for part in PARTS:
        for name, entry in parts[part][0].items():
            ours = name.removeprefix("text_model.") if part == "text_encoder" else name
            if (part, ours) not in expected or maps[part].to_upstream(ours) is None:
                raise UnknownKeysError([name], str(root / part))
            theirs = maps[part].to_upstream(ours)
            found.renamed += theirs != ours
            found.used[PARTS[part].prefix + theirs] = part, ours
            places[part, ours] = entry
            entries[PARTS[part].prefix + theirs] = Entry(
                entry.dtype, shape_by(maps[part].shape_to_upstream, ours, entry.shape))
    _refuse_incomplete(root, expected, places)
    found.unused = list(parts[ASIDE][0])
    found.filled = [] if (root / ASIDE).is_file() else list(found.unused)
    found.sizes = sizes(places)
    return found, {**parts[ASIDE][0], **entries}


def _refuse_incomplete(root: Path, expected: Mapping, places: Mapping[tuple[str, str], Entry]) -> None:
    missing = [".".join(place) for place in expected if place not in places]
    wrong = [".".join(place) for place, entry in places.items() if entry.shape != expected[place]]
    if missing or wrong:
        raise storage.StorageError(f"{root} does not fit its configuration: {len(missing)} tensors are missing "
                                   f"{missing[:3]}, {len(wrong)} have another shape {wrong[:3]}")


def model_from_upstream(path: Source, config: Source | Mapping = "sd15", tokenizer: Source | None = None,
                        device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> AnyText2Model:
    """A model straight from upstream's checkpoint, in evaluation mode; arguments and errors as in ``from_upstream``."""
    source = Checkpoint(path)
    with torch.device("meta"):
        model = AnyText2Model(config, tokenizer)
    found, maps = account_upstream(source.entries, model, str(path)), key_maps(model)
    model.to_empty(device="cpu")
    model.text_encoder.embeddings.position_ids = storage._position_ids(model.text_encoder)
    _fill(model, source, found.used, maps)
    for part in PARTS:
        getattr(model, part).to(device=device, dtype=torch.float32 if part == "recognizer" else dtype)
    return model.eval()


def _fill(model: AnyText2Model, source: Checkpoint, used: Mapping[str, tuple[str, str]], maps: Mapping) -> None:
    states = {part: getattr(model, part).state_dict() for part in PARTS}
    with torch.no_grad():
        for name, tensor in source.tensors(used):
            require_finite(source.path, name, tensor)
            part, ours = used[name]
            states[part][ours].copy_(maps[part].shape_to_ours(ours, tensor))
