"""Which factor of a product only opens and shuts the other: in SiLU, GELU, squeeze-and-excitation.

A gate is known by its range, which the function that it comes out of bounds: of two factors the one of the narrower
range gates the other. In x · sigmoid(x), x · (1 + erf(x / √2)) / 2 and x · clip(x + 3, 0, 6) / 6 that is the second;
in sigmoid(a) · tanh(b) the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from sightline.twin.node import Node, ValueNeeded

_WIDTHS = {"Sigmoid": 1.0, "HardSigmoid": 1.0, "Softmax": 1.0, "Tanh": 2.0, "Erf": 2.0}
_CARRYING = frozenset({
    "Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Transpose",
})  # fmt: skip
_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})  # rounding and saturating widen no range


def with_gates(nodes: Sequence[Node], constants: Mapping[str, Tensor]) -> list[Node]:
    """The nodes, products of two computed values told which of them is the gate."""
    widths: dict[str, float] = {}
    found = list[Node]()
    for node in nodes:
        width = _width(node, widths, constants)
        if width < math.inf:
            widths[node.outputs[0]] = width
        found.append(replace(node, gate=_gate(node, widths, constants)))
    return found


def _gate(node: Node, widths: Mapping[str, float], constants: Mapping[str, Tensor]) -> int | None:
    if node.operator != "Mul" or any(name in constants for name in node.inputs):
        return None
    first, second = (widths.get(name, math.inf) for name in node.inputs)
    return None if first == second else 0 if first < second else 1


def _width(node: Node, widths: Mapping[str, float], constants: Mapping[str, Tensor]) -> float:
    """Largest less smallest value that a node can put out, as far as is known."""
    if node.operator in _WIDTHS:
        return _WIDTHS[node.operator]
    if node.operator == "Clip":
        return _clipped(node)
    if node.operator in _CARRYING:
        return widths.get(node.inputs[0], math.inf)
    if node.operator in _QUANTISING:
        return _rescaled(node, widths.get(node.inputs[0], math.inf), constants)
    if node.operator not in ("Add", "Sub", "Mul", "Div"):
        return math.inf
    held = [constants[name] for name in node.inputs if name in constants]
    width = next((widths[name] for name in node.inputs if name in widths), math.inf)
    if len(held) != 1 or node.operator in ("Add", "Sub"):
        return width if len(held) == 1 else math.inf
    if node.operator == "Mul":
        return width * float(held[0].abs().max())
    smallest = float(held[0].abs().min()) if node.inputs[1] in constants else 0.0
    return width / smallest if smallest > 0 else math.inf


def _clipped(node: Node) -> float:
    try:
        ends = [
            node.attributes[name] if name in node.attributes else node.scalar(index)
            for name, index in (("min", 1), ("max", 2))
        ]
    except ValueNeeded:
        return math.inf
    return math.inf if None in ends else float(ends[1]) - float(ends[0])


def _rescaled(node: Node, width: float, constants: Mapping[str, Tensor]) -> float:
    scale = constants.get(node.inputs[1])
    if scale is None or width == math.inf:
        return math.inf
    if node.operator == "DequantizeLinear":
        return width * float(scale.max())
    smallest = float(scale.min())
    return width / smallest if smallest > 0 else math.inf
