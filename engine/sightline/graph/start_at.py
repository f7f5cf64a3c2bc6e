"""A graph that begins at an inner value."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sightline.graph.pass_ import GraphPass


@dataclass(frozen=True)
class StartAt(GraphPass):
    """Make an inner value the graph's first input, and drop what only it needed.

    Cases:
        1. The value becomes an input of the same name, type and shape, its batch free. Where the graph does not say
           the shape or the type, they are those that are given.
        2. Nodes that no output needs any more go.
        3. Inputs that nothing reads any more go; those that a path past the value still reads stay.

    Attributes:
        name: of the value.
        shape: of the value at batch 1, if that is known.
        dtype: of the value where the graph does not say it.
    """

    name: str
    shape: tuple[int, ...] | None = None
    dtype: ir.DataType = ir.DataType.FLOAT

    keeps_inputs = False

    def rewrite(self, model: ir.Model) -> None:
        graph = model.graph
        inner = next(v for node in graph for v in node.outputs if v.name == self.name)
        known = inner.shape if self.shape is None else self.shape
        shape = None if known is None else ir.Shape(["batch", *known[1:]])
        start = ir.val(self.name, self.dtype if inner.dtype is None else inner.dtype, shape)
        inner.replace_all_uses_with(start, replace_graph_outputs=True)  # 1
        inner.name = f"{self.name} of the image"
        graph.inputs.insert(0, start)
        common_passes.RemoveUnusedNodesPass()(model)  # 2
        graph.inputs[:] = [v for v in graph.inputs if v is start or v.uses() or v.is_graph_output()]  # 3
