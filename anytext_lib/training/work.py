"""What a training step computes and moves, part by part, counted: it runs on tensors without content (meta device).

    FLOPs   of convolutions, matrix products and attention, two for a multiplication and an addition; the rest has few
    bytes   that each operation reads and writes in the GPU's memory, PyTorch's operations taken one by one

No operation is faster than its FLOPs at the GPU's peak, nor than its bytes at the memory's bandwidth.  The sum of the
larger of the two over all operations is the floor of a step's time ("roofline", Williams et al. 2009).  Real steps take
longer: kernels reach neither, small ones wait for their start, and operations read some of their input twice.
Fusing operations (torch.compile) can undercut the bytes that are counted here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from anytext_lib.models.anytext2 import AnyText2Model
from anytext_lib.training.memory import MemoryPlan, build, decoded, gpu_arithmetic, inputs

PARTS = ("encoder", "captions", "WriteNet", "UNet", "decoder", "optimizer")
FREE = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "detach", "alias"})


@dataclass(frozen=True)
class Gpu:
    """A data sheet: dense peaks in FLOP/s for float32 products (TF32 where there is one) and for bfloat16 ones, memory
    bandwidth in bytes/s, memory in GB, and bytes/s to and from its neighbours in a server, both directions together."""

    single: float
    half: float
    bandwidth: float
    memory: int
    link: float

    def peak(self, half: bool) -> float:
        """FLOP/s of products."""
        return self.half if half else self.single


GPUS = {
    "RTX 4090": Gpu(82.6e12, 165.2e12, 1.008e12, 24, 64e9),
    "A100 80 GB": Gpu(156e12, 312e12, 2.039e12, 80, 600e9),
    "H100 SXM": Gpu(494.7e12, 989.4e12, 3.35e12, 80, 900e9),
    "H200 SXM": Gpu(494.7e12, 989.4e12, 4.8e12, 141, 900e9),
}
"""NVIDIA's data sheets.  RTX 4090: "Ada GPU architecture" (TF32 and BF16 with float32 sums, PCIe 4.0 x16)."""


@dataclass(frozen=True)
class Operation:
    """One operation: name, FLOPs, bytes read and written, and whether its products are in 16 bits."""

    name: str
    flops: int
    bytes: int
    half: bool = False

    def floor(self, gpu: Gpu) -> float:
        """Seconds below which no kernel gets."""
        return max(self.flops / gpu.peak(self.half), self.bytes / gpu.bandwidth)


@dataclass
class PartWork:
    """The operations of a part, and the bytes that its forward pass keeps for the backward one."""

    forward: list[Operation] = field(default_factory=list)
    backward: list[Operation] = field(default_factory=list)
    kept: int = 0

    @property
    def operations(self) -> list[Operation]:
        """All of them."""
        return self.forward + self.backward


def flops(operations: Iterable[Operation]) -> int:
    """FLOPs of some operations."""
    return sum(operation.flops for operation in operations)


def moved(operations: Iterable[Operation]) -> int:
    """Bytes that some operations read and write."""
    return sum(operation.bytes for operation in operations)


def floor_seconds(operations: Iterable[Operation], gpu: Gpu) -> float:
    """The floor of the time of some operations, one after the other."""
    return sum(operation.floor(gpu) for operation in operations)


def step_work(plan: MemoryPlan, config: str = "sd15") -> dict[str, PartWork]:
    """The work of one training step of a model of the size ``config``, by part (``PARTS``).

    The encoder encodes the pictures and one black picture, captions are CLIP over both captions, the optimizer is
    AdamW on float32.  ``decoder`` is there where the plan reads.  Left out: the recognisers (three lines are 0.01
    TFLOP) and the text embedding.
    """
    model, groups = build(plan, config)
    batch, (height, width), work = plan.batch, plan.size, {}
    latents, told = inputs(model, plan)
    times = torch.zeros(batch, device="meta")

    def part(name: str, forward: Callable[[], torch.Tensor | list[torch.Tensor]]) -> list[torch.Tensor]:
        work[name], results = _run(model, forward, plan.mixed)
        return results

    def encoded() -> list[torch.Tensor]:
        return [model.encode(torch.empty(count, 3, height, width, device="meta"), sample=False) for count in (batch, 1)]

    part("encoder", encoded)
    part("captions", lambda: _captions(model, batch, trained=not plan.rank))
    added = part("WriteNet", lambda: [*(control := model.control(told, latents, times)).down, control.mid])
    *down, mid = (residual.detach().requires_grad_() for residual in added)
    part("UNet", lambda: model.unet(latents, times, told.image_context, tuple(down), mid).sample)
    if plan.reading:
        estimate = torch.empty_like(latents).requires_grad_()
        part("decoder", lambda: decoded(model, plan, estimate))
    trained = sum(parameter.numel() for members in groups.values() for _, parameter in members)
    # AdamW reads weight, gradient and both moments, and writes all but the gradient
    work["optimizer"] = PartWork([Operation("adamw", 0, 7 * 4 * trained)])
    return work


def _captions(model: AnyText2Model, batch: int, trained: bool) -> torch.Tensor:
    """CLIP over the image captions and the text captions; where lines are trained their gradient passes through it."""
    encoder = model.text_encoder
    states = torch.empty(2 * batch, 77, encoder.config.hidden_size, device="meta", requires_grad=trained)
    for layer in encoder.encoder.layers:
        found = layer(states, None)
        states = found[0] if isinstance(found, tuple) else found
    return encoder.final_layer_norm(states)


def _run(model: AnyText2Model, forward: Callable, mixed: bool) -> tuple[PartWork, list[torch.Tensor]]:
    """Run a part forward and, where it has a gradient, backward; its work, and what it returned."""
    own = {id(weight.untyped_storage()) for weight in model.parameters()}
    held: dict[int, torch.UntypedStorage] = {}
    tally = Tally()

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in own:
            held[id(storage)] = storage
        return tensor

    with gpu_arithmetic(mixed, tally.attention), tally:
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            found = forward()
        results, there, tally.operations = _as_list(found), tally.operations, []
        if ends := [result for result in results if result.requires_grad]:
            torch.autograd.backward(ends, [torch.empty_like(end) for end in ends])
    return PartWork(there, tally.operations, sum(storage.nbytes() for storage in held.values())), results


def _as_list(found: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
    return [found] if isinstance(found, torch.Tensor) else found


class Tally(TorchDispatchMode):
    """Writes down what every operation computes and moves."""

    def __init__(self):
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        """Run an operation and count it; views and empty memory cost nothing."""
        options = options or {}
        made = function(*arguments, **options)
        read = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, torch.Tensor)]
        written = [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        name, known = function._schema.name.removeprefix("aten::"), {id(leaf.untyped_storage()) for leaf in read}
        mutable = function._schema.is_mutable
        if name not in FREE and (mutable or any(id(leaf.untyped_storage()) not in known for leaf in written)):
            count = flop_registry.get(function.overloadpacket)
            work = count(*arguments, **options, out_val=made) if count else 0
            half = any(leaf.dtype in (torch.bfloat16, torch.float16) for leaf in read[:1])
            self.operations.append(Operation(name, work, sum(map(size, read + written)), half))
        return made

    def attention(self, query: torch.Tensor, key: torch.Tensor, backward: bool) -> None:
        """Count a fused attention: two products, or five in the backward pass, which computes the scores again."""
        product = 2 * query.numel() * key.shape[-2]
        traffic = 2 * size(query) + 2 * size(key)  # queries, output, keys, values
        half = query.dtype in (torch.bfloat16, torch.float16)
        self.operations.append(Operation("attention", product * (5 if backward else 2),
                                         traffic * (2 if backward else 1), half))


def size(tensor: torch.Tensor) -> int:
    """Bytes of a tensor in memory; what is expanded lies there once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
