"""How finely scores can differ, and maps that are nothing but rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from problems import node
from sightline.audit.context import Artefact, Context, Options
from sightline.audit.resolution import score_steps
from sightline.audit.sections.drift import SECTION
from sightline.job.inputs import inputs_from
from sightline.model import Model, load
from sightline.preprocess import Preprocess

SIDE, CLASSES = 24, 3
QUANTISED = {"s": np.float32(0.25), "z": np.uint8(7)}


def network(path: Path, tail: list[onnx.NodeProto], *, strength: float = 1.0, half: bool = False) -> Model:
    """Scores around 1 that a photograph moves by about ``strength``; the tail makes ``logits`` of ``sums``."""
    draw = np.random.default_rng(0)
    kind = np.float16 if half else np.float32
    arrays = {
        "k": (strength * draw.normal(size=(3 * SIDE * SIDE, CLASSES)) / SIDE).astype(kind),
        "b": np.array([1.0, 1.2, 1.4], kind),
    } | QUANTISED
    nodes = [node("Cast", "image", "pixels", to=TensorProto.FLOAT16 if half else TensorProto.FLOAT)]
    nodes += [node("Flatten", "pixels", "flat"), node("Gemm", "flat k b", "sums"), *tail]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return load(path, preprocess=Preprocess(resize=(SIDE, SIDE), crop=None))


PLAIN = [node("Identity", "sums", "logits")]
WIDENED = [node("Cast", "sums", "logits", to=TensorProto.FLOAT)]
CODES = [node("QuantizeLinear", "sums s z", "codes"), node("DequantizeLinear", "codes s z", "logits")]


@pytest.mark.parametrize(
    ("tail", "half", "steps"),
    [
        (PLAIN, False, [2**-23, 2**-22, 2**-29]),
        (WIDENED, True, [2**-10, 2**-9, 2**-16]),
        (CODES, False, [0.25, 0.25, 0.25]),
    ],
)
def test_steps_of_scores(tmp_path: Path, tail: list[onnx.NodeProto], half: bool, steps: list[float]) -> None:
    model = network(tmp_path / "n.onnx", tail, half=half)
    found = score_steps(model, np.float32([1.5, -2.0, 0.02]))
    np.testing.assert_array_equal(found, steps)
    if half:
        np.testing.assert_array_equal(score_steps(model, np.float32([0, 1e-7])), 2**-24)  # subnormal


@pytest.mark.parametrize(("strength", "measured"), [(1.0, True), (1e-3, False)])
def test_maps_that_the_candidates_format_cannot_hold_are_not_compared(
    tmp_path: Path, strength: float, measured: bool
) -> None:
    draw = np.random.default_rng(1)
    for number in range(3):
        pixels = draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    inputs, options = inputs_from([tmp_path]).entries, Options(threads=1, window=8, stride=4, maps_by=())
    pair = [
        Artefact(network(tmp_path / name, tail, strength=strength, half=half), options, inputs)
        for name, tail, half in (("full.onnx", PLAIN, False), ("half.onnx", WIDENED, True))
    ]
    found = SECTION.run(Context(pair[0], pair[1], None, options, tmp_path))
    figures = {name: found.figures[name] for name in ("occlusion_spearman", "occlusion_shift")}
    told = [one.text for one in found.findings if "not compared: hiding windows" in one.text]
    assert found.figures["floor_spearman"] == pytest.approx(1, abs=1e-3)
    if measured:
        assert not told
        assert figures["occlusion_spearman"] is not None
        assert figures["occlusion_spearman"] > 0.95
        assert found.figures["drifted"] is not None
    else:
        assert set(figures.values()) == {None}
        assert found.figures["drifted"] is None
        assert len(told) == 1
        assert "Occlusion maps of 3 of 3 photographs" in told[0]
        assert "the candidate's come in steps of 0.00098" in told[0]
        assert found.details["worst"] == found.details["spearman"] == []
        assert not any(one.severity == "fault" for one in found.findings)
