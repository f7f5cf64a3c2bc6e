"""A target's score as the graph's only output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray

from sightline.graph.pass_ import GraphPass
from sightline.graph.ports import Activation
from sightline.graph.splice import Splice
from sightline.target import ClassScore, Scaled, Sum, Target, Unit, class_scores

SCORE = "score"


@dataclass(frozen=True)
class PutOutScore(GraphPass):
    """Compute a bound target's score where the network is computed, so that nothing else need leave the device.

    Cases:
        1. A class score reads the logits, or what softmax or sigmoid makes of them, in float32. Which class it is of
           each row is an input: one graph serves all classes.
        2. A unit is one channel of a layer: at a position, or the mean over all.
        3. Sums and multiples of these are themselves.
        4. What no score reads goes, with the nodes that made it.

    Attributes:
        target: bound, its layers under the graph's own names.
        logits_name: the value that holds the class scores.
        activation: what follows them.
        ranks: number of axes of every layer that the target reads.
    """

    target: Target
    logits_name: str
    activation: Activation
    ranks: Mapping[str, int]

    keeps_inputs = False
    keeps_outputs = False

    def rewrite(self, model: ir.Model) -> None:
        graph = model.graph
        values = {str(v.name): v for node in graph for v in node.outputs}
        values |= {str(v.name): v for v in graph.outputs}
        splice = Splice(graph, SCORE)
        classes = iter(class_inputs(self.target, 0))
        score = splice("Identity", self._value(splice, values, self.target, classes))
        splice.last()
        score.name, score.type, score.shape = SCORE, ir.TensorType(ir.DataType.FLOAT), ir.Shape(["M"])
        graph.outputs[:] = [score]  # 4
        common_passes.RemoveUnusedNodesPass()(model)

    def _value(self, splice: Splice, values: Mapping[str, ir.Value], target: Target, classes: object) -> ir.Value:
        """(M,) float32."""
        match target:
            case Sum(left=left, right=right):  # 3
                return splice("Add", *(self._value(splice, values, part, classes) for part in (left, right)))
            case Scaled(part=part, factor=factor):
                return splice("Mul", self._value(splice, values, part, classes), splice.constant(np.float32(factor)))
            case ClassScore(space=space):
                name = next(classes)  # type: ignore[call-overload]
                return self._class_score(splice, values[self.logits_name], space == "probability", name)
            case Unit():
                return self._unit(splice, values[target.layer], target)
            case _:
                raise TypeError(f"{target!r} is not bound.")

    def _class_score(self, splice: Splice, logits: ir.Value, activated: bool, name: str) -> ir.Value:  # 1
        scores = splice("Flatten", splice("Cast", logits, to=int(ir.DataType.FLOAT)), axis=1)  # (M, K)
        if activated:
            scores = splice("Sigmoid", scores) if self.activation == "sigmoid" else splice("Softmax", scores, axis=1)
        index = splice.shaped(splice.input(name, ir.DataType.INT64, ("M",)), -1, 1)
        return splice.shaped(splice("GatherElements", scores, index, axis=1), -1)

    def _unit(self, splice: Splice, layer: ir.Value, unit: Unit) -> ir.Value:  # 2
        channel = splice("Gather", layer, splice.constant([unit.channel]), axis=1)  # (M, 1, h, w) or (M, 1)
        if unit.position is not None:
            for axis, place in zip((2, 3), unit.position, strict=True):
                channel = splice("Gather", channel, splice.constant([place]), axis=axis)
        elif self.ranks[unit.layer] > 2:
            channel = splice("GlobalAveragePool", channel)
        return splice("Cast", splice.shaped(channel, -1), to=int(ir.DataType.FLOAT))


def formula(target: Target) -> str:
    """What of a target the graph depends on: all but the classes."""
    match target:
        case Sum(left=left, right=right):
            return f"({formula(left)} + {formula(right)})"
        case Scaled(part=part, factor=factor):
            return f"{factor!r} * {formula(part)}"
        case ClassScore(space=space):
            return space
        case _:
            return repr(target)


def class_inputs(target: Target, count: int) -> dict[str, NDArray[np.int64]]:
    """(count,) class of every row, by input of the graph, in the order of the formula."""
    found: dict[str, NDArray[np.int64]] = {}
    for n, part in enumerate(class_scores(target)):
        index: int | Sequence[int] = part.index if isinstance(part.index, int) else part.index[:count]
        found[f"{SCORE}:classes{n}"] = np.broadcast_to(np.asarray(index, np.int64), (count,)).copy()
    return found
