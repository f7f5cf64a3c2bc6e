"""What the twin promises beyond the numbers: refusals, names, nothing computed in place, little held."""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper

from sightline.errors import UnknownName, UnsupportedOperator, UsageError
from sightline.twin import Twin, unsupported
from twin.graphs import one_node


def of_nodes(nodes: list[onnx.NodeProto], opset: int = 17, held: dict[str, np.ndarray] | None = None) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "nodes",
        [helper.make_tensor_value_info("x", 1, ["N", 3])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(array, name) for name, array in (held or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("strange", 1)]
    return ir.serde.deserialize_model(helper.make_model(graph, opset_imports=imports, ir_version=8))


def test_every_unknown_operator_is_named() -> None:
    model = of_nodes(
        [
            helper.make_node("Warp", ["x"], ["a"], name="first", domain="strange"),
            helper.make_node("Relu", ["a"], ["b"], name="known"),
            helper.make_node("NonMaxSuppression", ["b", "b"], ["y"], name="second"),
        ]
    )
    reasons = unsupported(model)
    assert reasons == [
        "Node 'first': the twin has no operator strange.Warp (opset 1).",
        "Node 'second': the twin has no operator NonMaxSuppression (opset 17).",
    ]
    with pytest.raises(UnsupportedOperator) as caught:
        Twin(model)
    for part in (*reasons, "forward-only"):
        assert part in str(caught.value)


@pytest.mark.parametrize("opset", [6, 99])
def test_an_opset_out_of_range_is_refused(opset: int) -> None:
    (reason,) = unsupported(of_nodes([helper.make_node("Relu", ["x"], ["y"], name="only")], opset))
    assert f"opset {opset}" in reason
    assert "7 to 28" in reason


def test_a_model_that_works_has_no_reasons() -> None:
    assert unsupported(of_nodes([helper.make_node("Relu", ["x"], ["y"])])) == []


def test_the_model_is_left_as_it_was() -> None:
    """Model-local functions are inlined in a copy."""
    body = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["h"], domain="local"), helper.make_node("Neg", ["h"], ["y"])],
        "calls",
        [helper.make_tensor_value_info("x", 1, ["N", 3])],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = ir.serde.deserialize_model(
        helper.make_model(graph, opset_imports=imports, functions=[body], ir_version=8)
    )
    twin = Twin(model)
    assert [node.op_type for node in model.graph] == ["Twice", "Neg"]
    assert twin.values == ("h", "y")
    x = torch.randn(2, 3)
    found = twin.run({"x": x}, ["h", "y"])
    assert torch.equal(found["h"], 2 * x)
    assert torch.equal(found["y"], -2 * x)


def test_names_that_do_not_exist() -> None:
    twin = Twin(of_nodes([helper.make_node("Relu", ["x"], ["hidden"]), helper.make_node("Neg", ["hidden"], ["y"])]))
    with pytest.raises(UnknownName, match="'hidden'"):
        twin.run({"x": torch.zeros(1, 3)}, ["hiden"])
    with pytest.raises(UsageError, match="Input 'x' is not given"):
        twin.run({}, ["y"])
    with pytest.raises(UsageError, match="2 inputs were given"):
        twin(torch.zeros(1, 3), torch.zeros(1, 3))


def test_an_error_in_a_run_names_the_node() -> None:
    twin = Twin(
        of_nodes([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], held={"w": np.eye(3, dtype="f")})
    )
    with pytest.raises(RuntimeError) as caught:
        twin(torch.zeros(2, 4))
    assert "'product' (MatMul)" in caught.value.__notes__[0]


def test_only_what_is_needed_runs() -> None:
    """The second branch cannot run with this input, and is not asked for."""
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["other"])]
    twin = Twin(of_nodes(nodes, held={"w": np.eye(5, dtype="f")}))
    x = torch.randn(2, 3)
    assert torch.equal(twin.run({"x": x}, ["y"])["y"], x.clamp(min=0))


def test_nothing_is_computed_in_place() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["x"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Clip", ["c", "low"], ["y"]),
    ]
    twin = Twin(of_nodes(nodes, held={"low": np.array(-0.5, dtype="f")}))
    x = torch.randn(4, 3)
    before = x.clone()
    found = twin.run({"x": x}, ["a", "b", "c", "y"])
    assert torch.equal(x, before)
    assert torch.equal(found["b"], before)
    assert torch.equal(found["c"], before.clamp(min=0) + before)


def test_values_are_freed_when_no_later_node_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    depth = 8
    names = ["x", *(f"h{index}" for index in range(depth)), "y"]
    nodes = [helper.make_node("Exp", [a], [b]) for a, b in itertools.pairwise(names)]
    twin = Twin(of_nodes(nodes))
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0
    watched = []
    for step in twin._steps:

        def kernel(x: torch.Tensor) -> torch.Tensor:
            nonlocal most
            result = torch.tanh(x)
            alive.append(weakref.ref(result))
            most = max(most, sum(reference() is not None for reference in alive))
            return result

        watched.append(type(step)(step.node, kernel, step.operands, step.results))
    monkeypatch.setattr(twin, "_steps", tuple(watched))
    twin.run({"x": torch.randn(2, 3)}, ["y"])
    assert most == 2  # the operand and the result


def test_settings_of_the_graph_are_read_without_the_device() -> None:
    """Half of the channels, as ShuffleNet's export says it; the device without data would not tell their number."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["channels"]),
        helper.make_node("Div", ["channels", "two"], ["half"]),
        helper.make_node("Slice", ["x", "start", "half", "one"], ["y"]),
    ]
    held = {name: np.array([value]) for name, value in (("start", 0), ("one", 1), ("two", 2))}
    twin = Twin(of_nodes(nodes, held=held)).to("meta")
    y = twin(torch.zeros(4, 3, device="meta"))
    assert isinstance(y, torch.Tensor)
    assert y.shape == (4, 1)


def test_weights_have_no_gradient_and_follow_the_twin() -> None:
    x = np.ones((1, 2, 4, 4), dtype=np.float32)
    weight = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    twin = Twin(ir.serde.deserialize_model(one_node("Conv", {"x": x}, opset=13, constants={"w": weight})))
    assert list(twin.parameters()) == []
    single = twin(torch.from_numpy(x))
    double = twin.to(torch.float64)(torch.from_numpy(x).double())
    assert isinstance(single, torch.Tensor)
    assert isinstance(double, torch.Tensor)
    assert double.dtype == torch.float64
    np.testing.assert_allclose(double[0, 0, 0, 0].item(), weight[0].astype(np.float64).sum(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_element_types_of_the_graph(kind: str) -> None:
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).to(getattr(torch, kind))
    element = {
        "float16": onnx.TensorProto.FLOAT16,
        "bfloat16": onnx.TensorProto.BFLOAT16,
        "float64": onnx.TensorProto.DOUBLE,
    }
    held = helper.make_tensor("w", element[kind], (3, 3), weight.double().flatten().tolist())
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "typed",
        [helper.make_tensor_value_info("x", element[kind], ["N", 3])],
        [helper.make_tensor_value_info("y", element[kind], None)],
        [held],
    )
    twin = Twin(ir.serde.deserialize_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    y = twin(torch.eye(3, dtype=weight.dtype))
    assert isinstance(y, torch.Tensor)
    assert torch.equal(y, weight)
