"""Images that a layer was made to respond to more strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.film import write_film
from sightline.image import encode_png
from sightline.methods.gradient._pixels import rounded
from sightline.report.overlays import safe_name
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

    def write(self, folder: Path) -> list[Path]:
        """One PNG per dream under ``dreams/``, and the zoom into each, where there is one, as MP4 and GIF."""
        written = list[Path]()
        for photo, picture, frames in zip(self.photos, self.pictures, self.frames, strict=True):
            path = folder / "dreams" / f"{safe_name(photo.id)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(picture))
            written.append(path)
            for suffix in (".mp4", ".gif") if len(frames) else ():
                written.append(path.with_suffix(suffix))
                write_film(frames, written[-1])
        return written
