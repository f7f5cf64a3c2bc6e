"""Whole networks: ONNX's small model zoo, and SqueezeNet with its real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from sightline.twin import Twin, compare
from sightline.twin.parity import relative_difference
from twin.graphs import by_runtime

ZOO = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))
SQUEEZENET = Path(__file__).parents[2] / "../shared/models/squeezenet1_0.onnx"


def with_random_weights(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The zoo's graphs make their weights by ConstantOfShape, all equal; these are He's, so that errors show."""
    draw = np.random.default_rng(seed)
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept: list[onnx.NodeProto] = []
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = shapes[node.input[0]]
        fan = max(int(np.prod(shape[1:])), 1)
        values = draw.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan))
        values = np.abs(values) + 0.5 if node.output[0] in variances else values
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.stem)
def test_model_zoo(path: Path) -> None:
    model = with_random_weights(onnx.load(path), 0)
    twin = Twin(ir.serde.deserialize_model(model))
    value = next(value for value in model.graph.input if value.name in twin.inputs)
    shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    feeds = {value.name: np.random.default_rng(1).standard_normal(shape, dtype=np.float32)}
    scores = [node.input[0] for node in model.graph.node if node.op_type == "Softmax"]  # it saturates: look before it
    names = [*twin.outputs, *scores]
    with torch.no_grad():
        found = twin.run({name: torch.from_numpy(array) for name, array in feeds.items()}, names)
    expected = by_runtime(model, feeds, names)
    assert np.unique(expected[names[-1]]).size > 100
    for name in names:
        assert relative_difference(found[name].numpy(), expected[name]) <= 1e-4


@pytest.mark.skipif(not SQUEEZENET.exists(), reason="../shared/models/squeezenet1_0.onnx is not here")
def test_squeezenet() -> None:
    model = onnx.load(SQUEEZENET)
    twin = Twin(ir.serde.deserialize_model(model))
    draw = np.random.default_rng(3)
    coarse = torch.from_numpy(draw.normal(size=(3, 3, 9, 9)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(
        coarse, (224, 224), mode="bicubic"
    )  # neighbours alike, as in a photograph
    feeds = {"input": smooth.numpy()}
    parity = compare(twin, lambda arrays, names: by_runtime(model, arrays, names), feeds, 1e-5)
    assert parity.worst <= 1e-5
    assert len(twin.relu_like) == 26


@pytest.mark.skipif(not SQUEEZENET.exists(), reason="../shared/models/squeezenet1_0.onnx is not here")
def test_any_value_may_be_asked_for_and_given() -> None:
    twin = Twin(ir.load(SQUEEZENET))
    x = torch.randn(2, 3, 224, 224, requires_grad=True)
    middle = next(name for name in twin.values[30:] if twin.maker(name).operator == "Concat")  # all paths meet there
    found = twin.run({"input": x}, ["input", middle, "logits"])
    assert found["input"] is x
    onward = twin.run({middle: found[middle]}, ["logits"])["logits"]
    assert torch.equal(onward, found["logits"])
    whole, inner = torch.autograd.grad(found["logits"][:, 5].sum(), [x, found[middle]], retain_graph=True)
    (chained,) = torch.autograd.grad(found[middle], x, inner)
    torch.testing.assert_close(chained, whole)
