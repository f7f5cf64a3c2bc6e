"""How many threads may be asked for: every command and every call that takes a number of them asks here."""

from __future__ import annotations

import os

from sightline.errors import UsageError

PER_CORE = 4  # more only wait for each other
USUAL_MOST = 128  # that any machine starts; so many may be asked for on one of few cores, for workers on larger ones


def most_threads() -> int:
    """The largest number that may be asked for here: runtimes start as many as they are told."""
    return max(USUAL_MOST, PER_CORE * (os.cpu_count() or 1))


def check_threads(threads: int | None, given: str = "") -> None:
    """Refuse a number of threads that no runtime should be told; None is all cores.

    Args:
        threads: of one operator.
        given: how the message begins, "threads=8" unless given.

    Raises:
        UsageError: below 1, or above `most_threads`.
    """
    if threads is None:
        return
    given = given or f"threads={threads}"
    if threads < 1:
        raise UsageError(f"{given} must be at least 1.")
    if threads > most_threads():
        raise UsageError(
            f"{given} is more than the {most_threads()} threads that may be asked for here: {USUAL_MOST}, or "
            f"{PER_CORE} for each of {os.cpu_count() or 1} cores if that is more. Leave it out to use all cores."
        )
