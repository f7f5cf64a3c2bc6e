"""The gradient of a strided convolution that reads few channels: the layer that reads the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 4  # channels: an image has at most so many, and gradients towards them fill a vector register by a quarter


def pays(x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Whether ``StridedConvolution`` is the faster way to the gradient of ``x``, and can be taken."""
    return (
        x.requires_grad
        and not weight.requires_grad
        and x.dim() == 4
        and x.device.type == "cpu"
        and weight.shape[1] <= FEW
        and groups == 1
        and max(stride) > 1
        and max(dilation) == 1
    )


class StridedConvolution(torch.autograd.Function):
    """A two-dimensional convolution, differentiated towards its input alone.

    Its transpose scatters every output gradient over pixels a stride apart. Pixels of one phase (row modulo the
    stride, column modulo the stride) are reached by a fixed subset of the taps, so the gradients of all phases are
    one dense convolution with stride-squared times as many channels, whose results are interleaved: 7x7, stride 2
    from three channels takes a quarter of the time of torch's transpose.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], pads: list[int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.pads, ctx.size = stride, pads, x.shape[2:]
        return torch.convolution(x, weight, bias, stride, pads, [1, 1], False, [0, 0], 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (weight,) = ctx.saved_tensors
        return _interleaved(gradients[0], weight, ctx.stride, ctx.pads, ctx.size), None, None, None, None


def _interleaved(
    gradient: Tensor, weight: Tensor, stride: Sequence[int], pads: Sequence[int], size: Sequence[int]
) -> Tensor:
    """(B, C, H, W) gradient of the input from the output's (B, K, h, w)."""
    taps = [-(-k // s) for k, s in zip(weight.shape[2:], stride, strict=True)]  # of one phase
    reach = [t - 1 for t in taps]
    phases = F.conv2d(gradient, _by_phase(weight, stride, taps), padding=reach)  # (B, C · sh · sw, mh, mw)
    counts = [-(-(n + p) // s) for n, p, s in zip(size, pads, stride, strict=True)]  # pixels of one phase
    unread = [max(0, count - n) for count, n in zip(counts, phases.shape[2:], strict=True)]
    if any(unread):  # pixels at the end that no window reaches
        phases = F.pad(phases, [0, unread[1], 0, unread[0]])
    rows, columns = phases.shape[2:]
    channels = weight.shape[1]
    apart = phases.reshape(len(phases), channels, *stride, rows, columns).permute(0, 1, 4, 2, 5, 3)
    padded = apart.reshape(len(phases), channels, rows * stride[0], columns * stride[1])
    return padded[:, :, pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]]


def _by_phase(weight: Tensor, stride: Sequence[int], taps: Sequence[int]) -> Tensor:
    """(C · sh · sw, K, th, tw): for each phase its taps, last first, as a correlation wants them."""
    beyond = [t * s - k for t, s, k in zip(taps, stride, weight.shape[2:], strict=True)]
    whole = F.pad(weight, [0, beyond[1], 0, beyond[0]])  # (K, C, th · sh, tw · sw)
    apart = whole.reshape(*weight.shape[:2], taps[0], stride[0], taps[1], stride[1])
    sorted_ = apart.permute(1, 3, 5, 0, 2, 4).reshape(-1, len(weight), *taps)
    return sorted_.flip(2, 3).contiguous(memory_format=torch.channels_last)
