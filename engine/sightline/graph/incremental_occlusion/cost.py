"""What a sweep is predicted to cost, in multiply-accumulates, bytes and seconds of two cores.

The seconds only rank plans: the numbers below were measured with ONNX Runtime 1.32 on two AVX-512 cores and differ
elsewhere, their ratios less so. What is chosen is confirmed by measuring before it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sightline.graph.layers import Shapes, multiply_accumulates

CONVOLUTION = 1 / 95e9  # seconds per multiply-accumulate of a convolution with at least 16 channels per group
THIN = 1 / 45e9  # of one with fewer
DEPTHWISE = 1 / 14e9  # of one with a single channel per group
PRODUCT = 1 / 60e9  # of Gemm and MatMul
POINTWISE = 0.15e-9  # seconds per float that any other operator writes
GATHERED = 0.7e-9  # seconds per float that a gather writes: gather, and its change of layout
STORED = 0.35e-9  # seconds per float of a window that is gathered from: change of layout, and joining with the base


@dataclass(frozen=True)
class Cost:
    """Of one window, or of one image.

    Attributes:
        macs: multiply-accumulates.
        seconds: of two cores.
    """

    macs: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.seconds + other.seconds)


def node_cost(node: ir.Node, shapes: Shapes, share: float = 1.0) -> Cost:
    """Of one node that computes this share of its positions."""
    macs = multiply_accumulates(node, shapes) * share
    if node.op_type in ("Conv", "ConvTranspose"):
        return Cost(macs, macs * _rate(node, shapes))
    if macs:
        return Cost(macs, macs * PRODUCT)
    free = node.op_type in ("Relu", "Identity", "Reshape", "Flatten", "Dropout", "Clip", "Squeeze", "Unsqueeze")
    return Cost(0, 0 if free else floats(node, shapes) * share * POINTWISE)


def floats(node: ir.Node, shapes: Shapes) -> int:
    """Numbers that a node writes for one image."""
    count = 1
    for n in shapes.get(str(node.outputs[0].name), (0,))[1:]:
        count *= n
    return count


def gather_cost(channels: int, positions: int) -> Cost:
    """Of assembling a rectangle from the base and a window."""
    return Cost(0, channels * positions * GATHERED)


def table_cost(channels: int, positions: int) -> Cost:
    """Of making a window one that can be gathered from."""
    return Cost(0, channels * positions * STORED)


def _rate(node: ir.Node, shapes: Shapes) -> float:
    weight = shapes.get(str(node.inputs[1].name), ()) if node.inputs[1] is not None else ()
    if len(weight) < 2:
        return CONVOLUTION
    return DEPTHWISE if weight[1] == 1 and weight[0] > 1 else THIN if weight[1] < 16 else CONVOLUTION
