"""Nodes, constants and inputs on their way into a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

OPSET = 11  # least that the nodes of splices are written for: comparisons of integers, GatherElements, CumSum


class Splice:
    """Writes nodes one after the other; ``first`` or ``last`` puts them into the graph.

    Args:
        graph: that receives them; its constants and inputs at once, its nodes in the end.
        name: begins the names of its constants.
    """

    def __init__(self, graph: ir.Graph, name: str):
        self._graph, self._name = graph, name
        self._nodes: list[ir.Node] = []
        self._count = 0

    def __call__(self, operator: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """The output of a new node."""
        node = ir.node(operator, list(inputs), attributes)
        self._nodes.append(node)
        return node.outputs[0]

    def constant(self, numbers: NDArray[Any] | np.generic | Sequence[int]) -> ir.Value:
        """A value that never changes; whole numbers in a list are shapes or axes, int64."""
        array = np.asarray(numbers)
        name = f"{self._name}:constant{self._count}"
        self._count += 1
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def shaped(self, value: ir.Value, *shape: int) -> ir.Value:
        """The same numbers in another shape; -1 is what is left over."""
        return self("Reshape", value, self.constant(shape))

    def input(self, name: str, dtype: ir.DataType, shape: tuple[int | str, ...]) -> ir.Value:
        """A new input of the graph, after those that it has."""
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self._graph.inputs.append(value)
        return value

    def within(self, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """Where low <= value < high, of integers."""
        return self("And", self("Not", self("Less", value, low)), self("Less", value, high))

    def first(self) -> None:
        """Put the nodes before all others."""
        nodes = list(self._graph)
        if nodes:
            self._graph.insert_before(nodes[0], self._nodes)
        else:
            self._graph.extend(self._nodes)
        self._nodes = []

    def last(self) -> None:
        """Put the nodes behind all others."""
        self._graph.extend(self._nodes)
        self._nodes = []
