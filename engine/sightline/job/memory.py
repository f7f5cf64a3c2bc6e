"""Memory: what a process holds, and what it means that there is none left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sightline.errors import SightlineError

_WORDS = ("out of memory", "failed to allocate memory", "bad_alloc", "can't allocate memory", "not enough memory")


class OutOfMemory(SightlineError):
    """One image alone does not fit the memory, with as little done at once as there can be."""


def is_out_of_memory(reason: BaseException) -> bool:
    """Whether an exception of NumPy, ONNX Runtime, torch or CUDA says that memory was not enough."""
    if isinstance(reason, MemoryError) or type(reason).__name__ == "OutOfMemoryError":
        return True
    return isinstance(reason, RuntimeError | SightlineError) and any(word in str(reason).lower() for word in _WORDS)


def resident(process: int | None = None) -> int:
    """Bytes of memory that a process holds, this one unless given; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path(f"/proc/{process or 'self'}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0
