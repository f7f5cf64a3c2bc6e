"""ONNX tensors and element types as torch's."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from sightline.errors import UnsupportedOperator

DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
}
NIBBLES = {ir.DataType.INT4: torch.int8, ir.DataType.UINT4: torch.uint8}  # weights of four bits are read into eight
_EIGHT_BITS = {  # largest number, the magnitude from which on rounding leaves the range, and what lies there
    torch.float8_e4m3fn: (448.0, 464.0, math.nan),
    torch.float8_e4m3fnuz: (240.0, 248.0, math.nan),
    torch.float8_e5m2: (57344.0, 61440.0, math.inf),
    torch.float8_e5m2fnuz: (57344.0, 61440.0, math.nan),
}
_SAME_BITS = {  # NumPy has no such element type: the bits are read as integers
    ir.DataType.BFLOAT16: np.int16,
    ir.DataType.FLOAT8E4M3FN: np.int8,
    ir.DataType.FLOAT8E4M3FNUZ: np.int8,
    ir.DataType.FLOAT8E5M2: np.int8,
    ir.DataType.FLOAT8E5M2FNUZ: np.int8,
}


def dtype_of(element: int) -> torch.dtype:
    """The torch element type of an ONNX element type's number.

    Raises:
        UnsupportedOperator: torch cannot compute with it: strings, complex numbers, 2-, 4- and 6-bit numbers.
    """
    kind = ir.DataType(element)
    if kind not in DTYPES:
        raise UnsupportedOperator(f"elements of type {kind.name} are not computed with")
    return DTYPES[kind]


def converted(x: Tensor, kind: torch.dtype, saturate: bool = True) -> Tensor:
    """To another element type.

    Args:
        x: any shape.
        kind: element type of the result.
        saturate: to the largest number, where an 8-bit float is too small; otherwise such elements become NaN, or
            infinite where the type has infinity.
    """
    if kind not in _EIGHT_BITS or x.dtype in _EIGHT_BITS:
        return x.to(kind)
    largest, overflow, beyond = _EIGHT_BITS[kind]
    wide = x.to(torch.float32)
    if saturate:
        return wide.clamp(-largest, largest).to(kind)
    return torch.where(wide.abs() >= overflow, torch.copysign(wide.new_tensor(beyond), wide), wide).to(kind)


def tensor_of(source: ir.TensorProtocol) -> Tensor:
    """A copy of an ONNX tensor, on the CPU.

    Raises:
        UnsupportedOperator: its element type is not one of torch's.
    """
    kind = source.dtype
    if kind in NIBBLES:
        return torch.from_numpy(source.numpy().astype(np.int8 if kind == ir.DataType.INT4 else np.uint8))
    dtype = dtype_of(kind)
    array = np.array(source.numpy())  # a copy: external data is mapped read-only
    if kind in _SAME_BITS:
        return torch.from_numpy(array.view(_SAME_BITS[kind])).view(dtype)
    return torch.from_numpy(array)
