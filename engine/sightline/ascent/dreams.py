"""Images that a layer was made to respond to more strongly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sightline.ascent.film import film
from sightline.ascent.pixels import rounded
from sightline.image import encode_png
from sightline.types import ByteArray, FloatArray, IntArray, Photo, Provenance


@dataclass(frozen=True)
class Dreams:
    """Dreams of B images.

    Attributes:
        values: (B, H, W, 3) float32 sRGB, 0 to 255, before rounding.
        photos: one per row.
        layer: that was made stronger.
        before, after: (B,) float32 of the objective, on the image and on its dream.
        frames: (B, F, H, W, 3) uint8 of a zoom into each dream.
        stopped: (B,) int64, 1 where an interrupt ended it early.
    """

    values: FloatArray
    photos: tuple[Photo, ...]
    layer: str
    before: FloatArray
    after: FloatArray
    frames: ByteArray
    stopped: IntArray
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def pictures(self) -> ByteArray:
        """(B, H, W, 3) uint8 sRGB."""
        return rounded(self.values)

    def columns(self) -> Mapping[str, Sequence[object]]:
        """How strongly the layer responded before and after."""
        return {
            "before": [float(value) for value in self.before],
            "after": [float(value) for value in self.after],
            "stopped": [bool(value) for value in self.stopped],
        }

    def files(self, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """One PNG per dream under ``dreams/``, and the zoom into each, where there is one, as MP4 and GIF."""
        for photo, picture, frames in zip(self.photos, self.pictures, self.frames, strict=True):
            name = f"dreams/{names[photo.id]}"
            yield f"{name}.png", encode_png(picture)
            for suffix in (".mp4", ".gif") if len(frames) else ():
                yield f"{name}{suffix}", film(frames, suffix)
