"""Strongest positions against a search through everything."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.graph.receptive import POINT, Axis, ReceptiveField
from sightline.units.patches import OUTSIDE, crop, shrunk, within_reach
from sightline.units.strongest import Strongest, dead_units, duplicate_units


@pytest.mark.parametrize(("per_image", "batches"), [(1, (3, 1, 4)), (2, (8,)), (2, (5, 3))])
def test_peaks_are_those_of_a_search_through_everything(per_image: int, batches: tuple[int, ...]) -> None:
    maps = np.random.default_rng(sum(batches)).integers(0, 6, (8, 3, 4, 5)).astype(np.float32)  # many ties
    found = Strongest(k=5, per_image=per_image)
    start = 0
    for size in batches:
        found.add(maps[start : start + size])
        start += size
    for channel in range(3):
        every = [(-maps[image, channel, y, x], image, y, x) for image in range(8) for y in range(4) for x in range(5)]
        kept, taken = [], dict.fromkeys(range(8), 0)
        for one in sorted(every):
            if taken[one[1]] < per_image:
                taken[one[1]] += 1
                kept.append(one)
        peaks = found.peaks
        rows = zip(peaks.scores, peaks.images, peaks.rows, peaks.columns, strict=True)
        mine = list(rows)[channel]
        assert [(-s, i, y, x) for s, i, y, x in zip(*mine, strict=True)] == kept[:5]


def test_fewer_images_than_wanted() -> None:
    found = Strongest(k=9)
    found.add(np.ones((2, 4), np.float32))  # a layer without positions
    assert found.peaks.images.tolist() == [[0, 1]] * 4


def test_dead_and_duplicate_units() -> None:
    draw = np.random.default_rng(6)
    maps = draw.uniform(0.1, 1, (40, 5, 3, 3)).astype(np.float32)
    maps[:, 1] = 0  # never moves
    maps[:, 2] = 3 * maps[:, 0]  # repeats channel 0
    found = Strongest(k=2)
    found.add(maps)
    assert dead_units(found).tolist() == [1]
    ((one, other, share),) = duplicate_units(found)
    assert (one, other) == (0, 2)
    assert share == pytest.approx(1)


def test_a_crop_is_grey_beyond_the_border() -> None:
    view = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    field = ReceptiveField(POINT.slid(3, 2, 1, 1), Axis(POINT.low, POINT.high, POINT.jump).slid(3, 2, 1, 1))
    patch = crop(view, field.window(0, 1))  # rows -1 to 1, columns 1 to 3
    assert (patch[0] == OUTSIDE).all()
    np.testing.assert_array_equal(patch[1:], view[0:2, 1:4])


def test_a_field_larger_than_the_image_is_cut_a_little_beyond_its_border() -> None:
    size = (64, 40)
    assert within_reach((-200, -13, 527, 27), size) == (-16, -10, 96, 24)
    assert within_reach((3, 4, 27, 27), size) == (3, 4, 27, 27)
    assert within_reach((-3, 30, 27, 15), size) == (-3, 30, 27, 15)
    assert within_reach((90, 0, 5, 5), size) == (90, 0, 5, 5)  # of padding alone: all grey


def test_small_patches_grow_by_whole_factors() -> None:
    patch = np.random.default_rng(0).integers(0, 256, (3, 2, 3), dtype=np.uint8)
    np.testing.assert_array_equal(shrunk(patch, 10), patch.repeat(3, axis=0).repeat(3, axis=1))
    assert shrunk(np.zeros((40, 20, 3), np.uint8), 10).shape == (10, 5, 3)
