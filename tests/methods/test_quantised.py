"""Methods that only run the network, on an int8 graph: what they find is near what they find in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from problems import Problem, convolutional
from sightline.adversarial.examples import AdversarialExamples
from sightline.methods.forward.ablation_cam import AblationCam
from sightline.methods.forward.eigen_cam import EigenCam
from sightline.methods.forward.occlusion import Occlusion
from sightline.methods.forward.rise import Rise
from sightline.methods.forward.score_cam import ScoreCam
from sightline.methods.forward.square_attack import SquareAttack
from sightline.model import Model, load
from sightline.preprocess import Preprocess
from sightline.target import logit
from sightline.types import Batch, Heatmaps
from sightline_exporters.variants import to_int8

PROBLEM: Problem = convolutional("quantised", shape=(3, 13, 12), pool=True)
PIXELS = Preprocess(resize=None, crop=(13, 12), mean=(0.5,) * 3, std=(0.25,) * 3)  # 0 to 255 are -2 to 2


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Model]]:
    """The network in opset 11, and in int8."""
    folder = tmp_path_factory.mktemp("quantised")
    proto = onnx.ModelProto.FromString(PROBLEM.proto.SerializeToString())
    proto.opset_import[0].version, proto.ir_version = 11, 6
    source = folder / "whole.onnx"
    onnx.save(proto, source)
    codes = to_int8(source, folder / "codes.onnx", iter([PROBLEM.images(1, 64).clip(-2, 2)]))
    with load(source, preprocess=PIXELS) as whole, load(codes, preprocess=PIXELS) as quantised:
        yield whole, quantised


@pytest.mark.parametrize(
    "method",
    [
        ScoreCam(relu=False),
        EigenCam(),
        AblationCam(relu=False),
        Occlusion(window=3, stride=2),
        Rise(masks=64, cells=3),
    ],
    ids=lambda method: type(method).__name__,
)
def test_heatmaps_of_int8_are_near_those_of_full_precision(networks: tuple[Model, Model], method: Any) -> None:
    images = Batch.of(PROBLEM.images(2, 4).clip(-2, 2))
    found = [model.plan(method, threads=2).run(images, logit(1)) for model in networks]
    ours, theirs = (one.values.astype(np.float64) for one in found if isinstance(one, Heatmaps))
    assert np.abs(theirs).max() > 0
    distances = np.linalg.norm((ours - theirs).reshape(4, -1), axis=1) / np.linalg.norm(ours.reshape(4, -1), axis=1)
    assert (distances < 0.15).all(), distances


@pytest.mark.parametrize("sweep", ["incremental", "dense"])
def test_int8_is_swept_as_it_runs(networks: tuple[Model, Model], sweep: str) -> None:
    """Falls of the score are those of the int8 graph itself, run by ONNX Runtime on images hidden by hand."""
    _, quantised = networks
    images = PROBLEM.images(3, 1).clip(-2, 2)
    session = onnxruntime.InferenceSession(quantised.path, providers=["CPUExecutionProvider"])
    occlusion = Occlusion(window=13, width=12, stride=12, fill=0.5)
    found = quantised.plan(occlusion, threads=1, sweep=sweep).run(Batch.of(images), logit(2))
    assert isinstance(found, Heatmaps)
    before = session.run(None, {"image": images})[0][0, 2]
    after = session.run(None, {"image": np.full_like(images, 0.5)})[0][0, 2]
    np.testing.assert_allclose(found.values, np.full((1, 13, 12), before - after), rtol=1e-3)


def test_squares_fool_an_int8_graph_as_it_runs(networks: tuple[Model, Model]) -> None:
    _, quantised = networks
    pictures = np.random.default_rng(4).integers(0, 256, (3, 13, 12, 3), dtype=np.uint8)
    images = Batch.of((pictures.transpose(0, 3, 1, 2) / np.float32(255) - np.float32(0.5)) / np.float32(0.25))
    found = quantised.plan(SquareAttack(epsilon=30, queries=150), threads=2).run(images, logit(1))
    assert isinstance(found, AdversarialExamples)
    assert np.abs(found.values.astype(int) - pictures).max() <= 30
    session = onnxruntime.InferenceSession(quantised.path, providers=["CPUExecutionProvider"])
    tensor = ((found.values.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25).astype(np.float32)
    assert (found.fooled == (session.run(None, {"image": tensor})[0].argmax(axis=1) == 1)).all()
    assert found.fooled.any()
