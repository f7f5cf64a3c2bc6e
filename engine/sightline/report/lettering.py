"""Text within pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries; Pillow's own font has neither a minus sign nor accents."""
    from matplotlib import get_data_path  # as in sightline.colour

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def wrap(text: str, width: float, size: int) -> list[str]:
    """Lines of at most ``width`` pixels, broken at spaces; a longer word is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        while font(size).getlength(word) > width and len(word) > 1:
            fitting = max(
                1, next(n for n in range(len(word), 0, -1) if n == 1 or font(size).getlength(word[:n]) <= width)
            )
            lines.extend([line] if line else [])
            lines.append(word[:fitting])
            line, word = "", word[fitting:]
        candidate = f"{line} {word}".strip()
        if font(size).getlength(candidate) > width and line:
            lines.append(line)
            candidate = word
        line = candidate
    return [*lines, line] if line else lines
