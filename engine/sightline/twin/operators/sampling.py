"""Sampling at computed places, and its counterpart for patches."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.twin.catalogue import operator
from sightline.twin.node import Kernel, Node
from sightline.twin.operators.convolution import torch_pads

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
    """Sum of overlapping patches, (B, C·|window|, count) -> (B, C, *image)."""
    image, window = node.value(1) or [], node.value(2) or []
    rank = len(image)
    stride, dilation = node.integers("strides") or [1] * rank, node.integers("dilations") or [1] * rank
    pads = node.integers("pads") or [0] * (2 * rank)
    padded = [size + pads[axis] + pads[axis + rank] for axis, size in enumerate(image)]

    def kernel(x: Tensor, *_: Tensor) -> Tensor:
        places = torch.zeros(1, 1, dtype=torch.int64, device=x.device)  # (|window|, count), in the flat padded image
        for size, k, s, d in zip(padded, window, stride, dilation, strict=True):
            count = (size - d * (k - 1) - 1) // s + 1
            offsets = torch.arange(k, device=x.device) * d
            along = offsets.unsqueeze(1) + torch.arange(count, device=x.device) * s
            joined = places[:, None, :, None] * size + along[None, :, None, :]
            places = joined.reshape(places.shape[0] * k, -1)
        patches = x.reshape(x.shape[0], -1, places.numel())
        flat = x.new_zeros(*patches.shape[:2], math.prod(padded)).index_add(2, places.flatten(), patches)
        whole = flat.reshape(*patches.shape[:2], *padded)
        return F.pad(whole, torch_pads([-pad for pad in pads]))

    return kernel
