"""Activation functions by what they compute, not by the nodes that spell them."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from sightline.audit.activations import activations

SPELT = {
    "ReLU": "y = Relu(x)",
    "a clipped ReLU (ReLU6)": "y = Clip(x, zero, six)",
    "GELU": "h = Mul(x, half) e = Erf(h) s = Add(e, one) m = Mul(x, s) y = Mul(m, half)",
    "SiLU": "s = Sigmoid(x) y = Mul(x, s)",
    "hard swish": "s = HardSigmoid(x) y = Mul(s, x)",
    "Mish": "p = Softplus(x) t = Tanh(p) y = Mul(x, t)",
    "tanh": "y = Tanh(x)",
    "softplus": "y = Softplus(x)",
    "hard sigmoid": "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)",
}


def found(body: str) -> dict[str, int]:
    text = f"""
        <ir_version: 9, opset_import: ["" : 17]>
        graph (float[N, 4] x) => (float[N, 4] y)
        <float half = {{0.5}}, float one = {{1.0}}, float three = {{3.0}}, float six = {{6.0}}, float zero = {{0.0}}>
        {{ {body} }}
    """
    return dict(activations(ir.from_proto(onnx.parser.parse_model(text))))


@pytest.mark.parametrize("name", SPELT)
def test_one_function(name: str) -> None:
    assert found(SPELT[name]) == {name: 1}


def test_hard_swish_in_four_nodes_is_one() -> None:
    body = "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)"
    assert found(body) == {"hard swish": 1}
    body = "a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)"
    assert found(body) == {"hard swish": 1}


def test_a_gate_is_no_activation() -> None:
    assert found("g = GlobalAveragePool(x) s = Sigmoid(g) y = Mul(x, s)") == {}
