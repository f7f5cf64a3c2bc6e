"""Tensors made from settings: constants, ranges, encodings."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node
from sightline.twin.tensors import dtype_of, tensor_of


@operator("Constant")
def constant(node: Node) -> Kernel:
    """The tensor, number or numbers that the node holds."""
    held = next((name for name in node.attributes if name.startswith("value")), "")
    if held == "value":
        tensor = tensor_of(node.attributes[held])
    elif held in ("value_int", "value_ints", "value_float", "value_floats"):
        tensor = torch.tensor(node.attributes[held], dtype=torch.int64 if "int" in held else torch.float32)
    else:
        raise UnsupportedOperator("sparse constants and strings are not computed with")
    return lambda: tensor


@operator("ConstantOfShape")
def constant_of_shape(node: Node) -> Kernel:
    """One number, by default 0 of float32, in a shape."""
    shape = node.value(0) or []
    held = node.attributes.get("value")
    filler = torch.zeros(1) if held is None else tensor_of(held)
    return lambda x: filler.to(x.device).expand(shape).clone()


@direct("Range")
def range_(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """From start on in steps of delta, before limit."""
    first, step = start.item(), delta.item()
    count = max(-int(-(limit.item() - first) // step), 0)
    return torch.arange(count, device=start.device).to(start.dtype) * step + first


@operator("EyeLike")
def eye_like(node: Node) -> Kernel:
    """Ones on one diagonal of a matrix of the operand's shape, zeros elsewhere."""
    diagonal, kind = node.integer("k", 0), node.attributes.get("dtype")

    def kernel(x: Tensor) -> Tensor:
        ones = torch.ones(x.shape, dtype=x.dtype if kind is None else dtype_of(kind), device=x.device)
        return ones.triu(diagonal).tril(diagonal)

    return kernel


@operator("OneHot")
def one_hot(node: Node) -> Kernel:
    """A new axis with the on-value at each index, and the off-value elsewhere and for indices out of range."""
    axis, depth = node.integer("axis", -1), int(node.scalar(1))

    def kernel(indices: Tensor, _: Tensor, values: Tensor) -> Tensor:
        whole = indices.to(torch.int64)
        counted = torch.where(whole < 0, whole + depth, whole)
        place = axis % (indices.dim() + 1)
        classes = torch.arange(depth, device=indices.device).reshape(-1, *[1] * (indices.dim() - place))
        return torch.where(counted.unsqueeze(place) == classes, values[1], values[0])

    return kernel
