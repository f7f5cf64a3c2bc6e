"""A window sweep that runs the whole network for every window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sightline.abilities import SweepChunk
from sightline.routes.passes import Passes
from sightline.target import Target
from sightline.types import FloatArray, IntArray


def dense_sweep(
    score: Callable[[FloatArray, Target], FloatArray],
    images: FloatArray,
    windows: IntArray,
    fill: FloatArray,
    target: Target,
    batch: int,
    rows: Sequence[IntArray],
) -> Iterator[SweepChunk]:
    """Scores of every image with each of its windows hidden in turn.

    One buffer of ``batch`` copies is kept; before a run the windows are painted into it, after it they are
    restored from the image, so that memory does not depend on the number of windows and no mask is ever made.
    Images with few windows share a run.

    Args:
        score: (b, C, H, W) and a bound target to (b,) scores.
        images: (B, C, H, W).
        windows: (M, 4) top, left, height, width.
        fill: what a hidden pixel becomes, broadcast against (B, C, H, W).
        target: bound to the B images.
        batch: rows of the buffer.
        rows: of ``windows``, for each image.
    """
    fills, passes = np.broadcast_to(fill, images.shape), Passes(rows)
    buffer = np.empty((min(batch, len(passes)), *images.shape[1:]), dtype=np.float32)
    held = np.full(len(buffer), -1)  # image that each row of the buffer is a copy of

    def run(owners: IntArray, hidden: IntArray) -> FloatArray:
        for row, (owner, window) in enumerate(zip(owners, hidden, strict=True)):
            if held[row] != owner:
                buffer[row], held[row] = images[owner], owner
            _paint(buffer[row], fills[owner], windows[window])
        try:
            return score(buffer[: len(owners)], target.take(owners.tolist()))
        finally:
            for row, (owner, window) in enumerate(zip(owners, hidden, strict=True)):
                _paint(buffer[row], images[owner], windows[window])

    yield from passes.run(run, len(buffer))


def _paint(copy: FloatArray, source: FloatArray, window: IntArray) -> None:
    """Replace a window of an image (C, H, W) by that of another."""
    top, left, height, width = window
    place = np.s_[:, top : top + height, left : left + width]
    copy[place] = source[place]
