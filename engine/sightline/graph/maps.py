"""Which values of a graph are maps: (B, C, h, w) with positions, whatever else has four axes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from sightline.graph.constants import constant_array
from sightline.graph.layers import LayerTable, Shapes
from sightline.graph.receptive import POSITIONWISE, SLIDING, only_channels_move

POOLING = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "QLinearGlobalAveragePool"})
ON_MAPS = SLIDING | POOLING | {"ConvTranspose", "Resize", "Upsample", "InstanceNormalization", "GroupNormalization"}
PLAIN = frozenset({  # between maps of class scores and the scores: nothing here has weights
    "AveragePool", "Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "ReduceMax",
    "QLinearAveragePool", "ReduceMean", "Relu", "Reshape", "Squeeze",
}) | POOLING  # fmt: skip
MOVING = frozenset({"Einsum", "Flatten", "Gemm", "MatMul", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
CODES = frozenset({"QuantizeLinear", "ConvInteger"})  # put out integers; the numbers are those of other nodes
WEIGHTED = frozenset({"Conv", "FusedConv", "QLinearConv"})


def maps_of(model: ir.Model, shapes: Shapes) -> frozenset[str]:
    """Names of all values that are maps of more than one position.

    Cases:
        1. What a convolution, pooling or resize reads or puts out has channels first, by the standard.
        2. So has what a mean over the last two axes reads.
        3. What is computed position by position from maps of the same extent is maps.

    Everything else with four axes (channels last, heads of attention, transposed vectors) is not, and integers that
    only repeat a layer's numbers, or lack their scale, are not either.
    """
    found: set[str] = set()
    for node in model.graph:
        first = node.inputs[0] if node.inputs else None
        if first is not None and (node.op_type in ON_MAPS or _averages_positions(node)):
            found.add(str(first.name))  # 1, 2
        if node.op_type in ON_MAPS:
            found.add(str(node.outputs[0].name))  # 1
    for node in model.graph:
        if node.op_type in POSITIONWISE:
            read = {shapes.get(str(v.name), ())[2:] for v in node.inputs if v is not None and str(v.name) in found}
            found.update(str(v.name) for v in node.outputs if shapes.get(str(v.name), ())[2:] in read)  # 3
    codes = {str(v.name) for node in model.graph if node.op_type in CODES for v in node.outputs}
    return frozenset(name for name in found - codes if _positions(shapes.get(name, ())) > 1)


def misplaced(model: ir.Model, table: LayerTable, maps: frozenset[str], name: str) -> str:
    """Why a value's numbers cannot be told apart by image and channel: a sentence, none where they can.

    Cases:
        1. Its first axis is not the image: images of a batch are mixed.
        2. It has four axes, and was moved since it was maps: its channels are not the second.
    """
    shape = table.shapes.get(name, ())
    if not shape or name == str(model.graph.inputs[0].name):
        return ""
    if shape[0] != table.batch:
        return f"puts out {shape} for a batch of {table.batch}, and its first axis is not the image"  # 1
    if _positions(shape) <= 1 or not _moved(model, table.shapes, maps, name):
        return ""
    return f"puts out {shape[1:]} per image, which are no maps (C, h, w): channels come last, or among positions"  # 2


def _moved(model: ir.Model, shapes: Shapes, maps: frozenset[str], name: str) -> bool:
    """Whether positions and channels changed places between maps, or the image, and a value."""
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    pending, seen = [name], set[str]()
    while pending:
        value = values.get(pending.pop())
        node = None if value is None or str(value.name) in maps | seen else value.producer()
        if value is None or node is None:
            continue
        seen.add(str(value.name))
        if node.op_type in MOVING and not only_channels_move(node, shapes):
            return True
        pending.extend(str(v.name) for v in node.inputs if v is not None)
    return False


def feature_layer(model: ir.Model, table: LayerTable, names: Iterable[str], logits: str) -> str | None:
    """The last maps that some values (a target's) depend on, None where there are none.

    Where the network's last convolution already puts out class scores at every position, and only pooling follows,
    its maps are passed over as long as there are others: one channel there is the answer, not what it is made of.
    """
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    behind = _ancestors(values[name] for name in names if name in values)
    maps = maps_of(model, table.shapes) & behind
    found = [layer.name for layer in table if layer.name in maps]
    features = [name for name in found if name not in _class_maps(values.get(logits))]
    return (features or found or [None])[-1]


def _positions(shape: tuple[int, ...]) -> int:
    return math.prod(shape[2:]) if len(shape) == 4 else 0


def _averages_positions(node: ir.Node) -> bool:
    if node.op_type not in ("ReduceMean", "ReduceMax"):
        return False
    given = node.attributes.get("axes")
    listed = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.as_ints() if given is not None else () if listed is None else listed.tolist()
    return set(axes) in ({2, 3}, {-1, -2})


def _ancestors(values: Iterable[ir.Value]) -> set[str]:
    """Names of these values and of all that they are computed from."""
    pending, found = list(values), set[str]()
    while pending:
        value = pending.pop()
        node = value.producer()
        if str(value.name) not in found:
            found.add(str(value.name))
            pending.extend(v for v in (node.inputs if node is not None else ()) if v is not None)
    return found


def _class_maps(logits: ir.Value | None) -> set[str]:
    """Values that are class scores at every position, from the last convolution on; none if there is a head."""
    passed: set[str] = set()
    value = logits
    while value is not None and (node := value.producer()) is not None:
        passed.add(str(value.name))
        if node.op_type in WEIGHTED:
            return passed
        if node.op_type not in PLAIN:
            return set()
        value = node.inputs[0]
    return set()
