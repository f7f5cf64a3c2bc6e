"""How far a graph is affine, by hand and by superposition."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sightline.graph.affine_stem import affine_stem

RNG = np.random.default_rng(3)
KERNEL = RNG.normal(size=(3, 3, 3, 3)).astype(np.float32)
ONES = np.ones(3, np.float32)
CONSTANTS = {
    "k": KERNEL, "mean": ONES[:, None, None], "two": np.float32([2.0]), "g": 3 * ONES, "b": ONES, "m": ONES,
    "v": 4 * ONES, "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
}  # fmt: skip
ATTRIBUTES = {"AveragePool": {"kernel_shape": [2, 2]}}
NORM = ("BatchNormalization", "c g b m v", "n")


def model(*nodes: tuple[str, str, str], outputs: str = "y") -> ir.Model:
    """Nodes as operator, inputs, output; x is the image."""
    made = [
        helper.make_node(
            kind, inputs.split(), [output], **({"kernel_shape": [2, 2]} if kind == "AveragePool" else {})
        )
        for kind, inputs, output in nodes
    ]
    proto = helper.make_model(
        helper.make_graph(
            made, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, 8, 8])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
            [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))


@pytest.mark.parametrize(
    ("nodes", "wanted"),
    [
        ([("Conv", "x k", "c"), ("Relu", "c", "y")], "c"),
        ([("Conv", "x k", "c"), NORM, ("Relu", "n", "y")], "n"),
        ([("Sub", "x mean", "s"), ("Div", "s two", "d"), ("Pad", "d pads", "p"), ("Conv", "p k", "c"),
          ("Relu", "c", "y")], "c"),
        ([("Sub", "mean x", "s"), ("Conv", "s k", "c"), ("AveragePool", "c", "a"), ("Sigmoid", "a", "y")], "a"),
        ([("Conv", "x k", "c"), ("Relu", "c", "r"), ("Add", "r c", "y")], "c"),  # two readers
        ([("Conv", "x k", "c"), ("Mul", "c c", "m2"), ("Relu", "m2", "y")], "c"),  # not affine
        ([("Div", "two x", "d"), ("Conv", "d k", "c"), ("Relu", "c", "y")], None),  # not affine, before
        ([("Sub", "x mean", "s"), ("Relu", "s", "y")], None),  # no convolution
        ([("Relu", "x", "r"), ("Conv", "r k", "y")], None),
    ],
)  # fmt: skip
def test_the_end_of_what_is_affine(nodes: list[tuple[str, str, str]], wanted: str | None) -> None:
    graph = model(*nodes)
    assert affine_stem(graph, "x") == wanted
    if wanted is not None:  # f(a) + f(b) - f(0) = f(a + b)
        made = ir.serde.serialize_model(graph)
        made.graph.output.append(helper.make_tensor_value_info(wanted, TensorProto.FLOAT, None))
        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        a, b = RNG.normal(size=(2, 1, 3, 8, 8)).astype(np.float32)
        whole, one, other, nothing = (session.run([wanted], {"x": x})[0] for x in (a + b, a, b, 0 * a))
        np.testing.assert_allclose(whole, one + other - nothing, rtol=1e-4, atol=1e-4)


def test_values_that_somebody_reads_end_it() -> None:
    graph = model(("Conv", "x k", "c"), NORM, ("Relu", "n", "y"))
    assert affine_stem(graph, "x", stop=("c",)) == "c"
    assert affine_stem(graph, "x", stop=("x",)) is None
    assert affine_stem(model(("Conv", "x k", "c"), NORM, ("Relu", "n", "y"), outputs="y c"), "x") == "c"
