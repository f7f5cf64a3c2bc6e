"""Layers of a quantised network beside those of its original, against what ONNX Runtime's own tool says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, qdq_loss_debug
from PIL import Image

import sightline
from problems import make_model, node
from sightline.audit.context import Artefact, Options
from sightline.audit.layers import compared, divergence, matched, settled
from sightline.cli import call
from sightline.demo import model_path
from sightline.demo.dataset import batch
from sightline.dispatch import route
from sightline.graph.layers import LayerTable
from sightline.job.inputs import inputs_from
from sightline.routes.base import Settings

PHOTOGRAPHS = 3


class Reader(CalibrationDataReader):
    """Feeds of single images."""

    def __init__(self, name: str, images: np.ndarray):
        self._left: Iterator[dict[str, np.ndarray]] = iter([{name: one[None]} for one in images])

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return next(self._left, None)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artefact, Artefact]:
    folder = tmp_path_factory.mktemp("int8")
    for number, pixels in enumerate(batch(31, range(12)).images):
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    codes = folder / "int8.onnx"
    assert call(["quantize", "demo", "--to", "int8", "--calib", str(folder), "-o", str(codes)]) == 0
    inputs = inputs_from([folder]).entries[:PHOTOGRAPHS]
    options = Options(threads=2)
    found = [Artefact(sightline.load(path), options, inputs) for path in (model_path(), codes)]
    return found[0], found[1]


def test_errors_are_those_of_the_runtimes_own_tool(pair: tuple[Artefact, Artefact], tmp_path: Path) -> None:
    """It gives decibels of signal over noise, over all images together."""
    values = list[Any]()
    for number, artefact in enumerate(pair):
        exposed = tmp_path / f"exposed{number}.onnx"
        qdq_loss_debug.modify_model_output_intermediate_tensors(str(artefact.model.path), str(exposed))
        images = artefact.some(np.arange(PHOTOGRAPHS)).tensor
        values.append(qdq_loss_debug.collect_activations(str(exposed), Reader(artefact.model.input.name, images)))
    matching = qdq_loss_debug.create_activation_matching(values[1], values[0])
    theirs = {name: one["xmodel_err"] for name, one in qdq_loss_debug.compute_activation_error(matching).items()
              if "xmodel_err" in one}  # fmt: skip
    found = divergence(*pair, PHOTOGRAPHS)
    layers, _ = matched(pair[0].model, pair[1].model)
    ours = {layer.name: -20 * np.log10(error) for (layer, _), error in zip(layers, found.errors, strict=True)}
    both = sorted(ours.keys() & theirs.keys())
    assert len(both) >= 10
    np.testing.assert_allclose([ours[name] for name in both], [theirs[name] for name in both], atol=0.01)


def test_a_layer_whose_relu_is_left_out_is_read_behind_its_codes(pair: tuple[Artefact, Artefact]) -> None:
    reference, candidate = pair
    layers, by = matched(reference.model, candidate.model)
    assert by == "name"
    relus = [(one, other) for one, other in layers if one.operator == "Relu"]
    assert relus
    fused = [other for _, other in relus if other.operator == "Conv"]
    assert fused, "the quantiser leaves the ReLU out"
    row = candidate.some(np.array([0])).tensor
    for layer in fused:
        name = settled(candidate.model, layer.name)
        assert name != layer.name
        assert candidate.oracle.taps(row, [name])[name].min() >= 0
    assert settled(reference.model, relus[0][0].name) == relus[0][0].name
    assert settled(reference.model, "nothing") == "nothing"


def four_convolutions(folder: Path, prefix: str) -> sightline.Model:
    """The same weights in every export, whose values are called otherwise."""
    draw = np.random.default_rng(0)
    weights = {f"k{n}": draw.normal(size=(4, 3 if n == 0 else 4, 3, 3)).astype(np.float32) for n in range(4)}
    values = ["image", *(f"{prefix}{n}" for n in range(4))]
    nodes = [node("Conv", f"{values[n]} k{n}", values[n + 1], kernel_shape=[3, 3]) for n in range(4)]
    nodes += [node("GlobalAveragePool", values[-1], f"{prefix}pooled"), node("Flatten", f"{prefix}pooled", "logits")]
    path = folder / f"{prefix}.onnx"
    onnx.save(make_model(nodes, weights, shape=["N", 3, 16, 16], outputs={"logits": ["N", 4]}), path)
    return sightline.load(path, preset="raw")


def knowing(model: sightline.Model, *names: str) -> sightline.Model:
    """The model, as if no more shapes could be told."""
    model.layers = LayerTable(model.graph, {name: model.layers.shapes[name] for name in names})  # type: ignore[misc]
    return model


def test_layers_of_unknown_shape_are_left_out_on_either_side(tmp_path: Path) -> None:
    known = four_convolutions(tmp_path, "conv")
    partly = knowing(four_convolutions(tmp_path, "c"), "image", "c0")
    for one, other in ((known, partly), (partly, known)):
        pairs, by = matched(one, other)
        assert by == "weights"
        assert [{left.name, right.name} for left, right in pairs] == [{"conv0", "c0"}]
    silent = knowing(four_convolutions(tmp_path, "conv"), "image")
    assert matched(known, silent)[0] == matched(silent, known)[0] == []


def scores(folder: Path, name: str, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray]) -> sightline.Model:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in arrays.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / f"{name}.onnx"
    )
    return sightline.load(folder / f"{name}.onnx", preset="raw")


@pytest.mark.parametrize("zero", [0, 128])
def test_a_relu_that_a_quantiser_left_out_is_one_of_the_references(tmp_path: Path, zero: int) -> None:
    """Codes that begin at 0 clip as the ReLU does, which then has no node; others need it."""
    draw = np.random.default_rng(2)
    kernels = [draw.integers(-60, 61, (4, 3 if n == 0 else 4, 1, 1)).astype(np.int8) for n in range(3)]
    arrays: dict[str, np.ndarray] = {f"k{n}": kernel for n, kernel in enumerate(kernels)}
    arrays |= {"s": np.float32(1 / 64), "z": np.int8(0), "xs": np.float32(1 / 128), "xz": np.uint8(128)}
    arrays |= {"ys": np.float32(1 / 32), "yz": np.uint8(zero)}
    plain, codes, value, code = (
        list[onnx.NodeProto](),
        [node("QuantizeLinear", "image xs xz", "c")],
        "image",
        "c xs xz",
    )
    for n in range(3):
        plain += [node("Conv", f"{value} f{n}", f"conv{n}"), node("Relu", f"conv{n}", f"relu{n}")]
        codes.append(node("QLinearConv", f"{code} k{n} s z ys yz", f"conv{n}"))
        value, code = f"relu{n}", f"conv{n} ys yz"
    plain += [node("GlobalAveragePool", value, "mean"), node("Flatten", "mean", "logits")]
    codes += [node("DequantizeLinear", code, "out"), node("GlobalAveragePool", "out", "mean")]
    codes += [node("Flatten", "mean", "logits")]
    reals = {f"f{n}": kernel.astype(np.float32) / 64 for n, kernel in enumerate(kernels)}
    reference, candidate = scores(tmp_path, "plain", plain, reals), scores(tmp_path, "codes", codes, arrays)
    pairs, by = matched(reference, candidate)
    assert by == "name"
    ours, theirs = compared(reference, candidate, pairs)
    convolutions = [(mine, its) for mine, its in zip(ours, theirs, strict=True) if its.startswith("conv")]
    assert convolutions == [(f"{'relu' if zero == 0 else 'conv'}{n}", f"conv{n}") for n in range(3)]
    x = draw.uniform(-1, 1, (2, 3, 8, 8)).astype(np.float32)
    first = [
        route("ort").open(model, Settings(threads=1)).taps(x, [name])[name]
        for model, name in ((reference, ours[0]), (candidate, theirs[0]))
    ]
    np.testing.assert_allclose(first[1], np.clip(first[0], None, (255 - zero) / 32), atol=0.04)
    assert compared(reference, reference, [(one, one) for one, _ in pairs])[0] == [one.name for one, _ in pairs]


def test_sums_of_integers_are_no_layers_to_compare(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", "image", "codes scale zero"),
        node("ConvInteger", "codes k zero", "sums"),
        node("Cast", "sums", "cast", to=TensorProto.FLOAT),
        node("Mul", "cast scale", "conv"),
        node("GlobalAveragePool", "conv", "mean"),
        node("Flatten", "mean", "logits"),
    ]
    kernel = np.random.default_rng(0).integers(-5, 6, (4, 3, 1, 1)).astype(np.int8)
    model = scores(tmp_path, "dynamic", nodes, {"k": kernel})
    assert [one.name for one, _ in matched(model, model)[0]] == ["codes", "cast", "conv", "mean", "logits"]
