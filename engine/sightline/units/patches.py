"""Patches of images as large as what a unit sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sightline.graph.receptive import ReceptiveField
from sightline.job.inputs import Input, Load
from sightline.types import ByteArray
from sightline.units.strongest import Peaks

MARGIN = 4  # a patch reaches beyond the image by at most this part of its side: deep units see far more than there is
OUTSIDE = 128  # grey of what lies beyond the image, where the layer sees padding


def crop(view: ByteArray, window: tuple[int, int, int, int]) -> ByteArray:
    """(height, width, 3) of a view (H, W, 3); what lies outside of it is grey."""
    top, left, height, width = window
    patch = np.full((height, width, 3), OUTSIDE, np.uint8)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, view.shape[0]), min(left + width, view.shape[1])
    if y1 > y0 and x1 > x0:
        patch[y0 - top : y1 - top, x0 - left : x1 - left] = view[y0:y1, x0:x1]
    return patch


def window_of(
    field: ReceptiveField | None, row: int, column: int, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Top, left, height, width of what a position sees; the whole image where that is so or nobody knows."""
    return (0, 0, *size) if field is None else field.window(row, column)


def within_reach(window: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The window without what lies far beyond the image, where a deep layer's field is larger than that."""
    spans = list[tuple[int, int]]()
    for start, length, side in zip(window[:2], window[2:], size, strict=True):
        first, last = max(start, -(side // MARGIN)), min(start + length, side + side // MARGIN)
        spans.append((first, last - first) if last > first else (start, length))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def shrunk(patch: ByteArray, side: int) -> ByteArray:
    """The patch with its longer side at most so many pixels; small ones grow by whole factors."""
    from PIL import Image

    height, width = patch.shape[:2]
    longer = max(height, width)
    if longer > side:
        scale = side / longer
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(Image.fromarray(patch).resize(shape, Image.Resampling.LANCZOS))
    factor = side // longer
    return patch.repeat(factor, axis=0).repeat(factor, axis=1)


def peak_patches(
    peaks: Peaks,
    channels: Sequence[int],
    field: ReceptiveField | None,
    inputs: Sequence[Input],
    load: Load,
    *,
    side: int,
    finish: Callable[[ByteArray], str],
) -> dict[tuple[int, int], str]:
    """The patch of every peak of some channels, by channel and rank; each image is read once.

    Args:
        peaks: whose images count the inputs.
        channels: wanted.
        field: of the layer.
        inputs: those that were seen, in order.
        load: reads one.
        side: pixels of the longer side.
        finish: makes what is kept of a patch.
    """
    wanted = dict[int, list[tuple[int, int]]]()
    for channel in channels:
        for rank, image in enumerate(peaks.images[channel]):
            if image >= 0 and np.isfinite(peaks.scores[channel, rank]):
                wanted.setdefault(int(image), []).append((channel, rank))
    found = dict[tuple[int, int], str]()
    for image in sorted(wanted):
        view = load(inputs[image]).photo.view
        assert view is not None
        size = (view.shape[0], view.shape[1])
        for channel, rank in wanted[image]:
            window = window_of(field, int(peaks.rows[channel, rank]), int(peaks.columns[channel, rank]), size)
            found[channel, rank] = finish(shrunk(crop(view, within_reach(window, size)), side))
    return found
