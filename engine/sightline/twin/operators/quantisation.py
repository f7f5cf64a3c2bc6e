"""Quantisation, with the straight-through gradient (Bengio et al. 2013, arXiv:1308.3432).

torch has no gradient of integers. So where a gradient is asked for, quantised values travel as floats that hold
whole numbers, and elsewhere as the integers that the graph declares. Rounding has gradient 1, saturation 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node
from sightline.twin.tensors import dtype_of

_LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e4m3fnuz: 240.0, torch.float8_e5m2: 57344.0}
_LARGEST[torch.float8_e5m2fnuz] = 57344.0


@operator("QuantizeLinear")
def quantize_linear(node: Node) -> Kernel:
    """X / scale + zero point, rounded half to even and saturated; per tensor, axis or block."""
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    declared, saturate = node.integer("output_dtype", 0), bool(node.integer("saturate", 1))
    kind = dtype_of(declared) if declared else None

    def kernel(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        target = kind or (zero.dtype if zero is not None else torch.uint8)
        level = x / _along(scale, x, axis, block)
        if target in _LARGEST:
            bound = _LARGEST[target]
            return (level.clamp(-bound, bound) if saturate else level).to(target)
        offset = 0 if zero is None else _along(zero, x, axis, block).to(level.dtype)
        return _whole(level, offset, target)

    return kernel


@operator("DequantizeLinear")
def dequantize_linear(node: Node) -> Kernel:
    """(x - zero point) scale; per tensor, axis or block."""
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    declared = node.integer("output_dtype", 0)
    kind = dtype_of(declared) if declared else None

    def kernel(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        step = _along(scale, x, axis, block)
        level = x.to(step.dtype)
        if zero is not None:
            level = level - _along(zero, x, axis, block).to(step.dtype)
        return (level * step).to(kind or scale.dtype)

    return kernel


@direct("DynamicQuantizeLinear")
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To uint8 by the range of the tensor itself, widened to hold 0."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round(-low / scale).clamp(0, 255)
    return _whole(x / scale, zero, torch.uint8), scale, zero.to(torch.uint8)


def _whole(level: Tensor, offset: Tensor | int, target: torch.dtype) -> Tensor:
    """Rounded and saturated: integers, or floats that hold them where a gradient is asked for."""
    bounds = torch.iinfo(target)
    if not (torch.is_grad_enabled() and level.requires_grad):
        return (torch.round(level.double()) + offset).clamp(bounds.min, bounds.max).to(target)
    rounded = level + (torch.round(level) - level).detach()
    return (rounded + offset).clamp(bounds.min, bounds.max)


def _along(setting: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point, broadcast to the tensor that it belongs to."""
    if block:
        return setting.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if setting.numel() == 1:
        return setting.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return setting.reshape(shape)
