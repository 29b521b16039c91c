"""A model shared out among processes (FSDP2): which modules, in which order, and how weights become whole again.

Each of N processes keeps 1/N of every tensor of a shared module.  A module's weights are gathered before it computes
and let go afterwards; in the backward pass gradients are averaged over the processes and shared out likewise.
Parts that train nothing (auto-encoder, recogniser, a frozen caption encoder) stay whole in every process: they are
small beside the networks, and are entered at many places.
"""

from __future__ import annotations

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

BLOCKS = (ResnetBlock2D, Transformer2DModel, CLIPEncoderLayer)
"""Modules that are gathered one at a time: the largest of Stable Diffusion 1.5 has 49 million parameters, 0.18 GiB."""
ENTRIES = {"text_encoder": ("embeddings.token_embedding", "embeddings.position_embedding", "final_layer_norm")}
"""Where a part is entered, if that is not the part itself: ``models.caption_encoder`` calls CLIP's modules."""


def shared_modules(model: nn.Module) -> list[str]:
    """Names of the modules whose weights are shared out, in the order in which that is done: inner ones first.

    Args:
        model: an AnyText2Model or a UDiffTextModel; what of it is trained must be settled (see ``models.freezing``).
    """
    found = []
    for part, network in model.named_children():
        if any(parameter.requires_grad for parameter in network.parameters()):
            inner = [name for name, module in network.named_modules() if isinstance(module, BLOCKS)]
            found += [f"{part}.{name}".removesuffix(".") for name in (*inner, *ENTRIES.get(part, ("",)))]
    return found


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Share ``model`` out among the processes of a mesh of one dimension; all of them call this with equal weights.

    Its parameters are new objects afterwards, so an optimizer is made after this.  A gradient that one process lacks
    counts as zero; one that all lack (of the style recogniser's last layer) is zero, so that AdamW's decay acts there.
    """
    from torch.distributed.fsdp import fully_shard

    for name in shared_modules(model):
        module = fully_shard(model.get_submodule(name), mesh=mesh, reshard_after_forward=True)
        module.set_reduce_scatter_unused_params(True, recurse=False)


def is_shared(tensor: torch.Tensor) -> bool:
    """Whether each process has a part of this tensor only."""
    return isinstance(tensor, DTensor)


def is_sharded(model: nn.Module) -> bool:
    """Whether any weights of ``model`` are shared out: then every pass through it takes all processes."""
    return any(map(is_shared, model.parameters()))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor; if it is shared out, all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, which all processes have, on the device of ``like`` and shared out as that is."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
