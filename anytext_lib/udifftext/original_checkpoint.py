"""Upstream's checkpoints of UDiffText: names of its tensors, and ours.

A checkpoint holds, under the names of Stability's generative-models,

==============================  ================================================================================
``model.diffusion_model.``      the UNet, whose text cross-attention is called ``t_attn`` and ``t_norm``
                                (``add_attn`` and ``add_norm`` in the first version)
``first_stage_model.``          the auto-encoder
``conditioner.embedders.N.``    the label encoder, and a copy of the auto-encoder, which encodes the masked picture
``denoiser.``, ``loss_fn.``     noise levels, kernel and reader of the loss: computed here, or not needed
``model_ema.``                  averaged weights, if they were kept: not read
==============================  ================================================================================

Training starts from Stable Diffusion 2's inpainting model (``512-inpainting-ema``), in the names of the same kind: its
text cross-attention reads another encoder, and is replaced by one that is new and silent (output layers of zeros).
Source: UDiffText ``configs/train/textdesign_sd_2.yaml``, ``sgm/modules/attention.py``, ``util.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.models.config import building
from anytext_lib.models.storage import require_finite
from anytext_lib.udifftext.label_encoder import LabelEncoder, LabelEncoderConfig
from anytext_lib.udifftext.model import SIZES, TEXT_ATTENTION, TEXT_NORM, UDiffTextModel
from anytext_lib.upstream.checkpoint import CheckpointError, read_checkpoint
from anytext_lib.upstream.keys import KeyMap, State, UnknownKeysError

UNET, VAE, EMBEDDER = "model.diffusion_model.", "first_stage_model.", re.compile(r"conditioner\.embedders\.\d+\.")
TEXT_NAMES = {"t_attn": "attn2", "t_norm": "norm2", "add_attn": "attn2", "add_norm": "norm2"}
NOT_READ = ("denoiser.", "loss_fn.", "model_ema.", "cond_stage_model.")
PRETRAINING = ("logit_scale", "visual_encoder.", "cls_head.", "pos_head.", "text_head.", "visual_head.")
"""Of the label encoder's own training, in a checkpoint of it."""
PLACES = "pos_embedding.pe"  # sinusoids, computed
SCHEDULE = re.compile(r"(alphas|betas|sqrt|log|posterior|lvlb)\w*")


@dataclass
class Read:
    """What a file gave: ``used`` tensors by part, ``left_out`` by the first part of their names."""

    used: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def leave(self, name: str) -> None:
        """Count a tensor that is not read."""
        first = name.partition(".")[0]
        self.left_out[first] = self.left_out.get(first, 0) + 1

    def __str__(self) -> str:
        used = ", ".join(f"{part} {count}" for part, count in self.used.items())
        left = ", ".join(f"{name} {count}" for name, count in self.left_out.items())
        return f"tensors read: {used}" + (f"; left out: {left}" if left else "")


def size_of(config: str) -> dict:
    """The sizes by their name in ``SIZES``, or from a JSON file like those.

    Raises:
        MissingFileError: neither. OptionError: the file is no JSON object.
    """
    if config in SIZES:
        return dict(SIZES[config])
    path = Path(config)
    if not path.is_file():
        raise MissingFileError(f"there is no size {config!r}: choose one of {', '.join(SIZES)}, or name a JSON file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise OptionError(f"{path} holds no JSON object")
    found.pop("format", None)
    return found


def read_original(path: str | Path, config: str = "sd2") -> tuple[UDiffTextModel, Read]:
    """The model of an upstream checkpoint (.ckpt of PyTorch, read without running code, or .safetensors).

    Args:
        config: see ``size_of``; the masked picture is grey, as upstream, unless it says otherwise.

    Raises:
        CheckpointError: the file is damaged or unsafe, is none of UDiffText, lacks tensors, or is of another size.
        UnknownKeysError: it has tensors that the model does not.
    """
    state, read = read_checkpoint(path), Read()
    parts: dict[str, State] = {"unet": {}, "vae": {}, "label_encoder": {}, "copy": {}}
    for name, tensor in state.items():
        part, inner = _place(name)
        if part is None or part == "label_encoder" and inner == PLACES:
            read.leave(name)
        else:
            parts[part][inner] = tensor
    if not parts["unet"] or not parts["label_encoder"]:
        absent = f"{UNET}*" if not parts["unet"] else "conditioner.embedders.*.label_embedding.weight"
        raise CheckpointError(f"{path} has no tensors {absent}: it is no checkpoint of UDiffText")
    _require_one_autoencoder(path, parts["vae"] or parts["copy"], parts.pop("copy"), read)
    model = _model(config, path)
    _fill(model.unet, unet_state(parts["unet"], model), path, UNET, read, "unet")
    _fill(model.vae, _named(parts["vae"], KeyMap("vae", model.vae.config), path), path, VAE, read, "vae")
    _fill(model.label_encoder, parts["label_encoder"], path, "conditioner.embedders.N.", read, "label_encoder")
    return model.eval(), read


def read_start(path: str | Path, label_encoder: LabelEncoder, config: str = "sd2",
               seed: int = 0) -> tuple[UDiffTextModel, Read]:
    """The model from which training starts: Stable Diffusion 2's inpainting model and a pre-trained label encoder.

    Args:
        path: one file in the original layout. ``seed``: of the new text cross-attention's queries, keys and values.

    Raises:
        as ``read_original``.
    """
    state, read = read_checkpoint(path), Read()
    unet: State = {}
    vae: State = {}
    for name, tensor in state.items():
        if name.startswith(VAE):
            vae[name.removeprefix(VAE)] = tensor
        elif name.startswith(UNET) and not re.search(r"\.(attn2|norm2)\.", name):
            unet[name.removeprefix(UNET)] = tensor
        elif name.startswith(UNET):
            read.leave("attn2")
        elif name.startswith(NOT_READ) or SCHEDULE.fullmatch(name):
            read.leave(name)
        else:
            raise UnknownKeysError([name], f"{path}; is it Stable Diffusion 2's inpainting model?")
    if not unet:
        raise CheckpointError(f"{path} has no tensors {UNET}*: give one file in the original layout, such as "
                              "512-inpainting-ema.safetensors (not a folder of diffusers)")
    torch.manual_seed(seed)
    model = _model(config, path, label_encoder)
    fresh = {name: tensor for name, tensor in model.unet.state_dict().items() if is_text_attention(name)}
    for name, tensor in fresh.items():
        if ".to_out." in name:
            tensor.zero_()
    _fill(model.unet, fresh | unet_state(unet, model), path, UNET, read, "unet", own=len(fresh))
    _fill(model.vae, _named(vae, KeyMap("vae", model.vae.config), path), path, VAE, read, "vae")
    return model.eval(), read


def read_label_encoder(path: str | Path, config: str = "sd2") -> LabelEncoder:
    """A label encoder, frozen: of this library's form, or of upstream's own pre-training.

    Raises:
        CheckpointError: the file is damaged or unsafe, lacks tensors, or is of another size.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            if "config" in (file.metadata() or {}):
                return LabelEncoder.load(path)
    except (SafetensorError, OSError):  # PyTorch's form, or none: the reader below says
        pass
    state, read = read_checkpoint(path), Read()
    own = {name: tensor for name, tensor in state.items() if not name.startswith((*PRETRAINING, PLACES))}
    encoder = LabelEncoder(LabelEncoderConfig(**size_of(config)["label_encoder"]))
    _fill(encoder, own, path, "", read, "label_encoder")
    return encoder.freeze()


def is_text_attention(name: str) -> bool:
    """Whether a tensor of the UNet belongs to its text cross-attention or to the layer norm in front of it."""
    inner = name.partition(".transformer_blocks.")[2]
    return TEXT_ATTENTION in f".{inner}" or TEXT_NORM in f".{inner}"


def unet_state(state: Mapping[str, torch.Tensor], model: UDiffTextModel) -> State:
    """The UNet's tensors under our names; UnknownKeysError for those that the model has no place for."""
    renamed = {".".join(TEXT_NAMES.get(part, part) for part in name.split(".")): tensor
               for name, tensor in state.items()}
    return KeyMap("unet", model.unet.config).state_to_ours(renamed)


def _place(name: str) -> tuple[str | None, str]:
    """(part, name within it) of a tensor; None for what is not read."""
    if name.startswith(UNET):
        return "unet", name.removeprefix(UNET)
    if name.startswith(VAE):
        return "vae", name.removeprefix(VAE)
    if found := EMBEDDER.match(name):
        inner = name[found.end():]
        return ("copy", inner.removeprefix("model.")) if inner.startswith("model.") else ("label_encoder", inner)
    if name.startswith(NOT_READ):
        return None, name
    raise UnknownKeysError([name], "a checkpoint of UDiffText")


def _require_one_autoencoder(path: str | Path, vae: State, copy: State, read: Read) -> None:
    """CheckpointError if the masked picture's auto-encoder is another one: here both pictures have the same."""
    for name, tensor in copy.items():
        if name not in vae or not torch.equal(tensor, vae[name]):
            raise CheckpointError(f"{path}: the auto-encoder of the masked picture differs from that of the picture at "
                                  f"{name}: this library has one for both")
        read.leave("conditioner")


def _model(config: str, path: str | Path, label_encoder: LabelEncoder | None = None) -> UDiffTextModel:
    with building(Path(config)):
        return UDiffTextModel({"masked_fill": "grey", **size_of(config)}, label_encoder)


def _named(state: State, names: KeyMap, path: str | Path) -> State:
    if not state:
        raise CheckpointError(f"{path} has no tensors {VAE}*: it lacks the auto-encoder")
    return names.state_to_ours(state)


def _fill(part: nn.Module, state: State, path: str | Path, prefix: str, read: Read, title: str, own: int = 0) -> None:
    """Give a part its tensors, all of them; ``own`` of them are not of the file."""
    wanted = part.state_dict()
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if unknown:
        raise UnknownKeysError(unknown, f"{path}, {prefix}*; is it of the size of --config?")
    if missing:
        raise CheckpointError(f"{path} lacks {len(missing)} tensors of the {title}: {', '.join(missing[:3])}; it is "
                              "incomplete, or of another size than --config")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(f"{path} does not fit at {prefix}{name}: it holds {tuple(tensor.shape)}, expected "
                                  f"{tuple(wanted[name].shape)}; it is of another size than --config")
        require_finite(path, name, tensor, CheckpointError)
    part.load_state_dict(state)
    read.used[title] = len(state) - own
