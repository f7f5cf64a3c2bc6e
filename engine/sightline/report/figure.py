"""A panel as one picture that can be read alone: title, picture, colour bar with its numbers, caption."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from sightline.colour import ColourScale
from sightline.report.grid import tile
from sightline.report.lettering import font, wrap
from sightline.report.panel import Panel, enlarge
from sightline.types import ByteArray

MARGIN = 16  # pixels around everything
BAR = 14  # pixels, the bar's width
CELL = 56  # pixels, the least that a cell of a grid is drawn with
LEAST_WIDTH = 320  # pixels, so that a caption has room
_TITLE, _TEXT = 15, 12  # pixels
_INK, _QUIET = (26, 29, 33), (92, 102, 112)


def draw_figure(panel: Panel, title: str) -> ByteArray:
    """(H, W, 3) uint8 on white; the picture's corner lies at row ``picture_top(...)``, column `MARGIN`.

    Args:
        panel: one with pixels or cells.
        title: stands above the picture.
    """
    picture = picture_of(panel)
    height, width = picture.shape[:2]
    side = _bar_width(panel.scale) if panel.scale else 0
    inner = max(width + side, LEAST_WIDTH)
    heading, caption = wrap(title, inner, _TITLE), wrap(_full_caption(panel), inner, _TEXT)
    top = picture_top(len(heading))
    below = top + height + (10 if caption else 0)
    full = (inner + 2 * MARGIN, below + len(caption) * (_TEXT + 5) + MARGIN)
    canvas = Image.new("RGB", full, (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    for index, line in enumerate(heading):
        draw.text((MARGIN, MARGIN - 3 + index * (_TITLE + 5)), line, font=font(_TITLE), fill=_INK)
    canvas.paste(Image.fromarray(picture), (MARGIN, top))
    if panel.scale:
        _draw_bar(canvas, panel.scale, MARGIN + width + 12, top, height)
    for index, line in enumerate(caption):
        draw.text((MARGIN, below + index * (_TEXT + 5)), line, font=font(_TEXT), fill=_QUIET)
    return np.asarray(canvas)


def picture_of(panel: Panel) -> ByteArray:
    """(h, w, 3) uint8: the panel's picture, or its cells as one grid, enlarged to be seen."""
    if panel.pixels is not None:
        return panel.pixels
    cells = [enlarge(cell, CELL) for cell, _ in panel.cells]
    return tile(cells, [label for _, label in panel.cells])


def picture_top(lines: int) -> int:
    """The row where the picture begins below a title of so many lines."""
    return MARGIN + lines * (_TITLE + 5) + 5


def _full_caption(panel: Panel) -> str:
    return f"{panel.caption} Values: {panel.scale.range()}." if panel.scale else panel.caption


def _bar_width(scale: ColourScale) -> int:
    return 12 + BAR + 6 + math.ceil(max(font(_TEXT).getlength(text) for _, text in scale.ticks()))


def _draw_bar(canvas: Image.Image, scale: ColourScale, left: int, top: int, height: int) -> None:
    """The scale upright, its high end at the top, a number at every tick."""
    draw = ImageDraw.Draw(canvas)
    upright = Image.fromarray(np.ascontiguousarray(scale.bar()[0, ::-1, None]))  # (255, 1, 3)
    canvas.paste(upright.resize((BAR, height), Image.Resampling.NEAREST), (left, top))
    for place, text in scale.ticks():
        anchor = {0.0: "ld", 1.0: "la"}.get(place, "lm")  # inside the bar's ends
        draw.text(
            (left + BAR + 6, top + round((1 - place) * (height - 1))),
            text,
            font=font(_TEXT),
            fill=_INK,
            anchor=anchor,
        )
