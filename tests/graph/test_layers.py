"""Layer tables against counts made by hand, and shapes against what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from problems import PROBLEMS, make_model, node
from sightline.errors import UnknownName, UsageError
from sightline.graph.layers import LayerTable, infer_shapes, module_path, without_shape
from sightline.methods.forward.features import Features
from sightline.model import Model, load
from sightline.target import unit

Open = Callable[..., Model]


@pytest.mark.parametrize("name", PROBLEMS)
def test_shapes_are_those_of_a_run(open_problem: Open, name: str) -> None:
    problem = PROBLEMS[name]
    model, batch = open_problem(problem), problem.fixed_batch or 1
    proto = onnx.ModelProto.FromString(problem.proto.SerializeToString())
    names = [output for entry in proto.graph.node for output in entry.output]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=value) for value in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    images = problem.images(1, batch)
    found = session.run(None, {"image": images.transpose(0, 2, 3, 1) if name == "nhwc" else images})
    for value, array in zip(names, found, strict=True):
        assert model.layers.shapes[value] == array.shape, value


def test_counts_by_hand(open_problem: Open) -> None:
    """Conv 3x2 stride (2, 1) pads (1, 0, 0, 1) on 3x7x6 gives 4x3x6; Conv 2x2 gives 5x2x5; then 4 scores."""
    layers = open_problem(PROBLEMS["convolutional"]).layers
    counted = {layer.name: (layer.shape[1:], layer.parameters, layer.macs) for layer in layers}
    assert counted == {
        "conv1": ((4, 3, 6), 4 * 3 * 3 * 2 + 4, 4 * 3 * 6 * 3 * 3 * 2),
        "relu1": ((4, 3, 6), 0, 0),
        "conv2": ((5, 2, 5), 5 * 4 * 2 * 2 + 5, 5 * 2 * 5 * 4 * 2 * 2),
        "relu2": ((5, 2, 5), 0, 0),
        "flat": ((50,), 0, 0),
        "logits": ((4,), 4 * 50, 4 * 50),
    }
    assert layers.macs == 1296 + 800 + 200
    assert layers.parameters == 76 + 85 + 200


def test_a_fixed_batch_counts_one_image(open_problem: Open) -> None:
    one, four = open_problem(PROBLEMS["max_pool"]), open_problem(PROBLEMS["batch_of_four"], size=None)
    by_hand = 4 * 3 * 6 * 18 + 5 * 1 * 4 * 16 + 4 * 20  # 3x7x6 -> 4x3x6 -> pooled 4x2x5 -> 5x1x4 -> 4
    assert four.layers.macs == by_hand
    assert one.layers.macs != by_hand


def test_grouped_transposed_and_shared_weights() -> None:
    arrays = {"g": np.ones((6, 2, 3, 3)), "t": np.ones((6, 2, 2, 2)), "m": np.ones((6, 6, 1, 1))}
    nodes = [
        node("Conv", "image m", "a"), node("Conv", "a m", "b"),  # one weight, used twice, counted once
        node("Conv", "b g", "grouped", group=3), node("ConvTranspose", "grouped t", "up", group=3, strides=[2, 2]),
    ]  # fmt: skip
    proto = make_model(nodes, arrays, shape=[1, 6, 8, 9], outputs={"up": [1, 6, 12, 14]})
    model = ir.serde.deserialize_model(proto)
    from sightline.graph.layers import LayerTable

    table = LayerTable(model, infer_shapes(model, (1, 6, 8, 9)))
    assert [layer.parameters for layer in table] == [36, 0, 108, 48]
    assert [layer.macs for layer in table] == [
        8 * 9 * 36,
        8 * 9 * 36,
        6 * 7 * 6 * 2 * 9,  # each of 6 outputs reads 2 channels
        6 * 7 * 6 * 2 * 4,  # each of 6 inputs feeds 2 channels
    ]
    assert [layer.shape for layer in table][2:] == [(1, 6, 6, 7), (1, 6, 12, 14)]


def test_a_real_network(squeezenet_path: Path) -> None:
    """SqueezeNet 1.0 as torchvision documents it: 1,248,424 parameters, 0.82 GFLOPS (multiply-accumulates)."""
    layers = load(squeezenet_path).layers
    assert layers.parameters == 1_248_424
    assert round(layers.macs / 1e6, 1) == 818.9
    first = next(iter(layers))
    assert (first.operator, first.shape, first.parameters) == ("Conv", (1, 96, 109, 109), 96 * 3 * 49 + 96)
    assert first.field is not None
    assert first.field.size == (7, 7)
    assert layers.resolve("features.0") == first.name
    assert layers.find("features.3").operator == "Concat"  # a module is what it puts out last
    with pytest.raises(UnknownName, match=r"No layer is named 'features.33'. Did you mean 'features.3'"):
        layers.resolve("features.33")


@pytest.mark.parametrize(
    ("name", "scopes", "path"),
    [
        ("/features/features.3/squeeze/Conv", None, "features.3.squeeze"),
        ("/layer1/layer1.0/conv1/Conv", None, "layer1.0.conv1"),
        ("/Flatten", None, ""),
        ("Conv_0", None, ""),
        ("", None, ""),
        ("node_conv2d", "['', 'features', 'features.3', 'features.3.squeeze', 'conv2d']", "features.3.squeeze"),
        ("node_relu", "['', 'relu']", ""),
        ("node_relu", "no list", ""),
    ],
)
def test_module_paths_of_both_exporters(name: str, scopes: str | None, path: str) -> None:
    made = ir.Node("", "Conv", [], name=name)
    if scopes is not None:
        made.metadata_props["pkg.torch.onnx.name_scopes"] = scopes
    assert module_path(made) == path


def test_every_name_of_a_layer_leads_to_its_value(open_problem: Open) -> None:
    layers = open_problem(PROBLEMS["convolutional"]).layers
    assert layers.resolve("first") == layers.resolve("conv1") == "conv1"
    assert layers.aliases == {"first": "conv1", "second": "conv2", "fc": "logits"}
    with pytest.raises(UnknownName, match="Did you mean 'second'"):
        layers.find("secondd")


def shuffled(tmp_path: Path) -> Model:
    """Channels of maps moved between groups whose size is computed in floating point, as some exporters write it."""
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)) / 4
    arrays = {
        "w": weights, "v": weights[:, :1].repeat(4, axis=1), "fc": np.ones((4, 2)) / 4, "one": np.array([1]),
        "two": np.array([2.0]), "groups": np.array([2]), "batch": np.array([-1]), "sides": np.array([6, 6]),
        "all": np.array([-1, 4, 6, 6]),
    }  # fmt: skip
    nodes = [
        node("Conv", "image w", "conv1", "first", pads=[1, 1, 1, 1]),
        node("Shape", "conv1", "shape"),
        node("Gather", "shape one", "count", axis=0),
        node("Cast", "count", "as_float", to=onnx.TensorProto.FLOAT),
        node("Div", "as_float two", "half"),
        node("Cast", "half", "each", to=onnx.TensorProto.INT64),
        node("Concat", "batch groups each sides", "apart", axis=0),
        node("Reshape", "conv1 apart", "grouped"),
        node("Transpose", "grouped", "turned", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "turned all", "moved"),
        node("Conv", "moved v", "conv2", "second", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "conv2", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Gemm", "flat fc", "logits"),
    ]
    proto = make_model(nodes, arrays, shape=["N", 3, 6, 6], outputs={"logits": ["N", 2]})
    onnx.save(proto, tmp_path / "shuffled.onnx")
    return load(tmp_path / "shuffled.onnx")


def test_shapes_that_inference_cannot_tell_are_those_of_a_run(tmp_path: Path) -> None:
    model = shuffled(tmp_path)
    missing = without_shape(model.graph, infer_shapes(model.graph, (1, 3, 6, 6)))
    assert {"grouped", "turned"} <= set(missing)  # or there would be nothing to see
    assert model.layers.shapes["turned"] == (1, 2, 2, 6, 6)
    assert all(layer.shape for layer in model.layers)
    assert model.layers.find("second").macs == 4 * 36 * 4 * 9
    assert model.deepest_maps == "conv2"
    model.close()


def lying_otherwise(tmp_path: Path) -> Model:
    """Maps, the same with channels last and moved on, rows of all images together, and channels of one group each."""
    random = np.random.default_rng(3)
    arrays = {
        "w": random.normal(size=(4, 3, 1, 1)),
        "m": random.normal(size=(4, 5)),
        "fc": random.normal(size=(5, 2)),
    }
    nodes = [
        node("Conv", "image w", "maps", "first"),
        node("Transpose", "maps", "last", "turn", perm=[0, 2, 3, 1]),
        node("MatMul", "last m", "mixed", "mix"),
        node("Relu", "mixed", "rectified", "act"),
        node("Transpose", "rectified", "together", "swap", perm=[1, 0, 2, 3]),
        node("Transpose", "rectified", "back", "return", perm=[0, 3, 1, 2]),
        node("GlobalAveragePool", "back", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Gemm", "flat fc", "logits"),
        node("ReduceMean", "together", "other", axes=[0, 2, 3], keepdims=0),
    ]
    proto = make_model(nodes, arrays, shape=["N", 3, 6, 7], outputs={"logits": ["N", 2], "other": ["N"]})
    onnx.save(proto, tmp_path / "otherwise.onnx")
    return load(tmp_path / "otherwise.onnx", output="logits")


def test_layers_whose_numbers_belong_to_no_image_or_channel_are_refused(tmp_path: Path) -> None:
    model = lying_otherwise(tmp_path)
    images = np.zeros((2, 3, 6, 7), np.float32)
    oracle = model.oracle(model.plan(Features(layers=("first",))))
    for name in ("first", "return", "pooled", "flat"):
        assert len(oracle.taps(images, [name])[name]) == 2
    for name in ("turn", "mix", "act"):
        with pytest.raises(UsageError, match=r"puts out \(6, 7, [45]\) per image, which are no maps"):
            oracle.taps(images, [name])
    with pytest.raises(UsageError, match=r"puts out \(6, 1, 7, 5\) for a batch of 1, and its first axis is not"):
        oracle.taps(images, ["swap"])
    with pytest.raises(UsageError, match="no maps"):
        model.check_target(unit("act", channel=0))
    model.close()


def test_channels_that_are_shuffled_are_channels_still(tmp_path: Path) -> None:
    model = shuffled(tmp_path)
    assert model.readable("moved") == "moved"
    assert "moved" in model.maps
    model.close()


def test_free_sizes_are_inferred_at_the_size_that_was_chosen(open_problem: Open) -> None:
    for size in ((6, 9), (31, 17)):
        model = open_problem(PROBLEMS["pooled_head"], size=size)
        assert model.layers.find("conv").shape == (1, 6, *size)
        assert model.class_count == 6


def test_a_merged_module_is_known_by_its_weight() -> None:
    proto = make_model(
        [node("Conv", "image stem.conv.weight", "y", name="norm")],
        {"stem.conv.weight": np.ones((2, 3, 1, 1))},
        shape=("N", 3, 4, 4),
        outputs={"y": ("N", 2, 4, 4)},
    )
    model = ir.serde.deserialize_model(proto)
    assert LayerTable(model, infer_shapes(model, (1, 3, 4, 4))).resolve("stem.conv") == "y"
