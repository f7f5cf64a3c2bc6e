"""Gradients: against finite differences, and the rules against matrix algebra written out here."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from torch import nn

from sightline.twin import Twin, deconvnet, guided_backprop
from sightline.twin.rules import Rule
from twin.graphs import one_node


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# operator, opset, shape of x, constants (of float64 where the operator wants numbers), attributes
SMOOTH: list[tuple[str, int, tuple[int, ...], dict[str, np.ndarray], dict[str, Any]]] = [
    (
        "Conv",
        11,
        (2, 4, 6, 5),
        {"w": normal(1, 6, 2, 3, 2), "b": normal(2, 6)},
        {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]},
    ),
    ("Conv", 11, (1, 2, 6, 7), {"w": normal(1, 3, 2, 3, 3)}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    (
        "ConvTranspose",
        11,
        (1, 4, 3, 4),
        {"w": normal(1, 4, 2, 3, 2)},
        {"group": 2, "strides": [2, 3], "pads": [1, 0, 0, 1]},
    ),
    (
        "MaxPool",
        12,
        (1, 2, 7, 6),
        {},
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1},
    ),
    ("AveragePool", 19, (1, 2, 7, 6), {}, {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1], "dilations": [2, 1]}),
    ("LpPool", 18, (1, 2, 5, 4), {}, {"kernel_shape": [2, 2], "p": 3}),
    ("GlobalMaxPool", 7, (2, 3, 4, 5), {}, {}),
    (
        "BatchNormalization",
        15,
        (2, 3, 2, 2),
        {"s": normal(1, 3), "b": normal(2, 3), "m": normal(3, 3), "v": normal(4, 3) ** 2},
        {},
    ),
    ("InstanceNormalization", 7, (2, 3, 4, 2), {"s": normal(1, 3), "b": normal(2, 3)}, {}),
    ("LayerNormalization", 17, (2, 3, 5), {"s": normal(1, 5), "b": normal(2, 5)}, {}),
    ("LRN", 13, (1, 6, 2, 2), {}, {"size": 4, "alpha": 0.5}),
    ("LpNormalization", 7, (2, 5), {}, {}),
    ("Softmax", 11, (2, 3, 4), {}, {"axis": 1}),
    ("Gelu", 20, (2, 5), {}, {"approximate": "tanh"}),
    ("HardSwish", 14, (2, 5), {}, {}),
    ("PRelu", 16, (2, 3, 2), {"slope": normal(1, 3, 1)}, {}),
    ("Gemm", 13, (4, 3), {"b": normal(1, 5, 4), "c": normal(2, 5)}, {"transA": 1, "transB": 1, "alpha": 0.3}),
    ("ReduceL2", 13, (2, 3, 4), {}, {"axes": [1]}),
    ("ReduceLogSumExp", 13, (2, 3, 4), {}, {"axes": [-1]}),
    ("Gather", 13, (4, 3), {"i": np.array([[0, -1], [2, 2]])}, {}),
    ("ScatterND", 16, (4, 3), {"i": np.array([[0], [2]]), "u": normal(1, 2, 3)}, {"reduction": "add"}),
    ("Pad", 13, (1, 2, 4, 3), {"p": np.array([0, 0, 2, 1, 0, 0, -1, 2])}, {"mode": "reflect"}),
    ("Slice", 13, (5, 6), {"s": np.array([4]), "e": np.array([0]), "a": np.array([1]), "t": np.array([-2])}, {}),
    (
        "Resize",
        19,
        (1, 2, 4, 5),
        {"r": np.zeros(0), "s": np.array([1, 1, 1.7, 0.8], dtype=np.float32)},
        {"mode": "cubic", "exclude_outside": 1},
    ),
    ("DepthToSpace", 13, (1, 8, 2, 3), {}, {"blocksize": 2, "mode": "CRD"}),
]


@pytest.mark.parametrize(
    ("operator", "opset", "shape", "constants", "attributes"), SMOOTH, ids=[row[0] for row in SMOOTH]
)
def test_finite_differences(
    operator: str,
    opset: int,
    shape: tuple[int, ...],
    constants: dict[str, np.ndarray],
    attributes: dict[str, Any],
) -> None:
    x = normal(7, *shape)
    twin = Twin(
        ir.serde.deserialize_model(one_node(operator, {"x": x}, opset=opset, constants=constants, **attributes))
    )
    assert torch.autograd.gradcheck(twin, torch.from_numpy(x).requires_grad_())


def test_quantisation_passes_the_gradient_straight_through() -> None:
    x = np.array([-9.0, -1.26, 0.0, 0.37, 1.24, 9.0], dtype=np.float32)  # the first and last saturate
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q4"], ["p"], kernel_shape=[1, 1]),
        helper.make_node("Reshape", ["q", "four"], ["q4"]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    nodes[1], nodes[2] = nodes[2], nodes[1]
    held = {"s": np.float32(0.05), "z": np.int8(3), "four": np.array([1, 1, 1, 6])}
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", 1, [6])],
        [helper.make_tensor_value_info("y", 1, [1, 1, 1, 6])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    twin = Twin(ir.serde.deserialize_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])))
    given = torch.from_numpy(x).requires_grad_()
    y = twin.run({"x": given}, ["y"])["y"]
    levels = np.clip(np.rint(x / np.float32(0.05)) + 3, -128, 127)
    np.testing.assert_allclose(y.detach().numpy().ravel(), (levels - 3) * 0.05, rtol=1e-6)
    up = torch.arange(1.0, 7.0).reshape(1, 1, 1, 6)
    (gradient,) = torch.autograd.grad(y, given, up)
    np.testing.assert_allclose(gradient.numpy(), [0, 2, 3, 4, 5, 0], rtol=1e-6)
    with torch.no_grad():
        assert twin.run({"x": given}, ["q"])["q"].dtype == torch.int8


class Reuses(nn.Module):
    """One ReLU used twice, a functional one, and one in place on a value that is read again."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.ModuleList([nn.Linear(m, n) for m, n in ((7, 11), (11, 9), (9, 9), (9, 8), (8, 3))])
        self.relu = nn.ReLU()
        self.in_place = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.relu(self.layers[0](x))
        second = self.relu(self.layers[1](first))
        third = torch.nn.functional.relu(self.layers[2](second)) + second
        before = self.layers[3](third)
        after = self.in_place(before * 1.0)
        return self.layers[4](after)


@cache
def exported(seed: int, dynamo: bool) -> ir.Model:
    module, example, target = Reuses(seed), torch.zeros(5, 7), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        if dynamo:
            program = torch.onnx.export(module.eval(), (example,), dynamo=True, verbose=False, input_names=["x"])
            assert program is not None
            return ir.serde.deserialize_model(program.model_proto)
        torch.onnx.export(module.eval(), (example,), target, dynamo=False, input_names=["x"])
    return ir.serde.deserialize_model(onnx.load_from_string(target.getvalue()))


def by_matrices(module: Reuses, x: np.ndarray, k: int, mask_input: bool, mask_gradient: bool) -> np.ndarray:
    """Gradient of logit k, each ReLU's backward written as a diagonal matrix."""
    weights = [layer.weight.detach().double().numpy() for layer in module.layers]  # type: ignore[union-attr]
    biases = [layer.bias.detach().double().numpy() for layer in module.layers]  # type: ignore[union-attr]

    def through(gradient: np.ndarray, before: np.ndarray) -> np.ndarray:
        open_ = np.ones_like(gradient)
        if mask_input:
            open_ = open_ * (before > 0)
        if mask_gradient:
            open_ = open_ * (gradient > 0)
        return gradient * open_

    z = [x @ weights[0].T + biases[0]]
    z.append(np.maximum(z[0], 0) @ weights[1].T + biases[1])
    z.append(np.maximum(z[1], 0) @ weights[2].T + biases[2])
    third = np.maximum(z[2], 0) + np.maximum(z[1], 0)
    z.append(third @ weights[3].T + biases[3])
    gradient = through(np.broadcast_to(weights[4][k], (len(x), 8)), z[3]) @ weights[3]
    second = through(gradient, z[2]) @ weights[2] + gradient
    first = through(second, z[1]) @ weights[1]
    return through(first, z[0]) @ weights[0]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(
    ("rule", "mask_input", "mask_gradient"),
    [(None, True, False), (guided_backprop, True, True), (deconvnet, False, True)],
)
def test_rules_with_reused_functional_and_in_place_relu(
    rule: Rule | None, mask_input: bool, mask_gradient: bool, dynamo: bool, seed: int
) -> None:
    module = Reuses(seed)
    x = np.random.default_rng(seed).normal(size=(5, 7))
    twin = Twin(exported(seed, dynamo)).double()
    assert len(twin.relu_like) == 4
    given = torch.from_numpy(x).requires_grad_()
    for k in range(3):
        logits = twin.run({"x": given}, twin.outputs, rule=rule)[twin.outputs[0]]
        (gradient,) = torch.autograd.grad(logits[:, k].sum(), given)
        np.testing.assert_allclose(gradient.numpy(), by_matrices(module, x, k, mask_input, mask_gradient), atol=1e-7)


@pytest.mark.parametrize(
    ("rule", "expected"), [(None, [0, -2, 3, 0]), (guided_backprop, [0, 0, 3, 0]), (deconvnet, [1, 0, 3, 4])]
)
def test_rules_of_relu6(rule: Rule | None, expected: list[float]) -> None:
    feeds = {"x": np.array([-1, 2, 3, 8], dtype=np.float32)}
    bounds = {"low": np.float32(0), "high": np.float32(6)}
    twin = Twin(ir.serde.deserialize_model(one_node("Clip", feeds, opset=13, constants=bounds)))
    given = torch.from_numpy(feeds["x"]).requires_grad_()
    y = twin.run({"x": given}, ["y0"], rule=rule)["y0"]
    np.testing.assert_array_equal(y.detach().numpy(), [0, 2, 3, 6])
    (gradient,) = torch.autograd.grad(y, given, torch.tensor([1.0, -2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(gradient.numpy(), expected)


@pytest.mark.parametrize(("operator", "opset"), [("LeakyRelu", 16), ("HardSwish", 14), ("Elu", 7), ("Clip", 13)])
def test_rules_leave_other_activations(operator: str, opset: int) -> None:
    x = np.random.default_rng(opset).normal(size=20).astype(np.float32)
    constants = {"low": np.float32(-1), "high": np.float32(1)} if operator == "Clip" else {}
    twin = Twin(ir.serde.deserialize_model(one_node(operator, {"x": x}, opset=opset, constants=constants)))
    assert twin.relu_like == ()
    given = torch.from_numpy(x).requires_grad_()
    found = [
        torch.autograd.grad(twin.run({"x": given}, ["y0"], rule=rule)["y0"].sum(), given)[0]
        for rule in (None, guided_backprop)
    ]
    assert torch.equal(*found)


def test_a_rule_may_override_any_node() -> None:
    """The rule z+ of a linear layer: relevance through the positive weights, in proportion to what they carried."""
    weight = normal(3, 4, 6).astype(np.float32)
    x = np.abs(normal(4, 2, 6)).astype(np.float32)
    twin = Twin(ir.serde.deserialize_model(one_node("Gemm", {"x": x}, opset=13, constants={"w": weight}, transB=1)))

    def positive_weights(node: Any) -> Any:
        return (lambda kernel, x, w: kernel(x, w.clamp(min=0))) if node.operator == "Gemm" else None

    given = torch.from_numpy(x).requires_grad_()
    y = twin.run({"x": given}, ["y0"], rule=positive_weights)["y0"]
    np.testing.assert_allclose(y.detach().numpy(), x @ np.maximum(weight, 0).T, rtol=1e-5)
    (gradient,) = torch.autograd.grad(y.sum(), given)
    np.testing.assert_allclose(gradient.numpy(), np.broadcast_to(np.maximum(weight, 0).sum(0), x.shape), rtol=1e-5)
