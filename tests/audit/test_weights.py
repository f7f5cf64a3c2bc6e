"""Layers are compared with their own counterparts, whatever order, names and form a graph gives them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

import sightline
from sightline.audit.layers import matched
from sightline.audit.weights import Weights, paired, weights_of
from sightline.cli import call
from sightline.model import load
from sightline.preprocess import PRESETS

SHAPES = {"stem": (8, 3, 3, 3), "left": (8, 8, 3, 3), "deep": (8, 8, 3, 3), "right": (8, 8, 1, 1)}


def branches(seed: int) -> onnx.ModelProto:
    """A stem, two branches that are added (one of two layers), and a classifier."""
    draw = np.random.default_rng(seed)
    held = [numpy_helper.from_array(draw.normal(0, 0.2, shape).astype(np.float32), f"{name}.weight")
            for name, shape in SHAPES.items()]  # fmt: skip
    held.append(numpy_helper.from_array(draw.normal(size=(5, 8)).astype(np.float32), "head.weight"))
    pads = {"stem": 1, "left": 1, "deep": 1, "right": 0}
    nodes = [
        helper.make_node("Conv", [source, f"{name}.weight"], [f"{name}_out"], name=name, pads=[pads[name]] * 4)
        for name, source in (("stem", "x"), ("left", "stem_out"), ("deep", "left_out"), ("right", "stem_out"))
    ]
    nodes += [
        helper.make_node("Add", ["deep_out", "right_out"], ["sum"], name="add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "head.weight"], ["logits"], name="head", transB=1),
    ]
    ends = [
        helper.make_tensor_value_info("x", 1, ["N", 3, 16, 16]),
        helper.make_tensor_value_info("logits", 1, ["N", 5]),
    ]
    graph = helper.make_graph(nodes, "branches", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def reordered(model: onnx.ModelProto, *, names: str = "kept") -> onnx.ModelProto:
    """The other branch first, as ONNX Runtime's tools may write it; values with other names, or those of others."""
    made = copy.deepcopy(model)
    stem, left, deep, right, *rest = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend([stem, right, left, deep, *rest])
    numbers = {"stem_out": "left_out", "right_out": "deep_out", "left_out": "right_out", "deep_out": "stem_out"}
    other = {"kept": {}, "new": {name: f"t{place}" for place, name in enumerate(numbers)}, "shifted": numbers}[names]
    for node in made.graph.node:
        node.input[:] = [other.get(name, name) for name in node.input]
        node.output[:] = [other.get(name, name) for name in node.output]
        if names != "kept":
            node.name = ""
    return made


def multiplied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The classifier as a product of the transposed weights."""
    made = copy.deepcopy(model)
    made.graph.node[-1].CopyFrom(helper.make_node("MatMul", ["flat", "head.weight"], ["logits"]))
    array = numpy_helper.to_array(made.graph.initializer[-1])
    made.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array.T), "head.weight"))
    return made


def changed(model: onnx.ModelProto, name: str, array: np.ndarray) -> onnx.ModelProto:
    made = copy.deepcopy(model)
    held = next(one for one in made.graph.initializer if one.name == f"{name}.weight")
    held.CopyFrom(numpy_helper.from_array(array.astype(np.float32), held.name))
    return made


def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == f"{name}.weight"))


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The identity section's figures and findings of a candidate against a reference."""
    usual = PRESETS["imagenet"].changed(resize=(16, 16), crop=None)
    size = ["--size", "16", "--preset", "imagenet"]

    def audited(reference: onnx.ModelProto, candidate: onnx.ModelProto) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("pair")
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "one.png")
        for name, model in (("reference", reference), ("candidate", candidate)):
            sightline_saved(model, folder / f"{name}.onnx", usual)
        asked = ["audit", str(folder / "reference.onnx"), str(folder / "candidate.onnx"), "--images"]
        call([*asked, str(folder / "one.png"), "-o", str(folder / "out"), "--section", "identity", "--threads", "1"])
        return json.loads((folder / "out" / "audit.json").read_text())["candidates"][0]

    assert size
    return audited


def sightline_saved(model: onnx.ModelProto, path: Path, preprocess: Any) -> None:
    from sightline.preprocess import METADATA_KEY

    made = copy.deepcopy(model)
    made.metadata_props.add(key=METADATA_KEY, value=preprocess.to_json())
    onnx.save(made, path)


@pytest.mark.parametrize("names", ["kept", "new", "shifted"])
@pytest.mark.parametrize("form", ["gemm", "matmul"])
def test_a_reordered_graph_has_the_same_weights(identity: Any, names: str, form: str) -> None:
    model = branches(1)
    candidate = reordered(model if form == "gemm" else multiplied(model), names=names)
    found = identity(model, candidate)
    assert found["figures"]["identity.weights_apart"] == 0
    assert found["figures"]["identity.layers_unpaired"] == 0
    assert found["not_measured"] == []
    assert [one for one in found["findings"] if "eights" in one["text"]] == []


@pytest.mark.parametrize("names", ["kept", "new", "shifted"])
def test_a_fault_in_a_reordered_graph_is_told_of_its_own_layer(identity: Any, names: str) -> None:
    model = branches(2)
    worse = weight(model, "deep") * np.where(np.arange(8) < 2, 0, 1)[:, None, None, None]
    expected = np.linalg.norm(worse - weight(model, "deep")) / np.linalg.norm(weight(model, "deep"))
    found = identity(model, reordered(changed(model, "deep", worse), names=names))
    assert found["figures"]["identity.weights_apart"] == pytest.approx(expected, rel=1e-5)
    faults = [one["text"] for one in found["findings"] if one["severity"] == "fault"]
    assert len(faults) == 1
    assert "Weights of deep_out differ" in faults[0]
    assert "2 of 8 channels are 0" in faults[0]


def test_a_layer_of_other_weights_is_paired_with_what_is_left(identity: Any) -> None:
    model = branches(3)
    strange = np.random.default_rng(9).normal(0, 0.2, SHAPES["left"])
    found = identity(model, reordered(changed(model, "left", strange), names="new"))
    expected = np.linalg.norm(strange - weight(model, "left")) / np.linalg.norm(weight(model, "left"))
    assert found["figures"]["identity.weights_apart"] == pytest.approx(expected, rel=1e-5)
    assert any("Weights of left_out differ" in one["text"] for one in found["findings"])


def test_two_layers_that_changed_places_are_told(identity: Any) -> None:
    """Names that are right elsewhere are right here."""
    model = branches(4)
    swapped = changed(changed(model, "left", weight(model, "deep")), "deep", weight(model, "left"))
    found = identity(model, swapped)
    assert found["figures"]["identity.weights_apart"] > 1
    assert sum("differ by" in one["text"] for one in found["findings"]) == 2


def test_what_has_no_counterpart_is_said(identity: Any) -> None:
    model = branches(5)
    wider = changed(model, "right", np.random.default_rng(1).normal(0, 0.2, (8, 8, 3, 3)))
    node = next(one for one in wider.graph.node if one.name == "right")
    node.attribute[0].ints[:] = [1] * 4
    found = identity(model, wider)
    assert found["figures"]["identity.weights_apart"] == 0
    assert found["figures"]["identity.layers_unpaired"] == 2
    (told,) = [one for one in found["findings"] if "counterpart" in one["text"]]
    assert told["severity"] == "warning"
    assert (
        "Weights were compared of 4 layers; 1 of the reference's (right_out) and 1 of the candidate's" in told["text"]
    )


def test_layers_of_no_common_shape_are_not_measured_and_the_verdict_says_so(
    identity: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = branches(6)
    other = branches(6)
    for held in other.graph.initializer:  # every channel twice
        array = numpy_helper.to_array(held)
        if held.name != "head.weight":
            array = np.concatenate([array, array])
        if held.name != "stem.weight":
            array = np.concatenate([array, array], axis=1) / 2
        held.CopyFrom(numpy_helper.from_array(array, held.name))
    found = identity(model, other)
    said = capsys.readouterr().out
    assert found["figures"]["identity.weights_apart"] is None
    assert found["not_measured"] == ["identity.weights_apart"]
    assert "3 of 4 rules hold, 1 not measured." in said
    assert "unknown  identity.weights_apart at most 0.1: not measured, and optional" in said


def test_pairs_keep_the_order_of_the_reference_and_each_layer_has_one() -> None:
    draw = np.random.default_rng(7)
    arrays = [draw.normal(size=(4, 4)) for _ in range(6)]
    ours = [Weights(f"a{n}", frozenset([f"a{n}"]), array) for n, array in enumerate(arrays)]
    order = draw.permutation(6)
    theirs = [Weights(f"b{n}", frozenset([f"b{n}"]), arrays[n] + draw.normal(0, 0.05, (4, 4))) for n in order]
    pairs, *left = paired(ours, theirs)
    assert [(one.name, other.name) for one, other in pairs] == [(f"a{n}", f"b{n}") for n in range(6)]
    assert left == [[], []]


def test_layers_that_share_neither_names_nor_order_are_matched_by_weights(tmp_path: Path) -> None:
    usual = PRESETS["imagenet"].changed(resize=(16, 16), crop=None)
    model = branches(8)
    sightline_saved(model, tmp_path / "one.onnx", usual)
    sightline_saved(reordered(model, names="new"), tmp_path / "two.onnx", usual)
    with load(tmp_path / "one.onnx") as one, load(tmp_path / "two.onnx") as two:
        assert [found.name for found in weights_of(one)][:4] == ["stem_out", "left_out", "deep_out", "right_out"]
        pairs, by = matched(one, two)
    assert by in ("name", "structure", "weights")
    known = {"stem_out": "t0", "right_out": "t1", "left_out": "t2", "deep_out": "t3"}
    assert all(known.get(ours.name, ours.name) == theirs.name for ours, theirs in pairs)


@pytest.mark.parametrize("to", ["int8", "fp16"])
def test_variants_that_are_made_here_are_measured(to: str, tmp_path: Path) -> None:
    """The quantiser writes branches in another order and leaves ReLUs out."""
    usual = PRESETS["imagenet"].changed(resize=(16, 16), crop=None)
    sightline_saved(branches(9), tmp_path / "net.onnx", usual)
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    out = tmp_path / "variant.onnx"
    assert call(["quantize", str(tmp_path / "net.onnx"), "--to", to, "--calib", str(tmp_path), "-o", str(out)]) == 0
    with sightline.load(tmp_path / "net.onnx") as one, sightline.load(out) as two:
        pairs, *left = paired(weights_of(one), weights_of(two))
    assert left == [[], []]
    for ours, theirs in pairs:
        apart = np.linalg.norm(ours.array - theirs.array.astype(np.float64)) / np.linalg.norm(ours.array)
        assert apart < 0.02
