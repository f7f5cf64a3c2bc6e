"""How finely an artefact's scores can differ: below that, maps of what changes them are rounding."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.graph.codes import SUMS, quantisation
from sightline.graph.constants import constant_array
from sightline.graph.layers import infer_types
from sightline.model import Model
from sightline.types import FloatArray

KEEPING = frozenset({  # put out the numbers that they read, but for a Cast that may round them
    "Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze",
})  # fmt: skip
BITS = {ir.DataType.FLOAT16: 10, ir.DataType.BFLOAT16: 7}  # of the mantissa; whatever else is taken for float32
BITS_FLOAT32 = 23
LEAST = {10: 2.0**-14}  # numbers of float16 below this lie no closer
FAR = 16  # nodes that are looked back


def score_steps(model: Model, scores: FloatArray) -> NDArray[np.float64]:
    """(n,) distance from each score to the next that the graph's last layers can put out, in float64.

    Cases:
        1. Scores that were quantised lie a scale apart, the largest where each class has its own.
        2. Others lie a unit in the last place apart, of the least number of bits that they pass on their way out.

    What rounds further inside of the network is not counted, so noise may be larger.
    """
    port = model.input
    types = infer_types(model.graph, port.shape(port.batch or 1, model.input_size))
    value, bits = _scores(model), BITS_FLOAT32
    for _ in range(FAR):
        scale = None if value is None else _scale(value)
        if scale is not None:
            return np.full(len(scores), scale, np.float64)  # 1
        if value is None:
            break
        bits = min(bits, BITS.get(types.get(str(value.name), value.dtype or ir.DataType.FLOAT), BITS_FLOAT32))
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in KEEPING else None
    wide = np.maximum(np.abs(scores.astype(np.float64)), LEAST.get(bits, 2.0**-126))
    return 2.0 ** (np.floor(np.log2(wide)) - bits)  # 2


def _scores(model: Model) -> ir.Value | None:
    made = (value for node in model.graph.graph for value in node.outputs)
    return next((value for value in made if value.name == model.logits_name), None)


def _scale(value: ir.Value) -> float | None:
    """The scale of codes, or of what was read from them."""
    node = value.producer()
    read = node is not None and node.op_type == "DequantizeLinear"
    known = not read and node is not None and node.op_type not in SUMS
    how = quantisation(value) if known else None
    scale = constant_array(node.inputs[1] if node is not None and read else None if how is None else how.scale)
    return None if scale is None else float(np.max(scale))
