"""Inner values as outputs: the numbered cases of the pass, and values checked by the closed form."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from problems import PROBLEMS
from sightline.graph.expose_taps import ExposeTaps
from sightline.graph.pass_ import GraphPass, PassBroken
from sightline.routes.base import Settings
from sightline.routes.sessions import open_graph

PROBLEM = PROBLEMS["convolutional"]


@pytest.fixture
def model() -> ir.Model:
    return ir.serde.deserialize_model(PROBLEM.proto)


def outputs(model: ir.Model) -> list[str]:
    return [str(value.name) for value in model.graph.outputs]


def test_outputs_stay_and_taps_follow_in_order(model: ir.Model) -> None:
    before = ir.to_proto(model)
    tapped = ExposeTaps(["relu2", "logits", "conv1", "relu2"])(model)
    assert outputs(tapped) == ["logits", "relu2", "conv1"]  # 1, 2
    assert ir.to_proto(model) == before, "the graph that came in is left as it was"
    images = PROBLEM.images(seed=5)
    session = open_graph(tapped, Settings(threads=1), "tapped")
    found = session.run(None, {"image": images})
    values = PROBLEM.values(images)
    for array, step in zip(found, (5, 4, 1), strict=True):
        np.testing.assert_allclose(array.reshape(3, -1), values[step], rtol=1e-4, atol=1e-5)


def test_reading_an_early_layer_does_not_pay_for_the_late_ones(model: ir.Model) -> None:
    tapped = ExposeTaps(["relu1"], only=True)(model)  # 3
    assert outputs(tapped) == ["relu1"]
    assert [node.op_type for node in tapped.graph] == ["Conv", "Relu"]
    assert set(tapped.graph.initializers) == {"k1", "b1"}
    assert len(list(model.graph)) == 6


def test_values_without_a_recorded_shape_can_be_tapped() -> None:
    """Foreign files often carry no value_info: the runtime works the shapes out."""
    assert not PROBLEM.proto.graph.value_info
    tapped = ExposeTaps(["conv2"], only=True)(ir.serde.deserialize_model(PROBLEM.proto))
    session = open_graph(tapped, Settings(threads=1), "tapped")
    assert session.run(None, {"image": PROBLEM.images(1)})[0].shape == (3, 5, 2, 5)


class Breaks(GraphPass):
    """A pass that does not keep one of its promises."""

    def __init__(self, how: str):
        self.how = how

    def rewrite(self, model: ir.Model) -> None:
        graph = model.graph
        match self.how:
            case "inputs":
                graph.inputs[0].name = "picture"
            case "outputs":
                graph.outputs[0] = next(iter(graph)).outputs[0]
            case "order":
                nodes = list(graph)
                graph.remove(nodes[0])
                graph.append(nodes[0])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("inputs", r"Breaks changed the inputs to \['picture'\]"),
        ("outputs", r"Breaks changed the outputs to \['conv1'\]"),
        ("order", r"Breaks left node .* reading 'conv1' before it is made"),
    ],
)
def test_a_broken_promise_is_caught(model: ir.Model, how: str, sentence: str) -> None:
    before = ir.to_proto(model)
    with pytest.raises(PassBroken, match=sentence):
        Breaks(how)(model)
    assert ir.to_proto(model) == before
