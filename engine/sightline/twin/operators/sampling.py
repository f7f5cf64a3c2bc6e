"""Sampling at computed places, and its counterpart for patches."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sightline.twin.catalogue import operator
from sightline.twin.node import Kernel, Node

_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}


@operator("GridSample")
def grid_sample(node: Node) -> Kernel:
    """The input at normalised coordinates, (B, C, *spatial) and (B, *out, rank) -> (B, C, *out)."""
    mode, padding = _MODES[node.text("mode", "linear")], node.text("padding_mode", "zeros")
    corners = bool(node.integer("align_corners", 0))
    return lambda x, grid: F.grid_sample(x, grid, mode, padding, corners)


@operator("AffineGrid")
def affine_grid(node: Node) -> Kernel:
    """The coordinates that an affine map gives to a result of some size."""
    size, corners = node.value(1) or [], bool(node.integer("align_corners", 0))
    return lambda theta, _: F.affine_grid(theta, size, corners)


@operator("Col2Im")
def fold(node: Node) -> Kernel:
    """Sum of overlapping patches, (B, C·|window|, count) -> (B, C, H, W)."""
    image, window = node.value(1) or [], node.value(2) or []
    if len(image) != 2:
        raise node.refusal("patches of other than two dimensions are not summed")
    stride, dilation = node.integers("strides") or [1, 1], node.integers("dilations") or [1, 1]
    pads = node.integers("pads") or [0] * 4

    def kernel(x: Tensor, *_: Tensor) -> Tensor:
        height, width = image[0] + pads[0] + pads[2], image[1] + pads[1] + pads[3]
        whole = F.fold(x, (height, width), window, dilation, 0, stride)
        return whole[..., pads[0] : pads[0] + image[0], pads[1] : pads[1] + image[1]]

    return kernel
