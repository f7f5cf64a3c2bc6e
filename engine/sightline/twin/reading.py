"""From a model to the nodes that the twin interprets, and the sentences why it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass
from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.twin.catalogue import OPSETS, lookup
from sightline.twin.node import Node, ValueNeeded
from sightline.twin.tensors import tensor_of

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


def refusals(nodes: list[Node], constants: Mapping[str, Tensor]) -> list[str]:
    """One sentence for every node that the twin cannot compute; nothing is executed."""
    found: list[str] = []
    for node in nodes:
        build = lookup(node.domain, node.operator, node.version)
        if build is None:
            found.append(_unknown(node))
            continue
        try:
            build(bind(node, constants))
        except ValueNeeded:
            continue  # a setting that the graph computes
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


def _unknown(node: Node) -> str:
    spoken = f"{node.domain}.{node.operator}" if node.domain else node.operator
    if not node.domain and node.version not in OPSETS:
        return (
            f"Node {node.name!r} ({spoken}) is of opset {node.version}; the twin reads {OPSETS[0]} to {OPSETS[-1]}."
        )
    return f"Node {node.name!r}: the twin has no operator {spoken} (opset {node.version})."


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
