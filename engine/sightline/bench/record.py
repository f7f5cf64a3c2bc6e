"""A report as files: bench.json for programs, bench.md for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from sightline import __version__
from sightline.bench.machine import QUIET
from sightline.bench.result import Choice, Comparison, Measurement, Report
from sightline.job.files import make_folder, write_atomically

VERSION = 1
RECORD, TEXT = "bench.json", "bench.md"
HEADLINE = {
    "single-stream": "90th percentile of one image", "multi-stream": "99th percentile of eight images",
    "server": "highest rate, or latency at a rate", "offline": "throughput",
}  # fmt: skip


def to_json(report: Report) -> dict[str, Any]:
    """The record that ``bench.schema.json`` describes."""
    record = cast("dict[str, Any]", _plain(report))
    for found, one in zip(record["comparisons"], report.comparisons, strict=True):
        found["verdict"] = one.verdict
    return {"version": VERSION, "sightline": __version__, **record}


def schema() -> dict[str, Any]:
    """The JSON Schema of ``bench.json``."""
    return json.loads(files("sightline.bench").joinpath("bench.schema.json").read_text(encoding="utf-8"))


def write(report: Report, folder: Path) -> None:
    """Both files."""
    make_folder(folder)
    write_atomically(folder / RECORD, [json.dumps(to_json(report), indent=1, ensure_ascii=False).encode()])
    write_atomically(folder / TEXT, [markdown(report).encode()])


def markdown(report: Report) -> str:
    """Tables for a README or a pull request."""
    names = ", ".join(f"`{one['file']}` ({one['precision']}, {one['sha256'][:12]})" for one in report.models)
    shape = " × ".join(map(str, report.input_shape))
    lines = [
        f"## How fast {names} runs",
        "",
        f"{report.date}; images of {shape}, {report.inputs}. {where(report)}",
        "",
    ]
    lines += [f"- **{choice_text(one)}**" for one in report.choices]
    if report.choices:
        lines.append("")
    for scenario, what in HEADLINE.items():
        rows = [one for one in report.measurements if one.scenario == scenario]
        if rows:
            lines += [f"### {scenario.capitalize()} ({what})", "", *_table(rows), ""]
    if report.comparisons:
        lines += ["### Compared, interleaved", "", *_compared(report.comparisons), ""]
    lines += [f"- {remark}" for remark in _remarks(report)]
    return "\n".join(lines).rstrip() + "\n"


def where(report: Report) -> str:
    """The machine in a sentence or two."""
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    governor = f", governor {machine['governor']}" if machine["governor"] else ""
    quota = f", quota of {machine['quota']:g}" if machine["quota"] else ""
    shares = [one.others for one in (*report.measurements, *report.comparisons) if one.others is not None]
    others = f" Others used up to {max(shares):.0%} of it meanwhile." if shares else ""
    return (
        f"{machine['processor']}, {len(machine['affinity'])} of {machine['cores']} cores{quota}{governor}; "
        f"{machine['system']}, Python {machine['python']}; {versions}.{others}"
    )


def choice_text(choice: Choice) -> str:
    """What to choose, in a sentence."""
    among = f"the best of {choice.among}" if choice.among > 1 else "the only one measured"
    return (
        f"For {choice.purpose} ({choice.subject}): {choice.configuration}: {number(choice.figure)} {choice.unit}, "
        f"{among}"
    )


def number(value: float) -> str:
    """Three digits, no exponents.

    >>> number(1234.5), number(12.345), number(0.012345)
    ('1234', '12.3', '0.0123')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(rows: Sequence[Measurement]) -> list[str]:
    served = ["offered/s"] if rows[0].server is not None else []
    head = ["what", "configuration", *served, "rate", "p50 ms", "p90 ms", "p99 ms", "CV", "stable"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for one in rows:
        latency = [
            "–" if one.latency is None else number(value)
            for value in ([0.0] * 3 if one.latency is None else (one.latency.p50, one.latency.p90, one.latency.p99))
        ]
        spread = "–" if one.latency is None else f"{one.latency.variation:.0%}"
        offered = [number(one.server.offered)] if one.server is not None else []
        cells = [
            one.subject, str(one.configuration), *offered, f"{number(one.work_rate)} {one.unit}/s", *latency, spread,
            "yes" if one.stable else "**no**",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _compared(rows: Sequence[Comparison]) -> list[str]:
    lines = [
        "| what | first | second | first | second | times faster (quartiles) | verdict |", f"|{'---|' * 7}"
    ]  # fmt: skip
    for one in rows:
        unit = "images/s" if one.scenario == "offline" else "ms"
        figures = [f"{number(part.median)} {unit}" for part in (one.first_figure, one.second_figure)]
        names = [f"{part.model} ({part})" for part in (one.first, one.second)]
        ratio = f"{one.ratio.median:.3f} ({one.ratio.low:.3f}–{one.ratio.high:.3f})"
        cells = [f"{one.subject}, {one.scenario}", *names, *figures, ratio, one.verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _remarks(report: Report) -> list[str]:
    """What a reader would otherwise miss; what is true of many rows is said once."""
    rows = dict[str, list[str]]()
    for one in report.measurements:
        for note in one.notes:
            rows.setdefault(note, []).append(f"{one.subject}, {one.scenario}, {one.configuration}")
    disturbed = [one for one in (*report.measurements, *report.comparisons) if (one.others or 0) > QUIET]
    found = list(report.notes)
    if disturbed:
        found.append(
            f"Disturbed: others used more than {QUIET:.0%} of the machine during {len(disturbed)} of "
            f"{len(report.measurements) + len(report.comparisons)} measurements. Measure again on a quiet machine."
        )
    return found + [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {note}."
        for note, names in rows.items()
    ]


def _plain(value: object) -> Any:
    """Dataclasses as objects, what is not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("Sequence[object]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
