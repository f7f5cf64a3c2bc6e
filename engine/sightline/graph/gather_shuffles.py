"""Channel shuffles as one Gather, which leaves every position where it is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray

from sightline.graph.layers import Shapes
from sightline.graph.pass_ import GraphPass
from sightline.graph.receptive import only_channels_move


class GatherShuffles(GraphPass):
    """Write channels that are moved between groups (Reshape, Transpose, Reshape) as a Gather along channels.

    Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices"
    (2018).
    The Gather bears the name of the last value; those between are gone, unless something else reads them.

    Args:
        shapes: of every value at batch 1.

    Cases:
        1. Maps (B, C, H, W) that pass Reshapes and Transposes which keep batch, height and width, and come out as
           (B, C, H, W): gathered.
        2. Anything that moves a position or an image: left alone.
    """

    def __init__(self, shapes: Shapes):
        self._shapes = shapes

    def rewrite(self, model: ir.Model) -> None:
        for node in list(model.graph):
            found = _shuffled(node, self._shapes) if node.op_type == "Reshape" else None
            if found is None:
                continue  # 2
            source, order = found
            name = f"{node.outputs[0].name}.order"
            tensor = ir.tensor(order, name=name)
            held = ir.Value(
                name=name, shape=ir.Shape(order.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            model.graph.register_initializer(held)
            node.op_type = "Gather"  # 1
            node.attributes.clear()
            node.attributes["axis"] = ir.AttrInt64("axis", 1)
            node.replace_input_with(0, source)
            node.replace_input_with(1, held)
        common_passes.RemoveUnusedNodesPass()(model)


def _shuffled(last: ir.Node, shapes: Shapes) -> tuple[ir.Value, NDArray[np.int64]] | None:
    """The maps whose channels a Reshape puts out in another order, and (C,) which comes where."""
    result = shapes.get(str(last.outputs[0].name), ())
    chain, value = list[ir.Node](), last.outputs[0]
    while len(result) == 4 and (node := value.producer()) is not None and _keeps_places(node, shapes):
        source = node.inputs[0]
        assert source is not None  # _keeps_places saw to it
        chain.append(node)
        value = source
        if shapes[str(value.name)] == result:
            break
    if len(chain) < 2 or shapes.get(str(value.name)) != result:
        return None
    order = np.arange(result[1], dtype=np.int64).reshape(1, -1, 1, 1)
    for node in reversed(chain):
        if node.op_type == "Transpose":
            order = order.transpose(tuple(node.attributes["perm"].as_ints()))
        else:
            order = order.reshape(*shapes[str(node.outputs[0].name)][:-2], 1, 1)
    return value, order.ravel()


def _keeps_places(node: ir.Node, shapes: Shapes) -> bool:
    """Whether only channels move, and images stay apart."""
    if node.op_type not in ("Reshape", "Transpose") or not only_channels_move(node, shapes):
        return False
    if node.op_type == "Transpose":
        batch, *_ = node.attributes["perm"].as_ints()
        return batch == 0
    assert node.inputs[0] is not None
    return shapes[str(node.inputs[0].name)][0] == shapes[str(node.outputs[0].name)][0] == 1
