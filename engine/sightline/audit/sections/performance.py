"""Performance: how long it takes, and what it needs."""

from __future__ import annotations

import time
from collections.abc import Mapping

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
    figures: Mapping[str, str] = {
        "latency_p50_ms": "milliseconds of one photograph, median",
        "latency_p99_ms": "milliseconds of one photograph, 99th percentile",
        "latency_ratio": "the candidate's median over the reference's",
        "throughput": "photographs per second, 16 at a time",
        "throughput_ratio": "the candidate's photographs per second over the reference's",
    }

    def run(self, context: Context) -> Outcome:
        pair = (context.reference, context.candidate)
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
        }  # fmt: skip
        details = {"reference": {"latency_p50_ms": float(1e3 * half[0]), "throughput": float(rates[0])}}
        return Outcome(figures, details=details)


def _seconds(oracle: OrtOracle, artefact: Artefact, count: int) -> float:
    rows = np.arange(count) % len(artefact.photos)
    images = artefact.batch.tensor[rows]
    fixed = artefact.model.input.batch
    start = time.perf_counter()
    for first in range(0, count, fixed or count):
        oracle.logits(images[first : first + (fixed or count)])
    return time.perf_counter() - start


SECTION = Performance()
