"""How long a run may take and how much memory it may hold."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sightline.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Where a run stops by itself, cleanly: the shard at work is finished, and the job can go on later.

    Attributes:
        seconds: a shard is not begun if one like the longest so far would end after so many; None is no limit. One
            shard is always made, so that a job that is resumed often enough ends.
        memory: bytes of this process and its workers; a run that holds more stops at the end of the shard.
    """

    seconds: float | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "memory"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"The limit {name}={value} must be above 0.")


class Watch:
    """Tells when a limit is reached."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._start

    def no_time_for(self, seconds: float | None) -> str:
        """Why work that takes so long is not begun; "" where it is. None is the first work, which always is."""
        limit = self._limits.seconds
        if limit is None or seconds is None or self.seconds + seconds <= limit:
            return ""
        return f"the time limit of {limit:g} s"

    def too_large(self, held: int) -> str:
        """Why a run that holds so many bytes stops; "" where it does not."""
        limit = self._limits.memory
        if limit is None or held <= limit:
            return ""
        return f"the memory limit of {limit / 2**20:,.0f} MiB ({held / 2**20:,.0f} MiB held)"
