"""Graphs that round on the way: the twin is held node by node, and what is wrong is found where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

import sightline
from sightline.cli import call
from sightline.demo.dataset import batch
from sightline.errors import TwinMismatch
from sightline.methods.gradient.saliency import Saliency
from sightline.target import logit
from sightline.twin import Twin, compare, compare_by_node
from sightline.twin.parity import Reference
from twin.graphs import by_runtime

TOLERANCE = 1e-4  # of nodes that do not round


def half(seed: int) -> onnx.ModelProto:
    """Three convolutions and hard swishes in fp16 between casts."""
    draw, last = np.random.default_rng(seed), "x16"
    nodes, held = [helper.make_node("Cast", ["x"], ["x16"], name="in", to=10)], []
    for depth in range(3):
        weight = draw.normal(size=(8, 3 if depth == 0 else 8, 3, 3)) / 5
        held.append(numpy_helper.from_array(weight.astype(np.float16), f"w{depth}"))
        nodes.append(helper.make_node("Conv", [last, f"w{depth}"], [f"c{depth}"], name=f"conv{depth}"))
        nodes.append(helper.make_node("HardSwish", [f"c{depth}"], [f"h{depth}"], name=f"bend{depth}"))
        last = f"h{depth}"
    nodes.append(helper.make_node("Cast", [last], ["y"], name="out", to=1))
    return made(nodes, held, opset=14)


def quantised(seed: int) -> onnx.ModelProto:
    """Two convolutions with weights in int8 per channel, between quantisers in uint8, and a third in fp32."""
    draw, last, channels = np.random.default_rng(seed), "x", 3
    nodes, held = list[onnx.NodeProto](), list[onnx.TensorProto]()

    def pair(of: str, scale: float, zero: int, place: str) -> str:
        held.append(numpy_helper.from_array(np.float32(scale), f"s{place}"))
        held.append(numpy_helper.from_array(np.uint8(zero), f"z{place}"))
        operands = [f"s{place}", f"z{place}"]
        nodes.append(helper.make_node("QuantizeLinear", [of, *operands], [f"q{place}"], name=f"code{place}"))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"q{place}", *operands], [f"d{place}"], name=f"back{place}")
        )
        return f"d{place}"

    last = pair(last, 0.03, 128, "0")
    for depth in (1, 2):
        codes = draw.integers(-127, 128, (8, channels, 3, 3)).astype(np.int8)
        held.append(numpy_helper.from_array(codes, f"codes{depth}"))
        held.append(numpy_helper.from_array(draw.uniform(1e-3, 3e-3, 8).astype(np.float32), f"ws{depth}"))
        held.append(numpy_helper.from_array(np.zeros(8, np.int8), f"wz{depth}"))
        operands = [f"codes{depth}", f"ws{depth}", f"wz{depth}"]
        nodes.append(helper.make_node("DequantizeLinear", operands, [f"w{depth}"], name=f"weights{depth}", axis=0))
        nodes.append(helper.make_node("Conv", [last, f"w{depth}"], [f"c{depth}"], name=f"conv{depth}"))
        last, channels = pair(f"c{depth}", 0.02, 100, str(depth)), 8
    held.append(numpy_helper.from_array(draw.normal(size=(4, 8, 1, 1)).astype(np.float32), "w3"))
    nodes.append(helper.make_node("Conv", [last, "w3"], ["y"], name="conv3"))
    return made(nodes, held, opset=13)


def made(nodes: list[onnx.NodeProto], held: list[onnx.TensorProto], *, opset: int) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, 1, [None] * 4) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "rounds", ends[:1], ends[1:], held)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    )


def plain(model: onnx.ModelProto) -> Reference:
    """ONNX Runtime with nothing fused."""

    def reference(feeds: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        return by_runtime(model, feeds, names)

    return reference


def twin_of(model: onnx.ModelProto) -> Twin:
    return Twin(ir.serde.deserialize_model(model))


def image(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(2, 3, 24, 20)).astype(np.float32)}


def change(model: onnx.ModelProto, name: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
    held = next(one for one in model.graph.initializer if one.name == name)
    array = numpy_helper.to_array(held)
    held.CopyFrom(numpy_helper.from_array(how(array).astype(array.dtype), name))


@pytest.mark.parametrize("seed", range(4))
def test_half_precision_agrees_to_its_own_rounding(seed: int) -> None:
    model = half(seed)
    parity = compare_by_node(twin_of(model), plain(model), image(seed), TOLERANCE)
    assert 0 < parity.worst <= 2**-9
    assert parity.tolerance == pytest.approx(np.sqrt(7) * 2**-10)  # a cast and six nodes
    with pytest.raises(TwinMismatch):
        compare(twin_of(model), plain(model), image(seed), TOLERANCE)  # 11 bits are not 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_codes_agree_but_for_what_lies_in_the_middle(seed: int) -> None:
    model = quantised(seed)
    parity = compare_by_node(twin_of(model), plain(model), image(seed), TOLERANCE)
    assert parity.worst < parity.tolerance == pytest.approx(np.sqrt(3) / 255)


def scaled_channel(weight: np.ndarray) -> np.ndarray:
    return np.concatenate([weight[:1] * 1.03, weight[1:]])


def one_code(codes: np.ndarray) -> np.ndarray:
    other = codes.copy()
    other[2, 1, 0, 0] ^= 64
    return other


@pytest.mark.parametrize(
    ("graph", "name", "how", "node"),
    [
        (half, "w0", scaled_channel, "'conv0' (Conv)"),
        (half, "w2", scaled_channel, "'conv2' (Conv)"),
        (quantised, "codes1", one_code, "'conv1' (Conv)"),
        (quantised, "codes2", one_code, "'conv2' (Conv)"),
        (quantised, "ws2", scaled_channel, "'conv2' (Conv)"),
        (quantised, "z1", lambda zero: zero + 1, "'code1' (QuantizeLinear)"),  # one code, everywhere
        (quantised, "s2", lambda scale: scale * 1.01, "'code2' (QuantizeLinear)"),
        (quantised, "w3", scaled_channel, "'conv3' (Conv)"),
    ],
)
def test_a_planted_fault_is_refused_where_it_is(
    graph: Callable[[int], onnx.ModelProto], name: str, how: Callable[[np.ndarray], np.ndarray], node: str
) -> None:
    model = graph(5)
    twin = twin_of(model)
    change(model, name, how)
    with pytest.raises(TwinMismatch) as caught:
        compare_by_node(twin, plain(model), image(5), TOLERANCE)
    assert node in str(caught.value)
    assert "accepted" in str(caught.value)


def test_truncation_in_place_of_rounding_is_refused() -> None:
    """A reference whose codes are those of floor: all of them at most one apart."""
    model = quantised(6)
    right = plain(model)

    def truncates(feeds: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        found = right(feeds, names)
        if "q0" in found:
            found["q0"] = np.clip(np.floor(feeds["x"] / np.float32(0.03)) + 128, 0, 255).astype(np.uint8)
        return found

    with pytest.raises(TwinMismatch, match=r"in [45]\d\.\d\d% of its codes, by up to 1 .*'code0'"):
        compare_by_node(twin_of(model), truncates, image(6), TOLERANCE)


def test_what_only_the_whole_shows_is_refused() -> None:
    """Every node is right, and the outputs are not those of this image."""
    model = half(7)
    right = plain(model)

    def other(feeds: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        return right({"x": feeds["x"] * 1.2} if tuple(names) == ("y",) else feeds, names)

    with pytest.raises(TwinMismatch, match="first value that differs is 'y'"):
        compare_by_node(twin_of(model), other, image(7), TOLERANCE)


def test_the_gradient_of_codes_is_that_of_dequantised_weights_where_nothing_saturates() -> None:
    """Two 1 x 1 layers by matrices: rounding passes the gradient, saturation stops it, weights are as read back."""
    model, feed = quantised(8), {"x": np.random.default_rng(8).normal(0, 1.6, (1, 3, 5, 5)).astype(np.float32)}
    known = {one.name: numpy_helper.to_array(one).astype(np.float64) for one in model.graph.initializer}
    leaf = torch.from_numpy(feed["x"]).requires_grad_()
    (y,) = twin_of(model).run({"x": leaf}, ["y"]).values()
    draw = np.random.default_rng(9).normal(size=tuple(y.shape))
    (gradient,) = torch.autograd.grad((y * torch.from_numpy(draw).float()).sum(), leaf)
    values = plain(model)(feed, ["c1", "c2"])
    weights = [known[f"codes{n}"] * known[f"ws{n}"][:, None, None, None] for n in (1, 2)]

    def open_(value: np.ndarray, scale: float, zero: int) -> np.ndarray:
        level = np.rint(value.astype(np.float64) / scale) + zero
        return (level >= 0) & (level <= 255)

    def backwards(up: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
        """Of a 3 x 3 convolution without padding, position by position."""
        found = np.zeros((1, weight.shape[1], size, size))
        for y_, x_ in np.ndindex(*up.shape[2:]):
            found[0, :, y_ : y_ + 3, x_ : x_ + 3] += np.einsum("o,oihw->ihw", up[0, :, y_, x_], weight)
        return found

    up = np.einsum("bohw,oi->bihw", draw, known["w3"][:, :, 0, 0]) * open_(values["c2"], 0.02, 100)
    up = backwards(up, weights[1], 3) * open_(values["c1"], 0.02, 100)
    expected = backwards(up, weights[0], 5) * open_(feed["x"], 0.03, 128)
    assert (expected == 0).any()
    assert (expected != 0).any()
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("to", ["fp16", "int8"])
def test_gradients_of_variants_are_near_those_of_the_original(to: str, tmp_path: Path) -> None:
    drawn = batch(41, range(12)).images
    for number, pixels in enumerate(drawn):
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    variant = tmp_path / "variant.onnx"
    assert call(["quantize", "demo", "--to", to, "--calib", str(tmp_path), "-o", str(variant)]) == 0
    maps = list[np.ndarray]()
    for source in ("demo", str(variant)):
        with sightline.load(source) as model:
            photos = sightline.read([tmp_path / "00.png", tmp_path / "05.png"], like=model)
            maps.append(model.explain(photos, Saliency(), logit(3), threads=2).values.reshape(2, -1))
    cosine = [(one @ other) / np.linalg.norm(one) / np.linalg.norm(other) for one, other in zip(*maps, strict=True)]
    assert min(cosine) > (0.99 if to == "fp16" else 0.7)
