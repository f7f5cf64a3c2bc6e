"""A bench report as one picture: throughput by batch, latency alone, latency under load, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.bench.result import Configuration, Measurement, Report

WIDTH, HEIGHT, DOTS = 6.4, 4.2, 130  # inches of a panel, dots per inch
_COLOURS = ("#1f6fb4", "#d1662b", "#3a8f5c", "#8a5fb0", "#b23a57", "#5b6675")
_INK, _GRID = "#20262c", "#e6e8eb"
_SHADES = {"p50": 1.0, "p90": 0.62, "p99": 0.32}
_MOST_NAMES = 12  # rows of bars that a panel holds


def write_plot(report: Report, path: Path) -> Path:
    """Write the picture; panels without figures are left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # as in sightline.colour
    from matplotlib.figure import Figure

    drawn = [panel for panel, shows in _PANELS if shows(report)]
    across = min(2, max(1, len(drawn)))
    down = -(-len(drawn) // across) or 1
    figure = Figure((WIDTH * across, HEIGHT * down), DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    places: Any = figure.subplots(down, across, squeeze=False)
    for place, axes in enumerate(places.flat):
        if place < len(drawn):
            drawn[place](report, axes)
            _finish(axes)
        else:
            axes.set_axis_off()
    files = ", ".join(dict.fromkeys(one["file"] for one in report.models))
    figure.suptitle(f"{files} on {report.machine['processor']}", color=_INK, fontsize=11)
    figure.savefig(path)
    return path


def _of(report: Report, scenario: str) -> list[Measurement]:
    return [one for one in report.measurements if one.scenario == scenario]


def _offline(report: Report, axes: Any) -> None:
    """Work per second by batch, a line for each other setting."""
    rows = _of(report, "offline")
    several = len({one.subject for one in rows}) > 1
    lines = dict[str, list[tuple[int, float]]]()
    for one in rows:
        name = _without_batch(one.configuration, one.subject if several else "")
        lines.setdefault(name, []).append((one.configuration.batch or 0, one.work_rate))
    for place, (name, points) in enumerate(lines.items()):
        batches, rates = zip(*sorted(points), strict=True)
        axes.plot(batches, rates, "o-", color=_COLOURS[place % len(_COLOURS)], label=name, markersize=4.5)
    batches = sorted({batch for points in lines.values() for batch, _ in points})
    if all(batches):
        axes.set_xscale("log", base=2)
    axes.set_xticks(batches, ["measured" if batch == 0 else str(batch) for batch in batches], minor=False)
    axes.set_ylim(0, 1.08 * max(rate for points in lines.values() for _, rate in points))
    axes.set_xlabel("batch: images per run of the network")
    axes.set_ylabel(f"{' or '.join(dict.fromkeys(one.unit for one in rows))} per second")
    axes.set_title("Offline")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _latency(report: Report, axes: Any) -> None:
    """Three percentiles of every setting as nested bars, the longest palest."""
    rows = [one for one in report.measurements if one.scenario in ("single-stream", "multi-stream")][:_MOST_NAMES]
    several = len({one.subject for one in rows}) > 1
    for place, one in enumerate(rows):
        assert one.latency is not None
        colour = _COLOURS[0] if one.scenario == "single-stream" else _COLOURS[1]
        for name in ("p99", "p90", "p50"):
            axes.barh(place, getattr(one.latency, name), color=colour, alpha=_SHADES[name], height=0.62)
        axes.text(one.latency.p99, place, f" {one.latency.p99:.3g}", va="center", fontsize=8, color=_INK)
    names = [f"{one.scenario}\n{_without_batch(one.configuration, one.subject if several else '')}" for one in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("milliseconds of a query: 50th, 90th, 99th percentile from dark to pale")
    axes.set_title("Latency of one image, and of eight together")


def _server(report: Report, axes: Any) -> None:
    """99th percentile by rate: what the search tried, what held filled."""
    for place, one in enumerate(_of(report, "server")):
        colour, server = _COLOURS[place % len(_COLOURS)], one.server
        assert server is not None
        name = _without_batch(one.configuration, one.subject)
        if server.probes:
            for probe in server.probes:
                axes.plot(probe.rate, probe.p99, "o", color=colour, mfc=colour if probe.holds else "white")
        if one.latency is not None:
            axes.plot(
                server.offered,
                one.latency.p99,
                "D",
                color=colour,
                markersize=8,
                label=f"{name}: {server.offered:.3g}/s",
            )
        if server.bound is not None:
            axes.axhline(server.bound, color=colour, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("queries per second (Poisson); filled where the bound (dashed) held")
    axes.set_ylabel("99th percentile of the latency, ms")
    axes.set_title("Server")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)


def _comparison(report: Report, axes: Any) -> None:
    """Ratios with their quartiles, and the interval of the median."""
    for place, one in enumerate(report.comparisons):
        spread = one.ratio
        axes.plot([spread.low, spread.high], [place, place], color=_COLOURS[0], linewidth=6, alpha=0.35)
        axes.plot([spread.surely_low, spread.surely_high], [place, place], color=_COLOURS[0], linewidth=1.6)
        axes.plot(spread.median, place, "o", color=_COLOURS[0])
    axes.axvline(1, color=_INK, linewidth=1, linestyle="--")
    names = [f"{one.subject}, {one.scenario}\n{_batch_and_threads(one.first)}" for one in report.comparisons]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    second = report.comparisons[0].second
    axes.set_xlabel(f"times as fast as the first: {second.model} (thick: quartiles, thin: median, 95 % sure)")
    axes.set_title("Compared, interleaved")


def _finish(axes: Any) -> None:
    axes.grid(visible=True, color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    axes.title.set_color(_INK)


def _without_batch(one: Configuration, subject: str) -> str:
    threads = "all cores" if one.threads is None else f"{one.threads} thread{'s' if one.threads > 1 else ''}"
    workers = f", {one.workers} workers" if one.workers > 1 else ""
    return ", ".join(part for part in (subject, one.precision, one.device, threads) if part) + workers


def _batch_and_threads(one: Configuration) -> str:
    threads = "all cores" if one.threads is None else f"{one.threads} threads"
    return f"{one.device}, {threads}" + ("" if one.batch is None else f", batch {one.batch}")


_PANELS: Sequence[tuple[Callable[[Report, Any], None], Callable[[Report], object]]] = (
    (_offline, lambda report: _of(report, "offline")),
    (_latency, lambda report: _of(report, "single-stream") or _of(report, "multi-stream")),
    (_server, lambda report: _of(report, "server")),
    (_comparison, lambda report: report.comparisons),
)
