"""Channel shuffles become one Gather, and nothing else does."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from problems import make_model, node
from sightline.graph.gather_shuffles import GatherShuffles
from sightline.graph.layers import infer_shapes

SHAPE = (1, 3, 5, 4)


def network(middle: list[onnx.NodeProto], shapes: dict[str, list[int]]) -> onnx.ModelProto:
    """Twelve channels in, what the nodes make of them (``out``), and its sum with itself."""
    arrays = {"k": np.random.default_rng(1).standard_normal((12, 3, 1, 1))}
    arrays |= {name: np.array(values) for name, values in shapes.items()}
    nodes = [node("Conv", "image k", "maps"), *middle, node("Add", "out out", "twice")]
    return make_model(nodes, arrays, shape=["N", *SHAPE[1:]], outputs={"twice": [None] * 4})


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


def gathered(proto: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.serde.deserialize_model(proto)
    return ir.serde.serialize_model(GatherShuffles(infer_shapes(model, SHAPE))(model))


@pytest.mark.parametrize(
    ("perms", "groupings"),
    [
        ([[0, 2, 1, 3, 4]], [[0, 3, 4, 5, 4]]),
        ([[0, 2, 1, 3, 4]], [[-1, 2, 6, 5, 4]]),
        ([[0, 3, 1, 2, 4, 5]], [[0, 2, 3, 2, 5, 4]]),
        ([[0, 2, 1, 3, 4], [0, 2, 1, 3, 4]], [[0, 3, 4, 5, 4], [0, 2, 6, 5, 4]]),
    ],
)
def test_shuffles_are_gathered_and_compute_the_same(perms: list[list[int]], groupings: list[list[int]]) -> None:
    nodes, shapes, last = [], {}, "maps"
    for step, (perm, grouping) in enumerate(zip(perms, groupings, strict=True)):
        shapes |= {f"apart{step}": grouping, f"flat{step}": [0, 12, 5, 4]}
        out = "out" if step == len(perms) - 1 else f"between{step}"
        nodes += [
            node("Reshape", f"{last} apart{step}", f"a{step}"),
            node("Transpose", f"a{step}", f"t{step}", perm=perm),
            node("Reshape", f"t{step} flat{step}", out),
        ]
        last = out
    proto = network(nodes, shapes)
    changed = gathered(proto)
    onnx.checker.check_model(changed)
    assert [one.op_type for one in changed.graph.node] == ["Conv", *["Gather"] * len(perms), "Add"]
    images = np.random.default_rng(2).standard_normal((3, *SHAPE[1:])).astype(np.float32)
    np.testing.assert_array_equal(run(changed, images), run(proto, images))


@pytest.mark.parametrize(
    ("nodes", "shapes"),
    [
        ([node("Reshape", "maps s", "a"), node("Transpose", "a", "t", perm=[0, 1, 3, 2]),
          node("Reshape", "t e", "out")],
         {"s": [0, 12, 4, 5], "e": [0, 12, 5, 4]}),
        ([node("Transpose", "maps", "t", perm=[1, 0, 2, 3]), node("Reshape", "t e", "out")], {"e": [-1, 12, 5, 4]}),
        ([node("Reshape", "maps e", "out")], {"e": [0, 12, 5, 4]}),
        ([node("Reshape", "maps s", "a"), node("Reshape", "a e", "out")], {"s": [0, 60, 4], "e": [0, 12, 5, 4]}),
    ],
)  # fmt: skip
def test_what_moves_positions_or_images_is_left_alone(
    nodes: list[onnx.NodeProto], shapes: dict[str, list[int]]
) -> None:
    proto = network(nodes, shapes)
    assert [one.op_type for one in gathered(proto).graph.node] == [one.op_type for one in proto.graph.node]
