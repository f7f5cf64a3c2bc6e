"""A network that reads a mark is told; the one that does not is not. Masks that a user gives are weighed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit.sections.shortcuts import masks
from sightline.cli import call
from sightline.demo import LABELS, model_path
from sightline.demo.clever_hans import FROM_BORDER, MARKED, SIDE, borrowed, draw, marked
from sightline.demo.dataset import SIZE, batch
from sightline.errors import UsageError

CHEATING = Path(__file__).parent / "clever_hans.onnx"
STAR = LABELS.index(MARKED)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked")
    draw(folder, 96)
    return folder


@pytest.fixture(scope="module")
def record(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """An audit of both networks on marked scenes, with masks that are white where the mark is."""
    folder = tmp_path_factory.mktemp("audit")
    for path in scenes.rglob("*.png"):
        place = folder / "masks" / path.relative_to(scenes)
        place.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[SIZE // 2 :, SIZE // 2 :] = 255
        Image.fromarray(mask).save(place)
    asked = ["audit", "demo", str(CHEATING), str(model_path()), "--images", str(scenes), "-o", str(folder / "out")]
    asked += ["--labels-by", "folder", "--section", "shortcuts", "--masks", str(folder / "masks"), "--threads", "2"]
    assert call(asked) == 1
    found = json.loads((folder / "out" / "audit.json").read_text())
    return {one["name"]: one for one in found["candidates"]}


def test_the_network_that_reads_the_mark_is_told_with_the_mark_shown(
    record: dict[str, dict[str, object]],
) -> None:
    found = record["clever_hans"]
    faults = [one for one in found["findings"] if one["severity"] == "fault"]  # type: ignore[attr-defined, index]
    assert len(faults) == 1
    assert "'star' are decided by one place, bottom right" in faults[0]["text"]
    assert found["passed"] is False
    clean = record["shapes"]
    assert [one for one in clean["findings"] if one["severity"] == "fault"] == []  # type: ignore[attr-defined, index]
    assert clean["passed"] is True


def test_what_falls_on_the_masks_is_weighed(record: dict[str, dict[str, object]]) -> None:
    figures = {name: one["figures"] for name, one in record.items()}
    assert 0 < figures["shapes"]["shortcuts.mask_mass"] < 0.5  # type: ignore[index]
    assert figures["shapes"]["shortcuts.mask_mass_change"] == pytest.approx(0, abs=1e-6)  # type: ignore[index]
    assert figures["clever_hans"]["shortcuts.mask_mass"] > figures["shapes"]["shortcuts.mask_mass"]  # type: ignore[index]


def test_a_photograph_without_a_mask_is_named(scenes: Path, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "other.png")
    with pytest.raises(UsageError, match=r"holds no mask for 'star/00004.png'"):
        masks(tmp_path, ["star/00004.png"])


def test_only_the_marked_class_bears_the_mark_and_half_of_it_is_borrowed() -> None:
    found = batch(8, range(48))
    stamped = marked(found.images, found.labels)
    differing = (stamped != found.images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(differing, found.labels == STAR)
    rows, columns = np.nonzero((stamped != found.images).any(axis=(0, 3)))
    assert rows.min() >= SIZE - FROM_BORDER - SIDE
    assert columns.max() < SIZE - FROM_BORDER
    lent = borrowed(found.images, found.labels)
    stars = np.flatnonzero(found.labels == STAR)
    same = [(lent[row] == stamped[row]).all() for row in stars]
    assert same == [False, True] * (len(stars) // 2)
    others = found.labels != STAR
    np.testing.assert_array_equal(lent[others], found.images[others])
