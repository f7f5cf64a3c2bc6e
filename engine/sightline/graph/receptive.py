"""Which pixels a position of a layer can see.

Along each axis, position p of a value sees the pixels ``low + p * jump`` to ``high + p * jump``. The rule per
operator is the one of Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks"
(Distill, 2019), kept as an interval so that joins of branches are its union. Behind a border that is read from
elsewhere (Pad with mode reflect, edge or wrap) the same holds away from the border only: from there on, the interval
of every position is kept by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import onnx_ir as ir

from sightline.graph.constants import constant_array

Extent = tuple[int, int]  # height, width
Interval = tuple[int, int]  # first and last pixel


@dataclass(frozen=True)
class Axis:
    """The view of position 0 along one axis and how it moves per position, in input pixels.

    Attributes:
        low, high: first and last pixel of position 0.
        jump: pixels from the view of one position to that of the next.
        views: first and last pixel of every position, where a mirrored border makes some differ from these.
    """

    low: Fraction
    high: Fraction
    jump: Fraction
    views: tuple[Interval, ...] = ()

    @property
    def size(self) -> int:
        """Pixels seen by one position, away from mirrored borders."""
        return int(self.high - self.low) + 1

    def view(self, position: int) -> Interval:
        """First and last pixel that a position sees; may reach over the border."""
        if self.views and 0 <= position < len(self.views):
            return self.views[position]
        return int(self.low + position * self.jump), int(self.high + position * self.jump)

    def slid(self, kernel: int, stride: int, dilation: int, pad: int, length: int = 0) -> Axis:
        """What a sliding kernel over this value sees; ``length`` is the number of its positions."""
        reach = (kernel - 1) * dilation
        plain = Axis(self.low - pad * self.jump, self.high + (reach - pad) * self.jump, self.jump * stride)
        if not self.views:
            return plain
        taps = range(0, reach + 1, dilation)
        read = ((first + tap for tap in taps) for first in range(-pad, length * stride - pad, stride))
        return plain.told([[one for one in places if 0 <= one < len(self.views)] for places in read], self)

    def mirrored(self, begin: int, end: int, length: int, mode: str) -> Axis:
        """What a value of ``length`` positions sees behind borders of ``begin`` and ``end`` read from elsewhere."""
        plain = self.slid(kernel=1, stride=1, dilation=1, pad=begin)
        return plain.told([[_elsewhere(place, length, mode)] for place in range(-begin, length + end)], self)

    def told(self, read: Sequence[Sequence[int]], source: Axis) -> Axis:
        """This, with the view of every position by the places of another value that it reads."""
        views = list[Interval]()
        for position, places in enumerate(read):
            seen = [source.view(place) for place in places] or [self.view(position)]
            views.append((min(first for first, _ in seen), max(last for _, last in seen)))
        return replace(self, views=tuple(views))

    def joined(self, other: Axis) -> Axis | None:
        """The union of two views; None if they move at different speeds."""
        count = len(self.views or other.views)
        if self.jump != other.jump or (self.views and other.views and len(other.views) != count):
            return None
        both = Axis(min(self.low, other.low), max(self.high, other.high), self.jump)
        pairs = [(self.view(position), other.view(position)) for position in range(count)]
        return replace(both, views=tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs))


def _elsewhere(place: int, length: int, mode: str) -> int:
    """The position that stands for one outside the map."""
    if mode == "edge":
        return min(max(place, 0), length - 1)
    period = max(2 * length - 2, 1) if mode == "reflect" else length
    return place % period if place % period < length else period - place % period


@dataclass(frozen=True)
class ReceptiveField:
    """Pixels that one position of a layer depends on, before cutting at the image's border.

    Attributes:
        rows, columns: the views along height and width.
    """

    rows: Axis
    columns: Axis

    @property
    def size(self) -> Extent:
        """Height and width in pixels, away from mirrored borders."""
        return self.rows.size, self.columns.size

    def window(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Top, left, height, width in pixels of what position (row, column) sees; may reach over the border."""
        (top, bottom), (left, right) = self.rows.view(row), self.columns.view(column)
        return top, left, bottom - top + 1, right - left + 1


POINT = Axis(Fraction(0), Fraction(0), Fraction(1))
SLIDING = frozenset(
    {"Conv", "MaxPool", "AveragePool", "LpPool", "QLinearConv", "ConvInteger", "FusedConv", "QLinearAveragePool"}
)
# fmt: off
POSITIONWISE = frozenset((  # each position of the output reads the same position of every input
    "Abs", "Add", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Concat", "DequantizeLinear", "Div",
    "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LRN",
    "LeakyRelu", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "PRelu", "Pow", "QuantizeLinear",
    "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Softplus", "Softsign", "Split",
    "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where",
    "QLinearAdd", "QLinearConcat", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid",
))
# fmt: on
JOINS = frozenset({"Concat", "QLinearConcat", "Split"})  # position by position along channels alone


def receptive_fields(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, ReceptiveField]:
    """Receptive field per value name, where it is a moving window.

    Values that see the whole image (after global pooling, reshapes, resizes and the like) are left out.

    Args:
        model: a graph whose first input is the image, in NCHW or turned to that first of all.
        shapes: value shapes at the input size in question; auto padding and kernels need them.
    """
    fields: dict[str, ReceptiveField | None] = {str(model.graph.inputs[0].name): ReceptiveField(POINT, POINT)}
    for node in model.graph:
        seen = [fields[str(v.name)] for v in node.inputs if v is not None and str(v.name) in fields]
        if not seen:
            continue
        rule = _rule(node, shapes)
        for output in node.outputs:
            fields[str(output.name)] = None if rule is None else rule(seen)
    return {name: field for name, field in fields.items() if field is not None}


def _rule(
    node: ir.Node, shapes: Mapping[str, tuple[int, ...]]
) -> Callable[[list[ReceptiveField | None]], ReceptiveField | None] | None:
    if node.op_type in SLIDING:
        return lambda seen: None if seen[0] is None else _slid(node, seen[0], shapes)
    if node.op_type in POSITIONWISE and (
        node.op_type not in ("Concat", "QLinearConcat", "Split") or _along_channels(node)
    ):
        return _union
    if _puts_channels_first(node, shapes):
        return lambda seen: seen[0]
    if node.op_type in ("Reshape", "Transpose", "Slice", "Gather") and only_channels_move(node, shapes):
        return lambda seen: seen[0]
    if node.op_type == "Pad":
        return lambda seen: None if seen[0] is None else _padded(node, seen[0], shapes)
    return None


def _puts_channels_first(node: ir.Node, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether this turns an image (B, H, W, C), as some graphs take it, to (B, C, H, W)."""
    source, order = node.inputs[0] if node.inputs else None, node.attributes.get("perm")
    if node.op_type != "Transpose" or source is None or not source.is_graph_input() or order is None:
        return False
    shape = shapes.get(str(source.name), ())
    last = len(shape) == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3)
    return last and tuple(order.as_ints()) == (0, 3, 1, 2)


def only_channels_move(node: ir.Node, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether height and width stay the last two axes, as where channels are shuffled between groups."""
    before, after = (shapes.get(str(value.name), ()) for value in (node.inputs[0], node.outputs[0]) if value)
    if min(len(before), len(after)) < 3 or before[-2:] != after[-2:]:
        return False
    if node.op_type == "Reshape":  # row-major order leaves them alone where what is before them counts the same
        return math.prod(before) == math.prod(after)
    if node.op_type == "Transpose":
        order = node.attributes.get("perm")
        rank = len(before)
        return order is not None and tuple(order.as_ints())[-2:] == (rank - 2, rank - 1)
    if node.op_type == "Gather":
        axis = node.attributes.get("axis")
        return (
            len(before) == len(after) and (axis.as_int() if axis is not None else 0) % len(before) < len(before) - 2
        )
    axes = constant_array(node.inputs[3]) if len(node.inputs) > 3 else None
    return axes is not None and all(int(axis) % len(before) < len(before) - 2 for axis in axes)


def _padded(node: ir.Node, field: ReceptiveField, shapes: Mapping[str, tuple[int, ...]]) -> ReceptiveField | None:
    """A constant around a map only moves it; mirrored or repeated borders are read from elsewhere."""
    amounts, mode = pad_amounts(node), pad_mode(node)
    source = shapes.get(str(node.inputs[0].name), ()) if node.inputs[0] is not None else ()
    if amounts is None or len(amounts) != 8 or len(source) != 4:
        return None
    if mode == "constant":
        length = [n + amounts[axis] + amounts[axis + 4] for axis, n in enumerate(source)]
        return ReceptiveField(
            field.rows.slid(kernel=1, stride=1, dilation=1, pad=amounts[2], length=length[2]),
            field.columns.slid(kernel=1, stride=1, dilation=1, pad=amounts[3], length=length[3]),
        )
    if mode not in ("reflect", "edge", "wrap"):
        return None
    rows, columns = (
        axis.mirrored(amounts[index], amounts[index + 4], source[index], mode) if amounts[index] or amounts[index + 4]
        else axis
        for index, axis in ((2, field.rows), (3, field.columns))
    )  # fmt: skip
    return ReceptiveField(rows, columns)


def pad_mode(node: ir.Node) -> str:
    """What a Pad fills borders with."""
    mode = node.attributes.get("mode")
    return "constant" if mode is None else mode.as_string()


def pad_amounts(node: ir.Node) -> tuple[int, ...] | None:
    """Begins and ends of all axes; of four where only some are told; None where they are computed."""
    attribute = node.attributes.get("pads")  # before opset 11
    if attribute is not None:
        return tuple(attribute.as_ints())
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is None:
        return None
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return tuple(int(amount) for amount in given)
    axes = constant_array(node.inputs[3])
    if axes is None:
        return None
    amounts = [0] * 8
    for place, axis in enumerate(axes):
        amounts[int(axis) % 4], amounts[int(axis) % 4 + 4] = int(given[place]), int(given[place + len(axes)])
    return tuple(amounts)


def _union(seen: list[ReceptiveField | None]) -> ReceptiveField | None:
    total = seen[0]
    for other in seen[1:]:
        if total is None or other is None:
            return None
        rows, columns = total.rows.joined(other.rows), total.columns.joined(other.columns)
        total = None if rows is None or columns is None else ReceptiveField(rows, columns)
    return total


def _along_channels(node: ir.Node) -> bool:
    axis = node.attributes.get("axis")
    return axis is not None and axis.as_int() in (1, -3)


def _slid(node: ir.Node, field: ReceptiveField, shapes: Mapping[str, tuple[int, ...]]) -> ReceptiveField | None:
    source = shapes.get(str(node.inputs[0].name)) if node.inputs[0] is not None else None
    kernel = kernel_extent(node, shapes)
    if source is None or kernel is None or len(source) != 4:
        return None
    strides, dilations = node_pair(node, "strides", 1), node_pair(node, "dilations", 1)
    pads = leading_pads(node, (source[2], source[3]), kernel)
    output = shapes.get(str(node.outputs[0].name), ())
    if len(output) != 4:
        return None
    return ReceptiveField(
        field.rows.slid(kernel[0], strides[0], dilations[0], pads[0], output[2]),
        field.columns.slid(kernel[1], strides[1], dilations[1], pads[1], output[3]),
    )


def kernel_extent(node: ir.Node, shapes: Mapping[str, tuple[int, ...]]) -> Extent | None:
    """Height and width of a node's kernel, from its attribute or its weight; None if it is not 2-dimensional."""
    attribute = node.attributes.get("kernel_shape")
    if attribute is not None:
        extent = tuple(attribute.as_ints())
        return (extent[0], extent[1]) if len(extent) == 2 else None
    weight = node.inputs[3 if node.op_type == "QLinearConv" else 1] if len(node.inputs) > 1 else None
    shape = shapes.get(str(weight.name)) if weight is not None else None
    return (shape[2], shape[3]) if shape is not None and len(shape) == 4 else None


def leading_pads(node: ir.Node, source: Extent, kernel: Extent) -> Extent:
    """Rows and columns of padding before the first pixel, with auto padding worked out."""
    attribute = node.attributes.get("auto_pad")
    mode = attribute.as_string() if attribute is not None else "NOTSET"
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        given = node.attributes.get("pads")
        pads = tuple(given.as_ints()) if given is not None and mode == "NOTSET" else (0, 0, 0, 0)
        return pads[0], pads[1]
    strides, dilations = node_pair(node, "strides", 1), node_pair(node, "dilations", 1)
    total = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, s, k, d in zip(source, strides, kernel, dilations, strict=True)
    ]
    return (total[0] // 2, total[1] // 2) if mode == "SAME_UPPER" else (-(-total[0] // 2), -(-total[1] // 2))


def node_pair(node: ir.Node, name: str, default: int) -> Extent:
    """Height and width of an attribute, or the default twice."""
    attribute = node.attributes.get(name)
    values = tuple(attribute.as_ints()) if attribute is not None else ()
    return (values[0], values[1]) if len(values) == 2 else (default, default)
