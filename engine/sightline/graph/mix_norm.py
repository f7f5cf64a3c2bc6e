"""Several styles in one network: the mix that is asked for, as a graph of one style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.graph.constants import constant_array
from sightline.graph.pass_ import GraphPass

SHARES = "shares"  # the input (N,) that says how much of each style


@dataclass(frozen=True)
class MixNorm(GraphPass):
    """Give conditional instance normalisations the shares of their styles; plain normalisations are left.

    Cases:
        1. Every product of the shares (N,) and a constant table (N, C) becomes the constant (C,).
        2. The input goes; whatever else reads it reads a constant.

    Attributes:
        shares: (N,), sum 1.
    """

    shares: NDArray[np.float32]
    keeps_inputs = False

    def rewrite(self, model: ir.Model) -> None:
        graph = model.graph
        given = next(value for value in graph.inputs if value.name == SHARES)
        for reader in [use.node for use in given.uses()]:
            table = constant_array(reader.inputs[1]) if reader.op_type == "MatMul" else None
            if table is None or table.ndim != 2:
                continue
            row = self.shares.astype(np.float64) @ table.astype(np.float64)  # (C,) 1
            self._replace(graph, reader, row.astype(table.dtype))
        graph.inputs.remove(given)
        if given.uses():
            given.const_value = ir.tensor(self.shares, name=SHARES)  # 2
            graph.register_initializer(given)

    def _replace(self, graph: ir.Graph, product: ir.Node, row: NDArray[np.float32]) -> None:
        """A constant in place of what a node puts out, under the same name."""
        name, stored = str(product.outputs[0].name), product.inputs[1]
        product.outputs[0].name = f"{name}.replaced"
        value = ir.Value(name=name, shape=ir.Shape(row.shape), type=ir.TensorType(ir.DataType.from_numpy(row.dtype)))
        value.const_value = ir.tensor(row, name=name)
        graph.register_initializer(value)
        product.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(product, safe=True)
        if stored is not None and stored.name in graph.initializers and not stored.uses():
            del graph.initializers[str(stored.name)]
