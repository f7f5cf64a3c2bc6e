"""Convolution and its transpose, any number of spatial dimensions."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.twin.catalogue import operator
from sightline.twin.node import Kernel, Node
from sightline.twin.strided_gradient import StridedConvolution, pays


@operator("Conv")
def conv(node: Node) -> Kernel:
    """(B, C, *spatial), (K, C/groups, *kernel) -> (B, K, *spatial)."""
    stride, dilation, groups = _geometry(node)
    pads, automatic = node.integers("pads") or [0, 0], node.text("auto_pad", "NOTSET")
    half = len(pads) // 2
    begin = [0] if automatic == "VALID" else pads[:half]
    if automatic == "VALID" or (automatic == "NOTSET" and begin == pads[half:] and min(begin) >= 0):
        return lambda x, weight, bias=None: _convolved(x, weight, bias, stride, begin, dilation, groups)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ends = pads
        if automatic != "NOTSET":
            ends = same_pads(x.shape[2:], weight.shape[2:], stride, dilation, automatic)
        return _convolved(F.pad(x, torch_pads(ends)), weight, bias, stride, [0], dilation, groups)

    return kernel


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    # On the CPU, channels last: oneDNN reads and writes them as they lie, where planes are reordered before and after
    # (SqueezeNet there and back takes 0.65 of the time, a depthwise convolution of stride 2 back 0.1).
    x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 and x.device.type == "cpu" else x
    if pays(x, weight, stride, dilation, groups) and (bias is None or not bias.requires_grad):
        result: Any = StridedConvolution.apply(x, weight, bias, spread(stride, 2), spread(pads, 2))
        return result
    return torch.convolution(x, weight, bias, stride, pads, dilation, False, [0], groups)


@operator("ConvTranspose")
def conv_transpose(node: Node) -> Kernel:
    """(B, C, *spatial), (C, K/groups, *kernel) -> (B, K, *spatial); pads are cut from the full result."""
    stride, dilation, groups = _geometry(node)
    pads, automatic = node.integers("pads"), node.text("auto_pad", "NOTSET")
    extra, wanted = node.integers("output_padding"), node.integers("output_shape")

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = x.dim() - 2
        strides, added = spread(stride, rank), spread(extra or [0], rank)
        reach = [d * (k - 1) + 1 for d, k in zip(spread(dilation, rank), weight.shape[2:], strict=True)]
        full = [(n - 1) * s + r + o for n, s, r, o in zip(x.shape[2:], strides, reach, added, strict=True)]
        if wanted:
            totals = [f - w for f, w in zip(full, wanted[-rank:], strict=True)]
        else:
            totals = [max(f - n * s, 0) for f, n, s in zip(full, x.shape[2:], strides, strict=True)]
        if wanted or automatic.startswith("SAME"):
            odd = 0 if automatic == "SAME_UPPER" else 1  # where the element that cannot be shared is cut
            begin = [(total + odd) // 2 if total > 0 else 0 for total in totals]
            cut = [*begin, *(total - part for total, part in zip(totals, begin, strict=True))]
        else:
            cut = [0] * (2 * rank) if automatic == "VALID" or pads is None else pads
        return _transposed(x, weight, bias, strides, spread(dilation, rank), groups, added, cut)

    return kernel


def _transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    dilation: list[int],
    groups: int,
    added: list[int],
    cut: list[int],
) -> Tensor:
    rank = len(stride)
    if cut[:rank] == cut[rank:] and all(a < max(s, d) for a, s, d in zip(added, stride, dilation, strict=True)):
        return torch.convolution(x, weight, bias, stride, cut[:rank], dilation, True, added, groups)
    whole = torch.convolution(x, weight, None, stride, [0] * rank, dilation, True, [0] * rank, groups)
    ends = [*(-c for c in cut[:rank]), *(a - c for a, c in zip(added, cut[rank:], strict=True))]
    shaped = F.pad(whole, torch_pads(ends))
    return shaped if bias is None else shaped + bias.reshape(-1, *[1] * rank)


def _geometry(node: Node) -> tuple[list[int], list[int], int]:
    return node.integers("strides") or [1], node.integers("dilations") or [1], node.integer("group", 1)


def spread(setting: Sequence[int], rank: int) -> list[int]:
    """One number per spatial dimension, where the graph may give one for all."""
    return list(setting) * rank if len(setting) == 1 else list(setting)


def torch_pads(pads: Sequence[int]) -> list[int]:
    """ONNX's (begins…, ends…) as torch's (last begin, last end, …, first begin, first end)."""
    half = len(pads) // 2
    return [pads[index + side] for index in reversed(range(half)) for side in (0, half)]


def same_pads(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], automatic: str
) -> list[int]:
    """ONNX's pads for auto_pad: ceil(size / stride) outputs for SAME_*, none added for VALID."""
    rank = len(shape)
    if automatic == "VALID":
        return [0] * (2 * rank)
    small, large = list[int](), list[int]()
    for size, k, s, d in zip(shape, kernel, spread(stride, rank), spread(dilation, rank), strict=True):
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    return [*small, *large] if automatic == "SAME_UPPER" else [*large, *small]
