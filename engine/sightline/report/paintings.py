"""Paintings: images in another picture's style, and textures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.colour import number
from sightline.report.panel import Panel, enlarge, method_name
from sightline.types import FloatArray, Result


class Paintings(Result, Protocol):
    """What is read of the result: pictures (B, H, W, 3) of 0 to 255, and (B,) losses before and after."""

    @property
    def values(self) -> FloatArray: ...
    @property
    def style_before(self) -> FloatArray: ...
    @property
    def style_after(self) -> FloatArray: ...
    @property
    def content_after(self) -> FloatArray: ...


def panels(result: Paintings, row: int | None) -> Iterator[Panel]:
    """The painting as it is."""
    if row is None:
        return
    before, after, content = (
        number(float(losses[row])) for losses in (result.style_before, result.style_after, result.content_after)
    )
    caption = f"The style loss, the share of the style's Gram matrices that is missed, fell from {before} to {after}."
    if result.content_after[row] > 0:
        caption += f" The content loss, the share of the image's features that changed, is {content}."
    pixels = enlarge(np.rint(result.values[row]).astype(np.uint8))
    yield Panel(method_name(result, "Painting"), caption, f"{result.photos[row].id}, painted", pixels)
