"""Numbers that a graph holds, however its exporter wrote them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def constant_array(value: ir.Value | None) -> NDArray[Any] | None:
    """The array behind a value; None if it is computed while the network runs.

    Cases:
        1. An initializer.
        2. A Constant node that holds a tensor.
        3. Identity of a constant, as TorchScript writes weights that several layers share.
        4. DequantizeLinear of constants: float32, per tensor or per axis.
    """
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()  # 1
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Constant" and "value" in node.attributes:
        return node.attributes["value"].as_tensor().numpy()  # 2
    if node.op_type == "Identity":
        return constant_array(node.inputs[0])  # 3
    if node.op_type == "DequantizeLinear":
        return _dequantised(node)  # 4
    return None


def constant_origin(value: ir.Value) -> ir.Value | None:
    """The value that stores a constant: the initializer or Constant output behind identities and dequantisation."""
    if value.const_value is not None:
        return value
    node = value.producer()
    if node is None or node.op_type not in ("Constant", "Identity", "DequantizeLinear"):
        return None
    if node.op_type == "Constant":
        return value
    return constant_origin(node.inputs[0]) if node.inputs[0] is not None else None


def _dequantised(node: ir.Node) -> NDArray[np.float32] | None:
    parts = [constant_array(value) for value in node.inputs if value is not None]
    if any(part is None for part in parts):
        return None
    codes, scale, *zero = [np.asarray(part, dtype=np.float32) for part in parts]
    axis = node.attributes["axis"].as_int() % codes.ndim if "axis" in node.attributes else min(1, codes.ndim - 1)
    if scale.ndim > 1:
        return None  # blocked quantisation: no kernel that people look at is stored so
    shape = tuple(-1 if a == axis else 1 for a in range(codes.ndim)) if scale.ndim else ()
    offset = zero[0].reshape(shape) if zero else np.float32(0)
    return ((codes - offset) * scale.reshape(shape)).astype(np.float32)
