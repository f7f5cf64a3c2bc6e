"""Integers that stand for numbers: which values are such codes, and by which scale and zero point they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sightline.errors import UsageError
from sightline.graph.constants import constant_array
from sightline.graph.pass_ import GraphPass

SCALES = {  # operators that put out codes, and which input is their scale; the next is their zero point
    "QGemm": 7, "QLinearAdd": 6, "QLinearAveragePool": 3, "QLinearConcat": 0, "QLinearConv": 6,
    "QLinearConvTranspose": 6, "QLinearGlobalAveragePool": 3, "QLinearLeakyRelu": 3, "QLinearMatMul": 6,
    "QLinearMul": 6, "QLinearReduceMean": 3, "QLinearSigmoid": 3, "QLinearSoftmax": 3, "QLinearWhere": 7,
    "QuantizeLinear": 1,
}  # fmt: skip
SUMS = frozenset({"ConvInteger", "MatMulInteger"})  # of products of codes; nodes behind them know the scale
PASSING = frozenset({  # put codes out as they are, of the same scale
    "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Upsample",
})  # fmt: skip


@dataclass(frozen=True)
class Quantisation:
    """A value is scale (code - zero point).

    Attributes:
        scale: of all codes, or of each along an axis.
        zero: the zero point; None where it is 0.
        node: that made the codes.
    """

    scale: ir.Value
    zero: ir.Value | None
    node: ir.Node

    @property
    def settings(self) -> list[ir.Attr]:
        """Along which axis, or of which blocks, a QuantizeLinear says that its scales are."""
        kept = ("axis", "block_size") if self.node.op_type == "QuantizeLinear" else ()
        return [self.node.attributes[name] for name in kept if name in self.node.attributes]

    @property
    def domain(self) -> str:
        """Of the operators that read and make such codes."""
        return self.node.domain if self.node.op_type == "QuantizeLinear" else ""

    @property
    def rectifies(self) -> bool:
        """Whether no code stands for less than 0, so that quantising is a ReLU, too."""
        zero = constant_array(self.zero)
        return zero is not None and zero.dtype.kind in "iu" and bool((zero == np.iinfo(zero.dtype).min).all())


def maker(value: ir.Value) -> ir.Node | None:
    """The node that made a value's codes, or sums of products of codes; None where the value is no code."""
    node = value.producer()
    while node is not None and node.op_type in PASSING and (node.op_type == "Split" or value is node.outputs[0]):
        source = node.inputs[0]
        if source is None:
            return None
        value, node = source, source.producer()
    if node is None or value is not node.outputs[0]:
        return None
    if node.op_type == "QGemm" and _input(node, SCALES["QGemm"]) is None:
        return None  # it puts out numbers
    return node if node.op_type in SCALES or node.op_type in SUMS or node.op_type == "DynamicQuantizeLinear" else None


def quantisation(value: ir.Value) -> Quantisation | None:
    """How a value's codes are read; None where it is no code.

    Raises:
        UsageError: nobody can tell from the nodes before it.
    """
    node = maker(value)
    if node is None:
        return None
    if node.op_type == "DynamicQuantizeLinear":
        return Quantisation(node.outputs[1], node.outputs[2], node)
    scale = _input(node, SCALES[node.op_type]) if node.op_type in SCALES else None
    if scale is None:
        raise UsageError(
            f"Layer {str(value.name)!r} holds integer sums of {node.op_type}, whose scale the nodes behind it apply. "
            "Choose the layer behind them that has it (sightline inspect lists the layers in their order), or use a "
            "model in QDQ form."
        )
    array = constant_array(scale)
    if array is not None and array.size > 1 and value is not node.outputs[0]:
        raise UsageError(
            f"Layer {str(value.name)!r} holds integer codes of {array.size} scales that the graph moved since "
            f"{str(node.outputs[0].name)!r} was quantised. Choose that layer."
        )
    return Quantisation(scale, _input(node, SCALES[node.op_type] + 1), node)


def code_names(model: ir.Model) -> frozenset[str]:
    """Names of all values that are codes with a scale, or sums of products of codes."""
    return frozenset(str(v.name) for node in model.graph for v in node.outputs if v.name and maker(v) is not None)


def readable_codes(model: ir.Model) -> frozenset[str]:
    """Names of all values that are codes and can be read as the numbers that they stand for."""
    found = set[str]()
    for value in (v for node in model.graph for v in node.outputs if v.name and maker(v) is not None):
        try:
            quantisation(value)
        except UsageError:
            continue
        found.add(str(value.name))
    return frozenset(found)


def unreadable_codes(model: ir.Model) -> frozenset[str]:
    """Names of all values that are integers whose scale nobody can tell."""
    return code_names(model) - readable_codes(model)


@dataclass(frozen=True)
class DecodeCodes(GraphPass):
    """Make values numbers that were codes, under the names that they have.

    Cases:
        1. A value that is codes goes by ``NAME:codes``; DequantizeLinear gives what they stand for the name. So do
           the graph's outputs, where it is one.
        2. With ``passed``, what read the codes reads those numbers, quantised again by the same scale and zero point:
           the same codes, but a gradient passes the numbers, and the graph can be begun there.
        3. Values that are no codes stay.

    Attributes:
        names: of values; others are left as they are.
        passed: whether the network runs through the numbers.

    Raises:
        UsageError: of a name whose codes cannot be read; see ``quantisation``.
    """

    names: Iterable[str]
    passed: bool = False

    def rewrite(self, model: ir.Model) -> None:
        wanted = set(self.names)
        found = [(v, quantisation(v)) for node in model.graph for v in node.outputs if str(v.name) in wanted]
        for value, how in found:  # all of them are looked up before any is changed
            if how is not None:  # 3
                _decode(model.graph, value, how, passed=self.passed)


def _decode(graph: ir.Graph, codes: ir.Value, how: Quantisation, *, passed: bool) -> None:
    producer, name, uses = codes.producer(), codes.name, list(codes.uses())
    assert producer is not None
    parts = [how.scale] if how.zero is None else [how.scale, how.zero]
    read = ir.node("DequantizeLinear", [codes, *parts], domain=how.domain)
    again = ir.node("QuantizeLinear", [read.outputs[0], *parts], domain=how.domain)
    for node in (read, again):
        for setting in how.settings:
            node.attributes.add(setting)
    if how.zero is None and "output_dtype" in how.node.attributes:
        again.attributes.add(how.node.attributes["output_dtype"])
    numbers = read.outputs[0]
    numbers.shape, numbers.type = codes.shape, how.scale.type
    graph.insert_after(producer, [read, again] if passed else [read])
    codes.name, numbers.name = f"{name}:codes", name  # 1
    graph.outputs[:] = [numbers if value is codes else value for value in graph.outputs]
    if passed:  # 2
        again.outputs[0].name = f"{name}:again"
        for use in uses:
            use.node.replace_input_with(use.idx, again.outputs[0])


def _input(node: ir.Node, place: int) -> ir.Value | None:
    return node.inputs[place] if len(node.inputs) > place else None
