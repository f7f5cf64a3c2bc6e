"""What the process keeps of large arrays that are gone."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from sightline import heap
from sightline.job.memory import resident

SIZE = 96 << 20  # bytes
PAGES = SIZE // resource.getpagesize()

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap has these switches")


@pytest.fixture(autouse=True)
def _usual() -> Iterator[None]:
    yield
    heap.give_back()


def faults() -> int:
    """Pages that the system had to bring for one array that is made, filled and dropped."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(SIZE, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_kept_memory_is_there_for_the_next_array() -> None:
    heap.keep()
    faults()
    assert faults() < PAGES / 100


def test_memory_that_is_given_back_is_the_systems() -> None:
    heap.keep()
    faults()
    held = resident()
    heap.give_back()
    assert held - resident() > 0.9 * SIZE


def test_once_given_back_large_arrays_come_and_go_as_usual() -> None:
    """In a process of its own: a heap with large gaps fills those first."""
    script = (
        "import numpy as np; from sightline import heap; from sightline.job.memory import resident; "
        f"heap.keep(); heap.give_back(); before = resident(); np.ones({SIZE}, np.uint8); print(resident() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert int(done.stdout) < SIZE / 10
