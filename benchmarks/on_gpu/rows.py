"""Findings of a part as rows of the device's table: the schema that all benchmarks share."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from machine import slug
from recording import OURS, Row, Session, Timing, append

DRIVER = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]


def rows_of(lines: Sequence[Mapping[str, Any]], part: str, command: str, results: Path) -> list[Row]:
    """Append the rows of a part and return them.

    Args:
        lines: what it found.
        part: its name.
        command: that runs it again; the device's driver and CUDA are added to it.
        results: folder of the tables.
    """
    device, driver = device_and_driver()
    facts = ", ".join(f"{name} {version}" for name, version in {"driver": driver, **cuda_versions()}.items())
    session = Session.begin(threads=1, rounds=0, results=results, command=f"{command} ({facts})")
    session = replace(session, device=device, processor="gpu")
    rows = [row for line in lines for row in _rows(session, line, f"gpu {part}")]
    if rows:
        append(session.path, rows)
    return rows


def device_and_driver() -> tuple[str, str]:
    """The GPU's name, fit for a file, and its driver's version."""
    try:
        said = subprocess.run(DRIVER, check=True, capture_output=True, text=True, timeout=20).stdout.splitlines()
        name, driver = (word.strip() for word in said[0].split(","))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return "unknown-gpu", "unknown"
    return slug(name), driver


def cuda_versions() -> dict[str, str]:
    """Versions that the table has no column for."""
    found: dict[str, str] = {}
    for name in ("cupy-cuda13x", "onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cuda-runtime"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _rows(session: Session, line: Mapping[str, Any], benchmark: str) -> list[Row]:
    if line["kind"] == "figure":
        value = line["value"]
        return [
            session.row(
                benchmark=benchmark, case=line["case"], subject=line["subject"], metric=line["metric"],
                unit=line["unit"], value=value, low=value, high=value, rounds=1, ratio_to="", ratio=None,
                ratio_low=None, ratio_high=None, others=None,
            )
        ]  # fmt: skip
    if line["kind"] != "race":
        return []
    timings = {name: Timing(times) for name, times in line["seconds"].items()}
    peers = {name: median(timing.seconds) for name, timing in timings.items() if name != OURS}
    best = min(peers, key=lambda name: peers[name]) if peers else ""
    rows: list[Row] = []
    for subject, timing in timings.items():
        value, low, high = timing.quartiles(1.0)
        claim = timings[best].over(timing) if subject == OURS and best else (None, None, None)
        rows.append(
            session.row(
                benchmark=benchmark, case=line["case"], subject=subject, metric="throughput", unit=line["unit"],
                value=value, low=low, high=high, rounds=len(timing.seconds), ratio_to=best if subject == OURS else "",
                ratio=claim[0], ratio_low=claim[1], ratio_high=claim[2], others=None,
            )
        )  # fmt: skip
    return rows
