"""Graphs of one node, and what ONNX Runtime computes with a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
from onnx import helper, numpy_helper

from sightline.twin import Twin
from sightline.twin.parity import relative_difference

Arrays = Mapping[str, np.ndarray]


def one_node(
    operator: str,
    feeds: Arrays,
    *,
    opset: int,
    constants: Arrays | None = None,
    order: Sequence[str] | None = None,
    outputs: int = 1,
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """A graph of one node; its operands are the feeds, then the constants, unless an order is given."""
    held = dict(constants or {})
    node = helper.make_node(
        operator,
        list(order if order is not None else [*feeds, *held]),
        [f"y{index}" for index in range(outputs)],
        name="only",
        domain=domain,
        **attributes,
    )
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in feeds.items()
    ]
    graph = helper.make_graph(
        [node],
        "one",
        values,
        [helper.make_empty_tensor_value_info(f"y{index}") for index in range(outputs)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def expose(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with some of its values as its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return copy


def by_runtime(model: onnx.ModelProto, feeds: Arrays, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Values of a graph as ONNX Runtime computes them, by default its outputs, without its optimisations."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if names is None else expose(model, names)
    session = ort.InferenceSession(source.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(None, dict(feeds))
    return dict(zip([output.name for output in session.get_outputs()], found, strict=True))


def by_twin(model: onnx.ModelProto, feeds: Arrays) -> dict[str, np.ndarray]:
    """Outputs of a graph as the twin computes them."""
    twin = Twin(ir.serde.deserialize_model(model))
    given = {name: torch.from_numpy(np.array(array)) for name, array in feeds.items()}
    return {name: tensor.numpy() for name, tensor in twin.run(given, twin.outputs).items()}


def assert_agree(model: onnx.ModelProto, feeds: Arrays, tolerance: float = 1e-5) -> None:
    """The twin and ONNX Runtime give the same outputs, of the same element types."""
    ours, theirs = by_twin(model, feeds), by_runtime(model, feeds)
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype, name
        assert ours[name].shape == expected.shape, (name, ours[name].shape, expected.shape)
        assert relative_difference(ours[name], expected) <= tolerance, name
