"""The sheet of an adversarial example."""

from __future__ import annotations

import dataclasses
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from sightline.adversarial.examples import AdversarialExamples
from sightline.report.panel import panels
from sightline.types import Photo


def examples(seed: int = 0, size: tuple[int, int] = (40, 50)) -> AdversarialExamples:
    """Three pictures: one changed by at most 3, one left alone, one whose gradient was zero."""
    rng = np.random.default_rng(seed)
    originals = rng.integers(10, 240, (3, *size, 3), dtype=np.uint8)
    values = originals.copy()
    values[0] += rng.integers(0, 4, originals[0].shape, dtype=np.uint8)
    values[0, 0, 0] = originals[0, 0, 0] + 3
    return AdversarialExamples(
        values=values, photos=tuple(Photo(f"photo {row}.jpg") for row in range(3)), originals=originals,
        classes=(1, 1, 1), aim="reach", before=np.array([0, 1, 2]), after=np.array([1, 1, 2]),
        confidence_before=np.array([0.75, 0.5, 0.25], np.float32),
        confidence_after=np.array([0.875, 0.5, 0.25], np.float32),
        margins_before=np.array([-1, 1, -2], np.float32), margins=np.array([0.5, 1, -2], np.float32),
        budgets=np.zeros(3, np.float32), queries=np.array([9, 0, 2]), stuck=np.array([0, 0, 1], np.uint8),
        labels=("cat", "dog", "fox"),
    )  # fmt: skip


def test_three_pictures_and_what_the_network_says() -> None:
    found = examples()
    (panel,) = panels(found, 0)
    (before, first), (change, second), (after, third) = panel.cells
    scale = before.shape[0] // 40
    np.testing.assert_array_equal(before[::scale, ::scale], found.originals[0])
    np.testing.assert_array_equal(after[::scale, ::scale], found.values[0])
    difference = found.values[0].astype(int) - found.originals[0]
    np.testing.assert_array_equal(change[::scale, ::scale], 128 + 42 * difference)  # 127 // 3
    assert (first, second, third) == ("original: cat 0.750", "change × 42", "adversarial: dog 0.875")
    length = np.linalg.norm(difference)
    share = 100 * length / np.linalg.norm(found.originals[0].astype(float))
    alike = structural_similarity(found.originals[0], found.values[0], channel_axis=2)
    for said in ("to reach dog: fooled", "value is 3 of", f"{share:.2g} %", f"similarity {alike:.4f}"):
        assert said in panel.caption
    assert panels(found, None) == []


@pytest.mark.parametrize(
    ("row", "said"), [(1, "to reach dog, which the original does"), (2, "the gradient is 0 everywhere")]
)
def test_pictures_that_were_not_changed(row: int, said: str) -> None:
    (panel,) = panels(examples(), row)
    assert said in panel.caption
    assert (panel.cells[1][0] == 128).all()


@pytest.mark.parametrize(("aim", "said"), [("leave", "to leave dog: fooled"), ("raise", "the formula positive")])
def test_other_aims(aim: str, said: str) -> None:
    classes = (1, 1, 1) if aim == "leave" else (None,) * 3
    found = dataclasses.replace(examples(), aim=aim, classes=classes)
    assert said in panels(found, 0)[0].caption


def test_files_hold_the_pictures_and_the_sheets() -> None:
    found = examples(seed=3)
    files = dict(found.files({f"photo {row}.jpg": f"p{row}" for row in range(3)}))
    assert sorted(files) == sorted(f"{folder}/p{row}.png" for folder in ("adversarial", "sheets") for row in range(3))
    for row in range(3):
        picture = np.asarray(Image.open(BytesIO(files[f"adversarial/p{row}.png"])))
        np.testing.assert_array_equal(picture, found.values[row])
        width, height = Image.open(BytesIO(files[f"sheets/p{row}.png"])).size
        assert width > 3 * 200
        assert height > 200


@pytest.mark.parametrize("size", [(2, 30), (3, 4), (5, 6), (9, 8)])
def test_similarity_of_small_pictures(size: tuple[int, int]) -> None:
    found = examples(size=size)
    assert found.similarity(1) == 1.0
    assert 0 <= found.similarity(0) < 1 if min(size) < 3 else -1 <= found.similarity(0) < 1
