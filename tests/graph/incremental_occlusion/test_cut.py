"""Growth of changes against brute force over single positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.graph.incremental_occlusion.cut import Change, Reach, Slide, Stretch, whole


@given(
    length=st.integers(1, 30),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    pad=st.integers(0, 4),
    ends=st.tuples(st.integers(0, 29), st.integers(0, 29)),
)
def test_through_is_every_output_that_reads_a_changed_position(length, kernel, stride, pad, ends):
    first, last = sorted(min(end, length - 1) for end in ends)
    outputs = max(0, (length + 2 * pad - kernel) // stride + 1)
    if outputs == 0:
        return
    touched = [o for o in range(outputs) if any(first <= o * stride - pad + k <= last for k in range(kernel))]
    found = Reach(np.array([first]), np.array([last]), length).through(Slide(kernel, stride, pad), outputs)
    expected = (touched[0], touched[-1]) if touched else (0, -1)
    assert (int(found.first[0]), int(found.last[0])) == expected
    stretch = Stretch.around(found)
    assert stretch.lies_within(outputs)
    assert all(stretch.start[0] <= o < stretch.start[0] + stretch.size for o in touched)


def test_an_empty_reach_joins_as_nothing():
    empty = Reach(np.array([0, 0]), np.array([-1, -1]), 9)
    some = Reach(np.array([3, 0]), np.array([4, -1]), 9)
    joined = empty.joined(some)
    assert joined.first.tolist() == [3, 0]
    assert joined.last.tolist() == [4, -1]


def test_cuts_are_of_one_size_and_stay_inside():
    windows = np.array([[0, 0, 3, 2], [7, 6, 3, 4], [4, 9, 1, 1]])
    cut = Change.of_windows(windows, (10, 10)).cut()
    assert (cut.rows.size, cut.columns.size) == (3, 4)
    assert cut.rows.start.tolist() == [0, 7, 4]
    assert cut.columns.start.tolist() == [0, 6, 6], "moved to stay within the map"
    assert cut.lies_within((10, 10))


@pytest.mark.parametrize(("slide", "size"), [(Slide(3, 1, 1), 6), (Slide(3, 2, 0), 9), (Slide(1, 1, 0), 4)])
def test_a_kernel_reads_its_halo(slide, size):
    assert whole((4, 4), 2).read_by((slide, slide)).rows.size == size
