"""The object as a mask, cut out where a map says that it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Differentiable, Forward
from sightline.errors import UsageError
from sightline.image import encode_png
from sightline.methods.gradient._cutting import Cut
from sightline.registry import Method, method, parse
from sightline.target import Target
from sightline.types import Batch, ByteArray, FloatArray, Heatmaps, IntArray, Photo, Provenance


@dataclass(frozen=True)
class Segmentations:
    """One object per image, told from its background.

    Attributes:
        values: (B, H, W) uint8, 1 on the object; 0 everywhere where the map was blank.
        photos: one per mask.
        pictures: (B, H, W, 3) uint8 sRGB, what was cut.
        boxes: (B, 4) top, left, bottom, right in pixels, the ends exclusive: outside it nothing was considered.
        scores: (B,) float32, the target's score on the untouched image.
        classes: the class index that the target meant for each image, or None where it names no single class.
    """

    values: ByteArray
    photos: tuple[Photo, ...]
    pictures: ByteArray
    boxes: IntArray
    scores: FloatArray
    classes: tuple[int | None, ...]
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def shares(self) -> NDArray[np.float64]:
        """(B,) of the image that the object covers."""
        return self.values.mean(axis=(1, 2))

    def columns(self) -> Mapping[str, Sequence[object]]:
        """The target's class and score, the object's share of the image and the box, per image."""
        return {
            "target_class": list(self.classes),
            "score": [float(score) for score in self.scores],
            "share": [float(share) for share in self.shares],
            "box": [[int(end) for end in box] for box in self.boxes],
        }

    def files(self, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """The object on transparent ground, a PNG with alpha of the model's input size."""
        for photo, mask, picture in zip(self.photos, self.values, self.pictures, strict=True):
            yield f"cut-outs/{names[photo.id]}.png", encode_png(np.dstack([picture, 255 * mask]))


@method(needs=Differentiable)  # of its default base; with another, what that one needs
@dataclass(frozen=True, kw_only=True)
class Grabcut:
    """GrabCut on any method's map: segmentation without a mask to learn from.

    Rother, Kolmogorov, Blake, "GrabCut" (2004), by OpenCV; seeded by a map as Simonyan, Vedaldi, Zisserman (2014)
    do. What the map has above its median is smoothed; the smallest box around the pixels that hold ``mass`` of it,
    and a margin, may be object, everything outside is background, and the ``foreground`` share of all pixels where
    the map is highest is object for sure. The colours of the two sides decide the rest.

    Returns ``Segmentations`` (B, H, W) uint8, 1 on the object.

    Raises:
        MissingPreprocess: the model does not say what its pixels are.
        UsageError: parameters out of range; a base that gives no maps.
    """

    base: str = "saliency"  # the method whose map it is, with its fields: occlusion(window=16)
    mass: float = 0.7  # share of the map that the box holds
    margin: float = 0.05  # around the box, as a share of the image's shorter side
    foreground: float = 0.005  # share of all pixels that are object for sure
    blur: float = 0.04  # standard deviation of the smoothing, as a share of the image's shorter side
    iterations: int = 5  # of GrabCut

    def run(self, oracle: Forward, images: Batch, target: Target) -> Segmentations:
        cut = Cut(self.mass, self.margin, self.foreground, self.blur, self.iterations)
        maps = self.wrapped().run(oracle, images, target)
        if not isinstance(maps, Heatmaps):
            raise UsageError(
                f"base={self.base!r} gives {type(maps).__name__}; GrabCut needs a map, as saliency gives."
            )
        pictures = oracle.preprocess.to_pixels(images.tensor)  # (B, H, W, 3)
        found = [cut(picture, one) for picture, one in zip(pictures, maps.values, strict=True)]
        size = pictures.shape[1:3]
        return Segmentations(
            np.array([mask for mask, _ in found], np.uint8).reshape(-1, *size),
            images.photos,
            pictures,
            np.array([box for _, box in found], np.int64).reshape(-1, 4),
            maps.scores,
            maps.classes,
        )

    def wrapped(self) -> Method:
        """The method whose map is cut, and whose needs are these."""
        return parse(self.base)

    def forward_passes(self, height: int, width: int) -> int:
        """Those of the base method."""
        count = getattr(self.wrapped(), "forward_passes", None)
        return 3 if count is None else cast(int, count(height, width))
