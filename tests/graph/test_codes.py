"""Integer codes as the numbers they stand for: read, begun at and differentiated, against products in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from problems import node
from sightline.dispatch import route
from sightline.errors import UsageError
from sightline.graph.codes import DecodeCodes, code_names, maker, quantisation, readable_codes
from sightline.graph.expose_taps import ExposeTaps
from sightline.methods.forward.score_cam import ScoreCam
from sightline.methods.gradient.grad_cam import GradCam
from sightline.model import Model, load
from sightline.routes.base import Settings
from sightline.routes.sessions import open_graph
from sightline.target import logit, unit
from sightline.types import Batch, Photo

CLASSES, CHANNELS, SIDE = 3, 4, 8
STEPS = {"x": (1 / 64, 120), "w0": (1 / 32, 0), "y0": (1 / 16, 40), "w1": (1 / 32, 0), "y1": (1 / 8, 100)}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    kinds = {"x": np.uint8, "w0": np.int8, "y0": np.uint8, "w1": np.int8, "y1": np.uint8}
    found: dict[str, np.ndarray] = {
        "k0": draw.integers(-40, 41, (CHANNELS, 3, 1, 1)).astype(np.int8),
        "k1": draw.integers(-40, 41, (CLASSES, CHANNELS, 1, 1)).astype(np.int8),
    }
    for name, (scale, zero) in STEPS.items():
        found |= {f"{name}_s": np.float32(scale), f"{name}_z": kinds[name](zero)}
    return found


def quantised(path: Path) -> Model:
    """Two QLinearConv of 1 x 1 with a pooling between them, and the mean of each class's map."""
    nodes = [
        node("QuantizeLinear", "image x_s x_z", "xq"),
        node("QLinearConv", "xq x_s x_z k0 w0_s w0_z y0_s y0_z", "conv0", kernel_shape=[1, 1]),
        node("MaxPool", "conv0", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("QLinearConv", "pool y0_s y0_z k1 w1_s w1_z y1_s y1_z", "conv1", kernel_shape=[1, 1]),
        node("DequantizeLinear", "conv1 y1_s y1_z", "numbers"),
        node("GlobalAveragePool", "numbers", "mean"),
        node("Flatten", "mean", "logits"),
    ]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays().items()]
    graph = helper.make_graph(
        nodes,
        "codes",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return load(path, preset="raw")


def images(count: int = 2, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, SIDE, SIDE)).astype(np.float32)


def closed_form(x: np.ndarray) -> dict[str, np.ndarray]:
    """What every layer stands for, in float64: rounding half to even, saturating, scale (code - zero)."""
    held = arrays()

    def rounded(values: np.ndarray, name: str, low: int, high: int) -> np.ndarray:
        scale, zero = STEPS[name]
        return (np.clip(np.rint(values / scale) + zero, low, high) - zero) * scale

    def product(kernel: np.ndarray, values: np.ndarray, scale: float) -> np.ndarray:
        return np.einsum("oi,bihw->bohw", kernel[:, :, 0, 0].astype(np.float64) * scale, values)

    pixels = rounded(x.astype(np.float64), "x", 0, 255)
    conv0 = rounded(product(held["k0"], pixels, STEPS["w0"][0]), "y0", 0, 255)
    pool = conv0.reshape(len(x), CHANNELS, SIDE // 2, 2, SIDE // 2, 2).max(axis=(3, 5))
    conv1 = rounded(product(held["k1"], pool, STEPS["w1"][0]), "y1", 0, 255)
    return {"xq": pixels, "conv0": conv0, "pool": pool, "conv1": conv1, "logits": conv1.mean(axis=(2, 3))}


@pytest.mark.parametrize("way", ["ort", "autograd"])
def test_layers_are_the_numbers_that_their_codes_stand_for(tmp_path: Path, way: str) -> None:
    oracle, x = route(way).open(quantised(tmp_path / "q.onnx"), Settings(threads=1)), images()
    expected = closed_form(x)
    assert (expected["conv0"] < 0).any()
    assert len(np.unique(expected["conv1"])) > 20
    found = oracle.taps(x, ["conv0", "pool", "conv1", "xq", "logits"])
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-6)
    for name in ("conv0", "pool", "conv1"):  # alone, too
        np.testing.assert_allclose(oracle.taps(x, [name])[name], expected[name], atol=1e-6)
    np.testing.assert_allclose(oracle.scores(x, unit("conv0", 2)), expected["conv0"][:, 2].mean((1, 2)), atol=1e-5)


@pytest.mark.parametrize("way", ["ort", "autograd"])
def test_a_network_is_begun_at_the_numbers_of_codes(tmp_path: Path, way: str) -> None:
    oracle, x = route(way).open(quantised(tmp_path / "q.onnx"), Settings(threads=1)), images()
    expected = closed_form(x)
    for name in ("conv0", "pool", "conv1"):
        found = oracle.scores_from(name, expected[name].astype(np.float32), logit((0, 2)))
        np.testing.assert_allclose(found, expected["logits"][[0, 1], [0, 2]], atol=1e-5)
    without = expected["conv1"].copy()
    without[:, 1] = 0  # as when a channel is put out: 0, not code 0
    found = oracle.scores_from("conv1", without.astype(np.float32), logit(1))
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_the_gradient_at_codes_is_that_of_the_numbers(tmp_path: Path) -> None:
    """Behind them a product with the weights, whose rounding has gradient 1."""
    oracle, x = route("autograd").open(quantised(tmp_path / "q.onnx"), Settings(threads=1)), images()
    found = oracle.gradient(x, logit(1), at="pool")
    np.testing.assert_allclose(found.inputs, closed_form(x)["pool"], atol=1e-6)
    weights = arrays()["k1"][1, :, 0, 0] * STEPS["w1"][0] / (SIDE // 2) ** 2
    inside = np.abs(closed_form(x)["conv1"][:, 1] + 100 / 8) > 1e-9  # saturated codes hand nothing down
    np.testing.assert_allclose(found.values, weights[None, :, None, None] * inside[:, None], atol=1e-6)


def test_maps_of_a_quantised_network_are_those_of_its_last_convolution(tmp_path: Path) -> None:
    model = quantised(tmp_path / "q.onnx")
    assert model.feature_layer(logit(0)) == "pool"  # behind it are maps of class scores
    assert model.deepest_maps == "numbers"
    assert model.feature_layer(unit("conv0", 1)) == "conv0"
    batch = Batch(images(1), (Photo("0", None),))
    for method in (ScoreCam(), GradCam()):
        assert np.ptp(model.explain(batch, method, logit(1)).values) > 0


def test_the_same_codes_come_again(tmp_path: Path) -> None:
    model, x = quantised(tmp_path / "q.onnx"), images()
    names = readable_codes(model.graph)
    assert names == code_names(model.graph) == {"xq", "conv0", "pool", "conv1"}
    again = DecodeCodes(names, passed=True)(model.graph)
    found = [str(value.name) for one in again.graph for value in one.outputs]
    assert [name for name in found if name in names] == ["xq", "conv0", "pool", "conv1"]
    session = open_graph(ExposeTaps(["conv0:codes", "conv0:again"], codes=True)(again), Settings(threads=1), "again")
    scores, codes, repeated = session.run(None, {"image": x})
    np.testing.assert_array_equal(codes, repeated)
    np.testing.assert_allclose(scores, closed_form(x)["logits"], atol=1e-6)


def test_sums_of_integers_are_refused_with_what_to_do(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", "image", "codes scale zero"),
        node("ConvInteger", "codes k zero", "sums", kernel_shape=[1, 1]),
        node("Cast", "sums", "cast", to=TensorProto.FLOAT),
        node("Mul", "cast scale", "conv"),
        node("GlobalAveragePool", "conv", "mean"),
        node("Flatten", "mean", "logits"),
    ]
    kernel = np.random.default_rng(0).integers(-5, 6, (CLASSES, 3, 1, 1)).astype(np.int8)
    graph = helper.make_graph(
        nodes,
        "dynamic",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(kernel, "k")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "d.onnx"
    )
    model = load(tmp_path / "d.onnx", preset="raw")
    oracle, x = route("ort").open(model, Settings(threads=1)), images(1)
    with pytest.raises(UsageError, match=r"'sums' holds integer sums of ConvInteger.*behind it apply.*QDQ"):
        oracle.taps(x, ["sums"])
    step = (x.max() - x.min()) / 255
    found = oracle.taps(x, ["codes"])["codes"]  # by the scale of this very image
    np.testing.assert_allclose(found, x, atol=0.51 * float(step), rtol=0)
    assert readable_codes(model.graph) == {"codes"}
    assert code_names(model.graph) == {"codes", "sums"}


def test_scales_of_each_channel_are_read_along_their_axis() -> None:
    scales = np.float32([0.5, 0.25, 0.125])
    nodes = [
        node("QuantizeLinear", "image scales zeros", "codes", axis=1),
        node("Transpose", "codes", "turned", perm=[0, 2, 3, 1]),
        node("DequantizeLinear", "codes scales zeros", "logits", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "axis",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3, 2, 2])],
        [numpy_helper.from_array(scales, "scales"), numpy_helper.from_array(np.zeros(3, np.int8), "zeros")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = ir.serde.deserialize_model(proto)
    x = np.random.default_rng(0).uniform(-3, 3, (2, 3, 2, 2)).astype(np.float32)
    session = open_graph(ExposeTaps(["codes"], only=True)(model), Settings(threads=1), "axis")
    expected = np.rint(x / scales[:, None, None]) * scales[:, None, None]
    np.testing.assert_allclose(session.run(None, {"image": x})[0], expected, atol=1e-6)
    values = {str(value.name): value for one in model.graph for value in one.outputs}
    with pytest.raises(UsageError, match=r"'turned' holds integer codes of 3 scales.*'codes' was quantised"):
        quantisation(values["turned"])
    assert maker(values["logits"]) is None
