"""Many small pictures of one size in rows, each with a line of text below."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sightline.report.lettering import font
from sightline.types import ByteArray

GAP = 8  # pixels between neighbours
LETTERS = 11  # pixels
LINE = 16  # pixels that the text below a cell takes
_INK = (92, 102, 112)


def tile(cells: Sequence[ByteArray], labels: Sequence[str] = (), *, columns: int | None = None) -> ByteArray:
    """(H, W, 3) uint8 of N cells (h, w, 3), left to right and top to bottom, white between them.

    A cell begins at column ``j * (pitch + GAP)`` and row ``i * (h + LINE + GAP)``, without LINE where there are no
    labels; the pitch is the cell's width, or the widest label's if that is more. ``columns`` is chosen, if not given,
    so that the last row is as full as can be.
    """
    height, width = cells[0].shape[:2]
    across = min(columns or columns_for(len(cells)), len(cells))
    down = math.ceil(len(cells) / across)
    pitch = max([width, *(math.ceil(font(LETTERS).getlength(label)) for label in labels)])
    line = LINE if labels else 0
    canvas = np.full((down * (height + line + GAP) - GAP, across * (pitch + GAP) - GAP, 3), 255, dtype=np.uint8)
    for index, cell in enumerate(cells):
        top, left = _corner(index, across, height + line, pitch)
        canvas[top : top + height, left : left + width] = cell
    if not labels:
        return canvas
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for index, label in enumerate(labels):
        top, left = _corner(index, across, height + line, pitch)
        draw.text((left, top + height + 2), label, font=font(LETTERS), fill=_INK)
    return np.asarray(image)


def columns_for(count: int) -> int:
    """At least a square's, at most 8 or a quarter more than a square's."""
    least = math.ceil(math.sqrt(count))
    return min(range(least, max(8, least * 5 // 4) + 1), key=lambda columns: (-count % columns, -columns))


def _corner(index: int, across: int, height: int, width: int) -> tuple[int, int]:
    return index // across * (height + GAP), index % across * (width + GAP)
