"""ActivationMaps: where a layer responds, over the photograph and channel by channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.colour import ColourScale, number
from sightline.report.panel import Panel, map_panel
from sightline.types import FloatArray, IntArray, Result


class ActivationMaps(Result, Protocol):
    """What is read of the result: the strongest channels (B, n, h, w), their indices and strengths, the mean."""

    @property
    def values(self) -> FloatArray: ...
    @property
    def layer(self) -> str: ...
    @property
    def channels(self) -> IntArray: ...
    @property
    def strength(self) -> FloatArray: ...
    @property
    def mean(self) -> FloatArray: ...


def panels(result: ActivationMaps, row: int | None) -> Iterator[Panel]:
    """Mean of all channels and strongest channel over the photograph, then a grid of the strongest channels."""
    if row is None:
        return
    photo, layer = result.photos[row], result.layer
    strongest, mean = result.values[row, 0], result.mean[row]  # (h, w) each
    reading = "red is above 0, blue below" if min(mean.min(), strongest.min()) < 0 else "the brighter, the stronger"
    signed = reading.startswith("red")
    for title, values, name in (
        (f"Mean of {layer}", mean, "mean"),
        (f"Strongest channel: {result.channels[row, 0]}", strongest, "strongest"),
    ):
        caption = f"Where layer {layer} responds: {reading}; in units of the layer."
        yield map_panel(photo, values, signed=signed, title=title, caption=caption, name=name)
    yield _channels(result, row)


def _channels(result: ActivationMaps, row: int) -> Panel:
    values = result.values[row]  # (n, h, w)
    title = f"Channels of {result.layer}"
    if not np.isfinite(values).all():
        return Panel(title, "Not drawn: some activations are not finite.", name="channels")
    scale = ColourScale.fit(values, signed=bool(values.min() < 0))
    strengths = [number(float(strength)) for strength in result.strength[row]]
    labels = [f"{channel}: {strength}" for channel, strength in zip(result.channels[row], strengths, strict=True)]
    caption = f"The {len(values)} strongest channels, strongest first, on one scale. Below: channel and strength."
    cells = tuple(zip(map(scale.colours, values), labels, strict=True))
    alt = f"{len(values)} small maps of layer {result.layer}; channel and strength: {', '.join(labels)}"
    return Panel(title, caption, alt, cells=cells, scale=scale, name="channels")
