"""From a model to the nodes that the twin interprets, and the sentences why it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass
from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.twin.binding import bound_kernel
from sightline.twin.node import Node
from sightline.twin.tensors import DTYPES, tensor_of

LARGEST_SETTING = 64  # elements; the pads of a tensor of 32 dimensions
_PLAIN = {ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING}
_LISTS = {ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS}


def inline(model: ir.Model) -> ir.Model:
    """The model without model-local functions; the original is left as it was, weights are shared."""
    if not model.functions:
        return model
    copy = model.clone()
    InlinePass()(copy)
    return copy


def read_nodes(model: ir.Model) -> list[Node]:
    """The nodes of an inlined model in topological order."""
    return [_read(node, model.graph.opset_imports) for node in model.graph]


def read_constants(model: ir.Model) -> dict[str, Tensor]:
    """The initializers of a model by name, on the CPU.

    Raises:
        UnsupportedOperator: one has an element type that torch has not.
    """
    found: dict[str, Tensor] = {}
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            raise UnsupportedOperator(f"Initializer {name!r} holds no data: load the model with its external data.")
        try:
            found[name] = tensor_of(value.const_value)
        except UnsupportedOperator as reason:
            raise UnsupportedOperator(f"Initializer {name!r}: {reason}. {FORWARD_ONLY}") from None
    return found


def refusals(model: ir.Model, nodes: list[Node], constants: Mapping[str, Tensor]) -> list[str]:
    """One sentence for every input and node that the twin cannot compute with; nothing is executed."""
    found = [
        f"Input {value.name!r}: elements of type {value.dtype.name} are not computed with."
        for value in model.graph.inputs
        if value.dtype is not None and value.dtype not in DTYPES
    ]
    for node in nodes:
        try:
            bound_kernel(bind(node, constants))
        except UnsupportedOperator as reason:
            found.append(str(reason))
    return found


def bind(node: Node, constants: Mapping[str, Tensor]) -> Node:
    """The node with the values of its constant inputs, as far as they are settings and not weights."""
    given = ((index, constants[name]) for index, name in enumerate(node.inputs) if name in constants)
    return replace(node, known={index: tensor for index, tensor in given if tensor.numel() <= LARGEST_SETTING})


FORWARD_ONLY = (
    "Methods that need gradients cannot run on this model; forward-only ones (predict, occlusion, activation_map, …) "
    "still can."
)


def _read(node: ir.Node, opsets: Mapping[str, int]) -> Node:
    outputs = tuple(value.name or "" for value in node.outputs)
    return Node(
        name=node.name or next((name for name in outputs if name), node.op_type),
        operator=node.op_type,
        domain="" if node.domain == "ai.onnx" else node.domain,
        version=node.version or opsets.get(node.domain, 1),
        inputs=tuple("" if value is None else value.name or "" for value in node.inputs),
        outputs=outputs,
        attributes={attribute.name: _plain(attribute) for attribute in node.attributes.values()},
    )


def _plain(attribute: ir.Attr) -> Any:
    if attribute.type in _PLAIN:
        return attribute.value
    if attribute.type in _LISTS:
        return tuple(attribute.value)
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.value
    return attribute  # a subgraph, or another thing that only an operator unknown to the twin reads
