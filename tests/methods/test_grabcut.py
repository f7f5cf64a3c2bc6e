"""GrabCut: masks from maps."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightline
from problems import PROBLEMS, linear
from sightline.demo.dataset import batch
from sightline.errors import MissingPreprocess, UnknownName, UsageError
from sightline.methods.gradient._cutting import Cut
from sightline.methods.gradient.grabcut import Grabcut, Segmentations
from sightline.model import Model
from sightline.registry import declaration
from sightline.types import Batch, ByteArray

CUT = Cut(mass=0.7, margin=0.05, foreground=0.005, blur=0.04, iterations=5)
Open = Callable[..., Model]


def scene(seed: int, height: int, width: int) -> tuple[ByteArray, ByteArray]:
    """A disc of one noisy colour on ground of another, and its mask."""
    dice = np.random.default_rng(seed)
    rows, columns = np.indices((height, width))
    centre = dice.uniform(0.4, 0.6, 2) * (height, width)
    mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (0.22 * min(height, width)) ** 2
    colours = np.where(mask[..., None], dice.integers(150, 240, 3), dice.integers(10, 100, 3))
    return (colours + dice.normal(0, 6, (height, width, 3))).clip(0, 255).astype(np.uint8), mask.astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_a_rough_map_is_sharpened_to_the_object(seed: int) -> None:
    picture, mask = scene(seed, 61, 80)
    rough = np.random.default_rng(seed).random(mask.shape, dtype=np.float32) * mask  # holes, noise, no border
    found, (top, left, bottom, right) = CUT(picture, rough)
    assert (found & mask).sum() / (found | mask).sum() > 0.95
    outside = np.ones_like(mask)
    outside[top:bottom, left:right] = 0
    assert not (found & outside).any()


def test_the_box_holds_the_mass_that_was_asked_for() -> None:
    picture, _ = scene(0, 40, 40)
    values = np.zeros((40, 40), np.float32)
    values[10, 12], values[25, 30] = 3, 1
    _, box = Cut(0.75, 0.0, 0.0, 0.0, 1)(picture, values)
    assert box == (10, 12, 11, 13)
    _, box = Cut(0.76, 0.0, 0.0, 0.0, 1)(picture, values)
    assert box == (10, 12, 26, 31)
    _, box = Cut(0.75, 0.05, 0.0, 0.0, 1)(picture, values)
    assert box == (8, 10, 13, 15)


@pytest.mark.parametrize("value", [0.0, 2.5, -1.0])
def test_a_map_that_is_the_same_everywhere_cuts_nothing(value: float) -> None:
    picture, _ = scene(1, 30, 20)
    mask, box = CUT(picture, np.full((30, 20), value, np.float32))
    assert not mask.any()
    assert box == (0, 0, 0, 0)


def test_a_picture_of_one_colour_and_the_smallest_pictures_are_no_fault() -> None:
    for height, width in ((9, 8), (3, 3), (2, 1), (1, 1)):
        values = np.zeros((height, width), np.float32)
        values[0, 0] = 1
        mask, _ = CUT(np.full((height, width, 3), 128, np.uint8), values)
        assert mask.shape == (height, width)


@pytest.mark.parametrize(
    "change",
    [{"mass": 0.0}, {"mass": 1.1}, {"margin": -0.1}, {"foreground": 1.0}, {"blur": -1.0}, {"iterations": 0}],
    ids=lambda change: next(iter(change)),
)
def test_what_is_out_of_range_is_refused(open_problem: Open, change: dict[str, Any]) -> None:
    problem = linear()
    with pytest.raises(UsageError, match=next(iter(change))):
        open_problem(problem).plan(Grabcut(**change)).run(Batch.of(problem.images(0, 1)))


def test_a_base_that_gives_no_map_or_is_none_is_refused(open_problem: Open) -> None:
    problem = PROBLEMS["convolutional"]
    with pytest.raises(UsageError, match="needs a map"):
        open_problem(problem).plan(Grabcut(base="predict")).run(Batch.of(problem.images(0, 1)))
    with pytest.raises(UnknownName, match="saliency"):
        open_problem(problem).plan(Grabcut(base="salency"))


def test_pixels_must_be_known(open_problem: Open) -> None:
    problem = linear()
    with pytest.raises(MissingPreprocess):
        open_problem(problem).plan(Grabcut()).run(Batch.of(problem.images(0, 1)))


def test_it_needs_what_its_base_needs() -> None:
    assert declaration(Grabcut(base="rise(masks=5)")).needs.__name__ == "Forward"
    assert declaration(Grabcut(base="saliency")).needs.__name__ == "Differentiable"


def test_objects_of_the_demo_are_found() -> None:
    scenes = batch(11, range(12))
    with sightline.load("demo") as model:
        images = Batch.of(np.stack([model.preprocess(Image.fromarray(pixels))[1] for pixels in scenes.images]))
        found = model.plan(Grabcut()).run(images)
    assert isinstance(found, Segmentations)
    masks = found.values.astype(bool)
    both, either = (masks & scenes.masks).sum(axis=(1, 2)), (masks | scenes.masks).sum(axis=(1, 2))
    assert float((both / either).mean()) > 0.65
    for (path, content), mask, picture in zip(
        found.files({photo.id: photo.id for photo in found.photos}), masks, found.pictures, strict=True
    ):
        assert path.startswith("cut-outs/")
        read = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(read[..., 3] == 255, mask)
        np.testing.assert_array_equal(read[..., :3], picture)
