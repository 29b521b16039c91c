"""How much GPU memory a training step takes, computed: the step runs on tensors without content (the meta device).

    weights      of all networks                               counted
    gradients    of what is trained, float32                   counted
    optimizer    AdamW's two moments of it, float32            counted
    activations  what the forward pass keeps for the backward one, and what either holds for a moment: the most
                 storage that is alive at a time, beyond the three above

Left out: the CUDA context (about 0.5 GiB), workspaces of convolutions and gaps between allocations, and the text
embedding and CLIP, whose activations are small.  So a card needs some more than the sum.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from anytext_lib.adapters.low_rank import attach
from anytext_lib.data.lines import TextLines
from anytext_lib.models.anytext2 import AnyText2Model, Conditions
from anytext_lib.models.freezing import Groups, apply
from anytext_lib.models.patch_decoder import PatchDecoder

GIB = 2**30
ALL_TARGETS = ("unet", "attnx", "writenet")
OWN_TARGETS = ("attnx", "writenet")


@dataclass(frozen=True)
class MemoryPlan:
    """What a step is: ``rank`` 0 trains the weights themselves; ``reading`` decodes the picture, as OCR losses do, and
    with ``lines`` only around these; ``mixed`` computes products in bfloat16, as precision bf16-mixed does."""

    rank: int = 8
    targets: Sequence[str] = ALL_TARGETS
    frozen: torch.dtype = torch.float32
    checkpointing: bool = False
    reading: bool = False
    batch: int = 1
    size: tuple[int, int] = (512, 512)
    mixed: bool = False
    lines: TextLines | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes of each kind, and the number of trained parameters."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    trained: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.gradients + self.optimizer + self.activations


def training_memory(plan: MemoryPlan, config: str = "sd15") -> Memory:
    """The memory of one training step of a model of the size ``config``."""
    model, groups = build(plan, config)
    trained = sum(parameter.numel() for members in groups.values() for _, parameter in members)
    weights = sum(value.nbytes for value in model.state_dict().values())
    for members in groups.values():
        for _, parameter in members:
            parameter.grad = torch.zeros_like(parameter)  # counted apart
    with gpu_arithmetic(plan.mixed), LiveStorage() as live:
        _step(model, plan)
    return Memory(weights, 4 * trained, 8 * trained, live.most, trained)


def build(plan: MemoryPlan, config: str = "sd15") -> tuple[AnyText2Model, Groups]:
    """A model of the size ``config`` on the meta device, set up for ``plan``, and what of it is trained."""
    with torch.device("meta"):
        model = AnyText2Model(config)
    if plan.checkpointing:
        model.set_gradient_checkpointing()
    if not plan.rank:
        return model, apply(model)
    for name, part in model.named_children():
        if name != "recognizer":
            nn.Module.to(part, dtype=plan.frozen)
    return model, attach(model, plan.targets, plan.rank)


def inputs(model: AnyText2Model, plan: MemoryPlan) -> tuple[torch.Tensor, Conditions]:
    """Latents (B, C, h, w) and conditions of a step, without content."""
    batch, (height, width) = plan.batch, plan.size
    factor, dtype = model.latent_factor, model.dtype
    latents = torch.empty(batch, model.unet.config.in_channels, height // factor, width // factor, device="meta")
    context = torch.empty(batch, 77, model.unet.config.cross_attention_dim, device="meta", dtype=dtype)
    page = torch.empty(batch, 1, height, width, device="meta")
    text = context.clone().requires_grad_(not plan.rank)  # the text embedding is trained with the weights only
    return latents, Conditions(context.clone().requires_grad_(not plan.rank), text, page, page, latents)


def decoded(model: AnyText2Model, plan: MemoryPlan, latents: torch.Tensor) -> torch.Tensor:
    """Pictures of latents: all of them, or around the plan's lines."""
    if plan.lines is None:
        return model.decode(latents)
    return PatchDecoder(model.vae)(latents, plan.lines)


def _step(model: AnyText2Model, plan: MemoryPlan) -> None:
    """Forward and backward pass on the meta device."""
    latents, conditions = inputs(model, plan)
    output = model(latents, torch.zeros(plan.batch, device="meta"), conditions).float()
    loss = (output - latents).square().mean()
    if plan.reading:
        loss = loss + decoded(model, plan, latents - output).clamp(-1, 1).float().square().mean()
    loss.backward()


PLANS = {
    "all that AnyText2 trains, batch 3": MemoryPlan(rank=0, batch=3),
    "all that AnyText2 trains, batch 1, checkpointing": MemoryPlan(rank=0, checkpointing=True),
    "rank 8, batch 1": MemoryPlan(),
    "rank 8, batch 1, OCR losses": MemoryPlan(reading=True),
    "rank 8, batch 1, frozen in bfloat16": MemoryPlan(frozen=torch.bfloat16),
    "rank 8, batch 1, frozen in bfloat16, OCR losses": MemoryPlan(frozen=torch.bfloat16, reading=True),
    "rank 8, batch 4, frozen in bfloat16, checkpointing":
        MemoryPlan(frozen=torch.bfloat16, checkpointing=True, batch=4),
    "rank 8, batch 4, frozen in bfloat16, checkpointing, OCR losses":
        MemoryPlan(frozen=torch.bfloat16, checkpointing=True, batch=4, reading=True),
}
"""Settings of a run on pictures of 512 x 512."""
CARDS = (8, 12, 24)  # GB
SPARE = 1.0  # GiB of a card for the context, workspaces and gaps


def memory_row(plan: MemoryPlan, config: str = "sd15") -> list[str]:
    """Weights, gradients, optimizer, activations and their sum in GiB, and the cards on which they fit."""
    found = training_memory(plan, config)
    kinds = (found.weights, found.gradients, found.optimizer, found.activations, found.total)
    fits = [f"{card}" for card in CARDS if found.total <= card * 1e9 - SPARE * GIB]
    return [*(f"{size / GIB:.1f}" for size in kinds), ", ".join(fits) or "none"]


class LiveStorage(TorchDispatchMode):
    """Counts the bytes of all storage that operations make, while it is alive.

    Attributes:
        most: bytes at the worst moment.
    """

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        """Run an operation and count what it makes."""
        before = {id(leaf.untyped_storage()) for leaf in tree_leaves((arguments, options)) if _is_tensor(leaf)}
        made = function(*arguments, **(options or {}))
        for storage in (leaf.untyped_storage() for leaf in tree_leaves(made) if _is_tensor(leaf)):
            if id(storage) not in before and id(storage) not in self._alive:
                self._alive.add(id(storage))
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        return made

    def _freed(self, number: int, size: int) -> None:
        self._alive.discard(number)
        self.now -= size


def _is_tensor(value) -> bool:
    return isinstance(value, torch.Tensor)


class _PlainAttention(torch.autograd.Function):
    """The shape of an attention whose kernel keeps queries, keys, values, output and one number a query."""

    @staticmethod
    def forward(context, query, key, value, report):
        """As ``scaled_dot_product_attention``."""
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        context.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        context.report = report
        report(query, key, False)
        return out

    @staticmethod
    def backward(context, gradient):
        """Three gradients."""
        query, key, value = context.saved_tensors[:3]
        context.report(query, key, True)
        return *(torch.empty_like(tensor) for tensor in (query, key, value)), None


LOW = ((F, "conv1d"), (F, "conv2d"), (F, "conv_transpose2d"), (F, "linear"), (torch, "matmul"), (torch, "bmm"),
       (torch, "baddbmm"))
HIGH = ((F, "group_norm"), (F, "layer_norm"), (F, "softmax"))
"""What autocast does on a GPU in 16 bits and in float32, as far as these networks use it; everything else takes the
type of what comes in.  PyTorch's documentation, "Automatic mixed precision", has the whole lists."""


def converted(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A tensor in another type if it holds floats."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def in_type(function: Callable, dtype: torch.dtype) -> Callable:
    """``function``, its tensors converted beforehand."""
    def call(*arguments, **options):
        arguments, options = tree_map_only(torch.Tensor, lambda tensor: converted(tensor, dtype), (arguments, options))
        return function(*arguments, **options)

    return call


@contextmanager
def gpu_arithmetic(mixed: bool = False,
                   report: Callable[[torch.Tensor, torch.Tensor, bool], None] = lambda *_: None) -> Iterator[None]:
    """Attention and, if ``mixed``, autocast in bfloat16 as GPUs compute them: the meta device knows no autocast, and
    would write out every score of an attention.

    ``report`` is told of each attention: its queries, its keys, and whether it is the backward pass.
    """
    def attend(query, key, value, *unused, **options):
        if mixed:
            query, key, value = (converted(tensor, torch.bfloat16) for tensor in (query, key, value))
        return _PlainAttention.apply(query, key, value, report)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(F, "scaled_dot_product_attention", attend))
        for names, dtype in ((LOW, torch.bfloat16), (HIGH, torch.float32)) if mixed else ():
            for place, name in names:
                patches.enter_context(mock.patch.object(place, name, in_type(getattr(place, name), dtype)))
        yield
