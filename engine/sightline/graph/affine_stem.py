"""How far into a graph its values still are the image, mixed linearly and moved: before the first ReLU."""

from __future__ import annotations

from collections.abc import Container

import onnx_ir as ir

from sightline.graph.constants import constant_array

AFFINE = frozenset({"Conv", "BatchNormalization", "Pad", "AveragePool", "Transpose", "Identity", "Div"})
SYMMETRIC = frozenset({"Add", "Sub", "Mul"})  # of a constant and the value, either first


def affine_stem(graph: ir.Model, start: str, stop: Container[str] = ()) -> str | None:
    """The last value on the way from an input that is affine in it and that every later value is made from.

    Args:
        graph: constants in place.
        start: the input.
        stop: values that somebody reads: nothing behind one of them is looked at.

    Returns its name; None where no convolution lies before it, so that to start there would save nothing.
    """
    value = next(one for one in graph.graph.inputs if one.name == start)
    convolved = False
    outputs = set(graph.graph.outputs)
    while str(value.name) not in stop and value not in outputs:
        uses = list(value.uses())
        if len(uses) != 1 or not _is_affine(uses[0].node, value):
            break
        convolved |= uses[0].node.op_type == "Conv"
        value = uses[0].node.outputs[0]
    return str(value.name) if convolved else None


def _is_affine(node: ir.Node, value: ir.Value) -> bool:
    """Whether the node's one result is affine in the value, everything else being constant."""
    standard = node.domain in ("", "ai.onnx") and len(node.outputs) == 1
    known = node.op_type in SYMMETRIC or (node.op_type in AFFINE and node.inputs[0] is value)
    others = [one for one in node.inputs if one is not None and one is not value]
    return standard and known and all(constant_array(one) is not None for one in others)
