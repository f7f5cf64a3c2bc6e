"""Growth counts what work needs, whatever was freed before it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sightline.bench.memory import growth

PIECE, PIECES = 64 * 1024, 800  # pieces that the C library keeps when they are freed, 52 MB in all


def work() -> None:
    held = [np.ones(PIECE, np.uint8) for _ in range(PIECES)]
    assert len(held) == PIECES


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_of_earlier_work_hides_nothing() -> None:
    work()
    found = growth(work)
    assert found is not None
    assert 0.8 * PIECE * PIECES <= found <= 1.6 * PIECE * PIECES
