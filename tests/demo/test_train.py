"""The training script in miniature: it learns, it varies scenes without spoiling them, and what it writes loads."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sightline.demo import LABELS, train
from sightline.demo.dataset import batch
from sightline.preprocess import Preprocess


def test_varied_scenes_are_turned_mirrored_and_recoloured() -> None:
    images = torch.from_numpy(batch(5, range(3)).images)
    dice = random.Random(4)
    seen = {train.vary(images, dice).contiguous().numpy().tobytes() for _ in range(600)}
    assert len(seen) == 4 * 2 * 6
    for _ in range(10):
        varied = train.vary(images, dice).numpy()
        for one, other in zip(varied, images.numpy(), strict=True):  # the same pixels, channels and places apart
            assert np.array_equal(np.sort(one, axis=None), np.sort(other, axis=None))


def test_training_sees_what_the_file_says_it_sees() -> None:
    images = batch(6, range(2)).images
    given = Preprocess(resize=None, crop=None, mean=train.MEAN, std=train.STD)
    expected = (images * np.float64(given.scale) - given.mean) / given.std
    assert np.allclose(train.normalise(torch.from_numpy(images)).permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)


def test_the_stated_mean_and_deviation_are_those_of_the_scenes() -> None:
    pixels = batch(7, range(600)).images.reshape(-1, 3) / 255
    assert np.allclose(pixels.mean(axis=0), train.MEAN, atol=0.02)
    assert np.allclose(pixels.std(axis=0), train.STD, atol=0.02)


def test_every_scene_of_a_round_is_learnt_from_equally_often() -> None:
    scenes = batch(8, range(100))
    labels = torch.cat([labels for _, labels in train.batches(scenes, random.Random(0), train.untouched)])
    assert np.array_equal(np.bincount(labels), train.PASSES * np.bincount(scenes.labels))


def test_a_short_run_writes_a_log_and_a_file_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 24, "ROUND": 5, "PASSES": 5, "FINAL_COUNT": 48, "WATCHED": 48}.items():
        monkeypatch.setattr(train, name, value)
    train.main(["-o", str(tmp_path / "new"), "--steps", "18", "--seed", "3"])
    log = (tmp_path / "new" / "shapes_log.txt").read_text()
    rows = [line.split() for line in log.splitlines() if line.lstrip()[:1].isdigit()]
    assert [(row[0], row[1]) for row in rows] == [(str(n * 5), str(n * 120)) for n in range(1, 5)]
    assert all(0 < float(row[2]) < 10 for row in rows)
    onnx.checker.check_model(tmp_path / "new" / "shapes.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "new" / "shapes.onnx", providers=["CPUExecutionProvider"])
    unseen = batch(train.FINAL_SEED, range(48))
    logits = session.run(None, {"input": train.normalise(torch.from_numpy(unseen.images)).numpy()})[0]
    assert f"seed 3: {(logits.argmax(axis=1) == unseen.labels).mean():.4f}" in log


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_accuracy_counts_the_right_ones(share: float) -> None:
    """A network that says what it is told, right for a known share of the scenes."""
    scenes = batch(9, range(200))
    answers = scenes.labels.copy()
    wrong = np.random.default_rng(2).permutation(200)[: round(200 * (1 - share))]
    answers[wrong] = (answers[wrong] + 1) % len(LABELS)
    told = iter(torch.nn.functional.one_hot(torch.from_numpy(answers)).split(train.BATCH))

    class Told(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return next(told)

    assert train.accuracy(Told(), scenes) == pytest.approx(share)
