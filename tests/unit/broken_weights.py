"""ONNX files that are broken in one way or another."""

from __future__ import annotations

import numpy as np
import onnx


def spoilt(path, kind: str, whole: bytes) -> None:
    """Write a broken version of an ONNX file."""
    model = onnx.load_model_from_string(whole)
    tensors = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
    if kind == "nan":
        weight = next(tensor for tensor in tensors if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims)
        values = onnx.numpy_helper.to_array(weight).copy()
        values.reshape(-1)[0] = np.nan
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    if kind == "unknown operator":
        model.graph.node[-1].op_type = "NoSuchOperator"
    content = {"empty": b"", "foreign": b"PK nonsense", "cut off": whole[:len(whole) // 2]}
    path.write_bytes(content.get(kind, model.SerializeToString()))
