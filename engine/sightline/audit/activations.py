"""Which activation functions a graph has, however its exporter wrote them."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

NAMES = {  # operators that bend what passes, and what people call them
    "Relu": "ReLU", "Clip": "a clipped ReLU (ReLU6)", "LeakyRelu": "leaky ReLU", "PRelu": "parametric ReLU",
    "Elu": "ELU", "Selu": "SELU", "Celu": "CELU", "Gelu": "GELU", "HardSwish": "hard swish",
    "HardSigmoid": "hard sigmoid", "Swish": "SiLU", "Mish": "Mish", "Softplus": "softplus", "Tanh": "tanh",
    "Erf": "GELU",
}  # fmt: skip
# what is multiplied by its own input
GATED = {"Sigmoid": "SiLU", "HardSigmoid": "hard swish", "Tanh": "Mish", "Clip": "hard swish"}


def activations(model: ir.Model) -> Counter[str]:
    """How often each function occurs, by the name that people know it by.

    One function, written in one node or in several: x Sigmoid(x) is SiLU, x HardSigmoid(x) and
    x Clip(x + 3, 0, 6) / 6 are hard swish, x Tanh(Softplus(x)) is Mish, Erf is GELU. A sigmoid by itself opens gates
    and is no activation.
    """
    found, within = Counter[str](), set[str]()
    for node in model.graph:
        source = _source(node)
        if node.op_type in GATED and source is not None and _times(node.outputs[0], source):
            found[GATED[node.op_type]] += 1
            inner = node.inputs[0].producer() if node.inputs[0] is not None else None
            within |= {str(node.outputs[0].name)} | ({str(inner.outputs[0].name)} if inner is not None else set())
    for node in model.graph:
        if node.op_type in NAMES and str(node.outputs[0].name) not in within:
            shifted = node.op_type == "Clip" and _source(node) is not node.inputs[0]
            found["hard sigmoid" if shifted else NAMES[node.op_type]] += 1
    return found


def _source(node: ir.Node) -> ir.Value | None:
    """What a gate is a function of: its operand, or what that was made from in a step that belongs to the gate."""
    value = node.inputs[0] if node.inputs else None
    before = None if value is None else value.producer()
    if before is None:
        return value
    if node.op_type == "Tanh" and before.op_type == "Softplus":
        return before.inputs[0]
    if node.op_type == "Clip" and before.op_type == "Add":
        loose = [one for one in before.inputs if one is not None and not _is_constant(one)]
        return loose[0] if len(loose) == 1 else value
    return value


def _times(gate: ir.Value, source: ir.Value) -> bool:
    """Whether a gate is multiplied by what it is a function of, constant factors aside."""
    for use in gate.uses():
        if use.node.op_type not in ("Mul", "Div"):
            continue
        others = [one for one in use.node.inputs if one is not None and one is not gate]
        if source in others:
            return True
        if all(map(_is_constant, others)) and _times(use.node.outputs[0], source):
            return True
    return False


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    return value.const_value is not None or (producer is not None and producer.op_type == "Constant")
