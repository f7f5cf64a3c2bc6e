"""Files that take pixels: their scores, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sightline
from commands.calling import Shell
from problems import PROBLEMS
from sightline.methods.forward.predict import Predict
from sightline.preprocess import PRESETS
from sightline.types import Batch


@pytest.mark.parametrize("name", ["convolutional", "nhwc", "grey", "batch_of_four", "old_opset"])
def test_a_baked_file_scores_pictures_alike(shell: Shell, tmp_path: Path, name: str) -> None:
    problem, out = PROBLEMS[name], tmp_path / "baked.onnx"
    problem.save(tmp_path)
    mean, std, order = ("0.4", "0.3", "L") if problem.shape[0] == 1 else ("0.4,0.5,0.6", "0.2,0.3,0.25", "BGR")
    flags = ["--mean", mean, "--std", std, "--channel-order", order, "--preset", "imagenet"]
    said = shell("bake", tmp_path / f"{problem.name}.onnx", "-o", out, "--json", *flags)
    assert said.code == 0, said.err
    assert said.json["relative_error"] == 0
    pixels = np.random.default_rng(3).integers(0, 256, (4, *problem.shape[1:], 3), np.uint8)
    if problem.shape[0] == 1:
        pixels = np.repeat(pixels[..., :1], 3, axis=-1)
    baked = sightline.load(out)
    assert baked.input.dtype == np.uint8
    numbers = {"mean": (0.4,), "std": (0.3,)} if order == "L" else {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
    expected = problem.logits(PRESETS["imagenet"].changed(channels=order, **numbers).normalise(pixels))
    result = baked.explain(Batch.of(baked.preprocess.normalise(pixels)), Predict(), threads=1)
    np.testing.assert_allclose(result.logits, expected, rtol=1e-4, atol=1e-4)


def test_what_takes_pixels_already_or_is_there_is_left_alone(shell: Shell, tmp_path: Path) -> None:
    problem, out = PROBLEMS["convolutional"], tmp_path / "baked.onnx"
    path = problem.save(tmp_path)
    shell("bake", path, "-o", out, "--preset", "imagenet")
    assert "is there already" in shell.refused(3, "bake", path, "-o", out, "--preset", "imagenet")
    assert "takes uint8 already" in shell.refused(2, "bake", out, "-o", tmp_path / "again.onnx")
    assert "--preset" in shell.refused(2, "bake", path, "-o", tmp_path / "none.onnx")
