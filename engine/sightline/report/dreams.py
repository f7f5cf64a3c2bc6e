"""Dreams: what a layer made of each image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.colour import number
from sightline.report.panel import Panel, enlarge, method_name
from sightline.types import FloatArray, Result


class Dreams(Result, Protocol):
    """What is read of the result: pictures (B, H, W, 3) of 0 to 255, the layer, and (B,) scores before and after."""

    @property
    def values(self) -> FloatArray: ...
    @property
    def layer(self) -> str: ...
    @property
    def before(self) -> FloatArray: ...
    @property
    def after(self) -> FloatArray: ...


def panels(result: Dreams, row: int | None) -> Iterator[Panel]:
    """The dream as it is."""
    if row is None:
        return
    before, after = (number(float(scores[row])) for scores in (result.before, result.after))
    title = f"{method_name(result, 'DeepDream')} of {result.layer}"
    caption = f"The image, changed so that layer {result.layer} responds more strongly: {before} became {after}."
    pixels = enlarge(np.rint(result.values[row]).astype(np.uint8))
    yield Panel(title, caption, f"{result.photos[row].id} as dreamt by {result.layer}", pixels)
