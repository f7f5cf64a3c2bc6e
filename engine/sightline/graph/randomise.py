"""Weights shuffled from the output backwards: what a network knows, taken away layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sightline.graph.constants import constant_array
from sightline.graph.pass_ import GraphPass

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class RandomiseWeights(GraphPass):
    """Shuffle the weights of the last layers; each tensor keeps its numbers and so its distribution.

    Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity Checks for Saliency Maps" (2018), where they are drawn
    anew: shuffled ones leave the scale of what follows as it was.

    Cases:
        1. Convolutions and products whose second operand is constant: shuffled, the last ``share`` of them.
        2. Weights that an earlier layer shares are replaced for this one alone.
        3. Biases and normalisations stay.
    """

    share: float = 1.0  # of the layers with weights, counted from the output
    seed: int = 0

    def rewrite(self, model: ir.Model) -> None:
        graph = model.graph
        nodes = [
            node
            for node in graph
            if node.op_type in WEIGHTED and len(node.inputs) > 1 and constant_array(node.inputs[1]) is not None  # 1
        ]
        random = np.random.default_rng(self.seed)
        for place, node in enumerate(nodes[len(nodes) - round(self.share * len(nodes)) :]):
            array = constant_array(node.inputs[1])
            assert array is not None
            shuffled = random.permutation(array.ravel()).reshape(array.shape).astype(array.dtype)
            tensor = ir.tensor(shuffled, name=f"shuffled.{place}")
            value = ir.Value(name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
            value.const_value = tensor
            graph.register_initializer(value)
            held = node.inputs[1]
            node.replace_input_with(1, value)  # 2
            if held is not None and held.name in graph.initializers and not held.uses():
                del graph.initializers[str(held.name)]
