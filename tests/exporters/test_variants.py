"""Variants in another precision: valid in every opset, close to the original, or nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sightline_exporters.errors import BadRequest
from sightline_exporters.variants import to_int8

SHAPE = (3, 12, 10)


def network(folder: Path, opset: int, ir_version: int) -> Path:
    """Two convolutions with a residual, dropout, a mean and a dense layer; IR 3 lists weights among the inputs."""
    rng = np.random.default_rng(opset)
    draws = {"k1": (8, 3, 3, 3), "b1": (8,), "k2": (8, 8, 3, 3), "b2": (8,), "w": (8, 5), "b": (5,)}
    arrays = {name: (rng.standard_normal(shape) / 3).astype(np.float32) for name, shape in draws.items()}
    nodes = [
        helper.make_node("Conv", ["image", "k1", "b1"], ["c1"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "k2", "b2"], ["c2"], "second", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], ["r2"], "r2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Dropout", ["flat"], ["kept"], "kept"),
        helper.make_node("Gemm", ["kept", "w", "b"], ["logits"], "dense"),
    ]
    held = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *SHAPE])]
    if ir_version < 4:
        listed = [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in held]
        inputs = [*listed, *inputs]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])]
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(
        helper.make_graph(nodes, "network", inputs, outputs, held), opset_imports=imports, ir_version=ir_version
    )
    onnx.checker.check_model(model)
    path = folder / "network.onnx"
    onnx.save(model, path)
    return path


def photographs(count: int = 16) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, *SHAPE)).astype(np.float32)


def scores(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


@pytest.mark.parametrize(
    ("opset", "ir_version"), [(8, 3), (9, 3), (9, 4), (10, 5), (11, 6), (12, 7), (13, 7), (17, 8)]
)
def test_int8_is_valid_whatever_opset_it_began_in(opset: int, ir_version: int, tmp_path: Path) -> None:
    source, images = network(tmp_path, opset, ir_version), photographs()
    path = to_int8(source, tmp_path / "codes.onnx", iter(np.split(images, 4)))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    imports = {entry.domain: entry.version for entry in model.opset_import}
    assert imports[""] == max(opset, 13)
    assert model.ir_version >= 7
    assert [value.name for value in model.graph.input] == ["image"]
    kernels = [one for one in model.graph.initializer if one.data_type == TensorProto.INT8 and len(one.dims) == 4]
    assert len(kernels) == 2
    scales = [one for one in model.graph.initializer if one.name.endswith("_scale") and one.dims == [8]]
    assert len(scales) >= 2  # a scale per channel
    before = scores(source, images)
    assert np.abs(scores(path, images) - before).max() < 0.05 * np.abs(before).max()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["codes.onnx", "network.onnx"]


def test_a_graph_that_cannot_be_raised_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise RuntimeError("No Adapter From Version $9 for Own")

    monkeypatch.setattr(onnx.version_converter, "convert_version", refuse)
    source = network(tmp_path, 9, 4)
    with pytest.raises(BadRequest, match=r"written in opset 9; int8 needs 13.*Export the model again with opset 13"):
        to_int8(source, tmp_path / "codes.onnx", iter([photographs()]))
    assert [one.name for one in tmp_path.iterdir()] == ["network.onnx"]


def test_without_photographs_nothing_is_written(tmp_path: Path) -> None:
    source = network(tmp_path, 17, 8)
    with pytest.raises(BadRequest, match="none were given"):
        to_int8(source, tmp_path / "codes.onnx", iter(()))
    assert [one.name for one in tmp_path.iterdir()] == ["network.onnx"]
