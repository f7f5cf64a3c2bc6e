"""The page of a style: textures and paintings by every way there is, what each costs and how near it comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sightline.colour import number
from sightline.report.template import save_page
from sightline.report.thumbnails import inline
from sightline.types import ByteArray


class Made(Protocol):
    """What is read of a result."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def pixels(self) -> ByteArray: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def style_loss(self) -> float | None: ...
    @property
    def content_loss(self) -> float | None: ...


@dataclass(frozen=True)
class Cell:
    """A picture on the page."""

    made: Made

    @property
    def source(self) -> str:
        """A data URI."""
        return inline(self.made.pixels, quality=90)

    @property
    def took(self) -> str:
        """Its time, in words."""
        seconds = self.made.seconds
        if seconds is None:
            return ""
        return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"

    @property
    def losses(self) -> str:
        """Both, as far as they mean something."""
        pairs = (("style loss", self.made.style_loss), ("content loss", self.made.content_loss))
        return ", ".join(f"{name} {number(value)}" for name, value in pairs if value is not None)


def verdict(made: Sequence[Made]) -> str:
    """How slow "very slow" is, in a sentence; nothing without a fast way."""
    seconds = {one.name: one.seconds for one in made}
    slow, fast = seconds.get("slow"), seconds.get("fast")
    if slow is None or fast is None:
        return "No network was trained for this style: sightline style train makes one, and this page compares it."
    return f"One pass is {slow / fast:,.0f} times as fast as the descent."


def write_page(path: Path, *, style: str, content: str, model: str, where: str, made: Sequence[Made]) -> Path:
    """One file without network access."""
    cells = [Cell(one) for one in made]
    textures = [cell for cell in cells if cell.made.name in ("sample", "scanline", "quilting", "gram")]
    paintings = [cell for cell in cells if cell not in textures]
    rows = [("Textures from a sample", textures), ("The photograph in this style", paintings)]
    return save_page(
        path, "style.html", style=style, content=content, model=model, where=where, rows=rows,
        verdict=verdict(made),
    )  # fmt: skip
