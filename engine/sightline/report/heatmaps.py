"""Heatmaps: each map over its photograph."""

from __future__ import annotations

from collections.abc import Iterator

from sightline.colour import number
from sightline.report.panel import Panel, map_panel, method_name
from sightline.types import Heatmaps

SIGNED = "Red speaks for the target, blue against it; in units of its score."
BLANK = "Not drawn. The map is 0 everywhere:"
UNSIGNED = "The brighter, the more it matters, for or against; in units of the target's score."


def panels(result: Heatmaps, row: int | None) -> Iterator[Panel]:
    """One overlay per photograph; red is positive, blue negative, brightness the size where there is no sign."""
    if row is None:
        return
    if result.blank[row]:
        yield Panel(method_name(result, "Heatmap"), f"{BLANK} {result.why_blank}", target=result.classes[row])
        return
    reading = SIGNED if result.signed else UNSIGNED
    approximate = " Approximate: a tolerance was traded for speed." if result.approximate else ""
    yield map_panel(
        result.photos[row],
        result.values[row],
        signed=result.signed,
        title=method_name(result, "Heatmap"),
        caption=f"{reading}{approximate} The whole image scores {number(float(result.scores[row]))}.",
        target=result.classes[row],
    )
