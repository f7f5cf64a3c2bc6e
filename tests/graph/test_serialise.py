"""Graphs for a runtime: large weights stay where they are, and nothing of the graph changes."""

from __future__ import annotations

import gc

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from sightline.graph.serialise import LARGE, serialise
from sightline.routes.base import Settings
from sightline.routes.sessions import open_graph

SIDE = 200  # a float32 matrix of this side is larger than LARGE


@pytest.mark.parametrize("seed", [3])
def test_large_weights_are_beside_the_graph_and_outlive_it(seed: int) -> None:
    draw = np.random.default_rng(seed)
    large, small = draw.normal(size=(SIDE, SIDE)).astype(np.float32), draw.normal(size=SIDE).astype(np.float32)
    assert large.nbytes >= LARGE > small.nbytes
    model = matrix_model(large, small)
    before = ir.to_proto(model).SerializeToString()
    serialised = serialise(model)
    assert list(serialised.weights) == ["large"]
    assert serialised.weights["large"].tobytes() == large.tobytes()
    assert len(serialised.graph) < large.nbytes / 10
    assert ir.to_proto(model).SerializeToString() == before

    session = open_graph(model, Settings(threads=1), "matrix")
    del model, serialised
    gc.collect()
    _ = [np.full((SIDE, SIDE), 7, np.float32) for _ in range(50)]  # what would lie in memory that was let go
    given = draw.normal(size=(3, SIDE)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": given})[0], given @ large + small, rtol=1e-4, atol=1e-4)


def test_large_weights_that_nobody_reads_do_no_harm() -> None:
    draw = np.random.default_rng(4)
    large, small = draw.normal(size=(SIDE, SIDE)).astype(np.float32), draw.normal(size=SIDE).astype(np.float32)
    model = matrix_model(large, small)
    left = ir.Value(name="left", const_value=ir.tensor(large, name="left"))
    model.graph.register_initializer(left)
    assert list(serialise(model).weights) == ["large"]
    given = draw.normal(size=(3, SIDE)).astype(np.float32)
    found = open_graph(model, Settings(threads=1), "matrix").run(None, {"x": given})[0]
    np.testing.assert_allclose(found, given @ large + small, rtol=1e-4, atol=1e-4)


def test_kinds_of_numbers_that_numpy_does_not_have_stay_inside() -> None:
    weights = np.zeros((SIDE, SIDE), np.float32)
    model = matrix_model(weights, weights[0])
    half = ir.tensor(weights.astype(ir.DataType.BFLOAT16.numpy()), dtype=ir.DataType.BFLOAT16, name="large")
    model.graph.initializers["large"].const_value = half
    serialised = serialise(model)
    assert not serialised.weights
    assert len(serialised.graph) > half.nbytes


def matrix_model(large: np.ndarray, small: np.ndarray) -> ir.Model:
    """x @ large + small."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "large"], ["product"]),
            helper.make_node("Add", ["product", "small"], ["y"]),
        ],
        "matrix",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", SIDE])],
        [onnx.numpy_helper.from_array(large, "large"), onnx.numpy_helper.from_array(small, "small")],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
