"""The kernels of a convolution, read from the graph without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from sightline.abilities import Kernels
from sightline.errors import UsageError
from sightline.graph.constants import constant_array
from sightline.graph.receptive import POSITIONWISE

if TYPE_CHECKING:
    from sightline.model import Model

CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv", "QLinearConv")
COLOUR_KEEPING = (
    "Transpose", "Sub", "Mul", "Div", "Add", "Cast", "Pad", "Identity", "QuantizeLinear", "DequantizeLinear"
)  # fmt: skip


def read_kernels(model: Model, layer: str | None) -> Kernels:
    """The kernels at a layer; the first convolution's when None.

    Args:
        model: the network.
        layer: any name of the convolution, or of an activation or norm right behind it.

    Raises:
        UsageError: there is no convolution, or its weight is computed while the network runs.
    """
    convolutions = [entry for entry in model.layers if entry.operator in CONVOLUTIONS]
    if not convolutions:
        raise UsageError("The network has no convolution, so it has no filters.")
    name = convolutions[0].name if layer is None else model.layers.resolve(layer)
    node = _convolution_behind(model.graph, name)
    if node is None:
        names = ", ".join(entry.module or entry.name for entry in convolutions[:4])
        raise UsageError(f"Layer {layer!r} is no convolution. The first ones are: {names}.")
    weight = node.inputs[3 if node.op_type == "QLinearConv" else 1]
    values = constant_array(weight)
    if values is None:
        raise UsageError(f"The weight of layer {name!r} is computed while the network runs: it has no fixed filters.")
    return Kernels(
        model.layers.title(str(node.outputs[0].name)), values.astype(np.float32), _channels_read(model, node)
    )


def _convolution_behind(graph: ir.Model, name: str) -> ir.Node | None:
    node = next((node for node in graph.graph if any(output.name == name for output in node.outputs)), None)
    while node is not None and node.op_type not in CONVOLUTIONS:
        if node.op_type not in POSITIONWISE:
            return None
        producers = [
            v.producer() for v in node.inputs if v is not None and constant_array(v) is None and v.producer()
        ]
        node = producers[0] if len(producers) == 1 else None
    return node


def _channels_read(model: Model, node: ir.Node) -> str | None:
    """Colour order of the convolution's input, if that is the image (normalised or quantised first, perhaps)."""
    source = node.inputs[0]
    while source is not None and source.producer() is not None:
        producer = source.producer()
        if producer is None or producer.op_type not in COLOUR_KEEPING:
            return None
        source = producer.inputs[0]
    order = model.preprocess.channels if model.has_preprocess else "RGB"
    return order if model.input.channels == 3 else "L"
