"""The heap of the C library: whether it keeps the memory of large arrays that are gone, or gives it to the system.

glibc maps every array beyond 32 MiB anew, and the system clears its pages one by one when they are touched: 42,000 of
them in a batch of eight through SqueezeNet's twin, a quarter of its time. Kept, they are there for the next batch.
Other C libraries have no such switches; there, nothing is done.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of glibc's settings
USUAL = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}  # bytes: what glibc itself comes to as arrays grow
KEPT = {MMAP_THRESHOLD: 2**31 - 1, TRIM_THRESHOLD: 2**31 - 1}  # all that its settings can say


def keep() -> None:
    """From now on memory that is freed stays with the process, for whatever it allocates next."""
    _set(KEPT)


def give_back() -> None:
    """Give the system what is free, and from now on what will be."""
    _set(USUAL)
    trim()


def trim() -> None:
    """Give the system what is free now."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _set(sizes: dict[int, int]) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            for name, size in sizes.items():
                library.mallopt(name, size)
