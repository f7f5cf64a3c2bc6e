"""The twin against a reference that is right, and against ones that are wrong at a known node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from sightline.errors import TwinMismatch
from sightline.twin import Twin, compare
from sightline.twin.parity import CHUNK, Reference, relative_difference
from twin.graphs import by_runtime

DEPTH = 3 * CHUNK // 2 + 1  # layers of two nodes: several chunks, the last of them not full


def chain(seed: int) -> onnx.ModelProto:
    """Convolutions and ReLUs in turn."""
    draw = np.random.default_rng(seed)
    nodes, held, last = [], [], "x"
    for depth in range(DEPTH):
        weight = draw.normal(size=(4, 3 if depth == 0 else 4, 1, 1)) / 2
        held.append(numpy_helper.from_array(weight.astype(np.float32), f"w{depth}"))
        nodes.append(helper.make_node("Conv", [last, f"w{depth}"], [f"c{depth}"], name=f"conv{depth}"))
        nodes.append(helper.make_node("LeakyRelu", [f"c{depth}"], [f"r{depth}"], name=f"relu{depth}", alpha=0.9))
        last = f"r{depth}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 4, 5])],
        [helper.make_tensor_value_info(last, 1, ["N", 4, 4, 5])],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def runtime_of(model: onnx.ModelProto, asked: list[int] | None = None) -> Reference:
    def reference(feeds: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        if asked is not None:
            asked.append(len(names))
        return by_runtime(model, feeds, names)

    return reference


def image(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(2, 3, 4, 5)).astype(np.float32)}


def test_the_same_graph_agrees() -> None:
    model = chain(0)
    parity = compare(Twin(ir.serde.deserialize_model(model)), runtime_of(model), image(0), 1e-5)
    assert list(parity.differences) == [f"r{DEPTH - 1}"]
    assert parity.worst <= 1e-5 == parity.tolerance


@pytest.mark.parametrize("depth", [0, 5, CHUNK // 2, DEPTH - 1])
def test_a_wrong_weight_is_found_where_it_is(depth: int) -> None:
    model = chain(depth)
    twin = Twin(ir.serde.deserialize_model(model))
    weight = model.graph.initializer[depth]
    wrong = numpy_helper.to_array(weight).copy()
    wrong[1, 2] += 0.3
    weight.CopyFrom(numpy_helper.from_array(wrong, weight.name))
    asked: list[int] = []
    with pytest.raises(TwinMismatch) as caught:
        compare(twin, runtime_of(model, asked), image(depth), 1e-4)
    message = str(caught.value)
    for part in (f"'conv{depth}'", "(Conv)", f"'c{depth}'", "0.0001", "forward-only"):
        assert part in message, message
    assert max(asked) <= CHUNK


@pytest.mark.parametrize("side", ["twin", "reference", "both"])
def test_nan_is_a_mismatch_unless_both_have_it(side: str) -> None:
    model = chain(1)
    poisoned = onnx.ModelProto()
    poisoned.CopyFrom(model)
    weight = numpy_helper.to_array(model.graph.initializer[4]).copy()
    weight[0, 0] = np.nan
    poisoned.graph.initializer[4].CopyFrom(numpy_helper.from_array(weight, "w4"))
    twin = Twin(ir.serde.deserialize_model(model if side == "reference" else poisoned))
    reference = runtime_of(model if side == "twin" else poisoned)
    if side == "both":
        assert compare(twin, reference, image(1), 1e-5).worst == 0.0  # every element of the result is NaN
    else:
        with pytest.raises(TwinMismatch, match="'conv4'"):
            compare(twin, reference, image(1), 1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([0.0, 0.1], [0.0, 0.0], 0.1),
        ([np.nan, 3.0], [np.nan, 4.0], 0.25),
        ([np.nan, 4.0], [4.0, 4.0], np.inf),
        ([np.inf, 4.0], [np.inf, 4.0], 0.0),
        ([np.inf, 4.0], [-np.inf, 4.0], np.inf),
        ([4.0], [4.0, 4.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_relative_difference(ours: list[float], theirs: list[float], expected: float) -> None:
    assert relative_difference(np.array(ours), np.array(theirs)) == expected
