"""How what a window changes grows from one operator to the next.

Cases, with the numbers that the code carries:
    1. One position of the output reads the same position of every input (activations, arithmetic, Concat and Split
       along channels, channels picked or shuffled, normalisation with fixed statistics): the union of what changes in
       the inputs.
    2. A sliding kernel (Conv, MaxPool, AveragePool), and a border of zeros or minus infinity (Pad), which is one of a
       single position: the outputs whose kernel touches a changed position.
    3. The mean over all positions: updated by the difference; from there on there are no positions.
    4. An operand that is changed and has no positions of its own, such as the gate of squeeze-and-excitation: it
       changes every position of the other operands.
    5. Everything else (attention, layer norm, reshapes, resizes, unknown operators): the whole value changes.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from sightline.graph.constants import constant_array
from sightline.graph.incremental_occlusion.cut import Slide
from sightline.graph.layers import Shapes
from sightline.graph.receptive import kernel_extent, leading_pads, node_pair, pad_amounts, pad_mode

# fmt: off
ONE_INPUT = frozenset((
    "Abs", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "LRN", "LeakyRelu", "Log", "Mish", "Neg", "PRelu", "Reciprocal", "Relu",
    "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Softplus", "Softsign", "Split", "Sqrt", "Swish", "Tanh",
    "ThresholdedRelu", "QuantizeLinear", "DequantizeLinear",
))
SEVERAL_INPUTS = frozenset(("Add", "Concat", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum"))
# fmt: on
Kind = Literal["positionwise", "sliding", "mean", "everything"]


@dataclass(frozen=True)
class Growth:
    """What a node does to a change.

    Attributes:
        kind: cases 1, 2, 3 and 5.
        slides: along rows and columns, of a sliding kernel.
        filler: what lies outside the map for a sliding kernel.
        resizes: whether the output has other positions than the input.
    """

    kind: Kind
    slides: tuple[Slide, Slide] = (Slide(), Slide())
    filler: float = 0.0
    resizes: bool = False

    @property
    def keeps_place(self) -> bool:
        """Whether an output position reads one input position, the same."""
        still = self.slides == (Slide(), Slide()) and not self.resizes
        return self.kind == "positionwise" or (self.kind == "sliding" and still)


EVERYTHING = Growth("everything")


def growth(node: ir.Node, shapes: Shapes, changing: Set[str]) -> Growth:
    """What this node does to a change of its inputs.

    Args:
        node: of a graph in NCHW.
        shapes: of every value at batch 1.
        changing: names of the values that depend on the image.
    """
    output = shapes.get(str(node.outputs[0].name), ())
    if node.domain not in ("", "ai.onnx") or len(output) != 4:
        return _mean(node, shapes)
    if node.op_type in ("Conv", "MaxPool", "AveragePool"):
        return _sliding(node, shapes, output)
    if node.op_type == "Pad":
        return _bordered(node, shapes)
    if node.op_type in ("Gather", "Slice"):
        return Growth("positionwise") if _picks_channels(node, shapes) else EVERYTHING  # 1
    if node.op_type in ONE_INPUT:
        return Growth("positionwise") if _along_channels(node) else EVERYTHING  # 1
    if node.op_type in SEVERAL_INPUTS:
        return Growth("positionwise") if _along_channels(node) and _alike(node, shapes, changing) else EVERYTHING  # 1
    return _mean(node, shapes)


def _sliding(node: ir.Node, shapes: Shapes, output: tuple[int, ...]) -> Growth:
    kernel, source = kernel_extent(node, shapes), shapes.get(str(node.inputs[0].name), ()) if node.inputs[0] else ()
    if kernel is None or len(source) != 4 or len(node.outputs) > 1:
        return EVERYTHING  # 5: the second output of MaxPool counts positions of the whole map
    if any(constant_array(value) is None for value in node.inputs[1:] if value is not None):
        return EVERYTHING  # 5: kernels that are computed
    pads = leading_pads(node, (source[2], source[3]), kernel)
    strides, dilations = node_pair(node, "strides", 1), node_pair(node, "dilations", 1)
    slides = tuple(Slide((k - 1) * d + 1, s, p) for k, d, s, p in zip(kernel, dilations, strides, pads, strict=True))
    if node.op_type == "AveragePool":
        whole_map = kernel == (source[2], source[3]) and output[2:] == (1, 1) and pads == (0, 0)
        if whole_map:
            return Growth("mean")  # 3
        ceiling = "ceil_mode" in node.attributes and node.attributes["ceil_mode"].as_int() != 0
        padded = _reaches_out(slides, source, output)
        counted = "count_include_pad" in node.attributes and node.attributes["count_include_pad"].as_int() != 0
        if padded and (ceiling or not counted):
            return EVERYTHING  # 5: a divisor that changes at the border
    filler = float("-inf") if node.op_type == "MaxPool" else 0.0
    return Growth("sliding", (slides[0], slides[1]), filler, resizes=source[2:] != output[2:])  # 2


def _bordered(node: ir.Node, shapes: Shapes) -> Growth:
    """A Pad of rows and columns."""
    amounts, source = pad_amounts(node), shapes.get(str(node.inputs[0].name), ()) if node.inputs[0] else ()
    if pad_mode(node) != "constant" or amounts is None or len(amounts) != 8 or len(source) != 4:
        return EVERYTHING  # 5
    given = node.inputs[2] if len(node.inputs) > 2 else None
    filled = constant_array(given) if given is not None else np.zeros(1)
    if "value" in node.attributes:  # before opset 11
        filled = np.array(node.attributes["value"].as_float())
    if filled is None or float(filled.item()) not in (0.0, float("-inf")) or any((*amounts[:2], *amounts[4:6])):
        return EVERYTHING  # 5
    return Growth("sliding", (Slide(pad=amounts[2]), Slide(pad=amounts[3])), float(filled.item()), resizes=True)  # 2


def _picks_channels(node: ir.Node, shapes: Shapes) -> bool:
    """Whether some channels are taken, in any order, of maps whose positions stay."""
    source = shapes.get(str(node.inputs[0].name), ()) if node.inputs[0] is not None else ()
    if len(source) != 4 or any(constant_array(one) is None for one in node.inputs[1:] if one is not None):
        return False
    if node.op_type == "Gather":
        return "axis" in node.attributes and node.attributes["axis"].as_int() in (1, -3)
    if "axes" in node.attributes:  # before opset 10
        return set(node.attributes["axes"].as_ints()) <= {1, -3}
    axes = constant_array(node.inputs[3]) if len(node.inputs) > 3 else None
    return axes is not None and {int(axis) for axis in axes} <= {1, -3}


def _reaches_out(slides: tuple[Slide, ...], source: tuple[int, ...], output: tuple[int, ...]) -> bool:
    """Whether any output reads a position outside the map."""
    return any(
        slide.pad > 0 or (length - 1) * slide.stride - slide.pad + slide.kernel > positions
        for slide, length, positions in zip(slides, output[2:], source[2:], strict=True)
    )


def _mean(node: ir.Node, shapes: Shapes) -> Growth:
    source = shapes.get(str(node.inputs[0].name), ()) if node.inputs and node.inputs[0] is not None else ()
    if len(source) != 4 or node.domain not in ("", "ai.onnx"):
        return EVERYTHING
    if node.op_type == "GlobalAveragePool":
        return Growth("mean")  # 3
    if node.op_type == "ReduceMean" and _reduced_axes(node) == {2, 3}:
        return Growth("mean")  # 3
    return EVERYTHING  # 5


def _reduced_axes(node: ir.Node) -> set[int]:
    if "axes" in node.attributes:
        axes = list(node.attributes["axes"].as_ints())
    else:
        given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = [] if given is None else [int(axis) for axis in given]
    return {axis % 4 for axis in axes}


def _along_channels(node: ir.Node) -> bool:
    """True unless the node has an axis that is not the channels'."""
    if node.op_type not in ("Concat", "Split", "QuantizeLinear", "DequantizeLinear"):
        return True
    default = {"Split": 0}.get(node.op_type, 1)
    return (node.attributes["axis"].as_int() if "axis" in node.attributes else default) in (1, -3)


def _alike(node: ir.Node, shapes: Shapes, changing: Set[str]) -> bool:
    """Whether operands that change have the output's positions (else case 4), and the others are alike at all."""
    positions = shapes[str(node.outputs[0].name)][2:]
    for value in node.inputs:
        name = "" if value is None else str(value.name)
        shape = shapes.get(name, (0, 0))
        if shape[-2:] != positions if name in changing else any(n != 1 for n in shape[-2:]):
            return False  # 4
    return True
