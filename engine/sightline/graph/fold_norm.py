"""Batch normalisation folded into the convolution before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.graph.constants import constant_array
from sightline.graph.pass_ import GraphPass


class FoldNorm(GraphPass):
    """Scale a convolution's weights instead of normalising its output; computed in float64.

    The folded pair keeps the name of the normalisation's output; the convolution's own output is gone, so a reader
    of that value needs the graph as it was.

    Cases:
        1. Conv -> BatchNormalization, the convolution read by nothing else, all parameters constant: folded over the
           weight's axis 0.
        2. ConvTranspose -> BatchNormalization, likewise, ungrouped: folded over axis 1.
        3. Training-mode outputs, computed weights, a convolution that others read too, and half precision, which
           would lose digits that the pair keeps: left alone.
    """

    def rewrite(self, model: ir.Model) -> None:
        for norm in [node for node in model.graph if node.op_type == "BatchNormalization"]:
            source = norm.inputs[0]
            convolution = source.producer() if source is not None else None
            if convolution is not None and _foldable(convolution, norm):
                _fold(model.graph, convolution, norm)


def _foldable(convolution: ir.Node, norm: ir.Node) -> bool:
    group = convolution.attributes.get("group")
    grouped = group is not None and group.as_int() > 1
    if convolution.op_type != "Conv" and (convolution.op_type != "ConvTranspose" or grouped):
        return False  # 3
    output = convolution.outputs[0]
    if len(output.uses()) != 1 or output.is_graph_output() or sum(bool(v.name) for v in norm.outputs) != 1:
        return False  # 3
    arrays = [constant_array(v) for v in (*convolution.inputs[1:], *norm.inputs[1:]) if v is not None]
    return all(array is not None and array.dtype.name in ("float32", "float64") for array in arrays)


def _fold(graph: ir.Graph, convolution: ir.Node, norm: ir.Node) -> None:
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    gamma, beta, mean, variance = (_array(value) for value in norm.inputs[1:5])
    factor = gamma / np.sqrt(variance + epsilon)  # (C,)
    weight = _array(convolution.inputs[1])
    axis = 0 if convolution.op_type == "Conv" else 1  # 1, 2
    bias = _array(convolution.inputs[2]) if len(convolution.inputs) > 2 and convolution.inputs[2] is not None else 0.0
    shape = [-1 if a == axis else 1 for a in range(weight.ndim)]
    name, kept = str(norm.outputs[0].name), convolution.outputs[0]
    dtype = np.asarray(constant_array(convolution.inputs[1])).dtype
    replaced = [value for value in (*convolution.inputs[1:], *norm.inputs[1:]) if value is not None]
    convolution.resize_inputs(3)
    for place, values in ((1, weight * factor.reshape(shape)), (2, (bias - mean) * factor + beta)):
        tensor = ir.tensor(values.astype(dtype), name=f"{name}.folded.{place}")
        value = ir.Value(name=tensor.name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        graph.register_initializer(value)
        convolution.replace_input_with(place, value)
    norm.outputs[0].replace_all_uses_with(kept, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    kept.name = name
    for value in replaced:
        if value.name in graph.initializers and not value.uses() and not value.is_graph_output():
            del graph.initializers[str(value.name)]


def _array(value: ir.Value | None) -> NDArray[np.float64]:
    array = constant_array(value)
    assert array is not None  # _foldable saw to it
    return array.astype(np.float64)
