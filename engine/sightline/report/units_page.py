"""Pages of what units look for: one per layer, and one of all layers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as field_of
from pathlib import Path

import numpy as np

from sightline.colour import number
from sightline.graph.receptive import ReceptiveField
from sightline.job.inputs import Input, Load
from sightline.report.template import save_page
from sightline.report.thumbnails import inline
from sightline.types import ByteArray, FloatArray, IntArray
from sightline.units.patches import peak_patches, shrunk
from sightline.units.strongest import Strongest

SIDE = 96  # pixels of a patch on a layer's page
SMALL = 64  # on the page of all layers
BINS = 24  # of a histogram
FEW = 16  # units of each layer on the page of all layers
FIRST = 4  # their patches


@dataclass(frozen=True)
class LayerUnits:
    """What was found of one layer.

    Attributes:
        name: as people call it.
        field: what a position sees; None for the whole image.
        strongest: the peaks.
        dead: channels that no image moves.
        duplicates: pairs of channels that respond alike, and how much alike.
        pictures: (h, w, 3) of some channels, made by ascent.
    """

    name: str
    field: ReceptiveField | None
    strongest: Strongest
    dead: IntArray
    duplicates: tuple[tuple[int, int, float], ...]
    pictures: Mapping[int, ByteArray] = field_of(default_factory=dict[int, ByteArray])

    @property
    def units(self) -> int:
        """C."""
        return len(self.strongest.peaks.scores)

    @property
    def sees(self) -> str:
        """In words."""
        return "the whole image" if self.field is None else f"{self.field.size[0]} × {self.field.size[1]} pixels"

    @property
    def ranked(self) -> IntArray:
        """Channels, the one first whose strongest response stands out most from its usual one; dead ones last."""
        peaks, maxima = self.strongest.peaks.scores[:, 0], self.strongest.maxima
        usual, spread = np.median(maxima, axis=0), maxima.std(axis=0)
        stands_out = np.where(spread > 0, (peaks - usual) / np.maximum(spread, np.finfo(np.float32).tiny), -np.inf)
        return np.argsort(-stands_out, kind="stable")


def write_layer(path: Path, layer: LayerUnits, inputs: Sequence[Input], load: Load, shown: int) -> Path:
    """Write the page of one layer."""
    channels = [int(channel) for channel in layer.ranked[:shown]]
    patches = peak_patches(layer.strongest.peaks, channels, layer.field, inputs, load, side=SIDE, finish=inline)
    scores = layer.strongest.peaks.scores
    rows = [
        (
            channel,
            inline(shrunk(layer.pictures[channel], SIDE)) if channel in layer.pictures else "",
            [
                (patches[channel, rank], number(scores[channel, rank]), inputs[image].id)
                for rank, image in enumerate(layer.strongest.peaks.images[channel])
                if (channel, rank) in patches
            ],
            histogram(layer.strongest.maxima[:, channel]),
            _remarks(layer, channel),
        )
        for channel in channels
    ]
    return save_page(path, "units.html", layer=layer, rows=rows, images=layer.strongest.seen, bins=BINS)


def write_hierarchy(
    path: Path, layers: Sequence[LayerUnits], pages: Sequence[str], inputs: Sequence[Input], load: Load
) -> Path:
    """Write the page of all layers, early to late."""
    columns = list[tuple[LayerUnits, str, list[tuple[int, list[str]]]]]()
    for layer, page in zip(layers, pages, strict=True):
        channels = [int(channel) for channel in layer.ranked[:FEW]]
        found = peak_patches(layer.strongest.peaks, channels, layer.field, inputs, load, side=SMALL, finish=inline)
        rows = [
            (channel, [found[channel, rank] for rank in range(FIRST) if (channel, rank) in found])
            for channel in channels
        ]
        columns.append((layer, page, rows))
    return save_page(path, "hierarchy.html", columns=columns, images=layers[0].strongest.seen)


def histogram(values: FloatArray) -> tuple[list[float], float, float]:
    """Heights of 0 to 1 of equal bins between the smallest and the largest value, and these."""
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, bins=BINS, range=(low, high if high > low else low + 1))
    return [float(count) for count in np.sqrt(counts / max(1, counts.max()))], low, high


def _remarks(layer: LayerUnits, channel: int) -> str:
    dead = ["dead: no image moves it"] if channel in layer.dead else []
    alike = [
        f"like unit {other if one == channel else one} ({share:.2f})"
        for one, other, share in layer.duplicates
        if channel in (one, other)
    ]
    return ", ".join([*dead, *alike[:3]])
