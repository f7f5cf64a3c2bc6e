"""The window sweep against masked copies made one by one, in every chunking."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.routes.dense_sweep import dense_sweep
from sightline.target import ClassScore, Target, logit


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("seed", range(3))
def test_every_window_of_every_image_once(seed: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, 3, 6, 5)).astype(np.float32)
    fill = rng.normal(size=(1, 3, 1, 1)).astype(np.float32)
    weights = rng.normal(size=(4, 90))
    corners = rng.integers(0, 4, (7, 2))
    sizes = np.minimum(rng.integers(1, 5, (7, 2)), [6, 5] - corners)
    windows = np.concatenate([corners, sizes], axis=1).astype(np.int64)  # overlapping, of any size
    seen_batches = []

    def score(copies: np.ndarray, target: Target) -> np.ndarray:
        assert isinstance(target, ClassScore)
        assert isinstance(target.index, tuple)
        seen_batches.append(len(copies))
        assert len(target.index) == len(copies)
        return np.array([weights[k] @ copy.ravel() for k, copy in zip(target.index, copies, strict=True)])

    before = images.copy()
    found = np.full((2, 7), np.nan)
    for chunk in dense_sweep(score, images, windows, fill, logit((3, 1)), batch, [np.arange(7)] * 2):
        assert np.isnan(found[chunk.image, chunk.windows]).all(), "scored twice"
        found[chunk.image, chunk.windows] = chunk.scores
    np.testing.assert_array_equal(images, before)
    assert max(seen_batches) <= batch
    for image, index in enumerate((3, 1)):
        for row, (top, left, height, width) in enumerate(windows):
            masked = images[image].copy()
            masked[:, top : top + height, left : left + width] = fill[0]
            np.testing.assert_allclose(found[image, row], weights[index] @ masked.ravel(), rtol=1e-5)


def test_a_fill_may_be_an_image_of_its_own() -> None:
    images, fill = np.zeros((2, 1, 2, 2), np.float32), np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    chunks = dense_sweep(
        lambda copies, _: copies.sum(axis=(1, 2, 3)),
        images,
        np.array([[0, 1, 2, 1]]),
        fill,
        logit(0),
        5,
        [np.array([0])] * 2,
    )
    assert [float(chunk.scores[0]) for chunk in chunks] == [1 + 3, 5 + 7]


def test_each_image_has_its_own_windows_and_images_share_runs() -> None:
    images = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2)
    windows = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 2, 2]])
    sizes: list[int] = []

    def score(copies: np.ndarray, _: Target) -> np.ndarray:
        sizes.append(len(copies))
        return copies.sum(axis=(1, 2, 3))

    rows = [np.array([2, 0]), np.array([], np.int64), np.array([1])]
    chunks = list(dense_sweep(score, images, windows, np.zeros(1, np.float32), logit(0), 8, rows))
    found = {(c.image, int(w)): float(v) for c in chunks for w, v in zip(c.windows, c.scores, strict=True)}
    assert found == {(0, 2): 0.0, (0, 0): 6.0, (2, 1): 27.0}
    assert sizes == [3]


def test_a_batch_that_does_not_fit_is_halved() -> None:
    images = np.ones((1, 1, 4, 4), np.float32)
    windows = np.array([[row, 0, 1, row + 1] for row in range(4)])
    sizes: list[int] = []

    def score(copies: np.ndarray, _: Target) -> np.ndarray:
        if len(copies) > 1:
            raise MemoryError
        sizes.append(len(copies))
        return copies.sum(axis=(1, 2, 3))

    chunks = list(dense_sweep(score, images, windows, np.zeros(1, np.float32), logit(0), 4, [np.arange(4)]))
    assert np.concatenate([chunk.scores for chunk in chunks]).tolist() == [15, 14, 13, 12]
    assert sizes == [1] * 4

    def never(copies: np.ndarray, _: Target) -> np.ndarray:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(dense_sweep(never, images, windows, np.zeros(1, np.float32), logit(0), 4, [np.arange(4)]))


def test_nothing_to_do() -> None:
    windows = np.array([[0, 0, 1, 1]])
    for images, rows in ((np.zeros((0, 1, 2, 2)), []), (np.zeros((1, 1, 2, 2)), [np.zeros(0, np.int64)])):
        assert list(dense_sweep(lambda c, _: c, images, windows, np.zeros(1), logit(0), 4, rows)) == []
