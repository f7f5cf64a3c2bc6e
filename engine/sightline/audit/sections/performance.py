"""Performance: how long it takes, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

from sightline.audit.context import Artefact, Context
from sightline.audit.section import Outcome
from sightline.bench.clock import WallClock
from sightline.bench.comparison import interleaved
from sightline.bench.memory import growth
from sightline.bench.stability import Rule
from sightline.bench.statistics import Latency, percentile
from sightline.bench.subject import ForwardPass, Pool
from sightline.routes.ort import OrtOracle

RUNS = 15  # rounds of one photograph
TOGETHER = 16  # images of a run for throughput
ROUNDS = 3  # rounds of such runs
RULE = Rule(seconds=0.5, warm_queries=2, warm_seconds=0.1)


class Performance:
    """Latency alone and throughput together; the two take turns, so that what disturbs one disturbs both."""

    name = "performance"
    place = 80
    share = 0.03
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
        reference, candidate = context.reference, context.candidate
        peaks = [_peak(one) for one in (reference, candidate)]
        clock = WallClock()
        with ExitStack() as opened:
            subjects = [_subject(one, opened) for one in (reference, candidate)]
            alone, together = (
                interleaved(
                    partial(subjects[0].run, count), partial(subjects[1].run, count), RULE, clock, rounds=rounds
                )
                for count, rounds in ((1, RUNS), (TOGETHER, ROUNDS))
            )
        first, second = (Latency.of(times) for times in alone.durations)
        rates = [TOGETHER / percentile(times, 0.5) for times in together.durations]
        figures: dict[str, float | None] = {
            "latency_p50_ms": second.p50, "latency_p99_ms": second.p99, "latency_ratio": 1 / alone.ratio.median,
            "throughput": rates[1], "throughput_ratio": together.ratio.median,
            "peak_memory_mb": None if peaks[1] is None else peaks[1] / 1e6,
            "peak_memory_ratio": peaks[1] / peaks[0] if peaks[0] and peaks[1] else None,
        }  # fmt: skip
        details = {"reference": {"latency_p50_ms": first.p50, "throughput": rates[0]}}
        return Outcome(figures, details=details)


def _subject(artefact: Artefact, opened: ExitStack) -> ForwardPass:
    """Scores of the photographs in turn."""
    count = min(TOGETHER, len(artefact.inputs))
    pool = Pool(artefact.some(np.arange(count)), TOGETHER)
    oracle = OrtOracle(artefact.model, replace(artefact.settings, batch=artefact.model.input.batch or TOGETHER))
    opened.callback(oracle.close)
    return ForwardPass(oracle, (artefact.model.logits_name,), pool)


def _peak(artefact: Artefact) -> int | None:
    """Bytes that the process grows by at most while a session is opened and runs once; None where nobody tells."""
    artefact.some(np.arange(TOGETHER) % len(artefact.inputs))  # decoded before

    def work() -> None:
        with ExitStack() as opened:
            _subject(artefact, opened).run(TOGETHER)

    return growth(work)


SECTION = Performance()
