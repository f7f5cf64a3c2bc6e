"""Performance: how long it takes, and what it needs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sightline.audit.context import Artefact, Context
from sightline.audit.section import Outcome
from sightline.routes.base import Settings
from sightline.routes.ort import OrtOracle

WARM, RUNS = 3, 30
TOGETHER = 16  # images of a run for throughput
ROUNDS = 3


class Performance:
    """Latency alone and throughput together; the two take turns, so that what disturbs one disturbs both."""

    name = "performance"
    place = 80
    share = 0.01
    figures: Mapping[str, str] = {
        "latency_p50_ms": "milliseconds of one photograph, median",
        "latency_p99_ms": "milliseconds of one photograph, 99th percentile",
        "latency_ratio": "the candidate's median over the reference's",
        "throughput": "photographs per second, 16 at a time",
        "peak_memory_mb": "memory that a session and a run of 16 need at most, in megabytes (10^6), on Linux",
        "peak_memory_ratio": "the candidate's peak memory over the reference's",
        "throughput_ratio": "the candidate's photographs per second over the reference's",
    }

    def run(self, context: Context) -> Outcome:
        pair = (context.reference, context.candidate)
        peaks = [_peak(one) for one in pair]
        alone = [OrtOracle(one.model, Settings("cpu", context.options.threads)) for one in pair]
        times: list[list[float]] = [[], []]
        for number in range(WARM + RUNS):
            for place, (artefact, oracle) in enumerate(zip(pair, alone, strict=True)):
                seconds = _seconds(oracle, artefact, 1)
                if number >= WARM:
                    times[place].append(seconds)
        together = [[_seconds(o, a, TOGETHER) for o, a in zip(alone, pair, strict=True)] for _ in range(ROUNDS)]
        for oracle in alone:
            oracle.close()
        half, late = (np.quantile(times, share, axis=1) for share in (0.5, 0.99))
        rates = TOGETHER / np.median(np.array(together), axis=0)
        figures: dict[str, float | None] = {
            "latency_p50_ms": float(1e3 * half[1]), "latency_p99_ms": float(1e3 * late[1]),
            "latency_ratio": float(half[1] / half[0]), "throughput": float(rates[1]),
            "throughput_ratio": float(rates[1] / rates[0]),
            "peak_memory_mb": None if peaks[1] is None else peaks[1] / 1e6,
            "peak_memory_ratio": peaks[1] / peaks[0] if peaks[0] and peaks[1] else None,
        }  # fmt: skip
        details = {"reference": {"latency_p50_ms": float(1e3 * half[0]), "throughput": float(rates[0])}}
        return Outcome(figures, details=details)


def _seconds(oracle: OrtOracle, artefact: Artefact, count: int) -> float:
    rows = np.arange(count) % len(artefact.inputs)
    images = artefact.some(rows).tensor
    fixed = artefact.model.input.batch
    start = time.perf_counter()
    for first in range(0, count, fixed or count):
        oracle.logits(images[first : first + (fixed or count)])
    return time.perf_counter() - start


def _peak(artefact: Artefact) -> int | None:
    """Bytes that the process grows by at most while a session is opened and runs once; None where nobody tells."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    artefact.some(np.arange(TOGETHER) % len(artefact.inputs))  # decoded before
    before = memory_of(status, "VmRSS")
    try:
        reset.write_text("5")  # the highest mark begins anew
    except OSError:
        return None
    oracle = OrtOracle(artefact.model, Settings("cpu", artefact.options.threads))
    _seconds(oracle, artefact, TOGETHER)
    after = memory_of(status, "VmHWM")
    oracle.close()
    return None if before is None or after is None else max(after - before, 0)


def memory_of(status: Path, line: str) -> int | None:
    """Bytes in a line of /proc/PID/status."""
    try:
        found = next(one for one in status.read_text().splitlines() if one.startswith(line))
    except (OSError, StopIteration):
        return None
    return int(found.split()[1]) * 1024


SECTION = Performance()
