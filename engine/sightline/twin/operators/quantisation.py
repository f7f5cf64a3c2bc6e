"""Quantisation, with the straight-through gradient (Bengio et al. 2013, arXiv:1308.3432).

torch has no gradient of integers. So where a gradient is asked for, quantised values travel as floats that hold
whole numbers, and elsewhere as the integers that the graph declares. Rounding has gradient 1, saturation 0.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node
from sightline.twin.operators.convolution import conv
from sightline.twin.tensors import converted, dtype_of


@operator("QuantizeLinear")
def quantize_linear(node: Node) -> Kernel:
    """X / scale + zero point, rounded half to even and saturated; per tensor, axis or block."""
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    declared, saturate = node.integer("output_dtype", 0), bool(node.integer("saturate", 1))
    kind = dtype_of(declared) if declared else None

    def kernel(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        target = kind or (zero.dtype if zero is not None else torch.uint8)
        level = x / _along(scale, x, axis, block)
        if target.is_floating_point:
            return converted(level, target, saturate)
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


@operator("ConvInteger")
def conv_integer(node: Node) -> Kernel:
    """Convolution of integers less their zero points, to int32; exact in float64."""
    convolve = _convolution(node)

    def kernel(x: Tensor, weight: Tensor, x_zero: Tensor | None = None, weight_zero: Tensor | None = None) -> Tensor:
        return _result(convolve(_centred(x, x_zero, 1), _centred(weight, weight_zero, 0)), torch.int32)

    return kernel


@direct("MatMulInteger")
def matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    """Product of integers less their zero points, to int32; exact in float64."""
    return _result(_centred(a, a_zero, -2) @ _centred(b, b_zero, -1), torch.int32)


@operator("QLinearConv")
def quantised_conv(node: Node) -> Kernel:
    """Convolution of dequantised operands, quantised; the bias is in units of both scales."""
    convolve = _convolution(node)

    def kernel(
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor,
        weight: Tensor,
        weight_scale: Tensor,
        weight_zero: Tensor,
        y_scale: Tensor,
        y_zero: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        sums = convolve(
            _centred(x, x_zero, 1), _centred(weight, weight_zero, 0), None if bias is None else bias.double()
        )
        unit = _along((x_scale * weight_scale / y_scale).double(), sums, 1, 0)
        return _whole(sums * unit, y_zero.double(), y_zero.dtype)

    return kernel


@direct("QLinearMatMul")
def quantised_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """Product of dequantised operands, quantised."""
    sums = _centred(a, a_zero, -2) @ _centred(b, b_zero, -1)
    unit = _along(a_scale.double(), sums, -2, 0) * _along(b_scale.double(), sums, -1, 0) / y_scale.double()
    return _whole(sums * unit, y_zero.double(), y_zero.dtype)


def _convolution(node: Node) -> Kernel:
    """Conv with the attributes of the node; its weights are an operand, so nothing of them is known here."""
    return conv.build(replace(node, known={}))


def _centred(x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    return x.double() if zero is None else x.double() - _along(zero.double(), x, axis, 0)


def _result(sums: Tensor, kind: torch.dtype) -> Tensor:
    """As the integers that they are, or as floats that hold them where a gradient is asked for."""
    return sums if sums.requires_grad else sums.to(kind)
