"""Files that are no sound model, each for one reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from problems import convolutional, linear, make_model, node


def saved(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def with_external_data(folder: Path, location: str | None = None, *, keep: bool = True) -> Path:
    """A model whose weights lie in weights.bin beside it; ``location`` replaces what the file says of where."""
    path = folder / "external.onnx"
    proto = linear().proto
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if location is not None:
        pointing = onnx.load(path, load_external_data=False)
        for tensor in pointing.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        saved(pointing, path)
    if not keep:
        (folder / "weights.bin").unlink()
    return path


def with_nan(path: Path, *, in_constant: bool = False) -> Path:
    proto = onnx.ModelProto.FromString(linear().proto.SerializeToString())
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "w")
    values = numpy_helper.to_array(weight).copy()
    values[1, 2:4] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, "w"))
    if in_constant:
        proto.graph.initializer.remove(weight)
        proto.graph.node.insert(0, node("Constant", "", "w", value=numpy_helper.from_array(values)))
    return saved(proto, path)


def with_operator(path: Path, operator: str, domain: str = "") -> Path:
    """A linear model with one more node in front."""
    proto = onnx.ModelProto.FromString(linear().proto.SerializeToString())
    proto.graph.node.insert(0, helper.make_node(operator, ["image"], ["odd"], name="odd_one", domain=domain))
    proto.graph.node[1].input[0] = "odd"
    if domain:
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    return saved(proto, path)


def with_opset(path: Path, version: int) -> Path:
    proto = onnx.ModelProto.FromString(linear(opset=7).proto.SerializeToString())
    proto.opset_import[0].version = version
    return saved(proto, path)


def with_channels(path: Path, channels: int) -> Path:
    return saved(linear(shape=(channels, 5, 7)).proto, path)


def with_two_inputs(path: Path) -> Path:
    proto = onnx.ModelProto.FromString(convolutional().proto.SerializeToString())
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 1]))
    return saved(proto, path)


def with_metadata(path: Path, key: str, value: str) -> Path:
    proto = onnx.ModelProto.FromString(linear().proto.SerializeToString())
    proto.metadata_props.add(key=key, value=value)
    return saved(proto, path)


def without_outputs(path: Path) -> Path:
    proto = onnx.ModelProto.FromString(linear().proto.SerializeToString())
    del proto.graph.output[:]
    return saved(proto, path)


def of_rank(path: Path, rank: int) -> Path:
    nodes = [node("Flatten", "image", "flat")]
    proto = make_model(nodes, {}, shape=["N", *[4] * (rank - 1)], outputs={"flat": [None, None]})
    return saved(proto, path)


def truncated(path: Path, keep: float = 0.5) -> Path:
    content = linear().proto.SerializeToString()
    path.write_bytes(content[: int(len(content) * keep)])
    return path
