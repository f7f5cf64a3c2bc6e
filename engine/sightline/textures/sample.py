"""What textures are made from: a picture, which of its pixels may be copied, and where it has holes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sightline.errors import UsageError
from sightline.image import read_image, read_opacity
from sightline.types import ByteArray

BRIGHT = 128  # grey levels from which a mask counts as white


@dataclass(frozen=True)
class Sample:
    """A picture to copy pixels from.

    Attributes:
        name: as the user gave it.
        pixels: (h, w, 3) sRGB, or (h, w, 1) where it has no colour.
        usable: (h, w) pixels that may be copied.
    """

    name: str
    pixels: ByteArray
    usable: NDArray[np.bool_]

    @classmethod
    def read(cls, path: Path) -> Self:
        """A file's picture; what is not opaque is not usable.

        Raises:
            BadImage: the file is no image.
            UsageError: nothing of it is opaque.
        """
        pixels, opacity = np.asarray(read_image(path)), read_opacity(path)
        usable = np.ones(pixels.shape[:2], np.bool_) if opacity is None else opacity == 255
        if not usable.any():
            raise UsageError(f"{path} is transparent throughout: there is no pixel to copy. Give an opaque sample.")
        grey = bool((pixels == pixels[..., :1]).all())
        return cls(str(path), pixels[..., :1] if grey else pixels, usable)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def is_one_colour(self) -> bool:
        """Whether all usable pixels are the same."""
        seen = self.pixels[self.usable]
        return bool((seen == seen[0]).all())

    def in_colour(self) -> Self:
        """With three channels."""
        return replace(self, pixels=np.broadcast_to(self.pixels, (*self.size, 3)).copy())

    def without(self, hole: NDArray[np.bool_]) -> Self:
        """With what a hole covers out of use."""
        return replace(self, usable=self.usable & ~hole)

    def require(self, side: int, what: str, flag: str, smallest: int) -> None:
        """Refuse a window or block for which the sample is too small.

        Raises:
            UsageError: it does not fit, or nowhere without touching what may not be copied.
        """
        height, width = self.size
        given = f"{self.name} is {height} x {width} pixels"
        if side > min(self.size):
            odd = smallest % 2  # windows are
            fits = min(self.size) - (odd and 1 - min(self.size) % 2)
            mend = f"or {flag} up to {fits}" if fits >= smallest else "of at least that size"
            raise UsageError(f"{given}, and a {what} has {side} x {side}. Give a larger sample, {mend}.")
        sums = np.pad(self.usable, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
        inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        if not (inside == side * side).any():
            raise UsageError(
                f"{given}, but nowhere {side} x {side} of them without a transparent or masked one. Give a smaller "
                f"{flag}, or more of the sample."
            )


def read_hole(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) pixels that a mask marks: the white ones.

    Raises:
        BadImage: the file is no image.
        UsageError: it has another size than the picture, marks nothing or everything.
    """
    mask = np.asarray(read_image(path, channels="L")) >= BRIGHT
    if mask.shape != size:
        raise UsageError(
            f"The mask {path} is {mask.shape[0]} x {mask.shape[1]} pixels and the picture {size[0]} x {size[1]}. "
            "Give a mask of the picture's size."
        )
    if mask.all() or not mask.any():
        raise UsageError(
            f"The mask {path} marks {'every' if mask.all() else 'no'} pixel. Paint white what is to be made anew, "
            "and black what stays."
        )
    return mask
