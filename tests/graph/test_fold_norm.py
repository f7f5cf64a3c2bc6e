"""Folding is checked against ONNX Runtime on the graph as it was."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sightline.graph.fold_norm import FoldNorm


def graph(
    operator: str, *, group: int = 1, bias: bool = True, tap: bool = False, dtype: type = np.float32
) -> ir.Model:
    """Convolution -> BatchNormalization -> Relu on 4 channels, with parameters far from the identity."""
    rng = np.random.default_rng(7)
    shape = (6, 4 // group, 3, 3) if operator == "Conv" else (4, 6 // group, 3, 3)
    weights = {
        "w": rng.normal(size=shape), "b": rng.normal(size=6), "gamma": rng.uniform(0.5, 2, 6),
        "beta": rng.normal(size=6), "mean": rng.normal(size=6), "var": rng.uniform(0.1, 3, 6),
    }  # fmt: skip
    inputs = ["x", "w", *(["b"] if bias else [])]
    nodes = [
        helper.make_node(operator, inputs, ["c"], kernel_shape=[3, 3], group=group),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"], epsilon=0.01),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    outputs = [helper.make_tensor_value_info(name, kind, [None] * 4) for name in (["y", "c"] if tap else ["y"])]
    proto = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", kind, [None, 4, 9, 7])], outputs,
            [numpy_helper.from_array(weights[name].astype(dtype), name) for name in weights if name != "b" or bias],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip
    onnx.checker.check_model(proto)
    return ir.serde.deserialize_model(proto)


def run(model: ir.Model, image: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        ir.serde.serialize_model(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["y"], {"x": image})[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("operator", "group"), [("Conv", 1), ("Conv", 2), ("ConvTranspose", 1)])
def test_folded_pair_computes_the_same(operator: str, group: int, bias: bool) -> None:
    model = graph(operator, group=group, bias=bias)
    image = np.random.default_rng(3).normal(size=(2, 4, 9, 7)).astype(np.float32)
    folded = FoldNorm()(model)
    assert Counter(node.op_type for node in folded.graph) == {operator: 1, "Relu": 1}
    assert [value.name for node in folded.graph for value in node.outputs] == ["n", "y"]
    np.testing.assert_allclose(run(folded, image), run(model, image), rtol=2e-5, atol=2e-5)
    assert len(list(model.graph)) == 3  # the original is untouched


@pytest.mark.parametrize(
    "options",
    [
        {"operator": "ConvTranspose", "group": 2},
        {"operator": "Conv", "tap": True},
        {"operator": "Conv", "dtype": np.float16},
    ],
    ids=["grouped transposed", "convolution is an output", "half precision"],
)
def test_other_pairs_are_left_alone(options: dict) -> None:
    folded = FoldNorm()(graph(**options))
    assert "BatchNormalization" in {node.op_type for node in folded.graph}


def test_float_kind_is_kept() -> None:
    folded = FoldNorm()(graph("Conv", dtype=np.float64))
    weight = next(node for node in folded.graph if node.op_type == "Conv").inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    assert weight.const_value.dtype == ir.DataType(TensorProto.DOUBLE)
