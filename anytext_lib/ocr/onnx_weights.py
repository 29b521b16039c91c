"""The weights of PP-OCRv3's recogniser, read from the ONNX file inside the package rapidocr-onnxruntime.

In that file the weights are ``Constant`` nodes (there are no initializers) and batch norms are separate nodes.
Visiting the other nodes in file order and collecting the inputs named ``*.w_*`` and ``*.b_*`` gives all layers in
the order of computation.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anytext_lib.errors import AnyTextError

if TYPE_CHECKING:
    import torch

PACKAGE = "rapidocr_onnxruntime"
RECOGNIZER_FILE = "models/ch_PP-OCRv3_rec_infer.onnx"
DETECTOR_FILE = "models/ch_PP-OCRv3_det_infer.onnx"
AGAIN = "fetch it, or install the package that carries it, again"
BATCH_NORM = ("scale", "shift", "mean", "variance")  # order of a BatchNormalization node's inputs

LAYER_KEYS = ("weight", "bias", "scale", "shift", "mean", "variance")  # in the order in which a module stores them
COUNTER = "num_batches_tracked"

Layer = dict[str, Any]  # of tensors


class WeightsError(AnyTextError, RuntimeError):
    """Weights are missing or are not the ones expected: the message names the file and the remedy."""


def package_file(package: str, file: str, install: str) -> Path:
    """Path of a file inside an installed package, without importing it.

    Raises:
        WeightsError: the package or the file is missing; ``install`` is the requirement to name as the remedy.
    """
    spec = importlib.util.find_spec(package)
    remedy = f'install it: pip install "{install}"'
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the package {package}, which carries {Path(file).name}, is not installed; {remedy}")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise WeightsError(f"{path} is missing: the installed {package} is another version or damaged; re{remedy}")
    return path


def recognizer_path() -> Path:
    """The ONNX file of PP-OCRv3's recogniser."""
    return package_file(PACKAGE, RECOGNIZER_FILE, "rapidocr-onnxruntime==1.2.3")


def detector_path() -> Path:
    """The ONNX file of PP-OCRv3's detector."""
    return package_file(PACKAGE, DETECTOR_FILE, "rapidocr-onnxruntime==1.2.3")


def load_onnx(path: Path | str) -> Any:
    """Parse an ONNX file (an ``onnx.ModelProto``).

    Raises:
        WeightsError: there is none, it is damaged, holds no network, or weights that are not finite.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = _existing(path)
    try:
        model = onnx.load(str(path))
    except DecodeError as error:
        raise WeightsError(f"{path} is not a complete ONNX file ({error}): {AGAIN}") from error
    if not model.graph.node:
        raise WeightsError(f"{path} is an ONNX file without a network, or none: {AGAIN}")
    _refuse_not_finite(model, path)
    return model


def _refuse_not_finite(model: Any, path: Path) -> None:
    from onnx import numpy_helper

    stored = [(tensor.name, tensor) for tensor in model.graph.initializer]
    stored += [(node.output[0], attribute.t) for node in model.graph.node if node.op_type == "Constant"
               for attribute in node.attribute if attribute.HasField("t")]
    try:
        values = ((name, numpy_helper.to_array(tensor)) for name, tensor in stored)
        bad = [name for name, value in values if value.dtype.kind == "f" and not np.isfinite(value).all()]
    except (ValueError, TypeError) as error:  # a tensor whose bytes do not fill its shape
        raise WeightsError(f"{path} holds a damaged tensor ({error}): {AGAIN}") from error
    if bad:
        raise WeightsError(f"{path}: the weights {bad[0]} hold NaN or infinite numbers ({len(bad)} such tensors): "
                           f"{AGAIN}")


def read_layers(model: Any) -> list[Layer]:
    """All weights of the recogniser, layer by layer in the order of computation.

    Args:
        model: the parsed ONNX file, see ``load_onnx``.

    Returns:
        One dict a layer: ``weight`` (out, in, ...), and ``bias`` or, where a batch norm follows, ``scale``,
        ``shift``, ``mean`` and ``variance``.  Linear weights are transposed to PyTorch's (out, in).

    Raises:
        WeightsError: a weight is left over, used twice, or used in an unknown way.
    """
    import torch  # not above: the characters can be had without it
    from onnx import numpy_helper

    stored = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    stored = {name: tensor for name, tensor in stored.items() if ".w_" in name or ".b_" in name}
    layers: list[Layer] = []
    used: list[str] = []
    for node in model.graph.node:
        names = [name for name in node.input if name in stored]
        if names:
            _assign(layers, node, names, [torch.tensor(numpy_helper.to_array(stored[name])) for name in names])
        used += names
    if sorted(used) != sorted(stored):
        odd = sorted({name for name in [*stored, *used] if used.count(name) != 1})
        raise WeightsError(f"weights not used exactly once in the ONNX graph: {odd[:5]} ({len(odd)} in all)")
    return layers


def characters_of(model: Any, path: Path | str) -> str:
    """The characters of a recogniser, one a line, from the metadata of its ONNX file.

    Raises:
        WeightsError: it has none.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if "character" not in metadata:
        raise WeightsError(f"{path} has no entry 'character' in its metadata (found: {sorted(metadata)}): "
                           "it is not a recogniser of PP-OCR, or its end is cut off")
    return metadata["character"]


def _assign(layers: list[Layer], node: Any, names: list[str], tensors: list) -> None:
    """Put the weights of one graph node where they belong: a new layer, or the last one."""
    kind = node.op_type
    if kind == "BatchNormalization" and len(tensors) == 4 and layers:
        layers[-1].update(zip(BATCH_NORM, tensors, strict=True))
    elif kind == "MatMul" and len(tensors) == 1:
        layers.append({"weight": tensors[0].T.contiguous()})
    elif kind in ("Conv", "Reshape") and len(tensors) == 1 and ".w_" in names[0]:
        layers.append({"weight": tensors[0]})
    elif kind in ("Add", "Reshape") and len(tensors) == 1 and ".b_" in names[0] and layers:
        layers[-1]["bias"] = tensors[0]
    else:
        raise WeightsError(f"the ONNX node {kind} uses {names}, which is no layer of PP-OCRv3's recogniser")


def open_session(path: Path | str, threads: int = 1) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU with so many threads; WeightsError if the file does not load, or
    its weights are not finite."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    path = _existing(path)
    load_onnx(path)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (failures.Fail, failures.InvalidArgument, failures.InvalidGraph, failures.InvalidProtobuf,
            failures.NotImplemented, failures.RuntimeException) as error:
        raise WeightsError(f"{path} cannot be loaded ({error}): {AGAIN}") from error


def _existing(path: Path | str) -> Path:
    if not Path(path).is_file():
        raise WeightsError(f"there is no file {path}")
    return Path(path)


def state_from_layers(like: Mapping[str, torch.Tensor], layers: list[Layer], source: str) -> dict[str, torch.Tensor]:
    """A state dict with the names of ``like`` (in the order of computation) and the tensors of ``layers``.

    Counters of batches are 0. WeightsError: the number of tensors or a shape differs, ``source`` holds another network.
    """
    import torch

    tensors = [layer[key] for layer in layers for key in LAYER_KEYS if key in layer]
    names = [name for name in like if not name.endswith(COUNTER)]
    if len(tensors) != len(names):
        raise WeightsError(f"{source} has {len(tensors)} tensors of weights, PP-OCRv3's recogniser {len(names)}: "
                           "it is another network")
    found = dict(zip(names, tensors, strict=True))
    for name in names:
        if found[name].shape != like[name].shape:
            raise WeightsError(f"{source} does not fit PP-OCRv3's recogniser at {name}: it holds "
                               f"{tuple(found[name].shape)}, expected {tuple(like[name].shape)}")
    return {name: found.get(name, torch.tensor(0)) for name in like}
