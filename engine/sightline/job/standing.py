"""How a job stands: what is done, how fast, what was set aside, and whether somebody works on it."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sightline.job.lock import LOCK_NAME
from sightline.job.reader import Job

LAST = 20  # shards that the present rate is taken from


@dataclass(frozen=True)
class Standing:
    """Where a job stands.

    Attributes:
        inputs: of the job.
        rows: committed.
        set_aside: inputs without a row.
        reasons: for how many inputs each reason was given, the most frequent first; names within are left out.
        shards: committed, and of how many.
        seconds: spent on the committed shards; None where nobody measured.
        rate: inputs per second over all of it, and over the last shards.
        seconds_left: at the rate of the last shards.
        smaller_batches: shards that memory allowed only a smaller batch for.
        writer: the process that works on it now, "" where none does.
    """

    inputs: int
    rows: int
    set_aside: int
    reasons: tuple[tuple[str, int], ...]
    shards: tuple[int, int]
    seconds: float | None
    rate: tuple[float | None, float | None]
    seconds_left: float | None
    smaller_batches: int
    writer: str

    @property
    def done(self) -> int:
        """Inputs that have a row or were set aside."""
        return self.rows + self.set_aside


def standing(*jobs: Job) -> Standing:
    """Where a job stands, from its manifest; several are the parts of a bank, in order, and count together."""
    shards = [(job, index, shard) for job in jobs for index, shard in job.shards.items()]
    timed = [(len(job.manifest.positions(i)), shard.seconds) for job, i, shard in shards if shard.seconds is not None]
    whole, last = _rate(timed), _rate(timed[-LAST:])
    inputs, rows = sum(job.manifest.inputs for job in jobs), sum(map(len, jobs))
    aside = [one for job in jobs for one in job.set_aside]
    return Standing(
        inputs=inputs,
        rows=rows,
        set_aside=len(aside),
        reasons=tuple(Counter(_kind(one.reason, (one.id, one.path)) for one in aside).most_common()),
        shards=(len(shards), sum(job.manifest.shard_count for job in jobs)),
        seconds=sum(seconds for _, seconds in timed) if timed else None,
        rate=(whole, last),
        seconds_left=(inputs - rows - len(aside)) / last if last else None,
        smaller_batches=sum(shard.batch is not None for _, _, shard in shards),
        writer=next(filter(None, (writer(job.folder) for job in jobs)), ""),
    )


def writer(folder: Path) -> str:
    """Who holds a folder's lock at this moment, "" where nobody does."""
    with suppress(OSError, ValueError, KeyError):
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            record = json.loads(os.pread(descriptor, 4096, 0))
            return f"process {record['pid']} on {record['host']}"
        finally:
            os.close(descriptor)
    return ""


def _rate(timed: list[tuple[int, float]]) -> float | None:
    seconds = sum(took for _, took in timed)
    return sum(count for count, _ in timed) / seconds if seconds > 0 else None


def _kind(reason: str, names: tuple[str, ...]) -> str:
    for name in sorted(filter(None, names), key=len, reverse=True):
        reason = reason.replace(name, "…")
    return reason
