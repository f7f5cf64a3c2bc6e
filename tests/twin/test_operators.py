"""Forms of operators that ONNX's newest operator set no longer has, and many settings, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper

from sightline.twin import Twin
from twin.graphs import assert_agree, by_twin, one_node

INT = np.int64


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=INT)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


# operator, opset, shape of x, constants, attributes
OLD: list[tuple[str, int, tuple[int, ...], dict[str, np.ndarray], dict[str, Any]]] = [
    ("Softmax", 11, (2, 3, 4), {}, {}),
    ("Softmax", 7, (2, 3, 4, 5), {}, {"axis": 2}),
    ("Softmax", 12, (2, 3, 4), {}, {"axis": -1}),
    ("LogSoftmax", 11, (2, 3, 4), {}, {"axis": 1}),
    ("Hardmax", 11, (2, 3, 4), {}, {"axis": 1}),
    ("Softmax", 13, (2, 3, 4), {}, {"axis": 1}),
    ("Clip", 7, (3, 5), {}, {"min": -0.3, "max": 0.4}),
    ("Clip", 10, (3, 5), {}, {"min": 0.0}),
    ("Clip", 11, (3, 5), {"low": np.float32(-0.2), "high": np.float32(0.6)}, {}),
    ("Pad", 7, (2, 3, 5, 4), {}, {"pads": [0, 0, 1, 2, 0, 0, 2, 1], "value": 0.7}),
    ("Pad", 10, (2, 3, 5, 4), {}, {"pads": [0, 0, 1, 2, 0, 0, 2, 1], "mode": "reflect"}),
    ("Pad", 10, (2, 3, 5, 4), {}, {"pads": [1, 0, 1, 2, 0, 1, 2, 1], "mode": "edge"}),
    ("Pad", 10, (2, 3, 5, 4), {}, {"pads": [0, 0, -1, 2, 0, 0, 1, -2]}),
    ("Pad", 11, (2, 3, 5, 4), {"p": ints(0, 1, 1, 2, 0, 0, 2, 1), "v": np.float32(3)}, {}),
    ("Slice", 9, (6, 7), {}, {"starts": [1, -3], "ends": [5, 1 << 62], "axes": [0, 1]}),
    ("Slice", 13, (6, 7), {"s": ints(-(1 << 63), 2), "e": ints(3, (1 << 63) - 1), "a": ints(0, 1)}, {}),
    ("Slice", 7, (6, 7), {}, {"starts": [1], "ends": [-1]}),
    ("Slice", 10, (6, 7), {"s": ints(-1, 1), "e": ints(-(1 << 62), 6), "a": ints(0, -1), "t": ints(-2, 3)}, {}),
    ("Slice", 13, (6, 7), {"s": ints(9), "e": ints(1), "a": ints(1), "t": ints(-1)}, {}),
    ("Upsample", 7, (1, 2, 3, 4), {}, {"scales": [1.0, 1.0, 2.0, 3.0]}),
    ("Upsample", 9, (1, 2, 3, 4), {"s": floats(1, 1, 2, 2)}, {}),
    ("Upsample", 9, (1, 2, 3, 4), {"s": floats(1, 1, 2, 1.5)}, {"mode": "linear"}),
    ("Upsample", 9, (1, 2, 3, 4), {"s": floats(1, 1, 1.7, 2.2)}, {"mode": "nearest"}),
    ("Resize", 10, (1, 2, 6, 7), {"s": floats(1, 1, 0.6, 0.7)}, {"mode": "nearest"}),
    ("Resize", 10, (1, 2, 6, 7), {"s": floats(1, 1, 2, 1.3)}, {"mode": "nearest"}),
    ("Resize", 10, (1, 2, 6, 7), {"s": floats(1, 1, 1.6, 0.7)}, {"mode": "linear"}),
    ("ReduceMean", 11, (2, 3, 4), {}, {"axes": [0, -1], "keepdims": 0}),
    ("ReduceMean", 17, (2, 3, 4), {}, {"axes": [1]}),
    ("ReduceSum", 11, (2, 3, 4), {}, {"axes": [1], "keepdims": 0}),
    ("ReduceSum", 13, (2, 3, 4), {"a": ints(0, 2)}, {}),
    ("ReduceMax", 12, (2, 3, 4), {}, {}),
    ("ReduceL2", 11, (2, 3, 4), {}, {"axes": [2]}),
    ("Squeeze", 11, (2, 1, 3, 1), {}, {"axes": [1, -1]}),
    ("Squeeze", 7, (2, 1, 3, 1), {}, {}),
    ("Squeeze", 13, (2, 1, 3, 1), {"a": ints(1)}, {}),
    ("Unsqueeze", 11, (2, 3), {}, {"axes": [0, 3]}),
    ("Unsqueeze", 13, (2, 3), {"a": ints(-1, 0)}, {}),
    ("Dropout", 7, (2, 3), {}, {"ratio": 0.4}),
    ("Dropout", 10, (2, 3), {}, {}),
    ("Dropout", 12, (2, 3), {"r": np.float32(0.3)}, {}),
    ("Flatten", 7, (2, 3, 4), {}, {"axis": 0}),
    ("Flatten", 11, (2, 3, 4), {}, {"axis": -1}),
    ("Reshape", 7, (2, 3, 4), {"s": ints(0, -1)}, {}),
    ("Reshape", 14, (2, 3, 4), {"s": ints(-1, 6, 1)}, {"allowzero": 1}),
    ("Cast", 9, (2, 3), {}, {"to": onnx.TensorProto.INT32}),
    ("DepthToSpace", 7, (2, 12, 3, 2), {}, {"blocksize": 2}),
    ("DepthToSpace", 11, (2, 12, 3, 2), {}, {"blocksize": 2, "mode": "CRD"}),
    ("LRN", 7, (2, 7, 3, 4), {}, {"size": 3, "alpha": 0.3, "beta": 0.6, "bias": 1.5}),
    ("LRN", 13, (2, 7, 3, 4), {}, {"size": 5, "alpha": 0.02}),
    ("GlobalAveragePool", 7, (2, 3, 5, 4), {}, {}),
    ("GlobalMaxPool", 7, (2, 3, 5, 4), {}, {}),
    ("GlobalLpPool", 7, (2, 3, 5, 4), {}, {"p": 3}),
    ("LpPool", 11, (2, 3, 6, 5), {}, {"kernel_shape": [3, 2], "strides": [2, 2], "p": 3}),
    ("LpNormalization", 7, (2, 3, 5), {}, {"axis": 1, "p": 1}),
    ("MeanVarianceNormalization", 9, (2, 3, 5, 4), {}, {}),
    ("InstanceNormalization", 7, (2, 3, 5, 4), {"s": floats(1, 2, 3), "b": floats(3, 2, 1)}, {"epsilon": 1e-3}),
    ("ArgMax", 11, (3, 4), {}, {"axis": 1, "keepdims": 0}),
    ("PRelu", 9, (2, 3, 4, 5), {"slope": normal(0, 3, 1, 1)}, {}),
    ("Selu", 7, (2, 3), {}, {}),
    ("HardSigmoid", 7, (2, 30), {}, {"alpha": 0.3}),
    ("ThresholdedRelu", 10, (2, 30), {}, {"alpha": 0.3}),
    ("Shrink", 9, (2, 30), {}, {"lambd": 0.3, "bias": 0.1}),
    ("Erf", 9, (2, 30), {}, {}),
    ("Gather", 7, (3, 4), {"i": ints(2, 0)}, {"axis": 1}),
    ("Scatter", 9, (3, 4), {"i": np.array([[0, 2, 1, 1]]), "u": normal(1, 1, 4)}, {}),
    ("Expand", 8, (3, 1), {"s": ints(2, 1, 4)}, {}),
    ("Tile", 7, (3, 1), {"r": ints(2, 3)}, {}),
    ("OneHot", 9, (), {}, {}),
    ("Gelu", 1, (2, 30), {}, {"domain": "com.microsoft"}),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("operator", "opset", "shape", "constants", "attributes"),
    OLD,
    ids=[f"{row[0]}-{row[1]}-{index}" for index, row in enumerate(OLD)],
)
def test_old_forms(
    operator: str,
    opset: int,
    shape: tuple[int, ...],
    constants: dict[str, np.ndarray],
    attributes: dict[str, Any],
    seed: int,
) -> None:
    if operator == "OneHot":
        feeds: dict[str, np.ndarray] = {"x": np.random.default_rng(seed).integers(-4, 4, (2, 3))}
        constants = {"depth": ints(4), "values": floats(0.5, 2)}
    else:
        feeds = {"x": normal(seed, *shape)}
    domain = attributes.get("domain", "")
    plain = {name: value for name, value in attributes.items() if name != "domain"}
    opset = 13 if domain else opset
    assert_agree(one_node(operator, feeds, opset=opset, constants=constants, domain=domain, **plain), feeds)


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15])
def test_batch_normalization(opset: int) -> None:
    x = normal(opset, 3, 4, 5, 2)
    statistics = {name: normal(seed, 4) for seed, name in enumerate(("scale", "bias", "mean"))}
    statistics["variance"] = np.abs(normal(9, 4)) + 0.1
    assert_agree(one_node("BatchNormalization", {"x": x}, opset=opset, constants=statistics, epsilon=1e-3), {"x": x})


@pytest.mark.parametrize(
    ("opset", "constants", "attributes", "outputs"),
    [
        (7, {}, {"axis": 1, "split": [2, 5]}, 2),
        (11, {}, {"axis": -1}, 2),
        (13, {"s": ints(1, 4, 2)}, {"axis": 1}, 3),
        (18, {}, {"axis": 1, "num_outputs": 3}, 3),
    ],
)
def test_split(opset: int, constants: dict[str, np.ndarray], attributes: dict[str, Any], outputs: int) -> None:
    x = normal(opset, 2, 7, 4)
    model = one_node("Split", {"x": x}, opset=opset, constants=constants, outputs=outputs, **attributes)
    assert_agree(model, {"x": x})


@pytest.mark.parametrize(
    ("opset", "constants", "attributes"),
    [(7, {}, {"k": 3, "axis": 1}), (10, {"k": ints(2)}, {}), (11, {"k": ints(3)}, {"largest": 0, "axis": 0})],
)
def test_top(opset: int, constants: dict[str, np.ndarray], attributes: dict[str, Any]) -> None:
    x = np.random.default_rng(opset).integers(0, 4, (5, 6)).astype(np.float32)  # ties
    assert_agree(one_node("TopK", {"x": x}, opset=opset, constants=constants, outputs=2, **attributes), {"x": x})


@pytest.mark.parametrize("seed", range(60))
def test_conv(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rank, groups = int(draw.integers(1, 4)), int(draw.integers(1, 4))
    kernel, dilation = draw.integers(1, 4, rank), draw.integers(1, 3, rank)
    sizes = (kernel - 1) * dilation + draw.integers(1, 6, rank)
    x = normal(seed, int(draw.integers(1, 4)), 2 * groups, *sizes)
    weight = normal(seed + 1, 3 * groups, 2, *kernel)
    bias = {"bias": normal(seed + 2, 3 * groups)} if draw.random() < 0.5 else {}
    settings: dict[str, Any] = {
        "strides": draw.integers(1, 4, rank).tolist(),
        "dilations": dilation.tolist(),
        "group": groups,
    }
    automatic = str(draw.choice(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if automatic == "NOTSET":
        settings["pads"] = draw.integers(0, 3, 2 * rank).tolist()
    elif automatic != "VALID":
        settings["dilations"] = [1] * rank  # ONNX Runtime computes SAME_* with dilation as if there were none
    settings["auto_pad"] = automatic
    model = one_node(
        "Conv", {"x": x}, opset=int(draw.choice([7, 11, 22])), constants={"w": weight, **bias}, **settings
    )
    assert_agree(model, {"x": x})


@pytest.mark.parametrize("seed", range(60))
def test_conv_transpose(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rank, groups = int(draw.integers(1, 3)), int(draw.integers(1, 4))
    kernel, stride, dilation = draw.integers(2, 5, rank), draw.integers(1, 4, rank), draw.integers(1, 3, rank)
    x = normal(seed, int(draw.integers(1, 4)), 2 * groups, *draw.integers(3, 6, rank))
    weight = normal(seed + 1, 2 * groups, 3, *kernel)
    bias = {"bias": normal(seed + 2, 3 * groups)} if draw.random() < 0.5 else {}
    settings: dict[str, Any] = {"strides": stride.tolist(), "dilations": dilation.tolist(), "group": groups}
    settings["output_padding"] = [int(draw.integers(0, s)) for s in stride]
    automatic = str(draw.choice(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "shape"]))
    if automatic == "NOTSET":
        settings["pads"] = draw.integers(0, 2, 2 * rank).tolist()
    elif automatic == "shape":
        settings["output_shape"] = (np.array(x.shape[2:]) * stride + draw.integers(0, 2, rank)).tolist()
        settings["output_padding"] = [0] * rank
    else:
        settings.update(auto_pad=automatic, output_padding=[0] * rank)
    model = one_node("ConvTranspose", {"x": x}, opset=11, constants={"w": weight, **bias}, **settings)
    assert_agree(model, {"x": x})


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("seed", range(50))
def test_pool(operator: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rank = int(draw.integers(1, 4))
    kernel = draw.integers(2, 4, rank)
    dilation = draw.integers(1, 3, rank) if draw.random() < 0.4 else np.ones(rank, dtype=INT)
    x = normal(seed, 2, 3, *((kernel - 1) * dilation + draw.integers(1, 7, rank)))
    settings: dict[str, Any] = {"kernel_shape": kernel.tolist(), "strides": draw.integers(1, 4, rank).tolist()}
    automatic = str(draw.choice(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if operator == "MaxPool" and automatic.startswith("SAME"):
        settings["strides"] = [1] * rank  # ONNX Runtime refuses windows that a stride skips over
    settings["auto_pad"] = automatic
    if automatic == "NOTSET":
        settings["pads"] = [int(draw.integers(0, size)) for size in (*kernel, *kernel)]
        settings["ceil_mode"] = int(draw.integers(0, 2))
    if automatic in ("NOTSET", "VALID"):
        settings["dilations"] = dilation.tolist()
    if operator == "AveragePool":
        settings["count_include_pad"] = int(draw.integers(0, 2))
    if operator == "LpPool":
        settings["p"] = int(draw.integers(1, 4))
    opset = {"MaxPool": 12, "AveragePool": 19, "LpPool": 18}[operator]
    assert_agree(one_node(operator, {"x": x}, opset=opset, **settings), {"x": x})


@pytest.mark.parametrize("opset", [7, 10, 11, 19])
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
def test_average_pool_of_every_set(opset: int, include: int, ceil: int) -> None:
    if ceil and opset < 10:
        return  # ceil_mode came with opset 10
    x = normal(opset, 2, 3, 7, 8)
    settings = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": include}
    extra = {"ceil_mode": ceil} if ceil else {}
    assert_agree(one_node("AveragePool", {"x": x}, opset=opset, **settings, **extra), {"x": x})


@pytest.mark.parametrize("seed", range(20))
def test_max_pool_places(seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = normal(seed, 2, 3, *draw.integers(5, 9, 2))
    settings = {
        "kernel_shape": [3, 2],
        "strides": draw.integers(1, 4, 2).tolist(),
        "pads": [int(p) for p in (*draw.integers(0, 2, 2), *draw.integers(0, 2, 2))],
        "dilations": draw.integers(1, 3, 2).tolist(),
        "storage_order": int(draw.integers(0, 2)),
    }
    assert_agree(one_node("MaxPool", {"x": x}, opset=12, outputs=2, **settings), {"x": x})


COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("seed", range(6))
def test_resize(mode: str, coordinates: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = normal(seed, 2, 3, *draw.integers(4, 9, 2))
    settings: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        names = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        settings["nearest_mode"] = str(draw.choice(names))
    if mode == "cubic":
        settings.update(cubic_coeff_a=float(draw.choice([-0.5, -0.75])), exclude_outside=int(draw.integers(0, 2)))
    if seed % 2:
        constants = {"s": ints(2, 3, *draw.integers(2, 15, 2))}
        order = ["x", "", "", "s"]
    else:
        scales = draw.choice([0.5, 0.75, 1.25, 2.0, 3.0], 2)
        constants, order = {"s": floats(1, 1, *scales)}, ["x", "", "s"]
    assert_agree(one_node("Resize", {"x": x}, opset=19, constants=constants, order=order, **settings), {"x": x}, 2e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(3, 4), (11, 5), (20, 20)])
def test_resize_antialias(mode: str, size: tuple[int, int]) -> None:
    x = normal(sum(size), 1, 2, 11, 13)
    model = one_node(
        "Resize",
        {"x": x},
        opset=18,
        constants={"s": ints(*size)},
        order=["x", "", "", "s"],
        axes=[2, 3],
        mode=mode,
        antialias=1,
        exclude_outside=1,
    )
    assert_agree(model, {"x": x}, 2e-5)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("per_axis", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_quantise_and_dequantise(kind: str, per_axis: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = 3 * normal(seed, 2, 4, 5)
    scale = draw.uniform(0.01, 0.1, 4 if per_axis else ()).astype(np.float32)
    zero = draw.integers(-5 if kind == "int8" else 0, 5, scale.shape).astype(kind)
    model = one_node("QuantizeLinear", {"x": x}, opset=13, constants={"s": scale, "z": zero}, axis=1)
    assert_agree(model, {"x": x}, 0)
    levels = by_twin(model, {"x": x})["y0"]
    back = one_node("DequantizeLinear", {"x": levels}, opset=13, constants={"s": scale, "z": zero}, axis=1)
    assert_agree(back, {"x": levels}, 0)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_response_normalisation_of_even_sizes(size: int) -> None:
    """ONNX Runtime knows odd sizes only; the sum is written out here."""
    x = normal(size, 2, 7, 3, 4)
    expected = np.empty_like(x)
    for channel in range(7):
        first, last = channel - (size - 1) // 2, channel + size // 2
        squares = (x[:, max(first, 0) : last + 1] ** 2).sum(1)
        expected[:, channel] = x[:, channel] / (1.5 + 0.3 / size * squares) ** 0.6
    model = one_node("LRN", {"x": x}, opset=13, size=size, alpha=0.3, beta=0.6, bias=1.5)
    np.testing.assert_allclose(by_twin(model, {"x": x})["y0"], expected, rtol=2e-6)


def view() -> onnx.ModelProto:
    """A view of the form that exporters write: Shape, Gather, Unsqueeze, Concat, Reshape; then x / batch."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Unsqueeze", ["batch"], ["row"], axes=[0]),
        helper.make_node("Concat", ["row", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Cast", ["batch"], ["count"], to=1),
        helper.make_node("Div", ["flat", "count"], ["y"]),
    ]
    held = [numpy_helper.from_array(np.array(0), "zero"), numpy_helper.from_array(ints(-1), "rest")]
    graph = helper.make_graph(
        nodes,
        "view",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 4])],
        [helper.make_tensor_value_info("y", 1, ["N", 12])],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


def test_shape_arithmetic_follows_the_batch() -> None:
    model = view()
    for batch in (1, 2, 5):
        x = normal(batch, batch, 3, 4)
        np.testing.assert_allclose(by_twin(model, {"x": x})["y"], x.reshape(batch, 12) / batch, rtol=1e-6)


def test_shape_arithmetic_stays_on_the_cpu() -> None:
    """On torch's device without data nothing but shapes can be read: those of the graph are known all the same."""
    twin = Twin(ir.serde.deserialize_model(view())).to("meta")
    found = twin.run({"x": torch.zeros(5, 3, 4, device="meta")}, ["shape", "target", "flat", "y"])
    assert found["shape"].tolist() == [5, 3, 4]
    assert found["target"].tolist() == [5, -1]
    assert found["y"].device.type == "meta"
    assert found["y"].shape == (5, 12)
