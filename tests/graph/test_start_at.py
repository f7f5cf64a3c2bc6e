"""Graphs that begin at an inner value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from problems import PROBLEMS, convolutional, make_model, node
from sightline.dispatch import route
from sightline.errors import UsageError
from sightline.graph.start_at import StartAt
from sightline.model import Model, load
from sightline.routes.base import Settings
from sightline.target import logit

Open = Callable[..., Model]


@pytest.mark.parametrize("way", ["ort", "autograd"])
@pytest.mark.parametrize("name", ["convolutional", "nhwc", "batch_of_four"])
def test_scores_from_a_layer_are_those_of_its_values(open_problem: Open, name: str, way: str) -> None:
    problem = PROBLEMS[name]
    model, images = open_problem(problem), problem.images(3, 5)
    oracle = route(way).open(model, Settings(threads=2))
    values = oracle.taps(images, ["relu1"])["relu1"]
    found = oracle.scores_from("relu1", values, logit((1, 0, 1, 0, 1)))
    expected = problem.logits(images)[np.arange(5), [1, 0, 1, 0, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    doubled = problem.values(images)[2] * 2
    for step in problem.steps[2:]:
        doubled = step.forward(doubled)
    np.testing.assert_allclose(oracle.scores_from("relu1", 2 * values, logit(1)), doubled[:, 1], rtol=1e-4, atol=1e-4)
    assert oracle.scores_from("relu1", values[:0], logit(1)).shape == (0,)


def test_the_graph_keeps_only_what_lies_behind(open_problem: Open) -> None:
    model = open_problem(convolutional())
    cut = StartAt("relu1")(model.graph)
    assert [str(value.name) for value in cut.graph.inputs] == ["relu1"]
    assert sum(one.op_type == "Conv" for one in cut.graph) == 1
    assert sum(one.op_type == "Conv" for one in model.graph.graph) == 2  # the original is left as it was


@pytest.mark.parametrize("way", ["ort", "autograd"])
def test_a_score_that_reads_the_image_past_the_layer_is_refused(tmp_path, way: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "past.onnx"
    nodes = [node("Relu", "image", "relu"), node("Add", "relu image", "sum"), node("Flatten", "sum", "logits")]
    onnx.save(make_model(nodes, {}, shape=["N", 1, 3, 3], outputs={"logits": ["N", 9]}), path)
    oracle = route(way).open(load(path), Settings(threads=2))
    with pytest.raises(UsageError, match="avoids layer"):
        oracle.scores_from("relu", np.ones((1, 1, 3, 3), np.float32), logit(0))


def test_half_precision_whose_types_the_file_does_not_say(tmp_path) -> None:  # type: ignore[no-untyped-def]
    kernel = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float16)
    nodes = [
        node("Cast", "image", "half", to=onnx.TensorProto.FLOAT16),
        node("Flatten", "half", "flat"),
        node("Relu", "flat", "relu"),
        node("MatMul", "relu kernel", "scores"),
        node("Cast", "scores", "logits", to=onnx.TensorProto.FLOAT),
    ]
    proto = make_model([node("Flatten", "image", "flat")], {}, shape=["N", 1, 3, 3], outputs={"flat": ["N", 9]})
    del proto.graph.node[:], proto.graph.output[:]
    proto.graph.node.extend(nodes)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 2]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "kernel"))
    onnx.save(proto, tmp_path / "half.onnx")
    oracle = route("ort").open(load(tmp_path / "half.onnx"), Settings(threads=1))
    values = np.random.default_rng(1).uniform(0, 1, (3, 9)).astype(np.float32)
    found = oracle.scores_from("relu", values, logit(1))
    np.testing.assert_allclose(found, values @ kernel[:, 1].astype(np.float32), atol=0.02)
