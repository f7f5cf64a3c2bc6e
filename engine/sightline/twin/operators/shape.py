"""Arrangement: what changes where elements lie, not what they are."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.errors import FixedSize, UnsupportedOperator
from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node
from sightline.twin.tensors import converted, dtype_of


@direct("Identity")
def identity(x: Tensor) -> Tensor:
    """The same tensor under another name."""
    return x.view_as(x)


@operator("Dropout")
def dropout(node: Node) -> Kernel:
    """Nothing is dropped at inference; the mask is all true, in old operator sets all one."""
    if node.has(2) and node.scalar(2):
        raise UnsupportedOperator("training mode drops at random; export the model in eval mode")
    if not node.wants(1):
        return lambda x, *_: x.view_as(x)
    kind = torch.bool if node.version >= 10 else None
    return lambda x, *_: (x.view_as(x), torch.ones_like(x, dtype=kind))


@operator("Reshape")
def reshape(node: Node) -> Kernel:
    """0 keeps the size of the same axis unless allowzero, -1 takes what is left."""
    shape = tuple(node.setting("shape", 1) or ())
    kept = 0 in shape and not node.integer("allowzero", 0)

    def kernel(x: Tensor, *_: Tensor) -> Tensor:
        wanted = [x.shape[axis] if kept and size == 0 else size for axis, size in enumerate(shape)]
        known = math.prod(size for size in wanted if size != -1)
        if x.numel() != known and (-1 not in wanted or known == 0 or x.numel() % known):
            raise FixedSize(
                f"Node {node.name!r} (Reshape) makes {wanted} and was given {list(x.shape)}: the graph fixes its "
                "input's size there. Name layers before it, keep to the model's own size, or export the model with "
                "open sizes."
            )
        return x.reshape(wanted)

    return kernel


@operator("Flatten")
def flatten(node: Node) -> Kernel:
    """To a matrix: the axes before one, and those from it on."""
    axis = node.integer("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        split = axis + x.dim() if axis < 0 else axis
        return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))

    return kernel


@operator("Transpose")
def transpose(node: Node) -> Kernel:
    """By default the axes in reverse."""
    order = node.integers("perm")
    return lambda x: x.permute(order if order is not None else list(reversed(range(x.dim()))))


@operator("Squeeze")
def squeeze(node: Node) -> Kernel:
    """Drop axes of size 1, by default all."""
    axes = node.setting("axes", 1)
    return lambda x, *_: x.squeeze() if axes is None else x.squeeze(axes)


@operator("Unsqueeze")
def unsqueeze(node: Node) -> Kernel:
    """Insert axes of size 1; the axes are those of the result."""
    axes = node.setting("axes", 1) or []

    def kernel(x: Tensor, *_: Tensor) -> Tensor:
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return kernel


@operator("Concat")
def concat(node: Node) -> Kernel:
    """Along one axis."""
    axis = node.integer("axis", 1)
    return lambda *operands: torch.cat(operands, axis)


@operator("Split")
def split(node: Node) -> Kernel:
    """Along one axis, in given sizes or equally; the last part may be smaller."""
    axis, sizes = node.integer("axis", 0), node.setting("split", 1)
    parts = node.integer("num_outputs", len(node.outputs))
    if sizes is not None:
        return lambda x, *_: torch.split(x, sizes, axis)

    def kernel(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        size = -(-x.shape[axis] // parts)
        rest = x.shape[axis] - size * (parts - 1)
        return torch.split(x, [*[size] * (parts - 1), rest], axis)

    return kernel


@operator("Expand")
def expand(node: Node) -> Kernel:
    """Broadcast to a shape; 1 keeps the size."""
    shape = node.value(1) or []
    return lambda x, *_: x.expand(torch.broadcast_shapes(x.shape, shape))


@operator("Tile")
def tile(node: Node) -> Kernel:
    """Repeat along each axis."""
    repeats = node.value(1) or []
    return lambda x, *_: x.repeat(repeats)


@operator("DepthToSpace")
def depth_to_space(node: Node) -> Kernel:
    """(B, C·n², H, W) -> (B, C, H·n, W·n), the block index before (DCR) or after (CRD) the channel."""
    n, depth_first = node.integer("blocksize", 1), node.text("mode", "DCR") == "DCR"

    def kernel(x: Tensor) -> Tensor:
        images, channels, height, width = x.shape
        kept = channels // n**2
        if depth_first:
            blocks = x.reshape(images, n, n, kept, height, width).permute(0, 3, 4, 1, 5, 2)
        else:
            blocks = x.reshape(images, kept, n, n, height, width).permute(0, 1, 4, 2, 5, 3)
        return blocks.reshape(images, kept, height * n, width * n)

    return kernel


@operator("SpaceToDepth")
def space_to_depth(node: Node) -> Kernel:
    """(B, C, H·n, W·n) -> (B, n²·C, H, W); mode CRD puts the channel before the block index."""
    n, depth_first = node.integer("blocksize", 1), node.text("mode", "DCR") == "DCR"

    def kernel(x: Tensor) -> Tensor:
        images, channels, height, width = x.shape
        blocks = x.reshape(images, channels, height // n, n, width // n, n)  # (B, C, H, n, W, n)
        order = (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4)
        return blocks.permute(order).reshape(images, channels * n**2, height // n, width // n)

    return kernel


@operator("Shape")
def shape_of(node: Node) -> Kernel:
    """Sizes of the axes from start to end, int64 on the CPU."""
    start, end = node.integer("start", 0), node.attributes.get("end")
    return lambda x: torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


@direct("Size")
def size_of(x: Tensor) -> Tensor:
    """Number of elements, int64 on the CPU."""
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Cast")
def cast(node: Node) -> Kernel:
    """To another element type; 8-bit floats saturate unless told otherwise."""
    kind, saturate = dtype_of(node.integer("to", 1)), bool(node.integer("saturate", 1))
    return lambda x: converted(x, kind, saturate)


@operator("CastLike")
def cast_like(node: Node) -> Kernel:
    """To the element type of the second operand."""
    saturate = bool(node.integer("saturate", 1))
    return lambda x, like: converted(x, like.dtype, saturate)
