"""How far a painted pixel looks: what tiles have to overlap by."""

from __future__ import annotations

import math
from fractions import Fraction

import onnx_ir as ir

from sightline.errors import BadModel
from sightline.graph.constants import constant_array
from sightline.graph.receptive import POINT, POSITIONWISE, Axis, kernel_extent, leading_pads, node_pair


def reach_of(graph: ir.Model, unit: int) -> int:
    """Pixels to each side that a painted pixel depends on, rounded up to a multiple of ``unit``.

    Along one axis each value is followed as in ``graph.receptive``; an enlarged map, whose positions see windows that
    are not all alike, by the window around them. What normalisations read of the whole picture does not count.

    Raises:
        BadModel: the graph holds an operator that style networks have not, or puts out another size than it takes.
    """
    views = {str(graph.graph.inputs[0].name): POINT}
    for node in graph.graph:
        seen = [views[str(value.name)] for value in node.inputs if value is not None and str(value.name) in views]
        if seen:
            views[str(node.outputs[0].name)] = _view(node, seen)
    view = views.get(str(graph.graph.outputs[0].name))
    if view is None or view.jump != 1:
        raise BadModel("The graph does not turn pictures into pictures of their size: it is no style network.")
    return math.ceil(max(-view.low, view.high) / unit) * unit


def _view(node: ir.Node, seen: list[Axis]) -> Axis:
    """Of a node's output along the rows; kernels are square."""
    view = seen[0]
    if node.op_type == "Conv":
        kernel = kernel_extent(node, {})
        if kernel is not None and kernel[0] == kernel[1]:
            pad = leading_pads(node, (0, 0), kernel)[0]
            return view.slid(kernel[0], node_pair(node, "strides", 1)[0], node_pair(node, "dilations", 1)[0], pad)
    elif node.op_type == "Resize":
        scales = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
        mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
        if scales is not None and scales.size == 4 and mode == "nearest" and float(scales[2]).is_integer():
            jump = view.jump / Fraction(int(scales[2]))
            return Axis(view.low - (view.jump - jump), view.high, jump)
    elif node.op_type in POSITIONWISE or node.op_type == "InstanceNormalization":
        joined = view
        for other in seen[1:]:
            found = joined.joined(other)
            if found is None:
                break
            joined = found
        else:
            return joined
    raise BadModel(
        f"Node {node.name!r} is operator {node.op_type!r} as no style network has it. Give a folder or a file of "
        "sightline style train."
    )
