"""A GPU that is not there: tensors on the meta device have shape, dtype and device but no values; others are real.

An operator that mixes devices raises, as on a GPU, and every time the host would wait for the GPU is written down.
(torch's FakeTensorMode knows "cuda" by name, but its gradients need a build with CUDA.)
"""

from __future__ import annotations

import traceback
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import anytext_lib

GPU = torch.device("meta")
HOME = Path(anytext_lib.__file__).parent
aten = torch.ops.aten
SIZED_BY_VALUES = {aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_dim.default,
                   aten.unique_consecutive.default, aten.repeat_interleave.Tensor}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


def on_gpu(value) -> bool:
    """Whether this is a tensor on the GPU."""
    return isinstance(value, torch.Tensor) and value.is_meta


def values(shape, dtype: torch.dtype) -> torch.Tensor:
    """What the host reads: True, 1 or 0.5."""
    return torch.full(shape, 0.5 if dtype.is_floating_point else 1, dtype=dtype)


class FakeGpu(TorchDispatchMode):
    """Within the block ``GPU`` is a device; ``waits`` says what the host waited for, and where.

    It waits for a value of a tensor, for a copy to the CPU, for a result whose size depends on values, and for a
    copy to the GPU that is not ``non_blocking``. Values are read as True, 1 or 0.5.
    """

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __enter__(self):
        self.patches = ExitStack()
        autocast, enabled = torch.autocast, torch.is_autocast_enabled
        known = lambda name: "cpu" if name == GPU.type else name  # noqa: E731
        self.patches.enter_context(mock.patch("torch.autocast", lambda name, *a, **k: autocast(known(name), *a, **k)))
        self.patches.enter_context(mock.patch("torch.is_autocast_enabled", lambda *a: enabled(*map(known, a))))
        self.patches.enter_context(PythonData(self))
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.patches.close()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        if func is aten._to_copy.default:
            return self.copied(func, args[0], **kwargs)
        if not any(map(on_gpu, tensors)):
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            self.wait("value")
            return values((), args[0].dtype).item()
        if func in SIZED_BY_VALUES:
            self.wait("size")
            real = tree_map_only(torch.Tensor, lambda value: torch.ones_like(value, device="cpu"), (args, kwargs))
            return tree_map_only(torch.Tensor, lambda value: value.to(GPU), func(*real[0], **real[1]))
        if func is aten.copy_.default and not all(map(on_gpu, tensors)):
            if not (kwargs.get("non_blocking") or args[2:3] == (True,)):
                self.wait("to CPU" if on_gpu(args[1]) else "to GPU")
            return args[0]
        if func in INDEXING:
            args = (args[0], [part for index in args[1] for part in self.indices(index)], *args[2:])
        elif mixed := [value for value in tensors if not on_gpu(value) and value.ndim]:
            raise AssertionError(f"{func} of tensors on the GPU and of {tuple(mixed[0].shape)} on the CPU")
        return func(*args, **kwargs)

    def indices(self, index: torch.Tensor | None) -> list:
        """An index of a tensor on the GPU; a mask counts as full."""
        if index is None:
            return [None]
        if not on_gpu(index):
            self.wait("to GPU")
        elif index.dtype in (torch.bool, torch.uint8):
            self.wait("size")
            return [part.to(GPU) for part in torch.ones(index.shape).nonzero(as_tuple=True)]
        return [index.to(GPU)]

    def copied(self, func, value, device=None, non_blocking=False, **kwargs):
        """``Tensor.to``."""
        to_gpu = on_gpu(value) if device is None else torch.device(device) == GPU
        if on_gpu(value) and not to_gpu:
            self.wait("to CPU")
            return values(value.shape, kwargs.get("dtype") or value.dtype)
        if to_gpu and not on_gpu(value) and not non_blocking:
            self.wait("to GPU")
        return func(value, device=device, **kwargs)

    def wait(self, kind: str) -> None:
        """Write down that the host waits, and the function of the library that is to blame."""
        frames = [f for f in traceback.extract_stack() if HOME in Path(f.filename).parents]
        where = f"{Path(frames[-1].filename).relative_to(HOME)} {frames[-1].name}" if frames else "elsewhere"
        self.waits.append(f"{kind}: {where}")


class PythonData(TorchFunctionMode):
    """Sees lists and numbers become tensors on the GPU: torch copies them there before any operator is called."""

    def __init__(self, gpu: FakeGpu):
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device, count = kwargs.get("device"), 0
        if func is torch.tensor and device is not None:
            count = torch.device(device) == GPU
        elif func is torch.Tensor.new_tensor:
            count = on_gpu(args[0]) and device is None
        elif func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and on_gpu(args[0]):
            count = sum(isinstance(part, list) for part in (args[1] if isinstance(args[1], tuple) else args[1:2]))
        for _ in range(count):
            self.gpu.wait("to GPU")
        return func(*args, **kwargs)
