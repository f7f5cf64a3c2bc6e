"""The scenes: the same everywhere, true to their masks, and with nothing but the outline to tell the class."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sightline.demo import LABELS, dataset, scenes
from sightline.demo.dataset import SIZE, Scenes, batch, draw, sheet, write
from sightline.demo.shapes import SHAPES

SEED = 20_261_123


@pytest.fixture(scope="module")
def drawn() -> Scenes:
    return batch(SEED, range(1200))


def digest(seed: int, indices: range) -> str:
    images = batch(seed, indices)
    return hashlib.sha256(images.images.tobytes() + np.packbits(images.masks).tobytes()).hexdigest()


def test_scenes_are_the_same_on_every_machine() -> None:
    # Only operations that IEEE 754 rounds in one way touch a pixel; a changed digest means changed scenes, and then
    # the network and its log belong to another data set.
    assert digest(4, range(48)) == "02d77d77151d5fad830b752d119062e24e2f04e957820b8b9f6bcf59bdf17256"


def test_a_scene_depends_on_its_two_numbers_alone(drawn: Scenes) -> None:
    order = np.random.default_rng(1).permutation(1200)[:40]
    for index in order:
        alone = draw(SEED, int(index))
        assert np.array_equal(alone.image, drawn.images[index])
        assert np.array_equal(alone.mask, drawn.masks[index])
        assert (alone.label, alone.box) == (drawn.labels[index], drawn.boxes[index])
    again = batch(SEED, [int(index) for index in order])
    assert np.array_equal(again.images, drawn.images[order])


def test_neither_seeds_nor_indices_repeat_a_scene() -> None:
    images = np.concatenate([batch(seed, range(60)).images for seed in (0, 1, 2, 2**40)])
    assert len({image.tobytes() for image in images}) == len(images)


def test_another_process_draws_the_same_without_torch() -> None:
    code = (
        "import sys, hashlib; from sightline.demo import scenes;"
        "print(hashlib.sha256(scenes(6, 11).images.tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert answer == [hashlib.sha256(scenes(6, 11).images.tobytes()).hexdigest(), "False"]


def test_types_and_ranges(drawn: Scenes) -> None:
    assert drawn.images.shape == (1200, SIZE, SIZE, 3)
    assert drawn.images.dtype == np.uint8
    assert drawn.masks.shape == (1200, SIZE, SIZE)
    assert drawn.masks.dtype == bool
    assert drawn.labels.dtype == np.int64
    assert drawn.images.std(axis=(1, 2)).max(axis=1).min() > 8, "a scene is all but blank"


def test_no_scenes_are_empty_arrays() -> None:
    none = scenes(0)
    assert (none.images.shape, none.masks.shape, len(none)) == ((0, SIZE, SIZE, 3), (0, SIZE, SIZE), 0)


def test_classes_take_turns(drawn: Scenes) -> None:
    assert len(LABELS) == len(set(LABELS)) >= 10
    assert set(Counter(drawn.labels.tolist()).values()) == {1200 // len(LABELS)}
    assert all(len(set(drawn.labels[at : at + len(LABELS)].tolist())) == len(LABELS) for at in range(0, 1180, 7))


def test_objects_have_the_stated_size_and_lie_within_the_image(drawn: Scenes) -> None:
    share = drawn.masks.mean(axis=(1, 2))
    assert share.min() > 0.06
    assert share.max() < 0.3
    assert np.ptp(share) > 0.18
    border = np.ones((SIZE, SIZE), bool)
    border[1:-1, 1:-1] = False
    assert not drawn.masks[:, border].any()


def test_boxes_hold_their_masks_tightly(drawn: Scenes) -> None:
    for mask, box in zip(drawn.masks[:300], drawn.boxes, strict=False):
        rows, columns = np.nonzero(mask)
        assert (box.top, box.top + box.height - 1) == (rows.min(), rows.max())
        assert (box.left, box.left + box.width - 1) == (columns.min(), columns.max())


def eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels all of whose neighbours up to 2 away are in the mask too."""
    shifted = [np.roll(mask, (down, right), (0, 1)) for down in range(-2, 3) for right in range(-2, 3)]
    return np.logical_and.reduce(shifted)


def test_the_mask_is_all_that_the_class_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same two numbers with every class's outline swapped for another: outside both masks no pixel moves.

    So the object is where the mask says, it leaves no trace elsewhere, and no colour, texture or background knows it.
    """
    before = batch(SEED + 1, range(120))
    monkeypatch.setattr(dataset, "SHAPES", SHAPES[5:] + SHAPES[:5])
    after = batch(SEED + 1, range(120))
    for index in range(120):
        outside = eroded(~(before.masks[index] | after.masks[index]))
        changed = (before.images[index] != after.images[index]).any(axis=-1)
        # Tips thinner than a pixel shade a few pixels, none of which they cover by half.
        assert (changed & outside).sum() <= 4
        only = eroded(before.masks[index] & ~after.masks[index])
        assert not only.any() or changed[only].mean() > 0.95, "the object is hard to see"


def test_the_object_stands_out_from_what_surrounds_it(drawn: Scenes) -> None:
    for image, mask in zip(drawn.images[:300].astype(float), drawn.masks, strict=False):
        assert np.abs(image[mask].mean(axis=0) - image[~mask].mean(axis=0)).max() > 20  # of 255


def nearest_centroid(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Accuracy on the second half of what the first half teaches."""
    half = len(labels) // 2
    features = (features - features[:half].mean(axis=0)) / features[:half].std(axis=0)
    centroids = np.stack([features[:half][labels[:half] == k].mean(axis=0) for k in range(len(LABELS))])
    distance = ((features[half:, None] - centroids) ** 2).sum(axis=-1)
    return float((distance.argmin(axis=1) == labels[half:]).mean())


def test_neither_colour_nor_place_tells_the_class() -> None:
    many = batch(SEED + 2, range(3600))
    images, masks = many.images.astype(float), many.masks[..., None]
    clues = {
        "object colour": (images * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2)),
        "background colour": (images * ~masks).sum(axis=(1, 2)) / (~masks).sum(axis=(1, 2)),
        "contrast": images.std(axis=(1, 2)),
        "place": np.array([(b.top + b.height / 2, b.left + b.width / 2) for b in many.boxes]),
    }
    guesses = {name: nearest_centroid(clue, many.labels) for name, clue in clues.items()}
    # Chance is 1/12 = 0.083; four standard deviations of 1800 guesses are 0.026.
    assert max(guesses.values()) < 0.11, guesses
    # The control: how much of its box the object fills says something of its outline, and is found by the same means.
    filled = np.array([[mask.sum() / (b.height * b.width)] for mask, b in zip(many.masks, many.boxes, strict=True)])
    assert nearest_centroid(filled, many.labels) > 0.2


def test_files_hold_the_scenes(tmp_path: Path) -> None:
    paths = write(tmp_path / "scenes", 9, 14)
    assert [path.name for path in paths[:2]] == [f"00000_{LABELS[0]}.png", f"00001_{LABELS[1]}.png"]
    assert sorted(path for path in (tmp_path / "scenes").iterdir() if path.is_file()) == paths
    for index, path in enumerate(paths):
        assert np.array_equal(np.array(Image.open(path)), draw(9, index).image)
        assert np.array_equal(np.array(Image.open(path.parent / "masks" / path.name)) > 0, draw(9, index).mask)


def test_the_sheet_shows_one_class_per_column(tmp_path: Path) -> None:
    page = sheet(0, rows=2)
    assert page.shape == (2 * SIZE + 4, 12 * SIZE + 11 * 4, 3)
    assert np.array_equal(page[100:196, 300:396], draw(0, 15).image)
    dataset.main([str(tmp_path / "sheet.png"), "--rows", "2"])
    saved = np.array(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    assert np.abs(saved - page).mean() < 6, "256 colours are enough for a sheet"
