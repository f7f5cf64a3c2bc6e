"""Segmentations: the object's outline on the picture, and the object by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from sightline.report.panel import Panel, enlarge, method_name
from sightline.types import ByteArray, IntArray, Result

OUTLINE = (255, 64, 129)  # a pink that photographs seldom have
BOX = (255, 255, 255)
CAPTION = (
    "Left: the outline of what was cut out, and the box in which the map said to look. Right: the object by itself. "
    "The network was never shown a mask; the map gave the place, the colours the border."
)
BLANK = "Nothing was cut out: the map is 0 everywhere and says nothing of the place."


class Segmentations(Result, Protocol):
    """What is read of the result."""

    @property
    def values(self) -> ByteArray: ...
    @property
    def pictures(self) -> ByteArray: ...
    @property
    def boxes(self) -> IntArray: ...
    @property
    def classes(self) -> tuple[int | None, ...]: ...


def panels(result: Segmentations, row: int | None) -> Iterator[Panel]:
    """Outline and cut-out of one photograph."""
    if row is None:
        return
    title, target = method_name(result, "Segmentation"), result.classes[row]
    mask = result.values[row].astype(bool)
    if not mask.any():
        yield Panel(title, BLANK, target=target)
        return
    picture, mask = enlarge(result.pictures[row]), enlarge(result.values[row]).astype(bool)
    factor = len(picture) // len(result.pictures[row])
    top, left, bottom, right = (factor * int(end) for end in result.boxes[row])
    outlined = picture.copy()
    outlined[_frame(mask.shape, top, left, bottom, right)] = BOX
    outlined[binary_dilation(mask, iterations=2) & ~mask] = OUTLINE
    alone = np.where(mask[..., None], picture, _chequered(mask.shape)[..., None])
    share = f"{mask.mean():.0%} of the image"
    alt = f"What was cut out of {result.photos[row].id}: {share}"
    yield Panel(title, CAPTION, alt, cells=((outlined, "outline and box"), (alone, share)), target=target)


def _frame(shape: tuple[int, ...], top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    """(H, W), on the border of the box."""
    frame = np.zeros(shape, bool)
    frame[top:bottom, left:right] = True
    frame[top + 1 : bottom - 1, left + 1 : right - 1] = False
    return frame


def _chequered(shape: tuple[int, ...], side: int = 8) -> ByteArray:
    """(H, W) light squares, which stand for nothing."""
    rows, columns = np.indices(shape) // side
    return np.where((rows + columns) % 2, 235, 250).astype(np.uint8)
