"""Instance normalisation with the statistics of a whole picture, so that its tiles are normalised alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.graph.pass_ import GraphPass

Statistics = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # by output: mean and variance, (C,) each
MEAN, VARIANCE = ".mean", ".variance"
POOLED = [0, 2, 3]  # batch, height, width


def normalisations(model: ir.Model) -> tuple[str, ...]:
    """The outputs of a graph's instance normalisations, in order."""
    return tuple(str(node.outputs[0].name) for node in model.graph if node.op_type == "InstanceNormalization")


@dataclass(frozen=True)
class PoolNorm(GraphPass):
    """Normalise a batch by its common mean and variance, and put both out.

    Cases:
        1. Every InstanceNormalization becomes means over batch, height and width, and what they normalise.
        2. Means and variances, (C,) each, are appended to the outputs, named for the normalisation's output.
    """

    def rewrite(self, model: ir.Model) -> None:
        graph = model.graph
        for norm in [node for node in graph if node.op_type == "InstanceNormalization"]:
            name = str(norm.outputs[0].name)
            column = _constant(graph, f"{name}.column", np.array([-1, 1, 1], np.int64))
            epsilon = _constant(graph, f"{name}.epsilon", np.float32(_epsilon(norm)).reshape(1))
            new, axes, as_attribute = list[ir.Node](), list[ir.Value | None](), dict[str, Any]()
            if graph.opset_imports.get("", 0) >= 18:
                axes.append(_constant(graph, f"{name}.axes", np.array(POOLED, np.int64)))
            else:
                as_attribute["axes"] = POOLED

            def node(
                kind: str, inputs: list[ir.Value | None], output: str, new: list[ir.Node] = new, **attributes: Any
            ) -> ir.Value:
                made = ir.node(kind, inputs, attributes=attributes)
                made.outputs[0].name = output
                new.append(made)
                return made.outputs[0]

            x, scale, bias = norm.inputs
            mean = node("ReduceMean", [x, *axes], f"{name}{MEAN}", keepdims=0, **as_attribute)
            centred = node("Sub", [x, node("Reshape", [mean, column], f"{name}.mean.column")], f"{name}.centred")
            squared = node("Mul", [centred, centred], f"{name}.squared")
            variance = node("ReduceMean", [squared, *axes], f"{name}{VARIANCE}", keepdims=0, **as_attribute)
            spread = node("Sqrt", [node("Add", [variance, epsilon], f"{name}.shifted")], f"{name}.spread")
            factor = node(
                "Reshape", [node("Div", [scale, spread], f"{name}.factor"), column], f"{name}.factor.column"
            )
            shift = node("Reshape", [bias, column], f"{name}.shift")
            scaled = node("Mul", [centred, factor], f"{name}.scaled")
            node("Add", [scaled, shift], name)
            graph.insert_before(norm, new)
            norm.outputs[0].name = f"{name}.replaced"
            norm.outputs[0].replace_all_uses_with(new[-1].outputs[0], replace_graph_outputs=True)
            graph.remove(norm, safe=True)
            graph.outputs.extend([mean, variance])


@dataclass(frozen=True)
class FreezeNorm(GraphPass):
    """Normalise by given statistics: every InstanceNormalization becomes a BatchNormalization, which can be folded.

    Attributes:
        statistics: of all of them.
    """

    statistics: Statistics

    def rewrite(self, model: ir.Model) -> None:
        graph = model.graph
        for norm in [node for node in graph if node.op_type == "InstanceNormalization"]:
            name = str(norm.outputs[0].name)
            mean, variance = (
                _constant(graph, f"{name}{suffix}", values)
                for suffix, values in zip((MEAN, VARIANCE), self.statistics[name], strict=True)
            )
            frozen = ir.node(
                "BatchNormalization", [*norm.inputs, mean, variance], attributes={"epsilon": _epsilon(norm)}
            )
            graph.insert_before(norm, frozen)
            norm.outputs[0].name = f"{name}.replaced"
            frozen.outputs[0].name = name
            norm.outputs[0].replace_all_uses_with(frozen.outputs[0], replace_graph_outputs=True)
            graph.remove(norm, safe=True)


def _epsilon(norm: ir.Node) -> float:
    return norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5


def _constant(graph: ir.Graph, name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> ir.Value:
    tensor = ir.tensor(values, name=name)
    value = ir.Value(name=name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    graph.register_initializer(value)
    return value
