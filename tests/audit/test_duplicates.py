"""Photographs that are nearly the same picture count once."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit.duplicates import firsts
from sightline.cli import call
from sightline.demo import LABELS
from sightline.demo.dataset import batch


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def shrunk(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width // 2, height // 2)).resize((width, height)))


def test_copies_are_found_and_other_scenes_of_the_class_are_not() -> None:
    drawn = batch(51, range(36))
    scenes = list(drawn.images[drawn.labels == drawn.labels[0]]) + list(drawn.images[:6])
    scenes = [scenes[0], *[one for one in scenes[1:] if not np.array_equal(one, scenes[0])]]
    copies = [compressed(scenes[1], 30), shrunk(scenes[1]), np.clip(scenes[0] * 0.8 + 15, 0, 255).astype(np.uint8)]
    found = firsts([*scenes, *copies])
    np.testing.assert_array_equal(found[: len(scenes)], np.arange(len(scenes)))
    np.testing.assert_array_equal(found[len(scenes) :], [1, 1, 0])
    assert firsts([]).shape == (0,)
    flat = [np.full((20, 20, 3), grey, np.uint8) for grey in (10, 200)]
    np.testing.assert_array_equal(firsts(flat), [0, 1])  # nothing to tell them by


def test_one_scene_taken_eight_times_is_no_cluster(tmp_path: Path) -> None:
    """Its copies point to one place; they are told as copies, not as a mark."""
    drawn = batch(52, range(72))
    label = LABELS[int(drawn.labels[0])]
    folder = tmp_path / "scenes"
    for number, (pixels, index) in enumerate(zip(drawn.images, drawn.labels, strict=True)):
        place = folder / LABELS[int(index)]
        place.mkdir(parents=True, exist_ok=True)
        if LABELS[int(index)] != label:
            Image.fromarray(pixels).save(place / f"{number:03d}.png")
    for copy in range(8):
        Image.fromarray(compressed(drawn.images[0], 60 + 4 * copy)).save(folder / label / f"copy{copy}.png")
    asked = ["audit", "demo", "demo", "--images", str(folder), "-o", str(tmp_path / "out"), "--labels-by", "folder"]
    call([*asked, "--section", "shortcuts", "--threads", "2"])
    (found,) = json.loads((tmp_path / "out" / "audit.json").read_text())["candidates"]
    assert found["figures"]["shortcuts.repeated_photographs"] == 7
    assert found["figures"]["shortcuts.suspicious_clusters"] == 0
    told = [one["text"] for one in found["findings"] if "nearly repeat" in one["text"]]
    assert len(told) == 1
    assert repr(label) in told[0]
    assert "copy0.png = " in told[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_real_photographs_of_one_class_are_not_copies(photos: Path, seed: int) -> None:
    files = sorted(photos.glob("*.jpg"))
    rows = np.random.default_rng(seed).choice(len(files), 60, replace=False)
    views = [np.asarray(Image.open(files[row]).convert("RGB").resize((224, 224))) for row in rows]
    np.testing.assert_array_equal(firsts(views), np.arange(60))
