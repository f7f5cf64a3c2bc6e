"""How every figure went over time, as one page; fails where the last run fell behind.

python benchmarks/track.py -o track.html            write the page, print regressions; 1 if there are any
python benchmarks/track.py --since 2026-11-25       forget what was before: a change that was meant
python benchmarks/track.py --only occlusion         benchmarks whose name holds this
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from compare import tables
from history import HIGHER, LOWER, MEANING, SHARE, Series, Verdict, is_disturbed, series_of, worst_first
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from recording import Row

HERE = Path(__file__).parent
WIDTH, HEIGHT, EDGE = 300, 74, 9  # pixels of a trend
SHOWN = 30  # the latest measurements of a trend


def main() -> int:
    """Run the command line; 1 if something fell behind, 2 if it was called wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, help="write the page here")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the tables")
    parser.add_argument("--share", type=float, default=100 * SHARE, help="percent that a change must exceed (5)")
    parser.add_argument("--since", type=date.fromisoformat, help="forget what was measured before this day")
    parser.add_argument("--only", default="", help="benchmarks whose name holds this")
    given = parser.parse_args()
    if not 0 < given.share < 100:
        parser.error(f"--share {given.share} must lie between 0 and 100.")
    rows = [row for row in tables(given.results) if given.only in row.benchmark]
    since = "" if given.since is None else given.since.isoformat()
    series = series_of(rows, share=given.share / 100, since=since)
    if not series:
        print(f"Nothing was measured in {given.results}: make bench.", file=sys.stderr)
        return 2
    if given.out is not None:
        given.out.write_text(page(series), encoding="utf-8")
        print(f"{given.out}: {len(series)} series")
    fallen = worst_first(series)
    for one in fallen:
        print(f"{one.last.device}, {one.last.benchmark}, {one.title}: {told(one)}")
    counts = {verdict: sum(one.verdict == verdict for one in series) for verdict in MEANING}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    return 1 if fallen else 0


def told(one: Series) -> str:
    """The change in words."""
    if one.reference is None or one.change is None:
        return MEANING[one.verdict]
    commits = f"{one.before[-1].commit or '?'} -> {one.last.commit or '?'}"
    return (
        f"{number(one.reference)} -> {number(one.last.value)} {one.last.unit} ({one.change:+.1%}, beyond "
        f"{one.threshold:.1%}), {commits}"
    )


def number(value: float) -> str:
    """Three digits, no exponents where they can be avoided."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Trend:
    """A small chart: values with their quartiles by run, the peer beside them, and the band of noise.

    Attributes:
        points: x, y of the value, y of both quartiles, and what to say on hovering.
        peer: x, y of the peer where it was measured.
        band: y of both ends of what counts as no change, None for a single run.
    """

    points: Sequence[tuple[float, float, float, float, str, bool]]
    peer: Sequence[tuple[float, float]]
    band: tuple[float, float] | None

    @classmethod
    def of(cls, one: Series) -> Trend:
        """Scaled to the chart, from 0 where values keep one sign, so that a step looks as large as it is."""
        rows, peers = one.rows[-SHOWN:], one.peers[-SHOWN:]
        values = [value for row in (*rows, *peers) if row is not None for value in (row.low, row.high, row.value)]
        low, high = min(0.0, *values), max(0.0, *values)
        extent = (high - low) or 1.0

        def y(value: float) -> float:
            return round(HEIGHT - EDGE - (value - low) / extent * (HEIGHT - 2 * EDGE), 1)

        def x(place: int) -> float:
            return round(EDGE + (WIDTH - 2 * EDGE) * (place / (len(rows) - 1) if len(rows) > 1 else 0.5), 1)

        points = [
            (x(place), y(row.value), y(row.low), y(row.high), _said(row), is_disturbed(row))
            for place, row in enumerate(rows)
        ]
        peer = [(x(place), y(row.value)) for place, row in enumerate(peers) if row is not None]
        band = None
        if one.reference is not None and one.last.metric in (*HIGHER, *LOWER):
            band = (y(one.reference * (1 + one.threshold)), y(one.reference * (1 - one.threshold)))
        return cls(points, peer, band)


def _said(row: Row) -> str:
    others = "" if row.others is None else f"; others used {row.others:.0%}"
    ratio = "" if row.ratio is None else f"; {row.ratio:.2f} times {row.ratio_to}"
    spread = f"{number(row.value)} {row.unit} ({number(row.low)} to {number(row.high)})"
    return f"{row.date[:10]} {row.commit}: {spread}{ratio}{others}"


def page(series: Sequence[Series]) -> str:
    """One file that stands alone: what fell behind first, then every trend by device and benchmark."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "told": told, "trend": Trend.of}
    groups = dict[str, dict[str, list[Series]]]()
    for one in series:
        groups.setdefault(one.last.device, {}).setdefault(one.last.benchmark, []).append(one)
    counts: dict[Verdict, int] = {verdict: sum(one.verdict == verdict for one in series) for verdict in MEANING}
    return environment.get_template("track.html").render(
        groups=groups, fallen=worst_first(series), counts=counts, meaning=MEANING, width=WIDTH, height=HEIGHT,
        newest=max(one.last.date for one in series),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
