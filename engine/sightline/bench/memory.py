"""Memory of this process, on Linux."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sightline.heap import trim

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Bytes that the process holds now; None where nobody tells."""
    return memory_of(STATUS, "VmRSS")


def growth(work: Callable[[], object]) -> int | None:
    """Bytes that the process grows by at most while it works; None where nobody tells.

    What the C library keeps of earlier work is given back first: work that found room in it would seem to need none.
    """
    trim()
    before = resident()
    try:
        RESET.write_text("5")  # the highest mark begins anew
    except OSError:
        return None
    work()
    after = memory_of(STATUS, "VmHWM")
    return None if before is None or after is None else max(after - before, 0)


def memory_of(status: Path, line: str) -> int | None:
    """Bytes in a line of /proc/PID/status."""
    try:
        found = next(one for one in status.read_text().splitlines() if one.startswith(line))
    except (OSError, StopIteration):
        return None
    return int(found.split()[1]) * 1024
