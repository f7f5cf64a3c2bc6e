"""A real network on real photographs, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commands.calling import Shell
from sightline import open_job
from sightline.image import read_image
from sightline.methods.forward._windows import window_grid
from sightline.model import load
from sightline.reading import read
from sightline.target import probability
from sightline.types import Heatmaps


def test_top_1_of_all_photographs(
    shell: Shell, squeezenet_path: Path, photos: Path, imagenet_labels: Path, tmp_path: Path
) -> None:
    """Each file name begins with the class index; torchvision states 58.1 % for these weights."""
    said = shell(
        "run", "predict", squeezenet_path, photos, "--preset", "imagenet", "--labels", imagenet_labels,
        "-o", tmp_path / "out", "--json", "--threads", "2",
    )  # fmt: skip
    assert said.code == 0
    rows = said.json["rows"]
    assert len(rows) == len(list(photos.iterdir()))
    right = [row["top1"] == int(row["id"].split("_")[0]) for row in rows]
    assert np.mean(right) >= 0.58
    labels = json.loads(imagenet_labels.read_text(encoding="utf-8"))
    assert [row["label"] for row in rows] == [labels[row["top1"]] for row in rows]


@pytest.mark.parametrize(
    ("method", "flags", "shape"),
    [
        ("occlusion", ["--window", "64", "--stride", "32"], (224, 224)),
        ("saliency", ["--target", "probability(1)"], (224, 224)),
        ("guided_backprop", [], (224, 224)),
        ("deconvnet", ["--target", "goldfish"], (224, 224)),
        ("activation_map", ["--layer", "features.3"], (16, 54, 54)),
    ],
)
def test_every_method_with_overlays_and_report(
    shell: Shell,
    squeezenet_path: Path,
    photos: Path,
    imagenet_labels: Path,
    tmp_path: Path,
    method: str,
    flags: list[str],
    shape: tuple[int, ...],
) -> None:
    out, some = tmp_path / "out", sorted(photos.glob("00[0-2]_*.jpg"))[:2]
    said = shell(
        "run", method, squeezenet_path, *some, "--preset", "imagenet", "--labels", imagenet_labels, "-o", out,
        "--overlays", "--report", "--threads", "2", *flags,
    )  # fmt: skip
    assert said.code == 0, said
    job = open_job(out)
    assert job.values().shape == (2, *shape)
    assert np.isfinite(job.values()).all()
    assert job.verify() == []
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(photo.name in page for photo in some)
    assert "http://" not in page.replace("http://www.w3.org", "")
    pictures = list((out / "overlays").rglob("*.png"))
    drawn = int(job.values().any(axis=tuple(range(1, len(shape) + 1))).sum())
    assert len(pictures) >= drawn >= 1  # a map that is 0 everywhere is said, not drawn
    assert said.err.count("its map is 0 everywhere") == 2 - drawn
    assert all(min(read_image(picture).size) >= 32 for picture in pictures)


def test_occlusion_finds_the_window_that_matters(squeezenet_path: Path, photos: Path) -> None:
    """The fall of one window, measured by hiding it by hand, is in the map where no other window reaches."""
    import sightline

    with load(squeezenet_path, preset="imagenet") as model:
        batch = read(sorted(photos.glob("001_*.jpg"))[:1], like=model)
        method, target = sightline.Occlusion(window=56, stride=56), probability(1)
        maps = model.explain(batch, method, target, threads=2)
        assert isinstance(maps, Heatmaps)
        top, left, height, width = window_grid((224, 224), (56, 56), 56)[5]
        hidden = batch.tensor.copy()
        hidden[:, :, top : top + height, left : left + width] = 0
        both = sightline.Batch.of(np.concatenate([batch.tensor, hidden]))
        chances = model.explain(both, sightline.Predict(), threads=2).values[:, 1]
    fall = chances[0] - chances[1]
    np.testing.assert_allclose(maps.values[0, top : top + height, left : left + width], fall, atol=1e-6)
