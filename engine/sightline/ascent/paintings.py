"""Pictures painted in a style, and textures: what is left of a style without a content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sightline.ascent.film import film
from sightline.ascent.pixels import rounded
from sightline.image import encode_png
from sightline.types import ByteArray, FloatArray, IntArray, Photo, Provenance


@dataclass(frozen=True)
class Paintings:
    """What was painted for B images.

    Attributes:
        values: (B, H, W, 3) float32 sRGB, 0 to 255, before rounding.
        photos: one per row.
        style_before, style_after: (B,) float32 style loss of the start and, rounded to 8 bits, of the end.
        content_after: (B,) float32 content loss of the end; 0 for textures, which have none.
        style_history, content_history: (B, n) float32 losses at each step; after an early end the last is repeated.
        frames: (B, F, H, W, 3) uint8 of the making.
        stopped: (B,) int64, 1 where an interrupt ended it early.
        diverged: (B,) int64, 1 where the loss ran away; the picture is the best before.
    """

    values: FloatArray
    photos: tuple[Photo, ...]
    style_before: FloatArray
    style_after: FloatArray
    content_after: FloatArray
    style_history: FloatArray
    content_history: FloatArray
    frames: ByteArray
    stopped: IntArray
    diverged: IntArray
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def pictures(self) -> ByteArray:
        """(B, H, W, 3) uint8 sRGB."""
        return rounded(self.values)

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Losses of the start and of the end."""
        return {
            "style_before": [float(value) for value in self.style_before],
            "style_after": [float(value) for value in self.style_after],
            "content_after": [float(value) for value in self.content_after],
            "stopped": [bool(value) for value in self.stopped],
            "diverged": [bool(value) for value in self.diverged],
        }

    def remarks(self) -> Iterator[str]:
        """Which descents ran away."""
        for photo, diverged in zip(self.photos, self.diverged, strict=True):
            if diverged:
                yield (
                    f"{photo.id}: its loss diverged and the descent was stopped; the picture is the best before. "
                    "Lower the rate, or take lbfgs, which needs none."
                )

    def files(self, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """One PNG per picture under ``paintings/``, and a GIF of its making where frames were asked for."""
        for photo, picture, frames in zip(self.photos, self.pictures, self.frames, strict=True):
            name = f"paintings/{names[photo.id]}"
            yield f"{name}.png", encode_png(picture)
            if len(frames):
                yield f"{name}.gif", film(frames, ".gif")
