"""Descriptors: the numbers that stand for an image, as strips of colour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.bank.space import PIXELS, Space
from sightline.colour import number
from sightline.report.panel import Panel
from sightline.types import ByteArray, FloatArray, Result

WIDTH = 256  # pixels of a strip
LINE = 8  # pixels of its height for every line of numbers
LONGEST = 4096  # numbers that a strip shows


class Descriptors(Result, Protocol):
    """What is read of the result."""

    @property
    def values(self) -> FloatArray: ...
    @property
    def spaces(self) -> tuple[Space, ...]: ...


def panels(result: Descriptors, row: int | None) -> Iterator[Panel]:
    """One strip per space; thumbnails as they are."""
    if row is None:
        return
    for space in result.spaces:
        values = result.values[row, space.start : space.stop]
        title = f"Features {space.name}"
        name = "" if len(result.spaces) == 1 else space.name
        if not np.isfinite(values).all():
            yield Panel(title, "Not drawn: some numbers are not finite.", name=name)
        elif space.pool == PIXELS:
            side = int((space.features // 3) ** 0.5)
            picture = np.rint(255 * values.reshape(side, side, 3)).astype(np.uint8)
            yield Panel(title, f"The thumbnail, {side} × {side}.", "The image, small", picture, name=name)
        else:
            caption = (
                f"{space}: {number(float(values.min()))} to {number(float(values.max()))}, dark to bright, "
                f"line by line{'' if len(values) <= LONGEST else f'; the first {LONGEST:,}'}."
            )
            yield Panel(title, caption, f"{len(values)} numbers as a strip of grey", strip(values), name=name)


def strip(values: FloatArray) -> ByteArray:
    """(h, w, 3): numbers (n,) line by line, dark to bright."""
    shown = values[:LONGEST].astype(np.float64)
    across = min(64, len(shown))
    padded = np.full(-(-len(shown) // across) * across, shown.min())
    padded[: len(shown)] = shown
    reach = float(np.ptp(shown)) or 1.0
    grey = np.rint(255 * (padded - shown.min()) / reach).astype(np.uint8).reshape(-1, across)
    wide = grey.repeat(LINE, axis=0).repeat(WIDTH // across, axis=1)
    return np.repeat(wide[..., None], 3, axis=2)
